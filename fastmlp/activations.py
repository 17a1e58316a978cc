"""Activation functions: what a layer does to x w + b.

Why there are any: a layer without one is the affine map x w + b, and a chain of affine maps is one affine
map, x (w1 w2) + (b1 w2 + b2). However deep, a network without activations can only draw straight lines
through its data; XOR is already out of reach. One bend per unit is enough to approximate any continuous
function on a bounded set as closely as the width allows (Cybenko 1989; Hornik 1991; Leshno et al. 1993).

The classes here are names with parameters. The formulas in NumPy are in `fastmlp.backends.numpy`, the
kernels in `fastmlp/kernels/activations.pxi`; both find an activation by its `name` and `code`.
The derivative is written in terms of the output y = f(z), so that z need not be kept for the way back.

Another activation is another class here, another pair of functions there, and nothing else.
"""
from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import ClassVar

from fastmlp import checks

__all__ = ["Activation", "Identity", "ReLU", "LeakyReLU", "Sigmoid", "Tanh", "resolve"]


@dataclass(frozen=True)
class Activation:
    """What every activation has: a `name`, the `code` the kernels know it by, `alpha` (0 where unused)."""

    name: ClassVar[str]
    code: ClassVar[int]
    alpha: float = field(default=0.0, init=False, repr=False)


@dataclass(frozen=True)
class Identity(Activation):
    """f(z) = z; f'(z) = 1.

    The activation of the last layer: logits and regression values may be any real number. Between two
    layers it makes them one (see the top of this module).

    >>> Identity().name
    'identity'
    """

    name = "identity"
    code = 0


@dataclass(frozen=True)
class ReLU(Activation):
    """f(z) = max(z, 0); f'(z) = 1 where y > 0, else 0 (also at z = 0).

    The rectified linear unit: one comparison, and a derivative of exactly 1 on the active side, so that
    gradients pass through many layers without shrinking. Its price is the *dead* unit: when a large step
    makes z negative for every sample, the output and the gradient are 0 everywhere and no later step can
    bring the unit back. Signs of it are units that are 0 for the whole training set. Remedies are a smaller
    learning rate, He initialisation, or `LeakyReLU`.

    NaN stays NaN; f(-inf) = 0.

    Source: Nair, Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines", ICML 2010;
    Glorot, Bordes, Bengio, "Deep Sparse Rectifier Neural Networks", AISTATS 2011.

    >>> ReLU()
    ReLU()
    """

    name = "relu"
    code = 1


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """f(z) = z where z > 0, else alpha z; f'(z) = 1 where y > 0, else alpha.

    A ReLU that leaks: on the inactive side a small slope alpha remains, so that a unit which is negative for
    every sample still has a gradient and can recover; no unit is ever dead. alpha = 0 is ReLU, alpha = 1 the
    identity. alpha must be finite and not negative, for the sign of y must tell that of z.

    Raises TypeError or ValueError for any other alpha.

    Source: Maas, Hannun, Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", ICML 2013.

    >>> LeakyReLU(alpha=0.2)
    LeakyReLU(alpha=0.2)
    """

    name = "leaky_relu"
    code = 2
    alpha: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", checks.number("alpha", self.alpha, low=0.0))


@dataclass(frozen=True)
class Sigmoid(Activation):
    """f(z) = 1 / (1 + exp(-z)); f'(z) = y (1 - y).

    The logistic function squeezes any real number into (0, 1) and reads as a probability. Between layers it
    suffers from *saturation*: for |z| > 5 the curve is flat, y (1 - y) < 0.007, and the unit stops learning.
    The derivative is at most 1/4 (at z = 0), so that each sigmoid layer shrinks the gradient at least
    fourfold unless the weights make up for it: *vanishing gradients*, ten layers leave less than a millionth.
    Its outputs are also all positive, which makes all weight gradients of a unit share one sign. Prefer
    ReLU or tanh inside the network.

    Never overflows: f(-inf) = 0, f(inf) = 1.

    Source: Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323,
    1986; Hochreiter, "Untersuchungen zu dynamischen neuronalen Netzen", 1991 (vanishing gradients).

    >>> Sigmoid().alpha
    0.0
    """

    name = "sigmoid"
    code = 3


@dataclass(frozen=True)
class Tanh(Activation):
    """f(z) = tanh(z) = (exp(z) - exp(-z)) / (exp(z) + exp(-z)); f'(z) = 1 - y^2.

    A sigmoid stretched to (-1, 1): tanh(z) = 2 sigmoid(2 z) - 1. Its outputs are centred on 0, and its
    derivative reaches 1 (at z = 0), four times that of the sigmoid, so that gradients fade later. It still
    saturates: for |z| > 3, 1 - y^2 < 0.01. Glorot initialisation keeps z in the middle, at the start.

    Source: LeCun, Bottou, Orr, Mueller, "Efficient BackProp", 1998.

    >>> Tanh() == Tanh()
    True
    """

    name = "tanh"
    code = 4


BY_NAME: dict[str, type[Activation]] = {cls.name: cls for cls in (Identity, ReLU, LeakyReLU, Sigmoid, Tanh)}
_DEFAULTS = {name: cls() for name, cls in BY_NAME.items()}


def resolve(activation: str | Activation | type[Activation]) -> Activation:
    """The activation meant by a name, an object or a class of this module.

    Raises ValueError for an unknown name (it lists the known ones and the nearest), TypeError for anything
    that is neither.

    >>> resolve("relu")
    ReLU()
    >>> resolve(LeakyReLU(0.1))
    LeakyReLU(alpha=0.1)
    >>> resolve("rellu")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: activation: unknown name 'rellu', expected one of: identity, relu, ...; did you mean 'relu'?
    """
    if isinstance(activation, str):
        try:
            return _DEFAULTS[activation]
        except KeyError:
            near = difflib.get_close_matches(activation.lower(), BY_NAME, n=1)
            raise ValueError(
                f"activation: unknown name {activation!r}, expected one of: {', '.join(BY_NAME)}"
                + (f"; did you mean {near[0]!r}?" if near else "")
            ) from None
    if isinstance(activation, type) and issubclass(activation, Activation) and activation in BY_NAME.values():
        return activation()
    if isinstance(activation, Activation) and type(activation) in BY_NAME.values():
        return activation
    raise TypeError(f"activation: expected a name or an object of fastmlp.activations, got {activation!r}")
