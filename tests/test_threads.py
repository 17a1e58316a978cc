"""The worker team: how many threads, forks, several callers at once, idling, and the end of the process."""
from __future__ import annotations

import math
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fastmlp
import fastmlp.functional as F
from fastmlp import MLP, SGD, threads
from fastmlp.network import Samples

LAYERS, BATCH = [64, 128, 128, 10], 128         # enough work for several threads


@pytest.fixture(autouse=True)
def four_threads():
    before = fastmlp.get_num_threads()
    fastmlp.set_num_threads(4)
    yield
    fastmlp.set_num_threads(before)


def data(seed=0, n=1000):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, LAYERS[0])).astype(np.float32), rng.integers(0, LAYERS[-1], n)


def trained(seed=0, epochs=3):
    """The bits of a model after some training, the same for the same seed."""
    X, y = data(seed)
    model = MLP(LAYERS, seed=seed)
    model.fit(X, y, epochs=epochs, batch_size=BATCH, optimizer=SGD(0.05, momentum=0.9), progress=False)
    return b"".join(w.tobytes() for w in model.weights)


def run_python(code, timeout=60, **environment):
    """Run a script in which everything of this file is known."""
    head = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\nfrom test_threads import *\n"
    return subprocess.run([sys.executable, "-X", "faulthandler", "-c", head + code], capture_output=True,
                          text=True, timeout=timeout, env={**os.environ, **environment})


def succeeds(code, **environment):
    result = run_python(code, **environment)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return result.stdout


def run_in_threads(functions):
    """Run all at once; their results, and the first exception raised here."""
    results = [None] * len(functions)
    start = threading.Barrier(len(functions))

    def run(i):
        try:
            start.wait(30)
            results[i] = functions[i]()
        except BaseException as error:
            results[i] = error

    workers = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(len(functions))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert not worker.is_alive(), "a thread hangs"
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


# How many -------------------------------------------------------------------------------------------------

def test_set_and_get():
    for n in (1, 2, 3, np.int64(5)):
        fastmlp.set_num_threads(n)
        assert fastmlp.get_num_threads() == n
        assert type(fastmlp.get_num_threads()) is int


@pytest.mark.parametrize("wrong, error", [(0, ValueError), (-1, ValueError), (1.0, TypeError),
                                          ("2", TypeError), (None, TypeError), (True, TypeError)])
def test_bad_number(wrong, error):
    with pytest.raises(error, match="^n: "):
        fastmlp.set_num_threads(wrong)
    assert fastmlp.get_num_threads() == 4


@pytest.mark.parametrize("many", [300, 2**31 - 1, 2**40, 2**70])
def test_more_than_anybody_has(many):
    """Either refused, or as good as any other number."""
    model, (X, y) = MLP(LAYERS, seed=0), data()
    expected = model.forward(X)
    try:
        fastmlp.set_num_threads(many)
    except ValueError:
        return
    np.testing.assert_array_equal(model.forward(X), expected)
    assert np.isfinite(model.train_step(X, y, SGD(0.1)))


REPORT = "print(fastmlp.get_num_threads())"


def test_environment():
    assert succeeds(REPORT, FASTMLP_NUM_THREADS="3") == "3\n"
    assert int(succeeds(REPORT, FASTMLP_NUM_THREADS="")) >= 1


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5", "\u00b2"])
def test_bad_environment(wrong):
    result = run_python(REPORT, FASTMLP_NUM_THREADS=wrong)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: FASTMLP_NUM_THREADS: expected an integer from 1 to 256, got")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_default_respects_affinity():
    processors = sorted(os.sched_getaffinity(0))
    code = "import os; os.sched_setaffinity(0, {%d}); import fastmlp; print(fastmlp.get_num_threads())"
    for processor in (processors[0], processors[-1]):
        result = subprocess.run([sys.executable, "-c", code % processor], capture_output=True, text=True,
                                env={**os.environ, "FASTMLP_NUM_THREADS": ""})
        assert result.stdout == "1\n", result.stderr


@pytest.mark.parametrize("quota, expected", [(math.inf, 8), (0.5, 1), (1.0, 1), (1.5, 2), (3.0, 3),
                                             (100.0, 8)])
def test_default_respects_the_quota(quota, expected, monkeypatch):
    monkeypatch.delenv("FASTMLP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(threads, "_quota", lambda: quota)
    assert threads._default() == expected


@pytest.mark.parametrize("files, expected", [
    ({"cpu.max": "max 100000\n"}, math.inf),
    ({"cpu.max": "150000 100000\n"}, 1.5),
    ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
    ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
    ({}, math.inf),
])
def test_quota(files, expected, monkeypatch):
    def read_text(self, *args, **kwargs):
        if self.is_relative_to("/sys/fs/cgroup"):
            name = str(self.relative_to("/sys/fs/cgroup"))
            if name in files:
                return files[name]
        raise FileNotFoundError(self)

    monkeypatch.setattr(Path, "read_text", read_text)
    assert threads._quota() == expected


# Fork -----------------------------------------------------------------------------------------------------

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

FORK = """
fastmlp.set_num_threads(3)
expected = trained()
for _ in range(3):
    child = os.fork()
    if child == 0:
        same = trained() == expected
        grandchild = os.fork()
        if grandchild == 0:
            os._exit(0 if trained() == expected else 2)
        same = same and os.waitpid(grandchild, 0)[1] == 0 and trained() == expected
        os._exit(0 if same else 1)
    assert trained() == expected            # at once with the child
    assert os.waitpid(child, 0)[1] == 0
    assert trained() == expected
print("done")
"""


@needs_fork
def test_fork():
    """Training goes on in the parent, the child and the grandchild, on teams of their own."""
    assert succeeds(FORK) == "done\n"


@needs_fork
def test_fork_before_the_first_training():
    code = """
child = os.fork()
if child == 0:
    trained()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
trained()
print("done")
"""
    assert succeeds(code) == "done\n"


@needs_fork
def test_fork_in_a_callback():
    """A model goes on training where it is, in parent and child."""
    code = """
fastmlp.set_num_threads(2)
X, y = data()
model = MLP(LAYERS, seed=0)
ids = []
def fork(model, epoch, logs):
    if epoch == 0:
        ids.append(os.fork())
model.fit(X, y, epochs=3, batch_size=BATCH, optimizer=SGD(0.05, momentum=0.9), callbacks=[fork],
          progress=False)
same = b"".join(w.tobytes() for w in model.weights) == trained()
if ids[0] == 0:
    os._exit(0 if same else 1)
assert os.waitpid(ids[0], 0)[1] == 0
assert same
print("done")
"""
    assert succeeds(code) == "done\n"


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork_while_another_thread_trains():
    """The child has none of the other thread's calls, and a team of its own; also for the same model."""
    code = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
fastmlp.set_num_threads(2)
X, y = data(n=4000)
expected = trained()
model = MLP(LAYERS, seed=0)
stop = threading.Event()
thread = threading.Thread(target=model.fit, args=(X, y), daemon=True, kwargs=dict(
    epochs=10**6, optimizer=SGD(1e-6), progress=False, callbacks=[lambda *args: stop.is_set()]))
thread.start()
time.sleep(0.1)
for i in range(5):
    child = os.fork()
    if child == 0:
        ok = trained() == expected and np.isfinite(model.forward(X)).all()
        ok = ok and np.isfinite(model.train_step(X, y, SGD(1e-6)))
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    time.sleep(0.02)
stop.set()
thread.join(30)
assert not thread.is_alive()
print("done")
"""
    assert succeeds(code) == "done\n"


@needs_fork
def test_multiprocessing():
    code = """
fastmlp.set_num_threads(2)
expected = [trained(seed) for seed in range(3)]
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(trained, range(3)) == expected
assert [trained(seed) for seed in range(3)] == expected
print("done")
"""
    assert succeeds(code) == "done\n"


# Several callers at once ----------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [2, 4, 9])
def test_different_models_at_once(n):
    """The same bits as one after another."""
    expected = [trained(seed) for seed in range(n)]
    for _ in range(2):
        assert run_in_threads([lambda seed=seed: trained(seed) for seed in range(n)]) == expected


def test_one_model_for_many_threads():
    model, (X, _) = MLP(LAYERS, seed=0), data()
    expected = model.forward(X)

    def predict(i):
        for _ in range(20):
            rows = slice(i * 10, 1000 - i * 7)
            if not np.array_equal(model.forward(X[rows]), expected[rows]):
                return False
        return True

    assert all(run_in_threads([lambda i=i: predict(i) for i in range(8)]))


def test_one_optimizer_for_many_models():
    """Its state belongs to each model; threads may share it."""
    def with_optimizer(seed, optimizer):
        X, y = data(seed)
        model = MLP(LAYERS, seed=seed)
        model.fit(X, y, epochs=2, batch_size=BATCH, optimizer=optimizer, progress=False)
        return b"".join(w.tobytes() for w in model.weights)

    expected = [with_optimizer(seed, SGD(0.05, momentum=0.9)) for seed in range(4)]
    shared = SGD(0.05, momentum=0.9)
    assert run_in_threads([lambda seed=seed: with_optimizer(seed, shared) for seed in range(4)]) == expected


@pytest.mark.parametrize("call", ["fit", "train_step"])
def test_second_training_of_one_model_is_refused(call, backend):
    """RuntimeError for whoever comes second, also between two epochs; the first goes on unhindered."""
    X, y = data()

    def first(model, callbacks=()):
        model.fit(X, y, epochs=2, batch_size=BATCH, optimizer=SGD(0.05), callbacks=callbacks, progress=False)
        return b"".join(w.tobytes() for w in model.weights)

    expected = first(MLP(LAYERS, seed=0))
    model = MLP(LAYERS, seed=0)
    in_fit, tried = threading.Event(), threading.Event()

    def wait(model, epoch, logs):
        in_fit.set()
        tried.wait(30)

    results = []
    thread = threading.Thread(target=lambda: results.append(first(model, [wait])), daemon=True)
    thread.start()
    try:
        assert in_fit.wait(30)
        with pytest.raises(RuntimeError, match="trained by another thread"):
            if call == "fit":
                model.fit(X, y, progress=False)
            else:
                model.train_step(X, y, SGD(0.05))
    finally:
        tried.set()
        thread.join(30)
    assert results == [expected]


def test_second_fit_at_any_moment():
    """Whenever a second fit comes while the first runs, it is the second that is refused."""
    X, y = data(n=4000)
    model, stop = MLP(LAYERS, seed=0), threading.Event()
    errors, refused = [], 0

    def first():
        try:
            model.fit(X, y, epochs=10**6, batch_size=BATCH, optimizer=SGD(1e-6), progress=False,
                      callbacks=[lambda *args: stop.is_set()])
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=first, daemon=True)
    thread.start()
    time.sleep(0.05)
    try:
        for _ in range(200):
            try:
                model.fit(X[:1], y[:1], epochs=1, optimizer=SGD(1e-6), progress=False)
            except RuntimeError:
                refused += 1
    finally:
        stop.set()
        thread.join(30)
    assert not errors
    assert refused == 200


def test_questions_while_it_trains():
    """Anything that only reads may be asked from another thread, and training takes no notice."""
    code = """
fastmlp.set_num_threads(2)
X, y = data()
options = dict(epochs=30, batch_size=BATCH, progress=False)
def bits(model):
    return b"".join(w.tobytes() for w in model.weights)
expected = MLP(LAYERS, seed=0)
expected.fit(X, y, **options)
for _ in range(3):
    model = MLP(LAYERS, seed=0)
    thread = threading.Thread(target=model.fit, args=(X, y), kwargs=options)
    thread.start()
    while thread.is_alive():
        model.workspace_nbytes(64)
        model.predict(X[:50])
        model.evaluate(X[:50], y[:50])
        repr(model)
    thread.join()
    assert bits(model) == bits(expected)
print("done")
"""
    assert succeeds(code) == "done\n"


def test_a_refused_call_leaves_the_model_usable():
    X, y = data()
    model = MLP(LAYERS, seed=0)
    with pytest.raises(TypeError):
        samples = Samples(X.astype(complex), y.astype(np.intp), batch_size=8)
        model._engine.train(samples, 0, 1, SGD(0.1), (0.0, 0.0), 2)
    assert np.isfinite(model.train_step(X, y, SGD(0.1)))


def test_dense_backward_in_threads(dtype):
    """Other sizes in every thread, growing and shrinking: nobody writes into another's scratch."""
    rng = np.random.default_rng(0)
    layers = [[rng.standard_normal(shape).astype(dtype) for shape in ((m, n), (m, k), (k, n), (m, n))]
              for m, k, n in [(70, 90, 50), (5, 3, 200), (130, 64, 64), (1, 300, 7)]]
    expected = [F.dense_backward(*layer, "tanh") for layer in layers]

    def run(first):
        for i in range(first, first + 200):
            for got, want in zip(F.dense_backward(*layers[i % 4], "tanh"), expected[i % 4], strict=True):
                np.testing.assert_array_equal(got, want)

    run_in_threads([partial(run, first) for first in range(4)])


# Idle, and the end ----------------------------------------------------------------------------------------

def test_no_processor_time_when_idle():
    trained()
    time.sleep(0.01)
    spent = []
    for _ in range(3):                          # other threads of the test run may wake now and then
        before = time.process_time()
        time.sleep(0.3)
        spent.append(time.process_time() - before)
    assert min(spent) < 0.02


def test_workers_are_reused():
    if not os.path.exists("/proc/self/task"):
        pytest.skip("needs /proc")
    code = """
fastmlp.set_num_threads(3)
trained()
before = len(os.listdir("/proc/self/task"))
for _ in range(5):
    trained()
    MLP(LAYERS, seed=0).forward(data()[0])
assert len(os.listdir("/proc/self/task")) == before
print("done")
"""
    assert succeeds(code) == "done\n"


@pytest.mark.skipif(not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2,
                    reason="needs Linux and two processors")
def test_workers_do_not_share_the_callers_processor():
    """A worker that sleeps where the caller runs goes elsewhere, and may run anywhere afterwards."""
    succeeds("""
fastmlp.set_num_threads(2)
def tasks():
    return {int(name) for name in os.listdir("/proc/self/task")}
def processor(task):
    return int(Path(f"/proc/self/task/{task}/stat").read_text().rpartition(")")[2].split()[36])
model, (X, y), before = MLP(LAYERS), data(), tasks()
model.forward(X)
(worker,) = tasks() - before
both, allowed, apart = (os.getpid(), worker), os.sched_getaffinity(0), 0
for _ in range(20):
    for task in both:
        os.sched_setaffinity(task, {min(allowed)})
    model.forward(X)
    time.sleep(0.01)
    for task in both:
        os.sched_setaffinity(task, allowed)
    model.forward(X)
    apart += processor(worker) != processor(os.getpid())
assert apart >= 15, apart
assert os.sched_getaffinity(worker) == allowed
""")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_more_threads_than_processors():
    """Four threads on one processor give way to each other."""
    code = """
fastmlp.set_num_threads(1)
expected = trained()
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
fastmlp.set_num_threads(4)
assert trained() == expected
print("done")
"""
    assert succeeds(code) == "done\n"


@pytest.mark.parametrize("end", ["", "sys.exit(0)", "os._exit(0)"])
def test_exit_right_after_training(end):
    for _ in range(2):
        assert succeeds(f"fastmlp.set_num_threads(4)\ntrained(epochs=1)\n{end}") == ""


def test_exit_while_a_daemon_thread_trains():
    code = """
fastmlp.set_num_threads(2)
X, y = data(n=4000)
thread = threading.Thread(target=MLP(LAYERS, seed=0).fit, args=(X, y), daemon=True,
                          kwargs=dict(epochs=10**6, progress=False))
thread.start()
time.sleep(0.2)
assert thread.is_alive()
"""
    for _ in range(2):
        assert succeeds(code) == ""


assert multiprocessing                          # for the scripts above
