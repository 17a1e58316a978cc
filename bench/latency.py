"""Inference handles, call by call: median, p99, p99.9 and calls a second, beside forward and ONNX Runtime.

    python bench/latency.py [--only ROW] [--quick] [--seconds 2]

One thread, float32. All take turns in one process, a short turn each, until the time is up. Then what a call
costs beside its arithmetic, the calls of 1, 2 and 4 Python threads on one handle, and one row of
256-384-384-128 against reading its weights.
"""
from __future__ import annotations

import threading
import time
from argparse import ArgumentParser
from collections.abc import Callable
from importlib.util import find_spec

import common
import numpy as np
from libraries import LIBRARIES

import fastmlp
from fastmlp import MLP, kernels

TURN = 0.01                     # seconds


def network(layers: tuple[int, ...]) -> MLP:
    model = MLP(layers, seed=0)
    for b in model.biases:
        b[...] = np.random.default_rng(0).standard_normal(b.shape)
    return model


def contestants(row: common.Row) -> dict[str, Callable[[], object]]:
    """What is called, verified."""
    model = network(row.layers)
    X = np.random.default_rng(1).standard_normal((row.batch, row.layers[0])).astype("f4")
    expected, out = model.forward(X), np.empty((row.batch, row.layers[-1]), "f4")
    handle = model.compile_predict(row.batch)
    np.testing.assert_array_equal(handle(X, out), expected)
    calls: dict[str, Callable[[], object]] = {
        "handle": lambda: handle(X, out), "forward": lambda: model.forward(X, out)}
    if find_spec("onnxruntime") and find_spec("onnx"):
        call = LIBRARIES["ONNX Runtime"]([*model.weights], [*model.biases], threads=1).call(X)
        run, binding = call.names["run"], call.names["binding"]
        calls["ONNX Runtime"] = lambda: run(binding)
        run(binding)
        np.testing.assert_allclose(call.names["out"].numpy(), expected, rtol=1e-3, atol=1e-4)
    return calls


def race(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, np.ndarray]:
    """Sorted seconds of single calls; the clock itself is in them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    clock = time.perf_counter
    for call in calls.values():
        call()
    end, rounds = clock() + seconds * len(calls), 0
    while clock() < end or rounds < 5:
        rounds += 1
        for name, call in calls.items():
            stop = clock() + TURN
            now = clock()
            while now < stop:
                started = clock()
                call()
                now = clock()
                times[name].append(now - started)
    return {name: np.sort(values) for name, values in times.items()}


def least(call: Callable[[], object], seconds: float = 0.3) -> float:
    """Seconds of a call, without the clock: the least of many turns."""
    best, end = float("inf"), time.perf_counter() + seconds
    number = 1
    while time.perf_counter() < end:
        started = time.perf_counter()
        for _ in range(number):
            call()
        elapsed = time.perf_counter() - started
        best = min(best, elapsed / number)
        number = max(1, int(0.002 / max(best, 1e-9)))
    return best


def beside_arithmetic(layers: tuple[int, ...]) -> float:
    """Seconds of a call with one row, over those of a row of the many in a call so long that it vanishes."""
    handle = network(layers).compile_predict()
    X = np.zeros((2048, layers[0]), "f4")
    row, one, many = X[:1].copy(), np.empty((1, layers[-1]), "f4"), np.empty((2048, layers[-1]), "f4")
    return least(lambda: handle(row, one)) - least(lambda: handle(X, many)) / 2048


def calls_a_second(handle: Callable[..., object], X: np.ndarray, outputs: int, threads: int,
                   seconds: float) -> float:
    counts, start, stop = [0] * threads, threading.Barrier(threads + 1), threading.Event()

    def work(i: int) -> None:
        x, out, done = X.copy(), np.empty((len(X), outputs), "f4"), 0
        start.wait()
        while not stop.is_set():
            for _ in range(20):
                handle(x, out)
            done += 20
        counts[i] = done

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    started = time.perf_counter()
    time.sleep(seconds)
    stop.set()
    elapsed = time.perf_counter() - started
    for worker in workers:
        worker.join()
    return sum(counts) / elapsed


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="ROW", help="only rows whose name contains this")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each contestant, default %(default)s")
    options = parser.parse_args()
    seconds = options.seconds / 10 if options.quick else options.seconds
    fastmlp.set_num_threads(1)
    print(f"fastmlp {fastmlp.__version__}, {fastmlp.active_isa()}; microseconds of a call")
    titles = ("median", 10), ("p99", 10), ("p99.9", 10), ("p99/median", 12), ("calls/s", 12)
    print(f"{'layers, rows':<42}" + "".join(f"{title:>{width}}" for title, width in titles))
    for row in common.INFERENCE:
        if options.only not in row.name:
            continue
        for name, times in race(contestants(row), seconds).items():
            median, p99, p999 = (1e6 * times[int(q * (len(times) - 1))] for q in (0.5, 0.99, 0.999))
            print(f"{row.name:<28}{name:<14}{median:10.2f}{p99:10.2f}{p999:10.2f}{p99 / median:12.2f}"
                  f"{len(times) / times.sum():12,.0f}", flush=True)

    print("\nmicroseconds of a call beside its arithmetic, one row")
    for layers in ((4, 16, 3), (20, 32, 2)):
        print(f"{common.Row(layers, 1).name:<28}{1e6 * beside_arithmetic(layers):10.2f}", flush=True)

    print("\ncalls a second of Python threads on one handle, one row")
    for layers in ((784, 256, 128, 10), (784, 1024, 1024, 10)):
        handle, X = network(layers).compile_predict(1), np.zeros((1, layers[0]), "f4")
        rates = dict.fromkeys((1, 2, 4), 0.0)
        for _ in range(3):
            for threads in rates:
                rate = calls_a_second(handle, X, layers[-1], threads, seconds / 2)
                rates[threads] = max(rates[threads], rate)
        print(f"{common.Row(layers, 1).name:<28}" + "".join(
            f"{threads:>4}: {rate:10,.0f} ({rate / rates[1]:.2f}x)" for threads, rate in rates.items()))

    layers = (256, 384, 384, 128)
    handles = [network(layers).compile_predict(1) for _ in range(5)]
    X, out = np.zeros((1, 256), "f4"), np.empty((1, 128), "f4")
    buffers = [np.zeros(sum(a * b for a, b in zip(layers, layers[1:])), "f4") for _ in handles]
    call, read = float("inf"), float("inf")
    stream = kernels.module("float32").stream
    for handle, weights in [*zip(handles, buffers)] * 3:
        call = min(call, least(lambda handle=handle: handle(X, out), seconds / 10))
        read = min(read, least(lambda weights=weights: stream(weights), seconds / 10))
    print(f"\n{common.Row(layers, 1).name:<28}{1e6 * call:10.2f} us, "
          f"{call / read:.2f}x the time to read the weights")


if __name__ == "__main__":
    main()
