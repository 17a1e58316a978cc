"""Optimizers of the book's ``common/optimizer.py``: `update` changes a dict of parameters in place."""
from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import numpy as np

import fastmlp.functional as F
from fastmlp.compat._arrays import FEW, can_update, is_like, is_rate, is_share
from fastmlp.compat._types import Array

__all__ = ["AdaGrad", "Adam", "Momentum", "Nesterov", "np", "RMSprop", "SGD"]

_EPS = 1e-7


def _zeros(params: Any) -> dict[Any, Any]:
    return {key: np.zeros_like(param) for key, param in params.items()}


class SGD:
    """Gradient descent.

    Formula::

        p -= lr g

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    """

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = lr

    def update(self, params: MutableMapping[str, Array], grads: Mapping[str, Array]) -> None:
        """Change the parameters, in place.

        Parameters
        ----------
        params : dict of ndarray
            Parameters by name.
        grads : dict of ndarray
            Their gradients, under the same names.
        """
        fits = is_rate(self.lr)
        for key in params:
            param, grad = params[key], grads[key]
            if fits and can_update(param, grad):
                F.sgd_update(param, grad, self.lr)
            else:
                params[key] -= self.lr * grad


class Momentum:
    """Gradient descent with momentum.

    Formula::

        v = momentum v - lr g
        p += v

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    momentum : float, default 0.9
        Share of the velocity that stays.

    Attributes
    ----------
    v : dict of ndarray
        Velocities by name; every update makes new arrays.
    """

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        self.lr = lr
        self.momentum = momentum
        self.v: Any = None
        self._large: set[str] = set()           # names of parameters that are worth a kernel

    def update(self, params: MutableMapping[str, Array], grads: Mapping[str, Array]) -> None:
        """Change the parameters, in place.

        Parameters
        ----------
        params : dict of ndarray
            Parameters by name.
        grads : dict of ndarray
            Their gradients, under the same names.
        """
        if self.v is None:
            self.v = _zeros(params)
            self._large = {key for key, v in self.v.items() if v.size > FEW}
        lr, momentum, velocities, large = self.lr, self.momentum, self.v, self._large
        for key in params:
            v = momentum * velocities[key]      # a new array, as in the book
            if key not in large:                # three passes of NumPy take less than a look at what they are
                v = v - lr * grads[key]
            elif is_rate(lr) and can_update(params[key], grads[key]) and is_like(v, grads[key]):
                F.sgd_update(v, grads[key], lr)
            else:
                v = v - lr * grads[key]
            velocities[key] = v
            params[key] += v


class Nesterov:
    """Nesterov's accelerated gradient.

    Formula::

        p += momentum^2 v - (1 + momentum) lr g
        v = momentum v - lr g

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    momentum : float, default 0.9
        Share of the velocity that stays.

    Attributes
    ----------
    v : dict of ndarray
        Velocities by name; every update changes them in place.
    """

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        self.lr = lr
        self.momentum = momentum
        self.v: Any = None

    def update(self, params: MutableMapping[str, Array], grads: Mapping[str, Array]) -> None:
        """Change the parameters, in place.

        Parameters
        ----------
        params : dict of ndarray
            Parameters by name.
        grads : dict of ndarray
            Their gradients, under the same names.
        """
        if self.v is None:
            self.v = _zeros(params)
        lr, momentum = self.lr, self.momentum
        fits = is_rate(lr) and is_share(momentum)
        for key in params:
            param, grad, v = params[key], grads[key], self.v[key]
            if fits and can_update(param, grad) and is_like(v, grad):
                # The kernel has velocities of the other sign; the array stays the same, as in the book.
                np.negative(v, out=v)
                try:
                    F.sgd_update(param, lr * grad, 1.0, momentum, v, True)
                finally:
                    np.negative(v, out=v)
            else:
                params[key] += momentum * momentum * v
                params[key] -= (1 + momentum) * lr * grad
                self.v[key] *= momentum
                self.v[key] -= lr * grads[key]


class AdaGrad:
    """AdaGrad.

    Formula::

        h += g^2
        p -= lr g / (sqrt(h) + 1e-7)

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.

    Attributes
    ----------
    h : dict of ndarray
        Sums of squares by name.
    """

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = lr
        self.h: Any = None

    def update(self, params: MutableMapping[str, Array], grads: Mapping[str, Array]) -> None:
        """Change the parameters, in place.

        Parameters
        ----------
        params : dict of ndarray
            Parameters by name.
        grads : dict of ndarray
            Their gradients, under the same names.
        """
        if self.h is None:
            self.h = _zeros(params)
        fits = is_rate(self.lr)
        for key in params:
            if fits and can_update(params[key], grads[key]):
                F.adagrad_update(params[key], grads[key], self.lr, self.h[key], _EPS)
            else:
                self.h[key] += grads[key] * grads[key]
                params[key] -= self.lr * grads[key] / (np.sqrt(self.h[key]) + _EPS)


class RMSprop:
    """RMSprop.

    Formula::

        h = decay_rate h + (1 - decay_rate) g^2
        p -= lr g / (sqrt(h) + 1e-7)

    Parameters
    ----------
    lr : float, default 0.01
        Learning rate.
    decay_rate : float, default 0.99
        Share of the average that stays.

    Attributes
    ----------
    h : dict of ndarray
        Averages of squares by name.
    """

    def __init__(self, lr: float = 0.01, decay_rate: float = 0.99) -> None:
        self.lr = lr
        self.decay_rate = decay_rate
        self.h: Any = None

    def update(self, params: MutableMapping[str, Array], grads: Mapping[str, Array]) -> None:
        """Change the parameters, in place.

        Parameters
        ----------
        params : dict of ndarray
            Parameters by name.
        grads : dict of ndarray
            Their gradients, under the same names.
        """
        if self.h is None:
            self.h = _zeros(params)
        fits = is_rate(self.lr) and is_share(self.decay_rate)
        for key in params:
            if fits and can_update(params[key], grads[key]):
                F.rmsprop_update(params[key], grads[key], self.lr, self.h[key], self.decay_rate, _EPS)
            else:
                self.h[key] *= self.decay_rate
                self.h[key] += (1 - self.decay_rate) * grads[key] * grads[key]
                params[key] -= self.lr * grads[key] / (np.sqrt(self.h[key]) + _EPS)


class Adam:
    """Adam.

    Formula::

        m += (1 - beta1) (g - m)
        v += (1 - beta2) (g^2 - v)
        p -= lr sqrt(1 - beta2^t) / (1 - beta1^t) m / (sqrt(v) + 1e-7), in update t

    Parameters
    ----------
    lr : float, default 0.001
        Learning rate.
    beta1 : float, default 0.9
        Share of the first moment that stays.
    beta2 : float, default 0.999
        Share of the second moment that stays.

    Attributes
    ----------
    iter : int
        Updates so far.
    m, v : dict of ndarray
        First and second moments by name.
    """

    def __init__(self, lr: float = 0.001, beta1: float = 0.9, beta2: float = 0.999) -> None:
        self.lr = lr
        self.beta1 = beta1
        self.beta2 = beta2
        self.iter = 0
        self.m: Any = None
        self.v: Any = None

    def update(self, params: MutableMapping[str, Array], grads: Mapping[str, Array]) -> None:
        """Change the parameters, in place.

        Parameters
        ----------
        params : dict of ndarray
            Parameters by name.
        grads : dict of ndarray
            Their gradients, under the same names.
        """
        if self.m is None:
            self.m, self.v = _zeros(params), _zeros(params)
        self.iter += 1
        fits = is_rate(self.lr) and is_share(self.beta1) and is_share(self.beta2)
        unbiased = np.sqrt(1.0 - self.beta2**self.iter)
        for key in params:
            m, v, grad = self.m[key], self.v[key], grads[key]
            if fits and can_update(params[key], grad):     # where 1e-7 is added after bias correction
                F.adam_update(params[key], grad, self.lr, m, v, self.iter, self.beta1, self.beta2,
                              float(_EPS / unbiased))
                continue
            self.m[key] += (1 - self.beta1) * (grad - m)
            self.v[key] += (1 - self.beta2) * (grad**2 - v)
            rate = self.lr * unbiased / (1.0 - self.beta1**self.iter)
            params[key] -= rate * self.m[key] / (np.sqrt(self.v[key]) + _EPS)
