"""Limited-memory BFGS: a minimiser of the full batch, which drives a model from above."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from fastmlp._core import checks, divergence, names, sources
from fastmlp._core.core import engine_for, samples_of
from fastmlp._core.layout import named_arrays
from fastmlp._core.network import Samples
from fastmlp._core.optional import import_extra
from fastmlp._core.threads import get_num_threads
from fastmlp.callbacks import asks_to_stop
from fastmlp.optimizers import Optimizer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array, ClassWeight, RowsLike
    from fastmlp.model import MLP

__all__ = ["LBFGS", "Minimum"]


class Minimum(NamedTuple):
    """What `fastmlp.LBFGS.minimize` returns.

    Attributes
    ----------
    losses : list of float
        Loss after each iteration.
    converged : bool
        Whether the search ended at a minimum.
    message : str
        Reason why it ended.

    Examples
    --------
    >>> Minimum([0.5, 0.25], True, "CONVERGENCE").losses[-1]
    0.25
    """

    losses: list[float]
    converged: bool
    message: str


class LBFGS(Optimizer):
    """Limited-memory BFGS on the full batch, for small data and smooth losses.

    Ends after max_iter iterations, or where no element of the gradient is above tolerance, or where the loss
    falls by less than its dtype can resolve; float64 models go further than float32 ones.

    Parameters
    ----------
    max_iter : int, default 200
        Largest number of iterations, >= 1.
    memory : int, default 10
        Number of last steps that stand for the curvature, >= 1.
    tolerance : float, default 1e-5
        Search ends where no element of the gradient is above this, >= 0.
    weight_decay : float, default 0.0
        Factor >= 0 of an L2 penalty of ``weight_decay/2 |w|^2``.
    decay_biases : bool, default False
        Whether the penalties act on biases too.
    divide_penalty : bool, default False
        Whether the penalties are divided by what the samples weigh, as scikit-learn's alpha is.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range.

    See Also
    --------
    fastmlp.optimizers.Optimizer : Penalties and limits, state, copies; what all optimizers share.

    Notes
    -----
    A quasi-Newton method. The last ``memory`` steps and changes of the gradient stand for the curvature of
    the loss, and a line search finds how far to go: no learning rate, and far fewer passes over the data than
    gradient descent, each over all samples. `MLP.fit` calls `minimize`. Penalties are part of what is
    minimised; L1 is not smooth, and not offered. The work is SciPy's, which the extra "lbfgs" installs.

    References
    ----------
    Liu, Nocedal, "On the Limited Memory BFGS Method for Large Scale Optimization", Mathematical Programming
    45, 1989.

    Zhu, Byrd, Lu, Nocedal, "Algorithm 778: L-BFGS-B", 1997 (SciPy's).

    Examples
    --------
    >>> LBFGS(memory=20)
    LBFGS(max_iter=200, memory=20, tolerance=1e-05, weight_decay=0.0)
    """

    full_batch = True
    settable = {
        **{name: Optimizer.settable[name] for name in ("weight_decay", "decay_biases", "divide_penalty")},
        "max_iter": lambda self, value: checks.integer("max_iter", value, low=1),
        "memory": lambda self, value: checks.integer("memory", value, low=1),
        "tolerance": lambda self, value: checks.number("tolerance", value, low=0.0),
    }
    fixed = {**Optimizer.fixed, **{name: "LBFGS has no such setting" for name in
                                   ("lr", "l1", "clip_value", "clip_norm")}}

    @names.keywords(names.OPTIMIZER)
    def __init__(
        self,
        max_iter: int = 200,
        memory: int = 10,
        tolerance: float = 1e-5,
        *,
        weight_decay: float = 0.0,
        decay_biases: bool = False,
        divide_penalty: bool = False,
    ) -> None:
        self.__dict__.update(lr=1.0, l1=0.0, clip_value=None, clip_norm=None, _states=WeakKeyDictionary())
        self.weight_decay = weight_decay
        self.decay_biases = decay_biases
        self.divide_penalty = divide_penalty
        self.max_iter: int = max_iter
        self.memory: int = memory
        self.tolerance: float = tolerance

    def _shown(self) -> dict[str, Any]:
        return {"max_iter": self.max_iter, "memory": self.memory, "tolerance": self.tolerance}

    def minimize(
        self,
        model: MLP,
        X: RowsLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        callback: Callable[[int, float], object] | None = None,
    ) -> Minimum:
        """Change weights and biases to where the mean loss with its penalties is least.

        Parameters
        ----------
        model : MLP
            Model; its parameters are changed.
        X : array_like or sparse matrix of any numeric dtype, shape (n, inputs)
            Samples.
        y : array_like
            Targets, as `MLP.fit` takes them.
        sample_weight : array_like, shape (n,), optional
            Weight of every sample, as in `MLP.fit`.
        class_weight : dict {class: weight} or "balanced", optional
            Weight of every class, as in `MLP.fit`.
        callback : callable, optional
            Called as callback(iteration, loss) after every iteration, from 0 on and with the loss without
            penalties; True (of Python or of NumPy) ends the search.

        Returns
        -------
        Minimum
            Losses, whether the search converged, and why it ended.

        Raises
        ------
        ImportError
            Without SciPy.
        TypeError
            For arguments of the wrong type, as `MLP.loss_and_gradients` raises.
        ValueError
            For arguments that do not fit, as `MLP.loss_and_gradients` raises.

        Warns
        -----
        RuntimeWarning
            If the search leaves the finite numbers.

        Notes
        -----
        Trial points are evaluated beside the model: at every moment, and when anything interrupts the search,
        Ctrl-C and exceptions of the callback too, the model has the parameters of the last iteration, whose
        loss was finite.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> x = np.linspace(-1, 1, 20)[:, None]
        >>> model = MLP([1, 1], loss="mean_squared_error", dtype="float64", seed=0)
        >>> LBFGS().minimize(model, x, 3 * x + 1).converged
        True
        >>> model.weights[0].round(4)
        array([[3.]])
        """
        import_extra("scipy", "LBFGS", "lbfgs")
        from scipy.optimize import minimize

        X, targets, weights = samples_of(model, "X", X, "y", y, sample_weight, class_weight)
        X = sources.readable(X, model.dtype, dense=model.compute_dtype is not None)
        samples = Samples(X, targets, weights, None, len(X))
        parameters = model.core.parameters
        trial = parameters.copy()
        engine = model.core.engine
        engine = engine_for(model, trial, model.dropout, engine.global_step)
        gradients = trial.like()
        arrays, slopes = dict(named_arrays(trial)), dict(named_arrays(gradients))
        factor = self.weight_decay
        if self.divide_penalty:
            factor /= len(X) if weights is None else float(weights.sum())
        decay = np.concatenate([np.full(array.size, factor if name.startswith("weights")
                                        or self.decay_biases else 0.0) for name, array in arrays.items()])
        state = self.state_of(parameters)
        last = math.nan
        finite = True
        losses: list[float] = []

        def put(x: Array) -> None:
            start = 0
            for array in arrays.values():
                array[...] = x[start:start + array.size].reshape(array.shape)
                start += array.size

        def loss_and_gradient(x: Array) -> tuple[float, Array]:
            nonlocal last, finite
            put(x)
            with model.core.lock.take():
                last = engine.gradients(samples, gradients, get_num_threads())
            slope = _flat(slopes[name] for name in arrays)
            finite = finite and math.isfinite(last) and divergence.all_finite(slope)
            if not losses and not finite:
                raise _NotFinite                # a line search needs a point to begin at
            return last + float(decay @ (x * x)) / 2, slope + decay * x

        def after_iteration(x: Array) -> None:
            put(x)                              # the point that was evaluated last
            if not (math.isfinite(last) and divergence.all_finite(trial.buffer)):
                raise _NotFinite
            np.copyto(parameters.buffer, trial.buffer)      # one operation: no signal can divide it
            losses.append(last)
            state.step += 1
            if callback is not None and asks_to_stop(callback(len(losses) - 1, last)):
                raise _Enough

        limits = {"maxiter": self.max_iter, "maxcor": self.memory, "maxfun": 20 * self.max_iter + 20,
                  "gtol": self.tolerance, "ftol": max(2e-9, 2 * float(np.finfo(model.dtype).eps))}
        with model.core.lock.take(runs=False):
            np.copyto(trial.buffer, parameters.buffer)
            try:
                found = minimize(loss_and_gradient, _flat(arrays.values()), method="L-BFGS-B", jac=True,
                                 callback=after_iteration, options=limits)
                result = Minimum(losses, bool(found.success), str(found.message))
            except _Enough:
                result = Minimum(losses, False, "the callback asked to stop")
            except _NotFinite:
                result = Minimum(losses, False, f"the loss or its gradient is not finite: {last}")
            if not finite and not result.converged and result.message != "the callback asked to stop":
                divergence.warn(model, f"LBFGS left the finite numbers after {len(losses)} iterations, and "
                                       "the model has the parameters of the last of them")
        return result


class _Enough(Exception):
    """The callback of `LBFGS.minimize` has seen enough."""


class _NotFinite(Exception):
    """There is nowhere to go on from."""


def _flat(arrays: Iterable[Array]) -> Array:
    return np.concatenate([array.ravel() for array in arrays], dtype=np.float64)
