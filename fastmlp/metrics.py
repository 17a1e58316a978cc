"""Metrics: what a user wants to know of predictions, beside the loss that training makes small.

A metric is any function (y_true, y_pred) -> number, so the metrics of scikit-learn can be used as they are.
y_pred is what `MLP.predict` gives: class labels (n,), or values (n, outputs). Two are here, for every user
needs one of them: the accuracy of classes, and R2 of values.
"""
from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import checks

__all__ = ["METRICS", "Metric", "accuracy", "compute", "r2", "resolve"]

Array = NDArray[Any]
Metric = Callable[[Any, Any], Any]

TAKEN = ("loss", "samples_per_second")          # names that a history has already


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
    right = (t == p).reshape(len(t), -1).all(axis=1)
    return float(s @ right / s.sum())


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
    t, p, s = _arguments(y_true, y_pred, sample_weight)
    for name, array in (("y_true", t), ("y_pred", p)):
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{name}: expected numbers, got dtype {array.dtype}")
    if len(t) < 2:
        return math.nan
    t, p = (a.reshape(len(a), -1).astype(np.float64) for a in (t, p))
    missed = s @ (t - p) ** 2
    total = s @ (t - s @ t / s.sum()) ** 2
    constant = (t == t[0]).all(axis=0)          # where rounding of the mean would leave a variance
    share = np.where(constant, missed > 0, missed / np.where(constant, 1, total))
    return float((1 - share).mean())


METRICS: dict[str, Metric] = {"accuracy": accuracy, "r2": r2}


def resolve(metrics: Any) -> dict[str, Metric]:
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
        if name in found:
            raise ValueError(f"metrics: expected every name once, got {name!r} twice; a dict can rename one")
        if name in TAKEN or name.startswith("val_"):
            raise ValueError(f"metrics: expected a name that is free, got {name!r}; a history has names of "
                             f"its own: {', '.join(TAKEN)}, val_*")
        found[name] = metric
    return found


def _named(metric: Any) -> tuple[str, Metric]:
    if isinstance(metric, str):
        checks.known_name("metrics", metric, METRICS)
        return metric, METRICS[metric]
    if not callable(metric):
        raise TypeError(f"metrics: expected a name or a function (y_true, y_pred), got {metric!r}")
    name = getattr(metric, "__name__", "<object>")
    if not name.isidentifier():
        raise TypeError(f"metrics: expected a function with a name, got {metric!r}; give it one in a dict "
                        "{name: function}")
    return name, metric


def compute(metrics: Mapping[str, Metric], y_true: Array, y_pred: Array) -> dict[str, float]:
    """Compute every metric for targets and predictions.

    Parameters
    ----------
    metrics : dict {name: callable}
        Metrics, as `resolve` returns them.
    y_true : ndarray
        Targets.
    y_pred : ndarray, shape of ``y_true``
        Predictions.

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
        value = metric(y_true, y_pred)
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        if not isinstance(value, (numbers.Real, np.bool_)):
            raise TypeError(f"metrics: expected one number from {name!r}, got {type(value).__name__}")
        results[name] = float(value)
    return results


def _arguments(y_true: Any, y_pred: Any, sample_weight: Any) -> tuple[Array, Array, Array]:
    t, p = checks.as_array("y_true", y_true), checks.as_array("y_pred", y_pred)
    if t.ndim not in (1, 2):
        raise ValueError(f"y_true: expected shape (n,) or (n, outputs), got {t.shape}")
    if t.ndim != p.ndim and (len(t), 1) in (t.shape, p.shape):      # one output, with or without its axis
        t, p = t.reshape(-1), p.reshape(-1)
    checks.shape("y_pred", p, t.shape, "like y_true")
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
