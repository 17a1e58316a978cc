"""What `fit` shows while it trains: a bar for every epoch (tqdm's), or lines for a log.

All of it goes to stderr, so that a program's own output stays clean; and stderr may be missing, be closed, or
break at any moment, which is no business of the training's.
"""
from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from types import TracebackType
from typing import Any

import numpy as np

from fastmlp._core import checks, locking

__all__ = ["Bar", "Line", "Progress", "kind_of", "progress_of"]

FEW_EPOCHS = 10                 # so many all have a bar
BAR_SECONDS = 0.2               # between two bars of more epochs, but for the last: a bar takes its time
LINE_SECONDS = 1.0              # between two lines after epochs: hundreds of short epochs are no log to read
LONG_SECONDS = 30.0             # between two lines within a long epoch
# Of a bar, from wide to narrow: the numbers of the epoch come first, and have to fit.
BARS = ("{l_bar}{bar}{r_bar}", "{l_bar}{bar}| {rate_fmt}{postfix}", "{l_bar}{bar}{postfix}",
        "{desc}{postfix}")
UNKNOWN_TOTAL = ("{desc}: {n_fmt}{unit} [{elapsed}, {rate_fmt}{postfix}]", "{desc}: {n_fmt}{unit}{postfix}",
                 "{desc}{postfix}")
LEAST_BAR = 8                   # columns of the bar itself

Note = Callable[[], str]        # what else there is to say, or nothing: found out where something is shown


def kind_of(name: str, value: Any) -> str | None:
    """ "bar", "log" or None for nothing; True is a bar where there is somebody to look at it, else lines.

    >>> kind_of("progress", "log"), kind_of("progress", False)
    ('log', None)
    """
    if isinstance(value, str):
        checks.known_name(name, value, ["bar", "log"])
        return value
    if value is not None and not isinstance(value, (bool, np.bool_)) and value not in (0, 1):
        raise TypeError(f'{name}: expected "bar", "log", True or False, got {value!r}')
    if not value:
        return None
    return "bar" if _on_a_terminal() or _in_a_notebook() else "log"


def progress_of(name: str, value: Any) -> Progress:
    """What the caller of `fit` asked for, or what `fit` itself did, for the trainings inside it."""
    if value is False:
        return NOTHING
    return value if isinstance(value, Progress) else Progress(kind_of(name, value))


class Progress:
    """What is shown of a training: an object for every epoch, which shows it; nothing any more once the
    stream has failed.

    kind    "bar", "log" or None
    title   in front of "epoch 1/10"
    """

    def __init__(self, kind: str | None, title: str = "") -> None:
        self.kind = kind
        self.title = title
        self.started = time.perf_counter()
        self.at_start = True                    # nothing was shown yet
        self.made_before = 0.0                  # epochs, of a run that goes on
        self.written = -float("inf")            # when the last line was, or the last bar began
        self.pending: str | None = None         # a line that came too early

    def bar(self, samples: int, epoch: int, epochs: int) -> Bar | Line:
        if self.kind == "log":
            return Line(self, samples, epoch, epochs)
        if self.kind is None:
            return Bar(self, samples, epoch, epochs)
        now = time.perf_counter()
        if FEW_EPOCHS < epochs != epoch + 1 and now - self.written < BAR_SECONDS:
            return Bar(NOTHING, samples, epoch, epochs)
        self.written = now
        return Bar(self, samples, epoch, epochs)

    def close(self) -> None:
        """The last epoch has its line, too, however short it was and whatever ended the training."""
        if self.pending is not None:
            self.write(self.pending)

    def write(self, line: str) -> None:
        """A line, at once."""
        self.written, self.pending = time.perf_counter(), None

        def act() -> None:
            sys.stderr.write(f"{datetime.now():%Y-%m-%d %H:%M:%S}  {line}\n")
            sys.stderr.flush()

        self.attempt(act)

    def attempt(self, action: Callable[[], Any]) -> Any:
        """What the action returns; None where it fails, which ends all of it: training goes on, and there is
        no stream left to say so."""
        if self.kind is None:
            return None
        try:
            return action()
        except Exception as error:
            if _from_a_signal(error.__traceback__):
                raise
            self.kind = None
            return None


NOTHING = Progress(None)


class Bar:
    """The bar of one epoch, a context manager; it may be that nothing is shown."""

    def __init__(self, progress: Progress, samples: int, epoch: int, epochs: int) -> None:
        self._progress = progress
        self._bar: Any = None
        if progress.kind is not None:
            title = f"{progress.title}epoch {epoch + 1}/{epochs}"
            self._bar = progress.attempt(lambda: _tqdm(samples, title))

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._attempt(lambda bar: bar.close())

    def resume(self, samples: int) -> None:
        """So many samples of the epoch had been seen before."""
        def act(bar: Any) -> None:
            bar.n = bar.initial = bar.last_print_n = samples

        self._attempt(act)

    def update(self, samples: int, loss: float, note: Note = str) -> None:
        """So many samples more, the mean loss so far, and what else there is to say."""
        if self._bar is not None:
            texts = [f"loss {loss:.4g}", *_said(note)]
            self._attempt(lambda bar: _with_texts(bar, texts).update(samples))

    def show(self, logs: dict[str, Any], note: Note = str) -> None:
        """The numbers of the epoch, and what else there is to say; samples per second the bar has itself."""
        if self._bar is not None:
            texts = [*(f"{name}={value:.4g}" for name, value in _numbers(logs)), *_said(note)]
            self._attempt(lambda bar: _with_texts(bar, texts).refresh())

    def _attempt(self, action: Callable[[Any], Any]) -> None:
        bar = self._bar
        if bar is None:
            return
        self._progress.attempt(lambda: action(bar))
        if self._progress.kind is None:
            bar.disable = True              # or its finalizer writes again
            self._bar = None


class Line:
    """One epoch as a line, and a long one as several; a context manager like a bar."""

    def __init__(self, progress: Progress, samples: int, epoch: int, epochs: int) -> None:
        self._progress = progress
        self._samples = samples
        self._epoch = epoch
        self._epochs = epochs
        self._seen = self._seen_before = 0
        self._started = time.perf_counter()
        if progress.at_start:
            progress.made_before, progress.at_start = epoch, False

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def resume(self, samples: int) -> None:
        """So many samples of the epoch had been seen before."""
        self._seen = self._seen_before = samples
        self._progress.made_before += samples / self._samples if self._samples else 0.0

    def update(self, samples: int, loss: float, note: Note = str) -> None:
        """So many samples more, the mean loss so far, and what else there is to say: a line, if there was
        none for long."""
        self._seen += samples
        now = time.perf_counter()
        if now - max(self._progress.written, self._progress.started) > LONG_SECONDS:
            speed = (self._seen - self._seen_before) / max(now - self._started, 1e-9)
            share, shown = 0.0, f" {_with_prefix(self._seen)} samples"
            if self._samples:           # else nobody knows how many there will be
                share = min(self._seen / self._samples, 1.0)
                shown = f" {share:.0%}"
            self._progress.write(self._text(shown, {"loss": loss}, speed, self._epoch + share, note))

    def show(self, logs: dict[str, Any], note: Note = str) -> None:
        """The numbers of the epoch, as a line unless there has just been one."""
        text = self._text("", logs, logs["samples_per_second"], self._epoch + 1, note)
        if (time.perf_counter() - self._progress.written > LINE_SECONDS or self._epoch + 1 == self._epochs):
            self._progress.write(text)
        else:
            self._progress.pending = text

    def _text(self, share: str, logs: dict[str, Any], speed: float, done: float, note: Note) -> str:
        elapsed = time.perf_counter() - self._progress.started
        made = done - self._progress.made_before
        left = timedelta(seconds=round(elapsed * (self._epochs - done) / max(made, 1e-9)))
        number = f"{self._epoch + 1:>{len(str(self._epochs))}}/{self._epochs}{share}"
        numbers = [f"{name} {value:.4g}" for name, value in _numbers(logs)]
        return "  ".join([f"{self._progress.title}epoch {number}", *numbers,
                          f"{_with_prefix(speed)} samples/s", *([f"{left} left"] if made else []),
                          *_said(note)])


def _said(note: Note) -> list[str]:
    text = note()
    return [text] if text else []


def _numbers(logs: dict[str, Any]) -> list[tuple[str, float]]:
    """What is shown of the numbers of an epoch: no arrays, none of a single layer, of which there may be
    many, and not the speed, which the bar shows by itself."""
    return [(name, value) for name, value in logs.items()
            if name != "samples_per_second" and isinstance(value, float)
            and not re.match(r"layer\d+_", name)]


def _with_prefix(number: float) -> str:
    """Three digits.

    >>> [_with_prefix(number) for number in (0.5, 12.3, 1234, 98765, 2.5e6)]
    ['0.5', '12.3', '1.23k', '98.8k', '2.5M']
    """
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:
            return f"{number / size:.3g}{prefix}"
    return f"{number:.3g}"


@cache
def _bar_class(base: Any) -> Any:
    class Bar(base):  # type: ignore[misc]
        def refresh(self, nolock: bool = False, lock_args: Any = None) -> Any:
            """tqdm's own keeps the lock of all bars when an exception comes while it draws."""
            if nolock or lock_args or self.disable:
                return super().refresh(nolock, lock_args)
            with self.get_lock():
                return super().refresh(nolock=True)

    def own_lock() -> None:
        # tqdm's may be held by a thread that this process does not have, and is one with the parent's.
        Bar._lock = threading.RLock()

    if locking.forks:
        own_lock()
    if hasattr(os, "register_at_fork"):         # not on Windows
        os.register_at_fork(after_in_child=own_lock)
    return Bar


def _tqdm(total: int, description: str) -> Any:
    if sys.stderr is None or getattr(sys.stderr, "closed", False):
        raise ValueError("stderr is closed")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "IProgress not found")        # a notebook without widgets has text
        from tqdm.auto import tqdm  # here, since it takes several megabytes

    # With a delay it is drawn by the first update, and not before there is an object to disable.
    return _bar_class(tqdm)(total=total or None, desc=description, unit=" samples", unit_scale=True,
                            delay=1e-9)


def _with_texts(bar: Any, texts: list[str]) -> Any:
    """The bar with these behind it, which gives them room; of too many the last ones are left out."""
    shown = ", ".join(texts)
    if isinstance(getattr(bar, "ncols", None), int) and bar.ncols > 0:      # on a terminal
        formats = BARS if bar.total else UNKNOWN_TOTAL
        while not (fitting := [one for one in formats if _fits(bar, one, shown)]) and len(texts) > 1:
            texts = texts[:-1]
            shown = ", ".join([*texts, "..."])
        bar.bar_format = (fitting or formats[-1:])[0]
    bar.set_postfix_str(shown, refresh=False)
    return bar


def _fits(bar: Any, bar_format: str, shown: str) -> bool:
    text = bar.format_meter(**{**bar.format_dict, "postfix": shown, "ncols": None,
                               "bar_format": bar_format.replace("{bar}", " " * LEAST_BAR)})
    return bool(len(text) < bar.ncols)


def _on_a_terminal() -> bool:
    """Whether stderr is one, and goes back to the beginning of a line when it is asked to."""
    try:
        return bool(sys.stderr.isatty()) and os.environ.get("TERM") != "dumb"
    except Exception:           # whatever stands in for stderr
        return False


def _in_a_notebook() -> bool:
    """Whether a kernel of Jupyter runs this, whose stderr is no terminal and shows bars all the same."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython is not None and getattr(get_ipython(), "kernel", None) is not None


def _from_a_signal(traceback: TracebackType | None) -> bool:
    """Whether a signal handler of the user's raised: that it did so while a bar was drawn is chance."""
    handlers: list[Any] = [signal.getsignal(number) for number in signal.valid_signals()]
    handlers += [getattr(type(handler), "__call__", None) for handler in handlers]  # noqa: B004
    codes = {getattr(handler, "__code__", None) for handler in handlers}
    while traceback is not None:
        if traceback.tb_frame.f_code in codes:
            return True
        traceback = traceback.tb_next
    return False
