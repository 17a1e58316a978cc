"""Which columns of a table are inputs, targets and weights."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from fastmlp._core.types import Array

__all__ = ["Column", "Columns"]

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
