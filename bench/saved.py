"""Records in bench/results, which git does not keep: saved, read again, and picked from."""
from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from common import Clock, Record, Row

RESULTS = Path(__file__).parent / "results"

# What a record is about; a new one replaces the old one about the same.
SUBJECT = ("table", "library", "function", "variant", "layers", "shape", "batch", "dtype", "isa", "threads",
           "cpu")


def save(name: str, records: list[Record]) -> None:
    """Put records into bench/results/NAME.jsonl, in place of those about the same."""
    merged = {_subject(record): record for record in load(name) + records}
    RESULTS.mkdir(exist_ok=True)
    text = "".join(json.dumps(record) + "\n" for record in merged.values())
    (RESULTS / f"{name}.jsonl").write_text(text)
    print(f"{len(records)} records saved in {RESULTS / name}.jsonl", file=sys.stderr)


def collect(name: str, records: Iterable[Record], clock: Clock, quick: bool) -> None:
    """Show the records of one process as they come, and save them unless `quick`: a script that is cut short
    keeps what it has."""
    collected = []
    for record in records:
        collected.append(record)
        clock.show(record)
    if not quick:
        save(name, collected)


def load(name: str, folder: Path = RESULTS) -> list[Record]:
    path = folder / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _subject(record: Record) -> str:
    return json.dumps([record.get(key) for key in SUBJECT])


def results(name: str, folder: Path = RESULTS) -> list[Record]:
    """Those of the machine that was measured last."""
    records = load(name, folder)
    newest = max(records, key=lambda record: record["date"], default={})
    records = pick(records, cpu=newest.get("cpu"))
    return on_one_peak(records) if name == "peers" else records


def on_one_peak(records: list[Record]) -> list[Record]:
    """With shares of the highest peak that was measured for the same row and threads, beside any library:
    the threads of some go on spinning after a call, into the measurement of their own peak."""
    highest: dict[str, float] = {}
    rows = [json.dumps([record["layers"], record["batch"], record["threads"]]) for record in records]
    for row, record in zip(rows, records):
        highest[row] = max(highest.get(row, 0.0), record["peak"])
    return [record | {"peak": highest[row], "share": record["gflops"] / highest[row]}
            for row, record in zip(rows, records)]


def pick(records: list[Record], **wanted: Any) -> list[Record]:
    return [record for record in records if all(record.get(key) == value for key, value in wanted.items())]


def values(records: list[Record], key: str) -> list[Any]:
    """The different values, in the order of the records."""
    return list(dict.fromkeys(record[key] for record in records if key in record))


def row_name(record: Record) -> str:
    return Row(tuple(record["layers"]), record["batch"]).name


def by_row(records: list[Record]) -> dict[str, Record]:
    return {row_name(record): record for record in records}


def threads_text(n: int) -> str:
    return "1 thread" if n == 1 else f"{n} threads"


def day(records: list[Record]) -> str:
    return max(values(records, "date"))[:10]
