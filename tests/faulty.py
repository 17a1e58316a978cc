"""What the tests of faults share: programs in processes of their own, calls of the system that fail, and what
a process holds.

FASTMLP_FAULTS=long has them try every place, where they try some of them otherwise.
"""
from __future__ import annotations

import os
import platform
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastmlp

LONG = os.environ.get("FASTMLP_FAULTS") == "long"
HERE = Path(__file__).parent
POSIX = pytest.mark.skipif(os.name != "posix", reason="of POSIX")
NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
NEEDS_PROC = pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="needs /proc")
IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NOBODY = 54321                          # a user that has nothing


# Programs --------------------------------------------------------------------------------------------------

def program(code, *arguments, timeout=120, **environment):
    """What a script prints that ends well and says nothing on stderr; it may import the modules of tests."""
    head = f"import sys; sys.path.insert(0, {str(HERE)!r}); import faulty; faulty.use_no_disk()\n"
    options = ["-X", "faulthandler", "-W", "ignore:This process:DeprecationWarning"]
    process = subprocess.Popen(
        [sys.executable, *options, "-c", head + code, *map(str, arguments)],
        env={**os.environ, "FASTMLP_BACKEND": "cython", **environment}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        out, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)          # its children, too
        process.kill()
        raise
    assert (process.returncode, errors) == (0, ""), f"{process.returncode}\n{out}\n{errors}"
    return out


def use_no_disk():
    """What is tested is what programs see, and a disk may take its time."""
    os.fsync = lambda number: None


def become_nobody():
    """Give up the rights of root, where a process of a test has them. False where that is not allowed."""
    if IS_ROOT:
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        except OSError:
            return False
    return True


# Calls of the system that fail ------------------------------------------------------------------------------

MEMORY, THREADS = 1, 2                  # as faulty.c has them
ALL = 2**62


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory):
    """The environment of a program in which `Failing` works."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if platform.libc_ver()[0] != "glibc" or compiler is None:
        pytest.skip("needs glibc and a C compiler")
    if os.environ.get("LD_PRELOAD"):
        pytest.skip("something else is preloaded")
    library = tmp_path_factory.mktemp("faulty") / "faulty.so"
    options = ["-std=gnu99", "-O1", "-fPIC", "-shared"]
    subprocess.run([compiler, *options, "-o", str(library), str(HERE / "faulty.c"), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library)}


class Failing:
    """A context manager: within it, calls number first to last of a kind fail, of those that kernels make.

    calls       how many there were
    """

    def __init__(self, kind, first, last=None):
        import ctypes

        self._library = ctypes.CDLL(None)
        self._library.faulty_begin.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_long]
        self._library.faulty_end.restype = ctypes.c_long
        self._arguments = kind, first, first if last is None else last
        self.calls = 0

    def __enter__(self):
        self._library.faulty_begin(*self._arguments)
        return self

    def __exit__(self, *error):
        self.calls = self._library.faulty_end()


# What a process holds --------------------------------------------------------------------------------------

def threads():
    return len(os.listdir("/proc/self/task"))


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def resident():
    """Bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


# Things to train -------------------------------------------------------------------------------------------

LAYERS = [64, 128, 128, 10]             # enough work for several threads


def samples(seed=0, n=1000):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, LAYERS[0])).astype(np.float32), rng.integers(0, LAYERS[-1], n)


def bits(model):
    """Of all that it has learned."""
    return b"".join(array.tobytes() for array in [*model.weights, *model.biases])


def trained(seed=0, epochs=2):
    """The bits of a model after some training, the same for the same seed."""
    model = fastmlp.MLP(LAYERS, seed=seed)
    model.fit(*samples(seed), epochs=epochs, batch_size=128, optimizer=fastmlp.SGD(0.05, momentum=0.9),
              progress=False)
    return bits(model)
