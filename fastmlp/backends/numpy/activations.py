"""Functions element by element and along the last axis; derivatives are in terms of the output y, those of
GELU and SiLU in terms of the input x.

NaN stays NaN, forward and backward, with two exceptions: where y is NaN the derivatives of ReLU and leaky
ReLU are 0 and alpha, as everywhere that y is not above 0. A zero has the sign that the formula gives it, on
every processor: ReLU, and the others that are x or nearly so around 0, keep -0.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.kernels import ops

from ._common import assign, or_new, quiet

if TYPE_CHECKING:
    from fastmlp._core.types import Array
    from fastmlp.activations import Activation

    Distribution = Callable[[Array], tuple[Array, Array]]       # a >= 0 -> F(-a), F'(a)


@quiet
def exp(x: Array, *, out: Array | None = None) -> Array:
    return np.exp(x, out=or_new(out, x.shape, x.dtype))


@quiet
def log(x: Array, *, out: Array | None = None) -> Array:
    return np.log(x, out=or_new(out, x.shape, x.dtype))


@quiet
def relu(x: Array, *, out: Array | None = None) -> Array:
    if (x == 0).any():              # which of two zeros is the larger one depends on the processor
        return assign(out, np.where(x < 0, x.dtype.type(0), x))
    return np.maximum(x, 0, out=or_new(out, x.shape, x.dtype))


@quiet
def relu_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    return assign(out, np.where(y > 0, dy, dy.dtype.type(0)))


@quiet
def leaky_relu(x: Array, alpha: float = 0.01, *, out: Array | None = None) -> Array:
    return assign(out, np.where(x > 0, x, x * x.dtype.type(alpha)))


@quiet
def leaky_relu_backward(dy: Array, y: Array, alpha: float = 0.01, *, out: Array | None = None) -> Array:
    return assign(out, np.where(y > 0, dy, dy * dy.dtype.type(alpha)))


@quiet
def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    e = np.exp(-np.abs(x))                      # at most 1: never overflows
    numerator = np.where(x < 0, e, x.dtype.type(1))
    y: Array = np.divide(numerator, 1 + e, out=or_new(out, x.shape, x.dtype))
    return y


@quiet
def sigmoid_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    dx: Array = np.multiply(dy, y * (1 - y), out=or_new(out, dy.shape, dy.dtype))
    return dx


@quiet
def tanh(x: Array, *, out: Array | None = None) -> Array:
    return np.tanh(x, out=or_new(out, x.shape, x.dtype))


@quiet
def tanh_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    dx: Array = np.multiply(dy, 1 - y * y, out=or_new(out, dy.shape, dy.dtype))
    return dx


@quiet
def elu(x: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    return assign(out, np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(x)))


@quiet
def elu_backward(dy: Array, y: Array, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    return assign(out, np.where(y > 0, dy, dy * (y + y.dtype.type(alpha))))


SELU_SCALE, SELU_FLOOR = 1.0507009873554805, 1.7580993408473768     # s and s a


@quiet
def selu(x: Array, *, out: Array | None = None) -> Array:
    return assign(out, np.where(x > 0, SELU_SCALE * x, SELU_FLOOR * np.expm1(x)))


@quiet
def selu_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    dx: Array = np.multiply(dy, np.where(y > 0, y.dtype.type(SELU_SCALE), y + SELU_FLOOR),
                            out=or_new(out, dy.shape, dy.dtype))
    return dx


@quiet
def softplus(x: Array, *, out: Array | None = None) -> Array:
    y: Array = np.add(np.maximum(x, 0), np.log1p(np.exp(-np.abs(x))), out=or_new(out, x.shape, x.dtype))
    return y


@quiet
def softplus_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    dx: Array = np.multiply(dy, -np.expm1(-np.maximum(y, 0)), out=or_new(out, dy.shape, dy.dtype))
    return dx


# x F(x), where F is a distribution function with F(-x) = 1 - F(x) ------------------------------------------
#
# From a = |x| and F(-a), which keeps its bits where F(a) is nearly 1:
# x F(x) = max(x, 0) - a F(-a); the derivative F(x) + x F'(x) is F(-a) - a F'(a) below 0, and 1 - that above.
# max(x, 0) keeps the sign of -0.

_ERFC = np.vectorize(math.erfc, otypes="d")     # one element at a time: NumPy has no erf
_FAR = 1000.0                                   # where all F(-a) are 0, and 0 times it is 0


def normal(a: Array) -> tuple[Array, Array]:
    """F(-a) and F'(a) of the standard normal distribution."""
    below = _ERFC(a.astype("d") / math.sqrt(2)) / 2
    return below.astype(a.dtype), np.exp(-a * a / 2) / math.sqrt(2 * math.pi)


def logistic(a: Array) -> tuple[Array, Array]:
    """F(-a) and F'(a) for F(a) = 1 / (1 + exp(-a)) = (1 + tanh(a / 2)) / 2."""
    e = np.exp(-a)
    return e / (1 + e), e / ((1 + e) * (1 + e))


def logistic_of_cubic(a: Array) -> tuple[Array, Array]:
    """F(-a) and F'(a) for F(a) = (1 + tanh u) / 2, u = sqrt(2 / pi) (a + 0.044715 a^3)."""
    below, density = logistic(math.sqrt(8 / math.pi) * (a + 0.044715 * a * a * a))
    return below, density * (math.sqrt(8 / math.pi) * (1 + 3 * 0.044715 * a * a))


def gated(x: Array, distribution: Distribution, out: Array | None) -> Array:
    a = np.minimum(np.abs(x), x.dtype.type(_FAR))
    y: Array = np.subtract(np.where(x < 0, x.dtype.type(0), x), a * distribution(a)[0],
                           out=or_new(out, x.shape, x.dtype))
    return y


def gated_slope(x: Array, distribution: Distribution) -> Array:
    a = np.minimum(np.abs(x), x.dtype.type(_FAR))
    below, density = distribution(a)
    slope: Array = -(a * density - below)              # far below 0 it is -0: it comes from there
    return np.where(x < 0, slope, 1 - slope)


@quiet
def gelu(x: Array, *, out: Array | None = None) -> Array:
    return gated(x, normal, out)


@quiet
def gelu_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    return np.multiply(dy, gated_slope(x, normal), out=or_new(out, dy.shape, dy.dtype))


@quiet
def gelu_tanh(x: Array, *, out: Array | None = None) -> Array:
    return gated(x, logistic_of_cubic, out)


@quiet
def gelu_tanh_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    return np.multiply(dy, gated_slope(x, logistic_of_cubic), out=or_new(out, dy.shape, dy.dtype))


@quiet
def silu(x: Array, *, out: Array | None = None) -> Array:
    return gated(x, logistic, out)


@quiet
def silu_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    return np.multiply(dy, gated_slope(x, logistic), out=or_new(out, dy.shape, dy.dtype))


# Along the last axis -----------------------------------------------------------------------------------

@quiet
def softmax(x: Array, *, out: Array | None = None) -> Array:
    y = np.subtract(x, row_max(x), out=or_new(out, x.shape, x.dtype))
    np.exp(y, out=y)
    y /= y.sum(axis=-1, keepdims=True)
    return y


@quiet
def softmax_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    inner = (dy * y).sum(axis=-1, keepdims=True)
    dx: Array = np.multiply(y, dy - inner, out=or_new(out, dy.shape, dy.dtype))
    return dx


@quiet
def log_softmax(x: Array, *, out: Array | None = None) -> Array:
    y = np.subtract(x, row_max(x), out=or_new(out, x.shape, x.dtype))
    y -= np.log(np.exp(y).sum(axis=-1, keepdims=True))
    return y


@quiet
def log_softmax_backward(dy: Array, y: Array, *, out: Array | None = None) -> Array:
    total = dy.sum(axis=-1, keepdims=True)
    dx: Array = np.subtract(dy, np.exp(y) * total, out=or_new(out, dy.shape, dy.dtype))
    return dx


def row_max(x: Array) -> Array:
    largest: Array = x.max(axis=-1, keepdims=True, initial=-np.inf)
    return largest


# By activation -----------------------------------------------------------------------------------------

def _formulas(what: str) -> dict[str, Callable[..., Array]]:
    """{name: the function of this module that is named so}; the identity has none."""
    suffix = {"forward": "", "backward": "_backward"}[what]
    names = [f.name + suffix for f in ops.ACTIVATIONS if f.name != "identity"]
    ops.complete(f"function in {__name__}", names, [name for name in names if name in globals()])
    return {f.name: globals()[f.name + suffix] for f in ops.ACTIVATIONS if f.name != "identity"}


_FORWARD, _BACKWARD = _formulas("forward"), _formulas("backward")
_WITH_ALPHA = {f.name for f in ops.ACTIVATIONS if f.alpha}


def _options(activation: Activation) -> tuple[float, ...]:
    return (activation.alpha,) if activation.name in _WITH_ALPHA else ()


def activate(z: Array, activation: Activation) -> Array:
    """act(z), in place."""
    if activation.name == "identity":
        return z
    return _FORWARD[activation.name](z, *_options(activation), out=z)


def derivative(dy: Array, y: Array | None, activation: Activation) -> Array:
    """act'(z) dy, of y = act(z), or y = z where the activation is not `from_output`; dy itself for the
    identity."""
    if activation.name == "identity":
        return dy
    return _BACKWARD[activation.name](dy, y, *_options(activation))


def slope(z: Array, activation: Activation) -> Array:
    """act'(z), a new array."""
    given = activate(z.copy(), activation) if activation.from_output else z
    return np.array(derivative(np.ones_like(z), given, activation))
