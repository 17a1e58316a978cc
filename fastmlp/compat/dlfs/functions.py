"""Functions of the book's ``common/functions.py``: the same results for arrays, lists and numbers."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

import fastmlp.functional as F
from fastmlp.compat._arrays import is_floating, rectify
from fastmlp.compat._types import Array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Value = TypeVar("Value")

__all__ = ["cross_entropy_error", "identity_function", "np", "relu", "relu_grad", "sigmoid", "sigmoid_grad",
           "softmax", "softmax_loss", "step_function", "sum_squared_error"]


def identity_function(x: Value) -> Value:
    """Return x itself.

    Parameters
    ----------
    x : object
        Anything.

    Returns
    -------
    object
        ``x``.
    """
    return x


def step_function(x: ArrayLike) -> Array:
    """Compute 1 where x > 0, else 0, as integers.

    Parameters
    ----------
    x : array_like
        Numbers.

    Returns
    -------
    ndarray or number
        Result, of the shape of ``x``.
    """
    return np.asarray(np.greater(x, 0)).astype(int)


def sigmoid(x: ArrayLike) -> Array:
    """Compute 1 / (1 + e^-x).

    Parameters
    ----------
    x : array_like
        Numbers.

    Returns
    -------
    ndarray or number
        Result, of the shape of ``x``.
    """
    if is_floating(x):
        return F.sigmoid(x)
    return 1 / (1 + np.exp(np.negative(x)))


def sigmoid_grad(x: ArrayLike) -> Array:
    """Compute the derivative of `sigmoid` at x: (1 - s) s, with s = sigmoid(x).

    Parameters
    ----------
    x : array_like
        Numbers.

    Returns
    -------
    ndarray or number
        Result, of the shape of ``x``.
    """
    s = sigmoid(x)
    return (1.0 - s) * s


def relu(x: ArrayLike) -> Array:
    """Compute max(x, 0).

    Parameters
    ----------
    x : array_like
        Numbers.

    Returns
    -------
    ndarray or number
        Result, of the shape of ``x``.
    """
    return rectify(x)


def relu_grad(x: ArrayLike) -> Array:
    """Compute 1 where x >= 0, else 0, in the dtype of x.

    Parameters
    ----------
    x : array_like
        Numbers.

    Returns
    -------
    ndarray or number
        Result, of the shape of ``x``.
    """
    return np.asarray(np.greater_equal(x, 0)).astype(np.asarray(x).dtype)


def softmax(x: ArrayLike) -> Array:
    """Compute e^x / sum of e^x, along the last axis.

    Parameters
    ----------
    x : array_like
        Numbers.

    Returns
    -------
    ndarray or number
        Result, of the shape of ``x``.
    """
    if is_floating(x) and np.ndim(x) and np.size(x):
        return F.softmax(x)
    powers = np.exp(np.subtract(x, np.max(np.asarray(x), axis=-1, keepdims=True)))
    return powers / np.sum(powers, axis=-1, keepdims=True)


def sum_squared_error(y: ArrayLike, t: ArrayLike) -> np.floating[Any]:
    """Compute half the sum of (y - t)^2.

    Parameters
    ----------
    y : array_like
        Outputs.
    t : array_like
        Targets, of the same shape.

    Returns
    -------
    floating
        Error.
    """
    difference = np.ravel(np.subtract(y, t))
    return 0.5 * np.dot(difference, difference)


def cross_entropy_error(y: Array, t: Array) -> np.floating[Any]:
    """Compute -log(y[t] + 1e-7), the mean over the batch.

    Parameters
    ----------
    y : ndarray, shape (n, classes) or (classes,)
        Probabilities.
    t : ndarray, shape (n,) or like ``y``
        Class indices, or rows with the largest value at the class.

    Returns
    -------
    floating
        Error.
    """
    if y.ndim == 1:
        y, t = y.reshape(1, -1), t.reshape(1, -1)
    if t.size == y.size:
        t = t.argmax(axis=1)
    n = y.shape[0]
    return -np.add.reduce(np.log(y[np.arange(n), t] + 1e-7), axis=None) / n


def softmax_loss(X: Array, t: Array) -> np.floating[Any]:
    """Compute the `cross_entropy_error` of the `softmax` of X.

    Parameters
    ----------
    X : ndarray, shape (n, classes) or (classes,)
        Scores.
    t : ndarray, shape (n,) or like ``X``
        Class indices, or rows with the largest value at the class.

    Returns
    -------
    floating
        Error.
    """
    return cross_entropy_error(softmax(X), t)
