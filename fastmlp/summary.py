"""`MLP.summary`: a table of the layers of a network, and what they cost."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastmlp._core import checks
from fastmlp._core.defaults import optimizer_for_fit

if TYPE_CHECKING:
    from fastmlp.model import MLP
    from fastmlp.optimizers import Optimizer

__all__ = ["LayerSummary", "Summary"]


@dataclass(frozen=True)
class LayerSummary:
    """A layer of a `Summary`.

    Attributes
    ----------
    inputs : int
        Units of the layer below.
    outputs : int
        Units of this one.
    activation : str
        Name of its activation.
    extras : str
        Batch normalisation and dropout, where it has them.
    parameters : int
        Weights, biases and scales.
    flops : int
        Floating-point operations of its matrix product, for a sample.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> MLP([4, 3], seed=0).summary().layers[0].flops
    24
    """

    inputs: int
    outputs: int
    activation: str
    extras: str
    parameters: int
    flops: int


@dataclass(frozen=True, repr=False)
class Summary:
    """What `MLP.summary` returns: its text is the table.

    Attributes
    ----------
    layers : tuple of LayerSummary
        The layers.
    parameters : int
        Number of parameters: weights, biases and scales.
    nbytes : int
        Their bytes.
    flops : int
        Floating-point operations of a prediction, for a sample.
    training_flops : int
        Those of a training step, for a sample of its batch.
    training_nbytes : int
        Bytes that training takes beside the samples: parameters, state of the optimizer, workspace.
    batch_size : int
        Number of samples of a step that this is for.
    optimizer : str
        Optimizer that this is for.
    dtype : str
        Dtype of the parameters.

    Notes
    -----
    Operations are those of the matrix products, where a multiplication and an addition are two: 2 inputs
    outputs forward, and as many for the gradient of the weights and, but in the first layer, for that of the
    inputs. What else there is grows with the units and not with the weights.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> print(MLP([784, 256, 10], batch_norm=True, seed=0).summary())
    layer       shape  activation              parameters    FLOPs
        1  784 -> 256        relu  batch_norm     201,216  401,408
        2   256 -> 10    identity                   2,570    5,120
    total                                         203,786  406,528
    parameters: 796 KiB of float32
    training in batches of 128, AdamW: ... MiB, 818,176 FLOPs a sample
    """

    layers: tuple[LayerSummary, ...]
    parameters: int
    nbytes: int
    flops: int
    training_flops: int
    training_nbytes: int
    batch_size: int
    optimizer: str
    dtype: str

    def __str__(self) -> str:
        table = [["layer", "shape", "activation", "", "parameters", "FLOPs"]]
        table += [[str(i), f"{layer.inputs} -> {layer.outputs}", layer.activation, layer.extras,
                   f"{layer.parameters:,}", f"{layer.flops:,}"] for i, layer in enumerate(self.layers, 1)]
        table += [["total", "", "", "", f"{self.parameters:,}", f"{self.flops:,}"]]
        widths = [max(map(len, column)) for column in zip(*table)]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths) if width) for row in table]
        memory, training = map(checks.readable_size, (self.nbytes, self.training_nbytes))
        return "\n".join([
            *lines, f"parameters: {memory} of {self.dtype}",
            f"training in batches of {self.batch_size}, {self.optimizer}: {training}, "
            f"{self.training_flops:,} FLOPs a sample"])

    __repr__ = __str__


def summary(model: MLP, batch_size: int, optimizer: Optimizer | None) -> Summary:
    """See `MLP.summary`, which has the arguments and the documentation."""
    batch_size = checks.integer("batch_size", batch_size, low=1)
    optimizer = optimizer_for_fit(optimizer, 0, model.layers)
    workspace = model.workspace_nbytes(batch_size, optimizer)
    slots = len(optimizer.slots)
    rows = zip(model.layers, model.layers[1:], model.activations, (*model.batch_norm, None),
               (*model.dropout, 0.0))
    layers = tuple(
        LayerSummary(n_in, n_out, f.name, ", ".join(
            (["batch_norm"] if norm is not None else []) + ([f"dropout {rate:g}"] if rate else [])),
            (n_in + (1 if norm is None else 2)) * n_out, 2 * n_in * n_out)
        for n_in, n_out, f, norm, rate in rows)
    parameters, flops = sum(layer.parameters for layer in layers), sum(layer.flops for layer in layers)
    core = model.core
    training = workspace + (1 + slots) * core.parameters.buffer.nbytes + core.statistics.buffer.nbytes
    training_flops = 3 * flops - layers[0].flops
    return Summary(
        layers, parameters, parameters * model.dtype.itemsize, flops, training_flops, training, batch_size,
        type(optimizer).__name__, model.dtype.name)
