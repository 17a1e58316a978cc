"""Whether arrays hold finite numbers, in one pass that allocates nothing and starts no threads of a BLAS."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["all_finite", "has_nan"]

FEW = 8192          # numbers whose squares a BLAS sums in the calling thread


def all_finite(*arrays: NDArray[Any]) -> bool:
    """Whether all elements are finite numbers.

    >>> [all_finite(np.array(values)) for values in ([], [1, 2], [1e300], [1, -np.inf], [np.nan, 1])]
    [True, True, True, False, False]
    """
    return all(_is_finite(array) for array in arrays)


def _is_finite(array: NDArray[Any]) -> bool:
    """By one sum, which is not finite where an element is not; it may also be too large."""
    if array.size < FEW and math.isfinite(np.vdot(array, array)):
        return True
    with np.errstate(invalid="ignore", over="ignore"):
        if array.size >= FEW and math.isfinite(array.sum()):
            return True
        return math.isfinite(array.min()) and math.isfinite(array.max())


def has_nan(array: NDArray[Any]) -> bool:
    """Whether any element is NaN.

    >>> [has_nan(np.array(values)) for values in ([], [1, np.inf, -np.inf], [1e300, np.nan], [1.0] * 9999)]
    [False, False, True, False]
    """
    if array.size < FEW:                # of squares, none of which cancels another one
        return math.isnan(np.vdot(array, array))
    with np.errstate(invalid="ignore"):
        return math.isnan(array.min())
