"""The network of the book's ``common/multi_layer_net_extend.py``."""
from __future__ import annotations

import os
import sys
from collections import OrderedDict
from typing import Any

import numpy as np

from fastmlp.compat._types import Array
from fastmlp.compat.dlfs import _network

from . import layers
from .gradient import numerical_gradient
from .layers import *  # noqa: F403

__all__ = ["MultiLayerNetExtend", "numerical_gradient", "OrderedDict", "os", "sys", *layers.__all__]


class MultiLayerNetExtend(_network.Network):
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
        self.use_dropout = use_dropout
        self.use_batchnorm = use_batchnorm
        super().__init__(input_size, hidden_size_list, output_size, activation, weight_init_std,
                         weight_decay_lambda, use_batchnorm, dropout_ration if use_dropout else None)

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
        return _network.loss(self, self.predict(x, train_flg), t)

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
        return _network.differences(self, lambda _: self.loss(x, t, train_flg=True))

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
        return _network.gradients(self, lambda i: self.params[f"W{i}"])
