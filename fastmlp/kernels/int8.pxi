# Layers of 8-bit integers, for inference: y = f(x w + b), with w quantised when a predictor is made, x row by row here.
#
#   of a row     low = min(0, min_k x_k),  high = max(0, max_k x_k),  s = (high - low) / 255,  z = rint(-low / s)
#                q_k = rint(x_k / s + z), from 0 to 255: s (q_k - z) is x_k, to s / 2
#   of column j  s_j v_kj is w_kj, to s_j / 2, with v_kj from -127 to 127 (fastmlp/_core/int8.py)
#   so           y_j = f(s_j s sum_k (q_k - z) v_kj + b_j)
#
# The sum is exact, sum_k q_k v_kj - z sum_k v_kj in integers that wrap around: its terms may be added in any order,
# and every way of computing it has the same bits. fastmlp/backends/numpy/int8.py specifies where reals round.
#
# Quantised rows are in panels of 64 bytes, 16 operands of int8.h; weights in panels of NR columns, operand by operand.
# Both go on to whole rounds of the tile's loop: weights with zeros, so that it does not matter with what the rows do.
# 16 rows of a panel are a tile of AMX; and so are 16 operands of half a panel of weights, to which these go on then.

cdef extern from "int8.h" nogil:
    enum:
        WITH_INT8
        WIDENED
        DOT
        TILED
        HAS_TILED
        TILED_ROWS
        DOT_OFFSET
        DOT_SATURATES
        VECTORS_DOT
        VECTORS_WIDENED
        WIDENED_TERMS
        INT8_ROWS
    const char* INT8_NAME
    const char* TILED_NAME
    void vdot(int way, ivec c, ivec a, ivec b)
    ivec vinputs(const char* p)
    ivec vweights(int way, const int8_t* p)
    void vstore_inputs(int way, char* p, const ivec* q)
    vec vfrom_int(ivec a)
    real vlargest(vec a)

cdef enum:
    ROUND8 = 4                  # operands of a round of the tile's loop
    PANEL8 = 64                 # bytes of a row in a panel: 4 rounds


cdef inline Py_ssize_t terms8(int way) noexcept nogil:
    """Of an operand."""
    return WIDENED_TERMS if way == WIDENED else 4


cdef inline Py_ssize_t rounds8(int way, Py_ssize_t k) noexcept nogil:
    """Of the tile's loop, for k terms."""
    return (k + ROUND8 * terms8(way) - 1) // (ROUND8 * terms8(way))


cdef inline Py_ssize_t spans8(int way, Py_ssize_t k) noexcept nogil:
    """Panels of rows of k terms: spans of a tile."""
    return (rounds8(way, k) + 3) // 4


cdef inline Py_ssize_t weights_panel8(int way, Py_ssize_t k) noexcept nogil:
    """Bytes from one panel of weights to the next: an odd number of operands, for the sake of the cache sets."""
    cdef Py_ssize_t operands = spans8(way, k) * TILE_ROWS if way == TILED else rounds8(way, k) * ROUND8
    return (operands + 1) * NR * terms8(way)


cdef inline Py_ssize_t rows_nbytes8(int way, Py_ssize_t rows, Py_ssize_t k) noexcept nogil:
    """Of quantised rows in panels, then a scale and a zero point for each; and what the last tile reads after its rows."""
    return (spans8(way, k) * (rows | 1) * PANEL8 + rows * <Py_ssize_t>(sizeof(real) + sizeof(ireal)) + 64
            + (TILE_ROWS * PANEL8 if way == TILED else 0))


cdef void pack_weights8(int way, int8_t* w, ireal* sums, const int8_t* v, Py_ssize_t k, Py_ssize_t n) noexcept nogil:
    """w: an unpacked v (k, n) in panels; sums: of its columns. Both hold zeros."""
    cdef Py_ssize_t terms = terms8(way), panel = weights_panel8(way, k), i, j
    for i in range(k):
        for j in range(n):
            w[j // NR * panel + (i // terms * NR + j % NR) * terms + i % terms] = v[i * n + j]
            sums[j] += v[i * n + j]


cdef inline vec some_reals(const real* x, Py_ssize_t n, bint whole) noexcept nogil:
    """The first n of x, and zeros; where `whole`, a constant at every call, n is VL or more."""
    return vload(x) if whole else vload_part(x, n, 0)


cdef struct Range8:             # of a row: the largest of these lanes
    vec low[NV]
    vec high[NV]
    vec spoiled[NV]             # 0, or NaN where a lane has met NaN or infinity


cdef inline void take_in(Range8* found, const real* x, Py_ssize_t n, bint whole) noexcept nogil:
    cdef vec v
    cdef int j
    for j in range(NV):
        v = some_reals(x + j * VL, n - j * VL, whole)
        found.low[j] = vmin(v, found.low[j])
        found.high[j] = vmax(v, found.high[j])
        found.spoiled[j] = vfma(v, vset1(0), found.spoiled[j])


cdef inline void quantise_terms(int way, char* q, const real* x, Py_ssize_t x_panel, Py_ssize_t n, bint whole, vec inverse,
                                vec shift) noexcept nogil:
    """The first n of x, and zeros, as operands: of so many vectors as vstore_inputs takes. None is below 0: 0 is what the
    lowest number rounds to."""
    cdef ivec terms[VECTORS_DOT]
    cdef vec v
    cdef ireal offset = DOT_OFFSET if way == DOT else 0
    cdef int j
    for j in range(VECTORS_DOT if way == DOT else VECTORS_WIDENED):
        v = some_reals(x + j // NV * x_panel + j % NV * VL, n - j * VL, whole) * inverse + shift
        if way != DOT or not DOT_SATURATES:
            v = vmin(v, vset1(ROUND + <real>255))
        terms[j] = vsub_bits(vbits(v), vadd_bits(vbits(vset1(ROUND)), vset1_int(offset)))
    vstore_inputs(way, q, terms)


cdef inline void quantise_row(int way, char* q, Py_ssize_t q_panel, real* scale, ireal* zero, const real* x,
                              Py_ssize_t x_panel, Py_ssize_t k) noexcept nogil:
    """q, s and z of a row of k reals, in panels x_panel apart (NR: unpacked); q and z less what the instruction takes off.
    Of a row that is not finite s is NaN; of one so small that s would be subnormal it is 0, as for zeros."""
    cdef Range8 found
    cdef vec inverses, shift
    cdef int vectors = VECTORS_DOT if way == DOT else VECTORS_WIDENED
    cdef Py_ssize_t i, end = rounds8(way, k) * ROUND8 * terms8(way)
    cdef Py_ssize_t terms = vectors * VL, nbytes = terms * 4 // terms8(way)
    cdef real low, high, inverse = 0
    cdef const real* from_ = x
    cdef int j
    for j in range(NV):
        found.low[j] = found.high[j] = found.spoiled[j] = vset1(0)
    for i from 0 <= i <= k - NR by NR:
        take_in(&found, from_, NR, True)
        from_ += x_panel
    if k % NR:
        take_in(&found, from_, k % NR, False)
    for j in range(1, NV):
        found.low[0] = vmin(found.low[0], found.low[j])
        found.high[0] = vmax(found.high[0], found.high[j])
        found.spoiled[0] = found.spoiled[0] + found.spoiled[j]
    high = vlargest(vselect(vless(found.spoiled[0], vset1(1)), found.high[0], vset1(INFINITY)))
    low = -vlargest(-found.low[0])
    scale[0] = high / <real>255 - low / <real>255
    zero[0] = 0
    if not scale[0] > 0:
        scale[0] = 0
    elif scale[0] < INFINITY:
        inverse = <real>1 / scale[0]
        zero[0] = <ireal>(((-low) * inverse + ROUND) - ROUND)
    else:
        scale[0] = NAN
    inverses = vset1(inverse)
    shift = vset1(ROUND + <real>zero[0])
    for i from 0 <= i < end by terms:
        if i + terms <= k:
            quantise_terms(way, q, x, x_panel, terms, True, inverses, shift)
        else:
            quantise_terms(way, q, x, x_panel, k - i, False, inverses, shift)
        x += vectors // NV * x_panel
        q += nbytes
        if (i + terms) // terms * nbytes % PANEL8 == 0:     # the next panel
            q += q_panel - PANEL8
    zero[0] -= DOT_OFFSET if way == DOT else 0


cdef struct Tile8:
    Py_ssize_t rounds
    Py_ssize_t spans
    const char* q               # rows PANEL8 apart, panels q_panel
    Py_ssize_t q_panel
    const real* scale           # of every row
    const ireal* zero
    const int8_t* w             # one panel
    const real* column_scale
    const ireal* column_sum
    const real* bias
    real least                  # of an output: 0 for ReLU, or -infinity
    real* c
    Py_ssize_t c_row
    Py_ssize_t c_step           # from one vector of a row to the next; 0 where there is one: it is stored last


cdef inline void multiply_add8(int way, int mr, ivec acc[12][NV], int first, const char* q, const int8_t* w) noexcept nogil:
    """One operand of every row: acc[first:] += q w."""
    cdef ivec b[NV]
    cdef ivec a
    cdef int i, j
    for j in range(NV):
        b[j] = vweights(way, w + j * VL * terms8(way))
    for i in range(mr):
        a = vinputs(q + i * PANEL8)
        for j in range(NV):
            vdot(way, acc[first + i][j], a, b[j])


cdef struct Columns8:           # what a panel's sums meet
    ivec sum[NV]
    vec scale[NV]
    vec bias[NV]
    vec least


cdef inline Columns8 columns8(const Tile8* t) noexcept nogil:
    cdef Columns8 columns
    cdef int j
    columns.least = vset1(t.least)
    for j in range(NV):
        columns.sum[j] = vbits(vload(<const real*>t.column_sum + j * VL))
        columns.scale[j] = vload(t.column_scale + j * VL)
        columns.bias[j] = vload(t.bias + j * VL)
    return columns


cdef inline void finish8(const Tile8* t, Py_ssize_t i, int j, ivec sum, Columns8* columns, bint shifted) noexcept nogil:
    """Vector j of row i of c: ReLU or the activation's argument, of sum_k q_k v_kj. Not `shifted`, a constant at every
    call, is a row whose zero point is 0."""
    cdef vec z
    if shifted:
        sum = vsub_bits(sum, vmul32(vset1_int(t.zero[i]), columns.sum[j]))
    z = vfrom_int(sum) * columns.scale[j] * vset1(t.scale[i]) + columns.bias[j]
    vstore(t.c + i * t.c_row + j * t.c_step, vmax(columns.least, z))        # NaN stays what it is


cdef inline void next_rows8(Tile8* t, Py_ssize_t rows) noexcept nogil:
    t.q += rows * PANEL8
    t.scale += rows
    t.zero += rows
    t.c += rows * t.c_row


cdef inline void tile8(int way, int mr, int chains, Tile8* t) noexcept nogil:
    """c[mr, NR] = f(x w + b), and t moves on to the next rows. way, mr and chains are constants at every call. Few rows
    have several sums beside each other: they hide the latency of each other."""
    cdef ivec acc[12][NV]
    cdef ivec a = vbits(vzero())
    cdef Columns8 columns
    cdef Py_ssize_t left = t.rounds, run
    cdef const char* q = t.q
    cdef const int8_t* w = t.w
    cdef const int8_t* stop
    cdef int i, j
    for i in range(chains * mr):
        for j in range(NV):
            acc[i][j] = a
    while left > 0:
        run = min(left, <Py_ssize_t>(PANEL8 // 4 // ROUND8))
        left -= run
        stop = w + run * ROUND8 * NR * terms8(way)
        while w != stop:
            multiply_add8(way, mr, acc, 0, q, w)
            multiply_add8(way, mr, acc, 1 % chains * mr, q + 4, w + NR * terms8(way))
            multiply_add8(way, mr, acc, 2 % chains * mr, q + 8, w + 2 * NR * terms8(way))
            multiply_add8(way, mr, acc, 3 % chains * mr, q + 12, w + 3 * NR * terms8(way))
            w += ROUND8 * NR * terms8(way)
            q += 4 * ROUND8
        q += t.q_panel - 4 * ROUND8 * run
    for i in range(mr, chains * mr):
        for j in range(NV):
            acc[i % mr][j] = vadd_bits(acc[i % mr][j], acc[i][j])
    columns = columns8(t)
    for i in range(mr):
        for j in range(NV - 1, -1, -1):
            finish8(t, i, j, acc[i][j], &columns, True)
    next_rows8(t, mr)


cdef inline void strip8(int way, Tile8* t, Py_ssize_t m) noexcept nogil:
    """m rows, in the highest tiles that are left."""
    while MR >= 12 and m >= 12:
        tile8(way, 12, 1, t)
        m -= 12
    while MR >= 8 and m >= 8:
        tile8(way, 8, 1, t)
        m -= 8
    while MR == 6 and m >= 6:
        tile8(way, 6, 1, t)
        m -= 6
    while m >= 4:
        tile8(way, 4, 1, t)
        m -= 4
    while m >= 2:
        tile8(way, 2, 2, t)
        m -= 2
    if m > 0:
        tile8(way, 1, 4, t)


cdef inline void tiles8(int mt, int nt, const Tile* product, Tile8* t, real* sums, Py_ssize_t rows) noexcept nogil:
    """c[rows, nt VL] = f(x w + b), in mt x nt tiles, both constants at every call; and t moves on to the next rows."""
    cdef Columns8 columns = columns8(t)
    cdef Py_ssize_t i
    cdef int j
    multiply_tiles(mt, nt, product, NULL, 0, sums, NR)
    for i in range(rows):
        if t.zero[i] == 0:              # behind a ReLU: there is nothing to subtract
            for j in range(nt):
                finish8(t, i, j, vbits(vload(sums + i * NR + j * VL)), &columns, False)
        else:
            for j in range(nt):
                finish8(t, i, j, vbits(vload(sums + i * NR + j * VL)), &columns, True)
    next_rows8(t, rows)


cdef Py_ssize_t strip8_of_tiles(Tile8* t, Py_ssize_t m) noexcept nogil:
    """m rows, but for the last few; how many these are."""
    cdef real space[2 * TILE_ROWS * NR + LINE]
    cdef real* sums = to_line(space)
    cdef Tile product
    cdef Py_ssize_t rows
    product.start = FROM_ZERO
    product.k = t.spans * TILE_ROWS
    product.a_panel = t.q_panel // <Py_ssize_t>sizeof(real)
    product.b = <const real*>t.w
    while m >= TILED_ROWS:
        rows = min(m, <Py_ssize_t>(2 * TILE_ROWS))
        product.a = <const real*>t.q
        if rows > TILE_ROWS:
            if t.c_step: tiles8(2, NV, &product, t, sums, rows)
            else: tiles8(2, 1, &product, t, sums, rows)
        else:
            if t.c_step: tiles8(1, NV, &product, t, sums, rows)
            else: tiles8(1, 1, &product, t, sums, rows)
        m -= rows
    return m


cdef inline void layer8_as(int way, bint tiled, Py_ssize_t panel, const Layer* layer, real* y, Py_ssize_t y_row,
                           Py_ssize_t y_panel, const real* x, Py_ssize_t x_row, Py_ssize_t x_panel, Py_ssize_t rows,
                           char* scratch) noexcept nogil:
    """layer8, of weights in panels of so many bytes; where `tiled`, in tiles as far as there are rows for them."""
    cdef Py_ssize_t q_panel = (rows | 1) * PANEL8, n, i
    cdef char* q = <char*>to_line(scratch)
    cdef real* scale = <real*>(q + spans8(way, layer.n_in) * q_panel)
    cdef ireal* zero = <ireal*>(scale + rows)
    cdef Py_ssize_t left = rows
    cdef Tile8 t
    for i in range(rows):
        quantise_row(way, q + i * PANEL8, q_panel, scale + i, zero + i, x + i * x_row, x_panel, layer.n_in)
    t.rounds = rounds8(way, layer.n_in)
    t.spans = spans8(way, layer.n_in)
    t.q_panel = q_panel
    t.least = 0 if layer.activation == ACT_RELU else -INFINITY
    t.c_row = y_row
    for n from 0 <= n < layer.n_out by NR:
        t.q = q
        t.scale = scale
        t.zero = zero
        t.w = layer.w8 + n // NR * panel
        t.column_scale = layer.w8_scale + n
        t.column_sum = layer.w8_sum + n
        t.bias = layer.b + n
        t.c_step = VL if layer.n_out - n > VL else 0
        t.c = y + n // NR * y_panel
        if tiled:
            left = strip8_of_tiles(&t, rows)
        strip8(way, &t, left)
        if not finishes_in_registers(layer.activation):
            activate(layer.activation, layer.alpha, y + n // NR * y_panel, y_row, rows, NV if t.c_step else 1)


cdef void layer8(int way, const Layer* layer, real* y, Py_ssize_t y_row, Py_ssize_t y_panel, const real* x,
                 Py_ssize_t x_row, Py_ssize_t x_panel, Py_ssize_t rows, real* scratch) noexcept nogil:
    """y = f(x w + b); x and y in panels x_panel and y_panel apart (NR: unpacked). `scratch` is of rows_nbytes8."""
    cdef Py_ssize_t panel = weights_panel8(way, layer.n_in)
    if way == WIDENED:
        layer8_as(WIDENED, False, panel, layer, y, y_row, y_panel, x, x_row, x_panel, rows, <char*>scratch)
    elif INT8_NAME[0] != 0:
        layer8_as(DOT, HAS_TILED and way == TILED and rows >= TILED_ROWS, panel, layer, y, y_row, y_panel, x, x_row, x_panel,
                  rows, <char*>scratch)
