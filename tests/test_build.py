"""What setup.py does where not everything is as on the machines that build wheels; nothing is compiled."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(not (TREE / "setup.py").exists(), reason="the tests run without the tree")


def run(tmp_path, *command, **environment):
    """Run Python in a copy of the tree without binaries."""
    copy = tmp_path / "tree"
    shutil.copytree(TREE / "fastmlp", copy / "fastmlp",
                    ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.pyd"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(TREE / name, copy)
    return subprocess.run([sys.executable, *command], cwd=copy, env={**os.environ, **environment},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)


@pytest.mark.skipif(sys.platform == "win32", reason="CC is not looked at")
def test_no_compiler_is_said_at_once(tmp_path):
    """Not that the compiler does not know AVX-512, after which the texts would be translated for nothing."""
    result = run(tmp_path, "setup.py", "build_ext", "--build-lib", "lib", "--build-temp", "temp",
                 CC="/nonexistent/cc")
    assert result.returncode != 0
    assert result.stdout.splitlines()[-1].startswith("error: no C compiler: /nonexistent/cc ")
    assert "NOTICE" not in result.stdout and "is translated" not in result.stdout


@pytest.mark.parametrize("asked, message", [
    ("avx3, portable", "FASTMLP_BUILD_ISAS: unknown 'avx3'"),
    ("neon" if platform.machine() in ("x86_64", "AMD64") else "avx2", "FASTMLP_BUILD_ISAS: cannot build "),
])
def test_instruction_sets_that_cannot_be_built(tmp_path, asked, message):
    """Not an installation without kernels."""
    result = run(tmp_path, "setup.py", "build_ext", "--build-lib", "lib", "--build-temp", "temp",
                 FASTMLP_BUILD_ISAS=asked)
    assert result.returncode != 0
    assert message in result.stdout.splitlines()[-1]


README = """
import setuptools
from distutils.core import run_setup
metadata = run_setup("setup.py", stop_after="init").metadata
print(metadata.long_description_content_type, metadata.long_description, sep=chr(10))
"""


def test_links_of_the_readme_lead_somewhere_from_pypi(tmp_path):
    """Every one, to a file that is there."""
    result = run(tmp_path, "-c", README, PYTHONUTF8="1")
    kind, _, text = result.stdout.partition("\n")
    links = re.findall(r"\]\((.*?)\)", text)
    own = re.findall(r"\]\(((?!https?:|#).*?)\)", (TREE / "README.md").read_text(encoding="utf-8"))
    addresses = ("https://github.com/fastmlp/fastmlp/blob/main/",
                 "https://raw.githubusercontent.com/fastmlp/fastmlp/main/")
    paths = [link.removeprefix(start) for link in links for start in addresses if link.startswith(start)]
    assert kind == "text/markdown" and len(own) > 20 and paths == own
    assert all(link.startswith(("https://", "#")) for link in links)
    assert [path for path in paths if not (TREE / path.partition("#")[0]).exists()] == []


LINKER = """
import setuptools
from distutils.ccompiler import new_compiler
from distutils.core import run_setup
from distutils.sysconfig import customize_compiler
build = run_setup("setup.py", stop_after="init").get_command_obj("build_ext")
build.compiler = new_compiler()
customize_compiler(build.compiler)
build.choose_compiler()
print(*build.compiler.linker_so)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="CFLAGS are not looked at")
def test_flags_of_the_caller_do_not_reach_every_process(tmp_path):
    """GCC links what sets flush-to-zero, for the process that imports it, where a flag of these is."""
    flags = ["-ffast-math", "-Ofast", "-funsafe-math-optimizations"]
    result = run(tmp_path, "-c", LINKER, CFLAGS=" ".join([*flags, "-fno-plt"]), LDFLAGS="-ffast-math")
    assert result.returncode == 0, result.stdout
    words = result.stdout.split()
    assert "-fno-plt" in words and not set(flags) & set(words)


CHOICE = """
import setuptools
from distutils.ccompiler import new_compiler
from distutils.core import run_setup
from distutils.sysconfig import customize_compiler
build = run_setup("setup.py", stop_after="init").get_command_obj("build_ext")
build.ensure_finalized()
build.compiler = new_compiler()
customize_compiler(build.compiler)
build.choose_compiler()
choices = build.build_extensions.__globals__
print("known:", [way for way in choices["BF16"] if build.can_build_bf16(way, list(choices["ISAS"]))])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="CFLAGS are not looked at")
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_flags_that_warn_take_no_kernels_away(tmp_path, compiler):
    """Clang warns of what only the linker or GCC makes use of, as in the flags of Fedora's Python."""
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    known = []
    for flags in "-O2", "-O2 -Wl,-O1 -ffat-lto-objects":
        result = run(tmp_path / str(len(flags)), "-c", CHOICE, CC=compiler, CFLAGS=flags)
        known += [line for line in result.stdout.splitlines() if line.startswith("known:")]
    assert len(known) == 2 and known[0] == known[1]
    assert known[0].endswith("'fma']")


WIDER = CHOICE + """
names = "SSE3", "SSE4_2", "POPCNT", "AVX", "FMA", "BMI2", "AVX512F"
wider = " || ".join(f"defined(__{name}__)" for name in names)
print(build.takes(f"#if {wider}\\n#error\\n#endif\\nint i;\\n", choices["BASELINE"]["x86_64"]),
      all(build.can_build(isa) for isa in ("avx512", "avx2")))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="CFLAGS are not looked at")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have none to widen")
@pytest.mark.parametrize("flags", ["-march=native", "-mavx2 -mfma", "-march=haswell -mavx512vl -mbmi2"])
def test_flags_of_the_caller_widen_no_instruction_set(tmp_path, flags):
    """What detects them, and the portable kernels, run on every processor."""
    result = run(tmp_path, "-c", WIDER, CFLAGS=flags)
    assert result.stdout.splitlines()[-1] == "True True", result.stdout


COPY = """
import shutil
import setuptools
from distutils.core import run_setup
from pathlib import Path
build = run_setup("setup.py", stop_after="init").get_command_obj("build_ext")
Path("from").write_bytes(b"new" * 1000)
build.copy_file("from", "to")
assert Path("to").read_bytes() == b"new" * 1000
Path("from").write_bytes(b"newer" * 1000)
def full(source, target):
    Path(target).write_bytes(Path(source).read_bytes()[:-10])
    raise OSError(28, "no space left on device")
shutil.copy2 = full
try:
    build.copy_file("from", "to")
except OSError:
    print(Path("to").read_bytes() == b"new" * 1000, [path.name for path in Path().glob("*to")])
"""


def test_no_part_of_a_binary_is_left(tmp_path):
    """Its hash is not at its end: on a full disk a part could be taken for one that is up to date."""
    result = run(tmp_path, "-c", COPY)
    assert result.stdout.splitlines()[-1] == "True ['to']"


UNIVERSAL = """
import os, platform, sysconfig
sysconfig.get_platform = lambda: os.environ.get("_PYTHON_HOST_PLATFORM", "macosx-10.13-universal2")
platform.machine = lambda: "arm64"
import setuptools
from distutils.core import run_setup
build = run_setup("setup.py", stop_after="init").get_command_obj("build_ext")
build.ensure_finalized()
print(os.environ["ARCHFLAGS"], build.plat_name)
"""


@pytest.mark.parametrize("asked, expected", [
    (None, "-arch arm64 macosx-11.0-arm64"),
    ("-arch x86_64", "-arch x86_64 macosx-11.0-x86_64"),
    ("-arch arm64 -arch x86_64", "ARCHFLAGS: expected one -arch"),
])
def test_a_python_of_two_processors_builds_for_one(tmp_path, asked, expected):
    """As python.org has it for macOS: a compilation for both at once can have neither's instructions."""
    result = run(tmp_path, "-c", UNIVERSAL, ARCHFLAGS=asked or "")
    assert expected in result.stdout.splitlines()[-1]
    assert (result.returncode == 0) == (asked is None or asked.count("-arch") == 1)
