/* Asks the processor and the operating system which instruction sets run here.
 *
 * Built with the platform's baseline flags: nothing here may use what it asks for.
 */
#ifndef FASTMLP_DETECT_H
#define FASTMLP_DETECT_H

#define FASTMLP_TEXT_OF(...) #__VA_ARGS__
#define FASTMLP_TEXT(...) FASTMLP_TEXT_OF(__VA_ARGS__)

/* The instruction sets of this build, best first, between commas (setup.py defines FASTMLP_BUILT). */
static const char *fastmlp_built(void) { return FASTMLP_TEXT(FASTMLP_BUILT); }
/* And what it computes products of bfloat16 with. */
static const char *fastmlp_built_bf16(void) { return FASTMLP_TEXT(FASTMLP_BUILT_BF16); }
/* And what it multiplies 8-bit integers with. */
static const char *fastmlp_built_int8(void) { return FASTMLP_TEXT(FASTMLP_BUILT_INT8); }

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <cpuid.h>

/* Bits of XCR0: register state that the operating system saves when it switches tasks. */
enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xe6 };

static unsigned fastmlp_xcr0(void) {
    unsigned low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static int fastmlp_runs_avx2(void) {
    unsigned a, b, c, d;
    const unsigned fma = 1u << 12, osxsave = 1u << 27, avx = 1u << 28;      /* leaf 1, ecx */
    const unsigned avx2 = 1u << 5;                                          /* leaf 7, ebx */
    if (__get_cpuid_max(0, 0) < 7) return 0;
    __cpuid(1, a, b, c, d);
    if ((c & fma) == 0 || (c & osxsave) == 0 || (c & avx) == 0) return 0;
    if ((fastmlp_xcr0() & XCR0_AVX) != XCR0_AVX) return 0;
    __cpuid_count(7, 0, a, b, c, d);
    return (b & avx2) != 0;
}

static int fastmlp_runs_avx512(void) {
    unsigned a, b, c, d;
    const unsigned wanted = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;      /* f, dq, bw, vl */
    if (!fastmlp_runs_avx2()) return 0;
    if ((fastmlp_xcr0() & XCR0_AVX512) != XCR0_AVX512) return 0;
    __cpuid_count(7, 0, a, b, c, d);
    return (b & wanted) == wanted;
}

static int fastmlp_runs_avx512_vnni(void) {
    unsigned a, b, c, d;
    if (!fastmlp_runs_avx512()) return 0;
    __cpuid_count(7, 0, a, b, c, d);
    return (c & 1u << 11) != 0;
}

static int fastmlp_runs_avx_vnni(void) {
    unsigned a, b, c, d;
    if (!fastmlp_runs_avx2()) return 0;
    __cpuid_count(7, 0, a, b, c, d);
    if (a < 1) return 0;                                                    /* no leaf 7.1 */
    __cpuid_count(7, 1, a, b, c, d);
    return (a & 1u << 4) != 0;
}

static int fastmlp_runs_avx512_bf16(void) {
    unsigned a, b, c, d;
    if (!fastmlp_runs_avx512()) return 0;
    __cpuid_count(7, 0, a, b, c, d);
    if (a < 1) return 0;                                                    /* no leaf 7.1 */
    __cpuid_count(7, 1, a, b, c, d);
    return (a & 1u << 5) != 0;
}

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>

/* Tiles are large, so that Linux gives them only to a process that has asked, and only then saves them. */
enum { ARCH_GET_XCOMP_SUPP = 0x1021, ARCH_GET_XCOMP_PERM = 0x1022, ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };

static int fastmlp_has_tile_data(int question) {
    unsigned long features = 0;
    return syscall(SYS_arch_prctl, question, &features) == 0 && (features & 1ul << TILE_DATA) != 0;
}

/* AMX with a type of operands, tiles of the size that amx.h takes them to have, and a system that can give them. */
static int fastmlp_has_tiles(unsigned operands) {
    unsigned a, b, c, d;
    const unsigned wanted = operands | 1u << 24;                            /* leaf 7, edx: tile */
    const unsigned xcr0_tiles = 3u << 17;                                   /* their configuration, their data */
    if (!fastmlp_runs_avx512()) return 0;
    __cpuid_count(7, 0, a, b, c, d);
    if ((d & wanted) != wanted || (fastmlp_xcr0() & xcr0_tiles) != xcr0_tiles) return 0;
    if (__get_cpuid_max(0, 0) < 0x1d) return 0;
    __cpuid_count(0x1d, 1, a, b, c, d);
    if ((b & 0xffff) != 64 || b >> 16 < 8 || (c & 0xffff) < 16) return 0;   /* bytes of a row, tiles, rows */
    return fastmlp_has_tile_data(ARCH_GET_XCOMP_SUPP);
}

/* AVX512-BF16 packs what they multiply; VPDPBUSD multiplies where there are few rows. */
static int fastmlp_runs_amx_bf16(void) { return fastmlp_runs_avx512_bf16() && fastmlp_has_tiles(1u << 22); }
static int fastmlp_runs_amx_int8(void) { return fastmlp_runs_avx512_vnni() && fastmlp_has_tiles(1u << 25); }

/* Asks for tiles, for all threads of this process and for its children. */
static int fastmlp_gets_tiles(void) {
    return fastmlp_has_tile_data(ARCH_GET_XCOMP_PERM)
        || (syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0 && fastmlp_has_tile_data(ARCH_GET_XCOMP_PERM));
}
#else
static int fastmlp_runs_amx_bf16(void) { return 0; }
static int fastmlp_runs_amx_int8(void) { return 0; }
static int fastmlp_gets_tiles(void) { return 0; }
#endif

/* Whether VDPBF16PS is faster than two FMAs: on AMD's processors twice as fast as one; on Intel's, half as fast. */
static int fastmlp_is_fast_avx512_bf16(void) {
    unsigned a, b, c, d;
    __cpuid(0, a, b, c, d);
    return b == signature_AMD_ebx && d == signature_AMD_edx && c == signature_AMD_ecx;
}
#else
static int fastmlp_runs_avx2(void) { return 0; }
static int fastmlp_runs_avx512(void) { return 0; }
static int fastmlp_runs_avx512_vnni(void) { return 0; }
static int fastmlp_runs_avx_vnni(void) { return 0; }
static int fastmlp_runs_avx512_bf16(void) { return 0; }
static int fastmlp_is_fast_avx512_bf16(void) { return 0; }
static int fastmlp_runs_amx_bf16(void) { return 0; }
static int fastmlp_runs_amx_int8(void) { return 0; }
static int fastmlp_gets_tiles(void) { return 0; }
#endif

#if defined(__aarch64__)
static int fastmlp_runs_neon(void) { return 1; }    /* part of the architecture */
#else
static int fastmlp_runs_neon(void) { return 0; }
#endif

/* SDOT, which came later: Linux says whether it is there; every processor of Apple has it. */
#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
static int fastmlp_runs_neon_dotprod(void) { return (getauxval(AT_HWCAP) & 1ul << 20) != 0; }
#elif defined(__aarch64__) && defined(__APPLE__)
static int fastmlp_runs_neon_dotprod(void) { return 1; }
#else
static int fastmlp_runs_neon_dotprod(void) { return 0; }
#endif
#endif
