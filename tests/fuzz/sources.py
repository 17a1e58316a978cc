"""Data in files: sound ones give the array that was written, in blocks of any size; damaged ones end in a
ValueError that names the file, are skipped, or give numbers. No thread is left that reads.

Files of Parquet and Arrow are not damaged here: pyarrow reads them.
"""
from __future__ import annotations

import functools
import gzip
import io
import threading
import zipfile
from typing import NamedTuple

import numpy as np
from fuzzing import choice, damaged_bytes

from fastmlp import MLP, SGD
from fastmlp.data import Files

ROWS, COLUMNS, CLASSES = 60, 4, 3


@functools.cache
def table() -> tuple[np.ndarray, np.ndarray]:
    """Inputs and classes, whose numbers every dtype here holds."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 99, (ROWS, COLUMNS)), rng.integers(0, CLASSES, ROWS)


class Original(NamedTuple):
    content: bytes
    arguments: dict[str, object]        # with which it is read
    X: np.ndarray                       # what is to be read


@functools.cache
def originals() -> dict[str, list[Original]]:
    """Sound files by suffix."""
    X, y = table()
    both = np.column_stack([X, y])
    column: dict[str, object] = {"target": COLUMNS}
    npy = [np.asarray(both, dtype, order) for dtype, order in
           (("f4", "C"), (">f8", "C"), ("i2", "C"), ("f4", "F"))]
    npz = [np.asarray(X, dtype, order) for dtype, order in
           (("f4", "C"), (">f8", "C"), ("u1", "C"), ("?", "C"), ("f4", "F"))]
    header = ",".join([*"abcd", "label"]) + "\n"
    lines = "".join(",".join(map(str, row)) + "\n" for row in both)
    csv = [text.encode() for text in
           (header + lines, lines, lines.replace("\n", "\r\n"),
            "\ufeff" + header.replace("a", '"a,"', 1) + lines)]
    return {
        ".npy": [Original(saved(np.save, array), column, array[:, :COLUMNS]) for array in npy],
        ".npz": [Original(saved(save, X=array, y=y), {}, array) for array in npz
                 for save in (np.savez, np.savez_compressed)],
        ".csv": [Original(text, column, X) for text in csv],
        ".csv.gz": [Original(gzip.compress(text, mtime=0), column, X) for text in csv]}


def saved(save, *args, **arrays) -> bytes:
    file = io.BytesIO()
    save(file, *args, **arrays)
    return file.getvalue()


def inside(rng, suffix, content):
    """A packed file whose content is damaged, and that is otherwise sound."""
    if suffix == ".csv.gz":
        return gzip.compress(damaged_bytes(rng, gzip.decompress(content), originals_of(".csv")), 1, mtime=0)
    old, new = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    hit = choice(rng, old.namelist())
    with zipfile.ZipFile(new, "w", old.infolist()[0].compress_type) as archive:
        for name in old.namelist():
            data = old.read(name)
            archive.writestr(name, damaged_bytes(rng, data, [data]) if name == hit else data)
    return new.getvalue()


def originals_of(suffix):
    return [original.content for original in originals()[suffix]]


def header_of_npy(rng, content):
    """Another header in front of the numbers."""
    length = int.from_bytes(content[8:10], "little")
    text = content[10:10 + length].decode("latin1").rstrip()
    old = choice(rng, [
        "'descr': '", "<f4", "<i2", "False", "True", "(60, 5)", "60", "5", "shape", "}", "(", "'"])
    new = choice(rng, ["", "O", "V0", "S3", "U2", "<M8[s]", "<c8", "|b1", ">f2", "<f16", "(0, 5)", "()",
                       "(5,)", "(-1, 5)", "(60, 0)", f"({2**62}, 5)", f"({2**40}, {2**40})",
                       f"(60, {2**61})", "9" * 30, "None", "[", "(1)(2)", "None, 'x': 1"])
    text = (text.replace(old, new, 1) + "\n").encode("latin1")
    return content[:8] + len(text).to_bytes(2, "little") + text + content[10 + length:]


def line_of_csv(rng, content):
    """Another cell somewhere."""
    cells = content.split(b",")
    cells[int(rng.integers(len(cells)))] = choice(rng, [
        b"", b"nan", b"inf", b"1e999", b"\xff", b'"', b'"1\n2"', b"0x10", b"1_0", b"a", b"\0", b"1;2",
        b"\n\n", b"1,2", b"-0", b" 7 ", b"#", "\u0663".encode()])
    return b",".join(cells)


def case(rng):
    suffix = choice(rng, [".npy", ".npz", ".csv", ".csv.gz"])
    original = choice(rng, originals()[suffix])
    content, way = original.content, int(rng.integers(5))
    if way >= 2 and suffix == ".npy":
        content = header_of_npy(rng, content)
    elif way >= 2 and suffix == ".csv":
        content = line_of_csv(rng, content)
    elif way >= 2:
        content = inside(rng, suffix, content)
    elif way == 1:
        content = damaged_bytes(rng, content, originals_of(suffix))
    name = f"table{suffix}"
    with open(name, "wb") as file:
        file.write(content)
    source = Files(name, block_size=int(choice(rng, [1, 64, 100, 4096, 2**20])), **original.arguments,
                   on_error="skip" if rng.random() < 0.3 else "raise")
    about = f"{suffix}, block_size={source.block_size}, on_error={source.on_error}"
    try:
        use(rng, source, original.X if way == 0 else None)
    except MemoryError:             # a size that nobody has
        pass
    except (TypeError, ValueError) as error:
        nothing = "at least one row" in str(error)
        if way == 0 or name not in str(error) and not nothing:
            raise AssertionError(about) from error
    except Exception as error:
        raise AssertionError(about) from error
    if way == 0 and source.skipped:
        raise AssertionError(f"{about}: skipped {source.skipped}")
    left = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if left:
        raise AssertionError(f"{about}: {left} left")


def use(rng, source, X):
    """Read it in one of several ways, and compare with X if that is given."""
    way = int(rng.integers(3))
    if way == 0:
        blocks = list(source)
        if X is not None:
            for found, expected in zip(zip(*blocks), (X, table()[1])):
                if not np.array_equal(np.concatenate(found), expected):
                    raise AssertionError("other numbers than were written")
    elif way == 1:
        found = source.statistics()
        if X is not None and not np.array_equal(found.max, np.max(X, axis=0)):
            raise AssertionError("another maximum")
    else:
        model = MLP([COLUMNS, 5, CLASSES], seed=0)
        model.fit(source, epochs=1, batch_size=16, optimizer=SGD(1e-3), progress=False)
