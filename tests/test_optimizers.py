"""Optimizers: every rule, backend, dtype and instruction set against its published formula in float64; state
that is read and written; settings that do not fit; L-BFGS."""
from __future__ import annotations

import inspect
import io
import itertools
import math
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import LAYOUTS, assert_learned, assert_same, lay_out
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
import fastmlp.functional as F
from fastmlp import LBFGS, MLP, SGD, AdaGrad, Adam, AdamW, RMSprop, backends, kernels, schedules
from fastmlp.backends import numpy as specification
from fastmlp.kernels import ops
from fastmlp.optimizers import CODES, Optimizer, Settings

ISAS = kernels.available_isas()
OUT_LAYOUTS = [layout for layout in LAYOUTS if layout != "read_only"]
RULES = {
    "sgd": SGD(0.05),
    "momentum": SGD(0.05, momentum=0.9),
    "nesterov": SGD(0.05, momentum=0.9, nesterov=True),
    "adagrad": AdaGrad(0.05),
    "rmsprop": RMSprop(0.02, rho=0.9),
    "adam": Adam(0.02),
    "adam with other settings": Adam(0.02, beta1=0.5, beta2=0.9, eps=1e-3),
    "adamw": AdamW(0.02, weight_decay=0.1),
}
PENALTIES = {
    "bare": {},
    "weight_decay": {"weight_decay": 0.1},
    "l1": {"l1": 0.05},
    "clip_value": {"clip_value": 0.5},
    "all": {"weight_decay": 0.1, "l1": 0.05, "clip_value": 0.5},
    "all, biases too": {"weight_decay": 0.1, "l1": 0.05, "clip_value": 0.5, "decay_biases": True},
}


def with_settings(name, attributes=None, **settings):
    """A fresh optimizer like RULES[name], with settings of the base class changed; with `attributes`, of a
    subclass that has them."""
    model = RULES[name]
    cls = type(model) if attributes is None else type("Own", (type(model),), attributes)
    own = {key: getattr(model, key) for key in ("momentum", "nesterov", "rho", "beta1", "beta2", "eps")
           if key in inspect.signature(type(model)).parameters}
    return cls(model.lr, **own, **{"weight_decay": model.weight_decay, **settings})


class ByHand:
    """The published formulas, one step after another, in float64; nothing of the library's own arithmetic."""

    def __init__(self, optimizer, param, is_bias=False):
        self.o, self.p = optimizer, param.astype(np.float64)
        self.m, self.v, self.t = np.zeros(param.shape), np.zeros(param.shape), 0
        self.penalised = not is_bias or optimizer.decay_biases

    def step(self, grad, lr=None):
        o, p = self.o, self.p
        lr = o.lr if lr is None else lr
        g = grad.astype(np.float64)
        self.t += 1
        if o.clip_value is not None:
            g = np.where(np.abs(g) > o.clip_value, np.sign(g) * o.clip_value, g)
        if self.penalised and not o.decoupled:
            g = g + o.weight_decay * p
        if self.penalised:
            g = g + o.l1 * np.sign(p)
        if self.penalised and o.decoupled:
            p = p - lr * o.weight_decay * p
        if isinstance(o, SGD):
            self.m = o.momentum * self.m + g
            self.p = p - lr * (g + o.momentum * self.m if o.nesterov else self.m)
        elif isinstance(o, AdaGrad):
            self.v = self.v + g ** 2
            self.p = p - lr * g / (np.sqrt(self.v) + o.eps)
        elif isinstance(o, RMSprop):
            self.v = o.rho * self.v + (1 - o.rho) * g ** 2
            self.p = p - lr * g / (np.sqrt(self.v) + o.eps)
        else:
            self.m = o.beta1 * self.m + (1 - o.beta1) * g
            self.v = o.beta2 * self.v + (1 - o.beta2) * g ** 2
            m_hat, v_hat = self.m / (1 - o.beta1 ** self.t), self.v / (1 - o.beta2 ** self.t)
            self.p = p - lr * m_hat / (np.sqrt(v_hat) + o.eps)

    def slots(self):
        """The state, in the order of optimizer.slots."""
        if isinstance(self.o, Adam):
            return [self.m, self.v]
        return [self.m if isinstance(self.o, SGD) else self.v][:len(self.o.slots)]


def step(where, optimizer, param, grad, slots, rates, is_bias=False):
    """One step, by the specification or by the kernels of an instruction set."""
    if where == "numpy":
        specification.apply(optimizer, param, grad, slots, rates, is_bias)
        return
    two = (*(slot.reshape(-1) for slot in slots.values()), None, None)[:2]
    assert kernels.load(where, param.dtype.name).update_arrays(
        param.reshape(-1), grad.reshape(-1), *two, tuple(rates), optimizer.rule(), is_bias)


def tolerance(dtype):
    """After some steps of size 1 at most, of numbers of size 1."""
    return {"rtol": 300 * np.finfo(dtype).eps, "atol": 30 * np.finfo(dtype).eps}


# The formulas ---------------------------------------------------------------------------------------------

@pytest.mark.any_isa
@pytest.mark.parametrize("is_bias", [False, True], ids=["weights", "biases"])
@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("where", ["numpy", *ISAS])
def test_formula(where, rule, penalties, is_bias, dtype, rng):
    optimizer = with_settings(rule, **PENALTIES[penalties])
    for shape in [(), (1,), (3, 0), (7,), (8,), (16,), (3, 11), (5, 33), (1000,)]:
        param = np.asarray(rng.standard_normal(shape), dtype)
        param[param < -1] = 0                                   # where L1 has no direction
        slots = {name: np.zeros(shape, dtype) for name in optimizer.slots}
        hand = ByHand(optimizer, param, is_bias)
        for t, rates in enumerate(optimizer.rates(0, 6)):
            grad = np.asarray(rng.standard_normal(shape), dtype)
            if t == 3:
                grad[...] = 0
            before = grad.copy()
            step(where, optimizer, param, grad, slots, rates, is_bias)
            hand.step(grad)
            assert_array_equal(grad, before)
        assert_allclose(param, hand.p, **tolerance(dtype))
        for slot, expected in zip(slots.values(), hand.slots(), strict=True):
            assert_allclose(slot, expected, **tolerance(dtype))


# Decoupled weight decay: a setting of any optimizer, though AdamW alone of those shipped has it.

def decoupled(rule, **settings):
    """Like RULES[rule], with decoupled weight decay."""
    return with_settings(rule, {"decoupled": True}, **settings)


@pytest.mark.any_isa
@pytest.mark.parametrize("is_bias", [False, True], ids=["weights", "biases"])
@pytest.mark.parametrize("settings", [{}, {"clip_value": 0.5}, {"l1": 0.05},
                                      {"l1": 0.05, "clip_value": 0.5, "decay_biases": True}], ids=str)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("where", ["numpy", *ISAS])
def test_decoupled_decay(where, rule, settings, is_bias, dtype, rng):
    optimizer = decoupled(rule, weight_decay=0.3, **settings)
    param = rng.standard_normal(37).astype(dtype)
    slots = {name: np.zeros(37, dtype) for name in optimizer.slots}
    hand = ByHand(optimizer, param, is_bias)
    for rates in optimizer.rates(0, 5):
        grad = rng.standard_normal(37).astype(dtype)
        step(where, optimizer, param, grad, slots, rates, is_bias)
        hand.step(grad)
    assert_allclose(param, hand.p, **tolerance(dtype))
    for slot, expected in zip(slots.values(), hand.slots(), strict=True):
        assert_allclose(slot, expected, **tolerance(dtype))


@pytest.mark.parametrize("clip_norm", [None, 0.3])
@pytest.mark.parametrize("rule", RULES)
def test_decoupled_decay_in_training(rule, clip_norm, backend, rng):
    """Also of layers with few outputs, whose weights are updated transposed."""
    X, y = rng.standard_normal((20, 40)), rng.integers(0, 3, 20)
    model = MLP([40, 36, 3], dtype="float64", seed=0)
    optimizer = decoupled(rule, weight_decay=0.3, clip_norm=clip_norm)
    hands = [ByHand(optimizer, w) for w in model.weights]
    for _ in range(3):
        gradients = model.loss_and_gradients(X, y)[1]
        norm = math.sqrt(sum((g ** 2).sum() for g in (*gradients.weights, *gradients.biases)))
        scale = 1.0 if clip_norm is None else min(1.0, clip_norm / norm)
        for hand, gradient in zip(hands, gradients.weights, strict=True):
            hand.step(scale * gradient)
        model.train_step(X, y, optimizer)
    for weights, hand in zip(model.weights, hands, strict=True):
        assert_allclose(weights, hand.p, rtol=1e-9, atol=1e-11)


@pytest.mark.any_isa
@pytest.mark.parametrize("settings", [{}, {"weight_decay": 0.1}, {"clip_value": 0.5, "l1": 0.1}], ids=str)
@pytest.mark.parametrize("make", [with_settings, decoupled])
@pytest.mark.parametrize("rule", RULES)
def test_infinite_parameters(rule, make, settings, dtype):
    """They stay, unless something decays: infinity less infinity is no number. The same in every backend."""
    optimizer = make(rule, **{"weight_decay": 0.0, **settings})
    results = []
    for where in ("numpy", *ISAS):
        param, grad = np.array([np.inf, -np.inf, 1, 0] * 9, dtype), np.full(36, 0.1, dtype)
        slots = {name: np.zeros(36, dtype) for name in optimizer.slots}
        with np.errstate(invalid="ignore"):
            step(where, optimizer, param, grad, slots, optimizer.rates(0, 1)[0])
        results.append(param)
        assert_allclose(param, results[0], **tolerance(dtype))
    infinite = results[0][[0, 1]]
    if "weight_decay" in settings:
        assert np.isnan(infinite).all()
    else:
        assert_array_equal(infinite, [np.inf, -np.inf])


def test_sgd_update_of_infinite_parameters(backend, dtype):
    param = np.array([np.inf, 1, -np.inf], dtype)
    F.sgd_update(param, np.ones(3, dtype), 0.5)
    assert_array_equal(param, [np.inf, 0.5, -np.inf])


@pytest.mark.parametrize("rule", RULES)
def test_scale_of_the_gradient(rule, dtype, rng):
    """What a limit on the norm leaves of it comes before the limit on values."""
    optimizer = with_settings(rule, clip_value=0.5)
    slots = [{name: np.zeros(20, dtype) for name in optimizer.slots} for _ in range(2)]
    one, grad = rng.standard_normal(20).astype(dtype), rng.standard_normal(20).astype(dtype)
    two, rates = one.copy(), optimizer.rates(0, 1)[0]
    specification.apply(optimizer, one, grad, slots[0], rates, scale=(0.5, 0.5))
    specification.apply(optimizer, two, grad / 4, slots[1], rates)
    assert_array_equal(one, two)


@pytest.mark.any_isa
@pytest.mark.parametrize("settings", [{}, {"l1": 0.01, "clip_value": 0.7, "weight_decay": 0.01}], ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_same_bits_on_every_isa(rule, settings, dtype, rng):
    optimizer = with_settings(rule, **settings)
    start, grads = rng.standard_normal(203).astype(dtype), rng.standard_normal((9, 203)).astype(dtype)
    results = []
    for isa, length in itertools.product([isa for isa in ISAS if isa != "portable"], [203, 7]):
        module = kernels.load(isa, dtype.name)
        param, slots = start.copy(), [np.zeros(203, dtype) for _ in optimizer.slots]
        for rates, grad in zip(optimizer.rates(0, 9), grads, strict=True):
            for i in range(0, 203, length):                     # in pieces: lanes do not know of each other
                part = slice(i, i + length)
                two = (*(slot[part] for slot in slots), None, None)[:2]
                assert module.update_arrays(param[part], grad[part], *two, tuple(rates), optimizer.rule(),
                                            False)
        results.append(np.concatenate([param, *slots]).tobytes())
    assert len(set(results)) == 1


@pytest.mark.parametrize("isa", ISAS)
def test_kernel_refuses(isa, dtype):
    """False, with nothing written, for sizes that do not fit and arrays that overlap."""
    module = kernels.load(isa, dtype.name)
    buffer = np.arange(40, dtype=dtype)
    before, rates = buffer.copy(), (0.1, 1.0, 0.0)
    a, b, c, d, close = buffer[:8], buffer[8:16], buffer[16:24], buffer[24:32], buffer[4:12]
    adam, momentum = Adam().rule(), SGD(0.1, momentum=0.9).rule()
    for arrays in [(a, b[:7], c, d), (a, b, c[:7], d), (a, b, c, d[:7]), (a, b, c, None), (a, b, None, d),
                   (a, close, c, d), (a, b, close, d), (a, b, c, close), (a, b, c, c), (a, b, c, b),
                   (a, a, c, d)]:
        assert not module.update_arrays(*arrays, rates, adam, False)
    assert not module.update_arrays(a, b, None, None, rates, momentum, False)
    assert_array_equal(buffer, before)


@pytest.mark.any_isa
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("where", ["numpy", *ISAS])
def test_zeros_stay_zero_and_nan_is_not_swallowed(where, rule, dtype):
    """Padding must stay zero; a gradient that is no number must be seen in the parameter, clipped or not."""
    for settings in ({}, {"clip_value": 0.5, "l1": 0.1, "weight_decay": 0.1}):
        optimizer = with_settings(rule, **settings)
        param, grad = np.zeros(24, dtype), np.zeros(24, dtype)
        grad[3], grad[17] = np.nan, 1
        slots = {name: np.zeros(24, dtype) for name in optimizer.slots}
        for rates in optimizer.rates(0, 3):
            step(where, optimizer, param, grad, slots, rates)
        assert np.isnan(param[3]) and param[17] < 0
        others = np.delete(np.arange(24), [3, 17])
        assert not param[others].any()
        assert not any(slot[others].any() for slot in slots.values())


@pytest.mark.parametrize("rule", ["momentum", "nesterov", "adam"])
@pytest.mark.parametrize("isa", ISAS)
def test_subnormal_state_is_flushed(isa, rule, dtype):
    """And not in subnormal numbers, where 0.9 times the smallest is the smallest again."""
    optimizer = with_settings(rule)
    param, grad = np.zeros(9, dtype), np.zeros(9, dtype)
    slots = {name: np.full(9, np.finfo(dtype).tiny, dtype) for name in optimizer.slots}
    step(isa, optimizer, param, grad, slots, optimizer.rates(0, 1)[0])
    assert not slots[optimizer.slots[0]].any()


# The functions --------------------------------------------------------------------------------------------

FUNCTIONS = {
    "adagrad_update": (AdaGrad, ("squares",), {"eps": 1e-3}),
    "rmsprop_update": (RMSprop, ("squares",), {"rho": 0.8, "eps": 1e-3}),
    "adam_update": (Adam, ("first_moment", "second_moment"), {"beta1": 0.8, "beta2": 0.95, "eps": 1e-3}),
}


@pytest.mark.parametrize("layout", OUT_LAYOUTS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("function", [*FUNCTIONS, "adamw"])
def test_functional(function, weight_decay, layout, backend, dtype, rng):
    decoupled = function == "adamw"
    name = "adam_update" if decoupled else function
    cls, names, numbers = FUNCTIONS[name]
    optimizer = (AdamW if decoupled else cls)(0.05, **numbers, weight_decay=weight_decay)
    extra = {"decoupled": True} if decoupled else {}
    for shape in [(), (5,), (0, 3), (4, 7)]:
        param = lay_out(np.asarray(rng.standard_normal(shape), dtype), layout)
        slots = {slot: lay_out(np.zeros(shape, dtype), layout) for slot in names}
        hand = ByHand(optimizer, param)
        for t in range(1, 5):
            grad = lay_out(np.asarray(rng.standard_normal(shape), dtype), layout)
            if name == "adam_update":
                extra["step"] = t
            lr = np.float64(0.05)                               # a NumPy scalar must not widen float32
            result = getattr(F, name)(param, grad, lr, **slots, **numbers, weight_decay=weight_decay, **extra)
            assert result is None
            hand.step(grad)
        assert_allclose(param, hand.p, **tolerance(dtype))
        for slot, expected in zip(slots.values(), hand.slots(), strict=True):
            assert_allclose(slot, expected, **tolerance(dtype))


# Rates ----------------------------------------------------------------------------------------------------

def test_rates_do_not_depend_on_how_a_run_is_cut():
    for optimizer in (Adam(0.01), AdamW(schedules.Cosine(0.1, 50)),
                      SGD(schedules.Exponential(0.1, 0.99), momentum=0.5)):
        whole = optimizer.rates(0, 200)
        pieces = np.concatenate([optimizer.rates(first, 7) for first in range(0, 196, 7)])
        assert_array_equal(whole[:196], pieces)
        one = np.concatenate([optimizer.rates(step, 1) for step in range(200)])
        assert_array_equal(whole, one)


def test_rates():
    rates = AdamW(0.1, beta1=0.9, beta2=0.99, weight_decay=0.5).rates(0, 400)
    t = np.arange(1, 401)
    expected = [0.1 / (1 - 0.9 ** t), 1 / np.sqrt(1 - 0.99 ** t), np.full(400, 0.05)]
    assert_allclose(rates, np.stack(expected, axis=1), rtol=1e-12)
    assert_array_equal(SGD(0.1, weight_decay=0.5).rates(3, 2), [[0.1, 1, 0], [0.1, 1, 0]])
    assert Adam().rates(5, 0).shape == (0, 3)
    assert_array_equal(Adam(0.1).rates(10 ** 12, 1), [[0.1, 1, 0]])
    assert_array_equal(Adam(0.1, beta1=0, beta2=0).rates(0, 1), [[0.1, 1, 0]])


@pytest.mark.parametrize("lr", [0.1, schedules.Exponential(0.1, 0.9)], ids=repr)
@pytest.mark.parametrize("cls", [SGD, Adam, AdamW])
def test_a_row_of_rates_is_contiguous(cls, lr):
    """The kernels read three numbers side by side."""
    assert cls(lr).rates(0, 5).strides[1] == 8


def test_learning_rate_that_is_a_function():
    optimizer = SGD(lambda step: 1 / (step + 1))
    assert_array_equal(optimizer.learning_rates(1, 3), [1 / 2, 1 / 3, 1 / 4])
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^lr\(2\).*finite number"):
            SGD(lambda step, wrong=wrong: wrong if step == 2 else 0.1).learning_rates(0, 4)
    with pytest.raises(TypeError, match=r"^lr\(0\).*number"):
        SGD(lambda step: "0.1").learning_rates(0, 1)

    class Own(schedules.Schedule):
        def at(self, steps):
            return np.where(steps == 3, np.nan, 0.5)

    assert_array_equal(SGD(Own()).learning_rates(0, 3), [0.5, 0.5, 0.5])
    with pytest.raises(ValueError, match=r"^lr\(3\).*got nan"):
        SGD(Own()).learning_rates(0, 4)


# Limits on the norm ---------------------------------------------------------------------------------------

def test_norm_scale(dtype):
    gradients = [np.full((2, 2), 3, dtype), np.array([0, 8], dtype)]
    infinite, no_number = [np.array([np.inf], dtype)], [np.array([np.nan], dtype)]
    for limit, arrays, expected in ((None, gradients, 1), (10.0, gradients, 1), (5.0, gradients, 0.5),
                                    (5.0, infinite, 0), (5.0, no_number, 1)):
        assert math.prod(specification.norm_scale(limit, arrays)) == expected       # the norm is 10


# State ----------------------------------------------------------------------------------------------------

def some_state(optimizer, model, rng, step=7):
    """Numbers that could have been left by training."""
    state = optimizer.state_of(model.core.parameters)
    state.step = step
    for parameters in state.slots.values():
        for array in (*parameters.weights, *parameters.biases):
            array[...] = np.abs(rng.standard_normal(array.shape))
    return state


@pytest.mark.parametrize("rule", RULES)
def test_state_round_trip(rule, dtype, rng, tmp_path):
    optimizer = with_settings(rule)
    one, two = MLP([4, 6, 3], dtype=dtype, seed=0), MLP([4, 6, 3], dtype=dtype, seed=1)
    some_state(optimizer, one, rng)
    saved = optimizer.get_state(one)
    assert list(saved) == ["step", *(f"{slot}.{kind}.{i}" for slot in optimizer.slots for i in (0, 1)
                                     for kind in ("weights", "biases"))]
    np.savez(tmp_path / "state.npz", **saved)
    other = with_settings(rule)
    with np.load(tmp_path / "state.npz") as file:               # no pickle in it
        other.set_state(two, file)
    again = other.get_state(two)
    assert list(again) == list(saved)
    for name in saved:
        assert again[name].dtype == saved[name].dtype
        assert_array_equal(again[name], saved[name])
    assert other.state_of(two.core.parameters).step == 7
    for name, array in saved.items():                           # copies: neither side is aliased
        array[...] = 0
        assert name == "step" or optimizer.get_state(one)[name].all()
        assert name == "step" or other.get_state(two)[name].all()


def test_state_of_models_is_apart(rng):
    optimizer = SGD(0.1, momentum=0.9)
    one, two = MLP([4, 3], seed=0), MLP([5, 3], seed=0)
    some_state(optimizer, one, rng)
    assert optimizer.get_state(two)["step"] == 0
    assert not optimizer.get_state(two)["velocity.weights.0"].any()
    assert optimizer.get_state(two)["velocity.weights.0"].shape == (5, 3)


def test_state_of_a_schedule(rng):
    optimizer = SGD(schedules.WarmUp(2, then=schedules.ReduceOnPlateau(1.0, patience=0)))
    model = MLP([4, 3], seed=0)
    for loss in (1.0, 2.0):
        optimizer.observe(loss)
    saved = optimizer.get_state(model)
    assert {name: float(value) for name, value in saved.items()} == {
        "step": 0, "schedule.lr": 0.1, "schedule.best": 1, "schedule.waited": 0, "schedule.cooling": 0}
    other = SGD(schedules.WarmUp(2, then=schedules.ReduceOnPlateau(1.0, patience=0)))
    other.set_state(model, saved)
    assert_array_equal(other.learning_rates(0, 4), optimizer.learning_rates(0, 4))
    optimizer.observe(1.5)
    other.observe(1.5)
    assert other.lr(10) == optimizer.lr(10) == 0.1 * 0.1


def test_bad_state_changes_nothing(rng):
    optimizer, model = Adam(), MLP([4, 3], seed=0)
    some_state(optimizer, model, rng)
    good = optimizer.get_state(model)

    def check(error, message, **changes):
        state = {name: value for name, value in {**good, **changes}.items() if value is not None}
        with pytest.raises(error, match=message):
            optimizer.set_state(model, state)
        for name, value in optimizer.get_state(model).items():
            assert_array_equal(value, good[name])

    moment = good["second_moment.weights.0"]
    changed = {"step": np.array(99), "first_moment.weights.0": 0 * moment}
    check(ValueError, r"^state: expected an entry 'second_moment.biases.0'",
          **{**changed, "second_moment.biases.0": None})
    check(ValueError, r"^state: unknown entry 'velocity.weights.0'",
          **{**changed, "velocity.weights.0": moment})
    check(ValueError, r"^state\['second_moment.weights.0'\].*shape \(4, 3\)",
          **{**changed, "second_moment.weights.0": moment.T})
    check(TypeError, r"^state\['second_moment.weights.0'\].*dtype float32",
          **{**changed, "second_moment.weights.0": moment.astype(np.float64)})
    check(ValueError, r"^state\['second_moment.weights.0'\].*sums of squares",
          **{**changed, "second_moment.weights.0": -moment})
    check(ValueError, r"^state\['step'\].*from 0 to", **{**changed, "step": np.array(-1)})
    check(TypeError, r"^state\['step'\].*integer", **{**changed, "step": np.array(1.5)})
    check(TypeError, r"^state\['step'\].*integer", **{**changed, "step": np.array([1, 2])})
    with pytest.raises(TypeError, match="^state: expected a dict"):
        optimizer.set_state(model, list(good.items()))
    with pytest.raises(ValueError, match="^state"):
        SGD(0.1).set_state(model, good)


def test_the_state_goes_on_after_saving(dtype, rng):
    """Training, and training that was interrupted, saved and taken up again, end with the same bits."""
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    one, two = (MLP([4, 8, 3], dtype=dtype, seed=0) for _ in range(2))
    first, second = (SGD(0.1, momentum=0.9, nesterov=True) for _ in range(2))
    for _ in range(6):
        one.train_step(X, y, first)
    for _ in range(3):
        two.train_step(X, y, second)
    file = io.BytesIO()
    np.savez(file, **second.get_state(two))
    file.seek(0)
    third = SGD(0.1, momentum=0.9, nesterov=True)
    third.set_state(two, np.load(file))
    for _ in range(3):
        two.train_step(X, y, third)
    assert_array_equal(one.core.parameters.buffer, two.core.parameters.buffer)


# In the engine --------------------------------------------------------------------------------------------

SETTINGS = [{}, {"weight_decay": 0.05, "l1": 0.01, "clip_value": 0.05}, {"clip_norm": 0.2},
            {"clip_norm": 0.2, "clip_value": 0.02, "weight_decay": 0.05, "decay_biases": True}]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_training_follows_the_formula(rule, settings, backend, rng):
    """Steps of a model against the formulas on gradients of its own, in float64."""
    X, y = rng.standard_normal((37, 5)), rng.integers(0, 3, 37)
    optimizer = with_settings(rule, **settings)
    optimizer.lr = schedules.Exponential(0.02, 0.9)
    model, other = (MLP([5, 19, 3], activation="tanh", dtype="float64", seed=0) for _ in range(2))
    hands = {}
    for kind in ("weights", "biases"):
        for i, array in enumerate(getattr(other, kind)):
            hands[kind, i] = ByHand(optimizer, array, is_bias=kind == "biases")
    for t in range(6):
        gradients = other.loss_and_gradients(X, y)[1]
        gradients = {key: getattr(gradients, key[0])[key[1]] for key in hands}
        norm = math.sqrt(sum((g ** 2).sum() for g in gradients.values()))
        scale = min(1.0, optimizer.clip_norm / norm) if optimizer.clip_norm else 1.0
        for (kind, i), hand in hands.items():
            hand.step(scale * gradients[kind, i], lr=0.02 * 0.9 ** t)
            getattr(other, kind)[i][...] = hand.p
        model.train_step(X, y, optimizer)
    for (kind, i), hand in hands.items():
        assert_allclose(getattr(model, kind)[i], hand.p, rtol=1e-9, atol=1e-11)
        slots = optimizer.state_of(model.core.parameters).slots.values()
        for slot, expected in zip(slots, hand.slots(), strict=True):
            assert_allclose(getattr(slot, kind)[i], expected, rtol=1e-8, atol=1e-11)
    assert optimizer.get_state(model)["step"] == 6


@pytest.mark.parametrize("settings", SETTINGS[:3], ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_backends_agree(rule, settings, dtype, rng):
    """Many steps of the engine, with batches that do not divide the samples and rows that end in pads."""
    X, y = rng.standard_normal((150, 11)), rng.integers(0, 7, 150)
    models = []
    for name in ("numpy", "cython"):
        with backends.use_backend(name):
            model = MLP([11, 40, 7], dtype=dtype, seed=0)
        optimizer = with_settings(rule, **settings)
        model.fit(X, y, epochs=3, batch_size=32, optimizer=optimizer, progress=False)
        models.append(model)
        assert int(optimizer.get_state(model)["step"]) == 15
        pads = model.core.parameters.buffer.copy()
        size = sum(np.count_nonzero(a) for a in (*model.weights, *model.biases))
        assert np.count_nonzero(pads) == size                   # nothing but parameters
        for slot in optimizer.state_of(model.core.parameters).slots.values():
            assert np.count_nonzero(slot.buffer) == sum(map(np.count_nonzero, (*slot.weights, *slot.biases)))
    for one, two in zip(models[0].weights, models[1].weights, strict=True):
        assert_allclose(one, two, rtol=1e-2, atol=2e-3 if dtype == np.float32 else 1e-9)


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.1, "l1": 1e-3, "clip_value": 0.05}], ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_same_bits_however_it_runs(rule, settings, dtype, rng):
    """Threads, and how an epoch is cut into runs, leave no trace."""
    X, y = rng.standard_normal((200, 33)), rng.integers(0, 10, 200)
    results = set()
    for threads, cut in [(1, False), (2, False), (1, True)]:
        model, optimizer = MLP([33, 129, 65, 10], dtype=dtype, seed=0), with_settings(rule, **settings)
        before = fastmlp.get_num_threads()
        try:
            fastmlp.set_num_threads(threads)
            if cut:
                for start in range(0, 200, 50):
                    model.train_step(X[start:start + 50], y[start:start + 50], optimizer)
            else:
                model.fit(X, y, epochs=1, batch_size=50, optimizer=optimizer, shuffle=False, progress=False)
        finally:
            fastmlp.set_num_threads(before)
        state = optimizer.get_state(model)
        results.add(b"".join(array.tobytes() for array in (*model.weights, *model.biases, *state.values())))
    assert len(results) == 1


def test_fit_tells_the_schedule(rng):
    X, y = rng.standard_normal((40, 5)), rng.integers(0, 3, 40)
    schedule = schedules.ReduceOnPlateau(1e-9, patience=1)
    MLP([5, 3], seed=0).fit(X, y, epochs=5, optimizer=SGD(schedule), progress=False)
    assert schedule(0) == pytest.approx(1e-11)          # nothing is learned: reduced twice


# Settings that do not fit ---------------------------------------------------------------------------------

STEPPING = [SGD, AdaGrad, RMSprop, Adam, AdamW]


@pytest.mark.parametrize("cls", STEPPING)
@pytest.mark.parametrize("name, wrong", [
    ("lr", -0.1), ("lr", math.nan), ("lr", math.inf), ("weight_decay", -1e-9), ("weight_decay", math.inf),
    ("l1", -1.0), ("l1", math.nan), ("clip_value", 0.0), ("clip_value", -1.0), ("clip_value", math.inf),
    ("clip_norm", 0.0), ("clip_norm", math.nan),
])
def test_setting_out_of_range(cls, name, wrong):
    with pytest.raises(ValueError, match=rf"^{name}: .*finite number from .*got {re.escape(repr(wrong))}"):
        cls(**{name: wrong})


@pytest.mark.parametrize("cls, name", [(SGD, "momentum"), (RMSprop, "rho"), (Adam, "beta1"),
                                       (AdamW, "beta2")])
@pytest.mark.parametrize("wrong", [-0.1, 1.0, 1, 1.1, math.nan])
def test_share_out_of_range(cls, name, wrong):
    with pytest.raises(ValueError, match=rf"^{name}: expected a finite number from 0 up"):
        cls(**{name: wrong})


@pytest.mark.parametrize("cls", [AdaGrad, RMSprop, Adam, AdamW])
@pytest.mark.parametrize("wrong", [0, 1e-40, -1e-8, math.inf])
def test_eps_out_of_range(cls, wrong):
    with pytest.raises(ValueError, match="^eps: expected a finite number from 1e-37 up"):
        cls(eps=wrong)


@pytest.mark.parametrize("cls, name", [
    *[(cls, name) for cls in STEPPING for name in ("lr", "weight_decay", "l1")],
    (SGD, "momentum"), (RMSprop, "rho"), (Adam, "beta1"), (Adam, "beta2"), (Adam, "eps")])
@pytest.mark.parametrize("wrong", [None, "0.1", [0.1], 1j, True])
def test_setting_that_is_no_number(cls, name, wrong):
    with pytest.raises(TypeError, match=rf"^{name}: expected a number"):
        cls(**{name: wrong})


def test_nesterov_needs_momentum():
    with pytest.raises(ValueError, match="^nesterov"):
        SGD(nesterov=True)


def test_repr():
    assert repr(SGD(0.1)) == "SGD(lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)"
    assert repr(Adam(l1=0.1, clip_norm=1)) == (
        "Adam(lr=0.001, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.0, l1=0.1, clip_norm=1.0)")
    for optimizer in [*RULES.values(), LBFGS(memory=5, weight_decay=0.1, decay_biases=True)]:
        assert repr(eval(repr(optimizer))) == repr(optimizer)


def test_every_rule_has_an_optimizer():
    """And as many slots as the kernels give it. The rule that no settings ask for stores the gradient."""
    assert tuple(Settings()) == (CODES["gradient"], 0.0, 0.0, 1.0, 0.0, 0.0, math.inf, False, False,
                                 False)
    rules = {optimizer.rule().rule: optimizer for optimizer in RULES.values()}
    assert sorted([CODES["gradient"], *rules]) == sorted(CODES.values())
    for code, optimizer in rules.items():
        assert len(optimizer.slots) == ops.RULES[code].slots


# As scikit-learn has them --------------------------------------------------------------------------------

@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("weights", [None, [1.5, 0.0, 2.0, 4.5, 0.0]], ids=["", "weights"])
def test_penalties_divided_by_what_the_batch_weighs(backend, dtype, rule, weights, rng):
    X, y = rng.standard_normal((5, 4)), rng.integers(0, 3, 5)
    weight = 5 if weights is None else 8
    for biases in (False, True):
        models = []
        for settings in ({"weight_decay": 0.8, "l1": 0.4, "divide_penalty": True},
                         {"weight_decay": 0.8 / weight, "l1": 0.4 / weight}):
            if RULES[rule].decoupled:           # no penalty
                settings["weight_decay"] = 0.8
            with fastmlp.use_backend(backend):
                model = MLP([4, 20, 3], dtype=dtype, seed=0)
                optimizer = with_settings(rule, **settings, decay_biases=biases)
                for _ in range(3):
                    model.train_step(X, y, optimizer, sample_weight=weights)
            models.append(model)
        arrays = [(*model.weights, *model.biases) for model in models]
        for w, v in zip(*arrays):
            assert_allclose(w, v, rtol=1e-10 if dtype == np.float64 else 1e-4,
                            atol=1e-6 * (dtype != np.float64))


def test_the_last_batch_has_a_penalty_of_its_own(backend, rng):
    """Without a gradient of the loss: p = p (1 - lr decay / n) at every step."""
    with fastmlp.use_backend(backend):
        model = MLP([3, 2], loss=lambda z, t: (0.0, np.zeros_like(z)), dtype="float64", seed=0)
        start = model.weights[0].copy()
        model.fit(np.zeros((7, 3)), np.zeros(7), epochs=1, batch_size=5, progress=False,
                  optimizer=SGD(0.5, weight_decay=0.4, divide_penalty=True))
    assert_allclose(model.weights[0], start * (1 - 0.5 * 0.4 / 5) * (1 - 0.5 * 0.4 / 2), rtol=1e-14)


def test_eps_hat(backend, dtype, rng):
    """p = p - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps), where eps is not small."""
    X, y = rng.standard_normal((6, 4)), rng.integers(0, 3, 6)
    with fastmlp.use_backend(backend):
        model = MLP([4, 3], dtype=dtype, seed=0)
        p = model.weights[0].astype(np.float64)
        m, v = np.zeros_like(p), np.zeros_like(p)
        optimizer = Adam(0.1, 0.8, 0.9, 0.05, eps_hat=True)
        for t in range(1, 5):
            g = model.loss_and_gradients(X, y)[1].weights[0].astype(np.float64)
            m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
            p -= 0.1 * math.sqrt(1 - 0.9 ** t) / (1 - 0.8 ** t) * m / (np.sqrt(v) + 0.05)
            model.train_step(X, y, optimizer)
            assert_allclose(model.weights[0], p, rtol=1e-10 if dtype == np.float64 else 1e-4)
    assert "eps_hat=True" in repr(optimizer) and "eps_hat" not in repr(Adam())
    assert repr(eval(repr(optimizer))) == repr(optimizer)


def test_lbfgs_divides_the_penalty(rng):
    pytest.importorskip("scipy")
    X, y = regression(rng)
    weights = rng.uniform(0.5, 2.0, len(X))
    results = []
    for weight, settings in ((None, {"weight_decay": 0.3 / len(X)}),
                             (weights, {"weight_decay": 0.3 / weights.sum()})):
        for own in (settings, {"weight_decay": 0.3, "divide_penalty": True}):
            model = MLP([3, 1], loss="mean_squared_error", dtype="float64", seed=0)
            LBFGS(tolerance=1e-9, **own).minimize(model, X, y, sample_weight=weight)
            results.append(model.weights[0].copy())
    assert_allclose(results[0], results[1], rtol=1e-9)
    assert_allclose(results[2], results[3], rtol=1e-9)
    assert not np.allclose(results[0], results[2], rtol=1e-6)


# L-BFGS ---------------------------------------------------------------------------------------------------

def regression(rng, rows=60):
    X = rng.standard_normal((rows, 3))
    return X, X @ np.array([[1.0], [-2.0], [0.5]]) + 3 + 0.1 * rng.standard_normal((rows, 1))


@pytest.mark.parametrize("decay_biases", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
def test_lbfgs_finds_the_ridge_solution(weight_decay, decay_biases, rng):
    pytest.importorskip("scipy")
    X, y = regression(rng)
    model = MLP([3, 1], loss="mean_squared_error", dtype="float64", seed=0)
    result = LBFGS(tolerance=1e-9, weight_decay=weight_decay, decay_biases=decay_biases).minimize(model, X, y)
    A = np.hstack([X, np.ones((len(X), 1))])
    penalty = np.diag([weight_decay] * 3 + [weight_decay * decay_biases])
    expected = np.linalg.solve(2 * A.T @ A / len(X) + penalty, 2 * A.T @ y / len(X))
    assert result.converged
    assert_allclose(np.vstack([model.weights[0], model.biases[0][None]]), expected, rtol=1e-4)
    assert result.losses[-1] == model.loss_and_gradients(X, y)[0]


def test_lbfgs_of_a_network(backend, dtype, rng):
    pytest.importorskip("scipy")
    X, y = rng.standard_normal((90, 5)), rng.integers(0, 3, 90)
    model = MLP([5, 16, 3], activation="tanh", dtype=dtype, seed=0)
    optimizer = LBFGS(max_iter=100)
    before = model.loss_and_gradients(X, y)[0]
    result = optimizer.minimize(model, X, y)
    assert result.losses[-1] < 0.1 * before
    assert all(b <= a for a, b in itertools.pairwise(result.losses))
    assert optimizer.get_state(model).keys() == {"step"}
    assert int(optimizer.get_state(model)["step"]) == len(result.losses)
    # pads are zeros still
    for w in model.weights:
        assert w.base is not None
    total = sum(float(abs(a).sum()) for a in (*model.weights, *model.biases))
    assert_allclose(float(abs(model.core.parameters.buffer).sum()), total, rtol=1e-5)


def test_lbfgs_stops_when_told_and_keeps_what_it_has(rng):
    pytest.importorskip("scipy")
    X, y = regression(rng)
    model = MLP([3, 4, 1], activation="tanh", loss="mean_squared_error", dtype="float64", seed=0)
    seen = []

    def third(iteration, loss):
        seen.append((iteration, loss, model.weights[0].copy()))
        return iteration == 2

    result = LBFGS().minimize(model, X, y, callback=third)
    assert [iteration for iteration, _, _ in seen] == [0, 1, 2]
    assert not result.converged and len(result.losses) == 3
    assert_array_equal(model.weights[0], seen[-1][2])

    def interrupt(iteration, loss):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LBFGS().minimize(model, X, y, callback=interrupt)
    assert model.loss_and_gradients(X, y)[0] < result.losses[-1]


def test_fit_with_lbfgs(backend, rng):
    pytest.importorskip("scipy")
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    one, two = (MLP([4, 8, 3], activation="tanh", dtype="float64", seed=0) for _ in range(2))
    history = one.fit(X, y, optimizer=LBFGS(max_iter=20), progress=False)
    result = LBFGS(max_iter=20).minimize(two, X, y)
    assert len(result.losses) == 20
    assert_same([history["loss"], one.weights[0]], [result.losses, two.weights[0]], backend, "float64")


def test_lbfgs_max_iter(rng):
    pytest.importorskip("scipy")
    X, y = regression(rng)
    model = MLP([3, 4, 1], activation="tanh", loss="mean_squared_error", dtype="float64", seed=0)
    result = LBFGS(max_iter=2).minimize(model, X, y)
    assert len(result.losses) == 2 and not result.converged


def test_lbfgs_takes_no_steps():
    with pytest.raises(TypeError, match="LBFGS"):
        LBFGS().rule()
    assert LBFGS.full_batch and not Optimizer.full_batch


@pytest.mark.parametrize("settings, error", [
    ({"max_iter": 0}, ValueError), ({"max_iter": 1.5}, TypeError), ({"memory": 0}, ValueError),
    ({"tolerance": -1}, ValueError), ({"tolerance": "x"}, TypeError), ({"weight_decay": -1}, ValueError)])
def test_lbfgs_settings(settings, error):
    with pytest.raises(error, match=f"^{next(iter(settings))}"):
        LBFGS(**settings)


def test_lbfgs_without_scipy():
    code = ("import sys; sys.modules['scipy'] = sys.modules['scipy.optimize'] = None\n"
            "from fastmlp import LBFGS, MLP\n"
            "try:\n    LBFGS().minimize(MLP([2, 2]), [[0, 1]], [1])\n"
            "except ImportError as error:\n    print(error)\n")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == 'LBFGS needs the package scipy: pip install "fastmlp[lbfgs]"'


# L-BFGS, interrupted --------------------------------------------------------------------------------------

class TimeIsUp(Exception):
    pass


def test_lbfgs_keeps_the_last_iteration_whenever_it_is_interrupted(backend, rng):
    """An exception at the n-th evaluation, for every n: the parameters are those of an iteration, to the
    bit."""
    pytest.importorskip("scipy")
    X, y = regression(rng)
    evaluations = 0

    def loss(z, t):
        nonlocal evaluations
        evaluations += 1
        if evaluations == stop:
            raise TimeIsUp
        return float(((z - t) ** 2).mean()), 2 * (z - t) / z.size

    def make():
        return MLP([3, 5, 1], activation="tanh", loss=loss, dtype="float64", seed=0)

    stop, model = None, make()
    states = [model.core.parameters.buffer.copy()]
    LBFGS(max_iter=8).minimize(model, X, y,
                               callback=lambda *_: states.append(model.core.parameters.buffer.copy()))
    total, seen = evaluations, set()
    assert_array_equal(model.core.parameters.buffer, states[-1])
    for stop in range(1, total + 1):
        evaluations, model, optimizer = 0, make(), LBFGS(max_iter=8)
        with pytest.raises(TimeIsUp):
            optimizer.minimize(model, X, y)
        iterations = int(optimizer.get_state(model)["step"])
        assert_learned(model.core.parameters.buffer, states[iterations])
        seen.add(iterations)
        stop = None
        assert np.isfinite(model.train_step(X, y, SGD(0.01)))
    assert seen == set(range(len(states) - 1))


def test_lbfgs_and_exceptions_of_the_callback(backend, rng):
    pytest.importorskip("scipy")
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    model, states = MLP([4, 8, 3], activation="tanh", seed=0), []

    def third(*args):
        states.append(model.core.parameters.buffer.copy())
        if len(states) == 3:
            raise TimeIsUp

    for call in (lambda: LBFGS().minimize(model, X, y, callback=third),
                 lambda: model.fit(X, y, optimizer=LBFGS(), callbacks=[third], progress=False)):
        states.clear()
        with pytest.raises(TimeIsUp):
            call()
        assert_array_equal(model.core.parameters.buffer, states[-1])
    model.train_step(X, y, SGD(0.1))


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize("after", [0, 1, 4])
def test_lbfgs_leaves_the_finite_numbers(after, fitted, backend, rng):
    """The parameters are those of the last iteration whose loss was finite, and one warning says so."""
    pytest.importorskip("scipy")
    X, y = regression(rng)
    states = []

    def loss(z, t):
        good = len(states) <= after and after > 0
        return float(((z - t) ** 2).mean()) if good else math.nan, 2 * (z - t) / z.size

    model = MLP([3, 5, 1], activation="tanh", loss=loss, dtype="float64", seed=0)
    start = model.core.parameters.buffer.copy()

    def record(*_):
        states.append(model.core.parameters.buffer.copy())

    with pytest.warns(RuntimeWarning, match="LBFGS.*diverged.*learning rate") as raised:
        if fitted:
            model.fit(X, y, optimizer=LBFGS(max_iter=9), callbacks=[record], progress=False)
        else:
            LBFGS(max_iter=9).minimize(model, X, y, callback=record)
    assert len(raised) == 1 and raised[0].filename == __file__
    assert_array_equal(model.core.parameters.buffer, states[-1] if states else start)
    assert bool(states) == bool(after)


def test_lbfgs_of_features_that_are_not_finite(backend, rng):
    pytest.importorskip("scipy")
    X, y = regression(rng)
    X[3, 1] = np.inf
    model = MLP([3, 1], loss="mean_squared_error", seed=0)
    before = model.core.parameters.buffer.copy()
    with pytest.warns(RuntimeWarning, match="diverged"):
        result = LBFGS().minimize(model, X, y)
    assert not result.converged and not result.losses and "not finite" in result.message
    assert_array_equal(model.core.parameters.buffer, before)


def test_lbfgs_calls_of_its_callback_see_the_model(backend, rng):
    """Evaluations in between leave no trace."""
    pytest.importorskip("scipy")
    X, y = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    one, two = (MLP([4, 8, 3], activation="tanh", dtype="float64", seed=0) for _ in range(2))
    losses = []
    found = LBFGS(max_iter=9).minimize(
        one, X, y, callback=lambda *_: losses.append(one.loss_and_gradients(X, y)[0]))
    other = LBFGS(max_iter=9).minimize(two, X, y)
    assert_learned([losses, found.losses], [found.losses, other.losses])
    assert_learned(one.core.parameters.buffer, two.core.parameters.buffer)


# Assignments ----------------------------------------------------------------------------------------------

GOOD = {"lr": 0.25, "weight_decay": 0.5, "l1": 0.125, "clip_value": 2.0, "clip_norm": 4.0,
        "decay_biases": True,
        "momentum": 0.5, "nesterov": True, "rho": 0.5, "beta1": 0.25, "beta2": 0.75, "eps": 0.001,
        "max_iter": 3,
        "memory": 4, "tolerance": 0.01}
BAD = {"lr": -1, "weight_decay": -1, "l1": math.nan, "clip_value": 0, "clip_norm": "1", "momentum": 2,
       "rho": 1,
       "beta1": 1.0, "beta2": -0.5, "eps": 0, "max_iter": 0, "memory": 1.5, "tolerance": -1}


@pytest.mark.parametrize("cls", [*STEPPING, LBFGS])
def test_assigned_settings_are_those_of_the_constructor(cls):
    options = {name: value for name, value in GOOD.items() if name in cls.settable}
    optimizer = cls()
    for name, value in options.items():
        setattr(optimizer, name, value)
        assert getattr(optimizer, name) == value
    assert repr(optimizer) == repr(cls(**options))
    for name in set(options) & set(BAD):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: "):
            setattr(optimizer, name, BAD[name])
        assert getattr(optimizer, name) == GOOD[name]
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del optimizer.weight_decay


def test_nesterov_needs_momentum_when_assigned():
    optimizer = SGD(0.1)
    with pytest.raises(ValueError, match="^nesterov"):
        optimizer.nesterov = True
    optimizer.momentum, optimizer.nesterov = 0.9, True
    with pytest.raises(ValueError, match="^momentum: nesterov needs"):
        optimizer.momentum = 0
    assert repr(optimizer) == "SGD(lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.0)"


@pytest.mark.parametrize("cls, name, message", [
    (SGD, "momentun", "did you mean 'momentum'"), (Adam, "beta", "did you mean 'beta"),
    (SGD, "beta1", "^beta1: "),
    (Adam, "slots", "^slots: "), (SGD, "full_batch", "^full_batch: "), (AdamW, "decoupled", "^decoupled: "),
    (RMSprop, "beta2", "^beta2: "), (LBFGS, "lr", "^lr: "), (LBFGS, "l1", "^l1: "), (SGD, "eps", "^eps: "),
    (Adam, "whatever", "no attribute 'whatever'")])
def test_what_cannot_be_assigned(cls, name, message):
    optimizer = cls()
    before = repr(optimizer), optimizer.slots
    with pytest.raises(AttributeError, match=message):
        setattr(optimizer, name, 0.5)
    assert (repr(optimizer), optimizer.slots) == before


def test_assigned_settings_take_effect(backend, dtype, rng):
    """As if another optimizer with the same state went on."""
    X, y = rng.standard_normal((40, 4)), rng.integers(0, 3, 40)
    changes = [{"momentum": 0.9}, {"lr": 0.2, "nesterov": True}, {"weight_decay": 0.1, "clip_norm": 0.5},
               {"l1": 0.01, "decay_biases": True, "clip_value": 0.01}, {"lr": schedules.Step(0.1, 3)}]
    one, two = (MLP([4, 8, 3], dtype=dtype, seed=0) for _ in range(2))
    optimizer, options, saved = SGD(0.1), {"lr": 0.1}, None
    for change in [{}, *changes]:
        for name, value in change.items():
            setattr(optimizer, name, value)
        options |= change
        other = SGD(**options)
        if saved is not None:
            other.set_state(two, {**other.get_state(two), **saved})
        for model, rule in ((one, optimizer), (two, other)):
            model.fit(X, y, epochs=1, batch_size=16, optimizer=rule, progress=False)
        saved = other.get_state(two)
        assert_learned(one.core.parameters.buffer, two.core.parameters.buffer)


def test_a_subclass_may_have_attributes_of_its_own(rng):
    class Noted(SGD):
        def __init__(self, note):
            self.note = note
            super().__init__(0.1, momentum=0.5)

    optimizer = Noted("a")
    optimizer.more = 1
    with pytest.raises(ValueError, match="^momentum"):
        optimizer.momentum = 2
    other = fastmlp.MLP([4, 3], seed=0), optimizer
    other[0].train_step(np.eye(4), [0, 1, 2, 0], optimizer)
    assert (optimizer.note, optimizer.more, optimizer.momentum) == ("a", 1, 0.5)


@pytest.mark.filterwarnings("error")
def test_a_penalty_that_overflows_makes_no_warning(backend, rng):
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    X[:, 0] = 0
    model = MLP([3, 2], seed=0, dtype="float64")
    model.weights[0][0] = 1e200
    optimizer = SGD(1e-9, weight_decay=1e-3)
    history = model.fit(X, y, epochs=1, optimizer=optimizer, log_steps=True, progress=False)
    assert np.isinf(history.step_penalty[0]).all()


def test_nan_and_infinity_in_one_gradient_are_not_clipped(backend):
    model = MLP([2, 2, 2], seed=0, loss=lambda z, t: (1.0, np.full_like(z, np.inf)))
    model.weights[0][...] = [[1, -1], [1, -1]]
    model.weights[1][...] = 1
    with pytest.warns(RuntimeWarning, match="weights are not finite"):
        model.fit(np.ones((4, 2)), np.zeros((4, 2)), epochs=1, optimizer=SGD(0.5, clip_norm=1.0),
                  progress=False)
    assert_array_equal(model.weights[0], [[-np.inf, -1], [-np.inf, -1]])
    assert_array_equal(model.weights[1], [[-np.inf, -np.inf], [np.nan, np.nan]])


def test_a_velocity_ends_with_the_momentum(backend, rng):
    X, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    model, optimizer = MLP([3, 2], seed=0), SGD(0.1, momentum=0.9)
    model.fit(X, y, epochs=1, optimizer=optimizer, progress=False)
    optimizer.momentum = 0.0
    assert list(optimizer.get_state(model)) == ["step"]
    SGD(0.1).set_state(model, optimizer.get_state(model))
    assert optimizer.velocity(model.core.parameters) is None
