"""The fuzzers of tests/fuzz: they run, and a few cases of each pass. CI runs them for longer."""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "fuzz" / "run.py"


def run(*arguments, **options):
    return subprocess.run([sys.executable, RUN, *arguments], capture_output=True, text=True, **options)


@pytest.mark.parametrize("name", ["functions", "files", "sources", "models"])
def test_a_few_cases(name):
    result = run(name, "--cases", "100", "--seed", "0")
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.fullmatch(rf"{name}: 100 passed, 0 failed \(seed 0, \d+ s\)\n", result.stdout)
    assert result.stderr.startswith(f"{name}: seed 0\n")


@pytest.mark.parametrize("wrong, how", [
    ("raise AssertionError('wrong')", "failed"),
    ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died of signal 11")])
def test_a_failure_names_its_case(tmp_path, wrong, how):
    for name in ("run.py", "fuzzing.py"):
        (tmp_path / name).write_text((RUN.parent / name).read_text())
    (tmp_path / "models.py").write_text(f"def case(rng):\n    if rng.random() < 0.1:\n        {wrong}\n")
    result = subprocess.run([sys.executable, tmp_path / "run.py", "models", "--cases", "500", "--seed", "3"],
                            capture_output=True, text=True)
    first = result.stdout.splitlines()[0]
    assert result.returncode == 1 and first.startswith("models: case ") and how in first
    number = first.split()[2]
    again = subprocess.run([sys.executable, tmp_path / "run.py", "models", "--seed", "3", "--case", number],
                           capture_output=True, text=True)
    assert again.returncode == 1 and f"case {number} of seed 3 {how}" in again.stdout
