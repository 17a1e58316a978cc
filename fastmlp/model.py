"""MLP: a fully-connected network. Owns the parameters, checks what it is given, and calls the engine."""
from __future__ import annotations

import os
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import activations, checks, initializers, losses
from fastmlp.backends import active
from fastmlp.layout import LINE, Parameters, padded_row
from fastmlp.optimizers import SGD
from fastmlp.threads import get_num_threads

__all__ = ["MLP", "Gradients", "History"]

Array = NDArray[Any]
Callback = Callable[["MLP", int, "dict[str, float]"], Any]

RESPONSE_SECONDS = 0.05         # how long the engine runs before Ctrl-C and the progress bar are looked at
CONVERTED_ROWS = 1024           # rows of a dtype that the engine does not read, converted at a time
BLOCK_ROWS = 4096               # rows that are evaluated, or looked through, at a time
READABLE = frozenset("?bBhHiIlLqQefd")      # dtypes (in native byte order) that the engine reads in place


class History(dict[str, "list[float]"]):
    """What `fit` recorded, a list with one number per epoch for every name; also as attributes.

    loss, val_loss      the mean loss over the samples, of training (while it learned) and of validation
    val_accuracy        share of right labels (classification), with validation data
    samples_per_second  of training alone

    >>> History(loss=[0.5, 0.25]).loss[-1]
    0.25
    """

    def __getattr__(self, name: str) -> list[float]:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no {name!r} was recorded, only {', '.join(self)}") from None


class Gradients:
    """Gradients of the loss: weights[i] (in, out) and biases[i] (out,), like the model's own.

    >>> model = MLP([2, 3, 2], seed=0)
    >>> loss, gradients = model.loss_and_gradients(np.zeros((1, 2), np.float32), [1])
    >>> gradients.weights[0].shape, gradients.biases[1].shape
    ((2, 3), (2,))
    """

    def __init__(self, parameters: Parameters) -> None:
        self.weights = parameters.weights
        self.biases = parameters.biases


class MLP:
    """A multi-layer perceptron: y_0 = x, y_i = f_i(y_{i-1} w_i + b_i), and a loss on the last y.

    layers      units of every layer, inputs first: [784, 256, 128, 10] has two hidden layers
    activation  f of the hidden layers: a name or an object of `fastmlp.activations`, or a list with one for
                each. The last layer is linear; its output function (softmax, or none) belongs to the loss.
    loss        "cross_entropy" (classes) or "mean_squared_error" (values), see `fastmlp.losses`
    init        of the weights: "auto", a name of `fastmlp.initializers`, or a function
                (rng, fan_in, fan_out) -> (fan_in, fan_out)
    dtype       "float32" or "float64", of parameters and computation
    seed        of the initial weights and of the shuffling; None for a fresh one
    bias_init   of the biases: a name, or a function (rng, n) -> (n,); 0 if not given

    weights[i] (in, out) and biases[i] (out,) are live: what is written there is what the network uses. They
    are views of one flat buffer whose rows are padded to whole cache lines.

    Raises TypeError for a dtype or setting of the wrong kind; ValueError for fewer than two layers, a layer
    without units, unknown names, or too few activations.

    Source: Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323,
    1986; Goodfellow, Bengio, Courville, "Deep Learning", 2016, chapter 6.

    >>> model = MLP([2, 8, 2], activation="tanh", seed=0)
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> history = model.fit(X, [0, 1, 1, 0], epochs=500, batch_size=4, optimizer=SGD(0.5), progress=False)
    >>> model.predict(X)
    array([0, 1, 1, 0])
    """

    def __init__(
        self,
        layers: Sequence[int],
        activation: Any = "relu",
        loss: Any = "cross_entropy",
        init: Any = "auto",
        dtype: Any = "float32",
        seed: int | None = None,
        *,
        bias_init: Any = "zeros",
    ) -> None:
        self.layers = checks.layer_sizes("layers", layers)
        hidden = len(self.layers) - 2
        if isinstance(activation, (list, tuple)):
            if len(activation) != hidden:
                raise ValueError(
                    f"activation: expected one for each of {hidden} hidden layers, got {len(activation)}")
            self.activations = [activations.resolve(f) for f in activation]
        else:
            self.activations = [activations.resolve(activation)] * hidden
        self.activations.append(activations.Identity())
        self.loss = losses.resolve(loss)
        initializers.check(init)
        initializers.check_biases(bias_init)
        self.dtype = checks.float_dtype("dtype", dtype)
        self.backend = active()
        size = sum((a + 1) * padded_row(b, self.dtype.itemsize) for a, b in zip(self.layers, self.layers[1:]))
        checks.addressable("layers", (size + LINE,), self.dtype)

        self._rng = np.random.default_rng(checks.seed("seed", seed))
        self._parameters = Parameters(self.layers, self.dtype)
        self.weights = self._parameters.weights
        self.biases = self._parameters.biases
        for w, f in zip(self.weights, self.activations):
            w[...] = initializers.initial_weights(init, self._rng, *w.shape, f)
        for w, b in zip(self.weights, self.biases):         # after the weights, which do not depend on them
            b[...] = initializers.initial_biases(bias_init, self._rng, *w.shape)
        self._engine = self.backend.Engine(self._parameters, self.activations, self.loss)
        self._forward = self._engine.forward
        self._trainer: tuple[int, int] | None = None        # process and thread that train this model

    def __repr__(self) -> str:
        names = [f.name for f in self.activations[:-1]]
        return (f"MLP({list(self.layers)}, activation={names}, loss={self.loss.name!r}, "
                f"dtype={self.dtype.name!r})")

    # Inference ---------------------------------------------------------------------------------------

    def forward(self, X: ArrayLike, out: Array | None = None) -> Array:
        """The last layer before its output function: logits (n, C), or values (n, outputs).

        X (n, inputs) of any numeric dtype and strides. A row's result is the same, to the bit, alone or
        among others. `out`, of the model's dtype, must not share memory with X.

        Raises TypeError for an X that is not numeric or an `out` of another dtype, ValueError for shapes
        that do not fit and an `out` that is read-only or overlaps X.

        >>> MLP([3, 4, 2], seed=0).forward(np.zeros((5, 3))).shape
        (5, 2)
        """
        plain = out is None or type(out) is np.ndarray and all(out.strides)
        if plain and type(X) is np.ndarray and X.ndim == 2:
            result = np.empty((X.shape[0], self.layers[-1]), self.dtype) if out is None else out
            try:
                if self.backend.COMPILED and self._forward(X, result, get_num_threads()):
                    return result
            except (TypeError, ValueError, BufferError, AttributeError):
                pass
        return self._forward_checked(X, out)

    def _forward_checked(self, X: ArrayLike, out: Array | None) -> Array:
        X = checks.table("X", X, self.layers[0])
        shape = (len(X), self.layers[-1])
        checks.output("out", out, shape, self.dtype, {"X": X})
        result = np.empty(shape, self.dtype)
        for rows in _blocks(len(X)):
            self._forward(_readable(X[rows], self.dtype), result[rows], get_num_threads())
        if out is None:
            return result
        out[...] = result
        return out

    def predict(self, X: ArrayLike) -> Array:
        """Class labels (n,), the largest logit's; or values (n, outputs), (n,) where there is one output.

        Raises as `forward` does.

        >>> MLP([3, 4, 2], seed=0).predict(np.zeros((5, 3)))
        array([0, 0, 0, 0, 0])
        """
        outputs = self.forward(X)
        if self.loss.classifies:
            return outputs.argmax(axis=1)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def predict_proba(self, X: ArrayLike) -> Array:
        """Class probabilities (n, C): softmax of the logits.

        Raises as `forward` does, and AttributeError for a loss that is not about classes.

        >>> MLP([3, 4, 2], seed=0).predict_proba(np.zeros((1, 3)))
        array([[0.5, 0.5]], dtype=float32)
        """
        if not self.loss.classifies:
            raise AttributeError(f"predict_proba: the outputs of {self.loss.name!r} are values, not classes")
        logits = self.forward(X)
        return self.backend.softmax(logits, out=logits)

    def evaluate(self, X: ArrayLike, y: ArrayLike) -> dict[str, float]:
        """The mean loss over the samples, and the accuracy where the loss is about classes.

        Raises as `forward` does, and for targets that do not fit the loss.

        >>> MLP([3, 4, 2], seed=0).evaluate(np.zeros((5, 3)), [0, 0, 0, 0, 1])["accuracy"]
        0.8
        """
        X = checks.table("X", X, self.layers[0])
        checks.has_samples("X", X)
        targets = self._targets("y", y, len(X))
        loss = self.backend.softmax_cross_entropy if self.loss.classifies else self.backend.mean_squared_error
        total, right = 0.0, 0
        for rows in _blocks(len(X)):
            outputs = self.forward(X[rows])
            t = targets[rows]
            if t.ndim == 2:
                t = np.ascontiguousarray(t, self.dtype)
            total += loss(outputs, t)[0] * len(outputs)
            if self.loss.classifies:
                right += int((outputs.argmax(axis=1) == (t if t.ndim == 1 else t.argmax(axis=1))).sum())
        result = {"loss": total / len(X)}
        if self.loss.classifies:
            result["accuracy"] = right / len(X)
        return result

    # Training ----------------------------------------------------------------------------------------

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        epochs: int = 10,
        batch_size: int = 128,
        optimizer: SGD | None = None,
        validation_data: tuple[ArrayLike, ArrayLike] | None = None,
        shuffle: bool = True,
        callbacks: Iterable[Callback] = (),
        progress: bool = True,
    ) -> History:
        """Minibatch training: `epochs` passes over the samples, `batch_size` of them at a step.

        X (n, inputs) of any numeric dtype (images in uint8, tables in float64, a memory map), converted
        batch by batch. y: class indices (n,) or probabilities (n, C); values (n, outputs) or (n,).
        The last batch of an epoch may be smaller. `optimizer` is SGD(0.01) if not given; its state goes on
        from the last call. `shuffle` draws a new order for every epoch. `callbacks` are called as
        f(model, epoch, logs) after every epoch, epoch counted from 0, logs with the epoch's numbers; True
        ends the training. `progress` shows a bar with loss and samples per second.

        Ctrl-C ends training between two steps, with KeyboardInterrupt: the model is usable and has learned
        what it has. A loss that is no longer finite warns (RuntimeWarning) once.

        Raises TypeError and ValueError for arguments that do not fit, before anything changes.

        Source: Bottou, "Large-Scale Machine Learning with Stochastic Gradient Descent", COMPSTAT 2010.

        >>> model = MLP([1, 1], loss="mean_squared_error", seed=0)
        >>> x = np.linspace(-1, 1, 64)[:, None]
        >>> history = model.fit(x, 3 * x + 1, epochs=200, batch_size=16, optimizer=SGD(0.1), progress=False)
        >>> history.loss[-1] < 1e-6
        True
        """
        X = checks.table("X", X, self.layers[0])
        checks.has_samples("X", X)
        targets = self._targets("y", y, len(X))
        epochs = checks.integer("epochs", epochs, low=0)
        batch_size = min(checks.integer("batch_size", batch_size, low=1), len(X))
        optimizer = _optimizer(optimizer)
        callbacks = checks.functions("callbacks", callbacks)
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) != 2:
                raise TypeError(f"validation_data: expected (X, y), got {type(validation_data).__name__}")
            validation_X = checks.table("validation_data X", validation_data[0], self.layers[0])
            checks.has_samples("validation_data X", validation_X)
            self._targets("validation_data y", validation_data[1], len(validation_X))

        with self._training():
            return self._fit(X, targets, epochs, batch_size, optimizer, validation_data, shuffle, callbacks,
                             progress)

    def _fit(self, X: Array, targets: Array, epochs: int, batch_size: int, optimizer: SGD,
             validation_data: Any, shuffle: bool, callbacks: tuple[Callback, ...], progress: bool) -> History:
        history = History(loss=[], samples_per_second=[])
        steps = -(-len(X) // batch_size)
        order = np.arange(len(X)) if shuffle else None
        for epoch in range(epochs):
            if order is not None:
                self._rng.shuffle(order)
            with _bar(len(X), f"epoch {epoch + 1}/{epochs}") if progress else nullcontext() as bar:
                logs = self._epoch(X, targets, order, batch_size, steps, optimizer, bar)
                if validation_data is not None:
                    for name, value in self.evaluate(*validation_data).items():
                        logs[f"val_{name}"] = value
                if bar is not None:
                    bar.set_postfix({name: f"{value:.4g}" for name, value in logs.items() if "loss" in name
                                     or "accuracy" in name})
            if not np.isfinite(logs["loss"]) and np.isfinite(history["loss"]).all():
                warnings.warn(f"the loss of epoch {epoch + 1} is {logs['loss']}: training has diverged, or X "
                              "holds values that are not finite", RuntimeWarning, stacklevel=3)
            for name, value in logs.items():
                history.setdefault(name, []).append(value)
            stop = [callback(self, epoch, dict(logs)) is True for callback in callbacks]
            if any(stop):
                break
        return history

    def _epoch(self, X: Array, targets: Array, order: Array | None, batch_size: int, steps: int,
               optimizer: SGD, bar: Any) -> dict[str, float]:
        """One pass over the samples, in runs of the engine that are short enough to answer Ctrl-C."""
        n = len(X)
        readable = X.dtype.isnative and X.dtype.char in READABLE
        total, step, run, most, seconds = 0.0, 0, 1, steps, 0.0
        if not readable:
            most = max(1, CONVERTED_ROWS // batch_size)
        while step < steps:
            stop = min(step + min(run, most), steps)
            start_sample, stop_sample = step * batch_size, min(stop * batch_size, n)
            started = time.perf_counter()
            if readable:
                total = self._train(X, targets, order, batch_size, step, stop, optimizer, total)
            else:
                rows = slice(start_sample, stop_sample) if order is None else order[start_sample:stop_sample]
                total = self._train(_readable(X[rows], self.dtype), targets[rows], None, batch_size, 0,
                                    stop - step, optimizer, total)
            elapsed = time.perf_counter() - started
            seconds += elapsed
            run = max(1, min(2 * run, int((stop - step) * RESPONSE_SECONDS / max(elapsed, 1e-9))))
            step = stop
            if bar is not None:
                bar.set_postfix_str(f"loss {total / stop_sample:.4g}", refresh=False)
                bar.update(stop_sample - start_sample)
        return {"loss": total / n, "samples_per_second": n / max(seconds, 1e-9)}

    def _train(self, X: Array, targets: Array, order: Array | None, batch_size: int, first: int, last: int,
               optimizer: SGD, total: float = 0.0) -> float:
        """`total` plus the losses of all samples of these steps, added one by one: how the epoch is cut into
        runs leaves no trace in its last bit."""
        return self._engine.train(X, targets, order, batch_size, first, last, optimizer,
                                  optimizer.velocity(self._parameters), total, get_num_threads())

    def train_step(self, X: ArrayLike, y: ArrayLike, optimizer: SGD) -> float:
        """One step on one minibatch, all rows of X; the mean loss before the step.

        Raises as `fit` does.

        >>> model, optimizer = MLP([2, 8, 2], seed=0), SGD(0.1)
        >>> X, y = np.eye(2), np.array([0, 1])
        >>> model.train_step(X, y, optimizer) > model.train_step(X, y, optimizer)
        True
        """
        X = checks.table("X", X, self.layers[0])
        checks.has_samples("X", X)
        targets = self._targets("y", y, len(X))
        optimizer = _optimizer(optimizer)
        with self._training():
            return self._train(_readable(X, self.dtype), targets, None, len(X), 0, 1, optimizer) / len(X)

    def loss_and_gradients(self, X: ArrayLike, y: ArrayLike) -> tuple[float, Gradients]:
        """The mean loss over the rows of X and its gradients, by backpropagation; the model stays as it is.

        Raises as `fit` does.

        Source: Rumelhart, Hinton, Williams, 1986.

        >>> model = MLP([2, 2], loss="mean_squared_error", dtype="float64", seed=0)
        >>> loss, gradients = model.loss_and_gradients(np.eye(2), model.predict(np.eye(2)))
        >>> loss, float(abs(gradients.weights[0]).max())
        (0.0, 0.0)
        """
        X = checks.table("X", X, self.layers[0])
        checks.has_samples("X", X)
        targets = self._targets("y", y, len(X))
        gradients = Parameters(self.layers, self.dtype)
        with self._training():
            loss = self._engine.gradients(_readable(X, self.dtype), targets, gradients, get_num_threads())
        return loss, Gradients(gradients)

    def save(self, path: str | os.PathLike[str], optimizer: Any = None) -> None:
        """Write the model to a file in the safetensors format; `fastmlp.load(path)` reads it.

        Holds the parameters, layers, activations, loss, dtype and the state of the random generator; with
        `optimizer` its state for this model, too, so that training goes on as if it had not been interrupted.
        A file at `path` is replaced at once, when the new one is complete. No pickle.

        Raises ImportError without the package safetensors (the extra `safetensors`), TypeError for a loss of
        the caller's own, which is code, and OSError where the file cannot be written.

        >>> MLP([4, 3]).save("net.safetensors")  # doctest: +SKIP
        """
        from fastmlp.files import save  # here, since it needs this module

        save(self, path, optimizer)

    def workspace_nbytes(self, batch_size: int) -> int:
        """Bytes that training with this batch size holds beside the data and the parameters.

        >>> MLP([4, 16, 3]).workspace_nbytes(16) > 16 * (4 + 16 + 3) * 4
        True
        """
        batch_size = checks.integer("batch_size", batch_size, low=1)
        width = sum(padded_row(n, 4) for n in self.layers)
        checks.addressable("batch_size", (batch_size, 8 * width), self.dtype)
        return self._engine.workspace_nbytes(batch_size)

    @contextmanager
    def _training(self) -> Iterator[None]:
        """One thread trains a model at a time; what a forked child inherits of it does not count."""
        me, other = (os.getpid(), threading.get_ident()), self._trainer
        if other is not None and other != me and other[0] == me[0]:
            raise RuntimeError("the model is being trained by another thread")
        self._trainer = me
        try:
            yield
        finally:
            self._trainer = other

    def _targets(self, name: str, y: ArrayLike, n: int) -> Array:
        """Class indices (n,) as intp, or rows (n, outputs) of a readable dtype; looked through by blocks."""
        outputs = self.layers[-1]
        y = checks.as_array(name, y)
        if self.loss.classifies and (y.ndim != 2 or y.shape == (n, 1) and y.dtype.kind in "iu"):
            return np.ascontiguousarray(checks.labels(name, y.reshape(-1) if y.ndim == 2 else y, n, outputs))
        if y.ndim == 1 and outputs == 1:
            y = y[:, None]
        y = checks.table(name, y, outputs)
        if len(y) != n:
            raise ValueError(f"{name}: expected {n} rows, one for each row of X, got {len(y)}")
        for rows in _blocks(n):
            block = y[rows].astype(self.dtype, copy=False)
            if self.loss.classifies:
                checks.probabilities(name, block)
            else:
                checks.no_nan(name, block)
        return _readable(y, self.dtype)


def _bar(total: int, description: str) -> Any:
    from tqdm.auto import tqdm  # here, since it takes several megabytes

    return tqdm(total=total, desc=description, unit=" samples", unit_scale=True)


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + BLOCK_ROWS, n)) for start in range(0, n, BLOCK_ROWS)]


def _readable(X: Array, dtype: np.dtype[Any]) -> Array:
    """X itself where the engine reads its dtype, else converted."""
    return X if X.dtype.isnative and X.dtype.char in READABLE else X.astype(dtype)


def _optimizer(optimizer: Any) -> SGD:
    if optimizer is None:
        return SGD()
    if not isinstance(optimizer, SGD):
        raise TypeError(f"optimizer: expected an object of fastmlp.optimizers, got {optimizer!r}")
    return optimizer
