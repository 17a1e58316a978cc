"""The same networks in other libraries: training and inference, as shares of the same FMA peak.

    python bench/peers.py [--only ROW] [--quick] [--tables training,inference] [--threads 1,2]
                          [--libraries "fastmlp,PyTorch"]

Every library and number of threads runs in a process of its own; those not installed are left out
(pip install ".[peers]").
"""
from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import common
import saved
from cases import inference, training
from libraries import LIBRARIES, installed


def work(library: str, tables: list[str], only: str, threads: int, quick: bool) -> Iterator[dict[str, Any]]:
    """All records of one process."""
    from fastmlp import active_isa
    maker = LIBRARIES[library]
    version = common.installed_version(_package(library))
    about: dict[str, Any] = {"library": library, "version": version, "dtype": "float32"}
    if library == "fastmlp":
        about["isa"] = active_isa()
    elif library == "NumPy backend":
        about["openblas"] = common.openblas()
    for row in common.TRAINING if "training" in tables and maker.trains else []:
        if only in row.name:
            measured = training(row, "float32", threads, {library: (maker, {})}, quick)[library]
            yield {"table": "training", "layers": row.layers, "batch": row.batch} | about | measured
    if library == "JAX scan":       # differs in training only
        return
    for row in common.INFERENCE if "inference" in tables else []:
        if only in row.name:
            measured = inference(row, "float32", threads, maker, quick)
            yield {"table": "inference", "layers": row.layers, "batch": row.batch} | about | measured


def _package(library: str) -> str:
    """As pip knows it."""
    return {"NumPy backend": "numpy", "scikit-learn": "scikit-learn"}.get(library, LIBRARIES[library].package)


def main() -> None:
    options = common.arguments(
        __doc__.partition("\n")[0],
        common.THREADS,
        ("--tables", {"default": "training,inference", "type": common.names}),
        ("--libraries", {"default": installed(), "type": common.names}),
    )
    clock = common.Clock()
    for threads, library in product(options.threads, options.libraries):
        task = {"library": library, "tables": options.tables, "only": options.only, "threads": threads,
                "quick": options.quick}
        saved.collect("peers", common.run_child(__file__, task, threads), clock, options.quick)


if __name__ == "__main__":
    common.serve(work)
    main()
