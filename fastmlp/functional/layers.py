"""Fully-connected layers, forward and back."""
from __future__ import annotations

import numpy as np  # noqa: F401  (the examples)
from numpy.typing import ArrayLike

from fastmlp import checks
from fastmlp.activations import Activation, resolve

from ._door import Array, first_chance, run

__all__ = ["dense_forward", "dense_backward"]

AnyActivation = str | Activation | type[Activation]


@first_chance
def dense_forward(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike,
    activation: AnyActivation = "identity",
    *,
    out: Array | None = None,
) -> Array:
    """y = act(x w + b), a fully-connected layer.

    Shapes: x (n, inputs), w (inputs, outputs), b (outputs,) -> y (n, outputs). n = 0 gives an empty result.
    `activation` is a name ("identity", "relu", "leaky_relu", "sigmoid", "tanh", "elu", "selu", "softplus",
    "gelu", "gelu_tanh", "silu") or an object of `fastmlp.activations`. `out` must not share memory with x, w
    or b.

    Raises TypeError for a dtype other than float32 or float64, or more than one; ValueError for shapes that
    do not fit, an unknown activation, and an `out` of another shape, read-only or overlapping an input.

    Source: Rosenblatt, "The perceptron", Psychological Review 65, 1958; Goodfellow, Bengio, Courville, "Deep
    Learning", 2016, chapter 6.

    >>> x = np.array([[1.0, 2.0]])
    >>> w = np.array([[1.0, -1.0], [1.0, -1.0]])
    >>> dense_forward(x, w, np.array([0.5, 0.5]), "relu")
    array([[3.5, 0. ]])
    """
    x, w, b = checks.operands(x=x, w=w, b=b)
    checks.shape("x", x, ("rows", "inputs"))
    checks.shape("w", w, (x.shape[1], "outputs"), "to fit the columns of x")
    checks.shape("b", b, (w.shape[1],), "to fit the columns of w")
    function = resolve(activation)
    checks.output("out", out, (x.shape[0], w.shape[1]), x.dtype, {"x": x, "w": w, "b": b})
    result = run("dense_forward", (x, w, b), function, out=out)
    return result if out is None else out


@first_chance
def dense_backward(
    dy: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    y: ArrayLike,
    activation: AnyActivation = "identity",
    *,
    out: tuple[Array, Array, Array] | None = None,
) -> tuple[Array, Array, Array]:
    """dz = act'(z) dy;  dx = dz w^T,  dw = x^T dz,  db = sum of dz over the rows.

    The way back through `dense_forward`: from the gradient dy of the loss with respect to its output y to
    those with respect to x, w and b. act'(z) is computed from y. For "gelu", "gelu_tanh" and "silu" that
    cannot be: for them, keep z = dense_forward(x, w, b) and y = gelu(z), and go back in two steps,
    dense_backward(gelu_backward(dy, z), x, w, z) with the identity.

    Shapes: dy and y (n, outputs), x (n, inputs), w (inputs, outputs) -> dx (n, inputs), dw (inputs, outputs),
    db (outputs,). `out` is the tuple (dx, dw, db), apart from the inputs and from each other. The gradients
    are sums over the batch, not means: the mean is in the dy that a loss returns.

    Raises TypeError and ValueError as `dense_forward` does, and ValueError for an activation whose derivative
    needs z.

    Source: Rumelhart, Hinton, Williams, "Learning representations by back-propagating
    errors", Nature 323, 1986.

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
    """
    dy, x, w, y = checks.operands(dy=dy, x=x, w=w, y=y)
    checks.shape("dy", dy, ("rows", "outputs"))
    rows, outputs = dy.shape
    checks.shape("x", x, (rows, "inputs"), "to fit the rows of dy")
    checks.shape("w", w, (x.shape[1], outputs), "to fit the columns of x and of dy")
    checks.shape("y", y, dy.shape, "like dy")
    function = resolve(activation)
    if not function.from_output:
        name = function.name
        raise ValueError(
            f"activation: expected one whose derivative follows from y, got {name!r}; apply "
            f"dense_backward with 'identity' to {name}_backward(dy, z), where z = x w + b")
    inputs = {"dy": dy, "x": x, "w": w, "y": y}
    if out is not None:
        if not isinstance(out, (tuple, list)) or len(out) != 3:
            raise TypeError(f"out: expected a tuple of three arrays (dx, dw, db), got {type(out).__name__}")
        shapes = {"dx": x.shape, "dw": w.shape, "db": (outputs,)}
        for (name, sizes), array in zip(shapes.items(), out, strict=True):
            checks.writeable(f"out ({name})", array)
            checks.output(f"out ({name})", array, sizes, x.dtype, inputs)
        checks.apart(**{f"out ({name})": array for name, array in zip(shapes, out, strict=True)})
    if out is not None:
        out = out[0], out[1], out[2]
    result = run("dense_backward", (dy, x, w, y), function, out=out)
    return result if out is None else out
