"""What `fit` takes where nothing is said: how many passes in which batches, and the optimizer."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from fastmlp._core import checks, names
from fastmlp.lbfgs import LBFGS
from fastmlp.optimizers import SGD, AdaGrad, Adam, AdamW, Optimizer, RMSprop
from fastmlp.schedules import OneCycle

__all__ = [
    "default_batch_size", "default_epochs", "default_optimizer", "optimizer_for_fit", "optimizer_for_steps",
    "passes",
]

LR, WIDE = 0.01, 100        # the highest learning rate; of layers wider than this, less
WEIGHT_DECAY = 0.01
WARM_UP = 0.1
SAMPLES = 100_000           # that training sees, of small data again and again
LEAST_EPOCHS, MOST_EPOCHS = 10, 30      # more passes learn the noise of small data by heart
LEAST_STEPS = 300           # but of very small data so many
LEAST_BATCH, MOST_BATCH = 32, 256
BY_NAME: dict[str, Callable[[], Optimizer]] = {
    "sgd": SGD, "adagrad": AdaGrad, "rmsprop": RMSprop, "adam": Adam, "adamw": AdamW, "lbfgs": LBFGS}


def default_batch_size(n: int) -> int:
    """Samples of a step: as many as keep the processor busy, and few enough for many steps.

    >>> [default_batch_size(n) for n in (20, 150, 1500, 60_000, 10**6)]
    [20, 32, 32, 256, 256]
    """
    batch_size = LEAST_BATCH
    while batch_size < MOST_BATCH and n >= 400 * batch_size:
        batch_size *= 2
    return min(n, batch_size)


def default_epochs(n: int, batch_size: int) -> int:
    """Passes over n samples in such batches.

    >>> [default_epochs(n, default_batch_size(n)) for n in (20, 150, 1500, 5000, 60_000)]
    [300, 60, 30, 20, 10]
    """
    steps = -(-n // batch_size)
    return max(LEAST_EPOCHS, min(MOST_EPOCHS, round(SAMPLES / n)), -(-LEAST_STEPS // steps))


def default_optimizer(steps: int, layers: Sequence[int]) -> Optimizer:
    """For so many steps in all: the rate rises, and falls to nothing with the last of them. It stays at a
    tenth where nobody knows how many there will be (0).

    >>> default_optimizer(1000, [10, 400, 1]).lr
    OneCycle(lr=0.005, steps=1000, warm_up=0.1, start_divisor=25.0, end_divisor=10000.0)
    """
    widest = max(layers[1:-1], default=WIDE)
    lr = LR * math.sqrt(min(1.0, WIDE / widest))
    if not steps:
        return AdamW(lr / 10, weight_decay=WEIGHT_DECAY)
    return AdamW(OneCycle(lr, max(2, steps), warm_up=WARM_UP), weight_decay=WEIGHT_DECAY)


def passes(n: int, epochs: Any, batch_size: Any) -> tuple[int, int]:
    """Epochs and batch size, validated, for n samples."""
    if type(epochs) is int and type(batch_size) is int and epochs >= 0 and batch_size >= 1:
        return epochs, min(n, batch_size)       # what most short calls say
    if _is_auto("batch_size", batch_size):
        batch_size = default_batch_size(n)
    else:
        batch_size = n if batch_size is None else min(n, checks.integer("batch_size", batch_size, low=1))
    if _is_auto("epochs", epochs):
        return default_epochs(n, batch_size), batch_size
    return checks.integer("epochs", epochs, low=0), batch_size


def _is_auto(name: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    if value != "auto":
        raise TypeError(f"{name}: expected an integer or 'auto', got {value!r}")
    return True


def optimizer_for_fit(optimizer: Any, steps: int, layers: Sequence[int]) -> Optimizer:
    """The object itself; one of that name or class, made for this training; or the default."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if optimizer is None:
        return default_optimizer(steps, layers)
    if isinstance(optimizer, str):
        return BY_NAME[names.canonical("optimizer", optimizer, BY_NAME, names.OPTIMIZERS)]()
    if _is_class(optimizer):
        made: Optimizer = optimizer()
        return made
    raise _no_optimizer(optimizer)


def optimizer_for_steps(optimizer: Any) -> Optimizer:
    """The object: its state goes on from step to step, which that of a name or class could not."""
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str) or _is_class(optimizer):
        raise TypeError("optimizer: expected an object of fastmlp.optimizers, made once before the first "
                        f"step, such as optimizer = Adam(lr=0.001), got {optimizer!r}")
    raise _no_optimizer(optimizer)


def _is_class(optimizer: Any) -> bool:
    return isinstance(optimizer, type) and issubclass(optimizer, Optimizer) and optimizer is not Optimizer


def _no_optimizer(optimizer: Any) -> TypeError:
    theirs = names.of_others(optimizer, BY_NAME, names.OPTIMIZERS)
    return TypeError(f"optimizer: expected an object of fastmlp.optimizers, got {optimizer!r}{theirs}")
