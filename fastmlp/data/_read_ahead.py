"""A thread that reads while another one trains."""
from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

from fastmlp._core import locking

__all__ = ["ReadAhead", "Stop"]

Item = TypeVar("Item")

IDLE_SECONDS = 0.05


class Stop:
    """What the reading thread looks at between two blocks."""

    asked = False


class ReadAhead(Generic[Item]):
    """The items of an iterator that another thread runs, one item ahead; a context manager, in whose block
    they are to be had.

    The thread begins with an item only when the last but one has been done with: two buffers in turn are
    enough. It ends with the block, however that ends. What is raised there is raised here. Where the system
    has no thread to give, the caller's own reads.

    make        called in the thread for the iterator, which looks at `Stop` from time to time
    idle        called from time to time while the caller waits for an item
    """

    def __init__(self, make: Callable[[Stop], Iterator[Item]], idle: Callable[[], None] | None = None
                 ) -> None:
        self._make = make
        self._idle = idle
        self._forks = locking.forks
        self._free: queue.SimpleQueue[None] = queue.SimpleQueue()       # turns for the thread
        self._full: queue.SimpleQueue[Any] = queue.SimpleQueue()        # what it has read
        self._stop = Stop()
        self._has_thread = True
        self._thread = threading.Thread(target=_read, args=(make, self._stop, self._free, self._full),
                                        name="fastmlp reads", daemon=True)
        # Where an exception comes between two lines of ours, and nobody closes this.
        weakref.finalize(self, _end, self._stop, self._free)

    def __enter__(self) -> ReadAhead[Item]:
        self._free.put(None)
        try:
            self._thread.start()
        except RuntimeError:
            self._has_thread = False
        return self

    def __iter__(self) -> Iterator[Item]:
        if not self._has_thread:
            yield from self._make(self._stop)
            return
        while True:
            if self._forks != locking.forks:
                raise RuntimeError("the thread that reads the source is in the process that this one was "
                                   "forked from; begin another pass over it here")
            self._free.put(None)            # the item before the last one is no longer in use
            kind, item = self._next()
            if kind == "error":
                try:
                    raise item
                finally:
                    del item                # which leads to this frame: no circle
            if kind == "end":
                return
            yield item

    def _next(self) -> Any:
        while self._idle is not None:
            try:
                return self._full.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                self._idle()
        return self._full.get()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self._has_thread and self._forks == locking.forks:
            _end(self._stop, self._free)
            self._thread.join()


def _end(stop: Stop, free: queue.SimpleQueue[None]) -> None:
    stop.asked = True
    free.put(None)


def _read(make: Callable[[Stop], Iterator[Any]], stop: Stop, free: queue.SimpleQueue[None],
          full: queue.SimpleQueue[Any]) -> None:
    """The thread."""
    items: Any = None
    try:
        items = make(stop)
        while True:
            free.get()
            if stop.asked:
                break
            try:
                item = next(items)
            except StopIteration:
                break
            full.put(("item", item))
        full.put(("end", None))
    except BaseException as error:
        full.put(("error", error))
    finally:
        if hasattr(items, "close"):
            items.close()
