"""The book's package against NumPy formulas written here, finite differences, and the original where it is.

FASTMLP_DLFS may name a clone of oreilly-japan/deep-learning-from-scratch."""
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmlp.compat import dlfs
from fastmlp.compat.dlfs import functions, gradient, layers, optimizer, util
from fastmlp.compat.dlfs.multi_layer_net import MultiLayerNet
from fastmlp.compat.dlfs.multi_layer_net_extend import MultiLayerNetExtend
from fastmlp.compat.dlfs.trainer import Trainer

ORIGINAL = os.environ.get("FASTMLP_DLFS", "")
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def near(actual, desired, dtype):
    """Equal to rounding, and of the same dtype and shape."""
    actual, desired = np.asarray(actual), np.asarray(desired)
    assert actual.dtype == desired.dtype and actual.shape == desired.shape
    scale = max(1.0, float(np.abs(desired).max(initial=0)))
    np.testing.assert_allclose(actual, desired, rtol=0, atol=TOLERANCE[np.dtype(dtype).name] * scale)


def numbers(rng, *shape, dtype="float64"):
    return rng.standard_normal(shape).astype(dtype)


# Layers ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("x_dtype, w_dtype", [("float32", "float32"), ("float64", "float64"),
                                              ("float32", "float64"), ("uint8", "float64"),
                                              ("float16", "float16")])
@pytest.mark.parametrize("shape", [(5, 6), (5, 2, 3), (5, 1, 2, 3), (1, 6)])
def test_affine(rng, shape, x_dtype, w_dtype):
    x = (10 * np.abs(numbers(rng, *shape))).astype(x_dtype)
    w, b = numbers(rng, 6, 4, dtype=w_dtype), numbers(rng, 4, dtype=w_dtype)
    rows = x.reshape(len(x), 6)
    layer = layers.Affine(w, b)
    assert layer.W is w and layer.b is b and layer.dW is None and layer.db is None
    out = layer.forward(x)
    precision = "float64" if w_dtype == "float64" else "float32"
    loose = 300 if w_dtype == "float16" else 1
    assert out.dtype == w_dtype
    np.testing.assert_allclose(out, rows.astype("f8") @ w.astype("f8") + b, rtol=0,
                               atol=100 * loose * TOLERANCE[precision])
    assert layer.original_x_shape == shape
    assert layer.x.shape == rows.shape and np.shares_memory(layer.x, x)
    dout = numbers(rng, *out.shape, dtype=out.dtype)
    kept = dout.copy()
    dx = layer.backward(dout)
    assert dx.shape == x.shape and dx.dtype == w_dtype and layer.dW.dtype == layer.db.dtype == w_dtype
    wide = kept.astype("f8")
    for ours, formula in ((dx.reshape(rows.shape), wide @ w.T.astype("f8")),
                          (layer.dW, rows.T.astype("f8") @ wide), (layer.db, wide.sum(axis=0))):
        np.testing.assert_allclose(ours, formula, rtol=0, atol=1000 * loose * TOLERANCE[precision])
    np.testing.assert_array_equal(dout, kept)
    first = layer.dW
    layer.backward(dout)
    assert layer.dW is not first        # which is held
    layer.backward_parameters(dout)
    np.testing.assert_allclose(layer.dW, first, atol=1e-2)


def test_affine_reads_the_arrays_of_the_moment(rng):
    """An optimizer changes W in place, or a program gives another one."""
    w, b, x = numbers(rng, 3, 2), np.zeros(2), numbers(rng, 4, 3)
    layer = layers.Affine(w, b)
    w *= 2
    near(layer.forward(x), x @ w, "float64")
    layer.W = np.ones((3, 2))
    near(layer.forward(x), x @ np.ones((3, 2)), "float64")
    x[0] = 7        # before backward, which looks at x again
    layer.backward(np.ones((4, 2)))
    near(layer.dW, x.T @ np.ones((4, 2)), "float64")


def test_gradients_that_somebody_holds_are_not_written(rng, dtype):
    """Large ones come from memory that is used again, but not while they, or views of them, are held."""
    np.random.seed(0)
    net = MultiLayerNet(600, [500], 4)
    for name in ("W1", "W2", "b1", "b2"):
        net.params[name] = param = net.params[name].astype(dtype)
        setattr(net.layers[f"Affine{name[1]}"], name[0], param)
    x, t = numbers(rng, 8, 600, dtype=dtype), rng.integers(0, 4, 8)
    held, addresses = [], set()
    for i in range(12):
        x[0] += 1
        grads = net.gradient(x, t)
        addresses.add(grads["W1"].ctypes.data)
        if i % 3 == 0:
            layer = net.layers["Affine1"]
            views = [grads["W1"][5:], layer.dW, layer.dW.T] if i % 2 else [grads["W1"], memoryview(layer.dW)]
            held.append([(view, np.array(view)) for view in views])
    for pairs in held:
        for view, copy in pairs:
            np.testing.assert_array_equal(np.asarray(view), copy)
    assert len(addresses) < 12
    assert not np.shares_memory(grads["W1"], net.layers["Affine1"].dW)
    copied = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(copied.gradient(x, t)["W1"], grads["W1"])


def test_affine_keeps_numpys_error(rng):
    layer = layers.Affine(numbers(rng, 3, 2), np.zeros(2))
    with pytest.raises(ValueError, match="aligned"):
        layer.forward(numbers(rng, 4, 5))


def test_bias_that_is_broadcast(rng):
    x, w = numbers(rng, 4, 3), numbers(rng, 3, 2)
    near(layers.Affine(w, np.float64(2)).forward(x), x @ w + 2, "float64")
    near(layers.Affine(w, np.ones((4, 1))).forward(x), x @ w + 1, "float64")


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4), (7,), (0, 3)])
def test_relu(rng, dtype, shape):
    x = numbers(rng, *shape, dtype=dtype)
    if x.size:
        x.reshape(-1)[:3] = [0, -0.0, np.nan]
    layer = layers.Relu()
    out = layer.forward(x)
    np.testing.assert_array_equal(layer.mask, x <= 0)
    np.testing.assert_array_equal(out, np.where(x <= 0, 0, x))
    assert out.dtype == dtype and not np.shares_memory(out, x)
    out[...] = -1           # the mask remembers
    dout = numbers(rng, *shape, dtype=dtype)
    expected = np.where(x <= 0, 0, dout)
    assert layer.backward(dout) is dout     # in place, as in the book
    np.testing.assert_array_equal(dout, expected)


def test_relu_of_integers_and_of_strided_gradients(rng):
    layer = layers.Relu()
    x = np.array([[3, -1], [0, 2]])
    np.testing.assert_array_equal(layer.forward(x), [[3, 0], [0, 2]])
    assert layer.forward(x).dtype == x.dtype
    dout = numbers(rng, 2, 4)[:, ::2]
    expected = np.where(x <= 0, 0, dout)
    np.testing.assert_array_equal(layer.backward(dout), expected)


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
def test_sigmoid(rng, dtype, shape):
    x, dout = numbers(rng, *shape, dtype=dtype), numbers(rng, *shape, dtype=dtype)
    layer = layers.Sigmoid()
    out = layer.forward(x)
    assert layer.out is out
    near(out, 1 / (1 + np.exp(-x)), dtype)
    kept = dout.copy()
    near(layer.backward(dout), dout * (1 - out) * out, dtype)
    np.testing.assert_array_equal(dout, kept)
    near(layer.backward(1), 1 * (1 - out) * out, dtype)


@pytest.mark.parametrize("targets", ["indices", "one_hot", "one_hot_integers", "uint8"])
def test_softmax_with_loss(rng, dtype, targets):
    x, labels = numbers(rng, 6, 4, dtype=dtype), rng.integers(0, 4, 6)
    t = {"indices": labels, "one_hot": np.eye(4, dtype=dtype)[labels], "uint8": labels.astype("u1"),
         "one_hot_integers": np.eye(4, dtype=int)[labels]}[targets]
    layer = layers.SoftmaxWithLoss()
    loss = layer.forward(x, t)
    p = np.exp(x.astype("f8")) / np.exp(x.astype("f8")).sum(axis=1, keepdims=True)
    assert loss == layer.loss and layer.t is t
    expected = -np.log(p[np.arange(6), labels] + 1e-7).mean()
    np.testing.assert_allclose(loss, expected, rtol=TOLERANCE[dtype.name])
    near(layer.y, p.astype(dtype), dtype)
    dx = layer.backward(5)      # which is not looked at
    np.testing.assert_allclose(dx, (p - np.eye(4)[labels]) / 6, rtol=0, atol=TOLERANCE[dtype.name])
    assert dx.dtype == (np.result_type(dtype, t) if t.ndim == 2 else dtype)


def test_dropout(rng, dtype):
    x, dout = numbers(rng, 5, 6, dtype=dtype), numbers(rng, 5, 6, dtype=dtype)
    layer = layers.Dropout(0.3)
    np.random.seed(4)
    mask = np.random.rand(5, 6) > 0.3
    np.random.seed(4)
    out = layer.forward(x)
    np.testing.assert_array_equal(layer.mask, mask)
    near(out, x * mask, dtype)
    near(layer.backward(dout), dout * mask, dtype)
    near(layer.forward(x, False), x * (1.0 - 0.3), dtype)


@pytest.mark.parametrize("shape", [(7, 4), (7, 2, 1, 2), (1, 4)])
def test_batch_normalization(rng, dtype, shape):
    x, dout = 3 + numbers(rng, *shape, dtype=dtype), numbers(rng, *shape, dtype=dtype)
    gamma, beta = numbers(rng, 4, dtype=dtype), numbers(rng, 4, dtype=dtype)
    layer = layers.BatchNormalization(gamma, beta)
    rows = x.reshape(-1, 4).astype("f8")
    mean, var = rows.mean(axis=0), rows.var(axis=0)
    x_hat = (rows - mean) / np.sqrt(var + 1e-6)
    tolerance = {"rtol": 0, "atol": (5000 if len(x) == 1 else 100) * TOLERANCE[dtype.name]}
    out = layer.forward(x)
    assert out.shape == shape and out.dtype == dtype and layer.input_shape == shape
    np.testing.assert_allclose(out.reshape(-1, 4), gamma * x_hat + beta, **tolerance)
    np.testing.assert_allclose(layer.xn, x_hat, **tolerance)
    np.testing.assert_allclose(layer.xc, rows - mean, **tolerance)
    np.testing.assert_allclose(layer.std, np.sqrt(var + 1e-6), **tolerance)
    np.testing.assert_allclose(layer.running_mean, 0.1 * mean, **tolerance)
    np.testing.assert_allclose(layer.running_var, 0.1 * var, **tolerance)
    assert layer.batch_size == len(x)
    kept = dout.copy()
    dx = layer.backward(dout)
    d = dout.reshape(-1, 4).astype("f8")
    # through x_hat, the variance and the mean, one after the other
    dx_hat = d * gamma
    dvar = (-0.5 * dx_hat * (rows - mean) * (var + 1e-6) ** -1.5).sum(axis=0)
    dmean = (-dx_hat / np.sqrt(var + 1e-6)).sum(axis=0)
    formula = dx_hat / np.sqrt(var + 1e-6) + 2 * dvar * (rows - mean) / len(x) + dmean / len(x)
    if len(x) > 1:
        np.testing.assert_allclose(dx.reshape(-1, 4), formula, **tolerance)
    np.testing.assert_allclose(layer.dgamma, (x_hat * d).sum(axis=0), **tolerance)
    np.testing.assert_allclose(layer.dbeta, d.sum(axis=0), **tolerance)
    assert dx.shape == shape
    np.testing.assert_array_equal(dout, kept)
    still = layer.forward(x, train_flg=False).reshape(-1, 4)
    np.testing.assert_allclose(still, gamma * (rows - 0.1 * mean) / np.sqrt(0.1 * var + 1e-6) + beta,
                               **tolerance)


def test_batch_normalization_wants_two_or_four_dimensions(rng):
    with pytest.raises(ValueError, match=r"x: expected shape \(n, d\)"):
        layers.BatchNormalization(np.ones(2), np.ones(2)).forward(np.ones((3, 2, 2)))


@pytest.mark.parametrize("name, arguments", [("Convolution", (1, 2)), ("Pooling", (2, 2))])
def test_what_is_not_fully_connected_says_so(name, arguments):
    with pytest.raises(NotImplementedError, match=f"{name}: fastmlp has fully-connected layers only"):
        getattr(layers, name)(*arguments)


# Functions ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [
    lambda rng: numbers(rng, 4, 5), lambda rng: numbers(rng, 4, 5, dtype="f4"),
    lambda rng: numbers(rng, 2, 3, 4),
    lambda rng: numbers(rng, 6), lambda rng: np.arange(-3, 3), lambda rng: numbers(rng, 4, 6)[:, ::2],
    lambda rng: 0.5, lambda rng: np.float32(-0.5)])
def test_functions(rng, make):
    x = make(rng)
    dtype = "float32" if np.asarray(x).dtype == np.float32 else "float64"
    s = 1 / (1 + np.exp(-x))
    assert functions.identity_function(x) is x
    near(functions.step_function(x), np.where(np.greater(x, 0), 1, 0), "float64")
    near(functions.sigmoid(x), s, dtype)
    near(functions.sigmoid_grad(x), s * (1 - s), dtype)
    near(functions.relu(x), np.maximum(0, x), dtype)
    slope = np.where(np.greater_equal(x, 0), 1, 0).astype(np.asarray(x).dtype)
    near(functions.relu_grad(x), slope, dtype)
    if np.ndim(x):
        e = np.exp(x - np.max(x))
        near(functions.softmax(x), e / e.sum(axis=-1, keepdims=True), dtype)
    near(functions.sum_squared_error(x, 2 * x), 0.5 * np.sum((x - 2 * x)**2), dtype)


def test_cross_entropy_of_one_sample_and_of_a_batch(rng):
    y = functions.softmax(numbers(rng, 5, 4))
    labels = np.array([0, 3, 1, 1, 2])
    expected = -np.log(y[np.arange(5), labels] + 1e-7).mean()
    for t in (labels, np.eye(4)[labels]):
        assert functions.cross_entropy_error(y, t) == pytest.approx(expected, rel=1e-14)
    for t in (np.array([0, 0, 1, 0]), np.array(2)):
        assert functions.cross_entropy_error(y[0], t) == pytest.approx(-np.log(y[0, 2] + 1e-7), rel=1e-14)
    x = numbers(rng, 5, 4)
    assert functions.softmax_loss(x, labels) == functions.cross_entropy_error(functions.softmax(x), labels)


def test_numerical_gradient(rng):
    x = numbers(rng, 3, 2)
    kept = x.copy()
    found = gradient.numerical_gradient(lambda x: (x**3).sum(), x)
    np.testing.assert_allclose(found, 3 * x**2 + 1e-8, rtol=0, atol=1e-8)
    np.testing.assert_array_equal(x, kept)
    rows = gradient.numerical_gradient_2d(lambda row: (row**2).sum(), x)
    np.testing.assert_allclose(rows, 2 * x, rtol=0, atol=1e-8)
    row = gradient.numerical_gradient_2d(lambda x: (x**2).sum(), x[0])
    np.testing.assert_allclose(row, 2 * x[0], atol=1e-8)
    seen = []
    gradient.numerical_gradient(lambda given: seen.append(given is x) or 0.0, x)
    assert all(seen) and len(seen) == 12


def test_util(rng):
    x = rng.random(40)
    window = np.kaiser(11, 2) / np.kaiser(11, 2).sum()
    smooth = util.smooth_curve(x)
    assert len(smooth) == 40
    np.testing.assert_allclose(smooth[20], (window * x[15:26]).sum())
    np.random.seed(3)
    order = np.random.permutation(6)
    for shape in ((6, 2), (6, 1, 2, 2)):
        images, labels = numbers(rng, *shape), np.arange(6)
        np.random.seed(3)
        a, b = util.shuffle_dataset(images, labels)
        np.testing.assert_array_equal(b, order)
        np.testing.assert_array_equal(a, images[order])
    assert util.conv_output_size(28, 5, 2, 1) == 13.5


@pytest.mark.parametrize("stride, pad", [(1, 0), (2, 1), (3, 2)])
def test_windows(rng, stride, pad):
    x = numbers(rng, 2, 3, 7, 6, dtype="f4")
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    rows, columns = (7 + 2 * pad - 3) // stride + 1, (6 + 2 * pad - 2) // stride + 1
    expected = [padded[n, :, i * stride:i * stride + 3, j * stride:j * stride + 2].ravel()
                for n in range(2) for i in range(rows) for j in range(columns)]
    col = util.im2col(x, 3, 2, stride, pad)
    assert col.dtype == np.float64
    np.testing.assert_array_equal(col, expected)
    y = numbers(rng, *col.shape)        # <im2col(x), y> = <x, col2im(y)>
    np.testing.assert_allclose((col * y).sum(), (x * util.col2im(y, x.shape, 3, 2, stride, pad)).sum())


# Optimizers --------------------------------------------------------------------------------------------

def after_step(name, p, g, state, t):
    """One step by the formulas of the book, with the default rates; p and state anew."""
    v, h = state
    if name == "SGD":
        return p - 0.01 * g, state
    if name == "Momentum":
        v = 0.9 * v - 0.01 * g
        return p + v, (v, h)
    if name == "Nesterov":
        new = 0.9 * v - 0.01 * g
        return p + 0.9 * 0.9 * v - 1.9 * 0.01 * g, (new, h)
    if name == "AdaGrad":
        h = h + g**2
        return p - 0.01 * g / (np.sqrt(h) + 1e-7), (v, h)
    if name == "RMSprop":
        h = 0.99 * h + (1 - 0.99) * g**2
        return p - 0.01 * g / (np.sqrt(h) + 1e-7), (v, h)
    v, h = 0.9 * v + (1 - 0.9) * g, 0.999 * h + (1 - 0.999) * g**2
    rate = 0.001 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    return p - rate * v / (np.sqrt(h) + 1e-7), (v, h)


STATES = {"SGD": (), "Momentum": ("v",), "Nesterov": ("v",), "AdaGrad": ("h",), "RMSprop": ("h",),
          "Adam": ("m", "v")}


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize("dtypes", [("float64", "float64"), ("float32", "float32"), ("float32", "float64"),
                                    ("float64", "float32")])
def test_optimizers(rng, name, dtypes):
    params = {"W": numbers(rng, 5, 4, dtype=dtypes[0]), "b": numbers(rng, 4, dtype=dtypes[0])}
    arrays = dict(params)
    expected = {key: p.astype("f8") for key, p in params.items()}
    states = dict.fromkeys(params, (0.0, 0.0))
    rule = getattr(optimizer, name)()
    for t in range(1, 6):
        grads = {key: numbers(rng, *p.shape, dtype=dtypes[1]) for key, p in params.items()}
        grads["W"][0] = 0
        kept = {key: g.copy() for key, g in grads.items()}
        rule.update(params, grads)
        for key in params:
            p = expected[key]
            expected[key], states[key] = after_step(name, p, kept[key].astype("f8"), states[key], t)
            np.testing.assert_array_equal(grads[key], kept[key])
    tolerance = 1e-13 if dtypes == ("float64", "float64") else 3e-6
    for key in params:
        assert params[key] is arrays[key]       # in place
        np.testing.assert_allclose(params[key], expected[key], rtol=0, atol=tolerance)
        attributes = STATES[name]
        values = states[key] if len(attributes) == 2 else (states[key][0] if attributes == ("v",)
                                                           else states[key][1],)
        for attribute, value in zip(attributes, values):
            np.testing.assert_allclose(getattr(rule, attribute)[key], value, rtol=0, atol=10 * tolerance)


@pytest.mark.parametrize("name", STATES)
def test_optimizers_of_numbers(name):
    """The book's comparison of optimizers moves two floats."""
    params, rule, p, state = {"x": -7.0}, getattr(optimizer, name)(), -7.0, (0.0, 0.0)
    for t in range(1, 6):
        rule.update(params, {"x": params["x"] / 10})
        p, state = after_step(name, p, p / 10, state, t)
    assert params["x"] == pytest.approx(p, rel=1e-12)


@pytest.mark.parametrize("name", STATES)
def test_optimizers_beyond_the_kernels(rng, name):
    """Rates below 0, gradients that are broadcast or lie in the parameter itself: as NumPy has it."""
    w, g = numbers(rng, 3, 4), numbers(rng, 4)
    params, rule = {"W": w.copy()}, getattr(optimizer, name)()
    rule.update(params, {"W": g})
    expected, _ = after_step(name, w, np.broadcast_to(g, w.shape), (np.zeros((3, 4)), np.zeros((3, 4))), 1)
    np.testing.assert_allclose(params["W"], expected, rtol=0, atol=1e-13)
    params, rule = {"W": w.copy()}, getattr(optimizer, name)()
    rule.update(params, params)
    expected, _ = after_step(name, w, w, (np.zeros((3, 4)), np.zeros((3, 4))), 1)
    if name != "Nesterov":      # whose two steps see two gradients
        np.testing.assert_allclose(params["W"], expected, rtol=0, atol=1e-13)
    rule = optimizer.SGD(lr=-0.5)
    params = {"W": w.copy()}
    rule.update(params, {"W": w})
    np.testing.assert_allclose(params["W"], 1.5 * w)


# Networks ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("cls, options", [
    (MultiLayerNet, {}), (MultiLayerNet, {"weight_decay_lambda": 0.1, "activation": "sigmoid"}),
    (MultiLayerNetExtend, {"use_batchnorm": True, "weight_decay_lambda": 0.1}), (MultiLayerNetExtend, {})])
@pytest.mark.parametrize("one_hot", [False, True])
def test_gradient_against_differences(rng, cls, options, one_hot):
    np.random.seed(0)
    net = cls(5, [6, 4], 3, **options)
    x, t = numbers(rng, 8, 5), rng.integers(0, 3, 8)
    t = np.eye(3)[t] if one_hot else t
    exact, numerical = net.gradient(x, t), net.numerical_gradient(x, t)
    assert exact.keys() == numerical.keys() == net.params.keys()
    for key in exact:
        np.testing.assert_allclose(exact[key], numerical[key], rtol=0, atol=1e-6, err_msg=key)
        assert not any(np.shares_memory(exact[key], p) for p in net.params.values())
    assert not np.shares_memory(exact["W1"], net.layers["Affine1"].dW)


def test_layers_share_the_parameters():
    net = MultiLayerNetExtend(4, [3], 2, use_batchnorm=True, use_dropout=True)
    assert list(net.layers) == ["Affine1", "BatchNorm1", "Activation_function1", "Dropout1", "Affine2"]
    assert net.layers["Affine1"].W is net.params["W1"] and net.layers["Affine2"].b is net.params["b2"]
    assert net.layers["BatchNorm1"].gamma is net.params["gamma1"]


@pytest.mark.parametrize("std, scale", [("he", np.sqrt(2 / 4)), ("ReLU", np.sqrt(2 / 4)), (0.01, 0.01),
                                        ("xavier", 0.5), ("sigmoid", 0.5)])
def test_initial_weights(std, scale):
    np.random.seed(1)
    net = MultiLayerNet(4, [3], 2, weight_init_std=std)
    np.random.seed(1)
    np.testing.assert_allclose(net.params["W1"], scale * np.random.randn(4, 3))
    assert net.params["b2"].tolist() == [0, 0]


def test_loss_and_accuracy(rng):
    net = MultiLayerNet(4, [3], 2, weight_decay_lambda=0.5)
    x, t = numbers(rng, 6, 4), rng.integers(0, 2, 6)
    z = np.maximum(x @ net.params["W1"], 0) @ net.params["W2"]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    penalty = 0.25 * sum((net.params[w]**2).sum() for w in ("W1", "W2"))
    assert net.loss(x, t) == pytest.approx(-np.log(p[np.arange(6), t] + 1e-7).mean() + penalty, rel=1e-12)
    for labels in (t, np.eye(2)[t]):
        assert net.accuracy(x, labels) == np.mean(z.argmax(axis=1) == t)


def test_trainer(rng, capsys):
    centres = rng.normal(0, 3, (3, 4))
    t = rng.integers(0, 3, 300)
    x = centres[t] + rng.normal(0, 0.3, (300, 4))
    np.random.seed(0)
    net = MultiLayerNet(4, [10], 3)
    trainer = Trainer(net, x[:200], t[:200], x[200:], t[200:], epochs=5, mini_batch_size=20, optimizer="Adam",
                      optimizer_param={"lr": 0.05}, evaluate_sample_num_per_epoch=50)
    trainer.train()
    assert len(trainer.train_loss_list) == 50 and len(trainer.train_acc_list) == trainer.current_epoch == 5
    assert trainer.train_loss_list[-1] < trainer.train_loss_list[0] and trainer.test_acc_list[-1] > 0.9
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"train loss:{trainer.train_loss_list[0]}"
    assert lines[1].startswith("=== epoch:1, train acc:") and lines[-1].startswith("test acc:")
    quiet = Trainer(net, x, t, x, t, epochs=1, mini_batch_size=100, verbose=False)
    quiet.train()
    assert capsys.readouterr().out == ""


# Programs ----------------------------------------------------------------------------------------------

PROGRAM = """
import sys, os
sys.path.append(os.pardir)
from common.layers import *
from common.multi_layer_net import MultiLayerNet
from common.optimizer import SGD
from common import functions
from dataset.mnist import load_mnist
import beside
x, t = load_mnist()
net = MultiLayerNet(4, [5], 3)
before = net.loss(x, t)
for _ in range(50):
    SGD(lr=0.5).update(net.params, net.gradient(x, t))
print(sys.argv[1:], __name__, Affine.__module__, np.__name__, beside.__name__, net.loss(x, t) < before)
"""


def run(*arguments, cwd=None):
    return subprocess.run([sys.executable, "-m", "fastmlp.compat.dlfs", *map(str, arguments)], cwd=cwd,
                          capture_output=True, text=True, timeout=120)


def test_program_runs_unmodified(tmp_path):
    """With the user's own modules, and though a `common` lies where the program looks for it."""
    (tmp_path / "chapter").mkdir()
    for package in ("common", "dataset"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    (tmp_path / "common" / "layers.py").write_text("raise RuntimeError('the original')")
    (tmp_path / "dataset" / "mnist.py").write_text(
        "import numpy as np\ndef load_mnist():\n    return np.eye(4)[:3], np.arange(3)\n")
    (tmp_path / "chapter" / "beside.py").write_text("")
    (tmp_path / "chapter" / "train.py").write_text(PROGRAM)
    done = run("train.py", "--epochs", 3, cwd=tmp_path / "chapter")
    expected = "['--epochs', '3'] __main__ fastmlp.compat.dlfs.layers numpy beside True\n"
    assert done.stdout == expected, done.stderr


def test_program_that_is_not_there():
    done = run("nowhere.py")
    assert done.returncode == 1
    assert "script: expected the path of a Python program, got 'nowhere.py'" in done.stderr
    assert run().returncode == 1 and run("--help").returncode == 0


def test_patch(monkeypatch):
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    dlfs.patch("book")
    from book.layers import Relu
    from book.util import smooth_curve
    assert Relu is layers.Relu and smooth_curve is util.smooth_curve
    with pytest.raises(ValueError, match="name: expected the name of a package, got 'a.b'"):
        dlfs.patch("a.b")
    with pytest.raises(TypeError, match="name: expected a string, got 3"):
        dlfs.patch(3)


def test_patch_leaves_the_readers_modules(monkeypatch, tmp_path):
    """Those that are not here: in a folder on the path, be it extended later."""
    folder = tmp_path / "book"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "layers.py").write_text("Relu = 'the reader own'")
    (folder / "mine.py").write_text("from book.layers import Relu\nVALUE = Relu.__module__")
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setattr(sys, "path", [*sys.path])
    dlfs.patch("book")
    with pytest.raises(ModuleNotFoundError, match="book.mine"):
        import book.mine
    sys.path.append(str(tmp_path))
    import book.layers
    from book.mine import VALUE
    assert VALUE == "fastmlp.compat.dlfs.layers" == book.layers.__name__


@pytest.mark.parametrize("shape", [(3,), (40, 40)])
@pytest.mark.parametrize("name, same", [("Momentum", False), ("Nesterov", True)])
def test_velocities_are_rebound_as_in_the_book(name, same, shape, rng):
    """Whatever their size: a velocity that somebody holds."""
    rule, params = getattr(optimizer, name)(), {"W": numbers(rng, *shape)}
    rule.update(params, {"W": numbers(rng, *shape)})
    held = rule.v["W"]
    before = held.copy()
    rule.update(params, {"W": numbers(rng, *shape)})
    assert (rule.v["W"] is held) == same
    assert (held == before).all() != same


@pytest.mark.skipif(not Path(ORIGINAL, "common", "layers.py").is_file(), reason="FASTMLP_DLFS names no clone")
class TestOriginal:
    """Beside the book's own code."""

    @pytest.fixture
    def common(self, monkeypatch):
        from importlib import import_module
        monkeypatch.setattr(sys, "modules", {name: module for name, module in sys.modules.items()
                                             if name.partition(".")[0] != "common"})
        monkeypatch.syspath_prepend(ORIGINAL)
        return lambda name: import_module(f"common.{name}")

    @pytest.mark.parametrize("module", dlfs.MODULES)
    def test_names(self, common, module):
        from importlib import import_module
        theirs = {name for name in vars(common(module)) if name[0] != "_"}
        ours = import_module(f"fastmlp.compat.dlfs.{module}")
        assert theirs <= set(ours.__all__)

    @pytest.mark.parametrize("name", STATES)
    @pytest.mark.parametrize("options", [{}, {"weight_decay_lambda": 0.1, "activation": "sigmoid"},
                                         {"use_dropout": True, "use_batchnorm": True}])
    def test_training(self, common, rng, name, options):
        extend = "use_dropout" in options
        module, cls = (("multi_layer_net_extend", "MultiLayerNetExtend") if extend
                       else ("multi_layer_net", "MultiLayerNet"))
        x, t = numbers(rng, 20, 12, dtype="f4"), rng.integers(0, 3, 20)
        nets = []
        for network, rules in ((getattr(common(module), cls), common("optimizer")),
                               (MultiLayerNetExtend if extend else MultiLayerNet, optimizer)):
            np.random.seed(2)
            net, rule = network(12, [9, 8], 3, **options), getattr(rules, name)()
            losses = []
            for _ in range(10):
                rule.update(net.params, net.gradient(x, t))
                losses.append(net.loss(x, t))
            nets.append((net, losses))
        (theirs, a), (ours, b) = nets
        np.testing.assert_allclose(a, b, rtol=1e-9)
        for key in theirs.params:
            np.testing.assert_allclose(ours.params[key], theirs.params[key], rtol=0, atol=1e-8)
