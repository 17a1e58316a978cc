"""Chunks: blocks of samples from anywhere."""
from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core import checks, names
from fastmlp.data._blocks import Block, Part
from fastmlp.data._source import Source, Transform

if TYPE_CHECKING:
    from fastmlp.data._source import OnError

__all__ = ["Chunks", "as_source"]

NAME = "blocks"             # in errors


class Chunks(Source):
    """Samples in blocks that a function, a sequence or an iterator gives.

    A block is (X, y) or (X, y, weight): arrays, or what `MLP.fit` takes in their place.

    Parameters
    ----------
    blocks : sequence, callable, iterable or iterator
        A sequence of blocks; a function of the number of a block, i from 0 to ``n`` - 1, that returns it; a
        function without arguments that returns an iterator over all blocks, called for each pass; or what can
        be iterated over again and again (a loader of batches). An iterator, such as a generator, gives what
        it has once.
    n : int, optional
        Number of blocks. With a function, that it is one of the block's number. With an iterator, the
        blocks of an epoch: the next one goes on where it was; without, the epoch ends where the iterator
        does, and there is only one.
    rows : int or sequence of int, optional
        Rows of each block, where they are known: a training that is resumed then need not read the blocks
        that it has done with (without a ``transform``), and the progress bar knows how many rows there will
        be. A block with another number is one that cannot be used.
    buffer_rows : int, optional
        Rows that a buffer holds: those among which `MLP.fit` shuffles. As many as fill 64 MiB if not given.
    transform : callable, optional
        Function (X, y) or (X, y, weight) of a block that returns the same of what is trained on; it runs in
        the thread that reads.
    on_error : {"raise", "skip"}, default "raise"
        What to do with a block that cannot be had, or is not like the first one: raise, or go on without it,
        with a warning.

    Attributes
    ----------
    rows : int or None
        Number of rows, where it is known.
    passes : int or None
        Number of passes that it can give: 1 for an iterator without ``n``; None for any number.
    input_names : list of str or None
        Names of the columns of X, where blocks are tables that have them; known once a block was read.
    skipped : list of str
        What was wrong with every block that was skipped, once for each time that it was.

    Raises
    ------
    TypeError
        For arguments of the wrong type.
    ValueError
        For arguments that do not fit.

    See Also
    --------
    Files : Samples in files.

    Notes
    -----
    `MLP.fit` draws the order of the blocks anew for every epoch where they can be had in any order: of a
    sequence, and of a function of the number. It cuts blocks anew into batches, whatever their size; with
    ``batch_size=None`` each block is a batch.

    The function, or the iterator, runs in the thread that reads; a training that is interrupted ends when
    the block that it is about to give has come. A training that is resumed reads a new iterator up to the
    place where it goes on.

    Examples
    --------
    >>> import numpy as np
    >>> from fastmlp import MLP, SGD
    >>> def block(i):
    ...     x = np.random.default_rng(i).uniform(-1, 1, (100, 2))
    ...     return x, (x[:, 0] > x[:, 1]).astype(int)
    >>> model = MLP([2, 2], seed=0)
    >>> history = model.fit(Chunks(block, 20), epochs=5, optimizer=SGD(0.5), progress=False)
    >>> model.evaluate(Chunks(block, 20))["accuracy"] > 0.9
    True
    """

    @names.keywords(names.SOURCE)
    def __init__(
        self,
        blocks: Sequence[Any] | Callable[..., Any] | Iterable[Any],
        n: int | None = None,
        *,
        rows: int | Sequence[int] | None = None,
        buffer_rows: int | None = None,
        transform: Transform | None = None,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__(buffer_rows=buffer_rows, transform=transform, on_error=on_error)
        self.n = None if n is None else checks.integer("n", n, low=1)
        given: Any = blocks
        self._blocks = given
        self._iterator: _Iterator | None = None
        if hasattr(given, "__next__"):
            self._iterator = _Iterator(given)
            self.passes = 1 if self.n is None else None
        elif hasattr(given, "__getitem__") and hasattr(given, "__len__"):
            if self.n is not None and self.n > len(given):
                raise ValueError(f"n: expected at most {len(given)}, the number of blocks, got {n}")
            self.n = len(given) if self.n is None else self.n
            self._blocks = given.__getitem__
        elif not callable(blocks) and not hasattr(blocks, "__iter__"):
            raise TypeError(f"blocks: expected a sequence, a function or an iterator, got {blocks!r}")
        elif self.n is None and callable(blocks) and _takes_a_number(blocks):
            raise TypeError("n: expected the number of blocks beside a function of the number of a block, "
                            "got None; a function without arguments returns an iterator over all blocks")
        self._in_any_order = self.n is not None and callable(self._blocks) and self._iterator is None
        self._said: Sequence[int] | None = None     # rows of each block, by the user
        self._rows = self._numbers_of_rows(rows)

    def _numbers_of_rows(self, rows: Any) -> Sequence[int | None]:
        """Of the parts."""
        if rows is None:
            return [None] * (self.n if self.n is not None and self._in_any_order else 1)
        if self.n is None:
            raise ValueError("rows: expected None where the number of blocks is not known")
        each = [rows] * self.n if isinstance(rows, (int, np.integer)) else list(rows)
        numbers = [checks.integer("rows", number, low=0) for number in each]
        if len(numbers) != self.n:
            raise ValueError(f"rows: expected one number for each of {self.n} blocks, got {len(numbers)}")
        self._said = numbers
        return numbers if self._in_any_order else [sum(numbers)]

    def parts(self) -> Sequence[Part]:
        if self._in_any_order:
            return [Part(NAME, i, rows, partial(_one, self._blocks, i, rows))
                    for i, rows in enumerate(self._rows)]
        return [Part(NAME, 0, self._rows[0], self._in_a_row)]

    def first_block(self) -> tuple[str, Block]:
        if self._iterator is None:
            return super().first_block()
        with self._iterator.kept():             # what is looked at still comes
            return super().first_block()

    @property
    def position(self) -> int | None:
        """Number of blocks that an iterator has given; None where every pass begins with the first one."""
        return None if self._iterator is None else self._iterator.given

    def move_to(self, position: int) -> None:
        """Read what comes before a block of an iterator, for a training that goes on there.

        Parameters
        ----------
        position : int
            Number of the block, from 0 on. Where every pass begins with the first block, nothing happens.

        Raises
        ------
        ValueError
            For a block that the iterator has given already, or does not have.

        Examples
        --------
        >>> source = Chunks(iter([([[0.0]], [0]), ([[1.0]], [1])]), 1)
        >>> source.move_to(1)
        >>> [X for X, y in source]
        [array([[1.]])]
        """
        iterator = self._iterator
        if iterator is None:
            return
        if iterator.given > position:
            raise ValueError(f"expected an iterator that has given at most {position} blocks, where the "
                             f"training goes on, got one that has given {iterator.given}; make it anew")
        for _ in islice(iterator, position - iterator.given):
            pass
        if iterator.given < position:
            raise ValueError(f"expected an iterator of more than {position} blocks, where the training goes "
                             f"on, got {iterator.given}")

    def _in_a_row(self) -> Iterator[Callable[[], tuple[Any, ...]]]:
        """All of an epoch, one after another."""
        blocks = self._iterator or iter(self._blocks() if callable(self._blocks) else self._blocks)
        given = 0
        for block in islice(blocks, self.n):
            said = None if self._said is None else self._said[given]
            given += 1
            yield partial(_with_rows, partial(_same, block), said)
        if self.n is not None and given < self.n:
            raise ValueError(f"expected {self.n} blocks, got {given} and the end of the iterator")


def _takes_a_number(function: Callable[..., Any]) -> bool:
    """Whether it cannot be called without arguments, as far as that can be told."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:          # of some built-in functions
        pass
    return False


def as_source(X: Any) -> Source | None:
    """The source that this is, or that an iterator over batches stands for; None for anything else."""
    if type(X) is np.ndarray:
        return None
    if isinstance(X, Source):
        return X
    return Chunks(X) if hasattr(X, "__next__") else None


class _Iterator:
    """An iterator that can be looked at: what was taken meanwhile comes again."""

    def __init__(self, blocks: Iterator[Any]) -> None:
        self.given = 0
        self._rest = blocks
        self._taken: list[Any] | None = None

    def __iter__(self) -> _Iterator:
        return self

    def __next__(self) -> Any:
        block = next(self._rest)
        self.given += 1
        if self._taken is not None:
            self._taken.append(block)
        return block

    def kept(self) -> _Iterator:
        return self

    def __enter__(self) -> None:
        self._taken = []

    def __exit__(self, *error: object) -> None:
        taken, self._taken = self._taken or [], None
        self._rest = chain(taken, self._rest)
        self.given -= len(taken)


def _one(blocks: Callable[[int], Any], i: int, rows: int | None) -> Iterator[Callable[[], Any]]:
    return iter([partial(_with_rows, partial(blocks, i), rows)])


def _same(block: Any) -> Any:
    return block


def _with_rows(block: Callable[[], Any], rows: int | None) -> Any:
    """The block, if it has the rows that the user says: a run that is resumed counts on them."""
    given = block()
    if rows is not None and isinstance(given, (tuple, list)) and len(given) in (2, 3):
        got = np.shape(given[1])[:1] if not hasattr(given[1], "shape") else given[1].shape[:1]
        if got and got[0] != rows:
            raise ValueError(f"expected {rows} row{'s' * (rows != 1)}, as was said, got {got[0]}")
    return given
