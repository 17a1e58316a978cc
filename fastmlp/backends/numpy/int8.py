"""Products of 8-bit integers, for inference: the same bits on every processor, since their sums are exact.

The weights are quantised once (`fastmlp._core.int8`): w_kj is s_j v_kj, to s_j / 2. The inputs x_k of a
layer are quantised row by row, to 8 bits without a sign,

    low = min(0, min_k x_k),  high = max(0, max_k x_k),  s = high / 255 - low / 255,  z = rint(-low (1 / s))
    q_k = rint(x_k (1 / s) + z), not below 0 nor above 255

so that x_k is s (q_k - z), to s / 2, and 0 is 0. Then

    S_j = sum_k (q_k - z) v_kj      in integers,
    y_j = f((S_j s_j) s + b_j)      in float32.

Operations on reals round to nearest, ties to even; subnormal numbers are zeros, as operands and as results.
The sum x_k (1 / s) + z is rounded once, by rint. A row that is not finite has the scale NaN, and all of its
outputs are NaN; a row whose s would be subnormal counts as zeros.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ._common import quiet
from .activations import activate
from .bfloat16 import flushed

if TYPE_CHECKING:
    from fastmlp._core.int8 import Int8Layer
    from fastmlp._core.types import Array

BLOCK_ROWS = 1024


@quiet
def quantised_rows(x: Array) -> tuple[Array, Array, Array]:
    """q as uint8, the scale s and the zero point z of every row, (n, 1).

    >>> q, s, z = quantised_rows(np.float32([[0, 1, 2.55], [-1.28, 0, 1.27], [0, 0, 0]]))
    >>> q.tolist(), z.ravel().tolist()
    ([[0, 100, 255], [0, 128, 255], [0, 0, 0]], [0, 128, 0])
    >>> s.round(3).ravel().tolist()
    [0.009999999776482582, 0.009999999776482582, 0.0]
    """
    x = flushed(np.asarray(x, np.float32))
    low, high = (f(x, axis=1, keepdims=True, initial=0) for f in (np.min, np.max))
    step = np.float32(255)
    s = flushed(flushed(high / step) - flushed(low / step))
    usable = np.isfinite(s) & (s > 0)
    inverse = np.where(usable, 1 / s, np.float32(0))
    z = np.rint(np.where(usable, -low * inverse, 0)).astype(np.int32)
    q = np.rint((x * inverse).astype(np.float64) + z)
    q = np.where(usable, np.clip(q, 0, 255), 0).astype(np.uint8)
    return q, np.where(usable, s, np.where(np.isfinite(s), np.float32(0), np.float32(np.nan))), z


@quiet
def dense(x: Array, layer: Int8Layer) -> Array:
    """f(x w + b)"""
    q, s, z = quantised_rows(x)
    # Integers up to 2^31 are exact in float64, in whatever order a library adds them.
    sums = (q.astype(np.float64) - z) @ layer.weights.astype(np.float64)
    y = flushed(flushed(flushed(sums.astype(np.float32) * layer.scales) * s) + layer.biases)
    return activate(y, layer.activation)


def forward(layers: Sequence[Int8Layer], x: Array, out: Array) -> None:
    """out = the last layer's values of every row."""
    for start in range(0, len(x), BLOCK_ROWS):
        y = x[start:start + BLOCK_ROWS]
        for layer in layers:
            y = dense(y, layer)
        out[start:start + BLOCK_ROWS] = y
