# Inference: rows go through the network a block at a time.
#
# Threads share the rows. Of fewer rows than make a tile for each, they share the columns of every layer instead, and
# meet after it: then the weights, whose reading is what takes the time, are read once and not by every thread.

cdef enum Output:               # what is made of a row of the last layer's values
    OUT_VALUES                  # themselves
    OUT_SOFTMAX
    OUT_SIGMOID
    OUT_EXP
    OUT_LARGEST                 # index of the first of the largest, or of the first NaN; this and the next are intp
    OUT_POSITIVE                # 1 where above 0, else 0
    OUT_SIGN                    # 1 where above 0, else -1

cdef struct Inference:
    const Layer* layers
    int depth
    bint packed                 # w of the layers is in panels, and inv_std is that of inference
    int int8                    # what multiplies where it is 8-bit integers, WIDENED, DOT or TILED; else 0
    Table x                     # where samples are sparse, their shape alone
    SparseTable sparse          # then these are the samples; else its indptr is NULL
    Output output
    char* out
    Py_ssize_t out_row          # bytes
    Py_ssize_t out_column
    real** hidden               # for each layer but the last (rows, n_out), where its outputs are wanted, or NULL; or NULL
    Py_ssize_t width            # the widest layer, in whole panels
    Py_ssize_t block            # rows that go through the network together
    real* scratch               # see activations_nbytes and product_nbytes
    int threads
    bint shares_columns         # all rows are one block, in the scratch of one thread
    Barrier barrier


cdef inline Py_ssize_t panel_of(const Inference* run) noexcept nogil:
    """From one panel of a block to the next."""
    return (run.block | 1) * NR


cdef inline Py_ssize_t scratch_of_thread(const Inference* run) noexcept nogil:
    """Reals: 3 blocks of (block | 1) width, and width more."""
    return (3 * (run.block | 1) + 1) * run.width


cdef inline Py_ssize_t activations_nbytes(const Inference* run) noexcept nogil:
    return (1 if run.shares_columns else run.threads) * scratch_of_thread(run) * sizeof(real)


cdef inline Py_ssize_t product_nbytes(const Inference* run) noexcept nogil:
    """What a thread's products take to pack weights or to quantise rows, after the activations of all threads."""
    if WITH_INT8 and run.int8:
        return rows_nbytes8(run.int8, run.block, run.width) // 64 * 64 + 64
    if WITH_BF16:
        return product_scratch(run.block) * sizeof(real)
    return PANEL * sizeof(real) if run.block >= PACK_PADDED_ROWS and not run.packed else 0


cdef inline Layer columns_of(const Inference* run, const Layer* layer, Py_ssize_t n0, Py_ssize_t n1) noexcept nogil:
    """The layer with no other outputs, for inference; n0 begins a panel."""
    cdef Layer part = layer[0]
    part.n_out = n1 - n0
    part.b += n0
    if WITH_INT8 and run.int8:
        part.w8 += n0 // NR * weights_panel8(run.int8, layer.n_in)
        part.w8_scale += n0
        part.w8_sum += n0
        return part
    part.w += n0 // NR * operands_panel(layer.n_in) if run.packed else n0
    if part.scale != NULL:
        part.scale += n0
        part.running_mean += n0
        part.running_variance += n0
        if run.packed:
            part.inv_std += n0
    return part


cdef void infer_layer(const Inference* run, const Layer* layer, real* y, Py_ssize_t panel, const real* x, Py_ssize_t x_row,
                      Py_ssize_t x_run, Py_ssize_t first, Py_ssize_t rows, real* inv_std, real* packed) noexcept nogil:
    """y = the outputs of a layer: in panels, or unpacked (panel NR). Without x it is the first layer, of sparse samples
    from `first` on."""
    cdef Py_ssize_t p
    if WITH_INT8 and run.int8:
        layer8(run.int8, layer, y, layer.row_out if panel == NR else NR, panel, x, x_row, NR if x_run == ENDLESS else panel_of(run),
               rows, packed)
        return
    if x == NULL:
        sparse_infer(layer, y, layer.row_out if panel == NR else NR, panel, &run.sparse, first, first + rows)
    else:
        dense(layer, layer.scale != NULL, layer.w, NR if run.packed else layer.row_out,
              operands_panel(layer.n_in) if run.packed else NR, layer.b, y, layer.row_out if panel == NR else NR, panel,
              x, x_row, x_run, 0 if x_run == ENDLESS else panel_of(run), rows, packed, WITH_BF16 and run.packed)
    if layer.scale != NULL:
        if run.packed:
            inv_std = layer.inv_std
        else:
            running_inv_std(layer, inv_std)
        normalise_rows(layer, layer.scale, layer.b, y, NULL, panel, layer.running_mean, inv_std, rows)
        for p in range(panels(layer.n_out) // NR):
            map_array(layer.activation, y + p * panel, y + p * panel, rows * NR, layer.alpha)


cdef inline void store_reals(char* to, Py_ssize_t column, const real* z, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t j
    if column == sizeof(real):
        memcpy(to, z, n * sizeof(real))
    else:
        for j in range(n):
            (<real*>(to + j * column))[0] = z[j]


cdef inline Py_ssize_t first_largest(const real* z, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t c, best = 0
    for c in range(1, n):
        if z[c] > z[best] or z[c] != z[c] and z[best] == z[best]:
            best = c
    return best


cdef inline void store_row(const Inference* run, char* to, real* z, Py_ssize_t n, fp_mode callers) noexcept nogil:
    """What is asked for of a row, which is used up."""
    cdef Py_ssize_t j, column = run.out_column
    if run.output == OUT_VALUES:
        store_reals(to, column, z, n)
    elif run.output == OUT_SOFTMAX:
        softmax_row(z, z, n)
        store_reals(to, column, z, n)
    elif run.output == OUT_SIGMOID or run.output == OUT_EXP:    # as the array functions, in the caller's mode
        leave_kernel_mode(callers)
        map_array(ACT_SIGMOID if run.output == OUT_SIGMOID else FUN_EXP, z, z, n, 0)
        enter_kernel_mode()
        store_reals(to, column, z, n)
    elif run.output == OUT_LARGEST:
        (<Py_ssize_t*>to)[0] = first_largest(z, n)
    elif run.output == OUT_POSITIVE:
        for j in range(n):
            (<Py_ssize_t*>(to + j * column))[0] = z[j] > 0
    elif run.output == OUT_SIGN:
        for j in range(n):
            (<Py_ssize_t*>(to + j * column))[0] = 1 if z[j] > 0 else -1


cdef void infer_rows(Inference* run, int thread, fp_mode callers) noexcept nogil:
    """out = what is asked for of the last layer of every row, a block of rows at a time."""
    cdef const Layer* top = run.layers + run.depth - 1
    cdef Py_ssize_t r = 0, end = run.x.rows, panel = panel_of(run), size = (run.block | 1) * run.width
    cdef Py_ssize_t rows, n_panels, n0 = 0, n1, i
    cdef real* mine = run.scratch
    cdef real* packed = run.scratch + (activations_nbytes(run) + thread * product_nbytes(run)) // <Py_ssize_t>sizeof(real)
    cdef real* x
    cdef real* y
    cdef real* z                        # the logits; the outputs of the others change places
    cdef real* inv_std
    cdef bint sparse = run.sparse.indptr != NULL
    cdef bint in_place = not sparse and is_real(&run.x) and run.x.column == sizeof(real) and run.x.row % <Py_ssize_t>sizeof(real) == 0
    cdef const Layer* layer
    cdef Layer columns
    cdef int l
    if not run.shares_columns:
        r = share(end, thread, run.threads)
        end = share(end, thread + 1, run.threads)
        mine += thread * scratch_of_thread(run)
    z = mine + 2 * size
    inv_std = mine + 3 * size
    while r < end:
        rows = min(run.block, end - r)
        if not in_place and not sparse:
            if thread == 0 or not run.shares_columns:
                for i in range(rows):
                    convert_row(mine + i * NR, NR, panel, &run.x, r + i, min(r + i + 1, end - 1))
            if run.shares_columns:
                barrier_wait(&run.barrier, run.threads)
        for l in range(run.depth):
            layer = run.layers + l
            n1 = layer.n_out
            if run.shares_columns:
                n_panels = panels(layer.n_out) // NR
                n0 = min(share(n_panels, thread, run.threads) * NR, layer.n_out)
                n1 = min(share(n_panels, thread + 1, run.threads) * NR, layer.n_out)
                columns = columns_of(run, layer, n0, n1)
                layer = &columns
            x = mine + (l & 1) * size
            y = z + n0 if l == run.depth - 1 else mine + (1 - (l & 1)) * size + n0 // NR * panel
            if l == 0 and in_place:
                infer_layer(run, layer, y, panel if l < run.depth - 1 else NR,
                            <const real*>(run.x.data + r * run.x.row), run.x.row // <Py_ssize_t>sizeof(real), ENDLESS,
                            r, rows, inv_std + n0, packed)
            else:
                infer_layer(run, layer, y, panel if l < run.depth - 1 else NR, x if l or not sparse else NULL, NR, NR, r,
                            rows, inv_std + n0, packed)
            if l < run.depth - 1 and run.hidden != NULL and run.hidden[l] != NULL:
                unpack(run.hidden[l] + r * run.layers[l].n_out + n0, run.layers[l].n_out, y, panel, rows, n1 - n0)
            if run.shares_columns and l < run.depth - 1:
                barrier_wait(&run.barrier, run.threads)
        if run.shares_columns and run.output != OUT_VALUES:     # the rest takes whole rows
            barrier_wait(&run.barrier, run.threads)
            if thread > 0:
                return
            n0, n1 = 0, top.n_out
        for i in range(rows):
            store_row(run, run.out + (r + i) * run.out_row + n0 * run.out_column, z + i * top.row_out + n0, n1 - n0,
                      callers)
        r += rows


cdef void infer(void* argument, int thread) noexcept nogil:
    """One thread of a forward pass, in the kernels' floating-point mode."""
    cdef Inference* run = <Inference*>argument
    cdef bint tiles = WITH_TILES or HAS_TILED and run.int8 == TILED and run.x.rows >= TILED_ROWS
    cdef fp_mode callers = enter_kernel_mode()
    enter_tiles(tiles)
    infer_rows(run, thread, callers)
    leave_tiles(tiles)
    leave_kernel_mode(callers)
