"""How many threads the engine may use."""
from __future__ import annotations

import math
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fastmlp._core import cgroups, checks, threadpoolctl

__all__ = ["get_num_threads", "limit_num_threads", "set_num_threads"]


MOST = 256      # as many as the team of kernels/_team.pyx holds


def get_num_threads() -> int:
    """Return the number of threads that one call may use.

    Returns
    -------
    int
        Number of threads, from 1 to 256.

    See Also
    --------
    set_num_threads : Set it.
    limit_num_threads : Lower it for some calls.

    Notes
    -----
    At first FASTMLP_NUM_THREADS; or else OMP_NUM_THREADS, as schedulers of clusters and joblib set it for
    their workers (of a list the first; ignored where it is no number, as OpenMP does); or else the processors
    that this process may run on: those of its affinity mask, and no more than the smallest quota of its
    cgroups. A limit of threadpoolctl counts in the thread that set it. Results do not depend on the number,
    to the bit.

    Examples
    --------
    >>> get_num_threads() >= 1
    True
    """
    if _limited:
        return int(min(_num_threads, getattr(_thread, "limit", math.inf)))
    return _num_threads


def set_num_threads(n: int) -> None:
    """Set the number of threads that one call may use, for the whole process.

    It takes the place of what the environment says, and of a limit of threadpoolctl on the calling thread.

    Parameters
    ----------
    n : int
        Number of threads, from 1 to 256.

    Raises
    ------
    TypeError
        If ``n`` is not an integer.
    ValueError
        If ``n`` is not from 1 to 256.

    See Also
    --------
    get_num_threads : Return it.

    Examples
    --------
    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    global _num_threads
    _num_threads = checks.integer("n", n, low=1, high=MOST)
    if _limited:
        _thread.limit = math.inf


@contextmanager
def limit_num_threads(n: int | None) -> Iterator[None]:
    """Let calls inside a `with` block use at most n threads, calls from the thread that entered it.

    Parameters
    ----------
    n : int or None
        Number of threads, from 1 to 256; None sets no limit. It does not raise the number of
        `set_num_threads`.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    TypeError
        If ``n`` is neither an integer nor None.
    ValueError
        If ``n`` is not from 1 to 256.

    See Also
    --------
    set_num_threads : Set the number for the whole process.

    Examples
    --------
    >>> with limit_num_threads(1):
    ...     get_num_threads()
    1
    """
    if n is None:
        yield
        return
    before = getattr(_thread, "limit", math.inf)
    n = checks.integer("n", n, low=1, high=MOST)
    try:
        _limit_thread(min(before, n))
        yield
    finally:
        _thread.limit = before


def _limit_thread(n: float) -> None:
    """No more than n threads for calls from this thread. A number that limits nothing ends the limit: so
    threadpoolctl restores what it found."""
    global _limited
    _limited = True
    _thread.limit = max(1, n) if n < _num_threads else math.inf


def _default() -> int:
    value = os.environ.get("FASTMLP_NUM_THREADS")
    if value:
        if not value.isdecimal() or not 1 <= int(value) <= MOST:
            raise ValueError(f"FASTMLP_NUM_THREADS: expected an integer from 1 to {MOST}, got {value!r}")
        return int(value)
    return min(_openmp("OMP_NUM_THREADS") or _processors(), _openmp("OMP_THREAD_LIMIT") or MOST, MOST)


def _openmp(variable: str) -> int | None:
    """A positive number, or the first of a list of them, for levels of nesting; None if it is neither."""
    numbers = [re.fullmatch(r"\s*\+?0*([1-9][0-9]*)\s*", item)
               for item in os.environ.get(variable, "").split(",")]
    return min(int(numbers[0][1][:9]), MOST) if numbers[0] and all(numbers) else None


def _processors() -> int:
    """Those that this process may run on, and no more than its quota of processor time."""
    count = getattr(os, "process_cpu_count", None)          # from Python 3.13 on; with PYTHON_CPU_COUNT
    affinity = getattr(os, "sched_getaffinity", None)       # not on macOS and Windows
    processors = count() if count else len(affinity(0)) if affinity else os.cpu_count()
    quota = cgroups.quota()
    return max(1, min(processors or 1, MOST if quota == math.inf else math.ceil(quota)))


_num_threads = _default()
_thread = threading.local()     # .limit: what threadpoolctl has set for the calling thread
_limited = False                # some thread has: until then nobody has to look
threadpoolctl.install(get_num_threads, _limit_thread)
