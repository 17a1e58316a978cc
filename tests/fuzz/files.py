"""Files of models and of runs: damaged ones load as a sound model, go on as a run that may go on, or end in
an error that names the file, with nothing changed."""
from __future__ import annotations

import functools
import json
import struct

import numpy as np
from fuzzing import any_value, choice, contents, damaged_bytes

import fastmlp
from fastmlp import MLP, SGD, Adam, EarlyStopping, schedules

EXPECTED = (ValueError, TypeError, OSError, MemoryError)
PATH = "model.safetensors"


@functools.cache
def data():
    rng = np.random.default_rng(0)
    return rng.standard_normal((20, 4)), rng.integers(0, 3, 20)


@functools.cache
def originals() -> list[bytes]:
    """Files of several networks, with and without the state of an optimizer."""
    made = []
    X, y = data()
    for options, optimizer in (
            ({}, None), ({"dtype": "float64", "batch_norm": True, "dropout": 0.2}, Adam(0.01)),
            ({"activation": ["leaky_relu", "tanh"], "loss": "multiclass_hinge"}, SGD(0.1, momentum=0.9)),
            ({"activation": "gelu", "compute_dtype": "bfloat16"}, SGD(schedules.Exponential(0.1, 0.9)))):
        layers = [4, 5, 6, 3] if "activation" in options and len(options["activation"]) == 2 else [4, 5, 3]
        model = MLP(layers, seed=0, **options)
        model.fit(X.astype(model.dtype), y, epochs=1, optimizer=optimizer or SGD(0.1), progress=False)
        model.save(PATH, **({"optimizer": optimizer} if optimizer else {}))
        with open(PATH, "rb") as file:
            made.append(file.read())
    return made


def run(resume, every):
    """The run whose files are damaged: what it trains, and the call that does."""
    model = MLP([4, 5, 3], dropout=0.1, batch_norm=True, seed=0)
    optimizer = Adam(schedules.Cosine(0.01, steps=9))
    X, y = data()

    def go_on(callbacks=()):
        model.fit(X, y, epochs=3, batch_size=7, optimizer=optimizer, validation_data=(X, y), progress=False,
                  callbacks=[EarlyStopping(2), *callbacks], metrics="accuracy", log_steps=True,
                  checkpoint=PATH, checkpoint_every=every, resume=resume)
    return model, optimizer, go_on


@functools.cache
def runs() -> list[bytes]:
    """The files of a run at its beginning, within an epoch, after one, and at its end."""
    made = []

    class Files:
        def on_step_end(self, model, step, logs):
            with open(PATH, "rb") as file:
                made.append(file.read())

    run(False, 2)[2]([Files()])
    with open(PATH, "rb") as file:
        return [made[0], made[2], made[3], made[5], file.read()]


def damaged(rng, content: bytes, others) -> bytes:
    way = int(rng.integers(7))
    if way < 3:
        return damaged_bytes(rng, content, others)
    data = bytearray(content)
    if way == 3:                                            # the length of the header
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


def named(error):
    if isinstance(error, ValueError) and not any(
            name in str(error) for name in (PATH, "model: ", "optimizer: ", "callbacks[0]: ", "epochs: ")):
        raise AssertionError(f"an error that names neither file nor argument: {error!r}") from error


def load(rng):
    write(damaged(rng, choice(rng, originals()), originals()))
    try:
        if rng.random() < 0.5:
            model = fastmlp.load(PATH)
        else:
            optimizer = choice(rng, [Adam(0.01), SGD(0.1, momentum=0.9), SGD(0.1)])
            model = fastmlp.load(PATH, optimizer=optimizer)
    except EXPECTED as error:
        return named(error)
    X = np.zeros((3, model.layers[0]), model.dtype)
    if model.forward(X).shape != (3, model.layers[-1]):
        raise AssertionError("a model of another shape")
    if model.layers[-1] > 1:
        try:
            model.train_step(X, np.zeros(3, np.intp), SGD(0.0))
        except ValueError as error:
            if "weight above 0" not in str(error):      # a loss that ignores this class
                raise


def resume(rng):
    write(damaged(rng, choice(rng, runs()), runs()))
    model, optimizer, go_on = run(True, 100)
    before = contents(model, optimizer)
    try:
        go_on()
    except EXPECTED as error:
        named(error)
        if contents(model, optimizer) != before:
            raise AssertionError("a file that cannot be resumed has changed the model") from error


def write(content):
    with open(PATH, "wb") as file:
        file.write(content)


def case(rng):
    (load if rng.random() < 0.7 else resume)(rng)
