"""The same seed, the same bits: whatever the threads, the instruction set, the batch, the kind of input."""
from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import MLP, SGD, LeakyReLU, kernels, training
from fastmlp._core.network import Samples
from fastmlp.backends import cython

FMA_ISAS = [isa for isa in kernels.available_isas() if isa != "portable"]
THREADS = [1, 2, 3, 4]
STEPS = 60

# layers, batch, options of the model, options of the optimizer. The engine gives a thread a million
# operations or none: 64-128-128-10 with 128 rows and 784-256-128-10 keep four threads busy, the small ones
# never more than one.
CASES = [
    ([4, 16, 3], 16, {}, {}),
    ([7, 33, 17, 3], 7, {"activation": "tanh"}, {"momentum": 0.9}),
    ([7, 33, 17, 3], 32, {"activation": "sigmoid"}, {"momentum": 0.9, "nesterov": True}),
    ([64, 128, 128, 10], 128, {}, {}),
    ([64, 128, 128, 10], 128, {"activation": LeakyReLU(0.1)}, {"momentum": 0.9, "weight_decay": 1e-3}),
    ([70, 129, 131, 11], 127, {"activation": "tanh"}, {"momentum": 0.9, "nesterov": True}),
    ([64, 128, 128, 10], 128, {"activation": "sigmoid", "loss": "mean_squared_error"},
     {"weight_decay": 1e-3}),
    ([784, 256, 128, 10], 32, {}, {"momentum": 0.9}),
    ([64, 128, 128, 10], 128, {"activation": ["gelu", "silu"]}, {"momentum": 0.9}),
    ([70, 129, 131, 37, 11], 127, {"activation": ["elu", "softplus", "gelu_tanh"]}, {}),
    ([70, 129, 11], 60, {"activation": "selu"}, {}),
]
LONG_CASES = [                                  # a few steps: sums across the blocks of the kernels
    ([784, 256, 128, 10], 128, {}, {}),
    ([1100, 40, 10], 600, {"activation": "tanh"}, {"momentum": 0.9}),
    ([70, 45, 10], 600, {"activation": "sigmoid"}, {}),
]


def data(layers, batch, loss, rng):
    n = 4 * batch + batch // 2                  # the last batch is half a batch
    X = rng.integers(0, 255, (n, layers[0])).astype(np.float32) / 255
    if loss == "mean_squared_error":
        return X, rng.standard_normal((n, layers[-1]))
    return X, rng.integers(0, layers[-1], n)


def trained(case, dtype, steps=STEPS):
    """A model after so many steps of `fit`, 5 an epoch, and its data."""
    layers, batch, options, settings = case
    X, y = data(layers, batch, options.get("loss"), np.random.default_rng(1))
    model = MLP(layers, dtype=dtype, seed=0, **options)
    model.fit(X, y, epochs=steps // 5, batch_size=batch, optimizer=SGD(0.05, **settings), progress=False)
    return model, X, y


def sha256(*arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def hash_of(model):
    assert all(np.isfinite(w).all() for w in model.weights)
    return sha256(*model.weights, *model.biases)


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = fastmlp.get_num_threads()
    yield
    fastmlp.set_num_threads(before)


# Threads --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("case", [*CASES, *LONG_CASES], ids=str)
def test_threads(case, dtype):
    steps = 10 if case in LONG_CASES else STEPS
    hashes = set()
    for n in THREADS:
        fastmlp.set_num_threads(n)
        hashes.add(hash_of(trained(case, dtype, steps)[0]))
    assert len(hashes) == 1
    start = MLP(case[0], dtype=dtype, seed=0, **case[2])
    assert hashes != {hash_of(start)}


@pytest.mark.parametrize("isa", kernels.available_isas())
def test_threads_on_every_isa(isa, dtype, monkeypatch):
    """Also on the portable one, which has its own bits."""
    monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, kernels.load(isa, dtype.name))
    for case in (CASES[3], CASES[5]):
        hashes = set()
        for n in (1, 2, 3):
            fastmlp.set_num_threads(n)
            model, _, _ = trained(case, dtype, 40)
            assert type(model.core.engine._engine) is kernels.load(isa, dtype.name).Engine
            hashes.add(hash_of(model))
        assert len(hashes) == 1


def test_several_threads_really_run():
    """The tests above mean nothing if the engine thinks the work too small for a team."""
    code = """
import os, numpy as np, fastmlp
from fastmlp import MLP, SGD
def threads(): return len(os.listdir("/proc/self/task"))
fastmlp.set_num_threads(4)
before = threads()
model = MLP([4, 16, 3], seed=0)
model.train_step(np.zeros((16, 4)), np.zeros(16, int), SGD(0.1))
assert threads() == before, "a small step needs no team"
model = MLP([64, 128, 128, 10], seed=0)
model.train_step(np.zeros((128, 64)), np.zeros(128, int), SGD(0.1))
assert threads() == before + 3, threads()
"""
    if not os.path.exists("/proc/self/task"):
        pytest.skip("needs /proc")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("loss", ["indices", "probabilities", "values"])
def test_loss_and_gradients_over_threads(loss, dtype, rng):
    name = "mean_squared_error" if loss == "values" else "cross_entropy"
    for layers, n in (([64, 128, 128, 10], 129), ([784, 256, 10], 700), ([33, 70, 7], 600)):
        model = MLP(layers, activation="tanh", loss=name, dtype=dtype, seed=0)
        X = rng.standard_normal((n, layers[0]))
        y = {"indices": rng.integers(0, layers[-1], n),
             "probabilities": rng.dirichlet(np.ones(layers[-1]), n),
             "values": rng.standard_normal((n, layers[-1]))}[loss]
        seen = set()
        for threads in THREADS:
            fastmlp.set_num_threads(threads)
            value, gradients = model.loss_and_gradients(X, y)
            seen.add((value, sha256(*gradients.weights, *gradients.biases)))
        assert len(seen) == 1


def test_forward_over_threads(dtype, rng):
    model = MLP([64, 128, 128, 10], dtype=dtype, seed=0)
    X = rng.standard_normal((1001, 64))
    seen = set()
    for threads in THREADS:
        fastmlp.set_num_threads(threads)
        seen.add((model.forward(X).tobytes(), model.predict_proba(X).tobytes(),
                  json.dumps(model.evaluate(X, np.zeros(1001, int)))))
    assert len(seen) == 1


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("kind", ["real", "uint8", "strided"])
def test_forward_of_few_rows_over_threads(kind, batch_norm, dtype, rng):
    """So many weights that the threads share the columns of the layers."""
    model = MLP([500, 1301, 900, 9, 7], activation="tanh", batch_norm=batch_norm, dtype=dtype, seed=0)
    assert sum(w.size for w in model.weights) > 4 * 400_000
    X = rng.integers(0, 9, (30, 500)).astype("uint8" if kind == "uint8" else dtype)
    if batch_norm:
        model.fit(X, rng.integers(0, 7, 30), epochs=1, batch_size=30, progress=False)
    fastmlp.set_num_threads(1)
    expected = model.forward(X)
    for threads, rows in itertools.product(THREADS, (1, 2, 7, 12, 30)):
        fastmlp.set_num_threads(threads)
        x = np.repeat(X[:rows], 2, axis=0)[::2] if kind == "strided" else X[:rows]
        out = np.full((rows, 14), np.nan, dtype)[:, ::2] if kind == "strided" else np.empty((rows, 7), dtype)
        assert model.forward(x, out=out) is out
        np.testing.assert_array_equal(out, expected[:rows], err_msg=f"{threads} threads, {rows} rows")


# Instruction sets -----------------------------------------------------------------------------------------

def report(steps):
    """Hashes of what is trained in so many steps. `.ci/neon` compares them between machines."""
    hashes = {"isa": fastmlp.active_isa()}
    for dtype in ("float32", "float64"):
        for case in CASES:
            model, X, y = trained(case, dtype, steps)
            hashes[f"{case} {dtype}"] = hash_of(model)
            hashes[f"forward {case} {dtype}"] = sha256(model.forward(X), model.forward(X[:1]))
            loss, gradients = model.loss_and_gradients(X, y)
            hashes[f"gradients {case} {dtype}"] = loss.hex() + sha256(*gradients.weights, *gradients.biases)
        for case in LONG_CASES:
            model, X, y = trained(case, dtype, min(steps, 10))
            hashes[f"{case} {dtype}"] = hash_of(model)
            if not case[2].get("loss"):
                hashes[f"probabilities {case} {dtype}"] = sha256(model.predict_proba(X))
    return hashes


REPORT = """
import sys
sys.path.insert(0, sys.argv[1])
import json
import test_bits
print(json.dumps(test_bits.report(test_bits.STEPS)))
"""


def report_of(isa, threads):
    environment = {**os.environ, "FASTMLP_ISA": isa, "FASTMLP_NUM_THREADS": str(threads)}
    result = subprocess.run([sys.executable, "-c", REPORT, os.path.dirname(__file__)], env=environment,
                            capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    hashes = json.loads(result.stdout)
    assert hashes.pop("isa") == isa
    return hashes


@pytest.mark.any_isa
@pytest.mark.skipif(not FMA_ISAS, reason="needs an instruction set with FMA")
def test_every_fma_isa():
    """One hash of everything, over instruction sets and, at once, over threads."""
    first, *others = (report_of(isa, threads) for isa, threads in zip([*FMA_ISAS, FMA_ISAS[0]], (1, 2, 3)))
    for other in others:
        assert other == first


# Batches and inputs ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("isa", kernels.available_isas())
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "gelu", "softplus"])
def test_row_alone_or_in_a_batch(activation, isa, dtype, rng, monkeypatch):
    monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, kernels.load(isa, dtype.name))
    for layers in ([7, 33, 17, 3], [64, 128, 128, 10], [1100, 300, 5], [128, 150, 1]):
        loss = "binary_cross_entropy" if layers[-1] == 1 else "cross_entropy"
        model = MLP(layers, activation=activation, loss=loss, dtype=dtype, seed=0)
        for b in model.biases:
            b[...] = rng.standard_normal(b.shape)
        X = rng.standard_normal((1000, layers[0])).astype(dtype)
        for call in (model.forward, model.predict_proba):
            whole = call(X)
            for i in (0, 1, 13, 95, 96, 499, 500, 998, 999):
                assert_array_equal(call(X[i:i + 1])[0], whole[i])
            for start in (0, 6, 493, 993):
                assert_array_equal(call(X[start:start + 7]), whole[start:start + 7])
            assert_array_equal(call(X[::-1])[::-1], whole)
            assert_array_equal(call(X[5:6].repeat(100, axis=0)), whole[5:6].repeat(100, axis=0))


@pytest.mark.parametrize("isa", kernels.available_isas())
def test_row_alone_on_large_weights(isa, dtype, rng, monkeypatch):
    """One row reads the weights in another order, and sums in the same."""
    monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, kernels.load(isa, dtype.name))
    model = MLP([1503, 1501, 5], "tanh", batch_norm=True, dtype=dtype, seed=0)
    model.biases[0][...] = rng.standard_normal(1501)
    X = rng.standard_normal((9, 1503)).astype(dtype)
    together = model.forward(X)
    for i in (0, 8):
        np.testing.assert_array_equal(model.forward(X[i:i + 1])[0], together[i])


@pytest.mark.parametrize("isa", kernels.available_isas())
def test_row_left_over_after_whole_blocks(isa, dtype, rng, monkeypatch):
    """It lies in memory as they do, not as a row alone does."""
    fastmlp.set_num_threads(1)
    monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, kernels.load(isa, dtype.name))
    model = MLP([3, 70, 40], dtype=dtype, seed=0)
    X = rng.standard_normal((1025, 3)).astype(dtype)
    assert_array_equal(model.forward(X)[1024], model.forward(X[1024:])[0])


def test_row_alone_in_every_dtype(dtype, rng):
    model = MLP([40, 33, 3], dtype=dtype, seed=0)
    X = rng.integers(0, 255, (1000, 40))
    for name in ("uint8", "float16", "float32", "float64", "longdouble"):
        whole = model.forward(X.astype(name))
        assert_array_equal(whole, model.forward(X.astype(dtype)))
        for i in (0, 500, 999):
            assert_array_equal(model.forward(X[i:i + 1].astype(name))[0], whole[i])


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_kinds_of_X(threads, shuffle, dtype, rng):
    """fit of images in uint8 is fit of their copy as floats, also through a view or a memory map."""
    fastmlp.set_num_threads(threads)
    images, y = rng.integers(0, 255, (700, 784)).astype(np.uint8), rng.integers(0, 10, 700)
    hashes = set()
    for X in (images, images.astype("float32"), images.astype("float64"), images.astype("int64"),
              images.astype("longdouble"), np.asfortranarray(images), np.repeat(images, 2, axis=1)[:, ::2]):
        model = MLP([784, 64, 10], dtype=dtype, seed=0)
        model.fit(X, y, epochs=2, batch_size=128, optimizer=SGD(1e-5), shuffle=shuffle, progress=False)
        hashes.add(hash_of(model))
    assert len(hashes) == 1


def test_runs_of_the_engine_do_not_matter(dtype, rng):
    """fit cuts an epoch into runs by the clock; where it cuts leaves no trace."""
    X, y = rng.standard_normal((1000, 64)), rng.integers(0, 10, 1000)
    optimizer = SGD(0.05, momentum=0.9)
    one, two = (MLP([64, 128, 128, 10], dtype=dtype, seed=0) for _ in range(2))
    history = one.fit(X, y, epochs=1, batch_size=8, optimizer=optimizer, shuffle=False, progress=False)
    samples, totals = Samples(X, y, batch_size=8), (0.0, 0.0)
    for first in range(0, 125, 5):
        totals = two.core.engine.begin(samples, optimizer).steps(first, first + 5, totals, 1)
    assert hash_of(one) == hash_of(two)
    assert history.loss == [totals[0] / 1000] and totals[1] == 1000


@pytest.mark.parametrize("runs", [1, 2, 4])
def test_an_interrupted_epoch_leaves_the_last_step(runs, dtype, rng, monkeypatch):
    """Between two runs the engine keeps the weights to itself; Ctrl-C there gives them back."""
    X, y = rng.standard_normal((1000, 64)), rng.integers(0, 10, 1000)
    one, two = (MLP([64, 100, 60, 10], dtype=dtype, seed=0) for _ in range(2))
    ours, theirs = SGD(0.05, momentum=0.9), SGD(0.05, momentum=0.9)
    train, done = training.train, []

    def interrupted(*args):
        done.append(train(*args))
        if len(done) == runs:
            raise KeyboardInterrupt
        return done[-1]

    monkeypatch.setattr(training, "train", interrupted)
    monkeypatch.setattr(training, "SLOWEST", 1.0)           # an epoch of many runs
    with pytest.raises(KeyboardInterrupt):
        one.fit(X, y, batch_size=4, optimizer=ours, shuffle=False, progress=False)
    assert 0 < one.core.engine.global_step < 250
    for step in range(one.core.engine.global_step):
        two.train_step(X[4 * step:4 * step + 4], y[4 * step:4 * step + 4], theirs)
    assert hash_of(one) == hash_of(two)
    velocities = ours.velocity(one.core.parameters), theirs.velocity(two.core.parameters)
    assert velocities[0].buffer.tobytes() == velocities[1].buffer.tobytes()


def test_the_workspace_leaves_no_trace(dtype, rng):
    """Steps of other sizes in between, gradients, predictions: the next step is the same."""
    X, y = rng.standard_normal((600, 64)), rng.integers(0, 10, 600)
    one, two = (MLP([64, 100, 60, 10], activation="sigmoid", dtype=dtype, seed=0) for _ in range(2))
    for start in range(0, 600, 100):
        rows = slice(start, start + 100)
        two.loss_and_gradients(X[:3] * 1e30, y[:3])
        two.forward(X * np.nan)
        two.loss_and_gradients(X * np.nan, y)
        assert one.train_step(X[rows], y[rows], SGD(0.1)) == two.train_step(X[rows], y[rows], SGD(0.1))
        two.loss_and_gradients(X[rows] * np.inf, y[rows])
    assert hash_of(one) == hash_of(two)
