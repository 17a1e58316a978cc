/* Atomics, and the barrier of threads that run the same loop.
 *
 * Every operation is sequentially consistent. A worker that falls asleep and a caller that has work for it each write
 * one variable and then read the other's: with anything weaker both may read what was there before. */
#ifndef FASTMLP_TEAM_H
#define FASTMLP_TEAM_H

#include <stddef.h>

#if defined(_WIN32)
#  include <windows.h>
#  include <intrin.h>
typedef volatile long atomic;
static __inline long atomic_read(atomic *a) { return _InterlockedOr(a, 0); }
static __inline void atomic_write(atomic *a, long value) { _InterlockedExchange(a, value); }
static __inline long atomic_exchange_value(atomic *a, long value) { return _InterlockedExchange(a, value); }
static __inline long atomic_add(atomic *a, long value) { return _InterlockedExchangeAdd(a, value) + value; }
static __inline void yield_processor(void) { SwitchToThread(); }
static __inline void relax(void) { YieldProcessor(); }
#else
#  include <sched.h>
typedef long atomic;
static inline long atomic_read(atomic *a) { return __atomic_load_n(a, __ATOMIC_SEQ_CST); }
static inline void atomic_write(atomic *a, long value) { __atomic_store_n(a, value, __ATOMIC_SEQ_CST); }
static inline long atomic_exchange_value(atomic *a, long value) { return __atomic_exchange_n(a, value, __ATOMIC_SEQ_CST); }
static inline long atomic_add(atomic *a, long value) { return __atomic_add_fetch(a, value, __ATOMIC_SEQ_CST); }
static inline void yield_processor(void) { sched_yield(); }
static inline void relax(void) {
#  if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#  elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#  endif
}
#endif

/* Where several threads may write between two barriers; after the second all read what one of them wrote. */
static inline void write_any(ptrdiff_t *place, ptrdiff_t value) {
#if defined(__GNUC__)
    __atomic_store_n(place, value, __ATOMIC_RELAXED);
#else
    *(volatile ptrdiff_t *)place = value;
#endif
}

/* The processor that the calling thread runs on, or -1; and away from there, to one that is not in `taken`. Schedulers
 * wake a thread beside the one that wakes it, though another processor is idle, and may leave both there for a hundred
 * calls: they take turns. Nothing lasts but the move: the thread may run afterwards where it might before. */
#if defined(__linux__)
static inline int processor(void) { return sched_getcpu(); }
static inline void leave_processor(atomic *taken, int count) {
    cpu_set_t allowed, others;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    others = allowed;
    for (int i = 0; i < count; i++) {
        long one = atomic_read(&taken[i]);
        if (one >= 0 && one < CPU_SETSIZE) CPU_CLR((int)one, &others);
    }
    if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof others, &others) == 0)
        (void)sched_setaffinity(0, sizeof allowed, &allowed);
}
#else
static inline int processor(void) { return -1; }
static inline void leave_processor(atomic *taken, int count) { (void)taken; (void)count; }
#endif

/* A few microseconds of spinning catch a partner that is running; one that is not gets the processor. */
enum { SPINS = 2000 };

static inline void wait_while(atomic *a, long value) {
    for (int spins = 0; atomic_read(a) == value; spins++) {
        if (spins < SPINS) relax(); else yield_processor();
    }
}

/* All zeros at first. The last thread to arrive opens the gate for the others. */
typedef struct {
    atomic arrived;
    char apart[64];
    atomic phase;
} Barrier;

static inline void barrier_wait(Barrier *b, int threads) {
    if (threads == 1) return;
    long phase = atomic_read(&b->phase);
    if (atomic_add(&b->arrived, 1) == threads) {
        atomic_write(&b->arrived, 0);
        atomic_write(&b->phase, phase + 1);
    } else {
        wait_while(&b->phase, phase);
    }
}
#endif
