"""Layers of the book's ``common/layers.py``: the same attributes, the same arrays changed in place."""
from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

import fastmlp.functional as F
from fastmlp.compat import _arrays, _batch_norm
from fastmlp.compat._spare import Spare

from . import functions
from .functions import *  # noqa: F403  (as the book's module does)
from .functions import cross_entropy_error, sigmoid, softmax
from .util import col2im, im2col

__all__ = ["Affine", "BatchNormalization", "Convolution", "Dropout", "Pooling", "Relu", "Sigmoid",
           "SoftmaxWithLoss", "col2im", "im2col", *functions.__all__]


class Relu:
    """max(x, 0). ``mask`` is where x <= 0; `backward` writes zeros there into ``dout``, and returns it."""

    def __init__(self) -> None:
        self.mask: Any = None

    def forward(self, x: Any) -> Any:
        self.mask = x <= 0
        if _arrays.is_floating(x):
            return F.relu(x)
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout: Any) -> Any:
        return _arrays.block(dout, self.mask)


class Sigmoid:
    """1 / (1 + e^-x). ``out`` is the array that `forward` returned."""

    def __init__(self) -> None:
        self.out: Any = None

    def forward(self, x: Any) -> Any:
        self.out = sigmoid(x)
        return self.out

    def backward(self, dout: Any) -> Any:
        if _arrays.is_like(dout, self.out):
            return F.sigmoid_backward(dout, self.out)
        return dout * (1.0 - self.out) * self.out


class Affine:
    """x W + b, of W (inputs, outputs) and b (outputs,), which stay the caller's arrays.

    x has any number of dimensions, the first of which is the batch. After `backward`, whose result has the
    shape of x, ``dW`` and ``db`` hold the gradients, in arrays that nobody else holds."""

    def __init__(self, W: Any, b: Any) -> None:
        self.W = W
        self.b = b
        self.x: Any = None
        self.original_x_shape: Any = None
        self.dW: Any = None
        self.db: Any = None
        self._spare = Spare()

    def forward(self, x: Any) -> Any:
        self.original_x_shape = x.shape
        self.x = x.reshape(x.shape[0], -1)
        return _arrays.dense_forward(self.x, self.W, self.b)

    def backward(self, dout: Any) -> Any:
        self.dW = None      # its memory may be taken for the new one
        dx, self.dW, self.db = _arrays.dense_backward(dout, self.x, self.W, spare=self._spare)
        return dx.reshape(*self.original_x_shape)      # type: ignore[union-attr]

    def backward_parameters(self, dout: Any) -> None:
        """``dW`` and ``db`` without the gradient of x: half the work, and all that a first layer needs."""
        self.dW = None
        _, self.dW, self.db = _arrays.dense_backward(dout, self.x, self.W, False, self._spare)


class SoftmaxWithLoss:
    """The mean cross entropy of softmax(x) and t, class indices or one-hot rows. ``y`` holds the softmax."""

    def __init__(self) -> None:
        self.loss: Any = None
        self.y: Any = None
        self.t: Any = None

    def forward(self, x: Any, t: Any) -> Any:
        self.t = t
        self.y = softmax(x)
        self.loss = cross_entropy_error(self.y, self.t)
        return self.loss

    def backward(self, dout: Any = 1) -> Any:
        """The gradient of the mean loss; ``dout`` is not looked at, as in the book."""
        n = self.t.shape[0]
        if self.t.size == self.y.size:
            dx = self.y - self.t
        else:
            dx = self.y.copy()
            dx[np.arange(n), self.t] -= 1
        dx /= n
        return dx


class Dropout:
    """x mask in training, x (1 - dropout_ratio) otherwise; the mask comes from ``np.random``."""

    def __init__(self, dropout_ratio: float = 0.5) -> None:
        self.dropout_ratio = dropout_ratio
        self.mask: Any = None

    def forward(self, x: Any, train_flg: bool = True) -> Any:
        if not train_flg:
            return x * (1.0 - self.dropout_ratio)
        self.mask = np.random.rand(*x.shape) > self.dropout_ratio
        return x * self.mask

    def backward(self, dout: Any) -> Any:
        return dout * self.mask


class BatchNormalization:
    """gamma (x - mean) / sqrt(var + 1e-6) + beta, of x (n, d) or (n, c, h, w).

    Mean and var are those of the batch in training, whose averages over time are ``running_mean`` and
    ``running_var``, and these otherwise. After `backward`, ``dgamma`` and ``dbeta`` hold the gradients."""

    def __init__(self, gamma: Any, beta: Any, momentum: float = 0.9, running_mean: Any = None,
                 running_var: Any = None) -> None:
        self.gamma = gamma
        self.beta = beta
        self.momentum = momentum
        self.input_shape: Any = None
        self.running_mean = running_mean
        self.running_var = running_var
        self.batch_size: Any = None
        self.xc: Any = None
        self.xn: Any = None
        self.std: Any = None
        self.dgamma: Any = None
        self.dbeta: Any = None

    def forward(self, x: Any, train_flg: bool = True) -> Any:
        self.input_shape = x.shape
        x = _rows(x)
        if self.running_mean is None:
            self.running_mean = np.zeros(x.shape[1])
            self.running_var = np.zeros(x.shape[1])
        if train_flg:
            mean, var, self.std, self.xc, x_hat = _batch_norm.normalize(x, 1e-6)
            self.batch_size = x.shape[0]
            self.xn = x_hat
            self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mean
            self.running_var = self.momentum * self.running_var + (1 - self.momentum) * var
        else:
            x_hat = (x - self.running_mean) / np.sqrt(self.running_var + 1e-6)
        return _batch_norm.scale_and_shift(x_hat, self.gamma, self.beta).reshape(self.input_shape)

    def backward(self, dout: Any) -> Any:
        dx, self.dgamma, self.dbeta = _batch_norm.backward(_rows(dout), self.xn, self.std, self.gamma)
        return dx.reshape(self.input_shape)


def _rows(x: Any) -> Any:
    """(n, d) as it is, (n, c, h, w) as (n, c h w)."""
    if x.ndim == 2:
        return x
    if x.ndim != 4:
        raise ValueError(f"x: expected shape (n, d) or (n, c, h, w), got {x.shape}")
    return x.reshape(x.shape[0], -1)


class Convolution:
    """A convolution, which is no fully-connected layer: making one raises NotImplementedError."""

    def __init__(self, W: Any, b: Any, stride: int = 1, pad: int = 0) -> None:
        _refuse("Convolution")


class Pooling:
    """A pooling layer, which is no fully-connected layer: making one raises NotImplementedError."""

    def __init__(self, pool_h: int, pool_w: int, stride: int = 2, pad: int = 0) -> None:
        _refuse("Pooling")


def _refuse(name: str) -> NoReturn:
    raise NotImplementedError(f"{name}: fastmlp has fully-connected layers only; take {name} from the book's "
                              "own common.layers, which works beside the layers here")
