"""Steps of the optimizers, in place."""
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastmlp.kernels import ops
from fastmlp.optimizers import CODES, Settings, adam_rates

from ._common import quiet

if TYPE_CHECKING:
    from fastmlp._core.types import Array
    from fastmlp.optimizers import Optimizer


def sgd_update(param: Array, grad: Array, lr: float, momentum: float = 0.0, velocity: Array | None = None,
               nesterov: bool = False, weight_decay: float = 0.0) -> None:
    rule = "sgd" if not momentum else "nesterov" if nesterov else "momentum"
    _step(Settings(CODES[rule], beta1=momentum, weight_decay=weight_decay), param, grad, (velocity,),
          (lr, 1.0, 0.0))


def adagrad_update(param: Array, grad: Array, lr: float, squares: Array, eps: float = 1e-10,
                   weight_decay: float = 0.0) -> None:
    _step(Settings(CODES["adagrad"], eps=eps, weight_decay=weight_decay), param, grad, (squares,),
          (lr, 1.0, 0.0))


def rmsprop_update(param: Array, grad: Array, lr: float, squares: Array, rho: float = 0.99, eps: float = 1e-8,
                   weight_decay: float = 0.0) -> None:
    _step(Settings(CODES["rmsprop"], beta2=rho, eps=eps, weight_decay=weight_decay), param, grad, (squares,),
          (lr, 1.0, 0.0))


def adam_update(param: Array, grad: Array, lr: float, first_moment: Array, second_moment: Array, step: int,
                beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0,
                decoupled: bool = False) -> None:
    rates = adam_rates(lr, beta1, beta2, step, lr * weight_decay if decoupled else 0.0)
    _step(Settings(CODES["adam"], beta1, beta2, eps, 0.0 if decoupled else weight_decay, decoupled=decoupled),
          param, grad, (first_moment, second_moment), rates)


def apply(optimizer: Optimizer, param: Array, grad: Array, slots: Mapping[str, Array], rates: Array,
          is_bias: bool = False, scale: tuple[float, float] = (1.0, 1.0), batch_weight: float = 1.0) -> None:
    """One step of any optimizer on one array, in place: the specification.

    slots       {name: array like param}, of `optimizer.slots`
    rates       a row of `optimizer.rates`
    is_bias     penalties are for weights, unless the optimizer says otherwise
    scale       two factors of the gradient, see `norm_scale`
    batch_weight    what the samples of the batch weigh
    """
    settings = optimizer.rule()
    _step(settings, param, grad, [slots[name] for name in optimizer.slots], rates, is_bias, scale,
          penalty_share(settings, batch_weight))


def penalty_share(settings: Settings, batch_weight: float) -> float:
    """A factor of the penalties: 1 over what the samples of a batch weigh, if they are divided by it."""
    if not settings.divide_penalty:
        return 1.0
    return 1 / batch_weight if batch_weight > 0 else 0.0


@quiet
def penalty(settings: Settings, param: Array, is_bias: bool = False) -> float:
    """weight_decay/2 |p|^2 + l1 |p|, whose gradient `_step` adds to that of the loss."""
    if is_bias and not settings.decay_biases:
        return 0.0
    p = param.astype(np.float64)
    decay = 0.0 if settings.decoupled else settings.weight_decay
    return float(decay / 2 * np.square(p).sum() if decay else 0.0) + float(
        settings.l1 * np.abs(p).sum() if settings.l1 else 0.0)


def norm_scale(limit: float | None, gradients: Sequence[Array]) -> tuple[float, float]:
    """A power of two and a factor whose product is min(1, limit / norm of all gradients together); 1, 1 where
    limit is None. Times the power, no gradient has a square that overflows, nor do all of them vanish."""
    if limit is None:
        return 1.0, 1.0
    largest = float(np.max([np.abs(g).max(initial=0) for g in gradients]))      # NaN, wherever it is
    if not 0 < largest < math.inf:
        return 1.0, 0.0 if largest == math.inf else 1.0
    exponent = max(-1022, min(1022, math.frexp(largest)[1]))
    power = math.ldexp(1.0, -exponent)
    norm = math.sqrt(sum(float(np.square(g.astype(np.float64) * power).sum()) for g in gradients))
    return (power, limit / norm) if norm > limit * power else (1.0, 1.0)


@quiet
def _step(settings: Settings, param: Array, grad: Array, slots: Sequence[Array | None],
          rates: Iterable[float], is_bias: bool = False, scale: tuple[float, float] = (1.0, 1.0),
          share: float = 1.0) -> None:
    """The formulas at the top of fastmlp/optimizers.py, and then the rule's."""
    lr, bias_correction, decoupled_decay = map(float, rates)    # numbers of Python: they do not widen float32
    g = grad
    if scale != (1.0, 1.0):
        g = g * scale[0] * scale[1]
    if settings.clip < math.inf:
        g = np.clip(g, -settings.clip, settings.clip)
    if not is_bias or settings.decay_biases:
        if settings.weight_decay and not settings.decoupled:
            g = g + settings.weight_decay * share * param
        if settings.l1:
            g = g + settings.l1 * share * np.sign(param)
        if settings.decoupled and decoupled_decay:
            param -= decoupled_decay * param
    param -= lr * _STEPS[settings.rule](settings, g, *slots[:ops.RULES[settings.rule].slots],
                                        bias_correction=bias_correction)


# The rules: each changes its slots in place and returns what the learning rate multiplies -----------------

def _sgd(settings: Settings, g: Array, *, bias_correction: float) -> Array:
    return g


def _momentum(settings: Settings, g: Array, velocity: Array, *, bias_correction: float) -> Array:
    velocity *= settings.beta1
    velocity += g
    return velocity


def _nesterov(settings: Settings, g: Array, velocity: Array, *, bias_correction: float) -> Array:
    ahead: Array = settings.beta1 * _momentum(settings, g, velocity, bias_correction=bias_correction)
    return g + ahead


def _adagrad(settings: Settings, g: Array, squares: Array, *, bias_correction: float) -> Array:
    squares += g * g
    step: Array = g / (np.sqrt(squares) + settings.eps)
    return step


def _rmsprop(settings: Settings, g: Array, squares: Array, *, bias_correction: float) -> Array:
    squares *= settings.beta2
    squares += (1 - settings.beta2) * g * g
    step: Array = g / (np.sqrt(squares) + settings.eps)
    return step


def _adam(settings: Settings, g: Array, first_moment: Array, second_moment: Array, *, bias_correction: float
          ) -> Array:
    first_moment *= settings.beta1
    first_moment += (1 - settings.beta1) * g
    second_moment *= settings.beta2
    second_moment += (1 - settings.beta2) * g * g
    step: Array = first_moment / (np.sqrt(second_moment) * bias_correction + settings.eps)
    return step


_NAMES = [f"_{rule.name}" for rule in ops.RULES if rule.name != "gradient"]
ops.complete(f"function in {__name__}", _NAMES, [name for name in _NAMES if name in globals()])
_STEPS: dict[int, Callable[..., Array]] = {CODES[name[1:]]: globals()[name] for name in _NAMES}
