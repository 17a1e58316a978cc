# gemm: C = f(bias + A B)  or  (A B) f'(y), the products of the forward and the backward pass.
#
# Loops, outside in (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008):
# blocks of MC x KC of A stay in the second-level cache, panels of KC x NR of B in the first, and a
# tile of MR x NR of C in the registers. A is read one broadcast at a time, B and C in full vectors.

cdef enum:
    ENDLESS = 1 << 30           # the run of an unpacked matrix

cdef struct Product:
    Py_ssize_t m, n, k
    const real* a               # (m, k), unpacked, or in panels a_panel apart where a_run is NR
    Py_ssize_t a_row
    Py_ssize_t a_run
    Py_ssize_t a_panel
    const real* b               # (k, n): panels b_panel apart (NR: unpacked)
    Py_ssize_t b_row
    Py_ssize_t b_panel
    bint b_operands             # in bfloat16: b is in operands, and not of reals
    real* c                     # (m, n): panels c_panel apart (NR: unpacked)
    Py_ssize_t c_row
    Py_ssize_t c_panel
    const real* bias            # (n,), or NULL for zeros
    int activation              # forward: c = f(c); with y: c = c f'(y)
    real alpha
    const real* y               # (m, n) like c, or NULL
    bint exact                  # rows of an unpacked b, of c and the bias end with their last element; else whole
                                # vectors can be read and written
    real* a_block               # scratch for block after block of an unpacked a, (MC | 1) KC reals, and of such a b,
    real* b_block               # KC panels(n) reals, in panels; or NULL: it is used as it is
    real* packed                # scratch for a panel of an unpacked b: min(k, KC) NR reals where it is packed or exact
                                # (in bfloat16 a_block and packed are of product_scratch, and always there)
    real* edge                  # and for a strip of c whose last columns do not exist: min(m, MC) NR reals if exact


cdef void copy_tile(real* c, Py_ssize_t c_row, const real* a, Py_ssize_t a_row,
                    Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j, whole = n - n % VL
    for i in range(m):
        for j from 0 <= j < whole by VL:
            vstore(c + i * c_row + j, vload(a + i * a_row + j))
        if whole < n:
            vstore_part(c + i * c_row + whole, vload_part(a + i * a_row + whole, n - whole, 0), n - whole)


cdef inline void clear_columns(real* panel, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """Zeros in columns n to NR of a panel."""
    cdef Py_ssize_t i, j
    if n < NR:
        for i in range(rows):
            for j in range(n, NR):
                panel[i * NR + j] = 0


cdef void pack_panel(real* panel, const real* b, Py_ssize_t b_row, bint transposed,
                     Py_ssize_t k, Py_ssize_t n) noexcept nogil:
    """panel[k, NR] = b[k, :n], zeros beyond n; b is read across its rows where transposed."""
    cdef Py_ssize_t i, j
    if transposed:
        transpose(panel, NR, b, b_row, n, k)
        clear_columns(panel, k, n)
    elif n == NR:
        for i in range(k):
            for j from 0 <= j < NR by LINE:     # what `pack` comes to soon: further on in the same rows
                vprefetch_soon(b + i * b_row + 4 * NR + j)
            copy_row(panel + i * NR, b + i * b_row)
    else:
        for i in range(k):
            for j from 0 <= j < NR by VL:
                vstore(panel + i * NR + j, vload_part(b + i * b_row + j, n - j, 0))


cdef enum:
    ROWS_AT_ONCE = 16           # between unpacked and packed: few pages are open at once on either side


cdef void pack(real* y, Py_ssize_t panel, const real* x, Py_ssize_t x_row,
               Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """An unpacked (rows, n) matrix in panels."""
    cdef Py_ssize_t i, j
    for i from 0 <= i < rows by ROWS_AT_ONCE:
        for j from 0 <= j < n by NR:
            pack_panel(y + j // NR * panel + i * NR, x + i * x_row + j, x_row, False,
                       min(rows - i, <Py_ssize_t>ROWS_AT_ONCE), min(n - j, <Py_ssize_t>NR))


cdef inline void add_rows(int rows, real* c, const real* a, const real* b, Py_ssize_t b_row, Py_ssize_t n) noexcept nogil:
    """c[:n] += a[:rows] b[:, :n]; rows is a constant at every call."""
    cdef vec x[4]
    cdef vec sum
    cdef Py_ssize_t j, whole = n - n % VL
    cdef int i
    for i in range(rows):
        x[i] = vset1(a[i])
    for j from 0 <= j < whole by VL:
        sum = vload(c + j)
        for i in range(rows):
            sum = vfma(x[i], vload(b + i * b_row + j), sum)
        vstore(c + j, sum)
    if whole < n:
        sum = vload_part(c + whole, n - whole, 0)
        for i in range(rows):
            sum = vfma(x[i], vload_part(b + i * b_row + whole, n - whole, 0), sum)
        vstore_part(c + whole, sum, n - whole)


cdef void one_row(const Product* p) noexcept nogil:
    """gemm for one row of A and an unpacked B, which is read once, row by row, as memory is fastest; C stays in the
    first-level cache. Each element is the same chain as in the tile."""
    cdef Py_ssize_t j, k, whole = p.k - p.k % 4
    cdef Py_ssize_t n = p.n if p.exact else (p.n + VL - 1) // VL * VL
    for j in range(n):
        p.c[j] = p.bias[j] if p.bias != NULL else 0
    for k from 0 <= k < whole by 4:
        add_rows(4, p.c, p.a + k, p.b + k * p.b_row, p.b_row, n)
    for k in range(whole, p.k):
        add_rows(1, p.c, p.a + k, p.b + k * p.b_row, p.b_row, n)
    map_array(p.activation, p.c, p.c, p.n, p.alpha)


cdef enum:
    CHAINS = 8                  # vectors of C that a row computes side by side: they hide each other's latency


cdef inline void row_of(int nv, const Product* p, Py_ssize_t v, real* c, const real* bias) noexcept nogil:
    """c[:nv VL] = bias + a B, for the vectors of B from v on, in its panels; nv is a constant at every call."""
    cdef vec acc[CHAINS]
    cdef const real* b[CHAINS]
    cdef vec x
    cdef Py_ssize_t k
    cdef int j
    for j in range(nv):
        acc[j] = vload(bias + j * VL) if bias != NULL else vset1(0)
        b[j] = p.b + (v + j) // NV * p.b_panel + (v + j) % NV * VL
    for k in range(p.k):
        x = vset1(p.a[k])
        for j in range(nv):
            acc[j] = vfma(x, vload(b[j] + k * NR), acc[j])
    for j in range(nv):
        vstore(c + j * VL, positive_part(acc[j], vset1(0)) if p.activation == ACT_RELU else acc[j])


cdef void one_row_of_panels(const Product* p) noexcept nogil:
    """gemm for one row of A and a B in panels: several are read side by side, each from beginning to end."""
    cdef Py_ssize_t vectors = (p.n + VL - 1) // VL, groups = (vectors + CHAINS - 1) // CHAINS, g, v, nv
    cdef real* c
    cdef const real* bias
    for g in range(groups):
        v = share(vectors, g, groups)
        nv = share(vectors, g + 1, groups) - v
        c = p.c + v * VL
        bias = p.bias + v * VL if p.bias != NULL else NULL
        if nv == 8: row_of(8, p, v, c, bias)
        elif nv == 7: row_of(7, p, v, c, bias)
        elif nv == 6: row_of(6, p, v, c, bias)
        elif nv == 5: row_of(5, p, v, c, bias)
        elif nv == 4: row_of(4, p, v, c, bias)
        elif nv == 3: row_of(3, p, v, c, bias)
        elif nv == 2: row_of(2, p, v, c, bias)
        elif nv == 1: row_of(1, p, v, c, bias)
    if not finishes_in_registers(p.activation):
        map_array(p.activation, p.c, p.c, p.n, p.alpha)


cdef inline bint is_one_row(const Product* p) noexcept nogil:
    """Of A and C unpacked, or in panels of one row, which is the same."""
    return p.m == 1 and (p.a_run == ENDLESS or p.a_panel == NR) and p.c_panel == NR and p.y == NULL


cdef inline bint is_one_column(const Product* p) noexcept nogil:
    """Of B, with A in panels and C without gaps."""
    return (p.n == 1 and p.a_run == NR and p.c_row == 1 and p.c_panel == NR and p.y == NULL
            and p.activation == ACT_IDENTITY)


cdef void one_column(const Product* p) noexcept nogil:
    """gemm for one column of B: every row of C has a lane, since lanes for columns would idle. A is transposed in
    registers. Each element is the same chain as in the tile."""
    cdef vec columns[16]
    cdef vec sum
    cdef Py_ssize_t i, k, rows, width
    cdef const real* a
    cdef int j
    for i from 0 <= i < p.m by VL:
        rows = min(p.m - i, <Py_ssize_t>VL)
        sum = vset1(p.bias[0] if p.bias != NULL else 0)
        for k from 0 <= k < p.k by VL:
            width = min(p.k - k, <Py_ssize_t>VL)
            a = p.a + i * p.a_row + k // NR * p.a_panel + k % NR
            if rows == VL and width == VL:
                load_transposed(columns, a, p.a_row, VL, VL, True)
                for j in range(VL):
                    sum = vfma(columns[j], vset1(p.b[(k + j) * p.b_row]), sum)
            else:
                load_transposed(columns, a, p.a_row, rows, width, False)
                for j in range(width):
                    sum = vfma(columns[j], vset1(p.b[(k + j) * p.b_row]), sum)
        vstore_part(p.c + i, sum, rows)


cdef void multiply_block(const Product* p, bint first, bint last, bint streamed) noexcept nogil:
    """gemm for a block of A and of B that the caches hold: one strip of C after another. Only the last block of
    k finishes C; where all of B does not stay in the cache (`streamed`), the next panel is fetched ahead."""
    cdef Tile t
    cdef real bias_edge[NR]
    cdef Py_ssize_t n = 0, width
    cdef real* c
    cdef real* here             # where the strip is computed: in C or beside it
    cdef const real* y
    cdef int nv
    cdef bint partial, activates, adds_bias = p.bias != NULL and (last if WITH_BF16 else first)
    t.k = operands_of(p.k)
    t.a_row = p.a_row
    t.a_run = p.a_run
    t.a_panel = p.a_panel
    t.y_row = p.c_row
    t.packed = p.packed
    t.start = FROM_C if not first else FROM_BIAS if p.bias != NULL and not WITH_BF16 else FROM_ZERO
    t.finish = STORE
    if last and p.activation == ACT_RELU:
        t.finish = STORE_RELU if p.y == NULL else STORE_RELU_BACKWARD
    activates = last and not finishes_in_registers(p.activation)
    while n < p.n:
        width = p.n - n
        nv = NV if width > VL else 1
        width = min(width, <Py_ssize_t>nv * VL)
        t.a = p.a
        partial = p.exact and width < nv * VL
        if WITH_BF16 and not p.b_operands:
            pack_columns(t.packed, p.b + n // NR * p.b_panel, p.b_row, p.k, width)
            t.b = t.packed
            t.b_row = NR
        elif partial and p.b_row != NR and not WITH_BF16:
            pack_panel(t.packed, p.b + n, p.b_row, False, t.k, width)
            t.b = t.packed
            t.b_row = NR
        else:
            t.b = p.b + n // NR * p.b_panel
            t.b_row = p.b_row
        t.bias = NULL
        if adds_bias:
            t.bias = p.bias + n
            if partial:
                copy_tile(bias_edge, NR, p.bias + n, 0, 1, width)
                t.bias = bias_edge
        t.walk = PANELS if p.a_run == RUN and t.b_row == NR else UNPACKED
        if t.b_row != NR and nv == NV and p.m >= (PACK_ROWS if p.exact else PACK_PADDED_ROWS):
            t.walk = PACKING
        t.next = t.b + p.b_panel if streamed and n + NR < p.n and (p.b_operands or not WITH_BF16) else NULL
        t.next_row = t.b_row
        c = p.c + n // NR * p.c_panel
        y = p.y + n // NR * p.c_panel if p.y != NULL else NULL
        here = c
        t.c_row = p.c_row
        if partial:
            here = p.edge
            t.c_row = NR
            if not first:
                copy_tile(p.edge, NR, c, p.c_row, p.m, width)
        t.c = here
        t.y = y
        strip(&t, p.m, nv)
        if activates:
            if y == NULL:
                activate(p.activation, p.alpha, here, t.c_row, p.m, nv)
            else:
                activate_backward(p.activation, p.alpha, here, t.c_row, y, t.y_row, p.m, nv)
        if partial:
            copy_tile(c, p.c_row, p.edge, NR, p.m, width)
        n += width


cdef void gemm(Product* p) noexcept nogil:
    """C = f(bias + A B), or (A B) f'(y) where y is given; p is used up."""
    cdef Py_ssize_t m = p.m, k = p.k, a_row = p.a_row, a_run = p.a_run, a_panel = p.a_panel, b_row = p.b_row
    cdef const real* a = p.a
    cdef const real* b = p.b
    cdef const real* y = p.y
    cdef real* c = p.c
    cdef Py_ssize_t m_blocks = (p.m + MC - 1) // MC, k_blocks = max(1, (p.k + KC * TERMS - 1) // (KC * TERMS))
    cdef Py_ssize_t k_unit = RUN * TERMS, k_units = (p.k + k_unit - 1) // k_unit, mb, kb, m0, k0
    cdef bint streamed = p.k * p.n > (CACHED if p.m > 2 * MR else STREAMED)
    if is_one_column(p) and not WITH_BF16:
        one_column(p)
        return
    if is_one_row(p) and p.b_panel == NR and not WITH_BF16:
        one_row(p)
        return
    if is_one_row(p) and not p.exact and not WITH_BF16:
        one_row_of_panels(p)
        return
    for kb in range(k_blocks):
        k0 = share(k_units, kb, k_blocks) * k_unit
        p.k = min(k, share(k_units, kb + 1, k_blocks) * k_unit) - k0
        p.b = b + (k0 // TERMS if p.b_operands else k0) * b_row
        if p.b_block != NULL and not WITH_BF16:
            p.b_panel = p.k * NR
            pack(p.b_block, p.b_panel, p.b, b_row, p.k, p.n)
            p.b = p.b_block
            p.b_row = NR
        for mb in range(m_blocks):
            m0 = share(m, mb, m_blocks)
            p.m = share(m, mb + 1, m_blocks) - m0
            if WITH_BF16:
                p.a_panel = (p.m | 1) * RUN
                pack_rows(p.a_block, p.a_panel, a + m0 * a_row + (k0 if a_run == ENDLESS else k0 // NR * a_panel), a_row,
                          NR if a_run == ENDLESS else a_panel, p.m, p.k)
                p.a = p.a_block
                p.a_row = p.a_run = RUN
            elif p.a_block != NULL:
                p.a_panel = (p.m | 1) * NR
                pack(p.a_block, p.a_panel, a + m0 * a_row + k0, a_row, p.m, p.k)
                p.a = p.a_block
                p.a_row = p.a_run = NR
            else:
                p.a = a + m0 * a_row + (k0 if p.a_run == ENDLESS else k0 // NR * p.a_panel)
            p.c = c + m0 * p.c_row
            if y != NULL:
                p.y = y + m0 * p.c_row
            multiply_block(p, kb == 0, kb == k_blocks - 1, streamed)
