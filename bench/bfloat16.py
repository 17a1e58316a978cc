"""Training steps and predictions in bfloat16 beside float32, one thread: fastmlp by everything that this
processor has, and PyTorch's autocast where it is installed.

    python bench/bfloat16.py [--seconds 1] [--only 784-256] [--mnist mnist.npz]

All take turns, and the least of many counts. --mnist trains networks of float32 and of bfloat16 from the same
weights, and prints the test accuracy after every epoch.
"""
from __future__ import annotations

import argparse
from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np

import fastmlp
from fastmlp import MLP, SGD, kernels
from fastmlp.backends.cython import _kernels

ROWS = [((64, 128, 128, 10), 128), ((784, 256, 128, 10), 128), ((784, 512, 512, 10), 256),
        ((784, 1024, 1024, 10), 1024), ((2048, 2048, 2048, 1000), 512)]


def model_by(way: str, layers: tuple[int, ...]) -> MLP:
    """A model that computes in float32, or in bfloat16 by `way`."""
    if way == "float32":
        return MLP(layers, seed=0)
    _kernels.KERNELS.pop("bfloat16", None)
    _kernels.bfloat16_module = lambda: kernels.load_bfloat16(kernels.active_isa(), way)
    return MLP(layers, seed=0, compute_dtype="bfloat16")


def contestants(layers: tuple[int, ...], batch: int, X: Any, y: Any
                ) -> dict[str, tuple[Callable[[], Any], ...]]:
    """A training step and a prediction of every contestant."""
    found: dict[str, tuple[Callable[[], Any], ...]] = {}
    hashes: set[bytes] = set()
    for way in ("float32", *(way for way in kernels.available_bfloat16() if "emulated" not in way)):
        model, optimizer = model_by(way, layers), SGD(1e-3)
        handle, out = model.compile_predict(), np.empty((batch, layers[-1]), np.float32)
        if way != "float32":
            hashes.add(handle(X).tobytes())
            assert len(hashes) == 1, f"{way}: other bits than those before it"
        found[way] = (lambda model=model, optimizer=optimizer: model.train_step(X, y, optimizer),
                      lambda handle=handle, out=out: handle(X, out))
    try:
        import torch
    except ImportError:
        return found
    torch.set_num_threads(1)
    modules: list[Any] = []
    for n_in, n_out in zip(layers, layers[1:]):
        modules += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    net = torch.nn.Sequential(*modules[:-1])
    rule, x, t = torch.optim.SGD(net.parameters(), 1e-3), torch.from_numpy(X), torch.from_numpy(y)

    def step(enabled: bool) -> None:
        rule.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = torch.nn.functional.cross_entropy(net(x), t)
        loss.backward()
        rule.step()

    def predict(enabled: bool) -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            net(x)

    for name, enabled in (("PyTorch float32", False), ("PyTorch bfloat16", True)):
        found[name] = (lambda enabled=enabled: step(enabled), lambda enabled=enabled: predict(enabled))
    return found


def least(calls: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Seconds of a call of each: the least of turns."""
    best = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    end = perf_counter() + seconds * len(calls)
    while perf_counter() < end:
        for name, call in calls.items():
            for _ in range(3):
                started = perf_counter()
                call()
                best[name] = min(best[name], perf_counter() - started)
    return best


def mnist(path: str, epochs: int = 8) -> None:
    with np.load(path) as file:
        x, y, x_test, y_test = (file[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    x, x_test = (a.reshape(len(a), -1).astype(np.float32) / np.float32(255) for a in (x, x_test))
    for seed in range(3):
        for compute_dtype in (None, "bfloat16"):
            model = MLP([784, 256, 128, 10], seed=seed, compute_dtype=compute_dtype)
            reached: list[float] = []

            def look(model: MLP, epoch: int, logs: Any, reached: list[float] = reached) -> None:
                reached.append(float((model.predict(x_test) == y_test).mean()))

            model.fit(x, y, epochs=epochs, batch_size=128, optimizer=SGD(0.05, 0.9), callbacks=[look],
                      progress=False)
            print(f"seed {seed}, {compute_dtype or 'float32':8}", *(f"{100 * a:.2f}" for a in reached),
                  flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--only", default="")
    parser.add_argument("--mnist")
    options = parser.parse_args()
    if options.mnist:
        mnist(options.mnist)
        return
    fastmlp.set_num_threads(1)
    rng = np.random.default_rng(0)
    for layers, batch in ROWS:
        name = f"{'-'.join(map(str, layers))}, {batch}"
        if options.only not in name:
            continue
        X = rng.standard_normal((batch, layers[0])).astype(np.float32)
        y = rng.integers(0, layers[-1], batch)
        both = contestants(layers, batch, X, y)
        for what, i in (("train", 0), ("predict", 1)):
            seconds = least({who: calls[i] for who, calls in both.items()}, options.seconds)
            ours = seconds["float32"]
            print(f"{name:28} {what:8}", ", ".join(
                f"{who} {1e6 * s:.0f} us ({ours / s:.2f}x)" for who, s in seconds.items()), flush=True)


if __name__ == "__main__":
    main()
