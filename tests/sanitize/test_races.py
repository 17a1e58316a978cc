"""What threads share, once each, on networks as small as a team of threads takes: for ThreadSanitizer, under
which everything takes a hundred times as long (.ci/sanitize).

Every test compares with the same work on one thread, or done one after another, to the bit.
"""
from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import scipy.sparse

import fastmlp
import fastmlp.functional as F
from fastmlp import MLP, SGD, Adam, Diagnostics, EarlyStopping
from fastmlp.data import Chunks

LAYERS, BATCH = [40, 64, 48, 5], 340        # a batch has work for three threads
ROWS = 2 * BATCH + 30                       # and the rest of an epoch for none


@pytest.fixture(autouse=True)
def three_threads():
    before = fastmlp.get_num_threads()
    fastmlp.set_num_threads(3)
    yield
    fastmlp.set_num_threads(before)


def data(seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((ROWS, LAYERS[0])).astype(dtype), rng.integers(0, LAYERS[-1], ROWS)


def bits(*arrays):
    return b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)


def trained(X, y, optimizer=None, seed=0, epochs=2, **options):
    fitting = {name: options.pop(name) for name in ("callbacks", "log_steps", "sample_weight")
               if name in options}
    model = MLP(LAYERS, seed=seed, **options)
    model.fit(X, y, epochs=epochs, batch_size=BATCH, optimizer=optimizer or SGD(0.01, momentum=0.9),
              progress=False, **fitting)
    return bits(*model.weights, *model.biases)


def at_once(functions):
    """Run them in threads that start together; their results."""
    results, start = [None] * len(functions), threading.Barrier(len(functions))

    def run(i):
        start.wait(60)
        results[i] = functions[i]()

    workers = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(functions))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(300)
        assert not worker.is_alive(), "a thread hangs"
    return results


# A team --------------------------------------------------------------------------------------------------

TRAININGS = {
    "momentum": {},
    "float64": {"dtype": "float64"},
    "bfloat16": {"compute_dtype": "bfloat16"},
    "adam": {"optimizer": lambda: Adam(1e-3, weight_decay=1e-3)},
    "l1 and clip_value": {"optimizer": lambda: SGD(0.01, l1=1e-3, clip_value=0.1)},
    "clip_norm": {"optimizer": lambda: SGD(0.01, clip_norm=0.1)},
    "clip_norm of adam": {"optimizer": lambda: Adam(1e-3, clip_norm=0.1)},
    "batch_norm": {"batch_norm": True},
    "batch_norm, clipped": {"batch_norm": True, "optimizer": lambda: SGD(0.01, clip_norm=0.1)},
    "dropout": {"dropout": 0.3, "activation": "gelu"},
    "log_steps": {"log_steps": True},
    "diagnostics": {"callbacks": lambda: [Diagnostics(1, warn=False)]},
    "sample_weight": {"sample_weight": lambda: np.arange(ROWS) % 3 / 2},
    "early stopping": {"callbacks": lambda: [EarlyStopping(1, monitor="loss")]},
}


@pytest.mark.filterwarnings("ignore:compute_dtype:RuntimeWarning")
@pytest.mark.parametrize("name", TRAININGS)
def test_training(name):
    def run():
        return trained(*data(), **{key: value() if callable(value) else value
                                   for key, value in TRAININGS[name].items()})
    with fastmlp.limit_num_threads(1):
        expected = run()
    assert run() == expected


@pytest.mark.parametrize("raising", [False, True])
def test_training_with_a_loss_of_its_own(raising):
    X, _ = data()
    y = np.zeros((ROWS, LAYERS[-1]), np.float32)
    calls = []

    def loss(z, targets):
        calls.append(threading.get_ident())
        if raising and len(calls) == 3:
            raise ZeroDivisionError
        return float((z ** 2).mean()), 2 * z / z.size

    def run():
        calls.clear()
        model = MLP(LAYERS, loss=loss, seed=0)
        try:
            model.fit(X, y, epochs=2, batch_size=BATCH, optimizer=SGD(0.1), progress=False)
        except ZeroDivisionError:
            pass
        return bits(*model.weights)

    with fastmlp.limit_num_threads(1):
        expected = run()
    assert run() == expected
    assert len(calls) == (3 if raising else 6)


@pytest.mark.parametrize("density", [0.1, 0.5])
def test_training_on_sparse_samples(density):
    _, y = data()
    X = scipy.sparse.random(ROWS, LAYERS[0], density, "csr", np.float32, np.random.default_rng(0))
    with fastmlp.limit_num_threads(1):
        expected = trained(X, y)
    assert trained(X, y) == expected


@pytest.mark.parametrize("what", ["labels", "columns"])
def test_samples_that_are_spoiled_after_the_first_step(what):
    """All threads see it at once."""
    X, y = data()
    if what == "columns":
        X = scipy.sparse.random(ROWS, LAYERS[0], 0.5, "csr", np.float32, np.random.default_rng(0))

    class Spoil:
        def on_step_end(self, model, step, logs):
            (y if what == "labels" else X.indices)[:] = 99

    model = MLP(LAYERS, seed=0)
    with pytest.raises(ValueError, match="changed while"):
        model.fit(X, y, epochs=2, batch_size=BATCH, shuffle=False, callbacks=[Spoil()], progress=False)
    assert all(np.isfinite(w).all() for w in model.weights)


def test_gradients():
    X, y = data()
    model = MLP(LAYERS, batch_norm=True, seed=0)
    with fastmlp.limit_num_threads(1):
        expected = model.loss_and_gradients(X, y)
    loss, found = model.loss_and_gradients(X, y)
    assert loss == expected[0] and bits(*found.weights) == bits(*expected[1].weights)


@pytest.mark.filterwarnings("ignore:compute_dtype:RuntimeWarning")
@pytest.mark.parametrize("compute_dtype", [None, "bfloat16"])
def test_inference_of_many_rows(compute_dtype):
    X, _ = data()
    model = MLP(LAYERS, batch_norm=True, compute_dtype=compute_dtype, seed=0)
    with fastmlp.limit_num_threads(1):
        expected = model.forward(X), model.hidden(X, 1), model.predict(X)
    compiled = model.compile_predict(threads=3)
    for _ in range(3):
        assert bits(model.forward(X), model.hidden(X, 1), model.predict(X)) == bits(*expected)
        assert bits(compiled(X)) == bits(expected[0])


def test_inference_of_few_rows():
    """Each thread has some columns of every layer."""
    model = MLP([300, 900, 1100], seed=0)
    X = np.random.default_rng(0).standard_normal((2, 300)).astype(np.float32)
    with fastmlp.limit_num_threads(1):
        expected = model.forward(X)
    compiled = model.compile_predict(threads=3)
    for _ in range(3):
        assert bits(model.forward(X)) == bits(compiled(X)) == bits(expected)


def test_workers_asleep_awake_and_in_between():
    model, (X, _) = MLP(LAYERS, seed=0), data()
    expected, rng = bits(model.forward(X[:BATCH])), np.random.default_rng(0)
    for microseconds in rng.integers(0, 3000, 40):
        end = time.perf_counter() + microseconds * 1e-6
        while time.perf_counter() < end:
            pass
        assert bits(model.forward(X[:BATCH])) == expected


def test_teams_of_any_size_after_one_another():
    X, y = data()
    expected = trained(X, y, epochs=1)
    for threads in (2, 4, 1, 3):
        fastmlp.set_num_threads(threads)
        assert trained(X, y, epochs=1) == expected


def test_fork():
    """The child has no workers, and makes its own."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    X, y = data()
    expected = trained(X, y, epochs=1)
    child = os.fork()
    if child == 0:
        os._exit(0 if trained(X, y, epochs=1) == expected else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert trained(X, y, epochs=1) == expected


def test_the_end_of_the_process_in_the_middle_of_a_training():
    code = f"""
import sys, threading, time
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_races import *
fastmlp.set_num_threads(3)
X, y = data()
threading.Thread(target=trained, args=(X, y), kwargs={{"epochs": 10**6}}, daemon=True).start()
time.sleep(1)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr) == (0, "")


# Several callers -----------------------------------------------------------------------------------------

def test_four_trainings_at_once():
    """One has the team, the others run on their own threads; one optimizer serves all."""
    X, y = data()
    expected = [trained(X, y, seed=seed) for seed in range(4)]
    shared = SGD(0.01, momentum=0.9)
    assert at_once([lambda seed=seed: trained(X, y, shared, seed) for seed in range(4)]) == expected


def test_one_model_for_four_callers():
    X, y = data()
    model = MLP(LAYERS, seed=0)
    compiled = model.compile_predict(threads=2)
    calls = [lambda: bits(model.forward(X)), lambda: bits(compiled(X)), lambda: bits(model.predict(X[:50])),
             lambda: bits(np.float64(model.evaluate(X, y)["loss"]))]
    expected = [call() for call in calls]
    results = at_once([lambda call=call: [call() for _ in range(4)] for call in calls])
    assert results == [[e] * 4 for e in expected]


def test_one_handle_for_four_callers():
    """More scratch is made than there was, by one of them."""
    X, _ = data()
    model = MLP(LAYERS, seed=0)
    expected = [bits(model.forward(X[i:i + n])) for i, n in enumerate((1, 30, 200, 700))]
    for threads in (1, 2):
        compiled = model.compile_predict(threads=threads)

        def calls(i, n, compiled=compiled):
            out = np.empty_like(model.forward(X[i:i + n]))
            return {bits(compiled(X[i:i + n], out)) for _ in range(10)}

        found = at_once([lambda i=i, n=n: calls(i, n) for i, n in enumerate((1, 30, 200, 700))])
        assert found == [{e} for e in expected]


def test_array_functions_of_four_callers():
    rng = np.random.default_rng(0)
    layers = [[rng.standard_normal(shape).astype(np.float32) for shape in ((m, n), (m, k), (k, n), (m, n))]
              for m, k, n in [(70, 90, 50), (5, 3, 200), (130, 64, 64), (1, 300, 7)]]

    def run(i):
        dy, x, w, y = layers[i]
        return bits(*F.dense_backward(dy, x, w, y, "tanh"), F.softmax(y),
                    F.dense_forward(x, w, activation="gelu"))

    expected = [run(i) for i in range(4)]
    assert at_once([lambda i=i: [run(i) for _ in range(5)] for i in range(4)]) == [[e] * 5 for e in expected]


def test_questions_while_it_trains():
    """Others may read a model that is trained; training takes no notice."""
    X, y = data()
    expected = trained(X, y, epochs=4)
    model, found = MLP(LAYERS, seed=0), []
    thread = threading.Thread(target=lambda: model.fit(
        X, y, epochs=4, batch_size=BATCH, optimizer=SGD(0.01, momentum=0.9), progress=False))
    thread.start()
    while thread.is_alive():
        found.append(model.forward(X[:20]))
        model.evaluate(X[:20], y[:20])
        repr(model)
    thread.join()
    assert bits(*model.weights, *model.biases) == expected
    assert all(np.isfinite(outputs).all() for outputs in found)


def test_a_second_training_of_one_model_is_refused():
    X, y = data()
    model, stop, begun = MLP(LAYERS, seed=0), threading.Event(), threading.Event()

    def callback(*_):
        begun.set()
        return stop.is_set()

    thread = threading.Thread(target=lambda: model.fit(
        X, y, epochs=10**6, batch_size=BATCH, optimizer=SGD(1e-6), progress=False,
        callbacks=[callback]))
    thread.start()
    try:
        assert begun.wait(300)
        for _ in range(20):
            with pytest.raises(RuntimeError, match="trained by another thread"):
                model.train_step(X[:9], y[:9], SGD(1e-6))
    finally:
        stop.set()
        thread.join(300)


def test_a_thread_that_reads():
    """Blocks are read into one buffer while the model trains on the other."""
    X, y = data()
    blocks = [(X[i:i + 100], y[i:i + 100]) for i in range(0, ROWS, 100)]
    model, other = MLP(LAYERS, seed=0), MLP(LAYERS, seed=0)
    options = {"epochs": 2, "batch_size": BATCH, "shuffle": False, "progress": False}
    model.fit(X, y, optimizer=SGD(0.01), **options)
    other.fit(Chunks(blocks, buffer_rows=BATCH), optimizer=SGD(0.01), **options)
    assert bits(*model.weights) == bits(*other.weights)
