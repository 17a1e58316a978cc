"""Samples that do not fit into memory: files and other blocks, read while the network trains.

::

    source = data.Files("part-*.parquet", target="price")
    found = source.statistics()
    model.fit(source.scaled(found.mean, found.std), epochs=5)

A source stands in the place of X and y in `MLP.fit` and `MLP.evaluate`, and of ``validation_data``. A thread
reads its blocks into one of two buffers while the model trains on the other.
"""
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastmlp.data._blocks import BlockError
    from fastmlp.data._chunks import Chunks
    from fastmlp.data._files import Files
    from fastmlp.data._source import Source
    from fastmlp.data._statistics import Statistics

__all__ = ["BlockError", "Chunks", "Files", "Source", "Statistics"]

# Where they are: training on arrays needs none of them.
_MODULE_OF = {"BlockError": "_blocks", "Chunks": "_chunks", "Files": "_files", "Source": "_source",
              "Statistics": "_statistics"}

if not TYPE_CHECKING:           # a type checker would take any name then

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
