"""Checksums by which data are known again, cheap beside a pass over them; the same for the same numbers in
another dtype, or dense and sparse."""
from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core.sources import SparseRows

if TYPE_CHECKING:
    from fastmlp._core.sources import Rows

__all__ = ["of_all", "of_rows"]

ROWS = 64               # that are looked at
NUMBERS = 1 << 22       # that may be in them, if there are many columns
PIECE = 1 << 16         # rows at a time


def of_rows(X: Rows) -> str:
    """Of some rows, spread evenly over all: of what is not zero in them, and where that is.

    >>> of_rows(np.eye(3)) == of_rows(np.eye(3, dtype=bool)) != of_rows(np.eye(3)[::-1])
    True
    """
    columns = X.shape[1]
    rows = np.linspace(0, len(X) - 1, min(len(X), ROWS, max(1, NUMBERS // max(columns, 1)))).astype(np.int64)
    some = X[rows]
    if isinstance(some, SparseRows):
        numbers = np.asarray(some.data, "<f8")
        places = np.repeat(np.arange(len(some)), np.diff(some.indptr)) * columns + some.indices
    else:
        numbers = np.ascontiguousarray(some, "<f8").reshape(-1)
        places = np.arange(len(numbers))
    there = numbers != 0
    return _text(zlib.crc32(places[there].astype("<i8").tobytes(), zlib.crc32(numbers[there].tobytes())))


def of_all(array: Any) -> str | None:
    """Of all numbers of an array; None of one that has others than numbers.

    >>> of_all(np.arange(3)) == of_all(np.arange(3.0)) != of_all(np.ones(3))
    True
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        return None
    result = 0
    for start in range(0, len(array) if array.ndim else 0, PIECE):
        result = zlib.crc32(np.ascontiguousarray(array[start:start + PIECE], "<f8").tobytes(), result)
    return _text(result)


def _text(number: int) -> str:
    return f"checksum {number:08x}"
