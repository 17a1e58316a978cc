/* vector_math.pxi, activations.pxi and rows.pxi for one number at a time, in C99: fastmlp/export_c.py writes into a file
 * the functions that a network needs, and the coefficients of vector_math.h that they need.
 *
 * Operation by operation what the kernels do, so that results are the same to the bit; tests/test_export_c.py compares
 * them. FMA(a, b, c) is a b + c, rounded once where the processor can; `bits` is the unsigned integer as wide as `real`. */

static bits to_bits(real x) {
    union { real x; bits n; } u;
    u.x = x;
    return u.n;
}

static real from_bits(bits n) {
    union { real x; bits n; } u;
    u.n = n;
    return u.x;
}

static real smaller(real a, real b) { return a < b ? a : b; }

static real larger(real a, real b) { return a > b ? a : b; }

static real absolute(real x) { return from_bits(to_bits(x) & ~SIGN_BIT); }

/* q of expm1(r) = r + r^2 q, two coefficients at a time. */
static real expm1_rest(const real *c, real r, real r2) {
    real q = c[0];
    int i;
    if (EXP_TERMS % 2 == 0) q = FMA(q, r, c[1]);
    for (i = 2 - EXP_TERMS % 2; i < EXP_TERMS; i += 2) q = FMA(q, r2, FMA(c[i], r, c[i + 1]));
    return q;
}

static real power_of_two(bits n) { return from_bits(n << MANTISSA); }

/* expm1(r) of x = k ln2 + r, and k + offset in the low bits of n. */
static real expm1_parts(real x, int offset, bits *n) {
    real shift = ROUND + (real)offset, shifted = FMA(x, LOG2E, shift), k = shifted - shift;
    real r = FMA(k, -LN2_LO, FMA(k, -LN2_HI, x)), r2 = r * r;
    *n = to_bits(shifted);
    return FMA(r2, expm1_rest(EXP_Q, r, r2), r);
}

static real down(void) { return power_of_two(BIAS - BIAS / 2); }

/* exp(x) / down() for x <= 0. */
static real exp_up(real x) {
    bits n;
    real u = expm1_parts(x, BIAS + BIAS / 2, &n), scale = power_of_two(n);
    return FMA(u, scale, scale);
}

static real exp_nonpositive(real x) { return exp_up(larger(EXP_MIN, x)) * down(); }

static real expm1_nonpositive(real x) {
    bits n;
    real u = expm1_parts(larger(-SIGMOID_MAX, x), BIAS, &n), scale = power_of_two(n);
    return FMA(u, scale, scale - 1);
}

/* exp(-a^2 / 2) / down(), a^2 in two parts. */
static real exp_half_square_up(real a) {
    real h = from_bits(to_bits(a) & ~(((bits)1 << (MANTISSA / 2 + 1)) - 1));
    real shift = ROUND + (real)(BIAS + BIAS / 2), half = (real)-0.5;
    real x = half * (h * h), rest = half * ((a - h) * (a + h));
    real shifted = FMA(x + rest, LOG2E, shift), k = shifted - shift;
    real r = FMA(k, -LN2_LO, FMA(k, -LN2_HI, x) + rest), r2 = r * r, scale = power_of_two(to_bits(shifted));
    return FMA(FMA(r2, expm1_rest(EXP_Q, r, r2), r), scale, scale);
}

/* exp(a^2 / 2) F(-a), F the normal distribution. */
static real normal_ratio(real a) {
    real c = NORMAL_C * a, t = 1 / (1 + c), x = FMA((real)2, c * t, (real)-1), y = NORMAL_P[0];
    int i;
    for (i = 1; i < NORMAL_TERMS; i++) y = FMA(y, x, NORMAL_P[i]);
    return t * y;
}

/* z F(z) = max(z, 0) - a F(-a), where a = |z| and F(-a) = e h down(). */
static real gated(real z, real a, real e, real h) { return larger(0, z) - (e * (a * h)) * down(); }

static real gated_by_logistic(real z, real a, real v) {
    real e = exp_up(-v);
    return gated(z, a, e, 1 / FMA(e, down(), (real)1));
}

static real relu(real z) { return 0 > z ? 0 : z; }

static real leaky_relu(real z, real alpha) { return z < 0 ? alpha * z : z; }

static real sigmoid(real z) {
    bits n;
    real u, scale, c = down(), x = smaller(SIGMOID_MAX, larger(EXP_MIN, z));
    u = expm1_parts(-x, BIAS - BIAS / 2, &n);
    scale = power_of_two(n);
    return c / (scale + FMA(u, scale, c));
}

static real tanh_of(real z) {
    real c = (real)0.75, shift = ROUND + (real)BIAS, a = smaller(TANH_MAX, absolute(z));
    real shifted = FMA(a, 2 * LOG2E, shift), r = FMA(shifted - shift, -LN2, a + a), r2 = r * r;
    real u = FMA(r2, expm1_rest(TANH_Q, r, r2), (real)-0.25 * r) + r, scale = power_of_two(to_bits(shifted));
    real c_scale = from_bits(to_bits(scale) + (to_bits(c) - to_bits(1)));
    real t = FMA(u, scale, c_scale - c);
    return from_bits(to_bits(t / (t + (c + c))) | (to_bits(z) & SIGN_BIT));
}

static real elu(real z, real alpha) { return z < 0 ? alpha * expm1_nonpositive(z) : z; }

static real selu(real z) { return z < 0 ? SELU_FLOOR * expm1_nonpositive(z) : SELU_SCALE * z; }

static real softplus(real z) {
    real e = exp_nonpositive(-absolute(z)), m = e / FMA((real)0.5, e, (real)1), w = m * m, p = LOG1P_P[0];
    int i;
    for (i = 1; i < LOG1P_TERMS; i++) p = FMA(p, w, LOG1P_P[i]);
    return larger(0, z) + FMA(m * w, p, m);
}

static real gelu(real z) {
    real a = smaller(GELU_MAX, absolute(z));
    return gated(z, a, exp_half_square_up(a), normal_ratio(a));
}

static real gelu_tanh(real z) {
    real a = smaller(GELU_TANH_MAX, absolute(z)), v = a * a;
    return gated_by_logistic(z, a, a * FMA(GELU_CUBIC * GELU_SLOPE, v, GELU_SLOPE));
}

static real silu(real z) {
    real a = smaller(SILU_MAX, absolute(z));
    return gated_by_logistic(z, a, a);
}

/* y[c] = exp(y[c] - max y) / sum of them, which is kept in 16 lanes that are added pairwise. */
static void softmax(real *y, int n) {
    real lane[16] = {0}, largest = y[0], factor;
    int c, width;
    for (c = 1; c < n; c++)
        if (!(y[c] <= largest)) largest = y[c];
    for (c = 0; c < n; c++) {
        y[c] = exp_nonpositive(y[c] - largest);
        lane[c % 16] = lane[c % 16] + y[c];
    }
    for (width = 8; width > 0; width /= 2)
        for (c = 0; c < width; c++) lane[c] = lane[c] + lane[c + width];
    factor = 1 / lane[0];
    for (c = 0; c < n; c++) y[c] = y[c] * factor;
}
