/* The floating-point mode in which the kernels compute, and the caller's.
 *
 * Subnormal numbers count as zero, as operands and as results: many processors take a hundred times longer for them,
 * and a network that is sure of itself makes them by the million (softmax of distant logits, moments that decay).
 * Rounding is to nearest, and no exception traps, whatever the caller has set. */
#ifndef FASTMLP_FPMODE_H
#define FASTMLP_FPMODE_H

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#  include <xmmintrin.h>
typedef unsigned fp_mode;
enum { KERNEL_MODE = 0x9fc0 };          /* MXCSR: flush to zero, denormals are zeros, exceptions masked */
static inline fp_mode enter_kernel_mode(void) {
    fp_mode callers = _mm_getcsr();
    _mm_setcsr(KERNEL_MODE);
    return callers;
}
static inline void leave_kernel_mode(fp_mode callers) { _mm_setcsr(callers); }
#elif defined(__aarch64__)
typedef uint64_t fp_mode;
#  define KERNEL_MODE ((fp_mode)1 << 24) /* FPCR: flush to zero, of operands and results */
static inline fp_mode enter_kernel_mode(void) {
    fp_mode callers;
    __asm__ __volatile__("mrs %0, fpcr" : "=r"(callers));
    __asm__ __volatile__("msr fpcr, %0" : : "r"(KERNEL_MODE) : "memory");
    return callers;
}
static inline void leave_kernel_mode(fp_mode callers) {
    __asm__ __volatile__("msr fpcr, %0" : : "r"(callers) : "memory");
}
#else                                   /* gradual underflow */
typedef int fp_mode;
static inline fp_mode enter_kernel_mode(void) { return 0; }
static inline void leave_kernel_mode(fp_mode callers) { (void)callers; }
#endif

#endif
