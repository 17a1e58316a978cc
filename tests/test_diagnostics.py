"""Diagnostics: every number against plain formulas, sentences, and that training does not notice."""
from __future__ import annotations

import copy
import hashlib
import math
import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from test_hidden import FORMULAS

import fastmlp
from fastmlp import LBFGS, MLP, SGD, AdaGrad, Adam, AdamW, Diagnostics, EarlyStopping, LeakyReLU, RMSprop
from fastmlp._core import progress

NAMES = ["dead", "saturation", "mean", "std", "gradient_norm", "weight_norm", "update_ratio"]
ENDS = {"sigmoid": (0.01, 0.99), "tanh": (-0.98, 0.98)}


def norm(w):
    return math.sqrt(np.square(w, dtype=np.float64).sum())


def outputs_in_training(model, x):
    """Outputs of the hidden layers in float64, normalised over the batch."""
    y, found = np.asarray(x, np.float64), []
    for i, f in enumerate(model.activations[:-1]):
        z = y @ model.weights[i].astype(np.float64)
        if model.batch_norm[i] is not None:
            z = (z - z.mean(0)) / np.sqrt(z.var(0) + model.batch_norm[i].epsilon) * model.scales[i]
        y = FORMULAS[f.name](z + model.biases[i])
        found.append(y)
    return found


def report_steps(steps, every):
    """Steps with a report, counted from 1: as even as whole numbers can be."""
    count = max(1, steps // every)
    return [next(s for s in range(1, steps + 1) if s * count >= k * steps) for k in range(1, count + 1)]


def watched(model, X, y, optimizer, batch_size, epochs, every):
    """The numbers of every report, from a training step by step; and the model's dead units of each epoch."""
    model, optimizer = copy.deepcopy((model, optimizer))
    reports, dead_of_epochs = [], []
    names = [f.name for f in model.activations[:-1]]
    starts = range(0, len(X), batch_size)
    for _ in range(epochs):
        alive = [np.zeros(n, bool) for n in model.layers[1:-1]]
        in_epoch = [np.zeros(n, bool) for n in model.layers[1:-1]]
        for step, start in enumerate(starts, 1):
            x, t = X[start:start + batch_size], y[start:start + batch_size]
            outputs = outputs_in_training(model, x)
            for flags, whole, values in zip(alive, in_epoch, outputs):
                flags |= (values != 0).any(axis=0)
                whole |= flags
            gradients = model.loss_and_gradients(x, t)[1]
            before = [w.copy() for w in model.weights]
            model.train_step(x, t, optimizer)
            if step in report_steps(len(starts), every):
                row = {name: np.full(len(before), np.nan) for name in NAMES}
                for i, values in enumerate(outputs):
                    if names[i] == "relu":
                        row["dead"][i] = np.mean(~alive[i])
                    if names[i] in ENDS:
                        low, high = ENDS[names[i]]
                        row["saturation"][i] = np.mean((values < low) | (values > high))
                    row["mean"][i], row["std"][i] = values.mean(), values.std()
                    alive[i][...] = False
                for i, (w, old) in enumerate(zip(model.weights, before)):
                    row["gradient_norm"][i] = norm(gradients.weights[i])
                    row["weight_norm"][i] = norm(old)
                    row["update_ratio"][i] = norm(w.astype(np.float64) - old) / norm(old)
                reports.append(row)
        dead_of_epochs.append([np.flatnonzero(~flags) for flags in in_epoch])
    return {name: np.array([row[name] for row in reports]) for name in NAMES}, dead_of_epochs


def problem(rng, n=190, inputs=20, classes=3):
    return rng.standard_normal((n, inputs)), rng.integers(0, classes, n)


def fit(model, X, y, diagnostics, optimizer, **options):
    options = {"epochs": 2, "batch_size": 20, "shuffle": False, "progress": False, **options}
    return model.fit(X, y, callbacks=[diagnostics], optimizer=optimizer, **options)


# The numbers ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [
    {}, {"activation": ["tanh", "sigmoid"]}, {"activation": ["elu", "gelu"]},
    {"activation": ["relu", "tanh"], "batch_norm": [True, False]},
], ids=["relu", "saturating", "neither", "batch norm"])
@pytest.mark.parametrize("optimizer", [
    SGD(0.05), SGD(0.05, momentum=0.9, clip_norm=0.01), Adam(0.01, weight_decay=1e-3),
], ids=["sgd", "clipped", "adam"])
@pytest.mark.parametrize("every", [1, 3, 100])
def test_numbers(backend, dtype, options, optimizer, every, rng):
    """Of networks wider and narrower than a register, over 10 steps an epoch, the last one half a batch."""
    X, y = problem(rng)
    model = MLP([20, 67, 9, 3], dtype=dtype, seed=0, **options)
    for units in (0, 31, 32, 66):
        model.biases[0][units] = -50            # dead, or saturated
    expected, dead = watched(model, X, y, optimizer, 20, 2, every)
    diagnostics = Diagnostics(every, warn=False)
    history = fit(model, X, y, diagnostics, copy.deepcopy(optimizer))
    steps = report_steps(10, every)
    assert diagnostics.steps.tolist() == [*steps, *(10 + step for step in steps)]
    assert list(diagnostics.values) == NAMES
    tolerance = 1e-3 if dtype == np.float32 else 1e-6
    for name, values in diagnostics.values.items():
        exact = name in ("dead", "saturation")
        assert_allclose(values, expected[name], rtol=0 if exact else tolerance,
                        atol=0 if exact else tolerance, err_msg=name)
    for layer, units in enumerate(diagnostics.dead_units):
        if model.activations[layer].name == "relu":
            assert_array_equal(units, dead[-1][layer])
            assert history[f"layer{layer + 1}_dead"] == [
                len(epoch[layer]) / model.layers[layer + 1] for epoch in dead]
        else:
            assert len(units) == 0 and f"layer{layer + 1}_dead" not in history
    for layer in range(3):
        for name in NAMES[1:]:
            found = diagnostics.values[name][:, layer].reshape(2, -1)
            recorded = history.get(f"layer{layer + 1}_{name}")
            if np.isnan(found).any():
                assert recorded is None
            else:
                assert_allclose(recorded, found.mean(axis=1), rtol=1e-12)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_numbers_do_not_depend_on_threads(backend, threads, rng):
    X, y = problem(rng, 600, 100)
    found = []
    for count in (1, threads):
        with fastmlp.limit_num_threads(count):
            model = MLP([100, 200, 130, 3], activation=["relu", "tanh"], dropout=[0.3, 0],
                        batch_norm=[False, True], seed=0)
            diagnostics = Diagnostics(2, warn=False)
            fit(model, X, y, diagnostics, Adam(0.01), batch_size=200)
            found.append(diagnostics)
    for name in NAMES:
        if backend != "numpy":
            assert_array_equal(found[0].values[name], found[1].values[name])
        else:
            assert_allclose(found[0].values[name], found[1].values[name], rtol=1e-3)


@pytest.mark.parametrize("share", [0.5, 0.9])
def test_dropout(backend, dtype, share, rng):
    """What is dropped is neither saturated nor alive; what is left is scaled."""
    X = np.ones((400, 4))
    model = MLP([4, 50, 50, 50, 2], activation=["sigmoid", "tanh", "relu"], dropout=share, dtype=dtype,
                seed=0)
    for w in model.weights:
        w[...] = 0
    model.biases[0][...] = -10                  # saturated, all of them
    model.biases[1][:10] = [10, -10] * 5        # a fifth
    model.biases[1][10:] = 0.5
    model.biases[2][:] = np.where(np.arange(50) < 20, 0, 3)
    diagnostics = Diagnostics(1, warn=False)
    fit(model, X, np.zeros(400, int), diagnostics, SGD(0.0), batch_size=400, epochs=1)
    values = {name: v[0] for name, v in diagnostics.values.items()}
    assert values["saturation"][0] == 1
    assert abs(values["saturation"][1] - 0.2) < 0.05
    assert values["dead"][2] == 0.4
    assert abs(values["mean"][2] - 3 * 0.6) < 0.4   # fewer, each as much larger
    assert values["std"][2] > math.sqrt(3 ** 2 * 0.6 * 0.4)


def one_each(dtype, n=70):
    """A network in which sample i alone makes unit i of the first layer give anything but 0."""
    model = MLP([n, n, 2], dtype=dtype, seed=0)
    model.weights[0][...] = 2 * np.eye(n) - 1
    return model, np.eye(n), np.zeros(n, int)


def test_every_sample_of_every_step_counts(backend, dtype):
    model, X, y = one_each(dtype)
    diagnostics = Diagnostics(every=2, warn=False)
    history = fit(model, X, y, diagnostics, SGD(0.0), batch_size=7, epochs=1)
    assert_allclose(diagnostics.values["dead"][:, 0], [1 - 14 / 70] * 5)
    assert history.layer1_dead == [0.0] and [len(units) for units in diagnostics.dead_units] == [0]


@pytest.mark.parametrize("last", [0, 1, 30, 68, 69])
def test_one_sample_keeps_a_unit_alive(backend, dtype, last):
    """Wherever it is in the batch; and one of weight 0 does not."""
    model, X, y = one_each(dtype)
    for weights, dead in ((None, 0), (np.arange(70) != last, 1)):
        diagnostics = Diagnostics(warn=False)
        fit(model, X, y, diagnostics, SGD(0.0), batch_size=70, epochs=1, sample_weight=weights)
        assert diagnostics.dead_units[0].tolist() == [last] * dead
        assert_allclose(diagnostics.values["dead"][0, 0], dead / 70)


def test_nan_is_not_dead(backend, dtype):
    model, X, y = one_each(dtype)
    model.weights[0][3, 4] = np.nan
    diagnostics = Diagnostics(warn=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        fit(model, X[:4], y[:4], diagnostics, SGD(0.0), batch_size=70, epochs=1)
    assert diagnostics.dead_units[0].tolist() == list(range(5, 70))


def test_tiny_and_huge_gradients_have_a_norm(backend):
    """Whose squares a float32 cannot hold: that of a linear network of zeros grows as its targets do."""
    X, ones = np.eye(3), np.ones((3, 2))
    for factor in (1e-25, 1e25):
        model = MLP([3, 2], loss="mean_squared_error", seed=0)
        model.weights[0][...] = 0
        gradient = model.loss_and_gradients(X, ones)[1].weights[0]
        diagnostics = Diagnostics(warn=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)         # the loss is infinite
            fit(model, X, factor * ones, diagnostics, SGD(0.0), batch_size=3, epochs=1)
        assert_allclose(diagnostics.values["gradient_norm"][0, 0], norm(gradient) * factor, rtol=1e-5)


def test_sparse_samples(backend, dtype, rng):
    sparse = pytest.importorskip("scipy.sparse")
    X = rng.integers(0, 3, (190, 40)) * (rng.random((190, 40)) < 0.1)
    y = rng.integers(0, 3, 190)
    found = []
    for given in (X.astype(float), sparse.csr_array(X.astype(float))):
        diagnostics = Diagnostics(3, warn=False)
        fit(MLP([40, 70, 3], dtype=dtype, seed=0), given, y, diagnostics, Adam(0.01))
        found.append(diagnostics.values)
    for name in NAMES:
        assert_allclose(found[0][name], found[1][name], rtol=1e-3)


# Training does not notice --------------------------------------------------------------------------------

def squared(z, t):
    return float(((z - t) ** 2).sum(axis=1).mean()), 2 * (z - t) / len(z)


CASES = {
    "sgd": {},
    "few outputs": {"layers": [33, 70, 3]},
    "wide": {"layers": [100, 300, 130], "activation": "gelu", "batch": 200},
    "momentum": {"optimizer": lambda: SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)},
    "l1, limits": {"optimizer": lambda: SGD(0.05, l1=1e-4, clip_value=0.01)},
    "clipped": {"optimizer": lambda: SGD(0.05, clip_norm=0.1)},
    "adagrad": {"optimizer": lambda: AdaGrad(0.05)},
    "rmsprop": {"optimizer": lambda: RMSprop(0.01)},
    "adam": {"optimizer": lambda: Adam(0.01)},
    "adamw": {"optimizer": lambda: AdamW(0.01, weight_decay=0.1)},
    "dropout, batch norm": {"dropout": 0.3, "batch_norm": True},
    "own loss": {"loss": squared},
    "rates of a function": {"optimizer": lambda: SGD(lambda step: 0.1 / (1 + step))},
}


@pytest.mark.parametrize("case", CASES)
def test_bits_stay(backend, dtype, case, rng):
    if case == "wide" and backend == "numpy":
        pytest.skip("no size is special there")
    layers, batch = CASES[case].get("layers", [33, 70, 41, 5]), CASES[case].get("batch", 32)
    options = {name: value for name, value in CASES[case].items()
               if name not in ("layers", "batch", "optimizer")}
    X = rng.standard_normal((4 * batch + 9, layers[0]))
    y = rng.integers(0, layers[-1], len(X))
    if case == "own loss":
        y = rng.standard_normal((len(X), layers[-1]))
    hashes = set()
    for threads, diagnostics in ((1, None), (1, Diagnostics(1)), (2, Diagnostics(2)), (3, Diagnostics(100))):
        with fastmlp.limit_num_threads(threads):
            model = MLP(layers, dtype=dtype, seed=0, **options)
            optimizer = CASES[case].get("optimizer", lambda: SGD(0.1))()
            callbacks = [] if diagnostics is None else [diagnostics]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                history = model.fit(X, y, epochs=3, batch_size=batch, optimizer=optimizer,
                                    callbacks=callbacks, progress=False, log_steps=True)
        digest = hashlib.sha256()
        for array in (*model.weights, *model.biases, *model.running_variances, *history.step_loss):
            if array is not None:
                digest.update(np.ascontiguousarray(array).tobytes())
        for name, array in sorted(optimizer.get_state(model).items()):
            digest.update(name.encode() + np.ascontiguousarray(array).tobytes())
        hashes.add(digest.hexdigest())
    assert len(hashes) == 1


def test_dtypes_that_are_converted_on_the_way(backend, rng):
    X, y = problem(rng, 3000)
    found = []
    for kind in (np.float16, np.float32):
        model, diagnostics = MLP([20, 30, 3], seed=0), Diagnostics(7, warn=False)
        fit(model, X.astype(np.float16).astype(kind), y, diagnostics, SGD(0.1), batch_size=10)
        found.append((model, diagnostics))
    assert len(found[0][1].steps) == 2 * (300 // 7)
    for name in NAMES:
        assert_allclose(found[0][1].values[name], found[1][1].values[name], rtol=1e-4)


def test_nothing_is_there_when_it_is_not_used(rng):
    X, y = problem(rng)
    model = MLP([20, 30, 3], seed=0)
    model.fit(X, y, epochs=1, progress=False)
    assert model.core.engine._gradients is None
    diagnostics = Diagnostics()
    assert diagnostics.observer is None
    fit(model, X, y, diagnostics, SGD(0.1))
    assert diagnostics.observer is None             # and nothing stays that only training needs


# History, sentences, warnings ----------------------------------------------------------------------------

def test_history_and_other_callbacks(backend, rng):
    X, y = problem(rng)
    model, seen = MLP([20, 10, 3], seed=0), []
    callbacks = [EarlyStopping(monitor="layer1_update_ratio", mode="min", patience=50), Diagnostics(3),
                 lambda model, epoch, logs: seen.append(logs)]
    history = model.fit(X, y, epochs=4, batch_size=20, callbacks=callbacks, progress=False)
    assert all(len(values) == 4 for values in history.values())
    wanted = [f"layer1_{name}" for name in NAMES if name != "saturation"] + [f"layer2_{n}" for n in NAMES[4:]]
    assert [name for name in history if name.startswith("layer")] == wanted
    assert all(isinstance(value, float) for name in wanted for value in history[name])
    assert [logs["layer1_std"] for logs in seen] == history.layer1_std


def dying(units=12):
    """A network of 128 relu units, of which some are dead, and samples."""
    model = MLP([6, 64, 128, 3], seed=0)
    model.biases[1][:units], model.biases[1][units:] = -100, 1
    rng = np.random.default_rng(0)
    return model, rng.standard_normal((200, 6)), rng.integers(0, 3, 200)


def test_dead_units_are_said(backend):
    model, X, y = dying(37)
    diagnostics = Diagnostics()
    with pytest.warns(RuntimeWarning, match="epoch 1, layer 2: 37 of 128 units gave 0 for every") as said:
        fit(model, X, y, diagnostics, SGD(1e-3), epochs=3)
    assert len(said) == 1                           # and not in every epoch
    assert said[0].filename == __file__
    assert diagnostics.findings == (
        "layer 2: 37 of 128 units gave 0 for every sample of this epoch: "
        "try leaky_relu or a lower learning rate",)
    assert_array_equal(diagnostics.dead_units[1], np.arange(37))


def test_few_dead_units_are_none_of_the_sentences(backend):
    model, X, y = dying(12)
    diagnostics = Diagnostics()
    history = fit(model, X, y, diagnostics, SGD(1e-3))
    assert diagnostics.findings == () and history.layer2_dead == [12 / 128] * 2


def test_leaky_relu_cures_it(backend):
    model, X, y = dying(37)
    cured = MLP([6, 64, 128, 3], activation=LeakyReLU(0.1), seed=0)
    cured.biases[1][:37] = -100
    diagnostics = Diagnostics()
    history = fit(cured, X, y, diagnostics, SGD(1e-3))
    assert diagnostics.findings == () and "layer2_dead" not in history
    assert np.isnan(diagnostics.values["dead"]).all()


def sentence(layers, epochs=1, optimizer=None, scale=1.0, **options):
    rng = np.random.default_rng(0)
    model = MLP(layers, seed=0, **options)
    X, y = scale * rng.standard_normal((200, layers[0])), rng.integers(0, layers[-1], 200)
    diagnostics = Diagnostics(warn=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        fit(model, X, y, diagnostics, optimizer or SGD(1e-3), epochs=epochs)
    return diagnostics.findings


def test_saturation_is_said(backend):
    first, *_ = sentence([6, 20, 3], activation="tanh", scale=100.0)
    assert first.startswith("layer 1: ") and "within 1% of the ends of tanh" in first
    assert sentence([6, 20, 3], activation="tanh") == ()


def test_vanishing_gradients_are_said(backend):
    deep = [6, *[20] * 7, 3]
    found, = sentence(deep, activation="sigmoid")
    assert found.startswith("layer 1's gradient is 10^") and "times smaller than layer 8's: " in found
    power = int(found.split("10^")[1].split()[0])
    assert 3 <= power <= 8
    assert sentence(deep, activation="elu") == ()


def test_the_power_of_ten_is_right(backend):
    model = MLP([4, 5, 2], activation="identity", seed=0)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 4)), rng.integers(0, 2, 200)
    model.weights[1] *= 1e-5
    first, second = (norm(g) for g in model.loss_and_gradients(X, y)[1].weights)
    diagnostics = Diagnostics(1, warn=False)
    fit(model, X, y, diagnostics, SGD(0.0), epochs=1, batch_size=200)
    times = f"10^{math.log10(second / first):.0f}"
    assert times in ("10^4", "10^5", "10^6")
    assert any(sentence.startswith(f"layer 1's gradient is {times} times smaller than layer 2's: ")
               for sentence in diagnostics.findings)


def test_exploding_gradients_are_said(backend):
    """Linear layers that each make their outputs larger."""
    model = MLP([6, *[20] * 7, 3], activation="identity", seed=0)
    for w in model.weights:
        w *= 5
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((200, 6)), rng.integers(0, 3, 200)
    times = [norm(g) / norm(w) for g, w in zip(model.loss_and_gradients(X, y)[1].weights, model.weights)]
    diagnostics = Diagnostics(warn=False)
    fit(model, X, y, diagnostics, SGD(0.0), epochs=1, batch_size=200)
    layer = int(np.argmax(times))
    assert max(times) > 1e3
    assert diagnostics.findings == (
        f"layer {layer + 1}'s gradient is 10^{math.log10(times[layer]):.0f} times its weights: gradients "
        "explode; try clip_norm, inputs scaled to about 1 or smaller initial weights",)


def test_gradients_that_are_not_finite_are_said(backend):
    found = sentence([6, 20, 3], optimizer=SGD(1e38), epochs=2)
    assert any("its gradient is not finite" in text for text in found)


@pytest.mark.parametrize("samples, said", [(8, False), (61, False), (62, True)])
def test_dropout_does_not_kill(backend, samples, said):
    """Units are dropped for all samples where these are few; of more, the zeros are those of the units."""
    rng = np.random.default_rng(0)
    model = MLP([6, 32, 2], dropout=0.8, seed=0)
    model.biases[0][:8] = -100
    X, y = rng.standard_normal((samples, 6)), rng.integers(0, 2, samples)
    diagnostics = Diagnostics(1, warn=False)
    history = fit(model, X, y, diagnostics, SGD(1e-3), batch_size=8, epochs=1)
    assert any("gave 0" in text for text in diagnostics.findings) == said
    assert {*range(8)} <= {*diagnostics.dead_units[0].tolist()}     # the numbers are those after dropout
    assert history.layer1_dead == [len(diagnostics.dead_units[0]) / 32]
    assert history.layer1_dead[0] > 0.25 or samples > 8


@pytest.mark.parametrize("last", [1, 8])
def test_dropout_of_few_samples_is_not_on_the_bar(backend, last, monkeypatch):
    """A report may be on fewer samples than the epoch, and the last batch is a small one."""
    notes = []
    monkeypatch.setattr(progress.Bar, "update", lambda self, samples, loss, note=str: notes.append(note()))
    rng = np.random.default_rng(0)
    model = MLP([6, 32, 2], dropout=0.8, seed=0)
    model.biases[0][:8] = -100
    X, y = rng.standard_normal((160 + last, 6)), rng.integers(0, 2, 160 + last)
    diagnostics = Diagnostics(1, warn=False)
    fit(model, X, y, diagnostics, SGD(1e-3), batch_size=8, epochs=1)
    assert {*notes} == {""}
    assert "gave 0" in diagnostics.findings[0]


@pytest.mark.parametrize("activation", ["gelu", "silu"])
def test_layers_that_give_nothing_are_said(backend, activation):
    model = MLP([6, 20, 20, 3], activation, seed=0)
    for b in model.biases[:-1]:
        b[...] = -100
    before = [w.copy() for w in model.weights]
    rng = np.random.default_rng(0)
    diagnostics = Diagnostics(warn=False)
    fit(model, rng.standard_normal((200, 6)), rng.integers(0, 3, 200), diagnostics, SGD(0.1))
    for w, old in zip(model.weights, before):
        assert_array_equal(w, old)
    found, = diagnostics.findings
    assert found.startswith("layer 1: all of its outputs are 0")


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_inputs_that_hold_nothing_are_said(backend, activation):
    assert sentence([6, 20, 3], activation=activation, scale=0.0) == (
        "X holds nothing but 0, from which nothing can be learned",)


def test_sparse_inputs_that_hold_nothing_are_said(backend):
    sparse = pytest.importorskip("scipy.sparse")
    diagnostics = Diagnostics(warn=False)
    fit(MLP([6, 20, 3], seed=0), sparse.csr_matrix((200, 6)), np.zeros(200, int), diagnostics, SGD(1e-3))
    assert diagnostics.findings == ("X holds nothing but 0, from which nothing can be learned",)


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_nan_in_any_layer_is_said(backend, layer):
    model = MLP([6, 20, 20, 3], seed=0)
    model.weights[layer][0, 0] = np.nan
    rng = np.random.default_rng(0)
    diagnostics = Diagnostics(warn=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        fit(model, rng.standard_normal((200, 6)), rng.integers(0, 3, 200), diagnostics, SGD(1e-3))
    found, = diagnostics.findings
    assert "not finite: try a lower learning rate" in found


def test_nan_in_the_inputs_is_said(backend):
    found, = sentence([6, 20, 3], scale=np.nan)
    assert found.endswith("not finite: X holds NaN or infinity")


def test_advice_names_nothing_that_is_there(backend):
    limited = sentence([6, 20, 3], optimizer=SGD(1e38, clip_norm=1e30), epochs=2)
    assert any("not finite: try a lower" in text for text in limited)
    assert not any("clip_norm" in text for text in limited)
    deep = [6, *[20] * 7, 3]
    assert not any("try" in text and "batch_norm" in text for text in sentence(
        deep, activation="tanh", batch_norm=True, scale=100.0, optimizer=SGD(100.0)))
    found, = sentence(deep, activation="sigmoid")
    assert found.endswith("try relu, batch_norm, fewer layers or another init")


def test_large_steps_are_said(backend):
    found = sentence([6, 20, 3], optimizer=Adam(1.0))
    assert any("a step changes its weights by" in text and "lower learning rate" in text for text in found)
    assert sentence([6, 20, 3], optimizer=Adam(1e-3)) == ()


def test_the_bar_shows_it(backend, monkeypatch):
    notes, texts = [], []
    monkeypatch.setattr(progress.Bar, "update", lambda self, samples, loss, note=str: notes.append(note()))
    monkeypatch.setattr(progress.Bar, "show", lambda self, logs, note=str: texts.append((list(logs), note())))
    model, X, y = dying(37)
    with pytest.warns(RuntimeWarning):
        fit(model, X, y, Diagnostics(), SGD(1e-3), epochs=1)
    assert notes[-1] == "layer 2: 37/128 dead"
    assert texts == [(["loss", "samples_per_second"], "layer 2: 37/128 dead")]      # and no numbers of layers
    model, X, y = dying(0)
    fit(model, X, y, Diagnostics(), SGD(1e-3), epochs=1)
    assert notes[-1] == texts[-1][1] == ""


def test_a_real_bar(backend, capsys):
    model, X, y = dying(37)
    with pytest.warns(RuntimeWarning):
        fit(model, X, y, Diagnostics(), SGD(1e-3), epochs=1, progress="bar")
    shown = capsys.readouterr().err
    assert "layer 2: 37/128 dead" in shown and "loss=" in shown and "gradient_norm" not in shown


def test_as_text(backend):
    model, X, y = dying(37)
    diagnostics = Diagnostics(50, warn=False)
    assert str(diagnostics) == repr(diagnostics) == "Diagnostics(every=50, warn=False)"
    fit(model, X, y, diagnostics, SGD(1e-3), epochs=1)
    head, *lines = str(diagnostics).splitlines()
    assert head == f"Step {diagnostics.steps[-1]}, the last report, in epoch 1:"
    assert lines[0].split() == [
        "layer", "dead", "saturated", "mean", "std", "gradient", "weights", "update/weights"]
    assert lines[2].split()[:3] == ["2", "28.9%", "-"]
    assert lines[3].split()[:5] == ["3", "-", "-", "-", "-"]
    assert lines[4:] == ["Found in epoch 1:", *diagnostics.findings]


# One after another ---------------------------------------------------------------------------------------

def test_every_fit_starts_anew(backend, rng):
    X, y = problem(rng)
    diagnostics = Diagnostics(2)
    for sizes in ([20, 10, 3], [20, 5, 6, 3]):
        fit(MLP(sizes, seed=0), X, y, diagnostics, SGD(0.01))
        assert diagnostics.values["std"].shape == (10, len(sizes) - 1)
        assert diagnostics.steps.tolist() == list(range(2, 21, 2))


def test_before_any_training():
    diagnostics = Diagnostics()
    assert len(diagnostics.steps) == 0 and diagnostics.findings == () and diagnostics.dead_units == ()
    assert all(values.shape == (0, 0) for values in diagnostics.values.values())
    model = MLP([3, 2], seed=0)
    model.fit(np.zeros((4, 3)), [0, 1, 0, 1], epochs=0, callbacks=[diagnostics], progress=False)
    assert len(diagnostics.steps) == 0


def test_no_hidden_layer(backend, dtype, rng):
    X, y = problem(rng)
    diagnostics = Diagnostics()
    history = fit(MLP([20, 3], dtype=dtype, seed=0), X, y, diagnostics, SGD(0.1))
    assert [name for name in history if "layer" in name] == [f"layer1_{name}" for name in NAMES[4:]]
    assert diagnostics.dead_units == ()


def test_dropout_may_change_between_epochs(backend, rng):
    X, y = problem(rng)
    model, diagnostics = MLP([20, 30, 3], activation="sigmoid", dropout=0.5, seed=0), Diagnostics()

    def change(model, epoch, logs):
        model.dropout = 0.0

    history = model.fit(X, y, epochs=3, callbacks=[diagnostics, change], progress=False)
    assert history.layer1_std[0] > history.layer1_std[1]
    assert all(share < 0.05 for share in history.layer1_saturation)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_copies(way, rng):
    X, y = problem(rng)
    diagnostics = Diagnostics(3, warn=False)
    fit(MLP([20, 10, 3], seed=0), X, y, diagnostics, SGD(0.1))
    made = way(diagnostics)
    assert (made.every, made.warn, made.findings) == (3, False, diagnostics.findings)
    for name in NAMES:
        assert_array_equal(made.values[name], diagnostics.values[name])
    fit(MLP([20, 10, 3], seed=0), X, y, made, SGD(0.1), epochs=4)
    assert len(made.steps) == 12 and len(diagnostics.steps) == 6


def reported(diagnostics):
    return [diagnostics.steps, *diagnostics.values.values()]


def test_state_goes_on_from_an_epoch(backend, rng):
    """As one training: the reports, and their steps."""
    X, y = problem(rng)
    whole, parts = Diagnostics(4), Diagnostics(4)
    models = [MLP([20, 10, 3], seed=0) for _ in range(2)]
    fit(models[0], X, y, whole, SGD(0.05), epochs=5)
    fit(models[1], X, y, parts, SGD(0.05), epochs=2)
    state, other = parts.get_state(), Diagnostics(4)
    other.set_state(state)
    fit(models[1], X, y, other, SGD(0.05), epochs=3)
    for a, b in zip(reported(whole), reported(other), strict=True):
        assert_allclose(a, b, rtol=1e-4)
    fit(models[1], X, y, other, SGD(0.05), epochs=1)            # and then anew
    assert len(other.steps) == 2


def test_state_goes_on_within_an_epoch(backend, dtype, rng):
    """Flags of units and the step within the epoch go over: what the training of an epoch's rest has reported
    ends as the whole epoch does."""
    from fastmlp._core.network import Samples

    model, X, y = one_each(dtype)
    samples = Samples(X, y.astype(np.intp), batch_size=7)
    whole = Diagnostics(3, warn=False)
    fit(model, X, y, whole, SGD(0.0), batch_size=7, epochs=1)
    first, second = Diagnostics(3), Diagnostics(3, warn=False)
    for diagnostics, steps in ((first, (0, 4)), (second, (4, 10))):
        diagnostics.begin(model)
        diagnostics.begin_epoch(model, 10)
        run = model.core.engine.begin(samples, SGD(0.0))
        run.steps(*steps, (0.0, 0.0), 1, True, None, diagnostics.observer)
        if diagnostics is first:
            second.set_state(first.get_state())
    logs = second.end_epoch()
    assert logs["layer1_dead"] == 0.0
    for a, b in zip(reported(whole), reported(second), strict=True):
        assert_array_equal(a, b)


@pytest.mark.parametrize(("change", "error", "words"), [
    ({"steps": None}, ValueError, "state: expected steps, values, before"),
    ({"more": 1}, ValueError, "state: expected steps"),
    ({"steps": ["a"]}, TypeError, r"state\['steps'\]"),
    ({"values": np.zeros((2, 2, 3))}, ValueError, r"state\['values'\]"),
    ({"steps": np.zeros(7)}, ValueError, r"state\['values'\]"),
    ({"epoch.step": 1}, ValueError, "state: expected .*epoch.alive"),
])
def test_bad_state(change, error, words, rng):
    X, y = problem(rng)
    diagnostics = Diagnostics(4, warn=False)
    fit(MLP([20, 10, 3], seed=0), X, y, diagnostics, SGD(0.05))
    state = {name: value for name, value in {**diagnostics.get_state(), **change}.items()
             if value is not None}
    before = reported(diagnostics)
    with pytest.raises(error, match=words):
        diagnostics.set_state(state)
    for a, b in zip(before, reported(diagnostics)):
        assert_array_equal(a, b)


def test_state_of_another_network(rng):
    X, y = problem(rng)
    diagnostics = Diagnostics(warn=False)
    fit(MLP([20, 10, 3], seed=0), X, y, diagnostics, SGD(0.05))
    diagnostics.set_state(diagnostics.get_state())
    model = MLP([20, 10, 10, 3], seed=0)
    before = model.weights[0].copy()
    with pytest.raises(ValueError, match="state: expected that of 3 layers, got 2"):
        fit(model, X, y, diagnostics, SGD(0.05))
    assert_array_equal(model.weights[0], before)


@pytest.mark.parametrize(("make", "error", "words"), [
    (lambda: Diagnostics(0), ValueError, "every: expected an integer from 1"),
    (lambda: Diagnostics(2.5), TypeError, "every: expected an integer"),
    (lambda: setattr(Diagnostics(), "every", -1), ValueError, "every"),
    (lambda: setattr(Diagnostics(), "findings", ()), AttributeError, "findings: is what was found"),
    (lambda: setattr(Diagnostics(), "evry", 1), AttributeError, "did you mean 'every'"),
])
def test_bad_settings(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(("callbacks", "optimizer", "words"), [
    ([Diagnostics(), Diagnostics()], SGD(), "callbacks: expected one Diagnostics, got 2"),
    ([Diagnostics()], LBFGS(), "callbacks: Diagnostics looks at training steps, and LBFGS takes none"),
])
def test_bad_callbacks(callbacks, optimizer, words, rng):
    X, y = problem(rng)
    model = MLP([20, 3], seed=0)
    before = model.weights[0].copy()
    with pytest.raises(ValueError, match=words):
        model.fit(X, y, callbacks=callbacks, optimizer=optimizer, progress=False)
    assert_array_equal(model.weights[0], before)


def test_an_observer_of_another_network_is_refused(rng):
    """By the compiled engine, before it writes anywhere."""
    from fastmlp._core.network import Samples
    from fastmlp._core.observer import Observer

    with fastmlp.use_backend("cython"):
        model, other = MLP([20, 10, 3], seed=0), MLP([20, 300, 3], seed=0)
    X, y = problem(rng)
    run = model.core.engine.begin(Samples(X, y.astype(np.intp), batch_size=10), SGD(0.1))
    before = model.weights[0].copy()
    small = Observer(model.core.parameters)
    small.start(3, 1, [(-1, 1)] * 2)
    large = Observer(other.core.parameters)
    large.start(19, 1, [(-1, 1)] * 2)
    for observer in (small, large):
        with pytest.raises(ValueError, match="observer: "):
            run.steps(0, 19, (0.0, 0.0), 1, True, None, observer)
    assert_array_equal(model.weights[0], before)
