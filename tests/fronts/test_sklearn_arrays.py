"""coefs_ and intercepts_: without gaps as scikit-learn's, live in both directions, and deleted."""
from __future__ import annotations

import copy
import gc
import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("sklearn")

from sklearn import neural_network
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

from fastmlp.sklearn import MLPClassifier, MLPRegressor

X, Y = load_iris(return_X_y=True)
NARROW = {"hidden_layer_sizes": (7, 40), "max_iter": 5, "random_state": 0}


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_without_gaps(cls, dtype, solver):
    model = cls(**NARROW, solver=solver).fit(X.astype(dtype), Y)
    assert any(not w.flags.c_contiguous for w in model.model_.weights)      # or there is nothing to test
    for array, own in zip(model.coefs_, model.model_.weights):
        assert array.flags.c_contiguous and array.flags.writeable and array.dtype == dtype
        assert_array_equal(array, own)
        assert memoryview(array).cast("B").nbytes == array.size * array.itemsize
    assert all(array.flags.c_contiguous for array in model.intercepts_)


def test_what_is_written_is_predicted_with():
    model = MLPClassifier(**NARROW).fit(X, Y)
    held = model.coefs_
    before = model.predict_proba(X)
    kept = [array.copy() for array in held]
    for array in held:
        array[...] = 0
    assert len(np.unique(model.predict_proba(X), axis=0)) == 1
    assert not any(w.any() for w in model.model_.weights)
    for array, old in zip(held, kept):
        array[...] = old
    assert_array_equal(model.predict_proba(X), before)
    held[0][0, 0] = np.nan
    model.predict_proba(X[:1] * 0 + 1)
    assert np.isnan(model.coefs_[0][0, 0]) and np.isnan(model.model_.weights[0][0, 0])


def test_what_is_learned_is_seen():
    model = MLPClassifier(**NARROW).fit(X, Y)
    held = [*model.coefs_]
    kept = [array.copy() for array in held]
    model.partial_fit(X, Y)
    for array, old, own in zip(held, kept, model.model_.weights):
        assert (array != old).any()
        assert_array_equal(array, own)
    model.model_.weights[2][...] = 3        # behind the estimator's back
    assert (model.coefs_[2] == 3).all() and (held[2] == 3).all()
    model.coefs_[2] = np.full((40, 3), 4.0)
    assert (held[2] == 4).all() and (model.model_.weights[2] == 4).all()
    model.coefs_ = kept
    assert_array_equal(held[2], kept[2])
    with pytest.raises(ValueError, match=r"weights\[2\]: expected shape \(40, 3\)"):
        model.coefs_[2] = np.ones((3, 3))
    assert_array_equal(held[2], kept[2])


def test_training_begins_where_was_written():
    twins = [MLPClassifier(**NARROW, warm_start=True).fit(X, Y) for _ in range(2)]
    for model, way in zip(twins, (lambda m: m.coefs_[2].fill(0.5), lambda m: m.model_.weights[2].fill(0.5))):
        held = model.coefs_
        way(model)
        model.fit(X, Y)
        assert_array_equal(held[2], model.model_.weights[2])
    assert_array_equal(twins[0].coefs_[2], twins[1].coefs_[2])


def test_what_nobody_holds_costs_nothing():
    model = MLPClassifier(**NARROW).fit(X, Y)
    size = len(pickle.dumps(model))
    held = model.coefs_
    held[2][...] = 0.25
    assert len(pickle.dumps(model)) == size
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert (twin.coefs_[2] == 0.25).all() and twin.coefs_[2] is not held[2]
    del held
    gc.collect()
    model.predict(X)
    assert (model.coefs_[2] == 0.25).all()


def test_another_activation_keeps_them_live():
    model = MLPClassifier(**NARROW).fit(X, Y)
    held = model.coefs_
    model.set_params(activation="tanh").predict(X)
    held[2][...] = 0
    assert len(np.unique(model.predict(X))) == 1


@pytest.mark.parametrize("name", ["coefs_", "intercepts_"])
def test_deleted(name):
    ours, theirs = (module(**NARROW, warm_start=True).fit(X, Y)
                    for module in (MLPClassifier, neural_network.MLPClassifier))
    for model in (ours, theirs):
        delattr(model, name)
        assert not hasattr(model, name) and hasattr(model, "classes_")
        with pytest.raises(AttributeError, match=name):
            delattr(model, name)
        with pytest.raises(AttributeError, match=name):
            model.predict(X)
    other = "intercepts_" if name == "coefs_" else "coefs_"
    for a, b in zip(getattr(ours, other), getattr(theirs, other)):
        assert_allclose(a, b)
    if name == "coefs_":            # by which scikit-learn knows whether to begin anew
        for a, b in zip(ours.fit(X, Y).coefs_, theirs.fit(X, Y).coefs_):
            assert_allclose(a, b)
