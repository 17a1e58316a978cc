# For calls on small arrays, where the call costs more than the work: a typed memoryview costs 220 ns an
# argument, the bare buffer of a NumPy array 45. Public signatures; NotImplemented, with nothing written,
# for what does not fit. float32 comes first, and what it declines goes on to its sibling, float64.

cdef extern from "Python.h":
    int get_buffer "PyObject_GetBuffer" (object, Py_buffer*, int) noexcept
    void PyErr_Clear()

cdef enum:      # these two are all a look asks for; the shape comes with either
    TO_READ = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT
    TO_WRITE = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | PyBUF_WRITABLE

cdef enum:
    SMALL = 4096        # elements up to which letting other threads run costs more than it can give
    SMALL_SCRATCH = 16384       # elements that the system gives at once; more are kept from call to call, by Python

cdef object ndarray = None, float_dtype = None, empty = None, resolve = None, rates_of_adam = None, sibling = None
cdef dict codes = {}


def introduce(array_type, dtype, new_array, activation_of, activation_codes, adam_rates, other_dtype):
    """What the functions below use of Python: np.ndarray, its dtype of reals, np.empty(shape, dtype), the
    activation meant by an argument, {name: (code, alpha)} of the usual ones, adam_rates of fastmlp/optimizers.py,
    and the module to try after this one, or None."""
    global ndarray, float_dtype, empty, resolve, codes, rates_of_adam, sibling
    ndarray, float_dtype, empty, resolve = array_type, dtype, new_array, activation_of
    codes, rates_of_adam, sibling = activation_codes, adam_rates, other_dtype


cdef inline bint look(Py_buffer* view, object array, int flags):
    """The buffer of a plain array of reals, to be released; False for anything else. Exactly np.ndarray: a
    masked array would lose its mask."""
    if type(array) is not ndarray:
        return False
    if get_buffer(array, view, flags) != 0:
        PyErr_Clear()
        return False
    if (view.format[0] == (c"f" if sizeof(real) == 4 else c"d") and view.format[1] == 0
            and <size_t>view.buf % sizeof(real) == 0):
        return True
    PyBuffer_Release(view)
    return False


cdef inline bint same_shape(const Py_buffer* a, const Py_buffer* b) noexcept:
    cdef int i
    if a.ndim != b.ndim:
        return False
    for i in range(a.ndim):
        if a.shape[i] != b.shape[i]:
            return False
    return True


cdef object short_map(object x, int kind, double alpha, object out):
    """f(x), element by element"""
    cdef Py_buffer from_x, to
    cdef Py_ssize_t n
    cdef bint fits
    if (out is None and type(x) is ndarray and x.dtype is float_dtype
            and <Py_ssize_t>x.nbytes <= <Py_ssize_t>(SMALL * sizeof(real))):
        out = x.copy()              # in the first-level cache, and only one buffer to look at
        if not look(&to, out, TO_WRITE):
            return NotImplemented
        map_array(kind, <real*>to.buf, <const real*>to.buf, to.len // <Py_ssize_t>sizeof(real), <real>alpha)
        PyBuffer_Release(&to)
        return out
    if sibling is not None and not (type(x) is ndarray and x.dtype is float_dtype):
        result = sibling.array_map(x, kind, alpha, out)
        if result is not NotImplemented:
            return result
    if not look(&from_x, x, TO_READ):
        return NotImplemented
    try:
        if out is None:
            out = empty(x.shape, x.dtype)
        if not look(&to, out, TO_WRITE):
            return NotImplemented
        n = from_x.len // sizeof(real)
        fits = same_shape(&from_x, &to) and same_or_apart(<real*>to.buf, <const real*>from_x.buf, n)
        if fits and n <= SMALL:
            map_array(kind, <real*>to.buf, <const real*>from_x.buf, n, <real>alpha)
        elif fits:
            with nogil:
                map_array(kind, <real*>to.buf, <const real*>from_x.buf, n, <real>alpha)
        PyBuffer_Release(&to)
        return out if fits else NotImplemented
    finally:
        PyBuffer_Release(&from_x)


def array_map(x, int kind, double alpha, out):
    return short_map(x, function_code(kind), alpha, out)


cdef object short_rows(object x, bint logarithm, object out):
    """softmax or log-softmax along the last axis"""
    cdef Py_buffer from_x, to
    cdef Py_ssize_t size, n
    cdef bint fits
    if not look(&from_x, x, TO_READ):
        if sibling is None:
            return NotImplemented
        return sibling.array_log_softmax(x, out=out) if logarithm else sibling.array_softmax(x, out=out)
    try:
        if from_x.ndim == 0:
            return NotImplemented
        if out is None:
            out = empty(x.shape, x.dtype)
        if not look(&to, out, TO_WRITE):
            return NotImplemented
        size = from_x.len // sizeof(real)
        n = from_x.shape[from_x.ndim - 1]
        fits = same_shape(&from_x, &to) and same_or_apart(<real*>to.buf, <const real*>from_x.buf, size)
        if fits and size:
            with nogil:
                softmax_rows(<real*>to.buf, <const real*>from_x.buf, size // n, n, logarithm)
        PyBuffer_Release(&to)
        return out if fits else NotImplemented
    finally:
        PyBuffer_Release(&from_x)


def array_softmax(x, *, out=None):
    return short_rows(x, False, out)


def array_log_softmax(x, *, out=None):
    return short_rows(x, True, out)


cdef inline bint is_row(const Py_buffer* view, Py_ssize_t n) noexcept:
    """(n,), or the same as (1, n)"""
    return (view.ndim == 1 or view.ndim == 2 and view.shape[0] == 1) and view.shape[view.ndim - 1] == n


cdef inline object code_and_alpha(object activation):
    known = codes.get(activation) if type(activation) is str else None
    if known is None:
        f = resolve(activation)
        known = activation_code(f.code), f.alpha
    return known


def array_dense_forward(x, w, b=None, activation="identity", *, out=None):
    cdef Py_buffer view[4]          # x, w, out, b: the first `held` of them are ours to release
    cdef int held = 0, code, done
    cdef double alpha
    cdef Py_ssize_t m, k, n
    cdef const real* bias = NULL
    try:
        if not look(&view[0], x, TO_READ):
            return NotImplemented if sibling is None else sibling.array_dense_forward(x, w, b, activation, out=out)
        held = 1
        if not look(&view[1], w, TO_READ):
            return NotImplemented
        held = 2
        if view[0].ndim != 2 or view[1].ndim != 2:
            return NotImplemented
        m, k, n = view[0].shape[0], view[0].shape[1], view[1].shape[1]
        if view[1].shape[0] != k:
            return NotImplemented
        code, alpha = code_and_alpha(activation)
        if out is None:
            out = empty((m, n), x.dtype)
        if not look(&view[2], out, TO_WRITE):
            return NotImplemented
        held = 3
        if view[2].ndim != 2 or view[2].shape[0] != m or view[2].shape[1] != n:
            return NotImplemented
        if b is not None:
            if not look(&view[3], b, TO_READ):
                return NotImplemented
            held = 4
            if not is_row(&view[3], n):
                return NotImplemented
            bias = <const real*>view[3].buf
        with nogil:
            done = dense_layer(<real*>view[2].buf, <const real*>view[0].buf, <const real*>view[1].buf, bias, m, k, n,
                               code, <real>alpha)
        if done < 0:
            raise MemoryError
        return out if done else NotImplemented
    except (TypeError, ValueError):     # no such activation; more bytes than there are addresses
        return NotImplemented
    finally:
        while held:
            held -= 1
            PyBuffer_Release(&view[held])


def array_dense_backward(dy, x, w, y=None, activation="identity", *, out=None, need_dx=True):
    cdef Py_buffer view[7]          # dy, x, w, dw, db, y, dx: the first `held` of them are ours to release
    cdef int held = 0, code
    cdef double alpha
    cdef Py_ssize_t m, k, n
    cdef const real* outputs = NULL
    cdef real* d_inputs = NULL
    cdef bint done
    cdef void* scratch = NULL
    try:
        if not look(&view[0], dy, TO_READ):
            if sibling is None:
                return NotImplemented
            return sibling.array_dense_backward(dy, x, w, y, activation, out=out, need_dx=need_dx)
        held = 1
        if not look(&view[1], x, TO_READ):
            return NotImplemented
        held = 2
        if not look(&view[2], w, TO_READ):
            return NotImplemented
        held = 3
        if view[0].ndim != 2 or view[1].ndim != 2 or view[2].ndim != 2:
            return NotImplemented
        m, k, n = view[1].shape[0], view[1].shape[1], view[2].shape[1]
        if view[2].shape[0] != k or view[0].shape[0] != m or view[0].shape[1] != n:
            return NotImplemented
        code, alpha = code_and_alpha(activation)
        if not from_output(code) or dense_backward_scratch(m, k, n) > SMALL_SCRATCH:
            return NotImplemented
        if y is None and code != ACT_IDENTITY or type(need_dx) is not bool:
            return NotImplemented
        if out is None:
            out = empty((m, k), float_dtype) if need_dx else None, empty((k, n), float_dtype), empty(n, float_dtype)
        dx, dw, db = out
        if dx is not None and not need_dx:
            return NotImplemented
        if not look(&view[3], dw, TO_WRITE):
            return NotImplemented
        held = 4
        if not look(&view[4], db, TO_WRITE):
            return NotImplemented
        held = 5
        if not same_shape(&view[3], &view[2]) or view[4].ndim != 1 or view[4].shape[0] != n:
            return NotImplemented
        if y is not None:
            if not look(&view[held], y, TO_READ):
                return NotImplemented
            held += 1
            if not same_shape(&view[held - 1], &view[0]):
                return NotImplemented
            outputs = <const real*>view[held - 1].buf
        if dx is not None:
            if not look(&view[held], dx, TO_WRITE):
                return NotImplemented
            held += 1
            if not same_shape(&view[held - 1], &view[1]):
                return NotImplemented
            d_inputs = <real*>view[held - 1].buf
        scratch = malloc(dense_backward_scratch(m, k, n) * sizeof(real))
        if scratch == NULL:
            return NotImplemented
        with nogil:
            done = dense_layer_backward(d_inputs, <real*>view[3].buf, <real*>view[4].buf, <const real*>view[0].buf,
                                        <const real*>view[1].buf, <const real*>view[2].buf, outputs, m, k, n, code,
                                        <real>alpha, <real*>scratch)
        return (dx, dw, db) if done else NotImplemented
    except (TypeError, ValueError):     # no such activation; no three arrays
        return NotImplemented
    finally:
        free(scratch)
        while held:
            held -= 1
            PyBuffer_Release(&view[held])


# Update rules: as above, None after a step, in place. A step of few parameters takes less time than it takes to
# make an array, so no number becomes an object on the way.

cdef bint number(object value, double* x):
    """A float or an int as it is; False for anything else, and for what float64 does not hold."""
    if isinstance(value, float):        # np.float64 too
        x[0] = <double>value
        return True
    if type(value) is not int:
        return False
    try:
        x[0] = <double>value
    except OverflowError:
        return False
    return True


cdef inline bint not_negative(object value, double* x):
    return number(value, x) and 0 <= x[0] < INFINITY


cdef inline bint below_one(object value, double* x):
    return number(value, x) and 0 <= x[0] < 1


cdef inline bint as_eps(object value, double* x):
    return number(value, x) and SMALLEST_EPS <= x[0] < INFINITY


cdef double SMALLEST_EPS = 1e-37        # as in fastmlp/optimizers.py


cdef object short_update(Optimizer* o, object param, object grad, object first, object second):
    """One step by the rule, with nothing changed where it is declined; `first` and `second` may be None."""
    cdef Py_buffer view[4]          # the first `held` of them are ours to release
    cdef real* slots[MOST_SLOTS]
    cdef int held = 0, i
    cdef Py_ssize_t n
    cdef bint done
    try:
        if not look(&view[0], param, TO_WRITE):
            return NotImplemented
        held = 1
        if not look(&view[1], grad, TO_READ):
            return NotImplemented
        held = 2
        if not same_shape(&view[0], &view[1]):
            return NotImplemented
        for i in range(MOST_SLOTS):
            slot = second if i else first
            slots[i] = NULL
            if slot is None:
                continue
            if not look(&view[held], slot, TO_WRITE):
                return NotImplemented
            held += 1
            if not same_shape(&view[0], &view[held - 1]):
                return NotImplemented
            slots[i] = <real*>view[held - 1].buf
        n = view[0].len // <Py_ssize_t>sizeof(real)
        if n <= SMALL:
            done = update_once(o, <real*>view[0].buf, <const real*>view[1].buf, slots[0], slots[1], n)
        else:
            with nogil:
                done = update_once(o, <real*>view[0].buf, <const real*>view[1].buf, slots[0], slots[1], n)
        return None if done else NotImplemented
    finally:
        while held:
            held -= 1
            PyBuffer_Release(&view[held])


cdef bint is_other_dtype(object param):
    """Not of this module's dtype, but maybe of its sibling's."""
    cdef Py_buffer view
    if sibling is None or type(param) is ndarray and param.dtype is float_dtype:
        return False
    if not look(&view, param, TO_READ):
        return True
    PyBuffer_Release(&view)
    return False


def array_sgd_update(param, grad, lr, momentum=0.0, velocity=None, nesterov=False, weight_decay=0.0):
    cdef Optimizer o
    cdef double rate, beta, decay
    if is_other_dtype(param):
        return sibling.array_sgd_update(param, grad, lr, momentum, velocity, nesterov, weight_decay)
    if not (not_negative(lr, &rate) and below_one(momentum, &beta) and not_negative(weight_decay, &decay)):
        return NotImplemented
    sgd_rule(&o, rate, beta, bool(nesterov), decay)
    return short_update(&o, param, grad, velocity, None)


def array_adagrad_update(param, grad, lr, squares, eps=1e-10, weight_decay=0.0):
    cdef Optimizer o
    cdef double rate, least, decay
    if is_other_dtype(param):
        return sibling.array_adagrad_update(param, grad, lr, squares, eps, weight_decay)
    if not (not_negative(lr, &rate) and as_eps(eps, &least) and not_negative(weight_decay, &decay)):
        return NotImplemented
    adagrad_rule(&o, rate, least, decay)
    return short_update(&o, param, grad, squares, None)


def array_rmsprop_update(param, grad, lr, squares, rho=0.99, eps=1e-8, weight_decay=0.0):
    cdef Optimizer o
    cdef double rate, beta, least, decay
    if is_other_dtype(param):
        return sibling.array_rmsprop_update(param, grad, lr, squares, rho, eps, weight_decay)
    if not (not_negative(lr, &rate) and below_one(rho, &beta) and as_eps(eps, &least)
            and not_negative(weight_decay, &decay)):
        return NotImplemented
    rmsprop_rule(&o, rate, beta, least, decay)
    return short_update(&o, param, grad, squares, None)


def array_adam_update(param, grad, lr, first_moment, second_moment, step, beta1=0.9, beta2=0.999, eps=1e-8,
                      weight_decay=0.0, decoupled=False):
    cdef Optimizer o
    cdef double rate, first, second, least, decay
    cdef double numbers[RATES]
    if is_other_dtype(param):
        return sibling.array_adam_update(param, grad, lr, first_moment, second_moment, step, beta1, beta2, eps,
                                         weight_decay, decoupled)
    if not (not_negative(lr, &rate) and below_one(beta1, &first) and below_one(beta2, &second) and as_eps(eps, &least)
            and not_negative(weight_decay, &decay) and type(step) is int and step >= 1):
        return NotImplemented
    decoupled = bool(decoupled)
    rates = rates_of_adam(rate, first, second, step, rate * decay if decoupled else 0.0)
    numbers[:] = [rates[0], rates[1], rates[2]]
    adam_rule(&o, numbers, first, second, least, decay, decoupled)
    return short_update(&o, param, grad, first_moment, second_moment)
