"""The network of the book's ``common/multi_layer_net_extend.py``."""
from __future__ import annotations

import os
import sys
from collections import OrderedDict
from typing import Any

import numpy as np

from fastmlp.compat import _arrays
from fastmlp.compat._spare import Spare
from fastmlp.compat.dlfs import _network

from . import layers
from .gradient import numerical_gradient
from .layers import *  # noqa: F403
from .layers import Affine, BatchNormalization, Dropout, Relu, Sigmoid, SoftmaxWithLoss

__all__ = ["MultiLayerNetExtend", "numerical_gradient", "OrderedDict", "os", "sys", *layers.__all__]


class MultiLayerNetExtend:
    """`MultiLayerNet` with batch normalisation before and dropout after the activation of a hidden layer.

    ``params`` has gamma1, beta1, ... too. ``train_flg`` says whether the batch's mean is used and values are
    dropped; `gradient` has it on."""

    def __init__(self, input_size: int, hidden_size_list: list[int], output_size: int,
                 activation: str = "relu", weight_init_std: Any = "relu",
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

    def predict(self, x: Any, train_flg: bool = False) -> Any:
        """The scores of every row, before softmax."""
        for name, layer in self.layers.items():
            x = layer.forward(x, train_flg) if "Dropout" in name or "BatchNorm" in name else layer.forward(x)
        return x

    def loss(self, x: Any, t: Any, train_flg: bool = False) -> Any:
        y = self.predict(x, train_flg)
        penalty = _network.penalty(self.params, self.hidden_layer_num + 1, self.weight_decay_lambda)
        return self.last_layer.forward(y, t) + penalty

    def accuracy(self, x: Any, t: Any) -> Any:
        return _network.accuracy(self.predict(x), t)

    def numerical_gradient(self, x: Any, t: Any) -> dict[str, Any]:
        """`gradient` by central differences."""
        grads: dict[str, Any] = {}
        for i in range(1, self.hidden_layer_num + 2):
            normalized = self.use_batchnorm and i <= self.hidden_layer_num
            for name in ("W", "b", "gamma", "beta") if normalized else ("W", "b"):
                param = self.params[f"{name}{i}"]
                grads[f"{name}{i}"] = numerical_gradient(lambda _: self.loss(x, t, train_flg=True), param)
        return grads

    def gradient(self, x: Any, t: Any) -> dict[str, Any]:
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
