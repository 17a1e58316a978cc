"""The command line: fastmlp info | demo | bench."""
from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

import fastmlp
from fastmlp import MLP, SGD, use_backend
from fastmlp._tools.config import SLOWS_NUMPY, show_config
from fastmlp.training import History

__all__ = ["main"]

Array = NDArray[Any]
Data = tuple[Array, Array, Array, Array]        # training X and y, test X and y

UNWRITABLE = (errno.EIO, errno.EFBIG, errno.ENOSPC, errno.EDQUOT, errno.EBADF)    # what `write` may say
ACCURACY = 0.97                 # what the demo must reach on its own data
KEYS = ("x_train", "y_train", "x_test", "y_test")
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
    commands = top.add_subparsers(required=True, metavar="command")

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


# demo --------------------------------------------------------------------------------------------------

class DataError(Exception):
    """Data that the demo cannot use."""


def run_demo(options: argparse.Namespace) -> int:
    bundled = options.data is None
    data = digits() if bundled else load(options.data)
    X, y, test_X, test_y = scaled(data, options.dtype)
    epochs = options.epochs or (20 if bundled else 5)
    batch_size = options.batch_size or (32 if bundled else 128)
    hidden = [128, 64] if bundled else [256, 128]
    layers = [X.shape[1], *hidden, int(max(y.max(), test_y.max())) + 1]
    print(f"{options.data or 'bundled digits'}: {len(X)} samples to train on, {len(test_X)} to test")
    print(f"network {'-'.join(map(str, layers))}, {options.dtype}, {epochs} epochs, batches of {batch_size}")
    print(f"instruction set {fastmlp.active_isa()}, threads: {fastmlp.get_num_threads()} at most", flush=True)

    accuracy, histories = [], []
    for name in ("cython", "numpy"):
        with use_backend(name):
            model = MLP(layers, dtype=options.dtype, seed=0)
        optimizer = SGD(lr=0.05, momentum=0.9)
        started = time.perf_counter()
        if name == "cython":
            history = model.fit(X, y, epochs=epochs, batch_size=batch_size, optimizer=optimizer)
        else:                                   # one bar for all epochs
            with tqdm(total=epochs, desc="the same in NumPy", unit=" epochs") as bar:
                history = model.fit(X, y, epochs=epochs, batch_size=batch_size, optimizer=optimizer,
                                    progress=False, callbacks=[lambda *_: bar.update() and None])
        elapsed = time.perf_counter() - started
        histories.append(history)
        accuracy.append(float((model.predict(test_X) == test_y).mean()))
        print(f"{name:<6}  test accuracy {accuracy[-1]:.2%}, {speed(history):,.0f} samples/s, "
              f"{elapsed:.2f} s in all", flush=True)

    ours, numpy = histories
    difference = max(abs(a - b) for a, b in zip(ours.loss, numpy.loss))
    print(f"loss {ours.loss[0]:.4f} to {ours.loss[-1]:.4f}, the curves differ by {difference:.1e} at most")
    print(f"fastmlp trains {speed(ours) / speed(numpy):.1f} times as fast as its NumPy backend")
    if bundled and accuracy[0] < ACCURACY:
        print(f"fastmlp: expected a test accuracy of {ACCURACY:.0%} at least, got {accuracy[0]:.2%}",
              file=sys.stderr)
        return 1
    return 0


def speed(history: History) -> float:
    """Samples per second over all epochs, which are of one size.

    >>> speed(History(samples_per_second=[100.0, 300.0]))
    150.0
    """
    return len(history.samples_per_second) / sum(1 / s for s in history.samples_per_second)


def digits() -> Data:
    """The bundled digits, in a fixed random order: four fifths to train on, the rest to test."""
    with resources.files("fastmlp").joinpath("data/digits.npz").open("rb") as file, np.load(file) as arrays:
        x, y = arrays["x"], arrays["y"].astype(np.intp)
    order = np.random.default_rng(0).permutation(len(x))
    train, test = np.split(order, [len(x) * 4 // 5])
    return x[train], y[train], x[test], y[test]


def load(path: Path) -> Data:
    """Data in the layout of Keras's mnist.npz: images flattened to rows, labels as integers."""
    try:
        arrays = np.load(path, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise DataError(f"{path}: expected an .npz archive, got a single array")
        with arrays:
            missing = [key for key in KEYS if key not in arrays]
            if missing:
                raise DataError(f"{path}: no {', '.join(missing)}; expected {', '.join(KEYS)}, "
                                f"got {', '.join(arrays) or 'nothing'}")
            X, y, test_X, test_y = (arrays[key] for key in KEYS)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read as an .npz archive: {error}") from None
    tables = []
    for key, a in zip(("x_train", "x_test"), (X, test_X)):
        if a.ndim < 2 or a.size == 0 or a.dtype.kind not in "biuf":
            raise DataError(f"{path}: {key}: expected numbers (samples, ...), got {a.dtype} {a.shape}")
        if not np.isfinite([a.min(), a.max()]).all():
            raise DataError(f"{path}: {key}: holds values that are not finite")
        tables.append(a.reshape(len(a), -1))
    labels = []
    for key, a, table in zip(("y_train", "y_test"), (y, test_y), tables):
        if a.size != len(table) or a.dtype.kind not in "biu" or a.min() < 0:
            raise DataError(f"{path}: {key}: expected {len(table)} class indices from 0, "
                            f"got {a.dtype} {a.shape}")
        labels.append(a.reshape(-1).astype(np.intp))
    if tables[0].shape[1] != tables[1].shape[1]:
        raise DataError(f"{path}: x_train has {tables[0].shape[1]} values a sample, "
                        f"x_test {tables[1].shape[1]}")
    return tables[0], labels[0], tables[1], labels[1]


def scaled(data: Data, dtype: str) -> Data:
    """Inputs divided by a power of two that brings them to -1..1: pixels 0..255 by 256, 0..16 by 16.

    He's initial weights are meant for inputs about 1. MLP takes uint8 as it is, but pixels of up to 255 make
    the first outputs, and the gradient of the first weights, so much larger: at a usual learning rate that
    diverges. Scaling the first weights instead would not do, their steps would need another learning rate. A
    power of two keeps every bit of the pixels. This is a copy, with the dtype of the model.
    """
    X, y, test_X, test_y = data
    largest = max(float(X.max()), -float(X.min()))
    factor = 2.0 ** -np.ceil(np.log2(largest)) if largest else 1.0
    return np.multiply(X, factor, dtype=dtype), y, np.multiply(test_X, factor, dtype=dtype), test_y


if __name__ == "__main__":
    sys.exit(main())
