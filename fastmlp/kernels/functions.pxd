# The table of functions through which cython_api.pxd calls the kernels of a dtype, whose numbers are `void*` here.
#
# Extensions are compiled against this text and run with a later one: members are added at the end, and never changed.
# Every function returns whether it was done; False, with nothing written, where arguments do not fit (cython_api.pxd).

cdef struct Functions:
    bint (*dense_forward)(void* y, const void* x, const void* w, const void* b, Py_ssize_t m, Py_ssize_t k,
                          Py_ssize_t n, int activation, double alpha) noexcept nogil
    Py_ssize_t (*dense_backward_scratch)(Py_ssize_t m, Py_ssize_t k, Py_ssize_t n) noexcept nogil
    bint (*dense_backward)(void* dx, void* dw, void* db, const void* dy, const void* x, const void* w, const void* y,
                           Py_ssize_t m, Py_ssize_t k, Py_ssize_t n, int activation, double alpha,
                           void* scratch) noexcept nogil
    bint (*activation_forward)(void* y, const void* x, Py_ssize_t n, int activation, double alpha) noexcept nogil
    bint (*activation_backward)(void* dx, const void* dy, const void* y, Py_ssize_t n, int activation,
                                double alpha) noexcept nogil
    bint (*softmax)(void* y, const void* x, Py_ssize_t m, Py_ssize_t n, bint logarithm) noexcept nogil
    bint (*softmax_backward)(void* dx, const void* dy, const void* y, Py_ssize_t m, Py_ssize_t n,
                             bint logarithm) noexcept nogil
    bint (*loss)(double* mean, void* d, const void* z, const Py_ssize_t* labels, const void* targets, Py_ssize_t m,
                 Py_ssize_t n, int loss, double parameter) noexcept nogil
    bint (*sgd_update)(void* param, const void* grad, void* velocity, Py_ssize_t n, double lr, double momentum,
                       bint nesterov, double weight_decay) noexcept nogil
    bint (*adagrad_update)(void* param, const void* grad, void* squares, Py_ssize_t n, double lr, double eps,
                           double weight_decay) noexcept nogil
    bint (*rmsprop_update)(void* param, const void* grad, void* squares, Py_ssize_t n, double lr, double rho,
                           double eps, double weight_decay) noexcept nogil
    bint (*adam_update)(void* param, const void* grad, void* first, void* second, Py_ssize_t n, Py_ssize_t step,
                        double lr, double beta1, double beta2, double eps, double weight_decay,
                        bint decoupled) noexcept nogil
    bint (*predict)(void* plan, void* out, const void* x, Py_ssize_t rows) noexcept nogil
