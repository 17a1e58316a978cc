"""MLPRegressor."""
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import column_or_1d
from sklearn.utils.validation import validate_data

from fastmlp import losses
from fastmlp._core.finite import all_finite
from fastmlp.sklearn import _parameters
from fastmlp.sklearn._base import BaseMLP, are_plain, can_step, outputs_of, train

__all__ = ["MLPRegressor"]

Array = NDArray[Any]


class MLPRegressor(RegressorMixin, BaseMLP):        # type: ignore[misc]
    """Multi-layer perceptron regressor, in the place of scikit-learn's.

    Minimises half the squared error, or half the Poisson deviance with exponential outputs, plus the penalty
    ``alpha/2 |w|^2``.

    Parameters
    ----------
    loss : str, Loss, class or callable, default "squared_error"
        "squared_error", "poisson" for counts, or any of `fastmlp.losses`.
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
    optimizer : Optimizer, optional
        Any of `fastmlp.optimizers`, in the place of solver, learning rate and alpha.
    dropout : float or list of float, default 0.0
        Share of the outputs of hidden layers that each step leaves out; a list has one for each layer.
    batch_norm : bool, BatchNorm or list of them, default False
        Batch normalisation of the hidden layers.
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
    from ``optimizer`` on are no part of scikit-learn's; their defaults change nothing.

    References
    ----------
    Hinton, "Connectionist learning procedures", Artificial Intelligence 40, 1989.

    Kingma, Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015.

    Pedregosa et al., "Scikit-learn: Machine Learning in Python", JMLR 12, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.linspace(-2, 2, 200)[:, None]
    >>> y = np.sin(2 * X[:, 0])
    >>> MLPRegressor(activation="tanh", solver="lbfgs", random_state=0).fit(X, y).score(X, y) > 0.99
    True
    """

    _constraints = _parameters.Constraints(
        {**_parameters.COMMON, "loss": _parameters.losses_or("squared_error", "poisson")})

    def __init__(
        self,
        loss: Any = "squared_error",
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
        optimizer: Any = None,
        dropout: Any = 0.0,
        batch_norm: Any = False,
        validation_data: Any = None,
        callbacks: Any = (),
        progress: bool | str = False,
        n_threads: int | None = None,
        compute_dtype: str | None = None,
    ) -> None:
        super().__init__(
            loss=loss, hidden_layer_sizes=hidden_layer_sizes, activation=activation, solver=solver,
            alpha=alpha, batch_size=batch_size, learning_rate=learning_rate,
            learning_rate_init=learning_rate_init, power_t=power_t, max_iter=max_iter, shuffle=shuffle,
            random_state=random_state, tol=tol, verbose=verbose, warm_start=warm_start, momentum=momentum,
            nesterovs_momentum=nesterovs_momentum, early_stopping=early_stopping,
            validation_fraction=validation_fraction, beta_1=beta_1, beta_2=beta_2, epsilon=epsilon,
            n_iter_no_change=n_iter_no_change, max_fun=max_fun, optimizer=optimizer, dropout=dropout,
            batch_norm=batch_norm, validation_data=validation_data, callbacks=callbacks, progress=progress,
            n_threads=n_threads, compute_dtype=compute_dtype)

    # The loss ----------------------------------------------------------------------------------------

    @property
    def _own_loss(self) -> bool:
        return not (isinstance(self.loss, str) and self.loss in ("squared_error", "poisson"))

    def _model_loss(self, dtype: Any) -> losses.Loss:
        if self._own_loss:
            return losses.resolve(self.loss)
        return losses.Poisson(deviance=True) if self.loss == "poisson" else losses.MeanSquaredError()

    def _loss_factors(self) -> tuple[float, float]:
        if self._own_loss:
            return 1.0, 1.0
        m = float(self.n_outputs_)
        return (m, m) if self.loss == "poisson" else (0.5, m / 2)

    # Training ----------------------------------------------------------------------------------------

    def _validate(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, Any]:
        if not are_plain(self, X, y, "biuf", reset):
            X, y = validate_data(self, X, y, accept_sparse="csr", multi_output=True, y_numeric=True,
                                 dtype=(np.float64, np.float32), reset=reset)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _targets(self, y: Any, dtype: Any) -> Any:
        if hasattr(y, "toarray"):
            raise TypeError("y: expected a dense array of targets, got a sparse one; y.toarray() is dense")
        return y[:, None] if y.ndim == 1 else y

    def _initialize(self, sizes: list[int], dtype: Any) -> None:
        output = self._model_loss(dtype).output
        self.out_activation_ = {"exp": "exp", "sigmoid": "logistic"}.get(output or "", "identity")
        super()._initialize(sizes, dtype)

    def _score_outputs(self, outputs: Array, targets: Any, weights: Any) -> float:
        predicted = np.exp(outputs) if self.out_activation_ == "exp" else outputs
        if not all_finite(predicted):
            return float(np.nan)
        return float(r2_score(targets, predicted, sample_weight=weights))

    @can_step
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train for one epoch over the given samples, from where the estimator stands.

        Parameters
        ----------
        X : array_like, sparse matrix or table, shape (n_samples, n_features)
            Samples.
        y : array_like, shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array_like, shape (n_samples,), optional
            Weight of every sample; 1 if not given.

        Returns
        -------
        object
            The estimator itself.
        """
        with _parameters.checked(self, self._constraints):
            return train(self, X, y, sample_weight)

    # Prediction --------------------------------------------------------------------------------------

    def predict(self, X: Any) -> Array:
        """Predict the targets.

        Parameters
        ----------
        X : array_like, sparse matrix or table, shape (n_samples, n_features)
            Samples.

        Returns
        -------
        ndarray, shape (n_samples,) or (n_samples, n_outputs)
            Predicted targets.
        """
        outputs = outputs_of(self, X)
        if self.out_activation_ == "exp":
            outputs = np.exp(outputs)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs
