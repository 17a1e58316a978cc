"""Manners of the estimators: live weights, copies, tables, labels, and what they do beyond scikit-learn's."""
from __future__ import annotations

import copy
import os
import pickle
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("sklearn")

import joblib
import sklearn
from sklearn import neural_network as theirs
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, load_iris, make_multilabel_classification
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp
from fastmlp import losses, optimizers, schedules
from fastmlp.sklearn import MLPClassifier, MLPRegressor

X, Y = load_iris(return_X_y=True)
FAST = {"hidden_layer_sizes": (8,), "max_iter": 5, "random_state": 0}
BOTH = [MLPClassifier, MLPRegressor]
VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def fitted(cls=MLPClassifier, **parameters):
    return cls(**{**FAST, **parameters}).fit(X, Y)


def theirs_and_ours(cls):
    return getattr(theirs, cls.__name__), cls


# The interface ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("cls", BOTH)
def test_parameters_and_attributes_are_theirs_and_more(cls):
    original, _ = theirs_and_ours(cls)
    expected, got = original().get_params(), cls().get_params()
    assert {name: got[name] for name in expected} == expected
    assert list(got) == sorted(got) and set(got) - set(expected) - {"loss"} == {
        "optimizer", "dropout", "batch_norm", "validation_data", "callbacks", "progress", "n_threads",
        "compute_dtype",
        *(["class_weight"] if cls is MLPClassifier else [])}
    public = {name for name in vars(original(**FAST).fit(X, Y)) if name[0] != "_"}
    assert all(hasattr(fitted(cls), name) for name in public)
    methods = {name for name in dir(original) if name[0] != "_"}
    assert methods <= set(dir(cls))


@pytest.mark.parametrize("cls", BOTH)
def test_weights_are_live(cls):
    model = fitted(cls)
    assert isinstance(model.coefs_, list)
    assert [c.shape for c in model.coefs_] == [(4, 8), (8, model.n_outputs_)]
    before = model.predict(X)
    for change in (lambda: model.coefs_[0].fill(0), lambda: model.coefs_.__setitem__(0, np.zeros((4, 8))),
                   lambda: setattr(model, "coefs_", [np.zeros((4, 8)), model.coefs_[1]])):
        fresh = model.coefs_[0].copy()
        change()
        assert not model.coefs_[0].any() and len(np.unique(model.predict(X))) == 1
        model.coefs_[0] = fresh
        assert_array_equal(model.predict(X), before)
    held = model.intercepts_[1]
    model.partial_fit(X, Y)
    assert_array_equal(held, model.intercepts_[1])
    model.intercepts_[1] -= 1e6 * np.arange(model.n_outputs_) + 1e6
    assert not np.array_equal(model.predict(X), before)


def test_other_shapes_make_another_network():
    """A layer that was pruned, as code for scikit-learn's does it."""
    model = fitted()
    keep = np.arange(5)
    expected = np.maximum(X @ model.coefs_[0][:, keep] + model.intercepts_[0][keep], 0)
    expected = (expected @ model.coefs_[1][keep] + model.intercepts_[1]).argmax(axis=1)
    model.coefs_ = [model.coefs_[0][:, keep], model.coefs_[1][keep]]
    model.intercepts_ = [model.intercepts_[0][keep], model.intercepts_[1]]
    assert_array_equal(model.predict(X), expected)


def test_a_wrong_shape_of_one_layer_changes_nothing():
    model = fitted()
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match=r"weights\[0\]: expected shape"):
        model.coefs_[0] = np.zeros((4, 7))
    assert_array_equal(model.predict_proba(X), before)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m)), "joblib"],
                         ids=["deepcopy", "pickle", "joblib"])
@pytest.mark.parametrize("options", [{}, {"solver": "sgd", "learning_rate": "invscaling"}, {"dropout": 0.3}],
                         ids=str)
def test_copies_go_on_to_the_same_bits(copied, options, tmp_path):
    if copied == "joblib":
        def copied(model):
            joblib.dump(model, tmp_path / "model")
            return joblib.load(tmp_path / "model")
    model = fitted(**options)
    other = copied(model)
    for each in (model, other):
        each.partial_fit(X, Y)
    for a, b in zip(model.coefs_, other.coefs_):
        assert_array_equal(a, b)
    other.coefs_[0][...] = 0
    assert model.coefs_[0].any()


def test_a_pickle_does_not_grow():
    model = fitted()
    sizes = {len(pickle.dumps(model.partial_fit(X, Y))) - 9 * len(model.loss_curve_) for _ in range(20)}
    assert max(sizes) - min(sizes) < 200


@pytest.mark.parametrize("labels", [
    ["a", "b", "c"], np.array(["a", "b", "c"], object), [-1, 5, 7], [1.0, 2.0, 7.0],
    np.array(["a", "b"]), [True, False], [3, 1]], ids=str)
def test_labels(labels):
    y = np.asarray(labels)[Y % len(labels)]
    expected, got = (cls(**FAST).fit(X, y) for cls in theirs_and_ours(MLPClassifier))
    assert_array_equal(got.classes_, expected.classes_)
    assert_array_equal(got.predict(X), expected.predict(X))
    assert got.predict(X).dtype == expected.predict(X).dtype
    assert_allclose(got.predict_proba(X), expected.predict_proba(X), rtol=1e-7)
    assert_allclose(got.predict_log_proba(X), expected.predict_log_proba(X), rtol=1e-6)


def test_long_doubles():
    A = X.astype(np.longdouble)
    expected, got = (cls(**FAST).fit(A, Y) for cls in theirs_and_ours(MLPClassifier))
    for method in ("predict_proba", "predict_log_proba"):
        a, b = getattr(expected, method)(A), getattr(got, method)(A)
        assert a.dtype == b.dtype
        assert_allclose(b, a, rtol=1e-6)


def test_sparse_targets_of_a_regressor():
    from scipy import sparse

    with pytest.raises(TypeError, match="y: expected a dense array of targets"):
        MLPRegressor(**FAST).fit(X, sparse.csr_matrix(np.eye(3)[Y]))


def test_one_class_alone():
    for cls in theirs_and_ours(MLPClassifier):
        assert_array_equal(cls(**FAST).fit(X[:9], ["a"] * 9).predict(X), ["a"] * len(X))


@pytest.mark.parametrize("sparse_y", [False, True])
def test_multilabel(sparse_y):
    from scipy import sparse

    A, B = make_multilabel_classification(60, 5, n_classes=3, random_state=0)
    B = sparse.csr_matrix(B) if sparse_y else B
    expected, got = (cls(**FAST).fit(A, B) for cls in theirs_and_ours(MLPClassifier))
    for model in (expected, got):
        model.partial_fit(A, B)
    difference = got.predict(A) != expected.predict(A)
    assert type(got.predict(A)) is type(expected.predict(A)) and not difference.sum()
    assert got.score(A, B) == expected.score(A, B)


@pytest.mark.parametrize("library", ["pandas", "polars", "lists"])
@pytest.mark.parametrize("cls", BOTH)
def test_tables(library, cls):
    names = ["a", "b", "c", "d"]
    if library == "lists":
        table, y = X.tolist(), Y.tolist()
    else:
        frames = pytest.importorskip(library)
        table, y = frames.DataFrame(dict(zip(names, X.T))), frames.Series(Y)
        if not hasattr(getattr(theirs, cls.__name__)(**FAST).fit(table, y), "feature_names_in_"):
            pytest.skip(f"this scikit-learn finds no names in tables of {library}")
    model = cls(**FAST).fit(table, y)
    assert_array_equal(model.predict(table), fitted(cls).predict(X))
    if library == "lists":
        assert not hasattr(model, "feature_names_in_")
    else:
        assert list(model.feature_names_in_) == names
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            model.predict(X)
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(table[names[::-1]])


def test_in_the_tools_of_scikit_learn():
    scaled = make_pipeline(StandardScaler(), MLPClassifier(**FAST, learning_rate_init=0.05))
    original = make_pipeline(StandardScaler(), theirs.MLPClassifier(**FAST, learning_rate_init=0.05))
    assert_allclose(cross_val_score(scaled, X, Y), cross_val_score(original, X, Y))
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__hidden_layer_sizes": [(3,), (8, 4)]}
    searches = [GridSearchCV(each, grid, cv=2).fit(X, Y) for each in (original, scaled)]
    assert_allclose(searches[1].cv_results_["mean_test_score"], searches[0].cv_results_["mean_test_score"])
    for wrap in (lambda model: CalibratedClassifierCV(model, cv=2),
                 lambda model: BaggingClassifier(model, n_estimators=3, random_state=0)):
        expected, got = (wrap(cls(**FAST)).fit(X, Y) for cls in theirs_and_ours(MLPClassifier))
        assert_allclose(got.predict_proba(X), expected.predict_proba(X), rtol=1e-6)


@pytest.mark.skipif(VERSION < (1, 7), reason="scikit-learn's MLPs have sample_weight since 1.7")
def test_metadata_routing():
    weights = np.random.default_rng(0).uniform(0.1, 1, len(Y))
    with sklearn.config_context(enable_metadata_routing=True):
        curves = []
        for cls in theirs_and_ours(MLPClassifier):
            scaler = StandardScaler().set_fit_request(sample_weight=False)
            pipeline = make_pipeline(scaler, cls(**FAST).set_fit_request(sample_weight=True))
            curves.append(pipeline.fit(X, Y, sample_weight=weights)[-1].loss_curve_)
            assert_array_equal(cls(**FAST).set_partial_fit_request(sample_weight=True, classes=True)
                               .partial_fit(X, Y, classes=[0, 1, 2]).classes_, [0, 1, 2])
    assert_allclose(curves[1], curves[0], rtol=1e-7)


def test_verbose_prints_what_theirs_prints(capsys):
    for options in ({}, {"early_stopping": True, "n_iter_no_change": 1, "tol": 1.0},
                    {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 1.0}):
        printed = []
        for cls in theirs_and_ours(MLPClassifier):
            cls(**{**FAST, "max_iter": 30, "verbose": True, **options}).fit(X, Y)
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1] and "Iteration 1, loss" in printed[1]


# Bad input ----------------------------------------------------------------------------------------------

WRONG = [
    ({"activation": "nonsense"}, X, Y), ({"solver": "newton"}, X, Y), ({"alpha": -1}, X, Y),
    ({"hidden_layer_sizes": (3, -1)}, X, Y), ({"hidden_layer_sizes": 0}, X, Y), ({"max_iter": 0}, X, Y),
    ({"batch_size": 0}, X, Y), ({"learning_rate_init": 0.0}, X, Y), ({"momentum": 2}, X, Y),
    ({"beta_1": 1.0}, X, Y), ({"epsilon": 0.0}, X, Y), ({"tol": -1.0}, X, Y), ({"shuffle": "yes"}, X, Y),
    ({"validation_fraction": 1.0}, X, Y), ({"n_iter_no_change": 0}, X, Y), ({"random_state": "0"}, X, Y),
    ({"learning_rate": "cosine"}, X, Y), ({"max_fun": 0}, X, Y), ({"hidden_layer_sizes": True}, X, Y),
    ({"hidden_layer_sizes": (3, True)}, X, Y), ({"hidden_layer_sizes": (3, np.True_)}, X, Y),
    ({}, np.where(X > 5, np.nan, X), Y), ({}, np.where(X > 5, np.inf, X), Y), ({}, X[0], Y), ({}, X, Y[:-1]),
    ({}, X[:0], Y[:0]), ({}, X + 1j, Y), ({}, X, np.where(Y, np.nan, 1.0)),
    ({"early_stopping": True}, X[:4], Y[:4]), ({}, X, Y + 0.5), ({}, X, np.full(len(Y), b"x")),
]


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("case", range(len(WRONG)))
def test_the_same_errors(cls, case):
    options, A, b = WRONG[case]
    if "early_stopping" in options and VERSION < (1, 7):
        pytest.skip("scikit-learn takes a validation set of one sample before 1.7")
    raised = []
    for each in theirs_and_ours(cls):
        try:
            each(**{**FAST, **options}).fit(A, b)
            raised.append(None)
        except Exception as error:
            raised.append(type(error))
    assert raised[0] is raised[1] or None not in raised and issubclass(*raised), raised


@pytest.mark.parametrize("cls", BOTH)
def test_errors_of_fitted_and_unfitted_ones(cls):
    with pytest.raises(NotFittedError):
        cls().predict(X)
    with pytest.raises(AttributeError):
        _ = cls().coefs_
    model = fitted(cls)
    before = model.predict(X)
    for wrong in (X[:, :3], X[0], np.full_like(X, np.nan), [["a"] * 4]):
        with pytest.raises(ValueError):
            model.predict(wrong)
        with pytest.raises(ValueError):
            model.partial_fit(wrong, Y[:len(wrong)])
    for weights in (np.ones(3), np.ones((len(Y), 2)), np.full(len(Y), np.nan), np.zeros(len(Y))):
        with pytest.raises(ValueError):
            model.partial_fit(X, Y, sample_weight=weights)
    assert_array_equal(model.predict(X), before)
    with pytest.warns(DataConversionWarning):
        model.partial_fit(X, Y[:, None])
    with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
        fitted(cls)
    with pytest.warns(UserWarning, match="batch_size"):
        fitted(cls, batch_size=10**6)
    assert not hasattr(cls(solver="lbfgs"), "partial_fit")
    assert not hasattr(cls(optimizer=fastmlp.LBFGS()), "partial_fit") and hasattr(cls(), "partial_fit")


@pytest.mark.parametrize("options", [{"batch_size": True, "max_iter": 2}, {"max_iter": True},
                                     {"learning_rate_init": True}], ids=str)
def test_true_is_1_where_it_is_theirs(options):
    for solver in ("sgd", "adam"):
        expected, got = (cls(**{**FAST, "solver": solver, **options}).fit(X[:20], Y[:20])
                         for cls in theirs_and_ours(MLPClassifier))
        assert_allclose(got.loss_curve_, expected.loss_curve_, rtol=1e-6)


def test_weights_that_are_not_finite():
    for cls in BOTH:
        with warnings.catch_warnings(), pytest.raises(ValueError, match="non-finite parameter weights"):
            warnings.simplefilter("ignore")
            fitted(cls, solver="sgd", learning_rate_init=1e300, activation="identity")


def test_a_callback_that_raises():
    def callback(model, epoch, logs):
        if epoch == 2:
            raise KeyError("enough")

    for early_stopping in (False, True):
        model = MLPClassifier(**FAST, callbacks=[callback], early_stopping=early_stopping)
        with pytest.raises(KeyError):
            model.fit(X, Y)
        assert model.n_iter_ == len(model.loss_curve_) == 3
        model.predict(X)
        model.set_params(callbacks=[])
        model.fit(X, Y)
        assert model.n_iter_ == 5


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "lbfgs", "tol": 0.0}], ids=str)
def test_ctrl_c_keeps_what_was_learned(options):
    def callback(model, epoch, logs):
        if epoch == 3:
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):       # the handler runs before the next operation of Python
                pass

    model = MLPClassifier(**{**FAST, "max_iter": 500}, callbacks=[callback], **options)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(X, Y)
    assert model.n_iter_ in (3, 4) and np.isfinite(model.loss_)
    fresh = MLPClassifier(**{**FAST, "max_iter": model.n_iter_}, **options).fit(X, Y)
    assert_allclose(model.predict_proba(X), fresh.predict_proba(X), atol=0.2)


# Beyond scikit-learn's ----------------------------------------------------------------------------------

BEYOND = [
    (MLPClassifier, {"activation": "gelu"}),
    (MLPClassifier, {"hidden_layer_sizes": (8, 6), "activation": ["logistic", fastmlp.LeakyReLU(0.1)]}),
    (MLPClassifier, {"loss": "multiclass_hinge"}),
    (MLPClassifier, {"loss": losses.CrossEntropy(label_smoothing=0.1)}),
    (MLPClassifier, {"loss": "mean_squared_error"}),
    (MLPClassifier, {"loss": "hinge"}),
    (MLPRegressor, {"loss": "huber"}),
    (MLPRegressor, {"loss": losses.Huber(0.5)}),
    (MLPClassifier, {"optimizer": fastmlp.AdamW(0.01)}),
    (MLPRegressor, {"optimizer": optimizers.RMSprop(schedules.Cosine(0.01, 40))}),
    (MLPClassifier, {"optimizer": fastmlp.LBFGS(max_iter=20)}),
    (MLPClassifier, {"learning_rate_init": schedules.Exponential(0.02, 0.5, 200)}),
    (MLPClassifier, {"learning_rate_init": schedules.Step(0.05, 100), "solver": "sgd"}),
    (MLPClassifier, {"dropout": 0.2, "batch_norm": True}),
    (MLPRegressor, {"hidden_layer_sizes": (8, 6), "dropout": [0.0, 0.5], "batch_norm": [True, False]}),
    (MLPClassifier, {"class_weight": "balanced"}),
    (MLPClassifier, {"class_weight": {0: 5.0}}),
    (MLPClassifier, {"n_threads": 1}),
    (MLPClassifier, {"compute_dtype": "bfloat16"}),
]


@pytest.mark.parametrize("cls, options", BEYOND, ids=str)
def test_beyond(cls, options):
    """It changes what is learned, survives a copy of the parameters, and trains to something."""
    base = {**FAST, "max_iter": 40, "batch_size": 16, "learning_rate_init": 0.01}
    model = cls(**{**base, **options})
    again = clone(model)
    assert str(again.get_params()) == str(model.get_params())
    assert cls().set_params(**options).get_params()["hidden_layer_sizes"] == options.get(
        "hidden_layer_sizes", (100,))
    A, y = StandardScaler().fit_transform(X)[30:], Y[30:]
    for each in (model, again):
        each.fit(A, y)
    assert_array_equal(model.predict(A), again.predict(A))
    plain = cls(**base).fit(A, y)
    same = np.array_equal(model.coefs_[0], plain.coefs_[0]) if model.n_layers_ == 3 else False
    assert same == ("n_threads" in options)
    assert model.score(A, y) > (0.8 if cls is MLPClassifier else 0.4)
    pickle.loads(pickle.dumps(model)).predict(A)


def test_binary_labels_with_losses_of_every_kind():
    y = np.array(["no", "yes"])[(Y > 0).astype(int)]
    for loss in ("log_loss", "hinge", "squared_hinge", "multiclass_hinge", "cross_entropy", "kl_divergence",
                 "binary_cross_entropy", "mean_squared_error", "huber",
                 losses.BinaryCrossEntropy(pos_weight=2.0)):
        model = MLPClassifier(loss=loss, random_state=0, max_iter=60, learning_rate_init=0.02).fit(X, y)
        assert model.score(X, y) > 0.9, loss
        assert set(model.predict(X)) == {"no", "yes"}
        if losses.resolve(loss if loss != "log_loss" else "cross_entropy").output in ("softmax", "sigmoid"):
            assert_allclose(model.predict_proba(X).sum(axis=1), 1)
        else:
            with pytest.raises(AttributeError, match="predict_proba"):
                model.predict_proba(X)


def test_a_loss_of_ones_own():
    def loss(z, t):
        return float(((z - t) ** 2).mean()), 2 * (z - t) / z.size

    own = MLPRegressor(loss=loss, **FAST).fit(X, Y)
    named = MLPRegressor(loss="mean_squared_error", **FAST).fit(X, Y)
    assert_allclose(own.predict(X), named.predict(X), rtol=1e-6)


def test_early_stopping_that_is_switched_on_and_off():
    model = fitted(warm_start=True)
    assert model.best_validation_score_ is None and model.best_loss_ == min(model.loss_curve_)
    model.set_params(early_stopping=True).fit(X, Y)
    assert len(model.validation_scores_) == 5
    assert model.best_validation_score_ == max(model.validation_scores_)
    model.set_params(early_stopping=False).fit(X, Y)
    assert len(model.loss_curve_) == 15


def test_class_weights_are_weights_of_samples():
    weighted = MLPClassifier(**FAST, class_weight={0: 3.0, 2: 0.5}).fit(X, Y)
    by_hand = MLPClassifier(**FAST).fit(X, Y, sample_weight=np.array([3.0, 1.0, 0.5])[Y])
    assert_array_equal(weighted.coefs_[0], by_hand.coefs_[0])


@pytest.mark.parametrize("loss", ["poisson", "mean_squared_error"])
def test_a_loss_of_values_decides_between_0_and_1(loss):
    y = (X[:, 0] > np.median(X[:, 0])).astype(int)
    model = MLPClassifier(**{**FAST, "max_iter": 200}, loss=loss, learning_rate_init=0.01).fit(X, y)
    assert_array_equal(model.predict(X), (model.model_.predict(X).ravel() > 0.5).astype(int))


@pytest.mark.parametrize("cls", BOTH)
def test_validation_data(cls):
    held = (X[::3], Y[::3])
    model = fitted(cls, validation_data=held)
    assert len(model.val_loss_curve_) == 5 and model.validation_scores_ is None
    assert_array_equal(model.coefs_[0], fitted(cls).coefs_[0])
    last = model.model_.evaluate(X[::3], Y[::3] if cls is MLPClassifier else Y[::3, None])["loss"]
    assert model.val_loss_curve_[-1] == pytest.approx(last * (1 if cls is MLPClassifier else 0.5))
    stopped = fitted(cls, validation_data=held, early_stopping=True, max_iter=50, n_iter_no_change=2)
    assert max(stopped.validation_scores_) == pytest.approx(stopped.score(*held))
    assert fitted(cls).val_loss_curve_ is None and len(fitted(cls, early_stopping=True).val_loss_curve_) == 5
    with pytest.raises(ValueError, match="validation_data"):
        fitted(cls, validation_data=(X,))
    with pytest.raises(ValueError, match="^validation_data: expected a target for each of 3 rows, got 2$"):
        fitted(cls, validation_data=(X[:3], [0, 1]))
    if cls is MLPClassifier:
        with pytest.raises(ValueError, match=r"validation_data: expected labels in \[0 1 2\], got \[7\]"):
            fitted(cls, validation_data=(X[:3], [0, 7, 1]))


def test_callbacks_and_progress(capsys):
    seen = []

    def callback(model, epoch, logs):
        seen.append((epoch, logs["loss"]))
        return epoch == 2

    for options in ({}, {"solver": "lbfgs"}):
        seen.clear()
        model = fitted(callbacks=[callback], max_iter=20, **options)
        assert [epoch for epoch, _ in seen] == [0, 1, 2] and model.n_iter_ in (2, 3)
    for progress, shown in ((True, "samples/s"), ("log", "left"), ("bar", "\r")):      # there is no terminal
        fitted(progress=progress)
        err = capsys.readouterr().err
        assert "epoch 5/5" in err and shown in err
    with pytest.raises(ValueError, match="progress"):
        fitted(progress="bars")


def test_callbacks_within_epochs():
    class Steps:
        every = 2

        def __init__(self):
            self.steps = []

        def on_step_end(self, model, step, logs):
            self.steps.append(step)

    for options in ({}, {"optimizer": fastmlp.Adam(0.01)}):
        steps = Steps()
        fitted(callbacks=[steps], batch_size=20, **options)
        assert steps.steps == list(range(2, steps.steps[-1] + 1, 2)) and len(steps.steps) > 5


@pytest.mark.parametrize("cls", BOTH)
@pytest.mark.parametrize("options", [{}, {"solver": "sgd"}, {"early_stopping": True},
                                     {"optimizer": fastmlp.Adam(0.01)}], ids=str)
def test_diagnostics_watch(cls, options):
    diagnostics = fastmlp.Diagnostics(every=1, warn=False)
    plain = fitted(cls, batch_size=20, **options)
    model = fitted(cls, batch_size=20, callbacks=[diagnostics], **options)
    steps = model.n_iter_ * -(-len(X) * (9 if "early_stopping" in options else 10) // 200)
    assert diagnostics.steps.tolist() == list(range(1, steps + 1))
    assert diagnostics.values["weight_norm"].shape == (steps, 2)
    for a, b, norm in zip(model.coefs_, plain.coefs_, diagnostics.values["weight_norm"][-1]):
        assert_array_equal(a, b)
        if not options:
            assert_allclose(np.linalg.norm(a), norm, rtol=0.05)
    model.set_params(early_stopping=False).partial_fit(X, Y)
    assert len(diagnostics.steps) == -(-len(X) // 20)


@pytest.mark.parametrize("options", [{"solver": "lbfgs"}, {"optimizer": fastmlp.LBFGS()}], ids=str)
def test_diagnostics_have_nothing_to_watch_in_lbfgs(options):
    model = fitted()
    before = model.predict_proba(X)
    model.set_params(callbacks=[fastmlp.Diagnostics()], **options)
    with pytest.raises(ValueError, match="callbacks: Diagnostics looks at .* lbfgs takes none"):
        model.fit(X, Y)
    assert_array_equal(model.predict_proba(X), before)


@pytest.mark.parametrize("stop", [False, True])
@pytest.mark.parametrize("options", [{}, {"solver": "lbfgs"}, {"optimizer": fastmlp.LBFGS()}], ids=str)
def test_callbacks_begin_and_finish(options, stop):
    class Calls(list):
        def begin(self, network):
            self.append("begin")
            return stop

        def __call__(self, network, epoch, logs):
            self.append("epoch")

        def finish(self, network):
            self.append("finish")

    calls = Calls()
    model = fitted(callbacks=[calls], **options)
    assert calls[0] == "begin" and calls[-1] == "finish" and calls.count("finish") == 1
    assert len(calls) == 2 if stop else calls[1:-1] == ["epoch"] * model.n_iter_
    assert model.n_iter_ == 0 if stop else model.n_iter_ > 0


def test_callbacks_of_the_library():
    stopping = fastmlp.EarlyStopping(patience=2, monitor="val_loss")
    model = MLPClassifier(random_state=0, max_iter=500, learning_rate_init=0.1, callbacks=[stopping],
                          validation_data=(X[::3], Y[::3])).fit(X[1::3], Y[1::3])
    assert model.n_iter_ == stopping.stopped_epoch + 1 < 500
    best = min(model.val_loss_curve_)
    assert stopping.best == best == model.val_loss_curve_[-3]
    assert model.model_.evaluate(X[::3], Y[::3])["loss"] == pytest.approx(best)
    seen = []
    fitted(early_stopping=True, callbacks=[lambda model, epoch, logs: seen.append(logs)])
    assert [sorted(logs) for logs in seen] == [["loss", "val_loss", "val_score"]] * 5


def test_lbfgs_with_dropout_is_refused():
    for options in ({"dropout": 0.5}, {"batch_norm": True}):
        with pytest.raises(ValueError, match="^dropout, batch_norm"):
            fitted(solver="lbfgs", **options)


def test_threads_of_a_call():
    used = []
    before = fastmlp.get_num_threads()
    fitted(n_threads=1, callbacks=[lambda model, epoch, logs: used.append(fastmlp.get_num_threads())])
    assert set(used) == {1} and fastmlp.get_num_threads() == before


def test_a_row_is_predicted_as_in_a_table():
    A, b = load_digits(return_X_y=True)
    model = MLPClassifier(random_state=0, max_iter=3).fit(A, b)
    table = model.predict_proba(A)
    for i in range(0, 100, 10):
        assert_array_equal(model.predict_proba(A[i:i + 1])[0], table[i])


# The package --------------------------------------------------------------------------------------------

def test_import_fastmlp_does_not_import_scikit_learn():
    code = "import sys, fastmlp; assert 'sklearn' not in sys.modules and 'fastmlp.sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_scikit_learn():
    code = """
import sys
sys.modules["sklearn"] = None
try:
    import fastmlp.sklearn
except ImportError as error:
    assert 'pip install "fastmlp[sklearn]"' in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)
