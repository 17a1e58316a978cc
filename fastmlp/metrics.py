"""Metrics: what a user wants to know of predictions, beside the loss that training minimises.

A metric is any function (y_true, y_pred) -> number, so the metrics of scikit-learn can be used as they are.
Its attribute ``needs`` says what y_pred is to be::

    "predictions"       what `MLP.predict` gives, as for a function without the attribute: class labels (n,),
                        or values (n, outputs)
    "probabilities"     what `MLP.predict_proba` gives
    "scores"            the same where the loss has probabilities, else the outputs: larger means likelier
    "outputs"           what `MLP.forward` gives: logits, or decision values

The metrics of scikit-learn that need more than labels are known by name. Others say so themselves, as in
``f.needs = "scores"``, or are wrapped: ``of_scores(f)``. Of two classes, probabilities and scores are those
of class 1, (n,); outputs, how far that of class 1 is above the other.

Here are those that users need most: accuracy, precision, recall and F1 of classes and labels; R2 and errors
of values; the area under the ROC curve.
"""
from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np

from fastmlp._core import checks, frames, names
from fastmlp._core.labels import class_indices

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastmlp._core.types import Array, Metrics
    from fastmlp.backends.interface import Backend
    from fastmlp.losses import Loss

__all__ = ["METRICS", "Metric", "accuracy", "compute", "f1", "mae", "mse", "needs", "of_scores", "precision",
           "r2", "recall", "resolve", "rmse", "roc_auc"]

Metric = Callable[["NDArray[Any]", "NDArray[Any]"], SupportsFloat]  # (y_true, y_pred) -> number

TAKEN = ("loss", "samples_per_second", "epoch", "step", "time")     # by histories and logs
NEEDS = ("predictions", "probabilities", "scores", "outputs")
OF_SKLEARN = {                                  # what they take beside y_true, where it is not predictions
    **dict.fromkeys(("brier_score_loss", "d2_brier_score", "d2_log_loss_score", "log_loss"), "probabilities"),
    **dict.fromkeys((
        "average_precision_score", "confusion_matrix_at_thresholds", "coverage_error", "dcg_score",
        "det_curve", "label_ranking_average_precision_score", "label_ranking_loss", "ndcg_score",
        "precision_recall_curve", "roc_auc_score", "roc_curve", "top_k_accuracy_score"), "scores"),
    "hinge_loss": "outputs",
}


def accuracy(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Share of samples whose label is right, from 0 to 1.

    With the labels t, the predictions p and the weights s::

        accuracy = sum_i s_i [t_i = p_i] / sum_i s_i

    Parameters
    ----------
    y_true : array_like, shape (n,) or (n, k)
        Labels t. With k labels, a sample is right if all of them are.
    y_pred : array_like, shape of ``y_true``
        Predicted labels p.
    sample_weight : array_like, shape (n,), optional
        Weight of every sample, >= 0; 1 if not given.

    Returns
    -------
    float
        Accuracy, without a unit.

    Raises
    ------
    TypeError
        For weights that are not numbers.
    ValueError
        For no samples, shapes that differ, negative weights, or weights that are all zero.

    Notes
    -----
    A high accuracy says little where one class is rare: "never" is right in 999 of 1000 cases of what happens
    once in a thousand.

    References
    ----------
    Bishop, "Pattern Recognition and Machine Learning", 2006, section 1.5.

    Examples
    --------
    >>> accuracy([0, 1, 2, 2], [0, 1, 2, 1])
    0.75
    """
    t, p, s = _arguments(y_true, y_pred, sample_weight)
    right = t == p
    if right.ndim == 2:
        right = right.all(axis=1)
    if sample_weight is None:
        return int(np.count_nonzero(right)) / len(right)
    return float(s @ right / s.sum())


def precision(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Share of what was called positive that is.

    With the numbers of true and false positives::

        precision = TP / (TP + FP), 0 where nothing was called positive

    Parameters
    ----------
    y_true : array_like, shape (n,) or (n, k)
        Labels. Of two classes, the larger is the one that is looked for: 1 of 0 and 1. Of more, each is in
        its turn. With k labels 0 and 1 (or -1 and 1) a sample, label by label.
    y_pred : array_like, shape of ``y_true``
        Predicted labels.
    sample_weight : array_like, shape (n,), optional
        Weight of every sample, >= 0; 1 if not given.

    Returns
    -------
    float
        Precision, from 0 to 1, without a unit; the mean over the classes, where there are more than two, or
        over the labels.

    Raises
    ------
    TypeError
        For weights that are not numbers.
    ValueError
        For no samples, shapes that differ, negative weights, or weights that are all zero.

    Notes
    -----
    Easily high where little is called positive: see `recall`.

    References
    ----------
    van Rijsbergen, "Information Retrieval", 2nd edition, 1979, chapter 7.

    Examples
    --------
    >>> precision([0, 1, 1, 0], [0, 1, 1, 1]), precision(["a", "b", "c"], ["a", "b", "b"])
    (0.6666666666666666, 0.5)
    """
    hits, called, _ = _hits(y_true, y_pred, sample_weight)
    return float(_share(hits, called).mean())


def recall(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Share of the positives that was called so.

    With the numbers of true positives and false negatives::

        recall = TP / (TP + FN), 0 where nothing is positive

    Parameters
    ----------
    y_true : array_like, shape (n,) or (n, k)
        Labels. Of two classes, the larger is the one that is looked for: 1 of 0 and 1. Of more, each is in
        its turn. With k labels 0 and 1 (or -1 and 1) a sample, label by label.
    y_pred : array_like, shape of ``y_true``
        Predicted labels.
    sample_weight : array_like, shape (n,), optional
        Weight of every sample, >= 0; 1 if not given.

    Returns
    -------
    float
        Recall, from 0 to 1, without a unit; the mean over the classes, where there are more than two, or
        over the labels.

    Raises
    ------
    TypeError
        For weights that are not numbers.
    ValueError
        For no samples, shapes that differ, negative weights, or weights that are all zero.

    Notes
    -----
    Also called sensitivity, or the rate of true positives. Easily high where much is called positive: see
    `precision`. The mean over more than two classes is the balanced accuracy.

    References
    ----------
    van Rijsbergen, "Information Retrieval", 2nd edition, 1979, chapter 7.

    Examples
    --------
    >>> recall([0, 1, 1, 0], [0, 1, 0, 0]), recall(["a", "b", "b"], ["a", "b", "c"])
    (0.5, 0.5)
    """
    hits, _, real = _hits(y_true, y_pred, sample_weight)
    return float(_share(hits, real).mean())


def f1(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """F1 score: the harmonic mean of precision and recall.

    With the numbers of true positives, false positives and false negatives::

        F1 = 2 TP / (2 TP + FP + FN), 0 where nothing is positive or called so

    Parameters
    ----------
    y_true : array_like, shape (n,) or (n, k)
        Labels. Of two classes, the larger is the one that is looked for: 1 of 0 and 1. Of more, each is in
        its turn. With k labels 0 and 1 (or -1 and 1) a sample, label by label.
    y_pred : array_like, shape of ``y_true``
        Predicted labels.
    sample_weight : array_like, shape (n,), optional
        Weight of every sample, >= 0; 1 if not given.

    Returns
    -------
    float
        F1, from 0 to 1, without a unit; the mean over the classes, where there are more than two, or
        over the labels.

    Raises
    ------
    TypeError
        For weights that are not numbers.
    ValueError
        For no samples, shapes that differ, negative weights, or weights that are all zero.

    Notes
    -----
    Says more than `accuracy` where one class is rare: "never" has an F1 of 0.

    References
    ----------
    van Rijsbergen, "Information Retrieval", 2nd edition, 1979, chapter 7.

    Examples
    --------
    >>> f1([0, 1, 1, 0], [0, 1, 0, 0]), f1([0, 0, 1], [0, 0, 0])
    (0.6666666666666666, 0.0)
    """
    hits, called, real = _hits(y_true, y_pred, sample_weight)
    return float(_share(2 * hits, called + real).mean())


def _hits(y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Array, Array, Array]:
    """Of every class or label that is looked for, what the samples weigh that are both of it and called so,
    that are called so, and that are of it."""
    t, p, s = _arguments(y_true, y_pred, sample_weight)
    if t.ndim == 2:
        t, p = t > 0.5, p > 0.5
        return s @ (t & p), s @ p, s @ t
    classes, code = np.unique(np.concatenate([t, p]), return_inverse=True)
    real, called = code[:len(t)], code[len(t):]
    sums = [np.bincount(found, weights, len(classes)) for found, weights in (
        (real[real == called], s[real == called]), (called, s), (real, s))]
    if len(classes) == 1 and classes.dtype.kind in "biuf" and classes[0] <= 0:      # the other is not there
        return (np.zeros(1),) * 3
    first = -1 if len(classes) <= 2 else 0
    return sums[0][first:], sums[1][first:], sums[2][first:]


def _share(part: Array, whole: Array) -> Array:
    """0 of nothing."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def r2(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Coefficient of determination: the share of the variance that is explained.

    With the targets t, the predictions p and the weights s::

        R2 = 1 - sum_i s_i (t_i - p_i)^2 / sum_i s_i (t_i - mean t)^2

    The mean is weighted as well.

    Parameters
    ----------
    y_true : array_like, shape (n,) or (n, outputs)
        Targets t.
    y_pred : array_like, shape of ``y_true``
        Predictions p.
    sample_weight : array_like, shape (n,), optional
        Weight of every sample, >= 0; 1 if not given.

    Returns
    -------
    float
        R2, without a unit; the mean over the outputs. Where the targets are all the same, 1 if they are met
        and 0 if not; NaN for fewer than two samples, which have no variance.

    Raises
    ------
    TypeError
        For what is not numbers.
    ValueError
        For no samples, shapes that differ, negative weights, or weights that are all zero.

    Notes
    -----
    1 is perfect, 0 as good as the mean of the targets for every sample; it can be as far below 0 as
    predictions can be bad.

    References
    ----------
    Wright, "Correlation and causation", Journal of Agricultural Research 20, 1921.

    Examples
    --------
    >>> r2([1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 5.0])
    0.8
    """
    t, p, s = _values(y_true, y_pred, sample_weight)
    if len(t) < 2:
        return math.nan
    missed = s @ (t - p) ** 2
    total = s @ (t - s @ t / s.sum()) ** 2
    constant = (t == t[0]).all(axis=0)          # where rounding of the mean would leave a variance
    share = np.where(constant, missed > 0, missed / np.where(constant, 1, total))
    return float((1 - share).mean())


def mae(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean absolute error.

    With the targets t, the predictions p and the weights s::

        MAE = sum_i s_i |t_i - p_i| / sum_i s_i

    Parameters
    ----------
    y_true : array_like, shape (n,) or (n, outputs)
        Targets t.
    y_pred : array_like, shape of ``y_true``
        Predictions p.
    sample_weight : array_like, shape (n,), optional
        Weight s of every sample, >= 0; 1 if not given.

    Returns
    -------
    float
        Error, >= 0, in the unit of the targets; the mean over the outputs.

    Raises
    ------
    TypeError
        For what is not numbers.
    ValueError
        For no samples, shapes that differ, negative weights, or weights that are all zero.

    References
    ----------
    Hyndman, Koehler, "Another look at measures of forecast accuracy", International Journal of Forecasting
    22, 2006.

    Examples
    --------
    >>> mae([1.0, 2.0], [1.5, 2.0])
    0.25
    """
    t, p, s = _values(y_true, y_pred, sample_weight)
    return float((s @ np.abs(t - p) / s.sum()).mean())


def mse(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Mean squared error.

    With the targets t, the predictions p and the weights s::

        MSE = sum_i s_i (t_i - p_i)^2 / sum_i s_i

    Parameters
    ----------
    y_true : array_like, shape (n,) or (n, outputs)
        Targets t.
    y_pred : array_like, shape of ``y_true``
        Predictions p.
    sample_weight : array_like, shape (n,), optional
        Weight s of every sample, >= 0; 1 if not given.

    Returns
    -------
    float
        Error, >= 0, in the squared unit of the targets; the mean over the outputs.

    Raises
    ------
    TypeError
        For what is not numbers.
    ValueError
        For no samples, shapes that differ, negative weights, or weights that are all zero.

    References
    ----------
    Bishop, "Pattern Recognition and Machine Learning", 2006, section 1.5.5.

    Examples
    --------
    >>> mse([1.0, 2.0], [1.5, 2.0])
    0.125
    """
    t, p, s = _values(y_true, y_pred, sample_weight)
    return float((s @ (t - p) ** 2 / s.sum()).mean())


def rmse(y_true: ArrayLike, y_pred: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Root of the mean squared error.

    With the targets t, the predictions p and the weights s::

        RMSE = sqrt(sum_i s_i (t_i - p_i)^2 / sum_i s_i)

    Parameters
    ----------
    y_true : array_like, shape (n,) or (n, outputs)
        Targets t.
    y_pred : array_like, shape of ``y_true``
        Predictions p.
    sample_weight : array_like, shape (n,), optional
        Weight s of every sample, >= 0; 1 if not given.

    Returns
    -------
    float
        Error, >= 0, in the unit of the targets; the mean over the outputs.

    Raises
    ------
    TypeError
        For what is not numbers.
    ValueError
        For no samples, shapes that differ, negative weights, or weights that are all zero.

    References
    ----------
    Hyndman, Koehler, "Another look at measures of forecast accuracy", International Journal of Forecasting
    22, 2006.

    Examples
    --------
    >>> rmse([1.0, 2.0], [1.5, 1.5])
    0.5
    """
    t, p, s = _values(y_true, y_pred, sample_weight)
    return float(np.sqrt(s @ (t - p) ** 2 / s.sum()).mean())


def _values(y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Array, Array, Array]:
    """Targets and predictions (n, outputs) in float64, and weights."""
    t, p, s = _arguments(y_true, y_pred, sample_weight)
    for name, array in (("y_true", t), ("y_pred", p)):
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name}: expected numbers, got dtype {array.dtype}")
    t, p = (array.reshape(len(array), -1).astype(np.float64) for array in (t, p))
    return t, p, s


def roc_auc(y_true: ArrayLike, y_score: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
    """Area under the ROC curve.

    With the scores z+ of the positive and z- of the negative class::

        AUC = P(z+ > z-) + P(z+ = z-) / 2

    Parameters
    ----------
    y_true : array_like, shape (n,) or (n, m)
        Labels of two classes, of which the larger is the positive one; class indices from 0 to C - 1, where
        ``y_score`` is (n, C); or m labels a sample.
    y_score : array_like, shape (n,), (n, C) or (n, m)
        Scores of the positive class, of every class, or of every label. Only their order counts.
    sample_weight : array_like, shape (n,), optional
        Weight of every sample, >= 0; 1 if not given.

    Returns
    -------
    float
        Area from 0 to 1, without a unit: with C > 2 classes the mean of every class against the rest, with m
        labels the mean over them. NaN for NaN among the scores, and where one of two classes has no samples.

    Raises
    ------
    TypeError
        For scores or weights that are not numbers.
    ValueError
        For no samples, shapes that do not fit, more than two classes with one score, negative weights, or
        weights that are all zero.

    Notes
    -----
    The chance that a sample of the positive class has a higher score than one of the negative class: 1 if all
    of them have, 1/2 for scores that say nothing. Counts pairs by ranks, in O(n log n).

    References
    ----------
    Hanley, McNeil, "The meaning and use of the area under a receiver operating characteristic (ROC) curve",
    Radiology 143, 1982.

    Examples
    --------
    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    t, z = _array("y_true", y_true), _array("y_score", y_score, of_numbers=True)
    if z.dtype.kind not in "biuf":
        raise TypeError(f"y_score: expected numbers, got dtype {z.dtype}")
    if t.ndim == 2 and t.shape[1] == 1:
        t = t[:, 0]
    if z.ndim == 2 and z.shape[1] == 1:
        z = z[:, 0]
    if t.ndim == 1 and z.ndim == 2:                                 # classes against the rest
        t = checks.labels("y_true", class_indices("y_true", t), len(z), z.shape[1])[:, None]
        t = t == np.arange(z.shape[1])
        if z.shape[1] == 2:
            t, z = t[:, 1], z[:, 1] - z[:, 0]
    t, z, s = _arguments(t, z, sample_weight, "y_score")
    if z.dtype.kind == "f" and np.isnan(z).any():
        return math.nan
    areas = [_area(*columns, s) for columns in zip(t.reshape(len(t), -1).T, z.reshape(len(z), -1).T)]
    return float(np.mean(areas))


def _area(t: Array, z: Array, s: Array) -> float:
    """The area for labels of two classes."""
    classes = np.unique(t)
    if len(classes) > 2:
        raise ValueError(f"y_true: expected two classes, got {len(classes)}; of more than two, y_score has a "
                         "column each")
    if len(classes) < 2:
        return math.nan
    _, group = np.unique(z, return_inverse=True)                    # equal scores, in ascending order
    positive = np.bincount(group, np.where(t == classes[1], s, 0))
    negative = np.bincount(group, np.where(t == classes[1], 0, s))
    below = np.cumsum(negative) - negative
    return float(positive @ (below + negative / 2) / (positive.sum() * negative.sum()))


METRICS: dict[str, Metric] = {
    function.__name__: function
    for function in (accuracy, precision, recall, f1, roc_auc, r2, mae, mse, rmse)}
roc_auc.needs = "scores"  # type: ignore[attr-defined]


def of_scores(metric: Metric) -> Metric:
    """Wrap a metric so that it is given scores.

    Parameters
    ----------
    metric : callable
        Function (y_true, y_score) -> number. y_score is (n, C), one column for each class or output; (n,),
        that of class 1, for two classes: probabilities where the loss has them, else the outputs.

    Returns
    -------
    callable
        The same, with the name of ``metric`` and the attribute ``needs``.

    Raises
    ------
    TypeError
        If ``metric`` is not a function.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> def gap(y_true, y_score):
    ...     return y_score[y_true == 1].mean() - y_score[y_true == 0].mean()
    >>> model = MLP([1, 2], seed=0)
    >>> model.weights[0][...] = [[-1, 1]]
    >>> round(model.evaluate([[-1], [1]], [0, 1], metrics=of_scores(gap))["gap"], 3)
    0.762
    """
    if not callable(metric):
        raise TypeError(f"metric: expected a function (y_true, y_score), got {metric!r}")

    @wraps(metric, updated=())
    def scored(y_true: Any, y_score: Any) -> Any:
        return metric(y_true, y_score)

    scored.needs = "scores"  # type: ignore[attr-defined]
    return scored


def needs(metric: Metric) -> str:
    """Return what a metric is to be given beside y_true; see the top of this module.

    Parameters
    ----------
    metric : callable
        Metric.

    Returns
    -------
    str
        "predictions", "probabilities", "scores" or "outputs".

    Raises
    ------
    ValueError
        For an attribute ``needs`` of another value.

    Examples
    --------
    >>> needs(roc_auc), needs(accuracy)
    ('scores', 'predictions')
    """
    said = getattr(metric, "needs", None)
    if said is None:
        while isinstance(metric, partial):
            metric = metric.func
            said = said or getattr(metric, "needs", None)
    if said is None:
        name, module = getattr(metric, "__name__", ""), getattr(metric, "__module__", None) or ""
        said = OF_SKLEARN.get(name) if module.partition(".")[0] == "sklearn" else None
    if said is None:
        return "predictions"
    if said not in NEEDS:
        raise ValueError(f"metrics: expected an attribute `needs` that is one of {', '.join(NEEDS)}, "
                         f"got {said!r}")
    return str(said)


def resolve(metrics: Metrics | None) -> dict[str, Metric]:
    """Return metrics by name.

    Parameters
    ----------
    metrics : str, callable, list of both, dict {name: callable} or None
        Names of this module, or functions (y_true, y_pred) -> number. A function in a list goes by its
        ``__name__``. None is no metric.

    Returns
    -------
    dict {name: callable}
        Metrics, in the order given.

    Raises
    ------
    ValueError
        For an unknown name, a name that occurs twice, and one that the history has already (loss).
    TypeError
        For anything else, and a function without a name of its own (a lambda): use a dict.

    Examples
    --------
    >>> def largest_error(y_true, y_pred):
    ...     return abs(y_true - y_pred).max()
    >>> list(resolve(["r2", largest_error]))
    ['r2', 'largest_error']
    >>> list(resolve({"error": lambda y_true, y_pred: abs(y_true - y_pred).mean()}))
    ['error']
    """
    if metrics is None:
        return {}
    if isinstance(metrics, Mapping):
        pairs = list(metrics.items())
    elif isinstance(metrics, str) or callable(metrics):
        pairs = [_named(metrics)]
    elif isinstance(metrics, Iterable):
        pairs = [_named(metric) for metric in metrics]
    else:
        raise TypeError(f"metrics: expected names or functions (y_true, y_pred), got {metrics!r}")
    found: dict[str, Metric] = {}
    for name, metric in pairs:
        if not isinstance(name, str):
            raise TypeError(f"metrics: expected a dict from names to functions, got the key {name!r}")
        if not callable(metric):
            raise TypeError(f"metrics: expected a function (y_true, y_pred) for {name!r}, got {metric!r}")
        if hasattr(metric, "_score_func"):
            raise TypeError(f"metrics: expected a function (y_true, y_pred) for {name!r}, got {metric!r}; a "
                            "scorer of scikit-learn calls predict itself: give the function it was made of")
        needs(metric)
        if name in found:
            raise ValueError(f"metrics: expected every name once, got {name!r} twice; a dict can rename one")
        if name in TAKEN or name.startswith("val_"):
            raise ValueError(f"metrics: expected a name that is free, got {name!r}; histories and logs have "
                             f"names of their own: {', '.join(TAKEN)}, val_*")
        found[name] = metric
    return found


def _named(metric: str | Metric) -> tuple[str, Metric]:
    if isinstance(metric, str):
        metric = names.canonical("metrics", metric, METRICS, names.METRICS)
        return metric, METRICS[metric]
    if not callable(metric) or isinstance(metric, type) or names.library_of(metric) not in ("", "sklearn"):
        raise TypeError(f"metrics: expected a name or a function (y_true, y_pred), got {metric!r}"
                        f"{names.of_others(metric, METRICS, names.METRICS)}")
    if hasattr(metric, "_score_func"):
        return "scorer", metric
    name = getattr(metric, "__name__", "<object>")
    if not name.isidentifier():
        raise TypeError(f"metrics: expected a function with a name, got {metric!r}; give it one in a dict "
                        "{name: function}")
    return name, metric


def compute(metrics: Mapping[str, Metric], y_true: Array, y_pred: Array | Mapping[str, Array]
            ) -> dict[str, float]:
    """Compute every metric for targets and predictions.

    Parameters
    ----------
    metrics : dict {name: callable}
        Metrics, as `resolve` returns them.
    y_true : ndarray
        Targets.
    y_pred : ndarray, shape of ``y_true``, or dict {need: ndarray}
        Predictions; or what the metrics need, see `needs`, an array for each.

    Returns
    -------
    dict {name: float}
        Number of every metric.

    Raises
    ------
    TypeError
        For a metric that returns anything but one number; what a metric raises is passed on.

    Examples
    --------
    >>> compute(resolve("accuracy"), np.array([0, 1]), np.array([0, 0]))
    {'accuracy': 0.5}
    """
    results = {}
    for name, metric in metrics.items():
        value = metric(y_true, y_pred[needs(metric)] if isinstance(y_pred, Mapping) else y_pred)
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        if not isinstance(value, (numbers.Real, np.bool_)):
            raise TypeError(f"metrics: expected one number from {name!r}, got {type(value).__name__}")
        results[name] = float(value)
    return results


def check_needs(metrics: Mapping[str, Metric], loss: Loss) -> None:
    """Every metric must get what it needs from a model with this loss.

    Raises TypeError for one that needs probabilities, where the loss has none.

    >>> from fastmlp import losses
    >>> check_needs({"roc_auc": roc_auc}, losses.Hinge())
    """
    for name, metric in metrics.items():
        if needs(metric) == "probabilities" and loss.output not in ("softmax", "sigmoid"):
            raise TypeError(f"metrics: {name!r} needs probabilities, and the loss {loss.name!r} has none")


def given(need: str, loss: Loss, outputs: Array, backend: Backend) -> Array:
    """What a metric of this need is given, of outputs (rows, outputs) of a model with this loss.

    >>> from fastmlp import losses
    >>> from fastmlp.backends import active
    >>> given("outputs", losses.CrossEntropy(), np.array([[1.0, 3.0]]), active())
    array([2.])
    """
    likely = loss.output in ("softmax", "sigmoid")
    if need == "predictions" or need == "scores" and loss.targets in ("values", "counts"):
        return loss.predict(outputs, backend)
    if need == "probabilities" or need == "scores" and likely:
        result = loss.predict_proba(outputs.copy(), backend)
        return result[:, 1] if loss.classifies and result.shape[1] == 2 else result
    if loss.classifies and outputs.shape[1] == 2:
        gap: Array = outputs[:, 1] - outputs[:, 0]
        return gap
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs


def _array(name: str, value: Any, of_numbers: bool = False) -> Array:
    """As numbers where that can be, but labels may be words."""
    array = checks.as_array(name, value, of_numbers)
    if array.dtype.kind == "O" and (frames.is_frame(value) or frames.is_column(value)):
        try:
            return checks.as_array(name, value)     # nullable integers, say
        except TypeError:
            pass
    return array


def _arguments(y_true: Any, y_pred: Any, sample_weight: Any, name: str = "y_pred"
               ) -> tuple[Array, Array, Array]:
    t, p = _array("y_true", y_true), _array(name, y_pred)
    if t.ndim not in (1, 2):
        raise ValueError(f"y_true: expected shape (n,) or (n, outputs), got {t.shape}")
    if t.ndim != p.ndim and (len(t), 1) in (t.shape, p.shape):      # one output, with or without its axis
        t, p = t.reshape(-1), p.reshape(-1)
    checks.shape(name, p, t.shape, "like y_true")
    if t.size == 0:
        raise ValueError(f"y_true: expected at least one sample, got shape {t.shape}")
    if sample_weight is None:
        return t, p, np.ones(len(t))
    s = checks.as_array("sample_weight", sample_weight)
    if s.dtype.kind not in "biuf":
        raise TypeError(f"sample_weight: expected numbers, got dtype {s.dtype}")
    checks.shape("sample_weight", s, (len(t),), "(one weight for each sample)")
    if not (np.isfinite(s).all() and (s >= 0).all() and s.any()):
        raise ValueError("sample_weight: expected finite weights from 0 up that are not all zero, got "
                         f"weights from {s.min()} to {s.max()}")
    counts = s > 0                  # the others are not looked at, whatever they hold
    return t[counts], p[counts], s[counts].astype(np.float64)
