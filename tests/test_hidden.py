"""`MLP.hidden` against plain formulas, and activations as functions of arrays."""
from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import LAYOUTS, lay_out
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
from fastmlp import MLP, SGD, activations
from fastmlp.activations import ELU, GELU, LeakyReLU

FORMULAS = {
    "identity": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "elu": lambda z: np.where(z > 0, z, np.expm1(z)),
    "selu": lambda z: 1.0507009873554805 * np.where(z > 0, z, 1.6732632423543772 * np.expm1(z)),
    "softplus": lambda z: np.log1p(np.exp(z)),
    "gelu": lambda z: z * (1 + np.vectorize(math.erf)(z / math.sqrt(2))) / 2,
    "gelu_tanh": lambda z: z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z ** 3))) / 2,
    "silu": lambda z: z / (1 + np.exp(-z)),
}


def close(actual, desired, dtype):
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    assert actual.dtype == dtype
    assert_allclose(actual, desired, rtol=tolerance, atol=tolerance)


def plain(model, X):
    """Outputs of all layers in float64, by the formulas of inference."""
    y, found = np.asarray(X, np.float64), []
    norms = (*model.batch_norm, None)
    for i, f in enumerate(model.activations):
        z = y @ model.weights[i].astype(np.float64)
        if norms[i] is not None:
            z = (z - model.running_means[i]) / np.sqrt(model.running_variances[i] + norms[i].epsilon)
            z = z * model.scales[i]
        y = FORMULAS[f.name](z + model.biases[i])
        found.append(y)
    return found


def made(dtype, rng, layers=(20, 33, 17, 5), **options):
    """A network whose statistics and biases are not those of the beginning."""
    model = MLP(layers, dtype=dtype, seed=0, **options)
    X, y = rng.standard_normal((60, layers[0])), rng.integers(0, layers[-1], 60)
    model.fit(X, y, epochs=2, batch_size=20, optimizer=SGD(0.05), progress=False)
    return model


# Layers' outputs -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [
    {}, {"activation": ["tanh", "gelu"]}, {"batch_norm": [True, False], "dropout": [0.5, 0.2]},
    {"activation": "sigmoid", "batch_norm": True},
], ids=["relu", "mixed", "batch norm, dropout", "all batch norm"])
@pytest.mark.parametrize("rows", [1, 3, 70, 5000])
def test_hidden(backend, dtype, options, rows, rng):
    model = made(dtype, rng, **options)
    X = rng.standard_normal((rows, 20))
    outputs = model.hidden(X)
    assert [y.shape for y in outputs] == [(rows, 33), (rows, 17), (rows, 5)]
    for actual, desired in zip(outputs, plain(model, X), strict=True):
        close(actual, desired, dtype)
    for i in range(3):
        for layer in (i, i - 3, np.int64(i)):
            one = model.hidden(X, layer=layer)
            assert one.dtype == dtype
            if backend == "numpy":
                close(one, outputs[i], dtype)
            else:
                assert_array_equal(one, outputs[i])
    if backend == "numpy":
        close(outputs[-1], model.forward(X), dtype)
    else:
        assert_array_equal(outputs[-1], model.forward(X))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 5, 600])
def test_threads_and_batches_change_no_bit(threads, rows, rng):
    """Also where threads share the columns of wide layers, which they do with few rows."""
    model = MLP([300, 1000, 700, 3], seed=0, batch_norm=[True, False])
    X = rng.standard_normal((rows, 300)).astype(np.float32)
    expected = [np.concatenate([model.hidden(x[None], layer=i) for x in X]) for i in range(3)]
    with fastmlp.limit_num_threads(threads):
        for actual, desired in zip(model.hidden(X), expected, strict=True):
            assert_array_equal(actual, desired)


@pytest.mark.parametrize("kind", ["u1", "i8", "f2", "f4", "f8", "?"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_dtype_and_layout(backend, dtype, kind, layout, rng):
    model = made(dtype, rng)
    X = lay_out(rng.integers(0, 2, (40, 20)).astype(kind), layout)
    for actual, desired in zip(model.hidden(X), plain(model, np.asarray(X, np.float64)), strict=True):
        close(actual, desired, dtype)


def test_lists_and_sparse_samples(backend, dtype, rng):
    sparse = pytest.importorskip("scipy.sparse")
    model = made(dtype, rng)
    X = rng.integers(0, 3, (30, 20)) * (rng.random((30, 20)) < 0.2)
    for given in (X.tolist(), sparse.csr_array(X.astype(float)), sparse.coo_matrix(X)):
        for actual, desired in zip(model.hidden(given), plain(model, X), strict=True):
            close(actual, desired, dtype)


def test_no_rows_and_no_hidden_layer(backend, dtype):
    model = MLP([3, 4, 2], dtype=dtype, seed=0)
    assert [y.shape for y in model.hidden(np.zeros((0, 3)))] == [(0, 4), (0, 2)]
    one, = MLP([3, 2], dtype=dtype, seed=0).hidden(np.ones((5, 3)))
    assert one.shape == (5, 2)


def test_results_are_the_callers_own(backend, rng):
    model = made("float32", rng)
    X = rng.standard_normal((10, 20))
    first, second = model.hidden(X, layer=0), model.hidden(X, layer=0)
    first[...] = 0
    assert second.any() and not np.shares_memory(first, second)


def test_within_training_it_is_up_to_date(backend, rng):
    model = MLP([4, 6, 3], seed=0)
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)

    def check(model, epoch, logs):
        close(model.hidden(X, layer=0), plain(model, X)[0], np.float32)

    model.fit(X, y, epochs=2, batch_size=10, optimizer=SGD(0.5), callbacks=[check], progress=False)


@pytest.mark.parametrize(("layer", "error", "words"), [
    (3, ValueError, "layer: expected an integer from -3 to 2, got 3"), (-4, ValueError, "layer: "),
    (1.0, TypeError, "layer: expected an integer"), (True, TypeError, "layer: "), ("1", TypeError, "layer: "),
])
def test_bad_layers(backend, layer, error, words, rng):
    with pytest.raises(error, match=words):
        made("float32", rng).hidden(np.zeros((1, 20)), layer=layer)


def test_bad_samples(backend, rng):
    model = made("float32", rng)
    with pytest.raises(ValueError, match="X: expected shape"):
        model.hidden(np.zeros((5, 19)))
    with pytest.raises(TypeError, match="X: expected numbers"):
        model.hidden(np.array([["a"] * 20]))


# Activations ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", FORMULAS)
def test_activations_can_be_called(backend, dtype, name, rng):
    f = activations.resolve(name)
    z = rng.normal(0, 2, (7, 13)).astype(dtype)
    close(f(z), FORMULAS[name](z.astype(np.float64)), dtype)
    h = 1e-6
    wide = z.astype(np.float64)
    slope = (FORMULAS[name](wide + h) - FORMULAS[name](wide - h)) / (2 * h)
    assert f.derivative(z).dtype == dtype
    assert_allclose(f.derivative(z), slope, rtol=1e-4, atol=1e-4)


def test_all_activations_have_a_formula_here():
    assert set(FORMULAS) == set(activations.BY_NAME)


@pytest.mark.parametrize(("f", "desired", "slopes"), [
    (LeakyReLU(0.1), [-0.2, 0.0, 3.0], [0.1, 0.1, 1.0]),
    (LeakyReLU(0.0), [0.0, 0.0, 3.0], [0.0, 0.0, 1.0]),
    (ELU(0.5), [0.5 * math.expm1(-2), 0.0, 3.0], [0.5 * math.exp(-2), 0.5, 1.0]),
])
def test_parameters_count(backend, dtype, f, desired, slopes):
    z = np.array([-2.0, 0.0, 3.0], dtype)
    close(f(z), desired, dtype)
    close(f.derivative(z), slopes, dtype)


def test_they_are_those_of_the_layers(backend, dtype, rng):
    """To the bit, on the compiled backend: the array functions are the kernels' own."""
    X = rng.standard_normal((9, 4)).astype(dtype)
    for name in FORMULAS:
        model = MLP([4, 6, 2], activation=name, dtype=dtype, seed=0)
        z = fastmlp.functional.dense_forward(X, model.weights[0].copy(), model.biases[0].copy())
        close(model.activations[0](z), model.hidden(X, layer=0), dtype)


@pytest.mark.parametrize("f", [GELU(), LeakyReLU(0.2), activations.Identity()])
def test_out_and_lists(backend, dtype, f):
    z = np.linspace(-1, 1, 12, dtype=dtype).reshape(3, 4)
    before, out = z.copy(), np.empty_like(z)
    assert f(z, out=out) is out
    assert_array_equal(z, before)
    assert_array_equal(out, f(z))
    assert not np.shares_memory(f(z), z)
    f(z, out=z)
    assert_array_equal(z, out)
    assert f([0.5, 1.0]).dtype == np.float64


@pytest.mark.parametrize("f", [GELU(), LeakyReLU(0.2), activations.Identity()])
def test_bad_arrays(backend, f):
    with pytest.raises(TypeError, match="x: "):
        f(np.arange(3))
    with pytest.raises(TypeError, match="x: "):
        f.derivative("abc")
    with pytest.raises(ValueError, match="out: "):
        f(np.zeros(3), out=np.zeros(4))
