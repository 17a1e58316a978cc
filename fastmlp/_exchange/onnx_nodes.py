"""What the nodes of an ONNX graph do to the rows that go through it, as the steps of a `Chain`.

Every value of the graph is a constant, which is an array, or a `Value`: what a chain of steps makes of the
input, and then an expression of each number of it, such as z (1 + erf(z / sqrt 2)) / 2. An expression becomes
steps when a node needs it as a whole. One that is not linear is an activation where it has the same values,
to rounding, whatever operators it is written with.
"""
from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from inspect import signature
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import activations, functional
from fastmlp._core.optional import import_extra
from fastmlp._exchange import onnx_file
from fastmlp._exchange.chain import Activate, Chain, Drop, Linear, Normalize, Output, Scale, TwoClasses
from fastmlp.normalization import BatchNorm

if TYPE_CHECKING:
    from fastmlp._core.types import LossLike
    from fastmlp.model import MLP

__all__ = ["from_graph"]

Array = NDArray[Any]

MODEST = np.linspace(-30, 30, 241)
FAR = np.geomspace(31, 1e8, 40)     # where exp may overflow
PROBES = np.concatenate([MODEST, FAR, -FAR, [-0.3, -0.01, 0.007, 0.77]])
TOLERANCE = 2e-6                # of expressions whose constants were rounded to float32
FIXED = ("sigmoid", "tanh", "relu", "selu", "softplus", "gelu", "gelu_tanh", "silu")
DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
FLOATS = ("float32", "float64")


class Refused(ValueError):
    """A node that cannot be part of a fully-connected network. The message follows on its label."""


def from_graph(path: Any, loss: LossLike | None, output: str | None, seed: int | None) -> MLP:
    """The model of a file or a ModelProto: what `fastmlp.from_onnx` does."""
    proto = onnx_file.read(path)
    reader = _Reader(import_extra("onnx", "from_onnx"), proto, output)
    chain = reader.chain()
    dtype = np.result_type(*reader.dtypes) if reader.dtypes else np.dtype("float32")
    return chain.build(loss, dtype, seed)


# Values ------------------------------------------------------------------------------------------------

@dataclass(frozen=True, eq=False)
class Point:
    """The input, or what a step makes of another point.

    sizes   of its dimensions, None where one is not known; None if nothing is known
    """

    sizes: tuple[int | None, ...] | None
    before: Point | None = None
    step: Any = None

    @property
    def units(self) -> int | None:
        return self.sizes[-1] if self.sizes else None


@dataclass(frozen=True, eq=False)
class Value:
    """An expression f of each number z of a point.

    affine  (s, t), where f(z) = s z + t, with a number or one for each unit
    f       on numbers, where no constant of it has one for each unit
    last    (kind, value, ...): the operation done last, to fall back on
    label   of the node that computes it
    """

    point: Point
    affine: tuple[Array, Array] | None
    f: Callable[[Array], Array] | None
    last: tuple[Any, ...] = ()
    label: str = ""


ONE, ZERO = np.float64(1), np.float64(0)


def plain(point: Point) -> Value:
    return Value(point, (ONE, ZERO), lambda z: z)


def is_plain(value: Value) -> bool:
    return value.affine is not None and bool(np.all(value.affine[0] == 1) and np.all(value.affine[1] == 0))


def settle(value: Value) -> Point:
    """The point at which the expression is done: as steps."""
    point, label = value.point, value.label
    if is_plain(value):
        return point
    if value.affine is not None:
        return after(point, Scale(label, *map(_flat, value.affine)))
    kind = value.last[0] if value.last else ""
    if kind == "activation" and is_plain(value.last[1]):
        return after(point, Activate(label, value.last[2]))
    activation = recognise(value.f) if value.f is not None else None
    if activation is not None:
        return after(point, Activate(label, activation))
    if kind == "activation":
        return after(settle(value.last[1]), Activate(label, value.last[2]))
    if kind == "scale":
        return after(settle(value.last[1]), Scale(label, *map(_flat, value.last[2:])))
    if kind == "exp":
        return after(settle(value.last[1]), Output(label, "exp"))
    raise ValueError(f"{label}: expected an expression that is one of fastmlp's activations, got another one")


def after(point: Point, step: Any, sizes: tuple[int | None, ...] | None = None) -> Point:
    return Point(sizes or point.sizes, point, step)


def _flat(values: Array) -> Array:
    return values.reshape(-1) if np.ndim(values) else values


def recognise(f: Callable[[Array], Array]) -> activations.Activation | None:
    """The activation that has the same values, if there is one."""
    with np.errstate(all="ignore"):
        y = np.broadcast_to(np.asarray(f(PROBES), np.float64), PROBES.shape)
        minus_one = float(np.broadcast_to(f(np.array([-1.0])), 1)[0])
    finite = np.isfinite(y)
    if not finite[:len(MODEST)].all():
        return None
    known = [activations.resolve(name) for name in FIXED]
    for family, at_minus_one in ((activations.LeakyReLU, 1.0), (activations.ELU, -math.expm1(-1))):
        alpha = float(f"{-minus_one / at_minus_one:.7g}")
        if alpha >= 0:
            known.append(family(alpha))
    for activation in known:
        function = getattr(functional, activation.name)
        desired = function(PROBES, activation.alpha) if activation.alpha else function(PROBES)
        if np.allclose(y[finite], desired[finite], rtol=TOLERANCE, atol=TOLERANCE):
            return activation
    return None


# Operators on constants --------------------------------------------------------------------------------

def _reshape(node: Node, a: Array, shape: Array) -> Array:
    sizes = enumerate(shape.tolist())
    return a.reshape([a.shape[i] if size == 0 and i < a.ndim else size for i, size in sizes])


def _axes(node: Node, others: tuple[Array, ...]) -> tuple[int, ...] | None:
    """Of Squeeze and Unsqueeze, which have them as an attribute or an input, by version."""
    axes = others[0].tolist() if others else node.attributes.get("axes")
    return None if axes is None else tuple(axes)


def _constant(node: Node) -> Array:
    """Constant, whose value may be in any of its attributes."""
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        if name in node.attributes:
            value = node.attributes[name]
            return node.reader.to_array(value) if name == "value" else np.asarray(
                value, np.float32 if "float" in name else np.int64)
    raise Refused("expected a constant of numbers, got another one")


def _divide(node: Node, a: Array, b: Array) -> Array:
    return a / b if a.dtype.kind == "f" else np.trunc(a / b).astype(a.dtype)


def _slice(node: Node, a: Array, starts: Array, ends: Array, axes: Array | None = None,
           steps: Array | None = None) -> Array:
    where = [slice(None)] * a.ndim
    for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist())):
        axis = i if axes is None else axes.tolist()[i]
        where[axis] = slice(start, end, 1 if steps is None else steps.tolist()[i])
    return a[tuple(where)]


ON_CONSTANTS: dict[str, Callable[..., Any]] = {
    "Add": lambda node, a, b: a + b,
    "Sub": lambda node, a, b: a - b,
    "Mul": lambda node, a, b: a * b,
    "Div": _divide,
    "Pow": lambda node, a, b: np.power(a, b).astype(a.dtype),
    "Sqrt": lambda node, a: np.sqrt(a),
    "Neg": lambda node, a: -a,
    "Exp": lambda node, a: np.exp(a),
    "Reciprocal": lambda node, a: (1 / a).astype(a.dtype),
    "Identity": lambda node, a: a,
    "Constant": _constant,
    "Cast": lambda node, a: a.astype(node.reader.dtype_of(node.attributes["to"])),
    "Concat": lambda node, *arrays: np.concatenate(arrays, node.attributes["axis"]),
    "Gather": lambda node, a, at: np.take(a, at, node.attributes.get("axis", 0)),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": lambda node, a, *axes: np.squeeze(a, _axes(node, axes)),
    "Transpose": lambda node, a: np.transpose(a, node.attributes.get("perm")),
    "Unsqueeze": lambda node, a, *axes: np.expand_dims(a, _axes(node, axes) or ()),
}


# Operators on rows -------------------------------------------------------------------------------------

def _linear(value: Value, s: Array, t: Array) -> Value:
    """s f + t."""
    f, inner = None, value.f
    if inner is not None and np.ndim(s) == np.ndim(t) == 0:
        def f(z: Array) -> Array:
            return inner(z) * s + t
    if value.affine is None:
        return Value(value.point, None, f, ("scale", value, s, t))
    return Value(value.point, (value.affine[0] * s, value.affine[1] * s + t), f)


def _done(node: Node, value: Value) -> Value:
    """The expression, done by the steps of this node."""
    return plain(settle(replace(value, label=node.label)))


def _pointwise(node: Node, g: Callable[..., Array], *inputs: Any, last: tuple[Any, ...] = ()) -> Value:
    """g(f1, f2, ...) of expressions of one point, and of constant numbers."""
    settled: dict[Value, Value] = {}
    operands: list[Any] = []
    for operand in inputs:
        if isinstance(operand, Value) and operand.f is None:
            operand = settled.setdefault(operand, plain(settle(operand)))
        operands.append(operand)
    values = [operand for operand in operands if isinstance(operand, Value)]
    point = values[0].point
    if any(value.point is not point for value in values):
        raise Refused("expected one chain of layers, got two branches that meet")
    functions: list[Callable[[Array], Array]] = []
    for operand in operands:
        if isinstance(operand, Value):
            assert operand.f is not None
            functions.append(operand.f)
            continue
        c = node.constant(values[0], operand)
        if np.ndim(c):
            raise Refused(f"expected a constant with one number, got shape {np.shape(operand)}")
        functions.append(lambda z, c=c: c)      # type: ignore[misc]
    last = last and (last[0], values[0], *last[1:])
    return Value(point, None, lambda z: g(*(f(z) for f in functions)), last)


def _activation(node: Node, value: Value, activation: activations.Activation) -> Value:
    function = getattr(functional, activation.name)
    alpha = (activation.alpha,) if activation.alpha else ()
    return _pointwise(node, lambda z: function(np.asarray(z, np.float64), *alpha), value,
                      last=("activation", activation))


def _arithmetic(node: Node, a: Any, b: Any) -> Value:
    """Add, Sub, Mul, Div of two expressions, or of one and a constant."""
    operator, apply = node.operator, ARITHMETIC[node.operator]
    if isinstance(a, Value) and isinstance(b, Value):
        linear = operator in ("Add", "Sub") and a.affine is not None and b.affine is not None
        if not linear or a.point is not b.point:
            return _pointwise(node, apply, a, b)
        f = None if a.f is None or b.f is None else _pointwise(node, apply, a, b).f
        assert a.affine is not None and b.affine is not None
        return Value(a.point, (apply(a.affine[0], b.affine[0]), apply(a.affine[1], b.affine[1])), f)
    value, other = (a, b) if isinstance(a, Value) else (b, a)
    if operator == "Div" and value is b:
        return _pointwise(node, apply, a, b)
    c = node.constant(value, other)
    if operator == "Add":
        bias = np.ndim(other) > 0 and is_plain(value) and isinstance(value.point.step, Linear)
        result = _linear(value, ONE, c)
        return _done(node, result) if bias else result
    if operator == "Sub":
        return _linear(value, ONE, -c) if value is a else _linear(value, -ONE, c)
    return _linear(value, c if operator == "Mul" else 1 / c, ZERO)


ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": np.divide}


def _gemm(node: Node, a: Any, b: Any, c: Any = None) -> Value:
    if node.attributes.get("transA", 0):
        raise Refused("expected rows of samples, got transA=1, which mixes them")
    w = node.weights(a, b)
    w = w.T if node.attributes.get("transB", 0) else w
    alpha, beta = (shortest(node.attributes.get(name, 1.0)) for name in ("alpha", "beta"))
    if alpha != 1:
        w = alpha * np.float64(w)
    product = node.after_linear(a, w)
    return product if c is None else _done(node, _linear(product, ONE, beta * node.constant(product, c)))


def _matmul(node: Node, a: Any, b: Any) -> Value:
    return node.after_linear(a, node.weights(a, b))


def _batch_normalization(node: Node, value: Any, *arrays: Any) -> Value:
    if node.attributes.get("training_mode", 0):
        raise Refused("expected running statistics, got training_mode=1")
    if any(isinstance(array, Value) for array in arrays) or not isinstance(value, Value):
        raise Refused("expected constants as scale, shift, mean and variance")
    point = node.rows(value)
    scale, shift, mean, variance = (np.asarray(array).reshape(-1) for array in arrays)
    if len({array.size for array in (scale, shift, mean, variance)} | ({point.units} - {None})) != 1:
        raise Refused(f"expected four arrays with one number for each of {point.units} units, got "
                      f"{[np.shape(array) for array in arrays]}")
    epsilon = shortest(node.attributes.get("epsilon", 1e-5))
    momentum = round(1 - shortest(node.attributes.get("momentum", 0.9)), 9)
    if 0 < epsilon <= 1 and 0 < momentum <= 1:
        step: Any = Normalize(node.label, scale, shift, mean, variance, BatchNorm(momentum, epsilon))
    else:
        s = np.float64(scale) / np.sqrt(np.float64(variance) + epsilon)
        step = Scale(node.label, s, shift - s * mean)
    return plain(after(point, step))


def _dropout(node: Node, value: Value, rate: Any = None, training: Any = None) -> Value:
    if isinstance(rate, Value):
        raise Refused("expected a constant rate")
    if isinstance(training, Value):
        raise Refused("expected a constant training_mode")
    share = node.attributes.get("ratio", 0.5) if rate is None else np.asarray(rate).reshape(-1)[0]
    if training is not None and np.any(training) and share:
        raise Refused("expected dropout of inference, which changes nothing, got training_mode=1; export the "
                      "network in inference mode")
    return plain(after(settle(value), Drop(node.label, shortest(share))))


def _flatten(node: Node, value: Value) -> Value:
    axis, sizes = node.attributes.get("axis", 1), value.point.sizes
    if sizes is not None and axis < 0:
        axis += len(sizes)
    if axis != 1:
        raise Refused(f"expected axis=1, got {axis}")
    point = settle(value)
    return plain(after(point, None, (None, None) if sizes is None else (sizes[0], _product(sizes[1:]))))


def _reshaped(node: Node, value: Value, shape: Any) -> Value:
    """Reshape of every row by itself: the first dimension, that of the rows, stays."""
    if isinstance(shape, Value):
        raise Refused("expected a constant shape")
    wanted = [int(size) for size in np.asarray(shape).reshape(-1)]
    point = settle(value)
    sizes = point.sizes
    batch, units = (None, None) if sizes is None else (sizes[0], _product(sizes[1:]))
    copied = [sizes[i] if size == 0 and sizes is not None and i < len(sizes) else size
              for i, size in enumerate(wanted)]
    row: list[int | None] = list(copied[1:])
    known = math.prod(size for size in row if size is not None and size > 0)
    if row.count(-1) == 1 and units is not None:
        row[row.index(-1)] = units // known
    stays = len(wanted) >= 2 and (wanted[0] in (0, -1) or wanted[0] == batch)
    if not stays or (units is not None and None not in row and math.prod(row) != units):    # type: ignore[arg-type]
        raise Refused(f"expected a shape that leaves every row by itself, (-1, {units or 'units'}), got "
                      f"{tuple(wanted)}")
    return plain(after(point, None, (batch, *(None if size == -1 else size for size in row))))


def _shape(node: Node, value: Value) -> Array:
    """The sizes, with 0 for the rows, whose number is not known: to Reshape, 0 means as many as there are."""
    sizes = value.point.sizes
    if sizes is None or None in sizes[1:]:
        raise Refused("expected an input whose sizes are known, but for the rows")
    every = np.array([0, *sizes[1:]], np.int64)
    return every[node.attributes.get("start", 0):node.attributes.get("end", len(every))]


def _softmax(node: Node, value: Value) -> Value:
    point = node.rows(value)
    axis = node.attributes.get("axis", -1 if node.reader.opset >= 13 else 1)
    if axis not in (1, -1):
        raise Refused(f"expected axis=1, got {axis}")
    return plain(after(point, Output(node.label, {"Softmax": "softmax"}.get(node.operator, "log_softmax"))))


def _concat(node: Node, *parts: Any) -> Value:
    """The two columns 1 - sigmoid(z), sigmoid(z) of scikit-learn's binary classifiers."""
    if len(parts) == 2 and all(isinstance(part, Value) and part.f is not None for part in parts) and (
            parts[0].point is parts[1].point and parts[0].point.units == 1):
        p = functional.sigmoid(PROBES)
        if all(np.allclose(part.f(PROBES), y, rtol=0, atol=TOLERANCE) for part, y in zip(parts, (1 - p, p))):
            point = parts[0].point
            return plain(after(point, TwoClasses(node.label), (point.sizes[0], 2)))
    raise Refused("expected one chain of layers, or the columns of a binary classifier, got others")


def _cast(node: Node, value: Value) -> Value:
    dtype = node.reader.dtype_of(node.attributes["to"])
    if dtype.name not in FLOATS:
        raise Refused(f"expected a cast to float or double, got {dtype.name}")
    return value


def _scaler(node: Node, value: Value) -> Value:
    offset, scale = (np.asarray(node.attributes.get(name, [default]), np.float32)
                     for name, default in (("offset", 0.0), ("scale", 1.0)))
    s = node.constant(value, scale)
    return _linear(value, s, -s * node.constant(value, offset))


def _elu(node: Node, value: Value) -> Value:
    return _activation(node, value, activations.ELU(shortest(node.attributes.get("alpha", 1.0))))


def _leaky_relu(node: Node, value: Value) -> Value:
    return _activation(node, value, activations.LeakyReLU(shortest(node.attributes.get("alpha", 0.01))))


def _selu(node: Node, value: Value) -> Value:
    found = [node.attributes.get("alpha", 1.6732632), node.attributes.get("gamma", 1.0507010)]
    if not np.allclose(found, [1.6732632, 1.0507010], rtol=1e-5):
        raise Refused(f"expected the alpha and gamma of SELU, got {found}")
    return _activation(node, value, activations.SELU())


def _gelu(node: Node, value: Value) -> Value:
    tanh = node.attributes.get("approximate", b"none") in (b"tanh", "tanh")
    return _activation(node, value, activations.GELUTanh() if tanh else activations.GELU())


def _swish(node: Node, value: Value) -> Value:
    if node.attributes.get("alpha", 1.0) != 1:
        raise Refused(f"expected alpha=1, got {node.attributes['alpha']}")
    return _activation(node, value, activations.SiLU())


_erf = np.vectorize(math.erf, otypes=[np.float64])

ON_ROWS: dict[str, Callable[..., Value | Array]] = {
    # layers
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _batch_normalization,
    "Dropout": _dropout,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    # activations
    "Relu": lambda node, x: _activation(node, x, activations.ReLU()),
    "LeakyRelu": _leaky_relu,
    "Elu": _elu,
    "Selu": _selu,
    "Sigmoid": lambda node, x: _activation(node, x, activations.Sigmoid()),
    "Tanh": lambda node, x: _activation(node, x, activations.Tanh()),
    "Softplus": lambda node, x: _activation(node, x, activations.Softplus()),
    "Gelu": _gelu,
    "Swish": _swish,
    # scales, and parts of activations
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "Div": _arithmetic,
    "Neg": lambda node, x: _linear(x, -ONE, ZERO),
    "Scaler": _scaler,
    "Abs": lambda node, x: _pointwise(node, np.abs, x),
    "Erf": lambda node, x: _pointwise(node, _erf, x),
    "Exp": lambda node, x: _pointwise(node, np.exp, x, last=("exp",)),
    "Greater": lambda node, x, y: _pointwise(node, np.greater, x, y),
    "GreaterOrEqual": lambda node, x, y: _pointwise(node, np.greater_equal, x, y),
    "Less": lambda node, x, y: _pointwise(node, np.less, x, y),
    "LessOrEqual": lambda node, x, y: _pointwise(node, np.less_equal, x, y),
    "Log": lambda node, x: _pointwise(node, np.log, x),
    "Max": lambda node, *x: _pointwise(node, lambda *values: reduce(np.maximum, values), *x),
    "Min": lambda node, *x: _pointwise(node, lambda *values: reduce(np.minimum, values), *x),
    "Pow": lambda node, x, y: _pointwise(node, np.power, x, y),
    "Reciprocal": lambda node, x: _pointwise(node, np.reciprocal, x),
    "Sqrt": lambda node, x: _pointwise(node, np.sqrt, x),
    "Where": lambda node, condition, x, y: _pointwise(node, np.where, condition, x, y),
    # shapes and types
    "Cast": _cast,
    "Concat": _concat,
    "Flatten": _flatten,
    "Identity": lambda node, x: x,
    "Reshape": _reshaped,
    "Shape": _shape,
}


# The graph ---------------------------------------------------------------------------------------------

class Node:
    """A node, with what its operator needs to know.

    label       of it in errors
    operator    name
    attributes  values by name
    reader      of the graph
    """

    def __init__(self, reader: _Reader, proto: Any, index: int) -> None:
        self.reader, self.operator = reader, proto.op_type
        self.label = f"node {repr(proto.name) if proto.name else index} ({proto.op_type})"
        self.attributes = {a.name: reader.onnx.helper.get_attribute_value(a) for a in proto.attribute}

    def rows(self, value: Value) -> Point:
        """The value as rows of units."""
        point = settle(value)
        if point.sizes is not None and len(point.sizes) != 2:
            raise Refused(f"expected rows, got {len(point.sizes)} dimensions; Flatten or Reshape makes rows")
        return point

    def constant(self, value: Value, array: Array) -> Array:
        """One number, or one for each unit, in float64."""
        array = np.asarray(array)
        if array.dtype.kind not in "fiu":
            raise Refused(f"expected constants of float or double, got {array.dtype.name}")
        sizes, units = value.point.sizes, value.point.units
        most = 2 if sizes is None else len(sizes)
        if array.ndim <= most and array.size == 1:
            return np.asarray(array.reshape(()), np.float64)
        if array.ndim <= most == 2 and array.size == array.shape[-1] and units in (None, array.size):
            return np.asarray(array.reshape(-1), np.float64)
        raise Refused(f"expected a constant with one number, or one for each of {units} units, got shape "
                      f"{array.shape}")

    def weights(self, a: Any, b: Any) -> Array:
        """The constant b of a product of rows and weights."""
        if not isinstance(a, Value) or isinstance(b, Value):
            raise Refused("expected rows times constant weights, got another product")
        w: Array = np.asarray(b)
        if w.dtype.name not in FLOATS or w.ndim != 2:
            raise Refused(f"expected weights (in, out) of float or double, got shape {w.shape} of "
                          f"{w.dtype.name}")
        self.reader.dtypes.add(w.dtype)
        return w

    def after_linear(self, value: Value, w: Array) -> Value:
        point = self.rows(value)
        if point.units not in (None, len(w)):
            raise Refused(f"expected weights for {point.units} inputs, got shape {w.shape}")
        batch = point.sizes[0] if point.sizes else None
        step = Linear(self.label, w, np.zeros(w.shape[1], w.dtype))
        return plain(after(point, step, (batch, w.shape[1])))


class _Reader:
    """A graph, from its input to the output that is asked for.

    onnx    the package
    opset   version of the operators
    dtypes  of the weights so far
    """

    def __init__(self, onnx: Any, model: Any, output: str | None) -> None:
        self.onnx = onnx
        self.opset = max([o.version for o in model.opset_import if o.domain in ("", "ai.onnx")], default=1)
        self.dtypes: set[np.dtype[Any]] = set()
        self._graph = model.graph
        self._output = _chosen_output(model.graph, output)

    def to_array(self, tensor: Any) -> Array:
        try:
            array: Array = self.onnx.numpy_helper.to_array(tensor)
        except (ValueError, TypeError, LookupError) as error:
            raise ValueError(f"path: expected an array of shape {tuple(tensor.dims)} in {tensor.name!r}: "
                             f"{error}") from None
        return array

    def dtype_of(self, code: int) -> np.dtype[Any]:
        try:
            dtype: np.dtype[Any] = np.dtype(self.onnx.helper.tensor_dtype_to_np_dtype(code))
        except LookupError:
            raise Refused(f"expected a type of ONNX, got number {code}") from None
        return dtype

    def chain(self) -> Chain:
        """The steps from the input to the output."""
        graph = self._graph
        arrays = {tensor.name: tensor for tensor in graph.initializer}
        source = self._input(arrays)
        nodes = self._needed()
        uses = Counter(name for _, proto in nodes for name in proto.input)
        values: dict[str, Any] = {source.name: plain(Point(_sizes(source)))}
        start = values[source.name].point
        for index, proto in nodes:
            node = Node(self, proto, index)
            try:
                inputs = []
                for name in proto.input:
                    if name in arrays and name not in values:
                        values[name] = self.to_array(arrays[name])
                    inputs.append(values[name] if name else None)
                result = _apply(node, proto, inputs)
                many = uses[proto.output[0]] > 1
                if many and isinstance(result, Value) and result.affine is not None and not is_plain(result):
                    result = _done(node, result)        # one point for all that comes of it
            except Refused as refused:
                raise ValueError(f"{node.label}: {refused}") from None
            if isinstance(result, Value) and not result.label:
                result = replace(result, label=node.label)
            values[proto.output[0]] = result
        end = values.get(self._output)
        if not isinstance(end, Value):
            raise ValueError(f"output: expected a value that depends on the input, got {self._output!r}")
        chain = Chain()
        for step in _steps(settle(end), start):
            chain.add(step)
        return chain

    def _input(self, arrays: Any) -> Any:
        inputs = [value for value in self._graph.input if value.name not in arrays]
        if len(inputs) != 1:
            raise ValueError(f"path: expected a graph with one input, got {[value.name for value in inputs]}")
        if not inputs[0].type.HasField("tensor_type"):
            raise ValueError(f"path: expected a tensor as the input {inputs[0].name!r}, got "
                             f"{inputs[0].type.WhichOneof('value')}")
        return inputs[0]

    def _needed(self) -> list[tuple[int, Any]]:
        """The nodes that the output depends on, with their places, in order."""
        makers = {name: i for i, node in enumerate(self._graph.node) for name in node.output if name}
        found: set[int] = set()
        names = [self._output]
        while names:
            i = makers.get(names.pop())
            if i is not None and i not in found:
                found.add(i)
                names += self._graph.node[i].input
        nodes = [(i, self._graph.node[i]) for i in sorted(found)]
        wanted = {name for _, node in nodes for name in node.input} | {self._output}
        for i, node in nodes:
            if any(name and name in wanted for name in node.output[1:]):
                raise ValueError(f"{Node(self, node, i).label}: expected its first output alone to be used")
        return nodes


def _chosen_output(graph: Any, output: str | None) -> str:
    names = [value.name for value in graph.output]
    if output is None and len(names) == 1:
        return str(names[0])
    if output is None or output not in {name for node in graph.node for name in node.output if name}:
        raise ValueError(f"output: expected the name of one of the outputs {names}, got {output!r}")
    return output


def _apply(node: Node, proto: Any, inputs: list[Any]) -> Any:
    """What the node computes."""
    table = ON_ROWS if any(isinstance(value, Value) for value in inputs) else ON_CONSTANTS
    if proto.domain not in DOMAINS or proto.op_type not in table:
        operator = f"{proto.domain}.{proto.op_type}" if proto.domain else proto.op_type
        raise Refused(f"expected a node of a fully-connected network, got the operator {operator}")
    while inputs and inputs[-1] is None:
        inputs.pop()
    function = table[proto.op_type]
    try:
        signature(function).bind(node, *inputs)
    except TypeError:
        raise Refused(f"expected another number of inputs, got {len(inputs)}") from None
    if table is ON_ROWS:
        return function(node, *inputs)
    try:
        return np.asarray(function(node, *inputs))
    except (ValueError, TypeError, IndexError) as error:
        raise Refused(f"expected constants that fit it, got {error}") from None


def _steps(end: Point, start: Point) -> list[Any]:
    steps: list[Any] = []
    point: Point | None = end
    while point is not None and point is not start:
        if point.step is not None:
            steps.append(point.step)
        point = point.before
    return steps[::-1]


def _sizes(value: Any) -> tuple[int | None, ...] | None:
    """Of the dimensions of the input."""
    if not value.type.tensor_type.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None
                 for dim in value.type.tensor_type.shape.dim)


def _product(sizes: tuple[int | None, ...]) -> int | None:
    known = [size for size in sizes if size is not None]
    return math.prod(known) if len(known) == len(sizes) else None


def shortest(number: Any) -> float:
    """An attribute as it was written, before it was rounded to float32.

    >>> shortest(np.float32(0.1))
    0.1
    """
    return float(str(np.float32(number)))
