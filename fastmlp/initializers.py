"""Initial weights: random, of the size that keeps signals and gradients alive from layer to layer.

Too small, and the signal fades with every layer; too large, and it saturates or explodes. All equal, and the
units of a layer stay equal for ever: they see the same inputs and get the same gradients, and only chance
can break the symmetry. So weights are random, with a variance that keeps the signal about as large as it
was::

    He      Var w = 2 / fan_in                  for ReLU and its kin, which let half of the signal through
    Glorot  Var w = 2 / (fan_in + fan_out)      for tanh, sigmoid and linear layers: a compromise between the
                                                forward (1 / fan_in) and the backward pass (1 / fan_out)
    LeCun   Var w = 1 / fan_in                  for SELU, whose fixed point assumes it

``init="auto"`` is Glorot's for all activations but SELU, with ReLU too: in networks of a few layers the
smaller weights begin with a smoother function, which fits values better (docs/guide/defaults.md has figures).
He's are for ReLU in plain networks of more than ten layers, where Glorot's lose half of the signal's square
at each.

Orthogonal weights keep not only the average length of a signal but every length. Biases start at 0, which
breaks nothing while the weights differ; ``bias_init`` is for those who know better.

An initialiser is a function (rng, fan_in, fan_out) -> weights (fan_in, fan_out), one for biases a function
(rng, n) -> biases (n,). Numbers are drawn in float64 and then rounded, so that float32 and float64 models
start alike; no sum is left to a BLAS library, so that a seed means the same on every processor.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastmlp._core import checks, names
from fastmlp.activations import Activation

if TYPE_CHECKING:
    from fastmlp._core.types import Array, BiasInitializer, Initializer

__all__ = [
    "INITIALIZERS", "Constant", "check", "check_biases", "glorot_normal", "glorot_uniform", "he_normal",
    "he_uniform", "initial_biases", "initial_weights", "lecun_normal", "lecun_uniform", "orthogonal", "zeros",
]

VARIANCES: dict[str, Callable[[int, int], float]] = {
    "he": lambda fan_in, fan_out: 2 / fan_in,
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
}


def _normal(rng: np.random.Generator, variance: float, shape: tuple[int, ...]) -> Array:
    return rng.standard_normal(shape) * math.sqrt(variance)


def _uniform(rng: np.random.Generator, variance: float, shape: tuple[int, ...]) -> Array:
    """U(-a, a) has the variance a^2 / 3."""
    limit = math.sqrt(3 * variance)
    return rng.uniform(-limit, limit, shape)


def he_normal(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    """He initialisation, normal: for ReLU and its kin.

    Formula, N(mean, variance)::

        w ~ N(0, 2 / fan_in)

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers.
    fan_in : int
        Number of inputs of the layer.
    fan_out : int
        Number of its outputs.

    Returns
    -------
    ndarray of float64, shape (fan_in, fan_out)
        Weights.

    References
    ----------
    He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", ICCV 2015.

    Examples
    --------
    >>> he_normal(np.random.default_rng(0), 784, 256).shape
    (784, 256)
    """
    return _normal(rng, VARIANCES["he"](fan_in, fan_out), (fan_in, fan_out))


def he_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    """He initialisation, uniform: for ReLU and its kin.

    Formula, U uniform::

        w ~ U(-a, a), a = sqrt(6 / fan_in)

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers.
    fan_in : int
        Number of inputs of the layer.
    fan_out : int
        Number of its outputs.

    Returns
    -------
    ndarray of float64, shape (fan_in, fan_out)
        Weights.

    References
    ----------
    He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", ICCV 2015.

    Examples
    --------
    >>> float(abs(he_uniform(np.random.default_rng(0), 6, 50)).max()) <= 1.0
    True
    """
    return _uniform(rng, VARIANCES["he"](fan_in, fan_out), (fan_in, fan_out))


def glorot_normal(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    """Glorot initialisation, normal: for tanh, sigmoid and linear layers.

    Formula, N(mean, variance)::

        w ~ N(0, 2 / (fan_in + fan_out))

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers.
    fan_in : int
        Number of inputs of the layer.
    fan_out : int
        Number of its outputs.

    Returns
    -------
    ndarray of float64, shape (fan_in, fan_out)
        Weights.

    References
    ----------
    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.

    Examples
    --------
    >>> glorot_normal(np.random.default_rng(0), 3, 2).dtype
    dtype('float64')
    """
    return _normal(rng, VARIANCES["glorot"](fan_in, fan_out), (fan_in, fan_out))


def glorot_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    """Glorot initialisation, uniform: for tanh, sigmoid and linear layers.

    Formula, U uniform::

        w ~ U(-a, a), a = sqrt(6 / (fan_in + fan_out))

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers.
    fan_in : int
        Number of inputs of the layer.
    fan_out : int
        Number of its outputs.

    Returns
    -------
    ndarray of float64, shape (fan_in, fan_out)
        Weights.

    References
    ----------
    Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.

    Examples
    --------
    >>> float(abs(glorot_uniform(np.random.default_rng(0), 3, 3)).max()) <= 1.0
    True
    """
    return _uniform(rng, VARIANCES["glorot"](fan_in, fan_out), (fan_in, fan_out))


def lecun_normal(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    """LeCun initialisation, normal: for SELU.

    Formula, N(mean, variance)::

        w ~ N(0, 1 / fan_in)

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers.
    fan_in : int
        Number of inputs of the layer.
    fan_out : int
        Number of its outputs.

    Returns
    -------
    ndarray of float64, shape (fan_in, fan_out)
        Weights.

    References
    ----------
    LeCun, Bottou, Orr, Mueller, "Efficient BackProp", 1998.

    Klambauer, Unterthiner, Mayr, Hochreiter, "Self-Normalizing Neural Networks", NIPS 2017 (for SELU).

    Examples
    --------
    >>> lecun_normal(np.random.default_rng(0), 3, 2).shape
    (3, 2)
    """
    return _normal(rng, VARIANCES["lecun"](fan_in, fan_out), (fan_in, fan_out))


def lecun_uniform(rng: np.random.Generator, fan_in: int, fan_out: int) -> Array:
    """LeCun initialisation, uniform: for SELU.

    Formula, U uniform::

        w ~ U(-a, a), a = sqrt(3 / fan_in)

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers.
    fan_in : int
        Number of inputs of the layer.
    fan_out : int
        Number of its outputs.

    Returns
    -------
    ndarray of float64, shape (fan_in, fan_out)
        Weights.

    References
    ----------
    LeCun, Bottou, Orr, Mueller, "Efficient BackProp", 1998.

    Examples
    --------
    >>> float(abs(lecun_uniform(np.random.default_rng(0), 3, 50)).max()) <= 1.0
    True
    """
    return _uniform(rng, VARIANCES["lecun"](fan_in, fan_out), (fan_in, fan_out))


def orthogonal(rng: np.random.Generator, fan_in: int, fan_out: int, gain: float = 1.0) -> Array:
    """Orthogonal weights: a random rotation, times a gain.

    Formula::

        w^T w = gain^2 I where fan_in >= fan_out, else w w^T = gain^2 I

    Parameters
    ----------
    rng : numpy.random.Generator
        Random numbers.
    fan_in : int
        Number of inputs of the layer.
    fan_out : int
        Number of its outputs.
    gain : float, default 1.0
        Factor of all lengths.

    Returns
    -------
    ndarray of float64, shape (fan_in, fan_out)
        Weights.

    Notes
    -----
    All such matrices are equally likely (Haar's measure). Signals keep their length exactly (gradients do,
    where the layer narrows), however many layers follow each other; an N(0, 1 / fan_in) matrix keeps it on
    average only, and squeezes some directions to nothing. For ReLU, which lets half through, a gain of
    sqrt(2) makes up: ``functools.partial(orthogonal, gain=2**0.5)``.

    A product of random Householder reflections, each I - 2 v v^T / v^T v. It takes about 4 m k^2 operations
    for the shorter side k and the longer m: two seconds for 1000 x 1000.

    References
    ----------
    Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks", ICLR 2014.

    Stewart, "The efficient generation of random orthogonal matrices with an application to condition
    estimators", SIAM J. Numer. Anal. 17, 1980.

    Examples
    --------
    >>> w = orthogonal(np.random.default_rng(0), 4, 3)
    >>> bool(np.allclose(w.T @ w, np.eye(3)))
    True
    """
    rows, columns = max(fan_in, fan_out), min(fan_in, fan_out)
    normals = [rng.standard_normal(rows - i) for i in range(columns)]
    q = np.eye(rows, columns)
    for i in reversed(range(columns)):
        v, block = normals[i], q[i:, i:]        # reflections before i do not reach this block
        sign = math.copysign(1.0, v[0])
        v[0] += sign * math.sqrt((v * v).sum())             # away from 0: nothing cancels
        v *= math.sqrt(2 / (v * v).sum())
        block -= v[:, None] * (v[:, None] * block).sum(axis=0)
        block[:, 0] *= -sign                    # the sign that makes all rotations equally likely
    return gain * (q if fan_in >= fan_out else q.T)


def zeros(rng: np.random.Generator, *shape: int) -> Array:
    """Zeros: w = 0.

    Parameters
    ----------
    rng : numpy.random.Generator
        Not used.
    *shape : int
        Shape of the result.

    Returns
    -------
    ndarray of float64, shape ``shape``
        Zeros.

    Notes
    -----
    For biases, and for the weights of a last layer that is to begin with equal probabilities. In a hidden
    layer, units with the same weights stay the same: see the top of this module.

    Examples
    --------
    >>> zeros(np.random.default_rng(0), 2)
    array([0., 0.])
    """
    return np.zeros(shape)


@dataclass(frozen=True)
class Constant:
    """Initialiser that makes all numbers the same: w = value.

    Parameters
    ----------
    value : float
        Value of all numbers, finite.

    Raises
    ------
    TypeError
        If ``value`` is not a number.
    ValueError
        If ``value`` is not finite.

    Notes
    -----
    For biases: a small positive one keeps ReLUs alive at the start.

    References
    ----------
    Goodfellow, Bengio, Courville, "Deep Learning", 2016, section 8.4.

    Examples
    --------
    >>> Constant(0.1)(np.random.default_rng(0), 2)
    array([0.1, 0.1])
    """

    value: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", checks.number("value", self.value))

    def __call__(self, rng: np.random.Generator, *shape: int) -> Array:
        """Return an array of the value.

        Parameters
        ----------
        rng : numpy.random.Generator
            Not used.
        *shape : int
            Shape of the result.

        Returns
        -------
        ndarray of float64, shape ``shape``
            Array of the value.
        """
        return np.full(shape, self.value)


INITIALIZERS: dict[str, Callable[..., Array]] = {
    f.__name__: f for f in (he_normal, he_uniform, glorot_normal, glorot_uniform, lecun_normal, lecun_uniform,
                            orthogonal, zeros)
}


def check(init: str | Initializer) -> str | Initializer:
    """Validate the initialiser of weights, and return it by its name of this module.

    Parameters
    ----------
    init : object
        What was given: "auto", a name of this module, one that others use for it ("he", "xavier", "glorot",
        "kaiming_uniform"), or a function (rng, fan_in, fan_out).

    Returns
    -------
    str or callable
        "auto", a name of this module, or the function.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything but a name or a function.

    Examples
    --------
    >>> check("glorot")
    'glorot_uniform'
    >>> check("glorod_uniform")
    Traceback (most recent call last):
        ...
    ValueError: init: unknown name 'glorod_uniform', did you mean 'glorot_uniform'? Known: auto, ...
    """
    checked: str | Initializer = _checked("init", init, ["auto", *INITIALIZERS], "(rng, fan_in, fan_out)")
    return checked


def check_biases(bias_init: str | BiasInitializer) -> str | BiasInitializer:
    """Validate the initialiser of biases, and return it by its name of this module.

    Parameters
    ----------
    bias_init : object
        What was given: a name as for weights, other than "auto", or a function (rng, n).

    Returns
    -------
    str or callable
        A name of this module, or the function.

    Raises
    ------
    ValueError
        For an unknown name.
    TypeError
        For anything but a name or a function.

    Examples
    --------
    >>> check_biases(0.1)
    Traceback (most recent call last):
        ...
    TypeError: bias_init: expected a name or a function (rng, n), got 0.1; a constant is Constant(0.1) ...
    """
    checked: str | BiasInitializer = _checked("bias_init", bias_init, [*INITIALIZERS], "(rng, n)")
    return checked


def _checked(name: str, init: Any, known: list[str], arguments: str) -> Any:
    if isinstance(init, str):
        return names.canonical(name, init, known, names.INITIALIZERS)
    if not callable(init) or isinstance(init, type) or names.library_of(init):
        hint = ""
        if isinstance(init, (int, float)):
            hint = f"; a constant is Constant({init!r}) of fastmlp.initializers"
        elif isinstance(init, type):
            hint = f"; an object of the class is {init.__name__}(...)"
        hint = names.of_others(init, dict.fromkeys(known), names.INITIALIZERS) or hint
        raise TypeError(f"{name}: expected a name or a function {arguments}, got {init!r}{hint}")
    return init


def initial_weights(
    init: str | Initializer, rng: np.random.Generator, fan_in: int, fan_out: int, activation: Activation
) -> Array:
    """Return the weights in front of an activation.

    Parameters
    ----------
    init : str or callable
        A name of this module, a function (rng, fan_in, fan_out), or "auto": LeCun's normal for SELU, Glorot's
        uniform for everything else.
    rng : numpy.random.Generator
        Random numbers.
    fan_in : int
        Number of inputs of the layer.
    fan_out : int
        Number of its outputs.
    activation : Activation
        Activation of the layer.

    Returns
    -------
    ndarray, shape (fan_in, fan_out)
        Weights.

    Raises
    ------
    TypeError
        For a function that returns no numbers.
    ValueError
        For a function that returns another shape or numbers that are not finite.

    Examples
    --------
    >>> from fastmlp.activations import ReLU
    >>> rng = np.random.default_rng(0)
    >>> initial_weights("auto", rng, 4, 3, ReLU()).shape
    (4, 3)
    """
    if isinstance(init, str):
        return INITIALIZERS[activation.fitting_init if init == "auto" else init](rng, fan_in, fan_out)
    return _values("init", init(rng, fan_in, fan_out), (fan_in, fan_out))


def initial_biases(
    bias_init: str | BiasInitializer, rng: np.random.Generator, fan_in: int, n: int
) -> Array:
    """Return the biases of a layer.

    Parameters
    ----------
    bias_init : str or callable
        A name of this module, or a function (rng, n).
    rng : numpy.random.Generator
        Random numbers.
    fan_in : int
        Number of inputs of the layer.
    n : int
        Number of its outputs.

    Returns
    -------
    ndarray, shape (n,)
        Biases.

    Raises
    ------
    TypeError
        For a function that returns no numbers.
    ValueError
        For a function that returns another shape or numbers that are not finite.

    Notes
    -----
    A bias is the weight of an input that is always 1. With a name it is drawn like the weights of its layer
    would be; "orthogonal" gives a vector of length 1 in a random direction.

    Examples
    --------
    >>> initial_biases(Constant(0.5), np.random.default_rng(0), 4, 3)
    array([0.5, 0.5, 0.5])
    """
    if not isinstance(bias_init, str):
        return _values("bias_init", bias_init(rng, n), (n,))
    scheme, _, kind = bias_init.partition("_")
    if scheme in VARIANCES:
        return (_normal if kind == "normal" else _uniform)(rng, VARIANCES[scheme](fan_in, n), (n,))
    return np.asarray(INITIALIZERS[bias_init](rng, 1, n)[0])


def _values(name: str, values: Any, shape: tuple[int, ...]) -> Array:
    """What a function of the caller's gave."""
    array = checks.as_array(name, values)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name}: expected a function that gives numbers, got dtype {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name}: expected a function that gives shape {shape}, got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name}: expected a function that gives finite numbers, got NaN or infinity")
    return array
