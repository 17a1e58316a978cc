"""`compute_dtype="bfloat16"` of the estimators: float32 networks whose products are rounded."""
from __future__ import annotations

import copy
import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("sklearn")

from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp
from fastmlp.sklearn import MLPClassifier, MLPRegressor, from_sklearn, patch

X, Y = load_digits(return_X_y=True)
X, Y = (X[:300] / 16).astype(np.float32), Y[:300]
FAST = {"hidden_layer_sizes": (12,), "max_iter": 5, "random_state": 0, "learning_rate_init": 0.01}
BF16 = {**FAST, "compute_dtype": "bfloat16"}
BOTH = pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor])


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # of convergence, and of processors without bfloat16
        yield


@BOTH
@pytest.mark.parametrize("options", [{}, {"solver": "sgd", "learning_rate": "adaptive"},
                                     {"early_stopping": True}, {"solver": "lbfgs"},
                                     {"optimizer": fastmlp.AdamW(0.01)},
                                     {"dropout": 0.2, "batch_norm": True}],
                         ids=str)
def test_it_trains_like_float32(cls, options):
    plain, rounded = (cls(**parameters, **options).fit(X, Y) for parameters in (FAST, BF16))
    assert rounded.model_.compute_dtype == "bfloat16" and rounded.coefs_[0].dtype == np.float32
    assert plain.model_.compute_dtype is None
    assert (plain.coefs_[0] != rounded.coefs_[0]).any()
    assert rounded.loss_ == pytest.approx(plain.loss_, rel=0.1)


def test_it_is_the_library_that_rounds():
    """One epoch without shuffling is that of a model with the same weights."""
    start = MLPRegressor(**{**BF16, "max_iter": 1, "shuffle": False, "alpha": 0.0, "solver": "sgd",
                            "momentum": 0.0, "learning_rate_init": 1e-30}).fit(X, Y)
    model = copy.deepcopy(start.model_)
    start.set_params(learning_rate_init=0.05, warm_start=True, batch_size=50).fit(X, Y)
    model.fit(X, Y[:, None], epochs=1, batch_size=50, shuffle=False, progress=False,
              optimizer=fastmlp.SGD(0.05 / 2))      # half the square is scikit-learn's
    for a, b in zip(start.coefs_, model.weights):
        assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@BOTH
def test_samples_of_other_dtypes_are_those_of_float32(cls):
    """X of float64 here holds numbers of float32, so that the networks are the same to the bit."""
    expected = cls(**BF16).fit(X, Y)
    for other in (X.astype(np.float64), X.astype(np.float64).tolist(), np.asfortranarray(X)):
        model = cls(**BF16).fit(other, Y)
        assert model.model_.dtype == np.float32
        for a, b in zip(model.coefs_, expected.coefs_):
            assert_array_equal(a, b)
    if cls is MLPClassifier:
        wide = expected.predict_proba(X.astype(np.float64))
        assert wide.dtype == np.float64 and expected.predict_proba(X).dtype == np.float32
        assert_allclose(wide, expected.predict_proba(X), rtol=1e-5)


def test_sparse_samples():
    sparse = pytest.importorskip("scipy.sparse")
    dense, rows = (MLPClassifier(**BF16).fit(data, Y) for data in (X, sparse.csr_matrix(X)))
    for a, b in zip(dense.coefs_, rows.coefs_):
        assert_array_equal(a, b)
    assert_array_equal(dense.predict_proba(X), rows.predict_proba(sparse.csc_matrix(X)))


@BOTH
def test_parameters_and_copies(cls):
    model = cls(**BF16)
    assert clone(model).compute_dtype == model.get_params()["compute_dtype"] == "bfloat16"
    assert "compute_dtype='bfloat16'" in repr(model) and "compute_dtype" not in repr(cls())
    model.fit(X, Y)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.model_.compute_dtype == "bfloat16"
        assert_array_equal(copied.predict(X), model.predict(X))
        copied.partial_fit(X, Y)
    model.partial_fit(X, Y)
    assert_array_equal(copied.coefs_[0], model.coefs_[0])


@BOTH
@pytest.mark.parametrize("value", ["bfloat", "float32", np.float32, True, 16], ids=str)
def test_other_values(cls, value):
    model = cls(**FAST).fit(X, Y)
    before = model.predict(X)
    with pytest.raises(ValueError, match="compute_dtype"):
        model.set_params(compute_dtype=value).fit(X, Y)
    assert_array_equal(model.set_params(compute_dtype=None).predict(X), before)


@BOTH
def test_set_params_after_fit(cls):
    """As scikit-learn's estimators follow `activation`: the next prediction does; training goes on."""
    model = cls(**FAST, warm_start=True).fit(X, Y)
    plain = model.predict(X)
    held = model.coefs_
    model.set_params(compute_dtype="bfloat16")
    if cls is MLPRegressor:
        assert (model.predict(X) != plain).any()
        assert_allclose(model.predict(X), plain, rtol=0.1, atol=0.1)
    assert_array_equal(model.coefs_[0], held[0])
    model.fit(X, Y)
    assert model.model_.compute_dtype == "bfloat16" and len(model.loss_curve_) == 10
    model.set_params(compute_dtype=None).partial_fit(X, Y)
    assert model.model_.compute_dtype is None and model.coefs_[0].dtype == np.float32


@BOTH
def test_a_network_of_float64_stays_what_it_is(cls):
    wide = X.astype(np.float64)
    model = cls(**FAST, warm_start=True).fit(wide, Y)
    before = model.predict(wide)
    model.set_params(compute_dtype="bfloat16", activation="tanh")
    for call in (model.predict, lambda x: model.fit(x, Y), lambda x: model.partial_fit(x, Y)):
        with pytest.raises(ValueError, match="compute_dtype: 'bfloat16' goes with .* got float64"):
            call(wide)
    assert_array_equal(model.set_params(compute_dtype=None, activation="relu").predict(wide), before)
    model.set_params(compute_dtype="bfloat16", warm_start=False).fit(wide, Y)
    assert model.coefs_[0].dtype == np.float32 and model.model_.compute_dtype == "bfloat16"


def test_in_a_grid_behind_a_scaler():
    grid = {"mlpclassifier__compute_dtype": [None, "bfloat16"]}
    search = GridSearchCV(make_pipeline(StandardScaler(), MLPClassifier(**{**FAST, "max_iter": 30})), grid,
                          cv=2, error_score="raise")
    scores = search.fit(X.astype(np.float64), Y).cv_results_["mean_test_score"]
    assert scores.min() > 0.5 and abs(scores[0] - scores[1]) < 0.1


@BOTH
def test_estimators_of_scikit_learn_have_none(cls):
    theirs = getattr(neural_network, cls.__name__)(**FAST).fit(X, Y)
    ours = from_sklearn(theirs)
    assert ours.compute_dtype is None
    ours.set_params(compute_dtype="bfloat16")
    assert (ours.predict(X) == theirs.predict(X)).mean() > 0.95 or cls is MLPRegressor
    assert_allclose(ours.model_.forward(X)[:, 0], from_sklearn(theirs).model_.forward(X)[:, 0], rtol=0.1,
                    atol=0.1)
    with patch():
        assert type(getattr(neural_network, cls.__name__)(**BF16)) is cls
