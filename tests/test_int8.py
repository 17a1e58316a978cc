"""Handles in 8-bit integers: the specification against its formulas, kernels against it, the report."""
from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from conftest import LAYOUTS, lay_out
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import MLP, SGD, Adam, LeakyReLU, activations, kernels
from fastmlp._core.int8 import MOST_INPUTS, int8_layers, quantised_weights
from fastmlp.backends import cython
from fastmlp.backends.numpy import int8
from fastmlp.kernels import ops

# What multiplies, (instruction set, name).
WAYS = [(isa, way) for isa in kernels.available_isas() for way in kernels.available_int8(isa)]
FMA_WAYS = [(isa, way) for isa, way in WAYS if isa != "portable"]
NETWORKS = [[1, 1], [3, 2], [4, 16, 3], [7, 33, 17, 1], [70, 129, 131, 37], [784, 100, 10], [1, 300, 65, 31],
            [130, 1, 63, 64]]
ROWS = [1, 2, 3, 4, 5, 7, 12, 13, 31, 128, 129, 300]


@pytest.fixture
def use(monkeypatch):
    """A function that has handles multiply with the kernels of (isa, way)."""
    def choose(isa, way):
        module = kernels.load_int8(isa, way)
        if isa != kernels.active_isa():         # which was told at import what it uses of Python
            module.introduce(np.ndarray, np.dtype("f4"), np.empty, activations.resolve, {}, None, None)
        monkeypatch.setitem(cython._kernels.KERNELS, "f", module)
        monkeypatch.setattr(cython.engine, "int8_by", lambda: way)
    return choose


@pytest.fixture
def compiled():
    with fastmlp.use_backend("cython"):
        yield


def randomised(model, rng):
    for arrays in (model.biases, model.running_means):
        for array in arrays:
            if array is not None:
                array[...] = rng.standard_normal(array.shape)
    for arrays in (model.scales, model.running_variances):
        for array in arrays:
            if array is not None:
                array[...] = rng.uniform(0.5, 2, array.shape) * rng.choice([-1, 1] if arrays is model.scales
                                                                          else [1], array.shape)
    return model


def samples(rng, rows, columns):
    return rng.standard_normal((rows, columns)).astype(np.float32)


def specified(model, X):
    """Outputs of the int8 handle of a model, by the specification."""
    out = np.empty((len(X), model.layers[-1]), np.float32)
    int8.forward(int8_layers(model.core.parameters, model.core.statistics, network(model)), X, out)
    return out


def network(model):
    from fastmlp._core.network import Layer
    return [Layer(f, 0.0, norm) for f, norm in zip(model.activations, (*model.batch_norm, None))]


def same_bits(x, y):
    assert_array_equal(np.isnan(x), np.isnan(y))
    x, y = (np.where(np.isnan(a), np.float32(0), a) for a in (x, y))
    assert_array_equal(x.view(np.uint32), y.view(np.uint32))


# The specification ---------------------------------------------------------------------------------------

def test_weights_are_within_half_a_step(rng):
    w = (rng.standard_normal((40, 30)) * 10.0 ** rng.integers(-20, 20, 30)).astype(np.float32)
    w[:, 3] = 0
    v, scales = quantised_weights(w)
    assert v.dtype == np.int8 and scales.dtype == np.float32
    assert (np.abs(v).max(axis=0) == np.where(scales > 0, 127, 0)).all() and scales[3] == 0
    error = np.abs(w - v * scales.astype(np.float64))
    assert (error <= scales.astype(np.float64) * 0.5 * (1 + 1e-5)).all()


@pytest.mark.parametrize("shift", [-100, -1, 0, 1, 100])
def test_rows_are_within_half_a_step(shift, rng):
    x = (rng.standard_normal((200, 31)) + shift) * 10.0 ** rng.integers(-20, 20, (200, 1))
    x = x.astype(np.float32)
    q, s, z = int8.quantised_rows(x)
    assert q.dtype == np.uint8 and s.shape == z.shape == (200, 1)
    back = s.astype(np.float64) * (q.astype(int) - z)
    assert (np.abs(back - x) <= s * (0.5 + 1e-4)).all()
    assert ((x.min(axis=1) < 0) == (z[:, 0] > 0)).all() or abs(shift) == 0
    assert_array_equal(int8.quantised_rows(np.zeros((2, 5), np.float32))[0], 0)


def test_zero_is_exact(rng):
    x = samples(rng, 50, 20)
    x[:, 4] = 0
    q, _, z = int8.quantised_rows(x)
    assert_array_equal(q[:, 4:5], z)


def test_error_bound(rng):
    """Of a layer, against float64: that of the documentation."""
    for scale in (1e-3, 1, 1e4):
        model = randomised(MLP([300, 40], seed=0), rng)
        X = np.float32(scale) * samples(rng, 100, 300)
        w, b = (np.asarray(a[0], np.float64) for a in (model.weights, model.biases))
        _, columns = quantised_weights(model.weights[0])
        _, s, _ = int8.quantised_rows(X)
        x, s, t = np.abs(X.astype(np.float64)), s.astype(np.float64), columns.astype(np.float64)
        bound = (x @ np.ones_like(w)) * t / 2 + s / 2 * np.abs(w).sum(axis=0) + 300 * s * t / 4
        error = np.abs(model.compile_predict(dtype="int8")(X) - (X @ w + b))
        assert (error <= bound * (1 + 1e-4) + 1e-6 * np.abs(b)).all()
        assert error.max() > bound.min() / 1000          # no float32 in disguise


# Kernels -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("isa", "way"), WAYS, ids=str)
@pytest.mark.parametrize("layers", NETWORKS, ids=str)
def test_to_the_bit(layers, isa, way, use, compiled, rng):
    """Activations without an exponential, every number of rows, as part of any batch, on some threads."""
    use(isa, way)
    X = samples(rng, 300, layers[0])
    for activation in ("relu", "identity", LeakyReLU(0.2)):
        model = randomised(MLP(layers, activation=activation, seed=0), rng)
        expected = specified(model, X)
        one, three = model.compile_predict(dtype="int8"), model.compile_predict(dtype="int8", threads=3)
        for rows in ROWS:
            for first in (0, 300 - rows):
                part = slice(first, first + rows)
                for handle in (one, three):
                    out = np.full((rows, layers[-1]), np.nan, np.float32)
                    assert handle(X[part], out) is out
                    same_bits(out, expected[part])


@pytest.mark.parametrize(("isa", "way"), WAYS, ids=str)
def test_every_size_to_the_bit(isa, way, use, compiled, rng):
    """From 1 to 70 inputs, outputs and rows, each size of each in one of the products."""
    use(isa, way)
    for i in range(70):
        inputs, outputs, rows = i + 1, 1 + i * 29 % 70, 1 + i * 37 % 70
        model = randomised(MLP([inputs, outputs], seed=0), rng)
        X = samples(rng, rows, inputs)
        same_bits(model.compile_predict(dtype="int8")(X), specified(model, X))


@pytest.mark.parametrize(("isa", "way"), WAYS, ids=str)
def test_batch_normalisation_to_the_bit(isa, way, use, compiled, rng):
    use(isa, way)
    X = samples(rng, 40, 33)
    model = randomised(MLP([33, 50, 20, 5], batch_norm=True, seed=0), rng)
    handle = model.compile_predict(dtype="int8")
    same_bits(handle(X), specified(model, X))
    assert np.abs(handle(X) - model.forward(X)).max() < 0.05 * np.abs(model.forward(X)).max()


@pytest.mark.parametrize(("isa", "way"), WAYS, ids=str)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_longest_sums(sign, isa, way, use, compiled):
    """As many inputs as there can be, all terms as large as they can be."""
    use(isa, way)
    model = MLP([MOST_INPUTS, 2], seed=0)
    model.weights[0] = np.full((MOST_INPUTS, 2), sign, np.float32)
    found = model.compile_predict(dtype="int8")(np.ones((3, MOST_INPUTS), np.float32))
    total = sign * 255 * 127 * MOST_INPUTS
    assert -2**31 < total < 2**31 and abs(total) + 255 * 127 >= 2**31
    step, scale = np.float32(1) / np.float32(255), np.float32(1) / np.float32(127)
    same_bits(found, np.full((3, 2), np.float32(total) * scale * step))
    found = model.compile_predict(dtype="int8")(-np.ones((1, MOST_INPUTS), np.float32))
    same_bits(found, np.full((1, 2), np.float32(-total) * scale * step))


@pytest.mark.parametrize(("isa", "way"), WAYS, ids=str)
def test_sums_that_a_float_does_not_hold(isa, way, use, compiled):
    """Two terms that cancel but for 1, among terms that are larger than 2^24 together."""
    use(isa, way)
    n = 1200
    model = MLP([n, 1], loss="mean_squared_error", seed=0)
    w = np.full((n, 1), 127, np.float32)
    w[n // 2:] = -127
    w[1] = 126
    model.weights[0] = w
    x = np.full((1, n), 255, np.float32)
    x[0, 1] = 1
    x[0, 0] = 254
    total = int((x.astype(int) @ w.astype(int)).item())
    same_bits(model.compile_predict(dtype="int8")(x), np.float32([[total]]))


def test_one_hash_for_all(use, compiled, rng):
    """Of every activation, whatever multiplies, on any number of threads, rows together and alone."""
    X, hashes = samples(rng, 70, 45), set()
    for isa, way in FMA_WAYS:
        use(isa, way)
        for threads in (1, 2, 4):
            digest = hashlib.sha256()
            for entry in ops.ACTIVATIONS:
                for norm in (False, True):
                    model = MLP([45, 64, 37, 6], activation=entry.name, batch_norm=norm, seed=0)
                    randomised(model, np.random.default_rng(3))
                    for output in ("logits", "proba", "labels"):
                        handle = model.compile_predict(output=output, dtype="int8", threads=threads)
                        together = handle(X)
                        alone = [handle(X[i:i + 1]) for i in range(3)]
                        assert_array_equal(np.concatenate(alone), together[:3])
                        digest.update(together.tobytes())
            hashes.add(digest.hexdigest())
    assert len(hashes) == 1


def test_threads_that_share_columns(backend, rng):
    """Large weights and few rows: every thread has some columns."""
    model = MLP([500, 900, 520], seed=0)
    X = samples(rng, 3, 500)
    expected = specified(model, X)
    handle = model.compile_predict(dtype="int8", threads=3)
    for rows in (1, 2, 3):
        for _ in range(5):
            same_bits(handle(X[:rows]), expected[:rows])


@pytest.mark.parametrize("name", [entry.name for entry in ops.ACTIVATIONS])
def test_every_activation_beside_float32(name, backend, rng):
    """A hidden unit is off by what a step of its row is, and a weight by half a step of its column."""
    model = randomised(MLP([60, 80, 5], activation=name, seed=0), rng)
    X = samples(rng, 100, 60)
    found, expected = model.compile_predict(dtype="int8")(X), model.forward(X)
    assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()
    assert (found != expected).any()
    assert np.abs(found - specified(model, X)).max() < 0.005 * np.abs(expected).max()


# What lays down operands: also those of instructions that this processor may not have.
ORDER = """
#include <stdio.h>
#include <stddef.h>
typedef ptrdiff_t Py_ssize_t;
#include "int8.h"

int main(void) {
    int count = way == DOT ? VECTORS_DOT : VECTORS_WIDENED, size = way == DOT ? 1 : 4 / WIDENED_TERMS;
    ivec q[4];
    unsigned char bytes[4 * 64] = {0};
    for (int i = 0; i < count * VL; i++) ((ireal *)q)[i] = 2 * i;
    if (way == DOT && DOT_SATURATES) ((ireal *)q)[1] = 256;
    vstore_inputs(way, (char *)bytes, q);
    for (int i = 0; i < count * VL; i++) {
        int expected = i == 1 && way == DOT && DOT_SATURATES ? 255 : 2 * i;
        for (int b = 0; b < size; b++)
            if (bytes[i * size + b] != (b == 0 ? expected : 0)) return 1;
    }
    return bytes[count * VL * size] != 0;
}
"""
FLAGS = {"avx512": ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma"],
         "avx2": ["-mavx2", "-mfma"], "neon": [], "portable": []}


@pytest.mark.parametrize("way", ["DOT", "WIDENED"])
@pytest.mark.parametrize("isa", kernels.available_isas())
def test_the_order_of_operands(isa, way, tmp_path):
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None or platform.system() == "Windows":
        pytest.skip("needs a C compiler")
    (tmp_path / "order.c").write_text(ORDER)
    headers = Path(kernels.__file__).parent
    macros = [f"-DFASTMLP_ISA_{isa}", "-DFASTMLP_REAL_f32", f"-Dway={way}"]
    command = [compiler, "-O1", *FLAGS[isa], *macros, "-I", headers, "order.c", "-o", "order"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert subprocess.run([tmp_path / "order"], timeout=60).returncode == 0


# Values that are not usual -------------------------------------------------------------------------------

def test_rows_that_are_not_finite(use, rng):
    model = randomised(MLP([20, 30, 4], seed=0), rng)
    X = samples(rng, 6, 20)
    good = model.compile_predict(dtype="int8")(X)
    X[1, 3], X[2, 19], X[4, 0] = np.nan, np.inf, -np.inf
    bad = np.array([False, True, True, False, True, False])
    for isa, way in WAYS:
        use(isa, way)
        for backend in ("cython", "numpy"):
            with fastmlp.use_backend(backend):
                twin = randomised(MLP([20, 30, 4], seed=0), np.random.default_rng(7))
            found = twin.compile_predict(dtype="int8")(X)
            assert np.isnan(found[bad]).all()
            same_bits(found[~bad], good[~bad])
            assert np.isnan(twin.compile_predict(dtype="int8", output="proba")(X)[bad]).all()


def test_weights_that_are_not_finite(backend, rng):
    """Their column is NaN, and of a hidden one everything; a bias that is not is added."""
    model = MLP([5, 4], seed=0)
    X = samples(rng, 3, 5)
    good = model.compile_predict(dtype="int8")(X)
    model.weights[0][2, 1], model.weights[0][0, 2], model.biases[0][3] = np.nan, np.inf, np.inf
    found = model.compile_predict(dtype="int8")(X)
    same_bits(found[:, 0], good[:, 0])
    assert np.isnan(found[:, 1:3]).all() and (found[:, 3] == np.inf).all()


@pytest.mark.parametrize("size", [0.0, 1e-44, 1e-40, 1e-37, 1e-34, 1e-20, 1e20, 1e33, 3e38])
def test_zeros_and_extremes(size, use, rng):
    """Of any size: the bits of the specification; zeros and what counts as zeros give the bias."""
    for rows in ("positive", "mixed"):
        X = rng.uniform(0 if rows == "positive" else -1, 1, (9, 33)).astype(np.float32) * np.float32(size)
        for weight in (1e-42, 1e-36, 1e-20, 1.0, 1e20, 3e38):
            model = randomised(MLP([33, 20, 3], seed=0), rng)
            model.weights[0] *= np.float32(weight)
            model.weights[0][:, 5] = 0
            expected = specified(model, X)
            for isa, way in WAYS:
                use(isa, way)
                with fastmlp.use_backend("cython"):
                    twin = randomised(MLP([33, 20, 3], seed=0), rng)
                twin.weights[:], twin.biases[:] = model.weights, model.biases
                same_bits(twin.compile_predict(dtype="int8")(X), expected)
            if size < 1e-38 or weight < 1e-38:
                zero = specified(model, np.zeros_like(X))
                same_bits(expected, zero)


def test_constant_columns_and_rows(backend, rng):
    """Inputs that never change, and rows of one number: as exact as a step can be."""
    model = randomised(MLP([30, 8], seed=0), rng)
    handle = model.compile_predict(dtype="int8")
    for value in (0, 3, -2):
        X = np.full((4, 30), value, np.float32)
        found = handle(X)
        assert (found == found[0]).all()
        exact = np.abs(value) * np.abs(model.weights[0]).sum(axis=0)
        assert (np.abs(found - model.forward(X)) <= exact / 127 + 1e-5).all()


# A handle like the others --------------------------------------------------------------------------------

LOSSES = [("cross_entropy", 3), ("binary_cross_entropy", 1), ("binary_cross_entropy", 3), ("hinge", 1),
          ("mean_squared_error", 1), ("mean_squared_error", 2), ("poisson", 2), ("multiclass_hinge", 4),
          ("kl_divergence", 3)]


@pytest.mark.parametrize(("loss", "outputs"), LOSSES)
def test_outputs(loss, outputs, backend, rng):
    """Probabilities and labels are those of the logits."""
    model = randomised(MLP([5, 9, outputs], loss=loss, seed=0), rng)
    X = samples(rng, 40, 5)
    logits = model.compile_predict(dtype="int8")(X)
    labels = model.compile_predict(dtype="int8", output="labels")
    expected = model.loss.predict(logits.copy(), model.backend)
    assert labels(X).dtype == expected.dtype == labels.dtype
    np.testing.assert_allclose(labels(X), expected, rtol=1e-6)
    if model.loss.output in ("softmax", "sigmoid"):
        proba = model.compile_predict(dtype="int8", output="proba")(X)
        np.testing.assert_allclose(proba, model.loss.predict_proba(logits.copy(), model.backend), rtol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_and_dtypes(layout, backend, rng):
    model = MLP([5, 9, 3], seed=0)
    X = rng.integers(0, 9, (7, 5)).astype(np.float32)
    handle = model.compile_predict(dtype="int8")
    expected = handle(X)
    for kind in ("f4", "f8", "f2", "u1", "i4"):
        assert_array_equal(handle(lay_out(X.astype(kind), layout)), expected)
    if layout != "read_only":
        out = lay_out(np.zeros_like(expected), layout)
        assert handle(X, out) is out
        assert_array_equal(out, expected)


def test_batch_size_and_many_rows(backend, rng):
    model = MLP([4, 40, 3], seed=0)
    X = samples(rng, 9000, 4)
    expected = specified(model, X)
    for options in ({}, {"threads": 2}, {"batch_size": 9000}):
        same_bits(model.compile_predict(dtype="int8", **options)(X), expected)
    handle = model.compile_predict(7, dtype="int8")
    same_bits(handle(X[:7]), expected[:7])
    with pytest.raises(ValueError, match="X: expected at most 7 rows"):
        handle(X[:8])


def test_the_handle_is_independent_of_the_model(backend, rng):
    model = MLP([5, 9, 3], batch_norm=True, seed=0)
    X, y = samples(rng, 64, 5), rng.integers(0, 3, 64)
    kept = []
    model.fit(X, y, epochs=3, batch_size=8, optimizer=SGD(0.5), progress=False,
              callbacks=[lambda *_: kept.append((model.compile_predict(dtype="int8"), specified(model, X)))])
    assert len(kept) == 3 and (kept[0][1] != kept[1][1]).any()
    for handle, expected in kept:
        same_bits(handle(X), expected)


def test_of_a_bfloat16_model(backend, rng):
    """Its weights are float32, of which the integers are made."""
    plain = randomised(MLP([20, 30, 3], seed=0), rng)
    model = MLP([20, 30, 3], seed=0, compute_dtype="bfloat16")
    model.weights[:], model.biases[:] = plain.weights, plain.biases
    X = samples(rng, 9, 20)
    assert_array_equal(model.compile_predict(dtype="int8")(X), plain.compile_predict(dtype="int8")(X))


def test_many_threads_at_once(backend, rng):
    model = randomised(MLP([100, 200, 50, 10], activation=LeakyReLU(0.1), batch_norm=True, seed=0), rng)
    X = samples(rng, 400, 100)
    handle, expected = model.compile_predict(dtype="int8"), specified(model, X)
    start = threading.Barrier(8)

    def work(seed):
        random = np.random.default_rng(seed)
        start.wait()
        for _ in range(100 if backend == "cython" else 5):
            first, rows = random.integers(0, 350), random.integers(1, 50)
            same_bits(handle(X[first:first + rows]), expected[first:first + rows])

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, seed) for seed in range(8)]:
            done.result()


def test_nothing_is_allocated(compiled, rng):
    handle = MLP([30, 40, 3], seed=0).compile_predict(dtype="int8")
    X, out = samples(rng, 50, 30), np.empty((50, 3), np.float32)
    first = handle.nbytes
    for _ in range(10):
        handle(X, out)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        for _ in range(100):
            handle(X, out)
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < 2000 and after - before < 1000
    assert handle.nbytes <= (1 + os.cpu_count()) * first


def test_memory(compiled):
    model = MLP([784, 256, 128, 10], seed=0)
    small, large = (model.compile_predict(1, dtype=dtype) for dtype in ("int8", None))
    assert small.predictor.parameters_nbytes < 0.27 * large.predictor.parameters_nbytes
    assert small.nbytes < 0.35 * large.nbytes


def test_what_it_says_of_itself(backend):
    model = MLP([5, 9, 3], seed=0)
    handle = model.compile_predict(4, dtype="int8")
    assert repr(handle) == ("InferenceHandle([5, 9, 3], output='logits', dtype='float32', batch_size=4, "
                            "compute_dtype='int8')")
    assert (handle.compute_dtype, handle.dtype, handle.report) == ("int8", np.float32, None)
    assert model.compile_predict().compute_dtype == "float32"
    assert model.compile_predict(compute_dtype="bfloat16").compute_dtype == "bfloat16"
    with pytest.raises(AttributeError, match="report: cannot be assigned"):
        handle.report = None


@pytest.mark.parametrize("dtype", ["int8", "i1", np.int8, np.dtype("int8")])
def test_names_of_the_dtype(dtype):
    assert MLP([2, 2], seed=0).compile_predict(dtype=dtype).compute_dtype == "int8"


@pytest.mark.parametrize(("options", "error", "message"), [
    ({"dtype": "int4"}, ValueError, "dtype: expected None or 'int8', got 'int4'"),
    ({"dtype": "float32"}, ValueError, "dtype: expected None or 'int8', got 'float32'"),
    ({"dtype": 8}, ValueError, "dtype: expected None or 'int8', got 8"),
    ({"dtype": "int8", "compute_dtype": "bfloat16"}, ValueError,
     "compute_dtype: expected None beside dtype='int8', got 'bfloat16'"),
    ({"dtype": "int8", "threads": 0}, ValueError, "threads: expected an integer from 1 to 256, got 0"),
    ({"validation_data": [1, 2]}, TypeError, r"validation_data: expected a tuple \(X, y\), got list"),
    ({"validation_data": (1, 2, 3)}, TypeError, r"validation_data: expected a tuple \(X, y\), got 3 items"),
    ({"validation_data": (np.zeros((2, 5)), [0, 1])}, ValueError,
     r"validation_data\[0\]: expected shape \(rows, 2\), got \(2, 5\)"),
    ({"validation_data": (np.zeros((0, 2)), [])}, ValueError, r"validation_data\[0\]: "),
    ({"validation_data": (np.zeros((3, 2)), [0, 1])}, ValueError, r"validation_data\[1\]: "),
    ({"validation_data": (np.zeros((2, 2)), [0, 5])}, ValueError, r"validation_data\[1\]: "),
    ({"validation_data": ("ab", [0, 1])}, TypeError, r"validation_data\[0\]: expected an array or a table"),
])
def test_bad_arguments(options, error, message, backend):
    model = MLP([2, 3], seed=0)
    before = model.weights[0].copy()
    with pytest.raises(error, match=message):
        model.compile_predict(**options)
    assert_array_equal(model.weights[0], before)


def test_models_that_are_refused(backend):
    with pytest.raises(ValueError, match="dtype: 'int8' goes with a model of dtype float32, got float64"):
        MLP([2, 2], dtype="float64", seed=0).compile_predict(dtype="int8")
    with pytest.raises(ValueError, match=f"dtype: 'int8' takes layers of at most {MOST_INPUTS} inputs, whose "
                                         f"sums fit in 32 bits; layer 0 has {MOST_INPUTS + 1}"):
        MLP([MOST_INPUTS + 1, 1], seed=0).compile_predict(dtype="int8")


# The report ----------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def digits():
    with np.load(str(files("fastmlp") / "data" / "digits.npz")) as archive:
        X, y = (archive[name] for name in archive.files[:2])
    X = X.reshape(len(X), -1).astype(np.float32) / np.float32(X.max())
    order = np.random.default_rng(0).permutation(len(X))
    return X[order], y[order].astype(int)


@pytest.mark.parametrize("options", [{}, {"activation": "gelu"}, {"batch_norm": True},
                                     {"activation": "tanh"}], ids=str)
def test_accuracy_of_digits(options, digits):
    """Within 0.2 points of float32, of networks that have learned them."""
    X, y = digits
    half, reports = len(X) // 2, []
    for seed in range(3):
        model = MLP([64, 128, 64, 10], seed=seed, **options)
        model.fit(X[:half], y[:half], epochs=15, batch_size=32, optimizer=Adam(2e-3), progress=False)
        handle = model.compile_predict(dtype="int8", validation_data=(X[half:], y[half:]))
        reports.append(handle.report)
        labels = model.compile_predict(dtype="int8", output="labels")(X[half:])
        assert reports[-1].score == np.mean(labels == y[half:]) > 0.94
        assert reports[-1].model_score == model.evaluate(X[half:], y[half:])["accuracy"]
        assert reports[-1].agreement == np.mean(labels == model.predict(X[half:])) > 0.99
    off = [report.score - report.model_score for report in reports]
    assert abs(np.mean(off)) <= 0.002


def test_report(backend, rng):
    model = randomised(MLP([20, 30, 3], seed=0), rng)
    X, y = samples(rng, 2500, 20), rng.integers(0, 3, 2500)
    for output in ("logits", "labels"):
        handle = model.compile_predict(output=output, dtype="int8", validation_data=(X, y))
        report = handle.report
        logits, expected = model.compile_predict(dtype="int8")(X), model.forward(X)
        assert (report.compute_dtype, report.model_dtype, report.samples) == ("int8", "float32", 2500)
        assert report.largest_difference == pytest.approx(np.abs(logits - expected).max(), rel=1e-5)
        assert report.largest_output == pytest.approx(np.abs(expected).max(), rel=1e-5)
        assert report.agreement == np.mean(logits.argmax(1) == expected.argmax(1))
        assert report.score == np.mean(logits.argmax(1) == y)
        assert report.nbytes < report.model_nbytes
        text = str(report)
        assert text.startswith("int8 beside float32, 2,500 samples\nsame labels: ")
        assert f"accuracy: {report.score:.4f} beside {report.model_score:.4f}" in text
        assert "largest difference of outputs: " in text and "weights: " in text
    without = model.compile_predict(dtype="int8", validation_data=(X, None)).report
    assert without.score is None and without.agreement == report.agreement and "accuracy" not in str(without)


def test_report_of_values(backend, rng):
    model = randomised(MLP([20, 30, 1], loss="mean_squared_error", seed=0), rng)
    X = samples(rng, 100, 20)
    y = model.forward(X)[:, 0] + 0.1 * rng.standard_normal(100)
    report = model.compile_predict(dtype="int8", validation_data=(X, y)).report
    assert report.agreement is None and report.metric == "r2"
    assert report.model_score == pytest.approx(model.evaluate(X, y)["r2"])
    assert abs(report.score - report.model_score) < 0.02 and "same labels" not in str(report)


def test_report_of_bfloat16_and_of_the_model_itself(backend, rng):
    model = MLP([20, 30, 3], seed=0)
    X, y = samples(rng, 50, 20), rng.integers(0, 3, 50)
    own = model.compile_predict(validation_data=(X, y)).report
    assert own.largest_difference == 0 and own.agreement == 1 and own.nbytes == own.model_nbytes
    rounded = model.compile_predict(compute_dtype="bfloat16", validation_data=(X, y)).report
    assert rounded.compute_dtype == "bfloat16" and 0 < rounded.largest_difference < 0.1


def test_report_without_the_samples_that_are_ignored(backend, rng):
    model = MLP([4, 3], loss=fastmlp.losses.CrossEntropy(ignore_index=-1), seed=0)
    X, y = samples(rng, 30, 4), rng.integers(0, 3, 30)
    y[::2] = -1
    report = model.compile_predict(dtype="int8", validation_data=(X, y)).report
    assert report.model_score == model.evaluate(X, y)["accuracy"]


def test_report_of_outputs_that_are_not_finite(backend):
    model = MLP([4, 3], seed=0)
    X = np.ones((3, 4))
    X[1, 1] = np.nan
    report = model.compile_predict(dtype="int8", validation_data=(X, [0, 1, 2])).report
    assert np.isnan(report.largest_difference)


# What multiplies -----------------------------------------------------------------------------------------

def run_python(code, **environment):
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment},
                          capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("way", kernels.available_int8())
def test_what_is_forced_is_what_runs(way):
    code = ("import fastmlp; print(fastmlp.active_int8(), fastmlp.available_int8());"
            "print(fastmlp.MLP([3, 2], seed=0).compile_predict(dtype='int8')([[1, 2, 3]]).tobytes().hex())")
    result = run_python(code, FASTMLP_INT8=way, FASTMLP_ISA=kernels.active_isa())
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"{way} {kernels.available_int8()}")
    found = MLP([3, 2], seed=0).compile_predict(dtype="int8")([[1, 2, 3]])
    assert result.stdout.split()[-1] == found.tobytes().hex()


@pytest.mark.parametrize("way", ["vnni", *sorted({"amx", "amx_emulated", "avx512_vnni", "avx_vnni"}
                                                 - set(kernels.available_int8()))])
def test_what_cannot_be_had_raises_at_import(way):
    result = run_python("import fastmlp", FASTMLP_INT8=way)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: FASTMLP_INT8") and repr(way) in last
    assert last.endswith("available here: " + ", ".join(kernels.available_int8()))


def test_names_of_the_modules():
    """Every module has what it is said to have; there is always something."""
    for isa in kernels.available_isas():
        names = kernels.available_int8(isa)
        assert "widened" in names and set(names) <= set(kernels.load(isa, "float32").MULTIPLIERS)
        assert "amx_emulated" not in names[:-1]     # the slowest
        assert not kernels.load(isa, "float64").MULTIPLIERS
    with pytest.raises(KeyError):
        kernels.module("float32").Predictor([], "values", np.dtype("f4"), False, 0, 1, "no such way")
