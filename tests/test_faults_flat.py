"""Nothing piles up: memory, descriptors and threads are after many calls what they were after few.

FASTMLP_FAULTS=long compares ten thousand of each with five thousand, the usual run fewer.
"""
from __future__ import annotations

import copy
import gc
import json
import os
import pickle
import tempfile
import warnings

import numpy as np
import pytest
from faulty import LONG, NEEDS_PROC, descriptors, program, resident, threads

import fastmlp
from fastmlp import MLP, SGD, Adam, Checkpoint, CSVLogger, Diagnostics, EarlyStopping, data

pytestmark = pytest.mark.any_isa

FIRST, LAST = (5000, 10000) if LONG else (100, 300)
MOST_GROWTH = 1 << 20                   # bytes of all calls after the first

rng = np.random.default_rng(0)
X, y = rng.standard_normal((60, 12)).astype(np.float32), rng.integers(0, 3, 60)
# With something to do for a team.
WIDE = [64, 256, 10]
WIDE_X, WIDE_y = rng.standard_normal((200, 64)).astype(np.float32), rng.integers(0, 10, 200)


def calls(folder):
    """{name: a call, to be made ten thousand times}"""
    model, wide, optimizer = MLP([12, 16, 3], seed=0, batch_norm=True), MLP(WIDE, seed=0), Adam()
    path = f"{folder}/net.safetensors"
    model.train_step(X, y, optimizer)
    model.save(path, optimizer)
    source = data.Chunks(lambda: ((X[i:i + 20], y[i:i + 20]) for i in (0, 20, 40)))
    handle = wide.compile_predict(threads=2)

    def make():
        MLP(WIDE, seed=0, dropout=0.1)

    def train():
        MLP([12, 16, 3], seed=0).fit(X, y, epochs=1, optimizer=SGD(0.1, momentum=0.9), progress=False)
        wide.train_step(WIDE_X, WIDE_y, SGD(1e-6))

    def own_loss():
        own = MLP([12, 3], seed=0, loss=lambda z, t: (float((z**2).mean()), 2 * z / z.size))
        own.train_step(X, y, SGD(0.1))

    def save_and_load():
        model.save(path, optimizer)
        fastmlp.load(path, Adam())

    def copies():
        copy.deepcopy(model).train_step(X, y, optimizer)
        pickle.loads(pickle.dumps(wide)).forward(WIDE_X)

    def handles():
        wide.compile_predict(threads=2)(WIDE_X)
        handle(WIDE_X)

    def read():
        model.evaluate(X, y)
        model.predict(X), model.predict_proba(X), model.hidden(X), model.loss_and_gradients(X, y)
        wide.forward(WIDE_X)

    def callbacks():
        if os.path.exists(f"{folder}/run.csv"):
            os.remove(f"{folder}/run.csv")
        model.fit(X, y, epochs=1, progress=False, validation_data=(X, y), metrics=["accuracy"],
                  log_steps=True, callbacks=[
                      EarlyStopping(2), Checkpoint(f"{folder}/{{epoch}}.safetensors"),
                      CSVLogger(f"{folder}/run.csv"), Diagnostics()])

    def checkpoints():
        model.fit(X, y, epochs=1, batch_size=20, progress=False, checkpoint=f"{folder}/run",
                  checkpoint_every=2)

    def sources():
        model.fit(source, epochs=1, optimizer=SGD(1e-6), progress=False)

    def errors():
        def fails(*args):
            raise ArithmeticError

        for call in (lambda: MLP([3]), lambda: model.fit(X[:, 1:], y, progress=False),
                     lambda: model.fit(X, y + 7, progress=False), lambda: fastmlp.load(f"{folder}/none"),
                     lambda: model.fit(X, y, epochs=1, callbacks=[fails], progress=False),
                     lambda: model.fit(data.Chunks(fails), epochs=1, progress=False),
                     lambda: handle(X), lambda: model.save(folder), lambda: wide.train_step(X, y, SGD(0.1))):
            try:
                call()
            except (ArithmeticError, OSError, TypeError, ValueError):
                pass
            else:
                raise AssertionError("no error")

    return {f.__name__: f for f in (make, train, own_loss, save_and_load, copies, handles, read, callbacks,
                                    checkpoints, sources, errors)}


def flat():
    """Prints {name: growth of memory, descriptors and threads}."""
    warnings.simplefilter("ignore")
    fastmlp.set_num_threads(2)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, call in calls(folder).items():
            first = held_after(FIRST, call)
            found[name] = (held_after(LAST - FIRST, call) - first).tolist()
    print(json.dumps(found))


def held_after(times, call):
    for _ in range(times):
        call()
    gc.collect()
    return np.array([resident(), descriptors(), threads()])


@NEEDS_PROC
def test_flat():
    for name, (memory, open_files, running) in json.loads(program(
            "import test_faults_flat as t; t.flat()", timeout=7200 if LONG else 300)).items():
        assert memory < MOST_GROWTH, (name, memory)
        assert (open_files, running) == (0, 0), (name, open_files, running)
