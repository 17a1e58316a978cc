"""Networks of other libraries, as a chain of steps, and what an `MLP` makes of them.

A reader (of PyTorch's modules, of ONNX's nodes) adds its steps to a `Chain` one by one. The chain folds them
into layers of the form Linear, BatchNorm, activation, dropout: predictions stay the same, to rounding. What
folding changes about training is noted, and becomes a warning. Steps that fit no layer raise ValueError with
their label, such as "layer 3 (Softmax)".
"""
from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import singledispatchmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import activations, losses
from fastmlp.model import MLP
from fastmlp.normalization import BatchNorm

__all__ = ["Activate", "Chain", "Drop", "Linear", "Normalize", "Output", "Scale", "TwoClasses"]

Array = NDArray[Any]

# The loss that a model gets if the caller names none, by the function at the end of the network.
DEFAULT_LOSSES = {
    "softmax": "cross_entropy", "log_softmax": "cross_entropy", "sigmoid": "binary_cross_entropy",
    "exp": "poisson", "identity": "mean_squared_error"}
# f(c z) = c f(z) for c >= 0: dropout may stand in front of these or behind, which is the same.
HOMOGENEOUS = (activations.ReLU, activations.LeakyReLU, activations.Identity)


# Steps -------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Linear:
    """y = x w + b, with w (in, out) and b (out,)."""

    label: str
    w: Array
    b: Array


@dataclass(frozen=True)
class Scale:
    """y = s x + t, each a number or (units,)."""

    label: str
    s: Array
    t: Array


@dataclass(frozen=True)
class Normalize:
    """y = scale (x - mean) / sqrt(variance + epsilon) + shift, all (units,), with running statistics."""

    label: str
    scale: Array
    shift: Array
    mean: Array
    variance: Array
    settings: BatchNorm

    def as_scale(self) -> Scale:
        s = np.float64(self.scale) / np.sqrt(np.float64(self.variance) + self.settings.epsilon)
        return Scale(self.label, s, self.shift - s * self.mean)


@dataclass(frozen=True)
class Activate:
    """y = f(x)."""

    label: str
    activation: activations.Activation


@dataclass(frozen=True)
class Drop:
    """Dropout of a share of the units; the identity in inference."""

    label: str
    rate: float


@dataclass(frozen=True)
class Output:
    """The function at the end: "softmax", "log_softmax" or "exp"."""

    label: str
    function: str


@dataclass(frozen=True)
class TwoClasses:
    """From a logit z (n, 1) to the probabilities 1 - sigmoid(z), sigmoid(z), which are softmax(0, z)."""

    label: str


@dataclass
class _Layer:
    """A layer of the model to be; activation None: none so far."""

    label: str
    w: Array
    b: Array
    norm: Normalize | None = None
    activation: activations.Activation | None = None
    activation_label: str = ""
    dropout: float = 0.0
    dropout_label: str = ""


# The chain ---------------------------------------------------------------------------------------------

class Chain:
    """Steps that were added so far, folded into layers.

    notes   what folding changed about training, one sentence each
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self._layers: list[_Layer] = []
        self._before: Scale | None = None       # waits for the next Linear, to be folded into it
        self._output: Output | None = None

    @singledispatchmethod
    def add(self, step: Any) -> None:
        """Add a step. Raises ValueError, with its label, where it fits no layer."""
        raise TypeError(f"no step of a chain: {step!r}")

    @add.register
    def _(self, step: Linear) -> None:
        self._nothing_ended(step.label)
        w, b = step.w, step.b
        if self._layers and len(w) != self._units:
            raise ValueError(f"{step.label}: expected {self._units} inputs, the outputs of "
                             f"{self._layers[-1].label}, got {len(w)}")
        if self._before is not None:
            s = _per_unit(step.label, self._before.s, len(w))
            b = b + _per_unit(step.label, self._before.t, len(w)) @ np.float64(w)
            w = s[:, None] * np.float64(w)
            self._before = None
        self._layers.append(_Layer(step.label, w, b))

    @add.register
    def _(self, step: Scale) -> None:
        self._nothing_ended(step.label)
        layer = self._last
        if layer is None or layer.activation is not None:
            if self._layers:
                _per_unit(step.label, step.s, self._units), _per_unit(step.label, step.t, self._units)
            old = self._before or Scale(step.label, np.float64(1), np.float64(0))
            self._before = Scale(step.label, old.s * step.s, old.t * step.s + step.t)
            return
        self._leave_out_dropout(layer, step.label)
        s, t = (_per_unit(step.label, values, self._units) for values in (step.s, step.t))
        if layer.norm is None:
            layer.w, layer.b = np.float64(layer.w) * s, layer.b * s + t
        else:
            norm = layer.norm
            layer.norm = Normalize(norm.label, norm.scale * s, norm.shift * s + t, norm.mean, norm.variance,
                                   norm.settings)

    @add.register
    def _(self, step: Normalize) -> None:
        self._nothing_ended(step.label)
        layer = self._last
        if layer is not None and layer.activation is None and layer.norm is None:
            if len(step.scale) != self._units:
                raise ValueError(f"{step.label}: expected {self._units} units, the outputs of {layer.label}, "
                                 f"got {len(step.scale)}")
            self._leave_out_dropout(layer, step.label)
            layer.norm = Normalize(step.label, step.scale, step.shift, step.mean - layer.b, step.variance,
                                   step.settings)
            layer.b = np.zeros_like(layer.b)
            return
        self.notes.append(f"{step.label}: batch normalisation that is not between a linear layer and its "
                          "activation is folded into weights, and no longer follows the batches in training")
        self.add(step.as_scale())

    @add.register
    def _(self, step: Activate) -> None:
        self._nothing_ended(step.label)
        layer = self._last
        if layer is None:
            raise ValueError(f"{step.label}: expected a linear layer in front of the first activation")
        if layer.activation is not None:
            layer = self._bridge(step.label, "no linear layer is in front of it")
        if layer.dropout and not isinstance(step.activation, HOMOGENEOUS):
            self._leave_out_dropout(layer, step.label)
        layer.activation, layer.activation_label = step.activation, step.label

    @add.register
    def _(self, step: Drop) -> None:
        self._nothing_ended(step.label)
        if not 0 <= step.rate < 1:
            raise ValueError(f"{step.label}: expected a share from 0 to below 1, got {step.rate}")
        layer = self._last
        if step.rate == 0:
            return
        if layer is None:
            self.notes.append(f"{step.label}: dropout of the inputs is left out; an MLP has none")
            return
        layer.dropout = step.rate if not layer.dropout else 1 - (1 - layer.dropout) * (1 - step.rate)
        layer.dropout_label = step.label

    @add.register
    def _(self, step: Output) -> None:
        self._nothing_ended(step.label)
        if self._last is None:
            raise ValueError(f"{step.label}: expected a linear layer in front of it")
        if self._last.activation is not None:
            self._bridge(step.label, "no linear layer is in front of it")
        self._output = step

    @add.register
    def _(self, step: TwoClasses) -> None:
        self._nothing_ended(step.label)
        layer = self._last
        if layer is None or layer.activation is not None or layer.norm is not None or self._units != 1:
            raise ValueError(f"{step.label}: expected a linear layer with one output in front of two classes")
        layer.w, layer.b = np.pad(layer.w, [(0, 0), (1, 0)]), np.pad(layer.b, [(1, 0)])
        self._output = Output(step.label, "softmax")

    @property
    def end(self) -> tuple[str, str]:
        """The function that the network ends with, "identity" for a linear layer and for activations that no
        loss belongs to, and the label of the last step."""
        if self._output is not None:
            return self._output.function, self._output.label
        layer = self._last
        if layer is None or layer.activation is None:
            return "identity", layer.label if layer else "nothing"
        if isinstance(layer.activation, activations.Sigmoid) and self._before is None:
            return "sigmoid", layer.activation_label
        return "identity", layer.activation_label

    def build(self, loss: Any, dtype: Any, seed: int | None) -> MLP:
        """The model, with `loss`, or the default for the function at the end if it is None.

        Warns of what folding changed. Raises ValueError for a chain without a linear layer, and for a loss
        that does not belong to the function at the end.
        """
        loss = None if loss is None else losses.resolve(loss)
        if self._last is None:
            raise ValueError("expected a network with at least one linear layer, got none")
        loss = self._end(self._last, loss)
        hidden = self._layers[:-1]
        model = MLP([len(self._layers[0].w), *(len(layer.b) for layer in self._layers)],
                    activation=[layer.activation or activations.Identity() for layer in hidden],
                    loss=loss, init="zeros", dtype=dtype, seed=seed,
                    dropout=[layer.dropout for layer in hidden],
                    batch_norm=[None if layer.norm is None else layer.norm.settings for layer in hidden])
        for i, layer in enumerate(self._layers):
            model.weights[i] = np.asarray(layer.w, model.dtype)
            norm = layer.norm
            model.biases[i] = np.asarray(layer.b if norm is None else norm.shift, model.dtype)
            if norm is not None:
                model.scales[i] = np.asarray(norm.scale, model.dtype)
                model.running_means[i] = np.asarray(norm.mean, model.dtype)
                model.running_variances[i] = np.asarray(norm.variance, model.dtype)
        for note in self.notes:
            warnings.warn(note, UserWarning, stacklevel=4)     # who calls from_torch or from_onnx
        return model

    def _end(self, layer: _Layer, loss: losses.Loss | None) -> losses.Loss:
        """Make the last layer linear, as that of an MLP is; the loss that belongs to the function after
        it."""
        function, label = "identity", ""
        if self._output is not None:
            function, label = self._output.function, self._output.label
        elif isinstance(layer.activation, activations.Sigmoid) and self._before is None and (
                loss is None or loss.output == "sigmoid"):
            function, label = "sigmoid", layer.activation_label
            layer.activation = None
        elif isinstance(layer.activation, activations.Identity):
            layer.activation = None
        if layer.activation is not None:
            layer = self._bridge(layer.activation_label, "the last layer of an MLP has no activation")
        elif layer.norm is not None:
            self.notes.append(f"{layer.norm.label}: batch normalisation of the last layer is folded into its "
                              "weights, and no longer follows the batches in training")
            scale, layer.norm = layer.norm.as_scale(), None
            layer.w, layer.b = np.float64(layer.w) * scale.s, np.float64(scale.t)
        if layer.dropout:
            self._leave_out_dropout(layer, "the end")
        loss = losses.resolve(DEFAULT_LOSSES[function]) if loss is None else loss
        expected = {"log_softmax": "softmax", "identity": loss.output}.get(function, function)
        if loss.output != expected:
            raise ValueError(f"loss: expected one whose outputs go through {expected}, as after {label}, got "
                             f"{loss.name!r}")
        return loss

    @property
    def _last(self) -> _Layer | None:
        return self._layers[-1] if self._layers else None

    @property
    def _units(self) -> int:
        return len(self._layers[-1].b)

    def _nothing_ended(self, label: str) -> None:
        if self._output is not None:
            raise ValueError(f"{label}: expected nothing after {self._output.label}, which ends the network")

    def _bridge(self, label: str, why: str) -> _Layer:
        """A linear layer that changes nothing, but for the scale that waits."""
        self.notes.append(f"{label}: {why}; a layer with the identity matrix is put there, which training "
                          "changes")
        scale = self._before or Scale(label, np.float64(1), np.float64(0))
        s, t = (_per_unit(label, values, self._units) for values in (scale.s, scale.t))
        self._before = None
        self._layers.append(_Layer(label, np.diag(s), t))
        return self._layers[-1]

    def _leave_out_dropout(self, layer: _Layer, label: str) -> None:
        if layer.dropout:
            self.notes.append(f"{layer.dropout_label}: dropout in front of {label} is left out; an MLP drops "
                              "outputs of activations alone")
            layer.dropout = 0.0


def _per_unit(label: str, values: Array, units: int) -> Array:
    """A number, or one for each unit, as (units,) in float64."""
    values = np.asarray(values, np.float64)
    if values.size not in (1, units):
        raise ValueError(f"{label}: expected one number, or one for each of {units} units, got shape "
                         f"{values.shape}")
    return np.broadcast_to(values.reshape(-1), units)
