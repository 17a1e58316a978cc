"""Copies and pickles: whose state is whose, and what can be pickled.

State of an optimizer or a callback belongs to a model, which is known by its `Identity`. A copied model has a
new one. Whatever is copied or pickled together with the model, before or after it, goes over to the copy;
what is copied alone stays with the model that it belongs to.
"""
from __future__ import annotations

import pickle
import sys
from collections.abc import Iterable
from types import FrameType, FunctionType
from typing import Any

from fastmlp._core.locking import TrainingLock

__all__ = ["Identity", "check_state", "follow", "importable", "moved"]

IN_PYTHON: Any = vars(pickle)["_Pickler"]       # the pickler that can be subclassed, which has no public name
VERSION = 1         # of all pickles: another layout of any of them is another number


class Identity:
    """Which model state belongs to, and the lock of its training."""

    __slots__ = ("__weakref__", "lock")

    def __init__(self) -> None:
        self.lock = TrainingLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Identity, ()

    def __copy__(self) -> Identity:
        return self

    def __deepcopy__(self, memo: dict[Any, Any]) -> Identity:
        return self         # models alone make new ones: see `moved`


def moved(old: Identity, memo: dict[Any, Any]) -> Identity:
    """The identity of a deep copy; what was copied before the model follows it."""
    new = memo[id(old)] = Identity()
    for copied in memo.get(Identity, ()):
        copied.follow(old, new)
    return new


def follow(copied: Any, memo: dict[Any, Any]) -> None:
    """Have `copied.follow(old, new)` called when a model is copied later in the same deep copy."""
    memo.setdefault(Identity, []).append(copied)


def check_state(thing: Any, state: Any, names: Iterable[str]) -> None:
    """The state in a pickle must be of this version, and whole.

    Raises
    ------
    ValueError
        Otherwise, before anything is made of it.
    """
    name = type(thing).__name__
    version = state.get("version") if isinstance(state, dict) else None
    if version != VERSION:
        raise ValueError(f"pickle: expected {name} of version {VERSION}, got version {version}; another "
                         "release of fastmlp may read it")
    missing = [key for key in names if key not in state]
    if missing:
        raise ValueError(f"pickle: expected {name} with {', '.join(missing)}, got {', '.join(state)}")


def importable(name: str, function: Any) -> None:
    """A function that is pickled must be found by its name; some picklers take any.

    Raises
    ------
    pickle.PicklingError
        For a lambda, or a function inside another.
    """
    if not isinstance(function, FunctionType):
        return              # pickle decides
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not function and not _takes_any_function():
        raise pickle.PicklingError(
            f"{name}: only a function defined in a module, by its name there, can be pickled, got "
            f"{function.__qualname__} of {function.__module__}; define it with def at the top of a module")


def _takes_any_function() -> bool:
    """Whether the pickler at work (cloudpickle, dill) writes functions down instead of their names."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        pickler = frame.f_locals.get("self") if "self" in frame.f_code.co_varnames else None
        if isinstance(pickler, (pickle.Pickler, IN_PYTHON)):
            by_name = IN_PYTHON.save_global
            if (hasattr(pickler, "reducer_override") or FunctionType in getattr(pickler, "dispatch_table", ())
                    or getattr(pickler, "dispatch", {}).get(FunctionType, by_name) is not by_name):
                return True
        frame = frame.f_back
    return False
