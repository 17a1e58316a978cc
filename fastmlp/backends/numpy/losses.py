"""Losses: the mean over the batch, and its gradient."""
from __future__ import annotations

import numpy as np

from ._common import or_new, quiet
from .activations import log_softmax


@quiet
def softmax_cross_entropy(logits, targets, *, out=None):
    """loss = -1/n sum of t log softmax(z);  dz = (softmax(z) - t) / n"""
    n = len(logits)
    log_p = log_softmax(logits)
    dlogits = np.exp(log_p, out=or_new(out, logits.shape, logits.dtype))
    if targets.ndim == 1:                       # class indices: t is 1 there and 0 elsewhere
        rows = np.arange(n)
        losses = -log_p[rows, targets]
        dlogits[rows, targets] -= 1
    else:                                       # a class of probability 0 costs 0, even where log p = -inf
        losses = -np.where(targets > 0, targets * log_p, 0).sum(axis=1)
        dlogits -= targets
    dlogits /= n
    return float(losses.mean()), dlogits


@quiet
def mean_squared_error(predictions, targets, *, out=None):
    """loss = mean of (p - t)^2 over all elements;  dp = 2 (p - t) / size"""
    d = np.subtract(predictions, targets, out=or_new(out, predictions.shape, predictions.dtype))
    loss = float(np.square(d).mean())
    d *= 2 / d.size
    return loss, d
