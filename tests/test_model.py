"""MLP: shapes, initialisation, live parameters, every kind of input, gradients, fit, and bad input."""
from __future__ import annotations

import builtins
import io
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from functools import partial

import numpy as np
import pytest
from conftest import LAYOUTS, assert_same, lay_out
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
import fastmlp.functional as F
from fastmlp import MLP, SGD, AdamW, LeakyReLU, ReLU, Tanh, activations, backends, losses
from fastmlp._core import checks
from fastmlp._core.layout import LINE, Parameters, padded_row
from fastmlp.schedules import OneCycle

ACTIVATIONS = [*activations.BY_NAME, LeakyReLU(0.3)]
OTHER = {"float32": "float64", "float64": "float32"}


def bits(model):
    """The bits of all parameters."""
    return b"".join(a.tobytes() for a in [*model.weights, *model.biases])


def classes(rng, n=40, inputs=4, outputs=3):
    return rng.standard_normal((n, inputs)), rng.integers(0, outputs, n)


def tolerance(dtype, factor=64):
    eps = float(np.finfo(dtype).eps)
    return {"rtol": factor * eps, "atol": factor * eps}


def fit(model, X, y, **options):
    return model.fit(X, y, **{"progress": False, **options})


# Making a model -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layers", [[4, 3], [1, 1], [4, 5, 3], (7, 33, 17, 3), [2] * 9, np.array([5, 6, 2])],
                         ids=str)
def test_shapes(layers, backend, dtype, rng):
    model = MLP(layers, loss="cross_entropy", dtype=dtype, seed=0)
    sizes = [int(n) for n in layers]
    assert list(model.layers) == sizes
    assert model.dtype == dtype
    assert [w.shape for w in model.weights] == list(zip(sizes, sizes[1:]))
    assert [b.shape for b in model.biases] == [(n,) for n in sizes[1:]]
    for n in (0, 1, 5):
        X = rng.standard_normal((n, sizes[0]))
        logits = model.forward(X)
        assert logits.shape == (n, sizes[-1]) and logits.dtype == dtype
        assert model.predict(X).shape == (n,)
        probabilities = model.predict_proba(X)
        assert probabilities.shape == (n, sizes[-1]) and probabilities.dtype == dtype
        assert_allclose(probabilities.sum(axis=1), 1, **tolerance(dtype))
        assert_array_equal(model.predict(X), logits.argmax(axis=1))
        assert_same(probabilities, F.softmax(logits), backend, dtype)


@pytest.mark.parametrize("layers", [[4, 3], [4, 9, 6, 5, 3], [2] * 14], ids=str)
def test_forward_is_the_chain_of_layers(layers, backend, dtype, rng):
    names = [ACTIVATIONS[i % len(ACTIVATIONS)] for i in range(len(layers) - 2)]
    model = MLP(layers, activation=names, dtype=dtype, seed=0)
    X = rng.standard_normal((11, layers[0])).astype(dtype)
    y = X
    for b in model.biases:
        b[...] = rng.standard_normal(b.shape)
    for w, b, name in zip(model.weights, model.biases, [*names, "identity"]):
        y = F.dense_forward(y, w, b, name)
    if backend == "cython":
        assert_array_equal(model.forward(X), y)
    else:
        assert_allclose(model.forward(X), y, **tolerance(dtype))


def test_activation_per_layer(rng):
    model = MLP([4, 5, 6, 3], activation=["tanh", LeakyReLU(0.2)], seed=0)
    assert model.activations == (Tanh(), LeakyReLU(0.2), activations.Identity())
    assert MLP([4, 5, 6, 3], activation=ReLU).activations[:-1] == (ReLU(), ReLU())
    assert MLP([4, 3], activation=[]).activations == (activations.Identity(),)
    assert "tanh" in repr(model) and "[4, 5, 6, 3]" in repr(model)


VARIANCES = {
    "he_normal": lambda i, o: 2 / i, "he_uniform": lambda i, o: 2 / i,
    "glorot_normal": lambda i, o: 2 / (i + o), "glorot_uniform": lambda i, o: 2 / (i + o),
}


@pytest.mark.parametrize("init", VARIANCES)
def test_init(init, dtype):
    model = MLP([300, 200, 100], init=init, dtype=dtype, seed=3)
    for w in model.weights:
        variance = VARIANCES[init](*w.shape)
        assert abs(w.var() / variance - 1) < 0.05
        assert abs(w.mean()) < 4 * math.sqrt(variance / w.size)
        kurtosis = (w.astype(float)**4).mean() / w.astype(float).var()**2
        assert abs(kurtosis - (3 if "normal" in init else 1.8)) < 0.15
        if "uniform" in init:
            assert abs(w).max() <= math.sqrt(3 * variance) * (1 + 1e-6)
    assert all((b == 0).all() for b in model.biases)


def test_auto_init_fits_the_activation():
    model = MLP([300, 200, 250, 200, 100], activation=["selu", "relu", "tanh"], seed=0)
    lecun, *glorot = model.weights
    assert abs(lecun.var() * 300 - 1) < 0.05
    for w in glorot:
        assert abs(w.var() * sum(w.shape) / 2 - 1) < 0.05
        assert abs(w).max() <= math.sqrt(6 / sum(w.shape)) * (1 + 1e-6)


def test_seed(backend):
    layers = [5, 8, 3]
    for dtype in ("float32", "float64"):
        assert bits(MLP(layers, dtype=dtype, seed=4)) == bits(MLP(layers, dtype=dtype, seed=np.int64(4)))
        assert bits(MLP(layers, dtype=dtype, seed=4)) != bits(MLP(layers, dtype=dtype, seed=5))
        assert bits(MLP(layers, dtype=dtype)) != bits(MLP(layers, dtype=dtype))
    narrow, wide = MLP(layers, seed=4), MLP(layers, dtype="float64", seed=4)
    for a, b in zip(narrow.weights, wide.weights):
        assert_array_equal(a, b.astype(np.float32))


def test_backends_start_alike():
    with backends.use_backend("numpy"):
        plain = MLP([5, 8, 3], seed=4)
    assert bits(plain) == bits(MLP([5, 8, 3], seed=4))
    assert plain.backend is not MLP([5, 8, 3]).backend


@pytest.mark.parametrize("spelling", ["float64", np.float64, np.dtype("float64"), float, "d"])
def test_dtype_spellings(spelling):
    assert MLP([2, 2], dtype=spelling).weights[0].dtype == np.float64


# Parameters in memory -------------------------------------------------------------------------------------

def test_padded_row():
    for itemsize in (4, 8):
        for n in range(1, 700):
            row = padded_row(n, itemsize)
            lines, rest = divmod(row * itemsize, LINE)
            assert rest == 0 and n <= row < n + 2 * LINE // itemsize
            assert lines < 4 or lines % 2 == 1


def test_parameters(dtype):
    parameters = Parameters([7, 33, 1, 3], dtype)
    assert parameters.buffer.ctypes.data % LINE == 0
    assert not parameters.buffer.any()
    for i, (w, b) in enumerate(zip(parameters.weights, parameters.biases)):
        at_w, at_b, at_scale = parameters.offsets[i]
        assert at_scale == -1 and parameters.scales[i] is None
        w[...], b[...] = i + 1, -i - 1
        assert parameters.buffer[at_w] == i + 1 and parameters.buffer[at_b] == -i - 1
        assert w.strides[0] % LINE == 0 and w.ctypes.data % LINE == 0 and b.ctypes.data % LINE == 0
        assert np.shares_memory(w, parameters.buffer) and np.shares_memory(b, parameters.buffer)
    sizes = sum(w.size for w in parameters.weights), sum(b.size for b in parameters.biases)
    assert np.count_nonzero(parameters.buffer) == sum(sizes)        # nothing overlaps


def pads(model):
    """How many elements of the buffer that are no parameters are not zero."""
    flat = model.core.parameters.buffer.copy()
    copy = Parameters(model.layers, model.dtype)
    copy.buffer[...] = flat
    for a in [*copy.weights, *copy.biases]:
        a[...] = 0
    return np.count_nonzero(copy.buffer)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_pads_stay_zero(activation, backend, dtype, rng):
    model = MLP([5, 33, 17, 3], activation=activation, dtype=dtype, seed=0)
    X, y = classes(rng, 50, 5)
    optimizer = SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    fit(model, X, y, epochs=3, batch_size=16, optimizer=optimizer)
    fit(model, X, y, epochs=1, batch_size=7, optimizer=SGD(0.1, weight_decay=0.01))
    assert pads(model) == 0
    loss, gradients = model.loss_and_gradients(X, y)
    assert pads(model) == 0
    velocity = optimizer.velocity(model.core.parameters)
    for a in [*velocity.weights, *velocity.biases]:
        a[...] = 0
    assert not velocity.buffer.any()


def test_parameters_are_live(backend, dtype, rng):
    model = MLP([4, 6, 3], dtype=dtype, seed=0)
    X, y = classes(rng)
    before = model.forward(X)
    model.biases[-1][...] += 1
    assert_allclose(model.forward(X), before + 1, **tolerance(dtype))
    model.weights[0][...] = 0
    model.biases[0][...] = 1
    assert_allclose(model.forward(X), np.tile(model.weights[1].sum(axis=0) + model.biases[1], (len(X), 1)),
                    **tolerance(dtype))
    alias = model.weights[1]
    model.train_step(X, y, SGD(0.1))
    assert alias is model.weights[1]
    # what was written is what is trained: backpropagation goes through the new weights
    a, b = MLP([4, 6, 3], dtype=dtype, seed=1), MLP([4, 6, 3], dtype=dtype, seed=2)
    a.train_step(X, y, SGD(0.1))
    b.train_step(X, y, SGD(0.1))
    for mine, other in zip([*a.weights, *a.biases], [*b.weights, *b.biases]):
        mine[...] = other
    for _ in range(2):
        assert_same(a.train_step(X, y, SGD(0.1)), b.train_step(X, y, SGD(0.1)), backend, dtype)
    assert_same(a, b, backend, dtype)


def test_models_do_not_share(backend, rng):
    X, y = classes(rng)
    a, b = MLP([4, 6, 3], seed=0), MLP([4, 6, 3], seed=0)
    before = bits(b)
    fit(a, X, y, epochs=1)
    assert bits(b) == before != bits(a)


# Every kind of X ------------------------------------------------------------------------------------------

NUMBERS = ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16",
           "float32", "float64", "longdouble", ">f4", ">f8", ">i2", "<f4", "<i8", ">u4", ">f2"]


def numbers(rng, name, shape):
    dtype = np.dtype(name)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(max(info.min, -100), min(info.max, 250), shape).astype(dtype)
    return (rng.standard_normal(shape) * 3).astype(dtype)


@pytest.mark.parametrize("name", NUMBERS)
def test_every_dtype(name, backend, dtype, rng):
    """The same as with the converted copy in every call that takes X."""
    X, y = numbers(rng, name, (37, 5)), rng.integers(0, 3, 37)
    converted = X.astype(dtype)
    one, two = MLP([5, 9, 3], dtype=dtype, seed=0), MLP([5, 9, 3], dtype=dtype, seed=0)
    before = X.tobytes()
    same = partial(assert_same, backend=backend, dtype=dtype)
    same(one.forward(X), two.forward(converted))
    same(one.forward(X, out=np.empty((37, 3), dtype)), two.forward(converted))
    assert_array_equal(one.predict(X), two.predict(converted))
    same(one.predict_proba(X), two.predict_proba(converted))
    same([*one.evaluate(X, y).values()], [*two.evaluate(converted, y).values()])
    loss, gradients = one.loss_and_gradients(X, y)
    loss2, gradients2 = two.loss_and_gradients(converted, y)
    same(loss, loss2)
    same(gradients.weights + gradients.biases, gradients2.weights + gradients2.biases)
    same(one.train_step(X, y, SGD(1e-5)), two.train_step(converted, y, SGD(1e-5)))
    for shuffle in (False, True):
        a = fit(one, X, y, epochs=2, batch_size=8, optimizer=SGD(1e-5), shuffle=shuffle)
        b = fit(two, converted, y, epochs=2, batch_size=8, optimizer=SGD(1e-5), shuffle=shuffle)
        same(a.loss, b.loss)
    same(one, two)
    assert X.tobytes() == before


@pytest.mark.parametrize("name", ["float32", "float64", "int32", "uint8"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout, name, backend, dtype, rng):
    for shape in ((1, 5), (37, 5), (9, 128)):       # rows of 128 float32 are 512 bytes apart
        X, y = numbers(rng, name, shape), rng.integers(0, 3, shape[0])
        laid_out = lay_out(X, layout)
        one, two = (MLP([shape[1], 9, 3], dtype=dtype, seed=0) for _ in range(2))
        assert_same(one.forward(laid_out), two.forward(X), backend, dtype)
        for model, data in ((one, laid_out), (two, X)):
            fit(model, data, y, epochs=2, batch_size=8, optimizer=SGD(1e-5))
            model.train_step(data, y, SGD(1e-5))
        assert_same(one, two, backend, dtype)
        assert_array_equal(laid_out, X)


def test_lists_and_subclasses(backend):
    model = MLP([2, 3, 2], seed=0)
    rows = [[0, 1], [2.5, 3]]
    expected = model.forward(np.array(rows))
    assert_same(model.forward(rows), expected, backend, model.dtype)
    assert_same(model.forward(tuple(map(tuple, rows))), expected, backend, model.dtype)
    assert_array_equal(model.predict(rows), expected.argmax(axis=1))
    assert fit(model, rows, [0, 1], epochs=1).loss


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_matrix(backend):
    model = MLP([2, 3, 2], seed=0)
    rows = np.asmatrix([[0, 1], [2.5, 3]])
    assert type(model.forward(rows)) is np.ndarray
    assert_same(model.forward(rows), model.forward(np.asarray(rows)), backend, model.dtype)


def test_memory_map(backend, dtype, rng, tmp_path):
    X, y = numbers(rng, "uint8", (50, 6)), rng.integers(0, 3, 50)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    one, two = (MLP([6, 9, 3], dtype=dtype, seed=0) for _ in range(2))
    fit(one, mapped, y, epochs=2, batch_size=8)
    fit(two, X, y, epochs=2, batch_size=8)
    assert_same(one, two, backend, dtype)
    assert_same(one.forward(mapped), two.forward(X), backend, dtype)


def test_float16_is_exact(backend, dtype):
    """All 65536 patterns, through a network that passes its input on."""
    X = np.arange(65536, dtype=np.uint16).view(np.float16)[:, None]
    model = MLP([1, 1], loss="mean_squared_error", dtype=dtype)
    model.weights[0][...] = 1
    assert_array_equal(model.forward(X), X.astype(dtype))


def test_integers_are_rounded_once(backend, dtype):
    X = np.array([2**24 + 1, 2**31, 2**53 + 1, 2**62 + 2**38 + 1, 2**63 - 1, -2**63, 2**24 + 3])[:, None]
    model = MLP([1, 1], loss="mean_squared_error", dtype=dtype)
    model.weights[0][...] = 1
    assert_array_equal(model.forward(X), X.astype(dtype))
    unsigned = np.array([2**64 - 1, 2**63 + 2**39 + 1, 2**24 + 1], np.uint64)[:, None]
    assert_array_equal(model.forward(unsigned), unsigned.astype(dtype))


# Output arrays --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "read_only"])
@pytest.mark.parametrize("n", [0, 1, 2, 100, 5000])
def test_out(n, layout, backend, dtype, rng):
    model = MLP([4, 6, 3], dtype=dtype, seed=0)
    X = rng.standard_normal((n, 4)).astype(dtype)
    out = lay_out(np.full((n, 3), 77, dtype), layout)
    assert model.forward(X, out) is out
    assert_same(out, model.forward(X), backend, dtype)
    if layout == "padded_rows" and n:
        assert (out.base[:, 3:] == 99).all()


def test_bad_out(backend, dtype, rng):
    model = MLP([4, 6, 4], dtype=dtype, seed=0)
    X = rng.standard_normal((5, 4)).astype(dtype)
    good = np.full((5, 4), 77, dtype)
    read_only = good.copy()
    read_only.flags.writeable = False
    same_place = np.lib.stride_tricks.as_strided(good, good.shape, (0, good.itemsize))
    both = np.zeros((6, 4), dtype)
    before = X.copy()
    for error, message, wrong in [
        (TypeError, "dtype", good.astype(OTHER[dtype.name])), (TypeError, "dtype", good.astype(int)),
        (ValueError, "shape", good[:4]), (ValueError, "shape", good[:, :3]), (ValueError, "shape", good[0]),
        (ValueError, "read-only", read_only), (ValueError, "share memory", X),
        (ValueError, "own place", same_place),
        (TypeError, "NumPy array", good.tolist()), (TypeError, "NumPy array", memoryview(good)),
        (TypeError, "masked", np.ma.masked_array(good)), (ValueError, "share memory", X[::-1]),
    ]:
        with pytest.raises(error, match=rf"^out\b.*{message}"):
            model.forward(X, out=wrong)
    assert_array_equal(X, before)
    assert (good == 77).all()
    with pytest.raises(ValueError, match="^out.*share memory with X"):
        model.forward(both[1:], out=both[:-1])
    assert not both.any()


def test_out_between_the_elements_of_x(backend, dtype, rng):
    """No element is shared, though the ranges of addresses overlap."""
    model = MLP([4, 6, 4], dtype=dtype, seed=0)
    both = rng.standard_normal((10, 8)).astype(dtype)
    X, out = both[:, ::2], both[:, 1::2]
    expected = model.forward(X.copy())
    assert_same(model.forward(X, out), expected, backend, dtype)


def test_result_is_new(backend):
    model = MLP([2, 3, 2], seed=0)
    X = np.ones((3, 2), np.float32)
    first = model.forward(X)
    copy = first.copy()
    model.forward(-X)
    assert_array_equal(first, copy)


# predict, evaluate ----------------------------------------------------------------------------------------

def test_predict_values(backend, dtype, rng):
    X = rng.standard_normal((6, 4))
    model = MLP([4, 5, 2], loss="mean_squared_error", dtype=dtype, seed=0)
    assert_same(model.predict(X), model.forward(X), backend, dtype)
    model = MLP([4, 5, 1], loss="mean_squared_error", dtype=dtype, seed=0)
    assert_same(model.predict(X), model.forward(X)[:, 0], backend, dtype)
    with pytest.raises(AttributeError, match="predict_proba"):
        model.predict_proba(X)


@pytest.mark.parametrize("n", [1, 37, 10_000])
def test_evaluate(n, backend, dtype, rng):
    X, y = classes(rng, n)
    model = MLP([4, 5, 3], dtype=dtype, seed=0)
    result = model.evaluate(X, y)
    log_p = F.log_softmax(model.forward(X)).astype(np.float64)
    assert_allclose(result["loss"], -log_p[np.arange(n), y].mean(), rtol=1e-5)
    assert_allclose(result["accuracy"], (model.predict(X) == y).mean(), rtol=1e-12)
    one_hot = np.eye(3)[y]
    for targets in (one_hot, one_hot.astype(np.uint8), one_hot.astype(bool), y[:, None], y.astype(np.uint8),
                    y.tolist()):
        other = model.evaluate(X, targets)
        assert_allclose([other["loss"], other["accuracy"]], [result["loss"], result["accuracy"]], rtol=1e-5)
    values = MLP([4, 5, 3], loss="mean_squared_error", dtype=dtype, seed=0)
    assert_allclose(values.evaluate(X, one_hot)["loss"], ((values.forward(X) - one_hot)**2).mean(), rtol=1e-5)
    assert list(values.evaluate(X, one_hot)) == ["loss", "r2"]
    assert list(values.evaluate(X, one_hot, metrics=())) == ["loss"]


def test_evaluate_nothing(backend):
    with pytest.raises(ValueError, match="^X.*at least one row"):
        MLP([4, 3]).evaluate(np.empty((0, 4)), np.empty(0, int))


# Rows that are NaN ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("loss, outputs", [
    ("cross_entropy", 3), ("binary_cross_entropy", 1), ("hinge", 2), ("multiclass_hinge", 3),
    ("mean_squared_error", 1), ("poisson", 2)])
@pytest.mark.parametrize("n, bad", [(1, [0]), (2, [1]), (100, [7, 8, 99]), (9000, [8999]), (9000, [3, 8000])])
def test_rows_with_nan_warn(n, bad, loss, outputs, backend, dtype, rng):
    """Once a call, with their number and the first; predictions are what the NaN outputs give."""
    model = MLP([4, 6, outputs], loss=loss, dtype=dtype, seed=0)
    X = rng.standard_normal((n, 4))
    X[bad, 2] = np.nan
    message = f"outputs of {len(bad)} of {n} rows are NaN, the first in row {bad[0]}: X"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        outputs = model.forward(X)
        good = model.predict(np.nan_to_num(X))
    assert np.array_equal(np.flatnonzero(np.isnan(outputs).any(axis=1)), bad)
    calls = {"predict": lambda: model.predict(X)}
    if loss.endswith("cross_entropy"):
        calls["predict_proba"] = lambda: model.predict_proba(X)
    y = np.ones(n, int) if model.loss.classifies else np.ones((n, model.layers[-1]))
    calls["evaluate"] = lambda: model.evaluate(X, y, metrics=())
    for name, call in calls.items():
        with pytest.warns(RuntimeWarning, match=f"^{name}: the {message}") as raised:
            result = call()
        assert len(raised) == 1 and raised[0].filename == __file__
        if name == "predict":
            assert_same(np.delete(result, bad, axis=0), np.delete(good, bad, axis=0), backend, dtype)
            if model.loss.classifies:
                assert_array_equal(result, outputs.argmax(axis=1))
        elif name == "evaluate":
            assert math.isnan(result["loss"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if len(bad) < n:            # what weighs nothing is not asked for
            model.evaluate(X, y, metrics=(), sample_weight=np.isfinite(X).all(axis=1).astype(float))


def test_outputs_that_are_large_or_infinite_do_not_warn(backend, dtype):
    model = MLP([2, 3], dtype=dtype, seed=0)
    model.weights[0][...] = [[1, -1, 0], [0, 0, 1]]
    info = np.finfo(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for value in (info.max, info.max / 2, info.tiny):
            model.biases[0][...] = [value, -value, np.inf]
            for n in (1, 2, 100):
                assert_array_equal(model.predict(np.zeros((n, 2))), np.full(n, 2))


def test_one_output_that_is_nan_warns(backend, dtype):
    """Of one class, whatever the others are."""
    for place in range(3):
        model = MLP([2, 3], dtype=dtype, seed=0)
        model.biases[0][place] = np.nan
        for n in (1, 5):
            for call in (model.predict, model.predict_proba):
                with pytest.warns(RuntimeWarning, match=f"outputs of {n} of {n} rows are NaN"):
                    call(np.zeros((n, 2)))


# More than memory -----------------------------------------------------------------------------------------

TERA = 10**12


@pytest.fixture(params=["this machine", "a small machine"])
def rows(request, monkeypatch):
    """More rows than memory holds, and so many columns are no more than a view."""
    if request.param == "this machine":
        return 1000 * TERA
    monkeypatch.setattr(checks, "memory_limit", lambda: float(1 << 30))
    return 10**9


def spread(shape, dtype):
    return np.broadcast_to(np.zeros((), dtype), shape)


def test_sizes_beyond_memory_are_refused(rows, backend, dtype):
    """At once, with the sizes, and not by the system when the memory is written to."""
    model = MLP([4, 6, 3], dtype=dtype, seed=0)
    X, y = spread((rows, 4), "float32"), spread((rows,), np.intp)
    values = MLP([4, 3], loss="mean_squared_error", dtype=dtype, seed=0)
    w, b = spread((4, 3), dtype), spread(3, dtype)
    calls = {
        "layers": [lambda: MLP([10**6, 10**10], dtype=dtype), lambda: MLP([rows, 2], dtype=dtype)],
        "batch_size": [lambda: model.workspace_nbytes(rows), lambda: model.workspace_nbytes(rows, SGD(0.1))],
        "X": [lambda: model.forward(X), lambda: model.predict(X), lambda: model.predict_proba(X),
              lambda: model.forward(spread((rows, 4), "uint8")),
              lambda: model.forward(spread((rows, 4), ">f8")),
              lambda: model.evaluate(X, y), lambda: model.train_step(X, y, SGD(0.1)),
              lambda: model.loss_and_gradients(X, y), lambda: values.evaluate(X, X[:, :3]),
              lambda: fit(model, X, y), lambda: fit(model, X, y, batch_size=None),
              lambda: fit(values, X, X[:, :3], shuffle=False)],
        "validation_data X": [lambda: fit(model, np.eye(4), [0, 1, 2, 0], validation_data=(X, y))],
        "(out|x)": [lambda: F.relu(spread((rows, 4), dtype)), lambda: F.softmax(spread((rows, 4), dtype)),
                    lambda: F.dense_forward(spread((rows, 4), dtype), w, b)],
    }
    before, started = bits(model), time.perf_counter()
    for name, refused in calls.items():
        for call in refused:
            with pytest.raises((MemoryError, ValueError), match=rf"^{name}\b.* [\d.e+]+ [KMGTPEZ]iB"):
                call()
    assert bits(model) == before
    assert time.perf_counter() - started < 10


def test_batches_beyond_memory_are_refused(monkeypatch, backend, rng):
    """What a batch needs is more than its samples are: a wide hidden layer."""
    monkeypatch.setattr(checks, "memory_limit", lambda: float(1 << 30))
    X, y = spread((10**6, 1), "uint8"), spread(10**6, np.intp)
    model = MLP([1, 1000, 2], seed=0)
    before = bits(model)
    for call in (lambda: fit(model, X, y, batch_size=None), lambda: fit(model, X, y, batch_size=10**6),
                 lambda: model.train_step(X, y, SGD(0.1)), lambda: model.loss_and_gradients(X, y)):
        with pytest.raises(MemoryError, match=r"^(X|batch_size): training in batches of 1000000 takes [\d.]+ "
                                              r"GiB, more bytes than this process may use: 1 GiB"):
            call()
    assert bits(model) == before
    fit(model, X[:2000], y[:2000], batch_size=10**12, epochs=1)         # no more than there are


def test_what_fits_is_not_refused(monkeypatch, backend):
    """The limit is that of the machine, not of what is free; where none is known there is none."""
    for limit in (float(1 << 30), math.inf):
        monkeypatch.setattr(checks, "memory_limit", lambda limit=limit: limit)
        assert MLP([4, 3], seed=0).forward(spread((10**6, 4), "uint8")).shape == (10**6, 3)
        checks.addressable("x", (1 << 27,), np.dtype("float64"))
        checks.fits_memory("x", 1 << 30, "all of it")
    with pytest.raises(ValueError, match="^x: .*more bytes than memory can address"):
        checks.fits_memory("x", sys.maxsize + 1, "more")


def test_where_the_memory_is_not_known(monkeypatch):
    """An array is tried."""
    monkeypatch.setattr(checks, "memory_limit", lambda: math.inf)
    with pytest.raises(MemoryError, match="^x: all takes 32 PiB, more bytes than there are"):
        checks.fits_memory("x", 1 << 55, "all")


MEMINFO = "MemTotal:       16000000 kB\nMemFree:  1 kB\nSwapTotal:       4000000 kB\n"


@pytest.mark.parametrize("files, expected", [
    ({"meminfo": MEMINFO}, 20_000_000 << 10),
    ({"meminfo": MEMINFO, "memory.max": "max\n", "memory.swap.max": "max\n"}, 20_000_000 << 10),
    ({"meminfo": MEMINFO, "memory.max": "1000000\n", "memory.swap.max": "0\n"}, 1_000_000),
    ({"meminfo": MEMINFO, "memory.max": "1000000\n", "memory.swap.max": "max\n"},
     1_000_000 + (4_000_000 << 10)),
    ({"meminfo": MEMINFO, "memory/memory.limit_in_bytes": "1000000\n"}, 1_000_000 + (4_000_000 << 10)),
    ({"meminfo": MEMINFO, "memory/memory.limit_in_bytes": "9223372036854771712\n"}, 20_000_000 << 10),
    ({"meminfo": "MemTotal: what\n"}, math.inf), ({"meminfo": ""}, math.inf), ({}, math.inf),
])
def test_memory_limit(files, expected, monkeypatch):
    def opened(name, *args, **kwargs):
        key = name.removeprefix("/proc/").removeprefix("/sys/fs/cgroup/")
        if key not in files:
            raise FileNotFoundError(name)
        return io.StringIO(files[key])

    monkeypatch.setattr(builtins, "open", opened)
    limit = checks.memory_limit()
    monkeypatch.undo()
    assert limit == expected


# Gradients ------------------------------------------------------------------------------------------------

TARGETS = {
    "indices": ("cross_entropy", lambda rng, n, m: rng.integers(0, m, n)),
    "probabilities": ("cross_entropy", lambda rng, n, m: rng.dirichlet(np.ones(m), n)),
    "values": ("mean_squared_error", lambda rng, n, m: rng.standard_normal((n, m))),
}


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_gradients_against_finite_differences(activation, kind, backend, rng):
    loss_name, targets = TARGETS[kind]
    for layers in ([3, 2], [3, 5, 4, 2]):
        model = MLP(layers, activation=activation, loss=loss_name, dtype="float64", seed=0)
        for b in model.biases:
            b[...] = rng.standard_normal(b.shape) / 4
        X, y = rng.standard_normal((6, 3)), targets(rng, 6, 2)
        before = bits(model)
        loss, gradients = model.loss_and_gradients(X, y)
        assert bits(model) == before
        assert isinstance(loss, float)
        assert_allclose(loss, model.evaluate(X, y)["loss"], rtol=1e-13)
        step = 1e-6
        for array, gradient in zip(model.weights + model.biases, gradients.weights + gradients.biases):
            assert gradient.shape == array.shape and gradient.dtype == array.dtype
            for i in np.ndindex(array.shape):
                value = array[i]
                array[i] = value + step
                above = model.loss_and_gradients(X, y)[0]
                array[i] = value - step
                numerical = (above - model.loss_and_gradients(X, y)[0]) / (2 * step)
                array[i] = value
                assert_allclose(gradient[i], numerical, rtol=1e-6, atol=1e-8)
        assert bits(model) == before


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_gradients_against_numpy(activation, kind, dtype, rng):
    loss_name, targets = TARGETS[kind]
    for layers, n in [([1, 1], 1), ([7, 33, 17, 3], 7), ([65, 100, 10], 130), ([5, 1, 4], 600), ([2] * 9, 3),
                      ([300, 20, 2], 1)]:
        models = []
        for name in backends.NAMES:
            with backends.use_backend(name):
                models.append(MLP(layers, activation=activation, loss=loss_name, dtype=dtype, seed=0))
        X, y = rng.standard_normal((n, layers[0])), targets(rng, n, layers[-1])
        (loss, mine), (loss2, spec) = (model.loss_and_gradients(X, y) for model in models)
        assert_allclose(loss, loss2, **tolerance(dtype))
        for a, b in zip(mine.weights + mine.biases, spec.weights + spec.biases):
            assert_allclose(a, b, rtol=1e-4 if dtype == np.float32 else 1e-11, atol=tolerance(dtype)["atol"])


def test_gradients_are_new(backend, rng):
    X, y = classes(rng)
    model = MLP([4, 5, 3], seed=0)
    first = model.loss_and_gradients(X, y)[1]
    copy = [w.copy() for w in first.weights]
    model.loss_and_gradients(X[:3], y[:3])
    model.train_step(X, y, SGD(0.1))
    for a, b in zip(first.weights, copy):
        assert_array_equal(a, b)


# One step -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True},
                                     {"weight_decay": 0.1}, {"momentum": 0.5, "weight_decay": 0.1}], ids=str)
def test_train_step_is_gradients_and_an_update(options, kind, backend, dtype, rng):
    loss_name, targets = TARGETS[kind]
    model = MLP([4, 9, 6, 3], loss=loss_name, dtype=dtype, seed=0)
    X, y = rng.standard_normal((17, 4)), targets(rng, 17, 3)
    expected = [a.astype(np.float64) for a in model.weights + model.biases]
    velocity = [np.zeros_like(a) for a in expected]
    optimizer = SGD(0.1, **options)
    for _ in range(3):
        loss, gradients = model.loss_and_gradients(X, y)
        assert model.train_step(X, y, optimizer) == pytest.approx(loss, rel=1e-6)
        for i, g in enumerate(gradients.weights + gradients.biases):
            decay = optimizer.weight_decay if i < len(model.weights) else 0
            g = g + decay * expected[i]
            velocity[i] = optimizer.momentum * velocity[i] + g
            step = g + optimizer.momentum * velocity[i] if optimizer.nesterov else velocity[i]
            expected[i] = expected[i] - 0.1 * (step if optimizer.momentum else g)
        for a, b in zip(model.weights + model.biases, expected):
            assert_allclose(a, b, rtol=1e-4 if dtype == np.float32 else 1e-12,
                            atol=1e-6 if dtype == np.float32 else 1e-14)


# fit ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("n, batch_size", [(40, 8), (41, 8), (7, 8), (8, 8), (9, 1), (5, 10**9)])
def test_fit_is_a_loop_of_steps(n, batch_size, backend, dtype, rng):
    """Also with a last batch that is smaller."""
    X, y = classes(rng, n)
    one, two = (MLP([4, 9, 3], dtype=dtype, seed=0) for _ in range(2))
    optimizers = SGD(0.1, momentum=0.9), SGD(0.1, momentum=0.9)
    history = fit(one, X, y, epochs=3, batch_size=batch_size, optimizer=optimizers[0], shuffle=False)
    means = []
    for _ in range(3):
        total = 0.0
        for start in range(0, n, batch_size):
            rows = slice(start, start + batch_size)
            total += two.train_step(X[rows], y[rows], optimizers[1]) * len(X[rows])
        means.append(total / n)
    assert_allclose(history.loss, means, rtol=1e-6)
    assert_same(one, two, backend, dtype)


def test_shuffle(backend, rng):
    X, y = classes(rng, 100)
    plain = fit(MLP([4, 3], dtype="float64", seed=0), X, y, epochs=3, batch_size=8, shuffle=False)
    mixed = fit(MLP([4, 3], dtype="float64", seed=0), X, y, epochs=3, batch_size=8)
    again = fit(MLP([4, 3], dtype="float64", seed=0), X, y, epochs=3, batch_size=8)
    assert_same(mixed.loss, again.loss, backend, "float64")
    assert abs(np.subtract(mixed.loss, plain.loss)).max() > 1e-6
    # every sample once an epoch: with steps that are too small to matter, the loss is that of the whole set
    for n, batch_size in ((100, 8), (97, 10), (5, 5)):
        model = MLP([4, 3], dtype="float64", seed=0)
        history = fit(model, X[:n], y[:n], epochs=2, batch_size=batch_size, optimizer=SGD(1e-30))
        assert_allclose(history.loss, model.evaluate(X[:n], y[:n])["loss"], rtol=1e-13)
    # a new order for every epoch: the same samples lead elsewhere
    model = MLP([4, 3], dtype="float64", seed=0)
    ways = []
    for _ in range(3):
        for a in model.weights + model.biases:
            a[...] = 0
        fit(model, X, y, epochs=1, batch_size=8)
        ways.append(bits(model))
    assert len(set(ways)) == 3


def test_history_and_validation(backend, dtype, rng):
    X, y = classes(rng, 50)
    model = MLP([4, 9, 3], dtype=dtype, seed=0)
    history = fit(model, X, y, epochs=4, validation_data=(X[:20], y[:20]))
    assert list(history) == ["loss", "samples_per_second", "val_loss", "val_accuracy"]
    assert all(len(values) == 4 for values in history.values())
    assert history.loss is history["loss"]
    assert all(isinstance(value, float) for values in history.values() for value in values)
    assert_same(history.val_loss[-1], model.evaluate(X[:20], y[:20])["loss"], backend, dtype)
    assert history.val_accuracy[-1] == model.evaluate(X[:20], y[:20])["accuracy"]
    with pytest.raises(AttributeError, match="val_f1.*loss"):
        print(history.val_f1)
    without = MLP([4, 9, 3], dtype=dtype, seed=0)
    assert list(fit(without, X, y, epochs=4)) == ["loss", "samples_per_second"]
    assert_same(without, model, backend, dtype)     # looking does not change anything
    values = MLP([4, 1], loss="mean_squared_error", dtype=dtype, seed=0)
    history = fit(values, X, X[:, 0], epochs=1, validation_data=[X, X[:, :1]])
    assert list(history) == ["loss", "samples_per_second", "val_loss", "val_r2"]


def test_no_epochs(backend, rng):
    X, y = classes(rng)
    model = MLP([4, 3], seed=0)
    before = bits(model)
    history = fit(model, X, y, epochs=0)
    assert history.loss == []
    assert bits(model) == before


def test_callbacks(backend, rng):
    X, y = classes(rng)
    model = MLP([4, 3], seed=0)
    seen = []

    def callback(which, epoch, logs):
        assert which is model
        seen.append((epoch, dict(logs)))
        logs.clear()                            # a copy, for nobody else

    def stop(which, epoch, logs):
        return epoch == 2

    history = fit(model, X, y, epochs=10, validation_data=(X, y), callbacks=iter([callback, stop]))
    assert [epoch for epoch, _ in seen] == [0, 1, 2]
    assert len(history.loss) == 3
    assert [logs["loss"] for _, logs in seen] == history.loss
    assert [logs["val_accuracy"] for _, logs in seen] == history.val_accuracy
    for truthy in (1, "yes", None, np.bool_(False)):
        assert len(fit(model, X, y, epochs=2, callbacks=[lambda *args, v=truthy: v]).loss) == 2

    def fail(*args):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        fit(model, X, y, callbacks=[fail])
    assert len(fit(model, X, y, epochs=1).loss) == 1


def test_callback_may_use_the_model(backend, rng):
    """Predicting, and even training, from inside a callback."""
    X, y = classes(rng)
    model = MLP([4, 6, 3], seed=0)

    def callback(model, epoch, logs):
        model.predict(X)
        model.loss_and_gradients(X[:5], y[:5])
        if epoch == 0:
            fit(model, X, y, epochs=1, batch_size=3)

    assert len(fit(model, X, y, epochs=3, batch_size=8, callbacks=[callback]).loss) == 3


@pytest.mark.parametrize("progress", ["bar", False])
def test_progress(progress, backend, rng, capsys):
    X, y = classes(rng)
    fit(MLP([4, 3], seed=0), X, y, epochs=2, validation_data=(X, y), progress=progress)
    out, err = capsys.readouterr()
    assert out == ""
    if progress:
        assert "epoch 1/2" in err and "epoch 2/2" in err and "samples/s" in err and "loss=" in err
        assert "val_accuracy=" in err
    else:
        assert err == ""


def test_optimizer_state_goes_on(backend, rng):
    X, y = classes(rng)
    one, two, three = (MLP([4, 6, 3], seed=0) for _ in range(3))
    optimizer = SGD(0.05, momentum=0.9)
    fit(one, X, y, epochs=4, optimizer=optimizer, batch_size=8, shuffle=False)
    fit(two, X, y, epochs=4, optimizer=optimizer, batch_size=8, shuffle=False)      # its own state
    assert_same(one, two, backend, one.dtype)
    same = SGD(0.05, momentum=0.9)
    for _ in range(4):
        fit(three, X, y, epochs=1, optimizer=same, batch_size=8, shuffle=False)
    assert_same(one, three, backend, one.dtype)
    fresh = MLP([4, 6, 3], seed=0)
    for _ in range(4):
        fit(fresh, X, y, epochs=1, optimizer=SGD(0.05, momentum=0.9), batch_size=8, shuffle=False)
    assert abs(fresh.weights[0] - one.weights[0]).max() > 1e-3


def test_learning_rate_can_be_changed_on_the_way(backend, rng):
    X, y = classes(rng)
    optimizer = SGD(0.1)
    model = MLP([4, 3], seed=0)
    model.train_step(X, y, optimizer)
    before = bits(model)
    optimizer.lr = 0.0
    model.train_step(X, y, optimizer)
    assert bits(model) == before


def test_default_optimizer(backend, rng):
    X, y = classes(rng)
    one, two = MLP([4, 3], seed=0), MLP([4, 3], seed=0)
    fit(one, X, y, epochs=2, batch_size=100)
    steps = 2 * -(-len(X) // 100)
    fit(two, X, y, epochs=2, batch_size=100, optimizer=AdamW(OneCycle(0.01, steps, warm_up=0.1)))
    assert_same(one, two, backend, one.dtype)


@pytest.mark.parametrize("spoil", ["lr", "X"])
def test_divergence_warns_once(spoil, backend, rng):
    X, y = classes(rng)
    model = MLP([4, 6, 3], seed=0)
    if spoil == "X":
        X[3, 1] = np.inf
    optimizer = SGD(1e30) if spoil == "lr" else SGD(0.1)
    with pytest.warns(RuntimeWarning, match="diverged") as raised:
        history = fit(model, X, y, epochs=6, optimizer=optimizer)
    assert sum("diverged" in str(warning.message) for warning in raised) == 1
    assert raised[-1].filename == __file__
    assert not np.isfinite(history.loss[-1])


def test_targets_of_every_kind(backend, dtype, rng):
    X, y = classes(rng)
    one_hot = np.eye(3)[y]

    def trained(loss, targets, outputs=3):
        model = MLP([4, 6, outputs], loss=loss, dtype=dtype, seed=0)
        before = np.array(targets).tobytes()
        fit(model, X, targets, epochs=2, batch_size=8)
        model.train_step(X, targets, SGD(0.1))
        assert np.array(targets).tobytes() == before
        return model

    same = partial(assert_same, backend=backend, dtype=dtype)
    expected = trained("cross_entropy", y)
    for name in ("int8", "uint8", "int32", "uint64", ">i4"):
        same(trained("cross_entropy", y.astype(name)), expected)
    for other in (y.tolist(), y[:, None], lay_out(y, "strided")):
        same(trained("cross_entropy", other), expected)
    expected = trained("cross_entropy", one_hot.astype(dtype))
    for name in ("float64", "float16", "uint8", "bool", "int64", "longdouble", ">f4"):
        same(trained("cross_entropy", one_hot.astype(name)), expected)
    for layout in LAYOUTS:
        same(trained("cross_entropy", lay_out(one_hot, layout)), expected)
    expected = trained("mean_squared_error", one_hot.astype(dtype))
    for name in ("float64", "float16", "uint8", "bool", ">f8"):
        same(trained("mean_squared_error", one_hot.astype(name)), expected)
    expected = trained("mean_squared_error", X[:, :1], 1)
    for column in (X[:, 0], X[::-1, 0][::-1]):
        same(trained("mean_squared_error", column, 1), expected)


def test_labels_and_one_hot_rows_mean_the_same(backend, dtype, rng):
    X, y = classes(rng)
    one, two = (MLP([4, 6, 3], dtype=dtype, seed=0) for _ in range(2))
    a = fit(one, X, y, epochs=3, batch_size=8)
    b = fit(two, X, np.eye(3)[y], epochs=3, batch_size=8)
    assert_allclose(a.loss, b.loss, **tolerance(dtype))
    for w, v in zip(one.weights, two.weights):
        assert_allclose(w, v, rtol=1e-4, atol=1e-5)


INTERRUPTED = """
import signal, sys, time
import numpy as np
import fastmlp
from fastmlp import MLP, SGD

signal.signal(signal.SIGINT, signal.default_int_handler)     # a background job inherits that it is ignored
fastmlp.set_backend(sys.argv[1])
rng = np.random.default_rng(0)
X, y = rng.integers(0, 255, (20000, 784)).astype(np.uint8), rng.integers(0, 10, 20000)
model = MLP([784, 256, 128, 10], seed=0)
before = model.weights[0].copy()
print("ready", flush=True)
try:
    model.fit(X, y, epochs=10**6, batch_size=128, optimizer=SGD(1e-4), progress=False)
except KeyboardInterrupt:
    print(time.time(), flush=True)
assert np.isfinite(model.weights[0]).all() and (model.weights[0] != before).any()
assert np.isfinite(model.forward(X[:100])).all()
assert np.isfinite(model.train_step(X[:100], y[:100], SGD(1e-4)))
print("usable")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_keyboard_interrupt(backend):
    """A real Ctrl-C is noticed within 0.2 s, and the model is usable after it."""
    delays = []
    while not delays or min(delays) > 0.2 and len(delays) < 3:      # a machine may be busy, but not always
        with subprocess.Popen([sys.executable, "-c", INTERRUPTED, backend], stdout=subprocess.PIPE, text=True,
                              env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}) as process:
            try:
                assert process.stdout.readline() == "ready\n"
                time.sleep(0.7)
                sent = time.time()
                process.send_signal(signal.SIGINT)
                delays.append(float(process.stdout.readline()) - sent)
                assert process.stdout.readline() == "usable\n"
                assert process.wait(timeout=30) == 0
            finally:
                process.kill()
    assert min(delays) < 0.2


# Bad input ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, error, message", [
    ({"layers": [4]}, ValueError, "^layers.*two"),
    ({"layers": []}, ValueError, "^layers.*two"),
    ({"layers": 4}, TypeError, "^layers"),
    ({"layers": [4, 0]}, ValueError, r"^layers\[1\].*got 0"),
    ({"layers": [-1, 3]}, ValueError, r"^layers\[0\].*got -1"),
    ({"layers": [4, 2.0, 3]}, TypeError, r"^layers\[1\].*integer.*2\.0"),
    ({"layers": [4, True]}, TypeError, r"^layers\[1\]"),
    ({"layers": "43"}, TypeError, r"^layers\[0\]"),
    ({"layers": [2**40, 2**40]}, ValueError, "^layers.*memory"),
    ({"layers": [2**62, 1]}, ValueError, "^layers.*memory"),
    ({"layers": [3 * 10**17, 1]}, ValueError, "^layers.*memory"),
    ({"layers": [10**30, 1]}, ValueError, "^layers.*memory"),
    ({"activation": "rellu"}, ValueError, "^activation.*rellu.*'relu'.*identity, relu, leaky_relu"),
    ({"activation": ["relu"]}, ValueError, "^activation.*2 hidden layers, got 1"),
    ({"activation": ["relu", "tanh", "relu"]}, ValueError, "^activation.*2 hidden layers, got 3"),
    ({"activation": ["relu", "thanh"]}, ValueError, "^activation.*thanh.*'tanh'"),
    ({"activation": np.tanh}, TypeError, "^activation"),
    ({"activation": None}, TypeError, "^activation"),
    ({"loss": "crosentropy"}, ValueError, "^loss.*'crosentropy'.*'cross_entropy'.*mean_squared_error"),
    ({"loss": "?"}, ValueError, "^loss.*Known: cross_entropy, kl_divergence"),
    ({"loss": None}, TypeError, "^loss"),
    ({"loss": losses.Loss()}, TypeError, "^loss"),
    ({"init": "he_norml"}, ValueError, "^init.*'he_norml'.*'he_normal'.*glorot_uniform"),
    ({"init": 0.1}, TypeError, "^init"),
    ({"dtype": "float16"}, TypeError, "^dtype.*float32 or float64.*float16"),
    ({"dtype": "int"}, TypeError, "^dtype"),
    ({"dtype": ">f4"}, TypeError, "^dtype"),
    ({"dtype": "nonsense"}, TypeError, "^dtype.*nonsense"),
    ({"seed": -1}, ValueError, "^seed.*-1"),
    ({"seed": 1.5}, TypeError, "^seed"),
    ({"seed": "0"}, TypeError, "^seed"),
], ids=str)
def test_bad_model(arguments, error, message, backend):
    with pytest.raises(error, match=message):
        MLP(**{"layers": [4, 5, 6, 3], **arguments})


def good(rng):
    X, y = classes(rng, 12)
    return X.astype(np.float32), y


def with_nan(a):
    a = np.array(a, float)
    a[-1, -1] = np.nan
    return a


CLASS_TARGETS = [
    (lambda y: y + 1, ValueError, "0 to 2, got 3 in row"),
    (lambda y: y - 1, ValueError, "0 to 2, got -1 in row"),
    (lambda y: (y - 1).astype(np.int8), ValueError, "got -1"),
    (lambda y: y.astype(np.uint64) + np.uint64(2**63), ValueError, "0 to 2"),
    (lambda y: y + 0.5, ValueError, r"class indices, whole numbers.*got \d.5 in row"),
    (lambda y: y.astype(str), TypeError, "words such as '"),
    (lambda y: [None] * len(y), TypeError, "objects such as None"),
    (lambda y: None, TypeError, "class indices or values, got None"),
    (lambda y: np.ma.masked_array(y), TypeError, "masked"),
    (lambda y: y[:-1], ValueError, r"\(12,\).*got \(11,\)"),
    (lambda y: y[0], ValueError, r"\(12,\)"),
    (lambda y: np.stack([y, y, y, y], 1), ValueError, r"\(rows, 3\), got \(12, 4\)"),
    (lambda y: np.full((12, 3), 0.4), ValueError, "sum to 1 .*got 1.2.* in row 0"),
    (lambda y: np.full((12, 3), 0.3), ValueError, "sum to 1"),
    (lambda y: np.eye(3)[y] * 1.01, ValueError, "sum to 1"),
    (lambda y: np.eye(3)[y] * 2 - np.roll(np.eye(3)[y], 1, axis=1), ValueError, "probabilities, got -1.0"),
    (lambda y: with_nan(np.eye(3)[y]), ValueError, r"NaN at \[11, 2\]"),
    (lambda y: np.eye(3)[y[:-1]], ValueError, "12 rows.*got 11"),
    (lambda y: np.eye(3, dtype=complex)[y], TypeError, "complex"),
    (lambda y: np.full((12, 3), np.inf), ValueError, "finite numbers, got inf|sum to 1"),
]
VALUE_TARGETS = [
    (lambda y: with_nan(np.eye(3)[y]), ValueError, r"NaN at \[11, 2\]"),
    (lambda y: y, ValueError, r"\(rows, 3\), got \(12,\)"),
    (lambda y: np.eye(4)[y], ValueError, r"\(rows, 3\), got \(12, 4\)"),
    (lambda y: np.eye(3)[y[1:]], ValueError, "12 rows.*got 11"),
    (lambda y: np.eye(3)[y].astype(str), TypeError, "numbers"),
    (lambda y: np.eye(3)[y].astype(object), TypeError, "numbers"),
    (lambda y: np.eye(3, dtype=complex)[y], TypeError, "complex"),
    (lambda y: "text", TypeError, "numbers|shape"),
]


def every_call(model):
    optimizer = SGD(0.1)
    return {
        "fit": lambda X, y: fit(model, X, y, optimizer=optimizer),
        "train_step": lambda X, y: model.train_step(X, y, optimizer),
        "loss_and_gradients": model.loss_and_gradients,
        "evaluate": model.evaluate,
    }


@pytest.mark.parametrize("call", ["fit", "train_step", "loss_and_gradients", "evaluate"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mean_squared_error"])
def test_bad_targets(loss, call, backend, dtype, rng):
    X, y = good(rng)
    model = MLP([4, 5, 3], loss=loss, dtype=dtype, seed=0)
    before = bits(model)
    for spoil, error, message in CLASS_TARGETS if loss == "cross_entropy" else VALUE_TARGETS:
        with pytest.raises(error, match=rf"(?s)^y\b.*({message})"):
            every_call(model)[call](X, spoil(y))
        assert bits(model) == before


BAD_X = [
    (lambda X: X[:, :3], ValueError, r"\(rows, 4\), got \(12, 3\)"),
    (lambda X: X[0], ValueError, r"\(rows, 4\), got \(4,\)"),
    (lambda X: X[:, :, None], ValueError, r"\(rows, 4\), got \(12, 4, 1\)"),
    (lambda X: X[0, 0], ValueError, r"\(rows, 4\), got \(\)"),
    (lambda X: X.astype(complex), TypeError, "complex128"),
    (lambda X: X.astype(object), TypeError, "object"),
    (lambda X: X.astype(str), TypeError, "<U"),
    (lambda X: X.astype("datetime64[s]"), TypeError, "datetime64"),
    (lambda X: np.ma.masked_array(X), TypeError, "masked"),
    (lambda X: np.zeros(12, [("a", "f4", 4)]), TypeError, "dtype"),
    (lambda X: "text", TypeError, "got the path"),
    (lambda X: None, TypeError, "got None"),
    (lambda X: [[1, 2, 3, 4], [1]], ValueError, "list"),
]


@pytest.mark.parametrize("call", ["fit", "train_step", "loss_and_gradients", "evaluate"])
def test_bad_X(call, backend, rng):
    X, y = good(rng)
    model = MLP([4, 5, 3], seed=0)
    before = bits(model)
    for spoil, error, message in [*BAD_X, (lambda X: X[:0], ValueError, "at least one row|got 0|shape")]:
        with pytest.raises(error, match=rf"^X\b.*({message})"):
            every_call(model)[call](spoil(X), y)
    with pytest.raises(ValueError, match="^X.*at least one row"):
        every_call(model)[call](X[:0], y[:0])
    with pytest.raises(ValueError, match="^y"):
        every_call(model)[call](X[:5], y)
    assert bits(model) == before


@pytest.mark.parametrize("call", ["forward", "predict", "predict_proba"])
def test_bad_X_for_inference(call, backend, rng):
    X, _ = good(rng)
    model = MLP([4, 5, 3], seed=0)
    before = bits(model)
    for spoil, error, message in BAD_X:
        with pytest.raises(error, match=rf"^X\b.*({message})"):
            getattr(model, call)(spoil(X))
    assert bits(model) == before


@pytest.mark.parametrize("options, error, message", [
    ({"epochs": -1}, ValueError, "^epochs.*-1"),
    ({"epochs": 1.5}, TypeError, "^epochs.*1.5"),
    ({"epochs": "3"}, TypeError, "^epochs"),
    ({"batch_size": 0}, ValueError, "^batch_size.*0"),
    ({"batch_size": -8}, ValueError, "^batch_size"),
    ({"batch_size": 8.0}, TypeError, "^batch_size"),
    ({"batch_size": "all"}, TypeError, "^batch_size"),
    ({"optimizer": "sdg"}, ValueError, "^optimizer.*'sdg'.*'sgd'"),
    ({"optimizer": dict}, TypeError, "^optimizer"),
    ({"optimizer": 0.1}, TypeError, "^optimizer"),
    ({"callbacks": 5}, TypeError, "callbacks"),
    ({"callbacks": [5]}, TypeError, "callbacks"),
    ({"callbacks": [print, "stop"]}, TypeError, "callbacks"),
    ({"callbacks": print}, TypeError, "callbacks"),
    ({"validation_data": 5}, TypeError, "^validation_data"),
    ({"validation_data": (1, 2, 3, 4)}, TypeError, "^validation_data"),
    ({"validation_data": np.zeros((2, 4))}, TypeError, "^validation_data"),
    ({"validation_data": (np.zeros((2, 3)), [0, 1])}, ValueError, r"^validation_data X.*\(rows, 4\)"),
    ({"validation_data": (np.zeros((0, 4)), [])}, ValueError, "^validation_data X.*at least one"),
    ({"validation_data": (np.zeros((2, 4)), [0, 3])}, ValueError, "^validation_data y.*got 3"),
    ({"validation_data": (np.zeros((2, 4)), [0])}, ValueError, "^validation_data y"),
], ids=str)
def test_bad_options_of_fit(options, error, message, backend, rng):
    X, y = good(rng)
    model = MLP([4, 5, 3], seed=0)
    before = bits(model)
    with pytest.raises(error, match=message):
        fit(model, X, y, **options)
    assert bits(model) == before


def test_bad_optimizer_of_train_step(backend, rng):
    X, y = good(rng)
    model = MLP([4, 5, 3], seed=0)
    before = bits(model)
    for wrong in ("sgd", SGD, 0.1, object()):
        with pytest.raises(TypeError, match="^optimizer"):
            model.train_step(X, y, wrong)
    assert bits(model) == before


@pytest.mark.parametrize("options, error, message", [
    ({"lr": -0.1}, ValueError, "^lr"), ({"lr": np.nan}, ValueError, "^lr"),
    ({"lr": np.inf}, ValueError, "^lr"),
    ({"lr": "0.1"}, TypeError, "^lr"), ({"lr": None}, TypeError, "^lr"),
    ({"momentum": -0.1}, ValueError, "^momentum"), ({"momentum": 1.1}, ValueError, "^momentum"),
    ({"momentum": "0.9"}, TypeError, "^momentum"),
    ({"weight_decay": -1}, ValueError, "^weight_decay"),
    ({"weight_decay": np.nan}, ValueError, "^weight_decay"),
    ({"nesterov": True}, ValueError, "^nesterov.*momentum"),
], ids=str)
def test_bad_optimizer(options, error, message):
    with pytest.raises(error, match=message):
        SGD(**options)
    assert repr(SGD(0.1, 0.9, True, 0.01)) == "SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)"


@pytest.mark.parametrize("wrong, error", [(0, ValueError), (-1, ValueError), (1.5, TypeError),
                                          ("8", TypeError)])
def test_bad_batch_size_of_workspace(wrong, error, backend):
    with pytest.raises(error, match="^batch_size"):
        MLP([4, 3]).workspace_nbytes(wrong)


def test_workspace_that_no_memory_could_hold():
    with pytest.raises((ValueError, OverflowError, MemoryError)):
        MLP([4, 3]).workspace_nbytes(2**60)


def test_public_names():
    for name in fastmlp.__all__:
        assert hasattr(fastmlp, name)
