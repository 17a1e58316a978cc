"""Docstrings that are written for a reader in an editor, as reStructuredText that says the same.

Formulas stand in docstrings as plain text: `|x|`, `2 * x`, `val_`. This extension escapes what markup would
take them for, makes literal blocks of indented lines, and definition lists of lines like `lr    the rate`. It
leaves doctests, directives, roles and the sections of numpydoc as they are. Names in single backquotes are of
its role `name`: a link where the documentation has such an object, else code.
"""
from __future__ import annotations

import re
import sys
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.roles import XRefRole

PUBLIC = ("activations", "losses", "optimizers", "schedules")       # modules whose bases are documented
QUOTED = re.compile(r"(``.+?``|:[\w:]+:`[^`]+`|`[^`]+`_{0,2}|\[\w+\]_)")
EMPHASIS = re.compile(r"(?<![\w*])(\*\*?)(?=\w)[\w ]*?\w\1(?![\w*])")
SETTING = re.compile(r"([\w, ]+?) {2,}(\S.*)")
SECTION = re.compile(r"-{3,}$")
PROSE = {"Notes", "See Also", "References", "Examples"}     # sections with text at the left margin


def escape(text: str) -> str:
    """Outside of quotes, no character is markup but those of an emphasised word.

    >>> escape("l1 |w| and *dead* `units`, 2 * x, val_ before")
    'l1 \\\\|w\\\\| and *dead* `units`, 2 \\\\* x, val\\\\_ before'
    """
    parts = QUOTED.split(text)
    for i in range(0, len(parts), 2):
        emphasised = {match.span() for match in EMPHASIS.finditer(parts[i])}
        inside = {at for start, end in emphasised for at in range(start, end)}
        parts[i] = "".join("\\" + c if c == "|" or c == "*" and at not in inside else c
                           for at, c in enumerate(parts[i]))
        parts[i] = re.sub(r"(?<=\w)_(?!\w)", r"\\_", parts[i])
    return "".join(parts)


def convert(lines: list[str]) -> list[str]:
    """The lines of a docstring, as reStructuredText."""
    result: list[str] = []
    prose, i = True, 0
    while i < len(lines):
        line = lines[i]
        following = lines[i + 1] if i + 1 < len(lines) else ""
        if SECTION.match(following) and line.strip() and not line.startswith(" "):
            prose = line.strip() in PROSE
            result += [line, following]
            i += 2
        elif line.lstrip().startswith((">>>", ".. ")):          # up to an empty line at the same depth
            indent = len(line) - len(line.lstrip())
            directive = line.lstrip().startswith(".. ")
            result.append(line)
            i += 1
            while i < len(lines) and (lines[i].strip() or directive):
                if directive and lines[i].strip() and len(lines[i]) - len(lines[i].lstrip()) <= indent:
                    break
                result.append(lines[i])
                i += 1
        elif prose and line.startswith("    ") and not (result and result[-1].strip()):
            block, i = _block(lines, i)
            before = next((text for text in reversed(result) if text.strip()), "")
            if not before.endswith("::"):
                result += [".. code-block:: text", ""]
            result += [*block, ""]
        elif prose and SETTING.match(line) and not (result and result[-1].strip()):
            i = _definitions(lines, i, result)
        else:
            result.append(escape(line))
            i += 1
    return result


def _block(lines: list[str], i: int) -> tuple[list[str], int]:
    """Indented lines, and the empty ones between them."""
    start = i
    while i < len(lines) and (lines[i].startswith("    ") or not lines[i].strip()):
        i += 1
    end = i
    while end > start and not lines[end - 1].strip():
        end -= 1
    return lines[start:end], i


def _definitions(lines: list[str], i: int, result: list[str]) -> int:
    """`name    text`, with indented lines that go on, up to an empty line -> a definition list."""
    while i < len(lines) and lines[i].strip():
        setting = None if lines[i].startswith(" ") else SETTING.match(lines[i])
        if setting:
            names = ", ".join(f"``{name.strip()}``" for name in setting[1].split(","))
            result += ["", names, f"    {escape(setting[2])}"]
        else:
            result.append(f"    {escape(lines[i].strip())}")
        i += 1
    result.append("")
    return i


class Name(XRefRole):
    """A link to a Python object, or code if there is none of that name."""

    def process_link(self, env: Any, node: Any, has_explicit_title: bool, title: str, target: str
                     ) -> tuple[str, str]:
        node["py:module"] = env.ref_context.get("py:module")
        node["py:class"] = env.ref_context.get("py:class")
        node["refdomain"], node["reftype"], node["fastmlp_may_be_missing"] = "py", "obj", True
        return title, target


def missing(app: Sphinx, env: Any, node: addnodes.pending_xref, contnode: nodes.Node) -> nodes.Node | None:
    return contnode if node.get("fastmlp_may_be_missing") else None


def public_bases(app: Sphinx, name: str, obj: Any, options: Any, bases: list[Any]) -> None:
    """Bases that are internal to the package are left out: the reference has no page to link to."""
    modules = [sys.modules[f"fastmlp.{module}"] for module in PUBLIC]
    bases[:] = [base for base in bases if not getattr(base, "__module__", "").startswith("fastmlp.")
                or any(base.__name__ in module.__all__ for module in modules
                       if module.__name__ == base.__module__)]


def without_object(app: Sphinx, doctree: nodes.document) -> None:
    """That a class has no base of interest need not be said."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if paragraph.astext().strip() in ("Bases: object", "Bases:"):
            paragraph.parent.remove(paragraph)


def process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    lines[:] = convert(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_role("name", Name())
    app.connect("autodoc-process-docstring", process, priority=400)      # numpydoc's has 500
    app.connect("missing-reference", missing)
    app.connect("autodoc-process-bases", public_bases)
    app.connect("doctree-read", without_object)
    return {"version": "1", "parallel_read_safe": True}
