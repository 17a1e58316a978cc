"""`MLP.summary`: the numbers against counting, and the table against the numbers."""
from __future__ import annotations

import numpy as np
import pytest

from fastmlp import LBFGS, MLP, SGD, Adam

pytestmark = pytest.mark.any_isa


def test_numbers(backend, dtype):
    model = MLP([784, 256, 128, 10], dtype=dtype, batch_norm=[True, False], dropout=[0, 0.5], seed=0)
    found = model.summary(32, Adam())
    arrays = [*model.weights, *model.biases, *(s for s in model.scales if s is not None)]
    assert found.parameters == sum(a.size for a in arrays)
    assert found.nbytes == found.parameters * dtype.itemsize
    assert [layer.parameters for layer in found.layers] == [
        784 * 256 + 2 * 256, 256 * 128 + 128, 128 * 10 + 10]
    assert [(layer.inputs, layer.outputs) for layer in found.layers] == [(784, 256), (256, 128), (128, 10)]
    assert [layer.activation for layer in found.layers] == ["relu", "relu", "identity"]
    assert [layer.extras for layer in found.layers] == ["batch_norm", "dropout 0.5", ""]
    products = [784 * 256, 256 * 128, 128 * 10]
    assert [layer.flops for layer in found.layers] == [2 * n for n in products]
    assert found.flops == 2 * sum(products)
    assert found.training_flops == 6 * sum(products) - 2 * products[0]
    assert found.batch_size == 32


def test_memory_of_training(backend, dtype):
    model = MLP([100, 50, 10], dtype=dtype, seed=0)
    sizes = {name: model.summary(64, optimizer).training_nbytes for name, optimizer in
             {"plain": SGD(), "momentum": SGD(momentum=0.9), "adam": Adam()}.items()}
    assert sizes["plain"] < sizes["momentum"] < sizes["adam"]
    assert model.summary(64).training_nbytes == sizes["adam"]      # AdamW, as of fit
    least = (sum(w.nbytes for w in model.weights) + 64 * 160 * dtype.itemsize)
    assert least < sizes["plain"] < 8 * least
    assert model.summary(640).training_nbytes > model.summary(64).training_nbytes


def test_the_table():
    model = MLP([784, 256, 10], activation="tanh", dropout=0.25, seed=0)
    found = model.summary()
    text = str(found)
    assert repr(found) == text and f"{found}" == text
    lines = text.splitlines()
    assert len(set(map(len, lines[:4]))) == 1                   # columns stand below each other
    for words, line in zip((["layer", "shape", "activation", "parameters", "FLOPs"],
                            ["1", "784 -> 256", "tanh", "dropout 0.25", "200,960", "401,408"],
                            ["2", "256 -> 10", "identity", "2,570", "5,120"],
                            ["total", "203,530", "406,528"]), lines):
        assert all(word in line for word in words), line
    assert "795 KiB of float32" in lines[4]
    assert "batches of 128" in lines[5] and f"{found.training_flops:,} FLOPs a sample" in lines[5]
    assert "dropout" not in str(MLP([3, 2], seed=0).summary())


def test_it_changes_nothing(rng):
    """Also between two steps of a training."""
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 2, 40)
    models = [MLP([4, 6, 2], dropout=0.2, seed=0) for _ in range(2)]
    for model, callbacks in zip(models, ([], [lambda model, epoch, logs: model.summary()])):
        model.fit(X, y, epochs=3, batch_size=10, callbacks=callbacks, progress=False)
    for a, b in zip(models[0].weights, models[1].weights):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize(("arguments", "error", "words"), [
    ((0,), ValueError, "batch_size"), (("8",), TypeError, "batch_size"),
    ((8, "nonsense"), ValueError, "optimizer"), ((8, 1), TypeError, "optimizer"),
])
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        MLP([3, 2], seed=0).summary(*arguments)


def test_other_optimizers():
    assert "LBFGS" in str(MLP([3, 2], seed=0).summary(optimizer=LBFGS()))
    assert np.isfinite(MLP([3, 2], seed=0).summary(1, Adam()).training_nbytes)
