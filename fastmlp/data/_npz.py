"""Arrays in .npz files: those that are not compressed as in .npy files, others from the start to the end."""
from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import IO, Any

import numpy as np

from fastmlp.data._blocks import Part
from fastmlp.data._npy import ArrayFile, parts_of_arrays, read_header

__all__ = ["parts"]

LOCAL_HEADER = 30           # bytes before the name of a member; its length and that of a field are at its end


def parts(path: str, name: str, names: tuple[str, str, str | None], block_size: int) -> list[Part]:
    """Of a file with arrays of these names: X, y and weights, or None."""
    wanted = [array for array in names if array is not None]
    with zipfile.ZipFile(path) as archive:
        members = [_member(archive, array) for array in wanted]
        starts = [_start(archive, member) for member in members]
        shapes = []
        for member in members:
            with archive.open(member) as file:
                shapes.append(read_header(file))
    if all(member.compress_type == zipfile.ZIP_STORED for member in members):
        files = [ArrayFile(path, f"array {array!r} of {name}", start) for array, start in zip(wanted, starts)]
        return parts_of_arrays(name, files[0], files[1], files[2] if len(files) > 2 else None, None,
                               block_size)
    rows = shapes[0][0][0]
    for array, (shape, _, _) in zip(wanted, shapes):
        if shape[0] != rows:
            raise ValueError(f"expected {rows} rows in array {array!r}, as many as in {wanted[0]!r}, got "
                             f"{shape[0]}")
    return [Part(name, 0, rows, lambda: _streamed(path, [member.filename for member in members], block_size))]


def _member(archive: zipfile.ZipFile, array: str) -> zipfile.ZipInfo:
    try:
        member = archive.getinfo(f"{array}.npy")
    except KeyError:
        there = ", ".join(repr(name.removesuffix(".npy")) for name in archive.namelist())
        raise ValueError(f"expected an array {array!r}, got {there or 'none'}") from None
    if member.flag_bits & 1:
        raise ValueError(f"array {array!r}: expected one that is not encrypted")
    return member


def _start(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Where its bytes begin: after a header, a name and a field of any length."""
    file = archive.fp
    assert file is not None
    file.seek(member.header_offset)
    header = file.read(LOCAL_HEADER)
    if len(header) < LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise ValueError(f"{member.filename}: expected the header of a member, got other bytes")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    return member.header_offset + LOCAL_HEADER + lengths


def _streamed(path: str, members: list[str], block_size: int) -> Iterator[Callable[[], tuple[Any, ...]]]:
    """Blocks of arrays that are unpacked side by side."""
    with ExitStack() as stack:
        archive = stack.enter_context(zipfile.ZipFile(path))
        files: list[IO[bytes]] = [stack.enter_context(archive.open(member)) for member in members]
        headers = [read_header(file) for file in files]
        total = headers[0][0][0]
        rows = total
        if not any(by_columns and len(shape) > 1 for shape, by_columns, _ in headers):
            shape, _, dtype = headers[0]
            row_nbytes = math.prod(shape[1:]) * dtype.itemsize
            rows = max(1, block_size // row_nbytes) if row_nbytes else total
        for first in range(0, total, rows):
            count = min(rows, total - first)
            block = tuple(_read(file, (count, *shape[1:]), dtype, by_columns)
                          for file, (shape, by_columns, dtype) in zip(files, headers))
            yield lambda block=block: block     # type: ignore[misc]    # mypy infers no lambda with a default


def _read(file: IO[bytes], shape: tuple[int, ...], dtype: np.dtype[Any], by_columns: bool) -> Any:
    """The next rows; of columns that are contiguous, all there are."""
    array = np.empty(shape, dtype, "F" if by_columns else "C")
    nbytes: Any = array.reshape(-1, order="A").view(np.uint8)
    view = memoryview(nbytes)
    while view:
        count = file.readinto(view)     # type: ignore[attr-defined]
        if not count:
            raise EOFError(f"expected {len(view)} bytes more, got the end of the array")
        view = view[count:]
    return array
