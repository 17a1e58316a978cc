"""The plot of docs/benchmarks.md: training steps as shares of the FMA peak. Called by report.py."""
from __future__ import annotations

from pathlib import Path

from common import TRAINING, Record
from saved import by_row, day, pick, threads_text, values

COLORS = {
    "fastmlp": "#c1272d", "NumPy backend": "#7f7f7f", "PyTorch": "#e69f00", "JAX jit": "#56b4e9",
    "JAX scan": "#0072b2", "scikit-learn": "#009e73", "ONNX Runtime": "#8e6bbf",
}


def plot_training(path: Path, title: str, records: list[Record]) -> None:
    """Bars for every network and library, a panel for every number of threads, as an SVG with real text."""
    import matplotlib
    matplotlib.use("svg")
    # Text stays text, and the same records give the same file.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "fastmlp"})
    import matplotlib.pyplot as plt
    threads = values(records, "threads")
    rows = [row.name for row in TRAINING if row.name in by_row(records)]
    figure, panels = plt.subplots(len(threads), 1, figsize=(10, 3.3 * len(threads) + 0.6), squeeze=False,
                                  layout="constrained", sharex=True)
    figure.suptitle(f"A training step, float32, {title}, {day(records)}", fontsize=11)
    for axes, n in zip(panels.flat, threads):
        here = pick(records, threads=n)
        libraries = values(here, "library")
        width = 0.85 / len(libraries)
        for i, library in enumerate(libraries):
            found = by_row(pick(here, library=library))
            places = [g + (i - (len(libraries) - 1) / 2) * width for g in range(len(rows))]
            heights = [found[row]["share"] if row in found else 0 for row in rows]
            axes.bar(places, heights, width, label=library, color=COLORS.get(library))
        peak = max(values(here, "peak"))
        axes.set_title(f"{threads_text(n)}: peak {peak:.0f} GFLOP/s", fontsize=9, loc="left")
        axes.set_ylim(0, 1)
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.set_ylabel("share of the FMA peak", fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.3)
        axes.set_axisbelow(True)
        axes.set_xticks(range(len(rows)), [row.replace("-256-256-256-256-", "-...-") for row in rows],
                        rotation=25, ha="right", fontsize=8)
    panels.flat[0].legend(ncols=7, fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
