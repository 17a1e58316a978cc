"""Callbacks within an epoch: who is called after which step. Only there is an epoch cut for them."""
from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core import checks
from fastmlp.callbacks import asks_to_stop

if TYPE_CHECKING:
    from fastmlp._core.types import Array, Callback
    from fastmlp.model import MLP

__all__ = ["StepHooks", "check", "names_of"]

WHENEVER = 0            # training pauses: the period of a callback whose `every` is None


def check(name: str, callbacks: Any) -> tuple[Callback, ...]:
    """A list of functions, or of objects with a method on_step_end.

    Raises TypeError for anything else, and ValueError for an `every` that is no number of steps.
    """
    try:
        result = tuple(callbacks)
    except TypeError:
        result = (None,)
    if not result:
        return result
    if not all(callable(callback) or _hook(callback) is not None for callback in result):
        raise TypeError(f"{name}: expected a list of functions or objects with on_step_end, "
                        f"got {callbacks!r}")
    for i, callback in enumerate(result):
        if _hook(callback) is not None:
            if not callable(_hook(callback)):
                raise TypeError(f"{name}[{i}].on_step_end: expected a method, got {_hook(callback)!r}")
            _every(f"{name}[{i}].every", callback)
    return result


def names_of(callbacks: Iterable[Callback]) -> list[str]:
    """Of those that want to be called after steps."""
    return [type(callback).__name__ for callback in callbacks if _wants_steps(callback)]


class StepHooks:
    """The callbacks of a training that have on_step_end; false if there are none."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._hooks = [(_every("every", callback) or WHENEVER, _hook(callback)) for callback in callbacks
                       if _wants_steps(callback)]
        # Losses and weights of the steps since those that are called every so many steps were.
        self._sums = {every: (0.0, 0.0) for every, _ in self._hooks}
        self._periods = self._sums.keys() - {WHENEVER}

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def pause(self, global_step: int, steps: int) -> int:
        """How many of the steps that come after the first `global_step` to make before somebody is called."""
        return min([steps, *(every - global_step % every for every in self._periods)])

    def stores(self, global_step: int) -> bool:
        """Whether somebody asked for this very step, and finds all arrays up to date."""
        return any(global_step % every == 0 for every in self._periods)

    def call(self, model: MLP, epoch: int, global_step: int, record: Array) -> bool:
        """Call whom it concerns, after steps that left these rows of the record; whether training ends.

        Losses are added one by one: how the epoch is cut into runs leaves no trace in the last bit."""
        of_steps = (record[:, 0] * record[:, 1]).tolist(), record[:, 1].tolist()
        means = {}
        for every, sums in self._sums.items():
            losses, weights = (reduce(add, values, start) for start, values in zip(sums, of_steps))
            if every == WHENEVER or global_step % every == 0:
                means[every] = losses / weights if weights else math.nan
                losses = weights = 0.0
            self._sums[every] = losses, weights
        answers = [function(model, global_step, {"epoch": epoch, "loss": means[every]})
                   for every, function in self._hooks if every in means]
        return any(map(asks_to_stop, answers))

    def get_state(self) -> Array:
        """Of every period a row (every, losses, weights): (periods, 3)."""
        return np.array([(every, *sums) for every, sums in self._sums.items()])

    def set_state(self, state: Array) -> None:
        """Of other periods than now the callbacks are no longer there."""
        for every, losses, weights in state.tolist():
            if every in self._sums:
                self._sums[every] = losses, weights


def _hook(callback: Any) -> Any:
    return getattr(callback, "on_step_end", None)


def _wants_steps(callback: Any) -> bool:
    return _hook(callback) is not None and _every("every", callback) != 0


def _every(name: str, callback: Any) -> int | None:
    """After how many steps a callback is called; None whenever training pauses anyway; 0 never."""
    every = getattr(callback, "every", 1)
    return None if every is None else checks.integer(name, every, low=0)
