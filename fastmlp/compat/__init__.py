"""Modules with the interfaces of well-known hand-written networks, on the kernels of fastmlp.

A program changes an import and keeps the rest:

    dlfs        the ``common`` folder of the book "Deep learning from scratch"
    cs231n      the layers, update rules, network and solver of the course CS231n
    thinc       an ``Ops`` of thinc, `use_ops("fastmlp")`
"""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import cs231n as cs231n
    from . import dlfs as dlfs
else:

    def __getattr__(name):
        if name in ("cs231n", "dlfs", "thinc"):         # imported at first use
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "cs231n", "dlfs"})       # thinc is an extra
