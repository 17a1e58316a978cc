# Batch normalisation: every unit of a layer is centred and scaled by what the batch says of it.
#
#   mean = 1/n sum_i z_i,  variance = 1/n sum_i (z_i - mean)^2,  x_hat = (z - mean) / sqrt(variance + epsilon)
#   y_hat = scale x_hat + b
#
# A sum over the batch is one chain in the order of the rows, or one for every CHUNK of them, added in their order; a
# lane belongs to one unit. The thread that owns a panel of units sums it, between two barriers: the sums do not depend
# on who owns what. Of a single row, whose variance is 0, nothing is remembered.
# Source: Ioffe, Szegedy, "Batch Normalization", ICML 2015.

cdef inline vec one_over_std(vec variance, double epsilon) noexcept nogil:
    return vset1(1) / vsqrt(variance + vset1(<real>epsilon))


cdef void batch_statistics(const Layer* layer, Py_ssize_t panel, Py_ssize_t rows, Py_ssize_t p0, Py_ssize_t p1,
                           bint remember) noexcept nogil:
    """mean and inv_std of the units in panels p0..p1 of y, where z is; remembered in the running ones:
    r = r + rate (batch - r), the variance there with n - 1."""
    cdef vec total[NV]
    cdef vec part[NV]
    cdef vec mean, variance, difference, unbiased = vset1(<real>(<double>rows / max(rows - 1, <Py_ssize_t>1)))
    cdef vec rate = vset1(<real>layer.statistics_rate), n = vset1(<real>rows)
    cdef const real* z
    cdef Py_ssize_t i, i0, c, p, width
    cdef int j
    for p in range(p0, p1):
        z = layer.y + p * panel
        sum_panels(1, layer.mean + p * NR, z, panel, rows)
        for j in range(NV):
            vstore(layer.mean + p * NR + j * VL, vload(layer.mean + p * NR + j * VL) / n)
            total[j] = vset1(0)
        for i0 from 0 <= i0 < rows by CHUNK:
            for j in range(NV):
                part[j] = vset1(0)
            for i in range(i0, min(rows, i0 + CHUNK)):
                for j in range(NV):
                    difference = vload(z + i * NR + j * VL) - vload(layer.mean + p * NR + j * VL)
                    part[j] = vfma(difference, difference, part[j])
            for j in range(NV):
                total[j] = total[j] + part[j]
        for j in range(NV):
            c = p * NR + j * VL
            width = layer.n_out - c
            mean = vload(layer.mean + c)
            variance = total[j] / n
            vstore(layer.inv_std + c, one_over_std(variance, layer.epsilon))
            if remember and rows > 1:
                difference = mean - vload_part(layer.running_mean + c, width, 0)
                vstore_part(layer.running_mean + c, vfma(rate, difference, vload_part(layer.running_mean + c, width, 0)), width)
                difference = variance * unbiased - vload_part(layer.running_variance + c, width, 0)
                vstore_part(layer.running_variance + c, vfma(rate, difference, vload_part(layer.running_variance + c, width, 0)), width)


cdef void normalise_rows(const Layer* layer, const real* scales, const real* shifts, real* y, real* x_hat, Py_ssize_t panel,
                         const real* mean, const real* inv_std, Py_ssize_t rows) noexcept nogil:
    """y = scale x_hat + shift in place of z, on rows of every panel; x_hat is kept where there is room for it."""
    cdef vec m, v, scale, shift, x
    cdef Py_ssize_t i, c
    for c from 0 <= c < panels(layer.n_out) by VL:
        m = vload_part(mean + c, layer.n_out - c, 0)
        v = vload_part(inv_std + c, layer.n_out - c, 0)
        scale = vload_part(scales + c, layer.n_out - c, 0)
        shift = vload_part(shifts + c, layer.n_out - c, 0)
        for i in range(rows):
            x = (vload(y + c // NR * panel + i * NR + c % NR) - m) * v
            if x_hat != NULL:
                vstore(x_hat + c // NR * panel + i * NR + c % NR, x)
            vstore(y + c // NR * panel + i * NR + c % NR, vfma(scale, x, shift))


cdef void running_inv_std(const Layer* layer, real* inv_std) noexcept nogil:
    """1 / sqrt(running variance + epsilon), for inference"""
    cdef Py_ssize_t c
    for c from 0 <= c < layer.n_out by VL:
        vstore(inv_std + c, one_over_std(vload_part(layer.running_variance + c, layer.n_out - c, 1), layer.epsilon))


cdef void normalisation_sums(const Layer* layer, Py_ssize_t panel, Py_ssize_t rows, Py_ssize_t p0, Py_ssize_t p1) noexcept nogil:
    """d_shift = sum_i d_i,  d_scale = sum_i d_i x_hat_i, of the units in panels p0..p1"""
    cdef vec part[NV]
    cdef vec total[NV]
    cdef Py_ssize_t i, i0, p
    cdef int j
    for p in range(p0, p1):
        sum_panels(1, layer.d_shift + p * NR, layer.d + p * panel, panel, rows)
        for j in range(NV):
            total[j] = vset1(0)
        for i0 from 0 <= i0 < rows by CHUNK:
            for j in range(NV):
                part[j] = vset1(0)
            for i in range(i0, min(rows, i0 + CHUNK)):
                for j in range(NV):
                    part[j] = vfma(vload(layer.d + p * panel + i * NR + j * VL),
                                   vload(layer.x_hat + p * panel + i * NR + j * VL), part[j])
            for j in range(NV):
                total[j] = total[j] + part[j]
        for j in range(NV):
            vstore(layer.d_scale + p * NR + j * VL, total[j])


cdef void normalisation_backward(const Layer* layer, Py_ssize_t panel, Py_ssize_t rows, Py_ssize_t r0, Py_ssize_t r1) noexcept nogil:
    """d = scale inv_std (d - (d_shift + x_hat d_scale) / n), in place, on rows r0..r1 of n"""
    cdef vec factor, shift, scale, of_mean, minus = vset1(<real>(-1. / rows))
    cdef Py_ssize_t i, c, at
    for c from 0 <= c < panels(layer.n_out) by VL:
        factor = vload(layer.scale_p + c) * vload(layer.inv_std + c)
        shift = vload(layer.d_shift + c)
        scale = vload(layer.d_scale + c)
        for i in range(r0, r1):
            at = c // NR * panel + i * NR + c % NR
            of_mean = vfma(vload(layer.x_hat + at), scale, shift)
            vstore(layer.d + at, factor * vfma(minus, of_mean, vload(layer.d + at)))
