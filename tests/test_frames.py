"""Tables of pandas, polars and pyarrow in the place of arrays; and a stand-in, for where there is none."""
from __future__ import annotations

import datetime
from importlib import import_module

import numpy as np
import pytest
from conftest import assert_learned
from numpy.testing import assert_array_equal

from fastmlp import MLP, metrics
from fastmlp import functional as F
from fastmlp._core import checks

pytestmark = pytest.mark.any_isa

ROWS = {"a": [True, False, True], "b": [1, 2, 3], "c": [0.5, -1.0, 2.0]}
MIXED = np.array([[1, 1, 0.5], [0, 2, -1.0], [1, 3, 2.0]])


class Column:
    """The least that a column of pandas can do. None is missing; nullable columns have a dtype of their own,
    and convert to objects."""

    def __init__(self, values, dtype=None):
        self.values = list(values)
        self.dtype = dtype or np.asarray(self.values).dtype

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype or (self.dtype if isinstance(self.dtype, np.dtype) else object))

    def to_numpy(self, dtype):
        return np.array(self.values, dtype)

    def isna(self):
        return [value is None for value in self.values]

    def __len__(self):
        return len(self.values)


class Frame:
    """The least that a table can do."""

    def __init__(self, columns):
        self._columns = {name: c if isinstance(c, Column) else Column(c) for name, c in columns.items()}
        self.columns = list(columns)

    @property
    def dtypes(self):
        return [column.dtype for column in self._columns.values()]

    def __getitem__(self, name):
        return self._columns[name]

    def __len__(self):
        return max(map(len, self._columns.values()), default=0)

    def __array__(self, dtype=None, copy=None):
        return np.array([c.values for c in self._columns.values()], object).T.astype(dtype or object)

    def to_numpy(self, dtype=None):
        return self.__array__(dtype)


def pandas(rows):
    return import_module("pandas").DataFrame(rows)


def polars(rows):
    return import_module("polars").DataFrame(rows)


def pyarrow(rows):
    return import_module("pyarrow").table(rows)


LIBRARIES = {"stand-in": Frame, "pandas": pandas, "polars": polars, "pyarrow": pyarrow}


@pytest.fixture(params=LIBRARIES)
def frame(request):
    """A function that makes a table of a dict of columns."""
    if request.param != "stand-in":
        pytest.importorskip(request.param)
    return LIBRARIES[request.param]


# Numbers ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("names, dtype", [
    ("abc", float), ("ab", int), ("a", bool), ("bc", float), ("c", float), ("ba", int)])
def test_columns_of_numbers(frame, names, dtype):
    array = checks.as_array("X", frame({name: ROWS[name] for name in names}))
    expected = MIXED[:, ["abc".index(name) for name in names]]
    assert array.dtype == dtype and type(array) is np.ndarray
    assert_array_equal(array, expected)
    for name in names:
        column = checks.as_array("y", frame(ROWS)[name])
        assert column.dtype == np.asarray(ROWS[name]).dtype
        assert_array_equal(column, ROWS[name])


def test_dtypes_are_kept(frame):
    for one, other in (("float32", "float32"), ("float32", "bool"), ("uint8", "int8"), ("float32", "int64")):
        rows = {"x": np.array([1, 0, 1], one), "y": np.array([0, 1, 1], other)}
        array = checks.as_array("X", frame(rows))
        assert array.dtype == np.result_type(one, other)
        assert_array_equal(array, np.stack([*rows.values()], axis=1))


def test_a_frame_is_as_good_as_its_array(frame, backend, dtype):
    """In every call that takes one: as X, y, sample_weight and validation data."""
    X, y = frame(ROWS), [0, 1, 1]
    labels, values = frame({"y": y}), frame({"v": [0.5, 1.5, 0.0]})
    weights = frame({"w": [1.0, 2.0, 0.5]})["w"]
    plain_weights = np.array([1, 2, 0.5])
    one, other = (MLP([3, 4, 2], dtype=dtype, seed=0) for _ in range(2))
    for method in ("forward", "predict", "predict_proba"):
        assert_learned(getattr(one, method)(X), getattr(one, method)(MIXED))
    for targets in (labels, labels["y"]):
        a = one.fit(X, targets, epochs=2, sample_weight=weights, validation_data=(X, targets, weights),
                    metrics="accuracy", progress=False)
        b = other.fit(MIXED, np.array(y), epochs=2, sample_weight=plain_weights, metrics="accuracy",
                      validation_data=(MIXED, np.array(y), plain_weights), progress=False)
        for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
            assert a[name] == pytest.approx(b[name], rel=1e-6)
        assert one.evaluate(X, targets, sample_weight=weights) == pytest.approx(
            other.evaluate(MIXED, y, sample_weight=plain_weights), rel=1e-6)
        assert one.loss_and_gradients(X, targets)[0] == pytest.approx(other.loss_and_gradients(MIXED, y)[0])
    model = MLP([3, 1], loss="mean_squared_error", dtype=dtype, seed=0)
    for targets in (values, values["v"]):
        assert model.evaluate(X, targets) == pytest.approx(model.evaluate(MIXED, [0.5, 1.5, 0.0]))
    assert metrics.r2(values, values["v"]) == 1.0
    assert_array_equal(F.relu(frame({"x": [-1.0, 2.0]})), [[0], [2]])


def test_nullable_columns():
    whole = Frame({"a": Column([True, False], "boolean"), "b": Column([1, 2], "Int64"),
                   "c": Column([0.5, 1], "Float64"), "d": Column([1.5, 2], "double[pyarrow]"),
                   "e": Column([1, 2], "uint8[pyarrow]")})
    assert_array_equal(checks.as_array("X", whole), [[1, 1, 0.5, 1.5, 1], [0, 2, 1, 2, 2]])
    assert [checks.as_array("y", whole[c]).dtype.name for c in "abcde"] == [
        "bool", "int64", "float64", "float64", "uint8"]
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(ROWS)
    for converted in (frame, frame.astype("Float64"), frame.astype({"b": "Int64"}), frame.convert_dtypes(),
                      frame.astype({"a": "boolean", "b": "UInt8", "c": "Float32"})):
        assert_array_equal(checks.as_array("X", converted), MIXED)
    assert checks.as_array("y", frame["b"].astype("Int64")).dtype == np.int64
    twice = frame[["c", "c"]]                   # a label may occur twice
    assert_array_equal(checks.as_array("X", twice), MIXED[:, [2, 2]])
    assert np.shares_memory(checks.as_array("X", frame[["c"]]), frame[["c"]].to_numpy())


def test_nan_in_a_column_of_floats_is_a_number(frame):
    rows = {"a": [1, 2], "b": np.array([np.nan, 1.0])}
    assert_array_equal(checks.as_array("X", frame(rows)), [[1, np.nan], [2, 1]])


# Anything else ---------------------------------------------------------------------------------------------

DAY = datetime.datetime(2024, 5, 1)
OTHERS = {
    "words": ["x", "y", "x"], "dates": [DAY, DAY, DAY + datetime.timedelta(2)],
    "durations": [datetime.timedelta(n) for n in range(3)],
}
FIXED = {"words": [0, 1, 0], "dates": [0, 0, 2], "durations": [0, 86400, 2 * 86400], "missing": [1, 2, 0],
         "categories": [0, 1, 0]}


def bad_column(library, kind):
    """A table with a column "bad"."""
    if kind not in ("missing", "categories"):
        return LIBRARIES[library]({"a": [1.0, 2.0, 3.0], "bad": OTHERS[kind]})
    if library == "stand-in":
        bad = Column([1, 2, None], "Int64") if kind == "missing" else Column("xyx", "category")
        return Frame({"a": [1.0, 2.0, 3.0], "bad": bad})
    words = kind == "categories"
    table = LIBRARIES[library]({"a": [1.0, 2.0, 3.0], "bad": OTHERS["words"] if words else [1, 2, None]})
    if library == "pandas":
        return table.astype({"bad": "category" if words else "Int64"})
    if library == "polars" and words:
        pl = import_module("polars")
        return table.with_columns(pl.col("bad").cast(pl.Categorical))
    return table.set_column(1, "bad", table["bad"].dictionary_encode()) if words else table


@pytest.mark.parametrize("kind", FIXED)
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_error_names_the_column_and_the_fix(library, kind):
    """And the line of code does mend it."""
    if library != "stand-in":
        pytest.importorskip(library)
    table = bad_column(library, kind)
    model = MLP([2, 3], seed=0)
    error = ValueError if kind == "missing" else TypeError
    for name, value, call in (
            ("X", table, lambda X: model.forward(X)),
            ("X", table, lambda X: model.fit(X, [0, 1, 2], progress=False)),
            ("validation_data X", table,
             lambda X: model.fit(np.eye(2), [0, 1], validation_data=(X, [0, 1, 2]), progress=False)),
            ("y", table["bad"], lambda y: model.fit(np.ones((3, 2)), y, progress=False)),
            ("sample_weight", table["bad"],
             lambda w: model.fit(np.ones((3, 2)), [0, 1, 2], sample_weight=w, progress=False))):
        with pytest.raises(error, match=f"^{name}: expected numbers, got ") as raised:
            call(value)
        message = str(raised.value)
        assert ("column 'bad'" if value is table else "the column") in message
        if kind == "missing":
            assert "missing values (1)" in message and "row 2" in message
        if library == "stand-in":
            assert f"{name}['bad'] = " in message or f"{name} = " in message
    for name, value in (("X", table), ("y", table["bad"])):
        with pytest.raises(error) as raised:
            checks.as_array(name, value)
        if library == "stand-in":
            continue
        fix = str(raised.value).partition(" it: " if kind != "missing" else " them: ")[2]
        assert "\n" not in fix
        fix = fix.split(" or, for words, ")[-1]
        names = {name: value.copy() if library == "pandas" else value}
        if library == "polars":
            names["pl"] = import_module("polars")
        if library == "pyarrow":
            names["pc"] = import_module("pyarrow.compute")
        exec(fix, names)
        fixed = checks.as_array(name, names[name])
        unit = 10**6 if (library, kind) == ("pyarrow", "durations") else 1      # microseconds
        assert_array_equal(fixed if name == "y" else fixed[:, 1], unit * np.array(FIXED[kind]))


def test_words_as_labels_of_a_metric(frame):
    """They need not be numbers to be equal."""
    table = frame({"y": ["a", "b", "b"], "z": ["a", "b", "a"]})
    assert metrics.accuracy(table["y"], table["z"]) == pytest.approx(2 / 3)


def test_other_objects_are_no_frames():
    class Odd:
        columns = property(lambda self: 1 / 0)

    for value in ([[1.0, 2]], (1, 2), np.ones(2), 7, None, "text", {"a": 1}):
        assert_array_equal(checks.as_array("x", value), np.asarray(value))
    assert checks.as_array("x", [np.float32(1)]).dtype == np.float32
