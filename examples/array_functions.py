"""A network by hand: forward pass, loss, backward pass and update with the array functions."""
import numpy as np

import fastmlp.functional as F

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (1000, 2))
y = (np.hypot(X[:, 0], X[:, 1]) < 0.7).astype(int)          # is the point inside of a circle?

sizes = [2, 32, 32, 2]
activations = ["tanh", "tanh", "identity"]
weights = [rng.standard_normal((n, m)) / np.sqrt(n) for n, m in zip(sizes, sizes[1:])]
biases = [np.zeros(m) for m in sizes[1:]]
velocities = [np.zeros_like(p) for p in (*weights, *biases)]

for epoch in range(40):
    losses = []
    for rows in np.array_split(rng.permutation(len(X)), 20):
        outputs = [X[rows]]
        for w, b, f in zip(weights, biases, activations):
            outputs.append(F.dense_forward(outputs[-1], w, b, f))
        loss, dy = F.softmax_cross_entropy(outputs[-1], y[rows])
        gradients = []
        for i in reversed(range(3)):
            dy, dw, db = F.dense_backward(dy, outputs[i], weights[i], outputs[i + 1], activations[i])
            gradients.append((dw, db))
        dws, dbs = zip(*reversed(gradients))
        for p, g, v in zip((*weights, *biases), (*dws, *dbs), velocities):
            F.sgd_update(p, g, lr=0.1, momentum=0.9, velocity=v)
        losses.append(loss)
    if epoch % 10 == 9:
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}")
