"""Functions element by element and along the last axis, and their derivatives."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp.activations import BY_NAME
from fastmlp.kernels import ops

from ._kernels import KERNELS, SHORT, is_slope, ready

if TYPE_CHECKING:
    from fastmlp._core.types import Array


def _map_backward(dy: Any, y: Any, kind: int, alpha: float, out: Any) -> Any:
    if not ready(out, dy, y) or dy.shape != y.shape:
        return NotImplemented
    if out is None:
        out = np.empty(dy.shape, dy.dtype)
    elif out.shape != dy.shape:
        return NotImplemented
    if KERNELS[dy.dtype.char].map_derivative(out.reshape(-1), dy.reshape(-1), y.reshape(-1), kind, alpha):
        return out
    return NotImplemented


def _forward_with_alpha(code: int, default: float) -> Callable[..., Any]:
    def forward(x: Any, alpha: Any = default, *, out: Any = None) -> Any:
        return SHORT.array_map(x, code, alpha, out) if is_slope(alpha) else NotImplemented
    return forward


def _backward_with_alpha(code: int, default: float) -> Callable[..., Any]:
    def backward(dy: Any, y: Any, alpha: Any = default, *, out: Any = None) -> Any:
        return _map_backward(dy, y, code, alpha, out) if is_slope(alpha) else NotImplemented
    return backward


def _backward_of_output(code: int) -> Callable[..., Any]:
    def backward(dy: Any, y: Any, *, out: Any = None) -> Any:
        return _map_backward(dy, y, code, 0.0, out)
    return backward


def _backward_of_input(code: int) -> Callable[..., Any]:
    def backward(dy: Any, x: Any, *, out: Any = None) -> Any:
        return _map_backward(dy, x, code, 0.0, out)
    return backward


def _functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """NAME and NAME_backward of every activation, and the functions of one array that are none."""
    for name in ops.FUNCTIONS:
        yield name, getattr(SHORT, f"array_{name}")
    for f in ops.ACTIVATIONS:
        code, default = BY_NAME[f.name].code, BY_NAME[f.name]().alpha
        if f.alpha:
            yield f.name, _forward_with_alpha(code, default)
            yield f"{f.name}_backward", _backward_with_alpha(code, default)
        elif f.name != "identity":
            yield f.name, getattr(SHORT, f"array_{f.name}")
            yield f"{f.name}_backward", (_backward_of_output if f.from_output else _backward_of_input)(code)


globals().update(_functions())


# Along the last axis -----------------------------------------------------------------------------------

softmax = SHORT.array_softmax
log_softmax = SHORT.array_log_softmax


def softmax_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _along_rows_backward(dy, y, False, out)


def log_softmax_backward(dy: Any, y: Any, *, out: Any = None) -> Any:
    return _along_rows_backward(dy, y, True, out)


def _along_rows_backward(dy: Any, y: Any, logarithm: bool, out: Any) -> Any:
    if not ready(out, dy, y) or dy.shape != y.shape or dy.ndim == 0:
        return NotImplemented
    if out is None:
        out = np.empty(dy.shape, dy.dtype)
    elif out.shape != dy.shape:
        return NotImplemented
    if KERNELS[dy.dtype.char].softmax_backward(_rows(out), _rows(dy), _rows(y), logarithm):
        return out
    return NotImplemented


def _rows(x: Array) -> Array:
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1]) if x.size else x.reshape(0, 0)
