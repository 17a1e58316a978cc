"""Initial weights: random, of the size that keeps signals and gradients alive from layer to layer.

Too small, and the signal fades with every layer; too large, and it saturates or explodes. Both schemes
choose the variance of the weights so that the variance of the signal stays about the same:

    He      Var w = 2 / fan_in                  for ReLU and its kin, which let half of the signal through
    Glorot  Var w = 2 / (fan_in + fan_out)      for tanh, sigmoid and linear layers

Numbers are drawn in float64 and then rounded, so that float32 and float64 models start alike.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import checks
from fastmlp.activations import Activation

__all__ = ["INITIALIZERS", "check", "initial_weights"]

Initializer = Callable[[np.random.Generator, int, int], NDArray[Any]]


def he_normal(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[Any]:
    """w ~ N(0, 2 / fan_in).

    Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", ICCV 2015.

    >>> he_normal(np.random.default_rng(0), 784, 256).shape
    (784, 256)
    """
    return rng.standard_normal((fan_in, fan_out)) * math.sqrt(2 / fan_in)


def he_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[Any]:
    """w ~ U(-a, a), a = sqrt(6 / fan_in).

    Source: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", ICCV 2015.

    >>> float(abs(he_uniform(np.random.default_rng(0), 6, 50)).max()) <= 1.0
    True
    """
    limit = math.sqrt(6 / fan_in)
    return rng.uniform(-limit, limit, (fan_in, fan_out))


def glorot_normal(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[Any]:
    """w ~ N(0, 2 / (fan_in + fan_out)).

    Source: Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010.

    >>> glorot_normal(np.random.default_rng(0), 3, 2).dtype
    dtype('float64')
    """
    return rng.standard_normal((fan_in, fan_out)) * math.sqrt(2 / (fan_in + fan_out))


def glorot_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[Any]:
    """w ~ U(-a, a), a = sqrt(6 / (fan_in + fan_out)).

    Source: Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks",
    AISTATS 2010.

    >>> float(abs(glorot_uniform(np.random.default_rng(0), 3, 3)).max()) <= 1.0
    True
    """
    limit = math.sqrt(6 / (fan_in + fan_out))
    return rng.uniform(-limit, limit, (fan_in, fan_out))


INITIALIZERS: dict[str, Initializer] = {
    f.__name__: f for f in (he_normal, he_uniform, glorot_normal, glorot_uniform)
}


def check(init: Any) -> None:
    """Raises ValueError for an unknown name, TypeError for anything but a name.

    >>> check("glorot")
    Traceback (most recent call last):
        ...
    ValueError: init: unknown name 'glorot', did you mean 'glorot_normal'? Known: auto, he_normal, ...
    """
    known = ["auto", *INITIALIZERS]
    if not isinstance(init, str):
        raise TypeError(f"init: expected a name, got {init!r}")
    checks.known_name("init", init, known)


def initial_weights(
    init: str, rng: np.random.Generator, fan_in: int, fan_out: int, activation: Activation
) -> NDArray[Any]:
    """(fan_in, fan_out) weights; "auto" is He's normal before a ReLU or leaky ReLU, else Glorot's uniform.

    >>> from fastmlp.activations import ReLU
    >>> rng = np.random.default_rng(0)
    >>> initial_weights("auto", rng, 4, 3, ReLU()).shape
    (4, 3)
    """
    if init == "auto":
        init = "he_normal" if activation.name in ("relu", "leaky_relu") else "glorot_uniform"
    return INITIALIZERS[init](rng, fan_in, fan_out)
