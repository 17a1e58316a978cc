"""Memory that is not given: every allocation of the kernels fails once, and once with all that come after it;
and the address space ends. It is a MemoryError, all is as it was, and works when there is memory again."""
from __future__ import annotations

import copy
import functools
import json
import os
import pickle
import tempfile
import threading
import warnings
from typing import NamedTuple

import numpy as np
import pytest
from faulty import ALL, LAYERS, LONG, MEMORY, Failing, bits, preloaded, program, samples

import fastmlp
import fastmlp.functional as F
from fastmlp import MLP, SGD, Adam

try:
    from scipy import sparse
except ImportError:
    sparse = None

assert preloaded                        # a fixture


class Things(NamedTuple):
    """What a call works on."""

    model: MLP | None = None
    optimizer: object = None
    more: object = None

    def held(self):
        """All that a call that fails leaves as it was."""
        if self.model is None:
            return b""
        state = self.optimizer.get_state(self.model)
        state["steps"] = self.model.core.engine.global_step
        return bits(self.model) + b"".join(np.asarray(state[name]).tobytes() for name in sorted(state))


def new(optimizer=lambda: SGD(0.05, momentum=0.9), before=None, more=lambda model: None, **options):
    """A function that makes a model, an optimizer and, of the model, something more."""
    def make():
        model, by = MLP(LAYERS, seed=0, **options), optimizer()
        if before is not None:
            model.train_step(X[:before], y[:before], by)
        return Things(model, by, more(model))
    return make


def step(things, X=None, y=None):
    X, y = (DATA[0][:300] if X is None else X), (DATA[1][:300] if y is None else y)
    things.model.train_step(X, y, things.optimizer)
    return things.held()


def fit(things):
    things.model.fit(X, y, epochs=2, batch_size=128, optimizer=things.optimizer, progress=False)
    return things.held()


def result_of(function):
    """A call that returns arrays."""
    def call(things):
        found = function(things)
        arrays = found if isinstance(found, list) else [found]
        return b"".join(np.asarray(array).tobytes() for array in arrays)
    return call


def gradients(things):
    loss, found = things.model.loss_and_gradients(X, y)
    return [np.array(loss), *found.weights, *found.biases]


def in_threads(things):
    """A handle in many threads at once, so that more scratch is needed than it has kept."""
    results, start = {}, threading.Barrier(8)

    def call(i):
        start.wait(60)
        try:
            results[i] = things.more(X)
        except MemoryError as error:
            results[i] = error

    callers = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    for result in results.values():
        if isinstance(result, MemoryError):
            raise result
    return [results[i] for i in range(8)]


def mean_squares(z, targets):
    return float((z**2).mean()), 2 * z / z.size


def saved_file():
    path = tempfile.mktemp(suffix=".safetensors")
    MLP(LAYERS, seed=0).save(path)
    return path


X, y = DATA = samples(n=600)
W, ARRAY, DZ = (np.random.default_rng(1).standard_normal(shape).astype(np.float32)
                for shape in ((64, 50), (600, 64), (600, 50)))
B = W[0].copy()

# {name: (makes what is needed, the call that is to fail, the least number of allocations in it)}
CASES = {
    "make": (Things, result_of(lambda things: MLP(LAYERS, seed=0).weights[0]), 1),
    "train_step": (new(), step, 2),
    "train_step of another size": (new(before=100), step, 1),
    "fit": (new(), fit, 2),
    "fit, float64": (new(dtype="float64"), fit, 2),
    "fit, everything": (new(lambda: Adam(0.01, clip_norm=1.0), batch_norm=True, dropout=0.2), fit, 2),
    "fit, a loss of the caller's": (new(loss=mean_squares), fit, 2),
    "fit, bfloat16": (new(compute_dtype="bfloat16"), fit, 2),
    "forward": (new(), result_of(lambda things: things.model.forward(X)), 1),
    "hidden": (new(), result_of(lambda things: things.model.hidden(X)), 2),
    "predict_proba": (new(), result_of(lambda things: things.model.predict_proba(X)), 1),
    "evaluate": (new(), result_of(lambda things: things.model.evaluate(X, y)["loss"]), 1),
    "loss_and_gradients": (new(), result_of(gradients), 2),
    "compile_predict": (new(), result_of(lambda things: things.model.compile_predict()(X)), 3),
    "a handle in threads": (new(more=lambda model: model.compile_predict()), result_of(in_threads), 0),
    "load": (lambda: Things(more=saved_file()),
             result_of(lambda things: fastmlp.load(things.more).weights[0]), 1),
    "deepcopy": (new(), result_of(lambda things: copy.deepcopy(things.model).weights[0]), 1),
    "pickle": (new(), result_of(lambda things: pickle.loads(pickle.dumps(things.model)).weights[0]), 1),
    "dense_forward": (Things, result_of(lambda things: F.dense_forward(ARRAY, W, B, "tanh")), 1),
    "dense_backward": (Things, result_of(
        lambda things: list(F.dense_backward(DZ[:2, :4], ARRAY[:2, :3], W[:3, :4].copy(), None))), 1),
}
if sparse is not None:
    rows = sparse.csr_matrix(X * (X > 1))
    CASES["train_step, sparse"] = (new(before=100), lambda things: step(things, rows[:300]), 1)
# Where the memory is not there, another path is taken, with memory of NumPy's.
DO_WITHOUT = {"dense_backward"}
BY_CHANCE = {"a handle in threads"}     # where more calls run at once than there is scratch for


def every_allocation():
    """Prints {name: (allocations, calls that raised MemoryError)}."""
    warnings.simplefilter("ignore")             # bfloat16 is slow on some processors
    fastmlp.set_num_threads(2)
    found = {}
    for name, (make, call, _) in CASES.items():
        expected, calls, raised = call(make()), 0, 0
        for number in range(1, 100):
            for last in (number, ALL):
                things = make()
                before = things.held()
                with Failing(MEMORY, number, last) as failing:
                    try:
                        result = call(things)
                    except MemoryError:
                        result = None
                if result is None:
                    raised += 1
                    assert things.held() == before, name
                    result = call(things)
                assert result == expected, (name, number)
                calls = max(calls, failing.calls)
            if failing.calls < number:
                break
        found[name] = calls, raised
    print(json.dumps(found))


@functools.cache
def found_by_every_allocation(preload):
    return json.loads(program("import test_faults_memory as t; t.every_allocation()", LD_PRELOAD=preload))


@pytest.mark.parametrize("name", CASES)
def test_every_allocation(name, preloaded):
    calls, raised = found_by_every_allocation(preloaded["LD_PRELOAD"])[name]
    assert calls >= CASES[name][2]
    assert (raised == 0) == (name in DO_WITHOUT) or name in BY_CHANCE


# The end of the address space -------------------------------------------------------------------------------

WIDE = [784, 512, 10]


def little_room():
    """Calls that need some 100 MB, with less, and more, and enough."""
    import resource

    fastmlp.set_num_threads(2)
    X, y = np.ones((8000, WIDE[0]), np.uint8), np.ones(8000, int)
    model, other, optimizer = MLP(WIDE, seed=0), MLP(WIDE, seed=1), SGD(1e-3, momentum=0.9)
    path = tempfile.mktemp()
    big = MLP([2000, 4000], init="zeros")
    big.save(path)
    calls = {
        "train_step": lambda: model.train_step(X, y, optimizer),
        "fit": lambda: other.fit(X, y, epochs=1, batch_size=None, optimizer=optimizer, progress=False),
        "hidden": lambda: model.hidden(X),
        "loss_and_gradients": lambda: model.loss_and_gradients(X, y),
        "make": lambda: MLP([2000, 4000], seed=0),
        "compile_predict": big.compile_predict,
        "copy": lambda: copy.deepcopy(big),
        "pickle": lambda: pickle.loads(pickle.dumps(big)),
        "save": lambda: big.save(path),
        "load": lambda: fastmlp.load(path),
    }
    found = {}
    for name, call in calls.items():
        outcomes = []
        for extra in range(0, 2**28, 2**23 if LONG else 2**25):
            before = bits(model) + bits(other)
            with open("/proc/self/statm") as file:
                used = int(file.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + extra, resource.RLIM_INFINITY))
            try:
                call()
                outcomes.append("done")
            except MemoryError:
                outcomes.append("refused")
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
                assert bits(model) + bits(other) == before, name
            finally:
                resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
            if outcomes[-1] == "done":
                break
        call()
        found[name] = outcomes
    print(json.dumps(found))


def test_little_room():
    found = json.loads(program("import test_faults_memory as t; t.little_room()", OPENBLAS_NUM_THREADS="1"))
    assert all(outcomes[-1] == "done" for outcomes in found.values()), found
    refused = [name for name, outcomes in found.items() if "refused" in outcomes]
    assert len(refused) > len(found) // 2, found        # some find room among what others have freed


# Python's own memory ----------------------------------------------------------------------------------------

def little_of_pythons():
    """Each of Python's own allocations fails in its turn, also those in compiled modules. Prints how many."""
    import _testcapi

    fastmlp.set_num_threads(2)
    make, raised = new(before=100), 0
    things = make()
    before, after = things.held(), step(things)
    handle, X = things.model.compile_predict(), DATA[0][:50]
    calls = {"train_step": lambda: step(things), "handle": lambda: handle(X).tobytes()}
    if LONG:                                    # with more of NumPy's own code in it
        calls["forward"] = lambda: things.model.forward(X).tobytes()
    for name, call in calls.items():
        things = make()
        expected = call()
        for number in range(1, 2000 if LONG else 100):
            things, failed = make(), False
            _testcapi.set_nomemory(number, number + 1)
            try:
                call()
            except (MemoryError, SystemError):  # NumPy now and then forgets to say what it was
                failed = True
            finally:
                _testcapi.remove_mem_hooks()
            raised += failed
            if failed:
                # After the step, where there was no memory for the loss that it returns.
                assert things.held() in (before, after), (name, number)
                assert things.held() == after and name == "train_step" or call() == expected, (name, number)
    for number in range(1, 60) if hasattr(os, "fork") else ():     # in a child, which has no workers at first
        child = os.fork()
        if child == 0:
            fastmlp.set_num_threads(1)
            things, expected = make(), after
            fastmlp.set_num_threads(3)
            _testcapi.set_nomemory(number, number + 1)
            try:
                found = step(things)
            except MemoryError:
                found = None
            _testcapi.remove_mem_hooks()
            if found is None and things.held() == before:
                found = step(things)
            os._exit(0 if found in (None, expected) and things.held() == expected else 1)
        assert os.waitpid(child, 0)[1] == 0, number
    print(raised)


def test_little_of_pythons():
    pytest.importorskip("_testcapi")
    assert int(program("import test_faults_memory as t; t.little_of_pythons()")) > 0

