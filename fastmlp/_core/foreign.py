"""Arrays of other libraries as NumPy arrays; known by their methods, none is imported.

In this order: the buffer protocol and ``__array__``, which NumPy asks for itself, then DLPack. Where the
memory is the processor's and the dtype is one of NumPy's, nothing is copied. A tensor that requires gradients
is detached first: what fastmlp computes is not differentiated by others.
"""
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["to_numpy"]

READABLE_DEVICES = (1, 3, 11, 13)       # of DLPack: memory that the processor reads
METHODS = ("__array__", "__array_interface__", "__array_struct__", "__buffer__")


def to_numpy(name: str, value: Any) -> NDArray[Any]:
    """The array of `value`, as np.asarray gives it.

    Raises TypeError, naming the argument, for an array that NumPy cannot read: of another device, a dtype of
    its own, a sparse one. What np.asarray raises for lists is passed on.

    >>> to_numpy("x", [1, 2])
    array([1, 2])
    """
    if getattr(value, "requires_grad", False) and hasattr(value, "detach"):
        value = value.detach()
    speaks_dlpack = hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__")
    if speaks_dlpack and (device := _other_device(value)):
        raise TypeError(f"{name}: expected an array in the memory of the processor, got {_kind(value)} on "
                        f"{device}; copy it there first")
    try:
        if speaks_dlpack and not any(hasattr(value, method) for method in METHODS):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (TypeError, RuntimeError, BufferError) as error:
        raise TypeError(f"{name}: expected an array that NumPy can read, got {_kind(value)}: {error}"
                        ) from error


def _other_device(value: Any) -> str:
    """The name of the device, if its memory is not the processor's."""
    try:
        kind, number = value.__dlpack_device__()
    except (ValueError, TypeError, RuntimeError, BufferError):      # one that DLPack has no number for
        return str(getattr(value, "device", "another device"))
    return "" if kind in READABLE_DEVICES else str(getattr(value, "device", f"device {int(kind)}:{number}"))


def _kind(value: Any) -> str:
    """Class, and dtype if it has one."""
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ + ("" if dtype is None else f" of {dtype}")
