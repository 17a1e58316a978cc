"""Public docstrings are in numpydoc's sections, complete, and agree with the signatures."""
import ast
import dataclasses
import inspect
import re
from importlib import import_module
from importlib.util import find_spec

import pytest

import fastmlp

pytestmark = pytest.mark.any_isa

MODULES = (
    "_core.fronts", "_core.threads", "_tools.config", "_tools.speed", "activations", "backends", "callbacks",
    "certificate", "compat.dlfs", "data", "diagnostics", "functional", "gradient_checks", "inference",
    "initializers", "kernels", "lbfgs", "learning_rates", "loading", "loggers", "losses", "metrics", "model",
    "normalization", "onnx", "optimizers", "plot", "restarts", "schedules", "summary", "torch",
    *(["sklearn"] if find_spec("sklearn") else []),         # a front, beside what it stands in for
)
ALONE = (                                   # public, in modules that are not
    "fastmlp.training.History", "fastmlp._core.advice.TrainingWarning",
)
# Users read these and never make one.
RESULTS = {
    "Certificate", "Comparison", "Gradients", "GradientCheck", "InferenceHandle", "LayerCheck",
    "LayerSummary", "LearningRates", "Minimum", "Restart", "Statistics", "Summary", "TrainingWarning",
}
NOT_ASKED = {
    "ES01": "an extended summary: where one line says it all, a second one is noise",
    "SA01": "See Also: the reference lists what belongs together",
}
# Of methods, too: EX01, an example; the example of the class shows how they are used.


def find(name):
    """The object of a full name."""
    parts = name.split(".")
    for depth in range(len(parts) - 1, 0, -1):
        try:
            found = import_module(".".join(parts[:depth]))
        except ImportError:
            continue
        for part in parts[depth:]:
            found = inspect.getattr_static(found, part) if inspect.isclass(found) else getattr(found, part)
        return getattr(found, "__func__", found)        # of a classmethod or staticmethod
    raise LookupError(name)


def public_names():
    found = {f"fastmlp.{module}.{name}" for module in MODULES
             for name in import_module(f"fastmlp.{module}").__all__}
    for name in sorted(found | set(ALONE)):
        thing = find(name)
        if inspect.isclass(thing) or inspect.isroutine(thing):      # no constants, no types
            yield name
        if inspect.isclass(thing):
            yield from (f"{name}.{member}" for member in members(thing))


def members(cls):
    """Public methods and properties that a class defines, but for those that have the docstring of a base or
    a line in the class's Attributes."""
    for name in vars(cls):
        thing = find(f"{cls.__module__}.{cls.__qualname__}.{name}")
        if not (inspect.isfunction(thing) or isinstance(thing, property)):
            continue
        if name[0] == "_" and name != "__call__":
            continue
        bases = [vars(base).get(name) for base in cls.__mro__[1:]]
        inherited = any(base.__doc__ for base in bases if isinstance(base, type(thing)))
        attribute = isinstance(thing, property) and name in section(cls, "Attributes")
        if thing.__doc__ or not (inherited or attribute):
            yield name


def section(thing, title):
    """name -> type, of a section of a docstring; read here, and not by numpydoc."""
    text = inspect.getdoc(thing) or ""
    match = re.search(rf"^{title}\n-+\n(.*?)(?=^\w[\w ]*\n-+$|\Z)", text, re.M | re.S)
    lines = re.findall(r"^(\*?\w+) : (.*)$", match[1], re.M) if match else []
    return {name.lstrip("*"): kind for name, kind in lines}


def is_method(name):
    return inspect.isclass(find(name.rpartition(".")[0]))


PUBLIC = list(public_names())


def test_nothing_public_is_forgotten():
    """All that `import fastmlp` offers is among them."""
    checked = [find(name) for name in PUBLIC]
    for name in fastmlp.__all__:
        thing = getattr(fastmlp, name)
        assert inspect.ismodule(thing) or thing in checked, name
    assert len(PUBLIC) > 150


@pytest.mark.parametrize("name", PUBLIC)
def test_sections(name):
    """By the rules of numpydoc, whose codes are at numpydoc.readthedocs.io/en/latest/validation.html."""
    validate = pytest.importorskip("numpydoc.validate").validate
    not_asked = set(NOT_ASKED)
    if is_method(name):
        not_asked.add("EX01")
    if name.rpartition(".")[2] in RESULTS:
        not_asked.add("PR01")
    assert [error for error in validate(name)["errors"] if error[0] not in not_asked] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_parameters(name):
    """Every parameter is there, in order, with its default; None is "optional"."""
    thing = find(name)
    if isinstance(thing, property) or inspect.isclass(thing) and thing.__init__ is object.__init__:
        return
    if name.rpartition(".")[2] in RESULTS:
        fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
        assert {field.name for field in fields} <= set(section(thing, "Attributes"))
        return
    if inspect.isclass(thing) and issubclass(thing, dict):      # its values are its attributes
        return
    signature = [p for p in inspect.signature(thing).parameters.values() if p.name != "self"]
    documented = section(thing, "Parameters")
    assert list(documented) == [p.name for p in signature]
    for parameter in signature:
        kind = documented[parameter.name]
        if parameter.default is parameter.empty:
            assert "default" not in kind and "optional" not in kind, parameter
        elif parameter.default is None:
            assert "optional" in kind, parameter
        else:
            default = re.search(r"default (.*)$", kind)
            assert default and ast.literal_eval(default[1]) == parameter.default, parameter
