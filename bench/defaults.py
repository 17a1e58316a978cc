"""What `MLP([d, 100, k]).fit(X, y)` reaches, and nothing else, beside scikit-learn's MLPs as they come.

    python bench/defaults.py [--only diabetes] [--seeds 5] [--repeats 3]

The same rows for both, a quarter of them for the test, another split for each seed; inputs scaled to mean 0
and standard deviation 1 (pixels of digits to 0..1) by the training rows, targets as they are. Accuracy or R2
on the test rows, and the time of making and fitting, the least of the repeats: means over the seeds. Both
take turns in one process with one thread; the bars of fastmlp are drawn, as by default.
"""
from __future__ import annotations

import os
import warnings
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any, NamedTuple

import common

os.environ.update(dict.fromkeys(common.THREAD_LIMITS, "1"))     # before NumPy is imported

import numpy as np
from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler

from fastmlp import MLP, metrics

warnings.simplefilter("ignore", ConvergenceWarning)

Data = tuple[np.ndarray, np.ndarray]


class Case(NamedTuple):
    """A table of inputs and targets, and what is to be learned."""

    data: Callable[[], Data]
    classifies: bool
    largest: float | None = None        # of the inputs, where they are divided by it


def friedman() -> Data:
    return datasets.make_friedman1(5000, noise=1.0, random_state=0)


def houses() -> Data:
    """20000 x 8, like the table of California's houses: skewed columns of very different sizes, places on a
    map around two expensive centres, prices that are cut off above."""
    rng = np.random.default_rng(0)
    n = 20_000
    income = rng.lognormal(1.2, 0.45, n)
    age = rng.integers(1, 53, n)
    rooms, bedrooms = rng.lognormal(1.65, 0.3, n), rng.lognormal(0.05, 0.12, n)
    population, occupants = rng.lognormal(7.0, 0.75, n), rng.lognormal(1.05, 0.3, n)
    latitude, longitude = rng.uniform(32.5, 42.0, n), rng.uniform(-124.3, -114.3, n)
    near = [np.hypot(latitude - a, longitude - b) for a, b in ((34.0, -118.3), (37.7, -122.3))]
    price = (0.35 * income + 1.1 * np.exp(-near[0]) + 1.6 * np.exp(-near[1] / 1.5) + 0.004 * age
             - 0.25 * np.log(occupants) * income ** 0.5 + 0.15 * np.log(rooms / bedrooms))
    price *= np.exp(0.22 * rng.standard_normal(n))
    columns = [income, age, rooms, bedrooms, population, occupants, latitude, longitude]
    return np.stack(columns, axis=1), np.clip(price, 0.15, 5.0)


CASES = {
    "digits": Case(lambda: datasets.load_digits(return_X_y=True), True, 16.0),
    "wine": Case(lambda: datasets.load_wine(return_X_y=True), True),
    "breast_cancer": Case(lambda: datasets.load_breast_cancer(return_X_y=True), True),
    "make_classification": Case(lambda: datasets.make_classification(
        2000, 20, n_informative=10, n_classes=3, random_state=0), True),
    "moons": Case(lambda: datasets.make_moons(1000, noise=0.25, random_state=0), True),
    "diabetes": Case(lambda: datasets.load_diabetes(return_X_y=True, scaled=False), False),
    "friedman1, 5000 rows": Case(friedman, False),
    "houses, 20000 x 8": Case(houses, False),
}


def split(case: Case, seed: int) -> tuple[Any, ...]:
    """Training and test rows, scaled by the training rows."""
    X, y = case.data()
    train, test, y_train, y_test = train_test_split(X, y, test_size=0.25, random_state=seed,
                                                    stratify=y if case.classifies else None)
    if case.largest:
        return train / case.largest, test / case.largest, y_train, y_test
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test), y_train, y_test


def timed(fit: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """What it returns, and the seconds of its fastest repeat."""
    best = float("inf")
    for _ in range(repeats):
        started = perf_counter()
        model = fit()
        best = min(best, perf_counter() - started)
    return model, best


def measured(case: Case, seeds: int, repeats: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores (seeds, 2) and seconds (seeds, 2), scikit-learn's first."""
    scores, seconds = np.zeros((seeds, 2)), np.zeros((seeds, 2))
    score = metrics.accuracy if case.classifies else metrics.r2
    theirs = MLPClassifier if case.classifies else MLPRegressor
    for seed in range(seeds):
        X, X_test, y, y_test = split(case, seed)
        outputs = len(np.unique(y)) if case.classifies else 1
        fits = partial(fit_theirs, theirs, X, y, seed), partial(fit_ours, X, y, outputs, seed)
        for place, fit in enumerate(fits):
            model, seconds[seed, place] = timed(fit, repeats)
            scores[seed, place] = score(y_test, model.predict(X_test))
    return scores, seconds


def fit_theirs(cls: type, X: np.ndarray, y: np.ndarray, seed: int) -> Any:
    return cls(random_state=seed).fit(X, y)


def fit_ours(X: np.ndarray, y: np.ndarray, outputs: int, seed: int) -> MLP:
    model = MLP([X.shape[1], 100, outputs], seed=seed)
    model.fit(X, y)
    return model


def main() -> None:
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print("| | scikit-learn | fastmlp | difference | scikit-learn, ms | fastmlp, ms | times as fast |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, case in CASES.items():
        if options.only in name:
            scores, seconds = measured(case, options.seeds, options.repeats)
            (theirs, mine), (slow, fast) = scores.mean(axis=0), 1000 * seconds.mean(axis=0)
            print(f"| {name} | {theirs:.3f} | {mine:.3f} | {mine - theirs:+.3f} | {slow:.1f} | {fast:.1f} | "
                  f"{slow / fast:.1f} |", flush=True)


if __name__ == "__main__":
    main()
