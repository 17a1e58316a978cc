"""Steps of the optimizers, in place."""
from __future__ import annotations

from ._common import quiet


@quiet
def sgd_update(param, grad, lr, momentum=0.0, velocity=None, nesterov=False, weight_decay=0.0):
    step = grad
    if weight_decay:
        step = step + weight_decay * param
    if momentum:
        velocity *= momentum
        velocity += step
        step = step + momentum * velocity if nesterov else velocity
    param -= lr * step
