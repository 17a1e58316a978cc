/* The vector vocabulary: everything the kernels know of the hardware.
 *
 * One translation unit is one instruction set and one dtype, chosen by the build:
 *   FASTMLP_ISA_avx512 | FASTMLP_ISA_avx2 | FASTMLP_ISA_neon | FASTMLP_ISA_portable
 *   FASTMLP_REAL_f32   | FASTMLP_REAL_f64   | FASTMLP_REAL_bf16
 * and with the last of these how it multiplies:
 *   FASTMLP_BF16_fma   | FASTMLP_BF16_avx512_bf16 | FASTMLP_BF16_amx | FASTMLP_BF16_amx_emulated
 *
 * `vec` is a register of VL reals and `ivec` the register of VL signed integers of the same width.
 * Arithmetic (+ - * /) on both is the language's own; only what C cannot say has a name here.
 * Comparisons follow IEEE 754: every comparison with NaN is false.
 */
#ifndef FASTMLP_SIMD_H
#define FASTMLP_SIMD_H

#include <stdint.h>
#include <string.h>
#include <math.h>

#if defined(__GNUC__) || defined(__clang__)     /* clang-cl does not say the first */
#  define HAS_VECTORS
#endif

#if defined(FASTMLP_ISA_avx512)
#  include <immintrin.h>
#  define VEC_BYTES 64
#elif defined(FASTMLP_ISA_avx2)
#  include <immintrin.h>
#  define VEC_BYTES 32
#elif defined(FASTMLP_ISA_neon)
#  include <arm_neon.h>
#  define VEC_BYTES 16
#elif defined(FASTMLP_ISA_portable)
#  if defined(HAS_VECTORS)
#    define VEC_BYTES 16
#  endif
#else
#  error "the build names no instruction set"
#endif

#if defined(FASTMLP_REAL_f64)
typedef double real;
typedef int64_t ireal;
#elif defined(FASTMLP_REAL_f32) || defined(FASTMLP_REAL_bf16)
typedef float real;
typedef int32_t ireal;
#else
#  error "the build names no dtype"
#endif
#if defined(FASTMLP_REAL_bf16)      /* reals are float32; the operands of products are something else, see below */
#  define FASTMLP_REAL_f32
#  define WITH_BF16 1
#else
#  define WITH_BF16 0
#endif
#if defined(FASTMLP_BF16_amx) || defined(FASTMLP_BF16_amx_emulated)     /* products by what amx.h has */
#  define WITH_TILES 1
#else
#  define WITH_TILES 0
#endif

/* What _generate.py makes of `cdef inline`; and of functions and variables that one part of the C defines, and the other
 * uses. Compiled in one piece they are static. */
#if !FASTMLP_KERNELS || !FASTMLP_GLUE
#  define FASTMLP_SHARED __attribute__((visibility("hidden")))
#  if FASTMLP_GLUE
#    define FASTMLP_VARIABLE FASTMLP_SHARED
#  else
#    define FASTMLP_VARIABLE extern FASTMLP_SHARED
#  endif
#else
#  define FASTMLP_SHARED static
#  define FASTMLP_VARIABLE static
#endif
#if !defined(HAS_VECTORS)
#  define FASTMLP_INLINE static __forceinline
#  define KERNEL_INLINE static CYTHON_INLINE
#else
#  define FASTMLP_INLINE static inline __attribute__((always_inline, unused))
#  define KERNEL_INLINE FASTMLP_INLINE
#endif

#if defined(VEC_BYTES)
typedef real vec __attribute__((vector_size(VEC_BYTES)));
typedef ireal ivec __attribute__((vector_size(VEC_BYTES)));
typedef real vec_unaligned __attribute__((vector_size(VEC_BYTES), aligned(sizeof(real)), may_alias));
enum { VL = VEC_BYTES / sizeof(real) };
FASTMLP_INLINE vec vset1(real x) { return x - (vec){0}; }
FASTMLP_INLINE vec vload(const real *p) { return *(const vec_unaligned *)p; }
FASTMLP_INLINE void vstore(real *p, vec v) { *(vec_unaligned *)p = v; }
FASTMLP_INLINE ivec vset1_int(ireal x) { return x - (ivec){0}; }
FASTMLP_INLINE ivec vbits(vec v) { return (ivec)v; }
FASTMLP_INLINE vec vfrom_bits(ivec v) { return (vec)v; }
FASTMLP_INLINE ivec vless(vec a, vec b) { return a < b; }
#else  /* no vector extensions: a vector of one */
typedef real vec;
typedef ireal ivec;
enum { VL = 1 };
FASTMLP_INLINE vec vset1(real x) { return x; }
FASTMLP_INLINE vec vload(const real *p) { return *p; }
FASTMLP_INLINE void vstore(real *p, vec v) { *p = v; }
FASTMLP_INLINE ivec vset1_int(ireal x) { return x; }
FASTMLP_INLINE ivec vbits(vec v) { ivec i; memcpy(&i, &v, sizeof i); return i; }
FASTMLP_INLINE vec vfrom_bits(ivec i) { vec v; memcpy(&v, &i, sizeof v); return v; }
FASTMLP_INLINE ivec vless(vec a, vec b) { return -(ireal)(a < b); }
#endif

/* vfma(a, b, c) = a b + c, rounded once; the portable variant rounds twice. */
#if defined(FASTMLP_ISA_avx512) && defined(FASTMLP_REAL_f32)
FASTMLP_INLINE vec vfma(vec a, vec b, vec c) { return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
FASTMLP_INLINE vec vsqrt(vec a) { return (vec)_mm512_sqrt_ps((__m512)a); }
#elif defined(FASTMLP_ISA_avx512)
FASTMLP_INLINE vec vfma(vec a, vec b, vec c) { return (vec)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
FASTMLP_INLINE vec vsqrt(vec a) { return (vec)_mm512_sqrt_pd((__m512d)a); }
#elif defined(FASTMLP_ISA_avx2) && defined(FASTMLP_REAL_f32)
FASTMLP_INLINE vec vfma(vec a, vec b, vec c) { return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
FASTMLP_INLINE vec vsqrt(vec a) { return (vec)_mm256_sqrt_ps((__m256)a); }
#elif defined(FASTMLP_ISA_avx2)
FASTMLP_INLINE vec vfma(vec a, vec b, vec c) { return (vec)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
FASTMLP_INLINE vec vsqrt(vec a) { return (vec)_mm256_sqrt_pd((__m256d)a); }
#elif defined(FASTMLP_ISA_neon) && defined(FASTMLP_REAL_f32)
FASTMLP_INLINE vec vfma(vec a, vec b, vec c) { return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
FASTMLP_INLINE vec vsqrt(vec a) { return (vec)vsqrtq_f32((float32x4_t)a); }
#elif defined(FASTMLP_ISA_neon)
FASTMLP_INLINE vec vfma(vec a, vec b, vec c) { return (vec)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
FASTMLP_INLINE vec vsqrt(vec a) { return (vec)vsqrtq_f64((float64x2_t)a); }
#else
FASTMLP_INLINE vec vfma(vec a, vec b, vec c) { return a * b + c; }
FASTMLP_INLINE vec vsqrt(vec a) {
    real lane[VL];
    memcpy(lane, &a, sizeof a);
    for (int i = 0; i < VL; i++) lane[i] = (real)sqrt((double)lane[i]);
    memcpy(&a, lane, sizeof a);
    return a;
}
#endif

/* The steps of the innermost loop of a matrix product: *p in every lane, c += a b rounded once, and a fresh 0.
 * They stay in the order and the registers in which they are written. Left to itself, GCC 12 moves the sums of an
 * unrolled loop from register to register, loads ahead of need, keeps a zero in a register for later, and spills. */
#if defined(HAS_VECTORS) && (defined(FASTMLP_ISA_avx512) || defined(FASTMLP_ISA_avx2))
#  if defined(FASTMLP_REAL_f32)
#    define OF_TYPE(operation) operation "s"
#  else
#    define OF_TYPE(operation) operation "d"
#  endif
enum { UNROLL = 4 };            /* steps of k in a round of that loop */
FASTMLP_INLINE vec vbroadcast(const real *p) {
    vec a;
    __asm__ volatile(OF_TYPE("vbroadcasts") " %1, %0" : "=v"(a) : "m"(*p));
    return a;
}
#  if defined(FASTMLP_BF16_avx512_bf16)
#    define vaccumulate(c, a, b) __asm__ volatile("vdpbf16ps %2, %1, %0" : "+v"(c) : "v"(a), "v"(b))
#  else
#    define vaccumulate(c, a, b) __asm__ volatile(OF_TYPE("vfmadd231p") " %2, %1, %0" : "+v"(c) : "v"(a), "v"(b))
#  endif
FASTMLP_INLINE vec vzero(void) {
    vec zero;
    __asm__ volatile("vxorps %x0, %x0, %x0" : "=x"(zero));
    return zero;
}
#else
enum { UNROLL = WITH_BF16 ? 4 : 1 };
#  define vbroadcast(p) vset1(*(p))
#  define vaccumulate(c, a, b) ((c) = vfma(a, b, c))
#  define vzero() vset1(0)
#endif

/* vselect(mask, a, b): a where the mask's lane is all ones, b where it is zero. */
FASTMLP_INLINE vec vselect(ivec mask, vec a, vec b) {
    return vfrom_bits((mask & vbits(a)) | (~mask & vbits(b)));
}
/* The first n reals of p in lanes 0..n-1, `fill` in the others, nothing beyond them touched; and the reverse. */
static const ireal LANE_INDEX[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#if defined(FASTMLP_ISA_avx512)
#  if defined(FASTMLP_REAL_f32)
#    define MASKED(operation) _mm512_mask_##operation##_ps
#  else
#    define MASKED(operation) _mm512_mask_##operation##_pd
#  endif
FASTMLP_INLINE vec vload_part(const real *p, Py_ssize_t n, real fill) {
    return n >= VL ? vload(p) : (vec)MASKED(loadu)(vset1(fill), n <= 0 ? 0 : (1u << n) - 1, p);
}
FASTMLP_INLINE void vstore_part(real *p, vec v, Py_ssize_t n) {
    MASKED(storeu)(p, n >= VL ? (1u << VL) - 1 : n <= 0 ? 0 : (1u << n) - 1, v);
}
#elif defined(FASTMLP_ISA_avx2)
#  if defined(FASTMLP_REAL_f32)
#    define MASKED(operation) _mm256_mask##operation##_ps
#  else
#    define MASKED(operation) _mm256_mask##operation##_pd
#  endif
FASTMLP_INLINE ivec vfirst(Py_ssize_t n) {
    return *(const ivec *)memcpy(&(ivec){0}, LANE_INDEX, sizeof(ivec)) < vset1_int((ireal)(n < VL ? n : VL));
}
FASTMLP_INLINE vec vload_part(const real *p, Py_ssize_t n, real fill) {
    ivec mask = vfirst(n);
    return vselect(mask, (vec)MASKED(load)(p, (__m256i)mask), vset1(fill));
}
FASTMLP_INLINE void vstore_part(real *p, vec v, Py_ssize_t n) {
    if (n >= VL) vstore(p, v); else MASKED(store)(p, (__m256i)vfirst(n), v);
}
#else
FASTMLP_INLINE vec vload_part(const real *p, Py_ssize_t n, real fill) {
    real lane[VL];
    for (int i = 0; i < VL; i++) lane[i] = i < n ? p[i] : fill;
    return vload(lane);
}
FASTMLP_INLINE void vstore_part(real *p, vec v, Py_ssize_t n) {
    real lane[VL];
    vstore(lane, v);
    for (int i = 0; i < VL && i < n; i++) p[i] = lane[i];
}
#endif

/* Lanes of two vectors in turn: a0 b0 a1 b1 ..., the first half and the second. */
#if !defined(VEC_BYTES)
FASTMLP_INLINE vec vzip_low(vec a, vec b) { (void)b; return a; }
FASTMLP_INLINE vec vzip_high(vec a, vec b) { (void)a; return b; }
#else
#  if VEC_BYTES == 64 && defined(FASTMLP_REAL_f32)
#    define LOW  0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#    define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#  elif VEC_BYTES == 64 || VEC_BYTES == 32 && defined(FASTMLP_REAL_f32)
#    define LOW  0, 8, 1, 9, 2, 10, 3, 11
#    define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#  elif VEC_BYTES == 32 || defined(FASTMLP_REAL_f32)
#    define LOW  0, 4, 1, 5
#    define HIGH 2, 6, 3, 7
#  else
#    define LOW  0, 2
#    define HIGH 1, 3
#  endif
#  if defined(__clang__) || __GNUC__ >= 12
#    define ZIP(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#  else
#    define ZIP(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#  endif
FASTMLP_INLINE vec vzip_low(vec a, vec b) { return ZIP(a, b, LOW); }
FASTMLP_INLINE vec vzip_high(vec a, vec b) { return ZIP(a, b, HIGH); }
#endif

/* ---- Bits of a real: what vector_math.pxi needs ---------------------------------------------------
 * Integers wrap around here. ROUND is the number whose unit in the last place is 1: (x + ROUND) - ROUND
 * is x rounded to an integer, and that integer stands in the low bits of x + ROUND. */
#if defined(FASTMLP_REAL_f64)
enum { MANTISSA = 52, BIAS = 1023 };
static const ireal SIGN_BIT = INT64_MIN;
#else
enum { MANTISSA = 23, BIAS = 127 };
static const ireal SIGN_BIT = INT32_MIN;
#endif
#define ROUND ((real)1.5 * ((int64_t)1 << MANTISSA))

#if defined(FASTMLP_REAL_f64)
typedef uint64_t ureal;
#else
typedef uint32_t ureal;
#endif
#if defined(VEC_BYTES)
typedef ureal uvec __attribute__((vector_size(VEC_BYTES)));
#else
typedef ureal uvec;
#endif
FASTMLP_INLINE ivec vadd_bits(ivec a, ivec b) { return (ivec)((uvec)a + (uvec)b); }
FASTMLP_INLINE ivec vsub_bits(ivec a, ivec b) { return (ivec)((uvec)a - (uvec)b); }
FASTMLP_INLINE ivec vshift_left(ivec a, int n) { return (ivec)((uvec)a << n); }
FASTMLP_INLINE ivec vshift_right(ivec a, int n) { return (ivec)((uvec)a >> n); }  /* zeros come in */

/* Unsigned integers of 32 bits, one in every lane, whatever its width: they wrap around. */
#define LOW32(x) (sizeof(real) == 4 ? (x) : (x) & 0xffffffffu)
FASTMLP_INLINE ivec vset1_32(uint32_t x) { return (ivec)((uvec){0} + (ureal)x); }
FASTMLP_INLINE ivec vadd32(ivec a, ivec b) { return (ivec)LOW32((uvec)a + (uvec)b); }
FASTMLP_INLINE ivec vmul32(ivec a, ivec b) { return (ivec)LOW32((uvec)a * (uvec)b); }
FASTMLP_INLINE ivec vxor32(ivec a, ivec b) { return a ^ b; }
FASTMLP_INLINE ivec vlane32(void) { ivec i; memcpy(&i, LANE_INDEX, sizeof i); return i; }
#if defined(VEC_BYTES)
FASTMLP_INLINE ivec vless32(ivec a, ivec b) { return (ivec)((uvec)a < (uvec)b); }
#else
FASTMLP_INLINE ivec vless32(ivec a, ivec b) { return -(ireal)((ureal)a < (ureal)b); }
#endif

FASTMLP_INLINE vec vabs(vec a) { return vfrom_bits(vbits(a) & vset1_int(~SIGN_BIT)); }
/* a >= 0 with the sign of b. */
FASTMLP_INLINE vec vwith_sign(vec a, vec b) { return vfrom_bits(vbits(a) | (vbits(b) & vset1_int(SIGN_BIT))); }

/* a < b ? a : b and a > b ? a : b, to the bit: b where either is NaN, and where both are zeros. What x86 has for it is
 * that; NEON's own minimum and maximum are something else for NaN and zeros. */
#if defined(FASTMLP_ISA_avx512) && defined(FASTMLP_REAL_f32)
FASTMLP_INLINE vec vmin(vec a, vec b) { return (vec)_mm512_min_ps((__m512)a, (__m512)b); }
FASTMLP_INLINE vec vmax(vec a, vec b) { return (vec)_mm512_max_ps((__m512)a, (__m512)b); }
#elif defined(FASTMLP_ISA_avx512)
FASTMLP_INLINE vec vmin(vec a, vec b) { return (vec)_mm512_min_pd((__m512d)a, (__m512d)b); }
FASTMLP_INLINE vec vmax(vec a, vec b) { return (vec)_mm512_max_pd((__m512d)a, (__m512d)b); }
#elif defined(FASTMLP_ISA_avx2) && defined(FASTMLP_REAL_f32)
FASTMLP_INLINE vec vmin(vec a, vec b) { return (vec)_mm256_min_ps((__m256)a, (__m256)b); }
FASTMLP_INLINE vec vmax(vec a, vec b) { return (vec)_mm256_max_ps((__m256)a, (__m256)b); }
#elif defined(FASTMLP_ISA_avx2)
FASTMLP_INLINE vec vmin(vec a, vec b) { return (vec)_mm256_min_pd((__m256d)a, (__m256d)b); }
FASTMLP_INLINE vec vmax(vec a, vec b) { return (vec)_mm256_max_pd((__m256d)a, (__m256d)b); }
#elif defined(FASTMLP_ISA_neon) && defined(FASTMLP_REAL_f32)
FASTMLP_INLINE vec vmin(vec a, vec b) {
    return (vec)vbslq_f32(vcltq_f32((float32x4_t)a, (float32x4_t)b), (float32x4_t)a, (float32x4_t)b);
}
FASTMLP_INLINE vec vmax(vec a, vec b) {
    return (vec)vbslq_f32(vcgtq_f32((float32x4_t)a, (float32x4_t)b), (float32x4_t)a, (float32x4_t)b);
}
#elif defined(FASTMLP_ISA_neon)
FASTMLP_INLINE vec vmin(vec a, vec b) {
    return (vec)vbslq_f64(vcltq_f64((float64x2_t)a, (float64x2_t)b), (float64x2_t)a, (float64x2_t)b);
}
FASTMLP_INLINE vec vmax(vec a, vec b) {
    return (vec)vbslq_f64(vcgtq_f64((float64x2_t)a, (float64x2_t)b), (float64x2_t)a, (float64x2_t)b);
}
#else
FASTMLP_INLINE vec vmin(vec a, vec b) { return vselect(vless(a, b), a, b); }
FASTMLP_INLINE vec vmax(vec a, vec b) { return vselect(vless(b, a), a, b); }
#endif
/* --------------------------------------------------------------------------------------------------- */

/* ---- bfloat16: the operands of products are rounded to it, sums stay float32 ----------------------------
 * An operand takes the place of a real in memory. It is one term of a sum, rounded and kept as a float32, or, for an
 * instruction that multiplies pairs, two of them. VDPBF16PS has term k in the high half, which it adds first, and term
 * k + 2 in the low one: so even and odd terms are in operands of their own, as where one is a term. Tiles have term k
 * in the low half and k + 1 in the high one. */
#if defined(FASTMLP_BF16_avx512_bf16) || WITH_TILES
/* Two vectors, rounded, in the halves of the lanes of one. */
FASTMLP_INLINE vec vhalves(vec low, vec high) {
    const __m512i zipped = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,
                                            23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (vec)_mm512_permutexvar_epi16(zipped, (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low));
}
#endif

/* TERMS of an operand, how far they are APART, and the first one of operand u; operands of vectors of first and second
 * terms, where there are second ones; and of two vectors of successive terms. Rounded to nearest even; of
 * subnormal numbers, zeros; NaN stays NaN. */
#if defined(FASTMLP_BF16_avx512_bf16)
enum { TERMS = 2, APART = 2 };
FASTMLP_INLINE Py_ssize_t first_term(Py_ssize_t u) { return u / 2 * 4 + u % 2; }
FASTMLP_INLINE vec voperand(vec first, vec second) { return vhalves(second, first); }
FASTMLP_INLINE vec voperand_of_row(vec low, vec high) {     /* pairs of lanes in turn are first and second */
    const __m512i firsts = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
    const __m512i seconds = _mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1);
    return voperand((vec)_mm512_permutex2var_epi64((__m512i)low, firsts, (__m512i)high),
                    (vec)_mm512_permutex2var_epi64((__m512i)low, seconds, (__m512i)high));
}
#elif WITH_TILES
enum { TERMS = 2, APART = 1 };
FASTMLP_INLINE Py_ssize_t first_term(Py_ssize_t u) { return 2 * u; }
FASTMLP_INLINE vec voperand(vec first, vec second) { return vhalves(first, second); }
FASTMLP_INLINE vec voperand_of_row(vec low, vec high) {
    return (vec)(__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}
#else
enum { TERMS = 1, APART = 0 };
FASTMLP_INLINE Py_ssize_t first_term(Py_ssize_t u) { return u; }
FASTMLP_INLINE vec voperand(vec first, vec second) {
    ivec bits = vbits(first), odd = vshift_right(bits, 16) & vset1_int(1);
    ivec rounded = vadd_bits(bits, vadd_bits(odd, vset1_int(0x7fff))) & vset1_int(~(ireal)0xffff);
    ivec normal = vless32(vsub_bits(bits & vset1_int(~SIGN_BIT), vset1_int(0x00800000)), vset1_int(0x7f000000));
    (void)second;
    return vselect(normal, vfrom_bits(rounded), first);     /* subnormal numbers count as zeros when they are multiplied */
}
FASTMLP_INLINE vec voperand_of_row(vec low, vec high) { return voperand(low, high); }
#endif
/* --------------------------------------------------------------------------------------------------- */

/* The same pointer, of which the compiler knows nothing: it makes addresses from it anew, and does not spill them. */
#if defined(HAS_VECTORS)
FASTMLP_INLINE real *launder(real *p) { __asm__("" : "+r"(p)); return p; }
#else
FASTMLP_INLINE real *launder(real *p) { return p; }
#endif

/* p will be written soon; p will be read, but not at once: the second-level cache will do. */
#if defined(HAS_VECTORS)
#  define vprefetch(p) __builtin_prefetch(p, 1)
#  define vprefetch_soon(p) __builtin_prefetch(p, 0, 3)
#  define vprefetch_read(p) __builtin_prefetch(p, 0, 2)
#else
#  define vprefetch(p) ((void)0)
#  define vprefetch_soon(p) ((void)0)
#  define vprefetch_read(p) ((void)0)
#endif

/* The register tile: at most MR rows by NV vectors of accumulators, beside NV vectors of b and one
 * broadcast of a.
 *
 * Half a cache for what stays, the other half for what passes: KC rows of a panel of b (NR = NV VL wide) fill half
 * of the first-level cache (32 KiB; with AVX-512 64 KiB, for there the second is as fast, and a sum in fewer parts
 * passes less of c), MC rows of a with as many columns half of the second (512 KiB; 1 MiB with AVX-512; with vectors
 * of 16 bytes all of 512 KiB, but such processors have more). A gradient sums KG rows of the batch at a time for MG
 * inputs.
 *
 * An unpacked b is worth packing for PACK_ROWS rows of a; for PACK_PADDED_ROWS if its rows are padded, and spread over
 * the sets of a cache as they are. A caller's a is packed too if b has PACK_COLUMNS: it is read for every panel of b; and
 * a whole block of b if more than PACK_BLOCK_ROWS rows pass it.
 * A b of more than CACHED reals does not stay in the second-level cache: its next panel is fetched ahead, for few
 * rows only one of more than STREAMED. PANEL and BLOCK are reals of scratch, SCRATCH is all that a gradient takes.
 *
 * Tiles multiply so fast that passing over operands and sums counts: a gradient takes more inputs and samples in one go,
 * in 1 MiB of the second-level cache, of which their processors have 2; and in training the weights are packed ONCE a
 * step, as operands beside the reals, and not where a product needs them, block by block. */
enum {
    NV = 2,
    NR = NV * VL,
    PARTS = WITH_BF16 ? 2 : 1,   /* sums of an element of c beside each other: those of even and of odd terms */
    SPAN = WITH_BF16 ? 32 : 1,    /* terms after which these are added up: every block but the last is whole ones */
    RUN = WITH_BF16 ? SPAN / TERMS : NR,      /* operands of a row of a that lie together */
    ONCE = WITH_TILES,
    BEYOND = WITH_TILES ? 15 * RUN : 0,       /* reals that the last tile of a may read after its rows, and ignore */
#if defined(FASTMLP_ISA_avx512)
    MR = WITH_TILES ? 32 : 12 / PARTS,
    KC = 65536 / (NR * sizeof(real)),
#elif defined(FASTMLP_ISA_neon)
    MR = 8 / PARTS,
    KC = 16384 / (NR * sizeof(real)),
#else
    MR = 6 / PARTS,
    KC = 16384 / (NR * sizeof(real)),
#endif
    MC = 1024 / sizeof(real),
    KG = WITH_TILES ? 1024 : 512,
    CHUNK = 4096,                 /* rows of a batch that one chain sums: the sums of chunks are then added in order */
    MG = (WITH_TILES ? 2048 : 768) / sizeof(real),
    PANEL = KC * NR,
    BLOCK = (MC > MG ? MC : MG) * NR,
    SCRATCH = 2 * BLOCK + NR * NR,
    PACK_ROWS = 48,
    PACK_PADDED_ROWS = 20 * MR,
    PACK_COLUMNS = 32 * NR,
    PACK_BLOCK_ROWS = 2 * MC,
    CACHED = 262144 / sizeof(real),
    STREAMED = 4194304 / sizeof(real),
    LINE = 64 / sizeof(real),     /* reals in a cache line: the unit of every padded row */
    TREE = 16 / VL,               /* vectors of the 16 lanes that every sum over a row is kept in */
};
#endif
