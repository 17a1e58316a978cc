"""What all tests share: the backends and dtypes they run over, and arrays in every layout."""
from __future__ import annotations

import gc
import importlib.util
import os
import threading
from contextlib import contextmanager

# Before NumPy is imported, here and in programs: threads of OpenBLAS wait for each other in loops, and where
# others need the processors its products take ten times as long.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from fastmlp import MLP, SGD, backends, functional
from fastmlp._core import state
from fastmlp.backends import numpy as specification

settings.register_profile(
    "fastmlp", deadline=None, max_examples=30, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("fastmlp")


def pytest_configure(config):           # and not in pyproject.toml: some run the tests without the tree
    config.addinivalue_line("markers", "any_isa: finds the same whatever FASTMLP_ISA says")


def pytest_itemcollected(item):
    """A test with a parameter `isa` says itself which instruction set runs."""
    if "isa" in getattr(item, "fixturenames", ()):
        item.add_marker("any_isa")


@pytest.fixture(scope="module", autouse=True)
def only_new_objects():
    """Tests and reports are millions of objects that stay: no collection of garbage looks again at those from
    before a module."""
    gc.collect()
    gc.freeze()


class StandIn:
    """A compiled backend in Python: it declines all that is not plain, as often as it is allowed to."""

    __name__ = "tests.stand-in"
    COMPILED = True

    def __init__(self):
        self.taken, self.declined = [], []

    def __getattr__(self, name):
        def function(*args, out=None, **kwargs):
            inputs = [a for a in [*args, *kwargs.values()] if isinstance(a, np.ndarray)]
            outs = [a for a in (out if isinstance(out, tuple) else (out,)) if a is not None]
            plain = all(isinstance(a, np.ndarray) and functional._dispatch.is_plain(a) for a in inputs + outs)
            plain = plain and not any(isinstance(a, list) for a in args)
            if plain and not any(np.shares_memory(a, b) for a in outs for b in inputs):
                token = backends.override.set(specification)
                try:
                    result = getattr(functional, name)(*args, **kwargs, **({"out": out} if outs else {}))
                    self.taken.append(name)
                    return result
                except (TypeError, ValueError):
                    pass
                finally:
                    backends.override.reset(token)
            self.declined.append(name)
            return NotImplemented
        return function


# A backend that is there must import: one that was not built fails the run, it is not skipped.
COMPILED = "cython" if importlib.util.find_spec("fastmlp.backends.cython") else "stand-in"
BACKENDS = ["numpy", COMPILED]


@pytest.fixture(params=BACKENDS)
def backend(request):
    """The name of the backend in force while the test runs."""
    if request.param == "stand-in":
        token = backends.override.set(StandIn())
        yield request.param
        backends.override.reset(token)
    else:
        with backends.use_backend(request.param):
            yield request.param


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def trained_elsewhere(rng):
    """`with trained_elsewhere(model):` another thread trains the model within the block; labels are 0."""
    @contextmanager
    def trained(model):
        inside, leave = threading.Event(), threading.Event()

        def wait(*_):
            inside.set()
            leave.wait(60)

        thread = threading.Thread(target=lambda: model.fit(
            rng.standard_normal((8, model.layers[0])), np.zeros(8, int), epochs=1, optimizer=SGD(0.1),
            callbacks=[wait], progress=False))
        thread.start()
        try:
            assert inside.wait(60)
            yield
        finally:
            leave.set()
            thread.join()

    return trained


LAYOUTS = ["contiguous", "read_only", "strided", "transposed", "reversed", "unaligned", "swapped",
           "padded_rows"]


def lay_out(array, layout):
    """A new array of the same values in another layout."""
    array = np.array(array, order="C")
    if layout == "contiguous" or layout in ("strided", "reversed", "padded_rows") and array.ndim == 0:
        return array
    if layout == "read_only":
        array.flags.writeable = False
        return array
    if layout == "transposed":
        return np.array(array.T, order="C").T
    if layout == "swapped":
        return array.astype(array.dtype.newbyteorder())
    if layout == "unaligned":
        raw = np.zeros(array.nbytes + 1, np.uint8)[1:]
        result = raw.view(array.dtype).reshape(array.shape)
    elif layout == "reversed":
        result = np.zeros_like(array)[(slice(None, None, -1),) * array.ndim]
    elif layout == "padded_rows":
        *rows, columns = array.shape
        result = np.full((*rows, columns + 3), 99, array.dtype)[..., :columns]
    elif layout == "strided":
        steps = [2, 3, 2][:array.ndim]
        big = np.full([size * step for size, step in zip(array.shape, steps, strict=True)], 99, array.dtype)
        result = big[tuple(slice(None, None, step) for step in steps)]
    else:
        raise ValueError(layout)
    result[...] = array
    return result


def assert_same(actual, desired, backend, dtype, factor=1000):
    """Equal bits from the compiled backend, and within rounding from NumPy's: a BLAS promises no order of its
    sums, and takes another one where an array's layout or its address differs.

    Arrays, numbers, lists of them, or models, whose parameters are compared."""
    if isinstance(actual, MLP):
        actual, desired = ([*m.weights, *m.biases] for m in (actual, desired))
    if isinstance(actual, (list, tuple)):
        assert len(actual) == len(desired)
        for a, b in zip(actual, desired):
            assert_same(a, b, backend, dtype, factor)
    elif backend == "numpy":
        eps = factor * float(np.finfo(dtype).eps)
        atol = eps * max(1.0, float(np.abs(desired).max(initial=0)))
        np.testing.assert_allclose(actual, desired, rtol=eps, atol=atol)
    else:
        np.testing.assert_array_equal(actual, desired)


def assert_learned(actual, desired, err_msg=""):
    """Arrays that were computed in two ways, on the backend in force: as `assert_same`."""
    for a, b in zip(actual, desired) if isinstance(desired, (list, tuple)) else [(actual, desired)]:
        a, b = np.asarray(a), np.asarray(b)
        if backends.get_backend() == "numpy" and b.dtype.kind == "f":
            assert_same(a, b, "numpy", b.dtype)
        else:
            np.testing.assert_array_equal(a, b, err_msg=err_msg)


class Learned(dict):
    """Copies of a model's arrays by name, equal as `assert_same` has it."""

    def __init__(self, model):
        super().__init__((name, array.copy()) for name, array in state.arrays(model).items())
        self.exact = model.backend.COMPILED

    def __eq__(self, other):
        if self.keys() != other.keys():
            return False
        backend = "cython" if self.exact else "numpy"
        try:
            for name, array in self.items():
                assert_same(array, other[name], backend, array.dtype)
        except AssertionError:
            return False
        return True

    def __ne__(self, other):
        return not self == other


def assert_gradients(model, X, y, every, tolerance):
    """The gradients of a float64 model against central differences, for every so many of its parameters."""
    _, gradients = model.loss_and_gradients(X, y)
    pairs = [*zip(model.weights, gradients.weights), *zip(model.biases, gradients.biases),
             *((s, g) for s, g in zip(model.scales, gradients.scales) if s is not None)]
    for parameters, gradient in pairs:
        for place in list(np.ndindex(parameters.shape))[::every]:
            was = parameters[place]
            loss = []
            for step in (1e-6, -1e-6):
                parameters[place] = was + step
                loss.append(model.loss_and_gradients(X, y)[0])
            parameters[place] = was
            assert abs((loss[0] - loss[1]) / 2e-6 - gradient[place]) < tolerance
