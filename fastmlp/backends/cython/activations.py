"""Functions element by element and along the last axis, and their derivatives."""
from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.activations import ELU, GELU, SELU, GELUTanh, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh

from ._kernels import DECLINE, KERNELS, SHORT, Array, contiguous, plain, slope

exp = SHORT.array_exp
log = SHORT.array_log
relu = SHORT.array_relu
sigmoid = SHORT.array_sigmoid
tanh = SHORT.array_tanh
selu = SHORT.array_selu
softplus = SHORT.array_softplus
gelu = SHORT.array_gelu
gelu_tanh = SHORT.array_gelu_tanh
silu = SHORT.array_silu


def _map_backward(dy: Any, y: Any, kind: int, alpha: float, out: Any) -> Any:
    try:
        if out is None:
            out = np.empty(dy.shape, dy.dtype)
        if plain(dy, y, out) and contiguous(dy, y, out) and dy.shape == y.shape == out.shape and KERNELS[
                dy.dtype.char].map_derivative(out.reshape(-1), dy.reshape(-1), y.reshape(-1), kind, alpha):
            return out
    except DECLINE:
        pass
    return NotImplemented


def relu_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _map_backward(dy, y, ReLU.code, 0.0, out)


def leaky_relu(x: Any, alpha: Any = 0.01, *, out: Any = None) -> Any:
    return SHORT.array_map(x, LeakyReLU.code, alpha, out) if slope(alpha) else NotImplemented


def leaky_relu_backward(dy: Any, y: Any, alpha: Any = 0.01, *, out: Any = None) -> Any:
    return _map_backward(dy, y, LeakyReLU.code, alpha, out) if slope(alpha) else NotImplemented


def sigmoid_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _map_backward(dy, y, Sigmoid.code, 0.0, out)


def tanh_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _map_backward(dy, y, Tanh.code, 0.0, out)


def elu(x: Any, alpha: Any = 1.0, *, out: Any = None) -> Any:
    return SHORT.array_map(x, ELU.code, alpha, out) if slope(alpha) else NotImplemented


def elu_backward(dy: Any, y: Any, alpha: Any = 1.0, *, out: Any = None) -> Any:
    return _map_backward(dy, y, ELU.code, alpha, out) if slope(alpha) else NotImplemented


def selu_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _map_backward(dy, y, SELU.code, 0.0, out)


def softplus_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _map_backward(dy, y, Softplus.code, 0.0, out)


def gelu_backward(dy: Any, x: Any, *, out: Any = None) -> Any:
    return _map_backward(dy, x, GELU.code, 0.0, out)


def gelu_tanh_backward(dy: Any, x: Any, *, out: Any = None) -> Any:
    return _map_backward(dy, x, GELUTanh.code, 0.0, out)


def silu_backward(dy: Any, x: Any, *, out: Any = None) -> Any:
    return _map_backward(dy, x, SiLU.code, 0.0, out)


# Along the last axis -----------------------------------------------------------------------------------

softmax = SHORT.array_softmax
log_softmax = SHORT.array_log_softmax


def softmax_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _along_rows_backward(dy, y, False, out)


def log_softmax_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _along_rows_backward(dy, y, True, out)


def _along_rows_backward(dy: Any, y: Any, logarithm: bool, out: Any) -> Any:
    try:
        if out is None:
            out = np.empty(dy.shape, dy.dtype)
        if plain(dy, y, out) and contiguous(dy, y, out) and dy.shape == y.shape == out.shape and KERNELS[
                dy.dtype.char].softmax_backward(_rows(out), _rows(dy), _rows(y), logarithm):
            return out
    except DECLINE:
        pass
    return NotImplemented


def _rows(x: Array) -> Array:
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1]) if x.size else x.reshape(0, 0)
