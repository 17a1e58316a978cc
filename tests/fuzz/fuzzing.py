"""What the fuzzers share."""
from __future__ import annotations

import numpy as np

ODD = [None, True, "text", b"", -1, 0, 1.5, float("nan"), float("inf"), 2**70, 1j, [], {}, object,
       np.float32(0.5), np.array([1.0, 2.0]), np.int8(3), range(2),
       np.array(1), np.array(0.5, "f4"), np.array("a"), np.empty(6, "V0"), np.empty((0, 2)), np.zeros((2, 0))]

LAYOUTS = ["C", "F", "strided", "reversed", "offset", "unaligned", "swapped", "read_only", "broadcast",
           "subclass", "masked", "list", "memoryview"]


class Sub(np.ndarray):
    pass


def choice(rng, values):
    """One of them, as it is: NumPy's own choice makes an array of them."""
    return values[int(rng.integers(len(values)))]


def any_value(rng):
    """Something that is probably no right argument."""
    return choice(rng, ODD)


def damaged_bytes(rng, content, others):
    """The content of a file with other bits, without its end, or with a part of another file in it."""
    data, way = bytearray(content), int(rng.integers(3))
    if not data:
        return b""
    if way == 0:
        for _ in range(int(rng.integers(1, 9))):
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    elif way == 1:
        del data[int(rng.integers(len(data) + 1)):]
    else:
        other, at = choice(rng, others), int(rng.integers(len(data)))
        data[at:at + int(rng.integers(1, 200))] = other[at:at + int(rng.integers(1, 200))]
    return bytes(data)


def lay_out(rng, array, layout):
    """The same numbers (of "broadcast" only the first row) in another layout."""
    shape = array.shape
    if layout == "F":
        return np.asfortranarray(array)
    if layout == "strided":
        big = np.zeros([2 * n + 1 for n in shape], array.dtype)
        view = big[(*(slice(1, 2 * n + 1, 2) for n in shape), ...)]
    elif layout == "reversed":
        view = np.zeros_like(array, order="C")[(*[slice(None, None, -1)] * array.ndim, ...)]
    elif layout == "offset":
        view = np.zeros((*shape[:-1], shape[-1] + 3) if shape else (), array.dtype)
        view = view[..., 2:2 + shape[-1]] if shape else view
    elif layout == "unaligned" and array.dtype != object:
        at = int(rng.integers(1, 8))
        view = np.zeros(array.nbytes + at, np.uint8)[at:].view(array.dtype).reshape(shape)
    elif layout == "swapped":
        return array.astype(array.dtype.newbyteorder())
    elif layout == "read_only":
        array = array.copy()
        array.flags.writeable = False
        return array
    elif layout == "broadcast" and array.ndim and array.size:
        return np.broadcast_to(array[:1], shape)
    elif layout == "subclass":
        return array.view(choice(rng, [Sub, np.memmap, np.recarray]))
    elif layout == "masked":
        return np.ma.masked_array(array)
    elif layout == "list":
        return array.tolist()
    elif layout == "memoryview" and array.dtype.kind != "O":
        return memoryview(np.ascontiguousarray(array))
    else:
        return array
    view[...] = array
    return view


def contents(model, optimizer):
    """Everything that training changes."""
    arrays = [*model.weights, *model.biases]
    for more in (model.scales, model.running_means, model.running_variances):
        arrays += [array for array in more if array is not None]
    return [a.tobytes() for a in arrays] + [
        np.asarray(v).tobytes() for v in optimizer.get_state(model).values()]


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
