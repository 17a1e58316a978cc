"""Batch normalisation: layers that centre and scale their own signals."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastmlp._core import checks

if TYPE_CHECKING:
    from fastmlp._core.types import BatchNormLike

__all__ = ["BatchNorm", "resolve"]


@dataclass(frozen=True)
class BatchNorm:
    """Batch normalisation of the units of a layer.

    For a unit whose sum is z, with the mean and the variance of z over the batch::

        x_hat = (z - mean) / sqrt(variance + epsilon)
        y = f(scale x_hat + shift)

    Scale (1 at first) and shift (the layer's bias, 0 at first) are learned.

    Parameters
    ----------
    momentum : float, default 0.1
        Share, above 0 and up to 1, of a batch in the running averages: r = r + momentum (batch - r).
    epsilon : float, default 1e-5
        Number, above 0 and up to 1, against division by 0, in squared units of z.

    Raises
    ------
    TypeError
        For settings that are not numbers.
    ValueError
        For settings out of range.

    Notes
    -----
    In training, mean and variance are those of the batch at hand, so that the layers above see signals of the
    same size however the layers below change; it allows larger learning rates and makes the initial weights
    matter less. Running averages follow them, the variance there with n - 1; inference uses these, so that a
    row's prediction does not depend on its neighbours. The smaller the batch, the noisier.

    References
    ----------
    Ioffe, Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
    Shift", ICML 2015.

    Examples
    --------
    >>> BatchNorm(momentum=0.01)
    BatchNorm(momentum=0.01, epsilon=1e-05)
    """

    momentum: float = 0.1
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("momentum", "epsilon"):
            value = checks.number(name, getattr(self, name), low=0.0, high=1.0)
            if value == 0:
                raise ValueError(f"{name}: expected a number above 0, got {value}")
            object.__setattr__(self, name, value)


def resolve(batch_norm: BatchNormLike) -> BatchNorm | None:
    """Return what ``MLP(batch_norm=...)`` means for one layer.

    Parameters
    ----------
    batch_norm : bool, BatchNorm, its class, or None
        True, False, or an object with settings; the class stands for an object with default settings.

    Returns
    -------
    BatchNorm or None
        Settings; None for a layer without batch normalisation.

    Raises
    ------
    TypeError
        For anything else.

    Examples
    --------
    >>> resolve(True)
    BatchNorm(momentum=0.1, epsilon=1e-05)
    >>> resolve(False)
    """
    if batch_norm is None or isinstance(batch_norm, BatchNorm):
        return batch_norm
    if batch_norm is True or batch_norm is False or batch_norm is BatchNorm:
        return BatchNorm() if batch_norm else None
    raise TypeError(f"batch_norm: expected True, False or a BatchNorm, got {batch_norm!r}")
