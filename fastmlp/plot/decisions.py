"""What a network decides: over the plane of two inputs, and beside what is true."""
from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core import checks

from ._style import COLORS, axes, frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array
    from fastmlp.model import MLP

__all__ = ["confusion_matrix", "decision_boundary"]


def decision_boundary(model: MLP, X: ArrayLike, y: ArrayLike | None = None, ax: Axes | None = None, *,
                      resolution: int = 300) -> Axes:
    """Draw what a network of two inputs predicts, over the plane of its inputs.

    Parameters
    ----------
    model : MLP
        Model with two inputs, and one output or classes.
    X : array_like, shape (n, 2)
        Samples, which are drawn as points; they say which part of the plane is drawn.
    y : array_like, shape (n,), optional
        Their targets, the colours of the points.
    ax : matplotlib.axes.Axes, optional
        Where to draw; in a new figure if not given.
    resolution : int, default 300
        Points of the plane in either direction at which the model is asked.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with an area for each class, the paler the less sure the model is there, and black lines between
        them; or for a model of values, their levels.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        For arguments of the wrong type.
    ValueError
        For a model of other inputs or outputs, and for arguments that do not fit.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("matplotlib").use("Agg")
    >>> from fastmlp import MLP, plot
    >>> X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), [0, 1, 1, 0]
    >>> plot.decision_boundary(MLP([2, 8, 2], seed=0), X, y, resolution=50).get_xlabel()
    'input 1'
    """
    if model.layers[0] != 2:
        raise ValueError(f"model: expected one with 2 inputs, got {model.layers[0]}")
    resolution = checks.integer("resolution", resolution, low=2)
    X = np.asarray(X)
    checks.shape("X", X, ("n", 2))
    if not len(X):
        raise ValueError("X: expected at least one sample, got none")
    if X.dtype.kind not in "biuf":
        raise TypeError(f"X: expected numbers, got dtype {X.dtype}")
    wrong = np.flatnonzero(~np.isfinite(X).all(axis=1))
    if len(wrong):
        raise ValueError(f"X: expected finite numbers, got {X[wrong[0]]} in row {wrong[0]}")
    truth = None if y is None else np.asarray(y).reshape(len(X), -1)
    if truth is not None:
        checks.shape("y", truth, (len(X), 1), "with a number for each sample")
    low, high = X.min(axis=0).astype(float), X.max(axis=0).astype(float)
    margin = np.where(high > low, 0.1 * (high - low), 0.5)
    x1, x2 = np.linspace(low - margin, high + margin, resolution).T
    grid = np.stack(np.meshgrid(x1, x2), axis=-1).reshape(-1, 2)
    predicted = np.asarray(model.predict(grid))
    if predicted.ndim != 1:
        raise ValueError(f"model: expected one output or classes, got {predicted.shape[1]} outputs")
    predicted = predicted.reshape(resolution, resolution)
    ax = axes(ax, 5.6, 4.6)
    if predicted.dtype.kind == "f":
        _draw_values(ax, x1, x2, predicted, X, truth)
    else:
        _draw_classes(ax, x1, x2, predicted, _confidence(model, grid).reshape(predicted.shape), X, truth)
    frame(ax, "Predictions, by the two inputs", "input 1", "input 2")
    ax.grid(visible=False)
    ax.set_xlim(x1[0], x1[-1])
    ax.set_ylim(x2[0], x2[-1])
    return ax


def confusion_matrix(y_true: ArrayLike, y_pred: ArrayLike, ax: Axes | None = None, *,
                     labels: Sequence[str] | None = None, normalize: bool = False) -> Axes:
    """Draw how often each class was taken for which.

    Parameters
    ----------
    y_true : array_like of int or str, shape (n,)
        Classes that are right.
    y_pred : array_like of int or str, shape (n,)
        Classes that were predicted, as `MLP.predict` returns them.
    ax : matplotlib.axes.Axes, optional
        Where to draw; in a new figure if not given.
    labels : sequence of str, optional
        Names of the classes 0, 1, ...; of classes that are words, these words in another order. Those that
        occur if not given.
    normalize : bool, default False
        Whether to write shares of each true class in place of counts.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with a row for each true class and a column for each predicted one; the accuracy is in the title.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        For labels that are neither integers nor words, or integers on one side and words on the other.
    ValueError
        For arrays of other shapes, and for a class that has no name.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("matplotlib").use("Agg")
    >>> from fastmlp import plot
    >>> ax = plot.confusion_matrix([0, 1, 1, 2], [0, 1, 2, 2], labels=["ant", "bee", "cat"])
    >>> ax.get_title(loc="left")
    'Confusion matrix, accuracy 75.0%'
    """
    truth, guess = np.asarray(y_true), np.asarray(y_pred)
    checks.shape("y_true", truth, ("n",))
    checks.shape("y_pred", guess, truth.shape)
    for name, array in (("y_true", truth), ("y_pred", guess)):
        if array.dtype.kind not in "iubOSU":
            raise TypeError(f"{name}: expected class labels, integers or words, got {array.dtype}")
    if not len(truth):
        raise ValueError("y_true: expected at least one label, got none")
    are_words = truth.dtype.kind in "OSU"
    if are_words != (guess.dtype.kind in "OSU"):
        raise TypeError(f"y_pred: expected {'words' if are_words else 'integers'}, as y_true has them, got "
                        f"{guess.dtype}")
    classes, codes = np.unique(np.concatenate([truth, guess]), return_inverse=True)
    if are_words:               # in their order, or in that of the labels
        order = classes.tolist() if labels is None else list(labels)
        if missing := [word for word in classes.tolist() if word not in order]:
            raise ValueError(f"labels: expected a name for each class, got none for {missing[0]!r}")
        truth, guess = np.split(np.array([order.index(word) for word in classes.tolist()])[codes], 2)
        classes, labels = np.unique(np.concatenate([truth, guess])), order
    if labels is not None:
        if classes[0] < 0 or classes[-1] >= len(labels):
            wrong = classes[0] if classes[0] < 0 else classes[-1]
            raise ValueError(f"labels: expected a name for each class, got {len(labels)} for class {wrong}")
        classes = np.arange(len(labels))
    names = [str(name) for name in (classes if labels is None else labels)]
    n = len(classes)
    counts = np.zeros((n, n), int)
    np.add.at(counts, (np.searchsorted(classes, truth), np.searchsorted(classes, guess)), 1)
    of_class = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(of_class, 1)
    size = min(max(2.8 + 0.42 * n, 4.4), 11.0)
    ax = axes(ax, size + 0.6, size)
    drawn = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for i in range(n):
        for j in range(n):
            if counts[i, j]:
                text = f"{shares[i, j]:.0%}" if normalize else str(counts[i, j])
                ax.text(j, i, text, ha="center", va="center", fontsize=10 if n <= 12 else 7,
                        color="white" if shares[i, j] > 0.55 else "#222222")
    bar = ax.figure.colorbar(drawn, ax=ax, label="share of the true class", shrink=0.82)
    bar.ax.yaxis.set_major_formatter(lambda share, position: f"{share:.0%}")
    frame(ax, f"Confusion matrix, accuracy {np.mean(truth == guess):.1%}", "predicted class", "true class")
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if max(map(len, names)) > 3 else {}
    ax.set_xticks(range(n), names, **turned)
    ax.set_yticks(range(n), names)
    ax.tick_params(length=0)
    return ax


def _confidence(model: MLP, grid: Array) -> Array:
    """Of what is predicted, the probability; 1 for a loss that has none."""
    try:
        p = np.asarray(model.predict_proba(grid), dtype=float)
    except AttributeError:
        return np.ones(len(grid))
    result: Array = np.maximum(p, 1 - p) if p.ndim == 1 else p.max(axis=1)
    return result


def _draw_classes(ax: Axes, x1: Array, x2: Array, predicted: Array, confidence: Array, X: Array,
                  truth: Array | None) -> None:
    parts = [predicted.ravel(), *([] if truth is None else [truth.ravel()])]
    classes = np.unique(np.concatenate(parts))
    to_rgb = import_module("matplotlib.colors").to_rgb
    colors = np.array([to_rgb(COLORS[i % len(COLORS)]) for i in range(len(classes))])
    index = np.searchsorted(classes, predicted)
    chance = 1 / max(2, len(classes))
    alpha = 0.12 + 0.38 * np.clip((confidence - chance) / (1 - chance), 0, 1)[..., None]
    ax.imshow(1 - alpha * (1 - colors[index]), extent=(x1[0], x1[-1], x2[0], x2[-1]), origin="lower",
              aspect="auto", interpolation="nearest")
    for i in range(len(classes)):
        if 0 < np.count_nonzero(index == i) < index.size:
            ax.contour(x1, x2, (index == i).astype(float), [0.5], colors="black", linewidths=0.9)
    if truth is None:
        ax.scatter(*X.T, s=16, color="white", edgecolor="black", linewidth=0.6, zorder=3)
        return
    for i, label in enumerate(classes):
        here = X[truth[:, 0] == label]
        if len(here):
            ax.scatter(*here.T, s=22, color=[colors[i]], edgecolor="white", linewidth=0.6, zorder=3,
                       label=f"class {label:g}")
    ax.legend(frameon=True, framealpha=0.9, edgecolor="none")


def _draw_values(ax: Axes, x1: Array, x2: Array, predicted: Array, X: Array, truth: Array | None) -> None:
    parts = [predicted.ravel(), *([] if truth is None else [truth.ravel()])]
    low, high = (float(end) for end in (min(p.min() for p in parts), max(p.max() for p in parts)))
    drawn = ax.imshow(predicted, extent=(x1[0], x1[-1], x2[0], x2[-1]), origin="lower", aspect="auto",
                      cmap="viridis", vmin=low, vmax=high, interpolation="bilinear")
    if predicted.max() > predicted.min():
        ax.contour(x1, x2, predicted, 8, colors="white", linewidths=0.6, alpha=0.7, linestyles="solid")
    look: dict[str, Any] = {"color": "white"} if truth is None else {
        "c": truth[:, 0], "cmap": "viridis", "vmin": low, "vmax": high}
    ax.scatter(*X.T, s=22, edgecolor="black", linewidth=0.6, zorder=3, **look)
    label = "predicted value" if truth is None else "predicted value, and targets as points"
    ax.figure.colorbar(drawn, ax=ax, label=label)
