"""Whole training steps and forward passes, cython against numpy, grouped by network and batch size.

    pytest bench/test_training.py --benchmark-json=bench/results/pytest.json
"""
import numpy as np
import pytest
from common import TRAINING

from fastmlp import MLP, SGD, use_backend

TOLERANCE = {"float32": 1e-4, "float64": 1e-12}
ROWS = [row for row in TRAINING if row.flops(True) < 4e9]      # up to 784-512-512-10: steps of milliseconds
pytestmark = [
    pytest.mark.parametrize("dtype", ["float32", "float64"]),
    pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.replace(", ", "x")),
]


def case(row, dtype):
    """A model on the backend in force, one on the NumPy backend with the same weights, and a batch."""
    rng = np.random.default_rng(0)
    model = MLP(row.layers, dtype=dtype, seed=0)
    with use_backend("numpy"):
        specification = MLP(row.layers, dtype=dtype, seed=0)
    X, y = rng.random((row.batch, row.layers[0]), dtype), rng.integers(0, row.layers[-1], row.batch)
    return model, specification, X, y


def test_train_step(timed, row, dtype):
    model, specification, X, y = case(row, dtype)
    optimizer, other = SGD(0.001, momentum=0.9), SGD(0.001, momentum=0.9)
    for _ in range(3):
        expected = specification.train_step(X, y, other)
        assert model.train_step(X, y, optimizer) == pytest.approx(expected, rel=TOLERANCE[dtype])
    timed(f"train_step {row.name} {dtype}", model.train_step, X, y, optimizer, dtype=dtype,
          flops=row.flops(True))


def test_forward(timed, row, dtype):
    model, specification, X, _ = case(row, dtype)
    expected = specification.forward(X)
    out = np.empty_like(expected)
    tolerance = TOLERANCE[dtype] * np.abs(expected).max()
    np.testing.assert_allclose(model.forward(X, out=out), expected, rtol=0, atol=tolerance)
    timed(f"forward {row.name} {dtype}", model.forward, X, out=out, dtype=dtype, flops=row.flops(False))
