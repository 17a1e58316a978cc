"""Training that has left the numbers: how it is noticed, and the warning, one for a call."""
from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp._core import callers
from fastmlp._core.finite import all_finite

if TYPE_CHECKING:
    from fastmlp.model import MLP

__all__ = ["all_finite", "warn"]


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
