/* Atomics, and the barrier of threads that run the same loop. */
#ifndef FASTMLP_TEAM_H
#define FASTMLP_TEAM_H

#if defined(_MSC_VER)
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
static inline long atomic_read(atomic *a) { return __atomic_load_n(a, __ATOMIC_ACQUIRE); }
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
