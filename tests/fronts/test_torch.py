"""Modules of PyTorch as models and back, against PyTorch."""
from __future__ import annotations

import copy
import re
import subprocess
import sys
import warnings
from collections import OrderedDict

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, Adam, AdamW, BatchNorm, losses
from fastmlp import activations as A
from fastmlp.torch import from_torch, load_state_dict, state_dict

torch = pytest.importorskip("torch")
nn = torch.nn

ACTIVATIONS = [
    (nn.ReLU(), A.ReLU()), (nn.LeakyReLU(0.2), A.LeakyReLU(0.2)), (nn.Sigmoid(), A.Sigmoid()),
    (nn.Tanh(), A.Tanh()), (nn.ELU(1.3), A.ELU(1.3)), (nn.SELU(), A.SELU()), (nn.Softplus(), A.Softplus()),
    (nn.GELU(), A.GELU()), (nn.GELU("tanh"), A.GELUTanh()), (nn.SiLU(), A.SiLU())]


@pytest.fixture(autouse=True)
def seeded():
    """One thread: the processors of a test machine are few, and busy."""
    torch.manual_seed(3)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def X(rng):
    return rng.normal(size=(30, 6)).astype(np.float32)


def run(module, X):
    """What a module in eval mode returns."""
    module = copy.deepcopy(module).eval()
    dtype = next(module.parameters()).dtype
    with torch.no_grad():
        return module(torch.from_numpy(X).to(dtype)).numpy()


def assert_close(actual, desired, factor=16):
    """Equal, to the rounding of the dtype."""
    assert actual.dtype == desired.dtype
    eps = factor * np.finfo(desired.dtype).eps
    np.testing.assert_allclose(actual, desired, rtol=eps, atol=eps * max(1, np.abs(desired).max()))


def random_statistics(module):
    """As after training: no mean is 0 and no variance is 1."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            if layer.affine:
                nn.init.normal_(layer.weight)
                nn.init.normal_(layer.bias)
    return module


def quietly(module, *args, **options):
    """The model, of a module whose training is not changed: no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return from_torch(module, *args, **options)


def noted(module, text, **options):
    """The model, of a module whose training is changed: a warning that says what."""
    with pytest.warns(UserWarning, match=text):
        return from_torch(module, **options)


# Predictions -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("theirs, ours", ACTIVATIONS, ids=lambda x: type(x).__name__)
def test_activations_both_ways(theirs, ours, dtype, X):
    module = nn.Sequential(nn.Linear(6, 9), theirs, nn.Linear(9, 5), theirs,
                           nn.Linear(5, 3)).to(getattr(torch, dtype))
    model = quietly(module)
    assert model.dtype == dtype and model.activations[:-1] == (ours, ours)
    assert model.loss == losses.MeanSquaredError()
    assert_close(model.forward(X), run(module, X))
    back = model.to_torch()
    assert [repr(layer) for layer in back] == [repr(layer) for layer in module] and not back.training
    np.testing.assert_array_equal(run(back, X), run(module, X))
    assert repr(quietly(back)) == repr(model)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_and_dropout(affine, bias, X):
    module = random_statistics(nn.Sequential(
        nn.Linear(6, 9, bias=bias), nn.BatchNorm1d(9, eps=1e-3, momentum=0.2, affine=affine), nn.GELU(),
        nn.Dropout(0.25), nn.Linear(9, 5, bias=bias), nn.Tanh(), nn.Dropout(0.5), nn.Linear(5, 3)))
    model = quietly(module, seed=0)
    assert model.batch_norm == (BatchNorm(0.2, 1e-3), None) and model.dropout == (0.25, 0.5)
    assert_close(model.forward(X), run(module, X), 64)
    back = model.to_torch()
    assert_close(run(back, X), run(module, X), 64)
    again = quietly(back)
    for name in ("weights", "biases", "scales", "running_means", "running_variances"):
        for a, b in zip(getattr(again, name), getattr(model, name)):
            np.testing.assert_array_equal(a, b)


def test_nested_and_named_modules(X):
    class Block(nn.Sequential):
        def __init__(self, n, m):
            super().__init__(nn.Linear(n, m), nn.ReLU(), nn.Identity())

    module = nn.Sequential(OrderedDict(flat=nn.Flatten(), body=nn.Sequential(Block(6, 5), Block(5, 4)),
                                       head=nn.Linear(4, 2)))
    model = quietly(module)
    assert model.layers == (6, 5, 4, 2)
    assert_close(model.forward(X), run(module, X))
    assert_close(quietly(nn.Linear(6, 2)).forward(X), run(nn.Linear(6, 2), X), 1e9)     # a lone layer


@pytest.mark.parametrize("end, loss", [
    (nn.Softmax(dim=1), "cross_entropy"), (nn.Softmax(dim=-1), "cross_entropy"),
    (nn.LogSoftmax(dim=1), "cross_entropy"), (nn.Sigmoid(), "binary_cross_entropy"),
    (None, "mean_squared_error")])
def test_the_end_becomes_the_loss(end, loss, X):
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3), *([] if end is None else [end]))
    model = quietly(module)
    assert model.loss.name == loss
    assert_close(model.forward(X), run(module[:3], X))
    if end is not None:
        p = model.predict_proba(X)
        assert_close(np.log(p) if isinstance(end, nn.LogSoftmax) else p, run(module, X))
        assert_close(run(model.to_torch("proba"), X), p)


def test_the_loss_is_told(X):
    module = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    model = quietly(module, losses.CrossEntropy(label_smoothing=0.1))
    assert model.loss == losses.CrossEntropy(label_smoothing=0.1)
    assert_close(model.predict_proba(X), run(nn.Sequential(*module, nn.Softmax(1)), X))
    assert quietly(nn.Sequential(module, nn.Softmax(1)), "kl_divergence").loss.name == "kl_divergence"
    with pytest.raises(ValueError,
                       match=r"loss: expected one whose outputs go through softmax, as after layer 1 "
                                         r"\(Softmax\), got 'mean_squared_error'"):
        from_torch(nn.Sequential(module, nn.Softmax(1)), "mean_squared_error")
    with pytest.raises(ValueError, match="loss: unknown name 'nonsense'"):
        from_torch(module, "nonsense")


@pytest.mark.parametrize("theirs, ours", [
    (nn.CrossEntropyLoss(), losses.CrossEntropy()),
    (nn.CrossEntropyLoss(label_smoothing=0.1, ignore_index=2), losses.CrossEntropy(0.1, ignore_index=2)),
    (nn.BCEWithLogitsLoss(pos_weight=torch.tensor([1.0, 2.0, 3.0])),
     losses.BinaryCrossEntropy([1.0, 2.0, 3.0])),
    (nn.MSELoss(), losses.MeanSquaredError()), (nn.L1Loss(), losses.MeanAbsoluteError()),
    (nn.HuberLoss(delta=0.5), losses.Huber(0.5))], ids=lambda x: type(x).__name__)
def test_losses_of_pytorch(theirs, ours, X, rng):
    """They have the same value."""
    module = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    model = quietly(module, theirs)
    assert model.loss == ours
    y = rng.integers(0, 3, 30) if ours.targets == "classes" else rng.integers(0, 2,
                                                                              (30, 3)).astype(np.float32)
    desired = theirs(torch.from_numpy(run(module, X)), torch.from_numpy(y)).item()
    np.testing.assert_allclose(model.loss_and_gradients(X, y)[0], desired, rtol=1e-5)
    state = {key: tensor for key, tensor in module.state_dict().items()}
    assert from_torch(state, theirs, activation="tanh").loss == ours


def test_losses_after_their_function(X):
    module = nn.Sequential(nn.Linear(6, 3))
    assert quietly(nn.Sequential(module, nn.LogSoftmax(1)), nn.NLLLoss()).loss == losses.CrossEntropy()
    assert quietly(nn.Sequential(module, nn.Sigmoid()), nn.BCELoss()).loss == losses.BinaryCrossEntropy()
    for loss, error, text in [
            (nn.CTCLoss(), TypeError, "loss: expected one of .*, got CTCLoss"),
            (nn.MSELoss(reduction="sum"), ValueError,
             "loss: expected MSELoss with reduction=\"mean\", got 'sum'"),
            (nn.CrossEntropyLoss(weight=torch.ones(3)), ValueError,
             "loss: .*without weight, which fit takes")]:
        with pytest.raises(error, match=text):
            from_torch(module, loss)


@pytest.mark.parametrize("end, loss, wanted", [
    (nn.Softmax(1), nn.CrossEntropyLoss(), "a Linear"), (nn.Softmax(1), nn.NLLLoss(), "a LogSoftmax"),
    (None, nn.NLLLoss(), "a LogSoftmax"), (nn.Sigmoid(), nn.NLLLoss(), "a LogSoftmax"),
    (None, nn.BCELoss(), "a Sigmoid"), (nn.ReLU(), nn.BCELoss(), "a Sigmoid"),
    (nn.Sigmoid(), nn.BCEWithLogitsLoss(), "a Linear")], ids=lambda x: type(x).__name__)
def test_losses_after_another_function_are_refused(end, loss, wanted):
    """PyTorch computes them of whatever there is: another loss than the one of fastmlp."""
    name = type(loss).__name__
    label = "layer 0.0 (Linear)" if end is None else f"layer 1 ({type(end).__name__})"
    with pytest.raises(ValueError) as caught:
        from_torch(nn.Sequential(nn.Sequential(nn.Linear(6, 3)), *([] if end is None else [end])), loss)
    assert str(caught.value).startswith(
        f"loss: expected {wanted} at the end, which {name} takes the values of, got {label}; ")


@pytest.mark.parametrize("end", [nn.LogSoftmax(1), nn.Sigmoid(), nn.Tanh()], ids=lambda x: type(x).__name__)
def test_cross_entropy_of_other_values(end, X, rng):
    """The logarithm of softmax is that of its logarithm; other functions stay as activations."""
    module = nn.Sequential(nn.Linear(6, 3), end)
    model = (quietly(module, nn.CrossEntropyLoss()) if isinstance(end, nn.LogSoftmax)
             else noted(module, "the last layer of an MLP has no activation", loss=nn.CrossEntropyLoss()))
    y = rng.integers(0, 3, len(X))
    desired = nn.CrossEntropyLoss()(torch.from_numpy(run(module, X)), torch.from_numpy(y)).item()
    np.testing.assert_allclose(model.loss_and_gradients(X, y)[0], desired, rtol=1e-5)


# What is folded ----------------------------------------------------------------------------------------

def linear(n=6, m=6):
    return nn.Linear(n, m)


@pytest.mark.parametrize("layers, text", [
    ([nn.BatchNorm1d(6), linear(), nn.ReLU(), linear()], r"layer 0 \(BatchNorm1d\): .* folded into weights"),
    ([linear(), nn.ReLU(), nn.BatchNorm1d(6), linear()], r"layer 2 \(BatchNorm1d\): .* folded into weights"),
    ([linear(), nn.Tanh(), nn.Dropout(), nn.BatchNorm1d(6), linear()], r"layer 3 \(BatchNorm1d\): .* folded"),
    ([linear(), nn.BatchNorm1d(6), nn.BatchNorm1d(6), nn.ReLU(), linear()],
     r"layer 2 \(BatchNorm1d\): .* folded"),
    ([linear(), nn.BatchNorm1d(6)], r"layer 1 \(BatchNorm1d\): .* last layer is folded"),
    ([linear(), nn.ReLU(), nn.BatchNorm1d(6)], r"layer 2 \(BatchNorm1d\): .* folded into weights"),
    ([linear(), nn.BatchNorm1d(6), nn.Tanh()],
     r"layer 2 \(Tanh\): the last layer of an MLP has no activation"),
    ([linear(), nn.SiLU(), nn.Tanh(), linear()], r"layer 2 \(Tanh\): no linear layer is in front"),
    ([linear(), nn.SiLU(), nn.Softmax(1)], r"layer 2 \(Softmax\): no linear layer is in front"),
    ([nn.Dropout(), linear()], r"layer 0 \(Dropout\): dropout of the inputs is left out"),
    ([linear(), nn.Dropout()], r"layer 1 \(Dropout\): dropout in front of the end is left out"),
    ([linear(), nn.Dropout(), nn.Tanh(), linear()],
     r"layer 1 \(Dropout\): dropout in front of layer 2 \(Tanh\)"),
    ([linear(), nn.Dropout(), nn.BatchNorm1d(6), nn.Tanh(), linear()],
     r"layer 1 \(Dropout\): dropout in front"),
], ids=lambda x: "-".join(type(layer).__name__ for layer in x) if isinstance(x, list) else "")
def test_predictions_stay_and_training_is_noted(layers, text, X):
    module = random_statistics(nn.Sequential(*layers))
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        model = from_torch(module)
    assert any(re.match(text, str(note.message)) for note in notes)
    assert all(note.category is UserWarning and note.filename == __file__ for note in notes)
    outputs = model.predict_proba(X) if model.loss.output == "softmax" else model.forward(X)
    assert_close(outputs, run(module, X), 64)


def test_a_sigmoid_may_stay_an_activation(X):
    module = nn.Sequential(nn.Linear(6, 3), nn.Sigmoid())
    model = noted(module, r"layer 1 \(Sigmoid\): the last layer of an MLP has no activation",
                  loss="mean_squared_error")
    assert_close(model.forward(X), run(module, X))


def test_dropout_that_commutes():
    """In front of ReLU it is the same as behind; two in a row are one."""
    module = nn.Sequential(linear(), nn.Dropout(0.2), nn.ReLU(), nn.Dropout(0.5), nn.Dropout(0.0), linear())
    np.testing.assert_allclose(quietly(module).dropout, [1 - 0.8 * 0.5])


# Training ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, ours, theirs", [
    ("sgd", lambda: SGD(0.05), lambda p: torch.optim.SGD(p, 0.05)),
    ("momentum", lambda: SGD(0.02, momentum=0.9), lambda p: torch.optim.SGD(p, 0.02, momentum=0.9)),
    ("adam", lambda: Adam(0.002), lambda p: torch.optim.Adam(p, 0.002)),
    ("decay", lambda: SGD(0.02, weight_decay=0.1, decay_biases=True),
     lambda p: torch.optim.SGD(p, 0.02, weight_decay=0.1)),
    ("adamw", lambda: AdamW(0.002, weight_decay=0.1, decay_biases=True),
     lambda p: torch.optim.AdamW(p, 0.002, weight_decay=0.1)),
], ids=lambda x: x if isinstance(x, str) else "")
@pytest.mark.parametrize("loss, peer",
                         [("cross_entropy", nn.CrossEntropyLoss()), ("mean_squared_error", nn.MSELoss())])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_hundred_steps(name, ours, theirs, loss, peer, batch_norm, rng):
    """Weights, losses and predictions stay within 1e-5 of PyTorch's."""
    norms = [[nn.BatchNorm1d(n)] if batch_norm else [] for n in (16, 12)]
    module = nn.Sequential(nn.Linear(6, 16, bias=not batch_norm), *norms[0], nn.Tanh(),
                           nn.Linear(16, 12, bias=not batch_norm), *norms[1], nn.GELU(),
                           nn.Linear(12, 3)).double()
    model = quietly(module, loss)
    optimizer, peer_optimizer = ours(), theirs(module.parameters())
    for _ in range(100):
        X = rng.normal(size=(32, 6))
        y = rng.integers(0, 3, 32) if loss == "cross_entropy" else rng.normal(size=(32, 3))
        ours_now = model.train_step(X, y, optimizer)
        peer_optimizer.zero_grad()
        theirs_now = peer(module(torch.from_numpy(X)), torch.from_numpy(y))
        theirs_now.backward()
        peer_optimizer.step()
        assert abs(ours_now - theirs_now.item()) < 1e-5
    for key, array in state_dict(model).items():
        if "num_batches" not in key:
            np.testing.assert_allclose(array, module.state_dict()[key].numpy(), rtol=1e-5, atol=1e-5,
                                       err_msg=key)
    X = rng.normal(size=(9, 6))
    np.testing.assert_allclose(model.forward(X), run(module, X), rtol=1e-5, atol=1e-5)


def test_hundred_steps_in_float32(rng):
    module = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    model, optimizer = quietly(module, "cross_entropy"), SGD(0.05, momentum=0.9)
    peer_optimizer = torch.optim.SGD(module.parameters(), 0.05, momentum=0.9)
    for _ in range(100):
        X, y = rng.normal(size=(32, 6)).astype(np.float32), rng.integers(0, 3, 32)
        model.train_step(X, y, optimizer)
        peer_optimizer.zero_grad()
        nn.functional.cross_entropy(module(torch.from_numpy(X)), torch.from_numpy(y)).backward()
        peer_optimizer.step()
    np.testing.assert_allclose(model.forward(X), run(module, X), rtol=1e-5, atol=1e-5)


# Weights by PyTorch's names ----------------------------------------------------------------------------

def deep_module():
    blocks = [layer for _ in range(4) for layer in (nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh())]
    return random_statistics(nn.Sequential(*blocks, nn.Linear(6, 2)))


def test_state_dicts(X):
    module = deep_module()
    model = from_torch(module.state_dict(), activation="tanh", loss="cross_entropy", seed=0)
    assert model.layers == (6, 6, 6, 6, 6, 2) and model.loss.name == "cross_entropy"
    assert_close(model.forward(X), run(module, X), 64)
    arrays = {key: tensor.numpy() for key,
              tensor in sorted(module.state_dict().items())}      # "12" before "3"
    assert_close(from_torch(arrays, activation=["tanh"] * 4, dropout=0.1).forward(X), run(module, X), 64)
    settings = BatchNorm(0.3, 1e-4)
    assert from_torch(arrays, activation="tanh", batch_norm=settings).batch_norm == (settings,) * 4


@pytest.mark.parametrize("normalized", [False, True])
def test_names_of_many_layers_in_the_order_of_a_file(normalized, X):
    def block():
        norm = [("norm", nn.BatchNorm1d(6))] if normalized else []
        return nn.Sequential(OrderedDict([("linear", nn.Linear(6, 6)), *norm, ("tanh", nn.Tanh())]))

    module = random_statistics(nn.Sequential(OrderedDict(
        [("blocks", nn.Sequential(*[block() for _ in range(12)])), ("head", nn.Linear(6, 2))])))
    state = {key: tensor.numpy() for key, tensor in module.state_dict().items()}
    counters_first = sorted(state, key=lambda key: (not key.endswith("num_batches_tracked"), key))
    in_file = {key: state[key] for key in counters_first}               # "blocks.10" before "blocks.2"
    model = from_torch(in_file, activation="tanh", loss="mean_squared_error")
    assert_close(model.forward(X), run(module, X), 64)


def test_names_are_pytorchs():
    model = MLP([6, 5, 4, 2], activation=["relu", "identity"], batch_norm=[True, False], dropout=[0.2, 0.0])
    theirs = model.to_torch().state_dict()
    ours = state_dict(model)
    assert list(ours) == list(theirs)
    for key, tensor in theirs.items():
        np.testing.assert_array_equal(ours[key], tensor.numpy(), err_msg=key)
        assert ours[key].shape == tuple(tensor.shape) and ours[key].dtype == tensor.numpy().dtype
    assert not any(np.shares_memory(a, model.weights[0]) for a in ours.values())


def test_through_safetensors(X, tmp_path):
    numpy_format = pytest.importorskip("safetensors.numpy")
    torch_format = pytest.importorskip("safetensors.torch")
    module = deep_module()
    model = quietly(module)
    numpy_format.save_file(state_dict(model), tmp_path / "ours.safetensors")
    other = deep_module()
    for key, tensor in other.state_dict().items():          # Linears in front of BatchNorm1d keep a bias
        if re.fullmatch(r"(0|3|6|9)\.bias", key):
            tensor.zero_()
    other.load_state_dict(torch_format.load_file(tmp_path / "ours.safetensors"), strict=False)
    assert_close(run(other, X), run(module, X), 64)
    torch_format.save_file(module.state_dict(), tmp_path / "theirs.safetensors")
    again = MLP([6, 6, 6, 6, 6, 2], activation="tanh", batch_norm=True)
    load_state_dict(again, numpy_format.load_file(tmp_path / "theirs.safetensors"))
    assert_close(again.forward(X), run(module, X), 64)


@pytest.mark.parametrize("change, error, text", [
    (lambda s: s.pop("2.weight"), ValueError,
     r"layer 2: expected the arrays of a Linear, .* got bias \(2,\)"),
    (lambda s: [s.pop("0.weight"), s.pop("0.bias")], ValueError, "state: expected 2 linear layers, got 1"),
    (lambda s: s.update({"2.weight": np.ones((2, 7), "f")}), ValueError,
     "layer 2: expected 5 inputs, .* got 7"),
    (lambda s: s.update({"2.bias": np.ones(3, "f")}), ValueError,
     r"layer 2: bias: expected shape \(2,\), got \(3,\)"),
    (lambda s: s.update({"2.bias": np.ones(2)}), TypeError,
     "layer 2: expected a bias of float32, the dtype of the first weight, got float64"),
    (lambda s: s.update({"2.weight": np.ones((2, 5), int)}), TypeError,
     "layer 2: expected a weight of float32 or float64, got int64"),
    (lambda s: s.update({"0.weight": np.ones((5, 6))}), TypeError,
     "layer 0: expected a bias of float64, the dtype of the first weight, got float32"),
    (lambda s: s.update({"1.weight": np.ones(5, "f")}), ValueError,
     "layer 1: expected the arrays of a Linear"),
    (lambda s: s.update({"0.weight": np.ones((5, 4), "f")}), ValueError,
     r"layers \(6, 5, 2\), those of the model"),
    (lambda s: s.update({k: v.astype("d") for k, v in s.items()}), TypeError,
     "dtype float32, those of the model"),
    (lambda s: s.update({"1." + k: np.ones(5, "f") for k in ("running_mean", "running_var")}), ValueError,
     r"state: expected batch normalisation in hidden layers \[False\], got \[True\]"),
    (lambda s: s.update({"0.weight_orig": s.pop("0.weight")}), ValueError, "got .*weight_orig"),
])
def test_state_that_does_not_fit(change, error, text):
    model = MLP([6, 5, 2], seed=0)
    state, before = state_dict(model), state_dict(model)
    change(state)
    with pytest.raises(error, match=text):
        load_state_dict(model, state)
    for key, array in state_dict(model).items():
        np.testing.assert_array_equal(array, before[key])


def test_arguments_of_state_dicts():
    state = state_dict(MLP([6, 5, 2]))
    with pytest.raises(TypeError, match="activation: expected that of the hidden layers"):
        from_torch(state)
    with pytest.raises(ValueError, match="activation: expected one for each of 1 hidden layers, got 2"):
        from_torch(state, activation=["relu", "relu"])
    with pytest.raises(TypeError, match="batch_norm: expected a BatchNorm, got True"):
        from_torch(state, activation="relu", batch_norm=True)
    with pytest.raises(ValueError, match="at least one Linear"):
        from_torch({})
    with pytest.raises(TypeError, match="expected a mapping from names to arrays"):
        from_torch({1: np.ones((2, 2))})
    with pytest.raises(TypeError, match="model: expected an MLP, got Linear"):
        load_state_dict(nn.Linear(2, 2), state)
    with pytest.raises(TypeError, match="mapping from names to arrays, got list"):
        load_state_dict(MLP([6, 5, 2]), [])
    with pytest.raises(TypeError, match="activation: expected none with a module"):
        from_torch(nn.Linear(2, 2), activation="relu")


# Modules that are refused ------------------------------------------------------------------------------

class Forward(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class Called(nn.Linear):
    def __call__(self, x):
        return super().__call__(x) * 2


class CallImpl(nn.Linear):
    def _call_impl(self, *args, **kwargs):
        return super()._call_impl(*args, **kwargs) * 2


class Twice(nn.Sequential):
    def __call__(self, x):
        return super().__call__(super().__call__(x))


class Backwards(nn.Sequential):
    def __iter__(self):
        return reversed([*self._modules.values()])


def call_patched():
    layer = linear()
    layer._call_impl = lambda x: x
    return layer


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)


def hooked(kind):
    layer = linear()
    getattr(layer, f"register_{kind}")(lambda *args: None)
    return layer


def patched():
    layer = linear()
    layer.forward = lambda x: x
    return layer


def twice():
    layer = linear()
    return [layer, nn.ReLU(), layer]


def tied():
    first, second = linear(), linear()
    second.weight = first.weight
    return [first, nn.ReLU(), second]


def tied_by_a_view(change):
    first, second = linear(), linear()
    second.weight = nn.Parameter(change(first.weight.data))
    return [first, nn.ReLU(), second]


def apart_in_one_buffer():
    layers = [linear(), nn.ReLU(), linear()]
    buffer = torch.randn(2, 6, 6)
    for layer, part in zip(layers[::2], buffer):
        layer.weight = nn.Parameter(part)
    return layers


def test_parts_of_one_buffer_are_not_shared(X):
    module = nn.Sequential(*apart_in_one_buffer())
    assert_close(quietly(module).forward(X), run(module, X))


REFUSED = [
    (tied_by_a_view(lambda w: w.T), ValueError,
     r"layer 2 \(Linear\): expected a weight of its own, got that of layer 0 \(Linear\)"),
    (tied_by_a_view(lambda w: w.view(36).view(6, 6)), ValueError,
     r"layer 2 \(Linear\): expected a weight of its"),
    ([linear(), nn.ReLU(), nn.Conv2d(1, 1, 1)], TypeError,
     r"layer 2 \(Conv2d\): expected a Sequential, or one of"),
    ([nn.Sequential(linear(), nn.LayerNorm(6))], TypeError, r"layer 0\.1 \(LayerNorm\)"),
    ([linear(), nn.PReLU(), linear()], TypeError, r"layer 1 \(PReLU\)"),
    ([type("Linear", (nn.Module,), {"__module__": "theirs.quantized"})()], TypeError,
     r"layer 0 \(Linear\): .* one of Linear, .*, of torch\.nn, got one of theirs\.quantized"),
    ([linear(), nn.ModuleList([linear()])], TypeError, r"layer 1 \(ModuleList\)"),
    ([Net()], TypeError, r"layer 0 \(Net\): .*torch\.onnx\.export, then fastmlp\.from_onnx"),
    ([Forward(6, 6)], TypeError, r"layer 0 \(Forward\): expected the forward of Linear, got one of its own"),
    ([patched()], TypeError, r"layer 0 \(Linear\): expected the forward of Linear"),
    ([Called(6, 6)], TypeError, r"layer 0 \(Called\): expected the __call__ of Linear, got one of its own"),
    ([CallImpl(6, 6)], TypeError, r"layer 0 \(CallImpl\): expected the _call_impl of Linear"),
    ([call_patched()], TypeError, r"layer 0 \(Linear\): expected the _call_impl of Linear"),
    ([Twice(linear())], TypeError, r"layer 0 \(Twice\): expected the __call__ of Sequential"),
    ([Backwards(linear(), nn.ReLU())], TypeError, r"layer 0 \(Backwards\): expected the __iter__ of Sequ"),
    ([nn.LazyLinear(6)], ValueError, r"layer 0 \(LazyLinear\): .*a lazy module"),
    ([hooked("forward_hook")], ValueError, r"layer 0 \(Linear\): expected no hooks"),
    ([hooked("forward_pre_hook")], ValueError, r"layer 0 \(Linear\): expected no hooks"),
    ([hooked("full_backward_hook")], ValueError, r"layer 0 \(Linear\): expected no hooks"),
    ([nn.utils.parametrizations.weight_norm(linear())], ValueError,
     r"layer 0 \(\w*Linear\): .*parametrizations"),
    ([nn.utils.spectral_norm(linear())], ValueError, r"layer 0 \(Linear\): expected no hooks"),
    (twice(), ValueError,
     r"layer 2 \(Linear\): expected a weight of its own, got that of layer 0 \(Linear\)"),
    (tied(), ValueError, r"layer 2 \(Linear\): expected a weight of its own, got that of layer 0 \(Linear\)"),
    ([linear().to("meta")], ValueError, r"layer 0 \(Linear\): .*on the device meta"),
    ([linear().half()], TypeError,
     r"layer 0 \(Linear\): expected a weight of float32 or float64, got float16"),
    ([linear(), nn.ReLU(), linear().double()], TypeError,
     r"layer 2 \(Linear\): expected a weight of float32, .*64"),
    ([linear(), nn.ReLU(), linear(5, 2)], ValueError,
     r"layer 2 \(Linear\): expected 6 inputs, the outputs of layer 0"),
    ([linear(), nn.BatchNorm1d(5), linear()], ValueError, r"layer 1 \(BatchNorm1d\): expected 6 units"),
    ([linear(), nn.ReLU(), nn.BatchNorm1d(5), linear()], ValueError,
     r"layer 2 \(BatchNorm1d\): expected one number"),
    ([linear(), nn.BatchNorm1d(6, momentum=None), linear()], ValueError,
     r"layer 1 \(BatchNorm1d\): .* momentum"),
    ([linear(), nn.BatchNorm1d(6, eps=0), linear()], ValueError,
     r"layer 1 \(BatchNorm1d\): epsilon: expected"),
    ([linear(), nn.BatchNorm1d(6, track_running_stats=False), linear()], ValueError,
     "track_running_stats=False"),
    ([linear(), nn.Dropout(1.0), linear()], ValueError,
     r"layer 1 \(Dropout\): expected a share .* below 1, got 1.0"),
    ([linear(), nn.LeakyReLU(-1), linear()], ValueError, r"layer 1 \(LeakyReLU\): alpha: expected"),
    ([linear(), nn.Softplus(beta=2), linear()], ValueError, r"layer 1 \(Softplus\): expected beta=1"),
    ([nn.Flatten(0), linear()], ValueError, r"layer 0 \(Flatten\): expected start_dim=1 and end_dim=-1"),
    ([linear(), nn.Softmax(dim=0)], ValueError, r"layer 1 \(Softmax\): expected dim=1, got 0"),
    ([linear(), nn.Softmax(dim=1), linear()], ValueError,
     r"layer 2 \(Linear\): expected nothing after layer 1"),
    ([nn.ReLU(), linear()], ValueError, r"layer 0 \(ReLU\): expected a linear layer in front"),
    ([nn.Softmax(dim=1)], ValueError, r"layer 0 \(Softmax\): expected a linear layer in front"),
    ([], ValueError, "at least one linear layer, got none"),
]


@pytest.mark.parametrize("layers, error, text", REFUSED, ids=lambda x: x if isinstance(x, str) else "")
def test_refused_with_the_layers_name(layers, error, text):
    with pytest.raises(error, match=text):
        from_torch(nn.Sequential(*layers))


@pytest.mark.parametrize("kind", ["forward_pre_hook", "forward_hook", "full_backward_hook"])
def test_refused_with_hooks_of_all_modules(kind):
    handle = getattr(nn.modules.module, f"register_module_{kind}")(lambda *args: None)
    try:
        for module, label in ((nn.Sequential(linear()), r"module \(Sequential\)"),
                              (linear(), r"module \(Linear\)")):
            with pytest.raises(ValueError, match=f"{label}: expected no hooks, got global ones"):
                from_torch(module)
    finally:
        handle.remove()
    quietly(nn.Sequential(linear()))


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_of_a_parameter(register):
    module = nn.Sequential(nn.Linear(6, 2))
    handle = getattr(module[0].weight, register)(lambda gradient: None)
    with pytest.raises(ValueError, match=r"^layer 0 \(Linear\): expected a weight without hooks"):
        from_torch(module)
    handle.remove()
    from_torch(module)


@pytest.mark.parametrize("module", [3, None, "net.pt", nn.Linear, [nn.Linear(2, 2)]], ids=repr)
def test_no_modules(module):
    with pytest.raises(TypeError, match="module: expected a torch.nn.Sequential or a state_dict, got "):
        from_torch(module)
    if module is not nn.Linear:
        with pytest.raises(TypeError, match="module: expected a torch.nn.Sequential or a state_dict, got "):
            from_torch(module, activation="relu")


def test_outputs_of_to_torch():
    model = MLP([4, 3], loss="mean_squared_error")
    with pytest.raises(ValueError, match="output: .* the loss 'mean_squared_error' has no probabilities"):
        model.to_torch("proba")
    with pytest.raises(ValueError, match='output: expected "logits" or "proba", got \'softmax\''):
        model.to_torch("softmax")
    assert isinstance(MLP([4, 1], loss="binary_cross_entropy").to_torch("proba")[-1], nn.Sigmoid)


def test_arrays_are_copies(X):
    module = nn.Sequential(nn.Linear(6, 2))
    model = quietly(module)
    model.weights[0][...] = 0
    back = model.to_torch()
    nn.init.ones_(back[0].weight)
    assert module[0].weight.abs().min() > 0 and not model.weights[0].any()


def test_without_pytorch():
    """A missing extra is named; weights by PyTorch's names do without."""
    code = """
import sys
sys.modules["torch"] = None
import fastmlp, fastmlp.torch
model = fastmlp.MLP([4, 3])
fastmlp.from_torch(fastmlp.torch.state_dict(model))
for call in (model.to_torch, lambda: fastmlp.from_torch(object())):
    try:
        call()
    except ImportError as error:
        assert 'pip install "fastmlp[torch]"' in str(error), error
    else:
        raise AssertionError("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_names():
    assert fastmlp.from_torch is from_torch
