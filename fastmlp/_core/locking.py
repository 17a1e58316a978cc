"""Who trains a model right now: one thread at a time, whatever exception interrupts it between two lines.

A lock that must be released is held for ever when a signal handler raises between taking it and guarding it,
or in the code that releases it. Here a call holds the lock with its frame: the lock is held as long as that
frame is being executed. Releasing it is a courtesy, and what was not released counts for nothing.
"""
from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["Call", "TrainingLock"]


forks = 0           # between the first process and this one; asking the system for a number takes longer


def _in_forked_child() -> None:
    global forks
    forks += 1


if hasattr(os, "register_at_fork"):         # not on Windows
    os.register_at_fork(after_in_child=_in_forked_child)


def executing(frame: FrameType | None) -> bool:
    """Whether a frame is on the stack of any thread; one that has ended is emptied."""
    if frame is None:
        return False
    try:
        frame.clear()           # refuses to clear a frame that is being executed
    except RuntimeError:
        return True
    return False


class Call:
    """A call that trains a model, in a process and a thread; a context manager that releases the lock."""

    __slots__ = ("after", "forks", "frame", "outer", "runner", "thread", "warned")

    def __init__(self, frame: FrameType | None, outer: Call | None = None) -> None:
        self.forks = forks                      # where it began: another number is another process
        self.thread = threading.get_ident()
        self.frame = frame
        self.runner: FrameType | None = None    # the call that is in the engine, this one or one inside it
        self.outer = outer                      # the call that holds the lock, where this one is inside it
        self.after: dict[str, Call] = {}        # the next call that took the lock
        self.warned = False                     # of what it does to the model

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *error: object) -> None:
        if self.outer is None:
            self.frame = self.runner = None
        elif self.runner is not None:
            self.outer.runner = self.runner = None

    def enter_engine(self) -> None:
        """The caller's frame goes into the engine, until it ends or leaves it."""
        self.runner = sys._getframe(1)
        if self.outer is not None:
            self.outer.runner = self.runner

    def leave_engine(self) -> None:
        self.runner = None
        if self.outer is not None:
            self.outer.runner = None

    def is_here(self) -> bool:
        """Whether the calling thread is within it; also in a child that was forked there."""
        return self.thread == threading.get_ident() and executing(self.frame)

    def holds(self) -> bool:
        """Whether it still runs; what a forked child inherits of its parent's calls does not count."""
        return self.frame is not None and self.forks == forks and executing(self.frame)


class TrainingLock:
    """Held by the call that trains a model. A copy of a lock, in whatever way, is a new one."""

    __slots__ = ("__weakref__", "_last")

    def __init__(self) -> None:
        self._last = Call(None)

    def __reduce__(self) -> tuple[Any, ...]:
        return TrainingLock, ()

    def take(self, runs: bool = True) -> Call:
        """For the caller's frame, to be used as `with lock.take():` there.

        Parameters
        ----------
        runs : bool
            Whether it goes into the engine itself. Until it ends, user's functions that the engine calls
            cannot train the model; otherwise, calls inside this one on the same thread can.

        Raises
        ------
        RuntimeError
            While another thread, or the engine, trains the model.
        """
        frame = sys._getframe(1)
        while True:
            last = self.last()
            if last.holds():
                if last.thread != threading.get_ident():
                    raise RuntimeError("the model is being trained by another thread")
                if executing(last.runner):
                    raise RuntimeError("the model is being trained: a nested call from inside a training "
                                       "step (a learning-rate function, a loss of your own) cannot train it")
                call = Call(frame, outer=last)
                if runs:
                    call.runner = last.runner = frame
                return call
            call = Call(frame)
            if runs:
                call.runner = frame
            # One operation, which no other thread and no signal can divide: of all that want to come after
            # the last call, one does.
            if last.after.setdefault("call", call) is call:
                self._last = call
                return call

    def last(self) -> Call:
        """The last call that took the lock; whoever was interrupted on the way may not have noted it."""
        call = self._last
        while call.after:
            call = call.after["call"]
        return call

    def runs(self) -> bool:
        """Whether the engine is at work."""
        last = self.last()
        return last.holds() and executing(last.runner)

    def busy_elsewhere(self) -> bool:
        """Whether another thread trains the model."""
        last = self.last()
        return last.thread != threading.get_ident() and last.holds()

    @contextmanager
    def between_steps(self, what: str) -> Iterator[None]:
        """What is read in the block is of one moment of a training: this thread trains the model and is
        between two steps, or none does.

        Raises RuntimeError where another thread trains it, at the end of the block, too; `what` says what can
        be done later.
        """
        def check() -> None:
            if self.busy_elsewhere() or self.last() is not last:
                raise RuntimeError(f"the model is being trained by another thread; {what} in a callback or "
                                   "later")
            if self.runs():
                raise RuntimeError(f"the model is within a training step; {what} in a callback or later")

        last = self.last()
        check()
        yield
        check()
