"""Sums over large batches, and over large gradients: bounded error, one order, nothing overflows."""
from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
import fastmlp.functional as F
from fastmlp import MLP, SGD, BatchNorm, kernels
from fastmlp.backends import cython

FMA_ISAS = [isa for isa in kernels.available_isas() if isa != "portable"]
LARGE = 2_000_000


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = fastmlp.get_num_threads()
    yield
    fastmlp.set_num_threads(before)


def relative(a, b):
    return float(np.max(np.abs(np.asarray(a, float) - b) / np.abs(b)))


def test_gradients_over_very_many_rows(backend, rng):
    """float32 cannot count to 2^24 by ones: a single running sum of these would be off by a tenth."""
    x = rng.uniform(1, 2, (LARGE, 1)).astype(np.float32)
    t = 3 * x[:, 0] + 1
    model = MLP([1, 1], loss="mean_squared_error", seed=0)
    model.weights[0][:] = 0
    gradients = model.loss_and_gradients(x, t)[1]
    exact = t.astype(float)
    assert relative(gradients.weights[0], -2 * (exact * x[:, 0]).mean()) < 1e-4
    assert relative(gradients.biases[0], -2 * exact.mean()) < 1e-4


def test_batch_norm_over_very_many_rows(backend, rng):
    x = (101 + rng.standard_normal((LARGE // 2, 1))).astype(np.float32)
    y = (x[:, 0] > 101).astype(int)
    model = MLP([1, 4, 2], batch_norm=BatchNorm(momentum=1.0), seed=0)
    model.weights[0][:] = 1
    model.train_step(x, y, SGD(0.0))
    assert relative(model.running_means[0], x.mean(dtype=float)) < 1e-5
    assert relative(model.running_variances[0], x.var(dtype=float, ddof=1)) < 1e-3


def test_dense_backward_over_very_many_rows(backend, rng):
    x = rng.uniform(1, 2, (LARGE, 1)).astype(np.float32)
    w, y = np.ones((1, 2), np.float32), np.zeros((LARGE, 2), np.float32)
    dx, dw, db = F.dense_backward(np.ones((LARGE, 2), np.float32), x, w, y)
    assert relative(dw, x.sum(dtype=float)) < 1e-4
    assert relative(db, LARGE) < 1e-4


@pytest.mark.any_isa
@pytest.mark.parametrize("rows", [4095, 4096, 4097, 8192, 13001])
@pytest.mark.parametrize("options", [{}, {"batch_norm": True}], ids=str)
def test_chunks_are_the_same_for_every_thread_and_isa(options, rows, dtype, rng, monkeypatch):
    X, y = rng.standard_normal((rows, 19)), rng.integers(0, 3, rows)
    results = []
    for isa in FMA_ISAS:
        monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, kernels.load(isa, dtype.name))
        for threads in (1, 2, 3):
            fastmlp.set_num_threads(threads)
            model = MLP([19, 37, 3], dtype=dtype, seed=0, **options)
            model.fit(X, y, epochs=3, batch_size=None, optimizer=SGD(0.1, 0.9), progress=False)
            results.append([*model.weights, *model.biases])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert_array_equal(a, b)


@pytest.mark.parametrize("rows", [4096, 5000, 9000])
def test_chunks_against_the_specification(rows, dtype, rng):
    X, y = rng.standard_normal((rows, 19)), rng.integers(0, 3, rows)
    found = []
    for backend in ("cython", "numpy"):
        with fastmlp.use_backend(backend):
            model = MLP([19, 37, 21, 3], dtype=dtype, seed=0, batch_norm=[False, True])
        _, gradients = model.loss_and_gradients(X, y)
        found.append([*gradients.weights, *gradients.biases, gradients.scales[1]])
    for a, b in zip(*found):
        assert_allclose(a, b, rtol=0, atol=1e-5 if dtype == "f4" else 1e-13)


def test_the_sum_of_a_chunk_is_one_chain(dtype, rng):
    """The documented order, step by step in FMAs of exact numbers: none of these sums rounds."""
    x = rng.integers(-8, 9, (10_000, 5)).astype(dtype)
    dy = rng.integers(-8, 9, (10_000, 3)).astype(dtype)
    dx, dw, db = F.dense_backward(dy, x, np.ones((5, 3), dtype), dy)
    assert_array_equal(dw, x.T.astype(np.int64) @ dy.astype(np.int64))
    assert_array_equal(db, dy.sum(axis=0))


# The norm of all gradients -------------------------------------------------------------------------------

@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("power", [-28, -20, 0, 18, 36])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}], ids=str)
@pytest.mark.parametrize("layers", [[40, 128], [3, 2]], ids=str)
def test_clip_norm_of_any_gradient(layers, options, power, threads, backend, dtype, rng, monkeypatch):
    """A step of length lr clip_norm against the gradient, whether its squares overflow or vanish."""
    monkeypatch.setattr(fastmlp._core.threads, "_num_threads", threads)
    if dtype == "f8":
        power *= 8
    X = rng.standard_normal((200, layers[0])).astype(dtype)
    g = (rng.standard_normal((200, layers[1])) * 10.0**power / 200).astype(dtype)
    gradients = X.astype(np.longdouble).T @ g, g.sum(axis=0, dtype=np.longdouble)
    norm = np.sqrt(sum(np.square(a).sum() for a in gradients))
    for share in (0.01, 0.99, 1.01):
        limit = float(norm * share)
        if limit < 1e-37:
            continue
        model = MLP(layers, loss=lambda z, t: (1.0, t), dtype=dtype, seed=0, init="zeros")
        model.train_step(X, g, SGD(1.0, **options, clip_norm=limit))
        for array, gradient in zip((model.weights[0], model.biases[0]), gradients):
            assert_allclose(array, -gradient * np.longdouble(min(share, 1)), rtol=0,
                            atol=float(np.abs(gradient).max() * 100 * np.finfo(dtype).eps))


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_clip_norm_does_not_hide_what_is_not_finite(wrong, backend, dtype, rng):
    X, t = rng.standard_normal((30, 4)), np.full((30, 3), wrong)
    model = MLP([4, 3], loss=lambda z, t: (1.0, t), dtype=dtype, seed=0)
    model.train_step(X, t, SGD(1.0, clip_norm=1.0))
    assert not np.isfinite(model.biases[0]).any()
