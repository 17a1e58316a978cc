"""What the scripts of tests/test_threads.py share. They are many, and each imports this and not pytest."""
from __future__ import annotations

import math
import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np

import fastmlp
from fastmlp import MLP, SGD

__all__ = [
    "BATCH", "LAYERS", "MLP", "Path", "SGD", "data", "fastmlp", "math", "multiprocessing", "np", "os", "sys",
    "tasks", "threading", "time", "trained",
]

LAYERS, BATCH = [64, 128, 128, 10], 128         # enough work for several threads


def data(seed=0, n=1000):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, LAYERS[0])).astype(np.float32), rng.integers(0, LAYERS[-1], n)


def trained(seed=0, epochs=3):
    """The bits of a model after some training, the same for the same seed."""
    X, y = data(seed)
    model = MLP(LAYERS, seed=seed)
    model.fit(X, y, epochs=epochs, batch_size=BATCH, optimizer=SGD(0.05, momentum=0.9), progress=False)
    return b"".join(w.tobytes() for w in model.weights)


def tasks():
    """Threads of this process; 0 where the system does not say."""
    return len(os.listdir("/proc/self/task")) if os.path.exists("/proc/self/task") else 0
