"""What may be assigned to an object's attributes: settings are validated, the rest raises."""
from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

__all__ = ["Guarded"]


class Guarded:
    """An object that takes no assignment without effect.

    Attributes
    ----------
    settable : dict of name -> function(object, value)
        What an assignment does: the function validates the value and returns what is stored.
    fixed : dict of name -> str
        Names that cannot be assigned, and what to do instead.

    Any other public name raises AttributeError, with the name that was probably meant; in a subclass of the
    user's it is stored, as everywhere in Python. Methods may be replaced, to try something out. Names with an
    underscore in front are not guarded.
    """

    settable: ClassVar[Mapping[str, Callable[[Any, Any], Any]]] = {}
    fixed: ClassVar[Mapping[str, str]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] == "_":
            object.__setattr__(self, name, value)
        elif name in self.settable:
            object.__setattr__(self, name, self.settable[name](self, value))
        elif name in self.fixed:
            raise AttributeError(f"{name}: {self.fixed[name]}")
        elif self.of_the_library() and not hasattr(type(self), name):
            raise AttributeError(self._unknown(name))
        else:
            object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        if name[0] != "_" and (name in self.settable or name in self.fixed):
            raise AttributeError(f"{name}: cannot be deleted")
        object.__delattr__(self, name)

    def of_the_library(self) -> bool:
        return type(self).__module__.partition(".")[0] == __name__.partition(".")[0]

    def _unknown(self, name: str) -> str:
        import difflib  # here, since errors alone need it

        known = [*self.settable, *self.fixed]
        near = difflib.get_close_matches(name, known, n=1)
        meant = f", did you mean {near[0]!r}?" if near else "; use a subclass for attributes of your own"
        return f"{type(self).__name__} has no attribute {name!r}{meant}"
