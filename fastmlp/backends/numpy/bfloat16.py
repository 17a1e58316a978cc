"""Products of bfloat16: operands of 8 significant bits, sums in float32, in one order on every processor.

Operands are rounded to bfloat16, to nearest even, and subnormal ones are zeros. A sum goes in spans of 32
terms, the last one filled up with zeros. Of a span

    even = chain of FMAs from 0 over its terms 0, 2, ..., 30;  odd = the same over 1, 3, ..., 31
    c = c + (even + odd)

where c begins as 0. Every operation rounds to nearest even, and subnormal results are zeros. It is what the
instruction TDPBF16PS of AMX does with one span.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastmlp._core.sources import SparseRows

from ._common import CHUNK, quiet

if TYPE_CHECKING:
    from fastmlp._core.sources import Rows
    from fastmlp._core.types import Array

SPAN = 32
# What rounds to the smallest normal number of float32, or above it. The products are exact in float64.
SMALLEST = 2.0**-126 - 2.0**-151


def product(x: Rows, w: Array) -> Array:
    """x w"""
    return _product(_dense(x), w)


def transposed_product(x: Rows, d: Array, out: Array) -> None:
    """out = x^T d; of more than CHUNK rows one sum for each chunk, added in their order."""
    x = _dense(x)
    out[...] = _product(x[:CHUNK].T, d[:CHUNK])
    for start in range(CHUNK, len(x), CHUNK):
        rows = slice(start, start + CHUNK)
        out[...] = flushed(out + _product(x[rows].T, d[rows]))


def rounded(x: Array) -> Array:
    """float32 to the nearest bfloat16, ties to even, kept as float32; of subnormal numbers, zeros.

    >>> rounded(np.float32([1 + 2**-8, 1 + 3 * 2**-8, -1e-40])).tolist()
    [1.0, 1.015625, -0.0]
    """
    x = flushed(np.ascontiguousarray(x, np.float32))
    bits = x.view(np.uint32)
    near = (bits + ((bits >> 16 & 1) + np.uint32(0x7FFF))) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), bits, near).astype(np.uint32).view(np.float32)


def flushed(x: Array) -> Array:
    """Subnormal numbers as zeros of the same sign."""
    return np.where(np.abs(x) < np.finfo(np.float32).smallest_normal, np.copysign(np.float32(0), x), x)


@quiet
def fma(a: Array, b: Array, c: Array) -> Array:
    """a b + c in float64 arrays that hold bfloat16 (a, b) and float32 (c), rounded to float32 once.

    The product is exact. The sum is rounded to odd first: where it is not exact, its last bit is set. Then
    rounding it once more, to fewer bits, gives what rounding the exact sum gives.
    """
    term = a * b
    total = term + c
    part = total - term
    error = (term - (total - part)) + (c - part)                # of that sum, exactly
    bits = total.view(np.int64)
    toward = np.where((error > 0) == (total > 0), 1, -1)        # where the exact sum lies, in magnitude
    inexact = np.isfinite(total) & (error != 0) & (bits & 1 == 0)
    odd = np.where(inexact, bits + toward, bits).view(np.float64)
    odd = np.where(np.abs(odd) < SMALLEST, np.copysign(0.0, odd), odd)
    return odd.astype(np.float32).astype(np.float64)


@quiet
def _product(a: Array, b: Array) -> Array:
    """a (n, k) times b (k, m), in float32."""
    n, k, m = len(a), len(b), b.shape[1]
    whole = -(-k // SPAN) * SPAN
    left, right = np.zeros((n, whole)), np.zeros((whole, m))
    left[:, :k], right[:k] = rounded(a), rounded(b)
    c = np.zeros((n, m), np.float32)
    for start in range(0, whole, SPAN):
        c = add_span(c, left[:, start:start + SPAN], right[start:start + SPAN])
    return c


@quiet
def add_span(c: Array, a: Array, b: Array) -> Array:
    """c + a b, of one span: a (n, SPAN) and b (SPAN, m) in float64, which hold bfloat16."""
    even, odd = (_chain(a[:, i::2], b[i::2]) for i in (0, 1))
    return flushed(flushed(c) + flushed(even + odd))


def _chain(a: Array, b: Array) -> Array:
    total = np.zeros((len(a), b.shape[1]))
    for k in range(len(b)):
        total = fma(a[:, k, None], b[None, k], total)
    return total.astype(np.float32)


def _dense(x: Rows) -> Array:
    return x.dense(np.float32) if isinstance(x, SparseRows) else x
