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
    """Weights and biases of all layers, or anything laid out like them, in one buffer.

    buffer      (size,) everything, pads included (they are zeros)
    weights[i]  (in, out) view of the layer's part
    biases[i]   (out,) view
    offsets[i]  where weights[i] and biases[i] begin in the buffer
    """

    def __init__(self, sizes: Sequence[int], dtype: np.dtype[Any]) -> None:
        self.sizes = tuple(sizes)
        self.dtype = dtype
        self.offsets: list[tuple[int, int]] = []
        self.rows = [padded_row(n, dtype.itemsize) for n in sizes]
        end = 0
        for n_in, row in zip(sizes, self.rows[1:]):
            self.offsets.append((end, end + n_in * row))
            end += (n_in + 1) * row
        self.buffer = aligned(end, dtype)
        shapes = list(zip(self.offsets, sizes, sizes[1:], self.rows[1:]))
        self.weights = tuple(
            self.buffer[w:b].reshape(n_in, row)[:, :n_out] for (w, b), n_in, n_out, row in shapes)
        self.biases = tuple(self.buffer[b:b + n_out] for (w, b), n_in, n_out, row in shapes)

    def like(self) -> Parameters:
        """Zeros laid out the same way."""
        return Parameters(self.sizes, self.dtype)
