"""What the system does at a signal: handlers of C code and flags too, of which Python does not tell."""
from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

__all__ = ["action_of", "is_default", "set_action"]

NBYTES = 1024           # more than a struct sigaction has anywhere


@cache
def _sigaction() -> Any:
    """The function of the C library; None on Windows."""
    try:
        return ctypes.CDLL(None).sigaction
    except (AttributeError, OSError, TypeError):
        return None


def action_of(number: int) -> bytes | None:
    """A struct sigaction, for `set_action`; None where the system has none."""
    function, action = _sigaction(), ctypes.create_string_buffer(NBYTES)
    return action.raw if function is not None and function(number, None, action) == 0 else None


def set_action(number: int, action: bytes | None) -> None:
    """Back to what it was."""
    if action is not None:
        _sigaction()(number, action, None)


def is_default(action: bytes | None) -> bool:
    """Whether there is no handler: the address of one comes first."""
    return action is None or not any(action[:ctypes.sizeof(ctypes.c_void_p)])
