"""`fastmlp bench`: how fast the array functions and the model are, in shares of the processor's FMA peak.

Every result is compared with the NumPy backend's before anything is timed. Times are the best of several
runs. Only the multiply-adds of the dense layers count as operations, over the time of the whole call.
"""
from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import MLP, SGD, functional, use_backend
from fastmlp._tools.config import fma_peak
from fastmlp.backends import numpy as baseline

if TYPE_CHECKING:
    from fastmlp._core.types import Array

__all__ = ["bench", "best"]

# (rows, inputs, outputs) of a dense layer
DENSE = [(1, 64, 64), (32, 64, 64), (128, 256, 256), (256, 784, 512), (1024, 1024, 1024)]
# layers and batch of a training step
TRAINING = [
    ([4, 16, 3], 16),
    ([64, 64, 10], 32),
    ([64, 128, 128, 10], 128),
    ([784, 128, 10], 64),
    ([784, 256, 128, 10], 128),
    ([784, 512, 512, 10], 256),
    ([256, 256, 256, 256, 256, 256, 10], 256),
    ([784, 1024, 1024, 10], 1024),
]
# layers and rows of a call of `forward`
INFERENCE = [
    ([4, 16, 3], 1),
    ([784, 256, 128, 10], 1),
    ([784, 256, 128, 10], 16),
    ([784, 256, 128, 10], 256),
    ([784, 1024, 1024, 10], 1024),
]
DATA_BYTES = 2**24              # training runs over so much data, again and again,
MOST_STEPS = 20000              # or so many steps, or, on the slower side,
MOST_STEPS_NUMPY = 500
REPETITIONS = 5                 # at least

Seconds = Callable[[], float]   # runs something and says how long one of it took


@dataclass
class Row:
    """One line of the table: what, its shape, floating-point operations, and how to time both sides.

    `cores` is on how many cores we may work.
    """

    what: str
    shape: str
    operations: float
    ours: Seconds
    numpy: Seconds
    cores: int = 1


def bench(dtype: str = "float32", threads: int = 1, quick: bool = False) -> None:
    """Measure and print how fast the array functions and the model are.

    Parameters
    ----------
    dtype : {"float32", "float64"}, default "float32"
        Type of the numbers.
    threads : int, default 1
        Number of threads that the model may use, and already does.
    quick : bool, default False
        Whether to measure only the first rows of the table, in short runs.

    Raises
    ------
    ArithmeticError
        If a result differs from the NumPy backend's; then nothing is timed.

    Examples
    --------
    >>> bench(quick=True)  # doctest: +ELLIPSIS
    FMA peak...
    """
    seconds = 0.005 if quick else 0.8
    peak = fma_peak(dtype, 0.01 if quick else 0.3)
    line = "{:<15}  {:<36}  {:>8}  {:>8}  {:>7}  {:>8}  {:>6}"
    print(f"FMA peak of a core: {peak:.1f} GFLOP/s ({dtype})\n")
    print(line.format("what", "shape", "us", "GFLOP/s", "of peak", "NumPy us", "ratio"), flush=True)
    with use_backend("cython"):
        for row in rows(np.dtype(dtype), threads, quick):
            ours, numpy = best(row.ours, seconds), best(row.numpy, seconds)
            speed = row.operations / ours / 1e9
            share = speed / (peak * row.cores)
            print(line.format(row.what, row.shape, digits(ours * 1e6), digits(speed), f"{share:.1%}",
                              digits(numpy * 1e6), f"{numpy / ours:.1f}x"), flush=True)


def rows(dtype: np.dtype[Any], threads: int, quick: bool = False) -> Iterator[Row]:
    """Everything that is measured, each verified; the first two of every kind if quick."""
    count = 2 if quick else None
    for shape in DENSE[:count]:
        yield dense_forward(dtype, *shape)
    for shape in DENSE[:count]:
        yield dense_backward(dtype, *shape)
    for layers, batch in TRAINING[:count]:
        yield training_step(dtype, threads, layers, batch, most_steps=20 if quick else MOST_STEPS)
    for layers, batch in INFERENCE[:count]:
        yield inference(dtype, threads, layers, batch)


# What is measured --------------------------------------------------------------------------------------
# NumPy's array functions are called without the checks of `fastmlp.functional`, ours with them; training and
# inference are the model's methods on both sides.

def dense_forward(dtype: np.dtype[Any], n: int, k: int, m: int) -> Row:
    x, w, b = random(dtype, (n, k), (k, m), (m,))
    y, y_numpy = np.empty((n, m), dtype), np.empty((n, m), dtype)

    def ours() -> None:
        functional.dense_forward(x, w, b, "relu", out=y)

    def numpy() -> None:
        baseline.dense_forward(x, w, b, "relu", out=y_numpy)

    ours()
    numpy()
    verify("dense_forward", y, y_numpy)
    return Row("dense_forward", f"{n} x {k} -> {m}", 2 * n * k * m, calls(ours), calls(numpy))


def dense_backward(dtype: np.dtype[Any], n: int, k: int, m: int) -> Row:
    x, w, b, dy = random(dtype, (n, k), (k, m), (m,), (n, m))
    y = baseline.dense_forward(x, w, b, "relu")
    out, out_numpy = (tuple(np.empty_like(a) for a in (x, w, b)) for _ in range(2))

    def ours() -> None:
        functional.dense_backward(dy, x, w, y, "relu", out=out)

    def numpy() -> None:
        baseline.dense_backward(dy, x, w, y, "relu", out=out_numpy)

    ours()
    numpy()
    for a, b in zip(out, out_numpy):
        verify("dense_backward", a, b)
    return Row("dense_backward", f"{n} x {k} -> {m}", 4 * n * k * m, calls(ours), calls(numpy))


def training_step(dtype: np.dtype[Any], threads: int, layers: list[int], batch: int, most_steps: int) -> Row:
    """A step of `fit`: data in memory and in its own order, ReLU, softmax cross-entropy, plain SGD."""
    steps = max(4, min(most_steps, DATA_BYTES // (batch * layers[0] * dtype.itemsize)))
    (X,) = random(dtype, (steps * batch, layers[0]))
    y = np.random.default_rng(1).integers(layers[-1], size=len(X))
    model, model_numpy = both_models(layers, dtype)
    optimizer = SGD(lr=1e-3)

    def step(model: MLP, most_steps: int) -> Seconds:
        n = most_steps * batch

        def seconds() -> float:
            history = model.fit(X[:n], y[:n], epochs=1, batch_size=batch, optimizer=optimizer, shuffle=False,
                                progress=False)
            return batch / history.samples_per_second[0]

        return seconds

    for _ in range(2):
        loss = [m.train_step(X[:batch], y[:batch], optimizer) for m in (model, model_numpy)]
    verify("training step", np.array(loss[0]), np.array(loss[1]), dtype)
    for a, b in zip(model.weights, model_numpy.weights):
        verify("training step", a, b)
    work = (6 * multiply_adds(layers) - 2 * layers[0] * layers[1]) * batch      # the input needs no gradient
    return Row("training step", shape_of(layers, batch), work, step(model, steps),
               step(model_numpy, MOST_STEPS_NUMPY), threads)


def inference(dtype: np.dtype[Any], threads: int, layers: list[int], batch: int) -> Row:
    (X,) = random(dtype, (batch, layers[0]))
    model, model_numpy = both_models(layers, dtype)
    out, out_numpy = (np.empty((batch, layers[-1]), dtype) for _ in range(2))

    def ours() -> None:
        model.forward(X, out=out)

    def numpy() -> None:
        model_numpy.forward(X, out=out_numpy)

    ours()
    numpy()
    verify("inference", out, out_numpy)
    work = 2 * multiply_adds(layers) * batch
    return Row("inference", shape_of(layers, batch), work, calls(ours), calls(numpy), threads)


# Helpers -----------------------------------------------------------------------------------------------

def best(run: Seconds, seconds: float) -> float:
    """Return the least of what a function returns, called again and again.

    Parameters
    ----------
    run : callable
        Function that runs something and returns how long it took, in seconds.
    seconds : float
        Time to go on for, in seconds; some calls are made at least.

    Returns
    -------
    float
        Least time, in seconds.

    Examples
    --------
    >>> best(iter([3.0, 1.0, 2.0, 4.0, 5.0]).__next__, 0)
    1.0
    """
    least, count, end = float("inf"), 0, time.perf_counter() + seconds
    while count < REPETITIONS or time.perf_counter() < end:
        least = min(least, run())
        count += 1
    return least


def calls(function: Callable[[], None]) -> Seconds:
    """Times calls of a function: enough of them at a time for the clock."""
    started = time.perf_counter()
    function()
    number = max(1, int(1e-3 / max(time.perf_counter() - started, 1e-7)))

    def seconds() -> float:
        started = time.perf_counter()
        for _ in range(number):
            function()
        return (time.perf_counter() - started) / number

    return seconds


def random(dtype: np.dtype[Any], *shapes: tuple[int, ...]) -> list[Any]:
    """Arrays of N(0, 1), weights (the second) of He's size."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, dtype) for shape in shapes]
    if len(arrays) > 1:
        arrays[1] *= dtype.type((2 / shapes[1][0]) ** 0.5)
    return arrays


def both_models(layers: list[int], dtype: np.dtype[Any]) -> list[MLP]:
    models = []
    for name in ("cython", "numpy"):
        with use_backend(name):
            models.append(MLP(layers, dtype=dtype, seed=0))
    return models


def verify(what: str, a: Array, b: Array, dtype: np.dtype[Any] | None = None) -> None:
    """|a - b| is at most sqrt(eps) |b|, in the norm of all elements together."""
    tolerance = np.finfo(dtype or a.dtype).eps ** 0.5
    if not np.linalg.norm(a - b) <= tolerance * np.linalg.norm(b):
        raise ArithmeticError(f"{what}: the result differs from NumPy's, nothing was timed")


def multiply_adds(layers: list[int]) -> int:
    """Of one sample on its way forward: the number of weights.

    >>> multiply_adds([4, 16, 3])
    112
    """
    return sum(a * b for a, b in zip(layers, layers[1:]))


def shape_of(layers: list[int], batch: int) -> str:
    return f"{'-'.join(map(str, layers))}, batch {batch}"


def digits(x: float) -> str:
    """Three of them, or all before the point.

    >>> digits(0.5126), digits(51.26), digits(51260.0)
    ('0.513', '51.3', '51260')
    """
    return f"{x:.3f}" if x < 1 else f"{x:.2f}" if x < 10 else f"{x:.1f}" if x < 100 else f"{x:.0f}"
