"""Steps of the optimizers, in place."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np  # noqa: F401  (the examples)

from fastmlp import backends
from fastmlp._core import checks
from fastmlp.optimizers import SMALLEST

from ._dispatch import done, fast_path, plain

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array

__all__ = ["adagrad_update", "adam_update", "rmsprop_update", "sgd_update"]


@fast_path
def sgd_update(
    param: Array,
    grad: ArrayLike,
    lr: float,
    momentum: float = 0.0,
    velocity: Array | None = None,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None:
    """Take one step of stochastic gradient descent, in place.

    With g = grad + weight_decay param::

        param = param - lr g                                            without momentum

        velocity = momentum velocity + g
        param = param - lr velocity                                     with momentum
        param = param - lr (g + momentum velocity)                      with momentum and nesterov

    Parameters
    ----------
    param : ndarray of float32 or float64, any shape
        Parameter; it is changed.
    grad : array_like, shape and dtype of ``param``
        Gradient of the loss.
    lr : float
        Learning rate, >= 0.
    momentum : float, default 0.0
        Share of the velocity that is kept, from 0 to below 1.
    velocity : ndarray, shape and dtype of ``param``, optional
        State; it is changed where ``momentum`` is not 0. Start it at zero.
    nesterov : bool, default False
        Whether to use Nesterov's momentum.
    weight_decay : float, default 0.0
        Factor >= 0 of an L2 penalty of ``weight_decay/2 |param|^2``.

    Raises
    ------
    TypeError
        For a wrong dtype, or a ``param`` or ``velocity`` that is not a NumPy array.
    ValueError
        For momentum without velocity, two shapes, read-only or overlapping arrays, and numbers out of range.

    See Also
    --------
    fastmlp.SGD : The same for the parameters of a model.

    References
    ----------
    Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep learning",
    ICML 2013, in the form of torch.optim.SGD.

    Examples
    --------
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


@fast_path
def adagrad_update(
    param: Array,
    grad: ArrayLike,
    lr: float,
    squares: Array,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
) -> None:
    """Take one step of AdaGrad, in place.

    With g = grad + weight_decay param::

        squares = squares + g^2
        param = param - lr g / (sqrt(squares) + eps)

    Parameters
    ----------
    param : ndarray of float32 or float64, any shape
        Parameter; it is changed.
    grad : array_like, shape and dtype of ``param``
        Gradient of the loss.
    lr : float
        Learning rate, >= 0.
    squares : ndarray, shape and dtype of ``param``
        Sum of squared gradients, >= 0; it is changed. Start it at zero.
    eps : float, default 1e-10
        Number > 0 against division by 0.
    weight_decay : float, default 0.0
        Factor >= 0 of an L2 penalty of ``weight_decay/2 |param|^2``.

    Raises
    ------
    TypeError
        For a wrong dtype, or a ``param`` or ``squares`` that is not a NumPy array.
    ValueError
        For two shapes, read-only or overlapping arrays, and numbers out of range.

    See Also
    --------
    fastmlp.AdaGrad : The same for the parameters of a model.

    References
    ----------
    Duchi, Hazan, Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", JMLR
    12, 2011, in the form of torch.optim.Adagrad.

    Examples
    --------
    >>> param, squares = np.array([1.0]), np.array([0.0])
    >>> adagrad_update(param, np.array([2.0]), lr=0.1, squares=squares)
    >>> param, squares
    (array([0.9]), array([4.]))
    """
    _update("adagrad_update", param, grad, {"squares": squares}, lr=checks.number("lr", lr, low=0.0),
            eps=checks.number("eps", eps, low=SMALLEST),
            weight_decay=checks.number("weight_decay", weight_decay, low=0.0))


@fast_path
def rmsprop_update(
    param: Array,
    grad: ArrayLike,
    lr: float,
    squares: Array,
    rho: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """Take one step of RMSprop, in place.

    With g = grad + weight_decay param::

        squares = rho squares + (1 - rho) g^2
        param = param - lr g / (sqrt(squares) + eps)

    Parameters
    ----------
    param : ndarray of float32 or float64, any shape
        Parameter; it is changed.
    grad : array_like, shape and dtype of ``param``
        Gradient of the loss.
    lr : float
        Learning rate, >= 0.
    squares : ndarray, shape and dtype of ``param``
        Mean of squared gradients, >= 0; it is changed. Start it at zero.
    rho : float, default 0.99
        Share of ``squares`` that is kept, from 0 to below 1.
    eps : float, default 1e-8
        Number > 0 against division by 0.
    weight_decay : float, default 0.0
        Factor >= 0 of an L2 penalty of ``weight_decay/2 |param|^2``.

    Raises
    ------
    TypeError
        For a wrong dtype, or a ``param`` or ``squares`` that is not a NumPy array.
    ValueError
        For two shapes, read-only or overlapping arrays, and numbers out of range.

    See Also
    --------
    fastmlp.RMSprop : The same for the parameters of a model.

    References
    ----------
    Tieleman, Hinton, "Lecture 6.5: rmsprop", 2012, in the form of torch.optim.RMSprop.

    Examples
    --------
    >>> param, squares = np.array([1.0]), np.array([0.0])
    >>> rmsprop_update(param, np.array([2.0]), lr=0.1, squares=squares, rho=0.75)
    >>> param.round(6), squares
    (array([0.8]), array([1.]))
    """
    _update("rmsprop_update", param, grad, {"squares": squares}, lr=checks.number("lr", lr, low=0.0),
            rho=checks.below_one("rho", rho), eps=checks.number("eps", eps, low=SMALLEST),
            weight_decay=checks.number("weight_decay", weight_decay, low=0.0))


@fast_path
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
    """Take one step of Adam or AdamW, in place.

    With g = grad + weight_decay param and t = step::

        first_moment = beta1 first_moment + (1 - beta1) g
        second_moment = beta2 second_moment + (1 - beta2) g^2
        param = param - lr / (1 - beta1^t) first_moment / (sqrt(second_moment) / sqrt(1 - beta2^t) + eps)

    or, decoupled (AdamW), with g = grad and after ``param = param - lr weight_decay param``.

    Parameters
    ----------
    param : ndarray of float32 or float64, any shape
        Parameter; it is changed.
    grad : array_like, shape and dtype of ``param``
        Gradient of the loss.
    lr : float
        Learning rate, >= 0.
    first_moment : ndarray, shape and dtype of ``param``
        Mean of gradients; it is changed. Start it at zero.
    second_moment : ndarray, shape and dtype of ``param``
        Mean of squared gradients, >= 0; it is changed. Start it at zero.
    step : int
        Number t of this step, from 1 on.
    beta1 : float, default 0.9
        Share of ``first_moment`` that is kept, from 0 to below 1.
    beta2 : float, default 0.999
        Share of ``second_moment`` that is kept, from 0 to below 1.
    eps : float, default 1e-8
        Number > 0 against division by 0.
    weight_decay : float, default 0.0
        Factor >= 0 of an L2 penalty of ``weight_decay/2 |param|^2``; or the share, times ``lr``, that
        decoupled decay takes from ``param``.
    decoupled : bool, default False
        Whether weight decay acts on ``param`` itself, as in AdamW, and not on the gradient.

    Raises
    ------
    TypeError
        For a wrong dtype, a step that is not an integer, or a ``param`` or moment that is not a NumPy array.
    ValueError
        For two shapes, read-only or overlapping arrays, and numbers out of range.

    See Also
    --------
    fastmlp.Adam : The same for the parameters of a model.
    fastmlp.AdamW : The same with decoupled weight decay.

    References
    ----------
    Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.

    Loshchilov, Hutter, "Decoupled Weight Decay Regularization", ICLR 2019; both in the form of torch.optim.

    Examples
    --------
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
