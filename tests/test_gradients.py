"""Every backward function against central finite differences, in float64."""
from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import fastmlp.functional as F
from fastmlp import activations

STEP = 1e-6
ACTIVATIONS = [*activations.BY_NAME, activations.LeakyReLU(0.3), activations.ELU(0.3)]
ELEMENTWISE = [name for name in activations.BY_NAME if name != "identity"]


def numerical_gradient(loss, x):
    """(loss(x + h) - loss(x - h)) / 2h, one element of x at a time."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        value = x[i]
        x[i] = value + STEP
        above = loss()
        x[i] = value - STEP
        gradient[i] = (above - loss()) / (2 * STEP)
        x[i] = value
    return gradient


def close(analytic, numerical):
    assert_allclose(analytic, numerical, rtol=1e-6, atol=1e-8)


def away_from_zero(x):
    """No element within 0.05 of the kink of ReLU."""
    return x + np.copysign(0.05, x)


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 33), (2, 3, 4)])
@pytest.mark.parametrize("name", [*ELEMENTWISE, "softmax", "log_softmax"])
def test_activation(name, shape, backend, rng):
    x, dy = away_from_zero(rng.standard_normal(shape)), rng.standard_normal(shape)
    forward, backward = getattr(F, name), getattr(F, name + "_backward")
    given = x if name in ("gelu", "gelu_tanh", "silu") else forward(x)
    close(backward(dy, given), numerical_gradient(lambda: (dy * forward(x)).sum(), x))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.5])
@pytest.mark.parametrize("name", ["leaky_relu", "elu"])
def test_alpha(name, alpha, backend, rng):
    x, dy = away_from_zero(rng.standard_normal(20)), rng.standard_normal(20)
    forward, backward = getattr(F, name), getattr(F, name + "_backward")
    numerical = numerical_gradient(lambda: (dy * forward(x, alpha)).sum(), x)
    close(backward(dy, forward(x, alpha), alpha), numerical)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (6, 4, 1), (5, 1, 7), (7, 9, 17)])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_dense(activation, shape, backend, rng):
    n, k, m = shape
    x, w, b, dy = (rng.standard_normal(s) for s in ((n, k), (k, m), (m,), (n, m)))

    def loss():
        return (dy * F.dense_forward(x, w, b, activation)).sum()

    assert np.abs(F.dense_forward(x, w, b)).min() > 1e-3, "a sum at the kink of ReLU: choose another seed"
    f = activations.resolve(activation)
    if f.from_output:
        gradients = F.dense_backward(dy, x, w, F.dense_forward(x, w, b, f), f)
    else:
        z = F.dense_forward(x, w, b)
        gradients = F.dense_backward(getattr(F, f.name + "_backward")(dy, z), x, w, z)
    for analytic, array in zip(gradients, (x, w, b), strict=True):
        close(analytic, numerical_gradient(loss, array))


@pytest.mark.parametrize("kind", ["indices", "probabilities"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 2), (3, 33)])
def test_softmax_cross_entropy(shape, kind, backend, rng):
    n, classes = shape
    logits = rng.standard_normal(shape) * 2
    targets = rng.integers(0, classes, n) if kind == "indices" else rng.dirichlet(np.ones(classes), n)
    numerical = numerical_gradient(lambda: F.softmax_cross_entropy(logits, targets)[0], logits)
    close(F.softmax_cross_entropy(logits, targets)[1], numerical)


@pytest.mark.parametrize("shape", [(1,), (9,), (5, 3), (2, 33)])
def test_mean_squared_error(shape, backend, rng):
    predictions, targets = rng.standard_normal((2, *shape))
    numerical = numerical_gradient(lambda: F.mean_squared_error(predictions, targets)[0], predictions)
    close(F.mean_squared_error(predictions, targets)[1], numerical)


def test_two_layers(backend, rng):
    """The functions chained as in a network: backpropagation through both layers."""
    x, labels = rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    w1, b1, w2, b2 = (rng.standard_normal(s) for s in ((4, 5), 5, (5, 3), 3))

    def forward():
        hidden = F.dense_forward(x, w1, b1, "tanh")
        return hidden, F.dense_forward(hidden, w2, b2)

    hidden, logits = forward()
    _, dlogits = F.softmax_cross_entropy(logits, labels)
    dhidden, dw2, db2 = F.dense_backward(dlogits, hidden, w2, logits)
    dx, dw1, db1 = F.dense_backward(dhidden, x, w1, hidden, "tanh")
    for analytic, array in zip((dx, dw1, db1, dw2, db2), (x, w1, b1, w2, b2), strict=True):
        close(analytic, numerical_gradient(lambda: F.softmax_cross_entropy(forward()[1], labels)[0], array))
