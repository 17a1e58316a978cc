"""Warnings as scikit-learn gives them: filters that programs have for its modules catch them."""
from __future__ import annotations

import warnings

from sklearn.exceptions import ConvergenceWarning

__all__ = ["warn_of_convergence"]


def warn_of_convergence(message: str) -> None:
    """A ConvergenceWarning in the name of the module whose class ours stands in for."""
    warnings.warn_explicit(message, ConvergenceWarning, __file__, 1, module="sklearn.neural_network")
