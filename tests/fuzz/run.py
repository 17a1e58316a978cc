"""Fuzzers: random cases, each a function of a seed and a number, until the time is over or one fails.

    python tests/fuzz/run.py [functions files sources models fronts] [--seconds 60] [--cases N] [--seed S]
    python tests/fuzz/run.py functions --seed 7 --case 123        that case again
    python tests/fuzz/run.py functions --seed 7 --first 1000      from that case on

A fuzzer is a module beside this file with `case(rng)`, which raises where something is wrong. The cases run
in a process of their own, so that a crash names its case, too, in a folder of their own, for what they
write. Without a seed there is a fresh one; it is printed, and all that a failure needs to be seen again.
"""
from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import mmap
import os
import secrets
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
FUZZERS = ("functions", "files", "sources", "models", "fronts")
NEVER = 2**62
TELL = 300.0            # seconds between two lines on how far it is
LONG = 900.0            # seconds after which a case hangs: it ends with the stacks of all threads
MEMORY = "/dev/shm"     # a folder whose files take no disk, where there is one


def work(name: str, seed: int, first: int, last: int, seconds: float, place: str) -> None:
    """Cases first..last - 1, or those that begin in time; the number of the one that runs is in a file."""
    import numpy as np

    faulthandler.enable()
    warnings.simplefilter("ignore")
    case = importlib.import_module(name).case
    end = time.monotonic() + seconds
    with open(place, "r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
        for number in range(first, last):
            shared[:] = struct.pack("q", number)
            faulthandler.dump_traceback_later(LONG, exit=True)
            if time.monotonic() > end:
                break
            try:
                case(np.random.default_rng([seed, number]))
            except Exception:
                traceback.print_exc()
                sys.exit(1)
        else:
            shared[:] = struct.pack("q", last)
    faulthandler.cancel_dump_traceback_later()


def fuzz(name: str, seed: int, first: int, last: int, seconds: float) -> bool:
    """Whether all cases pass."""
    print(f"{name}: seed {seed}", file=sys.stderr, flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        place = Path(folder, "case")
        place.write_bytes(struct.pack("q", first))

        def told(how: str) -> int:
            (number,) = struct.unpack("q", place.read_bytes())
            seconds = time.monotonic() - started
            print(f"{name}: {number - first} {how} (seed {seed}, {seconds:.0f} s)", flush=True)
            return number

        command = [sys.executable, str(HERE / "run.py"), "--child", name, seed, first, last, seconds, place]
        child = subprocess.Popen(list(map(str, command)), cwd=folder, stdin=subprocess.DEVNULL)
        try:
            while child.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(TELL)
                    break
                told("so far")
        finally:
            if child.poll() is None:            # this process is ended before its child is
                child.kill()
                child.wait()
                told("passed until it was ended")
        if child.returncode == 0:
            told("passed, 0 failed")
            return True
        (number,) = struct.unpack("q", place.read_bytes())
    how = "failed" if child.returncode > 0 else f"died of signal {-child.returncode}"
    print(f"{name}: case {number} of seed {seed} {how}; again:\n"
          f"    python tests/fuzz/run.py {name} --seed {seed} --case {number}", flush=True)
    return False


def ended(*_: object) -> None:
    sys.exit(1)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        name, seed, first, last, seconds, place = sys.argv[2:]
        return work(name, int(seed), int(first), int(last), float(seconds), place)
    signal.signal(signal.SIGTERM, ended)
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="fuzzer", help=", ".join(FUZZERS))
    parser.add_argument("--seconds", type=float, help="of each; 60 unless --cases is given")
    parser.add_argument("--cases", type=int, help="of each")
    parser.add_argument("--first", type=int, default=0, help="number of the first; 0 if not given")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    parser.add_argument("--case", type=int, help="only this one")
    options = parser.parse_args()
    if unknown := set(options.names) - set(FUZZERS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(FUZZERS)}")
    first, last, seconds = options.first, NEVER, options.seconds or 60.0
    if options.case is not None:
        first, last, seconds = options.case, options.case + 1, float(NEVER)
    elif options.cases is not None:
        last, seconds = first + options.cases, options.seconds or float(NEVER)
    passed = [fuzz(name, options.seed, first, last, seconds) for name in options.names or FUZZERS]
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    sys.path[:0] = [str(HERE), os.fspath(HERE.parent)]
    main()
