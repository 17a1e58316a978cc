"""How the modules hang together, from their syntax trees: imports without circles, private names at home."""
from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

import fastmlp

pytestmark = pytest.mark.any_isa

PACKAGE = Path(fastmlp.__file__).parent
# Of Python itself: there is no public way to the caller's frame, nor to what a pickler is.
ALLOWED = {"sys._getframe", "pickle._Pickler"}


@functools.cache
def modules():
    """{name: (path, syntax tree)} of the package."""
    result = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("fastmlp", *path.relative_to(PACKAGE).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        result[name] = path, ast.parse(path.read_text(encoding="utf-8"))
    return result


def for_types_alone(tree):
    """Nodes under `if TYPE_CHECKING`."""
    return {id(inner) for node in ast.walk(tree)
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            for inner in ast.walk(node)}


def imports(name, path, tree, known):
    """Modules of the package that this one needs, at import or later, in a function."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    apart, found = for_types_alone(tree), set()
    for node in ast.walk(tree):
        if id(node) in apart:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[:len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([node.module] if node.module else [])])
            found |= {f"{base}.{alias.name}" if f"{base}.{alias.name}" in known else base
                      for alias in node.names}
    return {other for other in found if other in known and other != name}


def circles(graph):
    """Paths that end where they begin, one for each module on a circle."""
    found = []
    for start in graph:
        paths = [[start]]
        seen = set()
        while paths:
            path = paths.pop()
            for other in graph[path[-1]]:
                if other == start:
                    found.append([*path, start])
                    paths = []
                    break
                if other not in seen:
                    seen.add(other)
                    paths.append([*path, other])
    return found


def test_no_circle_of_imports():
    known = modules()
    graph = {name: imports(name, path, tree, known) for name, (path, tree) in known.items()}
    assert graph["fastmlp.model"] and graph["fastmlp"]
    assert not circles(graph)


def test_circles_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) != []
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def names_of(tree):
    """All names that a module itself gives: definitions, assignments, arguments, and strings (slots)."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.keyword) and node.arg:
            names.add(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names.add(node.value)
    return names


def test_no_module_touches_the_underscores_of_another():
    wrong = []
    for name, (_, tree) in modules().items():
        own = names_of(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                private = node.attr.startswith("_") and not node.attr.startswith("__")
                if private and node.attr not in own and ast.unparse(node) not in ALLOWED:
                    wrong.append(f"{name}: {ast.unparse(node)}")
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                for alias in node.names:        # modules with an underscore are the package's own
                    target = PACKAGE.parent.joinpath(*f"{module}.{alias.name}".split("."))
                    here = PACKAGE.joinpath(*name.split(".")[1:], alias.name)
                    if alias.name.startswith("_") and not alias.name.startswith("__") and not any(
                            list(place.parent.glob(f"{place.name}.*")) for place in (target, here)):
                        wrong.append(f"{name}: from {module} import {alias.name}")
    assert not wrong, "\n".join(wrong)


# Parts of _core that hold nothing of a model: fronts stand on public names, and on these.
TOOLS = {"checks", "finite", "optional", "types", "whole_files"}
FRONTS = ("sklearn", "compat", "torch", "onnx", "certificate", "_exchange")


def test_fronts_stand_on_public_names():
    known, found = modules(), set()
    for name, (path, tree) in known.items():
        front = (*name.split("."), "")[1]
        if front in FRONTS:
            found |= {front}
            used = imports(name, path, tree, known)
            assert {o.rpartition(".")[2] for o in used if o.startswith("fastmlp._core.")} <= TOOLS, name
            attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            assert "core" not in attributes, name           # of a model
    assert found == set(FRONTS)
