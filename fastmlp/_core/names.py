"""What users type who come from elsewhere: other spellings of names, and keywords of other libraries.

A name is taken in any spelling ("ReLU", "leaky-relu") and by what others call it ("mse", "xavier"). A keyword
that a function does not take raises the TypeError that Python would raise, which also names the one to write.
"""
from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ParamSpec, TypeVar

__all__ = [
    "ACTIVATIONS", "CALLBACK", "DTYPES", "FIT", "INITIALIZERS", "LOSSES", "METRICS", "MODEL", "OPTIMIZER",
    "OPTIMIZERS", "SOURCE", "canonical", "dtype_name", "keywords", "library_of", "objects", "of_others",
]

P = ParamSpec("P")
R = TypeVar("R")

# What others call it: a name of ours, or, where there is none, a sentence that says what to write.
ACTIVATIONS = {
    "linear": "identity", "none": "identity", "lrelu": "leaky_relu", "logistic": "sigmoid", "swish": "silu",
    "softmax": "the output function belongs to the loss: loss='cross_entropy' has softmax",
    "logsoftmax": "the output function belongs to the loss: loss='cross_entropy' has softmax",
}
LOSSES = {
    "ce": "cross_entropy", "categoricalcrossentropy": "cross_entropy", "nll": "cross_entropy",
    "softmaxcrossentropy": "cross_entropy", "sparsecategoricalcrossentropy": "cross_entropy",
    "bce": "binary_cross_entropy", "bcewithlogits": "binary_cross_entropy",
    "logloss": "write cross_entropy, or binary_cross_entropy for labels 0 and 1 of one output",
    "mse": "mean_squared_error", "l2": "mean_squared_error", "squarederror": "mean_squared_error",
    "rmse": "write mean_squared_error, which has its minimum at the same weights",
    "mae": "mean_absolute_error", "l1": "mean_absolute_error", "absoluteerror": "mean_absolute_error",
    "huberloss": "huber", "smoothl1": "huber",
    "kl": "kl_divergence", "kld": "kl_divergence", "kldiv": "kl_divergence",
    "kullbackleiblerdivergence": "kl_divergence",
    "poissonnll": "poisson", "categoricalhinge": "multiclass_hinge", "multimargin": "multiclass_hinge",
}
INITIALIZERS = {
    "he": "he_normal", "kaiming": "he_normal", "kaimingnormal": "he_normal", "kaiminguniform": "he_uniform",
    "glorot": "glorot_uniform", "xavier": "glorot_uniform", "xaviernormal": "glorot_normal",
    "xavieruniform": "glorot_uniform", "lecun": "lecun_normal",
    "default": "auto", "zero": "zeros",
    "normal": "write how wide: he_normal, glorot_normal, lecun_normal, or a function (rng, fan_in, fan_out)",
    "uniform": "write how wide: he_uniform, glorot_uniform, lecun_uniform, or a function (rng, fan_in, "
               "fan_out)",
}
OPTIMIZERS = {
    "momentum": "write SGD(lr=0.1, momentum=0.9), an object",
    "nesterov": "write SGD(lr=0.1, momentum=0.9, nesterov=True), an object",
    "gradientdescent": "sgd",
    "bfgs": "lbfgs",
}
_ANY_METRIC = "write metrics=[{}], a function of scikit-learn, or one of your own (y_true, y_pred) -> number"
METRICS = {
    **dict.fromkeys("acc accuracyscore binaryaccuracy categoricalaccuracy sparsecategoricalaccuracy".split(),
                    "accuracy"),
    "precisionscore": "precision",
    **dict.fromkeys("recallscore sensitivity tpr truepositiverate".split(), "recall"),
    **dict.fromkeys("f1binary f1macro f1score fscore".split(), "f1"),
    **dict.fromkeys("auc auroc rocaucscore".split(), "roc_auc"),
    **dict.fromkeys("coefficientofdetermination r2score rsquared".split(), "r2"),
    **dict.fromkeys("absoluteerror l1 meanabsoluteerror".split(), "mae"),
    **dict.fromkeys("l2 meansquarederror squarederror".split(), "mse"),
    "rootmeansquarederror": "rmse",
    **dict.fromkeys("binarycrossentropy bce crossentropy logloss loss neglogloss nll".split(),
                    "the loss is recorded in any case: history.loss, and val_loss with validation_data"),
    **{f"neg{bare}": f"write {name!r}, which is not negated: smaller is better" for bare, name in (
        ("meanabsoluteerror", "mae"), ("meansquarederror", "mse"), ("rootmeansquarederror", "rmse"))},
    **{re.sub("_|score", "", function) + end: _ANY_METRIC.format(f"sklearn.metrics.{function}")
       for function in (
           "average_precision_score", "balanced_accuracy_score", "cohen_kappa_score",
           "explained_variance_score", "matthews_corrcoef", "max_error", "mean_absolute_percentage_error",
           "median_absolute_error", "top_k_accuracy_score")
       for end in ("", "score") if not end or function.endswith(end)},
    "mape": _ANY_METRIC.format("sklearn.metrics.mean_absolute_percentage_error"),
    "mcc": _ANY_METRIC.format("sklearn.metrics.matthews_corrcoef"),
    **dict.fromkeys("f1micro f1weighted".split(),
                    "write metrics={'f1': lambda t, p: sklearn.metrics.f1_score(t, p, average=...)}"),
    "confusionmatrix": "it is no number; fastmlp.plot.confusion_matrix(y, model.predict(X)) draws it",
    **dict.fromkeys("error errorrate zerooneloss".split(), "write 'accuracy', which is 1 less the error"),
}
# What is float32 or float64 elsewhere; and numbers of 16 bits, which weights are not.
DTYPES = {"fp32": "float32", "f32": "float32", "single": "float32",
          "fp64": "float64", "f64": "float64", "double": "float64",
          "bf16": "bfloat16", "fp16": "float16", "f16": "float16", "half": "float16"}
LIBRARIES = frozenset("flax jax keras lightning mxnet optax paddle sklearn tensorflow tf_keras torch "
                      "torchmetrics".split())


def _near(word: str, known: Iterable[str]) -> list[str]:
    """The most similar word, or none."""
    import difflib  # here, since errors alone need it

    return difflib.get_close_matches(word, list(known), n=1)


def canonical(argument: str, value: str, known: Iterable[str], others: dict[str, str]) -> str:
    """The name among the known ones that is meant.

    >>> known = ["identity", "leaky_relu"]
    >>> [canonical("f", name, known, ACTIVATIONS) for name in ("identity", "Leaky-ReLU", "linear")]
    ['identity', 'leaky_relu', 'identity']
    >>> canonical("f", "leeky_relu", known, ACTIVATIONS)
    Traceback (most recent call last):
        ...
    ValueError: f: unknown name 'leeky_relu', did you mean 'leaky_relu'? Known: identity, leaky_relu
    """
    known = list(known)
    if value in known:
        return value
    bare = _bare(value)
    spelled = {_bare(name): name for name in known}
    said = others | spelled
    answer = said.get(bare) or said.get(bare.removesuffix("loss"), "")
    if answer in known:
        return answer
    if " " in answer:
        meant = f": {answer}."
    else:
        near = _near(bare, spelled)
        meant = f", did you mean {spelled[near[0]]!r}?" if near else "."
    raise ValueError(f"{argument}: unknown name {value!r}{meant} Known: {', '.join(known)}")


def library_of(value: Any) -> str:
    """Another library of networks that an object, a class or a function is from; "" where there is none.

    >>> library_of(print)
    ''
    """
    owners: tuple[Any, ...] = (value,)
    if isinstance(value, type) or not hasattr(value, "__name__"):
        owners = (value if isinstance(value, type) else type(value)).__mro__
    for owner in owners:            # a class of the user's may be derived from one of theirs
        library = str(getattr(owner, "__module__", None) or "").partition(".")[0]
        if library in LIBRARIES:
            return library
    return ""


def of_others(value: Any, known: Mapping[str, Any], others: dict[str, str]) -> str:
    """What to write for a loss, an optimizer or the like of another library, to end an error with."""
    library = library_of(value)
    if not library:
        return ""
    theirs = str(getattr(value, "__name__", type(value).__name__))
    try:
        name = canonical("", theirs, known, others)
    except ValueError as error:
        answer = re.search(r"': (.+)\. Known: ", str(error))
        return f", of {library}; {answer[1] if answer else 'known by name: ' + ', '.join(known)}"
    ours = known[name]
    what = f", or {ours.__name__}(...) of {ours.__module__} with settings" if isinstance(ours, type) else ""
    return f", of {library}; write {name!r}{what}"


def dtype_name(value: Any) -> str:
    """A dtype as users write it, or as other libraries have it: "float32" for "fp32" and torch.float32.

    >>> dtype_name("FP32"), dtype_name("half"), dtype_name(float)
    ('float32', 'float16', 'float')
    """
    if not isinstance(value, str) and library_of(value):
        value = str(value).rpartition(".")[2]
    elif isinstance(value, type):
        value = value.__name__
    bare = _bare(value if isinstance(value, str) else str(getattr(value, "name", "")))
    return DTYPES.get(bare, bare)


def _bare(name: str) -> str:
    """
    >>> _bare("Leaky-ReLU ")
    'leakyrelu'
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def objects(name: str, values: Any) -> Any:
    """Callbacks as a tuple. Raises TypeError for one that is not in a list, and for a class in the place of
    an object. What they must be able to do is checked elsewhere."""
    if values == ():
        return values
    if not isinstance(values, Iterable):
        if callable(values) and not isinstance(values, type):
            raise TypeError(f"{name}: expected a list of functions or objects, got {values!r}; write "
                            f"{name}=[...], a list of one")
        return values
    values = tuple(values)
    for value in values:
        if isinstance(value, type):
            raise TypeError(f"{name}: expected functions or objects, got the class {value.__name__}; an "
                            f"object of it is {value.__name__}(...)")
    return values


def keywords(answers: Mapping[str, str]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: to keywords that the function does not take, its TypeError says what to write.

    `answers` are names of arguments, which count where the function has them, and sentences.

    >>> @keywords({"learning_rate": "lr"})
    ... def step(lr=0.1):
    ...     return lr
    >>> step(learning_rate=0.5)
    Traceback (most recent call last):
        ...
    TypeError: step() got an unexpected keyword argument 'learning_rate': write lr=
    """
    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        taken = [name for name in inspect.signature(function).parameters if name != "self"]
        owner, _, name = function.__qualname__.rpartition(".")
        call = owner if name == "__init__" else function.__qualname__

        @functools.wraps(function)
        def answering(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except TypeError:       # costs nothing where there is none
                unknown = [name for name in kwargs if name not in taken]
                if not unknown:
                    raise
            raise TypeError(f"{call}() got an unexpected keyword argument {unknown[0]!r}"
                            f"{_answer(unknown[0], taken, answers)}")

        return answering

    return decorate


def _answer(name: str, taken: list[str], answers: Mapping[str, str]) -> str:
    answer = answers.get(name, "")
    if " " in answer:
        return f": {answer}"
    near = [answer] if answer in taken else _near(name, taken)
    return f": write {near[0]}=" if near else f"; it takes {', '.join(taken)}"


# Keywords ----------------------------------------------------------------------------------------------

_RATE = "the learning rate belongs to the optimizer: optimizer=Adam(lr=0.001)"
_OPTIMIZER = "it belongs to the optimizer: optimizer=SGD(lr=0.1, momentum=0.9)"
_PENALTY = "penalties belong to the optimizer: fit(X, y, optimizer=AdamW(weight_decay=0.01))"
_SPLIT = ("validation data is split by the caller: fit(X[n:], y[n:], validation_data=(X[:n], y[:n])), of "
          "rows in random order")
_STOPPING = "write callbacks=[fastmlp.EarlyStopping(patience=10)]"
_OF_THE_MODEL = "it belongs to the model: MLP(layers, {}, ...)"
_OF_FIT = "it belongs to training: model.fit(X, y, {})"
_L2 = "alpha, the L2 penalty of scikit-learn, is fit(X, y, optimizer=AdamW(weight_decay=0.01))"
_OF_NO_ONE = "networks run on the CPU; fastmlp.set_num_threads says on how many threads"
_LAYERS = "write the units of all layers, inputs and outputs too: MLP([inputs, 100, outputs])"
_OUTPUT = ("the last layer is linear, and its output function belongs to the loss: loss='cross_entropy' has "
           "softmax")

FIT = {
    "alpha": _L2,
    **dict.fromkeys("device n_jobs".split(), _OF_NO_ONE),
    "validation_freq": "validation data is measured after every epoch; a callback may do so less often",
    **dict.fromkeys("n_iter_no_change tol".split(), _STOPPING),
    "steps_per_epoch": "an epoch goes over all samples: write epochs= and batch_size=",
    "initial_epoch": "fit always begins with epoch 0; checkpoint= and resume= go on with a run",
    **dict.fromkeys("eta learning_rate learning_rate_init lr rate step_size".split(), _RATE),
    **dict.fromkeys("momentum nesterov weight_decay".split(), _OPTIMIZER),
    **dict.fromkeys("l1 l2 regularization".split(), _PENALTY),
    **dict.fromkeys("epoch iterations max_epochs max_iter n_epoch n_epochs n_iter nb_epoch num_epoch "
                    "num_epochs steps".split(), "epochs"),
    **dict.fromkeys("batch batchsize bs mini_batch_size minibatch_size".split(), "batch_size"),
    **dict.fromkeys("show_progress verbose".split(), "write progress=True or progress=False"),
    **dict.fromkeys("test_size validation_fraction validation_size validation_split".split(), _SPLIT),
    **dict.fromkeys("eval_data eval_set val_data validation valid_data".split(),
                    "write validation_data=(X, y)"),
    **dict.fromkeys("early_stopping patience".split(), _STOPPING),
    **dict.fromkeys("callback hooks".split(), "write callbacks=[...], a list"),
    **dict.fromkeys("metric scoring".split(), "metrics"),
    **dict.fromkeys("loss criterion loss_fn".split(), _OF_THE_MODEL.format("loss='cross_entropy'")),
    "dropout": _OF_THE_MODEL.format("dropout=0.2"),
    **dict.fromkeys("random_state seed".split(), _OF_THE_MODEL.format("seed=0")),
    **dict.fromkeys("opt solver".split(), "optimizer"),
    "sample_weights": "sample_weight",
    "class_weights": "class_weight",
}
MODEL = {
    **dict.fromkeys("hidden hidden_layer_sizes hidden_layers hidden_size hidden_sizes hidden_units input_dim "
                    "input_size layer_sizes n_hidden num_layers output_dim output_size sizes units".split(),
                    _LAYERS),
    **dict.fromkeys("act activation_function activations nonlinearity".split(), "activation"),
    **dict.fromkeys("final_activation last_activation out_activation output_activation".split(), _OUTPUT),
    **dict.fromkeys("criterion loss_fn loss_function objective".split(), "loss"),
    **dict.fromkeys("initialization initializer kernel_initializer weight_init weights_init".split(), "init"),
    **dict.fromkeys("bias_initializer biases_init".split(), "bias_init"),
    **dict.fromkeys("random_seed random_state rng".split(), "seed"),
    **dict.fromkeys("dropout_rate dropouts p".split(), "dropout"),
    **dict.fromkeys("batch_normalization batchnorm bn norm".split(), "batch_norm"),
    **dict.fromkeys("precision type".split(), "dtype"),
    **dict.fromkeys("learning_rate learning_rate_init lr opt optimizer solver".split(),
                    _OF_FIT.format("optimizer=Adam(lr=0.001)")),
    **dict.fromkeys("epochs max_iter n_epochs".split(), _OF_FIT.format("epochs=20")),
    **dict.fromkeys("progress verbose".split(), _OF_FIT.format("progress=True")),
    "batch_size": _OF_FIT.format("batch_size=32"),
    "metrics": _OF_FIT.format("metrics=['accuracy']"),
    "alpha": _L2,
    **dict.fromkeys("l1 l2 regularization weight_decay".split(), _PENALTY),
    **dict.fromkeys("bias use_bias".split(),
                    "every layer has biases; model.biases are arrays that can be read and written"),
    "device": "networks run on the CPU; fastmlp.set_num_threads says on how many threads",
}
_OF_TRAINING = "it belongs to training: model.fit(source, {})"
SOURCE = {
    **dict.fromkeys("label labels label_column target_column targets y".split(), "target"),
    **dict.fromkeys("X columns features usecols x".split(), "inputs"),
    **dict.fromkeys("sample_weight sample_weights weights".split(), "weight"),
    **dict.fromkeys("data file filenames files path".split(), "paths"),
    **dict.fromkeys("batches generator iterable loader".split(), "blocks"),
    **dict.fromkeys("count length n_blocks num_blocks size".split(), "n"),
    **dict.fromkeys("chunk_size chunksize".split(), "block_size"),
    **dict.fromkeys("buffer buffer_size shuffle_buffer".split(), "buffer_rows"),
    **dict.fromkeys("sep separator".split(), "delimiter"),
    **dict.fromkeys("errors on_bad_lines".split(), "on_error"),
    **dict.fromkeys("function map_fn preprocess".split(), "transform"),
    "batch_size": _OF_TRAINING.format("batch_size=128"),
    "shuffle": _OF_TRAINING.format("shuffle=True"),
    "epochs": _OF_TRAINING.format("epochs=10"),
    "scale": "a source is scaled by source.scaled(mean, std), with those of source.statistics()",
}
CALLBACK = {
    **dict.fromkeys("file file_path filename filepath".split(), "path"),
    **dict.fromkeys("metric quantity".split(), "monitor"),
    **dict.fromkeys("epochs_without_improvement n_iter_no_change wait".split(), "patience"),
    **dict.fromkeys("delta threshold tol".split(), "min_delta"),
    **dict.fromkeys("restore restore_best_weights".split(), "restore_best"),
    **dict.fromkeys("best_only only_best save_best".split(), "save_best_only"),
    **dict.fromkeys("freq frequency period save_every save_freq".split(), "every"),
    **dict.fromkeys("dir folder log_dir".split(), "logdir"),
    "verbose": "what happens is in history, and in attributes such as best_epoch",
    "save_weights_only": "a file holds all that training needs; fastmlp.load reads the model in it",
    "baseline": "a function among the callbacks may end the training: it returns True",
    "start_from_epoch": "a function among the callbacks may end the training: it returns True",
}
OPTIMIZER = {
    **dict.fromkeys("eta initial_lr learning_rate learning_rate_init lr0 rate step_size".split(), "lr"),
    **dict.fromkeys("lr_schedule lr_scheduler schedule scheduler".split(),
                    "a schedule is a learning rate: lr=fastmlp.schedules.Cosine(0.1, steps)"),
    "betas": "write beta1=0.9, beta2=0.999",
    "beta_1": "beta1", "beta_2": "beta2", "momentum": "beta1",
    "alpha": "rho", "decay_rate": "rho",
    **dict.fromkeys("eps_hat epsilon".split(), "eps"),
    **dict.fromkeys("decay l2 penalty wd".split(), "weight_decay"),
    **dict.fromkeys("clipnorm global_clipnorm grad_clip max_grad_norm max_norm".split(), "clip_norm"),
    **dict.fromkeys("clip clipvalue".split(), "clip_value"),
    "model": "the model comes with fit: model.fit(X, y, optimizer=...)",
    "params": "the model comes with fit: model.fit(X, y, optimizer=...)",
    "parameters": "the model comes with fit: model.fit(X, y, optimizer=...)",
    **dict.fromkeys("maxiter n_iter epochs".split(), "max_iter"),
    **dict.fromkeys("history_size m maxcor".split(), "memory"),
    **dict.fromkeys("gtol tol tolerance_grad".split(), "tolerance"),
}
