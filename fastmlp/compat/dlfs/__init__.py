"""The ``common`` folder of the book "Deep learning from scratch" (K. Saito, O'Reilly Japan), on the kernels.

The modules have the book's names, and so have the classes and functions in them: same arguments, same
attributes, same arrays shared or changed in place, and results that are equal to rounding.

- ``layers``: ``Affine``, ``Relu``, ``Sigmoid``, ``SoftmaxWithLoss``, ``Dropout``, ``BatchNormalization``
- ``functions``, ``gradient``, ``optimizer``, ``util``
- ``multi_layer_net``, ``multi_layer_net_extend``, ``trainer``

``Convolution`` and ``Pooling`` are not fully connected, and say so when they are made. A program of the book
runs as it is, with ``common`` replaced::

    python -m fastmlp.compat.dlfs train_neuralnet.py

In a notebook, `patch` does the same for the imports that follow.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType

__all__ = ["MODULES", "patch"]

MODULES = ("functions", "gradient", "layers", "multi_layer_net", "multi_layer_net_extend", "optimizer",
           "trainer", "util")


def patch(name: str = "common") -> None:
    """Make imports of the book's package give the modules here.

    Parameters
    ----------
    name : str, default "common"
        Name under which the package is imported.

    Raises
    ------
    TypeError
        For a name that is not a string.
    ValueError
        For a name that is not an identifier.

    Notes
    -----
    Names that were imported before stay what they are, so call it first. Modules that the reader's own folder
    of this name has beside the book's are imported from there.

    References
    ----------
    https://github.com/oreilly-japan/deep-learning-from-scratch

    Examples
    --------
    >>> patch("common")
    >>> from common.layers import Affine
    >>> Affine.__module__
    'fastmlp.compat.dlfs.layers'
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a string, got {name!r}")
    if not name.isidentifier():
        raise ValueError(f"name: expected the name of a package, got {name!r}")
    package = ModuleType(name, __doc__)
    package.__path__ = _Folders(name)       # type: ignore[assignment]
    sys.modules[name] = package
    for module in MODULES:
        sys.modules[f"{name}.{module}"] = import_module(f"{__name__}.{module}")
        setattr(package, module, sys.modules[f"{name}.{module}"])


class _Folders:
    """Where the reader's package of this name may be: looked up at every import of a module that is not here,
    since programs of the book extend the path first."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __iter__(self) -> Iterator[str]:
        for entry in sys.path:
            folder = os.path.join(entry or os.getcwd(), self.name)
            if os.path.isdir(folder):
                yield folder
