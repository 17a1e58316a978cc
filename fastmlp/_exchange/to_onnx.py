"""Models as ONNX files: what `MLP.to_onnx` does.

A layer is a Gemm, a BatchNormalization where it has one, and the nodes of its activation. Dropout is left
out: it is the identity in inference. ONNX Runtime has some operators for float alone: for double, others
stand in.
"""
from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import activations
from fastmlp._core import checks, whole_files
from fastmlp._core.optional import import_extra
from fastmlp._exchange.output import output_function
from fastmlp.saving import file_name
from fastmlp.version import __version__

if TYPE_CHECKING:
    from fastmlp._core.types import Path
    from fastmlp.model import MLP

__all__ = ["to_onnx"]

Array = NDArray[Any]

OLDEST_OPSET = 17
MOST_INSIDE = 2**31 - 2**20     # bytes of arrays in the file itself; protobuf ends at 2 GiB
OUTPUTS = {"softmax": ("Softmax", {"axis": 1}), "sigmoid": ("Sigmoid", {})}


class _Graph:
    """Nodes and constants that were added so far. Values go by their names."""

    def __init__(self, onnx: Any, dtype: np.dtype[Any]) -> None:
        self.onnx, self.dtype = onnx, dtype
        self.double = dtype == np.float64
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """The result of an operator."""
        result = f"{operator}_{len(self.nodes)}"
        self.nodes.append(
            self.onnx.helper.make_node(operator, list(inputs), [result], name=result, **attributes))
        return result

    def array(self, name: str, values: Any) -> str:
        """A constant."""
        self.constants[name] = np.ascontiguousarray(values, self.dtype)
        return name

    def number(self, value: float) -> str:
        """A constant without dimensions; the same one for the same number."""
        return self.array(f"number_{value!r}", value)


# Activations -------------------------------------------------------------------------------------------

def _leaky_relu(g: _Graph, z: str, alpha: float) -> str:
    if not g.double:
        return g.node("LeakyRelu", z, alpha=alpha)
    below = g.node("Relu", g.node("Neg", z))
    return g.node("Sub", g.node("Relu", z), g.node("Mul", below, g.number(alpha)))


def _elu(g: _Graph, z: str, alpha: float) -> str:
    if not g.double:
        return g.node("Elu", z, alpha=alpha)
    below = g.node("Neg", g.node("Relu", g.node("Neg", z)))
    floor = g.node("Mul", g.node("Sub", g.node("Exp", below), g.number(1.0)), g.number(alpha))
    return g.node("Add", g.node("Relu", z), floor)


def _selu(g: _Graph, z: str) -> str:
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    if not g.double:
        return g.node("Selu", z, alpha=alpha, gamma=scale)
    return g.node("Mul", _elu(g, z, alpha), g.number(scale))


def _softplus(g: _Graph, z: str) -> str:
    if not g.double:
        return g.node("Softplus", z)
    power = g.node("Exp", g.node("Neg", g.node("Abs", z)))
    return g.node("Add", g.node("Relu", z), g.node("Log", g.node("Add", power, g.number(1.0))))


def _gelu(g: _Graph, z: str) -> str:
    erf = g.node("Mul", z, g.number(math.sqrt(0.5)))
    if g.double:
        erf = g.node("Cast", erf, to=g.onnx.TensorProto.FLOAT)
    erf = g.node("Erf", erf)
    if g.double:
        erf = g.node("Cast", erf, to=g.onnx.TensorProto.DOUBLE)
    return _gate(g, z, erf)


def _gelu_tanh(g: _Graph, z: str) -> str:
    square = g.node("Mul", z, z)
    factor = g.node("Add", g.node("Mul", square, g.number(0.044715)), g.number(1.0))
    inner = g.node("Mul", g.node("Mul", z, factor), g.number(math.sqrt(2 / math.pi)))
    return _gate(g, z, g.node("Tanh", inner))


def _gate(g: _Graph, z: str, s: str) -> str:
    """z (1 + s) / 2."""
    return g.node("Mul", g.node("Mul", z, g.number(0.5)), g.node("Add", s, g.number(1.0)))


OPERATORS: dict[type[activations.Activation], Callable[[_Graph, str, Any], str]] = {
    activations.Identity: lambda g, z, f: z,
    activations.ReLU: lambda g, z, f: g.node("Relu", z),
    activations.LeakyReLU: lambda g, z, f: _leaky_relu(g, z, f.alpha),
    activations.Sigmoid: lambda g, z, f: g.node("Sigmoid", z),
    activations.Tanh: lambda g, z, f: g.node("Tanh", z),
    activations.ELU: lambda g, z, f: _elu(g, z, f.alpha),
    activations.SELU: lambda g, z, f: _selu(g, z),
    activations.Softplus: lambda g, z, f: _softplus(g, z),
    activations.GELU: lambda g, z, f: _gelu(g, z),
    activations.GELUTanh: lambda g, z, f: _gelu_tanh(g, z),
    activations.SiLU: lambda g, z, f: g.node("Mul", z, g.node("Sigmoid", z)),
}


# Files -------------------------------------------------------------------------------------------------

def to_onnx(model: MLP, path: Path, output: str = "logits", opset: int = OLDEST_OPSET
            ) -> None:
    """Write a model as an ONNX file: what `MLP.to_onnx` does."""
    path = file_name(path)
    function = output_function(model, output)
    opset = checks.integer("opset", opset, low=OLDEST_OPSET)
    onnx = import_extra("onnx", "to_onnx")
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ValueError(f"opset: expected one from {OLDEST_OPSET} to {newest}, the newest of onnx "
                         f"{onnx.__version__}, got {opset}")
    graph = _graph(onnx, model, function)
    inside = sum(array.nbytes for array in graph.constants.values()) <= MOST_INSIDE
    data = "" if inside else f"{path}.data"
    proto = _proto(onnx, model, graph, opset, os.path.basename(data))
    if data:
        whole_files.write(data, [array.reshape(-1).view(np.uint8) for array in graph.constants.values()])
    else:
        onnx.checker.check_model(proto)
    whole_files.write(path, [proto.SerializeToString(deterministic=True)])
    if data:
        onnx.checker.check_model(path)


def _graph(onnx: Any, model: MLP, function: str | None) -> _Graph:
    """The nodes from "X" to "output"."""
    g = _Graph(onnx, model.dtype)
    y = "X"
    for i, (w, activation) in enumerate(zip(model.weights, model.activations)):
        norm = (*model.batch_norm, None)[i]
        y = g.node("Gemm", y, g.array(f"weights.{i}", w), *(
            [] if norm is not None else [g.array(f"biases.{i}", model.biases[i])]))
        if norm is not None:
            arrays = [g.array(f"{kind}.{i}", getattr(model, kind)[i])
                      for kind in ("scales", "biases", "running_means", "running_variances")]
            y = g.node("BatchNormalization", y, *arrays, epsilon=norm.epsilon, momentum=1 - norm.momentum)
        y = OPERATORS[type(activation)](g, y, activation)
    if function is not None:
        operator, attributes = OUTPUTS[function]
        y = g.node(operator, y, **attributes)
    g.nodes[-1].output[0] = "output"
    return g


def _proto(onnx: Any, model: MLP, graph: _Graph, opset: int, data: str) -> Any:
    """The file; its arrays are in `data`, beside it, if that is a name."""
    helper, float_type = onnx.helper, onnx.helper.np_dtype_to_tensor_dtype(model.dtype)
    initializers, offset = [], 0
    for name, array in graph.constants.items():
        if data:
            tensor = onnx.TensorProto(name=name, data_type=float_type, dims=array.shape)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", data), ("offset", offset), ("length", array.nbytes)):
                tensor.external_data.add(key=key, value=str(value))
            offset += array.nbytes
        else:
            tensor = onnx.numpy_helper.from_array(array, name)
        initializers.append(tensor)
    ends = [[helper.make_tensor_value_info(name, float_type, ["batch", size])]
            for name, size in (("X", model.layers[0]), ("output", model.layers[-1]))]
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(
        helper.make_graph(graph.nodes, "fastmlp", *ends, initializers), opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets), producer_name="fastmlp",
        producer_version=__version__)
