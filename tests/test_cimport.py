"""A small extension that cimports the kernels, built and run as a user would."""
from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp
import fastmlp.functional as F
from fastmlp import MLP, activations, losses
from fastmlp.backends import use_backend

EXTENSION = '''
# cython: language_level=3
from fastmlp.kernels cimport cython_api
from fastmlp.kernels.cython_api cimport real


def forward(real[:, ::1] y, const real[:, ::1] x, const real[:, ::1] w, const real[::1] b, int activation,
            double alpha=0, int times=1):
    cdef int i
    cdef bint done = True
    with nogil:
        for i in range(times):
            done = done and cython_api.dense_forward(y, x, w, b, activation, alpha)
    return done


def backward(real[:, ::1] dw, real[::1] db, const real[:, ::1] dy, const real[:, ::1] x, const real[:, ::1] w,
             const real[:, ::1] y, int activation, real[::1] scratch, real[:, ::1] dx):
    with nogil:
        done = cython_api.dense_backward(dx, dw, db, dy, x, w, y, activation, 0, scratch)
    return done


def scratch(const real[:, ::1] x, const real[:, ::1] w):
    return cython_api.dense_backward_scratch(x, w)


def activation(real[::1] y, const real[::1] x, int code, double alpha):
    with nogil:
        done = cython_api.activation_forward(y, x, code, alpha)
    return done


def activation_backward(real[::1] dx, const real[::1] dy, const real[::1] y, int code, double alpha):
    with nogil:
        done = cython_api.activation_backward(dx, dy, y, code, alpha)
    return done


def rows(real[:, ::1] y, const real[:, ::1] x, bint logarithm):
    with nogil:
        done = cython_api.log_softmax(y, x) if logarithm else cython_api.softmax(y, x)
    return done


def rows_backward(real[:, ::1] dx, const real[:, ::1] dy, const real[:, ::1] y, bint logarithm):
    with nogil:
        if logarithm:
            done = cython_api.log_softmax_backward(dx, dy, y)
        else:
            done = cython_api.softmax_backward(dx, dy, y)
    return done


def loss_of_labels(real[:, ::1] d, const real[:, ::1] z, const Py_ssize_t[::1] labels, int loss,
                   double parameter):
    cdef double mean = -1
    with nogil:
        done = cython_api.loss_of_labels(&mean, d, z, labels, loss, parameter)
    return mean if done else None


def loss_of_rows(real[:, ::1] d, const real[:, ::1] z, const real[:, ::1] targets, int loss,
                 double parameter):
    cdef double mean = -1
    with nogil:
        done = cython_api.loss_of_rows(&mean, d, z, targets, loss, parameter)
    return mean if done else None


def sgd(real[::1] p, const real[::1] g, real[::1] v, double momentum, bint nesterov, int steps):
    cdef int i
    cdef bint done = True
    with nogil:
        for i in range(steps):
            done = done and cython_api.sgd_update(p, g, v, 0.1, momentum, nesterov, 0.01)
    return done


def adagrad(real[::1] p, const real[::1] g, real[::1] s):
    with nogil:
        done = cython_api.adagrad_update(p, g, s, 0.1, 1e-10, 0.01)
    return done


def rmsprop(real[::1] p, const real[::1] g, real[::1] s):
    with nogil:
        done = cython_api.rmsprop_update(p, g, s, 0.1, 0.99, 1e-8, 0.01)
    return done


def adam(real[::1] p, const real[::1] g, real[::1] a, real[::1] b, Py_ssize_t first, Py_ssize_t last,
         bint decoupled):
    cdef Py_ssize_t step
    cdef bint done = True
    with nogil:
        for step in range(first, last + 1):
            done = done and cython_api.adam_update(p, g, a, b, step, 0.1, 0.9, 0.999, 1e-8, 0.01, decoupled)
    return done


def predict(handle, real[:, ::1] out, const real[:, ::1] x):
    """Row by row, in a loop without the GIL."""
    cdef cython_api.Handle h = cython_api.Handle(handle)
    cdef Py_ssize_t i
    cdef bint done = True
    with nogil:
        for i in range(x.shape[0]):
            done = done and cython_api.predict(h, out[i:i + 1], x[i:i + 1])
    return done


def predict_labels(handle, Py_ssize_t[:, ::1] out, const real[:, ::1] x):
    cdef cython_api.Handle h = cython_api.Handle(handle)
    with nogil:
        done = cython_api.predict_labels(h, out, x)
    return done
'''

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "cython.md"
SETUP = '''
from setuptools import Extension, setup
from Cython.Build import cythonize

setup(name="downstream", ext_modules=cythonize([Extension("downstream", ["downstream.pyx"])], quiet=True))
'''


def example():
    """The extension of the guide, without its first line, which must be the first of a file."""
    blocks = re.findall(r"^```cython\n(.*?)^```$", PAGE.read_text(), re.S | re.M) if PAGE.exists() else []
    return blocks[0].partition("\n")[2] if blocks else ""


@pytest.fixture(scope="module")
def downstream(tmp_path_factory):
    pytest.importorskip("Cython.Build")
    pytest.importorskip("setuptools")
    folder = tmp_path_factory.mktemp("downstream")
    (folder / "downstream.pyx").write_text(EXTENSION + example())
    (folder / "setup.py").write_text(SETUP)
    if os.name != "nt" and not shutil.which((sysconfig.get_config_var("CC") or "cc").split()[0]):
        pytest.skip("no C compiler")
    root = str(Path(fastmlp.__file__).parents[1])       # where this fastmlp is
    env = {**os.environ, "PYTHONPATH": root, "CFLAGS": "-O0"}
    built = subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=folder, env=env,
                           capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (binary,) = [*folder.glob("downstream.*.so"), *folder.glob("downstream.*.pyd")]
    spec = importlib.util.spec_from_file_location("downstream", binary)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def compiled():
    with use_backend("cython"):
        yield


def reals(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


def alpha_of(f):
    return getattr(f(), "alpha", 0.0)


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_dense_layers(rows, downstream, dtype, rng):
    x, w, b = reals(rng, dtype, rows, 9), reals(rng, dtype, 9, 17), reals(rng, dtype, 17)
    y = np.empty((rows, 17), dtype)
    for f in (activations.ReLU, activations.Tanh, activations.LeakyReLU, activations.GELU):
        assert downstream.forward(y, x, w, b, f.code, alpha_of(f), 3)
        assert_array_equal(y, F.dense_forward(x, w, b, f()))
    assert downstream.forward(y, x, w, None, 0)
    assert_array_equal(y, F.dense_forward(x, w))
    dy = reals(rng, dtype, rows, 17)
    y = F.dense_forward(x, w, b, "tanh")
    scratch = np.empty(downstream.scratch(x, w), dtype)
    for wanted in (True, False):
        dx, dw, db = np.empty_like(x) if wanted else None, np.empty_like(w), np.empty_like(b)
        assert downstream.backward(dw, db, dy, x, w, y, activations.Tanh.code, scratch, dx)
        expected = F.dense_backward(dy, x, w, y, "tanh", need_dx=wanted)
        for result, right in zip((dx, dw, db), expected):
            assert (result is None) == (right is None)
            if right is not None:
                assert_array_equal(result, right)


@pytest.mark.parametrize("name", list(activations.BY_NAME))
def test_activations(name, downstream, dtype, rng):
    f = activations.BY_NAME[name]
    x, dy, y, dx = (reals(rng, dtype, 37) for _ in range(4))
    assert downstream.activation(y, x, f.code, alpha_of(f))
    options = {"alpha": alpha_of(f)} if name in ("leaky_relu", "elu") else {}
    assert_array_equal(y, x if name == "identity" else getattr(F, name)(x, **options))
    given = y if f.from_output else x
    assert downstream.activation_backward(dx, dy, given, f.code, alpha_of(f))
    assert_array_equal(dx, dy if name == "identity" else getattr(F, f"{name}_backward")(dy, given, **options))


def test_softmax(downstream, dtype, rng):
    x, dy, y, dx = (reals(rng, dtype, 6, 21) for _ in range(4))
    for logarithm, name in enumerate(("softmax", "log_softmax")):
        assert downstream.rows(y, x, logarithm)
        assert_array_equal(y, getattr(F, name)(x))
        assert downstream.rows_backward(dx, dy, y, logarithm)
        assert_array_equal(dx, getattr(F, f"{name}_backward")(dy, y))


def test_losses(downstream, dtype, rng):
    z, d = reals(rng, dtype, 130, 5), np.empty((130, 5), dtype)
    labels, values = rng.integers(0, 5, 130), reals(rng, dtype, 130, 5)
    mean = downstream.loss_of_labels(d, z, labels, losses.CrossEntropy.code, 0.1)
    expected = F.softmax_cross_entropy(z, labels, label_smoothing=0.1)
    assert mean == pytest.approx(expected[0], rel=1e-12)
    assert_array_equal(d, expected[1])
    mean = downstream.loss_of_rows(d, z, values, losses.MeanSquaredError.code, 0)
    expected = F.mean_squared_error(z, values)
    assert mean == pytest.approx(expected[0], rel=1e-12)
    assert_array_equal(d, expected[1])


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd(momentum, nesterov, downstream, dtype, rng):
    p, g = reals(rng, dtype, 37), reals(rng, dtype, 37)
    q, v, u = p.copy(), *(np.zeros((2, 37), dtype) if momentum else (None, None))
    assert downstream.sgd(p, g, v, momentum, nesterov, 3)
    for _ in range(3):
        F.sgd_update(q, g, 0.1, momentum, u, nesterov, 0.01)
    assert_array_equal(p, q)


def test_other_updates(downstream, dtype, rng):
    g, start = reals(rng, dtype, 37), reals(rng, dtype, 37)
    for call, function, settings in ((downstream.adagrad, F.adagrad_update, (1e-10,)),
                                     (downstream.rmsprop, F.rmsprop_update, (0.99, 1e-8))):
        p, q, s, t = start.copy(), start.copy(), np.ones(37, dtype), np.ones(37, dtype)
        assert call(p, g, s)
        function(q, g, 0.1, t, *settings, 0.01)
        assert_array_equal(p, q)
        assert_array_equal(s, t)
    for decoupled in (False, True):
        for first, last in ((1, 5), (255, 258), (100_000, 100_001)):
            p, q = start.copy(), start.copy()
            a, b, c, d = (np.full(37, 0.5, dtype) for _ in range(4))
            assert downstream.adam(p, g, a, b, first, last, decoupled)
            for step in range(first, last + 1):
                F.adam_update(q, g, 0.1, c, d, step, 0.9, 0.999, 1e-8, 0.01, decoupled)
            assert_array_equal(p, q)
            assert_array_equal(a, c)


def test_handles(downstream, dtype, rng):
    model = MLP([6, 30, 4], dtype=dtype, seed=0)
    X = reals(rng, dtype, 50, 6)
    out, labels = np.empty((50, 4), dtype), np.empty((50, 1), np.intp)
    logits, proba, classes = (model.compile_predict(output=name) for name in ("logits", "proba", "labels"))
    assert downstream.predict(logits, out, X)
    assert_array_equal(out, model.forward(X))
    assert downstream.predict(proba, out, X)
    assert_array_equal(out, model.predict_proba(X))
    assert downstream.predict_labels(classes, labels, X)
    assert_array_equal(labels[:, 0], model.predict(X))
    assert not downstream.predict(classes, out, X)
    assert not downstream.predict_labels(logits, labels, X)
    assert not downstream.predict(logits, out[:, :3].copy(), X)
    assert not downstream.predict_labels(model.compile_predict(3, "labels"), labels, X)
    with pytest.raises(TypeError, match="handle: expected what compile_predict of a model on the compi"):
        downstream.predict(model, out, X)
    with use_backend("numpy"):
        slow = MLP([6, 4], seed=0).compile_predict()
    with pytest.raises(TypeError, match="handle: expected what compile_predict"):
        downstream.predict(slow, out, X)


@pytest.mark.parametrize("options", [{"dtype": "int8"}, {"compute_dtype": "bfloat16"}], ids=str)
@pytest.mark.filterwarnings("ignore:compute_dtype:RuntimeWarning")
def test_handles_of_other_products(options, downstream, rng):
    model, X, out = MLP([6, 30, 4], seed=0), reals(rng, "f4", 50, 6), np.empty((50, 4), "f4")
    handle = model.compile_predict(**options)
    assert downstream.predict(handle, out, X)
    assert_array_equal(out, handle(X))
    assert (out != model.forward(X)).any()


def test_handles_from_many_threads(downstream, dtype, rng):
    model = MLP([60, 100, 10], dtype=dtype, seed=0)
    X = reals(rng, dtype, 300, 60)
    handle, expected = model.compile_predict(), model.forward(X)
    outs = [np.empty((300, 10), dtype) for _ in range(6)]
    threads = [threading.Thread(target=downstream.predict, args=(handle, out, X)) for out in outs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for out in outs:
        assert_array_equal(out, expected)


def test_what_does_not_fit_is_refused(downstream, dtype, rng):
    x, w, b = reals(rng, dtype, 3, 4), reals(rng, dtype, 4, 5), reals(rng, dtype, 5)
    y = np.full((3, 5), 7, dtype)
    assert not downstream.forward(y, x, w[:3], b, 0)
    assert not downstream.forward(y, x, w, b[:4], 0)
    assert not downstream.forward(y[:2], x, w, b, 0)
    assert not downstream.forward(y, x, w, b, 999)
    assert not downstream.forward(y, x, w, b, -1)
    assert not downstream.forward(x[:, :4], x, np.zeros((4, 4), dtype), None, 0)
    flat = y.reshape(-1)
    assert not downstream.activation(flat[:14], flat[1:], 0, 0)
    assert not downstream.sgd(flat, flat.copy(), None, 0.9, False, 1)
    assert not downstream.adam(flat, flat.copy(), flat, np.zeros(15, dtype), 1, 1, False)
    assert not downstream.adam(flat, flat.copy(), np.zeros(15, dtype), np.zeros(15, dtype), 0, 0, False)
    z, code = np.zeros((3, 5), dtype), losses.CrossEntropy.code
    assert downstream.loss_of_labels(y, z, np.array([0, 1, 5]), code, 0) is None
    assert downstream.loss_of_labels(y, z, np.array([0, 1, 2]), 999, 0) is None
    assert (y == 7).all()


def test_empty_arrays(downstream, dtype, rng):
    w, b = reals(rng, dtype, 4, 5), reals(rng, dtype, 5)
    empty, y = np.empty((0, 5), dtype), np.empty((3, 5), dtype)
    assert downstream.forward(empty, np.empty((0, 4), dtype), w, b, 0)
    assert downstream.forward(y, np.empty((3, 0), dtype), w[:0], b, 0)
    assert_array_equal(y, np.broadcast_to(b, (3, 5)))
    none = np.empty(0, dtype)
    assert downstream.activation(none, none, 0, 0)
    assert downstream.rows(empty, empty, False)
    assert downstream.loss_of_rows(empty, empty, empty, losses.MeanSquaredError.code, 0) is None
    assert downstream.sgd(none, none, None, 0, False, 1)
    model = MLP([4, 5], dtype=dtype, seed=0)
    assert downstream.predict(model.compile_predict(), empty, np.empty((0, 4), dtype))
    labels = np.empty((0, 1), np.intp)
    assert downstream.predict_labels(model.compile_predict(output="labels"), labels, np.empty((0, 4), dtype))


def test_the_example_of_the_guide(downstream, rng):
    if not PAGE.exists():
        pytest.skip("the tests run without the source tree")
    model = MLP([6, 20, 4], seed=0)
    X = reals(rng, "f4", 30, 6)
    y, hidden = np.empty((30, 4), "f4"), np.empty((30, 20), "f4")
    (w1, w2), (b1, b2) = (map(np.ascontiguousarray, arrays) for arrays in (model.weights, model.biases))
    downstream.two_layers(y, hidden, X, w1, b1, w2, b2)
    assert_array_equal(y, model.forward(X))
    with pytest.raises(ValueError, match="the arrays do not fit"):
        downstream.two_layers(y, hidden, X[:, :5].copy(), *(np.zeros((6, 20), "f4"), None) * 2)
    out = np.empty_like(y)
    downstream.ask(model.compile_predict(), out, X)
    assert_array_equal(out, y)
