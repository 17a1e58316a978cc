"""Steps of the optimizers, in place."""
from __future__ import annotations

import math

import numpy as np

from fastmlp.kernels import ops
from fastmlp.optimizers import CODES, Settings, adam_rates

from ._common import quiet


def sgd_update(param, grad, lr, momentum=0.0, velocity=None, nesterov=False, weight_decay=0.0):
    rule = "sgd" if not momentum else "nesterov" if nesterov else "momentum"
    _step(Settings(CODES[rule], beta1=momentum, weight_decay=weight_decay), param, grad, (velocity,),
          (lr, 1.0, 0.0))


def adagrad_update(param, grad, lr, squares, eps=1e-10, weight_decay=0.0):
    _step(Settings(CODES["adagrad"], eps=eps, weight_decay=weight_decay), param, grad, (squares,),
          (lr, 1.0, 0.0))


def rmsprop_update(param, grad, lr, squares, rho=0.99, eps=1e-8, weight_decay=0.0):
    _step(Settings(CODES["rmsprop"], beta2=rho, eps=eps, weight_decay=weight_decay), param, grad, (squares,),
          (lr, 1.0, 0.0))


def adam_update(param, grad, lr, first_moment, second_moment, step, beta1=0.9, beta2=0.999, eps=1e-8,
                weight_decay=0.0, decoupled=False):
    rates = adam_rates(lr, beta1, beta2, step, lr * weight_decay if decoupled else 0.0)
    _step(Settings(CODES["adam"], beta1, beta2, eps, 0.0 if decoupled else weight_decay, decoupled=decoupled),
          param, grad, (first_moment, second_moment), rates)


def apply(optimizer, param, grad, slots, rates, is_bias=False, scale=(1.0, 1.0)):
    """One step of any optimizer on one array, in place: the specification.

    slots       {name: array like param}, of `optimizer.slots`
    rates       a row of `optimizer.rates`
    is_bias     penalties are for weights, unless the optimizer says otherwise
    scale       two factors of the gradient, see `norm_scale`
    """
    _step(optimizer.rule(), param, grad, [slots[name] for name in optimizer.slots], rates, is_bias, scale)


def norm_scale(limit, gradients):
    """A power of two and a factor whose product is min(1, limit / norm of all gradients together); 1, 1 where
    limit is None. Times the power, no gradient has a square that overflows, nor do all of them vanish."""
    largest = 0.0 if limit is None else max(float(np.abs(g).max(initial=0)) for g in gradients)
    if not 0 < largest < math.inf:
        return 1.0, 0.0 if largest == math.inf else 1.0
    exponent = max(-1022, min(1022, math.frexp(largest)[1]))
    power = math.ldexp(1.0, -exponent)
    norm = math.sqrt(sum(float(np.square(g.astype(np.float64) * power).sum()) for g in gradients))
    return (power, limit / norm) if norm > limit * power else (1.0, 1.0)


@quiet
def _step(settings, param, grad, slots, rates, is_bias=False, scale=(1.0, 1.0)):
    """The formulas at the top of fastmlp/optimizers.py, and then the rule's."""
    lr, bias_correction, decoupled_decay = map(float, rates)    # numbers of Python: they do not widen float32
    g = grad
    if scale != (1.0, 1.0):
        g = g * scale[0] * scale[1]
    if settings.clip < math.inf:
        g = np.clip(g, -settings.clip, settings.clip)
    if not is_bias or settings.decay_biases:
        if settings.weight_decay and not settings.decoupled:
            g = g + settings.weight_decay * param
        if settings.l1:
            g = g + settings.l1 * np.sign(param)
        if settings.decoupled and decoupled_decay:
            param -= decoupled_decay * param
    param -= lr * _STEPS[settings.rule](settings, g, *slots[:ops.RULES[settings.rule].slots],
                                        bias_correction=bias_correction)


# The rules: each changes its slots in place and returns what the learning rate multiplies -----------------

def _sgd(settings, g, *, bias_correction):
    return g


def _momentum(settings, g, velocity, *, bias_correction):
    velocity *= settings.beta1
    velocity += g
    return velocity


def _nesterov(settings, g, velocity, *, bias_correction):
    return g + settings.beta1 * _momentum(settings, g, velocity, bias_correction=bias_correction)


def _adagrad(settings, g, squares, *, bias_correction):
    squares += g * g
    return g / (np.sqrt(squares) + settings.eps)


def _rmsprop(settings, g, squares, *, bias_correction):
    squares *= settings.beta2
    squares += (1 - settings.beta2) * g * g
    return g / (np.sqrt(squares) + settings.eps)


def _adam(settings, g, first_moment, second_moment, *, bias_correction):
    first_moment *= settings.beta1
    first_moment += (1 - settings.beta1) * g
    second_moment *= settings.beta2
    second_moment += (1 - settings.beta2) * g * g
    return first_moment / (np.sqrt(second_moment) * bias_correction + settings.eps)


_NAMES = [f"_{rule.name}" for rule in ops.RULES if rule.name != "gradient"]
ops.complete(f"function in {__name__}", _NAMES, [name for name in _NAMES if name in globals()])
_STEPS = {CODES[name[1:]]: globals()[name] for name in _NAMES}
