"""Steps of the optimizers, in place."""
from __future__ import annotations

import numpy as np  # noqa: F401  (the examples)
from numpy.typing import ArrayLike

from fastmlp import backends, checks

from ._door import Array, done, first_chance, plain

__all__ = ["sgd_update"]


@first_chance
def sgd_update(
    param: Array,
    grad: ArrayLike,
    lr: float,
    momentum: float = 0.0,
    velocity: Array | None = None,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """param -= lr step, in place, with g = grad + weight_decay param and

        step = g                                        without momentum
        velocity = momentum velocity + g; step = velocity               with momentum
        velocity = momentum velocity + g; step = g + momentum velocity  with momentum and nesterov

    param, grad and velocity have one shape, any, and one dtype; param is changed, and velocity (start it at
    zero) where momentum is not 0. lr >= 0 is the learning rate, momentum is from 0 to 1, weight_decay >= 0
    the factor of an L2 penalty of weight_decay/2 |param|^2.

    Raises TypeError for a wrong dtype or a param or velocity that is not a NumPy array; ValueError for
    momentum without velocity, two shapes, read-only or overlapping arrays, numbers out of range.

    Source: Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep
    learning", ICML 2013, in the form of torch.optim.SGD.

    >>> param, velocity = np.array([1.0]), np.array([0.0])
    >>> sgd_update(param, np.array([2.0]), lr=0.1, momentum=0.9, velocity=velocity)
    >>> param, velocity
    (array([0.8]), array([2.]))
    """
    checks.writeable("param", param)
    grad = checks.operands(param=param, grad=grad)[1]
    arrays = {"param": param, "grad": grad}
    numbers = checks.number("lr", lr, low=0.0), checks.number("momentum", momentum, low=0.0, high=1.0)
    weight_decay = checks.number("weight_decay", weight_decay, low=0.0)
    if velocity is not None:
        checks.writeable("velocity", velocity)
        checks.operands(param=param, velocity=velocity)
        arrays["velocity"] = velocity
    elif numbers[1]:
        raise ValueError("velocity: expected an array like param where momentum is not 0, got None")
    checks.same_shape(**arrays)
    checks.apart(**arrays)
    _sgd_update(param, grad, numbers, velocity, bool(nesterov), weight_decay)


def _sgd_update(
    param: Array,
    grad: Array,
    numbers: tuple[float, float],
    velocity: Array | None,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """Run on plain copies where a compiled backend needs them, and write those back."""
    backend = backends.active()
    p, g, v = param, grad, velocity
    if backend.COMPILED:
        p, g = plain(param), plain(grad)
        v = None if velocity is None else plain(velocity)
    done("sgd_update", backend.sgd_update(p, g, *numbers, v, nesterov, weight_decay))
    if p is not param:
        param[...] = p
    if velocity is not None and v is not velocity:
        velocity[...] = v
