"""The roofline table: training and inference of fastmlp as shares of the FMA peak measured in the same run.

    python bench/roofline.py [--only ROW] [--quick] [--tables training,inference,momentum,shuffle]
                             [--isa avx512,avx2] [--dtype float32,float64] [--threads 1,2]

Every instruction set, dtype and number of threads runs in a process of its own.
"""
from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product
from typing import Any

import common
import numpy as np
import saved
from cases import close, inference, training
from libraries import FastMLP, NumPy, initial

TABLES = "training,inference,momentum,shuffle"
RULES = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True},
}
SHUFFLE_ROW = common.Row((784, 256, 128, 10), 128)
SHUFFLE_SAMPLES = 60_000


def work(tables: list[str], only: str, dtype: str, threads: int, quick: bool) -> Iterator[dict[str, Any]]:
    """All records of one process."""
    from fastmlp import active_isa
    about = {"library": "fastmlp", "isa": active_isa(), "dtype": dtype}

    def record(table: str, row: common.Row, variant: str, measured: common.Record) -> common.Record:
        subject = {"table": table, "variant": variant, "layers": row.layers, "batch": row.batch}
        return subject | about | measured

    def chosen(table: str, rows: list[common.Row]) -> list[common.Row]:
        return [row for row in rows if only in row.name] if table in tables else []

    for row in chosen("training", common.TRAINING):
        measured = training(row, dtype, threads, {"sgd": (FastMLP, RULES["sgd"])}, quick)
        yield record("training", row, "sgd", measured["sgd"])
    for row in chosen("inference", common.INFERENCE):
        yield record("inference", row, "forward", inference(row, dtype, threads, FastMLP, quick))
    for row in chosen("momentum", common.MIDDLE):
        makers = {rule: (FastMLP, settings) for rule, settings in RULES.items()}
        for rule, measured in training(row, dtype, threads, makers, quick).items():
            yield record("momentum", row, rule, measured)
    for row in chosen("shuffle", [SHUFFLE_ROW]):
        for variant, measured in shuffling(row, dtype, threads, quick).items():
            yield record("shuffle", row, variant, measured)


def shuffling(row: common.Row, dtype: str, threads: int, quick: bool) -> dict[str, dict[str, float]]:
    """Whole epochs over 60000 samples of images, in uint8 and in the dtype, shuffled and not."""
    n = SHUFFLE_SAMPLES // (10 if quick else 1)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2, (n, row.layers[0]), np.uint8)
    y = rng.integers(0, row.layers[-1], n)
    weights, biases = initial(row.layers, dtype)
    contestants = {}
    for name, X in {"uint8": images, dtype: images.astype(dtype)}.items():
        trained, specification = (library(weights, biases, threads=threads) for library in (FastMLP, NumPy))
        for library in (trained, specification):
            library.prepare(X[:5 * row.batch], y[:5 * row.batch], row.batch)
            library.epoch()
        close(f"{name}, {row.name}: loss", trained.loss(), specification.loss(), dtype)
        trained.prepare(X, y, row.batch)
        contestants[name] = trained.epoch
        contestants[f"{name} shuffled"] = partial(trained.epoch, shuffle=True)
    peak = common.Peak(dtype, threads)
    turns = common.race(contestants, 2 if quick else 5, 0.05, peak)
    return {name: turns[name].record(row.flops(True), n / row.batch) for name in turns}


def main() -> None:
    options = common.arguments(
        __doc__.partition("\n")[0],
        common.THREADS,
        ("--tables", {"default": TABLES, "type": common.names}),
        ("--isa", {"default": common.best_isas(), "type": common.names}),
        ("--dtype", {"default": "float32,float64", "type": common.names}),
    )
    clock = common.Clock()
    for isa, dtype, threads in product(options.isa, options.dtype, options.threads):
        task = {"tables": options.tables, "only": options.only, "dtype": dtype, "threads": threads,
                "quick": options.quick}
        saved.collect("roofline", common.run_child(__file__, task, threads, isa), clock, options.quick)


if __name__ == "__main__":
    common.serve(work)
    main()
