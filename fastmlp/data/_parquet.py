"""Tables in Parquet and Arrow files, by pyarrow, which comes with the extra `data`.

Each row group of a Parquet file, and each record batch of an Arrow file, can be read on its own.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from fastmlp._core import frames
from fastmlp._core.optional import import_extra
from fastmlp.data._blocks import Part
from fastmlp.data._columns import Columns, SameColumns

if TYPE_CHECKING:
    from fastmlp._core.types import Array

__all__ = ["arrow_parts", "parquet_parts"]

Blocks = Callable[[], Iterator[Callable[[], tuple[Any, ...]]]]


def parquet_parts(path: str, name: str, columns_of_all: SameColumns, block_size: int) -> list[Part]:
    """The row groups of a file, each of which is read in pieces of about so many bytes."""
    parquet = _pyarrow("parquet")
    metadata = parquet.read_metadata(path)
    names = _names(metadata.schema.to_arrow_schema())
    columns = columns_of_all.of(name, names, len(names))

    def blocks(group: int, rows: int) -> Blocks:
        def read() -> Iterator[Callable[[], tuple[Any, ...]]]:
            with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 16,
                                     page_checksum_verification=True) as file:
                for batch in file.iter_batches(rows, row_groups=[group], columns=_read(names, columns)):
                    yield partial(_arrays, batch, names, columns)
        return read

    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return [Part(name, i, group.num_rows,
                 blocks(i, max(1, block_size * group.num_rows // max(1, group.total_byte_size))))
            for i, group in enumerate(groups)]


def arrow_parts(path: str, name: str, columns_of_all: SameColumns) -> list[Part]:
    """The record batches of a file."""
    ipc = _pyarrow("ipc")
    with ipc.open_file(path) as file:
        names, count = _names(file.schema), file.num_record_batches
    columns = columns_of_all.of(name, names, len(names))

    def read(number: int) -> tuple[Any, ...]:
        with ipc.open_file(path) as file:
            return _arrays(file.get_batch(number), names, columns)

    def blocks(number: int) -> Blocks:
        return lambda: iter([partial(read, number)])

    return [Part(name, number, None, blocks(number)) for number in range(count)]


def _pyarrow(module: str) -> Any:
    import_extra("pyarrow", "Files", "data")
    return import_module(f"pyarrow.{module}")


def _names(schema: Any) -> list[str]:
    """Of the columns; the index of a table of pandas is none of them."""
    index = (schema.pandas_metadata or {}).get("index_columns", ())
    names = [column for column in schema.names if column not in index]
    if len(set(names)) < len(names):
        twice = next(column for column in names if names.count(column) > 1)
        raise ValueError(f"expected columns of different names, got {twice!r} twice")
    return names


def _read(names: list[str], columns: Columns) -> list[str]:
    """The names of the columns that are wanted."""
    target = columns.target if isinstance(columns.target, list) else [columns.target]
    wanted = {*columns.inputs, *target, columns.weight}
    return [name for j, name in enumerate(names) if j in wanted]


def _arrays(batch: Any, names: list[str], columns: Columns) -> tuple[Array, ...]:
    """(X, y) or (X, y, weight) of a record batch that has at least the columns wanted."""
    pyarrow = import_extra("pyarrow", "Files", "data")
    there = pyarrow.Table.from_batches([batch])
    single = isinstance(columns.target, int)

    def some(what: str, numbers: list[int]) -> Array:
        return frames.table(what, there.select([names[j] for j in numbers]))

    X = some("X", columns.inputs)
    y = some("y", [columns.target] if single else columns.target)
    arrays = X, y[:, 0] if single else y
    return arrays if columns.weight is None else (*arrays, some("weights", [columns.weight])[:, 0])
