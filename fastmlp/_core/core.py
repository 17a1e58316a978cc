"""What a model consists of, for the other modules of this library; users have `MLP`."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from fastmlp import losses
from fastmlp._core import checks, sources
from fastmlp._core.divergence import all_finite
from fastmlp._core.layout import Parameters, Statistics
from fastmlp._core.locking import TrainingLock
from fastmlp._core.network import Layer, Samples

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from fastmlp._core.sources import Rows
    from fastmlp._core.start import Start
    from fastmlp._core.types import Array, ClassWeight, RowsLike
    from fastmlp.backends.interface import Engine
    from fastmlp.model import MLP
    from fastmlp.training import Training

__all__ = ["Core", "batch_of", "engine_for", "samples_of"]


class Core:
    """The parts of a model, as `model.core`.

    parameters  weights, biases and scales, in one buffer
    statistics  running means and variances
    engine      of the model's backend
    rng         the generator of its seed: initial values, shuffling
    seed        that was given; None if none was, and for models from files, copies and pickles
    lock        held by the call that trains it
    start       how the parameters began; None where that is not known
    training    the call of `fit` that is going on on this thread, or None
    loss_is_usual   whether no loss was asked for: it follows from the number of outputs
    """

    __slots__ = ("_dropout_seed", "_training", "engine", "lock", "loss_is_usual", "parameters", "rng", "seed",
                 "start", "statistics")

    engine: Engine
    rng: np.random.Generator

    def __init__(self, parameters: Parameters, statistics: Statistics) -> None:
        self.parameters = parameters
        self.statistics = statistics
        self.lock: TrainingLock = parameters.identity.lock
        self.start: Start | None = None
        self.loss_is_usual = False
        self._dropout_seed: int | None = None
        self.seed: int | None = None
        self._training: Training | None = None

    @property
    def training(self) -> Training | None:
        # One that an exception ended before it could take itself away does not count.
        training = self._training
        while training is not None and not (training.call is not None and training.call.is_here()):
            training = training.outer
        return training

    @training.setter
    def training(self, training: Training | None) -> None:
        self._training = training

    @property
    def dropout_seed(self) -> int:
        """The first number of a generator that the model's has for a child; made when it is asked for."""
        if self._dropout_seed is None:
            parent = cast("np.random.SeedSequence", self.rng.bit_generator.seed_seq)
            child = np.random.SeedSequence(
                parent.entropy, spawn_key=(*parent.spawn_key, parent.n_children_spawned))
            self._dropout_seed = int(np.random.default_rng(child).integers(2**63))
        return self._dropout_seed

    @dropout_seed.setter
    def dropout_seed(self, seed: int) -> None:
        self._dropout_seed = seed

    def forget_dropout_seed(self) -> None:
        """The generator is another one."""
        self._dropout_seed = None


def engine_for(model: MLP, parameters: Parameters, dropout: Sequence[float], step: int,
               compute_dtype: str | None = None) -> Engine:
    """An engine for a network like the model's, with its own parameters or with others; it computes as the
    model does, unless compute_dtype is given."""
    network = [Layer(*settings)
               for settings in zip(model.activations, (*dropout, 0.0), (*model.batch_norm, None))]
    engine = model.backend.Engine(parameters, model.core.statistics, network, model.loss,
                                  seed=model.core.dropout_seed if any(dropout) else 0,
                                  compute_dtype=compute_dtype or model.compute_dtype)
    engine.global_step = step
    return engine


def samples_of(model: MLP, name_X: str, X: RowsLike, name_y: str, y: ArrayLike | None,
               sample_weight: ArrayLike | None, class_weight: ClassWeight | None
               ) -> tuple[Rows, Array, Array | None]:
    """X, targets and weights as the engine takes them.

    Raises TypeError and ValueError, naming the argument, for what does not fit.
    """
    if sample_weight is None and class_weight is None and _takes(model, X, y):
        return X, y, None       # type: ignore[return-value]
    X = sources.rows(name_X, X, model.layers[0])
    checks.has_samples(name_X, X)
    if len(X) > checks.SMALL_NBYTES // 8:       # their order, labels, weights: 8 bytes each
        checks.addressable(f"{name_X}: its rows", (len(X),), np.dtype(np.intp))
    return X, *losses.targets_and_weights(
        model.loss, name_y, cast("ArrayLike", y), len(X), model.layers[-1], model.dtype, sample_weight,
        class_weight)


def _takes(model: MLP, X: Any, y: Any) -> bool:
    """Whether the engine takes both as they are; not where targets may be infinite, which is looked at
    elsewhere."""
    return model.core.engine.takes(X, y) and (y.ndim == 1 or all_finite(y))


def batch_of(model: MLP, X: RowsLike, y: ArrayLike, sample_weight: ArrayLike | None,
             class_weight: ClassWeight | None) -> Samples:
    """All rows as one batch. Raises what `samples_of` does."""
    if sample_weight is None and class_weight is None and _takes(model, X, y):
        return Samples(X, y, None, None, len(X))        # type: ignore[arg-type]
    X, targets, weights = samples_of(model, "X", X, "y", y, sample_weight, class_weight)
    X = sources.readable(X, model.dtype, dense=model.compute_dtype is not None)
    return Samples(X, targets, weights, None, len(X))
