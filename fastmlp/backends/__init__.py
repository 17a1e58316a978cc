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
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmlp.backends.interface import Backend

__all__ = ["NAMES", "active", "get_backend", "set_backend", "use_backend"]

NAMES = ("cython", "numpy")

override: ContextVar[Backend | None] = ContextVar("fastmlp_backend", default=None)
process_wide: Backend | None = None     # before somebody needs it


def active() -> Backend:
    """Return the backend in force here.

    Returns
    -------
    module
        Backend, `fastmlp.backends.cython` or `fastmlp.backends.numpy`.

    Examples
    --------
    >>> active().__name__ in ("fastmlp.backends.cython", "fastmlp.backends.numpy")
    True
    """
    return override.get() or default()


def default() -> Backend:
    """Return the backend of the process, which the first call imports.

    Returns
    -------
    module
        Backend of `set_backend`, or else of FASTMLP_BACKEND.

    Examples
    --------
    >>> default().__name__ in ("fastmlp.backends.cython", "fastmlp.backends.numpy")
    True
    """
    global process_wide
    if process_wide is None:
        process_wide = _load(_chosen)
    return process_wide


def get_backend() -> str:
    """Return the name of the backend in force here.

    Returns
    -------
    str
        "cython" or "numpy".

    See Also
    --------
    set_backend : Choose the backend for the whole process.
    use_backend : Use a backend for one block.

    Examples
    --------
    >>> with use_backend("numpy"):
    ...     get_backend()
    'numpy'
    """
    return active().__name__.rpartition(".")[2]


def set_backend(name: str) -> None:
    """Choose the backend for the whole process.

    Parameters
    ----------
    name : {"cython", "numpy"}
        Name of the backend; "cython" is the default.

    Raises
    ------
    ValueError
        For an unknown name.
    ImportError
        Where the compiled backend was not built.

    Notes
    -----
    A `use_backend` block that is open here stays in force until it ends. Models keep the backend they were
    made with.

    Examples
    --------
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
    """Use a backend for one ``with`` block of this thread or task.

    After the block, the backend before it is in force again. Other threads, and threads started inside the
    block, keep the process-wide choice.

    Parameters
    ----------
    name : {"cython", "numpy"}
        Name of the backend.

    Yields
    ------
    None
        Nothing.

    Raises
    ------
    ValueError
        For an unknown name.
    ImportError
        Where the compiled backend was not built.

    Examples
    --------
    >>> before = get_backend()
    >>> with use_backend("numpy"):
    ...     get_backend()
    'numpy'
    >>> get_backend() == before
    True
    """
    backend, before = _load(name), override.get()
    try:
        override.set(backend)
        yield
    finally:
        override.set(before)        # not by a token, which an exception may keep from us


def named(name: str) -> Backend:
    """Return the backend of a name.

    Parameters
    ----------
    name : {"cython", "numpy"}
        Name of the backend.

    Returns
    -------
    module
        Backend.

    Raises
    ------
    ValueError
        For an unknown name.
    ImportError
        Where the compiled backend was not built.

    Examples
    --------
    >>> named("numpy").COMPILED
    False
    """
    return _load(name)


def _check(origin: str, name: str) -> None:
    if name not in NAMES:
        raise ValueError(f"{origin}: unknown name {name!r}, expected one of: {', '.join(NAMES)}")


def _load(name: str) -> Backend:
    _check("backend", name)
    backend: Any = import_module(f"{__name__}.{name}")
    return backend      # type: ignore[no-any-return]   # a module, which mypy takes for no Protocol


_chosen = os.environ.get("FASTMLP_BACKEND") or NAMES[0]
_check("FASTMLP_BACKEND", _chosen)
