"""JSON of any origin, read by the letter of the standard; and messages about it that stay short."""
from __future__ import annotations

import json
import reprlib
from typing import Any

__all__ = ["parse", "short"]

MAX_DIGITS = 40                 # of an integer; 2^128 has 39


def parse(text: str) -> Any:
    """The value: every name once in an object, no NaN, no endless numbers.

    >>> parse('{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}

    Raises ValueError with a short message.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_int=_integer, parse_constant=_constant)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("JSON with one name twice in an object")
    return result


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _constant(name: str) -> float:
    raise ValueError(f"JSON with {name}")


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
