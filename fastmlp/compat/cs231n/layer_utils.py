"""Layers that are often used together."""
from __future__ import annotations

from fastmlp.compat._types import Array, Cache

from .layers import affine_backward, affine_forward, relu_backward, relu_forward

__all__ = ["affine_relu_backward", "affine_relu_forward"]


def affine_relu_forward(x: Array, w: Array, b: Array) -> tuple[Array, Cache]:
    """Compute max(x w + b, 0), of samples as rows.

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
        Those of `affine_forward` and `relu_forward`.
    """
    z, affine_cache = affine_forward(x, w, b)
    out, relu_cache = relu_forward(z)
    return out, (affine_cache, relu_cache)


def affine_relu_backward(dout: Array, cache: Cache) -> tuple[Array, Array, Array]:
    """Compute the gradients of `affine_relu_forward`.

    Parameters
    ----------
    dout : ndarray, shape (n, m)
        Gradient of the loss with respect to the output.
    cache : tuple
        That of `affine_relu_forward`.

    Returns
    -------
    dx : ndarray
        Gradient with respect to ``x``, of its shape.
    dw : ndarray
        Gradient with respect to ``w``, of its shape.
    db : ndarray
        Gradient with respect to ``b``, of its shape.
    """
    affine_cache, relu_cache = cache
    return affine_backward(relu_backward(dout, relu_cache), affine_cache)
