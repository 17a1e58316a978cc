"""Fully-connected neural networks on the CPU at the speed of the hardware."""

from . import callbacks, data, functional, initializers, losses, metrics, schedules
from ._core.advice import TrainingWarning
from ._core.fronts import from_sklearn
from ._core.threads import get_num_threads, limit_num_threads, set_num_threads
from ._tools.config import show_config
from .activations import ELU, GELU, SELU, GELUTanh, Identity, LeakyReLU, ReLU, Sigmoid, SiLU, Softplus, Tanh
from .backends import get_backend, set_backend, use_backend
from .callbacks import Checkpoint, EarlyStopping
from .certify import Certificate, certify
from .diagnostics import Diagnostics
from .gradient_check import GradientCheck, gradient_check
from .kernels import (
    active_bfloat16,
    active_int8,
    active_isa,
    available_bfloat16,
    available_int8,
    available_isas,
)
from .lbfgs import LBFGS
from .loading import load
from .loggers import CSVLogger, TensorBoard
from .lr_find import LearningRates, lr_find
from .model import MLP
from .normalization import BatchNorm
from .onnx import from_onnx
from .optimizers import SGD, AdaGrad, Adam, AdamW, RMSprop
from .torch import from_torch
from .version import __version__ as __version__

__all__ = [
    "active_bfloat16",
    "active_int8",
    "active_isa",
    "AdaGrad",
    "Adam",
    "AdamW",
    "available_bfloat16",
    "available_int8",
    "available_isas",
    "BatchNorm",
    "callbacks",
    "Certificate",
    "certify",
    "Checkpoint",
    "CSVLogger",
    "data",
    "Diagnostics",
    "EarlyStopping",
    "ELU",
    "from_onnx",
    "from_sklearn",
    "from_torch",
    "functional",
    "GELU",
    "GELUTanh",
    "get_backend",
    "get_num_threads",
    "gradient_check",
    "GradientCheck",
    "Identity",
    "initializers",
    "LBFGS",
    "LeakyReLU",
    "LearningRates",
    "limit_num_threads",
    "load",
    "losses",
    "lr_find",
    "metrics",
    "MLP",
    "ReLU",
    "RMSprop",
    "schedules",
    "SELU",
    "set_backend",
    "set_num_threads",
    "SGD",
    "show_config",
    "Sigmoid",
    "SiLU",
    "Softplus",
    "Tanh",
    "TensorBoard",
    "TrainingWarning",
    "use_backend",
]
