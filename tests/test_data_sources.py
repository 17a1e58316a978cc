"""fastmlp.data: training on files and blocks gives the bits of training on arrays, within little memory; what
is broken is named; the thread that reads ends."""
from __future__ import annotations

import contextlib
import gc
import gzip
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from itertools import count, islice
from pathlib import Path

import numpy as np
import pytest
from conftest import Learned
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
from fastmlp import LBFGS, MLP, SGD, Adam, EarlyStopping, data, schedules
from fastmlp._core import progress
from fastmlp.data import BlockError, Chunks, Files
from fastmlp.losses import CrossEntropy

pytestmark = pytest.mark.any_isa

N, D, C = 1000, 6, 3


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    if reading():               # of a generator that is garbage: it ends with it
        gc.collect()
    assert not reading()


def table(n=N, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, D)).astype(dtype)
    return X, rng.integers(0, C, n), rng.uniform(0.5, 2, n)


def cut(arrays, sizes=(300, 1, 0, 250, 449)):
    """The arrays in blocks of so many rows."""
    ends = np.cumsum([0, *sizes])
    return [tuple(array[a:b] for array in arrays) for a, b in zip(ends, ends[1:])]


def fitted(X, y=None, *, weight=None, model=None, optimizer=None, epochs=3, batch_size=32, shuffle=False,
           **options):
    model = MLP([D, 16, C], seed=0, **(model or {}))
    history = model.fit(X, y, epochs=epochs, batch_size=batch_size, shuffle=shuffle, sample_weight=weight,
                        optimizer=optimizer or SGD(0.1, momentum=0.9), progress=False, check_scale=False,
                        **options)
    return model, history


# The bits of arrays ------------------------------------------------------------------------------------

SETTINGS = {
    "momentum": dict(optimizer=lambda: SGD(0.1, momentum=0.9)),
    "adam": dict(optimizer=lambda: Adam(0.01, weight_decay=1e-3)),
    "a schedule": dict(optimizer=lambda: SGD(schedules.Cosine(0.1, steps=90))),
    "a function": dict(optimizer=lambda: SGD(lambda step: 0.1 / (1 + step))),
    "dropout": dict(model={"dropout": 0.3}),
    "batch normalisation": dict(model={"batch_norm": True}),
    "float64": dict(model={"dtype": "float64"}),
    "clip_norm": dict(optimizer=lambda: SGD(0.1, clip_norm=0.1)),
    "class_weight": dict(class_weight={0: 3.0}),
    "whole batches": dict(batch_size=100),
    "one batch": dict(batch_size=5000),
    "metrics": dict(metrics=["accuracy"]),
    "steps": dict(log_steps=True),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("weighted", [False, True])
def test_bits_are_those_of_the_array(setting, weighted, backend):
    options = dict(SETTINGS[setting])
    make = options.pop("optimizer", lambda: None)
    X, y, w = table()
    blocks = cut((X, y, w) if weighted else (X, y))
    expected, history = fitted(X, y, weight=w if weighted else None, optimizer=make(), **options)
    model, found = fitted(Chunks(blocks, buffer_rows=128), optimizer=make(), **options)
    assert Learned(model) == Learned(expected)
    assert found.keys() == history.keys()
    for name in found.keys() - {"samples_per_second"}:
        assert_allclose(found[name], history[name], rtol=0 if model.backend.COMPILED else 1e-4)


@pytest.mark.parametrize("buffer_rows", [1, 33, 64, 999, 10**5])
@pytest.mark.parametrize("sizes", [(1000,), (1,) * 40 + (960,), (32,) * 31 + (8,), (999, 1)])
def test_bits_for_any_blocks_and_buffers(buffer_rows, sizes):
    X, y, _ = table()
    expected = Learned(fitted(X, y)[0])
    assert Learned(fitted(Chunks(cut((X, y), sizes), buffer_rows=buffer_rows))[0]) == expected


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float16", "float64", ">f4", "longdouble", "?"])
def test_bits_for_any_dtype(dtype):
    X = (table()[0] * 40).astype(dtype)
    y = table()[1].astype(np.uint8)
    options = dict(optimizer=SGD(1e-4))
    assert Learned(fitted(Chunks(cut((X, y))), **options)[0]) == Learned(fitted(X, y, **options)[0])


def test_bits_with_targets_of_values(rng):
    X, y = table()[0], rng.standard_normal((N, C))
    options = dict(model={"loss": "mean_squared_error"}, optimizer=SGD(0.01))
    assert Learned(fitted(Chunks(cut((X, y))), **options)[0]) == Learned(fitted(X, y, **options)[0])


def test_bits_where_samples_count_for_nothing(rng):
    """Blocks, and the first of a buffer, in which none or all do."""
    X, y, w = table()
    w[200:600] = 0
    y[300:400] = 99                 # may be anything there
    expected = Learned(fitted(X, y, weight=w)[0])
    for sizes in ((300, 1, 0, 250, 449), (100,) * 10):
        assert Learned(fitted(Chunks(cut((X, y, w), sizes), buffer_rows=64))[0]) == expected


def test_bits_with_labels_that_are_ignored():
    X, y, _ = table()
    y[150:420:2] = -1
    y[500:600] = -1
    options = dict(model={"loss": CrossEntropy(ignore_index=-1)})
    expected = Learned(fitted(X, y, **options)[0])
    for sizes in ((300, 1, 0, 250, 449), (100,) * 10):
        assert Learned(fitted(Chunks(cut((X, y), sizes), buffer_rows=64), **options)[0]) == expected


def test_bits_of_a_loss_of_ones_own():
    X, y = table()[0], table(seed=1)[0][:, :C]

    def loss(z, t):
        return float(((z - t) ** 2).mean()), 2 * (z - t) / z.size

    options = dict(model={"loss": loss})
    assert Learned(fitted(Chunks(cut((X, y)), buffer_rows=64), **options)[0]) == Learned(
        fitted(X, y, **options)[0])


def test_bits_of_sparse_blocks():
    sparse = pytest.importorskip("scipy.sparse")
    X, y, _ = table()
    X[np.abs(X) < 1] = 0
    blocks = [(sparse.csr_matrix(a), b) for a, b in cut((X, y)) if len(b)]
    expected = Learned(fitted(sparse.csr_matrix(X), y)[0])
    assert Learned(fitted(Chunks(blocks, buffer_rows=64))[0]) == expected
    assert fitted(Chunks(blocks, buffer_rows=64), shuffle=True)[1].loss[-1] < 1.2


def test_a_block_is_a_batch():
    X, y, _ = table()
    blocks = cut((X, y), (300, 100, 150, 450))
    model, expected = MLP([D, 16, C], seed=0), MLP([D, 16, C], seed=0)
    optimizer = SGD(0.1, momentum=0.9)
    losses = [expected.train_step(*block, optimizer) for block in blocks]
    history = model.fit(iter(blocks), epochs=1, batch_size=None, optimizer=SGD(0.1, momentum=0.9),
                        log_steps=True, progress=False)
    assert Learned(model) == Learned(expected)
    assert_allclose(history.step_loss[0], losses)


@pytest.mark.parametrize("kind", ["dense", "sparse", "weighted"])
def test_blocks_in_the_same_arrays(kind):
    """The next block is made in the thread that reads, while this one is trained on."""
    X, y, w = table(1600)

    def blocks(fresh):
        x, t, v = np.empty((50, D), X.dtype), np.empty(50, y.dtype), np.empty(50)
        for start in range(0, len(X), 50):
            rows = slice(start, start + 50)
            x[...], t[...], v[...] = X[rows], y[rows], w[rows]
            time.sleep(1e-4)
            block = (x, t) if kind != "weighted" else (x, t, v)
            if kind == "sparse":
                sparse = pytest.importorskip("scipy.sparse")
                block = sparse.csr_matrix((x.reshape(-1), indices, indptr), x.shape), t
            yield tuple(array.copy() for array in block) if fresh else block

    indices, indptr = np.tile(np.arange(D), 50), np.arange(0, 50 * D + 1, D)
    expected = fitted(Chunks(lambda: blocks(True)), epochs=2, batch_size=None, shuffle=False)[0]
    for _ in range(5):
        model = fitted(Chunks(lambda: blocks(False)), epochs=2, batch_size=None, shuffle=False)[0]
        assert Learned(model) == Learned(expected)


def test_evaluation_is_that_of_the_array():
    X, y, w = table(10000)
    model = fitted(X, y, epochs=1)[0]
    metrics = ["accuracy", "r2"]
    for arrays in ((X, y), (X, y, w)):
        expected = model.evaluate(X, y, sample_weight=w if len(arrays) > 2 else None, metrics=metrics)
        assert model.evaluate(Chunks(cut(arrays, (5000, 3, 4997))), metrics=metrics) == expected
        assert model.evaluate(iter(cut(arrays, (9999, 1))), metrics=metrics) == expected


def test_class_weights_count_in_metrics_and_restarts_as_for_the_array():
    """Samples of a class of weight 0 do not count, and restarts are compared by the loss that was trained."""
    X, y, _ = table(200)
    source = Chunks(cut((X, y), (90, 110)))
    for options in (dict(metrics=["accuracy", "f1"]), dict(restarts=4)):
        expected, history = fitted(X, y, class_weight={1: 0.0}, **options)
        model, found = fitted(source, class_weight={1: 0.0}, **options)
        assert Learned(model) == Learned(expected)
        assert {**found, "samples_per_second": None} == {**history, "samples_per_second": None}
    assert [restart.loss for restart in found.restarts] == [restart.loss for restart in history.restarts]


@pytest.mark.parametrize("loss, outputs", [
    ("cross_entropy", 3), ("kl_divergence", 3), ("multiclass_hinge", 3), ("hinge", 1), ("squared_hinge", 1),
    ("bce", 1), ("poisson", 1)])
def test_evaluation_takes_a_block_that_weighs_nothing(loss, outputs):
    """Whatever the targets of the loss may be."""
    X, labels, w = table(30)
    y = {"cross_entropy": np.eye(3)[labels], "kl_divergence": np.eye(3)[labels], "multiclass_hinge": labels,
         "hinge": 2 * (labels > 0) - 1, "squared_hinge": 2 * (labels > 0) - 1}.get(loss, labels > 0)
    model = MLP([D, outputs], loss=loss, seed=0)
    for rows in (slice(10, 20), slice(0, 10)):          # the first block, too, says what targets are like
        some, unknown = w.copy(), y.astype(int)
        some[rows], unknown[rows] = 0, -7
        expected = model.evaluate(X, y, sample_weight=some)
        found = model.evaluate(Chunks(cut((X, unknown, some), (10, 10, 10))))
        assert found == pytest.approx(expected)


def test_predictions_are_those_of_the_array(tmp_path):
    """In the order of the blocks, of every kind of source; targets are not looked at."""
    X, y, w = table(10000)
    model = fitted(X, y, epochs=1)[0]
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y - 100)
    blocks = cut((X, y), (5000, 3, 4997))
    weighted = cut((X, y, w), (5000, 3, 4997))
    for make in (lambda: Chunks(blocks), lambda: iter(blocks), lambda: Chunks(lambda: iter(blocks)),
                 lambda: Chunks(weighted), lambda: Files(tmp_path / "X.npy", tmp_path / "y.npy"),
                 lambda: Files(tmp_path / "X.npy", tmp_path / "y.npy", on_error="skip")):
        for call in ("forward", "predict", "predict_proba"):
            expected = getattr(model, call)(X)
            found = getattr(model, call)(make())
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
    assert model.forward(Chunks([])).shape == (0, C) and model.predict(iter([])).shape == (0,)
    regressor = MLP([D, 1], seed=0)
    np.testing.assert_array_equal(regressor.predict(Chunks(blocks)), regressor.predict(X))


def test_predictions_name_a_block_that_is_wrong():
    X, y, _ = table(100)
    blocks = [(X, y), (X[:, :-1], y)]
    model = MLP([D, 16, C], seed=0)
    for call in (model.predict, model.evaluate):
        with pytest.raises(BlockError, match=rf"^blocks, block 1: X: expected shape \(rows, {D}\)"):
            call(Chunks(blocks))
    with pytest.raises(TypeError, match="^out: expected None with a source, .*, got ndarray"):
        model.forward(Chunks(blocks), out=np.empty((200, C), np.float32))
    with pytest.warns(RuntimeWarning, match="^skipped blocks, block 1") as seen:
        assert len(model.predict(Chunks(blocks, on_error="skip"))) == 100
    assert seen[0].filename == __file__


# Batches in the place of arrays -------------------------------------------------------------------------

class Loader:
    """As PyTorch has it: gives batches, again and again."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


class Dataset(Loader):
    """As TensorFlow has it."""

    def as_numpy_iterator(self):
        return iter(self.batches)


CALLS = {
    "fit": lambda model, X: model.fit(X, epochs=1, progress=False),
    "fit, with y": lambda model, X: model.fit(X, np.zeros(100, int), epochs=1, progress=False),
    "evaluate": lambda model, X: model.evaluate(X),
    "predict": lambda model, X: model.predict(X),
    "hidden": lambda model, X: model.hidden(X),
    "train_step": lambda model, X: model.train_step(X, np.zeros(100, int), SGD(0.1)),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("make, got, line", [
    (Loader, "a Loader; if it is one that gives batches (X, y), ", "fastmlp.data.Chunks(X)"),
    (Dataset, "a Dataset; if", "fastmlp.data.Chunks(X.as_numpy_iterator)"),
    (list, "a list; if it is one of batches (X, y), ", "fastmlp.data.Chunks(X)"),
    (lambda batches: lambda: iter(batches), "a function; if", "fastmlp.data.Chunks(X)"),
], ids=["loader", "tensorflow", "list", "function"])
def test_batches_are_answered_with_a_line_that_works(make, got, line, call):
    X, y, _ = table(400)
    batches = cut((X, y), (100, 100, 100, 100))
    model = MLP([D, 16, C], seed=0)
    before = Learned(model)
    with pytest.raises(TypeError) as raised:
        CALLS[call](model, make(batches))
    text = str(raised.value)
    assert text.startswith(f"X: expected an array or a table, got {got}") and text.endswith(f"take {line}")
    assert Learned(model) == before
    source = eval(line, {"fastmlp": fastmlp, "X": make(batches)})
    np.testing.assert_array_equal(model.predict(source), model.predict(X))
    if call == "fit":
        assert len(CALLS[call](model, source).loss) == 1


def test_batches_for_validation_are_answered():
    X, y, _ = table(400)
    batches = cut((X, y), (100, 100, 100, 100))
    for given in (Loader(batches), batches, batches[:2], lambda: iter(batches)):
        with pytest.raises(TypeError, match=r"^validation_data: expected .*Chunks\(validation_data\)$"):
            fitted(X, y, validation_data=given)


def test_a_pair_and_a_source_where_none_is_taken():
    X, y, _ = table(100)
    model = MLP([D, 16, C], seed=0)
    with pytest.raises(TypeError, match=r"^X: expected an array or a table, got \(X, y\) in one; write them"):
        model.fit((X, y), progress=False)
    with pytest.raises(TypeError, match="^X: .*, got Chunks, a source, which fit, evaluate and predict take"):
        model.hidden(Chunks([(X, y)]))
    with pytest.raises(TypeError, match="^X: expected numbers, got dtype object$"):
        model.predict({"a": 1})
    for path in ("table.csv", Path("table.csv"), b"table.csv"):
        with pytest.raises(TypeError, match=r"got the path 'table.csv'; .* fastmlp.data.Files\(X, targ"):
            model.fit(path, progress=False)
    with pytest.raises(TypeError, match="^X: expected an array or a table, got None$"):
        model.fit(None, y, progress=False)


def test_loaders_of_torch():
    torch = pytest.importorskip("torch")
    X, y, _ = table(400)
    both = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(y))
    model = MLP([D, 16, C], seed=0)
    for given in (both, torch.utils.data.DataLoader(both, batch_size=64)):
        with pytest.raises(TypeError) as raised:
            model.fit(given, progress=False)
        line = str(raised.value).rpartition("take ")[2]
        source = eval(line, {"fastmlp": fastmlp, "torch": torch, "X": given})
        np.testing.assert_array_equal(model.predict(source), model.predict(X))


def test_validation_and_early_stopping():
    X, y, _ = table()
    results = []
    for valid in ((X[800:], y[800:]), Chunks(cut((X[800:], y[800:]), (150, 50)))):
        stopping = EarlyStopping(patience=2, restore_best=True)
        for training in ((X[:800], y[:800]), (Chunks(cut((X[:800], y[:800]), (300, 500))), None)):
            model, history = fitted(*training, epochs=30, validation_data=valid, callbacks=[stopping],
                                    optimizer=Adam(0.01))
            results.append((Learned(model), history.val_loss, history.val_accuracy, stopping.best_epoch))
    assert len(results[0][1]) < 30
    assert all(result == results[0] for result in results)


class Steps:
    """A callback after steps."""

    def __init__(self, last=10**9):
        self.seen, self.last = [], last

    def on_step_end(self, model, step, logs):
        self.seen.append((step, logs["loss"]))
        return step >= self.last


@pytest.mark.parametrize("last", [10**9, 40])
def test_callbacks_after_steps(last):
    X, y, _ = table()
    calls = Steps(last), Steps(last)
    expected = fitted(X, y, callbacks=[calls[0]])[0]
    model = fitted(Chunks(cut((X, y)), buffer_rows=64), callbacks=[calls[1]])[0]
    assert calls[0].seen == calls[1].seen and len(calls[0].seen) == min(last, 96)
    assert Learned(model) == Learned(expected)


def test_restarts():
    X, y, _ = table()
    losses = [[restart.loss for restart in fitted(*data, epochs=1, restarts=3)[1].restarts]
              for data in ((X, y), (Chunks(cut((X, y))), None))]
    assert losses[0] == losses[1] and len(set(losses[0])) == 3


def test_lines_of_progress_where_nobody_knows_how_much_there_is(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LONG_SECONDS", 0.0)
    model = MLP([D, 16, C], seed=0)
    model.fit(iter(cut(table()[:2])), epochs=1, batch_size=50, progress="log")
    first, *_, last = capsys.readouterr().err.splitlines()
    assert "epoch 1/1 1k samples" in first and " left" not in first and "0:00:00 left" in last
    model.fit(iter(cut(table()[:2])), epochs=1, batch_size=50, progress="bar")
    assert "1/1: 1.00k samples" in capsys.readouterr().err


def test_a_generator_goes_on_with_the_state_of_the_optimizer():
    """`fit` with epochs=1, again and again: what others call partial_fit."""
    X, y, _ = table()
    expected = fitted(X, y, epochs=1, batch_size=100, optimizer=Adam(0.01))[0]
    model, optimizer = MLP([D, 16, C], seed=0), Adam(0.01)
    for start in range(0, N, 500):
        batches = ((X[i:i + 50], y[i:i + 50]) for i in range(start, start + 500, 50))
        model.fit(batches, epochs=1, batch_size=100, optimizer=optimizer, shuffle=False, progress=False)
    assert Learned(model) == Learned(expected)


# Files -------------------------------------------------------------------------------------------------

def write(folder, kind, X, y, w, names=("a", "b")):
    """Two files of a kind, and how `Files` is to be called for them."""
    half = len(X) // 2
    for name, part in zip(names, (slice(None, half), slice(half, None))):
        path = folder / name
        if kind in ("npy", "npy by columns"):
            order = "F" if kind == "npy by columns" else "C"
            for array, end in ((X, "X"), (y, "y"), (w, "w")):
                np.save(f"{path}-{end}.npy", np.asarray(array[part], order=order))
        elif kind == "table":
            np.save(f"{path}.npy", np.column_stack([y, X, w])[part])
        elif kind in ("npz", "npz packed"):
            save = np.savez if kind == "npz" else np.savez_compressed
            save(f"{path}.npz", X=X[part], y=y[part], w=w[part])
        else:
            lines = "".join(",".join(map(repr, row)) + "\n"
                            for row in np.column_stack([X, y, w])[part].tolist())
            if "header" in kind:
                lines = ",".join([*"pqrstu", "label", "weight"]) + "\n" + lines
            raw = gzip.compress(lines.encode()) if "gz" in kind else lines.encode()
            (folder / f"{name}.csv{'.gz' if 'gz' in kind else ''}").write_bytes(raw)
    return {
        "npy": ("*-X.npy", dict(target=f"{folder}/*-y.npy", weight=f"{folder}/*-w.npy")),
        "npy by columns": ("*-X.npy", dict(target=f"{folder}/*-y.npy", weight=f"{folder}/*-w.npy")),
        "table": ("*.npy", dict(target=0, weight=-1)),
        "npz": ("*.npz", dict(weight="w")),
        "npz packed": ("*.npz", dict(weight="w")),
        "csv": ("*.csv", dict(target=D, weight=D + 1)),
        "csv header": ("*.csv", dict(target="label", weight="weight", inputs=[*"pqrst", 5])),
        "csv gz header": ("*.csv.gz", dict(target="label", weight="weight")),
    }[kind]


KINDS = ["npy", "npy by columns", "table", "npz", "npz packed", "csv", "csv header", "csv gz header"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block_size", [40, 1000, 2**20])
def test_files_train_to_the_bits_of_the_array(kind, block_size, tmp_path):
    X, y, w = table(N if block_size > 40 else 200, dtype="float64")
    pattern, options = write(tmp_path, kind, X, y, w)
    source = Files(tmp_path / pattern, block_size=block_size, buffer_rows=100, **options)
    assert len(source.paths) == 2
    expected = Learned(fitted(X, y, weight=w)[0])
    assert Learned(fitted(source)[0]) == expected
    blocks = list(source)
    for i, array in enumerate((X, y, w)):
        assert_array_equal(np.concatenate([block[i] for block in blocks]), array)
    assert source.rows == (None if "csv" in kind else len(X))
    copy = pickle.loads(pickle.dumps(source))
    assert fitted(copy, shuffle=True)[1].loss[-1] < 1.2


@pytest.mark.parametrize("text, options, X, y", [
    (b"1,2,0\n3,4,1\n", {}, [[1, 2], [3, 4]], [0, 1]),
    (b"1,2,0\r\n3,4,1", {}, [[1, 2], [3, 4]], [0, 1]),
    (b"\xef\xbb\xbfa,b,c\n\n1,2,0\n\n3,4,1\n\n", {}, [[1, 2], [3, 4]], [0, 1]),
    (b"\xef\xbb\xbf1,2,0\n", {}, [[1, 2]], [0]),
    (b'"a\nb","c",d\n"1",-2e3, 0 \n', {}, [[1, -2000]], [0]),
    (b"0_0,0_1,0_2\n1,2,0\n3,4,1\n", {}, [[1, 2], [3, 4]], [0, 1]),
    (b"1;2;0\n3;nan;1\n", {"delimiter": ";"}, [[1, 2], [3, np.nan]], [0, 1]),
    (b"1,2,0\n3,4,1\n", {"header": True}, [[3, 4]], [1]),
    (b"a,b,c\n1,2,0\n3,4,1\n", {"target": ["b", "a"], "inputs": ["c"]}, [[0], [1]], [[2, 1], [4, 3]]),
])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("block_size", [1, 7, 1000])
def test_csv(text, options, X, y, packed, block_size, tmp_path):
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(text) if packed else text)
    blocks = list(Files(path, **{"target": 2, "block_size": block_size, **options}))
    assert_array_equal(np.concatenate([block[0] for block in blocks]), X)
    assert_array_equal(np.concatenate([block[1] for block in blocks]), y)


@pytest.mark.parametrize("line, problem", [
    ("3,x,1", "column 'b': expected a number, got 'x'"),
    ("3,,1", "column 'b': expected a number, got ''"),
    ("3,1_0,1", "column 'b': expected a number, got '1_0'"),
    ("3,\u0664,1", "column 'b': expected a number, got '\u0664'"),
    ("3,4", "expected 3 columns, got 2"),
])
@pytest.mark.parametrize("packed", [False, True])
def test_csv_names_what_is_no_number(line, problem, packed, tmp_path):
    """The line, counted from 1 with the header, though blocks are a few bytes each."""
    text = "a,b,c\n" + "1,2,0\n" * 50 + line + "\n" + "1,2,0\n" * 20
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    with pytest.raises(BlockError, match=rf"^{path.name}, block \d+: line 52.*{problem}"):
        list(Files(path, "c", block_size=40))
    source = Files(path, "c", block_size=40, on_error="skip")
    with pytest.warns(RuntimeWarning, match=problem):
        rows = sum(len(X) for X, _ in source)
    assert 71 - 10 < rows < 71 and len(source.skipped) == 1


@pytest.mark.parametrize("text", [
    b"a,b\r1,2\r3,4\r", b"1,2\r3,4", b"a,b\r1,2\r\n3,4\r\n", b"a,b\r\r\n1,2\r\r\n"])
def test_csv_of_carriage_returns_alone(text, tmp_path):
    """No row is lost without a word."""
    (tmp_path / "t.csv").write_bytes(text)
    with pytest.raises(BlockError, match=r"^t.csv: expected lines that end in \\n or \\r\\n, got \\r alone"):
        list(Files(tmp_path / "t.csv", 1))


# The order ---------------------------------------------------------------------------------------------

def numbered(rows, sizes=None, **options):
    """Rows that hold their own numbers."""
    X = np.arange(rows, dtype=float)[:, None]
    sizes = sizes or (10,) * (rows // 10)
    return Chunks(cut((X, np.zeros(rows, int)), sizes), rows=list(sizes), **options)


def order_of(source, seed=0, epochs=1, batch_size=8, step=0):
    """The numbers in the order in which an epoch meets them; from a step on, of the last one."""
    feed = data._feed.Feed(source, MLP([1, 2]), batch_size, shuffle=True)
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        feed.draw(rng)
    found = []
    with feed.pieces(step) as pieces:
        for samples, begin, end in pieces:
            for here in range(max(begin, step), end):
                batch = samples.x[samples.batch(here - begin)][:, 0]
                assert len(batch) == batch_size or len(found) + len(batch) + step * batch_size == source.rows
                found.extend(batch.astype(int).tolist())
    return found


def test_every_row_once_in_a_new_order():
    orders = [order_of(numbered(1000, buffer_rows=200), epochs=epochs) for epochs in (1, 2, 3)]
    for order in orders:
        assert sorted(order) == list(range(1000))
        assert abs(np.corrcoef(order, range(1000))[0, 1]) < 0.5
    assert orders[0] != orders[1] != orders[2]


def test_the_order_is_that_of_the_seed():
    """The same on any machine: these are the first rows of an epoch, written down."""
    source = numbered(100, buffer_rows=40)
    assert order_of(source, seed=1) == order_of(numbered(100, buffer_rows=40), seed=1)
    assert order_of(source, seed=1) != order_of(source, seed=2)
    seed = int(np.random.default_rng(1).integers(2**63))
    parts = np.random.default_rng([seed, 0]).permutation(10)
    rows = np.concatenate([np.arange(10 * i, 10 * i + 10) for i in parts])
    expected = np.concatenate([rows[start:start + 40][np.random.default_rng([seed, 1, k]).permutation(
        min(40, 100 - start))] for k, start in enumerate(range(0, 100, 40))])
    assert order_of(source, seed=1) == expected.tolist()


def test_how_far_a_row_travels():
    """A block anywhere; its rows no further from each other than two buffers."""
    orders = np.argsort([order_of(numbered(1000, buffer_rows=200), seed) for seed in range(40)], axis=1)
    blocks = orders.reshape(40, 100, 10)
    spread = blocks.max(axis=2) - blocks.min(axis=2)
    assert 100 < np.median(spread) and spread.max() < 400
    starts = blocks.mean(axis=2)
    assert abs(starts.mean() - 500) < 20 and abs(starts.std() - 1000 / np.sqrt(12)) < 20


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("sizes", [(10,) * 25, (1, 99, 7, 43, 100), (250,)])
def test_an_epoch_from_any_step_on(known, on_error, sizes):
    """The same rest of the same order; what comes before is not read where that can be helped."""
    read = []

    def block(i):
        read.append(i)
        start = sum(sizes[:i])
        return np.arange(start, start + sizes[i])[:, None], np.zeros(sizes[i], int)

    source = Chunks(block, len(sizes), rows=sizes if known else None, buffer_rows=48, on_error=on_error)
    whole = order_of(numbered(250, sizes, buffer_rows=48), epochs=2)
    for step in (0, 1, 5, 6, 7, 12, 20, 31):
        read.clear()
        feed = data._feed.Feed(source, MLP([1, 2]), 8, shuffle=True)
        rng = np.random.default_rng(0)
        feed.draw(rng)
        feed.draw(rng)
        found = []
        with feed.pieces(step) as pieces:
            for samples, begin, end in pieces:
                for here in range(max(begin, step), end):
                    found.extend(samples.x[samples.batch(here - begin)][:, 0].tolist())
        assert found == whole[step * 8:]
        if known and on_error == "raise" and len(sizes) == 25:
            assert len(read) == 1 + 25 - step * 8 // 48 * 48 // 10      # one to see what blocks look like


class Killed(Exception):
    pass


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("log_steps", [True, False])
def test_a_run_that_is_killed_goes_on_to_the_same_bits(known, log_steps, tmp_path):
    blocks = cut(table()[:2], (70,) * 14 + (20,))
    rows = [len(y) for _, y in blocks]

    class Kill:
        def __init__(self, at):
            self.at = at

        def on_step_end(self, model, step, logs):
            if step >= self.at:
                raise Killed

    def run(callbacks=(), **options):
        source = Chunks(blocks, rows=rows if known else None, buffer_rows=128)
        model, history = fitted(source, shuffle=True, epochs=4, model={"dropout": 0.2}, optimizer=Adam(0.01),
                                log_steps=log_steps, callbacks=callbacks, **options)
        return Learned(model), history.loss, [step.tolist() for step in history.get("step_loss", [])]

    expected = run()
    for at in (2, 5, 31, 33, 70, 127):
        options = dict(checkpoint=tmp_path / f"{at}.safetensors", checkpoint_every=3)
        with pytest.raises(Killed):
            run([Kill(at)], **options)
        assert run(resume=True, **options) == expected


@pytest.mark.parametrize("at", [3, 10, 11, 14, 25])
def test_an_iterator_is_read_up_to_where_a_run_goes_on(at, tmp_path):
    """By its program, started again, that makes it anew: also for metrics and validation."""
    X, y, _ = table(4000)

    class Kill:
        def on_step_end(self, model, step, logs):
            if step >= at:
                raise Killed

    def source(n):
        return Chunks(iter(cut((X, y), (50,) * 80)), n)

    def run(callbacks=(), **options):
        model, history = fitted(source(10), epochs=3, batch_size=50, validation_data=source(3),
                                metrics=["accuracy"], optimizer=Adam(0.01), callbacks=callbacks, **options)
        return Learned(model), history.loss, history.accuracy, history.val_loss

    options = dict(checkpoint=tmp_path / "run.safetensors", checkpoint_every=1)
    with pytest.raises(Killed):
        run([Kill()], **options)
    assert run(resume=True, **options) == run()
    assert run(resume=True, **options) == run()             # which is over, and reads nothing


def test_an_iterator_that_cannot_be_moved_to_a_run(tmp_path):
    X, y, _ = table(1000)
    options = dict(batch_size=50, optimizer=Adam(0.01), checkpoint=tmp_path / "run.safetensors")
    blocks = cut((X, y), (50,) * 20)
    used = Chunks(iter(blocks), 5)
    before = fitted(used, epochs=2, **options)[0]
    assert used.position == 10 and Chunks(blocks).position is None
    fitted(Chunks(iter(blocks), 5), epochs=3, resume=True, **options)
    used.move_to(17)
    for source, text in ((used, "at most 15 blocks, .* got one that has given 17; make it anew"),
                         (Chunks(iter(blocks[:12]), 5), "more than 15 blocks, .*, got 12")):
        with pytest.raises(ValueError, match=f"^X: expected an iterator .*{text}"):
            fitted(source, epochs=4, resume=True, **options)
    assert Learned(fastmlp.load(options["checkpoint"])) != Learned(before)


def test_shuffled_training_learns_as_well():
    X, y, _ = table(5000)
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0)
    order = np.argsort(y, kind="stable")            # the worst case: class by class
    blocks = cut((X[order], y[order]), (50,) * 100)
    array = fitted(X[order], y[order], shuffle=True, epochs=5)[0].evaluate(X, y)["accuracy"]
    source = fitted(Chunks(blocks, buffer_rows=1000), shuffle=True, epochs=5)[0].evaluate(X, y)["accuracy"]
    assert source > array - 0.02 > 0.9


def test_the_generator_of_the_model_moves_by_one_number():
    """Order is a function of its state at the start of the epoch alone."""
    X, y, _ = table()
    model = fitted(Chunks(cut((X, y))), shuffle=True, epochs=3)[0]
    other = MLP([D, 16, C], seed=0)
    for _ in range(3):
        other.core.rng.integers(2**63)
    assert model.core.rng.bit_generator.state == other.core.rng.bit_generator.state


# What is broken ----------------------------------------------------------------------------------------

def broken(kind):
    """Blocks of which the third is broken, and what must be said of it."""
    X, y, _ = table()
    blocks = [(X[i:i + 100], y[i:i + 100]) for i in range(0, N, 100)]
    Xb, yb = blocks[2]
    wrong, text = {
        "shape": ((Xb[:, :5], yb), r"X: expected shape \(rows, 6\) of float32, as in blocks, block 0, "
                                   r"got shape \(rows, 5\) of float32"),
        "dtype": ((Xb.astype(float), yb), "X: expected .* of float32, as in .*, got .* of float64"),
        "rows": ((Xb, yb[:7]), "y: expected 100 rows, as many as X, got 7"),
        "label": ((Xb, yb + 1), "y: expected class indices from 0 to 2, got 3 in row"),
        "weights": ((Xb, yb, np.ones(100)), r"weights: expected none, as in .*, got shape \(rows,\)"),
        "none": (None, r"expected \(X, y\) or \(X, y, weight\), got NoneType"),
        "one": ((Xb,), r"expected \(X, y\) or \(X, y, weight\), got 1 of them"),
        "words": ((Xb.astype(str), yb), "X: expected shape .* of float32, as in .* got shape .* of <U"),
    }[kind]
    blocks[2] = wrong
    return blocks, rf"^(skipped )?blocks, block 2: {text}"


@pytest.mark.parametrize("kind", ["shape", "dtype", "rows", "label", "weights", "none", "one", "words"])
def test_a_broken_block_is_named(kind):
    blocks, text = broken(kind)
    with pytest.raises(BlockError, match=text):
        fitted(Chunks(blocks))
    source = Chunks(blocks, on_error="skip")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, _ = fitted(source, epochs=2)
    assert [(w.category, w.filename) for w in caught] == [(RuntimeWarning, __file__)] * 2
    with pytest.warns(RuntimeWarning, match=text):
        warnings.warn_explicit(caught[0].message, RuntimeWarning, "x", 1)
    assert len(source.skipped) == 2
    del blocks[2]
    assert Learned(model) == Learned(fitted(Chunks(blocks), epochs=2)[0])       # nothing else is lost


def test_the_first_block_may_be_the_broken_one():
    X, y, _ = table()
    blocks = cut((X, y), (100,) * 10)
    blocks[0] = None
    with pytest.raises(BlockError, match="block 0"):
        fitted(Chunks(blocks))
    with pytest.warns(RuntimeWarning, match="block 0"):
        model = fitted(Chunks(blocks, on_error="skip"))[0]
    assert Learned(model) == Learned(fitted(Chunks(blocks[1:]))[0])


def test_what_a_function_raises_is_the_cause():
    def block(i):
        if i == 3:
            raise KeyError("gone")
        return np.ones((10, D), np.float32), np.zeros(10, int)

    with pytest.raises(BlockError, match="^blocks, block 3: KeyError: 'gone'") as caught:
        fitted(Chunks(block, 5))
    assert isinstance(caught.value.__cause__, KeyError)
    names = [frame.name for frame in __import__("traceback").extract_tb(caught.value.__cause__.__traceback__)]
    assert names[-1] == "block"


def test_what_an_iterator_raises_ends_it():
    def blocks():
        yield from cut(table()[:2], (500, 500))
        raise OSError("the line is dead")

    text = "^(skipped )?blocks, block 2 and what follows it: OSError: the line is dead"
    with pytest.raises(BlockError, match=text):
        fitted(blocks(), epochs=1)
    with pytest.warns(RuntimeWarning, match=text):
        model = fitted(Chunks(blocks(), on_error="skip"), epochs=1)[0]
    assert Learned(model) == Learned(fitted(*table()[:2], epochs=1)[0])


def test_a_transform_that_raises_is_a_bug():
    """It is not skipped."""
    source = Chunks(cut(table()[:2]), transform=lambda X, y: X / y, on_error="skip")
    with pytest.raises(BlockError, match="^blocks, block 0: transform: ValueError|could not be broadcast"):
        fitted(source)


@pytest.mark.parametrize("kind, damage, text", [
    ("npy", lambda path: path.write_bytes(path.read_bytes()[:-5]), "it is not complete"),
    ("npy", lambda path: path.write_bytes(b"\x93NUMPX" + path.read_bytes()[6:]), "a-X.npy.*magic"),
    ("npy", lambda path: path.unlink(), "FileNotFoundError"),
    ("npy", lambda path: np.save(path, np.zeros((3, D))),
     "expected 3 rows in a-y.npy, as many as in a-X.npy, got 500"),
    ("npy", lambda path: np.save(path, np.array([{}] * 500)), "Python objects"),
    ("npz", lambda path: path.write_bytes(path.read_bytes()[:-500]), "BadZipFile"),
    ("npz", lambda path: np.savez(path, X=np.zeros((3, D)), z=1), "expected an array 'y', got 'X', 'z'"),
    ("npz packed", lambda path: path.write_bytes(
        path.read_bytes()[:70] + b"\xff" * 99 + path.read_bytes()[169:]), "a.npz: error: Error -3"),
    ("csv gz header", lambda path: path.write_bytes(path.read_bytes()[:-2000]), "a.csv.gz.*what follows"),
])
def test_a_broken_file_is_named(kind, damage, text, tmp_path):
    X, y, w = table(dtype="float64")
    pattern, options = write(tmp_path, kind, X, y, w)
    path = sorted(tmp_path.glob(pattern))[0]
    options = {"block_size": 5000, "weight": None, **{k: v for k, v in options.items() if k == "target"}}
    if "csv" in kind:
        options["inputs"] = [*range(D)]
    paths = sorted(tmp_path.glob(pattern))
    damage(path)
    with pytest.raises((BlockError, OSError), match=text if path.exists() else "No such file"):
        fitted(Files(paths, **options))
    source = Files(paths, on_error="skip", **options)
    with pytest.warns(RuntimeWarning, match=text):
        rows = [len(block[0]) for block in source]
    assert N // 2 <= sum(rows) < N                  # the other file is there
    with pytest.warns(RuntimeWarning, match=text):
        model = fitted(source)[0]
    assert np.isfinite(model.weights[0]).all()


def test_nothing_that_can_be_used():
    with pytest.raises(ValueError, match="^Chunks: expected at least one row, got a source without any"):
        fitted(Chunks([]))
    with pytest.raises(ValueError, match="without any"), pytest.warns(RuntimeWarning):
        fitted(Chunks([None, None], on_error="skip"))
    empty = iter([])
    with pytest.raises(ValueError, match="without any"):
        fitted(empty, epochs=1)


X1, Y1 = np.zeros((4, D)), np.zeros(4, int)
ONE = [(X1, Y1)]


@pytest.mark.parametrize("error, text, call", [
    (TypeError, "y: expected None with a source", lambda m: m.fit(Chunks(ONE), Y1)),
    (TypeError, "sample_weight: expected None", lambda m: m.fit(Chunks(ONE), sample_weight=[1])),
    (TypeError, "y: expected None with a source", lambda m: m.evaluate(Chunks(ONE), Y1)),
    (TypeError, "y: expected class indices", lambda m: m.fit(X1)),
    (TypeError, "y: expected class indices", lambda m: m.evaluate(X1)),
    (TypeError, "shuffle: expected True or False", lambda m: m.fit(Chunks(ONE), shuffle=lambda epoch: None)),
    (ValueError, "class_weight: expected a dict", lambda m: m.fit(Chunks(ONE), class_weight="balanced")),
    (ValueError, "optimizer: LBFGS needs all samples", lambda m: m.fit(Chunks(ONE), optimizer=LBFGS())),
    (ValueError, "epochs: expected 1, for an iterator", lambda m: m.fit(iter(ONE), epochs=2)),
    (ValueError, "epochs: expected 1", lambda m: m.fit(X1, Y1, epochs=2, validation_data=iter(ONE))),
    (ValueError, r"blocks, block 0: X: expected shape \(rows, 6\)",
     lambda m: m.fit(Chunks([(X1[:, 1:], Y1)]))),
    (ValueError, "block 0: y: expected class indices", lambda m: m.fit(Chunks([(X1, Y1 + 9)]))),
    (TypeError, "block 0: X: expected numbers", lambda m: m.fit(Chunks([(X1.astype(object), Y1)]))),
    (ValueError, r"blocks, block 0: X: expected shape \(rows, 6\)",
     lambda m: m.fit(X1, Y1, validation_data=Chunks([(X1[:, 1:], Y1)]))),
    (MemoryError, "buffer_rows: two buffers of", lambda m: m.fit(Chunks(ONE * 2, buffer_rows=10**12))),
    (TypeError, "buffer_rows: expected an integer", lambda m: Chunks(ONE, buffer_rows=1.5)),
    (ValueError, 'on_error: expected "raise" or "skip"', lambda m: Chunks(ONE, on_error="ignore")),
    (TypeError, "transform: expected a function", lambda m: Chunks(ONE, transform=3)),
    (TypeError, "blocks: expected a sequence, a function or an iterator", lambda m: Chunks(3)),
    (TypeError, "n: expected the number of blocks beside a function of the", lambda m: Chunks(lambda i: i)),
    (TypeError, "got an unexpected keyword argument 'y': write target=", lambda m: Files("a.csv", y="y")),
    (TypeError, "argument 'sep': write delimiter=", lambda m: Files("a.csv", "y", sep=";")),
    (TypeError, "argument 'batches': write blocks=", lambda m: Chunks(batches=ONE)),
    (TypeError, r"'batch_size': it belongs to training: model.fit\(source, batch_size=128\)",
     lambda m: Chunks(ONE, batch_size=3)),
    (TypeError, "'whatever'; it takes blocks, n, rows", lambda m: Chunks(ONE, whatever=3)),
    (ValueError, "n: expected at most 1", lambda m: Chunks(ONE, 2)),
    (ValueError, "rows: expected one number for each of 1 blocks, got 2", lambda m: Chunks(ONE, rows=[1, 2])),
    (ValueError, "rows: expected None where", lambda m: Chunks(iter(ONE), rows=4)),
    (FileNotFoundError, "paths: expected files like 'no-.*.npy', got none", lambda m: Files("no-*.npy", 0)),
    (FileNotFoundError, "no.npy", lambda m: Files("no.npy", 0)),
    (ValueError, "paths: expected files .npy, .*, got 'a.txt'", lambda m: Files("a.txt", 0)),
    (ValueError, "paths: expected files of one kind, got .csv, .npy", lambda m: Files(["a.npy", "a.csv"], 0)),
    (TypeError, "paths: expected a path", lambda m: Files(3, 0)),
    (TypeError, "target: expected the name or number of a column", lambda m: Files("a.csv", on_error="skip")),
    (TypeError, "target: expected the number of a column, or the .npy",
     lambda m: Files("a.npy", on_error="skip")),
    (ValueError, "delimiter: expected one character", lambda m: Files("a.csv", 0, delimiter="::")),
    (ValueError, "block_size: expected an integer from 1", lambda m: Files("a.csv", 0, block_size=0)),
    (ValueError, 'of: expected "X" or "y"', lambda m: Chunks(ONE).statistics("w")),
    (ValueError, "statistics: expected at least one row", lambda m: Chunks([]).statistics()),
    (ValueError, "std: expected finite numbers from 0 up", lambda m: Chunks(ONE).scaled([0.0], [-1.0])),
    (ValueError, "std: expected shape", lambda m: Chunks(ONE).scaled([0.0], [1.0, 2.0])),
    (BlockError, r"scaled: expected X of shape \(rows, 1\)",
     lambda m: list(Chunks(ONE).scaled([0.0], [1.0]))),
])
def test_errors_leave_the_model_as_it_was(error, text, call):
    model = MLP([D, 16, C], seed=0)
    with pytest.raises(error, match=text):
        call(model)
    fresh = MLP([D, 16, C], seed=0)
    assert Learned(model) == Learned(fresh)
    assert model.core.rng.bit_generator.state == fresh.core.rng.bit_generator.state


def test_columns_that_are_not_there(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,b\n1,2,0\n")
    for target, text in (("c", "target: expected one of the columns a, b, b, got 'c'"),
                         (3, "target: expected a column from 0 to 2"),
                         ("b", "target: expected a name that occurs once, got 'b'")):
        with pytest.raises(BlockError, match=f"t.csv: {text}"):
            list(Files(tmp_path / "t.csv", target))
    with pytest.raises(BlockError, match="inputs: expected no column that is target or weight, got 'a'"):
        list(Files(tmp_path / "t.csv", "a", inputs=["a"]))
    (tmp_path / "u.csv").write_text("1,2,0\n")
    with pytest.raises(BlockError, match="target: expected the number of a column, for there are no names"):
        list(Files(tmp_path / "u.csv", "c"))


# Columns by name, rows as they were said ---------------------------------------------------------------

def write_columns(path, names, table):
    """A file of a kind that has names."""
    columns = dict(zip(names, np.asarray(table, float).T, strict=True))
    if ".csv" in path.suffixes:
        lines = [",".join(names), *(",".join(map(repr, row)) for row in np.asarray(table, float).tolist())]
        text = "\n".join(lines).encode() + b"\n"
        path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    elif path.suffix == ".parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    else:
        pytest.importorskip("pyarrow.feather").write_feather(
            pytest.importorskip("pyarrow").table(columns), str(path), compression="uncompressed")


TABLE = np.arange(15.0).reshape(5, 3)
NAMED = [".csv", ".csv.gz", ".parquet", ".feather"]


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_an_index_of_pandas_is_no_column(suffix, tmp_path):
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0], "y": [0, 1]}, index=[7, 9])
    table = pyarrow.Table.from_pandas(frame)
    assert table.num_columns == 4
    if suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet").write_table(table, tmp_path / "t.parquet")
    else:
        pytest.importorskip("pyarrow.feather").write_feather(table, tmp_path / "t.feather")
    X, y = next(iter(Files(tmp_path / f"t{suffix}", "y")))
    assert_array_equal(X, [[1, 3], [2, 4]])
    assert_array_equal(y, [0, 1])


@pytest.mark.parametrize("suffix", [".parquet", ".feather"])
def test_columns_of_one_name(suffix, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table([[1.0], [2.0], [0]], names=["a", "a", "y"])
    path = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet").write_table(table, path)
    else:
        with pytest.importorskip("pyarrow.ipc").new_file(path, table.schema) as file:
            file.write_table(table)
    with pytest.raises(ValueError, match=f"^t{suffix}: expected columns of different names, got 'a' twice"):
        next(iter(Files(path, "y")))



@pytest.mark.parametrize("suffix", NAMED)
@pytest.mark.parametrize("options", [dict(target="y"), dict(target=-1), dict(target=["y"]),
                                     dict(target="y", inputs=["b", "a"])])
def test_columns_of_other_files_are_found_by_name(suffix, options, tmp_path):
    one, two = tmp_path / f"1{suffix}", tmp_path / f"2{suffix}"
    write_columns(one, "aby", TABLE)
    write_columns(two, "yab", TABLE[:, [2, 0, 1]])
    (X, y), (X2, y2) = Files([one, two], **options)
    assert_array_equal(X2, X)
    assert_array_equal(y2, y)
    assert_array_equal(X, TABLE[:, [1, 0] if "inputs" in options else [0, 1]])


@pytest.mark.parametrize("suffix", NAMED)
@pytest.mark.parametrize("names, text", [
    ("acy", "expected the columns of 1{0}, got none named 'b' and also 'c'"),
    ("abz", "got none named 'y' and also 'z'"),
    ("ay", "got none named 'b'$"),
    ("abyz", "got also 'z'"),
])
def test_other_columns_are_named(suffix, names, text, tmp_path):
    for file, header in (("1", "aby"), ("2", names), ("3", "bya")):
        write_columns(tmp_path / f"{file}{suffix}", header, np.arange(5.0 * len(header)).reshape(5, -1))
    text = f"2{suffix}: .*" + text.format(suffix)
    with pytest.raises(BlockError, match=text):
        list(Files(tmp_path / f"*{suffix}", "y"))
    source = Files(tmp_path / f"*{suffix}", "y", on_error="skip")
    with pytest.warns(RuntimeWarning, match=text):
        assert len(list(source)) == 2
    if names == "abyz":                             # one that nobody reads may be there
        assert len(list(Files(tmp_path / f"*{suffix}", "y", inputs=["a", "b"]))) == 3


def test_columns_whose_names_occur_twice(tmp_path):
    write_columns(tmp_path / "1.csv.gz", "aby", TABLE)
    (tmp_path / "1.csv").write_text("a,a,y\n1,2,3\n")
    (tmp_path / "2.csv").write_text("a,a,y\n4,5,6\n")
    assert [block[0].tolist() for block in Files(tmp_path / "*.csv", "y")] == [[[1, 2]], [[4, 5]]]
    (tmp_path / "2.csv").write_text("y,a,a\n6,4,5\n")
    with pytest.raises(BlockError, match="in their order, for the name 'a' occurs twice"):
        list(Files(tmp_path / "*.csv", "y"))


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_columns_of_other_frames_are_found_by_name(library):
    module = pytest.importorskip(library)
    make = module.table if library == "pyarrow" else module.DataFrame

    def frame(names, order=slice(None)):
        return make(dict(zip(names, TABLE[:, order].T)))

    y = np.zeros(5, int)
    seen = []

    def transform(X, y):
        seen.append(X)
        return X, y

    blocks = [(frame("abc"), y), (frame("cab", [2, 0, 1]), y), (TABLE, y)]
    for X, _ in Chunks(blocks, transform=transform):
        assert_array_equal(X, TABLE)
    assert len(seen) == 3
    text = "blocks, block 3: X: expected the columns of blocks, block 0, got none named 'c' and also 'z'"
    wrong = [*blocks, (frame("abz"), y)]
    with pytest.raises(BlockError, match=text):
        list(Chunks(wrong))
    with pytest.warns(RuntimeWarning, match=text):
        assert len(list(Chunks(wrong, on_error="skip"))) == 3
    targets = [(TABLE, frame("abc")), (TABLE, frame("cab", [2, 0, 1]))]
    assert_array_equal(list(Chunks(targets))[1][1], TABLE)


@pytest.mark.parametrize("make", [
    lambda blocks, **options: Chunks(blocks, **options),
    lambda blocks, **options: Chunks(lambda i: blocks[i], len(blocks), **options),
    lambda blocks, **options: Chunks(iter(blocks), len(blocks), **options),
])
def test_rows_that_were_said_and_are_not_there(make):
    blocks = cut(table()[:2], (170, 170, 130, 170))
    text = "blocks, block 2: expected 170 rows, as was said, got 130"
    with pytest.raises(BlockError, match=text):
        fitted(make(blocks, rows=170), epochs=1)
    source = make(blocks, rows=[170] * 4, on_error="skip")
    with pytest.warns(RuntimeWarning, match=text):
        model = fitted(source, epochs=1)[0]
    assert Learned(model) == Learned(fitted(Chunks([*blocks[:2], blocks[3]]), epochs=1)[0])
    fitted(make(blocks, rows=[170, 170, 130, 170]), epochs=1)


def test_a_transform_may_leave_rows_out(tmp_path):
    """A run that is resumed then reads what it has done with."""
    blocks = cut(table()[:2], (100,) * 10)

    def run(**options):
        source = Chunks(blocks, rows=100, buffer_rows=64,
                        transform=lambda X, y: (X[X[:, 0] > 0], y[X[:, 0] > 0]))
        return Learned(fitted(source, epochs=2, shuffle=True, **options)[0])

    class Kill:
        every = 11

        def on_step_end(self, model, step, logs):
            raise Killed

    options = dict(checkpoint=tmp_path / "run.safetensors", checkpoint_every=1)
    with pytest.raises(Killed):
        run(callbacks=[Kill()], **options)
    assert run(resume=True, **options) == run()


def test_blocks_that_are_sparse_and_dense():
    sparse = pytest.importorskip("scipy.sparse")
    blocks = cut(table()[:2], (100,) * 4)
    as_sparse = [(sparse.csr_array(X), y) for X, y in blocks]
    for first, other, text in ((blocks, as_sparse, "dense rows, as in blocks, block 0, got sparse"),
                               (as_sparse, blocks, "sparse rows, as in blocks, block 0, got dense")):
        mixed = [*first[:2], other[2], first[3]]
        with pytest.raises(BlockError, match=f"blocks, block 2: X: expected {text} ones"):
            fitted(Chunks(mixed))
        with pytest.warns(RuntimeWarning, match=text):
            model = fitted(Chunks(mixed, on_error="skip"))[0]
        assert Learned(model) == Learned(fitted(Chunks([*first[:2], first[3]]))[0])


# Statistics --------------------------------------------------------------------------------------------

def test_statistics_are_those_of_the_whole(rng):
    X = rng.standard_normal((10001, 5)) * [1, 1e-6, 1e6, 1, 0] + [0, 1, 1e9, 1e8, 7]
    y = rng.standard_normal((10001, 2))
    source = Chunks(cut((X, y), (1, 0, 4999, 1, 5000)))
    found, targets = source.statistics(), source.statistics("y")
    assert found.rows == targets.rows == 10001
    exact = X.astype(np.longdouble)
    assert_allclose(found.mean, exact.mean(axis=0).astype(float), rtol=1e-14, atol=1e-16)
    assert_allclose(found.std, exact.std(axis=0).astype(float), rtol=1e-9)
    assert_array_equal(found.min, X.min(axis=0))
    assert_array_equal(found.max, X.max(axis=0))
    assert_allclose(targets.mean, y.mean(axis=0), rtol=1e-12)
    assert found.std[4] == 0
    assert all(a.dtype == np.float64 for a in (found.mean, found.std, found.min, found.max))


def test_statistics_do_not_cancel():
    """10^8 + 0 and 1, in turns: sums of squares in float64 alone would give anything."""
    X = 1e8 + np.arange(1000.0)[:, None] % 2
    assert Chunks(cut((X, np.zeros(1000)), (10,) * 100)).statistics().std.tolist() == [0.5]


def test_statistics_of_integers_and_nan():
    X = np.array([[250, 1], [255, 1]], np.uint8)
    found = Chunks([(X, [0, 1])] * 3).statistics()
    assert (found.mean.tolist(), found.std.tolist(), found.max.tolist()) == ([252.5, 1], [2.5, 0], [255, 1])
    found = Chunks([(X, [0, 1]), (X * np.uint8(0), [0, 1])]).statistics()
    assert found.min.tolist() == [0, 0]
    X = np.array([[1.0, np.nan], [3.0, 0.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Chunks([(X, [0, 1]), (X[1:], [0])]).statistics()
    assert np.isnan(found.mean[1]) and np.isnan(found.std[1]) and found.max[0] == 3


def test_targets_are_scaled_by_the_formula(rng):
    X, y, w = table(300)
    for targets in (3e5 + 7e4 * rng.standard_normal(300), 10.0 ** rng.uniform(-3, 3, (300, 2))):
        source = Chunks(cut((X, targets, w), (100, 0, 1, 199)))
        found = source.statistics("y")
        scaled = source.scaled(found.mean, found.std, of="y")
        (x, t, weight), *_ = scaled
        np.testing.assert_array_equal(x, next(iter(source))[0])
        np.testing.assert_array_equal(weight, next(iter(source))[2])
        assert t.dtype == np.float32 and t.shape == (len(x), *targets.shape[1:])
        expected = (targets - targets.mean(axis=0)) / targets.std(axis=0)
        assert_allclose(t, expected[:len(x)], rtol=1e-5, atol=1e-6)
        assert scaled.keeps_rows
    with pytest.raises(ValueError, match="^of: expected"):
        source.scaled([0], [1], of="z")
    with pytest.raises(BlockError, match=r"scaled: expected y of shape \(rows, 3\), got"):
        list(source.scaled(np.zeros(3), np.ones(3), of="y"))


def test_scaled_is_the_formula():
    X, y, w = table(dtype="float64")
    X[:, 2] = 5
    blocks = cut((X * 100 + 7, y, w))
    found = Chunks(blocks).statistics()
    scaled = Chunks(blocks, transform=lambda X, y, w: (2 * X, y, w)).scaled(2 * found.mean, 2 * found.std)
    first = next(iter(scaled))
    assert first[0].dtype == np.float32 and len(first) == 3
    whole = np.concatenate([block[0] for block in scaled])
    std = np.where(found.std > 0, found.std, 1)
    twice = np.where(found.std > 0, 2 * found.std, 1)
    assert_array_equal(whole, ((2 * (X * 100 + 7) - 2 * found.mean) / twice).astype(np.float32))
    assert abs(whole.mean(axis=0)).max() < 1e-6 and abs(whole.std(axis=0)[[0, 1, 3]] - 1).max() < 1e-6
    X = ((X * 100 + 7 - found.mean) / std).astype(np.float32)
    scaled = Chunks(blocks).scaled(found.mean, found.std)
    assert Learned(fitted(scaled)[0]) == Learned(fitted(X, y, weight=w)[0])
    assert next(iter(Chunks(blocks).scaled(found.mean, found.std, "float64")))[0].dtype == np.float64


# The thread that reads ---------------------------------------------------------------------------------

def open_files():
    return sorted(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else []


def reading():
    return [thread for thread in threading.enumerate() if thread.name == "fastmlp reads"]


def test_blocks_are_read_ahead_in_another_thread():
    """While the first buffer trains, the second is filled; the third waits until the first is free."""
    here, seen, second = threading.get_ident(), [], threading.Event()

    def block(i):
        seen.append((threading.get_ident() == here, model.core.engine.global_step))
        if i == 1:
            second.set()
        return np.ones((64, D), np.float32), np.zeros(64, int)

    def rate(step):
        assert second.wait(20)
        return 0.1

    model = MLP([D, 16, C], seed=0)
    model.fit(Chunks(block, 6, buffer_rows=64), epochs=1, batch_size=32, shuffle=False, progress=False,
              optimizer=SGD(rate))
    assert [own for own, _ in seen] == [True] + [False] * 6     # the first look is ours
    assert all(steps >= 2 * (i - 1) for i, (_, steps) in enumerate(seen[1:]))


def test_an_endless_generator_is_left_when_its_epoch_ends():
    X, y, _ = table(100)
    model = MLP([D, 16, C], seed=0)
    given = count()
    blocks = Chunks(((X, y) for _ in given), 5)
    history = model.fit(blocks, epochs=4, batch_size=50, progress=False)
    assert len(history.loss) == 4 and model.core.engine.global_step == 4 * 10
    assert next(given) == 20                        # no block is lost between two epochs


def test_an_iterator_that_ends_too_early():
    X, y, _ = table(100)
    with pytest.raises(BlockError, match="blocks, block 3 and what follows it: expected 5 blocks, got 3"):
        fitted(Chunks(iter([(X, y)] * 8), 5), epochs=2)


@pytest.mark.parametrize("stop", ["callback", "callback raises", "loss raises", "reader raises"])
def test_the_thread_ends_with_fit(stop, tmp_path):
    """However that ends; and files are closed."""
    X, y, w = table(dtype="float64")
    pattern, options = write(tmp_path, "csv gz header", X, y, w)

    class Enough(Exception):
        pass

    def callback(model, epoch, logs):
        assert not reading()                        # nor between epochs
        if stop == "callback raises":
            raise Enough
        return stop == "callback"

    def rate(step):
        if stop == "loss raises" and step == 5:
            raise Enough
        return 0.1

    def transform(*block):
        if stop == "reader raises" and len(done) > 5:
            raise Enough
        done.append(1)
        return block

    done, before = [], open_files()
    source = Files(tmp_path / pattern, block_size=200, buffer_rows=32, transform=transform, **options)
    expected = contextlib.nullcontext() if stop == "callback" else pytest.raises(
        BlockError if stop == "reader raises" else Enough)
    with expected:
        fitted(source, optimizer=SGD(rate), callbacks=[callback])
    assert not reading()
    assert open_files() == before


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows")
def test_ctrl_c_ends_training_and_thread():
    """At 20 moments, wherever they fall: in the engine, waiting for a block, between two epochs."""
    X, y, _ = table(200)

    def blocks():
        for _ in range(200):
            time.sleep(0.0005)
            yield X, y

    class Now(BaseException):
        pass

    def handler(*_):
        raise Now

    before = signal.signal(signal.SIGALRM, handler)
    model = MLP([D, 16, C], seed=0)
    try:
        for delay in np.linspace(0.001, 0.06, 20):
            with contextlib.suppress(Now):
                signal.setitimer(signal.ITIMER_REAL, delay)
                model.fit(Chunks(blocks, buffer_rows=400), epochs=100, batch_size=40, progress=False)
                pytest.fail("it ran to the end")
            gc.collect()
            end = time.monotonic() + 5              # the exception may have come while fit was ending it
            while reading() and time.monotonic() < end:
                time.sleep(0.001)
            assert not reading()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert model.core.engine.global_step > 0 and np.isfinite(model.weights[0]).all()
    fitted(Chunks(cut((X, y), (100, 100))), epochs=1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_trains_and_does_not_wait_for_its_parents_thread():
    X, y, _ = table()
    source = Chunks(cut((X, y)), buffer_rows=64)
    expected = fitted(source)[0].weights[0].tobytes()

    def child(queue):
        queue.put(fitted(source)[0].weights[0].tobytes())

    def callback(model, epoch, logs):
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        process = context.Process(target=child, args=(queue,))
        process.start()
        results.append(queue.get(timeout=30))
        process.join(30)

    results = []
    fitted(source, epochs=1, callbacks=[callback])
    assert results == [expected]

    pid = []

    def forks(step):                                # within an epoch: the child has no thread that reads
        if step == 3:
            pid.append(os.fork())
        return 0.1

    try:
        fitted(source, epochs=1, optimizer=SGD(forks))
    except RuntimeError:
        if pid == [0]:
            os._exit(7)
        raise
    if pid == [0]:
        os._exit(8)
    assert os.waitstatus_to_exitcode(os.waitpid(pid[0], 0)[1]) == 7


def test_two_trainings_of_one_source_at_once():
    source = Chunks(cut(table()[:2]), buffer_rows=64)
    expected = Learned(fitted(source)[0])
    found = []
    threads = [threading.Thread(target=lambda: found.append(Learned(fitted(source)[0]))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * 3


# Memory ------------------------------------------------------------------------------------------------

SCRIPT = """
import json, sys
import numpy as np
from fastmlp import MLP, SGD, data
def status(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key + ":")) * 1024
folder = sys.argv[1]
model = MLP([500, 32, 2], seed=0)
model.fit(np.zeros((64, 500), np.float32), np.zeros(64, int), epochs=1, batch_size=64, progress=False)
X = np.lib.format.open_memmap(folder + "/X.npy", "w+", np.float32, (120_000, 500)); del X
np.save(folder + "/y.npy", np.arange(120_000) % 2)
source = data.Files(folder + "/X.npy", target=folder + "/y.npy", buffer_rows=4096)
before = status("VmHWM")
history = model.fit(source, epochs=1, batch_size=64, optimizer=SGD(0.1), progress=False,
                    validation_data=source)
measured = source.statistics()
print(json.dumps([status("VmHWM") - before, len(history.loss), measured.rows, float(measured.max.max())]))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="/proc is Linux")
def test_a_file_is_never_in_memory(tmp_path):
    """240 MB on disk, two buffers of 8 MB."""
    result = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True,
                            timeout=300)
    assert result.returncode == 0, result.stderr
    grown, epochs, rows, largest = json.loads(result.stdout.splitlines()[-1])
    assert (epochs, rows, largest) == (1, 120_000, 0)
    assert grown < 60 * 2**20


def test_chunks_from_everything():
    X, y, _ = table()
    blocks = cut((X, y), (100,) * 10)

    class Loader:                                   # as PyTorch's: a length, no items
        def __iter__(self):
            return iter(blocks)

        def __len__(self):
            return len(blocks)

    expected = Learned(fitted(X, y)[0])
    for made in (Chunks(blocks), Chunks(tuple(blocks)), Chunks(blocks.__getitem__, 10),
                 Chunks(lambda: iter(blocks)), Chunks(Loader())):
        assert Learned(fitted(made)[0]) == expected
    assert Chunks(blocks, 5, rows=100).rows == 500
    assert Chunks(blocks.__getitem__, 10, rows=[100] * 10).rows == 1000
    assert Chunks(islice(blocks, 5), 5, rows=100).rows == 500
    assert Chunks(blocks).rows is None
    assert len(list(Chunks(blocks, 3))) == 3


# Looking in ------------------------------------------------------------------------------------------------

def test_diagnostics_of_a_source(backend):
    """Those of the same rows as an array."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((120, 4)).astype("f4"), rng.integers(0, 3, 120)
    found = []
    blocks = [(X[i:i + 30], y[i:i + 30]) for i in range(0, 120, 30)]
    for samples in ((X, y), (Chunks(blocks, rows=[30] * 4),)):
        looked, model = fastmlp.Diagnostics(every=3, warn=False), MLP([4, 8, 3], seed=0)
        model.fit(*samples, epochs=2, batch_size=20, optimizer=SGD(0.1), shuffle=False, callbacks=[looked],
                  progress=False)
        found.append(looked)
    assert len(found[0].steps) == 4
    np.testing.assert_array_equal(found[0].steps, found[1].steps)
    for what, values in found[0].values.items():
        np.testing.assert_array_equal(values, found[1].values[what])


def test_diagnostics_of_a_source_of_unknown_length():
    blocks = ((np.zeros((5, 4), "f4"), np.zeros(5, int)) for _ in range(3))
    model = MLP([4, 8, 3], seed=0)
    before = model.weights[0].copy()
    with pytest.raises(ValueError, match="^callbacks: Diagnostics .* does not say how many"):
        model.fit(blocks, epochs=1, callbacks=[fastmlp.Diagnostics()], progress=False)
    np.testing.assert_array_equal(model.weights[0], before)


def test_by_default_a_source_of_unknown_length_trains():
    """The default learning rate needs to know the number of steps; without it, it stays."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 4)).astype("f4")
    y = (X[:, 0] > 0).astype(int)
    model = MLP([4, 16, 2], seed=0)
    before = model.evaluate(X, y)["loss"]
    blocks = ((X[i:i + 20], y[i:i + 20]) for i in range(0, 600, 20))
    history = model.fit(blocks, batch_size=20, progress=False)
    assert len(history.loss) == 1 and model.evaluate(X, y)["loss"] < before - 0.01


@pytest.mark.filterwarnings("ignore:compute_dtype:RuntimeWarning")
def test_sparse_blocks_train_in_bfloat16(rng):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = sparse.random(200, 50, 0.1, "csr", random_state=0), rng.integers(0, 2, 200)
    whole, streamed = (MLP([50, 8, 2], seed=0, compute_dtype="bfloat16") for _ in range(2))
    options = {"epochs": 2, "batch_size": 16, "shuffle": False, "progress": False}
    whole.fit(X, y, optimizer=SGD(0.1), **options)
    streamed.fit(Chunks([(X[:120], y[:120]), (X[120:], y[120:])]), optimizer=SGD(0.1), **options)
    assert Learned(whole) == Learned(streamed)


def test_rows_of_chunks_may_be_an_integer_of_numpy(rng):
    blocks = [(rng.standard_normal((10, 3)), np.zeros(10, int))] * 2
    assert Chunks(blocks, rows=np.int64(10)).rows == 20


@pytest.mark.parametrize("missing", ["paths", "target", "weight"])
def test_a_file_that_is_not_there_is_missed_at_once(missing, tmp_path):
    names = {name: str(tmp_path / f"{name}.npy") for name in ("paths", "target", "weight")}
    for name, path in names.items():
        if name != missing:
            np.save(path, np.zeros(10))
    with pytest.raises(FileNotFoundError, match=f"{missing}.npy"):
        Files(**names)
    Files(**names, on_error="skip")


def test_statistics_can_be_compared_and_kept_in_sets(rng):
    one, two = (Chunks([(rng.standard_normal((10, 3)), np.zeros(10))]).statistics() for _ in range(2))
    assert one == one and one != two and len({one, two}) == 2


def test_weights_of_a_source_that_no_float_adds(rng):
    X, y, weights = rng.standard_normal((20, 3)), np.zeros(20, int), np.full(20, 1e300)
    model = MLP([3, 2], seed=0)
    with pytest.raises(ValueError, match=r"sum below 2\^900, in a block.*, got weights from 1e\+300"):
        model.fit(Chunks([(X, y, weights)]), epochs=1, progress=False)
