# A matrix read along its columns becomes one read along its rows.

cdef inline void transpose_block(real* y, Py_ssize_t y_row, const real* x, Py_ssize_t x_row) noexcept nogil:
    """VL rows of VL: zipping rows i and i + VL/2 rotates the bits of (row, lane) by one; log2 VL times
    exchanges row and lane."""
    cdef vec r[16]
    cdef vec s[16]
    cdef int i, stage = VL
    for i in range(VL):
        r[i] = vload(x + i * x_row)
    while stage > 1:
        for i in range(VL // 2):
            s[2 * i] = vzip_low(r[i], r[i + VL // 2])
            s[2 * i + 1] = vzip_high(r[i], r[i + VL // 2])
        for i in range(VL):
            r[i] = s[i]
        stage //= 2
    for i in range(VL):
        vstore(y + i * y_row, r[i])


cdef void transpose(real* y, Py_ssize_t y_row, const real* x, Py_ssize_t x_row,
                    Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    """y[j, i] = x[i, j] for i < rows, j < columns; nothing else of y is written."""
    cdef Py_ssize_t i, j, whole_rows = rows - rows % VL, whole_columns = columns - columns % VL
    for j from 0 <= j < whole_columns by VL:
        for i from 0 <= i < whole_rows by VL:
            transpose_block(y + j * y_row + i, y_row, x + i * x_row + j, x_row)
    for i in range(rows):
        for j in range(whole_columns if i < whole_rows else 0, columns):
            y[j * y_row + i] = x[i * x_row + j]
