"""The network of the book's ``common/multi_layer_net_extend.py``."""
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
from .layers import Affine, BatchNormalization, Dropout, Relu, Sigmoid, SoftmaxWithLoss

__all__ = ["MultiLayerNetExtend", "numerical_gradient", "OrderedDict", "os", "sys", *layers.__all__]


class MultiLayerNetExtend:
    """[Affine, BatchNormalization, Relu or Sigmoid, Dropout] for every hidden layer, Affine, SoftmaxWithLoss.

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
    use_dropout : bool, default False
        Whether hidden layers have dropout, after the activation.
    dropout_ration : float, default 0.5
        Share of the numbers that become 0.
    use_batchnorm : bool, default False
        Whether hidden layers have batch normalisation, before the activation.

    Attributes
    ----------
    params : dict
        W1, b1, (gamma1, beta1,) W2, ..., which the layers share.
    layers : OrderedDict
        Layers by name.
    """

    def __init__(self, input_size: int, hidden_size_list: list[int], output_size: int,
                 activation: str = "relu", weight_init_std: float | str = "relu",
                 weight_decay_lambda: float = 0, use_dropout: bool = False,
                 dropout_ration: float = 0.5, use_batchnorm: bool = False) -> None:
        self.input_size = input_size
        self.output_size = output_size
        self.hidden_size_list = hidden_size_list
        self.hidden_layer_num = len(hidden_size_list)
        self.use_dropout = use_dropout
        self.weight_decay_lambda = weight_decay_lambda
        self.use_batchnorm = use_batchnorm
        self.params = _network.initial_params([input_size, *hidden_size_list, output_size], weight_init_std)
        activations = {"sigmoid": Sigmoid, "relu": Relu}
        self.layers: OrderedDict[str, Any] = OrderedDict()
        for i in range(1, self.hidden_layer_num + 2):
            self.layers[f"Affine{i}"] = Affine(self.params[f"W{i}"], self.params[f"b{i}"])
            if i > self.hidden_layer_num:
                break
            if use_batchnorm:
                gamma = self.params[f"gamma{i}"] = np.ones(hidden_size_list[i - 1])
                beta = self.params[f"beta{i}"] = np.zeros(hidden_size_list[i - 1])
                self.layers[f"BatchNorm{i}"] = BatchNormalization(gamma, beta)
            self.layers[f"Activation_function{i}"] = activations[activation]()
            if use_dropout:
                self.layers[f"Dropout{i}"] = Dropout(dropout_ration)
        self.last_layer = SoftmaxWithLoss()
        self._spares = {name: Spare() for name in self.params if name[0] == "W"}

    def predict(self, x: Array, train_flg: bool = False) -> Array:
        """Compute the scores of every row, before softmax.

        Parameters
        ----------
        x : ndarray, shape (n, d_1, ..., d_k)
            Samples.
        train_flg : bool, default False
            Whether this is training.

        Returns
        -------
        ndarray, shape (n, classes)
            Scores.
        """
        for name, layer in self.layers.items():
            x = layer.forward(x, train_flg) if "Dropout" in name or "BatchNorm" in name else layer.forward(x)
        return x

    def loss(self, x: Array, t: Array, train_flg: bool = False) -> np.floating[Any]:
        """Compute the mean cross-entropy and the penalty.

        Parameters
        ----------
        x : ndarray, shape (n, d_1, ..., d_k)
            Samples.
        t : ndarray, shape (n,) or (n, classes)
            Class indices, or one-hot rows.
        train_flg : bool, default False
            Whether this is training.

        Returns
        -------
        floating
            Loss.
        """
        y = self.predict(x, train_flg)
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
        grads: dict[str, Any] = {}
        for i in range(1, self.hidden_layer_num + 2):
            normalized = self.use_batchnorm and i <= self.hidden_layer_num
            for name in ("W", "b", "gamma", "beta") if normalized else ("W", "b"):
                param = self.params[f"{name}{i}"]
                grads[f"{name}{i}"] = numerical_gradient(lambda _: self.loss(x, t, train_flg=True), param)
        return grads

    def gradient(self, x: Array, t: Array) -> dict[str, Array]:
        """Compute the gradient of the loss, in training.

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
        self.loss(x, t, train_flg=True)
        _network.backward(list(self.layers.values()), self.last_layer.backward(1))
        grads: dict[str, Any] = {}
        for i in range(1, self.hidden_layer_num + 2):
            affine, params = self.layers[f"Affine{i}"], self.params
            grads[f"W{i}"] = _arrays.l2_gradient(affine.dW, params[f"W{i}"], self.weight_decay_lambda,
                                                 self._spares[f"W{i}"])
            grads[f"b{i}"] = affine.db
            if self.use_batchnorm and i <= self.hidden_layer_num:
                grads[f"gamma{i}"] = self.layers[f"BatchNorm{i}"].dgamma
                grads[f"beta{i}"] = self.layers[f"BatchNorm{i}"].dbeta
        return grads
