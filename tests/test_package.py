"""What is installed: version, types, data, and binaries that were built from the texts beside them."""

import ast
import hashlib
import importlib
import inspect
import os
import pkgutil
import platform
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata, resources
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import fastmlp
from fastmlp import kernels
from fastmlp.kernels import ops

pytestmark = pytest.mark.any_isa

TREE = Path(__file__).parent.parent


def test_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", fastmlp.__version__)
    assert metadata.version("fastmlp") == fastmlp.__version__


def test_public_names_exist():
    assert len(fastmlp.__all__) == len(set(fastmlp.__all__))
    assert [name for name in fastmlp.__all__ if not hasattr(fastmlp, name)] == []


def test_what_type_checkers_see_is_what_there_is():
    """Names that are imported at first use come from where the block for type checkers has them."""
    tree = ast.parse(Path(fastmlp.__file__).read_text(encoding="utf-8"))
    imported = {alias.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)
                and node.level for alias in node.names}
    assert set(fastmlp.__all__) == set(imported) - {"__version__", "compat", "plot"}
    for name, module in imported.items():
        home = importlib.import_module(f"fastmlp.{module}") if module else fastmlp
        assert getattr(fastmlp, name) is getattr(home, name), name
    assert set(fastmlp.__all__) <= set(dir(fastmlp))
    with pytest.raises(AttributeError, match="module 'fastmlp' has no attribute 'nothing'"):
        fastmlp.nothing     # noqa: B018


PUBLIC = [module.name for module in pkgutil.iter_modules(fastmlp.__path__) if module.name[0] != "_"]


@pytest.mark.parametrize("name", [*PUBLIC, "compat.cs231n", "compat.dlfs", "compat.thinc"])
def test_every_public_module_is_an_attribute(name):
    """`import fastmlp` is enough for `fastmlp.plot`, `fastmlp.sklearn.patch()`, `fastmlp.compat.dlfs`."""
    package, _, module = f"fastmlp.{name}".rpartition(".")
    package = importlib.import_module(package)
    if module in ("backends", "kernels", "version"):        # the package imports them itself
        assert module in vars(package)
    else:
        try:
            assert package.__getattr__(module) is importlib.import_module(f"fastmlp.{name}")
        except ImportError as error:                        # an extra that is not installed
            assert "pip install" in str(error), error
    assert module in dir(package) or module in ("sklearn", "thinc")


def test_members_can_be_listed_without_extras():
    code = """
import inspect, sys
sys.modules["sklearn"] = None
import fastmlp
members = dict(inspect.getmembers(fastmlp))
print("plot" in members, "sklearn" in members)
try:
    fastmlp.sklearn
except ImportError as error:
    print(error)
"""
    listed, _, error = run_plain(code).partition("\n")
    assert listed == "True False"
    assert error.startswith("fastmlp.sklearn: needs scikit-learn") and "fastmlp[sklearn]" in error


def run_plain(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          timeout=60).stdout


def test_importing_it_imports_little():
    """What a program does not use it does not wait for."""
    code = "import sys, fastmlp; print(*sorted(sys.modules))"
    loaded = run_plain(code).split()
    assert f"fastmlp.kernels.{kernels.active_isa()}_f32" in loaded
    ours = {name for name in loaded if name.startswith("fastmlp.")}
    assert not {name for name in ours if name.endswith("_f64") or "bf16" in name}
    assert not ours & {"fastmlp.model", "fastmlp.functional", "fastmlp.optimizers", "fastmlp.data"}
    others = {"tqdm", "safetensors", "json", "difflib", "tempfile", "urllib.request", "multiprocessing"}
    assert not others & set(loaded) - set(run_plain("import sys, numpy; print(*sys.modules)").split())


def test_frozen_programs_have_what_is_imported_by_name():
    """PyInstaller takes along the modules that the hook names."""
    (entry,) = metadata.distribution("fastmlp").entry_points.select(group="pyinstaller40")
    (folder,) = entry.load()()
    hidden = runpy.run_path(str(Path(folder, "hook-fastmlp.py")))["hiddenimports"]
    code = """
import sys
from fastmlp import MLP, use_backend
for name in "cython", "numpy":
    with use_backend(name):
        for options in {"dtype": "float64"}, {"compute_dtype": "bfloat16"}:
            MLP([2, 3, 2], **options).fit([[1.0, 2.0]], [1], epochs=1, progress=False)
print(*(name for name in sys.modules if name.startswith("fastmlp.")))
"""
    loaded = {name for name in run_plain(code).split()
              if name.rpartition(".")[0] in ("fastmlp.backends", "fastmlp.kernels")}
    assert {f"fastmlp.kernels.{kernels.active_isa()}_f64", "fastmlp.kernels._memoryviews",
            "fastmlp.backends.numpy"} <= loaded <= set(hidden)


def test_an_archive_is_no_place_for_it(tmp_path):
    package, archive = Path(fastmlp.__file__).parent, tmp_path / "fastmlp.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in package.rglob("*.py"):
            file.write(path, path.relative_to(package.parent))
    code = f"import sys; sys.path.insert(0, {str(archive)!r}); import fastmlp; fastmlp.MLP([2, 1])"
    error = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr
    assert "compiled modules cannot be imported from an archive" in error and str(archive) in error


def test_no_module_hides_a_name():
    """Whoever imports fastmlp.x would find the module where fastmlp.x is to be a function or a class."""
    modules = {module.name for module in pkgutil.iter_modules(fastmlp.__path__)}
    named = {name for name in fastmlp.__all__ if not isinstance(getattr(fastmlp, name), ModuleType)}
    assert not modules & named


def test_other_processes_get_it_by_name():
    """Functions that use it go to processes of joblib and dask by cloudpickle, which knows plain modules."""
    assert type(fastmlp) is ModuleType


def test_types_are_shipped():
    assert resources.files("fastmlp").joinpath("py.typed").is_file()
    assert resources.files("fastmlp.kernels").joinpath("_detect.pyi").is_file()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("isa", kernels.available_isas())
def test_stub_describes_the_kernel_modules(isa, dtype):
    module = kernels.load(isa, dtype)
    stub = ast.parse(resources.files("fastmlp.kernels").joinpath("kernels.pyi").read_text())
    (face,) = (node for node in stub.body if isinstance(node, ast.ClassDef))
    described = {f"array_{name}": ["x", "out"] for name in (
        *ops.FUNCTIONS, *(f.name for f in ops.ACTIVATIONS if f.name != "identity" and not f.alpha))}
    described |= {
        f.name: [a.arg for a in f.args.args + f.args.kwonlyargs]
        for f in face.body if isinstance(f, ast.FunctionDef) and not f.name.startswith("__")
    }
    functions = [f for f in vars(module).values() if type(f).__name__ == "cython_function_or_method"]
    compiled = {
        f.__name__: list(inspect.signature(f).parameters)
        for f in functions if not f.__name__.startswith("__")
    }
    assert described == compiled
    named = {node.target.id for node in face.body if isinstance(node, ast.AnnAssign)}
    constants = named - {"Engine", "Predictor"}
    assert {name for name in vars(module) if name.isupper()} == constants


def test_licence_is_shipped():
    found = metadata.metadata("fastmlp")
    assert found["License-Expression"] == "BSD-3-Clause AND CC-BY-4.0"
    assert found.get_all("License-File") == ["LICENSE", "fastmlp/data/README.md"]


def test_demo_data():
    folder = resources.files("fastmlp").joinpath("data")
    assert "CC BY 4.0" in folder.joinpath("README.md").read_text()
    with folder.joinpath("digits.npz").open("rb") as file, np.load(file) as data:
        x, y = data["x"], data["y"]
    assert (x.shape, x.dtype, x.min(), x.max()) == ((1797, 64), np.uint8, 0, 16)
    assert (y.shape, y.dtype, sorted(set(y.tolist()))) == ((1797,), np.uint8, list(range(10)))


@pytest.mark.skipif(not hasattr(fastmlp, "show_config"), reason="no show_config yet")
def test_show_config(capsys):
    fastmlp.show_config()
    printed = capsys.readouterr().out
    assert fastmlp.__version__ in printed
    assert kernels.active_isa() in printed


@pytest.mark.skipif(not (TREE / "setup.py").exists(), reason="the tests run without the source tree")
@pytest.mark.parametrize(
    "name", ["_detect", *(f"{isa}_{dtype}" for isa in kernels._detect.built() for dtype in ("f32", "f64"))]
)
def test_binary_is_built_from_these_texts(name):
    """setup.py leaves a hash of the texts in each binary: a stale one fails here."""
    folder = TREE / "fastmlp" / "kernels"
    content = hashlib.sha256()
    for path in sorted(p for pattern in ("*.pyx", "*.pxi", "*.pxd", "*.h", "ops.py", "_generate.py")
                       for p in folder.glob(pattern)):
        content.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    (binary,) = (p for p in Path(kernels.__file__).parent.glob(f"{name}.*") if p.suffix in (".so", ".pyd"))
    stamp = re.search(rb"fastmlp-texts:([0-9a-f]{64})", binary.read_bytes())
    assert stamp, f"{binary} was not built by setup.py"
    assert stamp[1].decode() == content.hexdigest(), f"{binary} is stale: run `pip install -e .`"


@pytest.mark.skipif("FASTMLP_TEST_WHEEL" not in os.environ, reason="not a wheel for everybody")
def test_wheel_has_all_kernels_of_its_platform():
    """A compiler that cannot build some, as where clang-cl is not found, leaves them out with a notice."""
    isas, bf16, int8 = {
        "x86_64": (["avx512", "avx2", "portable"], ["amx", "avx512_bf16"],
                   ["amx", "avx512_vnni", "avx_vnni"]),
        "arm64": (["neon", "portable"], [], ["neon_dotprod"]),
    }[{"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine())]
    assert kernels._detect.built() == isas
    if sys.platform == "linux":
        assert kernels._detect.built_bf16() == [*bf16, "fma"]
        assert kernels._detect.built_int8() == [*int8, "widened"]


@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("objdump"), reason="needs Linux and objdump")
def test_binaries_run_on_older_systems():
    """They load where glibc is as old as manylinux2014's, and look for nothing of this machine."""
    binaries = sorted(Path(kernels.__file__).parent.glob("*.so"))
    assert len(binaries) >= 5
    for binary in binaries:
        head = subprocess.run(["objdump", "-p", binary], capture_output=True, text=True, check=True).stdout
        assert "RUNPATH" not in head and "RPATH" not in head, binary.name
        versions = [tuple(map(int, version.split("."))) for version in re.findall(r"GLIBC_([\d.]+)", head)]
        assert max(versions, default=(0,)) <= (2, 17), f"{binary.name}: {max(versions)}"
