"""Public signatures say what they take: from their syntax trees. That it is true, `mypy --strict` checks."""
from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fastmlp

pytestmark = pytest.mark.any_isa

PACKAGE = Path(fastmlp.__file__).parent
# `import fastmlp` offers them.
PUBLIC_IN_PRIVATE = ("_core.advice", "_core.fronts", "_core.threads", "_tools.config", "_tools.speed")

# Parameters and results that may be anything, and why.
ANYTHING = {
    ("backends.interface", "Backend.loss_and_gradient -> "): "(loss, gradient), or NotImplemented",
}
NOT_ASKED = {
    "backends.cython": "compiled functions are given unchecked arguments, and return NotImplemented",
    "compat": "the interfaces of others, who take what NumPy takes: arrays, lists and numbers of any dtype",
}


def public_modules():
    """Name after "fastmlp." -> syntax tree."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        private = any(part.startswith("_") for part in name.split("."))
        if (not private or name in PUBLIC_IN_PRIVATE) and not name.startswith(tuple(NOT_ASKED)):
            yield name, ast.parse(path.read_text(encoding="utf-8"))


MODULES = dict(public_modules())


def is_anything(annotation):
    """Whether it is Any, alone or in a union, where it stands for all of it; also in quotes."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.BinOp):
        return is_anything(annotation.left) or is_anything(annotation.right)
    return isinstance(annotation, ast.Name) and annotation.id == "Any"


def public(body, prefix):
    """(name, function, whether its first argument is self or cls), of functions and methods."""
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name[0] != "_":
            yield from public(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.name[0] != "_" or node.name in ("__init__", "__call__"):
                decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
                yield f"{prefix}{node.name}", node, prefix.count(".") and "staticmethod" not in decorators


def says_nothing(name, function, bound):
    """The parameters, and the result, that are without an annotation, or Any."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args][1 if bound else 0:]
    others = [argument for argument in (arguments.vararg, arguments.kwarg) if argument is not None]
    for argument in (*named, *arguments.kwonlyargs, *others):
        if argument.annotation is None or is_anything(argument.annotation):
            yield f"{name}({argument.arg})"
    if function.returns is None or is_anything(function.returns):
        yield f"{name} -> "


def findings(tree):
    return [finding for name, function, bound in public(tree.body, "")
            for finding in says_nothing(name, function, bound)]


@pytest.mark.parametrize("module", MODULES)
def test_signatures_say_what_they_take(module):
    assert findings(MODULES[module]) == [finding for place, finding in ANYTHING if place == module]


def test_modules_are_those_of_the_api():
    """All that `import fastmlp` offers is defined in one of them."""
    for name in fastmlp.__all__:
        thing = getattr(fastmlp, name)
        module = getattr(thing, "__module__", getattr(thing, "__name__", "")) or ""
        assert module.removeprefix("fastmlp.") in MODULES, name
    assert sum(1 for tree in MODULES.values() for _ in public(tree.body, "")) > 200


@pytest.mark.parametrize("text, expected", [
    ("def f(x: int, *, y: str = '') -> None: ...", []),
    ("def f(x: int, y) -> None: ...", ["f(y)"]),
    ("def f(x: Any, *a: 'Any', **k: Any | None): ...", ["f(x)", "f(a)", "f(k)", "f -> "]),
    ("def f(x: dict[str, Any]) -> NDArray[Any]: ...", []),
    ("def _f(x): ...", []),
    ("class C:\n def f(self, x) -> int: ...\n def __init__(self) -> None: ...", ["C.f(x)"]),
    ("class C:\n def _f(self, x): ...", []),
    ("class C:\n @staticmethod\n def f(x) -> int: ...", ["C.f(x)"]),
    ("class _C:\n def f(self, x): ...", []),
])
def test_what_says_nothing_is_found(text, expected):
    assert findings(ast.parse(text)) == expected


def test_types_cost_nothing():
    """The module with the types of signatures is not imported; annotations are not evaluated."""
    program = "import sys, fastmlp; print('fastmlp._core.types' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
