"""exp, log and the activations made of them, of every instruction set: a few ULP from the correctly rounded
result, as LARGEST_ERROR says.

float32 against NumPy's float64, over a pattern of bits in a thousand; FASTMLP_FULL_SWEEP=1 takes all of them.
float64 against mpmath, on a few thousand points where things happen.
"""
from __future__ import annotations

import itertools
import math
import os

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp.functional as F
from fastmlp import backends, kernels
from fastmlp.kernels import ops

pytestmark = pytest.mark.any_isa

ISAS = kernels.available_isas()
FMA_ISAS = [isa for isa in ISAS if isa != "portable"]
CODES = [*ops.codes(ops.ACTIVATIONS), *ops.FUNCTIONS]
KINDS = {name: CODES.index(name) for name in (
    "sigmoid", "tanh", "elu", "selu", "softplus", "gelu", "gelu_tanh", "silu", "exp", "log")}
GATED = ["gelu", "gelu_tanh", "silu"]
STRIDE = 1 if os.environ.get("FASTMLP_FULL_SWEEP", "") not in ("", "0") else 1021      # a prime
CHUNK = 1 << 20
LARGEST_ERROR = {name: 2 for name in KINDS} | {"softplus": 3, "silu": 3, "gelu": 5, "gelu_tanh": 3}

SELU_SCALE = mpmath.mpf("1.0507009873554804934193349852946")
SELU_FLOOR = mpmath.mpf("1.7580993408473768599402175208123")
ERFC = np.vectorize(math.erfc, otypes="d")


def cubic(x):
    """The logistic function of this is the gate of gelu_tanh."""
    return math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)


def sigmoid(x):
    return np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x)))


def times(x, gate):
    """x gate, with the limit at -inf."""
    return np.where(x == -np.inf, 0, x * gate)


EXACT = {
    "sigmoid": lambda x: mpmath.mpf(1) / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh, "exp": mpmath.exp, "log": mpmath.log,
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "selu": lambda x: SELU_SCALE * x if x > 0 else SELU_FLOOR * mpmath.expm1(x),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x / (1 + mpmath.exp(
        -mpmath.sqrt(8 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3))),
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
}
DOUBLE = {
    "sigmoid": sigmoid, "tanh": np.tanh, "exp": np.exp, "log": np.log,
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: np.where(x > 0, float(SELU_SCALE) * x, float(SELU_FLOOR) * np.expm1(x)),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "gelu": lambda x: times(x, ERFC(-x / math.sqrt(2)) / 2),
    "gelu_tanh": lambda x: times(x, sigmoid(cubic(x))),
    "silu": lambda x: times(x, sigmoid(x)),
}



def evaluate(module, name, x):
    y = np.full_like(x, 77)
    assert module.map_forward(y, x, KINDS[name], 1.0)
    return y


def places(y):
    """Numbers counted from 0 by units in the last place, +-0 both 0 and negative numbers downwards."""
    bits = y.view("i4" if y.dtype == np.float32 else "i8").astype(np.int64)
    return np.where(bits < 0, -(bits & np.iinfo(y.view(f"i{y.itemsize}").dtype).max), bits)


def errors(got, expected):
    """Distance in units in the last place; NaN must meet NaN. inf is the next number after the largest."""
    assert got.dtype == expected.dtype
    assert_array_equal(np.isnan(got), np.isnan(expected))
    numbers = ~np.isnan(expected)
    return np.abs(places(got[numbers]) - places(expected[numbers])), numbers


def check(got, expected, x, name, isa=""):
    error, numbers = errors(got, expected)
    bound = LARGEST_ERROR[name]
    if name == "gelu_tanh":             # the rounding of u, which exp makes relative
        bound = bound + 3 * np.minimum(-cubic(np.minimum(x[numbers].astype(np.float64), 0)), 800)
    excess = error - bound
    if error.size and excess.max() > 0:
        i = int(excess.argmax())
        pytest.fail(f"{isa} {name}({x[numbers][i]!r}) = {got[numbers][i]!r}, {error[i]} ULP from "
                    f"{expected[numbers][i]!r}")


def patterns():
    """float32 numbers over all of 2^32 bit patterns, STRIDE apart, block by block."""
    for start in range(0, 2**32, CHUNK * STRIDE):
        stop = min(start + CHUNK * STRIDE, 2**32)
        yield np.arange(start, stop, STRIDE, dtype=np.uint64).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize("name", KINDS)
def test_float32_everywhere(name):
    modules = [kernels.load(isa, "float32") for isa in ISAS]
    count = 0
    with np.errstate(all="ignore"):
        for x in patterns():
            count += x.size
            expected = DOUBLE[name](x.astype(np.float64)).astype(np.float32)
            for module in modules:
                check(evaluate(module, name, x), expected, x, name, module.ISA)
    assert count == -(-2**32 // STRIDE)


# float64 --------------------------------------------------------------------------------------------------

def neighbours(points, count=3):
    """The points and the numbers next to them."""
    points = np.asarray(points, np.float64)
    bits = points.view(np.int64)[:, None] + np.arange(-count, count + 1)
    return bits.reshape(-1).view(np.float64)


def around_zero():
    tiny = 2.0 ** np.arange(-1074, 0, 7.0)
    return np.concatenate([neighbours(tiny[3:]), -neighbours(tiny[3:])])


def points(name):
    rng = np.random.default_rng(11)
    info = np.finfo(np.float64)
    if name == "log":
        return np.concatenate([
            np.exp(rng.uniform(-745, 709.7, 1500)), rng.uniform(0.4, 2.5, 1500),
            neighbours([0.5, 0.5**0.5, 1, 2**0.5, 2, np.e, info.tiny, info.max / 2], 20),
            1 + rng.standard_normal(500) * 10.0 ** -rng.uniform(1, 15, 500),
            rng.integers(1, 2**52, 300).view(np.float64), np.array([5e-324, info.max]),
            2.0 ** np.arange(-1074, 1024, 9)])
    halves = np.arange(-60, 61) * (np.log(2) / 2)
    near = neighbours(halves[halves != 0], 2)
    common = [around_zero(), near, rng.uniform(-1, 1, 1000), rng.uniform(-40, 40, 1000)]
    if name == "exp":
        far = np.arange(-2149, 2048, 29) * (np.log(2) / 2)
        ends = [-745.2, -745.1332191019412, -744.4400719213812, -708.3964185322641, 709.7, 709.782712893384]
        common += [neighbours(far, 1), rng.uniform(-746, 710, 1500), rng.uniform(-746, -708, 500),
                   neighbours(ends, 20)]
    if name == "sigmoid":
        common += [rng.uniform(-746, 60, 1500), rng.uniform(-746, -708, 500), rng.uniform(30, 45, 300),
                   neighbours([-745.1332191019412, -708.39, -37.5, 36.7368005696771, 37.5], 20)]
    if name in ("softplus", "silu"):
        common += [rng.uniform(-760, 60, 1500), rng.uniform(-760, -700, 500)]
    if name in ("elu", "selu"):
        common += [neighbours([-37.5, -1, -0.5], 20)]
    if name in ("gelu", "gelu_tanh"):
        common += [rng.uniform(-40, 5, 1500), rng.uniform(-5, 5, 1500), neighbours([-38.7, -21.6, -0.75], 20)]
    if name == "tanh":
        common += [rng.uniform(-25, 25, 1500), rng.uniform(18, 20, 300),
                   neighbours([19.061547465398, 19.1], 20),
                   rng.standard_normal(500) * 10.0 ** -rng.uniform(0, 9, 500)]
    return np.concatenate(common)


@pytest.fixture(scope="module")
def exact():
    """Points and correctly rounded results, worked out once."""
    results = {}
    with mpmath.workprec(160):
        for name, function in EXACT.items():
            x = points(name)
            results[name] = x, np.array([float(function(mpmath.mpf(value))) for value in x.tolist()])
    return results


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("isa", ISAS)
def test_float64_sample(isa, name, exact):
    x, expected = exact[name]
    assert x.size > 3000
    check(evaluate(kernels.load(isa, "float64"), name, x), expected, x, name)


@pytest.mark.parametrize("name", KINDS)
def test_float32_sample(name, exact):
    """The yardstick of the sweep, checked itself: NumPy's float64 rounded is right."""
    with np.errstate(all="ignore"):
        x = exact[name][0].astype(np.float32)[::7]
    with mpmath.workprec(100):
        x = x[np.isfinite(x) & (x != 0)].astype(np.float64)
        true = np.array([float(EXACT[name](mpmath.mpf(value))) for value in x.tolist()])
    with np.errstate(all="ignore"):
        error, _ = errors(DOUBLE[name](x).astype(np.float32), true.astype(np.float32))
    assert error.max() <= 1 and (error > 0).mean() < 0.01


# Special values -------------------------------------------------------------------------------------------

INF, NAN = np.inf, np.nan
SPECIAL = {
    "exp": [(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (NAN, NAN), (1e4, INF), (-1e4, 0.0)],
    "log": [(0.0, -INF), (-0.0, -INF), (1.0, 0.0), (INF, INF), (-INF, NAN), (-1.0, NAN), (NAN, NAN),
            (-1e-40, NAN)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (INF, 1.0), (-INF, 0.0), (NAN, NAN), (1e4, 1.0), (-1e4, 0.0)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (NAN, NAN), (1e4, 1.0), (-1e4, -1.0)],
    "elu": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -1.0), (NAN, NAN), (1e4, 1e4), (-1e4, -1.0)],
    "selu": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -float(SELU_FLOOR)), (NAN, NAN),
             (-1e4, -float(SELU_FLOOR)), (1.0, float(SELU_SCALE))],
    "softplus": [(INF, INF), (-INF, 0.0), (NAN, NAN), (1e4, 1e4), (-1e4, 0.0)],
    **{name: [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, 0.0), (NAN, NAN), (1e4, 1e4), (-1e4, 0.0)]
       for name in GATED},
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("isa", ISAS)
def test_special_values(isa, name, dtype):
    module, info = kernels.load(isa, dtype.name), np.finfo(dtype)
    small, tiny, huge = info.smallest_subnormal, info.tiny, info.max
    cases = SPECIAL[name] + {
        "exp": [(small, 1), (-small, 1), (tiny, 1), (huge, INF), (-huge, 0)],
        "log": [(-small, NAN), (-huge, NAN), (-tiny, NAN)],
        "sigmoid": [(small, 0.5), (-small, 0.5), (tiny, 0.5), (huge, 1), (-huge, 0)],
        "tanh": [(small, small), (-small, -small), (tiny, tiny), (-tiny, -tiny), (huge, 1), (-huge, -1)],
        "elu": [(small, small), (-small, -small), (tiny, tiny), (-tiny, -tiny), (huge, huge), (-huge, -1)],
        "selu": [(small, small), (-small, -2 * small), (huge, INF), (-huge, -float(SELU_FLOOR))],
    }.get(name, [(huge, huge), (-huge, 0)])         # softplus and the gated ones
    for value, expected in cases:
        for n, i in ((1, 0), (16, 0), (16, 15), (37, 36)):          # whole vectors and the rest
            x = np.full(n, 0.75, dtype)
            x[i] = value
            y = evaluate(module, name, x)
            wanted = dtype.type(expected)
            assert y[i] == wanted or np.isnan(y[i]) and np.isnan(wanted), (value, y[i])
            if not np.isnan(wanted):
                assert np.signbit(y[i]) == np.signbit(wanted), (value, y[i])
            rest = np.delete(y, i)
            assert (rest == evaluate(module, name, np.full(1, 0.75, dtype))).all()


@pytest.mark.parametrize("isa", ISAS)
def test_ranges(isa, dtype):
    module = kernels.load(isa, dtype.name)
    x = np.linspace(-800, 800, 200_001).astype(dtype)
    for name, low, high in (("sigmoid", 0, 1), ("tanh", -1, 1), ("exp", 0, INF)):
        y = evaluate(module, name, x)
        assert (y >= low).all() and (y <= high).all()
    y = evaluate(module, "tanh", x)
    assert_array_equal(y, -evaluate(module, "tanh", -x))            # odd, to the bit


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("isa", ISAS)
def test_place_in_the_vector_does_not_matter(isa, name, dtype):
    module = kernels.load(isa, dtype.name)
    x = np.abs(np.random.default_rng(2).standard_normal(67)).astype(dtype) * 3
    whole = evaluate(module, name, x)
    for start, stop in itertools.chain(((i, i + 1) for i in range(67)), ((1, 67), (3, 40), (0, 15), (5, 22))):
        assert_array_equal(evaluate(module, name, x[start:stop]), whole[start:stop])


@pytest.mark.parametrize("name", KINDS)
def test_functional_runs_these_kernels(name, dtype):
    x = np.abs(np.random.default_rng(2).standard_normal((5, 67))).astype(dtype)
    with backends.use_backend("cython"):
        y = getattr(F, name)(x)
    expected = evaluate(kernels.module(dtype.name), name, x.reshape(-1))
    assert_array_equal(y.reshape(-1), expected)


@pytest.mark.skipif(len(FMA_ISAS) < 2, reason="needs two instruction sets with FMA")
@pytest.mark.parametrize("name", KINDS)
def test_same_bits_on_every_fma_isa(name, dtype, exact):
    first, *others = (kernels.load(isa, dtype.name) for isa in FMA_ISAS)
    blocks = patterns() if dtype == np.float32 else [exact[name][0], np.linspace(-800, 800, 500_001)]
    for x in blocks:
        expected = evaluate(first, name, x)
        for other in others:
            got = evaluate(other, name, x)
            assert_array_equal(np.isnan(got), np.isnan(expected))
            numbers = ~np.isnan(expected)
            assert got[numbers].tobytes() == expected[numbers].tobytes()
