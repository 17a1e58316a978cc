"""The training loop of the book's ``common/trainer.py``."""
from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np

from fastmlp.compat._types import Array

from . import optimizer as optimizers
from .optimizer import *  # noqa: F403
from .optimizer import SGD, AdaGrad, Adam, Momentum, Nesterov, RMSprop

__all__ = ["Trainer", "os", "sys", *optimizers.__all__]


class Trainer:
    """Train a network on batches that ``np.random`` draws.

    Parameters
    ----------
    network : object
        Network with gradient, loss, accuracy and params, such as `MultiLayerNet`.
    x_train : ndarray, shape (n, ...)
        Samples to train on.
    t_train : ndarray, shape (n, ...)
        Their targets.
    x_test : ndarray, shape (m, ...)
        Samples to test with.
    t_test : ndarray, shape (m, ...)
        Their targets.
    epochs : int, default 20
        Passes over the samples.
    mini_batch_size : int, default 100
        Samples of a step.
    optimizer : str, default "SGD"
        Name of a class in ``optimizer``, in any case.
    optimizer_param : dict, default {"lr": 0.01}
        Its arguments.
    evaluate_sample_num_per_epoch : int, optional
        How many samples accuracies are taken of, the first ones; all if not given.
    verbose : bool, default True
        Whether losses and accuracies are printed.

    Attributes
    ----------
    train_loss_list : list of float
        Loss after every step.
    train_acc_list, test_acc_list : list of float
        Accuracies at the begin of every epoch.
    """

    def __init__(self, network: Any, x_train: Array, t_train: Array, x_test: Array, t_test: Array,
                 epochs: int = 20, mini_batch_size: int = 100, optimizer: str = "SGD",
                 optimizer_param: dict[str, Any] = {"lr": 0.01},  # noqa: B006
                 evaluate_sample_num_per_epoch: int | None = None, verbose: bool = True) -> None:
        self.network = network
        self.verbose = verbose
        self.x_train = x_train
        self.t_train = t_train
        self.x_test = x_test
        self.t_test = t_test
        self.epochs = epochs
        self.batch_size = mini_batch_size
        self.evaluate_sample_num_per_epoch = evaluate_sample_num_per_epoch
        known = {cls.__name__.lower(): cls for cls in (SGD, Momentum, Nesterov, AdaGrad, RMSprop, Adam)}
        self.optimizer = known[optimizer.lower()](**optimizer_param)
        self.train_size = x_train.shape[0]
        self.iter_per_epoch = max(self.train_size / mini_batch_size, 1)
        self.max_iter = int(epochs * self.iter_per_epoch)
        self.current_iter = 0
        self.current_epoch = 0
        self.train_loss_list: list[Any] = []
        self.train_acc_list: list[Any] = []
        self.test_acc_list: list[Any] = []

    def train_step(self) -> None:
        """Take a step, with what is due at the begin of an epoch."""
        batch = np.random.choice(self.train_size, self.batch_size)
        x, t = self.x_train[batch], self.t_train[batch]
        grads = self.network.gradient(x, t)
        self.optimizer.update(self.network.params, grads)
        loss = self.network.loss(x, t)
        self.train_loss_list.append(loss)
        self._say(f"train loss:{loss!s}")
        if self.current_iter % self.iter_per_epoch == 0:
            self.current_epoch += 1
            self._evaluate()
        self.current_iter += 1

    def train(self) -> None:
        """Take all steps, and measure the accuracy in the end."""
        for _ in range(self.max_iter):
            self.train_step()
        accuracy = self.network.accuracy(self.x_test, self.t_test)
        self._say("=============== Final Test Accuracy ===============")
        self._say(f"test acc:{accuracy!s}")

    def _evaluate(self) -> None:
        first = slice(self.evaluate_sample_num_per_epoch)
        train = self.network.accuracy(self.x_train[first], self.t_train[first])
        test = self.network.accuracy(self.x_test[first], self.t_test[first])
        self.train_acc_list.append(train)
        self.test_acc_list.append(test)
        self._say(f"=== epoch:{self.current_epoch}, train acc:{train!s}, test acc:{test!s} ===")

    def _say(self, line: str) -> None:
        if self.verbose:
            print(line)
