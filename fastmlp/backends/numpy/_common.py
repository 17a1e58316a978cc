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


def or_new(out, shape, dtype):
    return np.empty(shape, dtype) if out is None else out


def assign(out, result):
    if out is None:
        return result
    out[...] = result
    return out
