"""Steps of the optimizers, in place."""
from __future__ import annotations

import math
from typing import Any

from ._kernels import DECLINE, KERNELS, contiguous, numbers, plain


def sgd_update(param: Any, grad: Any, lr: Any, momentum: Any = 0.0, velocity: Any = None,
               nesterov: Any = False, weight_decay: Any = 0.0) -> Any:
    try:
        if not (numbers(lr, momentum, weight_decay) and 0 <= momentum <= 1
                and 0 <= weight_decay < math.inf and 0 <= lr < math.inf):
            return NotImplemented
        arrays = (param, grad) if velocity is None else (param, grad, velocity)
        fits = plain(*arrays) and contiguous(*arrays) and all(a.shape == param.shape for a in arrays)
        if fits and KERNELS[param.dtype.char].sgd_update(
                param.reshape(-1), grad.reshape(-1), lr, momentum,
                None if velocity is None else velocity.reshape(-1), nesterov, weight_decay):
            return None
    except DECLINE:
        pass
    return NotImplemented
