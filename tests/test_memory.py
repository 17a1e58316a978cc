"""What training holds: nothing new in the steady state, and no more than was stated."""
from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

from fastmlp import MLP, SGD
from fastmlp._core import threads
from fastmlp._core.network import Samples

MB = 1 << 20
NEEDS_PROC = pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs /proc")


def images(n, rng):
    return rng.integers(0, 256, (n, 784), dtype=np.uint8), rng.integers(0, 10, n)


class Counted:
    """Runs of the engine over a model, with the Python memory that each takes."""

    def __init__(self, dtype, X, y, options, threads):
        self.model = MLP([X.shape[1], 64, 32, 10], dtype=dtype, seed=0)
        self.optimizer = SGD(1e-6, **options)
        self.samples = Samples(X, y, None, np.random.default_rng(0).permutation(len(X)), 4)
        self.threads = threads

    def check(self):
        """A thousand steps take as many blocks and bytes of Python memory as ten: those of one call. In a run
        of five, as free lists, the garbage collector and other threads allocate now and then too."""
        self.run(2)                             # makes the workspace and the workers
        kept, peak = (min(numbers) for numbers in zip(*(self.run(10) for _ in range(5))))
        for _ in range(5):
            kept_long, peak_long = self.run(1000)
            # A block a step would be 990; and not a byte a step.
            if kept_long - kept < 100 and peak_long - peak < 990 and peak_long < 4096:
                return
        raise AssertionError(f"blocks: {kept_long} after {kept}, bytes: {peak_long} after {peak}")

    def run(self, steps):
        """Blocks kept, and the highest number of bytes held, by a run of so many steps."""
        gc.collect()
        tracemalloc.start()
        try:
            blocks = sys.getallocatedblocks()
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            run = self.model.core.engine.begin(self.samples, self.optimizer)
            run.steps(0, steps, (0.0, 0.0), self.threads)
            del run
            return sys.getallocatedblocks() - blocks, tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}], ids=str)
@pytest.mark.parametrize("name", ["uint8", "float32", "float64"])
def test_nothing_is_allocated_in_the_steady_state(name, options, threads, dtype, rng):
    X, y = images(4000, rng)
    Counted(dtype, X.astype(name), y.astype(np.intp), options, threads).check()


def test_probability_rows_and_values(dtype, rng):
    X, y = images(4000, rng)
    one_hot = np.eye(10)[y]
    for loss, targets in (("cross_entropy", one_hot.astype(np.uint8)), ("mean_squared_error", one_hot)):
        counted = Counted(dtype, X, targets, {}, 1)
        counted.model = MLP([784, 64, 32, 10], loss=loss, dtype=dtype, seed=0)
        counted.check()


def test_epochs_of_fit_leave_only_their_history(rng):
    X, y = images(500, rng)
    blocks = []

    def count(model, epoch, logs):
        gc.collect()
        blocks.append(sys.getallocatedblocks())

    MLP([784, 16, 10], seed=0).fit(X, y, epochs=60, callbacks=[count], progress=False)
    grown = blocks[-1] - blocks[9]
    assert grown < 50 * 8                       # an epoch leaves two floats in lists


def test_train_step_and_forward_leave_nothing(backend, dtype, rng):
    X, y = images(20, rng)
    model, optimizer = MLP([784, 16, 10], dtype=dtype, seed=0), SGD(1e-6, momentum=0.9)
    out = np.empty((20, 10), dtype)

    def calls(n):
        for _ in range(n):
            model.train_step(X, y, optimizer)
            model.forward(X, out=out)
            model.loss_and_gradients(X, y)
            model.predict_proba(X)

    def grown():
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        calls(30)
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    calls(3)
    tracemalloc.start()
    try:
        # The interpreter's free lists take their time to fill; a leak of one object a call keeps growing.
        assert any(grown() < 30 * 16 for _ in range(20))
    finally:
        tracemalloc.stop()


def test_optimizer_does_not_keep_models_alive(rng):
    X, y = images(20, rng)
    optimizer = SGD(0.1, momentum=0.9)
    model = MLP([784, 16, 10], seed=0)
    model.train_step(X, y, optimizer)
    gone = weakref.ref(model.core.parameters)
    del model
    gc.collect()
    assert gone() is None


# Stated and measured --------------------------------------------------------------------------------------

def test_workspace_holds_what_a_step_needs(backend, dtype, monkeypatch):
    """At least inputs, activations and deltas, and not much more beside the transposed weights."""
    for layers, batch in (([784, 256, 128, 10], 128), ([4, 16, 3], 16), ([33, 7], 5)):
        model = MLP(layers, dtype=dtype)
        monkeypatch.setattr(threads, "_num_threads", 1)
        size = model.workspace_nbytes(batch)
        assert isinstance(size, int)
        least = dtype.itemsize * batch * (layers[0] + 2 * sum(layers[1:-1]) + layers[-1])
        padding = 8 * 64 * (len(layers) + 1) * (2 * batch + max(layers))
        scratch = 128 * 1024                    # of a thread, whatever the network
        assert least <= size <= 1.5 * least + 2 * model.core.parameters.buffer.nbytes + padding + scratch
        assert model.workspace_nbytes(2 * batch) > size


SCRIPT = """
import sys, json
import numpy as np
import fastmlp
from fastmlp import MLP, SGD
from fastmlp._core import threads
from fastmlp._core.network import Samples

def status(key):        # bytes; VmHWM is the largest VmRSS so far, of this program alone
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key + ":")) * 1024

rng = np.random.default_rng(0)
fastmlp.set_num_threads(2)
warm = MLP([8, 8, 2]); warm.fit(np.zeros((9, 8)), np.zeros(9, int), progress=False, epochs=1)
rng.integers(0, 256, (10, 784), dtype=np.uint8)
"""


def measured(code):
    """What a script prints in the end, as JSON."""
    result = subprocess.run([sys.executable, "-c", SCRIPT + code], capture_output=True, text=True,
                            timeout=120, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"})
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@NEEDS_PROC
@pytest.mark.parametrize("shuffle, momentum", [(True, 0.9), (False, 0.0)])
def test_fit_stays_within_the_promise(shuffle, momentum):
    """MNIST in size: at most data + 3 x parameters + the stated workspace + 30 MB above an empty program."""
    peak, data, parameters, workspace = measured(f"""
before = status("VmRSS")
X = rng.integers(0, 256, (60000, 784), dtype=np.uint8)
y = rng.integers(0, 10, 60000)
model = MLP([784, 128, 128, 10], seed=0)
model.fit(X, y, epochs=1, batch_size=128, optimizer=SGD(1e-6, momentum={momentum}), shuffle={shuffle},
          validation_data=(X[:10000], y[:10000]), progress=False)
print(json.dumps([status("VmHWM") - before, X.nbytes + y.nbytes, model.core.parameters.buffer.nbytes,
                  model.workspace_nbytes(128)]))
""")
    assert data <= peak <= data + 3 * parameters + workspace + 30 * MB


@NEEDS_PROC
def test_workspace_is_what_was_stated():
    stated, grown = measured("""
X, y = np.zeros((4096, 784), np.uint8), np.zeros(4096, int)
X += 1; y += 1
model = MLP([784, 1024, 1024, 10], seed=0)
stated = model.workspace_nbytes(4096)
before = status("VmRSS")
model.train_step(X, y, SGD(1e-6))
print(json.dumps([stated, status("VmRSS") - before]))
""")
    assert 0.8 * stated - 2 * MB <= grown <= stated + 4 * MB


@NEEDS_PROC
@pytest.mark.parametrize("name", ["float64", "int32", "longdouble", ">f4"])
def test_X_is_never_copied_as_a_whole(name):
    size, *grown = measured(f"""
X = np.ones((20000, 784), {name!r})
y = np.ones(20000, int)
model = MLP([784, 32, 10], seed=0)
stated = model.workspace_nbytes(128)
sizes = [X.nbytes]
for call in (lambda: model.fit(X, y, epochs=1, optimizer=SGD(1e-6), progress=False),
             lambda: model.fit(X, y, epochs=1, optimizer=SGD(1e-6), shuffle=False, progress=False),
             lambda: model.evaluate(X, y), lambda: model.predict(X), lambda: model.forward(X)):
    before = status("VmHWM")
    call()
    sizes.append(status("VmHWM") - before)
print(json.dumps(sizes))
""")
    assert size >= 20000 * 784 * 4
    assert max(grown) < 20000 * 784 * 4 / 2     # blocks of rows; all of X would be 63 MB in float32


@NEEDS_PROC
def test_threads_do_not_leak():
    """Models come and go; the process does not grow."""
    (grown,) = measured("""
X, y = np.ones((2000, 784), np.uint8), np.ones(2000, int)
def one():
    model = MLP([784, 256, 10], seed=0)
    model.fit(X, y, epochs=1, batch_size=500, optimizer=SGD(1e-6, momentum=0.9), progress=False)
    model.loss_and_gradients(X, y)
    model.forward(X)
for _ in range(3): one()
before = status("VmRSS")
for _ in range(20): one()
print(json.dumps([status("VmRSS") - before]))
""")
    assert grown < 8 * MB
