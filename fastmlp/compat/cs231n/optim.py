"""Update rules: rule(w, dw, config) returns the next w, and config, which holds rates and state.

`sgd` changes w in place. The others return a new array, and put new arrays into config."""
from __future__ import annotations

from typing import Any

import numpy as np

import fastmlp.functional as F
from fastmlp.compat._arrays import can_update, is_divisor, is_like, is_rate, is_share
from fastmlp.compat._types import Array, Config

__all__ = ["adam", "rmsprop", "sgd", "sgd_momentum"]


def sgd(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Take a step of gradient descent.

    Parameters
    ----------
    w : ndarray
        Parameters.
    dw : ndarray
        Their gradient, of the same shape.
    config : dict, optional
        "learning_rate" (default 1e-2).

    Returns
    -------
    w : ndarray
        ``w`` itself, which is changed in place.
    config : dict
        ``config`` itself, with what it lacked; a new one if there was none.

    Notes
    -----
    w -= lr dw
    """
    config = {} if config is None else config
    lr = config.setdefault("learning_rate", 1e-2)
    if is_rate(lr) and can_update(w, dw):
        F.sgd_update(w, dw, lr)
    else:
        w -= lr * dw
    return w, config


def sgd_momentum(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Take a step of gradient descent with momentum.

    Parameters
    ----------
    w : ndarray
        Parameters.
    dw : ndarray
        Their gradient, of the same shape.
    config : dict, optional
        "learning_rate" (default 1e-2), "momentum" (0.9), "velocity" v (0), which is replaced.

    Returns
    -------
    w : ndarray
        New parameters, in a new array.
    config : dict
        ``config`` itself, with what it lacked; a new one if there was none.

    Notes
    -----
    v = momentum v - lr dw, w = w + v
    """
    config = _with_defaults(config, learning_rate=1e-2, momentum=0.9)
    lr, v = config["learning_rate"], config.get("velocity")
    v = np.zeros_like(w) if v is None else config["momentum"] * v
    if is_rate(lr) and can_update(v, dw):
        F.sgd_update(v, dw, lr)
    else:
        v = v - lr * dw
    config["velocity"] = v
    return w + v, config


def rmsprop(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Take a step of RMSprop.

    Parameters
    ----------
    w : ndarray
        Parameters.
    dw : ndarray
        Their gradient, of the same shape.
    config : dict, optional
        "learning_rate" (default 1e-2), "decay_rate" (0.99), "epsilon" (1e-8), "cache" (0), which is replaced.

    Returns
    -------
    w : ndarray
        New parameters, in a new array.
    config : dict
        ``config`` itself, with what it lacked; a new one if there was none.

    Notes
    -----
    cache = decay cache + (1 - decay) dw^2, w = w - lr dw / (sqrt(cache) + epsilon)
    """
    config = _with_defaults(config, learning_rate=1e-2, decay_rate=0.99, epsilon=1e-8)
    lr, decay, epsilon = config["learning_rate"], config["decay_rate"], config["epsilon"]
    squares = config["cache"].copy() if "cache" in config else np.zeros_like(w)
    if is_rate(lr) and is_share(decay) and is_divisor(epsilon) and is_like(w, dw) and is_like(w, squares):
        w = w.copy()
        F.rmsprop_update(w, dw, lr, squares, decay, epsilon)
    else:
        squares = decay * squares + (1 - decay) * dw**2
        w = w - lr * dw / (np.sqrt(squares) + epsilon)
    config["cache"] = squares
    return w, config


def adam(w: Array, dw: Array, config: Config | None = None) -> tuple[Array, Config]:
    """Take a step of Adam.

    Parameters
    ----------
    w : ndarray
        Parameters.
    dw : ndarray
        Their gradient, of the same shape.
    config : dict, optional
        "learning_rate" (default 1e-3), "beta1" (0.9), "beta2" (0.999), "epsilon" (1e-8), "m", "v" and "t"
        (0), which are replaced.

    Returns
    -------
    w : ndarray
        New parameters, in a new array.
    config : dict
        ``config`` itself, with what it lacked; a new one if there was none.

    Notes
    -----
    m = beta1 m + (1 - beta1) dw, v = beta2 v + (1 - beta2) dw^2,
    w = w - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon), where t counts the steps from 1.
    """
    config = _with_defaults(config, learning_rate=1e-3, beta1=0.9, beta2=0.999, epsilon=1e-8, t=0)
    lr, beta1, beta2, epsilon = (config[key] for key in ("learning_rate", "beta1", "beta2", "epsilon"))
    m = config["m"].copy() if "m" in config else np.zeros_like(w)
    v = config["v"].copy() if "v" in config else np.zeros_like(w)
    t = config["t"] + 1
    if (is_rate(lr) and is_share(beta1) and is_share(beta2) and is_divisor(epsilon) and is_like(w, dw)
            and is_like(w, m) and is_like(w, v) and t >= 1):
        w = w.copy()
        F.adam_update(w, dw, lr, m, v, t, beta1, beta2, epsilon)
    else:
        m = beta1 * m + (1 - beta1) * dw
        v = beta2 * v + (1 - beta2) * dw**2
        w = w - lr * (m / (1 - beta1**t)) / (np.sqrt(v / (1 - beta2**t)) + epsilon)
    config["m"], config["v"], config["t"] = m, v, t
    return w, config


def _with_defaults(config: Config | None, **defaults: Any) -> Config:
    """The caller's dict itself, with what it lacks; a new one for None."""
    if config is None:
        return defaults
    for key, value in defaults.items():
        config.setdefault(key, value)
    return config
