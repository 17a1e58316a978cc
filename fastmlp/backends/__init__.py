"""The backends: two modules with the same functions and one class `Engine`.

`cython` is the compiled one, `numpy` the specification and the baseline. A backend is a module with every
array function of `fastmlp.functional` under the same name and signature, and the flag

    COMPILED    False: takes any strides, checks nothing; its arguments must have been checked.
                True: takes unchecked arguments, runs if all of them are plain (NumPy arrays of one dtype,
                aligned, C-contiguous, of the right shapes, results apart from inputs) and returns
                NotImplemented, with nothing changed, if they are not.

The choice is process-wide: `set_backend`, or the environment variable FASTMLP_BACKEND at import.
`use_backend` overrides it for one block, in the running thread or task only (it is a context variable):
other threads, and threads started inside the block, keep the process-wide choice.
"""
from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = ["NAMES", "active", "get_backend", "set_backend", "use_backend"]

NAMES = ("cython", "numpy")

override: ContextVar[ModuleType | None] = ContextVar("fastmlp_backend", default=None)
process_wide: ModuleType        # set at the end of this file


def active() -> Any:
    """The backend module in force here."""
    return override.get() or process_wide


def get_backend() -> str:
    """The name of the backend in force here, "cython" or "numpy".

    >>> with use_backend("numpy"):
    ...     get_backend()
    'numpy'
    """
    return str(active().__name__.rpartition(".")[2])


def set_backend(name: str) -> None:
    """Choose the backend for the whole process: "cython" (the default) or "numpy".

    A `use_backend` block that is open here stays in force until it ends. Models keep the backend they were
    made with.

    Raises ValueError for an unknown name, ImportError where the compiled backend was not built.

    >>> set_backend(get_backend())
    >>> set_backend("fortran")
    Traceback (most recent call last):
        ...
    ValueError: backend: unknown name 'fortran', expected one of: cython, numpy
    """
    global process_wide
    process_wide = _load(name)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Use a backend for one `with` block of this thread or task, then go back to the one before.

    Raises ValueError for an unknown name, ImportError where the compiled backend was not built.

    >>> before = get_backend()
    >>> with use_backend("numpy"):
    ...     get_backend()
    'numpy'
    >>> get_backend() == before
    True
    """
    token = override.set(_load(name))
    try:
        yield
    finally:
        override.reset(token)


def named(name: str) -> Any:
    """The backend module of a name; raises as `set_backend` does."""
    return _load(name)


def _load(name: str, origin: str = "backend") -> ModuleType:
    if name not in NAMES:
        raise ValueError(f"{origin}: unknown name {name!r}, expected one of: {', '.join(NAMES)}")
    return import_module(f"{__name__}.{name}")


process_wide = _load(os.environ.get("FASTMLP_BACKEND") or NAMES[0], origin="FASTMLP_BACKEND")
