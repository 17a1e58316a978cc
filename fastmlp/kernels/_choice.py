"""What computes something, chosen among names that compute the same bits: bfloat16, and 8-bit integers."""

from __future__ import annotations

import os
from collections.abc import Callable, Container

NO_TILES = "the operating system does not give this process tiles"
OTHER_BITS = "other bits than the known ones"


class Choice:
    """The name in force; at first the one of an environment variable, or the fastest.

    what            in errors: "bfloat16", say
    variable        of the environment
    available       names that can be had beside an instruction set, fastest first, without those of `unfit`
    known, built    names that there are at all, and in this installation
    is_refused      of a name: whether it takes tiles that the operating system does not give
    is_right        of an instruction set and a name: whether it gives the known answer
    """

    def __init__(self, what: str, variable: str, available: Callable[[str], list[str]],
                 known: Callable[[], Container[str]], built: Callable[[], Container[str]],
                 is_refused: Callable[[str], bool], is_right: Callable[[str, str], bool]) -> None:
        self.what = what
        self.variable = variable
        self.available = available
        self.known = known
        self.built = built
        self.is_refused = is_refused
        self.is_right = is_right
        self.active = ""
        self.is_fit = False                 # as far as is known
        self.unfit: dict[str, str] = {}     # what has failed, and why

    def check(self, isa: str, name: str) -> None:
        """Raise ValueError for a name that cannot be had beside an instruction set."""
        names = self.available(isa)
        if name not in names:
            if name not in self.known():
                why = "no such instructions"
            elif name not in self.built():
                why = "not built into this installation"
            else:
                why = self.unfit.get(name, f"not supported by this processor, or not beside {isa}")
            raise self.error(name, f"{why}; available here: {', '.join(names)}")

    def require(self, isa: str, name: str) -> None:
        """The same, and for tiles that the operating system refuses: before anything by this name may run."""
        self.check(isa, name)
        if self.is_refused(name):
            raise self.error(name, NO_TILES)

    def error(self, name: str, why: str) -> ValueError:
        return ValueError(f"{self.what} by {name!r}: {why}")

    def why_unfit(self, isa: str, name: str) -> str | None:
        """Why what can be had cannot be used after all; None where it can."""
        if self.is_refused(name):
            return NO_TILES
        return None if self.is_right(isa, name) else OTHER_BITS

    def choose(self, isa: str) -> None:
        """At import. What is asked for has to be fit at once, anything else when it is first used."""
        asked = os.environ.get(self.variable)
        self.active = asked or self.available(isa)[0]
        try:
            self.check(isa, self.active)
            if asked:
                if why := self.why_unfit(isa, asked):
                    raise self.error(asked, why)
                self.is_fit = True
        except ValueError as error:
            raise ValueError(f"{self.variable}: {error}") from None

    def settle(self, isa: str) -> str:
        """The active name, once it is known to be fit: the next one takes the place of one that is not."""
        while not self.is_fit:
            name = self.active                      # which another thread may change meanwhile
            why = self.why_unfit(isa, name)
            if why is None:
                self.is_fit = True
            else:
                self.unfit[name] = why
                self.active = self.available(isa)[0]
        return self.active
