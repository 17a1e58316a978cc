# exp, log, tanh, the logistic function and their kin, of a vector.
#
# Largest error in units in the last place (float32: all inputs; float64: sampled), with and without FMA:
#   exp 1.0   log 0.9   tanh 2.0 (float64: 2.2)   sigmoid 2.0
# and, as distances from the rounded result in whole units (activations.pxi, which builds on these):
#   elu 1   selu 2   softplus 3   silu 3   gelu 5   gelu_tanh 3 + 6 |u|: exp of a rounded u
#
# Only + - * /, FMA, comparisons and integer operations on the bits: the same bits on every vector width
# (`portable` has no FMA and rounds differently). There are no branches; the special values come out of
# the arithmetic. Method: Cody and Waite, "Software Manual for the Elementary Functions", 1980.

cdef extern from "vector_math.h" nogil:
    const real LOG2E
    const real LN2
    const real LN2_HI           # k LN2_HI is exact for every k that occurs
    const real LN2_LO
    const real EXP_MIN          # exp(x) rounds to 0 at and below
    const real EXP_MAX          # exp(x) overflows at and above
    const real SIGMOID_MAX      # sigmoid(x) rounds to 1 at and above
    const real TANH_MAX         # tanh(x) rounds to 1 at and above
    const real GELU_MAX         # at and above: z F(z) of -x rounds to 0, and its derivative too
    const real GELU_TANH_MAX
    const real SILU_MAX
    const real NORMAL_C
    const real SMALLEST_NORMAL
    const ireal SQRT_HALF_BITS
    const real INFINITY
    const real NAN
    const real* EXP_Q
    const real* TANH_Q
    const real* LOG_P
    const real* LOG1P_P
    const real* NORMAL_P
    enum:
        EXP_TERMS
        LOG_TERMS
        LOG1P_TERMS
        NORMAL_TERMS


cdef inline vec polynomial(int terms, const real* coefficients, vec x) noexcept nogil:
    """Highest power first; terms is a constant at every call."""
    cdef vec y = vset1(coefficients[0])
    cdef int i
    for i in range(1, terms):
        y = vfma(y, x, vset1(coefficients[i]))
    return y


cdef inline vec expm1_rest(const real* coefficients, vec r, vec r2) noexcept nogil:
    """q of expm1(r) = r + r^2 q, two coefficients at a time: the chain of operations is half as long."""
    cdef vec q = vset1(coefficients[0])
    cdef int i
    if EXP_TERMS % 2 == 0:
        q = vfma(q, r, vset1(coefficients[1]))
    for i from 2 - EXP_TERMS % 2 <= i < EXP_TERMS by 2:
        q = vfma(q, r2, vfma(vset1(coefficients[i]), r, vset1(coefficients[i + 1])))
    return q


cdef inline vec remainder(vec x, int offset, ivec* n) noexcept nogil:
    """r of x = k ln2 + r with |r| <= ln2 / 2. The low bits of n hold the integer k + offset."""
    cdef vec shift = vset1(ROUND + offset)
    cdef vec shifted = vfma(x, vset1(LOG2E), shift)
    cdef vec k = shifted - shift
    n[0] = vbits(shifted)
    return vfma(k, vset1(-LN2_LO), vfma(k, vset1(-LN2_HI), x))


cdef inline vec expm1_parts(vec x, int offset, ivec* n) noexcept nogil:
    """expm1(r), and k + offset in the low bits of n."""
    cdef vec r = remainder(x, offset, n)
    cdef vec r2 = r * r
    return vfma(r2, expm1_rest(EXP_Q, r, r2), r)


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


cdef inline vec down() noexcept nogil:
    """2^-(BIAS / 2): the second factor of what is computed too large, to lose no bits before the end."""
    return power_of_two(vset1_int(BIAS - BIAS // 2))


cdef inline vec vexp_up(vec x) noexcept nogil:
    """exp(x) / down() for x <= 0, not below the exponents of SILU_MAX and EXP_MIN."""
    cdef ivec n
    cdef vec u = expm1_parts(x, BIAS + BIAS // 2, &n)
    cdef vec scale = power_of_two(n)
    return vfma(u, scale, scale)


cdef inline vec vexp_nonpositive(vec x) noexcept nogil:
    """exp(x) for x <= 0, bit for bit, in less time: the second factor is a constant."""
    return vexp_up(vmax(vset1(EXP_MIN), x)) * down()


cdef inline vec vexp_half_square_up(vec a) noexcept nogil:
    """exp(-a^2 / 2) / down() for 0 <= a <= GELU_MAX.

    a^2 has twice as many bits as a and an error of a^2 would be one of exp: a = h + (a - h), where h has half
    the bits of a, so that h^2 is exact; (a - h) (a + h) / 2, the rest, joins the remainder."""
    cdef ivec n
    cdef vec h = vfrom_bits(vbits(a) & vset1_int(-(1LL << (MANTISSA // 2 + 1))))
    cdef vec shift = vset1(ROUND + BIAS + BIAS // 2), half = vset1(-0.5)
    cdef vec x = half * (h * h), rest = half * ((a - h) * (a + h))
    cdef vec shifted = vfma(x + rest, vset1(LOG2E), shift)
    cdef vec k = shifted - shift
    cdef vec r = vfma(k, vset1(-LN2_LO), vfma(k, vset1(-LN2_HI), x) + rest)
    cdef vec r2 = r * r, scale = power_of_two(vbits(shifted))
    return vfma(vfma(r2, expm1_rest(EXP_Q, r, r2), r), scale, scale)


cdef inline vec vexpm1_nonpositive(vec x) noexcept nogil:
    """exp(x) - 1 = 2^k expm1(r) + (2^k - 1) for x <= 0; -0 becomes 0."""
    cdef ivec n
    cdef vec u = expm1_parts(vmax(vset1(-SIGMOID_MAX), x), BIAS, &n)
    cdef vec scale = power_of_two(n)
    return vfma(u, scale, scale - vset1(1))


cdef inline vec vsoftplus(vec x) noexcept nogil:
    """max(x, 0) + log1p(e) with e = exp(-|x|); log1p(e) = m + m^3 p(m^2), m = e / (1 + e / 2) <= 2/3."""
    cdef vec e = vexp_nonpositive(-vabs(x))
    cdef vec m = e / vfma(vset1(0.5), e, vset1(1))
    cdef vec w = m * m
    return vmax(vset1(0), x) + vfma(m * w, polynomial(LOG1P_TERMS, LOG1P_P, w), m)


cdef inline vec vnormal_ratio(vec a) noexcept nogil:
    """exp(a^2 / 2) F(-a) for 0 <= a <= GELU_MAX, F the distribution function of the standard normal; a polynomial
    in (c - 1) / (c + 1) with c = NORMAL_C a, after Shepherd and Laframboise, Mathematics of Computation 36, 1981."""
    cdef vec one = vset1(1), c = vset1(NORMAL_C) * a
    cdef vec t = one / (one + c)
    return t * polynomial(NORMAL_TERMS, NORMAL_P, vfma(vset1(2), c * t, -one))


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

    c = 3/4 puts the denominator of small |x| at 1.5 instead of 2, where rounding it costs a third less. An error of
    k ln2 hardly shows in tanh: one constant for ln2 will do."""
    cdef vec c = vset1(0.75), shift = vset1(ROUND + BIAS)
    cdef vec a = vmin(vset1(TANH_MAX), vabs(x))
    cdef vec shifted = vfma(a, vset1(2 * LOG2E), shift)
    cdef vec r = vfma(shifted - shift, vset1(-LN2), a + a)
    cdef vec r2 = r * r
    cdef vec u = vfma(r2, expm1_rest(TANH_Q, r, r2), vset1(-0.25) * r) + r      # c expm1(r)
    cdef vec scale = power_of_two(vbits(shifted))
    cdef vec c_scale = vfrom_bits(vadd_bits(vbits(scale), vsub_bits(vbits(c), vbits(vset1(1)))))     # c 2^k
    cdef vec t = vfma(u, scale, c_scale - c)
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
    cdef vec p = polynomial(LOG_TERMS, LOG_P, z)
    y = vfma(k, vset1(LN2_HI), f - (h - vfma(s, vfma(z, p, h), k * vset1(LN2_LO))))
    y = vselect(vless(zero, x), y, vset1(-INFINITY))
    y = vselect(vless(x, zero), vset1(NAN), y)
    return vselect(vless(x, vset1(INFINITY)), y, x)              # +inf and NaN are their own logarithm
