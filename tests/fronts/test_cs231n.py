"""The course's functions against NumPy formulas written here, finite differences, and a solved assignment.

FASTMLP_CS231N may name the folder of a solved assignment that holds ``cs231n``."""
import os
import sys
import types
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from fastmlp.compat.cs231n import layer_utils, layers, optim
from fastmlp.compat.cs231n.classifiers.fc_net import FullyConnectedNet
from fastmlp.compat.cs231n.solver import Solver

ORIGINAL = os.environ.get("FASTMLP_CS231N", "")
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def near(actual, desired, dtype, factor=1):
    actual, desired = np.asarray(actual), np.asarray(desired)
    assert actual.dtype == dtype and actual.shape == desired.shape
    scale = max(1.0, float(np.abs(desired).max(initial=0)))
    np.testing.assert_allclose(actual, desired, rtol=0, atol=factor * TOLERANCE[np.dtype(dtype).name] * scale)


def numbers(rng, *shape, dtype="float64"):
    return rng.standard_normal(shape).astype(dtype)


def differences(f, x, dout):
    """The gradient of sum(dout f(x)) by central differences; float64."""
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        was = x[place]
        x[place] = was + 1e-6
        above = (dout * f(x)).sum()
        x[place] = was - 1e-6
        gradient[place] = (above - (dout * f(x)).sum()) / 2e-6
        x[place] = was
    return gradient


@pytest.mark.parametrize("shape", [(4, 6), (4, 2, 3), (1, 1, 2, 3)])
def test_affine(rng, dtype, shape):
    x, w, b = numbers(rng, *shape, dtype=dtype), numbers(rng, 6, 5, dtype=dtype), numbers(rng, 5, dtype=dtype)
    rows = x.reshape(len(x), 6).astype("f8")
    out, cache = layers.affine_forward(x, w, b)
    near(out, rows @ w + b, dtype)
    assert len(cache) == 3 and cache[0] is x and cache[1] is w and cache[2] is b
    dout = numbers(rng, *out.shape, dtype=dtype)
    kept = dout.copy()
    dx, dw, db = layers.affine_backward(dout, cache)
    near(dx, (dout.astype("f8") @ w.T).reshape(shape), dtype)
    near(dw, rows.T @ dout, dtype)
    near(db, dout.sum(axis=0), dtype)
    np.testing.assert_array_equal(dout, kept)


def test_affine_of_images_and_other_dtypes(rng):
    x, w, b = rng.integers(0, 255, (3, 2, 2), np.uint8), numbers(rng, 4, 2), np.zeros(2)
    out, cache = layers.affine_forward(x, w, b)
    near(out, x.reshape(3, 4) @ w, "float64")
    near(layers.affine_backward(np.ones((3, 2)), cache)[1], x.reshape(3, 4).T @ np.ones((3, 2)), "float64")


def test_relu(rng, dtype):
    x, dout = numbers(rng, 3, 2, 4, dtype=dtype), numbers(rng, 3, 2, 4, dtype=dtype)
    x[0, 0, 0] = 0
    out, cache = layers.relu_forward(x)
    assert cache is x and not np.shares_memory(out, x)
    np.testing.assert_array_equal(out, np.maximum(0, x))
    kept = dout.copy()
    dx = layers.relu_backward(dout, cache)
    assert dx.dtype == dtype
    np.testing.assert_array_equal(dx, np.where(x > 0, dout, 0))
    np.testing.assert_array_equal(dout, kept)
    np.testing.assert_array_equal(layers.relu_backward(np.float64(2), np.array([1, -1])), [2, 0])


def test_affine_relu(rng, dtype):
    x, w, b = (numbers(rng, *shape, dtype=dtype) for shape in ((4, 2, 3), (6, 5), (5,)))
    out, cache = layer_utils.affine_relu_forward(x, w, b)
    z = x.reshape(4, 6) @ w + b
    near(out, np.maximum(z, 0), dtype)
    (affine, relu) = cache
    assert affine[0] is x
    near(relu, z, dtype)
    dout = numbers(rng, 4, 5, dtype=dtype)
    dz = np.where(z > 0, dout, 0)
    dx, dw, db = layer_utils.affine_relu_backward(dout, cache)
    near(dx, (dz @ w.T).reshape(4, 2, 3), dtype)
    near(dw, x.reshape(4, 6).T @ dz, dtype)
    near(db, dz.sum(axis=0), dtype)


def test_softmax_loss(rng, dtype):
    x, y = numbers(rng, 6, 4, dtype=dtype), rng.integers(0, 4, 6)
    p = np.exp(x.astype("f8")) / np.exp(x.astype("f8")).sum(axis=1, keepdims=True)
    loss, dx = layers.softmax_loss(x, y)
    assert loss == pytest.approx(-np.log(p[np.arange(6), y]).mean(), rel=TOLERANCE[dtype.name])
    near(dx, (p - np.eye(4)[y]) / 6, dtype)
    far, _ = layers.softmax_loss(np.array([[1000.0, 0.0]]), np.array([1]))
    assert far == 1000
    loss, dx = layers.softmax_loss(np.array([[1, 2]]), np.array([0]))       # integers
    assert loss == pytest.approx(np.log(1 + np.e)) and dx.sum() == pytest.approx(0)


@pytest.mark.parametrize("y, message", [([0, 4], "targets: expected class indices from 0 to 3"),
                                        ([0.0, 1.0], "targets"), ([0], "targets: expected shape")])
def test_softmax_loss_names_bad_labels(rng, y, message):
    with pytest.raises((TypeError, ValueError), match=message):
        layers.softmax_loss(numbers(rng, 2, 4), np.array(y))


def test_svm_loss(rng, dtype):
    x, y = numbers(rng, 5, 4, dtype=dtype), rng.integers(0, 4, 5)
    kept = x.copy()
    loss, dx = layers.svm_loss(x, y)
    expected, gradient = 0.0, np.zeros((5, 4))
    for i in range(5):
        for j in set(range(4)) - {y[i]}:
            margin = float(x[i, j]) - float(x[i, y[i]]) + 1
            if margin > 0:
                expected += margin / 5
                gradient[i, j] += 1 / 5
                gradient[i, y[i]] -= 1 / 5
    assert loss == pytest.approx(expected, rel=TOLERANCE[dtype.name])
    near(dx, gradient, dtype)
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize("name, axis", [("batchnorm", 0), ("layernorm", 1)])
def test_normalisation(rng, dtype, name, axis):
    x, gamma, beta = (numbers(rng, *shape, dtype=dtype) for shape in ((6, 4), (4,), (4,)))
    forward = getattr(layers, f"{name}_forward")
    param = {"mode": "train", "eps": 1e-3} if axis == 0 else {"eps": 1e-3}
    out, cache = forward(x, gamma, beta, param)
    wide = x.astype("f8")
    x_hat = (wide - wide.mean(axis, keepdims=True)) / np.sqrt(wide.var(axis, keepdims=True) + 1e-3)
    near(out, gamma * x_hat + beta, dtype, 10)
    dout = numbers(rng, 6, 4, dtype=dtype)
    results = layers.__dict__[f"{name}_backward"](dout, cache)

    def of(x, gamma, beta):
        return forward(x, gamma, beta, dict(param))[0]
    arrays = [array.astype("f8") for array in (x, gamma, beta)]
    for i, result in enumerate(results):
        def f(array, i=i):
            return of(*arrays[:i], array, *arrays[i + 1:])
        assert result.dtype == dtype
        np.testing.assert_allclose(result, differences(f, arrays[i], dout.astype("f8")), rtol=0,
                                   atol=1e-3 if dtype == "float32" else 1e-6)
    if axis == 0:
        for a, b in zip(layers.batchnorm_backward_alt(dout, cache), results):
            np.testing.assert_array_equal(a, b)
        near(param["running_mean"], 0.1 * wide.mean(0), dtype)
        near(param["running_var"], 0.1 * wide.var(0), dtype)
        param["mode"] = "test"
        still, _ = layers.batchnorm_forward(x, gamma, beta, param)
        near(still, gamma * (wide - 0.1 * wide.mean(0)) / np.sqrt(0.1 * wide.var(0) + 1e-3) + beta, dtype, 10)


def test_batchnorm_modes_and_momentum(rng):
    x, one = numbers(rng, 6, 2), np.ones(2)
    param = {"mode": "train", "momentum": 0.5, "running_mean": one, "running_var": 2 * one}
    layers.batchnorm_forward(x, one, one, param)
    near(param["running_mean"], 0.5 + 0.5 * x.mean(0), "float64")
    near(param["running_var"], 1 + 0.5 * x.var(0), "float64")
    assert (one == 1).all()
    with pytest.raises(ValueError, match="expected 'train' or 'test', got 'tset'"):
        layers.batchnorm_forward(x, one, one, {"mode": "tset"})


def test_dropout(rng, dtype):
    x, dout = numbers(rng, 4, 5, dtype=dtype), numbers(rng, 4, 5, dtype=dtype)
    param = {"p": 0.4, "mode": "train", "seed": 3}
    np.random.seed(3)
    mask = (np.random.rand(4, 5) < 0.4) / 0.4
    out, cache = layers.dropout_forward(x, param)
    near(out, x * mask, dtype)
    assert cache[0] is param
    np.testing.assert_array_equal(cache[1], mask)
    np.testing.assert_allclose(layers.dropout_backward(dout, cache), dout * mask)
    param["mode"] = "test"
    out, cache = layers.dropout_forward(x, param)
    assert out is x and cache[1] is None and layers.dropout_backward(dout, cache) is dout
    with pytest.raises(ValueError, match="expected 'train' or 'test', got 1"):
        layers.dropout_forward(x, {"p": 0.4, "mode": 1})


@pytest.mark.parametrize("name", [name for name in layers.__all__
                                  if name.startswith(("conv", "max", "spatial"))])
def test_what_is_not_fully_connected_says_so(name):
    with pytest.raises(NotImplementedError, match=f"{name}: fastmlp has fully-connected layers only"):
        getattr(layers, name)(1, 2, 3)


# Update rules ------------------------------------------------------------------------------------------

def after_step(name, w, dw, state, t):
    """One step with the default rates; w and state (velocity or m; cache or v) anew."""
    m, v = state
    if name == "sgd":
        return w - 1e-2 * dw, state
    if name == "sgd_momentum":
        m = 0.9 * m - 1e-2 * dw
        return w + m, (m, v)
    if name == "rmsprop":
        v = 0.99 * v + (1 - 0.99) * dw**2
        return w - 1e-2 * dw / (np.sqrt(v) + 1e-8), (m, v)
    m, v = 0.9 * m + (1 - 0.9) * dw, 0.999 * v + (1 - 0.999) * dw**2
    return w - 1e-3 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8), (m, v)


STATES = {"sgd": (None, None), "sgd_momentum": ("velocity", None), "rmsprop": (None, "cache"),
          "adam": ("m", "v")}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("dtypes", [("float64", "float64"), ("float32", "float32"), ("float64", "float32")])
def test_rules(rng, name, dtypes):
    w = numbers(rng, 4, 3, dtype=dtypes[0])
    first, exact, state, config = w, w.astype("f8"), (0.0, 0.0), None
    start = w.copy()
    for t in range(1, 5):
        dw = numbers(rng, 4, 3, dtype=dtypes[1])
        dw[0] = 0
        given = config
        w, config = getattr(optim, name)(w, dw, config)
        assert given is None or config is given
        exact, state = after_step(name, exact, dw.astype("f8"), state, t)
        tolerance = 1e-13 if dtypes[1] == "float64" else 1e-6
        np.testing.assert_allclose(w, exact, rtol=0, atol=tolerance)
        assert w.dtype == dtypes[0]
        for key, value in zip(STATES[name], state):
            if key:
                np.testing.assert_allclose(config[key], value, rtol=0, atol=10 * tolerance)
    assert config["learning_rate"] == (1e-3 if name == "adam" else 1e-2)
    assert config.get("t", 4) == 4
    if name == "sgd":
        assert w is first
    else:       # the caller's w is as it was
        np.testing.assert_array_equal(first, start)


@pytest.mark.parametrize("name", ["sgd_momentum", "rmsprop", "adam"])
def test_state_of_the_caller_is_not_written(rng, name):
    arrays = {key: np.full((2, 2), 0.5) for key in STATES[name] if key}
    config = dict(arrays)
    getattr(optim, name)(np.ones((2, 2)), np.ones((2, 2)), config)
    for key, array in arrays.items():
        assert config[key] is not array and (array == 0.5).all()


@pytest.mark.parametrize("name", STATES)
def test_rules_beyond_the_kernels(rng, name):
    """Rates below 0 and broadcast gradients, as NumPy has them."""
    w, dw = numbers(rng, 3, 4), numbers(rng, 4)
    expected, _ = after_step(name, w, np.broadcast_to(dw, (3, 4)), (0.0, 0.0), 1)
    np.testing.assert_allclose(getattr(optim, name)(w.copy(), dw)[0], expected, rtol=0, atol=1e-13)
    back = getattr(optim, name)(w.copy(), np.ones((3, 4)), {"learning_rate": -0.5})[0]
    assert (back > w).all()


# Network and solver ------------------------------------------------------------------------------------

@pytest.mark.parametrize("normalization", [None, "batchnorm", "layernorm"])
@pytest.mark.parametrize("keep", [1, 0.6])
@pytest.mark.parametrize("reg", [0.0, 3.0])
def test_network_against_differences(rng, normalization, keep, reg):
    np.random.seed(1)
    net = FullyConnectedNet([6, 5], 4, 3, keep, normalization, reg, 0.3, np.float64, seed=9)
    x, y = numbers(rng, 7, 2, 2), rng.integers(0, 3, 7)
    loss, grads = net.loss(x, y)
    assert grads.keys() == net.params.keys() and np.isfinite(loss)
    for name, param in net.params.items():
        numerical = differences(lambda _: net.loss(x, y)[0], param, 1.0)
        np.testing.assert_allclose(grads[name], numerical, rtol=0, atol=1e-6, err_msg=name)


def test_gradients_that_somebody_holds_are_not_written(rng):
    net = FullyConnectedNet([600], input_dim=500, num_classes=3)
    x, y = numbers(rng, 8, 500), rng.integers(0, 3, 8)
    held, addresses = [], set()
    for i in range(8):
        x[0] += 1
        grads = net.loss(x, y)[1]
        addresses.add(grads["W1"].ctypes.data)
        if i % 3 == 0:
            held.append((grads["W1"][5:], grads["W1"][5:].copy()))
    for view, copy in held:
        np.testing.assert_array_equal(view, copy)
    assert len(addresses) < 8


def test_network_scores_and_parameters(rng):
    np.random.seed(2)
    net = FullyConnectedNet([6], input_dim=4, num_classes=3, weight_scale=0.5)
    np.random.seed(2)
    assert all(param.dtype == np.float32 for param in net.params.values())
    near(net.params["W1"], np.random.randn(4, 6) * 0.5, "float32")
    x = numbers(rng, 5, 4)
    near(net.loss(x), np.maximum(x @ net.params["W1"], 0) @ net.params["W2"], "float32")
    assert FullyConnectedNet([3], normalization="batchnorm").bn_params == [{"mode": "train"}]
    message = "normalization: expected None, 'batchnorm' or 'layernorm', got 'batch'"
    with pytest.raises(ValueError, match=message):
        FullyConnectedNet([3], normalization="batch")


def samples(rng):
    centres = rng.normal(0, 3, (3, 4))
    y = rng.integers(0, 3, 300)
    x = centres[y] + rng.normal(0, 0.4, (300, 4))
    return {"X_train": x[:200], "y_train": y[:200], "X_val": x[200:], "y_val": y[200:]}


@pytest.mark.parametrize("rule", STATES)
def test_solver(rng, rule, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.random.seed(0)
    net = FullyConnectedNet([12], input_dim=4, num_classes=3, weight_scale=0.3, dtype=np.float64)
    config = {"learning_rate": 0.5 if rule == "sgd" else 0.02}
    solver = Solver(net, samples(rng), update_rule=rule, optim_config=config, lr_decay=0.5, num_epochs=4,
                    batch_size=20, print_every=15, num_train_samples=50, checkpoint_name="net")
    solver.train()
    assert len(solver.loss_history) == 40 and solver.epoch == 4
    assert len(solver.train_acc_history) == len(solver.val_acc_history) == 5
    assert solver.best_val_acc == max(solver.val_acc_history) > 0.9
    assert net.params is solver.best_params
    assert config == {"learning_rate": 0.5 if rule == "sgd" else 0.02}
    assert solver.optim_configs["W1"]["learning_rate"] == config["learning_rate"] / 16
    assert solver.check_accuracy(solver.X_val, solver.y_val, batch_size=7) == solver.best_val_acc
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"(Iteration 1 / 40) loss: {solver.loss_history[0]:f}"
    assert lines[-1].startswith("(Epoch 4 / 4) train acc: ")
    with np.load("net_epoch_4.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["loss_history"], solver.loss_history)
        assert file["params/W1"].shape == (4, 12)


def test_solver_names_bad_options(rng):
    net, data = FullyConnectedNet([2], 4, 3), samples(rng)
    with pytest.raises(ValueError, match="Unrecognized arguments epochs"):
        Solver(net, data, epochs=3)
    message = "update_rule: expected one of adam, rmsprop, sgd, sgd_momentum, got 'x'"
    with pytest.raises(ValueError, match=message):
        Solver(net, data, update_rule="x")


@pytest.mark.skipif(not Path(ORIGINAL, "cs231n", "solver.py").is_file(),
                    reason="FASTMLP_CS231N names no folder")
class TestOriginal:
    @pytest.fixture
    def course(self, monkeypatch):
        monkeypatch.setattr(sys, "modules", dict(sys.modules))
        monkeypatch.syspath_prepend(ORIGINAL)
        sys.modules["cs231n.fast_layers"] = types.ModuleType("cs231n.fast_layers")      # wants an extension
        return lambda name: import_module(f"cs231n.{name}")

    @pytest.mark.parametrize("rule", STATES)
    @pytest.mark.parametrize("options", [{}, {"reg": 0.1, "normalization": "batchnorm"},
                                         {"normalization": "layernorm", "dropout_keep_ratio": 0.7}])
    def test_training(self, course, rng, rule, options):
        data, runs = samples(rng), []
        for network, loop in ((course("classifiers.fc_net").FullyConnectedNet, course("solver").Solver),
                              (FullyConnectedNet, Solver)):
            np.random.seed(3)
            net = network([8, 7], input_dim=4, num_classes=3, dtype=np.float64, weight_scale=0.1, **options)
            solver = loop(net, data, update_rule=rule, optim_config={"learning_rate": 1e-3}, num_epochs=2,
                          verbose=False)
            solver.train()
            runs.append((net, solver))
        (theirs, a), (ours, b) = runs
        np.testing.assert_allclose(a.loss_history, b.loss_history, rtol=1e-10)
        for name in theirs.params:
            np.testing.assert_allclose(ours.params[name], theirs.params[name], rtol=0, atol=1e-8)
