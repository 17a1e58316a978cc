"""What the functions of hand-written networks take and return."""
from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

__all__ = ["Array", "Cache", "Config"]

Array = NDArray[Any]
Cache = tuple[Any, ...]         # what a forward function leaves for the backward one
Config = dict[str, Any]         # settings by name, and state
