# Activations: one formula pair each, for both directions, both dtypes and every instruction set.
#
# To add one: a name in Activation (the `code` of its class in fastmlp/activations.py), its formula in
# `activation` and its derivative, in terms of the output y, in `activation_backward`; and a line in each of
# the three functions that make the kind a constant.

cdef enum Activation:
    ACT_IDENTITY                # these two are finished on the accumulators of the register tile,
    ACT_RELU                    # the others on the tile in the first-level cache
    ACT_LEAKY_RELU
    ACT_SIGMOID
    ACT_TANH
    ACT_ELU
    ACT_SELU
    ACT_SOFTPLUS
    ACT_GELU                    # the derivative of these three is in terms of z
    ACT_GELU_TANH
    ACT_SILU
    ACT_SLOPE                   # no activation: the way back through a slope that was kept, dy * slope
    ACT_COUNT


cdef inline vec relu(vec z, vec zero) noexcept nogil:
    return vmax(zero, z)        # z itself where it is not below 0: NaN and -0 stay what they are


cdef inline vec relu_backward(vec dy, vec y, vec zero) noexcept nogil:
    return vfrom_bits(vless(zero, y) & vbits(dy))       # 0 where y is NaN, and whatever dy is where y is 0


cdef enum:
    ACT_GATED = ACT_GELU        # the first of those that `gated` computes; ACT_SILU is the last

cdef extern from *:
    """
    #define SELU_SCALE ((real)1.0507009873554804934193349852946)
    #define SELU_FLOOR ((real)1.7580993408473768599402175208123)    /* SELU_SCALE alpha */
    #define GELU_CUBIC ((real)0.044715)
    #define GELU_SLOPE ((real)1.5957691216057307117597842397375)    /* sqrt(8 / pi) */
    #define NORMAL_0 ((real)0.3989422804014326779399460599344)      /* 1 / sqrt(2 pi) */
    """
    const real SELU_SCALE
    const real SELU_FLOOR
    const real GELU_CUBIC
    const real GELU_SLOPE
    const real NORMAL_0


cdef inline vec gated(int kind, vec z, vec* slope) noexcept nogil:
    """z F(z) and its derivative F(z) + z F'(z), where F is a distribution function with F(-z) = 1 - F(z): the
    normal one (GELU), the logistic one of z (SiLU) or of a cubic (GELUTanh).

    All comes from a = |z| and F(-a), which keeps its bits: z F(z) = max(z, 0) - a F(-a), and the derivative is
    s = F(-a) - a F'(a) below 0 and 1 - s above. Here F(-a) is e h and s is e (h - density)."""
    cdef vec one = vset1(1), a = vabs(z), e, h, v, density
    if kind == ACT_GELU:
        a = vmin(vset1(GELU_MAX), a)
        e = vexp_half_square_up(a)
        h = vnormal_ratio(a)
        density = vset1(NORMAL_0) * a
    else:
        if kind == ACT_SILU:
            a = v = density = vmin(vset1(SILU_MAX), a)
        else:
            a = vmin(vset1(GELU_TANH_MAX), a)
            v = a * a
            density = a * vfma(vset1(3 * GELU_CUBIC * GELU_SLOPE), v, vset1(GELU_SLOPE))
            v = a * vfma(vset1(GELU_CUBIC * GELU_SLOPE), v, vset1(GELU_SLOPE))
        e = vexp_up(-v)
        h = one / vfma(e, down(), one)
        density = density * h * h
    density = (e * (h - density)) * down()
    slope[0] = vselect(vless(z, vset1(0)), density, one - density)
    return relu(z, vset1(0)) - (e * (a * h)) * down()


cdef inline vec activation(int kind, vec alpha, vec z) noexcept nogil:
    """f(z); kind is a constant at every call."""
    cdef vec slope
    if kind == ACT_RELU:
        return relu(z, vset1(0))
    elif kind == ACT_LEAKY_RELU:
        return vselect(vless(z, vset1(0)), alpha * z, z)
    elif kind == ACT_SIGMOID:
        return vsigmoid(z)
    elif kind == ACT_TANH:
        return vtanh(z)
    elif kind == ACT_ELU:
        return vselect(vless(z, vset1(0)), alpha * vexpm1_nonpositive(z), z)
    elif kind == ACT_SELU:
        return vselect(vless(z, vset1(0)), vset1(SELU_FLOOR) * vexpm1_nonpositive(z), vset1(SELU_SCALE) * z)
    elif kind == ACT_SOFTPLUS:
        return vsoftplus(z)
    elif ACT_GATED <= kind <= ACT_SILU:
        return gated(kind, z, &slope)
    return z


cdef inline vec activation_backward(int kind, vec alpha, vec dy, vec y) noexcept nogil:
    """dy f'(z), of y = f(z), or of y = z for those that are `gated`; kind is a constant at every call."""
    cdef vec slope
    if kind == ACT_RELU:
        return relu_backward(dy, y, vset1(0))
    elif kind == ACT_LEAKY_RELU:
        return vselect(vless(vset1(0), y), dy, alpha * dy)
    elif kind == ACT_SIGMOID:
        return dy * (y * (vset1(1) - y))
    elif kind == ACT_TANH:
        return dy * (vset1(1) - y * y)
    elif kind == ACT_ELU:
        return vselect(vless(vset1(0), y), dy, dy * (y + alpha))
    elif kind == ACT_SELU:
        return dy * vselect(vless(vset1(0), y), vset1(SELU_SCALE), y + vset1(SELU_FLOOR))
    elif kind == ACT_SOFTPLUS:
        return dy * (vset1(0) - vexpm1_nonpositive(-y))         # 0 - 0, for -0 would give the result another sign
    elif ACT_GATED <= kind <= ACT_SILU:
        gated(kind, y, &slope)
        return dy * slope
    elif kind == ACT_SLOPE:
        return dy * y
    return dy


# Over rows: the kind, known only now, becomes a constant ----------------------------------------------------

cdef enum Function:             # functions of one array that are no activation of a layer
    FUN_EXP = ACT_COUNT
    FUN_LOG


cdef inline vec function(int kind, vec alpha, vec x) noexcept nogil:
    if kind == FUN_EXP:
        return vexp(x)
    elif kind == FUN_LOG:
        return vlog(x)
    return activation(kind, alpha, x)


cdef inline void map_as(int kind, vec alpha, real* y, Py_ssize_t y_row, const real* x, Py_ssize_t x_row,
                        Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j, part = n % VL, whole = n - part
    for i in range(m):
        for j from 0 <= j < whole by VL:
            vstore(y + j, function(kind, alpha, vload(x + j)))
        if part:
            vstore_part(y + whole, function(kind, alpha, vload_part(x + whole, part, 0)), part)
        y += y_row
        x += x_row


cdef void map_rows(int kind, real alpha, real* y, Py_ssize_t y_row, const real* x, Py_ssize_t x_row,
                   Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    """y = f(x) on m rows of n numbers; y may be x."""
    if kind == ACT_RELU: map_as(ACT_RELU, vset1(alpha), y, y_row, x, x_row, m, n)
    elif kind == ACT_LEAKY_RELU: map_as(ACT_LEAKY_RELU, vset1(alpha), y, y_row, x, x_row, m, n)
    elif kind == ACT_SIGMOID: map_as(ACT_SIGMOID, vset1(alpha), y, y_row, x, x_row, m, n)
    elif kind == ACT_TANH: map_as(ACT_TANH, vset1(alpha), y, y_row, x, x_row, m, n)
    elif kind == ACT_ELU: map_as(ACT_ELU, vset1(alpha), y, y_row, x, x_row, m, n)
    elif kind == ACT_SELU: map_as(ACT_SELU, vset1(alpha), y, y_row, x, x_row, m, n)
    elif kind == ACT_SOFTPLUS: map_as(ACT_SOFTPLUS, vset1(alpha), y, y_row, x, x_row, m, n)
    elif kind == ACT_GELU: map_as(ACT_GELU, vset1(alpha), y, y_row, x, x_row, m, n)
    elif kind == ACT_GELU_TANH: map_as(ACT_GELU_TANH, vset1(alpha), y, y_row, x, x_row, m, n)
    elif kind == ACT_SILU: map_as(ACT_SILU, vset1(alpha), y, y_row, x, x_row, m, n)
    elif kind == FUN_EXP: map_as(FUN_EXP, vset1(alpha), y, y_row, x, x_row, m, n)
    elif kind == FUN_LOG: map_as(FUN_LOG, vset1(alpha), y, y_row, x, x_row, m, n)
    else: map_as(ACT_IDENTITY, vset1(alpha), y, y_row, x, x_row, m, n)


cdef inline void map_backward_as(int kind, vec alpha, real* dx, Py_ssize_t dx_row, const real* dy, Py_ssize_t dy_row,
                                 const real* y, Py_ssize_t y_row, Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j, part = n % VL, whole = n - part
    for i in range(m):
        for j from 0 <= j < whole by VL:
            vstore(dx + j, activation_backward(kind, alpha, vload(dy + j), vload(y + j)))
        if part:
            vstore_part(dx + whole, activation_backward(
                kind, alpha, vload_part(dy + whole, part, 0), vload_part(y + whole, part, 0)), part)
        dx += dx_row
        dy += dy_row
        y += y_row


cdef void map_backward_rows(int kind, real alpha, real* dx, Py_ssize_t dx_row, const real* dy, Py_ssize_t dy_row,
                            const real* y, Py_ssize_t y_row, Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    """dx = dy f'(x), of y = f(x) or, where the derivative needs it, y = x; on m rows of n numbers."""
    if kind == ACT_RELU: map_backward_as(ACT_RELU, vset1(alpha), dx, dx_row, dy, dy_row, y, y_row, m, n)
    elif kind == ACT_LEAKY_RELU: map_backward_as(ACT_LEAKY_RELU, vset1(alpha), dx, dx_row, dy, dy_row, y, y_row, m, n)
    elif kind == ACT_SIGMOID: map_backward_as(ACT_SIGMOID, vset1(alpha), dx, dx_row, dy, dy_row, y, y_row, m, n)
    elif kind == ACT_TANH: map_backward_as(ACT_TANH, vset1(alpha), dx, dx_row, dy, dy_row, y, y_row, m, n)
    elif kind == ACT_ELU: map_backward_as(ACT_ELU, vset1(alpha), dx, dx_row, dy, dy_row, y, y_row, m, n)
    elif kind == ACT_SELU: map_backward_as(ACT_SELU, vset1(alpha), dx, dx_row, dy, dy_row, y, y_row, m, n)
    elif kind == ACT_SOFTPLUS: map_backward_as(ACT_SOFTPLUS, vset1(alpha), dx, dx_row, dy, dy_row, y, y_row, m, n)
    elif kind == ACT_GELU: map_backward_as(ACT_GELU, vset1(alpha), dx, dx_row, dy, dy_row, y, y_row, m, n)
    elif kind == ACT_GELU_TANH: map_backward_as(ACT_GELU_TANH, vset1(alpha), dx, dx_row, dy, dy_row, y, y_row, m, n)
    elif kind == ACT_SILU: map_backward_as(ACT_SILU, vset1(alpha), dx, dx_row, dy, dy_row, y, y_row, m, n)
    elif kind == ACT_SLOPE: map_backward_as(ACT_SLOPE, vset1(alpha), dx, dx_row, dy, dy_row, y, y_row, m, n)
    else: map_backward_as(ACT_IDENTITY, vset1(alpha), dx, dx_row, dy, dy_row, y, y_row, m, n)


cdef inline void with_slope_as(int kind, vec alpha, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef vec f, s
    for i from 0 <= i < n by VL:
        if ACT_GATED <= kind <= ACT_SILU:
            f = gated(kind, vload(y + i), &s)
        else:
            f = activation(kind, alpha, vload(y + i))
            s = activation_backward(kind, alpha, vset1(1), f)
        vstore(y + i, f)
        vstore(slope + i, s)


cdef void activate_with_slope(int kind, real alpha, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    """y = f(z), in the place of z, and slope = f'(z), for ACT_SLOPE on the way back; n is a multiple of VL."""
    if kind == ACT_RELU: with_slope_as(ACT_RELU, vset1(alpha), y, slope, n)
    elif kind == ACT_LEAKY_RELU: with_slope_as(ACT_LEAKY_RELU, vset1(alpha), y, slope, n)
    elif kind == ACT_SIGMOID: with_slope_as(ACT_SIGMOID, vset1(alpha), y, slope, n)
    elif kind == ACT_TANH: with_slope_as(ACT_TANH, vset1(alpha), y, slope, n)
    elif kind == ACT_ELU: with_slope_as(ACT_ELU, vset1(alpha), y, slope, n)
    elif kind == ACT_SELU: with_slope_as(ACT_SELU, vset1(alpha), y, slope, n)
    elif kind == ACT_SOFTPLUS: with_slope_as(ACT_SOFTPLUS, vset1(alpha), y, slope, n)
    elif kind == ACT_GELU: with_slope_as(ACT_GELU, vset1(alpha), y, slope, n)
    elif kind == ACT_GELU_TANH: with_slope_as(ACT_GELU_TANH, vset1(alpha), y, slope, n)
    elif kind == ACT_SILU: with_slope_as(ACT_SILU, vset1(alpha), y, slope, n)
    else: with_slope_as(ACT_IDENTITY, vset1(alpha), y, slope, n)


# On a tile of the matrix product, in place; and on a whole array -------------------------------------------

cdef void activate(int kind, real alpha, real* c, Py_ssize_t c_row, int m, int nv) noexcept nogil:
    """c = f(c) on m rows of nv vectors."""
    map_rows(kind, alpha, c, c_row, c, c_row, m, nv * VL)


cdef void activate_backward(int kind, real alpha, real* c, Py_ssize_t c_row,
                            const real* y, Py_ssize_t y_row, int m, int nv) noexcept nogil:
    """c = c f'(z), of y = f(z), on m rows of nv vectors."""
    map_backward_rows(kind, alpha, c, c_row, c, c_row, y, y_row, m, nv * VL)


cdef void map_array(int kind, real* y, const real* x, Py_ssize_t n, real alpha) noexcept nogil:
    """y[i] = f(x[i])"""
    map_rows(kind, alpha, y, 0, x, 0, 1, n)


cdef void map_backward(int kind, real* dx, const real* dy, const real* y, Py_ssize_t n, real alpha) noexcept nogil:
    """dx[i] = dy[i] f'(x[i]), of y = f(x)"""
    map_backward_rows(kind, alpha, dx, 0, dy, 0, y, 0, 1, n)
