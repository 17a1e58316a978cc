"""Metrics against scikit-learn's, and scikit-learn's in our place."""
from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fastmlp import MLP
from fastmlp.metrics import (
    OF_SKLEARN,
    accuracy,
    compute,
    f1,
    mae,
    mse,
    needs,
    precision,
    r2,
    recall,
    resolve,
    rmse,
    roc_auc,
)

theirs = pytest.importorskip("sklearn.metrics")


def test_same_numbers(rng):
    for shape in [(9,), (40,), (40, 3)]:
        t, p = rng.standard_normal((2, *shape))
        s = rng.uniform(size=shape[0])
        assert_allclose(r2(t, p), theirs.r2_score(t, p), rtol=1e-12)
        assert_allclose(r2(t, p, s), theirs.r2_score(t, p, sample_weight=s), rtol=1e-12)
        a, b = rng.integers(0, 2, (2, *shape))
        assert_allclose(accuracy(a, b), theirs.accuracy_score(a, b), rtol=1e-15)
        assert_allclose(accuracy(a, b, s), theirs.accuracy_score(a, b, sample_weight=s), rtol=1e-14)


OURS_AND_THEIRS = [(precision, "precision_score"), (recall, "recall_score"), (f1, "f1_score")]


@pytest.mark.parametrize("ours, name", OURS_AND_THEIRS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_classes_that_are_looked_for(ours, name, rng):
    function = getattr(theirs, name)
    s = rng.uniform(size=60)
    for labels in ([0, 1], [-1, 1], [3, 7], ["no", "yes"]):
        t, p = np.array(labels)[rng.integers(0, 2, (2, 60))]
        for a, b in ((t, p), (t, np.full(60, labels[0])), (t, np.full(60, labels[1])), (t[:1], p[:1])):
            if len({*a.tolist(), *b.tolist()}) == 2:
                assert_allclose(ours(a, b), function(a, b, pos_label=labels[1], zero_division=0), rtol=1e-14)
        assert_allclose(ours(t, p, s), function(t, p, pos_label=labels[1], sample_weight=s), rtol=1e-13)
    for labels in ([0, 1, 2, 3], ["a", "b", "c"]):
        t, p = np.array(labels)[rng.integers(0, len(labels), (2, 60))]
        assert_allclose(ours(t, p), function(t, p, average="macro"), rtol=1e-14)
        assert_allclose(ours(t, p, s), function(t, p, average="macro", sample_weight=s), rtol=1e-13)
        few = np.full(60, labels[0])
        assert_allclose(ours(t, few), function(t, few, average="macro", zero_division=0), rtol=1e-14)
    t, p = rng.integers(0, 2, (2, 60, 5))
    p[:, 3] = 0
    expected = function(t, p, average="macro", sample_weight=s, zero_division=0)
    assert_allclose(ours(t, p, s), expected, rtol=1e-13)
    assert ours(2 * t - 1, 2 * p - 1) == ours(t, p)
    assert ours([0, 0], [0, 0]) == ours([-1], [-1]) == 0 and ours([1, 1], [1, 1]) == ours(["b"], ["b"]) == 1


@pytest.mark.parametrize("ours, name", [
    (mae, "mean_absolute_error"), (mse, "mean_squared_error"), (rmse, "root_mean_squared_error")])
def test_errors_of_values(ours, name, rng):
    function = getattr(theirs, name, None) or pytest.skip("of a later scikit-learn")
    for shape in [(9,), (40,), (40, 3)]:
        t, p = rng.standard_normal((2, *shape))
        s = rng.uniform(size=shape[0])
        assert_allclose(ours(t, p), function(t, p), rtol=1e-13)
        assert_allclose(ours(t, p, s), function(t, p, sample_weight=s), rtol=1e-13)


def test_their_functions(rng):
    names = ["accuracy_score", "balanced_accuracy_score", "matthews_corrcoef", "cohen_kappa_score"]
    found = resolve([getattr(theirs, name) for name in names])
    assert list(found) == names
    a, b = rng.integers(0, 3, (2, 50))
    assert compute(found, a, b) == {name: float(getattr(theirs, name)(a, b)) for name in names}


def test_roc_auc(rng):
    for n in (5, 300):
        t, s = np.resize([0, 1, 1], n), rng.uniform(size=n)
        for z in (rng.standard_normal(n), rng.integers(0, 5, n)):
            assert_allclose(roc_auc(t, z), theirs.roc_auc_score(t, z), rtol=1e-12)
            assert_allclose(roc_auc(t, z, s), theirs.roc_auc_score(t, z, sample_weight=s), rtol=1e-12)
    t, z = np.resize(np.arange(4), 300), rng.dirichlet(np.ones(4), 300)
    assert_allclose(roc_auc(t, z), theirs.roc_auc_score(t, z, multi_class="ovr"), rtol=1e-12)
    t = rng.integers(0, 2, (300, 3))
    assert_allclose(roc_auc(t, z[:, :3]), theirs.roc_auc_score(t, z[:, :3]), rtol=1e-12)


def test_their_functions_of_scores(rng):
    """Each gives what it gives for the scores that scikit-learn itself would hand to it."""
    X = rng.standard_normal((400, 5))
    y = (X[:, 0] + rng.standard_normal(400) > 0).astype(int)
    for loss, outputs in (("cross_entropy", 2), ("binary_cross_entropy", 1)):
        model = MLP([5, 8, outputs], loss=loss, seed=0)
        p, z = model.predict_proba(X), model.forward(X)
        p, z = (p[:, 1], z[:, 1] - z[:, 0]) if outputs == 2 else (p, z[:, 0])
        functions = [theirs.roc_auc_score, theirs.average_precision_score, theirs.log_loss,
                     theirs.brier_score_loss, theirs.hinge_loss, theirs.accuracy_score]
        result = model.evaluate(X, y, metrics=functions)
        for f, scores in zip(functions, (p, p, p, p, z, model.predict(X))):
            assert_allclose(result[f.__name__], f(y, scores), rtol=1e-6, err_msg=f.__name__)
    y = rng.integers(0, 3, 400)
    model = MLP([5, 8, 3], seed=0)
    top, area = partial(theirs.top_k_accuracy_score, k=2), partial(theirs.roc_auc_score, multi_class="ovr")
    result = model.evaluate(X, y, metrics={"top": top, "area": area, "log": theirs.log_loss})
    p = model.predict_proba(X)
    assert_allclose([result["top"], result["area"], result["log"]],
                    [top(y, p), area(y, p), theirs.log_loss(y, p)], rtol=1e-6)


def test_their_scorers():
    with pytest.raises(TypeError, match="^metrics.*scorer"):
        resolve([theirs.make_scorer(theirs.roc_auc_score)])
    with pytest.raises(TypeError, match="^metrics.*scorer"):
        resolve({"auc": theirs.get_scorer("roc_auc")})


def test_names_of_their_functions():
    """Every name that is known is one of theirs, in this version or another: most are in any."""
    known = [name for name in OF_SKLEARN if hasattr(theirs, name)]
    assert len(known) >= len(OF_SKLEARN) - 3
    for name in known:
        assert needs(getattr(theirs, name)) == OF_SKLEARN[name]
