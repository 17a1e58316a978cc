"""Searches whose fits run elsewhere, in joblib's processes and on a cluster of dask: the same results as
alone, and no more threads than cores."""
from __future__ import annotations

import os

import numpy as np
import pytest

pytest.importorskip("sklearn")

import joblib
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV, cross_val_score

import fastmlp
from fastmlp.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
GRID = {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(64,), (40, 20)]}
X, y = load_iris(return_X_y=True)


def share_of_a_worker():
    """Threads for each of two workers; where the environment sets a number, that is what all of them have."""
    cores = fastmlp.get_num_threads()
    return cores if "FASTMLP_NUM_THREADS" in os.environ else max(1, cores // 2)


def in_a_worker():
    """A callback that raises in this process, and where a fit has more threads than its share.

    A function's own function goes to the workers by value: they need not find this file.
    """
    here, share = os.getpid(), share_of_a_worker()

    def callback(model, epoch, logs):
        if os.getpid() == here:
            raise AssertionError("this is the process of the test")
        if fastmlp.get_num_threads() > share:
            raise AssertionError(f"{fastmlp.get_num_threads()} threads, {share} expected")

    return callback


def search(callbacks=()):
    model = MLPClassifier(max_iter=4, batch_size=32, random_state=0, callbacks=callbacks)
    found = GridSearchCV(model, GRID, cv=2, n_jobs=2, error_score="raise").fit(X, y)
    return found.cv_results_["mean_test_score"], found.best_params_, found.best_estimator_.predict_proba(X)


def scores(callbacks=()):
    model = MLPRegressor(max_iter=4, random_state=0, early_stopping=True, callbacks=callbacks)
    return cross_val_score(model, X, y, cv=3, n_jobs=2, error_score="raise")


@pytest.fixture(scope="module")
def alone():
    with joblib.parallel_config("sequential"):
        return search(), scores()


def check(alone):
    """Inside of joblib.parallel_config. The best estimator is fitted here at last: not with this callback."""
    ours = search()
    for expected, result in zip(alone[0], ours):
        assert np.all(expected == result)
    assert (scores([in_a_worker()]) == alone[1]).all()
    model = MLPClassifier(max_iter=3, random_state=0, callbacks=[in_a_worker()])
    GridSearchCV(model, GRID, cv=2, n_jobs=2, error_score="raise", refit=False).fit(X, y)


def test_the_callback_raises_here():
    with joblib.parallel_config("sequential"), pytest.raises(AssertionError, match="process of the test"):
        scores([in_a_worker()])


def test_processes_of_joblib(alone):
    with joblib.parallel_config("loky", n_jobs=2):
        check(alone)


def test_a_cluster_of_dask(alone):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None,
                                 silence_logs="ERROR") as cluster,
        distributed.Client(cluster) as client,
    ):
        assert len(client.run(os.getpid)) == 2
        with joblib.parallel_config("dask"):
            check(alone)
        assert max(client.run(fastmlp.get_num_threads).values()) <= share_of_a_worker()
