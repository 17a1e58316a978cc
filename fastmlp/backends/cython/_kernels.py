"""The kernel modules of the active instruction set, and which arguments they take as they are."""
from __future__ import annotations

import functools
import sys
from typing import Any

import numpy as np

from fastmlp._core import callers
from fastmlp.activations import BY_NAME, resolve
from fastmlp.kernels import (
    active_bfloat16,
    active_isa,
    available_bfloat16,
    available_isas,
    bfloat16_module,
    int8_in_use,
    module,
    unfit_bfloat16,
    unfit_int8,
)
from fastmlp.optimizers import adam_rates


class _Kernels(dict[str, Any]):
    """By the character of a dtype, or "bfloat16"; whoever first asks for those of float64 imports them."""

    def __missing__(self, char: str) -> Any:
        if char != "d":
            raise KeyError(char)
        kernels = module("float64")
        _introduce(kernels, "float64", None)
        _introduce(SHORT, "float32", kernels)
        self[char] = kernels
        return kernels


class _Float64:
    """In the place of the module of float64, until it is imported."""

    def __getattr__(self, name: str) -> Any:
        return getattr(KERNELS["d"], name)


def _introduce(kernels: Any, dtype: str, sibling: Any) -> None:
    kernels.introduce(np.ndarray, np.dtype(dtype), np.empty, resolve, _CODES, adam_rates, sibling)


Array = np.ndarray
SHORT: Any = module("float32")      # short ways in, written in C: float32 first, then float64
KERNELS = _Kernels(f=SHORT)
_CODES = {name: (cls.code, cls().alpha) for name, cls in BY_NAME.items()}
_introduce(SHORT, "float32", _Float64())
_REALS = (np.dtype(np.float32), np.dtype(np.float64))
_LABELS = np.dtype(np.intp)
_WEIGHTS = np.dtype(np.float64)
LARGEST = sys.float_info.max        # integers have no end


def kernels_of(dtype: np.dtype[Any], compute_dtype: str | None) -> Any:
    """The kernels of a model; those of bfloat16 are imported by the first one that computes in it."""
    if compute_dtype is None:
        return KERNELS[dtype.char]
    if compute_dtype not in KERNELS:
        kernels = bfloat16_module()
        if unfit_bfloat16():
            message = _unfit("compute_dtype: bfloat16", unfit_bfloat16(), active_bfloat16())
            callers.warn(message, RuntimeWarning)
        elif available_bfloat16()[0] == "fma":
            callers.warn(_slow(active_isa(), available_bfloat16(available_isas()[0])[0]), RuntimeWarning)
        _introduce(kernels, "float32", None)
        KERNELS[compute_dtype] = kernels
    return KERNELS[compute_dtype]


@functools.cache
def int8_by() -> str:
    """What multiplies 8-bit integers; the first call says what cannot be used."""
    active = int8_in_use()
    if unfit_int8():
        callers.warn(_unfit("dtype: int8", unfit_int8(), active), RuntimeWarning)
    return active


def _unfit(what: str, failed: dict[str, str], active: str) -> str:
    """What is said of what the processor has for bfloat16 or int8, and cannot be used.

    >>> _unfit("dtype: int8", {"amx": "no tiles"}, "avx512_vnni")
    "dtype: int8 by 'amx' failed (no tiles); 'avx512_vnni' computes the same bits in its place"
    """
    names = ", by ".join(f"{name!r} failed ({why})" for name, why in failed.items())
    return f"{what} by {names}; {active!r} computes the same bits in its place"


def _slow(isa: str, fastest: str) -> str:
    """What is said of products in FMAs; `fastest`: what the best instruction set of the processor has.

    >>> _slow("avx2", "fma")[:83]
    'compute_dtype: this processor has nothing faster for bfloat16 than FMAs in float32;'
    """
    who = "this processor"
    if fastest != "fma":
        who = f"the instruction set {isa!r}, which FASTMLP_ISA asks for,"
    bits = ("on 'portable', results differ from those of other instruction sets in their last bits, and "
            "float32 is as fast")
    if isa != "portable":
        bits = "they give the same bits, about as fast as float32"
    more = "" if fastest == "fma" else f"; without FASTMLP_ISA, this processor has {fastest!r}"
    return f"compute_dtype: {who} has nothing faster for bfloat16 than FMAs in float32; {bits}{more}"


def plain(*arrays: Any) -> bool:
    """Whether these are reals as typed memoryviews take them: NumPy arrays proper (a masked array would lose
    its mask), C-contiguous, of one dtype that has kernels, in the byte order of the processor."""
    dtype = getattr(arrays[0], "dtype", None)
    if dtype not in _REALS:
        return False
    for array in arrays:        # a loop: all() costs a small call half a microsecond
        if type(array) is not Array or array.dtype != dtype or not array.flags.c_contiguous:
            return False
    return True


def ready(out: Any, *inputs: Any) -> bool:
    """Whether the inputs are plain, and `out`, if there is one, is plain like them and can be written."""
    return plain(*inputs) if out is None else plain(*inputs, out) and out.flags.writeable


def labels(targets: Any) -> bool:
    """Whether these are class indices as typed memoryviews take them."""
    return (type(targets) is Array and targets.dtype == _LABELS and targets.ndim == 1
            and targets.flags.c_contiguous)


def weights_of_rows(weights: Any) -> bool:
    """Whether these are weights of rows as typed memoryviews take them; None stands for 1."""
    return weights is None or (type(weights) is Array and weights.dtype == _WEIGHTS and weights.ndim == 1
                               and weights.flags.c_contiguous)


def numbers(*values: Any) -> bool:
    return all(type(value) in (float, int) for value in values)


def is_slope(alpha: Any) -> bool:
    return numbers(alpha) and 0 <= alpha <= LARGEST
