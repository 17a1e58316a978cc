"""What classifier and regressor share: the network, its training, and the fitted attributes."""
from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Callable
from numbers import Number
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted, validate_data

from fastmlp import Diagnostics, limit_num_threads
from fastmlp._core.finite import all_finite
from fastmlp.callbacks import asks_to_stop
from fastmlp.losses import Loss
from fastmlp.model import MLP
from fastmlp.sklearn import _lbfgs, _parameters, _their_state
from fastmlp.sklearn._arrays import LayerArrays, Mirrors, best_of, restore, sizes_of
from fastmlp.sklearn._fallback import SwapType, own_class_for
from fastmlp.sklearn._solvers import OwnOptimizer, Solver, solver_for
from fastmlp.sklearn._warnings import warn_of_convergence

__all__ = ["BaseMLP", "are_plain", "can_step", "is_stochastic", "outputs_of", "train"]

Array = NDArray[Any]
Method = TypeVar("Method", bound=Callable[..., Any])


def is_stochastic(estimator: Any) -> bool:
    """Whether the estimator trains in steps; AttributeError, which hides `partial_fit`, where it does not."""
    own = estimator.optimizer
    if own.full_batch if own is not None else estimator.solver == "lbfgs":
        what = "lbfgs" if own is None else type(own).__name__
        raise AttributeError(f"partial_fit is only available for stochastic optimizers. {what} is not "
                             "stochastic.")
    return True


class BaseMLP(BaseEstimator, metaclass=SwapType):       # type: ignore[misc]
    """Base class of `MLPClassifier` and `MLPRegressor`.

    The network is ``model_``, a `fastmlp.MLP`. Until there is one, coefs_ and intercepts_ are what was
    assigned.
    """

    _constraints = _parameters.COMMON
    n_features_in_: int
    _optimizer: Solver
    _best: dict[str, list[Any]] | None

    def __init__(self, **parameters: Any) -> None:
        for name, value in parameters.items():
            setattr(self, name, value)

    def __getstate__(self) -> dict[str, Any]:
        self._synchronise()
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_mirrors_of_model"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a pickle of ours, or of scikit-learn's."""
        if not _their_state.is_theirs(state):
            super().__setstate__(state)
            return
        theirs = own_class_for(type(self), state)
        if theirs is not None:
            self.__class__ = theirs
            self.__setstate__(state)
            return
        self.__dict__.update(_their_state.attributes_from(state, type(self)))
        if "coefs_" not in state:
            return
        network = self._network()
        if "_best_coefs" in state:
            self._best = best_of(network) | {"weights": state["_best_coefs"],
                                             "biases": state["_best_intercepts"]}
        if "_optimizer" in state:
            factor = self._loss_factors()[1]
            self._optimizer = _their_state.solver_from(state["_optimizer"], self, network, factor)

    # The network -------------------------------------------------------------------------------------

    @property
    def model_(self) -> MLP:
        """The network, with what was written to `coefs_`."""
        self._synchronise()
        try:
            network: MLP = self.__dict__["model_"]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute 'model_'") from None
        return network

    @model_.setter
    def model_(self, network: MLP) -> None:
        self.__dict__["model_"] = network

    @model_.deleter
    def model_(self) -> None:
        if self.__dict__.pop("model_", None) is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute 'model_'")
        self.__dict__.pop("_mirrors_of_model", None)

    @property
    def coefs_(self) -> Any:
        """Weights of every layer (in, out), live."""
        if "model_" in self.__dict__:
            mirrors = self._mirrors()
            return LayerArrays(self.model_.weights, mirrors.weights(), mirrors.synchronise)
        return self._assigned_arrays("coefs_")

    @coefs_.setter
    def coefs_(self, arrays: Any) -> None:
        self._assign("coefs_", "weights", arrays)

    @coefs_.deleter
    def coefs_(self) -> None:
        self._delete("coefs_")

    @property
    def intercepts_(self) -> Any:
        """Biases of every layer, live."""
        if "model_" in self.__dict__:
            return LayerArrays(self.model_.biases)
        return self._assigned_arrays("intercepts_")

    @intercepts_.setter
    def intercepts_(self, arrays: Any) -> None:
        self._assign("intercepts_", "biases", arrays)

    @intercepts_.deleter
    def intercepts_(self) -> None:
        self._delete("intercepts_")

    def _mirrors(self) -> Mirrors:
        """Of the network as it is."""
        mirrors: Mirrors | None = self.__dict__.get("_mirrors_of_model")
        network = self.__dict__["model_"]
        if mirrors is None or mirrors.model is not network:
            mirrors = self.__dict__["_mirrors_of_model"] = Mirrors(network)
        return mirrors

    def _synchronise(self) -> None:
        """Bring the network and what `coefs_` returned to the same numbers."""
        if "_mirrors_of_model" in self.__dict__:
            self._mirrors().synchronise()

    def _has_weights(self) -> bool:
        """Whether there is `coefs_`, which need not be made to know it."""
        return "model_" in self.__dict__ or "coefs_" in self.__dict__.get("_assigned", {})

    def _assigned_arrays(self, name: str) -> Any:
        try:
            return self.__dict__["_assigned"][name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def _assign(self, name: str, kind: str, arrays: Any) -> None:
        """Into the network where the shapes fit; else another network is made of them when it is needed."""
        if "model_" in self.__dict__:
            own = getattr(self.model_, kind)
            if [np.shape(array) for array in arrays] == [array.shape for array in own]:
                self._synchronise()
                own[:] = [np.asarray(array, own[0].dtype) for array in arrays]
                self._synchronise()
                return
            self._detach()
        self.__dict__.setdefault("_assigned", {})[name] = arrays

    def _delete(self, name: str) -> None:
        if "model_" in self.__dict__:
            self._detach()
        self._assigned_arrays(name)         # AttributeError for a second time
        del self._assigned[name]

    def _detach(self) -> None:
        """Keep copies of the network's arrays, as if they had been assigned, and no network."""
        self.__dict__["_assigned"] = {"coefs_": [*map(np.array, self.coefs_)],
                                      "intercepts_": [*map(np.array, self.intercepts_)]}
        self.__dict__.pop("_mirrors_of_model", None)
        del self.model_

    def _network(self) -> MLP:
        """The network; of arrays that were assigned, where there is none yet."""
        if "model_" not in self.__dict__:
            coefs = [np.asarray(coef) for coef in self.coefs_]
            narrow = all(coef.dtype == np.float32 for coef in coefs)
            dtype = self._network_dtype("float32" if narrow else "float64")
            model = self._new_model(sizes_of(coefs), dtype, 0)
            model.weights = [coef.astype(dtype) for coef in coefs]
            model.biases = [np.asarray(b).astype(dtype) for b in self.intercepts_]
            del self._assigned
            self.model_ = model
        network = self.model_
        if network.compute_dtype != self.compute_dtype or (
                self._activation is not self.activation and self._activation != self.activation):
            network = self._with_other_settings(network)
        return network

    def _with_other_settings(self, model: MLP) -> MLP:
        """The same network with the activation and compute_dtype that `set_params` asks for, and its
        optimizer's state."""
        other = self._new_model(list(model.layers), model.dtype.name, 0)
        restore(other, best_of(model))
        if hasattr(self, "_optimizer"):
            optimizer = self._optimizer.optimizer
            optimizer.set_state(other, optimizer.get_state(model))
        if "_mirrors_of_model" in self.__dict__:
            self._mirrors().model = other
        self.model_ = other
        return other

    def _new_model(self, sizes: list[int], dtype: Any, seed: int) -> MLP:
        def named(activation: Any) -> Any:
            return "sigmoid" if isinstance(activation, str) and activation == "logistic" else activation

        own = self.activation
        activation = [*map(named, own)] if isinstance(own, (list, tuple)) else named(own)
        model = MLP(sizes, activation, self._model_loss(np.dtype(dtype)), "zeros", dtype, seed,
                    dropout=self.dropout, batch_norm=self.batch_norm, compute_dtype=self.compute_dtype)
        self._activation = own
        return model

    def _network_dtype(self, dtype: Any) -> Any:
        """That of a new network, for samples of this dtype."""
        return dtype if self.compute_dtype is None else "float32"

    def _model_loss(self, dtype: Any) -> Loss:
        raise NotImplementedError

    def _loss_factors(self) -> tuple[float, float]:
        """Of the loss and of its gradient: from this library's mean over the outputs to scikit-learn's."""
        raise NotImplementedError

    def _initialize(self, sizes: list[int], dtype: Any) -> None:
        """A network with scikit-learn's initial weights, and attributes as before the first epoch."""
        self.n_iter_ = 0
        self.t_ = 0
        self.n_layers_ = len(sizes)
        draws = []
        factor = 2.0 if self.activation == "logistic" else 6.0
        for fan_in, fan_out in zip(sizes, sizes[1:]):
            bound = np.sqrt(factor / (fan_in + fan_out))
            draws.append((self._random_state.uniform(-bound, bound, (fan_in, fan_out)),
                          self._random_state.uniform(-bound, bound, fan_out)))
        seed = int(self._random_state.randint(2**31 - 1)) if np.any(self.dropout) else 0
        model = self._new_model(sizes, dtype, seed)
        model.weights = [coef.astype(dtype, copy=False) for coef, _ in draws]
        model.biases = [intercept.astype(dtype, copy=False) for _, intercept in draws]
        self.__dict__.pop("_assigned", None)
        self.model_ = model
        self.val_loss_curve_: list[float] | None = None
        if not self._full_batch():
            self.loss_curve_: list[float] = []
            self._no_improvement_count = 0
            self._best = None
            self.validation_scores_: list[float] | None = None
            self.best_validation_score_: float | None = None
            self.best_loss_: float | None = None

    def _full_batch(self) -> bool:
        if self.optimizer is not None:
            return bool(self.optimizer.full_batch)
        return bool(self.solver == "lbfgs")

    # Training ----------------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Fit the model to samples and targets.

        Parameters
        ----------
        X : array_like, sparse matrix or table, shape (n_samples, n_features)
            Samples.
        y : array_like, shape (n_samples,) or (n_samples, n_outputs)
            Targets: labels of a classifier, numbers of a regressor.
        sample_weight : array_like, shape (n_samples,), optional
            Weight of every sample; 1 if not given.

        Returns
        -------
        object
            The estimator itself.
        """
        with _parameters.checked(self, self._constraints):
            return self._fit(X, y, sample_weight, incremental=False)

    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool) -> Any:
        hidden = self.hidden_layer_sizes
        hidden = [*hidden] if hasattr(hidden, "__iter__") else [hidden]
        if any(isinstance(units, (bool, np.bool_)) for units in hidden):
            raise TypeError(f"hidden_layer_sizes: expected integers, got {self.hidden_layer_sizes!r}")
        hidden = [operator.index(units) for units in hidden]
        if np.any(np.array(hidden) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        if self._full_batch() and any(isinstance(own, Diagnostics) for own in self.callbacks):
            raise ValueError("callbacks: Diagnostics looks at training steps, and lbfgs takes none")
        first_pass = not self._has_weights() or (not self.warm_start and not incremental)
        X, y = self._validate(X, y, incremental, reset=first_pass)
        weights = _weights(sample_weight, X.shape[0])
        weights = self._class_weights(y, weights)
        targets = self._targets(y, X.dtype)
        sizes = [X.shape[1], *map(int, hidden), self._outputs(targets)]
        if not first_pass and sizes != list(self._network().layers):
            raise ValueError(f"hidden_layer_sizes, y: expected what fits the fitted network, with layers "
                             f"{list(self._network().layers)}, got {sizes}")
        self.n_outputs_ = sizes[-1]
        self._random_state = check_random_state(self.random_state)
        if first_pass:
            self._initialize(sizes, self._network_dtype(X.dtype))
        model = self._network()
        with limit_num_threads(self.n_threads):
            if self.optimizer is not None and self.optimizer.full_batch:
                self._fit_own_full_batch(model, X, targets, weights)
            elif self._full_batch():
                self._fit_lbfgs(model, X, targets, weights)
            else:
                self._fit_stochastic(model, X, targets, weights, incremental)
        self._synchronise()
        if not all_finite(*model.weights, *model.biases):
            raise ValueError("Solver produced non-finite parameter weights. The input data may contain large "
                             "values and need to be preprocessed.")
        return self

    def _validate(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        raise NotImplementedError

    def _targets(self, y: Any, dtype: Any) -> Any:
        """What the model's loss takes."""
        raise NotImplementedError

    def _outputs(self, targets: Any) -> int:
        return 1 if targets.ndim == 1 else int(targets.shape[1])

    def _class_weights(self, y: Any, weights: Any) -> Any:
        return weights

    def _fit_lbfgs(self, model: MLP, X: Any, targets: Any, weights: Any) -> None:
        if np.any(self.dropout) or np.any(self.batch_norm):
            raise ValueError("dropout, batch_norm: lbfgs minimises one function of the parameters, of which "
                             "these make another one at every step")

        def callback(iteration: int, loss: float) -> bool:
            answers = [call(model, iteration, {"loss": loss}) for call in self.callbacks if callable(call)]
            self._synchronise()
            return any(map(asks_to_stop, answers))

        started = [call.begin(model) for call in self.callbacks if hasattr(call, "begin")]
        if any(map(asks_to_stop, started)):
            self.n_iter_ = 0
            self._finish_callbacks(model)
            return

        loss_factor, gradient_factor = self._loss_factors()
        objective = _lbfgs.Objective(X, targets, weights, loss_factor, gradient_factor, self.alpha)
        loss, self.n_iter_ = _lbfgs.minimize(
            model, objective, max_iter=self.max_iter, max_fun=self.max_fun, tol=self.tol,
            verbose=self.verbose, callback=callback if self.callbacks else None)
        self.loss_ = np.float64(loss)
        self._finish_callbacks(model)

    def _finish_callbacks(self, model: MLP) -> None:
        for call in self.callbacks:
            if hasattr(call, "finish"):
                call.finish(model)

    def _between_epochs(self, model: MLP, epoch: int, logs: Any) -> None:
        """Take over what callbacks wrote to `coefs_` before the next epoch learns something else."""
        self._synchronise()

    def _fit_own_full_batch(self, model: MLP, X: Any, targets: Any, weights: Any) -> None:
        """`fastmlp.LBFGS`, with its own settings."""
        history = model.fit(X, targets, optimizer=copy.deepcopy(self.optimizer),
                            sample_weight=weights, callbacks=[*self.callbacks, self._between_epochs],
                            progress=self.progress)
        self.n_iter_ = len(history.loss)
        self.loss_curve_ = [*map(np.float64, history.loss)]
        if history.loss:
            self.loss_ = self.loss_curve_[-1]

    def _fit_stochastic(self, model: MLP, X: Any, targets: Any, weights: Any, incremental: bool) -> None:
        loss_factor, gradient_factor = self._loss_factors()
        if not incremental or not hasattr(self, "_optimizer"):
            if self.optimizer is not None:
                self._optimizer = OwnOptimizer(copy.deepcopy(self.optimizer))
            else:
                self._optimizer = solver_for(self, gradient_factor)
        else:
            self._optimizer.follow(self)
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        validation = self._given_validation(X.dtype)
        if self.early_stopping and validation is None:
            X, targets, weights, validation = self._split(X, targets, weights)
        if validation is not None and getattr(self, "val_loss_curve_", None) is None:
            self.val_loss_curve_ = []
        if self.early_stopping and getattr(self, "best_validation_score_", None) is None:
            self.validation_scores_, self.best_validation_score_ = [], -np.inf
            self._best = best_of(model)
        elif self.early_stopping:
            self._best = None       # as in scikit-learn, where the best weights so far are those in training
        elif not self.early_stopping and self.best_loss_ is None:
            self.best_loss_ = np.inf
        n = len(targets)
        batch_size = min(200, n) if self.batch_size == "auto" else int(self.batch_size)
        if batch_size > n:
            warnings.warn("Got `batch_size` less than 1 or larger than sample size. It is going to be "
                          "clipped", stacklevel=4)
            batch_size = n
        run = _Epochs(self, n, batch_size, loss_factor, validation, incremental)
        self.n_iter_ = 0
        callbacks = [run, *(_passed(own, run) for own in self.callbacks), self._between_epochs]
        try:
            model.fit(X, targets, epochs=1 if incremental else int(self.max_iter), batch_size=batch_size,
                      optimizer=self._optimizer.optimizer, shuffle=run.order if self.shuffle else False,
                      sample_weight=weights, callbacks=callbacks, progress=self.progress, log_steps=True,
                      check_scale=False)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        finally:
            if self.early_stopping and self._best is not None:
                restore(model, self._best)

    def _given_validation(self, dtype: Any) -> Any:
        """X, targets and weights of `validation_data`."""
        if self.validation_data is None:
            return None
        if len(self.validation_data) not in (2, 3):
            raise ValueError("validation_data: expected (X, y) or (X, y, sample_weight), got "
                             f"{len(self.validation_data)} items")
        X, y, weights = (*self.validation_data, None)[:3]
        X, y = self._table(X), self._validation_labels(y)
        if len(y) != X.shape[0]:
            raise ValueError(f"validation_data: expected a target for each of {X.shape[0]} rows, "
                             f"got {len(y)}")
        return X, self._targets(y, dtype), _weights(weights, X.shape[0])

    def _validation_labels(self, y: Any) -> Any:
        return check_array(y, ensure_2d=False, dtype=None)

    def _split(self, X: Any, targets: Any, weights: Any) -> tuple[Any, Any, Any, Any]:
        """Samples to train on, and (X, targets, weights) to validate with, drawn as scikit-learn does."""
        arrays = [X, targets] if weights is None else [X, targets, weights]
        parts = train_test_split(*arrays, random_state=self._random_state, stratify=self._strata(targets),
                                 test_size=self.validation_fraction)
        if parts[1].shape[0] < 2:
            raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of "
                             "your dataset.")
        if weights is None:
            return parts[0], parts[2], None, (parts[1], parts[3], None)
        return parts[0], parts[2], parts[4], (parts[1], parts[3], parts[5])

    def _strata(self, targets: Any) -> Any:
        return None

    def _score_outputs(self, outputs: Array, targets: Any, weights: Any) -> float:
        raise NotImplementedError

    # Prediction --------------------------------------------------------------------------------------

    def _table(self, X: Any) -> Any:
        """Validated samples, as `fit` saw them."""
        if (type(X) is np.ndarray and X.ndim == 2 and X.dtype.char in "fd" and len(X)
                and X.shape[1] == self.n_features_in_ and "feature_names_in_" not in self.__dict__
                and all_finite(X)):
            return X                    # a row alone would wait ten times as long for what is below
        return validate_data(self, X, accept_sparse="csr", reset=False)

    def _forward(self, X: Any) -> Array:
        """The outputs before their function."""
        if "model_" not in self.__dict__:
            check_is_fitted(self)
        X = self._table(X)
        if self.n_threads is None:
            outputs = self._network().forward(X)
        else:
            with limit_num_threads(self.n_threads):
                outputs = self._network().forward(X)
        # As products of such arrays are: float64 samples of a float32 network give float64.
        return outputs if X.dtype == outputs.dtype else outputs.astype(np.result_type(X.dtype, outputs.dtype))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def are_plain(estimator: BaseMLP, X: Any, y: Any, kinds: str, reset: bool) -> bool:
    """Whether scikit-learn's validation would return these arrays as they are, with y of one of these kinds
    of dtype; then the estimator's attributes are set. A short fit would spend most of its time there."""
    if not (type(X) is np.ndarray and type(y) is np.ndarray and X.ndim == 2 and X.dtype.char in "fd"
            and X.dtype.isnative and y.ndim in (1, 2) and y.dtype.kind in kinds and len(X) == len(y)
            and X.size and y.size and all_finite(X) and (y.dtype.kind != "f" or all_finite(y))):
        return False
    if reset:
        estimator.__dict__.pop("feature_names_in_", None)
        estimator.n_features_in_ = X.shape[1]
        return True
    return X.shape[1] == estimator.n_features_in_ and "feature_names_in_" not in estimator.__dict__


def train(estimator: BaseMLP, X: Any, y: Any, sample_weight: Any) -> Any:
    """Train the estimator for an epoch; the estimator."""
    return estimator._fit(X, y, sample_weight, incremental=True)


def outputs_of(estimator: BaseMLP, X: Any) -> Array:
    """The outputs of a fitted estimator, before their function."""
    return estimator._forward(X)


class _Epochs:
    """The callback of `MLP.fit` that does after an epoch what scikit-learn does; and the order of samples."""

    def __init__(self, estimator: Any, n: int, batch_size: int, loss_factor: float, validation: Any,
                 incremental: bool) -> None:
        self.estimator = estimator
        self.n = n
        self.loss_factor = loss_factor
        self.validation = validation
        self.incremental = incremental
        self.samples = np.arange(n)
        self.rows = np.full(-(-n // batch_size), float(batch_size))         # of every batch
        self.rows[-1] = n - batch_size * (len(self.rows) - 1)
        self.logs: dict[str, float] = {}        # of the last epoch, for the caller's callbacks

    def order(self, epoch: int) -> Array:
        """The last order, shuffled: as scikit-learn's, which takes it in the order of shuffled indices."""
        self.estimator._random_state.shuffle(self.samples)
        return self.samples

    def __call__(self, model: MLP, epoch: int, logs: Any) -> bool:
        estimator, solver = self.estimator, self.estimator._optimizer
        losses, penalties = float(logs["step_loss"] @ self.rows), float(logs["step_penalty"] @ self.rows)
        estimator.n_iter_ += 1
        # Of NumPy's type, as scikit-learn's is: programs call loss_.round(3), loss_.item().
        estimator.loss_ = np.float64((self.loss_factor * losses + solver.penalty(penalties)) / self.n)
        estimator.t_ += self.n
        estimator.loss_curve_.append(estimator.loss_)
        if estimator.verbose:
            print(f"Iteration {estimator.n_iter_}, loss = {estimator.loss_:.8f}")
        self.logs = {"loss": float(estimator.loss_)}
        improved = self._improved(model)
        estimator._no_improvement_count = 0 if improved else estimator._no_improvement_count + 1
        solver.epoch_ends(model, estimator.t_)
        if estimator._no_improvement_count > estimator.n_iter_no_change:
            what = "Validation score did" if estimator.early_stopping else "Training loss did"
            message = (f"{what} not improve more than tol={estimator.tol:f} for "
                       f"{estimator.n_iter_no_change} consecutive epochs.")
            if solver.stops(model, message, estimator.verbose):
                return True
            estimator._no_improvement_count = 0
        if not self.incremental and estimator.n_iter_ == estimator.max_iter:
            warn_of_convergence(f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached "
                                "and the optimization hasn't converged yet.")
        return False

    def _improved(self, model: MLP) -> bool:
        """Whether the epoch is better than the best one by more than tol; the best one is kept."""
        estimator = self.estimator
        if self.validation is not None:
            X, targets, weights = self.validation
            loss = model.evaluate(X, targets, sample_weight=weights, metrics=[])["loss"]
            estimator.val_loss_curve_.append(self.loss_factor * loss)
            self.logs["val_loss"] = self.loss_factor * loss
        if not estimator.early_stopping:
            loss = estimator.loss_curve_[-1]
            improved = not loss > estimator.best_loss_ - estimator.tol
            estimator.best_loss_ = min(estimator.best_loss_, loss) if loss == loss else estimator.best_loss_
            return improved
        score = estimator._score_outputs(model.forward(X), targets, weights)
        estimator.validation_scores_.append(score)
        self.logs["val_score"] = score
        if estimator.verbose:
            print(f"Validation score: {score:f}")
        improved = not score < estimator.best_validation_score_ + estimator.tol
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            estimator._best = best_of(model)
        return improved


def _passed(callback: Any, run: _Epochs) -> Any:
    """A callback for `MLP.fit`. Diagnostics go as they are, since the engine looks for them."""
    return callback if isinstance(callback, Diagnostics) else _Passed(callback, run)


class _Passed:
    """A callback of the caller's, which is given the numbers that the estimator has recorded of the epoch."""

    def __init__(self, callback: Any, run: _Epochs) -> None:
        self.callback = callback
        self.run = run
        if hasattr(callback, "on_step_end"):
            self.on_step_end, self.every = callback.on_step_end, getattr(callback, "every", 1)

    def begin(self, model: MLP) -> Any:
        return self.callback.begin(model) if hasattr(self.callback, "begin") else None

    def __call__(self, model: MLP, epoch: int, logs: Any) -> Any:
        return self.callback(model, epoch, dict(self.run.logs)) if callable(self.callback) else None

    def finish(self, model: MLP) -> None:
        if hasattr(self.callback, "finish"):
            self.callback.finish(model)


def _weights(sample_weight: Any, rows: int) -> Any:
    """Weights of the samples, or None; errors as scikit-learn's."""
    if sample_weight is None:
        return None
    if isinstance(sample_weight, Number):
        sample_weight = np.full(rows, sample_weight, dtype=np.float64)
    weights = check_array(sample_weight, ensure_2d=False, dtype=[np.float64, np.float32], order="C",
                          input_name="sample_weight")
    if weights.ndim != 1:
        raise ValueError(f"Sample weights must be 1D array or scalar, got {weights.ndim}D array. Expected "
                         f"either a scalar value or a 1D array of length {rows}.")
    if weights.shape != (rows,):
        raise ValueError(f"sample_weight.shape == {weights.shape}, expected {(rows,)}!")
    if not weights.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return weights


def can_step(method: Method) -> Method:
    """A method that estimators have which train in steps."""
    guarded: Method = available_if(is_stochastic)(method)
    return guarded
