"""Models in files: there and back to the bit, training that goes on, files that are wrong."""
from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import assert_same
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import MLP, SGD, LeakyReLU, activations, backends, files, losses, state
from fastmlp.normalization import BatchNorm

safetensors = pytest.importorskip("safetensors")
pytest.importorskip("safetensors.numpy")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


def same(model, other, backend="cython"):
    """All that a file holds; to the bit, but for what NumPy's backend has learned."""
    assert repr(model) == repr(other)
    assert model.activations == other.activations
    assert model.loss == other.loss
    for name, array in state.arrays(model).items():
        assert_same(array, state.arrays(other)[name], backend, model.dtype)
        assert array.dtype == state.arrays(other)[name].dtype


class Counter:
    """The smallest optimizer that has state to save."""

    def __init__(self):
        self.state = {}

    def get_state(self, model):
        return self.state

    def set_state(self, model, state):
        assert isinstance(model, MLP)
        self.state = dict(state)


# There and back --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("layers", [(3, 2), (4, 8, 3), (7, 33, 17, 5), (64, 100, 1)])
def test_there_and_back(layers, path, backend, dtype, rng):
    model = MLP(layers, activation="tanh", dtype=dtype, bias_init="he_normal", seed=0)
    model.save(path)
    again = fastmlp.load(path)
    same(model, again)
    assert again.backend is model.backend
    X = rng.standard_normal((9, layers[0]))
    assert_same(model.forward(X), again.forward(X), backend, dtype)
    assert not any(np.shares_memory(a, b) for a in state.arrays(model).values()
                   for b in state.arrays(again).values())


@pytest.mark.parametrize("activation", [*activations.BY_NAME, LeakyReLU(0.1), LeakyReLU(1 / 3)], ids=str)
def test_every_activation(activation, path):
    model = MLP([4, 8, 8, 3], activation=[activation, "tanh"], seed=0)
    model.save(path)
    same(model, fastmlp.load(path))


@pytest.mark.parametrize("loss", losses.BY_NAME)
def test_every_loss(loss, path):
    model = MLP([4, 8, 3], loss=loss, seed=0)
    model.save(path)
    same(model, fastmlp.load(path))


REGULARISED = {"dropout": [0.25, 0.0], "batch_norm": [None, BatchNorm(momentum=0.2)]}


def test_dropout_and_batch_normalisation(path, backend, dtype, rng):
    """Running statistics are part of the model; the masks of the next steps, of its training."""
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    model = MLP([4, 8, 6, 3], dtype=dtype, seed=0, **REGULARISED)
    for _ in range(2):
        model.fit(X, y, epochs=2, batch_size=16, progress=False)
        model.save(path)
        again = fastmlp.load(path)
        same(model, again)
        assert (again.dropout, again.batch_norm) == (model.dropout, model.batch_norm)
        assert {"scales.1", "running_means.1", "running_variances.1"} < state.arrays(again).keys()
        assert_same(model.forward(X), again.forward(X), backend, dtype)
        loss, gradients = model.loss_and_gradients(X, y)
        other_loss, other = again.loss_and_gradients(X, y)
        assert_same([loss, gradients.weights[0]], [other_loss, other.weights[0]], backend, dtype)
    for m in (model, again):
        m.fit(X, y, epochs=2, batch_size=16, progress=False)
    same(model, again, backend)


def test_from_one_backend_to_the_other(path, rng):
    with backends.use_backend("numpy"):
        MLP([4, 8, 3], seed=0).save(path)
    model = fastmlp.load(path)
    assert model.backend is backends.active()
    same(model, MLP([4, 8, 3], seed=0))


def test_every_value_survives(path, dtype):
    model = MLP([2, 4], dtype=dtype)
    info = np.finfo(dtype)
    tiny = info.smallest_subnormal
    model.weights[0][...] = [[np.nan, np.inf, -np.inf, -0.0], [info.tiny, tiny, info.max, 1]]
    model.save(path)
    assert fastmlp.load(path).weights[0].tobytes() == model.weights[0].tobytes()


@pytest.mark.parametrize("kind", [str, Path, lambda p: str(p).encode()])
def test_paths(kind, path):
    MLP([4, 3], seed=0).save(kind(path))
    same(fastmlp.load(kind(path)), MLP([4, 3], seed=0))


def test_training_goes_on(path, backend, dtype, rng):
    """Two epochs, a file, two more: the same as four. The order of the samples is saved, too."""
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    whole, half = (MLP([4, 8, 3], dtype=dtype, seed=0) for _ in range(2))
    for _ in range(2):
        whole.fit(X, y, epochs=2, batch_size=16, optimizer=SGD(0.1), progress=False)
    half.fit(X, y, epochs=2, batch_size=16, optimizer=SGD(0.1), progress=False)
    half.save(path)
    again = fastmlp.load(path)
    again.fit(X, y, epochs=2, batch_size=16, optimizer=SGD(0.1), progress=False)
    same(whole, again, backend)


def test_training_goes_on_with_the_optimizer(path, backend, dtype, rng):
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    for make in (lambda: SGD(0.1, momentum=0.9), lambda: fastmlp.Adam(0.01)):
        whole, half = (MLP([4, 8, 3], dtype=dtype, seed=0) for _ in range(2))
        optimizer, other = make(), make()
        for _ in range(2):
            whole.fit(X, y, epochs=2, batch_size=16, optimizer=optimizer, progress=False)
        half.fit(X, y, epochs=2, batch_size=16, optimizer=other, progress=False)
        half.save(path, other)
        fresh = make()
        again = fastmlp.load(path, fresh)
        again.fit(X, y, epochs=2, batch_size=16, optimizer=fresh, progress=False)
        same(whole, again, backend)


def test_state_of_an_optimizer(path):
    optimizer, other = Counter(), Counter()
    velocity = np.arange(12, dtype=np.float32).reshape(4, 3)[::-1]
    optimizer.state = {"step": np.int64(7), "velocity.weights.0": velocity}
    MLP([4, 3], seed=0).save(path, optimizer)
    same(fastmlp.load(path, other), MLP([4, 3], seed=0))
    assert other.state.keys() == optimizer.state.keys()
    for name, value in optimizer.state.items():
        assert_array_equal(other.state[name], value)
    same(fastmlp.load(path), MLP([4, 3], seed=0))           # its state may be left where it is


# The file --------------------------------------------------------------------------------------------------

def test_format(path):
    """What other programs see."""
    model = MLP([4, 8, 3], activation=LeakyReLU(0.1), dtype="float64", seed=0)
    model.save(path)
    tensors = safetensors.numpy.load_file(path)
    assert {name: (a.shape, a.dtype.name) for name, a in tensors.items()} == {
        "weights.0": ((4, 8), "float64"), "biases.0": ((8,), "float64"),
        "weights.1": ((8, 3), "float64"), "biases.1": ((3,), "float64")}
    assert_array_equal(tensors["weights.1"], model.weights[1])
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    metadata = json.loads(raw[8:8 + size])["__metadata__"]
    assert metadata["format"] == "fastmlp"
    assert json.loads(metadata["layers"]) == [4, 8, 3]
    assert json.loads(metadata["activations"]) == [{"name": "leaky_relu", "alpha": 0.1}]
    assert json.loads(metadata["loss"])["name"] == "cross_entropy"
    assert json.loads(metadata["dtype"]) == "float64"
    assert len(raw) == 8 + size + 8 * (4 * 8 + 8 + 8 * 3 + 3)       # no pads
    assert b"pickle" not in raw


def test_replaces_a_file_whole_or_not_at_all(path, monkeypatch):
    MLP([4, 3], seed=0).save(path)
    MLP([4, 3], seed=1).save(path)
    same(fastmlp.load(path), MLP([4, 3], seed=1))

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        MLP([4, 3], seed=2).save(path)
    same(fastmlp.load(path), MLP([4, 3], seed=1))
    assert [p.name for p in path.parent.iterdir()] == ["net.safetensors"]


def test_import_takes_no_safetensors():
    code = "import sys, fastmlp; sys.exit('safetensors' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Bad input -------------------------------------------------------------------------------------------------

def rewrite(path, change):
    """The file again, with other metadata or tensors."""
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}
    change(metadata, tensors)
    path.write_bytes(safetensors.numpy.save(tensors, metadata))


@pytest.mark.parametrize("change, message", [
    (lambda m, t: m.clear(), "format None"),
    (lambda m, t: m.update(format="pt"), "format 'pt'"),
    (lambda m, t: m.update(version="2"), "version 1 in .*, got version 2; another release"),
    (lambda m, t: m.pop("version"), "KeyError.*version"),
    (lambda m, t: m.pop("layers"), "KeyError.*layers"),
    (lambda m, t: m.pop("generator"), "KeyError.*generator"),
    (lambda m, t: m.update(layers="[4, 8"), "JSONDecodeError"),
    (lambda m, t: m.update(layers="[4, 0, 3]"), "layers"),
    (lambda m, t: m.update(layers="[4, 9, 3]"), "arrays.*got"),
    (lambda m, t: m.update(layers="[1000000000, 1000000000, 3]"), "arrays.*got"),
    (lambda m, t: m.update(layers="4"), "layers"),
    (lambda m, t: m.update(layers="[" * 100_000), "RecursionError|JSONDecodeError"),
    (lambda m, t: m.update(activations='[{"name": "rellu"}]'), "unknown name 'rellu', did you mean 'relu'"),
    (lambda m, t: m.update(activations='[{"name": "relu", "alpha": 1}]'), "alpha"),
    (lambda m, t: m.update(activations='[{"name": "leaky_relu", "alpha": -1}]'), "alpha"),
    (lambda m, t: m.update(activations='[{"alpha": 1}]'), "KeyError.*name"),
    (lambda m, t: m.update(activations='[{"name": ["relu"]}]'), "expected a name"),
    (lambda m, t: m.update(activations="[]"), "1 hidden layers, got 0"),
    (lambda m, t: m.update(activations='"relu"'), ""),
    (lambda m, t: m.update(activations="[7]"), ""),
    (lambda m, t: m.update(loss='{"name": "crossentropy"}'), "did you mean 'cross_entropy'"),
    (lambda m, t: m.update(loss="null"), ""),
    (lambda m, t: m.update(dtype='"float16"'), "float16"),
    (lambda m, t: m.update(dtype='"float64"'), "float64.*got float32"),
    (lambda m, t: m.update(generator="{}"), ""),
    (lambda m, t: m.update(generator='{"bit_generator": "MT19937"}'), ""),
    (lambda m, t: m.pop("dropout"), "KeyError.*dropout"),
    (lambda m, t: m.update(dropout="[1.0]"), "dropout"),
    (lambda m, t: m.update(dropout="[]"), "dropout"),
    (lambda m, t: m.update(batch_norm="[]"), "batch_norm of 0 layers"),
    (lambda m, t: m.update(batch_norm="7"), ""),
    (lambda m, t: m.update(batch_norm="[7]"), "arrays.*got"),
    (lambda m, t: m.update(batch_norm='[{"momentum": 0.1}]'), "arrays.*got"),
    (lambda m, t: m.update(counters="{}"), "KeyError.*steps"),
    (lambda m, t: m.update(counters='{"steps": -1, "dropout_seed": 0}'), "steps"),
    (lambda m, t: m.update(counters='{"steps": 0, "dropout_seed": 1e3}'), "dropout_seed"),
    (lambda m, t: t.pop("biases.1"), "arrays.*got"),
    (lambda m, t: t.update({"weights.2": np.zeros(3, np.float32)}), "arrays.*got"),
    (lambda m, t: t.update({"weights.0": t["weights.0"].T.copy()}), "arrays.*got"),
    (lambda m, t: t.update({"biases.0": t["biases.0"].astype(np.float64)}), "float64 in biases.0"),
])
def test_wrong_file(change, message, path):
    MLP([4, 8, 3], seed=0).save(path)
    rewrite(path, change)
    with pytest.raises(ValueError, match=f"(?s)^path: expected.*{message}") as raised:
        fastmlp.load(path)
    assert type(raised.value) is ValueError
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("damage", [
    lambda raw: b"", lambda raw: raw[:7], lambda raw: raw[:-1], lambda raw: raw[:40], lambda raw: raw + b"0",
    lambda raw: b"\xff" * 8 + raw[8:], lambda raw: b"PK\x03\x04" + raw[4:],
])
def test_damaged_file(damage, path):
    MLP([4, 8, 3], seed=0).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="^path: expected a file of safetensors"):
        fastmlp.load(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastmlp.load(tmp_path / "net.safetensors")
    with pytest.raises(OSError):
        fastmlp.load(tmp_path)
    with pytest.raises(FileNotFoundError):
        MLP([4, 3]).save(tmp_path / "nowhere" / "net.safetensors")
    for wrong in (None, 7):
        with pytest.raises(TypeError, match="^path: expected a path"):
            MLP([4, 3]).save(wrong)
        with pytest.raises(TypeError, match="^path: expected a path"):
            fastmlp.load(wrong)


def test_bad_optimizer(path):
    model = MLP([4, 3])
    with pytest.raises(TypeError, match="^optimizer.*'sgd'"):
        model.save(path, "sgd")
    assert not path.exists()
    model.save(path)
    with pytest.raises(TypeError, match="^optimizer.*'sgd'"):
        fastmlp.load(path, "sgd")
    with pytest.raises(ValueError, match="^optimizer: no state"):
        fastmlp.load(path, Counter())


def test_code_is_not_saved(path):
    """A loss of the user's own has no name by which it could be found again."""
    model = MLP([4, 3], loss=lambda logits, targets: (0.0, logits))
    with pytest.raises(TypeError, match="^loss: only those of fastmlp can be saved"):
        model.save(path)
    assert not path.exists()


def test_without_the_package(path, monkeypatch):
    MLP([4, 3]).save(path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda: MLP([4, 3]).save(path), lambda: fastmlp.load(path)):
        with pytest.raises(ImportError, match=r"pip install fastmlp\[safetensors\]"):
            call()
