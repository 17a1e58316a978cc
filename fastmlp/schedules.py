"""Schedules: the learning rate of every step.

::

    model.fit(X, y, optimizer=SGD(lr=schedules.Cosine(0.1, steps=2000), momentum=0.9))

A schedule stands in the place of a number. A step is one update of the weights, counted from 0 for each
model: an epoch has rows / batch_size of them, rounded up. Large rates travel far and small ones settle: with
a constant rate SGD ends up wandering around the minimum at a distance that grows with the rate.

Any function of the step will do as well: ``SGD(lr=lambda step: 0.1 / (1 + step / 100))``.

Rates are computed in float64 with + - * / and square roots, so that they are the same bits on every machine;
where a power with a fraction is asked for, it comes from the C library (the docstring says so).
"""
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import ReferenceType, ref

import numpy as np

from fastmlp._core import checks
from fastmlp._core.copying import VERSION, Identity, check_state, importable

if TYPE_CHECKING:
    from fastmlp._core.types import Array
    from fastmlp.optimizers import Optimizer

__all__ = ["Constant", "Cosine", "Exponential", "InverseScaling", "OneCycle", "ReduceOnPlateau", "Schedule",
           "Step", "WarmUp"]


class Schedule:
    """Base class of all schedules: schedule(step) is the learning rate of a step.

    Attributes
    ----------
    fixed : bool
        Whether rates depend on the step alone, and on no code of the user's.
    of_a_function : bool
        Whether a function of the user's gives them, which is asked at each step.

    Notes
    -----
    A schedule of your own is a function of the step, or a subclass with a method `at`, and with `observe`,
    `get_state` and `set_state` where it has state.

    A schedule with state may be shared: it goes on where it was with each optimizer and model, one after
    another; a training that would use it while it serves another raises RuntimeError.

    Examples
    --------
    >>> class Halving(Schedule):
    ...     def at(self, steps):
    ...         return 0.5 ** steps
    >>> Halving()(3)
    0.125
    """

    fixed: ClassVar[bool] = False       # whether rates depend on the step alone, and on no code of the user's
    of_a_function: ClassVar[bool] = False       # whether a function of the user's gives them

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step.

        Parameters
        ----------
        step : int
            Step, from 0 on.

        Returns
        -------
        float
            Learning rate.

        Raises
        ------
        TypeError
            If ``step`` is not an integer.
        ValueError
            If ``step`` is negative.
        """
        return float(self.values(checks.integer("step", step, low=0), 1)[0])

    def values(self, first: int, count: int) -> Array:
        """Return the learning rates of steps first, first + 1, and so on.

        Parameters
        ----------
        first : int
            First step, from 0 on.
        count : int
            Number of steps.

        Returns
        -------
        ndarray of float64, shape (count,)
            Learning rate of every step.
        """
        return self.at(np.arange(first, first + count))

    def at(self, steps: Array) -> Array:
        """Return the learning rates of an array of steps, each of its own step alone.

        Parameters
        ----------
        steps : ndarray of int, shape (n,)
            Steps, from 0 on.

        Returns
        -------
        ndarray of float64, shape (n,)
            Learning rate of every step.
        """
        raise NotImplementedError

    def observe(self, value: float) -> None:
        """Take the loss of an epoch into account, in a schedule that depends on it.

        Parameters
        ----------
        value : float
            Loss of the epoch.
        """

    def get_state(self) -> dict[str, float]:
        """Return what has changed since the schedule was made.

        Returns
        -------
        dict {str: float}
            State by name; empty where there is none.
        """
        return {}

    def set_state(self, state: dict[str, float]) -> None:
        """Replace the state by what `get_state` returned.

        Parameters
        ----------
        state : dict {str: float}
            State, as `get_state` returns it.

        Raises
        ------
        TypeError
            For values of another type than `get_state` returns; nothing is changed.
        ValueError
            For names and values that `get_state` cannot have returned; nothing is changed.
        """

    # Whom it serves -----------------------------------------------------------------------------------

    def _stateful(self) -> Schedule | None:
        """The schedule that has the state, this one or one inside it."""
        return self if self.get_state() else None

    def serve(self, optimizer: Optimizer, identity: Identity) -> None:
        """Take the state of this optimizer and model; that of the ones before is put aside.

        Parameters
        ----------
        optimizer : Optimizer
            Optimizer whose learning rate this is.
        identity : Identity
            Identity of the model.

        Raises
        ------
        RuntimeError
            While the schedule serves another training.
        """
        owner = self._stateful()
        if owner is None:
            return
        service = owner.__dict__.setdefault("_service", Service(owner.get_state()))
        if service.serves(optimizer, identity):
            return
        before, of_before = service.now()
        if of_before is not None and of_before is not identity and of_before.lock.last().holds():
            raise RuntimeError("lr: the schedule follows a training that is going on; give each one a "
                               "schedule of its own (copy.deepcopy)")
        left = None if before is None or of_before is None else before.known_state(of_before)
        if before is not None and left is not None:
            if isinstance(before.lr, Schedule) and before.lr._stateful() is owner:
                left.schedule = owner.get_state()
        state = optimizer.known_state(identity)
        if state is not None and state.schedule is not None:
            owner.set_state(state.schedule)
        elif service.used:
            owner.set_state(service.initial)
        service.optimizer, service.identity, service.used = ref(optimizer), ref(identity), True

    def state_for(self, optimizer: Optimizer, identity: Identity) -> dict[str, float]:
        """Return the state that this optimizer and model would go on with.

        Parameters
        ----------
        optimizer : Optimizer
            Optimizer whose learning rate this is.
        identity : Identity
            Identity of the model.

        Returns
        -------
        dict {str: float}
            State by name.
        """
        owner = self._stateful()
        service = None if owner is None else owner.__dict__.get("_service")
        if service is None or not service.used or service.serves(optimizer, identity):
            return self.get_state()
        state = optimizer.known_state(identity)
        return dict(state.schedule if state is not None and state.schedule is not None else service.initial)

    def forget(self) -> None:
        """Forget whom it serves, after a copy with its optimizer, which has the state of all its models."""
        owner = self._stateful()
        if owner is not None and "_service" in owner.__dict__:
            owner.__dict__["_service"].used = True

    # Copies -------------------------------------------------------------------------------------------

    def __copy__(self) -> Schedule:
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Schedule:
        result = memo[id(self)] = type(self).__new__(type(self))
        result.__dict__.update((name, copy.deepcopy(value, memo)) for name, value in vars(self).items())
        return result

    def __getstate__(self) -> dict[str, Any]:
        return {"version": VERSION, "settings": dict(vars(self))}

    def __setstate__(self, state: dict[str, Any]) -> None:
        check_state(self, state, ["settings"])
        self.__dict__.update(state["settings"])


Rate = float | Schedule | Callable[[int], float]


class Service:
    """Which optimizer and model a schedule with state serves now, and its state before the first of them. In
    a copy it serves nobody."""

    def __init__(self, initial: dict[str, float]) -> None:
        self.initial = dict(initial)
        self.optimizer: ReferenceType[Optimizer] | None = None
        self.identity: ReferenceType[Identity] | None = None
        self.used = False           # whether its state is somebody's

    def __reduce__(self) -> tuple[Any, ...]:
        return Service, (self.initial,)

    def now(self) -> tuple[Optimizer | None, Identity | None]:
        return (None if self.optimizer is None else self.optimizer(),
                None if self.identity is None else self.identity())

    def serves(self, optimizer: Optimizer, identity: Identity) -> bool:
        now = self.now()
        return now[0] is optimizer and now[1] is identity


@dataclass(frozen=True)
class Constant(Schedule):
    """Constant learning rate, as a number would be.

    Parameters
    ----------
    lr : float
        Learning rate, finite and >= 0.

    Raises
    ------
    TypeError
        If ``lr`` is not a number.
    ValueError
        If ``lr`` is negative or not finite.

    Examples
    --------
    >>> Constant(0.1)(5)
    0.1
    """

    fixed = True
    lr: float

    def __post_init__(self) -> None:
        _number(self, "lr")

    def at(self, steps: Array) -> Array:
        return np.full(len(steps), self.lr)


@dataclass(frozen=True)
class Step(Schedule):
    """Staircase: constant, and a factor smaller each time.

    Formula::

        lr factor^(step // every)
        lr factor^(number of milestones reached)        where every is a list of steps

    Parameters
    ----------
    lr : float
        Learning rate of the first step, >= 0.
    every : int or sequence of int
        Steps between two reductions, >= 1; or the steps, increasing, at which they happen.
    factor : float, default 0.1
        Factor of each reduction, >= 0.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range.

    References
    ----------
    Goodfellow, Bengio, Courville, "Deep Learning", 2016, section 8.3.1.

    He et al., "Deep Residual Learning for Image Recognition", CVPR 2016 (milestones).

    Examples
    --------
    >>> [Step(1.0, every=2)(step) for step in range(5)]
    [1.0, 1.0, 0.1, 0.1, 0.010000000000000002]
    >>> [Step(1.0, every=[1, 4], factor=0.5)(step) for step in range(5)]
    [1.0, 0.5, 0.5, 0.5, 0.25]
    """

    fixed = True
    lr: float
    every: int | Sequence[int]
    factor: float = 0.1

    def __post_init__(self) -> None:
        _number(self, "lr")
        _number(self, "factor")
        if not isinstance(self.every, (list, tuple)):
            _integer(self, "every", low=1)
            return
        every = tuple(checks.integer(f"every[{i}]", step, low=1) for i, step in enumerate(self.every))
        if list(every) != sorted(set(every)):
            raise ValueError(f"every: expected steps that increase, got {list(every)}")
        object.__setattr__(self, "every", every)

    def at(self, steps: Array) -> Array:
        if isinstance(self.every, tuple):
            return self.lr * powers_of(self.factor, np.searchsorted(self.every, steps, side="right"))
        return self.lr * powers_of(self.factor, steps // self.every)


@dataclass(frozen=True)
class Exponential(Schedule):
    """Exponential decay, smoothly.

    Formula::

        lr factor^(step / steps)

    Parameters
    ----------
    lr : float
        Learning rate of the first step, >= 0.
    factor : float
        Factor over every ``steps`` steps, >= 0.
    steps : int, default 1
        Number of steps, >= 1.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range.

    Notes
    -----
    factor^(1 / steps) comes from the C library where ``steps`` is not 1.

    References
    ----------
    Robbins, Monro, "A Stochastic Approximation Method", 1951, for why rates must fall at all.

    Examples
    --------
    >>> [Exponential(1.0, factor=0.5)(step) for step in range(4)]
    [1.0, 0.5, 0.25, 0.125]
    >>> round(Exponential(1.0, factor=0.5, steps=100)(100), 12)
    0.5
    """

    fixed = True
    lr: float
    factor: float
    steps: int = 1

    def __post_init__(self) -> None:
        _number(self, "lr")
        _number(self, "factor")
        _integer(self, "steps", low=1)

    def at(self, steps: Array) -> Array:
        return self.lr * powers_of(self.factor if self.steps == 1 else self.factor ** (1 / self.steps), steps)


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """Inverse of a power of the step.

    Formula::

        lr / (step + 1)^power

    Parameters
    ----------
    lr : float
        Learning rate of the first step, >= 0.
    power : float, default 0.5
        Exponent, >= 0.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range.

    Notes
    -----
    A power from 0.5 to 1 is what stochastic approximation asks for, beside convexity, to converge: the rates
    must sum to infinity, their squares must not. Any power but 0, 0.5 and 1 comes from the C library.

    References
    ----------
    Robbins, Monro, "A Stochastic Approximation Method", 1951; "invscaling" of scikit-learn.

    Examples
    --------
    >>> [InverseScaling(1.0)(step) for step in (0, 3, 99)]
    [1.0, 0.5, 0.1]
    """

    fixed = True
    lr: float
    power: float = 0.5

    def __post_init__(self) -> None:
        _number(self, "lr")
        _number(self, "power")

    def at(self, steps: Array) -> Array:
        t: Array = steps + 1.0
        if self.power in (0.0, 0.5, 1.0):
            divisor: Array = {0.0: np.ones(len(t)), 0.5: np.sqrt(t), 1.0: t}[self.power]
            return self.lr / divisor
        return self.lr / np.array([x ** self.power for x in t.tolist()])


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a wave of a cosine, from lr down to low, with restarts if asked for.

    With t = step and T = steps::

        low + (lr - low) (1 + cos(pi t / T)) / 2

    The rate stays ``low`` after T; with restarts, t begins again at 0 and T is multiplied by ``growth`` each
    time.

    Parameters
    ----------
    lr : float
        Learning rate of the first step, >= ``low``.
    steps : int
        Number T of steps down to ``low``, >= 1.
    low : float, default 0.0
        Lowest rate, >= 0.
    restarts : bool, default False
        Whether the rate goes back to ``lr`` after T steps.
    growth : int, default 1
        Factor of T at each restart, >= 1.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range.

    Notes
    -----
    A restart throws the weights out of where they have settled, perhaps into a better place; right before one
    they are at their best.

    References
    ----------
    Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.

    Examples
    --------
    >>> Cosine(1.0, steps=4).values(0, 6).round(3)
    array([1.   , 0.854, 0.5  , 0.146, 0.   , 0.   ])
    >>> Cosine(1.0, steps=2, restarts=True, growth=2).values(0, 7).round(3)
    array([1.   , 0.5  , 1.   , 0.854, 0.5  , 0.146, 1.   ])
    """

    fixed = True
    lr: float
    steps: int
    low: float = 0.0
    restarts: bool = False
    growth: int = 1

    def __post_init__(self) -> None:
        _number(self, "lr")
        _integer(self, "steps", low=1)
        _number(self, "low", high=self.lr)
        _integer(self, "growth", low=1)
        if self.growth > 1 and not self.restarts:
            raise ValueError(f"growth: needs restarts=True, got growth {self.growth} without")

    def at(self, steps: Array) -> Array:
        t: Array = np.minimum(steps, self.steps)
        length: Array = np.full(len(steps), self.steps)
        if self.restarts and self.growth == 1:
            t = steps % self.steps
        elif self.restarts:
            starts = [0]
            while len(steps) and starts[-1] <= int(steps.max()):
                starts.append(starts[-1] + self.steps * self.growth ** (len(starts) - 1))
            starts = starts[:-1] or starts
            cycle = np.searchsorted(starts, steps, side="right") - 1
            t = steps - np.array(starts)[cycle]
            length = np.array([self.steps * self.growth ** i for i in range(len(starts))])[cycle]
        return _between(self.lr, self.low, t / length)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """One cycle: up to lr, then down to almost nothing, both along a cosine.

    With T = steps - 1 and W = max(0, warm_up steps - 1)::

        step <= W       from lr / start_divisor to lr, at step / W
        step > W        from lr to lr / start_divisor / end_divisor, at (step - W) / (T - W)

    and the last value after that.

    Parameters
    ----------
    lr : float
        Highest learning rate, >= 0.
    steps : int
        Number of steps of the cycle, >= 2.
    warm_up : float, default 0.3
        Share of the steps that goes up, from 0 to below 1.
    start_divisor : float, default 25.0
        Ratio of the highest rate to the first, >= 1.
    end_divisor : float, default 1e4
        Ratio of the first rate to the last, >= 1.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range.

    Notes
    -----
    The large rates in the middle act against overfitting, and the small ones at the end settle: networks
    train in fewer steps, with an lr several times what they bear from the start.

    References
    ----------
    Smith, Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates", 2018;
    with cosines as in torch.optim.lr_scheduler.OneCycleLR.

    Examples
    --------
    >>> [round(OneCycle(1.0, steps=11, warm_up=4/11)(step), 4) for step in (0, 3, 10)]
    [0.04, 1.0, 0.0]
    """

    fixed = True
    lr: float
    steps: int
    warm_up: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4

    def __post_init__(self) -> None:
        _number(self, "lr")
        _integer(self, "steps", low=2)
        object.__setattr__(self, "warm_up", checks.below_one("warm_up", self.warm_up))
        _number(self, "start_divisor", low=1.0)
        _number(self, "end_divisor", low=1.0)

    def at(self, steps: Array) -> Array:
        start = self.lr / self.start_divisor
        last, peak = self.steps - 1.0, max(0.0, self.warm_up * self.steps - 1.0)
        up = np.minimum(steps, peak) / max(peak, 1e-300)
        down = np.clip((steps - peak) / (last - peak), 0, 1)
        return np.where((steps <= peak) & (peak > 0), _between(start, self.lr, up),
                        _between(self.lr, start / self.end_divisor, down))


@dataclass(frozen=True)
class WarmUp(Schedule):
    """Warm-up in front of a schedule, a number or a function.

    Formula::

        then(0) (step + 1) / (steps + 1)        for the first steps
        then(step - steps)                      after them

    Parameters
    ----------
    steps : int
        Number of steps of the warm-up, >= 0.
    then : float, Schedule or callable
        Learning rate after them: a number >= 0, a schedule, or a function of the step.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range.

    Notes
    -----
    Begins gently: the first gradients of a fresh network are large, and Adam's moments still rest on few of
    them.

    References
    ----------
    Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017.

    Examples
    --------
    >>> [WarmUp(3, then=1.0)(step) for step in range(5)]
    [0.25, 0.5, 0.75, 1.0, 1.0]
    """

    steps: int
    then: Rate

    @property
    def fixed(self) -> bool:  # type: ignore[override]
        """Whether rates depend on the step alone, as those of ``then`` do."""
        return not callable(self.then) or isinstance(self.then, Schedule) and self.then.fixed

    @property
    def of_a_function(self) -> bool:  # type: ignore[override]
        """Whether ``then`` is a function, or begins with one."""
        return callable(self.then) and (not isinstance(self.then, Schedule) or self.then.of_a_function)

    def __post_init__(self) -> None:
        _integer(self, "steps", low=0)
        object.__setattr__(self, "then", rate("then", self.then))

    def at(self, steps: Array) -> Array:
        after = np.maximum(steps - self.steps, 0)
        if isinstance(self.then, Schedule):
            rates = self.then.at(after)
        elif callable(self.then):
            rates = np.array([checks.number(f"then({step})", self.then(step), low=0.0)
                              for step in after.tolist()])
        else:
            rates = np.full(len(after), self.then)
        warming: Array = np.minimum(steps + 1, self.steps + 1) / (self.steps + 1)
        return rates * warming

    def observe(self, value: float) -> None:
        if isinstance(self.then, Schedule):
            self.then.observe(value)

    def get_state(self) -> dict[str, float]:
        return self.then.get_state() if isinstance(self.then, Schedule) else {}

    def set_state(self, state: dict[str, float]) -> None:
        if isinstance(self.then, Schedule):
            self.then.set_state(state)

    def _stateful(self) -> Schedule | None:
        return self.then._stateful() if isinstance(self.then, Schedule) else None

    def __getstate__(self) -> dict[str, Any]:
        importable("then", self.then)
        return super().__getstate__()


@dataclass(eq=False)
class ReduceOnPlateau(Schedule):
    """Reduce the learning rate when the loss has stopped improving.

    After more than ``patience`` epochs in a row without improvement::

        lr = max(factor lr, low)

    A value counts as an improvement that is below the best one by more than ``min_delta``. After a reduction
    ``cooldown`` epochs pass uncounted.

    Parameters
    ----------
    lr : float
        Learning rate at first, >= ``low``.
    factor : float, default 0.1
        Factor of each reduction, from 0 to below 1.
    patience : int, default 10
        Number of epochs without improvement that are waited for one, >= 0.
    min_delta : float, default 1e-4
        Least improvement, >= 0, in units of the loss.
    cooldown : int, default 0
        Number of epochs after a reduction that do not count, >= 0.
    low : float, default 0.0
        Lowest rate, >= 0.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range.

    Notes
    -----
    `MLP.fit` reports the loss after every epoch, that of the validation data where there are any; in a loop
    of your own call ``observe(value)``.

    The rate depends on what has been observed, and not on the step: an object serves one training at a time,
    and is where it was when it serves the same optimizer and model again. Its settings cannot be assigned.

    References
    ----------
    In the form of torch.optim.lr_scheduler.ReduceLROnPlateau (mode "min", absolute threshold).

    Examples
    --------
    >>> schedule = ReduceOnPlateau(1.0, patience=1)
    >>> for loss in (0.5, 0.6, 0.5):
    ...     schedule.observe(loss)
    >>> schedule(0)
    0.1
    """

    lr: float
    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    cooldown: int = 0
    low: float = 0.0
    _now: float = field(default=0.0, init=False, repr=False)
    _best: float = field(default=math.inf, init=False, repr=False)
    _waited: int = field(default=0, init=False, repr=False)
    _cooling: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        _number(self, "lr")
        object.__setattr__(self, "factor", checks.below_one("factor", self.factor))
        _integer(self, "patience", low=0)
        _number(self, "min_delta")
        _integer(self, "cooldown", low=0)
        _number(self, "low", high=self.lr)
        self._now = self.lr

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] != "_" and (name in vars(self) or name not in self.__dataclass_fields__
                               and type(self) is ReduceOnPlateau):
            raise AttributeError(f"{name}: a schedule keeps the settings it was made with; assign another "
                                 "schedule to the optimizer's lr")
        object.__setattr__(self, name, value)

    def at(self, steps: Array) -> Array:
        return np.full(len(steps), self._now)

    def observe(self, value: float) -> None:
        """Take the loss of an epoch into account.

        Parameters
        ----------
        value : float
            Loss of the epoch; NaN is no improvement.
        """
        if value < self._best - self.min_delta:
            self._best, self._waited = float(value), 0
        else:
            self._waited += 1
        if self._cooling:
            self._cooling -= 1
            self._waited = 0
        if self._waited > self.patience:
            self._now = max(self._now * self.factor, self.low)
            self._waited, self._cooling = 0, self.cooldown

    def get_state(self) -> dict[str, float]:
        return {"lr": self._now, "best": self._best, "waited": self._waited, "cooling": self._cooling}

    def set_state(self, state: dict[str, float]) -> None:
        """Replace the state by what `get_state` returned.

        Parameters
        ----------
        state : dict {str: float}
            State, as `get_state` returns it.

        Raises
        ------
        TypeError
            For values of another type than `get_state` returns; nothing is changed.
        ValueError
            For names and values that `get_state` cannot have returned; nothing is changed.
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected a dict, got {type(state).__name__}")
        if set(state) != set(self.get_state()):
            raise ValueError(f"state: expected {', '.join(self.get_state())}, got {state!r}")
        now, best = checks.number("lr", state["lr"], low=0.0), checks.real("best", state["best"])
        if math.isnan(best):
            raise ValueError("best: expected a number, got nan")
        counts = []
        for name in ("waited", "cooling"):
            count = checks.number(name, state[name], low=0.0)
            if count != int(count):
                raise ValueError(f"{name}: expected an integer from 0 up, got {count}")
            counts.append(int(count))
        self._now, self._best = now, best
        self._waited, self._cooling = counts


# Arithmetic that every machine does in the same way ----------------------------------------------------

def power(base: float, n: int) -> float:
    """base^n for an integer n >= 0, by multiplications alone.

    >>> power(0.5, 3)
    0.125
    """
    return float(_first_powers(base)[n & 255]) * _by_squaring(base, n >> 8)


def powers(base: float, first: int, count: int) -> Array:
    """power(base, n) for n = first, first + 1, ...: (count,) in float64.

    >>> powers(0.5, 1, 3)
    array([0.5  , 0.25 , 0.125])
    """
    return powers_of(base, np.arange(first, first + count))


def powers_of(base: float, n: Array) -> Array:
    """power(base, n) for every n, each with its own bits: the same however they are grouped."""
    if len(n) <= 1:
        return np.array([power(base, int(i)) for i in n])
    low, top = int(n.min()) >> 8, int(n.max()) >> 8
    high = np.array([_by_squaring(base, i) for i in range(low, top + 1)])
    result: Array = _first_powers(base)[n & 255] * high[(n >> 8) - low]
    return result


@lru_cache(maxsize=32)
def _first_powers(base: float) -> Array:
    """base^0 to base^255, one after another."""
    return np.multiply.accumulate([1.0, *[base] * 255])


def _by_squaring(base: float, n: int) -> float:
    """(base^256)^n"""
    base, result = base * float(_first_powers(base)[255]), 1.0
    while n:
        if n & 1:
            result *= base
        base, n = base * base, n >> 1
    return result


def _between(start: float, end: float, t: Array) -> Array:
    """From start (t = 0) to end (t = 1) along half a wave of a cosine; both ends exactly."""
    small = _sin(math.pi / 2 * np.minimum(t, 1 - t)) ** 2       # (1 - cos(pi t)) / 2, of the nearer end
    share = np.where(t <= 0.5, small, 1 - small)
    return start * (1 - share) + end * share


def _sin(x: Array) -> Array:
    """sin(x) for x from 0 to pi/4, within 2e-16: the Taylor series."""
    square: Array = x * x
    series: Array = np.ones(len(x))
    for n in range(16, 0, -2):      # the next term is below 1e-19
        series = 1 - square / (n * (n + 1)) * series
    return x * series


# Settings ----------------------------------------------------------------------------------------------

def rate(name: str, value: Rate) -> Rate:
    """A learning rate: a number >= 0 as a float, a schedule or function as it is.

    Raises TypeError and ValueError.
    """
    if isinstance(value, (str, type)):
        raise TypeError(f"{name}: expected a number, a schedule or a function of the step, got {value!r}; a "
                        "schedule is an object, such as schedules.Cosine(0.1, steps=1000)")
    return value if callable(value) else checks.number(name, value, low=0.0)


def _number(schedule: Schedule, name: str, low: float = 0.0, high: float = math.inf) -> None:
    object.__setattr__(schedule, name, checks.number(name, getattr(schedule, name), low=low, high=high))


def _integer(schedule: Schedule, name: str, low: int) -> None:
    object.__setattr__(schedule, name, checks.integer(name, getattr(schedule, name), low=low))
