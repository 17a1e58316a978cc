"""Array functions: layers, activations, losses and updates on NumPy arrays.

::

    import fastmlp.functional as F

Every function takes float32 or float64 arrays, all of one dtype, with any strides, read-only or not, and
returns new arrays of that dtype, or writes into ``out`` and returns it. Anything ``np.asarray`` turns into
such an array will do; integers are converted as the targets of a loss, and nowhere else. Arguments that do
not fit raise TypeError (type or dtype) or ValueError (shape, range, overlap, read-only ``out``), with nothing
changed. NaN and infinities follow the formulas, without warnings.

``out`` may have any strides and must not share memory with the inputs; element-wise functions and those along
the last axis may work in place (``relu(x, out=x)``).

One pattern throughout: unvalidated arguments are passed to the compiled backend. What it declines, and
everything on the NumPy backend, goes through the body of the function here: it validates the arguments with
clear errors, copies what must be copied, and calls the backend again.
"""
from . import activations, layers, losses, updates
from .activations import *
from .layers import *
from .losses import *
from .updates import *

__all__ = [*layers.__all__, *activations.__all__, *losses.__all__, *updates.__all__]
