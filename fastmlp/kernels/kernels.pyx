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

cdef extern from *:
    """
    #if defined(FASTMLP_BF16_avx512_bf16) && defined(__AVX512BF16__)
    #  define FASTMLP_BF16_NAME "avx512_bf16"
    #elif defined(FASTMLP_BF16_amx) && defined(__AVX512BF16__)
    #  define FASTMLP_BF16_NAME "amx"
    #elif defined(FASTMLP_BF16_amx_emulated) && defined(__AVX512BF16__)
    #  define FASTMLP_BF16_NAME "amx_emulated"
    #elif defined(FASTMLP_BF16_fma)
    #  define FASTMLP_BF16_NAME "fma"
    #elif WITH_BF16
    #  error "the compiler flags are not those of the bfloat16 instructions"
    #else
    #  define FASTMLP_BF16_NAME ""
    #endif
    """
    const char* FASTMLP_BF16_NAME

ISA = FASTMLP_ISA_NAME.decode("ascii")
BF16 = FASTMLP_BF16_NAME.decode("ascii")        # what computes products of bfloat16; empty where they are of reals
DTYPE = "float32" if sizeof(real) == 4 else "float64"
VECTOR_BYTES = VL * sizeof(real)
