"""scikit-learn's MLPs and ours in their place: the same parameters, epochs and numbers; one thread.

    python bench/sklearn_swap.py [--mnist mnist.npz] [--only digits] [--quick]

Both take turns in one process whose libraries have one thread; a time is the best of its turns. Before that,
their loss curves must agree. Without --mnist, random images of the same shape take MNIST's place: fit asks
nothing of what is on them. The searches have two processes, of one thread each.
"""
from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any, NamedTuple

import common

os.environ.update(dict.fromkeys(common.THREAD_LIMITS, "1"))     # before NumPy is imported

import numpy as np
import scipy.sparse
from sklearn import neural_network
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_limits

import fastmlp.sklearn

warnings.simplefilter("ignore", ConvergenceWarning)
os.environ["PYTHONWARNINGS"] = "ignore::UserWarning"            # of the processes of the searches
PARAMETERS = {"random_state": 0, "tol": 0.0, "n_iter_no_change": 10_000}


class Case(NamedTuple):
    """What is timed with each of the two classes.

    make        of an estimator's class, what is called again and again
    target      how many times as fast ours shall be
    check       of an estimator's class, numbers that must be the same from both
    """

    name: str
    target: float
    classes: tuple[type, type]
    make: Callable[[type], Callable[[], Any]]
    check: Callable[[type], Any]
    rounds: int


def classifiers() -> tuple[type, type]:
    return neural_network.MLPClassifier, fastmlp.sklearn.MLPClassifier


def fit_case(name: str, target: float, data: Callable[[], tuple[Any, Any]], rounds: int = 5,
             **parameters: Any) -> Callable[[], Case]:
    """Made when its turn comes, so that one table is in memory at a time."""
    def case() -> Case:
        X, y = data()

        def make(cls: type) -> Callable[[], Any]:
            return lambda: cls(**PARAMETERS, **parameters).fit(X, y)

        return Case(name, target, classifiers(), make, lambda cls: make(cls)().loss_curve_, rounds)

    return case


def digits() -> tuple[Any, Any]:
    X, y = load_digits(return_X_y=True)
    return X / 16, y


def table(rows: int, columns: int) -> Callable[[], tuple[Any, Any]]:
    def data() -> tuple[Any, Any]:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(rows, columns))
        return X, (X @ rng.normal(size=columns) + rng.normal(size=rows) > 0).astype(int)

    return data


def images(path: str | None) -> Callable[[], tuple[Any, Any]]:
    def data() -> tuple[Any, Any]:
        if path is None:
            rng = np.random.default_rng(0)
            return rng.random((60_000, 784), np.float32), rng.integers(0, 10, 60_000)
        with np.load(path) as file:
            return file["x_train"].reshape(60_000, 784).astype(np.float32) / np.float32(255), file["y_train"]

    return data


def words() -> tuple[Any, Any]:
    """20000 x 50000, CSR, 100 nonzeros a row."""
    rng = np.random.default_rng(0)
    rows, columns, nonzeros = 20_000, 50_000, 100
    indices = np.sort(rng.integers(0, columns // nonzeros, (rows, nonzeros)) + np.arange(0, columns, 500))
    X = scipy.sparse.csr_matrix((rng.random(rows * nonzeros), indices.ravel(),
                                 np.arange(0, rows * nonzeros + 1, nonzeros)), (rows, columns))
    return X, rng.integers(0, 2, rows)


def predict_case() -> Case:
    X, y = digits()
    row = X[:1]
    fitted = {cls: cls(**PARAMETERS, max_iter=5).fit(X, y) for cls in classifiers()}

    def make(cls: type) -> Callable[[], Any]:
        estimator = fitted[cls]

        def call() -> None:
            for _ in range(200):
                estimator.predict(row)

        return call

    return Case("200 times predict of one row, digits", 5, classifiers(), make,
                lambda cls: fitted[cls].predict_proba(X), 7)


class OneJob(fastmlp.sklearn.MLPClassifier):
    """Ours, in a search with one process."""


def search_case(name: str, target: float, data: Callable[[], tuple[Any, Any]], layers: list[tuple[int, ...]],
                classes: tuple[type, type], **parameters: Any) -> Callable[[], Case]:
    """A search with two processes, 5-fold: 40 fits and the last one."""
    def case() -> Case:
        X, y = data()

        def search(cls: type) -> Any:
            estimator = (fastmlp.sklearn.MLPClassifier if cls is OneJob else cls)(**PARAMETERS, **parameters)
            grid = {"alpha": [1e-4, 1e-3, 1e-2, 1e-1], "hidden_layer_sizes": layers}
            return GridSearchCV(estimator, grid, cv=5, n_jobs=1 if cls is OneJob else 2).fit(X, y)

        return Case(name, target, classes, lambda cls: lambda: search(cls),
                    lambda cls: search(cls).cv_results_["mean_test_score"], 3)

    return case


def cases(mnist: str | None) -> dict[str, Callable[[], Case]]:
    return {
        "digits": fit_case("fit, digits 1797 x 64, (100,), 50 epochs", 3, digits, max_iter=50),
        "1000 x 20": fit_case("fit, 1000 x 20, (32,), 50 epochs", 10, table(1000, 20), max_iter=50,
                              hidden_layer_sizes=(32,)),
        "300000 x 15": fit_case("fit, 300000 x 15, (64, 64), 2 epochs", 3, table(300_000, 15), rounds=3,
                                max_iter=2, hidden_layer_sizes=(64, 64)),
        "MNIST": fit_case("fit, MNIST 60000 x 784, (256, 128), 2 epochs", 1.8, images(mnist), rounds=3,
                          max_iter=2, hidden_layer_sizes=(256, 128)),
        "sparse": fit_case("fit, CSR 20000 x 50000, 100 a row, (32,), 1 epoch", 3, words, rounds=2,
                           max_iter=1, hidden_layer_sizes=(32,)),
        "predict": predict_case,
        "search table": search_case(
            "GridSearchCV(n_jobs=2), 1000 x 20, 100 epochs", 5, table(1000, 20), [(32,), (16, 16)],
            classifiers(), max_iter=100),
        "search digits": search_case(
            "GridSearchCV(n_jobs=2), digits, 30 epochs", 3, digits, [(100,), (64, 64)],
            classifiers(), max_iter=30),
        "jobs": search_case(
            "our GridSearchCV(n_jobs=1) beside n_jobs=2, digits, 30 epochs", 1.8, digits, [(100,), (64, 64)],
            (OneJob, fastmlp.sklearn.MLPClassifier), max_iter=30),
    }


def measure(case: Case, quick: bool) -> tuple[float, float]:
    """Seconds of scikit-learn's and of ours, after their numbers have been found the same."""
    expected, result = (np.asarray(case.check(cls)) for cls in case.classes)
    rtol = 1e-6 if "MNIST" not in case.name else 1e-2      # MNIST is in float32
    np.testing.assert_allclose(result, expected, rtol=rtol, atol=1e-9)
    calls = [case.make(cls) for cls in case.classes]
    best = [float("inf")] * 2
    for _ in range(1 if quick else case.rounds):
        for i, call in enumerate(calls):
            started = perf_counter()
            call()
            best[i] = min(best[i], perf_counter() - started)
    return best[0], best[1]


def lines(only: str, mnist: str | None, quick: bool) -> Iterator[str]:
    yield "| | scikit-learn, s | fastmlp, s | times as fast | at least |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for key, make in cases(mnist).items():
        if only in key:
            case = make()
            theirs, ours = measure(case, quick)
            yield f"| {case.name} | {theirs:.3g} | {ours:.3g} | **{theirs / ours:.1f}** | {case.target} |"


def main() -> None:
    settings = common.arguments(__doc__ or "", ("--mnist", {"metavar": "FILE", "help": "mnist.npz of Keras"}))
    with threadpool_limits(1):
        for line in lines(settings.only, settings.mnist, settings.quick):
            print(line, flush=True)


if __name__ == "__main__":
    main()
