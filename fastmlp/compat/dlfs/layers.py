"""Layers of the book's ``common/layers.py``: the same attributes, the same arrays changed in place."""
from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

import fastmlp.functional as F
from fastmlp.compat import _arrays, _batch_norm
from fastmlp.compat._spare import Spare
from fastmlp.compat._types import Array

from . import functions
from .functions import *  # noqa: F403  (as the book's module does)
from .functions import cross_entropy_error, sigmoid, softmax
from .util import col2im, im2col

__all__ = ["Affine", "BatchNormalization", "Convolution", "Dropout", "Pooling", "Relu", "Sigmoid",
           "SoftmaxWithLoss", "col2im", "im2col", *functions.__all__]


class Relu:
    """Compute max(x, 0).

    Attributes
    ----------
    mask : ndarray of bool
        Where x <= 0, after `forward`.
    """

    def __init__(self) -> None:
        self.mask: Any = None

    def forward(self, x: Array) -> Array:
        """Compute the output.

        Parameters
        ----------
        x : ndarray
            Numbers, of any shape.

        Returns
        -------
        ndarray
            Output.
        """
        self.mask = x <= 0
        if _arrays.is_floating(x):
            return F.relu(x)
        out = x.copy()
        out[self.mask] = 0
        return out

    def backward(self, dout: Array) -> Array:
        """Compute the gradient with respect to x, in place.

        Parameters
        ----------
        dout : ndarray
            Gradient of the loss with respect to the output.

        Returns
        -------
        ndarray
            ``dout`` itself, with 0 where ``mask`` is true.
        """
        return _arrays.block(dout, self.mask)


class Sigmoid:
    """Compute 1 / (1 + e^-x).

    Attributes
    ----------
    out : ndarray
        What `forward` returned.
    """

    def __init__(self) -> None:
        self.out: Any = None

    def forward(self, x: Array) -> Array:
        """Compute the output.

        Parameters
        ----------
        x : ndarray
            Numbers, of any shape.

        Returns
        -------
        ndarray
            Output.
        """
        self.out = sigmoid(x)
        return self.out

    def backward(self, dout: Array) -> Array:
        """Compute the gradient with respect to x.

        Parameters
        ----------
        dout : ndarray
            Gradient of the loss with respect to the output.

        Returns
        -------
        ndarray
            Gradient.
        """
        if not _arrays.is_like(dout, self.out):
            return dout * (1.0 - self.out) * self.out
        if dout.size > _arrays.FEW:
            return F.sigmoid_backward(dout, self.out)
        dx: Array = 1.0 - self.out
        dx *= dout
        dx *= self.out
        return dx


class Affine:
    """Compute x W + b.

    Parameters
    ----------
    W : ndarray, shape (inputs, outputs)
        Weights, which stay the caller's array.
    b : ndarray, shape (outputs,)
        Biases, which stay the caller's array.

    Attributes
    ----------
    dW, db : ndarray
        Gradients, after `backward`, in arrays that nobody else holds.
    """

    def __init__(self, W: Array, b: Array) -> None:
        self.W = W
        self.b = b
        self.x: Any = None
        self.original_x_shape: Any = None
        self.dW: Any = None
        self.db: Any = None
        self._spare = Spare()

    def forward(self, x: Array) -> Array:
        """Compute the output.

        Parameters
        ----------
        x : ndarray, shape (n, d_1, ..., d_k)
            Samples; each is taken as one row.

        Returns
        -------
        ndarray
            Output.
        """
        self.original_x_shape = shape = x.shape
        self.x = x if len(shape) == 2 else x.reshape(shape[0], -1)
        return _arrays.dense_forward(self.x, self.W, self.b)

    def backward(self, dout: Array) -> Array:
        """Compute the gradients.

        Parameters
        ----------
        dout : ndarray, shape (n, outputs)
            Gradient of the loss with respect to the output.

        Returns
        -------
        ndarray
            Gradient with respect to x, of its shape.
        """
        self.dW = None      # its memory may be taken for the new one
        dx, self.dW, self.db = _arrays.dense_backward(dout, self.x, self.W, spare=self._spare)
        return dx.reshape(*self.original_x_shape)      # type: ignore[union-attr]

    def backward_parameters(self, dout: Array) -> None:
        """Compute ``dW`` and ``db`` alone: half the work, and all that a first layer needs.

        Parameters
        ----------
        dout : ndarray, shape (n, outputs)
            Gradient of the loss with respect to the output.
        """
        self.dW = None
        _, self.dW, self.db = _arrays.dense_backward(dout, self.x, self.W, False, self._spare)


class SoftmaxWithLoss:
    """Compute the mean cross-entropy of softmax(x).

    Attributes
    ----------
    loss : floating
        What `forward` returned.
    y : ndarray, shape (n, classes)
        The softmax.
    t : ndarray
        The targets.
    """

    def __init__(self) -> None:
        self.loss: Any = None
        self.y: Any = None
        self.t: Any = None

    def forward(self, x: Array, t: Array) -> np.floating[Any]:
        """Compute the loss.

        Parameters
        ----------
        x : ndarray, shape (n, classes)
            Scores.
        t : ndarray, shape (n,) or (n, classes)
            Class indices, or one-hot rows.

        Returns
        -------
        floating
            Mean loss.
        """
        self.t = t
        self.y = softmax(x)
        self.loss = cross_entropy_error(self.y, self.t)
        return self.loss

    def backward(self, dout: float = 1) -> Array:
        """Compute the gradient of the mean loss with respect to x.

        Parameters
        ----------
        dout : float, default 1
            Not looked at, as in the book.

        Returns
        -------
        ndarray, shape (n, classes)
            Gradient.
        """
        n = self.t.shape[0]
        if self.t.size == self.y.size:
            dx = self.y - self.t
        else:
            dx = self.y.copy()
            dx[np.arange(n), self.t] -= 1
        dx /= n
        return dx


class Dropout:
    """Compute x mask in training, and x (1 - dropout_ratio) otherwise.

    Parameters
    ----------
    dropout_ratio : float, default 0.5
        Share of the numbers that become 0.

    Attributes
    ----------
    mask : ndarray of bool
        Numbers that stay, after `forward`; they come from ``np.random``.
    """

    def __init__(self, dropout_ratio: float = 0.5) -> None:
        self.dropout_ratio = dropout_ratio
        self.mask: Any = None

    def forward(self, x: Array, train_flg: bool = True) -> Array:
        """Compute the output.

        Parameters
        ----------
        x : ndarray
            Numbers, of any shape.
        train_flg : bool, default True
            Whether this is training.

        Returns
        -------
        ndarray
            Output.
        """
        if not train_flg:
            return x * (1.0 - self.dropout_ratio)
        self.mask = np.random.rand(*x.shape) > self.dropout_ratio
        return x * self.mask

    def backward(self, dout: Array) -> Array:
        """Compute the gradient with respect to x.

        Parameters
        ----------
        dout : ndarray
            Gradient of the loss with respect to the output.

        Returns
        -------
        ndarray
            Gradient.
        """
        return dout * self.mask


class BatchNormalization:
    """Compute gamma (x - mean) / sqrt(var + 1e-6) + beta.

    Mean and var are those of the batch in training, and otherwise their averages over time.

    Parameters
    ----------
    gamma : ndarray, shape (d,)
        Scales.
    beta : ndarray, shape (d,)
        Shifts.
    momentum : float, default 0.9
        Share of an average that stays.
    running_mean : ndarray, shape (d,), optional
        Average of the means so far.
    running_var : ndarray, shape (d,), optional
        Average of the variances so far.

    Attributes
    ----------
    dgamma, dbeta : ndarray, shape (d,)
        Gradients, after `backward`.
    """

    def __init__(self, gamma: Array, beta: Array, momentum: float = 0.9, running_mean: Array | None = None,
                 running_var: Array | None = None) -> None:
        self.gamma = gamma
        self.beta = beta
        self.momentum = momentum
        self.input_shape: Any = None
        self.running_mean: Any = running_mean
        self.running_var: Any = running_var
        self.batch_size: Any = None
        self.xc: Any = None
        self.xn: Any = None
        self.std: Any = None
        self.dgamma: Any = None
        self.dbeta: Any = None

    def forward(self, x: Array, train_flg: bool = True) -> Array:
        """Compute the output.

        Parameters
        ----------
        x : ndarray, shape (n, d) or (n, c, h, w)
            Samples; each is taken as one row.
        train_flg : bool, default True
            Whether this is training.

        Returns
        -------
        ndarray
            Output, of the shape of ``x``.
        """
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

    def backward(self, dout: Array) -> Array:
        """Compute the gradients.

        Parameters
        ----------
        dout : ndarray
            Gradient of the loss with respect to the output.

        Returns
        -------
        ndarray
            Gradient with respect to x, of its shape.
        """
        dx, self.dgamma, self.dbeta = _batch_norm.backward(_rows(dout), self.xn, self.std, self.gamma)
        return dx.reshape(self.input_shape)


def _rows(x: Array) -> Array:
    """(n, d) as it is, (n, c, h, w) as (n, c h w)."""
    if x.ndim == 2:
        return x
    if x.ndim != 4:
        raise ValueError(f"x: expected shape (n, d) or (n, c, h, w), got {x.shape}")
    return x.reshape(x.shape[0], -1)


class Convolution:
    """A convolution, which is no fully-connected layer: making one raises NotImplementedError."""

    def __init__(self, W: Array, b: Array, stride: int = 1, pad: int = 0) -> None:
        _refuse("Convolution")


class Pooling:
    """A pooling layer, which is no fully-connected layer: making one raises NotImplementedError."""

    def __init__(self, pool_h: int, pool_w: int, stride: int = 2, pad: int = 0) -> None:
        _refuse("Pooling")


def _refuse(name: str) -> NoReturn:
    raise NotImplementedError(f"{name}: fastmlp has fully-connected layers only; take {name} from the book's "
                              "own common.layers, which works beside the layers here")
