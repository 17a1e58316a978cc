"""Estimators in the place of scikit-learn's: the same interface, the same numbers, faster.

``from fastmlp.sklearn import MLPClassifier`` takes the place of ``from sklearn.neural_network import
MLPClassifier``. With the same parameters and the same `random_state`, training takes the same steps; what
these estimators do beyond scikit-learn's are further keywords, whose defaults change nothing. For code that
stays as it is there are `patch`, and ``python -m fastmlp.sklearn script.py``.
"""
from __future__ import annotations

try:
    from sklearn.utils.validation import validate_data as _needs_1_6
except ImportError as error:
    raise ImportError(f'fastmlp.sklearn: needs scikit-learn >= 1.6 ({error}); pip install "fastmlp[sklearn]"'
                      ) from None

from fastmlp.sklearn._classifier import MLPClassifier
from fastmlp.sklearn._conversion import from_sklearn
from fastmlp.sklearn._patch import patch, unpatch
from fastmlp.sklearn._regressor import MLPRegressor
from fastmlp.sklearn._skl2onnx import register_skl2onnx

del _needs_1_6

__all__ = ["MLPClassifier", "MLPRegressor", "from_sklearn", "patch", "register_skl2onnx", "unpatch"]
