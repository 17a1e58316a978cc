# Activations: one formula pair each, for both directions, both dtypes and every instruction set.
#
# To add one: a name in Activation (the `code` of its class in fastmlp/activations.py), its formula in
# `activation` and its derivative, in terms of the output y, in `activation_backward`.

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


cdef inline vec relu(vec z) noexcept nogil:
    return vselect(vless(z, vset1(0)), vset1(0), z)             # NaN stays NaN


cdef inline vec relu_backward(vec dy, vec y) noexcept nogil:
    return vselect(vless(vset1(0), y), dy, vset1(0))


cdef inline vec activation(int kind, vec alpha, vec z) noexcept nogil:
    """f(z); kind is a constant at every call."""
    if kind == ACT_RELU:
        return relu(z)
    elif kind == ACT_LEAKY_RELU:
        return vselect(vless(z, vset1(0)), alpha * z, z)
    elif kind == ACT_SIGMOID:
        return vsigmoid(z)
    elif kind == ACT_TANH:
        return vtanh(z)
    return z


cdef inline vec activation_backward(int kind, vec alpha, vec dy, vec y) noexcept nogil:
    """dy f'(z), of y = f(z); kind is a constant at every call."""
    if kind == ACT_RELU:
        return relu_backward(dy, y)
    elif kind == ACT_LEAKY_RELU:
        return vselect(vless(vset1(0), y), dy, alpha * dy)
    elif kind == ACT_SIGMOID:
        return dy * (y * (vset1(1) - y))
    elif kind == ACT_TANH:
        return dy * (vset1(1) - y * y)
    return dy


# On a tile of the matrix product, in place ---------------------------------------------------------

cdef inline void activate_as(int kind, vec alpha, real* c, Py_ssize_t c_row, int m, int nv) noexcept nogil:
    cdef int i, j
    for i in range(m):
        for j in range(nv):
            vstore(c + i * c_row + j * VL, activation(kind, alpha, vload(c + i * c_row + j * VL)))


cdef void activate(int kind, real alpha, real* c, Py_ssize_t c_row, int m, int nv) noexcept nogil:
    """c = f(c) on m rows of nv vectors."""
    if kind == ACT_LEAKY_RELU: activate_as(ACT_LEAKY_RELU, vset1(alpha), c, c_row, m, nv)
    elif kind == ACT_SIGMOID: activate_as(ACT_SIGMOID, vset1(alpha), c, c_row, m, nv)
    elif kind == ACT_TANH: activate_as(ACT_TANH, vset1(alpha), c, c_row, m, nv)


cdef inline void activate_backward_as(int kind, vec alpha, real* c, Py_ssize_t c_row,
                                      const real* y, Py_ssize_t y_row, int m, int nv) noexcept nogil:
    cdef int i, j
    for i in range(m):
        for j in range(nv):
            vstore(c + i * c_row + j * VL, activation_backward(
                kind, alpha, vload(c + i * c_row + j * VL), vload(y + i * y_row + j * VL)))


cdef void activate_backward(int kind, real alpha, real* c, Py_ssize_t c_row,
                            const real* y, Py_ssize_t y_row, int m, int nv) noexcept nogil:
    """c = c f'(z), of y = f(z), on m rows of nv vectors."""
    if kind == ACT_LEAKY_RELU: activate_backward_as(ACT_LEAKY_RELU, vset1(alpha), c, c_row, y, y_row, m, nv)
    elif kind == ACT_SIGMOID: activate_backward_as(ACT_SIGMOID, vset1(alpha), c, c_row, y, y_row, m, nv)
    elif kind == ACT_TANH: activate_backward_as(ACT_TANH, vset1(alpha), c, c_row, y, y_row, m, nv)


# On whole arrays -----------------------------------------------------------------------------------

cdef enum Function:             # functions of one array that are no activation of a layer
    FUN_EXP = ACT_COUNT
    FUN_LOG


cdef inline vec function(int kind, vec alpha, vec x) noexcept nogil:
    if kind == FUN_EXP:
        return vexp(x)
    elif kind == FUN_LOG:
        return vlog(x)
    return activation(kind, alpha, x)


cdef inline void map_as(int kind, real* y, const real* x, Py_ssize_t n, vec alpha) noexcept nogil:
    cdef Py_ssize_t i, whole = n - n % VL
    for i from 0 <= i < whole by VL:
        vstore(y + i, function(kind, alpha, vload(x + i)))
    if whole < n:
        vstore_part(y + whole, function(kind, alpha, vload_part(x + whole, n - whole, 0)), n - whole)


cdef void map_array(int kind, real* y, const real* x, Py_ssize_t n, real alpha) noexcept nogil:
    """y[i] = f(x[i])"""
    if kind == ACT_RELU: map_as(ACT_RELU, y, x, n, vset1(alpha))
    elif kind == ACT_LEAKY_RELU: map_as(ACT_LEAKY_RELU, y, x, n, vset1(alpha))
    elif kind == ACT_SIGMOID: map_as(ACT_SIGMOID, y, x, n, vset1(alpha))
    elif kind == ACT_TANH: map_as(ACT_TANH, y, x, n, vset1(alpha))
    elif kind == FUN_EXP: map_as(FUN_EXP, y, x, n, vset1(alpha))
    elif kind == FUN_LOG: map_as(FUN_LOG, y, x, n, vset1(alpha))
    else: map_as(ACT_IDENTITY, y, x, n, vset1(alpha))


cdef inline void map_backward_as(int kind, real* dx, const real* dy, const real* y,
                                 Py_ssize_t n, vec alpha) noexcept nogil:
    cdef Py_ssize_t i, whole = n - n % VL, part = n - whole
    for i from 0 <= i < whole by VL:
        vstore(dx + i, activation_backward(kind, alpha, vload(dy + i), vload(y + i)))
    if part:
        vstore_part(dx + whole, activation_backward(
            kind, alpha, vload_part(dy + whole, part, 0), vload_part(y + whole, part, 0)), part)


cdef void map_backward(int kind, real* dx, const real* dy, const real* y, Py_ssize_t n, real alpha) noexcept nogil:
    """dx[i] = dy[i] f'(x[i]), of y = f(x)"""
    if kind == ACT_RELU: map_backward_as(ACT_RELU, dx, dy, y, n, vset1(alpha))
    elif kind == ACT_LEAKY_RELU: map_backward_as(ACT_LEAKY_RELU, dx, dy, y, n, vset1(alpha))
    elif kind == ACT_SIGMOID: map_backward_as(ACT_SIGMOID, dx, dy, y, n, vset1(alpha))
    elif kind == ACT_TANH: map_backward_as(ACT_TANH, dx, dy, y, n, vset1(alpha))
    else: map_backward_as(ACT_IDENTITY, dx, dy, y, n, vset1(alpha))
