"""The compiled backend: the kernels of the active instruction set, called with arrays as they come.

Every function takes the call if all its arrays are plain (NumPy arrays of one dtype, C-contiguous, of the
right shapes, results apart from inputs) and returns NotImplemented, with nothing written, if they are not;
`fastmlp.functional` documents and checks.
"""
from .activations import *
from .engine import Engine
from .layers import *
from .losses import *
from .updates import *

COMPILED = True
