"""Names and keywords that users know from elsewhere: taken, or answered with the one to write."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastmlp
from fastmlp import (
    LBFGS,
    MLP,
    SGD,
    AdaGrad,
    Adam,
    AdamW,
    BatchNorm,
    Checkpoint,
    EarlyStopping,
    RMSprop,
    activations,
    initializers,
    losses,
    metrics,
    schedules,
)
from fastmlp._core import names

pytestmark = pytest.mark.any_isa

X, Y = np.eye(4), np.array([0, 1, 2, 0])


def fit(model=None, **options):
    options = {"epochs": 1, "batch_size": 2, "optimizer": SGD(0.1), "progress": False, **options}
    return (MLP([4, 3], seed=0) if model is None else model).fit(X, Y, **options)


# Names ----------------------------------------------------------------------------------------------------

TAKEN = [
    (
        activations.resolve,
        {
            "linear": "identity",
            "none": "identity",
            "ReLU": "relu",
            "LeakyReLU": "leaky_relu",
            "lrelu": "leaky_relu",
            "leaky-relu": "leaky_relu",
            "swish": "silu",
            "SiLU": "silu",
            "logistic": "sigmoid",
            "TANH": "tanh",
        },
    ),
    (
        losses.resolve,
        {
            "mse": "mean_squared_error",
            "MSELoss": "mean_squared_error",
            "squared_error": "mean_squared_error",
            "l2": "mean_squared_error",
            "mae": "mean_absolute_error",
            "l1_loss": "mean_absolute_error",
            "bce": "binary_cross_entropy",
            "binary_crossentropy": "binary_cross_entropy",
            "BCEWithLogitsLoss": "binary_cross_entropy",
            "ce": "cross_entropy",
            "crossentropy": "cross_entropy",
            "CrossEntropyLoss": "cross_entropy",
            "categorical_crossentropy": "cross_entropy",
            "sparse_categorical_crossentropy": "cross_entropy",
            "smooth_l1": "huber",
            "huber_loss": "huber",
            "kld": "kl_divergence",
            "kl_div": "kl_divergence",
            "categorical_hinge": "multiclass_hinge",
            "poisson_nll_loss": "poisson",
        },
    ),
]


@pytest.mark.parametrize(
    "resolve, name, meant",
    [(resolve, name, meant) for resolve, taken in TAKEN for name, meant in taken.items()],
)
def test_names_of_others(resolve, name, meant):
    assert resolve(name) == resolve(meant)
    assert resolve(name).name == meant


@pytest.mark.parametrize(
    "name, meant",
    {
        "he": "he_normal",
        "He": "he_normal",
        "kaiming": "he_normal",
        "kaiming_uniform": "he_uniform",
        "xavier": "glorot_uniform",
        "glorot": "glorot_uniform",
        "xavier_normal": "glorot_normal",
        "lecun": "lecun_normal",
        "GlorotUniform": "glorot_uniform",
        "zero": "zeros",
    }.items(),
)
def test_initializers_of_others(name, meant):
    assert initializers.check(name) == initializers.check_biases(name) == meant
    one, other = MLP([4, 5, 3], init=name, seed=0), MLP([4, 5, 3], init=meant, seed=0)
    np.testing.assert_array_equal(one.weights[0], other.weights[0])


@pytest.mark.parametrize(
    "name, cls",
    {
        "sgd": SGD,
        "SGD": SGD,
        "adagrad": AdaGrad,
        "rmsprop": RMSprop,
        "RMSProp": RMSprop,
        "adam": Adam,
        "Adam": Adam,
        "adamw": AdamW,
    }.items(),
)
def test_optimizers_by_name_and_class(name, cls):
    """Made with their default settings."""
    trained = []
    for optimizer in (name, cls, cls()):
        model = MLP([4, 5, 3], seed=0)
        fit(model, optimizer=optimizer, epochs=3)
        trained.append(model.weights[0].copy())
    np.testing.assert_array_equal(trained[0], trained[2])
    np.testing.assert_array_equal(trained[1], trained[2])
    assert not np.array_equal(trained[0], MLP([4, 5, 3], seed=0).weights[0])


@pytest.mark.parametrize("optimizer", ["lbfgs", LBFGS])
def test_lbfgs_by_name_and_class(optimizer):
    pytest.importorskip("scipy")
    model = MLP([4, 5, 3], dtype="float64", seed=0)
    assert fit(model, optimizer=optimizer).loss[-1] < 0.01


@pytest.mark.parametrize(
    "name, meant",
    {
        "acc": "accuracy",
        "binary_accuracy": "accuracy",
        "r2_score": "r2",
        "auc": "roc_auc",
        "roc_auc_score": "roc_auc",
        "MAE": "mae",
        "mean_absolute_error": "mae",
        "mean_squared_error": "mse",
        "root_mean_squared_error": "rmse",
        "f1_score": "f1",
        "f1-macro": "f1",
        "precision_score": "precision",
        "sensitivity": "recall",
    }.items(),
)
def test_metrics_of_others(name, meant):
    assert metrics.resolve(name) == metrics.resolve(meant)


# Types ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, meant",
    [
        ("fp32", "float32"),
        ("f32", "float32"),
        ("single", "float32"),
        ("FP64", "float64"),
        ("double", "float64"),
        (np.float64, "float64"),
        (float, "float64"),
        (np.dtype("float32"), "float32"),
    ],
)
def test_dtypes_of_others(value, meant):
    assert MLP([4, 3], dtype=value, seed=0).dtype == meant


@pytest.mark.parametrize("value", ["half", "fp16", "float16", "f16", "bf16", "bfloat16", np.float16])
def test_dtypes_of_16_bits_are_answered(value):
    with pytest.raises(TypeError, match=r"^dtype: expected float32 or float64, got .*compute_dtype='bfloat"):
        MLP([4, 3], dtype=value)


@pytest.mark.parametrize("value", ["bf16", "BFloat16", "bfloat16"])
@pytest.mark.filterwarnings("ignore:compute_dtype")
def test_compute_dtypes_of_others(value):
    model = MLP([4, 3], compute_dtype=value, seed=0)
    assert model.compute_dtype == "bfloat16"
    assert model.compile_predict(compute_dtype=value)(X).shape == (4, 3)


@pytest.mark.parametrize(
    "value, hint",
    [
        ("fp32", "; None computes in float32"),
        ("float32", "; None computes in float32"),
        ("half", "; float16 would need losses to be scaled"),
        ("fp16", "; float16 would"),
        (16, "$"),
    ],
)
def test_compute_dtypes_that_are_none(value, hint):
    message = f"^compute_dtype: expected None or 'bfloat16', got {re.escape(repr(value))}{hint}"
    with pytest.raises(ValueError, match=message):
        MLP([4, 3], compute_dtype=value)


# Objects of other libraries -------------------------------------------------------------------------------


def of_library(name, module="torch.nn.modules.loss", bases=()):
    """An object as another library has it."""
    return type(name, bases, {"__module__": module, "__call__": lambda self, z, t: 0.0})()


@pytest.mark.parametrize(
    "name, answer",
    [
        ("CrossEntropyLoss", "write 'cross_entropy', or CrossEntropy(...) of fastmlp.losses with settings"),
        ("MSELoss", "write 'mean_squared_error', or"),
        ("BCEWithLogitsLoss", "write 'binary_cross_entropy', or"),
        ("L1Loss", "write 'mean_absolute_error', or"),
        ("CTCLoss", "known by name: cross_entropy, "),
    ],
)
def test_losses_of_other_libraries_are_answered(name, answer):
    theirs = of_library(name)
    derived = of_library(name, "__main__", (type(theirs),))
    for loss in (theirs, type(theirs), derived):
        with pytest.raises(TypeError, match="loss: expected a name, .*, of torch; " + re.escape(answer)):
            MLP([4, 3], loss=loss)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: MLP([4, 5, 3], of_library("LeakyReLU")), "activation: .*, of torch; write 'leaky_relu', or"),
        (lambda: MLP([4, 5, 3], of_library("Softmax")), "activation: .*, of torch; the output function be"),
        (
            lambda: fit(optimizer=of_library("AdamW", "torch.optim.adamw")),
            r"optimizer: .*, of torch; write 'adamw', or AdamW\(...\) of fastmlp.optimizers",
        ),
        (lambda: fit(optimizer=of_library("Adamax", "keras")), "optimizer: .*, of keras; known by name: sgd"),
        (
            lambda: MLP([4, 3], init=of_library("GlorotUniform", "keras.initializers")),
            "init: .*, of keras; write 'glorot_uniform'$",
        ),
        (
            lambda: fit(metrics=[of_library("Accuracy", "torchmetrics.classification")]),
            "metrics: .*, of torchmetrics; write 'accuracy'$",
        ),
    ],
)
def test_objects_of_other_libraries_are_answered(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_every_other_name_leads_to_a_known_one():
    for others, known in (
        (names.ACTIVATIONS, activations.BY_NAME),
        (names.LOSSES, losses.BY_NAME),
        (names.INITIALIZERS, ["auto", *initializers.INITIALIZERS]),
        (names.OPTIMIZERS, ["sgd", "lbfgs"]),
        (names.METRICS, metrics.METRICS),
    ):
        bare = {re.sub("[^a-z0-9]", "", name) for name in known}
        for other, meant in others.items():
            assert meant in known or " " in meant, other
            assert other == re.sub("[^a-z0-9]", "", other) and other not in bare


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: MLP([4, 5, 3], "rellu"),
            "activation: unknown name 'rellu', did you mean 'relu'? Known: identity",
        ),
        (
            lambda: MLP([4, 5, 3], "softmax"),
            "activation: unknown name 'softmax': the output function belongs to the loss",
        ),
        (
            lambda: MLP([4, 3], loss="cross_entrpy"),
            "loss: unknown name 'cross_entrpy', did you mean 'cross_entropy'?",
        ),
        (
            lambda: MLP([4, 3], loss="log_loss"),
            "loss: unknown name 'log_loss': write cross_entropy, or binary",
        ),
        (lambda: MLP([4, 3], loss="rmse"), "loss: unknown name 'rmse': write mean_squared_error"),
        (lambda: MLP([4, 3], init="he_norml"), "init: unknown name 'he_norml', did you mean 'he_normal'?"),
        (lambda: MLP([4, 3], init="normal"), "init: unknown name 'normal': write how wide: he_normal"),
        (lambda: MLP([4, 3], bias_init="zeross"), "bias_init: unknown name 'zeross', did you mean 'zeros'?"),
        (lambda: fit(optimizer="adm"), "optimizer: unknown name 'adm', did you mean 'adam'? Known: sgd"),
        (
            lambda: fit(optimizer="momentum"),
            "optimizer: unknown name 'momentum': write SGD(lr=0.1, momentum=0.9)",
        ),
        (lambda: fit(metrics="acuracy"), "metrics: unknown name 'acuracy', did you mean 'accuracy'?"),
        (lambda: fit(metrics=["f2"]), "metrics: unknown name 'f2'. Known: accuracy, precision, recall, f1, "),
        (lambda: fit(metrics="log_loss"), "metrics: unknown name 'log_loss': the loss is recorded in any"),
        (
            lambda: fit(metrics="balanced_accuracy"),
            "metrics: unknown name 'balanced_accuracy': write metrics=[sklearn.metrics.balanced_accuracy_s",
        ),
        (lambda: fit(metrics="mcc"), "metrics: unknown name 'mcc': write metrics=[sklearn.metrics.matthews_"),
        (
            lambda: fit(metrics="neg_mean_squared_error"),
            "metrics: unknown name 'neg_mean_squared_error': write 'mse', which is not negated",
        ),
        (lambda: fit(metrics="f1_weighted"), "metrics: unknown name 'f1_weighted': write metrics={'f1':"),
        (lambda: fit(metrics="confusion_matrix"), "metrics: unknown name 'confusion_matrix': it is no num"),
    ],
)
def test_unknown_names(make, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        make()


# Keywords -------------------------------------------------------------------------------------------------


def answered(call, name, message):
    with pytest.raises(
        TypeError, match=re.escape(f"() got an unexpected keyword argument {name!r}")
    ) as raised:
        call()
    assert message in str(raised.value)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("lr", 0.1, "optimizer=Adam(lr="),
        ("learning_rate", 0.1, "optimizer=Adam(lr="),
        ("learning_rate_init", 0.1, "optimizer=Adam(lr="),
        ("momentum", 0.9, "optimizer=SGD(lr=0.1, momentum=0.9)"),
        ("weight_decay", 0.1, "belongs to the optimizer"),
        ("alpha", 0.1, "optimizer=AdamW(weight_decay=0.01)"),
        ("device", "cpu", "fastmlp.set_num_threads"),
        ("n_jobs", 2, "fastmlp.set_num_threads"),
        ("validation_freq", 2, "after every epoch"),
        ("tol", 1e-4, "fastmlp.EarlyStopping(patience=10)"),
        ("n_iter_no_change", 3, "fastmlp.EarlyStopping(patience=10)"),
        ("steps_per_epoch", 3, "an epoch goes over all samples"),
        ("initial_epoch", 3, "checkpoint= and resume="),
        ("n_epochs", 3, "write epochs="),
        ("num_epochs", 3, "write epochs="),
        ("max_iter", 3, "write epochs="),
        ("epoch", 3, "write epochs="),
        ("nb_epoch", 3, "write epochs="),
        ("epocs", 3, "write epochs="),
        ("batchsize", 3, "write batch_size="),
        ("bs", 3, "write batch_size="),
        ("batch_sise", 3, "write batch_size="),
        ("verbose", 1, "progress=True or progress=False"),
        ("validation_split", 0.1, "validation_data=(X[:n], y[:n])"),
        ("validation_fraction", 0.1, "validation_data=(X[:n], y[:n])"),
        ("val_data", None, "write validation_data=(X, y)"),
        ("eval_set", None, "write validation_data=(X, y)"),
        ("early_stopping", True, "callbacks=[fastmlp.EarlyStopping(patience=10)]"),
        ("patience", 3, "callbacks=[fastmlp.EarlyStopping(patience=10)]"),
        ("callback", None, "write callbacks=[...]"),
        ("metric", "accuracy", "write metrics="),
        ("loss", "mse", "belongs to the model: MLP(layers, loss="),
        ("seed", 0, "belongs to the model: MLP(layers, seed="),
        ("random_state", 0, "belongs to the model"),
        ("sample_weights", None, "write sample_weight="),
        ("class_weights", None, "write class_weight="),
        ("opt", None, "write optimizer="),
        ("whatever", 1, "it takes X, y, epochs, batch_size"),
    ],
)
def test_keywords_of_fit(name, value, message):
    model = MLP([4, 3], seed=0)
    before = model.weights[0].copy()
    answered(lambda: fit(model, **{name: value}), name, message)
    np.testing.assert_array_equal(model.weights[0], before)


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("hidden", [5], "MLP([inputs, 100, outputs])"),
        ("hidden_layer_sizes", (5,), "MLP([inputs, 100, outputs])"),
        ("hidden_size", 5, "MLP([inputs, 100, outputs])"),
        ("units", 5, "MLP([inputs, 100, outputs])"),
        ("activations", ["relu"], "write activation="),
        ("nonlinearity", "relu", "write activation="),
        ("output_activation", "softmax", "its output function belongs to the loss"),
        ("criterion", "mse", "write loss="),
        ("kernel_initializer", "he", "write init="),
        ("weight_init", "he", "write init="),
        ("random_state", 0, "write seed="),
        ("sed", 0, "write seed="),
        ("dropout_rate", 0.5, "write dropout="),
        ("batchnorm", True, "write batch_norm="),
        ("lr", 0.1, "model.fit(X, y, optimizer=Adam(lr=0.001))"),
        ("learning_rate", 0.1, "model.fit(X, y, optimizer=Adam(lr=0.001))"),
        ("optimizer", "adam", "model.fit(X, y, optimizer="),
        ("solver", "adam", "model.fit(X, y, optimizer="),
        ("epochs", 3, "model.fit(X, y, epochs="),
        ("max_iter", 3, "model.fit(X, y, epochs="),
        ("batch_size", 3, "model.fit(X, y, batch_size="),
        ("verbose", 1, "model.fit(X, y, progress="),
        ("metrics", [], "model.fit(X, y, metrics="),
        ("alpha", 0.1, "optimizer=AdamW(weight_decay=0.01)"),
        ("bias", False, "every layer has biases"),
        ("device", "cpu", "fastmlp.set_num_threads"),
        ("xyz", 1, "it takes layers, activation, loss"),
    ],
)
def test_keywords_of_MLP(name, value, message):
    with pytest.raises(TypeError, match=r"^MLP\(\) got"):
        MLP([4, 3], **{name: value})
    answered(lambda: MLP([4, 3], **{name: value}), name, message)


@pytest.mark.parametrize(
    "cls, name, value, message",
    [
        (EarlyStopping, "restore_best_weights", True, "write restore_best="),
        (EarlyStopping, "n_iter_no_change", 3, "write patience="),
        (EarlyStopping, "verbose", 1, "such as best_epoch"),
        (Checkpoint, "filepath", "a", "write path="),
        (Checkpoint, "save_freq", 3, "write every="),
        (Checkpoint, "save_weights_only", True, "fastmlp.load reads the model"),
        *[(cls, "learning_rate", 0.1, "write lr=") for cls in (SGD, AdaGrad, RMSprop, Adam, AdamW)],
        *[(cls, "betas", (0.9, 0.999), "beta1=0.9, beta2=0.999") for cls in (Adam, AdamW)],
        (Adam, "beta_1", 0.9, "write beta1="),
        (Adam, "epsilon", 1e-8, "write eps="),
        (Adam, "momentum", 0.9, "write beta1="),
        (Adam, "decay", 0.1, "write weight_decay="),
        (Adam, "clipnorm", 1.0, "write clip_norm="),
        (SGD, "max_norm", 1.0, "write clip_norm="),
        (SGD, "clipvalue", 1.0, "write clip_value="),
        (SGD, "l2", 0.1, "write weight_decay="),
        (SGD, "nesterof", True, "write nesterov="),
        (SGD, "params", [], "model.fit(X, y, optimizer=...)"),
        (RMSprop, "alpha", 0.9, "write rho="),
        (SGD, "scheduler", None, "lr=fastmlp.schedules.Cosine"),
        (SGD, "xyz", 1, "it takes lr, momentum"),
        (LBFGS, "history_size", 5, "write memory="),
        (LBFGS, "tol", 1e-4, "write tolerance="),
    ],
)
def test_keywords_of_optimizers(cls, name, value, message):
    with pytest.raises(TypeError, match=rf"^{cls.__name__}\(\) got"):
        cls(**{name: value})
    answered(lambda: cls(**{name: value}), name, message)


def test_other_type_errors_stay():
    """What is not about an unknown keyword passes unchanged."""
    with pytest.raises(TypeError, match="^lr: expected a number, a schedule"):
        SGD(lr="cosine")
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'layers'"):
        MLP()
    with pytest.raises(TypeError, match="from my own callback"):

        def mine(model, epoch, logs):
            raise TypeError("from my own callback")

        fit(callbacks=[mine])


def test_signatures_stay():
    import inspect

    assert "epochs" in inspect.signature(MLP.fit).parameters
    assert list(inspect.signature(SGD).parameters)[:2] == ["lr", "momentum"]
    assert MLP.fit.__doc__ and MLP.fit.__name__ == "fit"


# Classes for objects --------------------------------------------------------------------------------------


def test_classes_that_are_taken():
    assert MLP([4, 5, 3], activations.Tanh).activations[0] == activations.Tanh()
    assert MLP([4, 3], loss=losses.CrossEntropy).loss == losses.CrossEntropy()
    assert MLP([4, 5, 3], batch_norm=BatchNorm).batch_norm == (BatchNorm(),)
    assert MLP([4, 5, 3], batch_norm=[BatchNorm]).batch_norm == (BatchNorm(),)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: fit(callbacks=[EarlyStopping]),
            "callbacks: expected functions or objects, got the class EarlyStopping; an object",
        ),
        (lambda: fit(callbacks=EarlyStopping()), r"callbacks: expected a list.*write callbacks=\[\.\.\.\]"),
        (lambda: SGD(lr=schedules.Cosine), "lr: expected a number, a schedule.*an object, such as"),
        (lambda: SGD(lr="cosine"), "lr: expected a number, a schedule.*an object, such as"),
        (
            lambda: MLP([4, 3], init=initializers.Constant),
            r"init: expected.*an object of the class is Constant\(",
        ),
        (lambda: fit(optimizer=int), "optimizer: expected an object of fastmlp.optimizers"),
        (lambda: fit(optimizer=3), "optimizer: expected an object of fastmlp.optimizers"),
        (
            lambda: fit(optimizer=fastmlp.optimizers.Optimizer),
            "optimizer: expected an object of fastmlp.optimizers",
        ),
        *[
            (
                lambda optimizer=optimizer: MLP([4, 3], seed=0).train_step(X, Y, optimizer),
                "optimizer: expected an object.*made once",
            )
            for optimizer in ("adam", Adam)
        ],
        (lambda: MLP([4, 3], seed=0).train_step(X, Y, None), "optimizer: expected an object"),
    ],
)
def test_classes_that_are_answered(call, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        call()


# Warnings of what is decorated ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda: MLP([4, 5, 3], seed=0).fit(1e6 * X, Y, progress=False, epochs=300),
        lambda: MLP([4, 1], seed=0).fit(X, X[:, 0] > 0, progress=False, epochs=300),
        lambda: MLP([4, 3], seed=0).fit(np.nan * X, Y, progress=False, epochs=3),
        lambda: MLP([4, 3], seed=0).predict(np.nan * X),
        lambda: MLP([4, 3], seed=0).evaluate(np.nan * X, Y),
    ],
    ids=["scales", "labels", "divergence", "predict", "evaluate"],
)
def test_warnings_are_at_the_users_line(call):
    with pytest.warns(RuntimeWarning) as said:
        call()
    assert {warning.filename for warning in said} == {__file__}
    assert {warning.lineno for warning in said} == {call.__code__.co_firstlineno}
