"""Optimizers: how a gradient becomes a step. A small object of settings, and its state for every model.

All of them but `fastmlp.LBFGS` take one step for every minibatch, and treat each parameter for itself. For a
parameter p with the gradient dp, a step begins with::

    g = dp                                  scaled down where the norm of all gradients exceeds clip_norm
    g = min(max(g, -clip_value), clip_value)
    g = g + weight_decay p + l1 sign(p)     on weights, and on biases with decay_biases; with divide_penalty
                                            both factors are divided by what the samples of the batch weigh
    p = p - lr weight_decay p               where weight decay is decoupled, in the place of weight_decay p

and ends with the update rule of the class. Steps are counted from 0, for each model.

The formulas in NumPy are in ``fastmlp.backends.numpy.updates``, the kernels in
``fastmlp/kernels/optimizers.pxi``; ``fastmlp/kernels/ops.py`` is the list of all rules. How another one is
added: docs/extending.md.
"""
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from fastmlp._core import checks, names
from fastmlp._core.attributes import Guarded
from fastmlp._core.copying import VERSION, Identity, check_state, follow, importable
from fastmlp._core.layout import Parameters, named_arrays
from fastmlp.kernels import ops
from fastmlp.schedules import Rate, Schedule, power, powers, rate

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from fastmlp._core.types import Array
    from fastmlp.model import MLP

__all__ = ["SGD", "AdaGrad", "Adam", "AdamW", "Optimizer", "RMSprop"]

SMALLEST = 1e-37            # of eps: float32 has it, and 0 / eps is 0


CODES = ops.codes(ops.RULES)        # of the update rules


class Settings(NamedTuple):
    """An update rule and its settings, in the order of `set_rule` in optimizers.pxi."""

    rule: int = CODES["gradient"]
    beta1: float = 0.0
    beta2: float = 0.0
    eps: float = 1.0
    weight_decay: float = 0.0
    l1: float = 0.0
    clip: float = math.inf
    decoupled: bool = False
    decay_biases: bool = False
    divide_penalty: bool = False


@dataclass
class State:
    """What an optimizer holds of one model: the steps taken, and slots, laid out like the parameters; and the
    state of a schedule that serves other models too, while it serves them."""

    step: int
    slots: dict[str, Parameters]
    schedule: dict[str, float] | None = None
    prepared: Any = None        # what an engine has prepared of rule and rates, for itself

    def copy(self) -> State:
        return State(self.step, {name: slot.copy() for name, slot in self.slots.items()},
                     None if self.schedule is None else dict(self.schedule))

    def astype(self, dtype: DTypeLike) -> State:
        """Steps and slots, these in another dtype."""
        return State(self.step, {name: slot.astype(dtype) for name, slot in self.slots.items()})

    def assign(self, other: State) -> None:
        """Steps and slots of another state, of any dtype."""
        self.step = other.step
        for name, slot in other.slots.items():
            self.slots[name].assign(slot)


class Optimizer(Guarded):
    """Base class of all optimizers.

    Parameters
    ----------
    lr : float, Schedule or callable
        Learning rate: a number >= 0, a schedule of `fastmlp.schedules`, or any function of the step, from 0
        on.
    weight_decay : float, default 0.0
        Factor >= 0 of an L2 penalty of ``weight_decay/2 |w|^2``.
    l1 : float, default 0.0
        Factor >= 0 of an L1 penalty of ``l1 |w|``, which draws weights towards exactly 0.
    clip_value : float, optional
        Largest absolute value of a gradient, > 0. No limit if not given.
    clip_norm : float, optional
        Largest norm of all gradients of a step taken together, > 0. No limit if not given.
    decay_biases : bool, default False
        Whether the penalties act on biases too.
    divide_penalty : bool, default False
        Whether the penalties are divided by what the samples of a batch weigh, as scikit-learn's alpha is.

    Attributes
    ----------
    slots : tuple of str
        Names of the state: for each of them there is one array like each parameter.
    full_batch : bool
        Whether the optimizer takes no steps, but minimises over all samples (`LBFGS`).
    decoupled : bool
        Whether weight decay acts on the weights and not on the gradient (`AdamW`).
    version : int
        Version of the settings: another number after every assignment.

    Raises
    ------
    TypeError
        For settings of the wrong type, when made and when assigned.
    ValueError
        For settings out of range, when made and when assigned.
    AttributeError
        For an assignment to any other name.

    Notes
    -----
    The same object can train several models, and goes on where it was with each. Settings may be assigned,
    and hold from the next run of the engine on.

    A copy (``copy.copy`` and ``copy.deepcopy`` alike) has settings, schedule and state of its own: for the
    same models, or for their copies where model and optimizer are copied in one structure. A pickle holds the
    state for the models that are pickled with it: ``pickle.dumps((model, optimizer))``; alone, it holds the
    settings.

    References
    ----------
    Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", ICML 2013 (clipping).

    Krogh, Hertz, "A simple weight decay can improve generalization", NIPS 1991.

    Examples
    --------
    >>> optimizer = SGD(0.1, clip_norm=1.0)
    >>> optimizer.lr = 0.05
    >>> optimizer
    SGD(lr=0.05, momentum=0.0, nesterov=False, weight_decay=0.0, clip_norm=1.0)
    """

    update_rules: ClassVar[tuple[str, ...]] = ()    # those of fastmlp/kernels/ops.py that it may take
    slots: ClassVar[tuple[str, ...]] = ()
    full_batch: ClassVar[bool] = False      # takes no steps, but minimises (LBFGS)
    version: int                            # of the settings: another number after every assignment
    decoupled: ClassVar[bool] = False       # weight decay acts on the weights and not on the gradient
    beta1 = beta2 = 0.0
    eps = 1.0
    settable: ClassVar[Mapping[str, Callable[[Any, Any], Any]]] = {
        "lr": lambda self, value: self._new_rate(value),
        "weight_decay": lambda self, value: checks.number("weight_decay", value, low=0.0),
        "l1": lambda self, value: checks.number("l1", value, low=0.0),
        "clip_value": lambda self, value: _limit("clip_value", value),
        "clip_norm": lambda self, value: _limit("clip_norm", value),
        "decay_biases": lambda self, value: bool(value),
        "divide_penalty": lambda self, value: bool(value),
    }
    fixed: ClassVar[Mapping[str, str]] = {
        name: "is fixed by the class of the optimizer; make another optimizer"
        for name in ("update_rules", "slots", "full_batch", "decoupled", "beta1", "beta2", "eps")}

    def __init__(
        self,
        lr: Rate,
        *,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        decay_biases: bool = False,
        divide_penalty: bool = False,
    ) -> None:
        self._states: WeakKeyDictionary[Identity, State] = WeakKeyDictionary()
        self.lr: Rate = lr                          # assignments validate
        self.weight_decay: float = weight_decay
        self.l1: float = l1
        self.clip_value: float | None = clip_value
        self.clip_norm: float | None = clip_norm
        self.decay_biases: bool = decay_biases
        self.divide_penalty: bool = divide_penalty

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self.__dict__["version"] = self.__dict__.get("version", 0) + 1

    def _new_rate(self, lr: Rate) -> Rate:
        lr = rate("lr", lr)
        if lr is not getattr(self, "lr", None):
            for state in list(self._states.values()):       # of another schedule
                state.schedule = None
        return lr

    def _shown(self) -> dict[str, Any]:
        """The settings of the class itself, by their names."""
        return {}

    def __repr__(self) -> str:
        rate = {} if self.full_batch else {"lr": self.lr}
        shown = {**rate, **self._shown(), "weight_decay": self.weight_decay}
        for name, usual in (("l1", 0.0), ("clip_value", None), ("clip_norm", None), ("decay_biases", False),
                            ("divide_penalty", False)):
            if getattr(self, name) != usual:
                shown[name] = getattr(self, name)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    # For the engines ---------------------------------------------------------------------------------

    def _update_rule(self) -> str:
        """The name of the rule that the settings ask for; TypeError for LBFGS, which has none."""
        try:
            (name,) = self.update_rules
        except ValueError:
            raise TypeError(f"optimizer: {type(self).__name__} has no rule for a minibatch") from None
        return name

    def rule(self) -> Settings:
        """Return all that does not change from step to step.

        Returns
        -------
        Settings
            Update rule and settings, for the backends.
        """
        return Settings(CODES[self._update_rule()], self.beta1, self.beta2, self.eps, self.weight_decay,
                        self.l1, math.inf if self.clip_value is None else self.clip_value, self.decoupled,
                        self.decay_biases, self.divide_penalty)

    def known_state(self, identity: Identity) -> State | None:
        """Return the state of a model.

        Parameters
        ----------
        identity : Identity
            Identity of the model.

        Returns
        -------
        State or None
            State, live; None where there is none yet.
        """
        return self._states.get(identity)

    def state_of(self, parameters: Parameters) -> State:
        """Return the state of these parameters.

        Parameters
        ----------
        parameters : Parameters
            Parameters of a model.

        Returns
        -------
        State
            State, live; zeros at first.
        """
        state = self._states.get(parameters.identity)
        if state is None:
            state = self._states[parameters.identity] = State(0, {})
        if tuple(state.slots) != self.slots:            # those of a momentum that is 0 by now go
            state.slots = {name: state.slots.get(name) or parameters.like() for name in self.slots}
        return state

    def learning_rates(self, first: int, count: int) -> Array:
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

        Raises
        ------
        TypeError
            Where a function of the step returns anything but a number.
        ValueError
            Where a schedule or a function returns anything but a finite number >= 0.

        Examples
        --------
        >>> SGD(lr=lambda step: 1 / (step + 1)).learning_rates(0, 3)
        array([1.        , 0.5       , 0.33333333])
        """
        if isinstance(self.lr, Schedule):
            rates = self.lr.values(first, count)
        elif callable(self.lr):
            rates = np.array([checks.number(f"lr({step})", self.lr(step), low=0.0)
                              for step in range(first, first + count)])
        else:
            return np.full(count, checks.number("lr", self.lr, low=0.0))
        wrong = ~((rates >= 0) & np.isfinite(rates))
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(f"lr({first + at}): expected a finite number from 0 up, got {rates[at]}")
        return rates

    def rates(self, first: int, count: int) -> Array:
        """Return what changes from step to step, of steps first, first + 1, and so on.

        Parameters
        ----------
        first : int
            First step, from 0 on.
        count : int
            Number of steps.

        Returns
        -------
        ndarray of float64, shape (count, 3)
            The learning rate, divided by the bias correction of the first moment; 1 over the root of the bias
            correction of the second moment (1 where a rule has none, or has it in the first number); the
            share that decoupled weight decay takes from a weight (0 where it is not decoupled).

        Notes
        -----
        Each depends on the step alone and is computed with + - * / and square roots: however a run is cut,
        and on whatever machine, these are the same bits.

        Examples
        --------
        >>> Adam(lr=0.1).rates(0, 2).round(3)
        array([[ 1.   , 31.623,  0.   ],
               [ 0.526, 22.366,  0.   ]])
        """
        if not callable(self.lr):               # one row for all
            lr = checks.number("lr", self.lr, low=0.0)
            return np.broadcast_to([lr, 1.0, lr * self.weight_decay if self.decoupled else 0.0], (count, 3))
        result = np.ones((count, 3))
        result[:, 0] = self.learning_rates(first, count)
        result[:, 2] = result[:, 0] * self.weight_decay if self.decoupled else 0.0
        return result

    def serve(self, model: MLP) -> None:
        """Begin a training of the model: a schedule with state goes on where it was with it.

        Parameters
        ----------
        model : MLP
            Model that is going to be trained.

        Raises
        ------
        RuntimeError
            While the schedule serves another training.
        """
        if isinstance(self.lr, Schedule):
            self.lr.serve(self, model.core.parameters.identity)

    def observe(self, value: float) -> None:
        """Pass the loss of an epoch to a schedule that depends on it (`ReduceOnPlateau`).

        Parameters
        ----------
        value : float
            Loss of the epoch.
        """
        if isinstance(self.lr, Schedule):
            self.lr.observe(value)

    @property
    def rates_are_fixed(self) -> bool:
        """Whether the rates of all steps are known: no state and no function of the user's decides them."""
        return not callable(self.lr) or isinstance(self.lr, Schedule) and self.lr.fixed

    @property
    def rates_are_of_a_function(self) -> bool:
        """Whether a function of the user's gives them: asked at each step, it may look at the model."""
        lr = self.lr
        return callable(lr) and (not isinstance(lr, Schedule) or lr.of_a_function)

    # State, read and written -------------------------------------------------------------------------

    def get_state(self, model: MLP) -> dict[str, Array]:
        """Return copies of all that the optimizer holds of a model, by flat names.

        Parameters
        ----------
        model : MLP
            Model that was trained with this optimizer, or will be.

        Returns
        -------
        dict {str: ndarray}
            "step" counts the steps taken; "velocity.weights.0" is the slot "velocity" of
            ``model.weights[0]``; and "schedule.lr" and the like come from a schedule that has state.
            ``np.savez(file, **state)`` saves it.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> list(SGD(0.1, momentum=0.9).get_state(MLP([4, 3])))
        ['step', 'velocity.weights.0', 'velocity.biases.0']
        """
        state = self.state_of(model.core.parameters)
        result: dict[str, Array] = {"step": np.array(state.step)}
        for slot, arrays in state.slots.items():
            for name, array in named_arrays(arrays):
                result[f"{slot}.{name}"] = array.copy()
        if isinstance(self.lr, Schedule):
            of_schedule = self.lr.state_for(self, model.core.parameters.identity)
            result |= {f"schedule.{name}": np.array(value) for name, value in of_schedule.items()}
        return result

    def set_state(self, model: MLP, state: Mapping[str, ArrayLike]) -> None:
        """Replace the state of a model by what `get_state` returned.

        Parameters
        ----------
        model : MLP
            The same model, or one of the same sizes.
        state : mapping {str: array_like}
            State, as `get_state` returns it.

        Raises
        ------
        TypeError
            For arrays of another dtype; nothing is changed.
        ValueError
            For names that are missing or unknown, and for arrays of another shape; nothing is changed.

        Examples
        --------
        >>> from fastmlp import MLP
        >>> one, two = MLP([4, 3]), MLP([4, 3])
        >>> optimizer = Adam()
        >>> optimizer.set_state(two, optimizer.get_state(one))
        """
        if not isinstance(state, Mapping):
            raise TypeError(f"state: expected a dict of arrays, got {type(state).__name__}")
        own = self.state_of(model.core.parameters)
        wanted = {f"{slot}.{name}": (slot, array) for slot, arrays in own.slots.items()
                  for name, array in named_arrays(arrays)}
        of_schedule = dict(self.lr.get_state()) if isinstance(self.lr, Schedule) else {}
        names = ["step", *wanted, *(f"schedule.{name}" for name in of_schedule)]
        for name in names:
            if name not in state:
                raise ValueError(f"state: expected an entry {name!r}, got {', '.join(state) or 'none'}")
        for name in state:
            if name not in names:
                raise ValueError(f"state: unknown entry {name!r}, expected {', '.join(names)}")
        step = checks.integer("state['step']", checks.scalar(state["step"]), low=0, high=checks.MOST_STEPS)
        values = {}
        for name, (slot, array) in wanted.items():
            label = f"state[{name!r}]"
            value = checks.floating(label, state[name])
            if value.dtype != array.dtype:
                raise TypeError(f"{label}: expected dtype {array.dtype}, the model's, got {value.dtype}")
            checks.shape(label, value, array.shape)
            if slot in ("squares", "second_moment") and (value < 0).any():
                raise ValueError(f"{label}: expected sums of squares, got {value.min()}")
            values[name] = value
        if isinstance(self.lr, Schedule) and of_schedule:
            rates = {name: checks.real(f"state['schedule.{name}']", checks.scalar(state[f"schedule.{name}"]))
                     for name in of_schedule}
            self.serve(model)
            before = self.lr.get_state()
            try:
                self.lr.set_state(rates)
            except BaseException:
                self.lr.set_state(before)
                raise
        own.step = step
        for name, value in values.items():
            wanted[name][1][...] = value

    # Copies -------------------------------------------------------------------------------------------

    def _copied_states(self) -> list[tuple[Identity, State]]:
        """Copies of the state of every model that there is.

        Raises RuntimeError while another thread trains one of them with this optimizer.
        """
        result = []
        for identity, state in list(self._states.items()):
            before = identity.lock.last()
            state = state.copy()
            if isinstance(self.lr, Schedule):
                state.schedule = self.lr.state_for(self, identity) or None
            if identity.lock.busy_elsewhere() or identity.lock.last() is not before:
                raise RuntimeError("optimizer: cannot be copied while another thread trains a model with it")
            result.append((identity, state))
        return result

    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_states"}

    def __copy__(self) -> Optimizer:
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[Any, Any]) -> Optimizer:
        states = self._copied_states()
        result = memo[id(self)] = type(self).__new__(type(self))
        result.__dict__["_states"] = WeakKeyDictionary()
        result.__dict__.update((name, copy.deepcopy(value, memo)) for name, value in self._settings().items())
        result._states.update((memo.get(id(identity), identity), state) for identity, state in states)
        if isinstance(result.lr, Schedule):
            result.lr.forget()
        follow(result, memo)
        return result

    def follow(self, old: Identity, new: Identity) -> None:
        """Give its state to the copy of the model, which was copied after this optimizer.

        Parameters
        ----------
        old : Identity
            Identity of the model.
        new : Identity
            Identity of its copy.
        """
        if old in self._states:
            self._states[new] = self._states.pop(old)

    def __getstate__(self) -> dict[str, Any]:
        importable("lr", self.lr)
        states = [(identity, state.step, state.slots, state.schedule)
                  for identity, state in self._copied_states()]
        return {"version": VERSION, "settings": self._settings(), "states": states}

    def __setstate__(self, state: dict[str, Any]) -> None:
        check_state(self, state, ["settings", "states"])
        states = [(identity, State(*rest)) for identity, *rest in state["states"]]
        self.__dict__.update(state["settings"], _states=WeakKeyDictionary(states))
        if isinstance(self.lr, Schedule):
            self.lr.forget()


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and Nesterov's momentum.

    For a parameter p with the gradient g, as at the top of this module::

        p = p - lr g                            without momentum

        v = momentum v + g                      (v = 0 at first)
        p = p - lr v                            or p - lr (g + momentum v) with nesterov

    Parameters
    ----------
    lr : float, Schedule or callable, default 0.01
        Learning rate: a number >= 0, a schedule of `fastmlp.schedules`, or any function of the step, from 0
        on.
    momentum : float, default 0.0
        Share of the velocity v that is kept, from 0 to below 1.
    nesterov : bool, default False
        Whether to use Nesterov's momentum.
    weight_decay : float, default 0.0
        Factor >= 0 of an L2 penalty of ``weight_decay/2 |w|^2``.
    l1 : float, default 0.0
        Factor >= 0 of an L1 penalty of ``l1 |w|``, which draws weights towards exactly 0.
    clip_value : float, optional
        Largest absolute value of a gradient, > 0. No limit if not given.
    clip_norm : float, optional
        Largest norm of all gradients of a step taken together, > 0. No limit if not given.
    decay_biases : bool, default False
        Whether the penalties act on biases too.
    divide_penalty : bool, default False
        Whether the penalties are divided by what the samples of a batch weigh, as scikit-learn's alpha is.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range, or nesterov without momentum.

    See Also
    --------
    fastmlp.optimizers.Optimizer : Penalties and limits, state, copies; what all optimizers share.

    Notes
    -----
    The gradient of one minibatch is a noisy estimate of that of the whole set: it costs a fraction, and its
    noise helps out of saddles and shallow local minima. Momentum averages it over the last 1 / (1 - momentum)
    steps. ``fit(batch_size=None)`` makes it gradient descent on the full batch.

    References
    ----------
    Robbins, Monro, "A Stochastic Approximation Method", Annals of Mathematical Statistics 22, 1951.

    Polyak, "Some methods of speeding up the convergence of iteration methods", 1964.

    Sutskever, Martens, Dahl, Hinton, "On the importance of initialization and momentum in deep learning",
    ICML 2013.

    Examples
    --------
    >>> SGD(lr=0.1, momentum=0.9)
    SGD(lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
    """

    @names.keywords(names.OPTIMIZER)
    def __init__(
        self,
        lr: Rate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        l1: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        decay_biases: bool = False,
        divide_penalty: bool = False,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, l1=l1, clip_value=clip_value, clip_norm=clip_norm,
                         decay_biases=decay_biases, divide_penalty=divide_penalty)
        self.momentum: float = momentum
        self.nesterov: bool = nesterov

    def _new_momentum(self, value: Any) -> float:
        momentum = checks.below_one("momentum", value)
        if not momentum and getattr(self, "nesterov", False):
            raise ValueError("momentum: nesterov needs a momentum above 0, got momentum 0")
        return momentum

    def _new_nesterov(self, value: Any) -> bool:
        if value and not self.momentum:
            raise ValueError("nesterov: needs a momentum above 0, got momentum 0")
        return bool(value)

    settable = {**Optimizer.settable, "momentum": _new_momentum, "nesterov": _new_nesterov}

    update_rules = ("sgd", "momentum", "nesterov")

    @property
    def slots(self) -> tuple[str, ...]:  # type: ignore[override]
        """Names of the state: the velocity, with momentum."""
        return ("velocity",) if self.momentum else ()

    @property
    def beta1(self) -> float:  # type: ignore[override]
        """Share of the first moment that is kept: the momentum."""
        return self.momentum

    def _shown(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "nesterov": self.nesterov}

    def _update_rule(self) -> str:
        return "sgd" if not self.momentum else "nesterov" if self.nesterov else "momentum"

    def velocity(self, parameters: Parameters) -> Parameters | None:
        """Return the velocity of these parameters.

        Parameters
        ----------
        parameters : Parameters
            Parameters of a model.

        Returns
        -------
        Parameters or None
            Velocity, live; None without momentum.
        """
        return self.state_of(parameters).slots.get("velocity")


def _eps(optimizer: Optimizer, value: Any) -> float:
    return checks.number("eps", value, low=SMALLEST)


class AdaGrad(Optimizer):
    """AdaGrad: a learning rate for every parameter, that falls with the gradients it has seen.

    For a parameter p with the gradient g, as at the top of this module::

        s = s + g^2                             (s = 0 at first)
        p = p - lr g / (sqrt(s) + eps)

    Parameters
    ----------
    lr : float, Schedule or callable, default 0.01
        Learning rate: a number >= 0, a schedule of `fastmlp.schedules`, or any function of the step, from 0
        on.
    eps : float, default 1e-10
        Number > 0 against division by 0.
    weight_decay : float, default 0.0
        Factor >= 0 of an L2 penalty of ``weight_decay/2 |w|^2``.
    l1 : float, default 0.0
        Factor >= 0 of an L1 penalty of ``l1 |w|``, which draws weights towards exactly 0.
    clip_value : float, optional
        Largest absolute value of a gradient, > 0. No limit if not given.
    clip_norm : float, optional
        Largest norm of all gradients of a step taken together, > 0. No limit if not given.
    decay_biases : bool, default False
        Whether the penalties act on biases too.
    divide_penalty : bool, default False
        Whether the penalties are divided by what the samples of a batch weigh, as scikit-learn's alpha is.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range.

    See Also
    --------
    fastmlp.optimizers.Optimizer : Penalties and limits, state, copies; what all optimizers share.

    Notes
    -----
    Parameters with small or rare gradients take larger steps: made for sparse inputs. The sum never forgets,
    so that steps shrink like 1 / sqrt(steps) and may die before the minimum; `RMSprop` forgets.

    References
    ----------
    Duchi, Hazan, Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization", JMLR
    12, 2011, in the form of torch.optim.Adagrad.

    Examples
    --------
    >>> AdaGrad(lr=0.1)
    AdaGrad(lr=0.1, eps=1e-10, weight_decay=0.0)
    """

    update_rules = ("adagrad",)
    slots = ("squares",)
    settable = {**Optimizer.settable, "eps": _eps}

    @names.keywords(names.OPTIMIZER)
    def __init__(
        self,
        lr: Rate = 0.01,
        eps: float = 1e-10,
        *,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        decay_biases: bool = False,
        divide_penalty: bool = False,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, l1=l1, clip_value=clip_value, clip_norm=clip_norm,
                         decay_biases=decay_biases, divide_penalty=divide_penalty)
        self.eps = eps

    def _shown(self) -> dict[str, Any]:
        return {"eps": self.eps}


class RMSprop(Optimizer):
    """RMSprop: AdaGrad that forgets, gradients over the root of their mean square.

    For a parameter p with the gradient g, as at the top of this module::

        s = rho s + (1 - rho) g^2               (s = 0 at first)
        p = p - lr g / (sqrt(s) + eps)

    Parameters
    ----------
    lr : float, Schedule or callable, default 0.01
        Learning rate: a number >= 0, a schedule of `fastmlp.schedules`, or any function of the step, from 0
        on.
    rho : float, default 0.99
        Share of the mean square s that is kept, from 0 to below 1.
    eps : float, default 1e-8
        Number > 0 against division by 0.
    weight_decay : float, default 0.0
        Factor >= 0 of an L2 penalty of ``weight_decay/2 |w|^2``.
    l1 : float, default 0.0
        Factor >= 0 of an L1 penalty of ``l1 |w|``, which draws weights towards exactly 0.
    clip_value : float, optional
        Largest absolute value of a gradient, > 0. No limit if not given.
    clip_norm : float, optional
        Largest norm of all gradients of a step taken together, > 0. No limit if not given.
    decay_biases : bool, default False
        Whether the penalties act on biases too.
    divide_penalty : bool, default False
        Whether the penalties are divided by what the samples of a batch weigh, as scikit-learn's alpha is.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range.

    See Also
    --------
    fastmlp.optimizers.Optimizer : Penalties and limits, state, copies; what all optimizers share.

    Notes
    -----
    The mean goes over the last 1 / (1 - rho) steps. A step is about lr for every parameter, whatever the
    scale of its gradient; the first ones are larger, 1 / sqrt(1 - rho) times lr, for s starts at 0 and is not
    corrected as in `Adam`.

    References
    ----------
    Tieleman, Hinton, "Lecture 6.5: rmsprop", Coursera: Neural Networks for Machine Learning, 2012, in the
    form of torch.optim.RMSprop.

    Examples
    --------
    >>> RMSprop(lr=0.001)
    RMSprop(lr=0.001, rho=0.99, eps=1e-08, weight_decay=0.0)
    """

    update_rules = ("rmsprop",)
    slots = ("squares",)
    settable = {**Optimizer.settable, "rho": lambda self, value: checks.below_one("rho", value), "eps": _eps}

    @names.keywords(names.OPTIMIZER)
    def __init__(
        self,
        lr: Rate = 0.01,
        rho: float = 0.99,
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        decay_biases: bool = False,
        divide_penalty: bool = False,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, l1=l1, clip_value=clip_value, clip_norm=clip_norm,
                         decay_biases=decay_biases, divide_penalty=divide_penalty)
        self.rho: float = rho
        self.eps = eps

    @property
    def beta2(self) -> float:  # type: ignore[override]
        """Share of the mean square that is kept: rho."""
        return self.rho

    def _shown(self) -> dict[str, Any]:
        return {"rho": self.rho, "eps": self.eps}


class Adam(Optimizer):
    """Adam, adaptive moments: momentum over the root of the mean square, both bias-corrected.

    For a parameter p with the gradient g, as at the top of this module::

        m = beta1 m + (1 - beta1) g             (m = v = 0 at first)
        v = beta2 v + (1 - beta2) g^2
        p = p - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)      t = 1, 2, ...
        p = p - lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + eps)        with eps_hat

    Parameters
    ----------
    lr : float, Schedule or callable, default 0.001
        Learning rate: a number >= 0, a schedule of `fastmlp.schedules`, or any function of the step, from 0
        on.
    beta1 : float, default 0.9
        Share of the mean gradient m that is kept, from 0 to below 1.
    beta2 : float, default 0.999
        Share of the mean square v that is kept, from 0 to below 1.
    eps : float, default 1e-8
        Number > 0 against division by 0.
    weight_decay : float, default 0.0
        Factor >= 0 of an L2 penalty of ``weight_decay/2 |w|^2``.
    l1 : float, default 0.0
        Factor >= 0 of an L1 penalty of ``l1 |w|``, which draws weights towards exactly 0.
    clip_value : float, optional
        Largest absolute value of a gradient, > 0. No limit if not given.
    clip_norm : float, optional
        Largest norm of all gradients of a step taken together, > 0. No limit if not given.
    decay_biases : bool, default False
        Whether the penalties act on biases too.
    divide_penalty : bool, default False
        Whether the penalties are divided by what the samples of a batch weigh, as scikit-learn's alpha is.
    eps_hat : bool, default False
        Whether eps is the epsilon hat of the paper, added before the bias correction, as scikit-learn has it.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range.

    See Also
    --------
    fastmlp.optimizers.Optimizer : Penalties and limits, state, copies; what all optimizers share.

    Notes
    -----
    A step is at most about lr for every parameter, and less where the sign of its gradient changes. Works
    over a wide range of problems with the settings as they are. Weight decay acts on the gradient here, and
    the root divides it away where gradients are large: use `AdamW`.

    References
    ----------
    Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, in the form of torch.optim.Adam.

    Examples
    --------
    >>> Adam()
    Adam(lr=0.001, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.0)
    """

    update_rules = ("adam",)
    slots = ("first_moment", "second_moment")
    settable = {
        **Optimizer.settable,
        "beta1": lambda self, value: checks.below_one("beta1", value),
        "beta2": lambda self, value: checks.below_one("beta2", value),
        "eps": _eps,
        "eps_hat": lambda self, value: bool(value),
    }

    @names.keywords(names.OPTIMIZER)
    def __init__(
        self,
        lr: Rate = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        l1: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        decay_biases: bool = False,
        divide_penalty: bool = False,
        eps_hat: bool = False,
    ) -> None:
        super().__init__(lr, weight_decay=weight_decay, l1=l1, clip_value=clip_value, clip_norm=clip_norm,
                         decay_biases=decay_biases, divide_penalty=divide_penalty)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps
        self.eps_hat: bool = eps_hat

    def _shown(self) -> dict[str, Any]:
        shown = {"beta1": self.beta1, "beta2": self.beta2, "eps": self.eps}
        return {**shown, "eps_hat": True} if self.eps_hat else shown

    def rates(self, first: int, count: int) -> Array:
        result = np.array(super().rates(first, count), order="C")       # the kernels read it row by row
        result[:, 0] /= 1 - powers(self.beta1, first + 1, count)
        correction = np.sqrt(1 - powers(self.beta2, first + 1, count))
        if self.eps_hat:
            result[:, 0] *= correction
        else:
            result[:, 1] = 1 / correction
        return result


class AdamW(Adam):
    """Adam with decoupled weight decay, which does not pass through the gradient.

    For a parameter p with the gradient g, as at the top of this module::

        p = p - lr weight_decay p               on weights, and on biases with decay_biases
        p = p - (Adam's step, of g without weight decay)

    Parameters
    ----------
    lr : float, Schedule or callable, default 0.001
        Learning rate: a number >= 0, a schedule of `fastmlp.schedules`, or any function of the step, from 0
        on.
    beta1 : float, default 0.9
        Share of the mean gradient m that is kept, from 0 to below 1.
    beta2 : float, default 0.999
        Share of the mean square v that is kept, from 0 to below 1.
    eps : float, default 1e-8
        Number > 0 against division by 0.
    weight_decay : float, default 0.01
        Factor >= 0 of the share, ``lr weight_decay``, that a step takes from a weight.
    l1 : float, default 0.0
        Factor >= 0 of an L1 penalty of ``l1 |w|``, which draws weights towards exactly 0.
    clip_value : float, optional
        Largest absolute value of a gradient, > 0. No limit if not given.
    clip_norm : float, optional
        Largest norm of all gradients of a step taken together, > 0. No limit if not given.
    decay_biases : bool, default False
        Whether the penalties act on biases too.
    divide_penalty : bool, default False
        Whether the L1 penalty is divided by what the samples of a batch weigh; the decoupled decay is not.
    eps_hat : bool, default False
        Whether eps is the epsilon hat of the paper, added before the bias correction, as scikit-learn has it.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range.

    See Also
    --------
    fastmlp.optimizers.Optimizer : Penalties and limits, state, copies; what all optimizers share.

    Notes
    -----
    All weights decay at one pace, however large their gradients, and with the learning rate of a schedule.

    References
    ----------
    Loshchilov, Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, in the form of torch.optim.AdamW.

    Examples
    --------
    >>> AdamW()
    AdamW(lr=0.001, beta1=0.9, beta2=0.999, eps=1e-08, weight_decay=0.01)
    """

    decoupled = True

    @names.keywords(names.OPTIMIZER)
    def __init__(
        self,
        lr: Rate = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        *,
        weight_decay: float = 0.01,
        l1: float = 0.0,
        clip_value: float | None = None,
        clip_norm: float | None = None,
        decay_biases: bool = False,
        divide_penalty: bool = False,
        eps_hat: bool = False,
    ) -> None:
        super().__init__(lr, beta1, beta2, eps, weight_decay=weight_decay, l1=l1, clip_value=clip_value,
                         clip_norm=clip_norm, decay_biases=decay_biases,
                         divide_penalty=divide_penalty, eps_hat=eps_hat)


def adam_rates(lr: float, beta1: float, beta2: float, step: int, decoupled_decay: float
               ) -> tuple[float, float, float]:
    """A row of `Adam.rates`, of step 1, 2, ..."""
    return lr / (1 - power(beta1, step)), 1 / math.sqrt(1 - power(beta2, step)), decoupled_decay


def _all_rules(cls: type[Optimizer]) -> set[str]:
    return set(cls.update_rules).union(*map(_all_rules, cls.__subclasses__()))


ops.complete("class", CODES, ["gradient", *_all_rules(Optimizer)])


def _limit(name: str, value: Any) -> float | None:
    return None if value is None else checks.number(name, value, low=SMALLEST)
