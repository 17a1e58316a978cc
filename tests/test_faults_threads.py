"""Threads that cannot be had, stacks that are small, and a hundred callers at once: the same bits."""
from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
from conftest import assert_learned
from faulty import (
    ALL,
    LAYERS,
    LONG,
    NEEDS_FORK,
    NEEDS_PROC,
    THREADS,
    Failing,
    bits,
    preloaded,
    program,
    samples,
    threads,
    trained,
)

import fastmlp
from fastmlp import MLP, SGD, data

assert preloaded                        # a fixture


# No threads ------------------------------------------------------------------------------------------------

def each_thread_fails():
    """In a child for each: the call that makes worker n, alone and with all after it."""
    fastmlp.set_num_threads(1)
    expected = trained()
    fastmlp.set_num_threads(4)
    for first in range(1, 5):
        for last in (first, ALL):
            child = os.fork()
            if child == 0:
                alone = threads()
                with Failing(THREADS, first, last) as failing:
                    same = trained() == expected
                some = threads() - alone
                same = same and trained() == expected           # now there are threads
                whole = threads() - alone == 3
                fewer = some == min(first - 1, 3) if last == ALL else some == 3
                os._exit(0 if same and whole and fewer and failing.calls >= min(first, 3) else 1)
            assert os.waitpid(child, 0)[1] == 0, (first, last)
    before = threads()                                          # the parent itself has made none so far
    assert trained() == expected
    print(threads() - before)


@NEEDS_FORK
@NEEDS_PROC
def test_each_thread_fails(preloaded):
    """Training goes on with those that there are; the next call tries again."""
    out = program("import test_faults_threads as t; t.each_thread_fails()", **preloaded)
    assert out == "3\n"


def test_a_source_without_a_thread_that_reads_ahead(monkeypatch, backend):
    """It is read by the thread that trains."""
    X, y = samples()
    source = data.Chunks(lambda: ((X[i:i + 100], y[i:i + 100]) for i in range(0, 1000, 100)))

    def fitted():
        model = MLP(LAYERS, seed=0)
        model.fit(source, epochs=2, optimizer=SGD(0.05), progress=False)
        return [*model.weights, model.evaluate(source)["loss"]]

    def fail(thread):
        raise RuntimeError("can't start new thread")

    expected = fitted()
    monkeypatch.setattr(threading.Thread, "start", fail)
    assert_learned(fitted(), expected)


# Small stacks ----------------------------------------------------------------------------------------------

def on_a_small_stack(size):
    """All that the library does, on a thread with this stack; prints what was done."""
    import tempfile

    def work():
        with tempfile.TemporaryDirectory() as folder:
            model, path = MLP(LAYERS, seed=0, batch_norm=True, dropout=0.1), f"{folder}/net.safetensors"
            X, y = samples()
            for n in (1, 4):
                fastmlp.set_num_threads(n)
                model.fit(X, y, epochs=2, optimizer=fastmlp.Adam(clip_norm=1.0), validation_data=(X, y),
                          callbacks=[fastmlp.CSVLogger(f"{folder}/run.csv")], metrics=["accuracy"],
                          checkpoint=f"{folder}/run.safetensors", checkpoint_every=3, progress=False)
                model.train_step(X, y, SGD(0.01))
                model.loss_and_gradients(X, y)
                for output in ("logits", "proba", "labels"):
                    model.compile_predict(output=output, threads=n)(X)
                model.save(path)
                same = fastmlp.load(path).forward(X) == model.forward(X)
                model.export_c(f"{folder}/net.c")
                fastmlp.functional.dense_backward(X, X, np.eye(64, dtype=np.float32), X)
                done.append(bool(same.all()))

    fastmlp.set_num_threads(1)
    done = []
    work()                                      # imports take more than the work, and are not what is meant
    threading.stack_size(size)
    caller = threading.Thread(target=work)
    caller.start()
    caller.join()
    print(done)


@pytest.mark.parametrize("size", [65536, 131072])
def test_a_small_stack(size):
    assert program(f"import test_faults_threads as t; t.on_a_small_stack({size})") == f"{[True] * 4}\n"


@pytest.mark.skipif(os.name != "posix", reason="of POSIX")
def test_a_small_stack_of_the_process():
    """As `ulimit -s` makes it."""
    code = """
import os, resource, sys
if len(sys.argv) == 1:
    resource.setrlimit(resource.RLIMIT_STACK, (1 << 18, resource.getrlimit(resource.RLIMIT_STACK)[1]))
    os.execv(sys.executable, [sys.executable, "-c", sys.orig_argv[sys.orig_argv.index("-c") + 1], "again"])
import test_faults_threads as t
t.on_a_small_stack(0)
"""
    assert program(code) == f"{[True] * 4}\n"


# Many callers ----------------------------------------------------------------------------------------------

def a_thousand_models():
    """In a hundred threads: each trains, predicts, is copied and trains on, and ends as it does alone."""
    X, y = np.random.default_rng(0).standard_normal((200, 12)).astype(np.float32), np.arange(200) % 3
    large_X, large_y = samples(n=300)

    def life(seed):
        large = seed % 10 == 0                  # some with work for a team
        model = MLP(LAYERS if large else [12, 16, 3], seed=seed)
        A, b = (large_X, large_y) if large else (X, y)
        optimizer = SGD(0.05, momentum=0.9)
        model.fit(A, b, epochs=2, batch_size=50, optimizer=optimizer, progress=False)
        handle = model.compile_predict(output="labels")
        model.train_step(A, b, optimizer)
        return bits(model) + handle(A).tobytes() + model.forward(A).tobytes()

    fastmlp.set_num_threads(4)
    models, callers = 1000, 100
    expected = [hash(life(seed)) for seed in range(models)]
    found, start = [0] * models, threading.Barrier(callers)

    def run(first):
        start.wait(60)
        for seed in range(first, models, callers):
            found[seed] = hash(life(seed))

    before = threads() if os.path.exists("/proc/self/task") else 0
    running = [threading.Thread(target=run, args=(first,), daemon=True) for first in range(callers)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(120)
        assert not thread.is_alive(), "a thread hangs"
    assert found == expected
    for _ in range(100):                        # the system takes its time to forget threads
        if not before or threads() <= before:
            break
        time.sleep(0.02)
    print("done" if not before or threads() <= before else threads() - before)


def test_a_thousand_models():
    assert program("import test_faults_threads as t; t.a_thousand_models()", timeout=300) == "done\n"


assert LONG in (True, False)
