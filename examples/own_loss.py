"""A loss of your own: the quantile loss, which asks for a range that holds 80% of the values."""
import numpy as np

from fastmlp import MLP, AdamW

QUANTILES = np.array([0.1, 0.5, 0.9], np.float32)


def quantile_loss(z, t):
    """Mean of max(q (t - z), (q - 1) (t - z)) and its gradient over z; z (n, 3), t (n, 1)."""
    missing = t - z
    loss = np.maximum(QUANTILES * missing, (QUANTILES - 1) * missing).mean()
    return float(loss), np.where(missing > 0, -QUANTILES, 1 - QUANTILES) / z.size


rng = np.random.default_rng(0)
x = rng.uniform(-2, 2, (4000, 1)).astype(np.float32)
y = x ** 2 + (0.2 + abs(x)) * rng.standard_normal(x.shape, np.float32)     # noise that grows outwards
train, test = slice(0, 3000), slice(3000, 4000)

model = MLP([1, 64, 3], activation="gelu", loss=quantile_loss, seed=0)
model.fit(x[train], y[train], epochs=40, batch_size=50, optimizer=AdamW(lr=0.005), progress=False)

low, middle, high = model.predict(x[test]).T
inside = (low <= y[test, 0]) & (y[test, 0] <= high)
print(f"{inside.mean():.0%} of the values lie in the range")
for at in (0.0, 1.0, 2.0):
    low, middle, high = model.forward([[at]])[0]
    print(f"x = {at}: {low:5.2f} to {high:5.2f}, median {middle:5.2f}")
