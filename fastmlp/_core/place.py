"""Where a training stands, between two steps."""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

__all__ = ["Place"]


@dataclass(slots=True)
class Place:
    """A place in a run of `fit`, from which it can go on.

    epoch       epochs that are over, with their callbacks
    step        steps of the next epoch that were made
    totals      of these steps: losses, each times its weight, and weights
    seconds     that these steps took
    record      (steps of an epoch, 3): numbers of each of these steps, with log_steps
    generator   state of the model's random generator before the order of this epoch was drawn; None: as it is
    positions   {argument: number} of the blocks that iterators had given before this epoch; None: as they are
    stopped     whether a callback has ended the training
    """

    epoch: int = 0
    step: int = 0
    totals: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0
    record: NDArray[Any] | None = None
    generator: Mapping[str, Any] | None = None
    positions: Mapping[str, int] | None = None
    stopped: bool = False
