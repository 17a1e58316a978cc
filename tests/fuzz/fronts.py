"""What fastmlp stands in for: random networks of PyTorch and ONNX, damaged files, estimators of scikit-learn.

Needs the packages of the extra "fronts". Most cases are those in which ours alone is at work: a session of
onnxruntime, or a fit of scikit-learn, costs as much as fifty of them.
"""
from __future__ import annotations

import functools

import numpy as np
import onnx
import onnxruntime
import torch
from fuzzing import any_value, choice, damaged_bytes, rounding
from sklearn import neural_network as theirs
from torch import nn

import fastmlp
import fastmlp.functional as F
import fastmlp.sklearn as ours
from fastmlp import MLP

EXPECTED = (ValueError, TypeError, NotImplementedError, OSError, MemoryError)
MODULES = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity, nn.ELU, nn.SiLU, nn.Softplus, nn.LeakyReLU, nn.GELU,
           nn.SELU]
ACTIVATIONS = ["relu", "tanh", "sigmoid", "identity", "elu", "gelu", "silu", "leaky_relu", "softplus"]
OPERATORS = ["Gemm", "Relu", "Conv", "Softmax", "Reshape", "", "MatMul", "Add"]
PATH = "model.onnx"
torch.set_num_threads(1)


def size(rng):
    return int(choice(rng, [1, 2, 3, 8, 17]))


def network(rng, n_in, depth=0):
    """Layers of an nn.Sequential, and how many numbers come out."""
    layers = []
    for _ in range(int(rng.integers(1, 5))):
        way = int(rng.integers(8))
        if way < 3:
            n_out = size(rng)
            layers.append(nn.Linear(n_in, n_out, bias=bool(rng.integers(2))))
            n_in = n_out
        elif way < 6:
            layers.append(choice(rng, MODULES)())
        elif way == 6:
            layers.append(nn.BatchNorm1d(n_in) if rng.random() < 0.5 else nn.Dropout(0.3))
        elif depth < 2:
            inner, n_in = network(rng, n_in, depth + 1)
            layers.append(nn.Sequential(*inner))
    return layers, n_in


def from_torch(rng):
    n_in = size(rng)
    torch.manual_seed(int(rng.integers(2**31)))
    module = nn.Sequential(*network(rng, n_in)[0])
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.uniform_(-1, 1)
            layer.running_var.uniform_(0.5, 2)
    X = rng.standard_normal((5, n_in)).astype("f4")
    try:
        model = fastmlp.from_torch(module)
    except EXPECTED:
        return
    with torch.no_grad():
        expected = module.eval()(torch.from_numpy(X)).numpy()
    nothing = nn.Sequential, nn.Identity, nn.Dropout
    acting = [layer for layer in module.modules() if not isinstance(layer, nothing)]
    outputs = model.forward(X)
    if acting and isinstance(acting[-1], nn.Sigmoid):       # it belongs to the loss
        outputs = F.sigmoid(outputs)
    rounding(outputs, expected, f"{module}", 1e-4)


def random_model(rng):
    layers = [size(rng) for _ in range(int(rng.integers(2, 5)))]
    activations = [choice(rng, ACTIVATIONS) for _ in layers[2:]]
    return MLP(layers, activation=activations or "relu", batch_norm=bool(rng.integers(2)), dropout=0.1,
               loss="mean_squared_error", seed=int(rng.integers(100)))


def to_onnx(rng):
    model = random_model(rng)
    model.to_onnx(PATH)
    session = onnxruntime.InferenceSession(PATH, session_options())
    X = rng.standard_normal((4, model.layers[0])).astype("f4")
    (found,) = session.run(None, {session.get_inputs()[0].name: X})
    rounding(model.forward(X), found, repr(model), 1e-4)
    rounding(fastmlp.from_onnx(PATH).forward(X), found, repr(model), 1e-4)


@functools.cache
def session_options():
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


def both_ways(rng):
    """A model that has become a module, or a file, and a model again."""
    model = random_model(rng)
    X = rng.standard_normal((4, model.layers[0])).astype("f4")
    if rng.random() < 0.5:
        other = fastmlp.from_torch(model.to_torch())
    else:
        model.to_onnx(PATH)
        other = fastmlp.from_onnx(PATH)
    rounding(other.forward(X), model.forward(X), repr(model), 1e-4)


@functools.cache
def originals() -> list[bytes]:
    """Files of ONNX."""
    rng, made = np.random.default_rng(0), []
    for _ in range(30):
        random_model(rng).to_onnx(PATH)
        with open(PATH, "rb") as file:
            made.append(file.read())
    return made


def damaged_onnx(rng):
    data = choice(rng, originals())
    if rng.random() < 0.5:
        data = damaged_bytes(rng, data, originals())
    else:
        proto = onnx.ModelProto.FromString(data)
        node = choice(rng, list(proto.graph.node))
        change = int(rng.integers(6))
        if change == 0:
            node.op_type = choice(rng, OPERATORS)
        elif change == 1 and node.input:
            node.input[int(rng.integers(len(node.input)))] = choice(rng, ["", "nothing", node.output[0]])
        elif change == 2 and node.attribute:
            del node.attribute[int(rng.integers(len(node.attribute)))]
        elif change == 3 and node.attribute:
            attribute = choice(rng, list(node.attribute))
            attribute.i = int(choice(rng, [-1, 0, 1, 2, 2**40]))
            attribute.f = float(choice(rng, [0, -1, np.nan]))
        elif proto.graph.initializer:
            tensor = choice(rng, list(proto.graph.initializer))
            if change == 4:
                tensor.data_type = int(rng.integers(0, 24))
            else:
                tensor.dims.append(int(choice(rng, [0, 2, -1, 2**40])))
        data = proto.SerializeToString()
    with open(PATH, "wb") as file:
        file.write(data)
    try:
        model = fastmlp.from_onnx(PATH)
    except EXPECTED:
        return
    model.forward(np.zeros((2, model.layers[0]), model.dtype))


def odd_estimators(rng):
    """Parameters and data that may be wrong: a fit, or one of the errors of scikit-learn's rules."""
    estimator = (ours.MLPClassifier if rng.random() < 0.5 else ours.MLPRegressor)(max_iter=2, random_state=0)
    X, y = rng.standard_normal((12, 3)), rng.integers(0, 2, 12)
    names = sorted(estimator.get_params())
    tables = [X[:, :0], X[0], X * np.nan, X.astype(">f4"), X.astype(object), X[:1]]
    targets = [y[:-1], y * 1j, y.astype(str), y[:, None], y * np.nan]
    for _ in range(int(rng.integers(1, 3))):
        odd = any_value(rng)
        way = int(rng.integers(6))
        if way < 4:
            estimator.set_params(**{choice(rng, names): odd})
        elif way == 4:
            X = choice(rng, [odd, *tables])
        else:
            y = choice(rng, [odd, *targets])
    if isinstance(estimator.max_iter, int) and estimator.max_iter > 2:      # what ends it has to be there
        estimator.set_params(n_iter_no_change=1, tol=1.0)
    try:
        estimator.fit(X, y).predict(X)
    except (TypeError, ValueError, AttributeError, OverflowError):
        pass


def estimators(rng):
    """The same parameters and data: the same losses, or an error in both."""
    classifier = bool(rng.integers(2))
    parameters = {
        "hidden_layer_sizes": choice(rng, [(5,), (4, 3), 6, ()]), "max_iter": int(rng.integers(1, 4)),
        "random_state": int(rng.integers(50)),
        "activation": choice(rng, ["relu", "tanh", "logistic", "identity"]),
        "solver": choice(rng, ["adam", "sgd"]), "alpha": choice(rng, [1e-4, 0.0, 0.1]),
        "learning_rate": choice(rng, ["constant", "adaptive", "invscaling"]),
        "batch_size": choice(rng, ["auto", 7, 32]), "early_stopping": bool(rng.random() < 0.3),
        "learning_rate_init": choice(rng, [0.001, 0.05]), "momentum": choice(rng, [0.9, 0.0]),
        "nesterovs_momentum": bool(rng.integers(2)), "shuffle": bool(rng.integers(2))}
    faulty = rng.random() < 0.15
    if faulty:
        odd, name = any_value(rng), choice(rng, sorted(parameters.keys() - {"random_state"}))
        # Ours may be a function, as a schedule, and a list of activations, of no layers, too.
        if odd is not object and not (name == "activation" and isinstance(odd, (list, tuple))):
            parameters[name] = odd
    n, d = int(choice(rng, [3, 30, 61])), int(choice(rng, [1, 4, 9]))
    X = rng.standard_normal((n, d))
    y = rng.integers(0, int(choice(rng, [2, 3])), n) if classifier else rng.standard_normal(n)
    if rng.random() < 0.1 and not faulty:       # which of two faults is found first may differ
        X[0, 0] = np.nan
    found = []
    for module in (theirs, ours):
        estimator = (module.MLPClassifier if classifier else module.MLPRegressor)(**parameters)
        try:
            found.append(estimator.fit(X, y).loss_curve_)
        except Exception as error:
            found.append(error)
    about = f"{parameters}, {X.shape}, {'classifier' if classifier else 'regressor'}"
    curves = [losses for losses in found if not isinstance(losses, Exception)]
    if len(curves) == 1 and curves[0][0] > np.finfo(float).max ** 0.5:      # as in `rounding`: it overflows
        return
    if isinstance(found[0], Exception) or isinstance(found[1], Exception):
        if not isinstance(found[0], type(found[1])) and not isinstance(found[1], type(found[0])):
            raise AssertionError(f"{about}\nscikit-learn: {found[0]!r}\nfastmlp:      {found[1]!r}")
        return
    rounding(np.array(found[1]), np.array(found[0]), about, 1e-6)


def case(rng):
    cheap = [from_torch, from_torch, both_ways, both_ways, damaged_onnx, damaged_onnx, damaged_onnx,
             odd_estimators]
    dear = [to_onnx, estimators]
    choice(rng, cheap if rng.random() < 0.96 else dear)(rng)
