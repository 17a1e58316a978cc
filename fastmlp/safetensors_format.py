"""The safetensors format: named arrays and text in one file, without code.

    8 bytes     n, the length of the header, little-endian
    n bytes     the header, in JSON and padded with spaces: {"__metadata__": {text: text, ...},
                name: {"dtype": "F32", "shape": [4, 3], "data_offsets": [begin, end]}, ...}
    the rest    the arrays, row-major and little-endian, one after another without gaps

The package of that name is what the tests compare with, and is not used here: its writer ends the process
where memory is short, writes the metadata in a random order and only to a path; its reader maps the file, so
that another program which truncates it ends the process.

Source: https://github.com/huggingface/safetensors, "Format".
"""
from __future__ import annotations

import json
import math
import reprlib
import sys
from collections.abc import Iterator, Mapping
from io import FileIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["CODES", "Entry", "FormatError", "Header", "encode", "parse_json", "read_array", "read_header",
           "short"]

Array = NDArray[Any]

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
          "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1"}
CODES = {np.dtype(name): code for code, name in DTYPES.items()}
LENGTH = 8                      # bytes that hold the length of the header
MAX_HEADER = 2**24              # bytes; a hundred thousand arrays
MAX_DIMENSIONS = 32             # what every NumPy can hold
MAX_DIGITS = 40                 # of an integer; 2^128 has 39


class FormatError(ValueError):
    """Bytes that the format does not allow. The message is short, and follows on "got"."""


class Entry(NamedTuple):
    """Where an array lies: begin and end are bytes of the file."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    begin: int
    end: int


class Header(NamedTuple):
    """What a file contains, by name."""

    metadata: dict[str, str]
    entries: dict[str, Entry]


# Writing -------------------------------------------------------------------------------------------------

def encode(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> Iterator[bytes | Array]:
    """The bytes of a file, piece by piece: the same arrays and text give the same bytes.

    Raises TypeError for a dtype that the format lacks, ValueError for a header that would be too long to be
    read; both before the first piece.
    """
    for name, array in arrays.items():
        if array.dtype.newbyteorder("<") not in CODES:
            raise TypeError(f"{short(name)}: expected numbers of up to 64 bits, got dtype {array.dtype}")
    names = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))     # every array is aligned
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        array = arrays[name]
        begin, end = end, end + array.nbytes
        code = CODES[array.dtype.newbyteorder("<")]
        header[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise ValueError(f"{len(arrays)} arrays and their names need a header of {len(text)} bytes, and "
                         f"{MAX_HEADER} can be read")
    return _pieces(len(text).to_bytes(LENGTH, "little") + text, [arrays[name] for name in names])


def _pieces(head: bytes, arrays: list[Array]) -> Iterator[bytes | Array]:
    yield head
    for array in arrays:
        yield _bytes_of(np.ascontiguousarray(array, array.dtype.newbyteorder("<")))


def _bytes_of(array: Array) -> Array:
    """The memory of a contiguous array."""
    return array.reshape(-1).view(np.uint8)


# Reading -------------------------------------------------------------------------------------------------

def read_header(file: FileIO, size: int) -> Header:
    """What a file of `size` bytes contains. Nothing of the size that it names is made.

    Raises FormatError, with a short message, for everything that the format does not allow.
    """
    length = int.from_bytes(_read(file, 0, LENGTH), "little")
    if length > min(size - LENGTH, MAX_HEADER):
        raise FormatError(f"a header of {length} bytes in a file of {size}, where {MAX_HEADER} are allowed")
    try:
        text = str(_read(file, LENGTH, length), "utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"a header that is not UTF-8: {error.reason} at byte {error.start}") from None
    fields = parse_json(text)
    if not isinstance(fields, dict):
        raise FormatError(f"the header {short(fields)}")
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FormatError(f"the metadata {short(metadata)}")
    start = LENGTH + length
    entries = {name: _entry(name, field, start) for name, field in fields.items()}
    for entry in sorted(entries.values(), key=lambda entry: (entry.begin, entry.end)):
        if entry.begin != start:
            raise FormatError(f"an array at byte {entry.begin} of the file, where byte {start} is next")
        start = entry.end
    if start != size:
        raise FormatError(f"arrays that end at byte {start} of a file of {size}")
    return Header(metadata, entries)


def _entry(name: str, field: Any, start: int) -> Entry:
    if not isinstance(field, dict) or field.keys() != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{short(name)} described by {short(field)}")
    code, shape, offsets = field["dtype"], field["shape"], field["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise FormatError(f"{short(name)} of dtype {short(code)}")
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS or math.prod(n or 1 for n in shape) > 2**59:
        raise FormatError(f"{short(name)} of shape {short(shape)}")
    dtype = np.dtype(DTYPES[code])
    nbytes = math.prod(shape) * dtype.itemsize
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != nbytes:
        raise FormatError(f"{short(name)} at {short(offsets)}, where it has {nbytes} bytes")
    return Entry(dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 2**63 for n in values)


def read_array(file: FileIO, entry: Entry) -> Array:
    """One array, in native byte order. Raises FormatError where the file ends before it."""
    array = np.empty(entry.shape, entry.dtype)
    _read_into(file, entry.begin, _bytes_of(array).data)
    if array.dtype == bool and (array.view(np.uint8) > 1).any():
        raise FormatError("truth values that are neither 0 nor 1")
    return array if sys.byteorder == "little" else array.astype(array.dtype.newbyteorder("="))


def _read(file: FileIO, begin: int, length: int) -> bytearray:
    data = bytearray(length)
    _read_into(file, begin, memoryview(data))
    return data


def _read_into(file: FileIO, begin: int, view: memoryview) -> None:
    file.seek(begin)
    while len(view):
        got = file.readinto(view)
        if not got:
            raise FormatError(f"a file that ends {len(view)} bytes too early")
        view = view[got:]


# JSON of any origin --------------------------------------------------------------------------------------

def parse_json(text: str) -> Any:
    """The value, by the letter of the standard: every name once, no NaN, no endless numbers.

    >>> parse_json('{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}

    Raises FormatError with a short message.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_int=_integer, parse_constant=_constant)
    except RecursionError:
        raise FormatError("JSON that is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise FormatError(f"no JSON: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise FormatError("JSON with one name twice in an object")
    return result


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise FormatError(f"an integer of {len(digits)} digits")
    return int(digits)


def _constant(name: str) -> float:
    raise FormatError(f"JSON with {name}")


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother = 3, 60, 60


def short(value: Any) -> str:
    """What stands in a message for a value of any size.

    >>> short([1000] * 1000000)
    '[1000, 1000, 1000, 1000, 1000, 1000, ...]'
    """
    return _Short().repr(value)
