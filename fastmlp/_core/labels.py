"""Class labels as users have them: integers, booleans, floats with whole values, words."""
from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._core import checks, frames

__all__ = ["class_indices", "cure", "label_array"]

WHOLE = 2.0**53             # floats up to here hold every integer


def label_array(name: str, y: Any) -> NDArray[Any]:
    """Labels as an array. Raises TypeError for words and categories, with a line that makes indices of them.
    """
    if y is None:
        raise TypeError(f"{name}: expected class indices or values, got None")
    column = frames.is_column(y) or frames.is_frame(y)
    try:
        array = checks.as_array(name, y)
        if array.dtype.kind not in "OSTU":
            return array
    except TypeError:
        if not column:
            raise
        array = np.asarray(y)
        kind = str(getattr(y, "dtype", None) or getattr(y, "type", ""))
        words = array.size > 0 and isinstance(array.flat[0], str)
        if not (words or kind.startswith(frames.CATEGORIES)):
            raise
    numbers = _of_numbers(array)
    if numbers and not column:
        raise TypeError(f"{name}: expected numbers, got dtype object, whose elements are numbers; write "
                        f"{name} = {name}.astype({numbers})")
    got = {"O": "objects", "S": "bytes"}.get(array.dtype.kind, "words")
    if column:
        got = "categories in the column," if numbers else "categories or words in the column,"
    example = f" such as {array.reshape(-1)[:1].tolist()[0]!r}" if array.size else ""
    plain = f"{name} = {name}.astype({numbers}) takes their numbers as they are, and " if numbers else ""
    raise TypeError(
        f"{name}: expected numbers, got {got}{example}; {plain}classes, {name} = np.unique({name}, "
        "return_inverse=True) makes class indices of them, and classes[i] is the name of class i; "
        "fastmlp.sklearn.MLPClassifier takes words as they are")


def cure(name: str, labels: NDArray[Any], classes: int) -> str:
    """What to write for integers that are no indices of so many classes, where they may be labels of them.

    >>> cure("y", np.array([-1, 1, 1]), 3), cure("y", np.array([0, 5, 7, 9]), 3)
    ('; classes, y = np.unique(y, return_inverse=True) makes class indices of them', '')
    """
    found = np.unique(labels)
    if len(found) > classes:
        return ""
    line = f"; classes, {name} = np.unique({name}, return_inverse=True) makes class indices of them"
    if classes == 2 and found.tolist() == [-1, 1]:
        line += "; for labels -1 and +1 there is loss='hinge' with one output"
    return line


def _of_numbers(array: NDArray[Any]) -> str:
    """The type that holds the elements of an array, where all are numbers: "int", "float" or nothing."""
    values = array.reshape(-1).tolist() if array.dtype.kind in "Obiuf" else []
    if not values or not all(isinstance(value, Real) for value in values):
        return ""
    return "int" if all(isinstance(value, Integral) for value in values) else "float"


def class_indices(name: str, y: Any) -> NDArray[Any]:
    """Labels (rows,) or (rows, 1) as integers, where booleans or floats stand for them; others as they are.

    >>> class_indices("y", [True, False]), class_indices("y", [2.0, 0.0])
    (array([1, 0]), array([2, 0]))
    """
    array = label_array(name, y)
    if array.dtype.kind == "b":
        return array.astype(np.intp)
    if array.dtype.kind != "f" or not (array.ndim == 1 or array.ndim == 2 and array.shape[1] == 1):
        return array
    values = array.astype(np.float64, copy=False)
    whole = (values == np.rint(values)) & (abs(values) < WHOLE)
    if not whole.all():
        place = tuple(np.argwhere(~whole)[0])
        raise ValueError(
            f"{name}: expected class indices, whole numbers from 0 up, got {array[place]} in row {place[0]}; "
            "for real values: loss='mean_squared_error'")
    return array.astype(np.intp)
