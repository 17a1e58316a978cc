"""The loss around a trained network, on a plane through its parameters."""
from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fastmlp._core import checks

from ._style import axes, frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array, RowsLike
    from fastmlp.model import MLP

__all__ = ["loss_landscape"]


class Parameters(Protocol):
    """What is marked: a model, or a `fastmlp.restarts.Restart`."""

    @property
    def weights(self) -> Sequence[Array]: ...

    @property
    def biases(self) -> Sequence[Array]: ...


def loss_landscape(model: MLP, X: RowsLike, y: ArrayLike, ax: Axes | None = None, *,
                   restarts: Sequence[Parameters] = (), span: float = 1.0, points: int = 41,
                   seed: int = 0) -> Axes:
    """Draw the loss on a plane of parameters through those of a model.

    With two directions d1 and d2 and the parameters p of the model::

        loss(p + a d1 + b d2),      a, b from -span to span

    Parameters
    ----------
    model : MLP
        Model; it stays as it is.
    X : array_like or sparse matrix of any numeric dtype, shape (n, inputs)
        Samples of which the loss is the mean.
    y : array_like
        Targets, as `MLP.fit` takes them.
    ax : matplotlib.axes.Axes, optional
        Where to draw; in a new figure if not given.
    restarts : sequence of Restart or MLP, or History, default ()
        Networks of the same layers that are marked: the history of ``fit(restarts=n)`` has some. The
        plane is then the one that comes nearest to them, and is drawn as far as they reach.
    span : float, default 1.0
        How far to go to either side, > 0: with 1, weights change by as much as they are. With ``restarts``,
        1 is as far as they reach, and a margin.
    points : int, default 41
        Points in either direction at which the loss is computed, >= 2.
    seed : int, default 0
        Seed of the directions, where they are drawn at random.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with the loss as colours (logarithmic, if it spans more than a factor of 30) and lines of equal
        loss; a star for the model, and circles with numbers for the restarts, in the colour of their own
        loss.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        For arguments of the wrong type.
    ValueError
        For arguments that do not fit, and for restarts of other layers.

    Notes
    -----
    Random directions are normalised by filters: the part of a direction that belongs to the weights of a unit
    is scaled to the norm of these weights; biases stay. Without that, the picture would depend on the scale
    of the weights, which ReLU networks may choose at will.

    Random directions in a space of many dimensions miss every other network, so that ``restarts`` get the
    plane of the principal components of their distances, and a line of text says how much of them it has. A
    network off the plane is marked where its projection is: its colour then differs from what is around it.
    Two networks that compute the same may lie far apart, since units can be exchanged.

    References
    ----------
    Li, Xu, Taylor, Studer, Goldstein, "Visualizing the Loss Landscape of Neural Nets", NeurIPS 2018.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("matplotlib").use("Agg")
    >>> from fastmlp import MLP, plot
    >>> X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), [0, 1, 1, 0]
    >>> model = MLP([2, 4, 2], activation="tanh", seed=0)
    >>> trained = model.fit(X, y, epochs=50, restarts=3, progress=False)
    >>> plot.loss_landscape(model, X, y, restarts=trained.restarts, points=11).get_title(loc="left")
    'Loss around the trained network'
    """
    span = checks.number("span", span, low=0.0)
    if not span:
        raise ValueError("span: expected a number above 0, got 0.0")
    points = checks.integer("points", points, low=2)
    seed = checks.integer("seed", seed, low=0)
    own = [*model.weights, *model.biases]
    center = _flat(own)
    if not np.isfinite(center).all():
        raise ValueError("model: expected parameters that are finite")
    others = [_flat(arrays) - center for arrays in _arrays_of(restarts, model)]
    rng = np.random.default_rng(seed)
    first, second = _random(own, rng), _random(own, rng)
    along = "direction 1"
    away = [difference for difference in others if np.linalg.norm(difference)]
    if away:
        first, second, share = _through(away, first)
        along += f"\nthe plane has {share:.0%} of the squared distances to the restarts"
    places = [_coordinates(difference, first, second) for difference in others]
    (a_low, a_high), (b_low, b_high) = _range(places, span, 0), _range(places, span, 1)
    a, b = np.linspace(a_low, a_high, points), np.linspace(b_low, b_high, points)
    loss_at = _Probe(model, X, y)
    losses = np.array([[loss_at(center + s * first + t * second) for s in a] for t in b])
    marks = [(str(i + 1), place, loss_at(center + difference))
             for i, (place, difference) in enumerate(zip(places, others)) if np.linalg.norm(difference)]
    ax = axes(ax, 6.4, 5.0)
    color = _draw(ax, a, b, losses, [loss for _, _, loss in marks])
    _mark(ax, [(number, place, color(loss)) for number, place, loss in marks])
    frame(ax, "Loss around the trained network", along, "direction 2")
    ax.grid(visible=False)
    return ax


def _arrays_of(restarts: Any, model: MLP) -> list[list[Array]]:
    """Weights and biases of each, which must have the layers of the model."""
    restarts = getattr(restarts, "restarts", restarts)
    if not isinstance(restarts, Iterable):
        raise TypeError(f"restarts: expected a list of Restart or MLP, got {type(restarts).__name__}")
    shapes = [array.shape for array in (*model.weights, *model.biases)]
    result = []
    for i, restart in enumerate(restarts):
        if not hasattr(restart, "weights") or not hasattr(restart, "biases"):
            raise TypeError(f"restarts[{i}]: expected a Restart or an MLP, got {type(restart).__name__}")
        arrays = [*restart.weights, *restart.biases]
        if [np.shape(array) for array in arrays] != shapes:
            raise ValueError(f"restarts[{i}]: expected the layers of the model, {list(model.layers)}, got "
                             f"arrays of {[np.shape(array) for array in arrays]}")
        result.append(arrays)
    return result


def _flat(arrays: Sequence[Any]) -> Array:
    return np.concatenate([np.asarray(array, dtype=float).ravel() for array in arrays])


def _random(own: Sequence[Array], rng: np.random.Generator) -> Array:
    """A direction, normalised by filters: of every unit, as long as its weights are. Biases stay."""
    parts = []
    for array in own:
        if array.ndim == 1:
            parts.append(np.zeros(array.size))
            continue
        direction = rng.standard_normal(array.shape)
        direction *= np.linalg.norm(array, axis=0) / np.linalg.norm(direction, axis=0)
        parts.append(direction.ravel())
    return np.concatenate(parts)


def _through(away: list[Array], random: Array) -> tuple[Array, Array, float]:
    """The plane that comes nearest to these points, and its share of their squared distances."""
    components = np.linalg.svd(np.stack(away), full_matrices=False)[2]
    first = components[0]
    if len(components) > 1 and len(away) > 1:
        second = components[1]
    else:                               # one point is on a line: the other direction is any
        second = random - first * (random @ first)
        second /= np.linalg.norm(second)
    reach = max(float(np.linalg.norm(difference)) for difference in away)
    on_plane = sum(float((d @ first) ** 2 + (d @ second) ** 2) for d in away)
    return first * reach, second * reach, on_plane / sum(float(d @ d) for d in away)


def _coordinates(difference: Array, first: Array, second: Array) -> tuple[float, float]:
    solution = np.linalg.lstsq(np.stack([first, second], axis=1), difference, rcond=None)[0]
    return float(solution[0]), float(solution[1])


def _range(places: list[tuple[float, float]], span: float, axis: int) -> tuple[float, float]:
    """Symmetric around a model alone; with others, as far as they reach and a quarter further."""
    if not any(math.hypot(*place) > 1e-9 for place in places):
        return -span, span
    numbers = [0.0, *(place[axis] for place in places)]
    low, high = min(numbers), max(numbers)
    middle, half = (low + high) / 2, max(0.75 * (high - low), 0.25)
    return middle - span * half, middle + span * half


class _Probe:
    """The loss at any parameters, of a copy of the model; NaN where it is not finite."""

    def __init__(self, model: MLP, X: RowsLike, y: ArrayLike) -> None:
        self._model = copy.deepcopy(model)
        self._X, self._y = X, y

    def __call__(self, parameters: Array) -> float:
        start = 0
        for array in (*self._model.weights, *self._model.biases):
            array[...] = parameters[start:start + array.size].reshape(array.shape)
            start += array.size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)         # far away, outputs may overflow
            loss = self._model.evaluate(self._X, self._y, metrics=())["loss"]
        return loss if math.isfinite(loss) else math.nan


def _draw(ax: Axes, a: Array, b: Array, losses: Array, others: list[float]) -> Callable[[float], Any]:
    """Draw the losses; the color that a loss has, also one of those of others."""
    finite = losses[np.isfinite(losses)]
    if not finite.size:
        raise ValueError("model: the loss is not finite anywhere around it")
    both = [*finite, *(loss for loss in others if math.isfinite(loss))]
    low, high = float(min(both)), float(max(both))
    is_logarithmic = low > 0 and high > 30 * low
    colors = import_module("matplotlib.colors")
    norm = colors.LogNorm(low, high) if is_logarithmic else colors.Normalize(low, high)
    drawn = ax.pcolormesh(a, b, np.ma.masked_invalid(losses), cmap="viridis", norm=norm, shading="gouraud",
                          rasterized=True)
    if finite.max() > finite.min():
        levels = np.geomspace(low, high, 16) if is_logarithmic else np.linspace(low, high, 16)
        ax.contour(a, b, losses, levels[1:-1], colors="white", linewidths=0.6, alpha=0.75)
    ax.figure.colorbar(drawn, ax=ax, label="loss")
    return lambda loss: drawn.cmap(norm(loss))


def _mark(ax: Axes, others: list[tuple[str, tuple[float, float], Any]]) -> None:
    """Circles with a number, a place and a color each, and a star for the model."""
    for i, (number, place, fill) in enumerate(others):
        ax.plot(*place, marker="o", markersize=14, linestyle="none", markeredgecolor="white",
                markeredgewidth=1.4, markerfacecolor=fill, label=None if i else "restarts, by their loss")
        ax.annotate(number, place, ha="center", va="center_baseline", fontsize=8,
                    color="black" if np.dot(fill[:3], (0.3, 0.59, 0.11)) > 0.55 else "white")
    ax.plot(0, 0, marker="*", markersize=17, linestyle="none", markeredgecolor="black",
            markerfacecolor="white", label="the model")
    ax.legend(loc="upper right", fontsize=8, markerscale=0.6, framealpha=0.85, edgecolor="none")
