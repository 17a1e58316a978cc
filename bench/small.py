"""What a call costs beside its arithmetic: small networks, few rows, one thread.

    python bench/small.py [--peers]

Every figure is the least of many turns, in microseconds; `kernels` is the time of the same work in a run so
long that the calls around it vanish.
"""
from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import common
import numpy as np
import saved

import fastmlp
from fastmlp import MLP, SGD, Adam

LAYERS = [20, 32, 2]
ROWS = 32


def least(call: Callable[[], object], seconds: float = 0.5) -> float:
    """Microseconds of a call: the least of turns of about 2 ms."""
    call()
    started = time.perf_counter()
    call()
    number = max(1, int(0.002 / max(time.perf_counter() - started, 1e-9)))
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        started = time.perf_counter()
        for _ in range(number):
            call()
        best = min(best, (time.perf_counter() - started) / number)
    return best * 1e6


def of_kernels(make: Callable[[], object], rows: int) -> float:
    """A step of the engine in one long run."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((rows * 500, LAYERS[0])).astype("f4"), rng.integers(0, 2, rows * 500)
    model, optimizer = MLP(LAYERS, seed=0), make()
    return min(least(lambda: model.fit(X, y, epochs=1, batch_size=rows, optimizer=optimizer, shuffle=False,
                                       progress=False), 0.3) / 500 for _ in range(3))


def measured() -> dict[str, float]:
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((500, LAYERS[0])).astype("f4"), rng.integers(0, 2, 500)
    few, labels, row = X[:ROWS].copy(), y[:ROWS].copy(), X[:1].copy()
    results = {}
    for name, make in (("SGD", lambda: SGD(1e-3)), ("Adam", lambda: Adam(1e-3))):
        model, optimizer = MLP(LAYERS, seed=0), make()

        def fit(X, y, epochs, batch, model=model, optimizer=optimizer):
            model.fit(X, y, epochs=epochs, batch_size=batch, optimizer=optimizer, progress=False)

        results[f"kernels, a step of {ROWS}, {name}"] = of_kernels(make, ROWS)
        results[f"train_step, {ROWS} rows, {name}"] = least(partial(model.train_step, few, labels, optimizer))
        results[f"fit, 500 rows by 50, 10 epochs, a step, {name}"] = least(partial(fit, X, y, 10, 50)) / 100
        results[f"fit, 1 epoch of 1 step, {name}"] = least(partial(fit, few, labels, 1, ROWS))
    model = MLP(LAYERS, seed=0)
    results[f"MLP({LAYERS})"] = least(lambda: MLP(LAYERS, seed=0))
    results["predict, 1 row"] = least(lambda: model.predict(row))
    results["forward, 1 row"] = least(lambda: model.forward(row))
    results[f"evaluate, {ROWS} rows"] = least(lambda: model.evaluate(few, labels))
    return results


def of_peers() -> dict[str, tuple[float, float]]:
    """PyTorch's step of the same network, and ours, in turns."""
    import torch

    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((ROWS, LAYERS[0])).astype("f4"), rng.integers(0, 2, ROWS)
    X, y = torch.tensor(x), torch.tensor(labels)
    results = {}
    for name, theirs, ours in (("SGD", torch.optim.SGD, SGD(1e-3)), ("Adam", torch.optim.Adam, Adam(1e-3))):
        network = torch.nn.Sequential(torch.nn.Linear(20, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
        optimizer, loss = theirs(network.parameters(), lr=1e-3), torch.nn.CrossEntropyLoss()
        model = MLP(LAYERS, seed=0)

        def step(network=network, optimizer=optimizer, loss=loss):
            optimizer.zero_grad()
            loss(network(X), y).backward()
            optimizer.step()

        turns = [(least(step, 0.3), least(partial(model.train_step, x, labels, ours), 0.3)) for _ in range(3)]
        least_of = min(turn[0] for turn in turns), min(turn[1] for turn in turns)
        results[f"train_step, {ROWS} rows, {name}"] = least_of
    return results


def records(with_peers: bool) -> list[common.Record]:
    """One for every call, and one for every step of PyTorch's."""
    about = {"isa": fastmlp.active_isa(), "dtype": "float32", "threads": 1} | common.machine()
    result = [{"library": "fastmlp", "function": name, "us": us} | about for name, us in measured().items()]
    if with_peers:
        version = common.installed_version("torch")
        result += [{"library": "PyTorch", "version": version, "function": name, "us": theirs,
                    "times_ours": theirs / ours} | about for name, (theirs, ours) in of_peers().items()]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", action="store_true", help="beside PyTorch's step of the same network")
    options = parser.parse_args()
    fastmlp.set_num_threads(1)
    print(f"fastmlp {fastmlp.__version__}, NumPy {np.__version__}, {fastmlp.active_isa()}")
    found = records(options.peers)
    for record in found:
        times = f": {record['times_ours']:.1f} times train_step" if "times_ours" in record else ""
        print(f"{record['library']:<8} {record['function']:<46} {record['us']:9.2f} us{times}")
    saved.save("small", found)


if __name__ == "__main__":
    main()
