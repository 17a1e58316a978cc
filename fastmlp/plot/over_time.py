"""What changes in the course of training: losses and metrics, diagnostics of layers; a search for a rate."""
from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastmlp._core import checks

from ._style import COLORS, GRAY, axes, depth_colors, frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from fastmlp._core.types import Array

__all__ = ["diagnostics", "history", "lr_find"]

# Of diagnostics: title, label of the axis, whether it is a share, whether its axis is logarithmic.
DIAGNOSTICS = {
    "dead": ("Dead units", "share of the units", True, False),
    "saturation": ("Saturated outputs", "share of the outputs", True, False),
    "mean": ("Mean of the activations", "mean output", False, False),
    "std": ("Spread of the activations", "standard deviation of the outputs", False, False),
    "gradient_norm": ("Gradients", "norm of the gradient of the weights", False, True),
    "weight_norm": ("Weights", "norm of the weights", False, False),
    "update_ratio": ("Steps beside weights", "norm of a step / norm of the weights", False, True),
}
OWNERS = {"dead": "relu, leaky_relu and elu with alpha = 0", "saturation": "sigmoid and tanh"}
HEALTHY_RATIO = 1e-3


class Reports(Protocol):
    """What `diagnostics` reads of a `fastmlp.Diagnostics`."""

    @property
    def steps(self) -> Array: ...

    @property
    def values(self) -> dict[str, Array]: ...


class RateSearch(Protocol):
    """What `lr_find` reads of a result of `fastmlp.lr_find`."""

    @property
    def rates(self) -> Sequence[float] | NDArray[Any]: ...

    @property
    def losses(self) -> Sequence[float] | NDArray[Any]: ...

    @property
    def suggestion(self) -> float | None: ...


def history(history: Mapping[str, Sequence[float]], names: str | Iterable[str] | None = None,
            ax: Axes | None = None) -> Axes:
    """Draw losses or metrics over the epochs.

    Parameters
    ----------
    history : History or mapping {str: list of float}
        What `fastmlp.MLP.fit` returned.
    names : str or iterable of str, optional
        Which of its numbers, such as "accuracy" or ["val_accuracy"]; loss and val_loss if not given. A name
        brings the one with ``val_`` in front along, where there is one.
    ax : matplotlib.axes.Axes, optional
        Where to draw; in a new figure if not given.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with a line for each name: full for the training data, dashed for the validation data. A circle
        is the best epoch of the validation loss. A loss that falls by more than a factor of 30 has a
        logarithmic axis.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        For a history that is no mapping.
    ValueError
        For a name that was not recorded.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("matplotlib").use("Agg")
    >>> from fastmlp import MLP, plot
    >>> X, y = np.eye(4), [0, 1, 0, 1]
    >>> trained = MLP([4, 8, 2], seed=0).fit(X, y, epochs=5, validation_data=(X, y), progress=False)
    >>> ax = plot.history(trained, "accuracy")
    >>> [line.get_label() for line in ax.get_lines()]
    ['accuracy, validation']
    """
    if not isinstance(history, Mapping):
        raise TypeError(f"history: expected a History or another mapping, got {type(history).__name__}")
    if not history:
        raise ValueError("history: expected numbers by their names, got an empty one")
    wanted = ["loss"] if names is None else [names] if isinstance(names, str) else list(names)
    shown = []
    for name in wanted:
        both = [name, name if name.startswith("val_") else f"val_{name}"]
        found = [each for each in dict.fromkeys(both) if each in history]
        if not found:
            raise ValueError(f"names: {name!r} was not recorded, only {', '.join(history)}")
        shown += [each for each in found if each not in shown]
    ax = axes(ax)
    bases = list(dict.fromkeys(name.removeprefix("val_") for name in shown))
    values: list[Array] = []
    for name in shown:
        y = np.asarray(history[name], dtype=float)
        if y.ndim != 1:
            raise ValueError(f"names: expected a number for each epoch, got arrays in {name!r}")
        base = name.removeprefix("val_")
        validation = name != base
        color = COLORS[(validation if len(bases) == 1 else bases.index(base)) % len(COLORS)]
        x = np.arange(1, len(y) + 1)
        ax.plot(x, y, color=color, linestyle="--" if validation else "-", linewidth=1.8,
                marker="o" if len(y) <= 20 else None, markersize=3.5,
                label=f"{base.replace('_', ' ')}, {'validation' if validation else 'training'}")
        if name == "val_loss" and np.isfinite(y).any():
            best = int(np.nanargmin(y))
            ax.plot(x[best], y[best], "o", markersize=9, markerfacecolor="none", markeredgecolor=color,
                    markeredgewidth=1.6, label=f"least: {y[best]:.4g}, epoch {best + 1}")
        values.append(y)
    name = bases[0].replace("_", " ") if len(bases) == 1 else "value"
    title = f"{name[:1].upper()}{name[1:]} over the epochs" if len(bases) == 1 else "Training"
    frame(ax, title, "epoch", name)
    if all(base.endswith("loss") for base in bases) and _spans(np.concatenate(values), 30):
        ax.set_yscale("log")
    _whole_numbers(ax)
    ax.legend(frameon=False)
    return ax


def diagnostics(source: Reports | Mapping[str, Sequence[float]], what: str = "gradient_norm",
                ax: Axes | None = None) -> Axes:
    """Draw a number of every layer in the course of training.

    Parameters
    ----------
    source : Diagnostics, History or mapping {str: list of float}
        A `fastmlp.Diagnostics` that has watched a training, whose reports are drawn over the steps; or a
        history, whose layer1_dead, layer2_dead and so on are drawn over the epochs.
    what : str, default "gradient_norm"
        Which number: "dead" or "saturation" (shares), "mean" or "std" (of activations), "gradient_norm",
        "weight_norm" or "update_ratio".
    ax : matplotlib.axes.Axes, optional
        Where to draw; in a new figure if not given.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with a line for each layer that has the number, from the first (dark) to the last (bright).

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        For a source of another kind.
    ValueError
        For a number that no layer has, and where nothing was recorded yet.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("matplotlib").use("Agg")
    >>> from fastmlp import plot
    >>> ax = plot.diagnostics({"layer1_dead": [0.0, 0.25], "layer2_dead": [0.0, 0.5]}, "dead")
    >>> [line.get_label() for line in ax.get_lines()], ax.get_xlabel()
    (['layer 1', 'layer 2'], 'epoch')
    """
    if isinstance(source, Mapping):
        pattern = re.compile(r"layer(\d+)_(\w+)")
        matches = [match for match in map(pattern.fullmatch, source) if match]
        known = list(dict.fromkeys(match[2] for match in matches))
        lines = {int(match[1]): np.asarray(source[match[0]], dtype=float)
                 for match in matches if match[2] == what}
        x: Array = np.arange(1, 1 + max(map(len, lines.values()), default=0))
        label = "epoch"
    elif not hasattr(source, "values") or not hasattr(source, "steps"):
        raise TypeError(f"source: expected Diagnostics or a History, got {type(source).__name__}")
    else:
        table = source.values.get(what, np.empty((0, 0)))
        lines = {i + 1: table[:, i] for i in range(table.shape[1])}
        x, label = source.steps, "step"
        known = list(source.values) if len(x) else []
    if not known:
        raise ValueError("source: nothing was recorded yet; give Diagnostics to fit(callbacks=...)")
    lines = {layer: y for layer, y in lines.items() if not np.isnan(y).all()}
    if not lines:
        only = f": only {OWNERS[what]} have it" if what in OWNERS else ""
        raise ValueError(f"what: no layer has {what!r}{only}; expected one of: {', '.join(known)}")
    ax = axes(ax)
    colors = depth_colors(max(lines))
    for layer, y in sorted(lines.items()):
        ax.plot(x[:len(y)], y, color=colors[layer - 1], linewidth=1.6, label=f"layer {layer}",
                marker="o" if len(y) <= 20 else None, markersize=3.5)
    plain = what.replace("_", " ")
    title, name, is_share, is_logarithmic = DIAGNOSTICS.get(what, (plain, plain, False, False))
    frame(ax, f"{title}, by layer", label, name)
    if is_share:
        ax.set_ylim(0, max(0.1, 1.08 * max(np.nanmax(y) for y in lines.values())))
        ax.yaxis.set_major_formatter(lambda share, position: f"{share:.0%}")
    elif is_logarithmic and any((y > 0).any() for y in lines.values()):
        ax.set_yscale("log")
    if what == "update_ratio":
        ax.axhline(HEALTHY_RATIO, color=GRAY, linestyle=":", linewidth=1.2, label="about healthy")
    _whole_numbers(ax)
    ax.legend(frameon=False, ncols=1 + len(lines) // 6)
    return ax


def lr_find(result: RateSearch, ax: Axes | None = None) -> Axes:
    """Draw the losses of a search for a learning rate.

    Parameters
    ----------
    result : object
        What `fastmlp.lr_find` returned, with ``rates``, ``losses`` and ``suggestion``.
    ax : matplotlib.axes.Axes, optional
        Where to draw; in a new figure if not given.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with the losses over the rates, which are on a logarithmic axis, and the suggestion. Losses that
        are far above the first one are beyond its edge.

    Raises
    ------
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("matplotlib").use("Agg")
    >>> from types import SimpleNamespace
    >>> from fastmlp import plot
    >>> result = SimpleNamespace(rates=[0.001, 0.01, 0.1, 1.0], losses=[2.3, 2.0, 1.1, 9.0], suggestion=0.02)
    >>> plot.lr_find(result).get_xscale()
    'log'
    """
    rates, losses = np.asarray(result.rates, dtype=float), np.asarray(result.losses, dtype=float)
    checks.shape("result.losses", losses, rates.shape)
    ax = axes(ax)
    ax.plot(rates, losses, color=COLORS[0], linewidth=1.8, label="loss")
    if result.suggestion is not None and math.isfinite(result.suggestion):
        ax.axvline(result.suggestion, color=COLORS[1], linestyle="--", linewidth=1.5,
                   label=f"suggestion: {result.suggestion:.2g}")
    frame(ax, "Search for a learning rate", "learning rate", "loss")
    ax.set_xscale("log")
    finite = losses[np.isfinite(losses)]
    if finite.size:
        low, start = float(finite.min()), float(finite[0])
        top = start + 0.6 * (start - low) if start > low else float(np.median(finite)) * 1.5
        if finite.max() > top > low:
            ax.set_ylim(low - 0.08 * (top - low), top)
    ax.legend(frameon=False, loc="lower left")
    return ax


def _spans(values: Array, factor: float) -> bool:
    finite = values[np.isfinite(values)]
    return bool(finite.size and finite.min() > 0 and finite.max() > factor * finite.min())


def _whole_numbers(ax: Axes) -> None:
    """There is no epoch 2.5."""
    MaxNLocator = import_module("matplotlib.ticker").MaxNLocator
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
