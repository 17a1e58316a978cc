# What Python calls: every array function on plain arrays, as memoryviews. Outputs first, then inputs.
#
# They return False, with nothing written, where shapes do not fit or an output shares memory with an
# input; a wrong dtype, a non-contiguous or read-only array is refused by the memoryview itself.
# fastmlp/backends/cython.py declines the call then, and fastmlp/functional.py says what is wrong.

cdef inline bint apart(const real* a, Py_ssize_t n, const real* b, Py_ssize_t m) noexcept nogil:
    return a + n <= b or b + m <= a


cdef inline bint same_or_apart(const real* a, const real* b, Py_ssize_t n) noexcept nogil:
    return a == b or apart(a, n, b, n)


# Dense layers --------------------------------------------------------------------------------------

def dense_forward(real[:, ::1] y, const real[:, ::1] x, const real[:, ::1] w, const real[::1] b,
                  int activation, real alpha):
    """y = f(x w + b);  y (rows, n), x (rows, k), w (k, n), b (n,)"""
    cdef Py_ssize_t m = x.shape[0], k = x.shape[1], n = w.shape[1]
    cdef real packed[PANEL]
    cdef Product p
    if w.shape[0] != k or b.shape[0] != n or y.shape[0] != m or y.shape[1] != n:
        return False
    if m == 0 or n == 0:
        return True
    p.m = m
    p.n = n
    p.k = k
    p.a = &x[0, 0] if k else NULL
    p.a_row = k
    p.a_run = PLAIN
    p.a_panel = 0
    p.b = &w[0, 0] if k else NULL
    p.b_row = n
    p.b_panel = NR
    p.b_transposed = False
    p.c = &y[0, 0]
    p.c_row = n
    p.c_panel = NR
    p.bias = &b[0]
    p.activation = activation
    p.alpha = alpha
    p.y = NULL
    p.packed = packed
    if not (apart(p.c, m * n, p.a, m * k) and apart(p.c, m * n, p.b, k * n) and apart(p.c, m * n, p.bias, n)):
        return False
    with nogil:
        gemm(&p)
    return True


def dense_backward(real[:, ::1] dx, real[:, ::1] dw, real[::1] db, const real[:, ::1] dy, const real[:, ::1] x,
                   const real[:, ::1] w, const real[:, ::1] y, int activation, real alpha, real[:, ::1] dz):
    """dz = dy f'(z), of y = f(z);  dx = dz w^T,  dw = x^T dz,  db = sum of dz over the rows.
    dz (rows, n padded) is scratch whose rows hold whole lines."""
    cdef Py_ssize_t m = x.shape[0], k = x.shape[1], n = w.shape[1], z = dz.shape[1], i, j
    cdef real packed[PANEL]
    cdef real one = 1
    cdef Product p
    cdef Gradient g
    cdef Optimizer store
    cdef const real* inputs[4]
    cdef Py_ssize_t sizes[4]
    if (w.shape[0] != k or dy.shape[0] != m or dy.shape[1] != n or y.shape[0] != m or y.shape[1] != n
            or dx.shape[0] != m or dx.shape[1] != k or dw.shape[0] != k or dw.shape[1] != n or db.shape[0] != n):
        return False
    inputs[0] = &dy[0, 0] if m * n else NULL
    inputs[1] = &x[0, 0] if m * k else NULL
    inputs[2] = &w[0, 0] if k * n else NULL
    inputs[3] = &y[0, 0] if m * n else NULL
    sizes[:] = [m * n, m * k, k * n, m * n]
    p.c = &dx[0, 0] if m * k else NULL
    g.g = &dw[0, 0] if k * n else NULL
    for i in range(4):
        if not (apart(p.c, m * k, inputs[i], sizes[i]) and apart(g.g, k * n, inputs[i], sizes[i])
                and (n == 0 or apart(&db[0], n, inputs[i], sizes[i]))):
            return False
    if not apart(p.c, m * k, g.g, k * n) or n and not (apart(&db[0], n, p.c, m * k) and apart(&db[0], n, g.g, k * n)):
        return False
    with nogil:
        for i in range(m):
            if n:
                map_backward(activation, &dz[i, 0], &dy[i, 0], &y[i, 0], n, alpha)
            for j in range(n, z):
                dz[i, j] = 0
        if m and k:
            p.m = m
            p.n = k
            p.k = n
            p.a = &dz[0, 0] if n else NULL
            p.a_row = z
            p.a_run = PLAIN
            p.a_panel = 0
            p.b = inputs[2]
            p.b_row = n
            p.b_panel = NR
            p.b_transposed = True
            p.c_row = k
            p.c_panel = NR
            p.bias = NULL
            p.activation = ACT_IDENTITY
            p.alpha = 0
            p.y = NULL
            p.packed = packed
            gemm(&p)
        if n:
            store.rule = RULE_GRADIENT
            store.lr = store.weight_decay = store.momentum = 0
            store.velocity = 0
            g.rows = m
            g.k0 = 0
            g.k1 = k
            g.n = n
            g.a = inputs[1]
            g.a_row = k
            g.a_panel = NR
            g.d = &dz[0, 0] if m else NULL
            g.d_row = z
            g.d_panel = NR
            g.g_row = n
            g.g_panel = NR
            g.g_padded = False
            gemm_gradient(&g, &store)
            g.k1 = 1
            g.a = &one
            g.a_row = 0
            g.g = &db[0]
            gemm_gradient(&g, &store)
    return True


# Element by element --------------------------------------------------------------------------------

def map_forward(real[::1] y, const real[::1] x, int kind, real alpha):
    """y = f(x), element by element; y may be x"""
    cdef Py_ssize_t n = x.shape[0]
    if y.shape[0] != n:
        return False
    if n:
        if not same_or_apart(&y[0], &x[0], n):
            return False
        with nogil:
            map_array(kind, &y[0], &x[0], n, alpha)
    return True


def map_derivative(real[::1] dx, const real[::1] dy, const real[::1] y, int kind, real alpha):
    """dx = dy f'(x), of y = f(x), element by element; dx may be dy or y"""
    cdef Py_ssize_t n = dy.shape[0]
    if y.shape[0] != n or dx.shape[0] != n:
        return False
    if n:
        if not (same_or_apart(&dx[0], &dy[0], n) and same_or_apart(&dx[0], &y[0], n)):
            return False
        with nogil:
            map_backward(kind, &dx[0], &dy[0], &y[0], n, alpha)
    return True


# Along rows ----------------------------------------------------------------------------------------

def softmax(real[:, ::1] y, const real[:, ::1] x, bint logarithm):
    """softmax or log-softmax of every row; y may be x"""
    cdef Py_ssize_t m = x.shape[0], n = x.shape[1], i
    if y.shape[0] != m or y.shape[1] != n:
        return False
    if m and n:
        if not same_or_apart(&y[0, 0], &x[0, 0], m * n):
            return False
        with nogil:
            for i in range(m):
                if logarithm:
                    log_softmax_row(&y[i, 0], &x[i, 0], n)
                else:
                    softmax_row(&y[i, 0], &x[i, 0], n)
    return True


def softmax_backward(real[:, ::1] dx, const real[:, ::1] dy, const real[:, ::1] y, bint logarithm):
    """The derivative of either, in terms of its output y; dx may be dy or y"""
    cdef Py_ssize_t m = dy.shape[0], n = dy.shape[1], i
    if y.shape[0] != m or y.shape[1] != n or dx.shape[0] != m or dx.shape[1] != n:
        return False
    if m and n:
        if not (same_or_apart(&dx[0, 0], &dy[0, 0], m * n) and same_or_apart(&dx[0, 0], &y[0, 0], m * n)):
            return False
        with nogil:
            for i in range(m):
                if logarithm:
                    log_softmax_backward_row(&dx[i, 0], &dy[i, 0], &y[i, 0], n)
                else:
                    softmax_backward_row(&dx[i, 0], &dy[i, 0], &y[i, 0], n)
    return True


def loss_of_rows(real[:, ::1] d, const real[:, ::1] z, const real[:, ::1] rows, const Py_ssize_t[::1] labels, int loss):
    """The mean loss of the rows of z against `rows` or `labels` (the other one None), and its gradient d.
    None, with nothing written, where shapes or targets do not fit."""
    cdef Py_ssize_t m = z.shape[0], n = z.shape[1], i
    cdef Targets targets
    cdef double total = 0
    if m == 0 or n == 0 or d.shape[0] != m or d.shape[1] != n:
        return None
    targets.labels = NULL
    targets.rows = NULL
    targets.row = n
    if loss == LOSS_CROSS_ENTROPY:
        if labels is None or labels.shape[0] != m:
            return None
        targets.labels = &labels[0]
    else:
        if rows is None or rows.shape[0] != m or rows.shape[1] != n:
            return None
        targets.rows = &rows[0, 0]
        if not apart(&d[0, 0], m * n, targets.rows, m * n):
            return None
    if not apart(&d[0, 0], m * n, &z[0, 0], m * n) or not targets_fit(loss, &targets, m, n):
        return None
    with nogil:
        for i in range(m):
            total += loss_row(loss, &d[i, 0], &z[i, 0], &targets, i, n, <real>1 / m)
    return total / m


# Updates -------------------------------------------------------------------------------------------

def sgd_update(real[::1] param, const real[::1] grad, real lr, real momentum, real[::1] velocity,
               bint nesterov, real weight_decay):
    """g = grad + weight_decay param;  v = momentum v + g;  param -= lr (v, or g + momentum v with nesterov)"""
    cdef Py_ssize_t n = param.shape[0]
    cdef Optimizer o
    if grad.shape[0] != n:
        return False
    o.rule = RULE_SGD
    o.lr = lr
    o.momentum = momentum
    o.weight_decay = weight_decay
    o.velocity = 0
    if n == 0:
        return True
    if not apart(&param[0], n, &grad[0], n):
        return False
    if momentum != 0:
        if velocity is None or velocity.shape[0] != n:
            return False
        if not (apart(&param[0], n, &velocity[0], n) and apart(&grad[0], n, &velocity[0], n)):
            return False
        o.rule = RULE_NESTEROV if nesterov else RULE_MOMENTUM
        o.velocity = &velocity[0] - &param[0]
    with nogil:
        update(&o, &param[0], n, &grad[0], n, 1, n)
    return True
