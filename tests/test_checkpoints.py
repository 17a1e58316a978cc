"""Runs that survive: killed at any moment and resumed, they end with the bits of a run that was left alone.

FASTMLP_KILLS is how many kills there are, 24 if it is not set; FASTMLP_KILLS_SEED the seed of their moments.
"""
from __future__ import annotations

import contextlib
import copy
import errno
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from checkpoint_runs import CASES, STEPS, fit, make, order_of, place_in, result_of, run_in
from conftest import Learned, assert_same, lay_out

import fastmlp
from fastmlp import (
    LBFGS,
    MLP,
    SGD,
    Adam,
    Checkpoint,
    CSVLogger,
    EarlyStopping,
    data,
    kernels,
    schedules,
    training,
)
from fastmlp._core import checksums, keeper, sources, state, whole_files
from fastmlp._core.intervals import Interval, interval
from fastmlp._core.signals import HeldSignals

KILLS = int(os.environ.get("FASTMLP_KILLS", "24"))
SEED = int(os.environ.get("FASTMLP_KILLS_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
FMA_ISAS = [isa for isa in kernels.available_isas() if isa != "portable"]
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and signals of POSIX")


@pytest.fixture(autouse=True)
def files_need_no_disk(monkeypatch):
    """Not in this process: what is tested here is what is in them."""
    monkeypatch.setattr(whole_files.os, "fsync", lambda number: None)


# Runs ------------------------------------------------------------------------------------------------------

def same(actual, expected, exact=True):
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        if exact or array.dtype.kind != "f":
            np.testing.assert_array_equal(actual[name], array, err_msg=name)
        else:
            assert_same(actual[name], array, "numpy", np.dtype("float32"))


def test_the_runs_are_of_all_kinds():
    """Or the tests below would show less than they seem to."""
    results = {case: fit(case) for case in CASES}
    assert len(results["adam"]["history.loss"]) == 12
    assert 4 < len(results["stopped"]["history.loss"]) < 40
    assert results["momentum"]["optimizer.schedule.lr"] < 0.1
    assert results["changed"]["dropout"].tolist() == [0.4, 0.4]
    assert results["adam"]["history.step_loss"].shape == (12 * STEPS,)


# Killed ----------------------------------------------------------------------------------------------------

DRIVER = "import sys; sys.path.insert(0, sys.argv[1]); from checkpoint_runs import *; drive(*sys.argv[2:])"


@pytest.mark.any_isa
@POSIX
@pytest.mark.parametrize("case", CASES)
def test_killed_at_random_moments(case, tmp_path, capsys):
    """On 1 and 2 threads in turns, on one instruction set with FMA and then on another."""
    def program(name, kills, seconds, isa, last):
        command = [sys.executable, "-c", DRIVER, str(Path(__file__).parent), case, str(max(1, KILLS // 24)),
                   str(tmp_path / name), str(kills), str(SEED + len(isa)), str(seconds), str(last)]
        environment = {**os.environ, "FASTMLP_BACKEND": "cython"} | ({"FASTMLP_ISA": isa} if isa else {})
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert found["isa"] == isa or not isa
        return found

    kills, isas = max(2, KILLS // len(CASES)), FMA_ISAS[:2] or [""]
    alone = program("alone", 0, 0.0, isas[0], last=True)
    found = [program("run", -(-kills // len(isas)), alone["seconds"] / kills, isa, last=isa == isas[-1])
             for isa in isas]
    killed, in_a_write = (sum(some[name] for some in found) for name in ("killed", "in_a_write"))
    places = [tuple(place) for some in found for place in some["places"]]
    within = [place for place in places if place[-1] % STEPS > 0]
    with capsys.disabled():
        print(f"\n{case}, seed {SEED}: {killed} kills, {in_a_write} within a write; after {len(within)} the "
              f"run stood within an epoch; {len(set(places))} places; on {', '.join(isas)}")
    assert found[-1]["result"] == alone["result"]
    assert killed
    for some in found:
        assert some["places"] == sorted(some["places"])         # a run never goes back


def test_two_threads_really_run():
    """The test above would mean less if the engine thought all the work too small for a team."""
    code = """
import os, sys; sys.path.insert(0, sys.argv[1])
import checkpoint_runs, fastmlp
fastmlp.set_num_threads(2)
before = len(os.listdir("/proc/self/task"))
checkpoint_runs.fit("momentum", epochs=1)
assert len(os.listdir("/proc/self/task")) == before + 1
"""
    if not os.path.exists("/proc/self/task"):
        pytest.skip("needs /proc")
    command = [sys.executable, "-c", code, str(Path(__file__).parent)]
    environment = {**os.environ, "FASTMLP_BACKEND": "cython"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.any_isa
@POSIX
@pytest.mark.parametrize("call, count", [
    ("fsync", 2), ("replace", 2), ("replace", 5), ("write", 3), ("unlink", 1)])
def test_killed_within_a_save(call, count, tmp_path, monkeypatch):
    """At the moments that matter most: before and after what is written gets to the disk, and its name."""
    path = tmp_path / "run.safetensors"
    child = os.fork()
    if not child:
        try:
            module, name = (whole_files, "_put") if call == "write" else (whole_files.os, call)
            usual, calls = getattr(module, name), []

            def killed(*args):
                calls.append(args)
                if len(calls) == count:
                    if call == "write":
                        args[0].write(b"half of a file")
                    os.kill(os.getpid(), signal.SIGKILL)
                return usual(*args)

            setattr(module, name, killed)
            if call == "unlink":            # after a write that failed
                whole_files._sync = lambda number: 1 / 0
            fit("adam", checkpoint=path, checkpoint_every=4)
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert path.exists() == (call != "unlink")
    same(fit("adam", checkpoint=path, resume=True), fit("adam"))


class Interrupted(Exception):
    pass


def abandoned(monkeypatch, runs):
    """Has `fit` raise after so many calls of the engine."""
    train, left = training.train, [runs]

    def interrupted(*args):
        if not left[0]:
            raise Interrupted
        left[0] -= 1
        return train(*args)

    monkeypatch.setattr(training, "train", interrupted)


@contextlib.contextmanager
def abandoning(monkeypatch, steps):
    """`fit` makes a step in each call of the engine, and in the block raises after so many."""
    monkeypatch.setattr(training, "SLOWEST", 1.0)
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        abandoned(patch, steps)
        yield


@pytest.mark.parametrize("every", [1, 7, "1 epoch", "3 epochs", "0.00005 s"])
@pytest.mark.parametrize("case", CASES)
def test_resumed_within_a_process(case, every, backend, tmp_path, monkeypatch):
    """On both backends: what was done since the last save is done once more."""
    if backend == "numpy" and every not in (7, "1 epoch"):
        pytest.skip("the moments of saves are those of the other backend")
    expected, path, resumed = fit(case), tmp_path / "run.safetensors", 0
    moments = random.Random(f"{case} {every}")
    monkeypatch.setattr(training, "SLOWEST", 1.0)           # an epoch of many runs
    monkeypatch.setattr(keeper, "SHARE", 0)
    while True:
        with monkeypatch.context() as patch:
            abandoned(patch, moments.randint(3, 30) if resumed else 5)
            try:
                found = fit(case, checkpoint=path, checkpoint_every=every, resume=True)
            except Interrupted:
                resumed += 1
                assert resumed < 100
            else:
                break
    assert resumed
    same(found, expected, exact=backend != "numpy")


def test_within_an_epoch(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    with abandoning(monkeypatch, 20):
        fit("adam", checkpoint=path, checkpoint_every=3)
    epoch, step = place_in(path)
    assert 0 < step < 13 and (13 * epoch + step) % 3 == 0
    model = fastmlp.load(path)
    assert model.core.engine.global_step == 13 * epoch + step
    assert model.history is None
    optimizer, stopping = Adam(), EarlyStopping()
    fastmlp.load(path, optimizer, [stopping])
    assert optimizer.state_of(fastmlp.load(path, optimizer).core.parameters).step == 13 * epoch + step


@pytest.mark.parametrize("layout", ["contiguous", "unaligned", "swapped"])
def test_after_the_last_step_of_an_epoch(layout, tmp_path, rng):
    """Nothing of the epoch is left to train on, and the samples may have to be converted."""
    X, y = lay_out(rng.standard_normal((7, 4)), layout), rng.integers(0, 3, 7)

    class Stop:
        def on_step_end(self, model, step, logs):
            if step == 3:           # of two an epoch; what is saved is before this one
                raise ZeroDivisionError

    def run(**more):
        model = MLP([4, 5, 3], dtype="float64", seed=0)
        model.fit(X, y, epochs=2, batch_size=4, optimizer=SGD(0.1), shuffle=False, progress=False, **more)
        return model

    path = tmp_path / "net.safetensors"
    with pytest.raises(ZeroDivisionError):
        run(checkpoint=path, checkpoint_every=1, callbacks=[Stop()])
    assert_same(run(checkpoint=path, resume=True), run(), "cython", np.float64)


def test_saves_leave_no_trace(tmp_path):
    """Nor do they change the run that they save, however often."""
    for case in CASES:
        same(fit(case, checkpoint=tmp_path / case, checkpoint_every=1), fit(case))


# The file --------------------------------------------------------------------------------------------------

def test_without_a_file_it_begins_afresh(tmp_path):
    same(fit("adam", checkpoint=tmp_path / "run.safetensors", resume=True), fit("adam"))


def test_a_file_is_replaced_without_resume(tmp_path):
    path = tmp_path / "run.safetensors"
    fit("momentum", checkpoint=path)
    same(fit("adam", checkpoint=path), fit("adam"))
    assert run_in(path)["origin"]["seed"] == 1


@pytest.mark.parametrize("case", CASES)
def test_a_run_that_is_over(case, tmp_path):
    """Resumed, it has nothing to do, and leaves what it left."""
    path, seen = tmp_path / "run.safetensors", []
    expected = fit(case, checkpoint=path)
    _, _, _, options = make(case)
    more = {"callbacks": [*options.get("callbacks", ()), lambda *args: seen.append(args)]}
    same(fit(case, checkpoint=path, resume=True, **more), expected)
    assert not seen
    model = fastmlp.load(path)
    for name, array in state.arrays(model).items():
        np.testing.assert_array_equal(array, expected[name])


def test_more_epochs(tmp_path):
    path = tmp_path / "run.safetensors"
    for epochs in (3, 3, 7, 12):
        found = fit("momentum", checkpoint=path, resume=True, epochs=epochs)
    same(found, fit("momentum"))


def test_no_fewer_epochs_than_were_begun(tmp_path, monkeypatch):
    """In the middle of the second one it is no run of one epoch any more."""
    path = tmp_path / "run.safetensors"
    with abandoning(monkeypatch, 20):
        fit("momentum", checkpoint=path, checkpoint_every=1)
    epoch, step = place_in(path)
    assert epoch == 1 and step > 0
    with pytest.raises(ValueError, match="^epochs: expected at least 2, .* has begun, got 1"):
        fit("momentum", checkpoint=path, resume=True, epochs=1)
    same(fit("momentum", checkpoint=path, resume=True, epochs=2), fit("momentum", epochs=2))


@pytest.mark.parametrize("last", [0, 1, 4])
def test_lines_of_a_logger_come_once(last, tmp_path):
    """Also where the run was killed before it was saved for the first time after its beginning."""
    path, lines = tmp_path / "run.safetensors", tmp_path / "run.csv"
    _, X, y, _ = make("changed")
    MLP([12, 3], seed=9).fit(X, y, epochs=2, callbacks=[CSVLogger(lines)], progress=False)      # of before

    def killed(model, epoch, logs):
        if epoch == last:
            raise Interrupted

    for callbacks in ([CSVLogger(lines), killed], [CSVLogger(lines), killed], [CSVLogger(lines)]):
        with pytest.raises(Interrupted) if killed in callbacks else contextlib.nullcontext():
            begun(path, X, y, epochs=6, callbacks=callbacks, checkpoint_every="1 h")
    epochs = [line.partition(",")[0] for line in lines.read_text().splitlines()]
    assert epochs == ["epoch", "0", "1", *map(str, range(6))]


def test_a_callback_that_ends_it_ends_it_for_good(tmp_path, monkeypatch):
    """Also one without state, and a kill after it."""
    path = tmp_path / "run.safetensors"

    def enough(model, epoch, logs):
        return epoch == 2

    monkeypatch.setattr(keeper.Keeper, "end", lambda self, place: None)
    for _ in range(2):
        model, X, y, options = make("changed")
        history = model.fit(X, y, **options | {"callbacks": [enough]}, checkpoint=path, resume=True,
                            checkpoint_every="1 epoch")
        assert len(history.loss) == 3


class EndsAfter:
    """Ends a training within an epoch."""

    every = 3

    def __init__(self, step):
        self.step = step

    def on_step_end(self, model, step, logs):
        return step >= self.step


def test_a_callback_within_an_epoch(tmp_path, monkeypatch):
    """The run is cut where it wants to be called, and goes on to the same bits; what ends, ends for good."""
    path, expected = tmp_path / "run.safetensors", fit("adam", callbacks=[EndsAfter(60)])
    assert expected["counters"][0] == 60 and len(expected["history.loss"]) == 5
    with abandoning(monkeypatch, 20):
        fit("adam", callbacks=[EndsAfter(60)], checkpoint=path, checkpoint_every=4)
    for _ in range(2):
        found = fit("adam", callbacks=[EndsAfter(60)], checkpoint=path, resume=True, checkpoint_every=1)
        same(found, expected)


def test_every_fit_of_a_program_has_its_file(tmp_path, monkeypatch):
    """Two trainings, one after the other, with one optimizer and one early stopping; run again, the first has
    nothing to do and the second goes on."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((100, 5)), rng.integers(0, 2, 100)

    def program(resume):
        model, optimizer, stopping = MLP([5, 8, 2], seed=0), Adam(), EarlyStopping(3)
        for name in ("first", "second"):
            model.fit(X, y, epochs=6, batch_size=10, optimizer=optimizer, callbacks=[stopping],
                      progress=False, checkpoint=tmp_path / name, checkpoint_every=3, resume=resume)
        return result_of(model, {"optimizer": optimizer, "callbacks": [stopping]})

    expected = program(False)
    same(program(True), expected)
    (tmp_path / "second").unlink()
    with abandoning(monkeypatch, 9):
        program(True)
    same(program(True), expected)


def test_a_seed_that_was_not_given_may_be_any(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    X, y = np.eye(8), np.arange(8) % 2
    whole = MLP([8, 4, 2]).fit(X, y, batch_size=2, epochs=5, progress=False, checkpoint=path)
    again = MLP([8, 4, 2]).fit(X, y, batch_size=2, epochs=5, progress=False, checkpoint=path, resume=True)
    assert whole.loss == again.loss


def test_history_of_all_kinds(tmp_path):
    """Numbers, arrays of one shape and of several, NaN; a metric is a function of the user's."""
    path = tmp_path / "run.safetensors"

    def program(**more):
        model = MLP([2, 2], seed=0)
        odd = [lambda m, epoch, logs: m.history.setdefault("odd", []).append(np.arange(epoch)),
               lambda m, epoch, logs: m.history.setdefault("even", []).append(np.ones((2, 2)) * epoch),
               lambda m, epoch, logs: m.history.setdefault("nan", []).append(float("nan"))]
        model.fit(np.eye(2), [0, 1], epochs=3, callbacks=odd, progress=False, checkpoint=path, **more)
        return model.history

    first, second = program(), program(resume=True)
    assert list(first) == list(second)
    assert [list(a) for a in second.odd] == [[], [0], [0, 1]]
    np.testing.assert_array_equal(second.even, first.even)
    assert np.isnan(second.nan).all() and type(second.nan[0]) is float
    assert second.loss == first.loss and type(second.loss[0]) is float


def test_history_of_steps_by_a_callback(tmp_path):
    """What a callback adds within epochs is more than there are epochs."""
    path = tmp_path / "run.safetensors"

    class Steps:
        def on_step_end(self, model, step, logs):
            if step == self.last:
                raise Interrupted
            model.history.setdefault("steps", []).append(float(step))

    def run(last=None, **more):
        model, steps = MLP([4, 3], seed=0), Steps()
        steps.last = last
        return model.fit(np.eye(4), [0, 1, 2, 0], epochs=3, batch_size=1, callbacks=[steps], progress=False,
                         checkpoint=path, checkpoint_every=1, **more)

    with pytest.raises(Interrupted):
        run(10)
    assert run(resume=True).steps == [float(step) for step in range(1, 13)]


def test_the_file_has_no_place_for_the_order(tmp_path):
    """Nor for anything of the size of the data."""
    model, path = MLP([4, 3], seed=0), tmp_path / "run.safetensors"
    model.fit(np.zeros((50000, 4), np.uint8), np.zeros(50000, int), epochs=1, progress=False, checkpoint=path)
    assert path.stat().st_size < 10000


# Files that do not fit -------------------------------------------------------------------------------------

def other(**changes):
    """The run "changed" with something else."""
    model, X, y, options = make("changed")
    made = changes.pop("model", None)
    X, y = X[:changes.pop("rows", len(X))], y[:changes.pop("rows_y", len(y))]
    return made or model, X, y, options | changes


OTHER = [
    ({"model": lambda: MLP([12, 21, 20, 3], dropout=0.1, seed=4)}, r"layers: expected .*, 20.*got \[12, 21"),
    ({"model": lambda: MLP([12, 20, 20, 3], "tanh", dropout=0.1, seed=4)}, "activations: .*relu.*tanh"),
    ({"model": lambda: MLP([12, 20, 20, 3], dropout=0.2, seed=4)}, r"dropout: expected \[0.1.*got \[0.2"),
    ({"model": lambda: MLP([12, 20, 20, 3], dropout=0.1, seed=4, dtype="float64")}, "dtype: .*32.*64"),
    ({"model": lambda: MLP([12, 20, 20, 3], dropout=0.1, seed=4, batch_norm=True)}, "batch_norm"),
    ({"model": lambda: MLP([12, 20, 20, 3], dropout=0.1, seed=4, loss="multiclass_hinge")}, "loss: .*got"),
    ({"model": lambda: MLP([12, 20, 20, 3], dropout=0.1, seed=5)}, "seed: expected 4, got 5"),
    ({"optimizer": SGD(0.2, 0.9)}, r"optimizer: expected SGD\(lr=0.1.*got SGD\(lr=0.2"),
    ({"optimizer": Adam(0.1)}, r"optimizer: expected SGD.*got Adam"),
    ({"batch_size": 32}, "batch_size: expected 16, got 32"),
    ({"rows": 200, "rows_y": 200}, "rows of X: expected 203, got 200"),
    ({"shuffle": True}, "shuffle: expected false, got true"),
    ({"shuffle": order_of}, "shuffle: expected false, got a function"),
    ({"sample_weight": np.ones(203)}, "sample_weight.*expected false, got checksum"),
    ({"validation_data": (np.zeros((5, 12)), np.zeros(5, int))}, "validation_data: expected null, got 5"),
    ({"metrics": "accuracy"}, r'metrics: expected null, got \["accuracy"\]'),
    ({"log_steps": True}, "log_steps: expected false, got true"),
    ({"callbacks": [EarlyStopping()]},
     r'callbacks with state: expected \[\], got \["EarlyStopping\(patience'),
    ({"optimizer": Adam(0.1), "batch_size": 8}, "optimizer: .*; batch_size: .*got 8$"),
    ({"epochs": 11}, "^epochs: expected at least 12.*run.safetensors.*got 11"),
]


@pytest.mark.parametrize("changes, message", OTHER, ids=[message for _, message in OTHER])
def test_another_run(changes, message, tmp_path):
    path = tmp_path / "run.safetensors"
    model, X, y, options = make("changed")
    options["callbacks"] = []
    model.fit(X, y, **options, checkpoint=path)
    written = path.read_bytes()
    changes = {name: value() if name == "model" else value for name, value in changes.items()}
    model, X, y, options = other(**{"callbacks": []} | changes)
    before = copy.deepcopy((model, options["optimizer"]))
    with pytest.raises(ValueError, match=message):
        model.fit(X, y, **options, checkpoint=path, resume=True)
    same(result_of_untrained(model, options["optimizer"]), result_of_untrained(*before))
    assert path.read_bytes() == written


def begun(path, X, y=None, **options):
    """A run of few epochs, saved."""
    model = MLP([12, 5, 3], seed=0)
    model.fit(X, y, **{"epochs": 2, "batch_size": 16, "optimizer": SGD(0.1), "progress": False} | options,
              checkpoint=path, resume=True)
    return model


def refused(path, message, X, y=None, **options):
    written = path.read_bytes()
    with pytest.raises(ValueError, match=f"resume: .* holds another run, which differs in {message}"):
        begun(path, X, y, **options)
    assert path.read_bytes() == written


def test_other_data_are_another_run(tmp_path):
    """The folds of a cross-validation, in one file."""
    path = tmp_path / "run.safetensors"
    _, X, y, _ = make("changed")
    begun(path, X[:160], y[:160], epochs=1)
    refused(path, "X: expected checksum .*; y: expected", X[40:200], y[40:200])
    refused(path, "X: expected checksum ([0-9a-f]{8}), got checksum [0-9a-f]{8}$", X[:160] + 1, y[:160])
    refused(path, "y: expected", X[:160], (y[:160] + 1) % 3)
    begun(path, X[:160].copy(), y[:160].astype(float))          # the same numbers


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float16", "longdouble"])
def test_checksums_are_those_of_the_numbers(dtype):
    sparse = pytest.importorskip("scipy.sparse")
    X = np.random.default_rng(0).integers(-0, 3, (203, 12))
    expected = checksums.of_rows(X)
    assert checksums.of_rows(X.astype(dtype)) == expected
    rows = sources.rows("X", sparse.coo_array(X.astype("float32")), 12)
    assert checksums.of_rows(rows) == expected
    for other in (X[::-1], X.T.copy().reshape(203, 12), np.roll(X, 1, axis=1), X[1:]):
        assert checksums.of_rows(other) != expected
    assert checksums.of_all(X.astype(dtype)) == checksums.of_all(X)
    X[100, 7] += 1
    assert checksums.of_all(X) != checksums.of_all(X.astype(dtype) * 0)
    assert checksums.of_all(np.array([{}])) is None and checksums.of_all([1]) is None


def test_weights_and_settings_of_callbacks_are_of_the_run(tmp_path):
    path = tmp_path / "run.safetensors"
    _, X, y, _ = make("changed")
    callbacks = [EarlyStopping(1, min_delta=100, monitor="loss"), Checkpoint(tmp_path / "a.safetensors")]
    begun(path, X, y, class_weight={0: 2.0}, callbacks=callbacks, epochs=9)
    refused(path, "sample_weight or class_weight: expected checksum .* got checksum", X, y,
            class_weight={0: 3.0}, callbacks=callbacks, epochs=9)
    refused(path, r"callbacks with state: .*patience=1,.*, got .*patience=8,", X, y, class_weight={0: 2.0},
            callbacks=[EarlyStopping(8, min_delta=100, monitor="loss"), callbacks[1]], epochs=9)
    callbacks[1] = Checkpoint(tmp_path / "b.safetensors")       # may be somewhere else
    begun(path, X, y, class_weight={0: 2.0}, callbacks=callbacks, epochs=9)


def test_other_sources_are_another_run(tmp_path):
    path = tmp_path / "run.safetensors"
    _, X, y, _ = make("changed")
    blocks = [(X[i:i + 29], y[i:i + 29]) for i in range(0, 203, 29)]
    begun(path, data.Chunks(blocks, buffer_rows=64), class_weight={1: 2.0})
    for source, message in (
            (data.Chunks(blocks, buffer_rows=32), "buffer_rows: expected 64, got 32"),
            (data.Chunks(blocks[:6], buffer_rows=64), "number of blocks: expected 7, got 6"),
            (data.Chunks(blocks, buffer_rows=64, rows=29), "rows of X: expected 0, got 203"),
            (data.Chunks(iter(blocks), 7, buffer_rows=64),
             "blocks that can be read alone: expected 7, got 1")):
        refused(path, message, source, class_weight={1: 2.0})
    refused(path, r"class_weight: expected \[\[1.0, 2.0\]\], got \[\[1.0, 3.0\]\]",
            data.Chunks(blocks, buffer_rows=64), class_weight={1: 3.0})
    refused(path, '.*source: expected Chunks, got null', X, y, class_weight={1: 2.0})
    begun(path, data.Chunks(lambda i: blocks[i], 7, buffer_rows=64), class_weight={1: 2.0})


def test_other_files_are_another_run(tmp_path):
    path = tmp_path / "run.safetensors"
    _, X, y, _ = make("changed")
    for folder, shift in (("one", 0), ("same", 0), ("other", 1)):
        (tmp_path / folder).mkdir()
        for i in range(4):
            table = np.column_stack([X + shift, y])[i * 50:i * 50 + 50]
            np.save(tmp_path / folder / f"{i}.npy", table)

    def files(folder="one", names="0123", **options):
        paths = [tmp_path / folder / f"{i}.npy" for i in names]
        return data.Files(paths, 12, **{"block_size": 1000} | options)

    begun(path, files())
    refused(path, ".*block_size: expected 1000, got 3000", files(block_size=3000))
    refused(path, "names of the files: expected checksum", files(names="0132"))
    refused(path, "first block of X: expected checksum", files("other"))
    refused(path, "first block of X: expected checksum", files().scaled(np.ones(12), np.ones(12)))
    begun(path, files("same"))


def test_more_epochs_with_the_default_optimizer(tmp_path):
    path = tmp_path / "run.safetensors"
    _, X, y, _ = make("changed")
    begun(path, X, y, optimizer=None)
    refused(path, "optimizer: .*; the schedule of the default optimizer follows from epochs: to go on for "
            "more of them, pass an optimizer", X, y, optimizer=None, epochs=4)
    begun(path, X, y, optimizer=None)


def test_a_file_that_may_not_be_written_is_said_before_training(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    _, X, y, _ = make("changed")
    begun(path, X, y)
    monkeypatch.setattr(whole_files.os, "access", lambda name, mode: not os.fspath(name) == os.fspath(path))
    begun(path, X, y)                               # is over
    with pytest.raises(PermissionError, match="the run goes on, and its file may not be replaced"):
        begun(path, X, y, epochs=3)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs modes of files that count")
def test_a_first_save_into_a_file_that_may_not_be_written(tmp_path):
    path = tmp_path / "run.safetensors"
    _, X, y, _ = make("changed")
    path.touch(0o400)
    with pytest.raises(PermissionError):
        MLP([12, 5, 3], seed=0).fit(X, y, epochs=1, checkpoint=path, progress=False)


def result_of_untrained(model, optimizer):
    arrays = {name: array.copy() for name, array in state.arrays(model).items()}
    arrays |= optimizer.get_state(model)
    return arrays | {"counters": np.array(list(state.counters(model).values()))}


def tampered(path, **changes):
    """A file whose run says something else."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8:8 + length])
    settings = json.loads(header["__metadata__"]["fastmlp"])
    run = settings["run"]
    for name, value in changes.items():
        if value is None:
            run.pop(name)
        else:
            run[name] = value
    header["__metadata__"]["fastmlp"] = json.dumps(settings)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length:])


@pytest.mark.parametrize("changes", [
    {"epoch": -1}, {"epoch": 1.5}, {"epoch": "1"}, {"epoch": 2**70}, {"epoch": 3}, {"step": 14}, {"step": -1},
    {"stopped": 1}, {"generator": {}}, {"generator": None}, {"history": {}}, {"history": {"loss": False}},
    {"history": {"loss": True, "other": True}}, {"origin": None}, {"origin": []}, {"optimizer": {"lr": []}},
    {"optimizer": {"unknown": 1}}, {"optimizer": {"beta1": 1e30}}, {"optimizer": {"weight_decay": "much"}},
    {"optimizer": None}, {"epoch": None}, {"positions": [1]}, {"positions": {"X": -1}},
    {"positions": {"X": "1"}},
], ids=str)
def test_a_run_that_cannot_be(changes, tmp_path):
    path = tmp_path / "run.safetensors"
    fit("adam", checkpoint=path)
    tampered(path, **changes)
    model, X, y, options = make("adam")
    before = copy.deepcopy((model, options["optimizer"]))
    with pytest.raises(ValueError, match="checkpoint: expected a model of fastmlp in .*run.safetensors"):
        model.fit(X, y, **options, checkpoint=path, resume=True)
    same(result_of_untrained(model, options["optimizer"]), result_of_untrained(*before))
    assert fastmlp.load(path).layers == model.layers


def test_files_without_a_run(tmp_path):
    path = tmp_path / "run.safetensors"
    model, X, y, options = make("adam")
    model.save(path, options["optimizer"], options["callbacks"])
    with pytest.raises(ValueError, match="^resume: expected a run in .*run.safetensors, got a model alone"):
        model.fit(X, y, **options, checkpoint=path, resume=True)
    for content in (b"", b"no file of this kind", path.read_bytes()[:-1]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="^checkpoint: expected a file of safetensors, got .*run"):
            model.fit(X, y, **options, checkpoint=path, resume=True)
    assert model.history is None


@pytest.mark.parametrize("arguments, error, message", [
    ({"checkpoint": 3}, TypeError, "^checkpoint: expected a path"),
    ({"checkpoint": "run.pt"}, ValueError, "^checkpoint: .*suffix .pt"),
    ({"checkpoint": "a\0b"}, ValueError, "^checkpoint: .*null"),
    ({"checkpoint": "no/such/folder/run.safetensors"}, FileNotFoundError, "no/such/folder"),
    ({"checkpoint": "."}, IsADirectoryError, r"directory: '/.*'"),
    ({"resume": True}, ValueError, "^resume: needs a file"),
    ({"resume": "r"}, ValueError, "^resume: expected True or False, got 'r'; .* checkpoint='r', resume=True"),
    ({"checkpoint_every": 10}, ValueError, "^checkpoint_every: needs a file"),
    ({"checkpoint": "r", "checkpoint_every": 0}, ValueError, "^checkpoint_every: .*got 0"),
    ({"checkpoint": "r", "checkpoint_every": 1.5}, TypeError, '^checkpoint_every: .*"30 s".*got 1.5'),
    ({"checkpoint": "r", "checkpoint_every": True}, TypeError, "^checkpoint_every: .*got True"),
    ({"checkpoint": "r", "checkpoint_every": "30"}, ValueError, '^checkpoint_every: .*"30 s".*got \'30\''),
    ({"checkpoint": "r", "checkpoint_every": "soon"}, ValueError, "^checkpoint_every"),
    ({"checkpoint": "r", "checkpoint_every": "3 weeks"}, ValueError, "^checkpoint_every.*3 weeks"),
    ({"checkpoint": "r", "checkpoint_every": "1.5 epochs"}, ValueError, "^checkpoint_every: .*whole number"),
    ({"checkpoint": "r", "checkpoint_every": "0 s"}, ValueError, "^checkpoint_every: .*above 0"),
    ({"checkpoint": "r", "checkpoint_every": "-1 s"}, ValueError, "^checkpoint_every"),
    ({"checkpoint": "r", "optimizer": LBFGS()}, ValueError, "^checkpoint: LBFGS"),
])
def test_bad_input(arguments, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = MLP([4, 3], seed=0)
    before = copy.deepcopy(model)
    with pytest.raises(error, match=message):
        model.fit(np.zeros((5, 4)), np.zeros(5, int), progress=False, **arguments)
    same(result_of_untrained(model, SGD()), result_of_untrained(before, SGD()))
    assert os.listdir() == [] and model.history is None


@pytest.mark.parametrize("make", [
    lambda folder: Checkpoint(folder / "net-{epoch}.safetensors"), lambda folder: CSVLogger(folder / "a.csv"),
    lambda folder: Checkpoint(folder / "{epoch}" / "net.safetensors")])
def test_a_folder_that_is_not_there_is_said_before_training(make, tmp_path):
    model = MLP([4, 3], seed=0)
    with pytest.raises(FileNotFoundError) as raised:
        model.fit(np.eye(4), np.zeros(4, int), epochs=1, progress=False, callbacks=[make(tmp_path / "no")])
    assert raised.value.filename.startswith(str(tmp_path / "no"))
    assert model.core.engine.global_step == 0


def test_what_cannot_be_saved_is_said_before_training(tmp_path):
    class Broken(EarlyStopping):
        def get_state(self):
            return {"what": object()}

    def own(z, t):
        return 0.0, np.zeros_like(z)

    X, y = np.eye(4), np.zeros(4, int)
    for model, callbacks, message in ((MLP([4, 3], loss=own), [], "loss"),
                                      (MLP([4, 3]), [Broken()], "callbacks")):
        with pytest.raises(TypeError, match=message):
            model.fit(X, y, callbacks=callbacks, progress=False, checkpoint=tmp_path / "run")
        assert model.core.engine.global_step == 0


def test_a_rate_that_is_replaced_by_a_schedule_is_not_saved(tmp_path):
    optimizer = SGD(0.1)

    def replace(model, epoch, logs):
        if epoch == 1:
            optimizer.lr = schedules.Constant(0.1)

    with pytest.warns(RuntimeWarning, match="checkpoint: the end of epoch 2 could not be .*lr was replaced"):
        MLP([4, 3]).fit(np.eye(4), np.zeros(4, int), epochs=4, optimizer=optimizer, callbacks=[replace],
                        progress=False, checkpoint=tmp_path / "run", checkpoint_every="1 epoch")
    assert place_in(tmp_path / "run") == (1, 0)


def without_parts(m):
    """No file can take another's place here."""
    real = os.open

    def fail(name, flags, *args, **more):
        if str(name).endswith(".part"):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), name)
        return real(name, flags, *args, **more)

    m.setattr(whole_files.os, "open", fail)


@POSIX
def test_a_folder_that_may_not_be_written_is_said_before_training(tmp_path, monkeypatch):
    """Its file may: but saved in place, it would be lost with the run where that is killed within a save."""
    path = tmp_path / "run.safetensors"
    _, X, y, _ = make("changed")
    begun(path, X, y)
    written = path.read_bytes()
    with monkeypatch.context() as m:
        without_parts(m)
        model = MLP([12, 5, 3], seed=0)
        before = model.weights[0].copy()
        with pytest.raises(PermissionError, match="could only be written in place, and would be") as raised:
            model.fit(X, y, epochs=2, checkpoint=path, progress=False)
        assert raised.value.filename == str(path)
        np.testing.assert_array_equal(model.weights[0], before)
    real = os.access
    monkeypatch.setattr(whole_files.os, "access",
                        lambda name, mode: os.fspath(name) != str(tmp_path) and real(name, mode))
    with pytest.raises(PermissionError, match="the run goes on, and its file may not be replaced"):
        begun(path, X, y, epochs=3)
    assert path.read_bytes() == written


@POSIX
def test_a_folder_that_becomes_read_only_costs_no_run(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"

    def lock(model, epoch, logs):
        if epoch == 4:
            without_parts(monkeypatch)

    _, X, y, _ = make("changed")
    with pytest.warns(RuntimeWarning, match="^checkpoint: the end of epoch 8 could not be saved to "
                      "run.safetensors, which is as it was: PermissionError"):
        begun(path, X, y, epochs=8, checkpoint_every="1 epoch", callbacks=[lock])
    assert place_in(path) == (4, 0)


@pytest.mark.any_isa
@POSIX
def test_parts_that_a_killed_run_left_are_gone_after_the_next(tmp_path):
    code = ("import os, sys, numpy as np; from fastmlp import MLP; from fastmlp._core import whole_files\n"
            "real = whole_files._rename\n"
            "def rename(part, target):\n"
            "    if os.path.exists(target): os.kill(os.getpid(), 9)\n"
            "    real(part, target)\n"
            "if len(sys.argv) > 2: whole_files._rename = rename\n"
            "X = np.random.default_rng(0).standard_normal((99, 4))\n"
            "MLP([4, 3], seed=0).fit(X, X[:, 0] > 0, epochs=5, progress=False, checkpoint=sys.argv[1],\n"
            "                        checkpoint_every='1 epoch', resume=True)")
    path = tmp_path / "run.safetensors"
    command = [sys.executable, "-c", code, str(path)]
    for _ in range(2):                      # the second removes that of the first
        assert subprocess.run([*command, "killed"]).returncode == -9
        assert len(list(tmp_path.glob(".fastmlp-*.part"))) == 1
    assert subprocess.run(command).returncode == 0
    assert os.listdir(tmp_path) == ["run.safetensors"]


def test_other_validation_data_are_another_run(tmp_path):
    path = tmp_path / "run.safetensors"
    _, X, y, options = make("adam")
    Xv, yv = options["validation_data"]
    begun(path, X, y, validation_data=(Xv, yv), epochs=1)
    refused(path, "X of validation_data: expected checksum ([0-9a-f]{8}), got checksum [0-9a-f]{8}$", X, y,
            validation_data=(Xv + 1, yv))
    refused(path, "y of validation_data: expected", X, y, validation_data=(Xv, (yv + 1) % 3))
    refused(path, "weights of validation_data: expected null, got checksum", X, y,
            validation_data=(Xv, yv, np.linspace(1, 2, len(yv))))
    refused(path, "rows of validation_data: expected 50, got 49; ", X, y, validation_data=(Xv[1:], yv[1:]))
    refused(path, "rows of validation_data: expected 50, got null", X, y)
    refused(path, "rows of validation_data: expected 50, got null; source of validation_data", X, y,
            validation_data=data.Chunks([(Xv, yv)]))
    begun(path, X, y, validation_data=(Xv.tolist(), yv.astype(float)))          # the same numbers


def test_other_files_for_validation_are_another_run(tmp_path):
    path = tmp_path / "run.safetensors"
    _, X, y, _ = make("changed")
    for name, shift in (("one", 0), ("other", 1)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "v.npy", np.column_stack([X + shift, y]))
    sources = [data.Files(tmp_path / name / "v.npy", 12) for name in ("one", "other")]
    begun(path, X, y, validation_data=sources[0])
    refused(path, "first block of X of validation_data: expected checksum", X, y, validation_data=sources[1])
    begun(path, X, y, validation_data=sources[0], epochs=2)


def test_a_full_disk_does_not_end_a_training(tmp_path, monkeypatch):
    """It is said, and the old file stays."""
    path, expected, write, calls = tmp_path / "run.safetensors", fit("adam"), whole_files.write, []

    def full(*args):
        calls.append(args)
        if 3 <= len(calls) < 12:
            raise OSError(28, "No space left on device")
        write(*args)

    monkeypatch.setattr(whole_files, "write", full)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        found = fit("adam", checkpoint=path, checkpoint_every=13)
    assert sum("No space left" in str(warning.message) for warning in seen) == 9
    same(found, expected)
    same(fit("adam", checkpoint=path, resume=True), expected)


# How often -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, expected", [
    ("30 s", Interval(30, "seconds")), ("30s", Interval(30, "seconds")), ("0.5 s", Interval(0.5, "seconds")),
    ("5 min", Interval(300, "seconds")), ("2 h", Interval(7200, "seconds")),
    (".5 hours", Interval(1800, "seconds")), (100, Interval(100, "steps")),
    (np.int64(3), Interval(3, "steps")), ("100 steps", Interval(100, "steps")),
    ("1 epoch", Interval(1, "epochs")), (" 2 epochs ", Interval(2, "epochs")),
])
def test_intervals(text, expected):
    assert interval("every", text) == expected


@pytest.mark.parametrize("every, expected", [
    (5, [(0, 0), (0, 5), (0, 10), (1, 2), (1, 7), (1, 12)]),
    ("13 steps", [(0, 0), (0, 13), (1, 13)]),
    ("1 epoch", [(0, 0), (1, 0), (2, 0)]),
    ("2 epochs", [(0, 0), (2, 0)]),
    ("1 h", [(0, 0)]),
])
def test_when_it_is_saved(every, expected, tmp_path, monkeypatch):
    """In the beginning, when it is time to, and in the end."""
    places, save = [], keeper.Keeper._save
    monkeypatch.setattr(keeper.Keeper, "_save",
                        lambda self, place: (places.append((place.epoch, place.step)), save(self, place)))
    fit("adam", epochs=2, checkpoint=tmp_path / "run", checkpoint_every=every)
    assert places == [*expected, (2, 0)]


def test_saving_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    """However long it takes, and however short the interval."""
    clock, saves = [0.0], []

    def save(self, path, place, in_place):
        saves.append(clock[0])
        clock[0] += 3.0

    def train(*args):
        clock[0] += 1.0
        return 0.0, 1.0

    monkeypatch.setattr(keeper.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr("fastmlp._core.run_file.Run.save", save)
    fit("changed", epochs=500, checkpoint=tmp_path / "run", checkpoint_every="10 s")
    between = np.diff(saves[:-1])
    assert len(between) > 2 and (between >= 3.0 + 50 * 3.0).all() and (between < 170).all()
    saves.clear()
    monkeypatch.setattr("fastmlp._core.run_file.Run.save", lambda *args, **more: saves.append(clock[0]))
    fit("changed", epochs=500, checkpoint=tmp_path / "run", checkpoint_every="10 s")
    assert len(saves) > 20 and (np.diff(saves[:-1]) < 12).all()


# Signals ---------------------------------------------------------------------------------------------------

SIGNALLED = """
import signal, sys, time
sys.path.insert(0, sys.argv[1])
import checkpoint_runs
import numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)     # a background job inherits that it is ignored
mode, path = sys.argv[2:4]
if mode == "own handler":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(7))
if mode == "go on":
    signal.signal(signal.SIGTERM, lambda number, frame: print("heard", flush=True))
before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
model, X, y, options = checkpoint_runs.make("adam")
options["epochs"], options["callbacks"] = 10**9, []

def ready(model, epoch, logs):
    global started
    if epoch == 3:
        started = time.monotonic()
        print("ready", flush=True)
    if mode == "hanging" and epoch == 3:
        while True:
            time.sleep(0.01)
    return mode == "go on" and epoch > 3 and time.monotonic() > started + 0.6

options["callbacks"] = [ready]
try:
    model.fit(X, y, **options, checkpoint=None if mode == "without" else path)
except BaseException as error:
    print(type(error).__name__, flush=True)
    if isinstance(error, SystemExit):
        raise
print(len(model.history.loss), model.history.loss[-1] > 0)
assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
assert np.isfinite(model.train_step(X, y, options["optimizer"]))
"""


def signalled(mode, path, *numbers):
    """The lines that a program prints after "ready" and these signals, and its exit status."""
    command = [sys.executable, "-c", SIGNALLED, str(Path(__file__).parent), mode, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n", process.stderr.read()
            for number in numbers:
                time.sleep(0.2)
                process.send_signal(number)
            lines, errors = process.communicate(timeout=60)
            return lines.splitlines(), process.returncode, errors
        finally:
            process.kill()


def goes_on_to_the_same_bits(path):
    """From what a signal left in the file, for three epochs more."""
    epoch, step = place_in(path)
    assert epoch >= 3
    if epoch > 2000:                # or the run that is left alone takes long
        return
    stop = {"epochs": epoch + 3, "callbacks": []}
    same(fit("adam", **stop, checkpoint=path, resume=True), fit("adam", **stop))


@pytest.mark.any_isa
@POSIX
def test_sigterm(tmp_path):
    """Ends the process as SIGTERM does, after a last save."""
    path = tmp_path / "run.safetensors"
    lines, status, errors = signalled("plain", path, signal.SIGTERM)
    assert (lines, status, errors) == ([], -signal.SIGTERM, "")
    goes_on_to_the_same_bits(path)


@pytest.mark.any_isa
@POSIX
def test_sigterm_with_a_handler_of_the_users(tmp_path):
    path = tmp_path / "run.safetensors"
    lines, status, _ = signalled("own handler", path, signal.SIGTERM)
    assert (lines, status) == (["SystemExit"], 7)
    goes_on_to_the_same_bits(path)
    lines, status, errors = signalled("go on", path, signal.SIGTERM)        # which says that it goes on
    assert lines[0] == "heard" and status == 0, errors


@pytest.mark.any_isa
@POSIX
def test_ctrl_c(tmp_path):
    """Keeps the history, saves, and raises KeyboardInterrupt; without a checkpoint, too."""
    path = tmp_path / "run.safetensors"
    lines, status, errors = signalled("plain", path, signal.SIGINT)
    assert lines[0] == "KeyboardInterrupt" and status == 0, errors
    assert int(lines[1].split()[0]) == run_in(path)["epoch"] >= 3 and lines[1].endswith("True")
    goes_on_to_the_same_bits(path)
    lines, status, errors = signalled("without", path, signal.SIGINT)
    assert lines[0] == "KeyboardInterrupt" and int(lines[1].split()[0]) >= 3 and status == 0, errors


@pytest.mark.any_isa
@POSIX
@pytest.mark.parametrize("number, expected", [(signal.SIGINT, (["KeyboardInterrupt", "4 True"], 0)),
                                              (signal.SIGTERM, ([], -signal.SIGTERM))])
def test_a_second_signal_does_not_wait(number, expected, tmp_path):
    """For a callback that hangs; the file is that of the last save."""
    path = tmp_path / "run.safetensors"
    lines, status, errors = signalled("hanging", path, number, number)
    assert (lines, status) == expected, errors
    assert place_in(path) == (0, 0)


def test_sigterm_ends_the_first_process_of_a_container(tmp_path, monkeypatch):
    """For which the system's default is to do nothing."""
    raised = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def ended(model, epoch, logs):
        if epoch == 2:
            signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)

    with pytest.raises(SystemExit) as error:
        MLP([4, 3]).fit(np.eye(4), np.zeros(4, int), epochs=9, progress=False, callbacks=[ended],
                        checkpoint=tmp_path / "run", checkpoint_every="1 h")
    assert error.value.code == 143 and raised == [signal.SIGTERM]
    assert place_in(tmp_path / "run") == (3, 0)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers


@POSIX
def test_a_signal_while_a_source_is_waited_for(tmp_path, rng):
    """However long the next block takes, the run is saved and the handler called."""
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    path, waits, come = tmp_path / "run.safetensors", threading.Event(), threading.Event()

    def blocks(patient=True):
        yield X, y
        if not patient:
            time.sleep(0.3)                 # until it is waited for
            os.kill(os.getpid(), signal.SIGTERM)
            waits.wait(20)
        yield X[:20], y[:20]

    def handler(number, frame):
        come.set()
        waits.set()

    def run(patient, **more):
        source = data.Chunks(lambda: blocks(patient), buffer_rows=20)
        return MLP([4, 3], seed=0), source, {"epochs": 2, "batch_size": 10, "optimizer": SGD(0.1),
                                             "progress": False, **more}

    before = signal.signal(signal.SIGTERM, handler)
    try:
        model, source, options = run(False, epochs=1, checkpoint=path, checkpoint_every="1 h",
                                     callbacks=[lambda *args: 1 / 0])
        started = time.monotonic()
        with pytest.raises(ZeroDivisionError):
            model.fit(source, **options)
        assert come.is_set() and time.monotonic() - started < 10
    finally:
        signal.signal(signal.SIGTERM, before)
    epoch, step = place_in(path)
    assert epoch == 0 and 2 <= step <= 4
    resumed, source, options = run(True, checkpoint=path, resume=True)
    resumed.fit(source, **options)
    whole, source, options = run(True)
    whole.fit(source, **options)
    same(result_of_untrained(resumed, SGD()), result_of_untrained(whole, SGD()))


@POSIX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_child_that_is_forked_in_a_callback_does_not_hold_signals(number, tmp_path):
    """Or a pool that is closed there waits for ever: it ends its workers with SIGTERM."""
    ended = []

    def forks(model, epoch, logs):
        child = os.fork()
        if not child:
            try:
                for _ in range(100):
                    time.sleep(0.1)
            finally:
                os._exit(3)
        time.sleep(0.1)
        os.kill(child, number)
        status = os.waitpid(child, 0)[1]
        ended.append(os.WTERMSIG(status) or os.WEXITSTATUS(status))

    started = time.monotonic()
    MLP([4, 3]).fit(np.eye(4), np.zeros(4, int), epochs=1, progress=False, callbacks=[forks],
                    checkpoint=tmp_path / "run")
    assert time.monotonic() - started < 5
    assert ended == [signal.SIGTERM if number == signal.SIGTERM else 3]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.skipif(sys.platform != "linux", reason="the struct is another one")
def test_handlers_and_flags_of_c_code_stay():
    """Python tells of neither."""
    code = ("import faulthandler, os, signal\n"
            "from fastmlp._core.actions import action_of\n"
            "from fastmlp._core.signals import HeldSignals\n"
            "def actions():\n"
            "    structs = [action_of(number) for number in (signal.SIGINT, signal.SIGTERM)]\n"
            "    return [(struct[:8], struct[136:140]) for struct in structs]   # handler and flags\n"
            "faulthandler.register(signal.SIGTERM, chain=False)\n"
            "signal.siginterrupt(signal.SIGINT, False)\n"
            "before = actions()\n"
            "with HeldSignals() as held:\n"
            "    os.kill(os.getpid(), signal.SIGTERM)\n"
            "    assert not held.waiting\n"
            "    assert actions()[0] != before[0]\n"
            "assert actions() == before\n")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "most recent call first" in done.stderr, done.stderr


def test_another_release_is_told(tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    fit("momentum", checkpoint=path, epochs=2)
    monkeypatch.setattr("fastmlp._core.run_file.__version__", "9.9")
    with pytest.warns(RuntimeWarning, match=r"saved by fastmlp '0.*', and goes on with 9.9: each has bits"):
        fit("momentum", checkpoint=path, epochs=3, resume=True)


def test_the_file_stays_where_it_was_when_the_program_goes_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("other")
    goes = [lambda model, epoch, logs: os.chdir(tmp_path / "other")]
    MLP([4, 3]).fit(np.eye(4), np.zeros(4, int), epochs=2, progress=False, callbacks=goes, checkpoint="run",
                    checkpoint_every="1 epoch")
    assert place_in(tmp_path / "run") == (2, 0) and not os.listdir(tmp_path / "other")


@POSIX
def test_held_signals():
    seen = []

    def handler(number, frame):
        seen.append(number)

    before = signal.signal(signal.SIGTERM, handler), signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with HeldSignals() as outer, HeldSignals() as held:
            signal.raise_signal(signal.SIGINT)              # is ignored, as before
            assert not held.waiting
            signal.raise_signal(signal.SIGTERM)
            assert held.waiting and not outer.waiting and not seen
            held.deliver()
            assert not held.waiting and outer.waiting and not seen      # one `fit` within another
            outer.deliver()
            assert seen == [signal.SIGTERM] and not outer.waiting
            held.deliver()
            assert len(seen) == 1
            signal.raise_signal(signal.SIGTERM)
        assert len(seen) == 2                               # at the end of the block at the latest
        assert signal.getsignal(signal.SIGTERM) is handler
        with HeldSignals():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN       # what the user sets stays
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])


def test_outside_of_the_main_thread(tmp_path):
    """Python handles no signals there."""
    import threading

    found = []
    thread = threading.Thread(target=lambda: found.append(fit("adam", checkpoint=tmp_path / "run",
                                                              checkpoint_every=5)))
    thread.start()
    thread.join()
    same(found[0], fit("adam"))


# History of a run that is interrupted ----------------------------------------------------------------------

def test_history_of_the_model(tmp_path):
    model, X, y = MLP([2, 2], seed=0), np.eye(2), [0, 1]
    assert model.history is None

    def interrupt(model, epoch, logs):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y, epochs=10, callbacks=[interrupt], progress=False)
    assert len(model.history.loss) == len(model.history.samples_per_second) == 4
    before = model.history
    with pytest.raises(ValueError):
        model.fit(X, [0, 7], progress=False)
    assert model.history is before                  # no training, no other history
    history = model.fit(X, y, epochs=2, progress=False)
    assert model.history is history and len(history.loss) == 2
    with pytest.raises(AttributeError, match="^history"):
        model.history = None
    best = model.fit(X, y, epochs=2, restarts=3, progress=False)
    assert model.history is best
    model.save(tmp_path / "net.safetensors")
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)),
                  fastmlp.load(tmp_path / "net.safetensors")):
        assert other.history is None


# Checkpoint ------------------------------------------------------------------------------------------------

def values(*numbers):
    """A metric that returns these, one after another."""
    left = iter(numbers)
    return {"score": lambda truth, predicted: next(left)}


def test_checkpoint_saves_every_epoch(tmp_path):
    seen = []
    saves = Checkpoint(tmp_path / "net-{epoch:02d}-{score:.1f}.safetensors", every=2)
    model = MLP([2, 2], seed=0)
    model.fit(np.eye(2), [0, 1], epochs=5, metrics=values(1, 2, 3, 4, 5), progress=False,
              callbacks=[lambda m, epoch, logs: seen.append(m.weights[0].copy()), saves])
    names = sorted(os.listdir(tmp_path))
    assert names == ["net-01-2.0.safetensors", "net-03-4.0.safetensors"]
    assert saves.saved_path == str(tmp_path / names[1])
    for name, epoch in zip(names, (1, 3)):
        np.testing.assert_array_equal(fastmlp.load(tmp_path / name).weights[0], seen[epoch])


@pytest.mark.parametrize("mode, numbers, saved, best", [
    ("max", [3, 2, 4, 4, float("nan"), 5], [0, 2, 5], 5), (None, [1, 2, 0], [0, 1], 1),
    ("min", [3, 2, 4, 2, 1.5], [0, 1, 4], 4), ("max", [float("nan"), 1.0], [1], 1),
])
def test_checkpoint_saves_the_best(mode, numbers, saved, best, tmp_path):
    saves = Checkpoint(tmp_path / "{epoch}.safetensors", "score", save_best_only=True, mode=mode)
    assert saves.best is saves.best_epoch is saves.saved_path is None
    model = MLP([2, 2], seed=0)
    model.fit(np.eye(2), [0, 1], epochs=len(numbers), metrics=values(*numbers), progress=False,
              callbacks=[saves])
    assert sorted(os.listdir(tmp_path)) == [f"{epoch}.safetensors" for epoch in saved]
    assert (saves.best, saves.best_epoch) == (numbers[best], best)
    model.fit(np.eye(2), [0, 1], epochs=1, metrics=values(0.0), progress=False, callbacks=[saves])
    assert saves.best == 0.0                        # every fit starts anew


def test_checkpoint_without_a_monitor_takes_the_loss(tmp_path):
    saves = Checkpoint(tmp_path / "net.safetensors", save_best_only=True)
    model = MLP([2, 2], seed=0)
    history = model.fit(np.eye(2), [0, 1], epochs=4, progress=False, callbacks=[saves])
    assert saves.best == min(history.loss)


def test_a_run_goes_on_from_a_checkpoint(tmp_path):
    """From the best epoch or any other, with the state of early stopping in front of it."""
    def callbacks():
        return [EarlyStopping(11), Checkpoint(tmp_path / "{epoch}.safetensors", "val_loss")]

    first = callbacks()
    expected = fit("adam", callbacks=first)
    second = callbacks()
    found = fit("adam", callbacks=second, checkpoint=tmp_path / "4.safetensors", resume=True)
    same(found, expected)
    same(second[1].get_state(), first[1].get_state())


def test_checkpoint_and_a_kill(tmp_path, monkeypatch):
    """Its best value survives with a checkpoint of the run."""
    def program(**more):
        saves = Checkpoint(tmp_path / "best.safetensors", save_best_only=True)
        fit("momentum", callbacks=[saves], **more)
        return saves.get_state()

    expected, best = program(), (tmp_path / "best.safetensors").read_bytes()
    with abandoning(monkeypatch, 40):
        program(checkpoint=tmp_path / "run", checkpoint_every=4)
    same(program(checkpoint=tmp_path / "run", resume=True), expected)
    again = fastmlp.load(tmp_path / "best.safetensors")
    (tmp_path / "best.safetensors").write_bytes(best)
    np.testing.assert_array_equal(again.weights[0], fastmlp.load(tmp_path / "best.safetensors").weights[0])


def test_checkpoint_alone(tmp_path):
    """In a loop of the user's own it saves the model; with L-BFGS, too."""
    model, saves = MLP([2, 2], seed=0), Checkpoint(tmp_path / "net.safetensors")
    saves(model, 0, {"loss": 1.0})
    np.testing.assert_array_equal(fastmlp.load(tmp_path / "net.safetensors").weights[0], model.weights[0])
    pytest.importorskip("scipy")
    model.fit(np.eye(2), [0, 1], optimizer=LBFGS(max_iter=3), callbacks=[saves], progress=False)
    np.testing.assert_array_equal(fastmlp.load(tmp_path / "net.safetensors").weights[0], model.weights[0])


def test_checkpoint_is_copied_and_pickled(tmp_path):
    saves = Checkpoint(tmp_path / "net.safetensors", "loss", True, 2, mode="min")
    saves(MLP([2, 2]), 1, {"loss": 0.5})
    for other in (copy.copy(saves), copy.deepcopy(saves), pickle.loads(pickle.dumps(saves))):
        assert repr(other) == repr(saves) and (other.best, other.best_epoch) == (0.5, 1)
    other = Checkpoint("net.safetensors")
    other.set_state(saves.get_state())
    assert (other.best, other.best_epoch) == (0.5, 1)
    other.begin(MLP([2, 2]))
    assert other.best == 0.5


@pytest.mark.parametrize("arguments, error, message", [
    ({"path": 3}, TypeError, "^path"),
    ({"path": "net.onnx"}, ValueError, "^path.*onnx"),
    ({"monitor": 3}, TypeError, "^monitor"),
    ({"every": 0}, ValueError, "^every.*0"),
    ({"every": "2 epochs"}, TypeError, "^every"),
    ({"mode": "auto"}, ValueError, "^mode.*auto"),
])
def test_bad_checkpoints(arguments, error, message):
    with pytest.raises(error, match=message):
        Checkpoint(**{"path": "net.safetensors"} | arguments)


@pytest.mark.parametrize("saves, message", [
    (Checkpoint("{acuracy}.safetensors"), "^path: .*acuracy.*epoch, loss"),
    (Checkpoint("{loss:d}.safetensors"), "^path: "),
    (Checkpoint("{}.safetensors"), "^path: "),
    (Checkpoint("net.safetensors", "val_loss"), "^monitor: 'val_loss' is not recorded"),
    (Checkpoint("net.safetensors", "samples_per_second", True), "^mode"),
])
def test_checkpoints_that_do_not_fit(saves, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        MLP([2, 2]).fit(np.eye(2), [0, 1], callbacks=[saves], progress=False)
    assert os.listdir() == []


@pytest.mark.parametrize("values, error", [
    ({}, ValueError), ({"best": 1.0}, ValueError), ({"best": 1.0, "best_epoch": -1}, ValueError),
    ({"best": float("nan"), "best_epoch": 1}, ValueError), ({"best": "x", "best_epoch": 1}, TypeError),
    ({"best": 1.0, "best_epoch": 1.5}, TypeError), ({"best": [1.0], "best_epoch": 1}, TypeError),
    ({"best": 1.0, "best_epoch": 1, "more": 2}, ValueError),
])
def test_bad_states_of_a_checkpoint(values, error):
    saves = Checkpoint("net.safetensors")
    with pytest.raises(error):
        saves.set_state(values)
    assert saves.best is None


@pytest.mark.parametrize(("begun_with", "assigned"), [
    ({"momentum": 0.9}, {"momentum": 0.0}),
    ({}, {"momentum": 0.9}),
    ({"momentum": 0.9, "nesterov": True}, {"nesterov": False, "momentum": 0.0}),
    ({}, {"momentum": 0.9, "nesterov": True}),
    ({"lr": schedules.ReduceOnPlateau(0.1)}, {"lr": 0.05}),
])
def test_settings_that_callbacks_assign_are_of_the_run(begun_with, assigned, tmp_path, rng):
    X, y = rng.standard_normal((64, 5)), rng.integers(0, 2, 64)

    def run(path, killed=None):
        model, optimizer = MLP([5, 4, 2], seed=0), SGD(**{"lr": 0.1, **copy.deepcopy(begun_with)})

        def assign(model, epoch, logs):
            if epoch == 1:
                for name, value in assigned.items():
                    setattr(optimizer, name, value)
            if epoch == killed:
                raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            model.fit(X, y, epochs=6, batch_size=16, optimizer=optimizer, callbacks=[assign], progress=False,
                      checkpoint=path, checkpoint_every=1, resume=True)
        return model

    whole = run(tmp_path / "whole.safetensors")
    run(tmp_path / "run.safetensors", killed=3)
    assert Learned(run(tmp_path / "run.safetensors")) == Learned(whole)


def test_a_state_that_a_callback_refuses_leaves_all_as_it_was(tmp_path, rng):
    class Stateful:
        def __init__(self, refuses):
            self.refuses = refuses

        def __call__(self, model, epoch, logs):
            if epoch == 1:
                model.dropout, self.optimizer.momentum = 0.3, 0.9

        def get_state(self):
            return {"number": np.array(1.0)}

        def set_state(self, state):
            if self.refuses:
                raise ValueError("no")

    X, y = rng.standard_normal((64, 5)), rng.integers(0, 2, 64)
    for callback in (Stateful(False), Stateful(True)):
        model, callback.optimizer = MLP([5, 4, 2], seed=0), SGD(0.1)
        before = Learned(model)
        refuses = pytest.raises(ValueError, match="no") if callback.refuses else contextlib.nullcontext()
        with refuses:
            model.fit(X, y, epochs=4, optimizer=callback.optimizer, callbacks=[callback], progress=False,
                      checkpoint=tmp_path / "run.safetensors", resume=True)
    assert model.dropout == (0.0,) and callback.optimizer.momentum == 0 and Learned(model) == before
    assert list(callback.optimizer.get_state(model)) == ["step"]


def test_losses_of_step_callbacks_are_those_of_the_run(tmp_path, rng):
    X, y = rng.standard_normal((203, 5)), rng.integers(0, 2, 203)

    def run(path, killed=None, checkpoint_every=5):
        heard = {}

        class Listens:
            def __init__(self, every):
                self.every = every

            def on_step_end(self, model, step, logs):
                heard[self.every, step] = logs["loss"]
                if step == killed:
                    raise KeyboardInterrupt

        callbacks = [Listens(10), Listens(3), Listens(1), Listens(10)]
        with contextlib.suppress(KeyboardInterrupt):
            MLP([5, 4, 2], seed=0).fit(X, y, epochs=6, batch_size=16, optimizer=SGD(0.1), callbacks=callbacks,
                                       progress=False, checkpoint=path, checkpoint_every=checkpoint_every,
                                       resume=True)
        return heard

    whole = run(tmp_path / "whole.safetensors", checkpoint_every=1000)
    path = tmp_path / "run.safetensors"
    heard = run(path, killed=29)                # after the save at 25, in the third epoch
    assert run(path) | heard == whole and len(whole) == 7 + 26 + 78
