/* The vocabulary of products of 8-bit integers, whose sums are int32 and exact.
 *
 * An operand of a row of inputs is 32 bits, which are broadcast; that of the weights is a vector of as many terms of VL
 * columns. How many terms, and what multiplies them:
 *   DOT       4: bytes of inputs and signed ones of weights. VPDPBUSD (FASTMLP_INT8_avx512_vnni | _avx_vnni) takes inputs
 *             without a sign, SDOT (FASTMLP_INT8_neon_dotprod) with one: they are DOT_OFFSET less
 *   TILED     the same operands, in tiles of AMX: TDPBUSD (FASTMLP_INT8_amx, or _amx_emulated). Fewer than TILED_ROWS rows
 *             are faster by DOT: of a span of 64 terms it takes 16 cycles a row, and tiles the latency of TDPBUSD, 52
 *   WIDENED   2 in 16 bits, by VPMADDWD, on any AVX2; elsewhere 1 in an integer of its own
 * The older VPMADDUBSW is of no use: it adds pairs in 16 bits, which overflow. */
#ifndef FASTMLP_INT8_H
#define FASTMLP_INT8_H

#include "simd.h"

#if defined(FASTMLP_REAL_f32) && !WITH_BF16
#  define WITH_INT8 1
#else                           /* compiles, and is never called */
#  define WITH_INT8 0
#endif
#if defined(FASTMLP_REAL_f32) && defined(FASTMLP_ISA_avx512)
#  define WIDENS_512
#elif defined(FASTMLP_REAL_f32) && defined(FASTMLP_ISA_avx2)
#  define WIDENS_256
#endif

#if WITH_INT8 && defined(FASTMLP_INT8_amx)
#  define TILED_NAME "amx"
#elif WITH_INT8 && defined(FASTMLP_INT8_amx_emulated)
#  define TILED_NAME "amx_emulated"
#else
#  define TILED_NAME ""
#endif

enum {
    WIDENED = 1,
    DOT = 2,
    TILED = 3,
    HAS_TILED = sizeof TILED_NAME > 1,
    TILED_ROWS = 4,
#if defined(WIDENS_512) || defined(WIDENS_256)
    WIDENED_TERMS = 2,
#else
    WIDENED_TERMS = 1,
#endif
#if defined(FASTMLP_ISA_neon)
    DOT_OFFSET = 128,
#else
    DOT_OFFSET = 0,
#endif
#if defined(WIDENS_512) || defined(WIDENS_256)
    DOT_SATURATES = 1,
#else
    DOT_SATURATES = 0,
#endif
    INT8_ROWS = 128,            /* of a block: fewer than of reals, for there is a copy of them in int8 */
};

#if WITH_INT8 && defined(FASTMLP_INT8_avx512_vnni)
#  define INT8_NAME "avx512_vnni"
#  define dot(c, a, b) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(c) : "v"(a), "v"(b))
#elif WITH_INT8 && defined(FASTMLP_INT8_avx_vnni)
#  define INT8_NAME "avx_vnni"
#  define dot(c, a, b) __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(c) : "x"(a), "x"(b))
#elif WITH_INT8 && defined(FASTMLP_INT8_neon_dotprod)
#  define INT8_NAME "neon_dotprod"
#  define dot(c, a, b) \
    __asm__ volatile(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.16b" : "+w"(c) : "w"(a), "w"(b))
#else
#  define INT8_NAME ""
#  define dot(c, a, b) ((void)0)
#endif

#if defined(WIDENS_512) || defined(WIDENS_256)
#  define widened(c, a, b) do {                                                                              \
        ivec pairs;                                                                                          \
        __asm__ volatile("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" : "+v"(c), "=&v"(pairs) : "v"(a), "v"(b)); \
    } while (0)
#else
#  define widened(c, a, b) ((c) = vadd_bits(c, (ivec)((uvec)(a) * (uvec)(b))))
#endif

/* c += a b, of operands of inputs and of weights, as vaccumulate of simd.h does; `way` is a constant. */
#define vdot(way, c, a, b) do { if ((way) == DOT) dot(c, a, b); else widened(c, a, b); } while (0)

/* The same operand of inputs in every lane. */
FASTMLP_INLINE ivec vinputs(const char *p) {
#if defined(WIDENS_512) || defined(WIDENS_256)
    return vbits(vbroadcast((const real *)p));
#else
    int32_t x;
    memcpy(&x, p, sizeof x);
    return vset1_int(x);
#endif
}

/* The operands of VL columns of weights. */
FASTMLP_INLINE ivec vweights(int way, const int8_t *p) {
#if defined(VEC_BYTES)
    typedef ivec ivec_unaligned __attribute__((aligned(1), may_alias));
    if (way == DOT) return *(const ivec_unaligned *)p;
#endif
#if defined(WIDENS_512)
    return (ivec)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)p));
#elif defined(WIDENS_256)
    return (ivec)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p));
#elif defined(VEC_BYTES)
    typedef int8_t bytes __attribute__((vector_size(VL), aligned(1), may_alias));
    return __builtin_convertvector(*(const bytes *)p, ivec);
#else
    (void)way;
    return *p;
#endif
}

/* Quantised inputs, the lanes of vectors q that follow each other, as operands: of VECTORS_DOT of them, or of
 * VECTORS_WIDENED. They are from 0 to 255, or, where DOT_SATURATES, 256 in the place of 255. */
enum { VECTORS_DOT = 4, VECTORS_WIDENED = 2 };
FASTMLP_INLINE void vstore_inputs(int way, char *p, const ivec *q) {
#if defined(WIDENS_512)
    const __m512i of_bytes = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
    const __m512i of_words = _mm512_set_epi64(7, 5, 3, 1, 6, 4, 2, 0);
    __m512i words = _mm512_packus_epi32((__m512i)q[0], (__m512i)q[1]), others;
    if (way == DOT) {
        others = _mm512_packus_epi32((__m512i)q[2], (__m512i)q[3]);
        _mm512_storeu_si512(p, _mm512_permutexvar_epi32(of_bytes, _mm512_packus_epi16(words, others)));
    } else {
        _mm512_storeu_si512(p, _mm512_permutexvar_epi64(of_words, words));
    }
#elif defined(WIDENS_256)
    const __m256i of_bytes = _mm256_set_epi32(7, 3, 6, 2, 5, 1, 4, 0);
    __m256i words = _mm256_packus_epi32((__m256i)q[0], (__m256i)q[1]), others;
    if (way == DOT) {
        others = _mm256_packus_epi32((__m256i)q[2], (__m256i)q[3]);
        words = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words, others), of_bytes);
    } else {
        words = _mm256_permute4x64_epi64(words, 0xd8);
    }
    _mm256_storeu_si256((__m256i *)p, words);
#else
    for (int v = 0; v < (way == DOT ? VECTORS_DOT : VECTORS_WIDENED); v++) {
        ireal lane[VL];
        memcpy(lane, &q[v], sizeof q[v]);
        for (int i = 0; i < VL; i++) {
            if (way == DOT) p[v * VL + i] = (char)lane[i];
            else memcpy(p + 4 * (v * VL + i), &(int32_t){(int32_t)lane[i]}, 4);
        }
    }
#endif
}

FASTMLP_INLINE vec vfrom_int(ivec a) {
#if defined(VEC_BYTES)
    return __builtin_convertvector(a, vec);
#else
    return (vec)a;
#endif
}

/* The largest lane; none is NaN. */
FASTMLP_INLINE real vlargest(vec a) {
#if defined(WIDENS_512)
    return _mm512_reduce_max_ps((__m512)a);
#elif defined(WIDENS_256)
    __m128 m = _mm_max_ps(_mm256_castps256_ps128((__m256)a), _mm256_extractf128_ps((__m256)a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
#else
    real lane[VL], largest;
    memcpy(lane, &a, sizeof a);
    largest = lane[0];
    for (int i = 1; i < VL; i++) largest = lane[i] > largest ? lane[i] : largest;
    return largest;
#endif
}

#endif
