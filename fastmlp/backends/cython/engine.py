"""A model on the compiled kernels."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastmlp._core.int8 import int8_layers
from fastmlp._core.layout import Parameters, Statistics
from fastmlp._core.network import Layer
from fastmlp.backends.interface import Adjust, Predictor, Source, Totals
from fastmlp.losses import CallableLoss, Loss
from fastmlp.optimizers import Optimizer, Settings, State

from ._kernels import KERNELS, int8_by, kernels_of

if TYPE_CHECKING:
    from fastmlp._core.observer import Observer
    from fastmlp._core.types import Array

REAL_OUTPUTS = ("values", "softmax", "sigmoid", "exp")     # of a predictor; the others are integers
PREPARED = 512              # steps whose rates are computed at once, and kept


class Engine:
    """`fastmlp.backends.interface.Engine`, on the kernels; `fastmlp.backends.numpy.Engine` specifies it."""

    def __init__(self, parameters: Parameters, statistics: Statistics, layers: Sequence[Layer], loss: Loss,
                 seed: int, compute_dtype: str | None = None) -> None:
        self._parameters = parameters
        self._statistics = statistics
        self._layers = layers
        self._loss = loss
        self.seed = seed
        self._gradients: Parameters | None = None       # where they are stored between a step's two halves
        self._kernels = kernels_of(parameters.dtype, compute_dtype)
        self._store = self._kernels.UpdateRule(Settings(), 0.0)     # stores gradients
        specifications = [
            (f.activation.code, f.activation.alpha, f.dropout, f.stores_derivative,
             f.batch_norm.momentum if f.batch_norm else 0.0, f.batch_norm.epsilon if f.batch_norm else 0.0)
            for f in layers]
        self._engine = self._kernels.Engine(
            parameters.sizes, specifications, parameters.buffer, parameters.offsets, statistics.buffer,
            statistics.places,
            (loss.code, loss.parameter, loss.pos_weights(parameters.sizes[-1], parameters.dtype), loss.limit))
        self.takes = self._engine.takes if loss.takes_all_labels else _never
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

    def predictor(self, output: str, is_vector: bool, batch_size: int, threads: int,
                  int8: bool = False) -> Predictor:
        dtype = self._parameters.dtype if output in REAL_OUTPUTS else np.dtype(np.intp)
        if int8:
            return self._int8_predictor(output, dtype, is_vector, batch_size, threads)
        result: Predictor = self._kernels.Predictor(
            self._engine, output, dtype, is_vector, batch_size, threads)
        return result

    def _int8_predictor(self, output: str, dtype: np.dtype[Any], is_vector: bool, batch_size: int,
                        threads: int) -> Predictor:
        self.write_back()
        layers = [(layer.weights, layer.scales, layer.biases, layer.activation.code, layer.activation.alpha)
                  for layer in int8_layers(self._parameters, self._statistics, self._layers)]
        kernels = KERNELS[self._parameters.dtype.char]
        result: Predictor = kernels.Predictor(
            layers, output, dtype, is_vector, batch_size, threads, int8_by())
        return result

    def begin(self, samples: Source, optimizer: Optimizer, adjust: Adjust | None = None) -> Run:
        return Run(self, samples, optimizer, adjust)

    def gradients(self, samples: Source, gradients: Parameters, threads: int) -> float:
        loss, weight = self.run(samples, self._store, None, None, 0, 1, (0.0, 0.0), threads, True,
                                gradients.buffer)
        return loss / weight if weight else 0.0

    def rule_and_rates(self, optimizer: Optimizer, steps: int) -> tuple[Any, Any, State]:
        """The update rule, the rates of so many steps to come, and the state: kept until settings change."""
        state = optimizer.state_of(self._parameters)
        known = state.prepared
        if (known is not None and known.version == optimizer.version and known.rates is not None
                and known.rates.first <= state.step <= known.rates.last - steps):
            return known.rule, known.rates, state
        fixed = optimizer.rates_are_fixed
        rows = optimizer.rates(state.step, max(steps, PREPARED) if fixed else steps)
        rates = self._kernels.Rates(rows, state.step)
        state = optimizer.state_of(self._parameters)    # which a function of the rate may have changed
        if known is not None and known.version == optimizer.version:
            rule = known.rule
        else:
            rule = self._kernels.UpdateRule(optimizer.rule(), optimizer.clip_norm or 0.0)
        state.prepared = Prepared(optimizer.version, rule, rates if fixed else None)
        return rule, rates, state

    def run(self, samples: Source, rule: Any, rates: Any, state: State | None, first: int, last: int,
            totals: Totals, threads: int, store: bool, gradients: Any = None, adjust: Adjust | None = None,
            record: Array | None = None, observer: Observer | None = None) -> Totals:
        """Steps of the kernels; where something acts between gradients and update, or looks at them, they are
        stored on the way."""
        own = None
        if isinstance(self._loss, CallableLoss):
            own = OwnLoss(self._loss, samples, self._parameters.sizes[-1])
        adjusting = None
        if rule.clip_norm or adjust is not None or observer is not None:
            if self._gradients is None:
                self._gradients = self._parameters.like()
            gradients = self._gradients.buffer
            adjusting = None if adjust is None else Adjusting(adjust, self._gradients)
        result: Totals = self._engine.train(samples, rule, rates, state, first, last, self.seed, totals,
                                            threads, store, own, gradients, adjusting, record, observer)
        for function in (own, adjusting):
            if function is not None and function.error is not None:
                raise function.error
        return result


class Run:
    """Training steps over some samples."""

    __slots__ = ("_adjust", "_engine", "_optimizer", "_samples")

    def __init__(self, engine: Engine, samples: Source, optimizer: Optimizer, adjust: Adjust | None) -> None:
        self._engine = engine
        self._samples = samples
        self._optimizer = optimizer
        self._adjust = adjust

    def steps(self, first: int, last: int, totals: Totals, threads: int, store: bool = True,
              record: Array | None = None, observer: Observer | None = None) -> Totals:
        engine, samples, optimizer = self._engine, self._samples, self._optimizer
        adjust = self._adjust
        if not optimizer.rates_are_of_a_function:
            rule, rates, state = engine.rule_and_rates(optimizer, last - first)
            return engine.run(samples, rule, rates, state, first, last, totals, threads, store, None, adjust,
                              record, observer)
        for step in range(first, last):         # at each it may read and write the model
            rule, rates, state = engine.rule_and_rates(optimizer, 1)
            totals = engine.run(samples, rule, rates, state, step, step + 1, totals, threads, True, None,
                                adjust, record, observer)
        return totals

    def write_back(self) -> None:
        self._engine.write_back()


class Prepared(NamedTuple):
    """What follows from one version of an optimizer's settings: the update rule, and the rates of some steps
    to come, or None where they depend on more than the step."""

    version: int
    rule: Any
    rates: Any


def _never(x: Any, y: Any) -> bool:
    return False


class Adjusting:
    """What acts on the gradients of a step before the update, as the engine calls it.

    error       what it raised, KeyboardInterrupt too; the engine puts it here
    """

    def __init__(self, adjust: Adjust, gradients: Parameters) -> None:
        self.adjust = adjust
        self.gradients = gradients
        self.error: BaseException | None = None

    def __call__(self) -> None:
        self.adjust(self.gradients)


class OwnLoss:
    """A loss of the caller's own, as the engine calls it between the forward and the backward pass.

    error       what it raised, KeyboardInterrupt too; the engine puts it here
    """

    def __init__(self, loss: CallableLoss, samples: Source, outputs: int) -> None:
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
