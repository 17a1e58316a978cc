"""Models as modules of PyTorch, and their arrays under PyTorch's names; nothing here reads a module."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import activations
from fastmlp._core.optional import import_extra
from fastmlp._exchange.output import output_function

if TYPE_CHECKING:
    from fastmlp.model import MLP

__all__ = ["MODULES", "state_dict", "to_torch"]

# Class of torch.nn and its arguments, for every activation.
MODULES: dict[type[activations.Activation], Callable[[Any], tuple[str, dict[str, Any]]]] = {
    activations.Identity: lambda f: ("Identity", {}),
    activations.ReLU: lambda f: ("ReLU", {}),
    activations.LeakyReLU: lambda f: ("LeakyReLU", {"negative_slope": f.alpha}),
    activations.Sigmoid: lambda f: ("Sigmoid", {}),
    activations.Tanh: lambda f: ("Tanh", {}),
    activations.ELU: lambda f: ("ELU", {"alpha": f.alpha}),
    activations.SELU: lambda f: ("SELU", {}),
    activations.Softplus: lambda f: ("Softplus", {}),
    activations.GELU: lambda f: ("GELU", {}),
    activations.GELUTanh: lambda f: ("GELU", {"approximate": "tanh"}),
    activations.SiLU: lambda f: ("SiLU", {}),
}
OUTPUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "softmax": ("Softmax", {"dim": 1}), "sigmoid": ("Sigmoid", {})}


def to_torch(model: MLP, output: str = "logits") -> Any:
    """The model as a torch.nn.Sequential: what `MLP.to_torch` does."""
    function = output_function(model, output)
    torch = import_extra("torch", "to_torch")
    dtype = getattr(torch, model.dtype.name)
    modules = []
    for name, options, arrays in _modules(model):
        if arrays:
            options = {**options, "dtype": dtype}
        module = getattr(torch.nn, name)(**options)
        module.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()})
        modules.append(module)
    if function is not None:
        name, options = OUTPUTS[function]
        modules.append(getattr(torch.nn, name)(**options))
    return torch.nn.Sequential(*modules).eval()


def state_dict(model: MLP) -> dict[str, NDArray[Any]]:
    """Return copies of the model's arrays under the names that PyTorch has for them.

    They are those of ``model.to_torch().state_dict()``: "0.weight" (out, in), "0.bias" (out,), and so on. A
    layer with batch normalisation has "0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var" and
    "1.num_batches_tracked".

    Parameters
    ----------
    model : MLP
        Model.

    Returns
    -------
    dict {str: ndarray}
        Arrays in the dtype of the model, in the order of the layers.

    Notes
    -----
    It takes no PyTorch. ``safetensors.numpy.save_file`` writes the arrays to a file that
    ``safetensors.torch.load_file`` reads.

    Examples
    --------
    >>> import fastmlp
    >>> model = fastmlp.MLP([4, 8, 3])
    >>> {name: array.shape for name, array in state_dict(model).items()}
    {'0.weight': (8, 4), '0.bias': (8,), '2.weight': (3, 8), '2.bias': (3,)}
    """
    return {f"{i}.{key}": array for i, (_, _, arrays) in enumerate(_modules(model))
            for key, array in arrays.items()}


def _modules(model: MLP) -> Iterator[tuple[str, dict[str, Any], dict[str, NDArray[Any]]]]:
    """Class, arguments and arrays of every module, in order."""
    for i, (w, b) in enumerate(zip(model.weights, model.biases)):
        n_in, n_out = w.shape
        hidden = i < len(model.weights) - 1
        norm = model.batch_norm[i] if hidden else None
        arrays = {"weight": np.array(w.T, order="C")}
        if norm is None:
            arrays["bias"] = b.copy()
        yield "Linear", {"in_features": n_in, "out_features": n_out, "bias": norm is None}, arrays
        if norm is not None:
            yield "BatchNorm1d", {"num_features": n_out, "eps": norm.epsilon, "momentum": norm.momentum}, {
                "weight": np.array(model.scales[i]), "bias": b.copy(),
                "running_mean": np.array(model.running_means[i]),
                "running_var": np.array(model.running_variances[i]),
                "num_batches_tracked": np.array(0)}
        if not hidden:
            continue
        activation = model.activations[i]
        if not isinstance(activation, activations.Identity):
            yield *MODULES[type(activation)](activation), {}
        if model.dropout[i]:
            yield "Dropout", {"p": model.dropout[i]}, {}
