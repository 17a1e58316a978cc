"""Where the kernels compute what a NumPy expression says, and where NumPy has to do it itself.

A NumPy expression takes any dtypes, shapes that broadcast, lists and numbers. The kernels take plain arrays
of one dtype, float32 or float64. So every function here tests its arguments, and what does not fit is left to
the expression, with its results and its errors.
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy import ndarray

import fastmlp.functional as F
from fastmlp.compat._spare import LEAST_NBYTES, Spare
from fastmlp.optimizers import SMALLEST

Array = np.ndarray[Any, Any]

WIDE_NBYTES = 1024          # of a row of weights from which on the kernels are never slower than BLAS
LITTLE = 50_000             # multiply-adds up to which their one call is cheaper than NumPy's two
FEW = 4096                  # elements up to which a few operations of NumPy are as fast as one of the kernels


def is_floating(x: Any) -> bool:
    """A plain array of float32 or float64."""
    return type(x) is ndarray and x.dtype.char in "fd"


def is_like(x: Any, y: Any) -> bool:
    """Two plain arrays of one dtype, float32 or float64, and one shape."""
    return (type(x) is ndarray and type(y) is ndarray and x.dtype is y.dtype and x.dtype.char in "fd"
            and x.shape == y.shape)


def is_rate(value: Any) -> bool:
    """A rate that the update functions take: a finite number from 0 up."""
    return isinstance(value, (float, int)) and 0 <= value < math.inf


def is_share(value: Any) -> bool:
    """A share of an average that the update functions take: from 0 to below 1."""
    return isinstance(value, (float, int)) and 0 <= value < 1


def is_divisor(value: Any) -> bool:
    """A number that the update functions add to what they divide by."""
    return is_rate(value) and value >= SMALLEST


def can_update(param: Any, grad: Any) -> bool:
    """Whether an update function may change `param`, by a `grad` that does not lie in its memory."""
    if not is_like(param, grad) or param is grad:
        return False
    if grad.base is None and param.base is not grad:        # it owns its memory, as a new gradient does
        return True
    return not np.may_share_memory(param, grad)


def dense_forward(x: Array, w: Array, b: Array) -> Array:
    """x w + b, in the dtype that NumPy computes in; x (n, k)."""
    if (type(x) is ndarray and type(w) is ndarray and type(b) is ndarray
            and x.ndim == 2 and w.ndim == 2 and b.ndim == 1):
        (n, k), (rows, columns), dtype = x.shape, w.shape, w.dtype
        if k == rows and b.size == columns:
            if not (x.dtype is dtype and b.dtype is dtype):
                dtype = np.result_type(x, w, b)
                x, w, b = _as(x, dtype), _as(w, dtype), _as(b, dtype)
            if dtype.char in "fd":
                if n * k * columns <= LITTLE or w.nbytes >= WIDE_NBYTES * k:
                    return F.dense_forward(x, w, b)
                out: Array = x.dot(w)       # narrow ones are BLAS's; one array less than the expression makes
                out += b
                return out
    return np.asarray(np.dot(x, w) + b)


def dense_backward(
    dout: Array, x: Array, w: Array, need_dx: bool = True, spare: Spare | None = None
) -> tuple[Array | None, Array, Array]:
    """dx = dout w^T, dw = x^T dout, db = the sum of dout over the rows; x (n, k).

    NumPy gives each the dtype of its operands: the kernels do it where all three are that of `dout`.
    dw may come from `spare`."""
    if (type(dout) is ndarray and type(x) is ndarray and type(w) is ndarray and dout.dtype.char in "fd"
            and dout.ndim == 2 and x.ndim == 2 and w.ndim == 2 and x.shape[1] == w.shape[0]
            and dout.shape == (x.shape[0], w.shape[1])):
        dtype = dout.dtype
        if (x.dtype is dtype and w.dtype is dtype) or np.result_type(dout, x, w) == dtype:
            x, w, out = _as(x, dtype), _as(w, dtype), None
            if spare is not None and w.nbytes >= LEAST_NBYTES:
                dw = spare.take(w.shape, dtype)
                out = np.empty(x.shape, dtype) if need_dx else None, dw, np.empty(w.shape[1], dtype)
            return F.dense_backward(dout, x, w, out=out, need_dx=need_dx)
    dx = np.dot(dout, w.T) if need_dx else None
    return dx, np.dot(x.T, dout), np.sum(dout, axis=0)


def _as(x: Array, dtype: np.dtype[Any]) -> Array:
    return x if x.dtype is dtype else x.astype(dtype, copy=False)


def rectify(x: Any) -> Any:
    """max(x, 0)"""
    return F.relu(x) if is_floating(x) else np.maximum(0, x)


def block(dout: Array, mask: Any) -> Array:
    """0 where `mask` is true, in place."""
    if is_floating(dout) and type(mask) is ndarray and mask.dtype.char == "?" and mask.shape == dout.shape:
        F.relu_backward(dout, np.logical_not(mask).astype(dout.dtype), out=dout)
    else:
        dout[mask] = 0
    return dout


def squared_norm(w: Array) -> Any:
    """The sum of all w^2."""
    flat = w.reshape(-1)
    return np.dot(flat, flat)


def l2_gradient(dw: Array, w: Array, factor: float, spare: Spare) -> Array:
    """dw + factor w, as an array that nobody holds."""
    if is_rate(factor) and is_like(dw, w):
        gradient = spare.copy_of(dw)
        if factor:
            gradient += factor * w
        return gradient
    return dw + factor * w
