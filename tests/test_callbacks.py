"""Callbacks: early stopping by the rule, on a real training, and with bad input."""
from __future__ import annotations

import math
from importlib.resources import files

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import MLP, SGD, state
from fastmlp.callbacks import EarlyStopping


@pytest.fixture(scope="module")
def few_digits():
    """150 images to learn, one label in five wrong, and 300 right ones: soon it knows them by heart."""
    with np.load(str(files("fastmlp") / "data" / "digits.npz")) as archive:
        x, y = archive["x"].astype(np.float32) / 16, archive["y"].astype(np.int64)
    learned = y[:150].copy()
    learned[::5] = (learned[::5] + 1) % 10
    return (x[:150], learned), (x[150:450], y[150:450])


def copies(model):
    return {name: array.copy() for name, array in state.arrays(model).items()}


def same(model, arrays):
    for name, array in state.arrays(model).items():
        assert_array_equal(array, arrays[name], err_msg=name)


def run(stopping, values, model=None, name="loss"):
    """Feed the values of an epoch each; the epoch it stopped at, or None."""
    model = model or MLP([2, 2], seed=0)
    for epoch, value in enumerate(values):
        if stopping(model, epoch, {name: value}):
            return epoch
    return None


# The rule --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("patience, values, stopped, best", [
    (1, [3, 2, 1], None, 2),
    (1, [3, 2, 2, 1], 2, 1),                        # as good is no improvement
    (2, [3, 2, 2.5, 1.5, 1.6, 1.7, 0], 5, 3),       # the count begins again with every improvement
    (3, [1, 2, 3, 0.5, 2, 3], None, 3),
    (3, [1, 2, 3, 4, 0], 3, 0),
    (2, [math.nan, 1, math.nan, math.nan, 0], 3, 1),
    (2, [math.nan, math.nan, 1], 1, None),
    (2, [math.inf, 5, math.inf, 4], None, 3),
    (2, [1, -math.inf, 0, 0], 3, 1),
])
def test_patience(patience, values, stopped, best):
    stopping = EarlyStopping(patience)
    assert run(stopping, values) == stopped
    assert stopping.stopped_epoch == stopped
    assert stopping.best_epoch == best
    assert stopping.best == (None if best is None else values[best])


@pytest.mark.parametrize("values, best", [
    ([1, 0.95, 0.91, 0.92], 0),
    ([1, 0.95, 0.89, 0.85], 2),
    ([1, 0.5, 0.45, 0.39], 3),
])
def test_min_delta(values, best):
    stopping = EarlyStopping(patience=10, min_delta=0.1)
    run(stopping, values)
    assert stopping.best_epoch == best


@pytest.mark.parametrize("name, mode, sign", [
    ("loss", None, 1), ("val_loss", None, 1), ("val_mean_squared_error", None, 1), ("val_log_loss", None, 1),
    ("accuracy", None, -1), ("val_accuracy", None, -1), ("val_r2", None, -1), ("val_f1_score", None, -1),
    ("val_cost", "min", 1), ("val_gain", "max", -1), ("loss", "max", -1), ("val_accuracy", "min", 1),
])
def test_direction(name, mode, sign):
    stopping = EarlyStopping(2, monitor=name, mode=mode)
    assert run(stopping, [sign * v for v in (3, 1, 2, 2)], name=name) == 3
    assert stopping.best == sign


def test_default_monitor_is_val_loss_where_there_is_one():
    stopping, model = EarlyStopping(1), MLP([2, 2], seed=0)
    assert not stopping(model, 0, {"loss": 1.0, "val_loss": 1.0})
    assert stopping(model, 1, {"loss": 0.5, "val_loss": 2.0})
    assert run(EarlyStopping(1), [1, 0.5, 0.4]) is None


def test_every_fit_starts_anew():
    stopping = EarlyStopping(2)
    assert run(stopping, [1, 2, 3]) == 2
    assert run(stopping, [9, 8, 7]) is None
    assert (stopping.best, stopping.stopped_epoch) == (7, None)


# On a training ---------------------------------------------------------------------------------------------

def test_restores_the_best_weights(few_digits, backend, dtype):
    train, test = few_digits
    model, seen = MLP([64, 64, 10], dtype=dtype, seed=0), []
    stopping = EarlyStopping(patience=6)
    history = model.fit(*train, epochs=200, batch_size=16, optimizer=SGD(0.1, momentum=0.9),
                        validation_data=test, progress=False,
                        callbacks=[lambda model, epoch, logs: seen.append(copies(model)), stopping])
    best = int(np.argmin(history.val_loss))
    assert stopping.best_epoch == best
    assert stopping.stopped_epoch == best + 6 == len(history.val_loss) - 1 < 199
    assert stopping.best == history.val_loss[best] < history.val_loss[-1]
    same(model, seen[best])
    assert model.evaluate(*test)["loss"] == history.val_loss[best]
    assert history.loss[-1] < history.loss[best]            # it had gone on learning by heart


def test_restores_running_statistics(few_digits, backend):
    """With batch normalisation the best weights are worth nothing with the statistics of others."""
    train, test = few_digits
    model, stopping = MLP([64, 64, 10], seed=0, batch_norm=True, dropout=0.2), EarlyStopping(patience=5)
    history = model.fit(*train, epochs=200, batch_size=16, optimizer=SGD(0.1, momentum=0.9),
                        validation_data=test, callbacks=[stopping], progress=False)
    assert stopping.stopped_epoch == stopping.best_epoch + 5
    assert model.evaluate(*test)["loss"] == min(history.val_loss) < history.val_loss[-1]


def test_without_restoring(few_digits, backend):
    train, test = few_digits
    model, seen = MLP([64, 64, 10], seed=0), []
    stopping = EarlyStopping(patience=3, restore_best=False)
    history = model.fit(*train, epochs=200, batch_size=16, optimizer=SGD(0.1, momentum=0.9),
                        validation_data=test, progress=False,
                        callbacks=[stopping, lambda model, epoch, logs: seen.append(copies(model))])
    assert stopping.stopped_epoch == len(seen) - 1 < 199
    same(model, seen[-1])
    assert model.evaluate(*test)["loss"] == history.val_loss[-1]
    stopping.finish(model)
    same(model, seen[-1])


def test_goes_on_training_afterwards(few_digits, backend):
    """Stopping by accuracy, then a second fit with the same objects."""
    train, test = few_digits
    model, stopping, optimizer = MLP([64, 32, 10], seed=0), EarlyStopping(2, monitor="val_accuracy"), SGD(0.1)
    for _ in range(2):
        history = model.fit(*train, epochs=60, batch_size=16, optimizer=optimizer, validation_data=test,
                            callbacks=[stopping], progress=False)
        assert stopping.best == max(history.val_accuracy)
        stopping.finish(model)
        assert model.evaluate(*test)["accuracy"] == stopping.best


def test_finish_when_the_epochs_run_out(few_digits, backend, dtype):
    train, test = few_digits
    model, stopping = MLP([64, 64, 10], dtype=dtype, seed=0), EarlyStopping(patience=100)
    history = model.fit(*train, epochs=40, batch_size=16, optimizer=SGD(0.1, momentum=0.9),
                        validation_data=test, callbacks=[stopping], progress=False)
    assert stopping.stopped_epoch is None
    assert len(history.val_loss) == 40
    assert model.evaluate(*test)["loss"] == min(history.val_loss) < history.val_loss[-1]


def test_diverged_training_has_nothing_to_restore(backend, rng):
    X, y = rng.standard_normal((20, 3)), np.full((20, 1), 1e30)
    model, stopping = MLP([3, 1], loss="mean_squared_error", seed=0), EarlyStopping(2)
    with pytest.warns(RuntimeWarning, match="diverged"):
        model.fit(X, y, epochs=9, optimizer=SGD(1.0), callbacks=[stopping], progress=False)
    assert (stopping.best, stopping.best_epoch, stopping.stopped_epoch) == (None, None, 1)


def test_copies_are_made_once():
    stopping, model = EarlyStopping(), MLP([5, 4, 3], seed=0)
    stopping(model, 0, {"loss": 3.0})
    first = stopping._kept
    arrays = list(first.values())
    model.weights[0][...] = 7
    stopping(model, 1, {"loss": 2.0})
    assert stopping._kept is first
    assert all(a is b for a, b in zip(first.values(), arrays))
    assert (first["weights.0"] == 7).all()
    assert not any(np.shares_memory(a, b) for a in arrays for b in state.arrays(model).values())


def test_one_object_for_several_models():
    stopping = EarlyStopping(1)
    for layers, dtype in [([5, 4, 3], "float32"), ([5, 4, 3], "float64"), ([5, 3], "float64"),
                          ([6, 2], "float32")]:
        model = MLP(layers, dtype=dtype, seed=0)
        before = copies(model)
        stopping(model, 0, {"loss": 1.0})
        for array in state.arrays(model).values():
            array += 1
        assert stopping(model, 1, {"loss": 2.0})
        same(model, before)
    with pytest.raises(ValueError, match="^model: expected the arrays.*weights.0"):
        stopping.finish(MLP([5, 4, 3]))


# Bad input -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, error, message", [
    ({"patience": 0}, ValueError, "^patience.*from 1 up, got 0"),
    ({"patience": -1}, ValueError, "^patience"),
    ({"patience": 1.5}, TypeError, "^patience"),
    ({"patience": None}, TypeError, "^patience"),
    ({"patience": True}, TypeError, "^patience"),
    ({"min_delta": -0.1}, ValueError, "^min_delta.*from 0 up"),
    ({"min_delta": math.nan}, ValueError, "^min_delta"),
    ({"min_delta": math.inf}, ValueError, "^min_delta"),
    ({"min_delta": "0"}, TypeError, "^min_delta"),
    ({"monitor": 1}, TypeError, "^monitor"),
    ({"mode": "maximum"}, ValueError, "^mode: unknown name 'maximum'.*min, max"),
    ({"mode": min}, TypeError, "^mode"),
], ids=str)
def test_bad_settings(arguments, error, message):
    with pytest.raises(error, match=message) as raised:
        EarlyStopping(**arguments)
    assert type(raised.value) is error


@pytest.mark.parametrize("arguments, message", [
    ({"monitor": "val_loss"}, r"^monitor: 'val_loss' is not recorded \(val_ needs validation_data\), only"),
    ({"monitor": "acuracy"}, "^monitor: 'acuracy' is not recorded, only loss, samples_per_second"),
    ({"monitor": "samples_per_second"}, '^mode: expected "min" or "max" for \'samples_per_second\''),
])
def test_bad_monitor(arguments, message, backend, rng):
    X, y = rng.standard_normal((20, 3)), rng.integers(0, 2, 20)
    with pytest.raises(ValueError, match=message):
        MLP([3, 2]).fit(X, y, callbacks=[EarlyStopping(**arguments)], progress=False)


def test_repr():
    assert repr(EarlyStopping(3, monitor="val_loss")) == (
        "EarlyStopping(patience=3, min_delta=0.0, monitor='val_loss', restore_best=True, mode=None)")
