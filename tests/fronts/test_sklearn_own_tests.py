"""scikit-learn's tests of its own MLPs, as installed, with our classes in the place of theirs."""
from __future__ import annotations

import importlib.util
import sys

import pytest

pytest.importorskip("sklearn")
pytest.importorskip("sklearn.neural_network.tests.test_mlp")

import sklearn.neural_network

from fastmlp.sklearn import MLPClassifier, MLPRegressor

NAME = "sklearn_tests_of_mlp_with_fastmlp"
PRIVATE = {
    "test_gradient": "calls their private method _loss_grad_lbfgs; tests/test_gradients.py has our gradients",
}


def own_tests():
    """Their module, made anew: the names it imports are ours."""
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(NAME, spec.origin))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sklearn.neural_network, "MLPClassifier", MLPClassifier)
        patch.setattr(sklearn.neural_network, "MLPRegressor", MLPRegressor)
        sys.modules[NAME] = module
        module.__spec__.loader.exec_module(module)
    return module


theirs = own_tests()
found = {name: value for name, value in vars(theirs).items() if name.startswith("test_")}
assert len(found) > 30
globals().update((name, value) for name, value in found.items() if name not in PRIVATE)


def test_these_are_ours():
    assert theirs.MLPClassifier is MLPClassifier and theirs.MLPRegressor is MLPRegressor


def test_what_is_left_out_exists():
    assert set(PRIVATE) <= set(found)


@pytest.fixture
def global_random_seed():
    return 42
