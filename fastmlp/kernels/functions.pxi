# What Python calls: every array function on plain arrays, as memoryviews. Outputs first, then inputs.
#
# They return False, with nothing written, where shapes do not fit, an output shares memory with an input, or
# an address is no multiple of the element's size, which a memoryview does not check; a wrong dtype, a
# non-contiguous or read-only array is refused by the memoryview itself. fastmlp/backends/cython declines
# the call then, and fastmlp/functional says what is wrong, or copies.

cdef inline bint aligned(const real* p) noexcept nogil:
    """NULL too, which stands for an array that is not there."""
    return <size_t>p % sizeof(real) == 0


cdef inline bint apart(const real* a, Py_ssize_t n, const real* b, Py_ssize_t m) noexcept nogil:
    return a + n <= b or b + m <= a


cdef inline bint same_or_apart(const real* a, const real* b, Py_ssize_t n) noexcept nogil:
    return a == b or apart(a, n, b, n)


from cpython.buffer cimport PyBUF_C_CONTIGUOUS, PyBUF_WRITABLE
from libc.math cimport ldexp


# Dense layers --------------------------------------------------------------------------------------

cdef int dense_layer(real* y, const real* x, const real* w, const real* b, Py_ssize_t m, Py_ssize_t k, Py_ssize_t n,
                      int activation, real alpha) noexcept nogil:
    """y = f(x w + b);  y (m, n), x (m, k), w (k, n), b (n,) or NULL: 0.  1; 0 where y overlaps an input or an array is
    not aligned, -1 without memory."""
    cdef void* scratch = NULL
    cdef Py_ssize_t a_size = 0, b_size = 0, packed_size = 0, edge_size = 0
    cdef fp_mode callers
    cdef Product p
    if m == 0 or n == 0:
        return 1
    if not (aligned(y) and aligned(x) and aligned(w) and aligned(b)):
        return 0
    if not (apart(y, m * n, x, m * k) and apart(y, m * n, w, k * n) and apart(y, m * n, b, n if b != NULL else 0)):
        return 0
    p.m = m
    p.n = n
    p.k = k
    p.a = x
    p.a_row = k
    p.a_run = ENDLESS
    p.a_panel = 0
    p.b = w
    p.b_row = n
    p.b_panel = NR
    p.b_operands = False
    p.c = y
    p.c_row = n
    p.c_panel = NR
    p.bias = b
    p.activation = activation
    p.alpha = alpha
    p.y = NULL
    p.exact = True
    p.a_block = p.b_block = NULL
    if m >= PACK_ROWS and n >= PACK_COLUMNS:
        a_size = (MC | 1) * KC
    if m > PACK_BLOCK_ROWS and k * n > CACHED:
        b_size = KC * panels(n)
    if m > 1 and (m >= PACK_ROWS or n % VL):
        packed_size = min(k, <Py_ssize_t>KC) * NR
    if WITH_BF16:
        packed_size = PANEL
        a_size = product_scratch(m) - PANEL
    if (m > 1 or WITH_BF16) and n % VL:
        edge_size = min(m, <Py_ssize_t>MC) * NR
    if a_size + b_size + packed_size + edge_size:
        scratch = malloc((a_size + b_size + packed_size + edge_size) * sizeof(real) + 64)
        if scratch == NULL:
            return -1
    p.packed = to_line(scratch)
    p.edge = p.packed + packed_size
    if a_size:
        p.a_block = p.edge + edge_size
    if b_size:
        p.b_block = p.edge + edge_size + a_size
    callers = enter_kernel_mode()
    enter_tiles(WITH_TILES)
    gemm(&p)
    leave_tiles(WITH_TILES)
    leave_kernel_mode(callers)
    free(scratch)
    return 1


def dense_forward(real[:, ::1] y, const real[:, ::1] x, const real[:, ::1] w, const real[::1] b,
                  int activation, real alpha):
    """y = f(x w + b);  y (rows, n), x (rows, k), w (k, n), b (n,) or None: 0"""
    cdef Py_ssize_t m = x.shape[0], k = x.shape[1], n = w.shape[1]
    cdef int done
    if w.shape[0] != k or b is not None and b.shape[0] != n or y.shape[0] != m or y.shape[1] != n:
        return False
    activation_code(activation)
    if m == 0 or n == 0:
        return True
    with nogil:
        done = dense_layer(&y[0, 0], &x[0, 0] if k else NULL, &w[0, 0] if k else NULL,
                           &b[0] if b is not None else NULL, m, k, n, activation, alpha)
    if done < 0:
        raise MemoryError
    return done == 1


cdef void backward_to_panels(real* dz, Py_ssize_t panel, const real* dy, const real* y, Py_ssize_t m, Py_ssize_t n,
                             int activation, real alpha) noexcept nogil:
    """dz = dy f'(z), of y = f(z), from unpacked to packed; zeros beyond n."""
    cdef Py_ssize_t i, j, rows, width
    cdef real* here
    for i from 0 <= i < m by ROWS_AT_ONCE:
        rows = min(m - i, <Py_ssize_t>ROWS_AT_ONCE)
        for j from 0 <= j < n by NR:
            width = min(n - j, <Py_ssize_t>NR)
            here = dz + j // NR * panel + i * NR
            map_backward_rows(activation, alpha, here, NR, dy + i * n + j, n, y + i * n + j, n, rows, width)
            clear_columns(here, rows, width)


cpdef Py_ssize_t dense_backward_scratch(Py_ssize_t m, Py_ssize_t k, Py_ssize_t n) noexcept nogil:
    """Elements of scratch that dense_backward takes for m rows: dz, a block of x and w^T, in panels, and what the
    products take."""
    cdef Py_ssize_t block = min(panels(k), <Py_ssize_t>MG) * NR
    return ((m | 1) * (panels(n) + min(panels(k), <Py_ssize_t>MG)) + n * panels(k) + LINE
            + max(min(m, <Py_ssize_t>MC) * NR + product_scratch(m),
                  block * (2 if m > CHUNK else 1) + NR * NR + gradient_operands(m)))


cdef bint dense_layer_backward(real* dx, real* dw, real* db, const real* dy, const real* x, const real* w, const real* y,
                               Py_ssize_t m, Py_ssize_t k, Py_ssize_t n, int activation, real alpha,
                               real* scratch) noexcept nogil:
    """dz = dy f'(z), of y = f(z), whose derivative is computed from y;  dx = dz w^T (m, k),  dw = x^T dz (k, n),  db (n,) = sum of dz over the
    rows.  False where an output overlaps an input or another output.  dx may be NULL: not wanted; y too, of the
    identity."""
    cdef Product p
    cdef Gradient g
    cdef Optimizer store
    cdef const real* inputs[4]
    cdef Py_ssize_t sizes[4]
    cdef Py_ssize_t i, j, row = (m | 1) * NR
    cdef real* z_p = to_line(scratch)
    cdef real* w_t = z_p + (m | 1) * panels(n)
    cdef real* x_block = w_t + n * panels(k)
    cdef real* rest = x_block + (m | 1) * min(panels(k), <Py_ssize_t>MG)
    cdef Py_ssize_t dx_size = m * k if dx != NULL else 0
    cdef fp_mode callers
    if y == NULL:
        y = dy                  # its place; the identity reads none
    inputs[0], inputs[1], inputs[2], inputs[3] = dy, x, w, y
    sizes[0], sizes[1], sizes[2], sizes[3] = m * n, m * k, k * n, m * n
    if not (aligned(dx) and aligned(dw) and aligned(db)):
        return False
    for i in range(4):
        if not (aligned(inputs[i]) and apart(dx, dx_size, inputs[i], sizes[i]) and apart(dw, k * n, inputs[i], sizes[i])
                and apart(db, n, inputs[i], sizes[i])):
            return False
    if not (apart(dx, dx_size, dw, k * n) and apart(db, n, dx, dx_size) and apart(db, n, dw, k * n)):
        return False
    callers = enter_kernel_mode()
    enter_tiles(WITH_TILES)
    p.c = dx
    g.g = dw
    backward_to_panels(z_p, row, dy, y, m, n, activation, alpha)
    if dx_size:
        for j from 0 <= j < k by NR:
            pack_panel(w_t + j * n, w + j * n, n, True, n, min(k - j, <Py_ssize_t>NR))
        p.m = m
        p.n = k
        p.k = n
        p.a = z_p
        p.a_row = p.a_run = NR
        p.a_panel = row
        p.b = w_t
        p.b_row = NR
        p.b_panel = n * NR
        p.b_operands = False
        p.c_row = k
        p.c_panel = NR
        p.bias = NULL
        p.activation = ACT_IDENTITY
        p.alpha = 0
        p.y = NULL
        p.exact = True
        p.b_block = NULL
        p.edge = rest
        p.packed = rest + min(m, <Py_ssize_t>MC) * NR       # in bfloat16; else nothing is packed here
        p.a_block = p.packed + PANEL if WITH_BF16 else NULL
        gemm(&p)
    if n:
        begin(&store, RULE_GRADIENT)
        g.rows = m
        g.k0 = 0
        g.k1 = k
        g.n = n
        g.a = x
        g.a_row = k
        g.a_block = x_block
        g.block = rest
        g.square = rest + min(panels(k), <Py_ssize_t>MG) * NR
        g.chunk = g.square + NR * NR
        g.operands = g.chunk + (min(panels(k), <Py_ssize_t>MG) * NR if m > CHUNK else 0)
        g.d = z_p
        g.panel = row
        g.g_row = n
        g.g_panel = NR
        g.g_padded = False
        gemm_gradient(&g, &store)
        bias_gradient(z_p, row, m, n, db, &store)
    leave_tiles(WITH_TILES)
    leave_kernel_mode(callers)
    return True


def dense_backward(real[:, ::1] dx, real[:, ::1] dw, real[::1] db, const real[:, ::1] dy, const real[:, ::1] x,
                   const real[:, ::1] w, const real[:, ::1] y, int activation, real alpha, real[::1] scratch):
    """dz = dy f'(z), of y = f(z), whose derivative is computed from y;  dx = dz w^T,  dw = x^T dz,  db = sum of dz over the rows.
    dx may be None: not wanted; y too, of the identity."""
    cdef Py_ssize_t m = x.shape[0], k = x.shape[1], n = w.shape[1]
    cdef bint done
    if y is None and activation != ACT_IDENTITY or y is not None and (y.shape[0] != m or y.shape[1] != n):
        return False
    if (w.shape[0] != k or dy.shape[0] != m or dy.shape[1] != n
            or dx is not None and (dx.shape[0] != m or dx.shape[1] != k) or dw.shape[0] != k or dw.shape[1] != n or db.shape[0] != n
            or scratch.shape[0] < dense_backward_scratch(m, k, n)):
        return False
    activation_code(activation)
    with nogil:
        done = dense_layer_backward(&dx[0, 0] if dx is not None and m * k else NULL, &dw[0, 0] if k * n else NULL, &db[0] if n else NULL,
                                    &dy[0, 0] if m * n else NULL, &x[0, 0] if m * k else NULL,
                                    &w[0, 0] if k * n else NULL,
                                    &y[0, 0] if y is not None and m * n else NULL,
                                    m, k, n, activation, alpha, &scratch[0])
    return done


# Element by element --------------------------------------------------------------------------------

def map_forward(real[::1] y, const real[::1] x, int kind, real alpha):
    """y = f(x), element by element; y may be x"""
    cdef Py_ssize_t n = x.shape[0]
    function_code(kind)
    if y.shape[0] != n:
        return False
    if n:
        if not (aligned(&y[0]) and aligned(&x[0]) and same_or_apart(&y[0], &x[0], n)):
            return False
        with nogil:
            map_array(kind, &y[0], &x[0], n, alpha)
    return True


def map_derivative(real[::1] dx, const real[::1] dy, const real[::1] y, int kind, real alpha):
    """dx = dy f'(x), of y = f(x) or, where the derivative is computed from z, y = x; element by element; dx may be dy or y"""
    cdef Py_ssize_t n = dy.shape[0]
    activation_code(kind)
    if y.shape[0] != n or dx.shape[0] != n:
        return False
    if n:
        if not (aligned(&dx[0]) and aligned(&dy[0]) and aligned(&y[0])):
            return False
        if not (same_or_apart(&dx[0], &dy[0], n) and same_or_apart(&dx[0], &y[0], n)):
            return False
        with nogil:
            map_backward(kind, &dx[0], &dy[0], &y[0], n, alpha)
    return True


# Along rows ----------------------------------------------------------------------------------------

cdef void softmax_rows(real* y, const real* x, Py_ssize_t m, Py_ssize_t n, bint logarithm) noexcept nogil:
    cdef fp_mode callers = enter_kernel_mode()
    cdef Py_ssize_t i
    for i in range(m):
        if logarithm:
            log_softmax_row(y + i * n, x + i * n, n)
        else:
            softmax_row(y + i * n, x + i * n, n)
    leave_kernel_mode(callers)


def softmax(real[:, ::1] y, const real[:, ::1] x, bint logarithm):
    """softmax or log-softmax of every row; y may be x"""
    cdef Py_ssize_t m = x.shape[0], n = x.shape[1]
    if y.shape[0] != m or y.shape[1] != n:
        return False
    if m and n:
        if not (aligned(&y[0, 0]) and aligned(&x[0, 0]) and same_or_apart(&y[0, 0], &x[0, 0], m * n)):
            return False
        with nogil:
            softmax_rows(&y[0, 0], &x[0, 0], m, n, logarithm)
    return True


def softmax_backward(real[:, ::1] dx, const real[:, ::1] dy, const real[:, ::1] y, bint logarithm):
    """The derivative of either, in terms of its output y; dx may be dy or y"""
    cdef Py_ssize_t m = dy.shape[0], n = dy.shape[1], i
    if y.shape[0] != m or y.shape[1] != n or dx.shape[0] != m or dx.shape[1] != n:
        return False
    if m and n:
        if not (aligned(&dx[0, 0]) and aligned(&dy[0, 0]) and aligned(&y[0, 0])):
            return False
        if not (same_or_apart(&dx[0, 0], &dy[0, 0], m * n) and same_or_apart(&dx[0, 0], &y[0, 0], m * n)):
            return False
        with nogil:
            for i in range(m):
                if logarithm:
                    log_softmax_backward_row(&dx[i, 0], &dy[i, 0], &y[i, 0], n)
                else:
                    softmax_backward_row(&dx[i, 0], &dy[i, 0], &y[i, 0], n)
    return True


cdef enum:
    MOST_WEIGHT_EXPONENT = 1000     # of 2, of a sum of weights: its inverse is a normal number


cdef double sum_of_losses(const LossRule* rule, real* d, const real* z, Targets targets, Py_ssize_t m, Py_ssize_t n,
                          const double* w, double total_weight) noexcept nogil:
    """The losses of m rows, each times its weight (w may be NULL: 1), and their gradients, over `total_weight`."""
    cdef real losses[64]
    cdef fp_mode callers = enter_kernel_mode()
    cdef Py_ssize_t i, j
    cdef double total = 0
    for i from 0 <= i < m by 64:
        loss_rows(rule, d + i * n, z + i * n, n, &targets, losses, 0, min(64, m - i), n, w, 1 / total_weight)
        for j in range(min(64, m - i)):
            total += losses[j] * (w[j] if w != NULL else 1.)
        if w != NULL:
            w += 64
        if targets.labels != NULL:
            targets.labels += 64
        else:
            targets.rows += 64 * n
    leave_kernel_mode(callers)
    return total


def loss_of_rows(real[:, ::1] d, const real[:, ::1] z, const real[:, ::1] rows, const Py_ssize_t[::1] labels,
                 const double[::1] weights, int loss, real parameter, const real[::1] pos_weight,
                 real limit=INFINITY):
    """The mean loss of the rows of z against `rows` or `labels` (the other one None), and its gradient d.
    `weights` (rows,) of the mean and `pos_weight` (n,) may be None: 1. `limit` is the largest loss that is reported.
    None, with nothing written, where shapes, targets or weights do not fit."""
    cdef Py_ssize_t m = z.shape[0], n = z.shape[1], i
    cdef Targets targets
    cdef LossRule rule
    cdef const double* w = NULL
    cdef double total = 0, total_weight = 0
    if m == 0 or n == 0 or d.shape[0] != m or d.shape[1] != n or (rows is None) == (labels is None):
        return None
    rule.code = loss_code(loss)
    rule.parameter = parameter
    rule.limit = limit
    rule.pos_weight = NULL
    targets.labels = NULL
    targets.rows = NULL
    targets.row = n
    if labels is not None:
        if not takes_labels(loss) or labels.shape[0] != m:
            return None
        targets.labels = &labels[0]
        if <size_t>targets.labels % sizeof(Py_ssize_t):
            return None
    else:
        if not takes_rows(loss) or rows.shape[0] != m or rows.shape[1] != n:
            return None
        targets.rows = &rows[0, 0]
        if not (aligned(targets.rows) and apart(&d[0, 0], m * n, targets.rows, m * n)):
            return None
    if not (aligned(&d[0, 0]) and aligned(&z[0, 0]) and apart(&d[0, 0], m * n, &z[0, 0], m * n)):
        return None
    if not targets_fit(loss, &targets, m, n):
        return None
    if pos_weight is not None:
        if pos_weight.shape[0] != n or not aligned(&pos_weight[0]):
            return None
        rule.pos_weight = &pos_weight[0]
    if weights is not None:
        if weights.shape[0] != m:
            return None
        w = &weights[0]
        if <size_t>w % sizeof(double) or not apart(&d[0, 0], m * n, <const real*>w, m * <Py_ssize_t>(sizeof(double) // sizeof(real))):
            return None
        for i in range(m):
            if not 0 <= w[i] < INFINITY:
                return None
            total_weight += w[i]
        if not ldexp(1, -MOST_WEIGHT_EXPONENT) <= total_weight <= ldexp(1, MOST_WEIGHT_EXPONENT):
            return None
    else:
        total_weight = m
    with nogil:
        total = sum_of_losses(&rule, &d[0, 0], &z[0, 0], targets, m, n, w, total_weight)
    return total / total_weight


# Updates -------------------------------------------------------------------------------------------

cdef bint update_once(Optimizer* o, real* param, const real* grad, real* first, real* second, Py_ssize_t n) noexcept nogil:
    """One step of n parameters, in place. False, with nothing written, where a slot of the rule is NULL, or any two
    of the arrays share memory."""
    cdef real* slots[MOST_SLOTS]
    cdef fp_mode callers
    cdef int i, j
    slots[0], slots[1] = first, second
    if not (aligned(param) and aligned(grad) and apart(param, n, grad, n)):
        return False
    for i in range(MOST_SLOTS):
        if slots[i] == NULL:
            if i < slots_of(o.rule):
                return False
            continue
        if not (aligned(slots[i]) and apart(slots[i], n, param, n) and apart(slots[i], n, grad, n)):
            return False
        for j in range(i):
            if not apart(slots[i], n, slots[j], n):
                return False
        o.slot[i] = slots[i] - param
    callers = enter_kernel_mode()           # which flushes subnormals: what decays by a factor each step ends in them
    update(o, param, n, grad, n, 1, n)
    leave_kernel_mode(callers)
    return True


def update_arrays(real[::1] param, const real[::1] grad, real[::1] first, real[::1] second,
                  rates, settings, bint is_bias):
    """One step of param with the gradient grad; first and second are the rule's slots, or None. rates is a row of
    Optimizer.rates, and settings are Optimizer.rule(), of fastmlp/optimizers.py."""
    cdef Py_ssize_t n = param.shape[0]
    cdef double numbers[RATES]
    cdef Optimizer o
    cdef bint done
    if grad.shape[0] != n or first is not None and first.shape[0] != n or second is not None and second.shape[0] != n:
        return False
    set_rule(&o, settings, is_bias)
    numbers[:] = [rates[0], rates[1], rates[2]]
    set_rates(&o, numbers)
    if slots_of(o.rule) > 0 and first is None or slots_of(o.rule) > 1 and second is None:
        return False
    if n == 0:
        return True
    with nogil:
        done = update_once(&o, &param[0], &grad[0], &first[0] if first is not None else NULL,
                           &second[0] if second is not None else NULL, n)
    return done
