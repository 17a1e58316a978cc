"""Parameters that change between fits, and what programs expect of scikit-learn's warnings and dtypes."""
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn
import sklearn.neural_network as theirs
from sklearn.exceptions import ConvergenceWarning

import fastmlp.sklearn as ours

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
BOTH = pytest.mark.parametrize("module", [theirs, ours], ids=["theirs", "ours"])


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return rng.normal(size=(90, 4)), rng.integers(0, 3, 90)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_alpha_between_partial_fits(solver, table):
    X, y = table
    norms = []
    for module in (theirs, ours):
        estimator = module.MLPRegressor(hidden_layer_sizes=(5,), solver=solver, random_state=0, alpha=0.0,
                                        batch_size=10)
        estimator.partial_fit(X, y).set_params(alpha=20.0)
        for _ in range(10):
            estimator.partial_fit(X, y)
        norms.append(sum((coef**2).sum() for coef in estimator.coefs_))
    assert norms[1] == pytest.approx(norms[0], rel=1e-6)


def test_activation_after_fit(table):
    X, y = table
    found = []
    for module in (theirs, ours):
        estimator = module.MLPClassifier((5,), max_iter=5, random_state=0, warm_start=True).fit(X, y)
        estimator.set_params(activation="tanh")
        found.append((estimator.predict_proba(X), estimator.fit(X, y).loss_curve_))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-6)
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-6)


@BOTH
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_filters_by_module(module, solver, table):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if module is theirs:        # before 1.8, of options that newer releases of SciPy do not want
            warnings.filterwarnings("ignore", "scipy.optimize", DeprecationWarning)
        warnings.filterwarnings("ignore", category=ConvergenceWarning, module="sklearn")
        module.MLPClassifier((5,), solver=solver, max_iter=3, random_state=0).fit(*table)


@BOTH
def test_one_class_and_early_stopping(module, table):
    estimator = module.MLPClassifier((8,), early_stopping=True, max_iter=60, random_state=0)
    estimator.fit(table[0], np.zeros(90, int))
    assert set(estimator.validation_scores_) == {1.0} and estimator.n_iter_ == 12


@BOTH
def test_float64_samples_of_a_float32_network(module, table):
    X, y = table
    estimator = module.MLPClassifier((5,), max_iter=3).fit(X.astype(np.float32), y)
    assert estimator.predict_proba(X).dtype == np.float64
    assert estimator.predict_proba(X.astype(np.float32)).dtype == np.float32


@BOTH
def test_units_are_integers(module, table):
    with pytest.raises(TypeError, match="integer"):
        module.MLPClassifier((3.9,), max_iter=2).fit(*table)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("units", [(7,), (5, 3)])
def test_warm_start_with_other_layers(solver, units, table):
    estimator = ours.MLPClassifier((5,), solver=solver, max_iter=3, random_state=0, warm_start=True)
    estimator.fit(*table).set_params(hidden_layer_sizes=units)
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        estimator.fit(*table)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_other_layers_are_refused_where_theirs_keeps_the_old_ones(method, table):
    """As the guide says under "What differs"."""
    for module in (theirs, ours):
        estimator = module.MLPClassifier((5,), max_iter=3, random_state=0, warm_start=True).fit(*table)
        estimator.set_params(hidden_layer_sizes=(7,))
        if module is theirs:
            getattr(estimator, method)(*table)
        else:
            with pytest.raises(ValueError, match=r"hidden_layer_sizes.* layers \[4, 5, 3\], got \[4, 7, 3\]"):
                getattr(estimator, method)(*table)
        assert [coef.shape for coef in estimator.coefs_] == [(4, 5), (5, 3)]


def test_a_refused_partial_fit_changes_nothing(table):
    X, y = table
    estimator = ours.MLPClassifier((5,), random_state=0).partial_fit(X, y, classes=[0, 1, 2])
    before = estimator.predict_proba(X)
    with pytest.raises(ValueError):
        estimator.partial_fit(X, np.eye(3, dtype=int)[y][:, :2])
    np.testing.assert_array_equal(estimator.predict_proba(X), before)


@BOTH
def test_without_validation_of_parameters(module, table):
    with sklearn.config_context(skip_parameter_validation=True):
        module.MLPClassifier((5,), validation_fraction=2.0, max_iter=2).fit(*table)


def test_numpy_true_ends_lbfgs(table):
    estimator = ours.MLPClassifier((5,), solver="lbfgs", max_iter=8, callbacks=[lambda *_: np.bool_(True)])
    assert estimator.fit(*table).n_iter_ == 1
