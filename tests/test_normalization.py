"""Batch normalisation: against its formula, finite differences, the other backend, and over threads."""
from __future__ import annotations

import numpy as np
import pytest
from conftest import assert_gradients, assert_learned
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
from fastmlp import MLP, SGD, BatchNorm, backends


def data(rng, n=60, inputs=9, classes=3):
    return rng.standard_normal((n, inputs)) * 3 + 1, rng.integers(0, classes, n)


def test_one_layer_by_hand(backend, dtype, rng):
    """Logits of a training step and of inference, from the formula, via the loss of a network."""
    X, y = data(rng)
    norm = BatchNorm(momentum=0.25, epsilon=1e-3)
    model = MLP([9, 40, 3], "identity", batch_norm=norm, dtype=dtype, seed=0)
    model.scales[0][...] = rng.uniform(0.5, 2, 40)
    model.biases[0][...] = rng.standard_normal(40)
    z = X.astype(dtype).astype(float) @ model.weights[0].astype(float)
    mean, variance = z.mean(axis=0), z.var(axis=0)

    def logits(mean, variance):
        y = (z - mean) / np.sqrt(variance + 1e-3) * model.scales[0] + model.biases[0]
        return y @ model.weights[1].astype(float) + model.biases[1]

    def loss(logits):
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        return -log_p[np.arange(len(y)), y].mean()

    tolerance = 2e-5 if dtype == "float32" else 1e-12
    assert abs(model.loss_and_gradients(X, y)[0] - loss(logits(mean, variance))) < tolerance
    np.testing.assert_array_equal(model.running_means[0], 0)
    np.testing.assert_array_equal(model.running_variances[0], 1)
    model.train_step(X, y, SGD(0.0))
    np.testing.assert_allclose(model.running_means[0], 0.25 * mean, rtol=0, atol=10 * tolerance)
    variances = 0.75 + 0.25 * z.var(axis=0, ddof=1)
    np.testing.assert_allclose(model.running_variances[0], variances, rtol=10 * tolerance)
    expected = logits(model.running_means[0].astype(float), model.running_variances[0].astype(float))
    np.testing.assert_allclose(model.forward(X), expected, rtol=0, atol=20 * tolerance)


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "gelu"])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_by_finite_differences(activation, dropout, backend, rng):
    X, y = data(rng, n=11)
    model = MLP([9, 12, 7, 3], activation, batch_norm=[True, BatchNorm()], dropout=dropout, dtype="float64",
                seed=0)
    for scale in model.scales[:2]:
        scale[...] = rng.uniform(0.5, 2, len(scale))
    assert_gradients(model, X, y, every=5, tolerance=1e-6)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "weight_decay": 0.1}], ids=str)
def test_backends_agree(options, dtype, rng):
    X, y = data(rng)
    results = []
    for name in backends.NAMES:
        with backends.use_backend(name):
            model = MLP([9, 33, 17, 3], "tanh", batch_norm=True, dtype=dtype, seed=3)
        model.fit(X, y, epochs=3, batch_size=25, optimizer=SGD(0.05, **options), progress=False)
        results.append([*model.weights, *model.biases, *model.scales[:2], *model.running_means[:2],
                        *model.running_variances[:2], model.forward(X)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-4 if dtype == "float32" else 1e-10)


def test_same_bits_over_threads(dtype, rng):
    X, y = data(rng, n=300, inputs=200, classes=10)
    before = fastmlp.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            fastmlp.set_num_threads(threads)
            model = MLP([200, 256, 129, 10], "gelu", dropout=0.2, batch_norm=True, dtype=dtype, seed=5)
            model.fit(X, y, epochs=2, batch_size=128, optimizer=SGD(0.05), progress=False)
            results.append(np.concatenate([*(w.ravel() for w in model.weights), *model.running_variances[:2],
                                           model.forward(X).ravel()]))
    finally:
        fastmlp.set_num_threads(before)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


def test_a_row_alone_or_among_others(dtype, rng):
    X, y = data(rng, n=300)
    model = MLP([9, 70, 3], batch_norm=True, dtype=dtype, seed=0)
    model.fit(X, y, epochs=2, progress=False)
    together = model.forward(X)
    for i in (0, 7, 299):
        np.testing.assert_array_equal(model.forward(X[i:i + 1])[0], together[i])
    np.testing.assert_array_equal(model.forward(X[3:10]), together[3:10])


def test_it_learns_where_signals_are_badly_scaled(backend, rng):
    """Inputs a thousand times too large: normalisation makes nothing of it."""
    X, y = data(rng, n=200)
    y = (X[:, 0] > X[:, 1]).astype(int)
    model = MLP([9, 32, 32, 2], batch_norm=True, seed=0)
    model.fit(1000 * X, y, epochs=30, batch_size=20, optimizer=SGD(0.05), progress=False)
    assert model.evaluate(1000 * X, y)["accuracy"] > 0.95


@pytest.mark.parametrize("value, error, words", [
    ("yes", TypeError, "batch_norm"), ([True], ValueError, "2 hidden layers"), (2, TypeError, "batch_norm"),
])
def test_bad_settings(value, error, words):
    with pytest.raises(error, match=words):
        MLP([4, 8, 8, 2], batch_norm=value)


@pytest.mark.parametrize("options", [{"momentum": 0}, {"momentum": 1.5}, {"epsilon": 0}, {"epsilon": -1}])
def test_bad_numbers(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        BatchNorm(**options)


# Batches of a single row ---------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [129, 257])
def test_a_last_batch_of_one_row_leaves_the_statistics_alone(n, backend, dtype, rng):
    X, y = rng.standard_normal((n, 6)), rng.integers(0, 2, n)
    one, two = (MLP([6, 16, 2], batch_norm=True, dtype=dtype, seed=0) for _ in range(2))
    one.fit(X, y, epochs=1, batch_size=128, optimizer=SGD(0.0), shuffle=False, progress=False)
    two.fit(X[:n - 1], y[:n - 1], epochs=1, batch_size=128, optimizer=SGD(0.0), shuffle=False, progress=False)
    assert_learned(one.running_means[0], two.running_means[0])
    assert_learned(one.running_variances[0], two.running_variances[0])


def test_the_running_variance_is_the_unbiased_one(backend, dtype, rng):
    X = rng.standard_normal((5, 3)).astype(dtype)
    model = MLP([3, 8, 2], batch_norm=BatchNorm(momentum=1.0), dtype=dtype, seed=0)
    model.train_step(X, np.zeros(5, int), SGD(0.0))
    z = X.astype(float) @ model.weights[0]
    assert_allclose(model.running_variances[0], z.var(axis=0, ddof=1), rtol=1e-4)


@pytest.mark.parametrize("call", [
    lambda model, X, y: model.fit(X, y, batch_size=1, progress=False),
    lambda model, X, y: model.fit(X[:1], y[:1], progress=False),
    lambda model, X, y: model.fit(X, y, sample_weight=[0, 0, 3, 0], progress=False),
    lambda model, X, y: model.train_step(X[:1], y[:1], SGD(0.1)),
    lambda model, X, y: model.train_step(X, y, SGD(0.1), sample_weight=[0, 0, 3, 0]),
    lambda model, X, y: model.loss_and_gradients(X[:1], y[:1]),
], ids=["batch_size", "one row", "one that counts", "step", "step that counts", "gradients"])
def test_nothing_but_batches_of_one_row(call, backend, rng):
    X, y = rng.standard_normal((4, 3)), np.array([0, 1, 0, 1])
    model = MLP([3, 8, 2], batch_norm=True, seed=0)
    before = [w.copy() for w in (*model.weights, model.running_variances[0])]
    with pytest.raises(ValueError, match="expected at least 2.* with batch normalisation"):
        call(model, X, y)
    for was, now in zip(before, (*model.weights, model.running_variances[0])):
        assert_array_equal(was, now)
    model.predict(X[:1])
