# Update rules: one step of the parameters, fused into the product that gives the gradient.
#
# State of a rule (its slots: a velocity, moments) is laid out like the parameters, `slot[i]` reals away from
# them. To add a rule: a name in Rule (its number in fastmlp/optimizers.py), how many slots it has, its formula
# in `stepped`, and its line in `update`.

from libc.math cimport INFINITY

cdef enum Rule:
    RULE_GRADIENT               # store the gradient itself
    RULE_SGD
    RULE_MOMENTUM
    RULE_NESTEROV               # so far they can be finished on the accumulators of the register tile
    RULE_ADAGRAD
    RULE_RMSPROP
    RULE_ADAM

cdef enum:
    MOST_SLOTS = 2
    RATES = 3                   # numbers that change from step to step

cdef struct Optimizer:
    int rule
    # of this step
    real lr                     # divided by the bias correction of the first moment
    real correction             # of the root of the second moment, a factor
    real shrink                 # p -= shrink p first: learning rate times decoupled weight decay
    real prescale               # of the gradient: a power of two, and what a limit on its norm then leaves of it
    real scale
    # of all steps
    real beta1, rest1           # of the first moment, or the momentum; 1 - beta1, rounded once
    real beta2, rest2           # of the second moment
    real eps
    real weight_decay           # g += weight_decay p
    real l1                     # g += l1 sign(p)
    real clip                   # g from -clip to clip; infinity: any
    bint decoupled              # weight decay is part of `shrink`, and not of g
    Py_ssize_t slot[MOST_SLOTS]     # distances of the state from the parameters, in reals


cdef void begin(Optimizer* o, int rule) noexcept nogil:
    """A rule that does nothing but its formula; slots are as they were."""
    o.rule = rule
    o.lr = o.shrink = o.beta1 = o.beta2 = o.weight_decay = o.l1 = 0
    o.correction = o.prescale = o.scale = o.rest1 = o.rest2 = o.eps = 1
    o.clip = INFINITY
    o.decoupled = False


cdef void set_rule(Optimizer* o, settings, bint is_bias):
    """The rule of weights or of biases, from `Settings` of fastmlp/optimizers.py; slots are as they were."""
    cdef double beta1 = settings[1], beta2 = settings[2]
    cdef bint decays = not is_bias or settings[8]
    begin(o, settings[0])
    o.beta1 = <real>beta1
    o.rest1 = <real>(1 - beta1)
    o.beta2 = <real>beta2
    o.rest2 = <real>(1 - beta2)
    o.eps = settings[3]
    o.clip = settings[6]
    if decays:
        o.decoupled = settings[7]
        o.weight_decay = 0 if o.decoupled else <real>settings[4]
        o.l1 = settings[5]


cdef inline void set_rates(Optimizer* o, const double* rates) noexcept nogil:
    """From a row of `Optimizer.rates`: what changes from step to step."""
    o.lr = <real>rates[0]
    o.correction = <real>rates[1]
    o.shrink = <real>rates[2] if o.decoupled else 0


cdef inline bint is_bare(const Optimizer* o) noexcept nogil:
    """Nothing happens to the gradient but weight decay."""
    return o.prescale == 1 and o.scale == 1 and o.l1 == 0 and o.clip == INFINITY


cdef inline bint in_registers(const Optimizer* o) noexcept nogil:
    """The register tile can finish this rule."""
    return o.rule == RULE_GRADIENT or o.rule <= RULE_NESTEROV and is_bare(o)


cdef inline int slots_of(int rule) noexcept nogil:
    return 0 if rule <= RULE_SGD else 2 if rule == RULE_ADAM else 1


cdef inline vec sgd(vec p, vec g, vec minus_lr, vec weight_decay) noexcept nogil:
    """p - lr (g + weight_decay p)"""
    return vfma(minus_lr, vfma(weight_decay, p, g), p)


cdef inline vec stepped(int rule, bint bare, const Optimizer* o, vec p, vec g, vec* a, vec* b) noexcept nogil:
    """The parameters p after a step; a and b, their slots, change in place. rule and bare are constants at
    every call."""
    if rule == RULE_GRADIENT:
        return g
    if not bare:
        g = g * vset1(o.prescale) * vset1(o.scale)
        g = vmax(vset1(-o.clip), vmin(vset1(o.clip), g))                # NaN stays NaN
    if rule == RULE_SGD and bare:
        return sgd(p, g, vset1(-o.lr), vset1(o.weight_decay))
    g = vfma(vset1(o.weight_decay), p, g)
    if not bare:
        g = g + vselect(vless(vset1(0), vabs(p)), vwith_sign(vset1(o.l1), p), vset1(0))
    if rule == RULE_MOMENTUM:
        a[0] = g = vfma(vset1(o.beta1), a[0], g)
    elif rule == RULE_NESTEROV:
        a[0] = vfma(vset1(o.beta1), a[0], g)
        g = vfma(vset1(o.beta1), a[0], g)
    elif rule == RULE_ADAGRAD:
        a[0] = vfma(g, g, a[0])
        g = g / (vsqrt(a[0]) + vset1(o.eps))
    elif rule == RULE_RMSPROP:
        a[0] = vfma(vset1(o.beta2), a[0], vset1(o.rest2) * g * g)
        g = g / (vsqrt(a[0]) + vset1(o.eps))
    elif rule == RULE_ADAM:
        a[0] = vfma(vset1(o.beta1), a[0], vset1(o.rest1) * g)
        b[0] = vfma(vset1(o.beta2), b[0], vset1(o.rest2) * g * g)
        g = a[0] / vfma(vsqrt(b[0]), vset1(o.correction), vset1(o.eps))
        p = vfma(vset1(-o.shrink), p, p)
    return vfma(vset1(-o.lr), g, p)


cdef inline void update_as(int rule, bint bare, const Optimizer* optimizer, real* p, Py_ssize_t p_row,
                           const real* g, Py_ssize_t g_row, Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    cdef Optimizer o = optimizer[0]         # a copy, that no store can change: its numbers stay in registers
    cdef Py_ssize_t i, j, part, first = o.slot[0], second = o.slot[1]
    cdef vec a, b, w
    a = b = w = vset1(0)
    if p_row == n and g_row == n:
        n *= m
        m = 1
    part = n % VL
    for i in range(m):
        for j from 0 <= j < n - part by VL:
            if rule != RULE_GRADIENT:
                w = vload(p + j)
            if slots_of(rule) > 0:
                a = vload(p + first + j)
            if slots_of(rule) > 1:
                b = vload(p + second + j)
            vstore(p + j, stepped(rule, bare, &o, w, vload(g + j), &a, &b))
            if slots_of(rule) > 0:
                vstore(p + first + j, a)
            if slots_of(rule) > 1:
                vstore(p + second + j, b)
        if part:
            j = n - part
            if rule != RULE_GRADIENT:
                w = vload_part(p + j, part, 0)
            if slots_of(rule) > 0:
                a = vload_part(p + first + j, part, 0)
            if slots_of(rule) > 1:
                b = vload_part(p + second + j, part, 0)
            vstore_part(p + j, stepped(rule, bare, &o, w, vload_part(g + j, part, 0), &a, &b), part)
            if slots_of(rule) > 0:
                vstore_part(p + first + j, a, part)
            if slots_of(rule) > 1:
                vstore_part(p + second + j, b, part)
        p += p_row
        g += g_row


cdef inline void update_rule(int rule, const Optimizer* o, real* p, Py_ssize_t p_row,
                             const real* g, Py_ssize_t g_row, Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    if is_bare(o):
        update_as(rule, True, o, p, p_row, g, g_row, m, n)
    else:
        update_as(rule, False, o, p, p_row, g, g_row, m, n)


cdef void update(const Optimizer* o, real* p, Py_ssize_t p_row, const real* g, Py_ssize_t g_row,
                 Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    """One step of an (m, n) block of parameters with the gradient g."""
    if o.rule == RULE_GRADIENT: update_as(RULE_GRADIENT, True, o, p, p_row, g, g_row, m, n)
    elif o.rule == RULE_SGD: update_rule(RULE_SGD, o, p, p_row, g, g_row, m, n)
    elif o.rule == RULE_MOMENTUM: update_rule(RULE_MOMENTUM, o, p, p_row, g, g_row, m, n)
    elif o.rule == RULE_NESTEROV: update_rule(RULE_NESTEROV, o, p, p_row, g, g_row, m, n)
    elif o.rule == RULE_ADAGRAD: update_rule(RULE_ADAGRAD, o, p, p_row, g, g_row, m, n)
    elif o.rule == RULE_RMSPROP: update_rule(RULE_RMSPROP, o, p, p_row, g, g_row, m, n)
    elif o.rule == RULE_ADAM: update_rule(RULE_ADAM, o, p, p_row, g, g_row, m, n)
