"""Rows of the training and inference tables, measured: verified against the NumPy backend, then timed."""
from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
from common import Peak, Row, latencies, race
from libraries import FastMLP, Library, NumPy, initial

from fastmlp import kernels

TOLERANCE = {"float32": 1e-3, "float64": 1e-9}
DATA_NBYTES = 192 << 20     # of an epoch's samples: more than the caches hold, and about MNIST in float32
LEAST_STEPS = 10            # of an epoch: what it costs beside its steps does not show in longer ones

Maker = Callable[..., Library]      # Maker(weights, biases, threads=n)


def close(name: str, result: Any, expected: Any, dtype: str) -> None:
    """AssertionError unless finite and equal, relative to the largest of the expected."""
    result, expected = np.asarray(result, np.float64), np.asarray(expected, np.float64)
    error = np.abs(result - expected).max() / np.abs(expected).max()
    if not error <= TOLERANCE[dtype]:
        raise AssertionError(f"{name}: differs from the NumPy backend by {error:.2g} of the largest value")


def training(row: Row, dtype: str, threads: int, makers: dict[str, tuple[Maker, Any]], quick: bool = False,
             ) -> dict[str, dict[str, float]]:
    """For each of `makers`, name -> (library, settings of the optimizer): microseconds a step, without
    shuffling, from whole epochs; GFLOP/s, peak and share. They and the peak are measured in turns."""
    peak = Peak(dtype, threads)
    seconds, rounds = (0.01, 2) if quick else (0.2, 10)
    most = max(LEAST_STEPS, min(int(seconds * peak.measure() * 1e9 / row.flops(True)),
                      DATA_NBYTES // (row.batch * row.layers[0] * np.dtype(dtype).itemsize)))
    X, y = samples(row, dtype, most * row.batch)
    weights, biases = initial(row.layers, dtype)
    few = slice(2 * row.batch)
    contestants: dict[str, Any] = {}
    steps = {}
    for name, (library, settings) in makers.items():
        specification = NumPy(weights, biases, **settings)
        specification.prepare(X[few], y[few], row.batch)
        trained = library(weights, biases, threads=threads, **settings)
        trained.prepare(X[few], y[few], row.batch)
        for _ in range(2):
            trained.epoch()
            specification.epoch()
            close(f"{name}, {row.name}: loss", trained.loss(), specification.loss(), dtype)
        steps[name] = _fill(trained, X, y, row.batch, most, seconds)
        contestants[name] = trained.epoch
    turns = race(contestants, rounds, seconds, peak)
    return {name: turns[name].record(row.flops(True), steps[name]) for name in turns}


def _fill(library: Library, X: Any, y: Any, batch: int, most: int, seconds: float) -> int:
    """Prepare as many steps as make an epoch of about `seconds`, so that what an epoch costs beside its steps
    does not count; the number."""
    steps = LEAST_STEPS
    while True:
        library.prepare(X[:steps * batch], y[:steps * batch], batch)
        library.epoch()         # compiles, where that is done for every shape
        started = perf_counter()
        library.epoch()
        elapsed = perf_counter() - started
        if steps == most or elapsed > seconds / 2:
            return steps
        steps = min(most, 16 * steps, max(2 * steps, int(steps * seconds / elapsed)))


def samples(row: Row, dtype: str, n: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    return rng.random((n, row.layers[0]), dtype), rng.integers(0, row.layers[-1], n)


def inference(row: Row, dtype: str, threads: int, library: Maker, quick: bool = False) -> dict[str, Any]:
    """Microseconds a call, in a loop; GFLOP/s, peak and share. With one row also the distribution of single
    calls and, for fastmlp, the time to read its parameters once, measured in turns with the calls."""
    seconds, rounds = 0.005, 2 if quick else 100
    weights, biases = initial(row.layers, dtype)
    x, _ = samples(row, dtype, row.batch)
    made = library(weights, biases, threads=threads)
    call = made.call(x)
    expected = NumPy(weights, biases).call(x).result()
    if made.probabilities:
        expected = np.exp(expected - expected.max(axis=1, keepdims=True))
        expected /= expected.sum(axis=1, keepdims=True)
    result = call.result()
    close(f"{made.name}, {row.name}", result.numpy() if hasattr(result, "numpy") else result, expected, dtype)

    peak = Peak(dtype, threads)
    contestants: dict[str, Any] = {"call": call}
    stream = getattr(kernels.module(dtype), "stream", None)
    if row.batch == 1 and type(made) is FastMLP and stream:
        parameters = made.model.core.parameters.buffer
        contestants["stream"] = lambda: stream(parameters)
    turns = race(contestants, rounds, seconds, peak)
    record = turns["call"].record(row.flops(False))
    if "stream" in turns:
        record["stream_us"] = 1e6 * turns["stream"].best
    if row.batch == 1:
        record["latency_us"] = latencies(call, 0.05 if quick else 2.0)
    return record
