"""Callbacks that write the numbers of a training down, where they outlive it: a table, event files."""
from __future__ import annotations

import csv
import io
import os
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core import checks, whole_files
from fastmlp._core.attributes import Guarded
from fastmlp._core.divergence import all_finite
from fastmlp._core.optional import import_extra

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from fastmlp._core.types import Path
    from fastmlp.model import MLP

__all__ = ["CSVLogger", "TensorBoard"]

HISTOGRAM_BINS = 64


class CSVLogger(Guarded):
    """Append a line to a CSV file after every epoch.

    The columns are "epoch" as callbacks count it, from 0 on in each `MLP.fit`; "step", the steps that the
    model has taken in its life; "time", the local time; then the numbers of the epoch by name. Of a list with
    a number for each layer, each has a column.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        Path of the file. Lines are added to what is there; a new one begins with a line of names.

    Raises
    ------
    TypeError
        For a path of the wrong type.
    ValueError
        When training begins, for a file that is no table of a CSVLogger; it stays as it is.
    OSError
        Where the file cannot be written.

    See Also
    --------
    TensorBoard : The same for TensorBoard.
    fastmlp.MLP.fit : Has the history as an object, too.

    Notes
    -----
    Every line is in the file when its epoch ends, and is written whole, with one call: who reads the file
    meanwhile, or after the program was killed, finds whole lines. (If a machine failed in between, the next
    training removes the half line.) Numbers are written with all their digits. A number that later epochs
    have and earlier ones have not, such as val_loss from a second `MLP.fit`, makes a new column: the file is
    then replaced by one with the column, empty in the lines before.

    Saved with a model (`MLP.save` with ``callbacks``, a checkpoint), the logger knows how many lines there
    were. Where training resumes from there, the lines that came later are removed: their epochs come again.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from fastmlp import MLP
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "run.csv")
    ...     history = MLP([4, 3]).fit(np.eye(4), [0, 1, 2, 0], epochs=2, callbacks=[CSVLogger(path)],
    ...                               progress=False)
    ...     print(path.read_text().splitlines()[0])
    epoch,step,time,loss,samples_per_second
    """

    fixed = {"path": "is fixed when a CSVLogger is made; make another one"}

    def __init__(self, path: Path) -> None:
        self.__dict__.update(path=_path("path", path))
        self._columns: list[str] | None = None      # None: the file has not been looked at
        self._rows = 0
        self._resumed: int | None = None            # lines to keep, where `set_state` says so

    path: str

    def __repr__(self) -> str:
        return f"CSVLogger({self.path!r})"

    def begin(self, model: MLP) -> None:
        """Look at the file, and go on where it ends, or where `set_state` says.

        Parameters
        ----------
        model : MLP
            Model that is going to be trained.

        Raises
        ------
        ValueError
            For a file that is no table of a CSVLogger.
        """
        self._look()

    def __call__(self, model: MLP, epoch: int, logs: Mapping[str, Any]) -> None:
        """Write the line of an epoch.

        Parameters
        ----------
        model : MLP
            Model that is trained.
        epoch : int
            Epoch, from 0 on.
        logs : mapping {str: float}
            Numbers of the epoch.
        """
        if self._columns is None or not os.path.exists(self.path):      # or somebody has moved it away
            self._look()
        row: dict[str, Any] = {"epoch": epoch, "step": model.core.engine.global_step,
                               "time": datetime.now().isoformat(timespec="seconds")}
        row.update(_numbers(logs))
        columns = self._columns or []
        new = [name for name in row if name not in columns]
        if new:
            lines = self._read()[1:]
            self._columns = columns = [*columns, *new]
            width = len(columns)
            self._write([columns, *([*line, *[""] * (width - len(line))] for line in lines)])
        whole_files.append(self.path, _text([[row.get(name, "") for name in columns]]))
        self._rows += 1

    def get_state(self) -> dict[str, Any]:
        """Return how many lines there are.

        Returns
        -------
        dict {str: ndarray}
            "rows", without the line of names.

        Examples
        --------
        >>> CSVLogger("run.csv").get_state()
        {'rows': array(0)}
        """
        return {"rows": np.array(self._rows)}

    def set_state(self, values: Mapping[str, ArrayLike]) -> None:
        """Have the next `MLP.fit` go on after so many lines; those that come later are removed then.

        Parameters
        ----------
        values : mapping {str: array_like}
            State, as `get_state` returns it.

        Raises
        ------
        TypeError
            For values of another type than `get_state` returns.
        ValueError
            For other names, and for a number that `get_state` cannot have returned.

        Examples
        --------
        >>> one, two = CSVLogger("run.csv"), CSVLogger("run.csv")
        >>> two.set_state(one.get_state())
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"state: expected a dict of arrays, got {type(values).__name__}")
        if list(values) != ["rows"]:
            raise ValueError(f"state: expected an entry 'rows' alone, got {', '.join(values) or 'none'}")
        rows = np.asarray(values["rows"])
        number = rows[()] if rows.ndim == 0 else rows
        self._rows = self._resumed = checks.integer("state['rows']", number, low=0)
        self._columns = None

    # The file ----------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Find out columns and lines, and remove what is not whole or is going to come again."""
        whole_files.check_folder(self.path)
        table = self._read()
        kept = table if self._resumed is None else table[:1 + self._resumed]
        if len(kept) < len(table) or self._has_half_line:
            self._write(kept)
        self._resumed = None
        self._columns, self._rows = (kept[0], len(kept) - 1) if kept else ([], 0)

    def _read(self) -> list[list[str]]:
        """All whole lines, that of the names first; none of a file that is empty or not there."""
        try:
            content = whole_files.read(self.path, lambda file, size: file.read())
        except FileNotFoundError:
            content = b""
        end = content.rfind(b"\n") + 1
        self._has_half_line = end < len(content)
        try:
            table = list(csv.reader(io.StringIO(content[:end].decode("utf-8"), newline=""), strict=True))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"path: expected a table of a CSVLogger in {self.path!r}, got {error}") from None
        if table and table[0][:3] != ["epoch", "step", "time"]:
            raise ValueError(f"path: expected a table of a CSVLogger, which begins with epoch,step,time, in "
                             f"{self.path!r}, got {','.join(table[0])[:60]!r}")
        if not table and self._has_half_line and not b"epoch,step,time".startswith(content[:15]):
            raise ValueError(f"path: expected a table of a CSVLogger in {self.path!r}, got {content[:60]!r}")
        return table

    def _write(self, table: list[list[str]]) -> None:
        whole_files.write(self.path, [_text(table)])


class TensorBoard(Guarded):
    """Write event files for TensorBoard, which draws curves in a browser while training goes on.

    It needs tensorboardX, which is small: ``pip install "fastmlp[tensorboard]"``. To look at them, ``pip
    install tensorboard`` wherever the browser is, and ``tensorboard --logdir runs``.

    Parameters
    ----------
    logdir : str, bytes or os.PathLike
        Folder of the run, such as runs/wide; it is made if need be. Its folders train and validation hold
        the event files, so that loss and val_loss are two curves in one chart, "loss".
    every : int, default 0
        Number of steps between two points of "step_loss", the mean loss since the point before; 0 for none.
    histograms : bool, default False
        Whether to write histograms of the weights and biases of every layer after each epoch, too.

    Raises
    ------
    ImportError
        If tensorboardX is not installed.
    TypeError
        For settings of the wrong type.
    ValueError
        For a negative number of steps.

    See Also
    --------
    CSVLogger : A table, which needs nothing to read it.

    Notes
    -----
    The horizontal axis counts the steps that the model has taken in its life, so that a second `MLP.fit`, or
    a training that resumes, goes on where the first one ended; points that were written beyond there before
    the training resumed are hidden. Each run should have a folder of its own. What an epoch has recorded is
    on the disk when the epoch ends.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("tensorboardX")
    >>> TensorBoard("runs/wide", every=100)
    TensorBoard('runs/wide', every=100, histograms=False)
    """

    settable = {
        "every": lambda self, value: checks.integer("every", value, low=0),
        "histograms": lambda self, value: bool(value),
    }
    fixed = {"logdir": "is fixed when a TensorBoard is made; make another one"}

    def __init__(self, logdir: Path, every: int = 0, histograms: bool = False) -> None:
        import_extra("tensorboardX", "TensorBoard", "tensorboard")
        self.__dict__.update(logdir=_path("logdir", logdir))
        self.every: int = every
        self.histograms: bool = histograms
        self._files: dict[str, _EventFile] = {}

    logdir: str

    def __repr__(self) -> str:
        return f"TensorBoard({self.logdir!r}, every={self.every}, histograms={self.histograms})"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_files": {}}       # a copy opens files of its own

    def begin(self, model: MLP) -> None:
        """Begin new event files.

        Parameters
        ----------
        model : MLP
            Model that is going to be trained.
        """
        self._close()

    def on_step_end(self, model: MLP, step: int, logs: Mapping[str, float]) -> None:
        """Write the loss of the last steps.

        Parameters
        ----------
        model : MLP
            Model that is trained.
        step : int
            Steps that it has taken.
        logs : mapping {str: float}
            Numbers of the steps.
        """
        self._file("train", step - self.every).scalar("step_loss", logs["loss"], step)

    def __call__(self, model: MLP, epoch: int, logs: Mapping[str, Any]) -> None:
        """Write the numbers of an epoch.

        Parameters
        ----------
        model : MLP
            Model that is trained.
        epoch : int
            Epoch, from 0 on.
        logs : mapping {str: float}
            Numbers of the epoch.
        """
        step = model.core.engine.global_step
        for name, value in _numbers(logs):
            run = "validation" if name.startswith("val_") else "train"
            self._file(run, step - 1).scalar(name.removeprefix("val_"), value, step)
        if self.histograms:
            for kind in ("weights", "biases"):
                for i, array in enumerate(getattr(model, kind)):
                    if all_finite(array):       # there is no bin for NaN
                        self._file("train", step - 1).histogram(f"{kind}/layer_{i + 1}", array, step)
        for file in self._files.values():
            file.flush()

    def finish(self, model: MLP) -> None:
        """Close the event files.

        Parameters
        ----------
        model : MLP
            Model that was trained.
        """
        self._close()

    def _file(self, run: str, before: int) -> _EventFile:
        """That of a run, train or validation; a new one hides what was written after these steps."""
        if run not in self._files:
            self._files[run] = _EventFile(os.path.join(self.logdir, run), before)
        return self._files[run]

    def _close(self) -> None:
        while self._files:
            self._files.popitem()[1].close()


class _EventFile:
    """A new event file in a folder. It has no thread and no queue, as tensorboardX's SummaryWriter has: what
    is flushed is on its way to the disk."""

    def __init__(self, folder: str, before: int) -> None:
        import_extra("tensorboardX", "TensorBoard", "tensorboard")
        os.makedirs(folder, exist_ok=True)
        self._events = import_module("tensorboardX.proto.event_pb2")
        self._summary = import_module("tensorboardX.summary")
        writer: Any = import_module("tensorboardX.event_file_writer")
        # Names are in order of time, as TensorBoard reads them; two files of one second have two names.
        self._writer = writer.EventsWriter(os.path.join(folder, "events"), f".{time.time_ns()}")
        if before > 0:
            start = self._events.SessionLog(status=self._events.SessionLog.START)
            self._write(before + 1, session_log=start)

    def scalar(self, name: str, value: float, step: int) -> None:
        self._write(step, summary=self._summary.scalar(name, np.asarray(value, float)))

    def histogram(self, name: str, values: NDArray[Any], step: int) -> None:
        self._write(step, summary=self._summary.histogram(name, values, HISTOGRAM_BINS))

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def _write(self, step: int, **content: Any) -> None:
        self._writer.write_event(self._events.Event(wall_time=time.time(), step=step, **content))


def _path(name: str, path: Any) -> str:
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{name}: expected a path, got {path!r}") from None


def _numbers(logs: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Numbers by name, those of a list as name_1, name_2, ...; what is neither, such as arrays with a number
    for every step, is left out."""
    for name, value in logs.items():
        if isinstance(value, (list, tuple)):
            yield from ((f"{name}_{i + 1}", item) for i, item in enumerate(value) if _is_number(item))
        elif _is_number(value):
            yield name, value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _text(table: list[list[Any]]) -> bytes:
    """Lines of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(
        [float(cell) if isinstance(cell, np.floating) else cell for cell in row] for row in table)
    return text.getvalue().encode("utf-8")
