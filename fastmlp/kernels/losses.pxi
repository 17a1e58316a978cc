# Losses: of one row its loss and its gradient, the gradient written over the logits or beside them.
#
# A row has a weight in the mean, 1 without weights; its gradient is scaled by weight times `scale`, which is
# 1 over the sum of the weights. A row of weight 0 has loss 0 and gradient 0, whatever stands in it.
#
# For a loss NAME of ops.py, over the elements of a row: NAME_loss, which returns the loss of one element and writes
# its gradient. Of classes: NAME_of_label, NAME_of_distribution, which do so for a row. dispatch.pxi calls them.

cdef enum:
    FEW = 16                    # up to so many classes or outputs every row has a lane

cdef double ROW_SUM_TOLERANCE = 1e-3 if sizeof(real) == 4 else 1e-6      # as in fastmlp/_core/checks.py

cdef extern from *:
    """
    static inline Py_ssize_t read_once(const Py_ssize_t* p) { return *(const volatile Py_ssize_t*)p; }
    """
    Py_ssize_t read_once(const Py_ssize_t* p) noexcept nogil

cdef struct LossRule:
    int code
    real parameter              # label smoothing of cross-entropy, delta of Huber, 1 for the deviance of Poisson
    real limit                  # the largest loss, of a row or an element, that is reported
    const real* pos_weight      # (n,) of binary cross-entropy, or NULL: 1 everywhere

cdef struct Targets:
    const Py_ssize_t* labels    # (rows,) class indices, or NULL
    const real* rows            # (rows, n) values
    Py_ssize_t row


cdef inline Py_ssize_t label_at(const Targets* t, Py_ssize_t i, Py_ssize_t n) noexcept nogil:
    """The label of row i. Labels were validated, but another thread may write to them since: what is used as an index
    is read once, and 0 where it is none."""
    cdef Py_ssize_t label = read_once(t.labels + i)
    return label if 0 <= label < n else 0


cdef inline real share_of(double weight, double scale) noexcept nogil:
    """weight * scale, and of a weight above 0 never 0, which would mean that the row counts for nothing."""
    cdef real share = <real>(weight * scale)
    return SMALLEST_NORMAL if weight > 0 and not share >= SMALLEST_NORMAL else share


# What targets must be --------------------------------------------------------------------------------

cdef inline bint is_value(real t) noexcept nogil:
    return t == t


cdef inline bint is_probability(real t) noexcept nogil:
    return t >= 0               # the sum of the row says the rest


cdef inline bint is_fraction(real t) noexcept nogil:
    return 0 <= t <= 1


cdef inline bint is_count(real t) noexcept nogil:
    return 0 <= t < INFINITY


cdef inline bint is_sign(real t) noexcept nogil:
    return t == 1 or t == -1


cdef bint targets_fit(int loss, const Targets* t, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """Labels are in range; values are what the loss takes (`is_sign`, ...); probabilities sum to 1 in every row."""
    cdef Py_ssize_t i, c
    cdef double total
    for i in range(rows):
        if t.labels != NULL:
            if not 0 <= t.labels[i] < n:
                return False
            continue
        total = 0
        for c in range(n):
            if not target_fits(loss, t.rows[i * t.row + c]):
                return False
            total += t.rows[i * t.row + c]
        if not is_of_elements(loss) and not -ROW_SUM_TOLERANCE <= total - 1 <= ROW_SUM_TOLERANCE:
            return False
    return True


# Classes ---------------------------------------------------------------------------------------------

cdef inline real shifted_sum(const real* z, real shift, Py_ssize_t n) noexcept nogil:
    """sum_c (z_c - shift)"""
    cdef vec lanes[TREE]
    cdef Py_ssize_t c = 0
    cdef int j
    clear(lanes)
    while c < n:
        for j in range(TREE):
            if c < n:
                lanes[j] = lanes[j] + (vload_part(z + c, n - c, shift) - vset1(shift))
                c += VL
    return tree_sum(lanes)


cdef real cross_entropy_of_label(real* d, const real* z, Py_ssize_t label, Py_ssize_t n, real smoothing,
                                 real scale) noexcept nogil:
    """log sum_k exp z_k - sum_c t_c z_c;  d = (softmax(z) - t) scale,  where
    t = (1 - smoothing) onehot(label) + smoothing / n"""
    cdef real shift = row_max(z, n)
    cdef real chosen = z[label] - shift, share = smoothing / n
    cdef real total
    cdef Py_ssize_t c
    if smoothing != 0:
        chosen = (1 - smoothing) * chosen + share * shifted_sum(z, shift, n)
    total = exp_row(d, z, shift, n, True)
    scale_row(d, scale / total, n)
    if smoothing != 0:
        for c in range(n):
            d[c] -= share * scale
    d[label] -= (1 - smoothing) * scale
    return log_of(total) - chosen


cdef vec lane_tree(vec* s, Py_ssize_t n) noexcept nogil:
    """The sums of at most 16 vectors, added as `tree_sum` adds lanes; they are used up."""
    cdef Py_ssize_t c, half = FEW
    while half > 1:
        half //= 2
        for c in range(half, min(2 * half, n)):
            s[c - half] = s[c - half] + s[c]
    return s[0]


cdef inline ivec counted(const real* factors) noexcept nogil:
    """Where a row's factor is not 0."""
    return vless(vset1(0), vabs(vload(factors)))


cdef inline Py_ssize_t whole(Py_ssize_t n, Py_ssize_t row) noexcept nogil:
    """n columns as whole vectors, as far as rows reach: they are transposed without masks."""
    return min((n + VL - 1) // VL * VL, row)


cdef void gather(real* tile, const real* x, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t n,
                 const real* factors) noexcept nogil:
    """Column by column, a lane for every row; zeros for no row, for rows whose factor is 0, and beyond column n."""
    cdef ivec mask = counted(factors)
    cdef Py_ssize_t c, columns = whole(n, row)
    if n == 1 and row == 1:             # a column without gaps is a vector
        vstore(tile, vselect(mask, vload_part(x, rows, 0), vset1(0)))
        return
    transpose(tile, VL, x, row, rows, columns)
    for c in range(n):
        vstore(tile + c * VL, vselect(mask, vload(tile + c * VL), vset1(0)))
    for c in range(n, columns):
        vstore(tile + c * VL, vset1(0))


cdef void scatter(real* d, Py_ssize_t row, const real* tile, Py_ssize_t rows, Py_ssize_t n,
                  real* losses, vec loss, const real* factors) noexcept nogil:
    """And back; with the losses of the rows."""
    if n == 1 and row == 1:
        vstore_part(d, vload(tile), rows)
    else:
        transpose(d, row, tile, VL, whole(n, row), rows)
    vstore_part(losses, vselect(counted(factors), loss, vset1(0)), rows)


cdef void cross_entropy_of_few_labels(real* d, const real* z, Py_ssize_t row, const Py_ssize_t* labels, real* losses,
                                      Py_ssize_t rows, Py_ssize_t n, real smoothing, const real* factors) noexcept nogil:
    """cross_entropy_of_label for at most VL rows of at most 16 classes, bit for bit: a lane for every row, so that
    a few classes do not waste a vector, nor their sum a walk across lanes."""
    cdef real tile[FEW * VL]            # class by class
    cdef real lane[VL]
    cdef vec e[FEW]
    cdef vec s[FEW]
    cdef vec label, shift, chosen, total, factor, gradient
    cdef real share = smoothing / n
    cdef Py_ssize_t i, c
    if rows == VL:
        for i in range(VL):             # vectors
            lane[i] = <real>labels[i]
    else:
        for i in range(VL):
            lane[i] = <real>labels[i] if i < rows else 0
    gather(tile, z, row, rows, n, factors)
    label = vload(lane)
    shift = chosen = vload(tile)
    for c in range(1, n):
        shift = vmax(shift, vload(tile + c * VL))
        chosen = vselect(vless(label, vset1(c)), chosen, vload(tile + c * VL))      # that of the last c <= label
    chosen = chosen - shift
    if smoothing != 0:
        for c in range(n):
            s[c] = vload(tile + c * VL) - shift
        chosen = vset1(1 - smoothing) * chosen + vset1(share) * lane_tree(s, n)
    for c in range(n):
        e[c] = s[c] = vexp_nonpositive(vload(tile + c * VL) - shift)
    total = lane_tree(s, n)
    factor = vload(factors) / total
    for c in range(n):
        gradient = e[c] * factor
        if smoothing != 0:
            gradient = gradient - vset1(share) * vload(factors)
        vstore(tile + c * VL, gradient - vselect(vless(vabs(label - vset1(c)), vset1(<real>0.5)),
                                                 vset1(1 - smoothing) * vload(factors), vset1(0)))
    scatter(d, row, tile, rows, n, losses, vlog(total) - chosen, factors)


cdef inline real distribution_row(bint divergence, real* d, const real* z, const real* t, Py_ssize_t n,
                                  real smoothing, real scale) noexcept nogil:
    """sum_c t_c (log sum_k exp z_k - z_c), with t smoothed, or as a divergence sum_c t_c (log t_c - log p_c);
    d = (softmax(z) - t) scale.  A class with t = 0 costs nothing, even where z = -inf."""
    cdef vec lanes[TREE]
    cdef vec target, log_p, cost, zero = vset1(0)
    cdef real shift = row_max(z, n)
    cdef real total = exp_row(NULL, z, shift, n, False)
    cdef real log_total = log_of(total)
    cdef Py_ssize_t c = 0
    cdef int j
    clear(lanes)
    while c < n:
        for j in range(TREE):
            if c < n:
                target = vload_part(t + c, n - c, -1)           # -1 beyond the last class
                if smoothing != 0:
                    cost = vfma(target, vset1(1 - smoothing), vset1(smoothing / n))
                    target = vselect(vless(target, zero), target, cost)
                log_p = vload_part(z + c, n - c, 0) - vset1(shift)
                cost = vset1(log_total) - log_p
                if divergence:
                    cost = cost + vlog(target)
                lanes[j] = vselect(vless(zero, target), vfma(target, cost, lanes[j]), lanes[j])
                vstore_part(d + c, vfma(vexp_nonpositive(log_p), vset1(1 / total), -target) * vset1(scale), n - c)
                c += VL
    return tree_sum(lanes)


cdef real cross_entropy_of_distribution(real* d, const real* z, const real* t, Py_ssize_t n, real smoothing,
                                        real scale) noexcept nogil:
    return distribution_row(False, d, z, t, n, smoothing, scale)


cdef real kl_divergence_of_distribution(real* d, const real* z, const real* t, Py_ssize_t n, real parameter,
                                       real scale) noexcept nogil:
    return distribution_row(True, d, z, t, n, 0, scale)


cdef real multiclass_hinge_of_label(real* d, const real* z, Py_ssize_t label, Py_ssize_t n, real parameter,
                                    real scale) noexcept nogil:
    """max(0, 1 + (max of z_k over k != label) - z_label);  d = scale at the first such k, -scale at the label,
    0 elsewhere, and everywhere where the loss is 0"""
    cdef Py_ssize_t rival = -1, c
    cdef real margin
    for c in range(n):          # the first NaN stays
        if c != label and (rival < 0 or z[c] > z[rival] or z[c] != z[c] and z[rival] == z[rival]):
            rival = c
    margin = 1 + (z[rival] - z[label]) if rival >= 0 else z[label] if z[label] != z[label] else 0
    for c in range(n):
        d[c] = 0
    if margin > 0:
        d[rival] = scale
        d[label] = -scale
    elif margin != margin:
        for c in range(n):
            d[c] = margin
    return margin if not margin <= 0 else 0


# Element by element ----------------------------------------------------------------------------------

cdef inline vec log_one_plus(vec x) noexcept nogil:
    """log(1 + x) for 0 <= x <= 1: of the rounded sum, and what rounding took away"""
    cdef vec u = vset1(1) + x
    return vlog(u) + (x - (u - vset1(1))) / u


cdef inline vec mean_squared_error_loss(vec z, vec t, vec parameter, vec* gradient) noexcept nogil:
    cdef vec e = z - t
    gradient[0] = e + e
    return e * e


cdef inline vec mean_absolute_error_loss(vec z, vec t, vec parameter, vec* gradient) noexcept nogil:
    cdef vec e = z - t
    gradient[0] = vselect(vless(vset1(0), e), vset1(1), vselect(vless(e, vset1(0)), -vset1(1), e))
    return vabs(e)


cdef inline vec huber_loss(vec z, vec t, vec delta, vec* gradient) noexcept nogil:
    """e^2 / 2 inside, delta (|e| - delta / 2) outside"""
    cdef vec e = z - t, p = vmin(delta, vmax(-delta, e))
    gradient[0] = p
    return p * (e - vset1(0.5) * p)


cdef inline vec poisson_loss(vec z, vec t, vec deviance, vec* gradient) noexcept nogil:
    """A count of 0 costs exp z, even where z = -inf; the deviance is t log t - t more."""
    cdef vec e = vexp(z)
    gradient[0] = e - t
    return vselect(vless(vset1(0), t), e - t * z + deviance * (t * vlog(t) - t), e)


cdef inline vec binary_cross_entropy_loss(vec z, vec t, vec parameter, vec pos_weight, vec* gradient) noexcept nogil:
    """w t softplus(-z) + (1 - t) softplus(z), each left out where its factor is 0: infinite logits"""
    cdef vec zero = vset1(0), one = vset1(1), e, p, q
    e = vexp_nonpositive(-vabs(z))
    q = one / (one + e)             # the larger of sigmoid(z) and sigmoid(-z); e q is the other
    p = vselect(vless(z, zero), e * q, q)
    q = vselect(vless(z, zero), q, e * q)
    e = log_one_plus(e)
    pos_weight = pos_weight * t
    gradient[0] = (one - t) * p - pos_weight * q
    return (vselect(vless(zero, t), pos_weight * (vmax(zero, -z) + e), zero)
            + vselect(vless(t, one), (one - t) * (vmax(zero, z) + e), zero))


cdef inline vec hinge_loss(vec z, vec t, vec parameter, vec* gradient) noexcept nogil:
    cdef vec e = vmax(vset1(0), vset1(1) - t * z)
    gradient[0] = vselect(vless(vset1(0), e), -t, e)            # 0 or NaN
    return e


cdef inline vec squared_hinge_loss(vec z, vec t, vec parameter, vec* gradient) noexcept nogil:
    cdef vec e = vmax(vset1(0), vset1(1) - t * z)
    gradient[0] = vset1(-2) * t * e
    return e * e


cdef inline vec vlimited(real limit, vec loss) noexcept nogil:
    """NaN stays NaN."""
    return vselect(vless(vset1(limit), loss), vset1(limit), loss)


cdef inline real element_row(int kind, const LossRule* rule, real* d, const real* z, const real* t,
                             Py_ssize_t n, real scale) noexcept nogil:
    """The mean over the elements of a row; scale is that of an element."""
    cdef vec lanes[TREE]
    cdef vec gradient, loss, pos_weight = vset1(1)
    cdef real lane[VL]
    cdef Py_ssize_t c = 0
    cdef int j
    clear(lanes)
    while c < n:
        for j in range(TREE):
            if c < n:
                if has_pos_weight(kind) and rule.pos_weight != NULL:
                    pos_weight = vload_part(rule.pos_weight + c, n - c, 1)
                loss = element_loss(kind, vload_part(z + c, n - c, 0), vload_part(t + c, n - c, 0),
                                    vset1(rule.parameter), pos_weight, &gradient)
                if has_pos_weight(kind):        # the one that may have a limit
                    loss = vlimited(rule.limit, loss)
                if c + VL > n:          # the elements that are none
                    vstore(lane, loss)
                    loss = vload_part(lane, n - c, 0)
                lanes[j] = lanes[j] + loss
                vstore_part(d + c, gradient * vset1(scale), n - c)
                c += VL
    return tree_sum(lanes) / n


cdef inline void element_few(int kind, const LossRule* rule, real* d, const real* z, Py_ssize_t row, const real* t,
                             Py_ssize_t t_row, real* losses, Py_ssize_t rows, Py_ssize_t n,
                             const real* factors) noexcept nogil:
    """element_row for at most VL rows of at most 16 elements, bit for bit, a lane for every row."""
    cdef real tile[FEW * VL]            # element by element
    cdef real targets[FEW * VL]
    cdef vec s[FEW]
    cdef vec gradient, pos_weight = vset1(1)
    cdef Py_ssize_t c
    gather(tile, z, row, rows, n, factors)
    gather(targets, t, t_row, rows, n, factors)
    for c in range(n):
        if has_pos_weight(kind) and rule.pos_weight != NULL:
            pos_weight = vset1(rule.pos_weight[c])
        s[c] = element_loss(kind, vload(tile + c * VL), vload(targets + c * VL), vset1(rule.parameter),
                            pos_weight, &gradient)
        if has_pos_weight(kind):
            s[c] = vlimited(rule.limit, s[c])
        vstore(tile + c * VL, gradient * vload(factors))
    scatter(d, row, tile, rows, n, losses, lane_tree(s, n) / vset1(n), factors)


# Rows of a batch -------------------------------------------------------------------------------------

cdef inline void loss_rows_as(int kind, const LossRule* rule, real* d, const real* z, Py_ssize_t row,
                              const Targets* targets, real* losses, Py_ssize_t r0, Py_ssize_t r1, Py_ssize_t n,
                              const double* weights, double scale) noexcept nogil:
    """loss_rows of one kind; kind is a constant at every call."""
    cdef bint elements = is_of_elements(kind)
    cdef bint few = n <= FEW and (elements or has_few_labels(kind) and targets.labels != NULL)
    cdef real factors[VL]
    cdef Py_ssize_t i, j, c, rows, step = VL if few else 1
    cdef const real* t
    if elements:
        scale /= n
    for j in range(step):
        factors[j] = <real>scale
    for i from r0 <= i < r1 by step:
        rows = min(r1 - i, step)
        if weights != NULL or rows < step:      # else as they are: they are read as a vector, and what was just
            for j in range(step):               # written number by number is waited for
                factors[j] = 0 if j >= rows else <real>scale if weights == NULL else share_of(weights[i + j], scale)
        t = targets.rows + i * targets.row if targets.labels == NULL else NULL
        if few and elements:
            element_few(kind, rule, d + i * row, z + i * row, row, t, targets.row, losses + i, rows, n, factors)
        elif few:
            few_labels_loss(kind, d + i * row, z + i * row, row, targets.labels + i, losses + i, rows, n,
                            rule.parameter, factors)
        elif factors[0] == 0:
            losses[i] = 0
            for c in range(n):
                d[i * row + c] = 0
        elif elements:
            losses[i] = element_row(kind, rule, d + i * row, z + i * row, t, n, factors[0])
        elif takes_labels(kind) and targets.labels != NULL:
            losses[i] = label_loss(kind, d + i * row, z + i * row, label_at(targets, i, n), n, rule.parameter, factors[0])
        elif takes_distributions(kind):
            losses[i] = distribution_loss(kind, d + i * row, z + i * row, t, n, rule.parameter, factors[0])
        if not elements and rule.limit != INFINITY:
            for j in range(rows):
                losses[i + j] = rule.limit if losses[i + j] > rule.limit else losses[i + j]
