"""Estimators of this library under scikit-learn's names, for code that stays as it is."""
from __future__ import annotations

import copyreg
import sys
from types import ModuleType, TracebackType
from typing import Any

import sklearn.neural_network

from fastmlp.sklearn._conversion import PAIRS, make_original
from fastmlp.sklearn._fallback import ORIGINALS, private_names, reassigned

__all__ = ["Patched", "patch", "unpatch"]

_borrowed: list[tuple[type, str]] = []      # what our classes have of theirs


class Patched:
    """What `patch` returns: as a context manager it ends the swap, if that call began it."""

    def __init__(self, began: bool) -> None:
        self.began = began

    def __enter__(self) -> Patched:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        if self.began:
            unpatch()


def patch() -> Patched:
    """Put the estimators of this library into ``sklearn.neural_network``.

    From then on ``from sklearn.neural_network import MLPClassifier`` gives `fastmlp.sklearn.MLPClassifier`,
    and estimators that scikit-learn has pickled are loaded as such. Names that were imported before keep what
    they are. A second call changes nothing.

    Returns
    -------
    Patched
        A context manager that calls `unpatch` when it is left, if it was this call that began it.

    See Also
    --------
    unpatch : Put scikit-learn's own back.
    from_sklearn : Convert one estimator.

    Notes
    -----
    Where our classes cannot stand in, scikit-learn's own are taken, and a line in the log ``fastmlp.sklearn``
    says why: for a subclass that overrides a private method, where such a method is assigned to, and for a
    parameter or a value that only scikit-learn's class takes. Private methods that are only called are
    scikit-learn's, on our attributes.

    Examples
    --------
    >>> import sklearn.neural_network
    >>> import fastmlp.sklearn
    >>> with fastmlp.sklearn.patch():
    ...     sklearn.neural_network.MLPClassifier is fastmlp.sklearn.MLPClassifier
    True
    >>> sklearn.neural_network.MLPClassifier is fastmlp.sklearn.MLPClassifier
    False
    """
    if ORIGINALS:
        return Patched(began=False)
    for theirs, ours in PAIRS.items():
        for name in sorted(private_names(theirs, "sklearn.neural_network")):
            if not hasattr(ours, name):
                setattr(ours, name, getattr(theirs, name))
                _borrowed.append((ours, name))
    for theirs, ours in PAIRS.items():
        ORIGINALS[ours] = theirs
        copyreg.pickle(theirs, _reduce)     # by its name pickle would find ours  # type: ignore[arg-type]
        for module in _modules_of(theirs):
            setattr(module, theirs.__name__, ours)
    return Patched(began=True)


def unpatch() -> None:
    """Put scikit-learn's own estimators back. Without a `patch` before, it does nothing.

    See Also
    --------
    patch : Put those of this library in their place.

    Examples
    --------
    >>> import sklearn.neural_network
    >>> unpatch()
    >>> sklearn.neural_network.MLPClassifier.__module__.startswith("sklearn.")
    True
    """
    for theirs in ORIGINALS.values():
        copyreg.dispatch_table.pop(theirs, None)
        for module in _modules_of(theirs):
            setattr(module, theirs.__name__, theirs)
    ORIGINALS.clear()
    reassigned.clear()
    while _borrowed:
        delattr(*_borrowed.pop())


def _modules_of(theirs: type) -> tuple[ModuleType, ModuleType]:
    """Where programs import it from, and where pickle looks for it."""
    return sklearn.neural_network, sys.modules[theirs.__module__]


def _reduce(estimator: Any) -> tuple[Any, ...]:
    return make_original, (type(estimator).__name__,), estimator.__getstate__()
