"""Callbacks: early stopping by the rule, on a real training, and with bad input."""
from __future__ import annotations

import io
import math
from importlib.resources import files

import numpy as np
import pytest
from conftest import assert_learned, assert_same
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import LBFGS, MLP, SGD, Adam, RMSprop, schedules
from fastmlp._core import state
from fastmlp.callbacks import EarlyStopping

pytestmark = pytest.mark.any_isa


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
    assert_same(model.evaluate(*test)["loss"], history.val_loss[best], backend, dtype)
    assert history.loss[-1] < history.loss[best]            # it had gone on learning by heart


def test_restores_running_statistics(few_digits, backend):
    """With batch normalisation the best weights are worth nothing with the statistics of others."""
    train, test = few_digits
    model, stopping = MLP([64, 64, 10], seed=0, batch_norm=True, dropout=0.2), EarlyStopping(patience=5)
    history = model.fit(*train, epochs=200, batch_size=16, optimizer=SGD(0.1, momentum=0.9),
                        validation_data=test, callbacks=[stopping], progress=False)
    assert stopping.stopped_epoch == stopping.best_epoch + 5
    assert_same(model.evaluate(*test)["loss"], min(history.val_loss), backend, model.dtype)
    assert min(history.val_loss) < history.val_loss[-1]


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
    assert_same(model.evaluate(*test)["loss"], min(history.val_loss), backend, dtype)
    assert min(history.val_loss) < history.val_loss[-1]


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
    with pytest.raises(ValueError, match="^model: expected the one that was trained"):
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


# What ends a training --------------------------------------------------------------------------------------

@pytest.mark.parametrize("answer, stops", [
    (True, True), (np.True_, True), (np.float64(2) > 1, True), (False, False), (np.False_, False),
    (None, False),
    (1, False), (17, False), ("stop", False), (np.array([True, True]), False), (np.array(True), False),
    (np.int64(1), False), ([0], False)], ids=repr)
def test_true_of_python_or_numpy_ends_the_training(answer, stops, backend, rng):
    X, y = rng.standard_normal((20, 3)), rng.integers(0, 2, 20)
    seen = []
    history = MLP([3, 2], seed=0).fit(X, y, epochs=4, progress=False,
                                      callbacks=[lambda *_: answer, lambda *_: seen.append(1)])
    assert len(history.loss) == len(seen) == (1 if stops else 4)


@pytest.mark.parametrize("answer, stops", [
    (np.True_, True), (True, True), (1, False), (np.array([True]), False)], ids=repr)
def test_true_ends_lbfgs(answer, stops, backend, rng):
    pytest.importorskip("scipy")
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    model = MLP([3, 4, 2], activation="tanh", seed=0)
    result = LBFGS(max_iter=4).minimize(model, X, y, callback=lambda iteration, loss: answer)
    assert (len(result.losses) == 1) == stops
    history = model.fit(X, y, optimizer=LBFGS(max_iter=4), callbacks=[lambda *_: answer], progress=False)
    assert (len(history.loss) == 1) == stops


def test_begin_and_finish(backend, rng):
    X, y = rng.standard_normal((20, 3)), rng.integers(0, 2, 20)

    class Hooks:
        def __init__(self, answer):
            self.calls, self.answer = [], answer

        def begin(self, model):
            self.calls.append("begin")
            return self.answer

        def __call__(self, model, epoch, logs):
            self.calls.append(epoch)

        def finish(self, model):
            self.calls.append("finish")

    for answer, expected in [(None, [0, 1]), (False, [0, 1]), (1, [0, 1]), (True, []), (np.True_, [])]:
        hooks = Hooks(answer)
        MLP([3, 2], seed=0).fit(X, y, epochs=2, callbacks=[hooks], progress=False)
        assert hooks.calls == ["begin", *expected, "finish"]


# Whose weights ---------------------------------------------------------------------------------------------

def test_nothing_to_do_restores_nothing(backend, rng):
    X, y = rng.standard_normal((20, 3)), rng.integers(0, 2, 20)
    stopping, model = EarlyStopping(5), MLP([3, 2], seed=0)
    model.fit(X, y, epochs=3, callbacks=[stopping], progress=False)
    model.weights[0] = np.full((3, 2), 7, np.float32)
    model.fit(X, y, epochs=0, callbacks=[stopping], progress=False)
    assert (model.weights[0] == 7).all() and stopping.best is None
    other = MLP([3, 2], seed=1)
    before = copies(other)
    other.fit(X, y, epochs=0, callbacks=[stopping], progress=False)
    same(other, before)


def test_another_model_gets_its_own_weights(backend, rng):
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    stopping, one, two = EarlyStopping(5), MLP([3, 2], seed=0), MLP([3, 2], seed=1)
    one.fit(X, y, epochs=4, optimizer=SGD(0.5), callbacks=[stopping], progress=False)
    with pytest.warns(RuntimeWarning, match="diverged"):        # nothing of it is worth keeping
        two.fit(X * np.inf, y, epochs=2, callbacks=[stopping], progress=False)
    assert stopping.best_epoch is None and not np.isfinite(two.weights[0]).all()
    with pytest.raises(ValueError, match="^model: expected the one that was trained with this EarlyStopping"):
        run(stopping, [3, 2], one)
        stopping.finish(two)


# State -----------------------------------------------------------------------------------------------------

RESUMED = {
    "adam": lambda: Adam(0.02), "momentum": lambda: SGD(0.2, momentum=0.9, nesterov=True),
    "rmsprop": lambda: RMSprop(0.01),
    "function": lambda: SGD(lambda step: 0.3 / (1 + step / 20), momentum=0.5),
    "warm up": lambda: Adam(schedules.WarmUp(9, schedules.Exponential(0.05, 0.98))),
    "one cycle": lambda: SGD(schedules.OneCycle(0.3, 60)),
    "plateau": lambda: SGD(schedules.WarmUp(3, schedules.ReduceOnPlateau(0.5, 0.5, patience=0, cooldown=1)),
                           0.9),
}


@pytest.mark.parametrize("rule, options, threads", [
    *[(rule, options, (1, 1)) for rule in RESUMED for options in ({}, {"dropout": 0.3, "batch_norm": True})],
    ("adam", {"dropout": [0.2, 0.5]}, (1, 2)), ("plateau", {"batch_norm": True}, (2, 1))], ids=str)
def test_a_training_goes_on_from_every_epoch(rule, options, threads, backend, rng):
    """What a callback saved, as arrays by flat names, is a point to go on from: the epochs that are left end
    with the same bits, and the training stops where it would have stopped."""
    X, y = rng.standard_normal((90, 5)), rng.integers(0, 3, 90)
    Xv, yv = rng.standard_normal((60, 5)), rng.integers(0, 3, 60)

    def make():
        return (MLP([5, 12, 9, 3], seed=0, **options), RESUMED[rule](),
                EarlyStopping(3, monitor="val_loss", min_delta=0.01))

    def train(model, optimizer, callbacks, epochs):
        return model.fit(X, y, epochs=epochs, batch_size=16, optimizer=optimizer, validation_data=(Xv, yv),
                         sample_weight=np.linspace(0.5, 2, 90), callbacks=callbacks, progress=False)

    def save(model, epoch, logs):
        file = io.BytesIO()
        arrays = {"optimizer." + name: value for name, value in optimizer.get_state(model).items()}
        arrays |= {"stopping." + name: value for name, value in stopping.get_state().items()}
        np.savez(file, **arrays, **state.arrays(model))
        saved.append((file, state.counters(model), model.core.rng.bit_generator.state))

    def part(file, prefix):
        return {name.removeprefix(prefix): file[name] for name in file.files if name.startswith(prefix)}

    before = fastmlp.get_num_threads()
    try:
        fastmlp.set_num_threads(threads[0])
        saved = []
        model, optimizer, stopping = make()
        history = train(model, optimizer, [stopping, save], 9)
        assert len(saved) == len(history.loss) > 3
        expected = (copies(model), history.val_loss,
                    (stopping.best, stopping.best_epoch, stopping.stopped_epoch))
        fastmlp.set_num_threads(threads[1])
        for epoch, (file, counters, generator) in enumerate(saved):
            model, optimizer, stopping = make()
            file.seek(0)
            with np.load(file) as arrays:
                state.restore(model, {name: arrays[name] for name in state.arrays(model)})
                state.set_counters(model, counters)
                model.core.rng.bit_generator.state = generator
                optimizer.set_state(model, part(arrays, "optimizer."))
                stopping.set_state(part(arrays, "stopping."))
            history = train(model, optimizer, [stopping], 8 - epoch)
            for name, array in state.arrays(model).items():
                assert_learned(array, expected[0][name], err_msg=name)
            best, *epochs = expected[2]
            val_loss = history.get("val_loss", [])
            assert_same([val_loss, stopping.best], [expected[1][epoch + 1:], best], backend, model.dtype)
            assert [stopping.best_epoch, stopping.stopped_epoch] == epochs
    finally:
        fastmlp.set_num_threads(before)


def test_the_fit_after_that_starts_anew(backend, rng):
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    one, stopping = MLP([3, 2], seed=0), EarlyStopping(2, min_delta=100.0)
    one.fit(X, y, epochs=9, callbacks=[stopping], progress=False)
    assert stopping.stopped_epoch == 2
    again = EarlyStopping(2, min_delta=100.0)
    again.set_state(stopping.get_state())
    assert len(one.fit(X, y, epochs=9, callbacks=[again], progress=False).loss) == 0
    assert len(one.fit(X, y, epochs=9, callbacks=[again], progress=False).loss) == 3


@pytest.mark.parametrize("restore_best", [True, False])
def test_state_round_trip(restore_best, dtype):
    one, two = (EarlyStopping(3, restore_best=restore_best) for _ in range(2))
    model = MLP([4, 3], dtype=dtype, seed=0)
    for values in ([], [math.nan], [2.0, 3.0, 1.0, 5.0], [4, 5, 6, 7], [-math.inf, 1]):
        run(one, values, model)
        saved = one.get_state()
        assert all(isinstance(name, str) and isinstance(value, np.ndarray) for name, value in saved.items())
        two.set_state(saved)
        for name, value in two.get_state().items():
            assert_array_equal(value, saved[name], err_msg=name)
            assert value.dtype == saved[name].dtype
        for value in saved.values():                # copies: neither side is aliased
            value[...] = 9
        assert (two.best, two.best_epoch, two.stopped_epoch) == (one.best, one.best_epoch, one.stopped_epoch)
        assert not restore_best or one.best_epoch is None or not (two._kept["weights.0"] == 9).all()


def test_bad_state_changes_nothing():
    model, stopping = MLP([4, 3], seed=0), EarlyStopping(3)
    run(stopping, [3.0, 2.0, 2.5], model)
    good = stopping.get_state()

    def check(error, message, **changes):
        values = {name: value for name, value in {**good, **changes}.items() if value is not None}
        with pytest.raises(error, match=message):
            stopping.set_state(values)
        for name, value in stopping.get_state().items():
            assert_array_equal(value, good[name])
        assert not stopping._resumed

    check(ValueError, "^state: expected an entry 'waited'", waited=None)
    check(ValueError, "^state: unknown entry 'velocity'", velocity=np.array(1))
    check(ValueError, "^state: expected entries kept", **{"kept.weights.0": None, "kept.biases.0": None})
    check(TypeError, r"^state\['kept.biases.0'\].*dtype float32 or float64",
          **{"kept.biases.0": np.zeros(3, int)})
    check(TypeError, r"^state\['best'\]", best="2")
    check(ValueError, r"^state\['best_epoch'\]", best=np.nan)
    check(ValueError, r"^state\['best_epoch'\]", best_epoch=-2)
    check(ValueError, r"^state\['epochs'\]", best_epoch=3)
    check(ValueError, r"^state\['epochs'\]", waited=4)
    check(TypeError, r"^state\['epochs'\].*integer", epochs=2.5)
    check(TypeError, r"^state\['waited'\].*integer", waited=np.array([1, 2]))
    with pytest.raises(TypeError, match="^state: expected a dict"):
        stopping.set_state(list(good.items()))
    with pytest.raises(ValueError, match="^state: unknown entry 'kept"):
        EarlyStopping(restore_best=False).set_state(good)
    other = EarlyStopping(3)
    other.set_state({**good, "kept.weights.0": np.zeros((5, 3), np.float32)})
    before = copies(model)
    with pytest.raises(ValueError, match="^model: expected the arrays"):
        model.fit(np.eye(4), [0, 1, 2, 0], callbacks=[other], progress=False)
    same(model, before)


# Attributes ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, value, error", [
    ("patience", 0, ValueError), ("patience", 1.5, TypeError), ("min_delta", -1, ValueError),
    ("monitor", 1, TypeError), ("mode", "maximum", ValueError), ("best", 1.0, AttributeError),
    ("stopped_epoch", 1, AttributeError), ("patiense", 3, AttributeError)])
def test_bad_assignment(name, value, error):
    stopping = EarlyStopping(3)
    with pytest.raises(error, match=name):
        setattr(stopping, name, value)
    assert repr(stopping) == repr(EarlyStopping(3)) and stopping.best is None


def test_assigned_settings_count():
    stopping = EarlyStopping(9)
    stopping.patience, stopping.mode = np.int64(1), "max"
    assert run(stopping, [1, 2, 1]) == 2


def test_a_name_that_is_missing_beside_validation_data(rng):
    """validation_data, which is there, is not asked for."""
    X, y = rng.standard_normal((20, 2)), rng.integers(0, 2, 20)
    with pytest.raises(ValueError, match="^monitor: 'val_acc' is not recorded, only loss, .*val_accuracy$"):
        MLP([2, 2], seed=0).fit(X, y, epochs=1, validation_data=(X, y), progress=False,
                                callbacks=[EarlyStopping(monitor="val_acc")])
