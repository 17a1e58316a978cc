"""From ONNX: graphs of fully-connected networks as an `MLP`. `MLP.to_onnx` writes such files.

What PyTorch, Keras and skl2onnx make of linear layers, batch normalisation and activations is folded into the
layers of a model: Linear, BatchNorm, activation, dropout. Any other node is refused by its name.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from fastmlp.model import MLP

if TYPE_CHECKING:
    import onnx

    from fastmlp._core.types import LossLike, Path

__all__ = ["from_onnx"]


def from_onnx(
    path: Path | onnx.ModelProto,
    loss: LossLike | None = None,
    *,
    output: str | None = None,
    seed: int | None = None,
) -> MLP:
    """Make a model of an ONNX file.

    Parameters
    ----------
    path : str, bytes, os.PathLike or onnx.ModelProto
        File, with its external data beside it if it has any; or a model in memory.
    loss : str, Loss, class or callable, optional
        Loss, as for `MLP`. If not given, that which belongs to the last node: "cross_entropy" for Softmax and
        LogSoftmax, "binary_cross_entropy" for Sigmoid, "poisson" for Exp, else "mean_squared_error".
    output : str, optional
        Name of the output to read, or of any other value in the graph; needed where the graph has several
        outputs. Nodes that it does not depend on are not looked at.
    seed : int, optional
        Seed of shuffling and dropout. A fresh one if not given.

    Returns
    -------
    MLP
        Model of the dtype of the weights.

    Raises
    ------
    ImportError
        Where the package onnx is missing.
    OSError
        Where the file, or that of its external data, cannot be read.
    TypeError
        For a path of another type.
    ValueError
        For a file that is not ONNX, damaged, or of 2 GiB and more; for a graph with several inputs, or with
        several outputs and no ``output``; for a node that fits no layer of an `MLP`, with its name; for a
        loss that does not belong to the function at the end.

    Warns
    -----
    UserWarning
        Where predictions are the same but training is not: batch normalisation and dropout in other places,
        and an activation at the end.

    See Also
    --------
    fastmlp.MLP.to_onnx : Write such files.

    Notes
    -----
    `MLP.forward` returns what the graph does, to rounding; after a Softmax, LogSoftmax, Sigmoid or Exp at the
    end it returns what goes into that, and `MLP.predict_proba` (of Exp, `MLP.predict`) what comes out.

    Read are Gemm, MatMul, Add, Sub, Mul, Div, Neg, BatchNormalization and Scaler with constants; Relu,
    LeakyRelu, Elu, Selu, Sigmoid, Tanh, Softplus, Gelu, Swish, and the expressions of Erf, Exp, Log, Pow,
    Sqrt, Abs and Reciprocal that have the values of an activation; Dropout, Flatten, Reshape, Cast, Identity,
    Constant; Softmax and LogSoftmax at the end; and the two columns of scikit-learn's binary classifiers,
    which become two classes.

    References
    ----------
    The operators: https://onnx.ai/onnx/operators/

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("onnx")
    >>> model = MLP([4, 8, 3], activation="gelu", seed=0)
    >>> model.to_onnx("net.onnx", output="proba")  # doctest: +SKIP
    >>> from_onnx("net.onnx")  # doctest: +SKIP
    MLP([4, 8, 3], activation=['gelu'], loss='cross_entropy', dtype='float32')
    """
    from fastmlp._exchange.onnx_nodes import from_graph  # here, for most programs read none

    return from_graph(path, loss, output, seed)
