"""Fully-connected layers."""
from __future__ import annotations

import threading
from typing import Any

import numpy as np

from fastmlp.activations import resolve

from ._kernels import DECLINE, KERNELS, SHORT, plain

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
    try:
        f = resolve(activation)
        if not f.from_output or type(need_dx) is not bool:
            return NotImplemented
        if out is None:
            dx = np.empty(x.shape, x.dtype) if need_dx else None
            out = dx, np.empty(w.shape, x.dtype), np.empty(w.shape[1:], x.dtype)
        dx, dw, db = out
        if dx is not None and not need_dx:
            return NotImplemented
        optional = [array for array in (y, dx) if array is not None]
        kernels = KERNELS[x.dtype.char]
        scratch = _scratch.of(x.dtype, kernels.dense_backward_scratch(*x.shape, w.shape[1]))
        if plain(dy, x, w, dw, db, *optional) and kernels.dense_backward(
                dx, dw, db, dy, x, w, y, f.code, f.alpha, scratch):
            return dx, dw, db
    except DECLINE:
        pass
    return NotImplemented
