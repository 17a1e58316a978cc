"""Products whose bits are known: a processor that gives others is not to be trusted with a model.

Instructions for bfloat16 differ in how they add up; and the kernels were tested on some processors only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

from . import ops

if TYPE_CHECKING:
    from .kernels import KernelModule

ROWS, INPUTS, OUTPUTS = 35, 70, 41      # whole tiles, panels and spans, and some more
ANSWER = 3149868956                     # of the NumPy backend, whose products are the specification
ANSWER_IN_INT8 = 2815644820             # the same


def operands() -> tuple[Any, Any, Any]:
    """x (rows, inputs), w (inputs, outputs), d (rows, outputs): numbers of 16 bits, over 16 binary orders."""
    import numpy as np  # here: `import fastmlp` is fast

    def matrix(rows: int, columns: int, seed: int) -> Any:
        i, j = np.ogrid[:rows, :columns]
        numbers = (i * 7919 + j * 10007 + seed) % 65521 - 32760
        return np.ldexp(numbers.astype(np.float32), (i * 5 + j * 3) % 16 - 23)

    return matrix(ROWS, INPUTS, 1), matrix(INPUTS, OUTPUTS, 2), matrix(ROWS, OUTPUTS, 3)


def checksum(*products: Any) -> int:
    """Of all bits of x w, d w^T and x^T d."""
    total = 0
    for product in products:
        total = crc32(product.tobytes(), total)
    return total


def is_given_by(module: KernelModule) -> bool:
    """Whether a kernel module of bfloat16 computes these products to the bit."""
    import numpy as np

    x, w, d = operands()
    y, dx, dw = np.empty_like(d), np.empty_like(x), np.empty_like(w)
    db = np.empty(OUTPUTS, np.float32)
    scratch = np.empty(module.dense_backward_scratch(ROWS, INPUTS, OUTPUTS), np.float32)
    identity = [activation.name for activation in ops.ACTIVATIONS].index("identity")
    done = (module.dense_forward(y, x, w, None, identity, 0.0)
            and module.dense_backward(dx, dw, db, d, x, w, None, identity, 0.0, scratch))
    return bool(done) and checksum(y, dx, dw) == ANSWER


def layer_in_int8() -> tuple[Any, Any, Any]:
    """Weights (inputs, outputs) from -127 to 127, and scales and biases (outputs,)."""
    import numpy as np

    i, j = np.ogrid[:INPUTS, :OUTPUTS]
    weights = ((i * 7919 + j * 10007) % 255 - 127).astype(np.int8)
    scales = np.ldexp(np.ones(OUTPUTS, np.float32), np.arange(OUTPUTS) % 5 - 9)
    return weights, scales, np.arange(OUTPUTS, dtype=np.float32) - 20


def is_given_in_int8_by(module: KernelModule, name: str) -> bool:
    """Whether a kernel module of float32 computes a layer of 8-bit integers to the bit, by `name`."""
    import numpy as np

    x, y = operands()[0], np.zeros((ROWS, OUTPUTS), np.float32)
    identity = [activation.name for activation in ops.ACTIVATIONS].index("identity")
    layers = [(*layer_in_int8(), identity, 0.0)]
    predictor = module.Predictor(layers, "values", x.dtype, False, 0, 1, name)
    if predictor.run(x, y) is None:     # at import: nobody has introduced arrays to the module yet
        module.introduce(np.ndarray, x.dtype, np.empty, None, {}, None, None)
        predictor.run(x, y)
    return checksum(y) == ANSWER_IN_INT8
