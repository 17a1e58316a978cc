"""Schedules: the learning rate of every step."""
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Schedule"]

Array = NDArray[Any]


def power(base: float, n: int) -> float:
    """base^n for an integer n >= 0, by multiplications alone: the same bits on every machine.

    >>> power(0.5, 3)
    0.125
    """
    result = 1.0
    while n:
        if n & 1:
            result *= base
        base, n = base * base, n >> 1
    return result


def powers(base: float, first: int, count: int) -> Array:
    """power(base, n) for n = first, first + 1, ...: (count,) in float64.

    >>> powers(0.5, 1, 3)
    array([0.5  , 0.25 , 0.125])
    """
    return powers_of(base, np.arange(first, first + count))


def powers_of(base: float, n: Array) -> Array:
    """power(base, n) for every n, each with its own bits: the same however they are grouped."""
    result = np.ones(len(n))
    while n.any():
        result[n & 1 == 1] *= base
        base, n = base * base, n >> 1
    return result


class Schedule:
    """What every schedule does: schedule(step) is the learning rate of a step, counted from 0."""

    def __call__(self, step: int) -> float:
        return float(self.values(step, 1)[0])

    def values(self, first: int, count: int) -> Array:
        """The learning rates of steps first, first + 1, ...: (count,) in float64."""
        raise NotImplementedError

    def observe(self, value: float) -> None:
        """The loss of an epoch, for a schedule that depends on it."""

    def get_state(self) -> dict[str, float]:
        """What changed since it was made, by name."""
        return {}

    def set_state(self, state: dict[str, float]) -> None:
        """Puts back what `get_state` gave."""
