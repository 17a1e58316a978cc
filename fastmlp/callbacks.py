"""Callbacks: what `fit` calls after every epoch, as f(model, epoch, logs); True ends the training.

Any function will do. Here are those that keep something between two calls.
"""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from fastmlp import checks, state

if TYPE_CHECKING:
    from fastmlp.model import MLP

__all__ = ["EarlyStopping"]

# How scikit-learn names its metrics: to be small, and to be large.
SMALLER = ("loss", "error", "deviance")
LARGER = ("accuracy", "r2", "score")


class EarlyStopping:
    """Ends training when it no longer helps, and goes back to the best weights.

        improved_t = value_t < best - min_delta             (value_t > best + min_delta if larger is better)
        stop when `patience` epochs in a row have not improved

    The training loss goes on falling while the network learns its samples by heart; the loss over samples
    that it never trains on turns up again. Where it turns, the network is as good as this training makes it.
    Stopping there keeps the weights near their small initial values, much as weight decay does, and costs
    no training at all. What decided when to stop is no longer an independent test: keep a third set for that.

    patience        epochs (>= 1) without improvement to wait for one; a noisy curve needs more
    min_delta       >= 0, in units of the monitored number: an improvement is more than this
    monitor         a name in the logs: "val_loss", "val_accuracy", ...; None for val_loss, or for loss where
                    there is no validation_data (loss is measured while the epoch learns, val_loss after it)
    restore_best    keep a copy of the weights of the best epoch, and write it back when training is stopped
    mode            "min" or "max": whether smaller or larger is better; None tells from a name that ends in
                    loss, error, deviance (smaller) or accuracy, r2, score (larger)

    best, best_epoch    the best value so far and its epoch (counted from 0); None before the first
    stopped_epoch       the epoch that was the last; None if it did not stop the training

    NaN never counts as improvement. Every `fit` starts anew, and goes back to the best weights too when its
    epochs run out before the patience does. The state of the optimizer stays as it is.

    Raises TypeError or ValueError for settings out of range, and, after the first epoch, ValueError for a
    monitor that is not in the logs or whose mode cannot be told.

    Source: Prechelt, "Early Stopping - But When?", in "Neural Networks: Tricks of the Trade", 1998;
    Goodfellow, Bengio, Courville, "Deep Learning", 2016, section 7.8.

    >>> from fastmlp import MLP, SGD
    >>> import numpy as np
    >>> X, y = np.eye(4), np.array([0, 1, 0, 1])
    >>> stopping = EarlyStopping(patience=2, min_delta=10.0)        # nothing improves by so much
    >>> history = MLP([4, 2], seed=0).fit(X, y, epochs=100, callbacks=[stopping], progress=False)
    >>> len(history.loss), stopping.best_epoch, stopping.stopped_epoch
    (3, 0, 2)
    """

    def __init__(
        self,
        patience: int = 10,
        min_delta: float = 0.0,
        monitor: str | None = None,
        restore_best: bool = True,
        *,
        mode: str | None = None,
    ) -> None:
        self.patience = checks.integer("patience", patience, low=1)
        self.min_delta = checks.number("min_delta", min_delta, low=0.0)
        if monitor is not None and not isinstance(monitor, str):
            raise TypeError(f"monitor: expected a name, got {monitor!r}")
        if mode is not None:
            if not isinstance(mode, str):
                raise TypeError(f'mode: expected "min" or "max", got {mode!r}')
            checks.known_name("mode", mode, ["min", "max"])
        self.monitor = monitor
        self.restore_best = bool(restore_best)
        self.mode = mode
        self._kept: dict[str, NDArray[Any]] | None = None
        self._start()

    def __repr__(self) -> str:
        return (f"EarlyStopping(patience={self.patience}, min_delta={self.min_delta}, "
                f"monitor={self.monitor!r}, restore_best={self.restore_best}, mode={self.mode!r})")

    def _start(self) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._waited = 0

    def __call__(self, model: MLP, epoch: int, logs: Mapping[str, float]) -> bool:
        """Look at the numbers of an epoch; whether training should end."""
        if epoch == 0:
            self._start()
        value, sign = self._value(logs)
        best = math.inf if self.best is None else sign * self.best
        if sign * value < best - self.min_delta:
            self.best, self.best_epoch, self._waited = value, epoch, 0
            if self.restore_best:
                self._kept = state.copy(model, into=self._kept)
            return False
        self._waited += 1
        if self._waited < self.patience:
            return False
        self.stopped_epoch = epoch
        self.finish(model)
        return True

    def finish(self, model: MLP) -> None:
        """Go back to the weights of the best epoch, if they were kept.

        Raises ValueError for a model of other layers than the one that was trained.
        """
        if self.restore_best and self.best_epoch is not None and self._kept is not None:
            state.restore(model, self._kept)

    def _value(self, logs: Mapping[str, float]) -> tuple[float, int]:
        """The monitored number, and 1 if smaller is better, else -1."""
        monitor = self.monitor or ("val_loss" if "val_loss" in logs else "loss")
        if monitor not in logs:
            hint = " (val_ needs validation_data)" if monitor.startswith("val_") else ""
            raise ValueError(f"monitor: {monitor!r} is not recorded{hint}, only {', '.join(logs)}")
        if self.mode is not None:
            smaller = self.mode == "min"
        elif monitor.endswith(SMALLER + LARGER):
            smaller = monitor.endswith(SMALLER)
        else:
            raise ValueError(f'mode: expected "min" or "max" for {monitor!r}, whose name does not tell')
        return float(logs[monitor]), 1 if smaller else -1
