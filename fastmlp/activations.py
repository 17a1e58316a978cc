"""Activation functions: what a layer does to x w + b.

Why there are any: a layer without one is the affine map x w + b, and a chain of affine maps is one affine
map, x (w1 w2) + (b1 w2 + b2). However deep, a network without activations can only draw straight lines
through its data; XOR is already out of reach. One bend per unit is enough to approximate any continuous
function on a bounded set as closely as the width allows (Cybenko 1989; Hornik 1991; Leshno et al. 1993).

What to choose: ReLU is the cheapest and a good start. Where units die, a function that is not flat below 0:
leaky ReLU, ELU. In deep plain networks without batch normalisation, SELU. The smooth gates z F(z), GELU and
SiLU, are what transformers use. Sigmoid and tanh saturate (see there): only where outputs must be bounded.

The classes here are names with parameters. The formulas in NumPy are in ``fastmlp.backends.numpy``, the
kernels in ``fastmlp/kernels/activations.pxi``; ``fastmlp/kernels/ops.py`` is the list of all, which gives the
classes ``code`` and ``from_output``.
The derivative is written in terms of the output y = f(z), so that the backward pass does not need z. GELU
and SiLU fall and rise again below 0, so that two z have one y; their derivative is in terms of z, and
``from_output`` is False.

How another one is added: docs/extending.md.
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from fastmlp._core import checks, names
from fastmlp.kernels import ops

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array

__all__ = [
    "Activation", "Identity", "ReLU", "LeakyReLU", "Sigmoid", "Tanh",
    "ELU", "SELU", "Softplus", "GELU", "GELUTanh", "SiLU", "resolve",
]


# "forward" and "backward", of arrays and a name: fastmlp.functional, which needs this module, puts them here.
array_functions: dict[str, Callable[..., Array]] = {}


def _array_function(which: str) -> Callable[..., Array]:
    if not array_functions:
        import_module("fastmlp.functional")
    return array_functions[which]


@dataclass(frozen=True)
class Activation:
    """Base class of all activations.

    An activation can be called, as the function of arrays that it is.

    Attributes
    ----------
    name : str
        Name by which `MLP` and files find the activation.
    code : int
        Number by which the kernels find it.
    from_output : bool
        Whether the derivative is a function of the output y = f(z), and not of the input z.
    alpha : float
        Parameter of the function; 0 where it has none.
    fitting_init : str
        Name of the initializer that ``init="auto"`` takes for the weights in front of it.

    See Also
    --------
    resolve : The activation of a name.

    Examples
    --------
    >>> isinstance(ReLU(), Activation)
    True
    >>> LeakyReLU(0.1)(np.array([-1.0, 2.0]))
    array([-0.1,  2. ])
    """

    name: ClassVar[str]
    code: ClassVar[int]
    from_output: ClassVar[bool]
    fitting_init: ClassVar[str] = "glorot_uniform"
    alpha: float = field(default=0.0, init=False, repr=False)

    def __call__(self, x: ArrayLike, *, out: Array | None = None) -> Array:
        """Compute f(x), element by element.

        Parameters
        ----------
        x : array_like of float32 or float64, any shape
            Input.
        out : ndarray, optional
            Array for the result, of the shape and dtype of ``x``; may be ``x`` itself. New if not given.

        Returns
        -------
        ndarray
            Result, of the shape and dtype of ``x``; ``out`` if given.

        Raises
        ------
        TypeError
            For a dtype other than float32 or float64.
        ValueError
            For an ``out`` of another shape, read-only, or overlapping ``x`` in part.
        """
        return _array_function("forward")(self.name, x, *self._options(), out=out)

    def derivative(self, x: ArrayLike) -> Array:
        """Compute f'(x), element by element.

        Parameters
        ----------
        x : array_like of float32 or float64, any shape
            Input.

        Returns
        -------
        ndarray
            Derivative, of the shape and dtype of ``x``.

        Raises
        ------
        TypeError
            For a dtype other than float32 or float64.
        """
        given = self(x) if self.from_output else checks.floating("x", checks.as_array("x", x))
        return _array_function("backward")(
            f"{self.name}_backward", np.ones_like(given), given, *self._options(), out=None)

    def _options(self) -> tuple[float, ...]:
        """What the array functions take besides arrays."""
        return (self.alpha,) if type(self).__dataclass_fields__["alpha"].init else ()


@dataclass(frozen=True)
class Identity(Activation):
    """Identity: the output is the input.

    Function and derivative::

        f(z) = z
        f'(z) = 1

    Notes
    -----
    The activation of the last layer: logits and regression values may be any real number. Between two layers
    it makes them one (see the top of this module).

    Examples
    --------
    >>> Identity().name
    'identity'
    """

    name = "identity"

    def __call__(self, x: ArrayLike, *, out: Array | None = None) -> Array:
        given = checks.as_array("x", x)
        x = checks.floating("x", given)
        checks.output("out", out, x.shape, x.dtype, {"x": given}, may_replace=("x",))
        result = np.empty(x.shape, x.dtype) if out is None else out
        result[...] = x
        return result

    def derivative(self, x: ArrayLike) -> Array:
        result: Array = np.ones_like(self(x))
        return result


@dataclass(frozen=True)
class ReLU(Activation):
    """Rectified linear unit.

    Function and derivative, with y = f(z)::

        f(z) = max(z, 0)
        f'(z) = 1 where y > 0, else 0 (also at z = 0)

    NaN stays NaN; f(-inf) = 0.

    Notes
    -----
    One comparison, and a derivative of exactly 1 on the active side, so that gradients pass through many
    layers without shrinking. Its price is the *dead* unit: when a large step makes z negative for every
    sample, the output and the gradient are 0 everywhere and no later step can bring the unit back. Signs of
    it are units that are 0 for the whole training set. Remedies are a smaller learning rate, He
    initialisation, or `LeakyReLU`.

    References
    ----------
    Nair, Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines", ICML 2010.

    Glorot, Bordes, Bengio, "Deep Sparse Rectifier Neural Networks", AISTATS 2011.

    Examples
    --------
    >>> ReLU()
    ReLU()
    """

    name = "relu"


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """Rectified linear unit with a small slope below 0.

    Function and derivative, with y = f(z)::

        f(z) = z where z > 0, else alpha z
        f'(z) = 1 where y > 0, else alpha

    Parameters
    ----------
    alpha : float, default 0.01
        Slope below 0, finite and >= 0, for the sign of y must be that of z. 0 is ReLU, 1 the identity.

    Raises
    ------
    TypeError
        If ``alpha`` is not a number.
    ValueError
        If ``alpha`` is negative or not finite.

    Notes
    -----
    On the inactive side a small slope remains, so that a unit which is negative for every sample still has a
    gradient and can recover: with alpha > 0 no unit is ever dead.

    References
    ----------
    Maas, Hannun, Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", ICML 2013.

    Examples
    --------
    >>> LeakyReLU(alpha=0.2)
    LeakyReLU(alpha=0.2)
    """

    name = "leaky_relu"
    alpha: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", checks.number("alpha", self.alpha, low=0.0))


@dataclass(frozen=True)
class Sigmoid(Activation):
    """Logistic function, from 0 to 1.

    Function and derivative, with y = f(z)::

        f(z) = 1 / (1 + exp(-z))
        f'(z) = y (1 - y)

    Never overflows: f(-inf) = 0, f(inf) = 1.

    Notes
    -----
    Squeezes any real number into (0, 1) and reads as a probability. Between layers it suffers from
    *saturation*: for ``|z| > 5`` the curve is flat, y (1 - y) < 0.007, and the unit stops learning. The
    derivative is at most 1/4 (at z = 0), so that each sigmoid layer shrinks the gradient at least fourfold
    unless the weights make up for it: *vanishing gradients*, ten layers leave less than a millionth. Its
    outputs are also all positive, which makes all weight gradients of a unit share one sign. Prefer ReLU or
    tanh inside the network.

    References
    ----------
    Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323, 1986.

    Hochreiter, "Untersuchungen zu dynamischen neuronalen Netzen", 1991 (vanishing gradients).

    Examples
    --------
    >>> Sigmoid().alpha
    0.0
    """

    name = "sigmoid"


@dataclass(frozen=True)
class Tanh(Activation):
    """Hyperbolic tangent, from -1 to 1.

    Function and derivative, with y = f(z)::

        f(z) = tanh(z) = (exp(z) - exp(-z)) / (exp(z) + exp(-z))
        f'(z) = 1 - y^2

    Notes
    -----
    A sigmoid stretched to (-1, 1): tanh(z) = 2 sigmoid(2 z) - 1. Its outputs are centred on 0, and its
    derivative reaches 1 (at z = 0), four times that of the sigmoid, so that gradients vanish later. It still
    saturates: for ``|z| > 3``, 1 - y^2 < 0.01. Glorot initialisation keeps z in the middle, at the start.

    References
    ----------
    LeCun, Bottou, Orr, Mueller, "Efficient BackProp", 1998.

    Examples
    --------
    >>> Tanh() == Tanh()
    True
    """

    name = "tanh"


@dataclass(frozen=True)
class ELU(Activation):
    """Exponential linear unit.

    Function and derivative, with y = f(z)::

        f(z) = z where z > 0, else alpha (exp(z) - 1)
        f'(z) = 1 where y > 0, else y + alpha

    f(-inf) = -alpha; NaN stays NaN.

    Parameters
    ----------
    alpha : float, default 1.0
        Negative of the lowest output, finite and >= 0, for the sign of y must be that of z. 0 is ReLU; with 1
        the derivative is continuous.

    Raises
    ------
    TypeError
        If ``alpha`` is not a number.
    ValueError
        If ``alpha`` is negative or not finite.

    Notes
    -----
    A ReLU that bends smoothly into a floor at -alpha. Like a leaky ReLU it is not flat just below 0, so that
    units recover; unlike it, it saturates far below, so that a unit which is off for good reasons has an
    output of bounded size. Negative outputs bring the mean of a layer towards 0, which is what the next layer
    learns fastest from.

    References
    ----------
    Clevert, Unterthiner, Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units
    (ELUs)", ICLR 2016.

    Examples
    --------
    >>> ELU()
    ELU(alpha=1.0)
    """

    name = "elu"
    alpha: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", checks.number("alpha", self.alpha, low=0.0))


@dataclass(frozen=True)
class SELU(Activation):
    """Scaled exponential linear unit, which normalises itself.

    Function and derivative, with y = f(z)::

        f(z) = s z where z > 0, else s a (exp(z) - 1)
        f'(z) = s where y > 0, else y + s a
        s = 1.0507009873554805, a = 1.6732632423543772

    f(-inf) = -s a = -1.7581; NaN stays NaN.

    Notes
    -----
    An ELU whose two constants make mean 0 and variance 1 a fixed point that attracts: in a plain chain of
    layers whose weights start with mean 0 and variance 1 / fan_in ("lecun_normal"), the signal normalises
    itself from layer to layer, without batch normalisation, and neither vanishes nor explodes.

    References
    ----------
    Klambauer, Unterthiner, Mayr, Hochreiter, "Self-Normalizing Neural Networks", NIPS 2017.

    Examples
    --------
    >>> SELU()
    SELU()
    """

    name = "selu"
    fitting_init = "lecun_normal"


@dataclass(frozen=True)
class Softplus(Activation):
    """Smooth ReLU, always positive.

    Function and derivative, with y = f(z)::

        f(z) = ln(1 + exp(z))
        f'(z) = 1 / (1 + exp(-z)) = 1 - exp(-y)

    Never overflows: f(-inf) = 0, and f(z) = z for large z.

    Notes
    -----
    Its derivative is the sigmoid, from 0 far below to 1 far above, and nowhere exactly 0. Always positive, so
    it also serves where an output must be (a variance, a rate). Like the sigmoid it is not centred on 0:
    softplus(0) = 0.693.

    References
    ----------
    Dugas, Bengio, Belisle, Nadeau, Garcia, "Incorporating Second-Order Functional Knowledge for Better Option
    Pricing", NIPS 2000.

    Examples
    --------
    >>> Softplus().name
    'softplus'
    """

    name = "softplus"


@dataclass(frozen=True)
class GELU(Activation):
    """Gaussian error linear unit, in its exact form.

    Function and derivative; the derivative needs z (``from_output`` is False)::

        f(z) = z P(z)
        f'(z) = P(z) + z exp(-z^2 / 2) / sqrt(2 pi)
        P(z) = (1 + erf(z / sqrt 2)) / 2

    f(-inf) = 0; NaN stays NaN.

    Notes
    -----
    P is the distribution function of the standard normal: the unit lets z through in proportion to how many
    inputs lie below it, where ReLU asks only for its sign. Smooth, and not monotone: it dips to -0.17 at
    z = -0.75 and comes back to 0, so that strongly negative units are off as in ReLU, but mildly negative
    ones still learn. The same function as PyTorch's ``nn.GELU()``.

    References
    ----------
    Hendrycks, Gimpel, "Gaussian Error Linear Units (GELUs)", arXiv:1606.08415, 2016.

    Examples
    --------
    >>> GELU().from_output
    False
    """

    name = "gelu"


@dataclass(frozen=True)
class GELUTanh(Activation):
    """Gaussian error linear unit, approximated by tanh.

    Function and derivative; the derivative needs z (``from_output`` is False)::

        f(z) = z (1 + tanh u) / 2
        f'(z) = (1 + tanh u) / 2 + z (1 - tanh^2 u) / 2 sqrt(2 / pi) (1 + 0.134145 z^2)
        u = sqrt(2 / pi) (z + 0.044715 z^3)

    f(-inf) = 0; NaN stays NaN.

    Notes
    -----
    An approximation of `GELU` from times when erf was slow, off by at most 0.0005. Here the exact one costs
    about the same; this one is for networks that were trained with it (GPT-2; the default of
    ``jax.nn.gelu``).

    References
    ----------
    Hendrycks, Gimpel, "Gaussian Error Linear Units (GELUs)", arXiv:1606.08415, 2016.

    Examples
    --------
    >>> GELUTanh().name
    'gelu_tanh'
    """

    name = "gelu_tanh"


@dataclass(frozen=True)
class SiLU(Activation):
    """Sigmoid linear unit, also known as swish.

    Function and derivative; the derivative needs z (``from_output`` is False)::

        f(z) = z s
        f'(z) = s (1 + z (1 - s))
        s = 1 / (1 + exp(-z))

    f(-inf) = 0; NaN stays NaN.

    Notes
    -----
    A unit that is its own gate: z times the sigmoid of z. Close to GELU in shape (its dip is deeper, -0.28 at
    z = -1.28) and cheaper: one exp.

    References
    ----------
    Elfwing, Uchibe, Doya, "Sigmoid-Weighted Linear Units for Neural Network Function Approximation in
    Reinforcement Learning", Neural Networks 107, 2018.

    Ramachandran, Zoph, Le, "Searching for Activation Functions", 2017.

    Examples
    --------
    >>> resolve("silu")
    SiLU()
    """

    name = "silu"


BY_NAME: dict[str, type[Activation]] = ops.assign(ops.ACTIVATIONS, Activation.__subclasses__(), "from_output")
_DEFAULTS = {name: cls() for name, cls in BY_NAME.items()}


def resolve(activation: str | Activation | type[Activation]) -> Activation:
    """Return the activation of a name, an object or a class of this module.

    Parameters
    ----------
    activation : str, Activation or class
        A name such as "relu"; an activation; or its class, which stands for an object with default
        parameters.

    Returns
    -------
    Activation
        The object itself, or the one of that name or class.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones and the nearest.
    TypeError
        For anything else.

    Examples
    --------
    >>> resolve("relu")
    ReLU()
    >>> resolve(LeakyReLU(0.1))
    LeakyReLU(alpha=0.1)
    >>> resolve("rellu")
    Traceback (most recent call last):
        ...
    ValueError: activation: unknown name 'rellu', did you mean 'relu'? Known: identity, relu, ...
    """
    if isinstance(activation, str):
        return _DEFAULTS[names.canonical("activation", activation, BY_NAME, names.ACTIVATIONS)]
    if isinstance(activation, type) and issubclass(activation, Activation) and activation in BY_NAME.values():
        return activation()
    if isinstance(activation, Activation) and type(activation) in BY_NAME.values():
        return activation
    raise TypeError(f"activation: expected a name or an object of fastmlp.activations, got {activation!r}"
                    f"{names.of_others(activation, BY_NAME, names.ACTIVATIONS)}")
