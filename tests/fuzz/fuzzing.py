"""What the fuzzers share."""
from __future__ import annotations

import numpy as np

ODD = [None, True, "text", b"", -1, 0, 1.5, float("nan"), float("inf"), 2**70, 1j, [], {}, object,
       np.float32(0.5), np.array([1.0, 2.0]), np.int8(3), range(2)]


def choice(rng, values):
    """One of them, as it is: NumPy's own choice makes an array of them."""
    return values[int(rng.integers(len(values)))]


def any_value(rng):
    """Something that is probably no right argument."""
    return choice(rng, ODD)


def rounding(actual, expected, about, eps):
    """Raises AssertionError where arrays differ by more than eps of the largest number; infinities and NaN
    must agree. Where numbers are so large that sums lose all others, nothing is compared."""
    if actual.shape != expected.shape or actual.dtype != expected.dtype:
        raise AssertionError(f"{about}\n{actual.dtype}{actual.shape} for {expected.dtype}{expected.shape}")
    if actual.dtype.kind != "f":
        if not np.array_equal(actual, expected):
            raise AssertionError(f"{about}\n{actual} for {expected}")
        return
    info = np.finfo(actual.dtype)
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    usual = np.isfinite(a) & np.isfinite(b)
    large = np.abs(np.where(usual, b, 0.0))
    scale = max(1.0, float(large.max(initial=0.0)))
    if scale > float(info.max) ** 0.5:          # sums of such numbers hold nothing of the small ones
        return
    with np.errstate(all="ignore"):
        wrong = np.abs(a - b) > eps * scale
    wrong &= usual
    wrong |= ~usual & ~((np.isnan(a) & np.isnan(b)) | (a == b))
    if wrong.any():
        at = tuple(int(i[0]) for i in np.nonzero(wrong)) if actual.ndim else ()
        raise AssertionError(f"{about}\nat {at}: {actual[at]!r}, expected {expected[at]!r}; "
                             f"{int(wrong.sum())} of {wrong.size} differ")
