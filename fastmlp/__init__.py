"""Fully-connected neural networks on the CPU at the speed of the hardware."""

from . import callbacks, functional, initializers, metrics
from . import functional, schedules
from .activations import Identity, LeakyReLU, ReLU, Sigmoid, Tanh
from . import functional
from .activations import ELU, GELU, SELU, GELUTanh, Identity, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from .backends import get_backend, set_backend, use_backend
from .callbacks import EarlyStopping
from .config import show_config
from .gradient_check import GradientCheck, gradient_check
from .kernels import active_isa, available_isas
from .model import MLP
from .optimizers import LBFGS, SGD, AdaGrad, Adam, AdamW, RMSprop
from .threads import get_num_threads, set_num_threads

__version__ = "0.1.0"

__all__ = [
    "ELU",
    "GELU",
    "LBFGS",
    "MLP",
    "SELU",
    "SGD",
    "EarlyStopping",
    "GradientCheck",
    "GELUTanh",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Identity",
    "LeakyReLU",
    "RMSprop",
    "ReLU",
    "SiLU",
    "Sigmoid",
    "Softplus",
    "Tanh",
    "active_isa",
    "available_isas",
    "callbacks",
    "functional",
    "get_backend",
    "get_num_threads",
    "gradient_check",
    "initializers",
    "metrics",
    "schedules",
    "set_backend",
    "set_num_threads",
    "show_config",
    "use_backend",
]
