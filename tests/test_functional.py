"""Every array function, on every backend, dtype, layout and ragged shape, against plain float64 formulas."""
from __future__ import annotations

import inspect
import math
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import LAYOUTS, StandIn, lay_out
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp.functional as F
from fastmlp import MLP, SGD, activations, backends
from fastmlp.backends import numpy as specification

pytestmark = pytest.mark.filterwarnings("error")

SHAPES = [(), (0,), (1,), (257,), (0, 5), (5, 0), (1, 1), (1, 33), (17, 1), (33, 17), (7, 100), (2, 3, 5)]
ROWS = [shape for shape in SHAPES if shape]
DENSE = [(0, 5, 3), (1, 1, 1), (1, 64, 64), (7, 1, 5), (5, 3, 1), (5, 0, 3), (17, 33, 10), (3, 100, 257),
         (33, 17, 16), (13, 300, 31), (130, 70, 50)]
OUT_LAYOUTS = [layout for layout in LAYOUTS if layout != "read_only"]
ACTIVATIONS = [*activations.BY_NAME, activations.LeakyReLU(0.3), activations.ELU(0.3)]


# The formulas, in float64, as a textbook has them; values in these tests are small enough for them. -------

def softmax64(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=-1, keepdims=True)


def log_softmax64(x):
    if x.size == 0:
        return x
    z = x - x.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


ERFC = np.vectorize(math.erfc, otypes="d")
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def sigmoid64(x):
    return 1 / (1 + np.exp(-np.maximum(x, -700)))


def cubic(x):
    return math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)


FORWARD = {
    "exp": np.exp,
    "relu": lambda x: np.where(x > 0, x, 0),
    "leaky_relu": lambda x, alpha=0.01: np.where(x > 0, x, alpha * x),
    "sigmoid": sigmoid64,
    "tanh": np.tanh,
    "elu": lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(x)),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x)),
    "softplus": lambda x: np.log1p(np.exp(x)),
    "gelu": lambda x: x * ERFC(-x / math.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x * sigmoid64(cubic(x)),
    "silu": lambda x: x * sigmoid64(x),
    "softmax": softmax64,
    "log_softmax": log_softmax64,
}
BACKWARD = {
    "relu_backward": lambda dy, y: dy * (y > 0),
    "leaky_relu_backward": lambda dy, y, alpha=0.01: np.where(y > 0, dy, alpha * dy),
    "sigmoid_backward": lambda dy, y: dy * y * (1 - y),
    "tanh_backward": lambda dy, y: dy * (1 - y**2),
    "elu_backward": lambda dy, y, alpha=1.0: dy * np.where(y > 0, 1, y + alpha),
    "selu_backward": lambda dy, y: dy * np.where(y > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA),
    "softplus_backward": lambda dy, y: dy * (1 - np.exp(-y)),
    "gelu_backward": lambda dy, x: dy * (
        ERFC(-x / math.sqrt(2)) / 2 + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)),
    "gelu_tanh_backward": lambda dy, x: dy * sigmoid64(cubic(x)) * (
        1 + x * sigmoid64(-cubic(x)) * math.sqrt(8 / math.pi) * (1 + 0.134145 * x**2)),
    "silu_backward": lambda dy, x: dy * sigmoid64(x) * (1 + x * sigmoid64(-x)),
    "softmax_backward": lambda dy, y: y * (dy - (dy * y).sum(axis=-1, keepdims=True)),
    "log_softmax_backward": lambda dy, y: dy - np.exp(y) * dy.sum(axis=-1, keepdims=True),
}
GATED = ["gelu", "gelu_tanh", "silu"]           # their backward takes x
ELEMENTWISE = ["exp", "log", "relu", "leaky_relu", "sigmoid", "tanh", "elu", "selu", "softplus", *GATED]


def forward64(name, x, *options):
    return np.log(x) if name == "log" else FORWARD[name](x, *options)


def tolerance(dtype, scale=1.0):
    """Some units in the last place of the result, and of terms of size `scale` where they cancel."""
    eps = float(np.finfo(dtype).eps)
    return {"rtol": 16 * eps, "atol": 16 * eps * scale}


def shapes_of(name):
    return ROWS if "softmax" in name else SHAPES


def samples(rng, name, shape, dtype):
    x = rng.standard_normal(shape) * 3
    return np.asarray(np.abs(x) + 1e-3 if name == "log" else x, dtype)


def call(function, *args, **kwargs):
    """Call, and prove that no input was changed."""
    before = [np.array(a, copy=True) if isinstance(a, np.ndarray) else None for a in args]
    result = function(*args, **kwargs)
    for copy, a in zip(before, args, strict=True):
        if copy is not None:
            assert_array_equal(copy, a)
    return result


def check_new(result, shape, dtype):
    assert isinstance(result, np.ndarray) or shape == ()
    assert result.shape == shape
    assert result.dtype == dtype and result.dtype.isnative


# One array in, one out ------------------------------------------------------------------------------------

@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*FORWARD, "log"])
def test_forward(name, layout, backend, dtype, rng):
    for shape in shapes_of(name):
        x = samples(rng, name, shape, dtype)
        y = call(getattr(F, name), lay_out(x, layout))
        check_new(y, shape, dtype)
        scale = {"log_softmax": 10.0, "softmax": 1.0, "gelu": 1.0, "gelu_tanh": 1.0}.get(name, 0.0)
        expected = forward64(name, x.astype(np.float64))
        assert_allclose(y, expected, err_msg=str(shape), **tolerance(dtype, scale))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", BACKWARD)
def test_backward(name, layout, backend, dtype, rng):
    for shape in shapes_of(name):
        forward = name.removesuffix("_backward")
        y = rng.standard_normal(shape) * 2
        y = np.asarray(y if forward in GATED else forward64(forward, y), dtype)
        dy = np.asarray(rng.standard_normal(shape), dtype)
        dx = call(getattr(F, name), lay_out(dy, layout), lay_out(y, layout))
        check_new(dx, shape, dtype)
        expected = BACKWARD[name](dy.astype(np.float64), y.astype(np.float64))
        scale = 20.0 if "softmax" in name else 1.0
        assert_allclose(dx, expected, err_msg=str(shape), **tolerance(dtype, scale))


@pytest.mark.parametrize("name", ["leaky_relu", "elu"])
def test_alpha(name, backend, dtype, rng):
    forward, backward = getattr(F, name), getattr(F, name + "_backward")
    x = samples(rng, name, (9, 7), dtype)
    for alpha in (0.0, 0.3, 1.0, 2.0, np.float32(0.25), np.float64(0.25), 1, np.array(0.5)):
        assert_allclose(forward(x, alpha), forward64(name, x, float(alpha)), **tolerance(dtype))
        assert forward(x, alpha=alpha).dtype == dtype
        dx = backward(x, x, alpha)
        assert_allclose(dx, BACKWARD[name + "_backward"](x, x, float(alpha)), **tolerance(dtype, 10.0))
        assert dx.dtype == dtype


@pytest.mark.parametrize("layout", OUT_LAYOUTS)
@pytest.mark.parametrize("name", [*FORWARD, "log", *BACKWARD])
def test_out(name, layout, backend, dtype, rng):
    """The result goes to `out`, whatever its layout; nothing beside it is touched."""
    function = getattr(F, name)
    for shape in shapes_of(name):
        args = [samples(rng, "log", shape, dtype) for _ in range(2 if name in BACKWARD else 1)]
        expected = function(*args)
        out = lay_out(np.full(shape, 77, dtype), layout)
        assert call(function, *args, out=out) is out
        assert_allclose(out, expected, **tolerance(dtype, 20.0 * ("softmax" in name)))
        if layout == "strided" and 0 not in shape and shape:
            whole = out.base
            rest = np.ones(whole.shape, bool)
            rest[tuple(slice(None, None, step) for step in (2, 3, 2)[:len(shape)])] = False
            assert (whole[rest] == 99).all()


@pytest.mark.parametrize("layout", ["contiguous", "strided", "transposed", "swapped"])
@pytest.mark.parametrize("name", [*FORWARD, "log", *BACKWARD])
def test_in_place(name, layout, backend, dtype, rng):
    function = getattr(F, name)
    count = 2 if name in BACKWARD else 1
    for place in range(count):
        args = [lay_out(samples(rng, "log", (33, 17), dtype), layout) for _ in range(count)]
        expected = function(*args)
        assert function(*args, out=args[place]) is args[place]
        assert_allclose(args[place], expected, **tolerance(dtype, 20.0 * ("softmax" in name)))


def test_out_beside_input_in_one_buffer(backend, dtype):
    """Arrays that interleave in memory but share no element are apart."""
    both = np.arange(20, dtype=dtype) - 10
    F.relu(both[::2], out=both[1::2])
    assert_array_equal(both[1::2], np.maximum(np.arange(-10, 10, 2), 0))
    assert_array_equal(both[::2], np.arange(-10, 10, 2))


def test_array_likes(backend):
    """What NumPy turns into floats is taken as it is: a list of floats is float64."""
    assert_array_equal(F.relu([-1.0, 2.0]), [0.0, 2.0])
    assert F.relu([-1.0, 2.0]).dtype == np.float64
    assert float(F.relu(-3.0)) == 0.0
    assert F.relu(np.float32(2)).dtype == np.float32
    loss, _ = F.softmax_cross_entropy([[0.0, 0.0]], [1])
    assert loss == pytest.approx(np.log(2))


# Special values -------------------------------------------------------------------------------------------

INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("name, pairs", [
    ("exp", [(0.0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (NAN, NAN), (1e4, INF), (-1e4, 0)]),
    ("log", [(0.0, -INF), (-0.0, -INF), (1, 0), (INF, INF), (-1, NAN), (-INF, NAN), (NAN, NAN)]),
    ("relu", [(0.0, 0), (-0.0, 0), (INF, INF), (-INF, 0), (NAN, NAN), (1e4, 1e4)]),
    ("leaky_relu", [(0.0, 0), (-0.0, 0), (INF, INF), (-INF, -INF), (NAN, NAN), (-100, -1)]),
    ("sigmoid", [(0.0, 0.5), (-0.0, 0.5), (INF, 1), (-INF, 0), (NAN, NAN), (1e4, 1), (-1e4, 0)]),
    ("tanh", [(0.0, 0), (-0.0, 0), (INF, 1), (-INF, -1), (NAN, NAN), (1e4, 1), (-1e4, -1)]),
    ("elu", [(0.0, 0), (-0.0, 0), (INF, INF), (-INF, -1), (NAN, NAN), (1e4, 1e4), (-1e4, -1)]),
    ("selu", [(0.0, 0), (-0.0, 0), (INF, INF), (-INF, -SELU_SCALE * SELU_ALPHA), (NAN, NAN),
              (1, SELU_SCALE)]),
    ("softplus", [(0.0, math.log(2)), (INF, INF), (-INF, 0), (NAN, NAN), (1e4, 1e4), (-1e4, 0)]),
    *[(name, [(0.0, 0), (-0.0, 0), (INF, INF), (-INF, 0), (NAN, NAN), (1e4, 1e4), (-1e4, 0),
              (1e30, 1e30)]) for name in GATED],
])
def test_special_values(name, pairs, backend, dtype):
    x, y = np.array(pairs, dtype).T
    for size in (1, 3, 40):             # alone, in a short array and in full vectors
        result = getattr(F, name)(np.repeat(x, size))
        assert_allclose(result, np.repeat(y, size), rtol=2 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("name", ["tanh", "elu", "selu", *GATED])
def test_the_sign_of_zero_is_kept(name, backend, dtype):
    assert np.signbit(getattr(F, name)(np.array([-0.0], dtype)))[0]
    assert not np.signbit(getattr(F, name)(np.array([0.0], dtype)))[0]


@pytest.mark.parametrize("name, left, right", [
    ("elu", 0, 1), ("selu", 0, SELU_SCALE), ("softplus", 0, 1), *((name, 0, 1) for name in GATED)])
def test_slopes_far_away(name, left, right, backend, dtype):
    """Limits, where the formula says infinity times 0; NaN stays NaN."""
    backward = getattr(F, name + "_backward")
    for far in (1e4, 1e30, np.finfo(dtype).max, INF):
        x = np.array([-far, far, NAN], dtype)
        with np.errstate(over="ignore"):
            given = x if name in GATED else getattr(F, name)(x)
        slope = backward(np.ones(3, dtype), given)
        assert_allclose(slope, [left, right, NAN], rtol=np.finfo(dtype).eps, atol=2 * np.finfo(dtype).eps)


def test_subnormals(backend, dtype):
    tiny = np.finfo(dtype).smallest_subnormal * np.array([1, 3, 1000], dtype)
    assert_array_equal(F.relu(tiny), tiny)
    assert_array_equal(F.relu(-tiny), [0, 0, 0])
    assert_array_equal(F.tanh(tiny), tiny)
    assert_array_equal(F.exp(tiny), np.ones(3, dtype))
    expected = np.log(tiny.astype(np.longdouble)).astype(dtype)
    assert_allclose(F.log(tiny), expected, rtol=4 * np.finfo(dtype).eps)
    assert_array_equal(F.sigmoid(tiny), np.full(3, 0.5, dtype))


def test_sigmoid_keeps_its_relative_accuracy_in_the_tail(backend, dtype):
    x = np.linspace(-80, -10, 141).astype(dtype)
    assert_allclose(F.sigmoid(x), 1 / (1 + np.exp(-x.astype(np.float64))), rtol=8 * np.finfo(dtype).eps)


def test_softmax_of_special_rows(backend, dtype):
    x = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [-INF, 0, 0],
                  [INF, 0, 1], [NAN, 0, 1], [-INF, -INF, -INF]], dtype)
    y, log_y = F.softmax(x), F.log_softmax(x)
    assert_allclose(y[:3], [[1, 0, 0], [1 / 3] * 3, [0, 0.5, 0.5]], rtol=4 * np.finfo(dtype).eps)
    assert np.isnan(y[3:]).all()
    expected = [[0, -2e4, -1e4], [-np.log(3)] * 3, [-INF, -np.log(2), -np.log(2)]]
    assert_allclose(log_y[:3], expected, rtol=1e-6)
    assert np.isnan(log_y[3:]).all()


def test_backward_of_relu_ignores_what_it_masks(backend, dtype):
    dy = np.array([NAN, INF, -INF, 1], dtype)
    assert_array_equal(F.relu_backward(dy, np.zeros(4, dtype)), np.zeros(4))
    assert_array_equal(F.relu_backward(dy, np.ones(4, dtype)), dy)


# Dense layers ---------------------------------------------------------------------------------------------

def dense_case(rng, shape, dtype):
    n, k, m = shape
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((n, k), (k, m), (m,)))
    return x, w, b


def dense64(x, w, b, activation):
    """The layer in float64, and a bound of the rounding errors of its sum in another dtype."""
    x, w, b = (a.astype(np.float64) for a in (x, w, b))
    activation = activations.resolve(activation)
    options = (activation.alpha,) if activation.alpha else ()
    z = x @ w + b
    y = z if activation.name == "identity" else FORWARD[activation.name](z, *options)
    return y, (x.shape[1] + 2) * (np.abs(x) @ np.abs(w) + np.abs(b))


def in_layouts(functions):
    """Pairs of a function and a layout: each function in two of them, the first and the last in all."""
    pairs = [(f, layout) for i, f in enumerate(functions) for layout in (LAYOUTS[0], LAYOUTS[1 + i % 7])]
    pairs += [(f, layout) for f in (functions[0], functions[-1]) for layout in LAYOUTS]
    return list(dict.fromkeys(pairs))


@pytest.mark.parametrize(("activation", "layout"), in_layouts(ACTIVATIONS), ids=str)
def test_dense_forward(activation, layout, backend, dtype, rng):
    for shape in DENSE:
        x, w, b = dense_case(rng, shape, dtype)
        y = call(F.dense_forward, lay_out(x, layout), lay_out(w, layout), lay_out(b, layout), activation)
        check_new(y, (shape[0], shape[2]), dtype)
        expected, bound = dense64(x, w, b, activation)
        error = np.abs(y - expected)
        assert (error <= np.finfo(dtype).eps * (bound + 16)).all(), (shape, error.max(initial=0))


@pytest.mark.parametrize(("activation", "layout"), in_layouts([f for f in ACTIVATIONS if f not in GATED]),
                         ids=str)
def test_dense_backward(activation, layout, backend, dtype, rng):
    resolved = activations.resolve(activation)
    options = (resolved.alpha,) if resolved.alpha else ()
    for shape in DENSE:
        x, w, b = dense_case(rng, shape, dtype)
        y = dense64(x, w, b, activation)[0].astype(dtype)
        dy = rng.standard_normal(y.shape).astype(dtype)
        results = call(F.dense_backward, *(lay_out(a, layout) for a in (dy, x, w, y)), activation)
        assert type(results) is tuple
        dy, x, w, y = (a.astype(np.float64) for a in (dy, x, w, y))
        dz = dy if resolved.name == "identity" else BACKWARD[resolved.name + "_backward"](dy, y, *options)
        terms = [(dz, w.T), (x.T, dz), (np.ones((1, len(dz))), dz)]
        for result, (left, right) in zip(results, terms, strict=True):
            expected = left @ right
            check_new(result, expected.shape if result.ndim == 2 else expected.shape[1:], dtype)
            bound = (left.shape[1] + 16) * (np.abs(left) @ np.abs(right)) + 16
            error = np.abs(result - expected)
            assert (error <= np.finfo(dtype).eps * bound).all(), (shape, error.max(initial=0))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dense_backward_without_dx(layout, backend, dtype, rng):
    """dw and db are what they are with dx."""
    for shape in [*DENSE, (200, 784, 50)]:          # the last one beyond what the short way in takes
        x, w, b = dense_case(rng, shape, dtype)
        y = F.dense_forward(x, w, b, "tanh")
        dy = rng.standard_normal(y.shape).astype(dtype)
        arrays = [lay_out(a, layout) for a in (dy, x, w, y)]
        _, dw, db = F.dense_backward(dy, x, w, y, "tanh")
        out = None, np.full_like(w, 77), np.full_like(b, 77)
        for got in (call(F.dense_backward, *arrays, "tanh", need_dx=False),
                    call(F.dense_backward, *arrays, "tanh", out=out),
                    call(F.dense_backward, *arrays, "tanh", out=out, need_dx=False)):
            assert type(got) is tuple and got[0] is None
            assert_allclose(got[1], dw, **tolerance(dtype, 100.0))
            assert_allclose(got[2], db, **tolerance(dtype, 100.0))
        assert got[1] is out[1] and got[2] is out[2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_identity_needs_no_y(layout, backend, dtype, rng):
    for shape in [*DENSE, (200, 300, 50)]:
        x, w, _ = dense_case(rng, shape, dtype)
        dy = rng.standard_normal((shape[0], shape[2])).astype(dtype)
        arrays = [lay_out(a, layout) for a in (dy, x, w)]
        expected = F.dense_backward(dy, x, w, np.full_like(dy, NAN), "identity")
        exact = dy @ w.T, x.T @ dy, dy.sum(axis=0)
        for got, want in zip(expected, exact, strict=True):
            assert_allclose(got, want, **tolerance(dtype, 1000.0))
        for options in ((), (None,), (None, activations.Identity())):
            result = call(F.dense_backward, *arrays, *options)
            for got, want in zip(result, expected, strict=True):
                assert_allclose(got, want, **tolerance(dtype, 100.0))


@pytest.mark.parametrize(("activation", "layout"), in_layouts(ACTIVATIONS), ids=str)
def test_a_bias_may_be_missing_or_a_row(activation, layout, backend, dtype, rng):
    for shape in DENSE:
        x, w, b = dense_case(rng, shape, dtype)
        xl, wl = lay_out(x, layout), lay_out(w, layout)
        expected, bound = dense64(x, w, np.zeros_like(b), activation)
        for y in (call(F.dense_forward, xl, wl, activation=activation),
                  call(F.dense_forward, xl, wl, None, activation)):
            check_new(y, (shape[0], shape[2]), dtype)
            assert (np.abs(y - expected) <= np.finfo(dtype).eps * (bound + 16)).all()
        expected, bound = dense64(x, w, b, activation)
        y = call(F.dense_forward, xl, wl, lay_out(b[None], layout), activation)
        assert (np.abs(y - expected) <= np.finfo(dtype).eps * (bound + 16)).all()


@pytest.mark.parametrize("layout", ["contiguous", "strided", "transposed", "unaligned", "swapped"])
def test_dense_out(layout, backend, dtype, rng):
    for shape in DENSE:
        x, w, b = dense_case(rng, shape, dtype)
        y = F.dense_forward(x, w, b, "relu")
        out = lay_out(np.full_like(y, 77), layout)
        assert call(F.dense_forward, x, w, b, "relu", out=out) is out
        assert_allclose(out, y, **tolerance(dtype, 100.0))
        expected = F.dense_backward(y + 1, x, w, y, "relu")
        outs = tuple(lay_out(np.full_like(a, 77), layout) for a in expected)
        results = call(F.dense_backward, y + 1, x, w, y, "relu", out=outs)
        for result, mine, wanted in zip(results, outs, expected, strict=True):
            assert result is mine
            assert_allclose(mine, wanted, **tolerance(dtype, 100.0))


def test_dense_takes_names_classes_and_objects(backend):
    x, w, b = np.array([[-1.0, 2.0]]), np.eye(2), np.zeros(2)
    leaky = activations.LeakyReLU
    for activation in ("leaky_relu", leaky, leaky(), leaky(0.01)):
        assert_array_equal(F.dense_forward(x, w, b, activation), [[-0.01, 2.0]])
    assert_array_equal(F.dense_forward(x, w, b), x)


def test_nan_and_infinity_pass_through_a_layer(backend, dtype):
    x = np.array([[NAN, 0], [INF, 0], [1, 1]], dtype)
    y = F.dense_forward(x, np.eye(2, dtype=dtype) + 1, np.zeros(2, dtype), "relu")
    assert np.isnan(y[0]).all()
    assert (y[1] == INF).all()
    assert_array_equal(y[2], [3, 3])


# Losses ---------------------------------------------------------------------------------------------------

def cross_entropy64(logits, targets):
    logits = logits.astype(np.float64)
    if targets.ndim == 1:
        targets = np.eye(logits.shape[1])[targets]
    with np.errstate(invalid="ignore"):
        losses = np.where(targets > 0, -targets * log_softmax64(logits), 0).sum(axis=1)
    return losses.mean(), (softmax64(logits) - targets) / len(logits)


@pytest.mark.parametrize("kind", ["int8", "int64", "uint16", "uint64", "probabilities", "one_hot"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_softmax_cross_entropy(layout, kind, backend, dtype, rng):
    for shape in [(1, 1), (1, 33), (17, 1), (33, 17), (7, 100), (130, 10), (5, 2)]:
        logits = (rng.standard_normal(shape) * 3).astype(dtype)
        labels = rng.integers(0, shape[1], shape[0])
        if kind == "probabilities":
            targets = rng.dirichlet(np.ones(shape[1]), shape[0]).astype(dtype)
        elif kind == "one_hot":
            targets = np.eye(shape[1], dtype=dtype)[labels]
        else:
            targets = labels.astype(kind)
        loss, dlogits = call(F.softmax_cross_entropy, lay_out(logits, layout), lay_out(targets, layout))
        expected, gradient = cross_entropy64(logits, targets)
        assert type(loss) is float
        assert loss == pytest.approx(expected, rel=2e-5 if dtype == np.float32 else 1e-13, abs=1e-6)
        check_new(dlogits, shape, dtype)
        assert_allclose(dlogits, gradient, **tolerance(dtype, 1.0))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mean_squared_error(layout, backend, dtype, rng):
    for shape in [(1,), (257,), (1, 1), (33, 17), (7, 100), (2, 3, 5)]:
        predictions, targets = rng.standard_normal((2, *shape)).astype(dtype)
        loss, gradient = call(F.mean_squared_error, lay_out(predictions, layout), lay_out(targets, layout))
        difference = predictions.astype(np.float64) - targets
        assert type(loss) is float
        assert loss == pytest.approx(np.mean(difference**2), rel=1e-5 if dtype == np.float32 else 1e-13)
        check_new(gradient, shape, dtype)
        assert_allclose(gradient, 2 * difference / difference.size, **tolerance(dtype, 1 / difference.size))


@pytest.mark.parametrize("layout", ["contiguous", "strided", "transposed", "swapped"])
def test_loss_out(layout, backend, dtype, rng):
    logits = rng.standard_normal((33, 17)).astype(dtype)
    indices, rows = rng.integers(0, 17, 33), rng.dirichlet(np.ones(17), 33).astype(dtype)
    for function, targets in ((F.softmax_cross_entropy, indices), (F.softmax_cross_entropy, rows),
                              (F.mean_squared_error, rows)):
        loss, gradient = function(logits, targets)
        out = lay_out(np.full_like(logits, 77), layout)
        again, result = call(function, logits, targets, out=out)
        assert result is out and again == pytest.approx(loss, rel=1e-6)
        assert_allclose(out, gradient, **tolerance(dtype))
        own = lay_out(logits, layout)
        again, result = function(own, targets, out=own)         # in place
        assert result is own and again == pytest.approx(loss, rel=1e-6)
        assert_allclose(own, gradient, **tolerance(dtype))


def test_cross_entropy_of_extreme_logits(backend, dtype):
    logits = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0]], dtype)
    loss, dlogits = F.softmax_cross_entropy(logits, np.array([0, 0]))
    assert loss == pytest.approx(1e4)
    assert_allclose(dlogits, [[0, 0, 0], [-0.5, 0.5, 0]], atol=1e-7)
    loss, dlogits = F.softmax_cross_entropy(logits, np.array([[1, 0, 0], [0.5, 0.5, 0]], dtype))
    assert loss == pytest.approx(5e3)
    assert_allclose(dlogits, [[0, 0, 0], [-0.25, 0.25, 0]], atol=1e-7)


def test_cross_entropy_of_an_excluded_class(backend, dtype):
    """A logit of -inf is probability 0; as long as the target does not ask for it, it costs nothing."""
    logits = np.array([[-INF, 0, 0]], dtype)
    for targets in (np.array([1]), np.array([[0, 1, 0]], dtype)):
        loss, dlogits = F.softmax_cross_entropy(logits, targets)
        assert loss == pytest.approx(np.log(2), rel=1e-6)
        assert_allclose(dlogits, [[0, -0.5, 0.5]], rtol=1e-6)
    assert F.softmax_cross_entropy(logits, np.array([0]))[0] == INF


def test_cross_entropy_of_nan_logits_is_nan(backend, dtype):
    loss, dlogits = F.softmax_cross_entropy(np.array([[NAN, 0], [0, 0]], dtype), np.array([0, 1]))
    assert np.isnan(loss)
    assert np.isnan(dlogits[0]).all()
    assert_allclose(dlogits[1], [0.25, -0.25])


# The optimizer --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layout", OUT_LAYOUTS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_sgd_update(weight_decay, nesterov, momentum, layout, backend, dtype, rng):
    lr = np.float64(0.05)                               # a NumPy scalar must not widen float32
    for shape in SHAPES:
        param = lay_out(np.asarray(rng.standard_normal(shape), dtype), layout)
        velocity = lay_out(np.zeros(shape, dtype), layout)
        p, v = param.astype(np.float64), np.zeros(shape)
        for _ in range(3):
            grad = lay_out(np.asarray(rng.standard_normal(shape), dtype), layout)
            args = (momentum, velocity) if momentum else ()
            before = grad.copy()
            assert F.sgd_update(param, grad, lr, *args, nesterov=nesterov, weight_decay=weight_decay) is None
            assert_array_equal(grad, before)
            g = grad + weight_decay * p
            v = momentum * v + g
            p = p - lr * (g + momentum * v if nesterov else v)
        assert_allclose(param, p, **tolerance(dtype, 4.0))
        if momentum:
            assert_allclose(velocity, v, **tolerance(dtype, 4.0))
        else:
            assert not velocity.any()


UPDATES = {
    "sgd_update": (["velocity"], {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}),
    "adagrad_update": (["squares"], {"lr": 0.05, "weight_decay": 0.1}),
    "rmsprop_update": (["squares"], {"lr": 0.05, "rho": 0.9, "weight_decay": 0.1}),
    "adam_update": (["first_moment", "second_moment"], {"lr": 0.05, "step": 3, "weight_decay": 0.1}),
}


@pytest.mark.parametrize("name", UPDATES)
@pytest.mark.parametrize("size", [6, 5000])         # without and with other threads running
def test_arrays_of_an_update_in_every_layout(size, name, backend, dtype, rng):
    """One of them in another layout than the rest, an odd address for one; nothing beside them is touched."""
    slots, options = UPDATES[name]
    names = ["param", "grad", *slots]
    values = {key: np.abs(rng.standard_normal(size)).astype(dtype) for key in names}
    expected = {key: values[key].copy() for key in names}
    with backends.use_backend("numpy"):
        getattr(F, name)(**expected, **options)
    for key, layout in [(None, None), *((key, layout) for key in names for layout in OUT_LAYOUTS)]:
        memory = {other: np.full(size + 8, 77, dtype) for other in names}
        args = {other: memory[other][4:-4] for other in names}
        for other in names:
            args[other][...] = values[other]
        if key is not None:
            args[key] = lay_out(values[key], layout)
        assert getattr(F, name)(**args, **options) is None
        for other in names:
            where = f"{other}: {key} {layout}"
            assert_allclose(args[other], expected[other], err_msg=where, **tolerance(dtype))
            assert (memory[other][:4] == 77).all() and (memory[other][-4:] == 77).all()


@pytest.mark.parametrize("name", UPDATES)
def test_numbers_of_an_update(name, backend, dtype, rng):
    """Python's and NumPy's numbers of any size are one number."""
    slots, options = UPDATES[name]
    values = {key: np.abs(rng.standard_normal(5)).astype(dtype) for key in ("param", "grad", *slots)}
    expected = {key: value.copy() for key, value in values.items()}
    getattr(F, name)(**expected, **{**options, "lr": 0.5})
    for lr in (np.float64(0.5), np.float32(0.5), np.array(0.5)):
        args = {key: value.copy() for key, value in values.items()}
        getattr(F, name)(**args, **{**options, "lr": lr})
        for key, value in args.items():
            assert_allclose(value, expected[key], **tolerance(dtype))
    for lr in (0, np.int64(0)):
        args = {key: value.copy() for key, value in values.items()}
        getattr(F, name)(**args, **{**options, "lr": lr})
        assert_array_equal(args["param"], values["param"])
    with pytest.raises(ValueError, match="^lr: expected a finite number from 0 up, got inf"):
        getattr(F, name)(**args, **{**options, "lr": 10**400})


@pytest.mark.parametrize("name", UPDATES)
def test_a_dtype_that_is_not_the_usual_object(name, backend, dtype):
    """float32 with metadata, and a subclass of ndarray, are float32 arrays."""
    slots, options = UPDATES[name]
    other = np.dtype(dtype, metadata={"unit": "m"})
    args = {key: np.ones(4, other) for key in ("param", "grad", *slots)}
    plain = {key: np.ones(4, dtype) for key in args}
    subclass = {key: np.ones(4, dtype).view(np.recarray) for key in args}
    for arrays in (args, plain, subclass):
        getattr(F, name)(**arrays, **options)
    for key in args:
        assert_array_equal(args[key], plain[key])
        assert_array_equal(np.asarray(subclass[key]), plain[key])


# Hypothesis: any shape, any value -------------------------------------------------------------------------

def arrays(dtype, low, high, **options):
    width = 32 if dtype == np.float32 else 64
    bound = {"min_value": float(np.float32(low)), "max_value": float(np.float32(high))}
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)
    return hnp.arrays(dtype, shapes, elements=st.floats(width=width, **bound), **options)


@given(data=st.data())
def test_softmax_is_a_distribution(data, backend, dtype):
    x = data.draw(arrays(dtype, -1e4, 1e4))
    y = F.softmax(x)
    assert_allclose(y, softmax64(x.astype(np.float64)), rtol=1e-4 if dtype == np.float32 else 1e-11,
                    atol=1e-6 if dtype == np.float32 else 1e-14)
    assert (y >= 0).all() and (y <= 1).all()
    assert_allclose(y.sum(axis=1, dtype=np.float64), 1, rtol=50 * np.finfo(dtype).eps)
    expected = log_softmax64(x.astype(np.float64))
    assert_allclose(F.log_softmax(x), expected, **tolerance(dtype, np.abs(x).max() + 10))


@given(data=st.data())
def test_cross_entropy_of_anything(data, backend, dtype):
    logits = data.draw(arrays(dtype, -1e4, 1e4))
    targets = data.draw(hnp.arrays(np.int64, len(logits), elements=st.integers(0, logits.shape[1] - 1)))
    loss, dlogits = F.softmax_cross_entropy(logits, targets)
    expected, gradient = cross_entropy64(logits, targets)
    eps = float(np.finfo(dtype).eps)
    assert loss == pytest.approx(expected, rel=64 * eps, abs=64 * eps * float(np.abs(logits).max() + 1))
    assert_allclose(dlogits, gradient, atol=1e-6 if dtype == np.float32 else 1e-12)
    assert_allclose(dlogits.sum(axis=1), 0, atol=1e-6 if dtype == np.float32 else 1e-12)


@given(data=st.data())
def test_bounded_functions_of_anything(data, backend, dtype):
    """Any float there is, NaN and infinities included."""
    width = 32 if dtype == np.float32 else 64
    x = data.draw(hnp.arrays(dtype, hnp.array_shapes(min_side=0), elements=st.floats(width=width)))
    nan = np.isnan(x)
    with np.errstate(over="ignore", invalid="ignore"):
        for name, low, high in (("sigmoid", 0, 1), ("tanh", -1, 1), ("relu", 0, INF), ("exp", 0, INF)):
            y = getattr(F, name)(x)
            assert_array_equal(np.isnan(y), nan)
            assert (y[~nan] >= low).all() and (y[~nan] <= high).all()
        for name in ("elu", "selu", "softplus", *GATED):
            y = getattr(F, name)(x)
            assert_array_equal(np.isnan(y), nan)
            low = {"elu": -1, "selu": -1.7580994, "softplus": 0}.get(name, -0.2784646)
            assert (y[~nan] >= low).all()
            dx = getattr(F, name + "_backward")(np.ones_like(x), x if name in GATED else y)
            assert_array_equal(np.isnan(dx), nan)
            assert (np.abs(dx[~nan]) <= 1.76).all()
        assert_array_equal(F.leaky_relu(x, 1.0), x)
        assert_array_equal(F.relu(x)[~nan], np.where(x > 0, x, 0)[~nan])


@given(n=st.integers(0, 40), k=st.integers(0, 70), m=st.integers(0, 70), seed=st.integers(0, 99),
       layout=st.sampled_from(LAYOUTS))
def test_dense_of_any_shape(n, k, m, seed, layout, backend, dtype):
    x, w, b = dense_case(np.random.default_rng(seed), (n, k, m), dtype)
    expected, bound = dense64(x, w, b, "relu")
    y = F.dense_forward(lay_out(x, layout), lay_out(w, layout), lay_out(b, layout), "relu")
    assert (np.abs(y - expected) <= np.finfo(dtype).eps * (bound + 16)).all()


# The forward pass of a model ------------------------------------------------------------------------------

def shared_rows(dtype, *strides):
    """An array (4, 3) whose elements share memory."""
    memory = np.zeros(99, dtype)[30:]
    return np.lib.stride_tricks.as_strided(memory, (4, 3), [s * memory.itemsize for s in strides])


def test_out_of_a_model_whose_elements_share_memory(backend, dtype):
    model, X = MLP([2, 3], dtype=dtype, seed=0), np.ones((4, 2))
    expected = model.forward(X)
    for kind in (dtype, dtype.newbyteorder()):
        for strides in ((1, 1), (2, 1), (-1, 1), (1, 2), (1, 3), (0, 1), (1, 0), (0, 0)):
            out = shared_rows(kind, *strides)
            with pytest.raises(ValueError, match="^out: .*elements share memory"):
                model.forward(X, out=out)
            assert not out.any()
        for layout in OUT_LAYOUTS:
            out = lay_out(np.full((4, 3), 77, kind), layout)
            assert model.forward(X, out=out) is out
            assert_allclose(out, expected, **tolerance(dtype))


def test_out_of_a_model_that_is_its_own_memory(backend, dtype):
    model = MLP([3, 3], dtype=dtype, seed=0)
    weights = model.weights[0].copy()
    with pytest.raises(ValueError, match="^out: must not share memory with the parameters"):
        model.forward(np.ones((3, 3)), out=model.weights[0])
    assert_array_equal(model.weights[0], weights)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int16", "uint64"])
def test_a_model_on_arrays_at_odd_addresses(kind, backend, dtype, rng):
    """X, labels, tables of targets and weights: what they are at even ones; one row, too."""
    X, labels = rng.integers(0, 9, (40, 5)).astype(kind), rng.integers(0, 3, 40)
    tables, weights = np.eye(3)[labels], rng.random(40)
    odd_rows = np.zeros((40, 5 * X.itemsize + 1), np.uint8)[:, :-1].view(X.dtype)
    odd_rows[...] = X               # every row at another one
    results = []
    for arrays in ((X, labels, tables, weights),
                  [lay_out(a, "unaligned") for a in (X, labels, tables, weights)],
                  (odd_rows, labels, tables, weights)):
        model = MLP([5, 7, 3], dtype=dtype, seed=0)
        out = lay_out(np.zeros((40, 3), dtype), "unaligned")
        x, *targets, w = arrays
        result = [model.forward(x), model.forward(x[3:4]), model.forward(x, out=out), out]
        for y in targets:
            model.fit(x, y, epochs=2, batch_size=7, optimizer=SGD(0.01), sample_weight=w, progress=False)
            model.train_step(x[:8], y[:8], SGD(0.01), sample_weight=w[:8])
            result.append(np.array(model.evaluate(x, y, sample_weight=w)["loss"]))
        results.append([*result, *model.weights])
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            assert_allclose(one, other, rtol=1e-4 if dtype == np.float32 else 1e-12, atol=1e-4)


# Backends and the public API -------------------------------------------------------------------------------

@pytest.mark.parametrize("name", F.__all__)
def test_one_signature(name):
    """The NumPy backend has every function under the same parameters and defaults."""
    public, backend = (inspect.signature(getattr(module, name)).parameters for module in (F, specification))
    assert [(p.name, p.default, p.kind) for p in public.values()] == [
        (p.name, p.default, p.kind) for p in backend.values()]


def test_fast_path():
    """Plain arrays go straight to the compiled backend; others come back checked and copied."""
    stand_in = StandIn()
    token = backends.override.set(stand_in)
    try:
        x = np.arange(12.0).reshape(3, 4) - 5
        F.relu(x)
        assert (stand_in.taken, stand_in.declined) == (["relu"], [])
        F.relu(x.T)
        assert (stand_in.taken, stand_in.declined) == (["relu", "relu"], ["relu"])
        with pytest.raises(TypeError):
            F.relu(np.arange(3))
    finally:
        backends.override.reset(token)


def test_backends_are_chosen_and_restored():
    before = backends.get_backend()
    with backends.use_backend("numpy"):
        assert backends.get_backend() == "numpy"
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(backends.get_backend()))
        thread.start()
        thread.join()
        assert elsewhere == [before]                    # the block is this thread's own
    assert backends.get_backend() == before
    with pytest.raises(RuntimeError), backends.use_backend("numpy"):
        raise RuntimeError
    assert backends.get_backend() == before
    try:
        backends.set_backend("numpy")
        assert backends.get_backend() == "numpy"
    finally:
        backends.set_backend(before)


@pytest.mark.parametrize("name", ["fortran", "", "NumPy", None])
def test_unknown_backend(name):
    before = backends.get_backend()
    with pytest.raises(ValueError, match="cython, numpy"):
        backends.set_backend(name)
    with pytest.raises(ValueError, match="cython, numpy"), backends.use_backend(name):
        pass
    assert backends.get_backend() == before


def test_backend_from_the_environment():
    def run(name):
        code = "import fastmlp.backends as b; print(b.get_backend())"
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              env={**os.environ, "FASTMLP_BACKEND": name}, timeout=60)
    assert run("numpy").stdout.strip() == "numpy"
    failed = run("fortran")
    assert failed.returncode != 0
    assert "FASTMLP_BACKEND: unknown name 'fortran', expected one of: cython, numpy" in failed.stderr
