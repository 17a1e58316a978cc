"""What a file of a model holds, read and validated before anything is made of it or changed by it.

`fastmlp.saving` says what is in it.
"""
from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastmlp._core import checks, state, strict_json, whole_files
from fastmlp._core import safetensors_format as safetensors
from fastmlp._core.safetensors_format import FormatError
from fastmlp._core.strict_json import short
from fastmlp.saving import CALLBACKS, FORMAT, OPTIMIZER, RUN, VERSION, wrong_variance

if TYPE_CHECKING:
    from fastmlp._core.types import Array
    from fastmlp.model import MLP
    from fastmlp.optimizers import Optimizer

__all__ = ["Saved", "check_callbacks", "model_of", "read", "set_generator", "set_states"]

SETTINGS = frozenset("version layers activations loss dropout batch_norm dtype generator counters optimizer"
                     " callbacks".split())
LONGEST = 300                   # characters of a message about what a file contains
# Of the generator's state, each an integer from 0 to below this.
GENERATOR = {"state": 2**128, "inc": 2**128, "has_uint32": 2, "uinteger": 2**32}


class Saved(NamedTuple):
    """What is in a file, as far as it was asked for."""

    settings: dict[str, Any]
    arrays: dict[str, Array]
    optimizer: dict[str, Array] | None
    callbacks: list[tuple[str, dict[str, Array]]]       # the name of the class, and the state
    run: tuple[dict[str, Any], dict[str, Array]] | None     # of `fit`: settings and arrays


def read(path: str, with_optimizer: bool, with_callbacks: bool) -> Saved:
    """All that is wanted of a file.

    Raises OSError, and ValueError for what is no model, whatever else it may be.
    """
    try:
        return whole_files.read(path, lambda file, size: _read(path, file, size, with_optimizer,
                                                               with_callbacks))
    except FormatError as error:
        raise ValueError(f"path: expected a file of safetensors, got {path}: {error}") from None


def _read(path: str, file: FileIO, size: int, with_optimizer: bool, with_callbacks: bool) -> Saved:
    """All that is wanted of a file, checked against what it says of itself."""
    header, metadata = safetensors.read_header(file, size)
    with model_of(path):
        settings = _parse(metadata)                         # before all of a file of another kind is read
    arrays = safetensors.read_arrays(file, header)
    with model_of(path):
        own = _own(arrays, settings)
        wrong = wrong_variance(own)
        if wrong:
            raise ValueError(f"a variance of {wrong}")
    optimizer, callbacks = None, []
    if with_optimizer and "optimizer" in settings:
        optimizer = _arrays_under(OPTIMIZER, arrays)
    if with_callbacks:
        callbacks = [(kind, _arrays_under(f"{CALLBACKS}{i}.", arrays))
                     for i, kind in enumerate(settings["callbacks"])]
    run = (settings["run"], _arrays_under(RUN, arrays)) if "run" in settings else None
    return Saved(settings, own, optimizer, callbacks, run)


def _arrays_under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _settings_in(metadata: Mapping[str, str]) -> tuple[dict[str, Any], int]:
    """The settings as they are in the metadata, and the version in whose layout they are."""
    if FORMAT in metadata:
        settings = strict_json.parse(metadata[FORMAT])
        if not isinstance(settings, dict):
            raise ValueError(f"the settings {short(settings)}")
        return {"callbacks": []} | settings, VERSION
    if metadata.get("format") != FORMAT:
        raise ValueError(f"the format {short(metadata.get('format'))}")
    settings = {name: strict_json.parse(text) for name, text in metadata.items() if name in SETTINGS}
    return {"callbacks": []} | settings, 1


def _parse(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The settings in the metadata; what is not said here is said by the classes that take them."""
    settings, expected = _settings_in(metadata)
    version = settings["version"]
    if type(version) is not int:
        raise ValueError(f"version {short(version)}")
    if version != expected:
        raise ValueError(f"version {version}, where {expected} is read; another release may read it")
    for name in ("layers", "activations", "dropout", "batch_norm", "callbacks"):
        if not isinstance(settings[name], list):
            raise ValueError(f"{name}: expected a list, got {short(settings[name])}")
    hidden = len(settings["layers"]) - 2
    for name in ("activations", "dropout", "batch_norm"):
        if len(settings[name]) != hidden:
            raise ValueError(f"{name}: expected one for each of {hidden} hidden layers, "
                             f"got {len(settings[name])}")
    for norm in settings["batch_norm"]:
        if norm is not None and not isinstance(norm, dict):
            raise ValueError(f"batch_norm: {short(norm)}")
    if settings["dtype"] not in ("float32", "float64"):
        raise ValueError(f"dtype {short(settings['dtype'])}")
    if not all(isinstance(kind, str) for kind in settings["callbacks"]):
        raise ValueError(f"callbacks: {short(settings['callbacks'])}")
    if settings.get("compute_dtype") not in (None, "bfloat16"):
        raise ValueError(f"compute_dtype {short(settings['compute_dtype'])}")
    return settings


def _own(arrays: Mapping[str, Array], settings: Mapping[str, Any]) -> dict[str, Array]:
    """The model's arrays. Raises ValueError where others are in the file, or those of other shapes."""
    sizes = settings["layers"]
    if len(sizes) > len(arrays) + 1:                        # before a list of that length is looked at
        raise ValueError(f"{len(sizes)} layers and {len(arrays)} arrays")
    shapes = _shapes(checks.layer_sizes("layers", sizes), settings["batch_norm"])
    dtype = np.dtype(settings["dtype"])
    for name, shape in shapes.items():
        if name not in arrays:
            raise ValueError(f"no array {name}")
        found = arrays[name]
        if (found.shape, found.dtype) != (shape, dtype):
            raise ValueError(f"{name} of shape {found.shape} in {found.dtype.name}, where {shape} in "
                             f"{dtype.name} belongs")
    prefixes = tuple(f"{CALLBACKS}{i}." for i in range(len(settings["callbacks"])))
    prefixes += (OPTIMIZER,) if "optimizer" in settings else ()
    prefixes += (RUN,) if "run" in settings else ()
    for name in arrays:
        if name not in shapes and not name.startswith(prefixes):
            raise ValueError(f"an array {short(name)}, which does not belong to it")
    return {name: arrays[name] for name in shapes}


def _shapes(sizes: tuple[int, ...], batch_norm: list[Any]) -> dict[str, tuple[int, ...]]:
    """Of the arrays that a model with these settings has."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (n, m) in enumerate(zip(sizes, sizes[1:])):
        shapes |= {f"weights.{i}": (n, m), f"biases.{i}": (m,)}
        if i < len(batch_norm) and batch_norm[i] is not None:
            shapes |= {f"{kind}.{i}": (m,) for kind in state.NORMALISED}
    return shapes


def set_generator(generator: Any, saved: Any) -> None:
    """Only a state that the generator can be in: with an even increment its numbers may all be the same, and
    a draw that waits for another one never ends."""
    flat = {"bit_generator": None, "state": None, "has_uint32": None, "uinteger": None}
    if not isinstance(saved, dict) or saved.keys() != flat.keys():
        raise ValueError(f"generator: {short(saved)}")
    name, inner = saved["bit_generator"], saved["state"]
    if name != generator.state["bit_generator"] or not isinstance(inner, dict) or len(inner) != 2:
        raise ValueError(f"generator: {short(saved)}")
    numbers = {**inner, "has_uint32": saved["has_uint32"], "uinteger": saved["uinteger"]}
    if numbers.keys() != GENERATOR.keys() or not all(
            type(numbers[key]) is int and 0 <= numbers[key] < stop for key, stop in GENERATOR.items()):
        raise ValueError(f"generator: {short(numbers)}")
    if numbers["inc"] % 2 == 0:
        raise ValueError("generator: expected an odd increment")
    generator.state = saved


@contextmanager
def model_of(path: str) -> Iterator[None]:
    """Whatever is wrong with the content of a file is a ValueError with a short message."""
    try:
        yield
    except (TypeError, ValueError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"path: expected a model of fastmlp in {path}, got {_message(error)}") from None


def _message(error: Exception) -> str:
    text = str(error)
    if not isinstance(error, ValueError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


# Optimizer and callbacks -----------------------------------------------------------------------------------

def check_callbacks(path: str, given: list[tuple[str, Any]], found: Saved) -> None:
    saved = found.callbacks
    if given and not saved:
        raise ValueError(f"{given[0][0]}: no state of one was saved in {path}")
    if len(given) != len(saved):
        raise ValueError(f"callbacks: expected {len(saved)} with state, as in {path}, got {len(given)}")
    shapes = {name: array.shape for name, array in found.arrays.items()}
    for (label, callback), (kind, values) in zip(given, saved):
        if type(callback).__name__ != kind:
            raise ValueError(f"{label}: expected one of the class {short(kind)}, whose state is in {path}, "
                             f"got {type(callback).__name__}")
        kept = {name.removeprefix(state.KEPT): np.shape(array) for name, array in values.items()
                if name.startswith(state.KEPT)}
        if kind == "EarlyStopping" and kept and kept != shapes:
            raise ValueError(f"{label}: expected weights like the model's in {path}, {shapes}, got {kept}")


def set_states(model: MLP, optimizer: Optimizer | None, of_optimizer: Any, stateful: list[tuple[str, Any]],
            of_callbacks: list[dict[str, Array]]) -> None:
    """Sets every state, or leaves all as they were."""
    tasks: list[tuple[str, Callable[[], Any], Callable[[Any], Any], Any]] = []
    if optimizer is not None:
        tasks.append(("optimizer", lambda: getattr(optimizer, "get_state", lambda model: None)(model),
                      lambda values: optimizer.set_state(model, values), of_optimizer))
    for (label, callback), values in zip(stateful, of_callbacks):
        tasks.append((label, callback.get_state, callback.set_state, values))
    earlier = []
    for label, get, _, _ in tasks:
        with _named(label):
            earlier.append(copy.deepcopy(get()))
    for i, (label, _, put, values) in enumerate(tasks):
        try:
            with _named(label):
                put(values)
        except BaseException:
            for (_, _, put_back, _), before in zip(tasks[:i + 1], earlier):
                if before is not None:
                    with suppress(Exception):
                        put_back(before)
            raise


@contextmanager
def _named(label: str) -> Iterator[None]:
    """Errors of a state that does not fit name the argument."""
    try:
        yield
    except TypeError as error:
        raise TypeError(f"{label}: {_message(error)}") from error
    except (ValueError, LookupError, OverflowError, AttributeError) as error:
        raise ValueError(f"{label}: {_message(error)}") from error
