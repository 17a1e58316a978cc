"""Schedules against their published formulas, in Python's own arithmetic; settings that do not fit."""
from __future__ import annotations

import copy
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import MLP, SGD, Adam, schedules
from fastmlp.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    Step,
    WarmUp,
)

pytestmark = pytest.mark.any_isa

STEPS = 130


def sgdr(step, lr, low, first, growth):
    """Loshchilov and Hutter, equation 5, with the cycle found by counting."""
    length = first
    while step >= length:
        step, length = step - length, length * growth
    return low + 0.5 * (lr - low) * (1 + math.cos(math.pi * step / length))


def one_cycle(step, lr, steps, warm_up, start, end):
    """As in torch.optim.lr_scheduler.OneCycleLR."""
    def anneal(a, b, t):
        return b + (a - b) / 2 * (1 + math.cos(math.pi * t))

    peak = warm_up * steps - 1
    step = min(step, steps - 1)
    if step <= peak and peak > 0:
        return anneal(lr / start, lr, step / peak)
    peak = max(peak, 0)
    return anneal(lr, lr / start / end, (step - peak) / (steps - 1 - peak))


FORMULAS = [
    (Constant(0.3), lambda t: 0.3),
    (Step(0.3, every=7), lambda t: 0.3 * 0.1 ** (t // 7)),
    (Step(0.3, every=1, factor=0.9), lambda t: 0.3 * 0.9 ** t),
    (Step(0.3, every=[5, 6, 50], factor=0.5), lambda t: 0.3 * 0.5 ** ((t >= 5) + (t >= 6) + (t >= 50))),
    (Exponential(0.3, 0.95), lambda t: 0.3 * 0.95 ** t),
    (Exponential(0.3, 0.1, steps=60), lambda t: 0.3 * 0.1 ** (t / 60)),
    (InverseScaling(0.3), lambda t: 0.3 / math.sqrt(t + 1)),
    (InverseScaling(0.3, power=0.0), lambda t: 0.3),
    (InverseScaling(0.3, power=1.0), lambda t: 0.3 / (t + 1)),
    (InverseScaling(0.3, power=0.75), lambda t: 0.3 / (t + 1) ** 0.75),
    (Cosine(0.3, 50), lambda t: 0.15 * (1 + math.cos(math.pi * min(t, 50) / 50))),
    (Cosine(0.3, 50, low=0.1), lambda t: 0.1 + 0.1 * (1 + math.cos(math.pi * min(t, 50) / 50))),
    (Cosine(0.3, 10, low=0.1, restarts=True), lambda t: sgdr(t, 0.3, 0.1, 10, 1)),
    (Cosine(0.3, 10, restarts=True, growth=2), lambda t: sgdr(t, 0.3, 0.0, 10, 2)),
    (Cosine(0.3, 1, restarts=True, growth=3), lambda t: sgdr(t, 0.3, 0.0, 1, 3)),
    (OneCycle(0.3, 100), lambda t: one_cycle(t, 0.3, 100, 0.3, 25, 1e4)),
    (OneCycle(0.3, 97, warm_up=0.11, start_divisor=5, end_divisor=10),
     lambda t: one_cycle(t, 0.3, 97, 0.11, 5, 10)),
    (OneCycle(0.3, 90, warm_up=0.0), lambda t: one_cycle(t, 0.3, 90, 0.0, 25, 1e4)),
    (OneCycle(0.3, 90, warm_up=0.999, start_divisor=4), lambda t: one_cycle(t, 0.3, 90, 0.999, 4, 1e4)),
    (WarmUp(20, then=0.3), lambda t: 0.3 * min(1, (t + 1) / 21)),
    (WarmUp(0, then=0.3), lambda t: 0.3),
    (WarmUp(20, then=Exponential(0.3, 0.9)),
     lambda t: 0.3 * (t + 1) / 21 if t < 20 else 0.3 * 0.9 ** (t - 20)),
    (WarmUp(20, then=lambda t: 0.3 / (t + 1)), lambda t: 0.3 * (t + 1) / 21 if t < 20 else 0.3 / (t - 19)),
]


@pytest.mark.parametrize("schedule, formula", FORMULAS, ids=[repr(schedule) for schedule, _ in FORMULAS])
def test_formula(schedule, formula):
    expected = [formula(t) for t in range(STEPS)]
    assert_allclose(schedule.values(0, STEPS), expected, rtol=1e-12, atol=1e-16)
    assert schedule.values(5, 0).shape == (0,)
    assert (schedule.values(0, STEPS) >= 0).all()


@pytest.mark.parametrize("schedule", [schedule for schedule, _ in FORMULAS], ids=repr)
def test_every_way_to_ask_gives_the_same_bits(schedule):
    whole = schedule.values(0, STEPS)
    assert whole.dtype == np.float64
    assert_array_equal(whole, [schedule(step) for step in range(STEPS)])
    assert_array_equal(whole, np.concatenate([schedule.values(first, 13) for first in range(0, STEPS, 13)]))
    assert_array_equal(whole, SGD(schedule).learning_rates(0, STEPS))


def test_ends_are_exact():
    assert Cosine(0.3, 7, low=0.1)(0) == 0.3 and Cosine(0.3, 7, low=0.1)(7) == 0.1
    cycle = OneCycle(0.3, 41, warm_up=11 / 41)
    assert cycle(0) == 0.3 / 25 and cycle(10) == pytest.approx(0.3) and cycle(40) == 0.3 / 25 / 1e4
    assert WarmUp(3, then=0.3)(3) == 0.3


def test_far_away_steps():
    assert Exponential(0.3, 0.9)(10 ** 12) == 0
    assert Cosine(0.3, 10, restarts=True, growth=2)(10 * (2 ** 40 - 1)) == 0.3
    assert Step(0.3, every=10)(10 ** 15) == 0


def test_powers_of_multiplications():
    for base in (0.0, 0.5, 0.9, 0.999, 1.0):
        for n in (0, 1, 2, 3, 255, 256, 257, 1000, 12345):
            assert schedules.power(base, n) == schedules.powers(base, n, 2)[0]
            assert schedules.power(base, n) == pytest.approx(base ** n, rel=1e-11)


# What has been observed -----------------------------------------------------------------------------------

def test_reduce_on_plateau():
    schedule = ReduceOnPlateau(1.0, factor=0.5, patience=2, min_delta=0.1, cooldown=1, low=0.2)
    losses = [3.0, 2.0, 1.95, 1.92, 1.91,                # three in a row that are not better by more than 0.1
              5.0,                                       # uncounted
              5.0, 1.9, 1.9, 1.0,                        # reduced at the third; then better
              math.nan, math.nan, math.nan]              # no improvement
    rates = []
    for loss in losses:
        schedule.observe(loss)
        rates.append(schedule(99))
    assert rates == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.2]


def test_plateau_with_no_patience():
    schedule = ReduceOnPlateau(1.0, patience=0)
    for loss in (1.0, 1.0, 1.0):
        schedule.observe(loss)
    assert schedule(0) == pytest.approx(0.01)


def test_observation_reaches_through_warm_up():
    optimizer = SGD(WarmUp(3, then=ReduceOnPlateau(1.0, patience=0)))
    for loss in (1.0, 2.0):
        optimizer.observe(loss)
    assert_allclose(optimizer.learning_rates(0, 5), [0.025, 0.05, 0.075, 0.1, 0.1])
    SGD(0.1).observe(1.0)                                # and a number does not mind
    SGD(lambda step: 0.1).observe(1.0)
    Constant(0.1).observe(1.0)
    assert Constant(0.1).get_state() == {}


@pytest.mark.parametrize("rate, of_a_function, fixed", [
    (0.1, False, True), (lambda step: 0.1, True, False), (Constant(0.1), False, True),
    (ReduceOnPlateau(0.1), False, False), (WarmUp(2, 0.1), False, True),
    (WarmUp(2, lambda step: 0.1), True, False),
    (WarmUp(2, WarmUp(2, lambda step: 0.1)), True, False), (WarmUp(2, ReduceOnPlateau(0.1)), False, False),
], ids=repr)
def test_what_gives_the_rates(rate, of_a_function, fixed):
    optimizer = SGD(rate)
    assert (optimizer.rates_are_of_a_function, optimizer.rates_are_fixed) == (of_a_function, fixed)


# Settings that do not fit ---------------------------------------------------------------------------------

@pytest.mark.parametrize("make, name", [
    (lambda: Constant(-0.1), "lr"), (lambda: Constant(math.nan), "lr"), (lambda: Step(-1, 5), "lr"),
    (lambda: Step(1, 0), "every"), (lambda: Step(1, [3, 2]), "every"), (lambda: Step(1, [2, 2]), "every"),
    (lambda: Step(1, [0, 2]), r"every\[0\]"), (lambda: Step(1, 5, factor=-0.1), "factor"),
    (lambda: Exponential(1, math.inf), "factor"), (lambda: Exponential(1, 0.5, steps=0), "steps"),
    (lambda: InverseScaling(1, power=-1), "power"), (lambda: Cosine(1, 0), "steps"),
    (lambda: Cosine(1, 5, low=2), "low"), (lambda: Cosine(1, 5, low=-1), "low"),
    (lambda: Cosine(1, 5, restarts=True, growth=0), "growth"), (lambda: Cosine(1, 5, growth=2), "growth"),
    (lambda: OneCycle(1, 1), "steps"), (lambda: OneCycle(1, 9, warm_up=1.0), "warm_up"),
    (lambda: OneCycle(1, 9, start_divisor=0.5), "start_divisor"),
    (lambda: OneCycle(1, 9, end_divisor=0), "end_divisor"), (lambda: WarmUp(-1, 0.1), "steps"),
    (lambda: WarmUp(1, -0.1), "then"), (lambda: ReduceOnPlateau(1, factor=1), "factor"),
    (lambda: ReduceOnPlateau(1, patience=-1), "patience"),
    (lambda: ReduceOnPlateau(1, min_delta=-1), "min_delta"),
    (lambda: ReduceOnPlateau(1, cooldown=-1), "cooldown"), (lambda: ReduceOnPlateau(1, low=2), "low"),
    (lambda: Constant(0.1)(-1), "step"), (lambda: WarmUp(1, lambda step: -1.0)(0), r"then\(0\)"),
])
def test_out_of_range(make, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        make()


@pytest.mark.parametrize("make, name", [
    (lambda: Constant("0.1"), "lr"), (lambda: Constant(None), "lr"), (lambda: Step(1, 2.5), "every"),
    (lambda: Step(1, [1, 2.5]), r"every\[1\]"), (lambda: Cosine(1, 2.5), "steps"),
    (lambda: WarmUp(2.5, 1), "steps"), (lambda: WarmUp(2, Cosine), "then"),
    (lambda: WarmUp(2, "1"), "then"), (lambda: WarmUp(2, lambda step: None)(0), r"then\(0\)"),
    (lambda: ReduceOnPlateau(1, patience=1.5), "patience"), (lambda: Constant(0.1)(1.5), "step"),
])
def test_wrong_kind(make, name):
    with pytest.raises(TypeError, match=f"^{name}: "):
        make()


def test_a_schedule_of_ones_own():
    class Half(Schedule):
        def at(self, steps):
            return np.full(len(steps), 0.5)

    assert Half()(3) == 0.5
    assert_array_equal(WarmUp(1, then=Half()).values(0, 3), [0.25, 0.5, 0.5])


# Whom a schedule with state serves ------------------------------------------------------------------------

def plateau(**options):
    """Every epoch that does not win 100 halves the rate."""
    return ReduceOnPlateau(1.0, factor=0.5, patience=0, min_delta=100.0, **options)


def fit(model, optimizer, epochs, **options):
    return model.fit(np.eye(4), [0, 1, 2, 0], epochs=epochs, optimizer=optimizer, progress=False, **options)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: WarmUp(2, s), lambda s: WarmUp(1, WarmUp(2, s))],
                         ids=["bare", "warm up", "twice"])
def test_a_shared_schedule_is_where_it_was_with_each_training(wrap, backend):
    """Two models of one optimizer, and two optimizers: as if each had a schedule of its own."""
    shared = plateau()
    first, second = SGD(wrap(shared)), SGD(wrap(shared))
    one, two = MLP([4, 3], seed=0), MLP([4, 3], seed=1)
    trainings = [(one, first), (two, first), (one, second)]
    epochs = [0, 0, 0]
    for which, n in [(0, 2), (1, 3), (0, 1), (2, 4), (1, 2), (1, 1), (2, 1), (0, 3)]:
        fit(*trainings[which], n)
        epochs[which] += n
        assert shared(50) == 0.5 ** max(epochs[which] - 1, 0)
        for (model, optimizer), done in zip(trainings, epochs):
            lr = float(optimizer.get_state(model)["schedule.lr"])
            assert lr == 0.5 ** max(done - 1, 0)


def test_a_new_model_begins_with_the_rate_as_it_was_made():
    optimizer = Adam(plateau())
    for seed in range(3):                               # as in a cross-validation; the last model is gone
        model = MLP([4, 3], seed=seed)
        fit(model, optimizer, 3)
        assert optimizer.lr(0) == 0.25
        del model
    other = copy.deepcopy(optimizer)
    fit(MLP([4, 3], seed=0), other, 1)
    assert (other.lr(0), optimizer.lr(0)) == (1.0, 0.25)


def test_what_was_observed_before_counts():
    schedule = plateau()
    for loss in (1.0, 1.0):
        schedule.observe(loss)
    optimizer, model = SGD(schedule), MLP([4, 3], seed=0)
    model.train_step(np.eye(4), [0, 1, 2, 0], optimizer)
    assert schedule(0) == 0.5
    schedule.observe(1.0)
    model.train_step(np.eye(4), [0, 1, 2, 0], optimizer)
    assert schedule(0) == 0.25


def test_a_schedule_serves_one_training_at_a_time(backend):
    optimizer = SGD(WarmUp(1, plateau()))
    one, two = MLP([4, 3], seed=0), MLP([4, 3], seed=1)
    before = two.weights[0].copy()
    errors = []

    def nested(*_):
        with pytest.raises(RuntimeError,
                           match="^lr: the schedule follows a training that is going on") as raised:
            fit(two, optimizer, 1)
        errors.append(raised)
        one.train_step(np.eye(4), [0, 1, 2, 0], optimizer)      # the same training

    fit(one, optimizer, 3, callbacks=[nested])
    assert len(errors) == 3 and (two.weights[0] == before).all()
    assert optimizer.lr(9) == 0.25
    fit(two, optimizer, 1)


def test_another_rate_forgets_the_schedule():
    optimizer, model = SGD(plateau()), MLP([4, 3], seed=0)
    fit(model, optimizer, 3)
    optimizer.lr = 0.1
    assert list(optimizer.get_state(model)) == ["step"]
    optimizer.lr = plateau()
    fit(model, optimizer, 2)
    assert optimizer.lr(0) == 0.5


def test_copied_schedules_are_apart():
    schedule = plateau()
    for way in (copy.copy, copy.deepcopy):
        for outer in (schedule, WarmUp(1, schedule)):
            other = way(outer)
            for loss in (1.0, 1.0, 1.0):
                other.observe(loss)
            assert (other(9), schedule(9)) == (0.25, 1.0)


def test_state_of_a_plateau():
    one, two = plateau(cooldown=2), plateau(cooldown=2)
    for loss in (math.inf, 3.0, 4.0):
        one.observe(loss)
    two.set_state(one.get_state())
    good = two.get_state()
    assert good == one.get_state()
    for name, wrong, error in [("lr", -1.0, ValueError), ("lr", math.inf, ValueError), ("lr", "1", TypeError),
                               ("best", math.nan, ValueError), ("best", None, TypeError),
                               ("best", "1", TypeError), ("waited", 1.5, ValueError),
                               ("waited", -1, ValueError), ("cooling", "2", TypeError)]:
        with pytest.raises(error, match=f"^{name}: "):
            two.set_state({**good, name: wrong})
        assert two.get_state() == good
    for wrong in ({}, {**good, "more": 1.0}):
        with pytest.raises(ValueError, match="^state: expected lr, best, waited, cooling"):
            two.set_state(wrong)
    with pytest.raises(TypeError, match="^state: expected a dict, got list"):
        two.set_state([1, 2])
    two.set_state(plateau(cooldown=2).get_state())              # of before the first loss
    assert two.get_state()["best"] == math.inf
    two.set_state({name: np.array(value) for name, value in good.items()})
    optimizer, model = SGD(two), MLP([4, 3], seed=0)
    with pytest.raises(TypeError, match=r"^state\['schedule.best'\]: expected a number"):
        optimizer.set_state(model, {**optimizer.get_state(model), "schedule.best": np.array("x")})
    with pytest.raises(ValueError, match="^waited"):
        optimizer.set_state(model, {**optimizer.get_state(model), "schedule.waited": 0.5})
    assert two.get_state() == good


@pytest.mark.parametrize("schedule", [Constant(0.1), Step(0.1, 3), WarmUp(3, 0.1), ReduceOnPlateau(0.1)],
                         ids=repr)
def test_settings_are_fixed(schedule):
    before = repr(schedule)
    for name in ("lr", "steps", "patience", "lrr"):
        with pytest.raises(AttributeError, match=name):
            setattr(schedule, name, 0.5)
    assert repr(schedule) == before
