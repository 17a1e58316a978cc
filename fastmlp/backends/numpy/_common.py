"""What the functions of the specification share."""
from __future__ import annotations

from functools import wraps

import numpy as np


def quiet(function):
    """No warnings about overflow, invalid values and the like."""
    @wraps(function)
    def call(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)
    return call


CHUNK = 4096                    # rows, see sum_rows


def sum_rows(a):
    """Sums over the rows, chunk by chunk: one running sum, as NumPy's over the first axis is, loses its small
    terms where there are many."""
    return sum((a[start:start + CHUNK].sum(axis=0) for start in range(CHUNK, len(a), CHUNK)),
               start=a[:CHUNK].sum(axis=0))


def or_new(out, shape, dtype):
    return np.empty(shape, dtype) if out is None else out


def assign(out, result):
    if out is None:
        return result
    out[...] = result
    return out
