"""What the two networks of the book have in common."""
from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastmlp.compat import _arrays
from fastmlp.compat._spare import Spare
from fastmlp.compat._types import Array

from .gradient import numerical_gradient
from .layers import Affine, BatchNormalization, Dropout, Relu, Sigmoid, SoftmaxWithLoss

__all__ = ["Network", "differences", "gradients", "loss"]


class Network:
    """[Affine, BatchNormalization, Relu or Sigmoid, Dropout] for every hidden layer, Affine, SoftmaxWithLoss;
    batch normalisation and dropout where they are asked for."""

    def __init__(self, input_size: int, hidden_size_list: list[int], output_size: int, activation: str,
                 weight_init_std: Any, weight_decay_lambda: Any, use_batchnorm: bool = False,
                 dropout_ratio: float | None = None) -> None:
        self.input_size = input_size
        self.output_size = output_size
        self.hidden_size_list = hidden_size_list
        self.hidden_layer_num = len(hidden_size_list)
        self.weight_decay_lambda = weight_decay_lambda
        self.params = _initial_params([input_size, *hidden_size_list, output_size], weight_init_std)
        self.layers: OrderedDict[str, Any] = OrderedDict()
        for i, units in enumerate(hidden_size_list, start=1):
            self.layers[f"Affine{i}"] = Affine(self.params[f"W{i}"], self.params[f"b{i}"])
            if use_batchnorm:
                gamma = self.params[f"gamma{i}"] = np.ones(units)
                beta = self.params[f"beta{i}"] = np.zeros(units)
                self.layers[f"BatchNorm{i}"] = BatchNormalization(gamma, beta)
            self.layers[f"Activation_function{i}"] = {"sigmoid": Sigmoid, "relu": Relu}[activation]()
            if dropout_ratio is not None:
                self.layers[f"Dropout{i}"] = Dropout(dropout_ratio)
        last = self.hidden_layer_num + 1
        self.layers[f"Affine{last}"] = Affine(self.params[f"W{last}"], self.params[f"b{last}"])
        self.last_layer = SoftmaxWithLoss()
        self._spares = {i: Spare() for i in range(1, last + 1)}

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
        y = self.predict(x)
        if t.ndim != 1:
            t = np.argmax(t, axis=1)
        return np.sum(np.argmax(y, axis=1) == t) / float(len(y))


def _initial_params(sizes: list[int], weight_init_std: Any) -> dict[str, Any]:
    """W1, b1, W2, ... from ``np.random``: of standard deviation sqrt(2/inputs) for "relu" or "he",
    sqrt(1/inputs) for "sigmoid" or "xavier", else the number; biases 0."""
    gains = {"relu": 2.0, "he": 2.0, "sigmoid": 1.0, "xavier": 1.0}
    gain = gains.get(str(weight_init_std).lower())
    params: dict[str, Any] = {}
    for i in range(1, len(sizes)):
        scale = weight_init_std if gain is None else np.sqrt(gain / sizes[i - 1])
        params[f"W{i}"] = scale * np.random.randn(sizes[i - 1], sizes[i])
        params[f"b{i}"] = np.zeros(sizes[i])
    return params


def loss(network: Network, y: Array, t: Array) -> Any:
    """The mean cross-entropy of the scores y, and the penalty weight_decay_lambda/2 |W|^2."""
    factor, penalty = network.weight_decay_lambda, 0
    if not (isinstance(factor, (int, float)) and factor == 0):
        penalty = sum(0.5 * factor * _arrays.squared_norm(network.params[f"W{i}"])
                      for i in range(1, network.hidden_layer_num + 2))
    return network.last_layer.forward(y, t) + penalty


def gradients(network: Network, penalised: Callable[[int], Array]) -> dict[str, Array]:
    """Of the last loss, under the names of the parameters. `penalised` returns the weights of a layer.

    The first layer's gradient of the input, which nobody reads, is left out.
    """
    dout = network.last_layer.backward(1)
    first, *others = network.layers.values()
    for layer in reversed(others):
        dout = layer.backward(dout)
    if type(first) is Affine:
        first.backward_parameters(dout)
    else:
        first.backward(dout)
    grads: dict[str, Any] = {}
    for i, affine, norm in _layers(network):
        grads[f"W{i}"] = _arrays.l2_gradient(affine.dW, penalised(i), network.weight_decay_lambda,
                                             network._spares[i])
        grads[f"b{i}"] = affine.db
        if norm is not None:
            grads[f"gamma{i}"], grads[f"beta{i}"] = norm.dgamma, norm.dbeta
    return grads


def differences(network: Network, loss: Callable[[Any], Any]) -> dict[str, Array]:
    """`gradients` by central differences of the loss, a function of any argument."""
    grads: dict[str, Any] = {}
    for i, _, norm in _layers(network):
        for name in ("W", "b") if norm is None else ("W", "b", "gamma", "beta"):
            grads[f"{name}{i}"] = numerical_gradient(loss, network.params[f"{name}{i}"])
    return grads


def _layers(network: Network) -> Iterator[tuple[int, Any, Any]]:
    """The number of every layer, its Affine, and its BatchNormalization or None."""
    for i in range(1, network.hidden_layer_num + 2):
        yield i, network.layers[f"Affine{i}"], network.layers.get(f"BatchNorm{i}")
