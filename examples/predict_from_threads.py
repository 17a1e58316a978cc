"""Serving: many Python threads ask one handle of a model for predictions of single rows."""
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fastmlp import MLP

model = MLP([784, 256, 128, 10], seed=0)
handle = model.compile_predict(batch_size=1)        # each request on the thread that asks, without the GIL
requests = np.random.default_rng(0).random((400, 784), np.float32)
together = model.forward(requests)


def answer(i):
    return handle(requests[i:i + 1])[0]


for threads in (1, 2, 4):
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        answers = list(pool.map(answer, range(len(requests))))
        elapsed = time.perf_counter() - started
    same = (np.array(answers) == together).all()
    print(f"{threads} at a time: {len(requests) / elapsed:,.0f} rows a second, the bits of one batch: {same}")
