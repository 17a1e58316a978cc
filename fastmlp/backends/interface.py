"""What a backend is: the array functions, and an engine for models. Both backends are tested against it.

A backend is a module. Its array functions have the names and signatures of `fastmlp.functional`, whose
arguments have been validated and are arrays; a compiled one may also be called with any arguments, and
returns NotImplemented, with nothing changed, for those that are not plain arrays of the right shapes.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from fastmlp._core.layout import Parameters, Statistics
from fastmlp._core.network import Layer
from fastmlp.losses import Loss
from fastmlp.optimizers import Optimizer

if TYPE_CHECKING:
    from fastmlp._core.observer import Observer
    from fastmlp._core.sources import Rows
    from fastmlp._core.types import Array

__all__ = ["Adjust", "Backend", "Engine", "Predictor", "Run", "Source", "Totals"]

Totals = tuple[float, float]        # losses, each times its weight, and the weights of the samples seen
Adjust = Callable[[Parameters], object]


@runtime_checkable
class Source(Protocol):
    """Where an engine gets samples from: rows in memory or mapped into it, which have been validated.

    Of data in several pieces each is a source. From one to the next nothing is stored but where it is asked
    for, so that pieces of whole batches train to the same bits as one.

    x           (n, inputs) of any numeric dtype, converted batch by batch; or SparseRows
    targets     class indices (n,) as intp, or rows (n, outputs) of any numeric dtype; for a loss of the
                caller's own, whatever it takes
    weights     (n,) float64, or None
    order       sample at each place, (places,) intp, or None: as they come
    batch_size  samples of a step; the last one may have fewer
    nonzeros    the most that a batch of sparse samples may have; None of dense ones
    """

    x: Rows
    targets: Array
    weights: Array | None
    order: Array | None
    batch_size: int

    @property
    def nonzeros(self) -> int | None: ...

    def __len__(self) -> int:
        """Places."""

    def batch(self, step: int) -> slice | Array:
        """Where the samples of a step are."""


@runtime_checkable
class Run(Protocol):
    """Training steps over some samples, in the order of their places."""

    def steps(self, first: int, last: int, totals: Totals, threads: int, store: bool = True,
              record: Array | None = None, observer: Observer | None = None) -> Totals:
        """Steps first..last - 1; `totals` plus those of the samples seen, added one by one.

        A step computes the gradients of a batch; `adjust` and the limit on their norm act on them; the update
        rule uses them. Settings and rates of the optimizer are those of now, and its state counts the steps
        that were made, also where one raises.
        Without `store` parameters and state may stay in the engine's workspace, until the next steps that
        store them or `write_back`.
        Row i of `record` (steps of the samples, 3), float64, receives of step i the mean loss of its batch,
        what the samples weigh, and the penalty that the rule's decay stands for, all before the update.
        The observer is told of every step that was made; the steps are the next ones of its epoch."""

    def write_back(self) -> None:
        """To the caller's arrays what is still in the workspace."""


@runtime_checkable
class Predictor(Protocol):
    """A network as it was when its engine made this, for calls from many threads at once."""

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""

    @property
    def parameters_nbytes(self) -> int:
        """Those of its copy of the parameters."""

    def run(self, x: object, out: object) -> Array | None:
        """The results of every row of x, in `out` or, if that is None, in a new array. None, with nothing
        written, for what it does not take; it takes every x that engines read, in blocks of up to 4096 rows,
        and a contiguous out."""


@runtime_checkable
class Engine(Protocol):
    """A network over a buffer of parameters. Arguments have been validated; what another thread may have
    changed since must not reach outside of memory.

    seed            of dropout
    global_step     training steps that the network has taken; dropout's masks depend on it
    compute_dtype   "bfloat16", of float32 parameters: the products are those of
                    `fastmlp.backends.numpy.bfloat16`, and samples are dense; None: of the parameters' dtype
    """

    seed: int
    global_step: int

    def __init__(self, parameters: Parameters, statistics: Statistics, layers: Sequence[Layer], loss: Loss,
                 seed: int, compute_dtype: str | None = None) -> None: ...

    def takes(self, x: object, y: object) -> bool:
        """Whether a batch needs neither validation nor conversion; False where an engine cannot say."""

    def forward(self, x: Array, out: Array, threads: int,
                hidden: Sequence[Array | None] | None = None) -> bool:
        """out = the last layer's values of every row, and hidden[i] (rows, units), contiguous, of the model's
        dtype, or None, those of hidden layer i. False, with nothing written, for an x that it does not read
        or an out that it does not write."""

    def predictor(self, output: str, is_vector: bool, batch_size: int, threads: int,
                  int8: bool = False) -> Predictor:
        """The network as it is now, for inference; see `fastmlp.inference`.

        output          "values" of the last layer, their "softmax", "sigmoid" or "exp"; or as intp, the index
                        of the "largest", 1 where "positive" else 0, the "sign" 1 or -1
        is_vector       whether results are (rows,), one number for each row, and not (rows, outputs)
        batch_size      rows of a call at most; 0 for any number
        threads         that share the work of a large call
        int8            whether the products are those of `fastmlp.backends.numpy.int8`, of a float32 network
                        whose layers have at most `fastmlp._core.int8.MOST_INPUTS` inputs
        """

    def gradients(self, samples: Source, gradients: Parameters, threads: int) -> float:
        """The mean loss of all samples, and its gradients, laid out like the parameters; as in a training
        step, but nothing is learned."""

    def begin(self, samples: Source, optimizer: Optimizer, adjust: Adjust | None = None) -> Run:
        """Training over these samples, batch_size of them at a step.

        The optimizer's state may have another dtype than the parameters: the rule computes in theirs, and
        the state is rounded to its own where it is stored.

        adjust      called with all gradients of every step, before the update and in one thread, to change
                    them in place: to add those of other machines, or of batches before. What it raises ends
                    the run, with this step not made."""

    def write_back(self) -> None:
        """As of the last run."""

    def workspace_nbytes(self, batch_size: int, slots: int, threads: int, nonzeros: int | None = None) -> int:
        """Bytes that training holds beside samples, parameters and so many slots of state; on sparse samples,
        where a batch has at most so many nonzeros."""


class Backend(Protocol):
    """The module; beside these it has every function of `fastmlp.functional`."""

    __name__: str
    COMPILED: bool
    Engine: type[Engine]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """The functions of `fastmlp.functional`."""

    def loss_and_gradient(self, loss: Loss, outputs: Array, targets: Array, weights: Array | None = None, *,
                          out: Array | None = None) -> Any: ...
