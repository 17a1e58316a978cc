"""What the constructors' parameters may be, checked when `fit` begins."""
from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn import config_context, get_config
from sklearn.utils._param_validation import (
    Interval,
    Options,
    StrOptions,
    make_constraint,
    validate_parameter_constraints,
)

from fastmlp import BatchNorm
from fastmlp.activations import BY_NAME as ACTIVATIONS
from fastmlp.activations import Activation
from fastmlp.losses import BY_NAME as LOSSES
from fastmlp.losses import Loss
from fastmlp.optimizers import Optimizer
from fastmlp.schedules import Schedule

__all__ = ["COMMON", "Constraints", "checked", "losses_or"]


class Constraints(dict[str, list[Any]]):
    """What each parameter may be, as scikit-learn's `validate_parameter_constraints` takes it."""

    @cached_property
    def tests(self) -> dict[str, list[Callable[[Any], bool]]]:
        """The same as functions of the value, one of which has to hold: made once, for they take longer to
        make than to call."""
        return {name: [make_constraint(constraint).is_satisfied_by for constraint in constraints]
                for name, constraints in self.items()}

    @cached_property
    def passed(self) -> dict[str, Any]:
        """The last value of each parameter that passed, of those that never change: mostly the default."""
        return {}

    def hold(self, values: dict[str, Any]) -> bool:
        """Whether all these parameters are there, and what they may be."""
        for name, tests in self.tests.items():
            if name not in values:
                return False
            value = values[name]
            if value is self.passed.get(name, tests):
                continue
            if not any(test(value) for test in tests):
                return False
            if value is None or isinstance(value, (str, int, float)):
                self.passed[name] = value
        return True


COMMON = Constraints({
    "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
    "activation": [StrOptions({"logistic", *ACTIVATIONS}), Activation, type, list, tuple],
    "solver": [StrOptions({"lbfgs", "sgd", "adam"})],
    "alpha": [Interval(Real, 0, None, closed="left")],
    "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
    "learning_rate_init": [Interval(Real, 0, None, closed="neither"), Schedule, callable],
    "power_t": [Interval(Real, 0, None, closed="left")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "shuffle": ["boolean"],
    "random_state": ["random_state"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "verbose": ["verbose"],
    "warm_start": ["boolean"],
    "momentum": [Interval(Real, 0, 1, closed="both")],
    "nesterovs_momentum": ["boolean"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="left")],
    "beta_1": [Interval(Real, 0, 1, closed="left")],
    "beta_2": [Interval(Real, 0, 1, closed="left")],
    "epsilon": [Interval(Real, 0, None, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
    "max_fun": [Interval(Integral, 1, None, closed="left")],
    "optimizer": [Optimizer, None],
    "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
    "batch_norm": ["boolean", BatchNorm, list, tuple],
    "validation_data": [tuple, list, None],
    "callbacks": [list, tuple],
    "progress": ["boolean", StrOptions({"bar", "log"})],
    "n_threads": [Interval(Integral, 1, 256, closed="both"), None],
    "compute_dtype": [StrOptions({"bfloat16"}), None],
})


def losses_or(*names: str) -> list[Any]:
    """Constraints of a loss that has these names in scikit-learn."""
    return [StrOptions({*names, *LOSSES}), Loss, type, callable]


def checked(estimator: Any, constraints: Constraints) -> AbstractContextManager[Any]:
    """A context for what `fit` calls, whose parameters are not checked in their turn.

    Raises scikit-learn's error, a ValueError and a TypeError, for a parameter that does not fit.
    """
    if not get_config()["skip_parameter_validation"] and not constraints.hold(vars(estimator)):
        # The parameters of a subclass may be others.
        validate_parameter_constraints(constraints, estimator.get_params(deep=False),
                                       type(estimator).__name__)
    context: AbstractContextManager[Any] = config_context(skip_parameter_validation=True)
    return context
