"""A run of `fit` in a file: the model, and all that the run needs to go on to the same bits.

The file is that of `fastmlp.saving`, and `fastmlp.load` reads the model in it. What comes to it:

    run.totals              losses and weights of the epoch so far, and the seconds that it took: (3,)
    run.record              with log_steps, numbers of each of its steps so far: (steps, 3)
    run.step_callbacks      losses and weights of the steps since callbacks within an epoch were called:
                            rows of `StepHooks.get_state`
    run.history.NAME        numbers of the epochs that are over, one for each, and what callbacks add; where
                            they are arrays of several shapes, run.history.NAME[I] of each
    settings, under "run"   origin: what the run began with, by which it is known again
                            release: the version of fastmlp that saved it
                            epoch, step, stopped: the place where it stands (`fastmlp._core.place`)
                            generator: of the model's seed, before the order of this epoch was drawn
                            positions: of iterators, before this epoch
                            history: for every name, whether its numbers are in one array
                            optimizer: settings that are numbers, which callbacks may have changed

The order of the samples is not in it: the generator draws it once more.
"""
from __future__ import annotations

import copy
import json
import math
import os
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastmlp import saving
from fastmlp._core import callers, checks, checksums, saved, state
from fastmlp._core.core import samples_of
from fastmlp._core.network import Samples
from fastmlp._core.place import Place
from fastmlp._core.strict_json import short
from fastmlp.data._chunks import Chunks
from fastmlp.data._source import Source
from fastmlp.saving import RUN
from fastmlp.version import __version__

if TYPE_CHECKING:
    from fastmlp._core.types import Array, RowsLike
    from fastmlp.data._feed import Feed
    from fastmlp.optimizers import Optimizer
    from fastmlp.training import Training

__all__ = ["Run"]

HISTORY = "history."


class Run:
    """A call of `fit`, as it is saved.

    origin      what it began with, in the words of JSON
    """

    def __init__(self, training: Training) -> None:
        self._training = training
        self._callbacks = saving.stateful(training.callbacks)
        self._objects = {name: value for name, value in _settings(training.optimizer).items()
                         if not _is_plain(value)}
        self.origin: dict[str, Any] = json.loads(json.dumps(self._origin(), allow_nan=False))

    def _origin(self) -> dict[str, Any]:
        training = self._training
        model = saving.model_settings(training.model)
        return {
            **{name: model[name]
               for name in ("layers", "activations", "loss", "dropout", "batch_norm", "dtype")},
            "compute_dtype": model.get("compute_dtype"),
            "seed": training.model.core.seed,
            "optimizer": saving.printed(training.optimizer),
            "rows of X": len(training.samples),
            "batch_size": training.samples.batch_size,
            "shuffle": "a function" if training.shuffle is not None else training.samples.is_shuffled,
            **_data(training.samples),
            **_validation_data(training),
            "metrics": None if training.metrics is None else list(training.metrics),
            "log_steps": training.log_steps,
            "callbacks with state": [_described(callback) for _, callback in self._callbacks],
        }

    @property
    def global_step(self) -> int:
        """Steps that the model has taken."""
        return self._training.model.core.engine.global_step

    def positions(self) -> dict[str, int]:
        """How many blocks the iterators among the data have given."""
        return {name: position for name, source in self._chunks().items()
                if (position := source.position) is not None}

    def _chunks(self) -> dict[str, Chunks]:
        """By the name of the argument."""
        training = self._training
        given = {"X": getattr(training.samples, "source", None),
                 "validation_data": training.validation_data and training.validation_data[0]}
        return {name: source for name, source in given.items() if isinstance(source, Chunks)}

    # Writing -----------------------------------------------------------------------------------------------

    def save(self, path: str, place: Place, in_place: bool = True) -> None:
        """Write the run as it is at this place, between two steps; `in_place`: also where nothing can take
        the place of the old file, and a kill at that moment loses both.

        Raises OSError and MemoryError, and ValueError and TypeError for what a file cannot hold.
        """
        training = self._training
        now = _settings(training.optimizer)
        for name, value in now.items():
            if not _is_plain(value) and value is not self._objects.get(name):
                raise ValueError(f"optimizer: its {name} was replaced by {value!r} in the run, and only "
                                 "numbers can be saved of what changes")
        settings, arrays = saving.contents(training.model, training.optimizer, self._callbacks)
        history, numbers = _packed(training.history)
        generator = place.generator or settings["generator"]
        positions = self.positions() if place.positions is None else dict(place.positions)
        settings["run"] = {
            "origin": self.origin, "release": __version__,
            "epoch": place.epoch, "step": place.step, "stopped": place.stopped,
            "generator": generator, "positions": positions, "history": history,
            "optimizer": {name: value for name, value in now.items() if _is_plain(value)},
        }
        numbers["totals"] = np.array([*place.totals, place.seconds])
        if place.record is not None:
            numbers["record"] = place.record
        if training.step_hooks:
            numbers["step_callbacks"] = training.step_hooks.get_state()
        arrays |= saving.copies("history", RUN, numbers)
        saving.write(path, settings, arrays, in_place)

    # Reading -----------------------------------------------------------------------------------------------

    def resume(self, path: str, epochs: int) -> Place:
        """Make model, optimizer, callbacks and history those of the file; the place where it stands.

        Raises FileNotFoundError where there is none, and ValueError for a file that does not fit, or has made
        more than so many epochs, with nothing changed.
        """
        found = saved.read(path, with_optimizer=True, with_callbacks=True)
        if found.run is None:
            raise ValueError(f"resume: expected a run in {path}, got a model alone; fastmlp.load reads it")
        settings, arrays = found.run
        with saved.model_of(path):
            if not isinstance(settings, dict) or not isinstance(settings["origin"], dict):
                raise ValueError(f"the run {short(settings)}")
        self._check_origin(path, settings["origin"])
        training = self._training
        model, optimizer = training.model, training.optimizer
        generator = np.random.default_rng(0).bit_generator
        with saved.model_of(path):
            place = self._place(settings, arrays)
            history = _unpacked(settings["history"], arrays, place.epoch)
            saved.set_generator(generator, settings["generator"])
            changed = _changed(optimizer, settings["optimizer"])
            state.check(model, found.arrays)
            state.check_counters(found.settings["counters"])
        begun = place.epoch + (place.step > 0)
        if begun > epochs:
            raise ValueError(f"epochs: expected at least {begun}, which the run in {path} has "
                             f"{'begun' if place.step else 'made'}, got {epochs}")
        saved.check_callbacks(path, self._callbacks, found)
        if place.epoch < epochs and not place.stopped:
            self._move_to(place.positions or {})
            if settings.get("release", __version__) != __version__:
                callers.warn(f"resume: the run in {path} was saved by fastmlp {short(settings['release'])}, "
                             f"and goes on with {__version__}: each has bits of its own", RuntimeWarning)
        dropout, settings_now = model.dropout, {name: getattr(optimizer, name) for name in changed}
        of_optimizer = optimizer.get_state(model) if changed else None
        try:
            if tuple(found.settings["dropout"]) != dropout:
                with saved.model_of(path):
                    model.dropout = tuple(found.settings["dropout"])
            _assign(optimizer, changed)         # which the names of its state follow
            saved.set_states(model, optimizer, found.optimizer, self._callbacks,
                             [values for _, values in found.callbacks])
        except BaseException:
            model.dropout = dropout
            _assign(optimizer, settings_now)
            if of_optimizer is not None:
                optimizer.set_state(model, of_optimizer)
            raise
        state.restore(model, found.arrays)
        state.set_counters(model, found.settings["counters"])
        model.core.rng.bit_generator.state = generator.state
        if "step_callbacks" in arrays:
            training.step_hooks.set_state(arrays["step_callbacks"])
        training.history.clear()
        training.history.update(history)
        return place

    def _move_to(self, positions: Mapping[str, int]) -> None:
        """Read what the run has done with, of iterators. Raises ValueError where that cannot be."""
        for name, source in self._chunks().items():
            if name in positions:
                try:
                    source.move_to(positions[name])
                except ValueError as error:
                    raise ValueError(f"{name}: {error}") from None

    def _check_origin(self, path: str, origin: Mapping[str, Any]) -> None:
        """Raises ValueError that names all that differs. A seed that was not given may be any."""
        differ = [f"{name}: expected {_shown(origin.get(name))}, got {_shown(ours)}"
                  for name, ours in self.origin.items()
                  if ours != origin.get(name) and not (name == "seed" and None in (ours, origin.get(name)))]
        if differ:
            hint = ""
            old, new = (re.sub(r"steps=\d+", "", str(one.get("optimizer"))) for one in (origin, self.origin))
            if old == new and origin.get("optimizer") != self.origin["optimizer"]:
                hint = ("; the schedule of the default optimizer follows from epochs: to go on for more of "
                        "them, pass an optimizer to fit from the beginning")
            raise ValueError(f"resume: {path} holds another run, which differs in {'; '.join(differ)}{hint}")

    def _place(self, settings: Mapping[str, Any], arrays: Mapping[str, Array]) -> Place:
        samples = self._training.samples
        steps = -(-len(samples) // samples.batch_size)
        epoch = checks.integer("epoch", settings["epoch"], low=0)
        step = checks.integer("step", settings["step"], low=0, high=steps if steps else math.inf)
        if type(settings["stopped"]) is not bool:
            raise ValueError(f"stopped: {short(settings['stopped'])}")
        positions = {name: checks.integer(name, position, low=0)
                     for name, position in dict(settings.get("positions", {})).items()}
        totals, record = arrays["totals"], arrays.get("record")
        hooks = arrays.get("step_callbacks")
        made = steps if steps or record is None else len(record)       # of a source that knows no number
        wanted: list[tuple[str, Array | None, tuple[int, ...]]] = [
            ("totals", totals, (3,)), ("record", record, (made, 3)),
            ("step_callbacks", hooks, (0 if hooks is None else hooks.size // 3, 3))]
        for name, array, shape in wanted:
            if array is not None and (array.shape != shape or array.dtype != np.float64):
                raise ValueError(f"{name} of shape {array.shape} in {array.dtype.name}")
        return Place(epoch, step, (float(totals[0]), float(totals[1])), float(totals[2]),
                     None if record is None else record.copy(), None, positions, settings["stopped"])


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


# What a run began with -------------------------------------------------------------------------------------

def _data(samples: Samples | Feed) -> dict[str, Any]:
    """What is known of the data without a pass over them."""
    if isinstance(samples, Samples):
        weights = checksums.of_all(samples.weights) if samples.is_weighted else False
        return {"source": None, "X": checksums.of_rows(samples.x), "y": checksums.of_all(samples.targets),
                "sample_weight or class_weight": weights}
    source, paths = samples.source, getattr(samples.source, "paths", None)
    weights_of_classes = samples.class_weight
    result = {
        "source": type(source).__name__,
        "sample_weight or class_weight": samples.is_weighted,
        "class_weight": None if not isinstance(weights_of_classes, Mapping) else sorted(
            [float(label), float(weight)] for label, weight in weights_of_classes.items()),
        "names of the files": _checksum_of_names(paths),
    }
    if paths is not None and source.keeps_rows:         # others need not give the same block twice
        first = samples.first_rows()
        result |= {"first block of X": checksums.of_rows(first[0]), "and of y": checksums.of_all(first[1])}
    if samples.is_shuffled or samples.buffer_rows is None:      # what the order and the batches depend on
        result |= {"buffer_rows": samples.buffer_rows, "block_size": getattr(source, "block_size", None),
                   "number of blocks": getattr(source, "n", None),
                   "blocks that can be read alone": len(source.parts())}
    return result


def _validation_data(training: Training) -> dict[str, Any]:
    """What is known of them: their numbers go into the history, and may end the training."""
    if training.validation_data is None:
        return {"rows of validation_data": None}
    X, y, weights = training.validation_data
    if not isinstance(X, Source):
        x, targets, weights = samples_of(training.model, "validation_data X", cast("RowsLike", X),
                                         "validation_data y", y, weights, None)
        return {"rows of validation_data": len(x), "X of validation_data": checksums.of_rows(x),
                "y of validation_data": checksums.of_all(targets),
                "weights of validation_data": None if weights is None else checksums.of_all(weights)}
    paths = getattr(X, "paths", None)
    found = {"rows of validation_data": X.rows, "source of validation_data": type(X).__name__,
             "files of validation_data": _checksum_of_names(paths)}
    if paths is not None and X.keeps_rows:
        x, targets = X.first_block()[1].arrays()[:2]
        found |= {"first block of X of validation_data": checksums.of_rows(x),
                  "and of its y": checksums.of_all(targets)}
    return found


def _checksum_of_names(paths: Sequence[str] | None) -> str | None:
    """Of files, whatever their folder."""
    if paths is None:
        return None
    return f"checksum {zlib.crc32(os.fsencode('/'.join(map(os.path.basename, paths)))):08x}"


def _described(callback: object) -> str:
    """Its class, and its settings that are numbers or text; where it writes may change."""
    values = {name: getattr(callback, name) for name in getattr(callback, "settable", ()) if name != "path"}
    shown = ", ".join(f"{name}={value!r}" for name, value in values.items() if _is_plain(value))
    return f"{type(callback).__name__}({shown})"


# Settings of an optimizer ----------------------------------------------------------------------------------

def _settings(optimizer: Optimizer) -> dict[str, Any]:
    return {name: getattr(optimizer, name) for name in optimizer.settable}


def _is_plain(value: Any) -> bool:
    """Whether JSON has it as it is."""
    return value is None or type(value) in (bool, int, float, str)


def _changed(optimizer: Optimizer, values: Any) -> dict[str, Any]:
    """Those that differ from the optimizer's, which takes them."""
    if not isinstance(values, dict) or not all(map(_is_plain, values.values())):
        raise ValueError(f"the settings of the optimizer {short(values)}")
    now = _settings(optimizer)
    if not values.keys() <= now.keys():
        raise ValueError(f"the settings of the optimizer {short(list(values))}")
    changed = {name: value for name, value in values.items() if value != now[name]}
    if changed:
        _assign(copy.copy(optimizer), changed)
    return changed


def _assign(optimizer: Optimizer, values: Mapping[str, Any]) -> None:
    """Settings of which one may need that another is there, in an order that the optimizer takes."""
    left = dict(values)
    while left:
        refused = {}
        for name, value in left.items():
            try:
                setattr(optimizer, name, value)
            except ValueError as error:
                refused[name] = error
        if len(refused) == len(left):
            raise next(iter(refused.values()))
        left = {name: left[name] for name in refused}


# History ---------------------------------------------------------------------------------------------------

def _packed(history: Mapping[str, list[Any]]) -> tuple[dict[str, bool], dict[str, Array]]:
    """For every name, whether one array has its numbers; and the arrays."""
    names, arrays = {}, {}
    for name, entries in history.items():
        if all(type(entry) is float for entry in entries):      # of which there may be many
            names[name], arrays[f"{HISTORY}{name}"] = True, np.array(entries, np.float64)
            continue
        values = [checks.as_array(f"history, {name!r}", entry) for entry in entries]
        names[name] = len({(value.shape, value.dtype) for value in values}) <= 1
        if names[name]:
            arrays[f"{HISTORY}{name}"] = np.array(values)
        else:
            arrays |= {f"{HISTORY}{name}[{i}]": value for i, value in enumerate(values)}
    return names, arrays


def _unpacked(names: Any, arrays: Mapping[str, Array], epochs: int) -> dict[str, list[Any]]:
    if not isinstance(names, dict) or "loss" not in names:
        raise ValueError(f"the history {short(names)}")
    history: dict[str, list[Any]] = {}
    for name, together in names.items():
        values: list[Array] = []
        if together:
            values = list(arrays[f"{HISTORY}{name}"])
        while f"{HISTORY}{name}[{len(values)}]" in arrays and not together:
            values.append(arrays[f"{HISTORY}{name}[{len(values)}]"])
        if name == "loss" and len(values) != epochs:        # others may be of callbacks, within epochs too
            raise ValueError(f"a history of {len(values)} times {short(name)} in {epochs} epochs")
        history[name] = [value.item() if value.ndim == 0 else value.copy() for value in values]
    return history
