"""Gradients by central differences, as in the book's ``common/gradient.py``."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastmlp.compat._types import Array

__all__ = ["np", "numerical_gradient", "numerical_gradient_2d"]

_H = 1e-4


def numerical_gradient(f: Callable[[Array], Any], x: Array) -> Array:
    """Compute (f(x + h) - f(x - h)) / 2h for every element of x, with h = 1e-4.

    Parameters
    ----------
    f : callable
        Function of ``x`` itself, in which one element is changed at a time and put back: it may as well look
        at something that holds ``x``.
    x : ndarray
        Where the gradient is taken.

    Returns
    -------
    ndarray
        Gradient, of the shape of ``x``.
    """
    gradient = np.zeros_like(x)
    for index in np.ndindex(np.shape(x)):
        _differentiate(f, x, index, gradient)
    return gradient


def numerical_gradient_2d(f: Callable[[Array], Any], X: Array) -> Array:
    """Compute the `numerical_gradient` of f at every row of X.

    Parameters
    ----------
    f : callable
        Function of a row.
    X : ndarray, shape (n, d) or (d,)
        Rows.

    Returns
    -------
    ndarray
        Gradients, of the shape of ``X``.
    """
    if X.ndim == 1:
        return _numerical_gradient_1d(f, X)
    gradient = np.zeros_like(X)
    for i, row in enumerate(X):
        gradient[i] = _numerical_gradient_1d(f, row)
    return gradient


def _numerical_gradient_1d(f: Callable[[Array], Any], x: Array) -> Array:
    gradient = np.zeros_like(x)
    for i in range(x.size):
        _differentiate(f, x, i, gradient)
    return gradient


def _differentiate(f: Callable[[Array], Any], x: Array, index: Any, gradient: Array) -> None:
    before = x[index]
    x[index] = before + _H
    above = f(x)
    x[index] = before - _H
    below = f(x)
    x[index] = before
    gradient[index] = (above - below) / (2 * _H)
