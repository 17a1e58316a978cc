"""Which columns of a table are inputs, targets and weights."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from fastmlp._core.types import Array

__all__ = ["Column", "Columns", "SameColumns", "order_of"]

Column = str | int


class Columns(NamedTuple):
    """As the user names them; after `of`, all by number.

    target      a column, or a list of them
    inputs      a list; None for all others
    weight      a column, or None
    """

    target: Any
    inputs: Any = None
    weight: Any = None

    def of(self, names: Sequence[str] | None, count: int) -> Columns:
        """Of a table with so many columns, and their names, where it has any."""
        single = isinstance(self.target, (str, int))
        target = [_number("target", column, names, count) for column in
                  ([self.target] if single else self.target)]
        weight = None if self.weight is None else _number("weight", self.weight, names, count)
        if self.inputs is None:
            inputs = [j for j in range(count) if j not in target and j != weight]
        else:
            inputs = [_number("inputs", column, names, count) for column in self.inputs]
        for j in inputs:
            if j in target or j == weight:
                what = repr(names[j]) if names is not None else str(j)
                raise ValueError(f"inputs: expected no column that is target or weight, got {what}")
        if not inputs:
            raise ValueError(f"expected more columns than target and weight, got {count}")
        return Columns(target[0] if single else target, inputs, weight)

    def split(self, table: Array) -> tuple[Array, ...]:
        """(X, y) or (X, y, weight) of an array (rows, columns)."""
        X, y = table[:, self.inputs], table[:, self.target]
        return (X, y) if self.weight is None else (X, y, table[:, self.weight])


class SameColumns:
    """Columns of several tables, of which the first one that has names says what they are: in the others they
    are found by these names, in whatever order they stand. A table without names goes by numbers."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._first: tuple[str, Sequence[str], Columns] | None = None

    @property
    def input_names(self) -> list[str] | None:
        """Of the first table that has names; None where there was none."""
        if self._first is None:
            return None
        _, names, columns = self._first
        return [names[j] for j in columns.inputs]

    def of(self, place: str, names: Sequence[str] | None, count: int) -> Columns:
        """Of the table at this place, by number. Raises ValueError for one that is missing or new."""
        if names is None:
            return self._columns.of(None, count)
        if self._first is None:
            self._first = place, names, self._columns.of(names, count)
        first, expected, found = self._first
        single = not isinstance(found.target, list)
        targets = [found.target] if single else found.target
        weights = [] if found.weight is None else [found.weight]
        wanted = None if self._columns.inputs is None else [*found.inputs, *targets, *weights]
        order = order_of(expected, names, first, wanted)
        targets = [order[j] for j in targets]
        return Columns(targets[0] if single else targets, [order[j] for j in found.inputs],
                       None if found.weight is None else order[found.weight])


def order_of(expected: Sequence[Any], names: Sequence[Any], first: str, wanted: Iterable[int] | None = None
             ) -> Sequence[int]:
    """For every column of the first table, its number among these names.

    expected    names of the first table
    first       where that is, for errors
    wanted      numbers there of the columns that count; all, and no others, if None

    Raises ValueError for columns that are missing, new, or not told apart by their names.

    >>> list(order_of(["a", "b"], ["b", "a"], "t.csv"))
    [1, 0]
    """
    if list(names) == list(expected):
        return range(len(names))
    looked_for = [*expected] if wanted is None else [expected[j] for j in wanted]
    numbers = {name: j for j, name in enumerate(names)}
    missing = [name for name in looked_for if name not in numbers]
    known = set(expected)
    new = [name for name in names if name not in known] if wanted is None else []
    if missing or new:
        got = [f"none named {', '.join(map(repr, missing))}"] if missing else []
        got += [f"also {', '.join(map(repr, new))}"] if new else []
        raise ValueError(f"expected the columns of {first}, got {' and '.join(got)}")
    for counts in (Counter(expected), Counter(names)):
        if twice := [name for name in looked_for if counts[name] > 1]:
            raise ValueError(f"expected the columns of {first} in their order, for the name {twice[0]!r} "
                             "occurs twice")
    return [numbers.get(name, -1) for name in expected]


def _number(what: str, column: Column, names: Sequence[str] | None, count: int) -> int:
    if isinstance(column, str):
        if names is None:
            raise ValueError(f"{what}: expected the number of a column, for there are no names, got "
                             f"{column!r}")
        if (found := [j for j, name in enumerate(names) if name == column]) and len(found) == 1:
            return found[0]
        if found:
            raise ValueError(f"{what}: expected a name that occurs once, got {column!r}, the name of "
                             f"{len(found)} columns: say which by its number, {found}")
        raise ValueError(f"{what}: expected one of the columns {', '.join(names)}, got {column!r}")
    if not -count <= column < count:
        raise ValueError(f"{what}: expected a column from 0 to {count - 1}, or from -{count} to -1, got "
                         f"{column}")
    return column % count
