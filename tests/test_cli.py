"""The command line, the configuration, and the lines of the README that a reader would run first."""
from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp import kernels
from fastmlp._tools import cli, config, demo, speed

pytestmark = pytest.mark.any_isa

README = Path(__file__).parent.parent / "README.md"
PACKAGE = Path(fastmlp.__file__).parent.parent


def run(*arguments, **environment):
    """`fastmlp arguments` in a process of its own."""
    start = [sys.executable, "-c", "import sys; from fastmlp._tools.cli import main; sys.exit(main())"]
    if arguments[0] == "-c":
        start = [sys.executable]
    path = os.pathsep.join(p for p in (str(PACKAGE), os.environ.get("PYTHONPATH")) if p)
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    command = [*start, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)


def archive(path, n=40, seed=0, **change):
    """A small problem in the layout of Keras's mnist.npz: is the left half of the image the brighter one?"""
    rng = np.random.default_rng(seed)
    arrays = {}
    for part in ("train", "test"):
        x = rng.integers(0, 256, (n, 4, 6), dtype=np.uint8)
        arrays[f"x_{part}"] = x
        arrays[f"y_{part}"] = (x[:, :, :3].sum((1, 2)) > x[:, :, 3:].sum((1, 2))).astype(np.uint8)
    arrays.update(change)
    np.savez(path, **{key: a for key, a in arrays.items() if a is not None})
    return path


# info, show_config -------------------------------------------------------------------------------------

@pytest.mark.parametrize("isa", kernels.available_isas())
def test_info_names_the_active_instruction_set(isa):
    result = run("info", FASTMLP_ISA=isa, FASTMLP_NUM_THREADS="3", FASTMLP_BACKEND="")
    assert result.returncode == 0, result.stderr
    lines = dict(re.split("  +", line, maxsplit=1) for line in result.stdout.splitlines())
    assert lines["fastmlp"] == fastmlp.__version__
    assert f"{isa} (active)" in lines["instruction sets"]
    assert lines["threads"] == "3"
    assert lines["backend"] == "cython"
    assert np.__version__ in lines["NumPy"]
    single, double = map(float, re.findall(r"([\d.]+) GFLOP/s", lines["FMA peak, a core"]))
    assert single > double > 0


def test_show_config_measures_only_when_told(capsys, monkeypatch):
    measured = []
    monkeypatch.setattr(config, "fma_peak", lambda dtype: measured.append(dtype) or 1.0)
    fastmlp.show_config()
    assert "peak" not in capsys.readouterr().out
    assert measured == []
    fastmlp.show_config(measure=True)
    assert "float32 1.0 GFLOP/s" in capsys.readouterr().out
    assert measured == ["float32", "float64"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_peak_is_not_below_a_product(dtype):
    """No matrix product of ours is faster than what is called the peak, with room for a changing clock."""
    row = speed.dense_forward(np.dtype(dtype), 64, 128, 128)
    reached = row.operations / speed.best(row.ours, 0.02) / 1e9
    assert reached < 1.5 * config.fma_peak(dtype, 0.02)


# demo --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_demo_reaches_its_accuracy(dtype):
    result = run("demo", "--dtype", dtype)
    assert result.returncode == 0, result.stderr
    ours, numpy = (float(a) for a in re.findall(r"test accuracy ([\d.]+)%", result.stdout))
    assert min(ours, numpy) >= 97
    assert float(re.search(r"curves differ by (\S+) at most", result.stdout)[1]) < 1e-3
    assert re.search(r"trains [\d.]+ times as fast", result.stdout)
    assert "samples/s" in result.stderr             # the bar


def test_demo_fails_below_its_accuracy(capsys, monkeypatch):
    monkeypatch.setattr(demo, "ACCURACY", 1.01)
    assert cli.main(["demo", "--epochs", "1"]) == 1
    assert "expected a test accuracy of 101% at least" in capsys.readouterr().err


def test_demo_on_other_data(tmp_path):
    result = run("demo", "--data", archive(tmp_path / "halves.npz"), "--epochs", 2, "--batch-size", 16,
                 "--threads", 2)
    assert result.returncode == 0, result.stderr
    assert "network 24-256-128-2, float32, 2 epochs, batches of 16" in result.stdout
    assert "threads: 2" in result.stdout


def test_inputs_are_scaled_by_a_power_of_two(tmp_path):
    X, y, test_X, _ = demo.load(archive(tmp_path / "halves.npz"))
    scaled_X, scaled_y, scaled_test_X, _ = demo.scaled((X, y, test_X, y), "float32")
    assert X.dtype == np.uint8 and X.shape == (40, 24)
    assert scaled_X.dtype == np.float32 and scaled_X.max() <= 1
    assert np.array_equal(scaled_X * 256, X) and np.array_equal(scaled_test_X * 256, test_X)
    assert scaled_y is y
    zeros = np.zeros((2, 3), np.uint8)
    assert np.array_equal(demo.scaled((zeros, y, zeros, y), "float32")[0], zeros)


@pytest.mark.parametrize("change, message", [
    ({"x_train": None, "y_test": None}, "no x_train, y_test; expected x_train, y_train, x_test, "),
    ({"x_train": np.zeros(40)}, "x_train: expected numbers"),
    ({"x_train": np.full((40, 24), "a")}, "x_train: expected numbers"),
    ({"x_test": np.full((40, 24), np.nan)}, "x_test: holds values that are not finite"),
    ({"x_test": np.zeros((40, 25))}, "x_train has 24 values a sample, x_test 25"),
    ({"y_train": np.zeros(39, int)}, "y_train: expected 40 class indices"),
    ({"y_train": np.zeros(40)}, "y_train: expected 40 class indices"),
    ({"y_test": np.full(40, -1)}, "y_test: expected 40 class indices"),
    ({"y_test": np.array([{}] * 40)}, "cannot be read"),
])
def test_demo_says_what_is_wrong_with_data(tmp_path, capsys, change, message):
    assert cli.main(["demo", "--data", str(archive(tmp_path / "bad.npz", **change))]) == 1
    error = capsys.readouterr().err
    assert "bad.npz" in error and message in error


def test_demo_says_what_is_wrong_with_a_file(tmp_path, capsys):
    missing, text, single, folder = (tmp_path / name for name in ("a.npz", "b.npz", "single.npy", "folder"))
    text.write_text("not an archive")
    np.save(single, np.zeros(3))
    folder.mkdir()
    for path, message in [(missing, "no such file"), (text, "cannot be read"), (single, "got a single array"),
                          (folder, "cannot be read")]:
        assert cli.main(["demo", "--data", str(path)]) == 1
        assert message in capsys.readouterr().err


# bench -------------------------------------------------------------------------------------------------

def test_bench():
    result = run("bench", "--quick", "--dtype", "float64", "--threads", 1)
    assert result.returncode == 0, result.stderr
    assert re.search(r"^threads +1$", result.stdout, re.M)
    rows = re.findall(r"^(dense_forward|dense_backward|training step|inference) .* ([\d.]+)% .* [\d.]+x$",
                      result.stdout, re.M)
    assert [what for what, _ in rows] == ["dense_forward"] * 2 + ["dense_backward"] * 2 + [
        "training step"] * 2 + ["inference"] * 2


def test_bench_warns_of_what_slows_numpy(capsys, monkeypatch):
    monkeypatch.setattr(speed, "bench", lambda *arguments: print(*arguments))
    monkeypatch.delenv("OPENBLAS_L2_SIZE", raising=False)
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Prescott")
    for name in cli.BLAS_THREADS:
        monkeypatch.setenv(name, str(fastmlp.get_num_threads()))
    assert cli.main(["bench", "--threads", str(fastmlp.get_num_threads())]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("warning: OPENBLAS_CORETYPE=Prescott is set")
    assert "OPENBLAS_L2_SIZE" not in printed
    assert printed.endswith(f"float32 {fastmlp.get_num_threads()} False\n")


def test_bench_verifies_first(monkeypatch):
    def wrong(dy, x, w, b, out):
        out[:] = 0

    monkeypatch.setattr(speed.functional, "dense_forward", wrong)
    with pytest.raises(ArithmeticError, match="dense_forward: the result differs"):
        speed.dense_forward(np.dtype("float32"), 4, 3, 2)


def test_counted_operations():
    dtype = np.dtype("float32")
    assert speed.dense_forward(dtype, 2, 3, 5).operations == 2 * 30
    assert speed.dense_backward(dtype, 2, 3, 5).operations == 4 * 30
    assert speed.training_step(dtype, 1, [4, 3, 2], 8, 4).operations == 8 * (4 * 12 + 6 * 6)
    assert speed.inference(dtype, 1, [4, 3, 2], 8).operations == 8 * 2 * 18


@pytest.mark.parametrize("arguments", [[], ["train"], ["bench", "--threads", "0"], ["demo", "--epochs", "x"]])
def test_arguments_that_make_no_sense(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: fastmlp" in capsys.readouterr().err


def test_without_a_command_the_commands_are_named(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main([])
    assert "{info,demo,bench}" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["-h", "info -h", "demo -h", "bench -h", "--version"])
def test_help(arguments, capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(arguments.split())
    assert capsys.readouterr().out


# Output that nobody takes ------------------------------------------------------------------------------

FASTMLP = f'"{sys.executable}" -c "import sys; from fastmlp._tools.cli import main; sys.exit(main())"'
needs_sh = pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")


def shell(line, **environment):
    path = os.pathsep.join(p for p in (str(PACKAGE), os.environ.get("PYTHONPATH")) if p)
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "", **environment}
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment, timeout=300)


@needs_sh
@pytest.mark.parametrize("command, buffered", [
    ("info", ""), ("info", "1"), ("demo --epochs 1 --threads 1", ""), ("bench --quick", ""), ("-h", "")])
def test_reader_that_goes_away(command, buffered):
    """Like any program that the signal ends, and nothing is said about it."""
    result = shell(f"{{ {FASTMLP} {command}; echo status $? >&2; }} | true", PYTHONUNBUFFERED=buffered)
    assert "Traceback" not in result.stderr and "Exception ignored" not in result.stderr, result.stderr
    status = int(re.search(r"status (\d+)", result.stderr)[1])
    assert status == 141


@needs_sh
@needs_full
@pytest.mark.parametrize("command", ["info", "demo --epochs 1", "-h"])
def test_full_disk(command):
    result = shell(f"{FASTMLP} {command} >/dev/full")
    assert result.returncode == 1
    assert "fastmlp: cannot write the output: No space left on device" in result.stderr
    assert "Traceback" not in result.stderr and "Exception ignored" not in result.stderr
    result = shell(f"{FASTMLP} {command} >/dev/full 2>/dev/full")
    assert result.returncode == 1


BOTH = ">&- 2>&-"


@needs_sh
@pytest.mark.parametrize("command, closed, expected", [
    ("info", ">&-", 0), ("info", "2>&-", 0), ("info", BOTH, 0), ("demo --threads 1", "2>&-", 0),
    ("demo --threads 1", BOTH, 0), ("bench --quick", BOTH, 0), ("-h", ">&-", 0), ("-h", BOTH, 0),
    ("nonsense", "2>&-", 2), ("nonsense", BOTH, 2), ("demo --data none.npz", "2>&-", 1),
    ("demo --data none.npz", BOTH, 1)])
def test_closed_streams(command, closed, expected):
    """`>&-` and `2>&-` close them before Python starts: it has None for both."""
    result = shell(f"{FASTMLP} {command} {closed}")
    assert result.returncode == expected, result.stderr
    assert "Traceback" not in result.stderr and "Exception ignored" not in result.stderr
    assert (result.stdout == "") or ">&-" not in closed.split()


def test_streams_that_are_none(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert cli.main(["demo"]) == 0
    assert cli.main(["demo", "--data", "none.npz"]) == 1
    with pytest.raises(SystemExit, match="2"):
        cli.main(["nonsense"])
    assert sys.stdout is None and sys.stderr is None


def test_other_errors_of_the_system_are_not_hidden(monkeypatch):
    def run(arguments):
        raise FileNotFoundError(2, "of mine")

    monkeypatch.setattr(cli, "run", run)
    with pytest.raises(FileNotFoundError, match="of mine"):
        cli.main(["info"])


def test_as_a_module():
    for arguments in (["--version"], ["demo", "--epochs", "1"], ["demo", "--data", "none.npz"]):
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
        module = subprocess.run([sys.executable, "-m", "fastmlp", *arguments], capture_output=True, text=True,
                                env=environment)
        command = run(*arguments)
        assert module.returncode == command.returncode
        assert module.stdout.splitlines()[:2] == command.stdout.splitlines()[:2]


# README ------------------------------------------------------------------------------------------------

@pytest.mark.skipif(not README.exists(), reason="the tests run without the source tree")
def test_readme_trains():
    """Its first Python block, as a reader would paste it, learns what it says."""
    code = re.search(r"^```python\n(.*?)^```", README.read_text(), re.S | re.M)[1]
    assert len(code.splitlines()) <= 12
    result = run("-c", code)
    assert result.returncode == 0, result.stderr
    assert float(re.search(r"test accuracy ([\d.]+)%", result.stdout)[1]) >= 95


@pytest.mark.skipif(not README.exists(), reason="the tests run without the source tree")
def test_readme_code_blocks_run():
    """All of them, one after the other, in one program."""
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", README.read_text(), re.S | re.M))
    result = run("-c", code)
    assert result.returncode == 0, result.stderr
