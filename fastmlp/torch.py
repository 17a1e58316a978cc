"""From PyTorch: modules as an `MLP`, and weights by PyTorch's names.

`MLP.to_torch` is the way back. A model has the layers Linear, BatchNorm1d, activation, Dropout, in this
order, the last of them a Linear alone; the function at the end (Softmax, LogSoftmax, Sigmoid) belongs to the
loss. What a module has elsewhere is folded where predictions stay the same, with a warning where training
does not.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import activations as functions
from fastmlp._core import checks
from fastmlp._core.optional import import_extra
from fastmlp._exchange.chain import Activate, Chain, Drop, Linear, Normalize, Output
from fastmlp._exchange.to_torch import state_dict
from fastmlp.model import MLP
from fastmlp.normalization import BatchNorm

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike

    from fastmlp._core.types import ActivationLike, LossLike

__all__ = ["from_torch", "load_state_dict", "state_dict"]

Array = NDArray[Any]

# Modules with one activation each; those with settings say what they need.
ACTIVATIONS: dict[str, Callable[[Any], functions.Activation]] = {
    "ReLU": lambda m: functions.ReLU(),
    "LeakyReLU": lambda m: functions.LeakyReLU(m.negative_slope),
    "Sigmoid": lambda m: functions.Sigmoid(),
    "Tanh": lambda m: functions.Tanh(),
    "ELU": lambda m: functions.ELU(m.alpha),
    "SELU": lambda m: functions.SELU(),
    "Softplus": lambda m: _softplus(m.beta, m.threshold),
    "GELU": lambda m: functions.GELU() if m.approximate == "none" else functions.GELUTanh(),
    "SiLU": lambda m: functions.SiLU(),
}
OUTPUTS = {"Softmax": "softmax", "LogSoftmax": "log_softmax"}
OTHERS = ("Linear", "BatchNorm1d", "Dropout", "Flatten", "Identity")
# PyTorch has no public way to ask for hooks.
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
# Arrays of a module in a state_dict.
LINEAR = {"weight", "bias"}
STATISTICS = {"running_mean", "running_var"}
BATCH_NORM = LINEAR | STATISTICS | {"num_batches_tracked"}


def from_torch(
    module: torch.nn.Module | Mapping[str, ArrayLike | torch.Tensor],
    loss: LossLike | None = None,
    *,
    activation: ActivationLike | Sequence[ActivationLike] | None = None,
    dropout: float | Sequence[float] = 0.0,
    batch_norm: BatchNorm | None = None,
    seed: int | None = None,
) -> MLP:
    """Make a model of a PyTorch module, or of its state_dict.

    Parameters
    ----------
    module : torch.nn.Sequential, torch.nn.Linear, or mapping {str: array}
        Sequential of Linear, BatchNorm1d, Dropout, Flatten, Identity, Softmax or LogSoftmax at the end, the
        activations ReLU, LeakyReLU, Sigmoid, Tanh, ELU, SELU, Softplus, GELU and SiLU, and Sequentials of
        these. Or a state_dict, of tensors or NumPy arrays, of Linear and BatchNorm1d modules in their order.
    loss : str, Loss, class or callable, optional
        Loss, as for `MLP`. If not given, that which belongs to the last module: "cross_entropy" for Softmax
        and LogSoftmax, "binary_cross_entropy" for Sigmoid, else "mean_squared_error".
    activation : str, Activation, class or list of them, optional
        Activation of the hidden layers, as for `MLP`; for a state_dict, which has none.
    dropout : float or list of float, default 0.0
        Dropout, as for `MLP`; for a state_dict.
    batch_norm : BatchNorm, optional
        Settings of batch normalisation; for a state_dict. PyTorch's defaults, which are those of `BatchNorm`,
        if not given.
    seed : int, optional
        Seed of shuffling and dropout. A fresh one if not given.

    Returns
    -------
    MLP
        Model of the dtype of the module, with copies of its arrays.

    Raises
    ------
    TypeError
        For what is no module that can be converted, and parameters that are not float32 or float64; it names
        the layer.
    ValueError
        For modules with hooks or parametrizations, used twice, lazy, on no device, or that fit no layer of an
        `MLP`; for a loss that does not belong to the function at the end.
    ImportError
        Where PyTorch is missing; a state_dict of NumPy arrays needs none.

    Warns
    -----
    UserWarning
        Where predictions are the same but training is not: batch normalisation and dropout in other places,
        and an activation at the end.

    See Also
    --------
    fastmlp.MLP.to_torch : The way back.
    fastmlp.torch.load_state_dict : Weights for a model that is there.

    Notes
    -----
    `MLP.forward` returns what the module in eval mode does, to rounding; after a Softmax, LogSoftmax or
    Sigmoid at the end, that is what `MLP.predict_proba` returns, or its logarithm, and `MLP.forward` returns
    the logits. With a loss of another kind, Sigmoid is kept as an activation.

    Flatten is left out: an `MLP` takes rows. A Linear without bias gets one of zeros, which training changes.
    The bias of a Linear in front of BatchNorm1d, which has no effect in training, is taken off the running
    mean. BatchNorm1d in front of the first Linear, or behind an activation, is folded into the next Linear.

    References
    ----------
    PyTorch, https://docs.pytorch.org/docs/stable/nn.html

    Examples
    --------
    >>> import pytest
    >>> nn = pytest.importorskip("torch").nn
    >>> from_torch(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3), nn.Softmax(dim=1)))
    MLP([4, 8, 3], activation=['tanh'], loss='cross_entropy', dtype='float32')

    >>> import numpy as np
    >>> from_torch({"0.weight": np.eye(3), "2.weight": np.ones((2, 3))}, activation="relu")
    MLP([3, 3, 2], activation=['relu'], loss='mean_squared_error', dtype='float64')
    """
    if isinstance(module, Mapping):
        layers = _linear_layers(module)
        if activation is None and len(layers) > 1:
            raise TypeError("activation: expected that of the hidden layers, for a state_dict has none")
        if batch_norm is not None and not isinstance(batch_norm, BatchNorm):
            raise TypeError(f"batch_norm: expected a BatchNorm, got {batch_norm!r}")
        settings = [batch_norm or BatchNorm()] * len(layers)
        return _build(layers, loss, activation or [], dropout, settings, seed)
    for name, value in (("activation", activation), ("dropout", dropout or None), ("batch_norm", batch_norm)):
        if value is not None:
            raise TypeError(f"{name}: expected none with a module, which has its own, got {value!r}")
    package = import_extra("torch", "from_torch")
    if not isinstance(module, package.nn.Module):
        raise TypeError("module: expected a torch.nn.Sequential or a state_dict, got "
                        f"{type(module).__name__}")
    chain, arrays = Chain(), _Arrays()
    for label, kind, layer in _layers(package, module):
        if kind == "Linear":
            chain.add(_linear(label, layer, arrays))
        elif kind == "BatchNorm1d":
            chain.add(_normalize(label, layer, arrays))
        elif kind == "Dropout":
            chain.add(Drop(label, layer.p))
        elif kind == "Flatten":
            if (layer.start_dim, layer.end_dim) != (1, -1):
                raise ValueError(f"{label}: expected start_dim=1 and end_dim=-1, got {layer.start_dim} and "
                                 f"{layer.end_dim}")
        elif kind in OUTPUTS:
            if layer.dim not in (1, -1, None):
                raise ValueError(f"{label}: expected dim=1, got {layer.dim}")
            chain.add(Output(label, OUTPUTS[kind]))
        elif kind in ACTIVATIONS:
            with _named(label):
                function = ACTIVATIONS[kind](layer)
            chain.add(Activate(label, function))
    return chain.build(loss, arrays.dtype, seed)


def load_state_dict(model: MLP, state: Mapping[str, ArrayLike | torch.Tensor]) -> None:
    """Write the arrays of a PyTorch state_dict into a model.

    Parameters
    ----------
    model : MLP
        Model with the architecture of the module whose state it is.
    state : mapping {str: array}
        Arrays or tensors of Linear and BatchNorm1d modules in their order, by PyTorch's names: those of
        ``model.to_torch()``, or of any other module with the same layers.

    Raises
    ------
    TypeError
        For arrays of another dtype than the model's, and what is no state_dict.
    ValueError
        For arrays that do not fit the layers of the model. It stays as it is.

    See Also
    --------
    fastmlp.torch.state_dict : The arrays of a model by PyTorch's names.

    Examples
    --------
    >>> model, other = MLP([4, 8, 3], seed=0), MLP([4, 8, 3], seed=1)
    >>> load_state_dict(other, state_dict(model))
    >>> bool((other.weights[0] == model.weights[0]).all())
    True
    """
    if not isinstance(model, MLP):
        raise TypeError(f"model: expected an MLP, got {type(model).__name__}")
    layers = _linear_layers(state)
    if len(layers) != len(model.weights):
        raise ValueError(f"state: expected {len(model.weights)} linear layers, got {len(layers)}")
    settings = [norm or BatchNorm() for norm in (*model.batch_norm, None)]
    made = _build(layers, model.loss, model.activations[:-1], model.dropout, settings, None)
    for name in ("layers", "dtype"):
        found, expected = getattr(made, name), getattr(model, name)
        if found != expected:
            raise (ValueError if name == "layers" else TypeError)(
                f"state: expected arrays of {name} {expected}, those of the model, got {found}")
    found, expected = ([norm is not None for norm in m.batch_norm] for m in (made, model))
    if found != expected:
        raise ValueError(f"state: expected batch normalisation in hidden layers {expected}, got {found}")
    for kind in ("weights", "biases", "scales", "running_means", "running_variances"):
        setattr(model, kind, getattr(made, kind))


# Modules -----------------------------------------------------------------------------------------------

def _layers(package: Any, module: Any) -> Iterator[tuple[str, str, Any]]:
    """Label, kind and module of every layer, in order; Sequentials are taken apart."""
    nn = package.nn
    known: dict[Any, str] = {getattr(nn, kind): kind for kind in (*OTHERS, *OUTPUTS, *ACTIVATIONS)}
    for name, layer in module.named_modules(remove_duplicate=False):
        cls: Any = type(layer)
        label = f"layer {name} ({cls.__name__})" if name else f"module ({cls.__name__})"
        if isinstance(layer, nn.modules.lazy.LazyModuleMixin) and layer.has_uninitialized_params():
            raise ValueError(f"{label}: expected parameters with values, got a lazy module; run it once")
        if nn.utils.parametrize.is_parametrized(layer):
            raise ValueError(f"{label}: expected plain parameters, got parametrizations; "
                             "torch.nn.utils.parametrize.remove_parametrizations removes them")
        if any(vars(layer).get(hooks) for hooks in HOOKS):
            raise ValueError(f"{label}: expected no hooks, which would not be called (weight_norm, "
                             "spectral_norm and pruning add some)")
        base = next((base for base in cls.__mro__ if base in known or base is nn.Sequential), None)
        if base is None:
            raise TypeError(f"{label}: expected a Sequential, or one of {', '.join(known.values())}; another "
                            "module may do as ONNX: torch.onnx.export, then fastmlp.from_onnx")
        if cls.forward is not base.forward or "forward" in vars(layer):
            raise TypeError(f"{label}: expected the forward of {base.__name__}, got one of its own")
        if base is not nn.Sequential:
            yield label, known[base], layer


class _Arrays:
    """Takes arrays from modules: each array once, and all of one dtype.

    dtype   theirs; float32 as long as there are none
    """

    def __init__(self) -> None:
        self.dtype = np.dtype("float32")
        self._seen: dict[int, str] = {}
        self._first = ""

    def take(self, label: str, name: str, tensor: Any, shape: tuple[int, ...]) -> Array:
        other = self._seen.setdefault(id(tensor), label)
        if other is not label:
            raise ValueError(f"{label}: expected a {name} of its own, got that of {other}; an MLP shares no "
                             "weights")
        if tensor.device.type == "meta":
            raise ValueError(f"{label}: expected a {name} with values, got one on the device meta")
        dtype = str(tensor.dtype).rpartition(".")[2]
        if dtype not in ("float32", "float64"):
            raise TypeError(f"{label}: expected a {name} of float32 or float64, got {dtype}; convert the "
                            "module with .float()")
        if not self._first:
            self._first, self.dtype = label, np.dtype(dtype)
        elif self.dtype != dtype:
            raise TypeError(f"{label}: expected a {name} of {self.dtype}, the dtype of {self._first}, got "
                            f"{dtype}")
        array: Array = tensor.detach().cpu().numpy()
        if array.shape != shape:
            raise ValueError(f"{label}: expected a {name} of shape {shape}, got {array.shape}")
        return array


def _linear(label: str, layer: Any, arrays: _Arrays) -> Linear:
    n_in, n_out = layer.in_features, layer.out_features
    w = arrays.take(label, "weight", layer.weight, (n_out, n_in))
    if layer.bias is None:
        return Linear(label, w.T, np.zeros(n_out, w.dtype))
    return Linear(label, w.T, arrays.take(label, "bias", layer.bias, (n_out,)))


def _normalize(label: str, layer: Any, arrays: _Arrays) -> Normalize:
    if layer.running_mean is None or layer.running_var is None:
        raise ValueError(f"{label}: expected running statistics, got track_running_stats=False")
    if layer.momentum is None:
        raise ValueError(f"{label}: expected a momentum, got None; an MLP has no cumulative averages")
    with _named(label):
        settings = BatchNorm(layer.momentum, layer.eps)
    shape = (layer.num_features,)
    mean = arrays.take(label, "running_mean", layer.running_mean, shape)
    variance = arrays.take(label, "running_var", layer.running_var, shape)
    scale, shift = np.ones_like(mean), np.zeros_like(mean)
    if layer.weight is not None:
        scale = arrays.take(label, "weight", layer.weight, shape)
    if layer.bias is not None:
        shift = arrays.take(label, "bias", layer.bias, shape)
    return Normalize(label, scale, shift, mean, variance, settings)


def _softplus(beta: float, threshold: float) -> functions.Activation:
    if beta != 1 or threshold < 20:
        raise ValueError(f"expected beta=1 and a threshold from 20 up, got {beta} and {threshold}")
    return functions.Softplus()


@contextmanager
def _named(label: str) -> Iterator[None]:
    """Errors name the layer."""
    try:
        yield
    except (TypeError, ValueError) as error:
        raise type(error)(f"{label}: {error}") from None


# State dicts -------------------------------------------------------------------------------------------

@dataclass
class _LinearLayer:
    """Arrays of a Linear, by their names in PyTorch, and of the BatchNorm1d that follows it."""

    label: str
    arrays: dict[str, Array]
    norm_label: str = ""
    norm: dict[str, Array] | None = None


def _linear_layers(state: Any) -> list[_LinearLayer]:
    """What a state_dict holds, in order.

    The order is that of the numbers in the names, where numbers are all they differ in (files sort "10"
    before "2"), else that of the mapping.
    """
    if not isinstance(state, Mapping) or not all(isinstance(key, str) for key in state):
        raise TypeError(f"state_dict: expected a mapping from names to arrays, got {type(state).__name__}")
    groups: dict[str, dict[str, Array]] = {}
    for key, value in state.items():
        prefix, _, name = key.rpartition(".")
        groups.setdefault(prefix, {})[name] = checks.as_array(key, value)
    names = list(groups)
    if len({re.sub(r"\d+", "0", name) for name in names}) == 1:
        names.sort(key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    layers: list[_LinearLayer] = []
    for name in names:
        arrays, label = groups[name], f"layer {name}" if name else "layer"
        weight = arrays.get("weight")
        if arrays.keys() <= LINEAR and weight is not None and weight.ndim == 2:
            layers.append(_LinearLayer(label, arrays))
        elif STATISTICS <= arrays.keys() <= BATCH_NORM and layers and layers[-1].norm is None:
            layers[-1].norm_label, layers[-1].norm = label, arrays
        else:
            shapes = ", ".join(f"{key} {array.shape}" for key, array in arrays.items())
            raise ValueError(f"{label}: expected the arrays of a Linear, or of a BatchNorm1d behind one, got "
                             f"{shapes}")
    if not layers:
        raise ValueError("state_dict: expected the arrays of at least one Linear, got none")
    return layers


def _build(layers: list[_LinearLayer], loss: Any, activation: Any, dropout: Any,
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
        if array.dtype.name not in ("float32", "float64") or array.dtype != dtype:
            raise TypeError(f"{label}: expected a {name} of float32 or float64, like the first, got "
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
