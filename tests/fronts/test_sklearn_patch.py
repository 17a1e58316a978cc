"""Our estimators under scikit-learn's names, and what scikit-learn has fitted as ours."""
from __future__ import annotations

import copy
import inspect
import logging
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")

import sklearn.neural_network
from sklearn.base import clone
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.neural_network import _multilayer_perceptron
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp
from fastmlp.sklearn import MLPClassifier, MLPRegressor, from_sklearn, patch, unpatch

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
PAIRS = [(TheirClassifier, MLPClassifier), (TheirRegressor, MLPRegressor)]


@pytest.fixture
def patched():
    with patch():
        yield


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 6))
    return X, X @ rng.normal(size=(6, 3))


def targets_for(kind, values):
    return {"many classes": values.argmax(axis=1), "two classes": values[:, 0] > 0,
            "labels": (values > 0).astype(int), "one number": values[:, 0], "numbers": values}[kind]


# The swap ------------------------------------------------------------------------------------------------

def names():
    return [getattr(module, name) for module in (sklearn.neural_network, _multilayer_perceptron)
            for name in ("MLPClassifier", "MLPRegressor")]


THEIRS = [TheirClassifier, TheirRegressor] * 2
OURS = [MLPClassifier, MLPRegressor] * 2


def test_patch_and_unpatch():
    before = set(dir(MLPClassifier))
    try:
        patch()
        patch()
        assert names() == OURS
    finally:
        unpatch()
    assert names() == THEIRS
    unpatch()
    assert names() == THEIRS and set(dir(MLPClassifier)) == before


def test_as_a_context_manager_only_the_outer_one_ends_it():
    with pytest.raises(KeyError), patch():
        with patch():
            assert names() == OURS
        assert names() == OURS
        raise KeyError
    assert names() == THEIRS


def test_signatures_are_those_of_the_constructors():
    for theirs, ours in PAIRS:
        known = [*inspect.signature(theirs).parameters]
        assert known == [name for name in inspect.signature(ours).parameters if name in known]


def test_arguments_by_position_mean_what_they_mean_to_the_installed_scikit_learn(patched):
    """The first one of MLPRegressor is `loss` from 1.7 on, and hidden_layer_sizes before."""
    values = {"loss": "squared_error", "hidden_layer_sizes": (5, 4), "activation": "tanh"}
    for theirs, ours in PAIRS:
        names = [name for name in inspect.signature(theirs).parameters if name in values][:2]
        args = [values[name] for name in names]
        made = getattr(sklearn.neural_network, theirs.__name__)(*args, alpha=0.5)
        assert type(made) is ours
        assert theirs(*args, alpha=0.5).get_params().items() <= made.get_params().items()
        for wrong in ((*args, "adam", 0.1), (*args, 3)):
            with pytest.raises(TypeError):
                getattr(sklearn.neural_network, theirs.__name__)(*wrong, **{names[0]: args[0]})


# What scikit-learn has fitted ----------------------------------------------------------------------------

SOLVERS = [{"solver": "adam"}, {"solver": "sgd", "learning_rate_init": 0.05},
           {"solver": "sgd", "learning_rate_init": 0.05, "momentum": 0},
           {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.2, "power_t": 0.2},
           {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 2,
            "nesterovs_momentum": False}]


def train(estimator, X, y, times=3):
    kwargs = {"classes": np.unique(y)} if y.ndim == 1 and hasattr(estimator, "predict_proba") else {}
    for _ in range(times):
        estimator.partial_fit(X, y, **kwargs)
    return estimator


@pytest.mark.parametrize("kind", ["many classes", "two classes", "labels", "one number", "numbers"])
@pytest.mark.parametrize("parameters", SOLVERS, ids=lambda p: "-".join(map(str, p.values())))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_partial_fit_goes_on_with_the_same_numbers(kind, parameters, dtype, table):
    X, values = table
    X, y = X.astype(dtype), targets_for(kind, values)
    theirs_class = TheirClassifier if kind.endswith(("classes", "labels")) else TheirRegressor
    if kind == "labels":
        theirs = theirs_class(hidden_layer_sizes=(9, 5), random_state=3, max_iter=6, **parameters).fit(X, y)
    else:
        theirs = train(theirs_class(hidden_layer_sizes=(9, 5), random_state=3, **parameters), X, y, 6)
    ours = from_sklearn(theirs)
    assert type(ours) is dict(PAIRS)[theirs_class] and ours.coefs_[0].dtype == theirs.coefs_[0].dtype
    assert set(vars(theirs)) - set(dir(ours)) <= {"_best_coefs", "_best_intercepts", "_coef_indptr",
                                                  "_intercept_indptr"}
    rtol = 1e-9 if dtype == "float64" else 1e-3
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=rtol, atol=rtol)
    train(ours, X, y)
    train(theirs, X, y)
    assert len(ours.loss_curve_) == 9 and ours.t_ == theirs.t_
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=rtol)
    for own, their in zip(ours.coefs_, theirs.coefs_):
        np.testing.assert_allclose(own, their, rtol=rtol, atol=10 * rtol)


@pytest.mark.parametrize("early_stopping", [False, True])
def test_warm_start_goes_on_with_the_same_numbers(early_stopping, table):
    X, values = table
    theirs = TheirClassifier(8, warm_start=True, max_iter=4, random_state=1, early_stopping=early_stopping)
    theirs.fit(X, values.argmax(axis=1))
    ours = from_sklearn(theirs).fit(X, values.argmax(axis=1))
    theirs.fit(X, values.argmax(axis=1))
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-9)
    assert ours.validation_scores_ == theirs.validation_scores_
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-9)


def test_lbfgs_and_poisson(table):
    X, values = table
    y = np.exp(values[:, 0] / 3)
    theirs = TheirRegressor(hidden_layer_sizes=5, solver="lbfgs", max_iter=30, random_state=0,
                            **({"loss": "poisson"} if "loss" in TheirRegressor().get_params() else {}))
    theirs.fit(X, y)
    ours = fastmlp.from_sklearn(theirs)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-9)
    assert ours.loss_ == theirs.loss_ and ours.n_iter_ == theirs.n_iter_


def test_labels_features_and_the_original_stay(table):
    pandas = pytest.importorskip("pandas")
    X, values = table
    X = pandas.DataFrame(X, columns=[*"abcdef"])
    theirs = TheirClassifier(4, random_state=0, max_iter=3).fit(X, np.array([*"xyz"])[values.argmax(axis=1)])
    coefs = copy.deepcopy(theirs.coefs_)
    ours = from_sklearn(theirs)
    assert [*ours.feature_names_in_] == [*"abcdef"] and [*ours.classes_] == [*"xyz"]
    assert (ours.predict(X) == theirs.predict(X)).all()
    ours.coefs_[0][:] = 0
    ours.fit(X, np.arange(len(X)) % 2)
    assert all((a == b).all() for a, b in zip(coefs, theirs.coefs_)) and [*theirs.classes_] == [*"xyz"]


def test_an_estimator_that_is_not_fitted(table):
    X, values = table
    ours = from_sklearn(TheirRegressor(hidden_layer_sizes=7, random_state=5, max_iter=3))
    theirs = TheirRegressor(hidden_layer_sizes=7, random_state=5, max_iter=3).fit(X, values)
    assert not hasattr(ours, "coefs_")
    np.testing.assert_allclose(ours.fit(X, values).loss_curve_, theirs.loss_curve_, rtol=1e-9)


def test_ours_is_copied():
    ours = MLPClassifier(max_iter=7)
    copied = from_sklearn(ours)
    assert copied is not ours and copied.get_params() == ours.get_params()


def test_what_cannot_be_converted():
    class Derived(TheirClassifier):
        pass

    for wrong in (Derived(), StandardScaler(), None, TheirClassifier):
        with pytest.raises(TypeError, match="estimator: expected an MLPClassifier or MLPRegressor of"):
            from_sklearn(wrong)
    with pytest.raises(ValueError, match="activation='cubic' is scikit-learn's alone"):
        from_sklearn(TheirClassifier(activation="cubic"))


def test_pickles_of_scikit_learn(table, tmp_path):
    joblib = pytest.importorskip("joblib")
    X, values = table
    y = values.argmax(axis=1)
    theirs = make_pipeline(StandardScaler(), TheirClassifier(6, random_state=0, max_iter=5)).fit(X, y)
    joblib.dump(theirs, tmp_path / "model")
    pickled = pickle.dumps(theirs)
    with patch():
        for loaded in (pickle.loads(pickled), joblib.load(tmp_path / "model")):
            assert type(loaded[-1]) is MLPClassifier
            np.testing.assert_allclose(loaded.predict_proba(X), theirs.predict_proba(X), rtol=1e-9)
        again = pickle.dumps(loaded)
    assert type(pickle.loads(pickled)[-1]) is TheirClassifier
    np.testing.assert_allclose(pickle.loads(again).predict_proba(X), theirs.predict_proba(X), rtol=1e-9)


def test_a_pickle_of_another_version_warns(table, patched):
    X, values = table
    state = TheirRegressor(max_iter=2).fit(X, values).__getstate__() | {"_sklearn_version": "1.5.0"}
    with pytest.warns(InconsistentVersionWarning, match="1.5.0"):
        MLPRegressor().__setstate__(state)


# Falling back --------------------------------------------------------------------------------------------

def only_line(caplog):
    (record,) = caplog.records
    assert record.name == "fastmlp.sklearn" and record.levelno == logging.WARNING
    return record.getMessage()


def test_a_subclass_that_overrides_what_is_private(table, patched, caplog):
    X, values = table
    calls = []

    class Counting(sklearn.neural_network.MLPRegressor):
        def _backprop(self, *args):
            calls.append(args)
            return super()._backprop(*args)

    assert only_line(caplog) == ("class Counting: derived from scikit-learn's own MLPRegressor, since it "
                                 "overrides _backprop")
    assert Counting.__bases__ == (TheirRegressor,)
    estimator = Counting(max_iter=3, random_state=0).fit(X, values)
    assert len(calls) == 3 and isinstance(estimator, sklearn.neural_network.MLPRegressor)
    theirs = TheirRegressor(max_iter=3, random_state=0).fit(X, values)
    np.testing.assert_allclose(estimator.loss_curve_, theirs.loss_curve_)


def test_a_subclass_with_a_name_that_is_private_of_ours(patched, caplog):
    class Named(sklearn.neural_network.MLPClassifier):
        def _network(self):
            return "drawn"

    assert Named.__bases__ == (TheirClassifier,) and "_network" in only_line(caplog)


def test_a_mixin_that_overrides_what_is_private(patched, caplog):
    class Mixin:
        def _init_coef(self, fan_in, fan_out, dtype):
            return np.zeros((fan_in, fan_out), dtype), np.zeros(fan_out, dtype)

    class Zero(Mixin, sklearn.neural_network.MLPRegressor):
        pass

    assert Zero.__bases__ == (Mixin, TheirRegressor) and "_init_coef" in only_line(caplog)
    assert not Zero(max_iter=1).fit(np.zeros((5, 2)), np.zeros(5)).coefs_[0].any()


def test_other_subclasses_are_of_ours(table, patched, caplog):
    X, values = table

    class Small(sklearn.neural_network.MLPRegressor):
        def __init__(self, random_state=None, max_iter=3):
            super().__init__(hidden_layer_sizes=3, random_state=random_state, max_iter=max_iter)

        def predict(self, X):
            return super().predict(X).round(3)

    assert Small.__bases__ == (MLPRegressor,) and not caplog.records
    estimator = clone(Small(random_state=0)).fit(X, values)
    theirs = TheirRegressor(hidden_layer_sizes=3, random_state=0, max_iter=3).fit(X, values)
    np.testing.assert_allclose(estimator.loss_curve_, theirs.loss_curve_, rtol=1e-9)
    np.testing.assert_allclose(estimator.predict(X), theirs.predict(X).round(3), atol=1.1e-3)
    with pytest.raises(TypeError, match="class Deeper: overrides _fit_stochastic"):
        type("Deeper", (Small,), {"_fit_stochastic": None})


def test_private_methods_that_are_called(table, patched):
    X, values = table
    ours = sklearn.neural_network.MLPRegressor(hidden_layer_sizes=4, max_iter=3).fit(X, values)
    activations = ours._forward_pass([X, None, None])
    np.testing.assert_allclose(activations[-1], ours.predict(X), rtol=1e-9)
    assert activations[1].shape == (len(X), 4)
    assert ours._parameter_constraints is TheirRegressor._parameter_constraints


def test_a_private_method_that_is_assigned_to(table, patched, caplog, monkeypatch):
    X, values = table
    calls, original = [], TheirRegressor._forward_pass
    monkeypatch.setattr(TheirRegressor, "_forward_pass", original)      # restored in the end
    sklearn.neural_network.MLPRegressor._forward_pass = lambda self, a: calls.append(a) or original(self, a)
    estimator = sklearn.neural_network.MLPRegressor(hidden_layer_sizes=3, max_iter=2).fit(X, values)
    assert type(estimator) is TheirRegressor and calls
    assert "_forward_pass was assigned to" in only_line(caplog)


@pytest.fixture
def cubic(monkeypatch):
    """An activation that somebody has added to scikit-learn's."""
    from sklearn.neural_network import _base
    from sklearn.utils._param_validation import StrOptions

    def forward(X):
        X **= 3

    def backward(Z, delta):
        delta *= 3 * np.cbrt(Z) ** 2

    monkeypatch.setitem(_base.ACTIVATIONS, "cubic", forward)
    monkeypatch.setitem(_base.DERIVATIVES, "cubic", backward)
    monkeypatch.setitem(TheirRegressor._parameter_constraints, "activation", [StrOptions({"cubic", "relu"})])


def test_a_value_that_is_scikit_learns_alone(table, cubic, patched, caplog):
    X, values = table
    estimator = sklearn.neural_network.MLPRegressor(hidden_layer_sizes=3, activation="cubic", max_iter=3)
    assert only_line(caplog) == ("MLPRegressor: scikit-learn's own is taken, since activation='cubic' is "
                                 "scikit-learn's alone")
    assert isinstance(estimator, sklearn.neural_network.MLPRegressor)
    estimator.fit(X, values)
    for copied in (pickle.loads(pickle.dumps(estimator)), copy.deepcopy(estimator), clone(estimator)):
        assert type(copied) is TheirRegressor and copied.activation == "cubic"
    assert (pickle.loads(pickle.dumps(estimator)).predict(X) == estimator.predict(X)).all()
    assert np.isfinite(cross_val_score(estimator, X, values, cv=2)).all()
    assert len(caplog.records) == 1


def test_a_pickle_that_is_scikit_learns_alone(table, cubic, caplog):
    X, values = table
    theirs = TheirRegressor(hidden_layer_sizes=3, activation="cubic", max_iter=3).fit(X, values)
    pickled = pickle.dumps(theirs)
    with patch():
        loaded = pickle.loads(pickled)
    assert type(loaded) is TheirRegressor and (loaded.predict(X) == theirs.predict(X)).all()
    assert "activation='cubic'" in only_line(caplog)
    with pytest.raises(ValueError, match="activation='cubic' is scikit-learn's alone"):
        from_sklearn(theirs)


def test_a_parameter_that_is_scikit_learns_alone(patched, caplog, monkeypatch):
    init = TheirClassifier.__init__

    def newer(self, hidden_layer_sizes=(100,), *, temperature=1.0, max_iter=200):
        init(self, hidden_layer_sizes, max_iter=max_iter)
        self.temperature = temperature

    monkeypatch.setattr(TheirClassifier, "__init__", newer)
    estimator = sklearn.neural_network.MLPClassifier(5, temperature=2.0)
    assert type(estimator) is TheirClassifier and "temperature" in only_line(caplog)


def test_mistakes_are_no_reason(patched, caplog):
    with pytest.raises(TypeError, match="no_such_parameter"):
        sklearn.neural_network.MLPClassifier(no_such_parameter=1)
    assert type(sklearn.neural_network.MLPClassifier(activation="no such")) is MLPClassifier
    assert type(sklearn.neural_network.MLPClassifier(dropout=0.5)) is MLPClassifier
    assert not caplog.records


# python -m fastmlp.sklearn -------------------------------------------------------------------------------

PROGRAM = """
import sys
import helper
from sklearn.neural_network import MLPClassifier

if __name__ == "__main__":
    print(MLPClassifier.__module__.split(".")[0], sys.argv, helper.NAME, __file__)
    print("to stderr", file=sys.stderr)
    if "fail" in sys.argv:
        raise ArithmeticError("of the program")
    sys.exit(3)
"""


@pytest.fixture
def program(tmp_path):
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "helper.py").write_text("NAME = 'beside it'")
    (folder / "program.py").write_text(PROGRAM)
    return folder / "program.py"


def run(*arguments, cwd):
    python_path = os.pathsep.join(filter(None, [os.path.dirname(os.path.dirname(fastmlp.__file__)),
                                                os.environ.get("PYTHONPATH")]))
    return subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True,
                          timeout=60, env=os.environ | {"PYTHONPATH": python_path})


def test_a_script(program, tmp_path):
    ours = run("-m", "fastmlp.sklearn", program, "-a", "b", cwd=tmp_path)
    plain = run(program, "-a", "b", cwd=tmp_path)
    assert plain.stdout.startswith("sklearn ")
    assert ours.stdout == plain.stdout.replace("sklearn", "fastmlp", 1)
    assert ours.stderr == plain.stderr and ours.returncode == plain.returncode == 3


def test_a_module(program):
    ours = run("-m", "fastmlp.sklearn", "-m", "program", "x", cwd=program.parent)
    plain = run("-m", "program", "x", cwd=program.parent)
    assert plain.stdout.startswith("sklearn ")
    assert ours.stdout == plain.stdout.replace("sklearn", "fastmlp", 1)
    assert ours.returncode == plain.returncode == 3


def test_a_traceback(program, tmp_path):
    ours = run("-m", "fastmlp.sklearn", program, "fail", cwd=tmp_path)
    assert ours.returncode == 1 and ours.stderr.endswith("ArithmeticError: of the program\n")
    assert f'File "{program}", line 10, in <module>' in ours.stderr


@pytest.fixture
def main(monkeypatch):
    """What the command line calls, in this process."""
    from fastmlp.sklearn.__main__ import main

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fastmlp.sklearn", *arguments])
        monkeypatch.setattr(sys, "path", [*sys.path])
        main()

    yield call
    unpatch()


@pytest.mark.parametrize("arguments", [(), ("--what",), ("-c", "1")])
def test_usage(arguments, main, capsys):
    with pytest.raises(SystemExit) as exit:
        main(*arguments)
    assert exit.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m fastmlp.sklearn SCRIPT")
    assert names() == THEIRS


def test_help_and_what_is_not_there(main, capsys):
    main("--help")
    assert capsys.readouterr().out.startswith("usage: python -m fastmlp.sklearn SCRIPT")
    with pytest.raises(FileNotFoundError, match="nowhere.py"):
        main("nowhere.py")
    with pytest.raises(ImportError, match="no_such_module"):
        main("-m", "no_such_module")
