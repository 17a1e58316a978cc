"""Functions element by element and along the last axis, and their derivatives."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np  # noqa: F401  (the examples)

from fastmlp._core import checks

from ._dispatch import fast_path, unary, unary_backward

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array

__all__ = [
    "exp", "log",
    "relu", "relu_backward", "leaky_relu", "leaky_relu_backward",
    "sigmoid", "sigmoid_backward", "tanh", "tanh_backward",
    "elu", "elu_backward", "selu", "selu_backward", "softplus", "softplus_backward",
    "gelu", "gelu_backward", "gelu_tanh", "gelu_tanh_backward", "silu", "silu_backward",
    "softmax", "softmax_backward", "log_softmax", "log_softmax_backward",
]


# Element by element ------------------------------------------------------------------------------------

@fast_path
def exp(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Exponential function.

    For every element::

        y = e^x

    The compiled backend is within 2 ULP of the correctly rounded result. exp(-inf) = 0, exp(inf) = inf,
    NaN stays NaN; results too small or too large become 0 or inf.

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

    References
    ----------
    Muller, "Elementary Functions: Algorithms and Implementation", 3rd edition, 2016.

    Examples
    --------
    >>> exp(np.array([0.0, -np.inf]))
    array([1., 0.])
    """
    return unary("exp", x, out=out)


@fast_path
def log(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Natural logarithm.

    For every element::

        y = ln x

    The compiled backend is within 2 ULP of the correctly rounded result. log(0) = -inf, log(inf) = inf;
    the logarithm of a negative number is NaN, and NaN stays NaN.

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

    References
    ----------
    Muller, "Elementary Functions: Algorithms and Implementation", 3rd edition, 2016.

    Examples
    --------
    >>> log(np.array([1.0, 0.0]))
    array([  0., -inf])
    """
    return unary("log", x, out=out)


@fast_path
def relu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Rectified linear unit.

    For every element::

        y = max(x, 0)

    relu(NaN) = NaN, relu(-inf) = 0, relu(-0.0) = -0.0.

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

    See Also
    --------
    fastmlp.activations.ReLU : The same function in a layer, and when to use it.

    References
    ----------
    Nair, Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines", ICML 2010.

    Examples
    --------
    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return unary("relu", x, out=out)


@fast_path
def relu_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """Backward pass of `relu`: the gradient with respect to its input.

    For every element::

        dx = dy where y > 0, else 0

    dx is 0 where y is NaN, and where y is 0 whatever dy is.

    Parameters
    ----------
    dy : array_like of float32 or float64, any shape
        Gradient of the loss with respect to the output.
    y : array_like, shape and dtype of ``dy``
        Output of `relu`; its input will do as well.
    out : ndarray, optional
        Array for the result, of the shape and dtype of ``dy``; may be ``dy`` or ``y`` itself. New if not
        given.

    Returns
    -------
    ndarray
        Gradient dx, of the shape and dtype of ``dy``; ``out`` if given.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64, or two different ones.
    ValueError
        For two shapes, and for an ``out`` of another shape, read-only, or overlapping an input in part.

    References
    ----------
    The derivative of `relu`, with 0 at 0.

    Examples
    --------
    >>> relu_backward(np.array([5.0, 5.0]), np.array([0.0, 2.0]))
    array([0., 5.])
    """
    return unary_backward("relu_backward", dy, y, out=out)


@fast_path
def leaky_relu(x: ArrayLike, alpha: float = 0.01, *, out: Array | None = None) -> Array:
    """Rectified linear unit with a small slope below 0.

    For every element::

        y = x where x > 0, else alpha x

    NaN stays NaN.

    Parameters
    ----------
    x : array_like of float32 or float64, any shape
        Input.
    alpha : float, default 0.01
        Slope below 0, finite and >= 0.
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
        For an ``out`` of another shape, read-only, or overlapping ``x`` in part; for ``alpha`` out of range.

    See Also
    --------
    fastmlp.activations.LeakyReLU : The same function in a layer, and when to use it.

    References
    ----------
    Maas, Hannun, Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", ICML 2013.

    Examples
    --------
    >>> leaky_relu(np.array([-1.0, 2.0]), alpha=0.5)
    array([-0.5,  2. ])
    """
    return unary("leaky_relu", x, checks.number("alpha", alpha, low=0.0), out=out)


@fast_path
def leaky_relu_backward(
    dy: ArrayLike, y: ArrayLike, alpha: float = 0.01, *, out: Array | None = None
) -> Array:
    """Backward pass of `leaky_relu`: the gradient with respect to its input.

    For every element::

        dx = dy where y > 0, else alpha dy

    Parameters
    ----------
    dy : array_like of float32 or float64, any shape
        Gradient of the loss with respect to the output.
    y : array_like, shape and dtype of ``dy``
        Output of `leaky_relu`; its input will do as well.
    alpha : float, default 0.01
        Slope below 0, finite and >= 0.
    out : ndarray, optional
        Array for the result, of the shape and dtype of ``dy``; may be ``dy`` or ``y`` itself. New if not
        given.

    Returns
    -------
    ndarray
        Gradient dx, of the shape and dtype of ``dy``; ``out`` if given.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64, or two different ones.
    ValueError
        For two shapes, and for an ``out`` of another shape, read-only, or overlapping an input in part;
        for ``alpha`` out of range.

    References
    ----------
    The derivative of `leaky_relu`, with alpha at 0.

    Examples
    --------
    >>> leaky_relu_backward(np.array([5.0, 5.0]), np.array([-1.0, 2.0]), alpha=0.5)
    array([2.5, 5. ])
    """
    return unary_backward("leaky_relu_backward", dy, y, checks.number("alpha", alpha, low=0.0), out=out)


@fast_path
def sigmoid(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Logistic function, from 0 to 1.

    For every element::

        y = 1 / (1 + exp(-x))

    Never overflows: sigmoid(-inf) = 0, sigmoid(inf) = 1; NaN stays NaN.

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

    See Also
    --------
    fastmlp.activations.Sigmoid : The same function in a layer, and when to use it.

    References
    ----------
    Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323, 1986.

    Examples
    --------
    >>> sigmoid(np.array([-1e4, 0.0, 1e4]))
    array([0. , 0.5, 1. ])
    """
    return unary("sigmoid", x, out=out)


@fast_path
def sigmoid_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """Backward pass of `sigmoid`: the gradient with respect to its input.

    For every element::

        dx = dy y (1 - y)

    Parameters
    ----------
    dy : array_like of float32 or float64, any shape
        Gradient of the loss with respect to the output.
    y : array_like, shape and dtype of ``dy``
        Output of `sigmoid`.
    out : ndarray, optional
        Array for the result, of the shape and dtype of ``dy``; may be ``dy`` or ``y`` itself. New if not
        given.

    Returns
    -------
    ndarray
        Gradient dx, of the shape and dtype of ``dy``; ``out`` if given.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64, or two different ones.
    ValueError
        For two shapes, and for an ``out`` of another shape, read-only, or overlapping an input in part.

    References
    ----------
    The derivative of `sigmoid`.

    Examples
    --------
    >>> sigmoid_backward(np.array([2.0]), np.array([0.5]))
    array([0.5])
    """
    return unary_backward("sigmoid_backward", dy, y, out=out)


@fast_path
def tanh(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Hyperbolic tangent, from -1 to 1.

    For every element::

        y = (exp(x) - exp(-x)) / (exp(x) + exp(-x))

    The compiled backend is within 2 ULP of the correctly rounded result. tanh(-inf) = -1, tanh(inf) = 1; NaN
    stays NaN.

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

    See Also
    --------
    fastmlp.activations.Tanh : The same function in a layer, and when to use it.

    References
    ----------
    LeCun, Bottou, Orr, Mueller, "Efficient BackProp", 1998.

    Examples
    --------
    >>> tanh(np.array([0.0, np.inf]))
    array([0., 1.])
    """
    return unary("tanh", x, out=out)


@fast_path
def tanh_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """Backward pass of `tanh`: the gradient with respect to its input.

    For every element::

        dx = dy (1 - y^2)

    Parameters
    ----------
    dy : array_like of float32 or float64, any shape
        Gradient of the loss with respect to the output.
    y : array_like, shape and dtype of ``dy``
        Output of `tanh`.
    out : ndarray, optional
        Array for the result, of the shape and dtype of ``dy``; may be ``dy`` or ``y`` itself. New if not
        given.

    Returns
    -------
    ndarray
        Gradient dx, of the shape and dtype of ``dy``; ``out`` if given.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64, or two different ones.
    ValueError
        For two shapes, and for an ``out`` of another shape, read-only, or overlapping an input in part.

    References
    ----------
    The derivative of `tanh`.

    Examples
    --------
    >>> tanh_backward(np.array([2.0]), np.array([0.5]))
    array([1.5])
    """
    return unary_backward("tanh_backward", dy, y, out=out)


@fast_path
def elu(x: ArrayLike, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """Exponential linear unit.

    For every element::

        y = x where x > 0, else alpha (exp(x) - 1)

    The compiled backend is within 2 ULP. elu(-inf) = -alpha; NaN stays NaN.

    Parameters
    ----------
    x : array_like of float32 or float64, any shape
        Input.
    alpha : float, default 1.0
        Negative of the lowest output, finite and >= 0.
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
        For an ``out`` of another shape, read-only, or overlapping ``x`` in part; for ``alpha`` out of range.

    See Also
    --------
    fastmlp.activations.ELU : The same function in a layer, and when to use it.

    References
    ----------
    Clevert, Unterthiner, Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units
    (ELUs)", ICLR 2016.

    Examples
    --------
    >>> elu(np.array([-np.inf, 2.0]), alpha=0.5)
    array([-0.5,  2. ])
    """
    return unary("elu", x, checks.number("alpha", alpha, low=0.0), out=out)


@fast_path
def elu_backward(dy: ArrayLike, y: ArrayLike, alpha: float = 1.0, *, out: Array | None = None) -> Array:
    """Backward pass of `elu`: the gradient with respect to its input.

    For every element::

        dx = dy where y > 0, else dy (y + alpha)

    Parameters
    ----------
    dy : array_like of float32 or float64, any shape
        Gradient of the loss with respect to the output.
    y : array_like, shape and dtype of ``dy``
        Output of `elu`.
    alpha : float, default 1.0
        Negative of the lowest output of `elu`, finite and >= 0.
    out : ndarray, optional
        Array for the result, of the shape and dtype of ``dy``; may be ``dy`` or ``y`` itself. New if not
        given.

    Returns
    -------
    ndarray
        Gradient dx, of the shape and dtype of ``dy``; ``out`` if given.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64, or two different ones.
    ValueError
        For two shapes, and for an ``out`` of another shape, read-only, or overlapping an input in part;
        for ``alpha`` out of range.

    References
    ----------
    The derivative of `elu`, alpha exp(x), with alpha at 0.

    Examples
    --------
    >>> elu_backward(np.array([2.0, 2.0]), np.array([-0.5, 2.0]))
    array([1., 2.])
    """
    return unary_backward("elu_backward", dy, y, checks.number("alpha", alpha, low=0.0), out=out)


@fast_path
def selu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Scaled exponential linear unit.

    For every element::

        y = s x where x > 0, else s a (exp(x) - 1)
        s = 1.0507009873554805, a = 1.6732632423543772

    The compiled backend is within 2 ULP. selu(-inf) = -s a; NaN stays NaN.

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

    See Also
    --------
    fastmlp.activations.SELU : The same function in a layer, and when to use it.

    References
    ----------
    Klambauer, Unterthiner, Mayr, Hochreiter, "Self-Normalizing Neural Networks", NIPS 2017.

    Examples
    --------
    >>> selu(np.array([-np.inf, 1.0])).round(4)
    array([-1.7581,  1.0507])
    """
    return unary("selu", x, out=out)


@fast_path
def selu_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """Backward pass of `selu`: the gradient with respect to its input.

    For every element::

        dx = s dy where y > 0, else dy (y + s a)
        s = 1.0507009873554805, a = 1.6732632423543772

    Parameters
    ----------
    dy : array_like of float32 or float64, any shape
        Gradient of the loss with respect to the output.
    y : array_like, shape and dtype of ``dy``
        Output of `selu`.
    out : ndarray, optional
        Array for the result, of the shape and dtype of ``dy``; may be ``dy`` or ``y`` itself. New if not
        given.

    Returns
    -------
    ndarray
        Gradient dx, of the shape and dtype of ``dy``; ``out`` if given.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64, or two different ones.
    ValueError
        For two shapes, and for an ``out`` of another shape, read-only, or overlapping an input in part.

    References
    ----------
    The derivative of `selu`, with s a at 0.

    Examples
    --------
    >>> selu_backward(np.array([1.0, 1.0]), np.array([0.0, 1.0])).round(4)
    array([1.7581, 1.0507])
    """
    return unary_backward("selu_backward", dy, y, out=out)


@fast_path
def softplus(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Smooth ReLU, always positive.

    For every element::

        y = ln(1 + exp(x))

    Computed as ``max(x, 0) + log1p(exp(-|x|))``, which never overflows. The compiled backend is within 3 ULP.
    softplus(-inf) = 0, softplus(inf) = inf; NaN stays NaN.

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

    See Also
    --------
    fastmlp.activations.Softplus : The same function in a layer, and when to use it.

    References
    ----------
    Dugas, Bengio, Belisle, Nadeau, Garcia, "Incorporating Second-Order Functional Knowledge for Better Option
    Pricing", NIPS 2000.

    Examples
    --------
    >>> softplus(np.array([-np.inf, 0.0, 100.0])).round(4)
    array([  0.    ,   0.6931, 100.    ])
    """
    return unary("softplus", x, out=out)


@fast_path
def softplus_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """Backward pass of `softplus`: the gradient with respect to its input.

    For every element::

        dx = dy (1 - exp(-y)) = dy sigmoid(x)

    Parameters
    ----------
    dy : array_like of float32 or float64, any shape
        Gradient of the loss with respect to the output.
    y : array_like, shape and dtype of ``dy``
        Output of `softplus`.
    out : ndarray, optional
        Array for the result, of the shape and dtype of ``dy``; may be ``dy`` or ``y`` itself. New if not
        given.

    Returns
    -------
    ndarray
        Gradient dx, of the shape and dtype of ``dy``; ``out`` if given.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64, or two different ones.
    ValueError
        For two shapes, and for an ``out`` of another shape, read-only, or overlapping an input in part.

    References
    ----------
    The derivative of `softplus`.

    Examples
    --------
    >>> softplus_backward(np.array([2.0]), np.log([2.0]))
    array([1.])
    """
    return unary_backward("softplus_backward", dy, y, out=out)


@fast_path
def gelu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Gaussian error linear unit, in its exact form.

    For every element::

        y = x P(x)
        P(x) = (1 + erf(x / sqrt 2)) / 2

    The compiled backend is within 5 ULP, far below 0 too. gelu(-inf) = 0; NaN stays NaN.

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

    See Also
    --------
    fastmlp.activations.GELU : The same function in a layer, and when to use it.

    References
    ----------
    Hendrycks, Gimpel, "Gaussian Error Linear Units (GELUs)", arXiv:1606.08415, 2016.

    Examples
    --------
    >>> gelu(np.array([-np.inf, 0.0, 1.0])).round(4)
    array([0.    , 0.    , 0.8413])
    """
    return unary("gelu", x, out=out)


@fast_path
def gelu_backward(dy: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Array:
    """Backward pass of `gelu`: the gradient with respect to its input.

    For every element::

        dx = dy (P(x) + x exp(-x^2 / 2) / sqrt(2 pi))
        P(x) = (1 + erf(x / sqrt 2)) / 2

    The output y does not determine the derivative: gelu is not monotone, two x have one y.

    Parameters
    ----------
    dy : array_like of float32 or float64, any shape
        Gradient of the loss with respect to the output.
    x : array_like, shape and dtype of ``dy``
        Input of `gelu`.
    out : ndarray, optional
        Array for the result, of the shape and dtype of ``dy``; may be ``dy`` or ``x`` itself. New if not
        given.

    Returns
    -------
    ndarray
        Gradient dx, of the shape and dtype of ``dy``; ``out`` if given.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64, or two different ones.
    ValueError
        For two shapes, and for an ``out`` of another shape, read-only, or overlapping an input in part.

    References
    ----------
    The derivative of `gelu`.

    Examples
    --------
    >>> gelu_backward(np.array([2.0, 2.0]), np.array([0.0, np.inf]))
    array([1., 2.])
    """
    return unary_backward("gelu_backward", dy, x, out=out, given="x")


@fast_path
def gelu_tanh(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Gaussian error linear unit, approximated by tanh.

    For every element::

        y = x (1 + tanh u) / 2
        u = sqrt(2 / pi) (x + 0.044715 x^3)

    Off the exact `gelu` by at most 0.0005. Of the formula, the compiled backend is within ``3 + 6 |u|`` ULP
    for negative x: the rounding of u. gelu_tanh(-inf) = 0; NaN stays NaN.

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

    See Also
    --------
    fastmlp.activations.GELUTanh : The same function in a layer, and when to use it.

    References
    ----------
    Hendrycks, Gimpel, "Gaussian Error Linear Units (GELUs)", arXiv:1606.08415, 2016.

    Examples
    --------
    >>> gelu_tanh(np.array([-np.inf, 0.0, 1.0])).round(4)
    array([0.    , 0.    , 0.8412])
    """
    return unary("gelu_tanh", x, out=out)


@fast_path
def gelu_tanh_backward(dy: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Array:
    """Backward pass of `gelu_tanh`: the gradient with respect to its input.

    For every element::

        dx = dy ((1 + tanh u) / 2 + x (1 - tanh^2 u) / 2 sqrt(2 / pi) (1 + 0.134145 x^2))
        u = sqrt(2 / pi) (x + 0.044715 x^3)

    The output y does not determine the derivative: gelu_tanh is not monotone, two x have one y.

    Parameters
    ----------
    dy : array_like of float32 or float64, any shape
        Gradient of the loss with respect to the output.
    x : array_like, shape and dtype of ``dy``
        Input of `gelu_tanh`.
    out : ndarray, optional
        Array for the result, of the shape and dtype of ``dy``; may be ``dy`` or ``x`` itself. New if not
        given.

    Returns
    -------
    ndarray
        Gradient dx, of the shape and dtype of ``dy``; ``out`` if given.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64, or two different ones.
    ValueError
        For two shapes, and for an ``out`` of another shape, read-only, or overlapping an input in part.

    References
    ----------
    The derivative of `gelu_tanh`.

    Examples
    --------
    >>> gelu_tanh_backward(np.array([2.0, 2.0]), np.array([0.0, np.inf]))
    array([1., 2.])
    """
    return unary_backward("gelu_tanh_backward", dy, x, out=out, given="x")


@fast_path
def silu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Sigmoid linear unit, also known as swish.

    For every element::

        y = x / (1 + exp(-x))

    The compiled backend is within 3 ULP. silu(-inf) = 0; NaN stays NaN.

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

    See Also
    --------
    fastmlp.activations.SiLU : The same function in a layer, and when to use it.

    References
    ----------
    Elfwing, Uchibe, Doya, "Sigmoid-Weighted Linear Units for Neural Network Function Approximation in
    Reinforcement Learning", Neural Networks 107, 2018.

    Examples
    --------
    >>> silu(np.array([-np.inf, 0.0, 1.0])).round(4)
    array([0.    , 0.    , 0.7311])
    """
    return unary("silu", x, out=out)


@fast_path
def silu_backward(dy: ArrayLike, x: ArrayLike, *, out: Array | None = None) -> Array:
    """Backward pass of `silu`: the gradient with respect to its input.

    For every element::

        dx = dy s (1 + x (1 - s))
        s = 1 / (1 + exp(-x))

    The output y does not determine the derivative: silu is not monotone, two x have one y.

    Parameters
    ----------
    dy : array_like of float32 or float64, any shape
        Gradient of the loss with respect to the output.
    x : array_like, shape and dtype of ``dy``
        Input of `silu`.
    out : ndarray, optional
        Array for the result, of the shape and dtype of ``dy``; may be ``dy`` or ``x`` itself. New if not
        given.

    Returns
    -------
    ndarray
        Gradient dx, of the shape and dtype of ``dy``; ``out`` if given.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64, or two different ones.
    ValueError
        For two shapes, and for an ``out`` of another shape, read-only, or overlapping an input in part.

    References
    ----------
    The derivative of `silu`.

    Examples
    --------
    >>> silu_backward(np.array([2.0, 2.0]), np.array([0.0, np.inf]))
    array([1., 2.])
    """
    return unary_backward("silu_backward", dy, x, out=out, given="x")


# Along the last axis -----------------------------------------------------------------------------------

@fast_path
def softmax(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Turn each row of logits into a distribution.

    Along the last axis::

        y_j = exp(x_j - max x) / sum_k exp(x_k - max x)

    The maximum cancels; without it exp would overflow. A row that holds +inf or NaN, or only -inf, is NaN, as
    the formula says; a single -inf is probability 0.

    Parameters
    ----------
    x : array_like of float32 or float64, any shape with at least one axis
        Logits.
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
        For an ``out`` of another shape, read-only, or overlapping ``x`` in part; for an ``x`` without an
        axis.

    References
    ----------
    Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.

    Examples
    --------
    >>> softmax(np.array([[0.0, 0.0], [1e4, -1e4]]))
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    return unary("softmax", x, out=out)


@fast_path
def softmax_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """Backward pass of `softmax`: the gradient with respect to its input.

    Along the last axis::

        dx_j = y_j (dy_j - sum_k dy_k y_k)

    Parameters
    ----------
    dy : array_like of float32 or float64, any shape with at least one axis
        Gradient of the loss with respect to the output.
    y : array_like, shape and dtype of ``dy``
        Output of `softmax`.
    out : ndarray, optional
        Array for the result, of the shape and dtype of ``dy``; may be ``dy`` or ``y`` itself. New if not
        given.

    Returns
    -------
    ndarray
        Gradient dx, of the shape and dtype of ``dy``; ``out`` if given.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64, or two different ones.
    ValueError
        For two shapes, and for an ``out`` of another shape, read-only, or overlapping an input in part; for
        arrays without an axis.

    References
    ----------
    The Jacobian of `softmax`, diag(y) - y y^T.

    Examples
    --------
    >>> softmax_backward(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
    array([[ 0.25, -0.25]])
    """
    return unary_backward("softmax_backward", dy, y, out=out)


@fast_path
def log_softmax(x: ArrayLike, *, out: Array | None = None) -> Array:
    """Logarithm of `softmax`.

    Along the last axis::

        y_j = x_j - max x - ln sum_k exp(x_k - max x)

    Exact where the probability itself would be rounded to 0. A row that holds +inf or NaN, or only -inf, is
    NaN.

    Parameters
    ----------
    x : array_like of float32 or float64, any shape with at least one axis
        Logits.
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
        For an ``out`` of another shape, read-only, or overlapping ``x`` in part; for an ``x`` without an
        axis.

    References
    ----------
    Blanchard, D. Higham, N. Higham, "Accurately computing the log-sum-exp and softmax functions", IMA Journal
    of Numerical Analysis 41, 2021.

    Examples
    --------
    >>> log_softmax(np.array([[1e4, -1e4]]))
    array([[     0., -20000.]])
    """
    return unary("log_softmax", x, out=out)


@fast_path
def log_softmax_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """Backward pass of `log_softmax`: the gradient with respect to its input.

    Along the last axis::

        dx_j = dy_j - exp(y_j) sum_k dy_k

    Parameters
    ----------
    dy : array_like of float32 or float64, any shape with at least one axis
        Gradient of the loss with respect to the output.
    y : array_like, shape and dtype of ``dy``
        Output of `log_softmax`.
    out : ndarray, optional
        Array for the result, of the shape and dtype of ``dy``; may be ``dy`` or ``y`` itself. New if not
        given.

    Returns
    -------
    ndarray
        Gradient dx, of the shape and dtype of ``dy``; ``out`` if given.

    Raises
    ------
    TypeError
        For dtypes other than float32 or float64, or two different ones.
    ValueError
        For two shapes, and for an ``out`` of another shape, read-only, or overlapping an input in part; for
        arrays without an axis.

    References
    ----------
    The Jacobian of `log_softmax`, 1 - softmax.

    Examples
    --------
    >>> log_softmax_backward(np.array([[1.0, 0.0]]), np.log([[0.5, 0.5]]))
    array([[ 0.5, -0.5]])
    """
    return unary_backward("log_softmax_backward", dy, y, out=out)
