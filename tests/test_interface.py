"""Both backends against `fastmlp.backends.interface`: the same names, the same arguments."""
from __future__ import annotations

import copy
import inspect

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, SGD, Adam, backends, functional
from fastmlp._core.network import Samples
from fastmlp._core.sources import SparseRows
from fastmlp.backends import interface

pytestmark = pytest.mark.any_isa

NAMES = backends.NAMES
METHODS = [name for name, value in vars(interface.Engine).items()
           if inspect.isfunction(value) and (name == "__init__" or not name.startswith("_"))]


def module(name):
    with fastmlp.use_backend(name):
        return backends.active()


def arguments(function):
    """Names of the arguments after self, and which of them may be left out."""
    parameters = [p for p in inspect.signature(function).parameters.values() if p.name != "self"]
    return [(p.name, p.kind) for p in parameters], {p.name for p in parameters if p.default is not p.empty}


def made(name):
    with fastmlp.use_backend(name):
        return MLP([3, 4, 2], seed=0).core.engine


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", [m for m in METHODS if m != "__init__"])
def test_methods_of_an_engine(method, name):
    expected, optional = arguments(getattr(interface.Engine, method))
    found, may_be_left_out = arguments(getattr(made(name), method))
    assert [n for n, _ in found] == [n for n, _ in expected]
    assert optional <= may_be_left_out


@pytest.mark.parametrize("name", NAMES)
def test_an_engine_is_made_alike(name):
    assert arguments(module(name).Engine.__init__) == arguments(interface.Engine.__init__)


@pytest.mark.parametrize("name", NAMES)
def test_a_run(name, rng):
    engine = made(name)
    assert isinstance(engine, interface.Engine)
    samples = Samples(rng.standard_normal((6, 3)).astype("f4"), np.zeros(6, np.intp), batch_size=3)
    optimizer = SGD(0.1)
    run = engine.begin(samples, optimizer)
    assert isinstance(run, interface.Run)
    for method in ("steps", "write_back"):
        assert [n for n, _ in arguments(getattr(run, method))[0]] == [
            n for n, _ in arguments(getattr(interface.Run, method))[0]]
    loss, weight = run.steps(0, 2, (0.0, 0.0), 1)
    run.write_back()
    assert weight == 6 and loss > 0 and engine.global_step == 2


class Listed:
    """A source of one's own: with what the Protocol has, and no more."""

    def __init__(self, x, targets, batch_size, order=None, weights=None):
        self.x, self.targets, self.batch_size = x, targets, batch_size
        self.order, self.weights = order, weights
        self.nonzeros = x.nonzeros(batch_size) if isinstance(x, SparseRows) else None

    def __len__(self):
        return len(self.x) if self.order is None else len(self.order)

    def batch(self, step):
        places = np.arange(step * self.batch_size, min((step + 1) * self.batch_size, len(self)))
        return places if self.order is None else self.order[places]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("sparse", [False, True])
def test_pieces_of_a_source(name, sparse, dtype, tmp_path):
    """Of whole batches, each with an order of its own, in memory or mapped: the bits of one source."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 3, (100, 30)).astype(dtype), rng.integers(0, 3, 100).astype(np.intp)
    order = np.concatenate([rng.permutation(40), 40 + rng.permutation(60)])
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")

    def rows(x):
        at, columns = np.nonzero(x)
        indptr = np.concatenate([[0], np.cumsum(np.bincount(at, minlength=len(x)))])
        return SparseRows(x[at, columns], np.ascontiguousarray(columns), indptr, 30)

    def model():
        with fastmlp.use_backend(name):
            return MLP([30, 9, 3], dtype=dtype, seed=0)

    one, ours = model(), Adam(0.01)
    whole = Samples(rows(X) if sparse else X, y, None, order, 20)
    totals = one.core.engine.begin(whole, ours).steps(0, 5, (0.0, 0.0), 2)
    two, theirs, parts = model(), Adam(0.01), (0.0, 0.0)
    for start, stop, x in ((0, 40, X), (40, 100, mapped)):
        piece = Listed(rows(x[start:stop]) if sparse else x[start:stop], y[start:stop], 20,
                       order[start:stop] - start)
        assert isinstance(piece, interface.Source) and isinstance(whole, interface.Source)
        parts = two.core.engine.begin(piece, theirs).steps(0, len(piece) // 20, parts, 1, False)
    two.core.engine.write_back()
    assert parts == totals
    assert len(set(map(bytes, (one.core.parameters.buffer, two.core.parameters.buffer)))) == 1
    assert theirs.state_of(two.core.parameters).step == 5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(0.01)], ids=["momentum", "adam"])
def test_state_of_another_dtype(name, optimizer, dtype):
    """A wider one changes no bit, a narrower one rounds the state; the weights are the model's in both."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 5)).astype(dtype), rng.integers(0, 3, 60).astype(np.intp)
    samples = Samples(X, y, batch_size=7)

    def trained(state_dtype):
        ours = copy.deepcopy(optimizer)
        with fastmlp.use_backend(name):
            model = MLP([5, 11, 3], dtype=dtype, seed=0, batch_norm=True)
        parameters = model.core.parameters
        state = ours.state_of(parameters)
        state.slots = {slot: array.astype(state_dtype) for slot, array in state.slots.items()}
        run, totals = model.core.engine.begin(samples, ours), (0.0, 0.0)
        for first, last in ((0, 4), (4, 9)):
            totals = run.steps(first, last, totals, 1, store=last == 9)
        run.write_back()
        assert state is ours.state_of(parameters) and state.step == 9 == model.core.engine.global_step
        assert {slot.dtype for slot in state.slots.values()} == {np.dtype(state_dtype)}
        return parameters, state, totals

    usual, kept, losses = trained(dtype)
    other, converted, others = trained("float32" if dtype == "float64" else "float64")
    for slot in kept.slots:
        for ours, theirs in zip(kept.slots[slot].weights, converted.slots[slot].weights):
            assert np.abs(ours).max() > 0
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-7)
    if dtype == "float32":
        assert usual.buffer.tobytes() == other.buffer.tobytes() and losses == others
    else:
        assert usual.dtype == other.dtype
        np.testing.assert_allclose(usual.buffer, other.buffer, rtol=1e-4, atol=1e-6)


# Between gradients and update ----------------------------------------------------------------------------

def trained(name, adjust, optimizer, threads=1, dtype="float32", layers=(70, 60, 3), **options):
    """A model after three steps, and the run's totals."""
    rng = np.random.default_rng(0)
    with fastmlp.use_backend(name):
        model = MLP(layers, activation="tanh", dtype=dtype, seed=0, **options)
    X, y = rng.standard_normal((90, layers[0])), rng.integers(0, layers[-1], 90).astype(np.intp)
    run = model.core.engine.begin(Samples(X, y, batch_size=30), optimizer, adjust)
    totals = run.steps(0, 3, (0.0, 0.0), threads)
    return model, totals, (X, y)


def halved(gradients):
    gradients.buffer *= 0.5


@pytest.mark.parametrize("name", NAMES)
def test_adjust_changes_what_is_used(name, dtype):
    """A power of two rounds nothing: half the gradients are half the rate."""
    for threads in (1, 2):
        one = trained(name, halved, SGD(0.5), threads, dtype, batch_norm=True)
        two = trained(name, None, SGD(0.25), threads, dtype, batch_norm=True)
        assert one[1] == two[1]
        for w, v in zip((*one[0].weights, *one[0].biases), (*two[0].weights, *two[0].biases)):
            assert w.tobytes() == v.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_adjust_sees_all_gradients_of_a_step(name, dtype):
    seen, calls = [], []

    def look(gradients):
        calls.append(1)
        if len(calls) == 1:
            seen.append(gradients.copy())

    model, _, (X, y) = trained(name, look, Adam(0.01), 2, dtype)
    assert len(calls) == 3
    twin, _, _ = trained(name, None, Adam(0.01), 1, dtype)
    for w, v in zip(model.weights, twin.weights):
        assert w.tobytes() == v.tobytes()           # looking changes nothing
    with fastmlp.use_backend(name):
        start = MLP(model.layers, activation="tanh", dtype=dtype, seed=0)
    expected = start.loss_and_gradients(X[:30], y[:30])[1]
    for kind in ("weights", "biases"):
        for g, e in zip(getattr(seen[0], kind), getattr(expected, kind)):
            np.testing.assert_array_equal(g, e)


@pytest.mark.parametrize("name", NAMES)
def test_the_limit_on_the_norm_comes_after(name, dtype):
    """Of gradients that are a thousand times as large, the limited ones are the same, but for rounding."""
    def larger(gradients):
        gradients.buffer *= 1024

    one = trained(name, larger, SGD(0.1, clip_norm=1e-3), 2, dtype)[0]
    two = trained(name, None, SGD(0.1, clip_norm=1e-3), 1, dtype)[0]
    for w, v in zip(one.weights, two.weights):
        np.testing.assert_allclose(w, v, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_sums_over_machines(name):
    """Two halves of a batch, whose gradients are averaged, are the batch."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 7)), rng.integers(0, 3, 40).astype(np.intp)
    with fastmlp.use_backend(name):
        whole, half, other = (MLP([7, 5, 3], dtype="float64", seed=0) for _ in range(3))

    def average(gradients):
        there = other.loss_and_gradients(X[20:], y[20:])[1]
        for kind in ("weights", "biases"):
            for g, h in zip(getattr(gradients, kind), getattr(there, kind)):
                g += h
                g /= 2

    one, two = Adam(0.01), Adam(0.01)
    everything, part = Samples(X, y, batch_size=40), Samples(X[:20], y[:20], batch_size=20)
    for _ in range(3):
        whole.core.engine.begin(everything, one).steps(0, 1, (0.0, 0.0), 1)
        half.core.engine.begin(part, two, average).steps(0, 1, (0.0, 0.0), 2)
        other.weights, other.biases = half.weights, half.biases
    for w, v in zip(whole.weights, half.weights):
        np.testing.assert_allclose(w, v, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_adjust_that_raises(name, error):
    """The steps before it were made; this one was not."""
    calls, optimizer = [], Adam(0.01)

    def fail(gradients):
        calls.append(1)
        if len(calls) == 3:
            raise error("stop")

    for threads in (1, 2):
        calls.clear()
        with fastmlp.use_backend(name):
            model = MLP([70, 60, 3], seed=0)
        X, y = np.random.default_rng(0).standard_normal((90, 70)), np.zeros(90, np.intp)
        run = model.core.engine.begin(Samples(X, y, batch_size=30), optimizer, fail)
        with pytest.raises(error, match="stop"):
            run.steps(0, 3, (0.0, 0.0), threads, False)
        assert model.core.engine.global_step == optimizer.state_of(model.core.parameters).step == 2
        with fastmlp.use_backend(name):
            twin, expected = MLP([70, 60, 3], seed=0), Adam(0.01)
        twin.core.engine.begin(Samples(X, y, batch_size=30), expected).steps(0, 2, (0.0, 0.0), threads)
        for w, v in zip(model.weights, twin.weights):
            assert w.tobytes() == v.tobytes()


@pytest.mark.parametrize("name", NAMES)
def test_array_functions(name):
    backend = module(name)
    assert isinstance(backend.COMPILED, bool)
    for function in functional.__all__:
        expected = list(inspect.signature(getattr(functional, function)).parameters)
        found = list(inspect.signature(getattr(backend, function)).parameters)
        assert found == expected, function
    expected = [n for n, _ in arguments(interface.Backend.loss_and_gradient)[0]]
    assert list(inspect.signature(backend.loss_and_gradient).parameters) == expected
