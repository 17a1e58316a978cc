"""Losses of a batch, and their gradients.

All take `weights` (n,), what every row counts in the mean; None for all alike. A row of weight 0 counts for
nothing, whatever it holds.

Targets may be integers or booleans where these say the same: a table (n, C) with one 1 in every row, labels 0
and 1, -1 and +1, counts, values. They are converted to the dtype of the outputs, which changes none of them:
ValueError for integers that it does not hold. Floats of another dtype are not converted.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastmlp import checks, losses

from ._door import Array, first_chance, run

__all__ = ["softmax_cross_entropy", "kl_divergence", "multiclass_hinge", "mean_squared_error",
           "mean_absolute_error", "huber", "poisson", "binary_cross_entropy", "hinge", "squared_hinge"]


# Of classes --------------------------------------------------------------------------------------------

@first_chance
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, label_smoothing: float = 0.0, ignore_index: int | None = None,
    weights: ArrayLike | None = None, out: Array | None = None,
) -> tuple[float, Array]:
    """loss = -sum_i w_i sum_j t_ij ln softmax(z_i)_j / sum_i w_i, in nats;  dz = w (softmax(z) - t) / sum w.

    The mean over the n rows of a batch, and its gradient. Shapes: logits z (n, C); targets either class
    indices (n,) or (n, 1) of an integer dtype, from 0 to C - 1, or rows of probabilities (n, C) of the dtype
    of the logits, or of integers or booleans (one-hot) -> (loss, dlogits (n, C)). Stable for logits of any
    size; a class of probability 0 costs 0 even where its logit is -inf. `label_smoothing` s, from 0 to 1,
    replaces t by (1 - s) t + s / C. Rows whose class index is `ignore_index` count for nothing. `weights`
    (n,) of any real dtype, 1 by default. `out` receives dlogits and may be the logits.

    Raises TypeError for a wrong dtype; ValueError for an empty batch, shapes that do not fit, labels out of
    range, targets that are NaN or negative, or rows of them that do not sum to 1 (within 1e-3 in float32,
    1e-6 in float64), weights that are negative, not finite or all 0 (with those of the ignored rows), and for
    an `out` of another shape, read-only or overlapping an input.

    Source: Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.4; Szegedy et al.,
    "Rethinking the Inception Architecture for Computer Vision", CVPR 2016 (label smoothing).

    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 2)), np.array([0]))
    >>> round(loss, 4)
    0.6931
    >>> dlogits
    array([[-0.5,  0.5]])
    """
    loss = losses.CrossEntropy(label_smoothing, ignore_index)
    given = _given("logits", logits, targets)
    logits = _logits(given["logits"])
    counted = None
    targets = checks.column_of_labels(given["targets"], len(logits))
    if targets.ndim == 1:           # a copy, so that nobody else writes to what is validated
        targets = targets.copy()
        targets, counted = loss.split(targets)
    targets = checks.class_targets("targets", targets, logits)
    return _run(loss, given, logits, targets, weights, out, counted)


@first_chance
def kl_divergence(
    logits: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """loss = sum_i w_i sum_j t_ij (ln t_ij - ln softmax(z_i)_j) / sum_i w_i, in nats;
    dz = w (softmax(z) - t) / sum w.

    The mean divergence of the rows of softmax(z) from those of t, and its gradient: 0 where they agree.
    Shapes: logits z (n, C), rows of probabilities t (n, C) of their dtype -> (loss, dlogits (n, C)). Where t
    is 0 a class costs nothing. `weights` (n,) of any real dtype, 1 by default. `out` receives dlogits and may
    be the logits.

    Raises TypeError and ValueError as `softmax_cross_entropy` does.

    Source: Kullback, Leibler, "On Information and Sufficiency", Annals of Mathematical Statistics 22, 1951.

    >>> loss, dlogits = kl_divergence(np.zeros((1, 2)), np.array([[0.75, 0.25]]))
    >>> round(loss, 4)
    0.1308
    >>> dlogits
    array([[-0.25,  0.25]])
    """
    given = _given("logits", logits, targets)
    logits = _logits(given["logits"])
    targets = checks.target_values("targets", given["targets"], logits)
    checks.same_shape(logits=logits, targets=targets)
    checks.targets("targets", targets, "distributions")
    return _run(losses.KLDivergence(), given, logits, targets, weights, out)


@first_chance
def multiclass_hinge(
    logits: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """loss = sum_i w_i l_i / sum_i w_i, l_i = max(0, 1 + max over k != t_i of z_ik - z_it);
    dz_ik = w_i / sum w at the first such k, -w_i / sum w at t_i, 0 elsewhere, where l_i > 0.

    The mean of what is missing to a margin of 1 between the right class and the best of the others, and its
    gradient. Shapes: scores z (n, C), class indices t (n,) or (n, 1) of an integer dtype ->
    (loss, dlogits (n, C)). `weights` (n,) of any real dtype, 1 by default. `out` receives dlogits and may be
    the logits.

    Raises TypeError and ValueError as `softmax_cross_entropy` does.

    Source: Crammer, Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines",
    Journal of Machine Learning Research 2, 2001.

    >>> multiclass_hinge(np.array([[2.0, 1.5, 0.0]]), np.array([0]))
    (0.5, array([[-1.,  1.,  0.]]))
    """
    given = _given("logits", logits, targets)
    logits = _logits(given["logits"])
    targets = checks.column_of_labels(given["targets"], len(logits)).copy()
    targets = checks.labels("targets", targets, *logits.shape)
    return _run(losses.MultiClassHinge(), given, logits, targets, weights, out)


# Element by element ------------------------------------------------------------------------------------

@first_chance
def mean_squared_error(
    predictions: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """loss = 1/size sum (p - t)^2;  dp = 2 (p - t) / size.

    The mean over all elements (rows times columns), and its gradient. predictions p and targets t have one
    shape, any but empty: nothing is broadcast, (n,) does not go with (n, 1) -> (loss, dpredictions).
    `weights` (n,) of any real dtype, one for each index of the first axis, make it the weighted mean of the
    means of the rows. `out` receives dpredictions and may be the predictions.

    Raises TypeError for a wrong dtype; ValueError for an empty batch, two shapes, NaN in targets, weights
    that are negative, not finite or all 0, and an `out` of another shape, read-only or overlapping an input.

    Source: Legendre, "Nouvelles methodes pour la determination des orbites des cometes", 1805.

    >>> mean_squared_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    (2.0, array([ 0., -2.]))
    """
    return _elements(losses.MeanSquaredError(), "predictions", predictions, targets, weights, out)


@first_chance
def mean_absolute_error(
    predictions: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """loss = 1/size sum |p - t|;  dp = sign(p - t) / size, 0 where p = t.

    Shapes, weights and `out` are those of `mean_squared_error`, and so are the errors.

    Source: Laplace, "Memoire sur la probabilite des causes par les evenements", 1774.

    >>> mean_absolute_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    (1.0, array([ 0. , -0.5]))
    """
    return _elements(losses.MeanAbsoluteError(), "predictions", predictions, targets, weights, out)


@first_chance
def huber(
    predictions: ArrayLike, targets: ArrayLike, *, delta: float = 1.0, weights: ArrayLike | None = None,
    out: Array | None = None,
) -> tuple[float, Array]:
    """loss = 1/size sum h(p - t), h(e) = e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2);
    dp = max(-delta, min(delta, p - t)) / size.

    Shapes, weights and `out` are those of `mean_squared_error`, and so are the errors; ValueError too for a
    delta that is not finite and above 0. delta is in units of the targets.

    Source: Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.

    >>> huber(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    (0.75, array([ 0. , -0.5]))
    """
    return _elements(losses.Huber(delta), "predictions", predictions, targets, weights, out)


@first_chance
def poisson(
    logits: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """loss = 1/size sum exp(z) - t z;  dz = (exp(z) - t) / size.

    The negative log-likelihood of counts t with means exp(z), less ln t!. Shapes, weights and `out` are those
    of `mean_squared_error`, and so are the errors; ValueError too for counts that are negative or infinite.

    Source: McCullagh, Nelder, "Generalized Linear Models", 1989, chapter 6.

    >>> poisson(np.array([0.0, 0.0]), np.array([1.0, 3.0]))
    (1.0, array([ 0., -1.]))
    """
    return _elements(losses.Poisson(), "logits", logits, targets, weights, out)


@first_chance
def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, pos_weight: float | Sequence[float] | None = None,
    weights: ArrayLike | None = None, out: Array | None = None,
) -> tuple[float, Array]:
    """loss = -1/size sum p t ln s(z) + (1 - t) ln(1 - s(z)), s the logistic function, in nats;
    dz = ((1 - t) s(z) - p t (1 - s(z))) / size.

    One label or many for a row. Stable for logits of any size. Targets are 0 or 1, or probabilities between
    them; `pos_weight` p, 1 by default, is one number or, for logits (n, m), one for each of m columns.
    Shapes, weights and `out` are those of `mean_squared_error`, and so are the errors; ValueError too for
    other targets and for a pos_weight that is negative, not finite, or of another length.

    Source: Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.2.

    >>> loss, dlogits = binary_cross_entropy(np.array([0.0, 0.0]), np.array([1.0, 0.0]))
    >>> round(loss, 4), dlogits
    (0.6931, array([-0.25,  0.25]))
    """
    return _elements(losses.BinaryCrossEntropy(pos_weight), "logits", logits, targets, weights, out)


@first_chance
def hinge(
    logits: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """loss = 1/size sum max(0, 1 - t z);  dz = -t / size where t z < 1, else 0.

    Targets are -1 or +1; ValueError for others. Shapes, weights and `out` are those of `mean_squared_error`,
    and so are the errors.

    Source: Cortes, Vapnik, "Support-Vector Networks", Machine Learning 20, 1995.

    >>> hinge(np.array([0.5, 2.0]), np.array([1.0, 1.0]))
    (0.25, array([-0.5,  0. ]))
    """
    return _elements(losses.Hinge(), "logits", logits, targets, weights, out)


@first_chance
def squared_hinge(
    logits: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """loss = 1/size sum max(0, 1 - t z)^2;  dz = -2 t max(0, 1 - t z) / size.

    Targets are -1 or +1; ValueError for others. Shapes, weights and `out` are those of `mean_squared_error`,
    and so are the errors.

    Source: Lee, Mangasarian, "SSVM: A Smooth Support Vector Machine for Classification", Computational
    Optimization and Applications 20, 2001.

    >>> squared_hinge(np.array([0.5, 2.0]), np.array([1.0, 1.0]))
    (0.125, array([-0.5, -0. ]))
    """
    return _elements(losses.SquaredHinge(), "logits", logits, targets, weights, out)


def _given(name: str, outputs: ArrayLike, targets: ArrayLike) -> dict[str, Array]:
    """The arrays as they came, before any conversion: what `out` must not share memory with."""
    return {name: checks.as_array(name, outputs), "targets": checks.as_array("targets", targets)}


def _logits(logits: ArrayLike) -> Array:
    array = checks.floating("logits", logits)
    checks.shape("logits", array, ("rows", "classes"))
    checks.not_empty("logits", array)
    checks.addressable("logits", array.shape, array.dtype)
    return array


def _elements(loss: losses.Loss, name: str, outputs: ArrayLike, targets: ArrayLike, weights: Any,
              out: Array | None) -> tuple[float, Array]:
    given = _given(name, outputs, targets)
    outputs = checks.floating(name, given[name])
    targets = checks.target_values("targets", given["targets"], outputs)
    checks.same_shape(**{name: outputs, "targets": targets})
    checks.not_empty(name, outputs)
    checks.addressable(name, outputs.shape, outputs.dtype)
    checks.targets("targets", targets, loss.targets)
    if isinstance(loss, losses.BinaryCrossEntropy) and isinstance(loss.pos_weight, tuple):
        if outputs.ndim != 2:
            raise ValueError(f"pos_weight: expected one number for {name} of shape {outputs.shape}, got "
                             f"{len(loss.pos_weight)}")
        loss.pos_weights(outputs.shape[1], outputs.dtype)
    return _run(loss, given, outputs, targets, weights, out)


def _run(loss: losses.Loss, given: dict[str, Array], outputs: Array, targets: Array, weights: Any,
         out: Array | None, counted: Array | None = None) -> tuple[float, Array]:
    """The backend's loss and gradient, of checked outputs and targets; `given`: see `_given`."""
    name = next(iter(given))
    if weights is not None:
        checks.has_rows(name, outputs)
        given["weights"] = checks.as_array("weights", weights)
        weights = checks.sample_weights("weights", given["weights"], len(outputs))
    if counted is not None:
        weights = counted.astype(np.float64) if weights is None else np.where(counted, weights, 0.0)
        if not weights.any():
            raise ValueError("targets: expected a row that counts, got only ignored ones and weights of 0")
    checks.output("out", out, outputs.shape, outputs.dtype, given, (name,))
    arrays = (outputs, targets) if weights is None else (outputs, targets, weights)
    value, gradient = run("loss_and_gradient", arrays, before=(loss,), out=out)
    return value, gradient if out is None else out
