"""A model on NumPy: the specification of the compiled engine."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastmlp.activations import Activation
from fastmlp.layout import Parameters
from fastmlp.losses import Loss
from fastmlp.optimizers import SGD

from .layers import dense_backward, dense_forward
from .losses import loss_and_gradient
from .updates import sgd_update


class Engine:
    """A network over a buffer of parameters: the forward pass, gradients, and runs of minibatches.

    x is a table (n, inputs) of any numeric dtype, converted to the parameters' dtype batch by batch; targets
    are class indices (n,) as intp, or rows (n, outputs) of any numeric dtype. Arguments have been checked.
    `threads` is for compiled backends.
    """

    def __init__(self, parameters: Parameters, activations: Sequence[Activation], loss: Loss) -> None:
        self._parameters = parameters
        self._activations = activations
        self._loss = loss
        loss.pos_weights(parameters.sizes[-1], parameters.dtype)        # raises where they do not fit

    def workspace_nbytes(self, batch_size: int) -> int:
        """Bytes of one step's arrays: activations, deltas and gradients, roughly."""
        itemsize = self._parameters.dtype.itemsize
        return itemsize * 2 * batch_size * sum(self._parameters.sizes) + self._parameters.buffer.nbytes

    def forward(self, x: Any, out: Any, threads: int = 1) -> bool:
        """out = the last layer's values of every row."""
        for start in range(0, len(x), 1024):
            rows = slice(start, start + 1024)
            out[rows] = self._forward(x[rows].astype(self._parameters.dtype, copy=False))[-1]
        return True

    def gradients(self, x: Any, targets: Any, gradients: Parameters, threads: int = 1) -> float:
        """The mean loss, and its gradients in a buffer laid out like the parameters."""
        dtype = self._parameters.dtype
        y = self._forward(x.astype(dtype, copy=False))
        loss, dy = loss_and_gradient(
            self._loss, y[-1], targets if targets.ndim == 1 else targets.astype(dtype, copy=False))
        weights = self._parameters.weights
        for i in reversed(range(len(weights))):
            dy, gradients.weights[i][...], gradients.biases[i][...] = dense_backward(
                dy, y[i], weights[i], y[i + 1], self._activations[i])
        return loss

    def train(self, x: Any, targets: Any, order: Any, batch_size: int, first: int, last: int,
              optimizer: SGD, velocity: Parameters | None, total: float = 0.0, threads: int = 1) -> float:
        """Steps first..last - 1 over the samples in `order` (None: as they come), batch_size samples each.
        Returns `total` plus the losses of all samples seen."""
        n = len(x) if order is None else len(order)
        gradients = Parameters(self._parameters.sizes, self._parameters.dtype)
        for step in range(first, last):
            rows: Any = slice(step * batch_size, min((step + 1) * batch_size, n))
            size = rows.stop - rows.start
            if order is not None:
                rows = order[rows]
            total += self.gradients(x[rows], targets[rows], gradients) * size
            for i in range(len(gradients.weights)):
                for kind, decay in (("weights", optimizer.weight_decay), ("biases", 0.0)):
                    sgd_update(getattr(self._parameters, kind)[i], getattr(gradients, kind)[i], optimizer.lr,
                               optimizer.momentum, getattr(velocity, kind)[i] if velocity else None,
                               optimizer.nesterov, decay)
        return total

    def _forward(self, x: Any) -> list[Any]:
        """x and the outputs of all layers."""
        y = [x]
        for w, b, activation in zip(self._parameters.weights, self._parameters.biases, self._activations):
            y.append(dense_forward(y[-1], w, b, activation))
        return y
