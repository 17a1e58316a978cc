# A network as it was, for inference: weights packed once, validated once, then calls from any number of threads.
#
# A call takes scratch that no other call has, by one atomic exchange and without a lock; it tries that of its processor
# first, which is in the near cache. Scratch is made when so many calls run at once for the first time, and kept.

from cpython.pycapsule cimport PyCapsule_New

cdef extern from "team.h" nogil:
    ctypedef long atomic
    long atomic_read(atomic* a)
    void atomic_write(atomic* a, long value)
    long atomic_exchange_value(atomic* a, long value)
    int processor()

cdef enum:
    CALLS = 64                  # that run at once with scratch that is kept; more make some for themselves

cdef double SMALL_WORK = 2e4    # multiply-adds up to which letting other threads run costs more than it can give

cdef struct Scratch:
    atomic taken
    void* memory
    char apart[48]              # a cache line of its own

cdef struct Plan:
    Layer* layers
    int depth
    int threads                         # that share the work of a large call
    Output output
    bint is_vector                      # results are (rows,), one number for each row, and not (rows, columns)
    Py_ssize_t columns                  # of a row of results
    Py_ssize_t itemsize
    Py_ssize_t batch_size               # rows of a call at most; 0 for any number
    Py_ssize_t block                    # rows that go through the network together
    Py_ssize_t width                    # the widest layer, in whole panels
    double weights
    int int8                            # what multiplies 8-bit integers, WIDENED, DOT or TILED; 0 where weights are reals
    Py_ssize_t scratch_nbytes           # of a call
    Scratch scratch[CALLS]
    bint (*predict)(Plan* plan, Inference* run) noexcept nogil      # of the module that made the plan


cdef void release_scratch(Plan* plan, int i) noexcept nogil:
    atomic_write(&plan.scratch[i].taken, 0)


cdef int take_scratch(Plan* plan, int first) noexcept nogil:
    """The number of scratch that no other call has, of `first` if it is free; -1 where there is none."""
    cdef Scratch* one
    cdef int i, k
    for k in range(CALLS):
        i = (first + k) % CALLS
        one = plan.scratch + i
        if atomic_read(&one.taken) == 0 and atomic_exchange_value(&one.taken, 1) == 0:
            if one.memory == NULL:
                one.memory = malloc(plan.scratch_nbytes)
                if one.memory == NULL:
                    release_scratch(plan, i)
                    return -1
            return i
    return -1


cdef bint predict_rows(Plan* plan, Inference* run) noexcept nogil:
    """Rows of run.x to run.out, where they have been checked; False, with nothing written, without memory."""
    cdef int here = processor(), i = take_scratch(plan, here if here > 0 else 0)
    cdef void* own = NULL
    run.layers = plan.layers
    run.depth = plan.depth
    run.packed = True
    run.int8 = plan.int8
    run.sparse.indptr = NULL
    run.output = plan.output
    run.hidden = NULL
    run.width = plan.width
    run.block = min(plan.block, run.x.rows)
    run.out_column = plan.itemsize
    run.out_row = plan.columns * plan.itemsize
    memset(&run.barrier, 0, sizeof(Barrier))
    if i < 0:
        own = malloc(plan.scratch_nbytes)
        if own == NULL:
            return False
    run.scratch = to_line(own if i < 0 else plan.scratch[i].memory)
    _team.run(infer, run, run.threads)
    if i < 0:
        free(own)
    else:
        release_scratch(plan, i)
    return True


cdef inline real* copied(real* to, const real* x, Py_ssize_t n) noexcept nogil:
    memcpy(to, x, n * sizeof(real))
    return to


cdef Py_ssize_t place_parameters(Plan* plan, real* base, bint copies) noexcept nogil:
    """Reals that the parameters take; with copies of them, from `base` on, in the places of the engine's."""
    cdef Py_ssize_t end = 0, n
    cdef Layer* layer
    cdef real* w
    cdef real* vectors[5]
    cdef fp_mode callers
    cdef int l, i
    for l in range(plan.depth):
        layer = plan.layers + l
        n = layer.n_out
        w = bump(base, &end, panels(n) // NR * operands_panel(layer.n_in))
        for i in range(5 if layer.scale != NULL else 1):
            vectors[i] = bump(base, &end, n)
        if copies:
            if WITH_BF16:
                pack_operands(w, operands_panel(layer.n_in), layer.w, layer.row_out, layer.n_in, n)
            else:
                pack(w, operands_panel(layer.n_in), layer.w, layer.row_out, layer.n_in, n)
            layer.w = w
            layer.b = copied(vectors[0], layer.b, n)
            if layer.scale != NULL:
                layer.scale = copied(vectors[1], layer.scale, n)
                layer.running_mean = copied(vectors[2], layer.running_mean, n)
                layer.running_variance = copied(vectors[3], layer.running_variance, n)
                layer.inv_std = vectors[4]
                callers = enter_kernel_mode()
                running_inv_std(layer, layer.inv_std)
                leave_kernel_mode(callers)
    return end


cdef Py_ssize_t place_parameters8(Plan* plan, real* base) noexcept nogil:
    """The same of a plan in 8-bit integers: nothing is copied yet."""
    cdef Py_ssize_t end = 0, n
    cdef Layer* layer
    cdef int l
    for l in range(plan.depth):
        layer = plan.layers + l
        n = panels(layer.n_out)
        layer.w8 = <int8_t*>bump(base, &end, n // NR * weights_panel8(plan.int8, layer.n_in) // <Py_ssize_t>sizeof(real) + 1)
        layer.w8_scale = bump(base, &end, n)
        layer.w8_sum = <ireal*>bump(base, &end, n)
        layer.b = bump(base, &end, n)
    return end


# By the name of what is made of a row of the last layer's values.
OUTPUTS = {
    "values": OUT_VALUES, "softmax": OUT_SOFTMAX, "sigmoid": OUT_SIGMOID, "exp": OUT_EXP,
    "largest": OUT_LARGEST, "positive": OUT_POSITIVE, "sign": OUT_SIGN,
}


# By the name of what multiplies 8-bit integers.
MULTIPLIERS = {"widened": WIDENED} if WITH_INT8 else {}
if WITH_INT8 and INT8_NAME[0]:
    MULTIPLIERS[INT8_NAME.decode("ascii")] = DOT
if HAS_TILED:
    MULTIPLIERS[TILED_NAME.decode("ascii")] = TILED


cdef enum:
    MOST_ROWS = 1 << 16         # of a result that is made without a look at the machine's memory


cdef class Predictor:
    """A network, as it is now.

    source          an engine; or, for products of 8-bit integers, for every layer weights (inputs, outputs) in int8,
                    scales and biases (outputs,), and the code and alpha of its activation
    output          a name of OUTPUTS
    dtype           of the results: intp for "largest", "positive" and "sign", else that of the network
    is_vector       whether results are (rows,), one number for each row, and not (rows, outputs)
    batch_size      rows of a call at most; 0 for any number
    threads         that share the work of a large call
    int8            what multiplies 8-bit integers: a name of MULTIPLIERS
    """
    cdef Plan plan
    cdef object dtype
    cdef void* memory                   # the parameters
    cdef Py_ssize_t memory_nbytes

    def __cinit__(self, source not None, str output, dtype, bint is_vector, Py_ssize_t batch_size, int threads,
                  str int8=None):
        cdef Plan* plan = &self.plan
        cdef Inference largest
        self.dtype = dtype
        plan.predict = predict_rows
        if int8 is not None:
            plan.int8 = MULTIPLIERS[int8]
        plan.output = OUTPUTS[output]
        plan.is_vector = is_vector
        plan.itemsize = dtype.itemsize
        plan.batch_size = batch_size
        plan.threads = threads
        if plan.int8:
            self.take_integers(source)
        else:
            self.take_engine(source)
        plan.weights = weights_of(plan.depth, plan.layers, plan.layers[0].n_in)
        plan.columns = 1 if plan.output == OUT_LARGEST else plan.layers[plan.depth - 1].n_out
        plan.block = INT8_ROWS if plan.int8 else MC
        if batch_size:
            plan.block = min(plan.block, batch_size)
        largest.block, largest.width, largest.threads, largest.shares_columns = plan.block, plan.width, threads, False
        largest.packed, largest.int8 = True, plan.int8
        plan.scratch_nbytes = activations_nbytes(&largest) + threads * product_nbytes(&largest) + 64
        if take_scratch(plan, 0) < 0:
            raise MemoryError
        release_scratch(plan, 0)

    cdef int ensure_layers(self, int depth) except -1:
        self.plan.layers = <Layer*>calloc(depth, sizeof(Layer))
        self.plan.depth = depth
        if self.plan.layers == NULL:
            raise MemoryError
        return 0

    cdef real* ensure_memory(self, Py_ssize_t reals) except NULL:
        """For the parameters: zeros."""
        self.memory_nbytes = reals * <Py_ssize_t>sizeof(real) + 64
        self.memory = calloc(self.memory_nbytes, 1)
        if self.memory == NULL:
            raise MemoryError
        prefer_large_pages(self.memory, self.memory_nbytes)
        return to_line(self.memory)

    cdef int take_engine(self, Engine engine) except -1:
        cdef Plan* plan = &self.plan
        cdef int l
        engine.write_back()
        self.ensure_layers(engine.depth)
        plan.width = engine.width
        for l in range(plan.depth):
            plan.layers[l] = engine.layers[l]
        place_parameters(plan, self.ensure_memory(place_parameters(plan, NULL, False)), True)
        return 0

    cdef int take_integers(self, list source) except -1:
        cdef Plan* plan = &self.plan
        cdef Layer* layer
        cdef const int8_t[:, ::1] weights
        cdef const real[::1] scales
        cdef const real[::1] biases
        cdef int l
        self.ensure_layers(<int>len(source))
        for l in range(plan.depth):
            layer = plan.layers + l
            weights, scales, biases, layer.activation, layer.alpha = source[l]
            layer.n_in, layer.n_out = weights.shape[0], weights.shape[1]
            layer.row_out = padded(layer.n_out)
            plan.width = max(plan.width, panels(layer.n_in), panels(layer.n_out), layer.row_out)
        place_parameters8(plan, self.ensure_memory(place_parameters8(plan, NULL)))
        for l in range(plan.depth):
            layer = plan.layers + l
            weights, scales, biases, _, _ = source[l]
            pack_weights8(plan.int8, layer.w8, layer.w8_sum, &weights[0, 0], layer.n_in, layer.n_out)
            copied(layer.w8_scale, &scales[0], layer.n_out)
            copied(layer.b, &biases[0], layer.n_out)
        return 0

    def __dealloc__(self):
        cdef int i
        for i in range(CALLS):
            free(self.plan.scratch[i].memory)
        free(self.memory)
        free(self.plan.layers)

    @property
    def nbytes(self):
        """Bytes of the parameters, and of the scratch that calls have taken so far."""
        cdef Py_ssize_t total = self.memory_nbytes
        cdef int i
        for i in range(CALLS):
            if self.plan.scratch[i].memory != NULL:
                total += self.plan.scratch_nbytes
        return total

    @property
    def parameters_nbytes(self):
        return self.memory_nbytes

    @property
    def description(self):
        """For fastmlp.kernels.cython_api: the plan, in a capsule; inputs, columns of a result, bytes of a number of the
        network, and whether results are integers."""
        return (PyCapsule_New(&self.plan, b"fastmlp.kernels.plan", NULL), self.plan.layers[0].n_in, self.plan.columns,
                sizeof(real), self.plan.output >= OUT_LARGEST)

    def run(self, x, out):
        """What is asked for of every row of x, in `out` or, if that is None, in a new array. None, with nothing
        written, for an x that is no plain array of (rows, inputs) or has too many rows, and for an out that is not contiguous,
        does not fit or overlaps x."""
        cdef Inference run
        cdef Plan* plan = &self.plan
        cdef Py_buffer from_x, to
        cdef bint fits = False, done = False
        cdef tuple shape
        if type(x) is not ndarray or get_buffer(x, &from_x, PyBUF_STRIDES | PyBUF_FORMAT) != 0:
            PyErr_Clear()
            return None
        try:
            if not (from_x.ndim == 2 and describe(&run.x, &from_x) and run.x.columns == plan.layers[0].n_in
                    and (plan.batch_size == 0 or run.x.rows <= plan.batch_size)):
                return None
            if out is None:
                if run.x.rows > MOST_ROWS:
                    return None
                shape = (run.x.rows, plan.columns)
                out = empty(shape[:1] if plan.is_vector else shape, self.dtype)
            if type(out) is not ndarray or get_buffer(out, &to, TO_WRITE) != 0:
                PyErr_Clear()
                return None
            fits = takes_out(plan, &to, &from_x)
            if fits and run.x.rows > 0:
                run.out = <char*>to.buf
                run.threads = 1
                run.shares_columns = False
                if plan.threads > 1:
                    claim_threads(plan, &run)
                if run.x.rows * plan.weights <= SMALL_WORK:
                    done = predict_rows(plan, &run)
                else:
                    with nogil:
                        done = predict_rows(plan, &run)
                if plan.threads > 1:
                    _team.release(run.threads)
                if not done:
                    PyBuffer_Release(&to)
                    raise MemoryError
            PyBuffer_Release(&to)
            return out if fits else None
        finally:
            PyBuffer_Release(&from_x)


cdef bint takes_out(const Plan* plan, const Py_buffer* to, const Py_buffer* x) noexcept:
    """Whether results of x can be written there: of their shape and type, and apart from x."""
    cdef const char* low
    cdef const char* high
    if to.ndim != (1 if plan.is_vector else 2) or to.shape[0] != x.shape[0]:
        return False
    if not plan.is_vector and to.shape[1] != plan.columns:
        return False
    if to.itemsize != plan.itemsize or <size_t>to.buf % plan.itemsize or to.format[1] != 0:
        return False
    if not (to.format[0] in b"lq" if plan.output >= OUT_LARGEST else
            to.format[0] == (c"f" if sizeof(real) == 4 else c"d")):
        return False
    if x.shape[0] == 0:
        return True
    extent(<const char*>x.buf, x.shape[0], x.strides[0], x.shape[1], x.strides[1], x.itemsize, &low, &high)
    return high <= <const char*>to.buf or <const char*>to.buf + to.len <= low


cdef int claim_threads(const Plan* plan, Inference* run) except -1:
    cdef int most = threads_of_columns(plan.depth, plan.layers, run.x.rows, plan.threads)
    run.shares_columns = most > 1
    if most == 1:
        most = threads_for(plan.depth, plan.layers, run.x.rows, plan.layers[0].n_in, plan.threads)
    run.threads = _team.claim(most)
    return 0
