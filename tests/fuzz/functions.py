"""Array functions: any shapes, layouts, dtypes, values and overlaps; both backends must answer alike.

Either both return the same numbers and leave the inputs alone, or both raise TypeError or ValueError with
nothing changed; where two arguments are wrong they may name either.
"""
from __future__ import annotations

import inspect

import numpy as np
from fuzzing import LAYOUTS, any_value, choice, lay_out, rounding

import fastmlp.functional as F
from fastmlp import backends

NAMES = sorted(F.__all__)
ACTIVATIONS = ["identity", "relu", "leaky_relu", "sigmoid", "tanh", "elu", "selu", "softplus", "softmax",
               "nonsense"]
DTYPES = ["f2", "i4", "i8", "u1", "?", "c8", "O", "f8", "f4"]
STATE = ("out", "param", "velocity", "squares", "first_moment", "second_moment")
EXPECTED = (TypeError, ValueError)


def numbers(rng, shape, dtype, summed=False):
    """Usual numbers, and now and then those at the ends of the dtype; where they are summed neither subnormal
    ones, which are flushed, nor infinities, whose differences are anything."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iub":
        return np.asarray(rng.integers(0, 2 if dtype.kind == "b" else 5, shape)).astype(dtype)
    values = np.asarray(rng.standard_normal(shape))
    if rng.random() < 0.15 and values.size:
        extremes = [0.0, -0.0, np.nan, 1e30, -1e30, 88.0, -104.0, 745.0]
        extremes += [] if summed else [np.inf, -np.inf, 1e-40]
        values.flat[rng.integers(0, values.size, 2)] = rng.choice(extremes, 2)
    return values.astype(dtype)


def shape_of(rng, name):
    ndim = 2 if "dense" in name or rng.random() < 0.7 else int(rng.integers(0, 4))
    return tuple(int(choice(rng, [0, 1, 2, 3, 5, 8, 16, 17, 33, 70])) for _ in range(ndim))


def arguments(rng, name):
    """Positional and keyword arguments, which fit more often than not."""
    function = getattr(F, name)
    parameters = inspect.signature(function).parameters
    dtype = choice(rng, ["f4", "f8"])
    shape = shape_of(rng, name)
    rows, columns = (*shape, 3, 3)[:2]
    inner = int(choice(rng, [0, 1, 4, 17, 40]))
    shapes = dict.fromkeys(parameters, shape)
    if name == "dense_forward":
        shapes.update(x=(rows, inner), w=(inner, columns), b=(columns,))
    elif name == "dense_backward":
        shapes.update(dy=(rows, columns), x=(rows, inner), w=(inner, columns), y=(rows, columns))
    elif "weights" in shapes:
        shapes["weights"] = (rows,)
    keywords = {}
    for parameter in parameters.values():
        kind = parameter.name
        if parameter.default is not parameter.empty and rng.random() < 0.6:
            continue
        if kind in ("alpha", "lr", "momentum", "eps", "weight_decay", "rho", "beta1", "beta2", "delta",
                    "label_smoothing", "pos_weight"):
            value = any_value(rng) if rng.random() < 0.1 else float(rng.random())
        elif kind == "step":
            value = int(rng.integers(-1, 10))
        elif kind in ("nesterov", "decoupled", "need_dx"):
            value = bool(rng.integers(2))
        elif kind == "activation":
            value = choice(rng, ACTIVATIONS)
        elif kind == "ignore_index":
            value = int(rng.integers(-1, 4))
        elif kind == "out":
            continue                # below, when all others are there
        elif kind == "targets" and rng.random() < 0.6:
            value = rng.integers(0, max(columns, 1), rows)
        else:
            of = shapes[kind]
            if rng.random() < 0.05:
                of = tuple(reversed(of)) if rng.random() < 0.5 else (*of, 1)
            own = choice(rng, DTYPES) if rng.random() < 0.07 else dtype
            value = numbers(rng, of, own, sums(name))
            if kind == "weights" or kind.startswith(("sq", "second")):
                value = np.asarray(np.abs(value)) if value.dtype.kind == "f" else value
            value = lay_out(rng, value, choice(rng, LAYOUTS) if rng.random() < 0.4 else "C")
        keywords[kind] = value
    if rng.random() < 0.05:
        overlap(rng, keywords)
    if "out" in parameters and rng.random() < 0.5:
        keywords["out"] = out(rng, name, keywords, shapes, dtype)
    return keywords


def overlap(rng, keywords):
    """One array in the place of another, or shifted against it by a row."""
    names = [name for name, value in keywords.items() if type(value) is np.ndarray and value.ndim]
    if len(names) > 1:
        first, second = rng.permutation(names)[:2]
        shifted = shifted_pair(keywords[first])
        keywords[first], keywords[second] = shifted if rng.random() < 0.5 else shifted[:1] * 2


def shifted_pair(array):
    """The array, and another one of its shape that begins a row later in the same memory."""
    both = np.zeros((len(array) + 1, *array.shape[1:]), array.dtype)
    both[:-1] = array
    both[-1:] = array[-1:] if len(array) else 0
    return both[:-1], both[1:]


def out(rng, name, keywords, shapes, dtype):
    """A place for results: mostly of the right shape, now and then on top of an input."""
    arrays = [k for k, value in keywords.items() if isinstance(value, np.ndarray) and value.ndim]
    if arrays and rng.random() < 0.3:
        given = choice(rng, arrays)
        if rng.random() < 0.3 and type(keywords[given]) is np.ndarray:
            keywords[given], over = shifted_pair(keywords[given])
            return over
        return keywords[given] if rng.random() < 0.7 else keywords[given][::-1]
    if name == "dense_forward":
        of = (*shapes["x"][:1], *shapes["w"][1:])
    elif name == "dense_backward":
        places = [np.empty(of, dtype) for of in (shapes["x"], shapes["w"], shapes["w"][1:])]
        if rng.random() < 0.1:                              # one over another
            larger = max(places[:2], key=np.size)
            i = 1 if larger is places[0] else 0
            places[i] = larger.reshape(-1)[:places[i].size].reshape(places[i].shape)
        return tuple(places)
    else:
        of = next(iter(shapes.values()))
    return lay_out(rng, np.empty(of, dtype), choice(rng, LAYOUTS[:11]) if rng.random() < 0.4 else "C")


def copied(keywords):
    """The arguments with copies of all arrays that overlap where those do."""
    bases, result = {}, {}

    def copy(value):
        if isinstance(value, tuple):
            return tuple(map(copy, value))
        if not isinstance(value, np.ndarray):
            return value
        base = value
        while isinstance(base.base, np.ndarray):
            base = base.base
        address = base.__array_interface__["data"][0]
        if id(base) not in bases:
            low, high = np.lib.array_utils.byte_bounds(base)
            raw = np.zeros(high - low + 64, np.uint8)
            place = raw[(address - raw.ctypes.data) % 64:][:high - low]
            own = np.ndarray(base.shape, base.dtype, place, address - low, base.strides)
            if base.dtype == object:
                own = base.copy()
            else:
                own[...] = base
            bases[id(base)] = own, address, base
        own, address, _ = bases[id(base)]
        if base.dtype == object or value is base and type(value) is np.ndarray:
            result_of = own if value is base else value.copy()
            if value is not base and own.size == value.size:
                result_of = own.reshape(value.shape)
        else:
            offset = value.__array_interface__["data"][0] - address
            result_of = as_view(own, value, offset)
        result_of = result_of.view(type(value))
        result_of.flags.writeable = value.flags.writeable
        return result_of

    for name, value in keywords.items():
        result[name] = copy(value)
    return result


def as_view(own, value, offset):
    """The part of `own` that lies as `value` does in its base."""
    address = own.__array_interface__["data"][0] + offset

    class Interface:
        __array_interface__ = {"version": 3, "shape": value.shape, "strides": value.strides,
                               "typestr": value.dtype.str, "data": (address, False)}
        keep = own

    return np.asarray(Interface())


def called(name, keywords, backend):
    with backends.use_backend(backend):
        try:
            return getattr(F, name)(**keywords), None
        except EXPECTED as error:
            return None, error


def arrays_of(value):
    """All arrays in arguments or results, in order."""
    if isinstance(value, dict):
        value = value.values()
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, (tuple, list, type({}.values()))) and not isinstance(value, (str, bytes)):
        return [array for item in value for array in arrays_of(item)]
    if isinstance(value, (float, np.floating)):
        return [np.asarray(value)]
    return []


def same(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def case(rng):
    name = NAMES[int(rng.integers(len(NAMES)))]
    given = arguments(rng, name)
    ours, theirs, before = copied(given), copied(given), copied(given)
    result, error = called(name, ours, "cython")
    expected, other = called(name, theirs, "numpy")
    about = f"{name}: {({k: describe(v) for k, v in given.items()})}"
    if (error is None) != (other is None):
        raise AssertionError(f"{about}\ncompiled: {error!r}\nNumPy:    {other!r}")
    if error is not None:
        for k, value in ours.items():
            for a, b in zip(arrays_of(value), arrays_of(before[k])):
                if not same(a, b):
                    raise AssertionError(f"{about}\n{k} was changed, and the call raised") from error
        return
    written = [k for k in given if k in STATE]
    targets = [array for k in written for array in arrays_of(ours[k])]
    for k, value in ours.items():
        for a, b in zip(arrays_of(value), arrays_of(before[k])):
            if k not in written and not any(np.shares_memory(a, t) for t in targets) and not same(a, b):
                raise AssertionError(f"{about}\n{k} was changed")
    pairs = list(zip(arrays_of(result), arrays_of(expected)))
    pairs += [pair for k in written for pair in zip(arrays_of(ours[k]), arrays_of(theirs[k]))]
    inputs = [a[np.isfinite(a)] for a in arrays_of(before) if a.dtype.kind == "f"]
    if sums(name) and any(np.abs(a).max(initial=0) > 1e4 for a in inputs):
        return              # what cancels in a sum of such numbers is nobody's promise
    eps = 1000 * max([np.finfo(a.dtype).eps for a, _ in pairs if a.dtype.kind == "f"], default=0.0)
    for a, b in pairs:
        rounding(a, b, about, float(eps))


def sums(name):
    """Whether a result adds several numbers up."""
    return "dense" in name or "softmax" in name or "weights" in inspect.signature(getattr(F, name)).parameters


def describe(value):
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)} strides {value.strides}"
    if isinstance(value, tuple):
        return tuple(map(describe, value))
    return value if not isinstance(value, list) else f"list of {len(value)}"
