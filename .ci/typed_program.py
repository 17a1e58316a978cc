from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastmlp
import fastmlp.functional as F
from fastmlp import LBFGS, MLP, SGD, Adam, CSVLogger, EarlyStopping
from fastmlp.losses import Huber
from fastmlp.optimizers import Optimizer
from fastmlp.schedules import Cosine

isas: list[str] = fastmlp.available_isas()
isa: str = fastmlp.active_isa()
version: str = fastmlp.__version__

X, y = np.ones((6, 4)), np.zeros(6, int)


def my_loss(logits: NDArray[np.float32], targets: NDArray[np.float32]) -> tuple[float, NDArray[np.float32]]:
    return float(np.mean((logits - targets) ** 2)), 2 * (logits - targets) / np.float32(logits.size)


def my_init(rng: np.random.Generator, fan_in: int, fan_out: int) -> NDArray[np.float64]:
    return rng.standard_normal((fan_in, fan_out))


def largest_error(y_true: NDArray[np.float64], y_pred: NDArray[np.float64]) -> float:
    return float(np.abs(y_true - y_pred).max())


def print_loss(model: MLP, epoch: int, logs: dict[str, float]) -> None:
    print(epoch, logs["loss"], len(model.weights))


def stop_at_once(model: MLP, epoch: int, logs: dict[str, float]) -> bool:
    return True


model = MLP([4, 8, 3], activation=fastmlp.LeakyReLU(0.1), seed=0)
history = model.fit(X, y, epochs=1, optimizer=SGD(lr=0.1), progress=False)
losses: list[float] = history["loss"]
also: list[float] = history.loss
loss, gradients = model.loss_and_gradients(X, y)
value: float = loss
gradient: NDArray[np.float32] = gradients.weights[0]
y_hat = F.dense_forward(np.ones((2, 3)), np.ones((3, 4)), np.zeros(4), "relu")
dx, _, _ = F.dense_backward(y_hat, np.ones((2, 3)), np.ones((3, 4)), y_hat, "relu")
shape: tuple[int, ...] = dx.shape

for w, dw in zip(model.weights, gradients.weights):
    w -= 0.1 * dw
model.weights[0] = np.zeros((4, 8), np.float32)
model.weights = [np.array(w) for w in model.weights]
scale: NDArray[np.float32] | None = model.scales[0]
model.dropout = 0.5
model.dropout = [0.25]
rates: tuple[float, ...] = model.dropout
layers: tuple[int, ...] = model.layers
dtype: str = model.dtype.name
probabilities: NDArray[np.float32] = model.predict_proba(X)
labels: NDArray[np.intp] = model.predict(X)

other = MLP((4, 8, 8, 2), activation=["relu", fastmlp.GELU()], loss=my_loss, init=my_init, dtype=np.float64,
            bias_init=fastmlp.initializers.Constant(0.1), dropout=(0.1, 0.0),
            batch_norm=[True, fastmlp.BatchNorm(epsilon=1e-4)])
optimizers: list[Optimizer] = [Adam(Cosine(0.1, 10)), SGD(lr=lambda step: 0.1 / (step + 1), momentum=0.9)]
targets = np.zeros((6, 2))
for optimizer in optimizers:
    other.fit(X, targets, 2, None, optimizer, (X, targets), callbacks=[print_loss, EarlyStopping(mode="min")],
              metrics={"largest": largest_error}, progress=False)
    other.fit(X, targets, 2, optimizer=optimizer, validation_data=(X, targets, None), progress=False,
              callbacks=(stop_at_once,), metrics=["r2", largest_error])
    step: float = other.train_step(X, targets, optimizer)
optimizers[1].lr = 0.01
optimizers[1].set_state(other, optimizers[1].get_state(other))

huber = MLP([4, 1], loss=Huber(delta=2.0), dtype="float64")
minimum = LBFGS(max_iter=5).minimize(huber, X, np.zeros(6), callback=lambda iteration, loss: loss < 1e-9)
converged: bool = minimum.converged
measured: dict[str, float] = huber.evaluate(X, np.zeros(6), metrics="r2")
model.fit(X, y, class_weight="balanced", sample_weight=np.ones(6), progress=False, epochs=1)


class Steps:
    every = 2

    def on_step_end(self, model: MLP, step: int, logs: dict[str, Any]) -> bool:
        return logs["loss"] < 0 and step > len(model.weights)


found = MLP([4, 8, 3], seed=0).fit(X, y, epochs=1, restarts=2, callbacks=[Steps(), CSVLogger("log.csv")],
                                   progress="log")
seeds: list[int] = [restart.seed for restart in found.restarts]
model.fit(X, y, class_weight={0: 1.0, 2: 1}, progress=False, epochs=1)

path = Path("model.safetensors")
other_stop = EarlyStopping()
model.save(path, SGD(0.1), [other_stop])
again = fastmlp.load(path)
bits: bool = bool((again.predict(X) == model.predict(X)).all())
with fastmlp.use_backend("numpy"):
    check = fastmlp.gradient_check(MLP([4, 3], seed=0), X, y)
passed: bool = check.passed
