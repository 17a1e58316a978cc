"""Losses of a batch, and their gradients."""
from __future__ import annotations

import numpy as np  # noqa: F401  (the examples)
from numpy.typing import ArrayLike

from fastmlp import checks

from ._door import Array, first_chance, run

__all__ = ["softmax_cross_entropy", "mean_squared_error"]


@first_chance
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, out: Array | None = None
) -> tuple[float, Array]:
    """loss = -1/n sum_i sum_j t_ij ln softmax(z_i)_j, in nats;  dz = (softmax(z) - t) / n.

    The mean over the n rows of a batch, and its gradient. Shapes: logits z (n, C); targets either class
    indices (n,) of an integer dtype, from 0 to C - 1, or rows of probabilities (n, C) of the dtype of the
    logits -> (loss, dlogits (n, C)). Stable for logits of any size; a class of probability 0 costs 0 even
    where its logit is -inf. `out` receives dlogits and may be the logits.

    Raises TypeError for a wrong dtype; ValueError for an empty batch, shapes that do not fit, labels out of
    range, targets that are NaN or negative, or rows of them that do not sum to 1 (within 1e-3 in float32,
    1e-6 in float64), and for an `out` of another shape, read-only or overlapping an input.

    Source: Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.4.

    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 2)), np.array([0]))
    >>> round(loss, 4)
    0.6931
    >>> dlogits
    array([[-0.5,  0.5]])
    """
    logits = checks.floating("logits", logits)
    checks.shape("logits", logits, ("rows", "classes"))
    checks.not_empty("logits", logits)
    targets = checks.class_targets("targets", targets, logits)
    checks.output("out", out, logits.shape, logits.dtype, {"logits": logits, "targets": targets}, ("logits",))
    loss, dlogits = run("softmax_cross_entropy", (logits, targets), out=out)
    return loss, dlogits if out is None else out


@first_chance
def mean_squared_error(
    predictions: ArrayLike, targets: ArrayLike, *, out: Array | None = None
) -> tuple[float, Array]:
    """loss = 1/size sum (p - t)^2;  dp = 2 (p - t) / size.

    The mean over all elements (rows times columns), and its gradient. predictions p and targets t have one
    shape, any but empty: nothing is broadcast, (n,) does not go with (n, 1) -> (loss, dpredictions). `out`
    receives dpredictions and may be the predictions.

    Raises TypeError for a wrong dtype; ValueError for an empty batch, two shapes, NaN in targets, and an
    `out` of another shape, read-only or overlapping an input.

    Source: Legendre, "Nouvelles methodes pour la determination des orbites des cometes", 1805.

    >>> mean_squared_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    (2.0, array([ 0., -2.]))
    """
    predictions, targets = checks.operands(predictions=predictions, targets=targets)
    checks.same_shape(predictions=predictions, targets=targets)
    checks.not_empty("predictions", predictions)
    checks.no_nan("targets", targets)
    inputs = {"predictions": predictions, "targets": targets}
    checks.output("out", out, predictions.shape, predictions.dtype, inputs, ("predictions",))
    loss, dpredictions = run("mean_squared_error", (predictions, targets), out=out)
    return loss, dpredictions if out is None else out
