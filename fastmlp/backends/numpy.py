"""The NumPy backend: the specification of every array function, and the baseline of the benchmarks.

Plain NumPy in the dtype of the arguments: float32 stays float32. Arguments have been checked at the door
(`fastmlp.functional` documents and checks them); any strides are fine. Shapes in the comments: n rows of a
batch, k inputs and m outputs of a layer. Floating-point events make no warning: they are in the result.
"""
from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from typing import Any

import numpy as np

from fastmlp.activations import Activation, resolve
from fastmlp.layout import Parameters
from fastmlp.losses import Loss
from fastmlp.optimizers import SGD

COMPILED = False


def quiet(function):
    """No warnings about overflow, invalid values and the like."""
    @wraps(function)
    def call(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)
    return call


# Layers ------------------------------------------------------------------------------------------------

@quiet
def dense_forward(x, w, b, activation="identity", *, out=None):
    """y = act(x w + b)"""
    y = np.matmul(x, w, out=_or_new(out, (x.shape[0], w.shape[1]), x.dtype))
    y += b
    return _activate(y, resolve(activation))


@quiet
def dense_backward(dy, x, w, y, activation="identity", *, out=None):
    """dz = act'(z) dy;  dx = dz w^T,  dw = x^T dz,  db = sum of dz over the rows"""
    dx, dw, db = out or (np.empty(a, x.dtype) for a in (x.shape, w.shape, w.shape[1:]))
    dz = _derivative(dy, y, resolve(activation))
    np.matmul(dz, w.T, out=dx)
    np.matmul(x.T, dz, out=dw)
    np.sum(dz, axis=0, out=db)
    return dx, dw, db


# Element by element ------------------------------------------------------------------------------------
# The derivatives are in terms of the output y.

@quiet
def exp(x, *, out=None):
    return np.exp(x, out=_or_new(out, x.shape, x.dtype))


@quiet
def log(x, *, out=None):
    return np.log(x, out=_or_new(out, x.shape, x.dtype))


@quiet
def relu(x, *, out=None):
    return np.maximum(x, 0, out=_or_new(out, x.shape, x.dtype))


@quiet
def relu_backward(dy, y, *, out=None):
    return _assign(out, np.where(y > 0, dy, dy.dtype.type(0)))


@quiet
def leaky_relu(x, alpha=0.01, *, out=None):
    return _assign(out, np.where(x > 0, x, x * x.dtype.type(alpha)))


@quiet
def leaky_relu_backward(dy, y, alpha=0.01, *, out=None):
    return _assign(out, np.where(y > 0, dy, dy * dy.dtype.type(alpha)))


@quiet
def sigmoid(x, *, out=None):
    e = np.exp(-np.abs(x))                      # at most 1: never overflows
    numerator = np.where(x < 0, e, x.dtype.type(1))
    return np.divide(numerator, 1 + e, out=_or_new(out, x.shape, x.dtype))


@quiet
def sigmoid_backward(dy, y, *, out=None):
    return np.multiply(dy, y * (1 - y), out=_or_new(out, dy.shape, dy.dtype))


@quiet
def tanh(x, *, out=None):
    return np.tanh(x, out=_or_new(out, x.shape, x.dtype))


@quiet
def tanh_backward(dy, y, *, out=None):
    return np.multiply(dy, 1 - y * y, out=_or_new(out, dy.shape, dy.dtype))


# Along the last axis -----------------------------------------------------------------------------------

@quiet
def softmax(x, *, out=None):
    y = np.subtract(x, _row_max(x), out=_or_new(out, x.shape, x.dtype))
    np.exp(y, out=y)
    y /= y.sum(axis=-1, keepdims=True)
    return y


@quiet
def softmax_backward(dy, y, *, out=None):
    inner = (dy * y).sum(axis=-1, keepdims=True)
    return np.multiply(y, dy - inner, out=_or_new(out, dy.shape, dy.dtype))


@quiet
def log_softmax(x, *, out=None):
    y = np.subtract(x, _row_max(x), out=_or_new(out, x.shape, x.dtype))
    y -= np.log(np.exp(y).sum(axis=-1, keepdims=True))
    return y


@quiet
def log_softmax_backward(dy, y, *, out=None):
    total = dy.sum(axis=-1, keepdims=True)
    return np.subtract(dy, np.exp(y) * total, out=_or_new(out, dy.shape, dy.dtype))


# Losses: the mean over the batch, and its gradient -----------------------------------------------------

@quiet
def softmax_cross_entropy(logits, targets, *, out=None):
    """loss = -1/n sum of t log softmax(z);  dz = (softmax(z) - t) / n"""
    n = len(logits)
    log_p = log_softmax(logits)
    dlogits = np.exp(log_p, out=_or_new(out, logits.shape, logits.dtype))
    if targets.ndim == 1:                       # class indices: t is 1 there and 0 elsewhere
        rows = np.arange(n)
        losses = -log_p[rows, targets]
        dlogits[rows, targets] -= 1
    else:                                       # a class of probability 0 costs 0, even where log p = -inf
        losses = -np.where(targets > 0, targets * log_p, 0).sum(axis=1)
        dlogits -= targets
    dlogits /= n
    return float(losses.mean()), dlogits


@quiet
def mean_squared_error(predictions, targets, *, out=None):
    """loss = mean of (p - t)^2 over all elements;  dp = 2 (p - t) / size"""
    d = np.subtract(predictions, targets, out=_or_new(out, predictions.shape, predictions.dtype))
    loss = float(np.square(d).mean())
    d *= 2 / d.size
    return loss, d


# Optimizers: in place ----------------------------------------------------------------------------------

@quiet
def sgd_update(param, grad, lr, momentum=0.0, velocity=None, nesterov=False, weight_decay=0.0):
    step = grad
    if weight_decay:
        step = step + weight_decay * param
    if momentum:
        velocity *= momentum
        velocity += step
        step = step + momentum * velocity if nesterov else velocity
    param -= lr * step


# Helpers -----------------------------------------------------------------------------------------------

_FORWARD: dict[str, Any] = {
    "identity": lambda z, alpha: z,
    "relu": lambda z, alpha: relu(z, out=z),
    "leaky_relu": lambda z, alpha: leaky_relu(z, alpha, out=z),
    "sigmoid": lambda z, alpha: sigmoid(z, out=z),
    "tanh": lambda z, alpha: tanh(z, out=z),
}
_BACKWARD: dict[str, Any] = {
    "identity": lambda dy, y, alpha: dy,
    "relu": lambda dy, y, alpha: relu_backward(dy, y),
    "leaky_relu": lambda dy, y, alpha: leaky_relu_backward(dy, y, alpha),
    "sigmoid": lambda dy, y, alpha: sigmoid_backward(dy, y),
    "tanh": lambda dy, y, alpha: tanh_backward(dy, y),
}


def _activate(z, activation):
    """act(z), in place."""
    return _FORWARD[activation.name](z, activation.alpha)


def _derivative(dy, y, activation):
    """act'(z) dy; dy itself for the identity."""
    return _BACKWARD[activation.name](dy, y, activation.alpha)


def _row_max(x):
    return x.max(axis=-1, keepdims=True, initial=-np.inf)


def _or_new(out, shape, dtype):
    return np.empty(shape, dtype) if out is None else out


def _assign(out, result):
    if out is None:
        return result
    out[...] = result
    return out


# The engine of a model ---------------------------------------------------------------------------------

class Engine:
    """A network over a buffer of parameters: the forward pass, gradients, and runs of minibatches.

    x is a table (n, inputs) of any numeric dtype, converted to the parameters' dtype batch by batch; targets
    are class indices (n,) as intp, or rows (n, outputs) of any numeric dtype. Arguments have been checked.
    `threads` is for compiled backends.
    """

    def __init__(self, parameters: Parameters, activations: Sequence[Activation], loss: Loss) -> None:
        self._parameters = parameters
        self._activations = activations
        self._loss = softmax_cross_entropy if loss.classifies else mean_squared_error

    def workspace_nbytes(self, batch_size: int) -> int:
        """Bytes of one step's arrays: activations, deltas and gradients, roughly."""
        itemsize = self._parameters.dtype.itemsize
        return itemsize * 2 * batch_size * sum(self._parameters.sizes) + self._parameters.buffer.nbytes

    def forward(self, x: Any, out: Any, threads: int = 1) -> bool:
        """out = the last layer's values of every row."""
        for start in range(0, len(x), 1024):
            rows = slice(start, start + 1024)
            out[rows] = self._forward(x[rows].astype(self._parameters.dtype, copy=False))[-1]
        return True

    def gradients(self, x: Any, targets: Any, gradients: Parameters, threads: int = 1) -> float:
        """The mean loss, and its gradients in a buffer laid out like the parameters."""
        dtype = self._parameters.dtype
        y = self._forward(x.astype(dtype, copy=False))
        loss, dy = self._loss(y[-1], targets if targets.ndim == 1 else targets.astype(dtype, copy=False))
        weights = self._parameters.weights
        for i in reversed(range(len(weights))):
            dy, gradients.weights[i][...], gradients.biases[i][...] = dense_backward(
                dy, y[i], weights[i], y[i + 1], self._activations[i])
        return loss

    def train(self, x: Any, targets: Any, order: Any, batch_size: int, first: int, last: int,
              optimizer: SGD, velocity: Parameters | None, total: float = 0.0, threads: int = 1) -> float:
        """Steps first..last - 1 over the samples in `order` (None: as they come), batch_size samples each.
        Returns `total` plus the losses of all samples seen."""
        n = len(x) if order is None else len(order)
        gradients = Parameters(self._parameters.sizes, self._parameters.dtype)
        for step in range(first, last):
            rows: Any = slice(step * batch_size, min((step + 1) * batch_size, n))
            size = rows.stop - rows.start
            if order is not None:
                rows = order[rows]
            total += self.gradients(x[rows], targets[rows], gradients) * size
            for i in range(len(gradients.weights)):
                for kind, decay in (("weights", optimizer.weight_decay), ("biases", 0.0)):
                    sgd_update(getattr(self._parameters, kind)[i], getattr(gradients, kind)[i], optimizer.lr,
                               optimizer.momentum, getattr(velocity, kind)[i] if velocity else None,
                               optimizer.nesterov, decay)
        return total

    def _forward(self, x: Any) -> list[Any]:
        """x and the outputs of all layers."""
        y = [x]
        for w, b, activation in zip(self._parameters.weights, self._parameters.biases, self._activations):
            y.append(dense_forward(y[-1], w, b, activation))
        return y
