"""State dicts of PyTorch, of tensors or of NumPy arrays, as the steps of a `Chain`; without PyTorch."""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import activations as functions
from fastmlp._core import checks
from fastmlp._exchange.chain import Activate, Chain, Drop, Linear, Normalize
from fastmlp.normalization import BatchNorm

if TYPE_CHECKING:
    from fastmlp.model import MLP

__all__ = ["LinearLayer", "build", "linear_layers"]

Array = NDArray[Any]

# Arrays of a module in a state_dict.
LINEAR = {"weight", "bias"}
STATISTICS = {"running_mean", "running_var"}
BATCH_NORM = LINEAR | STATISTICS | {"num_batches_tracked"}


@dataclass
class LinearLayer:
    """Arrays of a Linear, by their names in PyTorch, and of the BatchNorm1d that follows it."""

    label: str
    arrays: dict[str, Array]
    norm_label: str = ""
    norm: dict[str, Array] | None = None


def linear_layers(state: Any) -> list[LinearLayer]:
    """What a state_dict holds, in order.

    The order is that of the mapping; of names that differ in nothing but numbers, that of the numbers, for
    files sort "10" before "2".
    """
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise TypeError(f"state_dict: expected a mapping from names to arrays, got {type(state).__name__}")
    groups: dict[str, dict[str, Array]] = {}
    # Counters say nothing of the order: files of safetensors have the integers first.
    for key in sorted(state, key=lambda key: key.endswith("num_batches_tracked")):
        prefix, _, name = key.rpartition(".")
        groups.setdefault(prefix, {})[name] = checks.as_array(key, state[key])
    layers: list[LinearLayer] = []
    for name in _by_number(list(groups)):
        arrays, label = groups[name], f"layer {name}" if name else "layer"
        weight = arrays.get("weight")
        if arrays.keys() <= LINEAR and weight is not None and weight.ndim == 2:
            layers.append(LinearLayer(label, arrays))
        elif STATISTICS <= arrays.keys() <= BATCH_NORM and layers and layers[-1].norm is None:
            layers[-1].norm_label, layers[-1].norm = label, arrays
        else:
            shapes = ", ".join(f"{key} {array.shape}" for key, array in arrays.items())
            raise ValueError(f"{label}: expected the arrays of a Linear, or of a BatchNorm1d behind one, got "
                             f"{shapes}")
    if not layers:
        raise ValueError("state_dict: expected the arrays of at least one Linear, got none")
    return layers


def _by_number(names: list[str]) -> list[str]:
    """Names that differ in nothing but numbers change places, into the order of the numbers.

    >>> _by_number(["body.0", "body.10", "body.2", "head"])
    ['body.0', 'body.2', 'body.10', 'head']
    """
    kinds = [re.sub(r"\d+", "0", name) for name in names]
    in_order = sorted(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    of_kind = {kind: iter([name for name in in_order if re.sub(r"\d+", "0", name) == kind])
               for kind in dict.fromkeys(kinds)}
    return [next(of_kind[kind]) for kind in kinds]


def build(layers: list[LinearLayer], loss: Any, activation: Any, dropout: Any,
           settings: Sequence[BatchNorm], seed: int | None) -> MLP:
    """A model of these layers; activation and dropout as `MLP` takes them."""
    hidden = len(layers) - 1
    f = _for_each("activation", activation, hidden)
    rates = _for_each("dropout", dropout, hidden)
    chain, dtype = Chain(), layers[0].arrays["weight"].dtype
    for i, layer in enumerate(layers):
        for label, arrays in ((layer.label, layer.arrays), (layer.norm_label, layer.norm or {})):
            _check_arrays(label, arrays, len(layer.arrays["weight"]), dtype)
        w = layer.arrays["weight"]
        zeros = np.zeros(len(w), dtype)
        chain.add(Linear(layer.label, w.T, layer.arrays.get("bias", zeros)))
        if layer.norm is not None:
            chain.add(Normalize(
                layer.norm_label, layer.norm.get("weight", zeros + 1), layer.norm.get("bias", zeros),
                layer.norm["running_mean"], layer.norm["running_var"], settings[i]))
        if i < hidden:
            chain.add(Activate(layer.label, functions.resolve(f[i])))
            chain.add(Drop(layer.label, checks.number("dropout", rates[i], low=0.0)))
    return chain.build(loss, dtype, seed)


def _check_arrays(label: str, arrays: Mapping[str, Array], units: int, dtype: np.dtype[Any]) -> None:
    for name, array in arrays.items():
        if name == "num_batches_tracked":
            continue
        if array.dtype.name not in ("float32", "float64"):
            raise TypeError(f"{label}: expected a {name} of float32 or float64, got {array.dtype}")
        if array.dtype != dtype:
            raise TypeError(f"{label}: expected a {name} of {dtype}, the dtype of the first weight, got "
                            f"{array.dtype}")
        if array.ndim != 2:
            checks.shape(f"{label}: {name}", array, (units,))


def _for_each(name: str, value: Any, hidden: int) -> Sequence[Any]:
    """One for every hidden layer."""
    if not isinstance(value, (list, tuple)):
        return [value] * hidden
    if len(value) != hidden:
        raise ValueError(f"{name}: expected one for each of {hidden} hidden layers, got {len(value)}")
    return value
