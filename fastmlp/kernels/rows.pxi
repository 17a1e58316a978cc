# Functions of a row: softmax, log-softmax and the losses.
#
# A sum over a row is kept in 16 lanes on every instruction set (element c goes to lane c mod 16), which
# are then added pairwise, lane j to lane j + 8, j + 4, j + 2, j + 1: one fixed tree, the same bits on
# every vector width. Every logarithm and exponential is that of vector_math.pxi.

cdef inline real tree_sum(vec* lanes) noexcept nogil:
    """The sum of 16 lanes, which are used up."""
    cdef real lane[VL]
    cdef int i, n = TREE
    while n > 1:
        n //= 2
        for i in range(n):
            lanes[i] = lanes[i] + lanes[i + n]
    vstore(lane, lanes[0])
    n = VL
    while n > 1:
        n //= 2
        for i in range(n):
            lane[i] += lane[i + n]
    return lane[0]


cdef inline void clear(vec* lanes) noexcept nogil:
    cdef int i
    for i in range(TREE):
        lanes[i] = vset1(0)


cdef real row_max(const real* x, Py_ssize_t n) noexcept nogil:
    """The largest of a row, -inf of none; a NaN may or may not be seen."""
    cdef vec m[2]
    cdef real lane[VL]
    cdef real largest = -INFINITY
    cdef Py_ssize_t j
    cdef int i
    m[0] = m[1] = vset1(-INFINITY)
    for j from 0 <= j < n - 2 * VL + 1 by 2 * VL:
        m[0] = vmax(m[0], vload(x + j))
        m[1] = vmax(m[1], vload(x + j + VL))
    for j from n - n % (2 * VL) <= j < n by VL:
        m[0] = vmax(m[0], vload_part(x + j, n - j, -INFINITY))
    vstore(lane, vmax(m[0], m[1]))
    for i in range(VL):
        if lane[i] > largest:
            largest = lane[i]
    return largest


cdef inline real exp_row(real* y, const real* x, real shift, Py_ssize_t n, bint keep) noexcept nogil:
    """sum_c exp(x_c - shift), with y_c = exp(x_c - shift) where it is to be kept; no x exceeds shift."""
    cdef vec lanes[TREE]
    cdef vec e, s = vset1(shift)
    cdef Py_ssize_t c = 0
    cdef int j
    clear(lanes)
    while c + 16 <= n:
        for j in range(TREE):
            e = vexp_nonpositive(vload(x + c) - s)
            lanes[j] = lanes[j] + e
            if keep:
                vstore(y + c, e)
            c += VL
    for j in range(TREE):
        if c < n:
            e = vexp_nonpositive(vload_part(x + c, n - c, -INFINITY) - s)
            lanes[j] = lanes[j] + e
            if keep:
                vstore_part(y + c, e, n - c)
            c += VL
    return tree_sum(lanes)


cdef inline void scale_row(real* y, real factor, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t c, whole = n - n % VL
    for c from 0 <= c < whole by VL:
        vstore(y + c, vload(y + c) * vset1(factor))
    if whole < n:
        vstore_part(y + whole, vload_part(y + whole, n - whole, 0) * vset1(factor), n - whole)


cdef real log_of(real x) noexcept nogil:
    cdef real lane[VL]
    vstore(lane, vlog(vset1(x)))
    return lane[0]


cdef void softmax_row(real* y, const real* x, Py_ssize_t n) noexcept nogil:
    """y_c = exp(x_c - max x) / sum_k exp(x_k - max x)"""
    scale_row(y, 1 / exp_row(y, x, row_max(x, n), n, True), n)


cdef void log_softmax_row(real* y, const real* x, Py_ssize_t n) noexcept nogil:
    """y_c = (x_c - max x) - log sum_k exp(x_k - max x)"""
    cdef real shift = row_max(x, n)
    cdef real log_sum = log_of(exp_row(NULL, x, shift, n, False))
    cdef Py_ssize_t c, whole = n - n % VL
    for c from 0 <= c < whole by VL:
        vstore(y + c, (vload(x + c) - vset1(shift)) - vset1(log_sum))
    if whole < n:
        vstore_part(y + whole, (vload_part(x + whole, n - whole, 0) - vset1(shift)) - vset1(log_sum), n - whole)


cdef real dot_row(const real* a, const real* b, Py_ssize_t n) noexcept nogil:
    """sum_c a_c b_c"""
    cdef vec lanes[TREE]
    cdef Py_ssize_t c = 0
    cdef int j
    clear(lanes)
    while c < n:
        for j in range(TREE):
            if c < n:
                lanes[j] = vfma(vload_part(a + c, n - c, 0), vload_part(b + c, n - c, 0), lanes[j])
                c += VL
    return tree_sum(lanes)


cdef real squares_row(const real* x, real factor, Py_ssize_t n) noexcept nogil:
    """sum_c (x_c factor)^2"""
    cdef vec lanes[TREE]
    cdef vec scaled
    cdef Py_ssize_t c = 0
    cdef int j
    clear(lanes)
    while c < n:
        for j in range(TREE):
            if c < n:
                scaled = vload_part(x + c, n - c, 0) * vset1(factor)
                lanes[j] = vfma(scaled, scaled, lanes[j])
                c += VL
    return tree_sum(lanes)


cdef real largest_of_row(const real* x, Py_ssize_t n) noexcept nogil:
    """max_c |x_c|; a NaN may or may not be seen."""
    cdef real lane[VL]
    cdef real largest = 0
    cdef vec m = vset1(0)
    cdef Py_ssize_t c
    cdef int i
    for c from 0 <= c < n by VL:
        m = vmax(m, vabs(vload_part(x + c, n - c, 0)))
    vstore(lane, m)
    for i in range(VL):
        if lane[i] > largest:
            largest = lane[i]
    return largest


cdef void softmax_backward_row(real* dx, const real* dy, const real* y, Py_ssize_t n) noexcept nogil:
    """dx_c = y_c (dy_c - sum_k dy_k y_k)"""
    cdef real inner = dot_row(dy, y, n)
    cdef Py_ssize_t c
    for c from 0 <= c < n by VL:
        vstore_part(dx + c, vload_part(y + c, n - c, 0) * (vload_part(dy + c, n - c, 0) - vset1(inner)), n - c)


cdef void log_softmax_backward_row(real* dx, const real* dy, const real* y, Py_ssize_t n) noexcept nogil:
    """dx_c = dy_c - exp(y_c) sum_k dy_k"""
    cdef vec lanes[TREE]
    cdef real total
    cdef Py_ssize_t c = 0
    cdef int j
    clear(lanes)
    while c < n:
        for j in range(TREE):
            if c < n:
                lanes[j] = lanes[j] + vload_part(dy + c, n - c, 0)
                c += VL
    total = tree_sum(lanes)
    for c from 0 <= c < n by VL:
        vstore_part(dx + c, vload_part(dy + c, n - c, 0) - vexp(vload_part(y + c, n - c, 0)) * vset1(total), n - c)
