"""The network of the book's ``common/multi_layer_net.py``."""
from __future__ import annotations

import os
import sys
from collections import OrderedDict
from typing import Any

from fastmlp.compat import _arrays
from fastmlp.compat._spare import Spare
from fastmlp.compat.dlfs import _network

from . import layers
from .gradient import numerical_gradient
from .layers import *  # noqa: F403
from .layers import Affine, Relu, Sigmoid, SoftmaxWithLoss

__all__ = ["MultiLayerNet", "numerical_gradient", "OrderedDict", "os", "sys", *layers.__all__]


class MultiLayerNet:
    """A fully-connected network: [Affine, Relu or Sigmoid] for every hidden layer, Affine, SoftmaxWithLoss.

    ``params`` holds W1, b1, W2, ..., which the layers share. `loss` is the mean cross entropy and
    ``weight_decay_lambda``/2 times the sum of all squared weights; `gradient` is its gradient, in a dict with
    the same keys."""

    def __init__(self, input_size: int, hidden_size_list: list[int], output_size: int,
                 activation: str = "relu", weight_init_std: Any = "relu",
                 weight_decay_lambda: float = 0) -> None:
        self.input_size = input_size
        self.output_size = output_size
        self.hidden_size_list = hidden_size_list
        self.hidden_layer_num = len(hidden_size_list)
        self.weight_decay_lambda = weight_decay_lambda
        self.params = _network.initial_params([input_size, *hidden_size_list, output_size], weight_init_std)
        activations = {"sigmoid": Sigmoid, "relu": Relu}
        self.layers: OrderedDict[str, Any] = OrderedDict()
        for i in range(1, self.hidden_layer_num + 2):
            self.layers[f"Affine{i}"] = Affine(self.params[f"W{i}"], self.params[f"b{i}"])
            if i <= self.hidden_layer_num:
                self.layers[f"Activation_function{i}"] = activations[activation]()
        self.last_layer = SoftmaxWithLoss()
        self._spares = {name: Spare() for name in self.params if name[0] == "W"}

    def predict(self, x: Any) -> Any:
        """The scores of every row, before softmax."""
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def loss(self, x: Any, t: Any) -> Any:
        y = self.predict(x)
        penalty = _network.penalty(self.params, self.hidden_layer_num + 1, self.weight_decay_lambda)
        return self.last_layer.forward(y, t) + penalty

    def accuracy(self, x: Any, t: Any) -> Any:
        return _network.accuracy(self.predict(x), t)

    def numerical_gradient(self, x: Any, t: Any) -> dict[str, Any]:
        """`gradient` by central differences."""
        return {f"{name}{i}": numerical_gradient(lambda _: self.loss(x, t), self.params[f"{name}{i}"])
                for i in range(1, self.hidden_layer_num + 2) for name in "Wb"}

    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
        self.loss(x, t)
        _network.backward(list(self.layers.values()), self.last_layer.backward(1))
        grads: dict[str, Any] = {}
        for i in range(1, self.hidden_layer_num + 2):
            layer = self.layers[f"Affine{i}"]
            grads[f"W{i}"] = _arrays.l2_gradient(layer.dW, layer.W, self.weight_decay_lambda,
                                                 self._spares[f"W{i}"])
            grads[f"b{i}"] = layer.db
        return grads
