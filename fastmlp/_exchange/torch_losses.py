"""Losses of PyTorch as those of fastmlp; known by the names of their classes, PyTorch is not imported."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastmlp import losses

__all__ = ["ends_of", "translated"]

LOSSES: dict[str, Callable[[Any], losses.Loss]] = {
    "BCELoss": lambda m: losses.BinaryCrossEntropy(),
    "BCEWithLogitsLoss": lambda m: losses.BinaryCrossEntropy(m.pos_weight),
    "CrossEntropyLoss": lambda m: losses.CrossEntropy(m.label_smoothing, _ignored(m)),
    "HuberLoss": lambda m: losses.Huber(m.delta),
    "L1Loss": lambda m: losses.MeanAbsoluteError(),
    "MSELoss": lambda m: losses.MeanSquaredError(),
    "NLLLoss": lambda m: losses.CrossEntropy(ignore_index=_ignored(m)),
}
UNLABELLED = -100               # PyTorch's default, for targets that have none

# The function at the end of a network, as `Chain.end` has it, whose values each of these takes; anything else
# it would take too, and compute another loss than the one of fastmlp.
ENDS = {
    "BCELoss": ("sigmoid",),
    "BCEWithLogitsLoss": ("identity",),
    "CrossEntropyLoss": ("identity", "log_softmax", "sigmoid"),     # log_softmax twice is log_softmax once
    "NLLLoss": ("log_softmax",),
}


def ends_of(loss: Any) -> tuple[str, ...]:
    """The functions at the end of a network after which PyTorch computes what `translated` does; () for
    any."""
    return ENDS.get(type(loss).__name__, ()) if _is_of_pytorch(loss) else ()


def _is_of_pytorch(loss: Any) -> bool:
    return any(base.__module__ == "torch.nn.modules.module" for base in type(loss).__mro__)


def translated(loss: Any) -> Any:
    """The loss that a module of torch.nn stands for; anything else as it is.

    Raises TypeError for a loss of PyTorch that has no counterpart, ValueError for settings that have none.
    """
    cls = type(loss)
    if not _is_of_pytorch(loss):
        return loss
    if cls.__name__ not in LOSSES or not cls.__module__.startswith("torch.nn."):
        raise TypeError(f"loss: expected one of {', '.join(LOSSES)}, or one of fastmlp's, got {cls.__name__}")
    if loss.reduction != "mean":
        raise ValueError(f'loss: expected {cls.__name__} with reduction="mean", got {loss.reduction!r}')
    if getattr(loss, "weight", None) is not None:
        raise ValueError(f"loss: expected {cls.__name__} without weight, which fit takes as class_weight")
    return LOSSES[cls.__name__](loss)


def _ignored(module: Any) -> int | None:
    return None if module.ignore_index == UNLABELLED else int(module.ignore_index)
