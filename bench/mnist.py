"""Time to 98% test accuracy on MNIST, and the memory it takes, at equal hyper-parameters.

    python bench/mnist.py --data mnist.npz [--libraries "fastmlp,scikit-learn,PyTorch"] [--threads 1,2]

784-256-128-10, ReLU, SGD with momentum 0.9, learning rate 0.05, batches of 128, shuffled, the same initial
weights everywhere; images in float32, divided by 255. Training alone is timed; test accuracy is looked at
after every epoch. Memory is the peak of the whole process, the interpreter and the library with it; the
samples are prepared by another process.
"""
from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any

import common
import numpy as np
import saved
from libraries import LIBRARIES, FastMLP, initial, installed

LAYERS = (784, 256, 128, 10)
BATCH = 128
TARGET = 0.98
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
CONTESTANTS = ("fastmlp", "scikit-learn", "PyTorch")
ALLOWANCE_MB = 30


def prepare(data: str, folder: str) -> None:
    """MNIST in the Keras layout -> float32 tables and class indices, an .npy file each."""
    with np.load(data) as file:
        for name in ARRAYS:
            array = file[name]
            if name.startswith("x"):
                array = array.reshape(len(array), -1).astype(np.float32) / np.float32(255)
            else:
                array = array.astype(np.int64)
            np.save(Path(folder) / f"{name}.npy", array)


def work(library: str, folder: str, threads: int, epochs: int, seed: int) -> Iterator[dict[str, Any]]:
    """The record of one process."""
    megabyte = 1 << 20
    before = peak_rss() / megabyte
    X, y, X_test, y_test = arrays = [np.load(Path(folder) / f"{name}.npy") for name in ARRAYS]
    weights, biases = initial(LAYERS, seed=seed)
    trained = LIBRARIES[library](weights, biases, lr=0.05, momentum=0.9, threads=threads)
    trained.prepare(X, y, BATCH)
    seconds, accuracies = 0.0, []
    while len(accuracies) < epochs and (not accuracies or accuracies[-1] < TARGET):
        started = perf_counter()
        trained.epoch(shuffle=True)
        seconds += perf_counter() - started
        predicted = np.asarray(trained.call(X_test).result()).argmax(axis=1)
        accuracies.append(float((predicted == y_test).mean()))

    data = sum(array.nbytes for array in arrays) / megabyte
    parameters = sum(array.nbytes for array in weights + biases) / megabyte
    record = {"table": "mnist", "library": library, "variant": f"seed {seed}", "layers": LAYERS,
              "batch": BATCH, "dtype": "float32", "seconds": seconds, "epochs": len(accuracies),
              "accuracies": accuracies, "reached": accuracies[-1] >= TARGET,
              "us": 1e6 * seconds / (len(accuracies) * len(X) / BATCH), "peak_rss_mb": peak_rss() / megabyte,
              "imports_mb": before, "data_mb": data, "parameters_mb": parameters}
    if isinstance(trained, FastMLP):
        workspace = trained.model.workspace_nbytes(BATCH) / megabyte
        record |= {"workspace_mb": workspace, "allowed_mb": data + 3 * parameters + workspace + ALLOWANCE_MB}
    yield record


def peak_rss() -> int:
    """Bytes, of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    options = common.arguments(
        __doc__.partition("\n")[0],
        common.THREADS,
        ("--data", {"required": True, "help": "mnist.npz in the Keras layout"}),
        ("--libraries", {"default": [x for x in CONTESTANTS if x in installed()], "type": common.names}),
        ("--seed", {"default": 0, "type": int}),
    )
    clock, records = common.Clock(), []
    with tempfile.TemporaryDirectory() as folder:
        prepare(options.data, folder)
        for threads, library in product(options.threads, options.libraries):
            task = {"library": library, "folder": folder, "threads": threads,
                    "epochs": 1 if options.quick else 30, "seed": options.seed}
            for record in common.run_child(__file__, task, threads):
                records.append(record)
                clock.show(record)
                allowed = (f" of which {record['imports_mb']:.0f} MB before the data, allowed "
                           f"{record['allowed_mb']:.0f} MB" if "allowed_mb" in record else "")
                print(f"        {record['seconds']:.2f} s, {record['epochs']} epochs, accuracy "
                      f"{record['accuracies'][-1]:.2%}, peak {record['peak_rss_mb']:.0f} MB{allowed}",
                      flush=True)
    if not options.quick:
        saved.save("mnist", records)


if __name__ == "__main__":
    common.serve(work)
    main()
