"""Steps of the optimizers, in place."""
from __future__ import annotations

import math
from typing import Any

from fastmlp.optimizers import SMALLEST, Formula, Settings, adam_rates

from ._kernels import DECLINE, KERNELS, contiguous, numbers, plain


def sgd_update(param: Any, grad: Any, lr: Any, momentum: Any = 0.0, velocity: Any = None,
               nesterov: Any = False, weight_decay: Any = 0.0) -> Any:
    if not (numbers(lr, momentum, weight_decay) and 0 <= momentum < 1 and _finite(lr, weight_decay)):
        return NotImplemented
    formula = Formula.SGD if not momentum else Formula.NESTEROV if nesterov else Formula.MOMENTUM
    return _step(param, grad, () if velocity is None else (velocity,), (lr, 1.0, 0.0),
                 Settings(formula, beta1=momentum, weight_decay=weight_decay))


def adagrad_update(param: Any, grad: Any, lr: Any, squares: Any, eps: Any = 1e-10,
                   weight_decay: Any = 0.0) -> Any:
    if not (numbers(lr, eps, weight_decay) and _finite(lr, weight_decay) and SMALLEST <= eps < math.inf):
        return NotImplemented
    return _step(param, grad, (squares,), (lr, 1.0, 0.0),
                 Settings(Formula.ADAGRAD, eps=eps, weight_decay=weight_decay))


def rmsprop_update(param: Any, grad: Any, lr: Any, squares: Any, rho: Any = 0.99, eps: Any = 1e-8,
                   weight_decay: Any = 0.0) -> Any:
    if not (numbers(lr, rho, eps, weight_decay) and 0 <= rho < 1 and _finite(lr, weight_decay)
            and SMALLEST <= eps < math.inf):
        return NotImplemented
    return _step(param, grad, (squares,), (lr, 1.0, 0.0),
                 Settings(Formula.RMSPROP, beta2=rho, eps=eps, weight_decay=weight_decay))


def adam_update(param: Any, grad: Any, lr: Any, first_moment: Any, second_moment: Any, step: Any,
                beta1: Any = 0.9, beta2: Any = 0.999, eps: Any = 1e-8, weight_decay: Any = 0.0,
                decoupled: Any = False) -> Any:
    if not (numbers(lr, beta1, beta2, eps, weight_decay) and 0 <= beta1 < 1 and 0 <= beta2 < 1
            and _finite(lr, weight_decay) and SMALLEST <= eps < math.inf
            and type(step) is int and step >= 1):
        return NotImplemented
    rates = adam_rates(lr, beta1, beta2, step, lr * weight_decay if decoupled else 0.0)
    return _step(param, grad, (first_moment, second_moment), rates,
                 Settings(Formula.ADAM, beta1, beta2, eps, weight_decay, decoupled=bool(decoupled)))


def _finite(*values: Any) -> bool:
    return all(0 <= value < math.inf for value in values)


def _step(param: Any, grad: Any, slots: tuple[Any, ...], rates: tuple[float, float, float],
          settings: Settings) -> Any:
    """None after a step, in place; NotImplemented, with nothing changed, for arrays that do not fit."""
    try:
        arrays = (param, grad, *slots)
        fits = plain(*arrays) and contiguous(*arrays) and all(a.shape == param.shape for a in arrays)
        if not fits:
            return NotImplemented
        first, second = (*[array.reshape(-1) for array in slots], None, None)[:2]
        if KERNELS[param.dtype.char].update_arrays(param.reshape(-1), grad.reshape(-1), first, second, rates,
                                                   settings, False):
            return None
    except DECLINE:
        pass
    return NotImplemented
