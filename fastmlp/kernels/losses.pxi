# Losses: of one row its loss and its gradient, the gradient written over the logits or beside them.
#
# `scale` is the weight of the row in the mean: 1 / rows of the batch.
# To add one: a name in Loss (the `code` of its class in fastmlp/losses.py) and its row in `loss_row`.

cdef enum Loss:
    LOSS_CROSS_ENTROPY          # class indices
    LOSS_CROSS_ENTROPY_ROWS     # rows of probabilities
    LOSS_MEAN_SQUARED_ERROR

cdef double ROW_SUM_TOLERANCE = 1e-3 if sizeof(real) == 4 else 1e-6      # as in fastmlp/checks.py

cdef struct Targets:
    const Py_ssize_t* labels    # (rows,) class indices, or
    const real* rows            # (rows, n) values
    Py_ssize_t row


cdef bint targets_fit(int loss, const Targets* t, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """Labels are in range; probabilities are not negative and sum to 1 in every row; nothing is NaN."""
    cdef Py_ssize_t i, c
    cdef real value
    cdef double total
    for i in range(rows):
        if loss == LOSS_CROSS_ENTROPY:
            if not 0 <= t.labels[i] < n:
                return False
            continue
        total = 0
        for c in range(n):
            value = t.rows[i * t.row + c]
            if value != value or loss == LOSS_CROSS_ENTROPY_ROWS and value < 0:
                return False
            total += value
        if loss == LOSS_CROSS_ENTROPY_ROWS and not -ROW_SUM_TOLERANCE <= total - 1 <= ROW_SUM_TOLERANCE:
            return False
    return True


cdef real cross_entropy_row(real* d, const real* z, Py_ssize_t label, Py_ssize_t n, real scale) noexcept nogil:
    """log sum_k exp z_k - z_label;  d = (softmax(z) - onehot(label)) scale"""
    cdef real shift = row_max(z, n)
    cdef real chosen = z[label] - shift
    cdef real total = exp_row(d, z, shift, n, True)
    scale_row(d, scale / total, n)
    d[label] -= scale
    return log_of(total) - chosen


cdef void cross_entropy_few(real* d, const real* z, Py_ssize_t row, const Py_ssize_t* labels, real* losses,
                            Py_ssize_t rows, Py_ssize_t n, real scale) noexcept nogil:
    """cross_entropy_row for at most VL rows of at most 16 classes, bit for bit: a lane for every row, so that
    a few classes do not waste a vector, nor their sum a walk across lanes."""
    cdef real tile[16 * VL]             # class by class
    cdef real lane[VL]
    cdef vec e[16]
    cdef vec s[16]
    cdef vec shift, factor
    cdef Py_ssize_t i, c, half
    for i in range(rows):
        for c in range(n):
            tile[c * VL + i] = z[i * row + c]
    for i in range(rows, VL):
        for c in range(n):
            tile[c * VL + i] = 0
    shift = vload(tile)
    for c in range(1, n):
        shift = vmax(shift, vload(tile + c * VL))
    for i in range(rows):
        lane[i] = tile[labels[i] * VL + i]
    factor = vload(lane) - shift        # the chosen logits
    for c in range(n):
        e[c] = s[c] = vexp_nonpositive(vload(tile + c * VL) - shift)
    half = 16
    while half > 1:
        half //= 2
        for c in range(half, min(2 * half, n)):
            s[c - half] = s[c - half] + s[c]
    vstore(lane, vlog(s[0]) - factor)
    for i in range(rows):
        losses[i] = lane[i]
    factor = vset1(scale) / s[0]
    for c in range(n):
        vstore(tile + c * VL, e[c] * factor)
    for i in range(rows):
        for c in range(n):
            d[i * row + c] = tile[c * VL + i]
        d[i * row + labels[i]] -= scale


cdef real cross_entropy_probabilities_row(real* d, const real* z, const real* t,
                                          Py_ssize_t n, real scale) noexcept nogil:
    """sum_c t_c (log sum_k exp z_k - z_c);  d = (softmax(z) - t) scale.  A class with t = 0 costs nothing,
    even where z = -inf."""
    cdef vec lanes[TREE]
    cdef vec target, log_p
    cdef real shift = row_max(z, n)
    cdef real total = exp_row(NULL, z, shift, n, False)
    cdef real log_total = log_of(total)
    cdef Py_ssize_t c = 0
    cdef int j
    clear(lanes)
    while c < n:
        for j in range(TREE):
            if c < n:
                target = vload_part(t + c, n - c, 0)
                log_p = vload_part(z + c, n - c, 0) - vset1(shift)
                vstore_part(d + c, vfma(vexp_nonpositive(log_p), vset1(1 / total), -target) * vset1(scale), n - c)
                lanes[j] = vselect(vless(vset1(0), target), vfma(target, vset1(log_total) - log_p, lanes[j]), lanes[j])
                c += VL
    return tree_sum(lanes)


cdef real squared_error_row(real* d, const real* p, const real* t, Py_ssize_t n, real scale) noexcept nogil:
    """mean_c (p_c - t_c)^2;  d = 2 (p - t) scale / n"""
    cdef vec lanes[TREE]
    cdef vec difference
    cdef Py_ssize_t c = 0
    cdef int j
    clear(lanes)
    while c < n:
        for j in range(TREE):
            if c < n:
                difference = vload_part(p + c, n - c, 0) - vload_part(t + c, n - c, 0)
                lanes[j] = vfma(difference, difference, lanes[j])
                vstore_part(d + c, difference * vset1(2 * scale / n), n - c)
                c += VL
    return tree_sum(lanes) / n


cdef inline real loss_row(int loss, real* d, const real* z, const Targets* targets, Py_ssize_t i,
                          Py_ssize_t n, real scale) noexcept nogil:
    """The loss of row i, and its gradient d; d may be z."""
    if loss == LOSS_CROSS_ENTROPY:
        return cross_entropy_row(d, z, targets.labels[i], n, scale)
    elif loss == LOSS_CROSS_ENTROPY_ROWS:
        return cross_entropy_probabilities_row(d, z, targets.rows + i * targets.row, n, scale)
    return squared_error_row(d, z, targets.rows + i * targets.row, n, scale)


cdef void loss_rows(int loss, real* d, const real* z, Py_ssize_t row, const Targets* targets, real* losses,
                    Py_ssize_t r0, Py_ssize_t r1, Py_ssize_t n, real scale) noexcept nogil:
    """The losses of rows r0..r1, and their gradients d; d may be z."""
    cdef Py_ssize_t i, rows
    if loss == LOSS_CROSS_ENTROPY and n <= 16:
        for i from r0 <= i < r1 by VL:
            rows = min(r1 - i, <Py_ssize_t>VL)
            cross_entropy_few(d + i * row, z + i * row, row, targets.labels + i, losses + i, rows, n, scale)
        return
    for i in range(r0, r1):
        losses[i] = loss_row(loss, d + i * row, z + i * row, targets, i, n, scale)
