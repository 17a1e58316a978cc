"""How every array function is called: the compiled backend first, the checks for what it declines."""
from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from types import CodeType
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fastmlp import activations, backends
from fastmlp._core import checks

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.types import Array

Function = TypeVar("Function", bound=Callable[..., Any])


def fast_path(checked: Function) -> Function:
    """Try the compiled function of the same name; `checked` is for what it declines."""
    name = checked.__name__
    override = backends.override.get
    last: tuple[Any, Any] = None, None      # a backend and its function, if compiled: saves 100 ns a call

    @wraps(checked)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal last
        backend: Any = override() or backends.process_wide      # backends.active(), without the call
        known, compiled = last              # one tuple: whole, whatever other threads do
        if backend is not known:
            compiled = getattr(backend, name) if backend.COMPILED else None
            last = backend, compiled
        if compiled is not None:            # without keywords a call is cheaper
            try:
                result = compiled(*args, **kwargs) if kwargs else compiled(*args)
            except TypeError:
                try:
                    signature(checked).bind(*args, **kwargs)
                except TypeError as mismatch:       # names the caller's function, and not the compiled one
                    raise TypeError(f"{name}(): {mismatch}") from None
                raise
            if result is not NotImplemented:
                return result
        return checked(*args, **kwargs)

    @wraps(checked)
    def call_unary(x: Any, *, out: Any = None) -> Any:      # the same for f(x, out=None), and 60 ns cheaper
        nonlocal last
        backend: Any = override() or backends.process_wide
        known, compiled = last
        if backend is not known:
            compiled = getattr(backend, name) if backend.COMPILED else None
            last = backend, compiled
        if compiled is not None:
            result = compiled(x) if out is None else compiled(x, out=out)
            if result is not NotImplemented:
                return result
        return checked(x, out=out)

    code: CodeType = checked.__code__       # all of them are plain functions
    unary = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount] == ("x", "out")
    return call_unary if unary else call  # type: ignore[return-value]


def run(name: str, inputs: tuple[Array | None, ...], *options: Any, before: tuple[Any, ...] = (),
        out: Any = None, **keywords: Any) -> Any:
    """The backend's function on checked arguments: `before`, inputs (None for one left out), options,
    keywords. `out` (None, an array, a tuple of arrays with None for one that is not wanted) is filled.

    A compiled backend gets plain copies of the inputs, and temporaries for results, where they are not plain.
    """
    backend = backends.active()
    function = getattr(backend, name)
    if not backend.COMPILED:
        return function(*before, *inputs, *options, out=out, **keywords)
    inputs = tuple(None if array is None else plain(array) for array in inputs)
    if out is None:
        return done(name, function(*before, *inputs, *options, **keywords))
    outs = out if isinstance(out, tuple) else (out,)
    targets = tuple(None if array is None else _target(array, inputs) for array in outs)
    into = targets if isinstance(out, tuple) else targets[0]
    result = done(name, function(*before, *inputs, *options, out=into, **keywords))
    for array, target in zip(outs, targets, strict=True):
        if target is not array:
            array[...] = target
    return result


def is_plain(array: Array) -> bool:
    flags = array.flags
    return flags.c_contiguous and flags.aligned and array.dtype.isnative and type(array) is np.ndarray


def plain(array: Array) -> Array:
    return array if is_plain(array) else np.array(array, array.dtype.newbyteorder("="), order="C")


def _target(out: Array, inputs: tuple[Array | None, ...]) -> Array:
    """`out` itself, or a temporary where the kernel cannot write there at once."""
    if is_plain(out) and not any(checks.overlap(out, array) for array in inputs if array is not None):
        return out
    return np.empty(out.shape, out.dtype.newbyteorder("="))


def done(name: str, result: Any) -> Any:
    if result is NotImplemented:
        raise RuntimeError(f"{name}: the kernel declined arguments that were validated; another thread must "
                           "not write to them meanwhile")
    return result


def unary(name: str, x: ArrayLike, *options: Any, out: Array | None) -> Array:
    given = checks.as_array("x", x)
    x = checks.floating("x", given)
    if "softmax" in name:
        checks.has_rows("x", x)
    checks.output("out", out, x.shape, x.dtype, {"x": given}, may_replace=("x",))
    result = run(name, (x,), *options, out=out)
    return result if out is None else out


def unary_backward(
    name: str, dy: ArrayLike, y: ArrayLike, *options: Any, out: Array | None, given: str = "y"
) -> Array:
    """`given` is what the derivative is computed from, under its public name: "y" or "x"."""
    arrays = {"dy": checks.as_array("dy", dy), given: checks.as_array(given, y)}
    dy, y = checks.operands(**arrays)
    if "softmax" in name:
        checks.has_rows("dy", dy)
    checks.same_shape(**arrays)
    checks.output("out", out, dy.shape, dy.dtype, arrays, may_replace=("dy", given))
    result = run(name, (dy, y), *options, out=out)
    return result if out is None else out


backends.default()              # is loaded now: every call looks at backends.process_wide
activations.array_functions.update(forward=unary, backward=unary_backward)
