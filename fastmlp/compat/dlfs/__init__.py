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

import sys
from importlib import import_module

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
    Names that were imported before stay what they are, so call it first.

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
    sys.modules[name] = sys.modules[__name__]
    for module in MODULES:
        sys.modules[f"{name}.{module}"] = import_module(f"{__name__}.{module}")
