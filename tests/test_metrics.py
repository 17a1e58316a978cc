"""Metrics: values by hand, names and functions, bad input."""
from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fastmlp import MLP, EarlyStopping, metrics
from fastmlp.metrics import (
    METRICS,
    accuracy,
    compute,
    f1,
    mae,
    mse,
    needs,
    of_scores,
    precision,
    r2,
    recall,
    resolve,
    rmse,
    roc_auc,
)

INTEGERS = ["int8", "uint8", "int32", "int64", "uint64"]


# Values ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("labels", [*INTEGERS, "bool", "float32", "str", "object"])
def test_accuracy(labels):
    t = np.array([0, 1, 1, 0]).astype(labels)
    assert accuracy(t, t) == 1.0
    assert accuracy(t, t[::-1]) == 1.0
    assert accuracy(t, t[[1, 0, 0, 1]]) == 0.0
    assert accuracy(t, t[[0, 0, 1, 1]]) == 0.5
    assert accuracy(t, t[[0, 0, 1, 1]], sample_weight=[1, 0, 1, 1]) == 2 / 3
    assert type(accuracy(t, t)) is float


def test_accuracy_of_many_labels():
    """All labels of a sample, or the sample does not count."""
    t = np.array([[0, 1], [1, 1], [0, 0]])
    p = np.array([[0, 1], [1, 0], [0, 0]])
    assert accuracy(t, p) == 2 / 3
    assert accuracy(t, p, [1, 2, 1]) == 0.5


def test_accuracy_of_signs_and_dtypes():
    assert accuracy([-1, 1, 1], np.array([-1.0, 1.0, -1.0], np.float32)) == 2 / 3


@pytest.mark.parametrize("shape", [(5,), (30,), (30, 1), (7, 4)])
def test_r2_by_hand(shape, rng):
    t, p = rng.standard_normal((2, *shape))
    columns = zip(t.reshape(len(t), -1).T, p.reshape(len(p), -1).T)
    expected = np.mean([1 - ((a - b)**2).sum() / ((a - a.mean())**2).sum() for a, b in columns])
    assert_allclose(r2(t, p), expected, rtol=1e-13)
    assert_allclose(r2(t.astype(np.float32), p.astype(np.float32)), expected, rtol=1e-4)


def test_r2_means_what_it_says(rng):
    t = rng.standard_normal(50)
    assert r2(t, t) == 1.0
    assert_allclose(r2(t, np.full(50, t.mean())), 0, atol=1e-15)
    assert r2(t, -5 * t) < -10
    assert type(r2(t, t)) is float


def test_r2_of_large_and_small_numbers(rng):
    """The mean is taken away in float64: targets far from 0 in float32 lose nothing more."""
    t = (1000 + rng.standard_normal(40)).astype(np.float32)
    p = t + np.float32(0.5)
    exact_t, exact_p = [Fraction(float(v)) for v in t], [Fraction(float(v)) for v in p]
    mean = sum(exact_t) / 40
    exact = 1 - sum((a - b)**2 for a, b in zip(exact_t, exact_p)) / sum((a - mean)**2 for a in exact_t)
    assert_allclose(r2(t, p), float(exact), rtol=1e-10)


def test_r2_without_variance():
    assert r2([0.1] * 3, [0.1] * 3) == 1.0
    assert r2([0.1] * 3, [0.1, 0.1, 0.2]) == 0.0
    assert r2([[0.1, 1], [0.1, 2]], [[0.3, 1], [0.3, 2]]) == 0.5
    assert math.isnan(r2([1.0], [1.0]))
    assert math.isnan(r2([1.0, 2.0], [1.0, np.nan]))


def test_one_output_with_or_without_its_axis():
    t, p = np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.5, 4.0])
    assert r2(t[:, None], p) == r2(t, p[:, None]) == r2(t, p)
    assert accuracy(t[:, None], p) == accuracy(t, p) == 2 / 3


def test_weights_are_repetitions(rng):
    t, p = rng.standard_normal((2, 20))
    s = rng.integers(0, 4, 20)
    assert_allclose(r2(t, p, s), r2(np.repeat(t, s), np.repeat(p, s)), rtol=1e-12)
    a, b = rng.integers(0, 2, (2, 20))
    assert_allclose(accuracy(a, b, s), accuracy(np.repeat(a, s), np.repeat(b, s)), rtol=1e-15)
    assert_allclose(accuracy(a, b, 1e-3 * s), accuracy(a, b, s), rtol=1e-14)


def test_samples_without_weight_are_not_looked_at():
    t, p, s = np.array([1.0, 2.0, np.nan]), np.array([1.0, 3.0, np.inf]), [1, 1, 0]
    assert r2(t, p, s) == r2(t[:2], p[:2]) == -1.0
    assert accuracy(t, p, s) == 0.5
    assert r2([0.1, 0.1, 5], [0.1, 0.1, 7], s) == 1.0
    assert math.isnan(r2(t, p, [1, 0, 0]))


def test_of_a_model(backend, dtype, rng):
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 4, 40)
    model = MLP([3, 8, 4], dtype=dtype, seed=0)
    assert accuracy(y, model.predict(X)) == model.evaluate(X, y)["accuracy"]
    values = MLP([3, 8, 1], loss="mean_squared_error", dtype=dtype, seed=0)
    y = X.sum(axis=1)
    loss = values.evaluate(X, y)["loss"]
    assert_allclose(r2(y, values.predict(X)), 1 - loss / y.var(), rtol=1e-5 if dtype == np.float32 else 1e-12)


# The area under the ROC curve ------------------------------------------------------------------------------

def area(t, z, s=None):
    """All pairs, one by one."""
    s = np.ones(len(t)) if s is None else s
    pairs = [(s[i] * s[j], (z[i] > z[j]) + (z[i] == z[j]) / 2)
             for i in np.flatnonzero(t == t.max()) for j in np.flatnonzero(t == t.min())]
    return sum(w * won for w, won in pairs) / sum(w for w, _ in pairs)


@pytest.mark.parametrize("labels", [(0, 1), (-1, 1), (False, True)], ids=str)
@pytest.mark.parametrize("ties", [False, True])
def test_roc_auc_counts_pairs(labels, ties, rng):
    for n in (2, 5, 60):
        t = np.resize(labels, n)
        rng.shuffle(t)
        z = rng.integers(0, 4, n) if ties else rng.standard_normal(n)
        s = rng.uniform(0.1, 2, n)
        assert_allclose(roc_auc(t, z), area(t, z), rtol=1e-13)
        assert_allclose(roc_auc(t, z, s), area(t, z, s), rtol=1e-13)
        assert_allclose(roc_auc(t, -z), 1 - area(t, z), rtol=1e-12)
        assert roc_auc(t, t) == 1.0 and roc_auc(t, np.zeros(n)) == 0.5
        assert roc_auc(t[:, None], z) == roc_auc(t, z[:, None]) == roc_auc(t, z)
    assert type(roc_auc([0, 1], [0, 1])) is float


def test_roc_auc_of_classes_and_of_labels(rng):
    t, z = np.resize(np.arange(4), 50), rng.standard_normal((50, 4))
    s = rng.uniform(0, 1, 50)
    expected = np.mean([area(t == c, z[:, c], s) for c in range(4)])
    assert_allclose(roc_auc(t, z, s), expected, rtol=1e-13)
    labels = rng.integers(0, 2, (50, 4))
    assert_allclose(roc_auc(labels, z), np.mean([area(*c) for c in zip(labels.T, z.T)]), rtol=1e-13)
    logits = z[:, :2]
    assert_allclose(roc_auc(t % 2, logits), area(t % 2, logits[:, 1] - logits[:, 0]), rtol=1e-13)


def test_roc_auc_that_nothing_tells():
    assert math.isnan(roc_auc([0, 0], [1, 2]))
    assert math.isnan(roc_auc([0, 1], [1, np.nan]))
    assert roc_auc([0, 1, 1], [1, 2, np.nan], [1, 1, 0]) == 1.0
    assert roc_auc([0, 1], [-np.inf, np.inf]) == 1.0


@pytest.mark.parametrize("arguments, error, message", [
    (([0, 1, 2], [0, 1, 2]), ValueError, "^y_true: expected two classes, got 3"),
    (([0, 1], [0, 1, 2]), ValueError, "^y_score"),
    (([0, 2], [[0, 1], [1, 0]]), ValueError, "^y_true.*0 to 1, got 2"),
    (([], []), ValueError, "^y_true.*at least one"),
    (([0, 1], ["a", "b"]), TypeError, "^y_score.*numbers"),
    (([0, 1], [0, 1], [1, -1]), ValueError, "^sample_weight"),
], ids=str)
def test_bad_arguments_of_roc_auc(arguments, error, message):
    with pytest.raises(error, match=message):
        roc_auc(*arguments)


# What a metric is given ------------------------------------------------------------------------------------

def of_sklearn(name):
    """A function that only looks like one of scikit-learn's, and gives back what it was given."""
    def function(y_true, y_pred):
        function.got = y_true, y_pred
        return 0.0
    function.__name__, function.__module__ = name, "sklearn.metrics._ranking"
    return function


NETWORKS = {        # loss, outputs: and what targets there are
    "two classes": ("cross_entropy", 2), "three classes": ("cross_entropy", 3),
    "label": ("binary_cross_entropy", 1), "labels": ("binary_cross_entropy", 2),
    "margins": ("multiclass_hinge", 3), "two margins": ("multiclass_hinge", 2), "margin": ("hinge", 1),
    "value": ("mean_squared_error", 1), "counts": ("poisson", 2),
}


@pytest.mark.parametrize("network", NETWORKS)
def test_what_a_metric_is_given(network, backend, rng):
    loss, outputs = NETWORKS[network]
    model = MLP([4, 6, outputs], loss=loss, seed=0)
    X, y = rng.standard_normal((5000, 4)), rng.integers(0, 2, (5000, outputs))       # more than a block
    if loss in ("cross_entropy", "multiclass_hinge"):
        y = y[:, 0]
    elif loss == "hinge":
        y = 2 * y - 1
    z, p = model.forward(X).astype(float), model.predict(X)
    likely = {"cross_entropy": np.exp(z) / np.exp(z).sum(axis=1, keepdims=True),
              "binary_cross_entropy": 1 / (1 + np.exp(-z))}.get(loss)
    if "two" in network:
        z, likely = z[:, 1] - z[:, 0], None if likely is None else likely[:, 1]
    if outputs == 1:
        z, likely = z[:, 0], None if likely is None else likely[:, 0]
    scores = likely if likely is not None else p if network in ("value", "counts") else z
    weights = np.where(np.arange(5000) % 7, 1.0, 0.0)
    for name, expected in (("accuracy_score", p), ("roc_auc_score", scores), ("hinge_loss", z),
                           ("log_loss", likely)):
        metric = of_sklearn(name)
        for wrapped in (metric, partial(metric)):
            metric.got = None
            if expected is None:
                with pytest.raises(TypeError, match=f"^metrics: 'm' needs probabilities.*'{loss}'"):
                    model.evaluate(X, y, metrics={"m": wrapped})
                with pytest.raises(TypeError, match="^metrics"):
                    model.fit(X, y, metrics={"m": wrapped}, progress=False)
                continue
            model.evaluate(X, y, metrics={"m": wrapped, "other": accuracy}, sample_weight=weights)
            truth, got = metric.got
            assert len(truth) == len(got) == np.count_nonzero(weights)
            assert got.shape == expected[weights > 0].shape
            assert_allclose(got, expected[weights > 0], rtol=1e-4, atol=1e-5)


def test_scores_in_training(backend, rng):
    X = rng.standard_normal((300, 4))
    y = (X[:, 0] + rng.standard_normal(300) > 0).astype(int)
    for loss, outputs in (("cross_entropy", 2), ("binary_cross_entropy", 1)):
        model = MLP([4, 8, outputs], loss=loss, seed=0)
        history = model.fit(X[:200], y[:200], epochs=3, metrics=iter(["roc_auc", "accuracy"]), progress=False,
                            validation_data=(X[200:], y[200:]))
        scores = model.predict_proba(X[200:])
        scores = scores[:, 1] if scores.ndim == 2 else scores
        assert len(history.roc_auc) == 3
        assert_allclose(history.val_roc_auc[-1], area(y[200:], scores), rtol=1e-6)
        assert history.val_roc_auc[-1] != area(y[200:], model.predict(X[200:]))


def test_who_says_what_it_needs():
    def gap(y_true, y_score):
        return 0.5

    wrapped = of_scores(gap)
    assert needs(gap) == "predictions" and needs(wrapped) == "scores"
    assert wrapped.__name__ == "gap" and wrapped(0, 1) == 0.5
    assert list(resolve([wrapped])) == ["gap"]
    assert list(resolve({"lambda": of_scores(lambda t, z: 0)})) == ["lambda"]
    gap.needs = "outputs"
    assert needs(gap) == needs(partial(gap)) == "outputs"
    assert needs(of_scores(gap)) == "scores"
    assert needs(roc_auc) == "scores" and needs(accuracy) == needs(r2) == "predictions"
    own = of_sklearn("roc_auc_score")
    assert needs(own) == "scores"
    own.__module__ = "mine"                     # a name alone says nothing
    assert needs(own) == "predictions"
    gap.needs = "everything"
    with pytest.raises(ValueError, match="^metrics.*needs.*'everything'"):
        resolve(gap)
    with pytest.raises(TypeError, match="^metric: expected a function"):
        of_scores(7)


class Scorer:
    """What make_scorer gives: its call takes an estimator."""

    _score_func = staticmethod(accuracy)

    def __call__(self, estimator, X, y):
        return 0.5


@pytest.mark.parametrize("wrong", [Scorer(), [Scorer()], {"m": Scorer()}], ids=["alone", "list", "dict"])
def test_scorers_are_refused(wrong):
    with pytest.raises(TypeError, match="^metrics.*scorer of scikit-learn.*function it was made of"):
        resolve(wrong)


# Names and functions ---------------------------------------------------------------------------------------

def mean_error(y_true, y_pred):
    return abs(y_true - y_pred).mean()


class WithName:
    __name__ = "with_name"

    def __call__(self, y_true, y_pred):
        return 7


def test_resolve():
    assert resolve(None) == resolve([]) == resolve({}) == {}
    assert resolve("r2") == resolve(["r2"]) == resolve(r2) == {"r2": r2}
    assert resolve(("accuracy", mean_error)) == {"accuracy": accuracy, "mean_error": mean_error}
    assert list(resolve({"b": mean_error, "a": accuracy})) == ["b", "a"]
    assert list(resolve(iter(["r2", "accuracy"]))) == ["r2", "accuracy"]
    assert list(resolve([WithName()])) == ["with_name"]
    assert [*METRICS] == "accuracy precision recall f1 roc_auc r2 mae mse rmse".split()


def test_compute(rng):
    t, p = rng.standard_normal((2, 10))
    found = resolve({"error": mean_error, "r2": r2, "seven": WithName(), "yes": lambda a, b: np.bool_(True),
                     "array": lambda a, b: np.array(0.5, np.float32)})
    values = compute(found, t, p)
    assert values == {"error": abs(t - p).mean(), "r2": r2(t, p), "seven": 7.0, "yes": 1.0, "array": 0.5}
    assert all(type(value) is float for value in values.values())


# Bad input -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("wrong, error, message", [
    ("acuracy", ValueError, "^metrics: unknown name 'acuracy', did you mean 'accuracy'.*r2"),
    (["r2", "R2"], ValueError, "^metrics: expected every name once, got 'r2' twice"),
    (["r2", "R3"], ValueError, "^metrics: unknown name 'R3'"),
    (7, TypeError, "^metrics.*got 7"),
    ([7], TypeError, "^metrics.*got 7"),
    ([None], TypeError, "^metrics.*got None"),
    (lambda a, b: 0, TypeError, "^metrics.*with a name.*lambda.*dict"),
    ([partial(mean_error)], TypeError, "^metrics.*with a name.*dict"),
    (["r2", r2], ValueError, "^metrics.*'r2' twice"),
    ({"loss": r2}, ValueError, "^metrics.*free.*'loss'"),
    ({"samples_per_second": r2}, ValueError, "^metrics.*free"),
    ({"step": r2}, ValueError, "^metrics.*free"),
    ({"val_r2": r2}, ValueError, "^metrics.*free.*'val_r2'"),
    ({"r2": "r2"}, TypeError, "^metrics.*function.*'r2'"),
    ({1: r2}, TypeError, "^metrics.*key 1"),
], ids=str)
def test_bad_metrics(wrong, error, message):
    with pytest.raises(error, match=message) as raised:
        resolve(wrong)
    assert type(raised.value) is error


@pytest.mark.parametrize("value", [None, "1", np.ones(2), [1.0], 1j])
def test_metric_that_gives_no_number(value):
    with pytest.raises(TypeError, match="^metrics: expected one number from 'm'"):
        compute({"m": lambda a, b: value}, np.zeros(2), np.zeros(2))


@pytest.mark.parametrize("metric", [accuracy, r2, f1, mae, mse, rmse, precision, recall])
@pytest.mark.parametrize("arguments, error, message", [
    (([0, 1], [0, 1, 1]), ValueError, r"^y_pred: expected shape \(2,\) like y_true, got \(3,\)"),
    (([[0, 1]], [0, 1]), ValueError, "^y_pred"),
    (([], []), ValueError, "^y_true.*at least one"),
    ((1, 1), ValueError, "^y_true"),
    ((np.zeros((2, 2, 2)), np.zeros((2, 2, 2))), ValueError, "^y_true"),
    (([0, 1], [0, 1], [1]), ValueError, r"^sample_weight.*\(2,\)"),
    (([0, 1], [0, 1], [1, -1]), ValueError, "^sample_weight.*from -1 to 1"),
    (([0, 1], [0, 1], [0, 0]), ValueError, "^sample_weight.*all zero"),
    (([0, 1], [0, 1], [1, np.nan]), ValueError, "^sample_weight.*finite"),
    (([0, 1], [0, 1], ["a", "b"]), TypeError, "^sample_weight.*numbers"),
    ((np.ma.masked_array([0, 1], [0, 1]), [0, 1]), TypeError, "^y_true.*masked"),
], ids=str)
def test_bad_arguments(metric, arguments, error, message):
    with pytest.raises(error, match=message) as raised:
        metric(*arguments)
    assert type(raised.value) is error


@pytest.mark.parametrize("metric", [mae, mse, rmse])
def test_errors_of_words(metric):
    with pytest.raises(TypeError, match="^y_pred: expected numbers, got dtype <U1"):
        metric([1.0], ["a"])


def test_by_hand():
    t, p = [1, 1, 0, 0, 0], [1, 0, 1, 1, 0]
    assert_allclose([precision(t, p), recall(t, p), f1(t, p)], [1 / 3, 1 / 2, 2 / 5], rtol=1e-15)
    assert mae([0, 0], [3, 4]) == 3.5 and mse([0, 0], [3, 4]) == 12.5 and rmse([0, 0], [3, 4]) == 12.5 ** 0.5


def test_in_training(rng):
    """In the history, and to stop by; the mode follows from the name."""
    X = rng.standard_normal((100, 3))
    classes = rng.integers(0, 3, 100)
    for outputs, y, loss, names in ((3, classes, "cross_entropy", ["f1", "precision", "recall"]),
                                    (1, X[:, 0], "mse", ["mae", "mse", "rmse"])):
        model = MLP([3, 8, outputs], loss=loss, seed=0)
        stopping = [EarlyStopping(1, monitor=f"val_{name}", min_delta=1e9, restore_best=False)
                    for name in names]
        history = model.fit(X, y, epochs=9, validation_data=(X, y), metrics=names, callbacks=stopping,
                            progress=False)
        assert len(history.loss) == 2                   # nothing gets better by a billion
        for name in names:
            assert history[name][-1] == pytest.approx(METRICS[name](y, model.predict(X)))


def test_r2_of_words():
    with pytest.raises(TypeError, match="^y_true.*numbers"):
        r2(["a", "b"], [1, 2])
    with pytest.raises(TypeError, match="^y_pred.*numbers"):
        r2([1, 2], ["a", "b"])


def test_names_are_exported():
    assert all(hasattr(metrics, name) for name in metrics.__all__)


def test_no_metrics_take_no_pass_over_the_training_data(rng, monkeypatch):
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    passes = []
    monkeypatch.setattr(MLP, "_evaluate", lambda *args: passes.append(args))
    for none in ([], (), {}):
        MLP([3, 4, 2], seed=0).fit(X, y, epochs=2, metrics=none, progress=False)
    assert not passes
