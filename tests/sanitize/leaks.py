"""Memory that is lost: nothing that grows with the number of rounds, of all that makes and frees.

    python tests/sanitize/leaks.py        with a build of FASTMLP_SANITIZE=address (.ci/sanitize)

LeakSanitizer lists, at the end of a process, the blocks that nothing refers to any more. Python leaves some
itself, always the same; so every process makes some rounds, a second one more of them, and what is lost in
both is compared by the place where it was allocated. Objects that Python's collector knows are counted
besides: they refer to one another, and are never lost in the sense of LeakSanitizer.
"""
from __future__ import annotations

import ctypes
import gc
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter

FEW, MANY = 2, 8
RECORD = re.compile(r"(?:Direct|Indirect) leak of (\d+) byte\(s\) in (\d+) object\(s\) allocated from:\n"
                    r"((?:    #\d+ .*\n)+)")


def rounds(count: int, leak: str) -> None:
    """Everything that allocates, and how many objects of Python it leaves."""
    import numpy as np
    import scipy.sparse

    import fastmlp
    import fastmlp.functional as F
    from fastmlp import MLP, SGD, Adam, Diagnostics
    from fastmlp.data import Chunks

    fastmlp.set_num_threads(2)
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((500, 40)).astype(np.float32), rng.integers(0, 5, 500)
    rows = scipy.sparse.csr_matrix(X * (X > 1))
    layers = [40, 64, 48, 5]

    def own_loss(z, targets):
        return float((z ** 2).mean()), 2 * z / z.size

    def refused(call, *args, **options):
        try:
            call(*args, **options)
        except (TypeError, ValueError, ZeroDivisionError):
            return
        raise AssertionError("a wrong call was right")

    def stop(*_):
        raise ZeroDivisionError

    def once() -> None:
        for options in ({}, {"dtype": "float64", "batch_norm": True, "dropout": 0.2},
                        {"compute_dtype": "bfloat16"}):
            model, optimizer = MLP(layers, seed=0, **options), Adam(1e-3, clip_norm=1.0)
            fit = {"epochs": 1, "batch_size": 250, "optimizer": optimizer, "progress": False}
            for samples in (X, X.astype(">f8"), X[:, ::-1], rows):
                model.fit(samples, y, **fit)
                model.predict(samples)
            model.fit(X, y, **fit, callbacks=[Diagnostics(1, warn=False)], log_steps=True)
            model.fit(Chunks([(X[:99], y[:99]), (X[99:], y[99:])]), **fit)
            model.train_step(X[:7], y[:7], optimizer)
            model.loss_and_gradients(X, y)
            model.hidden(X)
            handle = model.compile_predict(threads=2)
            handle(X), handle(X[:1]), handle(X[::2].tolist())
            model.save("model.safetensors", optimizer=optimizer)
            fastmlp.load("model.safetensors", optimizer=Adam(1e-3))
            refused(model.fit, X, y, **fit, callbacks=[stop])
            refused(model.fit, X[:, :3], y, **fit)
            refused(model.forward, X, out=X)
            refused(handle, X[:, :3])
        for dtype in ("f4", "f8"):
            x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((70, 90), (90, 50), (50,)))
            z = F.dense_forward(x, w, b, activation="gelu")
            F.dense_backward(z, x, w, z, "tanh"), F.softmax(z), F.relu(z[:, ::2])
            refused(F.dense_forward, x, b, w)
        model = MLP([40, 5], loss=own_loss, seed=0)
        model.fit(X, np.zeros((500, 5), "f4"), epochs=1, batch_size=250, optimizer=SGD(0.1), progress=False)
        if leak:
            allocate(123)
            kept.extend([[], []])

    allocate = ctypes.PyDLL(None).PyMem_RawMalloc
    allocate.restype = None
    kept: list[object] = []
    for number in range(count):
        once()
        if number == FEW - 1:
            gc.collect()
            before = len(gc.get_objects())
    gc.collect()
    print("objects", len(gc.get_objects()) - before)


def grown(few: Counter[str], many: Counter[str]) -> dict[str, int]:
    """Places that lose a block a round at least."""
    return {stack: number for stack, number in (many - few).items() if number >= MANY - FEW}


def lost(count: int, leak: str = "") -> tuple[Counter[str], int]:
    """Blocks lost, by the stack of their allocation; objects of Python that so many rounds leave."""
    options = os.environ.get("ASAN_OPTIONS", "").replace("detect_leaks=0", "") + ":detect_leaks=1"
    environment = {**os.environ, "ASAN_OPTIONS": options, "LSAN_OPTIONS": "exitcode=0:max_leaks=0",
                   "PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run([sys.executable, os.path.abspath(__file__), "--rounds", str(count), leak],
                                cwd=folder, env=environment, capture_output=True, text=True)
    if result.returncode or "LeakSanitizer" not in result.stderr:
        sys.exit(f"no report of LeakSanitizer:\n{result.stdout}{result.stderr}")
    blocks: Counter[str] = Counter()
    for _, objects, stack in RECORD.findall(result.stderr):
        blocks[re.sub(r"0x[0-9a-f]+", "", stack)] += int(objects)
    return blocks, int(result.stdout.split()[-1])


def main() -> None:
    if sys.argv[1:2] == ["--rounds"]:
        return rounds(int(sys.argv[2]), sys.argv[3])
    (few, _), (many, objects), (on_purpose, more_objects) = lost(FEW), lost(MANY), lost(MANY, "on purpose")
    places = grown(few, many)
    for stack, number in places.items():
        print(f"{number} blocks more after {MANY - FEW} rounds more, allocated at\n{stack}")
    print(f"{len(places)} places lose memory; {objects} objects are left of {MANY - FEW} rounds")
    if places or objects >= MANY - FEW:
        sys.exit(1)
    if not grown(few, on_purpose) or more_objects < MANY - FEW:
        sys.exit("leaks that were made on purpose are not seen")


if __name__ == "__main__":
    main()
