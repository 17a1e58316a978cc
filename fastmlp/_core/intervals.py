"""How often: "30 s", "100 steps", "2 epochs"."""
from __future__ import annotations

import re
from typing import NamedTuple

from fastmlp._core import checks

__all__ = ["Interval", "interval"]

SECONDS = {"s": 1, "sec": 1, "second": 1, "seconds": 1, "min": 60, "minute": 60, "minutes": 60,
           "h": 3600, "hour": 3600, "hours": 3600}
COUNTED = {"step": "steps", "steps": "steps", "epoch": "epochs", "epochs": "epochs"}


class Interval(NamedTuple):
    """So many seconds, steps or epochs."""

    amount: float
    unit: str


def interval(name: str, value: object) -> Interval:
    """What is meant: a text of a number and a unit; or a number, of steps.

    >>> interval("every", "5 min"), interval("every", 100)
    (Interval(amount=300.0, unit='seconds'), Interval(amount=100, unit='steps'))

    Raises TypeError and ValueError.
    """
    expected = 'expected a time such as "30 s", "5 min" or "1 h", a number of steps, or "2 epochs"'
    if not isinstance(value, str):
        if not hasattr(value, "__index__") or isinstance(value, bool):
            raise TypeError(f"{name}: {expected}, got {value!r}")
        return Interval(checks.integer(name, value, low=1), "steps")
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]+)\s*", value)
    if match is None or match[2] not in SECONDS and match[2] not in COUNTED:
        raise ValueError(f"{name}: {expected}, got {value!r}")
    if match[2] in COUNTED and "." in match[1] or not float(match[1]):
        raise ValueError(f"{name}: expected a {'whole number' if float(match[1]) else 'number above 0'}, got "
                         f"{value!r}")
    if match[2] in SECONDS:
        return Interval(float(match[1]) * SECONDS[match[2]], "seconds")
    return Interval(int(match[1]), COUNTED[match[2]])
