/* Large buffers in large pages, where the system gives them on request: a walk across the panels of a large
 * network would miss the address cache at every step. */
#ifndef FASTMLP_MEMORY_H
#define FASTMLP_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#if defined(__linux__)
#  include <sys/mman.h>
#endif

static inline void prefer_large_pages(void *start, size_t bytes) {
#if defined(MADV_HUGEPAGE)
    enum { PAGE = 4096, LARGE = 4 << 20 };
    uintptr_t first = ((uintptr_t)start + PAGE - 1) / PAGE * PAGE, end = (uintptr_t)start + bytes;
    if (bytes >= LARGE && first < end)
        (void)madvise((void *)first, end - first, MADV_HUGEPAGE);
#else
    (void)start;
    (void)bytes;
#endif
}

#endif
