"""Fully-connected neural networks on the CPU at the speed of the hardware."""
from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ._core.threads import get_num_threads, limit_num_threads, set_num_threads
from .backends import get_backend, set_backend, use_backend
from .kernels import (
    active_bfloat16,
    active_int8,
    active_isa,
    available_bfloat16,
    available_int8,
    available_isas,
)
from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import callbacks, data, functional, initializers, losses, metrics, schedules
    from . import compat as compat
    from . import plot as plot
    from ._core.advice import TrainingWarning
    from ._core.fronts import from_sklearn
    from ._tools.config import show_config
    from .activations import (
        ELU,
        GELU,
        SELU,
        GELUTanh,
        Identity,
        LeakyReLU,
        ReLU,
        Sigmoid,
        SiLU,
        Softplus,
        Tanh,
    )
    from .callbacks import Checkpoint, EarlyStopping
    from .certificate import Certificate, certify
    from .diagnostics import Diagnostics
    from .gradient_checks import GradientCheck, gradient_check
    from .lbfgs import LBFGS
    from .learning_rates import LearningRates, lr_find
    from .loading import load
    from .loggers import CSVLogger, TensorBoard
    from .model import MLP
    from .normalization import BatchNorm
    from .onnx import from_onnx
    from .optimizers import SGD, AdaGrad, Adam, AdamW, RMSprop
    from .torch import from_torch

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

# Where the other names are: a module is imported by whoever first asks for what is in it.
_NAMES = {
    "_core.advice": "TrainingWarning",
    "_core.fronts": "from_sklearn",
    "_tools.config": "show_config",
    "activations": "ELU GELU GELUTanh Identity LeakyReLU ReLU SELU Sigmoid SiLU Softplus Tanh",
    "callbacks": "Checkpoint EarlyStopping",
    "certificate": "Certificate certify",
    "diagnostics": "Diagnostics",
    "gradient_checks": "GradientCheck gradient_check",
    "lbfgs": "LBFGS",
    "learning_rates": "LearningRates lr_find",
    "loading": "load",
    "loggers": "CSVLogger TensorBoard",
    "model": "MLP",
    "normalization": "BatchNorm",
    "onnx": "from_onnx",
    "optimizers": "AdaGrad Adam AdamW RMSprop SGD",
    "torch": "from_torch",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}
_MODULES = frozenset({
    "activations", "callbacks", "certificate", "checkpoints", "compat", "data", "diagnostics", "export_c",
    "functional", "gradient_checks", "handle_report", "inference", "initializers", "lbfgs", "learning_rates",
    "loading", "loggers", "losses", "metrics", "model", "normalization", "onnx", "optimizers", "plot",
    "restarts", "saving", "schedules", "sklearn", "summary", "torch", "training",
})
# Without scikit-learn the import raises, which who lists a module's members (help, inspect) does not expect.
_UNLISTED = frozenset({"sklearn"})

if not TYPE_CHECKING:           # a type checker would take any name then

    def __getattr__(name):
        if name in _MODULE_OF:
            value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        elif name in _MODULES:
            value = import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *(_MODULES - _UNLISTED)})
