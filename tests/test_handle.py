"""Inference handles: the bits of the model, from many threads, without a trace of the model afterwards."""
from __future__ import annotations

import copy
import os
import pickle
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import LAYOUTS, assert_same, lay_out
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import MLP, SGD, BatchNorm, LeakyReLU, activations, kernels
from fastmlp.backends import cython
from fastmlp.kernels import ops

ISAS = kernels.available_isas()
NETWORKS = [[3, 2], [4, 16, 3], [7, 33, 17, 1], [70, 129, 131, 37], [256, 384, 384, 128], [1, 300, 65, 31]]
ROWS = [0, 1, 2, 5, 16, 70]
OF = {"logits": MLP.forward, "proba": MLP.predict_proba, "labels": MLP.predict}
LOSSES = [("cross_entropy", 3), ("binary_cross_entropy", 1), ("binary_cross_entropy", 3), ("hinge", 1),
          ("hinge", 2),
          ("mean_squared_error", 1), ("mean_squared_error", 2), ("poisson", 2), ("poisson", 1),
          ("multiclass_hinge", 4), ("kl_divergence", 3)]


def own_loss(outputs, targets):
    return float((outputs ** 2).mean()), outputs


def randomised(model, rng):
    for arrays in (model.biases, model.running_means):
        for array in arrays:
            if array is not None:
                array[...] = rng.standard_normal(array.shape)
    for arrays in (model.scales, model.running_variances):
        for array in arrays:
            if array is not None:
                array[...] = rng.uniform(0.5, 2, array.shape)
    return model


def samples(rng, rows, columns, dtype):
    return rng.standard_normal((rows, columns)).astype(dtype)


# The same as the model --------------------------------------------------------------------------------------

@pytest.mark.parametrize("layers", NETWORKS, ids=str)
def test_logits(layers, backend, dtype, rng):
    hidden = ["relu", "gelu", "tanh"][:len(layers) - 2]
    model = randomised(MLP(layers, activation=hidden, dtype=dtype, seed=0), rng)
    handle = model.compile_predict()
    for rows in ROWS:
        X = samples(rng, rows, layers[0], dtype)
        expected = model.forward(X)
        assert_same(handle(X), expected, backend, dtype)
        out = np.full((rows, layers[-1]), np.nan, dtype)
        assert handle(X, out) is out
        assert_same(out, expected, backend, dtype)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("layers", NETWORKS, ids=str)
def test_bits_on_every_isa(layers, isa, dtype, rng, monkeypatch):
    """Of every number of rows, on one thread and on several, of every activation."""
    active, module = cython._kernels.KERNELS[dtype.char], kernels.load(isa, dtype.name)
    if module is not active:            # which was told at import what it uses of Python
        module.introduce(np.ndarray, dtype, np.empty, activations.resolve, {}, None, None)
    monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, module)
    X = samples(rng, 600, layers[0], dtype)
    with fastmlp.use_backend("cython"):
        for name in [entry.name for entry in ops.ACTIVATIONS] if layers[0] == 7 else ["relu", "sigmoid"]:
            model = randomised(MLP(layers, activation=name, dtype=dtype, seed=0,
                                   batch_norm=name == "sigmoid" and len(layers) > 2), rng)
            expected = model.forward(X)
            one, three = model.compile_predict(), model.compile_predict(threads=3)
            for rows in (1, 2, 3, 13, 257, 600):
                for first in (0, 600 - rows):
                    part = slice(first, first + rows)
                    assert_array_equal(one(X[part]), expected[part])
                    assert_array_equal(three(X[part]), expected[part])


@pytest.mark.parametrize("loss, outputs", [*LOSSES, (own_loss, 2), (own_loss, 1)])
@pytest.mark.parametrize("output", list(OF))
def test_outputs(output, loss, outputs, backend, dtype, rng):
    model = randomised(MLP([5, 9, outputs], loss=loss, dtype=dtype, seed=0), rng)
    if output == "proba" and model.loss.output not in ("softmax", "sigmoid"):
        with pytest.raises(ValueError, match="output: expected logits or labels, got 'proba'; the out"):
            model.compile_predict(output=output)
        return
    for threads in (1, 2):
        handle = model.compile_predict(output=output, threads=threads)
        for rows in (0, 1, 40):
            X = samples(rng, rows, 5, dtype)
            expected = OF[output](model, X)
            for result in (handle(X), handle(X, np.empty_like(expected))):
                assert result.dtype == expected.dtype == handle.dtype and result.shape == expected.shape
                assert_same(result, expected, backend, dtype)


@pytest.mark.parametrize("output", list(OF))
def test_threads_that_share_columns(output, backend, dtype, rng):
    """Large weights and a single row: every thread has some columns, and one makes the result of all."""
    model = MLP([500, 900, 520], dtype=dtype, seed=0)       # two threads for 900,000 weights
    X = samples(rng, 2, 500, dtype)
    handle = model.compile_predict(output=output, threads=3)
    for rows in (1, 2):
        for _ in range(5):
            assert_same(handle(X[:rows]), OF[output](model, X[:rows]), backend, dtype)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary_cross_entropy", "hinge"])
def test_values_that_are_not_finite(loss, backend, dtype, rng):
    model = MLP([3, 4], loss=loss, dtype=dtype, seed=0)
    X = samples(rng, 6, 3, dtype)
    X[1, 1], X[2, 0], X[3, 2] = np.nan, np.inf, -np.inf
    for output in ("logits", "labels", *(["proba"] if model.loss.output else [])):
        with np.errstate(all="ignore"):
            handle = model.compile_predict(output=output)
            with pytest.warns(RuntimeWarning) if output != "logits" else np.errstate():
                expected = OF[output](model, X)
            assert_same(handle(X), expected, backend, dtype)


def test_tiny_probabilities(backend, dtype):
    """Subnormal numbers, as the array functions give them."""
    model = MLP([1, 1], loss="binary_cross_entropy", dtype=dtype, seed=0)
    model.weights[0][...] = 1
    X = np.array([[-80], [-89], [-100], [-104], [-720], [-740]], dtype)
    assert_same(model.compile_predict(output="proba")(X), model.predict_proba(X), backend, dtype)


def test_the_handle_is_independent_of_the_model(backend, dtype, rng):
    model = MLP([5, 9, 3], batch_norm=True, dtype=dtype, seed=0)
    X = samples(rng, 40, 5, dtype)
    handle, before = model.compile_predict(), model.forward(X)
    model.fit(X, rng.integers(0, 3, 40), epochs=1, batch_size=8, optimizer=SGD(0.5), progress=False)
    assert (model.forward(X) != before).any()
    assert_same(handle(X), before, backend, dtype)
    del model
    assert_same(handle(X), before, backend, dtype)


def test_within_a_callback(backend, dtype, rng):
    """What the handle of an epoch has learned is what the epoch has."""
    model = MLP([5, 9, 3], dtype=dtype, seed=0)
    X, y = samples(rng, 64, 5, dtype), rng.integers(0, 3, 64)
    kept = []
    model.fit(X, y, epochs=3, batch_size=8, optimizer=SGD(0.5), progress=False,
              callbacks=[lambda *_: kept.append((model.compile_predict(), model.forward(X)))])
    assert len(kept) == 3 and (kept[0][1] != kept[1][1]).any()
    for handle, expected in kept:
        assert_same(handle(X), expected, backend, dtype)


# What is taken ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, backend, dtype, rng):
    model = MLP([5, 9, 3], dtype=dtype, seed=0)
    X = samples(rng, 7, 5, dtype)
    for output, of in OF.items():
        handle, expected = model.compile_predict(output=output), of(model, X)
        assert_same(handle(lay_out(X, layout)), expected, backend, dtype)
        if layout != "read_only":
            out = lay_out(np.zeros_like(expected), layout)
            assert handle(X, out=out) is out
            assert_same(out, expected, backend, dtype)


@pytest.mark.parametrize("kind", ["i1", "u1", "i4", "u8", "f2", "f4", "f8", "?", "list"])
def test_other_dtypes(kind, backend, dtype, rng):
    model = MLP([5, 9, 3], dtype=dtype, seed=0)
    X = rng.integers(0, 2, (7, 5))
    X = X.tolist() if kind == "list" else X.astype(kind)
    assert_same(model.compile_predict()(X), model.forward(X), backend, dtype)


def test_many_rows(backend, dtype, rng):
    model = MLP([2, 3, 2], dtype=dtype, seed=0)
    X = samples(rng, 70_000, 2, dtype)
    for options in ({}, {"batch_size": 100_000}, {"threads": 2}):
        handle = model.compile_predict(**options)
        assert_same(handle(X), model.forward(X), backend, dtype)
        assert_same(handle(X[:, ::-1]), model.forward(X[:, ::-1]), backend, dtype)


def test_batch_size(backend, dtype, rng):
    model = MLP([5, 300, 3], dtype=dtype, seed=0)
    X = samples(rng, 8, 5, dtype)
    handle = model.compile_predict(batch_size=7)
    for rows in range(8):
        assert_same(handle(X[:rows]), model.forward(X[:rows]), backend, dtype)
    out = np.full((8, 3), 5, dtype)
    for given in (None, out):
        with pytest.raises(ValueError, match="X: expected at most 7 rows, the batch_size of the handle, go"):
            handle(X, given)
    assert (out == 5).all()
    assert model.compile_predict(batch_size=1).nbytes <= handle.nbytes <= model.compile_predict().nbytes


def test_a_batch_size_beyond_all_memory_bounds_nothing(backend):
    model = MLP([3, 4, 2], seed=0)
    assert model.compile_predict(batch_size=2**64).nbytes == model.compile_predict().nbytes


# What is refused -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("X, error, message", [
    (np.zeros((2, 4)), ValueError, r"X: expected shape \(rows, 5\), got \(2, 4\)"),
    (np.zeros(5), ValueError, "X: expected shape"),
    (np.zeros((2, 5), complex), TypeError, "X: expected numbers, got dtype complex128"),
    (np.array([["a"] * 5]), TypeError, "X: expected numbers"),
    (np.ma.zeros((2, 5)), TypeError, "X: expected a plain array, got a masked array"),
    (None, TypeError, "X: expected an array or a table, got None"),
])
def test_bad_samples(X, error, message, backend):
    handle = MLP([5, 3], seed=0).compile_predict()
    out = np.full((2, 3), 5, "f4")
    for given in (None, out):
        with pytest.raises(error, match=message):
            handle(X, given)
    assert (out == 5).all()


@pytest.mark.parametrize("output, make, error, message", [
    ("logits", lambda X: np.full((2, 4), 5, "f4"), ValueError, r"out: expected shape \(2, 3\)"),
    ("logits", lambda X: np.full((3, 3), 5, "f4"), ValueError, r"out: expected shape \(2, 3\)"),
    ("logits", lambda X: np.full(6, 5, "f4"), ValueError, r"out: expected shape \(2, 3\)"),
    ("logits", lambda X: np.full((2, 3), 5, "f8"), TypeError,
     "out: expected dtype float32, that of logits, got float64"),
    ("labels", lambda X: np.full(2, 5, "i2"), TypeError,
     "out: expected dtype int.., that of labels, got int16"),
    ("labels", lambda X: np.full((2, 1), 5, np.intp), ValueError, "out: expected shape"),
    ("logits", lambda X: lay_out(np.full((2, 3), 5, "f4"), "read_only"), ValueError, "read-only"),
    ("logits", lambda X: X[:, :3], ValueError, "out: must not share memory with X"),
    ("logits", lambda X: X.reshape(-1)[:6].reshape(2, 3), ValueError, "out: must not share memory with X"),
    ("logits", lambda X: np.lib.stride_tricks.as_strided(np.full(3, 5, "f4"), (2, 3), (0, 4)), ValueError,
     "own place"),
    ("logits", lambda X: [[5.0] * 3] * 2, TypeError, "out: expected a NumPy array to write into, got list"),
])
def test_bad_out(output, make, error, message, backend):
    handle = MLP([5, 3], seed=0).compile_predict(output=output)
    X = np.full((2, 5), 5, "f4")
    out = make(X)
    with pytest.raises(error, match=message):
        handle(X, out)
    assert (np.asarray(out) == 5).all() and (X == 5).all()


@pytest.mark.parametrize("arguments, error, message", [
    ({"batch_size": 0}, ValueError, "batch_size: expected an integer from 1 up, got 0"),
    ({"batch_size": 2.5}, TypeError, "batch_size: expected an integer, got 2.5"),
    ({"output": "label"}, ValueError, "output: unknown name 'label', did you mean 'labels'"),
    ({"output": None}, TypeError, "output: expected one of logits, proba, labels, got None"),
    ({"threads": 0}, ValueError, "threads: expected an integer from 1 to 256, got 0"),
    ({"threads": "2"}, TypeError, "threads: expected an integer, got '2'"),
])
def test_bad_arguments(arguments, error, message, backend):
    with pytest.raises(error, match=message):
        MLP([5, 3], seed=0).compile_predict(**arguments)


def test_while_another_thread_trains(backend, trained_elsewhere):
    model = MLP([3, 8, 2], seed=0)
    with trained_elsewhere(model), pytest.raises(
            RuntimeError, match="trained by another thread; compile it in a callback or"):
        model.compile_predict()
    model.compile_predict()


# The object ------------------------------------------------------------------------------------------------

def test_what_it_says_of_itself(backend, dtype):
    model = MLP([5, 9, 3], dtype=dtype, seed=0)
    handle = model.compile_predict(batch_size=4)
    assert repr(handle) == f"InferenceHandle([5, 9, 3], output='logits', dtype='{dtype}', batch_size=4)"
    assert "threads=2" in repr(model.compile_predict(threads=2))
    assert handle.nbytes >= sum(w.nbytes for w in model.weights)
    assert (handle.layers, handle.output, handle.dtype, handle.batch_size, handle.threads) == (
        (5, 9, 3), "logits", dtype, 4, 1)
    assert copy.copy(handle) is handle and copy.deepcopy(handle) is handle
    with pytest.raises(TypeError, match="cannot be pickled: its weights are packed"):
        pickle.dumps(handle)
    for name in ("batch_size", "layers", "output", "dtype", "threads", "predictor"):
        with pytest.raises(AttributeError, match=f"{name}: cannot be assigned, for a handle never changes"):
            setattr(handle, name, 9)
        with pytest.raises(AttributeError, match=name):
            delattr(handle, name)
    assert handle.batch_size == 4


# Threads ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layers", [[4, 16, 3], [100, 200, 50, 10], [300, 500, 100]], ids=str)
def test_many_threads_at_once(layers, backend, dtype, rng):
    model = MLP(layers, activation=LeakyReLU(0.1), batch_norm=BatchNorm(), dtype=dtype, seed=0)
    X = samples(rng, 400, layers[0], dtype)
    expected = {output: of(model, X) for output, of in OF.items()}
    handles = {output: model.compile_predict(output=output) for output in OF}
    start = threading.Barrier(8)

    def work(seed):
        random = np.random.default_rng(seed)
        start.wait()
        for _ in range(150 if backend == "cython" else 3):
            output = list(OF)[random.integers(3)]
            first, rows = random.integers(0, 350), random.integers(1, 50)
            part = slice(first, first + rows)
            assert_same(handles[output](X[part]), expected[output][part], backend, dtype)

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, seed) for seed in range(8)]:
            done.result()


def test_nothing_is_allocated(dtype, rng):
    """By Python; nor scratch, but for every processor that the thread may run on."""
    with fastmlp.use_backend("cython"):
        handle = MLP([30, 40, 3], dtype=dtype, seed=0).compile_predict()
    X, out = samples(rng, 50, 30, dtype), np.empty((50, 3), dtype)
    first = handle.nbytes
    for _ in range(10):
        handle(X, out)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(100):
            handle(X, out)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 2000 and after - before < 1000
    assert handle.nbytes <= (1 + os.cpu_count()) * first
