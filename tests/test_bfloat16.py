"""Products of bfloat16: the specification against silicon and exact arithmetic, kernels against it."""
from __future__ import annotations

import copy
import hashlib
import os
import pickle
import platform
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import MLP, SGD, AdaGrad, Adam, AdamW, RMSprop, kernels
from fastmlp.activations import resolve
from fastmlp.backends import cython
from fastmlp.backends.numpy import bfloat16

# What computes the products: (instruction set, name), and those of which all give the same bits.
WAYS = [(isa, way) for isa in kernels.available_isas() for way in kernels.available_bfloat16(isa)]
FMA_WAYS = [(isa, way) for isa, way in WAYS if isa != "portable"]
SILICON = Path(__file__).parent / "data" / "bf16_silicon_small.npz"
ROUNDOFF, SUMS = 2.0**-8, 2.0**-24          # relative, of an operand and of float32
THREADS = [1, 2, 3, 4]

pytestmark = pytest.mark.filterwarnings("ignore:compute_dtype:RuntimeWarning")     # of a processor without it


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = fastmlp.get_num_threads()
    yield
    fastmlp.set_num_threads(before)


@pytest.fixture
def use(monkeypatch):
    """A function that has models compute in bfloat16 with the kernels of (isa, way)."""
    def choose(isa, way):
        bfloat16_kernels(isa, way, monkeypatch)
    return choose


def bfloat16_kernels(isa, way, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(cython._kernels, "KERNELS", dict(cython._kernels.KERNELS))
        cython._kernels.KERNELS.pop("bfloat16", None)
        patch.setattr(cython._kernels, "bfloat16_module", lambda: kernels.load_bfloat16(isa, way))
        module = cython._kernels.kernels_of(np.dtype(np.float32), "bfloat16")
    monkeypatch.setitem(cython._kernels.KERNELS, "bfloat16", module)
    assert (module.ISA, module.BF16) == (isa, way)


def widened(h):
    """Bits of bfloat16 as float64."""
    return (h.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def same_bits(x, y):
    x, y = (np.ascontiguousarray(a, np.float32) for a in (x, y))
    return (x.view(np.uint32) == y.view(np.uint32)) | (np.isnan(x) & np.isnan(y))


def spread(rng, *shape, orders=12):
    """Numbers of any sign over many binary orders of magnitude."""
    return (rng.standard_normal(shape) * 2.0 ** rng.integers(-orders, orders, shape)).astype(np.float32)


# The specification ---------------------------------------------------------------------------------------

def flush(x):
    return bfloat16.flushed(x.astype(np.float32)).astype(np.float64)


def test_silicon_tiles():
    """TDPBF16PS: normal numbers, many magnitudes, near underflow, subnormal operands, overflow, NaN."""
    recorded = np.load(SILICON)
    for c, a, b, result in zip(*(recorded[f"amx_{name}"] for name in ("c", "a", "b", "result"))):
        rows = b.reshape(16, 16, 2).transpose(0, 2, 1).reshape(32, 16)     # pairs of rows lie side by side
        ours = bfloat16.add_span(c, flush(widened(a)), flush(widened(rows)))
        assert same_bits(ours, result).all()


def test_silicon_pairs():
    """VDPBF16PS: two FMAs, of the high halves first."""
    recorded = np.load(SILICON)
    c, a, b, result = (recorded[f"vdp_{name}"] for name in ("c", "a", "b", "result"))
    a, b = flush(widened(a)), flush(widened(b))
    ours = bfloat16.fma(a[:, 1::2], b[:, 1::2], flush(c))
    ours = bfloat16.fma(a[:, 0::2], b[:, 0::2], ours)
    assert same_bits(ours, result).all()


def test_rounding(rng):
    """Against the rounding of NumPy to whole numbers, which is to nearest even, too."""
    special = np.float32([0.0, -0.0, np.inf, -np.inf, 3.4e38, 1.00390625, 1.01171875])
    x = np.concatenate([spread(rng, 4000, orders=100), special])
    mantissa, exponent = np.frexp(x.astype(np.float64))
    expected = np.ldexp(np.rint(mantissa * 256), exponent - 8).astype(np.float64)
    with np.errstate(over="ignore"):
        expected = np.where(np.abs(expected) >= 2.0**128, np.copysign(np.inf, x), expected).astype(np.float32)
    assert_array_equal(bfloat16.rounded(x), expected)
    assert np.isnan(bfloat16.rounded(np.uint32([0x7FFFFFFF, 0x7F800001, 0xFFC00000]).view(np.float32))).all()


def nearest(exact):
    """The float32 next to a fraction, ties to even; below the normal numbers, 0."""
    guess = np.float32(float(exact))
    if abs(float(exact)) < 2.0**-126:
        return guess if abs(guess) >= np.float32(2.0**-126) else np.float32(0)
    near = [guess, np.nextafter(guess, np.float32(np.inf)), np.nextafter(guess, np.float32(-np.inf))]
    return min(near, key=lambda x: (abs(Fraction(float(x)) - exact), int(x.view(np.uint32)) & 1))


def test_fma_against_fractions(rng):
    """Among them sums whose rounding in float64 would decide a tie of float32."""
    a, b = (bfloat16.rounded(spread(rng, 400)).astype(np.float64) for _ in range(2))
    c = spread(rng, 400).astype(np.float64)
    c[200:] = np.float32(a[200:] * b[200:]) * 2.0 ** rng.integers(20, 40, 200)
    a[:4], b[:4], c[:4] = 2.0**-12, 2.0**-12 * (1 + 2.0**-7), [1, 1 + 2.0**-23, -1, 1 - 2.0**-24]
    a[4], b[4], c[4] = 2.0**-30, 2.0**-30, 1 + 2.0**-23
    ours = bfloat16.fma(a, b, c)
    for x, y, z, found in zip(a, b, c, ours):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        assert np.float32(found) == nearest(exact), (x, y, z)


# Kernels -------------------------------------------------------------------------------------------------

SHAPES = [(1, 1, 1), (1, 3, 5), (3, 4, 2), (2, 31, 33), (7, 32, 16), (13, 33, 40), (5, 64, 31), (6, 95, 17),
          (16, 32, 32), (17, 64, 49), (32, 33, 48), (50, 10, 70), (33, 300, 65), (270, 40, 20),
          (12, 1100, 24), (1030, 520, 3)]


@pytest.mark.parametrize(("isa", "way"), FMA_WAYS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_dense_layers_to_the_bit(shape, isa, way, rng):
    rows, inputs, outputs = shape
    module = kernels.load_bfloat16(isa, way)
    x, w, b = spread(rng, rows, inputs), spread(rng, inputs, outputs), spread(rng, outputs)
    y = np.full((rows, outputs), np.nan, np.float32)
    relu = resolve("relu").code
    assert module.dense_forward(y, x, w, b, relu, 0.0)
    z = bfloat16.flushed(bfloat16.product(x, w) + b)
    assert same_bits(y, np.where(z > 0, z, 0)).all()
    dy = spread(rng, rows, outputs)
    dx, dw, db = (np.full(a.shape, np.nan, np.float32) for a in (x, w, b))
    scratch = np.full(module.dense_backward_scratch(rows, inputs, outputs), np.nan, np.float32)
    identity = resolve("identity").code
    assert module.dense_backward(dx, dw, db, dy, x, w, None, identity, 0.0, scratch)
    assert same_bits(dx, bfloat16.product(dy, w.T)).all()
    expected = np.empty_like(w)
    bfloat16.transposed_product(x, dy, expected)
    assert same_bits(dw, expected).all()


@pytest.mark.parametrize(("isa", "way"), FMA_WAYS, ids=str)
@pytest.mark.parametrize("rows", [31, 4096, 4100, 8300])
def test_sums_over_many_rows(rows, isa, way, rng):
    module = kernels.load_bfloat16(isa, way)
    x, w, dy = spread(rng, rows, 5), spread(rng, 5, 6), spread(rng, rows, 6)
    dw, db, expected = np.empty_like(w), np.empty(6, np.float32), np.empty_like(w)
    scratch = np.empty(module.dense_backward_scratch(rows, 5, 6), np.float32)
    assert module.dense_backward(None, dw, db, dy, x, w, None, resolve("identity").code, 0.0, scratch)
    bfloat16.transposed_product(x, dy, expected)
    assert same_bits(dw, expected).all()


@pytest.mark.parametrize(("isa", "way"), FMA_WAYS, ids=str)
def test_underflow_overflow_and_nan(isa, way, rng):
    """Near the smallest normal number, below it, near the largest, and beyond."""
    module = kernels.load_bfloat16(isa, way)
    for low, high in ((-75, -50), (-149, -100), (50, 64), (60, 127)):
        x, w = (np.float32(rng.choice([-1.0, 1.0], shape) * (1 + rng.random(shape))
                           * 2.0 ** rng.integers(low, high, shape)) for shape in ((40, 70), (70, 40)))
        x[3, 5], x[4, 6], x[5, 7] = np.nan, np.inf, 0
        y = np.empty((40, 40), np.float32)
        assert module.dense_forward(y, x, w, None, resolve("identity").code, 0.0)
        expected = bfloat16.product(x, w)
        assert same_bits(y, expected).all()


@pytest.mark.parametrize(("isa", "way"), FMA_WAYS, ids=str)
def test_just_below_the_smallest_normal_number(isa, way):
    """What rounds to it, with an exponent of any size, is not subnormal; what rounds to less is."""
    if isa == "neon":
        pytest.skip("ARM's processors decide before they round what is subnormal")
    x, w = np.zeros((4, 3), np.float32), np.zeros((3, 1), np.float32)
    x[:, 0], w[0], w[2] = 1, 2.0**-126, 2.0**-81
    x[:, 2] = np.float32([-1.5, -0.5, -1, -1.25]) * 2.0**-70        # in units of 2^-151
    expected = np.float32([0, 1, 1, 0]) * np.float32(2.0**-126)
    y = np.empty((4, 1), np.float32)
    assert kernels.load_bfloat16(isa, way).dense_forward(y, x, w, None, resolve("identity").code, 0.0)
    assert_array_equal(bfloat16.product(x, w)[:, 0], expected)
    assert_array_equal(y[:, 0], expected)


@pytest.mark.parametrize(("isa", "way"), FMA_WAYS, ids=str)
def test_subnormal_operands_are_zeros_before_they_are_rounded(isa, way):
    """The largest of them would round to the smallest normal number."""
    x, w = np.ones((3, 1), np.float32), np.uint32([[0x007FFFFF, 0x807FFFFF, 0x00800000]]).view(np.float32)
    expected = [[0, 0, 2.0**-126]] * 3
    assert_array_equal(bfloat16.product(x, w), expected)
    assert_array_equal(bfloat16.product(w.T, x.T), np.transpose(expected))
    y = np.empty((3, 3), np.float32)
    for a, b, answer in ((x, w, expected), (w.T.copy(), x.T.copy(), np.transpose(expected))):
        assert kernels.load_bfloat16(isa, way).dense_forward(y, a, b, None, resolve("identity").code, 0.0)
        assert_array_equal(y, answer)


# Models --------------------------------------------------------------------------------------------------

CASES = [
    ([4, 16, 3], 16, {}, lambda: SGD(0.05)),
    ([7, 33, 17, 3], 7, {"activation": "tanh"}, lambda: SGD(0.05, momentum=0.9)),
    ([64, 128, 128, 10], 128, {}, lambda: SGD(0.05, momentum=0.9, weight_decay=1e-3)),
    ([70, 129, 131, 11], 127, {"activation": "gelu", "dropout": 0.2}, lambda: Adam(1e-3)),
    ([64, 128, 128, 10], 128, {"batch_norm": True}, lambda: AdamW(1e-3, clip_norm=0.5)),
    ([64, 40, 1], 600, {"loss": "mean_squared_error", "activation": "silu"}, lambda: RMSprop(1e-3)),
    ([784, 64, 10], 64, {"activation": "sigmoid"}, lambda: AdaGrad(0.01)),
]


def data(layers, batch, loss):
    rng = np.random.default_rng(1)
    X = rng.integers(0, 255, (2 * batch + batch // 2, layers[0])).astype(np.float32) / 255
    if loss == "mean_squared_error":
        return X, rng.standard_normal((len(X), layers[-1]))
    return X, rng.integers(0, layers[-1], len(X))


def trained(case, steps):
    layers, batch, options, optimizer = case
    X, y = data(layers, batch, options.get("loss"))
    model = MLP(layers, seed=0, compute_dtype="bfloat16", **options)
    model.fit(X, y, epochs=-(-steps // 3), batch_size=batch, optimizer=optimizer(), progress=False)
    return model, X


def hash_of(model, X):
    digest = hashlib.sha256()
    for array in [*model.weights, *model.biases, model.forward(X), model.compile_predict()(X)]:
        assert np.isfinite(array).all()
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


@pytest.mark.any_isa
@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[:3]))
def test_one_hash_for_all(case, use):
    """Of the weights after training and of predictions, whatever computes them, on any number of threads."""
    steps = 200 if case[0][0] < 64 else 30
    hashes = set()
    for isa, way in FMA_WAYS:
        use(isa, way)
        for threads in THREADS:
            fastmlp.set_num_threads(threads)
            hashes.add(hash_of(*trained(case, steps)))
    assert len(hashes) == 1
    layers, _, options, _ = case
    start = MLP(layers, seed=0, compute_dtype="bfloat16", **options)
    assert hashes != {hash_of(start, data(layers, case[1], options.get("loss"))[0])}


@pytest.mark.parametrize(("isa", "way"), WAYS, ids=str)
def test_a_row_alone_as_in_any_batch(isa, way, use, rng):
    use(isa, way)
    model = MLP([50, 70, 33, 5], activation="tanh", seed=0, compute_dtype="bfloat16")
    X = spread(rng, 300, 50, orders=3)
    together = model.forward(X)
    assert_array_equal(np.concatenate([model.forward(X[i:i + 1]) for i in range(40)]), together[:40])
    assert_array_equal(model.forward(X[7:130]), together[7:130])
    assert_array_equal(model.forward(X.astype(np.float64)[:, ::-1][:, ::-1]), together)
    handle = model.compile_predict(threads=2)
    assert_array_equal(handle(X), together)
    assert_array_equal(handle(X[:1]), together[:1])


def gradients(backend, layers, X, y, weights, **options):
    with fastmlp.use_backend(backend):
        model = MLP(layers, seed=0, compute_dtype="bfloat16", **options)
    for i, w in enumerate(weights):
        model.weights[i] = w
        model.biases[i] = np.linspace(-1, 1, w.shape[1], dtype=np.float32)
    return model.forward(X), model.loss_and_gradients(X, y)[1]


@pytest.mark.parametrize(("isa", "way"), FMA_WAYS, ids=str)
def test_a_model_to_the_bit(isa, way, use, rng):
    """With ReLU and a loss whose derivative is exact arithmetic, the NumPy backend has the same bits."""
    use(isa, way)
    layers = [33, 47, 40, 4]
    X, y = spread(rng, 64, 33, orders=2), spread(rng, 64, 4, orders=2)
    weights = [spread(rng, n, m, orders=2) / 64 for n, m in zip(layers, layers[1:])]
    results = [gradients(name, layers, X, y, weights, loss="mean_squared_error")
               for name in ("cython", "numpy")]
    assert same_bits(results[0][0], results[1][0]).all()
    for ours, expected in zip(results[0][1].weights, results[1][1].weights):
        assert same_bits(ours, expected).all()


@pytest.mark.parametrize("backend", ["cython", "numpy"])
def test_error_bounds(backend, rng):
    """Forward and gradients of a linear network against float64, within the bounds of the documentation."""
    layers, n = [40, 50, 30, 6], 48
    X, y = rng.standard_normal((n, 40)), rng.standard_normal((n, 6))
    with fastmlp.use_backend(backend):
        model = MLP(layers, activation="identity", loss="mean_squared_error", seed=0,
                    compute_dtype="bfloat16")
    w = [a.astype(np.float64) for a in model.weights]
    x = X.astype(np.float32).astype(np.float64)
    t = y.astype(np.float32).astype(np.float64)

    def product(a, a_error, b, b_error):
        """a b, and how far it may be off, of operands that may be off."""
        exact, size = a @ b, (abs(a) + a_error) @ (abs(b) + b_error)
        sums = 18 + -(-a.shape[1] // 32)
        rounding = ((1 + ROUNDOFF) ** 2 * (1 + SUMS) ** sums - 1) * size
        return exact, rounding + size - abs(a) @ abs(b)

    inputs = [(x, np.zeros_like(x))]
    for layer in w:
        inputs.append(product(*inputs[-1], layer, np.zeros_like(layer)))
    z, z_error = inputs.pop()
    forward = model.forward(x.astype(np.float32))
    assert (abs(forward - z) <= z_error).all()
    assert abs(forward - z).max() > 1e-4            # no float32 in disguise
    d, d_error = 2 * (z - t) / t.size, 2 * z_error / t.size + 4 * SUMS * abs(z - t) / t.size
    loss, found = model.loss_and_gradients(x.astype(np.float32), t.astype(np.float32))
    assert abs(loss - np.mean((z - t) ** 2)) <= np.mean((2 * abs(z - t) + z_error) * z_error) + 1e-6
    for i in reversed(range(3)):
        a, a_error = inputs[i]
        exact, bound = product(a.T, a_error.T, d, d_error)
        assert (abs(found.weights[i] - exact) <= bound).all()
        d, d_error = product(d, d_error, w[i].T, np.zeros_like(w[i].T))


def test_it_learns(rng):
    centres = rng.standard_normal((4, 20)) * 2
    y = rng.integers(0, 4, 600)
    X = centres[y] + rng.standard_normal((600, 20))
    model = MLP([20, 32, 4], seed=0, compute_dtype="bfloat16")
    model.fit(X, y, epochs=20, batch_size=32, optimizer=SGD(0.05, 0.9), progress=False)
    assert model.evaluate(X, y)["accuracy"] > 0.97


def test_float32_is_untouched(rng):
    """A model without it has other bits than one with it, and the same as before."""
    X, y = rng.standard_normal((64, 20)).astype(np.float32), rng.integers(0, 3, 64)
    plain, rounded = MLP([20, 30, 3], seed=0), MLP([20, 30, 3], seed=0, compute_dtype="bfloat16")
    before = plain.forward(X)
    assert (before != rounded.forward(X)).any()
    rounded.train_step(X, y, SGD(0.1))
    assert_array_equal(plain.forward(X), before)


# A setting of a model ------------------------------------------------------------------------------------

@pytest.mark.parametrize("backend", ["cython", "numpy"])
def test_files_copies_and_pickles(backend, tmp_path, rng):
    X, y = rng.standard_normal((40, 6)), rng.integers(0, 3, 40)
    with fastmlp.use_backend(backend):
        model, optimizer = MLP([6, 9, 3], seed=0, compute_dtype="bfloat16"), SGD(0.1, 0.9)
        model.fit(X, y, epochs=2, batch_size=16, optimizer=optimizer, progress=False)
        model.save(tmp_path / "net.safetensors")
        others = [fastmlp.load(tmp_path / "net.safetensors"), copy.deepcopy(model),
                  pickle.loads(pickle.dumps(model))]
    for other in others:
        assert other.compute_dtype == "bfloat16" and repr(other) == repr(model)
        assert_array_equal(other.forward(X), model.forward(X))
    assert "compute_dtype='bfloat16'" in repr(model)
    assert MLP([2, 2]).compute_dtype is None and "compute" not in repr(MLP([2, 2]))


def test_a_file_without_it_has_the_bytes_it_had(tmp_path):
    MLP([3, 2], seed=0).save(tmp_path / "net.safetensors")
    assert b"compute_dtype" not in (tmp_path / "net.safetensors").read_bytes()


def test_a_file_with_an_unknown_one(tmp_path):
    path = tmp_path / "net.safetensors"
    MLP([3, 2], seed=0, compute_dtype="bfloat16").save(path)
    path.write_bytes(path.read_bytes().replace(b"bfloat16", b"bfloat17"))
    with pytest.raises(ValueError, match="compute_dtype 'bfloat17'"):
        fastmlp.load(path)


@pytest.mark.parametrize(("options", "message"), [
    ({"compute_dtype": "float16"}, "compute_dtype: expected None or 'bfloat16', got 'float16'"),
    ({"compute_dtype": 16}, "compute_dtype: expected None or 'bfloat16', got 16"),
    ({"compute_dtype": "bfloat16", "dtype": "float64"}, "goes with dtype float32, got float64"),
])
def test_what_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        MLP([2, 2], **options)


def test_a_handle_of_a_float32_model(rng):
    model = MLP([20, 30, 3], seed=0)
    twin = MLP([20, 30, 3], seed=0, compute_dtype="bfloat16")
    X = rng.standard_normal((9, 20)).astype(np.float32)
    assert_array_equal(model.compile_predict(compute_dtype="bfloat16")(X), twin.forward(X))
    assert_array_equal(model.compile_predict()(X), model.forward(X))
    with pytest.raises(ValueError, match="compute_dtype: expected None or 'bfloat16', got 'int8'"):
        model.compile_predict(compute_dtype="int8")
    with pytest.raises(ValueError, match="goes with dtype float32"):
        MLP([2, 2], dtype="float64").compile_predict(compute_dtype="bfloat16")
    with pytest.raises(ValueError, match="None computes in float32, the dtype of the model$"):
        model.compile_predict(compute_dtype="float32")
    with pytest.raises(ValueError, match="None computes in bfloat16, as the model does, and one made"):
        twin.compile_predict(compute_dtype="float32")
    assert twin.compile_predict(compute_dtype=None).compute_dtype == "bfloat16"


def test_what_takes_no_such_model(tmp_path):
    model = MLP([2, 2], seed=0, compute_dtype="bfloat16")
    with pytest.raises(ValueError, match="model: expected compute_dtype None, got 'bfloat16'"):
        model.export_c(tmp_path / "net.c")
    with pytest.raises(ValueError, match="model: expected compute_dtype None, got 'bfloat16'"):
        fastmlp.gradient_check(model, np.ones((2, 2)), [0, 1])
    assert not list(tmp_path.iterdir())


def test_it_is_fixed():
    model = MLP([2, 2], seed=0)
    with pytest.raises(AttributeError, match="compute_dtype"):
        model.compute_dtype = "bfloat16"


@pytest.mark.parametrize("backend", ["cython", "numpy"])
def test_sparse_samples_count_as_dense_ones(backend, rng):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = rng.integers(0, 2, (70, 30)) * rng.standard_normal((70, 30)), rng.integers(0, 3, 70)
    X = X.astype(np.float32)
    bits = []
    for samples in (X, sparse.csr_array(X)):
        with fastmlp.use_backend(backend):
            model = MLP([30, 8, 3], seed=0, compute_dtype="bfloat16")
        model.fit(samples, y, epochs=2, batch_size=20, optimizer=Adam(0.01), progress=False)
        model.train_step(samples, y, SGD(0.1))
        bits.append([model.forward(samples).tobytes(), *(w.tobytes() for w in model.weights)])
    assert bits[0] == bits[1]


@pytest.mark.parametrize("backend", ["cython", "numpy"])
def test_hidden_outputs_of_sparse_samples(backend, rng):
    sparse = pytest.importorskip("scipy.sparse")
    X = (rng.integers(0, 2, (700, 10)) * rng.standard_normal((700, 10))).astype(np.float32)
    with fastmlp.use_backend(backend):
        model = MLP([10, 8, 6, 2], seed=0, compute_dtype="bfloat16")
    for layer in range(3):
        np.testing.assert_array_equal(
            model.hidden(sparse.csr_matrix(X), layer=layer), model.hidden(X, layer=layer))
    for ours, theirs in zip(model.hidden(sparse.csr_matrix(X)), model.hidden(X)):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(model.hidden(sparse.csr_matrix(X), layer=-1), model.forward(X))


@pytest.mark.parametrize("backend", ["cython", "numpy"])
def test_learning_rates_for_sparse_samples(backend, rng):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = rng.integers(0, 2, (200, 10)).astype(np.float32), rng.integers(0, 2, 200)
    found = []
    for samples in (X, sparse.csr_matrix(X)):
        with fastmlp.use_backend(backend):
            model = MLP([10, 8, 2], seed=0, compute_dtype="bfloat16")
        found.append(fastmlp.lr_find(model, samples, y, optimizer=SGD(0.1), steps=20).losses)
    np.testing.assert_array_equal(*found)


# What computes it ----------------------------------------------------------------------------------------

def run_python(code, **environment):
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, **environment},
                          capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("isa", kernels.available_isas())
def test_the_warning_of_slow_ways(isa, tmp_path):
    """It is true, and at the user's line."""
    script = tmp_path / "own.py"
    script.write_text("import fastmlp\n\nmodel = fastmlp.MLP([3, 2], compute_dtype='bfloat16')\n"
                      "again = fastmlp.MLP([3, 2], compute_dtype='bfloat16')\n")
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120,
                            env={**os.environ, "FASTMLP_ISA": isa, "FASTMLP_BF16": ""})
    assert result.returncode == 0, result.stderr
    if kernels.available_bfloat16(isa)[0] != "fma":
        assert result.stderr == ""
        return
    assert result.stderr.count("RuntimeWarning") == 1
    assert f"{script}:3: RuntimeWarning: compute_dtype: " in result.stderr
    assert ("the same bits" in result.stderr) == (isa != "portable")
    faster = kernels.available_bfloat16(kernels.available_isas()[0])[0] != "fma"
    assert ("this processor has nothing faster" in result.stderr) != faster
    assert (f"{isa!r}, which FASTMLP_ISA asks for" in result.stderr) == faster


@pytest.mark.parametrize("way", kernels.available_bfloat16())
def test_what_is_forced_is_what_runs(way):
    code = ("import fastmlp, sys; model = fastmlp.MLP([3, 2], compute_dtype='bfloat16');"
            "print(fastmlp.kernels.active_bfloat16(), type(model.core.engine._engine).__module__)")
    result = run_python(code, FASTMLP_BF16=way)
    assert result.returncode == 0, result.stderr
    name, module = result.stdout.split()
    assert name == way
    isa = kernels.active_isa()
    assert module == f"fastmlp.kernels.{way if way.startswith(isa) else f'{isa}_bf16_{way}'}"


@pytest.mark.parametrize("way", sorted({"amx2", "amx", "avx512_bf16", "amx_emulated"}
                                       - set(kernels.available_bfloat16())))
def test_what_cannot_be_had_raises_at_import(way):
    result = run_python("import fastmlp", FASTMLP_BF16=way)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: FASTMLP_BF16") and repr(way) in last
    assert last.endswith("available here: " + ", ".join(kernels.available_bfloat16()))


def test_its_kernels_are_imported_by_the_first_model_that_asks():
    code = """
import sys, fastmlp
def loaded(): return [name for name in sys.modules if "bf16" in name]
fastmlp.MLP([3, 2])
assert not loaded(), loaded()
fastmlp.MLP([3, 2], compute_dtype="bfloat16")
assert len(loaded()) == 1, loaded()
"""
    result = run_python(code, FASTMLP_BF16="")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("isa", "way"), WAYS, ids=str)
def test_the_callers_mode_stays(isa, way, use):
    """Subnormal numbers are numbers before and after, in every thread."""
    use(isa, way)
    fastmlp.set_num_threads(2)
    model = MLP([64, 128, 128, 10], seed=0, compute_dtype="bfloat16")
    seen = []

    def look(*args):
        small = np.float32(1e-38) / np.float32(16)
        seen.append(small > 0 and small * np.float32(16) > 0)

    model.fit(np.ones((256, 64)), np.zeros(256, int), epochs=2, callbacks=[look], progress=False)
    look()
    assert seen == [True] * 3


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs Linux")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86-64")
def test_detector_agrees_with_the_kernel():
    text = Path("/proc/cpuinfo").read_text()
    flags = set(re.search(r"^flags\s*:(.*)$", text, re.M)[1].split())
    runs, is_fast = kernels._detect.supported_bf16()["avx512_bf16"]
    assert runs == ({"avx512_bf16", "avx512bw", "avx512dq", "avx512vl"} <= flags)
    assert is_fast == ("AuthenticAMD" in text)
    assert kernels._detect.supported_bf16()["fma"] == (True, False)
    assert kernels._detect.supported_bf16()["amx"] == (runs and {"amx_tile", "amx_bf16"} <= flags, True)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86-64")
@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
@pytest.mark.parametrize(("isa", "way"), WAYS, ids=str)
def test_machine_code(isa, way):
    """Products are by the instruction that was asked for, and by no other."""
    module = kernels.load_bfloat16(isa, way)
    command = ["objdump", "-d", module.__file__]
    code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert code.count("vdpbf16ps") > 1000 if way == "avx512_bf16" else "vdpbf16ps" not in code
    assert ("vfmadd" in code) == (isa != "portable")
