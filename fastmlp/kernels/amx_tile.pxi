# The tile of AMX, in the place of the register tile: 32 x NR elements of C = A B in four tiles of 16 x 16.
#
# A is in rows of 16 operands, span after span, so that 16 rows of a span are a tile; and so are 16 rows of half a panel
# of B. Rows of C that do not exist are computed from whatever comes after A, and not stored. The sums go through
# a buffer in the first-level cache, from which they are finished like those of the register tile. What is an operand, and
# of what type the sums are, does not matter to multiply_tiles: int8.pxi has it multiply bytes.

cdef extern from "amx.h" nogil:
    enum:
        TILE_ROWS
        TILE_COLUMNS
    void enter_tiles(bint used)
    void leave_tiles(bint used)
    void tile_zero(int tile)
    void tile_load(int tile, const real* p, Py_ssize_t row)
    void tile_store(int tile, real* p, Py_ssize_t row)
    void tile_multiply(int c, int a, int b)


cdef inline void multiply_tiles(int mt, int nt, const Tile* t, const real* c, Py_ssize_t c_row, real* sums,
                                Py_ssize_t row) noexcept nogil:
    """sums = A B, or c + A B, of mt x nt tiles, both constants at every call: 0 1 of the first rows, 2 3 of the others."""
    cdef const real* a = t.a
    cdef const real* b = t.b
    cdef Py_ssize_t span
    if t.start == FROM_C:
        tile_load(0, c, c_row)
        if nt > 1:
            tile_load(1, c + TILE_COLUMNS, c_row)
        if mt > 1:
            tile_load(2, c + TILE_ROWS * c_row, c_row)
        if mt > 1 and nt > 1:
            tile_load(3, c + TILE_ROWS * c_row + TILE_COLUMNS, c_row)
    else:
        tile_zero(0)
        tile_zero(1)
        tile_zero(2)
        tile_zero(3)
    for span in range(t.k // TILE_ROWS):
        tile_load(4, a, TILE_COLUMNS)
        tile_load(6, b, NR)
        tile_multiply(0, 4, 6)
        if nt > 1:
            tile_load(7, b + TILE_COLUMNS, NR)
            tile_multiply(1, 4, 7)
        if mt > 1:
            tile_load(5, a + TILE_ROWS * TILE_COLUMNS, TILE_COLUMNS)
            tile_multiply(2, 5, 6)
        if mt > 1 and nt > 1:
            tile_multiply(3, 5, 7)
        a += t.a_panel
        b += TILE_ROWS * NR
    tile_store(0, sums, row)
    if nt > 1:
        tile_store(1, sums + TILE_COLUMNS, row)
    if mt > 1:
        tile_store(2, sums + TILE_ROWS * row, row)
    if mt > 1 and nt > 1:
        tile_store(3, sums + TILE_ROWS * row + TILE_COLUMNS, row)


cdef inline void finish_rows_of_tiles(int nv, Walk walk, const Tile* t, const real* sums, Py_ssize_t rows) noexcept nogil:
    cdef vec acc[12][NV]
    cdef Py_ssize_t i
    for i in range(rows):
        finish_tile(1, nv, walk, t, acc, sums + i * NR, t.c + i * t.c_row, t.y + i * t.y_row)


cdef inline void prefetch_results(const Tile* t, Py_ssize_t rows) noexcept nogil:
    """What the sums of these rows will meet."""
    cdef Py_ssize_t i
    for i in range(rows):
        vprefetch(t.c + i * t.c_row)
        vprefetch(t.c + i * t.c_row + NR - 1)
        if t.finish == STORE_RELU_BACKWARD:
            vprefetch_soon(t.y + i * t.y_row)
            vprefetch_soon(t.y + i * t.y_row + NR - 1)
        if t.finish == UPDATE and slots_of(t.optimizer.rule) > 0:
            vprefetch(t.c + t.optimizer.slot[0] + i * t.c_row)
            vprefetch(t.c + t.optimizer.slot[0] + i * t.c_row + NR - 1)


cdef void strip_of_tiles(Tile* t, Py_ssize_t m, int nv) noexcept nogil:
    """strip, of packed A and B; t is used up."""
    cdef real space[2 * TILE_ROWS * NR + LINE]
    cdef real* buffer = to_line(space)
    cdef real* sums
    cdef const real* c
    cdef Py_ssize_t rows, c_row, row
    cdef bint whole, as_they_are
    while m > 0:
        rows = min(m, <Py_ssize_t>(2 * TILE_ROWS))
        whole = rows % TILE_ROWS == 0
        as_they_are = whole and t.finish == STORE and t.bias == NULL
        prefetch_results(t, rows)
        c, c_row = t.c, t.c_row
        if not whole and t.start == FROM_C:
            copy_tile(buffer, NR, t.c, t.c_row, rows, nv * VL)
            c, c_row = buffer, NR
        sums, row = t.c if as_they_are else buffer, t.c_row if as_they_are else NR
        if rows > TILE_ROWS:
            if nv == NV: multiply_tiles(2, NV, t, c, c_row, sums, row)
            else: multiply_tiles(2, 1, t, c, c_row, sums, row)
        else:
            if nv == NV: multiply_tiles(1, NV, t, c, c_row, sums, row)
            else: multiply_tiles(1, 1, t, c, c_row, sums, row)
        if not as_they_are:
            if t.walk == GRADIENT:
                if nv == NV: finish_rows_of_tiles(NV, GRADIENT, t, buffer, rows)
                else: finish_rows_of_tiles(1, GRADIENT, t, buffer, rows)
            else:
                if nv == NV: finish_rows_of_tiles(NV, PANELS, t, buffer, rows)
                else: finish_rows_of_tiles(1, PANELS, t, buffer, rows)
        t.a += rows * RUN
        t.c += rows * t.c_row
        t.y += rows * t.y_row
        m -= rows
