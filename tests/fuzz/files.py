"""Model files: damaged ones load as a sound model or end in a ValueError that names the file."""
from __future__ import annotations

import functools
import json
import os
import struct
import tempfile

import numpy as np
from fuzzing import any_value, choice

import fastmlp
from fastmlp import MLP, SGD, Adam, schedules

EXPECTED = (ValueError, TypeError, OSError, MemoryError)


@functools.cache
def originals() -> list[bytes]:
    """Files of several networks, with and without the state of an optimizer."""
    made = []
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20, 4)), rng.integers(0, 3, 20)
    for options, optimizer in (
            ({}, None), ({"dtype": "float64", "batch_norm": True, "dropout": 0.2}, Adam(0.01)),
            ({"activation": ["leaky_relu", "tanh"], "loss": "multiclass_hinge"}, SGD(0.1, momentum=0.9)),
            ({"activation": "gelu"}, SGD(schedules.Exponential(0.1, 0.9)))):
        layers = [4, 5, 6, 3] if "activation" in options and len(options["activation"]) == 2 else [4, 5, 3]
        model = MLP(layers, seed=0, **options)
        model.fit(X.astype(model.dtype), y, epochs=1, optimizer=optimizer or SGD(0.1), progress=False)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "model.safetensors")
            model.save(path, **({"optimizer": optimizer} if optimizer else {}))
            with open(path, "rb") as file:
                made.append(file.read())
    return made


def damaged(rng, content: bytes) -> bytes:
    way = int(rng.integers(7))
    data = bytearray(content)
    if way == 0:                                            # bits
        for _ in range(int(rng.integers(1, 9))):
            data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    elif way == 1:                                          # an end
        del data[int(rng.integers(len(data) + 1)):]
    elif way == 2:                                          # a part of another file
        other, at = choice(rng, originals()), int(rng.integers(len(data)))
        data[at:at + int(rng.integers(1, 200))] = other[at:at + int(rng.integers(1, 200))]
    elif way == 3:                                          # the length of the header
        data[:8] = struct.pack("<Q", int(choice(rng, [0, 1, 7, 8, 100, 2**20, 2**31, 2**40, 2**63 - 1])))
    else:                                                   # the header
        (length,) = struct.unpack("<Q", content[:8])
        header = changed(rng, json.loads(content[8:8 + length]))
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        data = bytearray(struct.pack("<Q", len(text)) + text + content[8 + length:])
    return bytes(data)


def changed(rng, value, depth=0):
    """A JSON value with one part of it replaced, removed or renamed; texts that are JSON are looked into."""
    if isinstance(value, dict) and value and depth < 6 and rng.random() < 0.9:
        value = dict(value)
        key = choice(rng, list(value))
        way = rng.random()
        if way < 0.1:
            del value[key]
        elif way < 0.2:
            value[key + "x"] = value.pop(key)
        else:
            value[key] = changed(rng, value[key], depth + 1)
        return value
    if isinstance(value, list) and value and depth < 6 and rng.random() < 0.8:
        value = list(value)
        at = int(rng.integers(len(value)))
        value[at:at + 1] = [] if rng.random() < 0.1 else [changed(rng, value[at], depth + 1)]
        return value
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return json.dumps(changed(rng, json.loads(value), depth + 1))
        except ValueError:
            return value[:int(rng.integers(len(value)))]
    if isinstance(value, str) and rng.random() < 0.5:
        at = int(rng.integers(len(value) + 1))
        return value[:at] + choice(rng, ["", "\0", "F32", "é", "9" * 40, "{", '"']) + value[at + 1:]
    if isinstance(value, (int, float)) and rng.random() < 0.6:
        return choice(rng, [value + 1, -value, value * 2**20, 2**62, 0, 1, 10**30, 1e308, 0.5])
    odd = any_value(rng)
    try:
        json.dumps(odd)
    except (TypeError, ValueError):
        return None
    return odd


def case(rng):
    content = damaged(rng, choice(rng, originals()))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.safetensors")
        with open(path, "wb") as file:
            file.write(content)
        try:
            if rng.random() < 0.5:
                model = fastmlp.load(path)
            else:
                optimizer = choice(rng, [Adam(0.01), SGD(0.1, momentum=0.9), SGD(0.1)])
                model = fastmlp.load(path, optimizer=optimizer)
        except EXPECTED as error:
            if isinstance(error, ValueError) and not any(
                    name in str(error) for name in ("model.safetensors", "optimizer: ")):
                raise AssertionError(f"an error that names neither file nor argument: {error!r}") from error
            return
        X = np.zeros((3, model.layers[0]), model.dtype)
        if model.forward(X).shape != (3, model.layers[-1]):
            raise AssertionError("a model of another shape")
        if model.layers[-1] > 1:
            try:
                model.train_step(X, np.zeros(3, np.intp), SGD(0.0))
            except ValueError as error:
                if "weight above 0" not in str(error):      # a loss that ignores this class
                    raise
