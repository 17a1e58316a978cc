"""A network as it was, for inference: the specification of the compiled predictor."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ._common import quiet
from .activations import exp, sigmoid, softmax

if TYPE_CHECKING:
    from fastmlp._core.types import Array

# What is made of the values of the last layer, by its name.
OUTPUTS: dict[str, Callable[[Array], Array]] = {
    "values": lambda z: z,
    "softmax": softmax,
    "sigmoid": sigmoid,
    "exp": exp,
    "largest": lambda z: z.argmax(axis=1),
    "positive": lambda z: z > 0,
    "sign": lambda z: np.where(z > 0, 1, -1),
}


class Predictor:
    """`fastmlp.backends.interface.Predictor`, over a forward pass of its own."""

    def __init__(self, forward: Callable[[Array, Array], object], sizes: Sequence[int], dtype: np.dtype[Any],
                 output: str, is_vector: bool, batch_size: int, nbytes: int) -> None:
        self.nbytes = self.parameters_nbytes = nbytes
        self._forward = forward
        self._sizes = sizes
        self._dtype = dtype
        self._function = OUTPUTS[output]
        self._result_dtype = dtype if output in ("values", "softmax", "sigmoid", "exp") else np.dtype(np.intp)
        self._is_vector = is_vector
        self._batch_size = batch_size

    @quiet
    def run(self, x: object, out: object) -> Array | None:
        """The results of every row of x, in `out` or in a new array; None for what it does not take."""
        if not isinstance(x, np.ndarray) or isinstance(x, np.ma.MaskedArray) or x.dtype.kind not in "biuf":
            return None
        if x.ndim != 2 or x.shape[1] != self._sizes[0] or self._batch_size and len(x) > self._batch_size:
            return None
        shape = (len(x),) if self._is_vector else (len(x), self._sizes[-1])
        if out is None:
            out = np.empty(shape, self._result_dtype)
        if not isinstance(out, np.ndarray) or out.shape != shape or out.dtype != self._result_dtype:
            return None
        if not out.flags.carray or np.may_share_memory(x, out):
            return None
        z = np.empty((len(x), self._sizes[-1]), self._dtype)
        self._forward(x, z)
        out[...] = self._function(z).reshape(shape)
        return out
