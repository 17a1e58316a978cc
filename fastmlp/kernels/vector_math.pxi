# exp, log, tanh and the logistic function of a vector.
#
# Largest error in units in the last place (float32: all inputs; float64: sampled), with and without FMA:
#   exp 1.0   log 0.9   tanh 2.0   sigmoid 2.0
#
# Only + - * /, FMA, comparisons and integer operations on the bits: the same bits on every vector width
# (`portable` has no FMA and rounds differently). There are no branches; the special values come out of
# the arithmetic. Method: Cody and Waite, "Software Manual for the Elementary Functions", 1980.

cdef extern from "vector_math.h" nogil:
    const real LOG2E
    const real LN2_HI           # k LN2_HI is exact for every k that occurs
    const real LN2_LO
    const real EXP_MIN          # exp(x) rounds to 0 at and below
    const real EXP_MAX          # exp(x) overflows at and above
    const real SIGMOID_MAX      # sigmoid(x) rounds to 1 at and above
    const real TANH_MAX         # tanh(x) rounds to 1 at and above
    const real SMALLEST_NORMAL
    const ireal SQRT_HALF_BITS
    const real INFINITY
    const real NAN
    const real* EXP_Q
    const real* LOG_P
    enum:
        EXP_TERMS
        LOG_TERMS


cdef inline vec exp_parts(vec x, int offset, vec* r, ivec* n) noexcept nogil:
    """x = k ln2 + r with |r| <= ln2 / 2, and q of expm1(r) = r + r^2 q.

    The low bits of n hold the integer k + offset."""
    cdef vec shift = vset1(ROUND + offset)
    cdef vec shifted = vfma(x, vset1(LOG2E), shift)
    cdef vec k = shifted - shift
    cdef vec q = vset1(EXP_Q[0])
    cdef int i
    n[0] = vbits(shifted)
    r[0] = vfma(k, vset1(-LN2_LO), vfma(k, vset1(-LN2_HI), x))
    for i in range(1, EXP_TERMS):
        q = vfma(q, r[0], vset1(EXP_Q[i]))
    return q


cdef inline vec expm1_parts(vec x, int offset, ivec* n) noexcept nogil:
    """expm1(r), and k + offset in the low bits of n."""
    cdef vec r
    cdef vec q = exp_parts(x, offset, &r, n)
    return vfma(r * r, q, r)


cdef inline vec power_of_two(ivec n) noexcept nogil:
    """2^(n - BIAS), of the low bits of n."""
    return vfrom_bits(vshift_left(n, MANTISSA))


cdef inline vec vexp(vec x) noexcept nogil:
    """2^k (1 + expm1(r)), with 2^k in two factors: only the last product overflows or loses bits."""
    cdef ivec n, half
    cdef vec u, scale
    x = vmin(vset1(EXP_MAX), vmax(vset1(EXP_MIN), x))
    u = expm1_parts(x, 2 * BIAS, &n)
    half = vshift_right(n, 1)
    scale = power_of_two(half)
    return vfma(u, scale, scale) * power_of_two(vsub_bits(n, half))


cdef inline vec vexp_nonpositive(vec x) noexcept nogil:
    """exp(x) for x <= 0, bit for bit, in less time: the second factor is a constant."""
    cdef ivec n
    cdef vec u = expm1_parts(vmax(vset1(EXP_MIN), x), BIAS + BIAS // 2, &n)
    cdef vec scale = power_of_two(n)
    return vfma(u, scale, scale) * power_of_two(vset1_int(BIAS - BIAS // 2))


cdef inline vec vsigmoid(vec x) noexcept nogil:
    """c / (c + c exp(-x)), where c = 2^-(BIAS / 2) keeps c exp(-x) in range for every x.

    c exp(-x) + c is summed as c 2^k + (c 2^k expm1(r) + c): the smaller terms first."""
    cdef ivec n
    cdef vec u, scale, c = power_of_two(vset1_int(BIAS - BIAS // 2))
    x = vmin(vset1(SIGMOID_MAX), vmax(vset1(EXP_MIN), x))
    u = expm1_parts(-x, BIAS - BIAS // 2, &n)
    scale = power_of_two(n)
    return c / (scale + vfma(u, scale, c))


cdef inline vec vtanh(vec x) noexcept nogil:
    """c t / (c t + 2 c) with t = expm1(2 |x|) = 2^k expm1(r) + (2^k - 1), and the sign of x.

    c = 3/4 puts the denominator of small |x| at 1.5 instead of 2, where rounding it costs a third less."""
    cdef ivec n
    cdef vec r, c = vset1(0.75)
    cdef vec a = vmin(vset1(TANH_MAX), vabs(x))
    cdef vec q = exp_parts(a + a, BIAS, &r, &n)
    cdef vec scale = power_of_two(n)
    cdef vec u = vfma(vset1(0.25), vfma(vset1(3) * (r * r), q, -r), r)   # c expm1(r), also without FMA
    cdef vec t = vfma(u, scale, vfma(scale, c, -c))
    return vwith_sign(t / (t + (c + c)), x)


cdef inline vec vlog(vec x) noexcept nogil:
    """k ln2 + log(1 + f) for x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2).

    With s = f / (2 + f): log(1 + f) = 2 s + s^3 p(s^2) = f - (f^2 / 2 - s (f^2 / 2 + s^2 p(s^2)))."""
    cdef vec zero = vset1(0), one = vset1(1)
    cdef vec two_power = vset1(<real>(1ULL << MANTISSA))        # its last place counts ones
    # subnormals are first made normal
    cdef ivec tiny = vless(x, vset1(SMALLEST_NORMAL))
    cdef vec y = vselect(tiny, x * (two_power + two_power), x)
    cdef vec offset = two_power + vselect(tiny, vset1(BIAS + MANTISSA + 1), vset1(BIAS))
    # bits counted from those of sqrt(1/2): the exponent field is k, the rest that of 1 + f
    cdef ivec n = vadd_bits(vbits(y), vsub_bits(vbits(one), vset1_int(SQRT_HALF_BITS)))
    cdef ivec fraction = n & vsub_bits(vshift_left(vset1_int(1), MANTISSA), vset1_int(1))
    cdef vec k = vfrom_bits(vshift_right(n, MANTISSA) | vbits(two_power)) - offset
    cdef vec f = vfrom_bits(vadd_bits(fraction, vset1_int(SQRT_HALF_BITS))) - one
    cdef vec s = f / (f + vset1(2))
    cdef vec z = s * s
    cdef vec h = vset1(0.5) * f * f
    cdef vec p = vset1(LOG_P[0])
    cdef int i
    for i in range(1, LOG_TERMS):
        p = vfma(p, z, vset1(LOG_P[i]))
    y = vfma(k, vset1(LN2_HI), f - (h - vfma(s, vfma(z, p, h), k * vset1(LN2_LO))))
    y = vselect(vless(zero, x), y, vset1(-INFINITY))
    y = vselect(vless(x, zero), vset1(NAN), y)
    return vselect(vless(x, vset1(INFINITY)), y, x)              # +inf and NaN are their own logarithm
