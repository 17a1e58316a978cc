"""Every loss: against its formula written out by hand, finite differences, known values; its weights, its
targets, and what it makes of outputs."""
from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import threading
import time
from fractions import Fraction

import numpy as np
import pytest
from conftest import Learned
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp.functional as F
from fastmlp import MLP, SGD, backends, kernels, losses
from fastmlp.backends import numpy as specification
from fastmlp.kernels import ops

NAN, INF = float("nan"), float("inf")
LOSSES = [
    losses.CrossEntropy(),
    losses.CrossEntropy(label_smoothing=0.1),
    losses.CrossEntropy(label_smoothing=1.0),
    losses.KLDivergence(),
    losses.MultiClassHinge(),
    losses.MeanSquaredError(),
    losses.MeanAbsoluteError(),
    losses.Huber(),
    losses.Huber(delta=0.25),
    losses.Poisson(),
    losses.BinaryCrossEntropy(),
    losses.BinaryCrossEntropy(pos_weight=3.0),
    losses.Hinge(),
    losses.SquaredHinge(),
]
ISAS = [kernels.load(*names) for names in itertools.product(kernels.available_isas(), ["float32", "float64"])]
# around every vector length, 16 (up to which a row has a lane) and 16 lanes of a sum
SHAPES = [(1, 1), (5, 1), (70, 1), (1, 2), (33, 3), (130, 10), (9, 16), (9, 17), (4, 33), (3, 100)]


def tolerance(dtype, size=1.0):
    eps = float(np.finfo(dtype).eps)
    return {"rtol": 100 * eps, "atol": 100 * eps * size}


def targets_for(loss, shape, rng, dtype=np.float64, kind=None):
    rows, outputs = shape
    kind = kind or loss.targets
    if kind == "classes":
        return rng.integers(0, outputs, rows).astype(np.intp)
    if kind == "distributions":
        t = rng.dirichlet(np.ones(outputs), rows)
        t[0] = np.eye(outputs)[outputs // 2]
        return t.astype(dtype)
    return {
        "values": lambda: rng.standard_normal(shape),
        "counts": lambda: rng.poisson(2.0, shape),
        "binary": lambda: rng.integers(0, 2, shape),
        "signs": lambda: 2 * rng.integers(0, 2, shape) - 1,
    }[kind]().astype(dtype)


def cases(loss, shape, rng, dtype=np.float64):
    """Outputs, and targets of every kind that the loss takes."""
    z = (2 * rng.standard_normal(shape)).astype(dtype)
    kinds = [loss.targets]
    if isinstance(loss, losses.CrossEntropy):
        kinds.append("distributions")
    for kind in kinds:
        yield z, targets_for(loss, shape, rng, dtype, kind)
    if isinstance(loss, losses.BinaryCrossEntropy):
        yield z, rng.random(shape).astype(dtype)


# By hand ------------------------------------------------------------------------------------------------

def element(loss, z, t):
    """The loss of one output, as its docstring has it."""
    if isinstance(loss, losses.MeanSquaredError):
        return (z - t) ** 2
    if isinstance(loss, losses.MeanAbsoluteError):
        return abs(z - t)
    if isinstance(loss, losses.Huber):
        e = abs(z - t)
        return e * e / 2 if e <= loss.delta else loss.delta * (e - loss.delta / 2)
    if isinstance(loss, losses.Poisson):
        return math.exp(z) - t * z
    if isinstance(loss, losses.BinaryCrossEntropy):
        s = 1 / (1 + math.exp(-z))
        return -(loss.pos_weight or 1.0) * t * math.log(s) - (1 - t) * math.log(1 - s)
    margin = max(0.0, 1 - t * z)
    return margin if isinstance(loss, losses.Hinge) else margin ** 2


def row(loss, z, t):
    if isinstance(loss, losses.MultiClassHinge):
        return max(0.0, 1 + max((z[k] for k in range(len(z)) if k != t), default=-INF) - z[t])
    if not loss.classifies:
        return sum(element(loss, float(a), float(b)) for a, b in zip(z, t, strict=True)) / len(z)
    total = sum(math.exp(a) for a in z)
    log_p = [float(a) - math.log(total) for a in z]
    if np.ndim(t) == 0:
        t = np.eye(len(z))[t]
    if isinstance(loss, losses.KLDivergence):
        return sum(b * (math.log(b) - a) for a, b in zip(log_p, t, strict=True) if b)
    s = loss.label_smoothing
    return -sum(((1 - s) * b + s / len(z)) * a for a, b in zip(log_p, t, strict=True))


def exact(t):
    return t if t.ndim == 1 else t.astype(np.float64)


def by_hand(loss, z, t, weights=None):
    z, t = z.astype(np.float64), exact(t)
    weights = np.ones(len(z)) if weights is None else weights
    return sum(w * row(loss, a, b) for w, a, b in zip(weights, z, t, strict=True)) / sum(weights)


def gradient_by_hand(loss, z, t, weights=None, step=1e-5):
    """Central differences of every element, in float64."""
    z, t = z.astype(np.float64), exact(t)
    weights = np.ones(len(z)) if weights is None else weights
    gradient = np.empty_like(z)
    for i, j in np.ndindex(z.shape):
        if not loss.classifies and not isinstance(loss, losses.MultiClassHinge):       # of one output each
            above, below = (element(loss, float(z[i, j] + h), float(t[i, j])) for h in (step, -step))
            gradient[i, j] = weights[i] * (above - below) / (2 * step * z.shape[1])
            continue
        above, below = z[i].copy(), z[i].copy()
        above[j] += step
        below[j] -= step
        gradient[i, j] = weights[i] * (row(loss, above, t[i]) - row(loss, below, t[i])) / (2 * step)
    return gradient / sum(weights)


def away_from_kinks(loss, z, t):
    """Outputs of which none is so near to a kink that a difference would step over it."""
    z = z.copy()
    for _ in range(100):
        if isinstance(loss, losses.MultiClassHinge):
            others = z.copy()
            others[np.arange(len(z)), t] = -INF
            ordered = np.sort(others, axis=1)
            close = np.abs(1 + ordered[:, -1] - z[np.arange(len(z)), t]) < 0.01
            if z.shape[1] > 2:
                close |= ordered[:, -1] - ordered[:, -2] < 0.01
            close = np.broadcast_to(close[:, None], z.shape)
        elif loss.targets == "signs":
            close = np.abs(1 - t * z) < 0.01
        elif isinstance(loss, (losses.MeanAbsoluteError, losses.Huber)):
            kink = getattr(loss, "delta", 0.0)
            close = np.abs(np.abs(z - t) - kink) < 0.01
        else:
            return z
        if not close.any():
            return z
        z[close] += 0.05 * np.random.default_rng(0).random(close.sum()).astype(z.dtype)
    raise AssertionError("kinks everywhere")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_loss_by_hand(loss, weighted, backend, dtype, rng):
    for shape in SHAPES:
        for z, t in cases(loss, shape, rng, dtype):
            z = away_from_kinks(loss, z, t)
            weights = rng.random(len(z)) if weighted else None
            value, gradient = backends.active().loss_and_gradient(loss, z, t, weights)
            assert type(value) is float
            eps, largest = float(np.finfo(dtype).eps), float(np.abs(gradient).max()) + 1 / len(z)
            assert_allclose(value, by_hand(loss, z, t, weights), rtol=200 * eps, atol=20 * eps)
            assert gradient.shape == shape and gradient.dtype == dtype
            assert_allclose(gradient, gradient_by_hand(loss, z, t, weights), rtol=1e-7 + 100 * eps,
                            atol=(1e-8 + 20 * eps) * largest)


@pytest.mark.any_isa
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
@pytest.mark.parametrize("module", ISAS, ids=lambda m: f"{m.ISA}-{m.DTYPE}")
def test_kernel_by_hand(module, loss, rng):
    """Each kernel itself, on every instruction set that runs here."""
    for shape in SHAPES:
        for z, t in cases(loss, shape, rng, module.DTYPE):
            z = away_from_kinks(loss, z, t)
            for weights in (None, rng.random(len(z)) * (rng.random(len(z)) > 0.3) + 1e-3):
                d = np.full_like(z, NAN)
                labels, rows = (t, None) if t.ndim == 1 else (None, t)
                value = module.loss_of_rows(d, z, rows, labels, weights, loss.code, loss.parameter,
                                            loss.pos_weights(shape[1], z.dtype))
                eps = np.finfo(z.dtype).eps
                expected, gradient = specification.loss_and_gradient(
                    loss, z.astype(np.float64), exact(t), weights)
                assert_allclose(expected, by_hand(loss, z, t, weights), rtol=1e-12, atol=1e-13)
                assert_allclose(value, expected, rtol=200 * eps, atol=20 * eps)
                assert_allclose(d, gradient, **tolerance(z.dtype, float(np.abs(gradient).max()) + 1 / len(z)))


# Known values -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("function, z, t, options, loss, gradient", [
    ("mean_squared_error", [[1, 2]], [[1, 4]], {}, 2, [[0, -2]]),
    ("mean_absolute_error", [[1, 2, 5]], [[1, 4, 4]], {}, 1, [[0, -1 / 3, 1 / 3]]),
    ("huber", [[0, 0.5, -3]], [[0, 0, 0]], {}, (0.125 + 2.5) / 3, [[0, 0.5 / 3, -1 / 3]]),
    ("huber", [[4.0]], [[1.0]], {"delta": 2.0}, 4.0, [[2.0]]),
    ("huber", [[1.0]], [[0.0]], {"delta": 1.0}, 0.5, [[1.0]]),              # where both pieces meet
    ("poisson", [[0.0, math.log(3)]], [[1, 3]], {}, (1 + 3 - 3 * math.log(3)) / 2, [[0, 0]]),
    ("binary_cross_entropy", [[0.0]], [[1]], {}, math.log(2), [[-0.5]]),
    ("binary_cross_entropy", [[math.log(3)]], [[1]], {}, math.log(4 / 3), [[-0.25]]),
    ("binary_cross_entropy", [[math.log(3)]], [[0]], {}, math.log(4), [[0.75]]),
    ("binary_cross_entropy", [[0.0, 0.0]], [[1, 0]], {"pos_weight": 3.0}, 2 * math.log(2), [[-0.75, 0.25]]),
    ("binary_cross_entropy", [[0.0]], [[0.5]], {}, math.log(2), [[0]]),
    ("hinge", [[0.5, -2, 1]], [[1, 1, 1]], {}, 3.5 / 3, [[-1 / 3, -1 / 3, 0]]),
    ("squared_hinge", [[0.5, -2, 3]], [[1, 1, 1]], {}, 9.25 / 3, [[-1 / 3, -2, 0]]),
    ("multiclass_hinge", [[2, 1.5, 0]], [0], {}, 0.5, [[-1, 1, 0]]),
    ("multiclass_hinge", [[2, 1, 0]], [0], {}, 0, [[0, 0, 0]]),             # the margin is just kept
    ("multiclass_hinge", [[0, 1, 1, -1]], [0], {}, 2, [[-1, 1, 0, 0]]),     # of two equals the first
    ("multiclass_hinge", [[5.0]], [0], {}, 0, [[0]]),
    ("softmax_cross_entropy", [[0, 0, 0, 0]], [2], {}, math.log(4), [[0.25, 0.25, -0.75, 0.25]]),
    ("softmax_cross_entropy", [[0, math.log(3)]], [1], {"label_smoothing": 0.2},
     math.log(4) - 0.9 * math.log(3), [[0.25 - 0.1, 0.75 - 0.9]]),
    ("kl_divergence", [[0, math.log(3)]], [[0.25, 0.75]], {}, 0, [[0, 0]]),
    ("kl_divergence", [[0, 0]], [[1, 0]], {}, math.log(2), [[-0.5, 0.5]]),
])
def test_known_values(function, z, t, options, loss, gradient, backend, dtype):
    t = np.array(t) if np.ndim(t) == 1 else np.array(t, dtype)
    value, d = getattr(F, function)(np.array(z, dtype), t, **options)
    eps = float(np.finfo(dtype).eps)
    assert value == pytest.approx(loss, rel=8 * eps, abs=4 * eps)
    assert_allclose(d, gradient, rtol=8 * eps, atol=4 * eps)


def test_absolute_error_at_its_kink(backend, dtype):
    assert_array_equal(F.mean_absolute_error(np.ones(3, dtype), np.ones(3, dtype))[1], 0)


# Extreme outputs ----------------------------------------------------------------------------------------

def extreme_targets(loss, shape):
    """Targets of every sort, for outputs of any sign."""
    rows, outputs = shape
    if loss.targets == "classes":
        return np.arange(rows) % outputs
    if loss.targets == "distributions":
        return np.eye(outputs)[np.arange(rows) % outputs]
    t = np.indices(shape).sum(axis=0) % 2
    return (2 * t - 1 if loss.targets == "signs" else t).astype(float)


@pytest.mark.parametrize("outputs", [1, 3, 16, 20])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_extreme_logits(loss, outputs, backend, dtype):
    sizes = [1e4, -1e4]
    if isinstance(loss, losses.Poisson):
        sizes = [80.0, -1e4]
    z = np.array([[sizes[(i // 2 + j) % 2] for j in range(outputs)] for i in range(12)], dtype)
    t = extreme_targets(loss, z.shape)
    t = t if t.ndim == 1 else t.astype(dtype)
    value, d = backends.active().loss_and_gradient(loss, z, t)
    assert np.isfinite(value) and np.isfinite(d).all()
    expected, gradient = specification.loss_and_gradient(loss, z.astype(np.float64), exact(t))
    assert_allclose(value, expected, rtol=1e-5 if dtype == np.float32 else 1e-13)
    assert_allclose(d, gradient, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-7)


def test_binary_cross_entropy_of_extreme_logits(backend, dtype):
    z = np.array([[1e4, -1e4, 1e4, -1e4]], dtype)
    t = np.array([[1, 0, 0, 1]], dtype)
    value, d = F.binary_cross_entropy(z, t)
    assert value == pytest.approx(5e3)
    assert_array_equal(d, np.array([[0, 0, 0.25, -0.25]], dtype))
    z = np.array([[INF, -INF]], dtype)
    value, d = F.binary_cross_entropy(z, np.array([[1, 0]], dtype))
    assert value == 0
    assert_array_equal(d, 0)
    assert F.binary_cross_entropy(z, np.array([[0, 0]], dtype))[0] == INF


def test_binary_cross_entropy_keeps_small_losses(backend, dtype):
    """log(1 + e) and not log(1) for logits that are almost sure: exp(-z), to the last places."""
    for z in (20.0, 40.0, 80.0):
        value, d = F.binary_cross_entropy(np.array([[z]], dtype), np.ones((1, 1), dtype))
        assert value == pytest.approx(math.exp(-z), rel=1e-6)
        assert d[0, 0] == pytest.approx(-math.exp(-z), rel=1e-6)


def test_poisson_overflows_to_infinity(backend, dtype):
    value, d = F.poisson(np.array([[1e4]], dtype), np.array([[3.0]], dtype))
    assert (value, d[0, 0]) == (INF, INF)
    value, d = F.poisson(np.array([[-INF]], dtype), np.array([[0.0]], dtype))
    assert (value, d[0, 0]) == (0, 0)


@pytest.mark.parametrize("outputs", [1, 3, 16, 20])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_nan_outputs_are_not_swallowed(loss, outputs, backend, dtype, rng):
    for place in {0, outputs // 2, outputs - 1}:
        z = rng.standard_normal((5, outputs)).astype(dtype)
        z[2, place] = NAN
        t = targets_for(loss, z.shape, rng, dtype)
        value, d = backends.active().loss_and_gradient(loss, z, t)
        assert np.isnan(value) and np.isnan(d[2]).any()
        others = [0, 1, 3, 4]
        assert_allclose(d[others], specification.loss_and_gradient(loss, z[others], t[others])[1] * 4 / 5,
                        **tolerance(dtype))


# Weights ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("outputs", [1, 3, 20])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_weight_is_a_number_of_copies(loss, outputs, backend, dtype, rng):
    z, t = next(cases(loss, (11, outputs), rng, dtype))
    weights = rng.integers(0, 4, 11)
    weights[0] = 2
    value, d = backends.active().loss_and_gradient(loss, z, t, weights.astype(np.float64))
    rows = np.repeat(np.arange(11), weights)
    expected, copies = backends.active().loss_and_gradient(
        loss, z[rows], np.ascontiguousarray(t[rows]))
    assert_allclose(value, expected, rtol=20 * np.finfo(dtype).eps)
    gathered = np.zeros_like(d)
    np.add.at(gathered, rows, copies)
    assert_allclose(d, gathered, **tolerance(dtype))


@pytest.mark.parametrize("outputs", [1, 3, 16, 17])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_a_row_of_weight_0_counts_for_nothing(loss, outputs, backend, dtype, rng):
    z, t = next(cases(loss, (12, outputs), rng, dtype))
    weights = np.linspace(0.5, 2, 12)
    weights[[3, 11]] = 0
    rest = weights > 0
    expected, gradient = backends.active().loss_and_gradient(loss, z[rest], t[rest], weights[rest])
    for held in (NAN, INF, -INF, 1e30):
        z[~rest] = held
        value, d = backends.active().loss_and_gradient(loss, z, t, weights)
        assert value == pytest.approx(expected, rel=1e-6), held
        assert_array_equal(d[~rest], 0)
        assert_allclose(d[rest], gradient, **tolerance(dtype))


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
@pytest.mark.parametrize("loss", LOSSES[:1] + LOSSES[5:6], ids=repr)
def test_only_ratios_of_weights_matter(loss, scale, backend, dtype, rng):
    z, t = next(cases(loss, (7, 5), rng, dtype))
    weights = rng.random(7)
    value, d = backends.active().loss_and_gradient(loss, z, t, weights)
    again, scaled = backends.active().loss_and_gradient(loss, z, t, weights * scale)
    assert again == pytest.approx(value, rel=1e-6)
    assert_allclose(scaled, d, **tolerance(dtype))


@pytest.mark.parametrize("name", ["mean_squared_error", "mean_absolute_error", "huber", "poisson",
                                  "binary_cross_entropy", "hinge", "squared_hinge"])
def test_weights_of_any_shape_and_dtype(name, backend, dtype, rng):
    function = getattr(F, name)
    z, t = rng.standard_normal((6, 2, 3)).astype(dtype), np.ones((6, 2, 3), dtype)
    w = np.array([1, 2, 3, 0, 5, 6])
    value, d = function(z.reshape(6, 6), t.reshape(6, 6), weights=w.astype(np.float64))
    for shape in ((6, 2, 3), (6, 6)):
        for weights in (w, w.astype(np.float32), w.astype(np.uint8), w.tolist(), w.astype(float)[::-1][::-1]):
            again, gradient = function(z.reshape(shape), t.reshape(shape), weights=weights)
            assert again == pytest.approx(value, rel=1e-5)
            assert_allclose(gradient.reshape(6, 6), d, **tolerance(dtype))
    value, d = function(z[:, 0, 0].copy(), t[:, 0, 0].copy(), weights=w)
    again, gradient = function(z[:, :1, 0].copy(), t[:, :1, 0].copy(), weights=w)
    assert again == pytest.approx(value, rel=1e-5)
    assert_allclose(gradient[:, 0], d, **tolerance(dtype))
    ones = function(z, t, weights=np.ones(6))
    assert ones[0] == pytest.approx(function(z, t)[0], rel=1e-5)
    assert_allclose(ones[1], function(z, t)[1], **tolerance(dtype))


EXTREME_WEIGHTS = {
    "the largest": [1.7e308] * 6,
    "large": [1e308, 1e307, 0, 1e306, 1e300, 1e308],
    "the smallest": [5e-324] * 6,
    "subnormal": [5e-324, 0, 1.5e-323, 1e-320, 1e-310, 5e-324],
    "one and the smallest": [1, 5e-324, 0, 1, 5e-324, 1],
    "far apart": [1e200, 1, 1e-200, 1e200, 1e-300, 0],
    "one that hardly counts": [1, 1e-46, 1e-60, 1, 1, 1],
    "one large": [1e308, 1, 1, 1, 1, 1],
}


def weighted_exactly(values, weights):
    """sum_i w_i values_i / sum_i w_i, in fractions."""
    weights = [Fraction(w) for w in weights]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


@pytest.mark.parametrize("outputs", [3, 20])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_weights_near_the_ends_of_their_range(loss, outputs, backend, dtype, rng):
    z, t = next(cases(loss, (6, outputs), rng, dtype))
    name = "softmax_cross_entropy" if loss.name == "cross_entropy" else loss.name
    options = {key: getattr(loss, key) for key in ("label_smoothing", "delta", "pos_weight")
               if getattr(loss, key, None) is not None}
    rows = [specification.loss_and_gradient(loss, z[i:i + 1].astype(np.float64), exact(t[i:i + 1]))
            for i in range(6)]
    eps, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).tiny)
    for which, weights in EXTREME_WEIGHTS.items():
        given = list(weights)
        value, d = getattr(F, name)(z, t, weights=given, **options)
        assert given == weights
        expected = float(weighted_exactly([Fraction(row) for row, _ in rows], weights))
        assert value == pytest.approx(expected, rel=500 * eps, abs=1e-300), which
        total = sum(Fraction(w) for w in weights)
        for i, (_, gradient) in enumerate(rows):
            share = float(Fraction(weights[i]) / total)
            assert_allclose(d[i], gradient[0] * share, rtol=1000 * eps, atol=100 * (eps * share + tiny),
                            err_msg=which)
            if weights[i] == 0:
                assert_array_equal(d[i], 0)


@pytest.mark.parametrize("weights", EXTREME_WEIGHTS.values(), ids=EXTREME_WEIGHTS)
def test_a_row_that_hardly_counts_is_not_skipped(weights, backend, dtype):
    """NaN in a row of any weight but 0 shows."""
    z = np.zeros((6, 3), dtype)
    for row, weight in enumerate(weights):
        spoilt = z.copy()
        spoilt[row] = NAN
        for outputs in (spoilt, np.repeat(spoilt, 9, axis=1)):
            value, d = F.softmax_cross_entropy(outputs, [0, 1, 2, 0, 1, 2], weights=weights)
            assert np.isnan(value) == np.isnan(d[row]).any() == (weight > 0)


@pytest.mark.parametrize("weights", EXTREME_WEIGHTS.values(), ids=EXTREME_WEIGHTS)
def test_extreme_weights_of_a_model(weights, backend, dtype, rng):
    """evaluate, gradients and training: what they are with ordinary weights of the same ratios."""
    X, y = rng.standard_normal((6, 4)).astype(dtype), [0, 1, 2, 0, 1, 2]
    largest = max(map(Fraction, weights))
    ordinary = [float(max(Fraction(w) / largest, Fraction(1, 2**900) if w else 0)) for w in weights]
    tolerances = {"rtol": 1e-3, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-11}
    results = []
    for w in (weights, ordinary):
        model = MLP([4, 5, 3], dtype=dtype, seed=0)
        result = [model.evaluate(X, y, sample_weight=w)["loss"]]
        loss, gradients = model.loss_and_gradients(X, y, sample_weight=w)
        history = model.fit(X, y, epochs=2, batch_size=2, optimizer=SGD(0.1), sample_weight=w, shuffle=False,
                            progress=False, validation_data=(X, y, w))
        results.append([*result, loss, *gradients.weights, history.loss, history.val_loss, *model.weights,
                        *model.biases])
        assert np.isfinite(history.loss).all() and all(np.isfinite(p).all() for p in model.weights)
    for one, other in zip(*results, strict=True):
        assert_allclose(one, other, **tolerances)


@pytest.mark.parametrize("sample_weight, class_weight", [
    ([1e200] * 3, {0: 1e200, 1: 1.0, 2: 1.0}), ([1e-200] * 3, {0: 1e-200, 1: 1.0, 2: 1.0})])
def test_products_of_weights_that_no_float_holds(sample_weight, class_weight):
    message = "^class_weight: expected a product .* got 1e.200 times 1e.200 in row 0"
    with pytest.raises(ValueError, match=message):
        losses.targets_and_weights(LOSSES[0], "y", [0, 1, 2], 3, 3, np.dtype("float32"), sample_weight,
                                   class_weight)


# Cross-entropy ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("classes", [2, 10, 16, 17, 40])
def test_label_smoothing_is_smoothed_rows(classes, backend, dtype, rng):
    z, labels = rng.standard_normal((20, classes)).astype(dtype), rng.integers(0, classes, 20)
    rows = np.eye(classes, dtype=dtype)[labels]
    smooth = (rows * 0.7 + 0.3 / classes).astype(dtype)
    expected, gradient = F.softmax_cross_entropy(z, smooth)
    for targets in (labels, rows):
        value, d = F.softmax_cross_entropy(z, targets, label_smoothing=0.3)
        assert value == pytest.approx(expected, rel=1e-5 if dtype == np.float32 else 1e-13)
        assert_allclose(d, gradient, **tolerance(dtype))


@pytest.mark.any_isa
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("module", ISAS, ids=lambda m: f"{m.ISA}-{m.DTYPE}")
def test_a_lane_for_every_row_changes_no_bit(module, weighted, rng):
    """Up to 16 classes are computed another way than 17; a 17th of probability 0 must not be noticed."""
    z = (3 * rng.standard_normal((37, 16))).astype(module.DTYPE)
    labels = rng.integers(0, 16, 37).astype(np.intp)
    weights = rng.random(37) if weighted else None
    wide = np.concatenate([z, np.full((37, 1), -INF, z.dtype)], axis=1)
    d, wide_d = np.empty_like(z), np.empty_like(wide)
    value = module.loss_of_rows(d, z, None, labels, weights, 0, 0.0, None)
    assert module.loss_of_rows(wide_d, wide, None, labels, weights, 0, 0.0, None) == value
    assert wide_d[:, :16].tobytes() == d.tobytes()


@pytest.mark.parametrize("index", [-100, 2, 255])
@pytest.mark.parametrize("classes", [3, 20])
def test_ignore_index(index, classes, backend, dtype, rng):
    z, labels = rng.standard_normal((15, classes)).astype(dtype), rng.integers(0, classes, 15)
    labels[[0, 4, 14]] = index
    rest = labels != index
    for weights in (None, rng.random(15)):
        value, d = F.softmax_cross_entropy(z, labels, ignore_index=index, weights=weights)
        expected, gradient = F.softmax_cross_entropy(
            z[rest], labels[rest], weights=None if weights is None else weights[rest])
        assert value == pytest.approx(expected, rel=1e-5)
        assert_array_equal(d[~rest], 0)
        assert_allclose(d[rest], gradient, **tolerance(dtype))
    everything = np.full(15, index)
    with pytest.raises(ValueError, match="^targets: .*ignored"):
        F.softmax_cross_entropy(z, everything, ignore_index=index)
    with pytest.raises(ValueError, match="^targets: .*ignored"):
        F.softmax_cross_entropy(z, labels, ignore_index=index, weights=~rest)
    assert_array_equal(everything, index)


def test_an_index_that_does_not_occur(backend, dtype, rng):
    z, labels = rng.standard_normal((5, 3)).astype(dtype), rng.integers(0, 3, 5)
    assert F.softmax_cross_entropy(z, labels, ignore_index=-1)[0] == F.softmax_cross_entropy(z, labels)[0]
    with pytest.raises(ValueError, match="^targets: expected class indices from 0 to 2, got -2 in row 1"):
        F.softmax_cross_entropy(z, np.array([0, -2, -1, 0, 0]), ignore_index=-1)


@pytest.mark.parametrize("outputs", [1, 5, 16, 21])
def test_pos_weight_of_every_output(outputs, backend, dtype, rng):
    z, t = rng.standard_normal((9, outputs)).astype(dtype), rng.integers(0, 2, (9, outputs)).astype(dtype)
    p = rng.random(outputs) * 4
    value, d = F.binary_cross_entropy(z, t, pos_weight=p)
    one_by_one = [F.binary_cross_entropy(z[:, j].copy(), t[:, j].copy(), pos_weight=float(p[j]))
                  for j in range(outputs)]
    assert value == pytest.approx(np.mean([loss for loss, _ in one_by_one]), rel=1e-5)
    assert_allclose(d, np.stack([g for _, g in one_by_one], axis=1) / outputs, **tolerance(dtype))
    for same in (p.tolist(), tuple(p)):
        assert F.binary_cross_entropy(z, t, pos_weight=same)[0] == value


def test_kl_divergence_is_cross_entropy_less_entropy(backend, dtype, rng):
    z, t = rng.standard_normal((20, 7)).astype(dtype), rng.dirichlet(np.ones(7), 20).astype(dtype)
    value, d = F.kl_divergence(z, t)
    cross, gradient = F.softmax_cross_entropy(z, t)
    entropy = -(t.astype(float) * np.log(t.astype(float))).sum() / 20
    assert value == pytest.approx(cross - entropy, rel=1e-4 if dtype == np.float32 else 1e-12)
    assert value > 0
    assert_allclose(d, gradient, **tolerance(dtype))


# Names and parameters -----------------------------------------------------------------------------------

def test_names_and_codes():
    assert {name: cls.code for name, cls in losses.BY_NAME.items()} == ops.codes(ops.LOSSES)
    for name, cls in losses.BY_NAME.items():
        assert cls.name == name
        assert losses.resolve(name) == losses.resolve(cls) == losses.resolve(cls()) == cls()
        assert losses.resolve(cls()) in {cls()}                         # hashable
        assert "References" in cls.__doc__ and ">>>" in cls.__doc__


@pytest.mark.parametrize("name, nearest", [("foo", ""), ("crosentropy", "cross_entropy"), ("Huger", "huber"),
                                           ("mean_square_error", "mean_squared_error"), ("", "")])
def test_unknown_name(name, nearest):
    with pytest.raises(ValueError, match=f"^loss: unknown name '{name}'.*{nearest}.*Known: cross_entropy, "):
        losses.resolve(name)


@pytest.mark.parametrize("wrong", [None, 3, ["huber"], losses.Loss, losses.Loss(), int, {"name": "huber"}])
def test_no_loss(wrong):
    with pytest.raises(TypeError, match="^loss: expected a name"):
        losses.resolve(wrong)


@pytest.mark.parametrize("make, error, message", [
    (lambda: losses.CrossEntropy(-0.1), ValueError, "label_smoothing: .*from 0 to 1, got -0.1"),
    (lambda: losses.CrossEntropy(1.1), ValueError, "label_smoothing: .*from 0 to 1, got 1.1"),
    (lambda: losses.CrossEntropy(NAN), ValueError, "label_smoothing"),
    (lambda: losses.CrossEntropy("0.1"), TypeError, "label_smoothing: expected a number, got str"),
    (lambda: losses.CrossEntropy(ignore_index=1.0), TypeError, "ignore_index: expected an integer, got 1.0"),
    (lambda: losses.CrossEntropy(ignore_index=True), TypeError, "ignore_index"),
    (lambda: losses.Huber(0), ValueError, "delta: .*above 0, got 0"),
    (lambda: losses.Huber(-1), ValueError, "delta: "),
    (lambda: losses.Huber(INF), ValueError, "delta: "),
    (lambda: losses.Huber(NAN), ValueError, "delta: "),
    (lambda: losses.Huber(None), TypeError, "delta: "),
    (lambda: losses.BinaryCrossEntropy(-1), ValueError, "pos_weight: .*from 0 up, got -1"),
    (lambda: losses.BinaryCrossEntropy(INF), ValueError, "pos_weight: "),
    (lambda: losses.BinaryCrossEntropy([1, -1]), ValueError, r"pos_weight\[1\]: .*got -1"),
    (lambda: losses.BinaryCrossEntropy([1, NAN]), ValueError, r"pos_weight\[1\]"),
    (lambda: losses.BinaryCrossEntropy("x"), TypeError, "pos_weight: "),
    (lambda: losses.BinaryCrossEntropy([[1.0]]), TypeError, "pos_weight: "),
    (lambda: losses.BinaryCrossEntropy([1, 2]).pos_weights(3, "float32"), ValueError,
     "pos_weight: .*each of 3 outputs, got 2"),
    (lambda: MLP([2, 3], loss=losses.BinaryCrossEntropy([1, 2])), ValueError, "pos_weight: .*got 2"),
])
def test_parameters_out_of_range(make, error, message, backend):
    with pytest.raises(error, match="^" + message):
        make()


# Targets ------------------------------------------------------------------------------------------------

GOOD_TARGETS = {
    "cross_entropy": [[0, 2, 1], [[0], [2], [1]], np.eye(3), np.eye(3, dtype="u1")],
    "multiclass_hinge": [[0, 2, 1], np.array([[0], [1], [2]])],
    "kl_divergence": [np.eye(3), [[0.5, 0.25, 0.25]] * 3],
    "mean_squared_error": [np.eye(3), [[1, 2, 3]] * 3],
    "mean_absolute_error": [np.eye(3)],
    "huber": [-np.eye(3)],
    "poisson": [np.eye(3, dtype=int), np.full((3, 3), 7.5)],
    "binary_cross_entropy": [np.eye(3), np.eye(3) > 0, np.eye(3, dtype=np.int8), np.full((3, 3), 0.3)],
    "hinge": [2 * np.eye(3) - 1, (2 * np.eye(3) - 1).astype(np.int8)],
    "squared_hinge": [1 - 2 * np.eye(3)],
}
NO_INDICES = [
    ([0, 1, 3], ValueError, "indices from 0 to 2, got 3 in row 2"),
    ([0, -1, 0], ValueError, "got -1 in row 1"),
    ([0.0, 1.0, 2.0], TypeError, "integer dtype, got float64"),
    ([True, False, True], TypeError, "integer dtype, got bool"),
    (["a", "b", "c"], TypeError, "numbers, got words such as 'a'"),
    ([0, 1], ValueError, r"shape \(3,\).*got \(2,\)"),
    (None, TypeError, "class indices or values, got None"),
]
NO_DISTRIBUTIONS = [
    (np.full((3, 3), 0.5), ValueError, "sum to 1 within 0.001, got 1.5 in row 0"),
    (np.array([[1, 0, 0], [0, 1, 0], [2, -1, 0]]), ValueError, "probabilities, got -1.0 in row 2, column 1"),
    (np.array([[1, 0, 0], [0, 1, 0], [NAN, 0, 0]]), ValueError, r"NaN at \[2, 0\]"),
    (np.eye(4), ValueError, r"shape \(rows, 3\), got \(4, 4\)"),
    (np.eye(3)[:2], ValueError, "3 rows.*got 2"),
]
NO_VALUES = [
    (np.array([[1, 0, 0], [0, 1, NAN], [0, 0, 0]]), ValueError, r"NaN at \[1, 2\]"),
    ([0, 1, 2], ValueError, r"shape \(rows, 3\), got \(3,\)"),
    (np.eye(3).astype(str), TypeError, "numbers"),
    (np.eye(3, dtype=complex), TypeError, "complex"),
]
NO_SIGNS = [
    *NO_VALUES[:2],
    (np.eye(3), ValueError, r"labels -1 or \+1 .*2 y - 1.*got 0.0 at \[0, 1\]"),
    (np.full((3, 3), 2), ValueError, r"got 2.0 at \[0, 0\]"),
    (np.full((3, 3), 0.5), ValueError, r"got 0.5 at"),
    (np.full((3, 3), INF), ValueError, r"got inf at"),
]
BAD_TARGETS = {
    "cross_entropy": [*NO_INDICES, *NO_DISTRIBUTIONS],
    "multiclass_hinge": [*NO_INDICES, (np.eye(3), TypeError, "integer dtype, got float64"),
                         (np.eye(3, dtype=int), ValueError, r"shape \(3,\).*got \(3, 3\)")],
    "kl_divergence": [*NO_DISTRIBUTIONS, ([0, 1, 2], ValueError, r"shape \(rows, 3\), got \(3,\)")],
    "mean_squared_error": NO_VALUES,
    "mean_absolute_error": NO_VALUES,
    "huber": NO_VALUES,
    "poisson": [*NO_VALUES, (-np.eye(3), ValueError, r"counts.*got -1.0 at \[0, 0\]"),
                (np.full((3, 3), INF), ValueError, r"counts.*got inf at \[0, 0\]")],
    "binary_cross_entropy": [
        *NO_VALUES, (2 * np.eye(3), ValueError, r"labels 0 or 1.*got 2.0 at \[0, 0\]"),
        (2 * np.eye(3) - 1, ValueError, r"labels 0 or 1.*got -1.0 at \[0, 1\]"),
        (np.full((3, 3), INF), ValueError, "got inf at"),
        (np.full((3, 3), 1.001), ValueError, "got 1.00")],
    "hinge": NO_SIGNS,
    "squared_hinge": NO_SIGNS,
}


@pytest.mark.parametrize("name", losses.BY_NAME)
def test_targets_of_a_model(name, backend, rng):
    X = rng.standard_normal((3, 4))
    model, optimizer = MLP([4, 5, 3], loss=name, seed=0), SGD(0.01)
    for y in GOOD_TARGETS[name]:
        assert model.train_step(X, y, optimizer) is not None
        model.loss_and_gradients(X, y)
        model.evaluate(X, y)
    before = Learned(model)
    for y, error, message in BAD_TARGETS[name]:
        if np.ndim(y) == 1 and np.asarray(y).dtype.kind in "bf":
            continue                    # models take them: see test_labels.py
        for call in (lambda y: model.train_step(X, y, optimizer), lambda y: model.loss_and_gradients(X, y),
                     lambda y: model.evaluate(X, y)):
            with pytest.raises(error, match=rf"(?s)^y\b.*{message}"):
                call(y)
    assert Learned(model) == before


@pytest.mark.parametrize("name", losses.BY_NAME)
def test_targets_of_a_function(name, backend):
    function = getattr(F, "softmax_cross_entropy" if name == "cross_entropy" else name)
    z = np.zeros((3, 3), np.float32)
    for y, error, message in BAD_TARGETS[name]:
        y = np.asarray(y)
        y = y.astype(np.float32) if y.dtype == float and y.ndim == 2 else y
        before = y.copy()
        if error is TypeError or "shape" in message or "rows" in message or y.ndim != 2:
            message, error = "", (TypeError, ValueError)
        with pytest.raises(error, match=rf"(?s)^targets\b.*{message}"):
            function(z, y)
        assert_array_equal(y, before)
    assert_array_equal(z, 0)


def integer_targets(name):
    """Tables and labels of integers and booleans that mean the same as floats, (targets, what they mean)."""
    eye = np.eye(3)
    labels = np.array([0, 2, 1])
    return {
        "cross_entropy": [*((eye[::-1].astype(kind), eye[::-1]) for kind in "?bBhHiIlLqQ"),
                          (labels[:, None], labels), (labels[:, None].astype("u1"), labels)],
        "multiclass_hinge": [(labels[:, None], labels), (labels[:, None].astype("i1"), labels)],
        "kl_divergence": [(eye.astype(kind), eye) for kind in "?bBhHiIlLqQ"],
        "poisson": [(np.array([[0, 1, 7]] * 3, kind), np.array([[0.0, 1, 7]] * 3)) for kind in "bBhHiIlLqQ"],
        "binary_cross_entropy": [(eye.astype(kind), eye) for kind in "?bBhHiIlLqQ"],
        "hinge": [((2 * eye - 1).astype(kind), 2 * eye - 1) for kind in "bhilq"],
        "squared_hinge": [((2 * eye - 1).astype(kind), 2 * eye - 1) for kind in "bhilq"],
    }.get(name, [((3 * eye).astype(kind), 3 * eye) for kind in "bBhHiIlLqQ"] + [(eye > 0, eye)])


@pytest.mark.parametrize("name", losses.BY_NAME)
def test_integer_targets_of_functions_and_of_models(name, backend, dtype, rng):
    """The array functions take the integers that `fit` takes, for the same."""
    function = getattr(F, "softmax_cross_entropy" if name == "cross_entropy" else name)
    X = rng.standard_normal((3, 4)).astype(dtype)
    model = MLP([4, 3], loss=name, dtype=dtype, seed=0)
    z = model.forward(X)
    for t, meant in integer_targets(name):
        expected, gradient = function(z, meant.astype(dtype) if meant.ndim == 2 else meant)
        before = t.copy()
        for given in (t, t.tolist(), np.asfortranarray(t), t.astype(t.dtype.newbyteorder())):
            value, d = function(z, given)
            assert value == pytest.approx(expected, rel=1e-6) and d.dtype == dtype
            assert_allclose(d, gradient, **tolerance(dtype))
            assert model.evaluate(X, given)["loss"] == pytest.approx(value, rel=1e-5, abs=1e-6)
        out = np.empty_like(z)
        assert function(z, t, weights=[1, 0, 2], out=out)[1] is out
        assert_array_equal(t, before)


def test_a_column_of_labels_with_ignored_ones(backend, dtype, rng):
    z, labels = rng.standard_normal((5, 3)).astype(dtype), np.array([0, -1, 2, 1, -1])
    expected, gradient = F.softmax_cross_entropy(z, labels, ignore_index=-1)
    value, d = F.softmax_cross_entropy(z, labels[:, None], ignore_index=-1)
    assert value == expected
    assert_array_equal(d, gradient)


@pytest.mark.parametrize("name, t, message", [
    ("softmax_cross_entropy", [[1, 1, 0]], "sum to 1.*got 2 in row 0"),
    ("softmax_cross_entropy", [[0, 0, 0]], "sum to 1.*got 0 in row 0"),
    ("softmax_cross_entropy", [[2, -1, 0]], "got -1.0 in row 0, column 1"),
    ("softmax_cross_entropy", [[True, True, False]], "sum to 1.*got 2"),
    ("kl_divergence", [[0, 2, 0]], "sum to 1.*got 2 in row 0"),
    ("binary_cross_entropy", [[0, 2, 1]], "labels 0 or 1.*got 2.0 at"),
    ("hinge", [[0, 1, 1]], "labels -1 or .1.*got 0.0 at"),
    ("squared_hinge", [[True, True, False]], "labels -1 or .1.*got 0.0 at"),
    ("poisson", [[0, -1, 1]], "counts.*got -1.0 at"),
])
def test_integers_that_are_no_targets(name, t, message, backend, dtype):
    with pytest.raises(ValueError, match=f"^targets: .*{message}"):
        getattr(F, name)(np.zeros((1, 3), dtype), np.array(t))


def test_integers_that_the_dtype_does_not_hold(backend, dtype):
    first = 2 ** np.finfo(dtype).nmant * 2 + 1
    for t in (np.array([[0, 1], [first, 0]]), np.array([[0, 1], [first, 0]], np.uint64)):
        message = rf"^targets: expected integers that {dtype} holds, got {first} at \[1, 0\]"
        with pytest.raises(ValueError, match=message):
            F.mean_squared_error(np.zeros((2, 2), dtype), t)
    F.mean_squared_error(np.zeros((2, 2), dtype), np.array([[0, 1], [first - 1, 0]]))


def test_the_place_of_a_bad_target_is_that_of_all(backend):
    """Targets are looked through block by block; the row named is counted from the first of all."""
    y = np.zeros((10_000, 1))
    y[9000] = 2
    model = MLP([1, 1], loss="binary_cross_entropy")
    with pytest.raises(ValueError, match=r"at \[9000, 0\]"):
        model.evaluate(np.zeros((10_000, 1)), y)
    rows = np.tile([0.5, 0.5], (10_000, 1))
    rows[5000] = [1, 0.5]
    with pytest.raises(ValueError, match="in row 5000"):
        MLP([1, 2]).evaluate(np.zeros((10_000, 1)), rows)


# Targets that change -------------------------------------------------------------------------------------

def change_targets_while_losses_run(seconds):
    """Another thread writes labels that are no classes; what is read beyond an array kills the process."""
    sys.setswitchinterval(1e-5)
    labels, done = np.zeros(20_000, np.intp), threading.Event()

    def write():
        while not done.is_set():
            for label in (2**40, 0, -(2**40), 0):
                labels[:] = label

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    outputs = {classes: np.zeros((len(labels), classes), kind) for classes in (10, 40) for kind in "fd"}
    model, counts = MLP([40, 40]), {True: 0, False: 0}
    stop = time.monotonic() + seconds
    while time.monotonic() < stop or not counts[True] and time.monotonic() < stop + 30:
        for z in outputs.values():
            for call in (F.softmax_cross_entropy, F.multiclass_hinge, model.evaluate):
                try:
                    call(z.astype(np.float32) if call == model.evaluate else z, labels)
                    counts[True] += 1
                except (ValueError, IndexError, RuntimeError):      # before the check; after it
                    counts[False] += 1
                if call == F.multiclass_hinge and z.shape[1] == 10:
                    break
    done.set()
    thread.join()
    print("done", counts[True] > 0)


@pytest.mark.parametrize("backend", backends.NAMES)
def test_labels_that_another_thread_changes(backend):
    code = (f"import fastmlp, test_losses as t; fastmlp.set_backend({backend!r}); "
            "t.change_targets_while_losses_run(0.7)")
    result = subprocess.run([sys.executable, "-X", "faulthandler", "-c", code], cwd=os.path.dirname(__file__),
                            capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "done True\n"


# Weights that are refused --------------------------------------------------------------------------------

@pytest.mark.parametrize("wrong, error, message", [
    ([1, 2], ValueError, r"shape \(3,\).*got \(2,\)"),
    ([[1], [1], [1]], ValueError, r"shape \(3,\).*got \(3, 1\)"),
    (1.0, ValueError, r"shape \(3,\).*got \(\)"),
    ([1, -0.5, 1], ValueError, "finite and not negative, got -0.5 in row 1"),
    ([1, NAN, 1], ValueError, "got nan in row 1"),
    ([1, 1, INF], ValueError, "got inf in row 2"),
    ([0, 0, 0], ValueError, "all 0"),
    ([1e308, 0, 5e-324], ValueError, "nearer to each other, got weights from 4.94.*e-324 to 1e.308"),
    (["1", "1", "1"], TypeError, "numbers"),
    ([1j, 1, 1], TypeError, "complex"),
    ([None, 1, 1], TypeError, "object"),
    (np.ma.masked_array([1.0, 1.0, 1.0]), TypeError, "masked"),
])
def test_bad_weights(wrong, error, message, backend, dtype):
    z, t = np.zeros((3, 3), dtype), np.array([0, 1, 2])
    with pytest.raises(error, match=rf"(?s)^weights\b.*{message}"):
        F.softmax_cross_entropy(z, t, weights=wrong)
    with pytest.raises(error, match=rf"(?s)^weights\b.*{message}"):
        F.hinge(z, np.ones_like(z), weights=wrong)
    with pytest.raises(error, match=rf"(?s)^sample_weight\b.*{message}"):
        losses.targets_and_weights(losses.CrossEntropy(), "y", t, 3, 3, dtype, sample_weight=wrong)


def test_out_must_be_apart_from_weights(backend):
    buffer = np.ones(9)
    with pytest.raises(ValueError, match="^out: .*weights"):
        F.mean_squared_error(np.zeros((3, 3)), np.ones((3, 3)), weights=buffer[:3], out=buffer.reshape(3, 3))
    assert_array_equal(buffer, 1)


@pytest.mark.parametrize("name, loss, y, outputs, expected", [
    ("indices", losses.CrossEntropy(), [0, 0, 0, 1], 3, [2 / 3, 2 / 3, 2 / 3, 2]),
    ("ignored", losses.CrossEntropy(ignore_index=9), [0, 9, 0, 1, 9], 2, [0.75, 0, 0.75, 1.5, 0]),
    ("binary", losses.BinaryCrossEntropy(), [0, 0, 0, 1], 1, [2 / 3, 2 / 3, 2 / 3, 2]),
    ("signs", losses.Hinge(), [1, -1, -1, -1], 1, [2, 2 / 3, 2 / 3, 2 / 3]),
    ("crammer", losses.MultiClassHinge(), [1, 1, 1, 1], 3, [1, 1, 1, 1]),
])
def test_balanced(name, loss, y, outputs, expected):
    _, weights = losses.targets_and_weights(loss, "y", y, len(y), outputs, np.dtype("float32"),
                                            class_weight="balanced")
    assert weights.dtype == np.float64
    assert_allclose(weights, expected)
    _, both = losses.targets_and_weights(loss, "y", y, len(y), outputs, np.dtype("float32"),
                                         np.arange(len(y)) + 1, "balanced")
    assert_allclose(both, np.array(expected) * (np.arange(len(y)) + 1))


def test_class_weight_dict():
    def weights(class_weight, y=(0, 1, 2, 1), loss=LOSSES[0], outputs=3):
        return losses.targets_and_weights(loss, "y", list(y), len(y), outputs, np.dtype("float64"),
                                          class_weight=class_weight)[1].tolist()

    assert weights({1: 5}) == [1, 5, 1, 5]
    assert weights({0: 0, 1: 0.5, 2: 2}) == [0, 0.5, 2, 0.5]
    assert weights({np.int64(2): 3}) == [1, 1, 3, 1]
    assert weights({}) == [1, 1, 1, 1]
    assert weights({1: 5}, (0, 1, 1), losses.BinaryCrossEntropy(), 1) == [1, 5, 5]
    assert weights({-1: 5}, (1, -1, 1), losses.Hinge(), 1) == [1, 5, 1]


@pytest.mark.parametrize("class_weight, loss, y, outputs, error, message", [
    ({3: 1.0}, "cross_entropy", [0, 1, 2], 3, ValueError, "class_weight: unknown class 3, .*0 to 2"),
    ({"a": 1.0}, "cross_entropy", [0, 1, 2], 3, ValueError, "class_weight: unknown class 'a'"),
    ({1: -1.0}, "cross_entropy", [0, 1, 2], 3, ValueError, r"class_weight\[1\]: .*from 0 up, got -1"),
    ({1: NAN}, "cross_entropy", [0, 1, 2], 3, ValueError, r"class_weight\[1\]"),
    ({1: INF}, "cross_entropy", [0, 1, 2], 3, ValueError, r"class_weight\[1\]"),
    ({1: "x"}, "cross_entropy", [0, 1, 2], 3, TypeError, r"class_weight\[1\]: expected a number"),
    ({0: 0, 1: 0, 2: 0}, "cross_entropy", [0, 1, 2], 3, ValueError, "weights of y: .*all 0"),
    ({-1: 2.0}, "binary_cross_entropy", [0, 1, 1], 1, ValueError, "class_weight: unknown class -1.*0 and 1"),
    ({0: 2.0}, "hinge", [-1, 1, 1], 1, ValueError, "class_weight: unknown class 0.*-1 and 1"),
    ("balance", "cross_entropy", [0, 1, 2], 3, ValueError, "class_weight: unknown name.*'balanced'"),
    ([1, 2, 3], "cross_entropy", [0, 1, 2], 3, TypeError, "class_weight: expected a dict or 'balanced'"),
    ("balanced", "cross_entropy", np.eye(3), 3, ValueError, "class_weight: .*rows of probabilities"),
    ("balanced", "kl_divergence", np.eye(3), 3, ValueError, "class_weight: .*rows of probabilities"),
    ("balanced", "mean_squared_error", np.eye(3), 3, ValueError, "class_weight: .*values"),
    ("balanced", "poisson", np.eye(3), 3, ValueError, "class_weight: .*counts"),
    ("balanced", "binary_cross_entropy", np.eye(3), 3, ValueError, "class_weight: .*3 labels a sample"),
    ("balanced", "binary_cross_entropy", [0, 0.5, 1], 1, ValueError, "class_weight: .*probabilities between"),
    ("balanced", lambda z, t: (0.0, z), [0, 1, 2], 3, ValueError, "class_weight: .*one's own"),
])
def test_bad_class_weight(class_weight, loss, y, outputs, error, message):
    with pytest.raises(error, match="^" + message):
        losses.targets_and_weights(losses.resolve(loss), "y", y, 3, outputs, np.dtype("float32"),
                                   class_weight=class_weight)


def test_all_ignored():
    loss = losses.CrossEntropy(ignore_index=-1)
    for sample_weight, y in ((None, [-1, -1]), ([1, 0], [-1, 0])):
        with pytest.raises(ValueError, match="^weights of y: .*all 0"):
            losses.targets_and_weights(loss, "y", y, 2, 3, np.dtype("float32"), sample_weight)


# Predictions --------------------------------------------------------------------------------------------

def test_predictions(backend, dtype):
    one, many = np.array([[-1.0], [0.5]], dtype), np.array([[-1, 2, 0.5], [3, -2, 1]], dtype)

    def predict(name, outputs):
        result = losses.resolve(name).predict(outputs.copy(), backends.active())
        return result.tolist()

    for name in ("cross_entropy", "kl_divergence", "multiclass_hinge"):
        assert predict(name, many) == [1, 0]
    for name in ("mean_squared_error", "mean_absolute_error", "huber"):
        assert predict(name, one) == [-1, 0.5] and predict(name, many) == many.tolist()
    assert predict("binary_cross_entropy", one) == [0, 1]
    assert predict("binary_cross_entropy", many) == [[0, 1, 1], [1, 0, 1]]
    for name in ("hinge", "squared_hinge"):
        assert predict(name, one) == [-1, 1]
        assert predict(name, many) == [[-1, 1, 1], [1, -1, 1]]
    assert_allclose(predict("poisson", one), np.exp([-1, 0.5]), rtol=1e-6)
    assert_allclose(predict("poisson", many), np.exp(many), rtol=1e-6)


def test_probabilities(backend, dtype):
    one, many = np.array([[-1.0], [0.5]], dtype), np.array([[-1, 2, 0.5], [3, -2, 1]], dtype)
    sigmoid = 1 / (1 + np.exp(-many.astype(float)))
    softmax = np.exp(many) / np.exp(many).sum(axis=1, keepdims=True)

    def proba(name, outputs):
        return losses.resolve(name).predict_proba(outputs.copy(), backends.active())

    for name in ("cross_entropy", "kl_divergence"):
        assert_allclose(proba(name, many), softmax, rtol=1e-5)
    assert_allclose(proba("binary_cross_entropy", many), sigmoid, rtol=1e-5)
    assert_allclose(proba("binary_cross_entropy", one), 1 / (1 + np.exp([1, -0.5])), rtol=1e-5)
    for name in ("mean_squared_error", "poisson"):
        with pytest.raises(AttributeError, match=f"predict_proba: .*{name}.*values, not classes"):
            proba(name, one)
    for name in ("hinge", "squared_hinge", "multiclass_hinge"):
        with pytest.raises(AttributeError, match=f"predict_proba: .*{name}.*scores, not probabilities"):
            proba(name, one)


# In a model ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("outputs", [1, 3, 20])
@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_loss_of_a_model(loss, outputs, backend, dtype, rng):
    """What the engine computes is what the functions do; every backend the same."""
    X = rng.standard_normal((37, 6)).astype(dtype)
    model = MLP([6, 7, outputs], activation="tanh", loss=loss, dtype=dtype, seed=0)
    for _, t in cases(loss, (37, outputs), rng, dtype):
        z = model.forward(X)
        value, d = backends.active().loss_and_gradient(loss, z, t)
        result, gradients = model.loss_and_gradients(X, t)
        assert_allclose(result, value, rtol=1e-5 if dtype == np.float32 else 1e-12, atol=1e-6)
        assert_allclose(gradients.biases[-1], d.sum(axis=0), **tolerance(dtype))
        assert_allclose(model.evaluate(X, t)["loss"], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_training_makes_the_loss_small(loss, backend, rng):
    if loss == losses.CrossEntropy(label_smoothing=1.0):
        pytest.skip("asks for equal logits")
    outputs = 3 if loss.classifies else 1
    X = rng.standard_normal((200, 2))
    side = X[:, 0] * 2 - X[:, 1] > 0.3
    if loss.targets == "distributions":
        y = np.where(side[:, None], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7])
    else:
        y = {"signs": 2 * side - 1, "binary": side, "counts": 3 * side}.get(loss.targets, side.astype(int))
    model = MLP([2, 16, outputs], loss=loss, seed=0)
    before = model.evaluate(X, y)["loss"]
    model.fit(X, y, epochs=40, batch_size=20, optimizer=SGD(0.05, momentum=0.9), progress=False)
    after = model.evaluate(X, y)["loss"]
    assert after < before - 0.1 * abs(before)
    predicted = model.predict(X)
    if loss.targets in ("classes", "binary", "signs"):
        assert (predicted == y).mean() > 0.95


# A loss of one's own ------------------------------------------------------------------------------------

def squared(z, t):
    return float(((z - t) ** 2).mean()), 2 * (z - t) / z.size


def test_callable_loss(backend, dtype, rng):
    z, t = rng.standard_normal((2, 5, 3)).astype(dtype)
    loss = losses.resolve(squared)
    assert loss == losses.CallableLoss(squared) and losses.resolve(loss) is loss
    value, d = backends.active().loss_and_gradient(loss, z, t)
    expected, gradient = F.mean_squared_error(z, t)
    assert value == pytest.approx(expected, rel=1e-6)
    assert_allclose(d, gradient, **tolerance(dtype))
    out = np.empty_like(z)
    assert backends.active().loss_and_gradient(loss, z, t, out=out)[1] is out
    assert_allclose(out, gradient, **tolerance(dtype))
    targets, counted = loss.check_targets("y", ["a", "b"], 2, 3, dtype)
    assert targets.tolist() == ["a", "b"] and counted is None
    with pytest.raises(ValueError, match=r"^y: expected 3 rows.*\(2,\)"):
        loss.check_targets("y", ["a", "b"], 3, 3, dtype)
    with pytest.raises(ValueError, match="^sample_weight: .*one's own"):
        losses.targets_and_weights(loss, "y", t, 5, 3, dtype, np.ones(5))


@pytest.mark.parametrize("result, error, message", [
    (None, TypeError, "returns .loss, gradient., got NoneType"),
    (1.0, TypeError, "got float"),
    ((1.0, np.zeros((5, 3)), 2), TypeError, "got tuple"),
    (("1", np.zeros((5, 3))), TypeError, "a number, got str"),
    ((np.zeros(2), np.zeros((5, 3))), TypeError, "a number, got ndarray"),
    ((1.0, np.zeros((5, 2))), ValueError, r"gradient: .*\(5, 3\) like the outputs, got \(5, 2\)"),
    ((1.0, np.zeros((5, 3), complex)), TypeError, "gradient: expected numbers, got dtype complex128"),
    ((1.0, None), TypeError, "gradient"),
])
def test_a_function_that_is_no_loss(result, error, message):
    with pytest.raises(error, match=f"^loss.*{message}"):
        losses.CallableLoss(lambda z, t: result)(np.zeros((5, 3)), np.zeros(5))


# Limits of what is reported, and deviance ---------------------------------------------------------------

@pytest.mark.parametrize("name, targets, z", [
    (losses.CrossEntropy, np.array([0, 1, 1]), [[-40.0, 40.0], [0.5, 0.0], [3.0, -9.0]]),
    (losses.CrossEntropy, np.array([0] * 3), [[-40.0, *[0.0] * 30], [0.5, *[0.0] * 30], [3.0, *[9.0] * 30]]),
    (losses.BinaryCrossEntropy, np.array([[1.0, 0], [0, 1], [1, 1]]), [[-40.0, 0.5], [7.0, 0.1], [3.0, 2.0]]),
    (losses.BinaryCrossEntropy, np.ones((3, 20)), np.linspace(-30, 10, 60).reshape(3, 20)),
])
@pytest.mark.parametrize("weights", [None, np.array([1.0, 0.5, 0.0])], ids=["", "weights"])
def test_max_loss(backend, dtype, name, targets, z, weights):
    """Of a sample, or of one of its outputs; gradients are as without it."""
    z = np.array(z, dtype)
    if targets.ndim == 2:
        targets = targets.astype(dtype)
    rows = np.arange(3)
    parts = [[backends_loss(backend, name(), z[i:i + 1], targets[i:i + 1])[0]] if targets.ndim == 1 else
             [backends_loss(backend, name(), z[i:i + 1, j:j + 1].copy(), targets[i:i + 1, j:j + 1].copy())[0]
              for j in range(z.shape[1])] for i in rows]
    expected = np.average([np.minimum(row, 2.5).mean() for row in parts], weights=weights)
    value, gradient = backends_loss(backend, name(max_loss=2.5), z, targets, weights)
    plain, without = backends_loss(backend, name(), z, targets, weights)
    assert value == pytest.approx(expected, rel=1e-5) and plain > value
    assert_array_equal(gradient, without)


def backends_loss(backend, loss, z, targets, weights=None):
    with backends.use_backend(backend):
        return backends.active().loss_and_gradient(loss, z.copy(), targets, weights)


def test_max_loss_in_training(backend, dtype, rng):
    X, y = 50 * rng.standard_normal((40, 3)), rng.integers(0, 3, 40)
    with backends.use_backend(backend):
        plain, limited = (MLP([3, 3], loss=losses.CrossEntropy(max_loss=limit), dtype=dtype, seed=0)
                          for limit in (None, 3.0))
        histories = [model.fit(X, y, epochs=2, batch_size=10, progress=False) for model in (plain, limited)]
        each = np.array([plain.loss_and_gradients(X[i:i + 1], y[i:i + 1])[0] for i in range(40)])
        assert limited.evaluate(X, y)["loss"] == pytest.approx(np.minimum(each, 3.0).mean(), rel=1e-4)
    assert histories[1].loss[0] < 3 < histories[0].loss[0]
    for w, v in zip(plain.weights, limited.weights):
        assert_array_equal(w, v)


def test_max_loss_of_nan_is_nan(backend, dtype):
    for cls, t in ((losses.CrossEntropy, np.array([0])), (losses.BinaryCrossEntropy, np.ones((1, 2), dtype))):
        loss = cls(max_loss=1)
        assert np.isnan(backends_loss(backend, loss, np.array([[np.nan, 1.0]], dtype), t)[0])


@pytest.mark.parametrize("cls", [losses.CrossEntropy, losses.BinaryCrossEntropy])
def test_max_loss_out_of_range(cls):
    for wrong, error in ((0.0, ValueError), (-1.0, ValueError), (np.inf, ValueError), ("1", TypeError)):
        with pytest.raises(error, match="^max_loss: "):
            cls(max_loss=wrong)


def test_poisson_deviance(backend, dtype, rng):
    """Half of it, by scipy.special's formula, and the same gradient."""
    special = pytest.importorskip("scipy.special")
    for shape in ((6, 3), (4, 40)):
        z = rng.standard_normal(shape).astype(dtype)
        t = rng.poisson(1.0, shape).astype(dtype)
        assert (t == 0).any()
        value, gradient = backends_loss(backend, losses.Poisson(deviance=True), z, t)
        expected = special.kl_div(t.astype(float), np.exp(z.astype(float))).mean()     # t log(t/mu) - t + mu
        assert value == pytest.approx(expected, rel=1e-5)
        assert_array_equal(gradient, backends_loss(backend, losses.Poisson(), z, t)[1])
        best = backends_loss(backend, losses.Poisson(deviance=True), np.log(t + 1).astype(dtype), t + 1)[0]
        assert best == pytest.approx(0, abs=1e-6)
