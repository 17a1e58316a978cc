"""Products with rows in compressed form (fastmlp._core.sources.SparseRows)."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core.sources import SparseRows

if TYPE_CHECKING:
    from fastmlp._core.sources import Rows
    from fastmlp._core.types import Array

BLOCK_NBYTES = 1 << 24      # of the products of some rows, held at a time


def in_dtype(x: Rows, dtype: np.dtype[Any]) -> Rows:
    """Samples as numbers of this dtype; of sparse ones a copy, so that no other thread changes it."""
    return x.astype(dtype) if isinstance(x, SparseRows) else x.astype(dtype, copy=False)


def product(x: Rows, w: Array) -> Array:
    """x w, of x dense or sparse."""
    if not isinstance(x, SparseRows):
        return x @ w
    result = np.zeros((len(x), w.shape[1]), w.dtype)
    for part in blocks(x, w.shape[1] * w.dtype.itemsize):
        row, column, value = triplets(x, part)
        np.add.at(result, row, value[:, None] * w[column])
    return result


def transposed_product(x: Rows, d: Array, out: Array) -> None:
    """out = x^T d, of x dense or sparse."""
    if not isinstance(x, SparseRows):
        np.matmul(x.T, d, out=out)
        return
    out[...] = 0
    for part in blocks(x, d.shape[1] * d.dtype.itemsize):
        row, column, value = triplets(x, part)
        np.add.at(out, column, value[:, None] * d[row])


def blocks(x: SparseRows, nbytes: int) -> list[slice]:
    """Nonzeros that are looked at together, of which each takes so many bytes."""
    step = max(1, BLOCK_NBYTES // nbytes)
    return [slice(start, min(start + step, int(x.indptr[-1])))
            for start in range(int(x.indptr[0]), int(x.indptr[-1]), step)]


def triplets(x: SparseRows, part: slice) -> tuple[Any, Any, Any]:
    """Row, column and value of some nonzeros."""
    row = np.searchsorted(x.indptr, np.arange(part.start, part.stop), side="right") - 1
    return row, x.indices[part], x.data[part]
