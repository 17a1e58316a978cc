"""Models in files: the safetensors format, which holds arrays and text, and never code.

    weights.0, biases.0, ...    the arrays of the model, (in, out) and (out,), in its dtype, without pads
    scales.0, running_means.0, running_variances.0, ...     with batch normalisation
    optimizer.*                 the state of an optimizer, by the names of its `get_state`
    metadata                    format "fastmlp"; in JSON: version, layers, activations and loss with their
                                parameters, dropout, batch_norm, dtype; and where training stands: the state
                                of the random generator, dropout's seed, the number of steps

Numbers are little-endian on every machine, and any program that reads safetensors reads the file.
"""
from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastmlp import activations, checks, losses, state
from fastmlp.model import MLP
from fastmlp.normalization import BatchNorm

__all__ = ["load", "save"]

FORMAT, VERSION = "fastmlp", 1
OPTIMIZER = "optimizer."

Path = str | os.PathLike[str]
Array = NDArray[Any]


def save(model: MLP, path: Path, optimizer: Any = None) -> None:
    """What `MLP.save` does: see there."""
    safetensors = _safetensors()
    path = _path(path)
    metadata = {"format": FORMAT, **{name: json.dumps(value) for name, value in _settings(model).items()}}
    tensors = dict(state.arrays(model))
    if optimizer is not None:
        if not hasattr(optimizer, "get_state"):
            raise TypeError(f"optimizer: expected an object of fastmlp.optimizers, got {optimizer!r}")
        metadata["optimizer"] = json.dumps(repr(optimizer))         # for people: it is not read again
        tensors |= {OPTIMIZER + name: np.asarray(value) for name, value in optimizer.get_state(model).items()}
    data = safetensors.numpy.save({k: np.array(a, order="C") for k, a in tensors.items()}, metadata)
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "wb") as file:
            file.write(data)
        os.replace(part, path)                                      # a whole file or none
    except BaseException:
        if os.path.exists(part):
            os.unlink(part)
        raise


def load(path: Path, optimizer: Any = None) -> MLP:
    """The model that `MLP.save` wrote, on the backend in force: it predicts, and goes on training, as before.

    `optimizer`, one like that which was saved with it, gets its state. Nothing in the file is run.

    Raises ImportError without the package safetensors; FileNotFoundError and other OSErrors; ValueError for a
    file that is damaged, no model of fastmlp, of a later version, or without the state of an optimizer where
    one is given; what `set_state` raises for another kind of optimizer.

    Source of the format: https://github.com/huggingface/safetensors

    >>> model.save("net.safetensors")  # doctest: +SKIP
    >>> load("net.safetensors")  # doctest: +SKIP
    MLP([4, 8, 3], activation=['tanh'], loss='cross_entropy', dtype='float32')
    """
    safetensors = _safetensors()
    path = _path(path)
    if optimizer is not None and not hasattr(optimizer, "set_state"):
        raise TypeError(f"optimizer: expected an object of fastmlp.optimizers, got {optimizer!r}")
    if not os.path.isfile(path):
        open(path, "rb").close()                                    # raises what fits
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            settings = _read(path, file.metadata() or {})
            shapes = _shapes(settings)
            names = [name for name in file.keys() if not name.startswith(OPTIMIZER)]
            found = {name: list(file.get_slice(name).get_shape()) for name in names}
            if found != shapes:                                     # before anything of that size is made
                raise ValueError(f"path: expected arrays {shapes} in {path}, got {found}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except safetensors.SafetensorError as error:
        raise ValueError(f"path: expected a file of safetensors, got {path}: {error}") from None
    for name in names:
        if tensors[name].dtype.name != settings["dtype"]:
            raise ValueError(
                f"path: expected {settings['dtype']} in {path}, got {tensors[name].dtype} in {name}")
    saved = {name.removeprefix(OPTIMIZER): tensors[name] for name in tensors if name not in found}
    if optimizer is not None and not saved:
        raise ValueError(f"optimizer: no state of one was saved in {path}")
    model = _build(path, settings)
    state.restore(model, {name: tensors[name] for name in names})
    if optimizer is not None:
        optimizer.set_state(model, saved)
    return model


def _settings(model: MLP) -> dict[str, Any]:
    """All that makes a model what it is, beside its arrays, in the words of JSON."""
    return {
        "version": VERSION,
        "layers": list(model.layers),
        "activations": [_described("activation", f, activations.BY_NAME) for f in model.activations[:-1]],
        "loss": _described("loss", model.loss, losses.BY_NAME),
        "dropout": model.dropout,
        "batch_norm": [None if norm is None else asdict(norm) for norm in model.batch_norm],
        "dtype": model.dtype.name,
        "generator": model._rng.bit_generator.state,
        "counters": state.counters(model),
    }


def _shapes(settings: Mapping[str, Any]) -> dict[str, list[int]]:
    """Of the arrays that a model with these settings has."""
    sizes = settings["layers"]
    shapes = {f"weights.{i}": [n, m] for i, (n, m) in enumerate(zip(sizes, sizes[1:]))}
    shapes |= {f"biases.{i}": [m] for i, m in enumerate(sizes[1:])}
    for i, norm in enumerate(settings["batch_norm"]):
        if norm is not None:
            shapes |= {f"{kind}.{i}": [sizes[i + 1]] for kind in state.NORMALISED}
    return shapes


def _build(path: str, settings: Mapping[str, Any]) -> MLP:
    try:
        model = MLP(
            settings["layers"],
            activation=[_made("activation", f, activations.BY_NAME) for f in settings["activations"]],
            loss=_made("loss", settings["loss"], losses.BY_NAME),
            init="zeros",
            dtype=settings["dtype"],
            dropout=settings["dropout"],
            batch_norm=[None if norm is None else BatchNorm(**norm) for norm in settings["batch_norm"]],
        )
        model._rng.bit_generator.state = settings["generator"]
        state.set_counters(model, settings["counters"])
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"path: expected a model of fastmlp in {path}, got {error!r}") from None
    return model


def _read(path: str, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The settings in the metadata."""
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"path: expected a model of fastmlp in {path}, got the format {metadata.get('format')!r}")
    try:
        settings = {name: json.loads(value) for name, value in metadata.items() if name != "format"}
        version = settings["version"]
        if version == VERSION:
            settings["layers"] = list(checks.layer_sizes("layers", settings["layers"]))
            for name in ("activations", "loss", "dropout", "dtype", "generator", "counters"):
                settings[name]
            if len(settings["batch_norm"]) != len(settings["layers"]) - 2:
                raise ValueError(f"batch_norm of {len(settings['batch_norm'])} layers")
    except (TypeError, ValueError, KeyError, RecursionError) as error:
        raise ValueError(f"path: expected a model of fastmlp in {path}, got {error!r}") from None
    if version != VERSION:
        raise ValueError(f"path: expected a model of version {VERSION} in {path}, got version {version}; "
                         "another release of fastmlp may read it")
    return settings


def _described(name: str, thing: Any, known: Mapping[str, type]) -> dict[str, Any]:
    """An activation or a loss as its name and its parameters."""
    if type(thing) not in known.values():
        raise TypeError(f"{name}: only those of fastmlp can be saved, got {thing!r}")
    parameters = {f.name: getattr(thing, f.name) for f in fields(thing) if f.init}
    plain = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in parameters.items()}
    return {"name": thing.name, **plain}


def _made(name: str, description: Mapping[str, Any], known: Mapping[str, type]) -> Any:
    parameters = dict(description)
    kind = parameters.pop("name")
    if not isinstance(kind, str):
        raise TypeError(f"{name}: expected a name, got {kind!r}")
    checks.known_name(name, kind, known)
    return known[kind](**parameters)


def _path(path: Any) -> str:
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(f"path: expected a path, got {type(path).__name__}") from None


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy  # type: ignore[import-not-found]
    except ImportError as error:
        raise ImportError("saving and loading models takes the package safetensors: "
                          "pip install fastmlp[safetensors]") from error
    return safetensors
