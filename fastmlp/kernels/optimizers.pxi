# Update rules: one step of the parameters, fused into the product that gives the gradient.
#
# State of a rule (its velocity) is laid out like the parameters, `velocity` reals away from them.
# To add one: a name in Rule, and its formula in `update_vector`.

cdef enum Rule:
    RULE_GRADIENT               # store the gradient itself
    RULE_SGD
    RULE_MOMENTUM
    RULE_NESTEROV

cdef struct Optimizer:
    int rule
    real lr
    real momentum
    real weight_decay
    Py_ssize_t velocity         # distance of the velocity from the parameters, in reals


cdef inline vec sgd(vec p, vec g, vec minus_lr, vec weight_decay) noexcept nogil:
    """p - lr (g + weight_decay p)"""
    return vfma(minus_lr, vfma(weight_decay, p, g), p)


cdef inline void update_vector(const Optimizer* o, real* p, vec g, Py_ssize_t n) noexcept nogil:
    """One step of the first n <= VL parameters at p."""
    cdef vec w, v
    if o.rule == RULE_GRADIENT:
        vstore_part(p, g, n)
        return
    w = vload_part(p, n, 0)
    if o.rule == RULE_SGD:
        w = sgd(w, g, vset1(-o.lr), vset1(o.weight_decay))
    else:
        g = vfma(vset1(o.weight_decay), w, g)
        v = vfma(vset1(o.momentum), vload_part(p + o.velocity, n, 0), g)
        vstore_part(p + o.velocity, v, n)
        if o.rule == RULE_NESTEROV:
            v = vfma(vset1(o.momentum), v, g)
        w = vfma(vset1(-o.lr), v, w)
    vstore_part(p, w, n)


cdef void update(const Optimizer* o, real* p, Py_ssize_t p_row, const real* g, Py_ssize_t g_row,
                 Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    """One step of an (m, n) block of parameters with the gradient g."""
    cdef Py_ssize_t i, j, whole = n - n % VL
    for i in range(m):
        for j from 0 <= j < whole by VL:
            update_vector(o, p + i * p_row + j, vload(g + i * g_row + j), VL)
        if whole < n:
            update_vector(o, p + i * p_row + whole, vload_part(g + i * g_row + whole, n - whole, 0), n - whole)
