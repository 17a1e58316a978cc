"""THE table of operations: every activation, loss and update rule that the kernels compute, once.

Whoever needs the list takes it from here. `_generate.py` writes from it the Cython text in which a code
becomes a constant; the classes, the tables of the NumPy backend and the functions of the compiled one are
compared with it at import. Every entry names formulas that are written by hand, in the .pxi file of its kind:

    activation NAME     NAME and NAME_backward; or, where not `from_output`, one function NAME for both
    loss NAME           NAME_loss, of an element; or NAME_of_label and NAME_of_distribution, of a row
    update rule NAME    NAME_step

A formula that is missing does not compile; a class or a NumPy formula that is missing is an ImportError.
Codes are positions in these lists, and written nowhere else. docs/extending.md has a recipe for each kind.

This file imports nothing of the package, for setup.py reads it before there is one.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Activation:
    """y = f(z), element by element.

    from_output     whether f'(z) is computed from y; else training stores it, from z
    alpha           whether f has a parameter
    registers       whether the register tile finishes it (tile.pxi), not a pass over its results
    """

    name: str
    from_output: bool = True
    alpha: bool = False
    registers: bool = False


@dataclass(frozen=True)
class Loss:
    """The loss of a row of outputs z.

    targets         what a number of the targets may be: a function `is_TARGETS` of losses.pxi
    elements        whether it is a mean over the elements of the row; else it is one of classes, and takes
    labels            class indices, and
    distributions     rows of probabilities
    few             whether there is NAME_of_few_labels, with a lane for every row
    pos_weight      whether its elements have weights of their own
    """

    name: str
    targets: str
    elements: bool = True
    labels: bool = False
    distributions: bool = False
    few: bool = False
    pos_weight: bool = False


@dataclass(frozen=True)
class Rule:
    """A step of the parameters.

    slots           arrays of state, each like the parameters
    registers       whether the register tile applies it (tile.pxi); with one slot at most
    ignores_zeros   whether a gradient of 0 leaves parameters and state as they are (sparse.pxi)
    """

    name: str
    slots: int = 0
    registers: bool = False
    ignores_zeros: bool = False


ACTIVATIONS = (
    Activation("identity", registers=True),
    Activation("relu", registers=True),
    Activation("leaky_relu", alpha=True),
    Activation("sigmoid"),
    Activation("tanh"),
    Activation("elu", alpha=True),
    Activation("selu"),
    Activation("softplus"),
    Activation("gelu", from_output=False),
    Activation("gelu_tanh", from_output=False),
    Activation("silu", from_output=False),
)

# Functions of one array that are no activation of a layer; their codes follow those of the activations.
FUNCTIONS = ("exp", "log")

LOSSES = (
    Loss("cross_entropy", "probability", elements=False, labels=True, distributions=True, few=True),
    Loss("kl_divergence", "probability", elements=False, distributions=True),
    Loss("multiclass_hinge", "probability", elements=False, labels=True),
    Loss("mean_squared_error", "value"),
    Loss("mean_absolute_error", "value"),
    Loss("huber", "value"),
    Loss("poisson", "count"),
    Loss("binary_cross_entropy", "fraction", pos_weight=True),
    Loss("hinge", "sign"),
    Loss("squared_hinge", "sign"),
)

# "gradient" is no step: the gradient is stored in the place of the parameters.
RULES = (
    Rule("gradient", registers=True),
    Rule("sgd", registers=True, ignores_zeros=True),
    Rule("momentum", slots=1, registers=True),
    Rule("nesterov", slots=1, registers=True),
    Rule("adagrad", slots=1),
    Rule("rmsprop", slots=1),
    Rule("adam", slots=2),
)


def codes(entries: Iterable[Any]) -> dict[str, int]:
    """{name: code} of a table.

    >>> codes(RULES)["sgd"]
    1
    """
    return {entry.name: code for code, entry in enumerate(entries)}


def assign(table: Iterable[Any], classes: Iterable[Any], *attributes: str) -> dict[str, Any]:
    """{name: class}, in the order of the classes, each given its `code`, and attributes of its entry.

    Raises ImportError for an entry without a class, and for a class without an entry.
    """
    entries = {entry.name: (code, entry) for code, entry in enumerate(table)}
    by_name = {cls.name: cls for cls in classes}
    complete("class", entries, by_name)
    for name, cls in by_name.items():
        cls.code, entry = entries[name]
        for attribute in attributes:
            setattr(cls, attribute, getattr(entry, attribute))
    return by_name


def complete(what: str, wanted: Iterable[str], found: Iterable[str]) -> None:
    """Raises ImportError where the names that were found are not those of the table.

    >>> complete("class", ["relu", "tanh"], ["relu"])
    Traceback (most recent call last):
        ...
    ImportError: fastmlp/kernels/ops.py has 'tanh', for which there is no class
    """
    wanted, found = list(wanted), list(found)
    for name in wanted:
        if name not in found:
            raise ImportError(f"fastmlp/kernels/ops.py has {name!r}, for which there is no {what}")
    for name in found:
        if name not in wanted:
            raise ImportError(f"fastmlp/kernels/ops.py has no {name!r}, for which there is a {what}")
