"""Fully-connected layers. Shapes: n rows of a batch, k inputs and m outputs of a layer."""
from __future__ import annotations

import numpy as np

from fastmlp.activations import resolve

from ._common import or_new, quiet
from .activations import activate, derivative


@quiet
def dense_forward(x, w, b, activation="identity", *, out=None):
    """y = act(x w + b)"""
    y = np.matmul(x, w, out=or_new(out, (x.shape[0], w.shape[1]), x.dtype))
    y += b
    return activate(y, resolve(activation))


@quiet
def dense_backward(dy, x, w, y, activation="identity", *, out=None):
    """dz = act'(z) dy;  dx = dz w^T,  dw = x^T dz,  db = sum of dz over the rows"""
    dx, dw, db = out or (np.empty(a, x.dtype) for a in (x.shape, w.shape, w.shape[1:]))
    dz = derivative(dy, y, resolve(activation))
    np.matmul(dz, w.T, out=dx)
    np.matmul(x.T, dz, out=dw)
    np.sum(dz, axis=0, out=db)
    return dx, dw, db
