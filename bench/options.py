"""What activations, losses, optimizers and regularisation cost, against the plain step, and in PyTorch.

    python bench/options.py [--only ROW] [--quick] [--threads 1,2] [--options adam,dropout,...]

Everything runs in one process for a number of threads, in turns: ratios are of times on the same machine. The
plain step is ReLU, cross-entropy and SGD. PyTorch (if installed) builds the same network of its own modules.
Losses of the first epoch are compared with the NumPy backend's before anything is timed; PyTorch's are too,
but not with dropout, where it draws masks of its own.
"""
from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import common
import numpy as np
import saved


class Option(NamedTuple):
    """Arguments of MLP and the optimizer; and the same in PyTorch: a module's and an optimizer's name."""

    model: dict[str, Any] = {}
    optimizer: tuple[str, dict[str, Any]] = ("SGD", {})
    torch_activation: str = "ReLU"
    torch_optimizer: tuple[str, dict[str, Any]] = ("SGD", {})


OPTIONS = {
    "plain": Option(),
    "momentum": Option({}, ("SGD", {"momentum": 0.9}), "ReLU", ("SGD", {"momentum": 0.9})),
    "nesterov": Option({}, ("SGD", {"momentum": 0.9, "nesterov": True}), "ReLU",
                       ("SGD", {"momentum": 0.9, "nesterov": True})),
    "adagrad": Option({}, ("AdaGrad", {}), "ReLU", ("Adagrad", {})),
    "rmsprop": Option({}, ("RMSprop", {}), "ReLU", ("RMSprop", {})),
    "adam": Option({}, ("Adam", {}), "ReLU", ("Adam", {})),
    "adamw": Option({}, ("AdamW", {}), "ReLU", ("AdamW", {})),
    "clip_value": Option({}, ("SGD", {"clip_value": 1.0})),
    "clip_norm": Option({}, ("SGD", {"clip_norm": 1.0})),
    "l1": Option({}, ("SGD", {"l1": 1e-4})),
    "dropout": Option({"dropout": 0.5}),
    "batch_norm": Option({"batch_norm": True}),
    "both": Option({"dropout": 0.5, "batch_norm": True}),
    "label_smoothing": Option({"loss": "smoothed"}),
    **{name: Option({"activation": name}, torch_activation=torch) for name, torch in (
        ("leaky_relu", "LeakyReLU"), ("sigmoid", "Sigmoid"), ("tanh", "Tanh"), ("elu", "ELU"),
        ("selu", "SELU"), ("softplus", "Softplus"), ("gelu", "GELU"), ("gelu_tanh", "GELU tanh"),
        ("silu", "SiLU"))},
}
ONLY_OURS = ("clip_value", "clip_norm", "l1", "label_smoothing")
LEARNING_RATE = 1e-4


class Ours:
    def __init__(self, option: Option, row: common.Row, X: Any, y: Any, backend: str = "cython") -> None:
        import fastmlp
        settings = dict(option.model)
        if settings.pop("loss", None):
            settings["loss"] = fastmlp.losses.CrossEntropy(label_smoothing=0.1)
        with fastmlp.use_backend(backend):
            self.model = fastmlp.MLP(row.layers, seed=0, **settings)
        name, arguments = option.optimizer
        self.optimizer = getattr(fastmlp, name)(LEARNING_RATE, **arguments)
        self.X, self.y, self.batch = X, y, row.batch

    def epoch(self) -> float:
        history = self.model.fit(self.X, self.y, epochs=1, batch_size=self.batch, optimizer=self.optimizer,
                                 shuffle=False, progress=False)
        return history.loss[0]


class Torch:
    def __init__(self, option: Option, row: common.Row, X: Any, y: Any, threads: int) -> None:
        import torch
        torch.set_num_threads(threads)
        nn, modules = torch.nn, []
        name, _, approximate = option.torch_activation.partition(" ")
        for n_in, n_out in zip(row.layers, row.layers[1:]):
            modules.append(nn.Linear(n_in, n_out))
            if option.model.get("batch_norm"):
                modules.append(nn.BatchNorm1d(n_out))
            modules.append(getattr(nn, name)(**({"approximate": approximate} if approximate else {})))
            if option.model.get("dropout"):
                modules.append(nn.Dropout(option.model["dropout"]))
        last = max(i for i, module in enumerate(modules) if isinstance(module, nn.Linear))
        self.model, self.criterion = nn.Sequential(*modules[:last + 1]), nn.CrossEntropyLoss()
        start = Ours(option, row, X, y).model
        with torch.no_grad():
            linear = [module for module in modules if isinstance(module, nn.Linear)]
            for module, w, b in zip(linear, start.weights, start.biases):
                module.weight.copy_(torch.from_numpy(w.T.copy()))
                module.bias.copy_(torch.from_numpy(b.copy()))
        name, arguments = option.torch_optimizer
        self.optimizer = getattr(torch.optim, name)(self.model.parameters(), LEARNING_RATE, **arguments)
        self.X, self.y, self.batch = torch.from_numpy(X), torch.from_numpy(y), row.batch

    def epoch(self) -> float:
        losses = []
        for start in range(0, len(self.X), self.batch):
            rows = slice(start, start + self.batch)
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(self.X[rows]), self.y[rows])
            loss.backward()
            self.optimizer.step()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))


def work(options: list[str], only: str, threads: int, quick: bool) -> Iterator[dict[str, Any]]:
    """All records of one process."""
    from fastmlp import active_isa
    for row in common.TRAINING:
        if only not in row.name:
            continue
        flops = row.flops(training=True)
        steps = max(2, min(60, int((1e9 if quick else 1e10) / flops)))
        rng = np.random.default_rng(0)
        X = rng.random((steps * row.batch, row.layers[0]), np.float32)
        y = rng.integers(0, row.layers[-1], len(X))
        racing = {}
        for name in dict.fromkeys(["plain", *options]):
            option = OPTIONS[name]
            ours, numpy = Ours(option, row, X, y), Ours(option, row, X, y, "numpy")
            expected = numpy.epoch()
            np.testing.assert_allclose(ours.epoch(), expected, rtol=2e-3, err_msg=name)
            racing["fastmlp", name] = ours.epoch
            if find_spec("torch") and name not in ONLY_OURS:
                peer = Torch(option, row, X, y, threads)
                if "dropout" not in option.model:
                    np.testing.assert_allclose(peer.epoch(), expected, rtol=5e-3, err_msg=f"PyTorch, {name}")
                racing["PyTorch", name] = peer.epoch
        peak = common.Peak("float32", threads)
        race = common.race(racing, 3 if quick else 8, 0.02 if quick else 0.1, peak)
        for (library, name), turns in race.items():
            yield {"table": "options", "library": library, "variant": name, "layers": row.layers,
                   "batch": row.batch, "dtype": "float32", "isa": active_isa(),
                   "of_plain": turns.best / race["fastmlp", "plain"].best, **turns.record(flops, steps)}


def main() -> None:
    options = common.arguments(
        __doc__.partition("\n")[0],
        common.THREADS,
        ("--options", {"default": list(OPTIONS), "type": common.names}),
    )
    clock = common.Clock()
    for threads in options.threads:
        task = {"options": options.options, "only": options.only, "threads": threads, "quick": options.quick}
        saved.collect("options", common.run_child(__file__, task, threads), clock, options.quick)


if __name__ == "__main__":
    common.serve(work)
    main()
