"""ONNX files, written and read, against ONNX Runtime and the exporters of others."""
from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, BatchNorm, from_onnx, losses
from fastmlp import activations as A

onnx = pytest.importorskip("onnx")
reference = pytest.importorskip("onnx.reference")
helper, numpy_helper = onnx.helper, onnx.numpy_helper
FLOAT, DOUBLE = onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE

ACTIVATIONS = [A.resolve(name) for name in A.BY_NAME] + [A.LeakyReLU(0.2), A.ELU(1.3)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.onnx"


@pytest.fixture
def X(rng):
    return rng.normal(size=(30, 6)).astype(np.float32)


def run(model, X, output=None):
    """What ONNX Runtime returns for a file or a model."""
    ort = pytest.importorskip("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    model = os.fspath(model) if not isinstance(model, onnx.ModelProto) else model.SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run([output] if output else None, {session.get_inputs()[0].name: X})[0]


def outputs(model, X):
    """What the graph returned, by a model of it."""
    X = X.reshape(len(X), -1)
    return model.predict_proba(X) if model.loss.output in ("softmax", "sigmoid") else model.forward(X)


def assert_same_outputs(model, proto, X, output=None, tolerance=1e-6):
    actual, desired = outputs(model, X), run(proto, X, output)
    np.testing.assert_allclose(actual.reshape(desired.shape), desired, rtol=tolerance, atol=tolerance)


def quietly(*args, **options):
    """The model, of a graph whose training is not changed: no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return from_onnx(*args, **options)


def make(layers, rng, **options):
    """A model with random arrays of modest size."""
    model = MLP(layers, seed=0, **options)
    for b, *norm in zip(model.biases, model.scales, model.running_means, model.running_variances):
        b[...] = rng.normal(size=b.shape) * 0.3
        if norm[0] is not None:
            for array, low, high in zip(norm, (0.5, -0.3, 0.5), (1.5, 0.3, 2.0)):
                array[...] = rng.uniform(low, high, array.shape)
    return model


def graph(nodes, constants=(), inputs=(("x", [None, 6]),), outputs=("y",), opset=17, dtype=FLOAT, check=True,
          domains=()):
    """A model of nodes (operator, inputs, output, attributes) and constants {name: array}."""
    protos = []
    for operator, args, result, *attributes in nodes:
        domain, _, operator = operator.rpartition(":")
        results = result if isinstance(result, list) else [result]
        protos.append(helper.make_node(operator, args, results, name=f"{operator}_of_{results[0]}",
                                       domain=domain,
                                       **(attributes[0] if attributes else {})))
    proto = helper.make_graph(
        protos, "g", [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs],
        [helper.make_tensor_value_info(name, dtype, [None, None]) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in dict(constants).items()])
    model = helper.make_model(proto, ir_version=8, opset_imports=[
        helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)])
    if check:
        onnx.checker.check_model(model)
    return model


@pytest.fixture
def C(rng):
    """Constants for graphs of 6 inputs, 5 units and 3 outputs."""
    shapes = dict(w=(6, 5), wt=(5, 6), b=(5,), row=(1, 5), v=(5, 3), c=(3,), scale=(5,), mean=(5,),
                  in_scale=(6,))
    arrays = {name: (rng.normal(size=shape) * 0.5).astype(np.float32) for name, shape in shapes.items()}
    arrays["variance"] = rng.uniform(0.5, 2, 5).astype(np.float32)
    arrays |= {name: np.float32(value) for name, value in dict(
        half=0.5, one=1, two=2, three=3, six=6, root=np.sqrt(2), tanh_a=0.044715, tanh_b=np.sqrt(2 / np.pi),
        sqrt_half=np.sqrt(0.5), slope=0.1, zero=0, twenty=20).items()}
    return arrays


def with_constants(nodes, C, **options):
    """The graph with those of the constants that its nodes use."""
    used = {name for _, args, *_ in nodes for name in args}
    return graph(nodes, {name: array for name, array in C.items() if name in used}, **options)


# Written -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_written_and_read(activation, dtype, batch_norm, path, rng):
    """ONNX Runtime agrees to 1e-6, and what is read is what was written."""
    model = make([6, 20, 11, 3], rng, activation=activation, dtype=dtype, batch_norm=batch_norm)
    X = rng.normal(size=(7, 6)).astype(dtype)
    for output, desired in (("logits", model.forward(X)), ("proba", model.predict_proba(X))):
        model.to_onnx(path, output)
        onnx.checker.check_model(os.fspath(path), full_check=True)
        actual = run(path, X)
        assert actual.dtype == dtype
        np.testing.assert_allclose(actual, desired, rtol=1e-6, atol=1e-6)
    again = quietly(path)
    assert repr(again) == repr(model) and again.batch_norm == model.batch_norm
    assert again.activations == model.activations
    for name in ("weights", "biases", "scales", "running_means", "running_variances"):
        for a, b in zip(getattr(again, name), getattr(model, name)):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_double_in_newer_opsets(activation, path, rng):
    """To the bits of a double but for what ONNX Runtime computes as a float: Erf."""
    model = make([6, 20, 3], rng, activation=activation, dtype="float64")
    X = rng.normal(size=(7, 6))
    model.to_onnx(path, opset=20)
    bound = 1e-6 if activation == A.GELU() else 1e-13
    np.testing.assert_allclose(run(path, X), model.forward(X), rtol=bound, atol=bound)


@pytest.mark.parametrize("loss, output", [
    ("cross_entropy", "softmax"), ("kl_divergence", "softmax"), ("binary_cross_entropy", "sigmoid")])
def test_probabilities(loss, output, path, X, rng):
    model = make([6, 5, 1 if output == "sigmoid" else 3], rng, loss=loss)
    model.to_onnx(path, "proba")
    assert_same_outputs(model, path, X)
    assert quietly(path).loss.output == output


def test_header(path, X):
    """Opset, names, any number of rows, and the same bytes for the same model."""
    model = MLP([6, 4, 3], seed=0, dropout=0.5)
    model.to_onnx(path)
    first = path.read_bytes()
    model.to_onnx(str(path))
    assert path.read_bytes() == first
    proto = onnx.load(path)
    assert [o.version for o in proto.opset_import] == [17] and proto.producer_name == "fastmlp"
    assert [v.name for v in proto.graph.input] == ["X"] and [v.name for v in proto.graph.output] == ["output"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    for rows in (0, 1, 30):
        assert run(path, X[:rows]).shape == (rows, 3)
    newest = onnx.defs.onnx_opset_version()
    model.to_onnx(path, opset=newest)
    assert [o.version for o in onnx.load(path).opset_import] == [newest]
    assert reference.ReferenceEvaluator(os.fspath(path)).run(None, {"X": X})[0].shape == (30, 3)


def test_bad_arguments_of_to_onnx(path):
    model = MLP([6, 3], loss="huber")
    for call, error, text in [
            (lambda: model.to_onnx(path, "proba"), ValueError,
             "the loss 'huber' has no probabilities"),
            (lambda: model.to_onnx(path, "labels"), ValueError,
             "output: expected \"logits\" or \"proba\""),
            (lambda: model.to_onnx(path, opset=16), ValueError,
             "opset: expected an integer from 17 up, got 16"),
            (lambda: model.to_onnx(path, opset=1000), ValueError, "opset: expected one from 17 to"),
            (lambda: model.to_onnx(path, opset="17"), TypeError, "opset: expected an integer"),
            (lambda: model.to_onnx(3), TypeError, "path: expected a path, got int"),
            (lambda: model.to_onnx(path.parent / "no" / "net.onnx"), FileNotFoundError, "no/net.onnx")]:
        with pytest.raises(error, match=text):
            call()
    assert not path.exists()


def test_large_models_have_external_data(path, X, rng, monkeypatch):
    from fastmlp._exchange import to_onnx

    monkeypatch.setattr(to_onnx, "MOST_INSIDE", 100)
    model = make([6, 40, 3], rng, batch_norm=True)
    model.to_onnx(path)
    assert path.stat().st_size < 2000 and (path.parent / "net.onnx.data").stat().st_size > 4 * 6 * 40
    np.testing.assert_allclose(run(path, X), model.forward(X), rtol=1e-6, atol=1e-6)
    again = quietly(path)
    np.testing.assert_array_equal(again.weights[0], model.weights[0])
    with pytest.raises(ValueError,
                       match="path: expected arrays in the model, got 'weights.0', which is in a file"):
        from_onnx(onnx.load(path, load_external_data=False))
    data = path.parent / "net.onnx.data"
    data.write_bytes(data.read_bytes()[:-8])
    with pytest.raises(ValueError, match="path: expected a valid ONNX model"):
        from_onnx(path)
    data.unlink()
    with pytest.raises(FileNotFoundError,
                       match="path: the data of 'weights.0' in .* are missing.*net.onnx.data"):
        from_onnx(path)


# Read: nodes -------------------------------------------------------------------------------------------

GEMMS = [
    [("Gemm", ["x", "w"], "y")],
    [("Gemm", ["x", "w", "b"], "y")],
    [("Gemm", ["x", "wt", "b"], "y", dict(transB=1))],
    [("Gemm", ["x", "wt", "row"], "y", dict(transB=1, alpha=0.7, beta=1.3))],
    [("Gemm", ["x", "w", "half"], "y", dict(alpha=-2.0, beta=0.0, transA=0))],
    [("MatMul", ["x", "w"], "y")],
    [("MatMul", ["x", "w"], "z"), ("Add", ["z", "b"], "y")],
    [("MatMul", ["x", "w"], "z"), ("Add", ["row", "z"], "y")],
    [("MatMul", ["x", "w"], "z"), ("Sub", ["z", "b"], "y")],
    [("MatMul", ["x", "w"], "z"), ("Sub", ["b", "z"], "y")],
    [("MatMul", ["x", "w"], "z"), ("Mul", ["z", "scale"], "s"), ("Add", ["s", "b"], "y")],
    [("MatMul", ["x", "w"], "z"), ("Div", ["z", "variance"], "y")],
    [("MatMul", ["x", "w"], "z"), ("Neg", ["z"], "y")],
    [("Sub", ["x", "in_scale"], "s"), ("Div", ["s", "two"], "t"), ("MatMul", ["t", "w"], "y")],
    [("Transpose", ["wt"], "u", dict(perm=[1, 0])), ("Identity", ["u"], "k"), ("MatMul", ["x", "k"], "y")],
    [("MatMul", ["x", "w"], "z"), ("BatchNormalization", ["z", "scale", "b", "mean", "variance"], "y")],
    [("MatMul", ["x", "w"], "z"), ("Add", ["z", "z"], "u"), ("Sub", ["u", "half"], "y")],
    [("ai.onnx.ml:Scaler", ["x"], "s", dict(offset=[1.0, 2, 3, 4, 5, 6], scale=[0.5] * 6)),
     ("MatMul", ["s", "w"], "y")],
]


@pytest.mark.parametrize("nodes", GEMMS, ids=lambda nodes: "-".join(node[0] for node in nodes))
@pytest.mark.filterwarnings("ignore:node .*batch normalisation:UserWarning")
def test_linear_layers(nodes, C, X):
    proto = with_constants(nodes, C, domains=["ai.onnx.ml"])
    model = from_onnx(proto)
    assert model.layers == (6, 5) and model.dtype == np.float32
    assert_same_outputs(model, proto, X, tolerance=4e-6)


def test_all_attributes_of_gemm(C, X):
    """transA mixes rows: refused."""
    with pytest.raises(ValueError,
                       match=r"node 'Gemm_of_y' \(Gemm\): expected rows of samples, got transA=1"):
        from_onnx(with_constants([("Gemm", ["x", "w"], "y", dict(transA=1))], C, inputs=[("x", [6, None])]))


def hidden(*nodes):
    """x -> z, nodes from z to a, a -> y."""
    return [("Gemm", ["x", "w", "b"], "z"), *nodes, ("Gemm", ["a", "v", "c"], "y")]


PATTERNS = {
    "relu": [("Relu", ["z"], "a")],
    "relu by max": [("Max", ["z", "zero"], "a")],
    "relu by max of three": [("Max", ["z", "zero", "z"], "a")],
    "leaky": [("LeakyRelu", ["z"], "a", dict(alpha=0.1))],
    "leaky by max": [("Mul", ["z", "slope"], "s"), ("Max", ["s", "z"], "a")],
    "elu": [("Elu", ["z"], "a", dict(alpha=1.3))],
    "selu": [("Selu", ["z"], "a")],
    "sigmoid": [("Sigmoid", ["z"], "a")],
    "sigmoid by exp": [("Neg", ["z"], "n"), ("Exp", ["n"], "e"), ("Add", ["e", "one"], "d"),
                       ("Reciprocal", ["d"], "a")],
    "tanh": [("Tanh", ["z"], "a")],
    "softplus": [("Softplus", ["z"], "a")],
    "softplus with threshold": [("Softplus", ["z"], "s"), ("Greater", ["z", "twenty"], "g"),
                                ("Where", ["g", "z", "s"], "a")],
    "silu": [("Sigmoid", ["z"], "s"), ("Mul", ["z", "s"], "a")],
    "gelu by PyTorch": [("Div", ["z", "root"], "d"), ("Erf", ["d"], "e"), ("Add", ["e", "one"], "f"),
                        ("Mul", ["z", "f"], "m"), ("Mul", ["m", "half"], "a")],
    "gelu by TensorFlow": [("Mul", ["z", "sqrt_half"], "d"), ("Erf", ["d"], "e"), ("Add", ["one", "e"], "f"),
                           ("Mul", ["half", "z"], "m"), ("Mul", ["m", "f"], "a")],
    "gelu_tanh": [("Pow", ["z", "three"], "p"), ("Mul", ["p", "tanh_a"], "q"), ("Add", ["z", "q"], "r"),
                  ("Mul", ["r", "tanh_b"], "s"), ("Tanh", ["s"], "t"), ("Add", ["t", "one"], "f"),
                  ("Mul", ["z", "half"], "m"), ("Mul", ["m", "f"], "a")],
    "dropout": [("Relu", ["z"], "r"), ("Dropout", ["r", "half"], "a")],
    "identity": [("Identity", ["z"], "i"), ("Cast", ["i"], "k", dict(to=FLOAT)), ("Relu", ["k"], "a")],
    "scaled": [("Relu", ["z"], "r"), ("Mul", ["r", "scale"], "s"), ("Add", ["s", "b"], "a")],
    "scaled in front": [("Mul", ["z", "scale"], "s"), ("Sigmoid", ["s"], "a")],
    "batch norm": [("BatchNormalization", ["z", "scale", "b", "mean", "variance"], "n",
                    dict(epsilon=1e-3, momentum=0.8)), ("Relu", ["n"], "a")],
    "none": [("Identity", ["z"], "a")],
}


@pytest.mark.parametrize("name", PATTERNS)
def test_activations(name, C, X):
    proto = with_constants(hidden(*PATTERNS[name]), C)
    model = quietly(proto)
    expected = {"none": "identity", "batch norm": "relu", "leaky": "leaky_relu",
                "leaky by max": "leaky_relu"}.get(
        name, name.split()[0])
    if expected not in ("dropout", "identity", "scaled"):
        assert model.activations[0].name == expected
    assert model.layers == (6, 5, 3)
    assert_same_outputs(model, proto, X, tolerance=4e-6)


def test_settings_of_nodes(C):
    """As they were written, before they were rounded to float32."""
    model = quietly(with_constants(hidden(*PATTERNS["batch norm"]), C))
    assert model.batch_norm == (BatchNorm(0.2, 1e-3),)
    assert quietly(with_constants(hidden(*PATTERNS["dropout"]), C)).dropout == (0.5,)
    old = hidden(("Relu", ["z"], "r"), ("Dropout", ["r"], "a", dict(ratio=0.3)))
    assert quietly(with_constants(old, C, opset=11)).dropout == (0.3,)
    assert quietly(with_constants(hidden(*PATTERNS["leaky"]), C)).activations[0] == A.LeakyReLU(0.1)
    assert quietly(with_constants(hidden(*PATTERNS["leaky by max"]), C)).activations[0] == A.LeakyReLU(0.1)


def test_dropout_in_training_is_refused(C):
    proto = hidden(("Relu", ["z"], "r"), ("Dropout", ["r", "half", "training"], "a"))
    with pytest.raises(ValueError, match=r"node .*Dropout.*: expected dropout of inference.*training_mode=1"):
        from_onnx(with_constants(proto, {**C, "training": np.array(True)}))
    assert quietly(with_constants(proto, {**C, "training": np.array(False)})).dropout == (0.5,)


@pytest.mark.parametrize("operator, attributes, opset, expected", [
    ("Gelu", {}, 20, A.GELU()), ("Gelu", dict(approximate="tanh"), 20, A.GELUTanh()),
    ("Swish", {}, 24, A.SiLU())])
def test_operators_of_newer_opsets(operator, attributes, opset, expected, C, X):
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip("an older onnx")
    proto = with_constants(hidden((operator, ["z"], "a", attributes)), C, opset=opset)
    proto.ir_version = helper.find_min_ir_version_for(list(proto.opset_import))
    model = quietly(proto)
    assert model.activations[0] == expected
    desired = reference.ReferenceEvaluator(proto).run(None, {"x": X})[0]
    np.testing.assert_allclose(model.forward(X), desired, rtol=4e-6, atol=4e-6)


@pytest.mark.parametrize("end, loss", [
    ([("Softmax", ["z"], "y")], "cross_entropy"),
    ([("Softmax", ["z"], "y", dict(axis=1))], "cross_entropy"),
    ([("Sigmoid", ["z"], "y")], "binary_cross_entropy"),
    ([("Exp", ["z"], "y")], "poisson"),
    ([("Identity", ["z"], "y")], "mean_squared_error")], ids=lambda x: x if isinstance(x, str) else "")
def test_the_end_becomes_the_loss(end, loss, C, X):
    proto = with_constants([("Gemm", ["x", "w", "b"], "z"), *end], C)
    model = quietly(proto)
    assert model.loss.name == loss
    if loss == "poisson":
        np.testing.assert_allclose(model.predict(X), run(proto, X), rtol=1e-5)
    else:
        assert_same_outputs(model, proto, X)


def test_log_softmax_and_loss(C, X):
    proto = with_constants([("Gemm", ["x", "w", "b"], "z"), ("LogSoftmax", ["z"], "y", dict(axis=-1))], C)
    np.testing.assert_allclose(np.log(quietly(proto).predict_proba(X)), run(proto, X), rtol=1e-5, atol=1e-6)
    assert quietly(proto, losses.CrossEntropy(0.1)).loss == losses.CrossEntropy(0.1)
    with pytest.raises(ValueError, match=r"loss: .* go through softmax, as after node 'LogSoftmax_of_y'"):
        from_onnx(proto, "huber")


def test_an_activation_at_the_end(C, X):
    proto = with_constants([("Gemm", ["x", "w", "b"], "z"), ("Tanh", ["z"], "y")], C)
    with pytest.warns(UserWarning,
                      match=r"node 'Tanh_of_y' \(Tanh\): the last layer of an MLP has no activation"):
        model = from_onnx(proto)
    assert_same_outputs(model, proto, X)


@pytest.mark.parametrize("nodes, shape", [
    ([("Flatten", ["x"], "r")], [None, 2, 3]),
    ([("Flatten", ["x"], "r", dict(axis=-2))], [None, 2, 3]),
    ([("Reshape", ["x", "shape"], "r")], [None, 2, 3]),
    ([("Reshape", ["x", "copied"], "r")], [None, 2, 3]),
    ([("Div", ["x", "two"], "h"), ("Reshape", ["h", "shape"], "r")], ["batch", 3, 2]),
    ([("Shape", ["x"], "s"), ("Gather", ["s", "at"], "n"), ("Unsqueeze", ["n", "axes"], "u"),
      ("Concat", ["u", "rest"], "t", dict(axis=0)), ("Reshape", ["x", "t"], "r")], [None, 1, 6]),
    ([("Constant", [], "k", dict(value_ints=[-1, 6])), ("Reshape", ["x", "k"], "r")], [None, 6]),
], ids=lambda x: "-".join(n[0] for n in x) if isinstance(x[0], tuple) else "")
def test_reshaped_inputs(nodes, shape, C, X):
    C |= dict(shape=np.array([-1, 6]), copied=np.array([0, -1]), at=np.array(0), axes=np.array([0]),
              rest=np.array([-1]))
    proto = with_constants([*nodes, ("MatMul", ["r", "w"], "y")], C, inputs=[("x", shape)])
    model = quietly(proto)
    assert_same_outputs(model, proto, X.reshape(-1, *shape[1:]))


def test_double(C, rng):
    C = {name: np.float64(array) for name, array in C.items()}
    proto = with_constants(hidden(("Tanh", ["z"], "a")), C, dtype=DOUBLE)
    model, X = quietly(proto), rng.normal(size=(9, 6))
    assert model.dtype == np.float64
    np.testing.assert_allclose(model.forward(X), run(proto, X), rtol=1e-13, atol=1e-13)


def test_several_outputs(C, X):
    proto = with_constants([("Gemm", ["x", "w", "b"], "z"), ("Softmax", ["z"], "p"),
                            ("ArgMax", ["z"], "label", dict(axis=1))], C, outputs=["label", "p"], check=False)
    with pytest.raises(ValueError,
                       match=r"output: expected .* one of the outputs \['label', 'p'\], got None"):
        from_onnx(proto)
    with pytest.raises(ValueError, match=r"output: .*got 'q'"):
        from_onnx(proto, output="q")
    assert quietly(proto, output="p").loss.name == "cross_entropy"
    assert quietly(proto, output="z").loss.name == "mean_squared_error"
    with pytest.raises(ValueError, match=r"node 'ArgMax_of_label' \(ArgMax\): expected a node of a fully-"):
        from_onnx(proto, output="label")


def test_functions_are_taken_apart(C, X):
    body = helper.make_function("own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])],
                                [helper.make_opsetid("", 17)])
    proto = with_constants([("Gemm", ["x", "w"], "z"), ("own:Twice", ["z"], "y")], C, domains=["own"],
                           check=False)
    proto.functions.append(body)
    assert_same_outputs(quietly(proto), proto, X)


# Read: refused -----------------------------------------------------------------------------------------

REFUSED = {
    "Conv": ([("Conv", ["x", "k"], "y")],
             r"node 'Conv_of_y' \(Conv\): expected a node of a fully-connected network"),
    "Clip": (hidden(("Clip", ["z", "zero", "six"], "a")), r"\(Clip\): .*operator Clip"),
    "PRelu": (hidden(("PRelu", ["z", "scale"], "a")), r"\(PRelu\)"),
    "domain": (hidden(("com.microsoft:FusedGemm", ["z", "v"], "a")), r"com.microsoft.FusedGemm"),
    "two branches": ([("Gemm", ["x", "w"], "a"), ("Gemm", ["x", "w"], "b_"), ("Add", ["a", "b_"], "y")],
                     r"\(Add\): expected one chain of layers, got two branches that meet"),
    "residual": ([("Gemm", ["x", "square"], "a"), ("Relu", ["a"], "r"), ("Gemm", ["r", "square"], "b_"),
                  ("Add", ["r", "b_"], "y")], r"\(Add\): expected one chain of layers, got two branches"),
    "no activation": (hidden(("Exp", ["z"], "a")), r"\(Gemm\): expected nothing after .*\(Exp\), which ends"),
    "an unknown one": (hidden(("Mul", ["z", "z"], "s"), ("Sqrt", ["s"], "a")),
                       r"\(Sqrt\): expected an expression that is one of fastmlp's activations"),
    "three summands": (hidden(("Sum", ["z", "z", "z"], "a")), r"\(Sum\): .*operator Sum"),
    "relu6": (hidden(("Relu", ["z"], "r"), ("Min", ["r", "six"], "a")), r"one of fastmlp's activations"),
    "axis": ([("Gemm", ["x", "w"], "z"), ("Softmax", ["z"], "y", dict(axis=0))],
             r"\(Softmax\): expected axis=1"),
    "softmax inside": (hidden(("Softmax", ["z"], "a")),
                       r"expected nothing after node 'Softmax_of_a' \(Softmax\)"),
    "weights that vary": ([("MatMul", ["w", "x"], "y")], r"\(MatMul\): expected rows times constant weights"),
    "weights of the input": ([("Transpose", ["x"], "t"), ("MatMul", ["x", "t"], "y")], r"\(Transpose\)"),
    "vector": ([("MatMul", ["x", "in_scale"], "y")], r"expected weights \(in, out\) .* got shape \(6,\)"),
    "bias": ([("Gemm", ["x", "w"], "z"), ("Add", ["z", "tall"], "y")],
             r"one for each of 5 units, got shape \(4, 5\)"),
    "sizes": ([("Gemm", ["x", "w"], "z"), ("Gemm", ["z", "w"], "y")],
              r"weights for 5 inputs, got shape \(6, 5\)"),
    "inputs": ([("MatMul", ["x", "v"], "y")], r"weights for 6 inputs, got shape \(5, 3\)"),
    "reshape": ([("Reshape", ["x", "mixed"], "r"), ("Gemm", ["r", "v"], "y")],
                r"\(Reshape\): expected a shape that leaves every row by itself, \(-1, 6\), got \(-1, 3\)"),
    "flatten": ([("Flatten", ["x"], "r", dict(axis=0)), ("Gemm", ["r", "w"], "y")],
                r"\(Flatten\): expected axis=1"),
    "cast": ([("Gemm", ["x", "w"], "z"), ("Cast", ["z"], "y", dict(to=onnx.TensorProto.INT32))],
             r"\(Cast\): expected a cast to float or double, got int32"),
    "half": ([("Cast", ["x"], "h", dict(to=FLOAT)), ("MatMul", ["h", "halves"], "y")],
             r"expected weights .* of float16"),
    "batch norm": ([("Gemm", ["x", "w"], "z"), ("BatchNormalization", ["z", "c", "c", "c", "c"], "y")],
                   r"expected four arrays with one number for each of 5 units"),
    "no layer": ([("Relu", ["x"], "y")], r"node 'Relu_of_y' \(Relu\)|output: expected a linear layer"),
    "no input": ([("Add", ["w", "one"], "y")],
                 r"output: expected a value that depends on the input, got 'y'"),
    "concat": ([("Gemm", ["x", "w"], "z"), ("Concat", ["z", "z"], "y", dict(axis=1))],
               r"\(Concat\): expected one"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name, C, path):
    nodes, text = REFUSED[name]
    C |= dict(k=np.zeros((1, 1, 1, 1), "f"), square=np.eye(6, dtype="f"), tall=np.ones((4, 5), "f"),
              mixed=np.array([-1, 3]), halves=np.ones((6, 5), np.float16))
    proto = with_constants(nodes, C, check=False, domains=["com.microsoft"])
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ValueError, match=text):
        from_onnx(path)


def test_bad_graphs(C):
    two = with_constants([("Add", ["x", "u"], "y")], C, inputs=[("x", [None, 6]), ("u", [None, 6])])
    with pytest.raises(ValueError, match=r"path: expected a graph with one input, got \['x', 'u'\]"):
        from_onnx(two)
    circle = with_constants([("Add", ["x", "b_"], "a"), ("Relu", ["a"], "b_"), ("MatMul", ["b_", "w"], "y")],
                            C,
                            check=False)
    with pytest.raises(ValueError, match="path: expected a valid ONNX model, got the model: .*topologically"):
        from_onnx(circle)
    wrong = with_constants([("Gemm", ["x", "w"], "y")], C)
    wrong.graph.initializer[0].dims[0] = 100
    with pytest.raises(ValueError, match="path: expected .*w"):
        from_onnx(wrong)
    old = with_constants([("MatMul", ["x", "w"], "y")], C, opset=6)
    with pytest.raises(ValueError, match="path: expected an opset from 7 up, got 6"):
        from_onnx(old)
    unknown = with_constants([("Gemm", ["x", "missing"], "y")], C, check=False)
    with pytest.raises(ValueError, match="path: expected a valid ONNX model"):
        from_onnx(unknown)


def test_bad_files(path, tmp_path):
    model = MLP([6, 50, 3], seed=0)
    model.to_onnx(path)
    whole = path.read_bytes()
    for data in (b"", b"not a model at all", whole[:len(whole) // 2], whole[:20], b"PK\3\4" + bytes(60)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="path: expected an? .*ONNX model, got .*net.onnx"):
            from_onnx(path)
    model.save(tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="path: expected an ONNX model"):
        from_onnx(tmp_path / "net.safetensors")
    with pytest.raises(FileNotFoundError, match="none.onnx"):
        from_onnx(tmp_path / "none.onnx")
    with pytest.raises(IsADirectoryError):
        from_onnx(tmp_path)
    with pytest.raises(TypeError, match="path: expected a path, got int"):
        from_onnx(3)


def test_files_of_two_gibibytes(path):
    with open(path, "wb") as file:
        file.truncate(2**31)            # a hole, which takes no room
    with pytest.raises(ValueError, match=f"path: expected a file of less than 2 GiB.* of {2**31} bytes"):
        from_onnx(path)


@pytest.mark.filterwarnings("ignore")
def test_damaged_files_raise_nothing_else(path):
    """Bytes that were changed at random give a model, or an error that says what is wrong."""
    MLP([6, 5, 3], batch_norm=True, activation="gelu", seed=0).to_onnx(path)
    whole, chance = path.read_bytes(), random.Random(0)
    refused = 0
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 5])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            from_onnx(path)
        except ValueError as error:
            assert str(error)
            refused += 1
    assert refused > 50


def test_without_onnx():
    code = """
import sys
sys.modules["onnx"] = None
import fastmlp
for call in (lambda: fastmlp.MLP([4, 3]).to_onnx("net.onnx"), lambda: fastmlp.from_onnx("net.onnx")):
    try:
        call()
    except ImportError as error:
        assert 'pip install "fastmlp[onnx]"' in str(error), error
    else:
        raise AssertionError("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# Read: the exporters of others -------------------------------------------------------------------------

def torch_module(layer):
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    activation = layer(nn)
    module = nn.Sequential(nn.Flatten(), nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), activation,
                           nn.Dropout(0.2),
                           nn.Linear(8, 7), activation, nn.Linear(7, 3), nn.Softmax(dim=1)).eval()
    module[2].running_mean.normal_()
    module[2].running_var.uniform_(0.5, 2)
    return torch, module


@contextlib.contextmanager
def silence():
    """What exporters print and warn."""
    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), \
            warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.disable(logging.NOTSET)


LAYERS = {
    "ReLU": lambda nn: nn.ReLU(), "LeakyReLU": lambda nn: nn.LeakyReLU(0.2),
    "Sigmoid": lambda nn: nn.Sigmoid(),
    "Tanh": lambda nn: nn.Tanh(), "ELU": lambda nn: nn.ELU(1.3), "SELU": lambda nn: nn.SELU(),
    "Softplus": lambda nn: nn.Softplus(), "GELU": lambda nn: nn.GELU(),
    "GELUTanh": lambda nn: nn.GELU("tanh"),
    "SiLU": lambda nn: nn.SiLU()}


@pytest.mark.parametrize("name", LAYERS)
def test_torch_script_exporter(name, X, path):
    torch, module = torch_module(LAYERS[name])
    X = X.reshape(-1, 2, 3)
    with silence():
        torch.onnx.export(module, (torch.from_numpy(X),), os.fspath(path), dynamo=False, input_names=["x"],
                          dynamic_axes={"x": {0: "batch"}})
    model = quietly(path)
    assert model.activations[0] == getattr(A, name)(*{"LeakyReLU": [0.2], "ELU": [1.3]}.get(name, []))
    assert model.layers == (6, 8, 7,
                            3) and model.batch_norm[0] == BatchNorm() and model.loss.name == "cross_entropy"
    with torch.no_grad():
        np.testing.assert_allclose(outputs(model, X), module(torch.from_numpy(X)), rtol=4e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["GELU", "Softplus"])      # a second each
def test_torch_dynamo_exporter(name, X, path):
    pytest.importorskip("onnxscript")
    torch, module = torch_module(LAYERS[name])
    X = X.reshape(-1, 2, 3)
    with silence():
        torch.onnx.export(module, (torch.from_numpy(X),), os.fspath(path), dynamo=True, verbose=False,
                          dynamic_shapes=({0: torch.export.Dim("batch")},))
    model = quietly(path)
    assert model.activations[0] == getattr(A, name)() and model.layers == (6, 8, 7, 3)
    with torch.no_grad():
        np.testing.assert_allclose(outputs(model, X), module(torch.from_numpy(X)), rtol=4e-6, atol=1e-6)


@pytest.mark.parametrize("kind, targets", [
    ("classes", lambda X: (X[:, 0] > 0) + (X[:, 1] > 0)), ("binary", lambda X: X[:, 0] > 0),
    ("labels", lambda X: X[:, :3] > 0), ("values", lambda X: X[:, 0])])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_skl2onnx(kind, targets, scaled, X):
    skl2onnx = pytest.importorskip("skl2onnx")
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    estimator = (MLPRegressor if kind == "values" else MLPClassifier)(
        hidden_layer_sizes=(8, 5), activation="tanh", max_iter=5, random_state=0)
    if scaled:
        estimator = make_pipeline(StandardScaler(), estimator)
    estimator.fit(X, targets(X))
    proto = skl2onnx.to_onnx(estimator, X[:1], options=None if kind == "values" else {"zipmap": False})
    output = None if kind == "values" else "probabilities"
    model = from_onnx(proto, output=output)
    assert model.activations[0] == A.Tanh() and model.layers[:3] == (6, 8, 5)
    desired = estimator.predict(X) if kind == "values" else estimator.predict_proba(X)
    np.testing.assert_allclose(outputs(model, X).reshape(desired.shape), desired, rtol=1e-5, atol=2e-6)
    if kind in ("classes", "binary"):
        np.testing.assert_array_equal(model.predict(X), estimator.predict(X).astype(int))


def keras_like(C):
    """As Keras writes Flatten, Dense, BatchNormalization and the swish activation."""
    C |= dict(at=np.array(0), axes=np.array([0]), rest=np.array([-1]))
    return [("Identity", ["x"], "i"), ("Shape", ["i"], "s"), ("Gather", ["s", "at"], "n"),
            ("Cast", ["n"], "m", dict(to=onnx.TensorProto.INT64)), ("Unsqueeze", ["m", "axes"], "u"),
            ("Concat", ["u", "rest"], "t", dict(axis=0)), ("Reshape", ["i", "t"], "r"),
            ("MatMul", ["r", "w"], "z"), ("Cast", ["z"], "f", dict(to=FLOAT)), ("Add", ["f", "b"], "d"),
            ("Sub", ["d", "mean"], "e"), ("Mul", ["e", "variance"], "g"), ("Add", ["g", "scale"], "h"),
            ("Sigmoid", ["h"], "j"), ("Mul", ["h", "j"], "a"), ("MatMul", ["a", "v"], "k"),
            ("Add", ["k", "c"], "l"),
            ("Softmax", ["l"], "y")]


def test_graphs_like_keras(C, X):
    proto = with_constants(keras_like(C), C, inputs=[("x", [None, 2, 3])])
    model = quietly(proto)
    assert repr(model) == "MLP([6, 5, 3], activation=['silu'], loss='cross_entropy', dtype='float32')"
    assert_same_outputs(model, proto, X.reshape(-1, 2, 3), tolerance=4e-6)


def test_keras(X, path):
    pytest.importorskip("torch")
    if not importlib.util.find_spec("keras"):       # to import it takes a backend, which the program names
        pytest.skip("Keras is not installed")
    code = f"""
import os
os.environ["KERAS_BACKEND"] = "torch"
import keras, numpy as np
from keras import layers as L
X = np.load({os.fspath(path.parent / "X.npy")!r})
model = keras.Sequential([
    keras.Input((2, 3)), L.Flatten(), L.Dense(8), L.BatchNormalization(), L.Activation("gelu"),
    L.Dropout(0.3), L.Dense(7, activation="leaky_relu"), L.Dense(3, activation="softmax")])
np.save({os.fspath(path.parent / "y.npy")!r}, model.predict(X, verbose=0))
model.export({os.fspath(path)!r}, format="onnx", verbose=False)
"""
    X = X.reshape(-1, 2, 3)
    np.save(path.parent / "X.npy", X)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    model = quietly(path)
    assert model.activations[:2] == (A.GELU(), A.LeakyReLU(0.2)) and model.layers == (6, 8, 7, 3)
    np.testing.assert_allclose(outputs(model, X), np.load(path.parent / "y.npy"), rtol=4e-6, atol=1e-6)


def test_what_is_read_can_be_trained(C, X, rng):
    model, y = quietly(with_constants(hidden(("Relu", ["z"], "a")), C), "cross_entropy",
                       seed=0), rng.integers(0, 3, 30)
    before = model.evaluate(X, y)["loss"]
    model.fit(X, y, epochs=30, batch_size=10, optimizer=SGD(0.1), progress=False)
    assert model.evaluate(X, y)["loss"] < 0.9 * before


def test_names():
    assert fastmlp.from_onnx is from_onnx
