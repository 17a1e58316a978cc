"""lr_find: the curve against a loop of one's own, the suggestion against theory, and nothing is changed."""
from __future__ import annotations

import copy
import hashlib
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import LBFGS, MLP, SGD, AdaGrad, Adam, AdamW, LearningRates, RMSprop, data, lr_find, schedules

OPTIMIZERS = {
    "sgd": lambda: SGD(), "momentum": lambda: SGD(momentum=0.9, clip_norm=1.0), "adagrad": lambda: AdaGrad(),
    "rmsprop": lambda: RMSprop(), "adam": lambda: Adam(),
    "a schedule": lambda: AdamW(schedules.Cosine(0.01, 100)), "a function": lambda: SGD(lambda step: 0.1),
}


def problem(rng, n=500):
    X = rng.standard_normal((n, 6))
    return X, (X[:, 0] * X[:, 1] > 0).astype(int)


def everything(model, optimizer):
    """A hash of all that a model and an optimizer are."""
    digest = hashlib.sha256()
    for arrays in (model.weights, model.biases, model.scales, model.running_means, model.running_variances):
        for array in arrays:
            digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
    digest.update(str(model.core.rng.bit_generator.state).encode())
    digest.update(str(model.core.engine.global_step).encode())
    for name, value in sorted(optimizer.get_state(model).items()):
        digest.update(name.encode() + np.asarray(value).tobytes())
    return digest.hexdigest(), repr(optimizer), optimizer.lr


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize("trained", [False, True])
def test_nothing_is_changed(backend, kind, trained, rng):
    X, y = problem(rng)
    model = MLP([6, 16, 12, 2], dropout=0.2, batch_norm=[True, False], seed=0)
    optimizer = OPTIMIZERS[kind]()
    if trained:
        model.fit(X, y, epochs=2, optimizer=optimizer, progress=False)
    before, twin = everything(model, optimizer), copy.deepcopy((model, optimizer))
    found = lr_find(model, X, y, optimizer, steps=30)
    assert len(found.rates) > 5
    assert everything(model, optimizer) == before
    for network, rule in ((model, optimizer), twin):        # and training goes on as if nothing had been
        network.fit(X, y, epochs=2, optimizer=rule, progress=False)
    if backend != "numpy":
        for a, b in zip(model.weights, twin[0].weights):
            assert_array_equal(a, b)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_curve(backend, dtype, kind, rng):
    """Against steps on the same batches, made here."""
    X, y = problem(rng, 90)
    model = MLP([6, 16, 2], dtype=dtype, seed=3)
    found = lr_find(model, X, y, OPTIMIZERS[kind](), low=1e-4, high=1.0, steps=20, batch_size=40)
    assert isinstance(found, LearningRates) and len(found.rates) == len(found.losses) == len(found.smoothed)
    assert_allclose(found.rates, np.geomspace(1e-4, 1.0, 20)[:len(found.rates)])
    ours, theirs = copy.deepcopy(model), OPTIMIZERS[kind]()
    order = np.arange(90)
    for step, (rate, loss) in enumerate(zip(found.rates, found.losses)):
        theirs.lr = float(rate)
        if step % 2 == 0:                       # two full batches an epoch
            ours.core.rng.shuffle(order)
        rows = order[40 * (step % 2):40 * (step % 2) + 40]
        assert_allclose(loss, ours.train_step(X[rows], y[rows], theirs), rtol=1e-4 if dtype == "f4" else 1e-9)


def test_the_suggestion_is_below_what_theory_allows(backend, rng):
    """Gradient descent on a quadratic function of curvature c at most diverges from 2 / c on."""
    X = rng.standard_normal((2000, 10)) * np.linspace(0.5, 3, 10)
    y = X @ rng.standard_normal((10, 1))
    model = MLP([10, 1], loss="mean_squared_error", seed=0)
    largest = 2 / np.linalg.eigvalsh(2 * np.cov(X.T)).max()
    for seed in range(3):
        model = MLP([10, 1], loss="mean_squared_error", seed=seed)
        found = lr_find(model, X, y, SGD(), batch_size=500)
        assert largest / 100 < found.suggestion < largest
        assert len(found.rates) < 100                       # it ended where the loss had exploded
        model.fit(X, y, epochs=50, batch_size=500, optimizer=SGD(found.suggestion), progress=False)
        assert model.evaluate(X, y)["r2"] > 0.99


@pytest.mark.parametrize("make", [SGD, lambda lr=0: SGD(lr, momentum=0.9), Adam, RMSprop],
                         ids=["sgd", "momentum", "adam", "rmsprop"])
def test_the_suggestion_trains(backend, make, rng):
    """Far better than a rate much lower, and it does not diverge."""
    X, y = problem(rng, 1000)
    found = lr_find(MLP([6, 32, 2], seed=0), X, y, make(), batch_size=50)
    losses = [MLP([6, 32, 2], seed=0).fit(X, y, epochs=10, batch_size=50, optimizer=make(lr=rate),
                                          progress=False).loss[-1]
              for rate in (found.suggestion, found.suggestion / 100)]
    assert losses[0] < 0.8 * losses[1]


def test_it_ends_where_the_loss_explodes(backend, rng):
    X, y = problem(rng)
    with warnings.catch_warnings():
        warnings.simplefilter("error")                      # and says nothing of the copy that diverges
        model = MLP([6, 16, 1], loss="mean_squared_error", seed=0)
        found = lr_find(model, X, 1.0 * y[:, None], SGD(), high=1e6, stop_factor=2.0)
    assert len(found.rates) < 100
    assert not found.losses[-1] <= 2 * found.losses.min()


def test_no_rate_helps(backend):
    """Where there is nothing to learn."""
    model = MLP([3, 2], loss="mean_squared_error", seed=0)
    X = np.ones((50, 3))
    found = lr_find(model, X, model.forward(X), SGD(), high=1e-3)
    assert found.suggestion is None and "suggestion=None" in repr(found)


def test_same_seed_same_curve(backend, rng):
    X, y = problem(rng)
    curves = [lr_find(MLP([6, 16, 2], seed=1), X, y, SGD(), steps=25).losses for _ in range(2)]
    assert_array_equal(*curves)


@pytest.mark.parametrize("kind", ["f2", "u1", ">f8"])
def test_any_dtype(backend, kind, rng):
    X, y = rng.integers(0, 9, (300, 6)), rng.integers(0, 2, 300)
    curves = [lr_find(MLP([6, 16, 2], seed=1), X.astype(dtype), y, SGD(), steps=25,
                      sample_weight=np.arange(300)).losses for dtype in (kind, "f4")]
    assert_allclose(*curves, rtol=1e-4)


def test_sparse_samples(rng):
    sparse = pytest.importorskip("scipy.sparse")
    X, y = rng.integers(0, 2, (300, 6)).astype(float), rng.integers(0, 2, 300)
    curves = [lr_find(MLP([6, 16, 2], seed=1), given, y, SGD(), steps=25).losses
                      for given in (X, sparse.csr_array(X))]
    assert_allclose(curves[0], curves[1], rtol=1e-4)


@pytest.mark.parametrize(("options", "error", "words"), [
    ({"low": 0.0}, ValueError, "low, high: expected 0 < low < high"),
    ({"low": 1.0, "high": 0.5}, ValueError, "low, high"),
    ({"steps": 1}, ValueError, "steps: expected an integer from 2"),
    ({"batch_size": 0}, ValueError, "batch_size"),
    ({"stop_factor": 0.5}, ValueError, "stop_factor"),
    ({"optimizer": LBFGS()}, ValueError, "optimizer: LBFGS has no learning rate"),
    ({"optimizer": "lbfgs"}, ValueError, "optimizer: LBFGS has no learning rate"),
    ({"optimizer": "adamski"}, (TypeError, ValueError), "optimizer"),
    ({"optimizer": int}, TypeError, "optimizer: expected an object of fastmlp.optimizers, got <class 'int'>"),
    ({"X": iter([(np.zeros((5, 6)), np.zeros(5, int))]), "y": None}, TypeError, "X: lr_find takes arrays"),
    ({"X": data.Chunks([(np.zeros((5, 6)), np.zeros(5, int))]), "y": None}, TypeError,
     "X: lr_find takes arrays, .* got Chunks"),
    ({"y": None}, (TypeError, ValueError), "y: "),
    ({"low": "small"}, TypeError, "low"),
    ({"X": np.zeros((5, 7))}, ValueError, "X: "),
    ({"y": np.full(500, 2)}, ValueError, "y: "),
    ({"sample_weight": np.ones(3)}, ValueError, "sample_weight"),
])
def test_bad_arguments(backend, options, error, words, rng):
    X, y = problem(rng)
    model, optimizer = MLP([6, 4, 2], seed=0), SGD()
    before = everything(model, optimizer)
    with pytest.raises(error, match=words):
        lr_find(model, **{"X": X, "y": y, "optimizer": optimizer, **options})
    assert everything(model, optimizer) == before


@pytest.mark.parametrize("name, cls", [("sgd", SGD), ("adam", Adam), ("adamw", AdamW)])
def test_optimizers_by_name_and_class(backend, name, cls, rng):
    X, y = problem(rng)
    curves = [lr_find(MLP([6, 4, 2], seed=0), X, y, optimizer, steps=10).losses
              for optimizer in (cls(), cls, name)]
    assert_array_equal(curves[0], curves[1])
    assert_array_equal(curves[0], curves[2])


def test_batches_of_one_row_with_batch_normalisation(rng):
    X, y = problem(rng)
    with pytest.raises(ValueError, match="batch_size: expected at least 2 with batch normalisation"):
        lr_find(MLP([6, 4, 2], batch_norm=True, seed=0), X, y, SGD(), batch_size=1)


def test_samples_of_weight_0_make_no_batch(rng):
    X, y, weights = rng.standard_normal((1000, 5)), rng.integers(0, 2, 1000), np.zeros(1000)
    weights[::60] = 1
    found = lr_find(MLP([5, 16, 2], seed=0), X, y, batch_size=32, sample_weight=weights)
    counted = lr_find(MLP([5, 16, 2], seed=0), X[::60], y[::60], batch_size=32)
    assert_array_equal(found.losses, counted.losses)


def test_a_model_that_is_none():
    with pytest.raises(TypeError, match="^model: expected an MLP, got str$"):
        lr_find("net", np.zeros((4, 2)), np.zeros(4, int))
