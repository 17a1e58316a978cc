"""The face of every kernel module, whichever instruction set and dtype it was built for."""

from typing import Any, Protocol

from numpy.typing import NDArray

# C-contiguous arrays of the module's dtype; functions return False, with nothing written, where shapes do
# not fit or an output shares memory with an input.
Reals = NDArray[Any]

class KernelModule(Protocol):
    ISA: str
    DTYPE: str
    VECTOR_BYTES: int

    @staticmethod
    def dense_forward(y: Reals, x: Reals, w: Reals, b: Reals, activation: int, alpha: float) -> bool: ...
    @staticmethod
    def dense_backward(
        dx: Reals,
        dw: Reals,
        db: Reals,
        dy: Reals,
        x: Reals,
        w: Reals,
        y: Reals,
        activation: int,
        alpha: float,
        dz: Reals,
    ) -> bool: ...
    @staticmethod
    def map_forward(y: Reals, x: Reals, kind: int, alpha: float) -> bool: ...
    @staticmethod
    def map_derivative(dx: Reals, dy: Reals, y: Reals, kind: int, alpha: float) -> bool: ...
    @staticmethod
    def softmax(y: Reals, x: Reals, logarithm: bool) -> bool: ...
    @staticmethod
    def softmax_backward(dx: Reals, dy: Reals, y: Reals, logarithm: bool) -> bool: ...
    @staticmethod
    def loss_of_rows(
        d: Reals, z: Reals, rows: Reals | None, labels: NDArray[Any] | None, loss: int
    ) -> float | None: ...
    @staticmethod
    def sgd_update(
        param: Reals,
        grad: Reals,
        lr: float,
        momentum: float,
        velocity: Reals | None,
        nesterov: bool,
        weight_decay: float,
    ) -> bool: ...
