"""`fastmlp demo`: trains on both backends, on the bundled digits or on a file of images."""
from __future__ import annotations

import argparse
import sys
import time
import zipfile
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import fastmlp
from fastmlp import MLP, SGD, use_backend
from fastmlp.training import History

if TYPE_CHECKING:
    from fastmlp._core.types import Array

    Data = tuple[Array, Array, Array, Array]        # training X and y, test X and y

__all__ = ["ACCURACY", "KEYS", "DataError", "run_demo"]

ACCURACY = 0.97                 # what the demo must reach on its own data
KEYS = ("x_train", "y_train", "x_test", "y_test")


class DataError(Exception):
    """Data that the demo cannot use."""


def run_demo(options: argparse.Namespace) -> int:
    bundled = options.data is None
    data = digits() if bundled else load(options.data)
    X, y, test_X, test_y = scaled(data, options.dtype)
    epochs = options.epochs or (20 if bundled else 5)
    batch_size = options.batch_size or (32 if bundled else 128)
    hidden = [128, 64] if bundled else [256, 128]
    layers = [X.shape[1], *hidden, int(max(y.max(), test_y.max())) + 1]
    print(f"{options.data or 'bundled digits'}: {len(X)} samples to train on, {len(test_X)} to test")
    print(f"network {'-'.join(map(str, layers))}, {options.dtype}, {epochs} epochs, batches of {batch_size}")
    print(f"instruction set {fastmlp.active_isa()}, threads: {fastmlp.get_num_threads()} at most", flush=True)

    accuracy, histories = [], []
    for name in ("cython", "numpy"):
        if name == "numpy":
            print("the same in NumPy", flush=True)
        with use_backend(name):
            model = MLP(layers, dtype=options.dtype, seed=0)
        optimizer = SGD(lr=0.05, momentum=0.9)
        started = time.perf_counter()
        history = model.fit(X, y, epochs=epochs, batch_size=batch_size, optimizer=optimizer)
        elapsed = time.perf_counter() - started
        histories.append(history)
        accuracy.append(float((model.predict(test_X) == test_y).mean()))
        print(f"{name:<6}  test accuracy {accuracy[-1]:.2%}, {speed(history):,.0f} samples/s, "
              f"{elapsed:.2f} s in all", flush=True)

    ours, numpy = histories
    difference = max(abs(a - b) for a, b in zip(ours.loss, numpy.loss))
    print(f"loss {ours.loss[0]:.4f} to {ours.loss[-1]:.4f}, the curves differ by {difference:.1e} at most")
    print(f"fastmlp trains {speed(ours) / speed(numpy):.1f} times as fast as its NumPy backend")
    if bundled and accuracy[0] < ACCURACY:
        print(f"fastmlp: expected a test accuracy of {ACCURACY:.0%} at least, got {accuracy[0]:.2%}",
              file=sys.stderr)
        return 1
    return 0


def speed(history: History) -> float:
    """Samples per second over all epochs, which are of one size.

    >>> speed(History(samples_per_second=[100.0, 300.0]))
    150.0
    """
    return len(history.samples_per_second) / sum(1 / s for s in history.samples_per_second)


def digits() -> Data:
    """The bundled digits, in a fixed random order: four fifths to train on, the rest to test."""
    with resources.files("fastmlp").joinpath("data/digits.npz").open("rb") as file, np.load(file) as arrays:
        x, y = arrays["x"], arrays["y"].astype(np.intp)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = np.split(order, [len(x) * 4 // 5])
    return x[train], y[train], x[test], y[test]


def load(path: Path) -> Data:
    """Data in the layout of Keras's mnist.npz: images flattened to rows, labels as integers."""
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise DataError(f"{path}: expected an .npz archive, got a single array")
        with arrays:
            missing = [key for key in KEYS if key not in arrays]
            if missing:
                raise DataError(f"{path}: no {', '.join(missing)}; expected {', '.join(KEYS)}, "
                                f"got {', '.join(arrays) or 'nothing'}")
            X, y, test_X, test_y = (arrays[key] for key in KEYS)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as an .npz archive: {error}") from None
    tables = []
    for key, a in zip(("x_train", "x_test"), (X, test_X)):
        if a.ndim < 2 or a.size == 0 or a.dtype.kind not in "biuf":
            raise DataError(f"{path}: {key}: expected numbers (samples, ...), got {a.dtype} {a.shape}")
        if not np.isfinite([a.min(), a.max()]).all():
            raise DataError(f"{path}: {key}: holds values that are not finite")
        tables.append(a.reshape(len(a), -1))
    labels = []
    for key, a, table in zip(("y_train", "y_test"), (y, test_y), tables):
        if a.size != len(table) or a.dtype.kind not in "biu" or a.min() < 0:
            raise DataError(f"{path}: {key}: expected {len(table)} class indices from 0, "
                            f"got {a.dtype} {a.shape}")
        labels.append(a.reshape(-1).astype(np.intp))
    if tables[0].shape[1] != tables[1].shape[1]:
        raise DataError(f"{path}: x_train has {tables[0].shape[1]} values a sample, "
                        f"x_test {tables[1].shape[1]}")
    return tables[0], labels[0], tables[1], labels[1]


def scaled(data: Data, dtype: str) -> Data:
    """Inputs divided by a power of two that brings them to -1..1: pixels 0..255 by 256, 0..16 by 16.

    On pixels of up to 255 a usual learning rate diverges. A power of two keeps every bit of the pixels. This
    is a copy, with the dtype of the model.
    """
    X, y, test_X, test_y = data
    largest = max(float(X.max()), -float(X.min()))
    factor = 2.0 ** -np.ceil(np.log2(largest)) if largest else 1.0
    return np.multiply(X, factor, dtype=dtype), y, np.multiply(test_X, factor, dtype=dtype), test_y
