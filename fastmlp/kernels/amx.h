/* The tile vocabulary: everything the kernels know of AMX.
 *
 * A thread has eight tiles, 0 to 7, each of TILE_ROWS rows of 64 bytes: 16 sums, or 16 operands of 32 bits. In modules of
 * bfloat16 (FASTMLP_BF16_...) sums are float32 and operands pairs of bfloat16; in those of float32 (FASTMLP_INT8_...)
 * sums are int32, and operands four bytes, of inputs without a sign and of weights with one.
 *
 *   enter_tiles(used)        a kernel may use tiles from here on, all of them whole, and zeros; unless `used` is 0
 *   leave_tiles(used)        and here no more: the thread has no state of tiles, as before
 *   tile_zero(t)
 *   tile_load(t, p, row)     from reals (or what is in the place of reals) whose rows are `row` of them apart
 *   tile_store(t, p, row)
 *   tile_multiply(c, a, b)   c[i][j] += sum of a[i][k] b[k][j], products of the terms of operands. TDPBF16PS: one span of
 *                            the sum as docs/guide/bfloat16.md has it. TDPBUSD: in integers that wrap around
 *
 * t, c, a, b are constants. There are two implementations: the instructions (..._amx), which round to nearest and flush
 * subnormals whatever the mode of the thread; and the same in C (..._amx_emulated), so that all that uses tiles can be
 * tested on any processor. Elsewhere the names are there and do nothing.
 */
#ifndef FASTMLP_AMX_H
#define FASTMLP_AMX_H

#include <stddef.h>
#include <stdint.h>

enum { TILES = 8, TILE_ROWS = 16, TILE_COLUMNS = 16, TILE_ROW_BYTES = 64 };

#if defined(FASTMLP_BF16_amx) || defined(FASTMLP_INT8_amx)

/* What LDTILECFG reads. */
static const struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} WHOLE_TILES = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

#define enter_tiles(used) do { if (used) __asm__ volatile("ldtilecfg %0" : : "m"(WHOLE_TILES)); } while (0)
#define leave_tiles(used) do { if (used) __asm__ volatile("tilerelease" : : : "memory"); } while (0)
#define tile_zero(t) __asm__ volatile("tilezero %%tmm%c0" : : "i"(t))
#define tile_load(t, p, row)                                                  \
    __asm__ volatile("tileloadd (%1,%2,1), %%tmm%c0" : : "i"(t), "r"(p),      \
                     "r"((ptrdiff_t)(row) * (ptrdiff_t)sizeof(float)) : "memory")
#define tile_store(t, p, row)                                                 \
    __asm__ volatile("tilestored %%tmm%c0, (%1,%2,1)" : : "i"(t), "r"(p),     \
                     "r"((ptrdiff_t)(row) * (ptrdiff_t)sizeof(float)) : "memory")
#if defined(FASTMLP_BF16_amx)
#  define MULTIPLIES "tdpbf16ps"
#else
#  define MULTIPLIES "tdpbusd"
#endif
#define tile_multiply(c, a, b)                                                \
    __asm__ volatile(MULTIPLIES " %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(c), "i"(a), "i"(b))

#elif defined(FASTMLP_BF16_amx_emulated) || defined(FASTMLP_INT8_amx_emulated)

#include <math.h>
#include <string.h>
#include "fpmode.h"

/* Where the processor raises an exception, this ends the process, too; and where tiles are entered a second time, which
 * it allows: somebody has not left them. */
static __thread struct {
    int entered;
    union {
        float sums[TILE_ROWS][TILE_COLUMNS];
        uint32_t operands[TILE_ROWS][TILE_COLUMNS];
    } tile[TILES];
} tiles;

static void enter_tiles(int used) {
    if (!used) return;
    if (tiles.entered) __builtin_trap();
    memset(&tiles, 0, sizeof tiles);
    tiles.entered = 1;
}
static void leave_tiles(int used) {
    if (!used) return;
    if (!tiles.entered) __builtin_trap();
    memset(&tiles, 0xff, sizeof tiles);         /* NaN: nothing lasts */
    tiles.entered = 0;
}
static void check_tile(int t) {
    if (!tiles.entered || t < 0 || t >= TILES) __builtin_trap();
}
static void tile_zero(int t) {
    check_tile(t);
    memset(&tiles.tile[t], 0, sizeof tiles.tile[t]);
}
static void tile_load(int t, const void *p, ptrdiff_t row) {
    check_tile(t);
    for (int i = 0; i < TILE_ROWS; i++)
        memcpy(tiles.tile[t].operands[i], (const char *)p + i * row * (ptrdiff_t)sizeof(float), TILE_ROW_BYTES);
}
static void tile_store(int t, void *p, ptrdiff_t row) {
    check_tile(t);
    for (int i = 0; i < TILE_ROWS; i++)
        memcpy((char *)p + i * row * (ptrdiff_t)sizeof(float), tiles.tile[t].operands[i], TILE_ROW_BYTES);
}

#if defined(FASTMLP_BF16_amx_emulated)
/* The first of a pair of bfloat16, in the low half, and the second. */
static inline float first_of(uint32_t pair) { float x; pair <<= 16; memcpy(&x, &pair, 4); return x; }
static inline float second_of(uint32_t pair) { float x; pair &= 0xffff0000u; memcpy(&x, &pair, 4); return x; }

/* In the kernels' mode; not inline, so that no operation is moved out of it. */
__attribute__((noinline)) static void multiply_in_mode(float (*c)[16], const uint32_t (*a)[16],
                                                       const uint32_t (*b)[16]) {
    for (int i = 0; i < TILE_ROWS; i++) {
        float even[TILE_COLUMNS] = {0}, odd[TILE_COLUMNS] = {0};
        for (int k = 0; k < 16; k++) {
            float x = first_of(a[i][k]), y = second_of(a[i][k]);
            for (int j = 0; j < TILE_COLUMNS; j++) {
                even[j] = __builtin_fmaf(x, first_of(b[k][j]), even[j]);
                odd[j] = __builtin_fmaf(y, second_of(b[k][j]), odd[j]);
            }
        }
        for (int j = 0; j < TILE_COLUMNS; j++) c[i][j] = c[i][j] + (even[j] + odd[j]);
    }
}
static void multiply_operands(int c, int a, int b) {
    fp_mode callers = enter_kernel_mode();
    multiply_in_mode(tiles.tile[c].sums, tiles.tile[a].operands, tiles.tile[b].operands);
    leave_kernel_mode(callers);
}
#else
__attribute__((noinline)) static void multiply_operands(int c, int a, int b) {
    for (int i = 0; i < TILE_ROWS; i++)
        for (int k = 0; k < 16; k++) {
            uint32_t x = tiles.tile[a].operands[i][k];
            for (int j = 0; j < TILE_COLUMNS; j++) {
                uint32_t y = tiles.tile[b].operands[k][j], sum = 0;
                for (int term = 0; term < 32; term += 8)
                    sum += (x >> term & 0xff) * (uint32_t)(int8_t)(y >> term);
                tiles.tile[c].operands[i][j] += sum;
            }
        }
}
#endif
static void tile_multiply(int c, int a, int b) {
    check_tile(c), check_tile(a), check_tile(b);
    if (c == a || c == b || a == b) __builtin_trap();
    multiply_operands(c, a, b);
}

#else

#define enter_tiles(used) ((void)(used))
#define leave_tiles(used) ((void)(used))
#define tile_zero(t) ((void)(t))
#define tile_load(t, p, row) ((void)(t), (void)(p), (void)(row))
#define tile_store(t, p, row) ((void)(t), (void)(p), (void)(row))
#define tile_multiply(c, a, b) ((void)(c), (void)(a), (void)(b))

#endif
#endif
