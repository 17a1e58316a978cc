"""An ``Ops`` of thinc on the kernels: ``use_ops("fastmlp")``, after ``pip install "fastmlp[thinc]"``.

What is not here is NumpyOps', of which it is a subclass: so are products with a transposed second operand,
which go to BLIS. Optimizers of thinc ask for NumpyOps by name, and get it.

Annotations are objects, and those of thinc's Ops: its tests compare them."""
from typing import Any, Optional

import numpy as np

import fastmlp.functional as F
from fastmlp.compat._arrays import can_update, is_divisor, is_floating, is_like, is_rate, is_share
from fastmlp.compat._spare import Spare

try:
    from thinc.api import NumpyOps, registry
    from thinc.backends.ops import FloatsT
    from thinc.types import Floats1d, Floats2d, FloatsXdT
except ImportError as error:
    raise ImportError('fastmlp.compat.thinc needs thinc: pip install "fastmlp[thinc]"') from error

__all__ = ["FastMLPOps"]

LEAST_TRANSPOSED = 2**16    # elements of x^T y from which on the kernels are ahead of BLIS
NO_CORRECTION = 2**53       # a step so late that Adam's bias correction is 1
_UNREAD = Spare()


@registry.ops("FastMLPOps")
class FastMLPOps(NumpyOps):  # type: ignore[misc]
    """The operations of thinc's NumpyOps, with the same arguments and results, on fastmlp's kernels.

    For float32 and float64: `gemm`, `relu`, `sigmoid`, `softmax`, their backprops, and `adam`; what builds on
    them (affine, swish) is faster too. Everything else is inherited.

    Parameters
    ----------
    device_type : str, default "cpu"
        As for NumpyOps.
    device_id : int, default -1
        As for NumpyOps.
    use_blis : bool, default True
        As for NumpyOps.

    References
    ----------
    https://thinc.ai/docs/api-backends

    Examples
    --------
    >>> from thinc.api import get_ops
    >>> get_ops("fastmlp").relu(np.array([[-1.0, 2.0]]))
    array([[0., 2.]])
    """

    name = "fastmlp"

    def gemm(self, x: Floats2d, y: Floats2d, out: Optional[Floats2d] = None, trans1: bool = False,  # noqa: UP045
             trans2: bool = False) -> Any:
        """x y, with either transposed if asked for, into out if given."""
        fits = (not trans2 and is_floating(x) and is_floating(y) and x.dtype == y.dtype
                and x.ndim == y.ndim == 2 and x.size and y.size
                and (out is None or is_floating(out) and out.dtype == x.dtype))
        if fits and not trans1 and x.shape[1] == y.shape[0] and _fills_panels(y.shape[1]):
            if out is None or out.shape == (x.shape[0], y.shape[1]) and _apart(out, x, y):
                return F.dense_forward(x, y, out=out)
        elif fits and trans1 and x.shape[0] == y.shape[0] and x.shape[1] * y.shape[1] >= LEAST_TRANSPOSED:
            shape = x.shape[1], y.shape[1]
            result = np.empty(shape, x.dtype) if out is None else out
            if result.shape == shape and _apart(result, x, y):
                like_w = _UNREAD.take(shape, x.dtype)   # for its shape: what it holds would go into dx alone
                sums = np.empty(shape[1], x.dtype)
                return F.dense_backward(y, x, like_w, out=(None, result, sums), need_dx=False)[1]
        return super().gemm(x, y, out=out, trans1=trans1, trans2=trans2)

    def relu(self, X: Floats2d, inplace: bool = False) -> Any:
        """max(X, 0)"""
        return F.relu(X, out=X if inplace else None) if is_floating(X) else super().relu(X, inplace)

    def backprop_relu(self, dY: Floats2d, Y: Floats2d, inplace: bool = False) -> Any:
        """dY where Y > 0, else 0."""
        if is_like(dY, Y):
            return F.relu_backward(dY, Y, out=dY if inplace else None)
        return super().backprop_relu(dY, Y, inplace)

    def sigmoid(self, X: FloatsXdT, *, inplace: bool = False) -> Any:
        """1 / (1 + e^-X), of X within -20 and 20, as in thinc."""
        if not is_floating(X):
            return super().sigmoid(X, inplace=inplace)
        result = np.clip(X, -20.0, 20.0, out=X if inplace else None)
        return F.sigmoid(result, out=result)

    def backprop_sigmoid(self, dY: FloatsXdT, Y: FloatsXdT, *, inplace: bool = False) -> Any:
        """dY Y (1 - Y), in place of Y."""
        if is_like(dY, Y):
            return F.sigmoid_backward(dY, Y, out=Y if inplace else None)
        return super().backprop_sigmoid(dY, Y, inplace=inplace)

    def softmax(self, x: FloatsT, *, inplace: bool = False, axis: int = -1,
                temperature: float = 1.0) -> Any:
        """e^(x / temperature), over its sum along the axis, in a new array."""
        if is_floating(x) and x.ndim and x.size and axis in (-1, x.ndim - 1):
            return F.softmax(x if temperature == 1.0 else x / temperature)
        return super().softmax(x, inplace=inplace, axis=axis, temperature=temperature)

    def backprop_softmax(self, Y: FloatsT, dY: FloatsT, *, axis: int = -1,
                         temperature: float = 1.0) -> Any:
        """Y (dY - sum of Y dY), with dY over the temperature."""
        if is_like(dY, Y) and Y.ndim and Y.size and axis in (-1, Y.ndim - 1):
            return F.softmax_backward(dY if temperature == 1.0 else dY / temperature, Y)
        return super().backprop_softmax(Y, dY, axis=axis, temperature=temperature)

    def adam(self, weights: Floats1d, gradient: Floats1d, mom1: Floats1d, mom2: Floats1d, beta1: float,
             beta2: float, eps: float, learn_rate: float, mod_rate: float = 1.0) -> Any:
        """A step of Adam in place, without bias correction, which the caller puts into learn_rate.

        The gradient is set to 0."""
        if (can_update(weights, gradient) and is_like(weights, mom1) and is_like(weights, mom2)
                and is_rate(learn_rate) and is_share(beta1) and is_share(beta2) and is_divisor(eps)):
            F.adam_update(weights, gradient, learn_rate, mom1, mom2, NO_CORRECTION, beta1, beta2, eps)
            gradient.fill(0)
            return weights, gradient, mom1, mom2
        return super().adam(weights, gradient, mom1, mom2, beta1, beta2, eps, learn_rate, mod_rate)


def _fills_panels(columns: int) -> bool:
    """Whether few of the columns that the kernels compute are padding; BLIS has less of it."""
    return columns % 32 == 0 or columns >= 256


def _apart(out: Any, *arrays: Any) -> bool:
    return not any(np.may_share_memory(out, array) for array in arrays)
