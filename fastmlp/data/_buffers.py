"""Buffers: rows of blocks, gathered until there are enough of them to train on."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core.network import Samples
from fastmlp._core.sources import Rows, SparseRows
from fastmlp.data._blocks import FileRows

if TYPE_CHECKING:
    from fastmlp._core.types import Array

__all__ = ["Buffer", "Checked"]

Checked = tuple[Any, "Array", "Array | None"]       # X, targets and weights as an engine takes them


class Buffer:
    """Room for so many rows that are like those of a block; filled over and over again."""

    def __init__(self, like: Checked, capacity: int) -> None:
        X, targets, _ = like
        self.capacity = capacity
        self.rows = 0
        self._x = _SparseStore() if isinstance(X, SparseRows) else _DenseStore(X, capacity)
        self._targets = np.empty((capacity, *targets.shape[1:]), targets.dtype)
        self._weights: Array | None = None
        self._is_weighted = False

    @property
    def is_full(self) -> bool:
        return self.rows == self.capacity

    def clear(self) -> None:
        self.rows = 0
        self._x.clear()
        self._is_weighted = False

    def add(self, block: Checked, first: int) -> int:
        """Rows of a block from `first` on, as many as there is room for: how many they were."""
        X, targets, weights = block
        count = min(self.capacity - self.rows, len(X) - first)
        here, there = slice(self.rows, self.rows + count), slice(first, first + count)
        self._x.put(here, X, there)
        self._targets[here] = targets[there]
        if weights is not None and not self._is_weighted:
            if self._weights is None:
                self._weights = np.empty(self.capacity)
            self._weights[:self.rows] = 1.0
            self._is_weighted = True
        if self._is_weighted and self._weights is not None:
            self._weights[here] = 1.0 if weights is None else weights[there]
        self.rows += count
        return count

    def samples(self, order: Array | None, batch_size: int) -> Samples:
        """What it holds, as an engine takes it."""
        weights = self._weights[:self.rows] if self._is_weighted and self._weights is not None else None
        return Samples(self._x.all(self.rows), self._targets[:self.rows], weights, order, batch_size)


class _DenseStore:
    def __init__(self, X: Any, capacity: int) -> None:
        self._rows = np.empty((capacity, *X.shape[1:]), X.dtype)

    def clear(self) -> None:
        pass

    def put(self, here: slice, X: Any, there: slice) -> None:
        if isinstance(X, FileRows):
            X.read(self._rows[here], there.start)
        else:
            self._rows[here] = X[there]

    def all(self, rows: int) -> Rows:
        return self._rows[:rows]


class _SparseStore:
    """Compressed rows, which are joined in the end."""

    def __init__(self) -> None:
        self._pieces: list[SparseRows] = []

    def clear(self) -> None:
        self._pieces = []

    def put(self, here: slice, X: SparseRows, there: slice) -> None:
        self._pieces.append(X[there].astype(X.dtype))       # its own numbers, counted from 0

    def all(self, rows: int) -> Rows:
        pieces = self._pieces
        ends = np.cumsum([0, *(len(piece.data) for piece in pieces)])
        indptr = [piece.indptr[:-1] + end for piece, end in zip(pieces, ends)]
        return SparseRows(np.concatenate([piece.data for piece in pieces]),
                          np.concatenate([piece.indices for piece in pieces]).astype(np.int64),
                          np.concatenate([*indptr, ends[-1:]]).astype(np.int64), pieces[0].shape[1])
