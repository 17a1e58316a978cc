"""`coefs_` and `intercepts_`: lists of a network's live arrays, without gaps between their rows.

A network pads rows to whole cache lines. Where that leaves gaps, which no array of scikit-learn's has, the
list holds a mirror: an array without them that is brought up to date, and brings the network's up to date,
whenever the estimator looks at its network. Mirrors are made when they are asked for. They live until the
estimator has taken over what was written to them, and as long as somebody holds them: what is written to
`estimator.coefs_[1]`, which nobody holds, reaches the network with the next look at it.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import MLP

__all__ = ["LayerArrays", "Mirrors", "best_of", "restore", "sizes_of"]

Array = NDArray[Any]
KINDS = ("weights", "biases", "scales", "running_means", "running_variances")


class Mirrors:
    """Arrays without gaps of a network's weights."""

    def __init__(self, model: MLP) -> None:
        self.model = model
        self._kept: dict[int, _Mirror] = {}

    def weights(self) -> list[Array]:
        """The network's arrays, or their mirrors."""
        self.synchronise()
        return [self._mirror(layer, array) for layer, array in enumerate(self.model.weights)]

    def _mirror(self, layer: int, array: Array) -> Array:
        if array.flags.c_contiguous:
            return array
        if layer not in self._kept:
            self._kept[layer] = _Mirror(array)
        return self._kept[layer].array

    def synchronise(self) -> None:
        """Take what was written to a mirror into the network; and else, from the network, what it learned.

        A mirror that nobody else holds any more has then served.
        """
        for layer, mirror in [*self._kept.items()]:
            if not mirror.is_held():        # first, since who holds it may write to it at any time
                self._kept.pop(layer, None)
            mirror.synchronise(self.model.weights[layer])


class _Mirror:
    """An array without gaps, and what it was when it was last the same as the network's."""

    def __init__(self, array: Array) -> None:
        self.array = np.array(array, order="C")
        self._before = self.array.copy()

    def is_held(self) -> bool:
        """Whether somebody else has it, or a view of it: a count of 2 is this object and the call."""
        return getrefcount(self.array) > 2

    def synchronise(self, array: Array) -> None:
        if _differ(self.array, self._before):
            array[...] = self._before[...] = self.array
        elif _differ(array, self._before):
            self.array[...] = self._before[...] = array


def _differ(a: Array, b: Array) -> bool:
    """Whether there are other bits: NaN is like itself."""
    bits = f"i{a.itemsize}"
    return bool((a.view(bits) != b.view(bits)).any())


class LayerArrays(list[Any]):
    """The arrays of all layers, live: an assignment to an item copies into the network's array."""

    def __init__(self, arrays: Any, shown: Any = None, synchronise: Callable[[], None] = lambda: None
                 ) -> None:
        super().__init__(arrays if shown is None else shown)
        self._arrays = arrays
        self._synchronise = synchronise

    def __setitem__(self, places: Any, values: Any) -> None:
        self._synchronise()
        dtype = self._arrays[0].dtype
        self._arrays[places] = ([np.asarray(value, dtype) for value in values] if isinstance(places, slice)
                                else np.asarray(values, dtype))
        self._synchronise()

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
