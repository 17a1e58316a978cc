# A matrix read along its columns becomes one read along its rows.

cdef inline void load_transposed(vec* r, const real* x, Py_ssize_t x_row, Py_ssize_t rows, Py_ssize_t columns,
                                 bint whole) noexcept nogil:
    """r[j][i] = x[i, j] for at most VL rows of VL, all of them where `whole`, a constant at every call; else 0. Zipping
    rows i and i + VL/2 rotates the bits of (row, lane) by one; log2 VL times exchanges row and lane."""
    cdef vec s[16]
    cdef int i, stage = VL
    for i in range(VL):
        if whole:
            r[i] = vload(x + i * x_row)
        else:
            r[i] = vload_part(x + i * x_row, columns, 0) if i < rows else vset1(0)
    while stage > 1:
        for i in range(VL // 2):
            s[2 * i] = vzip_low(r[i], r[i + VL // 2])
            s[2 * i + 1] = vzip_high(r[i], r[i + VL // 2])
        for i in range(VL):
            r[i] = s[i]
        stage //= 2


cdef inline void transpose_block(real* y, Py_ssize_t y_row, const real* x, Py_ssize_t x_row,
                                 Py_ssize_t rows, Py_ssize_t columns, bint whole) noexcept nogil:
    """At most VL rows of VL, all of them where `whole`."""
    cdef vec r[16]
    cdef int i
    load_transposed(r, x, x_row, rows, columns, whole)
    for i in range(VL):
        if whole:
            vstore(y + i * y_row, r[i])
        elif i < columns:
            vstore_part(y + i * y_row, r[i], rows)


cdef void transpose(real* y, Py_ssize_t y_row, const real* x, Py_ssize_t x_row,
                    Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """y[j, i] = x[i, j] for i < rows, j < columns; nothing else of y is written."""
    cdef Py_ssize_t i, j
    if columns == 1:
        for i in range(rows):
            y[i] = x[i * x_row]
        return
    for j from 0 <= j < columns by VL:
        for i from 0 <= i < rows by VL:
            if rows - i >= VL and columns - j >= VL:
                transpose_block(y + j * y_row + i, y_row, x + i * x_row + j, x_row, VL, VL, True)
            else:
                transpose_block(y + j * y_row + i, y_row, x + i * x_row + j, x_row,
                                min(rows - i, <Py_ssize_t>VL), min(columns - j, <Py_ssize_t>VL), False)
