"""What the two networks of the book have in common."""
from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.compat import _arrays

from .layers import Affine


def initial_params(sizes: list[int], weight_init_std: Any) -> dict[str, Any]:
    """W1, b1, W2, ... from ``np.random``: of standard deviation sqrt(2/inputs) for "relu" or "he",
    sqrt(1/inputs) for "sigmoid" or "xavier", else the number; biases 0."""
    gains = {"relu": 2.0, "he": 2.0, "sigmoid": 1.0, "xavier": 1.0}
    gain = gains.get(str(weight_init_std).lower())
    params: dict[str, Any] = {}
    for i in range(1, len(sizes)):
        scale = weight_init_std if gain is None else np.sqrt(gain / sizes[i - 1])
        params[f"W{i}"] = scale * np.random.randn(sizes[i - 1], sizes[i])
        params[f"b{i}"] = np.zeros(sizes[i])
    return params


def backward(layers: list[Any], dout: Any) -> None:
    """Backward through all layers; the first one's gradient of the input, which nobody reads, is left out."""
    first, *others = layers
    for layer in reversed(others):
        dout = layer.backward(dout)
    if type(first) is Affine:
        first.backward_parameters(dout)
    else:
        first.backward(dout)


def penalty(params: Any, layers: int, factor: Any) -> Any:
    """factor/2 times the sum of all squared weights"""
    if isinstance(factor, (int, float)) and factor == 0:
        return 0
    return sum(0.5 * factor * _arrays.squared_norm(params[f"W{i}"]) for i in range(1, layers + 1))


def accuracy(y: Any, t: Any) -> Any:
    """The share of rows whose largest value is at the class t, indices or one-hot rows."""
    if t.ndim != 1:
        t = np.argmax(t, axis=1)
    return np.sum(np.argmax(y, axis=1) == t) / float(len(y))
