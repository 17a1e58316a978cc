"""The training loop of the course."""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastmlp.compat._types import Array

from . import optim

__all__ = ["Solver"]

_OPTIONS = {"update_rule": "sgd", "optim_config": None, "lr_decay": 1.0, "batch_size": 100, "num_epochs": 10,
            "num_train_samples": 1000, "num_val_samples": None, "checkpoint_name": None, "print_every": 10,
            "verbose": True}


class Solver:
    """Train a model on batches that ``np.random`` draws, and leave the best parameters in it.

    Parameters
    ----------
    model : object
        Model with ``params``, a dict of arrays, and ``loss(X, y)``, which returns the loss and a dict of
        gradients, or the scores where y is left out.
    data : dict
        "X_train", "y_train", "X_val", "y_val".
    **kwargs : dict
        update_rule ("sgd", a name in ``optim``), optim_config ({}), lr_decay (1.0, after every epoch),
        batch_size (100), num_epochs (10), num_train_samples (1000) and num_val_samples (None: all) for
        accuracy, print_every (10), verbose (True), checkpoint_name (None).

    Attributes
    ----------
    loss_history : list of float
        Loss of every step.
    train_acc_history, val_acc_history : list of float
        Accuracy after every epoch.
    best_val_acc : float
        The best of them.
    best_params : dict
        Parameters of that epoch.

    Notes
    -----
    With a checkpoint_name, every epoch is saved as NAME_epoch_N.npz: the parameters as "params/W1" and so on,
    and the histories. (The course's solver writes pickles.)
    """

    def __init__(self, model: Any, data: Mapping[str, Array], **kwargs: Any) -> None:
        unknown = sorted(set(kwargs) - set(_OPTIONS))
        if unknown:
            raise ValueError(f"Unrecognized arguments {', '.join(unknown)}; expected some of "
                             f"{', '.join(_OPTIONS)}")
        self.model = model
        self.X_train, self.y_train = data["X_train"], data["y_train"]
        self.X_val, self.y_val = data["X_val"], data["y_val"]
        options = {**_OPTIONS, **kwargs}
        rule = options["update_rule"]
        if rule not in optim.__all__:
            raise ValueError(f"update_rule: expected one of {', '.join(optim.__all__)}, got {rule!r}")
        self.update_rule = getattr(optim, rule)
        self.optim_config = options["optim_config"] if options["optim_config"] is not None else {}
        self.lr_decay: float = options["lr_decay"]
        self.batch_size: int = options["batch_size"]
        self.num_epochs: int = options["num_epochs"]
        self.num_train_samples = options["num_train_samples"]
        self.num_val_samples = options["num_val_samples"]
        self.checkpoint_name = options["checkpoint_name"]
        self.print_every: int = options["print_every"]
        self.verbose: bool = options["verbose"]
        self._reset()

    def _reset(self) -> None:
        self.epoch = 0
        self.best_val_acc: Any = 0
        self.best_params: dict[str, Any] = {}
        self.loss_history: list[Any] = []
        self.train_acc_history: list[Any] = []
        self.val_acc_history: list[Any] = []
        self.optim_configs = {name: dict(self.optim_config) for name in self.model.params}

    def _step(self) -> None:
        batch = np.random.choice(self.X_train.shape[0], self.batch_size)
        loss, grads = self.model.loss(self.X_train[batch], self.y_train[batch])
        self.loss_history.append(loss)
        for name, w in self.model.params.items():
            next_w, config = self.update_rule(w, grads[name], self.optim_configs[name])
            self.model.params[name], self.optim_configs[name] = next_w, config

    def check_accuracy(self, X: Array, y: Array, num_samples: int | None = None, batch_size: int = 100
                       ) -> np.floating[Any]:
        """Compute the share of samples that the model gets right.

        Parameters
        ----------
        X : ndarray, shape (n, d_1, ..., d_k)
            Samples.
        y : ndarray of int, shape (n,)
            Class of every row.
        num_samples : int, optional
            How many are drawn by ``np.random``; all if not given.
        batch_size : int, default 100
            Rows of a call of the model.

        Returns
        -------
        floating
            The share.
        """
        if num_samples is not None and X.shape[0] > num_samples:
            sample = np.random.choice(X.shape[0], num_samples)
            X, y = X[sample], y[sample]
        labels = [np.argmax(self.model.loss(X[first:first + batch_size]), axis=1)
                  for first in range(0, X.shape[0], batch_size)]
        return np.mean(np.hstack(labels) == y)

    def train(self) -> None:
        """Train for num_epochs; afterwards ``model.params`` are the best ones."""
        in_epoch = max(self.X_train.shape[0] // self.batch_size, 1)
        steps = self.num_epochs * in_epoch
        for t in range(steps):
            self._step()
            if t % self.print_every == 0:
                self._say(f"(Iteration {t + 1} / {steps}) loss: {self.loss_history[-1]:f}")
            epoch_ends = (t + 1) % in_epoch == 0
            if epoch_ends:
                self.epoch += 1
                for config in self.optim_configs.values():
                    config["learning_rate"] *= self.lr_decay
            if epoch_ends or t in (0, steps - 1):
                self._evaluate()
        self.model.params = self.best_params

    def _evaluate(self) -> None:
        train_acc = self.check_accuracy(self.X_train, self.y_train, self.num_train_samples)
        val_acc = self.check_accuracy(self.X_val, self.y_val, self.num_val_samples)
        self.train_acc_history.append(train_acc)
        self.val_acc_history.append(val_acc)
        self._save_checkpoint()
        self._say(f"(Epoch {self.epoch} / {self.num_epochs}) train acc: {train_acc:f}; val_acc: {val_acc:f}")
        if val_acc > self.best_val_acc:
            self.best_val_acc = val_acc
            self.best_params = {name: w.copy() for name, w in self.model.params.items()}

    def _save_checkpoint(self) -> None:
        if self.checkpoint_name is None:
            return
        filename = f"{self.checkpoint_name}_epoch_{self.epoch}.npz"
        self._say(f'Saving checkpoint to "{filename}"')
        arrays: dict[str, Any] = {f"params/{name}": w for name, w in self.model.params.items()}
        for name in ("loss_history", "train_acc_history", "val_acc_history"):
            arrays[name] = np.asarray(getattr(self, name))
        np.savez(filename, **arrays)

    def _say(self, line: str) -> None:
        if self.verbose:
            print(line)
