"""Saved results -> a plot per table and tables.md in bench/results, and the README's table.

    python bench/report.py [--pytest FILE] [--readme README.md]

Tables without results are left out. The README's part is between the lines
<!-- benchmarks:begin --> and <!-- benchmarks:end -->.
"""
from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Iterable
from pathlib import Path

import plots
from common import INFERENCE, TRAINING, Record, Row
from saved import RESULTS, by_row, day, pick, results, row_name, save, threads_text, values

FILES = ("roofline", "peers", "options", "functions", "mnist", "pytest")
MAIN_ROW = Row((784, 256, 128, 10), 128)
BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"


def markdown(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    header = list(header)
    rows = [header, ["---"] + ["---:"] * (len(header) - 1), *map(list, lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def microseconds(us: float) -> str:
    return f"{us:.2f}" if us < 10 else f"{us:.1f}" if us < 100 else f"{us:,.0f}"


def library_table(records: list[Record], rows: list[Row]) -> str:
    """Rows of the table against libraries: microseconds and share of the peak; the fastest in bold."""
    libraries = {library: by_row(pick(records, library=library)) for library in values(records, "library")}

    def cell(name: str, library: str) -> str:
        record = libraries[library].get(name)
        if record is None:
            return "-"
        share = f" ({record['share']:.0%})" if record["share"] >= 0.005 else ""
        text = microseconds(record["us"]) + share
        best = min(table[name]["us"] for table in libraries.values() if name in table)
        return f"**{text}**" if record["us"] == best else text

    present = [row.name for row in rows if any(row.name in table for table in libraries.values())]
    return markdown(["layers, batch", *libraries],
                    [[name, *(cell(name, library) for library in libraries)] for name in present])


def readme_part(peers: list[Record]) -> str:
    ours = pick(peers, library="fastmlp")
    if not ours:
        return ""
    versions = ", ".join(f"{record['library']} {record['version']}" for record in by_library(peers).values()
                         if record["library"] != "fastmlp")
    threads = values(ours, "threads")
    peaks = ", ".join(f"{max(values(pick(ours, threads=n), 'peak')):.0f} GFLOP/s with {threads_text(n)}"
                      for n in threads)
    text = (f"Microseconds and, in brackets, the share of the FMA peak measured in the same run ({peaks}); "
            f"float32, {ours[0]['cpu']}, {ours[0]['isa']}, {day(ours)}; {versions}.\n\n")
    if (RESULTS / "training.png").exists():
        text += "![training steps as shares of the peak](bench/results/training.png)\n\n"
    for what, table, rows in (("A training step", "training", TRAINING),
                              ("A forward pass", "inference", INFERENCE)):
        for n in threads:
            records = pick(peers, table=table, threads=n)
            if records:
                text += f"{what}, {threads_text(n)}:\n\n{library_table(records, rows)}\n"
    return text


def options_part(records: list[Record]) -> str:
    """What every option costs at one row, one thread."""
    here = pick(records, threads=1, layers=list(MAIN_ROW.layers), batch=MAIN_ROW.batch)
    ours, peers = ({record["variant"]: record for record in pick(here, library=library)}
                   for library in ("fastmlp", "PyTorch"))
    if not ours:
        return ""
    lines = [[name, microseconds(record["us"]), f"{record['of_plain']:.2f}",
              microseconds(peers[name]["us"]) if name in peers else "-"] for name, record in ours.items()]
    return (f"A step of {MAIN_ROW.name} with other settings, 1 thread, {day(here)}: microseconds, the ratio "
            "to the plain step (ReLU, cross-entropy, SGD), and PyTorch in the same process:\n\n"
            + markdown(["", "fastmlp", "ratio", "PyTorch"], lines) + "\n")


def by_library(records: list[Record]) -> dict[str, Record]:
    return {record["library"]: record for record in records}


def full_tables(saved: dict[str, list[Record]]) -> str:
    """Every saved line, with machine, threads, instruction set and peak."""
    text = "# All results\n"
    shown = ("us", "gflops", "share", "ratio", "of_plain", "numpy_us", "over_arithmetic_us", "stream_us",
             "seconds", "epochs", "peak_rss_mb", "imports_mb", "allowed_mb", "peak")
    about = ("library", "function", "variant", "isa", "dtype", "threads")
    for name, records in saved.items():
        for table in values(records, "table"):
            here = pick(records, table=table)
            keys = [key for key in about if any(key in record for record in here)]
            figures = [key for key in shown if any(key in record for record in here)]
            text += f"\n## {name}: {table}\n\nOn {here[0]['cpu']}, {day(here)}\n\n"
            text += markdown(["row", *keys, *figures], [
                [row_name(record) if "layers" in record else "x".join(map(str, record.get("shape", ()))),
                 *(str(record.get(key, "")) for key in keys),
                 *(figure(key, record[key]) if key in record else "" for key in figures)] for record in here])
    return text


def figure(key: str, value: float) -> str:
    return f"{value:.1%}" if key == "share" else str(value) if isinstance(value, int) else f"{value:.4g}"


def update_readme(path: Path, part: str) -> None:
    text = path.read_text() if path.exists() else ""
    if not part or BEGIN not in text or END not in text:
        print(f"{path}: left as it is (no results, or no lines {BEGIN} and {END})")
        return
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    path.write_text(f"{before}{BEGIN}\n{part}{END}{after}")
    print(path)


def import_pytest(path: Path) -> None:
    """The few figures that matter from a run saved by pytest-benchmark -> bench/results/pytest.jsonl."""
    run = json.loads(path.read_text())
    cpu, date = run["machine_info"]["cpu"].get("brand_raw", "?"), run["datetime"][:16].replace("T", " ")
    records = []
    for case in run["benchmarks"]:
        extra = {key: value for key, value in case["extra_info"].items() if value is not None}
        record = {"table": "pytest", "library": extra.pop("backend"), "function": case["group"],
                  "us": 1e6 * case["stats"]["min"], "median_us": 1e6 * case["stats"]["median"]}
        records.append(record | extra | {"cpu": cpu, "date": date})
    save("pytest", records)


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pytest", type=Path, metavar="FILE", help="take in a run of pytest-benchmark")
    parser.add_argument("--readme", type=Path, default=RESULTS.parents[1] / "README.md")
    options = parser.parse_args()
    if options.pytest:
        import_pytest(options.pytest)
    saved = {name: results(name) for name in FILES}
    RESULTS.mkdir(exist_ok=True)
    plots.plot_all(saved)
    (RESULTS / "tables.md").write_text(full_tables(saved))
    update_readme(options.readme, readme_part(saved["peers"]) + options_part(saved["options"]))


if __name__ == "__main__":
    main()
