"""Regression: real values from a noisy function of three columns, some of them far off."""
import numpy as np

from fastmlp import MLP, AdamW, losses

rng = np.random.default_rng(0)
X = rng.uniform([-3, 0, 100], [3, 1, 900], (3000, 3))       # columns of very different size
truth = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] / 500
y = truth + 0.05 * rng.standard_normal(3000)
y[rng.random(3000) < 0.02] += 20                            # outliers
train, test = slice(0, 2000), slice(2000, 3000)

mean, std = X[train].mean(axis=0), X[train].std(axis=0)
X = (X - mean) / std                                  # about 1 in size, by the training data

for loss in ("mean_squared_error", losses.Huber(delta=0.2)):
    model = MLP([3, 64, 64, 1], activation="silu", loss=loss, seed=0)
    model.fit(X[train], y[train], epochs=60, batch_size=50, optimizer=AdamW(lr=0.003), progress=False)
    error = abs(model.predict(X[test]) - truth[test]).mean()
    print(f"{model.loss.name}: mean absolute error {error:.3f}")
