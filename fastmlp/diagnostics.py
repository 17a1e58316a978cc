"""Diagnostics: what becomes of every layer while it trains, in numbers and in sentences."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastmlp._core import callers, checks
from fastmlp._core.attributes import Guarded
from fastmlp._core.copying import VERSION, check_state
from fastmlp._core.observer import FIELDS, Observer
from fastmlp._core.sources import SparseRows
from fastmlp.activations import ELU, Activation, LeakyReLU, ReLU, Sigmoid, Tanh

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array
    from fastmlp.model import MLP

__all__ = ["Diagnostics"]

NAMES = (*FIELDS[:-1], "update_ratio")      # of the numbers of a layer, as users see them
EPOCH = "epoch."                # in front of the names of an unfinished epoch's arrays, in the state
NEAR = 0.01                     # of the range of sigmoid or tanh, from one of its ends: there it is saturated
DEAD_UNITS = 0.1                # shares from which on there is a sentence
SATURATED = 0.5
LARGE_UPDATE = 0.1
FAR_APART = 1e3                 # how many times the gradients of two layers may differ
UNLIKELY = 1e-6                 # chance that dropout explains the zeros of a unit, below which it does not
NOTHING = 1e-30                 # outputs of a layer that are smaller are 0
BLOCK_ROWS = 1024               # of samples that are looked through at a time


class Problem(NamedTuple):
    """Something that is wrong with a layer, in a few words for the progress bar and in a sentence."""

    kind: str
    layer: int
    note: str
    sentence: str


class Context(NamedTuple):
    """What advice depends on: it does not name what is there already, or what is not there to be changed.

    samples     that the network trains on, where they are arrays
    clips       whether the optimizer limits gradients
    has_values  whether targets are values, which may be scaled
    is_relu     whether every activation is relu
    has_norm    whether every hidden layer has batch_norm
    """

    samples: Any = None
    clips: bool = False
    has_values: bool = False
    is_relu: bool = False
    has_norm: bool = False

    @property
    def scaled(self) -> str:
        """What to scale."""
        return f"inputs{' and targets' if self.has_values else ''} scaled to about 1"


class Diagnostics(Guarded):
    """Watch the layers of a network while it trains, and say what goes wrong.

    A callback. For every layer, in the course of training::

        dead            share of the units that gave 0 for all samples since the last report
        saturation      share of the outputs within 1% of the ends of sigmoid or tanh
        mean, std       of the outputs, as the next layer gets them
        gradient_norm   |g|, g = dL/dw of a batch, before any limit on it
        weight_norm     |w|
        update_ratio    |change of w| / |w|, of a step

    Parameters
    ----------
    every : int, default 100
        Steps between two reports, at least. An epoch is divided evenly, and its last step has one.
    warn : bool, default True
        Whether what is wrong is said in a RuntimeWarning after the epoch, once for each layer and trouble;
        ``findings`` holds it in any case.

    Attributes
    ----------
    steps : ndarray of int, shape (reports,)
        The step of every report, counted from 1 since `fit` began.
    values : dict {str: ndarray, shape (reports, layers)}
        The numbers above by their names. NaN where a number makes no sense.
    findings : tuple of str
        Sentences on the last epoch.
    dead_units : tuple of ndarray
        Of every hidden layer, the numbers of the units that gave 0 for every sample of the last epoch.
        With dropout, that may be dropout's doing: see the notes.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range.

    Notes
    -----
    Layers are counted from 1: layer 1 has ``model.weights[0]``. The history of `MLP.fit` gets the numbers of
    every epoch as ``layer1_dead``, ``layer2_gradient_norm`` and so on: dead counts the whole epoch, the
    others are means over its reports. While an epoch runs, the progress bar shows what is wrong.

    *Dead* is exact: every sample of every step counts. It is there for relu (and for leaky_relu and elu with
    alpha = 0), where an output of 0 means that no gradient passes. *Saturation* is there for sigmoid and
    tanh; within 1% of the ends their slope is less than 4% of its largest. The outputs of the last layer,
    which are linear, are not looked at. With dropout, outputs are those that are left, scaled; dropped ones
    do not count as saturated.

    All numbers are taken after dropout: a unit that is dropped for every sample counts in dead and in
    ``dead_units``. A sentence on dead units of a layer with dropout comes only where there were so many
    samples n that this is no explanation, dropout^n < 1e-6: 20 samples for a dropout of 0.5, 62 for 0.8.

    Sentences come with 10% of dead units; a layer of another activation whose outputs are all 0; half of the
    outputs saturated; a gradient a thousand times smaller than that of a layer above, or a thousand times
    larger than the layer's weights, or not finite; steps that change weights by 10%, where 0.1% is healthy;
    and inputs that are all 0, or not finite, where these are the reason.

    The kernels compute all this in the training steps themselves. What is trained stays the same, to the bit.
    A report costs about as much as a step takes, so that every hundredth step costs little; memory is that of
    two copies of the parameters. Without Diagnostics, nothing is computed or allocated. `LBFGS` takes no
    steps, so that there is nothing to watch.

    References
    ----------
    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.

    Pascanu, Mikolov, Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.

    Lu, Shin, Su, Karniadakis, "Dying ReLU and Initialization: Theory and Numerical Examples", 2020.

    Examples
    --------
    >>> from fastmlp import MLP, SGD
    >>> X, y = np.eye(4), np.array([0, 1, 0, 1])
    >>> model = MLP([4, 8, 2], seed=0)
    >>> model.biases[0] = [-10, -10, 1, 1, 1, 1, 1, 1]      # two units that no sample reaches
    >>> diagnostics = Diagnostics(every=1, warn=False)
    >>> history = model.fit(X, y, epochs=3, callbacks=[diagnostics], progress=False)
    >>> diagnostics.dead_units[0], history.layer1_dead
    (array([0, 1]), [0.25, 0.25, 0.25])
    >>> print(*diagnostics.findings)
    layer 1: 2 of 8 units gave 0 for every sample of this epoch: try leaky_relu or a lower learning rate
    >>> diagnostics.values["update_ratio"].shape
    (3, 2)
    """

    observer: Observer | None

    settable = {
        "every": lambda self, value: checks.integer("every", value, low=1),
        "warn": lambda self, value: bool(value),
    }
    fixed = {name: "is what was found in training"
             for name in ("steps", "values", "findings", "dead_units", "observer")}

    def __init__(self, every: int = 100, *, warn: bool = True) -> None:
        self.every: int = every                 # assignments validate
        self.warn: bool = warn
        self.__dict__["observer"] = None        # the engine's, while a model trains
        self._within = False                    # an epoch
        self._context = Context()
        self._batch_size = self._samples = 0
        self._dropout: tuple[float, ...] = ()
        self._resumed: dict[str, Array] | None = None       # from `set_state`, until training goes on
        self._start((), ())

    def _start(self, functions: tuple[Activation, ...], units: tuple[int, ...]) -> None:
        self._activations = functions
        self._units = units
        sensible = [_makes_sense(name, f, layer == len(functions))
                    for layer, f in enumerate(functions, 1) for name in NAMES]
        self._sensible = np.array(sensible, bool).reshape(len(functions), len(NAMES))
        self._names = [f"layer{layer + 1}_{NAMES[i]}" for layer, i in np.argwhere(self._sensible)]
        self._steps: list[int] = []
        self._tables: list[Array] = []          # (reports, layers, NAMES) of every epoch
        self._problems: list[Problem] = []      # of the last epoch
        self._dead: tuple[Array, ...] = ()
        self._said: set[tuple[str, int]] = set()
        self._before = 0                        # steps of the epochs before
        self._epoch = 0                         # the last that ended, from 1; 0 where none has

    def __repr__(self) -> str:
        return f"Diagnostics(every={self.every}, warn={self.warn})"

    def __str__(self) -> str:
        """A table of the last report, and the findings of the last epoch."""
        if not self._tables:
            return repr(self)
        epoch = f"epoch {self._epoch}" if self._epoch else "the last epoch"
        head = f"Step {self._steps[-1]}, the last report, in {epoch}:"
        findings = [f"Found in {epoch}:", *self.findings] if self.findings else []
        lines = [["layer", "dead", "saturated", "mean", "std", "gradient", "weights", "update/weights"]]
        for layer, row in enumerate(self._tables[-1][-1], 1):
            shares = ["-" if math.isnan(share) else f"{share:.1%}" for share in row[:2]]
            lines.append([str(layer), *shares, *("-" if math.isnan(x) else f"{x:.3g}" for x in row[2:])])
        widths = [max(map(len, column)) for column in zip(*lines)]
        text = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths)) for line in lines]
        return "\n".join([head, *text, *findings])

    @property
    def steps(self) -> Array:
        """The step of every report."""
        return np.array(self._steps, np.intp)

    @property
    def values(self) -> dict[str, Array]:
        """The numbers of every report and layer, by their names."""
        found = self._reports()
        return {name: np.ascontiguousarray(found[:, :, i]) for i, name in enumerate(NAMES)}

    @property
    def findings(self) -> tuple[str, ...]:
        """Sentences on the last epoch."""
        return tuple(problem.sentence for problem in self._problems)

    @property
    def dead_units(self) -> tuple[Array, ...]:
        """Of every hidden layer, the units that gave 0 for every sample of the last epoch."""
        return self._dead

    # What `fit` calls -------------------------------------------------------------------------------------

    def begin(self, model: MLP) -> None:
        """Start anew with a model.

        Parameters
        ----------
        model : MLP
            Model that is going to be trained.

        Raises
        ------
        ValueError
            For a state, given to `set_state`, of another number of layers.
        """
        state, self._within = self._resumed, False
        depth = len(model.layers) - 1
        if state is not None and state["values"].shape[1] not in (0, depth):
            raise ValueError(f"state: expected that of {depth} layers, got {state['values'].shape[1]}")
        self._start(model.activations, model.layers[1:])
        self._context = _context_of(model)
        self.__dict__["observer"] = Observer(model.core.parameters)
        if state is not None:
            self._steps, self._before = state["steps"].tolist(), int(state["before"])
            self._tables = [state["values"]] if len(state["steps"]) else []

    def begin_epoch(self, model: MLP, steps: int, samples: int | None = None, batch_size: int = 1) -> None:
        """Prepare for the steps of an epoch.

        Parameters
        ----------
        model : MLP
            Model that is trained.
        steps : int
            Number of steps that the epoch has.
        samples : int, optional
            Number of samples that it has. One a step if not given.
        batch_size : int, default 1
            Samples of a step; the last one may have fewer.
        """
        self._samples, self._batch_size = steps if samples is None else samples, batch_size
        self._dropout = (*model.dropout, 0.0)
        kept = [1 - rate for rate in self._dropout]     # outputs that are left are divided by this
        ends = [(low / share, high / share)
                for (low, high), share in zip(map(_ends, self._activations), kept)]
        if self.observer is not None:
            self.observer.start(steps, self.every, ends)
            if self._resumed is not None and EPOCH + "step" in self._resumed:
                self.observer.set_state({
                    name.removeprefix(EPOCH): value for name, value in self._resumed.items()
                    if name.startswith(EPOCH)})
        self._within, self._resumed = True, None

    def note(self) -> str:
        """Return what is wrong at the moment, for the progress bar.

        Returns
        -------
        str
            A few words on the last report, or nothing.
        """
        if self.observer is None or not len(self.observer.reports()):
            return ""
        last = self._shown(self.observer.reports()[-1:])
        begin, end = [0, *self.observer.report_steps()][-2:]
        seen = min(end * self._batch_size, self._samples) - begin * self._batch_size
        context = Context(None, *self._context[1:])     # samples are looked through once an epoch
        problems = self._look(last, last[0, :, 0], seen, context)
        return problems[0].note if problems else ""

    def end_epoch(self) -> dict[str, float]:
        """Take in the reports of an epoch.

        Returns
        -------
        dict {str: float}
            Numbers of the epoch, by the names that the history has.
        """
        observer = self.observer
        if observer is None:
            return {}
        self._within = False
        reports = self._shown(observer.reports())
        self._steps += [self._before + step for step in observer.report_steps()]
        if len(reports):
            self._tables.append(reports)
        self._before += observer.step
        dead = [~observer.alive_units(layer) for layer in range(len(self._activations) - 1)]
        self._dead = tuple(np.flatnonzero(units) if _can_die(f) else np.zeros(0, np.intp)
                           for units, f in zip(dead, self._activations))
        shares = np.array([units.mean() for units in dead] + [math.nan])
        self._problems = self._look(reports, shares, self._samples, self._context) if len(reports) else []
        epoch = _mean(reports)
        epoch[:, 0] = shares
        return dict(zip(self._names, epoch[self._sensible].tolist()))

    def __call__(self, model: MLP, epoch: int, logs: dict[str, Any]) -> None:
        """Warn of what was found in an epoch, for the first time.

        Parameters
        ----------
        model : MLP
            Model that is trained.
        epoch : int
            Epoch, from 0 on.
        logs : dict {str: float}
            Numbers of the epoch.
        """
        self._epoch = epoch + 1
        for problem in self._problems:
            if self.warn and (problem.kind, problem.layer) not in self._said:
                self._said.add((problem.kind, problem.layer))
                callers.warn_of_training(model, f"epoch {epoch + 1}, {problem.sentence}")

    def finish(self, model: MLP) -> None:
        """Let go of what is needed in training alone.

        Parameters
        ----------
        model : MLP
            Model that was trained.
        """
        self.__dict__["observer"] = None
        self._context = Context()

    # State, read and written ------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Array]:
        """Return copies of all that it holds of the training, by flat names.

        Returns
        -------
        dict {str: ndarray}
            "steps" and "values", the reports so far; "before", the steps of the epochs that are finished; and
            within an epoch "epoch.step" and so on, where it stands there.
        """
        state = {"steps": self.steps, "values": self._reports(), "before": np.array(self._before)}
        if self._within and self.observer is not None:
            state |= {EPOCH + name: value for name, value in self.observer.get_state().items()}
        return state

    def set_state(self, values: Mapping[str, ArrayLike]) -> None:
        """Replace the state by what `get_state` returned; the next `fit` goes on with it.

        Parameters
        ----------
        values : mapping {str: array_like}
            State, as `get_state` returns it.

        Raises
        ------
        TypeError
            For values that are no numbers; nothing is changed.
        ValueError
            For names and shapes that `get_state` does not return; nothing is changed.
        """
        shapes: dict[str, tuple[int | str, ...]] = {
            "steps": ("reports",), "values": ("reports", "layers", len(NAMES)), "before": (),
            EPOCH + "step": (), EPOCH + "steps": (), EPOCH + "table": ("reports", "layers", len(NAMES)),
            EPOCH + "alive": ("units",), EPOCH + "alive_in_epoch": ("units",)}
        needed = list(shapes) if any(name.startswith(EPOCH) for name in values) else list(shapes)[:3]
        wrong = sorted({*values} ^ {*needed})
        if wrong:
            raise ValueError(f"state: expected {', '.join(needed)}, got {', '.join(values)}")
        state = {}
        for name in needed:
            array = checks.as_array(f"state[{name!r}]", values[name])
            if array.dtype.kind not in "biuf":
                raise TypeError(f"state[{name!r}]: expected numbers, got dtype {array.dtype}")
            checks.shape(f"state[{name!r}]", array, shapes[name])
            state[name] = array.copy()
        checks.shape("state['values']", state["values"], (len(state["steps"]), "layers", len(NAMES)))
        self._resumed = state

    # What is wrong ----------------------------------------------------------------------------------------

    def _reports(self) -> Array:
        """(reports, layers, NAMES) of all epochs."""
        return np.concatenate([np.empty((0, len(self._activations), len(NAMES))), *self._tables])

    def _shown(self, reports: Array) -> Array:
        """(reports, layers, NAMES) of what the engine wrote, (reports, layers, FIELDS)."""
        result = np.where(self._sensible, reports, math.nan)
        with np.errstate(divide="ignore", invalid="ignore"):
            result[:, :, -1] /= result[:, :, -2]
        return result

    def _look(self, reports: Array, dead: Array, samples: int, context: Context) -> list[Problem]:
        """What is wrong in these reports of so many samples, with these shares of dead units in every
        layer."""
        table = _mean(reports)
        if table[0, 4] == 0 and np.isfinite(table[:, 4:6]).all() and _all(context.samples, _is_zero):
            return [Problem("inputs", 1, "X is 0",
                            "X holds nothing but 0, from which nothing can be learned")]
        found: list[Problem] = []
        passes = True               # a gradient, through the layers so far
        for i, f in enumerate(self._activations[:-1]):
            layer, units = i + 1, self._units[i]
            dropped = self._dropout[i] > 0 and self._dropout[i]**samples >= UNLIKELY
            if _can_die(f) and dead[i] >= DEAD_UNITS and not dropped:
                passes = passes and dead[i] < 1
                count = round(float(dead[i]) * units)
                found.append(Problem(
                    "dead", layer, f"layer {layer}: {count}/{units} dead",
                    f"layer {layer}: {count} of {units} units gave 0 for every sample of this epoch: "
                    "try leaky_relu or a lower learning rate"))
            if (passes and not _can_die(f) and not dropped
                    and (np.abs(reports[:, i, 2:4]) < NOTHING).all()):
                passes = False
                found.append(Problem(
                    "silent", layer, f"layer {layer}: all outputs 0",
                    f"layer {layer}: all of its outputs are 0, and hardly any gradient passes: begin anew "
                    "with weights and biases of usual size, and a lower learning rate"))
            if table[i, 1] >= SATURATED:
                share = f"{table[i, 1]:.0%}"
                cures = ["smaller initial weights", "inputs scaled to about 1"]
                if not context.has_norm:
                    cures.append("batch_norm")
                found.append(Problem(
                    "saturated", layer, f"layer {layer}: {share} saturated",
                    f"layer {layer}: {share} of its outputs are within 1% of the ends of {f.name}, where "
                    f"hardly any gradient passes: try {_listed(cures)}"))
        found += _gradients(table[:, 4].tolist(), table[:, 5].tolist(), context, passes)
        ratios = np.sort(reports[:, :, -1], axis=0)[len(reports) // 2]      # the median
        for layer, ratio in enumerate(ratios, 1):
            if ratio >= LARGE_UPDATE:
                found.append(Problem(
                    "update", layer, f"layer {layer}: steps of {ratio:.0%}",
                    f"layer {layer}: a step changes its weights by {ratio:.0%} of their norm, where 0.1% is "
                    "healthy: try a lower learning rate"))
        return found

    # Copies -----------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {"version": VERSION, "settings": {**vars(self), "observer": None, "_context": Context()}}

    def __setstate__(self, values: dict[str, Any]) -> None:
        check_state(self, values, ["settings"])
        self.__dict__.update(values["settings"])


def _context_of(model: MLP) -> Context:
    """Of a model that trains, or is going to."""
    training, hidden = model.core.training, len(model.layers) - 2
    optimizer = None if training is None else training.optimizer
    return Context(
        samples=None if training is None else getattr(training.samples, "x", None),
        clips=any(getattr(optimizer, name, None) is not None for name in ("clip_norm", "clip_value")),
        has_values=model.loss.targets in ("values", "counts"),
        is_relu=all(isinstance(f, ReLU) for f in model.activations[:hidden]),
        has_norm=all(model.batch_norm[:hidden]) and hidden > 0)


def _gradients(norms: list[float], weights: list[float], context: Context, passes: bool) -> list[Problem]:
    """What is wrong with the gradients of the layers, which have these norms, as the weights have; `passes`:
    whether no layer is known to stop them all."""
    for what, numbers in (("gradient", norms), ("weights", weights)):
        wrong = [i for i, number in enumerate(numbers, 1) if not math.isfinite(number)]
        if wrong:
            if context.samples is not None and not _all(context.samples, _is_finite):
                cause = "X holds NaN or infinity"
            else:
                cause = f"try {_listed(['a lower learning rate', *_limits(context), context.scaled])}"
            verb = "its gradient is" if what == "gradient" else "its weights are"
            return [Problem("gradient", wrong[0], f"layer {wrong[0]}: {what} not finite",
                            f"layer {wrong[0]}: {verb} not finite: {cause}")]
    found = []
    times_weights = [norm / weight if weight > 0 else 0.0 for norm, weight in zip(norms, weights)]
    largest = max(times_weights)
    if largest >= FAR_APART:
        layer = times_weights.index(largest) + 1
        found.append(Problem(
            "exploding", layer, f"layer {layer}: gradient explodes",
            f"layer {layer}'s gradient is 10^{math.log10(largest):.0f} times its weights: gradients "
            f"explode; try {_listed([*_limits(context), context.scaled, 'smaller initial weights'])}"))
    for layer, norm in enumerate(norms[:-1] if passes else (), 1):
        largest = max(norms[layer:])
        if norm * FAR_APART <= largest and largest > 0:
            times = "0, beside"
            if norm > 0:
                times = f"10^{math.log10(largest / norm):.0f} times smaller than"
            cures = [cure for cure, there in (
                ("relu", context.is_relu), ("batch_norm", context.has_norm), ("fewer layers", len(norms) < 3),
                ("another init", False)) if not there]
            found.append(Problem(
                "vanishing", layer, f"layer {layer}: gradient vanishes",
                f"layer {layer}'s gradient is {times} layer {norms.index(largest, layer) + 1}'s: gradients "
                f"vanish on the way to it; try {_listed(cures)}"))
            break
    return found


def _limits(context: Context) -> list[str]:
    return [] if context.clips else ["clip_norm"]


def _listed(cures: list[str]) -> str:
    """
    >>> _listed(["relu", "batch_norm", "another init"])
    'relu, batch_norm or another init'
    """
    return " or ".join([", ".join(cures[:-1]), cures[-1]]) if len(cures) > 1 else cures[0]


def _all(x: Any, holds: Callable[[Array], bool]) -> bool:
    """Whether it holds for all samples, which are looked through up to the first for which it does not."""
    if isinstance(x, SparseRows):
        x = x.data[int(x.indptr[0]):int(x.indptr[-1])]
    return x is not None and all(holds(np.asarray(x[start:start + BLOCK_ROWS]))
                                 for start in range(0, len(x), BLOCK_ROWS))


def _is_zero(x: Array) -> bool:
    return not x.any()


def _is_finite(x: Array) -> bool:
    return bool(np.isfinite(x).all())


def _mean(reports: Array) -> Array:
    """Over the reports, NaN of none; what is not finite in any of them is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        result: Array = reports.sum(axis=0) / (len(reports) or math.nan)
    return result


def _ends(f: Activation) -> tuple[float, float]:
    """Below the first and above the second, the outputs of an activation are saturated."""
    if isinstance(f, Sigmoid):
        return NEAR, 1 - NEAR
    if isinstance(f, Tanh):
        return 2 * NEAR - 1, 1 - 2 * NEAR
    return -math.inf, math.inf


def _can_die(f: Activation) -> bool:
    """Whether it is flat where its output is 0."""
    return isinstance(f, ReLU) or isinstance(f, (LeakyReLU, ELU)) and f.alpha == 0


def _makes_sense(name: str, f: Activation, is_last: bool) -> bool:
    """Whether a layer has such a number."""
    if name in ("dead", "saturation", "mean", "std") and is_last:
        return False
    return _can_die(f) if name == "dead" else name != "saturation" or math.isfinite(_ends(f)[1])
