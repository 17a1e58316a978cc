"""Callbacks: what `fit` calls after every epoch, as f(model, epoch, logs); True ends the training.

Any function will do. Here are those that keep something between two calls. What a callback may have beside
`__call__`:

begin(model)
    is called before the first epoch; True means that there is nothing left to train.
finish(model)
    is called after the last epoch.
get_state()
    returns what it keeps between two epochs, a dict of arrays and numbers by name. It is saved by
    `MLP.save(callbacks=...)`, and with ``fit(checkpoint=...)``.
set_state(state)
    takes back what `get_state` returned, before `begin`.

A callback without the last two has no state: what it does must follow from model, epoch and logs, for a run
that was interrupted to go on as if it had not been.

An object with a method `on_step_end(model, step, logs)` is called within the epochs, too: when the number of
steps that the model has taken, ``step``, is a multiple of its attribute ``every`` (1 where it has none). It
goes on counting from one `fit` to the next, and where training resumes. ``logs`` has "epoch", and "loss", the
mean over the samples since its call before. True ends the training there; what the epoch has seen until then
is measured and recorded as its numbers. With ``every = None`` it is called wherever training pauses anyway,
about 20 times a second and after every epoch, which is for what goes by the clock: it should not rely on
arrays of the model that it got hold of earlier, but ask for `model.weights` again. With ``every = 0`` it is
not called. An epoch is cut into pieces for those who ask for it, with the same bits; without them this costs
nothing. `LBFGS` takes no such steps.
"""
from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal
from weakref import ReferenceType, ref

import numpy as np

from fastmlp._core import checks, names, state
from fastmlp._core.attributes import Guarded
from fastmlp._core.copying import VERSION, Identity, check_state, follow
from fastmlp._core.monitor import checked_mode, checked_monitor, monitored
from fastmlp.checkpoints import Checkpoint

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array
    from fastmlp.model import MLP

__all__ = ["Checkpoint", "EarlyStopping"]


def asks_to_stop(answer: object) -> bool:
    """Whether what a callback returned ends the training: True of Python or of NumPy, and nothing else.

    >>> [asks_to_stop(answer) for answer in (True, np.True_, np.False_, None, 1, "yes", np.array([True]))]
    [True, True, False, False, False, False, False]
    """
    return isinstance(answer, (bool, np.bool_)) and bool(answer)


class EarlyStopping(Guarded):
    """Stop training when it no longer helps, and restore the best weights.

    For the monitored value of epoch t::

        improved_t = value_t < best - min_delta             (value_t > best + min_delta if larger is better)
        stop when `patience` epochs in a row have not improved

    NaN never counts as improvement.

    Parameters
    ----------
    patience : int, default 10
        Number of epochs, >= 1, without improvement to wait for one; a noisy curve needs more.
    min_delta : float, default 0.0
        Least improvement, >= 0, in units of the monitored number: an improvement is more than this.
    monitor : str, optional
        A name in the logs: "val_loss", "val_accuracy", ... If not given, val_loss, or loss where there is no
        validation_data (loss is measured while the epoch learns, val_loss after it).
    restore_best : bool, default True
        Whether to keep a copy of the weights of the best epoch, and write it back when training is stopped.
    mode : {"min", "max"}, optional
        Whether smaller or larger is better. If not given, it follows from a name that ends like one of
        `fastmlp.metrics`, or in loss, error, deviance (smaller) or score (larger).

    Attributes
    ----------
    best : float or None
        Best value so far; None before the first.
    best_epoch : int or None
        Its epoch, counted from 0; None before the first.
    stopped_epoch : int or None
        The epoch that was the last; None if it did not stop the training.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range, and, after the first epoch, for a monitor that is not in the logs or whose
        mode does not follow from its name.

    Notes
    -----
    The training loss goes on falling while the network learns its samples by heart; the loss over samples
    that it never trains on turns up again. Where it turns, the network is as good as this training makes it.
    Stopping there keeps the weights near their small initial values, much as weight decay does, and costs no
    training at all. What decided when to stop is no longer an independent test: keep a third set for that.

    Every `MLP.fit` starts anew, and goes back to the best weights too when its epochs run out before the
    patience does. The state of the optimizer stays as it is. After `set_state` the next `fit` goes on with
    that state instead, counts its epochs from there, and ends at once where it had stopped.

    References
    ----------
    Prechelt, "Early Stopping - But When?", in "Neural Networks: Tricks of the Trade", 1998.

    Goodfellow, Bengio, Courville, "Deep Learning", 2016, section 7.8.

    Examples
    --------
    >>> from fastmlp import MLP, SGD
    >>> import numpy as np
    >>> X, y = np.eye(4), np.array([0, 1, 0, 1])
    >>> stopping = EarlyStopping(patience=2, min_delta=10.0)        # nothing improves by so much
    >>> history = MLP([4, 2], seed=0).fit(X, y, epochs=100, callbacks=[stopping], progress=False)
    >>> len(history.loss), stopping.best_epoch, stopping.stopped_epoch
    (3, 0, 2)
    """

    best: float | None
    best_epoch: int | None
    stopped_epoch: int | None

    @names.keywords(names.CALLBACK)
    def __init__(
        self,
        patience: int = 10,
        min_delta: float = 0.0,
        monitor: str | None = None,
        restore_best: bool = True,
        *,
        mode: Literal["min", "max"] | None = None,
    ) -> None:
        self.patience: int = patience                   # assignments validate
        self.min_delta: float = min_delta
        self.monitor: str | None = monitor
        self.restore_best: bool = restore_best
        self.mode: Literal["min", "max"] | None = mode
        self._kept: dict[str, Array] | None = None
        self._model: ReferenceType[Identity] | None = None      # whose weights these are; None for any
        self._start()

    settable = {
        "patience": lambda self, value: checks.integer("patience", value, low=1),
        "min_delta": lambda self, value: checks.number("min_delta", value, low=0.0),
        "monitor": lambda self, value: checked_monitor(value),
        "restore_best": lambda self, value: bool(value),
        "mode": lambda self, value: checked_mode(value),
    }
    fixed = {name: "is what was found in training; `set_state` sets it"
             for name in ("best", "best_epoch", "stopped_epoch")}

    def __repr__(self) -> str:
        return (f"EarlyStopping(patience={self.patience}, min_delta={self.min_delta}, "
                f"monitor={self.monitor!r}, restore_best={self.restore_best}, mode={self.mode!r})")

    def _start(self) -> None:
        self.__dict__.update(best=None, best_epoch=None, stopped_epoch=None)
        self._waited = 0
        self._epochs = 0                # seen so far
        self._before = 0                # those of them that an earlier `fit` saw
        self._resumed = False           # `set_state` was called, and no `fit` since

    def begin(self, model: MLP) -> bool:
        """Start anew with a model, or go on where `set_state` says.

        Parameters
        ----------
        model : MLP
            Model that is going to be trained.

        Returns
        -------
        bool
            Whether the training had stopped there.

        Raises
        ------
        ValueError
            If the weights in that state are those of a model of another shape.
        """
        if not self._resumed:
            self._start()
        elif self._kept is not None and self.best_epoch is not None:
            state.check(model, self._kept)
        self._model = ref(model.core.parameters.identity)
        stopped = self.stopped_epoch is not None
        self._resumed = self._resumed and not stopped
        return stopped

    def __call__(self, model: MLP, epoch: int, logs: Mapping[str, float]) -> bool:
        """Look at the numbers of an epoch.

        Parameters
        ----------
        model : MLP
            Model that is trained.
        epoch : int
            Epoch, from 0 on.
        logs : mapping {str: float}
            Numbers of the epoch.

        Returns
        -------
        bool
            Whether training should end.

        Raises
        ------
        ValueError
            For a monitor that is not in the logs or whose mode does not follow from its name.
        """
        if epoch == 0 or self._resumed:
            if not self._resumed and self._epochs:
                self._start()
            self._resumed, self._before = False, self._epochs - epoch
            self._model = ref(model.core.parameters.identity)
        epoch += self._before
        self._epochs = epoch + 1
        value, sign = monitored(logs, self.monitor, self.mode)
        best = math.inf if self.best is None else sign * self.best
        if sign * value < best - self.min_delta:
            if self.restore_best:
                self._kept = state.copy(model, into=self._kept)
            self.__dict__.update(best=value, best_epoch=epoch)
            self._waited = 0
            return False
        self._waited += 1
        if self._waited < self.patience:
            return False
        self.__dict__.update(stopped_epoch=epoch)
        self.finish(model)
        return True

    def finish(self, model: MLP) -> None:
        """Go back to the weights of the best epoch, if they were kept.

        Parameters
        ----------
        model : MLP
            Model that was trained.

        Raises
        ------
        ValueError
            For another model than the one that was trained.
        """
        self._resumed = False
        if self.restore_best and self.best_epoch is not None and self._kept is not None:
            if self._identity() not in (None, model.core.parameters.identity):
                raise ValueError("model: expected the one that was trained with this EarlyStopping, got "
                                 "another")
            state.restore(model, self._kept)

    # State, read and written -------------------------------------------------------------------------

    def get_state(self) -> dict[str, Array]:
        """Return copies of all that it holds of the training, by flat names.

        Returns
        -------
        dict {str: ndarray}
            "best" (NaN before the first), "best_epoch" and "stopped_epoch" (-1 for None), "waited", "epochs"
            (those seen so far), and with restore_best "kept.weights.0" and so on, the arrays of the best
            epoch. ``np.savez(file, **state)`` saves it.

        Examples
        --------
        >>> list(EarlyStopping().get_state())
        ['best', 'best_epoch', 'stopped_epoch', 'waited', 'epochs']
        """
        result = {
            "best": np.array(math.nan if self.best is None else self.best, np.float64),
            "best_epoch": np.array(-1 if self.best_epoch is None else self.best_epoch),
            "stopped_epoch": np.array(-1 if self.stopped_epoch is None else self.stopped_epoch),
            "waited": np.array(self._waited),
            "epochs": np.array(self._epochs),
        }
        if self.restore_best and self.best_epoch is not None and self._kept is not None:
            result |= {state.KEPT + name: array.copy() for name, array in self._kept.items()}
        return result

    def set_state(self, values: Mapping[str, ArrayLike]) -> None:
        """Replace the state by what `get_state` returned; the next `fit` goes on with it.

        Parameters
        ----------
        values : mapping {str: array_like}
            State, as `get_state` returns it.

        Raises
        ------
        TypeError
            For values of another type than `get_state` returns; nothing is changed.
        ValueError
            For names that are missing or unknown, and values that `get_state` cannot have returned; nothing
            is changed.

        Examples
        --------
        >>> one, two = EarlyStopping(), EarlyStopping()
        >>> two.set_state(one.get_state())
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"state: expected a dict of arrays, got {type(values).__name__}")
        names = ["best", "best_epoch", "stopped_epoch", "waited", "epochs"]
        for name in names:
            if name not in values:
                raise ValueError(f"state: expected an entry {name!r}, got {', '.join(values) or 'none'}")
        best = checks.real("state['best']", checks.scalar(values["best"]))
        lowest = {"best_epoch": -1, "stopped_epoch": -1, "waited": 0, "epochs": 0}
        best_epoch, stopped_epoch, waited, epochs = (
            checks.integer(f"state[{name!r}]", checks.scalar(values[name]), low=low)
            for name, low in lowest.items())
        if (best_epoch < 0) != math.isnan(best):
            raise ValueError("state['best_epoch']: expected -1 with a best of nan, and only then, "
                             f"got {best_epoch} and {best}")
        if max(best_epoch, stopped_epoch) >= epochs or waited > epochs:
            raise ValueError(f"state['epochs']: expected more than the other numbers, got {epochs}")
        kept = {}
        for name in values:
            if name in names:
                continue
            if not name.startswith(state.KEPT) or best_epoch < 0 or not self.restore_best:
                raise ValueError(f"state: unknown entry {name!r}, expected {', '.join(names)}"
                                 + (f", {state.KEPT}*" if self.restore_best and best_epoch >= 0 else ""))
            kept[name.removeprefix(state.KEPT)] = checks.floating(f"state[{name!r}]", values[name]).copy()
        if self.restore_best and best_epoch >= 0 and not kept:
            raise ValueError(f"state: expected entries {state.KEPT}*, the arrays of epoch {best_epoch}, "
                             "got none")
        found = None if best_epoch < 0 else best_epoch
        self.__dict__.update(best=None if found is None else best, best_epoch=found,
                             stopped_epoch=None if stopped_epoch < 0 else stopped_epoch)
        self._waited, self._epochs, self._before = waited, epochs, epochs
        self._kept, self._model, self._resumed = kept or None, None, True

    # Copies -------------------------------------------------------------------------------------------

    def _identity(self) -> Identity | None:
        return None if self._model is None else self._model()

    def __copy__(self) -> EarlyStopping:
        return copy.deepcopy(self)

    def __deepcopy__(self, memo: dict[Any, Any]) -> EarlyStopping:
        identity = self._identity()
        result = memo[id(self)] = type(self).__new__(type(self))
        result.__dict__.update((name, copy.deepcopy(value, memo)) for name, value in vars(self).items()
                               if name != "_model")
        result._model = None if identity is None else ref(memo.get(id(identity), identity))
        follow(result, memo)
        return result

    def follow(self, old: Identity, new: Identity) -> None:
        """Belong to the copy of the model, which was copied after this object.

        Parameters
        ----------
        old : Identity
            Identity of the model.
        new : Identity
            Identity of its copy.
        """
        if self._identity() is old:
            self._model = ref(new)

    def __getstate__(self) -> dict[str, Any]:
        settings = {name: value for name, value in vars(self).items() if name != "_model"}
        return {"version": VERSION, "settings": settings, "model": self._identity()}

    def __setstate__(self, values: dict[str, Any]) -> None:
        check_state(self, values, ["settings", "model"])
        identity = values["model"]
        self.__dict__.update(values["settings"], _model=None if identity is None else ref(identity))
