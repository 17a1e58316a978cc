"""Answers to users who hand other things to what takes arrays: loaders, lists of (X, y), functions that
yield, paths of files."""
from __future__ import annotations

import inspect
import os
from typing import Any

from fastmlp._core import names

__all__ = ["answer"]


def answer(name: str, value: Any) -> str:
    """What came, and what to write, to end an error with; nothing for what is none of these.

    >>> answer("X", [1, 2])
    ''
    """
    kind, wrapped = _kind(value), f"fastmlp.data.Chunks({name})"
    if value is None:
        return ", got None"
    if kind == "path":
        return (f", got the path {os.fsdecode(value)!r}; what is in it is read by numpy.load, "
                f"pandas.read_csv and the like, or by fastmlp.data.Files({name}, target)")
    if kind == "source":
        return f", got {type(value).__name__}, a source, which fit, evaluate and predict take"
    if kind == "pair":
        return f", got (X, y) in one; write them as two arguments, {name}[0], {name}[1]"
    if kind == "dataset":
        what = "that gives one sample at a time"
        wrapped = f"fastmlp.data.Chunks(torch.utils.data.DataLoader({name}, batch_size=256))"
    elif kind == "function":
        what = "which is called for its batches"
    elif kind == "batches":
        what = "of batches (X, y)"
    elif kind == "iterable":
        what = "that gives batches (X, y)"
        if hasattr(value, "as_numpy_iterator"):
            wrapped = f"fastmlp.data.Chunks({name}.as_numpy_iterator)"
    else:
        return ""
    got = "a function" if kind == "function" else f"a {type(value).__name__}"
    return f", got {got}; if it is one {what}, fit, evaluate and predict take {wrapped}"


def _kind(value: Any) -> str:
    if hasattr(value, "parts") and hasattr(value, "statistics"):
        return "source"
    if isinstance(value, (str, bytes, os.PathLike)):
        return "path"
    if inspect.isroutine(value):
        return "function"
    if isinstance(value, (list, tuple)):
        if value and all(map(_is_batch, value)):
            return "batches"
        return "pair" if _is_batch(value) else ""
    if hasattr(value, "__array__") or isinstance(value, dict):
        return ""
    if hasattr(value, "__iter__"):
        return "iterable"
    return "dataset" if names.library_of(value) == "torch" and hasattr(value, "__getitem__") else ""


def _is_batch(value: Any) -> bool:
    """Whether this is (X, y) or (X, y, weight), with the rows of a table in X."""
    if not isinstance(value, (list, tuple)) or len(value) not in (2, 3) or getattr(value[0], "ndim", 0) < 2:
        return False
    shape = getattr(value[1], "shape", None)
    rows = shape[:1] if shape is not None else (len(value[1]),) if isinstance(value[1], (list, tuple)) else ()
    return tuple(rows) == tuple(value[0].shape[:1])     # not len, which sparse arrays have not
