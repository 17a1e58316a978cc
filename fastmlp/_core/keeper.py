"""When a run of `fit` is saved: at intervals, when a signal is about to end it, and in the end."""
from __future__ import annotations

import errno
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from fastmlp._core import callers
from fastmlp._core.intervals import interval
from fastmlp._core.place import Place
from fastmlp._core.signals import HeldSignals
from fastmlp._core.whole_files import can_replace
from fastmlp.saving import check_suffix, file_name

if TYPE_CHECKING:
    from types import TracebackType

    from fastmlp._core.locking import Call
    from fastmlp._core.run_file import Run
    from fastmlp._core.types import Path
    from fastmlp.optimizers import Optimizer

__all__ = ["Keeper", "make_keeper"]

USUAL = "30 s"
SHARE = 50          # with an interval of time, saving takes one part in so many of it at most


def make_keeper(checkpoint: Path | None, checkpoint_every: object, resume: object, optimizer: Optimizer
                ) -> Keeper | None:
    """What keeps a run, by arguments of `fit`; None where none is asked for.

    Raises TypeError and ValueError for arguments that do not fit.
    """
    if checkpoint is None:
        if isinstance(resume, (str, bytes, os.PathLike)) and resume:
            raise ValueError(f"resume: expected True or False, got {resume!r}; the file is checkpoint, and "
                             f"checkpoint={resume!r}, resume=True goes on with the run in it")
        for name, value in (("checkpoint_every", checkpoint_every), ("resume", resume or None)):
            if value is not None:
                raise ValueError(f"{name}: needs a file, checkpoint=..., got {value!r} without")
        return None
    if optimizer.full_batch:
        raise ValueError("checkpoint: LBFGS keeps its memory of the last steps to itself, and cannot go on "
                         "from a file; the callback Checkpoint saves the model")
    return Keeper(checkpoint, checkpoint_every, bool(resume))


class Keeper:
    """Saves a run to a file, `path`; a context manager, in whose block signals wait for it."""

    def __init__(self, path: Path, every: object, resume: bool) -> None:
        """`every`: how often, None for the usual; `resume`: whether to go on with the run in the file."""
        try:
            self.path = file_name(path)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error).replace("path", "checkpoint", 1)) from None
        check_suffix("checkpoint", self.path)
        with suppress(FileNotFoundError):       # of the current folder
            self.path = os.path.abspath(self.path)      # wherever the program goes meanwhile
        self._every = interval("checkpoint_every", USUAL if every is None else every)
        self._resume = resume
        self._signals = HeldSignals(self._is_over)
        self._seconds = 0.0             # that the last save took

    def begin(self, run: Run, epochs: int, call: Call) -> Place:
        """The place where the run in the file stands, if it is to go on; else its beginning."""
        self._run, self._call = run, call
        place = None
        if self._resume:
            try:
                place = run.resume(self.path, epochs)
            except FileNotFoundError:
                pass
            except ValueError as error:
                raise ValueError(str(error).replace("path:", "checkpoint:", 1)) from None
        self._is_new = place is None
        if place is None:
            place = Place()
        elif place.epoch < epochs and not place.stopped and not can_replace(self.path):
            raise PermissionError(
                errno.EACCES, "checkpoint: the run goes on, and its file may not be replaced", self.path)
        return place

    def started(self, place: Place) -> None:
        """Save the beginning of a run that is new, once its callbacks have begun: a path that cannot be
        written, and what cannot be saved, shows before anything is trained."""
        if self._is_new:
            self._save(place)
        self._plan(place)

    def __enter__(self) -> Keeper:
        self._signals.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self._signals.__exit__(kind, error, traceback)

    def _is_over(self) -> bool:
        # In a forked child, too: what has to end with it (a worker of a pool) must not wait for a save.
        return not (self._call.holds() and self._call.is_here())

    def last_step(self, step: int, last: int) -> int:
        """Where the engine is to stop that would make these steps: not beyond the next one that is saved."""
        if self._every.unit != "steps":
            return last
        return min(last, step + max(1, int(self._next - self._run.global_step)))

    @property
    def interrupted(self) -> bool:
        """Whether a signal waits."""
        return self._signals.waiting

    def wants(self, epoch: int) -> bool:
        """Whether it is time to save, after so many epochs, or a signal waits."""
        return self._position(epoch) >= self._next or self.interrupted

    def save(self, place: Place) -> None:
        """Save the run; a signal that waits then does what it does."""
        self._try_to_save(place)
        self._plan(place)
        self._signals.deliver()

    def end(self, place: Place) -> None:
        """Save the run at its end."""
        self._try_to_save(place)

    def _position(self, epoch: int) -> float:
        """What the interval counts."""
        if self._every.unit == "seconds":
            return time.monotonic()
        return self._run.global_step if self._every.unit == "steps" else epoch

    def _plan(self, place: Place) -> None:
        amount = self._every.amount
        if self._every.unit == "seconds":
            amount = max(amount, SHARE * self._seconds)
        self._next = self._position(place.epoch) + amount

    def _save(self, place: Place) -> None:
        started = time.monotonic()
        self._run.save(self.path, place, in_place=False)
        self._seconds = time.monotonic() - started

    def _try_to_save(self, place: Place) -> None:
        """A training is worth more than its file: where that cannot be written, it goes on, and the old one
        stays."""
        try:
            self._save(place)
        except (OSError, ValueError, MemoryError) as error:
            where = (f"step {place.step} of epoch {place.epoch + 1}" if place.step
                     else f"the end of epoch {place.epoch}")
            callers.warn(f"checkpoint: {where} could not be saved to {os.path.basename(self.path)}, which is "
                         f"as it was: {type(error).__name__}: {error}", RuntimeWarning)
