# A network as it was, for inference: weights packed once, validated once, then calls from any number of threads.
#
# A call takes scratch that no other call has, by one atomic exchange and without a lock; it tries that of its processor
# first, which is in the near cache. Scratch is made when so many calls run at once for the first time, and kept.

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

# By the name of what is made of a row of the last layer's values.
OUTPUTS = {
    "values": OUT_VALUES, "softmax": OUT_SOFTMAX, "sigmoid": OUT_SIGMOID, "exp": OUT_EXP,
    "largest": OUT_LARGEST, "positive": OUT_POSITIVE, "sign": OUT_SIGN,
}


cdef class Predictor:
    """An engine's network, as it is now.

    output          a name of OUTPUTS
    dtype           of the results: intp for "largest", "positive" and "sign", else that of the network
    is_vector       whether results are (rows,), one number for each row, and not (rows, outputs)
    batch_size      rows of a call at most; 0 for any number
    threads         that share the work of a large call
    """
    cdef Layer* layers
    cdef int depth
    cdef int threads
    cdef Output output
    cdef bint is_vector
    cdef object dtype
    cdef Py_ssize_t columns             # of a row of results
    cdef Py_ssize_t itemsize
    cdef Py_ssize_t batch_size
    cdef Py_ssize_t block               # rows that go through the network together
    cdef Py_ssize_t width               # the widest layer, in whole panels
    cdef double weights
    cdef void* memory                   # the parameters
    cdef Py_ssize_t memory_nbytes
    cdef Py_ssize_t scratch_nbytes      # of a call
    cdef Scratch scratch[CALLS]

    def __cinit__(self, Engine engine not None, str output, dtype, bint is_vector, Py_ssize_t batch_size, int threads):
        cdef Inference largest
        cdef Layer* layer
        cdef int l
        engine.write_back()
        self.output = OUTPUTS[output]
        self.dtype = dtype
        self.is_vector = is_vector
        self.itemsize = dtype.itemsize
        self.batch_size = batch_size
        self.depth = engine.depth
        self.width = engine.width
        self.threads = threads
        self.weights = weights_of(engine.depth, engine.layers)
        self.columns = 1 if self.output == OUT_LARGEST else engine.layers[self.depth - 1].n_out
        self.block = min(MC, batch_size) if batch_size else MC
        largest.block, largest.width, largest.threads, largest.shares_columns = self.block, self.width, threads, False
        self.scratch_nbytes = activations_nbytes(&largest) + 64
        self.layers = <Layer*>calloc(self.depth, sizeof(Layer))
        if self.layers == NULL:
            raise MemoryError
        for l in range(self.depth):
            self.layers[l] = engine.layers[l]
        self.memory_nbytes = self.place(NULL, False) * <Py_ssize_t>sizeof(real) + 64
        self.memory = calloc(self.memory_nbytes, 1)
        if self.memory == NULL or self.take_scratch(0) < 0:
            raise MemoryError
        self.give_back(0)
        prefer_large_pages(self.memory, self.memory_nbytes)
        self.place(to_line(self.memory), True)

    cdef Py_ssize_t place(self, real* base, bint copies) noexcept nogil:
        """Reals that the parameters take; with copies of them, from `base` on, in the places of the engine's."""
        cdef Py_ssize_t end = 0, n
        cdef Layer* layer
        cdef real* w
        cdef real* vectors[5]
        cdef int l
        for l in range(self.depth):
            layer = self.layers + l
            n = layer.n_out
            w = take(base, &end, panels(n) // NR * weights_panel(layer))
            vectors[0] = take(base, &end, n)
            if layer.scale != NULL:
                vectors[1], vectors[2] = take(base, &end, n), take(base, &end, n)
                vectors[3], vectors[4] = take(base, &end, n), take(base, &end, n)
            if copies:
                pack(w, weights_panel(layer), layer.w, layer.row_out, layer.n_in, n)
                layer.w = w
                layer.b = copied(vectors[0], layer.b, n)
                if layer.scale != NULL:
                    layer.scale = copied(vectors[1], layer.scale, n)
                    layer.running_mean = copied(vectors[2], layer.running_mean, n)
                    layer.running_variance = copied(vectors[3], layer.running_variance, n)
                    layer.inv_std = vectors[4]
                    with_kernel_mode(layer)
        return end

    def __dealloc__(self):
        cdef int i
        for i in range(CALLS):
            free(self.scratch[i].memory)
        free(self.memory)
        free(self.layers)

    @property
    def nbytes(self):
        """Bytes of the parameters, and of the scratch that calls have taken so far."""
        cdef Py_ssize_t total = self.memory_nbytes
        cdef int i
        for i in range(CALLS):
            if self.scratch[i].memory != NULL:
                total += self.scratch_nbytes
        return total

    cdef int take_scratch(self, int first) noexcept nogil:
        """The number of scratch that no other call has, of `first` if it is free; -1 where there is none."""
        cdef Scratch* one
        cdef int i, k
        for k in range(CALLS):
            i = (first + k) % CALLS
            one = self.scratch + i
            if atomic_read(&one.taken) == 0 and atomic_exchange_value(&one.taken, 1) == 0:
                if one.memory == NULL:
                    one.memory = malloc(self.scratch_nbytes)
                    if one.memory == NULL:
                        self.give_back(i)
                        return -1
                return i
        return -1

    cdef void give_back(self, int i) noexcept nogil:
        atomic_write(&self.scratch[i].taken, 0)

    cdef bint infer(self, Inference* run) noexcept nogil:
        """Rows of run.x to run.out, where they have been checked; False, with nothing written, without memory."""
        cdef int here = processor(), i = self.take_scratch(here if here > 0 else 0)
        cdef void* own = NULL
        run.layers = self.layers
        run.depth = self.depth
        run.packed = True
        run.output = self.output
        run.width = self.width
        run.block = min(self.block, run.x.rows)
        memset(&run.barrier, 0, sizeof(Barrier))
        if i < 0:
            own = malloc(self.scratch_nbytes)
            if own == NULL:
                return False
        run.scratch = to_line(own if i < 0 else self.scratch[i].memory)
        _team.run(infer, run, run.threads)
        if i < 0:
            free(own)
        else:
            self.give_back(i)
        return True

    def run(self, x, out):
        """What is asked for of every row of x, in `out` or, if that is None, in a new array. NotImplemented, with nothing
        written, for an x that is no plain array of (rows, inputs) or has too many rows, and for an out that is not
        contiguous, does not fit or overlaps x."""
        cdef Inference run
        cdef Py_buffer from_x, to
        cdef bint fits = False, done = False
        cdef tuple shape
        if type(x) is not ndarray or get_buffer(x, &from_x, PyBUF_STRIDES | PyBUF_FORMAT) != 0:
            PyErr_Clear()
            return NotImplemented
        try:
            if not (from_x.ndim == 2 and describe(&run.x, &from_x) and run.x.columns == self.layers[0].n_in
                    and (self.batch_size == 0 or run.x.rows <= self.batch_size)):
                return NotImplemented
            if out is None:
                if run.x.rows > MOST_ROWS:
                    return NotImplemented
                shape = (run.x.rows, self.columns)
                out = empty(shape[:1] if self.is_vector else shape, self.dtype)
            if type(out) is not ndarray or get_buffer(out, &to, TO_WRITE) != 0:
                PyErr_Clear()
                return NotImplemented
            fits = self.takes_out(&to, &from_x)
            if fits and run.x.rows > 0:
                run.out = <char*>to.buf
                run.out_column = self.itemsize
                run.out_row = self.columns * self.itemsize
                run.threads = 1
                run.shares_columns = False
                if self.threads > 1:
                    self.claim_threads(&run)
                if run.x.rows * self.weights <= SMALL_WORK:
                    done = self.infer(&run)
                else:
                    with nogil:
                        done = self.infer(&run)
                if self.threads > 1:
                    _team.release(run.threads)
                if not done:
                    PyBuffer_Release(&to)
                    raise MemoryError
            PyBuffer_Release(&to)
            return out if fits else NotImplemented
        finally:
            PyBuffer_Release(&from_x)

    cdef bint takes_out(self, const Py_buffer* to, const Py_buffer* x) noexcept:
        cdef const char* low
        cdef const char* high
        cdef bint is_index = self.output >= OUT_LARGEST
        if to.ndim != (1 if self.is_vector else 2) or to.shape[0] != x.shape[0]:
            return False
        if not self.is_vector and to.shape[1] != self.columns:
            return False
        if to.itemsize != self.itemsize or <size_t>to.buf % self.itemsize or to.format[1] != 0:
            return False
        if not (to.format[0] in b"lq" if is_index else to.format[0] == (c"f" if sizeof(real) == 4 else c"d")):
            return False
        if x.shape[0] == 0:
            return True
        extent(<const char*>x.buf, x.shape[0], x.strides[0], x.shape[1], x.strides[1], x.itemsize, &low, &high)
        return high <= <const char*>to.buf or <const char*>to.buf + to.len <= low

    cdef int claim_threads(self, Inference* run) except -1:
        cdef int most = threads_of_columns(self.depth, self.layers, run.x.rows, self.threads)
        run.shares_columns = most > 1
        if most == 1:
            most = threads_for(self.depth, self.layers, run.x.rows, self.threads)
        run.threads = _team.claim(most)
        return 0


cdef enum:
    MOST_ROWS = 1 << 16         # of a result that is made without a look at the machine's memory


cdef inline real* copied(real* to, const real* x, Py_ssize_t n) noexcept nogil:
    memcpy(to, x, n * sizeof(real))
    return to


cdef void with_kernel_mode(const Layer* layer) noexcept nogil:
    cdef fp_mode callers = enter_kernel_mode()
    running_inv_std(layer, layer.inv_std)
    leave_kernel_mode(callers)
