"""`MLP(layers).fit(X, y)` and nothing else: what it takes and reaches, and what it says of bad scales."""

from __future__ import annotations

import re
import warnings
from importlib import resources

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, Adam, AdamW, TrainingWarning, data, losses, metrics
from fastmlp._core import defaults, scales
from fastmlp._core.sources import SparseRows
from fastmlp.schedules import OneCycle


def digits():
    with resources.files("fastmlp").joinpath("data/digits.npz").open("rb") as file, np.load(file) as arrays:
        X, y = arrays["x"] / 16, arrays["y"].astype(int)
    order = np.random.default_rng(0).permutation(len(X))
    return X[order], y[order]


def moons(n, rng):
    y = np.arange(n) % 2
    angle = np.pi * rng.random(n)
    X = np.where(
        y[:, None] == 0,
        np.stack([np.cos(angle), np.sin(angle)], 1),
        np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], 1),
    )
    X = X + 0.2 * rng.standard_normal((n, 2))
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def friedman(n, rng):
    X = rng.random((n, 10))
    y = (
        10 * np.sin(np.pi * X[:, 0] * X[:, 1])
        + 20 * (X[:, 2] - 0.5) ** 2
        + 10 * X[:, 3]
        + 5 * X[:, 4]
        + rng.standard_normal(n)
    )
    return (X - 0.5) * 12**0.5, y


def fitted(layers, X, y, **options):
    model = MLP(layers, seed=0, **options)
    model.fit(X, y, progress=False)
    return model


# What it reaches ------------------------------------------------------------------------------------------


def test_digits():
    X, y = digits()
    model = fitted([64, 100, 10], X[:1300], y[:1300])
    assert (model.predict(X[1300:]) == y[1300:]).mean() > 0.965


def test_moons(rng):
    X, y = moons(1000, rng)
    assert (fitted([2, 100, 2], X[:700], y[:700]).predict(X[700:]) == y[700:]).mean() > 0.93


def test_friedman(rng):
    X, y = friedman(3000, rng)
    model = fitted([10, 100, 1], X[:2000], y[:2000])
    assert model.loss.name == "mean_squared_error"
    assert metrics.r2(y[2000:], model.predict(X[2000:])) > 0.91  # the noise alone leaves 0.96


def test_raw_targets_do_not_diverge(rng):
    """Targets like those of scikit-learn's diabetes, 25..346, on few rows."""
    X = rng.standard_normal((442, 10))
    y = np.clip(152 + 55 * X[:, 0] + 25 * X[:, 1] * X[:, 2] + 40 * rng.standard_normal(442), 25, 346)
    with pytest.warns(TrainingWarning, match="^y: holds numbers of about 1[45]"):
        model = fitted([10, 100, 1], X[:330], y[:330])
    assert metrics.r2(y[330:], model.predict(X[330:])) > 0.3


@pytest.mark.parametrize("scale", [1e4, 1e9, 1e-6])
def test_targets_of_any_scale_stay_finite(scale, rng):
    X, y = friedman(1000, rng)
    with pytest.warns(TrainingWarning, match="^y: "):
        model = fitted([10, 100, 1], X, scale * y)
    assert np.isfinite(model.predict(X)).all()


def test_deep_and_wide(rng):
    X, y = moons(1000, rng)
    for layers, activation in (
        ([2, 50, 50, 50, 2], "relu"),
        ([2, 100, 100, 2], "tanh"),
        ([2, 512, 2], "relu"),
        ([2, 50, 50, 50, 50, 50, 2], "gelu"),
    ):
        model = fitted(layers, X[:700], y[:700], activation=activation)
        assert (model.predict(X[700:]) == y[700:]).mean() > 0.94, layers


# What it takes --------------------------------------------------------------------------------------------


def test_epochs_and_batches_follow_the_rows():
    sizes = [1, 2, 20, 31, 33, 150, 1000, 5000, 20_000, 100_000, 10**6, 10**8]
    batches = [defaults.default_batch_size(n) for n in sizes]
    epochs = [defaults.default_epochs(n, batch) for n, batch in zip(sizes, batches)]
    assert batches == sorted(batches) and epochs == sorted(epochs, reverse=True)
    assert batches[0] == 1 and batches[2] == 20 and batches[-1] == 256
    assert epochs[0] == 300 and epochs[6] == 30 and epochs[7] == 20 and epochs[-1] == 10
    assert defaults.default_epochs(1000, 1000) == 300


def test_what_is_not_said_is_what_is_documented(rng):
    X, y = moons(500, rng)
    one, other = MLP([2, 20, 2], seed=0), MLP([2, 20, 2], seed=0)
    history = one.fit(X, y, progress=False)
    epochs, batch_size = defaults.default_epochs(500, 32), defaults.default_batch_size(500)
    optimizer = defaults.default_optimizer(epochs * -(-500 // batch_size), [2, 20, 2])
    other.fit(X, y, epochs, batch_size, optimizer, progress=False)
    assert len(history.loss) == epochs
    np.testing.assert_array_equal(one.weights[0], other.weights[0])
    doc = MLP.fit.__doc__
    for number in (
        defaults.SAMPLES,
        defaults.LEAST_EPOCHS,
        defaults.MOST_EPOCHS,
        defaults.LEAST_STEPS,
        defaults.LEAST_BATCH,
        defaults.MOST_BATCH,
        defaults.LR,
        defaults.WIDE,
    ):
        assert re.search(rf"(?<![\d.]){number}(?![\d.]*\d)", doc), number


def test_some_of_it_may_be_said(rng):
    X, y = moons(300, rng)
    for options in (
        {"epochs": 3},
        {"batch_size": 50},
        {"optimizer": SGD(0.1)},
        {"epochs": "auto", "batch_size": None},
        {"batch_size": "auto", "optimizer": "adam"},
    ):
        history = MLP([2, 20, 2], seed=0).fit(X, y, progress=False, **options)
        expected = {3: 3, "auto": 300}.get(options.get("epochs"), 50 if "batch_size" in options else 30)
        assert len(history.loss) == (30 if options.get("batch_size") == "auto" else expected)
        assert history.loss[-1] < history.loss[0]


def test_rate_ends_with_the_last_step():
    optimizer = defaults.default_optimizer(10, [2, 20, 2])
    assert isinstance(optimizer, AdamW) and isinstance(optimizer.lr, OneCycle)
    rates = optimizer.learning_rates(0, 10)
    assert rates.max() == defaults.LR and rates[-1] < 1e-3 * rates.max()
    assert defaults.default_optimizer(1, [2, 2]).learning_rates(0, 1) > 0
    assert defaults.default_optimizer(100, [2, 50, 400, 1]).lr.lr == defaults.LR / 2


@pytest.mark.parametrize(
    "options, error, message",
    [
        ({"epochs": "all"}, TypeError, "epochs: expected an integer or 'auto', got 'all'"),
        ({"batch_size": "all"}, TypeError, "batch_size: expected an integer or 'auto', got 'all'"),
        ({"epochs": None}, TypeError, "epochs: expected an integer"),
        ({"epochs": -1}, ValueError, "epochs: expected an integer from 0 up, got -1"),
        ({"batch_size": 0}, ValueError, "batch_size: expected an integer from 1 up, got 0"),
    ],
)
def test_bad_arguments(options, error, message):
    model = MLP([4, 3], seed=0)
    before = model.weights[0].copy()
    with pytest.raises(error, match=f"^{message}"):
        model.fit(np.eye(4), [0, 1, 2, 0], progress=False, **options)
    np.testing.assert_array_equal(model.weights[0], before)


def test_explicit_calls_have_the_bits_of_single_steps(rng):
    """The scale is looked at, and nothing of it is in the weights."""
    X, y = 1000 * rng.standard_normal((200, 3)), rng.integers(0, 2, 200)
    one, other = MLP([3, 40, 2], init="he_normal", seed=0), MLP([3, 40, 2], init="he_normal", seed=0)
    ours, theirs = Adam(0.01), Adam(0.01)
    with pytest.warns(TrainingWarning):
        one.fit(X, y, epochs=400, batch_size=50, optimizer=ours, shuffle=False, progress=False)
    for _ in range(400):
        for start in range(0, 200, 50):
            other.train_step(X[start : start + 50], y[start : start + 50], theirs)
    np.testing.assert_array_equal(one.weights[0], other.weights[0])


# The loss -------------------------------------------------------------------------------------------------


def test_loss_follows_the_outputs():
    assert MLP([3, 1]).loss == losses.MeanSquaredError()
    assert MLP([3, 2]).loss == MLP([3, 2], loss="auto").loss == losses.CrossEntropy()
    assert MLP([3, 1], loss="cross_entropy").loss == losses.CrossEntropy()
    with pytest.raises(ValueError, match="^loss: unknown name 'auto'"):
        losses.resolve("auto")


def test_loss_stays_in_copies_and_files(tmp_path, rng):
    import copy
    import pickle

    X, y = friedman(50, rng)
    model = fitted([10, 5, 1], X, y)
    path = tmp_path / "net.safetensors"
    model.save(path)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fastmlp.load(path)):
        assert other.loss == model.loss
        np.testing.assert_array_equal(other.predict(X), model.predict(X))
        other.fit(X, y, epochs=1, progress=False)


@pytest.mark.parametrize("y", [[0, 1, 1, 0], [False, True, True, False], [0.0, 1.0, 1.0, 0.0]])
def test_labels_of_one_output(y):
    """Without a loss they are values, which is said; a loss says what they are."""
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    with pytest.warns(
        TrainingWarning, match=r"^y: holds 0 and 1 alone.*loss='binary_cross_entropy'.*\[\.\.\., 2\]"
    ):
        MLP([2, 8, 1], seed=0).fit(X, y, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLP([2, 8, 1], seed=0, loss="mse").fit(X, y, progress=False)
        MLP([2, 8, 1], seed=0).fit(X, [0, 0, 0, 0], progress=False)
        MLP([2, 8, 1], seed=0).fit(X, [0, 1, 2, 0], progress=False)
        model = MLP([2, 8, 1], seed=0, loss="bce")
        model.fit(X, y, progress=False)
    assert model.predict(X).tolist() == [0, 1, 1, 0]
    assert model.predict_proba(X).shape == (4,)


# Scales ---------------------------------------------------------------------------------------------------


def told(X, y, layers=None, **options):
    """The one warning of a training."""
    layers = layers or [np.shape(X)[1], 100, 3]
    settings = {name: options.pop(name) for name in ("loss", "batch_norm") if name in options}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        MLP(layers, seed=0, **settings).fit(X, y, progress=False, **options)
    assert all(issubclass(w.category, TrainingWarning) and w.filename == __file__ for w in seen), [
        *map(str, seen)
    ]
    assert len(seen) <= 1
    return str(seen[0].message) if seen else ""


def told_first(X, y, layers=(6, 100, 3), loss="auto"):
    """Before a training that might diverge."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TrainingWarning) as raised:
            MLP(layers, loss=loss, seed=0).fit(X, y, progress=False)
    return str(raised.value)


def table(rng, rows=500, columns=6):
    return rng.standard_normal((rows, columns)), rng.integers(0, 3, rows)


def cured(text, **names):
    """The data after the line of code that a warning has."""
    line = re.search(r"numbers of about 1: (.*?)(, with this|, and model|; and (?=[Xy]:)|$)", text)[1]
    namespace = {"np": np, **names}
    exec(line, namespace)
    return namespace


def test_scaled_data_are_nothing_to_talk_about(rng):
    X, y = table(rng)
    one_hot = np.eye(40)[rng.integers(0, 40, 500)]
    words = np.where(rng.random((500, 300)) < 0.03, rng.random((500, 300)), 0)  # lengths of about 2
    for inputs in (X, X.astype("f4"), X + 3, 5 * X, X / 4, one_hot, words, digits()[0][:500], np.abs(X) > 1):
        assert told(inputs, y) == ""
    for targets in (X[:, 0], 5 + X[:, 0], 10 * X[:, 0], 0.1 * X[:, 0]):
        assert told(X, targets, [6, 100, 1]) == ""


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_pixels(dtype, rng):
    X = rng.integers(0, 256, (500, 100)).astype(dtype)
    text = told(X, rng.integers(0, 3, 500))
    assert re.match(
        r"X: column \d+ holds numbers of about 1\d\d, and 99 more of its 100 hold more than 30", text
    )
    assert "X = X / np.float32(255)" in text
    assert told(cured(text, X=X)["X"], rng.integers(0, 3, 500)) == ""


@pytest.mark.parametrize(
    "spoil, about", [(lambda c: 1e9 * c, r"[78]\.\d+e\+08"), (lambda c: c + 2000, "2e\\+03")]
)
def test_a_column(spoil, about, rng):
    X, y = table(rng)
    X[:, 4] = spoil(X[:, 4])
    text = told(X, y)
    assert re.match(f"X: column 4 holds numbers of about {about}, where", text), text
    assert told(cured(text, X=X)["X"], y) == ""


def test_a_constant_column_is_cured_too(rng):
    X, y = table(rng)
    X[:, 4] = 1e9
    X[:, 2] = 0
    scaled = cured(told(X, y), X=X)["X"]
    assert np.isfinite(scaled).all() and told(scaled, y) == ""


def test_lists_and_tables_with_names(rng):
    class Table:
        """As pandas has it."""

        columns = ["age", "income"]
        dtypes = None

        def __init__(self, array):
            self.array, self.shape = array, array.shape

        def to_numpy(self):
            return self.array

        def __array__(self, dtype=None, copy=None):
            return self.array

        def __len__(self):
            return len(self.array)

        def __getitem__(self, name):
            return self.array[:, self.columns.index(name)]

    X = rng.standard_normal((500, 2)) * [1, 5e4]
    y = rng.integers(0, 3, 500)
    named = pytest.importorskip("pandas").DataFrame(X, columns=["age", "income"])
    text = told(named, y)
    assert text.startswith("X: column 1 ('income') holds numbers of about ")
    assert told(cured(text, X=named)["X"], y) == ""
    text = told(X.tolist(), y)
    assert told(cured(text, X=X.tolist())["X"], y) == ""


def test_small_rows(rng):
    X, y = table(rng)
    text = told(0.01 * X, y)
    assert text.startswith("X: its rows have a length of about 0.02")
    assert told(cured(text, X=0.01 * X)["X"], y) == ""


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-7, 1e4, 1e9, 1e30])
def test_the_cure_works_for_any_scale(scale, dtype, rng):
    """Of all columns, one that does not vary and one of zeros too, and of targets."""
    if not 1e-8 < scale < 1e5 and dtype == "float16":
        pytest.skip("out of its range")
    X, y = table(rng)
    X[:, 4], X[:, 2] = 3, 0
    X = (scale * X).astype(dtype)
    text = told_first(X, y)
    assert text.startswith("X: ")
    scaled = cured(text, X=X)["X"]
    assert told(scaled, y) == ""
    np.testing.assert_allclose(scaled[:, [0, 1, 3, 5]].std(axis=0), 1, rtol=1e-2)
    targets = X[:, 0] + X[:, 1]
    text = told_first(scaled, targets, [6, 100, 1], loss="mse")
    assert text.startswith("y: holds numbers of about")
    names = cured(text, y=targets)
    assert told(scaled, names["y"], [6, 100, 1], loss="mse") == ""
    again = names["y"] * names["std"] + names["mean"]
    np.testing.assert_allclose(again, targets.astype(float), rtol=1e-2, atol=1e-2 * scale)


def test_a_tiny_column_beside_a_large_one_is_cured_too(rng):
    X, y = table(rng)
    X[:, 1] *= 1e-12
    X[:, 3] *= 1e9
    scaled = cured(told(X, y), X=X)["X"]
    np.testing.assert_allclose(scaled.std(axis=0), 1, rtol=1e-6)


# Nothing to learn from ------------------------------------------------------------------------------------


def test_rows_that_are_all_the_same(rng):
    X, y = table(rng)
    nothing = ", from which nothing can be learned"
    assert told(0 * X, y) == "X: holds nothing but 0" + nothing
    assert told(0 * X + X[0], y) == "X: all of its rows are the same" + nothing
    assert told(1e6 + 0 * X, y) == "X: all of its rows are the same" + nothing      # and no scale mends that
    assert told(X, np.full(500, 2)) == "y: is 2 for every sample, so that there is nothing to tell apart"
    assert told(X, np.full(500, 1e6), [6, 100, 1], loss="mse").startswith("y: is 1e+06 for every sample,")
    assert told(X, np.tile([0.5, 2], (500, 1)), [6, 100, 2], loss="mse").startswith("y: all of its rows are")
    text = told(0 * X, np.zeros(500, int))
    assert text.startswith("X: holds nothing but 0") and "; and y: is 0 for every sample" in text


def test_one_row_that_differs_is_enough(rng):
    """Wherever it is: a look at some rows may miss it."""
    X, y = table(rng)
    for place in (1, 257, 499):
        rare, labels = 0 * X, np.zeros(500, int)
        rare[place, 3], labels[place] = 1, 1
        assert "nothing" not in told(rare, y) and told(X, labels) == ""
        assert told(rare + 1, y) == ""
    weights = np.ones(500)
    weights[257] = 0
    rare[:] = 0
    rare[257, 3] = 1
    assert told(rare, y, sample_weight=weights).startswith("X: holds nothing but 0")


def test_few_rows_may_be_the_same():
    assert told(np.ones((9, 6)), np.ones(9, int), epochs=100) == ""


def test_sparse_rows_that_are_all_zero(rng):
    sp = pytest.importorskip("scipy.sparse")
    y = rng.integers(0, 3, 500)
    text = told(sp.csr_matrix((500, 2000)), y, epochs=300)
    assert text == "X: holds nothing but 0, from which nothing can be learned"
    X = sp.lil_matrix((500, 2000))
    X[499, 3] = 1
    assert "nothing but 0" not in told(X, y, epochs=300)


def test_sparse(rng):
    sp = pytest.importorskip("scipy.sparse")
    X = sp.random(500, 2000, density=0.05, format="csr", random_state=0)
    y = rng.integers(0, 3, 500)
    assert told(X, y) == ""
    spoilt = X.copy()
    spoilt.data[spoilt.indices == 7] = 1e9
    text = told(spoilt, y)
    assert text.startswith("X: column 7 holds numbers of about ")
    scaled = cured(text, X=spoilt)["X"]
    assert told(scaled, y) == ""
    largest = abs(sp.csr_matrix(scaled)).max(axis=0).toarray().ravel()      # of every column
    filled = np.asarray(abs(spoilt).sum(axis=0)).ravel() > 0
    np.testing.assert_allclose(largest, filled)


@pytest.mark.parametrize("kind", "csr_matrix csr_array csc_array coo_array lil_array dok_array".split())
def test_sparse_rows_of_any_format(kind, rng):
    """The line of code, as it is printed; columns of any scale, and one that is empty."""
    sp = pytest.importorskip("scipy.sparse")
    if not hasattr(sp, kind):
        pytest.skip("of a later SciPy")
    X = sp.random(500, 300, density=0.05, format="csr", random_state=0)
    X.data *= np.logspace(-12, 6, 300)[X.indices]
    X.data[X.indices == 9] = 0
    X = getattr(sp, kind)(X)
    y = rng.integers(0, 3, 500)
    assert told(cured(told(X, y), X=X)["X"], y) == ""


# Sources --------------------------------------------------------------------------------------------------


def source_of(X, y, **options):
    return data.Chunks([(X[i : i + 100], y[i : i + 100]) for i in range(0, len(X), 100)], **options)


def told_of(source, layers=(6, 100, 3), loss="auto", **options):
    return told(source, None, list(layers), loss=loss, **options)


@pytest.mark.parametrize("known", [True, False])
def test_a_source_is_looked_at(known, rng):
    X, y = table(rng)
    options = {"rows": 100} if known else {}
    assert told_of(source_of(X, y, **options)) == ""
    spoilt = X * [1, 1, 1, 1e6, 1, 1e-12]
    text = told_of(source_of(spoilt, y, **options))
    assert text.startswith("X: column 3 holds numbers of about ")
    assert told_of(source_of(spoilt, y, **options), check_scale=False) == ""
    scaled = cured(text, source=source_of(spoilt, y, **options))["source"]
    assert told_of(scaled) == ""
    np.testing.assert_allclose(scaled.statistics().std, 1, rtol=1e-5)


def test_targets_of_a_source_are_looked_at(rng):
    X, _ = table(rng)
    y = 1e5 + 3e4 * X[:, 0]
    text = told_of(source_of(X, y), (6, 100, 1))
    assert re.match(r"y: holds numbers of about (1e\+05|9\.\d+e\+04|1\.0\d*e\+05),", text)
    assert text.endswith("model.predict(X) * found.std + found.mean predicts y as it was")
    names = cured(text, source=source_of(X, y))
    assert told_of(names["source"], (6, 100, 1)) == ""
    (_, first), *_ = names["source"]
    np.testing.assert_allclose(first * names["found"].std + names["found"].mean, y[:100], rtol=1e-6)
    two = np.stack([X[:, 0], y], axis=1)
    assert told_of(source_of(X, two), (6, 100, 2), "mse").startswith("y: column 1 holds numbers of about")
    text = told_of(source_of(1e3 * X, y), (6, 100, 1))
    assert text.startswith("X: column ") and "; and y: holds numbers of about " in text


def test_names_of_columns_in_files(tmp_path, rng):
    X = rng.standard_normal((200, 3)) * [1, 1e5, 1]
    table = np.column_stack([X, X[:, 0] > 0])
    np.savetxt(tmp_path / "a.csv", table, delimiter=",", header="age,income,x,y", comments="")
    source = data.Files(tmp_path / "a.csv", "y", inputs=["x", "income"])
    text = told_of(source, (2, 100, 2), epochs=20)
    assert text.startswith("X: column 1 ('income') holds numbers of about ")
    assert source.input_names == ["x", "income"]
    assert told_of(cured(text, source=source)["source"], (2, 100, 2), epochs=20) == ""
    moved = data.Files(tmp_path / "a.csv", "y", transform=lambda X, y: (X[:, :2], y))
    assert moved.input_names is None
    assert told_of(moved, (2, 100, 2), epochs=20).startswith("X: column 1 holds")


def test_sources_that_cannot_be_scaled_as_they_are(rng):
    """Batches that come once, sparse blocks."""
    sp = pytest.importorskip("scipy.sparse")
    X, y = table(rng)
    hint = "numbers of about 1: divide X where the blocks are made, or in transform= of fastmlp.data.Chunks"
    batches = ((1e4 * X[i : i + 100], y[i : i + 100]) for i in range(0, 500, 100))
    assert hint in told_of(batches)
    blocks = [(sp.csr_matrix(1e4 * X[i : i + 100]), y[i : i + 100]) for i in range(0, 500, 100)]
    assert hint in told_of(data.Chunks(blocks))


def test_the_first_block_is_not_all(rng):
    """Sorted files: one class in the first block, small values."""
    X, _ = table(rng)
    y = np.sort(rng.integers(0, 3, 500))
    assert told_of(source_of(X, y)) == ""
    growing = np.linspace(0.02, 20, 500)
    assert told_of(source_of(X, growing), (6, 100, 1), shuffle=False) == ""
    constant = X.copy()
    constant[:100] = 1
    assert told_of(source_of(constant, y)) == ""


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_targets(loss, rng):
    X, _ = table(rng)
    prices = 2e5 + 5e4 * X[:, 0]
    text = told(X, prices, [6, 100, 1], loss=loss)
    assert re.match(r"y: holds numbers of about (2|1\.9\d|2\.0\d)e\+05, where", text)
    assert "model.predict(X) * std + mean" in text
    assert told(X, cured(text, y=prices)["y"], [6, 100, 1], loss=loss) == ""
    two = np.stack([X[:, 0], prices], axis=1)
    assert told(X, two, [6, 100, 2], loss=loss).startswith("y: column 1 holds numbers of about")
    assert told(X, 1e-4 * X[:, 0], [6, 100, 1], loss=loss).startswith("y: holds numbers of about 8")


def test_both(rng):
    X, _ = table(rng)
    text = told(1000 * X, 1000 * X[:, 0], [6, 100, 1])
    assert text.startswith("X: column ") and "; and y: holds numbers of about " in text


def test_what_takes_no_part_is_not_looked_at(rng):
    X, y = table(rng)
    weights = np.ones(500)
    weights[::2], X[::2] = 0, 1e9
    assert told(X, y, sample_weight=weights) == ""
    X[1] = np.nan
    with pytest.warns(RuntimeWarning, match="diverged"):
        MLP([6, 100, 3], seed=0).fit(X, y, progress=False, sample_weight=weights)


def test_batch_normalisation_has_its_own_scale(rng):
    X, y = table(rng)
    assert told(100 * X, y, batch_norm=True) == ""
    assert told(100 * X, y).startswith("X: ")


def test_no_look_without_need(rng, monkeypatch):
    """Not where it is not wanted, nor in a step, nor where it would take a share of the time."""
    X, y = table(rng)
    X = 1000 * X
    assert told(X, y, check_scale=False) == ""
    assert told(X, y, epochs=1, batch_size=500, optimizer=SGD(0.0)) == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MLP([6, 100, 3], seed=0).train_step(X, y, SGD(1e-9))

    def rows(samples, inputs, *of_training):
        return scales.rows_worth_a_look(np.broadcast_to(0.0, (samples, inputs)), *of_training)

    assert rows(60_000, 784, 80_000, 4690, 10) > 10 and rows(32, 20, 700, 1, 1) == 0
    for inputs in (1, 20, 50_000):
        for samples in (1, 10, 10**4, 10**7):
            assert 0 <= rows(samples, inputs, 50 * inputs, 1000, 10) <= min(samples, scales.ROWS)


def test_an_error_in_place_of_the_warning_changes_nothing(rng):
    X, y = table(rng)
    model = MLP([6, 100, 3], seed=0)
    before = model.weights[0].copy()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(TrainingWarning):
            model.fit(1000 * X, y, progress=False)
    np.testing.assert_array_equal(model.weights[0], before)
    assert told(X, y) == ""


# Guessing -------------------------------------------------------------------------------------------------


def test_first_epoch_far_worse_than_guessing(rng):
    X, y = table(rng)
    text = told(X, y, epochs=100, batch_size=10, optimizer=Adam(3.0))
    assert re.match(
        r"the loss of epoch 1 is [\d.e+]+, far worse than guessing: an output of 0 for every sample has "
        r"1.1; try a lower",
        text,
    )
    text = told(X, X[:, 0], [6, 100, 1], epochs=100, batch_size=1, optimizer=Adam(0.3))
    assert "far worse than guessing" in text
    assert told(X, y, epochs=100, batch_size=10, optimizer=SGD(0.1)) == ""


@pytest.mark.parametrize(
    "loss, y, expected",
    [
        ("cross_entropy", lambda rng: rng.integers(0, 3, 300), np.log(3)),
        ("multiclass_hinge", lambda rng: rng.integers(0, 3, 300), 1.0),
        ("binary_cross_entropy", lambda rng: rng.integers(0, 2, (300, 3)), np.log(2)),
        ("hinge", lambda rng: 2 * rng.integers(0, 2, (300, 3)) - 1, 1.0),
        ("mse", lambda rng: np.repeat([[1.0, 2, 3], [3.0, 2, 1]], 150, axis=0), 14 / 3),
        ("mae", lambda rng: np.repeat([[1.0, 2, 3], [3.0, 2, 1]], 150, axis=0), 2),
        ("poisson", lambda rng: np.repeat([[1.0, 2, 3], [3.0, 2, 1]], 150, axis=0), 1),
    ],
)
def test_loss_of_guessing(loss, y, expected, backend, rng):
    from fastmlp._core.network import Samples

    y = y(rng)
    X = rng.standard_normal((300, 6))
    model = MLP([6, 3], loss=loss, seed=0)
    targets, _ = losses.targets_and_weights(model.loss, "y", y, 300, 3, model.dtype)
    assert scales.look(model, Samples(X, targets), 256, X, y) == pytest.approx(expected, rel=0.02)


def test_losses_of_ones_own_are_not_guessed(rng):
    X, _ = table(rng)
    t = X[:, :1]
    assert (
        told(1000 * X, t, [6, 100, 1], loss=lambda z, t: (float(((z - t) ** 2).mean()), 2 * (z - t) / z.size))
        == ""
    )


def test_sizes_of_numbers_that_are_not_finite_or_nearly():
    sizes, length = scales._sizes(np.array([[1.0, 1e300], [3.0, -1e300], [np.nan, 1], [np.inf, 1]]))
    assert sizes.tolist() == [2, 1e300] and length == np.inf
    assert scales._sizes(np.full((2, 1), np.nan))[0].tolist() == [0]
    for dtype in ("bool", "uint8", "int64", "float16", "longdouble"):
        assert scales._sizes(np.ones((3, 2), dtype))[0].tolist() == [1, 1]


def test_sample_of_sparse_rows():
    rows = SparseRows(np.array([1.0, -3.0, np.inf]), np.array([0, 2, 1]), np.array([0, 1, 2, 3]), 3)
    sizes, length = scales._sizes_of_sparse(rows)
    np.testing.assert_allclose(sizes, [1 / 3, 0, 1])
    assert length == pytest.approx((10 / 3) ** 0.5)


def test_workspace_of_the_default_optimizer():
    model = MLP([784, 100, 10], seed=0)
    assert (
        model.workspace_nbytes(64)
        == model.workspace_nbytes(64, AdamW())
        > model.workspace_nbytes(64, SGD(0.1))
    )
