"""Stochastic solvers as scikit-learn defines them, on optimizers of this library.

scikit-learn sums a loss over the outputs where this library takes the mean, and halves squares: its gradient
is `factor` times this one. A step of SGD takes the factor into the learning rate, one of Adam into eps; in
both alpha is divided by it.
"""
from __future__ import annotations

from typing import Any

from fastmlp import MLP, SGD, Adam
from fastmlp.optimizers import SMALLEST, Optimizer

__all__ = ["AdamSolver", "OwnOptimizer", "SGDSolver", "Solver", "solver_for"]

BELOW_ONE = 1 - 2.0 ** -53      # scikit-learn takes a momentum of 1


class Solver:
    """An optimizer, and the learning rate that scikit-learn calls so.

    optimizer       of fastmlp.optimizers
    factor          of the gradient
    learning_rate   of the next step
    """

    def __init__(self, optimizer: Optimizer, factor: float, learning_rate: Any) -> None:
        self.optimizer = optimizer
        self.factor = factor
        self.learning_rate = learning_rate

    def penalty(self, recorded: Any) -> Any:
        """The penalty in the loss that is reported, from the one that this library records."""
        return self.factor * recorded

    def follow(self, estimator: Any) -> None:
        """Take over what scikit-learn reads from the estimator at every step."""
        self.optimizer.weight_decay = estimator.alpha / self.factor

    def epoch_ends(self, model: MLP, samples_seen: int) -> None:
        """The learning rate of the next epoch."""

    def stops(self, model: MLP, message: str, verbose: Any) -> bool:
        """Whether an epoch without improvement ends the training."""
        if verbose:
            print(message + " Stopping.")
        return True


class AdamSolver(Solver):
    """Adam, whose eps is the paper's epsilon hat."""

    def __init__(self, estimator: Any, factor: float) -> None:
        rate = estimator.learning_rate_init
        rate = rate if callable(rate) else float(rate)
        optimizer = Adam(rate, estimator.beta_1, estimator.beta_2, max(estimator.epsilon / factor, SMALLEST),
                         weight_decay=estimator.alpha / factor, divide_penalty=True, eps_hat=True)
        super().__init__(optimizer, factor, rate)


class SGDSolver(Solver):
    """SGD with momentum, whose velocity holds the learning rate: v = momentum v - lr g, p = p + v.

    This library's velocity, v = momentum v + g and p = p - lr v, takes the same steps while the learning rate
    stays; where it changes, the velocity is scaled by old over new.
    """

    def __init__(self, estimator: Any, factor: float) -> None:
        rate = estimator.learning_rate_init
        momentum = min(float(estimator.momentum), BELOW_ONE)
        optimizer = SGD(_times(rate, factor), momentum, bool(momentum and estimator.nesterovs_momentum),
                        estimator.alpha / factor, divide_penalty=True)
        super().__init__(optimizer, factor, rate if callable(rate) else float(rate))
        self.mode = estimator.learning_rate
        self.first_rate = rate
        self.power_t = estimator.power_t

    def epoch_ends(self, model: MLP, samples_seen: int) -> None:
        if self.mode == "invscaling":
            self._change(model, float(self.first_rate) / (samples_seen + 1) ** self.power_t)

    def stops(self, model: MLP, message: str, verbose: Any) -> bool:
        if self.mode != "adaptive":
            return super().stops(model, message, verbose)
        if self.learning_rate <= 1e-6:
            if verbose:
                print(message + " Learning rate too small. Stopping.")
            return True
        self._change(model, self.learning_rate / 5.0)
        if verbose:
            print(message + f" Setting learning rate to {self.learning_rate:f}")
        return False

    def _change(self, model: MLP, rate: float) -> None:
        """Another learning rate, at which what has been set in motion goes on at its pace."""
        if rate == self.learning_rate:
            return
        state = self.optimizer.get_state(model)
        for name, array in state.items():
            if name.startswith("velocity."):
                array *= self.learning_rate / rate
        self.optimizer.set_state(model, state)
        self.optimizer.lr = rate * self.factor
        self.learning_rate = rate


class OwnOptimizer(Solver):
    """An optimizer of the caller's, as it is."""

    def __init__(self, optimizer: Optimizer) -> None:
        super().__init__(optimizer, 1.0, getattr(optimizer, "lr", None))

    def follow(self, estimator: Any) -> None:
        """Its settings are its own."""


def solver_for(estimator: Any, factor: float) -> Solver:
    """The solver that the parameters of an estimator ask for."""
    if callable(estimator.learning_rate_init) and estimator.learning_rate != "constant":
        raise ValueError(f"learning_rate: expected 'constant' with a schedule as learning_rate_init, got "
                         f"{estimator.learning_rate!r}")
    return (SGDSolver if estimator.solver == "sgd" else AdamSolver)(estimator, factor)


class Scaled:
    """A learning rate times a factor: a function of the step."""

    def __init__(self, rate: Any, factor: float) -> None:
        self.rate = rate
        self.factor = factor

    def __call__(self, step: int) -> float:
        return float(self.rate(step)) * self.factor


def _times(rate: Any, factor: float) -> Any:
    if not callable(rate):
        return rate * factor
    return rate if factor == 1 else Scaled(rate, factor)
