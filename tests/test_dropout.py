"""Dropout: masks that depend on what they are for, scaled outputs, and gradients through what is left."""
from __future__ import annotations

import copy

import numpy as np
import pytest
from conftest import assert_gradients, assert_learned, assert_same

import fastmlp
from fastmlp import MLP, SGD, backends
from fastmlp.backends.numpy.dropout import dropout_mask


def masks(rate=0.3, seed=1, step=0, layer=0, rows=64, units=256):
    return dropout_mask(rate, seed, step, layer, rows, units, "float64")


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_share_and_scale(rate):
    mask = masks(rate, rows=500, units=400)
    assert set(np.unique(mask)) == {0.0, 1 / (1 - rate)}
    assert abs((mask == 0).mean() - rate) < 4 * (rate * (1 - rate) / mask.size) ** 0.5
    assert abs(mask.mean() - 1) < 0.02


def test_no_pattern():
    """Neighbours in every direction agree as often as independent draws do."""
    first = masks(0.5, rows=400, units=400) > 0
    pairs = {"unit": (first[:, 1:], first[:, :-1]), "row": (first[1:], first[:-1])}
    for name in ("seed", "step", "layer"):
        pairs[name] = first, masks(0.5, rows=400, units=400, **{name: 2}) > 0
    for name, (a, b) in pairs.items():
        assert abs((a == b).mean() - 0.5) < 5 * 0.5 / a.size ** 0.5, name
    assert abs(first.mean(axis=0) - 0.5).max() < 5 * 0.5 / 20
    assert abs(first.mean(axis=1) - 0.5).max() < 5 * 0.5 / 20


def test_a_mask_does_not_depend_on_the_size_of_the_batch():
    np.testing.assert_array_equal(masks(rows=64)[:10], masks(rows=10))
    np.testing.assert_array_equal(masks(units=256)[:, :7], masks(units=7))


@pytest.mark.parametrize("activation", ["identity", "relu", "tanh", "sigmoid", "gelu"])
def test_backends_drop_the_same(activation, dtype, rng):
    X, y = rng.standard_normal((50, 20)), rng.integers(0, 3, 50)
    results = []
    for name in backends.NAMES:
        with backends.use_backend(name):
            model = MLP([20, 33, 17, 3], activation, dropout=[0.5, 0.2], dtype=dtype, seed=3)
        optimizer = SGD(0.1)
        losses = [model.train_step(X, y, optimizer) for _ in range(5)]
        results.append([*losses, *(w.copy() for w in model.weights)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 if dtype == "float32" else 1e-12)


def test_gradients_by_finite_differences(backend, rng):
    """The mask of a step is fixed, so that the loss is a function of the parameters."""
    X, y = rng.standard_normal((12, 5)), rng.integers(0, 3, 12)
    model = MLP([5, 16, 8, 3], "tanh", dropout=0.4, dtype="float64", seed=0)
    assert_gradients(model, X, y, every=7, tolerance=1e-7)


def test_the_mask_changes_from_step_to_step(backend, rng):
    X, y = rng.standard_normal((20, 5)), rng.integers(0, 3, 20)
    model = MLP([5, 64, 3], dropout=0.5, seed=0)
    first = model.loss_and_gradients(X, y)[0]
    assert_same(model.loss_and_gradients(X, y)[0], first, backend, model.dtype)
    model.train_step(X, y, SGD(0.0))
    assert abs(model.loss_and_gradients(X, y)[0] - first) > 1e-3


def test_nothing_is_dropped_outside_training(backend, rng):
    X = rng.standard_normal((20, 5))
    dropped, plain = MLP([5, 64, 3], dropout=0.5, seed=0), MLP([5, 64, 3], seed=0)
    assert_learned(dropped.forward(X), plain.forward(X))


def test_same_bits_over_threads_and_runs(dtype, rng):
    X, y = rng.standard_normal((300, 200)), rng.integers(0, 10, 300)
    before = fastmlp.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            fastmlp.set_num_threads(threads)
            model = MLP([200, 256, 128, 10], dropout=0.3, dtype=dtype, seed=5)
            model.fit(X, y, epochs=2, batch_size=128, optimizer=SGD(0.05, momentum=0.9), progress=False)
            results.append(np.concatenate([w.ravel() for w in model.weights]))
    finally:
        fastmlp.set_num_threads(before)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_its_seed_is_a_child_of_the_models(seed, backend, rng):
    """Whenever it is asked for: at once, where dropout is assigned later, or in a copy."""
    child = int(np.random.default_rng(seed).spawn(1)[0].integers(2**63))
    X, y = rng.standard_normal((40, 6)), rng.integers(0, 3, 40)
    models = [MLP([6, 20, 3], dropout=0.5, seed=seed), MLP([6, 20, 3], seed=seed)]
    models.append(copy.copy(models[1]))
    for model in models[1:]:
        model.dropout = 0.5
    for model in models:
        model.fit(X, y, epochs=2, batch_size=10, optimizer=SGD(0.1), progress=False)
        assert model.core.dropout_seed == model.core.engine.seed == child
        assert_same(model, models[0], backend, "float32")


@pytest.mark.parametrize("dropout, error, words", [
    (1.0, ValueError, "below 1"), (-0.1, ValueError, "dropout"), ("much", TypeError, "dropout"),
    ([0.1], ValueError, "2 hidden layers"), (float("nan"), ValueError, "dropout"),
])
def test_bad_rates(dropout, error, words):
    with pytest.raises(error, match=words):
        MLP([4, 8, 8, 2], dropout=dropout)
