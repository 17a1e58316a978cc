"""The runs of tests/test_checkpoints.py, and their kills. Its programs import this and not pytest."""
from __future__ import annotations

import json
import os
import random
import signal
import time
import traceback
from pathlib import Path

import numpy as np

import fastmlp
from fastmlp import MLP, SGD, Adam, AdamW, EarlyStopping, schedules, training
from fastmlp._core import state

# Runs ------------------------------------------------------------------------------------------------------

def order_of(epoch):
    """An order of the caller's own, in which samples are missing and repeated."""
    return np.random.default_rng(epoch).integers(0, 203, 203)


def slower_later(model, epoch, logs):
    """Changes settings in the middle of a run."""
    if epoch == 2:
        model.dropout = 0.4
        slower_later.optimizer.weight_decay = 1e-3
        slower_later.optimizer.lr *= 0.5


def make(case, longer=1):
    """model, X, y, and the arguments of `fit`, for so many times as many epochs."""
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((203, 12)), rng.integers(0, 3, 203)
    validation = rng.standard_normal((50, 12)), rng.integers(0, 3, 50)
    options = {"epochs": 12 * longer, "batch_size": 16, "progress": False}
    if case == "adam":
        model = MLP([12, 40, 24, 3], batch_norm=True, dropout=0.2, seed=1)
        options |= {"optimizer": Adam(schedules.Cosine(0.01, steps=150)), "validation_data": validation,
                    "callbacks": [EarlyStopping(11 * longer)], "sample_weight": rng.random(203),
                    "log_steps": True}
    elif case == "momentum":
        model = MLP([12, 200, 120, 3], "tanh", dropout=[0.5, 0.0], dtype="float64", seed=2)
        options |= {"optimizer": SGD(schedules.ReduceOnPlateau(0.1, patience=0), 0.9, clip_norm=1.0),
                    "shuffle": order_of, "metrics": "accuracy", "class_weight": "balanced"}
    elif case == "stopped":
        model = MLP([12, 16, 16, 3], ["gelu", "relu"], batch_norm=[False, True], seed=3)
        X = X.astype(np.float16)            # which the engine does not read: converted in pieces
        options |= {"optimizer": AdamW(schedules.WarmUp(20, schedules.Cosine(0.3, steps=100))),
                    "validation_data": validation, "callbacks": [EarlyStopping(4 * longer)],
                    "epochs": 40 * longer}
    elif case == "changed":
        model = MLP([12, 20, 20, 3], dropout=0.1, seed=4)
        slower_later.optimizer = SGD(0.1, 0.9)
        options |= {"optimizer": slower_later.optimizer, "callbacks": [slower_later], "shuffle": False}
    else:
        raise ValueError(case)
    return model, X, y, options


CASES = ["adam", "momentum", "stopped", "changed"]
STEPS = 13                              # of an epoch


def fit(case, longer=1, **more):
    """A run, and all that it leaves."""
    model, X, y, options = make(case, longer)
    options |= more
    model.fit(X, y, **options)
    return result_of(model, options)


def result_of(model, options):
    arrays = {name: array.copy() for name, array in state.arrays(model).items()}
    arrays |= {f"optimizer.{name}": a for name, a in options["optimizer"].get_state(model).items()}
    for callback in options.get("callbacks", ()):
        if isinstance(callback, EarlyStopping):
            arrays |= {f"stopping.{name}": a for name, a in callback.get_state().items()}
    arrays |= {f"history.{name}": np.hstack(values) for name, values in model.history.items()
               if name != "samples_per_second"}
    arrays["speeds"] = np.array(len(model.history.samples_per_second))
    arrays["counters"] = np.array(list(state.counters(model).values()))
    arrays["dropout"] = np.array(model.dropout)
    arrays["settings"] = np.array([options["optimizer"].weight_decay])
    arrays["generator"] = np.frombuffer(repr(model.core.rng.bit_generator.state).encode(), np.uint8)
    return arrays


def as_text(arrays):
    """Of all bits."""
    return {name: [str(a.dtype), list(a.shape), np.ascontiguousarray(a).tobytes().hex()]
            for name, a in arrays.items()}


def run_in(path):
    """What the file says of the run."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(header["__metadata__"]["fastmlp"])["run"]


def place_in(path):
    run = run_in(path)
    return run["epoch"], run["step"]


# Killed ----------------------------------------------------------------------------------------------------

def train_in_child(case, longer, path, threads, started):
    """Writes to a pipe when it trains, and never returns."""
    status, train = 1, training.train

    def noted(*args):
        os.write(started, b".")
        return train(*args)

    try:
        fastmlp.set_num_threads(threads)
        training.train = noted
        fit(case, longer, checkpoint=path, checkpoint_every=5, resume=True)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def drive(case, longer, path, kills, seed, seconds, last):
    """Train in children on 1 and 2 threads in turns, and kill them; at last, train to the end.
    Prints what happened, and the result."""
    longer, moments, folder = int(longer), random.Random(int(seed)), Path(path).parent
    killed, places, before = 0, [], len(list(folder.glob(".fastmlp-*.part")))
    rounds = 0
    for i in range(3 * int(kills)):
        if killed == int(kills):
            break
        read, write = os.pipe()
        child = os.fork()
        if not child:
            train_in_child(case, longer, path, 1 + i % 2, write)
        os.close(write)
        os.read(read, 1)                # until it trains, or has nothing to train
        time.sleep(moments.uniform(0.0, 1.5 * float(seconds)))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or not status, "a child failed"
        killed += os.WIFSIGNALED(status)
        os.close(read)
        if not os.WIFSIGNALED(status):  # it came to its end: once more from the beginning
            os.unlink(path)
            rounds += 1
        elif os.path.exists(path):
            places.append((rounds, *place_in(path)))
    found = {"killed": killed, "places": places, "isa": fastmlp.active_isa(),
             "in_a_write": len(list(folder.glob(".fastmlp-*.part"))) - before}
    if last == "True":
        fastmlp.set_num_threads(2)
        started = time.monotonic()
        found["result"] = as_text(fit(case, longer, checkpoint=path, checkpoint_every=5, resume=True))
        found["seconds"] = time.monotonic() - started
    print(json.dumps(found))
