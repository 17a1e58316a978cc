"""Blocks: what is read at once, where it is, and what one must look like."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastmlp._core import callers, checks, frames, sources
from fastmlp.data._columns import order_of

if TYPE_CHECKING:
    from fastmlp._core.types import Array, RowsLike

__all__ = ["Block", "BlockError", "FileRows", "Layout", "Part", "as_block", "dense", "names_of", "problem_of",
           "warn"]


class BlockError(ValueError):
    """A block of a source that cannot be used.

    Parameters
    ----------
    message : str
        Which block it is, what came, and what was expected.

    Notes
    -----
    What was raised while the block was read is its ``__cause__``.

    Examples
    --------
    >>> from fastmlp.data import Chunks
    >>> try:
    ...     Chunks([([[1, 2]], [0, 1])]).statistics()
    ... except BlockError as error:
    ...     print(error)
    blocks, block 0: y: expected 1 row, as many as X, got 2
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)


class FileRows:
    """Rows of an array in a file, in C order, read where they are wanted: from the disk into a buffer.

    path        of the file
    start       first byte of the first row
    dtype       of the numbers
    shape       (rows, ...)
    """

    def __init__(self, path: str, start: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.path = path
        self.start = start
        self.dtype = dtype
        self.shape = shape
        self.ndim = len(shape)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row_nbytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def read(self, out: Array, first: int = 0) -> None:
        """Rows from `first` on, as many as `out` has: contiguous and of this dtype."""
        nbytes: Any = out.reshape(-1).view(np.uint8)
        view = memoryview(nbytes)
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.start + first * self.row_nbytes)
            while view:
                count = file.readinto(view)
                if not count:
                    raise BlockError(f"{self.path}: expected {len(view)} bytes more, got its end")
                view = view[count:]

    def array(self) -> Array:
        result = np.empty(self.shape, self.dtype)
        self.read(result)
        return result


class Block(NamedTuple):
    """Samples as they were read.

    X           (rows, columns), an array of any dtype, FileRows, or sparse
    y           (rows,) or (rows, outputs)
    weight      (rows,), or None
    """

    X: Any
    y: Array
    weight: Array | None = None

    def arrays(self) -> tuple[Any, ...]:
        """(X, y) or (X, y, weight), in memory."""
        X = self.X.array() if isinstance(self.X, FileRows) else self.X
        return (X, self.y) if self.weight is None else (X, self.y, self.weight)


class Part(NamedTuple):
    """What can be read on its own, in any order: one block, or some in their order.

    name        where it is from, such as the name of a file
    first       number of its first block there
    rows        that it has; None where that is known only after it was read
    blocks      called for an iterator over functions that return (X, y) or (X, y, weight)
    """

    name: str
    first: int
    rows: int | None
    blocks: Callable[[], Iterator[Callable[[], tuple[Any, ...]]]]


Names = tuple["tuple[Any, ...] | None", "tuple[Any, ...] | None"]


class Layout(NamedTuple):
    """What all blocks of a source have in common: that of the first one."""

    place: str
    X: tuple[Any, tuple[int, ...]]          # dtype, shape of a row
    y: tuple[Any, tuple[int, ...]]
    weight: tuple[Any, tuple[int, ...]] | None
    is_sparse: bool                         # X
    columns: Names                          # of X and y, where these are tables that have names

    @classmethod
    def of(cls, place: str, block: Block, columns: Names) -> Layout:
        X, y, weight = (None if array is None else (array.dtype, array.shape[1:]) for array in block)
        assert X is not None and y is not None
        return cls(place, X, y, weight, sources.is_sparse(block.X), columns)

    def check(self, block: Block) -> None:
        """Raises ValueError for a block that is not like the first one."""
        if sources.is_sparse(block.X) != self.is_sparse:
            kinds = ("sparse", "dense") if self.is_sparse else ("dense", "sparse")
            raise ValueError(f"X: expected {kinds[0]} rows, as in {self.place}, got {kinds[1]} ones")
        for name, array, expected in zip(("X", "y", "weights"), block, (self.X, self.y, self.weight)):
            got = None if array is None else (array.dtype, array.shape[1:])
            if got != expected:
                raise ValueError(f"{name}: expected {_described(expected)}, as in {self.place}, got "
                                 f"{_described(got)}")


    def in_order(self, block: Block, columns: Names) -> Block:
        """The block with the columns of tables in the order of the first one. Raises ValueError for other
        columns than that has."""
        arrays: list[Any] = []
        for name, array, expected, got in zip("Xy", block[:2], self.columns, columns):
            if expected is not None and got is not None and expected != got:
                try:
                    array = array[:, order_of(expected, got, self.place)]
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None
            arrays.append(array)
        return Block(arrays[0], arrays[1], block.weight)


def names_of(value: Any) -> Names:
    """Names of the columns of X and y in (X, y) or (X, y, weight)."""
    X, y = (tuple(frames.labels(table)) if frames.is_frame(table) else None for table in value[:2])
    return X, y


def _described(kind: tuple[Any, tuple[int, ...]] | None) -> str:
    if kind is None:
        return "none"
    dtype, row = kind
    return f"shape ({', '.join(['rows', *map(str, row)])}{'' if row else ','}) of {dtype}"


def as_block(value: Any) -> Block:
    """(X, y) or (X, y, weight) as a block. Raises TypeError and ValueError for what is none."""
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        got = f"{len(value)} of them" if isinstance(value, (tuple, list)) else type(value).__name__
        raise TypeError(f"expected (X, y) or (X, y, weight), got {got}")
    X, y, weight = (*value, None)[:3]
    if sources.is_sparse(X):
        X = sources.rows("X", X, X.shape[1] if len(X.shape) == 2 else -1)
    elif not isinstance(X, FileRows):
        X = checks.as_array("X", X)
    y = checks.as_array("y", y)
    if X.ndim == 0:
        raise ValueError("X: expected rows, got a number")
    named = [("y", y)]
    if weight is not None:
        weight = checks.as_array("weights", weight)
        named.append(("weights", weight))
    for name, array in named:
        if array.ndim == 0 or len(array) != len(X):
            raise ValueError(f"{name}: expected {len(X)} row{'s' * (len(X) != 1)}, as many as X, got "
                             f"{len(array) if array.ndim else 'a number'}")
    return Block(X, y, weight)


def dense(name: str, X: RowsLike | FileRows, columns: int) -> Any:
    """`sources.rows`, or rows in a file that are such."""
    if not isinstance(X, FileRows):
        return sources.rows(name, X, columns)
    if X.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected numbers, got dtype {X.dtype}")
    if X.shape != (len(X), columns):
        raise ValueError(f"{name}: expected shape (rows, {columns}), got {X.shape}")
    return X if X.dtype.isnative and X.dtype.char in checks.READABLE else X.array()


def problem_of(error: BaseException) -> str:
    """What was raised, for a message: our own errors say it all, others go with their names."""
    text = str(error)
    return text if type(error) in (ValueError, TypeError, EOFError, BlockError) and text else (
        f"{type(error).__name__}: {text}")


def warn(problem: str) -> None:
    """Of a block that was skipped, to the line of the user's that reads the source."""
    callers.warn(f"skipped {problem}", RuntimeWarning)
