"""Losses. The kernels look through the targets too: a label out of range or a NaN declines the call."""
from __future__ import annotations

from typing import Any

import numpy as np

from ._kernels import DECLINE, KERNELS, contiguous, plain

_CROSS_ENTROPY, _CROSS_ENTROPY_ROWS, _MEAN_SQUARED_ERROR = 0, 1, 2     # as the kernels number them


def softmax_cross_entropy(logits: Any, targets: Any, *, out: Any = None) -> Any:
    try:
        if targets.ndim == 1:
            return _loss(logits, None, targets, _CROSS_ENTROPY, out)
        return _loss(logits, targets, None, _CROSS_ENTROPY_ROWS, out)
    except DECLINE:
        return NotImplemented


def mean_squared_error(predictions: Any, targets: Any, *, out: Any = None) -> Any:
    try:
        shape = predictions.shape
        if len(shape) == 2:
            return _loss(predictions, targets, None, _MEAN_SQUARED_ERROR, out)
        if out is None:
            out = np.empty(shape, predictions.dtype)
        if not (plain(predictions, targets, out) and contiguous(predictions, targets, out)
                and shape == targets.shape == out.shape):
            return NotImplemented
        result = _loss(predictions.reshape(1, -1), targets.reshape(1, -1), None, _MEAN_SQUARED_ERROR,
                       out.reshape(1, -1))
        return result if result is NotImplemented else (result[0], out)
    except DECLINE:
        return NotImplemented


def _loss(z: Any, rows: Any, labels: Any, kind: int, out: Any) -> Any:
    if out is None:
        out = np.empty(z.shape, z.dtype)
    if not plain(z, out, labels if rows is None else rows):
        return NotImplemented
    loss = KERNELS[z.dtype.char].loss_of_rows(out, z, rows, labels, kind)
    return NotImplemented if loss is None else (loss, out)
