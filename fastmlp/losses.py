"""Losses: what training makes small. One small class each.

A loss gives each sample i a number l_i, and a batch their mean, weighted where there are weights:

    L = sum_i w_i l_i / sum_i w_i

A sample of weight 0 counts for nothing, whatever its outputs. The losses of single outputs (all but those of
classes and of distributions) take for l_i the mean over the m outputs of the sample.

`MLP(loss=...)` fixes the output function that belongs to the loss, and with it what the targets are. Loss and
gradient are computed from the outputs z before that function: sigmoid and softmax saturate, and what they
round off no logarithm brings back. The formulas in NumPy are in `fastmlp.backends.numpy`, the kernels in
`fastmlp/kernels/losses.pxi`; both find a loss by its `name` and `code`.

Which one: cross-entropy for one class out of C; binary cross-entropy for yes or no, once or many times over;
mean squared error for values, Huber or mean absolute error where some of them are far off, Poisson for
counts. The hinges ask for a margin instead of probabilities.
"""
from __future__ import annotations

import copy
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp import checks
from fastmlp.copying import importable

__all__ = [
    "BinaryCrossEntropy", "CallableLoss", "CrossEntropy", "Hinge", "Huber", "KLDivergence", "Loss",
    "MeanAbsoluteError", "MeanSquaredError", "MultiClassHinge", "Poisson", "SquaredHinge", "class_weights",
    "resolve", "targets_and_weights",
]

Array = NDArray[Any]
BLOCK_ROWS = 4096               # targets that are looked through at a time


@dataclass(frozen=True)
class Loss:
    """What every loss has: a `name`, the `code` the kernels know it by, and what it says of the outputs.

    targets     what they are: "classes" (indices), "distributions" over the classes, "binary" (0 or 1),
                "signs" (-1 or +1), "values", "counts", or "anything"
    output      the function that makes predictions of outputs: "softmax", "sigmoid", "exp", "identity"; None
                where outputs are scores
    """

    name: ClassVar[str]
    code: ClassVar[int]
    targets: ClassVar[str]
    output: ClassVar[str | None]

    @property
    def classifies(self) -> bool:
        """Whether there is an output for every class, rather than outputs that mean something each."""
        return self.targets in ("classes", "distributions")

    @property
    def parameter(self) -> float:
        """The number that the kernels need beside the code."""
        return 0.0

    @property
    def takes_all_labels(self) -> bool:
        """Whether every class index counts: none is to be ignored."""
        return True

    def pos_weights(self, outputs: int, dtype: Any) -> Array | None:
        """What a positive label weighs, for each of the outputs; None for 1."""
        return None

    def check_targets(self, name: str, y: ArrayLike, rows: int, outputs: int, dtype: np.dtype[Any]
                      ) -> tuple[Array, Array | None]:
        """Targets as the engine takes them: class indices (rows,) as intp, or a table (rows, outputs). And
        which of them count, (rows,); None for all.

        Raises TypeError and ValueError, naming the argument, for targets that are not what the loss is about.

        >>> Hinge().check_targets("y", [1, -1, 1], 3, 1, np.dtype("float32"))[0].tolist()
        [[1], [-1], [1]]
        """
        return _table(name, y, rows, outputs, dtype, self.targets), None

    @property
    def metric(self) -> str | None:
        """The name of the usual metric of predictions, in `fastmlp.metrics`."""
        if self.targets in ("classes", "distributions", "binary", "signs"):
            return "accuracy"
        return "r2" if self.targets in ("values", "counts") else None

    def truth(self, targets: Array) -> Array:
        """Checked targets as `predict` gives predictions: the likeliest class, 0 or 1, -1 or +1, values."""
        if targets.ndim == 1:
            return targets
        if self.classifies:
            return targets.argmax(axis=1)
        if self.targets == "binary":
            targets = (targets > 0.5).astype(np.intp)
        return _one_column(targets)

    def predict(self, outputs: Array, backend: Any) -> Array:
        """Predictions of outputs (rows, outputs): class labels (rows,); 0 or 1, -1 or +1, or values for every
        output, (rows,) where there is one.

        >>> from fastmlp.backends import active
        >>> Hinge().predict(np.array([[0.5], [-2.0]]), active())
        array([ 1, -1])
        """
        if self.classifies:
            return outputs.argmax(axis=1)
        if self.targets == "binary":
            outputs = (outputs > 0).astype(np.intp)
        elif self.targets == "signs":
            outputs = np.where(outputs > 0, 1, -1)
        elif self.output == "exp":
            outputs = backend.exp(outputs)
        return _one_column(outputs)

    def predict_proba(self, outputs: Array, backend: Any) -> Array:
        """Probabilities of the classes (rows, C), written over the outputs; or of label 1 for every output,
        (rows,) where there is one. AttributeError where the outputs know of none.

        >>> from fastmlp.backends import active
        >>> BinaryCrossEntropy().predict_proba(np.array([[0.0], [100.0]]), active())
        array([0.5, 1. ])
        """
        if self.output == "softmax":
            return backend.softmax(outputs, out=outputs)
        if self.output == "sigmoid":
            return _one_column(backend.sigmoid(outputs, out=outputs))
        what = "values, not classes" if self.targets in ("values", "counts") else "scores, not probabilities"
        raise AttributeError(f"predict_proba: the outputs of {self.name!r} are {what}")


# Of classes --------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class CrossEntropy(Loss):
    """l = -sum_c t_c log softmax(z)_c; dl/dz = softmax(z) - t.

    The negative log-likelihood of the right class, for one class out of C. z (n, C) are logits, t class
    indices (n,) of any integer dtype, or rows of probabilities (n, C). The output function is softmax. Loss
    and gradient are computed from the logits at once: stable for logits of any size.

    `label_smoothing` s, from 0 to 1, replaces t by (1 - s) t + s / C: the network is not asked for logits
    without bound, and its probabilities are less sure of themselves. Samples with the class index
    `ignore_index` count for nothing.

    Raises TypeError or ValueError for another smoothing or index.

    Source: Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990;
    Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.4; Szegedy et al., "Rethinking the
    Inception Architecture for Computer Vision", CVPR 2016 (label smoothing).

    >>> CrossEntropy(label_smoothing=0.1)
    CrossEntropy(label_smoothing=0.1, ignore_index=None)
    """

    name = "cross_entropy"
    code = 0
    targets = "classes"
    output = "softmax"
    label_smoothing: float = 0.0
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        smoothing = checks.number("label_smoothing", self.label_smoothing, low=0.0, high=1.0)
        object.__setattr__(self, "label_smoothing", smoothing)
        if self.ignore_index is not None:
            object.__setattr__(self, "ignore_index", checks.integer("ignore_index", self.ignore_index))

    @property
    def parameter(self) -> float:
        return self.label_smoothing

    @property
    def takes_all_labels(self) -> bool:
        return self.ignore_index is None

    def check_targets(self, name: str, y: ArrayLike, rows: int, outputs: int, dtype: np.dtype[Any]
                      ) -> tuple[Array, Array | None]:
        y = checks.as_array(name, y)
        if y.ndim == 2 and not (y.shape == (rows, 1) and y.dtype.kind in "iu"):
            return _table(name, y, rows, outputs, dtype, "distributions"), None
        y, counted = self.split(y)
        return _labels(name, y, rows, outputs), None if counted is None else counted.reshape(-1)

    def split(self, labels: Array) -> tuple[Array, Array | None]:
        """Labels, 0 in the place of those to be ignored; and which count, None for all."""
        if self.ignore_index is None or labels.dtype.kind not in "iu":
            return labels, None
        counted = labels != self.ignore_index
        if counted.all():
            return labels, None
        return np.where(counted, labels, np.zeros_like(labels)), counted


@dataclass(frozen=True)
class KLDivergence(Loss):
    """l = sum_c t_c (log t_c - log softmax(z)_c); dl/dz = softmax(z) - t.

    The Kullback-Leibler divergence of the network's distribution from a target distribution: how many nats
    a code made for softmax(z) wastes on t. It is cross-entropy less the entropy of t, so that the gradient
    is the same, and 0 is reached where both agree: the loss of distillation. z (n, C) are logits, t rows of
    probabilities (n, C); where t_c = 0 the class costs nothing.

    Source: Kullback, Leibler, "On Information and Sufficiency", Annals of Mathematical Statistics 22, 1951;
    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.

    >>> KLDivergence().targets
    'distributions'
    """

    name = "kl_divergence"
    code = 1
    targets = "distributions"
    output = "softmax"


@dataclass(frozen=True)
class MultiClassHinge(Loss):
    """l = max(0, 1 + max over k != t of z_k - z_t); dl/dz_k = 1 at that k, -1 at t, 0 elsewhere.

    The loss of the multi-class support vector machine: the right class is to lead the best of the others by
    a margin of 1. z (n, C) are scores, t class indices (n,). Where the margin is kept the gradient is 0; of
    several best others the first has it.

    Source: Crammer, Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines",
    Journal of Machine Learning Research 2, 2001.

    >>> MultiClassHinge().output is None
    True
    """

    name = "multiclass_hinge"
    code = 2
    targets = "classes"
    output = None

    def check_targets(self, name: str, y: ArrayLike, rows: int, outputs: int, dtype: np.dtype[Any]
                      ) -> tuple[Array, Array | None]:
        return _labels(name, checks.as_array(name, y), rows, outputs), None


# Of values ---------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """l = 1/m sum_j (z_j - t_j)^2; dl/dz = 2 (z - t) / m.

    The loss of regression: the mean of the squared error over all n samples and m outputs. Targets are real
    values (n, m), or (n,) for one output. The output function is the identity. What it makes of the outputs
    is the mean of t, given x.

    Source: Legendre, "Nouvelles methodes pour la determination des orbites des cometes", 1805; Bishop,
    "Pattern Recognition and Machine Learning", 2006, section 3.1.

    >>> MeanSquaredError().classifies
    False
    """

    name = "mean_squared_error"
    code = 3
    targets = "values"
    output = "identity"


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """l = 1/m sum_j |z_j - t_j|; dl/dz = sign(z - t) / m, 0 where z = t.

    The regression whose outputs become the median of t, given x: a target that is far off pulls no more than
    any other. The gradient does not fade near the minimum, so that the learning rate has to. Targets are
    real values (n, m), or (n,) for one output.

    Source: Laplace, "Memoire sur la probabilite des causes par les evenements", 1774.

    >>> MeanAbsoluteError().output
    'identity'
    """

    name = "mean_absolute_error"
    code = 4
    targets = "values"
    output = "identity"


@dataclass(frozen=True)
class Huber(Loss):
    """l = 1/m sum_j h(z_j - t_j), h(e) = e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2);
    dl/dz = max(-delta, min(delta, z - t)) / m.

    Squared near the target, absolute far from it: smooth at the minimum, and not carried away by outliers.
    delta, above 0, is where the one becomes the other, in units of the targets. Targets are real values
    (n, m), or (n,) for one output.

    Raises TypeError or ValueError for any other delta.

    Source: Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.

    >>> Huber(delta=2)
    Huber(delta=2.0)
    """

    name = "huber"
    code = 5
    targets = "values"
    output = "identity"
    delta: float = 1.0

    def __post_init__(self) -> None:
        delta = checks.number("delta", self.delta, low=0.0)
        if delta == 0:
            raise ValueError(f"delta: expected a finite number above 0, got {delta!r}")
        object.__setattr__(self, "delta", delta)

    @property
    def parameter(self) -> float:
        return self.delta


@dataclass(frozen=True)
class Poisson(Loss):
    """l = 1/m sum_j exp(z_j) - t_j z_j; dl/dz = (exp(z) - t) / m.

    The negative log-likelihood of counts whose mean is exp(z), less log t!, which no weight can change: of
    events in a given time, say. It is smallest at z = log t, and may be negative. Targets are counts (n, m),
    or (n,) for one output: from 0 up, whole or not. The output function is exp.

    Source: McCullagh, Nelder, "Generalized Linear Models", 1989, chapter 6.

    >>> Poisson().output
    'exp'
    """

    name = "poisson"
    code = 6
    targets = "counts"
    output = "exp"


# Of yes or no ------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """l = -1/m sum_j p_j t_j log s(z_j) + (1 - t_j) log(1 - s(z_j)), with s(z) = 1 / (1 + exp(-z));
    dl/dz = ((1 - t) s(z) - p t (1 - s(z))) / m, which is (s(z) - t) / m for p = 1.

    The negative log-likelihood of a label that is 1 with probability s(z): one label for a sample, or many
    that do not exclude each other. Logits z (n, m); targets t (n, m), or (n,) for one output, are 0 or 1, or
    probabilities between them. The output function is the logistic function. Stable for logits of any size.

    `pos_weight` p, one number or one for each output, is what a positive label weighs against a negative one:
    above 1 it finds more of a rare label, at the price of more false alarms. It must be finite and not
    negative.

    Raises TypeError or ValueError for any other pos_weight.

    Source: Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.2.

    >>> BinaryCrossEntropy(pos_weight=3)
    BinaryCrossEntropy(pos_weight=3.0)
    """

    name = "binary_cross_entropy"
    code = 7
    targets = "binary"
    output = "sigmoid"
    pos_weight: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        weight: Any = self.pos_weight
        if weight is None:
            return
        if isinstance(weight, (list, tuple, np.ndarray)) and np.ndim(weight) == 1:
            weight = tuple(checks.number(f"pos_weight[{i}]", w, low=0.0) for i, w in enumerate(weight))
        else:
            weight = checks.number("pos_weight", weight, low=0.0)
        object.__setattr__(self, "pos_weight", weight)

    def pos_weights(self, outputs: int, dtype: Any) -> Array | None:
        if self.pos_weight is None:
            return None
        if isinstance(self.pos_weight, tuple) and len(self.pos_weight) != outputs:
            raise ValueError(f"pos_weight: expected one number, or one for each of {outputs} outputs, got "
                             f"{len(self.pos_weight)}")
        return np.full(outputs, self.pos_weight, dtype)


@dataclass(frozen=True)
class Hinge(Loss):
    """l = 1/m sum_j max(0, 1 - t_j z_j); dl/dz = -t / m where t z < 1, else 0.

    The loss of the support vector machine: the score z is to have the sign of t, by a margin of 1. Samples
    beyond the margin have no gradient at all. Targets are -1 or +1, (n, m), or (n,) for one output.

    Source: Cortes, Vapnik, "Support-Vector Networks", Machine Learning 20, 1995.

    >>> Hinge().targets
    'signs'
    """

    name = "hinge"
    code = 8
    targets = "signs"
    output = None


@dataclass(frozen=True)
class SquaredHinge(Loss):
    """l = 1/m sum_j max(0, 1 - t_j z_j)^2; dl/dz = -2 t max(0, 1 - t z) / m.

    A hinge without a kink: its gradient fades towards the margin, and grows with what is missing. Targets
    are -1 or +1, (n, m), or (n,) for one output.

    Source: Lee, Mangasarian, "SSVM: A Smooth Support Vector Machine for Classification", Computational
    Optimization and Applications 20, 2001.

    >>> SquaredHinge().code
    9
    """

    name = "squared_hinge"
    code = 9
    targets = "signs"
    output = None


# Of the user's own -------------------------------------------------------------------------------------

@dataclass(frozen=True)
class CallableLoss(Loss):
    """(L, dL/dz) = function(z, t): a loss of one's own.

    The function is given the outputs z (n, outputs) of a batch, in the dtype of the model, and its targets,
    whatever was passed as y, with as many rows. It returns the loss, a number, and its gradient, an array
    like z. What it takes for a mean, and how it weighs samples, is its own affair.

    A loss whose function is defined in a module can be pickled, and so can its models.

    Calling the object calls the function and raises TypeError or ValueError for what is no loss and gradient.

    >>> loss = CallableLoss(lambda z, t: (abs(z - t).sum(), np.sign(z - t)))
    >>> loss(np.array([[2.0], [5.0]]), np.array([[1.0], [7.0]]))
    (3.0, array([[ 1.], [-1.]]))
    """

    name = "callable"
    code = -1
    targets = "anything"
    output = None
    function: Callable[[Array, Array], tuple[float, Array]]

    def __reduce__(self) -> tuple[Any, ...]:
        importable("loss", self.function)
        return CallableLoss, (self.function,)

    def __deepcopy__(self, memo: dict[int, Any]) -> CallableLoss:
        return CallableLoss(copy.deepcopy(self.function, memo))

    def __copy__(self) -> CallableLoss:
        return copy.deepcopy(self)

    def __call__(self, outputs: Array, targets: Array) -> tuple[float, Array]:
        result = self.function(outputs, targets)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(
                f"loss: expected a function that returns (loss, gradient), got {type(result).__name__}")
        loss, gradient = result
        if isinstance(loss, np.ndarray) and loss.ndim == 0:
            loss = loss[()]
        if not isinstance(loss, numbers.Real):
            raise TypeError(f"loss: expected a function whose loss is a number, got {type(loss).__name__}")
        gradient = checks.as_array("loss gradient", gradient)
        if gradient.dtype.kind not in "iuf":
            raise TypeError(f"loss gradient: expected numbers, got dtype {gradient.dtype}")
        checks.shape("loss gradient", gradient, outputs.shape, "like the outputs")
        return float(loss), gradient.astype(outputs.dtype, copy=False)

    def check_targets(self, name: str, y: ArrayLike, rows: int, outputs: int, dtype: np.dtype[Any]
                      ) -> tuple[Array, Array | None]:
        y = checks.as_array(name, y, of_numbers=False)
        if y.ndim == 0 or len(y) != rows:
            raise ValueError(f"{name}: expected {rows} rows, one for each row of X, got shape {y.shape}")
        return y, None


BY_NAME: dict[str, type[Loss]] = {cls.name: cls for cls in (
    CrossEntropy, MeanSquaredError, BinaryCrossEntropy, KLDivergence, MeanAbsoluteError, Huber, Poisson,
    Hinge, SquaredHinge, MultiClassHinge)}


def resolve(loss: str | Loss | type[Loss] | Callable[[Array, Array], tuple[float, Array]]) -> Loss:
    """The loss meant by a name, an object or a class of this module, or a function (see `CallableLoss`).

    Raises ValueError for an unknown name (it lists the known ones and the nearest), TypeError for anything
    else.

    >>> resolve("huber")
    Huber(delta=1.0)
    """
    if isinstance(loss, str):
        checks.known_name("loss", loss, BY_NAME)
        return BY_NAME[loss]()
    if isinstance(loss, type):
        if loss in BY_NAME.values():
            return loss()
    elif isinstance(loss, Loss):
        if type(loss) in BY_NAME.values() or type(loss) is CallableLoss:
            return loss
    elif callable(loss):
        return CallableLoss(loss)
    raise TypeError(f"loss: expected a name, an object of fastmlp.losses or a function, got {loss!r}")


# Weights -----------------------------------------------------------------------------------------------

def targets_and_weights(
    loss: Loss, name: str, y: ArrayLike, rows: int, outputs: int, dtype: np.dtype[Any],
    sample_weight: ArrayLike | None = None, class_weight: Mapping[Any, float] | str | None = None,
) -> tuple[Array, Array | None]:
    """Targets as the engine takes them, and what every sample weighs: float64 (rows,), or None for all alike.

    The weight is sample_weight times class_weight, 0 where the target is ignored.

    Raises TypeError and ValueError, naming the argument, for targets that do not fit the loss and for weights
    that are negative, not finite, or all 0.

    >>> y, w = targets_and_weights(CrossEntropy(ignore_index=-1), "y", [1, -1, 0], 3, 2, np.dtype("float32"))
    >>> y, w
    (array([1, 0, 0]), array([1., 0., 1.]))
    """
    if isinstance(loss, CallableLoss):
        for given, value in (("sample_weight", sample_weight), ("class_weight", class_weight)):
            if value is not None:
                raise ValueError(f"{given}: expected None, for a loss of one's own weighs its samples itself")
    targets, counted = loss.check_targets(name, y, rows, outputs, dtype)
    weights = None if sample_weight is None else checks.sample_weights("sample_weight", sample_weight, rows)
    if class_weight is not None:
        factors = class_weights(class_weight, *_labels_and_classes(loss, targets, outputs), counted)
        weights = factors if weights is None else _products(weights, factors)
    if counted is not None:
        weights = counted.astype(np.float64) if weights is None else np.where(counted, weights, 0.0)
    if class_weight is not None or counted is not None:
        weights = checks.sample_weights(f"weights of {name}", weights, rows)
    return targets, weights


def _products(weights: Array, factors: Array) -> Array:
    """Weights times factors, which may be near the ends of float64's range."""
    with np.errstate(all="ignore"):
        products = weights * factors
    lost = (products == np.inf) | (products == 0) & (weights > 0) & (factors > 0)
    if lost.any():
        row = int(lost.argmax())
        raise ValueError(f"class_weight: expected a product with sample_weight that float64 holds, got "
                         f"{weights[row]} times {factors[row]} in row {row}")
    return products


def class_weights(class_weight: Mapping[Any, float] | str, labels: Array, classes: int | Sequence[int],
                  counted: Array | None = None) -> Array:
    """What every sample weighs, float64 (rows,), by its class.

    class_weight is a dict {class: weight}, where a class that is not named weighs 1; or "balanced", for
    n / (k n_c) with n samples, n_c of them of class c, and k classes that occur: each class then weighs as
    much as any other. classes are the labels there can be, or their number C for 0 to C - 1. counted (rows,)
    is True for the samples that n and n_c count, None for all.

    Raises TypeError for anything else, ValueError for an unknown class or word, and weights that are negative
    or not finite.

    Source: King, Zeng, "Logistic Regression in Rare Events Data", Political Analysis 9, 2001.

    >>> class_weights("balanced", np.array([0, 0, 0, 1]), 2)
    array([0.66666667, 0.66666667, 0.66666667, 2.        ])
    >>> class_weights({1: 5}, np.array([0, 0, 1]), 2)
    array([1., 1., 5.])
    """
    known: Sequence[int] = range(classes) if isinstance(classes, int) else classes
    present, inverse = np.unique(labels, return_inverse=True)
    if isinstance(class_weight, str):
        checks.known_name("class_weight", class_weight, ["balanced"])
        counts = np.bincount(inverse if counted is None else inverse[counted], minlength=len(present))
        weights = counts.sum() / (max(np.count_nonzero(counts), 1) * np.maximum(counts, 1))
    elif isinstance(class_weight, Mapping):
        for label in class_weight:
            if label not in known:
                raise ValueError(f"class_weight: unknown class {label!r}, expected classes "
                                 + (f"0 to {len(known) - 1}" if isinstance(classes, int) else
                                    " and ".join(map(str, known))))
        by_class = {label: checks.number(f"class_weight[{label!r}]", weight, low=0.0)
                    for label, weight in class_weight.items()}
        weights = np.array([by_class.get(label, 1.0) for label in present.tolist()])
    else:
        raise TypeError(f"class_weight: expected a dict or 'balanced', got {class_weight!r}")
    return weights[inverse]


def _labels_and_classes(loss: Loss, targets: Array, outputs: int) -> tuple[Array, int | Sequence[int]]:
    """The class of every sample, and the classes there are."""
    if loss.classifies and targets.ndim == 1:
        return targets, outputs
    if loss.targets in ("binary", "signs") and outputs == 1:
        classes = (0, 1) if loss.targets == "binary" else (-1, 1)
        labels = targets[:, 0]
        if not np.isin(labels, classes).all():
            raise ValueError("class_weight: expected labels 0 or 1, got probabilities between them")
        return labels, classes
    what = {"classes": "rows of probabilities", "distributions": "rows of probabilities",
            "binary": f"{outputs} labels a sample", "signs": f"{outputs} labels a sample"}
    raise ValueError(f"class_weight: expected one class a sample, but {loss.name!r} has "
                     f"{what.get(loss.targets, loss.targets)}")


# Targets -----------------------------------------------------------------------------------------------

def _labels(name: str, y: Array, rows: int, classes: int) -> Array:
    """Class indices (rows,), contiguous, as intp; a column of them will do."""
    if y.shape == (rows, 1):
        y = y.reshape(-1)
    return np.require(checks.labels(name, y, rows, classes), requirements=["C", "A"])


def _table(name: str, y: ArrayLike, rows: int, outputs: int, dtype: np.dtype[Any], kind: str) -> Array:
    """A table (rows, outputs) of a dtype that the engine reads; looked through block by block."""
    y = checks.as_array(name, y)
    if y.ndim == 1 and outputs == 1:
        y = y[:, None]
    y = checks.table(name, y, outputs)
    if len(y) != rows:
        raise ValueError(f"{name}: expected {rows} rows, one for each row of X, got {len(y)}")
    for start in range(0, rows, BLOCK_ROWS):
        checks.targets(name, y[start:start + BLOCK_ROWS].astype(dtype, copy=False), kind, start)
    return checks.readable(y, dtype)


def _one_column(outputs: Array) -> Array:
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs
