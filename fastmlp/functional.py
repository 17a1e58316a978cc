"""Array functions: layers, activations, losses and updates on NumPy arrays.

    import fastmlp.functional as F

Every function takes float32 or float64 arrays, all of one dtype, with any strides, read-only or not, and
returns new arrays of that dtype, or writes into `out` and returns it. Anything `np.asarray` turns into such
an array will do; integers are never converted in silence. Arguments that do not fit raise TypeError (type
or dtype) or ValueError (shape, range, overlap, read-only `out`), with nothing changed. NaN and infinities
follow the formulas, without warnings.

`out` may have any strides and must not share memory with the inputs; element-wise functions and those along
the last axis may work in place (`relu(x, out=x)`).

One pattern throughout: `first_chance` hands the arguments, as they came, to the compiled backend. What it
declines, and everything on the NumPy backend, goes through the body of the function here: it checks the
arguments with clear errors, and `_run` copies what must be copied and calls the backend again.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import backends, checks
from fastmlp.activations import Activation, resolve

__all__ = [
    "dense_forward", "dense_backward",
    "exp", "log",
    "relu", "relu_backward", "leaky_relu", "leaky_relu_backward",
    "sigmoid", "sigmoid_backward", "tanh", "tanh_backward",
    "softmax", "softmax_backward", "log_softmax", "log_softmax_backward",
    "softmax_cross_entropy", "mean_squared_error",
    "sgd_update",
]

Array = NDArray[Any]
AnyActivation = str | Activation | type[Activation]
Function = TypeVar("Function", bound=Callable[..., Any])


# The door ----------------------------------------------------------------------------------------------

def first_chance(careful: Function) -> Function:
    """Try the compiled function of the same name; `careful` is for what it declines."""
    name = careful.__name__
    override = backends.override.get
    last: tuple[Any, Any] = None, None      # a backend and its function, if compiled: saves 100 ns a call

    @wraps(careful)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal last
        backend: Any = override() or backends.process_wide      # backends.active(), without the call
        known, compiled = last              # one tuple: whole, whatever other threads do
        if backend is not known:
            compiled = getattr(backend, name) if backend.COMPILED else None
            last = backend, compiled
        if compiled is not None:            # without keywords a call is cheaper
            result = compiled(*args, **kwargs) if kwargs else compiled(*args)
            if result is not NotImplemented:
                return result
        return careful(*args, **kwargs)

    @wraps(careful)
    def call_unary(x: Any, *, out: Any = None) -> Any:      # the same for f(x, out=None), and 60 ns cheaper
        nonlocal last
        backend: Any = override() or backends.process_wide
        known, compiled = last
        if backend is not known:
            compiled = getattr(backend, name) if backend.COMPILED else None
            last = backend, compiled
        if compiled is not None:
            result = compiled(x) if out is None else compiled(x, out=out)
            if result is not NotImplemented:
                return result
        return careful(x, out=out)

    unary = list(signature(careful).parameters) == ["x", "out"]
    return call_unary if unary else call  # type: ignore[return-value]


def _run(name: str, inputs: tuple[Array, ...], *options: Any, out: Any = None) -> Any:
    """The backend's function on checked arguments. `out` (None, an array, a tuple of arrays) is filled.

    A compiled backend gets plain copies of the inputs, and temporaries for results, where they are not plain.
    """
    backend = backends.active()
    function = getattr(backend, name)
    if not backend.COMPILED:
        return function(*inputs, *options, out=out)
    inputs = tuple(_plain(array) for array in inputs)
    if out is None:
        return _done(name, function(*inputs, *options))
    outs = out if isinstance(out, tuple) else (out,)
    targets = tuple(_target(array, inputs) for array in outs)
    result = _done(name, function(*inputs, *options, out=targets if isinstance(out, tuple) else targets[0]))
    for array, target in zip(outs, targets, strict=True):
        if target is not array:
            array[...] = target
    return result


def _is_plain(array: Array) -> bool:
    flags = array.flags
    return flags.c_contiguous and flags.aligned and array.dtype.isnative and type(array) is np.ndarray


def _plain(array: Array) -> Array:
    return array if _is_plain(array) else np.array(array, array.dtype.newbyteorder("="), order="C")


def _target(out: Array, inputs: tuple[Array, ...]) -> Array:
    """`out` itself, or a temporary where the kernel cannot write there at once."""
    if _is_plain(out) and not any(checks.overlap(out, array) for array in inputs):
        return out
    return np.empty(out.shape, out.dtype.newbyteorder("="))


def _done(name: str, result: Any) -> Any:
    if result is NotImplemented:
        raise AssertionError(f"{name}: the backend declined checked arguments")
    return result


def _unary(name: str, x: ArrayLike, *options: Any, out: Array | None) -> Array:
    x = checks.floating("x", x)
    if "softmax" in name:
        checks.has_rows("x", x)
    checks.output("out", out, x.shape, x.dtype, {"x": x}, may_replace=("x",))
    result = _run(name, (x,), *options, out=out)
    return result if out is None else out


def _unary_backward(name: str, dy: ArrayLike, y: ArrayLike, *options: Any, out: Array | None) -> Array:
    dy, y = checks.operands(dy=dy, y=y)
    if "softmax" in name:
        checks.has_rows("dy", dy)
    checks.same_shape(dy=dy, y=y)
    checks.output("out", out, dy.shape, dy.dtype, {"dy": dy, "y": y}, may_replace=("dy", "y"))
    result = _run(name, (dy, y), *options, out=out)
    return result if out is None else out


# Layers ------------------------------------------------------------------------------------------------

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
    `activation` is a name ("identity", "relu", "leaky_relu", "sigmoid", "tanh") or an object of
    `fastmlp.activations`. `out` must not share memory with x, w or b.

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
    result = _run("dense_forward", (x, w, b), function, out=out)
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
    those with respect to x, w and b. act'(z) is computed from y.

    Shapes: dy and y (n, outputs), x (n, inputs), w (inputs, outputs) -> dx (n, inputs), dw (inputs, outputs),
    db (outputs,). `out` is the tuple (dx, dw, db), apart from the inputs and from each other. The gradients
    are sums over the batch, not means: the mean is in the dy that a loss returns.

    Raises TypeError and ValueError as `dense_forward` does.

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
    result = _run("dense_backward", (dy, x, w, y), function, out=out)
    return result if out is None else out


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
    return _unary("exp", x, out=out)


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
    return _unary("log", x, out=out)


@first_chance
def relu(x: ArrayLike, *, out: Array | None = None) -> Array:
    """y = max(x, 0), for every element of an array of any shape.

    relu(NaN) = NaN, relu(-inf) = 0. `out` may be x. See `fastmlp.activations.ReLU`.

    Raises TypeError and ValueError as `exp` does.

    Source: Nair, Hinton, "Rectified Linear Units Improve Restricted Boltzmann Machines", ICML 2010.

    >>> relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return _unary("relu", x, out=out)


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
    return _unary_backward("relu_backward", dy, y, out=out)


@first_chance
def leaky_relu(x: ArrayLike, alpha: float = 0.01, *, out: Array | None = None) -> Array:
    """y = x where x > 0, else alpha x, for every element of an array of any shape.

    alpha is finite and not negative. NaN stays NaN. `out` may be x. See `fastmlp.activations.LeakyReLU`.

    Raises TypeError and ValueError as `exp` does, and for alpha out of range.

    Source: Maas, Hannun, Ng, "Rectifier Nonlinearities Improve Neural Network Acoustic Models", ICML 2013.

    >>> leaky_relu(np.array([-1.0, 2.0]), alpha=0.5)
    array([-0.5,  2. ])
    """
    return _unary("leaky_relu", x, checks.number("alpha", alpha, low=0.0), out=out)


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
    return _unary_backward("leaky_relu_backward", dy, y, checks.number("alpha", alpha, low=0.0), out=out)


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
    return _unary("sigmoid", x, out=out)


@first_chance
def sigmoid_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """dx = dy y (1 - y); y is the output of `sigmoid`.

    dy and y have one shape, any. `out` may be dy or y.

    Raises TypeError and ValueError as `relu_backward` does.

    Source: the derivative of `sigmoid`.

    >>> sigmoid_backward(np.array([2.0]), np.array([0.5]))
    array([0.5])
    """
    return _unary_backward("sigmoid_backward", dy, y, out=out)


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
    return _unary("tanh", x, out=out)


@first_chance
def tanh_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """dx = dy (1 - y^2); y is the output of `tanh`.

    dy and y have one shape, any. `out` may be dy or y.

    Raises TypeError and ValueError as `relu_backward` does.

    Source: the derivative of `tanh`.

    >>> tanh_backward(np.array([2.0]), np.array([0.5]))
    array([1.5])
    """
    return _unary_backward("tanh_backward", dy, y, out=out)


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
    return _unary("softmax", x, out=out)


@first_chance
def softmax_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """dx_j = y_j (dy_j - sum_k dy_k y_k), along the last axis; y is the output of `softmax`.

    dy and y have one shape with at least one axis. `out` may be dy or y.

    Raises TypeError and ValueError as `relu_backward` does, and ValueError for arrays without an axis.

    Source: the Jacobian of `softmax`, diag(y) - y y^T.

    >>> softmax_backward(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
    array([[ 0.25, -0.25]])
    """
    return _unary_backward("softmax_backward", dy, y, out=out)


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
    return _unary("log_softmax", x, out=out)


@first_chance
def log_softmax_backward(dy: ArrayLike, y: ArrayLike, *, out: Array | None = None) -> Array:
    """dx_j = dy_j - exp(y_j) sum_k dy_k, along the last axis; y is the output of `log_softmax`.

    dy and y have one shape with at least one axis. `out` may be dy or y.

    Raises TypeError and ValueError as `softmax_backward` does.

    Source: the Jacobian of `log_softmax`, 1 - softmax.

    >>> log_softmax_backward(np.array([[1.0, 0.0]]), np.log([[0.5, 0.5]]))
    array([[ 0.5, -0.5]])
    """
    return _unary_backward("log_softmax_backward", dy, y, out=out)


# Losses ------------------------------------------------------------------------------------------------

@first_chance
def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, out: Array | None = None
) -> tuple[float, Array]:
    """loss = -1/n sum_i sum_j t_ij ln softmax(z_i)_j, in nats;  dz = (softmax(z) - t) / n.

    The mean over the n rows of a batch, and its gradient. Shapes: logits z (n, C); targets either class
    indices (n,) of an integer dtype, from 0 to C - 1, or rows of probabilities (n, C) of the dtype of the
    logits -> (loss, dlogits (n, C)). Stable for logits of any size; a class of probability 0 costs 0 even
    where its logit is -inf. `out` receives dlogits and may be the logits.

    Raises TypeError for a wrong dtype; ValueError for an empty batch, shapes that do not fit, labels out of
    range, targets that are NaN or negative, or rows of them that do not sum to 1 (within 1e-3 in float32,
    1e-6 in float64), and for an `out` of another shape, read-only or overlapping an input.

    Source: Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.4.

    >>> loss, dlogits = softmax_cross_entropy(np.zeros((1, 2)), np.array([0]))
    >>> round(loss, 4)
    0.6931
    >>> dlogits
    array([[-0.5,  0.5]])
    """
    logits = checks.floating("logits", logits)
    checks.shape("logits", logits, ("rows", "classes"))
    checks.not_empty("logits", logits)
    targets = checks.class_targets("targets", targets, logits)
    checks.output("out", out, logits.shape, logits.dtype, {"logits": logits, "targets": targets}, ("logits",))
    loss, dlogits = _run("softmax_cross_entropy", (logits, targets), out=out)
    return loss, dlogits if out is None else out


@first_chance
def mean_squared_error(
    predictions: ArrayLike, targets: ArrayLike, *, out: Array | None = None
) -> tuple[float, Array]:
    """loss = 1/size sum (p - t)^2;  dp = 2 (p - t) / size.

    The mean over all elements (rows times columns), and its gradient. predictions p and targets t have one
    shape, any but empty: nothing is broadcast, (n,) does not go with (n, 1) -> (loss, dpredictions). `out`
    receives dpredictions and may be the predictions.

    Raises TypeError for a wrong dtype; ValueError for an empty batch, two shapes, NaN in targets, and an
    `out` of another shape, read-only or overlapping an input.

    Source: Legendre, "Nouvelles methodes pour la determination des orbites des cometes", 1805.

    >>> mean_squared_error(np.array([1.0, 2.0]), np.array([1.0, 4.0]))
    (2.0, array([ 0., -2.]))
    """
    predictions, targets = checks.operands(predictions=predictions, targets=targets)
    checks.same_shape(predictions=predictions, targets=targets)
    checks.not_empty("predictions", predictions)
    checks.no_nan("targets", targets)
    inputs = {"predictions": predictions, "targets": targets}
    checks.output("out", out, predictions.shape, predictions.dtype, inputs, ("predictions",))
    loss, dpredictions = _run("mean_squared_error", (predictions, targets), out=out)
    return loss, dpredictions if out is None else out


# Optimizers --------------------------------------------------------------------------------------------

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
    zero) where momentum is not 0. lr >= 0 is the learning rate, momentum is from 0 to 1, weight_decay >= 0
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
    checks.writeable("param", param)
    grad = checks.operands(param=param, grad=grad)[1]
    arrays = {"param": param, "grad": grad}
    numbers = checks.number("lr", lr, low=0.0), checks.number("momentum", momentum, low=0.0, high=1.0)
    weight_decay = checks.number("weight_decay", weight_decay, low=0.0)
    if velocity is not None:
        checks.writeable("velocity", velocity)
        checks.operands(param=param, velocity=velocity)
        arrays["velocity"] = velocity
    elif numbers[1]:
        raise ValueError("velocity: expected an array like param where momentum is not 0, got None")
    checks.same_shape(**arrays)
    checks.apart(**arrays)
    _sgd_update(param, grad, numbers, velocity, bool(nesterov), weight_decay)


def _sgd_update(
    param: Array,
    grad: Array,
    numbers: tuple[float, float],
    velocity: Array | None,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """Run on plain copies where a compiled backend needs them, and write those back."""
    backend = backends.active()
    p, g, v = param, grad, velocity
    if backend.COMPILED:
        p, g = _plain(param), _plain(grad)
        v = None if velocity is None else _plain(velocity)
    _done("sgd_update", backend.sgd_update(p, g, *numbers, v, nesterov, weight_decay))
    if p is not param:
        param[...] = p
    if velocity is not None and v is not velocity:
        velocity[...] = v
