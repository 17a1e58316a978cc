"""What is installed and what it runs on."""
from __future__ import annotations

import os
import platform
from typing import Any

import numpy as np

from fastmlp import kernels
from fastmlp._core.threads import get_num_threads
from fastmlp.backends import get_backend
from fastmlp.version import __version__

__all__ = ["describe", "fma_peak", "show_config"]

# Settings of OpenBLAS, NumPy's usual library of matrix products, that may make it slower than it can be.
SLOWS_NUMPY = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


def show_config(measure: bool = False) -> None:
    """Print versions, instruction sets, backend, threads and caches.

    Parameters
    ----------
    measure : bool, default False
        Whether to measure and print the FMA peak, too, which takes half a second.

    Examples
    --------
    >>> show_config()  # doctest: +ELLIPSIS
    fastmlp            ...
    """
    for name, value in describe(measure).items():
        print(f"{name:<18} {value}")


def describe(measure: bool = False) -> dict[str, str]:
    """Return what `show_config` prints.

    Parameters
    ----------
    measure : bool, default False
        Whether to measure the FMA peak, too, which takes half a second.

    Returns
    -------
    dict {str: str}
        Name of a line and its value.

    Examples
    --------
    >>> describe()["backend"] in ("cython", "numpy")
    True
    """
    active = kernels.active_isa()
    isas = [f"{isa} (active)" if isa == active else isa for isa in kernels.available_isas()]
    lines = {
        "fastmlp": __version__,
        "Python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "NumPy": f"{np.__version__}, BLAS {_blas()}",
        "processor": _processor(),
        "instruction sets": ", ".join(isas),
        "bfloat16 by": _bfloat16(),
        "int8 by": _int8(),
        "backend": get_backend(),
        "threads": str(get_num_threads()),
        "caches": _caches() or "unknown",
    }
    for name in SLOWS_NUMPY:
        if name in os.environ:
            lines[name] = f"{os.environ[name]} (set: NumPy may be slower than it can be)"
    if measure:
        peaks = [f"{dtype} {fma_peak(dtype):.1f} GFLOP/s" for dtype in ("float32", "float64")]
        lines["FMA peak, a core"] = ", ".join(peaks)
    return lines


def fma_peak(dtype: str, seconds: float = 0.2) -> float:
    """Measure the speed of one core that does nothing but independent FMAs.

    One FMA counts as two operations. It uses the active instruction set.

    Parameters
    ----------
    dtype : {"float32", "float64"}
        Type of the numbers.
    seconds : float, default 0.2
        Time that it takes, in seconds.

    Returns
    -------
    float
        Speed in GFLOP/s, the best of many short runs: that of the moment, at whatever clock the machine runs.

    Examples
    --------
    >>> fma_peak("float32", 0.01) > 0
    True
    """
    return kernels.module(dtype).fma_peak(seconds)


def _bfloat16() -> str:
    """What computes products of bfloat16.

    >>> "(active)" in _bfloat16()
    True
    """
    kernels.bfloat16_module()       # after which it is known what can be used
    names = kernels.available_bfloat16()
    text = _chosen(names, kernels.active_bfloat16(), kernels.unfit_bfloat16())
    return text if names[0] != "fma" else f"{text}: FMAs in float32, about as fast as float32"


def _int8() -> str:
    """What multiplies 8-bit integers.

    >>> "(active)" in _int8()
    True
    """
    active = kernels.int8_in_use()
    return _chosen(kernels.available_int8(), active, kernels.unfit_int8())


def _chosen(names: list[str], active: str, unfit: dict[str, str]) -> str:
    """Names, with the active one marked, and what has failed.

    >>> _chosen(["avx512_vnni", "widened"], "avx512_vnni", {"amx": "other bits"})
    'avx512_vnni (active), widened; not amx: other bits'
    """
    text = ", ".join(f"{name} (active)" if name == active else name for name in names)
    return text + "".join(f"; not {name}: {why}" for name, why in unfit.items())


def _blas() -> str:
    """NumPy's library of matrix products, as far as NumPy says."""
    try:
        show: Any = np.show_config      # whose type, in NumPy 1, has no mode
        config = show(mode="dicts")
        blas = config["Build Dependencies"]["blas"]
        return f"{blas['name']} {blas.get('version', '')}".strip()
    except (KeyError, TypeError):
        return "unknown"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _caches() -> str:
    """The caches that the first processor sees, from Linux; empty elsewhere.

    >>> isinstance(_caches(), str)
    True
    """
    from pathlib import Path  # here, since it takes several milliseconds

    caches = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if not size.removesuffix("K").isdecimal():
            continue
        if kind != "Instruction":
            kib = int(size.removesuffix("K"))       # always in KiB: "32K", "32768K"
            amount = f"{kib // 1024} MiB" if kib % 1024 == 0 else f"{kib} KiB"
            caches.append(f"L{level}{'d' if kind == 'Data' else ''} {amount}")
    return ", ".join(caches)
