"""Fully-connected neural networks on the CPU at the speed of the hardware."""

from . import functional, schedules
from .activations import Identity, LeakyReLU, ReLU, Sigmoid, Tanh
from .backends import get_backend, set_backend, use_backend
from .config import show_config
from .kernels import active_isa, available_isas
from .model import MLP
from .optimizers import LBFGS, SGD, AdaGrad, Adam, AdamW, RMSprop
from .threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "LBFGS",
    "MLP",
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Identity",
    "LeakyReLU",
    "RMSprop",
    "ReLU",
    "Sigmoid",
    "Tanh",
    "active_isa",
    "available_isas",
    "functional",
    "get_backend",
    "get_num_threads",
    "schedules",
    "set_backend",
    "set_num_threads",
    "show_config",
    "use_backend",
]
