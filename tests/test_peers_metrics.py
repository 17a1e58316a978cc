"""Metrics against scikit-learn's, and scikit-learn's in our place."""
from __future__ import annotations

import pytest
from numpy.testing import assert_allclose

from fastmlp.metrics import accuracy, compute, r2, resolve

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


def test_their_functions(rng):
    names = ["accuracy_score", "balanced_accuracy_score", "matthews_corrcoef", "cohen_kappa_score"]
    found = resolve([getattr(theirs, name) for name in names])
    assert list(found) == names
    a, b = rng.integers(0, 3, (2, 50))
    assert compute(found, a, b) == {name: float(getattr(theirs, name)(a, b)) for name in names}
