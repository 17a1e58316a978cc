"""Whether inputs and targets are of a size that training bears: a look at some rows before `fit` begins.

Initial weights and learning rates are made for inputs and targets of about 1. Nothing is scaled here: what is
found is said, with the column and a line of code. Of a source, the rows are those of its first block.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core import callers, frames
from fastmlp._core.advice import TrainingWarning
from fastmlp._core.sources import Rows, SparseRows
from fastmlp.data._source import Source
from fastmlp.losses import CallableLoss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastmlp._core.network import Samples
    from fastmlp.model import MLP

    Array = NDArray[Any]

__all__ = ["FEW_STEPS", "compare", "look", "most_rows", "rows_worth_a_look", "warn_of_labels"]

FEW_STEPS = 10              # fewer are made without a look
ROWS = 256                  # that are looked at, spread over all; of long rows fewer
ELEMENTS = 1 << 15
# Seconds that a training takes at least: of its operations, steps and epochs; and a look, of its elements.
OPERATION, STEP, EPOCH, ELEMENT, LOOK = 1e-11, 5e-7, 8e-6, 2e-9, 2e-5
SHARE = 0.02                # of that which a look may take: of the training as it is, about half

LARGE = 30.0                # mean size of a column, of inputs or of targets, from which on it hurts
SMALL = 0.2                 # length of a row of inputs, below which the network hardly sees it
SMALL_TARGET = 0.01         # mean size of targets below which their differences drown in the first outputs
FAR, FAR_FROM_VALUES = 3.0, 10.0    # times the loss of outputs 0: of classes, and of values
FEW_ROWS = 10               # fewer that are all the same are nothing to talk about
BLOCK_ROWS = 4096           # that are compared at a time
EXTREME = 1e15              # the square of a larger number, or of one below 1/EXTREME, leaves float32
LARGEST = ("largest = abs(X).max(axis=0).toarray().ravel(); "
           "X = X.multiply(1 / np.where(largest > 0, largest, 1))")
MEAN_AND_DEVIATION = ("mean, std = {0}.mean(axis=0), {0}.std(axis=0); "
                      "{0} = ({0} - mean) / np.where(std > 0, std, 1)")
OF_SOURCE = {
    "X": "found = source.statistics(); source = source.scaled(found.mean, found.std)",
    "y": 'found = source.statistics("y"); source = source.scaled(found.mean, found.std, of="y")'}


def rows_worth_a_look(X: Rows, parameters: int, steps: int, epochs: int) -> int:
    """How many rows may be looked at before a training that goes `epochs` times over the samples; 0 where
    even a few would take a share of its time.

    >>> [rows_worth_a_look(np.ones((500, 20)), 700, 10 * epochs, epochs) for epochs in (1, 10, 300)]
    [0, 0, 256]
    """
    samples, inputs = int(X.shape[0]), _numbers_of_a_row(X)
    parameters = parameters * inputs // int(X.shape[1])
    seconds = 6 * parameters * samples * epochs * OPERATION + steps * STEP + epochs * EPOCH
    spare = SHARE * seconds - LOOK
    if spare <= 0:
        return 0
    return min(int(spare / (inputs * ELEMENT)), most_rows(X))


def most_rows(X: Rows) -> int:
    """How many rows are looked at where time does not matter.

    >>> most_rows(np.ones((500, 20))), most_rows(np.ones((5, 20)))
    (256, 5)
    """
    return min(int(X.shape[0]), max(1, min(ROWS, ELEMENTS // _numbers_of_a_row(X))))


def _numbers_of_a_row(X: Rows) -> int:
    if isinstance(X, SparseRows):
        return max(1, int(X.indptr[-1]) // max(1, len(X)))
    return int(X.shape[1])


def look(model: MLP, samples: Samples, rows: int, X: Any, y: Any) -> float | None:
    """Warn of what hurts in so many of the samples, which were made of X and y; or are the first block of a
    source, which stands for both.

    Returns the loss of guessing on them; None where there is none, and where a warning said more.
    """
    places = np.arange(rows) * len(samples.x) // rows
    if samples.weights is not None:
        places = places[samples.weights[places] > 0]
    if len(places) == 0 or isinstance(model.loss, CallableLoss):
        return None
    inputs, targets = samples.x[places], samples.targets[places]
    is_first_block = isinstance(X, Source)              # all may be the same there, and not later on
    alike = [] if is_first_block or len(places) < FEW_ROWS else _of_equal_rows(samples, inputs, targets)
    said = [text for _, text in alike]
    of_what = [name for name, _ in alike]
    if "X" not in of_what and not (model.batch_norm and model.batch_norm[0]):
        said += _of_inputs(inputs, X)
    if "y" not in of_what and model.loss.output == "identity":
        said += _of_targets(targets, y)
    if said:
        callers.warn("; and ".join(said), TrainingWarning)
        return None
    if is_first_block and model.loss.targets in ("values", "counts"):
        return None                                     # others may be larger
    return _loss_of_guessing(model, targets)


def warn_of_labels(targets: Array) -> None:
    """Warn where a network of one output takes targets that are all 0 or 1 for values, for want of a loss."""
    if len(targets) > 1 and ((targets == 0) | (targets == 1)).all() and (targets != targets[0]).any():
        callers.warn("y: holds 0 and 1 alone, and a network of one output takes it for real values (loss "
                     "'mean_squared_error') where no loss is given; for labels write MLP([..., 1], "
                     "loss='binary_cross_entropy') or two outputs, MLP([..., 2])", TrainingWarning)


def compare(model: MLP, loss: float, guess: float) -> None:
    """Warn of a first epoch that is far worse than guessing."""
    far = FAR_FROM_VALUES if model.loss.targets in ("values", "counts") else FAR
    if loss > far * guess > 0:
        callers.warn(f"the loss of epoch 1 is {loss:.3g}, far worse than guessing: an output of 0 for every "
                     f"sample has {guess:.3g}; try a lower learning rate, or inputs and targets scaled to "
                     "about 1", TrainingWarning, model.core.lock.last().frame)


def _of_equal_rows(samples: Samples, inputs: Rows, targets: Array) -> list[tuple[str, str]]:
    """What is to be said of X or y where all rows are the same: of some of them, and then of all."""
    said = []
    x, weights = samples.x, samples.weights
    if isinstance(x, SparseRows) or isinstance(inputs, SparseRows):
        if isinstance(x, SparseRows) and not x.data.any():
            said.append(("X", "X: holds nothing but 0, from which nothing can be learned"))
    elif _all_alike(inputs) and _all_alike(x, weights):
        what = "all of its rows are the same" if inputs[0].any() else "holds nothing but 0"
        said.append(("X", f"X: {what}, from which nothing can be learned"))
    if _all_alike(targets) and _all_alike(samples.targets, weights):
        what = f"is {targets.flat[0]:.6g} for every sample" if targets[0].size == 1 else (
            "all of its rows are the same")
        said.append(("y", f"y: {what}, so that there is nothing to tell apart"))
    return said


def _all_alike(array: Array, weights: Array | None = None) -> bool:
    """Whether all rows that count are the same; looked through up to the first one that is not."""
    first = None
    for start in range(0, len(array), BLOCK_ROWS):
        rows = array[start:start + BLOCK_ROWS]
        if weights is not None:
            rows = rows[weights[start:start + BLOCK_ROWS] > 0]
        if first is None and len(rows):
            first = rows[0]
        if not (rows == first).all():
            return False
    return True


def _of_inputs(x: Array | SparseRows, X: Any) -> list[str]:
    """What is wrong with inputs, if anything."""
    sizes, length = _sizes_of_sparse(x) if isinstance(x, SparseRows) else _sizes(x)
    if not (sizes.max() > LARGE or 0 < length < SMALL):
        return []
    if sizes.max() > LARGE:
        what = f"{_column(X, sizes)} holds numbers of about {sizes.max():.3g}"
        if (more := np.count_nonzero(sizes > LARGE) - 1) > 0:
            what += f", and {more} more of its {len(sizes)} hold more than {LARGE:g}"
    else:
        what = f"its rows have a length of about {length:.2g}"
    return [f"X: {what}, where networks learn well from numbers of about 1: {_cure_of_inputs(x, X, sizes)}"]


def _cure_of_inputs(x: Array | SparseRows, X: Any, sizes: Array) -> str:
    if isinstance(X, Source):
        return _cure_of_source("X", X, isinstance(x, SparseRows))
    if isinstance(x, SparseRows):
        return ("" if hasattr(X, "max") else "X = X.tocsr(); ") + (
            LARGEST + ", with this largest for whatever is predicted, too")
    pixels = x.dtype == np.uint8 or x.shape[1] >= 64 and x.min() >= 0 and 30 < x.max() <= 255
    if pixels:
        return "X = X / np.float32(255)"
    return _standardised("X", X, x, sizes) + ", with this mean and std for whatever is predicted, too"


def _cure_of_source(name: str, source: Source, is_sparse: bool = False) -> str:
    if is_sparse or source.passes is not None:
        return f"divide {name} where the blocks are made, or in transform= of fastmlp.data.Chunks"
    return OF_SOURCE[name]


def _of_targets(t: Array, y: Any) -> list[str]:
    """What is wrong with values that are to be predicted, if anything."""
    sizes, _ = _sizes(t)
    if not (sizes.max() > LARGE or 0 < sizes.max() < SMALL_TARGET):
        return []
    where = f"{_column(None if isinstance(y, Source) else y, sizes)} holds" if len(sizes) > 1 else "holds"
    cure, found = _standardised("y", y, t, sizes), ""
    if isinstance(y, Source):
        cure, found = _cure_of_source("y", y), "found."
    return [f"y: {where} numbers of about {sizes.max():.3g}, where networks learn well with numbers of about "
            f"1: {cure}, and model.predict(X) * {found}std + {found}mean predicts y as it was"]


def _standardised(name: str, given: Any, some: Array, sizes: Array) -> str:
    """The line that scales columns, in the words of NumPy and pandas."""
    there = sizes[sizes > 0]
    narrow = some.dtype.itemsize < 4 or some.dtype == np.float32 and (
        there.max() > EXTREME or there.min() < 1 / EXTREME)
    needs_double = some.dtype.kind == "f" and narrow
    line = ""
    if not (isinstance(given, np.ndarray) or hasattr(given, "iloc")):
        line = f"{name} = np.asarray({name}{', float' * needs_double}); "
    elif needs_double:
        line = f"{name} = {name}.astype(float); "
    return line + MEAN_AND_DEVIATION.format(name)


def _column(given: Any, sizes: Array) -> str:
    """The name of the largest column."""
    column = int(sizes.argmax())
    names = frames.labels(given) if frames.is_frame(given) else None
    if isinstance(given, Source):
        names = given.input_names
    return f"column {column}" + (f" ({names[column]!r})" if names is not None else "")


def _sizes(x: Array) -> tuple[Array, float]:
    """The mean size of the numbers of every column, and the mean length of a row. Rows with numbers that are
    not finite do not count."""
    x = np.abs(x, dtype=np.float64)
    sizes = x.mean(axis=0)
    if not np.isfinite(sizes.sum()):
        x = x[np.isfinite(x).all(axis=1)]
        sizes = x.sum(axis=0) / max(1, len(x))
    with np.errstate(over="ignore"):
        return sizes, float(np.sqrt((x * x).sum() / max(1, len(x))))      # no BLAS, whose threads would start


def _sizes_of_sparse(x: SparseRows) -> tuple[Array, float]:
    own = slice(int(x.indptr[0]), int(x.indptr[-1]))
    data = np.abs(x.data[own], dtype=np.float64)
    data = np.where(np.isfinite(data), data, 0.0)
    sizes = np.bincount(x.indices[own], data, x.shape[1]) / len(x)
    with np.errstate(over="ignore"):
        return sizes, float(np.sqrt((data * data).sum() / len(x)))


def _loss_of_guessing(model: MLP, targets: Array) -> float | None:
    """The loss of outputs 0 for all samples: all classes alike, or the value 0."""
    outputs = np.zeros((len(targets), model.layers[-1]), model.dtype)
    if targets.ndim == 2:
        targets = np.ascontiguousarray(targets, model.dtype)
    result = model.backend.loss_and_gradient(model.loss, outputs, targets, None)
    return None if result is NotImplemented else float(result[0])
