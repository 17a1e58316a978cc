"""Mean, deviation and range of columns, from one pass over blocks."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastmlp._core.types import Array

__all__ = ["Scaling", "Statistics", "statistics_of"]


@dataclass(frozen=True, eq=False)
class Statistics:
    """What `Source.statistics` has found.

    Attributes
    ----------
    rows : int
        Number of rows.
    mean : ndarray of float64, shape (columns,)
        Mean of every column.
    std : ndarray of float64, shape (columns,)
        Standard deviation of every column, over all rows (not one fewer).
    min : ndarray of float64, shape (columns,)
        Smallest number of every column.
    max : ndarray of float64, shape (columns,)
        Largest number of every column.

    Notes
    -----
    NaN in a column makes its numbers NaN.

    Examples
    --------
    >>> from fastmlp.data import Chunks
    >>> X, y = np.array([[1.0, 5.0], [3.0, 5.0]]), np.array([0, 1])
    >>> found = Chunks([(X, y)]).statistics()
    >>> found.mean, found.std
    (array([2., 5.]), array([1., 0.]))
    """

    rows: int
    mean: Array
    std: Array
    min: Array
    max: Array


def statistics_of(blocks: Iterable[Array]) -> Statistics:
    """Of the columns of all blocks (rows, columns).

    Each block has its own mean and sum of squares around that; two of them are merged by the formula of Chan,
    Golub and LeVeque, in which no large numbers cancel.
    """
    rows = 0
    mean = squares = low = high = np.empty(0)
    with np.errstate(invalid="ignore"):         # of NaN and infinities, which go through
        for block in blocks:
            n = len(block)
            if n == 0:
                continue
            own: Array = block.mean(axis=0, dtype=np.float64)
            around = np.square(block - own).sum(axis=0)
            if rows == 0:
                mean, squares = own, around
                low, high = (f(axis=0).astype(np.float64) for f in (block.min, block.max))
            else:
                gap = own - mean
                mean = mean + gap * (n / (rows + n))
                squares = squares + around + np.square(gap) * (rows * n / (rows + n))
                low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
            rows += n
    return Statistics(rows, mean, np.sqrt(squares / max(rows, 1)), low, high)


class Scaling:
    """(X - mean) / std, or the same of y, in float64, as `dtype`; what does not vary is not divided."""

    def __init__(self, mean: Array, std: Array, dtype: np.dtype[np.generic], of: Literal["X", "y"]) -> None:
        self.mean = mean
        self.divisor = np.where(std > 0, std, 1.0)
        self.dtype = dtype
        self.of = of

    def __call__(self, *block: Array) -> tuple[Array, ...]:
        X, y, *weight = block
        if self.of == "y":
            table = y[:, None] if y.ndim == 1 else y
            return X, self._scaled(table).reshape(y.shape), *weight
        if not isinstance(X, np.ndarray):
            raise TypeError("scaled: expected dense X, got a sparse one, which would not stay sparse")
        return self._scaled(X), y, *weight

    def _scaled(self, table: Array) -> Array:
        if table.ndim != 2 or table.shape[1] != len(self.mean):
            raise ValueError(f"scaled: expected {self.of} of shape (rows, {len(self.mean)}), got "
                             f"{table.shape}")
        result = table - self.mean
        result /= self.divisor
        return result.astype(self.dtype, copy=False)
