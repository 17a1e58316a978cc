"""Saving a model and its optimizer, and going on from the file: the same bits as without it."""
import tempfile
from pathlib import Path

import numpy as np

import fastmlp
from fastmlp import MLP, SGD

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (1000, 2))
y = (X[:, 0] * X[:, 1] > 0).astype(int)


def train(model, optimizer, epochs):
    model.fit(X, y, epochs=epochs, batch_size=32, optimizer=optimizer, progress=False)


whole, optimizer = MLP([2, 32, 2], dropout=0.1, seed=0), SGD(lr=0.1, momentum=0.9)
train(whole, optimizer, epochs=30)

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder, "net.safetensors")
    model, optimizer = MLP([2, 32, 2], dropout=0.1, seed=0), SGD(lr=0.1, momentum=0.9)
    train(model, optimizer, epochs=10)
    model.save(path, optimizer=optimizer)
    print(f"saved {path.stat().st_size:,} bytes after 10 epochs")

    optimizer = SGD(lr=0.1, momentum=0.9)
    resumed = fastmlp.load(path, optimizer=optimizer)
    train(resumed, optimizer, epochs=20)

same = all((a == b).all() for a, b in zip(whole.weights, resumed.weights, strict=True))
print(f"the same bits as 30 epochs in one go: {same}")
