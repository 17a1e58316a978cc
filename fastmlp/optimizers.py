"""Optimizers: how a gradient becomes a step. A small object of settings, and its state for every model."""
from __future__ import annotations

from weakref import WeakKeyDictionary

from fastmlp import checks
from fastmlp.layout import Parameters

__all__ = ["SGD", "Optimizer"]


class Optimizer:
    """What every optimizer has: a learning rate `lr`, and state that belongs to one model."""

    lr: float


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum, Nesterov's momentum and weight decay (L2).

        g = gradient + weight_decay w
        v = momentum v + g                      (v = 0 at first)
        w = w - lr v                            or w - lr (g + momentum v) with nesterov

    lr >= 0 and momentum from 0 to 1; weight_decay >= 0 acts on weights, never on biases. The gradient of one
    minibatch is a noisy estimate of that of the whole set: it costs a fraction, and its noise helps out of
    saddles and shallow local minima. Momentum averages it over the last 1 / (1 - momentum) steps.

    The velocity v belongs to a model: the same object can train several, and goes on where it was.

    Raises TypeError for settings that are no numbers, ValueError for settings out of range or
    nesterov without momentum.

    Source: Robbins, Monro, "A Stochastic Approximation Method", 1951; Polyak, 1964; Sutskever, Martens,
    Dahl, Hinton, "On the importance of initialization and momentum in deep learning", ICML 2013.

    >>> SGD(lr=0.1, momentum=0.9)
    SGD(lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
    """

    def __init__(
        self, lr: float = 0.01, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        self.lr = checks.number("lr", lr, low=0.0)
        self.momentum = checks.number("momentum", momentum, low=0.0, high=1.0)
        self.weight_decay = checks.number("weight_decay", weight_decay, low=0.0)
        self.nesterov = bool(nesterov)
        if nesterov and not momentum:
            raise ValueError("nesterov: needs a momentum above 0, got momentum 0")
        self._velocities: WeakKeyDictionary[Parameters, Parameters] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return (f"SGD(lr={self.lr}, momentum={self.momentum}, nesterov={self.nesterov}, "
                f"weight_decay={self.weight_decay})")

    def velocity(self, parameters: Parameters) -> Parameters | None:
        """The velocity of these parameters, live; None without momentum."""
        if not self.momentum:
            return None
        velocity = self._velocities.get(parameters)
        if velocity is None:
            velocity = self._velocities[parameters] = Parameters(parameters.sizes, parameters.dtype)
        return velocity
