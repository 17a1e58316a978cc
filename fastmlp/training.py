"""The loop of `fit`: epochs over the samples, in runs of the engine; history and callbacks."""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core import at_once, checks, divergence, scales, sources
from fastmlp._core.locking import Call
from fastmlp._core.network import Piece, Samples
from fastmlp._core.place import Place
from fastmlp._core.progress import Bar, Line, Progress
from fastmlp._core.run_file import Run
from fastmlp._core.step_hooks import StepHooks
from fastmlp._core.threads import get_num_threads
from fastmlp.callbacks import asks_to_stop
from fastmlp.data._feed import Feed
from fastmlp.diagnostics import Diagnostics
from fastmlp.lbfgs import LBFGS
from fastmlp.optimizers import Optimizer

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.keeper import Keeper
    from fastmlp._core.observer import Observer
    from fastmlp._core.types import Array, Callback, Metric, SamplesLike
    from fastmlp.backends.interface import Totals
    from fastmlp.model import MLP
    from fastmlp.restarts import Restart

__all__ = ["History", "Training", "train"]

SLOWEST = 1e9                   # operations a second that any machine makes: how the first run is measured
RESPONSE_SECONDS = 0.05         # how long the engine runs before Ctrl-C and the progress bar are looked at
STORE_SECONDS = 1.0             # how long it may keep the weights to itself within an epoch
CONVERTED_ROWS = 512            # rows of a dtype that the engine does not read, converted at a time


class History(dict[str, "list[float]"]):
    """Numbers of every epoch of a training: a dict of lists, whose entries are also attributes.

    Attributes
    ----------
    loss : list of float
        Mean loss over the samples of training, while it learned.
    val_loss : list of float
        Mean loss over the samples of validation, with validation data.
    val_accuracy : list of float
        Share of right labels (classification), with validation data.
    val_r2 : list of float
        Coefficient of determination (regression), with validation data.
    samples_per_second : list of float
        Speed of training alone.

    Notes
    -----
    With ``log_steps`` given to `MLP.fit`, there are step_loss, step_weight and step_penalty, lists of arrays
    with a number for every step of an epoch.

    With ``restarts`` given to `MLP.fit`, ``restarts`` is a list of `fastmlp.restarts.Restart`, no entry.
    With `fastmlp.Diagnostics` among the callbacks, there are layer1_dead, layer2_gradient_norm and so on.

    With ``metrics`` given to `MLP.fit`, these take the place of val_accuracy or val_r2, and without ``val_``
    they are those of the training data.

    Examples
    --------
    >>> History(loss=[0.5, 0.25]).loss[-1]
    0.25
    """

    restarts: list[Restart]

    def __getattr__(self, name: str) -> list[float]:
        try:
            return self[name]
        except KeyError:
            if name == "restarts":
                raise AttributeError("no restarts: expected fit(restarts=n) with n from 2 up, which has "
                                     "them") from None
            if name == "history":
                raise AttributeError("this is the history itself, a dict of lists: history['loss'], or "
                                     "history.loss") from None
            raise AttributeError(f"no {name!r} was recorded, only {', '.join(self)}") from None


class Training:
    """One call of `fit`, with checked arguments."""

    def __init__(self, model: MLP, samples: Samples | Feed, y: ArrayLike | None, optimizer: Optimizer,
                 validation_data: tuple[SamplesLike, ArrayLike | None, ArrayLike | None] | None,
                 callbacks: tuple[Callback, ...], metrics: dict[str, Metric] | None,
                 evaluate: Callable[..., tuple[dict[str, float], int, int, int]],
                 shuffle: Callable[[int], ArrayLike] | None = None, log_steps: bool = False,
                 keeper: Keeper | None = None) -> None:
        self.model = model
        self.samples = samples
        self.y = y
        self.optimizer = optimizer
        self.validation_data = validation_data
        self.callbacks = callbacks
        self.step_hooks = StepHooks(callbacks)
        self.diagnostics = _diagnostics(callbacks, optimizer, samples) if callbacks else None
        self.metrics = metrics
        self.evaluate = evaluate        # the model's, for samples that have been validated
        self.shuffle = shuffle          # the caller's own order of the samples
        self.log_steps = log_steps
        self.keeper = keeper            # saves the run, if that was asked for
        self.guess: float | None = None         # the loss of guessing, where that is known
        self.call: Call | None = None           # which holds the lock, once it runs
        self.outer: Training | None = None      # within which it runs
        self.history = History(loss=[], samples_per_second=[])
        weights = sum(n * m for n, m in zip(model.layers, model.layers[1:]))
        self._operations = 6 * weights * samples.batch_size         # of a step, about
        self._dense = model.compute_dtype is not None
        self._readable = isinstance(samples, Feed) or sources.is_readable(samples.x, self._dense)
        self._stored = time.perf_counter()      # when the model's own arrays were last up to date
        self._at_once = 1                       # steps of the next run of the engine
        self._seen = 0                          # samples of the epoch so far
        self._observer: Observer | None = None
        self._pauses = keeper is not None or bool(self.step_hooks)      # within an epoch
        self._in_order = None if isinstance(samples, Feed) or samples.order is None else samples.order.copy()
        # Code of the user's that runs between two epochs, and may look at arrays of the model that it holds.
        self._watched = bool(callbacks or metrics or validation_data or shuffle
                             or not optimizer.rates_are_fixed)

    @cached_property
    def saved_run(self) -> Run:
        """This call as it is saved; it notes what the call began with when it is asked for first."""
        return Run(self)

    def run(self, epochs: int, progress: Progress, call: Call) -> History:
        """All epochs, or what the optimizer takes in their place; the callbacks may end them earlier."""
        core, keeper = self.model.core, self.keeper
        self.call, self.outer = call, core.training
        core.training = self
        try:
            place = Place() if keeper is None else keeper.begin(self.saved_run, epochs, call)
            with keeper or nullcontext():
                place = self._run(place, epochs, progress, call)
                if keeper is not None:
                    keeper.end(place)
        finally:
            core.training = self.outer
        if not divergence.all_finite(core.parameters.buffer, core.statistics.buffer):
            divergence.warn(self.model, "the weights are not finite")
        return self.history

    def _run(self, place: Place, epochs: int, progress: Progress, call: Call) -> Place:
        """From a place to the end."""
        started = [callback.begin(self.model) for callback in self.callbacks if hasattr(callback, "begin")]
        if self.keeper is not None:
            self.keeper.started(place)          # with the state of callbacks at their beginning
        vars(self.model)["history"] = self.history
        if place.stopped or any(map(asks_to_stop, started)):    # a training that goes on where it had stopped
            epochs = 0
        elif isinstance(self.optimizer, LBFGS):
            self._minimize(self.optimizer)
            epochs = 0
        core = self.model.core
        steps, generator = core.engine.global_step, core.rng.bit_generator.state
        try:
            place = self._epochs(place, epochs, progress, call)
        except BaseException:
            if core.engine.global_step == steps:    # nothing was learned: the next call draws the same order
                core.rng.bit_generator.state = generator
            raise
        finally:
            core.engine.write_back()                # whatever interrupts it
            progress.close()
        for callback in self.callbacks:
            if hasattr(callback, "finish"):     # EarlyStopping goes back to the best
                callback.finish(self.model)
        return place

    def _epochs(self, place: Place, epochs: int, bars: Progress, call: Call) -> Place:
        """Passes over the samples, until a callback ends them; the place where that was."""
        samples, rng = self.samples, self.model.core.rng
        while place.epoch < epochs and not place.stopped:
            epoch = place.epoch
            if self.keeper is not None:
                place.generator, place.positions = rng.bit_generator.state, self.saved_run.positions()
            if isinstance(samples, Feed):
                samples.draw(rng)
            elif self.shuffle is not None:
                order = self.shuffle(epoch)
                samples.order[...] = checks.row_numbers(f"shuffle({epoch})", order, len(samples))
            elif samples.order is not None:         # of the generator alone: the last order is not saved
                samples.order[...] = self._in_order
                rng.shuffle(samples.order)
            if self.diagnostics is not None:
                self.diagnostics.begin_epoch(self.model, -(-len(samples) // samples.batch_size),
                                             len(samples), samples.batch_size)
            with bars.bar(len(samples), epoch, epochs) as bar, \
                    samples.pieces(place.step, self._idle(place)) as pieces:
                call.enter_engine()
                try:
                    logs, ended = self._epoch(place, bar, pieces, call)
                finally:
                    call.leave_engine()
                stop = self._after_epoch(epoch, logs, bar)
            place = Place(epoch + 1, stopped=stop or ended)
            if self.keeper is not None and self.keeper.wants(place.epoch):
                self.keeper.save(place)
        return place

    def _idle(self, place: Place) -> Callable[[], None] | None:
        """What to do while a source is waited for: to save the run, if a signal is about to end it."""
        keeper = self.keeper
        return None if keeper is None else lambda: keeper.save(place) if keeper.interrupted else None

    def _after_epoch(self, epoch: int, logs: dict[str, Any], bar: Bar | Line | None = None) -> bool:
        """Measures, shows and records; whether the training is to end."""
        if self.metrics:
            samples = self.samples
            if isinstance(samples, Feed):       # a class of weight 0 does not count there either
                measured = self.evaluate(samples.source, None, None, self.metrics, samples.class_weight)[0]
            else:
                measured = self.evaluate(samples.x, self.y, samples.weights, self.metrics)[0]
            logs.update((name, value) for name, value in measured.items() if name != "loss")
        if self.validation_data is not None:
            X, y, weights = self.validation_data
            measured = self.evaluate(X, y, weights, self.metrics)[0]
            logs.update((f"val_{name}", value) for name, value in measured.items())
        if bar is not None:
            bar.show(logs, str if self.diagnostics is None else self.diagnostics.note)
        if self.diagnostics is not None:
            logs.update(self.diagnostics.end_epoch())
        for name, what in (("loss", "loss"), ("val_loss", "validation loss")):
            if not math.isfinite(logs.get(name, 0.0)):
                divergence.warn(self.model, f"the {what} of epoch {epoch + 1} is {logs[name]}")
        if epoch == 0 and self.guess is not None:
            scales.compare(self.model, logs["loss"], self.guess)
        lists = [self.history.setdefault(name, []) for name in logs]
        at_once.for_all(list.append, lists, logs.values())
        self.optimizer.observe(logs.get("val_loss", logs["loss"]))
        answers = [callback(self.model, epoch, dict(logs)) for callback in self.callbacks
                   if callable(callback)]
        return any(map(asks_to_stop, answers))

    def _minimize(self, optimizer: LBFGS) -> None:
        """All samples at every iteration, in the place of epochs."""
        started = time.perf_counter()

        def callback(iteration: int, loss: float) -> bool:
            nonlocal started
            seconds = time.perf_counter() - started
            logs = {"loss": loss, "samples_per_second": len(self.samples) / max(seconds, 1e-9)}
            stop = self._after_epoch(iteration, logs)
            started = time.perf_counter()
            return stop

        samples = self.samples
        assert isinstance(samples, Samples) and self.y is not None
        optimizer.minimize(self.model, samples.x, self.y, sample_weight=samples.weights, callback=callback)

    def _epoch(self, place: Place, bar: Bar | Line, pieces: Iterator[Piece], call: Call
               ) -> tuple[dict[str, Any], bool]:
        """One pass over the samples, or the rest of one; the place goes along. The numbers, and whether a
        callback ended it early."""
        batch_size = self.samples.batch_size
        self._seen = place.step * batch_size
        self._at_once = max(1, int(RESPONSE_SECONDS * SLOWEST / self._operations))
        self._observer = None if self.diagnostics is None else self.diagnostics.observer
        if place.record is None and (self.log_steps or self.step_hooks):
            place.record = np.zeros((-(-len(self.samples) // batch_size), 3))
        if place.step:
            bar.resume(self._seen)
        ended, started = False, time.perf_counter()
        for piece in pieces:
            place.seconds += time.perf_counter() - started      # of waiting, with a source
            ended = self._piece(piece, place, bar, call)
            if ended:
                break
            started = time.perf_counter()
        if self._watched:
            self.model.core.engine.write_back()
        total, weight = place.totals
        logs: dict[str, Any] = {
            "loss": total / weight if weight else math.nan,     # another thread took all weights away
            "samples_per_second": self._seen / max(place.seconds, 1e-9)}
        if self.log_steps and place.record is not None:
            logs.update(zip(("step_loss", "step_weight", "step_penalty"), place.record[:place.step].T))
        return logs, ended

    def _piece(self, piece: Piece, place: Place, bar: Bar | Line, call: Call) -> bool:
        """The steps of a piece that are left, in runs of the engine; whether a callback ended them early.

        A run is short enough to answer Ctrl-C, and ends where a save or a callback is due."""
        samples, begin, end = piece
        batch_size, record = samples.batch_size, place.record
        most = end if self._readable else max(1, CONVERTED_ROWS // batch_size)
        last_of_epoch = -(-len(self.samples) // self.samples.batch_size)
        if record is not None and len(record) < end:            # nobody knew how many steps there are
            record = place.record = np.concatenate([record, np.zeros((end - len(record), 3))])
        while place.step < end:
            started, first, asked = time.perf_counter(), place.step, False
            last = min(first + min(self._at_once, most), end)
            if self._pauses:
                last, asked = self._pause(first, last)
            store = asked or self._watched and last == last_of_epoch or started - self._stored > STORE_SECONDS
            if store:
                self._stored = started
            start = (first - begin) * batch_size
            rows = min((last - begin) * batch_size, len(samples)) - start
            if self._readable:
                totals = train(self.model, samples, first - begin, last - begin, self.optimizer,
                               place.totals, store, None if record is None else record[begin:end],
                               self._observer)
            else:
                totals = train(self.model, self._part(start, start + rows), 0, last - first, self.optimizer,
                               place.totals, store, None if record is None else record[first:last],
                               self._observer)
            elapsed = time.perf_counter() - started
            place.step, place.totals, place.seconds = last, totals, place.seconds + elapsed
            self._seen += rows
            bar.update(rows, totals[0] / max(totals[1], 1e-30),
                       str if self.diagnostics is None else self.diagnostics.note)
            if last < end:
                most_in_time = int((last - first) * RESPONSE_SECONDS / max(elapsed, 1e-9))
                self._at_once = max(1, min(2 * self._at_once, most_in_time))
            if self._pauses and self._stop_after(first, place, call):
                return True
        return False

    def _pause(self, first: int, last: int) -> tuple[int, bool]:
        """Where the engine is to stop that would make these steps, for a save or a callback; and whether the
        callback wants to see the model as it is there."""
        if self.keeper is not None:
            last = self.keeper.last_step(first, last)
        if not self.step_hooks:
            return last, False
        before = self.model.core.engine.global_step
        last = first + self.step_hooks.pause(before, last - first)
        return last, self.step_hooks.stores(before + last - first)

    def _stop_after(self, first: int, place: Place, call: Call) -> bool:
        """Callbacks and saves that are due after the steps from the first up to the place; whether a callback
        ends the training."""
        if self.step_hooks and place.record is not None:
            call.leave_engine()
            ended = self.step_hooks.call(self.model, place.epoch, self.model.core.engine.global_step,
                                         place.record[first:place.step])
            call.enter_engine()
            if ended:
                return True
        if self.keeper is not None and self.keeper.wants(place.epoch):
            self.keeper.save(place)
        return False

    def _part(self, start: int, stop: int) -> Samples:
        """Some samples in their order, converted."""
        samples = self.samples
        assert isinstance(samples, Samples)     # those of a source come converted
        rows = slice(start, stop) if samples.order is None else samples.order[start:stop]
        x = sources.readable(samples.x[rows], self.model.dtype, self._dense)
        weights = None if samples.weights is None else samples.weights[rows]
        return Samples(x, samples.targets[rows], weights, None, samples.batch_size)


def train(model: MLP, samples: Samples, first: int, last: int, optimizer: Optimizer,
          totals: Totals = (0.0, 0.0), store: bool = True, record: Array | None = None,
          observer: Observer | None = None) -> Totals:
    """`totals` plus the losses and weights of all samples of these steps, added one by one: how the epoch
    is cut into runs leaves no trace in its last bit."""
    run = model.core.engine.begin(samples, optimizer)
    return run.steps(first, last, totals, get_num_threads(), store, record, observer)


def _diagnostics(callbacks: tuple[Callback, ...], optimizer: Optimizer, samples: Samples | Feed
                 ) -> Diagnostics | None:
    """The one among the callbacks that looks at every step.

    Raises ValueError for more than one, and where nobody knows how many steps there are.
    """
    found = [callback for callback in callbacks if isinstance(callback, Diagnostics)]
    if len(found) > 1:
        raise ValueError(f"callbacks: expected one Diagnostics, got {len(found)}")
    if found and optimizer.full_batch:
        raise ValueError("callbacks: Diagnostics looks at training steps, and LBFGS takes none")
    if found and not len(samples):
        raise ValueError("callbacks: Diagnostics divides an epoch evenly, and this source does not say how "
                         "many samples it has")
    return found[0] if found else None

