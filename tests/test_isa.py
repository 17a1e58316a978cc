"""The instruction set that was asked for is the one that runs, and what cannot be had is an error."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastmlp import kernels

pytestmark = pytest.mark.any_isa

KNOWN = ["avx512", "avx2", "neon", "portable"]
VECTOR_BYTES = {"avx512": {64}, "avx2": {32}, "neon": {16}, "portable": {4, 8, 16}}
PACKAGE = Path(kernels.__file__).parent.parent

REPORT = """
import json, sys
from fastmlp import kernels
modules = [kernels.module(dtype) for dtype in ("float32", "float64")]
kernel_modules = (name for name in sys.modules if name.startswith("fastmlp.kernels."))
print(json.dumps({
    "active": kernels.active_isa(),
    "modules": [[m.__name__, m.ISA, m.DTYPE, m.VECTOR_BYTES] for m in modules],
    "loaded": sorted(name for name in kernel_modules if name.endswith(("_f32", "_f64"))),
}))
"""


def run_python(code, cwd=None, **environment):
    environment = {**os.environ, **environment}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("isa", kernels.available_isas())
def test_forced_isa_is_the_one_that_runs(isa):
    result = run_python(REPORT, FASTMLP_ISA=isa)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["active"] == isa
    assert report["loaded"] == [f"fastmlp.kernels.{isa}_f32", f"fastmlp.kernels.{isa}_f64"]
    for (name, compiled_isa, compiled_dtype, vector_bytes), dtype in zip(
        report["modules"], ["float32", "float64"], strict=True
    ):
        assert name == f"fastmlp.kernels.{isa}_f{dtype[-2:]}"
        assert compiled_isa == isa
        assert compiled_dtype == dtype
        assert vector_bytes in VECTOR_BYTES[isa]


@pytest.mark.skipif("FASTMLP_ISA" in os.environ, reason="an instruction set is forced")
def test_best_isa_is_the_default():
    assert kernels.active_isa() == kernels.available_isas()[0]


@pytest.mark.parametrize("isa", ["avx3", *(isa for isa in KNOWN if isa not in kernels.available_isas())])
def test_isa_that_cannot_be_had_raises_at_import(isa):
    result = run_python("import fastmlp.kernels", FASTMLP_ISA=isa)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError: FASTMLP_ISA")
    assert repr(isa) in last
    assert last.endswith("available here: " + ", ".join(kernels.available_isas()))


def test_load_checks_its_arguments():
    with pytest.raises(ValueError, match="'avx3': no such instruction set; available here: .*portable"):
        kernels.load("avx3", "float32")
    with pytest.raises(ValueError, match="float16"):
        kernels.load("portable", "float16")


@pytest.mark.parametrize("damage", ["broken", "missing"])
def test_variant_that_fails_to_import_is_an_error(tmp_path, damage):
    """Not even the automatic choice steps over the best variant when it does not import."""
    copy = shutil.copytree(PACKAGE, tmp_path / "fastmlp", ignore=shutil.ignore_patterns("__pycache__"))
    isa = kernels.available_isas()[0]
    (binary,) = (path for path in (copy / "kernels").glob(f"{isa}_f32.*") if path.suffix in (".so", ".pyd"))
    if damage == "broken":
        binary.write_bytes(b"not a library")
    else:
        binary.unlink()
    result = run_python("import fastmlp.kernels", cwd=tmp_path, PYTHONPATH=str(tmp_path), FASTMLP_ISA="")
    assert result.returncode != 0
    assert str(copy) in result.stderr
    assert re.search(r"(ImportError|ModuleNotFoundError): ", result.stderr)
    assert f"{isa}_f32" in result.stderr


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="needs Linux")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86-64")
def test_detector_agrees_with_the_kernel():
    flags = set(re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.M)[1].split())
    supported = kernels._detect.supported()
    assert supported["avx2"] == ({"avx2", "fma"} <= flags)
    assert supported["avx512"] == ({"avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags)
    assert not supported["neon"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86-64")
@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("isa", kernels._detect.built())
def test_machine_code_is_of_its_isa(isa, dtype):
    """The binaries hold the registers of their own instruction set, and none of a wider one."""
    (binary,) = (PACKAGE / "kernels").glob(f"{isa}_{dtype}.*.so")
    code = subprocess.run(["objdump", "-d", binary], capture_output=True, text=True, check=True).stdout
    uses = {register: f"%{register}" in code for register in ("ymm", "zmm")}
    assert uses["zmm"] == (isa == "avx512")
    assert uses["ymm"] or isa == "portable"
    assert not (uses["ymm"] and isa == "portable")
    assert ("vfmadd" in code) == (isa != "portable")
