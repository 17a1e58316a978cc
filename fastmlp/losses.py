"""Losses: what training makes small. One small class each.

`MLP(loss=...)` fixes the output function that belongs to the loss, and with it what the targets are.
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastmlp import checks

__all__ = ["CrossEntropy", "Loss", "MeanSquaredError", "resolve"]


@dataclass(frozen=True)
class Loss:
    """What every loss has: a `name`, the `code` the kernels know it by, and what it says of the outputs."""

    name: ClassVar[str]
    code: ClassVar[int]
    classifies: ClassVar[bool]      # outputs are logits of classes; otherwise values


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """L = -1/n sum_i sum_c t_ic log softmax(z_i)_c; dL/dz = (softmax(z) - t) / n.

    The negative log-likelihood of the right class, for one class out of C. z (n, C) are logits, t class
    indices (n,) of any integer dtype, or rows of probabilities (n, C). The output function is softmax. Loss
    and gradient are computed from the logits at once: stable for logits of any size.

    Source: Bridle, "Probabilistic interpretation of feedforward classification network outputs", 1990;
    Bishop, "Pattern Recognition and Machine Learning", 2006, section 4.3.4.

    >>> CrossEntropy().name
    'cross_entropy'
    """

    name = "cross_entropy"
    code = 0
    classifies = True


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """L = 1/(n m) sum_i sum_j (y_ij - t_ij)^2; dL/dy = 2 (y - t) / (n m).

    The loss of regression: the mean of the squared error over all n samples and m outputs. Targets are real
    values (n, m), or (n,) for one output. The output function is the identity.

    Source: Legendre, "Nouvelles methodes pour la determination des orbites des cometes", 1805; Bishop,
    "Pattern Recognition and Machine Learning", 2006, section 3.1.

    >>> MeanSquaredError().classifies
    False
    """

    name = "mean_squared_error"
    code = 2
    classifies = False


BY_NAME: dict[str, type[Loss]] = {cls.name: cls for cls in (CrossEntropy, MeanSquaredError)}


def resolve(loss: str | Loss) -> Loss:
    """The loss meant by a name or an object of this module.

    Raises ValueError for an unknown name (it lists the known ones and the nearest), TypeError for anything
    else.

    >>> resolve("cross_entropy")
    CrossEntropy()
    """
    if isinstance(loss, Loss) and type(loss) in BY_NAME.values():
        return loss
    if not isinstance(loss, str):
        raise TypeError(f"loss: expected a name or an object of fastmlp.losses, got {loss!r}")
    checks.known_name("loss", loss, BY_NAME)
    return BY_NAME[loss]()
