"""Losses. The kernels look through the targets too: a label out of range or a NaN declines the call."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from fastmlp.kernels import ops
from fastmlp.losses import BY_NAME, BinaryCrossEntropy, CallableLoss, CrossEntropy, Huber, Poisson

from ._kernels import KERNELS, LARGEST, labels, numbers, plain, ready, weights_of_rows


def loss_and_gradient(loss: Any, outputs: Any, targets: Any, weights: Any = None, *, out: Any = None) -> Any:
    """L = sum_i w_i l_i / sum_i w_i over the rows, and dL/dz"""
    if isinstance(loss, CallableLoss):
        value, gradient = loss(outputs, targets)
        if out is None:
            return value, gradient
        out[...] = gradient
        return value, out
    if loss.classifies:
        return _of_classes(loss.code, loss.parameter, outputs, targets, weights, out, loss.limit)
    binary = loss if isinstance(loss, BinaryCrossEntropy) else None
    return _of_elements(loss.code, loss.parameter, binary, outputs, targets, weights, out, loss.limit)


def softmax_cross_entropy(logits: Any, targets: Any, *, label_smoothing: Any = 0.0, ignore_index: Any = None,
                          weights: Any = None, out: Any = None) -> Any:
    if ignore_index is not None or not (numbers(label_smoothing) and 0 <= label_smoothing <= 1):
        return NotImplemented
    return _of_classes(CrossEntropy.code, label_smoothing, logits, targets, weights, out)


def huber(predictions: Any, targets: Any, *, delta: Any = 1.0, weights: Any = None, out: Any = None) -> Any:
    if not (numbers(delta) and 0 < delta <= LARGEST):
        return NotImplemented
    return _of_elements(Huber.code, delta, None, predictions, targets, weights, out)


def poisson(logits: Any, targets: Any, *, weights: Any = None, out: Any = None) -> Any:
    return _of_elements(Poisson.code, 0.0, None, logits, targets, weights, out)


def binary_cross_entropy(logits: Any, targets: Any, *, pos_weight: Any = None, weights: Any = None,
                         out: Any = None) -> Any:
    loss = None if pos_weight is None else BinaryCrossEntropy(pos_weight)
    return _of_elements(BinaryCrossEntropy.code, 0.0, loss, logits, targets, weights, out)


def _classes_function(code: int) -> Callable[..., Any]:
    def function(logits: Any, targets: Any, *, weights: Any = None, out: Any = None) -> Any:
        return _of_classes(code, 0.0, logits, targets, weights, out)
    return function


def _values_function(code: int) -> Callable[..., Any]:
    def function(predictions: Any, targets: Any, *, weights: Any = None, out: Any = None) -> Any:
        return _of_elements(code, 0.0, None, predictions, targets, weights, out)
    return function


def _logits_function(code: int) -> Callable[..., Any]:
    def function(logits: Any, targets: Any, *, weights: Any = None, out: Any = None) -> Any:
        return _of_elements(code, 0.0, None, logits, targets, weights, out)
    return function


def _functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """The array function of every loss without a parameter, under its name."""
    for loss in ops.LOSSES:
        cls = BY_NAME[loss.name]
        if not fields(cls):
            kind = (_classes_function if not loss.elements else
                    _values_function if cls.output == "identity" else _logits_function)
            yield loss.name, kind(cls.code)


globals().update(_functions())


def _of_classes(code: int, parameter: float, z: Any, targets: Any, weights: Any, out: Any,
                limit: float = math.inf) -> Any:
    """A loss of class indices (n,) or of distributions (n, C)."""
    if not ready(out, z) or z.ndim != 2 or not weights_of_rows(weights):
        return NotImplemented
    if labels(targets):
        rows, indices = None, targets
    elif plain(z, targets) and targets.ndim == 2:
        rows, indices = targets, None
    else:
        return NotImplemented
    if out is None:
        out = np.empty(z.shape, z.dtype)
    elif out.ndim != 2:
        return NotImplemented
    loss = KERNELS[z.dtype.char].loss_of_rows(out, z, rows, indices, weights, code, parameter, None, limit)
    return NotImplemented if loss is None else (loss, out)


def _of_elements(code: int, parameter: float, binary: Any, z: Any, targets: Any, weights: Any, out: Any,
                 limit: float = math.inf) -> Any:
    """A loss element by element, of any shape, in rows as the weights want it. `binary` has a pos_weight."""
    if not ready(out, z, targets) or z.shape != targets.shape or not weights_of_rows(weights):
        return NotImplemented
    if out is None:
        out = np.empty(z.shape, z.dtype)
    elif out.shape != z.shape:
        return NotImplemented
    pos_weight, d = None, out
    if z.ndim != 2:
        if z.size == 0 or weights is not None and z.ndim == 0:
            return NotImplemented
        if binary is not None and isinstance(binary.pos_weight, tuple):
            return NotImplemented
        rows = len(z) if weights is not None else 1
        z, targets, d = (array.reshape(rows, -1) for array in (z, targets, out))
    if binary is not None:
        pos_weight = binary.pos_weights(z.shape[1], z.dtype)
    value = KERNELS[z.dtype.char].loss_of_rows(d, z, targets, None, weights, code, parameter, pos_weight,
                                               limit)
    return NotImplemented if value is None else (value, out)
