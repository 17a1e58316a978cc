"""Changes of several things that no signal can divide."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

__all__ = ["for_all"]


def for_all(function: Callable[..., Any], *arguments: Iterable[Any]) -> None:
    """Call a function that is written in C for all of them: Python handles signals between its own lines, and
    here is none.

    >>> ends = [], []
    >>> for_all(list.append, ends, (1, 2))
    >>> ends
    ([1], [2])
    """
    deque(map(function, *arguments), maxlen=0)
