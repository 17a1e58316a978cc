"""Our estimators inside of what scikit-learn composes of estimators, each beside its own."""
from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
import sklearn
from sklearn import neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.ensemble import (
    AdaBoostRegressor,
    BaggingClassifier,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv as _halving  # noqa: F401
from sklearn.feature_selection import SelectFromModel, SequentialFeatureSelector
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    validation_curve,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils import estimator_html_repr
from sklearn.utils.validation import has_fit_parameter

import fastmlp.sklearn as ours

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
WITH_WEIGHTS = pytest.mark.skipif(not has_fit_parameter(neural_network.MLPClassifier(), "sample_weight"),
                                  reason="this scikit-learn has no sample_weight")


def classifier(module, **parameters):
    return module.MLPClassifier(**{"hidden_layer_sizes": (8,), "max_iter": 6, "random_state": 0,
                                   "learning_rate_init": 0.01, **parameters})


def regressor(module, **parameters):
    return module.MLPRegressor(**{"hidden_layer_sizes": (8,), "max_iter": 6, "random_state": 0,
                                  "learning_rate_init": 0.01, **parameters})


def both(function, *args):
    """The results with scikit-learn's estimators and with ours."""
    return function(neural_network, *args), function(ours, *args)


def same(function, *args):
    expected, result = both(function, *args)
    expected, result = np.asarray(expected), np.asarray(result)
    assert expected.shape == result.shape and expected.size
    if expected.dtype.kind in "fc":
        np.testing.assert_allclose(result, expected, rtol=1e-7, atol=1e-9)
    else:
        assert (result == expected).all()


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), np.array(["setosa", "versicolor", "virginica"])[y]


@pytest.fixture(scope="module")
def cancer():
    X, y = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X[:200]), y[:200]


@pytest.fixture(scope="module")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return X[:150] * 20, (y[:150] - 150) / 80


# Parameters, copies, files -------------------------------------------------------------------------------

def test_clone_and_parameters(iris):
    for make in (classifier, regressor):
        theirs, own = make(neural_network, alpha=0.5), make(ours, alpha=0.5)
        assert theirs.get_params().items() <= own.get_params().items()
        copied = clone(own.set_params(alpha=0.25))
        assert copied is not own and copied.get_params() == own.get_params() and copied.alpha == 0.25
        assert repr(own) == repr(theirs).replace("alpha=0.5", "alpha=0.25")
        assert type(own).__name__ in estimator_html_repr(own)
    fitted = classifier(ours).fit(*iris)
    assert not hasattr(clone(fitted), "coefs_")


@pytest.mark.parametrize("way", ["pickle", "joblib"])
def test_files(way, iris, tmp_path):
    X, y = iris

    def after(module):
        model = make_pipeline(StandardScaler(), classifier(module)).fit(X, y)
        if way == "pickle":
            return pickle.loads(pickle.dumps(model)).predict_proba(X)
        joblib.dump(model, tmp_path / "model", compress=3)
        return joblib.load(tmp_path / "model").predict_proba(X)

    same(after)


def test_a_pickle_trains_on(iris):
    X, y = iris

    def after(module):
        model = classifier(module, solver="sgd").partial_fit(X, y, classes=np.unique(y))
        model = pickle.loads(pickle.dumps(model)).partial_fit(X, y)
        return pickle.loads(pickle.dumps(model)).partial_fit(X, y).loss_curve_

    same(after)


def test_pickles_do_not_grow(iris):
    X, y = iris
    model = classifier(ours).partial_fit(X, y, classes=np.unique(y))
    sizes = []
    for _ in range(4):
        model = pickle.loads(pickle.dumps(model.partial_fit(X, y)))
        sizes.append(len(pickle.dumps(model)))
    assert max(sizes) - min(sizes) < 200


# Searches and validation ---------------------------------------------------------------------------------

@pytest.mark.parametrize("search", ["grid", "random", "halving"])
def test_searches(search, iris):
    X, y = iris

    def after(module):
        model = Pipeline([("scale", StandardScaler()), ("mlp", classifier(module))])
        grid = {"mlp__alpha": [1e-4, 1.0], "mlp__hidden_layer_sizes": [(4,), (8, 4)],
                "mlp__solver": ["lbfgs", "adam"]}
        if search == "grid":
            found = GridSearchCV(model, grid, cv=2, n_jobs=2)
        elif search == "random":
            found = RandomizedSearchCV(model, grid, n_iter=3, cv=2, random_state=0)
        else:
            found = HalvingGridSearchCV(model, grid, cv=2, random_state=0, factor=3)
        found.fit(X, y)
        return [*found.cv_results_["mean_test_score"], *found.predict_proba(X).ravel(), found.best_index_]

    same(after)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_cross_validation(n_jobs, iris, diabetes):
    same(lambda module: cross_val_score(classifier(module), *iris, cv=3, n_jobs=n_jobs))
    same(lambda module: cross_val_score(regressor(module), *diabetes, cv=3, n_jobs=n_jobs))


def test_cross_validate_and_predict(iris, cancer):
    same(lambda module: cross_validate(classifier(module), *cancer, cv=2, scoring=["roc_auc", "neg_log_loss"],
                                       return_train_score=True)["train_neg_log_loss"])
    same(lambda module: cross_val_predict(classifier(module), *iris, cv=3, method="predict_proba"))
    same(lambda module: cross_val_predict(classifier(module), *iris, cv=3))


def test_curves(iris):
    X, y = iris
    same(lambda module: learning_curve(classifier(module), X, y, train_sizes=[0.3, 0.9], cv=3, shuffle=True,
                                       random_state=0)[2])
    same(lambda module: learning_curve(classifier(module), X, y, train_sizes=[30, 90], cv=3, shuffle=True,
                                       random_state=0, exploit_incremental_learning=True)[2])
    same(lambda module: validation_curve(classifier(module), X, y, param_name="alpha", param_range=[0, 10],
                                         cv=2)[1])


# Ensembles and other wrappers ----------------------------------------------------------------------------

CLASSIFIERS = {
    "calibrated": lambda e: CalibratedClassifierCV(e, cv=2),
    "calibrated, isotonic": lambda e: CalibratedClassifierCV(e, cv=2, method="isotonic", ensemble=False),
    "bagging": lambda e: BaggingClassifier(e, n_estimators=3, random_state=0, n_jobs=2),
    "bagging of features": lambda e: BaggingClassifier(e, n_estimators=3, max_features=0.5, random_state=0),
    "voting": lambda e: VotingClassifier([("mlp", e), ("linear", LogisticRegression())], voting="soft"),
    "stacking": lambda e: StackingClassifier([("mlp", e), ("linear", LogisticRegression())], cv=2),
    "one against the rest": OneVsRestClassifier,
    "one against one": OneVsOneClassifier,
    "output codes": lambda e: OutputCodeClassifier(e, random_state=0),
    "self-training": lambda e: SelfTrainingClassifier(e, threshold=0.6),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name, iris):
    X, y = iris
    if name == "self-training":
        y = np.where(np.arange(len(y)) % 3, np.unique(y, return_inverse=True)[1], -1)

    def after(module):
        model = CLASSIFIERS[name](classifier(module)).fit(X, y)
        return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)

    same(after)


@pytest.mark.parametrize("wrapper", [MultiOutputClassifier, ClassifierChain])
def test_several_labels(wrapper, cancer):
    X, _ = cancer
    same(lambda module: np.asarray(wrapper(classifier(module)).fit(X, X[:, :3] > 0).predict_proba(X)))


REGRESSORS = {
    "voting": lambda e: VotingRegressor([("one", e), ("two", clone(e).set_params(random_state=1))]),
    "transformed target": lambda e: TransformedTargetRegressor(e, func=np.sinh, inverse_func=np.arcsinh),
    "chain": RegressorChain,
    "several outputs": MultiOutputRegressor,
    "boosting": lambda e: AdaBoostRegressor(e, n_estimators=2, random_state=0),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(name, diabetes):
    X, y = diabetes
    if name in ("chain", "several outputs"):
        y = np.c_[y, X[:, 0]]
    same(lambda module: REGRESSORS[name](regressor(module)).fit(X, y).predict(X))


def test_columns(iris):
    pandas = pytest.importorskip("pandas")
    X, y = iris
    frame = pandas.DataFrame(X, columns=[*"abcd"]).assign(kind=np.array([*"xyz"])[np.arange(len(X)) % 3])

    def after(module):
        columns = ColumnTransformer([("number", StandardScaler(), [*"abcd"]),
                                     ("kind", OneHotEncoder(sparse_output=True), ["kind"])],
                                    sparse_threshold=1.0)
        return make_pipeline(columns, classifier(module)).fit(frame, y).predict_proba(frame)

    same(after)


# Looking inside ------------------------------------------------------------------------------------------

def first_weights(estimator):
    return np.abs(estimator.coefs_[0]).sum(axis=1)


def test_selection(diabetes):
    X, y = diabetes
    same(lambda module: SelectFromModel(regressor(module), importance_getter=first_weights).fit(X, y)
         .get_support())
    same(lambda module: SequentialFeatureSelector(regressor(module, max_iter=2), n_features_to_select=2, cv=2)
         .fit(X[:, :4], y).get_support())


def test_importance(diabetes):
    X, y = diabetes
    same(lambda module: permutation_importance(regressor(module).fit(X, y), X, y, n_repeats=2, random_state=0)
         .importances)
    same(lambda module: partial_dependence(regressor(module).fit(X, y), X, [1], grid_resolution=5)["average"])


# Frames and outputs --------------------------------------------------------------------------------------

@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library, iris):
    frames = pytest.importorskip(library)
    X, y = iris
    frame = frames.DataFrame({name: X[:, i] for i, name in enumerate(["sepal", "petal", "long", "wide"])})
    column = frames.Series("kind", y) if library == "polars" else frames.Series(y, name="kind")
    if not hasattr(StandardScaler().fit(frame), "feature_names_in_"):
        pytest.skip(f"this scikit-learn finds no names in tables of {library}")

    def after(module):
        scale = StandardScaler().set_output(transform=library)
        model = make_pipeline(scale, classifier(module)).fit(frame, column)
        assert [*model[-1].feature_names_in_] == ["sepal", "petal", "long", "wide"]
        with pytest.raises(ValueError, match="feature names should match"):
            model[-1].predict(frame[["petal", "sepal", "long", "wide"]])
        with pytest.warns(UserWarning, match="X does not have valid feature names"):
            model[-1].predict(X)
        return model.predict_proba(frame)

    same(after)


def test_set_output_of_what_is_around(iris):
    pandas = pytest.importorskip("pandas")
    X, y = iris

    def after(module):
        model = StackingClassifier([("mlp", classifier(module))], cv=2).set_output(transform="pandas")
        out = model.fit(X, y).transform(X)
        assert isinstance(out, pandas.DataFrame)
        return out.columns

    same(after)


# Metadata ------------------------------------------------------------------------------------------------

@pytest.mark.skipif(tuple(map(int, sklearn.__version__.split(".")[:2])) < (1, 8),
                    reason="before 1.8 a Pipeline does not pass on the score request of its last step")
def test_routing(cancer):
    X, y = cancer
    weights = np.random.default_rng(0).uniform(0.1, 2, len(X))

    def after(module):
        mlp = classifier(module).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        model = make_pipeline(FunctionTransformer(), mlp)
        search = GridSearchCV(model, {"mlpclassifier__alpha": [0.1, 10]}, cv=2, error_score="raise")
        search.fit(X, y, sample_weight=weights)
        return [*search.predict_proba(X)[:, 1], *search.cv_results_["mean_test_score"]]

    with sklearn.config_context(enable_metadata_routing=True):
        weighted = after(ours)
        same(after)
        weights = np.ones(len(X))
        assert not np.allclose(after(ours), weighted)
        assert classifier(ours).get_metadata_routing().fit.requests.keys() == (
            classifier(neural_network).get_metadata_routing().fit.requests.keys())
        if hasattr(classifier(neural_network), "set_partial_fit_request"):
            classifier(ours).set_partial_fit_request(sample_weight=True, classes=True)


@WITH_WEIGHTS
def test_weights_through_a_pipeline(cancer):
    X, y = cancer
    weights = np.random.default_rng(0).uniform(0.1, 2, len(X))
    same(lambda module: make_pipeline(StandardScaler(), classifier(module)).fit(
        X, y, mlpclassifier__sample_weight=weights).predict_proba(X))
    same(lambda module: BaggingClassifier(classifier(module), n_estimators=2, random_state=0).fit(
        X, y, sample_weight=weights).predict_proba(X))
