"""`coefs_` and `intercepts_`: lists of a network's live arrays."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import MLP

__all__ = ["LayerArrays", "best_of", "restore", "sizes_of"]

Array = NDArray[Any]
KINDS = ("weights", "biases", "scales", "running_means", "running_variances")


class LayerArrays(list[Any]):
    """The arrays of all layers, live: an assignment to an item copies into the network's array."""

    def __init__(self, arrays: Any) -> None:
        super().__init__(arrays)
        self._arrays = arrays

    def __setitem__(self, places: Any, values: Any) -> None:
        self._arrays[places] = values

    def __reduce__(self) -> tuple[Any, ...]:
        return list, ([array.copy() for array in self],)


def best_of(model: MLP) -> dict[str, list[Any]]:
    """Copies of all that training changes.

    >>> sorted(best_of(MLP([2, 1])))
    ['biases', 'running_means', 'running_variances', 'scales', 'weights']
    """
    return {kind: [None if array is None else np.array(array) for array in getattr(model, kind)]
            for kind in KINDS}


def restore(model: MLP, kept: dict[str, list[Any]]) -> None:
    """Write such copies back."""
    for kind, arrays in kept.items():
        setattr(model, kind, arrays)


def sizes_of(coefs: Sequence[Array]) -> list[int]:
    """Units of every layer, inputs first.

    >>> sizes_of([np.zeros((2, 5)), np.zeros((5, 1))])
    [2, 5, 1]
    """
    return [coefs[0].shape[0], *(coef.shape[1] for coef in coefs)]
