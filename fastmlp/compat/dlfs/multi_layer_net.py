"""The network of the book's ``common/multi_layer_net.py``."""
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

__all__ = ["MultiLayerNet", "numerical_gradient", "OrderedDict", "os", "sys", *layers.__all__]


class MultiLayerNet(_network.Network):
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
        super().__init__(input_size, hidden_size_list, output_size, activation, weight_init_std,
                         weight_decay_lambda)

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
        return _network.loss(self, self.predict(x), t)

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
        return _network.differences(self, lambda _: self.loss(x, t))

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
        return _network.gradients(self, lambda i: self.layers[f"Affine{i}"].W)
