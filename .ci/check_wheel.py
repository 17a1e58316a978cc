"""Checks a wheel of Linux: its modules, its size, and that systems as old as its name says run it.

Which modules there have to be is asked of setup.py: a compiler that does not know an instruction set leaves
its modules out.

    python .ci/check_wheel.py WHEEL
"""
from __future__ import annotations

import os
import sys
from distutils.core import run_setup
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

LARGEST = 6_000_000             # bytes
ISAS = {"x86_64": ("avx512", "avx2", "portable"), "aarch64": ("neon", "portable")}
MACHINES = {"x86_64": "x64", "aarch64": "AArch64"}
NEWEST = {"x86_64": (2, 14), "aarch64": (2, 17)}        # versions of glibc's names; manylinux2014 has 2.17


def check(path: Path) -> None:
    tag = path.stem.split("-")[-1]
    assert tag.startswith("manylinux") and "manylinux2014" in tag, f"{path.name}: not of manylinux2014"
    architecture = next(name for name in ISAS if tag.endswith(name))
    size = path.stat().st_size
    assert size <= LARGEST, f"{path.name} has {size:,} bytes"
    with ZipFile(path) as wheel:
        binaries = {name: wheel.read(name) for name in wheel.namelist() if name.endswith(".so")}
        names = {name.split(".")[0] for name in binaries}
        assert names == modules(architecture), sorted(names ^ modules(architecture))
        for suffix in ("LICENSE", "py.typed", "kernels/cython_api.pxd", "data/digits.npz"):
            assert any(name.endswith(suffix) for name in wheel.namelist()), f"{path.name} has no {suffix}"
    newest = max(check_binary(name, binary, architecture) for name, binary in binaries.items())
    print(f"{path.name}: {size:,} bytes, {len(binaries)} modules of {', '.join(ISAS[architecture])}, "
          f"no name newer than GLIBC_{newest[0]}.{newest[1]}")


def modules(architecture: str) -> set[str]:
    """Paths of all that is compiled for it, without the end of their names."""
    os.chdir(Path(__file__).parent.parent)
    isas = (None, *ISAS[architecture])
    return {ext.name.replace(".", "/") for ext in run_setup("setup.py", stop_after="init").ext_modules
            if ext.isa in isas}


def check_binary(name: str, binary: bytes, architecture: str) -> tuple[int, ...]:
    """The newest version of glibc that a name in it is of."""
    elf = ELFFile(BytesIO(binary))
    assert elf.get_machine_arch() == MACHINES[architecture], f"{name} is for {elf.get_machine_arch()}"
    newest: tuple[int, ...] = (2, 0)
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            tags = {tag.entry.d_tag for tag in section.iter_tags()}
            assert not tags & {"DT_RPATH", "DT_RUNPATH"}, f"{name} has a search path of another machine"
        if isinstance(section, GNUVerNeedSection):
            for _, versions in section.iter_versions():
                for version in versions:
                    if version.name.startswith("GLIBC_"):
                        newest = max(newest, tuple(map(int, version.name.removeprefix("GLIBC_").split("."))))
    assert newest <= NEWEST[architecture], f"{name} has names of glibc {newest}"
    return newest


for argument in sys.argv[1:]:
    check(Path(argument).resolve())
