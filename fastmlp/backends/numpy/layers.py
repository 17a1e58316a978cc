"""Fully-connected layers. Shapes: n rows of a batch, k inputs and m outputs of a layer."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp.activations import resolve

from ._common import or_new, quiet
from .activations import activate, derivative

if TYPE_CHECKING:
    from fastmlp._core.types import ActivationLike, Array


@quiet
def dense_forward(x: Array, w: Array, b: Array | None = None, activation: ActivationLike = "identity", *,
                  out: Array | None = None) -> Array:
    """y = act(x w + b)"""
    y = np.matmul(x, w, out=or_new(out, (x.shape[0], w.shape[1]), x.dtype))
    if b is not None:
        y += b
    return activate(y, resolve(activation))


@quiet
def dense_backward(dy: Array, x: Array, w: Array, y: Array | None = None,
                   activation: ActivationLike = "identity", *,
                   out: tuple[Array | None, Array, Array] | None = None, need_dx: bool = True
                   ) -> tuple[Array | None, Array, Array]:
    """dz = act'(z) dy;  dx = dz w^T,  dw = x^T dz,  db = sum of dz over the rows"""
    dx, dw, db = out or (np.empty(x.shape, x.dtype) if need_dx else None, np.empty(w.shape, x.dtype),
                         np.empty(w.shape[1:], x.dtype))
    dz = derivative(dy, y, resolve(activation))
    if dx is not None:
        np.matmul(dz, w.T, out=dx)
    np.matmul(x.T, dz, out=dw)
    np.sum(dz, axis=0, out=db)
    return dx, dw, db
