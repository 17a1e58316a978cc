"""Packages that come with an extra: imported where they are used, and missed by a name one can install."""
from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["import_extra"]


def import_extra(package: str, user: str, extra: str = "") -> Any:
    """The package. Raises ImportError that says which extra brings it, for the function `user`.

    >>> import_extra("math", "f").pi > 3
    True
    >>> import_extra("no_such_package", "to_onnx", "onnx")
    Traceback (most recent call last):
        ...
    ImportError: to_onnx needs the package no_such_package: pip install "fastmlp[onnx]"
    """
    try:
        return import_module(package)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != package.partition(".")[0]:
            raise               # it is there, and misses something itself
        extra = extra or package
        raise ImportError(f'{user} needs the package {package}: pip install "fastmlp[{extra}]"',
                          name=package) from error
