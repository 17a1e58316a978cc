"""Bad input of every kind: the right type of error, naming the argument, with nothing changed."""
from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

import fastmlp.functional as F
from fastmlp import MLP, SGD, activations

GATED = ["gelu", "gelu_tanh", "silu"]
UNARY = ["exp", "log", "relu", "leaky_relu", "sigmoid", "tanh", "elu", "selu", "softplus", *GATED, "softmax",
         "log_softmax"]
UNARY_BACKWARD = [name + "_backward" for name in UNARY if name not in ("exp", "log")]
FLOAT = {"float32": "float64", "float64": "float32"}        # the other one


def good(function, dtype):
    """Arguments that work, by name; every case below spoils one of them."""
    rng = np.random.default_rng(3)

    def real(*shape):
        return rng.standard_normal(shape).astype(dtype)

    if function in UNARY:
        return {"x": real(6, 4)}
    if function in UNARY_BACKWARD:
        return {"dy": real(6, 4), "x" if function.removesuffix("_backward") in GATED else "y": real(6, 4)}
    return {
        "dense_forward": {"x": real(6, 4), "w": real(4, 3), "b": real(3), "activation": "relu"},
        "dense_backward": {"dy": real(6, 3), "x": real(6, 4), "w": real(4, 3), "y": real(6, 3),
                           "activation": "relu"},
        "softmax_cross_entropy": {"logits": real(6, 4), "targets": np.array([0, 1, 2, 3, 0, 1])},
        "kl_divergence": {"logits": real(6, 4), "targets": rng.dirichlet(np.ones(4), 6).astype(dtype)},
        "multiclass_hinge": {"logits": real(6, 4), "targets": np.array([0, 1, 2, 3, 0, 1])},
        "mean_squared_error": {"predictions": real(6, 4), "targets": real(6, 4)},
        "mean_absolute_error": {"predictions": real(6, 4), "targets": real(6, 4)},
        "huber": {"predictions": real(6, 4), "targets": real(6, 4), "delta": 0.5},
        "poisson": {"logits": real(6, 4), "targets": rng.poisson(2, (6, 4)).astype(dtype)},
        "binary_cross_entropy": {"logits": real(6, 4), "targets": rng.integers(0, 2, (6, 4)).astype(dtype)},
        "hinge": {"logits": real(6, 4), "targets": np.copysign(1, real(6, 4))},
        "squared_hinge": {"logits": real(6, 4), "targets": np.copysign(1, real(6, 4))},
        "sgd_update": {"param": real(6, 4), "grad": real(6, 4), "lr": 0.1, "momentum": 0.9,
                       "velocity": real(6, 4), "nesterov": False, "weight_decay": 0.1},
        "adagrad_update": {"param": real(6, 4), "grad": real(6, 4), "lr": 0.1, "squares": abs(real(6, 4)),
                           "eps": 1e-8, "weight_decay": 0.1},
        "rmsprop_update": {"param": real(6, 4), "grad": real(6, 4), "lr": 0.1, "squares": abs(real(6, 4)),
                           "rho": 0.9, "eps": 1e-8, "weight_decay": 0.1},
        "adam_update": {"param": real(6, 4), "grad": real(6, 4), "lr": 0.1, "first_moment": real(6, 4),
                        "second_moment": abs(real(6, 4)), "step": 3, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8,
                        "weight_decay": 0.1},
    }[function]


def check(function, args, error, name, message=""):
    """The call raises `error`; its text begins with the argument's name; no array has changed."""
    arrays = [a for value in args.values() for a in (value if isinstance(value, (tuple, list)) else [value])
              if isinstance(a, np.ndarray) and a.size < 10_000]
    before = [a.copy() for a in arrays]
    with pytest.raises(error, match=rf"(?s)^{name}\b.*{message}") as raised:
        getattr(F, function)(**args)
    assert type(raised.value) is error
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def operands(*functions):
    """Every (function, name of a float array argument)."""
    return [(f, name) for f in functions for name, value in good(f, "float32").items()
            if isinstance(value, np.ndarray) and value.dtype.kind == "f"]


UPDATES = ["sgd_update", "adagrad_update", "rmsprop_update", "adam_update"]
SLOTS = ["velocity", "squares", "first_moment", "second_moment"]
LOSSES_OF_CLASSES = ["softmax_cross_entropy", "kl_divergence", "multiclass_hinge"]
LOSSES_OF_ELEMENTS = ["mean_squared_error", "mean_absolute_error", "huber", "poisson", "binary_cross_entropy",
                      "hinge", "squared_hinge"]
ALL = [*UNARY, *UNARY_BACKWARD, "dense_forward", "dense_backward", *LOSSES_OF_CLASSES, *LOSSES_OF_ELEMENTS,
       *UPDATES]


def test_no_function_is_forgotten():
    assert set(ALL) == set(F.__all__)


@pytest.mark.parametrize("function", ALL)
def test_good_arguments_are_good(function, backend, dtype):
    getattr(F, function)(**good(function, dtype))


# Dtypes ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("function, name", operands(*ALL))
def test_dtype_that_is_no_float(function, name, backend, dtype):
    args = good(function, dtype)
    for wrong in ("float16", "complex64", "longdouble", "U3", "object"):
        check(function, {**args, name: args[name].astype(wrong)}, TypeError, name, "expected dtype float")
    if name == "targets":           # integers are taken: see test_losses.py
        return
    for wrong in ("int64", "int8", "uint8", "bool"):
        check(function, {**args, name: args[name].astype(wrong)}, TypeError, name, "expected dtype float")
    check(function, {**args, name: args[name].astype(int)}, TypeError, name, re.escape("astype(np.float32)"))


@pytest.mark.parametrize("function, name", [(f, n) for f, n in operands(*ALL) if n not in ("x", "logits")])
def test_two_dtypes(function, name, backend, dtype):
    args = good(function, dtype)
    if name == next(iter(args)):
        return                      # the first one sets the dtype
    other = FLOAT[dtype.name]
    check(function, {**args, name: args[name].astype(other)}, TypeError, name, f"{dtype}.*{other}")


@pytest.mark.parametrize("function, name", operands(*ALL))
def test_not_an_array(function, name, backend, dtype):
    args = good(function, dtype)
    for wrong in (None, "text", {}, [1, 2], object()):
        if (function, name) in (("sgd_update", "velocity"), ("dense_forward", "b"), ("dense_backward", "y")):
            if wrong is None:
                continue
        if name == "targets" and wrong == [1, 2]:
            check(function, {**args, name: wrong}, ValueError, name, "shape")
            continue
        check(function, {**args, name: wrong}, TypeError, name)
    if name not in ("param", *SLOTS):
        check(function, {**args, name: [[1.0], [1.0, 2.0]]}, ValueError, name)
    check(function, {**args, name: np.ma.masked_array(args[name])}, TypeError, name, "masked")


# Shapes ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("function", UNARY_BACKWARD)
def test_shapes_of_backward(function, backend, dtype):
    args = good(function, dtype)
    for shape in ((6, 3), (5, 4), (4, 6), (24,), (6, 1), (1, 4), (6, 4, 1), ()):
        name = list(args)[1]
        check(function, {**args, name: np.ones(shape, dtype)}, ValueError, name,
              re.escape(f"expected shape (6, 4) like dy, got {shape}"))


@pytest.mark.parametrize("function", ["softmax", "log_softmax", "softmax_backward", "log_softmax_backward"])
def test_softmax_of_a_scalar(function, backend, dtype):
    args = {name: np.ones((), dtype) for name in good(function, dtype)}
    check(function, args, ValueError, next(iter(args)), "dimension")


@pytest.mark.parametrize("function, name, shapes", [
    ("dense_forward", "x", [(6,), (6, 4, 1), ()]),
    ("dense_forward", "w", [(5, 3), (3, 4), (4,), (12,), (1, 4, 3), ()]),
    ("dense_forward", "b", [(4,), (1,), (3, 1), (6, 3), (1, 1), (1, 4), (1, 1, 3), ()]),
    ("dense_backward", "dy", [(6,), (18,), (6, 3, 1), ()]),
    ("dense_backward", "x", [(5, 4), (4, 6), (6,), (6, 4, 1)]),
    ("dense_backward", "w", [(5, 3), (4, 4), (3, 4), (12,), ()]),
    ("dense_backward", "y", [(5, 3), (6, 4), (18,), (6, 1), ()]),
    ("softmax_cross_entropy", "logits", [(4,), (6, 4, 1), ()]),
    ("softmax_cross_entropy", "targets", [(5,), (7,), (1,), (1, 6), (5, 1), (0,), ()]),
    *[(f, name, shapes) for f in ("kl_divergence", "multiclass_hinge")
      for name, shapes in (("logits", [(4,), (6, 4, 1), ()]), ("targets", [(5,), (7,), (1,), (0,), ()]))],
    *[(f, "targets", [(6, 1), (1, 4), (6,), (24,), (4, 6), ()]) for f in LOSSES_OF_ELEMENTS],
    ("sgd_update", "grad", [(6, 1), (24,), (4, 6), ()]),
    ("sgd_update", "velocity", [(6, 1), (24,), (4, 6), ()]),
    ("adagrad_update", "grad", [(6, 1), (24,), (4, 6), ()]),
    ("adagrad_update", "squares", [(6, 1), (24,), (4, 6), ()]),
    ("rmsprop_update", "grad", [(6, 1), (24,), (4, 6), ()]),
    ("rmsprop_update", "squares", [(6, 1), (24,), (4, 6), ()]),
    ("adam_update", "grad", [(6, 1), (24,), (4, 6), ()]),
    ("adam_update", "first_moment", [(6, 1), (24,), (4, 6), ()]),
    ("adam_update", "second_moment", [(6, 1), (24,), (4, 6), ()]),
])
def test_shape(function, name, shapes, backend, dtype):
    args = good(function, dtype)
    for shape in shapes:
        check(function, {**args, name: np.ones(shape, args[name].dtype)}, ValueError, name,
              re.escape("expected shape (") + ".*" + re.escape(f"got {shape}"))


@pytest.mark.parametrize("shape", [(6, 3), (5, 4), (4, 6), (6, 1)])
def test_shape_of_probabilities(shape, backend, dtype):
    args = good("softmax_cross_entropy", dtype)
    targets = np.full(shape, 1 / shape[1], dtype)
    args["targets"] = targets
    check("softmax_cross_entropy", args, ValueError, "targets", re.escape(f"got {shape}"))


@pytest.mark.parametrize("shape", [(0, 4), (6, 0), (0, 0)])
def test_empty_batch(shape, backend, dtype):
    empty = np.empty(shape, dtype)
    labels = np.zeros(shape[0], int)
    for function in LOSSES_OF_CLASSES:
        for targets in (empty, labels):
            args = {"logits": empty, "targets": targets}
            check(function, args, ValueError, "logits", "at least one")
    for function in LOSSES_OF_ELEMENTS:
        name = next(iter(good(function, dtype)))
        args = {name: empty, "targets": empty.copy()}
        check(function, args, ValueError, name, "at least one")


@pytest.mark.parametrize("function", [f for f in ALL if f not in UPDATES])
@pytest.mark.parametrize("rows, columns", [(2**40, 2**18), (2**58, 1), (2**45, 1)])
def test_absurd_sizes(rows, columns, function, backend, dtype):
    """Views that claim more elements than there is memory: an error, at once, and no copy of them."""
    def huge(*shape, dtype=dtype):
        return np.broadcast_to(np.ones((), dtype), shape)

    args = good(function, dtype)
    if function == "dense_forward":
        args.update(x=huge(rows, columns), w=huge(columns, 1), b=np.ones(1, dtype))
    elif function == "dense_backward":
        args.update(dy=huge(rows, 1), x=huge(rows, columns), w=huge(columns, 1), y=huge(rows, 1))
    elif function in ("softmax_cross_entropy", "multiclass_hinge"):
        args.update(logits=huge(rows, columns), targets=huge(rows, dtype=np.intp))
    else:
        args.update({name: huge(rows, columns) for name, value in args.items()
                     if isinstance(value, np.ndarray)})
    message = r"^\w+: shape \(.*bytes|Unable to allocate .* shape \("
    with pytest.raises((ValueError, MemoryError), match=message):
        getattr(F, function)(**args)


def test_sizes_that_overflow(backend, dtype):
    """Results larger than the address space are refused before anything is made."""
    def huge(*shape):
        return np.broadcast_to(np.ones((), dtype), shape)

    args = {"x": huge(2**20, 1), "w": huge(1, 2**40), "b": huge(2**40)}
    check("dense_forward", args, ValueError, "out", "bytes")
    x, w = np.empty((2**50, 0), dtype), np.empty((0, 2**14), dtype)
    args = {"x": x, "w": w, "b": np.zeros(2**14, dtype)}
    check("dense_forward", args, ValueError, "out", "bytes")


# Targets --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("label", [4, 5, -1, -4, 2**31, -2**63, 2**62])
@pytest.mark.parametrize("row", [0, 5])
def test_label_out_of_range(label, row, backend, dtype):
    args = good("softmax_cross_entropy", dtype)
    args["targets"][row] = label
    check("softmax_cross_entropy", args, ValueError, "targets", f"from 0 to 3, got {label} in row {row}")


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint32", "uint64"])
def test_label_out_of_range_in_every_integer_dtype(kind, backend, dtype):
    args = good("softmax_cross_entropy", dtype)
    args["targets"] = args["targets"].astype(kind)
    largest = np.iinfo(kind).max
    args["targets"][2] = largest
    check("softmax_cross_entropy", args, ValueError, "targets", f"got {largest} in row 2")


@pytest.mark.parametrize("kind", ["float32", "float64", "bool", "complex64", "U1", "object"])
def test_labels_that_are_no_integers(kind, backend, dtype):
    args = good("softmax_cross_entropy", dtype)
    args["targets"] = args["targets"].astype(kind)
    check("softmax_cross_entropy", args, TypeError, "targets", "integer")


def probability_rows(dtype):
    return np.random.default_rng(5).dirichlet(np.ones(4), 6).astype(dtype)


@pytest.mark.parametrize("spoil, message", [
    (lambda t: t.__setitem__((3, 2), np.nan), re.escape("NaN at [3, 2]")),
    (lambda t: t.__setitem__((3, 2), -0.1), "got -0.1.* in row 3, column 2"),
    (lambda t: t.__setitem__((3, 2), np.inf), "sum to 1.* row 3"),
    (lambda t: t.__setitem__((3, 2), t[3, 2] + 0.01), "sum to 1.* row 3"),
    (lambda t: t.__setitem__(3, 0), "sum to 1.* got 0 in row 3"),
    (lambda t: t.__setitem__(3, 1), "sum to 1.* got 4 in row 3"),
    (lambda t: np.copyto(t, 100 * t), "sum to 1.* row 0"),
])
def test_rows_that_are_no_probabilities(spoil, message, backend, dtype):
    args = {**good("softmax_cross_entropy", dtype), "targets": probability_rows(dtype)}
    spoil(args["targets"])
    check("softmax_cross_entropy", args, ValueError, "targets", message)


def test_rows_may_be_rounded(backend, dtype):
    args = {**good("softmax_cross_entropy", dtype), "targets": probability_rows(dtype)}
    args["targets"][0, 0] += 5e-4 if dtype == np.float32 else 5e-7
    F.softmax_cross_entropy(**args)


@pytest.mark.parametrize("place", [(0, 0), (5, 3), (2, 1)])
def test_nan_in_regression_targets(place, backend, dtype):
    args = good("mean_squared_error", dtype)
    args["targets"][place] = np.nan
    check("mean_squared_error", args, ValueError, "targets", re.escape(f"NaN at [{place[0]}, {place[1]}]"))


@pytest.mark.parametrize("name, wrong, error", [
    ("label_smoothing", -0.1, ValueError), ("label_smoothing", 1.5, ValueError),
    ("label_smoothing", np.nan, ValueError), ("label_smoothing", None, TypeError),
    ("ignore_index", 1.0, TypeError), ("ignore_index", "1", TypeError),
    ("delta", 0, ValueError), ("delta", -1.0, ValueError), ("delta", np.inf, ValueError),
    ("delta", "1", TypeError),
    ("pos_weight", -1.0, ValueError), ("pos_weight", np.nan, ValueError), ("pos_weight", "1", TypeError),
    ("pos_weight", [1.0, 2.0], ValueError), ("pos_weight", [1.0, 2.0, 3.0, -1.0], ValueError),
])
def test_parameter_of_a_loss(name, wrong, error, backend, dtype):
    function = {"delta": "huber", "pos_weight": "binary_cross_entropy"}.get(name, "softmax_cross_entropy")
    check(function, {**good(function, dtype), name: wrong}, error, name)


def test_pos_weight_without_columns(backend, dtype):
    args = {"logits": np.ones(3, dtype), "targets": np.ones(3, dtype), "pos_weight": [1.0, 1.0, 1.0]}
    check("binary_cross_entropy", args, ValueError, "pos_weight", "one number")


# out ------------------------------------------------------------------------------------------------------

WITH_OUT = [f for f in ALL if f not in (*UPDATES, "dense_backward")]


def fitting_out(args, function, dtype):
    first = next(iter(args.values()))
    return np.full((6, 3) if function == "dense_forward" else first.shape, 77, dtype)


@pytest.mark.parametrize("function", WITH_OUT)
def test_out(function, backend, dtype):
    args = good(function, dtype)
    out = fitting_out(args, function, dtype)
    rows, columns = out.shape
    for shape in ((rows, columns + 1), (rows + 1, columns), (rows * columns,), (columns, rows), (1, columns)):
        check(function, {**args, "out": np.ones(shape, dtype)}, ValueError, "out", re.escape(f"got {shape}"))
    for wrong in (FLOAT[dtype.name], "int64", "float16", "object"):
        check(function, {**args, "out": out.astype(wrong)}, TypeError, "out", f"expected dtype {dtype}")
    for wrong in (out.tolist(), "text", 3, (out,), memoryview(out), np.ma.masked_array(out)):
        check(function, {**args, "out": wrong}, TypeError, "out", "NumPy array")
    read_only = out.copy()
    read_only.flags.writeable = False
    check(function, {**args, "out": read_only}, ValueError, "out", "read-only")
    for kind in (dtype, dtype.newbyteorder()):
        for strides in ((0, out.itemsize), (out.itemsize, out.itemsize), (out.itemsize, 0),
                        (-out.itemsize, out.itemsize)):
            memory = np.zeros(2 * out.size, kind)[out.size:]
            shared = np.lib.stride_tricks.as_strided(memory, out.shape, strides)
            check(function, {**args, "out": shared}, ValueError, "out", "share memory")


@pytest.mark.parametrize("function, name", operands(*WITH_OUT))
def test_out_that_overlaps_an_input_in_part(function, name, backend, dtype):
    args = good(function, dtype)
    out = fitting_out(args, function, dtype)
    buffer = np.full(100, 77, dtype)
    size = args[name].size
    buffer[:size] = args[name].reshape(-1)
    args[name] = buffer[:size].reshape(args[name].shape)
    for start in (1, size - 1):
        overlapping = buffer[start:start + out.size].reshape(out.shape)
        check(function, {**args, "out": overlapping}, ValueError, "out", name)
    check(function, {**args, "out": buffer[:out.size][::-1].reshape(out.shape)}, ValueError, "out", name)
    swapped = args[name].astype(dtype.newbyteorder())       # computed from a copy, and refused all the same
    if swapped.shape == out.shape:
        check(function, {**args, name: swapped, "out": swapped[::-1]}, ValueError, "out", name)


def test_out_that_is_an_input_where_it_cannot_be(backend, dtype):
    square = {"x": np.ones((4, 4), dtype), "w": np.ones((4, 4), dtype), "b": np.ones(4, dtype)}
    check("dense_forward", {**square, "out": square["x"]}, ValueError, "out", "x")
    check("dense_forward", {**square, "out": square["w"]}, ValueError, "out", "w")
    rows = np.full((4, 4), 0.25, dtype)
    args = {"logits": square["x"], "targets": rows, "out": rows}
    check("softmax_cross_entropy", args, ValueError, "out", "targets")
    args = {"predictions": square["x"], "targets": rows, "out": rows}
    check("mean_squared_error", args, ValueError, "out", "targets")


def test_out_of_dense_backward(backend, dtype):
    args = good("dense_backward", dtype)
    dx, dw, db = (np.full(shape, 77, dtype) for shape in ((6, 4), (4, 3), (3,)))
    for wrong in (dx, (dx, dw), (dx, dw, db, db), "abc", 3, ([], dw, db), (dx, None, db), (None, dw, None)):
        check("dense_backward", {**args, "out": wrong}, TypeError, "out")
    check("dense_backward", {**args, "out": (dx.T, dw, db)}, ValueError, r"out \(dx", "got")
    check("dense_backward", {**args, "out": (dx, dw[:2], db)}, ValueError, r"out \(dw", "got")
    check("dense_backward", {**args, "out": (dx, dw, db[None])}, ValueError, r"out \(db", "got")
    other = db.astype(FLOAT[dtype.name])
    check("dense_backward", {**args, "out": (dx, dw, other)}, TypeError, r"out \(db", "dtype")
    for out, name, other in (((args["x"], dw, db), "dx", "x"), ((dx, args["w"], db), "dw", "w"),
                             ((dx, dw, args["dy"][0]), "db", "dy"), ((dx, dw, dw[0]), "db", "out")):
        args["out"] = out
        check("dense_backward", args, ValueError, rf"out \({name}", f"share memory with {other}")
    db.flags.writeable = False
    check("dense_backward", {**args, "out": (dx, dw, db)}, ValueError, r"out \(db", "read-only")


def test_dense_backward_without_dx(backend, dtype):
    args = good("dense_backward", dtype)
    dx, dw, db = (np.full(shape, 77, dtype) for shape in ((6, 4), (4, 3), (3,)))
    for wrong in (None, 1, "no", np.ones(2)):
        check("dense_backward", {**args, "need_dx": wrong}, TypeError, "need_dx", "True or False")
    check("dense_backward", {**args, "need_dx": False, "out": (dx, dw, db)}, ValueError, r"out \(dx", "None")
    check("dense_backward", {**args, "out": (None, dw, dw[0])}, ValueError, r"out \(db", "share memory")
    del args["y"]
    for activation in set(activations.BY_NAME) - {"identity", *GATED}:
        check("dense_backward", {**args, "activation": activation}, ValueError, "y", "got None")


@pytest.mark.parametrize("function", ALL)
def test_calls_that_do_not_fit_the_signature(function, backend, dtype):
    """The message names the function that was called, and the argument."""
    args = good(function, dtype)
    first = next(iter(args))
    rest = {name: value for name, value in args.items() if name != first}
    calls = [((), rest, first), ((), {}, first), ((), {**args, "colour": 1}, "colour"),
             ((args[first],), args, first), (tuple(range(30)), {}, "positional")]
    for positional, keywords, message in calls:
        with pytest.raises(TypeError, match=rf"^{function}\(\).*{message}"):
            getattr(F, function)(*positional, **keywords)


# Activations and numbers ----------------------------------------------------------------------------------

@pytest.mark.parametrize("function", ["dense_forward", "dense_backward"])
def test_unknown_activation(function, backend, dtype):
    args = good(function, dtype)
    for name, nearest in (("rellu", "relu"), ("leakyrellu", "leaky_relu"), ("than", "tanh")):
        known = "identity, relu, leaky_relu, sigmoid, tanh, elu, selu, softplus, gelu, gelu_tanh, silu"
        check(function, {**args, "activation": name}, ValueError, "activation", f"{nearest!r}.*{known}")
    check(function, {**args, "activation": "?"}, ValueError, "activation", "identity, relu")
    for wrong in (None, 1, np.tanh, ["relu"], int, activations.Activation, activations.Activation()):
        check(function, {**args, "activation": wrong}, TypeError, "activation")


@pytest.mark.parametrize("name", GATED)
def test_derivative_that_needs_z(name, backend, dtype):
    for activation in (name, activations.resolve(name), type(activations.resolve(name))):
        check("dense_backward", {**good("dense_backward", dtype), "activation": activation}, ValueError,
              "activation", f"got '{name}'; apply dense_backward with 'identity' to {name}_backward")


@pytest.mark.parametrize("function", ["leaky_relu", "leaky_relu_backward", "elu", "elu_backward"])
@pytest.mark.parametrize("alpha", [-0.1, np.nan, np.inf, -np.inf])
def test_alpha_out_of_range(function, alpha, backend, dtype):
    check(function, {**good(function, dtype), "alpha": alpha}, ValueError, "alpha", "0 up")
    for cls in (activations.LeakyReLU, activations.ELU):
        with pytest.raises(ValueError, match="^alpha"):
            cls(alpha)


@pytest.mark.parametrize("alpha", [None, "0.1", [0.1], np.array([0.1]), 1j])
def test_alpha_that_is_no_number(alpha, backend, dtype):
    for function, cls in (("leaky_relu", activations.LeakyReLU), ("elu", activations.ELU)):
        check(function, {**good(function, dtype), "alpha": alpha}, TypeError, "alpha", "number")
        with pytest.raises(TypeError, match="^alpha"):
            cls(alpha)


# Updates --------------------------------------------------------------------------------------------------

OUT_OF_RANGE = {
    "lr": (-0.1, np.nan, np.inf), "weight_decay": (-1e-9, np.inf, np.nan), "eps": (0, -1e-8, np.inf, np.nan),
    "momentum": (-0.1, 1, 1.1, np.nan), "rho": (-0.1, 1, 1.1, np.nan), "beta1": (-0.1, 1, np.nan),
    "beta2": (-0.1, 1, np.nan)}


@pytest.mark.parametrize("function, name", [(f, name) for f in UPDATES for name in good(f, "float32")
                                            if name in OUT_OF_RANGE])
def test_number_of_an_update(function, name, backend, dtype):
    args = good(function, dtype)
    for wrong in OUT_OF_RANGE[name]:
        check(function, {**args, name: wrong}, ValueError, name, "finite number from")
    for wrong in (None, "0.1", [0.1], 1j):
        check(function, {**args, name: wrong}, TypeError, name, "number")


def test_step_of_adam(backend, dtype):
    args = good("adam_update", dtype)
    for wrong in (0, -1):
        check("adam_update", {**args, "step": wrong}, ValueError, "step", "integer from 1 up")
    for wrong in (1.5, None, "1", True):
        check("adam_update", {**args, "step": wrong}, TypeError, "step", "integer")


@pytest.mark.parametrize("function", UPDATES)
def test_arrays_of_an_update(function, backend, dtype):
    args = good(function, dtype)
    slots = [name for name in args if name in SLOTS]
    for name in ("param", *slots):
        read_only = args[name].copy()
        read_only.flags.writeable = False
        check(function, {**args, name: read_only}, ValueError, name, "read-only")
        check(function, {**args, name: args[name].tolist()}, TypeError, name, "NumPy array")
    param = args["param"]
    check(function, {**args, "grad": param}, ValueError, "grad", "share memory with param")
    for name in slots:
        check(function, {**args, name: param}, ValueError, name, "share memory with param")
        check(function, {**args, name: args["grad"]}, ValueError, name, "share memory with grad")
    for one, two in itertools.pairwise(slots):
        check(function, {**args, two: args[one]}, ValueError, two, f"share memory with {one}")
    check(function, {**args, "param": np.broadcast_to(param[:1], param.shape)}, ValueError, "param")
    swapped = param.astype(dtype.newbyteorder())
    shared = np.lib.stride_tricks.as_strided(np.ones(20, dtype), (6, 4), (dtype.itemsize, dtype.itemsize))
    check(function, {**args, "param": shared}, ValueError, "param", "share memory")
    check(function, {**args, "param": swapped, "grad": swapped}, ValueError, "grad", "memory with param")
    for name in slots:
        check(function, {**args, name: shared}, ValueError, name, "share memory")
        check(function, {**args, "param": swapped, name: swapped}, ValueError, name, "memory with param")


def test_a_velocity_that_is_not_used(backend, dtype):
    args = {**good("sgd_update", dtype), "momentum": 0.0}
    velocity = args["velocity"].copy()
    F.sgd_update(**args)
    np.testing.assert_array_equal(args["velocity"], velocity)
    check("sgd_update", {**args, "velocity": args["param"]}, ValueError, "velocity", "memory with param")
    check("sgd_update", {**args, "velocity": np.zeros((4, 6), dtype)}, ValueError, "velocity", "shape")


def test_momentum_needs_a_velocity(backend, dtype):
    check("sgd_update", {**good("sgd_update", dtype), "velocity": None}, ValueError, "velocity", "momentum")


@pytest.mark.parametrize("call", [
    SGD, lambda huge: F.leaky_relu(np.ones(3), huge), lambda huge: F.leaky_relu(np.ones(3), -huge),
    lambda huge: F.huber(np.ones(3), np.ones(3), delta=huge)])
def test_integers_beyond_all_floats(call, backend):
    with pytest.raises(ValueError, match=r"^(lr|alpha|delta): expected a finite number .*, got -?inf$"):
        call(10**400)


def test_none_is_no_dtype():
    """NumPy takes it for float64."""
    with pytest.raises(TypeError, match=r"^dtype: expected float32 or float64, got None$"):
        MLP([2, 1], dtype=None)


@pytest.mark.parametrize("y", [np.array(1), np.array(1.0, np.float32), np.array("a"), np.empty(6, "V0")],
                         ids=["int", "float", "word", "empty"])
@pytest.mark.parametrize("layers", [[2, 3], [2, 1]])
@pytest.mark.parametrize("method", ["fit", "evaluate", "loss_and_gradients"])
def test_targets_without_a_shape_or_a_size(method, layers, y):
    """The engine has no shape to read of the first ones, and no size to divide by of the last."""
    with pytest.raises((TypeError, ValueError), match="^y: expected"):
        getattr(MLP(layers, seed=0), method)(np.zeros((6, 2)), y)
