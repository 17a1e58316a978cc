# The kernels, from a Cython extension: `from fastmlp.kernels cimport cython_api`.
#
# Functions take float and double, and run the instruction set that is active when fastmlp is imported. Arrays are
# contiguous memoryviews: outputs, inputs, options. They neither hold the GIL nor raise, but return whether it was
# done: False, with nothing written, where shapes do not fit, an output overlaps an input, an address is no multiple
# of the element's size, or an option is out of range. Subnormal numbers count as zero.
#
# `activation` and `loss` are the `code` of a class, fastmlp.activations.ReLU.code, fastmlp.losses.CrossEntropy.code,
# and `alpha`, `parameter` what it has beside that, or 0. docs/guide/cython.md has an example.

from fastmlp.kernels.functions cimport Functions

ctypedef fused real:
    float
    double

# Of the numbers of 4 or 8 bytes.
cdef const Functions* functions_of(size_t itemsize) noexcept nogil


cdef class Handle:
    """An inference handle (`MLP.compile_predict`), for `predict` and `predict_labels`. It never changes."""
    cdef object predictor           # keeps the plan alive
    cdef void* plan
    cdef readonly Py_ssize_t inputs
    cdef readonly Py_ssize_t columns    # of a row of results
    cdef readonly size_t itemsize       # of the numbers that it takes: 4 or 8
    cdef readonly bint of_labels        # results are Py_ssize_t


cdef inline void* start(const real[::1] a) noexcept nogil:
    """NULL for None, which stands for an array that is not there, and for one without elements."""
    return NULL if a is None or a.shape[0] == 0 else <void*>&a[0]


cdef inline void* start2(const real[:, ::1] a) noexcept nogil:
    return NULL if a is None or a.shape[0] == 0 or a.shape[1] == 0 else <void*>&a[0, 0]


cdef inline bint same_shape(const real[:, ::1] a, const real[:, ::1] b) noexcept nogil:
    return a.shape[0] == b.shape[0] and a.shape[1] == b.shape[1]


# Dense layers --------------------------------------------------------------------------------------

cdef inline bint dense_forward(real[:, ::1] y, const real[:, ::1] x, const real[:, ::1] w, const real[::1] b,
                               int activation, double alpha) noexcept nogil:
    """y = f(x w + b);  y (m, n), x (m, k), w (k, n), b (n,) or None: 0"""
    if not (w.shape[0] == x.shape[1] and y.shape[0] == x.shape[0] and y.shape[1] == w.shape[1]
            and (b is None or b.shape[0] == w.shape[1])):
        return False
    return functions_of(sizeof(real)).dense_forward(start2(y), start2(x), start2(w), start(b), x.shape[0], x.shape[1],
                                                    w.shape[1], activation, alpha)


cdef inline Py_ssize_t dense_backward_scratch(const real[:, ::1] x, const real[:, ::1] w) noexcept nogil:
    """Elements of scratch that dense_backward takes."""
    return functions_of(sizeof(real)).dense_backward_scratch(x.shape[0], x.shape[1], w.shape[1])


cdef inline bint dense_backward(real[:, ::1] dx, real[:, ::1] dw, real[::1] db, const real[:, ::1] dy,
                                const real[:, ::1] x, const real[:, ::1] w, const real[:, ::1] y, int activation,
                                double alpha, real[::1] scratch) noexcept nogil:
    """dz = dy f'(z), of y = f(z), whose derivative is computed from y;  dx = dz w^T (m, k),  dw = x^T dz (k, n),
    db (n,) = sum of dz over the rows.  dx may be None: not wanted; y too, of the identity.  False also for GELU and
    its kin, whose derivative y does not determine."""
    if not (w.shape[0] == x.shape[1] and dy.shape[0] == x.shape[0] and dy.shape[1] == w.shape[1]
            and same_shape[real](dw, w) and db.shape[0] == w.shape[1] and (dx is None or same_shape[real](dx, x))
            and (y is None or same_shape[real](y, dy)) and scratch.shape[0] >= dense_backward_scratch[real](x, w)):
        return False
    return functions_of(sizeof(real)).dense_backward(
        start2(dx), start2(dw), start(db), start2(dy), start2(x), start2(w), start2(y), x.shape[0], x.shape[1],
        w.shape[1], activation, alpha, start(scratch))


# Activations, element by element; softmax, along rows ----------------------------------------------

cdef inline bint activation_forward(real[::1] y, const real[::1] x, int activation, double alpha) noexcept nogil:
    """y = f(x);  y may be x"""
    return y.shape[0] == x.shape[0] and functions_of(sizeof(real)).activation_forward(
        start(y), start(x), x.shape[0], activation, alpha)


cdef inline bint activation_backward(real[::1] dx, const real[::1] dy, const real[::1] y, int activation,
                                     double alpha) noexcept nogil:
    """dx = dy f'(x), of y = f(x) or, of GELU and its kin, y = x;  dx may be dy or y"""
    return dx.shape[0] == dy.shape[0] and y.shape[0] == dy.shape[0] and functions_of(sizeof(real)).activation_backward(
        start(dx), start(dy), start(y), dy.shape[0], activation, alpha)


cdef inline bint softmax(real[:, ::1] y, const real[:, ::1] x) noexcept nogil:
    """y = softmax of every row of x;  y may be x"""
    return same_shape[real](y, x) and functions_of(sizeof(real)).softmax(
        start2(y), start2(x), x.shape[0], x.shape[1], False)


cdef inline bint log_softmax(real[:, ::1] y, const real[:, ::1] x) noexcept nogil:
    """y = log softmax of every row of x;  y may be x"""
    return same_shape[real](y, x) and functions_of(sizeof(real)).softmax(
        start2(y), start2(x), x.shape[0], x.shape[1], True)


cdef inline bint softmax_backward(real[:, ::1] dx, const real[:, ::1] dy, const real[:, ::1] y) noexcept nogil:
    """Of y = softmax(x);  dx may be dy or y"""
    return same_shape[real](dx, dy) and same_shape[real](y, dy) and functions_of(sizeof(real)).softmax_backward(
        start2(dx), start2(dy), start2(y), dy.shape[0], dy.shape[1], False)


cdef inline bint log_softmax_backward(real[:, ::1] dx, const real[:, ::1] dy, const real[:, ::1] y) noexcept nogil:
    """Of y = log softmax(x);  dx may be dy or y"""
    return same_shape[real](dx, dy) and same_shape[real](y, dy) and functions_of(sizeof(real)).softmax_backward(
        start2(dx), start2(dy), start2(y), dy.shape[0], dy.shape[1], True)


# Losses --------------------------------------------------------------------------------------------

cdef inline bint loss_of_labels(double* mean, real[:, ::1] d, const real[:, ::1] z, const Py_ssize_t[::1] labels,
                                int loss, double parameter) noexcept nogil:
    """The mean loss of the rows of z (m, n), and its gradient d;  labels (m,) are class indices"""
    return (same_shape[real](d, z) and labels.shape[0] == z.shape[0] and labels.shape[0] > 0
            and functions_of(sizeof(real)).loss(mean, start2(d), start2(z), &labels[0], NULL, z.shape[0], z.shape[1],
                                                loss, parameter))


cdef inline bint loss_of_rows(double* mean, real[:, ::1] d, const real[:, ::1] z, const real[:, ::1] targets, int loss,
                              double parameter) noexcept nogil:
    """The mean loss of the rows of z (m, n), and its gradient d;  targets (m, n) are values or distributions"""
    return (same_shape[real](d, z) and same_shape[real](targets, z)
            and functions_of(sizeof(real)).loss(mean, start2(d), start2(z), NULL, start2(targets), z.shape[0],
                                                z.shape[1], loss, parameter))


# Updates, in place ---------------------------------------------------------------------------------

cdef inline bint sgd_update(real[::1] param, const real[::1] grad, real[::1] velocity, double lr, double momentum,
                            bint nesterov, double weight_decay) noexcept nogil:
    """A step of SGD; velocity may be None without momentum."""
    return (grad.shape[0] == param.shape[0] and (velocity is None or velocity.shape[0] == param.shape[0])
            and functions_of(sizeof(real)).sgd_update(start(param), start(grad), start(velocity), param.shape[0], lr,
                                                      momentum, nesterov, weight_decay))


cdef inline bint adagrad_update(real[::1] param, const real[::1] grad, real[::1] squares, double lr, double eps,
                                double weight_decay) noexcept nogil:
    return (grad.shape[0] == param.shape[0] and squares.shape[0] == param.shape[0]
            and functions_of(sizeof(real)).adagrad_update(start(param), start(grad), start(squares), param.shape[0], lr,
                                                          eps, weight_decay))


cdef inline bint rmsprop_update(real[::1] param, const real[::1] grad, real[::1] squares, double lr, double rho,
                                double eps, double weight_decay) noexcept nogil:
    return (grad.shape[0] == param.shape[0] and squares.shape[0] == param.shape[0]
            and functions_of(sizeof(real)).rmsprop_update(start(param), start(grad), start(squares), param.shape[0], lr,
                                                          rho, eps, weight_decay))


cdef inline bint adam_update(real[::1] param, const real[::1] grad, real[::1] first_moment, real[::1] second_moment,
                             Py_ssize_t step, double lr, double beta1, double beta2, double eps, double weight_decay,
                             bint decoupled) noexcept nogil:
    """Step 1, 2, ... of Adam or, with decoupled weight decay, AdamW."""
    return (grad.shape[0] == param.shape[0] and first_moment.shape[0] == param.shape[0]
            and second_moment.shape[0] == param.shape[0]
            and functions_of(sizeof(real)).adam_update(
                start(param), start(grad), start(first_moment), start(second_moment), param.shape[0], step, lr, beta1,
                beta2, eps, weight_decay, decoupled))


# Inference handles, from any number of threads at once -----------------------------------------------

cdef inline bint predict(Handle handle, real[:, ::1] out, const real[:, ::1] x) noexcept nogil:
    """out (rows, handle.columns) = logits, probabilities or values of every row of x (rows, handle.inputs)"""
    return (handle.itemsize == sizeof(real) and not handle.of_labels and x.shape[1] == handle.inputs
            and out.shape[0] == x.shape[0] and out.shape[1] == handle.columns
            and functions_of(sizeof(real)).predict(handle.plan, start2(out), start2(x), x.shape[0]))


cdef inline bint predict_labels(Handle handle, Py_ssize_t[:, ::1] out, const real[:, ::1] x) noexcept nogil:
    """out (rows, handle.columns) = labels of every row of x (rows, handle.inputs)"""
    return (handle.itemsize == sizeof(real) and handle.of_labels and x.shape[1] == handle.inputs
            and out.shape[0] == x.shape[0] and out.shape[1] == handle.columns
            and (out.shape[0] == 0
                 or functions_of(sizeof(real)).predict(handle.plan, &out[0, 0], start2(x), x.shape[0])))
