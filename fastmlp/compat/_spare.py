"""Memory of large arrays, given out again once nobody holds them: new memory can cost more than its use.

A program that keeps a gradient sees no other one written into it, since what it holds is not given out."""
from __future__ import annotations

import sys
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LEAST_NBYTES = 2**20        # what is freed of smaller ones is still in the cache when it is allocated again
MOST_KEPT = 2               # the one that a training loop holds, and the next


def _references(arrays: list[Array], i: int) -> int:
    return sys.getrefcount(arrays[i])


_IN_A_LIST_ALONE = _references([np.empty(1)], 0)


class Spare:
    """Up to two arrays of one shape and dtype."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """An array with any contents that nobody else holds, nor a view of it."""
        arrays = self.arrays
        if arrays and (arrays[0].shape != shape or arrays[0].dtype != dtype):
            arrays.clear()
        for i in range(len(arrays)):
            if _references(arrays, i) == _IN_A_LIST_ALONE:
                return arrays[i]
        array = np.empty(shape, dtype)
        if array.nbytes >= LEAST_NBYTES:
            del arrays[:len(arrays) + 1 - MOST_KEPT]
            arrays.append(array)
        return array

    def copy_of(self, array: Array) -> Array:
        """A copy of `array`."""
        copy = self.take(array.shape, array.dtype)
        np.copyto(copy, array)
        return copy

    def __reduce__(self) -> tuple[type[Spare], tuple[()]]:
        """Copies and pickles start without arrays."""
        return Spare, ()
