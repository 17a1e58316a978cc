"""What a backend is: the array functions, and an engine for models. Both backends are tested against it.

A backend is a module. Its array functions have the names and signatures of `fastmlp.functional`, whose
arguments have been validated and are arrays; a compiled one may also be called with any arguments, and
returns NotImplemented, with nothing changed, for those that are not plain arrays of the right shapes.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from fastmlp._core.layout import Parameters, Statistics
from fastmlp._core.network import Layer, Samples
from fastmlp.losses import Loss
from fastmlp.optimizers import Optimizer

if TYPE_CHECKING:
    from fastmlp._core.types import Array

__all__ = ["Backend", "Engine", "Run", "Totals"]

Totals = tuple[float, float]        # losses, each times its weight, and the weights of the samples seen


@runtime_checkable
class Run(Protocol):
    """Training steps over some samples, in the order of their places."""

    def steps(self, first: int, last: int, totals: Totals, threads: int, store: bool = True,
              record: Array | None = None) -> Totals:
        """Steps first..last - 1; `totals` plus those of the samples seen, added one by one.

        A step computes the gradient of a batch, limits its norm, and applies the update rule: settings and
        rates of the optimizer are those of now, and its state counts the steps, also where one raises.
        Without `store` parameters and state may stay in the engine's workspace, until the next steps that
        store them or `write_back`.
        Row i of `record` (steps of the samples, 3), float64, receives of step i the mean loss of its batch,
        what the samples weigh, and the penalty that the rule's decay stands for, all before the update."""

    def write_back(self) -> None:
        """To the caller's arrays what is still in the workspace."""


@runtime_checkable
class Engine(Protocol):
    """A network over a buffer of parameters. Arguments have been validated; what another thread may have
    changed since must not reach outside of memory.

    seed            of dropout
    global_step     training steps that the network has taken; dropout's masks depend on it
    """

    seed: int
    global_step: int

    def __init__(self, parameters: Parameters, statistics: Statistics, layers: Sequence[Layer], loss: Loss,
                 seed: int) -> None: ...

    def takes(self, x: object, y: object) -> bool:
        """Whether a batch needs neither validation nor conversion; False where an engine cannot say."""

    def forward(self, x: Array, out: Array, threads: int) -> bool:
        """out = the last layer's values of every row; False, with nothing written, for an x that it does not
        read or an out that it does not write."""

    def gradients(self, samples: Samples, gradients: Parameters, threads: int) -> float:
        """The mean loss of all samples, and its gradients, laid out like the parameters; as in a training
        step, but nothing is learned."""

    def begin(self, samples: Samples, optimizer: Optimizer) -> Run:
        """Training over these samples, batch_size of them at a step."""

    def write_back(self) -> None:
        """As of the last run."""

    def workspace_nbytes(self, batch_size: int, slots: int, threads: int) -> int:
        """Bytes that training holds beside samples, parameters and so many slots of state."""


class Backend(Protocol):
    """The module; beside these it has every function of `fastmlp.functional`."""

    __name__: str
    COMPILED: bool
    Engine: type[Engine]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The functions of `fastmlp.functional`."""

    def loss_and_gradient(self, loss: Loss, outputs: Array, targets: Array, weights: Array | None = None, *,
                          out: Array | None = None) -> Any: ...
