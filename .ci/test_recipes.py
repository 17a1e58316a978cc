"""What .ci/recipes.py has added to a copy of the tree: against formulas in NumPy, and finite differences."""
import numpy as np
import pytest

import fastmlp.functional as F
from fastmlp import MLP, backends, gradient_check
from fastmlp.losses import LogCosh
from fastmlp.optimizers import AdaMax

BACKENDS = ["cython", "numpy"]
DTYPES = ["float32", "float64"]


@pytest.fixture(params=BACKENDS)
def backend(request):
    with backends.use_backend(request.param):
        yield request.param


@pytest.fixture(params=DTYPES)
def dtype(request):
    return np.dtype(request.param)


def close(got, expected, dtype):
    np.testing.assert_allclose(got, expected, rtol=50 * np.finfo(dtype).eps, atol=50 * np.finfo(dtype).eps)


def test_softsign(backend, dtype):
    x = np.random.default_rng(0).standard_normal((7, 13)).astype(dtype)
    y = x / (1 + np.abs(x))
    close(F.softsign(x), y, dtype)
    close(F.softsign_backward(x, F.softsign(x)), x * (1 - np.abs(y)) ** 2, dtype)
    w = np.eye(13, dtype=dtype)
    close(F.dense_forward(x, w, np.zeros(13, dtype), "softsign"), y, dtype)


def test_log_cosh(backend, dtype):
    z, t = np.random.default_rng(1).standard_normal((2, 40, 21)).astype(dtype)
    for rows in (z, z[:, :5].copy()):                   # whole rows, and a lane for each
        targets = t[:, :rows.shape[1]].copy()
        loss, gradient = F.log_cosh(rows, targets)
        close(loss, np.log(np.cosh((rows - targets).astype(np.float64))).mean(), dtype)
        close(gradient, np.tanh(rows - targets) / rows.size, dtype)


def test_adamax(backend, dtype):
    """Trained steps, with decoupled decay and without, against the formula in float64."""
    class AdaMaxW(AdaMax):
        decoupled = True

    X = np.random.default_rng(2).standard_normal((9, 6)).astype(dtype)
    T = X[:, :3].copy()
    for cls in (AdaMax, AdaMaxW):
        model = MLP([6, 3], loss="mean_squared_error", dtype=dtype, seed=0)
        optimizer = cls(0.01, weight_decay=0.1)
        w, m, u = model.weights[0].astype(np.float64), 0.0, 0.0
        for step in range(1, 5):
            g = model.loss_and_gradients(X, T)[1].weights[0].astype(np.float64)
            g = g if cls.decoupled else g + 0.1 * w
            m, u = 0.9 * m + 0.1 * g, np.maximum(0.999 * u, np.abs(g))
            w = w - (0.01 * 0.1 * w if cls.decoupled else 0) - 0.01 / (1 - 0.9 ** step) * m / (u + 1e-8)
            model.train_step(X, T, optimizer)
        np.testing.assert_allclose(model.weights[0], w, rtol=1e-3 if dtype == "float32" else 1e-9)
        assert set(optimizer.get_state(model)) > {"first_moment.weights.0", "largest.weights.0"}


def test_gradients_of_a_network(backend):
    X, T = np.random.default_rng(3).standard_normal((2, 8, 4))
    model = MLP([4, 9, 4], activation="softsign", loss=LogCosh(), dtype="float64", seed=1)
    assert gradient_check(model, X, T).passed


def test_it_learns(backend, dtype):
    X = np.random.default_rng(4).standard_normal((200, 4)).astype(dtype)
    T = np.sin(X[:, :2])
    model = MLP([4, 32, 2], activation="softsign", loss="log_cosh", dtype=dtype, seed=2)
    history = model.fit(X, T, epochs=30, batch_size=20, optimizer=AdaMax(0.01), progress=False)
    assert history["loss"][-1] < 0.1 * history["loss"][0]
