"""Subnormal numbers count as zero while kernels run, and the caller's floating-point mode stays as it is."""
from __future__ import annotations

import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import MLP, SGD, Adam, RMSprop, kernels
from fastmlp.backends import cython

FMA_ISAS = [isa for isa in kernels.available_isas() if isa != "portable"]


def gradual(dtype):
    """Whether this thread computes with subnormal numbers, as operands and as results."""
    tiny = np.finfo(dtype).tiny
    small = np.array([tiny / 4], dtype)
    return bool((small * 4)[0] == tiny and (np.array([tiny], dtype) / 4)[0] == small[0] != 0)


def is_subnormal(array):
    return (array != 0) & (np.abs(array) < np.finfo(array.dtype).tiny)


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = fastmlp.get_num_threads()
    yield
    fastmlp.set_num_threads(before)


def sure_of_itself(dtype, rng, optimizer, isa=None, monkeypatch=None):
    """Trained on raw pixels whose classes lie far apart: probabilities, deltas and moments die out."""
    if isa is not None:
        monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, kernels.load(isa, dtype.name))
    pattern, y = rng.random((10, 256)) > 0.7, rng.integers(0, 10, 1000)
    X = (pattern[y] * 200 + rng.integers(0, 55, (1000, 256))).astype(np.uint8)
    model = MLP([256, 128, 10], dtype=dtype, seed=0)
    model.fit(X, y, epochs=8, batch_size=64, optimizer=optimizer, progress=False)
    tiny = np.finfo(dtype).tiny
    z = np.zeros((4, 256), dtype)
    z[:, :8] = tiny * np.array([0.5, 0.25, 2, 4, 1e-3, 1, 8, 0.75])
    model.fit(np.tile(z, (16, 1)), np.zeros(64, int), epochs=2, optimizer=optimizer, progress=False)
    return model, z


@pytest.mark.any_isa
@pytest.mark.parametrize("make", [lambda: Adam(1e-3), lambda: RMSprop(1e-3), lambda: SGD(1e-3, 0.9)],
                         ids=["adam", "rmsprop", "momentum"])
def test_the_same_bits_everywhere(make, dtype, monkeypatch):
    results = []
    for isa in FMA_ISAS:
        for threads in (1, 2, 3):
            fastmlp.set_num_threads(threads)
            optimizer = make()
            model, z = sure_of_itself(dtype, np.random.default_rng(0), optimizer, isa, monkeypatch)
            state = optimizer.get_state(model)
            results.append([*model.weights, *model.biases, *state.values(), model.forward(z)])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert_array_equal(a, b)
    assert not any(is_subnormal(np.asarray(a)).any() for a in results[0] if np.asarray(a).dtype == dtype)


@pytest.mark.parametrize("isa", kernels.available_isas())
@pytest.mark.parametrize("threads", [1, 2])
def test_every_thread_flushes(threads, isa, dtype, monkeypatch):
    """Rows are shared between threads: where one of them computed otherwise, its rows would show it."""
    monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, kernels.load(isa, dtype.name))
    fastmlp.set_num_threads(threads)
    tiny = np.finfo(dtype).tiny
    model = MLP([64, 512, 512], activation="identity", dtype=dtype, seed=0)
    for w in model.weights:
        w[...] = 0.5
    x = np.full((512, 64), tiny / 64, dtype)        # whose sums would be subnormal: 64 * 0.5 * tiny / 64
    assert not model.forward(x).any()
    model.weights[0][...] = 1
    assert not model.forward(x).any()
    assert model.forward(np.full((512, 64), tiny, dtype)).all()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_mode_of_the_caller_stays(threads, dtype, rng):
    fastmlp.set_num_threads(threads)
    seen = []

    def loss(z, t):
        seen.append(gradual(dtype))
        return float(((z - t) ** 2).mean()), 2 * (z - t) / z.size

    def rate(step):
        seen.append(gradual(dtype))
        return 0.01

    def after(model, epoch, logs):
        seen.append(gradual(dtype))

    X, t = rng.standard_normal((400, 64)), rng.standard_normal((400, 128))
    model = MLP([64, 128, 128], loss=loss, dtype=dtype, seed=0)
    model.fit(X, t, epochs=2, optimizer=SGD(rate), callbacks=[after], progress=False)
    model.train_step(X, t, SGD(0.1))
    model.forward(X)
    model.predict(X[:1])
    seen.append(gradual(dtype))
    with pytest.raises(ZeroDivisionError):
        MLP([64, 128], loss=lambda z, t: 1 / 0, dtype=dtype).train_step(X, t, SGD(0.1))
    seen.append(gradual(dtype))
    x, w, b = rng.standard_normal((60, 33)).astype(dtype), np.ones((33, 17), dtype), np.zeros(17, dtype)
    y = fastmlp.functional.dense_forward(x, w, b)
    fastmlp.functional.dense_backward(y, x, w, y)
    fastmlp.functional.sgd_update(w, w.copy(), 0.1)
    fastmlp.functional.softmax(y)
    seen.append(gradual(dtype))
    assert all(seen) and len(seen) > 10


def test_the_mode_of_every_thread_stays(dtype, rng):
    X, y = rng.standard_normal((2000, 64)), rng.integers(0, 10, 2000)
    kept = []

    def work():
        model = MLP([64, 128, 10], dtype=dtype, seed=0)
        model.fit(X, y, epochs=2, progress=False)
        model.forward(X)
        kept.append(gradual(dtype))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert kept == [True] * 4


def test_every_half_precision_number_is_read_as_it_is(dtype):
    """Subnormal ones too, which are no subnormal numbers of float32."""
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    model = MLP([1, 1], loss="mean_squared_error", init="zeros", dtype=dtype)
    model.weights[0][...] = 1
    with np.errstate(invalid="ignore"):
        assert_array_equal(model.forward(halves[:, None])[:, 0], halves.astype(dtype))
