"""Processes that come and go: forks at any moment, pools of every kind beside a training, and ends of the
interpreter while threads train."""
from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
import traceback

import numpy as np
import pytest
from faulty import LAYERS, LONG, NEEDS_FORK, bits, program, samples, trained

import fastmlp
from fastmlp import MLP, SGD, CSVLogger, data

pytestmark = pytest.mark.any_isa

SECONDS = 60                            # after which a child that hangs is killed


# Forks -----------------------------------------------------------------------------------------------------

def source_of(X, y):
    return data.Chunks(lambda: ((X[i:i + 100], y[i:i + 100]) for i in range(0, len(X), 100)))


def all_of_it(folder):
    """Train, save, load, compile and read ahead; the bits of all that."""
    path, (X, y) = os.path.join(folder, f"{os.getpid()}.safetensors"), samples()
    model = MLP(LAYERS, seed=3)
    model.fit(source_of(X, y), epochs=1, optimizer=SGD(0.05), progress=False,
              callbacks=[CSVLogger(f"{path}.csv")], checkpoint=f"{path}.run", checkpoint_every=3)
    model.save(path)
    return trained() + bits(fastmlp.load(path)) + model.compile_predict(threads=2)(X).tobytes()


def forked(work):
    """The process of a child that does this work, and then ends as programs do, and not at once."""
    child = os.fork()
    if child:
        return child
    signal.alarm(SECONDS)
    try:
        work()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.exit()


def fork_at_any_moment(forks, folder):
    """While other threads train, save, predict and read ahead. Prints how many children did well."""
    fastmlp.set_num_threads(2)
    X, y = samples()
    expected, stop = all_of_it(folder), threading.Event()
    until = [lambda *args: stop.is_set()]
    large, other = MLP(LAYERS, seed=0), MLP(LAYERS, seed=1)
    handle = other.compile_predict(threads=2)

    def save():
        while not stop.is_set():
            other.save(f"{folder}/other.safetensors")
            fastmlp.load(f"{folder}/other.safetensors")

    def predict():
        while not stop.is_set():
            handle(X)

    def read():
        MLP(LAYERS, seed=0).fit(source_of(X, y), epochs=10**6, optimizer=SGD(1e-6), progress=False,
                                callbacks=until)

    def train():
        large.fit(X, y, epochs=10**6, optimizer=SGD(1e-6), progress=False, callbacks=until)

    def in_child():
        assert all_of_it(folder) == expected
        for model in (large, other):            # whatever the parent was doing with them
            assert np.isfinite(model.train_step(X, y, SGD(1e-6)))

    busy = [threading.Thread(target=function, daemon=True) for function in (save, predict, read, train)]
    for thread in busy:
        thread.start()
    well = 0
    for _ in range(forks):
        time.sleep(random.uniform(0, 0.02))
        well += os.waitpid(forked(in_child), 0)[1] == 0
    stop.set()
    for thread in busy:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert all_of_it(folder) == expected
    print(well)


@NEEDS_FORK
def test_fork_at_any_moment(tmp_path):
    forks = 200 if LONG else 4
    code = f"import test_faults_processes as t; t.fork_at_any_moment({forks}, sys.argv[1])"
    assert program(code, tmp_path, timeout=600) == f"{forks}\n"


def fork_within(kind, folder):
    """At every step of a training, in its callback; parent and children go on to the same bits."""
    fastmlp.set_num_threads(2)
    X, y = samples(n=400)
    parent, children = os.getpid(), []

    class Forks:
        every = 1

        def on_step_end(self, model, step, logs):
            if os.getpid() == parent and step % 2 and forking:
                child = os.fork()
                if child:
                    children.append(child)
                else:
                    signal.alarm(SECONDS)

    def fit(number):
        model, options = MLP(LAYERS, seed=0), {"X": X, "y": y}
        if kind == "saved":
            options |= dict(checkpoint=f"{folder}/run{number}", checkpoint_every=1)
        if kind == "source":
            options = dict(X=source_of(X, y))
        model.fit(**options, epochs=2, batch_size=100, optimizer=SGD(0.05, momentum=0.9), callbacks=[Forks()],
                  progress=False)
        return bits(model)

    forking = False
    expected = fit(0)
    forking = True
    try:
        same = fit(1) == expected
    except RuntimeError as error:               # the thread that reads is in the parent
        same = os.getpid() != parent and kind == "source" and "forked" in str(error)
        same = same and fit(2) == expected
    if os.getpid() != parent:
        os._exit(0 if same else 1)
    assert same
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    print("done")


@NEEDS_FORK
@pytest.mark.parametrize("kind", ["arrays", "saved", "source"])
def test_fork_within_a_training(kind, tmp_path):
    code = f"import test_faults_processes as t; t.fork_within({kind!r}, sys.argv[1])"
    assert program(code, tmp_path) == "done\n"


# Pools -----------------------------------------------------------------------------------------------------

def pools(method):
    """That train while the parent does."""
    fastmlp.set_num_threads(2)
    expected, stop = [trained(seed) for seed in range(4)], threading.Event()
    X, y = samples()
    beside = threading.Thread(target=MLP(LAYERS, seed=0).fit, args=(X, y), daemon=True, kwargs=dict(
        epochs=10**6, optimizer=SGD(1e-6), progress=False, callbacks=[lambda *args: stop.is_set()]))
    beside.start()
    context = multiprocessing.get_context(method)
    if method != "spawn":
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            assert list(pool.map(trained, range(4), timeout=SECONDS)) == expected
    if method != "forkserver":
        with context.Pool(2) as pool:
            assert pool.map_async(trained, range(4)).get(SECONDS) == expected
    stop.set()
    beside.join(SECONDS)
    assert [trained(seed) for seed in range(4)] == expected
    print("done")


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_pools(method):
    # Here, since the main module of a program is imported in the children of a pool.
    code = f"import test_faults_processes as t\nif __name__ == '__main__': t.pools({method!r})"
    assert program(code) == "done\n"


# The end ---------------------------------------------------------------------------------------------------

def running(kind, daemon, folder, epochs=10**6):
    """A thread in the middle of something."""
    X, y = samples()
    started = threading.Event()

    def started_now(*args):
        started.set()

    options = dict(epochs=epochs, optimizer=SGD(1e-6), progress=False, callbacks=[started_now])
    model = MLP(LAYERS, seed=0)

    def predict():
        handle = model.compile_predict(threads=2)
        for _ in range(epochs):
            handle(X)
            started_now()

    function = {
        "fit": lambda: model.fit(X, y, **options),
        "saved": lambda: model.fit(X, y, **options, checkpoint=f"{folder}/run", checkpoint_every=1),
        "source": lambda: model.fit(source_of(X, y), **options),
        "predict": predict,
    }[kind]
    thread = threading.Thread(target=function, daemon=daemon)
    thread.start()
    assert started.wait(SECONDS)
    return model


ENDS = {
    "falls off its end": "",
    "exits": "sys.exit(0)",
    "trains at exit": "import atexit; atexit.register(t.trained)",
    "reads ahead at exit": "import atexit; atexit.register(t.all_of_it, folder)",
    "is told to end": "signal.signal(signal.SIGTERM, lambda *args: sys.exit(0))\n"
                      "signal.raise_signal(signal.SIGTERM)",
}
# No saves: CPython ends a daemon thread by unwinding it, which the Rust of safetensors catches, and aborts.
KINDS = ["fit", "source", "predict"]


@pytest.mark.skipif(os.name != "posix", reason="of POSIX")
@pytest.mark.parametrize("end, kinds", [
    *((end, KINDS) for end in ENDS), *(("falls off its end", [kind]) for kind in (KINDS if LONG else ()))])
def test_end_with_daemon_threads(end, kinds, tmp_path):
    """At once, and without a word."""
    started = time.monotonic()
    out = program(f"""
import os, signal
import test_faults_processes as t
folder = sys.argv[1]
t.fastmlp.set_num_threads(2)
for kind in {kinds}:
    t.running(kind, True, folder)
print("end", flush=True)
{ENDS[end]}
""", tmp_path)
    assert out == "end\n" and time.monotonic() - started < 60


def test_end_with_threads_that_are_waited_for(tmp_path):
    """Trainings come to their end, also those that an exception elsewhere leaves alone."""
    out = program("""
import test_faults_processes as t
t.fastmlp.set_num_threads(2)
import threading
models = [t.running(kind, False, sys.argv[1], epochs=5) for kind in ("fit", "saved", "source")]
main = threading.current_thread()
def wait():
    main.join()
    for thread in threading.enumerate():
        if thread is not main and thread is not threading.current_thread() and not thread.daemon:
            thread.join()
    print([len(model.history.loss) for model in models], flush=True)
threading.Thread(target=wait).start()
""", tmp_path)
    assert out == "[5, 5, 5]\n"


def test_exceptions_at_the_end():
    """Of a callback in a thread, of one in the main thread, and of a function at exit."""
    code = """
import atexit, sys, threading
import test_faults_processes as t
t.fastmlp.set_num_threads(2)
X, y = t.samples()
def fails(*args):
    raise ArithmeticError("as asked for")
def fit():
    model = t.MLP(t.LAYERS, seed=0)
    model.fit(X, y, epochs=3, progress=False, callbacks=[fails])
thread = threading.Thread(target=fit)
thread.start()
thread.join()
t.running("fit", True, None)
t.running("predict", True, None)
atexit.register(fit)
try:
    fit()
finally:
    print(t.trained() == t.trained(), flush=True)
"""
    with pytest.raises(AssertionError) as raised:
        program(code)
    text = str(raised.value)
    assert text.startswith("1\nTrue\n") and text.count("ArithmeticError: as asked for") == 3, text
    assert "Fatal" not in text
