"""Tables of pandas, polars and pyarrow as arrays of numbers; known by their methods, none is imported.

Columns of booleans, integers and floats (nullable ones too, where nothing is missing) are numbers, in the
smallest dtype that holds all of them. For anything else the error names the column, and a line that mends it.
NaN in a column of floats is a number like any other, as it is in an array.
"""
from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from fastmlp._core.types import Array

__all__ = ["CATEGORIES", "column", "is_column", "is_frame", "labels", "table"]

CATEGORIES = ("category", "Categorical", "Enum", "dictionary")      # how the names of their dtypes begin


def is_frame(value: Any) -> bool:
    """Whether this is a table with named columns.

    >>> is_frame(np.ones((2, 2)))
    False
    """
    return hasattr(value, "column_names") or (
        hasattr(value, "columns") and hasattr(value, "dtypes") and hasattr(value, "to_numpy"))


def is_column(value: Any) -> bool:
    """Whether this is one column of a table: it can say what is missing.

    >>> is_column(np.ones(2))
    False
    """
    return hasattr(value, "to_numpy") and (hasattr(value, "isna") or hasattr(value, "null_count"))


def labels(frame: Any) -> list[Any]:
    """The names of its columns."""
    return list(frame.column_names if hasattr(frame, "column_names") else frame.columns)


def table(name: str, frame: Any) -> Array:
    """A frame as an array (rows, columns). Raises TypeError for a column that is not of numbers, ValueError
    for one with missing values, naming both."""
    columns = [(label, series, _numbers(name, series, label)) for label, series in _columns(frame)]
    if not columns:
        return np.empty((len(frame), 0))
    arrays = [array for _, _, array in columns]
    dtype = np.result_type(*arrays)
    if all(array.dtype == dtype for array in arrays):
        whole = np.asarray(frame)           # often without a copy
        if whole.dtype == dtype and whole.ndim == 2:
            return whole
    result = np.empty((len(arrays[0]), len(arrays)), dtype)
    for j, array in enumerate(arrays):
        result[:, j] = array
    return result


def column(name: str, series: Any) -> Array:
    """A column as an array (rows,); raises as `table` does."""
    return _numbers(name, series, None)


def _columns(frame: Any) -> list[tuple[Any, Any]]:
    """Labels and columns. Labels may occur twice, so that they do not find every column."""
    if hasattr(frame, "column_names"):
        return list(zip(frame.column_names, frame.columns))
    if hasattr(frame, "iloc"):
        return [(label, frame.iloc[:, j]) for j, label in enumerate(frame.columns)]
    if hasattr(frame, "get_columns"):
        return list(zip(frame.columns, frame.get_columns()))
    return [(label, frame[label]) for label in frame.columns]


def _numbers(name: str, series: Any, label: Any) -> Array:
    kind = str(getattr(series, "dtype", None) or getattr(series, "type", ""))
    missing = _missing(series)
    if missing.any():
        raise ValueError(
            f"{name}: expected numbers, got missing values ({missing.sum()}) in {_where(label)}, the first "
            f"in row {missing.argmax()}; fill them: {_fix('missing', name, series, label)}")
    array = np.asarray(series) if not kind.startswith(CATEGORIES) else np.empty(0, object)
    if array.dtype.kind == "O" and (plain := _plain_dtype(kind)):
        array = series.to_numpy(dtype=plain)            # nullable, and nothing is missing
    if array.dtype.kind not in "biuf":
        what = ("categories" if kind.startswith(CATEGORIES) else
                {"M": "dates", "m": "durations"}.get(array.dtype.kind, "other"))
        raise TypeError(f"{name}: expected numbers, got dtype {kind} in {_where(label)}; convert it: "
                        f"{_fix(what, name, series, label)}")
    return array


def _where(label: Any) -> str:
    return "the column" if label is None else f"column {label!r}"


def _missing(series: Any) -> Array:
    """Where a value is missing, (rows,): NaN in a plain column of floats is not."""
    if hasattr(series, "isna"):
        if isinstance(getattr(series, "dtype", None), np.dtype) and series.dtype.kind in "biuf":
            return np.zeros(1, bool)
        return np.asarray(series.isna(), bool)
    count = series.null_count() if callable(series.null_count) else series.null_count
    return np.asarray(series.is_null(), bool) if count else np.zeros(1, bool)


def _plain_dtype(kind: str) -> str | None:
    """NumPy's name of a nullable dtype of numbers.

    >>> _plain_dtype("Int64"), _plain_dtype("boolean"), _plain_dtype("double[pyarrow]"), _plain_dtype("str")
    ('int64', 'bool', 'float64', None)
    """
    kind = kind.lower().removesuffix("[pyarrow]")
    kind = {"boolean": "bool", "double": "float64", "float": "float32"}.get(kind, kind)
    return kind if re.fullmatch("bool|u?int(8|16|32|64)|float(16|32|64)", kind) else None


def _fix(what: str, name: str, series: Any, label: Any) -> str:
    """A line of code that makes numbers of the column, in the words of its library; or two, for texts."""
    if hasattr(series, "isna"):
        codes, line = _pandas(f"{name}[{label!r}]" if label is not None else name)
    elif callable(series.null_count):
        codes, line = _polars(name, label)
    else:
        codes, line = _pyarrow(name, label)
    return " or, for words, ".join(line.format(code) for code in codes[what])


def _pandas(x: str) -> tuple[dict[str, list[str]], str]:
    return {
        "missing": [f"{x}.fillna(0)"],
        "categories": [f"{x}.cat.codes"],
        "dates": [f"({x} - {x}.min()).dt.days"],
        "durations": [f"{x}.dt.total_seconds()"],
        "other": [f"{x}.astype(float)", f"{x}.astype('category').cat.codes"],
    }, x + " = {}"


def _polars(name: str, label: Any) -> tuple[dict[str, list[str]], str]:
    x = name if label is None else f"pl.col({label!r})"
    return {
        "missing": [f"{x}.fill_null(0)"],
        "categories": [f"{x}.to_physical()"],
        "dates": [f"({x} - {x}.min()).dt.total_days()"],
        "durations": [f"{x}.dt.total_seconds()"],
        "other": [f"{x}.cast(pl.Float64)", f"{x}.cast(pl.Categorical).to_physical()"],
    }, name + (" = {}" if label is None else f" = {name}.with_columns({{}})")


def _pyarrow(name: str, label: Any) -> tuple[dict[str, list[str]], str]:
    x = name if label is None else f"{name}[{label!r}]"
    place = f"{name}.column_names.index({label!r}), {label!r}"
    return {
        "missing": [f"pc.fill_null({x}, 0)"],
        "categories": [f"{x}.combine_chunks().indices"],
        "dates": [f"pc.days_between(pc.min({x}), {x})"],
        "durations": [f"pc.cast({x}, 'int64')"],
        "other": [f"pc.cast({x}, 'float64')", f"pc.dictionary_encode({x}).combine_chunks().indices"],
    }, name + (" = {}" if label is None else f" = {name}.set_column({place}, {{}})")
