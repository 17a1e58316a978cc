"""The compiled backend: the kernels of the active instruction set, called with arrays as they come.

Every function takes the call if all its arrays are plain (NumPy arrays of one dtype, C-contiguous, of the
right shapes, results apart from inputs) and returns NotImplemented, with nothing written, if they are not;
`fastmlp.functional` documents and checks.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmlp.activations import BY_NAME, Activation, resolve
from fastmlp.kernels import module
from fastmlp.layout import Parameters, padded_row
from fastmlp.losses import Loss
from fastmlp.optimizers import SGD

COMPILED = True

Array = np.ndarray
_KERNELS = {"f": module("float32"), "d": module("float64")}
_SHORT = _KERNELS["f"]      # short ways in, written in C: float32 first, then float64
_CODES = {name: (cls.code, cls().alpha) for name, cls in BY_NAME.items()}
_KERNELS["f"].introduce(np.ndarray, np.dtype("float32"), np.empty, resolve, _CODES, _KERNELS["d"])
_KERNELS["d"].introduce(np.ndarray, np.dtype("float64"), np.empty, resolve, _CODES, None)
_DECLINE = (TypeError, ValueError, AttributeError, KeyError, IndexError, BufferError, OverflowError)

# The numbers by which the kernels know functions that are no activation of a layer.
_RELU, _LEAKY_RELU, _SIGMOID, _TANH = 1, 2, 3, 4
_CROSS_ENTROPY, _CROSS_ENTROPY_ROWS, _MEAN_SQUARED_ERROR = 0, 1, 2
_GRADIENT, _SGD, _MOMENTUM, _NESTEROV = 0, 1, 2, 3


# Layers ------------------------------------------------------------------------------------------------

dense_forward = _SHORT.array_dense_forward


def dense_backward(dy: Any, x: Any, w: Any, y: Any, activation: Any = "identity", *, out: Any = None) -> Any:
    try:
        f = resolve(activation)
        if out is None:
            out = np.empty(x.shape, x.dtype), np.empty(w.shape, x.dtype), np.empty(w.shape[1:], x.dtype)
        dx, dw, db = out
        dz = np.empty((x.shape[0], padded_row(w.shape[1], x.itemsize)), x.dtype)
        if _plain(dy, x, w, y, dx, dw, db) and _KERNELS[x.dtype.char].dense_backward(
                dx, dw, db, dy, x, w, y, f.code, f.alpha, dz):
            return dx, dw, db
    except _DECLINE:
        pass
    return NotImplemented


# Element by element ------------------------------------------------------------------------------------

exp = _SHORT.array_exp
log = _SHORT.array_log
relu = _SHORT.array_relu
sigmoid = _SHORT.array_sigmoid
tanh = _SHORT.array_tanh


def _map_backward(dy: Any, y: Any, kind: int, alpha: float, out: Any) -> Any:
    try:
        if out is None:
            out = np.empty(dy.shape, dy.dtype)
        if _plain(dy, y, out) and _contiguous(dy, y, out) and dy.shape == y.shape == out.shape and _KERNELS[
                dy.dtype.char].map_derivative(out.reshape(-1), dy.reshape(-1), y.reshape(-1), kind, alpha):
            return out
    except _DECLINE:
        pass
    return NotImplemented


def relu_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _map_backward(dy, y, _RELU, 0.0, out)


def leaky_relu(x: Any, alpha: Any = 0.01, *, out: Any = None) -> Any:
    return _SHORT.array_map(x, _LEAKY_RELU, alpha, out) if _slope(alpha) else NotImplemented


def leaky_relu_backward(dy: Any, y: Any, alpha: Any = 0.01, *, out: Any = None) -> Any:
    return _map_backward(dy, y, _LEAKY_RELU, alpha, out) if _slope(alpha) else NotImplemented


def sigmoid_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _map_backward(dy, y, _SIGMOID, 0.0, out)


def tanh_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _map_backward(dy, y, _TANH, 0.0, out)


# Along the last axis -----------------------------------------------------------------------------------

softmax = _SHORT.array_softmax
log_softmax = _SHORT.array_log_softmax


def softmax_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _along_rows_backward(dy, y, False, out)


def log_softmax_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _along_rows_backward(dy, y, True, out)


def _along_rows_backward(dy: Any, y: Any, logarithm: bool, out: Any) -> Any:
    try:
        if out is None:
            out = np.empty(dy.shape, dy.dtype)
        if _plain(dy, y, out) and _contiguous(dy, y, out) and dy.shape == y.shape == out.shape and _KERNELS[
                dy.dtype.char].softmax_backward(_rows(out), _rows(dy), _rows(y), logarithm):
            return out
    except _DECLINE:
        pass
    return NotImplemented


def _rows(x: Array) -> Array:
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1]) if x.size else x.reshape(0, 0)


# Losses ------------------------------------------------------------------------------------------------
# The kernel looks through the targets too: a label out of range or a NaN declines the call.

def softmax_cross_entropy(logits: Any, targets: Any, *, out: Any = None) -> Any:
    try:
        if targets.ndim == 1:
            return _loss(logits, None, targets, _CROSS_ENTROPY, out)
        return _loss(logits, targets, None, _CROSS_ENTROPY_ROWS, out)
    except _DECLINE:
        return NotImplemented


def mean_squared_error(predictions: Any, targets: Any, *, out: Any = None) -> Any:
    try:
        shape = predictions.shape
        if len(shape) == 2:
            return _loss(predictions, targets, None, _MEAN_SQUARED_ERROR, out)
        if out is None:
            out = np.empty(shape, predictions.dtype)
        if not (_plain(predictions, targets, out) and _contiguous(predictions, targets, out)
                and shape == targets.shape == out.shape):
            return NotImplemented
        result = _loss(predictions.reshape(1, -1), targets.reshape(1, -1), None, _MEAN_SQUARED_ERROR,
                       out.reshape(1, -1))
        return result if result is NotImplemented else (result[0], out)
    except _DECLINE:
        return NotImplemented


def _loss(z: Any, rows: Any, labels: Any, kind: int, out: Any) -> Any:
    if out is None:
        out = np.empty(z.shape, z.dtype)
    if not _plain(z, out, labels if rows is None else rows):
        return NotImplemented
    loss = _KERNELS[z.dtype.char].loss_of_rows(out, z, rows, labels, kind)
    return NotImplemented if loss is None else (loss, out)


# Updates: in place -------------------------------------------------------------------------------------

def sgd_update(param: Any, grad: Any, lr: Any, momentum: Any = 0.0, velocity: Any = None,
               nesterov: Any = False, weight_decay: Any = 0.0) -> Any:
    try:
        if not (_numbers(lr, momentum, weight_decay) and 0 <= momentum <= 1
                and 0 <= weight_decay < math.inf and 0 <= lr < math.inf):
            return NotImplemented
        arrays = (param, grad) if velocity is None else (param, grad, velocity)
        fits = _plain(*arrays) and _contiguous(*arrays) and all(a.shape == param.shape for a in arrays)
        if fits and _KERNELS[param.dtype.char].sgd_update(
                param.reshape(-1), grad.reshape(-1), lr, momentum,
                None if velocity is None else velocity.reshape(-1), nesterov, weight_decay):
            return None
    except _DECLINE:
        pass
    return NotImplemented


# What counts as plain ----------------------------------------------------------------------------------

def _plain(*arrays: Any) -> bool:
    """NumPy arrays proper: a masked array would lose its mask. The memoryviews judge dtype and layout."""
    for array in arrays:
        if type(array) is not Array:
            return False
    return True


def _contiguous(*arrays: Any) -> bool:
    return all(array.flags.c_contiguous for array in arrays)


def _numbers(*values: Any) -> bool:
    return all(type(value) in (float, int) for value in values)


def _slope(alpha: Any) -> bool:
    return _numbers(alpha) and 0 <= alpha < math.inf


# The engine of a model ---------------------------------------------------------------------------------

class Engine:
    """A network over a buffer of parameters; `fastmlp.backends.numpy.Engine` is its specification."""

    def __init__(self, parameters: Parameters, activations: Sequence[Activation], loss: Loss) -> None:
        self._address = parameters.buffer.ctypes.data
        self._itemsize = parameters.dtype.itemsize
        self._loss = loss.code
        self._engine = _KERNELS[parameters.dtype.char].Engine(
            parameters.sizes, [(f.code, f.alpha) for f in activations], parameters.buffer, parameters.offsets)
        self.workspace_nbytes = self._engine.workspace_nbytes
        self.forward = self._engine.forward

    def train(self, x: Array, targets: Array, order: Array | None, batch_size: int, first: int, last: int,
              optimizer: SGD, velocity: Parameters | None, total: float, threads: int) -> float:
        rule = _SGD if velocity is None else _NESTEROV if optimizer.nesterov else _MOMENTUM
        away = 0 if velocity is None else self._distance(velocity)
        return self._run(x, targets, order, batch_size, first, last, rule, optimizer.lr, optimizer.momentum,
                         optimizer.weight_decay, 0, away, total, threads)

    def gradients(self, x: Array, targets: Array, gradients: Parameters, threads: int) -> float:
        return self._run(x, targets, None, len(x), 0, 1, _GRADIENT, 0.0, 0.0, 0.0, self._distance(gradients),
                         0, 0.0, threads) / len(x)

    def _run(self, x: Array, targets: Array, *rest: Any) -> float:
        labels, rows, loss = None, targets, self._loss
        if loss == _CROSS_ENTROPY:
            if targets.ndim == 1:
                labels, rows = targets, None
            else:
                loss = _CROSS_ENTROPY_ROWS
        return float(self._engine.train(loss, x, labels, rows, *rest))

    def _distance(self, other: Parameters) -> int:
        """From the parameters to another buffer laid out like them, in elements."""
        return int(other.buffer.ctypes.data - self._address) // self._itemsize
