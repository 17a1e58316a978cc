"""Batch normalisation of the rows of an array, as the hand-written networks have it, in few passes."""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Normalized(NamedTuple):
    """What the batch gives, and what the backward pass needs."""

    mean: Array
    var: Array
    std: Array          # sqrt(var + eps)
    centered: Array     # x - mean
    x_hat: Array        # (x - mean) / std


def normalize(x: Array, eps: float) -> Normalized:
    """x (n, d); mean and var (d,) are those of the columns, var without Bessel's correction."""
    n = x.shape[0]
    mean = np.add.reduce(x, axis=0) / n
    centered = x - mean
    x_hat = centered * centered         # in the place of the result: a temporary less
    var = np.add.reduce(x_hat, axis=0) / n
    std = np.sqrt(var + eps)
    np.divide(centered, std, out=x_hat)
    return Normalized(mean, var, std, centered, x_hat)


def scale_and_shift(x_hat: Array, gamma: Array, beta: Array) -> Array:
    """gamma x_hat + beta"""
    out: Array = gamma * x_hat
    if out.dtype == np.result_type(out, beta):
        return np.add(out, beta, out=out)
    return np.add(out, beta)


def backward(dout: Array, x_hat: Array, std: Array, gamma: Array) -> tuple[Array, Array, Array]:
    """dx = gamma/std (dout - mean of dout - x_hat mean of (x_hat dout)), dgamma, dbeta."""
    n = dout.shape[0]
    dbeta = np.add.reduce(dout, axis=0)
    dx = x_hat * dout
    dgamma = np.add.reduce(dx, axis=0)
    np.multiply(x_hat, dgamma / n, out=dx, casting="same_kind")
    np.subtract(dout, dx, out=dx, casting="same_kind")
    dx -= dbeta / n
    scale = gamma / std
    dx = np.multiply(dx, scale, out=dx if np.result_type(dx, scale) == dx.dtype else None)
    return dx, dgamma, dbeta
