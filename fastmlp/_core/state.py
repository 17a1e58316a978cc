"""What a trained model consists of: every array that training changes, by name."""
from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat
from operator import setitem
from typing import TYPE_CHECKING

import numpy as np

from fastmlp._core import at_once, checks

if TYPE_CHECKING:
    from fastmlp._core.types import Array
    from fastmlp.model import MLP

__all__ = ["KEPT", "arrays", "check", "check_counters", "copy", "counters", "restore", "set_counters"]

# Attributes of a model, each a list with a live array for every layer, or None where it has none.
TRAINED = ("weights", "biases", "scales")
KINDS = (*TRAINED, "running_means", "running_variances")
NORMALISED = KINDS[2:]                  # those that come with batch normalisation
KEPT = "kept."          # in front of such a name, in the state of a callback that keeps copies


def arrays(model: MLP) -> dict[str, Array]:
    """The live arrays: weights.0, biases.0, weights.1, ...; with batch normalisation scales.0,
    running_means.0, running_variances.0, too.

    >>> from fastmlp import MLP
    >>> list(arrays(MLP([4, 3])))
    ['weights.0', 'biases.0']
    """
    lists = {kind: getattr(model, kind) for kind in KINDS}
    return {f"{kind}.{i}": some[i] for i in range(len(model.weights)) for kind, some in lists.items()
            if some[i] is not None}


def copy(model: MLP, into: dict[str, Array] | None = None) -> dict[str, Array]:
    """Copies of the arrays, written into earlier ones where they fit.

    >>> from fastmlp import MLP
    >>> model = MLP([4, 3], seed=0)
    >>> kept = copy(model)
    >>> copy(model, into=kept) is kept
    True
    """
    live = arrays(model)
    if into is None or {k: (a.shape, a.dtype) for k, a in into.items()} != {
            k: (a.shape, a.dtype) for k, a in live.items()}:
        return {name: array.copy() for name, array in live.items()}
    for name, array in live.items():
        np.copyto(into[name], array)
    return into


def restore(model: MLP, kept: dict[str, Array]) -> None:
    """Write copies back, converted to the dtype of the model.

    Raises ValueError for copies of a model of another shape, before anything changes.

    >>> from fastmlp import MLP
    >>> model, other = MLP([4, 3], seed=0), MLP([4, 3], seed=1)
    >>> restore(other, copy(model))
    >>> bool((other.weights[0] == model.weights[0]).all())
    True
    """
    check(model, kept)
    live = arrays(model)
    at_once.for_all(setitem, live.values(), repeat(...), [kept[name] for name in live])


def check(model: MLP, kept: Mapping[str, Array]) -> None:
    """Raises ValueError for copies of a model of another shape."""
    expected = {name: array.shape for name, array in kept.items()}
    found = {name: array.shape for name, array in arrays(model).items()}
    if found != expected:
        raise ValueError(f"model: expected the arrays {expected}, got {found}")


def counters(model: MLP) -> dict[str, int]:
    """What else a training goes on from: the number of steps so far, and the seed of dropout's masks."""
    return {"steps": int(model.core.engine.global_step), "dropout_seed": model.core.dropout_seed}


def check_counters(values: Mapping[str, int]) -> tuple[int, int]:
    """The number of steps and the seed. Raises TypeError or ValueError for what is none."""
    return (checks.integer("steps", values["steps"], low=0, high=checks.MOST_STEPS),
            checks.integer("dropout_seed", values["dropout_seed"], low=0, high=2**63 - 1))


def set_counters(model: MLP, values: Mapping[str, int]) -> None:
    """Make these the model's. Raises what `check_counters` does."""
    steps, seed = check_counters(values)
    model.core.engine.global_step = steps
    model.core.engine.seed = model.core.dropout_seed = seed
