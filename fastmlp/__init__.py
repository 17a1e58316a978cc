"""Fully-connected neural networks on the CPU at the speed of the hardware."""

from importlib.util import find_spec

from . import functional
from .activations import Identity, LeakyReLU, ReLU, Sigmoid, Tanh
from .backends import get_backend, set_backend, use_backend
from .kernels import active_isa, available_isas

__version__ = "0.1.0"

__all__ = [
    "Identity",
    "LeakyReLU",
    "ReLU",
    "Sigmoid",
    "Tanh",
    "active_isa",
    "available_isas",
    "functional",
    "get_backend",
    "set_backend",
    "use_backend",
]

# Plain imports take the place of these conditions as soon as the modules are there.
if find_spec("fastmlp.optimizers"):
    from .optimizers import SGD

    __all__ += ["SGD"]
if find_spec("fastmlp.model"):
    from .model import MLP

    __all__ += ["MLP"]
