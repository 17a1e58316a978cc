"""Which instruction sets this machine runs, and which this installation was built with."""

cdef extern from "detect.h" nogil:
    const char* fastmlp_built()
    const char* fastmlp_built_bf16()
    bint fastmlp_runs_amx_bf16()
    bint fastmlp_runs_amx_int8()
    bint fastmlp_gets_tiles()
    const char* fastmlp_built_int8()
    bint fastmlp_runs_avx512_bf16()
    bint fastmlp_is_fast_avx512_bf16()
    bint fastmlp_runs_avx512_vnni()
    bint fastmlp_runs_avx_vnni()
    bint fastmlp_runs_neon_dotprod()
    bint fastmlp_runs_avx512()
    bint fastmlp_runs_avx2()
    bint fastmlp_runs_neon()


def built():
    """Names of the instruction sets that the kernels were built for, best first."""
    return fastmlp_built().decode("ascii").split(",")


def supported():
    """{name: whether this processor and operating system run it} of every known instruction set."""
    return {
        "avx512": fastmlp_runs_avx512(),
        "avx2": fastmlp_runs_avx2(),
        "neon": fastmlp_runs_neon(),
        "portable": True,
    }


def built_bf16():
    """What products of bfloat16 can be computed with in this installation, best first."""
    return [name for name in fastmlp_built_bf16().decode("ascii").split(",") if name]


def supported_bf16():
    """{name: (whether it runs here, whether it is faster than FMAs)} of everything known that computes them."""
    return {
        "amx": (fastmlp_runs_amx_bf16(), True),
        "avx512_bf16": (fastmlp_runs_avx512_bf16(), fastmlp_is_fast_avx512_bf16()),
        "fma": (True, False),
        "amx_emulated": (fastmlp_runs_avx512_bf16(), False),
    }


def gets_tiles():
    """Ask the operating system for the tiles of AMX; whether it gives them, to all threads and for good."""
    return fastmlp_gets_tiles()


def built_int8():
    """What multiplies 8-bit integers in this installation, best first."""
    return fastmlp_built_int8().decode("ascii").split(",")


def supported_int8():
    """{name: whether it runs here} of everything known that multiplies 8-bit integers."""
    return {
        "amx": fastmlp_runs_amx_int8(),
        "avx512_vnni": fastmlp_runs_avx512_vnni(),
        "avx_vnni": fastmlp_runs_avx_vnni(),
        "neon_dotprod": fastmlp_runs_neon_dotprod(),
        "widened": True,
        "amx_emulated": fastmlp_runs_avx512_vnni(),
    }
