"""`Checkpoint`: a callback that saves the model while it is trained."""
from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fastmlp._core import checks, names
from fastmlp._core.attributes import Guarded
from fastmlp._core.copying import VERSION, check_state
from fastmlp._core.monitor import checked_mode, checked_monitor, monitored
from fastmlp._core.place import Place
from fastmlp._core.whole_files import check_folder
from fastmlp.saving import check_suffix, file_name

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.run_file import Run
    from fastmlp._core.types import Array, Path, Setting
    from fastmlp.model import MLP

__all__ = ["Checkpoint"]


class Checkpoint(Guarded):
    """Save the model after epochs: all of them, every so many, or those that are the best so far.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        Path of the file, as for `MLP.save`. It may have fields for the epoch, counted from 0, and the numbers
        of the logs: "net-{epoch:03d}-{val_loss:.4f}.safetensors"; without, there is one file, which is
        replaced.
    monitor : str, optional
        A name in the logs, by which an epoch is the best. If not given, val_loss, or loss where there is no
        validation_data.
    save_best_only : bool, default False
        Whether only epochs are saved that are better than all before.
    every : int, default 1
        Number of epochs, >= 1, from one that may be saved to the next. No others are looked at:
        ``save_best_only`` does not compare with them.
    mode : {"min", "max"}, optional
        Whether smaller or larger is better. If not given, it follows from a name that ends like one of
        `fastmlp.metrics`, or in loss, error, deviance (smaller) or score (larger).

    Attributes
    ----------
    best : float or None
        Best value so far; None before the first.
    best_epoch : int or None
        Its epoch, counted from 0; None before the first.
    saved_path : str or None
        File that was written last; None before the first.

    Raises
    ------
    TypeError
        For settings of the wrong type.
    ValueError
        For settings out of range, and, after the first epoch, for a path with a field that is not in the logs
        and for a monitor that is not there or whose mode does not follow from its name.
    OSError
        When training begins, for a folder that is not there; after an epoch, where the file cannot be
        written.

    See Also
    --------
    fastmlp.EarlyStopping : Keeps the best weights in memory.

    Notes
    -----
    `fastmlp.load` reads the model. The file also holds what a run needs to go on: ``fit(...,
    checkpoint=path, resume=True)`` does so after the epoch that was saved. (Not with `LBFGS`.) For that the
    callback stands last in the list, after those whose state it saves. To survive a kill at any moment,
    within an epoch too, ``fit(checkpoint=...)`` alone is enough.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> best = Checkpoint("best.safetensors", monitor="val_accuracy", save_best_only=True)
    >>> model.fit(X, y, validation_data=(Xv, yv), callbacks=[best])  # doctest: +SKIP
    >>> model = fastmlp.load(best.saved_path)  # doctest: +SKIP
    """

    path: Setting[str, Path]
    best: float | None
    best_epoch: int | None
    saved_path: str | None

    @names.keywords(names.CALLBACK)
    def __init__(
        self,
        path: Path,
        monitor: str | None = None,
        save_best_only: bool = False,
        every: int = 1,
        *,
        mode: Literal["min", "max"] | None = None,
    ) -> None:
        self.path = path                                # assignments validate
        self.monitor: str | None = monitor
        self.save_best_only: bool = save_best_only
        self.every: int = every
        self.mode: Literal["min", "max"] | None = mode
        self._start()

    def _new_path(self, path: Path) -> str:
        name = file_name(path)
        check_suffix("path", name)
        return name

    settable = {
        "path": _new_path,
        "monitor": lambda self, value: checked_monitor(value),
        "save_best_only": lambda self, value: bool(value),
        "every": lambda self, value: checks.integer("every", value, low=1),
        "mode": lambda self, value: checked_mode(value),
    }
    fixed = {name: "is what was found in training; `set_state` sets it"
             for name in ("best", "best_epoch", "saved_path")}

    def __repr__(self) -> str:
        return (f"Checkpoint({self.path!r}, monitor={self.monitor!r}, save_best_only={self.save_best_only}, "
                f"every={self.every}, mode={self.mode!r})")

    def _start(self) -> None:
        self.__dict__.update(best=None, best_epoch=None, saved_path=None)
        self._resumed = False           # `set_state` was called, and no `fit` since

    def begin(self, model: MLP) -> None:
        """Start anew with a model, or go on where `set_state` says.

        Parameters
        ----------
        model : MLP
            Model that is going to be trained.
        """
        check_folder(self.path)
        if not self._resumed:
            self._start()
        self._resumed = False
        self._run_of(model)             # before the training changes anything

    def __call__(self, model: MLP, epoch: int, logs: Mapping[str, float]) -> None:
        """Save the model, if this epoch is one to save.

        Parameters
        ----------
        model : MLP
            Model that is trained.
        epoch : int
            Epoch, from 0 on.
        logs : mapping {str: float}
            Numbers of the epoch.

        Raises
        ------
        ValueError
            For a monitor that is not in the logs or whose mode does not follow from its name, and for a path
            with a field that is not there.
        OSError
            Where the file cannot be written.
        """
        if (epoch + 1) % self.every:
            return
        is_best = self._is_best(epoch, logs)
        if self.save_best_only and not is_best:
            return
        path = self._path_of(epoch, logs)
        run = self._run_of(model)
        if run is None:
            model.save(path)
        else:
            run.save(path, Place(epoch + 1))
        self.__dict__.update(saved_path=path)

    def _run_of(self, model: MLP) -> Run | None:
        """The call of `fit` that is going on, if it can go on from a file."""
        training = model.core.training
        return None if training is None or training.optimizer.full_batch else training.saved_run

    def _is_best(self, epoch: int, logs: Mapping[str, float]) -> bool:
        """Whether no epoch was as good; where nothing depends on it, a mode need not be known."""
        if not self.save_best_only and self.monitor is None:
            return True
        value, sign = monitored(logs, self.monitor, self.mode)
        if self.best is not None and not sign * value < sign * self.best or math.isnan(value):
            return False
        self.__dict__.update(best=value, best_epoch=epoch)
        return True

    def _path_of(self, epoch: int, logs: Mapping[str, float]) -> str:
        numbers = {name: value for name, value in logs.items() if np.ndim(value) == 0}
        try:
            return self.path.format_map({**numbers, "epoch": epoch})
        except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
            names = ", ".join(["epoch", *numbers])
            raise ValueError(f"path: {self.path!r} cannot be filled in with {names}: {type(error).__name__}: "
                             f"{error}; a brace is written twice") from None

    # State, read and written -------------------------------------------------------------------------

    def get_state(self) -> dict[str, Array]:
        """Return what it holds of the training, by names.

        Returns
        -------
        dict {str: ndarray}
            "best" (NaN before the first) and "best_epoch" (-1 for None).

        Examples
        --------
        >>> list(Checkpoint("net.safetensors").get_state())
        ['best', 'best_epoch']
        """
        return {"best": np.array(math.nan if self.best is None else self.best, np.float64),
                "best_epoch": np.array(-1 if self.best_epoch is None else self.best_epoch)}

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
        >>> one, two = Checkpoint("net.safetensors"), Checkpoint("net.safetensors")
        >>> two.set_state(one.get_state())
        """
        if not isinstance(values, Mapping) or values.keys() != {"best", "best_epoch"}:
            raise ValueError(f"state: expected best, best_epoch, got {', '.join(map(str, values)) or 'none'}")
        best = checks.real("state['best']", checks.scalar(values["best"]))
        best_epoch = checks.integer("state['best_epoch']", checks.scalar(values["best_epoch"]), low=-1)
        if (best_epoch < 0) != math.isnan(best):
            raise ValueError("state['best_epoch']: expected -1 with a best of nan, and only then, "
                             f"got {best_epoch} and {best}")
        self._start()
        if best_epoch >= 0:
            self.__dict__.update(best=best, best_epoch=best_epoch)
        self._resumed = True

    # Copies -------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return {"version": VERSION, "settings": dict(vars(self))}

    def __setstate__(self, values: dict[str, Any]) -> None:
        check_state(self, values, ["settings"])
        self.__dict__.update(values["settings"])
