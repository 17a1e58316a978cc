# Samples in compressed sparse rows (CSR), and a first layer on them: nothing is made dense.
#
#   add_nonzeros        y += x w       of a row x: one chain of FMAs over its nonzeros, in the order of the columns
#   sparse_gradient     G = X^T D      a row of G is one chain over the samples of the batch in which its input occurs
#
# These are the chains of gemm.pxi without the terms whose x is zero. A term 0 w rounds nothing, so that finite weights
# give the same numbers as on the same samples, dense.
#
# The weights are unpacked here, rows as they lie in the caller's buffer: those of an input are one piece of memory.

cdef extern from "Python.h":
    bint PyObject_CheckBuffer(object x)

cdef enum:
    STRIP = 8                   # vectors of a row of y that are kept in registers
    PIECE = 256                 # nonzeros that inference copies at a time
    ROWS_AHEAD = 4              # whose weights are fetched before they are read
    GRADIENT_NBYTES = 16384     # rows of the gradient that are summed before they are used

cdef struct SparseTable:        # of the caller; nothing in it is trusted
    Table values                # (nonzeros, 1)
    const void* indices         # the column of each
    bint wide_indices           # int64, else int32
    const void* indptr          # those of row i begin at indptr[i] and end before indptr[i + 1]; NULL where X is dense
    bint wide_indptr
    Py_ssize_t rows
    Py_ssize_t columns

cdef struct SparseBatch:        # the workspace's: the nonzeros of a batch, row by row
    Py_ssize_t capacity         # nonzeros for which there is room
    Py_ssize_t* begin           # (rows,) where those of a row begin
    Py_ssize_t* end
    Py_ssize_t* columns         # (capacity,) each in range
    real* values
    Py_ssize_t* samples         # the row of each
    Py_ssize_t* next            # 1 + the next one in its column, or 0
    Py_ssize_t* first           # (inputs,) 1 + the first one in a column, or 0: that, between steps


cdef inline Py_ssize_t index_at(const void* indices, bint wide, Py_ssize_t i) noexcept nogil:
    return <Py_ssize_t>(<const int64_t*>indices)[i] if wide else (<const int32_t*>indices)[i]


cdef bint is_of_32_or_64_bits(const Py_buffer* view):
    """A contiguous vector of int32 or int64."""
    return (view.ndim == 1 and view.format != NULL and view.format[0] in b"ilq" and view.format[1] == 0
            and (view.itemsize == 4 or view.itemsize == 8)
            and (view.shape[0] <= 1 or view.strides[0] == view.itemsize))


cdef bint open_samples(x, Table* table, SparseTable* sparse, Py_buffer* views, int* held) except -1:
    """The samples behind an array, or behind fastmlp._core.sources.SparseRows; False for a dtype that is not read. The
    buffers, `held` of them, are the caller's to release, also where this raises. The table of sparse rows has no data,
    but a size."""
    sparse.indptr = NULL
    if PyObject_CheckBuffer(x):
        PyObject_GetBuffer(x, &views[0], PyBUF_STRIDES | PyBUF_FORMAT)
        held[0] = 1
        return describe(table, &views[0])
    for array in (x.data, x.indices, x.indptr):
        PyObject_GetBuffer(array, &views[held[0]], PyBUF_STRIDES | PyBUF_FORMAT)
        held[0] += 1
    sparse.columns = x.shape[1]
    sparse.rows = views[2].shape[0] - 1
    if not (views[0].ndim == 1 and describe(&sparse.values, &views[0]) and is_of_32_or_64_bits(&views[1])
            and is_of_32_or_64_bits(&views[2]) and sparse.rows >= 0):
        return False
    sparse.values.rows = min(sparse.values.rows, views[1].shape[0])
    sparse.indices = views[1].buf
    sparse.wide_indices = views[1].itemsize == 8
    sparse.indptr = views[2].buf
    sparse.wide_indptr = views[2].itemsize == 8
    memset(table, 0, sizeof(Table))
    table.rows = sparse.rows
    table.columns = sparse.columns
    return True


cdef inline bint range_of_row(const SparseTable* x, Py_ssize_t i, Py_ssize_t* begin, Py_ssize_t* end) noexcept nogil:
    """Where the nonzeros of row i are; False, and none, where that is not within the arrays."""
    begin[0] = index_at(x.indptr, x.wide_indptr, i)
    end[0] = index_at(x.indptr, x.wide_indptr, i + 1)
    if 0 <= begin[0] <= end[0] <= x.values.rows:
        return True
    begin[0] = end[0] = 0
    return False


cdef bint copy_nonzeros(Py_ssize_t* columns, real* values, const SparseTable* x, Py_ssize_t begin, Py_ssize_t n) noexcept nogil:
    """n nonzeros from `begin` on. False where a column does not exist; 0 takes its place."""
    cdef Table part = x.values
    cdef Py_ssize_t i, column
    cdef bint right = True
    part.data += begin * part.row
    part.column = part.row
    part.columns = n
    convert_row(values, n, 0, &part, 0, 0)
    for i in range(n):
        column = index_at(x.indices, x.wide_indices, begin + i)
        if not 0 <= column < x.columns:
            right = False
            column = 0
        columns[i] = column
    return right


# Forward -------------------------------------------------------------------------------------------

cdef inline void add_strip(int nv, real* y, Py_ssize_t y_panel, const real* w, Py_ssize_t w_row,
                           const Py_ssize_t* columns, const real* values, Py_ssize_t n) noexcept nogil:
    """y[:nv VL] += sum_i values[i] w[columns[i]]; nv is a constant at every call."""
    cdef vec acc[STRIP]
    cdef vec x
    cdef const real* row
    cdef Py_ssize_t i, at
    cdef int j
    for j in range(nv):
        acc[j] = vload(y + j // NV * y_panel + j % NV * VL)
    for i in range(n):
        row = w + columns[min(i + ROWS_AHEAD, n - 1)] * w_row
        for at from 0 <= at < nv * VL by LINE:
            vprefetch_soon(row + at)
        row = w + columns[i] * w_row
        x = vset1(values[i])
        for j in range(nv):
            acc[j] = vfma(x, vload(row + j * VL), acc[j])
    for j in range(nv):
        vstore(y + j // NV * y_panel + j % NV * VL, acc[j])


cdef void add_nonzeros(real* y, Py_ssize_t y_panel, const real* w, Py_ssize_t w_row, Py_ssize_t outputs,
                       const Py_ssize_t* columns, const real* values, Py_ssize_t n) noexcept nogil:
    """y += x w, of a row y in panels (y_panel NR: unpacked), in whole vectors."""
    cdef Py_ssize_t vectors = (outputs + VL - 1) // VL
    while vectors > 0:
        if vectors >= 8: add_strip(8, y, y_panel, w, w_row, columns, values, n)
        elif vectors == 7: add_strip(7, y, y_panel, w, w_row, columns, values, n)
        elif vectors == 6: add_strip(6, y, y_panel, w, w_row, columns, values, n)
        elif vectors == 5: add_strip(5, y, y_panel, w, w_row, columns, values, n)
        elif vectors == 4: add_strip(4, y, y_panel, w, w_row, columns, values, n)
        elif vectors == 3: add_strip(3, y, y_panel, w, w_row, columns, values, n)
        elif vectors == 2: add_strip(2, y, y_panel, w, w_row, columns, values, n)
        else: add_strip(1, y, y_panel, w, w_row, columns, values, n)
        y += STRIP // NV * y_panel
        w += STRIP * VL
        vectors -= STRIP


cdef inline void start_row(real* y, Py_ssize_t y_panel, const real* b, Py_ssize_t outputs) noexcept nogil:
    """y = b, or 0, in whole vectors."""
    cdef Py_ssize_t c
    for c from 0 <= c < outputs by VL:
        vstore(y + c // NR * y_panel + c % NR, vload(b + c) if b != NULL else vset1(0))


cdef void finish_sparse_rows(const Layer* layer, bint apart, real* y, Py_ssize_t y_panel, Py_ssize_t rows) noexcept nogil:
    """The activation, where the product is not finished apart from it; the last layer, unpacked, has none."""
    cdef Py_ssize_t p
    if not apart and layer.activation != ACT_IDENTITY:
        for p in range(panels(layer.n_out) // NR):
            map_array(layer.activation, y + p * y_panel, y + p * y_panel, rows * NR, layer.alpha)


cdef void sparse_forward(const Layer* layer, bint apart, real* y, Py_ssize_t y_row, Py_ssize_t y_panel,
                         const SparseBatch* x, Py_ssize_t r0, Py_ssize_t r1) noexcept nogil:
    """y = f(x w + b), or the pre-activations alone, of rows r0..r1; y is row r0, unpacked or in panels."""
    cdef Py_ssize_t r
    for r in range(r0, r1):
        start_row(y + (r - r0) * y_row, y_panel, layer.b_p if layer.scale == NULL else NULL, layer.n_out)
        add_nonzeros(y + (r - r0) * y_row, y_panel, layer.w_p, layer.row_out, layer.n_out,
                     x.columns + x.begin[r], x.values + x.begin[r], x.end[r] - x.begin[r])
    finish_sparse_rows(layer, apart, y, y_panel, r1 - r0)


cdef void sparse_infer(const Layer* layer, real* y, Py_ssize_t y_row, Py_ssize_t y_panel, const SparseTable* x,
                       Py_ssize_t r0, Py_ssize_t r1) noexcept nogil:
    """The same from the caller's samples and weights. Where they are no longer what was validated, y is any numbers."""
    cdef Py_ssize_t columns[PIECE]
    cdef real values[PIECE]
    cdef Py_ssize_t r, begin, end, n
    for r in range(r0, r1):
        start_row(y + (r - r0) * y_row, y_panel, layer.b if layer.scale == NULL else NULL, layer.n_out)
        range_of_row(x, r, &begin, &end)
        while begin < end:
            n = min(end - begin, <Py_ssize_t>PIECE)
            copy_nonzeros(columns, values, x, begin, n)
            add_nonzeros(y + (r - r0) * y_row, y_panel, layer.w, layer.row_out, layer.n_out, columns, values, n)
            begin += n
    finish_sparse_rows(layer, layer.scale != NULL, y, y_panel, r1 - r0)


# Gradient ------------------------------------------------------------------------------------------

cdef void link_columns(SparseBatch* x, Py_ssize_t rows, Py_ssize_t k0, Py_ssize_t k1) noexcept nogil:
    """The lists of inputs k0..k1: what occurs in each column, in the order of the rows."""
    cdef Py_ssize_t r, i, column, begin, end, limit = x.capacity
    for r in range(rows - 1, -1, -1):
        end = min(x.end[r], limit)          # whatever another thread writes into the caller's arrays meanwhile, no
        begin = min(x.begin[r], end)        # nonzero is in two lists
        limit = begin
        for i in range(end - 1, begin - 1, -1):
            column = x.columns[i]
            if k0 <= column < k1:
                x.next[i] = x.first[column]
                x.first[column] = i + 1


cdef inline void sum_strip(int nv, real* g, const real* d, Py_ssize_t panel, const SparseBatch* x,
                           Py_ssize_t first) noexcept nogil:
    """g[:nv VL] = sum over a list of values[i] d[samples[i]]; nv is a constant at every call."""
    cdef vec acc[STRIP]
    cdef vec factor
    cdef const real* row
    cdef Py_ssize_t i = first, end
    cdef int j
    cdef bint later = False
    while i or not later:
        for j in range(nv):
            acc[j] = vset1(0)
        end = (x.samples[i - 1] // CHUNK + 1) * CHUNK if i else 0
        while i and x.samples[i - 1] < end:
            factor = vset1(x.values[i - 1])
            row = d + x.samples[i - 1] * NR
            for j in range(nv):
                acc[j] = vfma(factor, vload(row + j // NV * panel + j % NV * VL), acc[j])
            i = x.next[i - 1]
        for j in range(nv):
            vstore(g + j * VL, vload(g + j * VL) + acc[j] if later else acc[j])
        later = True


cdef void sum_row(real* g, const real* d, Py_ssize_t panel, Py_ssize_t vectors, const SparseBatch* x,
                  Py_ssize_t first) noexcept nogil:
    """A row of the gradient, in so many vectors; of an input that does not occur, zeros."""
    while vectors > 0:
        if vectors >= 8: sum_strip(8, g, d, panel, x, first)
        elif vectors == 7: sum_strip(7, g, d, panel, x, first)
        elif vectors == 6: sum_strip(6, g, d, panel, x, first)
        elif vectors == 5: sum_strip(5, g, d, panel, x, first)
        elif vectors == 4: sum_strip(4, g, d, panel, x, first)
        elif vectors == 3: sum_strip(3, g, d, panel, x, first)
        elif vectors == 2: sum_strip(2, g, d, panel, x, first)
        else: sum_strip(1, g, d, panel, x, first)
        g += STRIP * VL
        d += STRIP // NV * panel
        vectors -= STRIP


cdef inline bint zeros_change_nothing(const Optimizer* o) noexcept nogil:
    """A step whose gradient is 0 leaves parameters and state as they are."""
    return ignores_zeros(o.rule) and o.weight_decay == 0 and o.l1 == 0 and o.decoupled_decay == 0


cdef void sparse_gradient(SparseBatch* x, const real* d, Py_ssize_t panel, Py_ssize_t rows, Py_ssize_t k0, Py_ssize_t k1,
                          Py_ssize_t n, real* g, Py_ssize_t g_row, const Optimizer* optimizer, real* block) noexcept nogil:
    """G[k0:k1] = X[:, k0:k1]^T D, to which the update rule is applied, some rows at a time, while they are in the
    first-level cache, in `block` of SCRATCH reals. Where a gradient of 0 changes nothing, inputs that do not occur in the
    batch are passed over."""
    cdef Py_ssize_t vectors = (n + VL - 1) // VL, size = min(<Py_ssize_t>SCRATCH, GRADIENT_NBYTES // <Py_ssize_t>sizeof(real))
    cdef Py_ssize_t width = min(vectors * VL, size), height = size // width, c, r, i, k, m, here
    link_columns(x, rows, k0, k1)
    if zeros_change_nothing(optimizer):
        for r in range(rows):
            for i in range(x.begin[r], x.end[r]):
                k = x.columns[min(i + ROWS_AHEAD, x.end[r] - 1)]
                for c from 0 <= c < vectors * VL by LINE:
                    vprefetch(g + k * g_row + c)
                k = x.columns[i]
                if k0 <= k < k1 and x.first[k] == i + 1:
                    for c from 0 <= c < n by width:
                        here = min(width, n - c)
                        sum_row(block, d + c // NR * panel, panel, (here + VL - 1) // VL, x, i + 1)
                        update(optimizer, g + k * g_row + c, here, block, here, 1, here)
                    x.first[k] = 0
        return
    k = k0
    while k < k1:
        m = min(height, k1 - k)
        for c from 0 <= c < n by width:
            here = min(width, n - c)
            for i in range(m):
                sum_row(block + i * width, d + c // NR * panel, panel, (here + VL - 1) // VL, x, x.first[k + i])
            update(optimizer, g + k * g_row + c, g_row, block, width, m,
                   here if optimizer.rule == RULE_GRADIENT else (here + VL - 1) // VL * VL)
        for i in range(k, k + m):
            x.first[i] = 0
        k += m
