"""A learning rate that warms up and falls along a cosine; training that ends when it no longer helps."""
import numpy as np

from fastmlp import MLP, AdamW, EarlyStopping
from fastmlp.schedules import Cosine, WarmUp

rng = np.random.default_rng(0)
X = rng.uniform(-1, 1, (1500, 8))
y = ((X[:, 0] * X[:, 1] > 0) ^ (rng.random(1500) < 0.1)).astype(int)    # a tenth of the labels is wrong
train, validation, test = slice(0, 800), slice(800, 1100), slice(1100, 1500)

epochs, batch_size = 100, 40
steps = epochs * 800 // batch_size
optimizer = AdamW(lr=WarmUp(100, Cosine(0.01, steps)), weight_decay=0.05)
stopping = EarlyStopping(patience=15)

model = MLP([8, 64, 64, 2], activation="gelu", dropout=0.1, seed=0)
history = model.fit(X[train], y[train], epochs=epochs, batch_size=batch_size, optimizer=optimizer,
                    validation_data=(X[validation], y[validation]), callbacks=[stopping], progress=False)

print(f"{len(history.loss)} epochs, best validation loss {stopping.best:.3f} in epoch {stopping.best_epoch}")
for epoch in (0, stopping.best_epoch, len(history.loss) - 1):
    rate = optimizer.learning_rates(epoch * 20, 1)[0]
    print(f"epoch {epoch}: rate {rate:.4f}, loss {history.loss[epoch]:.3f}, "
          f"validation {history.val_loss[epoch]:.3f}")
print(f"test accuracy {model.evaluate(X[test], y[test])['accuracy']:.1%}")
