"""Fit the polynomials of fastmlp/kernels/vector_math.h and print its tables. Needs mpmath.

    python bench/fit_coefficients.py

The polynomials are minimax fits by the exchange algorithm of Remez (1934) in 50 digits, then rounded
to the dtype; the errors printed are those of the rounded coefficients.
"""
import struct

from mpmath import (
    atanh,
    cos,
    erfc,
    exp,
    expm1,
    floor,
    hyp1f1,
    hyp2f1,
    linspace,
    log,
    lu_solve,
    matrix,
    mp,
    mpf,
    pi,
    polyval,
    sqrt,
)

mp.dps = 50
LN2 = log(2)
GELU_CUBIC = mpf("0.044715")


def remez(f, terms, a, b):
    """The polynomial of `terms` coefficients, highest power first, closest to f on [a, b]."""
    n = terms + 1
    x = [(a + b) / 2 - (b - a) / 2 * cos(pi * i / terms) for i in range(n)]
    grid = linspace(a, b, 4001)
    values = [f(t) for t in grid]
    for _ in range(8):
        system = matrix(n, n)
        for i in range(n):
            for j in range(terms):
                system[i, j] = x[i] ** (terms - 1 - j)
            system[i, terms] = (-1) ** i
        coefficients = list(lu_solve(system, matrix([f(t) for t in x])))[:terms]
        error = [v - polyval(coefficients, t) for v, t in zip(values, grid)]
        x = extrema(grid, error)
        if len(x) == n + 1:                         # one more at an end than there need be
            first, last = (abs(f(t) - polyval(coefficients, t)) for t in (x[0], x[-1]))
            x = x[1:] if first < last else x[:-1]
        assert len(x) == n, "the error does not alternate: too few digits or a bad start"
    return coefficients


def extrema(grid, error):
    """Where |error| is largest between two changes of its sign."""
    points, best = [], 0
    for i in range(1, len(grid)):
        if error[i] * error[i - 1] < 0:
            points.append(grid[best])
            best = i
        elif abs(error[i]) > abs(error[best]):
            best = i
    return points + [grid[best]]


def q(r):
    """expm1(r) = r + r^2 q(r)"""
    return hyp1f1(1, 3, r) / 2


def p(z):
    """log((1 + s) / (1 - s)) = 2 s + s z p(z) with z = s^2"""
    return hyp2f1(1, 1.5, 2.5, z) * 2 / 3


def log1p_p(w):
    """log(1 + e) = m + m^3 p(m^2) with m = e / (1 + e / 2)"""
    return p(w / 4) / 8


def normal_p(v, c):
    """exp(a^2 / 2) Phi(-a) = t p(v), t = 1 / (1 + c a), v = 2 c a t - 1; Phi is the normal distribution"""
    t = (1 - v) / 2
    a = (1 / t - 1) / c
    return exp(a * a / 2) * erfc(a / sqrt(2)) / 2 / t


def gelu_tail(a):
    return erfc(a / sqrt(2)) / 2, exp(-a * a / 2) / sqrt(2 * pi)


def logistic_tail(v, dv):
    e = exp(-v)
    return e / (1 + e), dv * e / (1 + e) ** 2


def gelu_tanh_tail(a):
    return logistic_tail(sqrt(8 / pi) * (a + GELU_CUBIC * a**3), sqrt(8 / pi) * (1 + 3 * GELU_CUBIC * a**2))


def silu_tail(a):
    return logistic_tail(a, 1)


def farthest(tail, limit):
    """Where a F(-a) and F(-a) - a F'(a) are below the limit from there on; `tail` is F(-a), F'(a)."""
    tenths = 50
    while True:
        a = mpf(tenths) / 10
        below, density = tail(a)
        if max(a * below, abs(below - a * density)) < limit:
            return a
        tenths += 1


def table(suffix, code, digits, mantissa, k_bits, emin, emax, q_terms, p_terms, log1p_terms, normal_terms,
          normal_c):
    def rounded(x):
        return mpf(struct.unpack(code, struct.pack(code, float(x)))[0])

    def text(x):
        return f"{float(x):.{digits}e}{suffix}"

    def array(name, coefficients):
        lines = "".join(f"    {text(c)},\n" for c in coefficients)
        return f"static const real {name}[] = {{\n{lines}}};"

    # k ln2_hi is exact for every |k| < 2^k_bits, so that no FMA is needed to subtract it
    ln2_hi = floor(LN2 * 2 ** (mantissa + 1 - k_bits)) / 2 ** (mantissa + 1 - k_bits)
    h = mpf("0.347")                                # ln2 / 2, and room for the rounding of k
    s_max = (sqrt(2) - 1) / (sqrt(2) + 1)
    exp_q = [rounded(c) for c in remez(q, q_terms, -h, h)]
    log_p = [rounded(c) for c in remez(p, p_terms, mpf(0), s_max**2)]

    grid = [t for t in linspace(-h, h, 2001) if t]
    exp_error = max(abs(t**2 * (polyval(exp_q, t) - q(t)) / expm1(t)) for t in grid)
    grid = linspace(s_max / 2000, s_max, 2000)
    log_error = max(abs(s**3 * (polyval(log_p, s**2) - p(s**2)) / (2 * atanh(s))) for s in grid)

    gelu_max, gelu_tanh_max, silu_max = (
        farthest(tail, mpf(2) ** (emin - mantissa - 1)) for tail in (gelu_tail, gelu_tanh_tail, silu_tail))
    v_max = 1 - 2 / (1 + normal_c * gelu_max)

    def normal(v):
        return normal_p(v, normal_c)

    log1p_coefficients = [rounded(c) for c in remez(log1p_p, log1p_terms, mpf(0), mpf(4) / 9)]
    normal_coefficients = [rounded(c) for c in remez(normal, normal_terms, mpf(-1), v_max)]
    grid = linspace(mpf(1) / 2000, mpf(2) / 3, 2000)
    log1p_error = max(abs(m**3 * (polyval(log1p_coefficients, m**2) - log1p_p(m**2)) / (2 * atanh(m / 2)))
                      for m in grid)
    grid = linspace(-1, v_max, 2001)
    normal_error = max(abs(polyval(normal_coefficients, v) / normal(v) - 1) for v in grid)

    half_ulp = mpf(2) ** -(mantissa + 2)            # of 1 - x, where tanh and sigmoid reach 1
    print(f"#define LOG2E {text(1 / LN2)}")
    print(f"#define LN2 {text(LN2)}")
    print(f"#define LN2_HI {text(ln2_hi)}")
    print(f"#define LN2_LO {text(LN2 - ln2_hi)}")
    print(f"#define EXP_MIN {text(floor(10 * (emin - 1 - mantissa) * LN2) / 10)}")
    print(f"#define EXP_MAX {text(-floor(-10 * (emax + 1) * LN2) / 10)}")
    print(f"#define SIGMOID_MAX {text(-floor(10 * log(half_ulp)) / 10)}")
    print(f"#define TANH_MAX {text(-floor(10 * log(half_ulp / 2) / 2) / 10)}")
    print(f"#define SMALLEST_NORMAL {text(mpf(2) ** emin)}")
    integer = code.replace("f", "i").replace("d", "q")
    bits = struct.unpack(integer, struct.pack(code, float(sqrt(mpf(1) / 2))))[0]
    print(f"#define SQRT_HALF_BITS {bits:#x}")
    print(f"#define GELU_MAX {text(gelu_max)}")
    print(f"#define GELU_TANH_MAX {text(gelu_tanh_max)}")
    print(f"#define SILU_MAX {text(silu_max)}")
    print(f"#define NORMAL_C {text(normal_c)}")
    print(f"enum {{ EXP_TERMS = {q_terms}, LOG_TERMS = {p_terms}, "
          f"LOG1P_TERMS = {log1p_terms}, NORMAL_TERMS = {normal_terms} }};")
    print(f"/* |r| <= {float(h)}: relative error of expm1(r) 2^{float(log(exp_error, 2)):.1f} */")
    print(array("EXP_Q", exp_q))
    print("/* 3/4 of them */")
    print(array("TANH_Q", [rounded(3 * c / 4) for c in exp_q]))
    print(f"/* |s| <= {float(s_max):.4f}: relative error of log 2^{float(log(log_error, 2)):.1f} */")
    print(array("LOG_P", log_p))
    print(f"/* m <= 2/3: relative error of log1p 2^{float(log(log1p_error, 2)):.1f} */")
    print(array("LOG1P_P", log1p_coefficients))
    print(f"/* a <= {float(gelu_max)}: relative error of Phi(-a) 2^{float(log(normal_error, 2)):.1f} */")
    print(array("NORMAL_P", normal_coefficients))


if __name__ == "__main__":
    print("#if defined(FASTMLP_REAL_f64)")
    table("", "<d", 16, 52, 11, -1022, 1023, 11, 7, 12, 23, mpf("0.25"))
    print("#else")
    table("f", "<f", 8, 23, 8, -126, 127, 6, 3, 5, 10, mpf("0.3125"))
    print("#endif")
