"""What code of the caller's own sees of a model that is being trained, and what it may change meanwhile."""
from __future__ import annotations

import signal
import threading

import numpy as np
import pytest
from conftest import assert_learned
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
from fastmlp import MLP, SGD, Adam, schedules


def data(rng, n=400, inputs=8):
    X = rng.standard_normal((n, inputs))
    return X, (X.sum(axis=1) > 0).astype(int)


def squared(z, t):
    return float(((z - t) ** 2).mean()), 2 * (z - t) / z.size


def parameters(model):
    return [array.copy() for array in (*model.weights, *model.biases)]


# A loss of the caller's own ------------------------------------------------------------------------------

@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("make", [lambda: SGD(0.05), lambda: SGD(0.05, momentum=0.9), lambda: Adam(0.01)])
def test_a_loss_sees_the_weights_of_its_step(make, threads, backend, dtype, rng, monkeypatch):
    monkeypatch.setattr(fastmlp._core.threads, "_num_threads", threads)
    X, t = rng.standard_normal((600, 64)), rng.standard_normal((600, 40))
    seen = []

    def loss(z, t):
        seen.append(parameters(model))
        seen[-1].append(model.forward(X[:3]))
        return squared(z, t)

    model, other = (MLP([64, 128, 40], loss=f, dtype=dtype, seed=0) for f in (loss, squared))
    optimizer, another = make(), make()
    model.fit(X, t, epochs=2, batch_size=200, optimizer=optimizer, shuffle=False, progress=False)
    for step, values in enumerate(seen):
        for ours, theirs in zip(values, [*parameters(other), other.forward(X[:3])]):
            assert_learned(ours, theirs)
        rows = slice(step % 3 * 200, step % 3 * 200 + 200)
        other.train_step(X[rows], t[rows], another)
    assert len(seen) == 6


def test_a_loss_that_trains_its_model_is_refused(backend, rng):
    def loss(z, t):
        model.train_step(X, t, SGD(0.1))
        return squared(z, t)

    X, t = rng.standard_normal((20, 4)), np.zeros((20, 2))
    model = MLP([4, 2], loss=loss, seed=0)
    before = parameters(model)
    with pytest.raises(RuntimeError, match="being trained"):
        model.train_step(X, t, SGD(0.1))
    for was, now in zip(before, parameters(model)):
        assert_array_equal(was, now)


@pytest.mark.parametrize("fails", [0, 1, 5])
def test_an_error_in_a_loss_ends_the_run_after_whole_steps(fails, backend, rng):
    calls = []

    def loss(z, t):
        calls.append(1)
        if len(calls) == fails + 1:
            raise OSError("the disk is full")
        return squared(z, t)

    X, t = rng.standard_normal((80, 4)), rng.standard_normal((80, 2))
    model, other = MLP([4, 9, 2], loss=loss, seed=0), MLP([4, 9, 2], loss=squared, seed=0)
    ours, theirs = Adam(0.01), Adam(0.01)
    with pytest.raises(OSError, match="the disk is full"):
        model.fit(X, t, batch_size=8, optimizer=ours, shuffle=False, progress=False)
    for step in range(fails):
        other.train_step(X[8 * step:8 * step + 8], t[8 * step:8 * step + 8], theirs)
    for a, b in zip(parameters(model), parameters(other)):
        assert_learned(a, b)
    for name, value in theirs.get_state(other).items():
        assert_learned(ours.get_state(model)[name], value)


class TimeIsUp(Exception):
    pass


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_an_exception_on_the_way_into_a_loss_is_not_lost(rng):
    def handler(*_):
        raise TimeIsUp

    X, t = rng.standard_normal((4000, 64)).astype("f4"), np.zeros((4000, 10))
    before = signal.signal(signal.SIGALRM, handler)
    try:
        for i in range(30):
            model, optimizer = MLP([64, 128, 10], loss=squared, seed=0), SGD(0.01)
            signal.setitimer(signal.ITIMER_REAL, 0.003 + i * 0.0005)
            with pytest.raises(TimeIsUp):
                model.fit(X, t, epochs=10_000, batch_size=256, optimizer=optimizer, shuffle=False,
                          progress=False)
            other = MLP([64, 128, 10], loss=squared, seed=0)
            steps = int(optimizer.get_state(model)["step"])
            for step in range(steps):
                rows = slice(step % 16 * 256, step % 16 * 256 + 256)
                other.train_step(X[rows], t[rows], SGD(0.01))
            assert_array_equal(model.weights[0], other.weights[0])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
@pytest.mark.parametrize("make", [lambda: SGD(0.01), lambda: Adam(0.001)])
def test_held_arrays_after_an_interrupt_of_short_epochs(make, rng):
    """Between two epochs nobody looks, and weights may stay packed; in the end they are in their place."""
    def handler(*_):
        raise TimeIsUp

    X, y = data(rng, 40)
    model, optimizer = MLP([8, 16, 2], seed=0), make()
    held = [*model.weights, *model.biases]
    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(TimeIsUp):
            model.fit(X, y, epochs=10**6, batch_size=None, optimizer=optimizer, progress=False)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    seen, steps = [array.copy() for array in held], int(optimizer.get_state(model)["step"])
    other = MLP([8, 16, 2], seed=0)
    other.fit(X, y, epochs=steps, batch_size=None, optimizer=make(), progress=False)
    assert steps > 1
    for ours, theirs in zip(seen, parameters(other)):
        assert_array_equal(ours, theirs)


@pytest.mark.parametrize("watch", ["callback", "metric"])
def test_held_arrays_after_every_epoch(watch, backend, rng):
    X, y = data(rng, 40)
    model, other = MLP([8, 16, 2], seed=0), MLP([8, 16, 2], seed=0)
    held, seen = model.weights[0], []

    def callback(*_):
        seen.append(held.copy())

    def metric(y_true, y_pred):
        callback()
        return 0.0

    model.fit(X, y, epochs=4, batch_size=10, optimizer=Adam(0.01), shuffle=False, progress=False,
              **({"callbacks": [callback]} if watch == "callback" else {"metrics": metric}))
    optimizer = Adam(0.01)
    for now in seen:
        other.fit(X, y, epochs=1, batch_size=10, optimizer=optimizer, shuffle=False, progress=False)
        assert_learned(now, other.weights[0])
    assert len(seen) == 4


# Functions of the learning rate --------------------------------------------------------------------------

@pytest.mark.parametrize("kind", ["function", "warm-up"])
@pytest.mark.parametrize("dtype_of_x", ["float64", "float16"])      # float16 is converted in parts
def test_a_learning_rate_function_sees_the_weights_of_its_step(kind, dtype_of_x, backend, dtype, rng):
    X, y = data(rng)
    X = X.astype(dtype_of_x)
    seen = {}

    def rate(step):
        seen[step] = parameters(model)
        return 0.1

    model, other = MLP([8, 16, 2], dtype=dtype, seed=0), MLP([8, 16, 2], dtype=dtype, seed=0)
    lr = rate if kind == "function" else schedules.WarmUp(0, rate)
    model.fit(X, y, epochs=3, batch_size=16, optimizer=SGD(lr), shuffle=False, progress=False)
    assert list(seen) == list(range(75))
    for step in range(75):
        for a, b in zip(seen[step], parameters(other)):
            assert_learned(a, b)
        rows = slice(step % 25 * 16, step % 25 * 16 + 16)
        other.train_step(X[rows], y[rows], SGD(0.1))
    for a, b in zip(parameters(model), parameters(other)):
        assert_learned(a, b)


def test_a_learning_rate_function_reads_and_writes_held_arrays(backend, dtype, rng):
    X, y = data(rng)
    model = MLP([8, 16, 2], dtype=dtype, seed=0)
    held, seen = model.weights[0], []

    def rate(step):
        seen.append(held[0, 0])
        held[...] = step
        return 0.0

    model.fit(X, y, epochs=1, batch_size=16, optimizer=SGD(rate), progress=False)
    assert seen[1:] == list(range(24))
    assert_array_equal(model.weights[0], 24)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_optimizer_that_changes_within_an_epoch(threads, backend, dtype, rng, monkeypatch):
    """Momentum is turned on: the workspace gets room for velocities, and loses no weights."""
    monkeypatch.setattr(fastmlp._core.threads, "_num_threads", threads)
    X, y = data(rng, 4000)
    model, optimizer = MLP([8, 16, 2], dtype=dtype, seed=0), SGD(0.0)

    def rate(step):
        optimizer.momentum = 0.9 if step >= 100 else 0.0
        return 0.0

    optimizer.lr = rate
    before = parameters(model)
    model.fit(X, y, epochs=2, batch_size=16, optimizer=optimizer, progress=False)
    for was, now in zip(before, parameters(model)):
        assert_array_equal(was, now)


def test_other_calls_between_two_runs_lose_nothing(backend, dtype, rng):
    """Whatever wants another workspace from within an epoch."""
    X, y = data(rng)

    def look(step):
        model.forward(X[:5])
        model.predict(X[:300])
        model.evaluate(X, y)
        model.workspace_nbytes(77)
        return 0.05

    model, other = MLP([8, 16, 2], dtype=dtype, seed=0), MLP([8, 16, 2], dtype=dtype, seed=0)
    model.fit(X, y, epochs=3, batch_size=16, optimizer=Adam(look), shuffle=False, progress=False)
    other.fit(X, y, epochs=3, batch_size=16, optimizer=Adam(0.05), shuffle=False, progress=False)
    for a, b in zip(parameters(model), parameters(other)):
        assert_learned(a, b)


# Inputs that change under a running call -----------------------------------------------------------------

@pytest.mark.parametrize("classes", [3, 16, 40])
@pytest.mark.parametrize("wrong", [-1, 10**7, -2**62])
def test_labels_that_change_after_they_were_checked(wrong, classes, dtype, rng):
    X, y = rng.standard_normal((500, 8)), rng.integers(0, classes, 500)

    def relabel(model, epoch, logs):
        y[::3] = wrong

    model = MLP([8, 12, classes], dtype=dtype, seed=0)
    message = f"y: expected class indices from 0 to {classes - 1}, got {wrong} in row"
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, epochs=3, batch_size=50, callbacks=[relabel], progress=False)
    assert all(np.isfinite(a).all() for a in parameters(model))
    model.fit(X, np.zeros(500, int), epochs=1, progress=False)


def test_labels_that_another_thread_changes(dtype, rng):
    X, y = rng.standard_normal((500, 8)), rng.integers(0, 40, 500)
    right, done = y.copy(), threading.Event()

    def flip():
        while not done.is_set():
            y[:] = np.where(y < 0, right, -2**40)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        for _ in range(100):
            try:
                MLP([8, 12, 40], dtype=dtype, seed=0).fit(X, y, epochs=2, batch_size=50, progress=False)
            except ValueError:
                pass
    finally:
        done.set()
        thread.join()


@pytest.mark.parametrize("change", ["rows", "columns", "labels"])
def test_arrays_that_are_reshaped_in_a_callback(change, dtype, rng):
    X, y = rng.standard_normal((400, 8)), rng.integers(0, 2, 400)

    def reshape(model, epoch, logs):
        if change == "rows":
            X.resize((100, 8), refcheck=False)
        elif change == "columns":
            X.resize((400, 4), refcheck=False)
        else:
            y.resize(100, refcheck=False)

    model = MLP([8, 4, 2], dtype=dtype, seed=0)
    with pytest.raises((ValueError, IndexError)):
        model.fit(X, y, epochs=3, batch_size=50, callbacks=[reshape], progress=False)
    assert all(np.isfinite(a).all() for a in parameters(model))


def test_weights_that_another_thread_changes(dtype, rng):
    X, y = data(rng, 3000)
    weights, done = np.ones(3000), threading.Event()

    def flip():
        while not done.is_set():
            weights[rng.integers(0, 3000, 1000)] = rng.integers(0, 2, 1000)

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        model = MLP([8, 12, 2], dtype=dtype, seed=0)
        for _ in range(20):
            model.fit(X, y, epochs=2, batch_size=64, sample_weight=weights, progress=False)
    finally:
        done.set()
        thread.join()
    assert all(np.isfinite(a).all() for a in parameters(model))


# Samples of weight 0 -------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [{}, {"batch_norm": True}, {"activation": "gelu"}], ids=str)
@pytest.mark.parametrize("padding", [np.nan, np.inf, 1e6])
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_that_weigh_nothing_take_no_part(threads, padding, options, backend, dtype, rng, monkeypatch):
    monkeypatch.setattr(fastmlp._core.threads, "_num_threads", threads)
    n = 1500 if backend == "cython" else 150        # enough work for two threads
    X, y, w = rng.standard_normal((n, 64)), rng.integers(0, 10, n), rng.uniform(0.5, 2, n)
    out = rng.random(n) < 0.3
    X[out], w[out] = padding, 0
    kept = ~out
    results = []
    for rows in (slice(None), kept):
        model = MLP([64, 128, 10], dtype=dtype, seed=0, **options)
        loss, gradients = model.loss_and_gradients(X[rows], y[rows], sample_weight=w[rows])
        steps = [model.train_step(X[rows], y[rows], SGD(0.1, 0.9), sample_weight=w[rows]) for _ in range(3)]
        results.append([loss, *steps, *gradients.weights, *gradients.biases, *parameters(model),
                        *(r for r in (*model.running_means, *model.running_variances) if r is not None)])
    for a, b in zip(*results):
        if backend == "numpy":                  # its sums are BLAS's
            assert_allclose(a, b, rtol=1e-4 if dtype == "f4" else 1e-10, atol=1e-6)
        else:
            assert_array_equal(a, b)
        assert np.isfinite(a).all()


def test_ignored_labels_take_no_part(backend, dtype, rng):
    from fastmlp import losses

    X, y = rng.standard_normal((60, 5)), rng.integers(0, 3, 60)
    X[7], y[7] = np.nan, -1
    model = MLP([5, 8, 3], loss=losses.CrossEntropy(ignore_index=-1), batch_norm=True, dtype=dtype, seed=0)
    model.fit(X, y, epochs=3, batch_size=8, optimizer=SGD(0.1), progress=False)
    arrays = [*parameters(model), model.running_means[0], model.running_variances[0]]
    assert all(np.isfinite(a).all() for a in arrays)


def test_a_batch_of_nothing_but_rows_of_weight_0(backend, dtype, rng):
    X, y = data(rng, 64)
    w = np.repeat([0.0, 1.0], 32)
    X[:32] = np.nan
    model = MLP([8, 4, 2], batch_norm=True, dtype=dtype, seed=0)
    model.fit(X, y, epochs=2, batch_size=16, sample_weight=w, shuffle=False, progress=False)
    assert all(np.isfinite(a).all() for a in (*parameters(model), model.running_variances[0]))


# Rows that weigh nothing ---------------------------------------------------------------------------------

@pytest.mark.parametrize("loss, good, bad", [
    ("mean_squared_error", 0.5, np.nan), ("huber", 0.5, np.nan),
    ("binary_cross_entropy", 1.0, np.nan), ("binary_cross_entropy", 1.0, 7.0), ("hinge", -1.0, np.nan),
    ("poisson", 2.0, -1.0), ("kl_divergence", 0.5, np.nan), ("cross_entropy", 1, -1),
    ("multiclass_hinge", 1, 99)])
def test_any_target_may_stand_where_the_weight_is_0(loss, good, bad, backend, dtype, rng):
    """As where a measurement is missing: the row takes no part, in training and in evaluation."""
    X = rng.standard_normal((40, 8))
    y = np.full((40, 2), good) if isinstance(good, float) else np.full(40, good)
    idle = np.arange(40) % 5 == 2
    other = y.copy()
    other[idle] = bad
    before, weights = other.copy(), np.where(idle, 0.0, 1.5)
    models = [MLP([8, 4, 2], loss=loss, dtype=dtype, seed=0) for _ in range(2)]
    seen = []
    for model, targets in zip(models, (y, other)):
        history = model.fit(X, targets, 2, 16, SGD(0.1), (X, targets, weights), progress=False,
                            sample_weight=weights)
        seen.append([history.loss, history.val_loss,
                     model.train_step(X, targets, SGD(0.1), sample_weight=weights),
                     model.loss_and_gradients(X, targets, sample_weight=weights)[0],
                     model.evaluate(X, targets, sample_weight=weights)])
    assert seen[0] == seen[1]
    assert_array_equal(other, before)
    for a, b in zip(*map(parameters, models)):
        assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"^y: "):      # in rows that count it is refused as ever
        models[1].train_step(X, np.full_like(y, bad), SGD(0.1), sample_weight=weights)
