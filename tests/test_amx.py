"""Tiles of AMX: the emulation against silicon, the machine code of the real ones, what guards their use.

All that uses tiles is tested by tests/test_bfloat16.py and tests/test_int8.py where the emulation was built
(FASTMLP_EMULATE_AMX=1), or where the processor has AMX.
"""
from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastmlp import kernels
from fastmlp._core.int8 import Int8Layer
from fastmlp.activations import resolve
from fastmlp.backends.numpy import bfloat16, int8
from fastmlp.kernels import _known_answer

SILICON = Path(__file__).parent / "data" / "bf16_silicon_small.npz"
HEADERS = Path(kernels.__file__).parent
COMPILER = shutil.which("gcc") or shutil.which("clang")
WAYS = [(isa, way) for isa in kernels.available_isas() for way in kernels.available_bfloat16(isa)]
INT8_WAYS = [(isa, way) for isa in kernels.available_isas() for way in kernels.available_int8(isa)]
# What multiplies tiles, and the module that has the instruction.
REAL = {"tdpbf16ps": ("amx" in kernels._detect.built_bf16(), "fastmlp.kernels.avx512_bf16_amx"),
        "tdpbusd": ("amx" in kernels._detect.built_int8(), "fastmlp.kernels.avx512_f32")}

x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86-64")


# The emulation -------------------------------------------------------------------------------------------

PROGRAM = """
#include "amx.h"
#include <stdio.h>
#include "fpmode.h"

/* c + a b of tiles in a stream of (c, a, b), with the thread's mode as it was. */
static int products(void) {
    static float c[16][20], a[16][16], b[16][33];
    fp_mode before = enter_kernel_mode();
    leave_kernel_mode(before);
    for (;;) {
        for (int i = 0; i < 16; i++)
            if (fread(c[i], 64, 1, stdin) != 1) return 0;
        if (fread(a, sizeof a, 1, stdin) != 1) return 1;
        for (int i = 0; i < 16; i++)
            if (fread(b[i], 64, 1, stdin) != 1) return 1;
        enter_tiles(1);
        tile_load(3, c[0], 20);
        tile_load(5, a[0], 16);
        tile_load(7, b[0], 33);
        tile_multiply(3, 5, 7);
        tile_store(3, c[0], 20);
        leave_tiles(1);
        for (int i = 0; i < 16; i++) fwrite(c[i], 64, 1, stdout);
        fp_mode after = enter_kernel_mode();
        leave_kernel_mode(after);
        if (after != before) return 2;
    }
}

int main(int count, char **words) {
    static float c[16][16];
    switch (count > 1 ? words[1][0] : 'p') {
    case 'p': return products();
    case 'e': enter_tiles(1); enter_tiles(1); break;
    case 'l': leave_tiles(1); break;
    case 'z': tile_zero(0); break;
    case 'o': enter_tiles(1); tile_load(0, c[0], 16); leave_tiles(1); tile_store(0, c[0], 16); break;
    case 't': enter_tiles(1); tile_zero(8); break;
    case 's': enter_tiles(1); tile_multiply(1, 1, 2); break;
    default:
        enter_tiles(0); leave_tiles(0);
        enter_tiles(1); leave_tiles(1);
        enter_tiles(1); tile_zero(7); leave_tiles(1);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Of both emulations, by what operands are."""
    has_fma = {"avx2", "avx512"} & set(kernels.available_isas())
    if COMPILER is None or platform.machine() != "x86_64" or not has_fma:
        pytest.skip("needs a C compiler, x86-64 and FMAs")
    folder = tmp_path_factory.mktemp("amx")
    (folder / "program.c").write_text(PROGRAM)
    for kind in ("BF16", "INT8"):
        command = [COMPILER, "-O2", "-mfma", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror",
                   f"-DFASTMLP_{kind}_amx_emulated", "-I", HEADERS, "program.c", "-o", kind, "-lm"]
        subprocess.run(command, cwd=folder, check=True)
    return {kind: folder / kind for kind in ("BF16", "INT8")}


@pytest.fixture(params=["BF16", "INT8"])
def program(programs, request):
    return programs[request.param]


def test_the_emulation_against_silicon(programs):
    """TDPBF16PS: normal numbers, many magnitudes, near underflow, subnormal operands, overflow, NaN."""
    recorded = np.load(SILICON)
    c, a, b, expected = (recorded[f"amx_{name}"] for name in ("c", "a", "b", "result"))
    tiles, rows = c.shape[:2]
    stream = b""
    for i in range(tiles):
        sums, factors = np.zeros((16, 16), np.float32), np.zeros((16, 32), np.uint16)
        sums[:rows], factors[:rows] = c[i], a[i]
        stream += sums.tobytes() + factors.tobytes() + b[i].astype(np.uint16).tobytes()
    result = subprocess.run([programs["BF16"]], input=stream, capture_output=True, timeout=60)
    assert result.returncode == 0
    found = np.frombuffer(result.stdout, np.float32).reshape(tiles, 16, 16)[:, :rows]
    assert ((found.view(np.uint32) == expected.view(np.uint32)) | np.isnan(found) & np.isnan(expected)).all()


def test_the_emulation_of_bytes(programs, rng):
    """TDPBUSD, as Intel's manual has it: bytes without a sign by bytes with one, sums that wrap around."""
    tiles = 20
    c = rng.integers(-2**31, 2**31, (tiles, 16, 16), dtype=np.int32)
    a = rng.integers(0, 256, (tiles, 16, 64), dtype=np.uint8)
    b = rng.integers(-128, 128, (tiles, 64, 16), dtype=np.int8)
    a[0], b[0], c[0] = 255, -128, -2**31        # the sum of four alone does not fit in 16 bits
    a[1], b[1], c[1] = 255, 127, 2**31 - 1
    a[2], b[2] = 128, 1
    b_rows = b.reshape(tiles, 16, 4, 16).swapaxes(2, 3)     # four terms of a column beside each other
    stream = b"".join(part.tobytes() for i in range(tiles) for part in (c[i], a[i], b_rows[i]))
    result = subprocess.run([programs["INT8"]], input=stream, capture_output=True, timeout=60)
    assert result.returncode == 0
    found = np.frombuffer(result.stdout, np.int32).reshape(tiles, 16, 16)
    expected = c.astype(np.int64) + a.astype(np.int64) @ b.astype(np.int64)
    np.testing.assert_array_equal(found, (expected + 2**31) % 2**32 - 2**31)


@pytest.mark.parametrize("wrong", ["enter twice", "leave first", "zero outside", "outside again", "tile 8",
                                   "same tile"])
def test_the_emulation_ends_the_process_where_tiles_are_misused(program, wrong):
    assert subprocess.run([program, wrong], timeout=60).returncode == -signal.SIGILL
    assert subprocess.run([program, "no fault"], timeout=60).returncode == 0


# The real ones -------------------------------------------------------------------------------------------

@pytest.fixture(scope="module", params=REAL)
def real(request):
    """What multiplies tiles, and the binary in which it does."""
    is_built, name = REAL[request.param]
    if not is_built or shutil.which("objdump") is None:
        pytest.skip("needs the module of AMX, and objdump")
    return request.param, importlib.util.find_spec(name).origin


@pytest.fixture(scope="module")
def code(real):
    """Machine code of that binary, {function: [instruction, ...]}."""
    command = ["objdump", "-d", "--no-show-raw-insn", real[1]]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    functions: dict[str, list[str]] = {}
    for line in text.splitlines():
        if match := re.match(r"[0-9a-f]+ <(.+)>:", line):
            here = functions.setdefault(match[1], [])
        elif "\t" in line:
            here.append(" ".join(line.split("\t")[1].split()))
    return functions


def functions_with(code, *names):
    return {function for function, lines in code.items()
            if any(line.split()[0] in names for line in lines if line)}


def test_instructions_and_their_registers(code, real):
    lines = [line for lines in code.values() for line in lines]
    products = {line for line in lines if line.startswith("tdp")}
    assert products == {f"{real[0]} %tmm{b},%tmm{a},%tmm{c}"
                        for c, a, b in ((0, 4, 6), (1, 4, 7), (2, 5, 6), (3, 5, 7))}
    place = r"(?:0x0)?\(%r\w+,%r\w+,1\)"
    loads = [re.fullmatch(rf"tileloadd? {place},%tmm([0-7])", line)
             for line in lines if line.startswith("tileload")]
    # Sums of bytes are never taken up again.
    assert {match[1] for match in loads} == set("01234567" if real[0] == "tdpbf16ps" else "4567")
    stores = [re.fullmatch(rf"tilestored %tmm([0-3]),{place}", line)
              for line in lines if line.startswith("tilestore")]
    assert {match[1] for match in stores} == set("0123")
    assert {line for line in lines if line.startswith("tilezero")} == {f"tilezero %tmm{t}" for t in range(4)}
    assert not any(line.startswith("vdpbf16ps") for line in lines)


def test_tiles_are_configured_where_kernels_begin_and_released_where_they_end(code, real):
    """By the same functions, none of which uses tiles itself; and the others do neither."""
    begin, end = functions_with(code, "ldtilecfg"), functions_with(code, "tilerelease")
    use = functions_with(code, "tilezero", "tileloadd", "tilestored", real[0])
    assert begin == end and begin and use and not begin & use
    assert all("strip" in name or "layer8" in name for name in use), use
    assert len(begin) <= 8, begin
    if real[0] == "tdpbusd":        # its module trains in float32, too, where there are no tiles
        assert all(name.endswith("_infer") for name in begin), begin


def test_the_configuration_is_eight_whole_tiles(code, real):
    places = {int(match[1], 16) for lines in code.values() for line in lines
              if (match := re.search(r"^ldtilecfg .*# ([0-9a-f]+)", line))}
    assert len(places) == 1
    place = places.pop()
    command = ["objdump", "-s", f"--start-address={place}", f"--stop-address={place + 64}", real[1]]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    words = re.findall(r"^ [0-9a-f]+ ((?:[0-9a-f]{2,8} ){1,4})", text, re.M)
    found = bytes.fromhex("".join(words).replace(" ", ""))
    row_bytes = np.array([64] * 8 + [0] * 8, "<u2").tobytes()
    assert found == bytes([1] + [0] * 15) + row_bytes + bytes([16] * 8 + [0] * 8)


# What guards their use -----------------------------------------------------------------------------------

def test_the_known_answer_is_that_of_the_specification():
    x, w, d = _known_answer.operands()
    dw = np.empty_like(w)
    bfloat16.transposed_product(x, d, dw)
    products = bfloat16.product(x, w), bfloat16.product(d, w.T), dw
    assert _known_answer.checksum(*products) == _known_answer.ANSWER


def test_the_known_answer_tells_orders_apart():
    """Sums in float64, rounded once, are others in every product."""
    x, w, d = (bfloat16.rounded(a) for a in _known_answer.operands())
    for a, b in ((x, w), (d, w.T), (x.T, d)):
        exact = (a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
        assert (bfloat16.product(a, b) != exact).mean() > 0.3


@pytest.mark.parametrize(("isa", "way"), WAYS, ids=str)
def test_who_gives_the_known_answer(isa, way):
    """Everything that computes in bfloat16, and not the kernels of float32."""
    assert _known_answer.is_given_by(kernels.load_bfloat16(isa, way))
    assert not _known_answer.is_given_by(kernels.load(isa, "float32"))


def test_the_known_answer_in_int8_is_that_of_the_specification():
    x, (v, scales, biases) = _known_answer.operands()[0], _known_answer.layer_in_int8()
    y = int8.dense(x, Int8Layer(v, scales, biases, resolve("identity")))
    assert _known_answer.checksum(y) == _known_answer.ANSWER_IN_INT8
    q, _, z = int8.quantised_rows(x)
    assert q.min() == 0 and q.max() == 255 and (z > 0).all()        # both signs of x, and bytes beyond 127
    assert v.min() == -127 and v.max() == 127


@pytest.mark.parametrize(("isa", "way"), INT8_WAYS, ids=str)
def test_who_gives_the_known_answer_in_int8(isa, way, monkeypatch):
    module = kernels.load_int8(isa, way)
    assert _known_answer.is_given_in_int8_by(module, way)
    monkeypatch.setattr(_known_answer, "ANSWER_IN_INT8", _known_answer.ANSWER_IN_INT8 + 1)
    assert not _known_answer.is_given_in_int8_by(module, way)


def run_python(code, **environment):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "FASTMLP_BF16": "", "FASTMLP_INT8": "", **environment})


FALLBACK = """
import warnings
import fastmlp
from fastmlp import kernels
{fault}
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for _ in range(2):
        model = fastmlp.MLP([3, 2], compute_dtype="bfloat16")
print(kernels.active_bfloat16(), kernels.unfit_bfloat16(), type(model.core.engine._engine).__module__)
print(*(warning.message for warning in seen), sep="\\n")
"""


def test_other_bits_than_the_known_ones_fall_back_with_one_warning():
    best = kernels.available_bfloat16()[0]
    result = run_python(FALLBACK.format(fault="kernels._known_answer.ANSWER += 1"))
    assert result.returncode == 0, result.stderr
    first, *warnings = result.stdout.splitlines()
    if best == "fma":
        assert first.startswith("fma {}")
        return
    name, rest = first.split(" ", 1)
    assert name == "fma" and rest.endswith(f"fastmlp.kernels.{kernels.active_isa()}_bf16_fma")
    assert f"'{best}': 'other bits than the known ones'" in rest
    assert len(warnings) == 1
    assert f"by '{best}' failed (other bits than the known ones)" in warnings[0]
    assert warnings[0].endswith("'fma' computes the same bits in its place")


@x86_64
def test_a_system_that_does_not_give_tiles():
    """A processor that says it has AMX, as far as Python sees, and a system that refuses."""
    fault = """
detected = kernels._detect.supported_bf16
kernels._detect.supported_bf16 = lambda: {**detected(), "amx": (True, True)}
kernels._detect.built_bf16 = lambda: ["amx", "fma"]
kernels._detect.gets_tiles = lambda: False
kernels._BESIDE["amx"] = kernels.active_isa()
kernels._bfloat16.active = "amx"
try:
    kernels.load_bfloat16(kernels.active_isa(), "amx")
except ValueError as error:
    assert "does not give this process tiles" in str(error)
else:
    raise AssertionError
"""
    result = run_python(FALLBACK.format(fault=fault))
    assert result.returncode == 0, result.stderr
    first, *warnings = result.stdout.splitlines()
    assert first.startswith("fma {'amx': 'the operating system does not give this process tiles'}")
    assert len(warnings) == 1 and "'fma' computes the same bits" in warnings[0]


INT8_FALLBACK = """
import warnings
import numpy as np
import fastmlp
from fastmlp import kernels
best = kernels.available_int8()[0]
detected = kernels._detect.supported_int8()
kernels._detect.supported_int8 = lambda: {**detected, "amx": True}
kernels._detect.built_int8 = lambda: ["amx", *detected]
kernels._BESIDE["amx"] = kernels.active_isa()
kernels._int8.active = "amx"
kernels._int8.is_fit = False
FAULT
X = np.random.default_rng(0).standard_normal((40, 70)).astype(np.float32)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for _ in range(2):
        fastmlp.MLP([70, 20], seed=0).compile_predict(dtype="int8")(X)
assert kernels.active_int8() == kernels.available_int8()[0] != "amx"
print(kernels.unfit_int8())
print(*(warning.message for warning in seen), sep="\\n")
try:
    kernels.load_int8(kernels.active_isa(), "amx")
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize(("fault", "why"), [
    ("kernels._detect.gets_tiles = lambda: False", "the operating system does not give this process tiles"),
    ("kernels._detect.gets_tiles = lambda: True;"
     "kernels._known_answer.is_given_in_int8_by = lambda module, name: False",
     "other bits than the known ones"),
])
def test_int8_falls_back_with_one_warning(fault, why):
    """A processor that has AMX, as far as Python sees, and is refused tiles, or computes other bits."""
    result = run_python(INT8_FALLBACK.replace("FAULT", fault))
    assert result.returncode == 0, result.stderr
    unfit, warning, error = result.stdout.splitlines()
    assert unfit == str({"amx": why})
    assert warning.startswith(f"dtype: int8 by 'amx' failed ({why}); ")
    assert warning.endswith("computes the same bits in its place")
    assert error.startswith(f"int8 by 'amx': {why}; available here: ")


@pytest.mark.skipif("amx_emulated" not in kernels.available_int8(), reason="needs the emulation")
def test_an_int8_that_is_asked_for_and_gives_other_bits_fails_at_import(tmp_path):
    """Another answer is expected from when the module after it is imported."""
    code = """
import importlib.util, sys
class Wrong:
    def find_spec(self, name, path, target=None):
        if name == "fastmlp.kernels._choice":
            sys.modules["fastmlp.kernels"]._known_answer.ANSWER_IN_INT8 += 1
sys.meta_path.insert(0, Wrong())
import fastmlp
"""
    result = run_python(code, FASTMLP_INT8="amx_emulated")
    assert result.returncode != 0
    assert result.stderr.strip().splitlines()[-1] == (
        "ValueError: FASTMLP_INT8: int8 by 'amx_emulated': other bits than the known ones")
    assert run_python("import fastmlp", FASTMLP_INT8="amx_emulated").returncode == 0


@x86_64
@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs Linux")
def test_the_system_is_asked_for_tiles():
    text = Path("/proc/cpuinfo").read_text()
    if "amx_tile" not in text.split():
        assert not kernels._detect.gets_tiles()
        assert not kernels._detect.supported_bf16()["amx"][0] and not kernels._detect.supported_int8()["amx"]
    elif kernels._detect.supported_bf16()["amx"][0] or kernels._detect.supported_int8()["amx"]:
        assert kernels._detect.gets_tiles() and kernels._detect.gets_tiles()


# A kernel never keeps them -------------------------------------------------------------------------------

@pytest.mark.parametrize("way", kernels.available_bfloat16())
def test_other_products_within_a_loss(way):
    """A loss of the caller's own runs between two parts of a kernel, and may run kernels itself: the
    emulation would end the process if tiles were still there."""
    code = """
import numpy as np
import fastmlp
fastmlp.set_num_threads(2)
X = np.random.default_rng(0).standard_normal((200, 70)).astype(np.float32)
other = fastmlp.MLP([70, 40, 3], seed=1, compute_dtype="bfloat16")

def loss(logits, targets):
    other.train_step(X, np.zeros(200, int), fastmlp.SGD(0.01))
    other.forward(X)
    return float(np.mean((logits - targets) ** 2)), 2 * (logits - targets) / logits.size

model = fastmlp.MLP([70, 130, 3], loss=loss, seed=0, compute_dtype="bfloat16")
y = np.ones((200, 3), np.float32)
model.fit(X, y, epochs=2, batch_size=100, optimizer=fastmlp.SGD(0.01), progress=False)
assert np.isfinite(model.forward(X)).all()
print(fastmlp.active_bfloat16())
"""
    result = run_python(code, FASTMLP_BF16=way)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [way]
