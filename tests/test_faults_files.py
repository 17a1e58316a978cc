"""Files that cannot be written or read, whoever writes: full disks, rights, links, pipes, devices, names,
folders that disappear, kills. What was there stays whole, errors name the path, no training is lost."""
from __future__ import annotations

import ctypes
import errno
import importlib.util
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from faulty import IS_ROOT, LONG, NEEDS_FORK, NOBODY, become_nobody, bits, program

import fastmlp
from fastmlp import MLP, SGD, Checkpoint, CSVLogger, data

pytestmark = [pytest.mark.any_isa, pytest.mark.skipif(os.name != "posix", reason="of POSIX")]

X, y = np.eye(6, dtype=np.float32).repeat(4, axis=0), np.arange(24) % 3
SMALL, LARGE = [6, 3], [6, 400, 3]


# Whoever writes --------------------------------------------------------------------------------------------

def fit(model, epochs=2, **more):
    return model.fit(X, y, epochs=epochs, batch_size=6, optimizer=SGD(0.1), progress=False, **more)


WRITERS = {
    "save": lambda model, path: model.save(path),
    "checkpoint": lambda model, path: fit(model, checkpoint=path),
    "Checkpoint": lambda model, path: fit(model, callbacks=[Checkpoint(path, every=2)]),
    "CSVLogger": lambda model, path: fit(model, callbacks=[CSVLogger(path)]),
    "export_c": lambda model, path: model.export_c(path),
}
if importlib.util.find_spec("onnx"):
    WRITERS["to_onnx"] = lambda model, path: model.to_onnx(path)
MODELS = ("save", "checkpoint", "Checkpoint")           # who writes what fastmlp.load reads
every_writer = pytest.mark.parametrize("writer", WRITERS)


def write(writer, path, layers=SMALL):
    """Write a new model with this writer; the model."""
    model = MLP(layers, seed=len(layers))
    WRITERS[writer](model, path)
    return model


def is_whole(writer, path):
    """Whether the file is what the writer writes, all of it."""
    content = Path(os.fsdecode(path)).read_bytes()
    if writer in MODELS:
        return fastmlp.load(path).layers in (tuple(SMALL), tuple(LARGE))
    if writer == "CSVLogger":
        lines = content.decode().split("\n")
        return lines[-1] == "" and len({line.count(",") for line in lines[:-1]}) == 1
    return content.endswith(b"}\n") if writer == "export_c" else len(content) > 50


def fails(writer, path, layers=LARGE, numbers=()):
    """Whether it is an OSError with the path."""
    try:
        write(writer, path, layers)
    except OSError as error:
        assert os.fspath(error.filename) == os.fspath(path), (writer, error)
        assert not numbers or error.errno in numbers, (writer, error)
        return True
    return False


def parts(folder):
    return [name for name in os.listdir(folder) if ".part" in name]


# Full disks ------------------------------------------------------------------------------------------------

def full_disk(kind, folder):
    """Of a small file system, or of a limit on the size of files; prints what was tried."""
    if kind == "file system":
        private = ctypes.CDLL(None).unshare(0x20000) == 0           # mounts are seen by this process alone
        for arguments in ("--make-rprivate", "/"), ("-t", "tmpfs", "-o", "size=64k", "none", folder):
            if not private or subprocess.run(["mount", *arguments], capture_output=True).returncode:
                return print("skip")

    def fill():
        if kind == "limit":
            return resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
        with open(f"{folder}/filler", "ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1024))
            except OSError:
                pass

    def make_room():
        if kind == "limit":
            return resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        os.remove(f"{folder}/filler")

    def full(writer, path):             # a table has room for some lines in its last page
        return any(fails(writer, path, numbers=[errno.ENOSPC, errno.EFBIG])
                   for _ in range(100 if writer == "CSVLogger" else 1))

    paths = {writer: f"{folder}/{writer}" for writer in WRITERS}
    for writer, path in paths.items():
        write(writer, path)
    fill()
    for writer, path in paths.items():
        before = Path(path).read_bytes()
        assert full(writer, path), writer
        after = Path(path).read_bytes()
        assert after.startswith(before) if writer == "CSVLogger" else after == before, writer
        assert full(writer, f"{path}-new"), writer
        assert not parts(folder), writer
    make_room()
    for writer, path in paths.items():
        write(writer, path)
        assert is_whole(writer, path), writer
    full_later(f"{folder}/run", fill, make_room)
    print(len(paths))


def full_later(path, fill, make_room):
    """The disk is full from the second epoch to the last but one: training goes on, to the same bits."""
    expected, model = MLP(SMALL, seed=0), MLP(SMALL, seed=0)
    fit(expected, epochs=6)

    def change(model, epoch, logs):
        if epoch == 1:
            fill()
        if epoch == 4:
            make_room()

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fit(model, epochs=6, callbacks=[change], checkpoint=path, checkpoint_every="1 epoch")
    assert len(seen) == 3 and all("could not be saved" in str(one.message) for one in seen), seen
    assert bits(model) == bits(expected) == bits(fastmlp.load(path))


@pytest.mark.parametrize("kind", ["file system", "limit"])
def test_full_disk(kind, tmp_path):
    out = program(f"import test_faults_files as t; t.full_disk({kind!r}, sys.argv[1])", tmp_path)
    if out == "skip\n":
        pytest.skip("no file system can be mounted here")
    assert int(out) == len(WRITERS)


@every_writer
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_device_that_is_full(writer):
    try:
        failed = fails(writer, "/dev/full", numbers=[errno.ENOSPC])
    except ValueError as error:                 # who reads what was there first
        failed = writer == "CSVLogger" and "regular file" in str(error)
    assert failed
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)


# Rights ----------------------------------------------------------------------------------------------------

# {name: (mode of the folder, of the file in it, whether both are of another user, whether it is written)}
RIGHTS = {
    "a folder that may not be written": (0o555, 0o666, False, True),
    "a file that may not be written": (0o755, 0o444, False, False),
    "a folder of another": (0o755, 0o666, True, True),
    "a file of another": (0o777, 0o644, True, False),
    "a file of another that all may write": (0o777, 0o666, True, True),
    "a file of another that all may write, where nobody may replace it": (0o1777, 0o666, True, True),
    "a folder that may not be entered": (0o600, 0o666, False, False),
}


def may_give_away(folder):
    path = f"{folder}/read-only"
    os.close(os.open(path, os.O_CREAT, 0o444))
    try:
        os.chown(path, NOBODY, NOBODY)
    except OSError:
        return False
    return True


def rights(folder):
    """As a user without any; prints the number of cases."""
    for writer in WRITERS:                      # imports, while everything may be read
        write(writer, f"{folder}/{writer}")
    cases, was_root = 0, IS_ROOT and may_give_away(folder)
    for name in RIGHTS:
        for writer in WRITERS:
            os.mkdir(f"{folder}/{name}-{writer}")
            write(writer, f"{folder}/{name}-{writer}/file")
    if was_root:                                # another's, before it is too late
        for name, (of_folder, of_file, anothers, _) in RIGHTS.items():
            for writer in WRITERS:
                place = f"{folder}/{name}-{writer}"
                for path, mode in ((f"{place}/file", of_file), (place, of_folder)):
                    os.chmod(path, mode)
                    os.chown(path, *(2 * [0 if anothers else NOBODY]))
    os.chmod(folder, 0o755)
    if was_root and not become_nobody() or os.access(f"{folder}/read-only", os.W_OK):
        return print("skip")
    for name, (of_folder, of_file, anothers, written) in RIGHTS.items():
        for writer in WRITERS:
            place = f"{folder}/{name}-{writer}"
            if not was_root:
                if anothers:
                    continue
                os.chmod(f"{place}/file", of_file)
                os.chmod(place, of_folder)
            # A checkpoint is not written in place, where a kill would leave half of it.
            if written and (writer != "checkpoint" or of_folder == 0o777):
                write(writer, f"{place}/file")
                assert is_whole(writer, f"{place}/file"), (name, writer)
            else:
                assert fails(writer, f"{place}/file", SMALL, [errno.EACCES, errno.EPERM]), (name, writer)
            if of_folder in (0o555, 0o600) or anothers and of_folder == 0o755:
                assert fails(writer, f"{place}/new", SMALL, [errno.EACCES, errno.EPERM]), (name, writer)
            if of_folder != 0o600:
                assert is_whole(writer, f"{place}/file") and not parts(place), (name, writer)
            if not was_root:
                os.chmod(place, 0o755)
            cases += 1
    print(cases)


def test_rights():
    with tempfile.TemporaryDirectory() as folder:       # not in the test's own, which others may not enter
        out = program("import test_faults_files as t; t.rights(sys.argv[1])", folder)
    if out == "skip\n":
        pytest.skip("root cannot become another here")
    assert int(out) in (3 * len(WRITERS), len(RIGHTS) * len(WRITERS))


# Links, pipes, devices -------------------------------------------------------------------------------------

@every_writer
@pytest.mark.parametrize("there", [True, False])
def test_through_links(writer, there, tmp_path):
    folder, link, second = tmp_path / "folder", tmp_path / "link", tmp_path / "second"
    folder.mkdir()
    real = folder / "real"
    link.symlink_to("folder/real")
    second.symlink_to(link)
    if there:
        write(writer, real)
    write(writer, second)
    assert link.is_symlink() and second.is_symlink() and not real.is_symlink()
    assert is_whole(writer, real) and not parts(folder) and not parts(tmp_path)


@every_writer
def test_links_in_a_circle(writer, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.symlink_to(two)
    two.symlink_to(one)
    assert fails(writer, one, SMALL, [errno.ELOOP])
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]


@every_writer
def test_hard_links(writer, tmp_path):
    """The other name keeps the old file; of a table that grows, it has the new lines, too."""
    write(writer, tmp_path / "file")
    os.link(tmp_path / "file", tmp_path / "other")
    before = (tmp_path / "other").read_bytes()
    write(writer, tmp_path / "file", LARGE)
    assert is_whole(writer, tmp_path / "file") and is_whole(writer, tmp_path / "other")
    if writer != "CSVLogger":
        assert (tmp_path / "other").read_bytes() == before


@pytest.mark.parametrize("writer", [writer for writer in WRITERS if writer != "checkpoint"])
def test_pipes(writer, tmp_path):
    """One that is read gets all of it; whoever reads first refuses it, at once."""
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    if writer == "CSVLogger":
        with pytest.raises(ValueError, match="regular file, got a pipe"):
            write(writer, path)
        return
    thread = threading.Thread(target=lambda: read.append(path.read_bytes()), daemon=True)
    thread.start()
    write(writer, path)
    thread.join(60)
    content = tmp_path / "content"
    content.write_bytes(read[0])
    assert is_whole(writer, content) and stat.S_ISFIFO(path.stat().st_mode)


@every_writer
def test_devices(writer):
    try:
        write(writer, os.devnull)
    except ValueError as error:
        assert writer == "CSVLogger" and "regular file" in str(error)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


READERS = {
    "load": fastmlp.load,
    "resume": lambda path: fit(MLP(SMALL), checkpoint=path, resume=True),
    "Files": lambda path: MLP([1, 1]).fit(
        data.Files(path, target="y" if path.suffix == ".npz" else 0), progress=False),
}
if importlib.util.find_spec("onnx"):
    READERS["from_onnx"] = fastmlp.from_onnx


@pytest.mark.parametrize("reader, suffix", [
    *((reader, "") for reader in READERS if reader != "Files"),
    *(("Files", suffix) for suffix in (".npy", ".csv", ".csv.gz", ".npz"))])
@pytest.mark.parametrize("kind", ["a pipe", "a device"])
def test_reading_what_is_no_file(reader, suffix, kind, tmp_path):
    """At once: a pipe has no end until somebody writes, and a device none at all."""
    path, found = tmp_path / f"file{suffix}", []
    if kind == "a pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")

    def read():
        try:
            READERS[reader](path)
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(60)
    assert found, "it hangs"
    assert isinstance(found[0], ValueError) and "expected a regular file" in str(found[0]), found[0]


# Names -----------------------------------------------------------------------------------------------------

@every_writer
def test_names_that_are_no_text(writer, tmp_path):
    """Bytes that are no UTF-8, as a path and as its bytes."""
    path = os.path.join(os.fsencode(tmp_path), b"net-\xff\xfe-\xc3\x28")
    try:
        open(path, "wb").close()
        os.remove(path)
    except OSError:
        pytest.skip("a file system that has no such names")
    write(writer, path)
    assert is_whole(writer, path)
    write(writer, os.fsdecode(path))
    assert is_whole(writer, path) and len(os.listdir(tmp_path)) == 1
    folder = os.path.join(os.fsencode(tmp_path), b"\xff")
    assert fails(writer, os.fsdecode(os.path.join(folder, b"new")), SMALL, [errno.ENOENT])
    os.mkdir(folder)
    write(writer, os.path.join(folder, b"new"))
    assert is_whole(writer, os.path.join(folder, b"new"))


def test_files_of_names_that_are_no_text(tmp_path):
    path = os.path.join(os.fsencode(tmp_path), b"\xff.npy")
    try:
        np.save(os.fsdecode(path), np.arange(12.0).reshape(6, 2))
    except OSError:
        pytest.skip("a file system that has no such names")
    source = data.Files(path, target=1)
    assert source.rows == 6
    model = MLP([1, 1], seed=0)
    model.fit(source, epochs=1, progress=False, checkpoint=tmp_path / "run")
    os.remove(path)
    with pytest.raises((OSError, ValueError), match="udcff"):
        model.fit(data.Files(path, target=1), epochs=1, progress=False)


@every_writer
def test_long_names(writer, tmp_path):
    longest = tmp_path / ("n" * os.pathconf(tmp_path, "PC_NAME_MAX"))
    write(writer, longest)
    write(writer, longest)
    assert is_whole(writer, longest) and os.listdir(tmp_path) == [longest.name]
    for path in (f"{longest}n", f"{tmp_path}/" + "folder/" * 1000 + "net"):
        assert fails(writer, path, SMALL, [errno.ENAMETOOLONG])


# Folders that disappear ------------------------------------------------------------------------------------

@every_writer
def test_a_folder_that_disappears(writer, tmp_path):
    """Within a training it is an error of the callback, after whole epochs, or a warning of the checkpoint.
    """
    folder, model, expected = tmp_path / "folder", MLP(SMALL, seed=0), MLP(SMALL, seed=0)
    folder.mkdir()
    path = folder / "file"

    def remove(model, epoch, logs):
        if epoch == 1:
            shutil.rmtree(folder)

    if writer == "checkpoint":
        fit(expected, epochs=5)
        with pytest.warns(RuntimeWarning, match="could not be saved to file"):
            fit(model, epochs=5, callbacks=[remove], checkpoint=path, checkpoint_every="1 epoch")
        assert bits(model) == bits(expected)
    elif writer in ("Checkpoint", "CSVLogger"):
        fit(expected)
        callback = Checkpoint(path) if writer == "Checkpoint" else CSVLogger(path)
        with pytest.raises(FileNotFoundError) as raised:
            fit(model, epochs=5, callbacks=[remove, callback])
        assert raised.value.filename == str(path)
        assert bits(model) == bits(expected) and len(model.history.loss) == 2
    else:
        folder.rmdir()
        assert fails(writer, path, SMALL, [errno.ENOENT])
    folder.mkdir(exist_ok=True)
    write(writer, path)
    assert is_whole(writer, path)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux lets the current folder go")
def test_the_current_folder_disappears():
    """Relative paths lead nowhere then; everything else works."""
    out = program("""
import os, tempfile
import test_faults_files as t
for writer in t.WRITERS:
    t.write(writer, os.path.join(tempfile.mkdtemp(), "file"))
folder = tempfile.mkdtemp()
os.chdir(folder)
os.rmdir(folder)
for writer in t.WRITERS:
    assert t.fails(writer, "file", t.SMALL, [t.errno.ENOENT]), writer
with tempfile.TemporaryDirectory(dir="/tmp") as other:
    for writer in t.WRITERS:
        t.write(writer, f"{other}/{writer}")
        assert t.is_whole(writer, f"{other}/{writer}")
t.fit(t.MLP(t.SMALL))
print("done")
""")
    assert out == "done\n"


def test_files_that_disappear_between_epochs(tmp_path):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).random((50, 4)))
    source = data.Files(str(tmp_path / "*.npy"), target=3)
    model = MLP([3, 1], seed=0)

    def remove(model, epoch, logs):
        (tmp_path / "1.npy").unlink()

    with pytest.raises((OSError, ValueError), match="1.npy"):
        model.fit(source, epochs=3, callbacks=[remove], progress=False)
    assert len(model.history.loss) == 1
    assert np.isfinite(model.evaluate(data.Files(str(tmp_path / "*.npy"), target=3))["loss"])


# Kills -----------------------------------------------------------------------------------------------------

def write_for_ever(folder, started):
    """With every writer in turns, two models; says when it begins."""
    number = 0
    while True:
        for writer in WRITERS:
            write(writer, f"{folder}/{writer}", [SMALL, LARGE][number % 2])
        if number == 0:
            os.write(started, b".")
        number += 1


def kills(number, folder):
    """Of children that write; prints how many left a part."""
    for _ in range(number):
        read, started = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                write_for_ever(folder, started)
            finally:
                os._exit(1)
        os.close(started)
        assert os.read(read, 1) == b"."
        os.close(read)
        time.sleep(random.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        for writer in WRITERS:
            if writer == "CSVLogger":           # may lack the end of its last line, until it goes on
                write(writer, f"{folder}/{writer}")
            assert is_whole(writer, f"{folder}/{writer}"), writer
    left = parts(folder)
    for part in left:                           # when they are old, the next save to that path removes them
        os.utime(f"{folder}/{part}", (1, 1))
    for writer in WRITERS:
        write(writer, f"{folder}/{writer}")
    assert not parts(folder)
    print(len(left))


@NEEDS_FORK
def test_kills(tmp_path):
    number = 200 if LONG else 15
    out = program(f"import test_faults_files as t; t.kills({number}, sys.argv[1])", tmp_path, timeout=600)
    assert 0 <= int(out) <= number
