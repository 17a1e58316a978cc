# The kernels for other extensions: the table of functions.pxd, of which cython_api.pyx takes that of the active
# instruction set. Arrays are contiguous; what else they must be is looked at here, since nothing else does.

from fastmlp.kernels.functions cimport Functions


cdef inline bint is_activation(int code) noexcept nogil:
    return 0 <= code < FUN_EXP          # the functions that are no activation of a layer come after them


cdef bint export_dense_forward(void* y, const void* x, const void* w, const void* b, Py_ssize_t m, Py_ssize_t k,
                               Py_ssize_t n, int activation, double alpha) noexcept nogil:
    return is_activation(activation) and dense_layer(
        <real*>y, <const real*>x, <const real*>w, <const real*>b, m, k, n, activation, <real>alpha) == 1


cdef Py_ssize_t export_dense_backward_scratch(Py_ssize_t m, Py_ssize_t k, Py_ssize_t n) noexcept nogil:
    return dense_backward_scratch(m, k, n)


cdef bint export_dense_backward(void* dx, void* dw, void* db, const void* dy, const void* x, const void* w,
                                const void* y, Py_ssize_t m, Py_ssize_t k, Py_ssize_t n, int activation,
                                double alpha, void* scratch) noexcept nogil:
    if not is_activation(activation) or y == NULL and activation != ACT_IDENTITY or not from_output(activation):
        return False
    return dense_layer_backward(<real*>dx, <real*>dw, <real*>db, <const real*>dy, <const real*>x, <const real*>w,
                                <const real*>y, m, k, n, activation, <real>alpha, <real*>scratch)


cdef bint export_activation_forward(void* y, const void* x, Py_ssize_t n, int activation, double alpha) noexcept nogil:
    if not (is_activation(activation) and aligned(<real*>y) and aligned(<real*>x)
            and same_or_apart(<real*>y, <const real*>x, n)):
        return False
    map_array(activation, <real*>y, <const real*>x, n, <real>alpha)
    return True


cdef bint export_activation_backward(void* dx, const void* dy, const void* y, Py_ssize_t n, int activation,
                                     double alpha) noexcept nogil:
    if not (is_activation(activation) and aligned(<real*>dx) and aligned(<real*>dy) and aligned(<real*>y)
            and same_or_apart(<real*>dx, <const real*>dy, n) and same_or_apart(<real*>dx, <const real*>y, n)):
        return False
    map_backward(activation, <real*>dx, <const real*>dy, <const real*>y, n, <real>alpha)
    return True


cdef bint export_softmax(void* y, const void* x, Py_ssize_t m, Py_ssize_t n, bint logarithm) noexcept nogil:
    if not (aligned(<real*>y) and aligned(<real*>x) and same_or_apart(<real*>y, <const real*>x, m * n)):
        return False
    if n:
        softmax_rows(<real*>y, <const real*>x, m, n, logarithm)
    return True


cdef bint export_softmax_backward(void* dx, const void* dy, const void* y, Py_ssize_t m, Py_ssize_t n,
                                  bint logarithm) noexcept nogil:
    cdef Py_ssize_t i
    if not (aligned(<real*>dx) and aligned(<real*>dy) and aligned(<real*>y)
            and same_or_apart(<real*>dx, <const real*>dy, m * n) and same_or_apart(<real*>dx, <const real*>y, m * n)):
        return False
    for i in range(m):
        if logarithm:
            log_softmax_backward_row(<real*>dx + i * n, <const real*>dy + i * n, <const real*>y + i * n, n)
        else:
            softmax_backward_row(<real*>dx + i * n, <const real*>dy + i * n, <const real*>y + i * n, n)
    return True


cdef bint export_loss(double* mean, void* d, const void* z, const Py_ssize_t* labels, const void* rows, Py_ssize_t m,
                      Py_ssize_t n, int loss, double parameter) noexcept nogil:
    cdef LossRule rule
    cdef Targets targets
    rule.code = loss
    rule.parameter = <real>parameter
    rule.limit = INFINITY
    rule.pos_weight = NULL
    targets.labels = labels
    targets.rows = <const real*>rows
    targets.row = n
    if m == 0 or n == 0 or not (takes_labels(loss) if labels != NULL else takes_rows(loss)):
        return False
    if not (aligned(<real*>d) and aligned(<real*>z) and aligned(targets.rows)
            and <size_t>labels % sizeof(Py_ssize_t) == 0
            and apart(<real*>d, m * n, <const real*>z, m * n)
            and (labels != NULL or apart(<real*>d, m * n, targets.rows, m * n)) and targets_fit(loss, &targets, m, n)):
        return False
    mean[0] = sum_of_losses(&rule, <real*>d, <const real*>z, targets, m, n, NULL, m) / m
    return True


cdef inline bint is_rate(double value) noexcept nogil:
    return 0 <= value < INFINITY


cdef bint export_sgd_update(void* param, const void* grad, void* velocity, Py_ssize_t n, double lr, double momentum,
                            bint nesterov, double weight_decay) noexcept nogil:
    cdef Optimizer o
    if not (is_rate(lr) and 0 <= momentum < 1 and is_rate(weight_decay)):
        return False
    sgd_rule(&o, lr, momentum, nesterov, weight_decay)
    return n == 0 or update_once(&o, <real*>param, <const real*>grad, <real*>velocity, NULL, n)


cdef bint export_adagrad_update(void* param, const void* grad, void* squares, Py_ssize_t n, double lr, double eps,
                                double weight_decay) noexcept nogil:
    cdef Optimizer o
    if not (is_rate(lr) and SMALLEST_EPS <= eps < INFINITY and is_rate(weight_decay)):
        return False
    adagrad_rule(&o, lr, eps, weight_decay)
    return n == 0 or update_once(&o, <real*>param, <const real*>grad, <real*>squares, NULL, n)


cdef bint export_rmsprop_update(void* param, const void* grad, void* squares, Py_ssize_t n, double lr, double rho,
                                double eps, double weight_decay) noexcept nogil:
    cdef Optimizer o
    if not (is_rate(lr) and 0 <= rho < 1 and SMALLEST_EPS <= eps < INFINITY and is_rate(weight_decay)):
        return False
    rmsprop_rule(&o, lr, rho, eps, weight_decay)
    return n == 0 or update_once(&o, <real*>param, <const real*>grad, <real*>squares, NULL, n)


cdef double integer_power(double base, Py_ssize_t n) noexcept nogil:
    """base^n, multiplied in the order of `power` of fastmlp/schedules.py."""
    cdef double low = 1, square = 1, high = 1
    cdef Py_ssize_t i
    for i in range(n & 255):
        low *= base
    n >>= 8
    if n:
        for i in range(255):
            square *= base
        square = base * square
    while n:
        if n & 1:
            high *= square
        square = square * square
        n >>= 1
    return low * high


cdef bint export_adam_update(void* param, const void* grad, void* first, void* second, Py_ssize_t n, Py_ssize_t step,
                             double lr, double beta1, double beta2, double eps, double weight_decay,
                             bint decoupled) noexcept nogil:
    cdef Optimizer o
    cdef double rates[RATES]
    if not (is_rate(lr) and 0 <= beta1 < 1 and 0 <= beta2 < 1 and SMALLEST_EPS <= eps < INFINITY
            and is_rate(weight_decay) and step >= 1):
        return False
    rates[0] = lr / (1 - integer_power(beta1, step))
    rates[1] = 1 / sqrt(1 - integer_power(beta2, step))
    rates[2] = lr * weight_decay if decoupled else 0
    adam_rule(&o, rates, beta1, beta2, eps, weight_decay, decoupled)
    return n == 0 or update_once(&o, <real*>param, <const real*>grad, <real*>first, <real*>second, n)


cdef bint export_predict(void* of_predictor, void* out, const void* x, Py_ssize_t rows) noexcept nogil:
    cdef Plan* plan = <Plan*>of_predictor
    cdef Inference run
    cdef const char* end
    run.x.data = <const char*>x
    run.x.rows = rows
    run.x.columns = plan.layers[0].n_in
    run.x.column = sizeof(real)
    run.x.row = run.x.columns * <Py_ssize_t>sizeof(real)
    run.x.kind = KIND_FLOAT + 2 if sizeof(real) == 4 else KIND_FLOAT + 3
    run.out = <char*>out
    run.threads = 1
    run.shares_columns = False
    if rows == 0:
        return True
    if plan.batch_size and rows > plan.batch_size or not aligned(<const real*>x) or <size_t>out % plan.itemsize:
        return False
    end = run.out + rows * plan.columns * plan.itemsize
    if not (end <= run.x.data or run.x.data + rows * run.x.row <= <const char*>out):
        return False
    return plan.predict(plan, &run)


cdef Functions functions
functions.dense_forward = export_dense_forward
functions.dense_backward_scratch = export_dense_backward_scratch
functions.dense_backward = export_dense_backward
functions.activation_forward = export_activation_forward
functions.activation_backward = export_activation_backward
functions.softmax = export_softmax
functions.softmax_backward = export_softmax_backward
functions.loss = export_loss
functions.sgd_update = export_sgd_update
functions.adagrad_update = export_adagrad_update
functions.rmsprop_update = export_rmsprop_update
functions.adam_update = export_adam_update
functions.predict = export_predict
FUNCTIONS = PyCapsule_New(&functions, b"fastmlp.kernels.functions", NULL)
