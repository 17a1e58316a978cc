"""Which instruction sets this machine runs, and which this installation was built with."""

cdef extern from "detect.h" nogil:
    const char* fastmlp_built()
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
