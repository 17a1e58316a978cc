"""The face of every kernel module, whichever instruction set and dtype it was built for."""

from typing import Any, Protocol

from numpy.typing import NDArray

# C-contiguous arrays of the module's dtype; functions return False, with nothing written, where shapes do
# not fit, an array is not aligned, or an output shares memory with an input.
Reals = NDArray[Any]

class KernelModule(Protocol):
    ISA: str
    DTYPE: str
    VECTOR_BYTES: int
    BF16: str       # what computes products of bfloat16; empty where they are of the dtype
    Engine: Any     # engine.pxi describes it
    Predictor: Any  # and predictor.pxi this
    OUTPUTS: dict[str, int]
    MULTIPLIERS: dict[str, int]     # of 8-bit integers, by name; empty but for float32
    FUNCTIONS: object       # a capsule with the table of functions.pxd

    @staticmethod
    def dense_forward(
        y: Reals, x: Reals, w: Reals, b: Reals | None, activation: int, alpha: float
    ) -> bool: ...
    @staticmethod
    def dense_backward(
        dx: Reals | None,
        dw: Reals,
        db: Reals,
        dy: Reals,
        x: Reals,
        w: Reals,
        y: Reals | None,
        activation: int,
        alpha: float,
        scratch: Reals,
    ) -> bool: ...
    @staticmethod
    def dense_backward_scratch(m: int, k: int, n: int) -> int: ...
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
        d: Reals,
        z: Reals,
        rows: Reals | None,
        labels: NDArray[Any] | None,
        weights: NDArray[Any] | None,
        loss: int,
        parameter: float,
        pos_weight: Reals | None,
        limit: float = ...,
    ) -> float | None: ...
    @staticmethod
    def update_arrays(
        param: Reals,
        grad: Reals,
        first: Reals | None,
        second: Reals | None,
        rates: tuple[float, float, float],
        settings: tuple[Any, ...],
        is_bias: bool,
    ) -> bool: ...

    # Short ways in: public signatures; NotImplemented, with nothing written, for what does not fit.
    @staticmethod
    def introduce(
        array_type: type,
        dtype: Any,
        new_array: Any,
        activation_of: Any,
        activation_codes: dict[str, tuple[int, float]],
        adam_rates: Any,
        other_dtype: KernelModule | None,
    ) -> None: ...
    @staticmethod
    def array_map(x: Any, kind: int, alpha: float, out: Any) -> Any: ...
    # array_NAME(x, *, out=None), of the FUNCTIONS of ops.py and of its ACTIVATIONS without alpha.
    def __getattr__(self, name: str) -> Any: ...
    @staticmethod
    def array_softmax(x: Any, *, out: Any = None) -> Any: ...
    @staticmethod
    def array_log_softmax(x: Any, *, out: Any = None) -> Any: ...
    @staticmethod
    def array_dense_forward(
        x: Any, w: Any, b: Any = None, activation: Any = "identity", *, out: Any = None
    ) -> Any: ...
    @staticmethod
    def array_dense_backward(
        dy: Any,
        x: Any,
        w: Any,
        y: Any = None,
        activation: Any = "identity",
        *,
        out: Any = None,
        need_dx: Any = True,
    ) -> Any: ...
    @staticmethod
    def array_sgd_update(
        param: Any,
        grad: Any,
        lr: Any,
        momentum: Any = 0.0,
        velocity: Any = None,
        nesterov: Any = False,
        weight_decay: Any = 0.0,
    ) -> Any: ...
    @staticmethod
    def array_adagrad_update(
        param: Any, grad: Any, lr: Any, squares: Any, eps: Any = 1e-10, weight_decay: Any = 0.0
    ) -> Any: ...
    @staticmethod
    def array_rmsprop_update(
        param: Any,
        grad: Any,
        lr: Any,
        squares: Any,
        rho: Any = 0.99,
        eps: Any = 1e-8,
        weight_decay: Any = 0.0,
    ) -> Any: ...
    @staticmethod
    def array_adam_update(
        param: Any,
        grad: Any,
        lr: Any,
        first_moment: Any,
        second_moment: Any,
        step: Any,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        eps: Any = 1e-8,
        weight_decay: Any = 0.0,
        decoupled: Any = False,
    ) -> Any: ...

    # Yardsticks.
    @staticmethod
    def fma_peak(seconds: float = 0.1) -> float: ...
    @staticmethod
    def stream(buffer: Reals) -> float: ...
