"""What `fit` says of data and settings with which training goes badly: a warning at the user's own line."""
from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from types import FrameType

__all__ = ["TrainingWarning", "warn"]

PACKAGE = f"{Path(__file__).parent.parent}{os.sep}"


class TrainingWarning(RuntimeWarning):
    """Warning of data or settings with which training goes badly.

    Its text says what was seen, and a line of code that mends it. The model is trained as it was asked for.

    Notes
    -----
    Once for a call of `MLP.fit`: of inputs or targets whose scale hurts, of labels 0 and 1 that are taken for
    real values, of a first epoch far worse than guessing.
    ``warnings.simplefilter("ignore", fastmlp.TrainingWarning)`` silences it.

    Examples
    --------
    >>> issubclass(TrainingWarning, RuntimeWarning)
    True
    """


def warn(message: str, frame: FrameType | None = None) -> None:
    """A TrainingWarning at the first line outside of this library, from a frame of it outwards; without a
    frame, from the caller's."""
    frame = sys._getframe(1) if frame is None else frame
    while frame.f_back is not None and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    names = frame.f_globals
    warnings.warn_explicit(message, TrainingWarning, frame.f_code.co_filename, frame.f_lineno or 1,
                           names.get("__name__"), names.setdefault("__warningregistry__", {}))
