"""The kernel modules of the active instruction set, and which arguments they take as they are."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastmlp.activations import BY_NAME, resolve
from fastmlp.kernels import module
from fastmlp.optimizers import adam_rates

Array = np.ndarray
KERNELS = {"f": module("float32"), "d": module("float64")}
SHORT = KERNELS["f"]        # short ways in, written in C: float32 first, then float64
_CODES = {name: (cls.code, cls().alpha) for name, cls in BY_NAME.items()}
KERNELS["f"].introduce(np.ndarray, np.dtype("float32"), np.empty, resolve, _CODES, adam_rates, KERNELS["d"])
KERNELS["d"].introduce(np.ndarray, np.dtype("float64"), np.empty, resolve, _CODES, adam_rates, None)
DECLINE = (TypeError, ValueError, AttributeError, KeyError, IndexError, BufferError, OverflowError)


def plain(*arrays: Any) -> bool:
    """NumPy arrays proper: a masked array would lose its mask. The memoryviews judge dtype and layout."""
    for array in arrays:
        if type(array) is not Array:
            return False
    return True


def contiguous(*arrays: Any) -> bool:
    return all(array.flags.c_contiguous for array in arrays)


def numbers(*values: Any) -> bool:
    return all(type(value) in (float, int) for value in values)


def slope(alpha: Any) -> bool:
    return numbers(alpha) and 0 <= alpha < math.inf
