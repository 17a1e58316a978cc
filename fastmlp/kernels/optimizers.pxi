# Update rules: one step of the parameters, fused into the product that gives the gradient.
#
# State of a rule (its slots: a velocity, moments) is laid out like the parameters, `slot[i]` reals away from
# them. For a rule NAME of ops.py: NAME_step, which is given the gradient g and its slots, changes them, and returns
# what the learning rate multiplies. dispatch.pxi calls it.

from libc.math cimport INFINITY

cdef enum:
    RATES = 3                   # numbers that change from step to step

cdef enum Around:               # what an update does beside its rule; each decay costs an FMA
    BARE
    DECAY                       # weight decay of the gradient
    DECOUPLED                   # weight decay of the parameters
    EVERYTHING                  # both, L1, and a gradient that is scaled and clipped

cdef struct Optimizer:
    int rule
    # of this step
    real lr                     # divided by the bias correction of the first moment
    real bias_correction        # of the root of the second moment, a factor
    real decoupled_decay        # p -= decoupled_decay p first: learning rate times weight decay
    real prescale               # of the gradient: a power of two, and what a limit on its norm then leaves of it
    real scale
    # of all steps
    real beta1, one_minus_beta1     # of the first moment, or the momentum; 1 - beta1, rounded once
    real beta2, one_minus_beta2     # of the second moment
    real eps
    real weight_decay           # g += weight_decay p
    real l1                     # g += l1 sign(p)
    real clip                   # g from -clip to clip; infinity: any
    bint decoupled              # weight decay is part of `decoupled_decay`, and not of g
    bint divides                # weight_decay and l1 are to be divided by what the samples of a batch weigh
    Py_ssize_t slot[MOST_SLOTS]     # distances of the state from the parameters, in reals


cdef void begin(Optimizer* o, int rule) noexcept nogil:
    """A rule that does nothing but its formula; slots are as they were."""
    o.rule = rule
    o.lr = o.decoupled_decay = o.beta1 = o.beta2 = o.weight_decay = o.l1 = 0
    o.bias_correction = o.prescale = o.scale = o.one_minus_beta1 = o.one_minus_beta2 = o.eps = 1
    o.clip = INFINITY
    o.decoupled = o.divides = False


cdef int set_rule(Optimizer* o, settings, bint is_bias) except -1:
    """The rule of weights or of biases, from `Settings` of fastmlp/optimizers.py; slots are as they were. ValueError
    for a code that is no rule."""
    cdef double beta1 = settings[1], beta2 = settings[2]
    cdef bint decays = not is_bias or settings[8]
    begin(o, rule_code(settings[0]))
    o.beta1 = <real>beta1
    o.one_minus_beta1 = <real>(1 - beta1)
    o.beta2 = <real>beta2
    o.one_minus_beta2 = <real>(1 - beta2)
    o.eps = settings[3]
    o.clip = settings[6]
    if decays:
        o.decoupled = settings[7]
        o.weight_decay = 0 if o.decoupled else <real>settings[4]
        o.l1 = settings[5]
        o.divides = settings[9]
    return 0


cdef inline void set_penalty(Optimizer* o, const Optimizer* rule, double batch_weight) noexcept nogil:
    """The penalty of the rule for a batch whose samples weigh so much."""
    if o.divides:
        o.weight_decay = <real>(rule.weight_decay / batch_weight) if batch_weight > 0 else 0
        o.l1 = <real>(rule.l1 / batch_weight) if batch_weight > 0 else 0


cdef enum:
    PENALTY_ROWS = 64           # rows that one chain sums


cdef double penalty_of(const Optimizer* o, const real* p, Py_ssize_t panel, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t n,
                       Py_ssize_t first) noexcept nogil:
    """sum of weight_decay/2 p^2 + l1 |p| over 16 columns from `first` on of a matrix (rows, n), whose panels are `panel`
    apart (NR: unpacked) and whose rows are `row` apart."""
    cdef vec lanes[TREE]
    cdef vec w
    cdef real half = o.weight_decay / 2, l1 = o.l1
    cdef const real* column
    cdef Py_ssize_t k, k0, c
    cdef int j
    cdef double total = 0
    if half == 0 and l1 == 0:           # 0 times infinity is NaN
        return 0
    for k0 from 0 <= k0 < rows by PENALTY_ROWS:
        clear(lanes)
        for j in range(TREE):
            c = first + j * VL
            if c < n:
                column = p + c // NR * panel + c % NR
                for k in range(k0, min(rows, k0 + PENALTY_ROWS)):
                    w = vload_part(column + k * row, n - c, 0)
                    lanes[j] = lanes[j] + vfma(vset1(half) * w, w, vset1(l1) * vabs(w))
        total += tree_sum(lanes)
    return total


cdef inline void set_rates(Optimizer* o, const double* rates) noexcept nogil:
    """From a row of `Optimizer.rates`: what changes from step to step."""
    o.lr = <real>rates[0]
    o.bias_correction = <real>rates[1]
    o.decoupled_decay = <real>rates[2] if o.decoupled else 0


# Of the array functions: a rule and its rates from plain numbers.

cdef void sgd_rule(Optimizer* o, double lr, double momentum, bint nesterov, double weight_decay) noexcept nogil:
    begin(o, RULE_SGD if momentum == 0 else RULE_NESTEROV if nesterov else RULE_MOMENTUM)
    o.lr = <real>lr
    o.beta1 = <real>momentum
    o.weight_decay = <real>weight_decay


cdef void adagrad_rule(Optimizer* o, double lr, double eps, double weight_decay) noexcept nogil:
    begin(o, RULE_ADAGRAD)
    o.lr = <real>lr
    o.eps = <real>eps
    o.weight_decay = <real>weight_decay


cdef void rmsprop_rule(Optimizer* o, double lr, double rho, double eps, double weight_decay) noexcept nogil:
    begin(o, RULE_RMSPROP)
    o.lr = <real>lr
    o.beta2 = <real>rho
    o.one_minus_beta2 = <real>(1 - rho)
    o.eps = <real>eps
    o.weight_decay = <real>weight_decay


cdef void adam_rule(Optimizer* o, const double* rates, double beta1, double beta2, double eps, double weight_decay,
                    bint decoupled) noexcept nogil:
    """rates: a row of adam_rates of fastmlp/optimizers.py."""
    begin(o, RULE_ADAM)
    o.decoupled = decoupled
    o.beta1 = <real>beta1
    o.one_minus_beta1 = <real>(1 - beta1)
    o.beta2 = <real>beta2
    o.one_minus_beta2 = <real>(1 - beta2)
    o.eps = <real>eps
    o.weight_decay = 0 if decoupled else <real>weight_decay
    set_rates(o, rates)


cdef inline Around around(const Optimizer* o) noexcept nogil:
    if o.prescale != 1 or o.scale != 1 or o.l1 != 0 or o.clip != INFINITY:
        return EVERYTHING
    return DECOUPLED if o.decoupled_decay != 0 else DECAY if o.weight_decay != 0 else BARE


cdef inline bint in_registers(const Optimizer* o) noexcept nogil:
    """The register tile can apply this rule."""
    cdef Around what
    if o.rule == RULE_GRADIENT:
        return True
    what = around(o)
    return updates_in_registers(o.rule) and (what == BARE or what == DECAY)


cdef inline vec sgd_step(const Optimizer* o, vec g) noexcept nogil:
    return g


cdef inline vec momentum_step(const Optimizer* o, vec g, vec* velocity) noexcept nogil:
    velocity[0] = vfma(vset1(o.beta1), velocity[0], g)
    return velocity[0]


cdef inline vec nesterov_step(const Optimizer* o, vec g, vec* velocity) noexcept nogil:
    velocity[0] = vfma(vset1(o.beta1), velocity[0], g)
    return vfma(vset1(o.beta1), velocity[0], g)


cdef inline vec adagrad_step(const Optimizer* o, vec g, vec* squares) noexcept nogil:
    squares[0] = vfma(g, g, squares[0])
    return g / (vsqrt(squares[0]) + vset1(o.eps))


cdef inline vec rmsprop_step(const Optimizer* o, vec g, vec* squares) noexcept nogil:
    squares[0] = vfma(vset1(o.beta2), squares[0], vset1(o.one_minus_beta2) * g * g)
    return g / (vsqrt(squares[0]) + vset1(o.eps))


cdef inline vec adam_step(const Optimizer* o, vec g, vec* first, vec* second) noexcept nogil:
    first[0] = vfma(vset1(o.beta1), first[0], vset1(o.one_minus_beta1) * g)
    second[0] = vfma(vset1(o.beta2), second[0], vset1(o.one_minus_beta2) * g * g)
    return first[0] / vfma(vsqrt(second[0]), vset1(o.bias_correction), vset1(o.eps))


cdef inline vec where_decay(real decay, vec p) noexcept nogil:
    """p, and 0 without decay: 0 times infinity is NaN."""
    return vselect(vless(vset1(0), vset1(decay)), p, vset1(0))


cdef inline vec updated(int rule, Around what, const Optimizer* o, vec p, vec g, vec* a, vec* b) noexcept nogil:
    """The parameters p after an update; a and b, their slots, change in place. rule and what are constants at
    every call."""
    if rule == RULE_GRADIENT:
        return g
    if what == EVERYTHING:
        g = g * vset1(o.prescale) * vset1(o.scale)
        g = vmax(vset1(-o.clip), vmin(vset1(o.clip), g))                # NaN stays NaN
        g = vfma(vset1(o.weight_decay), where_decay(o.weight_decay, p), g)
        g = g + vselect(vless(vset1(0), vabs(p)), vwith_sign(vset1(o.l1), p), vset1(0))
        p = vfma(vset1(-o.decoupled_decay), where_decay(o.decoupled_decay, p), p)
    elif what == DECAY:
        g = vfma(vset1(o.weight_decay), p, g)
    elif what == DECOUPLED:
        p = vfma(vset1(-o.decoupled_decay), p, p)
    return vfma(vset1(-o.lr), step_of(rule, o, g, a, b), p)


cdef inline void update_as(int rule, Around what, const Optimizer* optimizer, real* p, Py_ssize_t p_row,
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
            vstore(p + j, updated(rule, what, &o, w, vload(g + j), &a, &b))
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
            vstore_part(p + j, updated(rule, what, &o, w, vload_part(g + j, part, 0), &a, &b), part)
            if slots_of(rule) > 0:
                vstore_part(p + first + j, a, part)
            if slots_of(rule) > 1:
                vstore_part(p + second + j, b, part)
        p += p_row
        g += g_row


cdef inline void update_rule(int rule, const Optimizer* o, real* p, Py_ssize_t p_row,
                             const real* g, Py_ssize_t g_row, Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    cdef Around what = around(o)
    if what == BARE:
        update_as(rule, BARE, o, p, p_row, g, g_row, m, n)
    elif what == DECAY:
        update_as(rule, DECAY, o, p, p_row, g, g_row, m, n)
    elif what == DECOUPLED:
        update_as(rule, DECOUPLED, o, p, p_row, g, g_row, m, n)
    elif what == EVERYTHING:
        update_as(rule, EVERYTHING, o, p, p_row, g, g_row, m, n)


# In the register tile

cdef inline void update_tile_as(int rule, Around what, int mr, int nv, vec acc[12][NV], const Optimizer* optimizer,
                                real* c, Py_ssize_t c_row) noexcept nogil:
    cdef Optimizer o = optimizer[0]
    cdef real* slot
    cdef vec state = vzero()
    cdef int i, j
    c = launder(c)                      # or GCC mixes the rules, and spills
    slot = launder(c + o.slot[0])
    for i in range(mr):
        for j in range(nv):
            if slots_of(rule) > 0:
                state = vload(slot + i * c_row + j * VL)
            vstore(c + i * c_row + j * VL, updated(rule, what, &o, vload(c + i * c_row + j * VL), acc[i][j], &state, NULL))
            if slots_of(rule) > 0:
                vstore(slot + i * c_row + j * VL, state)


cdef inline void update_tile_rule(int rule, int mr, int nv, vec acc[12][NV], const Optimizer* o, real* c,
                                  Py_ssize_t c_row) noexcept nogil:
    if o.weight_decay == 0:
        update_tile_as(rule, BARE, mr, nv, acc, o, c, c_row)
    else:
        update_tile_as(rule, DECAY, mr, nv, acc, o, c, c_row)
