"""Callbacks within an epoch: when they are called, with what, and that training takes no notice of them."""
from __future__ import annotations

import math
import time
import warnings

import numpy as np
import pytest
from conftest import assert_same

from fastmlp import LBFGS, MLP, SGD, Adam, training
from fastmlp import load as load_model


class Steps:
    """Notes every call, and does something at it."""

    def __init__(self, every=1, action=None):
        self.every = every
        self.calls = []
        self.action = action

    def on_step_end(self, model, step, logs):
        self.calls.append((step, logs))
        return self.action(model, step, logs) if self.action else None

    @property
    def steps(self):
        return [step for step, _ in self.calls]


def data(rng, n=70):
    return rng.standard_normal((n, 4)).astype(np.float32), rng.integers(0, 3, n)


def fit(model, X, y, *callbacks, **options):
    return model.fit(X, y, **{"epochs": 3, "batch_size": 10, "optimizer": SGD(0.1, momentum=0.9),
                              "progress": False, **options}, callbacks=callbacks)


# When ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("every, expected", [
    (1, list(range(1, 22))), (2, list(range(2, 22, 2))), (5, [5, 10, 15, 20]), (7, [7, 14, 21]), (21, [21]),
    (22, []), (0, [])])
def test_called_at_multiples(every, expected, backend, rng):
    steps = Steps(every)
    fit(MLP([4, 5, 3], seed=0), *data(rng), steps)
    assert steps.steps == expected
    assert [logs["epoch"] for _, logs in steps.calls] == [(step - 1) // 7 for step in expected]


def test_without_every_after_each_step(backend, rng):
    class Plain:
        calls = 0

        def on_step_end(self, model, step, logs):
            self.calls += 1

    plain = Plain()
    fit(MLP([4, 5, 3], seed=0), *data(rng), plain)
    assert plain.calls == 21


def test_counting_goes_on(backend, rng):
    """From one fit to the next, after train_step, and after a model is read from its file."""
    X, y = data(rng)
    model, steps, optimizer = MLP([4, 5, 3], seed=0), Steps(5), SGD(0.1)
    fit(model, X, y, steps, epochs=1, optimizer=optimizer)
    model.train_step(X[:9], y[:9], optimizer)
    fit(model, X, y, steps, epochs=1, optimizer=optimizer)
    assert steps.steps == [5, 10, 15]


def test_counting_goes_on_from_a_file(rng, tmp_path):
    X, y = data(rng)
    model, steps = MLP([4, 5, 3], seed=0), Steps(5)
    fit(model, X, y, epochs=1)
    model.save(tmp_path / "m.safetensors")
    fit(load_model(tmp_path / "m.safetensors"), X, y, steps, epochs=1)
    assert steps.steps == [10]


def test_several_with_their_own_numbers_of_steps(backend, rng):
    one, two, three = Steps(2), Steps(3), Steps(None)
    fit(MLP([4, 5, 3], seed=0), *data(rng), one, two, three)
    assert one.steps == list(range(2, 22, 2))
    assert two.steps == list(range(3, 22, 3))
    assert three.steps == sorted({*one.steps, *two.steps, 7, 14, 21})      # training pauses there


def test_none_cuts_nothing(backend, rng, monkeypatch):
    steps, runs = Steps(None), []
    train = training.train

    def counted(model, samples, first, last, *rest):
        runs.append((first, last))
        return train(model, samples, first, last, *rest)

    monkeypatch.setattr(training, "train", counted)
    fit(MLP([4, 5, 3], seed=0), *data(rng), steps)
    assert runs == [(0, 7)] * 3 and steps.steps == [7, 14, 21]
    runs.clear()
    fit(MLP([4, 5, 3], seed=0), *data(rng), Steps(0), lambda *_: None)
    assert runs == [(0, 7)] * 3
    runs.clear()
    fit(MLP([4, 5, 3], seed=0), *data(rng), Steps(5), epochs=2)
    assert runs == [(0, 5), (5, 7), (0, 3), (3, 7)]


def test_steps_that_weigh_nothing_have_no_loss(rng):
    """As in the history, and not 0."""
    steps, (X, y) = Steps(), data(rng)
    fit(MLP([4, 5, 3], seed=0), X, y, steps, epochs=1, batch_size=len(X) // 2, shuffle=False,
        sample_weight=np.arange(len(X)) >= len(X) // 2)
    assert [math.isnan(logs["loss"]) for _, logs in steps.calls] == [True, False]


def test_none_is_called_within_long_epochs(rng):
    """About every 50 ms; a wide network's epoch takes longer."""
    X, y = rng.standard_normal((3000, 300)).astype("f4"), rng.integers(0, 3, 3000)
    steps, started = Steps(None), time.perf_counter()
    fit(MLP([300, 1500, 1500, 3], seed=0), X, y, steps, epochs=1, batch_size=30)
    if time.perf_counter() - started > 0.3:             # not so on a machine of the future
        assert len(steps.calls) > 1
    assert steps.steps[-1] == 100


def test_lbfgs_takes_no_steps(rng):
    pytest.importorskip("scipy")
    steps = Steps()
    with pytest.warns(RuntimeWarning, match="^callbacks: LBFGS takes no steps, and on_step_end of Steps is"):
        fit(MLP([4, 5, 3], activation="tanh", seed=0), *data(rng), steps, optimizer=LBFGS(max_iter=3))
    assert steps.calls == []
    steps.every = 0                     # does not want to be called
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(MLP([4, 5, 3], activation="tanh", seed=0), *data(rng), steps, optimizer=LBFGS(max_iter=3))


# With what -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("every", [1, 4, 10])
def test_loss_is_the_mean_since_the_last_call(every, weighted, backend, rng):
    X, y = data(rng, 73)
    weights = rng.integers(0, 4, 73).astype(float) if weighted else None
    steps = Steps(every)
    history = fit(MLP([4, 5, 3], seed=0, dtype="float64"), X, y, steps, sample_weight=weights, log_steps=True)
    losses, counted = np.concatenate(history.step_loss), np.concatenate(history.step_weight)
    for i, (_, logs) in enumerate(steps.calls):
        part = slice(i * every, (i + 1) * every)
        assert logs["loss"] == pytest.approx(np.average(losses[part], weights=counted[part]), rel=1e-12)
    assert len(steps.calls) == 24 // every


def test_one_infinite_loss_spoils_no_other(rng):
    """The numbers of a step are its own, and no difference of sums."""
    def loss(logits, targets):
        calls.append(1)
        return (math.inf if len(calls) == 2 else 1.0), np.zeros_like(logits)

    calls, steps = [], Steps()
    with pytest.warns(RuntimeWarning, match="diverged"):
        fit(MLP([4, 3], loss=loss, seed=0), np.ones((40, 4)), np.ones((40, 3)), steps, epochs=1)
    assert [logs["loss"] for _, logs in steps.calls] == [1.0, math.inf, 1.0, 1.0]


def test_logs_without_log_steps_have_no_arrays(backend, rng):
    history = fit(MLP([4, 5, 3], seed=0), *data(rng), Steps(2))
    assert sorted(history) == ["loss", "samples_per_second"]


@pytest.mark.parametrize("every", [1, 3])
def test_finds_the_model_as_it_is(every, backend, dtype, rng):
    """Also in arrays that it had before."""
    X, y = data(rng)
    model, other = (MLP([4, 6, 3], dtype=dtype, seed=0) for _ in range(2))
    held, seen = [*model.weights, *model.biases], []
    fit(model, X, y, Steps(every, lambda *_: seen.append([a.copy() for a in held])), epochs=2, shuffle=False)
    optimizer, expected = SGD(0.1, momentum=0.9), []
    for step in range(14):
        rows = slice(10 * (step % 7), 10 * (step % 7) + 10)
        other.train_step(X[rows], y[rows], optimizer)
        if (step + 1) % every == 0:
            expected.append([a.copy() for a in (*other.weights, *other.biases)])
    assert_same(seen, expected, backend, dtype)


# Training takes no notice ----------------------------------------------------------------------------------

@pytest.mark.parametrize("every", [1, 3, None])
@pytest.mark.parametrize("options", [{}, {"dropout": 0.3}, {"batch_norm": True}], ids=str)
def test_same_bits(every, options, backend, dtype, rng):
    X, y = data(rng)
    one, two = (MLP([4, 6, 3], dtype=dtype, seed=0, **options) for _ in range(2))
    first = fit(one, X, y, optimizer=Adam(0.01))
    second = fit(two, X, y, Steps(every, lambda model, *_: model.predict(X)), optimizer=Adam(0.01))
    assert_same(one, two, backend, dtype)
    assert_same(first.loss, second.loss, backend, dtype)


@pytest.mark.parametrize("X_dtype", ["float16", "int16"])
def test_rows_that_are_converted(X_dtype, backend, rng):
    X, y = (5 * rng.standard_normal((70, 4))).astype(X_dtype), rng.integers(0, 3, 70)
    one, two, steps = MLP([4, 6, 3], seed=0), MLP([4, 6, 3], seed=0), Steps(3)
    fit(one, X, y)
    fit(two, X, y, steps)
    assert_same(one, two, backend, one.dtype)
    assert steps.steps == [3, 6, 9, 12, 15, 18, 21]


# What it may do --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("answer, stops", [(True, True), (np.True_, True), (1, False), ("stop", False),
                                           (None, False)], ids=repr)
def test_true_ends_the_training(answer, stops, backend, rng):
    X, y = data(rng)
    epochs = []
    steps = Steps(1, lambda model, step, logs: answer if step == 10 else None)
    history = fit(MLP([4, 5, 3], seed=0), X, y, steps, lambda model, epoch, logs: epochs.append(epoch),
                  log_steps=True, validation_data=(X, y))
    if stops:
        assert steps.steps[-1] == 10 and epochs == [0, 1]
        assert [len(losses) for losses in history.step_loss] == [7, 3]
        assert history.loss[1] == pytest.approx(history.step_loss[1].mean(), rel=1e-12)
        assert len(history.val_loss) == 2
    else:
        assert steps.steps[-1] == 21 and epochs == [0, 1, 2]


def test_changes_settings(backend, rng):
    """The learning rate and the weights, from the next step on."""
    X, y = data(rng)
    optimizer = SGD(0.1)
    model, zeros = MLP([4, 5, 3], seed=0), np.zeros((5, 3), np.float32)

    def stop_learning(model, step, logs):
        if step == 10:
            optimizer.lr = 0.0
            held[...] = 0

    held = model.weights[1]
    fit(model, X, y, Steps(5, stop_learning), optimizer=optimizer)
    np.testing.assert_array_equal(model.weights[1], zeros)


def test_dropout_may_be_assigned(backend, rng):
    model = MLP([4, 5, 3], seed=0, dropout=0.5)

    def assign(model, step, logs):
        model.dropout = 0.0

    steps = Steps(4, assign)
    fit(model, *data(rng), steps)
    assert model.dropout == (0.0,) and steps.steps == [4, 8, 12, 16, 20]


def test_saves_and_measures(backend, rng, tmp_path):
    X, y = data(rng)
    model, path = MLP([4, 5, 3], seed=0), tmp_path / "m.safetensors"
    fit(model, X, y, Steps(21, lambda model, *_: model.save(path)))
    assert_same(load_model(path), model, backend, model.dtype)


def test_what_it_raises_comes_through(backend, rng):
    def fail(model, step, logs):
        raise ArithmeticError("enough")

    model, kept = MLP([4, 5, 3], seed=0), MLP([4, 5, 3], seed=0)
    X, y = data(rng)
    with pytest.raises(ArithmeticError, match="enough"):
        fit(model, X, y, Steps(3, fail), shuffle=False)
    optimizer = SGD(0.1, momentum=0.9)
    for i in range(3):
        kept.train_step(X[10 * i:10 * i + 10], y[10 * i:10 * i + 10], optimizer)
    assert_same(model, kept, backend, model.dtype)
    fit(model, X, y)                            # the model is nobody's any more


def test_an_object_that_is_called_at_both(backend, rng):
    class Both(Steps):
        def __call__(self, model, epoch, logs):
            self.calls.append(("epoch", epoch))

    both = Both(7)
    fit(MLP([4, 5, 3], seed=0), *data(rng), both, epochs=2)
    assert [call[0] for call in both.calls] == [7, "epoch", 14, "epoch"]


# Bad input -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("every, error, message", [
    (-1, ValueError, r"^callbacks\[1\].every: expected an integer from 0 up, got -1"),
    (1.5, TypeError, r"^callbacks\[1\].every: expected an integer, got 1.5"),
    ("30 s", TypeError, r"^callbacks\[1\].every"),
    (True, TypeError, r"^callbacks\[1\].every"),
])
def test_bad_every(every, error, message, rng):
    model, before = MLP([4, 5, 3], seed=0), MLP([4, 5, 3], seed=0)
    with pytest.raises(error, match=message):
        fit(model, *data(rng), print, Steps(every))
    np.testing.assert_array_equal(model.weights[0], before.weights[0])


@pytest.mark.parametrize("callbacks", [[3], 3, None, [object()], ["print"]], ids=repr)
def test_bad_callbacks(callbacks, rng):
    with pytest.raises(TypeError, match="^callbacks: expected a list of functions or objects with"):
        MLP([4, 3]).fit(*data(rng), callbacks=callbacks, progress=False)


def test_no_method(rng):
    steps = Steps()
    steps.on_step_end = 3
    with pytest.raises(TypeError, match=r"^callbacks\[0\].on_step_end: expected a method, got 3"):
        fit(MLP([4, 3]), *data(rng), steps)
