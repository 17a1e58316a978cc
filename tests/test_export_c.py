"""Models as C files: compiled without a warning, and the bits of the kernels."""
from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import MLP, BatchNorm, LeakyReLU, activations, kernels
from fastmlp.backends import cython, use_backend
from fastmlp.kernels import ops

NAMES = [entry.name for entry in ops.ACTIVATIONS]
COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
STRICT = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
X86 = platform.machine().lower() in ("x86_64", "amd64")
ISAS = [isa for isa in kernels.available_isas() if isa != "portable" or X86]    # ARM has FMA in any case

pytestmark = pytest.mark.skipif(not COMPILERS, reason="no C compiler")


@pytest.fixture(params=COMPILERS)
def compiler(request):
    return request.param


@pytest.fixture(params=ISAS)
def isa(request, dtype, monkeypatch):
    """The kernels that models run on, and those whose bits a compiled file must have."""
    active, module = cython._kernels.KERNELS[dtype.char], kernels.load(request.param, dtype.name)
    if module is not active:            # which was told at import what it uses of Python
        module.introduce(np.ndarray, dtype, np.empty, activations.resolve, {}, None, None)
    monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, module)
    with use_backend("cython"):
        yield request.param


def flags(isa):
    return ["-mfma"] if X86 and isa != "portable" else []


LIBRARIES = {}


def compiled(folder, models, compiler, *options, **settings):
    """A library of models, {name: model}, whose functions are net_NAME. The same text, as it is for every
    instruction set, is compiled once."""
    for name, model in models.items():
        model.export_c(folder / f"{name}.c", function=f"net_{name}", **settings)
    sources = [f"{name}.c" for name in models]
    command = (compiler, *STRICT, "-shared", "-fPIC", *options, *sources)
    key = command, *((folder / source).read_text() for source in sources)
    if key not in LIBRARIES:
        library = folder / f"{'-'.join(models)[:30]}.so"
        result = subprocess.run([*command, "-o", str(library)], cwd=folder, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert not result.stderr
        LIBRARIES[key] = library
    return LIBRARIES[key]


def answers(library, X, outputs, function):
    """The file's function, row by row, with canaries behind what it writes."""
    real = ctypes.c_float if X.dtype == np.float32 else ctypes.c_double
    call = getattr(ctypes.CDLL(str(library)), function)
    call.restype, call.argtypes = None, [ctypes.POINTER(real)] * 2
    Y = np.full((len(X), outputs + 3), -7.0, X.dtype)
    for x, y in zip(X, Y):
        call(x.ctypes.data_as(ctypes.POINTER(real)), y.ctypes.data_as(ctypes.POINTER(real)))
    assert (Y[:, outputs:] == -7).all()
    return Y[:, :outputs]


def samples(rng, dtype, rows, columns):
    """Of many sizes: the activations are far out, and around 0."""
    X = rng.standard_normal((rows, columns)) * 10.0 ** rng.uniform(-3, 1, (rows, 1))
    return X.astype(dtype)


def randomised(model, rng):
    for b in model.biases:
        b[...] = 0.3 * rng.standard_normal(b.shape)
    for arrays in (model.scales, model.running_variances, model.running_means):
        for array in arrays:
            if array is not None:
                array[...] = rng.uniform(0.5, 1.5, array.shape)
    return model


@pytest.mark.parametrize("options", [["-O2"], ["-O3", "-ffp-contract=fast"], ["-O0"]], ids="".join)
def test_bits_of_every_activation(options, isa, dtype, compiler, rng, tmp_path):
    models = {name: randomised(MLP([5, 33, 17, 4], activation=name, dtype=dtype, seed=0), rng)
              for name in NAMES}
    library = compiled(tmp_path, models, compiler, *options, *flags(isa))
    X = samples(rng, dtype, 100, 5)
    for name, model in models.items():
        expected = model.forward(X)
        assert np.isfinite(expected).all() and len(np.unique(expected)) > 200
        assert_array_equal(answers(library, X, 4, f"net_{name}"), expected, err_msg=name)


def test_bits_of_batch_norm_and_probabilities(isa, dtype, compiler, rng, tmp_path):
    X = samples(rng, dtype, 100, 6)
    models = {f"{loss}_{outputs}": randomised(
        MLP([6, 20, 16, outputs], activation=[LeakyReLU(0.1), "tanh"], loss=loss, dtype=dtype,
            batch_norm=[BatchNorm(epsilon=1e-3), None], seed=0), rng)
        for outputs, loss in ((3, "cross_entropy"), (37, "kl_divergence"), (2, "binary_cross_entropy"))}
    library = compiled(tmp_path, models, compiler, "-O2", *flags(isa), output="proba")
    for name, model in models.items():
        expected = model.compile_predict(output="proba")(X)     # predict_proba, on these kernels
        assert_array_equal(answers(library, X, model.layers[-1], f"net_{name}"),
                           expected.reshape(len(X), -1))


def test_one_layer_and_special_values(isa, dtype, compiler, rng, tmp_path):
    model = randomised(MLP([3, 2], dtype=dtype, seed=0), rng)
    model.weights[0][0, 0] = np.finfo(dtype).tiny / 4           # counts as zero
    model.weights[0][1, 0] = -0.0
    library = compiled(tmp_path, {"one": model}, compiler, "-O2", *flags(isa))
    X = np.array([[np.inf, 1, 1], [1, np.nan, 1], [1e30, 1, -1e30], [0, 0, 0]], dtype)
    assert_array_equal(answers(library, X, 2, "net_one"), model.forward(X))


def test_far_out(isa, dtype, compiler, tmp_path):
    """Where results are subnormal they may be zero for one of the two; nothing else differs."""
    models = {name: MLP([1, 1, 1], activation=name, dtype=dtype, seed=0) for name in NAMES}
    for model in models.values():
        model.weights[0][...] = model.weights[1][...] = 1
    library = compiled(tmp_path, models, compiler, "-O2", *flags(isa))
    far = np.array([0, 1e-30, 1, 10, 17, 50, 80, 90, 110, 700, 750, 1e4, np.inf, np.nan])
    X = np.concatenate([far, -far]).astype(dtype)[:, None]
    tiny = np.finfo(dtype).tiny
    for name, model in models.items():
        found, expected = answers(library, X, 1, f"net_{name}"), model.forward(X)
        found, expected = (np.where(np.abs(y) < tiny, 0, y) for y in (found, expected))
        assert_array_equal(found, expected, err_msg=name)


def test_no_library_is_called(dtype, tmp_path):
    if not shutil.which("nm"):
        pytest.skip("no nm")
    models = {name: MLP([4, 8, 3], activation=name, dtype=dtype, seed=0) for name in NAMES}
    for name, model in models.items():
        model.export_c(tmp_path / f"{name}.c", output="proba")
    sources, objects = ([f"{name}.{suffix}" for name in models] for suffix in "co")
    subprocess.run([COMPILERS[0], "-std=c99", "-O2", "-c", *(["-mfma"] if X86 else []), *sources],
                   check=True, cwd=tmp_path)
    listed = subprocess.run(["nm", "-u", "-P", *objects], check=True, cwd=tmp_path, capture_output=True,
                            text=True)
    called = {line.split()[0] for line in listed.stdout.splitlines() if not line.rstrip().endswith(":")}
    assert called <= {"memcpy", "memset", "_GLOBAL_OFFSET_TABLE_"}


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in ("a.c", "b.c"):
        MLP([4, 8, 3], activation="gelu", seed=0).export_c(tmp_path / name)
    text = (tmp_path / "a.c").read_text()
    assert text == (tmp_path / "b.c").read_text()
    assert text.startswith("/* predict: the network 4-8-3, float32")
    assert "void predict(const float *x, float *y);" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize("arguments, error, message", [
    ({"output": "labels"}, ValueError, "output: unknown name 'labels'"),
    ({"output": 1}, TypeError, "output: expected one of logits, proba, got 1"),
    ({"function": "double"}, ValueError, "function: expected the name of a C function, got 'double'"),
    ({"function": "w0"}, ValueError, "function: expected"),
    ({"function": "relu"}, ValueError, "function: expected"),
    ({"function": "1st"}, ValueError, "function: expected"),
    ({"function": None}, TypeError, "function: expected"),
    ({"path": 3.5}, TypeError, "path: expected a path, got float"),
])
def test_bad_arguments(arguments, error, message, tmp_path):
    path = tmp_path / "net.c"
    path.write_text("before")
    with pytest.raises(error, match=message):
        MLP([3, 2], seed=0).export_c(**{"path": path, **arguments})
    assert path.read_text() == "before"


def test_probabilities_that_there_are_not(tmp_path):
    with pytest.raises(ValueError, match="the outputs of 'mean_squared_error' are values, not probabilities"):
        MLP([3, 2], loss="mean_squared_error").export_c(tmp_path / "net.c", output="proba")


def test_parameters_that_are_not_finite(tmp_path):
    model = MLP([3, 2], seed=0)
    model.biases[0][1] = np.nan
    with pytest.raises(ValueError, match="model: expected finite numbers, got nan in biases.0"):
        model.export_c(tmp_path / "net.c")
    assert not list(tmp_path.iterdir())


def test_while_another_thread_trains(tmp_path, trained_elsewhere):
    model = MLP([3, 8, 2], seed=0)
    with trained_elsewhere(model), pytest.raises(
            RuntimeError, match="trained by another thread; export it in a callback or later"):
        model.export_c(tmp_path / "net.c")
    model.export_c(tmp_path / "net.c")


@pytest.mark.parametrize("name", ["uint8_t", "SIZE_MAX", "INT64_C", "exp", "memcpy", "abort"])
def test_names_with_another_meaning(name, tmp_path):
    with pytest.raises(ValueError, match="function: expected the name of a C function"):
        MLP([2, 2]).export_c(tmp_path / "net.c", function=name)
    assert not list(tmp_path.iterdir())


def test_variances_that_have_no_root(tmp_path):
    model = MLP([2, 4, 3], batch_norm=True)
    model.running_variances[0][:] = -1
    with pytest.raises(ValueError, match="running_variances"):
        model.export_c(tmp_path / "net.c")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("most, static", [(68, False), (67, True)])
def test_large_layers_are_not_on_the_stack(most, static, tmp_path, compiler, rng, monkeypatch):
    """Their 9 and 8 floats here, where most are allowed."""
    monkeypatch.setattr("fastmlp.export_c.STACK", most)
    model = MLP([4, 9, 8, 3], seed=0)
    X = rng.standard_normal((5, 4)).astype(np.float32)
    library = compiled(tmp_path, {"large": model}, compiler)
    np.testing.assert_allclose(answers(library, X, 3, "net_large"), model.forward(X), rtol=1e-5, atol=1e-6)
    text = (tmp_path / "large.c").read_text()
    assert ("static real h0[9]" in text) == ("static real h1[8]" in text) == static
    assert ("68 bytes of activations are too many" in text) == ("ONE THREAD AT A TIME" in text) == static
    assert ("Any number of threads" in text) != static


def test_the_error_of_missing_probabilities_names_what_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"^output: expected logits, got 'proba'"):
        MLP([2, 1], loss="mse").export_c(tmp_path / "net.c", output="proba")
