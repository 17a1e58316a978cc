"""Tiles of AMX: the emulation against silicon, the machine code of the real ones, what guards their use.

All that uses tiles is tested by tests/test_bfloat16.py where the emulation was built (FASTMLP_EMULATE_AMX=1),
or where the processor has AMX.
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
from fastmlp.backends.numpy import bfloat16
from fastmlp.kernels import _known_answer

SILICON = Path(__file__).parent / "data" / "bf16_silicon_small.npz"
HEADERS = Path(kernels.__file__).parent
COMPILER = shutil.which("gcc") or shutil.which("clang")
REAL = importlib.util.find_spec("fastmlp.kernels.avx512_bf16_amx")
WAYS = [(isa, way) for isa in kernels.available_isas() for way in kernels.available_bfloat16(isa)]

x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86-64")


# The emulation -------------------------------------------------------------------------------------------

PROGRAM = """
#define FASTMLP_BF16_amx_emulated
#include "amx.h"
#include <stdio.h>

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
        enter_tiles();
        tile_load(3, c[0], 20);
        tile_load(5, a[0], 16);
        tile_load(7, b[0], 33);
        tile_multiply(3, 5, 7);
        tile_store(3, c[0], 20);
        leave_tiles();
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
    case 'e': enter_tiles(); enter_tiles(); break;
    case 'l': leave_tiles(); break;
    case 'z': tile_zero(0); break;
    case 'o': enter_tiles(); tile_load(0, c[0], 16); leave_tiles(); tile_store(0, c[0], 16); break;
    case 't': enter_tiles(); tile_zero(8); break;
    case 's': enter_tiles(); tile_multiply(1, 1, 2); break;
    default: enter_tiles(); leave_tiles(); enter_tiles(); tile_zero(7); leave_tiles();
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    has_fma = {"avx2", "avx512"} & set(kernels.available_isas())
    if COMPILER is None or platform.machine() != "x86_64" or not has_fma:
        pytest.skip("needs a C compiler, x86-64 and FMAs")
    folder = tmp_path_factory.mktemp("amx")
    (folder / "program.c").write_text(PROGRAM)
    command = [COMPILER, "-O2", "-mfma", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-I", HEADERS,
               "program.c", "-o", "program", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "program"


def test_the_emulation_against_silicon(program):
    """TDPBF16PS: normal numbers, many magnitudes, near underflow, subnormal operands, overflow, NaN."""
    recorded = np.load(SILICON)
    c, a, b, expected = (recorded[f"amx_{name}"] for name in ("c", "a", "b", "result"))
    tiles, rows = c.shape[:2]
    stream = b""
    for i in range(tiles):
        sums, factors = np.zeros((16, 16), np.float32), np.zeros((16, 32), np.uint16)
        sums[:rows], factors[:rows] = c[i], a[i]
        stream += sums.tobytes() + factors.tobytes() + b[i].astype(np.uint16).tobytes()
    result = subprocess.run([program], input=stream, capture_output=True, timeout=60)
    assert result.returncode == 0
    found = np.frombuffer(result.stdout, np.float32).reshape(tiles, 16, 16)[:, :rows]
    assert ((found.view(np.uint32) == expected.view(np.uint32)) | np.isnan(found) & np.isnan(expected)).all()


@pytest.mark.parametrize("wrong", ["enter twice", "leave first", "zero outside", "outside again", "tile 8",
                                   "same tile"])
def test_the_emulation_ends_the_process_where_tiles_are_misused(program, wrong):
    assert subprocess.run([program, wrong], timeout=60).returncode == -signal.SIGILL
    assert subprocess.run([program, "no fault"], timeout=60).returncode == 0


# The real ones -------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def code():
    """Machine code of the module with the instructions, {function: [instruction, ...]}."""
    if REAL is None or shutil.which("objdump") is None:
        pytest.skip("needs the module of AMX, and objdump")
    command = ["objdump", "-d", "--no-show-raw-insn", REAL.origin]
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


def test_instructions_and_their_registers(code):
    lines = [line for lines in code.values() for line in lines]
    products = {line for line in lines if line.startswith("tdp")}
    assert products == {f"tdpbf16ps %tmm{b},%tmm{a},%tmm{c}"
                        for c, a, b in ((0, 4, 6), (1, 4, 7), (2, 5, 6), (3, 5, 7))}
    loads = [re.fullmatch(r"tileloadd? \(%r\w+,%r\w+,1\),%tmm([0-7])", line)
             for line in lines if line.startswith("tileload")]
    assert {match[1] for match in loads} == set("01234567")
    stores = [re.fullmatch(r"tilestored %tmm([0-3]),\(%r\w+,%r\w+,1\)", line)
              for line in lines if line.startswith("tilestore")]
    assert {match[1] for match in stores} == set("0123")
    assert {line for line in lines if line.startswith("tilezero")} == {f"tilezero %tmm{t}" for t in range(4)}
    assert not any(line.startswith("vdpbf16ps") for line in lines)


def test_tiles_are_configured_where_kernels_begin_and_released_where_they_end(code):
    """By the same functions, none of which uses tiles itself; and the others do neither."""
    begin, end = functions_with(code, "ldtilecfg"), functions_with(code, "tilerelease")
    use = functions_with(code, "tilezero", "tileloadd", "tilestored", "tdpbf16ps")
    assert begin == end and begin and use and not begin & use
    assert all("strip" in name for name in use), use
    assert len(begin) <= 8, begin


def test_the_configuration_is_eight_whole_tiles(code):
    places = {int(match[1], 16) for lines in code.values() for line in lines
              if (match := re.search(r"^ldtilecfg .*# ([0-9a-f]+)", line))}
    assert len(places) == 1
    place = places.pop()
    command = ["objdump", "-s", f"--start-address={place}", f"--stop-address={place + 64}", REAL.origin]
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


def run_python(code, **environment):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "FASTMLP_BF16": "", **environment})


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
kernels._bfloat16 = "amx"
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


@x86_64
@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs Linux")
def test_the_system_is_asked_for_tiles():
    text = Path("/proc/cpuinfo").read_text()
    if "amx_tile" not in text.split():
        assert not kernels._detect.gets_tiles()
    elif kernels._detect.supported_bf16()["amx"][0]:
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
