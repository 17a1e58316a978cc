"""The processor time that Linux lets a process have: the quotas of its control groups.

A process belongs to one group of each hierarchy (one in version 2, one for each controller in version 1), and
every group up to the root may have a quota: the smallest counts. /proc/self/cgroup names the groups;
/proc/self/mountinfo says where in the file system a hierarchy is, and which group of it: in a container often
its own alone.

Source: the manual pages cgroups(7), cgroup_namespaces(7), proc_pid_mountinfo(5); "Control Group v2" and
"CFS Bandwidth Control" of the kernel's documentation.
"""
from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

__all__ = ["quota"]


def quota(root: Path = Path("/")) -> float:
    """Processors' worth of time that this process may use; infinity where nothing limits it.

    `root` is where /proc and the mount points are looked up. What cannot be read limits nothing.
    """
    mounts = list(_mounts(root))
    return min((_quota(folder) for version, group in _groups(root) for folder in _folders(
        group, [(place, top) for kind, place, top in mounts if kind == version])), default=math.inf)


def _groups(root: Path) -> Iterator[tuple[int, PurePosixPath]]:
    """Version and group of this process, for the hierarchies that may have quotas of processor time."""
    # "4:cpu,cpuacct:/path", or "0::/path" in version 2
    for number, controllers, path in _rows(root / "proc/self/cgroup", r"(\d+):([^:]*):(/.*)"):
        if number == "0" and not controllers:
            yield 2, PurePosixPath(path)
        elif "cpu" in controllers.split(","):
            yield 1, PurePosixPath(path)


def _mounts(root: Path) -> Iterator[tuple[int, Path, PurePosixPath]]:
    """Version, place and topmost group of everything mounted that may have such quotas."""
    # "31 23 0:28 /top /place rw,relatime shared:9 - cgroup source rw,cpu"
    row = r"\S+ \S+ \S+ (\S+) (\S+) .* - (cgroup2?) \S* (\S+)"
    for top, place, kind, options in _rows(root / "proc/self/mountinfo", row):
        if kind == "cgroup2" or "cpu" in options.split(","):
            yield 2 if kind == "cgroup2" else 1, root / _unescaped(place)[1:], PurePosixPath(_unescaped(top))


def _folders(group: PurePosixPath, mounts: list[tuple[Path, PurePosixPath]]) -> Iterator[Path]:
    """Of the group and of those above it, as far as they can be seen.

    Paths of groups start at the root of the namespace, and lead out of it with /../ first. Where the group is
    below the top of no mount, what is mounted is all that there is to go by.
    """
    found = False
    for place, top in mounts:
        if group.is_relative_to(top) and ".." not in (below := group.relative_to(top).parts):
            found = True
            for depth in range(len(below) + 1):
                yield place.joinpath(*below[:depth])
    if not found:
        yield from (place for place, _ in mounts)


def _quota(folder: Path) -> float:
    """Processors' worth of time of one group."""
    try:
        if (folder / "cpu.max").exists():               # version 2: "max 100000" or "150000 100000"
            quota, period = (folder / "cpu.max").read_text().split()
        else:                                           # version 1: -1 or 150000
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
    except (OSError, ValueError):
        return math.inf
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return math.inf
    return int(quota) / int(period)


def _rows(path: Path, pattern: str) -> Iterator[tuple[str, ...]]:
    """The groups of a pattern in every line of a file that fits it."""
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    for line in text.split("\n"):
        if match := re.fullmatch(pattern, line):
            yield match.groups()


def _unescaped(path: str) -> str:
    r"""A path of mountinfo, where blanks, tabs, line ends and backslashes are \040 and the like."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
