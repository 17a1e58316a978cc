"""Named arrays and text as bytes in the safetensors format, by the package of that name.

Where memory is short, the package aborts the process or panics: as much as it needs is allocated before, so
that Python raises MemoryError. Its memory maps are not used: another program that truncates a mapped file
ends the process.

    8 bytes     n, the length of the header, little-endian
    n bytes     the header, in JSON: the text under "__metadata__", then where each array lies
    the rest    the arrays, row-major and little-endian

Source: https://github.com/huggingface/safetensors, "Format".
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp._core import strict_json

__all__ = ["DTYPES", "FormatError", "encode", "read_arrays", "read_header"]

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
          "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1"}
MAX_HEADER = 2**24              # bytes; a hundred thousand arrays
PER_BYTE = 32                   # what the package allocates for each byte of a header, at most


class FormatError(ValueError):
    """Bytes that the format does not allow. The message is short, and follows on "got"."""


def encode(arrays: dict[str, NDArray[Any]], metadata: dict[str, str]) -> bytes:
    """The bytes of a file. Raises ValueError for a header that would be too long to be read."""
    import safetensors.numpy

    header = sum(map(len, [*arrays, *metadata.values()])) + 256 * len(arrays)       # about
    size = sum(array.nbytes for array in arrays.values())
    with _enough_memory(header, size, size, size):          # 0.4 makes one copy more than 0.8
        data: bytes = safetensors.numpy.save(arrays, metadata)
    length = int.from_bytes(data[:8], "little")
    if length > MAX_HEADER:
        raise ValueError(f"{len(arrays)} arrays and their names need a header of {length} bytes, and "
                         f"{MAX_HEADER} can be read")
    return data


def read_header(file: FileIO, size: int) -> tuple[bytes, dict[str, str]]:
    """The bytes before the arrays of a file of `size` bytes, and the text in them."""
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if length > min(size - 8, MAX_HEADER):
        raise FormatError(f"a header of {length} bytes in a file of {size}, where {MAX_HEADER} are allowed")
    header = file.read(length)
    try:
        fields = strict_json.parse(str(header, "utf-8"))
    except ValueError as error:
        raise FormatError(f"a header that is no JSON in UTF-8: {str(error)[:200]}") from None
    metadata = fields.get("__metadata__", {}) if isinstance(fields, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise FormatError(f"the header {strict_json.short(fields)}")
    return start + header, metadata


def read_arrays(file: FileIO, header: bytes) -> dict[str, NDArray[Any]]:
    """All arrays of a file with this header, in native byte order."""
    import safetensors

    file.seek(0)
    data = file.readall()
    if not data.startswith(header):
        raise FormatError("a header that changes")
    try:
        with _enough_memory(len(header), len(data)):
            found = safetensors.deserialize(data)
        arrays = {name: np.frombuffer(field["data"], DTYPES[field["dtype"]]).reshape(field["shape"])
                  for name, field in found}
    except (safetensors.SafetensorError, KeyError, ValueError, OverflowError) as error:
        raise FormatError(f"{type(error).__name__}: {str(error)[:200]}") from None
    if any(array.dtype == bool and (array.view(np.uint8) > 1).any() for array in arrays.values()):
        raise FormatError("truth values that are neither 0 nor 1")
    return {name: array.astype(array.dtype.newbyteorder("="), copy=False) for name, array in arrays.items()}


@contextmanager
def _enough_memory(header: int, *sizes: int) -> Iterator[None]:
    """Raises MemoryError before the block, where this many bytes cannot be had; and for a panic in it."""
    blocks = [np.empty(size, np.uint8) for size in (PER_BYTE * header + 2**20, *sizes)]
    del blocks
    try:
        yield
    except BaseException as error:      # a panic is no Exception, and has no public class
        if type(error).__name__ != "PanicException":
            raise
        raise MemoryError(f"the package safetensors panics: {str(error)[:200]}") from None
