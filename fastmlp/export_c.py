"""A model as one C99 file: its weights as constants, and a function that computes its outputs.

The formulas are those of the kernels, number by number (fastmlp/kernels/scalar_math.h, vector_math.h); the
file gets the functions that the network uses. Compiled with FMA it returns the bits of the library.
"""
from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core import state, whole_files
from fastmlp.inference import made_of_outputs
from fastmlp.saving import file_name
from fastmlp.version import __version__

if TYPE_CHECKING:
    from fastmlp._core.types import Array, Path
    from fastmlp.model import MLP

__all__ = ["export_c"]

OUTPUTS = ("logits", "proba")
STACK = 65536                   # bytes of activations on the stack at most: threads may have little of it
ON_STACK = "The stack holds {bytes} bytes of activations.\n * Any number of threads may call it at once."
STATIC = ("{bytes} bytes of activations are too many\n * for the stack, and static: ONE THREAD AT A TIME may "
          "call it.")
TAKEN = frozenset(               # by C, its library, or the file itself
    "auto break case char const continue default do double else enum extern float for goto if inline int "
    "long register restrict return short signed sizeof static struct switch typedef union unsigned void "
    "volatile while main real bits dense normalise FMA abort abs exp fma fmaf log malloc memcpy memset "
    "printf puts round sin sqrt tanh".split())
OF_STDINT = re.compile(r"u?int\w*_t|U?INT\w*|[A-Z_]+_(MIN|MAX)|(size|wchar)_t")
NAMES = {"tanh": "tanh_of"}     # of C functions, where an activation has the name of one of the C library

HEADER = '''\
/* {function}: the network {layers}, {dtype}, written by fastmlp {version}.
 *
 *     void {function}(const {real} *x, {real} *y);
 *
 * x: {inputs} inputs. y: {outputs} {what}. They must not overlap. Nothing is allocated. {memory}
 *
 * C99, without any library. Compile with optimization and, where the processor has it, FMA:
 *
 *     cc -std=c99 -O3 -mfma -c FILE
 *
 * Then the results are those of fastmlp to the bit, as long as no number on the way is subnormal: fastmlp
 * counts those as zero. Without FMA every multiply-add is rounded twice, and the results are those of the
 * portable kernels of fastmlp, which differ by rounding. No promise holds with -ffast-math. */

'''

PROLOGUE = '''\
#include <stdint.h>

/* Products and sums are rounded each by itself, except in FMA. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize ("fp-contract=off")
#endif

typedef {real} real;
typedef {bits} bits;

#if defined(__GNUC__) && (defined(__FMA__) || defined(__aarch64__))
#define FMA(a, b, c) {fma}(a, b, c)
#else
#define FMA(a, b, c) ((a) * (b) + (c))
#endif

'''

DENSE = '''\
/* y = b + x w; b may be a null pointer: zeros. */
static void dense(real *restrict y, const real *restrict x, const real *restrict w, const real *restrict b,
                  int n_in, int n_out) {
    int i, j;
    for (j = 0; j < n_out; j++) y[j] = b ? b[j] : 0;
    for (i = 0; i < n_in; i++) {
        for (j = 0; j < n_out; j++) y[j] = FMA(x[i], w[j], y[j]);
        w += n_out;
    }
}

'''

NORMALISE = '''\
/* y = scale (y - mean) / std + shift */
static void normalise(real *restrict y, const real *restrict mean, const real *restrict inv_std,
                      const real *restrict scale, const real *restrict shift, int n) {
    int j;
    for (j = 0; j < n; j++) y[j] = FMA(scale[j], (y[j] - mean[j]) * inv_std[j], shift[j]);
}

'''


def export_c(model: MLP, path: Path, output: str, function: str) -> None:
    """Write a model as a C file: what `fastmlp.MLP.export_c` does.

    Parameters
    ----------
    model : MLP
        Model.
    path : str, bytes or os.PathLike
        As for `MLP.export_c`.
    output : str
        As for `MLP.export_c`.
    function : str
        As for `MLP.export_c`.
    """
    path = file_name(path)
    kind = made_of_outputs(model.loss, output, model.layers[-1], OUTPUTS)[0]
    if model.compute_dtype is not None:
        raise ValueError(f"model: expected compute_dtype None, got {model.compute_dtype!r}; the C file would "
                         "have other bits")
    if not isinstance(function, str):
        raise TypeError(f"function: expected the name of a C function, got {function!r}")
    if (not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", function) or len(function) > 63
            or function in {*TAKEN, *_functions(), *_coefficients(model.dtype)}
            or OF_STDINT.fullmatch(function)
            or re.fullmatch(r"([wbhj]|scale|mean|inv_std)\d*|x|y", function)):
        raise ValueError(f"function: expected the name of a C function, got {function!r}")
    with model.core.lock.between_steps("export it"):
        arrays = state.copy(model)
    for i, batch_norm in enumerate(model.batch_norm):
        if batch_norm is not None:
            variances = arrays[f"running_variances.{i}"]
            if not (variances + variances.dtype.type(batch_norm.epsilon) > 0).all():
                raise ValueError(f"model: expected running_variances[{i}] that are positive with epsilon, "
                                 f"got {variances.min()} at the least")
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"model: expected finite numbers, got {array[~np.isfinite(array)][0]} in {name}")
    text = "".join(_text(model, arrays, kind, function))
    whole_files.write(path, [text.encode("ascii")])


def _text(model: MLP, arrays: dict[str, Array], kind: str, function: str) -> Iterator[str]:
    single = model.dtype == np.float32
    real = "float" if single else "double"
    depth, hidden = len(model.layers) - 1, model.layers[1:-1]
    buffers = [max(hidden[i::2]) for i in range(min(2, len(hidden)))]
    nbytes = sum(buffers) * model.dtype.itemsize
    yield HEADER.format(
        function=function, layers="-".join(map(str, model.layers)), dtype=model.dtype.name,
        version=__version__, real=real, inputs=model.layers[0], outputs=model.layers[-1],
        what={"values": "values of the last layer"}.get(kind, "probabilities"),
        memory=(ON_STACK if nbytes <= STACK else STATIC).format(bytes=nbytes))
    yield PROLOGUE.format(real=real, bits="uint32_t" if single else "uint64_t",
                          fma="__builtin_fmaf" if single else "__builtin_fma")

    calls = []
    for i, f in enumerate(model.activations):
        source = "x" if i == 0 else f"h{(i - 1) % 2}"
        target = "y" if i == depth - 1 else f"h{i % 2}"
        n_in, n_out = model.layers[i], model.layers[i + 1]
        normalised = f"scales.{i}" in arrays
        calls.append(f"    dense({target}, {source}, w{i}, {0 if normalised else f'b{i}'}, {n_in}, {n_out});")
        if normalised:
            calls.append(f"    normalise({target}, mean{i}, inv_std{i}, scale{i}, b{i}, {n_out});")
        if f.name != "identity":
            calls.append(_each(target, n_out, NAMES.get(f.name, f.name), getattr(f, "alpha", None), single))
    if kind == "softmax":
        calls.append(f"    softmax(y, {model.layers[-1]});")
    elif kind == "sigmoid":
        calls.append(_each("y", model.layers[-1], "sigmoid", None, single))
    body = "\n".join(calls)
    yield from _needed(body, model.dtype)
    yield DENSE
    if any(model.batch_norm):
        yield NORMALISE
    for i in range(depth):
        yield from _constant(f"w{i}", arrays[f"weights.{i}"])
        yield from _constant(f"b{i}", arrays[f"biases.{i}"])
        if f"scales.{i}" in arrays:
            norm = model.batch_norm[i]
            epsilon = model.dtype.type(norm.epsilon if norm else 0.0)
            yield from _constant(f"scale{i}", arrays[f"scales.{i}"])
            yield from _constant(f"mean{i}", arrays[f"running_means.{i}"])
            yield from _constant(f"inv_std{i}", 1 / np.sqrt(arrays[f"running_variances.{i}"] + epsilon))
    yield f"void {function}(const {real} *x, {real} *y);\n\n"
    yield f"void {function}(const {real} *x, {real} *y) {{\n"
    for i, size in enumerate(buffers):
        yield f"    {'static ' if nbytes > STACK else ''}real h{i}[{size}];\n"
    if "for (j" in body:
        yield "    int j;\n"
    yield f"{body}\n}}\n"


def _each(target: str, n: int, function: str, alpha: float | None, single: bool) -> str:
    """A loop that applies a function of the file."""
    more = "" if not _takes_alpha(function) else f", {_number(alpha, single)}"
    return f"    for (j = 0; j < {n}; j++) {target}[j] = {function}({target}[j]{more});"


def _number(value: Any, single: bool) -> str:
    return f"{np.float32(value)!s}f" if single else str(np.float64(value))


def _constant(name: str, array: Array) -> Iterator[str]:
    """An array, in as few digits as give every number back; subnormal ones count as zero."""
    flat = np.where(np.abs(array) < np.finfo(array.dtype).tiny, array.dtype.type(0), array).ravel()
    suffix = "f" if array.dtype == np.float32 else ""
    yield f"static const real {name}[{flat.size}] = {{\n"
    for first in range(0, flat.size, 8):
        numbers = flat[first:first + 8].astype(str)
        yield "    " + " ".join(f"{number}{suffix}," for number in numbers) + "\n"
    yield "};\n\n"


# The formulas --------------------------------------------------------------------------------------------

@functools.cache
def _source(name: str) -> str:
    from importlib import resources  # here, since it takes several milliseconds

    return resources.files("fastmlp.kernels").joinpath(name).read_text(encoding="utf-8")


def _functions() -> dict[str, str]:
    """{name: text} of scalar_math.h, in its order; each with the comment above it."""
    parts = re.split(r"\n\n(?=/\*|static)", _source("scalar_math.h").rstrip())[1:]
    return {re.search(r"^static \w+ \*?(\w+)\(", part, re.M)[1]: part for part in parts}  # type: ignore[index]


def _takes_alpha(function: str) -> bool:
    return "real alpha" in _functions()[function].partition("{")[0]


def _coefficients(dtype: np.dtype[Any]) -> dict[str, str]:
    """{name: definition} of what vector_math.h, activations.h and simd.h define, for one dtype."""
    single = dtype == np.float32
    double, both = _source("vector_math.h").split("#if defined(FASTMLP_REAL_f64)")[1].split("#else")
    text = both.split("#endif")[0] if single else double
    found = {match[1]: match[0] for match in re.finditer(r"^#define (\w+) .*$", text, re.M)}
    found |= {match[1]: f"enum {{ {match[0]} }};" for match in re.finditer(r"(\w+_TERMS) = \d+", text)}
    found |= {match[1]: match[0]
              for match in re.finditer(r"^static const real (\w+)\[\] = \{.*?^\};$", text, re.M | re.S)}
    found |= {match[1]: match[0].rstrip()
              for match in re.finditer(r"^#define (\w+) \([^/\n]*", _source("activations.h"), re.M)}
    mantissa, bias, sign = (23, 127, "0x80000000u") if single else (52, 1023, "0x8000000000000000u")
    found |= {"MANTISSA": f"enum {{ MANTISSA = {mantissa} }};", "BIAS": f"enum {{ BIAS = {bias} }};",
              "SIGN_BIT": f"#define SIGN_BIT ((bits){sign})",
              "ROUND": "#define ROUND ((real)1.5 * (real)((bits)1 << MANTISSA))"}
    return found


def _needed(body: str, dtype: np.dtype[Any]) -> Iterator[str]:
    """The functions and coefficients that a text uses, and those that these use, in order."""
    functions, coefficients = _functions(), _coefficients(dtype)
    known, todo, used = {**coefficients, **functions}, [body], set()
    while todo:
        for name in set(re.findall(r"\w+", re.sub(r"/\*.*?\*/", "", todo.pop(), flags=re.S))) & known.keys():
            if name not in used:
                used.add(name)
                todo.append(known[name])
    if used & coefficients.keys():
        yield "\n".join(text for name, text in coefficients.items() if name in used) + "\n\n"
    for name, text in functions.items():
        if name in used:
            yield f"{text}\n\n"
