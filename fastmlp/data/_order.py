"""The order of an epoch over a source, in two levels: of its parts, and of the rows in a buffer.

All of it follows from one number, so that any buffer's order is known without those before it.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from fastmlp._core.types import Array

__all__ = ["Order"]


class Order:
    """Of one epoch; as they come, without a seed."""

    def __init__(self, seed: int | None) -> None:
        self._seed = seed

    def parts(self, count: int) -> Array:
        """The numbers of the parts."""
        if self._seed is None:
            return np.arange(count)
        return np.random.default_rng([self._seed, 0]).permutation(count)

    def rows(self, buffer: int, count: int) -> Array | None:
        """The row at each place of a buffer; None where they stay as they are."""
        if self._seed is None:
            return None
        return np.random.default_rng([self._seed, 1, buffer]).permutation(count)
