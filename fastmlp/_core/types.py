"""What public signatures take, by name.

For type checkers alone: imported under TYPE_CHECKING, it costs nothing, and may name all of the library.
"""
from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, Protocol, SupportsFloat, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp._core.sources import SparseRows
from fastmlp.activations import Activation
from fastmlp.data import Source
from fastmlp.losses import Loss
from fastmlp.metrics import Metric
from fastmlp.model import MLP
from fastmlp.normalization import BatchNorm
from fastmlp.optimizers import Optimizer

__all__ = [
    "ActivationLike", "Array", "BatchNormLike", "BiasInitializer", "Callback", "ClassWeight", "Initializer",
    "LossFunction", "LossLike", "Metric", "Metrics", "OptimizerLike", "Path", "RowsLike", "SamplesLike",
    "Setting", "SparseMatrix", "ValidationData",
]

Array = NDArray[Any]
Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

ActivationLike = str | Activation | type[Activation]
BatchNormLike = bool | BatchNorm | type[BatchNorm] | None
# (logits, targets) -> loss, gradient
LossFunction = Callable[[Array, Array], tuple[SupportsFloat, ArrayLike]]
LossLike = str | Loss | type[Loss] | LossFunction
# (rng, fan_in, fan_out) -> weights, and (rng, n) -> biases
Initializer = Callable[[np.random.Generator, int, int], ArrayLike]
BiasInitializer = Callable[[np.random.Generator, int], ArrayLike]

OptimizerLike = str | Optimizer | type[Optimizer]
ClassWeight = Mapping[Any, float] | Literal["balanced"]
Metrics = str | Metric | Iterable[str | Metric] | Mapping[str, Metric]


class StepCallback(Protocol):
    """An object that is called after steps: `fastmlp.callbacks`."""

    def on_step_end(self, model: MLP, step: int, logs: dict[str, Any], /) -> object: ...


# (model, epoch, logs) -> True to stop
Callback = Callable[[MLP, int, dict[str, Any]], object] | StepCallback


class SparseMatrix(Protocol):
    """A sparse matrix or array of SciPy, or alike: `fastmlp._core.sources.is_sparse`."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def nnz(self) -> Any: ...

    def tocsr(self) -> Any: ...


RowsLike = ArrayLike | SparseMatrix | SparseRows
# X; or X, y and weights in blocks, of a source or an iterator
SamplesLike = RowsLike | Source | Iterator[Any]
# (X, y) or (X, y, sample_weight)
ValidationData = (tuple[RowsLike, ArrayLike] | tuple[RowsLike, ArrayLike, ArrayLike | None] | Source
                  | Iterator[Any])

Read = TypeVar("Read", covariant=True)
Written = TypeVar("Written", contravariant=True)


class Setting(Protocol[Read, Written]):
    """An attribute that is read as one type and takes others in an assignment, which validates them."""

    def __get__(self, owner: Any, kind: Any = None, /) -> Read: ...

    def __set__(self, owner: Any, value: Written, /) -> None: ...
