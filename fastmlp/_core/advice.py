"""The category of what `fit` says of data and settings with which training goes badly."""
from __future__ import annotations

__all__ = ["TrainingWarning"]


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
