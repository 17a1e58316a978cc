"""Models in files: the safetensors format, which holds arrays and text, and never code.

    weights.0, biases.0, ...    the arrays of the model, (in, out) and (out,), in its dtype, without pads
    scales.0, running_means.0, running_variances.0, ...     with batch normalisation
    optimizer.NAME              the state of an optimizer, by the names of its `get_state`
    callbacks.I.NAME            the state of a callback, the I-th of those that have state
    run.NAME                    where a run of `fit` stands: see `fastmlp._core.run_file`
    metadata                    "fastmlp": one JSON text of version, layers, activations and loss with their
                                parameters, dropout, batch_norm, dtype, and compute_dtype if it has one;
                                where training stands: the state of the random generator, dropout's seed,
                                the number of steps; and the optimizer as it prints and the classes of the
                                callbacks

Numbers are little-endian on every machine, any program that reads safetensors reads the file, and the same
model gives the same bytes: so the metadata is one text, since the package writes several in random order. In
version 1 each of the settings was a text of its own, beside format "fastmlp".
"""
from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import activations, losses
from fastmlp._core import checks, state, whole_files
from fastmlp._core import safetensors_format as safetensors
from fastmlp._core.strict_json import short

if TYPE_CHECKING:
    from fastmlp._core.types import Array, Path
    from fastmlp.model import MLP
    from fastmlp.optimizers import Optimizer

__all__ = ["CALLBACKS", "FORMAT", "OPTIMIZER", "RUN", "VERSION", "check_suffix", "contents", "copies",
           "file_name", "model_settings", "printed", "save", "stateful", "write", "wrong_variance"]

FORMAT, VERSION = "fastmlp", 2
OPTIMIZER, CALLBACKS, RUN = "optimizer.", "callbacks.", "run."
SAVABLE = frozenset(np.dtype(name) for name in safetensors.DTYPES.values())
# Suffixes that other formats have made their own, alone or before one of a compression.
FOREIGN = frozenset(
    ".onnx .pt .pth .ckpt .h5 .hdf5 .keras .pb .tflite .npz .npy .mat .pkl .pickle .joblib .dill .json .yaml"
    " .yml .xml .pmml .csv .txt .parquet .gguf .mlmodel .msgpack .py .c .zip .gz .bz2 .xz .zst .tar".split())


def save(model: MLP, path: Path, optimizer: Optimizer | None = None, callbacks: Iterable[object] = ()
         ) -> None:
    """Write a model to a file: what `MLP.save` does.

    Parameters
    ----------
    model : MLP
        Model.
    path : str, bytes or os.PathLike
        As for `MLP.save`.
    optimizer : Optimizer, optional
        As for `MLP.save`.
    callbacks : iterable of objects, default ()
        As for `MLP.save`.
    """
    path = file_name(path)
    check_suffix("path", path)
    if optimizer is not None and (isinstance(optimizer, type) or not hasattr(optimizer, "get_state")):
        raise TypeError(f"optimizer: expected an object of fastmlp.optimizers, got {optimizer!r}")
    with_state = stateful(callbacks)
    with model.core.lock.between_steps("save it"):
        settings, arrays = contents(model, optimizer, with_state)
    write(path, settings, arrays)


def contents(model: MLP, optimizer: Optimizer | None, with_state: Iterable[tuple[str, Any]]
             ) -> tuple[dict[str, Any], dict[str, Array]]:
    """What is saved: settings in the words of JSON, and copies of all arrays. The caller sees to it that
    nobody trains the model meanwhile.

    Parameters
    ----------
    model : MLP
        Model.
    optimizer : Optimizer or None
        Optimizer whose state is saved, too.
    with_state : iterable of (str, object)
        Callbacks with state, as `stateful` finds them.

    Returns
    -------
    settings : dict
        The settings.
    arrays : dict {str: ndarray}
        The arrays.
    """
    settings = model_settings(model)
    arrays = state.copy(model)
    if optimizer is not None:
        settings["optimizer"] = printed(optimizer)
        arrays |= copies("optimizer", OPTIMIZER, optimizer.get_state(model))
    kinds = []
    for i, (label, callback) in enumerate(with_state):
        kinds.append(type(callback).__name__)
        arrays |= copies(label, f"{CALLBACKS}{i}.", callback.get_state())
    if kinds:
        settings["callbacks"] = kinds
    wrong = wrong_variance(arrays)
    if wrong:
        raise ValueError(f"model: expected variances from 0 up, got {wrong}; such a file is not loaded")
    return settings, arrays


def write(path: str, settings: Mapping[str, Any], arrays: dict[str, Array], in_place: bool = True) -> None:
    """Write contents to a file, which is then whole, or as it was; `in_place`: also where nothing can take
    its place."""
    metadata = {FORMAT: json.dumps(settings, allow_nan=False)}
    whole_files.write(path, [safetensors.encode(arrays, metadata)], in_place)


# What is saved beside the arrays ---------------------------------------------------------------------------

def model_settings(model: MLP) -> dict[str, Any]:
    """All that makes a model what it is, beside its arrays, in the words of JSON."""
    return ({"compute_dtype": model.compute_dtype} if model.compute_dtype is not None else {}) | {
        "version": VERSION,
        "layers": list(model.layers),
        "activations": [_described("activation", f, activations.BY_NAME) for f in model.activations[:-1]],
        "loss": _described("loss", model.loss, losses.BY_NAME),
        "dropout": model.dropout,
        "batch_norm": [None if norm is None else asdict(norm) for norm in model.batch_norm],
        "dtype": model.dtype.name,
        "generator": model.core.rng.bit_generator.state,
        "counters": state.counters(model),
    }


def printed(optimizer: Optimizer) -> str:
    """An optimizer as it prints, without the addresses of functions."""
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(optimizer))


def _described(name: str, thing: Any, known: Mapping[str, type]) -> dict[str, Any]:
    """An activation or a loss as its name and its parameters."""
    if type(thing) not in known.values():
        raise TypeError(f"{name}: only those of fastmlp can be saved, got {thing!r}")
    parameters = {f.name: getattr(thing, f.name) for f in fields(thing) if f.init}
    plain = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in parameters.items()}
    return {"name": thing.name, **plain}


def copies(label: str, prefix: str, values: Mapping[str, Any]) -> dict[str, Array]:
    """The state of an optimizer or a callback, by the names of the file."""
    if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
        raise TypeError(f"{label}: expected get_state to return a dict of arrays and numbers by their names, "
                        f"got {short(values)}")
    arrays = {}
    for name, value in values.items():
        if name != name.encode(errors="ignore").decode():      # half of a surrogate pair
            raise ValueError(f"{label}: expected names in Unicode from get_state, got {short(name)}")
        array = checks.as_array(f"{label}, {name!r} of its state", value)
        if array.dtype.newbyteorder("<") not in SAVABLE:
            raise TypeError(f"{label}: expected arrays and numbers of up to 64 bits from get_state, got "
                            f"{type(value).__name__} of dtype {array.dtype} in {name!r}")
        arrays[prefix + name] = np.array(array, order="C")
    return arrays


def wrong_variance(arrays: Mapping[str, Array]) -> str:
    """What and where, if a running variance is negative or NaN."""
    for name, array in arrays.items():
        if name.startswith("running_variances.") and not (array >= 0).all():
            return f"{array[~(array >= 0)][0]} in {name}"
    return ""


def stateful(callbacks: Iterable[object]) -> list[tuple[str, Any]]:
    """The callbacks that have state, each with the words for it."""
    if isinstance(callbacks, (str, bytes, Mapping)) or not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks: expected a list of callbacks, got {callbacks!r}")
    callbacks = [*callbacks]
    for i, callback in enumerate(callbacks):
        if isinstance(callback, type) and hasattr(callback, "get_state"):
            raise TypeError(f"callbacks[{i}]: expected an object, got the class {callback.__name__}")
    return [(f"callbacks[{i}]", callback) for i, callback in enumerate(callbacks)
            if hasattr(callback, "get_state") and hasattr(callback, "set_state")]


# Names of files --------------------------------------------------------------------------------------------

def file_name(path: Path) -> str:
    try:
        result = os.fsdecode(path)
    except TypeError:
        raise TypeError(f"path: expected a path, got {type(path).__name__}") from None
    if "\0" in result:
        raise ValueError(f"path: expected a path without a null character, got {short(result)}")
    return result


def check_suffix(name: str, path: str) -> None:
    suffix = os.path.splitext(path)[1]
    if suffix.lower() in FOREIGN:
        raise ValueError(f"{name}: what is written is safetensors, and {path} has the suffix {suffix} of "
                         "another format; use .safetensors")
