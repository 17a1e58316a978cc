"""What fit shows: bars and lines, and which of them where."""
from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import struct
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

from fastmlp import MLP, EarlyStopping
from fastmlp._core import progress

pytestmark = pytest.mark.any_isa

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  epoch +(\d+)/(\d+)( \d+%)?  loss (\S+)((?:  \w+ \S+)*)"
                  r"  (\S+) samples/s  (\d+:\d\d:\d\d) left")


def data(rng, n=40):
    return rng.standard_normal((n, 4)), rng.integers(0, 3, n)


def fit(rng, model=None, **options):
    options = {"epochs": 3, "batch_size": 8, "progress": "log", **options}
    return (model or MLP([4, 3], seed=0)).fit(*data(rng), **options)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Of lines; it stands still until a test moves it."""
    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now

    result = Clock()
    monkeypatch.setattr(progress, "time", result)
    return result


# Lines -----------------------------------------------------------------------------------------------------

def test_lines(backend, rng, capsys, clock):
    X, y = data(rng)

    def wait(model, epoch, logs):
        clock.now += 2.0

    history = fit(rng, epochs=12, validation_data=(X, y), callbacks=[wait])
    out, err = capsys.readouterr()
    assert out == ""
    assert "\r" not in err and "\x1b" not in err and err.endswith("\n")
    lines = [LINE.fullmatch(line) for line in err.splitlines()]
    assert all(lines), err
    assert [(int(line[1]), line[2], line[3]) for line in lines] == [(i, "12", None) for i in range(1, 13)]
    assert [line[4] for line in lines] == [f"{loss:.4g}" for loss in history.loss]
    assert lines[3][5] == f"  val_loss {history.val_loss[3]:.4g}  val_accuracy {history.val_accuracy[3]:.4g}"
    assert [line[7] for line in lines][-2:] == ["0:00:02", "0:00:00"]      # 11 epochs in 20 seconds, and 12
    assert lines[5][7] == "0:00:10"                         # 6 epochs in 10 seconds


def test_hundreds_of_short_epochs_are_few_lines(rng, capsys, clock):
    def wait(model, epoch, logs):
        clock.now += 0.01

    fit(rng, epochs=500, callbacks=[wait])
    lines = [LINE.fullmatch(line) for line in capsys.readouterr().err.splitlines()]
    numbers = [int(line[1]) for line in lines]
    assert numbers[0] == 1 and numbers[-1] == 500 and 5 <= len(numbers) <= 7
    assert max(np.diff(numbers)) <= 102


@pytest.mark.parametrize("ended", ["stopping", "error", "step"])
def test_the_last_epoch_has_its_line(ended, rng, capsys, clock):
    """However the training ends."""
    def end(model, epoch, logs):
        if epoch == 6:
            if ended == "error":
                raise KeyboardInterrupt
            return ended == "stopping"

    class Step:
        every = 35

        def on_step_end(self, model, step, logs):
            return ended == "step"

    try:
        fit(rng, epochs=100, callbacks=[end, Step()])
    except KeyboardInterrupt:
        pass
    assert [LINE.fullmatch(line)[1] for line in capsys.readouterr().err.splitlines()] == ["1", "7"]


def test_long_epochs_have_several(rng, capsys, clock):
    class Wait:
        every = 1

        def on_step_end(self, model, step, logs):
            clock.now += 10.0

    fit(rng, epochs=2, batch_size=4, callbacks=[Wait()])
    lines = [LINE.fullmatch(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line[1], line[3]) for line in lines] == [
        ("1", " 50%"), ("1", " 90%"), ("1", None), ("2", " 50%"), ("2", " 90%"), ("2", None)]
    assert lines[0][7] == "0:02:00"                         # a quarter of all took 40 seconds


def test_a_run_that_goes_on_knows_how_long_the_rest_takes(tmp_path, rng, capsys, clock):
    """By the epochs that are trained now, not by those of before; within an epoch, too."""
    path, X, y = tmp_path / "run.safetensors", *data(rng)

    class Stopped(Exception):
        pass

    def wait(model, epoch, logs):
        clock.now += 2.0
        if epoch == 4 and stops:
            raise Stopped

    def run():
        MLP([4, 3], seed=0).fit(X, y, epochs=8, batch_size=8, callbacks=[wait], progress="log", resume=True,
                                checkpoint=path, checkpoint_every=3)        # 5 steps an epoch

    stops = True
    with pytest.raises(Stopped):
        run()
    stops = False
    run()
    lines = [LINE.fullmatch(line) for line in capsys.readouterr().err.splitlines()]
    assert [line[1] for line in lines] == ["1", "2", "3", "4", "5", "5", "6", "7", "8"]
    left = [line[7] for line in lines[5:]]          # a part of epoch 5, in no time; then 2 s each
    assert left == ["0:00:00", "0:00:03", "0:00:02", "0:00:00"]


def test_every_line_is_one_write_and_is_flushed(rng, monkeypatch, clock):
    class Stream(io.StringIO):
        def __init__(self):
            super().__init__()
            self.calls = []

        def write(self, text):
            self.calls.append(text)
            return len(text)

        def flush(self):
            self.calls.append("flush")

    stream = Stream()
    monkeypatch.setattr(sys, "stderr", stream)
    fit(rng, epochs=2)
    assert stream.calls[1::2] == ["flush"] * 2
    assert all(LINE.fullmatch(text.removesuffix("\n")) for text in stream.calls[::2])


def test_numbers_of_layers_and_arrays_are_left_out(rng, capsys):
    line = progress.Progress("log").bar(10, 0, 1)
    line.show({"loss": 0.5, "samples_per_second": 1e6, "step_loss": np.zeros(3), "layer1_dead": 0.1,
               "val_r2": 0.9})
    assert LINE.fullmatch(capsys.readouterr().err.strip())[5] == "  val_r2 0.9"


# Bars ------------------------------------------------------------------------------------------------------

def test_a_bar(backend, rng, capsys):
    X, y = data(rng)
    fit(rng, validation_data=(X, y), progress="bar")
    out, err = capsys.readouterr()
    assert out == ""
    for text in ("epoch 1/3", "epoch 3/3", "40.0/40.0", "samples/s", "loss=", "val_accuracy="):
        assert text in err
    assert "\r" in err


def test_hundreds_of_short_epochs_are_few_bars(rng, capsys, clock):
    def wait(model, epoch, logs):
        clock.now += 0.01

    fit(rng, epochs=100, progress="bar", callbacks=[wait])
    numbers = [int(number) for number in re.findall(r"epoch (\d+)/100", capsys.readouterr().err)]
    shown = sorted(set(numbers))
    assert shown[0] == 1 and shown[-1] == 100 and 5 <= len(shown) <= 7


def test_ten_epochs_have_ten_bars(rng, capsys, clock):
    fit(rng, epochs=10, progress="bar")
    numbers = re.findall(r"epoch (\d+)/10", capsys.readouterr().err)
    assert sorted(set(map(int, numbers))) == list(range(1, 11))


@pytest.mark.parametrize("nothing", [False, 0, None, np.False_])
def test_nothing(nothing, rng, capsys):
    fit(rng, progress=nothing)
    assert capsys.readouterr() == ("", "")


# Which, where ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("stream, term, expected", [
    (Terminal(), "xterm-256color", "bar"), (Terminal(), "dumb", "log"), (Terminal(), None, "bar"),
    (io.StringIO(), "xterm", "log"), (None, "xterm", "log"), (object(), "xterm", "log")])
@pytest.mark.parametrize("wanted", [True, 1, np.True_])
def test_true_is_what_fits(wanted, stream, term, expected, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    monkeypatch.delenv("TERM", raising=False)
    if term is not None:
        monkeypatch.setenv("TERM", term)
    assert progress.kind_of("progress", wanted) == expected
    assert progress.kind_of("progress", "bar") == "bar" and progress.kind_of("progress", "log") == "log"


@pytest.mark.parametrize("shell, expected", [
    (SimpleNamespace(kernel=object()), "bar"), (SimpleNamespace(), "log"), (None, "log")])
def test_in_a_notebook(shell, expected, monkeypatch):
    """Its stderr is no terminal; IPython in a program or a pipe is no notebook."""
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert progress.kind_of("progress", True) == expected


PROGRAM = textwrap.dedent("""
    import numpy as np
    from fastmlp import MLP
    MLP([4, 3], seed=0).fit(np.eye(4), [0, 1, 2, 0], epochs=3)
    print("trained")
    """)


def test_in_a_pipe():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.stdout == "trained\n"
    lines = [LINE.fullmatch(line) for line in done.stderr.splitlines()]
    assert [line[1] for line in lines] == ["1", "3"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
def test_on_a_terminal():
    """A real one: a bar that goes back to the beginning of the line, and the program's output apart."""
    import fcntl
    import pty
    import termios

    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    try:
        done = subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=terminal,
                              text=True, env={**os.environ, "TERM": "xterm"}, check=True)
        shown = os.read(controller, 100_000).decode()
    finally:
        os.close(terminal)
        os.close(controller)
    assert done.stdout == "trained\n"
    assert "epoch 3/3: 100%" in shown and "\r" in shown and "left" not in shown


def shown_on_a_terminal(program, columns):
    """All that comes to a terminal of so many columns."""
    import fcntl
    import pty
    import termios

    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    found = []

    def read():
        with contextlib.suppress(OSError):          # as Linux says that it is closed
            while text := os.read(controller, 4096):
                found.append(text)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=terminal,
                       env={**os.environ, "TERM": "xterm"}, check=True)
    finally:
        os.close(terminal)
        reader.join(60)
        os.close(controller)
    return b"".join(found).decode()


@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
@pytest.mark.parametrize(("columns", "metrics"), [
    (40, False), (80, False), (200, False), (40, True), (80, True), (120, True)])
def test_bars_fit(columns, metrics):
    """The numbers of the epoch are there, whole; of too many on a narrow terminal, the first ones."""
    names = ["loss", "val_loss", "val_accuracy"]
    program = PROGRAM.replace("epochs=3", "epochs=10, validation_data=(np.eye(4), [0, 1, 2, 0])")
    if metrics:
        names = ["loss", "accuracy", "f1", "val_loss", "val_accuracy", "val_f1"]
        program = program.replace("epochs", "metrics=['accuracy', 'f1'], epochs")
    shown = shown_on_a_terminal(program, columns)
    lines = [line.strip("\n") for line in re.split(r"[\r\n]", shown)]
    assert max(map(len, lines)) < columns + len("\x1b[A")
    last = [line for line in lines if "epoch 10/10" in line][-1]
    found = re.findall(r"(\w+)=[\d.e-]+", last)
    assert found and found == names[:len(found)]
    if columns >= (120 if metrics else 80):
        assert found == names
    assert ("..." in last) == (found != names)
    if columns >= 120:
        assert "100%|" in last


@pytest.mark.parametrize("columns", [30, 50, 80, 140])
def test_bars_fit_where_nobody_knows_how_much_there_is(columns, rng, monkeypatch):
    from tqdm.std import tqdm

    stream = io.StringIO()
    bars = []

    def make(total, description):
        bars.append(tqdm(total=total or None, desc=description, unit=" samples", unit_scale=True, delay=1e-9,
                         file=stream, ncols=columns))
        return bars[-1]

    monkeypatch.setattr(progress, "_tqdm", make)
    X, y = data(rng)
    MLP([4, 3], seed=0).fit(((X, y) for _ in range(3)), progress="bar", validation_data=(X, y))
    last = [line for line in re.split(r"[\r\n]", stream.getvalue()) if "loss=" in line][-1]
    assert len(last.rstrip()) <= columns
    found = re.findall(r"(\w+)=[\d.e-]+", last)
    assert found == ["loss", "val_loss", "val_accuracy"][:len(found)] and ("..." in last) == (len(found) < 3)


# A stream that is not what it should be ---------------------------------------------------------------------

class Broken(io.StringIO):
    """A stream that breaks after so many calls."""

    def __init__(self, calls, error):
        super().__init__()
        self.calls, self.error = calls, error

    def write(self, text):
        self.calls -= 1
        if self.calls < 0:
            raise self.error("it broke")
        return super().write(text)

    def flush(self):
        self.write("")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("calls", [0, 1, 2, 3])
@pytest.mark.parametrize("error", [BrokenPipeError, OSError, ValueError, RuntimeError])
def test_a_stream_that_breaks_ends_the_lines_alone(error, calls, rng, monkeypatch):
    stream = Broken(calls, error)
    monkeypatch.setattr(sys, "stderr", stream)
    history = fit(rng, epochs=3)
    assert len(history.loss) == 3
    assert stream.calls == -1                               # it is not tried again


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs SIGALRM")
def test_lines_swallow_no_signal(rng, monkeypatch):
    def handler(*_):
        raise TimeoutError("time is up")

    class Late(io.StringIO):
        def write(self, text):
            signal.raise_signal(signal.SIGALRM)
            return len(text)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        monkeypatch.setattr(sys, "stderr", Late())
        with pytest.raises(TimeoutError, match="time is up"):
            fit(rng)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_lines_cost_nothing_to_speak_of(rng):
    """A line that is not due takes a few microseconds."""
    shown = progress.Progress("log")
    shown.written = time.perf_counter() + 1e6
    line = shown.bar(10, 0, 10)
    started = time.perf_counter()
    for _ in range(2000):
        line.update(1, 0.5)
        line.show({"loss": 0.5, "samples_per_second": 1e6})
    assert (time.perf_counter() - started) / 2000 < 1e-3


# Bad input -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("value, error, message", [
    ("bars", ValueError, "^progress: unknown name 'bars', did you mean 'bar'"),
    ("", ValueError, "^progress: unknown name ''"),
    (2, TypeError, '^progress: expected "bar", "log", True or False, got 2'),
    (["bar"], TypeError, "^progress: expected"),
    (0.5, TypeError, "^progress: expected"),
])
def test_bad_progress(value, error, message, rng):
    model = MLP([4, 3], seed=0)
    before = model.weights[0].copy()
    with pytest.raises(error, match=message):
        fit(rng, model, progress=value, callbacks=[EarlyStopping()])
    np.testing.assert_array_equal(model.weights[0], before)


@pytest.mark.parametrize("number", [1, 5, 9])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_while_a_bar_is_drawn_keeps_no_lock(error, number, monkeypatch):
    """Of tqdm's, which is that of all bars: another thread that shows one would wait for ever."""
    class Raises(io.StringIO):
        writes = 0

        def isatty(self):
            return True

        def write(self, text):
            self.writes += 1
            if self.writes == number:
                raise error
            return super().write(text)

    def fit():
        MLP([4, 3], seed=0).fit(np.eye(4), [0, 1, 2, 0], epochs=3, batch_size=1, progress="bar")

    monkeypatch.setattr(sys, "stderr", Raises())
    with pytest.raises(KeyboardInterrupt) if error is KeyboardInterrupt else contextlib.nullcontext():
        fit()
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    other = threading.Thread(target=fit, daemon=True)
    other.start()
    other.join(10)
    try:
        assert not other.is_alive()
    finally:
        if other.is_alive():            # or all tests after this one wait, too
            from tqdm.auto import tqdm

            tqdm.get_lock().release()
            other.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("before", [False, True])
def test_a_bar_in_a_child_of_a_fork(before, monkeypatch):
    """Whatever thread of the parent was drawing one."""
    from tqdm.auto import tqdm

    def fit():
        MLP([4, 3], seed=0).fit(np.eye(4), [0, 1, 2, 0], epochs=2, batch_size=1, progress="bar")

    def draw():
        with tqdm.get_lock():
            held.set()
            ended.wait(30)

    monkeypatch.setattr(sys, "stderr", io.StringIO())
    if before:
        fit()
    held, ended = threading.Event(), threading.Event()
    thread = threading.Thread(target=draw)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        try:
            fit()
        finally:
            os._exit(0)
    status = os.waitpid(child, 0)[1]
    ended.set()
    thread.join()
    assert status == 0
