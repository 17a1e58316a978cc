"""Argument checks, done once, at the public API; kernels and backends trust what they are given.

Every check returns what it checked, in the form the backends take, or raises TypeError (wrong type or
dtype) or ValueError (wrong shape, range, overlap). A message names the argument, what was expected and
what came. No check changes an array.
"""
from __future__ import annotations

import math
import numbers
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core import batches, foreign, frames, names

if TYPE_CHECKING:
    from fastmlp._core.types import Array


READABLE = frozenset("?bBhHiIlLqQefd")      # dtypes (in native byte order) that the engine reads in place
LEAST_WEIGHT_EXPONENT, MOST_WEIGHT_EXPONENT = -1000, 900    # of weights above 0, and of their sum
SMALL_NBYTES = 2**28        # what any machine has: not compared with its memory
MANY_NBYTES = 2**36         # of which an array is tried before it is needed, where the memory is not known
MOST_NBYTES = min(sys.maxsize, 2**56)       # no processor has more addresses for a process
MOST_STEPS = 2**53          # of a training; whole numbers up to here are exact in every type that counts them
ROW_SUM_TOLERANCE = {"float32": 1e-3, "float64": 1e-6}     # how far a row of probabilities may be from 1


def floating(name: str, value: Any) -> Array:
    """`value` as an array of float32 or float64 in native byte order; no other dtype is converted."""
    array = as_array(name, value)
    if array.dtype.char not in "fd":
        raise TypeError(f"{name}: expected dtype float32 or float64, got {array.dtype}{_hint(name, array)}")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def operands(**values: Any) -> list[Array]:
    """Every value as a `floating` array, all of the dtype of the first."""
    arrays = [floating(name, value) for name, value in values.items()]
    first = next(iter(values))
    for name, array in zip(values, arrays, strict=True):
        if array.dtype != arrays[0].dtype:
            raise TypeError(
                f"{name}: expected dtype {arrays[0].dtype}, the dtype of {first}, got {array.dtype}"
            )
    return arrays


def shape(name: str, array: Array, expected: tuple[int | str, ...], why: str = "") -> None:
    """The shape must be `expected`, where a string stands for any size: ("rows", 10)."""
    if array.shape == expected:
        return
    if array.ndim != len(expected) or any(
        isinstance(want, int) and want != got for want, got in zip(expected, array.shape, strict=True)
    ):
        sizes = ", ".join(map(str, expected)) + ("," if len(expected) == 1 else "")
        raise ValueError(f"{name}: expected shape ({sizes}){why and ' ' + why}, got {array.shape}")


def same_shape(**arrays: Array) -> None:
    """All shapes must equal the first; nothing is broadcast."""
    first, *others = arrays.items()
    for name, array in others:
        shape(name, array, first[1].shape, f"like {first[0]}")


def has_rows(name: str, array: Array) -> None:
    """Functions along the last axis need one."""
    if array.ndim == 0:
        raise ValueError(f"{name}: expected at least one dimension, got shape ()")


def not_empty(name: str, array: Array) -> None:
    """The mean over nothing is not a loss."""
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one row and one column, got shape {array.shape}")


def addressable(name: str, sizes: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """The array about to be made must fit the address space, and the machine."""
    nbytes = math.prod(sizes) * dtype.itemsize
    if nbytes > SMALL_NBYTES:
        fits_memory(name, nbytes, f"shape {tuple(map(int, sizes))} of {dtype}")


def fits_memory(name: str, nbytes: int, what: str) -> None:
    """What is about to take `nbytes` must not be more than the machine has, memory and swap together.

    That much can never work, and asking for it may not fail at once: the system may grant what it does not
    have, and end the process when it is used."""
    if nbytes <= SMALL_NBYTES:
        return
    if nbytes > MOST_NBYTES:
        raise ValueError(f"{name}: {what} takes {readable_size(nbytes)}, more bytes than memory can address")
    most = memory_limit()
    if nbytes > most:
        raise MemoryError(f"{name}: {what} takes {readable_size(nbytes)}, more bytes than this process "
                          f"may use: {readable_size(int(most))} of memory and swap")
    if most == math.inf and nbytes > MANY_NBYTES:
        try:
            np.empty(nbytes, np.uint8)
        except MemoryError:
            raise MemoryError(f"{name}: {what} takes {readable_size(nbytes)}, more bytes than there are"
                              ) from None


def memory_limit() -> float:
    """Bytes of memory and swap that the machine, or the control group of this process, has in all; infinity
    where that is not known.

    >>> memory_limit() > 2**20
    True
    """
    try:
        with open("/proc/meminfo") as lines:
            sizes = {name: size for name, _, size in (line.partition(":") for line in lines)}
        memory, swap = (int(sizes[name].split()[0]) << 10 for name in ("MemTotal", "SwapTotal"))
    except (OSError, KeyError, ValueError, IndexError):     # not Linux: swap may grow as long as it likes
        return math.inf
    for memory_file, swap_file in (("memory.max", "memory.swap.max"), ("memory/memory.limit_in_bytes", None)):
        limit = _cgroup_size(memory_file)
        if limit < math.inf:
            return min(memory + swap, limit + min(swap, _cgroup_size(swap_file) if swap_file else swap))
    return memory + swap


def _cgroup_size(name: str) -> float:
    try:
        with open(f"/sys/fs/cgroup/{name}") as file:
            text = file.read().strip()
    except OSError:
        return math.inf
    return float(text) if text.isdecimal() else math.inf


def readable_size(nbytes: int) -> str:
    """Bytes in the unit that suits their number.

    >>> readable_size(40_000_000_000_000), readable_size(1536)
    ('36.38 TiB', '1.5 KiB')
    """
    size, units = float(nbytes), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.4g} {units[0]}" if size < 1e4 else f"{size:.1e} {units[0]}"


def output(
    name: str,
    out: Any,
    sizes: tuple[int, ...],
    dtype: np.dtype[Any],
    inputs: Mapping[str, Array],
    may_replace: tuple[str, ...] = (),
) -> None:
    """`out` (None passes) must be a writeable array of this shape and dtype, apart from the inputs, which are
    those that were given, and not what they were converted to.

    `may_replace` names the inputs that `out` may be, element on element: relu(x, out=x).
    """
    if out is None:
        return addressable(name, sizes, dtype)
    writeable(name, out)
    if out.dtype != dtype and out.dtype.newbyteorder("=") != dtype:
        raise TypeError(f"{name}: expected dtype {dtype}, the dtype of the inputs, got {out.dtype}")
    shape(name, out, sizes)
    for other, array in inputs.items():
        if overlap(out, array) and not (other in may_replace and _same_memory(out, array)):
            same = f"may be {other} itself but must not overlap it in part" if other in may_replace else (
                f"must not share memory with {other}")
            raise ValueError(f"{name}: {same}; got an array that does")


def writeable(name: str, array: Any) -> None:
    """An array written in place: a NumPy array, not read-only, without internal overlap."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array to write into, got {type(array).__name__}")
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected a plain NumPy array to write into, got a masked array")
    if not array.flags.writeable:
        raise ValueError(f"{name}: expected an array that can be written, got a read-only one")
    if not disjoint_elements(array):
        raise ValueError(f"{name}: expected every element in its own place, got strides {array.strides} "
                         f"for shape {array.shape}, where elements share memory")


def disjoint_elements(array: Array) -> bool:
    """Whether no two elements overlap; strides that interleave without need count as overlap."""
    if array.flags.c_contiguous or array.size == 0:
        return True
    extent = array.itemsize
    for stride, size in sorted(zip(map(abs, array.strides), array.shape, strict=True)):
        if size > 1:
            if stride < extent:
                return False
            extent += stride * (size - 1)
    return True


def apart(**arrays: Array) -> None:
    """No two of the arrays share memory."""
    pairs = list(arrays.items())
    for i, (name, array) in enumerate(pairs):
        for other, another in pairs[:i]:
            if overlap(array, another):
                raise ValueError(f"{name}: must not share memory with {other}; got arrays that do")


def overlap(a: Array, b: Array) -> bool:
    """Whether two arrays share an element; the rare question too hard to decide counts as yes."""
    if not np.may_share_memory(a, b):
        return False
    max_work: Any = 10_000
    try:
        return np.shares_memory(a, b, max_work=max_work)
    except np.exceptions.TooHardError:
        return True


def class_targets(name: str, value: Any, logits: Array) -> Array:
    """Targets of a classification: class indices (rows,) or (rows, 1), or probabilities (rows, classes)."""
    rows, classes = logits.shape
    array = as_array(name, value)
    array = column_of_labels(array, rows)
    if array.ndim != 2:
        return labels(name, array, rows, classes)
    array = target_values(name, array, logits)
    shape(name, array, logits.shape, "(one probability for each logit) or class indices "
          f"of shape ({rows},)")
    targets(name, array, "distributions")
    return array


def column_of_labels(array: Array, rows: int) -> Array:
    """Integers (rows, 1) as (rows,); anything else as it is."""
    return array.reshape(-1) if array.shape == (rows, 1) and array.dtype.kind in "iu" else array


def target_values(name: str, value: Any, outputs: Array) -> Array:
    """Targets of the dtype of the outputs. Integers and booleans (one class in every row, 0 or 1, -1 or +1,
    counts) are converted where that changes none of them; floats of another dtype are not."""
    array = as_array(name, value)
    if array.dtype.kind not in "biu":
        array = floating(name, array)
        if array.dtype != outputs.dtype:
            raise TypeError(f"{name}: expected dtype {outputs.dtype}, that of the outputs, or integers, got "
                            f"{array.dtype}")
        return array
    addressable(name, array.shape, outputs.dtype)
    converted = array.astype(outputs.dtype)
    if array.dtype.itemsize > 2:
        same = converted.astype(array.dtype) == array
        if not same.all():
            place = np.argwhere(~same)[0]
            raise ValueError(f"{name}: expected integers that {outputs.dtype} holds, got "
                             f"{array[tuple(place)]} at {_place(place, 0)}")
    return converted


def labels(name: str, value: Any, rows: int, classes: int) -> Array:
    """Class indices of shape (rows,): integers from 0 to classes - 1, as intp."""
    array = as_array(name, value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected class indices of an integer dtype, got {array.dtype}")
    shape(name, array, (rows,), "(one class index for each row)")
    addressable(name, array.shape, np.dtype(np.intp))
    indices = array.astype(np.intp, copy=False)
    if rows and indices.view(np.uintp).max() >= classes:        # one pass: negative ones are large
        row = int(((array < 0) | (array >= classes)).argmax())
        raise ValueError(
            f"{name}: expected class indices from 0 to {classes - 1}, got {array[row]} in row {row}"
        )
    return indices


def row_numbers(name: str, value: Any, rows: int) -> Array:
    """An order of samples, shape (rows,): integers from 0 to rows - 1, as intp."""
    array = as_array(name, value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected row numbers of an integer dtype, got {array.dtype}")
    shape(name, array, (rows,), "(one row number for each sample)")
    numbers = array.astype(np.intp, copy=False)
    if rows and numbers.view(np.uintp).max() >= rows:           # one pass: negative ones are large
        place = int(((array < 0) | (array >= rows)).argmax())
        raise ValueError(f"{name}: expected row numbers from 0 to {rows - 1}, got {array[place]} in place "
                         f"{place}")
    return numbers


def targets(name: str, array: Array, kind: str, first: int = 0) -> None:
    """Targets must be numbers, and what their `kind` (of `Loss`) says; `first` is the number of row 0."""
    no_nan(name, array, first)
    if kind == "distributions":
        probabilities(name, array, first)
    elif kind == "binary":
        right = (array >= 0) & (array <= 1)
        _everywhere(name, array, right, "labels 0 or 1, or probabilities between them", first)
    elif kind == "signs":
        _everywhere(name, array, np.abs(array) == 1, "labels -1 or +1 (of 0 and 1: 2 y - 1)", first)
    elif kind == "counts":
        right = (array >= 0) & (array < np.inf)
        _everywhere(name, array, right, "counts, finite and not negative", first)


def _everywhere(name: str, array: Array, right: Array, what: str, first: int) -> None:
    if not right.all():
        place = np.argwhere(~right)[0]
        raise ValueError(f"{name}: expected {what}, got {array[tuple(place)]} at {_place(place, first)}")


def _place(index: Array, first: int) -> str:
    index = index.copy()
    index[:1] += first
    return f"[{', '.join(map(str, index))}]"


def probabilities(name: str, array: Array, first: int = 0) -> None:
    """Every row of a (rows, classes) array must be a distribution: nothing negative, sum 1."""
    if (array < 0).any():
        row, column = np.argwhere(array < 0)[0]
        raise ValueError(
            f"{name}: expected probabilities, got {array[row, column]} in row {first + row}, column {column}"
        )
    tolerance = ROW_SUM_TOLERANCE[array.dtype.name]
    sums = array.sum(axis=1, dtype=np.float64)
    wrong = ~(np.abs(sums - 1) <= tolerance)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"{name}: expected rows that sum to 1 within {tolerance:g}, got {sums[row]:.9g} in row "
            f"{first + row}"
        )


def no_nan(name: str, array: Array, first: int = 0) -> None:
    """Targets that are not numbers would turn every weight into NaN."""
    wrong = np.isnan(array)
    if wrong.any():
        raise ValueError(f"{name}: expected numbers, got NaN at {_place(np.argwhere(wrong)[0], first)}")


def sample_weights(name: str, value: Any, rows: int, part: bool = False) -> Array:
    """What every sample weighs in the mean: float64 (rows,), contiguous, not negative, finite, not all 0.

    Only their ratios matter, and sums and quotients of them must not leave the range of float64: weights near
    its ends are scaled by a power of two, which rounds none of them. In `part` of all samples all may be 0,
    and none can be scaled."""
    array = as_array(name, value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected numbers, got dtype {array.dtype}")
    shape(name, array, (rows,), "(one weight for each row)")
    addressable(name, array.shape, np.dtype(np.float64))
    weights = np.require(array, np.float64, ["C", "A"])
    right = (weights >= 0) & (weights < np.inf)
    if not right.all():
        row = int(right.argmin())
        raise ValueError(
            f"{name}: expected weights that are finite and not negative, got {array[row]} in row {row}")
    largest = float(weights.max(initial=0.0))
    if largest == 0:
        if part:
            return weights
        raise ValueError(f"{name}: expected a weight above 0, got weights that are all 0")
    smallest = float(weights.min(where=weights > 0, initial=math.inf))
    sum_exponent = math.frexp(largest)[1] + rows.bit_length()       # the sum is below 2^this
    exponent = math.frexp(smallest)[1] - 1
    shift = min(0, MOST_WEIGHT_EXPONENT - sum_exponent) or max(0, LEAST_WEIGHT_EXPONENT - exponent)
    if part and shift:
        raise ValueError(f"{name}: expected weights from 2^{LEAST_WEIGHT_EXPONENT} up, and a sum below "
                         f"2^{MOST_WEIGHT_EXPONENT}, in a block of a source, got weights from "
                         f"{smallest:g} to {largest:g}")
    if exponent + shift < LEAST_WEIGHT_EXPONENT or sum_exponent + shift > MOST_WEIGHT_EXPONENT:
        raise ValueError(f"{name}: expected weights nearer to each other, got weights from {smallest:g} to "
                         f"{largest:g}")
    return np.ldexp(weights, shift) if shift else weights


def scalar(value: Any) -> Any:
    """A number that came in an array without dimensions; anything else as it is."""
    array = np.asarray(value)
    return array[()] if array.ndim == 0 else value


def real(name: str, value: Any) -> float:
    """A real number as a float, NaN and infinity too."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if not isinstance(value, (float, int, numbers.Real)) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected a number, got {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:           # of an integer
        return -math.inf if value < 0 else math.inf


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite real number from low to high, as a float."""
    result = real(name, value)
    if not (low <= result <= high and math.isfinite(result)):
        wanted = "a finite number"
        if low > -math.inf:
            wanted += f" from {low:g}" + (f" to {high:g}" if high < math.inf else " up")
        raise ValueError(f"{name}: expected {wanted}, got {result!r}")
    return result


def below_one(name: str, value: Any) -> float:
    """A real number from 0 to 1, and not 1 itself: the share that an average keeps of what it was."""
    result = number(name, value, low=0.0)
    if result >= 1:
        raise ValueError(f"{name}: expected a finite number from 0 up and below 1, got {result!r}")
    return result


def as_array(name: str, value: Any, of_numbers: bool = True) -> Array:
    """np.asarray, but never by dropping a mask; `frames` and their columns as numbers, if they are to be;
    `foreign` arrays."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected a plain array, got a masked array; use {name}.filled(value)")
    if of_numbers and frames.is_frame(value):
        return frames.table(name, value)
    if of_numbers and frames.is_column(value):
        return frames.column(name, value)
    try:
        return foreign.to_numpy(name, value)
    except ValueError as error:     # a ragged list
        got = type(value).__name__
        raise ValueError(f"{name}: expected an array of numbers, got {got}: {error}") from None


def _hint(name: str, array: Array) -> str:
    return f"; convert it with {name}.astype(np.float32)" if array.dtype.kind in "biuf" else ""


def _same_memory(a: Array, b: Array) -> bool:
    """Element i of a is element i of b, for all i. The stride of an axis of one element says nothing."""
    return a.ctypes.data == b.ctypes.data and a.shape == b.shape and all(
        n == 1 or own == other for n, own, other in zip(a.shape, a.strides, b.strides))


# What a model takes ------------------------------------------------------------------------------------

def table(name: str, value: Any, columns: int) -> Array:
    """Samples in rows: (rows, columns) of any real numeric dtype."""
    if not isinstance(value, np.ndarray) and hasattr(value, "tocsr"):
        raise TypeError(
            f"{name}: expected a dense array, got a sparse matrix; convert it with {name}.toarray()")
    try:
        array = as_array(name, value)
    except (TypeError, ValueError):
        if meant := batches.answer(name, value):
            raise TypeError(f"{name}: expected an array or a table{meant}") from None
        raise
    if array.dtype.kind not in "biuf" or array.ndim != 2:
        if meant := batches.answer(name, value):
            raise TypeError(f"{name}: expected an array or a table{meant}")
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name}: expected numbers, got dtype {array.dtype}")
    shape(name, array, ("rows", columns))
    return array


def is_readable(array: Array) -> bool:
    """Whether the engine reads it as it is: by its dtype, and because every element is aligned."""
    return array.dtype.isnative and array.dtype.char in READABLE and array.flags.aligned


def readable(array: Array, dtype: np.dtype[Any]) -> Array:
    """The array itself where the engine reads it as it is, else converted."""
    return array if is_readable(array) else array.astype(dtype)


def has_samples(name: str, array: Any) -> None:
    if len(array) == 0:
        raise ValueError(f"{name}: expected at least one row, got shape {array.shape}")


def integer(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> int:
    """An integer from `low` to `high`."""
    if not isinstance(value, (int, numbers.Integral)) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected an integer, got {value!r}")
    result = int(value)
    if not low <= result <= high:
        wanted = f"from {low} up" if high == math.inf else f"from {low} to {high}"
        raise ValueError(f"{name}: expected an integer {wanted}, got {result}")
    return result


def known_name(name: str, value: str, known: Iterable[str]) -> None:
    """One of the known names; the error lists them, and the nearest."""
    known = list(known)
    if value not in known:
        import difflib  # here, since errors alone need it

        near = difflib.get_close_matches(value.lower(), known, n=1)
        meant = f", did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"{name}: unknown name {value!r}{meant} Known: {', '.join(known)}")


def layer_sizes(name: str, value: Any) -> tuple[int, ...]:
    """Units of every layer, inputs first."""
    try:
        sizes = tuple(value)
    except TypeError:
        raise TypeError(f"{name}: expected a list of layer sizes, got {value!r}") from None
    if len(sizes) < 2:
        raise ValueError(f"{name}: expected at least two sizes, inputs and outputs, got {list(sizes)}")
    return tuple(integer(f"{name}[{i}]", size, low=1) for i, size in enumerate(sizes))


def float_dtype(name: str, value: Any) -> np.dtype[Any]:
    """float32 or float64, in any spelling."""
    spelled = names.dtype_name(value)
    try:
        dtype: np.dtype[Any] = np.dtype(spelled if spelled in ("float32", "float64") else value)
    except TypeError:
        dtype = np.dtype(np.void)
    if value is None or dtype.char not in "fd" or not dtype.isnative:
        hint = ""
        if spelled in ("bfloat16", "float16"):
            hint = "; products of 16 bits, beside weights in float32, are MLP(..., compute_dtype='bfloat16')"
        raise TypeError(f"{name}: expected float32 or float64, got {value!r}{hint}")
    return dtype


def compute_dtype(name: str, value: Any, dtype: np.dtype[Any], models: str | None = None) -> str | None:
    """None or "bfloat16", in any spelling, which goes with float32; `models` is that of a model that is
    there, for which None stands."""
    if value is None:
        return None
    spelled = names.dtype_name(value)
    if spelled != "bfloat16":
        hint = ""
        if spelled == dtype.name and models is not None:
            hint = (f"; None computes in {models}, as the model does, and one made without compute_dtype, "
                    f"with these weights and biases, computes in {spelled}")
        elif spelled == dtype.name:
            hint = f"; None computes in {spelled}, the dtype of the model"
        elif spelled == "float16":
            hint = "; float16 would need losses to be scaled, and bfloat16 has the range of float32"
        raise ValueError(f"{name}: expected None or 'bfloat16', got {value!r}{hint}")
    if dtype != np.float32:
        raise ValueError(f"{name}: 'bfloat16' goes with dtype float32, got {dtype.name}")
    return "bfloat16"


def is_int8(name: str, value: Any, dtype: np.dtype[Any]) -> bool:
    """Whether a handle's dtype is int8, which goes with a float32 model, and not None."""
    if value is None:
        return False
    try:
        known = np.dtype(value) == np.int8
    except TypeError:
        known = False
    if not known:
        raise ValueError(f"{name}: expected None or 'int8', got {value!r}")
    if dtype != np.float32:
        raise ValueError(f"{name}: 'int8' goes with a model of dtype float32, got {dtype.name}")
    return True


def seed(name: str, value: Any) -> int | None:
    """A seed of NumPy's random generator."""
    return None if value is None else integer(name, value, low=0)
