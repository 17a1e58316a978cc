"""Batch normalisation: x_hat = (z - mean) / sqrt(variance + epsilon), y_hat = scale x_hat + shift.

Source: Ioffe, Szegedy, "Batch Normalization", ICML 2015.
"""
from __future__ import annotations

from ._common import quiet


@quiet
def normalise(z, mean, variance, epsilon, scale, shift):
    """y_hat, x_hat"""
    x_hat = (z - mean) / (variance + z.dtype.type(epsilon)) ** z.dtype.type(0.5)
    return scale * x_hat + shift, x_hat


@quiet
def normalise_backward(dy, x_hat, variance, epsilon, scale):
    """dz, dscale, dshift, where mean and variance were those of the batch"""
    dscale, dshift = (dy * x_hat).sum(axis=0), dy.sum(axis=0)
    deviation = (variance + dy.dtype.type(epsilon)) ** dy.dtype.type(0.5)
    return scale / deviation * (dy - (dshift + x_hat * dscale) / len(dy)), dscale, dshift
