"""Feed: the samples of a source as a model trains on them."""
from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import losses
from fastmlp._core import checks, sources
from fastmlp._core.network import Piece, Samples
from fastmlp.data._blocks import Block, FileRows, dense, warn
from fastmlp.data._buffers import Buffer, Checked
from fastmlp.data._order import Order
from fastmlp.data._read_ahead import ReadAhead, Stop

if TYPE_CHECKING:
    from fastmlp._core.types import ClassWeight
    from fastmlp.data._source import Source
    from fastmlp.model import MLP

__all__ = ["Feed", "feed_of"]

BUFFER_NBYTES = 1 << 26             # of the rows of a buffer, unless the user says how many they are
EPOCHS, BATCH_SIZE = 10, 128        # where the user leaves them to the library
OTHER_NBYTES = 24                   # of a row beside X: target, weight and place in the order


class Feed:
    """The samples of a source in batches, as a model takes them; what `Samples` are for arrays.

    epochs          passes over the source
    batch_size      samples of a step; of the first block, where each block is a batch
    rows            of an epoch, or None where that is not known
    like            X, targets and weights of the first block
    class_weight    of the labels, or None
    """

    is_readable = True                  # by the engine: what is not has been converted

    epochs = 1

    def __init__(self, source: Source, model: MLP, batch_size: int | None, *, shuffle: bool = False,
                 class_weight: ClassWeight | None = None, buffer_rows: int | None = None) -> None:
        self.source = source
        self._model = model
        self.class_weight = class_weight
        self.is_shuffled = shuffle
        self._order = Order(None)
        self._like: Checked | None = None
        place, block = source.first_block()
        try:
            self.like = self._like = self._checked(block)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{place}: {error}") from None
        self.rows = source.rows
        self.batch_size = len(block.y) if batch_size is None else batch_size
        self._buffers: list[Buffer] | None = None
        if batch_size is not None:
            capacity = self._capacity(buffer_rows or source.buffer_rows)
            self._buffers = [Buffer(self.like, capacity) for _ in range(2)]

    @property
    def is_weighted(self) -> bool:
        return self.like[2] is not None

    @property
    def buffer_rows(self) -> int | None:
        """Rows that a buffer holds; None where each block is a batch."""
        return None if self._buffers is None else self._buffers[0].capacity

    def first_rows(self) -> Checked:
        """X, targets and weights of the first block, in memory."""
        X, targets, weights = self.like
        return _in_memory(X), targets, weights

    def __len__(self) -> int:
        """Rows, as far as that is known."""
        return self.rows or 0

    def _capacity(self, rows: int | None) -> int:
        """Rows of a buffer: whole batches, and no more than there are."""
        X, targets, _ = self.like
        size = X.dtype.itemsize * X.shape[1]
        if isinstance(X, sources.SparseRows):
            size = len(X.data) * (X.dtype.itemsize + 8) // len(X)
        batch_size = self.batch_size
        if rows is None:
            rows = BUFFER_NBYTES // (size + OTHER_NBYTES)
        if self.rows is not None:
            rows = min(rows, self.rows + batch_size - 1)
        rows = max(rows // batch_size, 1) * batch_size
        size += OTHER_NBYTES + targets[:1].nbytes
        checks.fits_memory("buffer_rows", 2 * rows * size, f"two buffers of {rows} rows")
        return rows

    def draw(self, rng: np.random.Generator) -> None:
        """The order of the next epoch: of the generator alone, of which it takes one number."""
        if self.is_shuffled:
            self._order = Order(int(rng.integers(2**63)))

    @contextmanager
    def pieces(self, step: int = 0, idle: Callable[[], None] | None = None) -> Iterator[Iterator[Piece]]:
        """The pieces of the epoch that was drawn, from the one on that has this step; `idle` is called while
        one is waited for."""
        problems: deque[str] = deque()
        with ReadAhead(lambda stop: self._read(step, stop, problems), idle) as ahead:
            yield self._warned(iter(ahead), problems, step)

    def _warned(self, pieces: Iterator[Piece], problems: deque[str], step: int) -> Iterator[Piece]:
        """The same, with warnings in the thread of the caller."""
        piece = None
        for piece in pieces:
            while problems:
                warn(problems.popleft())
            yield piece
        while problems:
            warn(problems.popleft())
        if piece is None and not step:
            raise ValueError(f"{type(self.source).__name__}: expected at least one row, got a pass over the "
                             "source without any")

    # In the thread that reads ---------------------------------------------------------------------------

    def _checked(self, block: Block) -> Checked:
        """X, targets and weights as an engine takes them. Raises TypeError and ValueError."""
        model = self._model
        X = dense("X", block.X, model.layers[0])
        if isinstance(X, FileRows) and self.source.on_error == "skip":
            X = X.array()                       # what is wrong with it shows now
        if not isinstance(X, FileRows):
            X = sources.readable(X, model.dtype, dense=model.compute_dtype is not None)
        like = self._like
        if like is not None and block.weight is not None and not np.any(block.weight):
            # Nothing counts, whatever it is; but `evaluate` looks through targets, and 0 is none of a hinge.
            return X, np.repeat(like[1][:1], len(X), axis=0), np.zeros(len(X))
        checked = X, *losses.targets_and_weights(
            model.loss, "y", block.y, len(X), model.layers[-1], model.dtype, block.weight,
            self.class_weight, part=True)
        if like is not None and (checked[1].dtype, checked[1].ndim) != (like[1].dtype, like[1].ndim):
            raise ValueError(f"y: expected targets like those of the first block, {like[1].dtype}, got "
                             f"{checked[1].dtype}")
        return checked

    def _read(self, step: int, stop: Stop, problems: deque[str]) -> Iterator[Piece]:
        if self._buffers is None:
            return self._batches(step, stop, problems)
        return self._filled(self._buffers, step, stop, problems)

    def _batches(self, step: int, stop: Stop, problems: deque[str]) -> Iterator[Piece]:
        """Every block as a batch."""
        number = 0
        with closing(self._blocks(0, problems)) as blocks:
            for X, targets, weights in blocks:
                if stop.asked:
                    return
                if number >= step:
                    # Copies: the next block is made while this one is trained on, perhaps in the same arrays.
                    samples = Samples(_copied(X), targets.copy(), None if weights is None else weights.copy(),
                                      None, len(X))
                    yield Piece(samples, number, number + 1)
                number += 1

    def _filled(self, buffers: list[Buffer], step: int, stop: Stop, problems: deque[str]) -> Iterator[Piece]:
        """Buffers that have been filled, in turn; each is in use until the next but one is asked for."""
        capacity, batch_size = buffers[0].capacity, self.batch_size
        number = step * batch_size // capacity

        def piece(buffer: Buffer) -> Piece:
            order = self._order.rows(number, buffer.rows)
            begin, steps = number * (capacity // batch_size), -(-buffer.rows // batch_size)
            return Piece(buffer.samples(order, batch_size), begin, begin + steps)

        buffer = buffers[number % 2]
        buffer.clear()
        with closing(self._blocks(number * capacity, problems)) as blocks:
            for block in blocks:
                first = 0
                while first < len(block[0]):
                    if stop.asked:
                        return
                    first += buffer.add(block, first)
                    if buffer.is_full:
                        yield piece(buffer)
                        number += 1
                        buffer = buffers[number % 2]
                        buffer.clear()
        if buffer.rows:
            yield piece(buffer)

    def _blocks(self, skip: int, problems: deque[str]) -> Generator[Checked, None, None]:
        """The blocks of the epoch in their order, without so many rows at the beginning, which are not read
        where that can be helped."""
        parts = self.source.parts()
        order = self._order.parts(len(parts))
        first = 0
        # Otherwise it must be seen which blocks are lost, and how many rows a transform leaves.
        if self.source.on_error == "raise" and self.source.keeps_rows:
            while first < len(order) and (rows := parts[order[first]].rows) is not None and rows <= skip:
                skip -= rows
                first += 1

        def use(place: str, block: Block) -> Checked:
            return self._checked(block)

        wanted = (parts[i] for i in order[first:])
        with closing(self.source.read(wanted, use, problems.append)) as blocks:
            for X, targets, weights in blocks:
                if skip < len(X):
                    rows = slice(skip, None)
                    yield (_in_memory(X)[rows] if skip else X, targets[rows],
                           None if weights is None else weights[rows])
                skip = max(skip - len(X), 0)


def feed_of(model: MLP, source: Source, y: object, epochs: object, batch_size: object,
            shuffle: object = False, sample_weight: object = None, class_weight: ClassWeight | None = None,
            buffer_rows: int | None = None) -> Feed:
    """For the arguments of `fit`. Raises TypeError and ValueError for those that do not go with a source."""
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is not None:
            raise TypeError(f"{name}: expected None with a source, of blocks (X, y) or (X, y, weight), "
                            f"got {type(value).__name__}")
    if callable(shuffle):
        raise TypeError("shuffle: expected True or False with a source, got a function")
    if class_weight == "balanced":
        raise ValueError("class_weight: expected a dict with a source, whose labels are not known in "
                         "advance, got 'balanced'")
    if epochs == "auto":
        epochs = source.passes or EPOCHS
    if batch_size == "auto":
        batch_size = BATCH_SIZE
    epochs = checks.integer("epochs", epochs, low=0)
    if source.passes is not None and epochs > source.passes:
        raise ValueError(
            f"epochs: expected {source.passes}, for an iterator gives its blocks once, got {epochs}; "
            "fastmlp.data.Chunks(iterator, n) takes n blocks for an epoch, and Chunks(function) calls the "
            "function for a new iterator")
    if batch_size is not None:
        batch_size = checks.integer("batch_size", batch_size, low=1)
    feed = Feed(source, model, batch_size, shuffle=bool(shuffle), class_weight=class_weight,
                buffer_rows=buffer_rows)
    feed.epochs = epochs
    return feed


def _in_memory(X: Any) -> Any:
    return X.array() if isinstance(X, FileRows) else X


def _copied(X: Any) -> Any:
    if isinstance(X, sources.SparseRows):
        return X[np.arange(len(X))]
    return X.array() if isinstance(X, FileRows) else X.copy()
