"""CSVLogger: what is in the file, at every moment, and after every kind of end."""
from __future__ import annotations

import copy
import csv
import io
import math
import os
import pickle
import subprocess
import sys
import textwrap
from datetime import datetime

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, CSVLogger
from fastmlp._core import whole_files

pytestmark = pytest.mark.any_isa


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.csv"


def data(rng):
    return rng.standard_normal((40, 4)).astype(np.float32), rng.integers(0, 3, 40)


def fit(logger, rng, model=None, **options):
    X, y = data(rng)
    model = model or MLP([4, 5, 3], seed=0)
    options = {"epochs": 3, "batch_size": 10, "optimizer": SGD(0.1), "progress": False, **options}
    return model.fit(X, y, **{"callbacks": [logger], **options})


def table(path):
    """Rows as dicts, read by Python's module, which is not what wrote the numbers."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_numbers_of_every_epoch(path, backend, rng):
    X, y = data(rng)
    before = datetime.now().replace(microsecond=0)
    history = fit(CSVLogger(path), rng, validation_data=(X, y))
    rows = table(path)
    assert list(rows[0]) == ["epoch", "step", "time", "loss", "samples_per_second", "val_loss",
                             "val_accuracy"]
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [row["step"] for row in rows] == ["4", "8", "12"]
    for name in ("loss", "samples_per_second", "val_loss", "val_accuracy"):
        assert [float(row[name]) for row in rows] == history[name]         # every digit
    assert all(before <= datetime.fromisoformat(row["time"]) <= datetime.now() for row in rows)


def test_the_line_is_there_when_the_epoch_ends(path, rng):
    lines = []
    count = lambda *_: lines.append(path.read_text().count("\n"))       # noqa: E731
    fit(None, rng, callbacks=[CSVLogger(path), count])
    assert lines == [2, 3, 4]


def test_a_line_is_one_write(path, rng, monkeypatch):
    """So that whoever reads the file finds whole lines."""
    logger, model = CSVLogger(path), MLP([4, 3], seed=0)
    logger(model, 0, {"loss": 1.0})
    seen, put = [], whole_files._put

    def watched(file, pieces):
        assert isinstance(file, io.FileIO)      # without a buffer
        seen.extend(pieces)
        put(file, pieces)

    monkeypatch.setattr(whole_files, "_put", watched)
    logger(model, 1, {"loss": 0.5})
    assert len(seen) == 1 and path.read_text().endswith(",0.5\n")


def test_a_second_fit_goes_on(path, rng):
    logger, model = CSVLogger(path), MLP([4, 5, 3], seed=0)
    fit(logger, rng, model)
    fit(logger, rng, model, epochs=2)
    fit(CSVLogger(path), rng, model, epochs=1)              # in another process, it may be
    assert [(row["epoch"], row["step"]) for row in table(path)] == [
        ("0", "4"), ("1", "8"), ("2", "12"), ("0", "16"), ("1", "20"), ("0", "24")]


def test_new_columns(path, rng):
    X, y = data(rng)
    logger, model = CSVLogger(path), MLP([4, 5, 3], seed=0)
    first = fit(logger, rng, model, epochs=2)
    second = fit(logger, rng, model, epochs=1, validation_data=(X, y))
    third = fit(logger, rng, model, epochs=1)
    rows = table(path)
    assert [row["val_loss"] for row in rows] == ["", "", repr(second.val_loss[0]), ""]
    assert [float(row["loss"]) for row in rows] == [*first.loss, *second.loss, *third.loss]


def test_what_is_a_number(path):
    logger, model = CSVLogger(path), MLP([4, 3], seed=0)
    logger(model, 0, {"loss": math.nan, "f4": np.float32(0.1), "count": np.int64(3), "flag": True,
                      "text": "a,b", "array": np.zeros(3), "layers": [0.25, np.float64(0.5)],
                      "a,\"b": math.inf})
    (row,) = table(path)
    assert {name: row[name] for name in list(row)[3:]} == {
        "loss": "nan", "f4": repr(float(np.float32(0.1))), "count": "3", "layers_1": "0.25",
        "layers_2": "0.5",
        'a,"b': "inf"}


def test_lbfgs(path, rng):
    pytest.importorskip("scipy")
    history = fit(CSVLogger(path), rng, MLP([4, 5, 3], activation="tanh", seed=0),
                  optimizer=fastmlp.LBFGS(max_iter=4))
    assert [float(row["loss"]) for row in table(path)] == history.loss


# After an interruption -------------------------------------------------------------------------------------

@pytest.mark.parametrize("half", ["1,8,2026", "1", "1,8,2026-01-01T00:00:00,0.123,45"])
def test_a_half_line_is_removed(half, path, rng):
    model = MLP([4, 5, 3], seed=0)
    fit(CSVLogger(path), rng, model, epochs=1)
    whole = path.read_text()
    path.write_text(whole + half)
    fit(CSVLogger(path), rng, model, epochs=1)
    assert path.read_text().startswith(whole)
    assert [row["step"] for row in table(path)] == ["4", "8"]


def test_half_a_line_of_names(path, rng):
    path.write_text("epoch,st")
    fit(CSVLogger(path), rng, epochs=1)
    assert [row["step"] for row in table(path)] == ["4"]


def test_an_empty_file(path, rng):
    path.write_text("")
    fit(CSVLogger(path), rng, epochs=1)
    assert [row["step"] for row in table(path)] == ["4"]


def test_resuming_removes_what_comes_again(path, tmp_path, rng):
    """A run that is saved after two epochs, and killed after five, ends with the file of one that was not."""
    X, y = data(rng)
    whole, logger, file = MLP([4, 5, 3], seed=0), CSVLogger(path), tmp_path / "m.safetensors"

    def save(model, epoch, logs):
        if epoch == 1:
            model.save(file, callbacks=[logger])

    whole.fit(X, y, epochs=5, batch_size=10, optimizer=SGD(0.1), callbacks=[logger, save], progress=False)
    expected = [row["loss"] for row in table(path)]
    again = CSVLogger(path)
    model = fastmlp.load(file, callbacks=[again])
    assert len(table(path)) == 5                            # nothing is lost before training begins
    model.fit(X, y, epochs=3, batch_size=10, optimizer=SGD(0.1), callbacks=[again], progress=False)
    assert [row["loss"] for row in table(path)] == expected
    assert [row["step"] for row in table(path)] == ["4", "8", "12", "16", "20"]


def test_killed(path):
    """At a moment of its own; every line that is there is whole, but for the last."""
    program = textwrap.dedent("""
        import os, sys
        import numpy as np
        from fastmlp import MLP, CSVLogger
        logger, model = CSVLogger(sys.argv[1]), MLP([4, 3], seed=0)
        for epoch in range(50):
            logger(model, epoch, {"loss": epoch / 3})
            if epoch == 20:
                os.kill(os.getpid(), 9)
        """)
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    assert [float(row["loss"]) for row in table(path)] == [epoch / 3 for epoch in range(21)]


def test_moved_away_meanwhile(path, rng):
    def move(model, epoch, logs):
        if epoch == 1:
            os.rename(path, f"{path}.old")

    fit(CSVLogger(path), rng, callbacks=[CSVLogger(path), move])
    assert [row["epoch"] for row in table(path)] == ["2"]
    assert [row["epoch"] for row in table(f"{path}.old")] == ["0", "1"]


# State and copies ------------------------------------------------------------------------------------------

def test_state(path, rng):
    logger = CSVLogger(path)
    fit(logger, rng)
    assert {name: int(value) for name, value in logger.get_state().items()} == {"rows": 3}
    other = CSVLogger(path)
    other.set_state(logger.get_state())
    assert other.get_state() == logger.get_state()


@pytest.mark.parametrize("state, error, message", [
    ({}, ValueError, "^state: expected an entry 'rows' alone, got none"),
    ({"rows": 1, "lines": 1}, ValueError, "^state: .*got rows, lines"),
    ({"rows": -1}, ValueError, r"^state\['rows'\]"),
    ({"rows": 1.5}, TypeError, r"^state\['rows'\]"),
    ({"rows": np.zeros(2, int)}, TypeError, r"^state\['rows'\]"),
    (3, TypeError, "^state: expected a dict"),
])
def test_bad_state(state, error, message, path):
    logger = CSVLogger(path)
    with pytest.raises(error, match=message):
        logger.set_state(state)
    assert int(logger.get_state()["rows"]) == 0


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(copied, path, rng):
    logger = CSVLogger(path)
    fit(logger, rng, epochs=1)
    fit(copied(logger), rng, epochs=1)
    assert len(table(path)) == 2


# Bad input -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", [None, 3, ["run.csv"]], ids=repr)
def test_bad_path(path):
    with pytest.raises(TypeError, match="^path: expected a path, got"):
        CSVLogger(path)


@pytest.mark.parametrize("content", [b"a,b,c\n1,2,3\n", b"half a line of something else", b"\xff\xfe\x00\n",
                                     b'epoch,step,time\n"'])
def test_another_file_stays_as_it_is(content, path, rng):
    path.write_bytes(content)
    if content.endswith(b'"'):
        fit(CSVLogger(path), rng, epochs=1)                 # half a line of its own
        assert len(table(path)) == 1
        return
    model = MLP([4, 5, 3], seed=0)
    before = model.weights[0].copy()
    with pytest.raises(ValueError, match="^path: expected a table of a CSVLogger"):
        fit(CSVLogger(path), rng, model)
    assert path.read_bytes() == content
    np.testing.assert_array_equal(model.weights[0], before)


def test_no_folder(tmp_path, rng):
    with pytest.raises(FileNotFoundError):
        fit(CSVLogger(tmp_path / "nowhere" / "run.csv"), rng)


def test_path_is_fixed(path):
    with pytest.raises(AttributeError, match="^path: is fixed"):
        CSVLogger(path).path = "other.csv"
    assert repr(CSVLogger("run.csv")) == "CSVLogger('run.csv')"
