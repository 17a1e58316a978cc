"""Functions element by element and along the last axis, and their derivatives."""
from __future__ import annotations

import numpy as np  # noqa: F401  (the examples)
from numpy.typing import ArrayLike

from fastmlp import checks

from ._door import Array, first_chance, unary, unary_backward

__all__ = [
    "exp", "log",
    "relu", "relu_backward", "leaky_relu", "leaky_relu_backward",
    "sigmoid", "sigmoid_backward", "tanh", "tanh_backward",
    "elu", "elu_backward", "selu", "selu_backward", "softplus", "softplus_backward",
    "gelu", "gelu_backward", "gelu_tanh", "gelu_tanh_backward", "silu", "silu_backward",
    "softmax", "softmax_backward", "log_softmax", "log_softmax_backward",
]


# Element by element ------------------------------------------------------------------------------------

@first_chance
def exp(x: ArrayLike, *, out: Array | None = None) -> Array:
    """y = e^x, for every element of an array of any shape.

    The compiled backend is within 2 ULP of the correctly rounded result. exp(-inf) = 0, exp(inf) = inf,
    NaN stays NaN; results too small or too large become 0 or inf. `out` may be x.

    Raises TypeError for a dtype other than float32 or float64; ValueError for an `out` of another shape,
    read-only, or overlapping x in part.

    Source: Muller, "Elementary Functions: Algorithms and Implementation", 3rd edition, 2016.

    >>> exp(np.array([0.0, -np.inf]))
    array([1., 0.])
    """
    return unary("exp", x, out=out)


@first_chance
def log(x: ArrayLike, *, out: Array | None = None) -> Array:
    """y = ln x, the natural logarithm, for every element of an array of any shape.

    The compiled backend is within 2 ULP of the correctly rounded result. log(0) = -inf, log(inf) = inf;
    the logarithm of a negative number is NaN, and NaN stays NaN. `out` may be x.

    Raises TypeError and ValueError as `exp` does.

    Source: Muller, "Elementary Functions: Algorithms and Implementation", 3rd edition, 2016.

    >>> log(np.array([1.0, 0.0]))
    array([  0., -inf])
    """
    return unary("log", x, out=out)


@first_chance
def relu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """y = max(x, 0), for every element of an array of any shape.

    relu(NaN) = NaN, relu(-inf) = 0, relu(-0.0) = -0.0. `out` may be x. See `fastmlp.activations.ReLU`.

    Raises TypeError and ValueError as `exp` does.

    Source: Nair, Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines", ICML 2010.

    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return unary("relu", x, out=out)


@first_chance
def relu_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """dx = dy where y > 0, else 0; y is the output of `relu` (its input does as well).

    dx is 0 where y is NaN, and where y is 0 whatever dy is. dy and y have one shape, any. `out` may be dy
    or y.

    Raises TypeError for dtypes other than float32 or float64, or two different ones; ValueError for two
    shapes, and for an `out` of another shape, read-only, or overlapping an input in part.

    Source: the derivative of `relu`, with 0 at 0.

    >>> relu_backward(np.array([5.0, 5.0]), np.array([0.0, 2.0]))
    array([0., 5.])
    """
    return unary_backward("relu_backward", dy, y, out=out)


@first_chance
def leaky_relu(x: ArrayLike, alpha: float = 0.01, *, out: Array | None = None) -> Array:
    """y = x where x > 0, else alpha x, for every element of an array of any shape.

    alpha is finite and not negative. NaN stays NaN. `out` may be x. See `fastmlp.activations.LeakyReLU`.

    Raises TypeError and ValueError as `exp` does, and for alpha out of range.

    Source: Maas, Hannun, Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", ICML 2013.

    >>> leaky_relu(np.array([-1.0, 2.0]), alpha=0.5)
    array([-0.5,  2. ])
    """
    return unary("leaky_relu", x, checks.number("alpha", alpha, low=0.0), out=out)


@first_chance
def leaky_relu_backward(
    dy: ArrayLike, y: ArrayLike, alpha: float = 0.01, *, out: Array | None = None
) -> Array:
    """dx = dy where y > 0, else alpha dy; y is the output of `leaky_relu` (its input does as well).

    dy and y have one shape, any. `out` may be dy or y.

    Raises TypeError and ValueError as `relu_backward` does, and for alpha out of range.

    Source: the derivative of `leaky_relu`, with alpha at 0.

    >>> leaky_relu_backward(np.array([5.0, 5.0]), np.array([-1.0, 2.0]), alpha=0.5)
    array([2.5, 5. ])
    """
    return unary_backward("leaky_relu_backward", dy, y, checks.number("alpha", alpha, low=0.0), out=out)


@first_chance
def sigmoid(x: ArrayLike, *, out: Array | None = None) -> Array:
    """y = 1 / (1 + exp(-x)), for every element of an array of any shape.

    Never overflows: sigmoid(-inf) = 0, sigmoid(inf) = 1; NaN stays NaN. `out` may be x.
    See `fastmlp.activations.Sigmoid`.

    Raises TypeError and ValueError as `exp` does.

    Source: Rumelhart, Hinton, Williams, "Learning representations by back-propagating
    errors", Nature 323, 1986.

    >>> sigmoid(np.array([-1e4, 0.0, 1e4]))
    array([0. , 0.5, 1. ])
    """
    return unary("sigmoid", x, out=out)


@first_chance
def sigmoid_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """dx = dy y (1 - y); y is the output of `sigmoid`.

    dy and y have one shape, any. `out` may be dy or y.

    Raises TypeError and ValueError as `relu_backward` does.

    Source: the derivative of `sigmoid`.

    >>> sigmoid_backward(np.array([2.0]), np.array([0.5]))
    array([0.5])
    """
    return unary_backward("sigmoid_backward", dy, y, out=out)


@first_chance
def tanh(x: ArrayLike, *, out: Array | None = None) -> Array:
    """y = (exp(x) - exp(-x)) / (exp(x) + exp(-x)), for every element of an array of any shape.

    The compiled backend is within 2 ULP of the correctly rounded result. tanh(+-inf) = +-1; NaN stays NaN.
    `out` may be x. See `fastmlp.activations.Tanh`.

    Raises TypeError and ValueError as `exp` does.

    Source: LeCun, Bottou, Orr, Mueller, "Efficient BackProp", 1998.

    >>> tanh(np.array([0.0, np.inf]))
    array([0., 1.])
    """
    return unary("tanh", x, out=out)


@first_chance
def tanh_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """dx = dy (1 - y^2); y is the output of `tanh`.

    dy and y have one shape, any. `out` may be dy or y.

    Raises TypeError and ValueError as `relu_backward` does.

    Source: the derivative of `tanh`.

    >>> tanh_backward(np.array([2.0]), np.array([0.5]))
    array([1.5])
    """
    return unary_backward("tanh_backward", dy, y, out=out)


@first_chance
def elu(x: ArrayLike, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """y = x where x > 0, else alpha (exp(x) - 1), for every element of an array of any shape.

    alpha is finite and not negative. The compiled backend is within 2 ULP. elu(-inf) = -alpha; NaN stays
    NaN. `out` may be x. See `fastmlp.activations.ELU`.

    Raises TypeError and ValueError as `exp` does, and for alpha out of range.

    Source: Clevert, Unterthiner, Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear
    Units (ELUs)", ICLR 2016.

    >>> elu(np.array([-np.inf, 2.0]), alpha=0.5)
    array([-0.5,  2. ])
    """
    return unary("elu", x, checks.number("alpha", alpha, low=0.0), out=out)


@first_chance
def elu_backward(dy: ArrayLike, y: ArrayLike, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """dx = dy where y > 0, else dy (y + alpha); y is the output of `elu`.

    dy and y have one shape, any. `out` may be dy or y.

    Raises TypeError and ValueError as `relu_backward` does, and for alpha out of range.

    Source: the derivative of `elu`, alpha exp(x), with alpha at 0.

    >>> elu_backward(np.array([2.0, 2.0]), np.array([-0.5, 2.0]))
    array([1., 2.])
    """
    return unary_backward("elu_backward", dy, y, checks.number("alpha", alpha, low=0.0), out=out)


@first_chance
def selu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """y = s x where x > 0, else s a (exp(x) - 1), for every element of an array of any shape;
    s = 1.0507009873554805, a = 1.6732632423543772.

    The compiled backend is within 2 ULP. selu(-inf) = -s a; NaN stays NaN. `out` may be x. See
    `fastmlp.activations.SELU`.

    Raises TypeError and ValueError as `exp` does.

    Source: Klambauer, Unterthiner, Mayr, Hochreiter, "Self-Normalizing Neural Networks", NIPS 2017.

    >>> selu(np.array([-np.inf, 1.0])).round(4)
    array([-1.7581,  1.0507])
    """
    return unary("selu", x, out=out)


@first_chance
def selu_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """dx = s dy where y > 0, else dy (y + s a); y is the output of `selu`, which says what s and a are.

    dy and y have one shape, any. `out` may be dy or y.

    Raises TypeError and ValueError as `relu_backward` does.

    Source: the derivative of `selu`, with s a at 0.

    >>> selu_backward(np.array([1.0, 1.0]), np.array([0.0, 1.0])).round(4)
    array([1.7581, 1.0507])
    """
    return unary_backward("selu_backward", dy, y, out=out)


@first_chance
def softplus(x: ArrayLike, *, out: Array | None = None) -> Array:
    """y = ln(1 + exp(x)), for every element of an array of any shape.

    Computed as max(x, 0) + log1p(exp(-|x|)), which never overflows. The compiled backend is within 3 ULP.
    softplus(-inf) = 0, softplus(inf) = inf; NaN stays NaN. `out` may be x. See
    `fastmlp.activations.Softplus`.

    Raises TypeError and ValueError as `exp` does.

    Source: Dugas, Bengio, Belisle, Nadeau, Garcia, "Incorporating Second-Order Functional Knowledge for
    Better Option Pricing", NIPS 2000.

    >>> softplus(np.array([-np.inf, 0.0, 100.0])).round(4)
    array([  0.    ,   0.6931, 100.    ])
    """
    return unary("softplus", x, out=out)


@first_chance
def softplus_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """dx = dy (1 - exp(-y)) = dy sigmoid(x); y is the output of `softplus`.

    dy and y have one shape, any. `out` may be dy or y.

    Raises TypeError and ValueError as `relu_backward` does.

    Source: the derivative of `softplus`.

    >>> softplus_backward(np.array([2.0]), np.log([2.0]))
    array([1.])
    """
    return unary_backward("softplus_backward", dy, y, out=out)


@first_chance
def gelu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """y = x P(x), P(x) = (1 + erf(x / sqrt 2)) / 2, for every element of an array of any shape.

    The compiled backend is within 5 ULP, far below 0 too. gelu(-inf) = 0; NaN stays NaN. `out` may be x. See
    `fastmlp.activations.GELU`.

    Raises TypeError and ValueError as `exp` does.

    Source: Hendrycks, Gimpel, "Gaussian Error Linear Units (GELUs)", arXiv:1606.08415, 2016.

    >>> gelu(np.array([-np.inf, 0.0, 1.0])).round(4)
    array([0.    , 0.    , 0.8413])
    """
    return unary("gelu", x, out=out)


@first_chance
def gelu_backward(dy: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Array:
    """dx = dy (P(x) + x exp(-x^2 / 2) / sqrt(2 pi)), P as in `gelu`; x is the input of `gelu`.

    The output does not do: gelu is not monotone, two x have one y. dy and x have one shape, any. `out` may be
    dy or x.

    Raises TypeError and ValueError as `relu_backward` does.

    Source: the derivative of `gelu`.

    >>> gelu_backward(np.array([2.0, 2.0]), np.array([0.0, np.inf]))
    array([1., 2.])
    """
    return unary_backward("gelu_backward", dy, x, out=out, given="x")


@first_chance
def gelu_tanh(x: ArrayLike, *, out: Array | None = None) -> Array:
    """y = x (1 + tanh u) / 2 with u = sqrt(2 / pi) (x + 0.044715 x^3), for every element of an array of any
    shape.

    Off the exact `gelu` by at most 0.0005. Of the formula, the compiled backend is within 3 + 6 |u| ULP for
    negative x: the rounding of u. gelu_tanh(-inf) = 0; NaN stays NaN. `out` may be x. See
    `fastmlp.activations.GELUTanh`.

    Raises TypeError and ValueError as `exp` does.

    Source: Hendrycks, Gimpel, "Gaussian Error Linear Units (GELUs)", arXiv:1606.08415, 2016.

    >>> gelu_tanh(np.array([-np.inf, 0.0, 1.0])).round(4)
    array([0.    , 0.    , 0.8412])
    """
    return unary("gelu_tanh", x, out=out)


@first_chance
def gelu_tanh_backward(dy: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Array:
    """dx = dy ((1 + tanh u) / 2 + x (1 - tanh^2 u) / 2 sqrt(2 / pi) (1 + 0.134145 x^2)), u as in `gelu_tanh`;
    x is the input of `gelu_tanh`.

    dy and x have one shape, any. `out` may be dy or x.

    Raises TypeError and ValueError as `relu_backward` does.

    Source: the derivative of `gelu_tanh`.

    >>> gelu_tanh_backward(np.array([2.0, 2.0]), np.array([0.0, np.inf]))
    array([1., 2.])
    """
    return unary_backward("gelu_tanh_backward", dy, x, out=out, given="x")


@first_chance
def silu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """y = x / (1 + exp(-x)), for every element of an array of any shape.

    The compiled backend is within 3 ULP. silu(-inf) = 0; NaN stays NaN. `out` may be x. See
    `fastmlp.activations.SiLU`.

    Raises TypeError and ValueError as `exp` does.

    Source: Elfwing, Uchibe, Doya, "Sigmoid-Weighted Linear Units for Neural Network Function Approximation in
    Reinforcement Learning", Neural Networks 107, 2018.

    >>> silu(np.array([-np.inf, 0.0, 1.0])).round(4)
    array([0.    , 0.    , 0.7311])
    """
    return unary("silu", x, out=out)


@first_chance
def silu_backward(dy: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Array:
    """dx = dy s (1 + x (1 - s)), s = 1 / (1 + exp(-x)); x is the input of `silu`.

    dy and x have one shape, any. `out` may be dy or x.

    Raises TypeError and ValueError as `relu_backward` does.

    Source: the derivative of `silu`.

    >>> silu_backward(np.array([2.0, 2.0]), np.array([0.0, np.inf]))
    array([1., 2.])
    """
    return unary_backward("silu_backward", dy, x, out=out, given="x")


# Along the last axis -----------------------------------------------------------------------------------

@first_chance
def softmax(x: ArrayLike, *, out: Array | None = None) -> Array:
    """y_j = exp(x_j - max x) / sum_k exp(x_k - max x), along the last axis.

    Turns each row of logits into a distribution. The maximum cancels; without it exp would overflow. Shape:
    any with at least one axis. A row that holds +inf or NaN, or only -inf, is NaN, as the formula says; a
    single -inf is probability 0. `out` may be x.

    Raises TypeError and ValueError as `exp` does, and ValueError for an x without an axis.

    Source: Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.

    >>> softmax(np.array([[0.0, 0.0], [1e4, -1e4]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    return unary("softmax", x, out=out)


@first_chance
def softmax_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """dx_j = y_j (dy_j - sum_k dy_k y_k), along the last axis; y is the output of `softmax`.

    dy and y have one shape with at least one axis. `out` may be dy or y.

    Raises TypeError and ValueError as `relu_backward` does, and ValueError for arrays without an axis.

    Source: the Jacobian of `softmax`, diag(y) - y y^T.

    >>> softmax_backward(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
    array([[ 0.25, -0.25]])
    """
    return unary_backward("softmax_backward", dy, y, out=out)


@first_chance
def log_softmax(x: ArrayLike, *, out: Array | None = None) -> Array:
    """y_j = x_j - max x - ln sum_k exp(x_k - max x), along the last axis.

    The logarithm of `softmax`, exact where the probability itself would be rounded to 0. Shape: any with at
    least one axis. A row that holds +inf or NaN, or only -inf, is NaN. `out` may be x.

    Raises TypeError and ValueError as `softmax` does.

    Source: Blanchard, D. Higham, N. Higham, "Accurately computing the log-sum-exp and softmax functions",
    IMA Journal of Numerical Analysis 41, 2021.

    >>> log_softmax(np.array([[1e4, -1e4]]))
    array([[     0., -20000.]])
    """
    return unary("log_softmax", x, out=out)


@first_chance
def log_softmax_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """dx_j = dy_j - exp(y_j) sum_k dy_k, along the last axis; y is the output of `log_softmax`.

    dy and y have one shape with at least one axis. `out` may be dy or y.

    Raises TypeError and ValueError as `softmax_backward` does.

    Source: the Jacobian of `log_softmax`, 1 - softmax.

    >>> log_softmax_backward(np.array([[1.0, 0.0]]), np.log([[0.5, 0.5]]))
    array([[ 0.5, -0.5]])
    """
    return unary_backward("log_softmax_backward", dy, y, out=out)
