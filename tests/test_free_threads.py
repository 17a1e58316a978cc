"""Many threads on one thing, as hard as can be. Where the interpreter has no GIL nothing else orders them;
where it has one it is handed over as often as Python allows."""
from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastmlp
import fastmlp.functional as F
from fastmlp import MLP, SGD, Adam

WITHOUT_GIL = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
THREADS = 8
LAYERS = [20, 32, 5]


@pytest.fixture(autouse=True)
def often():
    """The GIL is handed over every few microseconds; the team has two threads."""
    before, threads = sys.getswitchinterval(), fastmlp.get_num_threads()
    sys.setswitchinterval(1e-5)
    fastmlp.set_num_threads(2)
    yield
    sys.setswitchinterval(before)
    fastmlp.set_num_threads(threads)


def at_once(function, threads=THREADS):
    """What function(0), function(1), ... return, each on a thread of its own, from the same moment on."""
    start = threading.Barrier(threads)

    def begin(number):
        start.wait(60)
        return function(number)

    with ThreadPoolExecutor(threads) as pool:
        futures = [pool.submit(begin, number) for number in range(threads)]
        return [future.result(120) for future in futures]


def data(seed=0, n=256, layers=LAYERS):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, layers[0])).astype(np.float32), rng.integers(0, layers[-1], n)


def bits(model):
    return b"".join(array.tobytes() for array in [*model.weights, *model.biases])


@pytest.mark.skipif(not WITHOUT_GIL, reason="needs a Python without the GIL")
@pytest.mark.skipif(os.environ.get("PYTHON_GIL") == "1", reason="the GIL is asked for")
def test_no_module_brings_the_gil_back():
    code = ("import sys, fastmlp\nfrom fastmlp import kernels\nfrom fastmlp.kernels import cython_api\n"
            "for isa in kernels.available_isas():\n"
            "    for dtype in 'float32', 'float64':\n        kernels.load(isa, dtype)\n"
            "    for name in kernels.available_bfloat16(isa):\n        kernels.load_bfloat16(isa, name)\n"
            "assert not sys._is_gil_enabled()\n")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHON_GIL"}
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, env=environment, timeout=60)


@pytest.mark.parametrize("first", ["MLP([3, 4, 2], dtype='float64').predict(np.zeros((5, 3)))",
                                   "MLP([3, 4, 2], compute_dtype='bfloat16').predict(np.zeros((5, 3), 'f'))",
                                   "fastmlp.functional.relu(np.zeros(3))"])
def test_first_use_in_many_threads(first):
    """What is imported at first use is imported once, and whole for everybody."""
    code = ("import sys, threading, warnings\nimport numpy as np, fastmlp\n"
            "from concurrent.futures import ThreadPoolExecutor\n"
            "warnings.simplefilter('ignore')\nsys.setswitchinterval(1e-6)\nstart = threading.Barrier(8)\n"
            "def use(_):\n    start.wait()\n    from fastmlp import MLP\n"
            f"    return {first}\n"
            "with ThreadPoolExecutor(8) as pool:\n    assert len(list(pool.map(use, range(8)))) == 8\n")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_models_of_their_own():
    """The team goes from call to call; every model learns what it learns alone."""
    def trained(seed):
        X, y = data(seed, 512, [64, 128, 10])
        model = MLP([64, 128, 10], seed=seed)
        model.fit(X, y, epochs=2, batch_size=128, optimizer=Adam(0.01), progress=False)
        return bits(model), model.predict_proba(X).tobytes()

    alone = [trained(seed) for seed in range(THREADS)]
    for _ in range(3):
        assert at_once(trained) == alone


def test_one_trainer_a_model():
    """A step is made or refused, and every step that was made counts."""
    X, y = data()
    model, optimizer = MLP(LAYERS, seed=0), SGD(0.01, momentum=0.9)

    def train(_):
        made = 0
        for _ in range(200):
            try:
                model.train_step(X, y, optimizer)
                made += 1
            except RuntimeError as error:
                assert "being trained by another thread" in str(error)
        return made

    made = sum(at_once(train))
    assert made > 0
    alone, optimizer = MLP(LAYERS, seed=0), SGD(0.01, momentum=0.9)
    for _ in range(made):
        alone.train_step(X, y, optimizer)
    assert bits(model) == bits(alone)


def test_readers_of_live_weights():
    """Whoever looks at a model while it is trained changes nothing, though a look may copy weights back from
    the engine."""
    X, y = data()

    def fit(model):
        for _ in range(40):
            model.fit(X, y, epochs=2, batch_size=16, optimizer=SGD(0.05), shuffle=False, progress=False)
            model.train_step(X[:16], y[:16], SGD(0.05))

    alone = MLP(LAYERS, seed=1)
    fit(alone)
    model = MLP(LAYERS, seed=1)
    done = threading.Event()

    def look(number):
        if number == 0:
            try:
                fit(model)
            finally:
                done.set()
            return 0
        looks = 0
        while not done.is_set():
            assert np.isfinite(model.weights[0]).all()
            assert model.forward(X[:number]).shape == (number, LAYERS[-1])
            assert model.predict(X[:3]).shape == (3,)
            looks += 1
        return looks

    assert sum(at_once(look)) > 0
    assert bits(model) == bits(alone)


def test_many_predictors():
    X, y = data(2)
    model = MLP(LAYERS, seed=2)
    model.fit(X, y, epochs=1, progress=False)
    handle = model.compile_predict(output="proba", threads=2)
    expected = model.predict_proba(X)

    def predict(number):
        out = np.empty_like(expected)
        for i in range(100):
            rows = slice(i % 7, 40 + number)
            np.testing.assert_array_equal(model.predict_proba(X[rows]), expected[rows])
            np.testing.assert_array_equal(handle(X[rows]), expected[rows])
            handle(X, out=out)
            np.testing.assert_array_equal(out, expected)
        return True

    assert all(at_once(predict))


def test_copies_while_it_is_trained():
    """Copies and pickles are of one moment between two steps, or refused."""
    X, y = data(3)
    model, optimizer = MLP(LAYERS, seed=3), Adam(0.01)
    done = threading.Event()

    def use(number):
        if number == 0:
            try:
                for _ in range(300):
                    model.train_step(X, y, optimizer)
            finally:
                done.set()
            return 0
        copies = 0
        while not done.is_set():
            try:
                other = copy.deepcopy(model) if number % 2 else pickle.loads(pickle.dumps(model))
            except RuntimeError as error:
                assert "being trained" in str(error) or "training step" in str(error)
                continue
            assert np.isfinite(other.forward(X)).all()
            copies += 1
        return copies

    at_once(use)
    other = copy.deepcopy(model)
    assert bits(other) == bits(model)


def test_array_functions():
    """Threads share what they read."""
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((33, 20)).astype(np.float32), rng.standard_normal((20, 17)).astype(np.float32)
    wide = x.astype(np.float64)

    def results():
        return [F.dense_forward(x, w, activation="relu"), F.softmax(x), F.gelu(wide), F.tanh(x),
                F.log_softmax(wide), F.dense_forward(x, w),
                *F.dense_backward(np.ones((33, 17), np.float32), x, w, F.dense_forward(x, w))]

    expected = results()

    def use(_):
        for _ in range(100):
            for a, b in zip(results(), expected, strict=True):
                np.testing.assert_array_equal(a, b)
        return True

    assert all(at_once(use))


def test_settings_while_others_train():
    """Numbers of threads and backends change under a training, whose bits do not."""
    X, y = data(5)
    done = threading.Event()

    def trained():
        model = MLP(LAYERS, seed=5)
        for _ in range(20):
            model.fit(X, y, epochs=1, batch_size=32, optimizer=SGD(0.05), progress=False)
        return bits(model)

    alone = trained()

    def use(number):
        if number < 2:
            try:
                return trained() == alone
            finally:
                done.set()
        while not done.is_set():
            fastmlp.set_num_threads(1 + number % 4)
            with fastmlp.limit_num_threads(number), fastmlp.use_backend("numpy"):
                assert fastmlp.get_num_threads() <= number
                assert fastmlp.get_backend() == "numpy"
            assert fastmlp.get_backend() == "cython"
        return True

    assert all(at_once(use))


def test_one_optimizer_for_many_models():
    X, y = data(6)
    optimizer = Adam(0.01)

    def trained(seed, optimizer=optimizer):
        model = MLP(LAYERS, seed=seed)
        for _ in range(50):
            model.train_step(X, y, optimizer)
        return bits(model)

    alone = [trained(seed, Adam(0.01)) for seed in range(THREADS)]
    assert at_once(trained) == alone


def test_models_come_and_go():
    """What is made and dropped in many threads at once is counted right."""
    X, y = data(7, 32)

    def use(number):
        for i in range(30):
            model = MLP(LAYERS, seed=i, dtype="float64" if i % 2 else "float32", batch_norm=i % 3 == 0)
            model.train_step(X.astype(model.dtype), y, SGD(0.1))
            handle = model.compile_predict()
            del model
            assert handle(X.astype("float64" if i % 2 else "float32")).shape[0] == 32
        return True

    assert all(at_once(use))
