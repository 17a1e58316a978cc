"""FastMLPOps against NumPy formulas and thinc's NumpyOps; thinc's own tests of its operations, with it."""
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

thinc = pytest.importorskip("thinc.api")

from fastmlp.compat.thinc import FastMLPOps  # noqa: E402

OPS = FastMLPOps()
THEIRS = thinc.NumpyOps()
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}


def numbers(rng, *shape, dtype="float64"):
    return rng.standard_normal(shape).astype(dtype)


def near(actual, desired, dtype):
    assert actual.dtype == dtype and actual.shape == desired.shape
    np.testing.assert_allclose(actual, desired, rtol=0, atol=100 * TOLERANCE[np.dtype(dtype).name])


def test_name_leads_to_it():
    with thinc.use_ops("fastmlp"):
        assert type(thinc.get_current_ops()) is FastMLPOps
        assert thinc.Linear(2, 2).ops.name == "fastmlp"
    assert isinstance(OPS, thinc.NumpyOps) and OPS.xp is np


def test_entry_point():
    from importlib.metadata import entry_points
    names = {entry.value for entry in entry_points(group="thinc_ops")}
    assert "fastmlp.compat.thinc:FastMLPOps" in names


@pytest.mark.parametrize("trans1", [False, True])
@pytest.mark.parametrize("trans2", [False, True])
@pytest.mark.parametrize("sizes", [(3, 4, 5), (40, 30, 64), (20, 300, 260), (1, 1, 1)])
@pytest.mark.parametrize("with_out", [False, True])
def test_gemm(rng, dtype, trans1, trans2, sizes, with_out):
    m, k, n = sizes
    x = numbers(rng, *((k, m) if trans1 else (m, k)), dtype=dtype)
    y = numbers(rng, *((n, k) if trans2 else (k, n)), dtype=dtype)
    kept = x.copy(), y.copy()
    out = np.full((m, n), np.nan, dtype) if with_out else None
    result = OPS.gemm(x, y, out=out, trans1=trans1, trans2=trans2)
    a, b = (x.T if trans1 else x).astype("f8"), (y.T if trans2 else y).astype("f8")
    near(result, a @ b, dtype)
    assert out is None or result is out
    np.testing.assert_array_equal(x, kept[0])
    np.testing.assert_array_equal(y, kept[1])


@pytest.mark.parametrize("trans1", [False, True])
@pytest.mark.parametrize("trans2", [False, True])
def test_gemm_refuses_what_numpy_ops_refuses(rng, trans1, trans2):
    for x, y in ((np.ones((2, 3)), np.ones((4, 64))), (np.ones(3), np.ones((3, 64))),
                 (np.ones((3, 3), "f4"), np.ones((3, 3)))):
        with pytest.raises(ValueError) as ours:
            OPS.gemm(x, y, trans1=trans1, trans2=trans2)
        with pytest.raises(ValueError) as theirs:
            THEIRS.gemm(x, y, trans1=trans1, trans2=trans2)
        assert str(ours.value) == str(theirs.value)


def test_affine(rng, dtype):
    x, w, b = numbers(rng, 6, 5, dtype=dtype), numbers(rng, 4, 5, dtype=dtype), numbers(rng, 4, dtype=dtype)
    near(OPS.affine(x, w, b), x @ w.T + b, dtype)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("shape", [(5, 6), (2, 3, 4), (7,)])
def test_elements(rng, dtype, inplace, shape):
    for name, formula in (("relu", lambda x: np.maximum(x, 0)), ("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
                          ("swish", lambda x: x / (1 + np.exp(-x)))):
        x = numbers(rng, *shape, dtype=dtype)
        kept, given = x.copy(), x
        result = getattr(OPS, name)(x, inplace=inplace)
        near(result, formula(kept.astype("f8")), dtype)
        assert (result is given) == inplace
        if not inplace:
            np.testing.assert_array_equal(x, kept)
    for name, slope in (("backprop_relu", lambda y: y > 0), ("backprop_sigmoid", lambda y: y * (1 - y))):
        dy, y = numbers(rng, *shape, dtype=dtype), numbers(rng, *shape, dtype=dtype)
        expected, kept = dy.astype("f8") * slope(y.astype("f8")), y.copy()
        result = getattr(OPS, name)(dy, y, inplace=inplace)
        near(result, expected, dtype)
        assert result is (y if name == "backprop_sigmoid" else dy) if inplace else result is not dy
        if not inplace:
            np.testing.assert_array_equal(y, kept)


def test_sigmoid_is_clipped_as_in_thinc():
    x = np.array([-1000.0, -20.0, 25.0])
    np.testing.assert_allclose(OPS.sigmoid(x), THEIRS.sigmoid(x), rtol=1e-14)


def test_shapes_that_do_not_fit(rng):
    for ops in (OPS, THEIRS):
        with pytest.raises(ValueError, match="incompatible shapes"):
            ops.backprop_relu(np.ones((2, 3), "f4"), np.ones((3, 3), "f4"))
        with pytest.raises(ValueError, match="incompatible shapes"):
            ops.adam(*(np.ones(n, "f4") for n in (3, 4, 3, 3)), 0.9, 0.99, 1e-8, 0.1)


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_softmax(rng, dtype, axis, temperature):
    x, dy = numbers(rng, 5, 4, dtype=dtype), numbers(rng, 5, 4, dtype=dtype)
    e = np.exp(x.astype("f8") / temperature)
    p = e / e.sum(axis=axis, keepdims=True)
    y = OPS.softmax(x, axis=axis, temperature=temperature)
    near(y, p, dtype)
    d = dy.astype("f8") / temperature
    near(OPS.backprop_softmax(y, dy, axis=axis, temperature=temperature),
         p * (d - (p * d).sum(axis=axis, keepdims=True)), dtype)
    assert OPS.softmax(np.zeros((0, 3), "f4")).shape == (0, 3)


def test_adam(rng, dtype):
    w, m, v = numbers(rng, 50, dtype=dtype), numbers(rng, 50, dtype=dtype), rng.random(50).astype(dtype)
    g = numbers(rng, 50, dtype=dtype)
    wide = [array.astype("f8") for array in (w, g, m, v)]
    results = OPS.adam(w, g, m, v, 0.9, 0.99, 1e-3, 0.01)
    assert all(a is b for a, b in zip(results, (w, g, m, v)))
    expected_m = 0.9 * wide[2] + 0.1 * wide[1]
    expected_v = 0.99 * wide[3] + 0.01 * wide[1]**2
    near(m, expected_m, dtype)
    near(v, expected_v, dtype)
    near(w, wide[0] - 0.01 * expected_m / (np.sqrt(expected_v) + 1e-3), dtype)
    assert not g.any()


def test_model_trains_as_on_numpy_ops(rng):
    """Forward, backward, dropout, optimizer: the same parameters after twenty steps."""
    X, labels = numbers(rng, 60, 20, dtype="f4"), rng.integers(0, 3, 60)
    Y = np.eye(3, dtype="f4")[labels]
    found = []
    for name in ("numpy", "fastmlp"):
        with thinc.use_ops(name):
            thinc.fix_random_seed(3)
            model = thinc.chain(thinc.Relu(300, dropout=0.2), thinc.LayerNorm(), thinc.Sigmoid(64),
                                thinc.Maxout(8), thinc.Softmax())
            model.initialize(X, Y)
            assert {node.ops.name for node in model.walk()} == {name}
            optimizer = thinc.Adam(0.01)
            for _ in range(20):
                scores, backprop = model.begin_update(X)
                backprop((scores - Y) / len(X))
                model.finish_update(optimizer)
            found.append(model.predict(X))
    np.testing.assert_allclose(found[1], found[0], rtol=0, atol=1e-4)
    assert (found[1].argmax(axis=1) == labels).mean() > 0.8


PLUGIN = """
import thinc.api, thinc.backends
from fastmlp.compat.thinc import FastMLPOps
thinc.api.NumpyOps = thinc.backends.NumpyOps = FastMLPOps

def pytest_sessionfinish(session):
    used = __import__("sys").modules["thinc.tests.backends.test_ops"].NUMPY_OPS
    assert type(used) is FastMLPOps
"""


@pytest.mark.skipif(not importlib.util.find_spec("thinc.tests"), reason="thinc came without its tests")
def test_thincs_own_tests(tmp_path):
    """All with FastMLPOps where they say NumpyOps; but for one that asks for it under the name "numpy", and
    those that compare with PyTorch: with new versions of it they fail for NumpyOps itself."""
    (tmp_path / "swap_ops.py").write_text(PLUGIN)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "swap_ops", "-p", "no:cacheprovider", "-c", os.devnull,
         "--rootdir", str(tmp_path), "-k", "not test_get_ops and not to_torch",
         "--pyargs", "thinc.tests.backends.test_ops"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
