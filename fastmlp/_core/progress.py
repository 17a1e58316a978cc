"""The progress bar of `fit`: tqdm's, on a stream that may be missing, closed, or break at any moment."""
from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["Bar", "Progress"]


class Progress:
    """The bars of a training, one after another; none any more once a stream has failed."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = bool(wanted)

    def bar(self, samples: int, epoch: int, epochs: int) -> Bar:
        return Bar(self, samples, epoch, epochs)

    def attempt(self, action: Callable[[], Any]) -> Any:
        """What the action returns; None where it fails, with which bars end. Training is not the bar's
        business: it goes on, and there is no stream left to say so."""
        if not self.wanted:
            return None
        try:
            return action()
        except Exception as error:
            if _from_a_signal(error.__traceback__):
                raise
            self.wanted = False
            return None


class Bar:
    """The bar of one epoch, a context manager; it may be that nothing is shown."""

    def __init__(self, progress: Progress, samples: int, epoch: int, epochs: int) -> None:
        self._progress = progress
        self._bar: Any = None
        if progress.wanted:
            self._bar = progress.attempt(lambda: _tqdm(samples, f"epoch {epoch + 1}/{epochs}"))

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *error: object) -> None:
        self._attempt(lambda bar: bar.close())

    def update(self, samples: int, loss: float) -> None:
        """So many samples more, and the mean loss so far."""
        if self._bar is not None:
            text = f"loss {loss:.4g}"
            self._attempt(lambda bar: (bar.set_postfix_str(text, refresh=False), bar.update(samples)))

    def show(self, logs: dict[str, float]) -> None:
        """The numbers of the epoch; samples per second the bar has itself."""
        self._attempt(lambda bar: bar.set_postfix(
            {name: f"{value:.4g}" for name, value in logs.items()
             if name != "samples_per_second" and isinstance(value, float)}))

    def _attempt(self, action: Callable[[Any], Any]) -> None:
        bar = self._bar
        if bar is None:
            return
        self._progress.attempt(lambda: action(bar))
        if not self._progress.wanted:
            bar.disable = True              # or its finalizer writes again
            self._bar = None


def _tqdm(total: int, description: str) -> Any:
    if sys.stderr is None or getattr(sys.stderr, "closed", False):
        raise ValueError("stderr is closed")
    from tqdm.auto import tqdm  # here, since it takes several megabytes

    # With a delay it is drawn by the first update, and not before there is an object to disable.
    return tqdm(total=total, desc=description, unit=" samples", unit_scale=True, delay=1e-9)


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
