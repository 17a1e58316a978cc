"""MLP: a fully-connected network. Owns the parameters, checks what it is given, and calls the engine."""
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np

from fastmlp import activations, backends, initializers, losses, normalization
from fastmlp import metrics as measures
from fastmlp._core import (
    batches,
    callers,
    checks,
    defaults,
    divergence,
    names,
    scales,
    sources,
    state,
    step_hooks,
)
from fastmlp._core.attributes import Guarded
from fastmlp._core.copying import VERSION, check_state, moved
from fastmlp._core.core import Core, batch_of, engine_for, samples_of
from fastmlp._core.finite import has_nan
from fastmlp._core.keeper import make_keeper
from fastmlp._core.layout import LINE, Arrays, Parameters, Statistics, padded_row
from fastmlp._core.network import Samples
from fastmlp._core.progress import progress_of
from fastmlp._core.start import Start
from fastmlp._core.threads import get_num_threads
from fastmlp.backends import active
from fastmlp.data._blocks import warn as warn_of_block
from fastmlp.data._chunks import as_source
from fastmlp.data._feed import Feed, feed_of
from fastmlp.optimizers import Optimizer
from fastmlp.restarts import fit_with_restarts
from fastmlp.training import History, Training, train

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike, DTypeLike

    from fastmlp._core.types import (
        ActivationLike,
        Array,
        BatchNormLike,
        BiasInitializer,
        Callback,
        ClassWeight,
        Initializer,
        LossLike,
        Metric,
        Metrics,
        OptimizerLike,
        Path,
        RowsLike,
        SamplesLike,
        Setting,
        ValidationData,
    )
    from fastmlp.activations import Activation
    from fastmlp.backends.interface import Backend, Engine
    from fastmlp.data import Source
    from fastmlp.normalization import BatchNorm

if TYPE_CHECKING:
    from fastmlp.inference import InferenceHandle
    from fastmlp.summary import Summary

__all__ = ["MLP", "Gradients"]

BLOCK_ROWS = 4096               # rows that are evaluated, or looked through, at a time


class Gradients(Guarded):
    """Gradients of the loss, in the same shapes as the parameters of the model.

    Attributes
    ----------
    weights : sequence of ndarray, shape (in, out)
        Gradients of the weights of every layer.
    biases : sequence of ndarray, shape (out,)
        Gradients of the biases of every layer.
    scales : sequence of ndarray, shape (out,), or None
        Gradients of the scales of every layer; None for a layer without batch normalisation.

    Notes
    -----
    All are of the dtype of the model. Assignments copy values into these arrays.

    Examples
    --------
    >>> model = MLP([2, 3, 2], seed=0)
    >>> loss, gradients = model.loss_and_gradients(np.zeros((1, 2), np.float32), [1])
    >>> gradients.weights[0].shape, gradients.biases[1].shape
    ((2, 3), (2,))
    """

    weights: Setting[Arrays[Array], Iterable[ArrayLike]]
    biases: Setting[Arrays[Array], Iterable[ArrayLike]]
    scales: Setting[Arrays[Array | None], Iterable[ArrayLike | None]]

    settable = {name: lambda self, values, name=name: _copied_in(getattr(self, name), values)  # type: ignore[misc]
                for name in ("weights", "biases", "scales")}       # mypy infers no lambda with a default

    def __init__(self, parameters: Parameters) -> None:
        self.__dict__.update(weights=parameters.weights, biases=parameters.biases, scales=parameters.scales)


def _current(name: str) -> Any:
    """A property: arrays of a model, as they are between two runs of the engine, too."""
    def get(self: MLP) -> Arrays[Any]:
        if hasattr(self.core, "engine"):
            self.core.engine.write_back()
        arrays: Arrays[Any] = self.__dict__[name]
        return arrays

    def store(self: MLP, arrays: Arrays[Any]) -> None:
        self.__dict__[name] = arrays

    return property(get, store)


class MLP(Guarded):
    """Multi-layer perceptron: a chain of fully-connected layers, and a loss on its output.

    With the input x and the activations f_i::

        y_0 = x
        y_i = f_i(y_{i-1} w_i + b_i)

    Parameters
    ----------
    layers : sequence of int
        Units of every layer, inputs first: [784, 256, 128, 10] has two hidden layers.
    activation : str, Activation, class or list of them, default "relu"
        Activation f of the hidden layers: a name or an object of `fastmlp.activations`, or a list with one
        for each. The last layer is linear; its output function (softmax, ...) belongs to the loss.
    loss : str, Loss, class or callable, default "auto"
        A name or an object of `fastmlp.losses`, or a function of your own, loss(logits, targets) ->
        (mean loss, its gradient over the logits). "auto" follows from the number of outputs: cross-entropy
        for the classes of several outputs, mean squared error for the values of one. Values of several
        outputs, and labels 0 and 1 of one, want a loss that says so: "mse", "bce".
    init : str or callable, default "auto"
        Initialiser of the weights: "auto", a name or an object of `fastmlp.initializers`, or a function
        (rng, fan_in, fan_out) -> (fan_in, fan_out).
    dtype : str or dtype, default "float32"
        "float32" or "float64", of parameters and computation.
    seed : int, optional
        Seed of the initial weights, of shuffling and of dropout. A fresh one if not given.
    bias_init : str or callable, default "zeros"
        Initialiser of the biases: a name, or a function (rng, n) -> (n,).
    dropout : float or list of float, default 0.0
        Share of the outputs of hidden layers that each training step leaves out, from 0 to below 1; the
        others are scaled by 1 / (1 - dropout), so that their sum is expected to stay. A list has one for each
        layer.
    batch_norm : bool, BatchNorm or list of them, default False
        True, or a `fastmlp.BatchNorm` with settings, for hidden layers; or a list with one for each.
    compute_dtype : {"bfloat16"}, optional
        Type to which the operands of matrix products are rounded, in training and in prediction. "bfloat16",
        with dtype "float32", is faster on processors that have it, and gives the same bits on all of them.
        Sums, parameters and all else stay float32. ``dtype`` if not given.

    Attributes
    ----------
    weights : sequence of ndarray, shape (in, out)
        Weights of every layer, live: what is written there is what the network uses.
    biases : sequence of ndarray, shape (out,)
        Biases of every layer, live.
    scales : sequence of ndarray, shape (out,), or None
        Scales of batch normalisation, live; None for a layer without it.
    running_means : sequence of ndarray, shape (out,), or None
        Running means of batch normalisation; None for a layer without it.
    running_variances : sequence of ndarray, shape (out,), or None
        Running variances of batch normalisation; None for a layer without it.
    history : History or None
        What the last call of `fit` returned, or, where that was interrupted, the epochs that were over. None
        before the first call, and in copies.

    Raises
    ------
    TypeError
        For a dtype or a setting of the wrong type.
    ValueError
        For fewer than two layers, a layer without units, unknown names, too few activations, a dropout out
        of range, or a ``compute_dtype`` that does not go with ``dtype``.
    MemoryError
        For a network that is larger than the machine's memory.

    Warns
    -----
    RuntimeWarning
        Once, of a ``compute_dtype`` for which the processor has nothing faster than float32.

    Notes
    -----
    The parameters are views of one flat buffer whose rows are padded to whole cache lines. An assignment,
    ``model.weights[i] = w`` or ``model.weights = [w, ...]``, copies in what has the same shapes, all of it or
    nothing, and raises TypeError for arrays that would be narrowed (float64 in a model of float32);
    ``model.dropout`` may be assigned between two epochs. All other attributes are fixed.

    Models can be copied (``copy.copy`` and ``copy.deepcopy`` alike) and pickled; the copy goes on training to
    the same bits. An optimizer is copied in one structure with its model, ``copy.deepcopy((model,
    optimizer))``, to go on from its state. Pickles hold a version, and are read by releases that have the
    same one; `save` writes files to keep.

    References
    ----------
    Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323, 1986.

    Goodfellow, Bengio, Courville, "Deep Learning", 2016, chapters 6 and 7.

    Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 15, 2014.

    Examples
    --------
    >>> from fastmlp import SGD
    >>> model = MLP([2, 8, 2], activation="tanh", seed=0)
    >>> X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    >>> history = model.fit(X, [0, 1, 1, 0], epochs=500, batch_size=4, optimizer=SGD(0.5), progress=False)
    >>> model.predict(X)
    array([0, 1, 1, 0])
    """

    layers: tuple[int, ...]
    activations: tuple[Activation, ...]
    dropout: Setting[tuple[float, ...], float | Sequence[float]]
    batch_norm: tuple[BatchNorm | None, ...]
    loss: losses.Loss
    dtype: np.dtype[Any]
    compute_dtype: str | None
    backend: Backend
    history: History | None
    core: Core
    _forward: Callable[[Any, Array, int], bool]     # of the engine
    _classifies: bool
    _many_rows: int
    _many_samples: int

    @names.keywords(names.MODEL)
    def __init__(
        self,
        layers: Sequence[int],
        activation: ActivationLike | Sequence[ActivationLike] = "relu",
        loss: LossLike = "auto",
        init: str | Initializer = "auto",
        dtype: DTypeLike = "float32",
        seed: int | None = None,
        *,
        bias_init: str | BiasInitializer = "zeros",
        dropout: float | Sequence[float] = 0.0,
        batch_norm: BatchNormLike | Sequence[BatchNormLike] = False,
        compute_dtype: str | None = None,
    ) -> None:
        layers = checks.layer_sizes("layers", layers)
        hidden = len(layers) - 2
        functions = _for_each("activation", activation, hidden, activations.resolve)
        dropout = _for_each("dropout", dropout, hidden, _dropout)
        batch_norm = _for_each("batch_norm", batch_norm, hidden, normalization.resolve)
        loss_is_usual = isinstance(loss, str) and loss == "auto"
        loss = losses.usual(layers[-1]) if loss_is_usual else losses.resolve(loss)
        init, bias_init = initializers.check(init), initializers.check_biases(bias_init)
        dtype, seed = checks.float_dtype("dtype", dtype), checks.seed("seed", seed)
        compute_dtype = checks.compute_dtype("compute_dtype", compute_dtype, dtype)
        self._make(layers, (*functions, activations.Identity()), dropout, batch_norm, loss, dtype,
                   compute_dtype, active())
        self.core.seed = seed
        self.core.loss_is_usual = loss_is_usual
        start = self.core.start = Start(init, bias_init, seed)
        start.draw(self.core, self.activations, start.seed)
        self._use_engine(engine_for(self, self.core.parameters, dropout, 0))

    def _make(self, layers: tuple[int, ...], functions: tuple[Activation, ...],
              dropout: tuple[float, ...], batch_norm: tuple[BatchNorm | None, ...],
              loss: losses.Loss, dtype: np.dtype[Any], compute_dtype: str | None, backend: Backend) -> None:
        """Settings, which have been checked, and arrays; without an engine yet."""
        size = sum((a + 2) * padded_row(b, dtype.itemsize) for a, b in zip(layers, layers[1:]))
        nbytes = (size + LINE) * dtype.itemsize
        if nbytes > checks.SMALL_NBYTES:
            checks.fits_memory("layers", nbytes, f"a network {list(layers)} of {dtype}")
        small = checks.SMALL_NBYTES // dtype.itemsize
        normalised = [norm is not None for norm in (*batch_norm, None)]
        parameters = Parameters(layers, dtype, normalised)
        statistics = Statistics(layers, dtype, normalised)
        self.__dict__.update(
            layers=layers, activations=functions, dropout=dropout, batch_norm=batch_norm, loss=loss,
            dtype=dtype, compute_dtype=compute_dtype, backend=backend, history=None,
            weights=parameters.weights, biases=parameters.biases, scales=parameters.scales,
            running_means=statistics.means, running_variances=statistics.variances,
            core=Core(parameters, statistics),
            # Looked up here, for a call with one row takes 2 us: what predictions are, and from how many rows
            # on outputs, and from how many samples on a step, are compared with the machine's memory.
            _classifies=loss.classifies, _many_rows=small // layers[-1],
            _many_samples=max(0, small - parameters.buffer.size) // sum(layers))

    def _use_engine(self, engine: Engine) -> None:
        self.core.engine = engine
        self.__dict__["_forward"] = engine.forward

    def __repr__(self) -> str:
        names = [f.name for f in self.activations[:-1]]
        options: dict[str, Sequence[object]] = {"dropout": list(self.dropout),
                   "batch_norm": [norm is not None for norm in self.batch_norm]}
        more = "".join(f", {name}={value}" for name, value in options.items() if any(value))
        if self.compute_dtype is not None:
            more += f", compute_dtype={self.compute_dtype!r}"
        return (f"MLP({list(self.layers)}, activation={names}, loss={self.loss.name!r}, "
                f"dtype={self.dtype.name!r}{more})")

    # Attributes and copies ---------------------------------------------------------------------------

    weights: Setting[Arrays[Array], Iterable[ArrayLike]] = _current("weights")
    biases: Setting[Arrays[Array], Iterable[ArrayLike]] = _current("biases")
    scales: Setting[Arrays[Array | None], Iterable[ArrayLike | None]] = _current("scales")
    running_means: Setting[Arrays[Array | None], Iterable[ArrayLike | None]] = _current("running_means")
    running_variances: Setting[Arrays[Array | None], Iterable[ArrayLike | None]] = _current(
        "running_variances")

    def _idle(self, name: str) -> None:
        """Raises RuntimeError where an assignment would meet a training step."""
        if self.core.lock.busy_elsewhere() or self.core.lock.runs():
            raise RuntimeError(f"{name}: cannot be assigned while the model is being trained, except in a "
                               "callback")

    def _new_dropout(self, value: Any) -> tuple[float, ...]:
        dropout = _for_each("dropout", value, len(self.layers) - 2, _dropout)
        self._idle("dropout")
        engine = self.core.engine
        engine.write_back()
        self._use_engine(engine_for(self, self.core.parameters, dropout, engine.global_step))
        return dropout

    def _new_arrays(self, name: str, values: Any) -> Arrays[Any]:
        self._idle(name)
        return _copied_in(getattr(self, name), values)

    settable = {
        **{name: lambda self, values, name=name: self._new_arrays(name, values)     # type: ignore[misc]
           for name in state.KINDS},
        "dropout": _new_dropout,
    }
    fixed = {
        **{name: "is fixed when a model is made; make another MLP, and assign this one's weights and biases "
                 "to it"
           for name in ("layers", "activations", "batch_norm", "loss", "dtype", "compute_dtype", "backend")},
        "history": "is what `fit` records",
    }

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] == "_" or "_forward" in self.__dict__ or self.of_the_library():
            super().__setattr__(name, value)
        else:                   # what a subclass sets before it calls __init__
            object.__setattr__(self, name, value)

    def _snapshot(self) -> dict[str, Any]:
        """All that makes a model what it is, of one moment, in copies.

        Raises RuntimeError while another thread trains the model.
        """
        for _ in range(10):
            before = self.core.lock.last()
            if self.core.lock.busy_elsewhere():
                break
            result = {
                "version": VERSION, "layers": self.layers, "activations": self.activations,
                "dropout": self.dropout, "batch_norm": self.batch_norm, "loss": self.loss,
                "dtype": self.dtype.name, "compute_dtype": self.compute_dtype,
                "backend": self.backend.__name__.rpartition(".")[2],
                "identity": self.core.parameters.identity,
                "arrays": {name: np.array(array, order="C") for name, array in state.arrays(self).items()},
                "generator": self.core.rng.bit_generator.state, "counters": state.counters(self),
                "start": self.core.start,
                "attributes": {name: value for name, value in vars(self).items() if name not in _ATTRIBUTES},
            }
            if self.core.lock.last() is before:
                return result
        raise RuntimeError("the model is being trained by another thread: it cannot be copied meanwhile")

    def _restore(self, snapshot: Mapping[str, Any], backend: Backend) -> None:
        """Become the model of a snapshot."""
        self._make(snapshot["layers"], snapshot["activations"], snapshot["dropout"], snapshot["batch_norm"],
                   snapshot["loss"], np.dtype(snapshot["dtype"]), snapshot.get("compute_dtype"), backend)
        self.core.parameters.identity = snapshot["identity"]
        self.core.lock = self.core.parameters.identity.lock
        self.core.rng = np.random.default_rng(0)
        self.core.rng.bit_generator.state = snapshot["generator"]
        self.core.start = snapshot.get("start")
        state.restore(self, snapshot["arrays"])
        self._use_engine(engine_for(self, self.core.parameters, self.dropout, 0))
        state.set_counters(self, snapshot["counters"])
        self.__dict__.update(snapshot["attributes"])

    def __copy__(self) -> MLP:
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[Any, Any]) -> MLP:
        result = memo[id(self)] = type(self).__new__(type(self))
        snapshot = self._snapshot()
        snapshot["identity"] = moved(self.core.parameters.identity, memo)
        for name in ("loss", "attributes"):
            snapshot[name] = copy.deepcopy(snapshot[name], memo)
        result._restore(snapshot, self.backend)
        return result

    def __getstate__(self) -> dict[str, Any]:
        return self._snapshot()

    def __setstate__(self, snapshot: dict[str, Any]) -> None:
        check_state(self, snapshot, (
            "layers activations dropout batch_norm loss dtype backend identity arrays generator counters "
            "attributes").split())
        made = type(self).__new__(type(self))       # so that this one is whole, or nothing
        made._restore(snapshot, backends.named(snapshot["backend"]))
        self.__dict__.update(made.__dict__)

    # Inference ---------------------------------------------------------------------------------------

    def forward(self, X: SamplesLike, out: Array | None = None) -> Array:
        """Compute the last layer before its output function: logits or values.

        Parameters
        ----------
        X : array_like or sparse matrix of any numeric dtype, shape (n, inputs), or source
            Samples, with any strides; or a table of pandas, polars or pyarrow whose columns are numbers. Or a
            source (`fastmlp.data`), whose rows come in the order of its blocks; targets are not looked at.
        out : ndarray, shape (n, outputs), optional
            Array for the result, of the dtype of the model; must not share memory with ``X``. New if not
            given. Not with a source.

        Returns
        -------
        ndarray, shape (n, outputs)
            Logits (n, C), or values, in the dtype of the model; ``out`` if given. The result of a row is the
            same, to the bit, alone or among others. Rows with NaN give NaN, without a warning (`predict` has
            one).

        Raises
        ------
        TypeError
            For an ``X`` that is not numeric or an ``out`` of another dtype.
        ValueError
            For shapes that do not fit and an ``out`` that is read-only or overlaps ``X``.
        MemoryError
            For a result that is larger than memory.

        Examples
        --------
        >>> MLP([3, 4, 2], seed=0).forward(np.zeros((5, 3))).shape
        (5, 2)
        """
        if (out is None or type(out) is np.ndarray) and type(X) is np.ndarray and X.ndim == 2:
            if out is None and X.shape[0] > self._many_rows:
                checks.addressable("X: its outputs", (X.shape[0], self.layers[-1]), self.dtype)
            result = np.empty((X.shape[0], self.layers[-1]), self.dtype) if out is None else out
            taken = X.dtype.kind in "biuf" and (out is None or (
                out.ndim == 2 and out.dtype == self.dtype and out.flags.writeable))
            if taken and self.backend.COMPILED and self._forward(X, result, get_num_threads()):
                return result
        return self._forward_checked(X, out)

    def _forward_checked(self, X: SamplesLike, out: Array | None) -> Array:
        source = as_source(X)
        if source is not None:
            if out is not None:
                raise TypeError("out: expected None with a source, whose number of rows may not be known, "
                                f"got {type(out).__name__}")
            outputs = source.read(source.parts(), lambda place, block: self.forward(block.arrays()[0]),
                                  warn_of_block)
            return _joined([np.empty((0, self.layers[-1]), self.dtype), *outputs])
        X = sources.rows("X", cast("RowsLike", X), self.layers[0])
        shape = (len(X), self.layers[-1])
        checks.output("out", out, shape, self.dtype,
                      {**sources.source_arrays("X", X), "the parameters": self.core.parameters.buffer})
        result = np.empty(shape, self.dtype)
        for rows in _blocks(len(X)):
            x = sources.readable(X[rows], self.dtype, dense=self.compute_dtype is not None)
            self._forward(x, result[rows], get_num_threads())
        if out is None:
            return result
        out[...] = result
        return out

    @overload
    def hidden(self, X: RowsLike, layer: None = None) -> list[Array]: ...

    @overload
    def hidden(self, X: RowsLike, layer: int) -> Array: ...

    def hidden(self, X: RowsLike, layer: int | None = None) -> list[Array] | Array:
        """Compute the outputs of the layers, as in inference.

        What the layers hand on: after batch normalisation, with its running statistics, and after the
        activation, without dropout.

        Parameters
        ----------
        X : array_like or sparse matrix of any numeric dtype, shape (n, inputs)
            Samples.
        layer : int, optional
            Number of one layer: i is the one of ``weights[i]``, and -1 the last. All layers if not given.

        Returns
        -------
        list of ndarray, shape (n, units), or one of them
            Outputs in the dtype of the model. Those of the last layer are what `forward` returns.

        Raises
        ------
        TypeError
            For an ``X`` that is not numeric, and a ``layer`` that is no integer.
        ValueError
            For a shape that does not fit, and a layer that is not there.
        MemoryError
            For results that are larger than memory.

        Examples
        --------
        >>> model = MLP([3, 5, 4, 2], seed=0)
        >>> [y.shape for y in model.hidden(np.zeros((10, 3)))]
        [(10, 5), (10, 4), (10, 2)]
        >>> bool((model.hidden(np.ones((10, 3)), layer=0) >= 0).all())      # ReLU
        True
        """
        X = sources.rows("X", X, self.layers[0])
        depth = len(self.layers) - 1
        if layer is None:
            wanted = range(depth)
        else:
            at = checks.integer("layer", layer, low=-depth, high=depth - 1) % depth
            wanted = range(at, at + 1)
        for i in wanted:
            checks.addressable("X: its outputs", (len(X), self.layers[i + 1]), self.dtype)
        found = [np.empty((len(X), self.layers[i + 1]), self.dtype) if i in wanted else None
                 for i in range(depth)]
        spare = np.empty((min(len(X), BLOCK_ROWS), self.layers[-1]), self.dtype)    # of the last layer
        for rows in _blocks(len(X)):
            x: Any = sources.readable(X[rows], self.dtype, dense=self.compute_dtype is not None)
            *hidden, last = [None if array is None else array[rows] for array in found]
            self.core.engine.forward(x, spare[:len(x)] if last is None else last, get_num_threads(), hidden)
        results = [array for array in found if array is not None]
        return results if layer is None else results[0]

    def predict(self, X: SamplesLike) -> Array:
        """Return the predictions that the loss takes the outputs for.

        Parameters
        ----------
        X : array_like or sparse matrix of any numeric dtype, shape (n, inputs), or source
            Samples, as `forward` takes them.

        Returns
        -------
        ndarray, shape (n,) or (n, outputs)
            Class labels (n,), those of the largest logit; 0 or 1 for every label of a binary loss, -1 or 1
            for a hinge; or values (n, outputs). One output gives (n,).

        Raises
        ------
        TypeError
            For an ``X`` that is not numeric.
        ValueError
            For a shape that does not fit.
        MemoryError
            For a result that is larger than memory.

        Warns
        -----
        RuntimeWarning
            Of rows whose outputs are NaN, since X holds NaN there or the model does: their labels mean
            nothing.

        Examples
        --------
        >>> MLP([3, 4, 2], seed=0).predict(np.zeros((5, 3)))
        array([0, 0, 0, 0, 0])
        """
        outputs = self.forward(X)
        if self._classifies and len(outputs) == 1:      # with little around it: all of it takes 2 us
            label: Array = outputs.argmax(axis=1)
            largest = outputs.item(label.item())        # NaN, if there is one
            if largest != largest:
                _warn_of_nan("predict", *_rows_with_nan(outputs))
            return label
        if has_nan(outputs):
            _warn_of_nan("predict", *_rows_with_nan(outputs))
        return self.loss.predict(outputs, self.backend)

    def predict_proba(self, X: SamplesLike) -> Array:
        """Return probabilities: softmax of the logits, or sigmoid of those of a binary loss.

        A network of one output with a binary loss has one column: the probability p of label 1, as a vector.
        ``np.column_stack([1 - p, p])`` is the table of both labels that scikit-learn's estimators return.

        Parameters
        ----------
        X : array_like or sparse matrix of any numeric dtype, shape (n, inputs), or source
            Samples, as `forward` takes them.

        Returns
        -------
        ndarray, shape (n, C), (n, outputs) or (n,)
            Probabilities of the classes (n, C); or of label 1, for every label of a binary loss, (n,) for
            one.

        Raises
        ------
        TypeError
            For an ``X`` that is not numeric.
        ValueError
            For a shape that does not fit.
        AttributeError
            For a loss that has no probabilities.
        MemoryError
            For a result that is larger than memory.

        Warns
        -----
        RuntimeWarning
            Of rows whose outputs are NaN, since X holds NaN there or the model does: their probabilities mean
            nothing.

        Examples
        --------
        >>> MLP([3, 4, 2], seed=0).predict_proba(np.zeros((1, 3)))
        array([[0.5, 0.5]], dtype=float32)
        """
        outputs = self.forward(X)
        if has_nan(outputs):
            _warn_of_nan("predict_proba", *_rows_with_nan(outputs))
        return self.loss.predict_proba(outputs, self.backend)

    def compile_predict(self, batch_size: int | None = None, output: str = "logits", *,
                        threads: int = 1, compute_dtype: str | None = None, dtype: DTypeLike | None = None,
                        validation_data: tuple[ArrayLike, ArrayLike | None] | None = None
                        ) -> InferenceHandle:
        """Make a handle for predictions of the model as it is now, to be called by many threads at once.

        ``handle(X, out)`` costs a fraction of a microsecond beside its arithmetic, does not hold the GIL and
        allocates nothing; what becomes of the model later does not touch it.

        Parameters
        ----------
        batch_size : int, optional
            Rows of a call at most, which bounds the scratch of a call; any number if not given.
        output : str, default "logits"
            What a call returns: "logits" as `forward` does, "proba" as `predict_proba`, or "labels" as
            `predict`, which means values for a loss of values.
        threads : int, default 1
            Threads that share the work of a call with many rows, or with large weights. With 1 a call runs on
            the thread that makes it.
        compute_dtype : {"bfloat16"}, optional
            Type to which the operands of matrix products are rounded, as for `MLP`; that of the model if not
            given.
        dtype : {"int8"}, optional
            Type in which the weights are kept. "int8", of a float32 model: weights are quantised to 8 bits
            with a scale for every output, inputs row by row, and their products are added up in exact
            integers. The weights take a quarter of the memory, and calls less time; the results are a little
            off, the same bits on every processor. Results stay float32. The model's own if not given.
        validation_data : tuple (X, y), optional
            Samples and targets as for `evaluate`, on which the handle is compared with the model:
            `InferenceHandle.report`. y may be None.

        Returns
        -------
        fastmlp.inference.InferenceHandle
            Handle, with packed copies of the parameters.

        Raises
        ------
        TypeError
            For arguments of the wrong type.
        ValueError
            For an unknown ``output``, probabilities that the loss does not have, numbers out of range,
            "int8" of a float64 model or of layers with more than 66311 inputs, and samples and targets that
            do not fit.
        RuntimeError
            While another thread trains the model. A callback may compile it at any time.
        MemoryError
            Where there is no room for the copies.

        Examples
        --------
        >>> handle = MLP([3, 4, 2], seed=0).compile_predict(batch_size=1, output="proba")
        >>> out = np.empty((1, 2), np.float32)
        >>> handle(np.zeros((1, 3), np.float32), out) is out
        True
        >>> MLP([3, 4, 2], seed=0).compile_predict(dtype="int8")(np.zeros((1, 3)))
        array([[0., 0.]], dtype=float32)
        """
        from fastmlp.inference import compile_predict  # here, for many programs make no handles

        return compile_predict(self, batch_size, output, threads, compute_dtype, dtype, validation_data)

    def evaluate(
        self,
        X: SamplesLike,
        y: ArrayLike | None = None,
        *,
        sample_weight: ArrayLike | None = None,
        metrics: Metrics | None = None,
    ) -> dict[str, float]:
        """Compute the mean loss over samples, and metrics.

        Parameters
        ----------
        X : array_like or sparse matrix of any numeric dtype, shape (n, inputs), or source
            Samples; or a source or an iterator that has targets and weights, too (`fastmlp.data`).
        y : array_like, optional
            Targets, as `fit` takes them; not with a source.
        sample_weight : array_like, shape (n,), optional
            Weight of every sample, >= 0; 1 if not given. Not with a source.
        metrics : str, callable, list of both, or dict {name: callable}, optional
            Names of `fastmlp.metrics` or functions (y_true, y_pred) -> number. y_pred is what `predict`
            returns, or what else a function ``needs`` (see `fastmlp.metrics`): the functions of scikit-learn
            that take scores or probabilities are given these. Accuracy for classes, or R2 for values, if not
            given.

        Returns
        -------
        dict {str: float}
            "loss", and the number of every metric by its name.

        Raises
        ------
        TypeError
            For arguments of the wrong type.
        ValueError
            For samples, targets, weights and metrics that do not fit.

        Warns
        -----
        RuntimeWarning
            Of rows that count and whose outputs are NaN.

        Examples
        --------
        >>> MLP([3, 4, 2], seed=0).evaluate(np.zeros((5, 3)), [0, 0, 0, 0, 1])["accuracy"]
        0.8
        """
        measured, rows, bad, first = self._evaluate(X, y, sample_weight, metrics)
        if bad:
            _warn_of_nan("evaluate", bad, rows, first)
        return measured

    def _evaluate(self, X: SamplesLike, y: ArrayLike | None, sample_weight: ArrayLike | None,
                  metrics: Metrics | None, class_weight: ClassWeight | None = None
                  ) -> tuple[dict[str, float], int, int, int]:
        """The same without a warning, which `fit` has for itself; of how many rows, how many are NaN, and the
        first of them."""
        source = as_source(X)
        samples: Samples | Feed
        if source is None:
            samples = Samples(*samples_of(self, "X", cast("RowsLike", X), "y", y, sample_weight,
                                          class_weight))
        else:
            samples = feed_of(self, source, y, 1, BLOCK_ROWS, sample_weight=sample_weight,
                              class_weight=class_weight, buffer_rows=BLOCK_ROWS)
        functions = self._metrics(metrics)
        n, loss, weight, bad, first_bad = 0, 0.0, 0.0, 0, 0
        given: dict[str, list[Array]] = {measures.needs(function): [] for function in functions.values()}
        truth: list[Array] = []
        with samples.pieces() as pieces:
            blocks = ((piece.samples, rows) for piece in pieces for rows in _blocks(len(piece.samples)))
            for part, rows in blocks:
                outputs, t = self.forward(part.x[rows]), part.targets[rows]
                w = None if part.weights is None else part.weights[rows]
                here = float(len(outputs) if w is None else w.sum())
                if functions:           # of what weighs nothing there is none
                    known = self.loss.truth(t)
                    truth.append(known.copy() if w is None else known[w > 0])
                if here:
                    if t.ndim == 2 and not isinstance(self.loss, losses.CallableLoss):
                        t = np.ascontiguousarray(t, self.dtype)
                    result = self.backend.loss_and_gradient(self.loss, outputs, t, w)
                    if result is NotImplemented:
                        raise RuntimeError("y: no longer what was validated; another thread must not write "
                                           "to it meanwhile")
                    loss += result[0] * here
                    weight += here
                if has_nan(outputs):
                    count, _, first = _rows_with_nan(outputs, w)
                    if count and not bad:
                        first_bad = n + first
                    bad += count
                for need, parts in given.items():
                    predicted = measures.given(need, self.loss, outputs, self.backend)
                    parts.append(predicted if w is None else predicted[w > 0])
                n += len(outputs)
        if not weight:
            raise ValueError("X: expected a sample whose weight is above 0, got a source without any")
        measured = {"loss": loss / weight}
        if functions:
            measured.update(measures.compute(functions, _joined(truth), {
                need: _joined(parts) for need, parts in given.items()}))
        return measured, n, bad, first_bad

    # Training ----------------------------------------------------------------------------------------

    @names.keywords(names.FIT)
    def fit(
        self,
        X: SamplesLike,
        y: ArrayLike | None = None,
        epochs: int | Literal["auto"] = "auto",
        batch_size: int | Literal["auto"] | None = "auto",
        optimizer: OptimizerLike | None = None,
        validation_data: ValidationData | None = None,
        shuffle: bool | Callable[[int], ArrayLike] = True,
        callbacks: Iterable[Callback] = (),
        progress: bool | Literal["bar", "log"] = True,
        *,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
        metrics: Metrics | None = None,
        log_steps: bool = False,
        restarts: int = 1,
        checkpoint: Path | None = None,
        checkpoint_every: str | int | None = None,
        resume: bool = False,
        check_scale: bool = True,
    ) -> History:
        """Train on minibatches, for some passes over the samples.

        With the losses l_i and the weights w_i of its samples, the loss of a batch is::

            sum_i w_i l_i / sum_i w_i

        Parameters
        ----------
        X : array_like or sparse matrix of any numeric dtype, shape (n, inputs), or source
            Samples (images in uint8, tables in float64, a memory map), converted batch by batch; or a table
            of pandas, polars or pyarrow whose columns are numbers. Or a source: samples that need not fit
            into memory, with their targets and weights (`fastmlp.data`); or an iterator over batches
            (X, y) or (X, y, weight), for one epoch.
        y : array_like, optional
            Targets, what the loss takes, such as class indices (n,) or values (n, outputs);
            not with a source.
        epochs : int or "auto", default "auto"
            Number of passes over the samples. "auto": as many as show it 100000 samples, but from 10 to
            30, and more where that makes fewer than 300 steps; 10 over a source. With `LBFGS` an epoch is an
            iteration over all samples, and its ``max_iter`` takes the place of this.
        batch_size : int, "auto" or None, default "auto"
            Number of samples of a step. "auto": 32, and twice as many each time that there are 400 batches
            of it, up to 256; 128 of a source. None takes all samples at once: gradient descent; of a source,
            each block as it comes. The last batch of an epoch may be smaller.
        optimizer : Optimizer, str or class, optional
            An optimizer, whose state goes on from the last call; or a name ("sgd", "adam", "adamw",
            "adagrad", "rmsprop", "lbfgs") or class, for one with default settings that serves this call
            alone. If not given, `AdamW` with a learning rate that rises to 0.01 (0.1 / sqrt(w) where the
            widest hidden layer has w > 100 units) in the first tenth of the steps of this call, and falls to
            nothing with the last (`schedules.OneCycle`); a tenth of that rate, always, for a source that
            does not say how many samples it has. See Notes.
        validation_data : tuple (X, y) or (X, y, sample_weight), or source, optional
            Samples on which loss and metrics are computed after every epoch.
        shuffle : bool or callable, default True
            Whether every epoch has a new order; or a function of the epoch, counted from 0, that returns the
            order: n row numbers, of which any may be missing or repeated. Of a source, the order of its
            blocks is new, and that of the rows in a buffer.
        callbacks : iterable of callable, default ()
            Called as f(model, epoch, logs) after every epoch, epoch counted from 0, logs with the epoch's
            numbers; True, of Python or of NumPy, ends the training, and nothing else does. Objects may have
            methods that are called at other moments, ``on_step_end`` after steps. See Notes.
        progress : bool, "bar" or "log", default True
            What to show on stderr: a "bar" for every epoch, or for a "log" lines with time, loss, metrics,
            samples per second and the time that is left, at most one a second. True is a bar on a terminal
            and in a notebook, and lines elsewhere; False is nothing.
        sample_weight : array_like, shape (n,), optional
            Weight of every sample, >= 0; 1 if not given. Where it is 0, X and y may hold anything.
        class_weight : dict {class: weight} or "balanced", optional
            Weight of every class; "balanced" is n samples over classes times the samples of the class. It
            multiplies ``sample_weight``.
        metrics : str, callable, list of both, or dict {name: callable}, optional
            Names of `fastmlp.metrics` or functions (y_true, y_pred) -> number, or of what else they need, as
            in `evaluate`; computed after every epoch on the training data and, with ``val_`` before the name,
            on the validation data; samples of weight 0 do not count.
        log_steps : bool, default False
            Whether history and logs hold, for every epoch, arrays with a number for each of its steps:
            step_loss, the mean loss of its batch; step_weight, what the samples of the batch weigh;
            step_penalty, the penalty whose gradient the optimizer adds. All are taken before the step.
        restarts : int, default 1
            Number of initialisations to train from, of which the best is kept: that of the least validation
            loss with validation_data, else of the least training loss. See Notes.
        checkpoint : str, bytes or os.PathLike, optional
            File to which the run is saved while it goes on, within an epoch too, with all that it needs to go
            on: see Notes. `fastmlp.load` reads the model in it.
        checkpoint_every : str or int, optional
            How often: a time such as "30 s", "5 min" or "1 h"; a number of steps, 1000 or "1000 steps"; or
            "2 epochs". A time is longer where saving would take more than a fiftieth of it. "30 s" if not
            given.
        resume : bool, default False
            Whether to go on with the run in the file, if there is one; else it is replaced.
        check_scale : bool, default True
            Whether some rows are looked at first, and a warning names inputs or targets whose scale hurts.
            Where training is so short that the look would take a share of its time, there is none.

        Returns
        -------
        History
            Numbers of every epoch; also `MLP.history`, from the first one on.

        Raises
        ------
        TypeError
            For arguments of the wrong type, before anything changes.
        ValueError
            For arguments that do not fit, before anything changes; with ``resume``, for a file of another
            run, with all that differs.
        OSError
            For a checkpoint that cannot be written, before anything changes.
        MemoryError
            For a batch that needs more than the machine's memory, before anything changes.
        RuntimeError
            While another thread trains the model, or the schedule of the optimizer serves another training.
        ImportError
            Where `LBFGS` misses SciPy.
        KeyboardInterrupt
            After Ctrl-C, between two steps: the model is usable and has learned what it has, and
            `MLP.history` has the epochs that were over.

        Warns
        -----
        RuntimeWarning
            If a loss, a validation loss or weights are no longer finite, once. If a checkpoint cannot be
            written later on: the file is as it was, and training goes on. Of callbacks with ``on_step_end``
            beside `LBFGS`, which takes no steps.
        TrainingWarning
            Of inputs or targets whose scale hurts, naming the column and a line of code that scales it; of a
            first epoch far worse than guessing; of labels 0 and 1 that one output takes for values, where no
            loss was given. It is a RuntimeWarning.

        Notes
        -----
        With the defaults a network of 100 hidden units reaches what scikit-learn's MLPs reach with theirs, to
        0.01 in accuracy or R2, on five classifications and three regressions of 178 to 20000 rows, in a tenth
        of the time; the figures, and what else was tried, are in docs/guide/defaults.md. The default
        optimizer is made anew in each call: to go on where a call ended, pass an optimizer.

        A callback with a method ``begin(model)`` gets a call before the first epoch; True from it means that
        there is nothing to train. ``callback.finish(model)``, where there is one, is called in the end. A
        method ``on_step_end(model, step, logs)`` is called within the epochs: see `fastmlp.callbacks`.

        A model that is saved in a callback, together with the optimizer and with the state of other callbacks
        (`EarlyStopping.get_state`), goes on from there: `fit` with the epochs that are left ends with the
        same bits. The callback that saves stands last in the list, after those whose state it saves. (Not
        with `LBFGS`, whose memory of the last steps is no part of its state.)

        With ``restarts``, the first training begins with the model as it is, and restart i with the initial
        values of another seed (`fastmlp.restarts.seed_of`), and with an optimizer that has not trained it.
        Model and optimizer end as those of the best training, to the bit, and so does the history, whose
        ``restarts`` has every `fastmlp.restarts.Restart` with seed, loss and parameters. Callbacks see one
        training after the other, and what they hold in the end is of the last. Ctrl-C, or an exception,
        leaves the best that was trained until then.

        With ``checkpoint`` and ``resume=True`` a run may be killed at any moment: the same call in a new
        process goes on from the last save, and ends with the same bits in weights, state and history
        (samples_per_second apart) as a run that was left alone, with any number of threads and any
        instruction set with FMA. Network, settings, seed, batch size and number of samples must be those of
        the file, and the data the same; ``epochs`` may be more. Functions of yours (shuffle, learning rate,
        callbacks) must depend on their arguments alone, or have state as `fastmlp.callbacks` says.

        While a run with a checkpoint goes on in the main thread, Ctrl-C and SIGTERM wait for the steps that
        are being made (about 50 ms), or for the validation and the callbacks of an epoch, and for a last
        save. Then they do what they did before: Ctrl-C raises KeyboardInterrupt, SIGTERM ends the process, or
        a handler of yours is called. A second one does so at once.

        References
        ----------
        Bottou, "Large-Scale Machine Learning with Stochastic Gradient Descent", COMPSTAT 2010.

        Examples
        --------
        >>> from fastmlp import SGD
        >>> model = MLP([1, 1], loss="mean_squared_error", seed=0)
        >>> x = np.linspace(-1, 1, 64)[:, None]
        >>> history = model.fit(x, 3 * x + 1, epochs=200, batch_size=16, optimizer=SGD(0.1), progress=False)
        >>> history.loss[-1] < 1e-6
        True
        """
        restarts = checks.integer("restarts", restarts, low=1)
        if restarts > 1:
            arguments = {name: value for name, value in locals().items() if name not in ("self", "restarts")}
            return fit_with_restarts(self, restarts, partial(MLP.fit, self), self._evaluate, arguments)
        given_X, callbacks = X, names.objects("callbacks", callbacks)
        source = as_source(X)
        samples: Samples | Feed
        if source is not None:
            samples = feed_of(self, source, y, epochs, batch_size, shuffle, sample_weight, class_weight)
            X, weights, rows, epochs = samples.like[0], None, samples.rows or 2, samples.epochs
        else:
            X, targets, weights = samples_of(self, "X", cast("RowsLike", X), "y", y, sample_weight,
                                             class_weight)
            rows = len(X)
            epochs, batch_size = defaults.passes(rows, epochs, batch_size)
            order = np.arange(rows) if callable(shuffle) or shuffle and batch_size < rows else None
            samples = Samples(X, targets, weights, order, batch_size, repeats=callable(shuffle))
        self._check_statistics(weights, rows, samples.batch_size)
        steps = epochs * -(-len(samples) // samples.batch_size)         # 0 where a source does not say
        optimizer = defaults.optimizer_for_fit(optimizer, steps, self.layers)
        callbacks = step_hooks.check("callbacks", callbacks)
        if optimizer.full_batch:
            self._check_full_batch(source, callbacks, log_steps)
        if metrics is not None:
            metrics = self._metrics(metrics)
        if validation_data is not None:
            validation_data = self._validation(validation_data, epochs)
        shown = progress_of("progress", progress)
        keeper = make_keeper(checkpoint, checkpoint_every, resume, optimizer)
        if samples.batch_size > self._many_samples:
            self._workspace_nbytes("batch_size", samples.batch_size, len(optimizer.slots), X)
        guess = None
        if check_scale and (steps >= scales.FEW_STEPS or epochs and not steps):
            guess = self._look_at_scale(samples, source or given_X, source or y, steps, epochs)
        with self.core.lock.take(runs=False) as call:
            optimizer.serve(self)
            training = Training(self, samples, y, optimizer, validation_data, callbacks, metrics,
                                self._evaluate, shuffle if callable(shuffle) else None, bool(log_steps),
                                keeper)
            training.guess = guess
            return training.run(epochs, shown, call)

    def _check_full_batch(self, source: Source | None, callbacks: Iterable[Callback], log_steps: bool
                          ) -> None:
        """Raises ValueError, or warns, where `LBFGS` does not go with what else `fit` was given."""
        if any(self.dropout) or any(self.batch_norm):
            raise ValueError("optimizer: LBFGS minimises one function of the parameters, and dropout or "
                             "batch normalisation make another of it at every step")
        if source is not None:
            raise ValueError("optimizer: LBFGS needs all samples in memory, and a source has them in blocks")
        if log_steps:
            raise ValueError("log_steps: expected False with LBFGS, which takes no steps")
        if unheard := step_hooks.names_of(callbacks):
            callers.warn(f"callbacks: LBFGS takes no steps, and on_step_end of {', '.join(unheard)} is never "
                         "called", RuntimeWarning)

    def _look_at_scale(self, samples: Samples | Feed, X: Any, y: Any, steps: int, epochs: int
                       ) -> float | None:
        """Warn of inputs and targets whose scale hurts, which were made of X and y. Returns what
        `scales.look` does."""
        looked_at = samples if isinstance(samples, Samples) else Samples(*samples.first_rows())
        if self.core.loss_is_usual and self.layers[-1] == 1:
            scales.warn_of_labels(looked_at.targets)
        if looked_at is samples:
            rows = scales.rows_worth_a_look(looked_at.x, self.core.parameters.buffer.size, steps, epochs)
        else:                           # to read a source takes longer
            rows = scales.most_rows(looked_at.x)
        return scales.look(self, looked_at, rows, X, y) if rows else None

    def _validation(self, data: Any, epochs: int) -> tuple[Any, Any, Any]:
        """Validated: (X, y, sample_weight), or a source in the place of X."""
        source = as_source(data)
        if source is not None:
            feed_of(self, source, None, epochs, BLOCK_ROWS, buffer_rows=1)
            return source, None, None
        meant = batches.answer("validation_data", data)
        if not isinstance(data, (tuple, list)) or len(data) not in (2, 3) or "batches" in meant:
            raise TypeError("validation_data: expected (X, y) or (X, y, sample_weight)"
                            f"{meant or f', got {type(data).__name__}'}")
        X, y, weights = (*data, None)[:3]
        X = samples_of(self, "validation_data X", X, "validation_data y", y, weights, None)[0]
        return X, y, weights

    def train_step(
        self,
        X: RowsLike,
        y: ArrayLike,
        optimizer: Optimizer,
        *,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
    ) -> float:
        """Take one step on one minibatch, all rows of X.

        Parameters
        ----------
        X : array_like or sparse matrix of any numeric dtype, shape (n, inputs)
            Samples of the minibatch.
        y : array_like
            Targets, as `fit` takes them.
        optimizer : Optimizer
            Optimizer, made once before the first step; not `LBFGS`, which takes no steps.
        sample_weight : array_like, shape (n,), optional
            Weight of every sample, >= 0; 1 if not given.
        class_weight : dict {class: weight} or "balanced", optional
            Weight of every class, as in `fit`.

        Returns
        -------
        float
            Mean loss before the step.

        Raises
        ------
        TypeError
            For arguments of the wrong type, before anything changes.
        ValueError
            For arguments that do not fit, before anything changes.
        MemoryError
            For a batch that needs more than the machine's memory, before anything changes.
        RuntimeError
            While another thread trains the model, or the schedule of the optimizer serves another training.

        Warns
        -----
        RuntimeWarning
            If the loss is not finite.

        Examples
        --------
        >>> from fastmlp import SGD
        >>> model, optimizer = MLP([2, 8, 2], seed=0), SGD(0.1)
        >>> X, y = np.eye(2), np.array([0, 1])
        >>> model.train_step(X, y, optimizer) > model.train_step(X, y, optimizer)
        True
        """
        samples = batch_of(self, X, y, sample_weight, class_weight)
        optimizer = defaults.optimizer_for_steps(optimizer)
        rows = samples.batch_size
        self._check_statistics(samples.weights, rows, rows)
        if rows > self._many_samples:
            self._workspace_nbytes("X", rows, len(optimizer.slots), samples.x)
        with self.core.lock.take():
            optimizer.serve(self)
            total, weight = train(self, samples, 0, 1, optimizer)
            loss = total / weight if weight else math.nan   # another thread took all weights away
            if not math.isfinite(loss):
                divergence.warn(self, f"the loss of step {self.core.engine.global_step} is {loss}")
        return loss

    def loss_and_gradients(
        self,
        X: RowsLike,
        y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        class_weight: ClassWeight | None = None,
    ) -> tuple[float, Gradients]:
        """Compute the mean loss over the rows of X and its gradients, by backpropagation.

        The model stays as it is. As in a training step: with dropout, some outputs are left out (the same
        ones until the next step), and batch normalisation takes its statistics from these rows.

        Parameters
        ----------
        X : array_like or sparse matrix of any numeric dtype, shape (n, inputs)
            Samples.
        y : array_like
            Targets, as `fit` takes them.
        sample_weight : array_like, shape (n,), optional
            Weight of every sample, >= 0; 1 if not given.
        class_weight : dict {class: weight} or "balanced", optional
            Weight of every class, as in `fit`.

        Returns
        -------
        loss : float
            Mean loss.
        gradients : Gradients
            Its gradients with respect to the parameters.

        Raises
        ------
        TypeError
            For arguments of the wrong type.
        ValueError
            For arguments that do not fit.
        MemoryError
            For samples that need more than the machine's memory.
        RuntimeError
            While another thread trains the model.

        References
        ----------
        Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323, 1986.

        Examples
        --------
        >>> model = MLP([2, 2], loss="mean_squared_error", dtype="float64", seed=0)
        >>> loss, gradients = model.loss_and_gradients(np.eye(2), model.predict(np.eye(2)))
        >>> loss, float(abs(gradients.weights[0]).max())
        (0.0, 0.0)
        """
        samples = batch_of(self, X, y, sample_weight, class_weight)
        rows = samples.batch_size
        self._check_statistics(samples.weights, rows, rows)
        if rows > self._many_samples:
            self._workspace_nbytes("X", rows, 1, samples.x)
        gradients = self.core.parameters.like()
        with self.core.lock.take():
            loss = self.core.engine.gradients(samples, gradients, get_num_threads())
        return loss, Gradients(gradients)

    def save(self, path: Path, optimizer: Optimizer | None = None,
             callbacks: Iterable[object] = ()) -> None:
        """Write the model to a file in the safetensors format.

        The file holds the parameters and running statistics, the settings, and where training stands: with
        the state of the optimizer and the callbacks, it goes on as if it had not been interrupted. No pickle,
        and the same model gives the same bytes.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            Path with the suffix .safetensors, another one or none, but not one of another format, such as
            .onnx.
        optimizer : Optimizer, optional
            Its state for this model is saved, too.
        callbacks : iterable of objects, default ()
            Of each that has ``get_state() -> dict`` of arrays and numbers, and ``set_state``, the state is
            saved, too; others are skipped.

        Raises
        ------
        ValueError
            For the suffix of another format, and for running variances that are NaN.
        TypeError
            For a loss of the caller's own, which is code, and for state that is no array or number.
        RuntimeError
            While another thread trains the model. A callback may save it at any time.
        OSError
            Where the file cannot be written: PermissionError, IsADirectoryError and others.
        MemoryError
            Where there is no room for four copies of what is saved.

        See Also
        --------
        fastmlp.load : Read the file.

        Notes
        -----
        Whoever reads ``path`` finds the old file or the new one, each whole, also when several threads or
        processes save there, or one is killed. A link stays, and what it leads to is replaced; a file keeps
        its mode. Where a file cannot be replaced (a device, a pipe, a folder that is not writable), it is
        written in place.

        Examples
        --------
        >>> MLP([4, 3]).save("net.safetensors")  # doctest: +SKIP
        """
        from fastmlp.saving import save  # here, for most programs save no models

        save(self, path, optimizer, callbacks)

    def export_c(self, path: Path, output: str = "logits", *,
                 function: str = "predict") -> None:
        """Write the model as one C99 file, without dependencies.

        The file has the weights as constants and one function, ``void predict(const float *x, float *y)``,
        with double for float64 models. It allocates nothing, calls no library, and compiles without warnings.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            Path of the file, such as net.c.
        output : str, default "logits"
            What y is: "logits" as `forward` returns them, or "proba" as `predict_proba`.
        function : str, default "predict"
            Name of the function, for programs with several models.

        Raises
        ------
        TypeError
            For arguments of the wrong type.
        ValueError
            For an unknown ``output``, probabilities that the loss does not have, a ``function`` that is no
            name in C or has another meaning in the file, parameters that are not finite, and a model with a
            ``compute_dtype``.
        RuntimeError
            While another thread trains the model.
        OSError
            Where the file cannot be written.

        Notes
        -----
        Compiled with FMA (``cc -std=c99 -O3 -mfma``, or for ARM), the results are those of `forward`, or
        `predict_proba`, to the bit, as long as no number on the way is subnormal: the library counts those as
        zero. Without FMA every multiply-add is rounded twice: the bits are those of the portable kernels.

        Activations are on the stack, up to 64 KiB of them; where layers are wider, they are static, and one
        thread at a time may call the function. The header comment says which.

        The file is replaced as a whole, as by `save`; the same model gives the same bytes. It takes some 13
        bytes for every parameter in float32, and compilers take seconds for a million.

        Examples
        --------
        >>> MLP([4, 3]).export_c("net.c")  # doctest: +SKIP
        """
        from fastmlp.export_c import export_c  # here, for most programs export no models

        export_c(self, path, output, function)

    def to_onnx(self, path: Path, output: str = "logits", opset: int = 17) -> None:
        """Write the model as an ONNX file, for inference elsewhere.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            Path of the file. What is there is replaced, as by `save`.
        output : {"logits", "proba"}, default "logits"
            What the network returns: what `forward` does, or, with a Softmax or Sigmoid at the end,
            probabilities.
        opset : int, default 17
            Version of ONNX's operators, from 17 up.

        Raises
        ------
        ImportError
            Where the package onnx is missing.
        TypeError
            For a path or an opset of the wrong type.
        ValueError
            For another ``output``, for probabilities of a loss that has none, and for an opset that the
            package does not have.
        OSError
            Where the file cannot be written.

        See Also
        --------
        fastmlp.from_onnx : Read such files, and those of others.

        Notes
        -----
        The input "X" (batch, inputs) and the output "output" (batch, outputs) have the dtype of the model and
        any number of rows. Dropout is left out. Arrays of 2 GiB and more are in a second file, with ".data"
        after its name. In float64, GELU has its erf in float32, for ONNX Runtime has no other.

        References
        ----------
        The operators: https://onnx.ai/onnx/operators/

        Examples
        --------
        >>> MLP([4, 3]).to_onnx("net.onnx")  # doctest: +SKIP
        """
        from fastmlp._exchange.to_onnx import to_onnx

        to_onnx(self, path, output, opset)

    def to_torch(self, output: str = "logits") -> torch.nn.Sequential:
        """Return the model as a ``torch.nn.Sequential``, in eval mode.

        Parameters
        ----------
        output : {"logits", "proba"}, default "logits"
            What the module returns: what `forward` does, or, with a Softmax or Sigmoid at the end,
            probabilities.

        Returns
        -------
        torch.nn.Sequential
            Linear, BatchNorm1d, activations and Dropout, with copies of the arrays, of the dtype of the
            model. A Linear in front of BatchNorm1d has no bias.

        Raises
        ------
        ImportError
            Where PyTorch is missing.
        ValueError
            For another ``output``, and for probabilities of a loss that has none.

        See Also
        --------
        fastmlp.from_torch : The opposite direction.
        fastmlp.torch.state_dict : The arrays by PyTorch's names, without PyTorch.

        Examples
        --------
        >>> import pytest
        >>> _ = pytest.importorskip("torch")
        >>> MLP([4, 8, 3], activation="tanh").to_torch()
        Sequential(
          (0): Linear(in_features=4, out_features=8, bias=True)
          (1): Tanh()
          (2): Linear(in_features=8, out_features=3, bias=True)
        )
        """
        from fastmlp._exchange.to_torch import to_torch

        return to_torch(self, output)

    def summary(self, batch_size: int = 128, optimizer: Optimizer | None = None) -> Summary:
        """Describe the network: a table of its layers, and what they cost.

        Parameters
        ----------
        batch_size : int, default 128
            Number of samples of a training step, for the memory that training takes.
        optimizer : Optimizer, optional
            Optimizer, for the memory of its state. AdamW, as of `fit`, if not given.

        Returns
        -------
        fastmlp.summary.Summary
            Table, to be printed, ``print(model.summary())``; an interactive session shows it. Its numbers are
            attributes.

        Raises
        ------
        TypeError
            For arguments of the wrong type.
        ValueError
            For a batch size below 1.
        MemoryError
            Where training would take more memory than this machine has.

        Examples
        --------
        >>> MLP([784, 256, 10], dropout=0.2, seed=0).summary().parameters
        203530
        """
        from fastmlp.summary import summary  # here, for many programs ask for none

        return summary(self, batch_size, optimizer)

    def workspace_nbytes(self, batch_size: int, optimizer: Optimizer | None = None,
                         X: RowsLike | None = None) -> int:
        """Return the bytes of the workspace of training.

        They are held beside the data, the parameters and the state of the optimizer.

        Parameters
        ----------
        batch_size : int
            Number of samples of a step.
        optimizer : Optimizer, optional
            That of `fit`, which has two numbers for each parameter, if not given.
        X : sparse matrix, shape (n, inputs), optional
            Samples, where they are sparse: the workspace then has room for the most nonzeros that a batch of
            them can have, and none for rows of inputs.

        Returns
        -------
        int
            Size, in bytes.

        Raises
        ------
        TypeError
            For arguments of the wrong type.
        ValueError
            For a ``batch_size`` below 1, an ``X`` that does not fit, and where it is more than any machine
            has.
        MemoryError
            Where all that is more than this machine has.

        Examples
        --------
        >>> MLP([4, 16, 3]).workspace_nbytes(16) > 16 * (4 + 16 + 3) * 4
        True
        """
        batch_size = checks.integer("batch_size", batch_size, low=1)
        slots = len(defaults.optimizer_for_fit(optimizer, 1, self.layers).slots)
        if X is not None:
            X = sources.rows("X", X, self.layers[0])
        return self._workspace_nbytes("batch_size", batch_size, slots, X)

    def _workspace_nbytes(self, name: str, batch_size: int, slots: int, X: Any = None) -> int:
        """Bytes of the workspace; with parameters and state they must not be more than there is."""
        what = f"training in batches of {batch_size}"
        nonzeros = X.nonzeros(batch_size) if isinstance(X, sources.SparseRows) else None
        width = sum(self.layers) if nonzeros is None else sum(self.layers[1:])
        checks.fits_memory(name, batch_size * width * self.dtype.itemsize, what)
        nbytes = self.core.engine.workspace_nbytes(batch_size, slots, get_num_threads(), nonzeros)
        checks.fits_memory(name, nbytes + (1 + slots) * self.core.parameters.buffer.nbytes, what)
        return nbytes

    def _check_statistics(self, weights: Array | None, rows: int, batch_size: int) -> None:
        """Raises ValueError where batch normalisation would see nothing but batches of a single row."""
        if any(self.batch_norm):
            counted = rows if weights is None else int(np.count_nonzero(weights))
            if min(counted, batch_size) == 1:
                what = "batch_size: expected at least 2" if counted > 1 else "X: expected at least 2 rows"
                raise ValueError(f"{what} with batch normalisation, got 1: the variance over a single row is "
                                 "0, whatever it holds")

    def _metrics(self, names: Metrics | None) -> dict[str, Metric]:
        """Functions by name; what fits the loss, if none are given."""
        if names is None:
            usual = self.loss.metric
            return {usual: measures.METRICS[usual]} if usual else {}
        functions = measures.resolve(names)
        measures.check_needs(functions, self.loss)
        return functions


# Of a model; what else one has is a subclass's.
_ATTRIBUTES = frozenset([
    *MLP.settable, *MLP.fixed, "core", "_forward", "_classifies", "_many_rows", "_many_samples"])


def _copied_in(arrays: Arrays[Any], values: Any) -> Arrays[Any]:
    """The same arrays, with the values in them."""
    if values is not arrays:
        arrays[:] = values
    return arrays


def _for_each(name: str, value: Any, hidden: int, resolve: Callable[[Any], Any]) -> tuple[Any, ...]:
    """What is meant for every hidden layer."""
    if not isinstance(value, (list, tuple)):
        return (resolve(value),) * hidden
    if len(value) != hidden:
        raise ValueError(f"{name}: expected one for each of {hidden} hidden layers, got {len(value)}")
    return tuple(resolve(item) for item in value)


def _dropout(rate: float) -> float:
    rate = checks.number("dropout", rate, low=0.0, high=1.0)
    if rate == 1:
        raise ValueError("dropout: expected a share below 1, got 1.0")
    return rate


def _rows_with_nan(outputs: Array, weights: Array | None = None) -> tuple[int, int, int]:
    """How many rows that count have NaN among their outputs, of how many, and the first of them."""
    bad: Any = np.isnan(outputs).any(axis=1)
    if weights is not None:
        bad &= weights > 0
    return int(np.count_nonzero(bad)), len(bad), int(bad.argmax())


def _warn_of_nan(call: str, bad: int, rows: int, first: int) -> None:
    """To the caller of a method."""
    callers.warn(f"{call}: the outputs of {bad} of {rows} rows are NaN, the first in row {first}: X holds "
                 "values that are not finite, or the model does", RuntimeWarning)


def _joined(parts: list[Array]) -> Array:
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def _blocks(n: int) -> list[slice]:
    return [slice(start, min(start + BLOCK_ROWS, n)) for start in range(0, n, BLOCK_ROWS)]
