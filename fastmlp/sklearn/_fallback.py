"""Where an estimator of this library cannot stand in for scikit-learn's, scikit-learn's own is taken.

Only between `patch` and `unpatch`, and with a line in the log "fastmlp.sklearn" that says why. An object is
decided on when it is made, by its parameters; a subclass when it is defined, by what it overrides.
"""
from __future__ import annotations

import inspect
import logging
from abc import ABCMeta
from typing import Any

from sklearn.utils._param_validation import InvalidParameterError, validate_parameter_constraints

__all__ = ["ORIGINALS", "SwapType", "log", "own_class_for", "private_names", "reassigned", "why_not"]

# Where a class says what its parameters may be.
OF_OURS, OF_THEIRS = "_constraints", "_parameter_constraints"

log = logging.getLogger("fastmlp.sklearn")

ORIGINALS: dict[type, type] = {}        # scikit-learn's class for each of ours, while these are swapped in
reassigned: dict[type, str] = {}        # ours -> a private name of theirs that somebody has assigned to


class SwapType(ABCMeta):
    """The type of the estimators' classes. scikit-learn's are ABCs; whatever is mixed with them can be mixed
    with these."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> Any:
        for ours in ORIGINALS.keys() & {ancestor for base in bases for ancestor in base.__mro__}:
            clash = _clash(ours, bases, namespace)
            if clash is None:
                continue
            if ours not in bases:
                raise TypeError(f"class {name}: overrides {clash} of scikit-learn's {ours.__name__}, but its "
                                "base class is derived from fastmlp.sklearn's; define that one before "
                                "fastmlp.sklearn.patch()")
            log.warning("class %s: derived from scikit-learn's own %s, since it overrides %s", name,
                        ours.__name__, clash)
            return ABCMeta(name, tuple(ORIGINALS.get(b, b) for b in bases), namespace, **options)
        return super().__new__(mcls, name, bases, namespace, **options)

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        theirs = ORIGINALS.get(cls)
        if theirs is not None:
            args, kwargs = _by_name(theirs, args, kwargs)
        reason = None if theirs is None else why_not(cls, theirs, args, kwargs)
        if theirs is None or reason is None:
            return super().__call__(*args, **kwargs)
        log.warning("%s: scikit-learn's own is taken, since %s", cls.__name__, reason)
        return theirs(*args, **kwargs)

    def __setattr__(cls, name: str, value: Any) -> None:
        theirs = ORIGINALS.get(cls)
        if theirs is not None and name in private_names(theirs, "sklearn.neural_network"):
            reassigned[cls] = name
            setattr(theirs, name, value)
        else:
            super().__setattr__(name, value)

    def __instancecheck__(cls, instance: Any) -> bool:
        theirs = ORIGINALS.get(cls, ())
        return super().__instancecheck__(instance) or isinstance(instance, theirs)

    def __subclasscheck__(cls, subclass: type) -> bool:
        theirs = ORIGINALS.get(cls, ())
        return super().__subclasscheck__(subclass) or issubclass(subclass, theirs)

    @property
    def __signature__(cls) -> inspect.Signature:
        signature = inspect.signature(cls.__init__)     # type: ignore[misc]
        return signature.replace(parameters=[*signature.parameters.values()][1:])


def private_names(cls: type, package: str) -> set[str]:
    """Names with one underscore that classes of a package define for this class.

    >>> from fastmlp.sklearn import MLPClassifier
    >>> "_network" in private_names(MLPClassifier, "fastmlp.sklearn")
    True
    """
    return {name for base in cls.__mro__ if base.__module__.startswith(package) for name in vars(base)
            if name.startswith("_") and not name.startswith(("__", "_abc_", "_sklearn_"))}


def _clash(ours: type, bases: tuple[type, ...], namespace: dict[str, Any]) -> str | None:
    """A private name of either class that a new class overrides: itself, or by what it mixes in."""
    private = private_names(ORIGINALS[ours], "sklearn.neural_network")
    private |= private_names(ours, "fastmlp.sklearn")
    mixed_in = {base for other in bases for base in other.__mro__} - {*ours.__mro__}
    overridden = {*namespace}.union(*map(vars, mixed_in)) & private
    return min(overridden, default=None)


def why_not(ours: Any, theirs: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """What only scikit-learn's class takes; None for nothing."""
    if ours in reassigned:
        return f"{reassigned[ours]} was assigned to"
    try:
        given = inspect.signature(ours).bind(*args, **kwargs).arguments
    except TypeError as error:
        try:
            inspect.signature(theirs).bind(*args, **kwargs)
        except TypeError:
            return None
        return str(error)
    for name, value in given.items():
        if not _fits(getattr(ours, OF_OURS), name, value) and _fits(getattr(theirs, OF_THEIRS), name, value):
            return f"{name}={value!r} is scikit-learn's alone"
    return None


def own_class_for(ours: Any, state: dict[str, Any]) -> type | None:
    """Of an object with these attributes: scikit-learn's class, where only that will do; else None.

    ValueError where it is not at hand, since nothing is swapped.
    """
    constraints = getattr(ours, OF_OURS)
    for name, value in state.items():
        if name in constraints and not _fits(constraints, name, value):
            reason = f"{name}={value!r} is scikit-learn's alone"
            if ours not in ORIGINALS:
                raise ValueError(f"{ours.__name__}: {reason}")
            log.warning("%s: scikit-learn's own is unpickled, since %s", ours.__name__, reason)
            return ORIGINALS[ours]
    return None


def _by_name(theirs: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
             ) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments by position under the names that they have in the scikit-learn that is installed: before 1.7
    the first one of MLPRegressor is hidden_layer_sizes. What is a mistake there stays as it is."""
    names = [name for name, parameter in inspect.signature(theirs).parameters.items()
             if parameter.kind is parameter.POSITIONAL_OR_KEYWORD][:len(args)]
    if len(names) < len(args) or kwargs.keys() & set(names):
        return args, kwargs
    return (), {**dict(zip(names, args)), **kwargs}


def _fits(constraints: dict[str, Any], name: str, value: Any) -> bool:
    if name not in constraints:
        return False
    try:
        validate_parameter_constraints(constraints, {name: value}, "")
    except InvalidParameterError:
        return False
    return True
