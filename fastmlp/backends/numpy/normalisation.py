"""Batch normalisation: x_hat = (z - mean) / sqrt(variance + epsilon), y_hat = scale x_hat + shift.

Source: Ioffe, Szegedy, "Batch Normalization", ICML 2015.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._common import quiet, sum_rows

if TYPE_CHECKING:
    from fastmlp._core.types import Array


@quiet
def mean_and_variance(z: Array) -> tuple[Array, Array]:
    """Of the rows; of none, 0."""
    n = max(len(z), 1)
    mean = sum_rows(z) / n
    return mean, sum_rows(np.square(z - mean)) / n


@quiet
def normalise(z: Array, mean: Array, variance: Array, epsilon: float, scale: Array, shift: Array
              ) -> tuple[Array, Array]:
    """y_hat, x_hat"""
    x_hat = (z - mean) / (variance + z.dtype.type(epsilon)) ** z.dtype.type(0.5)
    return scale * x_hat + shift, x_hat


@quiet
def normalise_backward(dy: Array, x_hat: Array, variance: Array, epsilon: float, scale: Array
                       ) -> tuple[Array, Array, Array]:
    """dz, dscale, dshift, where mean and variance were those of the batch"""
    dscale, dshift = sum_rows(dy * x_hat), sum_rows(dy)
    std = (variance + dy.dtype.type(epsilon)) ** dy.dtype.type(0.5)
    return scale / std * (dy - (dshift + x_hat * dscale) / max(len(dy), 1)), dscale, dshift
