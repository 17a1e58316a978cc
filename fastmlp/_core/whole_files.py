"""Files that are written and read as a whole, whoever else writes or reads them at the same time.

A file is written beside the old one, as a part with a name of its own, is brought to the disk, and then takes
the place of the old one at once. A link stays: what it leads to is replaced. A file that is replaced keeps
its mode, its access list and, where the system allows it, its owner; other hard links to it keep the old one.
One that may not be written is not replaced either.

Where nothing can take a file's place (devices, pipes, a folder that is not writable, a file that is mounted
by itself), it is written in place, under a lock that `read` waits for.

A part whose writer was killed is removed by the next `write` to the same path: one that no process has
locked. All processes and containers of one machine see the lock; of another machine's parts, and where there
are no locks, those are removed that have not changed for `STALE_SECONDS` by the clock of the file system.
"""
from __future__ import annotations

import errno
import os
import stat
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import FileIO
from typing import Any, TypeVar

try:
    import fcntl
except ImportError:             # Windows, where an open file cannot be removed or renamed
    fcntl = None  # type: ignore[assignment]

__all__ = ["append", "can_replace", "check_folder", "check_regular", "read", "write"]

T = TypeVar("T")

STALE_SECONDS = 600.0
LOCK_SECONDS = 10.0             # how long a lock is waited for
READS = 5                       # of a file that changes every time
WINDOWS = os.name == "nt"
# Reasons not to replace a file that leave the hope to write in place. On Windows the last rename fails while
# somebody reads the file: no reason to change it under his eyes.
IN_PLACE = set() if WINDOWS else {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.EXDEV, errno.EBUSY, errno.ENOTSUP}
NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EROFS}
KEPT_ATTRIBUTES = ("user.", "system.posix_acl_access", "security.selinux")

_PLAIN = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)


# Writing -------------------------------------------------------------------------------------------------

def write(path: str, pieces: Iterable[Any], in_place: bool = True) -> None:
    """Make these pieces, one after another, the content of the file; `in_place`: also where nothing can take
    its place, and whoever is killed meanwhile leaves a broken one.

    A new file gets the mode 0666 less the umask. A pipe is waited for until somebody reads it.

    Raises OSError, of the class that fits and with the path; the old file is then as it was, unless it had to
    be written in place.
    """
    with _named(path):
        try:
            file = _open(path, os.O_WRONLY)             # raises for folders and for what may not be written
        except FileNotFoundError:
            if not os.path.basename(path):
                number = errno.EISDIR if path else errno.ENOENT
                raise OSError(number, os.strerror(number)) from None
            old = None
        else:
            with file:
                old = os.fstat(file.fileno())
                if not stat.S_ISREG(old.st_mode):
                    return _put(file, pieces)
        target = os.path.realpath(path)
        if old is None or os.path.exists(target):       # not so for an open file without a name in /proc
            pieces = list(pieces)
            try:
                return _replace(target, old, pieces)
            except OSError as error:
                if error.errno not in IN_PLACE:
                    raise
                if old is None and not in_place:
                    raise
                if not in_place:
                    raise OSError(error.errno, f"{error.strerror} beside the file, which could only be "
                                  "written in place, and would be lost if that is interrupted") from None
        _write_in_place(path, pieces)


def can_replace(path: str) -> bool:
    """Whether a file that is there can be replaced, as far as modes tell."""
    folder = os.path.dirname(os.path.realpath(path))
    return os.access(path, os.W_OK) and (WINDOWS or os.access(folder, os.W_OK | os.X_OK))


def check_folder(path: str) -> None:
    """Raises OSError, of the class that fits and with the path, for a file whose folder is not there, before
    time is spent on what goes into it. Of a path with braces, the part before them is looked at."""
    with _named(path):
        if not stat.S_ISDIR(os.stat(os.path.dirname(path.partition("{")[0]) or ".").st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))


def append(path: str, content: bytes) -> None:
    """Add this to the end of the file, or make a new one.

    Raises OSError, of the class that fits and with the path; a first part may be in the file then.
    """
    with _named(path), _open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
        _put(file, [content])


def _replace(target: str, old: os.stat_result | None, pieces: Iterable[Any]) -> None:
    folder, name = os.path.split(target)
    prefix = f".fastmlp-{zlib.crc32(os.fsencode(name)):08x}-"       # short: any name that fits has a part
    mode = 0o666 if old is None else 0o600
    while not _replace_by(os.path.join(folder, f"{prefix}{machine()}{os.urandom(4).hex()}.part"), mode,
                          folder, prefix, target, old, pieces):
        pass


def _replace_by(part: str, mode: int, folder: str, prefix: str, target: str, old: os.stat_result | None,
                pieces: Iterable[Any]) -> bool:
    """By this part; False where somebody else has removed it, before it was locked."""
    try:
        with _open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode) as file, _locked(file, exclusive=True):
            if not os.path.lexists(part):
                return False
            _remove_stale(folder, prefix, part, os.fstat(file.fileno()).st_mtime)   # may make room for it
            _put(file, pieces)
            if old is not None:
                _keep_attributes(target, old, part)
            _sync(file.fileno())
            if WINDOWS:
                file.close()
            _rename(part, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(part)
        raise
    if hasattr(os, "O_DIRECTORY"):
        with suppress(OSError):
            directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
    return True


@cache
def machine() -> str:
    """Eight digits of this machine, since it was started: all of its processes see each other's locks."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            name = file.read()
    except OSError:
        import uuid  # here, since it takes a millisecond

        name = str(uuid.getnode()).encode()
    return f"{zlib.crc32(name):08x}"


def _rename(part: str, target: str) -> None:
    stop = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            return os.replace(part, target)
        except PermissionError:
            if not WINDOWS or time.monotonic() > stop:      # Windows: while somebody reads the old file
                raise
            time.sleep(0.01)


def _keep_attributes(target: str, old: os.stat_result, part: str) -> None:
    """The owner where that is allowed, else the group; the mode and the access list."""
    mode = stat.S_IMODE(old.st_mode) & 0o777
    if hasattr(os, "chown"):
        for owner in (old.st_uid, -1):
            with suppress(OSError):
                os.chown(part, owner, old.st_gid)
                break
        else:                   # another group: it may do what everybody may
            mode = mode & 0o707 | mode << 3 & 0o070 & mode
    with suppress(OSError):     # a file system without modes
        os.chmod(part, mode)
    if hasattr(os, "listxattr"):
        with suppress(OSError):
            for name in os.listxattr(target):
                if name.startswith(KEPT_ATTRIBUTES):
                    os.setxattr(part, name, os.getxattr(target, name))


def _remove_stale(folder: str, prefix: str, own: str, now: float) -> None:
    """Parts that killed writers of the same file left, but the caller's. `now` is by the clock of the file
    system."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(".part") and entry.path != own:
                with suppress(OSError):
                    info = entry.stat(follow_symlinks=False)
                    is_old = now - info.st_mtime > STALE_SECONDS
                    is_ours = entry.name.startswith(prefix + machine())
                    if stat.S_ISREG(info.st_mode) and (is_old or is_ours):
                        with _open(entry.path, os.O_WRONLY) as file, \
                                _locked(file, exclusive=True, wait=False) as locked:
                            if not WINDOWS and (locked or locked is None and is_old):
                                os.unlink(entry.path)       # its name is never used again
                        if WINDOWS and is_old:
                            os.unlink(entry.path)


def _write_in_place(path: str, pieces: Iterable[Any]) -> None:
    with _open(path, os.O_WRONLY | os.O_CREAT, 0o666) as file, _locked(file, exclusive=True) as locked:
        if locked is False:
            raise BlockingIOError(errno.EAGAIN, "another program keeps the file locked")
        file.truncate(0)
        _put(file, pieces)
        _sync(file.fileno())


def _put(file: FileIO, pieces: Iterable[Any]) -> None:
    for piece in pieces:
        view = memoryview(piece)
        while len(view):
            view = view[file.write(view):]


def _sync(file: int) -> None:
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


# Reading -------------------------------------------------------------------------------------------------

def read(path: str, parse: Callable[[FileIO, int], T]) -> T:
    """parse(file, size) of the open file, which was one and the same from the first byte to the last.

    The file is never mapped: one that is truncated meanwhile is an error and no signal.

    Raises OSError, of the class that fits and with the path; ValueError for pipes and devices, at once, and
    for a file that changes whenever it is read; and what `parse` raises.
    """
    with _named(path):
        for _ in range(READS):
            check_regular(path, os.stat(path))         # a device is not even opened
            with _open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)) as file, \
                    _locked(file, exclusive=False):
                before = os.fstat(file.fileno())
                check_regular(path, before)
                try:
                    result = parse(file, before.st_size)
                except ValueError:
                    if _unchanged(file, before):
                        raise
                else:
                    if _unchanged(file, before):
                        return result
    raise ValueError(f"path: expected a file that stays as it is, got {path}, which changes while it is read")


def check_regular(path: str, info: os.stat_result) -> None:
    """Raises IsADirectoryError for folders, and ValueError for pipes and devices, which may have no end."""
    if stat.S_ISDIR(info.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(info.st_mode):
        kind = "a pipe" if stat.S_ISFIFO(info.st_mode) else "a device or a socket"
        raise ValueError(f"path: expected a regular file, got {kind} at {path}")


def _unchanged(file: FileIO, before: os.stat_result) -> bool:
    now = os.fstat(file.fileno())
    return (now.st_mtime_ns, now.st_size) == (before.st_mtime_ns, before.st_size)


# Both ----------------------------------------------------------------------------------------------------

def _open(path: str, flags: int, mode: int = 0o666) -> FileIO:
    """An unbuffered file, also of what may turn out to be a folder. The object has the descriptor from its
    beginning: whoever closed it beside the object, after an exception of a signal handler, would close it
    twice, and the second time perhaps a file that another thread had just opened."""
    return FileIO(path, "rb" if flags & 3 == os.O_RDONLY else "wb",
                  opener=lambda *_: os.open(path, flags | _PLAIN, mode))


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Errors of the system name the path that the caller gave, and not that of a part or a number."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            error.filename = path
            if error.filename2 is not None:     # set to None, it would show in the message
                raise type(error)(error.errno, error.strerror, path) from None
        raise


@contextmanager
def _locked(file: FileIO, exclusive: bool, wait: bool = True) -> Iterator[bool | None]:
    """Whether the lock was got; None where there are none. It is released before the file is closed, since a
    process that was forked meanwhile holds the file open, too."""
    if fcntl is None:
        yield None
        return
    kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
    got: bool | None = False
    stop = time.monotonic() + LOCK_SECONDS
    while got is False:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
            got = True
        except BlockingIOError:
            if not wait or time.monotonic() >= stop:
                break
            time.sleep(0.01)
        except OSError:             # a file system without locks
            got = None
    try:
        yield got
    finally:
        if got:
            with suppress(OSError, ValueError):
                fcntl.flock(file, fcntl.LOCK_UN)
