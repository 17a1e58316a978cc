"""threadpoolctl's limits on threads, without a dependency on threadpoolctl and without importing it.

threadpoolctl limits the libraries for which somebody has registered a controller before the limit is set. So
ours is registered as soon as both are imported, whichever comes first: where fastmlp does, a finder in
sys.meta_path waits for the name. Versions before 3.2 take no controllers.
"""
from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["install"]

NAME = "threadpoolctl"


def install(get_num_threads: Callable[[], int], limit_thread: Callable[[int], None]) -> None:
    """Have threadpoolctl read and limit the number of threads through these two functions.

    get_num_threads() and limit_thread(n) are about the calling thread: threads that set and restore the same
    number at the same time would leave it wrong.
    """
    def register(module: Any) -> None:
        if hasattr(module, "register"):
            module.register(_controller(module, get_num_threads, limit_thread))

    if NAME in sys.modules:
        register(sys.modules[NAME])
    sys.meta_path.insert(0, _Finder(register))


def _controller(module: Any, get_threads: Callable[[], int], limit_thread: Callable[[int], None]) -> type:
    class FastMLPController(module.LibController):  # type: ignore[misc]
        user_api = internal_api = "fastmlp"
        filename_prefixes = ("_team.",)             # kernels/_team.pyx, in a file _team.<tag>.so
        check_symbols = ("fastmlp_team",)

        def get_num_threads(self) -> int:
            return get_threads()

        def set_num_threads(self, num_threads: int) -> None:
            limit_thread(num_threads)

        def get_version(self) -> str | None:
            return getattr(sys.modules.get("fastmlp"), "__version__", None)     # not yet during its import

    return FastMLPController


class _Finder:
    """Finds nothing itself; has `register` called with the module, after the import."""

    def __init__(self, register: Callable[[Any], None]) -> None:
        self.register = register

    def find_spec(self, name: str, path: Sequence[str] | None = None,
                  target: ModuleType | None = None) -> ModuleSpec | None:
        if name != NAME:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find and finder is not self else None
            if spec is not None:
                break
        else:
            return None
        loader: Any = spec.loader
        if hasattr(loader, "exec_module") and not isinstance(loader, type):
            execute = loader.exec_module            # of this loader, not of its class

            def exec_module(module: ModuleType) -> None:
                execute(module)
                if module.__name__ == NAME:         # an archive has one loader for all its modules
                    self.register(module)

            loader.exec_module = exec_module
        return spec
