"""Layers and losses: a forward function returns its output and a cache, which its backward function takes."""
from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

import fastmlp.functional as F
from fastmlp.compat import _arrays, _batch_norm
from fastmlp.compat._types import Array, Cache, Config

__all__ = [
    "affine_backward", "affine_forward", "batchnorm_backward", "batchnorm_backward_alt", "batchnorm_forward",
    "conv_backward_naive", "conv_forward_naive", "dropout_backward", "dropout_forward", "layernorm_backward",
    "layernorm_forward", "max_pool_backward_naive", "max_pool_forward_naive", "np", "relu_backward",
    "relu_forward", "softmax_loss", "spatial_batchnorm_backward", "spatial_batchnorm_forward",
    "spatial_groupnorm_backward", "spatial_groupnorm_forward", "svm_loss",
]


def affine_forward(x: Array, w: Array, b: Array) -> tuple[Array, Cache]:
    """Compute x w + b, of samples as rows.

    Parameters
    ----------
    x : ndarray, shape (n, d_1, ..., d_k)
        Samples; each is taken as one row of d = d_1 ... d_k numbers.
    w : ndarray, shape (d, m)
        Weights.
    b : ndarray, shape (m,)
        Biases.

    Returns
    -------
    out : ndarray, shape (n, m)
        Output.
    cache : tuple
        The arguments (x, w, b).
    """
    return _arrays.dense_forward(x.reshape(x.shape[0], -1), w, b), (x, w, b)


def affine_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Compute the gradients of `affine_forward`.

    Parameters
    ----------
    dout : ndarray, shape (n, m)
        Gradient of the loss with respect to the output.
    cache : tuple
        That of `affine_forward`.

    Returns
    -------
    dx : ndarray
        Gradient with respect to ``x``, of its shape.
    dw : ndarray
        Gradient with respect to ``w``, of its shape.
    db : ndarray
        Gradient with respect to ``b``, of its shape.
    """
    x, w, _ = cache
    dx, dw, db = _arrays.dense_backward(dout, x.reshape(x.shape[0], -1), w)
    return dx.reshape(x.shape), dw, db      # type: ignore[union-attr]


def relu_forward(x: Array) -> tuple[Array, Array]:
    """Compute max(x, 0).

    Parameters
    ----------
    x : ndarray
        Numbers, of any shape.

    Returns
    -------
    out : ndarray
        Output, of the shape of ``x``.
    cache : ndarray
        ``x`` itself.
    """
    return _arrays.rectify(x), x


def relu_backward(dout: Array, cache: Array) -> Array:
    """Compute the gradient of `relu_forward`: dout where x > 0, else 0.

    Parameters
    ----------
    dout : ndarray
        Gradient of the loss with respect to the output.
    cache : ndarray
        That of `relu_forward`.

    Returns
    -------
    ndarray
        Gradient with respect to ``x``, in a new array.
    """
    if _arrays.is_like(dout, cache):
        return F.relu_backward(dout, cache)
    return dout * (cache > 0)


def softmax_loss(x: Array, y: Array) -> tuple[np.floating[Any], Array]:
    """Compute the mean cross-entropy of softmax(x), and its gradient.

    Parameters
    ----------
    x : ndarray, shape (n, c)
        Scores of the classes.
    y : ndarray of int, shape (n,)
        Class of every row.

    Returns
    -------
    loss : floating
        Mean of -log softmax(x)[y] over the rows.
    dx : ndarray, shape (n, c)
        Its gradient with respect to ``x``.
    """
    if _arrays.is_floating(x):
        loss, dx = F.softmax_cross_entropy(x, y)
        return x.dtype.type(loss), dx
    shifted = x - np.max(x, axis=1, keepdims=True)
    log_p = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    n, rows = x.shape[0], np.arange(x.shape[0])
    dx = np.exp(log_p)
    dx[rows, y] -= 1
    return -np.sum(log_p[rows, y]) / n, dx / n


def svm_loss(x: Array, y: Array) -> tuple[np.floating[Any], Array]:
    """Compute the mean multiclass hinge loss, and its gradient.

    Parameters
    ----------
    x : ndarray, shape (n, c)
        Scores of the classes.
    y : ndarray of int, shape (n,)
        Class of every row.

    Returns
    -------
    loss : floating
        Mean over the rows of the sum over j != y of max(0, x_j - x_y + 1).
    dx : ndarray, shape (n, c)
        Its gradient with respect to ``x``.
    """
    n, rows = x.shape[0], np.arange(x.shape[0])
    margins = x - x[rows, y][:, np.newaxis]
    margins += 1
    margins[rows, y] = 0
    np.maximum(margins, 0, out=margins)
    loss = np.add.reduce(margins, axis=None) / n
    wrong = margins > 0
    dx = wrong.astype(x.dtype)
    dx[rows, y] = -np.count_nonzero(wrong, axis=1)
    dx /= n
    return loss, dx


def batchnorm_forward(x: Array, gamma: Array, beta: Array, bn_param: Config) -> tuple[Array, Cache | None]:
    """Compute gamma (x - mean) / sqrt(var + eps) + beta, with mean and var of the columns.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Samples.
    gamma : ndarray, shape (d,)
        Scales.
    beta : ndarray, shape (d,)
        Shifts.
    bn_param : dict
        "mode" ("train" or "test"), "eps" (default 1e-5), "momentum" (0.9), "running_mean" and
        "running_var" (0). The last two are set: averages over time in "train", which stand for mean and var
        in "test".

    Returns
    -------
    out : ndarray, shape (n, d)
        Output.
    cache : tuple or None
        What the backward function takes; None in "test".
    """
    mode, eps = bn_param["mode"], bn_param.get("eps", 1e-5)
    momentum = bn_param.get("momentum", 0.9)
    d = x.shape[1]
    running_mean = bn_param.get("running_mean")
    running_var = bn_param.get("running_var")
    running_mean = np.zeros(d, x.dtype) if running_mean is None else running_mean
    running_var = np.zeros(d, x.dtype) if running_var is None else running_var
    cache = None
    if mode == "train":
        mean, var, std, _, x_hat = _batch_norm.normalize(x, eps)
        running_mean = momentum * running_mean + (1 - momentum) * mean
        running_var = momentum * running_var + (1 - momentum) * var
        cache = x_hat, std, gamma
    elif mode == "test":
        x_hat = (x - running_mean) / np.sqrt(running_var + eps)
    else:
        raise ValueError(f"bn_param['mode']: expected 'train' or 'test', got {mode!r}")
    bn_param["running_mean"], bn_param["running_var"] = running_mean, running_var
    return _batch_norm.scale_and_shift(x_hat, gamma, beta), cache


def batchnorm_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Compute the gradients of `batchnorm_forward` in "train".

    Parameters
    ----------
    dout : ndarray, shape (n, d)
        Gradient of the loss with respect to the output.
    cache : tuple
        That of `batchnorm_forward`.

    Returns
    -------
    dx : ndarray
        Gradient with respect to ``x``, of its shape.
    dgamma : ndarray
        Gradient with respect to ``gamma``, of its shape.
    dbeta : ndarray
        Gradient with respect to ``beta``, of its shape.
    """
    return _batch_norm.backward(dout, *cache)


def batchnorm_backward_alt(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Compute the same as `batchnorm_backward`.

    Parameters
    ----------
    dout : ndarray, shape (n, d)
        Gradient of the loss with respect to the output.
    cache : tuple
        That of `batchnorm_forward`.

    Returns
    -------
    dx : ndarray
        Gradient with respect to ``x``, of its shape.
    dgamma : ndarray
        Gradient with respect to ``gamma``, of its shape.
    dbeta : ndarray
        Gradient with respect to ``beta``, of its shape.
    """
    return _batch_norm.backward(dout, *cache)


def layernorm_forward(x: Array, gamma: Array, beta: Array, ln_param: Config) -> tuple[Array, Cache]:
    """Compute gamma (x - mean) / sqrt(var + eps) + beta, with mean and var of each row.

    Parameters
    ----------
    x : ndarray, shape (n, d)
        Samples.
    gamma : ndarray, shape (d,)
        Scales.
    beta : ndarray, shape (d,)
        Shifts.
    ln_param : dict
        "eps" (default 1e-5).

    Returns
    -------
    out : ndarray, shape (n, d)
        Output.
    cache : tuple
        What the backward function takes.
    """
    x_hat = x - np.mean(x, axis=1, keepdims=True)
    std = np.sqrt(np.mean(x_hat * x_hat, axis=1, keepdims=True) + ln_param.get("eps", 1e-5))
    x_hat /= std
    return _batch_norm.scale_and_shift(x_hat, gamma, beta), (x_hat, std, gamma)


def layernorm_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Compute the gradients of `layernorm_forward`.

    Parameters
    ----------
    dout : ndarray, shape (n, d)
        Gradient of the loss with respect to the output.
    cache : tuple
        That of `layernorm_forward`.

    Returns
    -------
    dx : ndarray
        Gradient with respect to ``x``, of its shape.
    dgamma : ndarray
        Gradient with respect to ``gamma``, of its shape.
    dbeta : ndarray
        Gradient with respect to ``beta``, of its shape.
    """
    x_hat, std, gamma = cache
    d = dout.shape[1]
    dx = dout * gamma
    shared = x_hat * (np.add.reduce(dx * x_hat, axis=1, keepdims=True) / d)
    shared += np.add.reduce(dx, axis=1, keepdims=True) / d
    dx = dx - shared
    dx /= std
    return dx, np.add.reduce(dout * x_hat, axis=0), np.add.reduce(dout, axis=0)


def dropout_forward(x: Array, dropout_param: Config) -> tuple[Array, Cache]:
    """Compute x mask, where the mask is 1/p with probability p and else 0.

    Parameters
    ----------
    x : ndarray
        Numbers, of any shape.
    dropout_param : dict
        "p", "mode" ("train", or "test", which returns ``x`` itself), and perhaps a "seed" for
        ``np.random``.

    Returns
    -------
    out : ndarray
        Output, of the shape of ``x``.
    cache : tuple
        (dropout_param, mask).
    """
    p, mode = dropout_param["p"], dropout_param["mode"]
    if mode not in ("train", "test"):
        raise ValueError(f"dropout_param['mode']: expected 'train' or 'test', got {mode!r}")
    if "seed" in dropout_param:
        np.random.seed(dropout_param["seed"])
    if mode == "test":
        return x, (dropout_param, None)
    mask = (np.random.rand(*x.shape) < p) / p
    return (x * mask).astype(x.dtype, copy=False), (dropout_param, mask)


def dropout_backward(dout: Array, cache: Cache) -> Array:
    """Compute the gradient of `dropout_forward`.

    Parameters
    ----------
    dout : ndarray
        Gradient of the loss with respect to the output.
    cache : tuple
        That of `dropout_forward`.

    Returns
    -------
    ndarray
        dout mask ("train"), or ``dout`` itself ("test").
    """
    dropout_param, mask = cache
    return dout * mask if dropout_param["mode"] == "train" else dout


def _refused(name: str) -> Any:
    def function(*args: Any, **kwargs: Any) -> NoReturn:
        raise NotImplementedError(f"{name}: fastmlp has fully-connected layers only; take {name} from the "
                                  "course's own cs231n.layers, which works beside the layers here")
    function.__name__ = name
    function.__doc__ = "Not a fully-connected layer: raises NotImplementedError."
    return function


conv_forward_naive = _refused("conv_forward_naive")
conv_backward_naive = _refused("conv_backward_naive")
max_pool_forward_naive = _refused("max_pool_forward_naive")
max_pool_backward_naive = _refused("max_pool_backward_naive")
spatial_batchnorm_forward = _refused("spatial_batchnorm_forward")
spatial_batchnorm_backward = _refused("spatial_batchnorm_backward")
spatial_groupnorm_forward = _refused("spatial_groupnorm_forward")
spatial_groupnorm_backward = _refused("spatial_groupnorm_backward")
