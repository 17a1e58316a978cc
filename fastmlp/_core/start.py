"""How the parameters of a model begin: its initialisers and its seed, which can be used again."""
from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp import initializers
from fastmlp._core.copying import importable

if TYPE_CHECKING:
    from fastmlp._core.core import Core
    from fastmlp._core.types import BiasInitializer, Initializer
    from fastmlp.activations import Activation
    from fastmlp.model import MLP

__all__ = ["Start"]


class Start:
    """Initialisers, which have been checked, and a seed; a fresh one for None.

    seed    of a generator that gives the same numbers again
    """

    def __init__(self, init: str | Initializer, bias_init: str | BiasInitializer, seed: int | None) -> None:
        self._init = init
        self._bias_init = bias_init
        self.seed: int = np.random.SeedSequence().entropy if seed is None else seed  # type: ignore[assignment]

    def draw(self, core: Core, activations: tuple[Activation, ...], seed: int) -> None:
        """Give a model a generator, and its parameters their first values."""
        rng = core.rng = np.random.default_rng(seed)
        parameters = core.parameters
        for w, f in zip(parameters.weights, activations):
            fan_in, fan_out = w.shape
            w[...] = initializers.initial_weights(self._init, rng, fan_in, fan_out, f)
        for w, b in zip(parameters.weights, parameters.biases):     # the weights do not depend on them
            b[...] = initializers.initial_biases(self._bias_init, rng, *w.shape)
        for scale in parameters.scales:
            if scale is not None:
                scale[...] = 1

    def again(self, model: MLP, seed: int) -> None:
        """Make a model what it would be with this seed before any training."""
        core = model.core
        core.engine.write_back()
        self.draw(core, model.activations, seed)
        core.statistics.reset()
        core.forget_dropout_seed()
        core.engine.seed = core.dropout_seed if any(model.dropout) else 0
        core.engine.global_step = 0

    def __getstate__(self) -> dict[str, Any]:
        """Without functions that cannot be pickled; what is read from it is not `is_random` then."""
        kept = dict(vars(self))
        for name in ("_init", "_bias_init"):
            try:
                importable(name, kept[name])
            except pickle.PicklingError:
                kept[name] = None
        return kept

    @property
    def is_random(self) -> bool:
        """Whether another seed is another start. Models from files are made with zeros."""
        return self._init not in (None, "zeros") and self._bias_init is not None
