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

    relu(NaN) = NaN, relu(-inf) = 0. `out` may be x. See `fastmlp.activations.ReLU`.

    Raises TypeError and ValueError as `exp` does.

    Source: Nair, Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines", ICML 2010.

    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return unary("relu", x, out=out)


@first_chance
def relu_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """dx = dy where y > 0, else 0; y is the output of `relu` (its input does as well).

    dy and y have one shape, any. `out` may be dy or y.

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
