"""The NumPy backend: the specification of every array function, and the baseline of the benchmarks.

Plain NumPy in the dtype of the arguments: float32 stays float32. Arguments have been validated
(`fastmlp.functional` documents and checks them); any strides are fine. Shapes in the comments: n rows of a
batch, k inputs and m outputs of a layer. Floating-point events make no warning: they are in the result.
"""
from .activations import *
from .engine import Engine
from .layers import *
from .losses import *
from .updates import *

COMPILED = False
