"""The plots of the saved results, one per table: bench/results/*.png. Called by report.py."""
from __future__ import annotations

from typing import Any

from common import INFERENCE, TRAINING, Record, Row
from saved import RESULTS, by_row, day, pick, row_name, threads_text, values

COLORS = {
    "fastmlp": "#c1272d", "NumPy backend": "#7f7f7f", "PyTorch": "#e69f00", "JAX jit": "#56b4e9",
    "JAX scan": "#0072b2", "scikit-learn": "#009e73", "ONNX Runtime": "#8e6bbf",
}
# Shares of the peak that training is meant to reach with 1 and 2 threads, and forward passes.
GOALS = dict(zip([row.name for row in TRAINING], [
    (None, None), (0.65, None), (0.86, 0.75), (0.90, 0.80), (0.91, 0.87), (0.91, 0.87), (0.90, 0.87),
    (0.90, 0.87), (0.88, 0.85)]))


class Figure:
    """Panels beside or above each other, with a title that says what was measured where; saved at the end."""

    def __init__(self, name: str, records: list[Record], title: str, rows: int = 1, columns: int = 1,
                 size: tuple[float, float] = (11, 4)) -> None:
        import matplotlib
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
        self.name, self.plt = name, plt
        self.figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
        self.axes = list(axes.flat)
        self.figure.suptitle(f"{title}\n{records[0]['cpu']}, {day(records)}", fontsize=11)

    def __enter__(self) -> Figure:
        return self

    def __exit__(self, *exception: Any) -> None:
        for axes in self.axes:
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", alpha=0.3)
            axes.set_axisbelow(True)
        self.figure.savefig(RESULTS / f"{self.name}.png", dpi=90)
        self.plt.close(self.figure)
        print(RESULTS / f"{self.name}.png")


def bars(axes: Any, groups: list[str], series: dict[str, list[float | None]], colors: dict[str, Any]) -> None:
    """A group of bars for every name in groups, one for each of the series; None leaves a gap."""
    width = 0.85 / max(1, len(series))
    for i, (label, heights) in enumerate(series.items()):
        places = [g + (i - (len(series) - 1) / 2) * width for g in range(len(groups))]
        axes.bar(places, [h or 0 for h in heights], width, label=label, color=colors.get(label))
    axes.set_xticks(range(len(groups)), [group.replace("-256-256-256-256-", "-...-") for group in groups],
                    rotation=25, ha="right", fontsize=8)


def legend_above(axes: Any) -> None:
    axes.legend(ncols=7, fontsize=8, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.98))


def shares(axes: Any, rows: list[Row], series: dict[str, list[Record]], colors: dict[str, Any]) -> None:
    present = [row.name for row in rows if any(row.name in by_row(records) for records in series.values())]
    heights = {label: [by_row(records).get(name, {}).get("share") for name in present]
               for label, records in series.items()}
    bars(axes, present, heights, colors)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylabel("share of the FMA peak")


def plot_libraries(name: str, records: list[Record], rows: list[Row], what: str) -> None:
    threads = values(records, "threads")
    if not records:
        return
    with Figure(name, records, f"{what}, float32", len(threads), size=(11, 3.6 * len(threads))) as figure:
        for axes, n in zip(figure.axes, threads):
            here = pick(records, threads=n)
            shares(axes, rows, {library: pick(here, library=library) for library in values(here, "library")},
                   COLORS)
            peak = max(values(here, "peak"))
            axes.set_title(f"{threads_text(n)}: peak {peak:.0f} GFLOP/s", fontsize=9, loc="left")
        legend_above(figure.axes[0])


def plot_roofline(name: str, records: list[Record], rows: list[Row], what: str) -> None:
    dtypes = values(records, "dtype")
    if not records:
        return
    with Figure(name, records, f"fastmlp: {what}", len(dtypes), size=(11, 3.6 * len(dtypes))) as figure:
        for axes, dtype in zip(figure.axes, dtypes):
            here = pick(records, dtype=dtype)
            series = {f"{isa}, {threads_text(n)}": pick(here, isa=isa, threads=n)
                      for isa in values(here, "isa") for n in values(here, "threads")}
            shares(axes, rows, series, {})
            axes.set_title(dtype, fontsize=9, loc="left")
            if what == "training":
                present = [row.name for row in rows if row.name in by_row(here)]
                for g, goals in enumerate(GOALS[row] for row in present):
                    for goal, style in zip(goals, ("-", ":")):
                        if goal:
                            axes.plot([g - 0.45, g + 0.45], [goal, goal], style, color="black", lw=1)
        legend_above(figure.axes[0])
        if what == "training":
            figure.axes[-1].set_xlabel("black lines: goals with 1 thread (solid) and 2 (dotted)", fontsize=8)


def plot_latency(records: list[Record]) -> None:
    records = [record for record in records if "latency_us" in record]
    threads = min(values(records, "threads"), default=1)
    records = pick(records, threads=threads)
    if not records:
        return
    rows = [row.name for row in INFERENCE if row.name in by_row(records)]
    with Figure("latency", records, "One sample: wall time of a call, 1 thread, float32", 1, len(rows),
                size=(3 * len(rows) + 1, 4)) as figure:
        for axes, name in zip(figure.axes, rows):
            for record in records:
                if row_name(record) == name:
                    quantiles = {k: v for k, v in record["latency_us"].items() if k != "calls"}
                    axes.plot(list(quantiles), list(quantiles.values()), marker=".", label=record["library"],
                              color=COLORS[record["library"]])
                    if "stream_us" in record:
                        axes.axhline(record["stream_us"], color="black", ls=":", label="weights read once")
            axes.set_yscale("log")
            axes.set_title(name, fontsize=9)
            axes.tick_params(axis="x", labelrotation=45)
        figure.axes[0].set_ylabel("us")
        figure.axes[-1].legend(fontsize=7)


def plot_variants(name: str, records: list[Record], base: dict[str, str], title: str) -> None:
    """Time relative to that of a base variant: base is variant -> its base."""
    if not records:
        return
    with Figure(name, records, title) as figure:
        groups: dict[str, dict[str, Record]] = {}
        for record in records:
            label = f"{row_name(record)}\n{record['isa']} {record['dtype']} {record['threads']}T"
            groups.setdefault(label, {})[record["variant"]] = record
        series = {variant: [relative(group, variant, base) for group in groups.values()]
                  for variant in values(records, "variant") if variant in base}
        bars(figure.axes[0], list(groups), series, {})
        figure.axes[0].axhline(1, color="black", lw=1)
        figure.axes[0].set_ylabel("time, relative")
        figure.axes[0].tick_params(axis="x", labelsize=6)
        figure.axes[0].legend(fontsize=8, ncols=3)


def relative(group: dict[str, Record], variant: str, base: dict[str, str]) -> float | None:
    if variant in group and base.get(variant) in group:
        return group[variant]["us"] / group[base[variant]]["us"]
    return None


def plot_dense(records: list[Record]) -> None:
    if not records:
        return
    with Figure("dense", records, "Dense layers, one call, 1 thread", 1, 2) as figure:
        for axes, function in zip(figure.axes, ("dense_forward", "dense_backward")):
            here = pick(records, function=function)
            shapes = list(dict.fromkeys("x".join(map(str, record["shape"])) for record in here))
            series = {}
            for isa in values(here, "isa"):
                for dtype in values(here, "dtype"):
                    chosen = pick(here, isa=isa, dtype=dtype)
                    series[f"fastmlp {isa} {dtype}"] = [r["share"] for r in chosen]
                    series[f"NumPy {dtype}, beside {isa}"] = [r["share"] / r["ratio"] for r in chosen]
            bars(axes, shapes, series, {})
            axes.set_title(f"{function}: (batch, in, out)", fontsize=9)
            axes.set_ylim(0, 1)
        figure.axes[0].set_ylabel("share of the FMA peak of the instruction set")
        figure.axes[0].legend(fontsize=6)


def plot_elements(records: list[Record]) -> None:
    if not records:
        return
    dtypes = values(records, "dtype")
    title = "Element by element and by rows, against NumPy's expressions in place, 1 thread"
    with Figure("elements", records, title, 1, len(dtypes)) as figure:
        for axes, dtype in zip(figure.axes, dtypes):
            for isa in values(records, "isa"):
                for function in values(records, "function"):
                    here = pick(records, function=function, dtype=dtype, isa=isa)
                    axes.plot([record["shape"][0] * record["shape"][1] for record in here],
                              [record["ratio"] for record in here], marker=".", label=f"{function} {isa}")
            axes.axhline(1, color="black", lw=1)
            axes.set_xscale("log")
            axes.set_xlabel("elements")
            axes.set_title(dtype, fontsize=9)
        figure.axes[0].set_ylabel("times as fast as NumPy")
        figure.axes[0].legend(fontsize=7)


def plot_mnist(records: list[Record]) -> None:
    if not records:
        return
    with Figure("mnist", records, "MNIST, 784-256-128-10, batches of 128, SGD with momentum", 1, 2) as figure:
        accuracy, memory = figure.axes
        for record in records:
            n, epochs = record["threads"], record["accuracies"]
            time = [record["seconds"] * (i + 1) / len(epochs) for i in range(len(epochs))]
            accuracy.plot(time, epochs, ".--" if n == 1 else ".-", color=COLORS[record["library"]],
                          label=f"{record['library']}, {threads_text(n)}: {record['seconds']:.1f} s")
        accuracy.axhline(0.98, color="black", lw=1)
        accuracy.set_xscale("log")
        accuracy.set_xlabel("seconds of training")
        accuracy.set_ylabel("test accuracy")
        accuracy.legend(fontsize=7)
        labels = [f"{record['library']}, {record['threads']}T" for record in records]
        bars(memory, labels, {"peak RSS": [record["peak_rss_mb"] for record in records]}, {})
        memory.axhline(records[0]["data_mb"], color="black", lw=1, ls=":", label="the data")
        memory.set_ylabel("MB")
        memory.legend(fontsize=7)


def plot_pytest(records: list[Record]) -> None:
    """cython against numpy, by group of the pytest benchmarks."""
    groups: dict[str, dict[str, float]] = {}
    for record in records:
        groups.setdefault(record["function"], {})[record["library"]] = record["us"]
    both = {name: times["numpy"] / times["cython"] for name, times in groups.items() if len(times) == 2}
    if not both:
        return
    size = (8, 0.19 * len(both) + 1.5)
    with Figure("pytest", records, "cython against the NumPy backend, 1 thread", size=size) as figure:
        axes = figure.axes[0]
        axes.barh(list(both), list(both.values()), color=COLORS["fastmlp"])
        axes.axvline(1, color="black", lw=1)
        axes.set_xscale("log")
        axes.invert_yaxis()
        axes.margins(y=0.01)
        axes.tick_params(axis="y", labelsize=6)
        axes.set_xlabel("times as fast")


def plot_all(saved: dict[str, list[Record]]) -> None:
    """All plots for which there are results: file name -> records."""
    peers, roofline, functions = saved["peers"], saved["roofline"], saved["functions"]
    plot_libraries("training", pick(peers, table="training"), TRAINING, "A training step")
    plot_libraries("inference", batches(peers), INFERENCE, "A forward pass")
    plot_roofline("roofline_training", pick(roofline, table="training"), TRAINING, "training")
    plot_roofline("roofline_inference", batches(roofline), INFERENCE, "inference")
    plot_latency(pick(peers, table="inference"))
    plot_variants("momentum", pick(roofline, table="momentum"), {"momentum": "sgd", "nesterov": "sgd"},
                  "A step with momentum, relative to one of plain SGD")
    plot_variants("shuffle", pick(roofline, table="shuffle"),
                  {f"{dtype} shuffled": dtype for dtype in ("uint8", "float32", "float64")},
                  "A shuffled epoch, relative to an unshuffled one")
    plot_dense(pick(functions, table="dense"))
    plot_elements(pick(functions, table="elements"))
    plot_mnist(saved["mnist"])
    plot_pytest(saved["pytest"])


def batches(records: list[Record]) -> list[Record]:
    return [record for record in pick(records, table="inference") if record["batch"] > 1]
