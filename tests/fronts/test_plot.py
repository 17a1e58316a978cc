"""fastmlp.plot: what is drawn, read back from the Axes and compared with what it stands for."""
from __future__ import annotations

import copy
import math
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from fastmlp import MLP, SGD, Adam, Diagnostics, plot
from fastmlp import functional as F

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.colors import LogNorm, to_rgb  # noqa: E402

BLUE, VERMILION = "#0072b2", "#d55e00"


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def moons(rng, n=120):
    t = rng.uniform(0, np.pi, n)
    y = rng.integers(0, 2, n)
    X = np.stack([np.where(y, 1 - np.cos(t), np.cos(t)), np.where(y, 0.5 - np.sin(t), np.sin(t))], axis=1)
    return X + 0.1 * rng.standard_normal(X.shape), y


def state(model):
    return [array.copy() for array in (*model.weights, *model.biases)], model.core.rng.bit_generator.state


def unchanged(model, before):
    arrays, generator = state(model)
    return all(np.array_equal(a, b) for a, b in zip(arrays, before[0])) and generator == before[1]


def drawn_at_all(ax):
    """Drawing finds what creating does not."""
    ax.figure.canvas.draw()
    return ax


# History ---------------------------------------------------------------------------------------------------

def test_history_of_losses(rng):
    X, y = moons(rng)
    history = MLP([2, 8, 2], seed=0).fit(X, y, epochs=6, batch_size=20, validation_data=(X[::2], y[::2]),
                                         progress=False)
    ax = drawn_at_all(plot.history(history))
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert list(lines["loss, training"].get_ydata()) == history.loss
    assert list(lines["loss, validation"].get_ydata()) == history.val_loss
    assert list(lines["loss, training"].get_xdata()) == [1, 2, 3, 4, 5, 6]
    assert to_rgb(lines["loss, training"].get_color()) == to_rgb(BLUE)
    assert lines["loss, validation"].get_linestyle() == "--"
    best = int(np.argmin(history.val_loss))
    (circle,) = (line for label, line in lines.items() if label.startswith("least"))
    assert [*circle.get_xdata(), *circle.get_ydata()] == [best + 1, history.val_loss[best]]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("epoch", "loss", "linear")
    assert all(float(x).is_integer() for x in ax.get_xticks())


def test_history_of_a_long_fall_is_logarithmic():
    assert plot.history({"loss": [3.0, 1.0, 0.01]}).get_yscale() == "log"
    assert plot.history({"loss": [3.0, 1.0, 0.0]}).get_yscale() == "linear"
    assert plot.history({"loss": [3.0, math.nan, 1.0]}).get_yscale() == "linear"
    assert plot.history({"accuracy": [0.01, 0.99]}, "accuracy").get_yscale() == "linear"


def test_history_of_other_names():
    numbers = {"loss": [2.0, 1.0], "accuracy": [0.1, 0.2], "val_accuracy": [0.3, 0.4], "val_r2": [0.0, 0.1]}
    ax = drawn_at_all(plot.history(numbers, ["accuracy", "val_r2"]))
    assert {line.get_label(): list(line.get_ydata()) for line in ax.get_lines()} == {
        "accuracy, training": [0.1, 0.2], "accuracy, validation": [0.3, 0.4], "r2, validation": [0.0, 0.1]}
    with pytest.raises(ValueError, match="^names: 'acuracy' was not recorded, only loss, accuracy, val_acc"):
        plot.history(numbers, "acuracy")
    with pytest.raises(ValueError, match="^names: expected a number for each epoch"):
        plot.history({"step_loss": [np.zeros(3), np.zeros(3)]}, "step_loss")


@pytest.mark.parametrize("history, error, message", [
    (None, TypeError, "^history: expected a History or another mapping, got NoneType"),
    ([1.0, 0.5], TypeError, "^history: .*got list"),
    ({}, ValueError, "^history: .* got an empty one"),
], ids=str)
def test_no_history(history, error, message):
    with pytest.raises(error, match=message):
        plot.history(history)


def test_into_given_axes():
    ax = plt.subplots()[1]
    before = len(plt.get_fignums())
    assert plot.history({"loss": [1.0]}, ax=ax) is ax
    assert plot.confusion_matrix([0, 1], [0, 1], ax=ax) is ax
    assert plot.lr_find(SimpleNamespace(rates=[1, 2], losses=[1, 2], suggestion=None), ax) is ax
    assert len(plt.get_fignums()) == before


# Diagnostics -----------------------------------------------------------------------------------------------

def test_diagnostics_of_a_history():
    history = {"loss": [1.0, 0.5], "layer1_dead": [0.0, 0.5], "layer2_dead": [0.1, 0.2],
               "layer1_update_ratio": [1e-3, 2e-3], "layer10_dead": [0.25, 0.75]}
    ax = drawn_at_all(plot.diagnostics(history, "dead"))
    assert {line.get_label(): list(line.get_ydata()) for line in ax.get_lines()} == {
        "layer 1": [0.0, 0.5], "layer 2": [0.1, 0.2], "layer 10": [0.25, 0.75]}
    assert (ax.get_xlabel(), list(ax.get_lines()[0].get_xdata())) == ("epoch", [1, 2])
    assert ax.yaxis.get_major_formatter()(0.5, 0) == "50%"
    ax = plot.diagnostics(history, "update_ratio")
    assert ax.get_yscale() == "log" and ax.get_lines()[-1].get_ydata()[0] == 1e-3
    with pytest.raises(ValueError, match="^what: no layer has 'std'; expected one of: dead, update_ratio"):
        plot.diagnostics(history, "std")


def test_diagnostics_of_reports():
    nan = math.nan
    reports = SimpleNamespace(steps=np.array([10, 20, 30]), values={
        "dead": np.array([[0.1, nan], [0.2, nan], [0.3, nan]]), "mean": np.full((3, 2), nan),
        "gradient_norm": np.array([[1.0, 5.0], [2.0, 6.0], [3.0, 7.0]])})
    ax = drawn_at_all(plot.diagnostics(reports))
    one, two = ax.get_lines()
    assert (one.get_label(), list(one.get_ydata())) == ("layer 1", [1.0, 2.0, 3.0])
    assert (two.get_label(), list(two.get_ydata())) == ("layer 2", [5.0, 6.0, 7.0])
    assert list(one.get_xdata()) == list(two.get_xdata()) == [10, 20, 30]
    assert (ax.get_xlabel(), ax.get_yscale()) == ("step", "log")
    assert [line.get_label() for line in plot.diagnostics(reports, "dead").get_lines()] == ["layer 1"]
    with pytest.raises(ValueError, match="^what: no layer has 'mean'"):
        plot.diagnostics(reports, "mean")


def test_diagnostics_of_a_training(rng):
    diagnostics = pytest.importorskip("fastmlp.diagnostics").Diagnostics(every=2, warn=False)
    history = MLP([2, 8, 8, 2], seed=0).fit(*moons(rng), epochs=3, batch_size=20, callbacks=[diagnostics],
                                            progress=False)
    for what, values in diagnostics.values.items():
        for source, count in ((diagnostics, len(diagnostics.steps)), (history, 3)):
            if np.isnan(values).all():
                continue
            lines = [line for line in drawn_at_all(plot.diagnostics(source, what)).get_lines()
                     if line.get_label().startswith("layer")]
            assert len(lines) == np.count_nonzero(~np.isnan(values).all(axis=0))
            assert all(len(line.get_ydata()) == count for line in lines)


def test_diagnostics_that_nobody_has(rng):
    diagnostics = Diagnostics(warn=False)
    for empty in (diagnostics, {}, {"loss": [1.0]}):
        with pytest.raises(ValueError, match="^source: nothing was recorded yet"):
            plot.diagnostics(empty, "dead")
    for wrong in (None, 3, "dead"):
        with pytest.raises(TypeError, match="^source: expected Diagnostics or a History, got "):
            plot.diagnostics(wrong, "dead")
    for activation, what, owners in (("relu", "saturation", "sigmoid and tanh"),
                                     ("tanh", "dead", "relu, leaky_relu and elu with alpha = 0")):
        history = MLP([2, 8, 2], activation, seed=0).fit(*moons(rng), epochs=2, callbacks=[diagnostics],
                                                         progress=False)
        for source in (diagnostics, history):
            with pytest.raises(ValueError, match=f"^what: no layer has '{what}': only {owners}"):
                plot.diagnostics(source, what)


def test_shares_begin_at_zero():
    for shares in ([0.0, 0.0], [0.0, 0.5], [0.5, 1.0]):
        low, high = plot.diagnostics({"layer1_dead": shares}, "dead").get_ylim()
        assert low == 0 and high > max(shares)


# Learning rates --------------------------------------------------------------------------------------------

def test_lr_find():
    rates = np.geomspace(1e-5, 10, 50)
    losses = 2.3 - 2 / (1 + (0.03 / rates) ** 2) + np.where(rates > 1, 1e6 * rates, 0)
    ax = drawn_at_all(plot.lr_find(SimpleNamespace(rates=rates, losses=losses, suggestion=0.03)))
    line, suggestion = ax.get_lines()
    np.testing.assert_array_equal(line.get_xydata(), np.stack([rates, losses], axis=1))
    assert suggestion.get_xdata()[0] == 0.03 and suggestion.get_label() == "suggestion: 0.03"
    assert ax.get_xscale() == "log"
    low, high = ax.get_ylim()
    assert low < losses.min() and 2.3 < high < 5            # the explosion does not flatten the rest
    with pytest.raises(ValueError, match="^result.losses: expected shape"):
        plot.lr_find(SimpleNamespace(rates=[1.0], losses=[1.0, 2.0], suggestion=None))


def test_lr_find_of_a_model(rng):
    search = getattr(pytest.importorskip("fastmlp"), "lr_find", None)
    if search is None:
        pytest.skip("no lr_find yet")
    result = search(MLP([2, 8, 2], seed=0), *moons(rng))
    ax = drawn_at_all(plot.lr_find(result))
    np.testing.assert_array_equal(ax.get_lines()[0].get_xdata(), result.rates)


# Layers ----------------------------------------------------------------------------------------------------

def heights(ax):
    """Of the histogram of each layer, in shares of the tallest bin, and the edges of its bins."""
    result = []
    for i, patch in enumerate(ax.patches):
        top, edges, baseline = patch.get_data()
        assert baseline == i
        tall = baseline - np.asarray(top)
        result.append((tall / max(tall.max(), 1e-30), np.asarray(edges)))
    return result


@pytest.mark.parametrize("activation", ["tanh", "relu", "sigmoid"])
def test_activations(activation, rng):
    pytest.importorskip("fastmlp.diagnostics")
    X = rng.standard_normal((200, 4))
    model = MLP([4, 16, 8, 3], activation=activation, seed=0)
    before = state(model)
    ax = drawn_at_all(plot.activations(model, X))
    y, expected = X.astype(np.float32), []
    for i, (w, b) in enumerate(zip(model.weights, model.biases)):
        w, b = np.ascontiguousarray(w), np.ascontiguousarray(b)
        y = F.dense_forward(y, w, b, activation if i < 2 else "identity")
        expected.append(y.ravel())
    found = heights(ax)
    assert len(found) == 3
    for (tall, edges), outputs in zip(found, expected):
        counts = np.histogram(outputs[outputs != 0].astype(float), edges)[0]
        np.testing.assert_allclose(tall, counts / counts.max(), atol=0.03)
    notes = [text.get_text() for text in ax.texts]
    if activation == "relu":
        assert notes[:2] == [f"{np.mean(outputs == 0):.0%} zeros" for outputs in expected[:2]]
    assert notes[2] == ""
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        f"layer 1\n{activation}", f"layer 2\n{activation}", "layer 3\noutput"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]              # the first one on top
    assert unchanged(model, before)


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("activation, least, most", [
    ("tanh", -1, 1), ("sigmoid", 0, 1), ("relu", 0, math.inf), ("elu", -math.inf, math.inf)])
def test_bins_of_activations_end_where_the_function_does(activation, least, most, scale, rng):
    model = MLP([4, 16, 8, 3], activation=activation, seed=0)
    model.weights = [scale * w for w in model.weights]
    X = rng.standard_normal((200, 4))
    found = heights(plot.activations(model, X))
    for layer, ((tall, edges), outputs) in enumerate(zip(found, model.hidden(X))):
        assert not ((edges[:-1] < 0) & (edges[1:] > 0)).any()       # no bin has both signs
        if layer < 2:
            bins = np.flatnonzero(tall)
            assert edges[bins].min() >= least and edges[bins + 1].max() <= most
            if math.isfinite(most):
                assert edges.min() >= least and edges.max() <= most
            counts = np.histogram(outputs[outputs != 0].astype(float), edges)[0]
            np.testing.assert_allclose(tall, counts / counts.max(), atol=1e-6)
            assert counts.sum() >= 0.98 * np.count_nonzero(outputs)


def test_activations_of_dead_layers(rng):
    pytest.importorskip("fastmlp.diagnostics")
    model = MLP([4, 16, 3], seed=0)
    model.biases[0] = np.full(16, -100, np.float32)
    ax = drawn_at_all(plot.activations(model, rng.standard_normal((10, 4))))
    assert [text.get_text() for text in ax.texts] == ["100% zeros", "100% zeros"]       # it has no bias


def test_gradients(rng):
    X, y = moons(rng)
    model = MLP([2, 16, 16, 2], activation="sigmoid", seed=0)
    before = state(model)
    ax = drawn_at_all(plot.gradients(model, X, y))
    gradients = model.loss_and_gradients(X, y)[1].weights
    for (tall, edges), gradient in zip(heights(ax), gradients):
        counts = np.histogram(np.log10(np.abs(gradient.astype(float))).ravel(), edges)[0]
        np.testing.assert_allclose(tall, counts / counts.max(), atol=1e-12)
    medians = [line.get_xdata()[0] for line in ax.get_lines() if line.get_color() == "white"]
    np.testing.assert_allclose(medians, [np.median(np.log10(np.abs(g.astype(float)))) for g in gradients])
    assert ax.xaxis.get_major_formatter()(-3.0, 0) == "$10^{-3}$"
    assert unchanged(model, before)


def test_gradients_of_zero(rng):
    """A unit that is dead has none."""
    model = MLP([2, 4, 2], seed=0)
    model.biases[0] = np.full(4, -100, np.float32)
    ax = drawn_at_all(plot.gradients(model, *moons(rng)))
    assert [text.get_text() for text in ax.texts] == ["100% zeros", "100% zeros"]


def test_weights(rng):
    model = MLP([12, 5, 2], seed=0)
    ax = drawn_at_all(plot.weights(model, (3, 4)))
    mosaic = np.asarray(ax.images[0].get_array().filled(np.nan))
    columns = (mosaic.shape[1] + 1) // 5
    for unit in range(5):
        top, left = unit // columns * 4, unit % columns * 5
        image = mosaic[top:top + 3, left:left + 4]
        np.testing.assert_array_equal(image, model.weights[0][:, unit].reshape(3, 4))
    assert np.count_nonzero(np.isfinite(mosaic)) == 60      # and nothing in between
    low, high = ax.images[0].get_clim()
    assert low == -high                                     # white is 0
    assert ax.get_title(loc="left") == "Weights of layer 1: 5 units, 3 x 4 inputs"


def test_weights_of_some_units_of_another_layer():
    model = MLP([3, 6, 4], seed=0)
    ax = drawn_at_all(plot.weights(model, [2, 3], layer=2, units=[3]))
    np.testing.assert_array_equal(ax.images[0].get_array(), model.weights[1][:, 3].reshape(2, 3))


def test_weights_in_colours():
    model = MLP([2 * 2 * 3, 1], loss="mean_squared_error", seed=0)
    image = drawn_at_all(plot.weights(model, (2, 2, 3))).images[0].get_array()
    w = model.weights[0][:, 0].reshape(2, 2, 3).astype(float)
    np.testing.assert_allclose(image, (w - w.min()) / (w.max() - w.min()))


@pytest.mark.parametrize("arguments, error, message", [
    (((3, 3),), ValueError, r"^shape: expected the shape of 12 inputs, got \(3, 3\)"),
    (((12,),), ValueError, r"^shape: expected \(height, width\)"),
    (((2, 3, 2),), ValueError, r"^shape: expected \(height, width\) or"),
    (((3.0, 4),), TypeError, "^shape: expected an integer"),
])
def test_bad_shapes(arguments, error, message):
    with pytest.raises(error, match=message):
        plot.weights(MLP([12, 5, 2], seed=0), *arguments)


@pytest.mark.parametrize("options, error, message", [
    ({"layer": 0}, ValueError, "^layer: expected an integer from 1 to 2, got 0"),
    ({"layer": 3}, ValueError, "^layer"),
    ({"units": [5]}, ValueError, "^units: expected an integer from 0 to 4, got 5"),
    ({"units": []}, ValueError, "^units: expected at least one"),
])
def test_bad_layers_and_units(options, error, message):
    with pytest.raises(error, match=message):
        plot.weights(MLP([12, 5, 2], seed=0), (3, 4), **options)


# Decisions -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("loss, outputs", [("cross_entropy", 2), ("binary_cross_entropy", 1), ("hinge", 1)])
def test_decision_boundary(loss, outputs, rng):
    X, y = moons(rng)
    y = 2 * y - 1 if loss == "hinge" else y
    model = MLP([2, 16, outputs], loss=loss, seed=0)
    model.fit(X, y, epochs=40, batch_size=20, optimizer=Adam(0.02), progress=False)
    before = state(model)
    ax = drawn_at_all(plot.decision_boundary(model, X, y, resolution=60))
    (image,) = ax.images
    pixels = np.asarray(image.get_array())
    left, right, bottom, top = image.get_extent()
    assert left < X[:, 0].min() and right > X[:, 0].max() and bottom < X[:, 1].min() and top > X[:, 1].max()
    x1, x2 = np.linspace(left, right, 60), np.linspace(bottom, top, 60)
    classes = np.unique(y)
    for i, j in rng.integers(0, 60, (200, 2)):              # tints of the color of what is predicted there
        label = model.predict([[x1[j], x2[i]]])[0]
        color = np.array(to_rgb([BLUE, VERMILION][int(np.searchsorted(classes, label))]))
        tint = (1 - pixels[i, j]) / np.maximum(1 - color, 1e-9)
        assert np.ptp(tint[color < 1]) < 1e-6 and 0.1 < tint[0] < 0.51
    points = {collection.get_label(): collection.get_offsets() for collection in ax.collections
              if collection.get_label().startswith("class")}
    assert list(points) == [f"class {label}" for label in classes]
    np.testing.assert_allclose(points[f"class {classes[1]}"], X[y == classes[1]])
    assert unchanged(model, before)


def test_sure_areas_are_darker():
    model = MLP([2, 2], seed=0)
    model.weights[0] = np.array([[-3, 3], [0, 0]], np.float32)      # p depends on the first input alone
    ax = plot.decision_boundary(model, np.array([[-1, 0], [1, 1]]), resolution=101)
    pixels = np.asarray(ax.images[0].get_array())
    darkness = (1 - pixels).sum(axis=2)
    assert darkness[:, 0].min() > 2 * darkness[:, 50].min()


def test_decision_boundary_of_three_classes(rng):
    X = rng.standard_normal((50, 2))
    ax = drawn_at_all(plot.decision_boundary(MLP([2, 8, 3], seed=0), X, resolution=20))
    assert len([c for c in ax.collections if c.get_label().startswith("class")]) == 0
    np.testing.assert_allclose(ax.collections[-1].get_offsets(), X)


def test_decision_boundary_of_values(rng):
    X = rng.uniform(-1, 1, (80, 2))
    model = MLP([2, 8, 1], loss="mean_squared_error", seed=0)
    ax = drawn_at_all(plot.decision_boundary(model, X, X.sum(axis=1), resolution=30))
    (image,) = ax.images
    left, right, bottom, top = image.get_extent()
    grid = np.stack(np.meshgrid(np.linspace(left, right, 30), np.linspace(bottom, top, 30)), axis=-1)
    expected = model.predict(grid.reshape(-1, 2)).reshape(30, 30)
    np.testing.assert_allclose(image.get_array(), expected, rtol=1e-5)


@pytest.mark.parametrize("X, error, message", [
    ([[0.0, 1.0], [1.0, np.nan]], ValueError, r"^X: expected finite numbers, got \[ 1\. nan\] in row 1"),
    ([[-np.inf, 1.0]], ValueError, "^X: expected finite numbers, .* in row 0"),
    ([["a", "b"]], TypeError, "^X: expected numbers, got dtype"),
], ids=str)
def test_points_that_are_nowhere(X, error, message):
    with pytest.raises(error, match=message):
        plot.decision_boundary(MLP([2, 2], seed=0), X)


@pytest.mark.parametrize("model, X, y, message", [
    (MLP([3, 2], seed=0), np.zeros((4, 3)), None, "^model: expected one with 2 inputs, got 3"),
    (MLP([2, 2], loss="mean_squared_error", seed=0), np.zeros((4, 2)), None, "^model: expected one output"),
    (MLP([2, 2], seed=0), np.zeros((4, 3)), None, "^X: expected shape"),
    (MLP([2, 2], seed=0), np.zeros((0, 2)), None, "^X: expected at least one sample"),
    (MLP([2, 2], seed=0), np.zeros((4, 2)), np.zeros((4, 2)), "^y: expected shape"),
], ids=str)
def test_bad_planes(model, X, y, message):
    with pytest.raises(ValueError, match=message):
        plot.decision_boundary(model, X, y)


def test_confusion_matrix(rng):
    truth, guess = rng.integers(0, 4, 200), rng.integers(0, 4, 200)
    expected = np.array([[np.sum((truth == i) & (guess == j)) for j in range(4)] for i in range(4)])
    ax = drawn_at_all(plot.confusion_matrix(truth, guess))
    np.testing.assert_allclose(ax.images[0].get_array(), expected / expected.sum(axis=1, keepdims=True))
    assert {text.get_position(): int(text.get_text()) for text in ax.texts} == {
        (j, i): expected[i, j] for i in range(4) for j in range(4)}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted class", "true class")
    assert ax.get_title(loc="left") == f"Confusion matrix, accuracy {np.mean(truth == guess):.1%}"


def test_confusion_matrix_of_shares_and_names():
    ax = drawn_at_all(plot.confusion_matrix([0, 0, 0, 1], [0, 0, 1, 1], normalize=True,
                                            labels=["ant", "bee", "cat"]))
    assert {text.get_position(): text.get_text() for text in ax.texts} == {
        (0, 0): "67%", (1, 0): "33%", (1, 1): "100%"}
    assert [label.get_text() for label in ax.get_xticklabels()] == ["ant", "bee", "cat"]
    ax = drawn_at_all(plot.confusion_matrix(["b", "a", "c"], ["b", "b", "c"]))
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a", "b", "c"]
    assert "66.7%" in ax.get_title(loc="left")
    ax = plot.confusion_matrix(np.array(["b", "a"], object), ["b", "b"], labels=["z", "b", "a"])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["z", "b", "a"]
    assert {text.get_position(): text.get_text() for text in ax.texts} == {(1, 1): "1", (1, 2): "1"}
    with pytest.raises(ValueError, match="labels: expected a name for each class, got none for 'b'"):
        plot.confusion_matrix(["b"], ["a"], labels=["a"])
    with pytest.raises(TypeError, match="y_pred: expected words, as y_true has them, got int64"):
        plot.confusion_matrix(["b"], [1])
    ax = plot.confusion_matrix([-1, 1, 1], [1, 1, 1])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["-1", "1"]


@pytest.mark.parametrize("truth, guess, labels, error, message", [
    ([0, 1], [0], None, ValueError, "^y_pred: expected shape"),
    ([[0]], [[0]], None, ValueError, "^y_true: expected shape"),
    ([], [], None, (TypeError, ValueError), "^y_true: expected"),
    ([0.5], [0], None, TypeError, "^y_true: expected class labels"),
    ([0, 2], [0, 0], ["a", "b"], ValueError, "^labels: expected a name for each class, got 2 for class 2"),
    ([0, -1], [0, 0], ["a", "b"], ValueError, "^labels: .* for class -1"),
])
def test_bad_labels(truth, guess, labels, error, message):
    with pytest.raises(error, match=message):
        plot.confusion_matrix(truth, guess, labels=labels)


# Landscape -------------------------------------------------------------------------------------------------

def mesh(ax):
    """The losses, and the numbers of their places."""
    (drawn,) = (c for c in ax.collections if type(c).__name__ == "QuadMesh")
    places = np.asarray(drawn.get_coordinates())
    return np.asarray(drawn.get_array()).reshape(places.shape[:2]), places[0, :, 0], places[:, 0, 1], drawn


def test_landscape(rng):
    X, y = moons(rng)
    model = MLP([2, 6, 2], activation="tanh", dtype="float64", seed=0)
    model.fit(X, y, epochs=20, batch_size=20, optimizer=Adam(0.02), progress=False)
    before = state(model)
    ax = drawn_at_all(plot.loss_landscape(model, X, y, points=9, seed=5))
    losses, a, b, _ = mesh(ax)
    assert unchanged(model, before)
    np.testing.assert_allclose(a, np.linspace(-1, 1, 9))
    np.testing.assert_allclose(b, np.linspace(-1, 1, 9))
    # The directions are what the documentation says: normal numbers, unit by unit as long as the weights.
    numbers, directions = np.random.default_rng(5), []
    for _ in range(2):
        directions.append([d * np.linalg.norm(w, axis=0) / np.linalg.norm(d, axis=0)
                           for w in model.weights for d in [numbers.standard_normal(w.shape)]])
    probe = copy.deepcopy(model)
    for i, j in [(4, 4), (0, 0), (8, 3), (2, 7)]:
        for w, own, d1, d2 in zip(probe.weights, model.weights, *directions):
            w[...] = own + a[j] * d1 + b[i] * d2
        assert losses[i, j] == pytest.approx(probe.evaluate(X, y)["loss"], rel=1e-9)
    (star,) = ax.get_lines()
    assert ax.get_xlabel() == "direction 1"
    assert [*star.get_xdata(), *star.get_ydata()] == [0, 0]


def test_landscape_is_that_of_its_seed(rng):
    X, y = moons(rng)
    model = MLP([2, 6, 2], seed=0)
    one, two, three = (mesh(plot.loss_landscape(model, X, y, points=5, seed=seed))[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - three).max() > 1e-3


def test_landscape_does_not_depend_on_the_scale_of_relu_networks(rng):
    """What filters are normalised for: the same function gives the same picture."""
    X, y = moons(rng)
    model = MLP([2, 6, 2], dtype="float64", seed=0)
    scaled = copy.deepcopy(model)
    scaled.weights[0] = model.weights[0] * 10
    scaled.weights[1] = model.weights[1] / 10
    one, two = (mesh(plot.loss_landscape(m, X, y, points=5))[0] for m in (model, scaled))
    np.testing.assert_allclose(one, two, rtol=1e-9)


def test_landscape_marks_restarts(rng):
    """Of three, the plane goes through all: at their marks the loss is theirs."""
    X, y = moons(rng)
    model = MLP([2, 5, 2], activation="tanh", dtype="float64", seed=0)
    history = model.fit(X, y, epochs=15, batch_size=20, optimizer=SGD(0.2), restarts=3, progress=False)
    before = state(model)
    ax = drawn_at_all(plot.loss_landscape(model, X, y, restarts=history, points=7))
    assert unchanged(model, before)
    losses, a, b, _ = mesh(ax)
    marks = {text.get_text(): text.xy for text in ax.texts if text.get_text().isdigit()}
    best = int(np.argmin([restart.loss for restart in history.restarts]))
    assert sorted(marks) == sorted({"1", "2", "3"} - {str(best + 1)})
    assert "100% of the squared distances" in ax.get_xlabel()
    # Orthogonal directions of one length: distances are those between the parameters.
    flat = [np.concatenate([array.ravel() for array in (*r.weights, *r.biases)]) for r in history.restarts]
    lengths = {name: np.linalg.norm(flat[int(name) - 1] - flat[best]) for name in marks}
    reach = max(lengths.values())
    for name, place in marks.items():
        assert np.hypot(*place) * reach == pytest.approx(lengths[name], rel=1e-9)
        assert a[0] < place[0] < a[-1] and b[0] < place[1] < b[-1]
    center = int(np.argmin(np.abs(b))), int(np.argmin(np.abs(a)))
    assert np.isfinite(losses[center])


@pytest.mark.parametrize("others", [1, 5])
def test_landscape_with_few_and_many_others(others, rng):
    X, y = moons(rng)
    model = MLP([2, 4, 2], seed=0)
    ax = drawn_at_all(plot.loss_landscape(model, X, y, points=5, restarts=[
        model, *(MLP([2, 4, 2], seed=1 + i) for i in range(others))]))
    marks = {text.get_text(): text.xy for text in ax.texts if text.get_text().isdigit()}
    assert sorted(marks) == [str(i + 2) for i in range(others)]
    if others == 1:
        assert np.hypot(*marks["2"]) == pytest.approx(1.0)


def test_landscape_of_losses_far_apart_is_logarithmic(rng):
    X = rng.standard_normal((50, 3))
    model = MLP([3, 1], loss="mean_squared_error", seed=0, dtype="float64")
    y = X @ model.weights[0] + 1e-3 * rng.standard_normal((50, 1))
    assert isinstance(mesh(plot.loss_landscape(model, X, y, points=5))[3].norm, LogNorm)


def test_landscape_beyond_the_numbers(rng):
    """Where the loss overflows, nothing is drawn, and nothing warns."""
    X, y = rng.standard_normal((20, 3)).astype("f4"), np.zeros((20, 1))
    model = MLP([3, 1], loss="mean_squared_error", seed=0)
    model.weights[0] = np.full((3, 1), 1e16, np.float32)
    losses, *_ = mesh(drawn_at_all(plot.loss_landscape(model, X, y, points=5, span=1e4)))
    assert np.isfinite(losses).any() or np.ma.is_masked(losses)
    model.weights[0] = np.full((3, 1), np.inf, np.float32)
    with pytest.raises(ValueError, match="^model: expected parameters that are finite"):
        plot.loss_landscape(model, X, y, points=3)


@pytest.mark.parametrize("options, error, message", [
    ({"span": 0}, ValueError, "^span: expected a number above 0"),
    ({"span": -1}, ValueError, "^span"),
    ({"points": 1}, ValueError, "^points: expected an integer from 2 up"),
    ({"seed": -1}, ValueError, "^seed"),
    ({"restarts": [MLP([2, 7, 2], seed=0)]}, ValueError, r"^restarts\[0\]: expected the layers of the model"),
    ({"restarts": [1, 2]}, TypeError, r"^restarts\[0\]: expected a Restart or an MLP, got int"),
    ({"restarts": 3}, TypeError, "^restarts: expected a list of Restart or MLP, got int"),
    ({"restarts": None}, TypeError, "^restarts: .* got NoneType"),
])
def test_bad_landscapes(options, error, message, rng):
    with pytest.raises(error, match=message):
        plot.loss_landscape(MLP([2, 6, 2], seed=0), *moons(rng), **options)


# The package -----------------------------------------------------------------------------------------------

def test_matplotlib_is_imported_when_it_is_used():
    program = ("import sys, fastmlp, fastmlp.plot\nassert 'matplotlib' not in sys.modules\n"
               "sys.modules['matplotlib'] = None\n"
               "try:\n    fastmlp.plot.history({'loss': [1.0]})\n"
               "except ImportError as error:\n    print(error)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    expected = 'fastmlp.plot needs the package matplotlib: pip install "fastmlp[plot]"\n'
    assert done.stdout == expected, done.stderr
