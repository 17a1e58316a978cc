"""Losses: what training minimises. One small class each.

A loss gives each sample i a number l_i, and a batch their mean, weighted where there are weights::

    L = sum_i w_i l_i / sum_i w_i

A sample of weight 0 counts for nothing, whatever its outputs. The losses of single outputs (all but those of
classes and of distributions) take for l_i the mean over the m outputs of the sample.

``MLP(loss=...)`` fixes the output function that belongs to the loss, and with it what the targets are. Loss
and gradient are computed from the outputs z before that function: sigmoid and softmax saturate, and what they
round off no logarithm brings back. The formulas in NumPy are in ``fastmlp.backends.numpy``, the kernels in
``fastmlp/kernels/losses.pxi``; ``fastmlp/kernels/ops.py`` is the list of all, which gives the classes their
``code``. How another one is added: docs/extending.md.

Which one: cross-entropy for one class out of C; binary cross-entropy for yes or no, once or many times over;
mean squared error for values, Huber or mean absolute error where some of them are far off, Poisson for
counts. The hinges ask for a margin instead of probabilities.
"""
from __future__ import annotations

import copy
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fastmlp._core import checks, names
from fastmlp._core.copying import importable
from fastmlp._core.labels import class_indices, cure, label_array
from fastmlp.kernels import ops

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array, ClassWeight, LossFunction, LossLike
    from fastmlp.backends.interface import Backend

__all__ = [
    "BinaryCrossEntropy", "CallableLoss", "CrossEntropy", "Hinge", "Huber", "KLDivergence", "Loss",
    "MeanAbsoluteError", "MeanSquaredError", "MultiClassHinge", "Poisson", "SquaredHinge", "class_weights",
    "resolve", "targets_and_weights", "usual",
]

BLOCK_ROWS = 4096               # targets that are looked through at a time


@dataclass(frozen=True)
class Loss:
    """Base class of all losses.

    Attributes
    ----------
    name : str
        Name by which `MLP` and files find the loss.
    code : int
        Number by which the kernels find it.
    targets : str
        What the targets are: "classes" (indices), "distributions" over the classes, "binary" (0 or 1),
        "signs" (-1 or +1), "values", "counts", or "anything".
    output : str or None
        Function that makes predictions of outputs: "softmax", "sigmoid", "exp", "identity"; None where
        outputs are scores.

    See Also
    --------
    resolve : The loss of a name.

    Examples
    --------
    >>> CrossEntropy().targets, CrossEntropy().output
    ('classes', 'softmax')
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
        """Number that the kernels need beside the code."""
        return 0.0

    @property
    def limit(self) -> float:
        """Largest loss of a sample, or of one of its outputs, that is reported; the gradient has no limit."""
        return np.inf

    @property
    def takes_all_labels(self) -> bool:
        """Whether every class index counts: none is to be ignored."""
        return True

    def pos_weights(self, outputs: int, dtype: np.dtype[Any]) -> Array | None:
        """Return the weight of a positive label, for each of the outputs.

        Parameters
        ----------
        outputs : int
            Number m of outputs.
        dtype : dtype
            Type of the result.

        Returns
        -------
        ndarray, shape (outputs,), or None
            Weights; None for 1.
        """
        return None

    def check_targets(self, name: str, y: ArrayLike, rows: int, outputs: int, dtype: np.dtype[Any]
                      ) -> tuple[Array, Array | None]:
        """Return validated targets as the engine takes them, and which of them count.

        Parameters
        ----------
        name : str
            Name of the argument, for errors.
        y : array_like
            Targets, as `MLP.fit` takes them.
        rows : int
            Number of samples.
        outputs : int
            Number of outputs of the model.
        dtype : dtype
            Type of the model.

        Returns
        -------
        targets : ndarray, shape (rows,) or (rows, outputs)
            Class indices as intp, or a table.
        counts : ndarray of bool, shape (rows,), or None
            True for the targets that count; None for all.

        Raises
        ------
        TypeError
            For targets of another type than the loss takes.
        ValueError
            For targets of another shape or range than the loss takes.

        Examples
        --------
        >>> Hinge().check_targets("y", [1, -1, 1], 3, 1, np.dtype("float32"))[0].tolist()
        [[1], [-1], [1]]
        """
        return _table(name, y, rows, outputs, dtype, self.targets), None

    @property
    def metric(self) -> str | None:
        """Name of the usual metric of predictions, in `fastmlp.metrics`."""
        if self.targets in ("classes", "distributions", "binary", "signs"):
            return "accuracy"
        return "r2" if self.targets in ("values", "counts") else None

    def truth(self, targets: Array) -> Array:
        """Return validated targets as `predict` returns predictions.

        Parameters
        ----------
        targets : ndarray, shape (rows,) or (rows, outputs)
            Targets, as `check_targets` returns them.

        Returns
        -------
        ndarray, shape (rows,) or (rows, outputs)
            The likeliest class, 0 or 1, -1 or +1, or values.
        """
        if targets.ndim == 1:
            return targets
        if self.classifies:
            labels: Array = targets.argmax(axis=1)
            return labels
        if self.targets == "binary":
            targets = (targets > 0.5).astype(np.intp)
        return _one_column(targets)

    def predict(self, outputs: Array, backend: Backend) -> Array:
        """Return the predictions that outputs stand for.

        Parameters
        ----------
        outputs : ndarray, shape (rows, outputs)
            Outputs of the model.
        backend : module
            Backend that computes.

        Returns
        -------
        ndarray, shape (rows,) or (rows, outputs)
            Class labels (rows,); or 0 or 1, -1 or +1, or values for every output, (rows,) where there is one.

        Examples
        --------
        >>> from fastmlp.backends import active
        >>> Hinge().predict(np.array([[0.5], [-2.0]]), active())
        array([ 1, -1])
        """
        if self.classifies:
            labels: Array = outputs.argmax(axis=1)
            return labels
        if self.targets == "binary":
            outputs = (outputs > 0).astype(np.intp)
        elif self.targets == "signs":
            outputs = np.where(outputs > 0, 1, -1)
        elif self.output == "exp":
            outputs = backend.exp(outputs)
        return _one_column(outputs)

    def predict_proba(self, outputs: Array, backend: Backend) -> Array:
        """Return the probabilities that outputs stand for.

        Parameters
        ----------
        outputs : ndarray, shape (rows, outputs)
            Outputs of the model; they are overwritten.
        backend : module
            Backend that computes.

        Returns
        -------
        ndarray, shape (rows, C), (rows, outputs) or (rows,)
            Probabilities of the classes (rows, C), written over the outputs; or of label 1 for every output,
            (rows,) where there is one.

        Raises
        ------
        AttributeError
            Where the outputs do not determine probabilities.

        Examples
        --------
        >>> from fastmlp.backends import active
        >>> BinaryCrossEntropy().predict_proba(np.array([[0.0], [100.0]]), active())
        array([0.5, 1. ])
        """
        if self.output == "softmax":
            probabilities: Array = backend.softmax(outputs, out=outputs)
            return probabilities
        if self.output == "sigmoid":
            return _one_column(backend.sigmoid(outputs, out=outputs))
        what = "values, not classes" if self.targets in ("values", "counts") else "scores, not probabilities"
        raise AttributeError(f"predict_proba: the outputs of {self.name!r} are {what}")


# Of classes --------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy of softmax, for one class out of C.

    For a sample with the logits z and the target t::

        l = -sum_c t_c log softmax(z)_c
        dl/dz = softmax(z) - t

    z (n, C) are logits, t class indices (n,) of any integer dtype, or rows of probabilities (n, C). The
    output function is softmax. The loss is in nats.

    Parameters
    ----------
    label_smoothing : float, default 0.0
        Share s from 0 to 1: t is replaced by (1 - s) t + s / C. The network is not asked for logits without
        bound, and its probabilities are less sure of themselves.
    ignore_index : int, optional
        Samples with this class index count for nothing.
    max_loss : float, optional
        Largest loss of a sample that is reported, > 0; the gradient does not change. No limit if not given.
        ``-log(eps)`` is as if probabilities were at least eps.

    Raises
    ------
    TypeError
        For a setting of the wrong type.
    ValueError
        For a setting out of range.

    Notes
    -----
    The negative log-likelihood of the right class. Loss and gradient are computed from the logits at once:
    stable for logits of any size.

    References
    ----------
    Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990.

    Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.4.

    Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016 (label smoothing).

    Examples
    --------
    >>> CrossEntropy(label_smoothing=0.1)
    CrossEntropy(label_smoothing=0.1, ignore_index=None, max_loss=None)
    """

    name = "cross_entropy"
    targets = "classes"
    output = "softmax"
    label_smoothing: float = 0.0
    ignore_index: int | None = None
    max_loss: float | None = None

    def __post_init__(self) -> None:
        smoothing = checks.number("label_smoothing", self.label_smoothing, low=0.0, high=1.0)
        object.__setattr__(self, "label_smoothing", smoothing)
        if self.ignore_index is not None:
            object.__setattr__(self, "ignore_index", checks.integer("ignore_index", self.ignore_index))
        object.__setattr__(self, "max_loss", _max_loss(self.max_loss))

    @property
    def parameter(self) -> float:
        return self.label_smoothing

    @property
    def limit(self) -> float:
        return np.inf if self.max_loss is None else self.max_loss

    @property
    def takes_all_labels(self) -> bool:
        return self.ignore_index is None

    def check_targets(self, name: str, y: ArrayLike, rows: int, outputs: int, dtype: np.dtype[Any]
                      ) -> tuple[Array, Array | None]:
        y = label_array(name, y)
        if y.ndim == 2 and (y.shape[1] > 1 or outputs == 1 and y.dtype.kind not in "iu"):
            return _distributions(name, y, rows, outputs, dtype), None
        y, counted = self.split(class_indices(name, y))
        return _labels(name, y, rows, outputs), None if counted is None else counted.reshape(-1)

    def split(self, labels: Array) -> tuple[Array, Array | None]:
        """Return the labels, with 0 in the place of those to be ignored, and which of them count.

        Parameters
        ----------
        labels : ndarray of intp, shape (rows,)
            Class indices.

        Returns
        -------
        labels : ndarray of intp, shape (rows,)
            Class indices, all of them valid.
        counts : ndarray of bool, shape (rows,), or None
            True for the labels that count; None for all.
        """
        if self.ignore_index is None or labels.dtype.kind not in "iu":
            return labels, None
        counted = labels != self.ignore_index
        if counted.all():
            return labels, None
        return np.where(counted, labels, np.zeros_like(labels)), counted


@dataclass(frozen=True)
class KLDivergence(Loss):
    """Kullback-Leibler divergence of softmax from a target distribution.

    For a sample with the logits z and the target t::

        l = sum_c t_c (log t_c - log softmax(z)_c)
        dl/dz = softmax(z) - t

    z (n, C) are logits, t rows of probabilities (n, C); where t_c = 0 the class costs nothing. The output
    function is softmax. The loss is in nats.

    Notes
    -----
    How many nats a code made for softmax(z) wastes on t. It is cross-entropy less the entropy of t, so that
    the gradient is the same, and 0 is reached where both agree: the loss of distillation.

    References
    ----------
    Kullback, Leibler, "On Information and Sufficiency", Annals of Mathematical Statistics 22, 1951.

    Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015.

    Examples
    --------
    >>> KLDivergence().targets
    'distributions'
    """

    name = "kl_divergence"
    targets = "distributions"
    output = "softmax"


@dataclass(frozen=True)
class MultiClassHinge(Loss):
    """Hinge loss of the multi-class support vector machine.

    For a sample with the scores z and the class t::

        l = max(0, 1 + max over k != t of z_k - z_t)
        dl/dz_k = 1 at that k, -1 at t, 0 elsewhere

    z (n, C) are scores, t class indices (n,). Where the margin is kept the gradient is 0; of several best
    others the first has it.

    Notes
    -----
    The right class is to lead the best of the others by a margin of 1.

    References
    ----------
    Crammer, Singer, "On the Algorithmic Implementation of Multiclass Kernel-based Vector Machines", Journal
    of Machine Learning Research 2, 2001.

    Examples
    --------
    >>> MultiClassHinge().output is None
    True
    """

    name = "multiclass_hinge"
    targets = "classes"
    output = None

    def check_targets(self, name: str, y: ArrayLike, rows: int, outputs: int, dtype: np.dtype[Any]
                      ) -> tuple[Array, Array | None]:
        return _labels(name, class_indices(name, y), rows, outputs), None


# Of values ---------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean squared error, the loss of regression.

    For a sample with the m outputs z and the targets t::

        l = 1/m sum_j (z_j - t_j)^2
        dl/dz = 2 (z - t) / m

    Targets are real values (n, m), or (n,) for one output. The output function is the identity. The loss is
    in the squared unit of the targets.

    Notes
    -----
    The mean over all n samples and m outputs. The outputs become the mean of t, given x.

    References
    ----------
    Legendre, "Nouvelles methodes pour la determination des orbites des cometes", 1805.

    Bishop, "Pattern Recognition and Machine Learning", 2006, section 3.1.

    Examples
    --------
    >>> MeanSquaredError().classifies
    False
    """

    name = "mean_squared_error"
    targets = "values"
    output = "identity"


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """Mean absolute error, a regression that outliers hardly change.

    For a sample with the m outputs z and the targets t::

        l = 1/m sum_j |z_j - t_j|
        dl/dz = sign(z - t) / m, 0 where z = t

    Targets are real values (n, m), or (n,) for one output. The output function is the identity. The loss is
    in the unit of the targets.

    Notes
    -----
    The outputs become the median of t, given x: a target that is far off pulls no more than any other. The
    gradient does not get smaller near the minimum, so that the learning rate has to.

    References
    ----------
    Laplace, "Memoire sur la probabilite des causes par les evenements", 1774.

    Examples
    --------
    >>> MeanAbsoluteError().output
    'identity'
    """

    name = "mean_absolute_error"
    targets = "values"
    output = "identity"


@dataclass(frozen=True)
class Huber(Loss):
    """Huber loss: squared near the target, absolute far from it.

    For a sample with the m outputs z and the targets t::

        l = 1/m sum_j h(z_j - t_j)
        h(e) = e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2)
        dl/dz = max(-delta, min(delta, z - t)) / m

    Targets are real values (n, m), or (n,) for one output. The output function is the identity. The loss is
    in the squared unit of the targets.

    Parameters
    ----------
    delta : float, default 1.0
        Error at which squared becomes absolute, finite and > 0, in units of the targets.

    Raises
    ------
    TypeError
        If ``delta`` is not a number.
    ValueError
        If ``delta`` is not finite and above 0.

    Notes
    -----
    Smooth at the minimum, and not carried away by outliers.

    References
    ----------
    Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964.

    Examples
    --------
    >>> Huber(delta=2)
    Huber(delta=2.0)
    """

    name = "huber"
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
    """Negative log-likelihood of counts with a Poisson distribution.

    For a sample with the m outputs z and the targets t::

        l = 1/m sum_j exp(z_j) - t_j z_j
        dl/dz = (exp(z) - t) / m

    Targets are counts (n, m), or (n,) for one output: from 0 up, whole or not. The output function is exp.

    Parameters
    ----------
    deviance : bool, default False
        Whether t_j log t_j - t_j is added, which no weight can change: then the loss is half the deviance,
        and 0 where exp(z) = t.

    Notes
    -----
    The mean of the counts is exp(z): of events in a given time, say. log t!, which no weight can change, is
    left out. The loss is smallest at z = log t, and may be negative without ``deviance``.

    References
    ----------
    McCullagh, Nelder, "Generalized Linear Models", 1989, chapter 6.

    Examples
    --------
    >>> Poisson().output
    'exp'
    """

    name = "poisson"
    targets = "counts"
    output = "exp"
    deviance: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "deviance", bool(self.deviance))

    @property
    def parameter(self) -> float:
        return float(self.deviance)


# Of yes or no ------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Cross-entropy of labels that are 0 or 1.

    For a sample with the m logits z and the targets t::

        l = -1/m sum_j p_j t_j log s(z_j) + (1 - t_j) log(1 - s(z_j))
        dl/dz = ((1 - t) s(z) - p t (1 - s(z))) / m, which is (s(z) - t) / m for p = 1
        s(z) = 1 / (1 + exp(-z))

    Targets t (n, m), or (n,) for one output, are 0 or 1, or probabilities between them. The output function
    is the logistic function s. The loss is in nats.

    Parameters
    ----------
    pos_weight : float or sequence of float, shape (m,), optional
        Weight p of a positive label against a negative one, finite and >= 0; one number or one for each
        output. Above 1 it finds more of a rare label, at the price of more false alarms. 1 if not given.
    max_loss : float, optional
        Largest loss of an output that is reported, > 0; the gradient does not change. No limit if not given.
        ``-log(eps)`` is as if probabilities were from eps to 1 - eps.

    Raises
    ------
    TypeError
        If ``pos_weight`` or ``max_loss`` is not made of numbers.
    ValueError
        If ``pos_weight`` is negative or not finite, or ``max_loss`` is not above 0.

    Notes
    -----
    The negative log-likelihood of a label that is 1 with probability s(z): one label for a sample, or many
    that do not exclude each other. Stable for logits of any size.

    References
    ----------
    Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.2.

    Examples
    --------
    >>> BinaryCrossEntropy(pos_weight=3)
    BinaryCrossEntropy(pos_weight=3.0, max_loss=None)
    """

    name = "binary_cross_entropy"
    targets = "binary"
    output = "sigmoid"
    pos_weight: float | Sequence[float] | None = None
    max_loss: float | None = None

    @property
    def limit(self) -> float:
        return np.inf if self.max_loss is None else self.max_loss

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_loss", _max_loss(self.max_loss))
        weight: Any = self.pos_weight
        if weight is None:
            return
        if hasattr(weight, "__array__") or hasattr(weight, "__dlpack__"):
            weight = checks.as_array("pos_weight", weight)
        if isinstance(weight, (list, tuple, np.ndarray)) and np.ndim(weight) == 1:
            weight = tuple(checks.number(f"pos_weight[{i}]", w, low=0.0) for i, w in enumerate(weight))
        else:
            weight = checks.number("pos_weight", weight, low=0.0)
        object.__setattr__(self, "pos_weight", weight)

    def pos_weights(self, outputs: int, dtype: np.dtype[Any]) -> Array | None:
        if self.pos_weight is None:
            return None
        if isinstance(self.pos_weight, tuple) and len(self.pos_weight) != outputs:
            raise ValueError(f"pos_weight: expected one number, or one for each of {outputs} outputs, got "
                             f"{len(self.pos_weight)}")
        return np.full(outputs, self.pos_weight, dtype)


@dataclass(frozen=True)
class Hinge(Loss):
    """Hinge loss of the support vector machine.

    For a sample with the m scores z and the targets t::

        l = 1/m sum_j max(0, 1 - t_j z_j)
        dl/dz = -t / m where t z < 1, else 0

    Targets are -1 or +1, (n, m), or (n,) for one output.

    Notes
    -----
    The score z is to have the sign of t, by a margin of 1. Samples beyond the margin have no gradient at all.

    References
    ----------
    Cortes, Vapnik, "Support-Vector Networks", Machine Learning 20, 1995.

    Examples
    --------
    >>> Hinge().targets
    'signs'
    """

    name = "hinge"
    targets = "signs"
    output = None


@dataclass(frozen=True)
class SquaredHinge(Loss):
    """Squared hinge loss, without a kink.

    For a sample with the m scores z and the targets t::

        l = 1/m sum_j max(0, 1 - t_j z_j)^2
        dl/dz = -2 t max(0, 1 - t z) / m

    Targets are -1 or +1, (n, m), or (n,) for one output.

    Notes
    -----
    The gradient gets smaller towards the margin, and grows with what is missing.

    References
    ----------
    Lee, Mangasarian, "SSVM: A Smooth Support Vector Machine for Classification", Computational Optimization
    and Applications 20, 2001.

    Examples
    --------
    >>> SquaredHinge().targets
    'signs'
    """

    name = "squared_hinge"
    targets = "signs"
    output = None


# Of the user's own -------------------------------------------------------------------------------------

@dataclass(frozen=True)
class CallableLoss(Loss):
    """Loss that a function of your own computes.

    For a batch with the outputs z and the targets t::

        (L, dL/dz) = function(z, t)

    Calling the object calls the function.

    Parameters
    ----------
    function : callable
        It is given the outputs z (n, outputs) of a batch, in the dtype of the model, and its targets,
        whatever was passed as ``y``, with as many rows. It returns the loss, a number, and its gradient, an
        array like z. What it takes for a mean, and how it weighs samples, is its own affair.

    Notes
    -----
    A loss whose function is defined in a module can be pickled, and so can its models.

    Examples
    --------
    >>> loss = CallableLoss(lambda z, t: (abs(z - t).sum(), np.sign(z - t)))
    >>> loss(np.array([[2.0], [5.0]]), np.array([[1.0], [7.0]]))
    (3.0, array([[ 1.], [-1.]]))
    """

    name = "callable"
    code = -1
    targets = "anything"
    output = None
    function: LossFunction

    def __reduce__(self) -> tuple[Any, ...]:
        importable("loss", self.function)
        return CallableLoss, (self.function,)

    def __deepcopy__(self, memo: dict[int, Any]) -> CallableLoss:
        return CallableLoss(copy.deepcopy(self.function, memo))

    def __copy__(self) -> CallableLoss:
        return copy.deepcopy(self)

    def __call__(self, outputs: Array, targets: Array) -> tuple[float, Array]:
        """Return the loss of a batch and its gradient, validated.

        Parameters
        ----------
        outputs : ndarray, shape (n, outputs)
            Outputs of the model.
        targets : array, n rows
            Targets, whatever the function takes.

        Returns
        -------
        loss : float
            Loss of the batch.
        gradient : ndarray, shape and dtype of ``outputs``
            Its gradient with respect to the outputs.

        Raises
        ------
        TypeError
            If the function returns anything but a number and an array of numbers.
        ValueError
            If the gradient has another shape.
        """
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


BY_NAME: dict[str, type[Loss]] = ops.assign(
    ops.LOSSES, [cls for cls in Loss.__subclasses__() if cls is not CallableLoss])


def usual(outputs: int) -> Loss:
    """Return the loss of a network where none is asked for, which follows from its number of outputs.

    Parameters
    ----------
    outputs : int
        Number of outputs.

    Returns
    -------
    Loss
        `MeanSquaredError` for one output, which has no classes to tell apart, and `CrossEntropy` for more.

    Examples
    --------
    >>> usual(1), usual(3)
    (MeanSquaredError(), CrossEntropy(label_smoothing=0.0, ignore_index=None, max_loss=None))
    """
    return MeanSquaredError() if outputs == 1 else CrossEntropy()


def resolve(loss: LossLike) -> Loss:
    """Return the loss of a name, an object or a class of this module, or a function.

    Parameters
    ----------
    loss : str, Loss, class or callable
        A name such as "huber", or one that others use for it ("mse", "bce"); a loss; its class, which stands
        for an object with default parameters; or a function, which becomes a `CallableLoss`.

    Returns
    -------
    Loss
        The object itself, or the one that is meant.

    Raises
    ------
    ValueError
        For an unknown name; the message lists the known ones and the nearest.
    TypeError
        For anything else.

    Examples
    --------
    >>> resolve("huber")
    Huber(delta=1.0)
    """
    if isinstance(loss, str):
        return BY_NAME[names.canonical("loss", loss, BY_NAME, names.LOSSES)]()
    if isinstance(loss, type):
        if loss in BY_NAME.values():
            made: Loss = loss()
            return made
    elif isinstance(loss, Loss):
        if type(loss) in BY_NAME.values() or type(loss) is CallableLoss:
            return loss
    elif callable(loss) and not names.library_of(loss):
        return CallableLoss(loss)
    raise TypeError(f"loss: expected a name, an object of fastmlp.losses or a function, got {loss!r}"
                    f"{names.of_others(loss, BY_NAME, names.LOSSES)}")


# Weights -----------------------------------------------------------------------------------------------

def targets_and_weights(
    loss: Loss, name: str, y: ArrayLike, rows: int, outputs: int, dtype: np.dtype[Any],
    sample_weight: ArrayLike | None = None, class_weight: ClassWeight | None = None, part: bool = False,
) -> tuple[Array, Array | None]:
    """Return validated targets as the engine takes them, and the weight of every sample.

    The weight is sample_weight times class_weight, 0 where the target is ignored.

    Parameters
    ----------
    loss : Loss
        Loss, which says what targets are.
    name : str
        Name of the argument ``y``, for errors.
    y : array_like
        Targets, as `MLP.fit` takes them.
    rows : int
        Number of samples.
    outputs : int
        Number of outputs of the model.
    dtype : dtype
        Type of the model.
    sample_weight : array_like, shape (rows,), optional
        Weight of every sample, >= 0; 1 if not given.
    class_weight : dict {class: weight} or "balanced", optional
        Weight of every class; see `class_weights`. 1 if not given.
    part : bool, default False
        Whether these are some samples of many, among which there may be none that counts.

    Returns
    -------
    targets : ndarray, shape (rows,) or (rows, outputs)
        Class indices as intp, or a table.
    weights : ndarray of float64, shape (rows,), or None
        Weight of every sample; None for all alike.

    Raises
    ------
    TypeError
        For targets and weights of another type.
    ValueError
        For targets that do not fit the loss, and weights that are negative, not finite, or all 0.

    Examples
    --------
    >>> y, w = targets_and_weights(CrossEntropy(ignore_index=-1), "y", [1, -1, 0], 3, 2, np.dtype("float32"))
    >>> y, w
    (array([1, 0, 0]), array([1., 0., 1.]))
    """
    if isinstance(loss, CallableLoss):
        for given, value in (("sample_weight", sample_weight), ("class_weight", class_weight)):
            if value is not None:
                raise ValueError(f"{given}: expected None, for a loss of one's own weighs its samples itself")
    weights = None if sample_weight is None else checks.sample_weights(
        "sample_weight", sample_weight, rows, part)
    try:
        targets, counted = loss.check_targets(name, y, rows, outputs, dtype)
    except ValueError:      # not because of rows that weigh nothing: what stands there may be anything
        if weights is None or (filled := _without_idle_rows(loss, y, weights)) is None:
            raise
        targets, counted = loss.check_targets(name, filled, rows, outputs, dtype)
    if class_weight is not None:
        factors = class_weights(class_weight, *_labels_and_classes(loss, targets, outputs), counted)
        weights = factors if weights is None else _products(weights, factors)
    if counted is not None:
        weights = counted.astype(np.float64) if weights is None else np.where(counted, weights, 0.0)
    if class_weight is not None or counted is not None:
        weights = checks.sample_weights(f"weights of {name}", weights, rows, part)
    return targets, weights


def _without_idle_rows(loss: Loss, y: ArrayLike, weights: Array) -> Array | None:
    """A copy of the targets, with those of a row that counts in rows of weight 0, or, where none counts, with
    some that the loss takes; None without such rows."""
    array = checks.as_array("y", y)
    idle = weights == 0
    if not idle.any() or array.ndim == 0 or len(array) != len(weights):
        return None
    filled: Array = array.copy()
    if not idle.all():
        filled[idle] = array[int(weights.argmax())]
        return filled
    filled[...] = loss.targets == "signs"
    if loss.classifies and array.ndim == 2 and array.shape[1] > 1:
        filled[:, 0] = 1
    return filled


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


def class_weights(class_weight: ClassWeight, labels: Array, classes: int | Sequence[int],
                  counted: Array | None = None) -> Array:
    """Return the weight of every sample, by its class.

    For a class c, "balanced" is::

        n / (k n_c), with n samples, n_c of them of class c, and k classes that occur

    Parameters
    ----------
    class_weight : dict {class: weight} or "balanced"
        In a dict, a class that is not named weighs 1. "balanced": each class weighs as much as any other.
    labels : ndarray, shape (rows,)
        Class of every sample.
    classes : int or sequence of int
        Labels that there can be, or their number C for 0 to C - 1.
    counted : ndarray of bool, shape (rows,), optional
        True for the samples that n and n_c count; all if not given.

    Returns
    -------
    ndarray of float64, shape (rows,)
        Weight of every sample.

    Raises
    ------
    TypeError
        For weights of another type.
    ValueError
        For an unknown class or word, and weights that are negative or not finite.

    References
    ----------
    King, Zeng, "Logistic Regression in Rare Events Data", Political Analysis 9, 2001.

    Examples
    --------
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
    of_samples: Array = weights[inverse]
    return of_samples


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
    if y.ndim > 2:          # its dtype does not matter then
        checks.shape(name, y, (rows,), "(one class index for each row)")
    try:
        indices = checks.labels(name, y, rows, classes)
    except ValueError as error:
        hint = cure(name, y, classes) if y.shape == (rows,) else ""
        raise ValueError(f"{error}{hint}") from None
    return np.require(indices, requirements=["C", "A"])


def _distributions(name: str, y: Array, rows: int, outputs: int, dtype: np.dtype[Any]) -> Array:
    """Rows of probabilities; an error says which loss takes other numbers."""
    y = _table(name, y, rows, outputs, dtype, "values")
    try:
        return _table(name, y, rows, outputs, dtype, "distributions")
    except ValueError as error:
        raise ValueError(f"{error}; for real values: loss='mean_squared_error'") from None


def _table(name: str, y: ArrayLike, rows: int, outputs: int, dtype: np.dtype[Any], kind: str) -> Array:
    """A table (rows, outputs) of a dtype that the engine reads; looked through block by block."""
    y = label_array(name, y)
    if y.ndim == 1 and outputs == 1:
        y = y[:, None]
    y = checks.table(name, y, outputs)
    if len(y) != rows:
        raise ValueError(f"{name}: expected {rows} rows, one for each row of X, got {len(y)}")
    for start in range(0, rows, BLOCK_ROWS):
        given = y[start:start + BLOCK_ROWS]
        with np.errstate(over="ignore"):
            taken = given.astype(dtype, copy=False)
        checks.targets(name, taken, kind, start)
        if kind == "values":
            _finite(name, given, taken, start)
    return checks.readable(y, dtype)


def _finite(name: str, given: Array, taken: Array, first: int) -> None:
    """Raises ValueError for values that are infinite, as they are given or as the model takes them."""
    infinite = np.isinf(taken)
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        value = given[row, column]
        why = f", which {taken.dtype} does not hold," if np.isfinite(value) else ""
        raise ValueError(
            f"{name}: expected finite numbers, got {value:g}{why} at [{first + row}, {column}]")


def _max_loss(value: Any) -> float | None:
    if value is None:
        return None
    limit = checks.number("max_loss", value, low=0.0)
    if limit == 0:
        raise ValueError(f"max_loss: expected a finite number above 0, got {limit!r}")
    return limit


def _one_column(outputs: Array) -> Array:
    return outputs[:, 0] if outputs.shape[1] == 1 else outputs
