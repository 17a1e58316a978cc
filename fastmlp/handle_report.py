"""How close an inference handle is to its model, on samples of the user: `InferenceHandle.report`."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core import checks
from fastmlp.losses import targets_and_weights
from fastmlp.metrics import METRICS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array
    from fastmlp.backends.interface import Predictor
    from fastmlp.model import MLP

__all__ = ["HandleReport", "compare"]

BLOCK_ROWS = 1024


@dataclass(frozen=True)
class HandleReport:
    """What a handle's predictions are beside the model's; str() of it is a text.

    Attributes
    ----------
    compute_dtype : str
        In what the handle computes: "int8", say.
    model_dtype : str
        In what the model does.
    samples : int
        Number of samples that were compared.
    agreement : float or None
        Share of the samples for which both predict the same label, from 0 to 1; None for a loss of values.
    metric : str or None
        What the scores are: "accuracy" or "r2"; None without targets.
    score : float or None
        That of the handle.
    model_score : float or None
        That of the model.
    largest_difference : float
        Largest difference between outputs (logits) of the two; NaN if outputs are not finite.
    largest_output : float
        Largest output of the model, in magnitude, to see it beside.
    nbytes : int
        Bytes of the handle's packed weights and biases.
    model_nbytes : int
        Those of a handle that computes as the model does.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> X, y = np.eye(3), [0, 1, 1]
    >>> handle = MLP([3, 8, 2], seed=0).compile_predict(dtype="int8", validation_data=(X, y))
    >>> handle.report.agreement, handle.report.score == handle.report.model_score
    (1.0, True)
    """

    compute_dtype: str
    model_dtype: str
    samples: int
    agreement: float | None
    metric: str | None
    score: float | None
    model_score: float | None
    largest_difference: float
    largest_output: float
    nbytes: int
    model_nbytes: int

    def __str__(self) -> str:
        lines = [f"{self.compute_dtype} beside {self.model_dtype}, {self.samples:,} samples"]
        if self.agreement is not None:
            lines.append(f"same labels: {self.agreement:.2%}")
        if self.score is not None and self.model_score is not None:
            lines.append(f"{self.metric}: {self.score:.4f} beside {self.model_score:.4f}")
        ours, models = map(checks.readable_size, (self.nbytes, self.model_nbytes))
        return "\n".join([
            *lines, f"largest difference of outputs: {self.largest_difference:.3g}, of outputs up to "
            f"{self.largest_output:.3g}", f"weights: {ours} beside {models}"])


def compare(model: MLP, compute_dtype: str, model_dtype: str, ours: Predictor, models: Predictor,
            X: ArrayLike, y: ArrayLike | None) -> HandleReport:
    """Compare two predictors of the values of the last layer.

    Parameters
    ----------
    model : MLP
        Model that both were made from: its loss says what predictions are.
    compute_dtype : str
        In what the first computes.
    model_dtype : str
        In what the second does.
    ours : Predictor
        First predictor.
    models : Predictor
        Second one.
    X : array_like of any numeric dtype, shape (n, inputs)
        Samples.
    y : array_like, optional
        Targets, as `MLP.evaluate` takes them.

    Returns
    -------
    HandleReport
        Report.

    Raises
    ------
    TypeError
        For what is not numeric.
    ValueError
        For no samples, and for shapes and targets that do not fit.
    """
    table = checks.table("validation_data[0]", X, model.layers[0])
    checks.has_samples("validation_data[0]", table)
    loss, targets, weights = model.loss, None, None
    if y is not None:
        targets, weights = targets_and_weights(
            loss, "validation_data[1]", y, len(table), model.layers[-1], model.dtype)
    parts: tuple[list[Array], list[Array]] = ([], [])
    difference, size = 0.0, 0.0
    with np.errstate(all="ignore"):
        for start in range(0, len(table), BLOCK_ROWS):
            block = checks.readable(table[start:start + BLOCK_ROWS], model.dtype)
            outputs = [_values(predictor, block) for predictor in (ours, models)]
            difference = np.maximum(difference, np.abs(outputs[0] - outputs[1]).max())
            size = np.maximum(size, np.abs(outputs[1]).max())
            for predictions, values in zip(parts, outputs):
                predictions.append(loss.predict(values, model.backend))
    predicted, expected = map(np.concatenate, parts)
    agreement = score = model_score = metric = None
    if loss.metric == "accuracy":
        same = predicted == expected
        agreement = float((same if same.ndim == 1 else same.all(axis=1)).mean())
    if targets is not None and loss.metric is not None:
        truth, metric = loss.truth(targets), loss.metric
        counted: Any = slice(None) if weights is None else weights > 0
        score, model_score = (
            float(METRICS[metric](truth[counted], found[counted])) for found in (predicted, expected))
    return HandleReport(compute_dtype, model_dtype, len(table), agreement, metric, score, model_score,
                        float(difference), float(size), ours.parameters_nbytes, models.parameters_nbytes)


def _values(predictor: Predictor, block: Array) -> Array:
    values = predictor.run(block, None)
    if values is None:
        raise RuntimeError(f"validation_data[0]: cannot be read, {block.dtype} with strides {block.strides}")
    return values
