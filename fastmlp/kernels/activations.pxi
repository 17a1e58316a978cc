# Activations: one formula pair each, for both directions, both dtypes and every instruction set.
#
# For an activation NAME of ops.py: NAME, f(z), and NAME_backward, dy f'(z) in terms of the output y; or, with
# `from_output` False, one function NAME that returns f(z) and writes f'(z) to `slope`. dispatch.pxi calls them.

cdef inline vec positive_part(vec z, vec zero) noexcept nogil:
    return vmax(zero, z)        # z itself where it is not below 0: NaN and -0 stay what they are


cdef inline vec where_positive(vec dy, vec y, vec zero) noexcept nogil:
    return vfrom_bits(vless(zero, y) & vbits(dy))       # 0 where y is NaN, and whatever dy is where y is 0


cdef inline vec identity(vec alpha, vec z) noexcept nogil:
    return z


cdef inline vec identity_backward(vec alpha, vec dy, vec y) noexcept nogil:
    return dy


cdef inline vec relu(vec alpha, vec z) noexcept nogil:
    return positive_part(z, vset1(0))


cdef inline vec relu_backward(vec alpha, vec dy, vec y) noexcept nogil:
    return where_positive(dy, y, vset1(0))


cdef inline vec leaky_relu(vec alpha, vec z) noexcept nogil:
    return vselect(vless(z, vset1(0)), alpha * z, z)


cdef inline vec leaky_relu_backward(vec alpha, vec dy, vec y) noexcept nogil:
    return vselect(vless(vset1(0), y), dy, alpha * dy)


cdef inline vec sigmoid(vec alpha, vec z) noexcept nogil:
    return vsigmoid(z)


cdef inline vec sigmoid_backward(vec alpha, vec dy, vec y) noexcept nogil:
    return dy * (y * (vset1(1) - y))


cdef inline vec tanh(vec alpha, vec z) noexcept nogil:
    return vtanh(z)


cdef inline vec tanh_backward(vec alpha, vec dy, vec y) noexcept nogil:
    return dy * (vset1(1) - y * y)


cdef inline vec elu(vec alpha, vec z) noexcept nogil:
    return vselect(vless(z, vset1(0)), alpha * vexpm1_nonpositive(z), z)


cdef inline vec elu_backward(vec alpha, vec dy, vec y) noexcept nogil:
    return vselect(vless(vset1(0), y), dy, dy * (y + alpha))


cdef extern from "activations.h" nogil:
    const real SELU_SCALE
    const real SELU_FLOOR
    const real GELU_CUBIC
    const real GELU_SLOPE
    const real NORMAL_0


cdef inline vec selu(vec alpha, vec z) noexcept nogil:
    return vselect(vless(z, vset1(0)), vset1(SELU_FLOOR) * vexpm1_nonpositive(z), vset1(SELU_SCALE) * z)


cdef inline vec selu_backward(vec alpha, vec dy, vec y) noexcept nogil:
    return dy * vselect(vless(vset1(0), y), vset1(SELU_SCALE), y + vset1(SELU_FLOOR))


cdef inline vec softplus(vec alpha, vec z) noexcept nogil:
    return vsoftplus(z)


cdef inline vec softplus_backward(vec alpha, vec dy, vec y) noexcept nogil:
    # 0 - x, and not -x: of x = 0 that is -0, which would give the result another sign
    return dy * (vset1(0) - vexpm1_nonpositive(-vmax(vset1(0), y)))


# z F(z) and its derivative F(z) + z F'(z), where F is a distribution function with F(-z) = 1 - F(z).
#
# All comes from a = |z| and F(-a), which keeps its bits: z F(z) = max(z, 0) - a F(-a), and the derivative is
# s = F(-a) - a F'(a) below 0 and 1 - s above. Here F(-a) is e h and s is e (h - density).

cdef inline vec gated(vec z, vec a, vec e, vec h, vec density, vec* slope) noexcept nogil:
    density = (e * (h - density)) * down()
    slope[0] = vselect(vless(z, vset1(0)), density, vset1(1) - density)
    return positive_part(z, vset1(0)) - (e * (a * h)) * down()


cdef inline vec gelu(vec alpha, vec z, vec* slope) noexcept nogil:
    """F is the normal distribution."""
    cdef vec a = vmin(vset1(GELU_MAX), vabs(z))
    return gated(z, a, vexp_half_square_up(a), vnormal_ratio(a), vset1(NORMAL_0) * a, slope)


cdef inline vec gated_by_logistic(vec z, vec a, vec v, vec density, vec* slope) noexcept nogil:
    """F is the logistic function of v, and a times the derivative of v is `density`."""
    cdef vec e = vexp_up(-v), h = vset1(1) / vfma(e, down(), vset1(1))
    return gated(z, a, e, h, density * h * h, slope)


cdef inline vec gelu_tanh(vec alpha, vec z, vec* slope) noexcept nogil:
    cdef vec a = vmin(vset1(GELU_TANH_MAX), vabs(z)), v = a * a
    return gated_by_logistic(z, a, a * vfma(vset1(GELU_CUBIC * GELU_SLOPE), v, vset1(GELU_SLOPE)),
                             a * vfma(vset1(3 * GELU_CUBIC * GELU_SLOPE), v, vset1(GELU_SLOPE)), slope)


cdef inline vec silu(vec alpha, vec z, vec* slope) noexcept nogil:
    cdef vec a = vmin(vset1(SILU_MAX), vabs(z))
    return gated_by_logistic(z, a, a, a, slope)


# Functions that are no activation of a layer

cdef inline vec exp(vec alpha, vec x) noexcept nogil:
    return vexp(x)


cdef inline vec log(vec alpha, vec x) noexcept nogil:
    return vlog(x)


# Over rows: the kind is a constant at every call -------------------------------------------------------------

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


cdef inline void map_backward_as(int kind, vec alpha, real* dx, Py_ssize_t dx_row, const real* dy, Py_ssize_t dy_row,
                                 const real* y, Py_ssize_t y_row, Py_ssize_t m, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i, j, part = n % VL, whole = n - part
    for i in range(m):
        for j from 0 <= j < whole by VL:
            vstore(dx + j, function_backward(kind, alpha, vload(dy + j), vload(y + j)))
        if part:
            vstore_part(dx + whole, function_backward(
                kind, alpha, vload_part(dy + whole, part, 0), vload_part(y + whole, part, 0)), part)
        dx += dx_row
        dy += dy_row
        y += y_row


cdef inline void with_slope_as(int kind, vec alpha, real* y, real* slope, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    cdef vec s
    for i from 0 <= i < n by VL:
        vstore(y + i, function_with_slope(kind, alpha, vload(y + i), &s))
        vstore(slope + i, s)


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
