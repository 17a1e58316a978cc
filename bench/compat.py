"""What swapping in is worth: `fastmlp.compat` beside hand-written NumPy, one thread, in turns.

    python bench/compat.py [--dlfs CLONE] [--cs231n FOLDER] [--seconds 1]

CLONE is a clone of oreilly-japan/deep-learning-from-scratch; without it, `plain_network.py` stands in for it.
FOLDER is a solved assignment that holds ``cs231n``; without it, that table is left out. Neither is shipped.
Every time is the least of many turns, in microseconds; results are compared before anything is timed.
"""
from __future__ import annotations

import argparse
import math
import os
import sys
import time
import types
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

import fastmlp

NETWORKS = [(784, 50, 10), (784, 100, 100, 100, 100, 10), (784, 512, 512, 10)]
DTYPES = {"float64": ("f8", "f8"), "float32": ("f4", "f4"), "float32 data, float64 weights": ("f4", "f8")}
RULES = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")
LAYERS = ("Affine", "Relu", "Sigmoid", "Dropout", "BatchNormalization")
Pair = tuple[Callable[[], Any], Callable[[], Any]]


def least(pair: Pair, seconds: float) -> list[float]:
    """Microseconds of both, the least of turns of about 1 ms."""
    started = time.perf_counter()
    pair[0]()
    number = max(1, int(1e-3 / max(time.perf_counter() - started, 1e-9)))
    best, end = [math.inf, math.inf], time.perf_counter() + seconds
    while time.perf_counter() < end:
        for i, call in enumerate(pair):
            started = time.perf_counter()
            for _ in range(number):
                call()
            best[i] = min(best[i], (time.perf_counter() - started) / number)
    return [1e6 * t for t in best]


def same(a: Any, b: Any, dtype: str) -> None:
    tolerance = 1e-3 if dtype == "f4" else 1e-9
    a, b = np.asarray(a), np.asarray(b)
    if not np.allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(a).max())):
        raise SystemExit(f"results differ by {np.abs(a - b).max():.2g}")


def cast(net: Any, dtype: str) -> None:
    """The parameters of a network of the book, and its layers, in a dtype."""
    for name, layer in net.layers.items():
        if name.startswith("Affine"):
            for letter in "Wb":
                param = net.params[letter + name[6:]].astype(dtype)
                net.params[letter + name[6:]] = param
                setattr(layer, letter, param)


def training(theirs: Any, ours: Any) -> Iterator[tuple[str, Pair]]:
    rng = np.random.default_rng(0)
    for sizes in NETWORKS:
        for kind, (x_dtype, dtype) in DTYPES.items():
            x, t = rng.random((100, sizes[0])).astype(x_dtype), rng.integers(0, sizes[-1], 100)
            steps, nets = [], []
            for modules in (theirs, ours):
                np.random.seed(0)
                net = modules.MultiLayerNet(sizes[0], list(sizes[1:-1]), sizes[-1])
                cast(net, dtype)
                rule = modules.SGD()

                def step(net: Any = net, rule: Any = rule, x: Any = x, t: Any = t) -> None:
                    rule.update(net.params, net.gradient(x, t))
                step()
                steps.append(step)
                nets.append(net)
            for key in nets[0].params:
                same(nets[0].params[key], nets[1].params[key], dtype)
            yield f"{'-'.join(map(str, sizes))}, {kind}", (steps[0], steps[1])


def layers(theirs: Any, ours: Any) -> Iterator[tuple[str, Pair]]:
    rng = np.random.default_rng(0)
    for dtype in ("f8", "f4"):
        for name in LAYERS:
            for inputs, outputs in ((784, 50), (784, 512), (512, 512), (100, 100), (50, 10)):
                if name != "Affine" and inputs == 784:
                    continue
                x = rng.standard_normal((100, inputs)).astype(dtype)
                dout = rng.standard_normal((100, outputs if name == "Affine" else inputs)).astype(dtype)
                w = rng.standard_normal((inputs, outputs)).astype(dtype)
                arguments = {
                    "Affine": (w, np.zeros(outputs, dtype)),
                    "BatchNormalization": (np.ones(inputs, dtype), np.zeros(inputs, dtype))}.get(name, ())
                calls, results = [], []
                for modules in (theirs, ours):
                    layer = getattr(modules, name)(*arguments)
                    np.random.seed(0)
                    results.append((layer.forward(x), layer.backward(dout.copy())))
                    calls.append((lambda layer=layer, x=x: layer.forward(x),
                                  lambda layer=layer, dout=dout: layer.backward(dout)))
                for a, b in zip(*results):
                    same(a, b, dtype)
                shape = f"{inputs}-{outputs}" if name == "Affine" else f"100 x {inputs}"
                for i, direction in enumerate(("forward", "backward")):
                    yield f"{name} {direction}, {shape}, {dtype}", (calls[0][i], calls[1][i])


def functions(theirs: Any, ours: Any) -> Iterator[tuple[str, Pair]]:
    rng = np.random.default_rng(0)
    for dtype in ("f8", "f4"):
        for n in (10, 100):
            x, t = rng.standard_normal((100, n)).astype(dtype), rng.integers(0, n, 100)
            for name in ("sigmoid", "sigmoid_grad", "relu", "softmax"):
                a, b = getattr(theirs, name), getattr(ours, name)
                same(a(x), b(x), dtype)
                yield f"{name}, 100 x {n}, {dtype}", (lambda a=a, x=x: a(x), lambda b=b, x=x: b(x))
            a, b = theirs.SoftmaxWithLoss(), ours.SoftmaxWithLoss()
            same(a.forward(x, t), b.forward(x, t), dtype)
            same(a.backward(), b.backward(), dtype)
            yield (f"SoftmaxWithLoss both ways, 100 x {n}, {dtype}",
                   (lambda a=a, x=x, t=t: (a.forward(x, t), a.backward()),
                    lambda b=b, x=x, t=t: (b.forward(x, t), b.backward())))


def optimizers(theirs: Any, ours: Any) -> Iterator[tuple[str, Pair]]:
    rng = np.random.default_rng(0)
    for dtype in ("f8", "f4"):
        for shape in ((10,), (100, 100), (784, 512)):
            for name in RULES:
                grads = {"W": rng.standard_normal(shape).astype(dtype)}
                calls, all_params = [], []
                for modules in (theirs, ours):
                    rule, params = getattr(modules, name)(), {"W": np.ones(shape, dtype)}
                    for _ in range(3):
                        rule.update(params, grads)
                    all_params.append(params)
                    calls.append(lambda rule=rule, params=params, grads=grads: rule.update(params, grads))
                same(all_params[0]["W"], all_params[1]["W"], dtype)
                yield f"{name}, {' x '.join(map(str, shape))}, {dtype}", (calls[0], calls[1])


def course(theirs: Any, ours: Any) -> Iterator[tuple[str, Pair]]:
    rng = np.random.default_rng(0)
    for sizes in NETWORKS:
        for dtype in ("f8", "f4"):
            for rule in ("sgd", "adam"):
                x, y = rng.random((100, sizes[0])).astype(dtype), rng.integers(0, sizes[-1], 100)
                steps = []
                for modules in (theirs, ours):
                    np.random.seed(0)
                    net = modules.FullyConnectedNet(list(sizes[1:-1]), sizes[0], sizes[-1],
                                                    dtype=np.dtype(dtype).type)
                    update, configs = getattr(modules, rule), dict.fromkeys(net.params)

                    def step(net: Any = net, configs: Any = configs, update: Any = update, x: Any = x,
                             y: Any = y) -> None:
                        _, grads = net.loss(x, y)
                        for key, w in net.params.items():
                            net.params[key], configs[key] = update(w, grads[key], configs[key])
                    steps.append(step)
                yield f"{'-'.join(map(str, sizes))}, {rule}, {dtype}", (steps[0], steps[1])


def gather(package: str, names: tuple[str, ...]) -> types.SimpleNamespace:
    """The names of some modules, in one place."""
    found: dict[str, Any] = {}
    for name in names:
        found |= vars(import_module(f"{package}.{name}"))
    return types.SimpleNamespace(**found)


def with_one_thread() -> None:
    """Start this program anew where NumPy's BLAS may have more threads: it asks when it is loaded."""
    limits = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    if any(os.environ.get(name) != value for name, value in limits.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **limits})


def main() -> None:
    with_one_thread()
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--dlfs", help="clone of oreilly-japan/deep-learning-from-scratch")
    parser.add_argument("--cs231n", help="folder of a solved assignment")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each row")
    parser.add_argument("--only", default="", help="rows whose name contains this")
    options = parser.parse_args()
    names = ("functions", "layers", "optimizer", "multi_layer_net")
    ours = gather("fastmlp.compat.dlfs", names)
    if options.dlfs:
        sys.path.insert(0, options.dlfs)
        theirs: Any = gather("common", names)
    else:
        import plain_network as theirs
    tables = [("Training, batch 100, SGD", training), ("Layers", layers), ("Functions", functions),
              ("Optimizers", optimizers)]
    jobs = [(title, table(theirs, ours)) for title, table in tables]
    if options.cs231n:
        sys.path.insert(0, options.cs231n)
        sys.modules["cs231n.fast_layers"] = types.ModuleType("cs231n.fast_layers")      # wants an extension
        pair = [gather(package, ("optim", "classifiers.fc_net"))
                for package in ("cs231n", "fastmlp.compat.cs231n")]
        jobs.append(("CS231n, batch 100", course(*pair)))
    print(f"{fastmlp.active_isa()}, one thread, NumPy {np.__version__}, against "
          f"{'the original' if options.dlfs else 'plain_network.py'}")
    for title, rows in jobs:
        print(f"\n{title:<58}{'theirs':>10}{'ours':>10}")
        for name, pair in rows:
            if options.only in name:
                a, b = least(pair, options.seconds)
                print(f"{name:<58}{a:>10.1f}{b:>10.1f}{a / b:>7.2f}x", flush=True)


if __name__ == "__main__":
    main()
