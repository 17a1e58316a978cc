"""fit(restarts=n): the best of n trainings, to the bit, and what becomes of everything around it."""
from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from conftest import Learned, assert_same

import fastmlp
from fastmlp import LBFGS, MLP, SGD, Adam, EarlyStopping, schedules
from fastmlp.restarts import seed_of


def data(rng, n=40):
    return rng.standard_normal((n, 4)).astype(np.float32), rng.integers(0, 3, n)


OPTIONS = {"epochs": 4, "batch_size": 7, "progress": False}


def separately(make, n, X, y, optimizer, seed=3, **options):
    """n models, each made with its seed and trained alone, by somebody who has read the documentation."""
    trained = []
    for i in range(n):
        model, rule = make(seed_of(seed, i)), optimizer()
        history = model.fit(X, y, **{**OPTIONS, **options}, optimizer=rule)
        trained.append((model, history, rule))
    return trained


@pytest.mark.parametrize("settings", [{}, {"dropout": 0.3}, {"batch_norm": True}, {"init": "orthogonal",
                                      "bias_init": fastmlp.initializers.Constant(0.1)}], ids=str)
@pytest.mark.parametrize("optimizer", [lambda: SGD(0.1, momentum=0.9), lambda: Adam(0.01),
                                       lambda: SGD(schedules.ReduceOnPlateau(0.3, patience=0))],
                         ids=["momentum", "adam", "plateau"])
def test_same_bits_as_the_best_of_separate_ones(settings, optimizer, backend, dtype, rng):
    X, y = data(rng)
    Xv, yv = data(rng)
    make = lambda seed: MLP([4, 6, 3], seed=seed, dtype=dtype, **settings)      # noqa: E731
    model, rule = make(3), optimizer()
    history = model.fit(X, y, **OPTIONS, optimizer=rule, restarts=5, validation_data=(Xv, yv))
    trained = separately(make, 5, X, y, optimizer, validation_data=(Xv, yv))
    losses = [one.evaluate(Xv, yv)["loss"] for one, _, _ in trained]
    best, its_history, its_rule = trained[int(np.argmin(losses))]
    assert Learned(model) == Learned(best)
    assert_same([restart.loss for restart in history.restarts], losses, backend, dtype)
    assert [restart.seed for restart in history.restarts] == [seed_of(3, i) for i in range(5)]
    for restart, (one, other, _) in zip(history.restarts, trained):
        assert_same(restart.weights + restart.biases, [*one.weights, *one.biases], backend, dtype)
        assert_same(restart.history.loss, other.loss, backend, dtype)
    assert_same(history.val_loss, its_history.val_loss, backend, dtype)
    # and goes on like the best
    model.fit(X, y, **OPTIONS, optimizer=rule)
    best.fit(X, y, **OPTIONS, optimizer=its_rule)
    assert Learned(model) == Learned(best)


def test_not_always_the_first(rng):
    """Or the test above would pass without any choice."""
    X, y = data(rng)
    chosen = set()
    for seed in range(12):
        history = MLP([4, 6, 3], seed=seed).fit(X, y, **OPTIONS, optimizer=SGD(0.1), restarts=3)
        losses = [restart.loss for restart in history.restarts]
        chosen.add(int(np.argmin(losses)))
        assert history is history.restarts[int(np.argmin(losses))].history
    assert chosen == {0, 1, 2}


def test_training_loss_decides_without_validation_data(backend, rng):
    """That of the model as it is, with the weights of samples and classes."""
    X, y = data(rng)
    weights = rng.integers(0, 3, 40).astype(float)
    model = MLP([4, 6, 3], seed=0, dropout=0.2)
    history = model.fit(X, y, **OPTIONS, optimizer=SGD(0.1), restarts=4, sample_weight=weights,
                        class_weight={0: 1.0, 1: 2.0, 2: 0.5})
    combined = weights * np.array([1.0, 2.0, 0.5])[y]
    loss = model.evaluate(X, y, sample_weight=combined)["loss"]
    assert loss == pytest.approx(min(restart.loss for restart in history.restarts), rel=1e-6)
    assert len({restart.loss for restart in history.restarts}) == 4


def test_finds_the_minimum_that_one_start_misses():
    """XOR with two hidden units has bad local minima; the model that is kept is in none."""
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), [0, 1, 1, 0]
    model = MLP([2, 2, 2], activation="tanh", seed=0)
    history = model.fit(X, y, epochs=1500, batch_size=4, optimizer=SGD(0.5), restarts=12, progress=False)
    losses = [restart.loss for restart in history.restarts]
    assert min(losses) < 0.02 and max(losses) > 0.3
    assert model.predict(X).tolist() == y


def test_one_is_fit(backend, rng):
    X, y = data(rng)
    one, two = MLP([4, 6, 3], seed=0), MLP([4, 6, 3], seed=0)
    history = one.fit(X, y, **OPTIONS, restarts=1)
    two.fit(X, y, **OPTIONS)
    assert Learned(one) == Learned(two)
    assert not hasattr(history, "restarts")


def test_shown_in_a_line(rng):
    X, y = data(rng)
    history = MLP([4, 6, 3], seed=3).fit(X, y, **OPTIONS, restarts=2)
    assert repr(history.restarts[0]) == f"Restart(seed=3, loss={history.restarts[0].loss:.4g})"
    with pytest.raises(AttributeError, match=r"no restarts: expected fit\(restarts=n\) with n from 2 up"):
        _ = MLP([4, 6, 3], seed=3).fit(X, y, **OPTIONS).restarts
    assert not hasattr(MLP([4, 6, 3]).fit(X, y, **OPTIONS), "restarts")


def test_without_a_seed(rng):
    """The seed that was drawn is known, and makes the same model."""
    X, y = data(rng)
    model = MLP([4, 6, 3])
    history = model.fit(X, y, **OPTIONS, optimizer=SGD(0.1), restarts=3)
    best = min(history.restarts, key=lambda restart: restart.loss)
    again = MLP([4, 6, 3], seed=best.seed)
    again.fit(X, y, **OPTIONS, optimizer=SGD(0.1))
    assert Learned(again) == Learned(model)


def test_a_trained_model_is_the_first_candidate(backend, rng):
    """It goes on from where it is, with its optimizer's state; the others begin anew."""
    X, y = data(rng)
    model, optimizer = MLP([4, 6, 3], seed=0), Adam(0.02)
    model.fit(X, y, epochs=60, batch_size=7, optimizer=optimizer, progress=False)
    other, other_optimizer = copy.deepcopy((model, optimizer))
    history = model.fit(X, y, **OPTIONS, optimizer=optimizer, restarts=3)
    expected = other.fit(X, y, **OPTIONS, optimizer=other_optimizer)
    assert Learned(model) == Learned(other)                 # it has trained for longest
    assert_same(history.loss, expected.loss, backend, model.dtype)
    fresh = MLP([4, 6, 3], seed=seed_of(0, 1))
    fresh.fit(X, y, **OPTIONS, optimizer=Adam(0.02))
    assert_same(history.restarts[1].weights, list(fresh.weights), backend, model.dtype)
    assert optimizer.get_state(model)["step"] == other_optimizer.get_state(other)["step"]


def test_live_arrays_stay(rng):
    X, y = data(rng)
    model = MLP([4, 6, 3], seed=0)
    held = model.weights[0]
    model.fit(X, y, **OPTIONS, restarts=3)
    assert held is model.weights[0]
    for restart in model.fit(X, y, **OPTIONS, restarts=2).restarts:
        assert not any(np.shares_memory(a, b) for a, b in zip(restart.weights, model.weights))


def test_lbfgs(backend, rng):
    pytest.importorskip("scipy")
    X, y = data(rng)
    make = lambda seed: MLP([4, 3, 3], activation="tanh", seed=seed)        # noqa: E731
    model = make(3)
    history = model.fit(X, y, **OPTIONS, optimizer=LBFGS(max_iter=15), restarts=3)
    trained = separately(make, 3, X, y, lambda: LBFGS(max_iter=15))
    losses = [one.evaluate(X, y)["loss"] for one, _, _ in trained]
    assert Learned(model) == Learned(trained[int(np.argmin(losses))][0])
    assert len(history.restarts) == 3


def test_early_stopping_in_every_one(backend, rng):
    X, y = data(rng)
    Xv, yv = data(rng)
    stopping = EarlyStopping(patience=2)
    model = MLP([4, 6, 3], seed=3)
    options = {"epochs": 30, "validation_data": (Xv, yv)}
    history = model.fit(X, y, **{**OPTIONS, **options}, optimizer=SGD(0.2), restarts=3,
                        callbacks=iter([stopping]))
    losses = []
    for i in range(3):
        one = MLP([4, 6, 3], seed=seed_of(3, i))
        one.fit(X, y, **{**OPTIONS, **options}, optimizer=SGD(0.2), callbacks=[EarlyStopping(patience=2)])
        losses.append(one.evaluate(Xv, yv)["loss"])
    assert_same([restart.loss for restart in history.restarts], losses, backend, model.dtype)
    assert_same(model.evaluate(Xv, yv)["loss"], min(losses), backend, model.dtype)


def test_callbacks_see_one_after_the_other(rng):
    class Seen:
        def __init__(self):
            self.calls = []

        def begin(self, model):
            self.calls.append("begin")

        def __call__(self, model, epoch, logs):
            self.calls.append(epoch)

        def finish(self, model):
            self.calls.append("finish")

    seen = Seen()
    MLP([4, 3], seed=0).fit(*data(rng), **{**OPTIONS, "epochs": 2}, restarts=2, callbacks=[seen])
    assert seen.calls == ["begin", 0, 1, "finish"] * 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, ArithmeticError])
def test_an_interruption_keeps_the_best_so_far(error, backend, rng):
    X, y = data(rng)
    epochs = []

    def interrupt(model, epoch, logs):
        epochs.append(epoch)
        if len(epochs) == 14:                   # in the fourth
            raise error

    model, optimizer = MLP([4, 6, 3], seed=3), Adam(0.01)
    with pytest.raises(error):
        model.fit(X, y, **OPTIONS, optimizer=optimizer, restarts=9, callbacks=[interrupt])
    trained = separately(lambda seed: MLP([4, 6, 3], seed=seed), 3, X, y, lambda: Adam(0.01))
    best, _, rule = trained[int(np.argmin([one.evaluate(X, y)["loss"] for one, _, _ in trained]))]
    assert Learned(model) == Learned(best)
    assert optimizer.get_state(model)["step"] == rule.get_state(best)["step"] == 24
    model.fit(X, y, **OPTIONS, optimizer=optimizer)         # nobody holds it any more


def test_an_interruption_of_the_first_keeps_what_it_has(backend, rng):
    X, y = data(rng)

    def interrupt(model, epoch, logs):
        raise KeyboardInterrupt

    model, other = MLP([4, 6, 3], seed=3), MLP([4, 6, 3], seed=3)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y, **OPTIONS, optimizer=SGD(0.1), restarts=3, callbacks=[interrupt])
    other.fit(X, y, **{**OPTIONS, "epochs": 1}, optimizer=SGD(0.1))
    assert Learned(model) == Learned(other)


def test_what_diverged_is_not_kept(rng):
    X = np.abs(rng.standard_normal((40, 3)))
    calls = []

    def init(rng, fan_in, fan_out):             # of four models, the second starts in a good place
        calls.append(1)
        return np.full((fan_in, fan_out), 1e-3 if len(calls) == 2 else 1e30)

    model = MLP([3, 1], loss="mean_squared_error", init=init, seed=0)
    with pytest.warns(RuntimeWarning, match="diverged"):
        history = model.fit(X, np.zeros((40, 1)), **OPTIONS, optimizer=SGD(0.01), restarts=4)
    assert [np.isfinite(restart.loss) for restart in history.restarts] == [False, True, False, False]
    assert np.isfinite(model.weights[0]).all()


def test_history_is_pickled_and_copied_with_its_restarts(rng):
    history = MLP([4, 3], seed=0).fit(*data(rng), **OPTIONS, restarts=2)
    for other in (pickle.loads(pickle.dumps(history)), copy.deepcopy(history)):
        assert other == history and [r.seed for r in other.restarts] == [r.seed for r in history.restarts]


# The initialisers are known, or not -------------------------------------------------------------------------

@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_know_how_they_began(copied, backend, rng):
    X, y = data(rng)
    model = MLP([4, 6, 3], seed=3, dropout=0.2, init="orthogonal")
    other = copied(model)
    for each in (model, other):
        each.fit(X, y, **OPTIONS, optimizer=SGD(0.1), restarts=4)
    assert Learned(model) == Learned(other)


def test_an_initialiser_that_cannot_be_pickled(rng):
    """The pickle is made all the same, without it."""
    model = MLP([4, 3], init=lambda rng, n, m: rng.standard_normal((n, m)), seed=0)
    copy.deepcopy(model).fit(*data(rng), **OPTIONS, restarts=2)
    other = pickle.loads(pickle.dumps(model))
    other.fit(*data(rng), **OPTIONS)
    with pytest.raises(ValueError, match="^restarts: expected a model whose initial values"):
        other.fit(*data(rng), **OPTIONS, restarts=2)


def test_from_a_file(tmp_path, rng):
    MLP([4, 3], seed=0).save(tmp_path / "m.safetensors")
    model = fastmlp.load(tmp_path / "m.safetensors")
    for each in (model, MLP([4, 3], init="zeros")):
        before = Learned(each)
        with pytest.raises(ValueError, match="^restarts: expected a model whose initial values"):
            each.fit(*data(rng), **OPTIONS, restarts=2)
        assert Learned(each) == before


# Bad input -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options, error, message", [
    ({"restarts": 0}, ValueError, "^restarts: expected an integer from 1 up, got 0"),
    ({"restarts": 2.0}, TypeError, "^restarts: expected an integer, got 2.0"),
    ({"restarts": True}, TypeError, "^restarts: expected an integer, got True"),
    ({"restarts": None}, TypeError, "^restarts"),
    ({"restarts": 2, "callbacks": [3]}, TypeError, "^callbacks"),
    ({"restarts": 2, "progress": "bars"}, ValueError, "^progress"),
    ({"restarts": 2, "epochs": -1}, ValueError, "^epochs"),
    ({"restarts": 2, "optimizer": "sgdd"}, (TypeError, ValueError), "^optimizer"),
], ids=str)
def test_bad_arguments(options, error, message, rng):
    model = MLP([4, 3], seed=0)
    before = Learned(model)
    with pytest.raises(error, match=message):
        model.fit(*data(rng), **{**OPTIONS, **options})
    assert Learned(model) == before


def test_seeds_are_far_apart():
    """Those of one model, and of models with neighbouring seeds."""
    seeds = [seed_of(seed, i) for seed in range(50) for i in range(50)]
    assert len(set(seeds)) == len(seeds)


def test_progress_says_which(rng, capsys):
    MLP([4, 3], seed=0).fit(*data(rng), **{**OPTIONS, "progress": "log"}, restarts=2)
    lines = capsys.readouterr().err.splitlines()
    assert "restart 1/2, epoch 1/4" in lines[0] and "restart 2/2, epoch 4/4" in lines[-1]


def test_one_restart_of_numpy_is_one_training(tmp_path, rng):
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    MLP([3, 2], seed=0).save(tmp_path / "model.safetensors")
    model = fastmlp.load(tmp_path / "model.safetensors")        # which cannot begin anew
    assert not hasattr(model.fit(X, y, epochs=1, restarts=np.int64(1), progress=False), "restarts")


@pytest.mark.parametrize("name", ["X", "validation_data"])
def test_an_iterator_is_refused_before_anything_changes(name, rng):
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    model = MLP([3, 2], seed=0)
    before, arguments = Learned(model), {"X": X, "y": y, name: iter([(X, y)])}
    if name == "X":
        del arguments["y"]
    with pytest.raises(ValueError, match=f"^{name}: expected what every restart can read, got an iterator"):
        model.fit(**arguments, epochs=1, restarts=2, progress=False)
    assert Learned(model) == before
