"""From PyTorch: modules as an `MLP`, and weights by PyTorch's names.

`MLP.to_torch` is the opposite direction. A model has the layers Linear, BatchNorm1d, activation, Dropout, in
this order, the last of them a Linear alone; the function at the end (Softmax, LogSoftmax, Sigmoid) belongs to
the loss. What a module has elsewhere is folded where predictions stay the same, with a warning where training
does not.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fastmlp._exchange.to_torch import state_dict
from fastmlp.model import MLP
from fastmlp.normalization import BatchNorm

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike

    from fastmlp._core.types import ActivationLike, LossLike

__all__ = ["from_torch", "load_state_dict", "state_dict"]


def from_torch(
    module: torch.nn.Module | Mapping[str, ArrayLike | torch.Tensor],
    loss: LossLike | torch.nn.Module | None = None,
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
    loss : str, Loss, class, callable or torch.nn.Module, optional
        Loss, as for `MLP`; or one of torch.nn: CrossEntropyLoss, NLLLoss, BCEWithLogitsLoss, BCELoss,
        MSELoss, L1Loss, HuberLoss, with the mean as reduction, after the function that it takes the values
        of: NLLLoss after LogSoftmax, BCELoss after Sigmoid, CrossEntropyLoss and BCEWithLogitsLoss after
        none. If not given, that which belongs to the last module: "cross_entropy" for Softmax and LogSoftmax,
        "binary_cross_entropy" for Sigmoid, else "mean_squared_error".
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
    fastmlp.MLP.to_torch : The opposite direction.
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
    from fastmlp._exchange.torch_losses import ends_of, translated  # here, for most programs convert none

    given, loss = loss, translated(loss)
    if isinstance(module, Mapping):
        from fastmlp._exchange.torch_state import build, linear_layers

        layers = linear_layers(module)
        if activation is None and len(layers) > 1:
            raise TypeError("activation: expected that of the hidden layers, for a state_dict has none")
        if batch_norm is not None and not isinstance(batch_norm, BatchNorm):
            raise TypeError(f"batch_norm: expected a BatchNorm, got {batch_norm!r}")
        settings = [batch_norm or BatchNorm()] * len(layers)
        return build(layers, loss, activation or [], dropout, settings, seed)
    for name, value in (("activation", activation), ("dropout", dropout or None), ("batch_norm", batch_norm)):
        if value is not None and hasattr(module, "named_modules"):      # a path, say, is named as such below
            raise TypeError(f"{name}: expected none with a module, which has its own, got {value!r}")
    from fastmlp._exchange.torch_modules import from_module

    return from_module(module, loss, seed, type(given).__name__, ends_of(given))


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
    from fastmlp._exchange.torch_state import build, linear_layers  # here, for most programs read none

    if not isinstance(model, MLP):
        raise TypeError(f"model: expected an MLP, got {type(model).__name__}")
    layers = linear_layers(state)
    if len(layers) != len(model.weights):
        raise ValueError(f"state: expected {len(model.weights)} linear layers, got {len(layers)}")
    settings = [norm or BatchNorm() for norm in (*model.batch_norm, None)]
    made = build(layers, model.loss, model.activations[:-1], model.dropout, settings, None)
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
