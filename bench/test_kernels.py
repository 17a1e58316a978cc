"""Array functions, cython against numpy, grouped by function and shape. Verified in float64 before timed.

    pytest bench/test_kernels.py --benchmark-json=bench/results/pytest.json
"""
import numpy as np
import pytest

import fastmlp.functional as F
from fastmlp.backends import numpy as specification

TOLERANCE = {"float32": 1e-5, "float64": 1e-13}
DENSE = [(1, 64, 64), (32, 64, 64), (128, 256, 256), (256, 784, 512)]
ROWS = [(10, 10), (256, 512), (10_000, 100)]
pytestmark = pytest.mark.parametrize("dtype", ["float32", "float64"])


def normal(*shapes, dtype):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape, dtype) for shape in shapes]


def verify(results, expected, dtype):
    """Equal relative to the largest value: what rounding in sums of both signs allows."""
    for result, value in zip(results, expected):
        np.testing.assert_allclose(result, value, rtol=0, atol=TOLERANCE[dtype] * np.abs(value).max())


def doubles(*arrays):
    return [array.astype(np.float64) for array in arrays]


def group(name, shape, dtype):
    return f"{name} {'x'.join(map(str, shape))} {dtype}"


@pytest.mark.parametrize("shape", DENSE, ids=str)
def test_dense_forward(timed, shape, dtype):
    m, k, n = shape
    x, w, b = normal((m, k), (k, n), n, dtype=dtype)
    out = np.empty((m, n), dtype)
    expected = specification.dense_forward(*doubles(x, w, b), "relu")
    verify([F.dense_forward(x, w, b, "relu", out=out)], [expected], dtype)
    timed(group("dense_forward", shape, dtype), F.dense_forward, x, w, b, "relu", out=out, dtype=dtype,
          flops=2 * m * k * n)


@pytest.mark.parametrize("shape", DENSE, ids=str)
def test_dense_backward(timed, shape, dtype):
    m, k, n = shape
    dy, x, w, b = normal((m, n), (m, k), (k, n), n, dtype=dtype)
    y = specification.dense_forward(x, w, b, "relu")
    out = np.empty_like(x), np.empty_like(w), np.empty_like(b)
    verify(F.dense_backward(dy, x, w, y, "relu", out=out),
           specification.dense_backward(*doubles(dy, x, w, y), "relu"), dtype)
    timed(group("dense_backward", shape, dtype), F.dense_backward, dy, x, w, y, "relu", out=out, dtype=dtype,
          flops=4 * m * k * n)


@pytest.mark.parametrize("shape", ROWS, ids=str)
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "exp", "softmax"])
def test_elements(timed, name, shape, dtype):
    x, = normal(shape, dtype=dtype)
    function, out = getattr(F, name), np.empty_like(x)
    verify([function(x, out=out)], [getattr(specification, name)(*doubles(x))], dtype)
    timed(group(name, shape, dtype), function, x, out=out, dtype=dtype)


@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_softmax_cross_entropy(timed, shape, dtype):
    logits, = normal(shape, dtype=dtype)
    targets = np.random.default_rng(1).integers(0, shape[1], shape[0])
    out = np.empty_like(logits)
    verify(F.softmax_cross_entropy(logits, targets, out=out),
           specification.softmax_cross_entropy(*doubles(logits), targets), dtype)
    timed(group("softmax_cross_entropy", shape, dtype), F.softmax_cross_entropy, logits, targets, out=out,
          dtype=dtype)


@pytest.mark.parametrize("shape", [(1000,), (1_000_000,)], ids=str)
@pytest.mark.parametrize("rule", ["plain", "momentum", "nesterov"])
def test_sgd_update(timed, rule, shape, dtype):
    param, grad, velocity = normal(shape, shape, shape, dtype=dtype)
    expected_param, expected_grad, expected_velocity = doubles(param, grad, velocity)
    settings = (0.0, None) if rule == "plain" else (0.9, velocity, rule == "nesterov")
    expected_settings = settings[:1] + (None if rule == "plain" else expected_velocity,) + settings[2:]
    F.sgd_update(param, grad, 0.01, *settings)
    specification.sgd_update(expected_param, expected_grad, 0.01, *expected_settings)
    verify([param, velocity], [expected_param, expected_velocity], dtype)
    grad[...] = 0           # so that thousands of updates stay finite
    velocity[...] = 1
    timed(group(f"sgd_update {rule}", shape, dtype), F.sgd_update, param, grad, 0.0, *settings, dtype=dtype)
