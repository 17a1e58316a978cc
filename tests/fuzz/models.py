"""Models: any calls in any order, right and wrong ones, on both backends, interrupted at any step.

A call that fails changes nothing; copies, pickles and files are the same model; training goes on as if
nothing had been between, from a file too; blocks of samples train as arrays do, and a handle gives what the
model gave.
"""
from __future__ import annotations

import copy
import os
import pickle

import numpy as np
import scipy.sparse
from fuzzing import LAYOUTS, any_value, choice, contents, lay_out, rounding

import fastmlp
from fastmlp import MLP, SGD, AdaGrad, Adam, AdamW, Checkpoint, Diagnostics, EarlyStopping, RMSprop
from fastmlp.data import Chunks

EXPECTED = (TypeError, ValueError, AttributeError, OverflowError, RuntimeError, OSError)
ACTIVATIONS = ["relu", "leaky_relu", "tanh", "sigmoid", "identity", "elu", "gelu", "silu", "softplus"]
CLASSES = ["cross_entropy", "multiclass_hinge", "kl_divergence"]
VALUES = ["mean_squared_error", "mean_absolute_error", "huber"]
OPTIMIZERS = [
    lambda: SGD(0.01), lambda: SGD(0.01, momentum=0.9), lambda: SGD(0.01, momentum=0.9, nesterov=True),
    lambda: SGD(0.01, clip_norm=0.1, l1=0.01), lambda: Adam(0.001), lambda: AdamW(0.001, weight_decay=0.1),
    lambda: RMSprop(0.001), lambda: AdaGrad(0.01)]
PATH = "model.safetensors"


class Stop(Exception):
    pass


class StopAt:
    """Ends a training at one of its steps, counted from 0."""

    def __init__(self, step, error=Stop):
        self.step, self.error = step, error

    def on_step_end(self, model, step, logs):
        self.step -= 1
        if self.step < 0:
            raise self.error


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
        # NumPy has no bfloat16: there it takes a hundred times as long.
        compiled = fastmlp.get_backend() == "cython"
        if compiled and self.options["dtype"] == "float32" and rng.random() < 0.25:
            self.options["compute_dtype"] = "bfloat16"
        self.optimizer = choice(rng, OPTIMIZERS)()
        self.model = MLP(self.layers, **self.options)
        self.exact = self.model.backend.COMPILED        # sums of NumPy's depend on where arrays lie

    def data(self, rng):
        n = int(choice(rng, [1, 2, 5, 40, 65]))
        X = rng.standard_normal((n, self.layers[0]))
        if rng.random() < 0.7:
            X = X.astype(self.options["dtype"])
        if rng.random() < 0.2:
            X = lay_out(rng, X, choice(rng, LAYOUTS[:10]))
        y = rng.standard_normal((n, self.layers[-1]))
        if self.is_classifier:
            y = rng.integers(0, self.layers[-1], n)
        if self.options["loss"] == "kl_divergence":
            y = np.full((n, self.layers[-1]), 1 / self.layers[-1])
        return X, y

    def copy(self):
        result = copy.copy(self)
        result.model, result.optimizer = copy.deepcopy((self.model, self.optimizer))
        return result

    def contents(self):
        return contents(self.model, self.optimizer)

    def replace(self, other, about):
        """Be the other from now on, which has the same contents."""
        if self.contents() != other.contents():
            raise AssertionError(about)
        self.model, self.optimizer = other.model, other.optimizer

    def fit(self, X, y=None, **options):
        self.model.fit(X, y, optimizer=self.optimizer, progress=False, **options)


# Calls that are right ------------------------------------------------------------------------------------

def fit(rng, s):
    X, y = s.data(rng)
    options = {"epochs": int(rng.integers(1, 4)), "batch_size": int(choice(rng, [1, 7, 32, 64])),
               "shuffle": bool(rng.integers(2)), "callbacks": callbacks(rng)}
    if rng.random() < 0.2:
        options["sample_weight"] = rng.random(len(X)) * rng.integers(0, 2, len(X))
        options["sample_weight"][0] = 1
    if rng.random() < 0.2:
        options["validation_data"] = s.data(rng)
    try:
        s.fit(X, y, **options)
    except (Stop, KeyboardInterrupt):
        s.model.forward(X)


def callbacks(rng):
    """Now and then one that ends the training, watches it, or saves it."""
    way, at = int(rng.integers(10)), int(rng.integers(3))
    error = choice(rng, [Stop, KeyboardInterrupt])

    def stop(model, epoch, logs):
        if epoch >= at:
            raise error

    if way < 5:
        return []
    return [[stop, StopAt(2 * at, error), EarlyStopping(1, monitor="loss"), Diagnostics(1 + at, warn=False),
             Checkpoint(PATH)][way - 5]]


def train_step(rng, s):
    X, y = s.data(rng)
    s.model.train_step(X, y, s.optimizer)


def forward(rng, s):
    X, _ = s.data(rng)
    expected = s.model.forward(X)
    out = np.empty_like(expected, subok=False)
    if s.model.forward(X, out=out) is not out:
        raise AssertionError("forward returned another array than out")
    if s.exact:
        rows = np.concatenate([s.model.forward(X[i:i + 1]) for i in range(len(X))])
        if not out.tobytes() == expected.tobytes() == rows.tobytes():
            raise AssertionError("a row alone has other bits than in its batch")


def evaluate(rng, s):
    X, y = s.data(rng)
    s.model.evaluate(X, y)
    s.model.predict(X)
    if s.is_classifier and s.options["loss"] == "cross_entropy":
        s.model.predict_proba(X)


def look(rng, s):
    before = s.contents()
    X, y = s.data(rng)
    s.model.loss_and_gradients(X, y)
    s.model.hidden(X)
    s.model.workspace_nbytes(len(X), s.optimizer)
    str(s.model.summary())
    repr((s.model, s.optimizer))
    if s.contents() != before:
        raise AssertionError("a look has changed the model")


def handle(rng, s):
    """It gives what the model gave, whatever becomes of the model."""
    X, _ = s.data(rng)
    compiled = s.model.compile_predict(choice(rng, [None, len(X)]), threads=int(rng.integers(1, 4)))
    expected = s.model.forward(X)
    choice(rng, [train_step, assign])(rng, s)
    out = np.empty_like(expected, subok=False)
    for found in (compiled(X), compiled(X, out)):
        if s.exact and found.tobytes() != expected.tobytes():
            raise AssertionError("a handle gives other bits than the model gave")


def sparse(rng, s):
    X, y = s.data(rng)
    X = np.asarray(X) * (rng.random(np.shape(X)) < 0.4)
    rows = scipy.sparse.csr_matrix(X)
    if np.abs(contents_as_numbers(s)).max() < 1e6:
        rounding(s.model.forward(rows), s.model.forward(X), "sparse rows", 1e-3)
    s.fit(rows, y, epochs=1, batch_size=7)


def contents_as_numbers(s):
    return np.nan_to_num(np.concatenate([a.ravel() for a in (*s.model.weights, *s.model.biases)]), nan=np.inf)


def blocks(rng, s):
    """Blocks of any sizes train as the array does."""
    X, y = s.data(rng)
    X, y = np.asarray(X), np.asarray(y)
    options = {"epochs": 2, "batch_size": int(choice(rng, [7, 32])), "shuffle": False}
    other = s.copy()
    ends = [0, *sorted(rng.integers(0, len(X) + 1, 3)), len(X)]
    cut = [(X[a:b], y[a:b]) for a, b in zip(ends, ends[1:])]
    s.fit(X, y, **options)
    other.fit(Chunks(cut, buffer_rows=int(choice(rng, [1, 40, 1000]))), **options)
    if s.exact:
        s.replace(other, "blocks have trained another model than the array")


# Copies, files, and what is changed from outside ------------------------------------------------------------

def save(rng, s):
    s.model.save(PATH, optimizer=s.optimizer)
    other = copy.copy(s)
    other.optimizer = copy.copy(s.optimizer)
    other.model = fastmlp.load(PATH, optimizer=other.optimizer)
    s.replace(other, "a file holds another model")


def copies(rng, s):
    other = s.copy()
    if rng.random() < 0.5:
        protocol = int(rng.integers(2, 6))
        other.model, other.optimizer = pickle.loads(pickle.dumps((s.model, s.optimizer), protocol))
    s.replace(other, "a copy is another model")


def resume(rng, s):
    """A run that was interrupted at some step, and goes on from its file, ends as if it had not been."""
    X, y = s.data(rng)
    interrupted, again = s.copy(), s.copy()
    options = {"epochs": 2, "batch_size": int(choice(rng, [3, 7, 32]))}
    kept = options | {"checkpoint": PATH, "checkpoint_every": int(rng.integers(1, 4))}
    s.fit(X, y, **options)
    try:
        interrupted.fit(X, y, **kept, callbacks=[StopAt(int(rng.integers(12)))])
    except Stop:
        pass
    again.fit(X, y, **kept, resume=True)
    os.remove(PATH)
    if s.exact:
        s.replace(again, "a run that was resumed ends with another model")


def assign(rng, s):
    model, i = s.model, int(rng.integers(len(s.model.weights)))
    way = int(rng.integers(6))
    if way == 0:
        model.weights[i] *= 0.5
    elif way == 1:
        model.biases[i] = np.zeros(s.layers[i + 1], s.options["dtype"])
    elif way == 2:
        s.optimizer.lr = float(rng.random() * 0.01)
    elif way == 3:
        model.weights = [w[::-1, ::-1] for w in model.weights]
    elif way == 4 and len(s.layers) > 2:
        model.dropout = float(choice(rng, [0, 0.2]))
    else:
        s.optimizer.set_state(model, s.optimizer.get_state(model))


# Calls that are wrong --------------------------------------------------------------------------------------

def wrong(rng, s):
    """A call that cannot be right: an error, and nothing has changed."""
    X, y = s.data(rng)
    before = s.contents()
    bad = any_value(rng)
    few = X[:, :-1]
    calls = [
        lambda: s.fit(few if rng.random() < 0.5 else bad, y),
        lambda: s.fit(X, bad),
        lambda: s.fit(X, y, batch_size=choice(rng, [0, -1, "x", 0.5])),
        lambda: s.fit(X, y, epochs=choice(rng, [-1, "x", 0.5])),
        lambda: s.fit(X, y, callbacks=choice(rng, [1, ["x"], [None]])),
        lambda: s.fit(X, y, checkpoint=choice(rng, ["x.txt", 1, "no/such/folder/x.safetensors"])),
        lambda: s.fit(X, y, sample_weight=choice(rng, [-np.ones(len(X)), bad, np.full(len(X), np.nan)])),
        lambda: s.fit(Chunks([(few, y)])),
        lambda: s.fit(Chunks([(X, y)]), y),
        lambda: s.fit(X, y, validation_data=(few, y)),
        lambda: s.model.train_step(X, bad, s.optimizer),
        lambda: s.model.forward(bad),
        lambda: s.model.forward(X, out=bad if bad is not None else X[:, :0]),
        lambda: s.model.evaluate(X, y[:-1] if len(y) > 1 else bad),
        lambda: s.model.compile_predict(choice(rng, [0, -1, "x"]), choice(rng, ["logits", "x", bad])),
        lambda: s.model.compile_predict()(few if rng.random() < 0.5 else bad),
        lambda: s.model.save(choice(rng, [1, None, "x.txt", "no/such/folder/x.safetensors"])),
        lambda: s.model.hidden(few),
        lambda: s.model.loss_and_gradients(X, bad),
        lambda: s.model.weights.__setitem__(0, bad),
        lambda: setattr(s.model, choice(rng, ["weights", "biases", "dropout", "layers", "loss"]), bad),
        lambda: setattr(s.optimizer, "lr", choice(rng, [-1.0, "x", float("nan"), None])),
        lambda: s.optimizer.set_state(s.model, {"step": bad}),
        lambda: s.fit(np.full_like(X, np.nan), y, epochs=0)]
    try:
        choice(rng, calls)()
    except EXPECTED:
        pass
    else:
        return          # it was right after all (True is 1, ...)
    if s.contents() != before:
        raise AssertionError("a call that failed has changed the model")


CALLS = [fit, fit, train_step, train_step, wrong, wrong, wrong, forward, evaluate, look, handle, sparse,
         blocks, save, copies, resume, assign, assign]


def case(rng):
    with fastmlp.use_backend("numpy" if rng.random() < 0.12 else "cython"):
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
