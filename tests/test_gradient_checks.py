"""Gradient checking: right gradients pass, broken ones are found and named, kinks are known as kinks."""
from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import fastmlp
from fastmlp import MLP, GradientCheck, LeakyReLU, activations, gradient_check, gradient_checks, losses
from fastmlp._core import state

TARGETS = {
    "classes": lambda rng, n, m: rng.integers(0, m, n),
    "distributions": lambda rng, n, m: rng.dirichlet(np.ones(m), n),
    "binary": lambda rng, n, m: rng.integers(0, 2, (n, m)),
    "signs": lambda rng, n, m: rng.choice([-1, 1], (n, m)),
    "values": lambda rng, n, m: rng.standard_normal((n, m)),
    "counts": lambda rng, n, m: rng.poisson(2.0, (n, m)),
}
LOSSES = [*losses.BY_NAME, losses.CrossEntropy(label_smoothing=0.1), losses.CrossEntropy(ignore_index=1),
          losses.BinaryCrossEntropy(pos_weight=[0.5, 1, 3]), losses.Huber(0.3)]


def problem(rng, loss="cross_entropy", layers=(4, 9, 7, 3), n=12, targets=None, **settings):
    model = MLP(layers, loss=loss, seed=0, bias_init=lambda rng, n: rng.standard_normal(n) / 4, **settings)
    y = TARGETS[targets or model.loss.targets](rng, n, layers[-1])
    return model, rng.standard_normal((n, layers[0])), y


def break_gradients(monkeypatch, change):
    """loss_and_gradients as it is, and then one mistake."""
    right = MLP.loss_and_gradients

    def wrong(self, X, y):
        loss, gradients = right(self, X, y)
        change(gradients)
        return loss, gradients

    monkeypatch.setattr(MLP, "loss_and_gradients", wrong)


# Right gradients -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("activation", [*activations.BY_NAME, LeakyReLU(0.3)], ids=str)
def test_every_activation(activation, backend, dtype, rng):
    model, X, y = problem(rng, activation=activation, dtype=dtype)
    result = gradient_check(model, X, y)
    assert result.passed is True, str(result)
    assert result.largest_error < (2e-5 if dtype == np.float32 else 5e-7)
    assert [layer.checked for layer in result.layers] == [5 * 9, 10 * 7, 8 * 3]
    assert [layer.shape for layer in result.layers] == [(4, 9), (9, 7), (7, 3)]
    assert not any(layer.kinks for layer in result.layers)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_every_loss(loss, backend, dtype, rng):
    model, X, y = problem(rng, loss, activation="tanh", dtype=dtype)
    result = gradient_check(model, X, y)
    assert result.passed, str(result)


def test_rows_of_probabilities(backend, dtype, rng):
    assert gradient_check(*problem(rng, activation="tanh", dtype=dtype, targets="distributions")).passed


@pytest.mark.parametrize("factor, passes", [(2, True), (2.01, False)])
def test_loss_of_the_users_own(factor, passes, backend, dtype, rng):
    """The fourth power of the error; and its gradient, right or wrong."""
    def fourth(logits, targets):
        error = logits - targets
        return float((error**4).mean()), 2 * factor * error**3 / error.size

    model, X, y = problem(rng, fourth, activation="tanh", dtype=dtype, targets="values")
    assert gradient_check(model, X, y).passed is passes


@pytest.mark.parametrize("layers", [(1, 1), (3, 2), (5, 1, 4), (2, 2, 2, 2, 2, 2), (70, 40, 10)])
def test_every_shape(layers, backend, rng):
    model, X, y = problem(rng, layers=layers, dtype="float64", activation="tanh")
    result = gradient_check(model, X, y, limit=60)
    assert result.passed, str(result)
    assert [layer.layer for layer in result.layers] == list(range(len(layers) - 1))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_losses_of_every_size(scale, backend, rng):
    """The loss, and what rounds in it, grow with the square."""
    model, X, y = problem(rng, "mean_squared_error", dtype="float64", activation="tanh")
    assert gradient_check(model, X, scale * y).passed


def test_trained_model(backend, dtype, rng):
    """Near a minimum gradients are small, and differ from 0 by little more than rounding."""
    model, X, y = problem(rng, dtype=dtype, activation="tanh")
    model.fit(X, y, epochs=300, batch_size=12, optimizer=fastmlp.SGD(0.3, momentum=0.9), progress=False)
    result = gradient_check(model, X, y)
    assert result.passed, str(result)


def test_model_and_data_stay_as_they_are(backend, dtype, rng):
    model, X, y = problem(rng, dtype=dtype)
    X.flags.writeable = False
    before = {name: array.copy() for name, array in state.arrays(model).items()}
    generator = model.core.rng.bit_generator.state
    gradient_check(model, X, y)
    for name, array in state.arrays(model).items():
        np.testing.assert_array_equal(array, before[name])
    assert model.core.rng.bit_generator.state == generator


def test_any_input(backend, rng):
    """Lists, integers, one sample: whatever `fit` takes."""
    model = MLP([2, 5, 3], activation="tanh", seed=0)
    assert gradient_check(model, [[1, 0]], [2]).passed
    assert gradient_check(model, np.eye(2, dtype=np.uint8), np.array([[0], [1]])).passed
    values = MLP([2, 1], loss="mean_squared_error", seed=0)
    assert gradient_check(values, np.eye(2, dtype=">f4"), [0.5, 1]).passed


@pytest.mark.parametrize("settings", [
    {"batch_norm": True}, {"batch_norm": [True, False]}, {"dropout": 0.3}, {"dropout": [0.5, 0.0]},
    {"dropout": 0.3, "batch_norm": True},
], ids=str)
def test_dropout_and_batch_normalisation(settings, backend, dtype, rng):
    """The loss of a training step, its masks and its statistics as they are; scales are checked as well."""
    model, X, y = problem(rng, dtype=dtype, activation="tanh", **settings)
    model.fit(X, y, epochs=3, batch_size=5, progress=False)
    for array, value in state.arrays(model).items():
        if array.startswith("scales"):
            value += rng.uniform(-0.5, 0.5, len(value))
    before = {name: array.copy() for name, array in state.arrays(model).items()}
    result = gradient_check(model, X, y)
    assert result.passed, str(result)
    assert not any(layer.kinks for layer in result.layers)
    scales = [0 if scale is None else scale.size for scale in model.scales]
    assert [layer.checked for layer in result.layers] == [45 + scales[0], 70 + scales[1], 24 + scales[2]]
    for name, array in state.arrays(model).items():
        np.testing.assert_array_equal(array, before[name])


def test_broken_scale(backend, rng, monkeypatch):
    model, X, y = problem(rng, activation="tanh", batch_norm=True)
    break_gradients(monkeypatch, lambda gradients: gradients.scales[1].__imul__(1.1))
    result = gradient_check(model, X, y)
    assert [layer.largest_error > result.tolerance for layer in result.layers] == [False, True, False]
    assert result.layers[1].at.startswith("scales[1][")


# Broken gradients ------------------------------------------------------------------------------------------

def one_element(gradients):
    index = np.unravel_index(abs(gradients.weights[1]).argmax(), gradients.weights[1].shape)
    gradients.weights[1][index] *= 1.01


def one_bias(gradients):
    gradients.biases[1][abs(gradients.biases[1]).argmax()] *= 1.01


def transposed(gradients):
    gradients.weights[1][...] = gradients.weights[1].T.copy()


def wrong_sign(gradients):
    gradients.weights[1][...] *= -1


def forgotten(gradients):
    gradients.biases[1][...] = 0


def sum_instead_of_mean(gradients):
    gradients.weights[1][...] *= 12


def not_a_number(gradients):
    gradients.weights[1][2, 1] = np.nan


def infinite(gradients):
    gradients.weights[1][2, 1] = np.inf


@pytest.mark.parametrize("mistake, error", [
    (one_element, 0.01 / 2.01), (one_bias, 0.01 / 2.01), (transposed, None), (wrong_sign, 1), (forgotten, 1),
    (sum_instead_of_mean, 11 / 13), (not_a_number, math.inf), (infinite, math.inf),
])
def test_broken_gradients_are_found(mistake, error, backend, dtype, rng, monkeypatch):
    model, X, y = problem(rng, layers=(4, 7, 7, 3), dtype=dtype, activation="tanh")
    break_gradients(monkeypatch, mistake)
    result = gradient_check(model, X, y)
    assert result.passed is False
    good, bad, last = result.layers
    assert max(good.largest_error, last.largest_error) <= result.tolerance < bad.largest_error
    assert result.largest_error == bad.largest_error
    if error is not None:
        assert bad.largest_error == pytest.approx(error, rel=0.01)
    kind = "biases" if mistake in (one_bias, forgotten) else "weights"
    assert bad.at.startswith(f"{kind}[1]")
    assert "FAILED" in str(result)
    assert bad.at in str(result)


def test_says_where(backend, rng, monkeypatch):
    model, X, y = problem(rng, dtype="float64", activation="tanh")

    def change(gradients):
        gradients.weights[0][3, 5] += 1e-4

    right = model.loss_and_gradients(X, y)[1].weights[0][3, 5]
    break_gradients(monkeypatch, change)
    worst = gradient_check(model, X, y).layers[0]
    assert worst.at == "weights[0][3, 5]"
    assert worst.backpropagated == pytest.approx(right + 1e-4, rel=1e-12)
    assert worst.numerical == pytest.approx(right, rel=1e-6)


def test_broken_model_alone(backend, rng):
    """A method of one object, as somebody who tries things out would replace it."""
    model, X, y = problem(rng, activation="tanh")
    loss, gradients = model.loss_and_gradients(X, y)
    gradients.weights[2][...] *= 2
    model.loss_and_gradients = lambda X, y: (loss, gradients)
    result = gradient_check(model, X, y)
    assert [layer.largest_error > result.tolerance for layer in result.layers] == [False, False, True]
    assert result.layers[2].largest_error == pytest.approx(1 / 3, rel=1e-3)


# Kinks and steps -------------------------------------------------------------------------------------------

def near_a_kink(distance):
    """One sample, two units; the sum of the first is at this distance from the kink of ReLU."""
    model = MLP([1, 2, 2], dtype="float64", seed=0)
    model.weights[0][...] = [[1.0, 1.0]]
    model.biases[0][...] = [distance - 1.0, 0.5]
    model.weights[1][...] = [[1.0, -1.0], [0.5, 1.0]]
    return model, np.ones((1, 1)), [0]


@pytest.mark.parametrize("distance", [1e-6, -1e-6, 3e-6, 1e-7])
def test_kink_nearby(distance, backend):
    model, X, y = near_a_kink(distance)
    result = gradient_check(model, X, y)
    assert result.passed, str(result)
    assert result.layers[0].kinks == 0
    assert not gradient_check(model, X, y, step=gradient_checks.STEP).passed     # that step alone goes across


def test_kink_exactly(backend, monkeypatch):
    model, X, y = near_a_kink(0.0)
    result = gradient_check(model, X, y)
    assert result.passed, str(result)
    assert [layer.kinks for layer in result.layers] == [2, 0]               # the weight and the bias

    def change(gradients):
        gradients.weights[0][0, 1] *= 2

    break_gradients(monkeypatch, change)
    result = gradient_check(model, X, y)
    assert not result.passed
    assert (result.layers[0].kinks, result.layers[0].at) == (2, "weights[0][0, 1]")


def test_nothing_but_kinks_does_not_pass(backend):
    model = MLP([1, 1, 1], loss="mean_squared_error", dtype="float64", init="zeros", seed=0)
    model.weights[1][...] = 1
    result = gradient_check(model, [[1.0]], [5.0])
    assert result.layers[0].kinks == result.layers[0].checked == 2
    assert math.isnan(result.layers[0].largest_error)
    assert math.isnan(result.largest_error)
    assert not result.passed
    assert result.layers[0].at == ""
    assert "nan" in str(result)


def test_dead_units_pass(backend, rng):
    """Their gradients are 0, and so is what the loss does."""
    model, X, y = problem(rng, layers=(4, 5, 3), dtype="float64")
    model.biases[0][...] = -100
    result = gradient_check(model, X, y)
    assert result.passed, str(result)
    assert result.layers[0].largest_error == 0


def test_step(backend, rng):
    """Too large a step truncates, too small a one rounds: best in the middle, worse to both sides."""
    model, X, y = problem(rng, dtype="float64", activation="tanh")
    errors = [gradient_check(model, X, y, step=h).largest_error for h in (1e-2, 1e-3, 1e-5, 1e-9, 1e-12)]
    assert errors.index(min(errors)) == 2
    assert sorted(errors[:3], reverse=True) == errors[:3]
    assert sorted(errors[2:]) == errors[2:]
    assert min(errors[0], errors[4]) > 1e-5
    default = gradient_check(model, X, y)
    assert default.step == gradient_checks.STEP == pytest.approx(6.06e-6, rel=1e-3)
    assert default.largest_error < 1e-6
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.5)              # the square of the step


# The report ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("limit, checked", [(1, [1, 1]), (2, [2, 2]), (10, [10, 10]), (60, [60, 42]),
                                            (10**6, [180, 42]), (None, [180, 42])])
def test_limit(limit, checked, rng):
    model, X, y = problem(rng, layers=(8, 20, 2), activation="tanh")
    result = gradient_check(model, X, y, limit=limit)
    assert [layer.checked for layer in result.layers] == checked
    assert [layer.parameters for layer in result.layers] == [180, 42]
    assert result.passed


def test_limit_takes_biases_and_weights():
    arrays = {"weights": np.zeros((30, 20)), "biases": np.zeros(20)}
    for limit, weights, biases in [(1, 1, 0), (2, 1, 1), (10, 5, 5), (39, 20, 19), (100, 80, 20)]:
        chosen = gradient_checks._choose(arrays, limit, np.random.default_rng(0))
        assert (len(chosen["weights"]), len(chosen["biases"])) == (weights, biases)
        assert len(set(chosen["weights"])) == weights
    first, again, other = (gradient_checks._choose(arrays, 20, np.random.default_rng(s)) for s in (0, 0, 1))
    assert first == again != other


def test_limit_finds_a_broken_layer(backend, rng, monkeypatch):
    model, X, y = problem(rng, layers=(30, 40, 3), activation="tanh")
    break_gradients(monkeypatch, lambda gradients: gradients.weights[0].__imul__(1.1))
    result = gradient_check(model, X, y, limit=20, seed=3)
    assert not result.passed
    again, other = (gradient_check(model, X, y, limit=20, seed=seed) for seed in (3, 4))
    if backend == "cython":
        assert again.layers == result.layers != other.layers
    for one, two in zip(again.layers, result.layers):       # which is the worst of equals is a matter of bits
        assert one.checked == two.checked
        assert one.largest_error == pytest.approx(two.largest_error, rel=1e-4, abs=result.tolerance / 10)


def test_times_slower(backend, rng):
    """About 2 P / 3 times; anything in that direction does on a busy machine."""
    model, X, y = problem(rng, layers=(20, 50, 40, 3), n=100, activation="tanh")
    result = gradient_check(model, X, y, limit=50)
    parameters = sum(layer.parameters for layer in result.layers)
    assert parameters == 21 * 50 + 51 * 40 + 41 * 3
    assert result.times_slower > parameters / 30
    assert result.times_slower == pytest.approx(
        result.numerical_seconds / 150 * parameters / result.backpropagation_seconds)


def test_table():
    check = gradient_checks.LayerCheck
    layers = (check(0, (784, 256), 200960, 100, 0, 3.14e-9, "weights[0][3, 17]", 0.5, 0.5),
              check(1, (256, 10), 2570, 100, 2, 0.02, "biases[1][3]", 0.5, 0.6))
    result = GradientCheck(layers, "float64", 1e-6, 6e-6, 0.002, 0.8)
    assert str(result) == """\
gradient check, float64: FAILED, largest relative error 2.0e-02, tolerance 1e-06
layer      shape  parameters  checked  kinks  largest error  at
    0  784 x 256     200,960      100      0        3.1e-09  weights[0][3, 17]
    1   256 x 10       2,570      100      2        2.0e-02  biases[1][3]
all 203,530 gradients: 2 ms by backpropagation, 13.6 min one by one, 407,060 times slower"""
    assert not any(line.endswith(" ") for line in str(result).splitlines())


def test_frozen(rng):
    model, X, y = problem(rng)
    result = gradient_check(model, X, y, limit=1)
    assert isinstance(result, GradientCheck)
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.tolerance = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.layers[0].largest_error = 0.0


# Bad input -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments, error, message", [
    ({"model": None}, TypeError, "^model: expected an MLP, got NoneType"),
    ({"model": MLP}, TypeError, "^model"),
    ({"step": 0}, ValueError, "^step.*above 0"),
    ({"step": -1e-6}, ValueError, "^step"),
    ({"step": math.nan}, ValueError, "^step"),
    ({"step": "1e-6"}, TypeError, "^step"),
    ({"limit": 0}, ValueError, "^limit.*from 1 up, got 0"),
    ({"limit": 1.5}, TypeError, "^limit"),
    ({"seed": -1}, ValueError, "^seed"),
    ({"seed": None}, TypeError, "^seed"),
    ({"X": np.zeros((12, 3))}, ValueError, r"^X: expected shape \(rows, 4\)"),
    ({"X": np.zeros((0, 4)), "y": []}, (ValueError, TypeError), "^X"),
    ({"X": np.full((12, 4), "a")}, TypeError, "^X"),
    ({"X": np.full((12, 4), np.nan)}, ValueError, "^model: expected a finite loss.*nan"),
    ({"y": np.zeros(11, int)}, ValueError, "^y"),
    ({"y": np.full(12, 3)}, ValueError, "^y.*from 0 to 2, got 3"),
], ids=str)
def test_bad_input(arguments, error, message, backend, rng):
    model, X, y = problem(rng)
    with pytest.raises(error, match=message):
        gradient_check(**{"model": model, "X": X, "y": y, **arguments})


def test_positional_options_are_refused(rng):
    model, X, y = problem(rng)
    with pytest.raises(TypeError):
        gradient_check(model, X, y, 1e-6)
