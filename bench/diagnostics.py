"""What Diagnostics costs: a training with it beside one without, in turns.

    python bench/diagnostics.py [--only ROW] [--quick] [--threads 1,2] [--every 100]

Epochs of 200 steps and more, in one process; the least time of each, and their ratio. Weights are compared
before anything is timed. Of units that are dead, every output of every step is looked at: "half dead" is the
worst.
"""
from __future__ import annotations

from time import perf_counter
from typing import Any

import common
import numpy as np

STEPS = 200, 20_000             # of an epoch: few of a large network, many of a small one
GUESS = 3e10                    # operations a second
KINDS = ("healthy", "half dead")


class Trained:
    """A network and its samples, with Diagnostics or without."""

    def __init__(self, row: common.Row, kind: str, every: int | None) -> None:
        import fastmlp
        rng = np.random.default_rng(0)
        self.steps = int(np.clip(0.1 * GUESS / row.flops(training=True), *STEPS))
        self.model = fastmlp.MLP(row.layers, seed=0)
        if kind == "half dead":
            for b in self.model.biases[:-1]:
                b[::2] = -1e3
        self.X = rng.standard_normal((self.steps * row.batch, row.layers[0])).astype(np.float32)
        self.y = rng.integers(0, row.layers[-1], len(self.X))
        self.batch, self.optimizer = row.batch, fastmlp.SGD(1e-4)
        self.callbacks: list[Any] = [] if every is None else [fastmlp.Diagnostics(every, warn=False)]

    def epoch(self) -> float:
        started = perf_counter()
        self.model.fit(self.X, self.y, epochs=1, batch_size=self.batch, optimizer=self.optimizer,
                       callbacks=self.callbacks, shuffle=False, progress=False)
        return perf_counter() - started


def main() -> None:
    import fastmlp
    given = common.arguments(__doc__, common.THREADS, ("--every", {"type": int, "default": 100}))
    rows = [row for row in common.TRAINING[:6] + common.TRAINING[7:8] if given.only in row.name]
    for threads in given.threads:
        fastmlp.set_num_threads(threads)
        for row in rows:
            for kind in KINDS:
                plain, watched = Trained(row, kind, None), Trained(row, kind, given.every)
                plain.epoch(), watched.epoch()
                assert all((a == b).all() for a, b in zip(plain.model.weights, watched.model.weights))
                turns = [(plain.epoch(), watched.epoch()) for _ in range(3 if given.quick else 30)]
                without, with_it = np.min(turns, axis=0)
                step, more = without / plain.steps * 1e6, 100 * (with_it / without - 1)
                print(f"{row.name:28} {threads} threads  {kind:9}  {step:9.2f} us a step  {more:+.2f}%",
                      flush=True)


if __name__ == "__main__":
    main()
