"""The fully-connected network of the course."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import numpy as np

from fastmlp.compat import _arrays
from fastmlp.compat._spare import Spare
from fastmlp.compat._types import Array, Cache, Config
from fastmlp.compat.cs231n import layers

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

__all__ = ["FullyConnectedNet"]

LayerCaches = tuple[Cache, Cache | None, Array | None, Cache | None]


class FullyConnectedNet:
    """[affine, batch or layer norm, ReLU, dropout] for every hidden layer, affine, softmax.

    Parameters
    ----------
    hidden_dims : list of int
        Units of the hidden layers.
    input_dim : int, default 3072
        Numbers of a sample.
    num_classes : int, default 10
        Number of classes.
    dropout_keep_ratio : float, default 1
        Share of outputs that dropout keeps.
    normalization : {"batchnorm", "layernorm"}, optional
        Normalisation of the hidden layers.
    reg : float, default 0.0
        Factor of the penalty reg/2 |W|^2.
    weight_scale : float, default 1e-2
        Standard deviation of the initial weights, which come from ``np.random``.
    dtype : dtype, default np.float32
        Type of the parameters, and of what is computed.
    seed : int, optional
        What dropout sets ``np.random`` to before it draws.

    Attributes
    ----------
    params : dict
        W1, b1, (gamma1, beta1,) W2, ...
    """

    def __init__(self, hidden_dims: list[int], input_dim: int = 3 * 32 * 32, num_classes: int = 10,
                 dropout_keep_ratio: float = 1, normalization: str | None = None, reg: float = 0.0,
                 weight_scale: float = 1e-2, dtype: DTypeLike = np.float32, seed: int | None = None) -> None:
        if normalization not in (None, "batchnorm", "layernorm"):
            raise ValueError("normalization: expected None, 'batchnorm' or 'layernorm', got "
                             f"{normalization!r}")
        self.normalization = normalization
        self.use_dropout = dropout_keep_ratio != 1
        self.reg = reg
        self.num_layers = 1 + len(hidden_dims)
        self.dtype = dtype
        self.params: dict[str, Array] = {}
        self._spares = [Spare() for _ in range(self.num_layers)]
        sizes = [input_dim, *hidden_dims, num_classes]
        for i in range(1, self.num_layers + 1):
            self.params[f"W{i}"] = (np.random.randn(*sizes[i - 1:i + 1]) * weight_scale).astype(dtype)
            self.params[f"b{i}"] = np.zeros(sizes[i], dtype)
            if normalization and i < self.num_layers:
                self.params[f"gamma{i}"] = np.ones(sizes[i], dtype)
                self.params[f"beta{i}"] = np.zeros(sizes[i], dtype)
        self.dropout_param: Config = {}
        if self.use_dropout:
            self.dropout_param = {"mode": "train", "p": dropout_keep_ratio}
            if seed is not None:
                self.dropout_param["seed"] = seed
        self.bn_params: list[Config] = []
        if normalization:
            first = {"mode": "train"} if normalization == "batchnorm" else {}
            self.bn_params = [dict(first) for _ in hidden_dims]

    @overload
    def loss(self, X: ArrayLike, y: None = None) -> Array: ...

    @overload
    def loss(self, X: ArrayLike, y: Array) -> tuple[np.floating[Any], dict[str, Array]]: ...

    def loss(self, X: ArrayLike, y: Array | None = None
             ) -> Array | tuple[np.floating[Any], dict[str, Array]]:
        """Compute the loss and its gradients, or the scores.

        Parameters
        ----------
        X : array_like, shape (n, d_1, ..., d_k)
            Samples.
        y : ndarray of int, shape (n,), optional
            Class of every row. If not given, the scores are returned.

        Returns
        -------
        scores : ndarray, shape (n, num_classes)
            Scores, without ``y``.
        loss : floating
            Mean cross-entropy and penalty.
        grads : dict
            Gradients, under the names of ``params``.
        """
        mode = "test" if y is None else "train"
        if self.use_dropout:
            self.dropout_param["mode"] = mode
        if self.normalization == "batchnorm":
            for bn_param in self.bn_params:
                bn_param["mode"] = mode
        scores, caches = self._forward(np.asarray(X, dtype=self.dtype))
        if y is None:
            return scores
        loss, dout = layers.softmax_loss(scores, y)
        if self.reg:
            loss += 0.5 * self.reg * sum(_arrays.squared_norm(self.params[f"W{i}"])
                                         for i in range(1, self.num_layers + 1))
        return loss, self._backward(dout, caches)

    def _forward(self, out: Array) -> tuple[Array, list[LayerCaches]]:
        """Scores, and for every layer the caches of affine, normalisation, ReLU and dropout."""
        caches = []
        for i in range(1, self.num_layers + 1):
            norm = relu = dropout = None
            out, affine = layers.affine_forward(out, self.params[f"W{i}"], self.params[f"b{i}"])
            if i < self.num_layers:
                if self.normalization:
                    forward = (layers.batchnorm_forward if self.normalization == "batchnorm"
                               else layers.layernorm_forward)
                    out, norm = forward(out, self.params[f"gamma{i}"], self.params[f"beta{i}"],
                                        self.bn_params[i - 1])
                out, relu = layers.relu_forward(out)
                if self.use_dropout:
                    out, dropout = layers.dropout_forward(out, self.dropout_param)
            caches.append((affine, norm, relu, dropout))
        return out, caches

    def _backward(self, dout: Any, caches: list[LayerCaches]) -> dict[str, Array]:
        grads = {}
        for i in range(self.num_layers, 0, -1):
            affine, norm, relu, dropout = caches[i - 1]
            if dropout is not None:
                dout = layers.dropout_backward(dout, dropout)
            if relu is not None:
                dout = layers.relu_backward(dout, relu)
            if norm is not None:
                backward = (layers.batchnorm_backward if self.normalization == "batchnorm"
                            else layers.layernorm_backward)
                dout, grads[f"gamma{i}"], grads[f"beta{i}"] = backward(dout, norm)
            x, w, _ = affine        # nobody reads the gradient of the first x
            dout, dw, grads[f"b{i}"] = _arrays.dense_backward(
                dout, x.reshape(x.shape[0], -1), w, need_dx=i > 1, spare=self._spares[i - 1])
            grads[f"W{i}"] = dw + self.reg * self.params[f"W{i}"] if self.reg else dw
        return grads
