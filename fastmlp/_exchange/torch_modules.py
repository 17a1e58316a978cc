"""Modules of PyTorch, as the steps of a `Chain`."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import activations as functions
from fastmlp._core.optional import import_extra
from fastmlp._exchange.chain import Activate, Chain, Drop, Linear, Normalize, Output
from fastmlp.normalization import BatchNorm

if TYPE_CHECKING:
    from fastmlp._core.types import LossLike
    from fastmlp.model import MLP

__all__ = ["from_module"]

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
MODULES = {"log_softmax": "a LogSoftmax", "sigmoid": "a Sigmoid"}
OTHERS = ("Linear", "BatchNorm1d", "Dropout", "Flatten", "Identity")
# PyTorch has no public way to ask for hooks.
HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")
# What a call of a layer goes through, and what a Sequential takes its layers from.
CALLED = ("forward", "__call__", "_call_impl", "_wrapped_call_impl", "__iter__")


def from_module(module: Any, loss: LossLike | None, seed: int | None, name: str, ends: tuple[str, ...]
                ) -> MLP:
    """The model of a module: what `from_torch` does.

    The loss comes from one of PyTorch of this name, which is computed on the values of one of these functions
    at the end; of any, if there are none.
    """
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
    end, label = chain.end
    if ends and end not in ends:
        wanted = "a Linear" if "identity" in ends else MODULES[ends[0]]
        raise ValueError(f"loss: expected {wanted} at the end, which {name} takes the values of, got "
                         f"{label}; PyTorch computes another loss of it than fastmlp would")
    return chain.build(loss, arrays.dtype, seed)


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
        if any(getattr(nn.modules.module, f"_global{hooks}", None) for hooks in HOOKS):
            raise ValueError(f"{label}: expected no hooks, got global ones of torch.nn.modules.module, which "
                             "would not be called")
        base = next((base for base in cls.__mro__ if base in known or base is nn.Sequential), None)
        if base is None:
            raise TypeError(f"{label}: expected a Sequential, or one of {', '.join(known.values())}, of "
                            f"torch.nn, got one of {cls.__module__}; another module may do as ONNX: "
                            "torch.onnx.export, then fastmlp.from_onnx")
        for called in CALLED:
            if getattr(cls, called, None) is not getattr(base, called, None) or called in vars(layer):
                raise TypeError(f"{label}: expected the {called} of {base.__name__}, got one of its own")
        if base is not nn.Sequential:
            yield label, known[base], layer


class _Arrays:
    """Takes arrays from modules: each array once, and all of one dtype.

    dtype   theirs; float32 as long as there are none
    """

    def __init__(self) -> None:
        self.dtype = np.dtype("float32")
        self._seen: list[tuple[str, Any, Array]] = []
        self._first = ""

    def take(self, label: str, name: str, tensor: Any, shape: tuple[int, ...]) -> Array:
        if tensor.device.type == "meta":
            raise ValueError(f"{label}: expected a {name} with values, got one on the device meta")
        if any(getattr(tensor, hooks, None) for hooks in TENSOR_HOOKS):
            raise ValueError(f"{label}: expected a {name} without hooks, which would not be called")
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
        for other, seen, memory in self._seen:
            if tensor is seen or np.shares_memory(array, memory):
                raise ValueError(f"{label}: expected a {name} of its own, got that of {other}; an MLP shares "
                                 "no weights")
        self._seen.append((label, tensor, array))
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
