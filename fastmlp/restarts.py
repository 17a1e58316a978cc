"""`fit(restarts=n)`: several initialisations, of which the best is kept, against bad local minima."""
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core import divergence, state, step_hooks
from fastmlp._core.progress import Progress, kind_of
from fastmlp.data._chunks import as_source
from fastmlp.optimizers import Optimizer
from fastmlp.training import History

if TYPE_CHECKING:
    from fastmlp._core.types import Array
    from fastmlp.model import MLP

__all__ = ["Restart", "seed_of"]


@dataclass(frozen=True)
class Restart:
    """One of the trainings of ``fit(restarts=n)``.

    Attributes
    ----------
    seed : int
        Seed of the model: ``MLP(..., seed=seed)``, trained alone, ends with the same bits.
    loss : float
        Loss of the trained model, over the validation data if there are any, else over the training data;
        infinite where training diverged.
    history : History
        Numbers of its epochs.
    weights : list of ndarray, shape (in, out)
        Copies of the weights that it ended with.
    biases : list of ndarray, shape (out,)
        Copies of the biases that it ended with.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> model = MLP([2, 2, 2], seed=0)
    >>> X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), [0, 1, 1, 0]
    >>> history = model.fit(X, y, epochs=2, restarts=3, progress=False)
    >>> len(history.restarts), history.restarts[0].seed
    (3, 0)
    >>> min(restart.loss for restart in history.restarts) == model.evaluate(X, y)["loss"]
    True
    """

    seed: int
    loss: float
    history: History
    weights: list[Array]
    biases: list[Array]

    def __repr__(self) -> str:
        return f"Restart(seed={self.seed}, loss={self.loss:.4g})"


def seed_of(seed: int, restart: int) -> int:
    """Return the seed of a restart: of the first that of the model, of others what follows from it.

    Of restart i > 0 it is ``np.random.SeedSequence([seed, i]).generate_state(1)[0]``.

    Parameters
    ----------
    seed : int
        Seed of the model.
    restart : int
        Number of the restart, from 0 on.

    Returns
    -------
    int
        Seed.

    Examples
    --------
    >>> [seed_of(7, restart) for restart in range(3)]
    [7, 369571992, 1009178997]
    """
    if restart == 0:
        return seed
    return int(np.random.SeedSequence([seed, restart]).generate_state(1)[0])


def fit_with_restarts(model: MLP, restarts: int, train: Callable[..., History],
                      evaluate: Callable[..., tuple[dict[str, float], int, int, int]],
                      arguments: Mapping[str, Any]) -> History:
    """Train a model from several initialisations, and leave it as the best of these trainings did.

    Parameters
    ----------
    model : MLP
        Model. The first training begins with it as it is.
    restarts : int
        Number of trainings, >= 1.
    train : callable
        `MLP.fit` of the model, which takes the arguments.
    evaluate : callable
        What measures the model, (X, y, sample_weight, metrics, class_weight) -> ({name: number}, ...).
    arguments : mapping {str: object}
        Arguments of `MLP.fit`.

    Returns
    -------
    History
        History of the best training, with ``restarts``.

    Raises
    ------
    TypeError
        For callbacks and progress of the wrong type, before anything changes.
    ValueError
        For a model whose initial values cannot be drawn again, for a checkpoint, and for samples that can be
        read once; before anything changes.
    """
    start = model.core.start
    if start is None or not start.is_random:
        raise ValueError("restarts: expected a model whose initial values can be drawn again, got one from a "
                         "file, from a pickle without its initialiser, or with init='zeros'")
    if arguments.get("checkpoint") is not None:
        raise ValueError("checkpoint: expected None with restarts, each of which is a training of its own")
    for name in ("X", "validation_data"):
        source = as_source(arguments[name])
        if source is not None and source.passes is not None:
            raise ValueError(f"{name}: expected what every restart can read, got an iterator, which gives "
                             "its blocks once; fastmlp.data.Chunks(function) calls the function for a new "
                             "one")
    arguments = {**arguments, "callbacks": step_hooks.check("callbacks", arguments["callbacks"])}
    optimizer = arguments["optimizer"] if isinstance(arguments["optimizer"], Optimizer) else None
    kind = kind_of("progress", arguments["progress"])
    with model.core.lock.take(runs=False):
        blank = None
        if optimizer is not None:
            blank = optimizer.get_state(copy.deepcopy(model))       # of a model that it has not trained
        best: _Kept | None = None
        done: list[Restart] = []
        try:
            for i in range(restarts):
                seed = seed_of(start.seed, i)
                if i:
                    start.again(model, seed)
                    if optimizer is not None and blank is not None:
                        optimizer.set_state(model, blank)
                arguments["progress"] = Progress(kind, f"restart {i + 1}/{restarts}, ")
                history = train(**arguments)
                done.append(Restart(seed, _loss(model, evaluate, arguments), history,
                                    [w.copy() for w in model.weights], [b.copy() for b in model.biases]))
                if best is None or done[-1].loss < best.restart.loss:
                    best = _Kept(model, optimizer, done[-1])
        finally:
            if best is not None:            # Ctrl-C, too, leaves the best so far
                best.restore(model, optimizer)
    assert best is not None
    best.restart.history.restarts = done
    return best.restart.history


def _loss(model: MLP, evaluate: Callable[..., Any], arguments: Mapping[str, Any]) -> float:
    """What the restarts are compared by; infinite after divergence, which `fit` has warned of."""
    if not divergence.all_finite(model.core.parameters.buffer, model.core.statistics.buffer):
        return math.inf
    X, y, weights, class_weight = (arguments[name] for name in ("X", "y", "sample_weight", "class_weight"))
    validation = arguments["validation_data"]
    if validation is not None:
        class_weight = None
        pair = isinstance(validation, (tuple, list))
        X, y, weights = (*validation, None)[:3] if pair else (validation, None, None)   # or a source
    loss = evaluate(X, y, weights, (), class_weight)[0]["loss"]
    return loss if math.isfinite(loss) else math.inf


class _Kept:
    """The best restart so far: all that training changes, and a training would go on from."""

    def __init__(self, model: MLP, optimizer: Optimizer | None, restart: Restart) -> None:
        self.restart = restart
        self._arrays = state.copy(model)
        self._counters = state.counters(model)
        self._rng = model.core.rng              # each restart has its own
        self._optimizer = None if optimizer is None else optimizer.get_state(model)

    def restore(self, model: MLP, optimizer: Optimizer | None) -> None:
        state.restore(model, self._arrays)
        vars(model)["history"] = self.restart.history
        model.core.rng = self._rng
        state.set_counters(model, self._counters)
        if optimizer is not None and self._optimizer is not None:
            optimizer.set_state(model, self._optimizer)
