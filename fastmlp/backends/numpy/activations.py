"""Functions element by element and along the last axis; derivatives are in terms of the output y."""
from __future__ import annotations

from typing import Any

import numpy as np

from ._common import assign, or_new, quiet


@quiet
def exp(x, *, out=None):
    return np.exp(x, out=or_new(out, x.shape, x.dtype))


@quiet
def log(x, *, out=None):
    return np.log(x, out=or_new(out, x.shape, x.dtype))


@quiet
def relu(x, *, out=None):
    return np.maximum(x, 0, out=or_new(out, x.shape, x.dtype))


@quiet
def relu_backward(dy, y, *, out=None):
    return assign(out, np.where(y > 0, dy, dy.dtype.type(0)))


@quiet
def leaky_relu(x, alpha=0.01, *, out=None):
    return assign(out, np.where(x > 0, x, x * x.dtype.type(alpha)))


@quiet
def leaky_relu_backward(dy, y, alpha=0.01, *, out=None):
    return assign(out, np.where(y > 0, dy, dy * dy.dtype.type(alpha)))


@quiet
def sigmoid(x, *, out=None):
    e = np.exp(-np.abs(x))                      # at most 1: never overflows
    numerator = np.where(x < 0, e, x.dtype.type(1))
    return np.divide(numerator, 1 + e, out=or_new(out, x.shape, x.dtype))


@quiet
def sigmoid_backward(dy, y, *, out=None):
    return np.multiply(dy, y * (1 - y), out=or_new(out, dy.shape, dy.dtype))


@quiet
def tanh(x, *, out=None):
    return np.tanh(x, out=or_new(out, x.shape, x.dtype))


@quiet
def tanh_backward(dy, y, *, out=None):
    return np.multiply(dy, 1 - y * y, out=or_new(out, dy.shape, dy.dtype))


# Along the last axis -----------------------------------------------------------------------------------

@quiet
def softmax(x, *, out=None):
    y = np.subtract(x, row_max(x), out=or_new(out, x.shape, x.dtype))
    np.exp(y, out=y)
    y /= y.sum(axis=-1, keepdims=True)
    return y


@quiet
def softmax_backward(dy, y, *, out=None):
    inner = (dy * y).sum(axis=-1, keepdims=True)
    return np.multiply(y, dy - inner, out=or_new(out, dy.shape, dy.dtype))


@quiet
def log_softmax(x, *, out=None):
    y = np.subtract(x, row_max(x), out=or_new(out, x.shape, x.dtype))
    y -= np.log(np.exp(y).sum(axis=-1, keepdims=True))
    return y


@quiet
def log_softmax_backward(dy, y, *, out=None):
    total = dy.sum(axis=-1, keepdims=True)
    return np.subtract(dy, np.exp(y) * total, out=or_new(out, dy.shape, dy.dtype))


def row_max(x):
    return x.max(axis=-1, keepdims=True, initial=-np.inf)


# By activation -----------------------------------------------------------------------------------------

_FORWARD: dict[str, Any] = {
    "identity": lambda z, alpha: z,
    "relu": lambda z, alpha: relu(z, out=z),
    "leaky_relu": lambda z, alpha: leaky_relu(z, alpha, out=z),
    "sigmoid": lambda z, alpha: sigmoid(z, out=z),
    "tanh": lambda z, alpha: tanh(z, out=z),
}
_BACKWARD: dict[str, Any] = {
    "identity": lambda dy, y, alpha: dy,
    "relu": lambda dy, y, alpha: relu_backward(dy, y),
    "leaky_relu": lambda dy, y, alpha: leaky_relu_backward(dy, y, alpha),
    "sigmoid": lambda dy, y, alpha: sigmoid_backward(dy, y),
    "tanh": lambda dy, y, alpha: tanh_backward(dy, y),
}


def activate(z, activation):
    """act(z), in place."""
    return _FORWARD[activation.name](z, activation.alpha)


def derivative(dy, y, activation):
    """act'(z) dy; dy itself for the identity."""
    return _BACKWARD[activation.name](dy, y, activation.alpha)
