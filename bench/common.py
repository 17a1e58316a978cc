"""What the benchmarks share: the rows of the tables, timing, the FMA peak, child processes, saved results."""
from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from time import perf_counter
from timeit import Timer
from typing import Any, NamedTuple

Record = dict[str, Any]         # a line of a table

# These hold OpenBLAS to kernels that are not its best for the processor.
MISLEADING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
THREAD_LIMITS = ("FASTMLP_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


# The rows of the tables --------------------------------------------------------------------------------

class Row(NamedTuple):
    """A network and a batch size."""

    layers: tuple[int, ...]
    batch: int

    @property
    def name(self) -> str:
        return f"{'-'.join(map(str, self.layers))}, {self.batch}"

    def flops(self, training: bool) -> int:
        """Of the multiply-adds of the dense layers: 2 per weight and sample forward; in training as many
        again for the gradients of the weights, and for those of the inputs in all layers but the first."""
        weights = [n_in * n_out for n_in, n_out in zip(self.layers, self.layers[1:])]
        return self.batch * (6 * sum(weights) - 2 * weights[0] if training else 2 * sum(weights))


TRAINING = [
    Row((4, 16, 3), 16),
    Row((64, 64, 10), 32),
    Row((64, 128, 128, 10), 128),
    Row((784, 128, 10), 64),
    Row((784, 256, 128, 10), 128),
    Row((784, 512, 512, 10), 256),
    Row((784, 1024, 1024, 10), 1024),
    Row((256, 256, 256, 256, 256, 256, 10), 256),
    Row((2048, 2048, 2048, 1000), 512),
]
MIDDLE = TRAINING[3:6] + TRAINING[7:8]
INFERENCE = [Row((4, 16, 3), 1)] + [
    Row(layers, batch)
    for layers in ((784, 256, 128, 10), (784, 1024, 1024, 10), (2048, 2048, 2048, 1000))
    for batch in (1, 16, 256, 1024)
]


# Timing ------------------------------------------------------------------------------------------------

class Call(NamedTuple):
    """A statement to be timed, and the names in it."""

    statement: str
    names: dict[str, Any]

    def timer(self) -> Timer:
        return Timer(self.statement, globals=self.names)

    def result(self) -> Any:
        """The value of the statement, which must be an expression."""
        return eval(self.statement, self.names)


class Peak:
    """GFLOP/s of FMAs in registers, on `threads` cores at once."""

    def __init__(self, dtype: str, threads: int = 1) -> None:
        from fastmlp import kernels
        self.fma_peak = kernels.module(dtype).fma_peak
        self.threads = threads
        self.pool = ThreadPoolExecutor(threads)

    def measure(self, seconds: float = 0.02) -> float:
        return sum(self.pool.map(self.fma_peak, [seconds] * self.threads))


class Turns(NamedTuple):
    """Of one contestant: seconds per call in every turn, and the peak beside it."""

    seconds: list[float]
    peaks: list[float]

    @property
    def best(self) -> float:
        return min(self.seconds)

    def record(self, flops: float, steps: float = 1) -> Record:
        """Of the fastest turn, a call of `steps` steps of `flops` each: microseconds a step, GFLOP/s, and the
        share of the peak of that very moment, since the clock of a processor drifts."""
        gflops = flops * steps / self.best / 1e9
        peak = self.peaks[self.seconds.index(self.best)]
        return {"us": 1e6 * self.best / steps, "gflops": gflops, "peak": peak, "share": gflops / peak}


def race(
    contestants: dict[str, Call | Callable[[], Any]],
    rounds: int,
    seconds: float,
    peak: Peak,
) -> dict[str, Turns]:
    """They take turns, so that all see the same machine; a turn is as many calls as take `seconds`. The peak
    is measured between them: that of a turn is the higher one of before and after."""
    timers = {}
    for name, call in contestants.items():
        timers[name] = call.timer() if isinstance(call, Call) else Timer(call)
    numbers = {}
    for name, timer in timers.items():
        timer.timeit(1)
        number, elapsed = 1, timer.timeit(1)
        while elapsed < seconds / 10:
            number *= 4
            elapsed = timer.timeit(number)
        numbers[name] = max(1, round(number * seconds / elapsed))
    turns = {name: Turns([], []) for name in timers}
    beside = min(0.02, seconds / 2)
    after = peak.measure(beside)
    for _ in range(rounds):
        for name, timer in timers.items():
            before = after
            turns[name].seconds.append(timer.timeit(numbers[name]) / numbers[name])
            after = peak.measure(beside)
            turns[name].peaks.append(max(before, after))
    return turns


def latencies(call: Call, seconds: float) -> dict[str, float]:
    """Quantiles of the wall time of single calls, in us; the clock itself takes part of the first 0.1 us."""
    timer = call.timer()
    once = min(timer.repeat(100, 1))
    times = sorted(timer.repeat(max(1000, min(200_000, int(seconds / once))), 1))
    quantiles = {"min": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}
    last = len(times) - 1
    return {name: 1e6 * times[int(q * last)] for name, q in quantiles.items()} | {"calls": len(times)}


# Child processes: one for every setting that a library reads once, when it starts ----------------------

def environment(threads: int, isa: str | None = None) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    env |= dict.fromkeys(THREAD_LIMITS, str(threads))
    if threads == 1:
        env["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    if isa:
        env["FASTMLP_ISA"] = isa
    return env


def run_child(script: str, task: dict[str, Any], threads: int, isa: str | None = None) -> Iterator[Record]:
    """The records of work(**task), run in a process of its own on `threads` processors."""
    pin = None
    if hasattr(os, "sched_setaffinity"):        # Linux
        processors = sorted(os.sched_getaffinity(0))[-threads:]
        if len(processors) < threads:
            print(f"only {len(processors)} processors for {threads} threads: left out", file=sys.stderr)
            return
        pin = partial(os.sched_setaffinity, 0, processors)
    command = [sys.executable, script, "--child", json.dumps(task)]
    with subprocess.Popen(command, env=environment(threads, isa), stdout=subprocess.PIPE, text=True,
                          preexec_fn=pin) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("{"):
                yield json.loads(line) | {"threads": threads} | machine()
            else:
                print(line, end="", file=sys.stderr)
    if child.returncode:
        print(f"failed: {' '.join(command)}", file=sys.stderr)
        raise SystemExit(child.returncode)


def serve(work: Callable[..., Iterator[Record]]) -> None:
    """In a process made by `run_child`: do the work, print the records, and end."""
    if sys.argv[1:2] == ["--child"]:
        for record in work(**json.loads(sys.argv[2])):
            print(json.dumps(record), flush=True)
        raise SystemExit


def arguments(description: str, *more: tuple[str, dict[str, Any]]) -> Namespace:
    """The command line that all scripts have, and what one has more."""
    parser = ArgumentParser(description=description)
    parser.add_argument("--only", default="", metavar="ROW", help="only rows whose name contains this")
    parser.add_argument("--quick", action="store_true", help="few repetitions; results are not saved")
    for flag, settings in more:
        parser.add_argument(flag, **settings)
    return parser.parse_args()


THREADS = ("--threads", {"default": "1,2", "type": lambda text: [int(n) for n in text.split(",")],
                         "help": "default %(default)s"})


def names(text: str) -> list[str]:
    return text.split(",")


# Results -----------------------------------------------------------------------------------------------

def machine() -> Record:
    return {
        "cpu": _cpu(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": installed_version("numpy"),
        "fastmlp": installed_version("fastmlp"),
        "commit": commit(),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"),
    }


@lru_cache(1)
def commit() -> str:
    """Of the tree that is measured, with a + where it has changes."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head, changes = (subprocess.run([*git, *arguments], capture_output=True, text=True, check=True).stdout
                         for arguments in (("rev-parse", "--short", "HEAD"),
                                           ("status", "--porcelain", "--untracked-files=no")))
    except (OSError, subprocess.CalledProcessError):        # no git, or no clone
        return "?"
    return head.strip() + ("+" if changes else "")


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def installed_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:        # run from a source tree
        return str(getattr(sys.modules.get(package) or __import__(package), "__version__", "?"))


def openblas() -> str:
    """The kernels that NumPy's OpenBLAS runs, where threadpoolctl is there to ask."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "?"
    kernels = [info["architecture"] for info in threadpool_info() if info["internal_api"] == "openblas"]
    return kernels[0] if kernels else "?"


def best_isas() -> list[str]:
    """Those with FMA. The portable one has no FMA peak to be judged by, and runs only when asked for."""
    from fastmlp import available_isas
    return [isa for isa in available_isas() if isa != "portable"] or available_isas()


class Clock:
    """Prints a line per record as it comes: the row, and how long the script has run."""

    def __init__(self) -> None:
        self.started = perf_counter()

    def show(self, record: Record) -> None:
        row = f"{'-'.join(map(str, record['layers']))}, {record['batch']}" if "layers" in record else (
            f"{record['function']} {'x'.join(map(str, record['shape']))}")
        share = f"{record['share']:7.1%} of peak" if "share" in record else ""
        ratio = f"{record['ratio']:6.2f} x NumPy" if "ratio" in record else ""
        keys = ("table", "library", "variant", "isa", "dtype")
        settings = " ".join(str(record[key]) for key in keys if key in record)
        print(f"{perf_counter() - self.started:5.0f} s  {settings} {record['threads']}T  {row:36} "
              f"{record['us']:12.2f} us {share} {ratio}", flush=True)
