"""Sparse samples: the numbers of the same samples, dense, without ever being made dense."""
from __future__ import annotations

import copy
import gc
import threading
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
from fastmlp import LBFGS, MLP, SGD, AdaGrad, Adam, AdamW, RMSprop, gradient_check, kernels
from fastmlp._core import sources
from fastmlp._core.network import Samples
from fastmlp.backends import cython
from fastmlp.kernels import ops

ISAS = kernels.available_isas()
OPTIMIZERS = [
    lambda: SGD(0.1),
    lambda: SGD(0.1, momentum=0.9),
    lambda: SGD(0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    lambda: SGD(0.1, weight_decay=0.01),
    lambda: SGD(0.1, l1=0.01, clip_value=0.01),
    lambda: SGD(0.1, clip_norm=0.05),
    lambda: SGD(0.1, clip_value=0.001),
    lambda: AdaGrad(0.1),
    lambda: RMSprop(0.01),
    lambda: Adam(0.01),
    lambda: Adam(0.01, clip_norm=0.05),
    lambda: AdamW(0.01, weight_decay=0.1),
]
# layers, rows, batch, share of nonzeros, options of the model
CASES = [
    ([50, 7, 3], 101, 16, 0.1, {}),
    ([300, 100, 20, 5], 101, 33, 0.05, {"activation": "tanh"}),
    ([40, 130], 60, 10, 0.2, {}),
    ([30, 5], 50, 7, 0.2, {}),
    ([1, 3, 1], 40, 8, 0.5, {"loss": "mean_squared_error"}),
    ([64, 400, 2], 45, 20, 0.1, {"activation": ["gelu"], "dropout": 0.3}),
    ([64, 33, 9, 2], 80, 20, 0.1, {"activation": ["sigmoid", "elu"], "batch_norm": True}),
    ([20, 4200, 2], 9, 4, 0.3, {}),
]


def data(layers, rows, share, dtype="float64", seed=0, loss=None, format="csr"):
    rng = np.random.default_rng(seed)
    X = sp.random(rows, layers[0], share, format="csr", random_state=rng, dtype=np.float64)
    X = X.asformat(format).astype(dtype)
    if loss == "mean_squared_error":
        return X, rng.standard_normal((rows, layers[-1]))
    return X, rng.integers(0, layers[-1], rows)


def fit(model, X, y, **options):
    return model.fit(X, y, **{"progress": False, **options})


def everything(model, X):
    """The bits of a model, and of what it makes of the samples."""
    arrays = [*model.weights, *model.biases, *(s for s in (*model.scales, *model.running_means,
              *model.running_variances) if s is not None), model.forward(X)]
    assert all(np.isfinite(a).all() for a in arrays)
    return b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)


def trained(case, optimizer, dtype, dense, **more):
    layers, rows, batch, share, options = case
    X, y = data(layers, rows, share, loss=options.get("loss"))
    X = X.toarray() if dense else X
    model = MLP(layers, dtype=dtype, seed=0, **options)
    history = fit(model, X, y, epochs=2, batch_size=batch, optimizer=optimizer(), **more)
    return model, X, history


@pytest.fixture(autouse=True)
def same_threads_afterwards():
    before = fastmlp.get_num_threads()
    yield
    fastmlp.set_num_threads(before)


# Numbers ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_bits_as_dense(case, isa, dtype, monkeypatch):
    monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, kernels.load(isa, dtype.name))
    for optimizer in OPTIMIZERS:
        model, X, history = trained(case, optimizer, dtype, dense=False)
        twin, D, expected = trained(case, optimizer, dtype, dense=True)
        assert type(model.core.engine._engine) is kernels.load(isa, dtype.name).Engine
        assert everything(model, X) == everything(twin, D), optimizer()
        assert history.loss == expected.loss


@pytest.mark.parametrize("case", [*CASES[:5], CASES[6]], ids=str)
def test_backends_agree(case, dtype):
    """The specification, on dense and on sparse samples, and the kernels."""
    for optimizer in (OPTIMIZERS[1], OPTIMIZERS[5], OPTIMIZERS[9]):
        model, X, history = trained(case, optimizer, dtype, dense=False)
        with fastmlp.use_backend("numpy"):
            for dense in (False, True):
                twin, D, expected = trained(case, optimizer, dtype, dense)
                close = {"rtol": 1e-3, "atol": 1e-4} if dtype == "float32" else {"rtol": 1e-9, "atol": 1e-10}
                for w, v in zip(model.weights, twin.weights):
                    assert_allclose(w, v, **close)
                assert_allclose(model.forward(X), twin.forward(D), **close)
                assert_allclose(history.loss, expected.loss, **close)


def test_threads(dtype):
    """So much work that several take part."""
    layers = [3000, 70, 10]
    X, y = data(layers, 1100, 0.04)
    seen, forward = set(), set()
    for threads in (1, 2, 3, 4):
        fastmlp.set_num_threads(threads)
        for optimizer in (SGD(0.1), Adam(0.01), SGD(0.1, clip_norm=0.1)):
            model = MLP(layers, dtype=dtype, seed=0, batch_norm=True)
            fit(model, X, y, epochs=2, batch_size=500, optimizer=optimizer)
            seen.add((type(optimizer), optimizer.clip_norm, everything(model, X)))
        loss, gradients = model.loss_and_gradients(X, y)
        forward.add((loss, gradients.weights[0].tobytes(), model.evaluate(X, y)["loss"]))
    assert len(seen) == 3 and len(forward) == 1


@pytest.mark.parametrize("isa", ISAS)
def test_row_alone_or_in_a_batch(isa, dtype, monkeypatch):
    monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, kernels.load(isa, dtype.name))
    for layers in ([40, 33, 3], [900, 150, 5], [60, 4]):
        X, _ = data(layers, 700, 0.5)           # more nonzeros in a row than are copied at a time
        model = MLP(layers, activation="tanh", dtype=dtype, seed=0)
        for b in model.biases:
            b[...] = np.linspace(-1, 1, b.size)
        for call in (model.forward, model.predict_proba):
            whole = call(X)
            assert_array_equal(whole, call(X.toarray()))
            for i in (0, 1, 255, 256, 699):
                assert_array_equal(call(X[i]), whole[i:i + 1])
            assert_array_equal(call(X[::-1])[::-1], whole)


@pytest.mark.skipif(len([isa for isa in ISAS if isa != "portable"]) < 2, reason="needs two sets with FMA")
def test_every_fma_isa(dtype, monkeypatch):
    seen = set()
    for isa in ISAS:
        if isa != "portable":
            monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, kernels.load(isa, dtype.name))
            seen.add(b"".join(everything(*trained(case, OPTIMIZERS[9], dtype, dense=False)[:2])
                              for case in CASES))
    assert len(seen) == 1


def test_sums_of_many_rows(dtype):
    """Chunks of the batch, of which some have no nonzeros of a column."""
    X, y = data([6, 40, 3], 9001, 0.3)
    X = X.tolil()
    X[:4096, 0] = 0
    X[4096:, 1] = 0
    X[4096:8192, 2] = 0
    X[:, 3] = 0
    X = X.tocsr()
    model = MLP([6, 40, 3], dtype=dtype, seed=0)
    loss, gradients = model.loss_and_gradients(X, y)
    expected, others = model.loss_and_gradients(X.toarray(), y)
    assert loss == expected
    for g, h in zip((*gradients.weights, *gradients.biases), (*others.weights, *others.biases)):
        assert_array_equal(g, h)


@pytest.mark.parametrize("options", [{}, {"batch_norm": True}, {"dropout": 0.2, "activation": "silu"}],
                         ids=str)
def test_finite_differences(options, backend):
    X, y = data([12, 9, 3], 15, 0.3)
    model = MLP([12, 9, 3], **{"activation": "tanh", **options}, dtype="float64", seed=0)
    check = gradient_check(model, X, y)
    assert check.passed and check.layers[0].checked >= 12 * 9


@pytest.mark.parametrize("rule", [rule for rule in ops.RULES if rule.ignores_zeros], ids=str)
def test_rules_that_ignore_zeros(rule, dtype):
    """What ops.py says of them: the kernels pass over inputs that do not occur."""
    from fastmlp.optimizers import Settings

    code, zero = ops.codes(ops.RULES)[rule.name], np.zeros(5, dtype)
    param = np.array([1.5, -2, 0, -0.0, 1e-3], dtype)
    before = param.tobytes()
    assert rule.slots == 0
    update = kernels.module(dtype.name).update_arrays
    assert update(param, zero, None, None, (0.1, 1.0, 0.0), Settings(code), False)
    assert param.tobytes() == before


# Kinds of input -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("format", ["csr", "csc", "coo", "lil", "dok", "bsr", "dia"])
@pytest.mark.parametrize("kind", ["matrix", "array"])
def test_formats(kind, format, backend):
    X, y = data([20, 5, 3], 30, 0.2)
    S = getattr(sp, f"csr_{kind}")(X).asformat(format)
    model, twin = MLP([20, 5, 3], seed=0), MLP([20, 5, 3], seed=0)
    for m, x in ((model, S), (twin, X)):
        fit(m, x, y, epochs=2, batch_size=8, validation_data=(x, y), metrics=["accuracy"])
        m.train_step(x, y, SGD(0.1))
    assert everything(model, S) == everything(twin, X)
    assert model.evaluate(S, y) == twin.evaluate(X, y)
    assert_array_equal(model.predict(S), twin.predict(X))
    assert_array_equal(model.predict_proba(S), twin.predict_proba(X))


@pytest.mark.parametrize("name", ["bool", "int8", "uint8", "int16", "uint32", "int64", "uint64", "float16",
                                  "float32", "float64", "longdouble", ">f4", ">i8"])
def test_dtypes(name, dtype, backend):
    rng = np.random.default_rng(0)
    D = (rng.integers(0, 2, (30, 20)) * rng.integers(0, 100, (30, 20))).astype(name)
    X = sp.csr_matrix(D.astype(float))
    X.data = X.data.astype(name)                # also those that SciPy does not make
    y = rng.integers(0, 3, 30)
    model, twin = MLP([20, 5, 3], dtype=dtype, seed=0), MLP([20, 5, 3], dtype=dtype, seed=0)
    for m, x in ((model, X), (twin, D)):
        fit(m, x, y, epochs=1, batch_size=8, optimizer=SGD(1e-4), sample_weight=np.arange(30) % 3)
    if backend == "numpy":
        assert_allclose(model.weights[0], twin.weights[0], rtol=1e-5)
        assert_allclose(model.forward(X), twin.forward(D), rtol=1e-3, atol=1e-4)
    else:
        assert everything(model, X) == everything(twin, D)


@pytest.mark.parametrize("indices", ["int32", "int64", "int16", "uint64", ">i4"])
def test_kinds_of_indices(indices, backend):
    X, y = data([20, 5, 3], 30, 0.2)
    S = X.copy()
    S.indices, S.indptr = X.indices.astype(indices), X.indptr.astype(indices)
    model, twin = MLP([20, 5, 3], seed=0), MLP([20, 5, 3], seed=0)
    fit(model, S, y, epochs=1)
    fit(twin, X, y, epochs=1)
    assert everything(model, S) == everything(twin, X)


def test_no_copy_of_what_fits():
    for indices in (np.int32, np.int64):
        X, _ = data([20, 5, 3], 30, 0.2, "float32")
        X.indices, X.indptr = X.indices.astype(indices), X.indptr.astype(indices)
        rows = sources.rows("X", X, 20)
        assert rows.data is X.data and rows.indices is X.indices and rows.indptr is X.indptr
        part = rows[3:9]
        assert np.shares_memory(part.indptr, X.indptr) and part.data is X.data


def test_read_only_and_left_alone(backend):
    X, y = data([20, 5, 3], 30, 0.2)
    for array in (X.data, X.indices, X.indptr):
        array.flags.writeable = False
    before = X.data.tobytes(), X.indices.tobytes(), X.indptr.tobytes()
    fit(MLP([20, 5, 3], seed=0), X, y, epochs=1)
    assert before == (X.data.tobytes(), X.indices.tobytes(), X.indptr.tobytes())


@pytest.mark.parametrize("name", ["float32", "float64", "int8", "bool"])
def test_duplicates_and_disorder(name, backend):
    """As SciPy defines it: in any order, and what occurs twice adds."""
    rng = np.random.default_rng(0)
    row, column = rng.integers(0, 30, 400), rng.integers(0, 20, 400)
    value = rng.integers(-3, 4, 400).astype(name)
    order = np.argsort(row, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=30))])
    X = sp.csr_matrix((value[order], column[order], indptr), (30, 20))
    assert not X.has_canonical_format
    before = X.data.tobytes(), X.indices.tobytes()
    model = MLP([20, 5, 3], dtype="float64", seed=0)
    D = X.toarray()
    assert_allclose(model.forward(X), model.forward(D), rtol=1e-12)
    rows = sources.rows("X", X, 20)
    assert_array_equal(sp.csr_matrix((rows.data, rows.indices, rows.indptr), rows.shape).toarray(), D)
    assert rows.dtype == D.dtype
    assert before == (X.data.tobytes(), X.indices.tobytes())


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("optimizer", [
    SGD(0.1, weight_decay=0.3, l1=0.2, divide_penalty=True),
    Adam(0.1, weight_decay=0.3, eps_hat=True, divide_penalty=True),
], ids=str)
def test_recorded_steps_and_divided_penalties(optimizer, isa, dtype, monkeypatch):
    monkeypatch.setitem(cython._kernels.KERNELS, dtype.char, kernels.load(isa, dtype.name))
    X, y = data([40, 21, 3], 50, 0.1, dtype)
    found = []
    for x in (X, X.toarray()):
        model, rule = MLP([40, 21, 3], dtype=dtype, seed=0), copy.deepcopy(optimizer)
        history = model.fit(x, y, epochs=2, batch_size=16, optimizer=rule, log_steps=True, progress=False)
        found.append([*model.weights, *history.step_loss, *history.step_penalty])
    for a, b in zip(*found):
        assert_array_equal(a, b)


def test_an_order_that_repeats_the_longest_row(backend):
    """A batch of it alone has more nonzeros than any batch of different rows."""
    X = sp.csr_array(np.vstack([np.ones((1, 30)), np.zeros((7, 30))]))
    y = np.arange(8) % 2
    models = [MLP([30, 4, 2], dtype="float64", seed=0) for _ in range(2)]
    for model, x in zip(models, (X, X.toarray())):
        model.fit(x, y, epochs=2, batch_size=4, shuffle=lambda epoch: [0] * 8, progress=False)
    assert_allclose(models[0].weights[0], models[1].weights[0], rtol=1e-12)


def test_rows_of_a_source():
    """Slices and places, as of an array."""
    X, _ = data([20, 5, 3], 30, 0.2)
    rows, D = sources.rows("X", X, 20), X.toarray()
    for places in (slice(3, 9), slice(None), slice(9, 3), slice(0, 30, 7), np.array([4, 4, 29, 0]),
                   np.array([], int), slice(28, 99)):
        part = rows[places]
        assert part.shape == D[places].shape and len(part) == len(D[places])
        for some in (part, part.astype("f4")):
            dense = sp.csr_matrix((some.data, some.indices, some.indptr - some.indptr[0]), some.shape) if (
                some.indptr[0] == 0) else sp.csr_matrix(
                    (some.data[some.indptr[0]:], some.indices[some.indptr[0]:], some.indptr - some.indptr[0]),
                    some.shape)
            assert_array_equal(dense.toarray().astype("f4"), D[places].astype("f4"))
    lengths = np.sort(np.diff(X.indptr))
    assert [rows.nonzeros(n) for n in (1, 5, 30, 99)] == [lengths[-n:].sum() for n in (1, 5, 30, 30)]


@pytest.mark.parametrize("which", ["empty rows", "no nonzeros", "one row", "one column", "explicit zeros"])
def test_ragged(which, backend, dtype):
    X, y = data([20, 5, 3], 30, 0.1)
    if which == "empty rows":
        X = X.multiply(np.arange(30)[:, None] % 3 == 1).tocsr()
        X.eliminate_zeros()
        assert not X[0].nnz and not X[29].nnz
    elif which == "no nonzeros":
        X = sp.csr_matrix((30, 20))
    elif which == "one row":
        X, y = X[:1], y[:1]
    elif which == "one column":
        X = X.multiply(np.arange(20) == 19).tocsr()
    else:
        X.data[::2] = 0
    model, twin = MLP([20, 5, 3], dtype=dtype, seed=0), MLP([20, 5, 3], dtype=dtype, seed=0)
    for m, x in ((model, X), (twin, X.toarray())):
        fit(m, x, y, epochs=2, batch_size=8, optimizer=SGD(0.1, momentum=0.5))
    for w, v in zip(model.weights, twin.weights):
        assert_allclose(w, v, rtol=1e-4, atol=1e-7) if backend == "numpy" else assert_array_equal(w, v)


def test_no_rows(backend):
    model = MLP([20, 5, 3], seed=0)
    assert model.forward(sp.csr_matrix((0, 20))).shape == (0, 3)
    with pytest.raises(ValueError, match=r"^X: expected at least one row"):
        fit(model, sp.csr_matrix((0, 20)), [])


def test_weight_0_leaves_out(backend):
    """Whatever the row holds; and the nonzeros of the others move up."""
    X, y = data([20, 5, 3], 30, 0.3)
    weights = (np.arange(30) % 4 != 1).astype(float)
    X.data[np.repeat(weights == 0, np.diff(X.indptr))] = np.nan
    D = X.toarray()
    for threads in (1, 3):
        fastmlp.set_num_threads(threads)
        model, twin = MLP([20, 5, 3], seed=0), MLP([20, 5, 3], seed=0)
        for m, x in ((model, X), (twin, D)):
            fit(m, x, y, epochs=2, batch_size=8, optimizer=Adam(0.01), sample_weight=weights)
        assert np.isfinite(model.weights[0]).all()
        assert_allclose(model.weights[0], twin.weights[0], rtol=1e-4, atol=1e-6)


def test_nan_and_infinity_follow_the_formulas(backend):
    X, _ = data([20, 5, 3], 30, 0.2)
    X.data[[0, -1]] = np.nan, np.inf
    model = MLP([20, 5, 3], activation="tanh", seed=0)
    with pytest.warns(RuntimeWarning, match="NaN"):
        model.predict(X)
    # Only where the row holds it: 0 inf is NaN, and there is no 0 here.
    assert np.isnan(model.forward(X)).any(axis=1).sum() == 1


def test_out(backend):
    X, _ = data([20, 5, 3], 30, 0.2, "float32")
    X.indices, X.indptr = X.indices.astype("i4"), X.indptr.astype("i4")
    model = MLP([20, 5, 3], seed=0)
    out = np.full((30, 6), np.nan, "f4")[:, ::2]
    assert model.forward(X, out=out) is out
    assert_array_equal(out, model.forward(X))
    for part in ("data", "indices", "indptr"):
        S = X.copy()
        memory = np.zeros(1000, "f4")
        inside = memory[:getattr(S, part).size].view(getattr(S, part).dtype)
        inside[...] = getattr(S, part)
        setattr(S, part, inside)
        with pytest.raises(ValueError, match=rf"^out: must not share memory with X\.{part}"):
            model.forward(S, out=memory[:90].reshape(30, 3))


def test_dense_and_sparse_in_turns(dtype):
    """One optimizer, whose state goes on; the layout in the workspace changes."""
    X, y = data([60, 40, 3], 64, 0.2)
    D, steps = X.toarray(), [False, False, True, False, True, True]
    model, twin = MLP([60, 40, 3], dtype=dtype, seed=0), MLP([60, 40, 3], dtype=dtype, seed=0)
    one, two = Adam(0.01), Adam(0.01)
    for dense in steps:
        model.train_step(D if dense else X, y, one)
        twin.train_step(D, y, two)
    assert everything(model, X) == everything(twin, D)


def test_batches_with_more_nonzeros(dtype):
    """The room for them grows, and the state stays."""
    model, twin = MLP([60, 40, 3], dtype=dtype, seed=0), MLP([60, 40, 3], dtype=dtype, seed=0)
    one, two = Adam(0.01), Adam(0.01)
    for share in (0.05, 0.3, 0.01, 0.9):
        X, y = data([60, 40, 3], 32, share)
        assert model.train_step(X, y, one) == twin.train_step(X.toarray(), y, two)
    assert everything(model, X) == everything(twin, X.toarray())


def test_a_loss_of_ones_own():
    X, y = data([20, 5, 3], 30, 0.2)

    def loss(z, t):
        return float((z ** 2).mean()), 2 * z / z.size

    results = []
    for x in (X, X.toarray()):
        model = MLP([20, 5, 3], loss=loss, seed=0)
        fit(model, x, y, epochs=2, batch_size=7)
        results.append(everything(model, x))
    assert results[0] == results[1]


def test_lbfgs():
    X, y = data([20, 5, 3], 60, 0.3)
    losses = []
    for x in (X, X.toarray()):
        model = MLP([20, 5, 3], activation="tanh", dtype="float64", seed=0)
        losses.append(fit(model, x, y, optimizer=LBFGS(max_iter=30)).loss)
    assert losses[0] == losses[1]


# Errors -------------------------------------------------------------------------------------------------

def spoiled(part, place, value):
    def spoil(X):
        array = getattr(X, part).copy()
        array[place] = value
        setattr(X, part, array)
        return X
    return spoil


def shortened(part, n):
    def spoil(X):
        setattr(X, part, getattr(X, part)[:-n])
        return X
    return spoil


def replaced(part, value):
    def spoil(X):
        setattr(X, part, value(X))
        return X
    return spoil


@pytest.mark.parametrize("spoil, error, message", [
    (spoiled("indices", 3, 20), ValueError, "indices from 0 to 19, got 20"),
    (spoiled("indices", -1, -1), ValueError, "indices from 0 to 19, got -1"),
    (spoiled("indptr", 0, -1), ValueError, "indptr"),
    (spoiled("indptr", 0, 1), ValueError, "indptr"),
    (spoiled("indptr", 5, 10**6), ValueError, "never to fall"),
    (spoiled("indptr", -1, 10**6), ValueError, "indptr to go from 0"),
    (spoiled("indptr", 7, -5), ValueError, "never to fall"),
    (shortened("indices", 1), ValueError, "indptr to go from 0"),
    (shortened("data", 1), ValueError, "indptr to go from 0"),
    (shortened("indptr", 1), ValueError, "31 entries, got 30"),
    (replaced("indices", lambda X: X.indices.astype(float)), TypeError, "integers, got dtype float64"),
    (replaced("data", lambda X: X.data + 1j), TypeError, "dtype complex"),
    (replaced("data", lambda X: X.data.astype(object)), TypeError, "dtype object"),
    (replaced("data", lambda X: X.data[:, None]), ValueError, "vector"),
    (replaced("indices", lambda X: None), ValueError, "indices to be a vector"),
    (lambda X: X[:, :19], ValueError, r"shape \(rows, 20\), got \(30, 19\)"),
    (lambda X: sp.hstack([X, X]).tocsc(), ValueError, r"shape \(rows, 20\), got \(30, 40\)"),
])
def test_bad_input(spoil, error, message, backend):
    X, y = data([20, 5, 3], 30, 0.2)
    model = MLP([20, 5, 3], seed=0)
    before = model.weights[0].tobytes()
    X = spoil(X)

    class Sparse:               # as SciPy's, which may look at what it hands out
        shape, nnz = X.shape, 1

        def tocsr(self):
            return X if X.format == "csr" else X.tocsr()

    for call in (lambda X: fit(model, X, y), model.forward, model.predict, model.predict_proba,
                 lambda X: model.evaluate(X, y), lambda X: model.train_step(X, y, SGD()),
                 lambda X: model.loss_and_gradients(X, y), lambda X: model.workspace_nbytes(4, X=X)):
        with pytest.raises(error, match=rf"^X: .*{message}"):
            call(Sparse())
    with pytest.raises(error, match=rf"^validation_data X: .*{message}"):
        fit(model, np.zeros((4, 20)), [0] * 4, validation_data=(Sparse(), y))
    assert model.weights[0].tobytes() == before


def test_what_only_looks_sparse(backend):
    class Sparse:
        shape, nnz = (30, 20), 1

        def tocsr(self):
            return self

    with pytest.raises(TypeError, match="^X: expected a sparse matrix whose tocsr"):
        MLP([20, 5, 3]).forward(Sparse())
    one = sp.coo_array(np.arange(20)) if hasattr(sp, "coo_array") else None
    if one is not None and one.ndim == 1:
        with pytest.raises(ValueError, match=r"^X: expected shape \(rows, 20\)"):
            MLP([20, 5, 3]).forward(one)


@pytest.mark.parametrize("part, value", [
    ("indices", -1), ("indices", 20), ("indices", 2**31 - 1), ("indptr", -1), ("indptr", 2**31 - 1),
    ("indptr", 0)])
def test_changed_while_trained_on(part, value, dtype):
    """What was right when the call began is looked at again where it is used: an error, no crash."""
    X, y = data([20, 5, 3], 30, 0.3)

    def spoil(model, epoch, logs):
        getattr(X, part)[3:-3] = value

    model = MLP([20, 5, 3], dtype=dtype, seed=0)
    for threads in (1, 2):
        fastmlp.set_num_threads(threads)
        kept = X.copy()
        with pytest.raises(ValueError, match=r"^X: .*changed while"):
            fit(model, X, y, batch_size=30, callbacks=[spoil])
        assert all(np.isfinite(w).all() for w in model.weights)
        X = kept
    rows = sources.rows("X", X, 20)
    getattr(X, part)[3:-3] = value
    assert rows.indices is X.indices and rows.indptr is X.indptr
    out = np.empty((30, 3), dtype)
    model.core.engine.forward(rows, out, 1)             # any numbers, of memory that is the model's


def test_changed_by_another_thread(dtype):
    """Indices, and where rows begin, at any moment."""
    X, y = data([200, 20, 3], 400, 0.1)
    right, right_ptr = X.indices.copy(), X.indptr.copy()
    rng, stop = np.random.default_rng(0), threading.Event()

    def change():
        while not stop.is_set():
            X.indices[...] = rng.integers(-5, 300, len(right))
            X.indptr[1:-1] = rng.integers(-5, len(right) + 5, len(X.indptr) - 2)
            X.indices[...], X.indptr[...] = right, right_ptr

    thread = threading.Thread(target=change)
    model, raised = MLP([200, 20, 3], dtype=dtype, seed=0), 0
    rows = sources.rows("X", X.copy(), 200)
    rows.indices, rows.indptr = X.indices, X.indptr
    samples = Samples(rows, y.astype(np.intp), None, None, 50)
    assert samples.nonzeros > 0                         # of rows that are right; it is kept
    thread.start()
    try:
        for i in range(300):
            fastmlp.set_num_threads(1 + i % 2)
            try:
                model.core.engine.begin(samples, SGD(0.01)).steps(0, 8, (0.0, 0.0), 1 + i % 3)
            except ValueError as error:
                assert str(error).startswith("X: ")
                raised += 1
            model.core.engine.forward(rows, np.empty((400, 3), dtype), 2)
    finally:
        stop.set()
        thread.join()
    assert raised


# Memory -------------------------------------------------------------------------------------------------

def test_never_dense(backend):
    """A batch of these, dense, would be 400 MB."""
    X = sp.csr_matrix((np.ones(10_000, "f4"), np.arange(10_000) * 37 % 100_000, np.arange(0, 10_001, 10)),
                      (1000, 100_000))
    y = np.arange(1000) % 2
    model, optimizer = MLP([100_000, 2, 2], seed=0), SGD(0.1)
    fit(model, X[:8], y[:8], batch_size=8, epochs=1, optimizer=optimizer)
    stated = model.workspace_nbytes(1000, optimizer, X)
    assert stated < 40e6 < 400e6 < model.workspace_nbytes(1000, optimizer)
    gc.collect()
    tracemalloc.start()
    try:
        fit(model, X, y, batch_size=1000, epochs=2, optimizer=optimizer)
        model.predict(X)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


def test_the_workspace_depends_on_the_nonzeros():
    X, _ = data([200, 20, 3], 400, 0.1)
    model = MLP([200, 20, 3], seed=0)
    few, many = (model.workspace_nbytes(50, X=x) for x in (X, sp.csr_matrix(np.ones((400, 200)))))
    entry = 3 * np.dtype(np.intp).itemsize + 4
    more = 50 * 200 - np.sort(np.diff(X.indptr))[-50:].sum()
    assert abs(many - few - more * entry) < 4 * 64
    assert model.workspace_nbytes(50, X=X.toarray()) == model.workspace_nbytes(50)


def test_nothing_is_allocated_in_the_steady_state(dtype):
    X, y = data([200, 20, 3], 400, 0.1)
    rng = np.random.default_rng(0)
    model, optimizer = MLP([200, 20, 3], dtype=dtype, seed=0), SGD(0.01, momentum=0.9)
    samples = Samples(sources.rows("X", X, 200), y.astype(np.intp), None, rng.permutation(400), 4)
    peaks = []
    for steps in (2, 2, 100, 2, 100):
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            model.core.engine.begin(samples, optimizer).steps(0, steps, (0.0, 0.0), 1)
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
        finally:
            tracemalloc.stop()
    assert min(peaks[2], peaks[4]) <= min(peaks[1], peaks[3]) + 512


def test_an_optimizer_that_knows_no_zeros_moves_all_weights():
    """Momentum goes on, and decay acts, where an input does not occur; SGD alone leaves it."""
    X, y = sp.csr_matrix(([1.0], ([0], [2])), (1, 5)), [1]
    for optimizer, moves in ((SGD(0.1), False), (SGD(0.1, weight_decay=0.1), True),
                             (SGD(0.1, momentum=0.9), False), (AdamW(0.1, weight_decay=0.1), True)):
        model = MLP([5, 4, 2], activation="tanh", seed=0)
        before = model.weights[0].copy()
        model.train_step(X, y, optimizer)
        rest = [0, 1, 3, 4]
        assert (model.weights[0][2] != before[2]).all()
        assert (model.weights[0][rest] != before[rest]).all() == moves
