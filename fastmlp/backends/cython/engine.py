"""A model on the compiled kernels."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastmlp.layout import Parameters, Statistics
from fastmlp.losses import CallableLoss, Loss
from fastmlp.network import Layer, Samples
from fastmlp.optimizers import Optimizer, Settings, State

from ._kernels import KERNELS, Array

_STORE = Settings()         # the rule that stores gradients


class Engine:
    """A network over a buffer of parameters; `fastmlp.backends.numpy.Engine` is its specification."""

    def __init__(self, parameters: Parameters, statistics: Statistics, layers: Sequence[Layer], loss: Loss,
                 seed: int) -> None:
        self._parameters = parameters
        self._loss = loss
        self._loss_rule = loss.code, loss.parameter, loss.pos_weights(parameters.sizes[-1], parameters.dtype)
        self.seed = seed
        self._gradients: Parameters | None = None       # where a limit on their norm stores them
        specifications = [
            (f.activation.code, f.activation.alpha, f.dropout, f.keeps_slope,
             f.batch_norm.momentum if f.batch_norm else 0.0, f.batch_norm.epsilon if f.batch_norm else 0.0)
            for f in layers]
        self._engine = KERNELS[parameters.dtype.char].Engine(
            parameters.sizes, specifications, parameters.buffer, parameters.offsets, statistics.buffer,
            statistics.places)
        self.workspace_nbytes = self._engine.workspace_nbytes
        self.forward = self._engine.forward
        self.write_back = self._engine.write_back

    @property
    def global_step(self) -> int:
        """Steps of training that the network has taken."""
        return int(self._engine.global_step)

    @global_step.setter
    def global_step(self, step: int) -> None:
        self._engine.set_global_step(step)

    def train(self, samples: Samples, first: int, last: int, optimizer: Optimizer,
              totals: tuple[float, float], threads: int, store: bool = True) -> tuple[float, float]:
        if callable(optimizer.lr):              # code of the caller's own may look at the model, or change it
            self.write_back()
        rates = optimizer.rates(optimizer._state(self._parameters).step, last - first)
        state = optimizer._state(self._parameters)
        clip_norm = optimizer.clip_norm or 0.0
        if clip_norm and self._gradients is None:
            self._gradients = self._parameters.like()
        gradients = self._gradients.buffer if clip_norm and self._gradients else None
        return self._run(samples, first, last, optimizer._rule(), rates, clip_norm, gradients, state, totals,
                         threads, store)

    def gradients(self, samples: Samples, gradients: Parameters, threads: int) -> float:
        loss, weight = self._run(samples, 0, 1, _STORE, None, 0.0, gradients.buffer, None, (0.0, 0.0),
                                 threads)
        return loss / weight if weight else 0.0

    def _run(self, samples: Samples, first: int, last: int, rule: Settings, rates: Any, clip_norm: float,
             gradients: Any, state: State | None, totals: tuple[float, float], threads: int,
             store: bool = True) -> Any:
        labels, rows, own = None, samples.targets, None
        if isinstance(self._loss, CallableLoss):
            rows, own = None, OwnLoss(self._loss, samples, self._parameters.sizes[-1])
        elif rows.ndim == 1:
            labels, rows = rows, None
        totals = self._engine.train(
            samples.x, labels, rows, samples.weights, samples.order, samples.batch_size, first, last,
            (*self._loss_rule, own), rule, rates, clip_norm, gradients, state, self.seed, self.global_step,
            totals, threads, store)
        if own is not None and own.error is not None:
            raise own.error
        return totals


class OwnLoss:
    """A loss of the caller's own, as the engine calls it between the forward and the backward pass.

    error       what it raised, KeyboardInterrupt too; the engine puts it here
    """

    def __init__(self, loss: CallableLoss, samples: Samples, outputs: int) -> None:
        self.loss = loss
        self.samples = samples
        self.outputs = outputs
        self.error: BaseException | None = None

    def __call__(self, buffer: Any, start: int, rows: int) -> float:
        """Writes the gradient over the logits in the buffer; the mean loss."""
        z: Array = np.asarray(buffer)[:, :self.outputs]
        places: Any = slice(start, start + rows)
        if self.samples.order is not None:
            places = self.samples.order[places]
        loss, gradient = self.loss(z.copy(), self.samples.targets[places])
        z[...] = gradient
        return loss
