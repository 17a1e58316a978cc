"""How a network lies in memory: one flat buffer, rows padded to whole cache lines.

Every matrix (weights, gradients, velocities) is kept row by row, each row padded with zeros to whole lines
of 64 bytes: the kernels then read and write full vectors only, and nothing is ever packed. From four lines
on their number is odd, so that the lines of a column fall into different sets of the cache.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fastmlp._core import checks
from fastmlp._core.copying import Identity

__all__ = ["Arrays", "Parameters", "Statistics", "named_arrays", "padded_row"]

LINE = 64
Item = TypeVar("Item")


def padded_row(n: int, itemsize: int) -> int:
    """Elements in a padded row of n.

    >>> padded_row(10, 4), padded_row(256, 4)
    (16, 272)
    """
    lines = -(-n * itemsize // LINE)
    if lines >= 4:
        lines |= 1
    return lines * LINE // itemsize


def aligned(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """`size` zeros that begin at a cache line."""
    if size == 0:
        return np.zeros(0, dtype)
    raw = np.zeros(size * dtype.itemsize + LINE, np.uint8)
    return np.frombuffer(raw, dtype, size, -raw.ctypes.data % LINE)


class Arrays(tuple[Item, ...]):
    """One live array for every layer, or None where it has none: a tuple whose items can be written.

    `arrays[i] = values` copies the values into the array, and so does `arrays[i] -= step`; `arrays[:] =
    values` does it for all of them, or for none if any does not fit.

    Raises
    ------
    TypeError
        For an array of another dtype, if that would lose digits, and for what is no array of numbers.
    ValueError
        For another shape, another number of arrays, and values for a layer that has no such array.

    Examples
    --------
    >>> arrays = Arrays("weights", [np.zeros((2, 2)), np.ones(3)])
    >>> arrays[1] = [1, 2, 3]
    >>> arrays[1] *= 2
    >>> arrays[1], len(arrays)
    (array([2., 4., 6.]), 2)
    """

    name: str

    def __new__(cls, name: str, arrays: Iterable[Item]) -> Arrays[Item]:
        self = super().__new__(cls, arrays)
        self.name = name
        return self

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Arrays, (self.name, tuple(self))

    def __setitem__(self, places: Any, values: Any) -> None:
        if not isinstance(places, slice):
            at = checks.integer(f"{self.name}[i]", places)
            if not -len(self) <= at < len(self):
                raise IndexError(f"{self.name}[{at}]: expected a layer from 0 to {len(self) - 1}")
            at %= len(self)
            values, ats = [values], [at]
        else:
            ats = list(range(*places.indices(len(self))))
            try:
                values = list(values)
            except TypeError:
                raise TypeError(f"{self.name}: expected an array for each of {len(ats)} layers, got "
                                f"{type(values).__name__}") from None
            if len(values) != len(ats):
                raise ValueError(f"{self.name}: expected an array for each of {len(ats)} layers, got "
                                 f"{len(values)}")
        live: tuple[Any, ...] = self
        checked = [self._checked(at, value) for at, value in zip(ats, values)]
        if len(ats) > 1:        # arrays that change places
            checked = [None if value is None else value.copy() if any(
                array is not None and np.may_share_memory(value, array) for array in self) else value
                for value in checked]
        for at, value in zip(ats, checked):
            if value is not None:
                np.copyto(live[at], value)

    def _checked(self, at: int, value: Any) -> NDArray[Any] | None:
        """Values that fit the array at this place, in its dtype."""
        name, array = f"{self.name}[{at}]", self[at]
        if not isinstance(array, np.ndarray) or value is None:
            if array is not value:
                expected = "None, for the layer has no batch normalisation" if array is None else "an array"
                raise ValueError(f"{name}: expected {expected}, got {type(value).__name__}")
            return None
        plain = isinstance(value, (list, tuple))        # numbers of Python have no dtype to lose
        given = checks.as_array(name, value)
        if given.dtype.kind not in "biuf":
            raise TypeError(f"{name}: expected numbers, got dtype {given.dtype}")
        checks.shape(name, given, array.shape)
        if not plain and not np.can_cast(given.dtype, array.dtype, "safe"):
            raise TypeError(f"{name}: expected dtype {array.dtype}, the model's, got {given.dtype}; "
                            f"convert it with .astype(np.{array.dtype})")
        return given.astype(array.dtype, copy=False)


class Parameters:
    """Weights, biases and scales of all layers, or anything laid out like them, in one buffer.

    buffer      (size,) everything, pads included (they are zeros)
    weights[i]  (in, out) view of the layer's part
    biases[i]   (out,) view
    scales[i]   (out,) view where the layer is batch-normalised, else None
    offsets[i]  where weights[i], biases[i] and scales[i] begin in the buffer (-1 for no scales)
    identity    of the model that they are the parameters of
    """

    def __init__(self, sizes: Sequence[int], dtype: np.dtype[Any], normalised: Sequence[bool] = ()) -> None:
        self.sizes = tuple(sizes)
        self.dtype = dtype
        self.normalised = tuple(normalised) or (False,) * (len(sizes) - 1)
        self.offsets: list[tuple[int, int, int]] = []
        rows = [padded_row(n, dtype.itemsize) for n in sizes[1:]]
        end = 0
        for n_in, row, scaled in zip(sizes, rows, self.normalised):
            biases = end + n_in * row
            self.offsets.append((end, biases, biases + row if scaled else -1))
            end = biases + row * (2 if scaled else 1)
        self.buffer = aligned(end, dtype)
        self._identity: Identity | None = None
        layers = list(zip(self.offsets, sizes, sizes[1:], rows))
        self.weights = Arrays("weights", (
            self.buffer[w:b].reshape(n_in, row)[:, :n_out] for (w, b, _), n_in, n_out, row in layers))
        self.biases = Arrays("biases", (self.buffer[b:b + n_out] for (_, b, _), _, n_out, _ in layers))
        self.scales: Arrays[Any] = Arrays("scales", (
            self.buffer[s:s + n_out] if s >= 0 else None for (_, _, s), _, n_out, _ in layers))

    @property
    def identity(self) -> Identity:
        """Made at first use: gradients and slots need none."""
        if self._identity is None:
            self._identity = Identity()
        return self._identity

    @identity.setter
    def identity(self, identity: Identity) -> None:
        self._identity = identity

    def like(self) -> Parameters:
        """Zeros laid out the same way."""
        return Parameters(self.sizes, self.dtype, self.normalised)

    def copy(self) -> Parameters:
        """The same numbers, laid out the same way, in another buffer."""
        result = self.like()
        result.buffer[...] = self.buffer
        return result

    def astype(self, dtype: DTypeLike) -> Parameters:
        """The same numbers in another dtype, whose rows have other pads."""
        result = Parameters(self.sizes, np.dtype(dtype), self.normalised)
        result.assign(self)
        return result

    def assign(self, other: Parameters) -> None:
        """The numbers of another network of this shape, of any dtype."""
        pairs = ((self.weights, other.weights), (self.biases, other.biases), (self.scales, other.scales))
        for own, given in pairs:
            for array, values in zip(own, given):
                if array is not None:
                    array[...] = values

    def __copy__(self) -> Parameters:
        return self.copy()

    def __deepcopy__(self, memo: dict[Any, Any]) -> Parameters:
        result = memo[id(self)] = self.copy()
        return result

    def __reduce__(self) -> tuple[Any, ...]:
        """The arrays without their pads: how they lie in memory is no part of a pickle."""
        arrays = [None if a is None else np.array(a, order="C")
                  for kind in (self.weights, self.biases, self.scales) for a in kind]
        return _parameters, (self.sizes, self.dtype.name, self.normalised, arrays)

    def vectors(self) -> list[NDArray[Any]]:
        """Biases and scales."""
        return [*self.biases, *(scale for scale in self.scales if scale is not None)]


class Statistics:
    """Running means and variances of the batch-normalised layers, in one buffer; None for the others.

    places[i]   where means[i] and variances[i] begin in the buffer
    """

    def __init__(self, sizes: Sequence[int], dtype: np.dtype[Any], normalised: Sequence[bool]) -> None:
        self.places: list[tuple[int, int]] = []
        end = 0
        for n_out, scaled in zip(sizes[1:], normalised):
            row = padded_row(n_out, dtype.itemsize)
            self.places.append((end, end + row))
            end += 2 * row if scaled else 0
        self.buffer = aligned(end, dtype)
        layers = list(zip(self.places, sizes[1:], normalised))
        self.means: Arrays[Any] = Arrays("running_means", (
            self.buffer[m:m + n] if scaled else None for (m, _), n, scaled in layers))
        self.variances: Arrays[Any] = Arrays("running_variances", (
            self.buffer[v:v + n] if scaled else None for (_, v), n, scaled in layers))
        self.reset()

    def reset(self) -> None:
        """As before any training."""
        self.buffer[...] = 0
        for variance in self.variances:
            if variance is not None:
                variance[...] = 1


def _parameters(sizes: Sequence[int], dtype: str, normalised: Sequence[bool],
                arrays: Sequence[Any]) -> Parameters:
    """Parameters from a pickle."""
    result = Parameters(sizes, np.dtype(dtype), normalised)
    n = len(result.weights)
    kinds: tuple[Arrays[Any], ...] = result.weights, result.biases, result.scales
    for i, kind in enumerate(kinds):
        kind[:] = arrays[i * n:(i + 1) * n]
    return result


def named_arrays(parameters: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Every array of parameters, gradients or slots: "weights.0", "biases.0", "scales.0", "weights.1", ..."""
    kinds = {kind: getattr(parameters, kind, ()) for kind in ("weights", "biases", "scales")}
    for i in range(len(parameters.weights)):
        for kind, arrays in kinds.items():
            if i < len(arrays) and arrays[i] is not None:
                yield f"{kind}.{i}", arrays[i]
