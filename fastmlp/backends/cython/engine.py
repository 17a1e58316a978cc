"""A model on the compiled kernels."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastmlp.activations import Activation
from fastmlp.layout import Parameters
from fastmlp.losses import Loss
from fastmlp.optimizers import SGD

from ._kernels import KERNELS, Array

_GRADIENT, _SGD, _MOMENTUM, _NESTEROV = 0, 1, 2, 3


class Engine:
    """A network over a buffer of parameters; `fastmlp.backends.numpy.Engine` is its specification."""

    def __init__(self, parameters: Parameters, activations: Sequence[Activation], loss: Loss) -> None:
        self._address = parameters.buffer.ctypes.data
        self._itemsize = parameters.dtype.itemsize
        self._loss = loss.code, loss.parameter, loss.pos_weights(parameters.sizes[-1], parameters.dtype)
        self._engine = KERNELS[parameters.dtype.char].Engine(
            parameters.sizes, [(f.code, f.alpha) for f in activations], parameters.buffer, parameters.offsets)
        self.workspace_nbytes = self._engine.workspace_nbytes
        self.forward = self._engine.forward

    def train(self, x: Array, targets: Array, order: Array | None, batch_size: int, first: int, last: int,
              optimizer: SGD, velocity: Parameters | None, total: float, threads: int) -> float:
        rule = _SGD if velocity is None else _NESTEROV if optimizer.nesterov else _MOMENTUM
        away = 0 if velocity is None else self._distance(velocity)
        return self._run(x, targets, order, batch_size, first, last, rule, optimizer.lr, optimizer.momentum,
                         optimizer.weight_decay, 0, away, total, threads)

    def gradients(self, x: Array, targets: Array, gradients: Parameters, threads: int) -> float:
        return self._run(x, targets, None, len(x), 0, 1, _GRADIENT, 0.0, 0.0, 0.0, self._distance(gradients),
                         0, 0.0, threads) / len(x)

    def _run(self, x: Array, targets: Array, *rest: Any) -> float:
        labels, rows = (targets, None) if targets.ndim == 1 else (None, targets)
        return float(self._engine.train(*self._loss, x, labels, rows, *rest))

    def _distance(self, other: Parameters) -> int:
        """From the parameters to another buffer laid out like them, in elements."""
        return int(other.buffer.ctypes.data - self._address) // self._itemsize
