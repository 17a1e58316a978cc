"""How a network lies in memory: one flat buffer, rows padded to whole cache lines.

Every matrix (weights, gradients, velocities) is kept row by row, each row padded with zeros to whole lines
of 64 bytes: the kernels then read and write full vectors only, and nothing is ever packed. From four lines
on their number is odd, so that the lines of a column fall into different sets of the cache.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Parameters", "padded_row"]

LINE = 64


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
    raw = np.zeros(size * dtype.itemsize + LINE, np.uint8)
    start = -raw.ctypes.data % LINE
    return raw[start:start + size * dtype.itemsize].view(dtype)


class Parameters:
    """Weights, biases and scales of all layers, or anything laid out like them, in one buffer.

    buffer      (size,) everything, pads included (they are zeros)
    weights[i]  (in, out) view of the layer's part
    biases[i]   (out,) view
    scales[i]   (out,) view where the layer is batch-normalised, else None
    offsets[i]  where weights[i], biases[i] and scales[i] begin in the buffer (-1 for no scales)
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
        layers = list(zip(self.offsets, sizes, sizes[1:], rows))
        self.weights = tuple(
            self.buffer[w:b].reshape(n_in, row)[:, :n_out] for (w, b, _), n_in, n_out, row in layers)
        self.biases = tuple(self.buffer[b:b + n_out] for (_, b, _), _, n_out, _ in layers)
        self.scales = tuple(self.buffer[s:s + n_out] if s >= 0 else None for (_, _, s), _, n_out, _ in layers)

    def like(self) -> Parameters:
        """Zeros laid out the same way."""
        return Parameters(self.sizes, self.dtype, self.normalised)

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
        self.means = tuple(self.buffer[m:m + n] if scaled else None for (m, _), n, scaled in layers)
        self.variances = tuple(self.buffer[v:v + n] if scaled else None for (_, v), n, scaled in layers)
        for variance in self.variances:
            if variance is not None:
                variance[...] = 1
