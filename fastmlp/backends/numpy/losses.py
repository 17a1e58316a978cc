"""Losses: the weighted mean over the batch, and its gradient. z are outputs (n, m), t their targets."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.kernels import ops
from fastmlp.losses import BY_NAME, BinaryCrossEntropy, CallableLoss, CrossEntropy, Huber, Poisson

from ._common import assign, or_new, quiet
from .activations import log_softmax, sigmoid

if TYPE_CHECKING:
    from fastmlp._core.types import Array
    from fastmlp.losses import Loss


@quiet
def loss_and_gradient(loss: Loss, outputs: Array, targets: Array, weights: Array | None = None, *,
                      out: Array | None = None) -> tuple[float, Array]:
    """L = sum_i w_i l_i / sum_i w_i over the rows, and dL/dz"""
    if isinstance(loss, CallableLoss):
        value, gradient = loss(outputs, targets)
        return value, assign(out, gradient)
    n = len(outputs) if outputs.ndim else 1
    if loss.name in _OF_CLASSES:
        if targets.ndim == 1:       # a copy: NumPy does not survive another thread that writes to its indices
            targets = targets.copy()
        values, gradient = _OF_CLASSES[loss.name](loss, outputs, targets)
        values = np.minimum(values, loss.limit)
    else:
        values, gradient = _OF_ELEMENTS[loss.name](loss, outputs, targets)
        values = np.minimum(values, loss.limit)
        values = values.reshape(n, -1).mean(axis=1)
        gradient /= outputs.size // n
    if weights is None:
        return float(values.mean()), np.divide(gradient, n, out=or_new(out, outputs.shape, outputs.dtype))
    counts = weights > 0
    share = weights / (weights.sum() or 1)      # a batch of weights 0 has loss 0
    smallest = np.finfo(outputs.dtype).smallest_normal          # a row that counts has a share, however small
    column = np.where(counts, np.maximum(share.astype(outputs.dtype), smallest), outputs.dtype.type(0))
    column = column.reshape(n, *(1,) * (outputs.ndim - 1))
    gradient = np.where(column != 0, gradient * column, column)     # weight 0 is 0, whatever the row holds
    return float(np.where(counts, values * share, 0).sum()), assign(out, gradient)


# Of classes: the losses of the rows (n,), and their gradients (n, C) -----------------------------------

def _cross_entropy(loss: CrossEntropy, z: Array, t: Array) -> tuple[Array, Array]:
    s, classes = loss.label_smoothing, z.shape[1]
    log_p = log_softmax(z)
    if t.ndim == 1:                             # class indices: t is 1 there and 0 elsewhere
        rows = np.arange(len(z))
        values, gradient = -(1 - s) * log_p[rows, t], np.exp(log_p)
        gradient[rows, t] -= 1 - s
        if s:
            values -= s * log_p.mean(axis=1)
            gradient -= s / classes
        return values, gradient
    t = (1 - s) * t + s / classes if s else t
    return _sum_of(t, -log_p), np.exp(log_p) - t


def _kl_divergence(loss: Loss, z: Array, t: Array) -> tuple[Array, Array]:
    log_p = log_softmax(z)
    return _sum_of(t, np.log(t) - log_p), np.exp(log_p) - t


def _sum_of(t: Array, cost: Array) -> Array:
    """sum_c t_c cost_c; a class of probability 0 costs 0, even where log p = -inf"""
    total: Array = np.where(t > 0, t * cost, 0).sum(axis=1)
    return total


def _multiclass_hinge(loss: Loss, z: Array, t: Array) -> tuple[Array, Array]:
    rows = np.arange(len(z))
    others = z.copy()
    others[rows, t] = -np.inf
    rival = others.argmax(axis=1)
    margin = 1 + (others[rows, rival] - z[rows, t])
    gradient = np.zeros_like(z)
    missed = margin > 0
    gradient[rows[missed], rival[missed]] = 1
    gradient[rows[missed], t[missed]] = -1
    gradient[np.isnan(margin)] = np.nan
    return np.maximum(margin, 0), gradient


# Element by element: the losses and their gradients, both like z ---------------------------------------

def _mean_squared_error(loss: Loss, z: Array, t: Array) -> tuple[Array, Array]:
    return np.square(z - t), 2 * (z - t)


def _mean_absolute_error(loss: Loss, z: Array, t: Array) -> tuple[Array, Array]:
    return np.abs(z - t), np.sign(z - t)


def _huber(loss: Huber, z: Array, t: Array) -> tuple[Array, Array]:
    e = z - t
    inside = np.clip(e, -loss.delta, loss.delta)
    return inside * (e - 0.5 * inside), inside


def _poisson(loss: Poisson, z: Array, t: Array) -> tuple[Array, Array]:
    mean = np.exp(z)
    constant = np.where(t > 0, t * np.log(t) - t, 0) if loss.deviance else 0.0
    return np.where(t > 0, mean - t * z, mean) + constant, mean - t


def _binary_cross_entropy(loss: BinaryCrossEntropy, z: Array, t: Array) -> tuple[Array, Array]:
    p = loss.pos_weights(z.shape[-1], z.dtype) if z.ndim == 2 else loss.pos_weight
    w = t if p is None else p * t
    cost = np.log1p(np.exp(-np.abs(z)))         # -log s(z) = cost + max(-z, 0)
    values = (np.where(t > 0, w * (cost + np.maximum(-z, 0)), 0)
              + np.where(t < 1, (1 - t) * (cost + np.maximum(z, 0)), 0))
    return values, (1 - t) * sigmoid(z) - w * sigmoid(-z)


def _hinge(loss: Loss, z: Array, t: Array) -> tuple[Array, Array]:
    missing = np.maximum(1 - t * z, 0)
    return missing, np.where(missing > 0, -t, missing)


def _squared_hinge(loss: Loss, z: Array, t: Array) -> tuple[Array, Array]:
    missing = np.maximum(1 - t * z, 0)
    return np.square(missing), -2 * t * missing


def _formulas(elements: bool) -> dict[str, Callable[..., tuple[Array, Array]]]:
    names = [f"_{loss.name}" for loss in ops.LOSSES if loss.elements == elements]
    ops.complete(f"function in {__name__}", names, [name for name in names if name in globals()])
    return {name[1:]: globals()[name] for name in names}


_OF_CLASSES, _OF_ELEMENTS = _formulas(elements=False), _formulas(elements=True)


# Array functions ---------------------------------------------------------------------------------------

def softmax_cross_entropy(logits: Array, targets: Array, *, label_smoothing: float = 0.0,
                          ignore_index: int | None = None, weights: Array | None = None,
                          out: Array | None = None) -> tuple[float, Array]:
    loss = CrossEntropy(label_smoothing, ignore_index)
    if targets.ndim == 1:
        targets, counted = loss.split(targets)
        if counted is not None:
            weights = np.where(counted, 1.0 if weights is None else weights, 0.0)
    return loss_and_gradient(loss, logits, targets, weights, out=out)


def huber(predictions: Array, targets: Array, *, delta: float = 1.0, weights: Array | None = None,
          out: Array | None = None) -> tuple[float, Array]:
    return loss_and_gradient(Huber(delta), predictions, targets, weights, out=out)


def poisson(logits: Array, targets: Array, *, weights: Array | None = None,
            out: Array | None = None) -> tuple[float, Array]:
    return loss_and_gradient(Poisson(), logits, targets, weights, out=out)


def binary_cross_entropy(logits: Array, targets: Array, *,
                         pos_weight: float | Sequence[float] | None = None, weights: Array | None = None,
                         out: Array | None = None) -> tuple[float, Array]:
    return loss_and_gradient(BinaryCrossEntropy(pos_weight), logits, targets, weights, out=out)


def _of_values(loss: Loss) -> Callable[..., tuple[float, Array]]:
    def function(predictions: Array, targets: Array, *, weights: Array | None = None,
                 out: Array | None = None) -> tuple[float, Array]:
        return loss_and_gradient(loss, predictions, targets, weights, out=out)
    return function


def _of_logits(loss: Loss) -> Callable[..., tuple[float, Array]]:
    def function(logits: Array, targets: Array, *, weights: Array | None = None,
                 out: Array | None = None) -> tuple[float, Array]:
        return loss_and_gradient(loss, logits, targets, weights, out=out)
    return function


# Every loss without a parameter has its array function, under its name.
globals().update(
    (name, (_of_values if loss.output == "identity" else _of_logits)(loss))
    for name, loss in ((name, cls()) for name, cls in BY_NAME.items() if not fields(cls)))
