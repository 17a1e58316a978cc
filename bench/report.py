"""Saved records -> a section of docs/benchmarks.md, its picture, and the table of the README.

    python bench/report.py "AMD EPYC (Zen 5)" [--records bench/results] [--readme]

The name is the title of the section: what /proc/cpuinfo says may not name the processor. A section of that
name is replaced, a new one is put first. Only records of the machine that was measured last are taken, and
tables without records are left out. With --readme the README shows this processor too.
"""
from __future__ import annotations

import re
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from pathlib import Path

import plots
from common import INFERENCE, TRAINING, Record, Row
from saved import RESULTS, by_row, day, pick, results, row_name, threads_text, values

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
MAIN_ROW = Row((784, 256, 128, 10), 128)
SECTIONS = "% sections: written by bench/report.py\n"
README_MARKS = "<!-- benchmarks:begin -->\n", "<!-- benchmarks:end -->\n"


# Tables ------------------------------------------------------------------------------------------------

def markdown(header: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    header = list(header)
    rows = [header, ["---"] + ["---:"] * (len(header) - 1), *map(list, lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def microseconds(us: float) -> str:
    return f"{us:.2f}" if us < 10 else f"{us:.1f}" if us < 100 else f"{us:,.0f}"


def time_and_share(record: Record) -> str:
    share = f" ({record['share']:.0%})" if record["share"] >= 0.005 else ""
    return microseconds(record["us"]) + share


def crossed(corner: str, rows: list[str], columns: dict[str, dict[str, Record]],
            cell: Callable[[Record], str], bold_fastest: bool = False) -> str:
    """Rows against columns, each a dict from row to record; what is missing is a dash."""
    present = [row for row in rows if any(row in column for column in columns.values())]
    best = {row: min(column[row]["us"] for column in columns.values() if row in column) for row in present}

    def text(row: str, column: dict[str, Record]) -> str:
        if row not in column:
            return "-"
        bold = bold_fastest and column[row]["us"] == best[row]
        return f"**{cell(column[row])}**" if bold else cell(column[row])

    return markdown([corner, *columns], [[row, *(text(row, column) for column in columns.values())]
                                         for row in present])


def library_table(records: list[Record], rows: list[Row]) -> str:
    """Rows against libraries: microseconds and share of the peak; the fastest in bold."""
    libraries = {library: by_row(pick(records, library=library)) for library in values(records, "library")}
    return crossed("layers, batch", [row.name for row in rows], libraries, time_and_share, bold_fastest=True)


def options_table(records: list[Record]) -> str:
    """What every option costs at one row with one thread."""
    here = pick(records, threads=1, layers=list(MAIN_ROW.layers), batch=MAIN_ROW.batch)
    ours, peers = ({record["variant"]: record for record in pick(here, library=library)}
                   for library in ("fastmlp", "PyTorch"))
    return markdown(["", "fastmlp", "ratio", "PyTorch"], [
        [name.replace("both", "dropout and batch_norm"), microseconds(record["us"]),
         f"{record['of_plain']:.2f}", microseconds(peers[name]["us"]) if name in peers else "-"]
        for name, record in ours.items()])


def isa_table(records: list[Record]) -> str:
    """Training steps with every instruction set, dtype and number of threads: shares of the peak of each."""
    columns = {f"{isa}, {dtype}, {n}": by_row(pick(records, isa=isa, dtype=dtype, threads=n))
               for isa in values(records, "isa") for dtype in values(records, "dtype")
               for n in values(records, "threads")}
    columns = {name: column for name, column in columns.items() if column}
    rows = [row.name for row in TRAINING]
    return crossed("layers, batch", rows, columns, lambda record: f"{record['share']:.0%}")


def functions_table(records: list[Record]) -> str:
    """Calls against those of NumPy: microseconds, and how many times as fast."""
    def about(record: Record) -> str:
        return f"`{record['function']}` {' x '.join(map(str, record['shape']))}"

    def cell(record: Record) -> str:
        share = f", {record['share']:.0%}" if "share" in record else ""
        return f"{microseconds(record['us'])} ({record['ratio']:.2g}x{share})"

    columns = {f"{isa}, {dtype}": {about(record): record for record in pick(records, isa=isa, dtype=dtype)}
               for isa in values(records, "isa") for dtype in values(records, "dtype")}
    return crossed("function, shape", list(dict.fromkeys(map(about, records))), columns, cell)


def small_table(records: list[Record]) -> str:
    """Calls against PyTorch's step, where it has the like."""
    peers = {record["function"]: record for record in pick(records, library="PyTorch")}

    def beside(name: str) -> str:
        peer = peers.get(name)
        return f"{microseconds(peer['us'])} ({peer['times_ours']:.0f}x)" if peer else "-"

    return markdown(["call", "fastmlp", "PyTorch"], [
        [record["function"], microseconds(record["us"]), beside(record["function"])]
        for record in pick(records, library="fastmlp")])


def mnist_table(records: list[Record]) -> str:
    return markdown(["library, threads", "seconds", "epochs", "test accuracy", "peak memory, MB"], [
        [f"{record['library']}, {record['threads']}", f"{record['seconds']:.2f}", str(record["epochs"]),
         f"{record['accuracies'][-1]:.2%}", f"{record['peak_rss_mb']:.0f}"] for record in records])


# The section -------------------------------------------------------------------------------------------

def provenance(records: list[Record], command: str) -> str:
    """Where the figures of a table come from."""
    versions = {record["library"].removesuffix(" jit").removesuffix(" scan"): record["version"]
                for record in records if "version" in record}
    with_version = "".join(f", {library} {version}" for library, version in versions.items()
                           if library not in ("fastmlp", "NumPy backend"))
    fastmlp, commit, python, numpy = (" and ".join(values(records, key)) or "unknown"
                                      for key in ("fastmlp", "commit", "python", "numpy"))
    return (f"`{command}`: fastmlp {fastmlp} (commit {commit}), Python {python}, NumPy {numpy}"
            f"{with_version}; {day(records)}.\n\n")


def library_tables(peers: list[Record], heading: str, what: str, table: str, rows: list[Row]) -> str:
    here = pick(peers, table=table)
    if not here:
        return ""
    text = f"### {heading}\n\n{provenance(here, f'python bench/peers.py --tables {table}')}"
    for n in values(here, "threads"):
        records = pick(here, threads=n)
        isa, peak = pick(records, library="fastmlp")[0]["isa"], max(values(records, "peak"))
        text += (f"{what}, float32, {threads_text(n)}, {isa}: microseconds and the share of a peak of "
                 f"{peak:.0f} GFLOP/s.\n\n"
                 f"{library_table(records, rows)}\n")
    return text


def section(title: str, picture: str, saved: dict[str, list[Record]]) -> str:
    """All tables of one processor, each under what it took to measure it."""
    peers = saved["peers"]
    cpu, processors = peers[0]["cpu"], peers[0]["processors"]
    text = (f"## {title}\n\n{processors} processors, `{cpu}` in /proc/cpuinfo.\n\n"
            f"![training steps as shares of the peak, {title}]({picture})\n\n")
    text += library_tables(peers, "Training", "A training step", "training", TRAINING)
    text += library_tables(peers, "Inference", "A forward pass", "inference", INFERENCE)
    roofline = pick(saved["roofline"], table="training")
    if roofline:
        text += (f"### Instruction sets and dtypes\n\n{provenance(roofline, 'python bench/roofline.py')}"
                 "A training step of fastmlp as the share of the peak of the same instruction set, dtype and "
                 f"number of threads.\n\n{isa_table(roofline)}\n")
    if saved["options"]:
        text += (f"### Options\n\n{provenance(saved['options'], 'python bench/options.py')}"
                 f"A step of {MAIN_ROW.name}, float32, 1 thread: microseconds, the ratio to the plain step "
                 "(ReLU, cross-entropy, SGD), and PyTorch in the same process.\n\n"
                 f"{options_table(saved['options'])}\n")
    if saved["functions"]:
        text += (f"### Array functions\n\n{provenance(saved['functions'], 'python bench/functions.py')}"
                 "A call, 1 thread: microseconds and how many times as fast as NumPy's expression; of dense "
                 "layers (rows x inputs x outputs) also the share of the peak.\n\n"
                 f"{functions_table(saved['functions'])}\n")
    if saved["small"]:
        text += (f"### Small work\n\n{provenance(saved['small'], 'python bench/small.py --peers')}"
                 "What a call costs where the arithmetic is little, [20, 32, 2], float32, 1 thread: "
                 f"microseconds.\n\n{small_table(saved['small'])}\n")
    if saved["mnist"]:
        text += (f"### MNIST\n\n{provenance(saved['mnist'], 'python bench/mnist.py --data mnist.npz')}"
                 f"Seconds of training to a test accuracy of 98%: {row_name(saved['mnist'][0])}, SGD with "
                 "momentum, float32. Memory is that of the whole process.\n\n"
                 f"{mnist_table(saved['mnist'])}\n")
    return text


def readme_part(title: str, picture: str, peers: list[Record]) -> str:
    records = pick(peers, table="training", threads=1)
    return (f"![training steps as shares of the peak](docs/{picture})\n\n"
            f"A training step on {title}, float32, 1 thread: microseconds and the share of the FMA peak "
            f"({max(values(records, 'peak')):.0f} GFLOP/s), measured in the same run, {day(records)}.\n\n"
            f"{library_table(records, TRAINING)}")


def replace_section(page: str, title: str, text: str) -> str:
    """The page with this section in the place of one with the same title, or first.

    >>> page = "# Page\\n" + SECTIONS + "## A\\n\\nold\\n\\n## B\\n\\nb\\n"
    >>> replace_section(page, "A", "## A\\n\\nnew\\n\\n")
    '# Page\\n% sections: written by bench/report.py\\n## A\\n\\nnew\\n\\n## B\\n\\nb\\n'
    """
    before, mark, after = page.partition(SECTIONS)
    if not mark:
        raise SystemExit(f"{PAGE}: no line {SECTIONS!r}")
    sections = re.split(r"^(?=## )", after, flags=re.M)
    at = [i for i, old in enumerate(sections) if old.startswith(f"## {title}\n")]
    if at:
        sections[at[0]] = text
    else:
        sections.insert(1, text)        # the first part is what stands before the first heading
    return before + mark + "".join(sections).rstrip("\n") + "\n"


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("title", help="the processor, such as 'AMD EPYC (Zen 5)'")
    parser.add_argument("--records", type=Path, default=RESULTS, metavar="FOLDER",
                        help="default: %(default)s")
    parser.add_argument("--readme", action="store_true", help="show this processor in the README")
    options = parser.parse_args()
    saved = {name: results(name, options.records)
             for name in ("peers", "roofline", "options", "functions", "small", "mnist")}
    peers = saved["peers"]
    if not pick(peers, table="training", library="fastmlp"):
        raise SystemExit(f"{options.records}: no records of bench/peers.py")
    picture = f"benchmarks/training-{re.sub('[^a-z0-9]+', '-', options.title.lower()).strip('-')}.svg"
    (PAGE.parent / picture).parent.mkdir(exist_ok=True)
    plots.plot_training(PAGE.parent / picture, options.title, pick(peers, table="training"))
    PAGE.write_text(replace_section(PAGE.read_text(), options.title, section(options.title, picture, saved)))
    print(PAGE, PAGE.parent / picture, sep="\n")
    if options.readme:
        text = README.read_text()
        before, begin, rest = text.partition(README_MARKS[0])
        _, end, after = rest.partition(README_MARKS[1])
        if not (begin and end):
            raise SystemExit(f"{README}: no lines {README_MARKS[0]!r} and {README_MARKS[1]!r}")
        README.write_text(before + begin + readme_part(options.title, picture, peers) + end + after)
        print(README)


if __name__ == "__main__":
    main()
