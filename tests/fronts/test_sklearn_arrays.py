"""coefs_ and intercepts_: without gaps as scikit-learn's, live in both directions, and deleted."""
from __future__ import annotations

import copy
import gc
import pickle
import tracemalloc
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


def through_the_loop(model):
    for coef in model.coefs_:
        coef *= 0


WRITES = {
    "slice": lambda model: model.coefs_[1].__setitem__(slice(None), 0),
    "item": lambda model: model.coefs_[1].__setitem__((0, 0), 5),
    "fill": lambda model: model.coefs_[1].fill(0.7),
    "copyto": lambda model: np.copyto(model.coefs_[1], 0.3),
    "out": lambda model: np.multiply(model.coefs_[1], 2, out=model.coefs_[1]),
    "view": lambda model: model.coefs_[1][:3].T.__imul__(-1),
    "in place": lambda model: model.coefs_.__setitem__(1, model.coefs_[1].__imul__(2)),
    "loop": through_the_loop,
    "assigned": lambda model: model.coefs_.__setitem__(1, np.full(model.coefs_[1].shape, 0.1)),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("width", [1, 3, 4, 8, 10])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_written_to_an_array_that_nobody_holds(dtype, width, write):
    """scikit-learn's estimator, begun with the same arrays and written to in the same way, is the measure."""
    rng = np.random.default_rng(width)
    x, y = rng.standard_normal((40, 4)).astype(dtype), rng.standard_normal((40, width)).astype(dtype)
    y = y.ravel() if width == 1 else y
    ours, theirs = (module(hidden_layer_sizes=(6,), random_state=0, max_iter=1, shuffle=False).fit(x, y)
                    for module in (MLPRegressor, neural_network.MLPRegressor))
    tolerance = {"rtol": 1e-3, "atol": 1e-4} if dtype == "float32" else {"rtol": 1e-8, "atol": 1e-10}
    for _ in range(2):              # the second time, after training has gone on
        for model in (ours, theirs):
            write(model)
        copies = pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)
        for model in (ours, *copies):
            assert_allclose(model.predict(x), theirs.predict(x), **tolerance)
        for model in (ours, theirs):
            write(model)
        for a, b, network in zip(ours.coefs_, theirs.coefs_, ours.model_.weights):
            assert_allclose(a, b, **tolerance)
            assert_array_equal(a, network)
        for model in (ours, theirs):
            write(model)
            model.partial_fit(x, y)
        for a, b in zip(ours.coefs_, theirs.coefs_):
            assert_allclose(a, b, **tolerance)
        assert_allclose(ours.predict(x), theirs.predict(x), **tolerance)


@pytest.mark.parametrize("width", [1, 4])
def test_the_network_has_what_was_written(width):
    model = MLPRegressor(hidden_layer_sizes=(6,), max_iter=1).fit(X, np.repeat(Y[:, None], width, axis=1))
    model.coefs_[1][:] = 3
    assert (model.model_.weights[1] == 3).all()
    held = model.coefs_[1]
    model.predict(X)
    held[:] = 4                 # and let go of, after the estimator has looked
    del held
    assert (model.model_.weights[1] == 4).all()
    view = model.coefs_[1].T[:1]
    model.predict(X)
    view[...] = 5
    del view
    model.predict(X)
    assert (model.model_.weights[1][:, 0] == 5).all() and (model.coefs_[1][:, 1:] == 4).all()


def test_mirrors_are_made_for_who_asks():
    """A fit needs none, and one that has served is let go of."""
    model = MLPRegressor(hidden_layer_sizes=(300,), max_iter=1, warm_start=True).fit(np.eye(50), np.eye(50))
    model.fit(np.eye(50), np.eye(50)).partial_fit(np.eye(50), np.eye(50))
    gc.collect()
    tracemalloc.start()
    try:
        model.fit(np.eye(50), np.eye(50)).predict(np.eye(50))
        before = tracemalloc.get_traced_memory()[0]
        model.coefs_[1].fill(0)
        assert tracemalloc.get_traced_memory()[0] - before > model.coefs_[1].nbytes
        model.predict(np.eye(50))
        assert not model.model_.weights[1].any()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 300 * 50 * 8
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_what_a_callback_writes_does_not_undo_what_is_learned_later(solver):
    seen = []

    def once(network, epoch, logs):
        if epoch == 0:
            model.coefs_[2][:] = 0
        seen.append(epoch)

    model = MLPClassifier(hidden_layer_sizes=(7, 40), max_iter=5, random_state=0, solver=solver,
                          callbacks=[once])
    model.fit(X, Y)
    assert len(seen) == 5 and model.coefs_[2].any()
    assert_array_equal(model.coefs_[2], model.model_.weights[2])


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
