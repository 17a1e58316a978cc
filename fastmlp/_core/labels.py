"""Class labels as users have them: integers, booleans, floats with whole values, words."""
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._core import checks, frames

__all__ = ["class_indices", "label_array"]

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
    got = {"O": "objects", "S": "bytes"}.get(array.dtype.kind, "words")
    got = "categories or words in the column," if column else got
    example = f" such as {array.reshape(-1)[:1].tolist()[0]!r}" if array.size else ""
    raise TypeError(
        f"{name}: expected numbers, got {got}{example}; classes, {name} = np.unique({name}, "
        "return_inverse=True) makes class indices of them, and classes[i] is the name of class i; "
        "fastmlp.sklearn.MLPClassifier takes words as they are")


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
