"""Arrays of other libraries go in wherever an array is taken: tensors of PyTorch, arrays of JAX, DLPack."""
from __future__ import annotations

import array
import subprocess
import sys

import numpy as np
import pytest

import fastmlp.functional as F
from fastmlp import MLP, SGD
from fastmlp._core import checks
from fastmlp.losses import BinaryCrossEntropy


class OnlyDLPack:
    """An array that speaks no other protocol."""

    def __init__(self, values, device=None):
        self.values, self.other = values, device
        self.dtype = values.dtype

    def __dlpack__(self, **options):
        if self.other:
            raise BufferError("not this memory")
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.other or self.values.__dlpack_device__()


class OnlyArray:
    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


def as_torch(values):
    return pytest.importorskip("torch").from_numpy(values)


def as_torch_with_gradients(values):
    tensor = as_torch(values)
    return tensor.requires_grad_() if tensor.dtype.is_floating_point else tensor


def as_jax(values):
    return pytest.importorskip("jax.numpy").asarray(values)


KINDS = [as_torch, as_torch_with_gradients, as_jax, OnlyDLPack, OnlyArray]
IN_PLACE = [as_torch, as_torch_with_gradients, OnlyDLPack, OnlyArray]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def make(request):
    return request.param


@pytest.fixture
def X(rng):
    return rng.normal(size=(20, 3)).astype(np.float32)


@pytest.fixture
def y(rng):
    return rng.integers(0, 2, 20).astype(np.int32)


@pytest.mark.parametrize("kind", IN_PLACE, ids=lambda kind: kind.__name__)
def test_nothing_is_copied(kind, X):
    assert np.shares_memory(checks.as_array("X", kind(X)), X)


def test_jax_arrays_are_not_copied(X):
    theirs = as_jax(X)
    assert np.shares_memory(checks.as_array("X", theirs), np.asarray(theirs))


def test_buffers_are_not_copied():
    numbers = array.array("d", [1, 2, 3])
    assert np.shares_memory(checks.as_array("x", numbers), np.frombuffer(numbers))


def test_training_and_inference(make, X, y):
    """All that a model takes; the results are NumPy's, to the bit."""
    models = [MLP([3, 8, 2], seed=0) for _ in range(2)]
    weights = np.linspace(1, 2, 20).astype(np.float32)
    for model, convert in zip(models, (np.asarray, make)):
        optimizer = SGD(0.1)
        model.fit(convert(X), convert(y), epochs=2, batch_size=5, optimizer=optimizer, progress=False,
                  sample_weight=convert(weights), validation_data=(convert(X), convert(y)))
        model.train_step(convert(X), convert(y), optimizer)
    ours, theirs = models
    for a, b in zip([*ours.weights, *ours.biases], [*theirs.weights, *theirs.biases]):
        np.testing.assert_array_equal(a, b)
    for name in ("forward", "predict", "predict_proba"):
        result = getattr(theirs, name)(make(X))
        assert type(result) is np.ndarray
        np.testing.assert_array_equal(result, getattr(ours, name)(X))
    assert theirs.evaluate(make(X), make(y)) == ours.evaluate(X, y)
    assert theirs.loss_and_gradients(make(X), make(y))[0] == ours.loss_and_gradients(X, y)[0]


def test_weights_are_assigned(make, rng):
    model, w = MLP([3, 2], seed=0), rng.normal(size=(3, 2)).astype(np.float32)
    model.weights[0] = make(w)
    np.testing.assert_array_equal(model.weights[0], w)
    model.biases = [make(w[0])]
    np.testing.assert_array_equal(model.biases[0], w[0])


def test_array_functions(make, X, y, rng):
    w, b = rng.normal(size=(3, 2)).astype(np.float32), rng.normal(size=2).astype(np.float32)
    z = F.dense_forward(make(X), make(w), make(b), "tanh")
    np.testing.assert_array_equal(z, F.dense_forward(X, w, b, "tanh"))
    np.testing.assert_array_equal(F.relu(make(X)), F.relu(X))
    loss, dz = F.softmax_cross_entropy(make(z), make(y))
    np.testing.assert_array_equal(dz, F.softmax_cross_entropy(z, y)[1])
    ours, theirs = w.copy(), w.copy()
    F.sgd_update(ours, w, lr=0.1)
    F.sgd_update(theirs, make(w), lr=0.1)
    np.testing.assert_array_equal(ours, theirs)


def test_pos_weight(make):
    assert BinaryCrossEntropy(make(np.float32([2, 3]))) == BinaryCrossEntropy([2.0, 3.0])


def test_tensors_stay_as_they_are(X, y):
    tensor = as_torch_with_gradients(X.copy())
    MLP([3, 2], seed=0).fit(tensor, y, epochs=1, progress=False)
    assert tensor.requires_grad and tensor.grad is None
    np.testing.assert_array_equal(tensor.detach().numpy(), X)


def test_dtypes_that_numpy_lacks(X):
    model = MLP([3, 2], seed=0)
    for name in ("bfloat16", "float8_e4m3fn"):
        tensor = as_torch(X).to(getattr(pytest.importorskip("torch"), name))
        with pytest.raises(TypeError, match=f"X: expected an array that NumPy can read, got Tensor.*{name}"):
            model.forward(tensor)
    jnp = pytest.importorskip("jax.numpy")
    with pytest.raises(TypeError, match="X: expected numbers, got dtype bfloat16"):
        model.forward(as_jax(X).astype(jnp.bfloat16))


def test_other_devices(X):
    model = MLP([3, 2], seed=0)
    with pytest.raises(TypeError, match="X: expected an array in the memory of the processor, got "
                                        "OnlyDLPack of float32 on device 2:1"):
        model.forward(OnlyDLPack(X, (2, 1)))
    with pytest.raises(TypeError, match="X: expected an array in the memory of the processor, got Tensor of "
                                        "torch.float32 on meta"):
        model.forward(as_torch(X).to("meta"))


def test_what_cannot_be_read(X):
    torch = pytest.importorskip("torch")
    model = MLP([3, 2], seed=0)
    before = model.weights[0].copy()
    for tensor in (as_torch(X).to_sparse(), torch._neg_view(as_torch(X)), [as_torch_with_gradients(X)]):
        with pytest.raises(TypeError, match="X: expected an array that NumPy can read, got "):
            model.fit(tensor, np.zeros(20, int), progress=False)
    with pytest.raises(TypeError, match="param: expected a NumPy array to write into, got Tensor"):
        F.sgd_update(as_torch(X.copy()), X, lr=0.1)
    np.testing.assert_array_equal(model.weights[0], before)


def test_nothing_is_imported():
    code = ("import sys, fastmlp; assert not {'torch', 'jax', 'onnx', 'google.protobuf'} & set(sys.modules), "
            "sys.modules.keys()")
    subprocess.run([sys.executable, "-c", code], check=True)
