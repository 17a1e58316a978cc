"""Training that has left the numbers: how it is noticed, and the warning, one for a call."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core import callers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastmlp.model import MLP

__all__ = ["all_finite", "warn"]

FEW = 8192          # numbers whose squares a BLAS sums in the calling thread


def all_finite(*arrays: NDArray[Any]) -> bool:
    """Whether all elements are finite numbers; allocates nothing.

    >>> [all_finite(np.array(values)) for values in ([], [1, 2], [1e300], [1, -np.inf], [np.nan, 1])]
    [True, True, True, False, False]
    """
    for array in arrays:
        # One sum where there are few numbers: it may also be too large. Of many, a BLAS would start threads.
        if array.size >= FEW or not math.isfinite(np.vdot(array, array)):
            with np.errstate(invalid="ignore"):
                if not (math.isfinite(array.min()) and math.isfinite(array.max())):
                    return False
    return True


def warn(model: MLP, what: str) -> None:
    """A RuntimeWarning at the line of the user's that trains the model; only the first one of that call."""
    call = model.core.lock.last()
    if call.warned:
        return
    call.warned = True
    callers.warn_of_training(model, (
        f"{what}: training has diverged, or X or y hold values that are not finite or far too large; "
        "try a lower learning rate, a limit on the gradients (clip_norm), or inputs and targets "
        "scaled to about 1"))
