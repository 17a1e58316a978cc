"""Files: samples in files."""
from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from fastmlp._core import checks, names, whole_files
from fastmlp.data import _csv, _npy, _npz, _parquet
from fastmlp.data._blocks import BlockError, Part, problem_of
from fastmlp.data._columns import Column, Columns, SameColumns
from fastmlp.data._source import Source, Transform

if TYPE_CHECKING:
    from fastmlp._core.types import Path
    from fastmlp.data._source import OnError

__all__ = ["Files"]

SUFFIXES = (".npy", ".npz", ".csv", ".csv.gz", ".parquet", ".arrow", ".feather")
TABLES = (".csv", ".csv.gz", ".parquet", ".arrow", ".feather")


class Files(Source):
    """Samples in files that may be larger than memory.

    Parameters
    ----------
    paths : str, os.PathLike or list of them
        Paths of the files, or patterns such as ``"part-*.npy"``, whose matches come in the order of their
        names. All have one suffix: .npy, .npz, .csv, .csv.gz, .parquet, .arrow or .feather.
    target : int, str or list of them, optional
        Where the targets are. In a table (.csv, .parquet, .arrow, .feather): a column, by its name or number,
        or a list of columns. In .npz: the name of an array, "y" if not given. With .npy: the paths or
        patterns of the files that have them, one for each of ``paths``; or the number of a column.
    inputs : str or list of int or str, optional
        Where the inputs are. In a table: a list of columns, all but target and weight if not given. In .npz:
        the name of an array, "X" if not given. With .npy: a list of columns, where the target is one.
    weight : int, str or list of str, optional
        Where the weights of the samples are, given as ``target`` is; 1 if not given.
    header : bool, optional
        Whether the first line of a .csv file has the names of the columns. If not given, it has where any
        of its cells is no number.
    delimiter : str, default ","
        What separates the cells of a .csv file.
    block_size : int, default 1048576
        Bytes of a block, about: what is read at once and, in files of which any part can be read, what
        shuffling puts into a new order. Row groups of Parquet and record batches of Arrow are as they are.
    buffer_rows : int, optional
        Rows that a buffer holds: those among which `MLP.fit` shuffles. As many as fill 64 MiB if not given.
    transform : callable, optional
        Function (X, y) or (X, y, weight) of a block that returns the same of what is trained on; it runs in
        the thread that reads.
    on_error : {"raise", "skip"}, default "raise"
        What to do with a block that is missing, broken, or not like the first one: raise, or go on without
        it, with a warning.

    Attributes
    ----------
    paths : list of str
        The files.
    rows : int or None
        Number of rows; None for .csv and .arrow, where all must be read to know it.
    passes : None
        Any number of passes can be had.
    input_names : list of str or None
        Names of the columns of X, where a table has them; known once a block was read.
    skipped : list of str
        What was wrong with every block that was skipped, once for each time that it was.

    Raises
    ------
    FileNotFoundError
        For a file that is not there, unless it is to be skipped, and for a pattern without a match.
    TypeError
        For arguments of the wrong type.
    ValueError
        For suffixes that are unknown, or of several kinds, and arguments that do not fit.
    ImportError
        Without pyarrow, for .parquet, .arrow and .feather, when they are read.

    See Also
    --------
    Chunks : Samples in blocks from anywhere.

    Notes
    -----
    Any block of .npy, .csv, .parquet, .arrow and of an .npz that is not compressed can be read alone. A
    .csv.gz and a compressed .npz are read from the start to the end: only the order of such files is
    shuffled, and the rows in the buffer. Columns of .csv are float64.

    Where columns have names, those of the first file say what the columns are: in other files they are found
    by name, in any order, and one that is missing, or new where ``inputs`` is not given, is an error. Files
    without names go by numbers.

    References
    ----------
    The .npy format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from fastmlp import MLP
    >>> x = np.linspace(-1, 1, 1000, dtype=np.float32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/table.npy", np.stack([x, x ** 2, x > 0.1], axis=1))
    ...     source = Files(f"{folder}/table.npy", target=2)
    ...     model = MLP([2, 8, 1], loss="binary_cross_entropy", seed=0)
    ...     history = model.fit(source, epochs=20, progress=False)
    ...     source.rows, source.statistics().max
    (1000, array([1., 1.]))
    """

    @names.keywords(names.SOURCE)
    def __init__(
        self,
        paths: Path | Iterable[Path],
        target: Column | Path | Iterable[Column | Path] | None = None,
        *,
        inputs: Column | Sequence[Column] | None = None,
        weight: Column | Path | Iterable[Path] | None = None,
        header: bool | None = None,
        delimiter: str = ",",
        block_size: int = 1048576,
        buffer_rows: int | None = None,
        transform: Transform | None = None,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__(buffer_rows=buffer_rows, transform=transform, on_error=on_error)
        self.paths = _matches("paths", paths)
        self.suffix = _suffix(self.paths)
        self.block_size = checks.integer("block_size", block_size, low=1)
        if not isinstance(delimiter, str) or len(delimiter) != 1:
            raise ValueError(f"delimiter: expected one character, got {delimiter!r}")
        self.delimiter = delimiter
        self.header = header if header is None else bool(header)
        self._columns: Columns | None = None
        self._names: tuple[str, str, str | None] = ("X", "y", None)         # of arrays in .npz
        self._others: tuple[list[str], list[str] | None] = ([], None)       # files of targets and weights
        self._parts: list[Part] | None = None
        self._same: SameColumns | None = None
        if self.suffix in TABLES or self.suffix == ".npy" and _is_column(target):
            self._columns = _columns(target, inputs, weight)
        elif self.suffix == ".npz":
            self._names = (_name("inputs", inputs, "X"), _name("target", target, "y"),
                           None if weight is None else _name("weight", weight, ""))
        else:
            self._others = self._beside(target, inputs, weight)
        if on_error == "raise":
            targets, weights = self._others
            for path in (*self.paths, *targets, *(weights or ())):
                os.stat(path)

    def _beside(self, target: Any, inputs: Any, weight: Any) -> tuple[list[str], list[str] | None]:
        """The .npy files of targets and of weights."""
        if target is None:
            raise TypeError("target: expected the number of a column, or the .npy files that have the "
                            "targets, got None")
        if inputs is not None:
            raise ValueError("inputs: expected None where the targets are in files of their own, got "
                             f"{inputs!r}")
        found = []
        for name, paths in (("target", target), ("weight", weight)):
            files = None if paths is None else _matches(name, paths)
            if files is not None and len(files) != len(self.paths):
                raise ValueError(f"{name}: expected as many files as paths, {len(self.paths)}, got "
                                 f"{len(files)}")
            found.append(files)
        targets, weights = found
        assert targets is not None
        return targets, weights

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_parts": None, "_same": None}        # found again

    def parts(self) -> Sequence[Part]:
        if self._parts is None:
            same = self._same = None if self._columns is None else SameColumns(self._columns)
            self._parts = [part for number in range(len(self.paths)) for part in self._parts_of(number, same)]
        return self._parts

    def _names_of_inputs(self) -> Sequence[Any] | None:
        return None if self._same is None else self._same.input_names

    def _parts_of(self, number: int, same: SameColumns | None) -> list[Part]:
        """Of one of the files; where it cannot be read, that is found again when it is its turn."""
        path = self.paths[number]
        name = os.path.basename(path)
        try:
            return self._read_parts(number, path, name, same)
        except ImportError:
            raise
        except Exception as error:
            problem = error
        if self.on_error == "raise":
            raise BlockError(f"{name}: {problem_of(problem)}") from problem
        return [Part(name, 0, None, lambda: _broken(problem))]

    def _read_parts(self, number: int, path: str, name: str, same: SameColumns | None) -> list[Part]:
        for one in (path, *(paths[number] for paths in self._others if paths)):
            whole_files.check_regular(one, os.stat(one))
        if self.suffix == ".npz":
            return _npz.parts(path, name, self._names, self.block_size)
        if same is None:
            targets, weights = self._others
            return _npy.parts(path, name, targets[number], None if weights is None else weights[number],
                              None, self.block_size)
        if self.suffix == ".npy":
            return _npy.parts(path, name, None, None, self._columns, self.block_size)
        if self.suffix in (".csv", ".csv.gz"):
            return _csv.parts(path, name, same, self.delimiter, self.header, self.block_size)
        if self.suffix == ".parquet":
            return _parquet.parquet_parts(path, name, same, self.block_size)
        return _parquet.arrow_parts(path, name, same)


def _broken(problem: Exception) -> NoReturn:
    raise problem


def _matches(name: str, paths: Any) -> list[str]:
    """The paths, with patterns replaced by what they match, in order."""
    if isinstance(paths, (str, bytes, os.PathLike)):
        paths = [paths]
    found: list[str] = []
    try:
        texts = [os.fsdecode(path) for path in paths]
    except TypeError:
        raise TypeError(f"{name}: expected a path, or a list of them, got {paths!r}") from None
    for text in texts:
        if glob.has_magic(text) and not os.path.exists(text):
            matches = sorted(glob.glob(text))
            if not matches:
                raise FileNotFoundError(f"{name}: expected files like {text!r}, got none")
            found += matches
        else:
            found.append(text)
    if not found:
        raise ValueError(f"{name}: expected at least one file, got none")
    return found


def _suffix(paths: list[str]) -> str:
    """The one that all have."""
    suffixes = {next((suffix for suffix in reversed(sorted(SUFFIXES)) if path.lower().endswith(suffix)), ""):
                path for path in paths}
    if "" in suffixes:
        raise ValueError(f"paths: expected files {', '.join(SUFFIXES)}, got {suffixes['']!r}")
    if len(suffixes) > 1:
        raise ValueError(f"paths: expected files of one kind, got {', '.join(sorted(suffixes))}")
    return suffixes.popitem()[0]


def _is_column(target: Any) -> bool:
    """Whether numbers say where the targets are."""
    if isinstance(target, (list, tuple)):
        return bool(target) and all(map(_is_column, target))
    return isinstance(target, int) and not isinstance(target, bool)


def _columns(target: Any, inputs: Any, weight: Any) -> Columns:
    if target is None:
        raise TypeError("target: expected the name or number of a column, or a list of them, got None")
    lists = {"target": target if isinstance(target, (list, tuple)) else [target],
             "inputs": [] if inputs is None else inputs, "weight": [] if weight is None else [weight]}
    for name, columns in lists.items():
        if not isinstance(columns, (list, tuple)):
            raise TypeError(f"{name}: expected a list of columns, got {columns!r}")
        for column in columns:
            if not isinstance(column, (int, str)) or isinstance(column, bool):
                raise TypeError(f"{name}: expected the name or number of a column, got {column!r}")
    if not lists["target"] or inputs is not None and not lists["inputs"]:
        name = "inputs" if lists["target"] else "target"
        raise ValueError(f"{name}: expected at least one column, got none")
    return Columns(list(target) if isinstance(target, (list, tuple)) else target,
                   None if inputs is None else list(inputs), weight)


def _name(name: str, value: Any, default: str) -> str:
    if value is None:
        return default
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected the name of an array, got {value!r}")
    return value
