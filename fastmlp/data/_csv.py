"""Numbers in .csv files, packed by gzip or not, in blocks of whole lines.

A file that is not packed is read from any byte on: a block is the lines that begin within a range of bytes.
"""
from __future__ import annotations

import csv
import gzip
import io
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastmlp.data._blocks import Part
from fastmlp.data._columns import Columns, SameColumns

if TYPE_CHECKING:
    from fastmlp._core.types import Array

__all__ = ["parts"]

BOM = b"\xef\xbb\xbf"


class Table(NamedTuple):
    """What is known of a file after its first lines.

    names       of the columns, where the file has a header
    columns     which are inputs, target, weights, by number
    width       number of columns
    start       first byte after the header
    first_line  number of that line, from 1
    """

    delimiter: str
    names: Sequence[str] | None
    columns: Columns
    width: int
    start: int
    first_line: int

    def label(self, column: int) -> str:
        return repr(self.names[column]) if self.names is not None else str(column)

    def read(self, text: bytes, first_line: Callable[[], int]) -> tuple[Array, ...]:
        """(X, y) or (X, y, weight) of some lines, of which the first is `first_line()` of the file."""
        lines = text.decode("utf-8")
        if not lines.strip():
            return self.columns.split(np.empty((0, self.width)))
        try:
            table = np.loadtxt(io.StringIO(lines), delimiter=self.delimiter, ndmin=2, comments=None,
                               quotechar='"')
            if table.shape[1] == self.width:
                return self.columns.split(table)
        except ValueError as error:
            raise ValueError(self.problem(lines, first_line()) or str(error)) from None
        raise ValueError(self.problem(lines, first_line()))

    def problem(self, lines: str, first_line: int) -> str:
        """What is wrong with the first line that is no row of the table."""
        reader = csv.reader(io.StringIO(lines), delimiter=self.delimiter)
        for cells in reader:
            where = f"line {first_line + reader.line_num - 1}"
            if cells and len(cells) != self.width:
                return f"{where}: expected {self.width} columns, got {len(cells)}"
            for column, cell in enumerate(cells):
                if not _is_number(cell):
                    return f"{where}, column {self.label(column)}: expected a number, got {cell!r}"
        return ""


def parts(path: str, name: str, columns: SameColumns, delimiter: str, header: bool | None, block_size: int
          ) -> list[Part]:
    """Of a file: ranges of bytes, or, where it is packed, all of it."""
    packed = path.lower().endswith(".gz")
    with _open(path, packed) as file:
        table = _table(file, name, columns, delimiter, header)
    if packed:
        return [Part(name, 0, None, lambda: _streamed(path, table, block_size))]
    size = os.path.getsize(path)
    ranges = [(start, min(start + block_size, size)) for start in range(table.start, size, block_size)]
    return [Part(name, number, None, lambda first=first, last=last: iter(  # type: ignore[misc]
                [partial(_range, path, table, first, last)]))
            for number, (first, last) in enumerate(ranges)]


def _open(path: str, packed: bool) -> IO[bytes]:
    return gzip.open(path, "rb") if packed else open(path, "rb")    # type: ignore[return-value]


def _table(file: IO[bytes], name: str, columns: SameColumns, delimiter: str, header: bool | None) -> Table:
    """From the first line, which is a header if any of its cells is no number, unless the user says."""
    line = file.readline()
    while line.count(b'"') % 2 and (more := file.readline()):       # a name with a line end in it
        line += more
    text = line.removeprefix(BOM).decode("utf-8")
    if not text.strip():
        raise ValueError("expected lines of numbers, got an empty line at the start" if line else
                         "expected lines of numbers, got an empty file")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    cells = next(rows)
    if next(rows, None) is not None:
        raise ValueError(r"expected lines that end in \n or \r\n, got \r alone")
    if header is None:
        header = not all(map(_is_number, cells))
    names = [cell.strip() for cell in cells] if header else None
    start = len(line) if header else len(BOM) if line.startswith(BOM) else 0
    return Table(delimiter, names, columns.of(name, names, len(cells)), len(cells), start,
                 1 + line.count(b"\n") if header else 1)


def _is_number(cell: str) -> bool:
    """Whether `numpy.loadtxt` takes it: no digits of other scripts, and no underscores, as `float` does."""
    try:
        float(cell)
    except ValueError:
        return False
    return cell.strip().isascii() and "_" not in cell


def _range(path: str, table: Table, first: int, last: int) -> tuple[Array, ...]:
    """The lines that begin in this range of bytes."""
    with open(path, "rb") as file:
        if first > table.start:
            file.seek(first - 1)
            file.readline()             # the end of one that began before
        else:
            file.seek(first)
        start = file.tell()
        text = _whole_lines(file, last - start) if start < last else b""

    def first_line() -> int:            # counted where something is wrong
        with open(path, "rb") as file:
            file.seek(table.start)
            left, lines = start - table.start, table.first_line
            while left > 0 and (piece := file.read(min(left, 1 << 20))):
                lines += piece.count(b"\n")
                left -= len(piece)
            return lines

    return table.read(text, first_line)


def _whole_lines(file: IO[bytes], size: int) -> bytes:
    text = file.read(size)
    return text if not text or text.endswith(b"\n") else text + file.readline()


def _streamed(path: str, table: Table, block_size: int) -> Iterator[Callable[[], tuple[Any, ...]]]:
    """Blocks from the start to the end."""
    line = table.first_line
    with _open(path, True) as file:
        file.read(table.start)
        while text := _whole_lines(file, block_size):
            yield partial(table.read, text, lambda line=line: line)     # type: ignore[misc]
            line += text.count(b"\n")
