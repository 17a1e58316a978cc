"""Warnings at the user's own line, and not at one of this library."""
from __future__ import annotations

import os
import sys
import warnings
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastmlp.model import MLP

__all__ = ["warn", "warn_of_training"]

PACKAGE = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")


def warn(message: str, category: type[Warning], frame: FrameType | None = None) -> None:
    """At the first line outside of this library, from a frame of it outwards; without a frame, from the
    caller's."""
    frame = sys._getframe(1) if frame is None else frame
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    names = frame.f_globals
    warnings.warn_explicit(message, category, frame.f_code.co_filename, frame.f_lineno or 1,
                           names.get("__name__"), names.setdefault("__warningregistry__", {}))


def warn_of_training(model: MLP, message: str) -> None:
    """A RuntimeWarning at the line that trains the model."""
    warn(message, RuntimeWarning, model.core.lock.last().frame)
