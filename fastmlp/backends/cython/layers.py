"""Fully-connected layers."""
from __future__ import annotations

from typing import Any

import numpy as np

from fastmlp.activations import resolve
from fastmlp.layout import padded_row

from ._kernels import DECLINE, KERNELS, SHORT, plain

dense_forward = SHORT.array_dense_forward


def dense_backward(dy: Any, x: Any, w: Any, y: Any, activation: Any = "identity", *, out: Any = None) -> Any:
    try:
        f = resolve(activation)
        if not f.from_output:
            return NotImplemented
        if out is None:
            out = np.empty(x.shape, x.dtype), np.empty(w.shape, x.dtype), np.empty(w.shape[1:], x.dtype)
        dx, dw, db = out
        dz = np.empty((x.shape[0], padded_row(w.shape[1], x.itemsize)), x.dtype)
        if plain(dy, x, w, y, dx, dw, db) and KERNELS[x.dtype.char].dense_backward(
                dx, dw, db, dy, x, w, y, f.code, f.alpha, dz):
            return dx, dw, db
    except DECLINE:
        pass
    return NotImplemented
