"""Models: any calls in any order, right and wrong ones, on both backends, interrupted at any step.

A call that fails changes nothing; copies, pickles and files are the same model; and training goes on as if
nothing had been between.
"""
from __future__ import annotations

import copy
import os
import pickle
import tempfile

import numpy as np
from fuzzing import any_value, choice

import fastmlp
from fastmlp import MLP, SGD, AdaGrad, Adam, AdamW, RMSprop

EXPECTED = (TypeError, ValueError, AttributeError, OverflowError, RuntimeError)
ACTIVATIONS = ["relu", "leaky_relu", "tanh", "sigmoid", "identity", "elu", "gelu", "silu", "softplus"]
CLASSES = ["cross_entropy", "multiclass_hinge", "kl_divergence"]
VALUES = ["mean_squared_error", "mean_absolute_error", "huber"]
OPTIMIZERS = [
    lambda: SGD(0.01), lambda: SGD(0.01, momentum=0.9), lambda: SGD(0.01, momentum=0.9, nesterov=True),
    lambda: SGD(0.01, clip_norm=0.1, l1=0.01), lambda: Adam(0.001), lambda: AdamW(0.001, weight_decay=0.1),
    lambda: RMSprop(0.001), lambda: AdaGrad(0.01)]


class Stop(Exception):
    pass


class Subject:
    """A model, its optimizer, and data that fit it."""

    def __init__(self, rng):
        depth = int(rng.integers(1, 4))
        self.layers = [int(choice(rng, [1, 2, 3, 7, 16, 20, 33])) for _ in range(depth + 1)]
        self.is_classifier = rng.random() < 0.6
        if self.is_classifier:
            self.layers[-1] = max(2, self.layers[-1])
        self.options = {
            "activation": choice(rng, ACTIVATIONS),
            "loss": choice(rng, CLASSES if self.is_classifier else VALUES),
            "dtype": choice(rng, ["float32", "float64"]), "seed": int(rng.integers(100)),
            "batch_norm": bool(rng.random() < 0.3 and depth > 1), "dropout": float(choice(rng, [0, 0, 0.3])),
            "init": choice(rng, ["glorot_uniform", "he_normal"])}
        self.optimizer = choice(rng, OPTIMIZERS)()
        self.model = MLP(self.layers, **self.options)

    def data(self, rng):
        n = int(choice(rng, [1, 2, 5, 40, 65]))
        X = rng.standard_normal((n, self.layers[0]))
        if rng.random() < 0.7:
            X = X.astype(self.options["dtype"])
        y = rng.standard_normal((n, self.layers[-1]))
        if self.is_classifier:
            y = rng.integers(0, self.layers[-1], n)
        if self.options["loss"] == "kl_divergence":
            y = np.full((n, self.layers[-1]), 1 / self.layers[-1])
        return X, y


def contents(model, optimizer):
    """Everything that training changes."""
    return [a.tobytes() for a in (*model.weights, *model.biases)] + [
        np.asarray(v).tobytes() for v in optimizer.get_state(model).values()]


def fit(rng, s):
    X, y = s.data(rng)
    options = {"epochs": int(rng.integers(1, 4)), "batch_size": int(choice(rng, [1, 7, 32, 64])),
               "shuffle": bool(rng.integers(2))}
    if rng.random() < 0.2:
        options["sample_weight"] = rng.random(len(X)) * rng.integers(0, 2, len(X))
        options["sample_weight"][0] = 1
    if rng.random() < 0.2:
        options["validation_data"] = s.data(rng)
    if rng.random() < 0.2:
        at = int(rng.integers(0, 3))

        def stop(model, epoch, logs):
            if epoch >= at:
                raise choice(rng, [Stop, KeyboardInterrupt])
        options["callbacks"] = [stop]
    try:
        s.model.fit(X, y, optimizer=s.optimizer, progress=False, **options)
    except (Stop, KeyboardInterrupt):
        s.model.forward(X)


def train_step(rng, s):
    X, y = s.data(rng)
    s.model.train_step(X, y, s.optimizer)


def wrong(rng, s):
    """A call that cannot be right: an error, and nothing has changed."""
    X, y = s.data(rng)
    before = contents(s.model, s.optimizer)
    bad = any_value(rng)

    def fit(X, y, **options):
        s.model.fit(X, y, optimizer=s.optimizer, progress=False, **options)

    calls = [
        lambda: fit(X[:, :-1] if rng.random() < 0.5 else bad, y),
        lambda: fit(X, bad),
        lambda: fit(X, y, batch_size=choice(rng, [0, -1, "x", None, 0.5])),
        lambda: fit(X, y, epochs=choice(rng, [-1, "x", 0.5])),
        lambda: s.model.train_step(X, bad, s.optimizer),
        lambda: s.model.forward(bad),
        lambda: s.model.forward(X, out=bad if bad is not None else X[:, :0]),
        lambda: s.model.evaluate(X, y[:-1] if len(y) > 1 else bad),
        lambda: s.model.weights.__setitem__(0, bad),
        lambda: setattr(s.optimizer, "lr", choice(rng, [-1.0, "x", float("nan"), None])),
        lambda: s.optimizer.set_state(s.model, {"step": bad}),
        lambda: fit(np.full_like(X, np.nan), y, epochs=0)]
    try:
        choice(rng, calls)()
    except EXPECTED:
        pass
    else:
        return          # it was right after all (True is 1, ...)
    if contents(s.model, s.optimizer) != before:
        raise AssertionError("a call that failed has changed the model")


def forward(rng, s):
    X, _ = s.data(rng)
    expected = s.model.forward(X)
    out = np.empty_like(expected)
    if s.model.forward(X, out=out) is not out:
        raise AssertionError("forward returned another array than out")
    if fastmlp.get_backend() == "cython":
        rows = np.concatenate([s.model.forward(X[i:i + 1]) for i in range(len(X))])
        if not out.tobytes() == expected.tobytes() == rows.tobytes():
            raise AssertionError("a row alone has other bits than in its batch")


def evaluate(rng, s):
    X, y = s.data(rng)
    s.model.evaluate(X, y)
    s.model.predict(X)
    if s.is_classifier and s.options["loss"] == "cross_entropy":
        s.model.predict_proba(X)


def save(rng, s):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.safetensors")
        s.model.save(path, optimizer=s.optimizer)
        other = copy.copy(s.optimizer)
        model = fastmlp.load(path, optimizer=other)
    replace(s, model, other)


def copies(rng, s):
    if rng.random() < 0.5:
        replace(s, *copy.deepcopy((s.model, s.optimizer)))
    else:
        replace(s, *pickle.loads(pickle.dumps((s.model, s.optimizer), int(rng.integers(2, 6)))))


def replace(s, model, optimizer):
    if contents(model, optimizer) != contents(s.model, s.optimizer):
        raise AssertionError("a copy is not the same model")
    s.model, s.optimizer = model, optimizer


def assign(rng, s):
    i = int(rng.integers(len(s.model.weights)))
    way = int(rng.integers(3))
    if way == 0:
        s.model.weights[i] *= 0.5
    elif way == 1:
        s.model.biases[i] = np.zeros(s.layers[i + 1], s.options["dtype"])
    else:
        s.optimizer.lr = float(rng.random() * 0.01)


def gradients(rng, s):
    X, y = s.data(rng)
    before = contents(s.model, s.optimizer)
    s.model.loss_and_gradients(X, y)
    if contents(s.model, s.optimizer) != before:
        raise AssertionError("loss_and_gradients has changed the model")


CALLS = [fit, fit, train_step, train_step, wrong, wrong, forward, evaluate, save, copies, assign, gradients]


def case(rng):
    with fastmlp.use_backend("numpy" if rng.random() < 0.25 else "cython"):
        subjects = [Subject(rng) for _ in range(int(rng.integers(1, 3)))]
        for _ in range(int(rng.integers(1, 8))):
            s, call = choice(rng, subjects), choice(rng, CALLS)
            try:
                call(rng, s)
            except ValueError as error:
                if "batch norm" not in str(error):      # batches of single rows have no statistics
                    raise AssertionError(f"{call.__name__}: {s.layers} {s.options} {s.optimizer}") from error
            except Exception as error:
                raise AssertionError(f"{call.__name__}: {s.layers} {s.options} {s.optimizer}") from error
