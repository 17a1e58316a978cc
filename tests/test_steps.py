"""What `fit` records of every step, and the order of samples that a caller gives."""
from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
from fastmlp import LBFGS, MLP, SGD, Adam, AdamW, kernels
from fastmlp.backends import cython

RULES = [
    lambda: SGD(0.05, weight_decay=0.3),
    lambda: SGD(0.05, momentum=0.9, l1=0.1, weight_decay=0.3, decay_biases=True, divide_penalty=True),
    lambda: Adam(0.01, weight_decay=0.2, l1=0.3, clip_norm=0.5, divide_penalty=True),
    lambda: AdamW(0.01, l1=0.05),
    lambda: SGD(0.05),
]


def data(rng, n=53):
    return rng.standard_normal((n, 7)), rng.integers(0, 3, n), rng.integers(0, 3, n).astype(float)


def made(dtype, **options):
    return MLP([7, 37, 5, 3], activation="tanh", dtype=dtype, seed=0, **options)


def penalty(optimizer, model, weight):
    """By the formulas of fastmlp.optimizers."""
    decay = 0.0 if optimizer.decoupled else optimizer.weight_decay
    arrays = [*model.weights]
    if optimizer.decay_biases:
        arrays += [*model.biases, *(scale for scale in model.scales if scale is not None)]
    total = sum(float(decay / 2 * (a.astype(float) ** 2).sum() + optimizer.l1 * abs(a.astype(float)).sum())
                for a in arrays)
    return total / weight if optimizer.divide_penalty else total


@pytest.mark.parametrize("make", RULES)
@pytest.mark.parametrize("batch_norm", [False, [True, False]], ids=["", "normalised"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
def test_steps_are_recorded(backend, dtype, make, batch_norm, weighted, rng):
    """Beside the same steps, one by one."""
    X, y, weights = data(rng)
    weights = weights if weighted else np.ones(53)
    with fastmlp.use_backend(backend):
        model, other = (made(dtype, batch_norm=batch_norm) for _ in range(2))
        history = model.fit(X, y, epochs=2, batch_size=10, optimizer=make(), shuffle=False, progress=False,
                            sample_weight=weights if weighted else None, log_steps=True)
        optimizer, tolerance = make(), 1e-10 if dtype == np.float64 else 1e-4
        for epoch in range(2):
            for step, start in enumerate(range(0, 53, 10)):
                rows = slice(start, start + 10)
                weight = weights[rows].sum()
                assert history.step_weight[epoch][step] == weight
                assert_allclose(history.step_penalty[epoch][step], penalty(optimizer, other, weight),
                                rtol=tolerance)
                loss = other.train_step(X[rows], y[rows], optimizer, sample_weight=weights[rows])
                assert_allclose(history.step_loss[epoch][step], loss, rtol=tolerance)
    assert_allclose(history.loss, [loss @ weight / weight.sum() for loss, weight in
                                   zip(history.step_loss, history.step_weight)], rtol=tolerance)


def test_records_of_samples_that_are_converted_and_of_an_own_loss(backend, dtype, rng):
    X, y, _ = data(rng)
    with fastmlp.use_backend(backend):
        results = [made(dtype, loss=loss).fit(table, targets, epochs=1, batch_size=10, optimizer=SGD(0.01),
                                              progress=False, shuffle=False, log_steps=True)
                   for table, loss, targets in (
                       (X.astype(np.float16), "mean_squared_error", np.eye(3)[y]),
                       (X.astype(np.float16).astype(dtype), "mean_squared_error", np.eye(3)[y]),
                       (X.astype(np.float16).astype(dtype), own_loss, np.eye(3)[y]))]
    for result in results[1:]:
        assert len(result.step_loss[0]) == 6
        assert_allclose(result.step_loss[0], results[0].step_loss[0], rtol=1e-5)


def own_loss(z, t):
    return ((z - t) ** 2).mean(), 2 * (z - t) / z.size


def test_recording_changes_no_bit_and_has_the_same_bits_everywhere(dtype, monkeypatch, rng):
    X, y, _ = data(rng, 300)
    before = fastmlp.get_num_threads()
    weights, records = set(), set()
    try:
        for isa in [isa for isa in kernels.available_isas() if isa != "portable"]:
            monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, kernels.load(isa, dtype.name))
            for threads in (1, 2, 3):
                fastmlp.set_num_threads(threads)
                for log_steps in (False, True):
                    model = MLP([7, 200, 150, 3], dtype=dtype, seed=0)
                    history = model.fit(X, y, epochs=2, batch_size=100, progress=False, log_steps=log_steps,
                                        optimizer=Adam(weight_decay=0.1, divide_penalty=True))
                    weights.add(b"".join(w.tobytes() for w in model.weights))
                    if log_steps:
                        records.add(np.array([history.step_loss, history.step_penalty]).tobytes())
    finally:
        fastmlp.set_num_threads(before)
    assert len(weights) == len(records) == 1


def test_lbfgs_takes_no_steps(rng):
    X, y, _ = data(rng)
    with pytest.raises(ValueError, match="^log_steps: expected False with LBFGS"):
        made("float64").fit(X, y, optimizer=LBFGS(), log_steps=True, progress=False)


# The order of samples -----------------------------------------------------------------------------------

def test_the_order_of_a_function(backend, rng):
    """Also in a full batch; some rows twice, others never."""
    X, y, _ = data(rng)
    orders = [rng.permutation(53), rng.integers(0, 53, 53)]
    asked = []

    def order(epoch):
        asked.append(epoch)
        return orders[epoch]

    with fastmlp.use_backend(backend):
        for batch_size in (10, None):
            asked.clear()
            model, other = made("float64"), made("float64")
            model.fit(X, y, epochs=2, batch_size=batch_size, optimizer=SGD(0.05), shuffle=order,
                      progress=False)
            assert asked == [0, 1]
            optimizer = SGD(0.05)
            for rows in orders:
                other.fit(X[rows], y[rows], epochs=1, batch_size=batch_size, optimizer=optimizer,
                          shuffle=False, progress=False)
            for w, v in zip(model.weights, other.weights):
                assert_allclose(w, v, rtol=1e-9)


@pytest.mark.parametrize("order, error, message", [
    (np.arange(52), ValueError, r"^shuffle\(0\): expected shape \(53,\)"),
    (np.full(53, 53), ValueError, r"^shuffle\(0\): expected row numbers from 0 to 52, got 53 in place 0"),
    (np.r_[np.arange(52), -1], ValueError, r"^shuffle\(0\): .* got -1 in place 52"),
    (np.zeros(53), TypeError, r"^shuffle\(0\): expected row numbers of an integer dtype, got float64"),
    (None, TypeError, r"^shuffle\(0\)"),
])
def test_an_order_that_is_none(order, error, message, rng):
    X, y, _ = data(rng)
    model, other = made("float64"), made("float64")
    with pytest.raises(error, match=message):
        model.fit(X, y, epochs=1, batch_size=10, shuffle=lambda epoch: order, progress=False)
    for w, v in zip(model.weights, other.weights):
        assert_array_equal(w, v)


# Threads ------------------------------------------------------------------------------------------------

def test_limit_num_threads():
    before = fastmlp.get_num_threads()
    try:
        fastmlp.set_num_threads(4)
        with fastmlp.limit_num_threads(3):
            assert fastmlp.get_num_threads() == 3
            with fastmlp.limit_num_threads(8):
                assert fastmlp.get_num_threads() == 3
            with fastmlp.limit_num_threads(2), fastmlp.limit_num_threads(None):
                assert fastmlp.get_num_threads() == 2
            assert fastmlp.get_num_threads() == 3
        assert fastmlp.get_num_threads() == 4
        for wrong, error in ((0, ValueError), (257, ValueError), ("2", TypeError)):
            with pytest.raises(error, match="^n: "), fastmlp.limit_num_threads(wrong):
                pass
        assert fastmlp.get_num_threads() == 4
    finally:
        fastmlp.set_num_threads(before)
