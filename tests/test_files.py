"""Models in files: there and back to the bit, training that goes on, files that are wrong."""
from __future__ import annotations

import errno
import json
import os
import random
import stat
import struct
import subprocess
import sys
import threading
import time
import warnings
from io import FileIO
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from conftest import assert_same
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import MLP, SGD, LeakyReLU, activations, backends, losses
from fastmlp._core import safetensors_format as form
from fastmlp._core import state, whole_files
from fastmlp.normalization import BatchNorm
from fastmlp.schedules import ReduceOnPlateau

pytestmark = pytest.mark.any_isa

POSIX = pytest.mark.skipif(os.name != "posix", reason="of POSIX")


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


# Callbacks -------------------------------------------------------------------------------------------------

class Best:
    """The smallest callback that has state: the weights of the best epoch."""

    def __init__(self):
        self.best, self.waited, self.kept = np.inf, 0, {}

    def __call__(self, model, epoch, logs):
        if logs["loss"] < self.best:
            self.best, self.waited, self.kept = logs["loss"], 0, state.copy(model)
        else:
            self.waited += 1

    def get_state(self):
        return {"best": self.best, "waited": self.waited, **{f"kept.{k}": a for k, a in self.kept.items()}}

    def set_state(self, values):
        self.best = float(values["best"])
        self.waited = int(values["waited"])
        self.kept = {k.removeprefix("kept."): a for k, a in values.items() if k.startswith("kept.")}


class Picky(Best):
    """Has changed half when it finds that the state does not fit."""

    def set_state(self, values):
        self.best = float(values["best"])
        if values["waited"] != 12:
            raise ValueError("waited: expected 12")


def like(callback, other):
    assert (callback.best, callback.waited) == (other.best, other.waited)
    assert callback.kept.keys() == other.kept.keys()
    for name in callback.kept:
        assert_array_equal(callback.kept[name], other.kept[name])
        assert callback.kept[name].dtype == other.kept[name].dtype


def test_state_of_callbacks(path, backend, dtype, rng):
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    model, seen = MLP([4, 8, 3], dtype=dtype, seed=0, batch_norm=True), []
    first, second = Best(), Best()
    second.waited = 3
    callbacks = [lambda *args: seen.append(1), first, len, second]
    model.fit(X, y, epochs=3, batch_size=16, callbacks=[callbacks[0], first], progress=False)
    model.save(path, callbacks=callbacks)
    again = [Best(), Best()]
    same(fastmlp.load(path, callbacks=iter([print, again[0], again[1]])), model)    # functions do not count
    like(again[0], first)
    like(again[1], second)
    same(fastmlp.load(path), model)                             # their state may be left where it is


def test_what_is_saved_is_a_copy(path):
    """Of the moment at which the state was asked for."""
    first, second, again = Best(), Best(), [Best(), Best()]
    first.kept = {"a": np.ones(3)}
    second.get_state = lambda: {"best": 0.0, "waited": first.kept["a"].fill(7) or 0}
    MLP([4, 3]).save(path, callbacks=[first, second])
    fastmlp.load(path, callbacks=again)
    assert_array_equal(again[0].kept["a"], np.ones(3))


def test_optimizer_and_callbacks_together(path, backend, rng):
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    model, optimizer, best = MLP([4, 8, 3], seed=0), SGD(ReduceOnPlateau(0.1), momentum=0.9), Best()
    model.fit(X, y, epochs=3, batch_size=16, optimizer=optimizer, callbacks=[best], progress=False)
    model.save(path, optimizer, [best])
    other, again = SGD(ReduceOnPlateau(0.1), momentum=0.9), Best()
    loaded = fastmlp.load(path, other, [again])
    like(again, best)
    assert other.get_state(loaded).keys() == optimizer.get_state(model).keys()
    for name, array in optimizer.get_state(model).items():
        assert_array_equal(other.get_state(loaded)[name], array)


def test_callbacks_are_given_their_own_state_or_none(path):
    model, best = MLP([4, 3], seed=0), Best()
    best.best, best.waited = 0.5, 7
    model.save(path)
    with pytest.raises(ValueError, match=r"^callbacks\[1\]: no state of one was saved"):
        fastmlp.load(path, callbacks=[len, best])
    model.save(path, callbacks=[best])
    fresh = [Best(), Best()]
    with pytest.raises(ValueError, match=r"^callbacks: expected 1 with state.*got 2"):
        fastmlp.load(path, callbacks=fresh)
    with pytest.raises(ValueError, match=r"^callbacks\[1\]: expected one of the class 'Best'.*got Picky"):
        fastmlp.load(path, callbacks=[len, Picky()])
    assert [b.waited for b in fresh] == [0, 0]
    with pytest.raises(ValueError, match="^optimizer: no state"):
        fastmlp.load(path, SGD(0.1), fresh[:1])
    assert fresh[0].waited == 0


def test_all_states_or_none(path):
    """The last one does not fit: those before it, and what it changed itself, are as they were."""
    model, best, picky = MLP([4, 3], seed=0), Best(), Picky()
    schedule = ReduceOnPlateau(0.1)
    optimizer = SGD(schedule, momentum=0.9)
    schedule.observe(0.25)
    best.best = picky.best = 0.5
    model.save(path, optimizer, [best, picky])
    other, again, last = SGD(ReduceOnPlateau(0.1), momentum=0.9), Best(), Picky()
    with pytest.raises(ValueError, match=r"^callbacks\[1\]: waited: expected 12") as raised:
        fastmlp.load(path, other, [again, last])
    assert type(raised.value) is ValueError
    assert (again.best, last.best, other.lr.get_state()["best"]) == (np.inf, np.inf, np.inf)
    with pytest.raises(ValueError, match="^optimizer: state: expected an entry 'first_moment"):
        fastmlp.load(path, fastmlp.Adam(0.1), [again, Best()][:1] + [last])
    assert again.best == np.inf


@pytest.mark.parametrize("value", [None, "text", [[1], [1, 2]], 1j, 2**70, np.longdouble(1), {"a": 1}],
                         ids=repr)
def test_state_that_is_no_number(path, value):
    class Odd(Best):
        def get_state(self):
            return {"odd": value}

    if isinstance(value, np.longdouble) and value.dtype == np.float64:
        pytest.skip("long double is double here")
    with pytest.raises((TypeError, ValueError), match=r"^callbacks\[0\].*odd"):
        MLP([4, 3]).save(path, callbacks=[Odd()])
    assert not path.exists()


def test_classes_in_the_place_of_objects(path):
    model = MLP([4, 3])
    for optimizer in (SGD, fastmlp.Adam):
        with pytest.raises(TypeError, match="^optimizer: expected an object .*, got <class"):
            model.save(path, optimizer=optimizer)
    with pytest.raises(TypeError, match=r"^callbacks\[0\]: expected an object, got the class EarlyStopping"):
        model.save(path, callbacks=[fastmlp.EarlyStopping])
    assert not path.exists()
    model.save(path, optimizer=SGD())
    with pytest.raises(TypeError, match="^optimizer: expected an object .*, got <class"):
        fastmlp.load(path, optimizer=SGD)
    with pytest.raises(TypeError, match=r"^callbacks\[0\]: expected an object, got the class EarlyStopping"):
        fastmlp.load(path, callbacks=[fastmlp.EarlyStopping])


@pytest.mark.parametrize("wrong", [None, 7, "best", {"a": Best()}, Best()], ids=str)
def test_callbacks_that_are_no_list(path, wrong):
    model = MLP([4, 3])
    with pytest.raises(TypeError, match="^callbacks: expected a list"):
        model.save(path, callbacks=wrong)
    model.save(path)
    with pytest.raises(TypeError, match="^callbacks: expected a list"):
        fastmlp.load(path, callbacks=wrong)


def test_names_in_a_state(path):
    class Odd(Best):
        names = {"a"}

        def get_state(self):
            return {name: 1 for name in self.names}

        def set_state(self, values):
            self.names = values.keys()

    odd, again = Odd(), Odd()
    odd.names = {"", "a b", 'q"\\', "\0\n", "\u00e9", "\U0001f600", "__metadata__", "." * 1000}
    MLP([4, 3]).save(path, callbacks=[odd])
    fastmlp.load(path, callbacks=[again])
    assert again.names == odd.names
    odd.names = {"\ud800"}
    with pytest.raises(ValueError, match=r"^callbacks\[0\]: expected names in Unicode.*ud800"):
        MLP([4, 3]).save(path, callbacks=[odd])


def test_get_state_that_gives_no_dict(path):
    class Odd(Best):
        def get_state(self):
            return [1, 2]

    with pytest.raises(TypeError, match=r"^callbacks\[0\]: expected get_state to return a dict.*\[1, 2\]"):
        MLP([4, 3]).save(path, callbacks=[Odd()])


# Beside a training -----------------------------------------------------------------------------------------

def test_save_in_a_callback(path, backend, rng):
    """It is the model after that epoch."""
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    kept, model = [], MLP([4, 8, 3], seed=0)

    def keep(model, epoch, logs):
        model.save(path)
        kept.append((state.copy(model), fastmlp.load(path)))

    model.fit(X, y, epochs=3, batch_size=16, callbacks=[keep], progress=False)
    for arrays, loaded in kept:
        for name, array in state.arrays(loaded).items():
            assert_array_equal(array, arrays[name])


def test_save_while_another_thread_trains(path, rng):
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    model, best, errors = MLP([4, 8, 3], seed=0), Best(), []
    best.get_state = lambda: pytest.fail("it may change any moment")

    def save(callbacks=(best,)):
        try:
            model.save(path, callbacks=callbacks)
        except RuntimeError as error:
            errors.append(str(error))

    def callback(*args):
        thread = threading.Thread(target=save)
        thread.start()
        thread.join()

    model.fit(X, y, epochs=1, batch_size=16, callbacks=[callback], progress=False)
    assert errors and "another thread" in errors[0]
    assert not path.exists()
    save(())
    same(fastmlp.load(path), model)


def test_training_that_begins_during_a_save(path, rng):
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    model = MLP([4, 8, 3], seed=0)

    class Slow(Best):
        def get_state(self):
            thread = threading.Thread(target=lambda: model.train_step(X, y, SGD(0.1)))
            thread.start()
            thread.join()
            return {}

    with pytest.raises(RuntimeError, match="another thread"):
        model.save(path, callbacks=[Slow()])
    assert not path.exists()


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
    header, data = unpack(path.read_bytes())
    assert header["__metadata__"].keys() == {"fastmlp"}
    settings = json.loads(header["__metadata__"]["fastmlp"])
    assert settings["version"] == 2
    assert settings["layers"] == [4, 8, 3]
    assert settings["activations"] == [{"name": "leaky_relu", "alpha": 0.1}]
    assert settings["loss"]["name"] == "cross_entropy"
    assert settings["dtype"] == "float64"
    assert len(data) == 8 * (4 * 8 + 8 + 8 * 3 + 3)       # no pads
    assert b"pickle" not in path.read_bytes()


EXAMPLES = {
    "b": np.arange(3, dtype=np.float32), "a": np.arange(4.0).reshape(2, 2), "none": np.zeros((0, 3)),
    "number": np.array(7, np.uint8), "flags": np.array([True, False]), "half": np.ones(3, np.float16),
    "\u00e9\u2028\"": np.array(1.5), **{f"{kind}{size}": np.arange(5).astype(f"{kind}{size}")
                                     for kind in "iu" for size in (1, 2, 4, 8)}}
TEXT = {"fastmlp": 'quote " and \\ and \u00e9 \u2028 \n'}


def test_bytes_by_the_letter_of_the_format():
    """Sorted, little-endian, aligned, without gaps."""
    raw = form.encode(EXAMPLES, TEXT)
    header, data = unpack(raw)
    assert header.pop("__metadata__") == TEXT
    assert header.keys() == EXAMPLES.keys()
    places = []
    for name, array in EXAMPLES.items():
        begin, end = header[name]["data_offsets"]
        dtype = np.dtype(form.DTYPES[header[name]["dtype"]])
        assert (dtype.newbyteorder("="), tuple(header[name]["shape"])) == (array.dtype, array.shape)
        assert_array_equal(np.frombuffer(data[begin:end], dtype).reshape(array.shape), array)
        assert (len(raw) - len(data) + begin) % array.itemsize == 0
        places.append((begin, end))
    places.sort()
    assert [begin for begin, _ in places] == [0, *(end for _, end in places[:-1])]
    assert places[-1][1] == len(data)


def test_reads_bytes_by_the_letter_of_the_format(path):
    """Arrays in any order, and also where they are not aligned."""
    header, data = {"__metadata__": TEXT}, b""
    codes = {np.dtype(name): code for code, name in form.DTYPES.items()}
    for name, array in EXAMPLES.items():
        little = array.astype(array.dtype.newbyteorder("<"))
        header[name] = {"dtype": codes[little.dtype], "shape": list(array.shape),
                        "data_offsets": [len(data), len(data) + array.nbytes]}
        data += little.tobytes()
    path.write_bytes(pack(header, data))
    with open(path, "rb", buffering=0) as file:
        start, metadata = form.read_header(file, path.stat().st_size)
        found = form.read_arrays(file, start)
    assert metadata == TEXT
    assert found.keys() == EXAMPLES.keys()
    for name, array in EXAMPLES.items():
        assert_array_equal(found[name], array)
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].flags.writeable


def test_layouts_and_byte_orders_in_a_file(path):
    """Whatever the memory looks like, the numbers are the same."""
    a, best = np.arange(12.0).reshape(3, 4), Best()
    for other in (np.asfortranarray(a), a.astype(">f8"), a[::-1][::-1], np.repeat(a, 2, axis=1)[:, ::2],
                  np.asfortranarray(a.astype(">f8"))):
        best.get_state = lambda other=other: {"a": other, "number": other[1, 1:2].reshape(())}
        MLP([4, 3]).save(path, callbacks=[best])
        tensors = safetensors.numpy.load_file(path)
        assert_array_equal(tensors["callbacks.0.a"], a)
        assert_array_equal(tensors["callbacks.0.number"], a[1, 1])


# What earlier releases wrote, with one text for each setting; and after one step of training.
VERSION_1 = (
    rb'{"__metadata__":{"batch_norm":"[]","activations":"[]","generator":"{\"bit_generator\": \"PCG64\", '
    rb'\"state\": {\"state\": 45622952943019519016089485487844936367, \"inc\": '
    rb'87136372517582989555478159403783844777}, \"has_uint32\": 0, \"uinteger\": 0}","dtype":"\"float32\"",'
    rb'"version":"1","dropout":"[]","layers":"[2, 2]","format":"fastmlp","counters":"{\"steps\": 1, '
    rb'\"dropout_seed\": 8697063857760222071}","optimizer":"\"SGD(lr=0.5, momentum=0.9, nesterov=False, '
    rb'weight_decay=0.0)\"","loss":"{\"name\": \"cross_entropy\", \"label_smoothing\": 0.0, '
    rb'\"ignore_index\": null}"},"optimizer.step":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"biases.0":'
    rb'{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"optimizer.velocity.biases.0":{"dtype":"F32","shape":'
    rb'[2],"data_offsets":[16,24]},"optimizer.velocity.weights.0":{"dtype":"F32","shape":[2,2],"data_offsets":'
    rb'[24,40]},"weights.0":{"dtype":"F32","shape":[2,2],"data_offsets":[40,56]}}',
    struct.pack("<q2f2f4f4f", 1, 0, 0.5, 0.5, -0.5, 0, 0, 0, 0, 1.5, 0, -2, 1))


def test_a_file_of_version_1(path, backend):
    """Loads, goes on training, and is written as the present version."""
    path.write_bytes(pack(*VERSION_1))
    optimizer = SGD(0.5, momentum=0.9)
    model = fastmlp.load(path, optimizer)
    assert (model.layers, model.dtype, model.core.engine.global_step) == ((2, 2), np.float32, 1)
    assert_array_equal(model.weights[0], [[1.5, 0], [-2, 1]])
    assert_array_equal(model.biases[0], [0, 0.5])
    model.save(path, optimizer)
    assert unpack(path.read_bytes())[0]["__metadata__"].keys() == {"fastmlp"}
    expected = MLP([2, 2], seed=0)
    expected.weights[0][...], expected.biases[0][...] = [[1.5, 0], [-2, 1]], 0.25
    other, again = SGD(0.5, momentum=0.9), SGD(0.5, momentum=0.9)
    expected.train_step(np.zeros((1, 2)), [1], other)
    loaded = fastmlp.load(path, again)
    for _ in range(2):
        same(loaded, expected)
        for m, o in ((loaded, again), (expected, other)):
            m.fit(np.eye(2), [0, 1], epochs=2, batch_size=1, optimizer=o, progress=False)


TWICE = """
import sys
from fastmlp import MLP, Adam
from fastmlp.schedules import ReduceOnPlateau
model = MLP([4, 8, 8, 3], dropout=0.5, batch_norm=True, seed=0)
for name, lr in (("plateau", ReduceOnPlateau(0.1)), ("function", lambda step: 0.1)):
    optimizer = Adam(lr)
    model.save(sys.argv[1] + name, optimizer)
    model.save(sys.argv[1] + name + "2", optimizer)
"""


def test_the_same_model_gives_the_same_bytes(tmp_path):
    """In one process, and in two, whose dicts of text and addresses differ."""
    for seed in "12":
        subprocess.run([sys.executable, "-c", TWICE, str(tmp_path / seed)], check=True,
                       env={**os.environ, "PYTHONHASHSEED": seed})
    for name in ("plateau", "function"):
        first = (tmp_path / f"1{name}").read_bytes()
        for other in (f"1{name}2", f"2{name}", f"2{name}2"):
            assert (tmp_path / other).read_bytes() == first


def test_the_package_is_imported_when_it_is_needed(path):
    code = ("import sys, fastmlp; model = fastmlp.MLP([4, 3]); print('safetensors' in sys.modules)\n"
            "model.save(sys.argv[1]); print('safetensors' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nTrue\n"


# Names of other formats ------------------------------------------------------------------------------------

@pytest.mark.parametrize("suffix", [
    ".onnx", ".pt", ".PTH", ".h5", ".keras", ".npz", ".npy", ".pkl", ".pickle", ".joblib", ".json", ".ckpt",
    ".tflite", ".pb", ".zip", ".safetensors.gz"])
def test_suffix_of_another_format(tmp_path, suffix):
    for name in (str(tmp_path / f"net{suffix}"), tmp_path / f"net{suffix}"):
        with pytest.raises(ValueError, match="^path: what is written is safetensors.*use .safetensors"):
            MLP([4, 3]).save(name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["net", "net.safetensors", "net.st", "net.bin", "net.v1.5", ".onnx", "onnx",
                                  "a.onnx.safetensors", "net.safetensors.bak"])
def test_names_that_are_allowed(tmp_path, name):
    MLP([4, 3], seed=0).save(tmp_path / name)
    same(fastmlp.load(tmp_path / name), MLP([4, 3], seed=0))
    assert [p.name for p in tmp_path.iterdir()] == [name]


# Whole or not at all ---------------------------------------------------------------------------------------

SMALL = [MLP([20, 40, 3], seed=i) for i in range(3)]


def which(model):
    """The number of the model of SMALL that it is; fails for a mixture."""
    return [all((a == b).all() for a, b in zip(model.weights, other.weights)) for other in SMALL].index(True)


def names_in(folder):
    return sorted(p.name for p in folder.iterdir())


def test_many_threads_save_to_one_path(path):
    """Models of their own, and one model in several threads; a reader always finds one whole model."""
    SMALL[0].save(path)
    errors, seen, stop = [], set(), threading.Event()

    def write(model):
        try:
            for _ in range(30):
                model.save(path)
        except BaseException as error:
            errors.append(error)

    def look():
        try:
            while not stop.is_set():
                seen.add(which(fastmlp.load(path)))
        except BaseException as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(model,)) for model in (*SMALL, SMALL[0])]
    readers = [threading.Thread(target=look) for _ in range(2)]
    for thread in writers + readers:
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in readers:
        thread.join()
    assert errors == []
    assert seen
    which(fastmlp.load(path))
    assert names_in(path.parent) == [path.name]


def test_processes_save_to_one_path(path):
    code = ("import sys; from fastmlp import MLP, load\n"
            "model = MLP([20, 40, 3], seed=int(sys.argv[2]))\n"
            "for _ in range(20): model.save(sys.argv[1]); load(sys.argv[1])")
    running = [subprocess.Popen([sys.executable, "-c", code, str(path), seed]) for seed in "012"]
    assert [process.wait() for process in running] == [0, 0, 0]
    which(fastmlp.load(path))
    assert names_in(path.parent) == [path.name]


@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_a_save_that_fails_changes_nothing(path, monkeypatch, name):
    SMALL[0].save(path)
    for number in (errno.ENOSPC, errno.EIO, None):
        def fail(*args, number=number):
            raise OSError(number, "no more") if number else KeyboardInterrupt

        with monkeypatch.context() as m:
            m.setattr(whole_files.os, name, fail)
            with pytest.raises(OSError if number else KeyboardInterrupt) as raised:
                SMALL[1].save(path)
        if number:
            assert (raised.value.errno, raised.value.filename) == (number, str(path))
        assert which(fastmlp.load(path)) == 0
        assert names_in(path.parent) == [path.name]


def test_on_the_disk_before_it_has_the_name(path, monkeypatch):
    """The file, the rename, the folder."""
    calls, fsync, replace = [], os.fsync, os.replace

    def sync(number):
        calls.append("folder" if stat.S_ISDIR(os.fstat(number).st_mode) else os.fstat(number).st_size)
        fsync(number)

    monkeypatch.setattr(whole_files.os, "fsync", sync)
    monkeypatch.setattr(whole_files.os, "replace", lambda *args: (calls.append("rename"), replace(*args)))
    SMALL[0].save(path)
    assert calls == [path.stat().st_size, "rename", "folder"][:len(calls)]
    assert len(calls) == (3 if hasattr(os, "O_DIRECTORY") else 2)


def test_no_sync_where_a_file_system_has_none(path, monkeypatch):
    def fail(number):
        raise OSError(errno.EINVAL, "not here")

    monkeypatch.setattr(whole_files.os, "fsync", fail)
    SMALL[0].save(path)
    assert which(fastmlp.load(path)) == 0


def leave_part(path, age):
    """What a killed process leaves; as old as `age` in seconds."""
    code = ("import os, sys; from fastmlp import MLP; from fastmlp._core import whole_files\n"
            "whole_files._rename = lambda *args: os._exit(7)\n"
            "MLP([20, 40, 3]).save(sys.argv[1])")
    before = set(path.parent.iterdir())
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 7
    (part,) = set(path.parent.iterdir()) - before
    os.utime(part, (time.time() - age,) * 2)
    return part


@POSIX
def test_parts_of_killed_processes(path, monkeypatch):
    """Gone with the next save; of another machine, whose locks may not show here, once they are old."""
    other = path.parent / "other.safetensors"
    SMALL[0].save(path)
    old, of_another, young = (leave_part(p, age) for p, age in ((path, 1e5), (other, 1e5), (path, 0)))
    assert young.name.startswith(".") and young.name.endswith(".part")
    assert which(fastmlp.load(path)) == 0
    SMALL[1].save(path)
    assert which(fastmlp.load(path)) == 1
    assert set(path.parent.iterdir()) == {path, of_another}
    elsewhere = [leave_part(path, age) for age in (1e5, 0)]
    monkeypatch.setattr(whole_files, "machine", lambda: "01234567")
    SMALL[0].save(path)
    assert set(path.parent.iterdir()) == {path, of_another, elsewhere[1]}


@POSIX
def test_a_part_that_is_removed_before_it_is_locked(path, monkeypatch):
    """By another writer, who takes it for one that a killed process left."""
    real, removed = whole_files._locked, []

    def locked(file, exclusive, wait=True):
        if exclusive and not removed:
            removed.extend(path.parent.glob(".*.part"))
            os.unlink(removed[0])
        return real(file, exclusive, wait)

    monkeypatch.setattr(whole_files, "_locked", locked)
    SMALL[1].save(path)
    assert len(removed) == 1 and which(fastmlp.load(path)) == 1 and names_in(path.parent) == [path.name]


@POSIX
def test_writers_leave_the_parts_of_those_that_live(path):
    """Several at once, all of this machine."""
    code = ("import sys; from fastmlp import MLP\n"
            "model = MLP([5, 3], seed=1)\n"
            "for _ in range(60): model.save(sys.argv[1])")
    command = [sys.executable, "-c", code, str(path)]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(3)]
    assert [(writer.wait(60), writer.stderr.read()) for writer in writers] == [(0, b"")] * 3
    assert names_in(path.parent) == [path.name]


@POSIX
def test_a_part_that_is_locked_stays(path):
    """Its writer lives, however long it takes."""
    import fcntl

    part = leave_part(path, 1e5)
    with open(part, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        SMALL[0].save(path)
        assert set(path.parent.iterdir()) == {path, part}
    SMALL[0].save(path)
    assert names_in(path.parent) == [path.name]


@POSIX
def test_the_writer_holds_a_lock(path, monkeypatch):
    """Which is what the last test relies on."""
    import fcntl

    locked, replace = [], os.replace

    def look(part, target):
        with open(part, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked.append(False)
            except BlockingIOError:
                locked.append(True)
        replace(part, target)

    monkeypatch.setattr(whole_files.os, "replace", look)
    SMALL[0].save(path)
    assert locked == [True]


@POSIX
def test_nothing_but_parts_is_removed(path):
    """Not what a user gave a similar name, and not what a link of that name leads to."""
    part = leave_part(path, 1e5)
    prefix = part.name[:-len("0123456789abcdef.part")]
    mine = path.parent / "mine"
    mine.write_bytes(b"mine")
    os.utime(mine, (0, 0))
    (path.parent / f"{prefix}link.part").symlink_to(mine)
    (path.parent / f"{prefix}folder.part").mkdir()
    (path.parent / "net.safetensors.123.part").write_bytes(b"")
    expected = set(path.parent.iterdir()) - {part} | {path}
    SMALL[0].save(path)
    assert set(path.parent.iterdir()) == expected
    assert mine.read_bytes() == b"mine"


# Links, modes, devices -------------------------------------------------------------------------------------

@POSIX
@pytest.mark.parametrize("to", ["real.safetensors", "folder/real.safetensors", "/absolute"])
@pytest.mark.parametrize("there", [True, False])
def test_through_a_link(path, to, there):
    (path.parent / "folder").mkdir()
    real = path.parent / to.lstrip("/")
    path.symlink_to(real if to.startswith("/") else to)
    (path.parent / "second").symlink_to(path)
    if there:
        SMALL[0].save(real)
    SMALL[1].save(path.parent / "second")
    assert path.is_symlink() and (path.parent / "second").is_symlink() and not real.is_symlink()
    assert which(fastmlp.load(real)) == which(fastmlp.load(path)) == 1
    assert not list(path.parent.rglob("*.part"))


@POSIX
def test_a_link_in_a_circle(path):
    path.symlink_to(path)
    for call in (SMALL[0].save, fastmlp.load):
        with pytest.raises(OSError) as raised:
            call(path)
        assert (raised.value.errno, raised.value.filename) == (errno.ELOOP, str(path))


@POSIX
def test_other_hard_links_keep_the_old_model(path):
    SMALL[0].save(path)
    os.link(path, path.parent / "kept")
    SMALL[1].save(path)
    assert (which(fastmlp.load(path)), which(fastmlp.load(path.parent / "kept"))) == (1, 0)


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o755, 0o666])
def test_the_mode_of_a_file_stays(path, mode):
    SMALL[0].save(path)
    path.chmod(mode)
    SMALL[1].save(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert which(fastmlp.load(path)) == 1


@POSIX
def test_a_new_file_respects_the_umask(tmp_path):
    masks = [0o022, 0o027, 0o077, 0]
    code = ("import os; from fastmlp import MLP\n"
            f"for mask in {masks}: os.umask(mask); MLP([4, 3]).save(str(mask))")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path,
                   env={**os.environ, "PYTHONPATH": str(Path(fastmlp.__file__).parents[1])})
    for mask in masks:
        assert stat.S_IMODE((tmp_path / str(mask)).stat().st_mode) == 0o666 & ~mask


@POSIX
def test_owner_and_group_of_a_file_stay(path):
    SMALL[0].save(path)
    try:
        os.chown(path, 12345, 54321)
    except OSError:
        pytest.skip("only root may give files away")
    SMALL[1].save(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


@POSIX
def test_a_group_that_cannot_be_kept_leaves_no_rights_to_another(path, monkeypatch):
    def fail(*args):
        raise PermissionError(errno.EPERM, "not yours")

    monkeypatch.setattr(whole_files.os, "chown", fail)
    for mode, expected in ((0o660, 0o600), (0o664, 0o644), (0o666, 0o666), (0o606, 0o606)):
        SMALL[0].save(path)
        path.chmod(mode)
        SMALL[1].save(path)
        assert stat.S_IMODE(path.stat().st_mode) == expected


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="of Linux")
def test_attributes_of_a_file_stay(path):
    SMALL[0].save(path)
    try:
        os.setxattr(path, "user.note", b"best so far")
    except OSError:
        pytest.skip("a file system without attributes")
    SMALL[1].save(path)
    assert os.getxattr(path, "user.note") == b"best so far"


@POSIX
def test_a_pipe_stays_a_pipe(path):
    os.mkfifo(path)
    read = []
    thread = threading.Thread(target=lambda: read.append(path.read_bytes()))
    thread.start()
    SMALL[0].save(path)
    thread.join()
    assert stat.S_ISFIFO(path.stat().st_mode)
    copy = path.parent / "copy"
    copy.write_bytes(read[0])
    assert which(fastmlp.load(copy)) == 0


@pytest.fixture
def devices_are_safe(monkeypatch):
    """From a save that goes wrong, when the tests run as root."""
    for name in ("replace", "unlink"):
        monkeypatch.setattr(whole_files.os, name, lambda *args: pytest.fail(f"a device was replaced: {args}"))


@POSIX
def test_devices_stay_devices(devices_are_safe):
    SMALL[0].save(os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    code = "from fastmlp import MLP; MLP([4, 3]).save('/dev/stdout')"
    if os.path.exists("/dev/stdout"):
        out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True).stdout
        assert b"fastmlp" in out


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_device(devices_are_safe):
    with pytest.raises(OSError) as raised:
        SMALL[0].save("/dev/full")
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, "/dev/full")
    assert str(raised.value).endswith("'/dev/full'")       # one name, and not "-> None" after it


@POSIX
@pytest.mark.parametrize("length", [200, 245, 250, 255])
def test_long_names(tmp_path, length):
    try:
        (tmp_path / ("n" * length)).write_bytes(b"")
    except OSError:
        pytest.skip("names are shorter here")
    for model in SMALL[:2]:
        model.save(tmp_path / ("n" * length))
    assert which(fastmlp.load(tmp_path / ("n" * length))) == 1
    assert names_in(tmp_path) == ["n" * length]


# Where no file can take another's place: a folder that is not writable, a file mounted by itself, ...
def no_part(m, number):
    real = os.open

    def fail(name, flags, *args, **more):
        if str(name).endswith(".part"):
            raise OSError(number, os.strerror(number), name)
        return real(name, flags, *args, **more)

    m.setattr(whole_files.os, "open", fail)


def no_rename(m, number):
    def fail(*args):
        raise OSError(number, os.strerror(number), *args[:1], None, args[1])

    m.setattr(whole_files.os, "replace", fail)


@POSIX
@pytest.mark.parametrize("obstacle, number", [
    (no_part, errno.EACCES), (no_part, errno.EPERM), (no_part, errno.EROFS), (no_part, errno.ENAMETOOLONG),
    (no_rename, errno.EXDEV), (no_rename, errno.EBUSY), (no_rename, errno.EPERM)])
@pytest.mark.parametrize("there", [True, False])
def test_in_place(path, monkeypatch, obstacle, number, there):
    large = MLP([200, 40, 3], seed=0)
    if there:
        large.save(path)                    # more bytes than what comes
        path.chmod(0o640)
        inode = path.stat().st_ino
    with monkeypatch.context() as m:
        obstacle(m, number)
        SMALL[1].save(path)
    assert which(fastmlp.load(path)) == 1
    assert names_in(path.parent) == [path.name]
    if there:
        assert (path.stat().st_ino, stat.S_IMODE(path.stat().st_mode)) == (inode, 0o640)


@POSIX
@pytest.mark.parametrize("obstacle, number", [
    (no_part, errno.EACCES), (no_part, errno.EROFS), (no_rename, errno.EXDEV), (no_rename, errno.EBUSY)])
def test_not_in_place(path, monkeypatch, obstacle, number):
    """Where a kill must not lose the file: an error, and it is as it was."""
    SMALL[0].save(path)
    before = path.read_bytes()
    with monkeypatch.context() as m:
        obstacle(m, number)
        with pytest.raises(OSError, match="beside the file, which could only be written in place") as raised:
            whole_files.write(str(path), [b"new"], in_place=False)
        assert (raised.value.errno, raised.value.filename) == (number, str(path))
        with pytest.raises(OSError) as raised:
            whole_files.write(str(path.parent / "new"), [b"new"], in_place=False)
        assert raised.value.errno == number and "in place" not in str(raised.value)
    assert path.read_bytes() == before and names_in(path.parent) == [path.name]


@POSIX
def test_a_folder_that_is_not_writable(path):
    SMALL[0].save(path)
    path.parent.chmod(0o555)
    try:
        if os.access(path.parent, os.W_OK):
            pytest.skip("root may write everywhere")
        SMALL[1].save(path)
        assert which(fastmlp.load(path)) == 1
        with pytest.raises(PermissionError) as raised:
            SMALL[1].save(path.parent / "new")
        assert raised.value.filename == str(path.parent / "new")
    finally:
        path.parent.chmod(0o755)


@POSIX
def test_a_reader_waits_for_a_writer_in_place(path):
    """And finds what the writer leaves."""
    import fcntl

    SMALL[0].save(path)
    SMALL[1].save(path.parent / "next")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(which(fastmlp.load(path))))
    with open(path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(100)
        thread.start()
        thread.join(0.2)
        assert thread.is_alive()
        file.write((path.parent / "next").read_bytes())
        file.flush()
        fcntl.flock(file, fcntl.LOCK_UN)
    thread.join()
    assert seen == [1]


@POSIX
def test_writers_in_place_take_turns(path, monkeypatch):
    SMALL[0].save(path)
    errors = []

    def write(model):
        try:
            for _ in range(20):
                model.save(path)
                which(fastmlp.load(path))
        except BaseException as error:
            errors.append(error)

    no_rename(monkeypatch, errno.EXDEV)
    threads = [threading.Thread(target=write, args=(model,)) for model in SMALL]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@POSIX
def test_a_lock_that_is_never_released(path, monkeypatch):
    """Somebody else's: an error after a while, or a file that does not change."""
    import fcntl

    SMALL[0].save(path)
    monkeypatch.setattr(whole_files, "LOCK_SECONDS", 0.1)
    with open(path, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert which(fastmlp.load(path)) == 0
        no_rename(monkeypatch, errno.EXDEV)
        with pytest.raises(BlockingIOError) as raised:
            SMALL[1].save(path)
        assert raised.value.filename == str(path)
        assert which(fastmlp.load(path)) == 0


def test_without_locks(path, monkeypatch):
    """Windows has none of these, some shared volumes neither: nobody knows who lives but by the age."""
    old, young = leave_part(path, 1e5), leave_part(path, 0)
    monkeypatch.setattr(whole_files, "fcntl", None)
    SMALL[0].save(path)
    assert not old.exists() and young.exists()
    young.unlink()
    assert which(fastmlp.load(path)) == 0
    no_rename(monkeypatch, errno.EXDEV)
    SMALL[1].save(path)
    assert which(fastmlp.load(path)) == 1


# Errors of the system --------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, kind", [
    ("nowhere/net", FileNotFoundError), ("file/net", NotADirectoryError), ("folder", IsADirectoryError),
    ("new/", IsADirectoryError), ("", FileNotFoundError), ("n" * 5000, OSError),
])
@POSIX
def test_errors_of_the_system(tmp_path, name, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for call in (SMALL[0].save, fastmlp.load):
        if name == "new/" and call == fastmlp.load:
            continue                                    # there is no such file
        with pytest.raises(kind) as raised:
            call(name)
        assert raised.value.filename == name
        assert raised.value.errno
    assert names_in(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do everything")
def test_permissions(path):
    SMALL[0].save(path)
    path.chmod(0o444)
    with pytest.raises(PermissionError):                # as with cp: it was protected
        SMALL[1].save(path)
    assert which(fastmlp.load(path)) == 0
    path.chmod(0)
    with pytest.raises(PermissionError) as raised:
        fastmlp.load(path)
    assert raised.value.filename == str(path)


def test_errors_of_a_disk(path, monkeypatch):
    SMALL[0].save(path)

    class Broken(FileIO):
        def fail(self, *args):
            raise OSError(errno.EIO, "broken")

    for name in ("read", "readall"):
        monkeypatch.setattr(whole_files, "FileIO", type("", (Broken,), {name: Broken.fail}))
        with pytest.raises(OSError, match="broken") as raised:
            fastmlp.load(path)
        assert raised.value.filename == str(path)


def test_paths_that_are_none():
    for wrong in (None, 7, 1.5, ["net"]):
        for call in (SMALL[0].save, fastmlp.load):
            with pytest.raises(TypeError, match="^path: expected a path"):
                call(wrong)
    for call in (SMALL[0].save, fastmlp.load):
        with pytest.raises(ValueError, match="^path: .*null"):
            call("net\0.safetensors")


@POSIX
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"),
                                  lambda path: path.symlink_to(os.devnull)])
def test_load_of_what_is_no_file(path, make):
    """At once: a pipe has no end until somebody writes, and a device none at all."""
    make(path)
    errors = []

    def load():
        try:
            fastmlp.load(path)
        except ValueError as error:
            errors.append(str(error))

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(60)
    assert errors and errors[0].startswith("path: expected a regular file, got a")


# Files that change -----------------------------------------------------------------------------------------

def test_a_file_that_is_replaced_while_it_is_read(path, monkeypatch):
    SMALL[0].save(path)
    real = form.read_header

    def then_replaced(file, size):
        header = real(file, size)
        SMALL[1].save(path)
        return header

    monkeypatch.setattr(form, "read_header", then_replaced)
    assert which(fastmlp.load(path)) in (0, 1)


@POSIX
@pytest.mark.parametrize("change", [lambda path: os.truncate(path, 300), lambda path: os.truncate(path, 0),
                                    lambda path: path.write_bytes((path.parent / "next").read_bytes())])
def test_a_file_that_is_changed_while_it_is_read(path, monkeypatch, change):
    """By a program that knows nothing of locks: no signal, no mixture, and another try."""
    SMALL[0].save(path)
    SMALL[1].save(path.parent / "next")
    calls, real = [], form.read_header

    def then_changed(file, size):
        header = real(file, size)
        if not calls:
            change(path)
            os.utime(path, (1, 1))                      # clocks of file systems are coarse
        calls.append(1)
        return header

    monkeypatch.setattr(form, "read_header", then_changed)
    try:
        assert which(fastmlp.load(path)) == 1
    except ValueError as error:
        assert str(error).startswith("path: expected a file of safetensors")
        assert path.stat().st_size < 1000
    assert calls


def test_the_settings_of_one_file_and_the_arrays_of_another(path):
    """Are not mixed, also where the clock of the file system does not tell."""
    SMALL[0].save(path)
    with open(path, "rb", buffering=0) as file:
        header, _ = form.read_header(file, path.stat().st_size)
        assert form.read_arrays(file, header).keys() == state.arrays(SMALL[0]).keys()
        raw = path.read_bytes()
        with open(path, "r+b") as other:
            other.write(raw.replace(b'steps\\": 0', b'steps\\": 7'))
        assert path.read_bytes() != raw
        with pytest.raises(form.FormatError, match="changes"):
            form.read_arrays(file, header)


def test_a_file_that_always_changes(path, monkeypatch):
    SMALL[0].save(path)
    times, real = iter(range(1, 100)), form.read_header

    def then_changed(file, size):
        header = real(file, size)
        os.utime(path, (next(times),) * 2)
        return header

    monkeypatch.setattr(form, "read_header", then_changed)
    with pytest.raises(ValueError, match="^path: expected a file that stays as it is"):
        fastmlp.load(path)


# Bad input -------------------------------------------------------------------------------------------------

def unpack(raw):
    """Header and data, by the letter of the format."""
    (size,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8:8 + size]), raw[8 + size:]


def pack(header, data):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def rewrite(path, change, version=2):
    """The file again, in the layout of a version, with other settings (each as JSON) or arrays."""
    raw = path.read_bytes()
    settings = json.loads(unpack(raw)[0]["__metadata__"]["fastmlp"])
    texts = {name: json.dumps(value) for name, value in {**settings, "version": version}.items()}
    if version == 1:
        texts["format"] = "fastmlp"
    arrays = safetensors.numpy.load(raw)
    change(texts, arrays)
    if version == 2:
        texts = {"fastmlp": "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in texts.items())
                 + "}"}
    path.write_bytes(safetensors.numpy.save(arrays, texts))


def refused(path, start, message, longest=700):
    """Loading is a ValueError, soon, whose message is short and names the path."""
    with pytest.raises(ValueError, match=f"(?s)^{start}.*{message}") as raised:
        fastmlp.load(path)
    assert type(raised.value) is ValueError
    assert str(path) in str(raised.value)
    assert len(str(raised.value)) < longest + len(str(path))


@pytest.mark.parametrize("change, message", [
    (lambda m, t: m.update(version="3"), "version 3, where . is read; another release"),
    (lambda m, t: m.update(version="0"), "version 0, where . is read; another release"),
    (lambda m, t: m.update(version="true"), "version True"),
    (lambda m, t: m.update(version="1.0"), "version 1.0"),
    (lambda m, t: m.update(version='"1"'), "version '1'"),
    (lambda m, t: m.update(version="[1]"), r"version \[1\]"),
    (lambda m, t: m.update(version="null"), "version None"),
    (lambda m, t: m.update(version="9" * 5000), "an integer of 5000 digits"),
    (lambda m, t: m.pop("version"), "KeyError.*version"),
    (lambda m, t: m.pop("layers"), "KeyError.*layers"),
    (lambda m, t: m.pop("generator"), "KeyError.*generator"),
    (lambda m, t: m.update(layers="[4, 8"), "no JSON"),
    (lambda m, t: m.update(layers="[4, 8, 3] 7"), "no JSON"),
    (lambda m, t: m.update(layers="[4, 0, 3]"), "layers"),
    (lambda m, t: m.update(layers="[4, -8, 3]"), "layers"),
    (lambda m, t: m.update(layers="[4, 8.0, 3]"), "layers"),
    (lambda m, t: m.update(layers="[4, true, 3]"), "layers"),
    (lambda m, t: m.update(layers="[4]"), "layers|hidden"),
    (lambda m, t: m.update(layers="[]"), "layers|hidden"),
    (lambda m, t: m.update(layers='{"4": 8}'), "layers: expected a list"),
    (lambda m, t: m.update(layers='"483"'), "layers: expected a list"),
    (lambda m, t: m.update(layers="[4, 9, 3]"), r"weights.0 of shape \(4, 8\).*\(4, 9\)"),
    (lambda m, t: m.update(layers="[1000000000, 1000000000, 3]"), "weights.0 of shape"),
    (lambda m, t: m.update(layers=f"[4, {2**70}, 3]"), "weights.0 of shape"),
    (lambda m, t: m.update(layers=json.dumps([1] * 10**6)), "hidden layers"),
    (lambda m, t: m.update(
        layers=json.dumps([1] * 500_000),
        **dict.fromkeys(["activations", "dropout", "batch_norm"], json.dumps([None] * 499_998))),
     "500000 layers and 4 arrays"),
    (lambda m, t: m.update(layers=json.dumps(["x" * 10**6, 8, 3])), "layers"),
    (lambda m, t: m.update(layers="4"), "layers"),
    (lambda m, t: m.update(layers="[" * 100_000), "too deeply|no JSON"),
    (lambda m, t: m.update(layers="[" * 500 + "]" * 500), "layers|hidden"),
    (lambda m, t: m.update(layers="NaN"), "NaN"),
    (lambda m, t: m.update(dropout="[Infinity]"), "Infinity"),
    (lambda m, t: m.update(dropout="[1e999]"), "dropout"),
    (lambda m, t: m.update(counters='{"steps": 0, "dropout_seed": 0, "steps": 1}'), "one name twice"),
    (lambda m, t: m.update(activations='[{"name": "rellu"}]'), "unknown name 'rellu', did you mean 'relu'"),
    (lambda m, t: m.update(activations=json.dumps([{"name": "r" * 10**6}])), "unknown name"),
    (lambda m, t: m.update(activations='[{"name": "relu", "alpha": 1}]'), "alpha"),
    (lambda m, t: m.update(activations='[{"name": "leaky_relu", "alpha": -1}]'), "alpha"),
    (lambda m, t: m.update(activations='[{"name": "leaky_relu", "alpha": "1"}]'), "alpha"),
    (lambda m, t: m.update(activations='[{"alpha": 1}]'), "with a name"),
    (lambda m, t: m.update(activations='[{"name": ["relu"]}]'), "with a name"),
    (lambda m, t: m.update(activations='[[["name", "relu"]]]'), "with a name"),
    (lambda m, t: m.update(activations="[]"), "1 hidden layers, got 0"),
    (lambda m, t: m.update(activations='"relu"'), "activations: expected a list"),
    (lambda m, t: m.update(activations="[7]"), "with a name"),
    (lambda m, t: m.update(loss='{"name": "crossentropy"}'), "did you mean 'cross_entropy'"),
    (lambda m, t: m.update(loss="null"), "loss"),
    (lambda m, t: m.update(dtype='"float16"'), "dtype 'float16'"),
    (lambda m, t: m.update(dtype='"f4"'), "dtype 'f4'"),
    (lambda m, t: m.update(dtype='[["a", "f4"]]'), "dtype"),
    (lambda m, t: m.update(dtype='"float64"'), "in float32, where .*float64 belongs"),
    (lambda m, t: m.pop("dropout"), "KeyError.*dropout"),
    (lambda m, t: m.update(dropout="[1.0]"), "dropout"),
    (lambda m, t: m.update(dropout="[-0.5]"), "dropout"),
    (lambda m, t: m.update(dropout="[true]"), "dropout"),
    (lambda m, t: m.update(dropout="[]"), "dropout"),
    (lambda m, t: m.update(dropout="0.5"), "dropout"),
    (lambda m, t: m.update(dropout=json.dumps([0.0] * 10**5)), "dropout"),
    (lambda m, t: m.update(batch_norm="[]"), "batch_norm"),
    (lambda m, t: m.update(batch_norm="7"), "batch_norm"),
    (lambda m, t: m.update(batch_norm="[7]"), "batch_norm"),
    (lambda m, t: m.update(batch_norm="[true]"), "batch_norm"),
    (lambda m, t: m.update(batch_norm='[{"momentum": 0.1}]'), "no array scales.0"),
    (lambda m, t: m.update(counters="{}"), "KeyError.*steps"),
    (lambda m, t: m.update(counters="[]"), "TypeError"),
    (lambda m, t: m.update(counters='{"steps": -1, "dropout_seed": 0}'), "steps"),
    (lambda m, t: m.update(counters=f'{{"steps": {2**63}, "dropout_seed": 0}}'), "steps"),
    (lambda m, t: m.update(counters=f'{{"steps": {2**53 + 1}, "dropout_seed": 0}}'), "steps"),
    (lambda m, t: m.update(counters='{"steps": true, "dropout_seed": 0}'), "steps"),
    (lambda m, t: m.update(counters=f'{{"steps": 0, "dropout_seed": {2**63}}}'), "dropout_seed"),
    (lambda m, t: m.update(counters='{"steps": 0, "dropout_seed": 1e3}'), "dropout_seed"),
    (lambda m, t: m.update(callbacks='"Best"'), "callbacks"),
    (lambda m, t: m.update(callbacks="[7]"), "callbacks"),
    (lambda m, t: t.pop("biases.1"), "no array biases.1"),
    (lambda m, t: t.update({"weights.2": np.zeros(3, np.float32)}), "'weights.2', which does not belong"),
    (lambda m, t: t.update({"optimizer.step": np.zeros(3)}), "'optimizer.step', which does not belong"),
    (lambda m, t: t.update({"callbacks.0.best": np.zeros(3)}), "'callbacks.0.best', which does not belong"),
    (lambda m, t: t.update({"x" * 10**6: np.zeros(3)}), "'xxx.*which does not belong"),
    (lambda m, t: t.update({"weights.0": t["weights.0"].T.copy()}), "weights.0 of shape"),
    (lambda m, t: t.update({"weights.0": t["weights.0"].ravel()}), "weights.0 of shape"),
    (lambda m, t: t.update({"biases.0": t["biases.0"].astype(np.float64)}), r"biases.0 of shape.*float64"),
    (lambda m, t: t.update({"biases.0": t["biases.0"].astype(np.int32)}), "biases.0 of shape.*int32"),
    (lambda m, t: t.update({"biases.0": t["biases.0"].astype(np.float16)}), "biases.0 of shape.*float16"),
])
@pytest.mark.parametrize("version", [1, 2])
def test_wrong_file(change, message, path, version):
    MLP([4, 8, 3], seed=0).save(path)
    rewrite(path, lambda m, t: None, version)
    same(fastmlp.load(path), MLP([4, 8, 3], seed=0))
    MLP([4, 8, 3], seed=0).save(path)
    rewrite(path, change, version)
    refused(path, "path: expected a model of fastmlp", message)


@pytest.mark.parametrize("metadata, message", [
    ({}, "the format None"), (None, "the format None"), ({"format": "pt"}, "the format 'pt'"),
    ({"format": "pt" * 10**6}, "the format 'ptpt"), ({"format": "fastmlp"}, "KeyError: 'version'"),
    ({"format": "fastmlp", "version": "2"}, "version 2, where 1 is read"),
    ({"fastmlp": ""}, "no JSON"), ({"fastmlp": "{}"}, "KeyError: 'version'"),
    ({"fastmlp": "[]"}, r"the settings \[\]"), ({"fastmlp": "null"}, "the settings None"),
    ({"fastmlp": '{"version": 1}'}, "version 1, where 2 is read"),
    ({"fastmlp": '{"version": 2, "version": 2}'}, "one name twice"),
    ({"fastmlp": "[" * 10**6}, "too deeply|no JSON"),
], ids=lambda value: str(value)[:40])
def test_metadata_of_no_model(path, metadata, message):
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(3)}, metadata))
    refused(path, "path: expected a model of fastmlp", message)


def test_a_large_file_of_another_kind_is_not_read(path, monkeypatch):
    path.write_bytes(safetensors.numpy.save({"a": np.zeros(3)}, {"format": "pt"}))
    monkeypatch.setattr(form, "read_arrays", lambda *args: pytest.fail("it was"))
    refused(path, "path: expected a model of fastmlp", "the format 'pt'")


@pytest.mark.parametrize("change", [
    lambda g: g.clear(), lambda g: g.update(bit_generator="MT19937"), lambda g: g.update(bit_generator=None),
    lambda g: g.update(bit_generator="PCG64DXSM"), lambda g: g.pop("uinteger"), lambda g: g.update(more=1),
    lambda g: g.update(state=7), lambda g: g["state"].pop("inc"), lambda g: g["state"].update(more=7),
    lambda g: g["state"].update(inc=0), lambda g: g["state"].update(inc=2**100),
    lambda g: g["state"].update(inc=2**128 + 1), lambda g: g["state"].update(inc=-1),
    lambda g: g["state"].update(state=-1), lambda g: g["state"].update(state=2**128),
    lambda g: g["state"].update(state=1.0), lambda g: g["state"].update(state="1"),
    lambda g: g["state"].update(state=[1, 2]), lambda g: g["state"].update(state=True),
    lambda g: g.update(has_uint32=2), lambda g: g.update(has_uint32=-1), lambda g: g.update(has_uint32=None),
    lambda g: g.update(uinteger=2**32), lambda g: g.update(uinteger=-1), lambda g: g.update(uinteger=0.5),
    lambda g: g["state"].update(has_uint32=1),
])
def test_wrong_generator(change, path):
    MLP([4, 8, 3], seed=0).save(path)

    def replace(m, t):
        generator = json.loads(m["generator"])
        change(generator)
        m["generator"] = json.dumps(generator)

    rewrite(path, replace)
    refused(path, "path: expected a model of fastmlp", "generator")


def test_unknown_metadata_is_left_alone(path):
    """A tool that adds a note does not make the file another one, nor does a setting of a later release."""
    model = MLP([4, 8, 3], seed=0)
    model.save(path)
    rewrite(path, lambda m, t: m.update(note="my best", also="{"), version=1)
    same(fastmlp.load(path), model)
    model.save(path)
    rewrite(path, lambda m, t: m.update(note="[1, null]"))
    same(fastmlp.load(path), model)
    header, data = unpack(path.read_bytes())
    header["__metadata__"] |= {"note": "my best", "format": "pt", "version": "7"}
    path.write_bytes(pack(header, data))
    same(fastmlp.load(path), model)


@pytest.mark.parametrize("value", [-1.0, np.nan, -np.inf, -1e-30])
def test_wrong_variances(path, value):
    """Neither read nor written."""
    model = MLP([4, 8, 3], batch_norm=True, seed=0)
    model.save(path)
    rewrite(path, lambda m, t: t.update({"running_variances.0": np.full(8, value, np.float32)}))
    refused(path, "path: expected a model of fastmlp", "a variance of .* in running_variances.0")
    path.unlink()
    model.running_variances[0][3] = value
    with pytest.raises(ValueError, match="^model: expected variances.*got .* in running_variances.0"):
        model.save(path)
    assert not path.exists()


def test_steps_of_an_optimizer_beyond_any_training(path):
    model, optimizer = MLP([4, 3], seed=0), SGD(0.1, momentum=0.9)
    model.save(path, optimizer)
    for step in (np.uint64(2**64 - 1), np.int64(2**63 - 1), np.int64(-1), np.float64(1.0), np.array([1, 2])):
        rewrite(path, lambda m, t, step=step: t.update({"optimizer.step": np.asarray(step)}))
        with pytest.raises((ValueError, TypeError), match="^optimizer: .*step"):
            fastmlp.load(path, SGD(0.1, momentum=0.9))


@pytest.mark.parametrize("damage", [
    lambda raw: b"", lambda raw: raw[:7], lambda raw: raw[:-1], lambda raw: raw[:40], lambda raw: raw + b"0",
    lambda raw: b"\xff" * 8 + raw[8:], lambda raw: b"PK\x03\x04" + raw[4:], lambda raw: raw[:8] * 2,
    lambda raw: struct.pack("<Q", 2**24) + b" " * (2**24 + 1), lambda raw: struct.pack("<Q", 2**63) + raw,
    lambda raw: pack(b"[]", b""), lambda raw: pack(b"null", b""), lambda raw: pack(b"", b""),
    lambda raw: pack(b"[" * 10**6, b""), lambda raw: pack(b'{"a":' * 10**6, b""),
    lambda raw: pack(b"9" * 10**6, b""), lambda raw: pack(b'{"a":NaN}', b""),
    lambda raw: pack(b'{"\xff":1}', b""), lambda raw: pack("{}".encode("utf-16"), b""),
    lambda raw: pack({"__metadata__": {"format": 7}}, b""), lambda raw: pack({"__metadata__": []}, b""),
    lambda raw: pack(raw[8:].replace(b"}}", b'},"biases.0":7}', 1), b""),
    lambda raw: pack(b'{"__metadata__":{},"__metadata__":{}}', b""),
])
def test_damaged_file(damage, path):
    MLP([4, 8, 3], seed=0).save(path)
    path.write_bytes(damage(path.read_bytes()))
    started = time.perf_counter()
    refused(path, "path: expected a file of safetensors", "")
    assert time.perf_counter() - started < 30               # far from it, on any machine


@pytest.mark.parametrize("change", [
    *({"dtype": dtype} for dtype in ("F128", "BF16", "f32", 7, None, ["F32"])),
    *({"dtype": dtype, "shape": [n]} for dtype, n in (("BF16", 16), ("C64", 4), ("F8_E4M3", 32))),
    *({"shape": shape} for shape in (
        [-4, -2], [4, 2.0], [True, 8], 8, None, [8, None], [2**40, 2**40], [0, 2**62, 2**62], [1] * 100 + [8],
        [9], [7], [2**70], "8", {"8": 8})),
    *({"data_offsets": offsets} for offsets in (
        [0, 31], [0, 33], [32, 0], [-32, 0], [32, 64], [0], [0, 32, 64], [0.0, 32.0], [False, 32], None, "ab",
        [2**63, 2**63 + 32])),
], ids=str)
def test_wrong_header(path, change):
    """Of an array that the model does not even have."""
    field = {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}
    add_before(path, {"a": field}, 32)
    refused(path, "path: expected a model of fastmlp", "an array 'a', which does not belong")
    add_before(path, {"a": {**field, **change}}, 32)
    refused(path, "path: expected a file of safetensors", "")


def add_before(path, fields, nbytes):
    """A model, and before its arrays others in that many bytes."""
    MLP([4, 3], seed=0).save(path)
    header, data = unpack(path.read_bytes())
    for name in header.keys() - {"__metadata__"}:
        header[name]["data_offsets"] = [n + nbytes for n in header[name]["data_offsets"]]
    path.write_bytes(pack({**header, **fields}, b"\0" * nbytes + data))


def test_a_header_of_any_length(path):
    """What it claims is compared with the file and a limit first; names in messages are cut."""
    MLP([4, 3], seed=0).save(path)
    raw = path.read_bytes()
    header, data = unpack(raw)
    text = json.dumps(header).encode()
    path.write_bytes(pack(text + b" " * (2**24 - len(text)), data))
    same(fastmlp.load(path), MLP([4, 3], seed=0))
    path.write_bytes(pack(text + b" " * (2**24 - len(text) + 1), data))
    refused(path, "path: expected a file of safetensors", f"a header of {2**24 + 1} bytes")
    for length in (len(raw) - 7, len(raw), 2**24, 2**64 - 1):
        path.write_bytes(struct.pack("<Q", length) + raw[8:])
        refused(path, "path: expected a file of safetensors", f"a header of {length} bytes")
    add_before(path, {"x" * 10**6: {"dtype": "F32", "shape": [8], "data_offsets": [8, 40]}}, 40)
    refused(path, "path: expected a file of safetensors", "")


@pytest.mark.parametrize("second", [[0, 32], [16, 48], [40, 72], [64, 96]])
def test_arrays_that_overlap_or_leave_gaps(path, second):
    fields = {name: {"dtype": "F32", "shape": [8], "data_offsets": place}
              for name, place in (("a", [0, 32]), ("b", second))}
    add_before(path, fields, second[1])
    refused(path, "path: expected a file of safetensors", "")


def test_truth_values_that_are_none(path):
    best = Best()
    best.get_state = lambda: {"flag": np.array([True, False])}
    MLP([4, 3], seed=0).save(path, callbacks=[best])
    raw = path.read_bytes()
    assert raw[-2:] == b"\1\0"
    path.write_bytes(raw[:-1] + b"\2")
    with pytest.raises(ValueError, match="^path: expected a file of safetensors.*truth values"):
        fastmlp.load(path, callbacks=[best])


@pytest.fixture
def full(path):
    """A small file with everything in it: its bytes."""
    model, optimizer, best = MLP([2, 3, 2], dropout=0.5, batch_norm=True, seed=0), fastmlp.Adam(0.1), Best()
    model.fit(np.eye(2), [0, 1], epochs=2, optimizer=optimizer, callbacks=[best], progress=False)
    model.save(path, optimizer, [best])
    return path.read_bytes()


def outcome(path):
    """Loads, with all there is, and goes on training; or the message of the ValueError."""
    optimizer = fastmlp.Adam(0.1)
    try:
        model = fastmlp.load(path, optimizer, [Best()])
    except ValueError as error:
        assert len(str(error)) < 700 + len(str(path))
        return str(error)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")                     # a learning that diverges
        model.fit(np.eye(2)[[0, 1, 0, 1]], [0, 1, 0, 1], epochs=1, optimizer=optimizer, progress=False)
    return ""


def test_cut_at_every_byte(path):
    MLP([1, 1], seed=0).save(path)
    full = path.read_bytes()
    for length in range(len(full)):
        path.write_bytes(full[:length])
        refused(path, "path: expected a file of safetensors", "")


def test_flipped_bytes(full, path, backend):
    """Every one is refused, or is another number in a sound model; nothing crashes or hangs."""
    rng = random.Random(1)
    header = 8 + struct.unpack("<Q", full[:8])[0]
    refusals = 0
    for i in range(400):
        raw = bytearray(full)
        end = header if i % 4 else len(raw)
        for _ in range(rng.choice([1, 1, 2, 8])):
            raw[rng.randrange(end)] = rng.choice([rng.randrange(256), *b'0123456789{}[]",: -.eE'])
        path.write_bytes(raw)
        refusals += outcome(path) != ""
    assert 200 < refusals < 400


def leaves(value, place=()):
    """Every value in nested lists and dicts, and where it is."""
    yield place
    if isinstance(value, (list, dict)):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from leaves(value[key], (*place, key))


JUNK = [None, True, -1, 0, 1, 2**31, 2**63, 2**127, 0.5, 1e308, "", "x" * 1000, [], {}, [[]], [0] * 1000,
        {"name": "relu"}]


def test_junk_in_every_place(full, path):
    header, data = unpack(full)
    text = header["__metadata__"]["fastmlp"]
    for place in leaves(json.loads(text)):
        for junk in JUNK:
            other = [json.loads(text)]
            inside, at = other, 0
            for key in place:
                inside, at = inside[at], key
            inside[at] = junk
            path.write_bytes(pack({**header, "__metadata__": {"fastmlp": json.dumps(other[0])}}, data))
            outcome(path)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
@pytest.mark.parametrize("call", ["fastmlp.load(path)", "model.save(path)"])
def test_little_memory(path, call):
    """However much there is: a MemoryError, and not the end of the process, and no panic is printed."""
    MLP([1000, 2000], init="zeros").save(path)              # 8 MB
    before = path.read_bytes()
    code = ("import resource, sys, fastmlp, safetensors.numpy\n"
            "path, seen = sys.argv[1], []\n"
            "model = fastmlp.load(path)\n"
            "for extra in range(0, 2**26, 2**20):\n"
            "    used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
            "    resource.setrlimit(resource.RLIMIT_AS, (used + extra, resource.RLIM_INFINITY))\n"
            f"    try: {call}\n"
            "    except MemoryError as error: seen.append(len(str(error)) < 500)\n"
            "    else: seen.append('done')\n"
            "    finally: resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)\n"
            "print(all(seen), seen.count(True) > 5, seen[-1])")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True done\n", "")
    assert path.read_bytes() == before


class PanicException(BaseException):
    """As the package raises it."""


@pytest.mark.parametrize("raised, expected", [(PanicException, MemoryError), (KeyboardInterrupt,) * 2])
def test_a_panic_of_the_package(path, monkeypatch, raised, expected):
    SMALL[0].save(path)

    def fail(*args):
        raise raised("x" * 1000)

    monkeypatch.setattr(safetensors, "deserialize", fail)
    monkeypatch.setattr(safetensors.numpy, "save", fail)
    for call in (fastmlp.load, SMALL[1].save):
        with pytest.raises(expected) as caught:
            call(path)
        assert raised is KeyboardInterrupt or len(str(caught.value)) < 500
    monkeypatch.undo()
    assert which(fastmlp.load(path)) == 0


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


def test_a_header_that_could_not_be_read_is_not_written(path):
    class Talkative(Best):
        def get_state(self):
            return {"x" * 2**24: 1}

    with pytest.raises(ValueError, match="can be read") as raised:
        MLP([4, 3]).save(path, callbacks=[Talkative()])
    assert len(str(raised.value)) < 500
    assert not path.exists()
