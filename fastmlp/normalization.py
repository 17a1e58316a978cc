"""Batch normalisation: layers that centre and scale their own signals."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastmlp import checks

__all__ = ["BatchNorm", "resolve"]


@dataclass(frozen=True)
class BatchNorm:
    """x_hat = (z - mean) / sqrt(variance + epsilon); y = f(scale x_hat + shift), for each unit of a layer.

    In training, mean and variance are those of the unit over the batch at hand, so that the layers above
    see signals of the same size however the layers below change; it allows larger learning rates and makes
    the initial weights matter less. Running averages follow them, r = r + momentum (batch - r), the
    variance there with n - 1; inference uses these, so that a row's prediction does not depend on its
    neighbours. scale (1 at first) and shift (the layer's bias, 0 at first) are learned. The smaller the
    batch, the noisier.

    0 < momentum <= 1 and epsilon > 0; other values raise ValueError, what is no number TypeError.

    Source: Ioffe, Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
    Covariate Shift", ICML 2015.

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


def resolve(batch_norm: Any) -> BatchNorm | None:
    """What `MLP(batch_norm=...)` means for one layer: True, False, or an object with settings.

    Raises TypeError for anything else.

    >>> resolve(True)
    BatchNorm(momentum=0.1, epsilon=1e-05)
    >>> resolve(False)
    """
    if batch_norm is None or isinstance(batch_norm, BatchNorm):
        return batch_norm
    if batch_norm is True or batch_norm is False:
        return BatchNorm() if batch_norm else None
    raise TypeError(f"batch_norm: expected True, False or a BatchNorm, got {batch_norm!r}")
