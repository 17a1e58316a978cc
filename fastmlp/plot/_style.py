"""What the pictures have in common: where they are drawn, colours, lines."""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastmlp._core.optional import import_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["COLORS", "GRAY", "axes", "depth_colors", "frame"]

# Okabe and Ito, "Color Universal Design", 2008: blue, vermilion, green, purple, orange, sky blue, black and
# yellow.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
GRAY = "#666666"


def axes(ax: Axes | None, width: float = 6.4, height: float = 4.2) -> Axes:
    """The Axes that were given, or those of a new figure, in inches."""
    import_extra("matplotlib", "fastmlp.plot", "plot")
    if ax is not None:
        return ax
    pyplot = import_module("matplotlib.pyplot")
    new: Axes = pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    return new


def frame(ax: Axes, title: str, x: str, y: str) -> None:
    """Title and labels, and no more lines than needed."""
    ax.set_title(title, loc="left", fontweight="bold", fontsize=11)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", alpha=0.25, linewidth=0.8)
    ax.set_axisbelow(True)


def depth_colors(n: int) -> list[Any]:
    """A color for each of n layers, from dark to bright, none too bright for white paper."""
    colormap = import_module("matplotlib").colormaps["viridis"]
    return [colormap(0.85 * i / max(n - 1, 1)) for i in range(n)]
