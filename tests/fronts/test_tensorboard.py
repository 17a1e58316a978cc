"""TensorBoard: event files, read back by TensorBoard's own reader."""
from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, TensorBoard

X = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
y = np.random.default_rng(1).integers(0, 3, 40)


@pytest.fixture
def reader():
    pytest.importorskip("tensorboardX")
    return pytest.importorskip("tensorboard.backend.event_processing.event_accumulator").EventAccumulator


def fit(board, model=None, **options):
    model = model or MLP([4, 5, 3], seed=0)
    return model.fit(X, y, **{"epochs": 3, "batch_size": 10, "optimizer": SGD(0.1), "callbacks": [board],
                              "progress": False, **options})


def scalars(reader, folder, tag):
    events = reader(str(folder)).Reload().Scalars(tag)
    return [event.step for event in events], [event.value for event in events]


def float32(values):
    return [float(np.float32(value)) for value in values]


def test_numbers_of_every_epoch(tmp_path, reader):
    history = fit(TensorBoard(tmp_path / "run"), validation_data=(X, y))
    for name in ("loss", "samples_per_second"):
        steps, values = scalars(reader, tmp_path / "run" / "train", name)
        assert steps == [4, 8, 12]
        assert values == float32(history[name])
    for name in ("loss", "accuracy"):
        assert scalars(reader, tmp_path / "run" / "validation", name) == (
            [4, 8, 12], float32(history[f"val_{name}"]))
    tags = reader(str(tmp_path / "run" / "train")).Reload().Tags()["scalars"]
    assert sorted(tags) == ["loss", "samples_per_second"]


def test_steps(tmp_path, reader):
    history = fit(TensorBoard(tmp_path, every=2), log_steps=True)
    steps, values = scalars(reader, tmp_path / "train", "step_loss")
    assert steps == [2, 4, 6, 8, 10, 12]
    expected = np.concatenate(history.step_loss).reshape(6, 2).mean(axis=1)
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_histograms(tmp_path, reader):
    model = MLP([4, 5, 3], seed=0)
    fit(TensorBoard(tmp_path, histograms=True), model)
    events = reader(str(tmp_path / "train")).Reload()
    assert sorted(events.Tags()["histograms"]) == ["biases/layer_1", "biases/layer_2", "weights/layer_1",
                                                   "weights/layer_2"]
    last = events.Histograms("weights/layer_1")[-1]
    assert last.step == 12 and last.histogram_value.num == 20
    assert last.histogram_value.min == pytest.approx(model.weights[0].min(), rel=1e-6)
    assert last.histogram_value.sum == pytest.approx(model.weights[0].sum(dtype=float), rel=1e-5)


def test_a_list_with_a_number_for_each_layer(tmp_path, reader):
    board = TensorBoard(tmp_path)
    board(MLP([4, 3], seed=0), 0, {"loss": 1.0, "dead": [0.25, 0.5], "array": np.zeros(3)})
    assert scalars(reader, tmp_path / "train", "dead_2") == ([0], [0.5])


def test_on_the_disk_when_the_epoch_ends(tmp_path, reader):
    seen = []
    fit(None, callbacks=[TensorBoard(tmp_path),
                         lambda *_: seen.append(scalars(reader, tmp_path / "train", "loss")[0])])
    assert seen == [[4], [4, 8], [4, 8, 12]]


def test_a_second_fit_goes_on(tmp_path, reader):
    model, board = MLP([4, 5, 3], seed=0), TensorBoard(tmp_path)
    first, second = fit(board, model), fit(copy.deepcopy(board), model)
    assert scalars(reader, tmp_path / "train", "loss") == (
        [4, 8, 12, 16, 20, 24], float32([*first.loss, *second.loss]))


def test_resuming_hides_what_comes_again(tmp_path, reader):
    file = tmp_path / "m.safetensors"
    fit(None, callbacks=[TensorBoard(tmp_path / "run"),
                         lambda model, epoch, logs: epoch == 0 and model.save(file) or None])
    history = fit(TensorBoard(tmp_path / "run"), fastmlp.load(file), epochs=1)
    steps, values = scalars(reader, tmp_path / "run" / "train", "loss")
    assert steps == [4, 8] and values[1] == float32(history.loss)[0]


def test_pickled_while_it_writes(tmp_path, reader):
    copies = []
    board = TensorBoard(tmp_path, every=5, histograms=True)
    fit(None, callbacks=[board, lambda *_: copies.append(pickle.loads(pickle.dumps(board)))], epochs=1)
    assert repr(copies[0]) == repr(board) == f"TensorBoard({str(tmp_path)!r}, every=5, histograms=True)"


@pytest.mark.parametrize("arguments, error, message", [
    ({"logdir": 3}, TypeError, "^logdir: expected a path, got 3"),
    ({"logdir": "runs", "every": -1}, ValueError, "^every: expected an integer from 0 up"),
    ({"logdir": "runs", "every": "epoch"}, TypeError, "^every: expected an integer"),
])
def test_bad_settings(arguments, error, message):
    pytest.importorskip("tensorboardX")
    with pytest.raises(error, match=message):
        TensorBoard(**arguments)


def test_without_the_package():
    """It is not imported with the library, and missed by name."""
    program = ("import sys, fastmlp\nassert 'tensorboardX' not in sys.modules\n"
               "sys.modules['tensorboardX'] = None\n"
               "try:\n    fastmlp.TensorBoard('runs')\nexcept ImportError as error:\n    print(error)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    expected = 'TensorBoard needs the package tensorboardX: pip install "fastmlp[tensorboard]"\n'
    assert done.stdout == expected, done.stderr
