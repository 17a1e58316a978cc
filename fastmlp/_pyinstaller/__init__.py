"""For PyInstaller, which finds this through an entry point: programs that it freezes."""
from __future__ import annotations

import os

__all__ = ["hook_dirs"]


def hook_dirs() -> list[str]:
    """Where the hook is."""
    return [os.path.dirname(__file__)]
