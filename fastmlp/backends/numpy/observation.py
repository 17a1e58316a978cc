"""What an observer is told: the specification of the kernels' diagnostics."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastmlp._core.layout import Parameters
from fastmlp._core.network import Layer
from fastmlp._core.observer import FIELDS, Observer

from ._common import quiet

if TYPE_CHECKING:
    from fastmlp._core.types import Array

DEAD, SATURATION, MEAN, STD, GRADIENT_NORM, WEIGHT_NORM, UPDATE_NORM = range(len(FIELDS))


def observe_units(observer: Observer, outputs: Sequence[Array]) -> None:
    """Marks the units that gave anything but 0."""
    for i, y in enumerate(outputs):
        observer.alive[observer.places(i)][(y != 0).any(axis=0)] = 1


@quiet
def observe_layers(observer: Observer, outputs: Sequence[Array], layers: Sequence[Layer],
                   gradients: Parameters, parameters: Parameters) -> None:
    """The report of a step, all but what the update changes; the flags of its units begin anew."""
    table = observer.table[observer.reports_before(observer.step)]
    for row, y, layer, (low, high), i in zip(table, outputs, layers, observer.ends, range(len(outputs))):
        y = y.astype(np.float64)
        kept = y[y != 0] if layer.dropout else y
        places = observer.places(i)
        alive, alive_in_epoch = observer.alive[places], observer.alive_in_epoch[places]
        row[DEAD] = np.mean(alive == 0)
        if kept.size:
            row[SATURATION] = np.mean((kept < low) | (kept > high))
            row[MEAN], row[STD] = y.mean(), y.std()
        alive_in_epoch[alive != 0] = 1
        alive[...] = 0
    weights = zip(parameters.weights, gradients.weights, observer.before.weights)
    for row, (w, gradient, before) in zip(table, weights):
        row[GRADIENT_NORM], row[WEIGHT_NORM] = norm(gradient), norm(w)
        before[...] = w


@quiet
def observe_update(observer: Observer, parameters: Parameters) -> None:
    """And how far the update moved the weights."""
    table = observer.table[observer.reports_before(observer.step)]
    for row, w, before in zip(table, parameters.weights, observer.before.weights):
        row[UPDATE_NORM] = norm(w.astype(np.float64) - before)


def norm(w: Array) -> float:
    """The square root of the sum of squares, in float64."""
    return float(np.sqrt(np.sum(np.square(w, dtype=np.float64))))
