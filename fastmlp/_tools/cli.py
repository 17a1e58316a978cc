"""The command line: fastmlp info | demo | bench."""
from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import fastmlp
from fastmlp._tools.config import SLOWS_NUMPY, show_config
from fastmlp._tools.demo import ACCURACY, KEYS, DataError, run_demo

__all__ = ["main"]

UNWRITABLE = (errno.EIO, errno.EFBIG, errno.ENOSPC, errno.EDQUOT, errno.EBADF)    # what `write` may say
# Libraries of matrix products read their number of threads when they are loaded, and only then.
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "BLIS_NUM_THREADS",
                "VECLIB_MAXIMUM_THREADS")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status: 0, 1 if it failed, 2 for arguments that make no sense, 130 after
    Ctrl-C, and 141 where nobody reads on (`fastmlp info | head -1`), as of a program that the signal ends."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    with output_streams():
        try:
            try:
                return run(arguments)
            except DataError as error:
                print(f"fastmlp: {error}", file=sys.stderr)
                return 1
            except KeyboardInterrupt:
                print("interrupted", file=sys.stderr)
                return 130
            finally:
                sys.stdout.flush()          # what cannot be written must be found out here, and not at exit
        except BrokenPipeError:
            return 141
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            with suppress(OSError):
                print(f"fastmlp: cannot write the output: {error.strerror}", file=sys.stderr, flush=True)
            return 1


def run(arguments: list[str]) -> int:
    options = parser().parse_args(arguments)
    threads = getattr(options, "threads", None)
    if threads is not None:
        if any(os.environ.get(name) != str(threads) for name in BLAS_THREADS):
            return again_with_threads(arguments, threads)
        fastmlp.set_num_threads(threads)
    return int(options.run(options))


@contextmanager
def output_streams() -> Iterator[None]:
    """Both streams can be written to: one that was closed takes everything, one that broke drops the rest.

    Python has None for a stream that is closed from the start (`>&-`), and tries once more at exit to write
    what a broken one still holds."""
    with ExitStack() as stack:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:
                setattr(sys, name, stack.enter_context(open(os.devnull, "w")))
                stack.callback(setattr, sys, name, None)
        yield
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                    os.dup2(nowhere.fileno(), stream.fileno())


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="fastmlp", description="Fully-connected neural networks on the CPU.")
    top.add_argument("--version", action="version", version=f"fastmlp {fastmlp.__version__}")
    commands = top.add_subparsers(required=True, metavar="{info,demo,bench}")

    info = commands.add_parser(
        "info", help="versions, instruction sets, threads, and the FMA peak of a core",
        description="Show versions, instruction sets, threads, caches, and the measured FMA peak of a core.")
    info.set_defaults(run=run_info)

    demo = commands.add_parser(
        "demo", help="train a network on handwritten digits",
        description="Train a network on the compiled kernels, then again on the NumPy backend, and compare. "
                    f"On the bundled digits the exit status is 1 for a test accuracy below {ACCURACY:.0%}.")
    demo.add_argument(
        "--data", type=Path, metavar="FILE.npz",
        help=f"other data, such as MNIST: {', '.join(KEYS)}; images of any shape, labels from 0")
    demo.add_argument("--epochs", type=positive, metavar="N", help="default: 20, with --data 5")
    demo.add_argument("--batch-size", type=positive, metavar="N", help="default: 32, with --data 128")
    demo.add_argument("--threads", type=positive, metavar="N",
                      help="for our kernels and for NumPy's (default: what each takes by itself)")
    add_dtype(demo)
    demo.set_defaults(run=run_demo)

    bench = commands.add_parser(
        "bench", help="time layers, training steps and inference",
        description="Print a table: time, GFLOP/s, share of the FMA peak measured in the same run, and the "
                    "ratio to the NumPy backend (above 1: faster than NumPy). Every result is verified; "
                    "only the multiply-adds of the dense layers count, over the time of the whole call. It "
                    "takes about a minute.",
        epilog=f"The environment variables {' and '.join(SLOWS_NUMPY)} slow NumPy's OpenBLAS down where they "
               "force a kernel or a block size that does not fit the processor: unset them to compare.")
    add_dtype(bench)
    bench.add_argument("--threads", type=positive, default=1, metavar="N",
                       help="of training, inference and NumPy (default: 1); our dense_forward and "
                            "dense_backward always run on one")
    bench.add_argument("--quick", action="store_true",
                       help="small shapes, too short to mean anything: a trial")
    bench.set_defaults(run=run_bench)
    return top


def add_dtype(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dtype", choices=("float32", "float64"), default="float32",
                         help="default: %(default)s")


def positive(text: str) -> int:
    """An integer from 1 up, of an argument.

    >>> positive("8")
    8
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer from 1 up, got {text!r}")
    return int(text)


def again_with_threads(arguments: Sequence[str], threads: int) -> int:
    """The same command in a process whose BLAS starts with so many threads: it cannot be told later."""
    package = str(Path(fastmlp.__file__).parent.parent)
    code = (f"import sys; sys.path.insert(0, {package!r}); "
            "from fastmlp._tools.cli import main; sys.exit(main())")
    environment = {**os.environ, **dict.fromkeys(BLAS_THREADS, str(threads))}
    with subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment) as process:
        while True:
            try:
                status = process.wait()
                return status if status >= 0 else 128 - status      # ended by a signal
            except KeyboardInterrupt:           # the terminal sends it to both: the child ends, and says so
                pass


# info, bench -------------------------------------------------------------------------------------------

def run_info(options: argparse.Namespace) -> int:
    show_config(measure=True)
    return 0


def run_bench(options: argparse.Namespace) -> int:
    from fastmlp._tools.speed import bench

    for name in SLOWS_NUMPY:
        if name in os.environ:
            print(f"warning: {name}={os.environ[name]} is set: NumPy may be slower than it can be")
    show_config()
    bench(options.dtype, options.threads, options.quick)
    return 0
