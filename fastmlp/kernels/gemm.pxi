# Matrix products on row-major operands, and what is fused into their last step.
#
#   gemm            C = f(bias + A B)  or  (A B) f'(y)       forward; backward to the data
#   gemm_gradient   G = A^T D, whose tiles end in the update rule
#
# Every element of a product is one chain of FMAs in the order of the summation index, whatever the
# tile, the blocking or the vector width: that is what makes results the same to the bit everywhere.
#
# Loops, outside in (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008):
# blocks of MC x KC of A stay in the second-level cache, panels of KC x NR of B in the first, and a
# tile of MR x NR of C in the registers. A is read one broadcast at a time, B and C in full vectors.
#
# A matrix is `plain` (row by row) or in `panels` of NR columns, each panel row by row: what the kernels
# make for themselves is in panels, so that every loop below walks through memory in one direction.

cdef enum Start:                # what the accumulators hold before the first product
    FROM_ZERO
    FROM_BIAS                   # bias[n], the same for every row
    FROM_C                      # the partial sums an earlier block left in C

cdef enum Finish:               # what happens to the accumulators after the last product
    STORE
    STORE_RELU                  # max(c, 0)
    STORE_RELU_BACKWARD         # c where y > 0, else 0
    UPDATE                      # a step of the parameters in C, of which the accumulators are the gradient

cdef enum Walk:                 # how the tile's loop steps through A and B: distances it knows are part of its addresses
    PANELS                      # A along its rows, in panels, and B in panels
    PANELS_AHEAD                # the same, and fetches rows of the next panel of B
    PLAIN                       # A along its rows, A or B plain
    PLAIN_AHEAD                 # the same, and fetches rows of the next panel of B
    PACKING                     # the same, and lays this panel down, for the tiles below
    GRADIENT                    # A down its columns, both in panels

cdef struct Tile:
    Walk walk
    Py_ssize_t k                # length of the sum
    const real* a               # a[i a_row + k], or a[i + k NR] for a gradient, broadcast over the lanes; after
    Py_ssize_t a_row            # every a_run steps of k it goes on a_panel after where the run began
    Py_ssize_t a_run
    Py_ssize_t a_panel
    const real* b               # b[k b_row + lane]
    Py_ssize_t b_row
    real* packed                # packed[k NR + lane], where B is laid down
    real* c                     # c[i c_row + lane]
    Py_ssize_t c_row
    const real* bias            # bias[lane]
    const real* y               # y[i y_row + lane], the layer's outputs
    Py_ssize_t y_row
    const real* next            # rows of B's next panel, next_row apart, or NULL: this tile fetches those up to
    Py_ssize_t next_row         # next_tile, next_rows a round of its loop, and the tile below goes on
    Py_ssize_t next_rows
    Py_ssize_t next_tile
    Start start
    Finish finish
    const Optimizer* optimizer  # of an update


cdef inline void multiply_add(int mr, int nv, vec acc[12][NV], const real** a, int reach, Py_ssize_t a_row,
                              Py_ssize_t at, const real* b) noexcept nogil:
    """One step of k: acc += a b[:nv VL]. Row i of A is at a[i // reach] + i % reach a_row + at."""
    cdef vec column[NV]
    cdef vec factor
    cdef int i, j
    for j in range(nv):
        column[j] = vload(b + j * VL)
    for i in range(mr):
        factor = vbroadcast(a[i // reach] + i % reach * a_row + at)
        for j in range(nv):
            vaccumulate(acc[i][j], factor, column[j])


cdef inline void copy_row(real* panel, const real* b) noexcept nogil:
    cdef int j
    for j in range(NV):
        vstore(panel + j * VL, vload(b + j * VL))


cdef inline void tile(int mr, int nv, Walk walk, const Tile* t) noexcept nogil:
    """c[mr, nv VL] = finish(start + sum_k a[:, k] b[k, :]). mr, nv and walk are constants at every call,
    so the loops over them unroll and `acc` lives in registers."""
    cdef vec acc[12][NV]
    cdef vec b[NV]
    cdef vec a = vzero()
    cdef const real* pa[4]      # where the run begins: a pointer for `reach` rows
    cdef const real* qa[4]      # and where it is
    cdef const real* pb = t.b
    cdef const real* next = t.next
    cdef const real* stop
    cdef real* packed = t.packed
    cdef const real* y = t.y
    cdef bint plain = walk == PLAIN or walk == PLAIN_AHEAD or walk == PACKING
    cdef bint ahead = walk == PLAIN_AHEAD or walk == PANELS_AHEAD
    cdef const real* next_end = t.next + t.next_tile if ahead else NULL
    cdef Py_ssize_t a_row = t.a_row if plain else 1 if walk == GRADIENT else NR
    cdef Py_ssize_t a_k = NR if walk == GRADIENT else 1, b_row = t.b_row if plain else NR
    cdef Py_ssize_t c_row = t.c_row, y_row = t.y_row
    cdef Py_ssize_t r, run = t.a_run, left = t.k // UNROLL * UNROLL
    cdef real* c = t.c
    cdef int i, j, u, reach = 3 if plain else mr        # an x86 address is a base and 0, 1 or 2 distances

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
                acc[i][j] = a

    for i from 0 <= i < mr by reach:
        pa[i // reach] = t.a + i * a_row
    while left > 0:
        run = left if walk == GRADIENT else min(left, t.a_run)
        left -= run
        if walk != GRADIENT:
            for i in range(mr):         # the next run begins on other pages, where no hardware looks ahead
                vprefetch_soon(pa[i // reach] + i % reach * a_row + t.a_panel)
        for i from 0 <= i < mr by reach:
            qa[i // reach] = pa[i // reach]
            pa[i // reach] += t.a_panel
        stop = pb + run * b_row
        while pb != stop:
            if ahead and next != next_end:
                for r in range(t.next_rows):
                    for j from 0 <= j < NR by LINE:
                        vprefetch_read(next + j)
                    next += t.next_row
            for u in range(UNROLL):
                if walk == PACKING:
                    copy_row(packed + u * NR, pb + u * b_row)
                multiply_add(mr, nv, acc, qa, reach, a_row, u * a_k, pb + u * b_row)
            for i from 0 <= i < mr by reach:
                qa[i // reach] += UNROLL * a_k
            pb += UNROLL * b_row
            packed += UNROLL * NR
    if t.k % UNROLL:
        if run == t.a_run:              # the last run was whole, or there was none
            for i from 0 <= i < mr by reach:
                qa[i // reach] = pa[i // reach]
        for u in range(t.k % UNROLL):
            if walk == PACKING:
                copy_row(packed + u * NR, pb)
            multiply_add(mr, nv, acc, qa, reach, a_row, 0, pb)
            for i from 0 <= i < mr by reach:
                qa[i // reach] += a_k
            pb += b_row

    a = vzero()
    c = launder(c)
    if t.finish == STORE:
        for i in range(mr):
            for j in range(nv):
                vstore(c + i * c_row + j * VL, acc[i][j])
    elif walk != GRADIENT and t.finish == STORE_RELU:
        for i in range(mr):
            for j in range(nv):
                vstore(c + i * c_row + j * VL, positive_part(acc[i][j], a))
    elif walk != GRADIENT and t.finish == STORE_RELU_BACKWARD:
        for i in range(mr):
            for j in range(nv):
                vstore(c + i * c_row + j * VL, where_positive(acc[i][j], vload(y + i * y_row + j * VL), a))
    elif walk == GRADIENT and t.finish == UPDATE:
        update_tile(mr, nv, acc, t.optimizer, c, c_row)


cdef inline void tiles(int mr, int nv, Walk walk, Tile* t, Py_ssize_t n) noexcept nogil:
    """n tiles below each other; t moves on to the next rows."""
    cdef Py_ssize_t i, j
    for i in range(n):
        for j in range(mr, 2 * mr):     # the next tile's part of C; of a large product, in no near cache, all of it
            vprefetch(t.c + j * t.c_row)
            if walk == PANELS_AHEAD:
                vprefetch(t.c + j * t.c_row + NR - 1)
                if t.finish == STORE_RELU_BACKWARD:
                    vprefetch_soon(t.y + j * t.y_row)
                    vprefetch_soon(t.y + j * t.y_row + NR - 1)
        if walk == GRADIENT and t.finish == UPDATE and slots_of(t.optimizer.rule) > 0:
            for j in range(mr, 2 * mr):     # parameters and state together outrun the hardware: every line
                vprefetch(t.c + j * t.c_row + NR - 1)
                vprefetch(t.c + t.optimizer.slot[0] + j * t.c_row)
                vprefetch(t.c + t.optimizer.slot[0] + j * t.c_row + NR - 1)
        tile(mr, nv, walk, t)
        if walk == PANELS_AHEAD or walk == PLAIN_AHEAD:
            t.next += t.next_tile
        t.a += mr * t.a_row
        t.c += mr * t.c_row
        t.y += mr * t.y_row


cdef inline void tiles_of(int mr, int nv, Walk walk, Tile* t, Py_ssize_t n) noexcept nogil:
    """tiles, of any height up to MR."""
    if mr == 1: tiles(1, nv, walk, t, n)
    elif mr == 2: tiles(2, nv, walk, t, n)
    elif mr == 3: tiles(3, nv, walk, t, n)
    elif mr == 4: tiles(4, nv, walk, t, n)
    elif mr == 5: tiles(5, nv, walk, t, n)
    elif mr == 6: tiles(6, nv, walk, t, n)
    elif MR > 6 and mr == 7: tiles(7, nv, walk, t, n)
    elif MR > 6 and mr == 8: tiles(8, nv, walk, t, n)
    elif MR > 8 and mr == 9: tiles(9, nv, walk, t, n)
    elif MR > 8 and mr == 10: tiles(10, nv, walk, t, n)
    elif MR > 8 and mr == 11: tiles(11, nv, walk, t, n)
    elif MR > 8 and mr == 12: tiles(12, nv, walk, t, n)


# One function for every width and walk.
ctypedef void (*Tiles)(int mr, Tile* t, Py_ssize_t n) noexcept nogil

cdef void tiles_panels(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, NV, PANELS, t, n)
cdef void tiles_panels_1(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, 1, PANELS, t, n)
cdef void tiles_panels_ahead(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, NV, PANELS_AHEAD, t, n)
cdef void tiles_plain(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, NV, PLAIN, t, n)
cdef void tiles_plain_1(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, 1, PLAIN, t, n)
cdef void tiles_plain_ahead(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, NV, PLAIN_AHEAD, t, n)
cdef void tiles_packing(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, NV, PACKING, t, n)
cdef void tiles_gradient(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, NV, GRADIENT, t, n)
cdef void tiles_gradient_1(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, 1, GRADIENT, t, n)


cdef void strip(Tile* t, Py_ssize_t m, int nv) noexcept nogil:
    """m rows of nv vectors, 1 or NV, in tiles as even as they can be. t is used up: a copy would wait until all that
    was just written to it has left the store queue, and the products before it with that."""
    cdef Tiles run
    cdef Py_ssize_t n = (m + MR - 1) // MR, rows = m // n, larger = m % n, i
    for i in range(rows + (larger > 0)):
        vprefetch(t.c + i * t.c_row)
    if t.walk == PACKING:
        tiles_packing(rows + (larger > 0), t, 1)
        n -= 1
        larger = max(0, larger - 1)
        t.b = t.packed
        t.b_row = NR
        t.walk = PANELS if t.a_run == NR else PLAIN
    if t.next != NULL and n > 0:        # all of it between them
        t.next_rows = (UNROLL + n - 1) // n
        t.next_tile = (t.k + n * t.next_rows - 1) // (n * t.next_rows) * t.next_rows * t.next_row
    if t.walk == PANELS:
        run = tiles_panels_ahead if t.next != NULL else tiles_panels if nv == NV else tiles_panels_1
    elif t.walk == PLAIN:
        run = tiles_plain_ahead if t.next != NULL else tiles_plain if nv == NV else tiles_plain_1
    else:
        run = tiles_gradient if nv == NV else tiles_gradient_1
    if larger:
        run(rows + 1, t, larger)
    run(rows, t, n - larger)


cdef inline Py_ssize_t share(Py_ssize_t n, Py_ssize_t part, Py_ssize_t parts) noexcept nogil:
    """Where part begins when n things are dealt evenly to `parts`."""
    return n // parts * part + min(part, n % parts)


cdef inline real* to_line(void* start) noexcept nogil:
    """The first cache line that begins at `start` or after it: vectors that begin elsewhere cross lines."""
    return <real*>((<size_t>start + 63) & ~<size_t>63)


cdef inline Py_ssize_t panels(Py_ssize_t n) noexcept nogil:
    """n columns in whole panels."""
    return (n + NR - 1) // NR * NR


# ---------------------------------------------------------------------------------------------------

cdef enum:
    ENDLESS = 1 << 30           # the run of a plain matrix

cdef struct Product:
    Py_ssize_t m, n, k
    const real* a               # (m, k), plain, or in panels a_panel apart where a_run is NR
    Py_ssize_t a_row
    Py_ssize_t a_run
    Py_ssize_t a_panel
    const real* b               # (k, n): panels b_panel apart (NR: plain)
    Py_ssize_t b_row
    Py_ssize_t b_panel
    real* c                     # (m, n): panels c_panel apart (NR: plain)
    Py_ssize_t c_row
    Py_ssize_t c_panel
    const real* bias            # (n,), or NULL for zeros
    int activation              # forward: c = f(c); with y: c = c f'(y)
    real alpha
    const real* y               # (m, n) like c, or NULL
    bint exact                  # rows of a plain b, of c and the bias end with their last element; else whole
                                # vectors can be read and written
    real* a_block               # scratch for block after block of a plain a, (MC | 1) KC reals, and of a plain b,
    real* b_block               # KC panels(n) reals, in panels; or NULL: it is used as it is
    real* packed                # scratch for a panel of a plain b: min(k, KC) NR reals where it is packed or exact
    real* edge                  # and for a strip of c whose last columns do not exist: min(m, MC) NR reals if exact


cdef void copy_tile(real* c, Py_ssize_t c_row, const real* a, Py_ssize_t a_row,
                    Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j
    for i in range(m):
        for j in range(n):
            c[i * c_row + j] = a[i * a_row + j]


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
    elif n == NR:
        for i in range(k):
            for j from 0 <= j < NR by LINE:     # what `pack` comes to soon: further on in the same rows
                vprefetch_soon(b + i * b_row + 4 * NR + j)
            copy_row(panel + i * NR, b + i * b_row)
    else:
        copy_tile(panel, NR, b, b_row, k, n)
    clear_columns(panel, k, n)


cdef enum:
    ROWS_AT_ONCE = 16           # between plain and panels: few pages are open at once on either side


cdef void pack(real* y, Py_ssize_t panel, const real* x, Py_ssize_t x_row,
               Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """A plain (rows, n) matrix in panels."""
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
    """gemm for one row of A and a plain B, which is read once, row by row, as memory is fastest; C stays in the
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


cdef inline bint is_one_row(const Product* p) noexcept nogil:
    return p.m == 1 and (p.a_run == ENDLESS or p.a_panel == NR) and p.b_panel == NR and p.c_panel == NR and p.y == NULL


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
    cdef bint partial, activates
    t.k = p.k
    t.a_row = p.a_row
    t.a_run = p.a_run
    t.a_panel = p.a_panel
    t.y_row = p.c_row
    t.packed = p.packed
    t.start = FROM_C if not first else FROM_BIAS if p.bias != NULL else FROM_ZERO
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
        if partial and p.b_row != NR:
            pack_panel(t.packed, p.b + n, p.b_row, False, t.k, width)
            t.b = t.packed
            t.b_row = NR
        else:
            t.b = p.b + n // NR * p.b_panel
            t.b_row = p.b_row
        if t.start == FROM_BIAS:
            t.bias = p.bias + n
            if partial:
                copy_tile(bias_edge, NR, p.bias + n, 0, 1, width)
                t.bias = bias_edge
        t.walk = PANELS if p.a_run == NR and t.b_row == NR else PLAIN
        if t.b_row != NR and nv == NV and p.m >= (PACK_ROWS if p.exact else PACK_PADDED_ROWS):
            t.walk = PACKING
        t.next = t.b + p.b_panel if streamed and n + NR < p.n else NULL
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
    cdef Py_ssize_t m = p.m, k = p.k, a_row = p.a_row, b_row = p.b_row
    cdef const real* a = p.a
    cdef const real* b = p.b
    cdef const real* y = p.y
    cdef real* c = p.c
    cdef Py_ssize_t m_blocks = (p.m + MC - 1) // MC, k_blocks = max(1, (p.k + KC - 1) // KC)
    cdef Py_ssize_t k_panels = (p.k + NR - 1) // NR, mb, kb, m0, k0
    cdef bint streamed = p.k * p.n > (CACHED if p.m > 2 * MR else STREAMED)
    if is_one_row(p):
        one_row(p)
        return
    for kb in range(k_blocks):
        k0 = share(k_panels, kb, k_blocks) * NR
        p.k = min(k, share(k_panels, kb + 1, k_blocks) * NR) - k0
        p.b = b + k0 * b_row
        if p.b_block != NULL:
            p.b_panel = p.k * NR
            pack(p.b_block, p.b_panel, p.b, b_row, p.k, p.n)
            p.b = p.b_block
            p.b_row = NR
        for mb in range(m_blocks):
            m0 = share(m, mb, m_blocks)
            p.m = share(m, mb + 1, m_blocks) - m0
            if p.a_block != NULL:
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


# ---------------------------------------------------------------------------------------------------

cdef struct Gradient:
    Py_ssize_t rows             # length of the sum: the batch
    Py_ssize_t k0, k1           # the inputs of the layer that this call owns
    Py_ssize_t n                # its outputs
    const real* a               # (rows, k): inputs of the layer, in panels, or plain with a_block
    const real* d               # (rows, n): deltas, in panels
    Py_ssize_t panel            # from one panel of both to the next
    real* a_block               # scratch for block after block of a plain a in panels, panel MG / NR reals; or NULL
    Py_ssize_t a_row
    real* g                     # (k, n): gradient or parameters, as the optimizer says; panels g_panel apart
    Py_ssize_t g_row            # (NR: plain)
    Py_ssize_t g_panel
    bint g_padded               # rows of g can be written up to the next whole line
    real* block                 # scratch for the gradient of at most MG inputs and NR outputs
    real* chunk                 # another, where there are more than CHUNK rows
    real* square                # and of NR inputs and outputs


cdef inline void gradient_scratch(Gradient* p, real* scratch) noexcept nogil:
    """From SCRATCH reals that begin with a cache line."""
    p.block = scratch
    p.chunk = scratch + BLOCK
    p.square = scratch + 2 * BLOCK


cdef inline Py_ssize_t blocks_of(Py_ssize_t rows) noexcept nogil:
    """Blocks of at most KG rows that a chunk is summed in."""
    return max(1, (rows + KG - 1) // KG)


cdef void narrow_gradient(const Gradient* p, const real* a, Py_ssize_t k0, Py_ssize_t k1, Py_ssize_t n, Py_ssize_t width,
                          Py_ssize_t c0, Py_ssize_t rows, Tile* t, real* block) noexcept nogil:
    """block[k1 - k0, NR] = A[:, k0:k1]^T D[:, n:n + width], over `rows` rows from c0 on, for so few columns that lanes
    of their vectors would idle: D^T A, whose rows fill vectors, transposed. a is the panel of k0."""
    cdef real* g = p.square
    cdef Py_ssize_t k = k0, end, rb, r0, r_blocks = blocks_of(rows)
    t.c_row = NR
    t.finish = STORE
    while k < k1:
        end = min(k1, (k // NR + 1) * NR)
        for rb in range(r_blocks):
            r0 = c0 + share(rows, rb, r_blocks)
            t.k = c0 + share(rows, rb + 1, r_blocks) - r0
            t.a = p.d + r0 * NR + n // NR * p.panel
            t.b = a + r0 * NR
            t.c = g
            t.start = FROM_C if rb else FROM_ZERO
            strip(t, width, NV if end - k // NR * NR > VL else 1)
        transpose(block + (k - k0) * NR, NR, g + k % NR, NR, width, end - k)
        a += p.panel
        k = end


cdef void add_block(real* total, const real* block, Py_ssize_t n) noexcept nogil:
    """total += block, of n reals in whole vectors."""
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
    cdef Py_ssize_t k0, k1, k, end, rb, r0, r_blocks, c0, rows, n, width
    cdef const real* a
    cdef int nv
    cdef bint fused = p.rows <= KG and in_registers(optimizer), direct, narrow
    t.y = t.next = NULL
    t.packed = NULL
    t.y_row = 0
    t.walk = GRADIENT
    t.a_row = 1
    t.a_run = ENDLESS
    t.a_panel = 0
    t.optimizer = optimizer
    k0 = p.k0
    while k0 < p.k1:
        k1 = min(p.k1, (k0 // NR + MG // NR) * NR)
        if p.a_block != NULL:
            pack(p.a_block, p.panel, p.a + k0, p.a_row, p.rows, k1 - k0)
            a = p.a_block
        else:
            a = p.a + k0 // NR * p.panel
        n = 0
        while n < p.n:
            nv = NV if p.n - n > VL else 1
            width = min(p.n - n, <Py_ssize_t>nv * VL)
            narrow = p.rows >= VL and width * panels(k1 - k0) < nv * VL * (k1 - k0)
            direct = fused and not narrow and (p.g_padded or width == nv * VL)
            c0 = 0
            while c0 < p.rows or c0 == 0:
                rows = min(p.rows - c0, <Py_ssize_t>CHUNK)
                sums = block if c0 == 0 else p.chunk
                if narrow:
                    narrow_gradient(p, a, k0, k1, n, width, c0, rows, &t, sums)
                else:
                    r_blocks = blocks_of(rows)
                    for rb in range(r_blocks):
                        r0 = c0 + share(rows, rb, r_blocks)
                        t.k = c0 + share(rows, rb + 1, r_blocks) - r0
                        t.b = p.d + r0 * NR + n // NR * p.panel
                        t.start = FROM_C if rb else FROM_ZERO
                        t.finish = UPDATE if direct and optimizer.rule != RULE_GRADIENT else STORE
                        k = k0
                        while k < k1:
                            end = min(k1, (k // NR + 1) * NR)
                            t.a = a + r0 * NR + (k // NR - k0 // NR) * p.panel + k % NR
                            t.c = p.g + k * p.g_row + n // NR * p.g_panel if direct else sums + (k - k0) * NR
                            t.c_row = p.g_row if direct else NR
                            strip(&t, end - k, nv)
                            k = end
                if c0:
                    add_block(block, sums, (k1 - k0) * NR)
                c0 += CHUNK
            if not direct:
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
