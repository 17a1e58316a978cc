"""Losses of a batch, and their gradients.

All take `weights` (n,), what every row counts in the mean; None for all alike. A row of weight 0 counts for
nothing, whatever it holds.

Targets may be integers or booleans where these say the same: a table (n, C) with one 1 in every row, labels 0
and 1, -1 and +1, counts, values. They are converted to the dtype of the outputs, which changes none of them:
ValueError for integers that it does not hold. Floats of another dtype are not converted.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import losses
from fastmlp._core import checks

from ._dispatch import fast_path, run

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array

__all__ = ["softmax_cross_entropy", "kl_divergence", "multiclass_hinge", "mean_squared_error",
           "mean_absolute_error", "huber", "poisson", "binary_cross_entropy", "hinge", "squared_hinge"]


# Of classes --------------------------------------------------------------------------------------------

@fast_path
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, label_smoothing: float = 0.0, ignore_index: int | None = None,
    weights: ArrayLike | None = None, out: Array | None = None,
) -> tuple[float, Array]:
    """Mean cross-entropy of softmax, and its gradient.

    Over the n rows of a batch::

        loss = -sum_i w_i sum_j t_ij ln softmax(z_i)_j / sum_i w_i
        dz = w (softmax(z) - t) / sum w

    Stable for logits of any size; a class of probability 0 costs 0 even where its logit is -inf.

    Parameters
    ----------
    logits : array_like of float32 or float64, shape (n, C)
        Logits z of C classes.
    targets : array_like, shape (n,), (n, 1) or (n, C)
        Class indices (n,) or (n, 1) of an integer dtype, from 0 to C - 1; or rows of probabilities (n, C), of
        the dtype of the logits, or of integers or booleans (one-hot).
    label_smoothing : float, default 0.0
        Share s from 0 to 1: t is replaced by (1 - s) t + s / C.
    ignore_index : int, optional
        Rows of this class index count for nothing.
    weights : array_like of any real dtype, shape (n,), optional
        Weight of each row, >= 0; 1 for all if not given.
    out : ndarray, optional
        Array for the gradient, of the shape and dtype of ``logits``; may be ``logits`` itself. New if not
        given.

    Returns
    -------
    loss : float
        Mean loss of the batch, in nats.
    dlogits : ndarray, shape and dtype of ``logits``
        Its gradient with respect to ``logits``; ``out`` if given.

    Raises
    ------
    TypeError
        For a wrong dtype.
    ValueError
        For an empty batch, shapes that do not fit, labels out of range, targets that are NaN or negative,
        rows of them that do not sum to 1 (within 1e-3 in float32, 1e-6 in float64), weights that are
        negative, not finite or all 0 (with those of the ignored rows), and for an ``out`` of another shape,
        read-only or overlapping an input.

    See Also
    --------
    fastmlp.losses.CrossEntropy : The same loss for a model, and when to use it.

    References
    ----------
    Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.4.

    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016 (label smoothing).

    Examples
    --------
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
        labels: Array = targets.copy()
        targets, counted = loss.split(labels)
    targets = checks.class_targets("targets", targets, logits)
    return _run(loss, given, logits, targets, weights, out, counted)


@fast_path
def kl_divergence(
    logits: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """Mean divergence of the rows of softmax(z) from those of t, and its gradient.

    Over the n rows of a batch::

        loss = sum_i w_i sum_j t_ij (ln t_ij - ln softmax(z_i)_j) / sum_i w_i
        dz = w (softmax(z) - t) / sum w

    The Kullback-Leibler divergence. Where t is 0 a class costs nothing.

    Parameters
    ----------
    logits : array_like of float32 or float64, shape (n, C)
        Logits z of C classes.
    targets : array_like, shape of ``logits``
        Rows of probabilities t.
    weights : array_like of any real dtype, shape (n,), optional
        Weight of each row, >= 0; 1 for all if not given.
    out : ndarray, optional
        Array for the gradient, of the shape and dtype of ``logits``; may be ``logits`` itself. New if not
        given.

    Returns
    -------
    loss : float
        Mean loss of the batch, in nats; 0 where they agree.
    dlogits : ndarray, shape and dtype of ``logits``
        Its gradient with respect to ``logits``; ``out`` if given.

    Raises
    ------
    TypeError
        For a wrong dtype.
    ValueError
        For an empty batch, shapes that do not fit, targets that are NaN or negative, rows of them that do not
        sum to 1 (within 1e-3 in float32, 1e-6 in float64), weights that are negative, not finite or all 0,
        and for an ``out`` of another shape, read-only or overlapping an input.

    See Also
    --------
    fastmlp.losses.KLDivergence : The same loss for a model, and when to use it.

    References
    ----------
    Kullback, Leibler, "On Information and Sufficiency", Annals of Mathematical Statistics 22, 1951.

    Examples
    --------
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


@fast_path
def multiclass_hinge(
    logits: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """Mean hinge loss of the best wrong class, and its gradient.

    Over the n rows of a batch::

        loss = sum_i w_i l_i / sum_i w_i
        l_i = max(0, 1 + max over k != t_i of z_ik - z_it)
        dz_ik = w_i / sum w at the first such k, -w_i / sum w at t_i, 0 elsewhere, where l_i > 0

    The mean of what is missing to a margin of 1 between the right class and the best of the others.

    Parameters
    ----------
    logits : array_like of float32 or float64, shape (n, C)
        Scores z of C classes.
    targets : array_like of int, shape (n,) or (n, 1)
        Class indices t of any integer dtype, from 0 to C - 1.
    weights : array_like of any real dtype, shape (n,), optional
        Weight of each row, >= 0; 1 for all if not given.
    out : ndarray, optional
        Array for the gradient, of the shape and dtype of ``logits``; may be ``logits`` itself. New if not
        given.

    Returns
    -------
    loss : float
        Mean loss of the batch.
    dlogits : ndarray, shape and dtype of ``logits``
        Its gradient with respect to ``logits``; ``out`` if given.

    Raises
    ------
    TypeError
        For a wrong dtype.
    ValueError
        For an empty batch, shapes that do not fit, labels out of range, weights that are negative, not finite
        or all 0, and for an ``out`` of another shape, read-only or overlapping an input.

    See Also
    --------
    fastmlp.losses.MultiClassHinge : The same loss for a model, and when to use it.

    References
    ----------
    Crammer, Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines", Journal
    of Machine Learning Research 2, 2001.

    Examples
    --------
    >>> multiclass_hinge(np.array([[2.0, 1.5, 0.0]]), np.array([0]))
    (0.5, array([[-1.,  1.,  0.]]))
    """
    given = _given("logits", logits, targets)
    logits = _logits(given["logits"])
    targets = checks.column_of_labels(given["targets"], len(logits)).copy()
    targets = checks.labels("targets", targets, *logits.shape)
    return _run(losses.MultiClassHinge(), given, logits, targets, weights, out)


# Element by element ------------------------------------------------------------------------------------

@fast_path
def mean_squared_error(
    predictions: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """Mean squared error, and its gradient.

    Over all elements of the batch, ``size`` of them::

        loss = 1/size sum (p - t)^2
        dp = 2 (p - t) / size

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape but empty
        Predictions p, such as (n,) or (n, outputs).
    targets : array_like, shape of ``predictions``
        Values t. Nothing is broadcast: (n,) does not go with (n, 1).
    weights : array_like of any real dtype, shape (n,), optional
        Weight of each index of the first axis, for the weighted mean of the means of the rows, >= 0; 1 for
        all if not given.
    out : ndarray, optional
        Array for the gradient, of the shape and dtype of ``predictions``; may be ``predictions`` itself. New
        if not given.

    Returns
    -------
    loss : float
        Mean loss of the batch.
    dpredictions : ndarray, shape and dtype of ``predictions``
        Its gradient with respect to ``predictions``; ``out`` if given.

    Raises
    ------
    TypeError
        For a wrong dtype.
    ValueError
        For an empty batch, two shapes, NaN in targets, weights that are negative, not finite or all 0, and an
        ``out`` of another shape, read-only or overlapping an input.

    See Also
    --------
    fastmlp.losses.MeanSquaredError : The same loss for a model, and when to use it.

    References
    ----------
    Legendre, "Nouvelles methodes pour la determination des orbites des cometes", 1805.

    Examples
    --------
    >>> mean_squared_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    (2.0, array([ 0., -2.]))
    """
    return _elements(losses.MeanSquaredError(), "predictions", predictions, targets, weights, out)


@fast_path
def mean_absolute_error(
    predictions: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """Mean absolute error, and its gradient.

    Over all elements of the batch, ``size`` of them::

        loss = 1/size sum |p - t|
        dp = sign(p - t) / size, 0 where p = t

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape but empty
        Predictions p, such as (n,) or (n, outputs).
    targets : array_like, shape of ``predictions``
        Values t. Nothing is broadcast: (n,) does not go with (n, 1).
    weights : array_like of any real dtype, shape (n,), optional
        Weight of each index of the first axis, for the weighted mean of the means of the rows, >= 0; 1 for
        all if not given.
    out : ndarray, optional
        Array for the gradient, of the shape and dtype of ``predictions``; may be ``predictions`` itself. New
        if not given.

    Returns
    -------
    loss : float
        Mean loss of the batch.
    dpredictions : ndarray, shape and dtype of ``predictions``
        Its gradient with respect to ``predictions``; ``out`` if given.

    Raises
    ------
    TypeError
        For a wrong dtype.
    ValueError
        For an empty batch, two shapes, NaN in targets, weights that are negative, not finite or all 0, and an
        ``out`` of another shape, read-only or overlapping an input.

    See Also
    --------
    fastmlp.losses.MeanAbsoluteError : The same loss for a model, and when to use it.

    References
    ----------
    Laplace, "Memoire sur la probabilite des causes par les evenements", 1774.

    Examples
    --------
    >>> mean_absolute_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    (1.0, array([ 0. , -0.5]))
    """
    return _elements(losses.MeanAbsoluteError(), "predictions", predictions, targets, weights, out)


@fast_path
def huber(
    predictions: ArrayLike, targets: ArrayLike, *, delta: float = 1.0, weights: ArrayLike | None = None,
    out: Array | None = None,
) -> tuple[float, Array]:
    """Mean Huber loss, and its gradient.

    Over all elements of the batch, ``size`` of them::

        loss = 1/size sum h(p - t)
        h(e) = e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2)
        dp = max(-delta, min(delta, p - t)) / size

    Parameters
    ----------
    predictions : array_like of float32 or float64, any shape but empty
        Predictions p, such as (n,) or (n, outputs).
    targets : array_like, shape of ``predictions``
        Values t. Nothing is broadcast: (n,) does not go with (n, 1).
    delta : float, default 1.0
        Error at which squared becomes absolute, finite and > 0, in units of the targets.
    weights : array_like of any real dtype, shape (n,), optional
        Weight of each index of the first axis, for the weighted mean of the means of the rows, >= 0; 1 for
        all if not given.
    out : ndarray, optional
        Array for the gradient, of the shape and dtype of ``predictions``; may be ``predictions`` itself. New
        if not given.

    Returns
    -------
    loss : float
        Mean loss of the batch.
    dpredictions : ndarray, shape and dtype of ``predictions``
        Its gradient with respect to ``predictions``; ``out`` if given.

    Raises
    ------
    TypeError
        For a wrong dtype.
    ValueError
        For an empty batch, two shapes, NaN in targets, ``delta`` that is not finite and above 0, weights that
        are negative, not finite or all 0, and an ``out`` of another shape, read-only or overlapping an input.

    See Also
    --------
    fastmlp.losses.Huber : The same loss for a model, and when to use it.

    References
    ----------
    Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.

    Examples
    --------
    >>> huber(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    (0.75, array([ 0. , -0.5]))
    """
    return _elements(losses.Huber(delta), "predictions", predictions, targets, weights, out)


@fast_path
def poisson(
    logits: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """Mean negative log-likelihood of counts, and its gradient.

    Over all elements of the batch, ``size`` of them::

        loss = 1/size sum exp(z) - t z
        dz = (exp(z) - t) / size

    The counts t have the means exp(z); ln t! is left out.

    Parameters
    ----------
    logits : array_like of float32 or float64, any shape but empty
        Logarithms z of the means.
    targets : array_like, shape of ``logits``
        Counts t, finite and >= 0. Nothing is broadcast: (n,) does not go with (n, 1).
    weights : array_like of any real dtype, shape (n,), optional
        Weight of each index of the first axis, for the weighted mean of the means of the rows, >= 0; 1 for
        all if not given.
    out : ndarray, optional
        Array for the gradient, of the shape and dtype of ``logits``; may be ``logits`` itself. New if not
        given.

    Returns
    -------
    loss : float
        Mean loss of the batch.
    dlogits : ndarray, shape and dtype of ``logits``
        Its gradient with respect to ``logits``; ``out`` if given.

    Raises
    ------
    TypeError
        For a wrong dtype.
    ValueError
        For an empty batch, two shapes, NaN in targets, counts that are negative or infinite, weights that are
        negative, not finite or all 0, and an ``out`` of another shape, read-only or overlapping an input.

    See Also
    --------
    fastmlp.losses.Poisson : The same loss for a model, and when to use it.

    References
    ----------
    McCullagh, Nelder, "Generalized Linear Models", 1989, chapter 6.

    Examples
    --------
    >>> poisson(np.array([0.0, 0.0]), np.array([1.0, 3.0]))
    (1.0, array([ 0., -1.]))
    """
    return _elements(losses.Poisson(), "logits", logits, targets, weights, out)


@fast_path
def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, pos_weight: float | Sequence[float] | None = None,
    weights: ArrayLike | None = None, out: Array | None = None,
) -> tuple[float, Array]:
    """Mean cross-entropy of labels that are 0 or 1, and its gradient.

    Over all elements of the batch, ``size`` of them::

        loss = -1/size sum p t ln s(z) + (1 - t) ln(1 - s(z))
        dz = ((1 - t) s(z) - p t (1 - s(z))) / size
        s(z) = 1 / (1 + exp(-z))

    One label or many for a row. Stable for logits of any size.

    Parameters
    ----------
    logits : array_like of float32 or float64, any shape but empty
        Logits z of label 1.
    targets : array_like, shape of ``logits``
        Labels t, 0 or 1, or probabilities between them. Nothing is broadcast: (n,) does not go with (n, 1).
    pos_weight : float or sequence of float, shape (m,), optional
        Weight p of a positive label, finite and >= 0; one for each of m columns of logits (n, m). 1 if not
        given.
    weights : array_like of any real dtype, shape (n,), optional
        Weight of each index of the first axis, for the weighted mean of the means of the rows, >= 0; 1 for
        all if not given.
    out : ndarray, optional
        Array for the gradient, of the shape and dtype of ``logits``; may be ``logits`` itself. New if not
        given.

    Returns
    -------
    loss : float
        Mean loss of the batch, in nats.
    dlogits : ndarray, shape and dtype of ``logits``
        Its gradient with respect to ``logits``; ``out`` if given.

    Raises
    ------
    TypeError
        For a wrong dtype.
    ValueError
        For an empty batch, two shapes, NaN in targets, targets that are not from 0 to 1, a ``pos_weight``
        that is negative, not finite, or of another length, weights that are negative, not finite or all 0,
        and an ``out`` of another shape, read-only or overlapping an input.

    See Also
    --------
    fastmlp.losses.BinaryCrossEntropy : The same loss for a model, and when to use it.

    References
    ----------
    Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.2.

    Examples
    --------
    >>> loss, dlogits = binary_cross_entropy(np.array([0.0, 0.0]), np.array([1.0, 0.0]))
    >>> round(loss, 4), dlogits
    (0.6931, array([-0.25,  0.25]))
    """
    return _elements(losses.BinaryCrossEntropy(pos_weight), "logits", logits, targets, weights, out)


@fast_path
def hinge(
    logits: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """Mean hinge loss, and its gradient.

    Over all elements of the batch, ``size`` of them::

        loss = 1/size sum max(0, 1 - t z)
        dz = -t / size where t z < 1, else 0

    Parameters
    ----------
    logits : array_like of float32 or float64, any shape but empty
        Scores z.
    targets : array_like, shape of ``logits``
        Signs t, -1 or +1. Nothing is broadcast: (n,) does not go with (n, 1).
    weights : array_like of any real dtype, shape (n,), optional
        Weight of each index of the first axis, for the weighted mean of the means of the rows, >= 0; 1 for
        all if not given.
    out : ndarray, optional
        Array for the gradient, of the shape and dtype of ``logits``; may be ``logits`` itself. New if not
        given.

    Returns
    -------
    loss : float
        Mean loss of the batch.
    dlogits : ndarray, shape and dtype of ``logits``
        Its gradient with respect to ``logits``; ``out`` if given.

    Raises
    ------
    TypeError
        For a wrong dtype.
    ValueError
        For an empty batch, two shapes, NaN in targets, targets other than -1 and +1, weights that are
        negative, not finite or all 0, and an ``out`` of another shape, read-only or overlapping an input.

    See Also
    --------
    fastmlp.losses.Hinge : The same loss for a model, and when to use it.

    References
    ----------
    Cortes, Vapnik, "Support-Vector Networks", Machine Learning 20, 1995.

    Examples
    --------
    >>> hinge(np.array([0.5, 2.0]), np.array([1.0, 1.0]))
    (0.25, array([-0.5,  0. ]))
    """
    return _elements(losses.Hinge(), "logits", logits, targets, weights, out)


@fast_path
def squared_hinge(
    logits: ArrayLike, targets: ArrayLike, *, weights: ArrayLike | None = None, out: Array | None = None
) -> tuple[float, Array]:
    """Mean squared hinge loss, and its gradient.

    Over all elements of the batch, ``size`` of them::

        loss = 1/size sum max(0, 1 - t z)^2
        dz = -2 t max(0, 1 - t z) / size

    Parameters
    ----------
    logits : array_like of float32 or float64, any shape but empty
        Scores z.
    targets : array_like, shape of ``logits``
        Signs t, -1 or +1. Nothing is broadcast: (n,) does not go with (n, 1).
    weights : array_like of any real dtype, shape (n,), optional
        Weight of each index of the first axis, for the weighted mean of the means of the rows, >= 0; 1 for
        all if not given.
    out : ndarray, optional
        Array for the gradient, of the shape and dtype of ``logits``; may be ``logits`` itself. New if not
        given.

    Returns
    -------
    loss : float
        Mean loss of the batch.
    dlogits : ndarray, shape and dtype of ``logits``
        Its gradient with respect to ``logits``; ``out`` if given.

    Raises
    ------
    TypeError
        For a wrong dtype.
    ValueError
        For an empty batch, two shapes, NaN in targets, targets other than -1 and +1, weights that are
        negative, not finite or all 0, and an ``out`` of another shape, read-only or overlapping an input.

    See Also
    --------
    fastmlp.losses.SquaredHinge : The same loss for a model, and when to use it.

    References
    ----------
    Lee, Mangasarian, "SSVM: A Smooth Support Vector Machine for Classification", Computational Optimization
    and Applications 20, 2001.

    Examples
    --------
    >>> squared_hinge(np.array([0.5, 2.0]), np.array([1.0, 1.0]))
    (0.125, array([-0.5, -0. ]))
    """
    return _elements(losses.SquaredHinge(), "logits", logits, targets, weights, out)


def _given(name: str, outputs: ArrayLike, targets: ArrayLike) -> dict[str, Array]:
    """The caller's arrays, before any conversion: what `out` must not share memory with."""
    return {name: checks.as_array(name, outputs), "targets": checks.as_array("targets", targets)}


def _logits(logits: ArrayLike) -> Array:
    array = checks.floating("logits", logits)
    checks.shape("logits", array, ("rows", "classes"))
    checks.not_empty("logits", array)
    checks.addressable("logits", array.shape, array.dtype)
    return array


def _elements(loss: losses.Loss, name: str, outputs: ArrayLike, targets: ArrayLike, weights: ArrayLike | None,
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


def _run(loss: losses.Loss, given: dict[str, Array], outputs: Array, targets: Array,
         weights: ArrayLike | None, out: Array | None, counted: Array | None = None) -> tuple[float, Array]:
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
