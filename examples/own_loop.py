"""A training loop of your own: minibatches from a generator, one `train_step` each."""
import numpy as np

from fastmlp import MLP, Adam


def batches(seed, count, rows=64):
    """Samples that are made as they are needed: two noisy spirals."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        label = rng.integers(0, 2, rows)
        radius = rng.uniform(0.1, 1, rows)
        angle = 6 * radius + np.pi * label
        points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        yield points + 0.02 * rng.standard_normal((rows, 2)), label


model = MLP([2, 64, 64, 2], activation="silu", seed=0)
optimizer = Adam(lr=0.005)
mean = None
for step, (X, y) in enumerate(batches(seed=0, count=1200)):
    loss = model.train_step(X, y, optimizer)
    mean = loss if mean is None else 0.99 * mean + 0.01 * loss
    if step % 300 == 299:
        print(f"step {step + 1}: running mean of the loss {mean:.4f}")

X, y = next(batches(seed=1, count=1, rows=1000))
print(f"accuracy on new samples {model.evaluate(X, y)['accuracy']:.1%}")
