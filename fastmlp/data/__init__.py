"""Samples that do not fit into memory: files and other blocks, read while the network trains.

::

    source = data.Files("part-*.parquet", target="price")
    found = source.statistics()
    model.fit(source.scaled(found.mean, found.std), epochs=5)

A source stands in the place of X and y in `MLP.fit` and `MLP.evaluate`, and of ``validation_data``. A thread
reads its blocks into one of two buffers while the model trains on the other.
"""
from fastmlp.data._blocks import BlockError
from fastmlp.data._chunks import Chunks
from fastmlp.data._files import Files
from fastmlp.data._source import Source
from fastmlp.data._statistics import Statistics

__all__ = ["BlockError", "Chunks", "Files", "Source", "Statistics"]
