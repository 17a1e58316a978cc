"""Functions of packages that import a library of an extra, which is done when they are called."""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastmlp.sklearn import MLPClassifier, MLPRegressor

__all__ = ["from_sklearn"]


def from_sklearn(estimator: object) -> MLPClassifier | MLPRegressor:
    """Convert an estimator of scikit-learn into one of ``fastmlp.sklearn``, with all that it has learned.

    It needs scikit-learn: ``pip install "fastmlp[sklearn]"``. See `fastmlp.sklearn.from_sklearn`.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Estimator of ``sklearn.neural_network``, fitted or not. It stays as it is.

    Returns
    -------
    MLPClassifier or MLPRegressor
        Estimator of ``fastmlp.sklearn``; its ``model_`` is the `MLP`.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    TypeError
        For anything else, and for an object of a subclass.
    ValueError
        For an estimator with a parameter that only scikit-learn's class takes.

    Examples
    --------
    >>> import pytest
    >>> network = pytest.importorskip("sklearn.neural_network")
    >>> theirs = network.MLPRegressor(solver="lbfgs", random_state=0).fit([[0.0], [1.0]], [0, 1])
    >>> from_sklearn(theirs).coefs_[0].shape
    (1, 100)
    """
    converted: MLPClassifier | MLPRegressor = import_module("fastmlp.sklearn").from_sklearn(estimator)
    return converted
