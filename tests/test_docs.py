"""The code in the README and the documentation runs, and the reference has every public name."""
import re
from importlib import import_module
from importlib.util import find_spec
from inspect import isclass, isfunction, ismodule
from pathlib import Path

import pytest

import fastmlp

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
COURSE = sorted(DOCS.glob("course/*.md"))       # also run by the build of the documentation
GUIDE = sorted(DOCS.glob("guide/*.md"))
PAGES = [ROOT / "README.md", DOCS / "index.md", *GUIDE, *COURSE] if DOCS.exists() else []
BLOCK = re.compile(r"(?:^% requires: (?P<module>\w+)\n\n)?"
                   r"^```(?:python|\{code-cell\} python)\n(?::tags: [^\n]*\n)?(?P<code>.*?)^```$",
                   re.S | re.M)
MODULES = ("activations", "callbacks", "data", "functional", "losses", "optimizers", "schedules")

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.skipif(not DOCS.exists(), reason="the tests run without the source tree"),
]


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_runs(page, tmp_path, monkeypatch):
    """All Python blocks of a page, one after the other, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")     # pictures go nowhere
    text = page.read_text()
    names = {"__name__": page.stem}
    for block in BLOCK.finditer(text):
        if block["module"] and not find_spec(block["module"]):
            continue
        lines_before = "\n" * text.count("\n", 0, block.start("code"))      # for the tracebacks
        exec(compile(lines_before + block["code"], page, "exec"), names)


def test_every_page_with_code_is_run():
    """None hides in a fence that the pattern above does not find."""
    for page in PAGES:
        text = page.read_text()
        fences = re.findall(r"^\s*(?:```|~~~|:::)\s*\{?(?:code-(?:block|cell)\} )?py", text, re.M)
        assert len(BLOCK.findall(text)) == len(fences)


@pytest.mark.parametrize("page", COURSE, ids=lambda page: page.stem)
def test_course_is_short_and_runs_where_it_is_built(page):
    """Code that the build of the documentation would not run, and so would not show the results of."""
    text = page.read_text()
    assert len(text.splitlines()) <= 150
    assert "```python" not in text
    assert page.stem == "index" or text.startswith("---\nfile_format: mystnb\n")


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 170


def documented():
    """Full names of what the reference lists."""
    names = set()
    for page in DOCS.glob("reference/*.md"):
        module, listing = "", False
        for line in page.read_text().splitlines():
            directive = re.match(r"\.\. (\w+)::(?: (\S+))?", line)
            if directive:
                listing = directive[1] == "autosummary"
                module = directive[2] if directive[1] == "currentmodule" else module
            elif listing and re.fullmatch(r"   [\w.]+", line):
                names.add(f"{module}.{line.strip()}")
    return names


def public():
    """Full names of what fastmlp and its public modules offer, as they are imported."""
    names = {name: getattr(fastmlp, name) for name in fastmlp.__all__}
    result = {f"fastmlp.{name}": thing for name, thing in names.items() if not ismodule(thing)}
    for module in MODULES:
        holds = import_module(f"fastmlp.{module}")
        for name in holds.__all__:
            is_public = isfunction if module == "functional" else isclass
            if name not in names and is_public(getattr(holds, name)):
                result[f"fastmlp.{module}.{name}"] = getattr(holds, name)
    result |= {f"fastmlp.initializers.{name}": f for name, f in fastmlp.initializers.INITIALIZERS.items()}
    result |= {f"fastmlp.metrics.{name}": f for name, f in fastmlp.metrics.METRICS.items()}
    return result


def test_reference_lists_every_public_name():
    assert sorted(set(public()) - documented()) == []


def test_reference_lists_nothing_that_is_gone():
    for name in documented():
        module, _, attribute = name.rpartition(".")
        if module == "fastmlp.sklearn" and not find_spec("sklearn"):
            continue            # a front, beside what it stands in for
        assert hasattr(import_module(module), attribute), name
