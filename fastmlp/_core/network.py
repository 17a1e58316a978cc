"""What the backends' engines are given: the layers of a network, and the samples of a run."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

from fastmlp._core.sources import SparseRows
from fastmlp.activations import Activation, Identity
from fastmlp.normalization import BatchNorm

__all__ = ["Layer", "Piece", "Samples"]


@dataclass(frozen=True)
class Layer:
    """x w + b, normalised over the batch if asked for, through the activation, with some outputs dropped."""

    activation: Activation = Identity()
    dropout: float = 0.0
    batch_norm: BatchNorm | None = None

    @property
    def stores_derivative(self) -> bool:
        """Whether dy/dz cannot be computed from y: the forward pass stores it for the backward pass."""
        return self.dropout > 0 or not self.activation.from_output


class Samples:
    """A source of samples, `fastmlp.backends.interface.Source`: what a run trains on. It has been checked.

    x           (n, inputs) of any numeric dtype, converted batch by batch; or SparseRows
    targets     class indices (n,) as intp, or rows (n, outputs) of any numeric dtype; for a loss of the
                caller's own, whatever it takes
    weights     (n,) of the model's dtype, or None
    order       sample at each place, or None: as they come
    batch_size  samples of a step; the last one may have fewer
    repeats     whether a batch may have a sample more than once
    """

    __slots__ = ("_nonzeros", "batch_size", "order", "repeats", "targets", "weights", "x")

    def __init__(self, x: Any, targets: Any, weights: Any = None, order: Any = None,
                 batch_size: int = 1, repeats: bool = False) -> None:
        self.x = x
        self.targets = targets
        self.weights = weights
        self.order = order
        self.batch_size = batch_size
        self.repeats = repeats
        self._nonzeros: int | None = None

    @property
    def is_shuffled(self) -> bool:
        return self.order is not None

    @property
    def is_weighted(self) -> bool:
        return self.weights is not None

    @property
    def nonzeros(self) -> int | None:
        """The most nonzeros that a batch of sparse samples may have; None of dense ones."""
        if self._nonzeros is None and isinstance(self.x, SparseRows):
            self._nonzeros = self.x.nonzeros(self.batch_size, self.repeats)
        return self._nonzeros

    def __len__(self) -> int:
        return len(self.x) if self.order is None else len(self.order)

    def batch(self, step: int) -> Any:
        """Where the samples of a step are: a slice, or an array of indices."""
        rows = slice(step * self.batch_size, min((step + 1) * self.batch_size, len(self)))
        return rows if self.order is None else self.order[rows]

    def pieces(self, step: int = 0, idle: Callable[[], None] | None = None
               ) -> AbstractContextManager[Iterator[Piece]]:
        """Of the epoch, from the one on that has this step: arrays are one piece, and `fastmlp.data.Feed` has
        more, for which it may have to wait."""
        return nullcontext(iter((Piece(self, 0, -(-len(self) // self.batch_size)),)))


class Piece(NamedTuple):
    """Samples whose steps, from 0 on, are those of the epoch from `begin` to `end` - 1."""

    samples: Samples
    begin: int
    end: int
