"""What scikit-learn's MLPs pickle, in this library's terms."""
from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
import sklearn
from sklearn.exceptions import InconsistentVersionWarning

from fastmlp import MLP
from fastmlp.sklearn._solvers import SGDSolver, Solver, solver_for

__all__ = ["attributes_from", "is_theirs", "solver_from"]

KEPT_APART = {"coefs_", "intercepts_", "_optimizer", "_best_coefs", "_best_intercepts", "_coef_indptr",
              "_intercept_indptr", "_sklearn_version"}


def is_theirs(state: dict[str, Any]) -> bool:
    """Whether it lacks the parameters that this library adds."""
    return "n_threads" not in state


def attributes_from(state: dict[str, Any], cls: type) -> dict[str, Any]:
    """Attributes of an object of ours; coefs_ and intercepts_ as `_assigned`."""
    version = state.get("_sklearn_version", sklearn.__version__)
    if version != sklearn.__version__:
        warnings.warn(InconsistentVersionWarning(estimator_name=cls.__name__,
                                                 current_sklearn_version=sklearn.__version__,
                                                 original_sklearn_version=version), stacklevel=3)
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if "__init__" in vars(base):
            found |= {name: parameter.default
                      for name, parameter in inspect.signature(vars(base)["__init__"]).parameters.items()
                      if parameter.default is not parameter.empty}
    found |= {name: value for name, value in state.items() if name not in KEPT_APART}
    if "coefs_" in state:
        found["_assigned"] = {name: state[name] for name in ("coefs_", "intercepts_")}
        found["val_loss_curve_"] = None
    return found


def solver_from(theirs: Any, estimator: Any, model: MLP, factor: float) -> Solver:
    """The solver that goes on where scikit-learn's optimizer stands.

    Its gradients are `factor` times ours. Its velocity holds the learning rate: v = -lr factor v_ours.
    """
    solver = solver_for(estimator, factor)
    count = len(model.weights)
    steps = 0

    def slot(name: str, arrays: Any, scale: float) -> dict[str, Any]:
        named = {f"{name}.{'weights' if i < count else 'biases'}.{i % count}": np.asarray(array) * scale
                 for i, array in enumerate(arrays)}
        return {key: array.astype(model.dtype) for key, array in named.items()}

    if isinstance(solver, SGDSolver):
        rate = float(theirs.learning_rate)
        solver.optimizer.lr = rate * factor
        solver.learning_rate = rate
        slots = slot("velocity", theirs.velocities, -1 / (rate * factor)) if estimator.momentum else {}
    else:
        steps = int(theirs.t)
        slots = slot("first_moment", theirs.ms, 1 / factor)
        slots |= slot("second_moment", theirs.vs, 1 / factor**2)
    solver.optimizer.set_state(model, {"step": np.array(steps), **slots})
    return solver
