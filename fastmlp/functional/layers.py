"""Fully-connected layers, forward and back."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np  # noqa: F401  (the examples)

from fastmlp._core import checks
from fastmlp.activations import resolve

from ._dispatch import fast_path, run

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.types import ActivationLike, Array

__all__ = ["dense_forward", "dense_backward"]


@fast_path
def dense_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    activation: ActivationLike = "identity",
    *,
    out: Array | None = None,
) -> Array:
    """Fully-connected layer: act(x w + b).

    Formula::

        y = act(x w + b), or act(x w) without b

    Parameters
    ----------
    x : array_like of float32 or float64, shape (n, inputs)
        Input; n = 0 gives an empty result.
    w : array_like, shape (inputs, outputs)
        Weights, of the dtype of ``x``.
    b : array_like, shape (outputs,) or (1, outputs), optional
        Biases, of the dtype of ``x``.
    activation : str, Activation or class, default "identity"
        A name ("identity", "relu", "leaky_relu", "sigmoid", "tanh", "elu", "selu", "softplus", "gelu",
        "gelu_tanh", "silu"), or an object or a class of `fastmlp.activations`.
    out : ndarray, shape (n, outputs), optional
        Array for the result, of the dtype of ``x``; must not share memory with ``x``, ``w`` or ``b``. New if
        not given.

    Returns
    -------
    ndarray, shape (n, outputs)
        Output y, of the dtype of ``x``; ``out`` if given.

    Raises
    ------
    TypeError
        For a dtype other than float32 or float64, or more than one.
    ValueError
        For shapes that do not fit, an unknown activation, and an ``out`` of another shape, read-only or
        overlapping an input.

    References
    ----------
    Rosenblatt, "The perceptron", Psychological Review 65, 1958.

    Goodfellow, Bengio, Courville, "Deep Learning", 2016, chapter 6.

    Examples
    --------
    >>> x = np.array([[1.0, 2.0]])
    >>> w = np.array([[1.0, -1.0], [1.0, -1.0]])
    >>> dense_forward(x, w, np.array([0.5, 0.5]), "relu")
    array([[3.5, 0. ]])
    """
    given = {"x": checks.as_array("x", x), "w": checks.as_array("w", w)}
    if b is not None:
        given["b"] = checks.as_array("b", b)
    x, w, *bias = checks.operands(**given)
    checks.shape("x", x, ("rows", "inputs"))
    checks.shape("w", w, (x.shape[1], "outputs"), "to fit the columns of x")
    if bias and bias[0].shape != (1, w.shape[1]):
        checks.shape("b", bias[0], (w.shape[1],), "to fit the columns of w")
    checks.addressable("x", x.shape, x.dtype)
    function = resolve(activation)
    checks.output("out", out, (x.shape[0], w.shape[1]), x.dtype, given)
    b = bias[0].reshape(-1) if bias else None
    result = run("dense_forward", (x, w, b), function, out=out)
    return result if out is None else out


@overload
def dense_backward(
    dy: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    y: ArrayLike | None = None,
    activation: ActivationLike = "identity",
    *,
    out: tuple[Array, Array, Array] | None = None,
    need_dx: Literal[True] = True,
) -> tuple[Array, Array, Array]: ...


@overload
def dense_backward(
    dy: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    y: ArrayLike | None = None,
    activation: ActivationLike = "identity",
    *,
    out: tuple[Array | None, Array, Array] | None = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]: ...


@fast_path
def dense_backward(
    dy: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    y: ArrayLike | None = None,
    activation: ActivationLike = "identity",
    *,
    out: tuple[Array | None, Array, Array] | None = None,
    need_dx: bool = True,
) -> tuple[Array | None, Array, Array]:
    """Backward pass of `dense_forward`: gradients with respect to x, w and b.

    Formula, with z = x w + b::

        dz = act'(z) dy
        dx = dz w^T
        dw = x^T dz
        db = sum of dz over the rows

    The gradients are sums over the batch, not means: the mean is in the dy that a loss returns.

    Parameters
    ----------
    dy : array_like of float32 or float64, shape (n, outputs)
        Gradient of the loss with respect to the output.
    x : array_like, shape (n, inputs)
        Input of the layer, of the dtype of ``dy``.
    w : array_like, shape (inputs, outputs)
        Weights of the layer, of the dtype of ``dy``.
    y : array_like, shape (n, outputs), optional
        Output of the layer, of the dtype of ``dy``, from which act'(z) is computed; "identity" needs none.
    activation : str, Activation or class, default "identity"
        As for `dense_forward`, but for those whose derivative needs z.
    out : tuple (dx, dw, db) of ndarray, optional
        Arrays for the gradients, apart from the inputs and from each other; None in the place of dx leaves it
        out. New if not given.
    need_dx : bool, default True
        Whether dx is computed. A first layer needs none, which is half the work.

    Returns
    -------
    dx : ndarray, shape (n, inputs), or None
        Gradient with respect to ``x``; None where it is not computed.
    dw : ndarray, shape (inputs, outputs)
        Gradient with respect to ``w``.
    db : ndarray, shape (outputs,)
        Gradient with respect to ``b``.

    Raises
    ------
    TypeError
        For a dtype other than float32 or float64, or more than one.
    ValueError
        For shapes that do not fit, an unknown activation, an activation whose derivative needs z, a missing
        ``y`` where it is needed, and arrays in ``out`` of another shape, read-only or overlapping.

    Notes
    -----
    The derivatives of "gelu", "gelu_tanh" and "silu" cannot be computed from y. For them, keep
    ``z = dense_forward(x, w, b)`` and ``y = gelu(z)``, and take the backward pass in two steps:
    ``dense_backward(gelu_backward(dy, z), x, w)``, with the identity.

    References
    ----------
    Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323, 1986.

    Examples
    --------
    >>> x, w = np.array([[1.0, 2.0]]), np.array([[1.0, -1.0], [1.0, -1.0]])
    >>> y = dense_forward(x, w, np.zeros(2), "relu")
    >>> dx, dw, db = dense_backward(np.ones((1, 2)), x, w, y, "relu")
    >>> dx
    array([[1., 1.]])
    >>> dw
    array([[1., 0.],
           [2., 0.]])
    >>> db
    array([1., 0.])
    >>> dense_backward(np.ones((1, 2)), x, w, need_dx=False)[0] is None
    True
    """
    given = {"dy": checks.as_array("dy", dy), "x": checks.as_array("x", x), "w": checks.as_array("w", w)}
    if y is not None:
        given["y"] = checks.as_array("y", y)
    dy, x, w, *outputs_given = checks.operands(**given)
    checks.shape("dy", dy, ("rows", "outputs"))
    rows, outputs = dy.shape
    checks.shape("x", x, (rows, "inputs"), "to fit the rows of dy")
    checks.shape("w", w, (x.shape[1], outputs), "to fit the columns of x and of dy")
    if outputs_given:
        checks.shape("y", outputs_given[0], dy.shape, "like dy")
    function = resolve(activation)
    if not function.from_output:
        name = function.name
        raise ValueError(
            f"activation: expected one whose derivative follows from y, got {name!r}; apply "
            f"dense_backward with 'identity' to {name}_backward(dy, z), where z = x w + b")
    if y is None and function.name != "identity":
        raise ValueError(f"y: expected the output of dense_forward, of shape {dy.shape}, from which the "
                         f"derivative of {function.name!r} is computed, got None")
    if not isinstance(need_dx, (bool, np.bool_)):
        raise TypeError(f"need_dx: expected True or False, got {need_dx!r}")
    for name, array in (("dy", dy), ("x", x)):
        checks.addressable(name, array.shape, array.dtype)
    if out is not None:
        if not isinstance(out, (tuple, list)) or len(out) != 3:
            raise TypeError(f"out: expected a tuple of three arrays (dx, dw, db), got {type(out).__name__}")
        shapes = {"dx": x.shape, "dw": w.shape, "db": (outputs,)}
        results: dict[str, Any] = {f"out ({name})": array for name, array in zip(shapes, out, strict=True)}
        if out[0] is None:
            del results["out (dx)"]
        elif not need_dx:
            raise ValueError("out (dx): expected None where need_dx is False, got an array")
        for (name, array), sizes in zip(results.items(), list(shapes.values())[-len(results):], strict=True):
            checks.writeable(name, array)
            checks.output(name, array, sizes, x.dtype, given)
        checks.apart(**results)
        out = out[0], out[1], out[2]
    y = outputs_given[0] if outputs_given else None
    result = run("dense_backward", (dy, x, w, y), function, out=out, need_dx=bool(need_dx))
    return result if out is None else out
