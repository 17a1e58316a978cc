"""lr_find: which learning rates a network can be trained with, found by trying them."""
from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastmlp._core import checks, sources
from fastmlp._core.core import samples_of
from fastmlp._core.defaults import optimizer_for_fit
from fastmlp._core.network import Samples
from fastmlp.data._chunks import as_source
from fastmlp.model import MLP
from fastmlp.training import train

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array, ClassWeight, OptimizerLike, RowsLike

__all__ = ["LearningRates", "lr_find"]

SMOOTHING = 0.9         # share that the mean of the losses keeps from step to step
WIDTH = 5.0             # steps, of the average that is shown
FALLEN = 0.1            # of the way down, from which on the slope counts
NOISE = 0.01            # a loss that falls by no more than this share of itself has not fallen


@dataclass(frozen=True, eq=False)
class LearningRates:
    """What `lr_find` returns: a loss for every learning rate that was tried.

    Attributes
    ----------
    rates : ndarray, shape (steps,)
        Learning rates, from small to large.
    losses : ndarray, shape (steps,)
        Mean loss of the batch of each step, before the step. NaN or infinite where the loss was.
    smoothed : ndarray, shape (steps,)
        Moving average of the losses.
    suggestion : float or None
        Learning rate to begin with, or None where no rate made the loss fall.

    Examples
    --------
    >>> from fastmlp import MLP, SGD, lr_find
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((1000, 10))
    >>> found = lr_find(MLP([10, 32, 2], seed=0), X, (X[:, 0] > 0).astype(int), SGD())
    >>> bool(found.rates[0] < found.suggestion < found.rates[-1])
    True
    """

    rates: Array
    losses: Array
    smoothed: Array
    suggestion: float | None

    def __repr__(self) -> str:
        suggestion = "None" if self.suggestion is None else f"{self.suggestion:.2g}"
        return (f"LearningRates({len(self.rates)} from {self.rates[0]:.2g} to {self.rates[-1]:.2g}, "
                f"suggestion={suggestion})")


def lr_find(
    model: MLP,
    X: RowsLike,
    y: ArrayLike | None = None,
    optimizer: OptimizerLike | None = None,
    *,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    batch_size: int = 128,
    stop_factor: float = 4.0,
    sample_weight: ArrayLike | None = None,
    class_weight: ClassWeight | None = None,
) -> LearningRates:
    """Try learning rates from small to large, one a step, and suggest one.

    The learning-rate range test::

        lr_t = low (high / low)^(t / (steps - 1)),  t = 0 .. steps - 1

    Copies of the model and the optimizer are trained; those that are given stay as they are, to the bit.

    Parameters
    ----------
    model : MLP
        Network, new or trained.
    X : array_like or sparse matrix of any numeric dtype, shape (n, inputs)
        Samples.
    y : array_like, optional
        Targets, as `MLP.fit` takes them, which needs none beside a source; a source is refused here.
    optimizer : Optimizer, str or class, optional
        Optimizer whose rate is looked for, or its name or class as in `MLP.fit`; not `LBFGS`, which has none.
        That of `MLP.fit`, `AdamW`, if not given. Its own rate, or schedule, does not matter.
    low : float, default 1e-6
        Smallest rate, > 0.
    high : float, default 10.0
        Largest rate, above ``low``.
    steps : int, default 100
        Number of rates, at least 2, and of steps. More make the curve smoother.
    batch_size : int, default 128
        Number of samples of a step.
    stop_factor : float, default 4.0
        The test ends where the smoothed loss is that many times the smallest one, or no longer finite.
    sample_weight : array_like, shape (n,), optional
        Weight of every sample, >= 0; 1 if not given.
    class_weight : dict {class: weight} or "balanced", optional
        Weight of every class, as in `MLP.fit`.

    Returns
    -------
    LearningRates
        Rates, losses and a suggestion.

    Raises
    ------
    TypeError
        For arguments of the wrong type.
    ValueError
        For arguments that do not fit.
    RuntimeError
        While another thread trains the model.
    MemoryError
        Where there is no room for the copies.

    Notes
    -----
    Where rates are too small, the loss stays where it is; then it falls, ever faster; then it turns up and
    explodes. The suggestion lies halfway, by the logarithm, between the rate at which the smoothed loss falls
    fastest and that at which it is lowest. It is a rate to begin with: for a long training with a schedule,
    the largest of it. Batches are small samples, and so two tests with other seeds differ by a factor of two
    easily; a hundred steps know little of the thousands that follow, for which a rate several times as large
    or as small may be the best one.

    References
    ----------
    Smith, "Cyclical Learning Rates for Training Neural Networks", WACV 2017.

    Examples
    --------
    >>> from fastmlp import MLP, Adam
    >>> X = np.random.default_rng(0).standard_normal((500, 10))
    >>> model, optimizer = MLP([10, 32, 1], loss="mean_squared_error", seed=0), Adam()
    >>> found = lr_find(model, X, X[:, :1] ** 2, optimizer, batch_size=50)
    >>> optimizer.lr = found.suggestion
    """
    if not isinstance(model, MLP):
        raise TypeError(f"model: expected an MLP, got {type(model).__name__}")
    if as_source(X) is not None:
        raise TypeError("X: lr_find takes arrays, which it draws batches from at random, got "
                        f"{type(X).__name__}; take a part that fits into memory")
    optimizer = optimizer_for_fit(optimizer, 0, model.layers)
    if optimizer.full_batch:
        raise ValueError("optimizer: LBFGS has no learning rate")
    low, high = checks.number("low", low), checks.number("high", high)
    if not 0 < low < high:
        raise ValueError(f"low, high: expected 0 < low < high, got {low} and {high}")
    steps = checks.integer("steps", steps, low=2)
    batch_size = checks.integer("batch_size", batch_size, low=1)
    stop_factor = checks.number("stop_factor", stop_factor, low=1.0)
    X, targets, weights = samples_of(model, "X", X, "y", y, sample_weight, class_weight)
    order = np.arange(len(X)) if weights is None else np.flatnonzero(weights)      # others take no part
    batch_size = min(batch_size, len(order))
    if batch_size == 1 and any(model.batch_norm):
        raise ValueError("batch_size: expected at least 2 with batch normalisation, got 1")
    ours, theirs = copy.deepcopy((model, optimizer))
    batches = len(order) // batch_size          # of an epoch, all full
    rates = np.geomspace(low, high, steps)
    losses: list[float] = []
    smoothed: list[float] = []
    with ours.core.lock.take():
        theirs.serve(ours)
        for step, rate in enumerate(rates):
            if step % batches == 0:
                ours.core.rng.shuffle(order)
            rows = order[step % batches * batch_size:][:batch_size]
            theirs.lr = float(rate)
            x = sources.readable(X[rows], ours.dtype, dense=ours.compute_dtype is not None)
            samples = Samples(x, targets[rows], None if weights is None else weights[rows], None, batch_size)
            total, weight = train(ours, samples, 0, 1, theirs)
            losses.append(total / weight)
            smoothed.append(_mean(losses))
            if not smoothed[-1] <= stop_factor * min(smoothed):
                break
    found, tried = np.array(losses), rates[:len(losses)]
    curve = _smooth(found)
    return LearningRates(tried, found, curve, _suggestion(tried, curve))


def _mean(losses: list[float]) -> float:
    """Average of the losses so far, of which the last counts most: it tells when the test is to end."""
    shares = SMOOTHING ** np.arange(len(losses))[::-1]
    return float(shares @ losses / shares.sum())


def _smooth(losses: Array) -> Array:
    """Averages over the neighbours of each, which shift nothing: weights of a normal distribution."""
    away = np.subtract.outer(np.arange(len(losses)), np.arange(len(losses))) / WIDTH
    shares = np.exp(-away ** 2 / 2)
    shares[shares < 1e-3] = 0               # a loss that is not finite reaches no farther
    with np.errstate(invalid="ignore"):
        result: Array = np.array([row[row > 0] @ losses[row > 0] / row.sum() for row in shares])
    return result


def _suggestion(rates: Array, curve: Array) -> float | None:
    """Halfway, by the logarithm, from the rate at which the curve falls fastest to that of its lowest point;
    None where it does not fall."""
    finite = np.isfinite(curve)
    rates, curve = rates[finite], curve[finite]
    lowest = int(curve.argmin()) if len(curve) else 0
    start = float(np.median(curve[:max(1, len(rates) // 10)])) if len(curve) else 0.0
    if lowest < 2 or start - curve[lowest] <= NOISE * abs(start):
        return None
    slopes = np.gradient(curve[:lowest + 1], np.log(rates[:lowest + 1]))
    slopes[curve[:lowest + 1] > start - FALLEN * (start - curve[lowest])] = 0       # noise of the beginning
    return float(np.sqrt(rates[slopes.argmin()] * rates[lowest]))
