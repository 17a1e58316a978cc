# The text of every kernel module: setup.py builds it once per instruction set and dtype.

include "kernels.pxi"

cdef extern from *:
    """
    /* The variant by the compiler's own account, so that a wrong flag cannot pass for the right one. */
    #if defined(FASTMLP_ISA_avx512) && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
    #  define FASTMLP_ISA_NAME "avx512"
    #elif defined(FASTMLP_ISA_avx2) && defined(__AVX2__) && defined(__FMA__) && !defined(__AVX512F__)
    #  define FASTMLP_ISA_NAME "avx2"
    #elif defined(FASTMLP_ISA_neon) && defined(__aarch64__)
    #  define FASTMLP_ISA_NAME "neon"
    #elif defined(FASTMLP_ISA_portable)
    #  define FASTMLP_ISA_NAME "portable"
    #else
    #  error "the compiler flags are not those of the instruction set"
    #endif
    """
    const char* FASTMLP_ISA_NAME

ISA = FASTMLP_ISA_NAME.decode("ascii")
DTYPE = "float32" if sizeof(real) == 4 else "float64"
VECTOR_BYTES = VL * sizeof(real)
