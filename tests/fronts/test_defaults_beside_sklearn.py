"""`MLP(layers).fit(X, y)` and nothing else reaches what scikit-learn's MLPs reach with their defaults."""
from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn import datasets
from sklearn import metrics as theirs
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from fastmlp import MLP, TrainingWarning, metrics


def scaled_diabetes():
    X, y = datasets.load_diabetes(return_X_y=True, scaled=False)
    return X, (y - 152) / 77


CLASSES = {
    "digits": lambda: datasets.load_digits(return_X_y=True),
    "wine": lambda: datasets.load_wine(return_X_y=True),
    "breast_cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    "moons": lambda: datasets.make_moons(600, noise=0.25, random_state=0),
}
VALUES = {
    "diabetes": lambda: datasets.load_diabetes(return_X_y=True, scaled=False),
    "diabetes, scaled targets": scaled_diabetes,
    "friedman1": lambda: datasets.make_friedman1(1200, noise=1.0, random_state=0),
}


@pytest.mark.parametrize("name", [*CLASSES, *VALUES])
def test_scores(name):
    """Means over the same splits."""
    classifies = name in CLASSES
    X, y = (CLASSES if classifies else VALUES)[name]()
    score = metrics.accuracy if classifies else metrics.r2
    reached = []
    for seed in range(2 if name in ("digits", "friedman1") else 5):
        train, test, y_train, y_test = train_test_split(
            X, y, test_size=0.25, random_state=seed, stratify=y if classifies else None)
        scaler = StandardScaler().fit(train)
        train, test = scaler.transform(train), scaler.transform(test)
        model = MLP([X.shape[1], 100, len(np.unique(y)) if classifies else 1], seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.simplefilter("error" if name != "diabetes" else "ignore", TrainingWarning)
            other = (MLPClassifier if classifies else MLPRegressor)(random_state=seed).fit(train, y_train)
            model.fit(train, y_train, progress=False)
        reached.append([score(y_test, model.predict(test)), score(y_test, other.predict(test))])
    ours, others = np.mean(reached, axis=0)
    assert ours >= others - 0.01, (ours, others)
    if not classifies:
        assert ours > 0.25


def test_metrics_of_scores_get_scores(rng):
    """And not labels, whose area is another one; by name, as a function, and of one output or two."""
    X, y = datasets.make_classification(600, 10, flip_y=0.2, random_state=0)
    for model in (MLP([10, 20, 2], seed=0), MLP([10, 20, 1], loss="bce", seed=0)):
        model.fit(X, y, progress=False, epochs=3)
        p = model.predict_proba(X)
        p = p[:, 1] if p.ndim == 2 else p
        measured = model.evaluate(X, y, metrics=[
            "roc_auc", theirs.roc_auc_score, theirs.average_precision_score, theirs.log_loss,
            theirs.brier_score_loss, theirs.f1_score])
        assert measured["roc_auc"] == pytest.approx(theirs.roc_auc_score(y, p))
        assert measured["roc_auc_score"] == pytest.approx(theirs.roc_auc_score(y, p))
        assert measured["roc_auc_score"] != pytest.approx(theirs.roc_auc_score(y, model.predict(X)), abs=1e-3)
        assert measured["average_precision_score"] == pytest.approx(theirs.average_precision_score(y, p))
        assert measured["log_loss"] == pytest.approx(theirs.log_loss(y, p), rel=1e-5)
        assert measured["brier_score_loss"] == pytest.approx(theirs.brier_score_loss(y, p), rel=1e-5)
        assert measured["f1_score"] == pytest.approx(theirs.f1_score(y, model.predict(X)))


def test_the_estimators_say_nothing_of_scales():
    """Their warnings are those of scikit-learn's."""
    from fastmlp.sklearn import MLPRegressor as Ours

    X, y = datasets.load_diabetes(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", TrainingWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        Ours(random_state=0, max_iter=50).fit(1000 * X, 1000 * y)
