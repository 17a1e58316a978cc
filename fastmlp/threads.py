"""How many threads the engine may use."""
from __future__ import annotations

import math
import os
from pathlib import Path

from fastmlp import checks

__all__ = ["get_num_threads", "set_num_threads"]


MOST = 256      # as many as the team of kernels/_team.pyx holds


def get_num_threads() -> int:
    """The number of threads that one call may use.

    At first FASTMLP_NUM_THREADS, or the processors that this process may run on: its affinity mask, and
    no more than its cgroup's quota of processor time. Results do not depend on it, to the bit.

    >>> get_num_threads() >= 1
    True
    """
    return _num_threads


def set_num_threads(n: int) -> None:
    """Set the number of threads that one call may use, for the whole process.

    Raises TypeError if n is not an integer, ValueError if it is not from 1 to 256.

    >>> before = get_num_threads()
    >>> set_num_threads(1)
    >>> get_num_threads()
    1
    >>> set_num_threads(before)
    """
    global _num_threads
    _num_threads = checks.integer("n", n, low=1, high=MOST)


def _default() -> int:
    value = os.environ.get("FASTMLP_NUM_THREADS")
    if value:
        if not value.isdecimal() or not 1 <= int(value) <= MOST:
            raise ValueError(f"FASTMLP_NUM_THREADS: expected an integer from 1 to {MOST}, got {value!r}")
        return int(value)
    affinity = getattr(os, "sched_getaffinity", None)       # not on macOS and Windows
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota = _quota()
    return max(1, min(processors, MOST, processors if quota == math.inf else math.ceil(quota)))


def _quota() -> float:
    """Processors' worth of time that the cgroup of this process may use."""
    try:        # version 2: "max 100000" or "150000 100000"
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:    # version 1: -1 or 150000
            folder = Path("/sys/fs/cgroup/cpu")
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    if not quota.isdecimal() or not period.isdecimal():
        return math.inf
    return int(quota) / int(period)


_num_threads = _default()
