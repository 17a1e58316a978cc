"""The array functions: dense layers as shares of the FMA peak, and all against NumPy's expressions.

    python bench/functions.py [--only NAME] [--quick] [--isa avx512,avx2] [--dtype float32,float64]

One thread. Both sides write into arrays that are there already, and NumPy's expressions work in place, which
is faster than `1 / (1 + np.exp(-x))` as it is usually written. NumPy runs OpenBLAS's best kernels.
"""
from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import common
import numpy as np
import saved

DENSE = [(1, 64, 64), (32, 64, 64), (128, 256, 256), (256, 784, 512), (1024, 1024, 1024)]
ELEMENTS = [(1, 100), (10, 100), (100, 100), (256, 512), (10_000, 100), (100_000, 100)]
TOLERANCE = {"float32": 1e-4, "float64": 1e-12}

# function: (fastmlp's call, NumPy's statements, what they write)
DENSE_FUNCTIONS = {
    "dense_forward": (
        "F.dense_forward(x, w, b, 'relu', out=y)",
        "np.matmul(x, w, out=y); np.add(y, b, out=y); np.maximum(y, 0, out=y)",
        ["y"],
    ),
    "dense_backward": (
        "F.dense_backward(dy, x, w, y, 'relu', out=(dx, dw, db))",
        "np.multiply(dy, y > 0, out=dz); np.matmul(dz, w.T, out=dx); np.matmul(x.T, dz, out=dw); "
        "np.sum(dz, axis=0, out=db)",
        ["dx", "dw", "db"],
    ),
}
ELEMENT_FUNCTIONS = {
    "sigmoid": (
        "F.sigmoid(x, out=y)",
        "np.negative(x, out=y); np.exp(y, out=y); np.add(y, 1, out=y); np.reciprocal(y, out=y)",
        ["y"],
    ),
    "softmax": (
        "F.softmax(x, out=y)",
        "np.subtract(x, x.max(axis=1, keepdims=True), out=y); np.exp(y, out=y); "
        "np.divide(y, y.sum(axis=1, keepdims=True), out=y)",
        ["y"],
    ),
    "tanh": ("F.tanh(x, out=y)", "np.tanh(x, out=y)", ["y"]),
    "exp": ("F.exp(x, out=y)", "np.exp(x, out=y)", ["y"]),
}


def work(only: str, dtype: str, quick: bool) -> Iterator[dict[str, Any]]:
    """All records of one process."""
    from fastmlp import active_isa
    peak, blas = common.Peak(dtype), common.openblas()
    seconds, rounds = 0.005, 2 if quick else 150

    def record(table: str, function: str, shape: tuple[int, ...], texts: Any, arrays: dict[str, Any],
               ) -> tuple[dict[str, Any], common.Turns]:
        ours, theirs, results = texts
        verify(function, ours, theirs, results, arrays, TOLERANCE[dtype])
        turns = common.race({"fastmlp": common.Call(ours, arrays), "numpy": common.Call(theirs, arrays)},
                            rounds, seconds, peak)
        best = {name: turns[name].best for name in turns}
        return {"table": table, "function": function, "shape": shape, "isa": active_isa(), "dtype": dtype,
                "openblas": blas, "us": 1e6 * best["fastmlp"], "numpy_us": 1e6 * best["numpy"],
                "ratio": best["numpy"] / best["fastmlp"]}, turns["fastmlp"]

    for (function, texts), shape in product(DENSE_FUNCTIONS.items(), DENSE):
        if only in f"{function} {shape}":
            m, k, n = shape
            result, turns = record("dense", function, shape, texts, dense_arrays(m, k, n, dtype))
            flops = 2 * m * k * n * (1 if function == "dense_forward" else 2)
            measured = turns.record(flops)
            overhead = measured["us"] - flops / measured["peak"] / 1e3
            yield result | measured | {"over_arithmetic_us": overhead}
    for (function, texts), shape in product(ELEMENT_FUNCTIONS.items(), ELEMENTS):
        if only in f"{function} {shape}":
            x = 3 * np.random.default_rng(0).standard_normal(shape, dtype)
            result, turns = record("elements", function, shape, texts, names(x=x, y=np.empty_like(x)))
            yield result | {"ns_per_element": 1e9 * turns.best / x.size}


def dense_arrays(m: int, k: int, n: int, dtype: str) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    x, w, b, dy = (rng.standard_normal(shape, dtype) for shape in ((m, k), (k, n), (n,), (m, n)))
    y = np.maximum(x @ w + b, 0)
    return names(x=x, w=w, b=b, dy=dy, y=y, dz=np.empty_like(y), dx=np.empty_like(x), dw=np.empty_like(w),
                 db=np.empty_like(b))


def names(**arrays: Any) -> dict[str, Any]:
    from fastmlp import functional
    return {"F": functional, "np": np} | arrays


def verify(function: str, ours: str, theirs: str, results: list[str], arrays: dict[str, Any],
           tolerance: float) -> None:
    found = []
    for text in (theirs, ours):
        exec(text, arrays)
        found.append([arrays[name].copy() for name in results])
        if results != ["y"]:
            for name in results:
                arrays[name].fill(np.nan)
    for name, expected, result in zip(results, *found):
        error = np.abs(result - expected).max() / np.abs(expected).max()
        if not error <= tolerance:
            raise AssertionError(f"{function}: {name} differs from NumPy's by {error:.2g} of the largest")


def main() -> None:
    options = common.arguments(
        __doc__.partition("\n")[0],
        ("--isa", {"default": common.best_isas(), "type": common.names}),
        ("--dtype", {"default": "float32,float64", "type": common.names}),
    )
    clock = common.Clock()
    for isa, dtype in product(options.isa, options.dtype):
        task = {"only": options.only, "dtype": dtype, "quick": options.quick}
        saved.collect("functions", common.run_child(__file__, task, 1, isa), clock, options.quick)


if __name__ == "__main__":
    common.serve(work)
    main()
