"""Fully-connected layers."""
from __future__ import annotations

import threading
from typing import Any

import numpy as np

from fastmlp.activations import resolve

from ._kernels import KERNELS, SHORT, plain, ready

dense_forward = SHORT.array_dense_forward


class Scratch(threading.local):
    """Memory kept for a thread's next call: to get it from the system anew can take longer than the layer."""

    def __init__(self) -> None:
        self.memory: dict[np.dtype[Any], Any] = {}

    def of(self, dtype: np.dtype[Any], n: int) -> Any:
        """n elements or more."""
        memory = self.memory.get(dtype)
        if memory is None or memory.size < n:
            memory = self.memory[dtype] = np.empty(n, dtype)
        return memory


_scratch = Scratch()


def dense_backward(dy: Any, x: Any, w: Any, y: Any = None, activation: Any = "identity", *, out: Any = None,
                   need_dx: Any = True) -> Any:
    short = SHORT.array_dense_backward(dy, x, w, y, activation, out=out, need_dx=need_dx)
    if short is not NotImplemented:
        return short
    f = resolve(activation)
    if not f.from_output or type(need_dx) is not bool:
        return NotImplemented
    if not (plain(x, w, dy) and x.ndim == w.ndim == dy.ndim == 2):
        return NotImplemented
    if y is not None and not (plain(x, y) and y.ndim == 2):
        return NotImplemented
    if out is None:
        dx = np.empty(x.shape, x.dtype) if need_dx else None
        dw, db = np.empty(w.shape, x.dtype), np.empty(w.shape[1:], x.dtype)
    elif type(out) is tuple and len(out) == 3:
        dx, dw, db = out
        if dx is not None and not (need_dx and ready(dx, x) and dx.ndim == 2):
            return NotImplemented
        if not (plain(x, dw, db) and dw.flags.writeable and db.flags.writeable
                and dw.ndim == 2 and db.ndim == 1):
            return NotImplemented
    else:
        return NotImplemented
    kernels = KERNELS[x.dtype.char]
    rows, inputs = x.shape
    scratch = _scratch.of(x.dtype, kernels.dense_backward_scratch(rows, inputs, w.shape[1]))
    if kernels.dense_backward(dx, dw, db, dy, x, w, y, f.code, f.alpha, scratch):
        return dx, dw, db
    return NotImplemented
