"""What the functions of the specification share."""
from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

if TYPE_CHECKING:
    from fastmlp._core.types import Array

P = ParamSpec("P")
R = TypeVar("R")


def quiet(function: Callable[P, R]) -> Callable[P, R]:
    """No warnings about overflow, invalid values and the like."""
    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)
    return call


CHUNK = 4096                    # rows, see sum_rows


def sum_rows(a: Array) -> Array:
    """Sums over the rows, chunk by chunk: one running sum, as NumPy's over the first axis is, loses its small
    terms where there are many."""
    first: Array = a[:CHUNK].sum(axis=0)
    return sum((a[start:start + CHUNK].sum(axis=0) for start in range(CHUNK, len(a), CHUNK)), start=first)


def or_new(out: Array | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    return np.empty(shape, dtype) if out is None else out


def assign(out: Array | None, result: Array) -> Array:
    if out is None:
        return result
    out[...] = result
    return out
