"""Training as a whole: real data to its accuracy on both backends, and every rule against NumPy by hand."""
from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
from numpy.testing import assert_allclose

import fastmlp
from fastmlp import MLP, SGD, LeakyReLU, backends, kernels
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
    assert_allclose(compiled[:4], plain[:4], rtol=1e-5 if dtype == np.float32 else 1e-13)
    assert_allclose(compiled, plain, rtol=1e-2 if dtype == np.float32 else 1e-10)


@pytest.mark.parametrize("isa", kernels.available_isas())
def test_digits_on_every_isa(isa, digits, monkeypatch):
    monkeypatch.setitem(cython._kernels.KERNELS, "f", kernels.load(isa, "float32"))
    model, history = train_digits(digits)
    assert type(model._engine._engine) is kernels.load(isa, "float32").Engine
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
