"""Initialisers: the distribution of each, orthogonality, biases, functions of the user's, bad input."""
from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import MLP, backends, initializers
from fastmlp.activations import BY_NAME
from fastmlp.initializers import INITIALIZERS, Constant, initial_biases, initial_weights, orthogonal, zeros

pytestmark = pytest.mark.any_isa

VARIANCES = {
    "he": lambda i, o: 2 / i, "glorot": lambda i, o: 2 / (i + o), "lecun": lambda i, o: 1 / i,
}
RANDOM = [f"{scheme}_{kind}" for scheme in VARIANCES for kind in ("normal", "uniform")]
NORMAL, UNIFORM = 3.0, 1.8      # kurtosis E w^4 / (E w^2)^2


def is_drawn_from(values, name, variance):
    """The moments of the distribution, within what so many numbers allow."""
    n, w = values.size, values.astype(float)
    assert abs(w.var() / variance - 1) < 5 * math.sqrt(2 / n)
    assert abs(w.mean()) < 5 * math.sqrt(variance / n)
    kurtosis = (w**4).mean() / w.var()**2
    assert abs(kurtosis - (NORMAL if name.endswith("normal") else UNIFORM)) < 50 / math.sqrt(n)
    if name.endswith("uniform"):
        limit = math.sqrt(3 * variance)
        assert 0.99 * limit < abs(w).max() <= limit * (1 + 1e-6)


# The distributions -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", RANDOM)
def test_variance(name, backend, dtype):
    model = MLP([400, 200, 300, 100], init=name, dtype=dtype, seed=3)
    for w in model.weights:
        is_drawn_from(w, name, VARIANCES[name.split("_")[0]](*w.shape))
    assert not any(b.any() for b in model.biases)


@pytest.mark.parametrize("name", RANDOM)
def test_variance_of_biases(name):
    """A bias is one more weight of its unit: as many inputs, as many outputs."""
    b = initial_biases(name, np.random.default_rng(0), 50, 20_000)
    assert b.shape == (20_000,)
    is_drawn_from(b, name, VARIANCES[name.split("_")[0]](50, 20_000))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 5), (40, 17), (17, 40), (300, 299)])
def test_orthogonal(shape, rng):
    w = orthogonal(rng, *shape)
    assert w.shape == shape
    product = w.T @ w if shape[0] >= shape[1] else w @ w.T
    assert_allclose(product, np.eye(min(shape)), rtol=0, atol=1e-14)
    assert_allclose(orthogonal(np.random.default_rng(7), *shape, gain=3), 3 * w, rtol=1e-15)


def test_orthogonal_keeps_lengths(dtype):
    """Through ten linear layers, exactly; drawn at random, a signal loses its way."""
    model = MLP([64] * 11, activation="identity", init="orthogonal", dtype=dtype, seed=0)
    X = np.random.default_rng(0).standard_normal((20, 64))
    lengths = np.linalg.norm(model.forward(X), axis=1) / np.linalg.norm(X, axis=1)
    assert_allclose(lengths, 1, rtol=1e-5 if dtype == np.float32 else 1e-13)


def test_orthogonal_matrices_are_equally_likely(rng):
    """Haar's measure: entries N(0, 1 / n) in the limit, trace of mean 0 and variance 1, both determinants."""
    matrices = np.array([orthogonal(rng, 4, 4) for _ in range(3000)])
    assert_allclose(matrices.mean(axis=0), 0, atol=5 / math.sqrt(4 * 3000))
    assert_allclose((matrices**2).mean(axis=0), 1 / 4, atol=0.02)
    traces = np.trace(matrices, axis1=1, axis2=2)
    assert abs(traces.mean()) < 0.1
    assert abs(traces.var() - 1) < 0.1
    assert abs(np.linalg.det(matrices).mean()) < 0.1


def test_orthogonal_against_scipy(rng):
    """The same distribution as scipy's: that of one entry, by Kolmogorov and Smirnov."""
    stats = pytest.importorskip("scipy.stats")
    mine = np.array([orthogonal(rng, 3, 3) for _ in range(2000)])
    theirs = stats.ortho_group.rvs(3, size=2000, random_state=1)
    for i, j in [(0, 0), (2, 1), (1, 2)]:
        assert stats.ks_2samp(mine[:, i, j], theirs[:, i, j]).pvalue > 1e-3


@pytest.mark.parametrize("name, expected", [
    ("identity", "glorot_uniform"), ("tanh", "glorot_uniform"), ("sigmoid", "glorot_uniform"),
    ("relu", "glorot_uniform"), ("leaky_relu", "glorot_uniform"), ("elu", "glorot_uniform"),
    ("softplus", "glorot_uniform"), ("gelu", "glorot_uniform"), ("gelu_tanh", "glorot_uniform"),
    ("silu", "glorot_uniform"), ("selu", "lecun_normal"),
])
def test_auto_fits_the_activation(name, expected):
    auto = initial_weights("auto", np.random.default_rng(1), 6, 5, BY_NAME[name]())
    assert_array_equal(auto, INITIALIZERS[expected](np.random.default_rng(1), 6, 5))


def test_signals_live_through_ten_layers():
    """What the schemes are for: the standard deviation after ten layers is neither 0 nor huge."""
    X = np.random.default_rng(0).standard_normal((200, 128))
    for activation, init in (("relu", "he_normal"), ("leaky_relu", "he_normal"), ("tanh", "glorot_uniform"),
                             ("identity", "glorot_uniform"), ("selu", "auto"), ("tanh", "auto")):
        out = MLP([128] * 11, activation=activation, init=init, dtype="float64", seed=0).forward(X)
        assert 0.05 < out.std() < 5
    tiny = MLP([128] * 11, init=lambda rng, i, o: 0.01 * rng.standard_normal((i, o)), seed=0).forward(X)
    assert tiny.std() < 1e-6


# Models ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("init", [*INITIALIZERS, "auto", Constant(0.25), lambda rng, i, o: np.ones((i, o))],
                         ids=str)
def test_every_initialiser_in_a_model(init, backend, dtype):
    model, again = (MLP([5, 8, 3], init=init, bias_init=Constant(1), dtype=dtype, seed=4) for _ in range(2))
    for w, other in zip(model.weights, again.weights):
        assert w.dtype == dtype
        assert_array_equal(w, other)
    with backends.use_backend("numpy"):
        plain = MLP([5, 8, 3], init=init, dtype="float64", seed=4)
    for w, other in zip(model.weights, plain.weights):
        assert_array_equal(w, other.astype(dtype))


@pytest.mark.parametrize("bias_init, expected", [
    ("zeros", 0), (zeros, 0), (Constant(0.5), 0.5), (lambda rng, n: [0.25] * n, 0.25),
    (lambda rng, n: np.full(n, 3), 3), (lambda rng, n: np.full(n, 0.5, np.float16), 0.5),
])
def test_biases(bias_init, expected, backend, dtype):
    model = MLP([5, 8, 3], bias_init=bias_init, dtype=dtype, seed=0)
    plain = MLP([5, 8, 3], dtype=dtype, seed=0)
    for b, n in zip(model.biases, (8, 3)):
        assert_array_equal(b, np.full(n, expected, dtype))
    for w, other in zip(model.weights, plain.weights):
        assert_array_equal(w, other)


@pytest.mark.parametrize("name", INITIALIZERS)
def test_biases_by_name(name, dtype):
    model, again = (MLP([5, 8, 3], bias_init=name, dtype=dtype, seed=0) for _ in range(2))
    plain = MLP([5, 8, 3], dtype=dtype, seed=0)
    for w, other in zip(model.weights, plain.weights):
        assert_array_equal(w, other)                        # weights do not depend on the biases
    for b, other in zip(model.biases, again.biases):
        assert_array_equal(b, other)
        assert len(set(b.tolist())) == (1 if name == "zeros" else len(b))
        if name == "orthogonal":
            assert_allclose(np.linalg.norm(b), 1, rtol=1e-6)


def test_pads_stay_zero(dtype):
    model = MLP([5, 9, 3], init=Constant(2), bias_init=Constant(1), dtype=dtype)
    assert model.core.parameters.buffer.sum() == 2 * (5 * 9 + 9 * 3) + 9 + 3


def test_functions_get_the_models_generator():
    calls = []

    def init(rng, fan_in, fan_out):
        calls.append((fan_in, fan_out))
        return rng.uniform(size=(fan_in, fan_out))

    def bias_init(rng, n):
        calls.append(n)
        return rng.uniform(size=n)

    model = MLP([5, 8, 3], init=init, bias_init=bias_init, seed=4, dtype="float64")
    assert calls == [(5, 8), (8, 3), 8, 3]
    rng = np.random.default_rng(4)
    for array in (*model.weights, *model.biases):
        assert_array_equal(array, rng.uniform(size=array.shape))


def test_partial_and_objects():
    model = MLP([6, 6], init=partial(orthogonal, gain=2.0), dtype="float64", seed=0)
    assert_allclose(model.weights[0].T @ model.weights[0], 4 * np.eye(6), atol=1e-13)
    assert Constant(1) == Constant(1.0)
    assert repr(Constant(1)) == "Constant(value=1.0)"


def test_equal_weights_stay_equal(backend, rng):
    """What the docstring of the module says of symmetry."""
    model = MLP([3, 4, 2], activation="tanh", init=Constant(0.1), dtype="float64", seed=0)
    model.fit(rng.standard_normal((30, 3)), rng.integers(0, 2, 30), epochs=3, batch_size=8, progress=False)
    w = model.weights[0]
    assert (w == w[:, :1]).all()
    assert not (w == 0.1).any()


# Bad input -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, error, message", [
    ({"init": "hee"}, ValueError, "^init: unknown name 'hee'.*he_normal.*orthogonal"),
    ({"init": "lecun_norm"}, ValueError, "^init.*did you mean 'lecun_normal'"),
    ({"init": 0.1}, TypeError, r"^init: expected a name or a function.*0\.1; a constant is Constant\(0\.1\)"),
    ({"init": None}, TypeError, "^init"),
    ({"init": Constant}, TypeError, "^init"),
    ({"init": np.ones((4, 5))}, TypeError, "^init"),
    ({"init": lambda rng, i, o: np.ones((o, i))}, ValueError, r"^init.*\(4, 5\), got \(5, 4\)"),
    ({"init": lambda rng, i, o: 1.0}, ValueError, r"^init.*\(4, 5\), got \(\)"),
    ({"init": lambda rng, i, o: np.full((i, o), np.nan)}, ValueError, "^init.*finite"),
    ({"init": lambda rng, i, o: np.full((i, o), np.inf)}, ValueError, "^init.*finite"),
    ({"init": lambda rng, i, o: np.ones((i, o), complex)}, TypeError, "^init.*numbers.*complex"),
    ({"init": lambda rng, i, o: None}, TypeError, "^init.*numbers.*object"),
    ({"init": lambda rng, i, o: [[1.0], [1.0, 2.0]]}, ValueError, "^init.*array of numbers"),
    ({"bias_init": "auto"}, ValueError, "^bias_init: unknown name 'auto'.*zeros"),
    ({"bias_init": "zeroz"}, ValueError, "^bias_init.*did you mean 'zeros'"),
    ({"bias_init": 0}, TypeError, r"^bias_init.*\(rng, n\), got 0; a constant is Constant\(0\)"),
    ({"bias_init": None}, TypeError, "^bias_init"),
    ({"bias_init": lambda rng, n: np.ones((n, 1))}, ValueError, r"^bias_init.*\(5,\), got \(5, 1\)"),
    ({"bias_init": lambda rng, n: np.full(n, np.nan)}, ValueError, "^bias_init.*finite"),
    ({"bias_init": lambda rng, n: ["a"] * n}, TypeError, "^bias_init.*numbers"),
], ids=str)
def test_bad_initialiser(arguments, error, message, backend):
    with pytest.raises(error, match=message) as raised:
        MLP([4, 5, 3], **arguments)
    assert type(raised.value) is error


@pytest.mark.parametrize("value, error", [("1", TypeError), (None, TypeError), (np.ones(2), TypeError),
                                          (np.nan, ValueError), (np.inf, ValueError), (True, TypeError)])
def test_bad_constant(value, error):
    with pytest.raises(error, match="^value"):
        Constant(value)


def test_names_are_exported():
    assert set(INITIALIZERS) <= set(initializers.__all__)
    assert all(hasattr(initializers, name) for name in initializers.__all__)
