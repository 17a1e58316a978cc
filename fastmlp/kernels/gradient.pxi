# gemm_gradient: G = A^T D, the gradient of the weights, whose tiles end in the update rule; and the gradient
# of the biases.

cdef struct Gradient:
    Py_ssize_t rows             # length of the sum: the batch
    Py_ssize_t k0, k1           # the inputs of the layer that this call owns
    Py_ssize_t n                # its outputs
    const real* a               # (rows, k): inputs of the layer, in panels, or unpacked with a_block
    const real* d               # (rows, n): deltas, in panels
    Py_ssize_t panel            # from one panel of both to the next
    real* a_block               # scratch for block after block of an unpacked a in panels, panel MG / NR reals; or NULL
    Py_ssize_t a_row            # of an unpacked a; in bfloat16 also NR of one in panels
    real* operands              # scratch in bfloat16, of gradient_operands
    real* g                     # (k, n): gradient or parameters, as the optimizer says; panels g_panel apart
    Py_ssize_t g_row            # (NR: unpacked)
    Py_ssize_t g_panel
    bint g_padded               # rows of g can be written up to the next whole line
    real* block                 # scratch for the gradient of at most MG inputs and NR outputs
    real* chunk                 # another, where there are more than CHUNK rows
    real* square                # and of NR inputs and outputs


cdef inline void gradient_scratch(Gradient* p, real* scratch) noexcept nogil:
    """From training_scratch reals that begin with a cache line."""
    p.block = scratch
    p.chunk = scratch + BLOCK
    p.square = scratch + 2 * BLOCK
    p.operands = scratch + SCRATCH


cdef inline Py_ssize_t training_scratch(Py_ssize_t rows) noexcept nogil:
    """Reals of scratch that a thread takes for batches of so many rows."""
    return max(SCRATCH + gradient_operands(rows), product_scratch(rows))


cdef inline Py_ssize_t blocks_of(Py_ssize_t rows) noexcept nogil:
    """Blocks of at most KG rows that a chunk is summed in."""
    return max(1, (rows + KG - 1) // KG)


cdef void narrow_gradient(const Gradient* p, const real* a, Py_ssize_t a_panel, const real* d, Py_ssize_t k0, Py_ssize_t k1,
                          Py_ssize_t width, Py_ssize_t c0, Py_ssize_t rows, Tile* t, real* block) noexcept nogil:
    """block[k1 - k0, NR] = A[:, k0:k1]^T D[:, :width], over `rows` rows from c0 on, for so few columns that lanes of
    their vectors would idle: D^T A, whose rows fill vectors, transposed. a is the panel of k0, d that of D."""
    cdef real* g = p.square
    cdef Py_ssize_t k = k0, end, rb, r0, r_blocks = blocks_of(rows)
    t.c_row = NR
    t.finish = STORE
    while k < k1:
        end = min(k1, (k // NR + 1) * NR)
        for rb in range(r_blocks):
            r0 = c0 + span_share(rows, rb, r_blocks)
            t.k = operands_of(c0 + span_share(rows, rb + 1, r_blocks) - r0)
            t.a = d + r0 // TERMS * NR
            t.b = a + r0 // TERMS * NR
            t.c = g
            t.start = FROM_C if rb else FROM_ZERO
            strip(t, width, NV if end - k // NR * NR > VL else 1)
        transpose(block + (k - k0) * NR, NR, g + k % NR, NR, width, end - k)
        a += a_panel
        k = end


cdef inline void column_panels(int count, real* g, const real* a, Py_ssize_t panel, const real* d,
                               Py_ssize_t rows) noexcept nogil:
    """g[count NR] = A^T d, of `count` panels of A, a constant at every call, and a column of D."""
    cdef vec acc[4][NV]
    cdef vec factor
    cdef Py_ssize_t r
    cdef int p, j
    for p in range(count):
        for j in range(NV):
            acc[p][j] = vset1(0)
    for r in range(rows):
        factor = vset1(d[r * NR])
        for p in range(count):
            for j in range(NV):
                acc[p][j] = vfma(factor, vload(a + p * panel + r * NR + j * VL), acc[p][j])
    for p in range(count):
        for j in range(NV):
            vstore(g + p * NR + j * VL, acc[p][j])


cdef void column_gradient(const Gradient* p, const real* a, Py_ssize_t k0, Py_ssize_t k1, Py_ssize_t n, Py_ssize_t c0,
                          Py_ssize_t rows, real* column) noexcept nogil:
    """narrow_gradient for one column, column[k1 - k0], panels of A side by side: they hide each other's latency."""
    cdef const real* d = p.d + c0 * NR + n // NR * p.panel
    cdef Py_ssize_t first = k0 // NR, last = panels(k1) // NR, q, k, count
    a += c0 * NR
    for q from first <= q < last by 4:
        count = min(last - q, <Py_ssize_t>4)
        if count == 4: column_panels(4, p.square, a, p.panel, d, rows)
        elif count == 3: column_panels(3, p.square, a, p.panel, d, rows)
        elif count == 2: column_panels(2, p.square, a, p.panel, d, rows)
        elif count == 1: column_panels(1, p.square, a, p.panel, d, rows)
        for k in range(max(k0, q * NR), min(k1, (q + count) * NR)):
            column[k - k0] = p.square[k - q * NR]
        a += 4 * p.panel


cdef enum:
    COLUMN = 32                 # rows of a column that are updated together


cdef void update_column(const Optimizer* optimizer, real* p, Py_ssize_t p_row, const real* g, Py_ssize_t m) noexcept nogil:
    """update of m rows of one column, whose gradient is a vector: in a vector too, where no lanes idle."""
    cdef Optimizer o = optimizer[0]
    cdef real space[(1 + MOST_SLOTS) * COLUMN]
    cdef Py_ssize_t i, rows
    cdef int slot, slots = slots_of(o.rule)
    for slot in range(slots):
        o.slot[slot] = (1 + slot) * COLUMN
    while m > 0:
        rows = min(m, <Py_ssize_t>COLUMN)
        for i in range(rows):
            space[i] = p[i * p_row]
        for slot in range(slots):
            for i in range(rows):
                space[(1 + slot) * COLUMN + i] = p[optimizer.slot[slot] + i * p_row]
        update(&o, space, rows, g, rows, 1, rows)
        for i in range(rows):
            p[i * p_row] = space[i]
        for slot in range(slots):
            for i in range(rows):
                p[optimizer.slot[slot] + i * p_row] = space[(1 + slot) * COLUMN + i]
        p += rows * p_row
        g += rows
        m -= rows


cdef void add_block(real* total, const real* block, Py_ssize_t n) noexcept nogil:
    """total += block, of n reals and those up to a whole vector."""
    cdef Py_ssize_t i
    for i from 0 <= i < n by VL:
        vstore(total + i, vload(total + i) + vload(block + i))


cdef void gemm_gradient(const Gradient* p, const Optimizer* optimizer) noexcept nogil:
    """G[k0:k1] = A[:, k0:k1]^T D, to which the update rule is applied while it is in the registers (a stored gradient,
    SGD with and without momentum) or in the first-level cache (every other rule). More than CHUNK rows are summed
    chunk by chunk: the error of a single chain would grow with its length."""
    cdef Tile t
    cdef real* block = p.block
    cdef real* sums             # of a chunk: there, or beside it
    cdef Py_ssize_t k0, k1, k, end, rb, r0, r_blocks, c0, rows, n, width, a_panel = p.panel, a_row = 1
    cdef const real* a
    cdef const real* d
    cdef real* d_operands = NULL
    cdef int nv
    cdef bint fused = p.rows <= KG and in_registers(optimizer), direct, narrow, column
    t.y = t.next = NULL
    t.packed = NULL
    t.y_row = 0
    t.walk = GRADIENT
    t.a_row = 1
    t.a_run = ENDLESS
    t.a_panel = 0
    t.bias = NULL
    t.optimizer = optimizer
    if WITH_BF16:
        a_panel = (operands_of(p.rows) | 1) * NR
        d_operands = to_line(p.operands)
        t.a_run = RUN
        t.a_panel = RUN * NR
        a_row = RUN if WITH_TILES else 1
    k0 = p.k0
    while k0 < p.k1:
        k1 = min(p.k1, (k0 // NR + MG // NR) * NR)
        if WITH_BF16:
            a = d_operands + a_panel
            for k from k0 // NR * NR <= k < k1 by NR:
                pack_factors(d_operands + (1 + k // NR - k0 // NR) * a_panel,
                             p.a + (k // NR * p.panel if p.a_row == NR else k), p.a_row, p.rows,
                             min(k1 - k, <Py_ssize_t>NR))
        elif p.a_block != NULL:
            pack(p.a_block, p.panel, p.a + k0, p.a_row, p.rows, k1 - k0)
            a = p.a_block
        else:
            a = p.a + k0 // NR * p.panel
        n = 0
        while n < p.n:
            nv = NV if p.n - n > VL else 1
            width = min(p.n - n, <Py_ssize_t>nv * VL)
            narrow = p.rows >= VL and not WITH_TILES and width * panels(k1 - k0) < nv * VL * (k1 - k0)
            column = narrow and width == 1 and not WITH_BF16
            direct = fused and not narrow and (p.g_padded or width == nv * VL)
            d = p.d + n // NR * p.panel
            if WITH_BF16:
                pack_columns(d_operands, d, NR, p.rows, width)
                d = d_operands
            c0 = 0
            while c0 < p.rows or c0 == 0:
                rows = min(p.rows - c0, <Py_ssize_t>CHUNK)
                sums = block if c0 == 0 else p.chunk
                if column:
                    column_gradient(p, a, k0, k1, n, c0, rows, sums)
                elif narrow:
                    narrow_gradient(p, a, a_panel, d, k0, k1, width, c0, rows, &t, sums)
                else:
                    r_blocks = blocks_of(rows)
                    for rb in range(r_blocks):
                        r0 = c0 + span_share(rows, rb, r_blocks)
                        t.k = operands_of(c0 + span_share(rows, rb + 1, r_blocks) - r0)
                        t.b = d + r0 // TERMS * NR
                        t.start = FROM_C if rb else FROM_ZERO
                        t.finish = UPDATE if direct and optimizer.rule != RULE_GRADIENT else STORE
                        k = k0
                        while k < k1:
                            end = min(k1, (k // NR + 1) * NR)
                            t.a = a + r0 // TERMS * NR + (k // NR - k0 // NR) * a_panel + k % NR * a_row
                            t.c = p.g + k * p.g_row + n // NR * p.g_panel if direct else sums + (k - k0) * NR
                            t.c_row = p.g_row if direct else NR
                            strip(&t, end - k, nv)
                            k = end
                if c0:
                    add_block(block, sums, (k1 - k0) * (1 if column else NR))
                c0 += CHUNK
            if column:
                update_column(optimizer, p.g + k0 * p.g_row + n // NR * p.g_panel, p.g_row, block, k1 - k0)
            elif not direct:
                update(optimizer, p.g + k0 * p.g_row + n // NR * p.g_panel, p.g_row, block, NR, k1 - k0,
                       nv * VL if p.g_padded and not narrow else width)
            n += width
        k0 = k1


cdef inline void sum_panels(int count, real* sums, const real* d, Py_ssize_t panel, Py_ssize_t rows) noexcept nogil:
    """Sums over the rows of the columns of `count` panels, a constant at every call: chunk by chunk, as the gradient."""
    cdef vec acc[4][NV]
    cdef Py_ssize_t r, r0 = 0, r1
    cdef int p, j
    for p in range(count):
        for j in range(NV):
            vstore(sums + p * NR + j * VL, vset1(0))
    while r0 < rows:
        r1 = min(rows, r0 + CHUNK)
        for p in range(count):
            for j in range(NV):
                acc[p][j] = vset1(0)
        for r in range(r0, r1):
            for p in range(count):
                for j in range(NV):
                    acc[p][j] = acc[p][j] + vload(d + p * panel + r * NR + j * VL)
        for p in range(count):
            for j in range(NV):
                vstore(sums + p * NR + j * VL, vload(sums + p * NR + j * VL) + acc[p][j])
        r0 = r1


cdef void bias_gradient(const real* d, Py_ssize_t panel, Py_ssize_t rows, Py_ssize_t n, real* b,
                        const Optimizer* optimizer) noexcept nogil:
    """The sum of d (rows, n), in panels, over its rows, to which the update rule is applied."""
    cdef real space[4 * NR + LINE]
    cdef real* sums = to_line(space)
    cdef Py_ssize_t width
    while n > 0:
        width = min(n, <Py_ssize_t>(4 * NR))
        if width > 3 * NR: sum_panels(4, sums, d, panel, rows)      # which hide each other's latency
        elif width > 2 * NR: sum_panels(3, sums, d, panel, rows)
        elif width > NR: sum_panels(2, sums, d, panel, rows)
        else: sum_panels(1, sums, d, panel, rows)
        update(optimizer, b, width, sums, width, 1, width)
        d += 4 * panel
        b += width
        n -= width
