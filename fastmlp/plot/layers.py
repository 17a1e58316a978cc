"""What is inside of a network: activations, gradients and weights, layer by layer."""
from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from fastmlp._core import checks

from ._style import GRAY, axes, depth_colors, frame

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array, RowsLike
    from fastmlp.model import MLP

__all__ = ["activations", "gradients", "weights"]

BINS = 80
MARGIN = 0.02           # at either side, of the range
BOUNDS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
RIDGE = 0.86            # height of a histogram, in distances between two layers


def activations(model: MLP, X: RowsLike, ax: Axes | None = None) -> Axes:
    """Draw a histogram of the outputs of every layer.

    Parameters
    ----------
    model : MLP
        Model.
    X : array_like or sparse matrix of any numeric dtype, shape (n, inputs)
        Samples; some hundreds are enough.
    ax : matplotlib.axes.Axes, optional
        Where to draw; in a new figure if not given.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with a histogram for each layer, the first one on top, over the same values; each has the height
        that there is. Outputs that are exactly 0, as ReLU's often are, are not in it: their share is written
        at the right.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        For an ``X`` that is not numeric.
    ValueError
        For a shape that does not fit.

    Notes
    -----
    Histograms that become narrower from layer to layer belong to weights that are too small, and those that
    gather at both ends of tanh or sigmoid to weights that are too large: in both cases little of the gradient
    comes through.

    References
    ----------
    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("matplotlib").use("Agg")
    >>> _ = pytest.importorskip("fastmlp.diagnostics")
    >>> from fastmlp import MLP, plot
    >>> ax = plot.activations(MLP([4, 8, 8, 2], activation="tanh", seed=0), np.eye(4))
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['layer 1\\ntanh', 'layer 2\\ntanh', 'layer 3\\noutput']
    """
    outputs = [np.asarray(output).ravel() for output in model.hidden(X)]
    zeros = [float(np.mean(output == 0)) if output.size else 0.0 for output in outputs]
    values = [output[(output != 0) & np.isfinite(output)].astype(float) for output in outputs]
    ends = [np.quantile(each, [0.002, 0.998]) for each in values if each.size]
    low, high = min((e[0] for e in ends), default=-1.0), max((e[1] for e in ends), default=1.0)
    low, high = _apart(min(low, 0.0), max(high, 0.0))
    ax = axes(ax, height=1.4 + 0.9 * len(outputs))
    names = [f.name for f in model.activations[:-1]] + ["output"]
    bounds = [BOUNDS.get(name, (-math.inf, math.inf)) for name in names]
    _ridges(ax, values, [_edges_at_zero(low, high, *ends) for ends in bounds],
            [f"layer {i + 1}\n{name}" for i, name in enumerate(names)],
            [f"{share:.0%} zeros" if share else "" for share in zeros])
    frame(ax, "Activations, by layer", "output", "")
    ax.grid(visible=False)
    ax.axvline(0, color=GRAY, linewidth=0.8, linestyle=":", zorder=0)
    return ax


def gradients(model: MLP, X: RowsLike, y: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw a histogram of the sizes of the gradients of every layer's weights.

    Parameters
    ----------
    model : MLP
        Model; it stays as it is.
    X : array_like or sparse matrix of any numeric dtype, shape (n, inputs)
        Samples of a batch.
    y : array_like
        Targets, as `MLP.fit` takes them.
    ax : matplotlib.axes.Axes, optional
        Where to draw; in a new figure if not given.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with a histogram of log10 abs(dL/dw) for each layer, the first one on top, and a line at its
        median. Gradients that are exactly 0 are not in it: their share is written at the right.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        For arguments of the wrong type.
    ValueError
        For arguments that do not fit.

    Notes
    -----
    Where the medians of the first layers are powers of ten below that of the last one, gradients vanish on
    their way: the first layers hardly learn.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("matplotlib").use("Agg")
    >>> from fastmlp import MLP, plot
    >>> ax = plot.gradients(MLP([4, 8, 2], activation="sigmoid", seed=0), np.eye(4), [0, 1, 0, 1])
    >>> ax.get_xlabel()
    'size of the gradient of a weight'
    """
    found = model.loss_and_gradients(X, y)[1].weights
    sizes = [np.abs(np.asarray(gradient, dtype=float)).ravel() for gradient in found]
    zeros = [float(np.mean(size == 0)) for size in sizes]
    values = [np.log10(size[(size > 0) & np.isfinite(size)]) for size in sizes]
    ends = [np.quantile(each, [0.002, 1.0]) for each in values if each.size]
    low, high = min((e[0] for e in ends), default=-1.0), max((e[1] for e in ends), default=0.0)
    ax = axes(ax, height=1.4 + 0.9 * len(values))
    low, high = _apart(low, high)
    margin = MARGIN * (high - low)
    edges = np.linspace(low - margin, high + margin, BINS + 1)
    _ridges(ax, values, [edges] * len(values), [f"layer {i + 1}" for i in range(len(values))],
            [f"{share:.0%} zeros" if share else "" for share in zeros])
    for i, each in enumerate(values):
        if each.size:
            middle = float(np.median(each))
            ax.plot([middle, middle], [i, i - RIDGE], color="white", linewidth=1.6)
    frame(ax, "Gradients, by layer", "size of the gradient of a weight", "")
    ax.grid(visible=False)
    ax.xaxis.set_major_locator(import_module("matplotlib.ticker").MaxNLocator(8, integer=True))
    ax.xaxis.set_major_formatter(lambda power, position: f"$10^{{{power:g}}}$")
    return ax


def weights(model: MLP, shape: Sequence[int], ax: Axes | None = None, *, layer: int = 1,
            units: Sequence[int] | None = None) -> Axes:
    """Draw the weights of every unit of a layer as an image, of the shape that the inputs have.

    Parameters
    ----------
    model : MLP
        Model whose inputs are the pixels of images, or whatever lies on a grid.
    shape : (height, width) or (height, width, 3)
        Shape of an image; with 3 channels it is drawn in their colours.
    ax : matplotlib.axes.Axes, optional
        Where to draw; in a new figure if not given.
    layer : int, default 1
        Number of the layer, from 1 on; ``shape`` is that of its inputs.
    units : sequence of int, optional
        Which units, from 0 on; all if not given.

    Returns
    -------
    matplotlib.axes.Axes
        Axes with all images in rows. Blue weights are negative, red ones positive, and white is 0, on the
        same scale for all; with colours, each image has a scale of its own.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    TypeError
        For numbers that are no integers.
    ValueError
        For a layer that there is not, a shape that is not that of its inputs, and units that there are not.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("matplotlib").use("Agg")
    >>> from fastmlp import MLP, plot
    >>> plot.weights(MLP([64, 16, 10], seed=0), (8, 8)).get_title(loc="left")
    'Weights of layer 1: 16 units, 8 x 8 inputs'
    """
    layer = checks.integer("layer", layer, low=1, high=len(model.weights))
    shape = tuple(checks.integer("shape", size, low=1) for size in shape)
    if len(shape) not in (2, 3) or len(shape) == 3 and shape[2] != 3:
        raise ValueError(f"shape: expected (height, width) or (height, width, 3), got {shape}")
    w = np.asarray(model.weights[layer - 1], dtype=float)
    if math.prod(shape) != w.shape[0]:
        raise ValueError(f"shape: expected the shape of {w.shape[0]} inputs, got {shape}")
    chosen = range(w.shape[1]) if units is None else [
        checks.integer("units", unit, low=0, high=w.shape[1] - 1) for unit in units]
    if not len(chosen):
        raise ValueError("units: expected at least one, got none")
    images = [w[:, unit].reshape(shape) for unit in chosen]
    height, width = shape[:2]
    mosaic, corners = _mosaic(images)
    aspect = mosaic.shape[0] / mosaic.shape[1]
    ax = axes(ax, 6.4, min(max(5.3 * aspect + 0.4, 1.6), 9.0))
    if len(shape) == 3:
        ax.imshow(np.where(np.isnan(mosaic), 1.0, mosaic), interpolation="nearest")
    else:
        _show_signed(ax, mosaic)
        for top, left in corners:               # or the white of small weights has no edge
            ax.add_patch(import_module("matplotlib.patches").Rectangle(
                (left - 0.5, top - 0.5), width, height, fill=False, edgecolor="#bbbbbb", linewidth=0.6))
    ax.set_title(f"Weights of layer {layer}: {len(images)} unit{'s' if len(images) > 1 else ''}, "
                 f"{height} x {width} inputs", loc="left", fontweight="bold", fontsize=11)
    ax.set_axis_off()
    return ax


def _mosaic(images: list[Array]) -> tuple[Array, list[tuple[int, int]]]:
    """Images in rows that make about a square, NaN between them; and where each begins."""
    height, width, *channels = images[0].shape
    columns = min(math.ceil(math.sqrt(len(images) * height / width)), len(images))
    rows = -(-len(images) // columns)
    mosaic = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, *channels), np.nan)
    corners = [(i // columns * (height + 1), i % columns * (width + 1)) for i in range(len(images))]
    for image, (top, left) in zip(images, corners):
        mosaic[top:top + height, left:left + width] = _unit_range(image) if channels else image
    return mosaic, corners


def _show_signed(ax: Axes, values: Array) -> None:
    """Blue below 0, red above, NaN and 0 white."""
    finite = np.abs(values[np.isfinite(values)])
    limit = float(np.quantile(finite, 0.998)) or 1.0 if finite.size else 1.0
    colormap = import_module("matplotlib").colormaps["RdBu_r"].with_extremes(bad="white")
    drawn = ax.imshow(values, cmap=colormap, vmin=-limit, vmax=limit, interpolation="nearest")
    ax.figure.colorbar(drawn, ax=ax, label="weight", shrink=0.8, extend="both")


def _apart(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _edges_at_zero(low: float, high: float, least: float, most: float) -> Array:
    """Edges of bins from low to high, one of them 0: what is below and above it is told apart. They end where
    a function ends that gives nothing below `least` and above `most`, whole numbers."""
    bins = BINS / (high - low)                  # for each 1
    if math.isfinite(most):
        bins = max(1, round(bins))
    first, last = math.floor(max(low, least) * bins), math.ceil(min(high, most) * bins)
    result: Array = np.arange(first, max(last, first + 1) + 1) / bins
    return result


def _ridges(ax: Axes, values: list[Array], bins: list[Array], labels: list[str], notes: list[str]) -> None:
    """A histogram for each layer, over the edges of its bins, one below the other."""
    colors = depth_colors(len(values))
    for i, each in enumerate(values):
        heights = np.histogram(each, bins[i])[0].astype(float)
        tallest = heights.max()
        top = i - RIDGE * heights / tallest if tallest else np.full(len(heights), float(i))
        ax.stairs(top, bins[i], baseline=i, fill=True, color=colors[i], alpha=0.85, linewidth=0)
        ax.axhline(i, color=colors[i], linewidth=0.8)
        ax.text(1.01, i - 0.15, notes[i], transform=ax.get_yaxis_transform(), fontsize=8.5, color=GRAY)
    left, right = min(edges[0] for edges in bins), max(edges[-1] for edges in bins)
    margin = MARGIN * (right - left)
    ax.set_xlim(left - margin, right + margin)
    ax.set_ylim(len(values) - 0.8, -1.0)                # the first layer on top
    ax.set_yticks([i - 0.2 for i in range(len(values))], labels)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _unit_range(image: Array) -> Array:
    """From 0 to 1."""
    low, high = image.min(), image.max()
    result: Array = (image - low) / (high - low) if high > low else np.full_like(image, 0.5)
    return result
