"""Losses and weights against PyTorch and scikit-learn, where they have the same thing."""
from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

import fastmlp.functional as F
from fastmlp import losses

ROWS, CLASSES = 40, 7


def torch_gradient(torch, function, z):
    """The loss of PyTorch, and its gradient."""
    z = torch.tensor(z, requires_grad=True)
    loss = function(z)
    loss.backward()
    return float(loss.detach()), z.grad.numpy()


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


@pytest.fixture
def functions(torch):
    return torch.nn.functional


def close(ours, theirs, dtype):
    rtol = 2e-5 if dtype == np.float32 else 1e-12
    assert_allclose(ours[0], theirs[0], rtol=rtol)
    assert_allclose(ours[1], theirs[1], rtol=rtol, atol=rtol * np.abs(theirs[1]).max())


@pytest.mark.parametrize("classes", [2, CLASSES, 30])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"ignore_index": 1}])
def test_cross_entropy(options, classes, torch, functions, backend, dtype, rng):
    z, labels = (3 * rng.standard_normal((ROWS, classes))).astype(dtype), rng.integers(0, classes, ROWS)
    theirs = torch_gradient(torch, lambda x: functions.cross_entropy(x, torch.tensor(labels), **options), z)
    close(F.softmax_cross_entropy(z, labels, **options), theirs, dtype)
    if "ignore_index" not in options:
        rows = rng.dirichlet(np.ones(classes), ROWS).astype(dtype)
        theirs = torch_gradient(torch, lambda x: functions.cross_entropy(x, torch.tensor(rows), **options), z)
        close(F.softmax_cross_entropy(z, rows, **options), theirs, dtype)


def test_class_weights_of_cross_entropy(torch, functions, backend, dtype, rng):
    """PyTorch's `weight` is a class weight, and its mean is weighted too."""
    z, labels = rng.standard_normal((ROWS, CLASSES)).astype(dtype), rng.integers(0, CLASSES, ROWS)
    by_class = rng.random(CLASSES)
    weights = losses.class_weights(dict(enumerate(by_class.tolist())), labels, CLASSES)
    weight = torch.tensor(by_class.astype(dtype))
    theirs = torch_gradient(
        torch, lambda x: functions.cross_entropy(x, torch.tensor(labels), weight=weight), z)
    close(F.softmax_cross_entropy(z, labels, weights=weights), theirs, dtype)


def test_kl_divergence(torch, functions, backend, dtype, rng):
    z = rng.standard_normal((ROWS, CLASSES)).astype(dtype)
    t = rng.dirichlet(np.ones(CLASSES), ROWS).astype(dtype)
    t[0] = np.eye(CLASSES)[2]
    theirs = torch_gradient(torch, lambda x: functions.kl_div(
        functions.log_softmax(x, dim=1), torch.tensor(t), reduction="batchmean"), z)
    close(F.kl_divergence(z, t), theirs, dtype)


@pytest.mark.parametrize("outputs", [1, 5, 30])
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss", "poisson_nll_loss",
                                  "binary_cross_entropy_with_logits"])
def test_element_losses(name, outputs, torch, functions, backend, dtype, rng):
    z, t = (3 * rng.standard_normal((2, ROWS, outputs))).astype(dtype)
    if name == "poisson_nll_loss":
        t = rng.poisson(2, t.shape).astype(dtype)
    elif name == "binary_cross_entropy_with_logits":
        t = rng.integers(0, 2, t.shape).astype(dtype)
    p = rng.random(outputs).astype(dtype) * 3
    ours, options = {
        "mse_loss": (lambda: F.mean_squared_error(z, t), {}),
        "l1_loss": (lambda: F.mean_absolute_error(z, t), {}),
        "huber_loss": (lambda: F.huber(z, t, delta=0.7), {"delta": 0.7}),
        "poisson_nll_loss": (lambda: F.poisson(z, t), {"log_input": True}),
        "binary_cross_entropy_with_logits": (lambda: F.binary_cross_entropy(z, t, pos_weight=p),
                                             {"pos_weight": torch.tensor(p)}),
    }[name]
    theirs = torch_gradient(torch, lambda x: getattr(functions, name)(x, torch.tensor(t), **options), z)
    close(ours(), theirs, dtype)


def test_hinge(backend, rng):
    metrics = pytest.importorskip("sklearn.metrics")
    t, z = 2.0 * rng.integers(0, 2, ROWS) - 1, rng.standard_normal(ROWS)
    weights = rng.random(ROWS)
    assert_allclose(F.hinge(z, t)[0], metrics.hinge_loss(t, z))
    assert_allclose(F.hinge(z, t, weights=weights)[0], metrics.hinge_loss(t, z, sample_weight=weights))


def test_multiclass_hinge(backend, rng):
    metrics = pytest.importorskip("sklearn.metrics")
    t, z = rng.integers(0, CLASSES, ROWS), rng.standard_normal((ROWS, CLASSES))
    weights = rng.random(ROWS)
    labels = np.arange(CLASSES)
    assert_allclose(F.multiclass_hinge(z, t)[0], metrics.hinge_loss(t, z, labels=labels))
    assert_allclose(F.multiclass_hinge(z, t, weights=weights)[0],
                    metrics.hinge_loss(t, z, labels=labels, sample_weight=weights))


def test_weighted_log_loss(backend, rng):
    metrics = pytest.importorskip("sklearn.metrics")
    t, z, weights = rng.integers(0, CLASSES, ROWS), rng.standard_normal((ROWS, CLASSES)), rng.random(ROWS)
    expected = metrics.log_loss(t, F.softmax(z), labels=np.arange(CLASSES), sample_weight=weights)
    assert_allclose(F.softmax_cross_entropy(z, t, weights=weights)[0], expected)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 2.0, 1: 0.5, 2: 3.0, 3: 0.0}])
def test_class_weights(class_weight, rng):
    utils = pytest.importorskip("sklearn.utils.class_weight")
    labels = rng.integers(0, 4, 100)
    assert_allclose(losses.class_weights(class_weight, labels, 4),
                    utils.compute_sample_weight(class_weight, labels))
