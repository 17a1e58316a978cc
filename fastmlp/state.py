"""What a trained model consists of: every array that training changes, by name. The one place that knows."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastmlp.model import MLP

__all__ = ["arrays", "copy", "restore"]

Array = NDArray[Any]
TRAINED = ("weights", "biases", "scales")           # attributes of a model: a live array, or None, for every
KINDS = (*TRAINED, "running_means", "running_variances")        # layer


def arrays(model: MLP) -> dict[str, Array]:
    """The live arrays: weights.0, biases.0, weights.1, ...

    >>> from fastmlp import MLP
    >>> list(arrays(MLP([4, 3])))
    ['weights.0', 'biases.0']
    """
    return {f"{kind}.{i}": getattr(model, kind)[i] for i in range(len(model.weights)) for kind in KINDS
            if getattr(model, kind)[i] is not None}


def copy(model: MLP, into: dict[str, Array] | None = None) -> dict[str, Array]:
    """Copies of the arrays, written into earlier ones where they fit.

    >>> from fastmlp import MLP
    >>> model = MLP([4, 3], seed=0)
    >>> kept = copy(model)
    >>> copy(model, into=kept) is kept
    True
    """
    live = arrays(model)
    if into is None or {k: (a.shape, a.dtype) for k, a in into.items()} != {
            k: (a.shape, a.dtype) for k, a in live.items()}:
        return {name: array.copy() for name, array in live.items()}
    for name, array in live.items():
        np.copyto(into[name], array)
    return into


def restore(model: MLP, kept: dict[str, Array]) -> None:
    """Write copies back, converted to the dtype of the model.

    Raises ValueError for copies of a model of another shape, before anything changes.

    >>> from fastmlp import MLP
    >>> model, other = MLP([4, 3], seed=0), MLP([4, 3], seed=1)
    >>> restore(other, copy(model))
    >>> bool((other.weights[0] == model.weights[0]).all())
    True
    """
    live = arrays(model)
    expected = {name: array.shape for name, array in live.items()}
    found = {name: array.shape for name, array in kept.items()}
    if found != expected:
        raise ValueError(f"model: expected the arrays {found}, got {expected}")
    for name, array in live.items():
        array[...] = kept[name]
