# The engine: what Python holds of a network, and its calls.
#
# Methods that change an engine, or meet one that is being changed, are critical sections of it: without the GIL they
# exclude each other as they do with it, and like it they let others in while the kernels run.

cimport cython
from cpython.object cimport PyObject
from libc.math cimport frexp, ldexp, sqrt
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from fastmlp.kernels cimport _team

cdef extern from "memory.h" nogil:
    void prefer_large_pages(void* start, size_t bytes)

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

cdef extern from "fpmode.h" nogil:
    ctypedef int fp_mode
    fp_mode enter_kernel_mode()
    void leave_kernel_mode(fp_mode callers)

cdef extern from "pythread.h" nogil:
    unsigned long PyThread_get_thread_ident()

cdef extern from "team.h" nogil:
    ctypedef struct Barrier:
        pass
    void barrier_wait(Barrier* b, int threads)
    void write_any(Py_ssize_t* place, Py_ssize_t value)

include "network.pxi"           # layers in memory
include "sparse.pxi"            # a first layer on sparse samples
include "normalisation.pxi"     # over the batch
include "dropout.pxi"
include "diagnostics.pxi"       # what an observer is told of them
include "training.pxi"          # runs of minibatches
include "int8.pxi"              # layers in 8-bit integers
include "inference.pxi"


cdef inline void extent(const char* start, Py_ssize_t rows, Py_ssize_t row, Py_ssize_t columns, Py_ssize_t column,
                        Py_ssize_t itemsize, const char** low, const char** high) noexcept nogil:
    """The bytes from the first to the last element of a table."""
    low[0] = start + min(0, (rows - 1) * row) + min(0, (columns - 1) * column)
    high[0] = start + max(0, (rows - 1) * row) + max(0, (columns - 1) * column) + itemsize


cdef bint buffers_apart(const Py_buffer* a, const real* b, Py_ssize_t rows, Py_ssize_t row,
                        Py_ssize_t columns, Py_ssize_t column) noexcept nogil:
    cdef const char* low[2]
    cdef const char* high[2]
    extent(<const char*>a.buf, a.shape[0], a.strides[0], a.shape[1] if a.ndim == 2 else 1,
           a.strides[1] if a.ndim == 2 else 0, a.itemsize, low, high)
    extent(<const char*>b, rows, row, columns, column, sizeof(real), low + 1, high + 1)
    return high[0] <= low[1] or high[1] <= low[0]


cdef bint can_be_written(const real* b, Py_ssize_t rows, Py_ssize_t row, Py_ssize_t columns, Py_ssize_t column,
                         const real* parameters, Py_ssize_t size) noexcept nogil:
    """Elements lie at multiples of their size, without internal overlap, and apart from the parameters."""
    cdef const char* low
    cdef const char* high
    cdef Py_ssize_t width = max(column, -column) if columns > 1 else 0, height = max(row, -row) if rows > 1 else 0
    cdef Py_ssize_t item = sizeof(real)
    if <size_t>b % item or height % item or width % item:
        return False
    if not ((columns == 1 or width >= item) and (rows == 1 or height >= width * (columns - 1) + item)
            or (rows == 1 or height >= item) and (columns == 1 or width >= height * (rows - 1) + item)):
        return False
    extent(<const char*>b, rows, row, columns, column, item, &low, &high)
    return high <= <const char*>parameters or <const char*>(parameters + size) <= low


cdef double WORTH_A_THREAD = 1e6     # floating-point operations between two barriers
cdef double WEIGHTS_WORTH_A_THREAD = 4e5     # of inference of a few rows, which takes as long as it takes to read them


cdef double weights_of(int depth, const Layer* layers, double inputs) noexcept nogil:
    """The weights that a sample meets, which has so many inputs."""
    cdef double weights = inputs * layers[0].n_out
    cdef int l
    for l in range(1, depth):
        weights += <double>layers[l].n_in * layers[l].n_out
    return weights


cdef int threads_for(int depth, const Layer* layers, Py_ssize_t rows, double inputs, int most) noexcept nogil:
    """No more threads than the work of these rows, or the rows themselves, can feed."""
    cdef double work = 2 * rows * weights_of(depth, layers, inputs)
    return <int>max(1, min(most, min(work / WORTH_A_THREAD, rows)))


cdef int threads_of_columns(int depth, const Layer* layers, Py_ssize_t rows, int most) noexcept nogil:
    """Threads to share the columns of every layer, where that is better than to share these few rows; else 1."""
    if rows >= most * MR or rows > MC:
        return 1
    return <int>max(1, min(most, weights_of(depth, layers, layers[0].n_in) / WEIGHTS_WORTH_A_THREAD))


cdef double nonzeros_of_a_row(const SparseTable* x) noexcept nogil:
    cdef Py_ssize_t n = index_at(x.indptr, x.wide_indptr, x.rows) - index_at(x.indptr, x.wide_indptr, 0)
    return <double>max(<Py_ssize_t>0, n) / max(<Py_ssize_t>1, x.rows)


cdef inline real* bump(real* base, Py_ssize_t* end, Py_ssize_t n) noexcept nogil:
    """Bump allocation: the next n reals after `base`, in whole cache lines."""
    cdef real* start = base + end[0]
    end[0] += (n + LINE - 1) // LINE * LINE
    return start


cdef inline long this_process() noexcept nogil:
    """Not 0, and another number in a forked child; the system's own number takes a call of the system."""
    return _team.forks() + 1


cdef inline Py_ssize_t* bump_indices(real* base, Py_ssize_t* end, Py_ssize_t n) noexcept nogil:
    return <Py_ssize_t*>bump(base, end, n * <Py_ssize_t>sizeof(Py_ssize_t) // <Py_ssize_t>sizeof(real))


cdef bint same_objects(tuple a, tuple b):
    cdef int i
    if b is None or len(a) != len(b):
        return False
    for i in range(len(a)):
        if a[i] is not b[i]:
            return False
    return True


cdef tuple buffers_of(state):
    """Those of an optimizer's state. No comprehension: where there is no memory for its list, Cython releases the
    element once too often."""
    cdef list buffers = []
    if state is not None:
        for slot in state.slots.values():
            buffers.append(slot.buffer)
    return tuple(buffers)


cdef bint are_of_reals(tuple buffers) except -1:
    for buffer in buffers:
        if buffer.itemsize != sizeof(real):
            return False
    return True


cdef bint is_of_indices(const Py_buffer* view):
    """A vector of intp, as Python gives its format; contiguous."""
    return (view.ndim == 1 and view.itemsize == sizeof(Py_ssize_t) and view.format != NULL
            and view.format[0] in b"lq" and view.format[1] == 0
            and (view.shape[0] <= 1 or view.strides == NULL or view.strides[0] == sizeof(Py_ssize_t)))


cdef const void* indices_of(const Py_buffer* view) except NULL:
    if not is_of_indices(view):
        raise TypeError("expected a contiguous vector of intp")
    return view.buf


cdef bint is_of_reals(const Py_buffer* view):
    return view.format != NULL and view.format[0] == (c"f" if sizeof(real) == 4 else c"d") and view.format[1] == 0


cdef class UpdateRule:
    """An update rule as the kernels take it: fastmlp.optimizers.Settings, and the largest norm of all gradients, 0 for
    any."""
    cdef Optimizer weights
    cdef Optimizer biases
    cdef readonly double clip_norm

    def __cinit__(self, settings, double clip_norm):
        set_rule(&self.weights, settings, False)
        set_rule(&self.biases, settings, True)
        self.clip_norm = clip_norm


cdef class Rates:
    """Rows of Optimizer.rates, (count, RATES), of steps from `first` on; where all are one row, of any step."""
    cdef const double[:, :] rows
    cdef readonly Py_ssize_t first
    cdef readonly Py_ssize_t last
    cdef Py_ssize_t row                 # from a step to the next: 0 where all are alike

    def __cinit__(self, const double[:, :] rows, Py_ssize_t first):
        self.rows = rows
        self.first = first
        self.last = first + rows.shape[0]
        self.row = rows.strides[0] // <Py_ssize_t>sizeof(double)
        if self.row == 0:
            self.first, self.last = 0, PY_SSIZE_T_MAX

    cdef const double* at(self, Py_ssize_t step, Py_ssize_t count) except NULL:
        if not self.first <= step <= self.last - count:
            raise ValueError(f"rates: expected those of {count} steps from {step} on, got {self.first} to {self.last}")
        return &self.rows[step - self.first if self.row else 0, 0]


cdef class Engine:
    """A network over the caller's buffers of parameters and running statistics, which it keeps alive.

    sizes           units of every layer, inputs first
    layers          of every layer (activation's code, alpha, dropout, whether the derivative must be kept,
                    statistics' rate, epsilon), the last one the identity without dropout
    parameters      flat buffer, laid out as fastmlp/_core/layout.py says
    offsets         where weights, biases and scales of every layer begin (scales: -1 without normalisation)
    statistics      flat buffer of running means and variances
    places          where they begin there, for every layer with normalisation
    loss            (code, parameter, pos_weight (outputs,) or None, limit)
    """
    cdef Layer* layers
    cdef int depth
    cdef readonly long long global_step         # steps of training that the network has taken
    cdef long training                          # the process in which a thread trains right now, or 0
    cdef unsigned long trainer                  # that thread
    cdef long kept                              # the process whose last run did not store, or 0
    cdef Run last                               # that run
    cdef tuple last_state                       # and the buffers of its state
    cdef readonly Py_ssize_t batch_size         # rows for which there is a workspace
    cdef readonly int slots                     # and buffers of optimizer state
    cdef readonly Py_ssize_t nonzeros           # and nonzeros of a batch; -1 for dense samples
    cdef Py_ssize_t width
    cdef void* workspace
    cdef void* scratch
    cdef Py_ssize_t scratch_size                # reals
    cdef real* base                             # the parameters
    cdef Py_ssize_t size                        # and pads, in reals
    cdef object parameters
    cdef object statistics
    cdef LossRule loss
    cdef object pos_weight

    def __cinit__(self, sizes, layers, real[::1] parameters, offsets, real[::1] statistics, places, loss):
        cdef Layer* layer
        cdef Py_ssize_t end = 0
        cdef int l
        cdef const real[::1] pos_weight
        self.depth = len(sizes) - 1
        self.loss.code, self.loss.parameter, pos_weight, self.loss.limit = loss
        if self.loss.code != -1:                    # a function of the caller's
            loss_code(self.loss.code)
        self.pos_weight = pos_weight
        self.loss.pos_weight = &pos_weight[0] if pos_weight is not None else NULL
        self.global_step = 0
        self.parameters = parameters
        self.statistics = statistics
        self.base = &parameters[0]
        self.layers = <Layer*>calloc(self.depth, sizeof(Layer))
        if self.layers == NULL:
            raise MemoryError
        for l in range(self.depth):
            layer = self.layers + l
            layer.n_in = sizes[l]
            layer.n_out = sizes[l + 1]
            layer.row_out = padded(layer.n_out)
            layer.activation, layer.alpha, layer.dropout, stores_derivative, layer.statistics_rate, layer.epsilon = layers[l]
            activation_code(layer.activation)
            layer.s = <real*>self.layers if stores_derivative else NULL    # places come with the workspace
            layer.at_w, layer.at_b, layer.at_scale = offsets[l]
            layer.w = self.base + layer.at_w
            layer.b = self.base + layer.at_b
            end = layer.at_b + layer.row_out
            if layer.at_scale >= 0:
                layer.scale = self.base + layer.at_scale
                end = layer.at_scale + layer.row_out
                layer.running_mean = &statistics[0] + <Py_ssize_t>places[l][0]
                layer.running_variance = &statistics[0] + <Py_ssize_t>places[l][1]
            self.width = max(self.width, panels(layer.n_in), panels(layer.n_out), layer.row_out)
        self.size = end
        if end != parameters.shape[0]:
            raise ValueError(f"parameters: expected {end} elements, got {parameters.shape[0]}")

    def __dealloc__(self):
        free(self.layers)
        free(self.workspace)
        free(self.scratch)

    def set_global_step(self, long long step):
        self.global_step = step

    def workspace_nbytes(self, Py_ssize_t batch_size, int slots, int threads, nonzeros=None):
        """Bytes that training with this batch size, so many buffers of optimizer state and at most so many threads
        holds beside parameters, state and data; of sparse samples, where a batch has at most so many nonzeros."""
        cdef Run run
        cdef Py_ssize_t most = -1 if nonzeros is None else nonzeros
        threads = threads_for(self.depth, self.layers, batch_size, self.layers[0].n_in, threads)
        return (self.plan_workspace(NULL, batch_size, slots, most, &run, False)
                + <Py_ssize_t>threads * training_scratch(batch_size) * <Py_ssize_t>sizeof(real))

    cdef Py_ssize_t plan_workspace(self, real* base, Py_ssize_t batch_size, int slots, Py_ssize_t nonzeros, Run* run,
                                   bint place) noexcept:
        """Places everything a training step needs after `base`, or only counts the bytes that it takes: a
        question that another thread may ask while this one trains."""
        cdef Layer unused
        cdef Layer* layer
        cdef Layer* top = self.layers + self.depth - 1
        cdef Py_ssize_t rows = batch_size | 1       # odd, so that panels fall into different cache sets
        cdef Py_ssize_t end = 0, inputs = 0, groups = 0, parameters
        cdef int l
        run.panel = rows * NR
        run.x = bump(base, &end, rows * panels(self.layers[0].n_in)) if nonzeros < 0 else NULL
        for l in range(self.depth):
            unused = self.layers[l]
            layer = self.layers + l if place else &unused
            inputs += layer.n_in
            groups += groups_of(layer)
            layer.d = bump(base, &end, rows * panels(layer.n_out))
            layer.y = layer.w_t = layer.w_o = NULL
            if l < self.depth - 1:
                layer.y = bump(base, &end, rows * panels(layer.n_out))
            if ONCE:
                layer.w_o = bump(base, &end, panels(layer.n_out) // NR * operands_panel(layer.n_in))
            if l > 0:
                layer.w_t = bump(base, &end, panels(layer.n_in) // NR * operands_panel(layer.n_out) if ONCE else
                                 layer.n_out * panels(layer.n_in))
            if layer.s != NULL:
                layer.s = bump(base, &end, rows * panels(layer.n_out))
            if layer.scale != NULL:
                layer.x_hat = bump(base, &end, rows * panels(layer.n_out))
                layer.mean = bump(base, &end, panels(layer.n_out))
                layer.inv_std = bump(base, &end, panels(layer.n_out))
                layer.d_scale = bump(base, &end, panels(layer.n_out))
                layer.d_shift = bump(base, &end, panels(layer.n_out))
        parameters = end
        for l in range(self.depth):
            unused = self.layers[l]
            layer = self.layers + l if place else &unused
            layer.unpacked = l == 0 and nonzeros >= 0
            layer.w_p = bump(base, &end, layer.n_in * (layer.row_out if layer.unpacked else panels(layer.n_out)))
            layer.b_p = bump(base, &end, panels(layer.n_out))
            layer.scale_p = bump(base, &end, panels(layer.n_out)) if layer.scale != NULL else NULL
        parameters = end - parameters
        for l in range(slots):                      # laid out like the parameters
            run.weight_rule.slot[l] = run.bias_rule.slot[l] = parameters * (l + 1)
            bump(base, &end, parameters)
        run.z = top.d
        run.z_row = NR
        run.t_row = top.row_out
        if top.n_out == 1 and (self.depth > 1 or nonzeros < 0) and not WITH_BF16:   # of dense rows: see one_column
            run.z = bump(base, &end, rows)
            run.z_row = run.t_row = 1
        elif top.n_out > NR:
            run.z = bump(base, &end, rows * top.row_out + NR)
            run.z_row = top.row_out
        run.t = bump(base, &end, rows * run.t_row)
        run.w = <double*>bump(base, &end, rows * sizeof(double) // sizeof(real))
        run.losses = bump(base, &end, rows)
        run.squares = <double*>bump(base, &end, inputs * sizeof(double) // sizeof(real))
        run.penalties = <double*>bump(base, &end, groups * sizeof(double) // sizeof(real))
        run.labels = bump_indices(base, &end, rows)
        if nonzeros >= 0:
            run.nonzeros.capacity = nonzeros
            run.nonzeros.begin = bump_indices(base, &end, rows)
            run.nonzeros.end = bump_indices(base, &end, rows)
            run.nonzeros.columns = bump_indices(base, &end, nonzeros)
            run.nonzeros.values = bump(base, &end, nonzeros)
            run.nonzeros.samples = bump_indices(base, &end, nonzeros)
            run.nonzeros.next = bump_indices(base, &end, nonzeros)
            run.nonzeros.first = bump_indices(base, &end, self.layers[0].n_in)
        return end * sizeof(real)

    cdef real* ensure_workspace(self, Py_ssize_t batch_size, int slots, Py_ssize_t nonzeros) except NULL:
        """The workspace, from the start of a cache line; kept for the next call. Room for more nonzeros than there are
        is kept, too: self.nonzeros says how much it is."""
        cdef Py_ssize_t size
        cdef Run run
        if (self.batch_size != batch_size or self.slots != slots or self.nonzeros < nonzeros
                or nonzeros < 0 and self.nonzeros >= 0):
            self.write_back()
            free(self.workspace)
            self.batch_size = 0
            size = self.plan_workspace(NULL, batch_size, slots, nonzeros, &run, False) + 64
            self.workspace = calloc(size, 1)        # pads are zeros
            if self.workspace == NULL:
                raise MemoryError(f"a workspace of {size} bytes for batches of {batch_size}")
            prefer_large_pages(self.workspace, size)
            self.batch_size = batch_size
            self.slots = slots
            self.nonzeros = nonzeros
        return to_line(self.workspace)

    cdef real* ensure_scratch(self, int threads, Py_ssize_t size) except NULL:
        """So many reals for every thread; kept for the next call."""
        if self.scratch_size < threads * size:
            free(self.scratch)
            self.scratch_size = 0
            self.scratch = malloc(<size_t>(threads * size) * sizeof(real) + 64)
            if self.scratch == NULL:
                raise MemoryError
            self.scratch_size = threads * size
        return to_line(self.scratch)

    def takes(self, x, y):
        """Whether x and y are a batch as it is: x a table of the right width, y labels (n,) as intp or rows
        (n, outputs) of the network's dtype that the loss takes. False also for what only needs to be converted."""
        cdef Py_buffer view_x, view_y
        cdef Table table
        cdef Targets targets
        cdef Py_ssize_t outputs = self.layers[self.depth - 1].n_out
        cdef bint of_labels, fits = False
        if type(x) is not ndarray or type(y) is not ndarray or self.loss.code < 0:
            return False
        if get_buffer(x, &view_x, PyBUF_STRIDES | PyBUF_FORMAT) != 0:
            PyErr_Clear()
            return False
        if get_buffer(y, &view_y, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) != 0:
            PyErr_Clear()
            PyBuffer_Release(&view_x)
            return False
        of_labels = view_y.ndim == 1
        if (view_x.ndim == 2 and describe(&table, &view_x) and table.columns == self.layers[0].n_in and table.rows > 0
                and view_y.ndim > 0 and view_y.itemsize > 0
                and view_y.shape[0] == table.rows and <size_t>view_y.buf % view_y.itemsize == 0):
            targets.labels = NULL
            targets.rows = NULL
            targets.row = outputs
            if of_labels:
                fits = takes_labels(self.loss.code) and is_of_indices(&view_y)
                targets.labels = <const Py_ssize_t*>view_y.buf
            elif view_y.ndim == 2:
                fits = takes_rows(self.loss.code) and view_y.shape[1] == outputs and is_of_reals(&view_y)
                targets.rows = <const real*>view_y.buf
            with nogil:
                fits = fits and targets_fit(self.loss.code, &targets, table.rows, outputs)
        PyBuffer_Release(&view_x)
        PyBuffer_Release(&view_y)
        return fits

    @cython.critical_section
    def train(self, samples, UpdateRule rule not None, Rates rates, state, Py_ssize_t first, Py_ssize_t last, uint64_t seed,
              totals, int threads, bint store=True, function=None, real[::1] gradients=None, adjust=None,
              double[:, ::1] record=None, observer=None):
        """Steps first..last - 1 over samples, fastmlp._core.network.Samples, which have been checked; what another thread
        may have changed since is checked again.

        rates           of steps from state.step on; None for gradients alone, without any update
        state           fastmlp.optimizers.State, whose buffers are laid out like the parameters; or None. Of another
                        dtype it is converted for this run, and back after it
        seed            of dropout
        totals          (losses, weights) summed so far
        store           parameters and state to the caller's arrays after the run; otherwise they stay in the
                        workspace, for the next run to go on with, until `write_back`
        function        a loss of the caller's own: it takes the logits (rows, padded outputs), the first sample's
                        place and the number of rows, writes the gradient over the logits and gives the mean loss;
                        what it raises is its attribute `error` afterwards, and ends the run
        gradients       buffer for them, laid out like the parameters, without rates, for a limit on their norm, for an
                        observer, and for
        adjust          called without arguments between the gradients of every step, which are in that buffer then, and
                        the update; what it raises is its attribute `error`, and ends the run before the update
        record          (steps, 3), whose rows receive the mean loss, the weight and the penalty of every step
        observer        fastmlp._core.observer.Observer, which is told of the steps

        Returns `totals` plus the losses and weights of all samples seen. The steps that were made are counted
        in global_step and state.step, also where the caller's loss ended the run."""
        cdef Run run
        cdef Py_buffer views[6]                     # x, of sparse samples three, y, weights, order: `held` are ours to
        cdef Py_buffer* view = views                # release
        cdef int held = 0, i
        cdef bint claimed = False
        cdef tuple buffers = buffers_of(state)
        cdef real[::1] buffer
        cdef Py_ssize_t outputs = self.layers[self.depth - 1].n_out, batch_size = samples.batch_size
        cdef bint known = same_objects(buffers, self.last_state)
        cdef Py_ssize_t nonzeros = -1 if PyObject_CheckBuffer(samples.x) else samples.nonzeros
        cdef double inputs = self.layers[0].n_in
        if self.training == this_process() or (self.training and self.trainer == PyThread_get_thread_ident()
                                             and _team.claims_of_thread()):     # its loss has forked, and this is the child
            raise RuntimeError("the model is being trained by another thread" if self.trainer != PyThread_get_thread_ident()
                               else "the model is being trained: its loss cannot train it, too")
        if not known and not are_of_reals(buffers):
            own = state.astype("f" if sizeof(real) == 4 else "d")
            try:
                return self.train(samples, rule, rates, own, first, last, seed, totals, threads, True, function, gradients,
                                  adjust, record, observer)
            finally:
                state.assign(own)
        if self.kept and (rates is None or not known):
            self.write_back()
        memset(&run, 0, sizeof(Run))
        run.weight_rule = rule.weights
        run.bias_rule = rule.biases
        run.clip_norm = rule.clip_norm
        self.plan_workspace(self.ensure_workspace(batch_size, len(buffers), nonzeros), batch_size, len(buffers),
                            self.nonzeros, &run, True)
        run.layers = self.layers
        run.depth = self.depth
        run.loss = self.loss
        run.loss_function = <PyObject*>function if function is not None else NULL
        run.adjust = <PyObject*>adjust if adjust is not None else NULL
        run.batch_size = batch_size
        run.first = first
        run.last = last
        run.wrong = run.wrong_x = -1
        run.process = this_process()
        run.load = self.kept != run.process
        run.store = store
        run.seed = seed
        run.global_step = self.global_step
        run.parameters = self.base
        run.slots = len(buffers)
        for i in range(run.slots):
            if known:
                run.state[i] = self.last.state[i]
            else:
                buffer = buffers[i]
                run.state[i] = &buffer[0]
        run.gradients = &gradients[0] if gradients is not None else NULL
        if record is not None:
            if record.shape[0] < last or record.shape[1] != 3:
                raise ValueError(f"record: expected shape ({last}, 3), got {record.shape[0], record.shape[1]}")
            run.record = &record[0, 0]
        if observer is not None:
            self.watch_for(observer, &run.watch, last - first)
        if rates is not None:
            run.rates = rates.at(state.step, last - first)
            run.rates_row = rates.row
        run.loss_sum, run.weight_sum = totals
        run.threads = 1
        self.trainer = PyThread_get_thread_ident()
        self.training = run.process
        try:
            if not open_samples(samples.x, &run.table, &run.sparse, views, &held):
                raise TypeError(f"X: cannot convert {samples.x.dtype}")
            if run.sparse.indptr != NULL:
                inputs = nonzeros_of_a_row(&run.sparse)
                if not zeros_change_nothing(&run.weight_rule):      # an update of all weights for the whole batch
                    inputs += <double>self.layers[0].n_in / batch_size
            view = views + held
            PyObject_GetBuffer(samples.targets, view, PyBUF_STRIDES | PyBUF_FORMAT)
            held += 1
            if function is None and view.ndim == 1:
                run.targets.labels = <const Py_ssize_t*>indices_of(view)
            elif function is None and not describe(&run.target_rows, view):
                raise TypeError(f"y: cannot convert {samples.targets.dtype}")
            if samples.weights is not None:
                PyObject_GetBuffer(samples.weights, view + 1, PyBUF_C_CONTIGUOUS)
                held += 1
                run.weights = <const double*>view[1].buf
            if samples.order is not None:
                PyObject_GetBuffer(samples.order, &views[held], PyBUF_STRIDES | PyBUF_FORMAT)
                held += 1
                run.order = <const Py_ssize_t*>indices_of(&views[held - 1])
            run.n = run.table.rows if run.order == NULL else views[held - 1].shape[0]
            if (run.table.columns != self.layers[0].n_in or run.n > run.table.rows or first < 0
                    or (last - 1) * batch_size >= run.n
                    or (run.sparse.indptr != NULL) != (nonzeros >= 0)
                    or function is None and view.shape[0] != run.table.rows
                    or function is None and run.targets.labels == NULL and run.target_rows.columns != outputs
                    or run.weights != NULL and view[1].len != run.table.rows * <Py_ssize_t>sizeof(double)):
                raise ValueError("X, y: their shapes changed while they were trained on")
            if WITH_BF16 and run.sparse.indptr != NULL:
                raise TypeError("X: expected dense samples to compute in bfloat16, got sparse ones")
            run.threads = _team.claim(threads_for(self.depth, self.layers, batch_size, inputs, threads))
            claimed = True
            run.scratch_size = training_scratch(batch_size)
            run.scratch = self.ensure_scratch(run.threads, run.scratch_size)
            with nogil:
                _team.run(train, &run, run.threads)
            self.last = run
            self.last_state = buffers
            self.kept = 0 if rates is None or store or is_broken(&run) else run.process
            if rates is not None:
                self.global_step += run.done
                state.step = state.step + run.done
            if observer is not None:
                observer.step = observer.step + run.done
            if run.wrong >= 0:
                raise ValueError(f"y: expected class indices from 0 to {outputs - 1}, got {samples.targets[run.wrong]} in "
                                 f"row {run.wrong}: it was changed while it was trained on")
            if run.wrong_x >= 0:
                raise ValueError(f"X: expected columns from 0 to {self.layers[0].n_in - 1}, and as many as there were, got "
                                 f"others in row {run.wrong_x}: it was changed while it was trained on")
        finally:
            if claimed:
                _team.release(run.threads)
            self.training = 0
            while held:
                held -= 1
                PyBuffer_Release(&views[held])
        return run.loss_sum, run.weight_sum

    cdef watch_for(self, observer, Watch* watch, Py_ssize_t steps):
        """The observer's arrays, which it keeps."""
        cdef real[::1] alive = observer.alive, alive_in_epoch = observer.alive_in_epoch, weights = observer.before.buffer
        cdef double[:, ::1] sums = observer.sums
        cdef const double[:, ::1] ends = observer.ends
        cdef double[:, :, ::1] table = observer.table
        cdef Py_ssize_t places = 0
        cdef int l
        for l in range(self.depth):
            places += places_of(self.layers + l)
        watch.places = places
        watch.step, watch.steps, watch.reports = observer.step, observer.steps, table.shape[0]
        if (alive.shape[0] != places or alive_in_epoch.shape[0] != places or weights.shape[0] != self.size
                or sums.shape[0] != UNIT_SUMS or sums.shape[1] != places or ends.shape[0] != self.depth or ends.shape[1] != 2
                or table.shape[1] != self.depth or table.shape[2] != REPORTED
                or not 0 <= watch.step <= watch.steps - steps or not 0 < watch.reports <= watch.steps):
            raise ValueError("observer: made for another network, or for an epoch of fewer steps")
        watch.alive = &alive[0]
        watch.alive_in_epoch = &alive_in_epoch[0]
        watch.weights = &weights[0]
        watch.sums = &sums[0, 0]
        watch.ends = &ends[0, 0]
        watch.table = &table[0, 0, 0]

    @cython.critical_section
    cpdef write_back(self):
        """To the caller's arrays, parameters and state that the last run left in the workspace."""
        if self.kept and self.kept == this_process() and self.training != self.kept:
            self.last.threads = 1
            store_share(&self.last, 0)
            self.kept = 0

    @cython.critical_section
    def forward(self, x, real[:, :] out, int threads, hidden=None):
        """out = the last layer's values, for every row of x (n, inputs), a table of any numeric dtype; and hidden[l], an
        array or None, those of the hidden layers. False where the dtype is none that can be converted, or shapes do not
        fit."""
        cdef Inference run
        cdef Py_buffer views[3]
        cdef int most, held = 0, i
        cdef real[:, ::1] values
        cdef bint apart = True
        cdef void* scratch
        run.hidden = NULL
        if self.kept:
            self.write_back()
        try:
            if not open_samples(x, &run.x, &run.sparse, views, &held) or run.sparse.indptr == NULL and views[0].ndim != 2:
                return False
            if (run.x.columns != self.layers[0].n_in or run.x.rows != out.shape[0]
                    or self.layers[self.depth - 1].n_out != out.shape[1]):
                return False
            if WITH_BF16 and run.sparse.indptr != NULL:
                return False
            if run.x.rows == 0:
                return True
            for i in range(held):
                apart = apart and (views[i].len == 0 or buffers_apart(
                    &views[i], &out[0, 0], out.shape[0], out.strides[0], out.shape[1], out.strides[1]))
            if not (apart and can_be_written(&out[0, 0], out.shape[0], out.strides[0], out.shape[1], out.strides[1],
                                       self.base, self.size)):
                return False
            run.layers = self.layers
            run.depth = self.depth
            run.packed = False
            run.int8 = 0
            run.output = OUT_VALUES
            if hidden is not None:
                run.hidden = <real**>calloc(self.depth, sizeof(real*))
                if run.hidden == NULL:
                    raise MemoryError
                for i in range(self.depth - 1):
                    if hidden[i] is not None:
                        values = hidden[i]
                        if values.shape[0] != run.x.rows or values.shape[1] != self.layers[i].n_out:
                            return False
                        run.hidden[i] = &values[0, 0]
            run.out = <char*>&out[0, 0]
            run.out_row = out.strides[0]
            run.out_column = out.strides[1]
            run.width = self.width
            if run.sparse.indptr != NULL:
                run.shares_columns = False
                most = threads_for(self.depth, self.layers, run.x.rows, nonzeros_of_a_row(&run.sparse), threads)
            else:
                most = threads_of_columns(self.depth, self.layers, run.x.rows, threads)
                run.shares_columns = most > 1
                if not run.shares_columns:
                    most = threads_for(self.depth, self.layers, run.x.rows, self.layers[0].n_in, threads)
            threads = _team.claim(most)
            run.threads = threads
            memset(&run.barrier, 0, sizeof(Barrier))
            run.block = min(MC, run.x.rows)
            scratch = malloc(activations_nbytes(&run) + threads * product_nbytes(&run) + 64)
            run.scratch = to_line(scratch)
            if scratch != NULL:
                with nogil:
                    _team.run(infer, &run, threads)
            free(scratch)
            _team.release(threads)
            if scratch == NULL:
                raise MemoryError
        finally:
            free(run.hidden)
            for i in range(held):
                PyBuffer_Release(&views[i])
        return True
