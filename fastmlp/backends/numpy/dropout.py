"""Dropout's random numbers: a hash of what they are for, as in fastmlp/kernels/dropout.pxi."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ._common import quiet

if TYPE_CHECKING:
    from fastmlp._core.types import Array


@quiet
def dropout_mask(rate: float, seed: int, step: int, layer: int, rows: int, units: int, dtype: np.dtype[Any]
                 ) -> Array:
    """(rows, units): 1 / (1 - rate) where a unit is kept, 0 where it is dropped, with probability `rate`."""
    key = _mix64(_mix64(_mix64(np.uint64(seed)) + np.uint64(step)) + np.uint64(layer))
    key = _mix64(key + np.arange(rows, dtype=np.uint64))[:, None]
    low, high = key.astype(np.uint32), (key >> np.uint64(32)).astype(np.uint32)
    h = low + np.arange(units, dtype=np.uint32) * np.uint32(0x9E3779B9)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13)) ^ high) * np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    return np.where(h < np.uint32(rate * 2**32), 0, 1 / (1 - rate)).astype(dtype)


def _mix64(x: Any) -> Any:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
