"""Gradient checking: backpropagation against numerical gradients, one parameter at a time."""
from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastmlp import backends
from fastmlp._core import checks, sources, state
from fastmlp.model import MLP, Gradients

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array, RowsLike

    Arrays = dict[str, Array]       # by kind: weights, biases, scales

__all__ = ["GradientCheck", "LayerCheck", "gradient_check"]

TOLERANCE = {"float32": 1e-3, "float64": 1e-6}      # largest relative error that passes
EPSILON = float(np.finfo(np.float64).eps)
STEP = EPSILON ** (1 / 3)                           # where truncation and rounding error are about equal
LOSS_ROUNDING = 10 * EPSILON                        # of a loss of about 1, with room to spare
ERROR_ROUNDING = 10                                 # of outputs minus targets of about 1, in epsilons
GRADIENT_ROUNDING = 100                             # of a sum, in units of epsilon times the layer's largest
SMALLER_STEPS = (1, 10, 100)                        # what the step is divided by, until the error is small
KINK = 1e-3                                         # how much the slopes to both sides differ, at a kink


@dataclass(frozen=True)
class LayerCheck:
    """What a gradient check found in one layer.

    Attributes
    ----------
    layer : int
        Number i of the layer; its parameters are weights[i], biases[i] and, with batch normalisation,
        scales[i].
    shape : tuple (in, out)
        Shape of the weights.
    parameters : int
        Number of its parameters.
    checked : int
        Number of those that were checked.
    kinks : int
        Number of checked parameters at which the loss has no derivative; they do not count.
    largest_error : float
        Largest relative error of the others; NaN if there are none.
    at : str
        Parameter that has it, such as "weights[0][3, 7]".
    backpropagated : float
        Derivative there, by backpropagation.
    numerical : float
        Derivative there, numerical.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> gradient_check(MLP([2, 3], dtype="float64", seed=0), np.eye(2), [0, 1]).layers[0].shape
    (2, 3)
    """

    layer: int
    shape: tuple[int, int]
    parameters: int
    checked: int
    kinks: int
    largest_error: float
    at: str
    backpropagated: float
    numerical: float


@dataclass(frozen=True)
class GradientCheck:
    """Result of `gradient_check`; str() of it is a table.

    Attributes
    ----------
    layers : tuple of LayerCheck
        Findings for each layer.
    dtype : str
        Type of the model that was checked.
    tolerance : float
        Largest relative error that passes: 1e-6 in float64, 1e-3 in float32.
    step : float
        Step h; a parameter p moves by ``h max(1, |p|)``.
    backpropagation_seconds : float
        Time for the gradients of all parameters, on the float64 twin.
    numerical_seconds : float
        Time for those that were checked.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> result = gradient_check(MLP([2, 3], dtype="float64", seed=0), np.eye(2), [0, 1])
    >>> result.passed, result.largest_error < 1e-6
    (True, True)
    """

    layers: tuple[LayerCheck, ...]
    dtype: str
    tolerance: float
    step: float
    backpropagation_seconds: float
    numerical_seconds: float

    @property
    def passed(self) -> bool:
        """Whether every layer's largest error is within the tolerance; False if one could not be checked."""
        return all(layer.largest_error <= self.tolerance for layer in self.layers)

    @property
    def largest_error(self) -> float:
        """Largest relative error over all layers; NaN if one could not be checked."""
        return float(np.max([layer.largest_error for layer in self.layers]))

    @property
    def times_slower(self) -> float:
        """Time of all numerical gradients, extrapolated from those checked, over backpropagation's."""
        checked = sum(layer.checked for layer in self.layers)
        parameters = sum(layer.parameters for layer in self.layers)
        return self.numerical_seconds / checked * parameters / max(self.backpropagation_seconds, 1e-9)

    def __str__(self) -> str:
        rows = [("layer", "shape", "parameters", "checked", "kinks", "largest error", "at")]
        rows += [(str(x.layer), f"{x.shape[0]} x {x.shape[1]}", f"{x.parameters:,}", f"{x.checked:,}",
                  str(x.kinks), f"{x.largest_error:.1e}", x.at) for x in self.layers]
        widths = [max(map(len, column)) for column in zip(*rows)]
        table = ["  ".join(cell.rjust(width) for cell, width in zip(row[:-1], widths)) + "  " + row[-1]
                 for row in rows]
        parameters = sum(layer.parameters for layer in self.layers)
        numerical = self.times_slower * self.backpropagation_seconds
        return "\n".join([
            f"gradient check, {self.dtype}: {'passed' if self.passed else 'FAILED'}, "
            f"largest relative error {self.largest_error:.1e}, tolerance {self.tolerance:g}",
            *table,
            f"all {parameters:,} gradients: {_duration(self.backpropagation_seconds)} by backpropagation, "
            f"{_duration(numerical)} one by one, {self.times_slower:,.0f} times slower",
        ])


def gradient_check(
    model: MLP, X: RowsLike, y: ArrayLike, *, step: float | None = None, limit: int | None = None,
    seed: int = 0
) -> GradientCheck:
    """Check backpropagation against numerical gradients, one parameter at a time.

    For a parameter p, with backpropagation's derivative a::

        n = (L(p + h) - L(p - h)) / 2h
        error = |a - n| / max(|a| + |n|, floor)

    It passes with errors up to 1e-6 (float64) or 1e-3 (float32).

    Parameters
    ----------
    model : MLP
        Model; it stays as it is. With float32, a is its own gradient, from its own kernels.
    X : array_like or sparse matrix of any numeric dtype, shape (n, inputs)
        Samples; a dozen do. They should be about 1 in size.
    y : array_like
        Targets, as `MLP.fit` takes them.
    step : float, optional
        Step h > 0; a parameter moves by ``h max(1, |p|)``. If not given, eps^(1/3), and smaller ones where it
        is needed; a step that is given is the only one: see for yourself what 1e-1 and 1e-12 do.
    limit : int, optional
        Number of parameters to check in a layer, >= 1, at random, half of them biases (and scales) as far as
        there are so many. All if not given: a few thousand take a second.
    seed : int, default 0
        Seed of that choice, >= 0.

    Returns
    -------
    GradientCheck
        Largest error of every layer, and whether it passes.

    Raises
    ------
    TypeError
        For a model that is none, and for arguments of the wrong type.
    ValueError
        For arguments out of range, data that do not fit the model, a loss that is not finite, and a model
        with a ``compute_dtype``.
    RuntimeError
        While another thread trains the model.

    Notes
    -----
    *Why it is a check.* The numerical gradient does not use the chain rule. It takes the loss alone, moves
    one parameter p a little to both sides, and looks at what becomes of the loss. A mistake in any
    derivative, a forgotten factor, a transposed matrix: the two disagree from the first digits on.

    *Why it is only a check.* With P parameters it takes 2 P forward passes. Backpropagation takes one forward
    and one backward pass, and the backward pass is two matrix products of the same size for each one of the
    forward pass: about 3 passes in all, whatever P is. The numerical gradient is about 2 P / 3 times slower:
    for 784-256-128-10 with its 235,146 parameters, minutes for what takes milliseconds. The report says how
    many times it was. (A pass is `MLP.evaluate`. Where training has another loss, with dropout and batch
    normalisation, it is `MLP.loss_and_gradients`, which costs three.)

    *The step.* Two errors pull it both ways. The truncation error of the central difference is ``h^2 |L'''| /
    6``: half the step, a quarter of the error (a one-sided difference has ``h |L''| / 2``, far more). The
    rounding error is about ``eps |L| / h``, for the two losses agree in most of their digits, which cancel.
    Their sum is smallest at about h = eps^(1/3), 6e-6 in float64: 10 to 11 digits are right. In float32 it
    would be 5e-3, and four digits: too few. So the numerical gradient is always that of a float64 twin of the
    model, and the model itself may be float32.

    *Kinks.* ReLU, leaky ReLU, hinge and absolute errors have no derivative at one point. Where a sample's sum
    lies within h of it, p + h and p - h are on different sides, and n is a mixture of two slopes that says
    nothing about a. A parameter that disagrees is therefore tried again with h / 10 and h / 100, which leaves
    a kink nearby behind, and a wrong gradient as wrong as before. If the kink is exactly there (a sum of 0,
    from samples or weights that are zeros), the slopes to both sides differ at any step: it is counted, not
    judged. A float32 model can round a sum next to a kink to the other side, and fail for it, about once in a
    hundred checks: take other samples, or float64.

    *The floor* is r / tolerance, where r is what rounding alone does: to n, ``10 eps max(1, |L|) / h``, with
    the h of ``step=None``; and to a, with the eps of the model's dtype, 100 eps times the layer's largest
    gradient, and 10 eps: outputs minus targets, about 1 each, are no more exact, which shows near a minimum.
    A difference below r passes: it is rounding.

    References
    ----------
    Dennis, Schnabel, "Numerical Methods for Unconstrained Optimization and Nonlinear Equations", 1983,
    section 5.4.

    Baydin, Pearlmutter, Radul, Siskind, "Automatic differentiation in machine learning: a survey", JMLR 18,
    2018 (costs).

    Goodfellow, Bengio, Courville, "Deep Learning", 2016, section 11.5.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.standard_normal((12, 4)), rng.integers(0, 3, 12)
    >>> print(gradient_check(MLP([4, 16, 3], activation="tanh", seed=0), X, y))  # doctest: +ELLIPSIS
    gradient check, float32: passed, largest relative error ..., tolerance 0.001
    layer   shape  parameters  checked  kinks  largest error  at
        0  4 x 16          80       80      0        ...
        1  16 x 3          51       51      0        ...
    all 131 gradients: ... by backpropagation, ... one by one, ... times slower
    """
    if not isinstance(model, MLP):
        raise TypeError(f"model: expected an MLP, got {type(model).__name__}")
    if model.compute_dtype is not None:
        raise ValueError(f"model: expected compute_dtype None, got {model.compute_dtype!r}, whose rounding "
                         "is larger than the errors that are looked for")
    h = STEP if step is None else checks.number("step", step, low=0.0)
    if h == 0:
        raise ValueError("step: expected a number above 0, got 0.0")
    limit = None if limit is None else checks.integer("limit", limit, low=1)
    rng = np.random.default_rng(checks.integer("seed", seed, low=0))
    X = sources.rows("X", X, model.layers[0]).astype(model.dtype).astype(np.float64)    # what the model sees

    gradients = model.loss_and_gradients(X, y)[1]
    twin = _twin(model)
    best = math.inf
    for _ in range(3):
        started = time.perf_counter()
        trained = twin.loss_and_gradients(X, y)[0]
        best = min(best, time.perf_counter() - started)
    if not math.isfinite(trained):
        raise ValueError(f"model: expected a finite loss of X and y, got {trained}")

    other = any(model.dropout) or any(model.batch_norm)      # forward alone is another function then

    def loss() -> float:
        return twin.loss_and_gradients(X, y)[0] if other else twin.evaluate(X, y, metrics=())["loss"]

    checker = _Checker(loss, h, step is None, model.dtype.name)
    layers = tuple(
        checker.layer(i, _of_layer(twin, i), _of_layer(gradients, i), limit, rng)
        for i in range(len(model.weights)))
    return GradientCheck(layers, model.dtype.name, checker.tolerance, h, best, checker.seconds)


def _twin(model: MLP) -> MLP:
    """The same network in float64, on the same backend, with memory of its own."""
    token = backends.override.set(model.backend)
    try:
        twin = MLP(model.layers, activation=model.activations[:-1], loss=model.loss, init="zeros",
                   dtype="float64", dropout=model.dropout, batch_norm=model.batch_norm)
    finally:
        backends.override.reset(token)
    state.restore(twin, state.arrays(model))
    state.set_counters(twin, state.counters(model))
    return twin


def _of_layer(thing: MLP | Gradients, i: int) -> Arrays:
    """Weights, biases and, where it has them, scales of a layer: of a model, or of gradients."""
    return {kind: getattr(thing, kind)[i] for kind in state.TRAINED if getattr(thing, kind)[i] is not None}


class _Checker:
    """Derivatives of a loss by moving one element of an array, and what is wrong with given ones."""

    def __init__(self, loss: Callable[[], float], step: float, smaller: bool, dtype: str) -> None:
        self.loss, self.start, self.step = loss, loss(), step
        self.steps = [step / s for s in SMALLER_STEPS] if smaller else [step]
        self.smallest = step / SMALLER_STEPS[-1]
        self.tolerance = TOLERANCE[dtype]
        self.epsilon = float(np.finfo(dtype).eps)
        self.noise = LOSS_ROUNDING * max(1.0, abs(self.start))
        self.seconds = 0.0

    def layer(self, i: int, arrays: Arrays, gradients: Arrays, limit: int | None,
              rng: np.random.Generator) -> LayerCheck:
        places = [(kind, index) for kind, chosen in _choose(arrays, limit, rng).items() for index in chosen]
        a = np.array([gradients[kind][index] for kind, index in places], np.float64)
        started = time.perf_counter()
        n = np.array([self.slope(arrays[kind], index, self.step) for kind, index in places])
        self.seconds += time.perf_counter() - started

        rounding = self.epsilon * (ERROR_ROUNDING + GRADIENT_ROUNDING * np.abs(n).max())
        errors = np.array([self.error(x, y, rounding, STEP) for x, y in zip(a, n)])
        kinks = 0
        for j in np.flatnonzero(errors > self.tolerance):
            array, index = arrays[places[j][0]], places[j][1]
            for h in self.steps[1:]:
                slope = self.slope(array, index, h)
                error = self.error(a[j], slope, rounding, h)
                if error < errors[j]:
                    errors[j], n[j] = error, slope
            if errors[j] > self.tolerance and self.at_kink(array, index):
                errors[j] = -1.0
                kinks += 1
        worst = int(errors.argmax())
        found = errors[worst] >= 0
        kind, index = places[worst]
        n_in, n_out = arrays["weights"].shape
        return LayerCheck(
            layer=i, shape=(n_in, n_out), parameters=sum(array.size for array in arrays.values()),
            checked=len(places), kinks=kinks, largest_error=float(errors[worst]) if found else math.nan,
            at=f"{kind}[{i}][{', '.join(map(str, index))}]" if found else "",
            backpropagated=float(a[worst]), numerical=float(n[worst]))

    def slope(self, array: Array, index: tuple[int, ...], h: float) -> float:
        """The central difference."""
        above, below, width = self.both_sides(array, index, h)
        return (above - below) / width

    def both_sides(self, array: Array, index: tuple[int, ...], h: float) -> tuple[float, float, float]:
        """The losses above and below, and how far apart the two are: h as it was rounded."""
        value = float(array[index])
        h *= max(1.0, abs(value))
        try:
            array[index] = value + h
            above = self.loss()
            array[index] = value - h
            below = self.loss()
        finally:
            array[index] = value
        return above, below, (value + h) - (value - h)

    def error(self, a: float, n: float, rounding: float, h: float) -> float:
        """The relative error; infinity for what is not finite."""
        if not (math.isfinite(a) and math.isfinite(n)):
            return math.inf
        floor = (rounding + self.noise / h) / self.tolerance
        return float(abs(a - n) / max(abs(a) + abs(n), floor))

    def at_kink(self, array: Array, index: tuple[int, ...]) -> bool:
        """Whether the slopes to both sides differ, however near one looks."""
        above, below, width = self.both_sides(array, index, self.smallest)
        right, left = (above - self.start) / (width / 2), (self.start - below) / (width / 2)
        noise = 4 * self.noise / self.smallest
        return abs(right - left) > max(KINK * max(abs(right), abs(left)), noise)


def _choose(arrays: Arrays, limit: int | None, rng: np.random.Generator) -> dict[str, list[tuple[int, ...]]]:
    """Indices into each array, in order: all, or `limit` at random, half of them in the vectors."""
    counts = {kind: array.size for kind, array in arrays.items()}
    if limit is not None and limit < sum(counts.values()):
        vectors = [kind for kind in arrays if kind != "weights"]
        for kind in vectors:
            counts[kind] = min(counts[kind], limit // 2 // len(vectors))
        counts["weights"] = min(counts["weights"], limit - sum(counts[kind] for kind in vectors))
    return {
        kind: [tuple(map(int, np.unravel_index(j, array.shape)))
               for j in np.sort(rng.choice(array.size, counts[kind], replace=False))]
        for kind, array in arrays.items()
    }


def _duration(seconds: float) -> str:
    """Seconds, for people.

    >>> _duration(0.00025), _duration(0.12), _duration(3.5), _duration(7300)
    ('250 us', '120 ms', '3.5 s', '2.03 h')
    """
    for unit, size in (("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0), ("h", 3600.0)):
        if seconds < 100 * size or unit in ("us", "ms") and seconds < 1000 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86400:,.0f} days"
