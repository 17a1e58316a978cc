# Matrix products on row-major operands, and what is fused into their last step.
#
#   gemm            C = f(bias + A B)  or  (A B) f'(y)       forward; backward to the data
#   gemm_gradient   G = A^T D, handed tile by tile to the optimizer
#
# Every element of a product is one chain of FMAs in the order of the summation index, whatever the
# tile, the blocking or the vector width: that is what makes results the same to the bit everywhere.
#
# Loops, outside in (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008):
# blocks of MC rows of A stay in the second-level cache, panels of KC x NR of B in the first, and a
# tile of MR x NR of C in the registers. Rows of A are read in place, one broadcast at a time.

cdef enum Start:                # what the accumulators hold before the first product
    FROM_ZERO
    FROM_BIAS                   # bias[n], the same for every row
    FROM_C                      # the partial sums an earlier block left in C

cdef enum Finish:               # what happens to the accumulators after the last product
    STORE
    STORE_RELU                  # max(c, 0)
    STORE_RELU_BACKWARD         # c where y > 0, else 0
    UPDATE_SGD                  # p - lr (c + weight_decay p)

cdef struct Tile:
    Py_ssize_t k                # length of the sum
    const real* a               # a[i a_row + k a_k], broadcast over the lanes
    Py_ssize_t a_row
    Py_ssize_t a_k
    const real* b               # b[k b_row + lane]
    Py_ssize_t b_row
    real* c                     # c[i c_row + lane]
    Py_ssize_t c_row
    const real* bias            # bias[lane]
    const real* y               # y[i y_row + lane], the layer's outputs
    Py_ssize_t y_row
    Start start
    Finish finish
    real lr
    real weight_decay


cdef inline void tile(int mr, int nv, const Tile* t) noexcept nogil:
    """c[mr, nv VL] = finish(start + sum_k a[:, k] b[k, :]). mr and nv are constants at every call,
    so the loops over them unroll and `acc` lives in registers."""
    cdef vec acc[12][8]
    cdef vec b[8]
    cdef vec a, zero = vset1(0), step, decay
    cdef const real* pa[4]      # one pointer for three rows: what an x86 address can reach
    cdef const real* pb = t.b
    cdef Py_ssize_t a_row = t.a_row, a_k = t.a_k, b_row = t.b_row, c_row = t.c_row, k
    cdef real* c = t.c
    cdef int i, j

    if t.start == FROM_BIAS:
        for j in range(nv):
            b[j] = vload(t.bias + j * VL)
            for i in range(mr):
                acc[i][j] = b[j]
    elif t.start == FROM_C:
        for i in range(mr):
            for j in range(nv):
                acc[i][j] = vload(c + i * c_row + j * VL)
    else:
        for i in range(mr):
            for j in range(nv):
                acc[i][j] = zero

    for i in range((mr + 2) // 3):
        pa[i] = t.a + 3 * i * a_row
    for k in range(t.k):
        for j in range(nv):
            b[j] = vload(pb + j * VL)
        for i in range(mr):
            a = vset1(pa[i // 3][i % 3 * a_row])
            for j in range(nv):
                acc[i][j] = vfma(a, b[j], acc[i][j])
        for i in range((mr + 2) // 3):
            pa[i] += a_k
        pb += b_row

    if t.finish == STORE:
        for i in range(mr):
            for j in range(nv):
                vstore(c + i * c_row + j * VL, acc[i][j])
    elif t.finish == STORE_RELU:
        for i in range(mr):
            for j in range(nv):
                vstore(c + i * c_row + j * VL, relu(acc[i][j]))
    elif t.finish == STORE_RELU_BACKWARD:
        for i in range(mr):
            for j in range(nv):
                vstore(c + i * c_row + j * VL, relu_backward(acc[i][j], vload(t.y + i * t.y_row + j * VL)))
    else:
        step = vset1(-t.lr)
        decay = vset1(t.weight_decay)
        for i in range(mr):
            for j in range(nv):
                a = vload(c + i * c_row + j * VL)
                vstore(c + i * c_row + j * VL, sgd(a, acc[i][j], step, decay))


cdef void run_tile(int mr, int nv, const Tile* t) noexcept nogil:
    """The register tile of mr rows and nv vectors: mr <= MR with nv 1 or NV, or one row of WIDE."""
    if nv == NV:
        if mr == 1: tile(1, NV, t)
        elif mr == 2: tile(2, NV, t)
        elif mr == 3: tile(3, NV, t)
        elif mr == 4: tile(4, NV, t)
        elif mr == 5: tile(5, NV, t)
        elif mr == 6: tile(6, NV, t)
        elif MR > 6 and mr == 7: tile(7, NV, t)
        elif MR > 6 and mr == 8: tile(8, NV, t)
        elif MR > 8 and mr == 9: tile(9, NV, t)
        elif MR > 8 and mr == 10: tile(10, NV, t)
        elif MR > 8 and mr == 11: tile(11, NV, t)
        elif MR > 8 and mr == 12: tile(12, NV, t)
    elif nv == 1:
        if mr == 1: tile(1, 1, t)
        elif mr == 2: tile(2, 1, t)
        elif mr == 3: tile(3, 1, t)
        elif mr == 4: tile(4, 1, t)
        elif mr == 5: tile(5, 1, t)
        elif mr == 6: tile(6, 1, t)
        elif MR > 6 and mr == 7: tile(7, 1, t)
        elif MR > 6 and mr == 8: tile(8, 1, t)
        elif MR > 8 and mr == 9: tile(9, 1, t)
        elif MR > 8 and mr == 10: tile(10, 1, t)
        elif MR > 8 and mr == 11: tile(11, 1, t)
        elif MR > 8 and mr == 12: tile(12, 1, t)
    else:
        tile(1, WIDE, t)


cdef inline Py_ssize_t share(Py_ssize_t n, Py_ssize_t part, Py_ssize_t parts) noexcept nogil:
    """Where part begins when n things are dealt evenly to `parts`."""
    return n // parts * part + min(part, n % parts)


# ---------------------------------------------------------------------------------------------------

cdef struct Product:
    Py_ssize_t m, n, k
    const real* a               # (m, k): a[i a_row + k]
    Py_ssize_t a_row
    const real* b               # (k, n): b[k b_row + n], or b[n b_row + k] where b_transposed
    Py_ssize_t b_row
    bint b_transposed
    real* c                     # (m, n)
    Py_ssize_t c_row
    const real* bias            # (n,), or NULL for zeros
    int activation              # forward: c = f(c); with y: c = c f'(y)
    real alpha
    const real* y               # (m, n) or NULL
    Py_ssize_t y_row
    real* panel                 # PANEL reals where rows are not padded to whole lines; NULL where they are


cdef void pack_panel(real* panel, const real* b, Py_ssize_t b_row, bint transposed,
                     Py_ssize_t k, Py_ssize_t n) noexcept nogil:
    """panel[k, NR] = b[k, :n], zeros beyond n; b is read across its rows where transposed."""
    cdef Py_ssize_t i, j
    if transposed:
        transpose(panel, NR, b, b_row, n, k)
        if n < NR:
            for i in range(k):
                for j in range(n, NR):
                    panel[i * NR + j] = 0
    elif n == NR:
        for i in range(k):
            for j in range(NV):
                vstore(panel + i * NR + j * VL, vload(b + i * b_row + j * VL))
    else:
        for i in range(k):
            for j in range(NR):
                panel[i * NR + j] = b[i * b_row + j] if j < n else 0


cdef void copy_tile(real* c, Py_ssize_t c_row, const real* a, Py_ssize_t a_row,
                    Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(m):
        for j in range(n):
            c[i * c_row + j] = a[i * a_row + j]


cdef void gemm(const Product* p) noexcept nogil:
    """C = f(bias + A B), or (A B) f'(y) where y is given. A NULL `panel` promises that rows of B, C,
    y and the bias can be read and written up to the next whole line."""
    cdef Tile t
    cdef real edge[EDGE]                # a tile of C whose last columns do not exist
    cdef real bias_edge[NR]
    cdef Py_ssize_t m_blocks = (p.m + MC - 1) // MC, k_blocks = max(1, (p.k + KC - 1) // KC)
    cdef Py_ssize_t mb, kb, m0, m1, k0, m, n, width, tiles, i
    cdef int mr, nv
    cdef bint last, partial
    t.a_row = p.a_row
    t.a_k = 1
    t.y = p.y
    t.y_row = p.y_row
    for mb in range(m_blocks):
        m0 = share(p.m, mb, m_blocks)
        m1 = share(p.m, mb + 1, m_blocks)
        for kb in range(k_blocks):
            k0 = share(p.k, kb, k_blocks)
            t.k = share(p.k, kb + 1, k_blocks) - k0
            last = kb == k_blocks - 1
            t.start = FROM_C if kb else FROM_BIAS if p.bias != NULL else FROM_ZERO
            t.finish = STORE
            if last and p.activation == ACT_RELU:
                t.finish = STORE_RELU if p.y == NULL else STORE_RELU_BACKWARD
            n = 0
            while n < p.n:
                width = p.n - n
                if p.m == 1 and width >= WIDE * VL and not p.b_transposed:
                    nv = WIDE
                elif width > VL:
                    nv = NV
                else:
                    nv = 1
                width = min(width, <Py_ssize_t>nv * VL)
                partial = p.panel != NULL and width < nv * VL
                if p.panel != NULL and (partial or p.b_transposed or p.m >= PACK_ROWS):
                    if p.b_transposed:
                        pack_panel(p.panel, p.b + n * p.b_row + k0, p.b_row, True, t.k, width)
                    else:
                        pack_panel(p.panel, p.b + k0 * p.b_row + n, p.b_row, False, t.k, width)
                    t.b = p.panel
                    t.b_row = NR
                else:
                    t.b = p.b + k0 * p.b_row + n
                    t.b_row = p.b_row
                if t.start == FROM_BIAS:
                    t.bias = p.bias + n
                    if partial:
                        copy_tile(bias_edge, NR, p.bias + n, 0, 1, width)
                        t.bias = bias_edge
                tiles = (m1 - m0 + MR - 1) // MR
                for i in range(tiles):
                    m = m0 + share(m1 - m0, i, tiles)
                    mr = <int>(m0 + share(m1 - m0, i + 1, tiles) - m)
                    t.a = p.a + m * p.a_row + k0
                    t.c = p.c + m * p.c_row + n
                    t.c_row = p.c_row
                    if p.y != NULL:
                        t.y = p.y + m * p.y_row + n
                    if partial:
                        if kb:
                            copy_tile(edge, NR, t.c, t.c_row, mr, width)
                        t.c = edge
                        t.c_row = NR
                    run_tile(mr, nv, &t)
                    if last and p.activation > ACT_RELU:
                        if p.y == NULL:
                            activate(p.activation, p.alpha, t.c, t.c_row, mr, nv)
                        else:
                            activate_backward(p.activation, p.alpha, t.c, t.c_row, t.y, t.y_row, mr, nv)
                    if partial:
                        copy_tile(p.c + m * p.c_row + n, p.c_row, edge, NR, mr, width)
                n += width


# ---------------------------------------------------------------------------------------------------

cdef struct Gradient:
    Py_ssize_t rows             # length of the sum: the batch
    Py_ssize_t k0, k1           # the inputs of the layer that this call owns
    Py_ssize_t n                # its outputs
    const real* a               # (rows, k): inputs of the layer
    Py_ssize_t a_row
    const real* d               # (rows, n): deltas, rows padded to whole lines
    Py_ssize_t d_row
    real* g                     # (k, n): gradient or parameters, as the optimizer says
    Py_ssize_t g_row
    bint g_padded               # rows of g can be written up to the next whole line


cdef void gemm_gradient(const Gradient* p, const Optimizer* optimizer) noexcept nogil:
    """G[k0:k1] = A[:, k0:k1]^T D, each tile handed to the optimizer while it is in the registers
    (a stored gradient, plain SGD) or in the first-level cache (every other rule)."""
    cdef Tile t
    cdef real block[BLOCK]              # gradient of MG inputs and NR outputs
    cdef Py_ssize_t k_blocks = (p.k1 - p.k0 + MG - 1) // MG, r_blocks = max(1, (p.rows + KG - 1) // KG)
    cdef Py_ssize_t kb, rb, k0, k1, k, r0, n, width, tiles, i
    cdef int mr, nv
    cdef bint in_registers = r_blocks == 1 and optimizer.rule <= RULE_SGD, direct, last
    t.a_row = 1
    t.a_k = p.a_row
    t.b_row = p.d_row
    t.lr = optimizer.lr
    t.weight_decay = optimizer.weight_decay
    for kb in range(k_blocks):
        k0 = p.k0 + share(p.k1 - p.k0, kb, k_blocks)
        k1 = p.k0 + share(p.k1 - p.k0, kb + 1, k_blocks)
        n = 0
        while n < p.n:
            nv = NV if p.n - n > VL else 1
            width = min(p.n - n, <Py_ssize_t>nv * VL)
            direct = in_registers and (p.g_padded or width == nv * VL)
            for rb in range(r_blocks):
                r0 = share(p.rows, rb, r_blocks)
                t.k = share(p.rows, rb + 1, r_blocks) - r0
                last = rb == r_blocks - 1
                t.b = p.d + r0 * p.d_row + n
                t.start = FROM_C if rb else FROM_ZERO
                t.finish = UPDATE_SGD if direct and optimizer.rule == RULE_SGD else STORE
                tiles = (k1 - k0 + MR - 1) // MR
                for i in range(tiles):
                    k = k0 + share(k1 - k0, i, tiles)
                    mr = <int>(k0 + share(k1 - k0, i + 1, tiles) - k)
                    t.a = p.a + r0 * p.a_row + k
                    if direct:
                        t.c = p.g + k * p.g_row + n
                        t.c_row = p.g_row
                    else:
                        t.c = block + (k - k0) * NR
                        t.c_row = NR
                    run_tile(mr, nv, &t)
                    if last and not direct:
                        if p.g_padded:
                            width = nv * VL
                        update(optimizer, p.g + k * p.g_row + n, p.g_row, t.c, NR, mr, width)
            n += nv * VL
