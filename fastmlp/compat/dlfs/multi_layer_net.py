"""The network of the book's ``common/multi_layer_net.py``."""
from __future__ import annotations

import os
import sys
from collections import OrderedDict
from typing import Any

import numpy as np

from fastmlp.compat import _arrays
from fastmlp.compat._spare import Spare
from fastmlp.compat._types import Array
from fastmlp.compat.dlfs import _network

from . import layers
from .gradient import numerical_gradient
from .layers import *  # noqa: F403
from .layers import Affine, Relu, Sigmoid, SoftmaxWithLoss

__all__ = ["MultiLayerNet", "numerical_gradient", "OrderedDict", "os", "sys", *layers.__all__]


class MultiLayerNet:
    """[Affine, Relu or Sigmoid] for every hidden layer, Affine, SoftmaxWithLoss.

    Parameters
    ----------
    input_size : int
        Numbers of a sample.
    hidden_size_list : list of int
        Units of the hidden layers.
    output_size : int
        Number of classes.
    activation : {"relu", "sigmoid"}, default "relu"
        Activation of the hidden layers.
    weight_init_std : float or str, default "relu"
        Standard deviation of the initial weights; or sqrt(2/inputs) for "relu" and "he", sqrt(1/inputs) for
        "sigmoid" and "xavier".
    weight_decay_lambda : float, default 0
        Factor of the penalty weight_decay_lambda/2 |W|^2.

    Attributes
    ----------
    params : dict
        W1, b1, W2, ..., which the layers share.
    layers : OrderedDict
        Layers by name.
    """

    def __init__(self, input_size: int, hidden_size_list: list[int], output_size: int,
                 activation: str = "relu", weight_init_std: float | str = "relu",
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

    def predict(self, x: Array) -> Array:
        """Compute the scores of every row, before softmax.

        Parameters
        ----------
        x : ndarray, shape (n, d_1, ..., d_k)
            Samples.

        Returns
        -------
        ndarray, shape (n, classes)
            Scores.
        """
        for layer in self.layers.values():
            x = layer.forward(x)
        return x

    def loss(self, x: Array, t: Array) -> np.floating[Any]:
        """Compute the mean cross-entropy and the penalty.

        Parameters
        ----------
        x : ndarray, shape (n, d_1, ..., d_k)
            Samples.
        t : ndarray, shape (n,) or (n, classes)
            Class indices, or one-hot rows.

        Returns
        -------
        floating
            Loss.
        """
        y = self.predict(x)
        penalty = _network.penalty(self.params, self.hidden_layer_num + 1, self.weight_decay_lambda)
        return self.last_layer.forward(y, t) + penalty

    def accuracy(self, x: Array, t: Array) -> np.floating[Any]:
        """Compute the share of rows whose largest score is at the class.

        Parameters
        ----------
        x : ndarray, shape (n, d_1, ..., d_k)
            Samples.
        t : ndarray, shape (n,) or (n, classes)
            Class indices, or one-hot rows.

        Returns
        -------
        floating
            The share.
        """
        return _network.accuracy(self.predict(x), t)

    def numerical_gradient(self, x: Array, t: Array) -> dict[str, Array]:
        """Compute `gradient` by central differences.

        Parameters
        ----------
        x : ndarray, shape (n, d_1, ..., d_k)
            Samples.
        t : ndarray, shape (n,) or (n, classes)
            Class indices, or one-hot rows.

        Returns
        -------
        dict
            Gradients, under the names of ``params``.
        """
        return {f"{name}{i}": numerical_gradient(lambda _: self.loss(x, t), self.params[f"{name}{i}"])
                for i in range(1, self.hidden_layer_num + 2) for name in "Wb"}

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        """Compute the gradient of the loss.

        Parameters
        ----------
        x : ndarray, shape (n, d_1, ..., d_k)
            Samples.
        t : ndarray, shape (n,) or (n, classes)
            Class indices, or one-hot rows.

        Returns
        -------
        dict
            Gradients, under the names of ``params``.
        """
        self.loss(x, t)
        _network.backward(list(self.layers.values()), self.last_layer.backward(1))
        grads: dict[str, Any] = {}
        for i in range(1, self.hidden_layer_num + 2):
            layer = self.layers[f"Affine{i}"]
            grads[f"W{i}"] = _arrays.l2_gradient(layer.dW, layer.W, self.weight_decay_lambda,
                                                 self._spares[f"W{i}"])
            grads[f"b{i}"] = layer.db
        return grads
