"""Layers whose weights are 8-bit integers: what the predictors of both backends are made from.

Every output j of a layer has a scale of its own,

    s_j = max_k |w_kj| / 127,    v_kj = rint(w_kj / s_j),    so that w_kj is s_j v_kj, to s_j / 2.

Batch normalisation is part of scales and biases: with the running mean m and variance r,
scale_j (z_j - m_j) / sqrt(r_j + epsilon) + shift_j is z_j times a factor, plus a constant.
"""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastmlp._core.layout import Parameters, Statistics
    from fastmlp._core.network import Layer
    from fastmlp.activations import Activation

__all__ = ["MOST_INPUTS", "Int8Layer", "int8_layers", "quantised_weights", "weights_nbytes"]

MOST_INPUTS = (2**31 - 1) // (255 * 127)        # of a layer: its sums are int32


class Int8Layer(NamedTuple):
    """f(S scales s + biases), of exact sums S and the scales s of the rows.

    weights     (inputs, outputs) int8, from -127 to 127
    scales      (outputs,) float32; NaN where a weight is not finite
    biases      (outputs,) float32
    """

    weights: NDArray[np.int8]
    scales: NDArray[np.float32]
    biases: NDArray[np.float32]
    activation: Activation


def quantised_weights(w: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights (inputs, outputs) as integers, and the scale of every column.

    A column of which a weight is not finite has the scale NaN; one so small that its scale would be subnormal
    counts as zeros.

    >>> v, scales = quantised_weights(np.float32([[1.0, 0.0], [-0.25, 0.0]]))
    >>> v.tolist(), scales.tolist()
    ([[127, 0], [-32, 0]], [0.007874015718698502, 0.0])
    """
    w = np.asarray(w, np.float32)
    with np.errstate(all="ignore"):
        scales = _flushed(np.abs(w).max(axis=0) / np.float32(127))
        finite = np.isfinite(scales)
        ratio = w / np.where(finite & (scales > 0), scales, np.float32(np.inf))
        v = np.rint(np.where(finite, ratio, 0)).astype(np.int8)
    return v, np.where(finite, scales, np.float32(np.nan))


def int8_layers(parameters: Parameters, statistics: Statistics, layers: Sequence[Layer]) -> list[Int8Layer]:
    """The layers of a network as it is now."""
    found = []
    for i, layer in enumerate(layers):
        v, scales = quantised_weights(parameters.weights[i])
        biases = parameters.biases[i].astype(np.float64)
        if layer.batch_norm is not None:
            with np.errstate(all="ignore"):
                variance = statistics.variances[i].astype(np.float64) + layer.batch_norm.epsilon
                factor = parameters.scales[i] / np.sqrt(variance)
                biases -= factor * statistics.means[i]
                scales = (scales * factor).astype(np.float32)
        with np.errstate(all="ignore"):
            rounded = _flushed(biases.astype(np.float32))
        found.append(Int8Layer(v, _flushed(scales), rounded, layer.activation))
    return found


def weights_nbytes(sizes: Iterable[int]) -> int:
    """Bytes of weights, scales and biases of such layers.

    >>> weights_nbytes([3, 4, 2])
    68
    """
    sizes = list(sizes)
    return sum(n_in * n_out + 8 * n_out for n_in, n_out in zip(sizes, sizes[1:]))


def _flushed(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Subnormal numbers as zeros."""
    return np.where(np.abs(x) < np.finfo(np.float32).smallest_normal, np.float32(0), x)
