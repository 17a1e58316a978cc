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
import os
import re
from collections.abc import Iterator

__all__ = ["quota"]

Parts = tuple[str, ...]         # of a path; no pathlib, whose import takes several milliseconds


def quota(root: str | os.PathLike[str] = "/") -> float:
    """Processors' worth of time that this process may use; infinity where nothing limits it.

    `root` is where /proc and the mount points are looked up. What cannot be read limits nothing.
    """
    root = os.fspath(root)
    mounts = list(_mounts(root))
    return min((_quota(folder) for version, group in _groups(root) for folder in _folders(
        group, [(place, top) for kind, place, top in mounts if kind == version])), default=math.inf)


def _groups(root: str) -> Iterator[tuple[int, Parts]]:
    """Version and group of this process, for the hierarchies that may have quotas of processor time."""
    # "4:cpu,cpuacct:/path", or "0::/path" in version 2
    for number, controllers, path in _rows(f"{root}/proc/self/cgroup", r"(\d+):([^:]*):(/.*)"):
        if number == "0" and not controllers:
            yield 2, _parts(path)
        elif "cpu" in controllers.split(","):
            yield 1, _parts(path)


def _mounts(root: str) -> Iterator[tuple[int, str, Parts]]:
    """Version, place and topmost group of everything mounted that may have such quotas."""
    # "31 23 0:28 /top /place rw,relatime shared:9 - cgroup source rw,cpu"
    row = r"\S+ \S+ \S+ (\S+) (\S+) .* - (cgroup2?) \S* (\S+)"
    for top, place, kind, options in _rows(f"{root}/proc/self/mountinfo", row):
        if kind == "cgroup2" or "cpu" in options.split(","):
            yield 2 if kind == "cgroup2" else 1, root + _unescaped(place), _parts(_unescaped(top))


def _folders(group: Parts, mounts: list[tuple[str, Parts]]) -> Iterator[str]:
    """Of the group and of those above it, as far as they can be seen.

    Paths of groups start at the root of the namespace, and lead out of it with /../ first. Where the group is
    below the top of no mount, what is mounted is all that there is to go by.
    """
    found = False
    for place, top in mounts:
        below = group[len(top):]
        if group[:len(top)] == top and ".." not in below:
            found = True
            for depth in range(len(below) + 1):
                yield os.path.join(place, *below[:depth])
    if not found:
        yield from (place for place, _ in mounts)


def _quota(folder: str) -> float:
    """Processors' worth of time of one group."""
    try:
        if os.path.exists(f"{folder}/cpu.max"):         # version 2: "max 100000" or "150000 100000"
            quota, period = _text(f"{folder}/cpu.max").split()
        else:                                           # version 1: -1 or 150000
            quota = _text(f"{folder}/cpu.cfs_quota_us").strip()
            period = _text(f"{folder}/cpu.cfs_period_us").strip()
    except (OSError, ValueError):
        return math.inf
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return math.inf
    return int(quota) / int(period)


def _rows(path: str, pattern: str) -> Iterator[tuple[str, ...]]:
    """The groups of a pattern in every line of a file that fits it."""
    try:
        text = _text(path)
    except OSError:
        return
    for line in text.split("\n"):
        if match := re.fullmatch(pattern, line):
            yield match.groups()


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def _parts(path: str) -> Parts:
    return tuple(part for part in path.split("/") if part not in ("", "."))


def _unescaped(path: str) -> str:
    r"""A path of mountinfo, where blanks, tabs, line ends and backslashes are \040 and the like."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)
