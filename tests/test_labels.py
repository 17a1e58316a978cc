"""Class labels as users have them: taken where they are indices, answered where they are words."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastmlp import MLP, SGD, losses, metrics

pytestmark = pytest.mark.any_isa

X = np.random.default_rng(0).standard_normal((40, 3))
Y = (np.arange(40) * 7) % 3


def trained(y, loss="cross_entropy", layers=(3, 8, 3), **options):
    model = MLP(layers, loss=loss, seed=0)
    model.fit(X, y, epochs=2, batch_size=8, optimizer=SGD(0.1), progress=False, **options)
    return model.weights[0].copy()


@pytest.mark.parametrize("loss", ["cross_entropy", "multiclass_hinge"])
@pytest.mark.parametrize(
    "kind", ["float32", "float64", "float16", "longdouble", "column", "column of floats"]
)
def test_floats_with_whole_values(kind, loss):
    y = Y[:, None] if kind == "column" else Y[:, None].astype(float) if "floats" in kind else Y.astype(kind)
    np.testing.assert_array_equal(trained(y, loss), trained(Y, loss))


def test_booleans():
    labels = Y > 0
    for y in (labels, list(labels), labels[:, None]):
        np.testing.assert_array_equal(trained(y), trained(labels.astype(int)))
    for loss in ("binary_cross_entropy", "mse"):
        np.testing.assert_array_equal(
            trained(labels, loss, (3, 8, 1)), trained(labels * 1.0, loss, (3, 8, 1))
        )


@pytest.mark.parametrize("call", ["train_step", "evaluate", "loss_and_gradients"])
def test_every_method_takes_them(call):
    def result(y):
        model = MLP([3, 8, 3], seed=0)
        if call == "train_step":
            return model.train_step(X, y, SGD(0.1))
        return model.evaluate(X, y) if call == "evaluate" else model.loss_and_gradients(X, y)[0]

    assert result(Y.astype(float)) == result(Y)


def test_with_weights_and_ignored_ones():
    weights = np.arange(40) % 2
    np.testing.assert_array_equal(
        trained(Y.astype(float), class_weight="balanced", sample_weight=weights),
        trained(Y, class_weight="balanced", sample_weight=weights),
    )
    ignoring, some = losses.CrossEntropy(ignore_index=-1), np.where(Y == 2, -1, Y)
    np.testing.assert_array_equal(trained(some.astype(float), ignoring), trained(some, ignoring))
    idle = np.where(weights > 0, Y, np.nan)  # a row that weighs nothing may hold anything
    np.testing.assert_array_equal(trained(idle, sample_weight=weights), trained(Y, sample_weight=weights))


def test_the_array_given_is_not_changed():
    y = Y.astype(float)
    trained(y)
    np.testing.assert_array_equal(y, Y.astype(float))
    assert y.dtype == np.float64


@pytest.mark.parametrize("wrong, got", [(0.5, "0.5"), (np.nan, "nan"), (np.inf, "inf"), (1e300, "1e+300")])
def test_floats_that_are_no_indices(wrong, got):
    y = Y.astype(float)
    y[7] = wrong
    with pytest.raises(
        ValueError,
        match=rf"^y: expected class indices.*{re.escape(got)}.* in row 7; for real values: "
        "loss='mean_squared_error'",
    ):
        trained(y)


def test_rows_of_values():
    """What a network of several outputs is not told to be."""
    with pytest.raises(
        ValueError, match="^y: expected probabilities, got .*for real values: loss='mean_squared_error'"
    ):
        trained(X)
    with pytest.raises(ValueError, match="^y: expected numbers, got NaN at"):
        trained(np.where(np.eye(3)[Y] > 0, np.nan, 0))


WORDS = np.array(["red", "green", "blue"])[Y]


@pytest.mark.parametrize(
    "loss, outputs",
    [
        ("cross_entropy", 3),
        ("multiclass_hinge", 3),
        ("binary_cross_entropy", 1),
        ("hinge", 1),
        ("kl_divergence", 3),
    ],
)
@pytest.mark.parametrize(
    "y",
    [WORDS, WORDS.tolist(), WORDS.astype(object), WORDS.astype("S"), np.array([None, *Y[1:]])],
    ids=["U", "list", "objects", "bytes", "None"],
)
def test_words(y, loss, outputs):
    model = MLP([3, 8, outputs], loss=loss, seed=0)
    before = model.weights[0].copy()
    for call in (
        lambda: model.fit(X, y, progress=False),
        lambda: model.train_step(X, y, SGD(0.1)),
        lambda: model.evaluate(X, y),
    ):
        with pytest.raises(TypeError) as raised:
            call()
        text = str(raised.value)
        assert text.startswith("y: expected numbers, got ") and "fastmlp.sklearn.MLPClassifier" in text
    np.testing.assert_array_equal(model.weights[0], before)


@pytest.mark.parametrize("y", [WORDS, WORDS.tolist(), WORDS.astype("S")], ids=["U", "list", "bytes"])
def test_the_line_of_the_error_works(y):
    with pytest.raises(TypeError) as raised:
        trained(y)
    line = re.search(r"; (classes, y = .*?\)) makes class indices", str(raised.value))[1]
    namespace = {"np": np, "y": y}
    exec(line, namespace)
    assert trained(namespace["y"]).shape == (3, 8)
    assert (namespace["classes"][namespace["y"]] == np.asarray(y)).all()


class Categories:
    """A column as pandas has it."""

    def __init__(self, values, dtype):
        self.values, self.dtype = np.asarray(values), dtype

    def __len__(self):
        return len(self.values)

    def __array__(self, dtype=None, copy=None):
        return self.values

    def to_numpy(self):
        return self.values

    def isna(self):
        return np.zeros(len(self.values), bool)


def test_columns_of_words():
    for column in (Categories(WORDS.astype(object), "category"), Categories(WORDS.astype(object), "object")):
        with pytest.raises(
            TypeError, match=r"^y: expected numbers, got categories or words.*np\.unique\(y, "
        ):
            trained(column)
    np.testing.assert_array_equal(trained(Categories(Y.astype(float), np.dtype(float))), trained(Y))


def test_categories_that_are_numbers():
    """Their values may be indices, but their dtype says that they are names."""
    with pytest.raises(TypeError, match="^y: expected numbers, got categories"):
        trained(Categories(Y, "category"))


def test_labels_out_of_range_are_told():
    with pytest.raises(ValueError, match="^y: expected class indices from 0 to 2, got 3"):
        trained((Y + 1).astype(float))


def test_metric_of_scores_takes_them_too():
    scores = np.random.default_rng(1).random((40, 3))
    assert metrics.roc_auc(Y.astype(float), scores) == metrics.roc_auc(Y, scores)


# Errors that name the cure ---------------------------------------------------------------------------------


@pytest.mark.parametrize("y", [WORDS, WORDS.tolist(), WORDS.astype(object)], ids=["U", "list", "objects"])
def test_words_for_one_output(y):
    with pytest.raises(TypeError, match=r"^y: expected numbers, got .*classes, y = np\.unique\(y, "):
        MLP([3, 1], seed=0).fit(X, y, progress=False)


@pytest.mark.parametrize("y, outputs", [(Y + 1, 3), (np.where(Y > 0, 1, -1), 2), (10 * Y, 3)])
def test_labels_that_are_no_indices(y, outputs):
    with pytest.raises(ValueError, match="^y: expected class indices from 0 to") as raised:
        trained(y, layers=(3, 8, outputs))
    text = str(raised.value)
    assert ("loss='hinge' with one output" in text) == (outputs == 2)
    namespace = {"np": np, "y": y}
    exec(re.search(r"; (classes, y = .*?\)) makes class indices", text)[1], namespace)
    assert trained(namespace["y"], layers=(3, 8, outputs)).shape == (3, 8)


def test_too_many_labels_have_no_cure():
    with pytest.raises(ValueError, match="^y: expected class indices from 0 to 1, got 2 in row [0-9]+$"):
        trained(Y, layers=(3, 8, 2))


@pytest.mark.parametrize("dtype", [int, float])
@pytest.mark.parametrize("loss", ["cross_entropy", "multiclass_hinge", "mean_squared_error"])
def test_targets_of_the_wrong_shape(dtype, loss):
    with pytest.raises(ValueError, match=r"^y: expected shape .*got \(2,\)$"):
        MLP([4, 3], loss="cross_entropy", seed=0).fit(np.eye(4), np.array([5, 7], dtype), progress=False)
    with pytest.raises(ValueError, match=r"^y: expected shape .*got \([0-9]+, 2, 2\)"):
        MLP([3, 2], loss=loss, seed=0).fit(X, np.zeros((len(X), 2, 2), dtype), progress=False)


@pytest.mark.parametrize("outputs", [3, 1])
@pytest.mark.parametrize("values, kind", [(Y, "int"), (Y + 0.0, "float")])
def test_objects_that_are_numbers(values, kind, outputs):
    y = values.astype(object)
    with pytest.raises(TypeError, match=rf"whose elements are numbers; write y = y\.astype\({kind}\)$"):
        MLP([3, outputs], seed=0).fit(X, y, progress=False)
    MLP([3, outputs], seed=0).fit(X, y.astype(kind), epochs=1, progress=False)


def test_categories_of_numbers_of_pandas():
    pandas = pytest.importorskip("pandas")
    y = pandas.Series(Y, dtype="category")
    for outputs in (3, 1):
        with pytest.raises(TypeError, match=r"got categories in the column, such as .*y = y\.astype\(int\)"):
            MLP([3, outputs], seed=0).fit(X, y, progress=False)
    np.testing.assert_array_equal(trained(y.astype(int)), trained(Y))


@pytest.mark.parametrize("loss", ["mean_squared_error", "mean_absolute_error", "huber"])
@pytest.mark.parametrize("wrong, message", [
    (np.inf, "got inf at"), (-np.inf, "got -inf at"), (1e39, "got 1e\\+39, which float32 does not hold, at")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinite_targets_change_nothing(dtype, wrong, message, loss):
    if dtype is np.float32 and np.isfinite(wrong):
        pytest.skip("no such float32")
    y = Y.astype(dtype)[:, None]
    y[7] = wrong
    model = MLP([3, 8, 1], loss=loss, seed=0)
    before = [w.copy() for w in model.weights]
    for samples in (X, X.astype(np.float32)):
        for call in (
            lambda samples: model.fit(samples, y, progress=False),
            lambda samples: model.train_step(samples, y, SGD(0.1)),
            lambda samples: model.evaluate(samples, y),
            lambda samples: model.loss_and_gradients(samples, y),
        ):
            with pytest.raises(ValueError, match=rf"^y: expected finite numbers, {message} \[7, 0\]$"):
                call(samples)
    for w, old in zip(model.weights, before):
        np.testing.assert_array_equal(w, old)


def test_large_targets_are_taken():
    """Of which the squares are too large for float32."""
    y = 1e30 * np.ones((len(X), 1), np.float32)
    assert np.isfinite(MLP([3, 1], loss="mae", seed=0).train_step(X.astype(np.float32), y, SGD(0.1)))
