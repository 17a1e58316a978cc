"""Source: samples in blocks, read one after another."""
from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import count
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from fastmlp._core import checks
from fastmlp.data._blocks import Block, BlockError, Layout, Part, as_block, names_of, problem_of, warn
from fastmlp.data._statistics import Scaling, Statistics, statistics_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

    from fastmlp._core.types import Array

__all__ = ["Source", "Transform"]

# (X, y) or (X, y, weight) of a block -> the same of what is trained on
Transform = Callable[..., tuple[Any, ...]]
Result = TypeVar("Result")
OnError = Literal["raise", "skip"]


class Source:
    """Samples in blocks: what `Files` and `Chunks` have in common.

    Parameters
    ----------
    buffer_rows : int, optional
        Rows that a buffer holds: those among which `MLP.fit` shuffles. As many as fill 64 MiB if not given.
    transform : callable, optional
        Function (X, y) or (X, y, weight) of a block that returns the same of what is trained on; it runs in
        the thread that reads.
    on_error : {"raise", "skip"}, default "raise"
        What to do with a block that is missing, broken, or not like the first one: raise, or go on
        without it, with a warning.

    Attributes
    ----------
    rows : int or None
        Number of rows, where it is known without reading all of them.
    passes : int or None
        Number of passes that it can give; None for any number.
    input_names : list of str or None
        Names of the columns of X, where a table has them; known once a block was read.
    keeps_rows : bool
        Whether what is trained on has the rows that are read: without a ``transform``.
    skipped : list of str
        What was wrong with every block that was skipped, once for each time that it was.

    Raises
    ------
    TypeError
        For arguments of the wrong type.
    ValueError
        For arguments out of range.

    See Also
    --------
    Files : Samples in files.
    Chunks : Samples in blocks from anywhere.

    Notes
    -----
    A source is iterated over for its blocks, (X, y) or (X, y, weight), in their order.

    A source of your own is a subclass with a method `parts`.

    Examples
    --------
    >>> from fastmlp.data import Chunks
    >>> isinstance(Chunks([]), Source)
    True
    """

    def __init__(self, *, buffer_rows: int | None = None, transform: Transform | None = None,
                 on_error: OnError = "raise") -> None:
        self.buffer_rows = None if buffer_rows is None else checks.integer("buffer_rows", buffer_rows, low=1)
        if transform is not None and not callable(transform):
            raise TypeError(f"transform: expected a function (X, y), got {transform!r}")
        if on_error not in ("raise", "skip"):
            raise ValueError(f'on_error: expected "raise" or "skip", got {on_error!r}')
        self.on_error = on_error
        self.passes: int | None = None
        self.skipped: list[str] = []
        self._transforms: tuple[Transform, ...] = () if transform is None else (transform,)
        self._layout: Layout | None = None

    def parts(self) -> Sequence[Part]:
        """Return what can be read on its own, in any order.

        Returns
        -------
        sequence of Part
            Of each: ``name``, where it is from; ``first``, the number of its first block there; ``rows``, or
            None where that is not known; and ``blocks``, a function that returns an iterator over functions
            that return (X, y) or (X, y, weight).

        Raises
        ------
        NotImplementedError
            Where a subclass has no such method.
        """
        raise NotImplementedError(f"{type(self).__name__} has no method parts()")

    @property
    def rows(self) -> int | None:
        total = 0
        for part in self.parts():
            if part.rows is None:
                return None
            total += part.rows
        return total

    @property
    def input_names(self) -> list[str] | None:
        """Names of the columns of X, where tables have them; known once a block was read."""
        names = self._names_of_inputs() if self.keeps_rows else None
        return None if names is None else [str(name) for name in names]

    def _names_of_inputs(self) -> Sequence[Any] | None:
        return None if self._layout is None else self._layout.columns[0]

    @property
    def keeps_rows(self) -> bool:
        """Whether what is trained on has the rows that are read: without a transform of the user's."""
        return all(isinstance(transform, Scaling) for transform in self._transforms)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self.read(self.parts(), lambda place, block: block.arrays(), warn)

    def statistics(self, of: Literal["X", "y"] = "X") -> Statistics:
        """Compute mean, standard deviation and range of every column, in one pass over the source.

        Parameters
        ----------
        of : {"X", "y"}, default "X"
            Columns of the inputs, or of the targets.

        Returns
        -------
        Statistics
            In float64; numerically stable, whatever the number of rows.

        Raises
        ------
        BlockError
            For a block that cannot be used.
        TypeError
            For sparse or other inputs that are no table of numbers.
        ValueError
            For another ``of``, and for a source without rows.

        References
        ----------
        Chan, Golub, LeVeque, "Algorithms for Computing the Sample Variance: Analysis and Recommendations",
        The American Statistician 37, 1983.
        """
        _check_of(of)

        def table(place: str, block: Block) -> Array:
            array = block.arrays()[0 if of == "X" else 1]
            if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
                raise TypeError(f"statistics: expected {of} to be a table of numbers, got "
                                f"{getattr(array, 'dtype', type(array).__name__)}")
            return array.reshape(len(array), -1)

        found = statistics_of(self.read(self.parts(), table, warn))
        if not found.rows:
            raise ValueError("statistics: expected at least one row, got a source without any")
        return found

    def scaled(self, mean: ArrayLike, std: ArrayLike, dtype: DTypeLike = "float32", *,
               of: Literal["X", "y"] = "X") -> Source:
        """Return the source with inputs, or targets, that are scaled as they are read.

        For every column::

            x' = (x - mean) / std

        Parameters
        ----------
        mean : array_like, shape (columns,)
            Mean of every column, as `statistics` finds it.
        std : array_like, shape (columns,)
            Standard deviation of every column. Columns in which it is 0 are not divided.
        dtype : dtype, default "float32"
            Type of the scaled numbers: that of the model. They are computed in float64.
        of : {"X", "y"}, default "X"
            What is scaled: the inputs, or the targets. A model of scaled targets predicts such, and
            ``model.predict(X) * std + mean`` are predictions in their own unit.

        Returns
        -------
        Source
            Another source that reads the same blocks.

        Raises
        ------
        TypeError
            For arguments of the wrong type.
        ValueError
            For another ``of``, shapes that do not fit, and numbers that are not finite, or below 0.
        """
        _check_of(of)
        mean = np.asarray(checks.as_array("mean", mean), np.float64)
        std = np.asarray(checks.as_array("std", std), np.float64)
        checks.shape("mean", mean, ("columns",))
        checks.shape("std", std, mean.shape, "like mean")
        if not np.isfinite(mean).all():
            raise ValueError(f"mean: expected finite numbers, got {mean}")
        if not (np.isfinite(std).all() and (std >= 0).all()):
            raise ValueError(f"std: expected finite numbers from 0 up, got {std}")
        result = copy.copy(self)
        result.skipped = []
        result._transforms = (*self._transforms, Scaling(mean, std, checks.float_dtype("dtype", dtype), of))
        result._layout = None
        return result

    # Reading -------------------------------------------------------------------------------------------

    def layout(self) -> Layout:
        """Return what all blocks have in common: what the first one has that can be read.

        Returns
        -------
        Layout
            Dtypes, and shapes of a row, of X, y and weights.

        Raises
        ------
        ValueError
            For a source without blocks.
        """
        if self._layout is None:
            self.first_block()
        assert self._layout is not None
        return self._layout

    def first_block(self) -> tuple[str, Block]:
        """Return the first block that can be read, as every block has to be.

        Returns
        -------
        place : str
            Which block it is.
        block : Block
            X, y and weight.

        Raises
        ------
        ValueError
            For a source without blocks.
        """
        with closing(self.read(self.parts(), lambda place, block: (place, block), warn)) as blocks:
            for found in blocks:
                return found
        raise ValueError(f"{type(self).__name__}: expected at least one row, got a source without any")

    def read(self, parts: Iterable[Part], use: Callable[[str, Block], Result], lost: Callable[[str], object]
             ) -> Generator[Result, None, None]:
        """Yield what becomes of the blocks of some parts.

        Parameters
        ----------
        parts : iterable of Part
            Parts, in the order in which they are read.
        use : callable
            Function (place, block) whose results are yielded; what it raises makes the block one that cannot
            be used.
        lost : callable
            Function of a text, called for every block that is skipped.

        Yields
        ------
        object
            Results; of blocks without rows there are none.

        Raises
        ------
        BlockError
            For a block that cannot be used, if it is not to be skipped.
        """
        for part in parts:
            with closing(_blocks_of(part)) as blocks:
                for number in count(part.first):
                    place = f"{part.name}, block {number}"
                    try:
                        function = next(blocks, None)
                    except Exception as error:          # nor is there a way to what follows
                        self._fail(part.name if number == part.first else f"{place} and what follows it",
                                   error, lost)
                        break
                    if function is None:
                        break
                    try:
                        given = function()
                        block, columns = as_block(given), names_of(given)
                        del given
                        if self._layout is not None and len(block.y):
                            block = self._layout.in_order(block, columns)
                    except Exception as error:
                        self._fail(place, error, lost)
                        continue
                    block = self._transformed(place, block)
                    if not len(block.y):
                        continue
                    try:
                        if self._layout is None:
                            self._layout = Layout.of(place, block, columns)
                        self._layout.check(block)
                        result = use(place, block)
                    except Exception as error:
                        self._fail(place, error, lost)
                        continue
                    yield result

    def _transformed(self, place: str, block: Block) -> Block:
        """Code of the user's: what it raises is not the block's fault."""
        for transform in self._transforms:
            try:
                block = as_block(transform(*block.arrays()))
            except Exception as error:
                raise BlockError(f"{place}: transform: {problem_of(error)}") from error
        return block

    def _fail(self, place: str, error: Exception, lost: Callable[[str], object]) -> None:
        if isinstance(error, MemoryError):
            raise error
        problem = f"{place}: {problem_of(error)}"
        if self.on_error == "raise":
            raise BlockError(problem) from error
        self.skipped.append(problem)
        lost(problem)


def _check_of(of: str) -> None:
    if of not in ("X", "y"):
        raise ValueError(f'of: expected "X" or "y", got {of!r}')


def _blocks_of(part: Part) -> Generator[Callable[[], tuple[Any, ...]], None, None]:
    yield from part.blocks()
