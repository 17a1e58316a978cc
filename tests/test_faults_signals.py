"""Exceptions that signals raise, at every line of the library and at any moment, and signals by the thousand:
a model has learned what whole steps have taught it, nothing stays behind, and everything works again."""
from __future__ import annotations

import copy
import ctypes
import linecache
import os
import random
import signal
import sys
import tempfile
import threading
import time
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest
from faulty import LAYERS, LONG, NEEDS_PROC, POSIX, bits, descriptors, program, samples, threads

import fastmlp
from fastmlp import MLP, SGD, Adam, Checkpoint, CSVLogger, EarlyStopping, data, schedules
from fastmlp._core import state

pytestmark = pytest.mark.any_isa

PACKAGE = str(Path(fastmlp.__file__).parent) + os.sep
CLEANING = ("_thread.limit = before", "override.set(before)")   # lines before which Python handles no signal
OF_FIT = {"training.py", "_core/keeper.py", "_core/signals.py"}
HELD = [signal.SIGINT, signal.SIGTERM]          # which wait for a checkpoint
MANY = 10000                                    # lines that run: a loop over all weights has more
EPOCHS, STEPS = 2, 4                            # of a training here, and of an epoch


class Stop(BaseException):
    """What a handler raises."""


def stop(number, frame):
    raise Stop


# Trainings -------------------------------------------------------------------------------------------------

class Training:
    """A call of `fit`, and the folder of its files."""

    def __init__(self, kind, folder):
        rng = np.random.default_rng(5)
        self.X, self.y = rng.standard_normal((40, 6)), rng.integers(0, 3, 40)
        self.folder, self.epochs = folder, 0
        self.model, self.optimizer = MLP([6, 5, 3], seed=0, batch_norm=True, dropout=0.1), Adam(0.01)
        self.arguments = dict(X=self.X, y=self.y, epochs=EPOCHS, batch_size=10, progress=False,
                              optimizer=self.optimizer, callbacks=[self.count])
        getattr(self, kind)()

    def usual(self):
        self.arguments["callbacks"].append(EarlyStopping(9, restore_best=False))
        self.arguments.update(validation_data=(self.X, self.y), metrics=["accuracy"], log_steps=True)

    def saved(self):
        self.arguments["callbacks"] += [CSVLogger(self.folder / "run.csv"),
                                        Checkpoint(self.folder / "{epoch}.safetensors")]
        self.arguments.update(checkpoint=self.folder / "run.safetensors", checkpoint_every=3)

    def changing(self):
        self.optimizer.lr, self.optimizer.clip_norm = schedules.ReduceOnPlateau(0.1), 1.0
        self.arguments.update(shuffle=lambda epoch: np.arange(40)[::-1], sample_weight=np.ones(40))

    def rate(self):
        self.optimizer.lr = lambda step: 0.01 / (step + 1)

    def source(self):
        X, y = self.X, self.y
        self.arguments.update(y=None, X=data.Chunks(lambda: ((X[i:i + 20], y[i:i + 20]) for i in (0, 20))))

    def count(self, model, epoch, logs):
        self.epochs += 1

    def learned(self):
        """The bits of all that training changes."""
        return b"".join(array.tobytes() for array in state.arrays(self.model).values())

    def fit(self):
        self.model.fit(**self.arguments)

    def check(self, known, where):
        """After an interruption: whole steps, a history that fits, nothing left behind; and it goes on."""
        model, step = self.model, self.model.core.engine.global_step
        assert self.learned() == known[step], (where, step)
        assert self.optimizer.state_of(model.core.parameters).step == step, (where, step)
        if model.history is not None:
            lengths = {name: len(values) for name, values in model.history.items()}
            assert len(set(lengths.values())) == 1, (where, lengths)
            assert len(model.history.loss) in (0, self.epochs, self.epochs + 1), where
        assert model.core.training is None, where
        for number in HELD:
            # Interrupted while it was exchanged: the first signal puts it back, and does what it did.
            if signal.getsignal(number) is not stop:
                try:
                    signal.raise_signal(number)
                except Stop:
                    assert signal.getsignal(number) is stop, where
                else:
                    raise AssertionError(f"a signal is held for ever: {where}")
        for file in self.folder.glob("*.safetensors"):
            fastmlp.load(file)
        if "checkpoint" in self.arguments:
            again = Training("saved", self.folder)
            again.arguments["resume"] = True
            again.fit()
            assert again.learned() == known[EPOCHS * STEPS], where
        assert np.isfinite(model.train_step(self.X, self.y, self.optimizer)), where


KINDS = ["usual", "saved", "changing", "rate", "source"]


class Noting:
    """A callback that keeps what is learned after every step."""

    every = 1

    def __init__(self, training):
        self.training = training
        self.known = {0: training.learned()}

    def on_step_end(self, model, step, logs):
        self.known[step] = self.training.learned()


def known_steps(training):
    """{step: what is learned then} of a training that nothing interrupts."""
    noting = Noting(training)
    training.arguments["callbacks"] = [*training.arguments["callbacks"], noting]
    training.fit()
    return noting.known


# At every line ---------------------------------------------------------------------------------------------

class AtLine:
    """For sys.settrace: raises at line number n of the lines of the library that run, or notes them all."""

    def __init__(self, number=0):
        self.number = number
        self.lines = []
        self.where = self.text = ""

    def __call__(self, frame, event, argument):
        if frame.f_back and frame.f_back.f_code.co_filename == weakref.__file__:
            return None             # a finalizer, whose exceptions Python prints and drops
        return self.line if frame.f_code.co_filename.startswith(PACKAGE) else None

    def line(self, frame, event, argument):
        if event == "line":
            self.lines.append((frame.f_code.co_filename.removeprefix(PACKAGE), frame.f_lineno))
            if len(self.lines) == self.number:
                self.where = "{}:{}".format(*self.lines[-1])
                self.text = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
                raise Stop
        return self.line

    def interrupts(self, function):
        """Whether it did."""
        sys.settrace(self)
        try:
            function()
        except Stop:
            return True
        finally:
            sys.settrace(None)
        return False


def some_lines(function, tries=30):
    """Numbers of the lines to try: all, or each line of what `fit` itself consists of, and some others."""
    noted = AtLine()
    noted.interrupts(function)
    numbers = list(range(1, len(noted.lines) + 1))
    if LONG and len(numbers) <= MANY:
        return numbers
    random.shuffle(numbers)
    lines = {noted.lines[number - 1]: number for number in numbers}     # each once, at any time
    if LONG:
        return sorted(lines.values())
    own = [number for (file, _), number in lines.items() if file in OF_FIT]
    others = [number for (file, _), number in lines.items() if file not in OF_FIT]
    return sorted(own + others[:tries])


def every_line(kind):
    """Prints how many lines were tried."""
    warnings.simplefilter("ignore")
    for number in HELD:
        signal.signal(number, stop)
    with tempfile.TemporaryDirectory() as top:
        folders = (Path(tempfile.mkdtemp(dir=top)) for _ in iter(int, 1))
        known = known_steps(Training(kind, next(folders)))
        held, running, interrupted, in_open = descriptors(), threads(), 0, 0
        for number in some_lines(Training(kind, next(folders)).fit):
            training, at = Training(kind, next(folders)), AtLine(number)
            if at.interrupts(training.fit):
                interrupted += 1
                in_open += at.where.startswith("_core/whole_files.py")      # see docs/reliability.md
                training.check(known, at.where)
        del training
        for _ in range(200):                    # threads that read take a moment to end
            if threads() <= running:
                break
            time.sleep(0.02)
        assert threads() <= running
        assert descriptors() <= held + in_open
    print(interrupted)


@POSIX
@NEEDS_PROC
@pytest.mark.parametrize("kind", KINDS)
def test_every_line_of_fit(kind):
    out = program(f"import test_faults_signals as t; t.every_line({kind!r})", timeout=7200 if LONG else 120)
    assert int(out) > 30


def every_line_of_other_calls():
    """None of these changes the model, however it ends, and a file is whole."""
    warnings.simplefilter("ignore")
    X, y = samples(n=30)
    model, other, optimizer, interrupted = MLP(LAYERS, seed=0), MLP(LAYERS, seed=1), SGD(0.1), 0
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/net.safetensors"
        other.save(path)
        calls = {
            "save": lambda: model.save(path), "load": lambda: fastmlp.load(path),
            "export_c": lambda: model.export_c(f"{folder}/net.c"), "evaluate": lambda: model.evaluate(X, y),
            "predict": lambda: model.predict(X), "compile_predict": lambda: model.compile_predict()(X),
            "gradients": lambda: model.loss_and_gradients(X, y), "copy": lambda: copy.deepcopy(model),
            "make": lambda: MLP(LAYERS, seed=0), "workspace": lambda: model.workspace_nbytes(7),
            "limit": lambda: limited(model, X), "backend": lambda: on_numpy(model, X),
        }
        before, expected = bits(model), model.forward(X)
        most, backend = fastmlp.get_num_threads(), fastmlp.get_backend()
        for call in calls.values():
            call()
            for number in some_lines(call, 20):
                at = AtLine(number)
                interrupted += at.interrupts(call)
                assert bits(model) == before, at.where
                if at.text.startswith(CLEANING):
                    fastmlp.set_num_threads(most)
                    fastmlp.backends.override.set(None)
                assert (fastmlp.get_num_threads(), fastmlp.get_backend()) == (most, backend), at.where
                assert bits(fastmlp.load(path)) in (before, bits(other)), at.where
                assert np.array_equal(model.forward(X), expected), at.where
            call()
        model.train_step(X, y, optimizer)
    print(interrupted)


def limited(model, X):
    with fastmlp.limit_num_threads(1):
        model.forward(X)


def on_numpy(model, X):
    with fastmlp.use_backend("numpy"):
        fastmlp.functional.relu(X)


@POSIX
def test_every_line_of_other_calls():
    out = program("import test_faults_signals as t; t.every_line_of_other_calls()",
                  timeout=7200 if LONG else 120)
    assert int(out) > 60


# At any moment ---------------------------------------------------------------------------------------------

class Timed(Training):
    """A training that is long enough to be interrupted in the kernels, on several threads."""

    def __init__(self, folder):
        super().__init__("usual", folder)
        X, y = samples()
        self.model, self.optimizer = MLP(LAYERS, seed=0), SGD(0.05, momentum=0.9)
        self.X, self.y, self.epochs = X, y, 0
        self.arguments = dict(X=X, y=y, epochs=6, batch_size=100, progress=False, optimizer=self.optimizer,
                              validation_data=(X[:100], y[:100]), callbacks=[self.count])


def at_any_moment(seconds):
    """Prints how often a training was interrupted."""
    signal.signal(signal.SIGALRM, stop)
    for number in HELD:
        signal.signal(number, stop)
    fastmlp.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        known = known_steps(Timed(Path(folder)))
        started = time.perf_counter()
        Timed(Path(folder)).fit()
        usual, interrupted, end = time.perf_counter() - started, 0, time.monotonic() + seconds
        while time.monotonic() < end:
            training = Timed(Path(folder))
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, usual))
                    training.fit()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Stop:
                interrupted += 1
                training.check(known, "timer")
    print(interrupted)


@POSIX
def test_at_any_moment():
    out = program(f"import test_faults_signals as t; t.at_any_moment({60 if LONG else 3})")
    assert int(out) > 3


# A storm ---------------------------------------------------------------------------------------------------

def storm(seconds):
    """Signals every millisecond, to the process and to each of its threads: calls of the system end early,
    and training, files and workers take no notice. Prints how many there were."""
    seen = 0

    def note(number, frame):
        nonlocal seen
        seen += 1

    def send():                         # to the workers, too
        kill = getattr(ctypes.CDLL(None), "tgkill", None)
        while kill is not None and not done.wait(0.001):
            for task in os.listdir("/proc/self/task"):
                if int(task) != threading.get_native_id():
                    kill(os.getpid(), int(task), signal.SIGUSR1)

    fastmlp.set_num_threads(3)
    X, y = samples()
    with tempfile.TemporaryDirectory() as folder:
        def run():
            model, path = MLP(LAYERS, seed=0), f"{folder}/net.safetensors"
            model.fit(X, y, epochs=2, batch_size=100, optimizer=SGD(0.05), progress=False,
                      callbacks=[CSVLogger(f"{folder}/run.csv")], checkpoint=f"{folder}/run",
                      checkpoint_every=5)
            model.save(path)
            return bits(fastmlp.load(path)) + model.compile_predict(threads=3)(X).tobytes()

        expected, done = run(), threading.Event()
        signal.signal(signal.SIGUSR1, note)
        signal.signal(signal.SIGALRM, note)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        sender = threading.Thread(target=send)
        sender.start()
        runs, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            assert run() == expected
            runs += 1
        done.set()
        sender.join()
        signal.setitimer(signal.ITIMER_REAL, 0)
        lines = Path(folder, "run.csv").read_text().splitlines()
        assert len(lines) == 1 + 2 * (runs + 1)
    print(seen)


@POSIX
@NEEDS_PROC
def test_storm():
    out = program(f"import test_faults_signals as t; t.storm({60 if LONG else 2})")
    assert int(out) > 50
