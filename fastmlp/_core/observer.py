"""What an engine writes down of a network's layers while it trains, for `fastmlp.Diagnostics`."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastmlp._core.layout import Parameters, aligned

__all__ = ["FIELDS", "Observer"]

# Of a layer, in a report: the share of units that gave 0 for every sample since the last report; of the
# batch's outputs, the share near an end of the activation, mean and standard deviation; the norms of the
# gradient of the weights (before any limit on it), of the weights and of their change. The first four are
# NaN for the last layer.
FIELDS = ("dead", "saturation", "mean", "std", "gradient_norm", "weight_norm", "update_norm")
UNIT_SUMS = 7           # that the kernels have of every unit on the way
UNIT_PLACES = 64        # the flags of a layer begin at a multiple of this


class Observer:
    """Of one network, one epoch after another. Engines write, and read what they need for it.

    ends            (layers, 2) of every layer: outputs below the first or above the second are saturated
    before          the weights before an update, laid out like the parameters
    alive           a place for each unit: not 0 where it gave anything but 0 since the last report
    alive_in_epoch  the same since the epoch began, up to the last report
    sums            scratch
    table           (reports, layers, FIELDS) of the epoch
    steps           of the epoch
    step            that comes next
    """

    def __init__(self, parameters: Parameters) -> None:
        sizes, dtype = parameters.sizes, parameters.dtype
        self.before = parameters.like()
        self.ends = np.zeros((len(sizes) - 1, 2))
        rows = [-(-n // UNIT_PLACES) * UNIT_PLACES for n in sizes[1:]]
        starts = np.concatenate([[0], np.cumsum(rows)])
        self._places = [slice(int(start), int(start) + n) for start, n in zip(starts, sizes[1:])]
        self._bits = np.dtype(f"u{dtype.itemsize}")
        self.alive = aligned(int(starts[-1]), dtype)
        self.alive_in_epoch = aligned(int(starts[-1]), dtype)
        self.sums = np.zeros((UNIT_SUMS, int(starts[-1])))
        self.table = np.empty((0, len(rows), len(FIELDS)))
        self.steps = self.step = 0

    def start(self, steps: int, every: int, ends: Sequence[tuple[float, float]]) -> None:
        """An epoch of so many steps, which reports divide evenly, at least `every` steps apart; its last step
        has one."""
        self.steps, self.step = steps, 0
        self.ends[...] = ends
        self.table = np.full((max(1, steps // every), *self.table.shape[1:]), np.nan)
        for flags in (self.alive, self.alive_in_epoch):
            flags[...] = 1              # the pads, which are no units
            for places in self._places:
                flags[places] = 0

    def reports_before(self, step: int) -> int:
        """Reports that the first steps of the epoch have."""
        return step * len(self.table) // self.steps

    def has_report(self) -> bool:
        """Whether the next step has one."""
        return self.reports_before(self.step + 1) > self.reports_before(self.step)

    def reports(self) -> np.ndarray[Any, Any]:
        """Those that have been made in this epoch."""
        return self.table[:self.reports_before(self.step)]

    def report_steps(self) -> list[int]:
        """The steps that had them, counted from 1."""
        count = len(self.table)
        return [-(-(report + 1) * self.steps // count) for report in range(self.reports_before(self.step))]

    def get_state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Where it is within the epoch."""
        return {"step": np.array(self.step), "steps": np.array(self.steps), "table": self.reports().copy(),
                **{name: np.concatenate([flags[places].view(self._bits) != 0 for places in self._places])
                   for name, flags in (("alive", self.alive), ("alive_in_epoch", self.alive_in_epoch))}}

    def set_state(self, state: Mapping[str, np.ndarray[Any, Any]]) -> bool:
        """Go on there, in an epoch that has been started; False, and nothing is changed, where the state is
        that of an epoch or a network of another size."""
        units = sum(places.stop - places.start for places in self._places)
        step, count = int(state["step"]), len(state["table"])
        if (int(state["steps"]) != self.steps or not 0 <= step <= self.steps
                or count != self.reports_before(step) or state["table"].shape[1:] != self.table.shape[1:]
                or len(state["alive"]) != units or len(state["alive_in_epoch"]) != units):
            return False
        self.step = step
        self.table[:count] = state["table"]
        for flags, kept in ((self.alive, state["alive"]), (self.alive_in_epoch, state["alive_in_epoch"])):
            at = 0
            for places in self._places:
                n = places.stop - places.start
                flags[places] = kept[at:at + n] != 0
                at += n
        return True

    def alive_units(self, layer: int) -> np.ndarray[Any, Any]:
        """Which units of a hidden layer gave anything but 0 for any sample of the epoch."""
        places = self._places[layer]
        flags = self.alive[places].view(self._bits) | self.alive_in_epoch[places].view(self._bits)
        result: np.ndarray[Any, Any] = flags != 0
        return result

    def places(self, layer: int) -> slice:
        """Where the flags of a layer's units are."""
        return self._places[layer]
