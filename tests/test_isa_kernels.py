"""Every compiled array function, of every instruction set and dtype, called directly: against the NumPy
backend in float64, with canaries around what is written and guard pages around what is read."""
from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import subprocess
import sys

import numpy as np
import pytest

from fastmlp import SGD, AdaGrad, Adam, AdamW, RMSprop, kernels, losses
from fastmlp.activations import BY_NAME, ELU, LeakyReLU, resolve
from fastmlp.backends import numpy as specification
from fastmlp.backends.numpy.activations import activate, derivative
from fastmlp.backends.numpy.updates import apply
from fastmlp.kernels import ops

pytestmark = pytest.mark.any_isa

ISAS = kernels.available_isas()
FMA_ISAS = [isa for isa in ISAS if isa != "portable"]
DTYPES = ["float32", "float64"]

ACTIVATIONS = {code: name for name, code in ops.codes(ops.ACTIVATIONS).items()}
FUNCTIONS = dict(enumerate([*ACTIVATIONS.values(), *ops.FUNCTIONS]))
ALPHA = 0.2
LOSSES = ops.codes(ops.LOSSES)
CROSS_ENTROPY, MULTICLASS_HINGE = LOSSES["cross_entropy"], LOSSES["multiclass_hinge"]
MEAN_SQUARED_ERROR, BINARY_CROSS_ENTROPY = LOSSES["mean_squared_error"], LOSSES["binary_cross_entropy"]
POISSON = LOSSES["poisson"]

# (rows, inputs, outputs): empty, single, around every vector length, and across the blocking constants
# (MC = 256 rows; KC = 192, 256 or 512 inputs; 48 rows for packing; KG = 512 rows and MG = 192 inputs of a
# gradient; 64 and 128 outputs for the wide tile of a single row).
SMALL = [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0), (1, 1, 1), (1, 5, 1), (2, 1, 8), (5, 3, 9), (7, 16, 15),
         (3, 17, 16), (6, 5, 17), (13, 33, 31), (12, 20, 32), (11, 9, 33), (1, 7, 300), (1, 300, 65)]
LARGE = [(97, 40, 10), (257, 30, 20), (300, 200, 20), (50, 600, 19), (3, 1100, 40), (49, 513, 65),
         (48, 257, 64), (600, 20, 24), (1030, 7, 33), (513, 193, 7), (1, 1025, 129),
         (60, 513, 1100), (3, 1100, 1000), (540, 530, 139), (540, 70, 1030)]
SIZES = [*range(1, 36), 63, 64, 65, 100, 1000]
GUARD = 64                                      # canaries on either side
CANARY = -77.25


@pytest.fixture(params=list(itertools.product(ISAS, DTYPES)), ids="-".join)
def module(request):
    return kernels.load(*request.param)


class Canaries:
    """Arrays to write into, each between canaries that must be there in the end."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.buffers = []

    def array(self, *shape, values=None):
        size = int(np.prod(shape))
        buffer = np.full(size + 2 * GUARD, CANARY, self.dtype)
        self.buffers.append(buffer)
        array = buffer[GUARD:GUARD + size].reshape(shape)
        array[...] = np.nan if values is None else values
        return array

    def check(self, what):
        for buffer in self.buffers:
            assert (buffer[:GUARD] == CANARY).all(), f"{what}: wrote before an array"
            assert (buffer[-GUARD:] == CANARY).all(), f"{what}: wrote beyond an array"


def real(rng, module, *shape):
    array = rng.standard_normal(shape).astype(module.DTYPE)
    array.flags.writeable = False
    return array


def eps(module):
    return float(np.finfo(module.DTYPE).eps)


def close(got, expected, module, scale, terms=1):
    """Within some roundings of `terms` numbers whose absolute values sum to `scale`."""
    got, expected = np.asarray(got, np.float64), np.asarray(expected)
    assert got.shape == expected.shape
    error = np.abs(got - expected)
    bound = eps(module) * (np.asarray(scale) * (4 + 2 * terms**0.5) + 4 * np.abs(expected))
    assert (error <= bound).all(), f"{np.max(error / np.maximum(bound, 1e-300))} times the bound"


# Dense layers ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("code, name", ACTIVATIONS.items())
def test_dense_forward(module, code, name, rng):
    for m, k, n in SMALL + (LARGE if name == "relu" else LARGE[:3]):
        x, w, b = real(rng, module, m, k), real(rng, module, k, n), real(rng, module, n)
        w = w / np.asarray(max(k, 1) ** 0.5, module.DTYPE)
        out = Canaries(module.DTYPE)
        y = out.array(m, n)
        assert module.dense_forward(y, x, w, b, code, ALPHA)
        out.check((m, k, n))
        x64, w64, b64 = (a.astype(np.float64) for a in (x, w, b))
        z = specification.dense_forward(x64, w64, b64)
        scale = np.abs(x64) @ np.abs(w64) + np.abs(b64)
        close(y, activate(z, resolved(name)), module, scale, k)


def resolved(name):
    return {"leaky_relu": LeakyReLU(ALPHA), "elu": ELU(ALPHA)}.get(name) or resolve(name)


@pytest.mark.parametrize("code, name", ACTIVATIONS.items())
def test_dense_backward(module, code, name, rng):
    for m, k, n in SMALL + (LARGE if name == "relu" else LARGE[:3]):
        dy, x, w = real(rng, module, m, n), real(rng, module, m, k), real(rng, module, k, n)
        y = np.tanh(real(rng, module, m, n))
        out = Canaries(module.DTYPE)
        dx, dw, db = out.array(m, k), out.array(k, n), out.array(n)
        scratch = out.array(module.dense_backward_scratch(m, k, n))
        assert module.dense_backward(dx, dw, db, dy, x, w, y, code, ALPHA, scratch)
        out.check((m, k, n))
        dy64, x64, w64, y64 = (a.astype(np.float64) for a in (dy, x, w, y))
        expected = specification.dense_backward(dy64, x64, w64, y64, resolved(name))
        size = np.abs(dy64)
        for got, want, scale, terms in zip((dx, dw, db), expected, (
                size @ np.abs(w64.T), np.abs(x64.T) @ size, size.sum(axis=0)), (n, m, m), strict=True):
            close(got, want, module, scale, terms)


def test_dense_layers_without_bias_outputs_and_dx(module, rng):
    """What may be None: the same bits as with zeros, with any y, and with dx."""
    for m, k, n in [*SMALL, *LARGE[:6]]:
        dy, x, w = real(rng, module, m, n), real(rng, module, m, k), real(rng, module, k, n)
        y, expected = np.empty((m, n), module.DTYPE), np.empty((m, n), module.DTYPE)
        assert module.dense_forward(y, x, w, None, 1, 0.0)
        assert module.dense_forward(expected, x, w, np.zeros(n, module.DTYPE), 1, 0.0)
        np.testing.assert_array_equal(y, expected)
        scratch = np.empty(module.dense_backward_scratch(m, k, n), module.DTYPE)
        for code in (0, 1, 4):
            out = Canaries(module.DTYPE)
            dx, dw, db = out.array(m, k), out.array(k, n), out.array(n)
            dw_alone, db_alone = out.array(k, n), out.array(n)
            assert module.dense_backward(dx, dw, db, dy, x, w, y, code, ALPHA, scratch)
            given = None if code == 0 else y
            assert module.dense_backward(None, dw_alone, db_alone, dy, x, w, given, code, ALPHA, scratch)
            out.check((m, k, n))
            np.testing.assert_array_equal(dw_alone, dw)
            np.testing.assert_array_equal(db_alone, db)
    w, db = np.zeros((3, 3), module.DTYPE), np.zeros(3, module.DTYPE)
    scratch = np.empty(module.dense_backward_scratch(3, 3, 3), module.DTYPE)
    for code in range(1, 8):
        assert not module.dense_backward(None, w.copy(), db, w, w, w, None, code, ALPHA, scratch)


def test_unaligned_arrays_are_declined(module, rng):
    """At an address that is no multiple of the element's size, each array in turn; nothing is written."""
    def array(*shape, dtype=module.DTYPE):
        return np.abs(rng.standard_normal(shape) + 2).astype(dtype)

    def unaligned(a):
        raw = np.zeros(a.nbytes + 1, np.uint8)[1:]
        result = raw.view(a.dtype).reshape(a.shape)
        result[...] = a
        return result

    labels, one_hot = np.array([0, 1, 2], np.intp), np.eye(3, dtype=module.DTYPE)
    square, vector, weights = array(3, 3), array(3), array(3, dtype=np.float64)
    scratch = np.empty(module.dense_backward_scratch(3, 3, 3), module.DTYPE)
    optimizer = Adam(0.1)
    calls = [
        (module.dense_forward, [square, square, square, vector], (0, 0.0)),
        (module.dense_backward, [square, square, vector, square, square, square, square], (0, 0.0, scratch)),
        (module.map_forward, [vector, vector], (1, 0.0)),
        (module.map_derivative, [vector, vector, vector], (1, 0.0)),
        (module.softmax, [square, square], (False,)),
        (module.softmax, [square, square], (True,)),
        (module.softmax_backward, [square, square, square], (False,)),
        (module.loss_of_rows, [square, square, None, labels, weights], (CROSS_ENTROPY, 0.0, None)),
        (module.loss_of_rows, [square, square, one_hot, None, weights], (CROSS_ENTROPY, 0.0, None)),
        (module.loss_of_rows,
         [square, square, one_hot, None, weights, BINARY_CROSS_ENTROPY, 0.0, vector], ()),
        (module.update_arrays, [vector, vector, vector, vector],
         (optimizer.rates(2, 1)[0], optimizer.rule(), False)),
    ]
    for function, arrays, rest in calls:
        arrays = [a.copy() if isinstance(a, np.ndarray) else a for a in arrays]
        places = [i for i, a in enumerate(arrays) if isinstance(a, np.ndarray)]
        for place in places:
            spoilt = [*arrays[:place], unaligned(arrays[place]), *arrays[place + 1:]]
            before = [spoilt[i].copy() for i in places]
            assert not function(*spoilt, *rest), (function, place)
            for i, copy in zip(places, before, strict=True):
                np.testing.assert_array_equal(spoilt[i], copy)
        assert function(*arrays, *rest) not in (False, None)


def test_dense_functions_decline_what_does_not_fit(module, rng):
    x, w, b = real(rng, module, 5, 3), real(rng, module, 3, 3), real(rng, module, 3)
    y = np.full((5, 3), CANARY, module.DTYPE)
    for args in ((y[:4], x, w, b), (y, x[:, :2].copy(), w, b), (y, x, w[:2], b), (y, x, w, b[:2])):
        assert module.dense_forward(*args, 0, 0.0) is False
    assert (y == CANARY).all()
    square = np.full((3, 3), CANARY, module.DTYPE)
    for args in ((square, square, w, b), (square, w, square, b), (square, w, w, square[0])):
        assert module.dense_forward(*args, 0, 0.0) is False
    assert (square == CANARY).all()
    scratch = np.zeros(module.dense_backward_scratch(3, 3, 3), module.DTYPE)
    ds = [np.full(s, CANARY, module.DTYPE) for s in ((3, 3), (3, 3), (3,))]
    inputs = [w, w, w, w]
    for i, j in itertools.product(range(2), range(4)):
        same = [*inputs[:j], ds[i], *inputs[j + 1:]]
        assert module.dense_backward(*ds, *same, 0, 0.0, scratch) is False
    assert module.dense_backward(ds[0], ds[0], ds[2], *inputs, 0, 0.0, scratch) is False
    assert module.dense_backward(ds[0], ds[1], ds[1][0], *inputs, 0, 0.0, scratch) is False
    assert module.dense_backward(*ds, w, w[:2], w, w, 0, 0.0, scratch) is False
    assert module.dense_backward(*ds, *inputs, 0, 0.0, scratch[:-1]) is False
    assert all((d == CANARY).all() for d in ds)


# Element by element ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("code, name", FUNCTIONS.items())
def test_map_forward(module, code, name, rng):
    for n in [0, *SIZES]:
        x = real(rng, module, n)
        x = np.abs(x) + np.asarray(1e-3, x.dtype) if name == "log" else x
        expected = x.astype(np.float64)
        if name in BY_NAME:
            activate(expected, resolved(name))
        else:
            expected = getattr(specification, name)(expected)
        out = Canaries(module.DTYPE)
        y, in_place = out.array(n), out.array(n, values=x)
        assert module.map_forward(y, x, code, ALPHA)
        assert module.map_forward(in_place, in_place, code, ALPHA)
        out.check(n)
        close(y, expected, module, np.abs(x) if name in ("gelu", "gelu_tanh") else 0)
        np.testing.assert_array_equal(in_place, y)


@pytest.mark.parametrize("code, name", ACTIVATIONS.items())
def test_map_derivative(module, code, name, rng):
    for n in [0, *SIZES]:
        dy, y = real(rng, module, n), np.tanh(real(rng, module, n))
        expected = derivative(dy.astype(np.float64), y.astype(np.float64), resolved(name))
        out = Canaries(module.DTYPE)
        dx, over_dy, over_y = out.array(n), out.array(n, values=dy), out.array(n, values=y)
        assert module.map_derivative(dx, dy, y, code, ALPHA)
        assert module.map_derivative(over_dy, over_dy, y, code, ALPHA)
        assert module.map_derivative(over_y, dy, over_y, code, ALPHA)
        out.check(n)
        close(dx, expected, module, np.abs(dy))
        np.testing.assert_array_equal(over_dy, dx)
        np.testing.assert_array_equal(over_y, dx)


def test_map_functions_decline_what_does_not_fit(module):
    buffer = np.full(20, CANARY, module.DTYPE)
    assert module.map_forward(buffer[:9], buffer[10:], 1, 0.0) is False
    assert module.map_forward(buffer[:9], buffer[1:10], 1, 0.0) is False
    assert module.map_derivative(buffer[:9], buffer[9:18], buffer[1:10], 1, 0.0) is False
    assert module.map_derivative(buffer[:9], buffer[1:10], buffer[9:18], 1, 0.0) is False
    assert module.map_derivative(buffer[:9], buffer[9:18], buffer[9:17], 1, 0.0) is False
    assert (buffer == CANARY).all()
    frozen = buffer[:9].copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError):
        module.map_forward(frozen, buffer[:9], 1, 0.0)
    other = buffer.astype("float64" if module.DTYPE == "float32" else "float32")
    with pytest.raises(ValueError):
        module.map_forward(buffer, other, 1, 0.0)
    with pytest.raises(ValueError):
        module.map_forward(buffer[::2], buffer[:10].copy(), 1, 0.0)


# Along rows -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("logarithm", [False, True], ids=["softmax", "log_softmax"])
def test_softmax(module, logarithm, rng):
    name = "log_softmax" if logarithm else "softmax"
    for m, n in [(0, 5), (5, 0), *((3, n) for n in SIZES)]:
        x = real(rng, module, m, n) * np.asarray(4, module.DTYPE)
        out = Canaries(module.DTYPE)
        y, in_place = out.array(m, n), out.array(m, n, values=x)
        assert module.softmax(y, x, logarithm)
        assert module.softmax(in_place, in_place, logarithm)
        out.check((m, n))
        expected = getattr(specification, name)(x.astype(np.float64)) if n else np.empty((m, 0))
        # exp(x - max) carries the rounding of x - max
        close(y, expected, module, (4 + np.abs(expected) * 30) if logarithm else expected * 30, n)
        np.testing.assert_array_equal(in_place, y)

        dy = real(rng, module, m, n)
        dx, over_dy, over_y = out.array(m, n), out.array(m, n, values=dy), out.array(m, n, values=y)
        assert module.softmax_backward(dx, dy, y, logarithm)
        assert module.softmax_backward(over_dy, over_dy, y, logarithm)
        assert module.softmax_backward(over_y, dy, over_y, logarithm)
        out.check((m, n))
        expected = getattr(specification, name + "_backward")(dy.astype(np.float64), y.astype(np.float64))
        close(dx, expected, module, 2 + 2 * np.abs(dy).sum(axis=1, keepdims=True), n)
        np.testing.assert_array_equal(over_dy, dx)
        np.testing.assert_array_equal(over_y, dx)


@pytest.mark.parametrize("n", [1, 3, 16, 17, 40])
def test_softmax_of_special_values(module, n):
    inf, nan = np.inf, np.nan
    for place in {0, n // 2, n - 1}:
        x = np.zeros((1, n), module.DTYPE)
        for value in (inf, nan):
            x[0, place] = value
            for logarithm in (False, True):
                y = np.empty_like(x)
                module.softmax(y, x, logarithm)
                assert np.isnan(y).all() if not logarithm else np.isnan(y[0, place]), (value, place, y)
        if n > 1:
            x[0, place] = -inf
            y = np.empty_like(x)
            module.softmax(y, x, False)
            assert y[0, place] == 0 and abs(y.sum() - 1) < 1e-6
            module.softmax(y, x, True)
            assert y[0, place] == -inf and np.isfinite(np.delete(y, place)).all()
        x[:] = -inf
        y = np.empty_like(x)
        module.softmax(y, x, False)
        assert np.isnan(y).all()
        for huge in (1e4, -1e4, float(np.finfo(module.DTYPE).max), -float(np.finfo(module.DTYPE).max)):
            x[:] = 0
            x[0, place] = huge
            module.softmax(y, x, False)
            assert np.isfinite(y).all() and abs(float(y.sum()) - 1) < 1e-6


# Losses ---------------------------------------------------------------------------------------------------

def loss_cases(module, rng, m, n):
    """(code, parameter, labels, rows, pos_weight) of every loss, with targets that fit."""
    labels = rng.integers(0, n, m).astype(np.intp)
    one_hot = np.eye(n, dtype=module.DTYPE)[labels]
    rows = rng.dirichlet(np.ones(n), m).astype(module.DTYPE)
    rows[0] = one_hot[0]
    binary = (rows > 0.3).astype(module.DTYPE)
    values = {"value": real(rng, module, m, n), "count": 3 * binary, "fraction": binary,
              "sign": 2 * binary - 1}
    for code, loss in enumerate(ops.LOSSES):
        parameters = {CROSS_ENTROPY: (0.0, 0.1), POISSON: (0.0, 1.0)}       # smoothing, deviance
        for parameter in parameters.get(code, (0.5,)):
            if loss.labels:
                yield code, parameter, labels, None, None
            if loss.distributions:
                yield code, parameter, None, rows, None
            if loss.elements:
                yield code, parameter, None, values[loss.targets], None
    yield BINARY_CROSS_ENTROPY, 0.0, None, rows, np.linspace(0.5, 2, n).astype(module.DTYPE)


def as_loss(code, parameter, pos_weight):
    cls = next(cls for cls in losses.BY_NAME.values() if cls.code == code)
    if cls in (losses.CrossEntropy, losses.Huber, losses.Poisson):
        return cls(parameter)
    return cls(pos_weight) if cls is losses.BinaryCrossEntropy else cls()


def test_loss_of_rows(module, rng):
    for m, n in [(1, 1), (600, 10), (130, 20), *((3, n) for n in SIZES)]:
        for code, parameter, labels, rows, pos_weight in loss_cases(module, rng, m, n):
            z = real(rng, module, m, n)
            out = Canaries(module.DTYPE)
            d = out.array(m, n)
            weights = rng.random(m) if n % 2 else None
            value = module.loss_of_rows(d, z, rows, labels, weights, code, parameter, pos_weight)
            out.check((m, n))
            expected, gradient = specification.loss_and_gradient(
                as_loss(code, parameter, pos_weight), z.astype(np.float64),
                labels if rows is None else rows.astype(np.float64), weights)
            close(value, expected, module, 10 + abs(expected), n)
            close(d, gradient, module, 20 / m if not ops.LOSSES[code].elements else 20 / (m * n), n)


def test_loss_of_rows_declines_what_does_not_fit(module):
    z = np.zeros((3, 4), module.DTYPE)
    d = np.full((3, 4), CANARY, module.DTYPE)
    labels = np.array([0, 1, 3], np.intp)

    def refused(loss, rows, labels=None, weights=None, d=d, z=z, pos_weight=None):
        return module.loss_of_rows(d, z, rows, labels, weights, loss, 0.0, pos_weight) is None

    for loss in (CROSS_ENTROPY, MULTICLASS_HINGE):
        for wrong in ([0, 1, 4], [-1, 0, 0], [0, 1], [0, 1, 2, 3]):
            assert refused(loss, None, np.array(wrong, np.intp))
        assert refused(loss, None, labels, d=z)
        assert refused(loss, None)
    good = np.full((3, 4), 0.25, module.DTYPE)
    assert refused(MULTICLASS_HINGE, good) and refused(MEAN_SQUARED_ERROR, None, labels)
    assert refused(CROSS_ENTROPY, good, labels)
    bad = {"probability": (np.nan, -0.25, 0.5), "value": (np.nan,), "count": (np.nan, -1, np.inf),
           "fraction": (np.nan, -0.1, 1.1, np.inf), "sign": (np.nan, 0, 2, -np.inf)}
    for code, loss in enumerate(ops.LOSSES):
        rows = np.ones_like(good) if loss.targets == "sign" else good.copy()
        taken = loss.elements or loss.distributions
        assert refused(code, rows, d=np.empty_like(d)) is not taken
        for value in bad[loss.targets]:
            rows[2, 3] = value
            assert refused(code, rows)
    for weights in ([1, 1], [1, 1, 1, 1], [0, 0, 0], [1, -1, 1], [1, np.nan, 1], [1, np.inf, 1], [1e308] * 3):
        assert refused(MEAN_SQUARED_ERROR, good, weights=np.array(weights, np.float64))
    assert refused(MEAN_SQUARED_ERROR, good, weights=d.reshape(-1).view(np.float64)[:3])
    assert refused(BINARY_CROSS_ENTROPY, good, pos_weight=np.ones(3, module.DTYPE))
    assert refused(MEAN_SQUARED_ERROR, good, d=good)
    assert refused(MEAN_SQUARED_ERROR, good[:0], d=d[:0], z=z[:0])
    assert (d == CANARY).all() and (z == 0).all() and (good == 0.25).all()


# Updates --------------------------------------------------------------------------------------------------

OPTIMIZERS = [
    SGD(0.1), SGD(0.1, weight_decay=0.01), SGD(0.1, 0.9), SGD(0.1, 0.9, True, 0.01),
    AdaGrad(0.1), RMSprop(0.1), Adam(0.1), AdamW(0.1, weight_decay=0.2),
    SGD(0.1, l1=0.01, clip_value=0.5), Adam(0.1, weight_decay=0.01, l1=0.01, clip_value=0.5),
]


def update(module, optimizer, param, grad, slots):
    """The third step of an optimizer on one array of weights."""
    first, second = [*slots, None, None][:2]
    rates = optimizer.rates(2, 1)[0]
    return module.update_arrays(param, grad, first, second, rates, optimizer.rule(), False)


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_update(module, optimizer, rng):
    for n in [0, *SIZES]:
        grad = real(rng, module, n)
        out = Canaries(module.DTYPE)
        arrays = [out.array(n, values=real(rng, module, n)),
                  *(out.array(n, values=abs(real(rng, module, n))) for _ in optimizer.slots)]
        expected = [array.astype(np.float64) for array in arrays]
        assert update(module, optimizer, arrays[0], grad, arrays[1:])
        out.check(n)
        apply(optimizer, expected[0], grad.astype(np.float64), dict(zip(optimizer.slots, expected[1:])),
              optimizer.rates(2, 1)[0])
        for array, other in zip(arrays, expected):
            close(array, other, module, 8)


# Equal bits -----------------------------------------------------------------------------------------------

def results(module):
    """A little of everything, from inputs that are the same for every instruction set."""
    rng = np.random.default_rng(5)
    dtype = module.DTYPE
    for m, k, n in [(1, 7, 300), (13, 33, 31), (50, 600, 19), (600, 20, 24), (97, 300, 65)]:
        x, w, b = real(rng, module, m, k), real(rng, module, k, n), real(rng, module, n)
        dy = real(rng, module, m, n)
        for code in ACTIVATIONS:
            y = np.empty((m, n), dtype)
            module.dense_forward(y, x, w, b, code, ALPHA)
            dx, dw, db = np.empty((m, k), dtype), np.empty((k, n), dtype), np.empty(n, dtype)
            scratch = np.empty(module.dense_backward_scratch(m, k, n), dtype)
            module.dense_backward(dx, dw, db, dy, x, w, y, code, ALPHA, scratch)
            yield from (y, dx, dw, db)
        for logarithm in (False, True):
            p, dp = np.empty((m, n), dtype), np.empty((m, n), dtype)
            module.softmax(p, y, logarithm)
            module.softmax_backward(dp, dy, p, logarithm)
            yield from (p, dp)
        for code, parameter, labels, rows, pos_weight in loss_cases(module, rng, m, n):
            for weights in (None, np.linspace(0, 1, m + 1)[1:]):
                d = np.empty((m, n), dtype)
                args = rows, labels, weights, code, parameter, pos_weight
                yield np.float64(module.loss_of_rows(d, y, *args))
                yield d
        for optimizer in OPTIMIZERS:
            param, *slots = y.reshape(-1).copy(), *(abs(p).reshape(-1) for _ in optimizer.slots)
            update(module, optimizer, param, dy.reshape(-1), slots)
            yield from (param, *slots)


@pytest.mark.skipif(len(FMA_ISAS) < 2, reason="needs two instruction sets with FMA")
@pytest.mark.parametrize("dtype", DTYPES)
def test_same_bits_on_every_fma_isa(dtype):
    first, *others = ([a.tobytes() for a in results(kernels.load(isa, dtype))] for isa in FMA_ISAS)
    for other in others:
        assert other == first


# Guard pages: in a process of its own, which dies of the first access beyond an array ---------------------

class Pages:
    """Arrays with an inaccessible page right after (or right before) them."""

    def __init__(self, dtype, at_end):
        self.dtype = np.dtype(dtype)
        self.at_end = at_end
        self.kept = []
        self.mprotect = ctypes.CDLL(None, use_errno=True).mprotect
        self.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def array(self, *shape, values=0, dtype=None):
        dtype = np.dtype(dtype or self.dtype)
        nbytes = int(np.prod(shape)) * dtype.itemsize
        page = mmap.PAGESIZE
        inner = -(-nbytes // page) * page or page
        memory = mmap.mmap(-1, inner + 2 * page)
        raw = np.frombuffer(memory, np.uint8)
        for start in (0, inner + page):
            if self.mprotect(raw.ctypes.data + start, page, 0):
                raise OSError(ctypes.get_errno(), "mprotect")
        start = page + (inner - nbytes if self.at_end else 0)
        array = raw[start:start + nbytes].view(dtype).reshape(shape)
        array[...] = values
        self.kept.append((memory, raw, array))
        return array


def call_everything_on_guarded_pages(isa, dtype):
    module = kernels.load(isa, dtype)
    rng = np.random.default_rng(1)
    for at_end in (True, False):
        for m, k, n in [*SMALL, (50, 600, 19), (97, 40, 10), (600, 20, 24), (1, 30, 200), (48, 257, 64),
                        (60, 300, 33)]:
            pages = Pages(dtype, at_end)
            x, w, b = (pages.array(*s, values=rng.standard_normal(s)) for s in ((m, k), (k, n), (n,)))
            y, dy = pages.array(m, n), pages.array(m, n, values=rng.standard_normal((m, n)))
            dx, dw, db = pages.array(m, k), pages.array(k, n), pages.array(n)
            scratch = pages.array(module.dense_backward_scratch(m, k, n))
            for code in ACTIVATIONS:
                assert module.dense_forward(y, x, w, b, code, ALPHA)
                assert module.dense_backward(dx, dw, db, dy, x, w, y, code, ALPHA, scratch)
        for n in SIZES:
            pages = Pages(dtype, at_end)
            x = pages.array(n, values=rng.random(n))
            y, dy, dx = pages.array(n), pages.array(n, values=rng.random(n)), pages.array(n)
            for code in FUNCTIONS:
                assert module.map_forward(y, x, code, ALPHA)
            for code in ACTIVATIONS:
                assert module.map_derivative(dx, dy, y, code, ALPHA)
            for optimizer in OPTIMIZERS:
                slots = [pages.array(n, values=rng.random(n)) for _ in optimizer.slots]
                assert update(module, optimizer, dx, dy, slots)
            m = 2
            x, y, d = pages.array(m, n, values=rng.random((m, n))), pages.array(m, n), pages.array(m, n)
            for logarithm in (False, True):
                assert module.softmax(y, x, logarithm)
                assert module.softmax_backward(d, x, y, logarithm)
            weights = pages.array(m, values=rng.random(m), dtype=np.float64)
            for code, parameter, labels, rows, pos_weight in loss_cases(module, rng, m, n):
                if rows is not None:
                    rows = pages.array(m, n, values=rows)
                if labels is not None:
                    labels = pages.array(m, values=labels, dtype=np.intp)
                if pos_weight is not None:
                    pos_weight = pages.array(n, values=pos_weight)
                for w in (None, weights):
                    assert module.loss_of_rows(d, x, rows, labels, w, code, parameter, pos_weight) is not None
    print("done")


needs_mprotect = pytest.mark.skipif(sys.platform not in ("linux", "darwin"), reason="needs mprotect")


@needs_mprotect
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("isa", ISAS)
def test_nothing_beyond_the_arrays_is_touched(isa, dtype):
    result = subprocess.run([sys.executable, "-X", "faulthandler", __file__, isa, dtype], capture_output=True,
                            text=True, timeout=120, env=os.environ)
    assert result.returncode == 0, result.stderr
    assert result.stdout == "done\n"


@needs_mprotect
def test_guard_pages_do_kill():
    """The test above can fail."""
    code = ("import ctypes, test_isa_kernels as t; a = t.Pages('float32', True).array(5); "
            "ctypes.string_at(a.ctypes.data + a.nbytes, 1)")
    result = subprocess.run([sys.executable, "-c", code], cwd=os.path.dirname(__file__), capture_output=True)
    assert result.returncode < 0


if __name__ == "__main__":
    call_everything_on_guarded_pages(*sys.argv[1:])
