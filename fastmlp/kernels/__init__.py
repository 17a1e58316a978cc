"""The compiled kernels: one text, built once per instruction set and dtype, chosen once at import.

The best instruction set that was built and that this processor and operating system run is taken;
the environment variable ``FASTMLP_ISA`` forces one by name. Nothing falls back in silence: a name
that cannot be had is an error, and so is a kernel module that was built but cannot be imported.

Products of bfloat16 have modules of their own, of which one is imported when a model asks for it. What they
are computed with is chosen at import, too: the fastest that this processor has, or FASTMLP_BF16. Before it is
used for the first time, it has to give the bits of a known answer; if it does not, the next one takes its
place, or, where FASTMLP_BF16 asks for it, the import fails. The same goes for what multiplies 8-bit integers,
in the modules of float32: FASTMLP_INT8.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

if find_spec("fastmlp.kernels._detect") is None:
    if not os.path.isdir(os.path.dirname(__file__)):
        raise ImportError("compiled modules cannot be imported from an archive, "
                          f"{os.path.dirname(__file__)}: install fastmlp in a folder")
    raise ImportError(
        f"the kernels of fastmlp are not built for this Python in {os.path.dirname(__file__)}: "
        "run `pip install .` or, to work in this folder, `pip install -e .`"
    )

from . import _detect, _known_answer
from ._choice import Choice

if TYPE_CHECKING:
    from .kernels import KernelModule

__all__ = ["active_bfloat16", "active_int8", "active_isa", "available_bfloat16", "available_int8",
           "available_isas", "bfloat16_module", "int8_in_use", "load", "load_bfloat16", "load_int8",
           "module", "unfit_bfloat16", "unfit_int8"]

_DTYPES = {"float32": "f32", "float64": "f64"}
# The instruction sets of which these are extensions.
_BESIDE = {"amx": "avx512", "avx512_bf16": "avx512", "amx_emulated": "avx512", "avx512_vnni": "avx512",
           "avx_vnni": "avx2", "neon_dotprod": "neon"}
# What uses tiles, which the operating system may refuse, and the kernels have not met on any processor yet.
_OF_TILES = ("amx", "amx_emulated")


def available_isas() -> list[str]:
    """Return the instruction sets that were built and that this machine runs.

    Returns
    -------
    list of str
        Names, best first.

    Examples
    --------
    >>> "portable" in available_isas()
    True
    """
    supported = _detect.supported()
    return [isa for isa in _detect.built() if supported[isa]]


def load(isa: str, dtype: str) -> KernelModule:
    """Return the kernel module of one instruction set and dtype.

    Parameters
    ----------
    isa : str
        Name of the instruction set; one of `available_isas`.
    dtype : {"float32", "float64"}
        Type of the numbers.

    Returns
    -------
    module
        Compiled kernels.

    Raises
    ------
    ValueError
        For a name that is unknown, not built, or not supported by this machine.
    ImportError
        Where a module that was built cannot be imported.

    Examples
    --------
    >>> load("portable", "float64").DTYPE
    'float64'
    """
    if dtype not in _DTYPES:
        raise ValueError(f"dtype {dtype!r}: expected one of {', '.join(_DTYPES)}")
    if isa not in available_isas():
        if isa not in _detect.supported():
            why = "no such instruction set"
        elif isa not in _detect.built():
            why = "not built into this installation"
        else:
            why = "not supported by this processor and operating system"
        raise ValueError(f"instruction set {isa!r}: {why}; available here: {', '.join(available_isas())}")
    return cast("KernelModule", import_module(f"{__name__}.{isa}_{_DTYPES[dtype]}"))


def available_bfloat16(isa: str | None = None) -> list[str]:
    """Return what can compute products of bfloat16 here, with the same bits.

    Parameters
    ----------
    isa : str, optional
        Name of the instruction set; the active one if not given.

    Returns
    -------
    list of str
        Names, fastest first: "amx" are the tiles of AMX, "avx512_bf16" is AVX512-BF16 (on Intel's processors
        slower than FMAs), "fma" are FMAs in float32 of any instruction set.

    Examples
    --------
    >>> "fma" in available_bfloat16()
    True
    """
    supported, isa = _detect.supported_bf16(), isa or _active
    names = [name for name in _detect.built_bf16()
             if supported[name][0] and name not in _bfloat16.unfit and _BESIDE.get(name, isa) == isa]
    return sorted(names, key=lambda name: name != "fma" and not supported[name][1])


def load_bfloat16(isa: str, name: str) -> KernelModule:
    """Return the kernel module of an instruction set whose products are of bfloat16.

    Parameters
    ----------
    isa : str
        Name of the instruction set; one of `available_isas`.
    name : str
        What they are computed with; one of `available_bfloat16`.

    Returns
    -------
    module
        Compiled kernels, whose arrays are float32.

    Raises
    ------
    ValueError
        For a name that is unknown, not built, or not supported by this machine.
    ImportError
        Where a module that was built cannot be imported.

    Examples
    --------
    >>> load_bfloat16("portable", "fma").BF16
    'fma'
    """
    load(isa, "float32")
    _bfloat16.require(isa, name)
    module_name = name if name.startswith(isa) else f"{isa}_bf16_{name}"
    return cast("KernelModule", import_module(f"{__name__}.{module_name}"))


def _is_refused(name: str) -> bool:
    return name == "amx" and not _detect.gets_tiles()


def _is_right_in_bfloat16(isa: str, name: str) -> bool:
    return name == "fma" or _known_answer.is_given_by(load_bfloat16(isa, name))


def _is_right_in_int8(isa: str, name: str) -> bool:
    return name not in _OF_TILES or _known_answer.is_given_in_int8_by(load_int8(isa, name), name)


def active_bfloat16() -> str:
    """Return what computes products of bfloat16.

    Returns
    -------
    str
        Name: FASTMLP_BF16, or the fastest of `available_bfloat16`. After the first call of `bfloat16_module`
        it may be another one, see there.

    Examples
    --------
    >>> active_bfloat16() in available_bfloat16()
    True
    """
    return _bfloat16.active


def bfloat16_module() -> KernelModule:
    """Return the active kernel module whose products are of bfloat16; the first call imports it.

    Returns
    -------
    module
        Compiled kernels, whose arrays are float32.

    Notes
    -----
    The first call also computes products whose bits are known. What gives others, or is not given tiles by
    the operating system, goes to `unfit_bfloat16`, and the next of `available_bfloat16` becomes active.

    Examples
    --------
    >>> bfloat16_module().BF16 == active_bfloat16()
    True
    """
    return load_bfloat16(_active, _bfloat16.settle(_active))


def unfit_bfloat16() -> dict[str, str]:
    """Return what this processor has for products of bfloat16, and is not used since it failed.

    Returns
    -------
    dict {str: str}
        Name and reason; empty before `bfloat16_module` has been called.

    Examples
    --------
    >>> unfit_bfloat16()
    {}
    """
    return dict(_bfloat16.unfit)


def available_int8(isa: str | None = None) -> list[str]:
    """Return what can multiply 8-bit integers here, with the same bits.

    Parameters
    ----------
    isa : str, optional
        Name of the instruction set; the active one if not given.

    Returns
    -------
    list of str
        Names, fastest first: "amx" are the tiles of AMX, "avx512_vnni" and "avx_vnni" are VPDPBUSD, beside
        AVX-512 and AVX2, "neon_dotprod" is SDOT; "widened" multiplies in 16 or 32 bits, on any instruction
        set.

    Examples
    --------
    >>> "widened" in available_int8()
    True
    """
    supported, isa = _detect.supported_int8(), isa or _active
    return [name for name in _detect.built_int8()
            if supported[name] and name not in _int8.unfit and _BESIDE.get(name, isa) == isa]


def load_int8(isa: str, name: str) -> KernelModule:
    """Return the kernel module of an instruction set, in which `name` may multiply 8-bit integers.

    Parameters
    ----------
    isa : str
        Name of the instruction set; one of `available_isas`.
    name : str
        What multiplies; one of `available_int8`.

    Returns
    -------
    module
        Compiled kernels of float32, with `name` among their MULTIPLIERS.

    Raises
    ------
    ValueError
        For a name that is unknown, not built, or not supported by this machine.
    ImportError
        Where a module that was built cannot be imported.

    Examples
    --------
    >>> "widened" in load_int8("portable", "widened").MULTIPLIERS
    True
    """
    kernels = load(isa, "float32")
    _int8.require(isa, name)
    return kernels


def active_int8() -> str:
    """Return what multiplies 8-bit integers.

    Returns
    -------
    str
        Name: FASTMLP_INT8, or the fastest of `available_int8`. After the first call of `int8_in_use` it may
        be another one, see there.

    Examples
    --------
    >>> active_int8() in available_int8()
    True
    """
    return _int8.active


def int8_in_use() -> str:
    """Return what multiplies 8-bit integers, once it can be relied on.

    Returns
    -------
    str
        `active_int8`.

    Notes
    -----
    The first call has "amx" compute products whose bits are known. If it gives others, or is not given tiles
    by the operating system, it goes to `unfit_int8`, and the next of `available_int8` becomes active.

    Examples
    --------
    >>> int8_in_use() == active_int8()
    True
    """
    return _int8.settle(_active)


def unfit_int8() -> dict[str, str]:
    """Return what this processor has for 8-bit integers, and is not used since it failed.

    Returns
    -------
    dict {str: str}
        Name and reason; empty before `int8_in_use` has been called.

    Examples
    --------
    >>> unfit_int8()
    {}
    """
    return dict(_int8.unfit)


def active_isa() -> str:
    """Return the instruction set whose kernels run.

    Returns
    -------
    str
        Name of the instruction set: FASTMLP_ISA, or the best available one.

    Examples
    --------
    >>> active_isa() in available_isas()
    True
    """
    return _active


def module(dtype: str) -> KernelModule:
    """Return the active kernel module of a dtype; the first call for float64 imports it.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        Type of the numbers.

    Returns
    -------
    module
        Compiled kernels.

    Raises
    ------
    ValueError
        For another dtype.
    ImportError
        Where a module that was built cannot be imported.

    Examples
    --------
    >>> module("float32").ISA == active_isa()
    True
    """
    if dtype not in _modules:
        _modules[dtype] = load(_active, dtype)
    return _modules[dtype]


def _choose() -> str:
    """FASTMLP_ISA, or the best available instruction set where it is unset or empty."""
    asked, available = os.environ.get("FASTMLP_ISA"), available_isas()
    if not asked and not available:
        raise ImportError(
            f"the kernels of fastmlp in {os.path.dirname(__file__)} are built for "
            f"{', '.join(_detect.built())} alone, which does not run here: build without FASTMLP_BUILD_ISAS")
    return asked or available[0]


_active = _choose()
try:
    _modules = {"float32": load(_active, "float32")}
except ValueError as error:
    raise ValueError(f"FASTMLP_ISA: {error}") from None

_bfloat16 = Choice("bfloat16", "FASTMLP_BF16", available_bfloat16, lambda: _detect.supported_bf16(),
                   lambda: _detect.built_bf16(), _is_refused, _is_right_in_bfloat16)
_int8 = Choice("int8", "FASTMLP_INT8", available_int8, lambda: _detect.supported_int8(),
               lambda: _detect.built_int8(), _is_refused, _is_right_in_int8)
_bfloat16.choose(_active)
_int8.choose(_active)
