"""The same network and the same training in several libraries, each the way its users write it.

A library takes initial weights and biases and trains with SGD on softmax cross-entropy, ReLU between the
layers. `prepare` and the making of a call are not timed, `epoch` and the call are.
"""
from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from common import Call

import fastmlp

LEARNING_RATE = 0.001       # of the speed measurements: small, so that hours of it on noise stay finite


class Library:
    """name, the package it needs, and what it cannot do"""

    name = ""
    package = ""
    trains = True
    probabilities = False       # whether its calls give probabilities where others give logits

    def __init__(self, weights: list[Any], biases: list[Any], lr: float = LEARNING_RATE,
                 momentum: float = 0.0, nesterov: bool = False, threads: int = 1) -> None:
        self.layers = [w.shape[0] for w in weights] + [len(biases[-1])]
        self.lr, self.momentum, self.nesterov, self.threads = lr, momentum, nesterov, threads
        self.build(weights, biases)

    def build(self, weights: list[Any], biases: list[Any]) -> None:
        raise NotImplementedError

    def prepare(self, X: Any, y: Any, batch: int) -> None:
        """Samples (n, inputs) and class indices (n,) for `epoch`, in the library's own arrays."""
        self.X, self.y, self.batch = X, y, batch

    def epoch(self, shuffle: bool = False) -> None:
        """Train once over the samples."""
        raise NotImplementedError

    def loss(self) -> float:
        """The mean loss over the steps of the last epoch."""
        raise NotImplementedError

    def call(self, x: Any) -> Call:
        """The forward pass of x."""
        raise NotImplementedError


class FastMLP(Library):
    name = "fastmlp"
    package = "fastmlp"
    backend = "cython"

    def build(self, weights, biases):
        with fastmlp.use_backend(self.backend):
            self.model = fastmlp.MLP(self.layers, dtype=weights[0].dtype, seed=0)
        for own, given in zip(self.model.weights + self.model.biases, weights + biases):
            own[...] = given
        self.optimizer = fastmlp.SGD(self.lr, self.momentum, self.nesterov)

    def epoch(self, shuffle=False):
        self.history = self.model.fit(self.X, self.y, epochs=1, batch_size=self.batch,
                                      optimizer=self.optimizer, shuffle=shuffle, progress=False)

    def loss(self):
        return self.history.loss[-1]

    def call(self, x):
        out = np.empty((len(x), self.layers[-1]), x.dtype)
        return Call("forward(x, out=out)", {"forward": self.model.forward, "x": x, "out": out})


class NumPy(FastMLP):
    name = "NumPy backend"
    backend = "numpy"


class PyTorch(Library):
    name = "PyTorch"
    package = "torch"

    def build(self, weights, biases):
        import torch
        self.torch = torch
        torch.set_num_threads(self.threads)
        modules: list[Any] = []
        for w, b in zip(weights, biases):
            linear = torch.nn.Linear(*w.shape)
            with torch.no_grad():
                linear.weight.copy_(torch.from_numpy(w.T.copy()))
                linear.bias.copy_(torch.from_numpy(b.copy()))
            modules += [linear, torch.nn.ReLU()]
        self.model = torch.nn.Sequential(*modules[:-1])
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), self.lr, self.momentum, nesterov=self.nesterov)
        self.criterion = torch.nn.CrossEntropyLoss()

    def prepare(self, X, y, batch):
        super().prepare(self.torch.from_numpy(X), self.torch.from_numpy(y), batch)

    def epoch(self, shuffle=False):
        self.torch.set_grad_enabled(True)
        order = self.torch.randperm(len(self.X)) if shuffle else None
        self.losses = []
        for start in range(0, len(self.X), self.batch):
            rows = slice(start, start + self.batch)
            if order is not None:
                rows = order[rows]
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(self.X[rows]), self.y[rows])
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.detach())

    def loss(self):
        return float(self.torch.stack(self.losses).mean())

    def call(self, x):
        self.torch.set_grad_enabled(False)
        return Call("forward(x)", {"forward": self.model, "x": self.torch.from_numpy(x)})


class JAX(Library):
    """A jitted step, called for every batch."""

    name = "JAX jit"
    package = "jax"

    def build(self, weights, biases):
        import jax
        self.jax = jax
        self.parameters = [(jax.numpy.array(w), jax.numpy.array(b)) for w, b in zip(weights, biases)]

        def forward(parameters, x):
            for w, b in parameters[:-1]:
                x = jax.nn.relu(x @ w + b)
            w, b = parameters[-1]
            return x @ w + b

        def loss(parameters, x, y):
            log_p = jax.nn.log_softmax(forward(parameters, x))
            return -jax.numpy.take_along_axis(log_p, y[:, None], axis=1).mean()

        def step(parameters, batch):
            value, gradients = jax.value_and_grad(loss)(parameters, *batch)
            return jax.tree.map(lambda p, g: p - self.lr * g, parameters, gradients), value

        self.forward = jax.jit(forward)
        self.step = jax.jit(step, donate_argnums=0)
        self.scan = jax.jit(lambda p, batches: jax.lax.scan(step, p, batches), donate_argnums=0)

    def prepare(self, X, y, batch):
        array = self.jax.numpy.asarray
        self.batches = [(array(X[i:i + batch]), array(y[i:i + batch])) for i in range(0, len(X), batch)]

    def epoch(self, shuffle=False):
        self.losses = []
        for batch in self.batches:
            self.parameters, loss = self.step(self.parameters, batch)
            self.losses.append(loss)
        self.jax.block_until_ready(self.parameters)

    def loss(self):
        return float(np.mean(self.losses))

    def call(self, x):
        names = {"forward": self.forward, "parameters": self.parameters, "x": self.jax.numpy.asarray(x)}
        return Call("forward(parameters, x).block_until_ready()", names)


class JAXScan(JAX):
    """All steps of an epoch in one compiled call."""

    name = "JAX scan"

    def prepare(self, X, y, batch):
        array = self.jax.numpy.asarray
        self.batches = array(X.reshape(-1, batch, X.shape[1])), array(y.reshape(-1, batch))

    def epoch(self, shuffle=False):
        self.parameters, self.losses = self.jax.block_until_ready(self.scan(self.parameters, self.batches))


class ScikitLearn(Library):
    name = "scikit-learn"
    package = "sklearn"
    probabilities = True

    def build(self, weights, biases):
        self.initial = weights, biases
        self.model: Any = None

    def prepare(self, X, y, batch):
        super().prepare(X, y, batch)
        self._model(batch)

    def _model(self, batch):
        """The classifier, with the initial weights in place of the ones it draws when it first sees data."""
        from sklearn.neural_network import MLPClassifier
        if self.model is None:
            self.model = MLPClassifier(
                self.layers[1:-1], solver="sgd", alpha=0.0, batch_size=batch, learning_rate_init=self.lr,
                momentum=self.momentum, nesterovs_momentum=self.nesterov, random_state=0)
            weights, biases = self.initial
            classes = np.arange(self.layers[-1])
            X = np.zeros((batch, self.layers[0]), weights[0].dtype)
            self.model.partial_fit(X, np.resize(classes, batch), classes=classes)
            for own, given in zip(self.model.coefs_ + self.model.intercepts_, weights + biases):
                own[...] = given
            for velocity in self.model._optimizer.velocities:
                velocity[...] = 0
        self.model.batch_size = batch
        return self.model

    def epoch(self, shuffle=False):
        self.model.shuffle = shuffle
        self.model.partial_fit(self.X, self.y)

    def loss(self):
        return self.model.loss_

    def call(self, x):
        return Call("forward(x)", {"forward": self._model(len(x)).predict_proba, "x": x})


class ONNXRuntime(Library):
    """Inputs and outputs are bound once: the fastest way to call it."""

    name = "ONNX Runtime"
    package = "onnxruntime"
    trains = False

    def build(self, weights, biases):
        import onnxruntime
        from onnx import TensorProto, helper, numpy_helper
        nodes, constants, last = [], [], "x"
        for i, (w, b) in enumerate(zip(weights, biases)):
            constants += [numpy_helper.from_array(np.ascontiguousarray(w), f"w{i}"),
                          numpy_helper.from_array(np.ascontiguousarray(b), f"b{i}")]
            final = i == len(weights) - 1
            nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], ["y" if final else f"z{i}"]))
            if not final:
                nodes.append(helper.make_node("Relu", [f"z{i}"], [f"y{i}"]))
            last = f"y{i}"
        graph = helper.make_graph(
            nodes, "mlp",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", self.layers[0]])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", self.layers[-1]])], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options,
                                                    providers=["CPUExecutionProvider"])
        self.runtime = onnxruntime

    def call(self, x):
        value = self.runtime.OrtValue.ortvalue_from_numpy
        out = value(np.empty((len(x), self.layers[-1]), x.dtype))
        binding = self.session.io_binding()
        binding.bind_ortvalue_input("x", value(x))
        binding.bind_ortvalue_output("y", out)
        names = {"run": self.session.run_with_iobinding, "binding": binding, "out": out}
        return Call("run(binding) or out", names)


LIBRARIES = {library.name: library for library in
             (FastMLP, NumPy, PyTorch, JAX, JAXScan, ScikitLearn, ONNXRuntime)}


def installed() -> list[str]:
    """The names of the libraries that are here."""
    return [name for name, library in LIBRARIES.items()
            if find_spec(library.package) and (name != "ONNX Runtime" or find_spec("onnx"))]


def initial(layers: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Weights and biases to start with: those of `fastmlp.MLP`."""
    model = fastmlp.MLP(layers, dtype=dtype, seed=seed)
    return [np.ascontiguousarray(w) for w in model.weights], [b.copy() for b in model.biases]
