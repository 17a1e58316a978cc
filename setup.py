"""Builds the compiled parts: one detector, and one kernel module per instruction set and dtype; products of
bfloat16 count as a dtype for each of the instructions that compute them.

All kernel modules come from one text, fastmlp/kernels/kernels.pyx, with two files that are generated from the
table of operations, ops.py. Cython translates it once, to kernels.c; a short C file for each module includes
that under the module's own name, and the C compiler gets the flags of the instruction set and two macros that
name the variant. It is compiled in two parts: what computes, as fast as the compiler can make it, and what
Python calls, where that would take the compiler as long and bring nothing. Cython's own classes for
memoryviews are in a module that all of them share.
An instruction set that the compiler cannot build is left out with a notice. On Windows clang-cl is taken
where it is found: Microsoft's own compiler has no vectors, and gets the portable kernels alone.

Every binary carries a hash of all that went into it (texts, flags, compiler, Cython, Python) and is
taken as up to date if that hash is there, whatever the clocks and time stamps say.

FASTMLP_DEBUG=1 builds with bounds checks. FASTMLP_BUILD_ISAS=avx2,portable builds no other instruction sets.
FASTMLP_SANITIZE=address,undefined or =thread builds with these sanitizers of GCC or Clang (.ci/sanitize).
FASTMLP_EMULATE_AMX=1 builds, for tests, what uses the tiles of AMX so that it runs on any processor with
AVX512-BF16: one more module, FASTMLP_BF16=amx_emulated, and FASTMLP_INT8=amx_emulated in the one of float32.
"""

import functools
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

import setuptools
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, OptionError

KERNELS = "fastmlp/kernels"
MEMORYVIEWS = "_memoryviews"    # the module that Cython makes of no text of ours
DEBUG = os.environ.get("FASTMLP_DEBUG", "") not in ("", "0")
SANITIZE = os.environ.get("FASTMLP_SANITIZE", "")
BUILD_ISAS = os.environ.get("FASTMLP_BUILD_ISAS", "")
EMULATE_AMX = os.environ.get("FASTMLP_EMULATE_AMX", "") not in ("", "0")

# Instruction sets, best first: compiler flags, and the least that a compiler must take with them.
ISAS = {
    "avx512": (
        ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"],
        "#include <immintrin.h>\n"
        "typedef float vec __attribute__((vector_size(64)));\n"
        "vec probe(vec a) { return (vec)_mm512_fmadd_ps((__m512)a, (__m512)a, (__m512)(a + a)); }\n",
    ),
    "avx2": (
        ["-mavx2", "-mfma"],
        "#include <immintrin.h>\n"
        "typedef float vec __attribute__((vector_size(32)));\n"
        "vec probe(vec a) { return (vec)_mm256_fmadd_ps((__m256)a, (__m256)a, (__m256)(a + a)); }\n",
    ),
    "neon": (
        [],
        "#include <arm_neon.h>\n"
        "typedef float vec __attribute__((vector_size(16)));\n"
        "vec probe(vec a) { return (vec)vfmaq_f32((float32x4_t)a, (float32x4_t)a, (float32x4_t)(a + a)); }\n",
    ),
    "portable": ([], ""),
}
ISAS_OF_MACHINE = {
    "x86_64": ("avx512", "avx2"),
    "amd64": ("avx512", "avx2"),
    "aarch64": ("neon",),
    "arm64": ("neon",),
}
DTYPES = ("f32", "f64")
# What an assembler must know for tiles of AMX, of which the compiler itself makes no use.
PROBE_AMX = 'void probe(void) { __asm__ volatile("tdpbf16ps %tmm2, %tmm1, %tmm0\\n\\ttilerelease"); }\n'
# What computes products of bfloat16, best first: instruction sets beside which it is built, and its flags.
BF16 = {
    "amx": (("avx512",), ["-mavx512bf16"]),
    "avx512_bf16": (("avx512",), ["-mavx512bf16"]),
    "fma": (tuple(ISAS), []),
    **({"amx_emulated": (("avx512",), ["-mavx512bf16"])} if EMULATE_AMX else {}),
}
# Lets GCC compile without looking for memory to use again, until it has half a gigabyte: that takes time.
NO_COLLECTION = ["--param=ggc-min-heapsize=500000"]
# What multiplies 8-bit integers, best first: the instruction set beside which it is built, and how.
# The emulation takes the place of tiles, for they are in one module.
INT8 = {
    **({} if EMULATE_AMX else {"amx": ("avx512", "tdpbusd %%tmm2, %%tmm1, %%tmm0")}),
    "avx512_vnni": ("avx512", "vpdpbusd %%zmm0, %%zmm1, %%zmm2"),
    "avx_vnni": ("avx2", "%{vex%} vpdpbusd %%ymm0, %%ymm1, %%ymm2"),
    "neon_dotprod": ("neon", ".arch armv8.2-a+dotprod\\n\\tsdot v0.4s, v1.16b, v2.16b"),
    "widened": (None, ""),
    **({"amx_emulated": ("avx512", "vpdpbusd %%zmm0, %%zmm1, %%zmm2")} if EMULATE_AMX else {}),
}
# Lets GCC, Clang unroll the loops over a tile of 12 rows: without it the sums are in memory, and slow.
UNROLL_12_ROWS = (["--param=max-completely-peeled-insns=1000"], ["-mllvm", "-unroll-threshold=5000"])

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": str(DEBUG),
    "wraparound": "False",
    "cdivision": "True",
    "initializedcheck": str(DEBUG),
    "freethreading_compatible": "True",
}
# -fno-...: a CFLAGS of the caller must not change results.
# -fno-wrapv: Python's own -fwrapv costs a small network 4% of a step. No size overflows here: the tests pass
# with -fsanitize=signed-integer-overflow, too.
FLAGS = ["-O3", "-fno-fast-math", "-fno-unsafe-math-optimizations", "-fno-finite-math-only",
         "-ffp-contract=off", "-fno-math-errno", "-fno-wrapv", "-g0"]
# With these the linker would have every process that imports the binary flush subnormal numbers.
FAST_MATH = ("-ffast-math", "-Ofast", "-funsafe-math-optimizations", "-mdaz-ftz")
# Nor may CFLAGS make a binary of a wider instruction set than it says: -march=native, or -mavx2, which goes
# with SSE3, as all later vectors do.
BASELINE = dict.fromkeys(("x86_64", "amd64"), [
    "-march=x86-64", "-mno-sse3", "-mno-popcnt", "-mno-lzcnt", "-mno-bmi", "-mno-bmi2"])
FLAGS_MSVC = ["/O2"]
FLAGS_GLUE = ["-O1"]        # after these, of what Python calls
QUIET = ["-Wno-unused", "-Wno-maybe-uninitialized"]     # of C that Cython wrote: GCC does not see what is set
FLAGS_OTHERS = ["-O2", "-g0"]   # of modules that compute nothing
# -O1: code of -O3 with sanitizers takes minutes to build. A finding ends the process.
FLAGS_SANITIZE = [
    "-O1", "-g1", "-fno-omit-frame-pointer", f"-fsanitize={SANITIZE}", "-fno-sanitize-recover=all"]


def texts():
    """Every file that the compiled parts are made from."""
    patterns = ("*.pyx", "*.pxi", "*.pxd", "*.h", "ops.py", "_generate.py")
    return sorted(path for pattern in patterns for path in Path(KERNELS).glob(pattern))


def for_one_processor():
    """Has a Python of macOS that is compiled for both of its processors build for one of them: that of
    ARCHFLAGS, or of this machine. A file compiled for both can have the instruction sets of neither."""
    if not sysconfig.get_platform().endswith("universal2"):
        return
    machines = set(re.findall(r"-arch\s+(\S+)", os.environ.get("ARCHFLAGS", ""))) or {platform.machine()}
    if len(machines) > 1:
        raise OptionError("ARCHFLAGS: expected one -arch; build a wheel for each processor")
    (machine,) = machines
    os.environ["ARCHFLAGS"] = f"-arch {machine}"
    os.environ["_PYTHON_HOST_PLATFORM"] = f"macosx-11.0-{machine}"      # the first macOS on both


def readme():
    """README.md for a page on which there are no files beside it: links and pictures by their addresses."""
    text = Path("README.md").read_text(encoding="utf-8")
    pictures = "https://raw.githubusercontent.com/fastmlp/fastmlp/main/"
    pages = "https://github.com/fastmlp/fastmlp/blob/main/"
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:)", rf"\1{pictures}", text)
    return re.sub(r"(\]\()(?!https?:|#)", rf"\1{pages}", text)


def load(name):
    """A module of fastmlp/kernels, from its path: the package itself cannot be imported yet."""
    spec = importlib.util.spec_from_file_location(name, Path(KERNELS, f"{name}.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class BuildKernels(build_ext):
    def finalize_options(self):
        super().finalize_options()
        affinity = getattr(os, "sched_getaffinity", None)
        self.parallel = self.parallel or (len(affinity(0)) if affinity else os.cpu_count()) or 1
        self.force = True  # what can be skipped is decided below, by content

    def run(self):
        super().run()
        if not self.inplace:
            # The tree gets the binaries too: a Python that is started there imports this package, not the
            # installed one.
            try:
                self.copy_extensions_to_source()
            except OSError as error:
                print(f"fastmlp: NOTICE: the binaries could not be copied to {KERNELS}: {error}", flush=True)

    def build_extensions(self):
        wanted = [isa.strip() for isa in BUILD_ISAS.split(",")] if BUILD_ISAS else list(ISAS)
        if unknown := set(wanted) - set(ISAS):
            raise OptionError(
                f"FASTMLP_BUILD_ISAS: unknown {', '.join(map(repr, unknown))}; known: {', '.join(ISAS)}")
        self.choose_compiler()
        self.check_compiler()
        names = [isa for isa in ISAS if isa in wanted and (isa == "portable" or self.can_build(isa))]
        if not names:
            raise OptionError(f"FASTMLP_BUILD_ISAS: cannot build {', '.join(wanted)} for {self.plat_name}")
        bf16 = [way for way in BF16 if self.can_build_bf16(way, names)]
        int8 = [way for way in INT8 if self.can_build_int8(way, names)]
        self.extensions = [ext for ext in self.extensions
                           if ext.isa is None or ext.isa in names and ext.bf16 in (None, *bf16)]
        baseline = BASELINE.get(self.machine(), [])
        baseline = baseline if self.knows(baseline) else []
        collection = NO_COLLECTION if self.knows(NO_COLLECTION) else []
        quiet = [flag for flag in QUIET if self.knows([flag])]
        for ext in self.extensions:
            if ext.isa is None:  # the detector knows which variants belong to this installation
                ext.define_macros = [("FASTMLP_BUILT", ",".join(names)),
                                     ("FASTMLP_BUILT_BF16", ",".join(bf16)),
                                     ("FASTMLP_BUILT_INT8", ",".join(int8))]
                ext.extra_compile_args = self.spelled(FLAGS_OTHERS + baseline)
            else:
                ext.define_macros += [(f"FASTMLP_INT8_{way}", "1") for way in int8
                                      if INT8[way][0] == ext.isa and ext.dtype == "f32"]
                flags = FLAGS + baseline + ISAS[ext.isa][0] + (BF16[ext.bf16][1] if ext.bf16 else [])
                if ext.isa == "avx512":
                    known = [more for more in UNROLL_12_ROWS if self.knows(more)]
                    flags = flags + sum(known, [])
                ext.extra_compile_args = self.spelled(flags + collection + quiet)
            if SANITIZE:
                ext.extra_compile_args = ext.extra_compile_args + FLAGS_SANITIZE
                ext.extra_link_args += [f"-fsanitize={SANITIZE}"]
        # Not with bounds checks, which call Python; sanitizers have a level of their own.
        self.in_parts = self.spelled(FLAGS) is not FLAGS_MSVC and not DEBUG and not SANITIZE
        self.tools = self.describe_tools()
        self.remove_leftovers(Path(self.build_lib, KERNELS))
        self.generated = Path(self.build_temp, "generated")
        self.generated.mkdir(parents=True, exist_ok=True)
        table, self.generate = load("ops"), load("_generate")
        for name in ("ops", "dispatch"):
            Path(self.generated, f"{name}.pxi").write_text(getattr(self.generate, name)(table))
        self.in_good_order()
        self.locks = {ext.text: threading.Lock() for ext in self.extensions}
        self.c_files = {}       # of the texts that are translated
        print(f"fastmlp: {len(self.extensions)} modules ({', '.join(names)}), {self.parallel} at a time; all "
              "of them take up to 100 s on two processors", flush=True)
        started = time.monotonic()
        super().build_extensions()
        print(f"fastmlp: built in {time.monotonic() - started:.0f} s", flush=True)

    def in_good_order(self):
        """One kernel module first, whose text all others wait for; beside it those that have texts of their
        own; then what takes longest."""
        isas = list(ISAS)
        self.extensions.sort(key=lambda ext: isas.index(ext.isa) if ext.isa else -1)
        others = [ext for ext in self.extensions if ext.isa is None]
        kernels = self.extensions[len(others):]
        self.extensions = kernels[:1] + others + kernels[1:]

    def choose_compiler(self):
        """clang-cl on Windows; elsewhere no search path in a binary, which needs no library of this machine,
        and no start of a process with fast mathematics."""
        self.clang_cl = None
        if self.compiler.compiler_type == "msvc":
            self.clang_cl = shutil.which("clang-cl")
            if self.clang_cl:
                self.compiler.initialize()
                self.compiler.cc = self.clang_cl
        else:
            linker = self.compiler.linker_so
            self.compiler.linker_so = [
                word for word in linker if not word.startswith("-Wl,-rpath") and word not in FAST_MATH]

    def check_compiler(self):
        """An error at once where nothing can be compiled: each later one would look like something else."""
        if self.compiler.compiler_type != "msvc" and not self.takes("#include <Python.h>\n", []):
            raise CompileError(
                f"no C compiler: {shlex.join(self.compiler.compiler_so)} cannot compile a file that includes "
                "Python.h, for the reason above. Install GCC or Clang and the headers of this Python, or "
                "name a compiler with CC")

    def spelled(self, flags):
        """Flags of GCC and Clang as this compiler takes them."""
        if self.clang_cl:
            return [f"/clang:{flag}" for flag in flags]
        return FLAGS_MSVC if self.compiler.compiler_type == "msvc" else flags

    def machine(self):
        return self.plat_name.split("-")[-1].lower()    # of linux-x86_64, macosx-11.0-arm64, win-amd64

    def can_build(self, isa):
        """Whether this platform has the instruction set and the compiler takes its flags and vectors."""
        if isa not in ISAS_OF_MACHINE.get(self.machine(), ()):
            return False
        flags, probe = ISAS[isa]
        if self.takes(probe, FLAGS + flags):
            return True
        return self.left_out(isa)

    def left_out(self, what):
        print(f"fastmlp: NOTICE: the compiler cannot build the {what} kernels; they are left out", flush=True)
        return False

    def can_build_bf16(self, way, isas):
        """Whether it goes with one of these instruction sets, and with the compiler."""
        beside, flags = BF16[way]
        if not set(beside) & set(isas) or not self.gives_tiles(way):
            return False
        known = not flags or self.knows(flags, PROBE_AMX if way == "amx" else "int i;\n")
        return known or self.left_out(f"bfloat16 {way}")

    def can_build_int8(self, way, isas):
        """The same of what multiplies 8-bit integers."""
        isa, instruction = INT8[way]
        if isa not in (None, *isas) or not self.gives_tiles(way):
            return False
        text = f'int f(int x) {{ __asm__("{instruction}" : "+r"(x)); return x; }}\n'
        return isa is None or self.takes(text, []) or self.left_out(f"int8 {way}")

    def gives_tiles(self, way):
        """Whether the system gives what it takes of tiles: others than Linux do not say how they do."""
        return way != "amx" or self.plat_name.startswith("linux")

    def knows(self, flags, text="int i;\n"):
        """Whether the compiler takes them without a warning, but for those of the flags of the caller."""
        return self.takes(text, [*self.strict, *flags])

    @functools.cached_property
    def strict(self):
        return ["-Werror"] if self.takes("int i;\n", ["-Werror"]) else []

    def takes(self, text, flags):
        """Whether the compiler is of GCC's kind and takes a C text with these flags."""
        if self.compiler.compiler_type == "msvc" and not self.clang_cl:
            return False
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "probe.c")
            source.write_text(text)
            try:
                self.compiler.compile([str(source)], output_dir=folder, extra_postargs=self.spelled(flags))
                return True
            except CompileError:
                return False

    def describe_tools(self):
        import Cython

        command = [self.clang_cl] if self.clang_cl else getattr(self.compiler, "compiler_so", [])
        try:
            version = subprocess.run([*command, "--version"], capture_output=True, text=True).stdout
        except OSError:  # no compiler: compiling will say so
            version = ""
        return repr((Cython.__version__, sys.version, self.plat_name, command, version))

    def remove_leftovers(self, folder):
        """Binaries of other variants, left by an earlier build, are no part of this one."""
        wanted = {Path(self.get_ext_fullpath(ext.name)).name for ext in self.extensions}
        for binary in folder.glob("*" + self.get_ext_filename("x")[1:]):
            if binary.name not in wanted:
                binary.unlink()

    def copy_extensions_to_source(self):
        self.remove_leftovers(Path(KERNELS))
        super().copy_extensions_to_source()

    def copy_file(self, infile, outfile, **options):
        """As a whole or not at all: a part of a binary may have the hash by which it is up to date."""
        part = Path(outfile).with_name(f"part_{Path(outfile).name}")    # a leftover, for the next build
        try:
            shutil.copy2(infile, part)
            part.replace(outfile)
        finally:
            part.unlink(missing_ok=True)
        return outfile, True

    def stamp(self, ext):
        """What makes this binary: two hashes, of the texts and of everything else."""
        content = hashlib.sha256()
        for path in texts():
            content.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
        settings = (ext.name, ext.define_macros, ext.extra_compile_args, DIRECTIVES, self.tools)
        recipe = Path(__file__).read_bytes() + repr(settings).encode()
        return f"fastmlp-texts:{content.hexdigest()} fastmlp-recipe:{hashlib.sha256(recipe).hexdigest()}"

    def build_extension(self, ext):
        stamp = self.stamp(ext)
        target = Path(self.get_ext_fullpath(ext.name))
        in_tree = Path(KERNELS, target.name)
        for binary in (target, in_tree, *Path("build").glob(f"lib.*/{in_tree.as_posix()}")):
            if binary.is_file() and stamp.encode() in binary.read_bytes():
                print(f"fastmlp: {ext.name} is up to date", flush=True)
                if binary != target:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    self.copy_file(binary, target)
                return
        target.unlink(missing_ok=True)
        started = time.monotonic()
        translated = self.translated(ext.text)
        name, variable = ext.name.rpartition(".")[2], re.sub(r"\W", "_", ext.name)
        c = f'#define FASTMLP_MODULE "{ext.name}"\n'
        c += f"#define PyInit_{ext.text} PyInit_{name}\n" if name != ext.text else ""
        c += f'#include "{translated.name}"\n'
        c += f"extern Py_EXPORTED_SYMBOL const char {variable}_stamp[];\n"     # or the linker may drop it
        c += f'const char {variable}_stamp[] = "{stamp}";\n'
        c_file = Path(self.build_temp, f"{ext.name}.c")
        c_file.write_text(c)
        sources, ext.sources = ext.sources, [str(c_file)]
        if ext.isa:
            self.take_parts(ext, translated)
        super().build_extension(ext)
        ext.sources = sources
        print(f"fastmlp: {ext.name} is built, in {time.monotonic() - started:.0f} s", flush=True)

    def take_parts(self, ext, translated):
        """What computes is compiled here; what Python calls is left of the module's own C file."""
        macros = [("FASTMLP_GLUE", "1")]
        if self.in_parts:
            folder = str(Path(self.build_temp, ext.name))
            ext.extra_objects = self.compiler.compile(
                [str(translated)], output_dir=folder, include_dirs=ext.include_dirs,
                macros=[*ext.define_macros, ("FASTMLP_KERNELS", "1")],
                extra_postargs=ext.extra_compile_args)
            ext.extra_compile_args = ext.extra_compile_args + self.spelled(FLAGS_GLUE)
        else:
            macros.append(("FASTMLP_KERNELS", "1"))
        ext.define_macros = ext.define_macros + macros

    def translated(self, text):
        """The C file that Cython makes of a text; whoever needs it first makes it, and others wait."""
        with self.locks[text]:
            if text not in self.c_files:
                self.c_files[text] = self.translate(text)
            return self.c_files[text]

    def translate(self, text):
        started = time.monotonic()
        c_file = Path(self.build_temp, f"{text}.c")
        command = [sys.executable, "-m", "cython", "--module-name", f"fastmlp.kernels.{text}"]
        if text == MEMORYVIEWS:
            command += [f"--generate-shared={c_file}"]
        else:
            command += [f"{KERNELS}/{text}.pyx", "-o", str(c_file), "-I", str(self.generated),
                        "--shared", f"fastmlp.kernels.{MEMORYVIEWS}"]
        for name, value in DIRECTIVES.items():
            command += ["-X", f"{name}={value}"]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        known = "not usefully protected by critical_section"     # other objects are not: known
        said = [line for line in result.stdout.splitlines(True) if known not in line]
        print(*said, sep="", end="", flush=True)
        if result.returncode != 0:
            raise CompileError(f"Cython could not translate {text}")
        if text == "kernels":
            c_file.write_text(self.generate.parts(c_file.read_text()))
        print(f"fastmlp: the text of {text} is translated, in {time.monotonic() - started:.0f} s", flush=True)
        return c_file


def extension(name, text=None, isa=None, dtype=None, bf16=None):
    """A module, made of a text of its own name or of another one."""
    text = text or name
    macros = [(f"FASTMLP_ISA_{isa}", "1"), (f"FASTMLP_REAL_{dtype}", "1")] if isa else []
    macros += [(f"FASTMLP_BF16_{bf16}", "1")] if bf16 else []
    ext = setuptools.Extension(
        f"fastmlp.kernels.{name}",
        [] if text == MEMORYVIEWS else [f"{KERNELS}/{text}.pyx"],
        include_dirs=[KERNELS],
        define_macros=macros,
        depends=[path.as_posix() for path in texts()],
    )
    ext.text, ext.isa, ext.dtype, ext.bf16 = text, isa, dtype, bf16
    return ext


for_one_processor()
setuptools.setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    cmdclass={"build_ext": BuildKernels},
    options={"build_py": {"force": True}},  # a file put back with an older date is a change, too
    ext_modules=[extension(name) for name in (MEMORYVIEWS, "cython_api", "_team", "_detect")]
    + [extension(f"{isa}_{dtype}", "kernels", isa, dtype) for isa in ISAS for dtype in DTYPES]
    + [extension(way if way.startswith(isa) else f"{isa}_bf16_{way}", "kernels", isa, "bf16", way)
       for way, (isas, _) in BF16.items() for isa in isas],
)
