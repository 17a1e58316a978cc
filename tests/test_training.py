"""Training as a whole: real data to its accuracy on both backends, and every rule against NumPy by hand."""
from __future__ import annotations

import gc
import io
import os
import signal
import subprocess
import sys
import threading
import time
from importlib.resources import files

import numpy as np
import pytest
from conftest import Learned, assert_learned
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
from fastmlp import MLP, SGD, AdaGrad, Adam, AdamW, LeakyReLU, RMSprop, backends, kernels
from fastmlp._core import locking, state
from fastmlp.activations import BY_NAME
from fastmlp.backends import cython

ACTIVATIONS = [*BY_NAME, LeakyReLU(0.3)]


@pytest.fixture(scope="module")
def digits():
    """The data of the demo, pixels from 0 to 1: every fifth image is for the test."""
    with np.load(str(files("fastmlp") / "data" / "digits.npz")) as archive:
        x, y = archive["x"].astype(np.float32) / 16, archive["y"]
    test = np.arange(len(x)) % 5 == 0
    return (x[~test], y[~test]), (x[test], y[test])


def train_digits(digits, activation="relu", dtype="float32", epochs=15, layers=(64, 128, 64, 10), lr=0.05):
    (X, y), test = digits
    model = MLP(layers, activation=activation, dtype=dtype, seed=0)
    history = model.fit(X, y, epochs=epochs, batch_size=32, optimizer=SGD(lr, momentum=0.9),
                        validation_data=test, progress=False)
    return model, history


# Real data ------------------------------------------------------------------------------------------------

def test_digits_on_both_backends(digits, dtype):
    """97 of 100 right, and the same curve, at a learning rate that does not blow rounding up."""
    curves = {}
    for name in backends.NAMES:
        with backends.use_backend(name):
            model, history = train_digits(digits, dtype=dtype)
        assert history.val_accuracy[-1] >= 0.97
        assert history.val_accuracy[-1] == model.evaluate(*digits[1])["accuracy"]
        assert history.loss[-1] < 0.05 < history.loss[0]
        curves[name] = history.loss
    compiled, plain = curves["cython"], curves["numpy"]
    assert_allclose(compiled[:4], plain[:4], rtol=1e-3 if dtype == np.float32 else 1e-12)
    assert_allclose(compiled, plain, rtol=1e-2 if dtype == np.float32 else 1e-10)


@pytest.mark.parametrize("isa", kernels.available_isas())
def test_digits_on_every_isa(isa, digits, monkeypatch):
    monkeypatch.setitem(cython._kernels.KERNELS, "f", kernels.load(isa, "float32"))
    model, history = train_digits(digits)
    assert type(model.core.engine._engine) is kernels.load(isa, "float32").Engine
    assert history.val_accuracy[-1] >= 0.97


def test_dtypes_learn_alike(digits):
    narrow, wide = (train_digits(digits, dtype=dtype)[1] for dtype in ("float32", "float64"))
    assert_allclose(narrow.loss[:3], wide.loss[:3], rtol=1e-3)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_activation_learns(activation, digits, backend):
    """The identity, too: digits are nearly linear."""
    rate = {"sigmoid": 0.5, "identity": 0.03}.get(activation, 0.1)
    _, history = train_digits(digits, activation, layers=[64, 128, 10], lr=rate)
    assert history.val_accuracy[-1] >= 0.96
    assert history.loss[-1] < history.loss[0] / 8


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_every_depth_learns(depth, digits, backend):
    _, history = train_digits(digits, layers=[64, *[48] * (depth - 1), 10], lr=0.03)
    assert history.val_accuracy[-1] >= 0.93


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "sigmoid", "tanh"])
def test_xor(activation, backend, dtype):
    """What no linear network can do."""
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    model = MLP([2, 16, 2], activation=activation, dtype=dtype, seed=1)
    model.fit(X, y, epochs=700, batch_size=4, optimizer=SGD(0.5, momentum=0.9), progress=False)
    assert (model.predict(X) == y).all()
    linear = MLP([2, 16, 2], activation="identity", dtype=dtype, seed=1)
    linear.fit(X, y, epochs=200, batch_size=4, optimizer=SGD(0.1), progress=False)
    assert linear.evaluate(X, y)["loss"] > 0.69


def test_regression(backend, dtype, rng):
    x = rng.uniform(-1, 1, (512, 1))
    model = MLP([1, 32, 32, 1], activation="tanh", loss="mean_squared_error", dtype=dtype, seed=0)
    history = model.fit(x, np.sin(3 * x[:, 0]), epochs=150, batch_size=32, optimizer=SGD(0.1, momentum=0.9),
                        progress=False)
    assert history.loss[-1] < 1e-3
    grid = np.linspace(-1, 1, 101)
    assert np.abs(model.predict(grid[:, None]) - np.sin(3 * grid)).max() < 0.1


def test_least_squares(backend, rng):
    """A linear network finds the solution of the normal equations."""
    X = rng.standard_normal((200, 5))
    y = X @ rng.standard_normal((5, 2)) + 3 + 0.1 * rng.standard_normal((200, 2))
    model = MLP([5, 2], loss="mean_squared_error", dtype="float64", seed=0)
    model.fit(X, y, epochs=400, batch_size=200, optimizer=SGD(0.3, momentum=0.8), progress=False)
    solution = np.linalg.lstsq(np.column_stack([X, np.ones(200)]), y, rcond=None)[0]
    assert_allclose(model.weights[0], solution[:5], rtol=1e-9)
    assert_allclose(model.biases[0], solution[5], rtol=1e-9)


# By hand --------------------------------------------------------------------------------------------------

def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


FORMULAS = {        # f(z), and f'(z) from y
    "identity": (lambda z: z, np.ones_like),
    "relu": (lambda z: np.maximum(z, 0), lambda y: (y > 0).astype(float)),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda y: np.where(y > 0, 1, 0.01)),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), lambda y: y * (1 - y)),
    "tanh": (np.tanh, lambda y: 1 - y**2),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(z)), lambda y: np.where(y > 0, 1, y + 1)),
    "softplus": (lambda z: np.log1p(np.exp(z)), lambda y: 1 - np.exp(-y)),
}


def by_hand(weights, biases, activation, loss, batches, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    """Backpropagation and SGD as a textbook has them, in float64; the losses of all steps."""
    f, derivative = FORMULAS[activation]
    parameters = [w.astype(float) for w in weights] + [b.astype(float) for b in biases]
    velocities = [np.zeros_like(p) for p in parameters]
    depth, losses = len(weights), []
    for X, t in batches:
        w, b = parameters[:depth], parameters[depth:]
        y = [X]
        for i in range(depth):
            z = y[-1] @ w[i] + b[i]
            y.append(f(z) if i < depth - 1 else z)
        if loss == "cross_entropy":
            p = softmax(y[-1])
            losses.append(-(t * np.log(p)).sum() / len(X))
            d = (p - t) / len(X)
        else:
            losses.append(((y[-1] - t)**2).mean())
            d = 2 * (y[-1] - t) / t.size
        gradients = [None] * (2 * depth)
        for i in reversed(range(depth)):
            gradients[i], gradients[depth + i] = y[i].T @ d, d.sum(axis=0)
            if i:
                d = d @ w[i].T * derivative(y[i])
        for i, g in enumerate(gradients):
            if i < depth:                       # biases do not decay
                g = g + weight_decay * parameters[i]
            velocities[i] = momentum * velocities[i] + g
            step = g + momentum * velocities[i] if nesterov else velocities[i]
            parameters[i] = parameters[i] - lr * (step if momentum else g)
    return parameters[:depth], parameters[depth:], losses


RULES = [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"weight_decay": 0.05},
         {"momentum": 0.9, "weight_decay": 0.05}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.05}]


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("loss", ["cross_entropy", "mean_squared_error"])
@pytest.mark.parametrize("activation", FORMULAS)
def test_fit_by_hand(activation, loss, rule, backend, rng):
    """60 steps, the last of each epoch smaller."""
    X, t = rng.standard_normal((75, 6)), np.eye(3)[rng.integers(0, 3, 75)]
    model = MLP([6, 17, 9, 3], activation=activation, loss=loss, dtype="float64", seed=0)
    batches = [(X[i:i + 8], t[i:i + 8]) for i in range(0, 75, 8)] * 6
    weights, biases, losses = by_hand(model.weights, model.biases, activation, loss, batches, 0.05, **rule)
    history = model.fit(X, t, epochs=6, batch_size=8, optimizer=SGD(0.05, **rule), shuffle=False,
                        progress=False)
    for mine, expected in zip(model.weights + model.biases, weights + biases):
        assert_allclose(mine, expected, rtol=1e-9, atol=1e-11)
    sizes = [len(x) for x, _ in batches]
    expected = np.array([a * n for a, n in zip(losses, sizes)]).reshape(6, -1).sum(axis=1) / 75
    assert_allclose(history.loss, expected, rtol=1e-10)


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_large_layers_by_hand(threads, rule, dtype, rng):
    """Sizes that cross the blocks of the kernels, in both dtypes, and the work of several threads."""
    before = fastmlp.get_num_threads()
    fastmlp.set_num_threads(threads)
    try:
        X, t = rng.standard_normal((530, 270)), np.eye(11)[rng.integers(0, 11, 530)]
        model = MLP([270, 131, 70, 11], activation="tanh", dtype=dtype, seed=0)
        X = X.astype(dtype)
        weights, biases, losses = by_hand(model.weights, model.biases, "tanh", "cross_entropy",
                                          [(X.astype(float), t)] * 5, 0.1, **rule)
        history = model.fit(X, t, epochs=5, batch_size=530, optimizer=SGD(0.1, **rule), shuffle=False,
                            progress=False)
    finally:
        fastmlp.set_num_threads(before)
    close = {"rtol": 1e-3, "atol": 3e-6} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-13}
    for mine, expected in zip(model.weights + model.biases, weights + biases):
        assert_allclose(mine, expected, **close)
    assert_allclose(history.loss, losses, rtol=1e-5 if dtype == np.float32 else 1e-12)


def test_weight_decay_leaves_biases_alone(backend, dtype):
    """With gradients of zero, weights shrink by 1 - lr weight_decay and biases stay."""
    model = MLP([3, 4, 2], loss="mean_squared_error", dtype=dtype, seed=0)
    for b in model.biases:
        b[...] = 1
    X = np.zeros((5, 3))
    y = model.forward(X)
    before = [w.copy() for w in model.weights]
    model.weights[0][...] = before[0]
    model.train_step(X, y, SGD(0.5, weight_decay=0.1))
    for w, old in zip(model.weights, before):
        assert_allclose(w, 0.95 * old, rtol=1e-6)
    assert all((b == 1).all() for b in model.biases)


def test_stable_for_large_logits(backend, dtype):
    """Logits of +-1e4 have a finite loss and finite gradients."""
    model = MLP([2, 3], dtype=dtype, seed=0)
    model.weights[0][...] = [[1e4, -1e4, 0], [0, 1e4, -1e4]]
    X, y = np.array([[1, 0], [0, 1], [1, 1], [-1, -1]]), np.array([0, 0, 1, 2])
    loss, gradients = model.loss_and_gradients(X, y)
    assert np.isfinite(loss)
    assert_allclose(loss, model.evaluate(X, y)["loss"], rtol=1e-6)
    for g in gradients.weights + gradients.biases:
        assert np.isfinite(g).all()
    assert np.isfinite(model.train_step(X, y, SGD(0.1)))


# Attributes of a model ------------------------------------------------------------------------------------

KINDS = ("weights", "biases", "scales", "running_means", "running_variances")


def made(dtype="float32", **options):
    return MLP([4, 6, 5, 3], dtype=dtype, seed=0, **{"batch_norm": [True, False], **options})


def everything(model):
    return {name: array.copy() for name, array in state.arrays(model).items()}


def unchanged(model, before):
    for name, array in state.arrays(model).items():
        assert_array_equal(array, before[name], err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_assigned_arrays_are_copied_in(kind, backend, dtype, rng, tmp_path):
    """Predictions, training and files see them, and the arrays stay the same objects."""
    X, y = rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
    one, two, three = (made(dtype) for _ in range(3))
    new = [None if a is None else rng.uniform(0.5, 1.5, a.shape).astype(dtype) for a in getattr(one, kind)]
    arrays = getattr(one, kind)
    setattr(one, kind, new)
    assert getattr(one, kind) is arrays
    for i, a in enumerate(new):
        getattr(two, kind)[i] = a
        if a is not None:
            getattr(three, kind)[i][...] = a
            a[...] = 99                             # copies
    expected = three.forward(X)
    for model in (one, two):
        assert_learned(model.forward(X), expected)
    assert kind not in ("weights", "biases") or not np.array_equal(expected, made(dtype).forward(X))
    one.save(tmp_path / "one.safetensors")
    assert_learned(fastmlp.load(tmp_path / "one.safetensors").forward(X), expected)
    for model in (one, two, three):
        model.fit(X, y, epochs=2, batch_size=8, optimizer=SGD(0.1, momentum=0.9), progress=False)
    assert Learned(one) == Learned(two) == Learned(three)


def test_arrays_are_a_tuple_whose_items_can_be_written(backend, rng):
    model = made()
    w = model.weights
    assert isinstance(w, tuple) and len(w) == 3 and w[-1] is w[2] and list(w) == [w[0], w[1], w[2]]
    assert type(w + model.biases) is tuple and len(w + model.biases) == 6 and len(w[1:]) == 2
    first, before = w[0], everything(model)
    model.weights[0] *= 2
    model.weights[0] -= np.ones((4, 6))
    assert model.weights[0] is first
    assert_allclose(first, 2 * before["weights.0"] - 1, rtol=1e-6)
    model.weights[-1] = w[-1].T.copy().T[::1] + 1
    model.weights[0:2] = [np.zeros((4, 6), np.float32), np.ones((6, 5), bool)]
    assert not w[0].any() and (w[1] == 1).all()
    model.biases[np.int64(1)] = [1, 2, 3.5, 4, 5]
    assert_array_equal(model.biases[1], np.float32([1, 2, 3.5, 4, 5]))
    model.weights = model.weights
    model.weights = tuple(w)
    model.weights = iter(list(w))


def test_arrays_that_change_places(rng):
    model = MLP([5, 5, 5], seed=0)
    one, two = model.weights[0].copy(), model.weights[1].copy()
    model.weights = [model.weights[1], model.weights[0]]
    assert_array_equal(model.weights[0], two)
    assert_array_equal(model.weights[1], one)
    model.weights[0] = model.weights[0].T
    assert_array_equal(model.weights[0], two.T)
    model.weights = [w[::-1] for w in model.weights]
    assert_array_equal(model.weights[0], two.T[::-1])
    assert_array_equal(model.weights[1], one[::-1])


BAD_ARRAYS = [
    (lambda w: w[:2], ValueError, "^weights: expected an array for each of 3 layers, got 2"),
    (lambda w: [*w, w[0]], ValueError, "^weights: expected an array for each of 3 layers, got 4"),
    (lambda w: 5, TypeError, "^weights: expected an array for each of 3 layers, got int"),
    (lambda w: [w[0], w[1], w[2].T], ValueError, r"^weights\[2\]: expected shape \(5, 3\)"),
    (lambda w: [w[0], w[1], w[2].astype("c8")], TypeError, r"^weights\[2\]: expected numbers"),
    (lambda w: [w[0], w[1], w[2].astype(object)], TypeError, r"^weights\[2\]: expected numbers"),
    (lambda w: [w[0], w[1], w[2].astype("float64")], TypeError,
     r"^weights\[2\]: expected dtype float32.*astype"),
    (lambda w: [w[0], w[1], w[2].astype("int64")], TypeError, r"^weights\[2\]: expected dtype float32"),
    (lambda w: [w[0], w[1], None], ValueError, r"^weights\[2\]: expected an array, got NoneType"),
    (lambda w: [w[0], w[1], 0.0], ValueError, r"^weights\[2\]: expected shape"),
    (lambda w: [w[0], w[1], np.ma.masked_array(w[2])], TypeError, r"^weights\[2\].*masked"),
    (lambda w: [w[0], w[1], [[1, 2], [3]]], (TypeError, ValueError), r"^weights\[2\]"),
    (lambda w: [w[0], w[1], "text"], TypeError, r"^weights\[2\]"),
]


@pytest.mark.parametrize("spoil, error, message", BAD_ARRAYS, ids=[message for _, _, message in BAD_ARRAYS])
def test_arrays_that_do_not_fit_change_nothing(spoil, error, message, backend):
    model = made()
    before = everything(model)
    new = spoil([w + 1 for w in model.weights])
    with pytest.raises(error, match=message):
        model.weights = new
    if isinstance(new, list) and len(new) == 3:
        with pytest.raises(error, match=message):
            model.weights[2] = new[2]
        with pytest.raises(error, match=message):
            model.weights[:] = new
    with pytest.raises(ValueError, match=r"^scales\[1\]: expected None, for the layer has no batch norm"):
        model.scales = [np.ones(6, np.float32), np.ones(5, np.float32), None]
    for wrong, kind in ((3, IndexError), (-4, IndexError), ("0", TypeError), (True, TypeError)):
        with pytest.raises(kind, match="^weights"):
            model.weights[wrong] = before["weights.0"]
    unchanged(model, before)


@pytest.mark.parametrize("name", ["layers", "activations", "batch_norm", "loss", "dtype", "backend"])
def test_what_a_model_is_made_with_is_fixed(name, backend):
    model = made()
    before = getattr(model, name)
    for value in (before, "float64", [1, 2]):
        with pytest.raises(AttributeError, match=f"^{name}: is fixed.*make another MLP"):
            setattr(model, name, value)
    with pytest.raises(AttributeError, match=f"^{name}: cannot be deleted"):
        delattr(model, name)
    assert getattr(model, name) is before
    for name in ("layers", "activations", "batch_norm", "dropout"):
        with pytest.raises(TypeError, match="item assignment"):
            getattr(model, name)[0] = getattr(model, name)[0]


@pytest.mark.parametrize("name, message", [
    ("weigths", "did you mean 'weights'"), ("bias", "did you mean 'biases'"),
    ("drop_out", "did you mean 'dropout'"),
    ("activation", "did you mean 'activations'"), ("whatever", "no attribute 'whatever'; use a subclass")])
def test_typing_errors(name, message, backend, rng):
    with pytest.raises(AttributeError, match=message):
        setattr(made(), name, 1)
    gradients = made().loss_and_gradients(rng.standard_normal((5, 4)), [0, 1, 2, 0, 1])[1]
    with pytest.raises(AttributeError):
        setattr(gradients, name, 1)


def test_assigned_gradients(backend, rng):
    gradients = made().loss_and_gradients(rng.standard_normal((5, 4)), [0, 1, 2, 0, 1])[1]
    gradients.weights[0] *= 0.5
    gradients.biases = [np.ones_like(b) for b in gradients.biases]
    assert (gradients.biases[0] == 1).all()
    with pytest.raises(ValueError, match=r"^weights\[1\]: expected shape"):
        gradients.weights = [gradients.weights[0], np.ones((2, 2), np.float32), gradients.weights[2]]
    with pytest.raises(AttributeError):
        del gradients.weights


def test_subclass_with_attributes(backend, rng):
    class Mine(MLP):
        def __init__(self, rate):
            self.dropout = "before there is a model"
            self.rate = rate
            super().__init__([4, 5, 3], seed=0)
            self.seen = []

        def fit(self, X, y):
            self.seen.append(len(X))
            return super().fit(X, y, epochs=1, optimizer=SGD(self.rate), progress=False)

    model = Mine(0.1)
    model.fit(np.eye(4), [0, 1, 2, 0])
    model.rate = 0.2
    assert (model.seen, model.rate, model.dropout) == ([4], 0.2, (0.0,))
    with pytest.raises(AttributeError, match="^layers"):
        model.layers = [1, 2]


@pytest.mark.parametrize("rate", [0.5, [0.25, 0.0], 0.0])
def test_assigned_dropout(rate, backend, dtype, rng):
    """As if the model had been made with it; between the epochs of a training, too."""
    X, y = rng.standard_normal((50, 4)), rng.integers(0, 3, 50)
    one, two = (made(dtype, dropout=d) for d in (0.1, rate))
    optimizer = SGD(0.1, momentum=0.9)
    one.fit(X, y, epochs=1, batch_size=16, optimizer=optimizer, progress=False)
    start = made(dtype, dropout=0.1)
    start.fit(X, y, epochs=1, batch_size=16, optimizer=SGD(0.1, momentum=0.9), progress=False)
    state.restore(two, state.arrays(start))
    state.set_counters(two, state.counters(start))
    two.core.rng.bit_generator.state = start.core.rng.bit_generator.state
    other = SGD(0.1, momentum=0.9)
    other.set_state(two, optimizer.get_state(one))
    one.dropout = rate
    assert one.dropout == two.dropout and repr(one) == repr(two)
    for model, rule in ((one, optimizer), (two, other)):
        model.fit(X, y, epochs=2, batch_size=16, optimizer=rule, progress=False)
    assert Learned(one) == Learned(two)
    with pytest.raises(ValueError, match="^dropout: expected a share below 1"):
        one.dropout = 1
    with pytest.raises(ValueError, match="^dropout: expected one for each of 2"):
        one.dropout = [0.1]
    assert one.dropout == two.dropout


def test_dropout_in_a_callback(backend, rng):
    X, y = rng.standard_normal((50, 4)), rng.integers(0, 3, 50)
    one, two, optimizers = made(dropout=0.5), made(dropout=0.5), [SGD(0.1), SGD(0.1)]

    def anneal(model, epoch, logs):
        model.dropout = 0.1 * (2 - epoch)

    one.fit(X, y, epochs=3, batch_size=16, optimizer=optimizers[0], callbacks=[anneal], progress=False)
    for epoch in range(3):
        two.fit(X, y, epochs=1, batch_size=16, optimizer=optimizers[1], progress=False)
        two.dropout = 0.1 * (2 - epoch)
    assert Learned(one) == Learned(two)


# Nested calls ---------------------------------------------------------------------------------------------

def nested_calls(model, X, t):
    """All that trains a model, or changes what a training step stands on."""
    yield lambda: model.train_step(X, t, SGD(0.1))
    yield lambda: model.fit(X, t, epochs=1, progress=False)
    yield lambda: model.loss_and_gradients(X, t)
    yield lambda: setattr(model, "dropout", 0.0)
    yield lambda: setattr(model, "weights", list(model.weights))


@pytest.mark.parametrize("call", range(5))
@pytest.mark.parametrize("where", ["loss", "lr"])
def test_nested_calls_from_a_step_are_refused(where, call, backend, rng):
    X, t = rng.standard_normal((20, 4)), rng.standard_normal((20, 3))
    refused = []

    def nested(*_):
        with pytest.raises(RuntimeError,
                           match="being trained: a nested call|cannot be assigned while") as raised:
            list(nested_calls(model, X, t))[call]()
        refused.append(raised)

    def loss(z, targets):
        if where == "loss":
            nested()
        return float(((z - targets) ** 2).mean()), 2 * (z - targets) / z.size

    def rate(step):
        if where == "lr":
            nested()
        return 0.1

    model = MLP([4, 5, 3], loss=loss, seed=0)
    model.train_step(X, t, SGD(rate))
    model.fit(X, t, epochs=2, batch_size=10, optimizer=SGD(rate), progress=False)
    if where == "loss":
        model.loss_and_gradients(X, t)
    assert len(refused) == (6 if where == "loss" else 5)
    where = None
    assert np.isfinite(model.train_step(X, t, SGD(0.1)))


def test_callbacks_may_train(backend, rng):
    X, y = rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
    model, steps = MLP([4, 5, 3], seed=0), []

    def callback(model, epoch, logs):
        for call in nested_calls(model, X, y):
            call()
        steps.append(model.core.engine.global_step)

    model.fit(X, y, epochs=2, batch_size=10, callbacks=[callback], progress=False)
    assert steps == [4, 8]


# Interrupted at any moment --------------------------------------------------------------------------------

INTERRUPTED = """
import random, signal, sys
import numpy as np
import fastmlp
from fastmlp import MLP, SGD, Adam, LBFGS

class TimeIsUp(Exception):
    pass

def handler(*_):
    raise TimeIsUp

fastmlp.set_backend(sys.argv[1])
fastmlp.set_num_threads(1)
signal.signal(signal.SIGALRM, handler)
random.seed(0)
rng = np.random.default_rng(0)
X, y = rng.standard_normal((64, 8)), rng.integers(0, 3, 64)
model, optimizer = MLP([8, 8, 3], seed=0), SGD(1e-3, momentum=0.5)

def step():
    model.train_step(X, y, optimizer)

def gradients():
    model.loss_and_gradients(X, y)

def fit():
    model.fit(X, y, epochs=2, batch_size=16, optimizer=optimizer, callbacks=[lambda *_: step()],
    progress=False)

def minimize():
    LBFGS(max_iter=2).minimize(model, X, y)

raised = {}
for call in (step, gradients, fit, minimize):
    call()
    for i in range(int(sys.argv[2])):
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-6, 400e-6))
            try:
                for _ in range(40):
                    call()
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except TimeIsUp:
            raised[call.__name__] = raised.get(call.__name__, 0) + 1
        try:
            call()                      # no lock is held, whatever was interrupted
            assert not model.core.lock.last().holds()
        except TimeIsUp:
            pass
    assert np.isfinite(model.forward(X)).all()
print(raised, flush=True)
assert all(count > int(sys.argv[2]) // 4 for count in raised.values()) and len(raised) == 4
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs setitimer")
def test_exceptions_of_signal_handlers_leave_no_lock(backend):
    out = subprocess.run([sys.executable, "-c", INTERRUPTED, backend, "250"], capture_output=True, text=True,
                         env={**os.environ, "OPENBLAS_NUM_THREADS": "1"}, timeout=120)
    assert out.returncode == 0, out.stdout + out.stderr


@pytest.mark.parametrize("place", ["taken", "released"])
def test_what_was_not_released_counts_for_nothing(place, backend, rng, monkeypatch):
    """The exception comes right after the lock was taken, or right before it is released."""
    X, y = rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
    model = MLP([4, 5, 3], seed=0)

    class TimeIsUp(Exception):
        pass

    def interrupted(*_):
        raise TimeIsUp

    errors = []
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(locking.Call, "__enter__" if place == "taken" else "__exit__", interrupted)
            for call in (lambda: model.train_step(X, y, SGD(0.1)), lambda: model.loss_and_gradients(X, y)):
                with pytest.raises(TimeIsUp) as raised:
                    call()
                errors.append(raised)               # its traceback keeps the frames alive
        in_thread = threading.Thread(target=lambda: errors.append(model.train_step(X, y, SGD(0.1))))
        in_thread.start()
        in_thread.join()
        assert isinstance(errors[-1], float)
        assert not model.core.lock.busy_elsewhere() and not model.core.lock.last().holds()


def test_one_of_many_threads_takes_the_lock():
    """They come at once, again and again, to a lock that nobody released."""
    lock, inside, most, refused = locking.TrainingLock(), [], [0], [0]

    def work():
        for _ in range(300):
            try:
                hold()
            except RuntimeError:
                refused[0] += 1

    def hold():
        lock.take()                                 # and this frame ends without a word
        inside.append(1)
        most[0] = max(most[0], len(inside))
        time.sleep(1e-5)
        inside.pop()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert most[0] == 1 and refused[0]
    assert not lock.last().holds()


# Divergence -----------------------------------------------------------------------------------------------

RULES_OF_ALL = [SGD, AdaGrad, RMSprop, Adam, AdamW]


@pytest.mark.parametrize("cls", RULES_OF_ALL)
@pytest.mark.parametrize("spoil", ["lr", "X", "validation"])
def test_every_optimizer_warns_once_a_call(spoil, cls, backend, rng):
    X, y = rng.standard_normal((40, 4)), rng.standard_normal((40, 2))
    Xv = X.copy()
    if spoil != "lr":
        (X if spoil == "X" else Xv)[3, 1] = np.nan
    model = MLP([4, 6, 2], loss="mean_squared_error", seed=0)
    optimizer = cls(1e30 if spoil == "lr" else 0.01)
    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="diverged.*lower learning rate.*clip_norm.*scaled") as raised:
            model.fit(X, y, epochs=3, batch_size=16, optimizer=optimizer, validation_data=(Xv, y),
                      progress=False)
        assert len(raised) == 1 and raised[0].filename == __file__
    if spoil == "validation":
        assert "validation loss of epoch 1 is nan" in str(raised[0].message)
        return
    with pytest.warns(RuntimeWarning, match="^the loss of step .*diverged") as raised:
        model.train_step(X, y, optimizer)
    assert len(raised) == 1 and raised[0].filename == __file__


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_of_the_last_step(value, backend, dtype, rng):
    """Losses were finite, and the step after the last of them was not."""
    X, y = rng.standard_normal((40, 4)), rng.standard_normal((40, 2))

    def loss(z, t):
        return 1.0, np.full_like(z, value)

    model = MLP([4, 2], loss=loss, dtype=dtype, seed=0)
    with pytest.warns(RuntimeWarning, match="^the weights are not finite: training has diverged") as raised:
        history = model.fit(X, y, epochs=1, batch_size=40, progress=False)
    assert len(raised) == 1 and raised[0].filename == __file__ and history.loss == [1.0]


@pytest.mark.filterwarnings("error")
def test_finite_training_does_not_warn(backend, dtype, rng):
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    model = made(dtype)
    large = np.finfo(dtype).max
    model.biases[1][...] = -large                       # finite, though not their sum
    model.fit(X, y, epochs=2, batch_size=16, progress=False, validation_data=(X, y))
    model.train_step(X, y, SGD(0.1))


def test_no_line_of_the_library_is_blamed(backend, rng):
    """Also where another class of the user's stands between."""
    X, y = rng.standard_normal((40, 4)), np.full((40, 2), 1e30)

    class Mine(MLP):
        def fit(self, *args):
            return super().fit(*args, optimizer=SGD(1e30), progress=False)

    with pytest.warns(RuntimeWarning, match="diverged") as raised:
        Mine([4, 2], loss="mean_squared_error").fit(X, y, 2)
    assert len(raised) == 1 and raised[0].filename == __file__


# Progress -------------------------------------------------------------------------------------------------

class Broken(io.StringIO):
    """A stream that breaks after so many calls."""

    def __init__(self, calls, error):
        super().__init__()
        self.calls, self.error = calls, error

    def write(self, text):
        self.calls -= 1
        if self.calls < 0:
            raise self.error("it broke")
        return super().write(text)

    def flush(self):
        self.write("")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("calls", [0, 1, 3, 8])
@pytest.mark.parametrize("error", [BrokenPipeError, OSError, ValueError, RuntimeError, AttributeError])
def test_a_stream_that_breaks_ends_the_bar_alone(error, calls, backend, rng, monkeypatch):
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    stream = Broken(calls, error)
    monkeypatch.setattr(sys, "stderr", stream)
    history = made().fit(X, y, epochs=3, batch_size=8, validation_data=(X, y), progress="bar")
    monkeypatch.undo()
    gc.collect()                                        # and no finalizer complains
    assert len(history.loss) == 3 and stream.calls < 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("stream", [None, "closed", object()], ids=["none", "closed", "no stream"])
@pytest.mark.parametrize("progress", [True, "bar", "log"])
def test_no_stream(progress, stream, backend, rng, monkeypatch):
    if stream == "closed":
        stream = io.StringIO()
        stream.close()
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    monkeypatch.setattr(sys, "stderr", stream)
    history = made().fit(X, y, epochs=2, progress=progress)
    monkeypatch.undo()
    gc.collect()
    assert len(history.loss) == 2


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs SIGALRM")
def test_the_bar_swallows_no_signal(rng, monkeypatch):
    """An exception of a signal handler, also an OSError, that comes while the bar is drawn ends the
    training."""
    def handler(*_):
        raise TimeoutError("time is up")

    class Late(io.StringIO):
        def write(self, text):
            signal.raise_signal(signal.SIGALRM)
            return len(text)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        monkeypatch.setattr(sys, "stderr", Late())
        with pytest.raises(TimeoutError, match="time is up"):
            made().fit(rng.standard_normal((40, 4)), rng.integers(0, 3, 40), epochs=2, progress="bar")
    finally:
        monkeypatch.undo()
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_no_file_for_stderr():
    code = ("import numpy as np\nfrom fastmlp import MLP\n"
            "MLP([4, 3], seed=0).fit(np.eye(4), [0, 1, 2, 0], epochs=2)\nprint('trained')\n")
    out = subprocess.run(["sh", "-c", f'exec "{sys.executable}" -c "$0" 2>&-', code], capture_output=True,
                         text=True)
    assert (out.returncode, out.stdout) == (0, "trained\n")
