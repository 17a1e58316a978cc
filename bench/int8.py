"""Predictions in int8 beside float32 and bfloat16, one thread: inference handles by everything that this
processor has.

    python bench/int8.py [--seconds 1] [--only 784-256] [--mnist mnist.npz]

All take turns, and the least of many counts; FASTMLP_ISA chooses the instruction set. --mnist trains networks
and prints the reports of their handles, on the test samples.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from bfloat16 import least, model_by

import fastmlp
from fastmlp import MLP, SGD, kernels
from fastmlp.backends.cython import engine

NETWORKS = [(784, 256, 128, 10), (1024, 1024, 1024, 10)]
ROWS = [1, 16, 256, 4096]


def contestants(layers: tuple[int, ...], rows: int) -> dict[str, Callable[[], Any]]:
    X = np.random.default_rng(0).standard_normal((rows, layers[0])).astype(np.float32)
    model = MLP(layers, seed=0)
    handles = {"float32": model.compile_predict()}
    for way in kernels.available_bfloat16():
        handles[f"bfloat16 by {way}"] = model_by(way, layers).compile_predict()
    found = []
    for way in kernels.available_int8():
        kernels.load_int8(kernels.active_isa(), way)
        engine.int8_by = lambda way=way: way
        handles[f"int8 by {way}"] = handle = model.compile_predict(dtype="int8")
        found.append(handle(X))
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    out = np.empty((rows, layers[-1]), np.float32)
    return {name: lambda handle=handle: handle(X, out) for name, handle in handles.items()}


def mnist(path: str) -> None:
    with np.load(path) as file:
        x, y, x_test, y_test = (file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    x, x_test = (a.reshape(len(a), -1).astype(np.float32) / np.float32(255) for a in (x, x_test))
    for options in ({}, {"activation": "gelu"}, {"batch_norm": True}):
        for seed in range(3):
            model = MLP([784, 256, 128, 10], seed=seed, **options)
            model.fit(x, y, epochs=8, batch_size=128, optimizer=SGD(0.05, 0.9), progress=False)
            handle = model.compile_predict(dtype="int8", validation_data=(x_test, y_test))
            print(f"{options or 'relu'}, seed {seed}", handle.report, sep="\n", end="\n\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--mnist")
    options = parser.parse_args()
    if options.mnist:
        mnist(options.mnist)
        return
    fastmlp.set_num_threads(1)
    for layers in NETWORKS:
        for rows in ROWS:
            name = f"{'-'.join(map(str, layers))}, {rows}"
            if options.only not in name:
                continue
            seconds = least(contestants(layers, rows), options.seconds)
            print(f"{name:28}", ", ".join(
                f"{who} {1e6 * s:.1f} us ({seconds['float32'] / s:.2f}x)" for who, s in seconds.items()),
                flush=True)


if __name__ == "__main__":
    main()
