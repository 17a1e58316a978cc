"""Whether inputs and targets are of a size that training bears: a look at some rows before `fit` begins.

Initial weights and learning rates are made for inputs and targets of about 1. Nothing is scaled here: what is
found is said, with the column and a line of code.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core import callers, frames
from fastmlp._core.advice import TrainingWarning
from fastmlp._core.sources import Rows, SparseRows
from fastmlp.losses import CallableLoss

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fastmlp._core.network import Samples
    from fastmlp.model import MLP

    Array = NDArray[Any]

__all__ = ["FEW_STEPS", "compare", "look", "rows_worth_a_look", "warn_of_labels"]

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
MEAN_AND_DEVIATION = "mean, std = {0}.mean(axis=0), {0}.std(axis=0) + 1e-9; {0} = ({0} - mean) / std"


def rows_worth_a_look(X: Rows, parameters: int, steps: int, epochs: int) -> int:
    """How many rows may be looked at before a training that goes `epochs` times over the samples; 0 where
    even a few would take a share of its time.

    >>> [rows_worth_a_look(np.ones((500, 20)), 700, 10 * epochs, epochs) for epochs in (1, 10, 300)]
    [0, 0, 256]
    """
    samples, inputs = (int(size) for size in X.shape)
    if isinstance(X, SparseRows):
        nonzeros = max(1, int(X.indptr[-1]) // max(1, samples))
        parameters, inputs = parameters * nonzeros // inputs, nonzeros
    seconds = 6 * parameters * samples * epochs * OPERATION + steps * STEP + epochs * EPOCH
    spare = SHARE * seconds - LOOK
    if spare <= 0:
        return 0
    return min(samples, int(spare / (inputs * ELEMENT)), max(1, min(ROWS, ELEMENTS // inputs)))


def look(model: MLP, samples: Samples, rows: int, X: Any, y: Any) -> float | None:
    """Warn of what hurts in so many of the samples, which were made of X and y.

    Returns the loss of guessing on them; None where there is none, and where a warning said more.
    """
    places = np.arange(rows) * len(samples.x) // rows
    if samples.weights is not None:
        places = places[samples.weights[places] > 0]
    if len(places) == 0 or isinstance(model.loss, CallableLoss):
        return None
    targets = samples.targets[places]
    said = [] if model.batch_norm and model.batch_norm[0] else _of_inputs(samples.x[places], X)
    if model.loss.output == "identity":
        said += _of_targets(targets, y)
    if said:
        callers.warn("; and ".join(said), TrainingWarning)
        return None
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
    return [f"X: {what}, where networks learn well from numbers of about 1: {_cure_of_inputs(x, X)}"]


def _cure_of_inputs(x: Array | SparseRows, X: Any) -> str:
    if isinstance(x, SparseRows):
        return "X = X / abs(X).max()"
    pixels = x.dtype == np.uint8 or x.shape[1] >= 64 and x.min() >= 0 and 30 < x.max() <= 255
    if pixels:
        return "X = X / np.float32(255)"
    return _standardised("X", X) + ", with this mean and std for whatever is predicted, too"


def _of_targets(t: Array, y: Any) -> list[str]:
    """What is wrong with values that are to be predicted, if anything."""
    sizes, _ = _sizes(t)
    if not (sizes.max() > LARGE or 0 < sizes.max() < SMALL_TARGET):
        return []
    where = f"{_column(y, sizes)} holds" if len(sizes) > 1 else "holds"
    return [f"y: {where} numbers of about {sizes.max():.3g}, where networks learn well with numbers of about "
            f"1: {_standardised('y', y)}, and model.predict(X) * std + mean predicts y as it was"]


def _standardised(name: str, given: Any) -> str:
    """The line that scales columns, in the words of NumPy and pandas."""
    plain = isinstance(given, np.ndarray) or hasattr(given, "iloc")
    return ("" if plain else f"{name} = np.asarray({name}); ") + MEAN_AND_DEVIATION.format(name)


def _column(given: Any, sizes: Array) -> str:
    """The name of the largest column."""
    column = int(sizes.argmax())
    return f"column {column}" + (f" ({frames.labels(given)[column]!r})" if frames.is_frame(given) else "")


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
