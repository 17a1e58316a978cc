"""A certificate that one piece of code can take the place of another: differences, side effects, speed."""
from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastmlp._core import checks

__all__ = ["Certificate", "Comparison", "certify"]

Array = NDArray[Any]
LEAST_ROUNDS, MOST_ROUNDS = 5, 2000     # of timing; as many as `seconds` allows
INTEGERS = {2: np.int16, 4: np.int32, 8: np.int64}      # by bytes of a float


@dataclass(frozen=True)
class Comparison:
    """What `fastmlp.certify` found about one array.

    Attributes
    ----------
    name : str
        Where the array comes from: "result", "result[0]", "dW", "inputs[0]".
    theirs : str
        Dtype and shape of theirs, such as "float64 (100, 10)"; "missing" if only ours has it.
    ours : str
        The same of ours.
    absolute : float
        Largest absolute difference; infinite where only one is NaN, NaN where shapes differ.
    relative : float
        Largest ``|a - b| / max(|a|, |b|)``; 0 for two zeros.
    ulp : float
        Largest number of floating-point numbers from one to the other, in the coarser of the two dtypes; NaN
        where they are no floats.
    shares : tuple of two tuples of str
        Inputs that theirs shares memory with, and those that ours does.

    Examples
    --------
    >>> certify(np.tanh, np.tanh, np.ones(3), seconds=0).outputs[0].absolute
    0.0
    """

    name: str
    theirs: str
    ours: str
    absolute: float
    relative: float
    ulp: float
    shares: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def alike(self) -> bool:
        """Whether dtype, shape and shared memory are the same."""
        return self.theirs == self.ours and self.shares[0] == self.shares[1]


@dataclass(frozen=True)
class Certificate:
    """Result of `fastmlp.certify`; str() of it is a table.

    Attributes
    ----------
    outputs : tuple of Comparison
        One for every array in the results, every array that a layer holds, and every input that was changed.
    changed : dict of str to tuple of two bools
        For every input that was changed in place: whether theirs changed it, and whether ours did.
    their_seconds : float
        Shortest time of theirs; NaN if it was not timed.
    our_seconds : float
        Shortest time of ours.

    Examples
    --------
    >>> def double(x):
    ...     x *= 2
    >>> certificate = certify(double, double, np.ones(3), seconds=0)
    >>> certificate.changed, certificate.matches
    ({'inputs[0]': (True, True)}, True)
    """

    outputs: tuple[Comparison, ...]
    changed: dict[str, tuple[bool, bool]]
    their_seconds: float
    our_seconds: float

    @property
    def matches(self) -> bool:
        """Whether dtypes, shapes, shared memory and arrays changed in place are the same."""
        return all(output.alike for output in self.outputs) and all(a == b for a, b in self.changed.values())

    @property
    def speed_up(self) -> float:
        """Time of theirs over the time of ours."""
        return self.their_seconds / self.our_seconds

    @property
    def largest_absolute(self) -> float:
        """Largest absolute difference of all outputs; NaN where shapes differ or one lacks it."""
        return float(np.max([output.absolute for output in self.outputs], initial=0.0))

    @property
    def largest_relative(self) -> float:
        """Largest relative difference of all outputs; NaN where shapes differ or one lacks it."""
        return float(np.max([output.relative for output in self.outputs], initial=0.0))

    @property
    def largest_ulp(self) -> float:
        """Largest difference in ULPs, of outputs that are floats; NaN where shapes differ or one lacks it."""
        if math.isnan(self.largest_absolute):
            return math.nan
        return max([output.ulp for output in self.outputs if not math.isnan(output.ulp)], default=0.0)

    def __str__(self) -> str:
        rows = [("output", "theirs", "ours", "absolute", "relative", "ULP")]
        rows += [(x.name, x.theirs, "same" if x.ours == x.theirs else x.ours, _short(x.absolute),
                  _short(x.relative), _short(x.ulp)) for x in self.outputs]
        widths = [max(map(len, column)) for column in zip(*rows)]
        lines = ["  ".join(cell.ljust(width) if i < 3 else cell.rjust(width)
                           for i, (cell, width) in enumerate(zip(row, widths))) for row in rows]
        for output in self.outputs:
            theirs, ours = output.shares
            if theirs or ours:
                lines.append(f"{output.name} shares memory: theirs with {_names(theirs)}, ours with "
                             f"{_names(ours)}")
        for name, who in self.changed.items():
            lines.append(f"{name} is changed in place by {('ours', 'theirs', 'both')[_who(who)]}")
        if not self.changed:
            lines.append("no input is changed in place")
        if not math.isnan(self.speed_up):
            lines.append(f"theirs {_duration(self.their_seconds)}, ours {_duration(self.our_seconds)}: "
                         f"{self.speed_up:.2f}x")
        return "\n".join(lines)


def certify(
    theirs: object, ours: object, *inputs: object, dout: ArrayLike | None = None, seconds: float = 1.0
) -> Certificate:
    """Run two pieces of code on the same arrays; report differences, side effects and speed.

    Functions are called with the inputs. Layers, objects with ``forward`` and ``backward``, are run in both
    directions, and the arrays that they and layers inside them hold afterwards are compared too. Both see
    copies of the inputs, are copied themselves before a run, and find ``np.random`` in the same state, so
    that nothing of the caller's changes.

    Parameters
    ----------
    theirs : callable or layer
        Code that works today.
    ours : callable or layer
        Code that shall take its place.
    *inputs : arrays, numbers, and tuples, lists and dicts of them
        Arguments of the functions, or of ``forward``.
    dout : array_like, optional
        Argument of ``backward``. If not given: random numbers of the shape and dtype of their output, or no
        argument where that is a number, as a loss is.
    seconds : float, default 1.0
        Time for measuring the speed, in turns; 0 leaves it out.

    Returns
    -------
    Certificate
        Report; print it.

    Raises
    ------
    TypeError
        For something that is neither a function nor a layer, for one of each, and for what cannot be copied.
    ValueError
        Without inputs, for a ``dout`` of functions, and for ``seconds`` out of range.
    RuntimeError
        For an error in their code or in ours; it says which, and the error is its cause.

    Notes
    -----
    Times are the shortest of many single runs, one of theirs and one of ours in turns.

    Examples
    --------
    >>> import fastmlp.functional as F
    >>> report = certify(lambda x: np.maximum(x, 0), F.relu, np.linspace(-1, 1, 5), seconds=0)
    >>> print(report)
    output  theirs        ours  absolute  relative  ULP
    result  float64 (5,)  same         0         0    0
    no input is changed in place
    >>> report.matches
    True
    """
    seconds = checks.number("seconds", seconds, low=0.0)
    layers = [_is_layer(name, thing) for name, thing in (("theirs", theirs), ("ours", ours))]
    if layers[0] != layers[1]:
        kinds = ["a layer" if layer else "a function" for layer in layers]
        raise TypeError(f"ours: expected {kinds[0]}, as theirs is, got {kinds[1]}")
    if not inputs:
        raise ValueError("inputs: expected at least one argument, got none")
    if dout is not None and not layers[0]:
        raise ValueError("dout: expected None for functions, which have no backward, got a value")
    state = np.random.get_state()
    try:
        if layers[0] and dout is None:
            dout = _gradient(_forward("theirs", theirs, inputs))
        arguments = inputs if dout is None else (*inputs, dout)
        names: dict[str, Any] = {f"inputs[{i}]": value for i, value in enumerate(inputs)}
        if dout is not None:
            names["dout"] = dout
        runs = []
        for name, thing in (("theirs", theirs), ("ours", ours)):
            np.random.set_state(state)
            runs.append(_Run(name, thing, arguments, layers[0], len(inputs), list(names)))
        changed = {}
        before = dict(_leaves_of(names))
        for name, array in before.items():
            who = tuple(not _same_bits(array, run.inputs[name]) for run in runs)
            if any(who):
                changed[name] = who[0], who[1]
        outputs = [_compare(name, runs) for name in dict.fromkeys([*runs[0].outputs, *runs[1].outputs])]
        outputs += [_difference(name, runs[0].inputs[name], runs[1].inputs[name]) for name in changed]
        times = _time([theirs, ours], arguments, layers[0], len(inputs), seconds, state)
    finally:
        np.random.set_state(state)
    return Certificate(tuple(outputs), changed, *times)


class _Run:
    """One run on copies: its outputs and what became of the inputs, by name."""

    def __init__(self, name: str, thing: Any, arguments: tuple[Any, ...], layer: bool, inputs: int,
                 names: list[str]) -> None:
        thing, arguments = _copy(name, thing), _copy("inputs", arguments)
        self.inputs = dict(_leaves_of(dict(zip(names, arguments))))
        result, values, gradient = _call(name, thing, arguments, layer, inputs)
        held = {"backward": gradient, **_held(thing)} if layer else {}
        first, within = "forward" if layer else "result", (thing,)
        self.outputs = (dict(_leaves_of({first: values}, all_compared=True))
                        | dict(_leaves_of(held, within=within)))
        self.shares = {key: tuple(other for other, given in self.inputs.items()
                                  if array.ndim and given.ndim and np.may_share_memory(array, given))
                       for key, array in _leaves_of({first: result, **held}, within=within)}


def _call(
    name: str, thing: Any, arguments: tuple[Any, ...], layer: bool, inputs: int
) -> tuple[Any, Any, Any]:
    """What the function or forward returns, its values before backward runs, and what backward returns."""
    try:
        if not layer:
            result = thing(*arguments)
            return result, result, None
        result = thing.forward(*arguments[:inputs])
        values = copy.deepcopy(result)
        return result, values, thing.backward(*arguments[inputs:])
    except Exception as error:
        raise RuntimeError(f"{name}: raised {type(error).__name__}: {error}") from error


def _forward(name: str, layer: Any, inputs: tuple[Any, ...]) -> Any:
    try:
        return _copy(name, layer).forward(*_copy("inputs", inputs))
    except Exception as error:
        raise RuntimeError(f"{name}: raised {type(error).__name__}: {error}") from error


def _gradient(output: Any) -> Array | None:
    """A random gradient for an array; None for a number."""
    if not isinstance(output, np.ndarray) or output.ndim == 0:
        return None
    dtype = output.dtype if output.dtype.kind == "f" else np.dtype(np.float64)
    gradient: Array = np.asarray(np.random.default_rng(0).standard_normal(output.shape), dtype)
    return gradient


def _has_both_directions(thing: Any) -> bool:
    return (not isinstance(thing, type) and callable(getattr(thing, "forward", None))
            and callable(getattr(thing, "backward", None)))


def _is_layer(name: str, thing: Any) -> bool:
    if _has_both_directions(thing):
        return True
    if not callable(thing) or isinstance(thing, type):
        raise TypeError(f"{name}: expected a function, or an object with forward and backward, got {thing!r}")
    return False


def _copy(name: str, value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception as error:
        kind = type(value).__name__
        raise TypeError(f"{name}: expected what can be copied, got {kind}: {error}") from error


def _held(layer: Any) -> dict[str, Any]:
    """The public attributes of a layer."""
    return {key: value for key, value in getattr(layer, "__dict__", {}).items() if key[0] != "_"}


def _leaves_of(named: dict[str, Any], all_compared: bool = False, within: tuple[Any, ...] = ()
               ) -> Iterator[tuple[str, Array]]:
    """Every array and number in tuples, lists, dicts and layers, under a name that leads to it; also arrays
    of other libraries. What is neither, nor None, is passed over, or a TypeError where all is to be compared;
    and so is what holds itself, one of `within`."""
    for name, value in named.items():
        inner: dict[str, Any] | None = None
        if isinstance(value, (tuple, list)):
            inner = {f"{name}[{i}]": item for i, item in enumerate(value)}
        elif isinstance(value, dict):
            inner = {f"{name}[{key!r}]": item for key, item in value.items()}
        elif _has_both_directions(value) and not all_compared:
            inner = {f"{name}.{key}": item for key, item in _held(value).items()}
        if inner is not None and any(value is outer for outer in within):
            if all_compared:
                raise TypeError(f"{name}: expected arrays and numbers, got what holds itself")
        elif inner is not None:
            yield from _leaves_of(inner, all_compared, (*within, value))
        elif isinstance(value, (np.ndarray, np.generic, int, float)) or hasattr(value, "__dlpack__"):
            array = checks.as_array(name, value)
            if array.dtype.kind in "biuf":
                yield name, array
            elif all_compared:
                raise TypeError(f"{name}: expected real numbers, got {array.dtype}")
        elif all_compared and value is not None:
            raise TypeError(f"{name}: expected arrays and numbers, alone or in tuples, lists and dicts, got "
                            f"{type(value).__name__}")


def _same_bits(a: Array, b: Array) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _compare(name: str, runs: list[_Run]) -> Comparison:
    theirs, ours = (run.outputs.get(name) for run in runs)
    shares = runs[0].shares.get(name, ()), runs[1].shares.get(name, ())
    return _difference(name, theirs, ours, shares)


def _kind(array: Array | None) -> str:
    return "missing" if array is None else f"{array.dtype} {array.shape}"


def _difference(name: str, theirs: Array | None, ours: Array | None,
                shares: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())) -> Comparison:
    kinds = _kind(theirs), _kind(ours)
    if theirs is None or ours is None or theirs.shape != ours.shape:
        return Comparison(name, *kinds, math.nan, math.nan, math.nan, shares)
    if theirs.size == 0:
        return Comparison(name, *kinds, 0.0, 0.0, 0.0, shares)
    a, b = (array.astype(np.float64) for array in (theirs, ours))
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        absolute = np.where(same, 0.0, np.abs(a - b))
        if theirs.dtype.kind in "biu" and ours.dtype.kind in "biu":
            absolute, same = _distances(theirs, ours), theirs == ours
        relative = np.where(same, 0.0, absolute / np.maximum(np.abs(a), np.abs(b)))
    relative[absolute == math.inf] = math.inf               # and not inf / inf
    one_is_nan = np.isnan(a) != np.isnan(b)
    absolute[one_is_nan] = relative[one_is_nan] = math.inf
    ulp = _ulps(theirs, ours)
    if not math.isnan(ulp) and one_is_nan.any():
        ulp = math.inf
    return Comparison(name, *kinds, float(absolute.max()), float(relative.max()), ulp, shares)


def _distances(a: Array, b: Array) -> Array:
    """|a - b| of integers: float64 has not all of those beyond 2^53."""
    if a.itemsize < 8 and b.itemsize < 8:
        return np.asarray(np.abs(a.astype(np.int64) - b.astype(np.int64)), np.float64)
    return np.asarray(np.abs(a.astype(object) - b.astype(object)), np.float64)


def _ulps(theirs: Array, ours: Array) -> float:
    """The largest distance of two elements, in floats of the coarser of the two dtypes; NaN if not floats."""
    if theirs.dtype.kind != "f" or ours.dtype.kind != "f":
        return math.nan
    dtype = min(theirs.dtype, ours.dtype, key=lambda dtype: dtype.itemsize)
    if dtype.itemsize not in INTEGERS:
        return math.nan
    with np.errstate(over="ignore"):
        places = [_places(array.astype(dtype.newbyteorder("="))) for array in (theirs, ours)]
    numbers = ~(np.isnan(theirs) | np.isnan(ours))
    above = np.maximum(*places)[numbers].astype(np.uint64)      # differences of int64 may not fit into one
    below = np.minimum(*places)[numbers].astype(np.uint64)
    return float((above - below).max(initial=0))


def _places(array: Array) -> Array:
    """The floats in order, as integers: neighbours differ by 1, and both zeros are 0."""
    bits = np.ascontiguousarray(array).view(INTEGERS[array.dtype.itemsize]).astype(np.int64)
    least = np.int64(-2**(8 * array.dtype.itemsize - 1))
    return np.where(bits < 0, least - bits, bits)


def _time(things: list[Any], arguments: tuple[Any, ...], layer: bool, inputs: int, seconds: float,
          state: Any) -> list[float]:
    """The shortest run of each, in turns."""
    best = [math.inf, math.inf]
    end, rounds = time.perf_counter() + seconds, 0
    while seconds and rounds < MOST_ROUNDS and (rounds < LEAST_ROUNDS or time.perf_counter() < end):
        for i, (name, thing) in enumerate(zip(("theirs", "ours"), things)):
            np.random.set_state(state)
            thing, fresh = _copy(name, thing), _copy("inputs", arguments)
            try:
                start = time.perf_counter()
                if layer:
                    thing.forward(*fresh[:inputs])
                    thing.backward(*fresh[inputs:])
                else:
                    thing(*fresh)
                best[i] = min(best[i], time.perf_counter() - start)
            except Exception as error:
                raise RuntimeError(f"{name}: raised {type(error).__name__} while it was timed: {error}"
                                   ) from error
        rounds += 1
    return best if rounds else [math.nan, math.nan]


def _short(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if value == 0 or 1 <= value < 1e6 and value == int(value) else f"{value:.1e}"


def _names(names: tuple[str, ...]) -> str:
    return " and ".join(names) or "none"


def _who(changed: tuple[bool, bool]) -> int:
    return 2 if all(changed) else 1 if changed[0] else 0


def _duration(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"
