"""A model on NumPy: the specification of the compiled engine."""
from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core.int8 import int8_layers, weights_nbytes
from fastmlp._core.layout import Parameters, Statistics
from fastmlp._core.network import Layer
from fastmlp.backends.interface import Adjust, Source, Totals
from fastmlp.losses import CallableLoss, Loss
from fastmlp.optimizers import Optimizer

from . import bfloat16, sparse
from . import int8 as integers
from ._common import quiet, sum_rows
from .activations import activate, derivative, slope
from .dropout import dropout_mask
from .losses import loss_and_gradient
from .normalisation import mean_and_variance, normalise, normalise_backward
from .observation import observe_layers, observe_units, observe_update
from .predictor import Predictor
from .sparse import in_dtype
from .updates import apply, norm_scale, penalty, penalty_share

if TYPE_CHECKING:
    from fastmlp._core.observer import Observer
    from fastmlp._core.sources import Rows
    from fastmlp._core.types import Array


class Engine:
    """A network over a buffer of parameters: the forward pass, gradients, and runs of minibatches.

    Arguments have been checked. `threads` is for compiled backends. `seed` is that of dropout; `global_step`
    counts the steps that the model has taken: the mask depends on it. `compute_dtype` is that of products.
    """

    def __init__(self, parameters: Parameters, statistics: Statistics, layers: Sequence[Layer], loss: Loss,
                 seed: int, compute_dtype: str | None = None) -> None:
        self._parameters = parameters
        self._statistics = statistics
        self._layers = layers
        self._loss = loss
        loss.pos_weights(parameters.sizes[-1], parameters.dtype)        # raises where they do not fit
        self.seed = seed
        self._compute_dtype = compute_dtype
        products = bfloat16 if compute_dtype == "bfloat16" else sparse
        self._product, self._transposed_product = products.product, products.transposed_product
        self.global_step = 0
        self._gradients: Parameters | None = None       # of a step

    def takes(self, x: object, y: object) -> bool:
        """Whether a batch needs neither validation nor conversion; False where an engine cannot say."""
        return False

    def workspace_nbytes(self, batch_size: int, slots: int, threads: int = 1,
                         nonzeros: int | None = None) -> int:
        """Bytes of one step's arrays: activations, deltas and gradients, roughly."""
        itemsize = self._parameters.dtype.itemsize
        units, inputs = sum(self._parameters.sizes), 0
        if nonzeros is not None:            # a number, its column and its row
            units, inputs = sum(self._parameters.sizes[1:]), nonzeros * (itemsize + 16)
        return itemsize * 2 * batch_size * units + inputs + self._parameters.buffer.nbytes

    @quiet
    def forward(self, x: Array, out: Array, threads: int = 1,
                hidden: Sequence[Array | None] | None = None) -> bool:
        """out = the last layer's values of every row, and hidden[i], where there is an array, those of hidden
        layer i."""
        for start in range(0, len(x), 1024):
            rows = slice(start, start + 1024)
            y = in_dtype(x[rows], self._parameters.dtype)
            for i, layer in enumerate(self._layers):
                y = self._product(y, self._parameters.weights[i])
                if layer.batch_norm is None:
                    y += self._parameters.biases[i]
                else:
                    y, _ = normalise(y, self._statistics.means[i], self._statistics.variances[i],
                                     layer.batch_norm.epsilon, self._parameters.scales[i],
                                     self._parameters.biases[i])
                y = activate(y, layer.activation)
                kept = out if i == len(self._layers) - 1 else hidden[i] if hidden is not None else None
                if kept is not None:
                    kept[rows] = y
        return True

    def predictor(self, output: str, is_vector: bool, batch_size: int, threads: int = 1,
                  int8: bool = False) -> Predictor:
        """The network as it is now, for inference."""
        if int8:
            layers = int8_layers(self._parameters, self._statistics, self._layers)
            return Predictor(
                partial(integers.forward, layers), self._parameters.sizes, self._parameters.dtype, output,
                is_vector, batch_size, weights_nbytes(self._parameters.sizes))
        statistics = copy.deepcopy(self._statistics)
        engine = Engine(self._parameters.copy(), statistics, self._layers, self._loss, self.seed,
                        self._compute_dtype)
        nbytes = self._parameters.buffer.nbytes + statistics.buffer.nbytes
        return Predictor(engine.forward, self._parameters.sizes, self._parameters.dtype, output, is_vector,
                         batch_size, nbytes)

    def gradients(self, samples: Source, gradients: Parameters, threads: int = 1) -> float:
        """The mean loss of all samples, and its gradients in a buffer laid out like the parameters; as in a
        training step, but nothing is learned."""
        return self._backpropagate(samples, slice(None), gradients, remember=False)[0]

    def begin(self, samples: Source, optimizer: Optimizer, adjust: Adjust | None = None) -> Run:
        """Training over these samples."""
        return Run(self, samples, optimizer, adjust)

    def step(self, samples: Source, step: int, optimizer: Optimizer, adjust: Adjust | None = None,
             record: Array | None = None, observer: Observer | None = None) -> tuple[float, float]:
        """One step: the loss of its batch and what the samples weigh."""
        parameters = self._parameters
        if self._gradients is None:
            self._gradients = parameters.like()
        gradients = self._gradients
        seen: list[Array] = []
        loss, weight = self._backpropagate(samples, samples.batch(step), gradients, True, seen)
        if adjust is not None:
            adjust(gradients)
        rates = optimizer.rates(optimizer.state_of(parameters).step, 1)[0]
        state = optimizer.state_of(parameters)
        own = state
        if any(slot.dtype != parameters.dtype for slot in state.slots.values()):
            own = state.astype(parameters.dtype)
        scale = norm_scale(optimizer.clip_norm, [*gradients.weights, *gradients.vectors()])
        if record is not None:
            settings = optimizer.rule()
            penalties = (*(penalty(settings, w) for w in parameters.weights),
                         *(penalty(settings, b, is_bias=True) for b in parameters.vectors()))
            record[step] = loss, weight, penalty_share(settings, weight) * sum(penalties)
        reports = observer is not None and observer.has_report()
        if observer is not None:
            observe_units(observer, seen)
            if reports:
                observe_layers(observer, seen, self._layers, gradients, parameters)
        for kind in ("weights", "biases", "scales"):
            for i, p in enumerate(getattr(parameters, kind)):
                if p is not None:
                    slots = {name: getattr(slot, kind)[i] for name, slot in own.slots.items()}
                    gradient = getattr(gradients, kind)[i]
                    apply(optimizer, p, gradient, slots, rates, kind != "weights", scale, weight)
        if own is not state:
            state.assign(own)
        if observer is not None:
            if reports:
                observe_update(observer, parameters)
            observer.step += 1
        state.step += 1
        self.global_step += 1
        return loss, weight

    def write_back(self) -> None:
        """To the caller's arrays what a run left in the workspace: nothing here."""

    @quiet
    def _backpropagate(self, samples: Source, rows: slice | Array, gradients: Parameters,
                       remember: bool, seen: list[Array] | None = None) -> tuple[float, float]:
        """The mean loss of one batch and what its samples weigh; their gradients; in `seen` the outputs of
        the hidden layers. Samples of weight 0 take no part."""
        parameters, dtype = self._parameters, self._parameters.dtype
        weights = None if samples.weights is None else samples.weights[rows]
        if weights is not None and not weights.all():
            rows, weights = np.arange(len(samples))[rows][weights > 0], weights[weights > 0]
        x: Any = in_dtype(samples.x[rows], dtype)       # dense behind the first layer
        targets = samples.targets[rows]
        if targets.ndim == 2 and not isinstance(self._loss, CallableLoss):
            targets = targets.astype(dtype, copy=False)
        inputs: list[Rows] = []                         # of every layer, for the backward pass
        outputs: list[Array] = []
        normalised: list[Any] = []                      # x_hat and variance, or None
        for i, layer in enumerate(self._layers):
            inputs.append(x)
            z = self._product(x, parameters.weights[i])
            if layer.batch_norm is None:
                z += parameters.biases[i]
                normalised.append(None)
            else:
                mean, variance = mean_and_variance(z)
                if remember and len(z) > 1:
                    self._remember(i, mean, variance, len(z), layer.batch_norm.momentum)
                z, x_hat = normalise(z, mean, variance, layer.batch_norm.epsilon, parameters.scales[i],
                                     parameters.biases[i])
                normalised.append((x_hat, variance))
            kept = slope(z, layer.activation) if layer.stores_derivative else None
            x = activate(z, layer.activation)
            if layer.dropout:
                mask = dropout_mask(layer.dropout, self.seed, self.global_step, i, x.shape[0], x.shape[1],
                                    dtype)
                x, kept = x * mask, kept * mask
            outputs.append(x if kept is None else kept)
            if seen is not None and i < len(self._layers) - 1:
                seen.append(x)
        loss, d = loss_and_gradient(self._loss, x, targets, weights) if len(x) else (0.0, x)
        for i in reversed(range(len(self._layers))):
            if self._layers[i].stores_derivative:
                d = d * outputs[i]
            else:
                d = derivative(d, outputs[i], self._layers[i].activation)
            batch_norm = self._layers[i].batch_norm
            if batch_norm is None:
                gradients.biases[i][...] = sum_rows(d)
            else:
                x_hat, variance = normalised[i]
                d, gradients.scales[i][...], gradients.biases[i][...] = normalise_backward(
                    d, x_hat, variance, batch_norm.epsilon, parameters.scales[i])
            self._transposed_product(inputs[i], d, out=gradients.weights[i])
            if i:
                d = self._product(d, parameters.weights[i].T)
        return loss, float(len(x) if weights is None else weights.sum())

    def _remember(self, i: int, mean: Array, variance: Array, n: int, momentum: float) -> None:
        """The running statistics follow those of a batch of n rows."""
        variance = variance * (n / (n - 1))
        means, variances = self._statistics.means[i], self._statistics.variances[i]
        means += means.dtype.type(momentum) * (mean - means)
        variances += variances.dtype.type(momentum) * (variance - variances)


class Run:
    """Training steps over some samples."""

    def __init__(self, engine: Engine, samples: Source, optimizer: Optimizer,
                 adjust: Adjust | None = None) -> None:
        self._engine = engine
        self._samples = samples
        self._optimizer = optimizer
        self._adjust = adjust

    def steps(self, first: int, last: int, totals: Totals, threads: int = 1, store: bool = True,
              record: Array | None = None, observer: Observer | None = None) -> Totals:
        """Steps first..last - 1; `totals` plus the losses, each times its weight, and the weights of all
        samples seen."""
        for step in range(first, last):
            loss, weight = self._engine.step(self._samples, step, self._optimizer, self._adjust, record,
                                             observer)
            totals = totals[0] + loss * weight, totals[1] + weight
        return totals

    def write_back(self) -> None:
        """To the caller's arrays what a run left in the workspace: nothing here."""
