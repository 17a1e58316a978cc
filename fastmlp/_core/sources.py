"""Where samples come from: arrays, and compressed sparse rows (CSR) of SciPy or others, none of which is
imported."""
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._core import checks

__all__ = ["Rows", "SparseRows", "is_readable", "is_sparse", "readable", "rows", "source_arrays"]

Array = NDArray[Any]

INDEX_DTYPES = (np.dtype(np.int32), np.dtype(np.int64))     # that the engine reads
BLOCK = 1 << 20             # nonzeros that are looked through at a time


class SparseRows:
    """Rows in compressed form: validated, and canonical, which is to say that the columns of a row ascend.

    The arrays are those of the caller where they fit: another thread may change them.

    data        (nonzeros,) numbers of any numeric dtype
    indices     (nonzeros,) the column of each; int32 or int64
    indptr      (rows + 1,) those of row i are at indptr[i]:indptr[i + 1]; int32 or int64
    shape       (rows, columns)
    """

    __slots__ = ("data", "indices", "indptr", "shape")
    ndim = 2

    def __init__(self, data: Array, indices: Array, indptr: Array, columns: int) -> None:
        self.data = data
        self.indices = indices
        self.indptr = indptr
        self.shape = len(indptr) - 1, columns

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return self.data.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, places: Any) -> SparseRows:
        """Some of the rows: a view, of a slice without a step; a copy, of other places."""
        if isinstance(places, slice):
            start, stop, step = places.indices(len(self))
            if step == 1:
                return SparseRows(self.data, self.indices, self.indptr[start:max(start, stop) + 1],
                                  self.shape[1])
            places = np.arange(start, stop, step)
        begin, lengths = self.indptr[places], self.indptr[places + 1] - self.indptr[places]
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        at = np.repeat(begin - indptr[:-1], lengths) + np.arange(indptr[-1])
        return SparseRows(self.data[at], self.indices[at], indptr, self.shape[1])

    def astype(self, dtype: Any) -> SparseRows:
        """The same rows, their numbers of another dtype."""
        own = slice(int(self.indptr[0]), int(self.indptr[-1]))
        return SparseRows(self.data[own].astype(dtype), self.indices[own], self.indptr - self.indptr[0],
                          self.shape[1])

    def dense(self, dtype: Any) -> Array:
        """The same rows with their zeros, (rows, columns)."""
        result = np.zeros(self.shape, dtype)
        own = slice(int(self.indptr[0]), int(self.indptr[-1]))
        result[np.repeat(np.arange(len(self)), np.diff(self.indptr)), self.indices[own]] = self.data[own]
        return result

    def nonzeros(self, rows: int, repeated: bool = False) -> int:
        """The most nonzeros that so many rows have; `repeated`: where any may be there more than once."""
        lengths = np.diff(self.indptr)
        if repeated:
            return rows * int(lengths.max(initial=0))
        if rows < len(lengths):
            lengths = np.partition(lengths, len(lengths) - rows)[len(lengths) - rows:]
        return int(lengths.sum())


Rows = Array | SparseRows


def is_sparse(value: Any) -> bool:
    """Whether this is a sparse matrix or array, of SciPy or alike, that can be had in compressed rows.

    >>> is_sparse(np.ones((2, 2)))
    False
    """
    return isinstance(value, SparseRows) or (
        hasattr(type(value), "tocsr") and hasattr(value, "nnz") and not isinstance(value, np.ndarray))


def rows(name: str, value: Any, columns: int) -> Rows:
    """Samples in rows, (rows, columns) of any real numeric dtype: `checks.table`, or sparse.

    CSR with int32 or int64 indices is used as it is; other formats and index types are converted. Columns
    that do not ascend are put in order, in a copy; of one that occurs twice in a row, the numbers add.
    """
    if isinstance(value, SparseRows):
        return value
    if not is_sparse(value):
        return checks.table(name, value, columns)
    shape = tuple(value.shape)
    if len(shape) != 2 or shape[1] != columns:
        raise ValueError(f"{name}: expected shape (rows, {columns}), got {shape}")
    try:
        csr = value.tocsr()
        data, indices, indptr = (np.asarray(getattr(csr, part)) for part in ("data", "indices", "indptr"))
    except (AttributeError, TypeError) as error:
        raise TypeError(f"{name}: expected a sparse matrix whose tocsr() has NumPy arrays data, indices and "
                        f"indptr, got {type(value).__name__}: {error}") from None
    if data.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected numbers, got dtype {data.dtype}")
    for part, array in (("data", data), ("indices", indices), ("indptr", indptr)):
        if array.ndim != 1:
            raise ValueError(f"{name}: expected its {part} to be a vector, got shape {array.shape}")
        if part != "data" and array.dtype.kind not in "iu":
            raise TypeError(f"{name}: expected its {part} to be integers, got dtype {array.dtype}")
    indices, indptr = _index(indices), _index(indptr)
    result = SparseRows(np.require(data, requirements="A"), indices, indptr, columns)
    _validate(name, result, shape[0])
    return result if _is_canonical(result) else _canonical(result)


def readable(X: Rows, dtype: np.dtype[Any], dense: bool = False) -> Rows:
    """The samples themselves where the engine reads them as they are, else converted; `dense`: it reads no
    sparse ones."""
    if isinstance(X, SparseRows):
        return X.dense(dtype) if dense else X if checks.is_readable(X.data) else X.astype(dtype)
    return checks.readable(X, dtype)


def is_readable(X: Rows, dense: bool = False) -> bool:
    """Whether the engine reads them as they are."""
    if isinstance(X, SparseRows):
        return not dense and checks.is_readable(X.data)
    return checks.is_readable(X)


def source_arrays(name: str, X: Rows) -> dict[str, Array]:
    """The arrays that hold the samples, by names for an error."""
    if isinstance(X, SparseRows):
        return {f"{name}.{part}": getattr(X, part) for part in ("data", "indices", "indptr")}
    return {name: X}


def _index(array: Array) -> Array:
    """Indices as the engine reads them."""
    if array.dtype not in INDEX_DTYPES or not array.dtype.isnative:
        array = array.astype(np.int64)
    return np.require(array, requirements=["C", "A"])


def _validate(name: str, X: SparseRows, rows: int) -> None:
    """Raises ValueError for indices that lead outside of the arrays or the columns."""
    nonzeros = min(len(X.data), len(X.indices))
    if len(X) != rows:
        raise ValueError(f"{name}: expected its indptr to have {rows + 1} entries, got {len(X) + 1}")
    if X.indptr[0] != 0 or X.indptr[-1] > nonzeros:
        raise ValueError(f"{name}: expected its indptr to go from 0 to at most {nonzeros}, the size of data "
                         f"and indices, got {X.indptr[0]} to {X.indptr[-1]}")
    falls = X.indptr[1:] < X.indptr[:-1]
    if falls.any():
        raise ValueError(f"{name}: expected its indptr never to fall, got {X.indptr[falls.argmax()]} before "
                         f"{X.indptr[falls.argmax() + 1]}")
    indices = X.indices[:X.indptr[-1]]
    if len(indices) and not 0 <= indices.min() <= indices.max() < X.shape[1]:
        wrong = indices[(indices < 0) | (indices >= X.shape[1])]
        raise ValueError(f"{name}: expected its indices from 0 to {X.shape[1] - 1}, got {wrong[0]}")


def _is_canonical(X: SparseRows) -> bool:
    """Whether the columns of every row ascend."""
    indices = X.indices[:X.indptr[-1]]
    starts = X.indptr[1:-1]             # of rows but the first
    for start in range(0, len(indices) - 1, BLOCK):
        stop = min(start + BLOCK, len(indices) - 1)
        ascends = indices[start + 1:stop + 1] > indices[start:stop]
        first, last = np.searchsorted(starts, [start + 1, stop + 1])
        ascends[starts[first:last] - (start + 1)] = True
        if not ascends.all():
            return False
    return True


def _canonical(X: SparseRows) -> SparseRows:
    """The same rows with the columns in order; of a column that occurs twice, the sum."""
    indices, data = X.indices[:X.indptr[-1]], X.data[:X.indptr[-1]]
    row = np.repeat(np.arange(len(X)), np.diff(X.indptr))
    order = np.lexsort((indices, row))
    row, indices, data = row[order], indices[order], data[order]
    new = np.ones(len(row), bool)
    new[1:] = (row[1:] != row[:-1]) | (indices[1:] != indices[:-1])
    starts = np.flatnonzero(new)
    if len(starts) < len(new):
        total = data[starts]
        np.add.at(total, np.cumsum(new)[~new] - 1, data[~new])
        data = total
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row[starts], minlength=len(X)))])
    return SparseRows(data, indices[starts], indptr, X.shape[1])
