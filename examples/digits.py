"""Classification: the bundled handwritten digits, 64 pixels each, into ten classes."""
from importlib import resources

import numpy as np

from fastmlp import MLP, SGD

with resources.files("fastmlp").joinpath("data/digits.npz").open("rb") as file, np.load(file) as arrays:
    X, y = arrays["x"] / 16, arrays["y"].astype(int)        # pixels of 0..16 as 0..1
order = np.random.default_rng(0).permutation(len(X))
train, test = order[:1400], order[1400:]

model = MLP([64, 128, 64, 10], activation="relu", seed=0)
model.fit(X[train], y[train], epochs=20, batch_size=32, optimizer=SGD(lr=0.05, momentum=0.9),
          validation_data=(X[test], y[test]))

predicted = model.predict(X[test])
print(f"test accuracy {(predicted == y[test]).mean():.1%}")

surest = model.predict_proba(X[test]).max(axis=1)
for i in np.argsort(surest)[:3]:
    print(f"least sure: {y[test][i]}, taken for {predicted[i]} with probability {surest[i]:.0%}")
