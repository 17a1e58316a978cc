"""A model on the compiled kernels."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastmlp.activations import Activation
from fastmlp.layout import Parameters
from fastmlp.losses import Loss
from fastmlp.optimizers import SGD, Settings

from ._kernels import KERNELS, Array
from .losses import _CROSS_ENTROPY, _CROSS_ENTROPY_ROWS

_GRADIENT = Settings()


class Engine:
    """A network over a buffer of parameters; `fastmlp.backends.numpy.Engine` is its specification."""

    def __init__(self, parameters: Parameters, activations: Sequence[Activation], loss: Loss) -> None:
        self._address = parameters.buffer.ctypes.data
        self._itemsize = parameters.dtype.itemsize
        self._loss = loss.code
        self._engine = KERNELS[parameters.dtype.char].Engine(
            parameters.sizes, [(f.code, f.alpha) for f in activations], parameters.buffer, parameters.offsets)
        self.workspace_nbytes = self._engine.workspace_nbytes
        self.forward = self._engine.forward

    def train(self, x: Array, targets: Array, order: Array | None, batch_size: int, first: int, last: int,
              optimizer: SGD, velocity: Parameters | None, total: float, threads: int) -> float:
        away = 0 if velocity is None else self._distance(velocity)
        return self._run(x, targets, order, batch_size, first, last, optimizer._rule(),
                         optimizer.rates(first, last - first), 0, away, total, threads)

    def gradients(self, x: Array, targets: Array, gradients: Parameters, threads: int) -> float:
        return self._run(x, targets, None, len(x), 0, 1, _GRADIENT, None, self._distance(gradients), 0, 0.0,
                         threads) / len(x)

    def _run(self, x: Array, targets: Array, *rest: Any) -> float:
        labels, rows, loss = None, targets, self._loss
        if loss == _CROSS_ENTROPY:
            if targets.ndim == 1:
                labels, rows = targets, None
            else:
                loss = _CROSS_ENTROPY_ROWS
        return float(self._engine.train(loss, x, labels, rows, *rest))

    def _distance(self, other: Parameters) -> int:
        """From the parameters to another buffer laid out like them, in elements."""
        return int(other.buffer.ctypes.data - self._address) // self._itemsize
