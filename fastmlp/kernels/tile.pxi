# The register tile: MR x NR elements of C = A B, and what is fused into their last step.
#
# Every element of a product is one chain of FMAs in the order of the summation index, whatever the
# tile, the blocking or the vector width: that is what makes results the same to the bit everywhere.
#
# A matrix is `unpacked` (row by row) or in `panels` of NR columns, each panel row by row: what the kernels
# make for themselves is in panels, so that every loop walks through memory in one direction.
#
# In bfloat16 (PARTS is 2) A and B are operands, see operands.pxi. An element is then the sum of its spans of SPAN
# terms, in their order, added to C; and each span the sum of two chains from zero, of its even and its odd terms.

cdef enum Start:                # what the accumulators hold before the first product
    FROM_ZERO
    FROM_BIAS                   # bias[n], the same for every row
    FROM_C                      # the partial sums an earlier block left in C

cdef enum Finish:               # what happens to the accumulators after the last product
    STORE
    STORE_RELU                  # max(c, 0)
    STORE_RELU_BACKWARD         # c where y > 0, else 0
    UPDATE                      # a step of the parameters in C, of which the accumulators are the gradient

cdef enum Walk:                 # how the tile's loop steps through A and B: constant distances are part of addresses
    PANELS                      # A along its rows, in panels, and B in panels
    PANELS_AHEAD                # the same, and fetches rows of the next panel of B
    UNPACKED                    # A along its rows, A or B unpacked
    UNPACKED_AHEAD              # the same, and fetches rows of the next panel of B
    PACKING                     # the same, and lays this panel down, for the tiles below
    GRADIENT                    # A down its columns, both in panels

cdef struct Tile:
    Walk walk
    Py_ssize_t k                # length of the sum, in operands
    const real* a               # a[i a_row + k], or a[i + k NR] for a gradient, broadcast over the lanes; after
    Py_ssize_t a_row            # every a_run steps of k it goes on a_panel after where the run began
    Py_ssize_t a_run
    Py_ssize_t a_panel
    const real* b               # b[k b_row + lane]
    Py_ssize_t b_row
    real* packed                # packed[k NR + lane], where B is laid down
    real* c                     # c[i c_row + lane]
    Py_ssize_t c_row
    const real* bias            # bias[lane], or NULL
    const real* y               # y[i y_row + lane], the layer's outputs
    Py_ssize_t y_row
    const real* next            # rows of B's next panel, next_row apart, or NULL: this tile fetches those up to
    Py_ssize_t next_row         # next_tile, next_rows a round of its loop, and the tile below goes on
    Py_ssize_t next_rows
    Py_ssize_t next_tile
    Start start
    Finish finish
    const Optimizer* optimizer  # of an update


cdef inline real* to_line(void* start) noexcept nogil:
    """The first cache line that begins at `start` or after it: vectors that begin elsewhere cross lines."""
    return <real*>((<size_t>start + 63) & ~<size_t>63)


cdef inline void multiply_add(int mr, int nv, vec acc[12][NV], int first, const real** a, int reach, Py_ssize_t a_row,
                              Py_ssize_t at, const real* b) noexcept nogil:
    """One step of k: acc[first:] += a b[:nv VL]. Row i of A is at a[i // reach] + i % reach a_row + at."""
    cdef vec column[NV]
    cdef vec factor
    cdef int i, j
    for j in range(nv):
        column[j] = vload(b + j * VL)
    for i in range(mr):
        factor = vbroadcast(a[i // reach] + i % reach * a_row + at)
        for j in range(nv):
            vaccumulate(acc[first + i][j], factor, column[j])


cdef inline void add_span(int mr, int nv, vec acc[12][NV], real* sums) noexcept nogil:
    """sums += even + odd terms of a span, whose chains begin anew."""
    cdef int i, j
    for i in range(mr):
        for j in range(nv):
            vstore(sums + i * NR + j * VL, vload(sums + i * NR + j * VL) + (acc[i][j] + acc[mr + i][j]))
            acc[i][j] = vzero()
            acc[mr + i][j] = vzero()


cdef inline void copy_row(real* panel, const real* b) noexcept nogil:
    cdef int j
    for j in range(NV):
        vstore(panel + j * VL, vload(b + j * VL))


cdef inline void finish_tile(int mr, int nv, Walk walk, const Tile* t, vec acc[12][NV], const real* sums, real* c,
                             const real* y) noexcept nogil:
    """c[mr, nv VL] = finish(acc), or in bfloat16 of sums, rows NR apart, and the bias."""
    cdef Py_ssize_t c_row = t.c_row, y_row = t.y_row
    cdef vec bias
    cdef vec zero = vzero()
    cdef int i, j
    c = launder(c)
    if WITH_BF16:
        for j in range(nv):
            bias = vload(t.bias + j * VL) if t.bias != NULL else vset1(-0.0)     # which adds nothing
            for i in range(mr):
                acc[i][j] = vload(sums + i * NR + j * VL) + bias
    if t.finish == STORE:
        for i in range(mr):
            for j in range(nv):
                vstore(c + i * c_row + j * VL, acc[i][j])
    elif walk != GRADIENT and t.finish == STORE_RELU:
        for i in range(mr):
            for j in range(nv):
                vstore(c + i * c_row + j * VL, positive_part(acc[i][j], zero))
    elif walk != GRADIENT and t.finish == STORE_RELU_BACKWARD:
        for i in range(mr):
            for j in range(nv):
                vstore(c + i * c_row + j * VL, where_positive(acc[i][j], vload(y + i * y_row + j * VL), zero))
    elif walk == GRADIENT and t.finish == UPDATE:
        update_tile(mr, nv, acc, t.optimizer, c, c_row)


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
    cdef bint unpacked = walk == UNPACKED or walk == UNPACKED_AHEAD or walk == PACKING
    cdef bint ahead = walk == UNPACKED_AHEAD or walk == PANELS_AHEAD
    cdef const real* next_end = t.next + t.next_tile if ahead else NULL
    cdef Py_ssize_t a_row = t.a_row if unpacked else 1 if walk == GRADIENT else RUN
    cdef Py_ssize_t a_k = NR if walk == GRADIENT else 1, b_row = t.b_row if unpacked else NR
    cdef Py_ssize_t c_row = t.c_row
    cdef Py_ssize_t r, run = t.a_run, left = t.k // UNROLL * UNROLL
    cdef real* c = t.c
    cdef int i, j, u, reach = 3 if unpacked else mr     # an x86 address is a base and 0, 1 or 2 distances
    cdef real space[6 * NR + LINE]
    cdef real* sums = launder(to_line(space)) if WITH_BF16 else NULL     # of spans; acc holds chains

    if WITH_BF16:
        for i in range(mr):
            for j in range(nv):
                vstore(sums + i * NR + j * VL, vload(c + i * c_row + j * VL) if t.start == FROM_C else a)
                acc[i][j] = a
                acc[mr + i][j] = a
    elif t.start == FROM_BIAS:
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
        run = left if walk == GRADIENT and not WITH_BF16 else min(left, t.a_run)
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
                multiply_add(mr, nv, acc, u % PARTS * mr, qa, reach, a_row, u * a_k, pb + u * b_row)
            for i from 0 <= i < mr by reach:
                qa[i // reach] += UNROLL * a_k
            pb += UNROLL * b_row
            packed += UNROLL * NR
        if WITH_BF16:
            add_span(mr, nv, acc, sums)
    if t.k % UNROLL and not WITH_BF16:              # operands are packed in whole rounds
        if run == t.a_run:              # the last run was whole, or there was none
            for i from 0 <= i < mr by reach:
                qa[i // reach] = pa[i // reach]
        for u in range(t.k % UNROLL):
            if walk == PACKING:
                copy_row(packed + u * NR, pb)
            multiply_add(mr, nv, acc, 0, qa, reach, a_row, 0, pb)
            for i from 0 <= i < mr by reach:
                qa[i // reach] += a_k
            pb += b_row

    finish_tile(mr, nv, walk, t, acc, sums, t.c, t.y)


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
        if walk == PANELS_AHEAD or walk == UNPACKED_AHEAD:
            t.next += t.next_tile
        t.a += mr * t.a_row
        t.c += mr * t.c_row
        t.y += mr * t.y_row


cdef inline void tiles_of(int mr, int nv, Walk walk, Tile* t, Py_ssize_t n) noexcept nogil:
    """tiles, of any height up to MR."""
    if mr == 1: tiles(1, nv, walk, t, n)
    elif mr == 2: tiles(2, nv, walk, t, n)
    elif mr == 3: tiles(3, nv, walk, t, n)
    elif MR > 3 and mr == 4: tiles(4, nv, walk, t, n)
    elif MR > 4 and mr == 5: tiles(5, nv, walk, t, n)
    elif MR > 4 and mr == 6: tiles(6, nv, walk, t, n)
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
cdef void tiles_unpacked(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, NV, UNPACKED, t, n)
cdef void tiles_unpacked_1(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, 1, UNPACKED, t, n)
cdef void tiles_unpacked_ahead(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, NV, UNPACKED_AHEAD, t, n)
cdef void tiles_packing(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, NV, PACKING, t, n)
cdef void tiles_gradient(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, NV, GRADIENT, t, n)
cdef void tiles_gradient_1(int mr, Tile* t, Py_ssize_t n) noexcept nogil: tiles_of(mr, 1, GRADIENT, t, n)


cdef void strip(Tile* t, Py_ssize_t m, int nv) noexcept nogil:
    """m rows of nv vectors, 1 or NV, in tiles as even as they can be. t is used up: a copy would wait until all that
    was just written to it has left the store queue, and the products before it with that."""
    cdef Tiles run
    cdef Py_ssize_t n = (m + MR - 1) // MR, rows = m // n, larger = m % n, i
    if WITH_TILES:
        strip_of_tiles(t, m, nv)
        return
    for i in range(rows + (larger > 0)):
        vprefetch(t.c + i * t.c_row)
    if t.walk == PACKING and not WITH_BF16:         # operands are in panels
        tiles_packing(rows + (larger > 0), t, 1)
        n -= 1
        larger = max(0, larger - 1)
        t.b = t.packed
        t.b_row = NR
        t.walk = PANELS if t.a_run == RUN else UNPACKED
    if t.next != NULL and n > 0:        # all of it between them
        t.next_rows = (UNROLL + n - 1) // n
        t.next_tile = (t.k + n * t.next_rows - 1) // (n * t.next_rows) * t.next_rows * t.next_row
    if t.walk == PANELS:
        run = tiles_panels_ahead if t.next != NULL else tiles_panels if nv == NV else tiles_panels_1
    elif t.walk == UNPACKED and not WITH_BF16:
        run = tiles_unpacked_ahead if t.next != NULL else tiles_unpacked if nv == NV else tiles_unpacked_1
    else:
        run = tiles_gradient if nv == NV else tiles_gradient_1
    if larger:
        run(rows + 1, t, larger)
    run(rows, t, n - larger)


cdef inline Py_ssize_t share(Py_ssize_t n, Py_ssize_t part, Py_ssize_t parts) noexcept nogil:
    """Where part begins when n things are dealt evenly to `parts`."""
    return n // parts * part + min(part, n % parts)


cdef inline Py_ssize_t panels(Py_ssize_t n) noexcept nogil:
    """n columns in whole panels."""
    return (n + NR - 1) // NR * NR
