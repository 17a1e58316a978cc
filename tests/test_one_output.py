"""Networks with one output: their last layer has kernels of its own, and the bits of the general ones."""
from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp
import fastmlp.functional as F
from fastmlp import MLP, SGD, Adam

WIDE = 20                       # columns: the general kernels, in whole and partial tiles


def widened(column):
    """The column, and others of zeros."""
    result = np.zeros((*column.shape[:-1], WIDE), column.dtype)
    result[..., :1] = column
    return result


def loss_and_gradient(z, t):
    """Of two equal outputs: the mean is that of one, and every gradient half of it."""
    loss, d = F.binary_cross_entropy(np.hstack([z, z]), np.hstack([t, t]))
    return loss, 2 * d[:, :1]


def gradients(model, X, t):
    """Of all weights and biases, with wide layers in the place of the last one."""
    (w1, w2), (b1, b2) = model.weights, model.biases
    w1, w2 = w1.copy(), widened(w2)
    h = F.dense_forward(X, w1, b1.copy(), "relu")
    z = F.dense_forward(h, w2, widened(b2))[:, :1]
    loss, d = loss_and_gradient(np.ascontiguousarray(z), t)
    dh, dw2, db2 = F.dense_backward(widened(d), h, w2)
    _, dw1, db1 = F.dense_backward(dh, X, w1, h, "relu", need_dx=False)
    return loss, [dw1, np.ascontiguousarray(dw2[:, :1]), db1, db2[:1].copy()]


@pytest.mark.parametrize("rows", [1, 2, 7, 16, 40, 200, 5000])
@pytest.mark.parametrize("sizes", [(3, 2), (20, 32), (5, 70), (33, 130), (4, 1)], ids=str)
def test_gradients(sizes, rows, dtype, rng):
    model = MLP([*sizes, 1], loss="binary_cross_entropy", dtype=dtype, seed=0)
    model.biases[1][:] = 0.3
    X = rng.standard_normal((rows, sizes[0])).astype(dtype)
    t = rng.integers(0, 2, (rows, 1)).astype(dtype)
    expected, desired = gradients(model, X, t)
    for threads in (1, 2, 3):
        with fastmlp.limit_num_threads(threads):
            loss, result = model.loss_and_gradients(X, t)
        assert loss == pytest.approx(expected, rel=1e-6)
        for ours, general in zip([*result.weights, *result.biases], desired):
            assert_array_equal(ours, general)


UPDATES = {
    "sgd": (lambda: SGD(0.1, weight_decay=1e-3),
            lambda p, g, s, t: F.sgd_update(p, g, 0.1, weight_decay=1e-3)),
    "momentum": (lambda: SGD(0.1, momentum=0.9), lambda p, g, s, t: F.sgd_update(
        p, g, 0.1, momentum=0.9, velocity=s[0])),
    "adam": (lambda: Adam(0.01), lambda p, g, s, t: F.adam_update(p, g, 0.01, s[0], s[1], t))}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("hidden", [2, 32, 45, 130])
def test_steps(hidden, name, dtype, rng):
    """Of an epoch whose last batch is smaller."""
    make, update = UPDATES[name]
    X = rng.standard_normal((250, 6)).astype(dtype)
    t = rng.integers(0, 2, (250, 1)).astype(dtype)
    model, twin = (MLP([6, hidden, 1], loss="binary_cross_entropy", dtype=dtype, seed=0) for _ in range(2))
    model.fit(X, t, epochs=2, batch_size=100, optimizer=make(), shuffle=False, progress=False)
    arrays = [*twin.weights, *twin.biases]
    copies = [np.array(a, order="C") for a in arrays]
    slots = [(np.zeros_like(a), np.zeros_like(a)) for a in copies]
    step = 0
    for _ in range(2):
        for start in (0, 100, 200):
            step += 1
            _, grads = gradients(twin, X[start:start + 100], t[start:start + 100])
            for i, (array, copy, gradient) in enumerate(zip(arrays, copies, grads)):
                if name == "sgd" and i > 1:
                    F.sgd_update(copy, gradient, 0.1)
                else:
                    update(copy, gradient, slots[i], step)
                array[...] = copy
    for ours, general in zip([*model.weights, *model.biases], arrays):
        assert_array_equal(ours, general)


def test_targets_of_every_kind(dtype, rng):
    """They need not be of the model's dtype, nor lie one behind the other."""
    X = rng.standard_normal((90, 5)).astype(dtype)
    t = rng.integers(0, 2, 90)
    results = []
    for targets in (t[:, None].astype(dtype), t[:, None], t[:, None].astype(bool),
                    t.astype(np.float16)[:, None], np.repeat(t, 3).astype(dtype)[::3, None]):
        model = MLP([5, 9, 1], loss="binary_cross_entropy", dtype=dtype, seed=0)
        model.fit(X, targets, epochs=2, batch_size=32, optimizer=SGD(0.1), progress=False,
                  sample_weight=np.arange(90) % 3)
        results.append([w.copy() for w in model.weights])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert_array_equal(a, b)
