"""Inference handles: a model as it is, compiled into an object that many threads call at once.

    handle = model.compile_predict(batch_size=1, output="labels")
    handle(X, out)

What is validated when the handle is made is not looked at again, the weights are packed as the kernels read
them, and scratch is kept. Arrays that are not as the kernels take them (another byte order, a list, a strided
`out`) are converted first, on a slower path.
"""
from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from fastmlp._core import checks
from fastmlp._core.core import engine_for
from fastmlp._core.int8 import MOST_INPUTS
from fastmlp.handle_report import compare
from fastmlp.losses import Loss

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from fastmlp._core.types import Array
    from fastmlp.backends.interface import Predictor
    from fastmlp.handle_report import HandleReport
    from fastmlp.model import MLP

__all__ = ["InferenceHandle", "compile_predict"]

OUTPUTS = ("logits", "proba", "labels")
BLOCK_ROWS = 4096               # rows at a time, on the slower path


class InferenceHandle:
    """A model as it was when `fastmlp.MLP.compile_predict` made this, to be called for predictions.

    Attributes
    ----------
    layers : tuple of int
        Units of every layer, inputs first.
    output : str
        What a call returns: "logits", "proba" or "labels".
    dtype : dtype
        Type of the results: that of the model, or intp for labels.
    compute_dtype : str
        In what it computes: the model's dtype, "bfloat16" or "int8".
    batch_size : int or None
        Rows of a call at most; None for any number.
    threads : int
        Threads that share the work of one large call.
    report : fastmlp.handle_report.HandleReport or None
        How close it is to the model, if it was made with ``validation_data``.
    predictor : object
        What the backend computes with; for ``fastmlp.kernels.cython_api``.
    nbytes : int
        Bytes that the handle holds: packed weights, and the scratch of as many calls as have run at once.

    See Also
    --------
    fastmlp.MLP.compile_predict : Makes a handle.

    Notes
    -----
    Results are those of the model at that moment, to the bit: of `fastmlp.MLP.forward`,
    `fastmlp.MLP.predict_proba` or `fastmlp.MLP.predict`, for any number of rows and threads. (On the NumPy
    backend, to rounding.) Rows with NaN give NaN without a warning, and a label that means nothing. Those of
    "bfloat16" and "int8" are what the specification says, to the bit, on every instruction set. In int8, rows
    with infinity give NaN, too.

    Any number of threads may call a handle at once. The compiled backend releases the GIL while it computes,
    but for so little work that handing it over takes longer; it takes no lock and, once so many calls have
    run at once, allocates nothing for a contiguous ``out``.

    A handle never changes: a copy of it is the handle itself. It cannot be pickled, for its weights are
    packed for the instruction set of this process; pickle or save the model, and compile it where it is used.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> handle = MLP([3, 4, 2], seed=0).compile_predict(output="labels")
    >>> handle(np.zeros((5, 3)))
    array([0, 0, 0, 0, 0])
    >>> handle
    InferenceHandle([3, 4, 2], output='labels', dtype='int64', batch_size=None)
    """

    __slots__ = ("_computes_in", "predictor", "_run", "_shape", "batch_size", "compute_dtype", "dtype",
                 "layers", "output", "report", "threads")
    predictor: Predictor
    layers: tuple[int, ...]
    output: str
    dtype: np.dtype[Any]
    compute_dtype: str
    report: HandleReport | None
    batch_size: int | None
    threads: int
    _run: Callable[[Any, Any], Any]
    _shape: tuple[int, ...]
    _computes_in: np.dtype[Any]

    def __init__(self, predictor: Predictor, layers: tuple[int, ...], output: str, computes_in: np.dtype[Any],
                 dtype: np.dtype[Any], is_vector: bool, batch_size: int | None, threads: int,
                 compute_dtype: str, report: HandleReport | None = None) -> None:
        for name, value in (
                ("predictor", predictor), ("_run", predictor.run), ("_computes_in", computes_in),
                ("_shape", () if is_vector else layers[-1:]), ("layers", layers), ("output", output),
                ("dtype", dtype), ("batch_size", batch_size), ("threads", threads),
                ("compute_dtype", compute_dtype), ("report", report)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name}: cannot be assigned, for a handle never changes; compile the model "
                             "anew")

    def __delattr__(self, name: str) -> NoReturn:
        self.__setattr__(name, None)

    def __call__(self, X: ArrayLike, out: Array | None = None) -> Array:
        """Compute what the handle was made for, of every row.

        Parameters
        ----------
        X : array_like of any numeric dtype, shape (n, inputs)
            Samples, ``batch_size`` of them at most.
        out : ndarray, shape (n, outputs) or (n,), optional
            Array for the result, of the shape and dtype that a call without it returns; must not share memory
            with ``X``. New if not given.

        Returns
        -------
        ndarray, shape (n, outputs) or (n,)
            Logits, probabilities or labels; ``out`` if given.

        Raises
        ------
        TypeError
            For an ``X`` that is not numeric or an ``out`` of another dtype.
        ValueError
            For shapes that do not fit, more rows than ``batch_size``, and an ``out`` that is read-only or
            overlaps ``X``.
        MemoryError
            For a result that is larger than memory.
        """
        result = self._run(X, out)
        return self._checked(X, out) if result is None else result

    def _checked(self, X: ArrayLike, out: Array | None) -> Array:
        table = checks.table("X", X, self.layers[0])
        if self.batch_size is not None and len(table) > self.batch_size:
            raise ValueError(f"X: expected at most {self.batch_size} rows, the batch_size of the handle, got "
                             f"{len(table)}")
        shape = (len(table), *self._shape)
        if isinstance(out, np.ndarray) and out.dtype.newbyteorder("=") != self.dtype:
            raise TypeError(f"out: expected dtype {self.dtype}, that of {self.output}, got {out.dtype}")
        checks.output("out", out, shape, self.dtype, {"X": table})
        result = np.empty(shape, self.dtype)
        step = BLOCK_ROWS if self.batch_size is None else min(BLOCK_ROWS, self.batch_size)
        for first in range(0, len(table), step):
            rows = slice(first, first + step)
            if self._run(checks.readable(table[rows], self._computes_in), result[rows]) is None:
                raise RuntimeError(f"X: cannot be read, {table.dtype} with strides {table.strides}")
        if out is None:
            return result
        out[...] = result
        return out

    @property
    def nbytes(self) -> int:
        return int(self.predictor.nbytes)

    def __repr__(self) -> str:
        more = f", threads={self.threads}" if self.threads > 1 else ""
        if self.compute_dtype != self._computes_in.name:
            more += f", compute_dtype={self.compute_dtype!r}"
        return (f"InferenceHandle({list(self.layers)}, output={self.output!r}, dtype={self.dtype.name!r}, "
                f"batch_size={self.batch_size}{more})")

    def __copy__(self) -> InferenceHandle:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> InferenceHandle:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("an inference handle cannot be pickled: its weights are packed for the instruction "
                        "set of this process; pickle the model, and compile it where it is used")


def compile_predict(model: MLP, batch_size: int | None, output: str, threads: int,
                    compute_dtype: str | None = None, dtype: DTypeLike | None = None,
                    validation_data: tuple[ArrayLike, ArrayLike | None] | None = None) -> InferenceHandle:
    """Make a handle: what `fastmlp.MLP.compile_predict` does.

    Parameters
    ----------
    model : MLP
        Model.
    batch_size : int or None
        As for `MLP.compile_predict`.
    output : str
        As for `MLP.compile_predict`.
    threads : int
        As for `MLP.compile_predict`.
    compute_dtype : {"bfloat16"}, optional
        As for `MLP.compile_predict`.
    dtype : {"int8"}, optional
        As for `MLP.compile_predict`.
    validation_data : tuple (X, y), optional
        As for `MLP.compile_predict`.

    Returns
    -------
    InferenceHandle
        Handle.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> compile_predict(MLP([3, 2], seed=0), None, "logits", 1)(np.zeros((1, 3)))
    array([[0., 0.]], dtype=float32)
    """
    if batch_size is not None:
        batch_size = checks.integer("batch_size", batch_size, low=1)
    threads = checks.integer("threads", threads, low=1, high=256)
    compute_dtype = checks.compute_dtype("compute_dtype", compute_dtype, model.dtype, model.compute_dtype)
    int8 = _is_int8(model, dtype, compute_dtype)
    samples = None if validation_data is None else _samples(validation_data)
    kind, is_vector, is_index = made_of_outputs(model.loss, output, model.layers[-1])
    with model.core.lock.between_steps("compile it"):
        models = engine = model.core.engine
        if compute_dtype not in (None, model.compute_dtype):
            engine.write_back()
            engine = engine_for(model, model.core.parameters, model.dropout, 0, compute_dtype)
        predictor = engine.predictor(kind, is_vector, min(batch_size or 0, sys.maxsize), threads, int8)
        if samples is not None:
            ours = engine.predictor("values", False, 0, threads, int8)
            theirs = models.predictor("values", False, 0, threads)
    own = model.compute_dtype or model.dtype.name
    computes_in = "int8" if int8 else compute_dtype or own
    report = None if samples is None else compare(model, computes_in, own, ours, theirs, *samples)
    return InferenceHandle(
        predictor, model.layers, output, model.dtype, np.dtype(np.intp) if is_index else model.dtype,
        is_vector, batch_size, threads, computes_in, report)


def _is_int8(model: MLP, dtype: DTypeLike | None, compute_dtype: str | None) -> bool:
    if not checks.is_int8("dtype", dtype, model.dtype):
        return False
    if compute_dtype is not None:
        raise ValueError(f"compute_dtype: expected None beside dtype='int8', got {compute_dtype!r}")
    for i, inputs in enumerate(model.layers[:-1]):
        if inputs > MOST_INPUTS:
            raise ValueError(f"dtype: 'int8' takes layers of at most {MOST_INPUTS} inputs, whose sums fit in "
                             f"32 bits; layer {i} has {inputs}")
    return True


def _samples(validation_data: object) -> tuple[Any, Any]:
    if not isinstance(validation_data, tuple) or len(validation_data) != 2:
        what = type(validation_data).__name__
        if isinstance(validation_data, tuple):
            what = f"{len(validation_data)} items"
        raise TypeError(f"validation_data: expected a tuple (X, y), got {what}")
    return validation_data


def made_of_outputs(loss: Loss, output: str, outputs: int, known: tuple[str, ...] = OUTPUTS
                    ) -> tuple[str, bool, bool]:
    """What is made of the last layer's values, by the name that predictors have for it; whether that is one
    number for a row, and whether it is an integer.

    Raises
    ------
    TypeError
        For an output that is no string.
    ValueError
        For an unknown output, and for probabilities that the loss does not have.
    """
    if not isinstance(output, str):
        raise TypeError(f"output: expected one of {', '.join(known)}, got {output!r}")
    checks.known_name("output", output, known)
    if output == "logits":
        return "values", False, False
    if output == "proba":
        if loss.output not in ("softmax", "sigmoid"):
            what = "values" if loss.targets in ("values", "counts") else "scores"
            others = " or ".join(name for name in known if name != output)
            raise ValueError(f"output: expected {others}, got 'proba'; the outputs of {loss.name!r} are "
                             f"{what}, not probabilities")
        return loss.output, loss.output == "sigmoid" and outputs == 1, False
    if loss.classifies:
        return "largest", True, True
    if loss.targets in ("binary", "signs"):
        return "positive" if loss.targets == "binary" else "sign", outputs == 1, True
    return "exp" if loss.output == "exp" else "values", outputs == 1, False
