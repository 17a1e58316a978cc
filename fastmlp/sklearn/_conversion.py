"""Estimators that scikit-learn has made, as estimators of this library."""
from __future__ import annotations

import copy
from typing import Any

from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor

from fastmlp.sklearn._classifier import MLPClassifier
from fastmlp.sklearn._regressor import MLPRegressor

__all__ = ["PAIRS", "from_sklearn", "make_original"]

PAIRS: dict[type, type] = {TheirClassifier: MLPClassifier, TheirRegressor: MLPRegressor}


def from_sklearn(estimator: Any) -> Any:
    """Convert an estimator of scikit-learn into one of this library, with all that it has learned.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Estimator of ``sklearn.neural_network``, fitted or not. It stays as it is.

    Returns
    -------
    MLPClassifier or MLPRegressor
        Estimator of ``fastmlp.sklearn`` with the same parameters and fitted attributes. Its predictions are
        the same up to rounding, and ``partial_fit`` goes on with the state of the optimizer.

    Raises
    ------
    TypeError
        For anything else, and for an object of a subclass.
    ValueError
        For an estimator with a parameter that only scikit-learn's class takes.

    See Also
    --------
    patch : Have all estimators that are unpickled converted.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.neural_network import MLPRegressor
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> theirs = MLPRegressor(solver="lbfgs", random_state=0).fit(X, X[:, 0])
    >>> ours = from_sklearn(theirs)
    >>> type(ours).__module__, bool(np.allclose(ours.predict(X), theirs.predict(X)))
    ('fastmlp.sklearn._regressor', True)
    """
    if type(estimator) in PAIRS.values():
        return copy.deepcopy(estimator)
    ours = PAIRS.get(type(estimator))
    if ours is None:
        raise TypeError("estimator: expected an MLPClassifier or MLPRegressor of sklearn.neural_network, got "
                        f"{type(estimator).__module__}.{type(estimator).__qualname__}")
    result: Any = object.__new__(ours)
    result.__setstate__(copy.deepcopy(estimator.__getstate__()))
    return result


def make_original(name: str) -> Any:
    """An object of scikit-learn's class of this name, without attributes, for pickle."""
    theirs = {cls.__name__: cls for cls in PAIRS}[name]
    return object.__new__(theirs)
