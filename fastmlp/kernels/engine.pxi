# The engine: a network in memory, and whole runs of minibatches without the GIL.
#
# A training step has two phases. (1) Each thread takes its own rows of the batch through all layers,
# forward and back. (2) After a barrier each thread owns a slice of every weight matrix: it sums the
# gradient of a tile over the whole batch, updates the parameters while the sum is in registers or cache,
# and renews the transposed copy that the next step goes back through. No sum depends on who owns what.

from os import getpid

from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from fastmlp.kernels cimport _team

cdef extern from "team.h" nogil:
    ctypedef struct Barrier:
        pass
    void barrier_wait(Barrier* b, int threads)

cdef struct Layer:
    Py_ssize_t n_in
    Py_ssize_t n_out
    Py_ssize_t row_out          # padded n_out: rows of w
    real* w                     # (n_in, n_out), plain: the caller's
    real* b                     # (n_out,)
    real* w_p                   # (n_in, n_out) in panels: the weights while a run trains them
    real* w_t                   # (n_out, n_in) in panels, for every layer but the first
    real* y                     # (batch, n_out) in panels: outputs, for every layer but the last
    real* d                     # (batch, n_out) in panels: deltas, gradients of the pre-activations
    int activation
    real alpha

cdef struct Run:
    Layer* layers
    int depth
    LossRule loss
    Table table                 # the samples
    Targets targets             # of the samples in their own order
    Table target_rows           # where targets are values
    const Py_ssize_t* order     # sample at each place, or NULL
    Py_ssize_t n                # samples
    Py_ssize_t batch_size
    Py_ssize_t first, last      # steps
    Optimizer weight_rule
    Optimizer bias_rule
    Py_ssize_t destination      # distance of the gradients from the parameters, where they are asked for
    Py_ssize_t velocity         # distance of the velocity from the caller's parameters
    int threads
    Barrier barrier
    # the batch at hand
    Py_ssize_t panel            # from one panel of a (batch, .) matrix to the next
    real* x                     # (batch, inputs) in panels
    real* z                     # (batch, outputs), plain: logits, then their gradient
    Py_ssize_t* labels
    real* t                     # (batch, outputs), plain, where targets are values
    real* losses
    double loss_sum             # over all samples so far


cdef inline Py_ssize_t padded(Py_ssize_t n) noexcept nogil:
    """As fastmlp/layout.py has it."""
    cdef Py_ssize_t lines = (n + LINE - 1) // LINE
    if lines >= 4:
        lines |= 1
    return lines * LINE


# Phase 1: rows of the batch ------------------------------------------------------------------------

cdef void dense(const Layer* layer, const real* w, Py_ssize_t w_row, Py_ssize_t w_panel,
                real* y, Py_ssize_t y_row, Py_ssize_t y_panel,
                const real* x, Py_ssize_t x_row, Py_ssize_t x_run, Py_ssize_t x_panel, Py_ssize_t rows) noexcept nogil:
    """y = f(x w + b); each of them plain or in panels"""
    cdef Product p
    p.m = rows
    p.n = layer.n_out
    p.k = layer.n_in
    p.a = x
    p.a_row = x_row
    p.a_run = x_run
    p.a_panel = x_panel
    p.b = w
    p.b_row = w_row
    p.b_panel = w_panel
    p.c = y
    p.c_row = y_row
    p.c_panel = y_panel
    p.bias = layer.b
    p.activation = layer.activation
    p.alpha = layer.alpha
    p.y = NULL
    p.packed = NULL
    gemm(&p)


cdef void dense_data_gradient(const Layer* below, const Layer* layer, Py_ssize_t panel,
                              Py_ssize_t r0, Py_ssize_t rows) noexcept nogil:
    """below.d = (layer.d w^T) f'(below.y)"""
    cdef Product p
    p.m = rows
    p.n = layer.n_in
    p.k = layer.n_out
    p.a = layer.d + r0 * NR
    p.a_row = NR
    p.a_run = NR
    p.a_panel = panel
    p.b = layer.w_t
    p.b_row = NR
    p.b_panel = layer.n_out * NR
    p.c = below.d + r0 * NR
    p.c_row = NR
    p.c_panel = panel
    p.bias = NULL
    p.activation = below.activation
    p.alpha = below.alpha
    p.y = below.y + r0 * NR
    p.packed = NULL
    gemm(&p)


cdef void rows_phase(Run* run, Py_ssize_t start, Py_ssize_t rows, Py_ssize_t r0, Py_ssize_t r1) noexcept nogil:
    """Rows r0..r1 of the batch that begins at sample `start`: gather, forward, loss, backward."""
    cdef Layer* layers = run.layers
    cdef Layer* top = layers + run.depth - 1
    cdef Py_ssize_t panel = run.panel, i, sample
    cdef Targets targets
    cdef int l
    if r0 == r1:
        return
    targets.labels = run.labels if run.targets.labels != NULL else NULL
    targets.rows = run.t
    targets.row = top.row_out
    for i in range(r0, r1):
        sample = run.order[start + i] if run.order != NULL else start + i
        convert_row(run.x + i * NR, NR, panel, &run.table, sample)
        if run.targets.labels != NULL:
            run.labels[i] = run.targets.labels[sample]
        else:
            convert_row(run.t + i * top.row_out, top.row_out, 0, &run.target_rows, sample)
    for l in range(run.depth):
        dense(layers + l, layers[l].w_p, NR, layers[l].n_in * NR,
              run.z + r0 * top.row_out if l == run.depth - 1 else layers[l].y + r0 * NR,
              top.row_out if l == run.depth - 1 else NR, NR if l == run.depth - 1 else panel,
              (layers[l - 1].y if l else run.x) + r0 * NR, NR, NR, panel, r1 - r0)
    loss_rows(&run.loss, run.z, run.z, top.row_out, &targets, run.losses, r0, r1, top.n_out, NULL, 1. / rows)
    for i in range(r0, r1):
        to_panels(top.d + i * NR, panel, run.z + i * top.row_out, top.n_out)
    for l in range(run.depth - 1, 0, -1):
        dense_data_gradient(layers + l - 1, layers + l, panel, r0, r1 - r0)


# Phase 2: slices of the parameters -----------------------------------------------------------------

cdef void load_slice(Run* run, const Layer* layer, Py_ssize_t k0, Py_ssize_t k1) noexcept nogil:
    """Inputs k0..k1 of the weights, and of their velocity, from the caller's arrays to panels."""
    cdef Py_ssize_t n, width
    for n from 0 <= n < layer.n_out by NR:
        width = min(layer.n_out - n, <Py_ssize_t>NR)
        pack_panel(layer.w_p + n * layer.n_in + k0 * NR, layer.w + k0 * layer.row_out + n, layer.row_out,
                   False, k1 - k0, width)
        if run.velocity:
            pack_panel(layer.w_p + run.weight_rule.velocity + n * layer.n_in + k0 * NR,
                       layer.w + run.velocity + k0 * layer.row_out + n, layer.row_out, False, k1 - k0, width)
    transpose_slice(layer, k0, k1)


cdef void store_slice(Run* run, const Layer* layer, Py_ssize_t k0, Py_ssize_t k1) noexcept nogil:
    """And back."""
    cdef Py_ssize_t n, width
    for n from 0 <= n < layer.n_out by NR:
        width = min(layer.n_out - n, <Py_ssize_t>NR)
        copy_tile(layer.w + k0 * layer.row_out + n, layer.row_out, layer.w_p + n * layer.n_in + k0 * NR, NR,
                  k1 - k0, width)
        if run.velocity:
            copy_tile(layer.w + run.velocity + k0 * layer.row_out + n, layer.row_out,
                      layer.w_p + run.weight_rule.velocity + n * layer.n_in + k0 * NR, NR, k1 - k0, width)


cdef void transpose_slice(const Layer* layer, Py_ssize_t k0, Py_ssize_t k1) noexcept nogil:
    """Renews inputs k0..k1 of w_t."""
    cdef Py_ssize_t k = k0, n, end
    while layer.w_t != NULL and k < k1:
        end = min(k1, (k // NR + 1) * NR)
        for n from 0 <= n < layer.n_out by NR:
            transpose(layer.w_t + (k // NR * layer.n_out + n) * NR + k % NR, NR,
                      layer.w_p + n * layer.n_in + k * NR, NR, end - k, min(layer.n_out - n, <Py_ssize_t>NR))
        k = end


cdef void parameters_phase(Run* run, Py_ssize_t rows, int thread) noexcept nogil:
    """Gradient and update of this thread's inputs of every layer, and of its share of the biases."""
    cdef Layer* layer
    cdef Gradient g
    cdef real one = 1
    cdef Py_ssize_t n_panels, p0, k0, k1
    cdef int l
    g.rows = rows
    g.d_row = NR
    g.d_panel = run.panel
    for l in range(run.depth):
        layer = run.layers + l
        k0 = share(layer.n_in, thread, run.threads)
        k1 = share(layer.n_in, thread + 1, run.threads)
        g.d = layer.d
        g.n = layer.n_out
        g.k0 = k0
        g.k1 = k1
        g.a = run.layers[l - 1].y if l else run.x
        g.a_row = NR
        g.a_panel = run.panel
        if run.weight_rule.rule == RULE_GRADIENT:
            g.g = layer.w + run.destination
            g.g_row = layer.row_out
            g.g_panel = NR
        else:
            g.g = layer.w_p
            g.g_row = NR
            g.g_panel = layer.n_in * NR
        g.g_padded = g.g_row == NR or layer.row_out >= panels(layer.n_out)
        gemm_gradient(&g, &run.weight_rule)
        # the bias is the weight of an input that is always 1
        n_panels = (layer.n_out + NR - 1) // NR
        p0 = share(n_panels, thread, run.threads)
        g.d = layer.d + p0 * run.panel
        g.n = min(share(n_panels, thread + 1, run.threads) * NR, layer.n_out) - p0 * NR
        g.k0 = 0
        g.k1 = 1
        g.a = &one
        g.a_row = 0
        g.g = layer.b + run.destination + p0 * NR
        g.g_panel = NR
        g.g_padded = layer.row_out >= panels(layer.n_out)
        gemm_gradient(&g, &run.bias_rule)
        if run.weight_rule.rule != RULE_GRADIENT:
            transpose_slice(layer, k0, k1)


cdef void train(void* argument, int thread) noexcept nogil:
    """Steps first..last of a run, as one thread of run.threads that do the same."""
    cdef Run* run = <Run*>argument
    cdef Py_ssize_t step, start, rows, i
    cdef int l
    for l in range(run.depth):
        load_slice(run, run.layers + l, share(run.layers[l].n_in, thread, run.threads),
                   share(run.layers[l].n_in, thread + 1, run.threads))
    barrier_wait(&run.barrier, run.threads)
    for step in range(run.first, run.last):
        start = step * run.batch_size
        rows = min(run.batch_size, run.n - start)
        rows_phase(run, start, rows, share(rows, thread, run.threads), share(rows, thread + 1, run.threads))
        barrier_wait(&run.barrier, run.threads)
        if thread == 0:
            for i in range(rows):
                run.loss_sum += run.losses[i]
        parameters_phase(run, rows, thread)
        barrier_wait(&run.barrier, run.threads)
    if run.weight_rule.rule != RULE_GRADIENT:
        for l in range(run.depth):
            store_slice(run, run.layers + l, share(run.layers[l].n_in, thread, run.threads),
                        share(run.layers[l].n_in, thread + 1, run.threads))


# Inference -----------------------------------------------------------------------------------------

cdef struct Inference:
    const Layer* layers
    int depth
    Table x
    char* out
    Py_ssize_t out_row          # bytes
    Py_ssize_t out_column
    Py_ssize_t width            # the widest layer, in whole panels
    Py_ssize_t block            # rows that go through the network together
    real* scratch               # for each thread 3 blocks of (block | 1) width reals
    int threads


cdef void infer(void* argument, int thread) noexcept nogil:
    """out = the last layer of every row, a block of rows at a time."""
    cdef Inference* run = <Inference*>argument
    cdef const Layer* top = run.layers + run.depth - 1
    cdef Py_ssize_t r = share(run.x.rows, thread, run.threads), end = share(run.x.rows, thread + 1, run.threads)
    cdef Py_ssize_t panel = (run.block | 1) * NR, size = (run.block | 1) * run.width, rows, i, j
    cdef real* x = run.scratch + thread * 3 * size
    cdef real* y
    cdef real* z = x + 2 * size
    cdef bint in_place = is_real(&run.x) and run.x.column == sizeof(real) and run.x.row % <Py_ssize_t>sizeof(real) == 0
    cdef int l
    while r < end:
        rows = min(run.block, end - r)
        if not in_place:
            for i in range(rows):
                convert_row(x + i * NR, NR, panel, &run.x, r + i)
        for l in range(run.depth):
            y = z if l == run.depth - 1 else run.scratch + (3 * thread + 1 - (l & 1)) * size
            if l == 0 and in_place:
                dense(run.layers, run.layers.w, run.layers.row_out, NR, y, NR if y != z else top.row_out, panel if y != z else NR,
                      <const real*>(run.x.data + r * run.x.row), run.x.row // <Py_ssize_t>sizeof(real), PLAIN, 0, rows)
            else:
                dense(run.layers + l, run.layers[l].w, run.layers[l].row_out, NR, y, NR if y != z else top.row_out, panel if y != z else NR,
                      run.scratch + (3 * thread + (l & 1)) * size, NR, NR, panel, rows)
        for i in range(rows):
            for j in range(top.n_out):
                (<real*>(run.out + (r + i) * run.out_row + j * run.out_column))[0] = z[i * top.row_out + j]
        r += rows


cdef inline void extent(const char* start, Py_ssize_t rows, Py_ssize_t row, Py_ssize_t columns, Py_ssize_t column,
                        Py_ssize_t itemsize, const char** low, const char** high) noexcept nogil:
    """The bytes from the first to the last element of a table."""
    low[0] = start + min(0, (rows - 1) * row) + min(0, (columns - 1) * column)
    high[0] = start + max(0, (rows - 1) * row) + max(0, (columns - 1) * column) + itemsize


cdef bint buffers_apart(const Py_buffer* a, const real* b, Py_ssize_t rows, Py_ssize_t row,
                        Py_ssize_t columns, Py_ssize_t column) noexcept nogil:
    cdef const char* low[2]
    cdef const char* high[2]
    extent(<const char*>a.buf, a.shape[0], a.strides[0], a.shape[1], a.strides[1], a.itemsize, low, high)
    extent(<const char*>b, rows, row, columns, column, sizeof(real), low + 1, high + 1)
    return high[0] <= low[1] or high[1] <= low[0]


cdef double WORTH_A_THREAD = 1e6     # floating-point operations between two barriers


cdef int threads_for(int depth, const Layer* layers, Py_ssize_t rows, int most) noexcept nogil:
    """No more threads than the work of these rows, or the rows themselves, can feed."""
    cdef double work = 0
    cdef int l
    for l in range(depth):
        work += 2. * rows * layers[l].n_in * layers[l].n_out
    return <int>max(1, min(most, min(work / WORTH_A_THREAD, rows)))


cdef class Engine:
    """A network over the caller's buffer of parameters, which it keeps alive.

    sizes           units of every layer, inputs first
    activations     (code, alpha) of every layer, the last one the identity
    parameters      flat buffer, laid out as fastmlp/layout.py says
    offsets         where the weights and the biases of every layer begin
    """
    cdef Layer* layers
    cdef int depth
    cdef long training                          # the process in which a thread trains right now, or 0
    cdef readonly Py_ssize_t batch_size         # rows for which there is a workspace
    cdef Py_ssize_t width
    cdef void* workspace
    cdef object parameters

    def __cinit__(self, sizes, activations, real[::1] parameters, offsets):
        cdef Py_ssize_t end = 0
        cdef int l
        self.depth = len(sizes) - 1
        self.parameters = parameters
        self.layers = <Layer*>malloc(self.depth * sizeof(Layer))
        if self.layers == NULL:
            raise MemoryError
        for l in range(self.depth):
            self.layers[l].n_in = sizes[l]
            self.layers[l].n_out = sizes[l + 1]
            self.layers[l].row_out = padded(sizes[l + 1])
            self.layers[l].w = &parameters[0] + <Py_ssize_t>offsets[l][0]
            self.layers[l].b = &parameters[0] + <Py_ssize_t>offsets[l][1]
            self.layers[l].activation = activations[l][0]
            self.layers[l].alpha = activations[l][1]
            self.layers[l].w_t = self.layers[l].y = self.layers[l].d = NULL
            end = <Py_ssize_t>offsets[l][1] + self.layers[l].row_out
            self.width = max(self.width, panels(self.layers[l].n_in), panels(self.layers[l].n_out), self.layers[l].row_out)
        if end != parameters.shape[0]:
            raise ValueError(f"parameters: expected {end} elements, got {parameters.shape[0]}")

    def __dealloc__(self):
        free(self.layers)
        free(self.workspace)

    def workspace_nbytes(self, Py_ssize_t batch_size):
        """Bytes that training with this batch size holds beside parameters and data."""
        cdef Run run
        return self.lay_out(NULL, batch_size, &run, False)

    cdef Py_ssize_t lay_out(self, real* base, Py_ssize_t batch_size, Run* run, bint place) noexcept:
        """Places everything a training step needs after `base`, or only counts the bytes that it takes: a
        question that another thread may ask while this one trains."""
        cdef Layer unused
        cdef Layer* layer
        cdef Layer* top = self.layers + self.depth - 1
        cdef Py_ssize_t rows = batch_size | 1       # odd, so that panels fall into different cache sets
        cdef Py_ssize_t end = 0, weights
        cdef int l
        run.panel = rows * NR
        run.x = base + end
        end += rows * panels(self.layers[0].n_in)
        for l in range(self.depth):
            unused = self.layers[l]
            layer = self.layers + l if place else &unused
            layer.d = base + end
            end += rows * panels(layer.n_out)
            layer.y = layer.w_t = NULL
            if l < self.depth - 1:
                layer.y = base + end
                end += rows * panels(layer.n_out)
            if l > 0:
                layer.w_t = base + end
                end += layer.n_out * panels(layer.n_in)
        weights = end
        for l in range(self.depth):
            if place:
                self.layers[l].w_p = base + end
            end += self.layers[l].n_in * panels(self.layers[l].n_out)
        run.weight_rule.velocity = end - weights        # laid out like the weights
        end += end - weights
        run.z = base + end
        end += rows * top.row_out + NR
        run.t = base + end
        end += rows * top.row_out
        run.losses = base + end
        end += padded(rows)
        run.labels = <Py_ssize_t*>(base + end)
        return end * sizeof(real) + rows * sizeof(Py_ssize_t)

    cdef real* reserve(self, Py_ssize_t batch_size) except NULL:
        """The workspace for a batch size, from the start of a cache line; kept for the next call."""
        cdef Py_ssize_t size
        cdef Run run
        if self.batch_size != batch_size:
            free(self.workspace)
            self.batch_size = 0
            size = self.lay_out(NULL, batch_size, &run, False) + 64
            self.workspace = calloc(size, 1)        # pads are zeros
            if self.workspace == NULL:
                raise MemoryError(f"a workspace of {size} bytes for batches of {batch_size}")
            self.batch_size = batch_size
        return <real*>((<size_t>self.workspace + 63) & ~<size_t>63)

    def train(self, int loss, real loss_parameter, const real[::1] pos_weight, x, const Py_ssize_t[::1] labels, rows, const Py_ssize_t[::1] order, Py_ssize_t batch_size,
              Py_ssize_t first, Py_ssize_t last, int rule, real lr, real momentum, real weight_decay,
              Py_ssize_t destination, Py_ssize_t velocity, double total, int threads):
        """Steps first..last - 1 over the samples of x in `order` (None: as they come), batch_size at a time.

        x (n, inputs) and rows (n, outputs) are tables of any numeric dtype; one of `labels` (n,) and `rows`
        is None. The distances say where the rule writes and where its velocity is, in reals from the
        parameters. Returns `total` plus the losses of all samples seen. Arguments have been checked."""
        cdef Run run
        cdef Py_buffer view_x, view_rows
        cdef bint claimed = False
        cdef real* base
        if self.training == getpid():
            raise RuntimeError("the model is being trained by another thread")
        memset(&run, 0, sizeof(Run))
        base = self.reserve(batch_size)
        self.lay_out(base, batch_size, &run, True)
        run.layers = self.layers
        run.depth = self.depth
        run.loss.code = loss
        run.loss.parameter = loss_parameter
        run.loss.pos_weight = &pos_weight[0] if pos_weight is not None else NULL
        run.batch_size = batch_size
        run.first = first
        run.last = last
        run.order = &order[0] if order is not None else NULL
        run.weight_rule.rule = run.bias_rule.rule = rule
        run.weight_rule.lr = run.bias_rule.lr = lr
        run.weight_rule.momentum = run.bias_rule.momentum = momentum
        run.velocity = run.bias_rule.velocity = velocity
        run.weight_rule.weight_decay = weight_decay
        run.destination = destination
        run.loss_sum = total
        run.threads = 1
        PyObject_GetBuffer(x, &view_x, PyBUF_STRIDES | PyBUF_FORMAT)
        self.training = getpid()
        try:
            if not describe(&run.table, &view_x):
                raise TypeError(f"X: cannot convert {x.dtype}")
            run.n = run.table.rows if order is None else order.shape[0]
            run.threads = _team.claim(threads_for(self.depth, self.layers, batch_size, threads))
            claimed = True
            if labels is not None:
                run.targets.labels = &labels[0]
                with nogil:
                    _team.run(train, &run, run.threads)
            else:
                PyObject_GetBuffer(rows, &view_rows, PyBUF_STRIDES | PyBUF_FORMAT)
                try:
                    if not describe(&run.target_rows, &view_rows):
                        raise TypeError(f"y: cannot convert {rows.dtype}")
                    with nogil:
                        _team.run(train, &run, run.threads)
                finally:
                    PyBuffer_Release(&view_rows)
        finally:
            if claimed:
                _team.release(run.threads)
            self.training = 0
            PyBuffer_Release(&view_x)
        return run.loss_sum

    def forward(self, x, real[:, :] out, int threads):
        """out = the last layer's values, for every row of x (n, inputs), a table of any numeric dtype.
        False where the dtype is none that can be converted, or shapes do not fit."""
        cdef Inference run
        cdef Py_buffer view
        PyObject_GetBuffer(x, &view, PyBUF_STRIDES | PyBUF_FORMAT)
        try:
            if view.ndim != 2 or not describe(&run.x, &view):
                return False
            if (run.x.columns != self.layers[0].n_in or run.x.rows != out.shape[0]
                    or self.layers[self.depth - 1].n_out != out.shape[1]):
                return False
            if run.x.rows == 0:
                return True
            if not buffers_apart(&view, &out[0, 0], out.shape[0], out.strides[0], out.shape[1], out.strides[1]):
                return False
            run.layers = self.layers
            run.depth = self.depth
            run.out = <char*>&out[0, 0]
            run.out_row = out.strides[0]
            run.out_column = out.strides[1]
            run.width = self.width
            threads = _team.claim(threads_for(self.depth, self.layers, run.x.rows, threads))
            run.threads = threads
            run.block = min(MC, run.x.rows)
            run.scratch = <real*>malloc(3 * threads * (run.block | 1) * run.width * sizeof(real))
            if run.scratch != NULL:
                with nogil:
                    _team.run(infer, &run, threads)
            free(run.scratch)
            _team.release(threads)
            if run.scratch == NULL:
                raise MemoryError
        finally:
            PyBuffer_Release(&view)
        return True
