# Inference: rows go through the network a block at a time.

cdef struct Inference:
    const Layer* layers
    int depth
    Table x
    char* out
    Py_ssize_t out_row          # bytes
    Py_ssize_t out_column
    Py_ssize_t width            # the widest layer, in whole panels
    Py_ssize_t block            # rows that go through the network together
    real* scratch               # for each thread 3 blocks of (block | 1) width reals, and width more
    int threads


cdef inline Py_ssize_t panel_of(const Inference* run) noexcept nogil:
    """From one panel of a block to the next."""
    return (run.block | 1) * NR


cdef inline Py_ssize_t scratch_of_thread(const Inference* run) noexcept nogil:
    return (3 * (run.block | 1) + 1) * run.width


cdef void infer_layer(const Inference* run, int l, real* y, Py_ssize_t panel, const real* x, Py_ssize_t x_row,
                      Py_ssize_t x_run, Py_ssize_t rows, real* deviation) noexcept nogil:
    """y = the outputs of layer l: in panels, or plain where panel is NR."""
    cdef const Layer* layer = run.layers + l
    cdef Py_ssize_t p
    dense(layer, layer.scale != NULL, layer.w, layer.row_out, NR, y, layer.row_out if panel == NR else NR, panel,
          x, x_row, x_run, 0 if x_run == ENDLESS else panel_of(run), rows)
    if layer.scale != NULL:
        running_deviation(layer, deviation)
        normalise_rows(layer, y, NULL, panel, layer.running_mean, deviation, rows)
        for p in range(panels(layer.n_out) // NR):
            map_array(layer.activation, y + p * panel, y + p * panel, rows * NR, layer.alpha)


cdef void infer(void* argument, int thread) noexcept nogil:
    """out = the last layer of every row, a block of rows at a time."""
    cdef Inference* run = <Inference*>argument
    cdef const Layer* top = run.layers + run.depth - 1
    cdef Py_ssize_t r = share(run.x.rows, thread, run.threads), end = share(run.x.rows, thread + 1, run.threads)
    cdef Py_ssize_t panel = panel_of(run), size = (run.block | 1) * run.width, rows, i, j
    cdef real* mine = run.scratch + thread * scratch_of_thread(run)
    cdef real* y
    cdef real* z = mine + 2 * size              # the logits; the outputs of the others change places
    cdef real* deviation = mine + 3 * size
    cdef bint in_place = is_real(&run.x) and run.x.column == sizeof(real) and run.x.row % <Py_ssize_t>sizeof(real) == 0
    cdef int l
    while r < end:
        rows = min(run.block, end - r)
        if not in_place:
            for i in range(rows):
                convert_row(mine + i * NR, NR, panel, &run.x, r + i, min(r + i + 1, end - 1))
        for l in range(run.depth):
            y = z if l == run.depth - 1 else mine + (1 - (l & 1)) * size
            if l == 0 and in_place:
                infer_layer(run, l, y, panel if y != z else NR, <const real*>(run.x.data + r * run.x.row),
                            run.x.row // <Py_ssize_t>sizeof(real), ENDLESS, rows, deviation)
            else:
                infer_layer(run, l, y, panel if y != z else NR, mine + (l & 1) * size, NR, NR, rows, deviation)
        for i in range(rows):
            for j in range(top.n_out):
                (<real*>(run.out + (r + i) * run.out_row + j * run.out_column))[0] = z[i * top.row_out + j]
        r += rows
