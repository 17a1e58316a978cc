"""The compiled kernels: one text, built once per instruction set and dtype, chosen once at import.

The best instruction set that was built and that this processor and operating system run is taken;
the environment variable ``FASTMLP_ISA`` forces one by name. Nothing falls back in silence: a name
that cannot be had is an error, and so is a kernel module that was built but cannot be imported.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

if find_spec("fastmlp.kernels._detect") is None:
    raise ImportError(
        f"the kernels of fastmlp are not built for this Python in {os.path.dirname(__file__)}: "
        "run `pip install .` or, to work in this folder, `pip install -e .`"
    )

from . import _detect

if TYPE_CHECKING:
    from .kernels import KernelModule

__all__ = ["active_isa", "available_isas", "load", "module"]

_DTYPES = {"float32": "f32", "float64": "f64"}


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
    """Return the active kernel module of a dtype.

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
    KeyError
        For another dtype.

    Examples
    --------
    >>> module("float32").ISA == active_isa()
    True
    """
    return _modules[dtype]


def _choose() -> str:
    """FASTMLP_ISA, or the best available instruction set where it is unset or empty."""
    return os.environ.get("FASTMLP_ISA") or available_isas()[0]


_active = _choose()
try:
    _modules = {dtype: load(_active, dtype) for dtype in _DTYPES}
except ValueError as error:
    raise ValueError(f"FASTMLP_ISA: {error}") from None
