"""Functions of the book's ``common/functions.py``: the same results for arrays, lists and numbers."""
from __future__ import annotations

from typing import Any

import numpy as np

import fastmlp.functional as F
from fastmlp.compat._arrays import is_floating, rectify

__all__ = ["cross_entropy_error", "identity_function", "np", "relu", "relu_grad", "sigmoid", "sigmoid_grad",
           "softmax", "softmax_loss", "step_function", "sum_squared_error"]


def identity_function(x: Any) -> Any:
    """Return x itself."""
    return x


def step_function(x: Any) -> Any:
    """1 where x > 0, else 0, as integers."""
    return np.asarray(np.greater(x, 0)).astype(int)


def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x)"""
    if is_floating(x):
        return F.sigmoid(x)
    return 1 / (1 + np.exp(-x))


def sigmoid_grad(x: Any) -> Any:
    """The derivative of `sigmoid` at x: (1 - s) s, with s = sigmoid(x)."""
    s = sigmoid(x)
    return (1.0 - s) * s


def relu(x: Any) -> Any:
    """max(x, 0)"""
    return rectify(x)


def relu_grad(x: Any) -> Any:
    """1 where x >= 0, else 0, in the dtype of x."""
    return np.asarray(np.greater_equal(x, 0)).astype(np.asarray(x).dtype)


def softmax(x: Any) -> Any:
    """e^x / sum of e^x, along the last axis."""
    if is_floating(x) and x.ndim and x.size:
        return F.softmax(x)
    powers = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return powers / np.sum(powers, axis=-1, keepdims=True)


def sum_squared_error(y: Any, t: Any) -> Any:
    """Half the sum of (y - t)^2."""
    difference = np.ravel(np.subtract(y, t))
    return 0.5 * np.dot(difference, difference)


def cross_entropy_error(y: Any, t: Any) -> Any:
    """-log(y[t] + 1e-7), the mean over the batch, for probabilities y of shape (n, classes) or (classes,).

    t holds class indices or rows with the largest value at the class."""
    if y.ndim == 1:
        y, t = y.reshape(1, -1), t.reshape(1, -1)
    if t.size == y.size:
        t = t.argmax(axis=1)
    n = y.shape[0]
    return -np.add.reduce(np.log(y[np.arange(n), t] + 1e-7), axis=None) / n


def softmax_loss(X: Any, t: Any) -> Any:
    """The `cross_entropy_error` of the `softmax` of X."""
    return cross_entropy_error(softmax(X), t)
