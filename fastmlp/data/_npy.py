"""Arrays in .npy files: any rows of one, without the others."""
from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fastmlp.data._blocks import FileRows, Part
from fastmlp.data._columns import Columns

if TYPE_CHECKING:
    from fastmlp._core.types import Array

__all__ = ["ArrayFile", "parts", "parts_of_arrays", "read_header"]


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns are contiguous, and dtype; the file stands at the data then."""
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"expected version 1.0 or 2.0 of the .npy format, got {version[0]}.{version[1]}")
    shape, by_columns, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError("expected numbers, got Python objects, which are a pickle and not read")
    if not shape:
        raise ValueError("expected an array with rows, got a number")
    return shape, by_columns, dtype


class ArrayFile:
    """An array in a file, from a byte on.

    path        of the file
    name        for errors: of the file, and of the array in it
    """

    def __init__(self, path: str, name: str, start: int = 0) -> None:
        self.path = path
        self.name = name
        with open(path, "rb") as file:
            file.seek(start)
            self.shape, self.by_columns, self.dtype = read_header(file)
            self.start = file.tell()

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_nbytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def rows_there(self) -> int:
        """Rows for which the file has bytes, whatever its header says."""
        if not self.row_nbytes:
            return len(self)
        return min(len(self), (os.stat(self.path).st_size - self.start) // self.row_nbytes)

    def rows(self, first: int, last: int) -> FileRows:
        """Rows first..last - 1, to be read. Raises ValueError where the file ends before them."""
        end = self.start + (len(self) if self.by_columns else last) * self.row_nbytes
        if (size := os.stat(self.path).st_size) < end:
            raise ValueError(f"expected at least {end} bytes in {self.name}, got {size}: it is not complete")
        found = FileRows(self.path, self.start + first * self.row_nbytes, self.dtype,
                         (last - first, *self.shape[1:]))
        return _InColumns(self, first, found) if self.by_columns else found

    def array(self, first: int, last: int) -> Array:
        return self.rows(first, last).array()


class _InColumns(FileRows):
    """Rows of an array whose columns are contiguous: from everywhere in the file, which is mapped."""

    def __init__(self, file: ArrayFile, first: int, rows: FileRows) -> None:
        super().__init__(rows.path, file.start, rows.dtype, rows.shape)
        self._whole = file.shape
        self._first = first

    def read(self, out: Array, first: int = 0) -> None:
        whole: Array = np.memmap(self.path, self.dtype, "r", self.start, self._whole, "F")
        first += self._first
        out[...] = whole[first:first + len(out)]


def parts_of_arrays(name: str, X: ArrayFile, y: ArrayFile | None, weight: ArrayFile | None,
                    columns: Columns | None, block_size: int) -> list[Part]:
    """Blocks of about so many bytes, of arrays that have as many rows; or of columns of one."""
    for other in (y, weight):
        if other is not None and len(other) != len(X):
            raise ValueError(f"expected {len(X)} rows in {other.name}, as many as in {X.name}, got "
                             f"{len(other)}")
    rows = max(1, block_size // X.row_nbytes if X.row_nbytes else len(X))
    firsts = [*range(0, X.rows_there, rows), len(X)]
    if X.rows_there < len(X):                   # one block is all that is missing, however much that is
        firsts.insert(-1, X.rows_there)

    def blocks(first: int, last: int) -> Callable[[], Iterator[Callable[[], tuple[Any, ...]]]]:
        def read() -> tuple[Any, ...]:
            if columns is not None:
                return columns.split(X.array(first, last))
            assert y is not None
            arrays = X.rows(first, last), y.array(first, last)
            return arrays if weight is None else (*arrays, weight.array(first, last))
        return lambda: iter([read])

    return [Part(name, number, last - first, blocks(first, last))
            for number, (first, last) in enumerate(zip(firsts, firsts[1:]))]


def parts(path: str, name: str, target: Any, weight: Any, columns: Columns | None, block_size: int
          ) -> list[Part]:
    """Of a file: `target` and `weight` are paths of others, or `columns` says which columns they are."""
    X = ArrayFile(path, name)
    if columns is not None:
        if len(X.shape) != 2:
            raise ValueError(f"expected shape (rows, columns), of which one is the target, got {X.shape}")
        if len(X) and not X.rows_there:         # nobody counts columns that are not there
            X.rows(0, 1)
        return parts_of_arrays(name, X, None, None, columns.of(None, X.shape[1]), block_size)
    files = [None if other is None else ArrayFile(other, os.path.basename(other))
             for other in (target, weight)]
    return parts_of_arrays(name, X, files[0], files[1], None, block_size)
