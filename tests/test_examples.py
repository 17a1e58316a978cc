"""The programs in examples/ run as a reader would run them, and print what they should."""
import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastmlp

EXAMPLES = Path(__file__).parent.parent / "examples"
PACKAGE = Path(fastmlp.__file__).parent.parent

pytestmark = [
    pytest.mark.any_isa,
    pytest.mark.skipif(not EXAMPLES.exists(), reason="the tests run without the source tree"),
]

# What each prints: a pattern, and whether the numbers in it are good enough.
EXPECTED = {
    "array_functions": (r"epoch 40: loss ([\d.]+)", lambda loss: loss < 0.15),
    "digits": (r"test accuracy ([\d.]+)%", lambda accuracy: accuracy > 96),
    "own_loop": (r"new samples ([\d.]+)%", lambda accuracy: accuracy > 97),
    "own_loss": (r"(\d+)% of the values", lambda inside: 70 < inside < 90),
    "predict_from_threads": (r"(?s)1 at.*: True\n2 at.*: True\n4 at.*: True()", lambda _: True),
    "regression": (r"mean_squared_error.* ([\d.]+)\nhuber.* ([\d.]+)", lambda mse, huber: huber < 0.1 < mse),
    "save_and_resume": (r"the same bits as 30 epochs in one go: True()", lambda _: True),
    "schedule_and_early_stopping": (r"(\d+) epochs(?s:.*)test accuracy ([\d.]+)%",
                                    lambda epochs, accuracy: epochs < 100 and accuracy > 70),
}


def test_every_example_is_expected():
    assert sorted(EXPECTED) == sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", EXPECTED)
def test_example_is_short_and_says_what_it_is(name):
    text = (EXAMPLES / f"{name}.py").read_text()
    assert len(text.splitlines()) <= 40
    (docstring,) = (ast.get_docstring(ast.parse(text)) or "").splitlines()
    assert docstring


@pytest.mark.parametrize("name", EXPECTED)
def test_example_runs(name, tmp_path):
    path = os.pathsep.join(p for p in (str(PACKAGE), os.environ.get("PYTHONPATH")) if p)
    environment = {**os.environ, "PYTHONPATH": path, "FASTMLP_BACKEND": ""}     # some compare bits
    result = subprocess.run([sys.executable, "-W", "error", EXAMPLES / f"{name}.py"], cwd=tmp_path,
                            capture_output=True, text=True, timeout=300, env=environment)
    assert result.returncode == 0, result.stderr
    pattern, good_enough = EXPECTED[name]
    found = re.search(pattern, result.stdout)
    assert found, result.stdout
    assert good_enough(*(float(number or "nan") for number in found.groups())), result.stdout
    assert list(tmp_path.iterdir()) == []       # it leaves nothing behind
