"""Our estimators in what skl2onnx converts: with its own converters of scikit-learn's, whose attributes they
have."""
from __future__ import annotations

from importlib import import_module
from typing import Any

from fastmlp.sklearn._classifier import MLPClassifier
from fastmlp.sklearn._regressor import MLPRegressor

__all__ = ["register_skl2onnx"]

ACTIVATIONS = ("identity", "logistic", "tanh", "relu")      # that the converters know


def register_skl2onnx() -> None:
    """Have ``skl2onnx.to_onnx`` convert pipelines that hold estimators of this library.

    Raises
    ------
    ImportError
        Without the package skl2onnx.

    See Also
    --------
    fastmlp.MLP.to_onnx : Write the network ``model_`` of an estimator, whatever it is made of.

    Notes
    -----
    Of the estimators, those are converted that scikit-learn could have: with one of its activations for all
    hidden layers, its losses, and no batch normalisation. Any other raises a ValueError when it is converted.

    References
    ----------
    https://onnx.ai/sklearn-onnx

    Examples
    --------
    >>> from fastmlp.sklearn import register_skl2onnx
    >>> register_skl2onnx()     # doctest: +SKIP
    """
    try:
        package = import_module("skl2onnx")
    except ImportError as error:
        raise ImportError(f"register_skl2onnx needs the package skl2onnx ({error}): pip install skl2onnx"
                          ) from None
    shapes = import_module("skl2onnx.common.shape_calculator")
    converters = import_module("skl2onnx.operator_converters.multilayer_perceptron")
    package.update_registered_converter(
        MLPClassifier, "FastMLPClassifier", shapes.calculate_linear_classifier_output_shapes,
        _checked(converters.convert_sklearn_mlp_classifier),
        options={"zipmap": [True, False, "columns"], "output_class_labels": [False, True],
                 "nocl": [True, False]})
    package.update_registered_converter(
        MLPRegressor, "FastMLPRegressor", shapes.calculate_linear_regressor_output_shapes,
        _checked(converters.convert_sklearn_mlp_regressor))


def _checked(convert: Any) -> Any:
    """A converter of skl2onnx, for estimators that are what it takes them for."""
    def converter(scope: Any, operator: Any, container: Any) -> None:
        estimator = operator.raw_operator
        if estimator.activation not in ACTIVATIONS:
            raise ValueError(f"activation: skl2onnx has {', '.join(ACTIVATIONS)}, got "
                             f"{estimator.activation!r}; model_.to_onnx writes any network")
        if any(scales is not None for scales in estimator.model_.scales):
            raise ValueError("batch_norm: skl2onnx has none; model_.to_onnx writes any network")
        if estimator.out_activation_ not in (*ACTIVATIONS, "softmax"):
            raise ValueError(f"loss: skl2onnx has no output {estimator.out_activation_!r}; model_.to_onnx "
                             "writes any network")
        convert(scope, operator, container)

    return converter
