"""Loss curves and predictions beside scikit-learn's own, with the same parameters and random_state."""
from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose

pytest.importorskip("sklearn")

from sklearn import neural_network as theirs
from sklearn.datasets import load_digits, load_wine, make_multilabel_classification, make_regression
from sklearn.utils.validation import has_fit_parameter

import fastmlp
from fastmlp import sklearn as ours

EPOCHS = 50
CURVE = 1e-6                # relative, of loss_curve_
N = 230                     # batches of 200 and 30


def digits():
    X, y = load_digits(return_X_y=True)
    return X[:N] / 16, y[:N]


def regression(outputs):
    X, y = make_regression(N, 8, n_targets=outputs, noise=1.0, random_state=0)
    return X, y / 100


def counts(outputs):
    X, y = regression(outputs)
    return X, np.random.default_rng(1).poisson(np.exp(np.clip(y, -2, 2)))


TASKS = {
    "multiclass": ("MLPClassifier", {}, digits),
    "binary": ("MLPClassifier", {}, lambda: (digits()[0], digits()[1] > 4)),
    "multilabel": ("MLPClassifier", {}, lambda: make_multilabel_classification(N, 8, random_state=0)),
    "values": ("MLPRegressor", {}, lambda: regression(1)),
    "values of 3": ("MLPRegressor", {}, lambda: regression(3)),
    "counts": ("MLPRegressor", {"loss": "poisson"}, lambda: counts(1)),
    "counts of 2": ("MLPRegressor", {"loss": "poisson"}, lambda: counts(2)),
}
ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
MODES = ["constant", "invscaling", "adaptive"]
SOLVERS = [("adam", {"learning_rate_init": 0.01})] + [
    ("sgd", {"learning_rate_init": 0.02, "learning_rate": mode}) for mode in MODES]
WEIGHTS = np.random.default_rng(2).uniform(0.1, 2.0, N)


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def both(name, X, y, weights=None, **parameters):
    """scikit-learn's and ours, fitted; before 1.7 it has neither weights nor the Poisson loss."""
    parameters = {"hidden_layer_sizes": (12, 7), "max_iter": EPOCHS, "random_state": 3, "alpha": 0.01,
                  **parameters}
    if weights is not None and not has_fit_parameter(theirs.MLPClassifier(), "sample_weight"):
        pytest.skip("this scikit-learn has no sample_weight")
    if "loss" in parameters and "loss" not in getattr(theirs, name)().get_params():
        pytest.skip("this scikit-learn has no loss")
    weights = {} if weights is None else {"sample_weight": weights}
    return [getattr(module, name)(**parameters).fit(X, y, **weights) for module in (theirs, ours)]


def agree(expected, got):
    assert got.n_iter_ == expected.n_iter_ and got.t_ == expected.t_
    assert_allclose(got.loss_curve_, expected.loss_curve_, rtol=CURVE)
    assert got.loss_ == got.loss_curve_[-1]
    for name in ("validation_scores_", "best_validation_score_", "best_loss_"):
        if getattr(expected, name) is None:
            assert getattr(got, name) is None
        else:
            assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-6)
    for name in ("n_features_in_", "n_layers_", "n_outputs_", "out_activation_"):
        assert getattr(got, name) == getattr(expected, name)
    assert_allclose(got.coefs_[0], expected.coefs_[0], rtol=1e-4, atol=1e-7)
    assert_allclose(got.intercepts_[-1], expected.intercepts_[-1], rtol=1e-4, atol=1e-7)


def predictions(estimator, X):
    return estimator.predict_proba(X) if hasattr(estimator, "predict_proba") else estimator.predict(X)


@pytest.mark.parametrize("solver, rates", SOLVERS, ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_solver_activation_and_mode(solver, rates, activation):
    for weights, early_stopping in itertools.product((None, WEIGHTS), (False, True)):
        options = {"solver": solver, **rates, "activation": activation, "early_stopping": early_stopping,
                   "n_iter_no_change": 3}
        agree(*both("MLPClassifier", *digits(), weights, **options))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
def test_every_task(task, solver, early_stopping, weights):
    name, options, data = TASKS[task]
    X, y = data()
    expected, got = both(name, X, y, weights, solver=solver, learning_rate_init=0.01, activation="tanh",
                         early_stopping=early_stopping, **options)
    agree(expected, got)
    assert_allclose(predictions(got, X), predictions(expected, X), rtol=1e-5, atol=1e-8)
    assert got.predict(X).dtype == expected.predict(X).dtype
    assert got.score(X, y) == pytest.approx(expected.score(X, y))


@pytest.mark.parametrize("options", [
    {"batch_size": 1}, {"batch_size": 32}, {"batch_size": N}, {"batch_size": 1000}, {"shuffle": False},
    {"alpha": 0.0}, {"alpha": 5.0}, {"epsilon": 1e-2}, {"beta_1": 0.5, "beta_2": 0.9},
    {"solver": "sgd", "momentum": 1.0, "learning_rate_init": 1e-4}, {"tol": 0.01}, {"hidden_layer_sizes": 5},
    {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.5, "tol": 0.01,
     "n_iter_no_change": 2},
    *({"solver": "sgd", "learning_rate": mode, "learning_rate_init": 0.02, **momentum} for mode in MODES
      for momentum in ({"nesterovs_momentum": False}, {"momentum": 0.0})),
], ids=str)
def test_every_parameter(options):
    epochs = 10 if "batch_size" in options else EPOCHS
    agree(*both("MLPClassifier", *digits(), **options, max_iter=epochs))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
def test_lbfgs(task, weights):
    """Before rounding has grown: of scikit-learn's own, too, it decides where 100 iterations lead."""
    name, options, data = TASKS[task]
    X, y = data()
    expected, got = both(name, X, y, weights, solver="lbfgs", activation="tanh", max_iter=15, **options)
    assert_allclose(predictions(got, X), predictions(expected, X), rtol=1e-5, atol=1e-5)
    assert got.loss_ == pytest.approx(expected.loss_, rel=1e-6) and got.n_iter_ == expected.n_iter_


def test_lbfgs_to_the_end():
    """Where it has converged, both have found the minimum, as near as its tolerance asks for."""
    X, y = digits()
    expected, got = both("MLPClassifier", X, y, solver="lbfgs", activation="tanh", alpha=3.0, max_iter=500,
                         hidden_layer_sizes=(12,), tol=1e-7)
    assert max(got.n_iter_, expected.n_iter_) < 500
    assert got.loss_ == pytest.approx(expected.loss_, rel=1e-6)
    assert got.predict_proba(X).std() > 0.1
    assert_allclose(got.predict_proba(X), expected.predict_proba(X), atol=1e-3)


def test_lbfgs_with_few_evaluations():
    X, y = digits()
    expected, got = both("MLPClassifier", X, y, solver="lbfgs", max_fun=10)
    assert_allclose(got.predict_proba(X), expected.predict_proba(X), atol=1e-5)
    assert got.n_iter_ == expected.n_iter_ < 10


def test_reported_losses_are_limited_as_theirs():
    """Inputs that are not scaled saturate the probabilities, whose logarithm is limited there."""
    for max_iter in (1, 2):
        expected, got = both("MLPClassifier", *load_wine(return_X_y=True), max_iter=max_iter)
        assert expected.loss_curve_[0] > 10
        assert_allclose(got.loss_curve_, expected.loss_curve_, rtol=CURVE)


@pytest.mark.parametrize("name, data", [("MLPClassifier", digits), ("MLPRegressor", lambda: regression(2))])
def test_partial_fit_after_fit_and_warm_start(name, data):
    X, y = data()
    weighted = has_fit_parameter(theirs.MLPClassifier(), "sample_weight")
    for solver, mode in (("adam", "constant"), ("sgd", "invscaling"), ("sgd", "adaptive")):
        pairs = both(name, X, y, solver=solver, learning_rate=mode, learning_rate_init=0.01, max_iter=5,
                     warm_start=True, activation="tanh")
        for estimator in pairs:
            estimator.fit(X, y)
            estimator.fit(X, y, **({"sample_weight": WEIGHTS} if weighted else {}))
            for _ in range(3):
                estimator.partial_fit(X[:100], y[:100], **(
                    {"sample_weight": WEIGHTS[:100]} if weighted else {}))
        assert len(pairs[0].loss_curve_) == 18
        agree(*pairs)


@pytest.mark.parametrize("fits", [2, 3])
def test_warm_start_after_early_stopping(fits):
    """From the second fit on the best weights are those in training, until another epoch is better."""
    X, y = digits()
    pairs = both("MLPClassifier", X[:300], y[:300], warm_start=True, early_stopping=True, max_iter=40,
                 n_iter_no_change=3, learning_rate_init=0.02)
    best = []
    for _ in range(fits - 1):
        for estimator in pairs:
            estimator.fit(X[:300], y[:300])
        best.append(pairs[0].best_validation_score_)
        agree(*pairs)
        for a, b in zip(pairs[0].coefs_, pairs[1].coefs_):
            assert_allclose(b, a, rtol=1e-6, atol=1e-9)
    last = pairs[0].validation_scores_[-1]
    assert last < best[-1]          # the case that is worth a test


def test_float32_stays_and_is_close():
    X, y = digits()
    expected, got = both("MLPClassifier", X.astype(np.float32), y)
    assert all(coef.dtype == np.float32 for coef in (*got.coefs_, *got.intercepts_))
    assert got.predict_proba(X.astype(np.float32)).dtype == np.float32
    assert_allclose(got.loss_curve_, expected.loss_curve_, rtol=1e-3)


@pytest.mark.parametrize("kind", ["csr_matrix", "csr_array", "csc_matrix", "csc_array"])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_sparse(kind, solver):
    from scipy import sparse

    X, y = digits()
    S = getattr(sparse, kind)(np.where(X > 0.5, X, 0))
    expected, got = both("MLPClassifier", S, y, solver=solver, max_iter=15)
    if solver != "lbfgs":
        agree(expected, got)
    assert_allclose(got.predict_proba(S), expected.predict_proba(S), rtol=1e-5, atol=1e-5)


def test_the_numpy_backend_too():
    with fastmlp.use_backend("numpy"):
        agree(*both("MLPClassifier", *digits(), max_iter=10))
        agree(*both("MLPRegressor", *counts(2), WEIGHTS, loss="poisson", max_iter=10, solver="sgd",
                    learning_rate="invscaling", learning_rate_init=0.01))


@pytest.mark.parametrize("options", [{}, {"solver": "sgd"}, {"early_stopping": True}, {"solver": "lbfgs"}],
                         ids=str)
@pytest.mark.parametrize("task", ["multiclass", "values"])
def test_numbers_have_numpys_type_where_theirs_have(task, options):
    """Programs call what a float of NumPy has, loss_.round(3)."""
    name, more, data = TASKS[task]
    expected, got = both(name, *data(), max_iter=3, **more, **options)
    for attribute in ("loss_", "best_loss_", "best_validation_score_", "loss_curve_", "validation_scores_"):
        a, b = (getattr(model, attribute, None) for model in (expected, got))
        for x, y in zip(a, b, strict=True) if isinstance(a, list) else [(a, b)]:
            if isinstance(x, np.generic):
                assert type(y) is type(x), attribute
