"""L-BFGS-B as scikit-learn calls it: SciPy's, on the loss and gradients of a model."""
from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import scipy
from numpy.typing import NDArray
from scipy.optimize import minimize as scipy_minimize

from fastmlp import MLP
from fastmlp.sklearn._warnings import warn_of_convergence

__all__ = ["Objective", "minimize"]

Array = NDArray[Any]
PRINTS = tuple(map(int, scipy.__version__.split(".")[:2])) < (1, 15)    # SciPy takes iprint


class Objective(NamedTuple):
    """The samples, and what is minimised over them.

    loss_factor, gradient_factor    of this library's loss, to scikit-learn's
    alpha                           of the penalty alpha/2 |w|^2, divided by what the samples weigh
    """

    X: Any
    targets: Any
    weights: Any
    loss_factor: float
    gradient_factor: float
    alpha: float


class _Enough(Exception):
    """A callback asked to stop."""


def minimize(model: MLP, objective: Objective, *, max_iter: int, max_fun: int, tol: float, verbose: Any,
             callback: Callable[[int, float], bool] | None = None) -> tuple[float, int]:
    """Train the model; the loss, and the number of iterations. After Ctrl-C it has the parameters of the last
    iteration, with a warning."""
    arrays = [*model.weights, *model.biases]
    count = len(model.weights)
    total = len(objective.targets) if objective.weights is None else float(np.sum(objective.weights))
    last = value = np.nan
    iterations, reached = 0, _flat(arrays)

    def put(x: Array) -> None:
        start = 0
        for array in arrays:
            array[...] = x[start:start + array.size].reshape(array.shape)
            start += array.size

    def loss_and_gradient(x: Array) -> tuple[float, Array]:
        nonlocal last
        put(x)
        loss, gradients = model.loss_and_gradients(objective.X, objective.targets,
                                                   sample_weight=objective.weights)
        squares = sum(float(np.einsum("ij,ij->", w, w)) for w in arrays[:count])     # no copies, no BLAS
        last = objective.loss_factor * loss + 0.5 * objective.alpha * squares / total
        slope = [objective.gradient_factor * g + (objective.alpha / total) * w
                 for g, w in zip(gradients.weights, arrays)]
        return last, _flat([*slope, *(objective.gradient_factor * g for g in gradients.biases)])

    def after_iteration(x: Array) -> None:
        nonlocal iterations, reached, value
        iterations, reached, value = iterations + 1, x.copy(), last
        if callback is not None:
            put(x)
            if callback(iterations - 1, value):
                raise _Enough

    options = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
    if PRINTS:
        options["iprint"] = 1 if verbose is True or verbose >= 1 else -1
    try:
        found = scipy_minimize(loss_and_gradient, reached, method="L-BFGS-B", jac=True, options=options,
                               callback=after_iteration)
    except (KeyboardInterrupt, _Enough) as interruption:
        put(reached)
        if isinstance(interruption, KeyboardInterrupt):
            warnings.warn("Training interrupted by user.", stacklevel=2)
        return float(value), iterations
    except BaseException:
        put(reached)
        raise
    put(found.x)
    iterations = min(int(found.nit), max_iter)
    if found.status != 0:
        advice = f"\nIncrease max_iter (now {max_iter}) for it to converge." if iterations == max_iter else ""
        warn_of_convergence(f"lbfgs failed to converge after {iterations} iteration(s) "
                            f"(status={found.status}):\n{found.message}\n{advice}\nScaled data may help: "
                            "https://scikit-learn.org/stable/modules/preprocessing.html")
    return float(found.fun), iterations


def _flat(arrays: Any) -> Array:
    return np.concatenate([array.ravel() for array in arrays])
