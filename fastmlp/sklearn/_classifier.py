"""MLPClassifier."""
from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from fastmlp import functional, losses
from fastmlp.sklearn import _parameters
from fastmlp.sklearn._base import BaseMLP, are_plain, can_step, outputs_of, train

__all__ = ["MLPClassifier"]

Array = NDArray[Any]


class MLPClassifier(ClassifierMixin, BaseMLP):      # type: ignore[misc]
    """Multi-layer perceptron classifier, in the place of scikit-learn's.

    Minimises the cross-entropy of softmax, or of the logistic function for two classes and for many labels a
    sample, plus the penalty ``alpha/2 |w|^2``.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default (100,)
        Units of every hidden layer.
    activation : str, Activation, class or list of them, default "relu"
        Activation of the hidden layers: "identity", "logistic", "tanh" or "relu"; or any other of
        `fastmlp.activations`, by name or as an object, or a list with one for each layer.
    solver : {"adam", "sgd", "lbfgs"}, default "adam"
        What minimises the loss.
    alpha : float, default 0.0001
        Factor >= 0 of the L2 penalty of the weights; it is divided by what the samples of a batch weigh.
    batch_size : int or "auto", default "auto"
        Samples of a step; "auto" takes 200, or all if they are fewer.
    learning_rate : {"constant", "invscaling", "adaptive"}, default "constant"
        How the learning rate of sgd changes: not at all; as ``learning_rate_init / (t + 1)^power_t`` after t
        samples; or divided by 5 whenever ``n_iter_no_change`` epochs bring no improvement.
    learning_rate_init : float, Schedule or callable, default 0.001
        Learning rate to begin with; or a schedule of `fastmlp.schedules`, or a function of the step.
    power_t : float, default 0.5
        Exponent of "invscaling".
    max_iter : int, default 200
        Largest number of epochs, of iterations with lbfgs.
    shuffle : bool, default True
        Whether every epoch has a new order of the samples.
    random_state : int or RandomState, optional
        Where initial weights, orders and the split of early stopping are drawn from.
    tol : float, default 0.0001
        Least improvement that counts as one; of lbfgs, the largest element of the gradient at which it ends.
    verbose : bool, default False
        Whether to print the loss of every epoch.
    warm_start : bool, default False
        Whether ``fit`` goes on with the weights of the last one.
    momentum : float, default 0.9
        Momentum of sgd, from 0 to 1.
    nesterovs_momentum : bool, default True
        Whether it is Nesterov's.
    early_stopping : bool, default False
        Whether to end when the score of samples that are set aside no longer improves, and to restore the
        best weights.
    validation_fraction : float, default 0.1
        Share of the samples that early stopping sets aside.
    beta_1 : float, default 0.9
        Share of adam's mean gradient that is kept, from 0 to below 1.
    beta_2 : float, default 0.999
        Share of adam's mean square that is kept, from 0 to below 1.
    epsilon : float, default 1e-8
        Number > 0 against division by 0, in adam.
    n_iter_no_change : int, default 10
        Number of epochs without improvement that ends the training.
    max_fun : int, default 15000
        Largest number of evaluations by lbfgs.
    loss : str, Loss, class or callable, default "log_loss"
        "log_loss", or any of `fastmlp.losses`.
    optimizer : Optimizer, optional
        Any of `fastmlp.optimizers`, in the place of solver, learning rate and alpha.
    dropout : float or list of float, default 0.0
        Share of the outputs of hidden layers that each step leaves out; a list has one for each layer.
    batch_norm : bool, BatchNorm or list of them, default False
        Batch normalisation of the hidden layers.
    class_weight : dict, list of dict or "balanced", optional
        Weight of every class, by its label; it multiplies ``sample_weight``.
    validation_data : tuple (X, y) or (X, y, sample_weight), optional
        Samples whose loss is recorded after every epoch; with early stopping, those that decide.
    callbacks : list of callable, default ()
        Called as ``f(model_, epoch, logs)`` after every epoch, as in `fastmlp.MLP.fit`, with loss, val_loss
        and val_score in the logs; True ends the training.
    progress : bool, "bar" or "log", default False
        What to show on stderr, as for `fastmlp.MLP.fit`.
    n_threads : int, optional
        Largest number of threads of a call; that of `fastmlp.get_num_threads` if not given.
    compute_dtype : {"bfloat16"}, optional
        Type to which the operands of matrix products are rounded, as for `fastmlp.MLP`. With "bfloat16" the
        network is of float32 whatever the samples are; if not given, it is of their dtype.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        Labels of the classes.
    coefs_ : list of ndarray, shape (in, out)
        Weights of every layer, live: what is written there is what the network uses.
    intercepts_ : list of ndarray, shape (out,)
        Biases of every layer, live.
    model_ : MLP
        The network.
    loss_ : float
        Loss of the last epoch, with the penalty.
    best_loss_ : float or None
        Smallest loss so far; None with early stopping.
    loss_curve_ : list of float
        Loss of every epoch.
    val_loss_curve_ : list of float or None
        Loss of validation_data, or of what early stopping set aside, after every epoch; None without.
    validation_scores_ : list of float or None
        Score of what early stopping set aside, after every epoch; None without.
    best_validation_score_ : float or None
        The best of them; None without.
    n_iter_ : int
        Number of epochs of the last ``fit``, of iterations with lbfgs.
    t_ : int
        Number of samples seen.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str, shape (features,)
        Names of the features, where X was a table that has them.
    n_layers_ : int
        Number of layers, inputs and outputs among them.
    n_outputs_ : int
        Number of outputs.
    out_activation_ : str
        Function of the outputs.

    Raises
    ------
    ValueError
        From ``fit``, for parameters and data that scikit-learn does not take either; of its class.

    Warns
    -----
    ConvergenceWarning
        If ``fit`` ends because of max_iter.

    Notes
    -----
    With the same parameters and ``random_state``, training takes the steps of scikit-learn's estimator: loss
    curves agree to rounding, and so do predictions as long as rounding has not grown into more. Parameters
    from ``loss`` on are no part of scikit-learn's; their defaults change nothing.

    References
    ----------
    Hinton, "Connectionist learning procedures", Artificial Intelligence 40, 1989.

    Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.

    Pedregosa et al., "Scikit-learn: Machine Learning in Python", JMLR 12, 2011.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> X, y = make_moons(200, noise=0.1, random_state=0)
    >>> MLPClassifier(solver="lbfgs", random_state=0).fit(X, y).score(X, y)
    1.0
    """

    _constraints = _parameters.Constraints({
        **_parameters.COMMON, "loss": _parameters.losses_or("log_loss"),
        "class_weight": [dict, list, StrOptions({"balanced"}), None]})

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: Any = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        loss: Any = "log_loss",
        optimizer: Any = None,
        dropout: Any = 0.0,
        batch_norm: Any = False,
        class_weight: Any = None,
        validation_data: Any = None,
        callbacks: Any = (),
        progress: bool | str = False,
        n_threads: int | None = None,
        compute_dtype: str | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes, activation=activation, solver=solver, alpha=alpha,
            batch_size=batch_size, learning_rate=learning_rate, learning_rate_init=learning_rate_init,
            power_t=power_t, max_iter=max_iter, shuffle=shuffle, random_state=random_state, tol=tol,
            verbose=verbose, warm_start=warm_start, momentum=momentum, nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping, validation_fraction=validation_fraction, beta_1=beta_1,
            beta_2=beta_2, epsilon=epsilon, n_iter_no_change=n_iter_no_change, max_fun=max_fun, loss=loss,
            optimizer=optimizer, dropout=dropout, batch_norm=batch_norm, class_weight=class_weight,
            validation_data=validation_data, callbacks=callbacks, progress=progress, n_threads=n_threads,
            compute_dtype=compute_dtype)

    # The loss ----------------------------------------------------------------------------------------

    @property
    def _own_loss(self) -> bool:
        return not (isinstance(self.loss, str) and self.loss == "log_loss")

    def _model_loss(self, dtype: Any) -> losses.Loss:
        if self._own_loss:
            return losses.resolve(self.loss)
        limit = -math.log(np.finfo(dtype).eps)      # scikit-learn reports probabilities as at least eps
        loss = losses.CrossEntropy if self.out_activation_ == "softmax" else losses.BinaryCrossEntropy
        return loss(max_loss=limit)

    def _loss_factors(self) -> tuple[float, float]:
        if self._own_loss or self.out_activation_ == "softmax":
            return 1.0, 1.0
        return float(self.n_outputs_), float(self.n_outputs_)

    # Training ----------------------------------------------------------------------------------------

    def _validate(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        if not are_plain(self, X, y, "biuU", reset):
            X, y = validate_data(self, X, y, accept_sparse="csr", multi_output=True,
                                 dtype=(np.float64, np.float32), reset=reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or (not self.warm_start and not incremental):
            self._label_binarizer = _binarizer(y)
            self.classes_ = self._label_binarizer.classes_
        else:
            classes = unique_labels(y)
            if self.warm_start:
                if set(classes) != set(self.classes_):
                    raise ValueError(
                        "warm_start can only be used where `y` has the same classes as in the previous call "
                        f"to fit. Previously got {self.classes_}, `y` has {classes}")
            elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
                raise ValueError(f"`y` has classes not in `self.classes_`. `self.classes_` has "
                                 f"{self.classes_}. 'y' has {classes}.")
        return X, y

    def _targets(self, y: Any, dtype: Any) -> Any:
        """Class indices for a loss of classes, or a column for every label."""
        kind = losses.resolve(self.loss).targets if self._own_loss else "classes" if (
            self._label_binarizer.y_type_ == "multiclass") else "binary"
        if kind == "classes":
            return np.searchsorted(self.classes_, y if y.ndim == 1 else column_or_1d(y))
        if self._label_binarizer.y_type_ == "binary" and len(self.classes_) == 2:
            columns = ((y if y.ndim == 1 else column_or_1d(y)) == self.classes_[1])[:, None].astype(np.int8)
        else:
            columns = self._label_binarizer.transform(y)
        if kind == "distributions" and columns.shape[1] == 1:
            columns = np.hstack([1 - columns, columns])
        return (2 * columns - 1 if kind == "signs" else columns).astype(dtype)

    def _validation_labels(self, y: Any) -> Any:
        y = super()._validation_labels(y)
        unknown = np.setdiff1d(unique_labels(y), self.classes_)
        if len(unknown):
            raise ValueError(f"validation_data: expected labels in {self.classes_}, got {unknown}")
        return y

    def _outputs(self, targets: Any) -> int:
        return len(self.classes_) if targets.ndim == 1 else int(targets.shape[1])

    def _class_weights(self, y: Any, weights: Any) -> Any:
        if self.class_weight is None:
            return weights
        factors = compute_sample_weight(self.class_weight, y)
        return factors if weights is None else factors * weights

    def _initialize(self, sizes: list[int], dtype: Any) -> None:
        if self._own_loss:
            output = losses.resolve(self.loss).output
            self.out_activation_ = "logistic" if output == "sigmoid" else output or "identity"
        else:
            many = self._label_binarizer.y_type_ == "multiclass"
            self.out_activation_ = "softmax" if many else "logistic"
        super()._initialize(sizes, dtype)

    def _strata(self, targets: Any) -> Any:
        return targets.astype(bool) if self.n_outputs_ == 1 else None

    def _decided(self, outputs: Array) -> Array:
        """Class indices (n,), or 0 or 1 for every label (n, labels)."""
        loss = self.model_.loss
        one_of_many = outputs.shape[1] > 1 and not self._label_binarizer.y_type_.startswith("multilabel")
        if loss.classifies or one_of_many:
            decided: Array = outputs.argmax(axis=1)
        else:
            middle = math.log(0.5) if loss.output == "exp" else 0.5
            between = 0.0 if loss.targets in ("binary", "signs") else middle
            decided = (outputs > between).astype(np.intp)
        return decided

    def _score_outputs(self, outputs: Array, targets: Any, weights: Any) -> float:
        if len(self.classes_) == 1 and not self._label_binarizer.y_type_.startswith("multilabel"):
            return 1.0                  # `predict` has no choice
        decided = self._decided(outputs)
        if decided.ndim == 2:
            truth = targets > 0 if targets.ndim == 2 else targets[:, None]
            right = (decided == truth).all(axis=1)
        else:
            right = decided == (targets.argmax(axis=1) if targets.ndim == 2 else targets)
        return float(np.average(right, weights=weights))

    @can_step
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """Train for one epoch over the given samples, from where the estimator stands.

        Parameters
        ----------
        X : array_like, sparse matrix or table, shape (n_samples, n_features)
            Samples.
        y : array_like, shape (n_samples,) or (n_samples, n_labels)
            Labels.
        sample_weight : array_like, shape (n_samples,), optional
            Weight of every sample; 1 if not given.
        classes : array_like, shape (n_classes,), optional
            All classes that there are; needed in the first call.

        Returns
        -------
        object
            The estimator itself.
        """
        with _parameters.checked(self, self._constraints):
            known = getattr(self, "classes_", None)
            if known is None:
                if classes is None:
                    raise ValueError("classes must be passed on the first call to partial_fit.")
                self.classes_ = unique_labels(classes)
                multilabel = type_of_target(y).startswith("multilabel")
                self._label_binarizer = LabelBinarizer().fit(y if multilabel else classes)
            elif classes is not None and not np.array_equal(known, unique_labels(classes)):
                raise ValueError(f"`classes={classes!r}` is not the same as on last call to partial_fit, "
                                 f"was: {known!r}")
            return train(self, X, y, sample_weight)

    # Prediction --------------------------------------------------------------------------------------

    def predict(self, X: Any) -> Array:
        """Predict the classes.

        Parameters
        ----------
        X : array_like, sparse matrix or table, shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray, shape (n_samples,) or (n_samples, n_labels)
            Predicted labels; of several labels a sample, 0 or 1 for each.
        """
        decided = self._decided(outputs_of(self, X))
        if len(self.classes_) > 1 and not self._label_binarizer.y_type_.startswith("multilabel"):
            labels: Array = self.classes_[decided.ravel()]
            return labels
        if decided.shape[1:] == (1,):
            decided = decided.ravel()
        labels = self._label_binarizer.inverse_transform(decided)
        return labels

    def predict_proba(self, X: Any) -> Array:
        """Predict the probabilities of the classes.

        Parameters
        ----------
        X : array_like, sparse matrix or table, shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
            Probability of every class, in the order of ``classes_``; of several labels a sample, of each.
        """
        outputs = outputs_of(self, X)
        if outputs.dtype.char not in "fd":      # of samples in long double, which scikit-learn keeps
            return self.predict_proba(np.asarray(X, np.float64)).astype(outputs.dtype)
        loss = self.model_.loss
        if loss.output == "softmax":
            return functional.softmax(outputs, out=outputs)
        if loss.output != "sigmoid":
            raise AttributeError(f"predict_proba: the outputs of {loss.name!r} are no probabilities")
        functional.sigmoid(outputs, out=outputs)
        return np.hstack([1 - outputs, outputs]) if self.n_outputs_ == 1 else outputs

    def predict_log_proba(self, X: Any) -> Array:
        """Predict the logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : array_like, sparse matrix or table, shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
            Logarithm of what `predict_proba` returns.
        """
        probabilities = self.predict_proba(X)
        return np.log(probabilities, out=probabilities)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _binarizer(y: Array) -> LabelBinarizer:
    """A LabelBinarizer that knows the classes of y. Of integers and strings these are all that its `fit`
    finds out, in much more time."""
    binarizer = LabelBinarizer()
    if y.ndim == 1 and y.dtype.kind in "biuU":
        classes = np.unique(y)
        if 2 * len(classes) <= len(y):          # else scikit-learn may have something to say
            binarizer.y_type_ = "multiclass" if len(classes) > 2 else "binary"
            binarizer.sparse_input_ = False
            binarizer.classes_ = classes
            return binarizer
    return binarizer.fit(y)
