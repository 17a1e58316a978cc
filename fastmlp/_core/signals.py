"""Ctrl-C and SIGTERM that wait for the next place where a training can be saved."""
from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from fastmlp._core.actions import action_of, is_default, set_action

__all__ = ["HeldSignals"]

HELD = (signal.SIGINT, signal.SIGTERM)


class HeldSignals:
    """A context manager: in its block the first signal is noted, and delivered when that is asked for; a
    second one is delivered at once. What a signal does is what it did before, and the handlers are put back.

    Signals that were ignored, or have a handler that is not Python's, stay as they are; and all of them do
    outside of the main thread, where Python handles none.

    is_over     whether the block has ended: a handler that an exception between two lines has left in its
                place holds nothing any more, and puts back what was there before
    """

    def __init__(self, is_over: Callable[[], bool] = lambda: False) -> None:
        self._is_over = is_over
        self._noted: int | None = None
        self._before: dict[int, tuple[Any, bytes | None]] = {}      # what Python does, and the system

    @property
    def waiting(self) -> bool:
        """Whether a signal has come."""
        return self._noted is not None

    def __enter__(self) -> HeldSignals:
        if threading.current_thread() is threading.main_thread():
            for number in HELD:
                handler, action = signal.getsignal(number), action_of(number)
                of_c_code = handler == signal.SIG_DFL and not is_default(action)
                if handler not in (signal.SIG_IGN, None) and not of_c_code:
                    self._before[number] = handler, action
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        self._put_back()
        self.deliver()

    def _put_back(self) -> None:
        for number, (handler, action) in self._before.items():
            if signal.getsignal(number) == self._note:      # nobody has set another one
                signal.signal(number, handler)
                set_action(number, action)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._is_over():
            self._put_back()
            self._act(number, frame)
        elif self._noted is not None:
            self._noted = None
            self._act(number, frame)
        else:
            self._noted = number

    def deliver(self) -> None:
        """Let the signal that waits, if there is one, do what it does: to raise KeyboardInterrupt, to end the
        process, to call a handler of the user's."""
        number, self._noted = self._noted, None
        if number is not None:
            self._act(number, sys._getframe(1))

    def _act(self, number: int, frame: FrameType | None) -> None:
        handler = self._before[number][0]
        if callable(handler):
            handler(number, frame)
        else:                               # SIG_DFL: the parent sees that the signal has ended the process
            signal.signal(number, handler)
            signal.raise_signal(number)
            # Still here: the first process of a container, which the system does not end by default.
            raise SystemExit(128 + number)
