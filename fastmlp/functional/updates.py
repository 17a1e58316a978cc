"""Steps of the optimizers, in place."""
from __future__ import annotations

from typing import Any

import numpy as np  # noqa: F401  (the examples)
from numpy.typing import ArrayLike

from fastmlp import backends, checks
from fastmlp.optimizers import SMALLEST

from ._door import Array, done, first_chance, plain

__all__ = ["adagrad_update", "adam_update", "rmsprop_update", "sgd_update"]


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
    zero) where momentum is not 0. lr >= 0 is the learning rate, 0 <= momentum < 1, weight_decay >= 0
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
    numbers = {"lr": checks.number("lr", lr, low=0.0), "momentum": checks.below_one("momentum", momentum),
               "weight_decay": checks.number("weight_decay", weight_decay, low=0.0)}
    if velocity is None:
        if numbers["momentum"]:
            raise ValueError("velocity: expected an array like param where momentum is not 0, got None")
        _update("sgd_update", param, grad, {}, **numbers)
    else:
        _update("sgd_update", param, grad, {"velocity": velocity}, nesterov=bool(nesterov), **numbers)


@first_chance
def adagrad_update(
    param: Array,
    grad: ArrayLike,
    lr: float,
    squares: Array,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
) -> None:
    """One step of AdaGrad, in place: with g = grad + weight_decay param,

        squares = squares + g^2
        param = param - lr g / (sqrt(squares) + eps)

    param, grad and squares (start it at zero; it must not be negative) have one shape, any, and one dtype;
    param and squares are changed. lr >= 0, eps > 0, weight_decay >= 0.

    Raises TypeError for a wrong dtype or a param or squares that is not a NumPy array; ValueError for two
    shapes, read-only or overlapping arrays, numbers out of range.

    Source: Duchi, Hazan, Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
    Optimization", JMLR 12, 2011, in the form of torch.optim.Adagrad.

    >>> param, squares = np.array([1.0]), np.array([0.0])
    >>> adagrad_update(param, np.array([2.0]), lr=0.1, squares=squares)
    >>> param, squares
    (array([0.9]), array([4.]))
    """
    _update("adagrad_update", param, grad, {"squares": squares}, lr=checks.number("lr", lr, low=0.0),
            eps=checks.number("eps", eps, low=SMALLEST),
            weight_decay=checks.number("weight_decay", weight_decay, low=0.0))


@first_chance
def rmsprop_update(
    param: Array,
    grad: ArrayLike,
    lr: float,
    squares: Array,
    rho: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """One step of RMSprop, in place: with g = grad + weight_decay param,

        squares = rho squares + (1 - rho) g^2
        param = param - lr g / (sqrt(squares) + eps)

    param, grad and squares (start it at zero; it must not be negative) have one shape, any, and one dtype;
    param and squares are changed. lr >= 0, 0 <= rho < 1, eps > 0, weight_decay >= 0.

    Raises TypeError for a wrong dtype or a param or squares that is not a NumPy array; ValueError for two
    shapes, read-only or overlapping arrays, numbers out of range.

    Source: Tieleman, Hinton, "Lecture 6.5: rmsprop", 2012, in the form of torch.optim.RMSprop.

    >>> param, squares = np.array([1.0]), np.array([0.0])
    >>> rmsprop_update(param, np.array([2.0]), lr=0.1, squares=squares, rho=0.75)
    >>> param.round(6), squares
    (array([0.8]), array([1.]))
    """
    _update("rmsprop_update", param, grad, {"squares": squares}, lr=checks.number("lr", lr, low=0.0),
            rho=checks.below_one("rho", rho), eps=checks.number("eps", eps, low=SMALLEST),
            weight_decay=checks.number("weight_decay", weight_decay, low=0.0))


@first_chance
def adam_update(
    param: Array,
    grad: ArrayLike,
    lr: float,
    first_moment: Array,
    second_moment: Array,
    step: int,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> None:
    """Step t = `step` (1, 2, ...) of Adam, in place: with g = grad + weight_decay param,

        first_moment = beta1 first_moment + (1 - beta1) g
        second_moment = beta2 second_moment + (1 - beta2) g^2
        param = param - lr / (1 - beta1^t) first_moment / (sqrt(second_moment) / sqrt(1 - beta2^t) + eps)

    or, decoupled (AdamW), with g = grad and after param = param - lr weight_decay param.

    param, grad and both moments (start them at zero; the second must not be negative) have one shape, any,
    and one dtype; all but grad are changed. lr >= 0, 0 <= beta1, beta2 < 1, eps > 0, weight_decay >= 0.

    Raises TypeError for a wrong dtype, a step that is no integer, or a param or moment that is not a NumPy
    array; ValueError for two shapes, read-only or overlapping arrays, numbers out of range.

    Source: Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015; Loshchilov, Hutter,
    "Decoupled Weight Decay Regularization", ICLR 2019; in the form of torch.optim.

    >>> param, m, v = np.array([1.0]), np.array([0.0]), np.array([0.0])
    >>> adam_update(param, np.array([2.0]), lr=0.1, first_moment=m, second_moment=v, step=1)
    >>> param.round(6), m.round(6), v.round(6)
    (array([0.9]), array([0.2]), array([0.004]))
    """
    _update("adam_update", param, grad, {"first_moment": first_moment, "second_moment": second_moment},
            lr=checks.number("lr", lr, low=0.0), step=checks.integer("step", step, low=1),
            beta1=checks.below_one("beta1", beta1), beta2=checks.below_one("beta2", beta2),
            eps=checks.number("eps", eps, low=SMALLEST),
            weight_decay=checks.number("weight_decay", weight_decay, low=0.0), decoupled=bool(decoupled))


def _update(name: str, param: Array, grad: ArrayLike, slots: dict[str, Array], **numbers: Any) -> None:
    """Check the arrays; run on plain copies where a compiled backend needs them, and write those back."""
    checks.writeable("param", param)
    for slot, array in slots.items():
        checks.writeable(slot, array)
    originals = {"param": param, "grad": checks.as_array("grad", grad), **slots}
    arrays = dict(zip(originals, checks.operands(**originals), strict=True))
    checks.same_shape(**originals)
    checks.apart(**originals)
    backend = backends.active()
    used = {key: plain(array) for key, array in originals.items()} if backend.COMPILED else {
        **originals, "grad": arrays["grad"]}
    done(name, getattr(backend, name)(**used, **numbers))
    for key in ("param", *slots):
        if used[key] is not originals[key]:
            originals[key][...] = used[key]
