"""Estimators of ours in pipelines that skl2onnx converts."""
from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("sklearn")
pytest.importorskip("skl2onnx")
pytest.importorskip("onnxruntime")

import onnxruntime
import skl2onnx
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastmlp
from fastmlp.sklearn import MLPClassifier, MLPRegressor, register_skl2onnx

pytestmark = pytest.mark.filterwarnings("ignore")
rng = np.random.default_rng(0)
X = rng.standard_normal((60, 4)).astype("f4")
Y = np.arange(60) % 3
FAST = {"hidden_layer_sizes": (8, 5), "max_iter": 10, "random_state": 0}


def run(pipeline, **options):
    register_skl2onnx()
    model = skl2onnx.to_onnx(pipeline, X[:1], options=options or None)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"X": X})


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("labels", ["abc", [0, 1, 2], [3, 7]], ids=str)
def test_classifiers(activation, labels):
    y = np.array([*labels])[Y % len(labels)]
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(**FAST, activation=activation)).fit(X, y)
    predicted, probabilities = run(pipeline, zipmap=False)
    assert_array_equal(predicted, pipeline.predict(X))
    assert_allclose(probabilities, pipeline.predict_proba(X), atol=1e-5)
    assert isinstance(run(pipeline)[1], list)       # of dicts, by default


def test_several_labels():
    mlp = MLPClassifier(**FAST).fit(X, X[:, :3] > 0)
    assert_array_equal(run(mlp, zipmap=False)[0], mlp.predict(X))


def test_a_regressor():
    pipeline = make_pipeline(StandardScaler(), MLPRegressor(**FAST)).fit(X, X[:, 0])
    assert_allclose(run(pipeline)[0].ravel(), pipeline.predict(X), atol=1e-5)


@pytest.mark.parametrize("options, name", [
    ({"activation": "gelu"}, "activation"), ({"activation": ["relu", "tanh"]}, "activation"),
    ({"batch_norm": True}, "batch_norm")], ids=str)
def test_what_their_converters_do_not_have(options, name):
    with pytest.raises(ValueError, match=f"^{name}: skl2onnx has .*model_.to_onnx"):
        run(MLPClassifier(**FAST, **options).fit(X, Y))


def test_an_output_that_they_do_not_have():
    with pytest.raises(ValueError, match="^loss: skl2onnx has no output 'exp'"):
        run(MLPRegressor(**FAST, loss="poisson").fit(X, Y))


def test_without_it():
    code = """
import sys
sys.modules["skl2onnx"] = None
import fastmlp.sklearn
try:
    fastmlp.sklearn.register_skl2onnx()
except ImportError as error:
    assert "pip install skl2onnx" in str(error), error
else:
    raise SystemExit("no error")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_network_alone(tmp_path):
    mlp = MLPClassifier(**FAST, activation="gelu").fit(X, Y)
    mlp.model_.to_onnx(tmp_path / "net.onnx", output="proba")
    again = fastmlp.from_onnx(tmp_path / "net.onnx")
    assert_allclose(again.predict_proba(X), mlp.predict_proba(X), atol=1e-6)
