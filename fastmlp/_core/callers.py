"""Warnings at the line of the user's that trains a model."""
from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastmlp.model import MLP

__all__ = ["warn"]

PACKAGE = f"{os.path.dirname(os.path.dirname(__file__))}{os.sep}"


def warn(model: MLP, message: str) -> None:
    """A RuntimeWarning there."""
    frame = model.core.lock.last().frame
    while frame is not None and frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    if frame is None:
        return warnings.warn(message, RuntimeWarning, stacklevel=3)
    module, names = frame.f_globals.get("__name__"), frame.f_globals
    warnings.warn_explicit(message, RuntimeWarning, frame.f_code.co_filename, frame.f_lineno or 1, module,
                           names.setdefault("__warningregistry__", {}))
