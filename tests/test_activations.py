"""What the activations promise beyond their formulas: slopes, symmetries, agreement of the backends."""
from __future__ import annotations

import mpmath
import numpy as np
import pytest
from conftest import LAYOUTS, lay_out
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
import fastmlp.functional as F
from fastmlp import activations, backends, kernels
from fastmlp.backends.numpy.activations import activate, derivative, slope
from fastmlp.kernels import ops

GATED = [f.name for f in ops.ACTIVATIONS if not f.from_output]
WITH_ALPHA = [f.name for f in ops.ACTIVATIONS if f.alpha]
NAMES = [name for name in activations.BY_NAME if name != "identity"]
NEW = ["elu", "selu", "softplus", *GATED]


def test_names_codes_and_classes():
    assert list(activations.BY_NAME) == list(ops.codes(ops.ACTIVATIONS))
    for name, cls in activations.BY_NAME.items():
        assert cls.name == name and cls.code == ops.codes(ops.ACTIVATIONS)[name]
        assert activations.resolve(name) == activations.resolve(cls) == cls()
        assert cls.__name__ not in activations.__all__ or getattr(fastmlp, cls.__name__) is cls
        assert (cls().alpha != 0) == (name in WITH_ALPHA)
        if name != "identity":
            assert callable(getattr(F, name)) and callable(getattr(F, name + "_backward"))


def backward(name, dy, x):
    """The derivative from x, whatever it is computed from."""
    return getattr(F, name + "_backward")(dy, x if name in GATED else getattr(F, name)(x))


# Slopes -------------------------------------------------------------------------------------------------

def exact_slope(name, x):
    x = mpmath.mpf(x)
    if name == "gelu":
        return mpmath.erfc(-x / mpmath.sqrt(2)) / 2 + x * mpmath.npdf(x)
    cubic = mpmath.mpf("0.044715") if name == "gelu_tanh" else 0
    c = mpmath.sqrt(8 / mpmath.pi) if name == "gelu_tanh" else 1
    s = 1 / (1 + mpmath.exp(-c * (x + cubic * x**3)))
    return s * (1 + x * (1 - s) * c * (1 + 3 * cubic * x**2))


@pytest.mark.parametrize("name", GATED)
def test_slopes_of_the_gated(name, dtype, rng):
    """Within about one unit in the last place of 1, everywhere; the kernels of every instruction set."""
    x = np.concatenate([rng.uniform(-8, 8, 800), rng.uniform(-120, 40, 200), [0.0, -0.75, -1.28]])
    x = x.astype(dtype)
    with mpmath.workprec(100):
        expected = np.array([float(exact_slope(name, v)) for v in x.tolist()])
    for isa in kernels.available_isas():
        dx = np.empty_like(x)
        code = activations.BY_NAME[name].code
        assert kernels.load(isa, dtype.name).map_derivative(dx, np.ones_like(x), x, code, 0.0)
        assert np.abs(dx - expected).max() <= 1.25 * np.finfo(dtype).eps
    with backends.use_backend("numpy"):
        assert np.abs(backward(name, np.ones_like(x), x) - expected).max() <= 4 * np.finfo(dtype).eps


def test_the_slope_of_softplus_is_the_sigmoid(backend, dtype):
    """Also far below 0, where 1 - exp(-y) would be 0."""
    x = np.linspace(-80, 80, 321).astype(dtype)
    assert_allclose(backward("softplus", np.ones_like(x), x), F.sigmoid(x), rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", NAMES)
def test_slope_of_the_specification(name, dtype, rng):
    f, z = activations.resolve(name), rng.standard_normal((5, 9)).astype(dtype)
    before = z.copy()
    with backends.use_backend("numpy"):
        expected = backward(name, np.ones_like(z), z)
    assert_array_equal(slope(z, f), expected)
    assert slope(z, f).dtype == dtype
    assert_array_equal(z, before)
    assert_array_equal(slope(z, activations.Identity()), np.ones_like(z))


# NaN, infinities, zeros -----------------------------------------------------------------------------------

def specials(dtype):
    """With both signs."""
    f = np.finfo(dtype)
    values = np.array([0, 1, np.inf, np.nan, f.max, f.tiny, f.smallest_subnormal, 30, 200, 800], dtype)
    return np.concatenate([values, -values])


def assert_alike(got, expected, where):
    """NaN where there is NaN, infinities and zeros with their signs; other values within some roundings."""
    eps = np.finfo(expected.dtype).eps
    assert_array_equal(np.isnan(got), np.isnan(expected), err_msg=str(where))
    known = ~np.isnan(expected)
    got, expected = got[known], expected[known]
    assert_array_equal(np.signbit(got), np.signbit(expected), err_msg=str(where))
    assert_allclose(got, expected, rtol=500 * eps, atol=32 * eps, err_msg=str(where))


ALPHAS = [(name, alpha) for name in NAMES
          for alpha in ((0.0, 0.3, 2.0) if name in WITH_ALPHA else (None,))]


@pytest.mark.parametrize("name, alpha", ALPHAS)
def test_the_backends_agree_on_special_values(name, alpha, dtype):
    """Forward, and backward for every such dy and for every y that the function gives."""
    options = () if alpha is None else (alpha,)
    f, f_backward = getattr(F, name), getattr(F, name + "_backward")
    x = specials(dtype)
    with backends.use_backend("numpy"):
        expected = f(x, *options)
        given = x if name in GATED else np.concatenate([np.unique(expected), expected[expected == 0]])
        dy, y = (a.reshape(-1) for a in np.meshgrid(specials(dtype), given))
        expected_backward = f_backward(dy, y, *options)
    for repeats in (1, 7):
        wide = [np.repeat(a, repeats) for a in (x, expected, dy, y, expected_backward)]
        with backends.use_backend("cython"):
            assert_alike(f(wide[0], *options), wide[1], name)
            assert_alike(f_backward(wide[2], wide[3], *options), wide[4], name)


@pytest.mark.parametrize("name, alpha", ALPHAS)
def test_special_values_on_every_instruction_set(name, alpha, dtype):
    """The kernels alone, in every lane; forward to the bit wherever there is one right result."""
    code, alpha = activations.BY_NAME[name].code, alpha or 0.0
    x = np.repeat(specials(dtype), 5)
    f = activations.BY_NAME[name](*([alpha] if name in WITH_ALPHA else []))
    expected = activate(x.copy(), f)
    dy, y = (a.reshape(-1) for a in np.meshgrid(specials(dtype), x if name in GATED else expected))
    expected_backward = derivative(dy, y, f)
    for isa in kernels.available_isas():
        module, result, dx = kernels.load(isa, dtype.name), np.empty_like(x), np.empty_like(dy)
        assert module.map_forward(result, x, code, alpha)
        assert_alike(result, expected, isa)
        assert module.map_derivative(dx, dy, y, code, alpha)
        assert_alike(dx, expected_backward, isa)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "selu", "tanh", *GATED])
def test_bits_of_zeros(name, dtype):
    """-0 stays -0 and 0 stays 0, on every instruction set and in a layer: fixed bits."""
    code, sign = activations.BY_NAME[name].code, {4: 0x80000000, 8: 0x8000000000000000}[dtype.itemsize]
    x = np.array([-0.0, 0.0] * 20, dtype)
    expected = [sign, 0] * 20
    w, one = np.zeros((1, 40), dtype), np.zeros((3, 1), dtype)
    for isa in kernels.available_isas():
        module, y, layer = kernels.load(isa, dtype.name), np.empty_like(x), np.empty((3, 40), dtype)
        assert module.map_forward(y, x, code, 0.3)
        assert y.view(f"u{dtype.itemsize}").tolist() == expected, isa
        # 0 times w, from a bias of -0 on, is -0 where w is below 0
        assert module.dense_forward(layer, one, w - (x == 0) * np.signbit(x), x, code, 0.3)
        assert layer.view(f"u{dtype.itemsize}").tolist() == [expected] * 3, isa
    with backends.use_backend("numpy"):
        assert getattr(F, name)(x).view(f"u{dtype.itemsize}").tolist() == expected


def test_relu_of_nan(backend, dtype):
    """NaN stays NaN; its derivative is 0 there, as documented, and whatever dy is where y is not above 0."""
    x = np.array([np.nan, -np.nan, 1, -1, 0, np.inf] * 6, dtype)
    y = F.relu(x)
    assert_array_equal(np.isnan(y), np.isnan(x))
    for dy in (1.0, np.nan, np.inf):
        dx = F.relu_backward(np.full_like(x, dy), y)
        assert_array_equal(dx, np.where(x > 0, np.full_like(x, dy), 0))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize("held", [np.nan, np.inf, -np.inf, -0.0])
@pytest.mark.parametrize("name", ["identity", *NAMES])
def test_special_values_in_a_model(name, held, dropout, dtype, rng):
    """Logits, loss and every gradient are NaN or infinite in the same places on both backends."""
    X, y = rng.standard_normal((6, 5)).astype(dtype), rng.standard_normal((6, 2)).astype(dtype)
    X[2, 3] = held
    results = []
    for backend in backends.NAMES:
        with backends.use_backend(backend), np.errstate(all="ignore"):
            model = fastmlp.MLP([5, 19, 7, 2], name, "mean_squared_error", dtype=dtype, seed=1,
                                dropout=dropout)
            model.weights[1][3] = 0         # a unit that is never above 0
            model.biases[0][3] = -1e3
            loss, gradients = model.loss_and_gradients(X, y)
            results.append([model.forward(X), np.array([loss]), *gradients.weights, *gradients.biases])
    for one, other in zip(*results, strict=True):
        assert_array_equal(np.isnan(one), np.isnan(other))
        assert_array_equal(np.isinf(one), np.isinf(other))
        finite = np.isfinite(one)
        assert_allclose(one[finite], other[finite], rtol=1e-4 if dtype == np.float32 else 1e-10,
                        atol=1e-4 if dtype == np.float32 else 1e-12)


# Shapes of the curves -----------------------------------------------------------------------------------

@pytest.mark.parametrize("name", GATED)
def test_gates_are_symmetric(name, backend, dtype, rng):
    """f(x) - f(-x) = x, f'(x) + f'(-x) = 1."""
    x = (rng.standard_normal(500) * 4).astype(dtype)
    f, eps = getattr(F, name), np.finfo(dtype).eps
    assert_allclose(f(x) - f(-x), x, rtol=2 * eps, atol=eps)
    ones = np.ones_like(x)
    assert_allclose(backward(name, ones, x) + backward(name, ones, -x), ones, rtol=2 * eps)


def test_gelu_tanh_is_near_gelu(backend, dtype):
    x = np.linspace(-10, 10, 10_001).astype(dtype)
    assert 0.0004 < np.abs(F.gelu(x) - F.gelu_tanh(x)).max() < 0.0005


@pytest.mark.parametrize("name, where, depth", [("gelu", -0.7518, -0.1700), ("silu", -1.2785, -0.2785)])
def test_dips(name, where, depth, backend, dtype):
    x = np.linspace(-3, 0, 30_001).astype(dtype)
    y = getattr(F, name)(x)
    assert y.min() == pytest.approx(depth, abs=1e-4)
    assert abs(backward(name, np.ones(1, dtype), np.array([where], dtype))[0]) < 1e-4


def test_selu_has_a_fixed_point(backend):
    """Mean 0 and variance 1 go in and come out."""
    x = np.linspace(-10, 10, 20_001)
    weights = np.exp(-x * x / 2) / np.sqrt(2 * np.pi) * 1e-3
    y = F.selu(x)
    assert (weights * y).sum() == pytest.approx(0, abs=1e-6)
    assert (weights * y**2).sum() == pytest.approx(1, abs=1e-6)


def test_relatives(backend, dtype, rng):
    x = (rng.standard_normal(300) * 3).astype(dtype)
    eps = np.finfo(dtype).eps
    assert_array_equal(F.elu(x, 0.0), F.relu(x))
    assert_allclose(F.silu(x), x * F.sigmoid(x), rtol=4 * eps)
    assert_allclose(F.softplus(x) - F.softplus(-x), x, rtol=4 * eps, atol=4 * eps)
    assert_allclose(F.elu(np.minimum(x, 0), 2.5), 2.5 * F.elu(np.minimum(x, 0)), rtol=4 * eps)
    assert_allclose(F.selu(x), 1.0507009873554805 * F.elu(x, 1.6732632423543772), rtol=4 * eps)


# Any shape, any layout ----------------------------------------------------------------------------------

@given(shape=st.lists(st.integers(0, 40), min_size=1, max_size=3), layout=st.sampled_from(LAYOUTS),
       name=st.sampled_from(NEW), seed=st.integers(0, 99))
def test_the_backends_agree(shape, layout, name, seed, dtype):
    rng = np.random.default_rng(seed)
    x, dy = ((rng.standard_normal(shape) * 3).astype(dtype) for _ in range(2))
    results = []
    for backend in backends.NAMES:
        with backends.use_backend(backend):
            results.append((getattr(F, name)(lay_out(x, layout)),
                            backward(name, lay_out(dy, layout), lay_out(x, layout))))
    for one, other in zip(*results, strict=True):
        assert one.shape == other.shape == tuple(shape) and one.dtype == other.dtype == dtype
        assert_allclose(one, other, rtol=32 * np.finfo(dtype).eps, atol=32 * np.finfo(dtype).eps)


@pytest.mark.parametrize("name", GATED)
def test_a_layer_in_two_steps(name, backend, dtype, rng):
    """dense_forward fuses the activation; its backward pass is gelu_backward, then the identity."""
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((7, 9), (9, 17), (17,)))
    z = F.dense_forward(x, w, b)
    y = F.dense_forward(x, w, b, name)
    assert_allclose(y, getattr(F, name)(z), rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)
    dz = getattr(F, name + "_backward")(np.ones_like(y), z)
    dx, dw, db = F.dense_backward(dz, x, w, z)
    tolerance = {"rtol": 0, "atol": 1e-4 if dtype == np.float32 else 1e-12}
    assert_allclose(dx, dz @ w.T, **tolerance)
    assert_allclose(dw, x.T @ dz, **tolerance)
    assert_allclose(db, dz.sum(axis=0), **tolerance)


@pytest.mark.parametrize("name", NEW)
def test_against_torch(name, dtype, rng):
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    options = {"gelu_tanh": {"approximate": "tanh"}}.get(name, {})
    x = (rng.standard_normal((20, 30)) * 3).astype(dtype)
    t = torch.tensor(x, requires_grad=True)
    y = getattr(functional, "gelu" if options else name)(t, **options)
    y.sum().backward()
    tolerance = {"rtol": 1e-5 if dtype == np.float32 else 1e-9, "atol": 1e-5 if dtype == np.float32 else 1e-9}
    assert_allclose(getattr(F, name)(x), y.detach().numpy(), **tolerance)
    assert_allclose(backward(name, np.ones_like(x), x), t.grad.numpy(), **tolerance)
