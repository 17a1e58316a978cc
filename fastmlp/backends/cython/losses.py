"""Losses. The kernels look through the targets too: a label out of range or a NaN declines the call."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np

from fastmlp.kernels import ops
from fastmlp.losses import BY_NAME, BinaryCrossEntropy, CallableLoss, CrossEntropy, Huber

from ._kernels import DECLINE, KERNELS, contiguous, numbers, plain


def loss_and_gradient(loss: Any, outputs: Any, targets: Any, weights: Any = None, *, out: Any = None) -> Any:
    """L = sum_i w_i l_i / sum_i w_i over the rows, and dL/dz"""
    if isinstance(loss, CallableLoss):
        value, gradient = loss(outputs, targets)
        if out is None:
            return value, gradient
        out[...] = gradient
        return value, out
    if loss.classifies:
        return _of_classes(loss.code, loss.parameter, outputs, targets, weights, out)
    binary = loss if isinstance(loss, BinaryCrossEntropy) else None
    return _of_elements(loss.code, loss.parameter, binary, outputs, targets, weights, out)


def softmax_cross_entropy(logits: Any, targets: Any, *, label_smoothing: Any = 0.0, ignore_index: Any = None,
                          weights: Any = None, out: Any = None) -> Any:
    if ignore_index is not None or not (numbers(label_smoothing) and 0 <= label_smoothing <= 1):
        return NotImplemented
    return _of_classes(CrossEntropy.code, label_smoothing, logits, targets, weights, out)


def huber(predictions: Any, targets: Any, *, delta: Any = 1.0, weights: Any = None, out: Any = None) -> Any:
    if not (numbers(delta) and 0 < delta < math.inf):
        return NotImplemented
    return _of_elements(Huber.code, delta, None, predictions, targets, weights, out)


def binary_cross_entropy(logits: Any, targets: Any, *, pos_weight: Any = None, weights: Any = None,
                         out: Any = None) -> Any:
    try:
        loss = None if pos_weight is None else BinaryCrossEntropy(pos_weight)
    except DECLINE:
        return NotImplemented
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


def _of_classes(code: int, parameter: float, z: Any, targets: Any, weights: Any, out: Any) -> Any:
    """A loss of class indices (n,) or of distributions (n, C)."""
    try:
        if out is None:
            out = np.empty(z.shape, z.dtype)
        if not plain(z, targets, out) or weights is not None and not plain(weights):
            return NotImplemented
        rows, labels = (None, targets) if targets.ndim == 1 else (targets, None)
        loss = KERNELS[z.dtype.char].loss_of_rows(out, z, rows, labels, weights, code, parameter, None)
        return NotImplemented if loss is None else (loss, out)
    except DECLINE:
        return NotImplemented


def _of_elements(code: int, parameter: float, binary: Any, z: Any, targets: Any, weights: Any,
                 out: Any) -> Any:
    """A loss element by element, of any shape, in rows as the weights want it. `binary` has a pos_weight."""
    try:
        shape = z.shape
        if out is None:
            out = np.empty(shape, z.dtype)
        if not (plain(z, targets, out) and contiguous(z, targets, out)
                and shape == targets.shape == out.shape):
            return NotImplemented
        if weights is not None and not (plain(weights) and shape):
            return NotImplemented
        pos_weight = None
        d = out
        if len(shape) != 2:
            rows = shape[0] if weights is not None else 1
            z, targets, d = (a.reshape(rows, -1) for a in (z, targets, out))
        if binary is not None:
            if len(shape) != 2 and isinstance(binary.pos_weight, tuple):
                return NotImplemented
            pos_weight = binary.pos_weights(z.shape[1], z.dtype)
        value = KERNELS[z.dtype.char].loss_of_rows(d, z, targets, None, weights, code, parameter, pos_weight)
        return NotImplemented if value is None else (value, out)
    except DECLINE:
        return NotImplemented
