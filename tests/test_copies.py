"""Copies and pickles of models, optimizers, schedules, losses and callbacks: independent, and training goes
on from them to the same bits."""
from __future__ import annotations

import concurrent.futures
import copy
import io
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Learned, assert_learned, assert_same
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import (
    LBFGS,
    MLP,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    EarlyStopping,
    RMSprop,
    activations,
    losses,
    schedules,
)
from fastmlp._core import state
from fastmlp._core.copying import Identity
from fastmlp.losses import CallableLoss
from fastmlp.normalization import BatchNorm
from fastmlp.training import History

PROTOCOLS = [2, 3, 4, 5]
OPTIMIZERS = {
    "sgd": lambda: SGD(0.05), "momentum": lambda: SGD(0.05, momentum=0.9, nesterov=True, clip_norm=1.0),
    "adagrad": lambda: AdaGrad(0.05), "rmsprop": lambda: RMSprop(0.01),
    "adam": lambda: Adam(schedules.WarmUp(5, schedules.Cosine(0.02, 40))),
    "adamw": lambda: AdamW(schedules.ReduceOnPlateau(0.01, patience=0, min_delta=1.0)),
}
KINDS = {
    "plain": {}, "dropout": {"dropout": [0.3, 0.0]},
    "batch_norm": {"batch_norm": [BatchNorm(momentum=0.2), None]},
    "all": {"dropout": 0.2, "batch_norm": True, "activation": ["gelu", activations.LeakyReLU(0.1)]},
}
WAYS = {
    "deepcopy": copy.deepcopy,
    **{f"pickle {p}": lambda thing, p=p: pickle.loads(pickle.dumps(thing, p)) for p in PROTOCOLS},
    "pickle in Python": lambda thing: pickle._loads(pickle._dumps(thing, 4)),
}
FEW = ["deepcopy", "pickle 2", "pickle 5"]


def squared(z, t):
    """A loss of a module's own, found by its name."""
    return float(((z - t) ** 2).sum(axis=1).mean()), 2 * (z - t) / len(z)


def data(rng, n=50):
    return rng.standard_normal((n, 4)), rng.integers(0, 3, n)


def bits(model):
    return Learned(model)


def fit(model, X, y, optimizer, **options):
    return model.fit(X, y, **{"epochs": 2, "batch_size": 16, "progress": False, **options},
                     optimizer=optimizer)


# Models ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("way", FEW)
@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_to_the_same_bits(kind, way, backend, dtype, rng):
    X, y = data(rng)
    model, optimizer = MLP([4, 9, 7, 3], dtype=dtype, seed=0, **KINDS[kind]), OPTIMIZERS["momentum"]()
    fit(model, X, y, optimizer)
    again, other = WAYS[way]((model, optimizer))
    assert type(again) is MLP and repr(again) == repr(model) and again.backend is model.backend
    for name in ("activations", "batch_norm", "loss"):
        assert getattr(again, name) == getattr(model, name)
    before = bits(model)
    assert bits(again) == before
    assert_learned(model.forward(X), again.forward(X))
    assert not any(np.shares_memory(a, b) for a, b in zip(
        state.arrays(model).values(), state.arrays(again).values(), strict=True))
    history = fit(again, X, y, other)
    again.train_step(X, y, other)
    assert bits(model) == before != bits(again)                 # and the first one did not notice
    assert_same(fit(model, X, y, optimizer)["loss"], history["loss"], backend, dtype)
    model.train_step(X, y, optimizer)
    assert bits(model) == bits(again)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["model first", "optimizer first"])
@pytest.mark.parametrize("way", FEW)
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_optimizer_with_its_model(rule, way, order, backend, rng):
    X, y = data(rng)
    model, optimizer = MLP([4, 9, 3], seed=0), OPTIMIZERS[rule]()
    fit(model, X, y, optimizer, epochs=3)
    both = (model, optimizer)
    copied = WAYS[way]({"first": both[order[0]], "second": [both[order[1]]]})
    copied = copied["first"], copied["second"][0]
    again, other = copied[order[0]], copied[order[1]]
    expected = optimizer.get_state(model)
    assert int(expected["step"]) == 12
    for name, value in other.get_state(again).items():
        assert_array_equal(value, expected[name], err_msg=name)
    for m, o in ((again, other), (model, optimizer)):
        fit(m, X, y, o, epochs=3)
    assert bits(model) == bits(again)
    assert repr(other) == repr(optimizer)
    assert len(other._states) == 1                      # nothing is kept for models that are not there


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy])
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_optimizer_alone_stays_with_the_model(rule, way, backend, rng):
    """A copy has state of its own for the same model."""
    X, y = data(rng)
    model, optimizer = MLP([4, 9, 3], seed=0), OPTIMIZERS[rule]()
    fit(model, X, y, optimizer)
    other = way(optimizer)
    assert type(other) is type(optimizer) and other is not optimizer
    before = optimizer.get_state(model)
    for name, value in other.get_state(model).items():
        assert_array_equal(value, before[name], err_msg=name)
    twin = copy.deepcopy((model, other))
    fit(model, X, y, other)
    for name, value in optimizer.get_state(model).items():
        assert_array_equal(value, before[name], err_msg=name)
    fit(twin[0], X, y, twin[1])
    assert bits(twin[0]) == bits(model)
    other.weight_decay = 0.5
    assert optimizer.weight_decay != 0.5


def test_pickled_optimizer_alone_has_no_state(rng):
    X, y = data(rng)
    model, optimizer = MLP([4, 3], seed=0), Adam(0.05)
    fit(model, X, y, optimizer)
    other = pickle.loads(pickle.dumps(optimizer))
    assert repr(other) == repr(optimizer) and not other._states
    assert int(other.get_state(model)["step"]) == 0


@pytest.mark.parametrize("way", WAYS)
def test_two_models_and_what_they_share(way, rng):
    """One optimizer of two models, one schedule of two optimizers."""
    X, y = data(rng)
    schedule = schedules.ReduceOnPlateau(0.1, patience=0, min_delta=10.0)
    one, two = MLP([4, 3], seed=0), MLP([4, 3], seed=1)
    first, second = SGD(schedule, momentum=0.5), SGD(schedule)
    for epochs, model, optimizer in ((2, one, first), (3, two, first), (4, one, second)):
        fit(model, X, y, optimizer, epochs=epochs)
    a, b, c, d, rate = WAYS[way]((one, first, second, two, schedule))
    assert b.lr is c.lr is rate
    for of_copy, of_original in (
            (b.get_state(a), first.get_state(one)), (b.get_state(d), first.get_state(two)),
            (c.get_state(a), second.get_state(one))):
        assert {name: value.tobytes() for name, value in of_copy.items()} == {
            name: value.tobytes() for name, value in of_original.items()}
    for model, optimizer in ((one, first), (a, b), (two, first), (d, b)):
        fit(model, X, y, optimizer)
    assert bits(one) == bits(a) and bits(two) == bits(d)


@pytest.mark.parametrize("way", [copy.copy, *WAYS.values()])
def test_fresh_model(way, backend, dtype, rng):
    X, y = data(rng)
    model = MLP([4, 9, 3], dtype=dtype, seed=0, dropout=0.2)
    again = way(model)
    for m in (model, again):
        fit(m, X, y, SGD(0.1))
    assert bits(model) == bits(again)


def test_copies_move_to_no_other_backend(backend, rng):
    X, y = data(rng)
    model = MLP([4, 9, 3], seed=0)
    data_of_it = pickle.dumps(model)
    with fastmlp.use_backend("numpy"):
        again, other = pickle.loads(data_of_it), copy.deepcopy(model)
    assert again.backend is other.backend is model.backend
    for m in (model, again, other):
        fit(m, X, y, SGD(0.1))
    assert bits(model) == bits(again) == bits(other)


class Labelled(MLP):
    """A user's model, with attributes and a constructor of its own."""

    def __init__(self, names):
        self.names = list(names)
        super().__init__([4, 5, len(self.names)], seed=0)
        self.scores = {}

    def best(self, X):
        return [self.names[i] for i in self.predict(X)]


@pytest.mark.parametrize("way", WAYS)
def test_subclass(way, rng):
    X, _ = data(rng)
    model = Labelled(["a", "b", "c"])
    model.scores["loss"] = [1.0]
    again = WAYS[way](model)
    assert type(again) is Labelled and again.best(X) == model.best(X)
    assert again.scores == model.scores and again.scores is not model.scores
    again.names.append("d")
    assert model.names == ["a", "b", "c"]


def test_a_model_in_a_circle(way=copy.deepcopy):
    for way in WAYS.values():
        model = Labelled(["a", "b"])
        model.scores["of"] = model
        again = way(model)
        assert again.scores["of"] is again


def test_pickle_is_compact():
    """No pads, no workspace: about the bytes of the parameters."""
    model = MLP([100, 33, 10], seed=0)
    size = sum(array.nbytes for array in state.arrays(model).values())
    assert len(pickle.dumps(model)) < size + 4000


def test_out_of_band_buffers(rng):
    model = MLP([4, 64, 3], seed=0)
    buffers = []
    frame = pickle.dumps(model, 5, buffer_callback=buffers.append)
    assert len(buffers) == 4 and len(frame) < 4000
    assert bits(pickle.loads(frame, buffers=buffers)) == bits(model)


# In a training --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("way", FEW)
def test_copies_in_a_callback(way, backend, dtype, rng):
    """Each of them goes on as the training did."""
    X, y = data(rng)
    model, optimizer = MLP([4, 9, 7, 3], dtype=dtype, seed=0, **KINDS["all"]), OPTIMIZERS["adam"]()
    copies = []
    fit(model, X, y, optimizer, epochs=4, callbacks=[lambda *_: copies.append(WAYS[way]((model, optimizer)))])
    for epoch, (again, other) in enumerate(copies):
        fit(again, X, y, other, epochs=3 - epoch)
        assert bits(again) == bits(model), epoch


def test_copies_of_one_moment_while_another_thread_trains(backend, rng):
    """A copy is that of a step, or refused."""
    X, y = rng.standard_normal((64, 50)), rng.integers(0, 3, 64)
    reference, rule, expected = MLP([50, 80, 3], seed=0), SGD(0.01, momentum=0.9), {}
    for step in range(300):
        expected[step] = bits(reference)
        reference.train_step(X, y, rule)
    model, optimizer, done = MLP([50, 80, 3], seed=0), SGD(0.01, momentum=0.9), threading.Event()

    def train():
        for _ in range(299):
            model.train_step(X, y, optimizer)
            time.sleep(1e-4)
        done.set()

    thread = threading.Thread(target=train)
    thread.start()
    good = 0
    try:
        while not done.is_set():
            for way in (copy.deepcopy, WAYS["pickle 5"]):
                try:
                    again = way(model)
                except RuntimeError as error:
                    assert "trained by another thread" in str(error)
                else:
                    good += 1
                    assert bits(again) == expected[again.core.engine.global_step]
    finally:
        thread.join()
    assert good


def test_copies_during_a_fit_of_another_thread(backend, rng):
    X, y = data(rng)
    model, optimizer = MLP([4, 9, 3], seed=0), SGD(0.1, momentum=0.9)
    inside, leave = threading.Event(), threading.Event()

    def wait(*_):
        inside.set()
        leave.wait(30)

    thread = threading.Thread(target=fit, args=(model, X, y, optimizer), kwargs={"callbacks": [wait]})
    thread.start()
    try:
        assert inside.wait(30)
        for way in WAYS.values():
            with pytest.raises(RuntimeError, match="another thread"):
                way(model)
            with pytest.raises(RuntimeError, match="another thread"):
                way(optimizer)
        for name in ("weights", "dropout"):
            with pytest.raises(RuntimeError, match=f"^{name}: cannot be assigned while"):
                setattr(model, name, getattr(model, name)[:])
    finally:
        leave.set()
        thread.join()
    assert bits(copy.deepcopy(model)) == bits(model)


# Processes ------------------------------------------------------------------------------------------------

def trained(pair, X, y):
    fit(*pair[:1], X, y, pair[1])
    return pair


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_process_pool(method, backend, rng):
    X, y = data(rng)
    pair = MLP([4, 9, 3], seed=0, dropout=0.2), Adam(0.01)
    fit(pair[0], X, y, pair[1])
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
        again = pool.submit(trained, pair, X, y).result(timeout=60)
    trained(pair, X, y)
    assert bits(again[0]) == bits(pair[0])
    assert int(again[1].get_state(again[0])["step"]) == int(pair[1].get_state(pair[0])["step"]) == 16


def test_in_another_process_from_a_file(tmp_path, backend, rng):
    X, y = data(rng)
    pair = MLP([4, 9, 3], seed=0, batch_norm=True), SGD(0.05, momentum=0.9)
    fit(pair[0], X, y, pair[1])
    (tmp_path / "pair.pickle").write_bytes(pickle.dumps((pair, X, y)))
    code = ("import pickle, sys\nfrom fastmlp._core import state\n"
            "(model, optimizer), X, y = pickle.load(open('pair.pickle', 'rb'))\n"
            "model.fit(X, y, epochs=2, batch_size=16, optimizer=optimizer, progress=False)\n"
            "print({name: array.tolist() for name, array in state.arrays(model).items()})\n")
    root = str(Path(fastmlp.__file__).parents[1])
    out = subprocess.run([sys.executable, "-c", code], cwd=tmp_path,
                         capture_output=True, text=True, check=True,
env={**os.environ, "PYTHONPATH": root}).stdout
    fit(pair[0], X, y, pair[1])
    assert bits(pair[0]) == {name: np.array(value, "float32") for name, value in eval(out).items()}


def test_joblib(tmp_path, backend, rng):
    joblib = pytest.importorskip("joblib")
    X, y = data(rng)
    model, optimizer = MLP([4, 9, 3], seed=0), SGD(0.1, momentum=0.9)
    fit(model, X, y, optimizer)
    joblib.dump((model, optimizer), tmp_path / "model.joblib")
    again, other = joblib.load(tmp_path / "model.joblib")
    for pair in ((model, optimizer), (again, other)):
        trained(pair, X, y)
    assert bits(again) == bits(model)
    in_processes = joblib.Parallel(n_jobs=2)(joblib.delayed(bits)(m) for m in (model, again))
    assert list(in_processes) == [bits(model)] * 2


# Everything else ------------------------------------------------------------------------------------------

SETTINGS = [
    *[cls() for cls in activations.BY_NAME.values()], activations.LeakyReLU(0.3), BatchNorm(momentum=0.2),
    *[cls() for cls in losses.BY_NAME.values()], losses.Huber(2.0),
    losses.BinaryCrossEntropy(pos_weight=[1, 2]),
    losses.CrossEntropy(label_smoothing=0.1, ignore_index=-1), CallableLoss(squared),
    schedules.Constant(0.1), schedules.Step(0.1, [3, 5]), schedules.Exponential(0.1, 0.9),
    schedules.InverseScaling(0.1), schedules.Cosine(0.1, 9, restarts=True), schedules.OneCycle(0.1, 9),
    schedules.WarmUp(3, schedules.Cosine(0.1, 9)), History(loss=[0.5, 0.25], val_loss=[1.0]),
    *[make() for make in OPTIMIZERS.values()], LBFGS(max_iter=7, weight_decay=0.1),
    EarlyStopping(3, mode="min"),
    schedules.ReduceOnPlateau(0.1, patience=2), schedules.WarmUp(2, schedules.ReduceOnPlateau(0.1)),
]


@pytest.mark.parametrize("way", [copy.copy, *WAYS.values()], ids=["copy", *WAYS])
@pytest.mark.parametrize("thing", SETTINGS, ids=repr)
def test_settings(thing, way):
    again = way(thing)
    assert type(again) is type(thing) and repr(again) == repr(thing)
    if type(thing).__eq__ is not object.__eq__ and "ReduceOnPlateau" not in repr(thing):
        assert again == thing


@pytest.mark.parametrize("way", [copy.copy, *WAYS.values()], ids=["copy", *WAYS])
def test_schedule_with_state(way):
    schedule = schedules.WarmUp(2, schedules.ReduceOnPlateau(1.0, patience=0, factor=0.5))
    for loss in (3.0, 4.0):
        schedule.observe(loss)
    again = way(schedule)
    assert again(9) == schedule(9) == 0.5
    again.observe(5.0)
    assert (again(9), schedule(9)) == (0.25, 0.5)


@pytest.mark.parametrize("way", [copy.copy, *WAYS.values()], ids=["copy", *WAYS])
def test_gradients(way, backend, dtype, rng):
    X, y = data(rng)
    gradients = MLP([4, 9, 3], dtype=dtype, seed=0, batch_norm=True).loss_and_gradients(X, y)[1]
    again = way(gradients)
    for kind in ("weights", "biases", "scales"):
        for a, b in zip(getattr(gradients, kind), getattr(again, kind), strict=True):
            assert a is b is None or a.tobytes() == b.tobytes()
    if way is not copy.copy:
        again.weights[0] = np.zeros_like(again.weights[0])
        assert gradients.weights[0].any() and not again.weights[0].any()


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["model first", "callback first"])
@pytest.mark.parametrize("way", WAYS)
def test_early_stopping_with_its_model(way, order, rng):
    X, y = data(rng)
    model, stopping = MLP([4, 9, 3], seed=0), EarlyStopping(50)
    fit(model, X, y, SGD(0.5), epochs=5, callbacks=[stopping])
    best = bits(model)
    both = WAYS[way]([(model, stopping)[i] for i in order])
    again, other = both[order[0]], both[order[1]]
    for array in state.arrays(again).values():
        array += 1
    other.finish(again)
    assert bits(again) == best
    again.biases[0][...] = 7
    assert bits(model) == best and (stopping._kept["biases.0"] != 7).all()
    with pytest.raises(ValueError, match="^model: expected the one that was trained"):
        other.finish(model)
    alone = WAYS[way](stopping)
    model.biases[0][...] = 7
    alone.finish(model)
    assert bits(model) == best


def test_loss_of_a_module(backend, rng):
    X, t = rng.standard_normal((30, 4)), rng.standard_normal((30, 3))
    model = MLP([4, 5, 3], loss=squared, seed=0)
    for way in WAYS.values():
        again = way(model)
        assert again.loss.function is squared
        losses = [m.train_step(X, t, SGD(0.1)) for m in (again, copy.copy(model))]
        assert_same(*losses, backend, model.dtype)


def nested():
    def loss(z, t):
        return squared(z, t)

    return loss


@pytest.mark.parametrize("thing, name", [
    (lambda f: MLP([4, 3], loss=f), "loss"), (lambda f: CallableLoss(f), "loss"), (lambda f: SGD(f), "lr"),
    (lambda f: SGD(schedules.WarmUp(3, f)), "then"), (lambda f: [schedules.WarmUp(3, f)], "then"),
], ids=["model", "loss", "optimizer", "in a schedule", "schedule"])
@pytest.mark.parametrize("function", [lambda z, t: squared(z, t), nested()], ids=["lambda", "nested"])
def test_functions_that_have_no_name(thing, name, function, rng):
    thing = thing(function)
    for dumps in (pickle.dumps, pickle._dumps):
        with pytest.raises(pickle.PicklingError, match=f"^{name}: only a function defined in a module"):
            dumps(thing)
    copy.deepcopy(thing)                                        # which needs no names


def test_picklers_that_take_any_function(rng):
    """As cloudpickle does: by its hook, functions are written down some other way."""
    class ByValue(pickle.Pickler):
        def reducer_override(self, thing):
            return (eval, ("lambda z, t: (0.0, z)",)) if getattr(thing, "__name__", "") == "<lambda>" \
                else NotImplemented

        def dump(self, thing):
            return super().dump(thing)

    file = io.BytesIO()
    ByValue(file).dump(MLP([4, 3], loss=lambda z, t: (0.0, z), seed=0))
    assert pickle.loads(file.getvalue()).train_step(np.eye(4), np.zeros((4, 3)), SGD(0.1)) == 0.0


@pytest.mark.parametrize("package", ["cloudpickle", "dill"])
def test_packages_that_pickle_any_function(package, rng):
    package = pytest.importorskip(package)
    X, t = rng.standard_normal((30, 4)), rng.standard_normal((30, 3))
    pair = (MLP([4, 3], loss=lambda z, t: squared(z, t), seed=0),
            SGD(lambda step: 0.1 / (step + 1), momentum=0.5))
    for _ in range(2):
        again, other = package.loads(package.dumps(pair))
        assert [again.train_step(X, t, other) for _ in range(3)] == [pair[0].train_step(X, t, pair[1])
                                                                     for _ in range(3)]


@pytest.mark.parametrize("thing", [MLP([4, 3], seed=0), SGD(0.1), EarlyStopping(), schedules.Step(0.1, 3)],
                         ids=lambda thing: type(thing).__name__)
def test_another_version(thing, monkeypatch):
    """Said clearly, and nothing is made."""
    name = type(thing).__name__
    for spoil, message in [
        (lambda values: values.update(version=99), f"expected {name} of version 1, got version 99"),
        (lambda values: values.pop("version"), f"expected {name} of version 1, got version None"),
        (lambda values: [values.pop(key) for key in list(values) if key != "version"],
         f"expected {name} with"),
    ]:
        values = thing.__getstate__()
        spoil(values)
        made = type(thing).__new__(type(thing))
        with pytest.raises(ValueError, match=f"^pickle: {message}"):
            made.__setstate__(values)
        assert not vars(made)
    made = type(thing).__new__(type(thing))
    with pytest.raises(ValueError, match="^pickle: expected"):
        made.__setstate__(7)


def test_a_damaged_model_is_not_half_made():
    values = MLP([4, 3], seed=0).__getstate__()
    values["arrays"] = {name: array[:-1] for name, array in values["arrays"].items()}
    made = MLP.__new__(MLP)
    with pytest.raises(ValueError, match="^model: expected the arrays"):
        made.__setstate__(values)
    assert not vars(made)


def test_identities_are_not_kept_alive():
    model = MLP([4, 3], seed=0)
    optimizer = SGD(0.1, momentum=0.9)
    model.train_step(np.eye(4), [0, 1, 2, 0], optimizer)
    copies = [copy.deepcopy((model, optimizer)) for _ in range(3)]
    assert len(optimizer._states) == 1
    del model
    assert len(optimizer._states) == 0 and all(len(o._states) == 1 for _, o in copies)
    assert copy.deepcopy(Identity()) is not None
