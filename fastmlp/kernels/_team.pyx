"""A small team of worker threads that run one loop together.

Workers are made at first use, wait for work for some fifty microseconds after a call and then sleep, and never touch
Python: they cannot hold up the interpreter's exit. One that wakes up on a processor of the team leaves it for a free
one. One call has the team at a time; others that come meanwhile run on their own thread. A forked child starts with
no workers.
"""

import os

from libc.string cimport memset

cdef extern from "team.h" nogil:
    ctypedef long atomic
    long atomic_read(atomic* a)
    void atomic_write(atomic* a, long value)
    long atomic_exchange_value(atomic* a, long value)
    long atomic_add(atomic* a, long value)
    void wait_while(atomic* a, long value)
    void yield_processor()
    void relax()
    int processor()
    void leave_processor(const atomic* taken, int count)
    enum:
        SPINS

cdef extern from "pythread.h" nogil:
    ctypedef void* PyThread_type_lock
    PyThread_type_lock PyThread_allocate_lock()
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait)
    void PyThread_release_lock(PyThread_type_lock lock)
    unsigned long PyThread_start_new_thread(void (*function)(void*) noexcept nogil, void* argument)
    unsigned long PYTHREAD_INVALID_THREAD_ID

cdef enum:
    MOST_WORKERS = 255

cdef struct Worker:
    int thread                  # its number in the team, from 1
    atomic calls                # work given so far
    atomic asleep
    PyThread_type_lock bell     # held, but for a moment to wake the worker
    char apart[64]              # a cache line of its own

cdef Worker workers[MOST_WORKERS]
cdef int made = 0               # workers that run
cdef bint claimed = False
cdef int callers = 0            # calls that run now, with the team or without
cdef Work the_work
cdef void* the_argument
cdef atomic unfinished
cdef atomic processors[MOST_WORKERS + 1]    # where each thread of the team began its last work


cdef void settle(int thread) noexcept nogil:
    """Not on the processor of a thread that comes before this one."""
    cdef long here = processor()
    cdef int i
    for i in range(thread):
        if here >= 0 and atomic_read(&processors[i]) == here:
            leave_processor(processors, thread)
            here = processor()
            break
    atomic_write(&processors[thread], here)


cdef void live(void* argument) noexcept nogil:
    """A worker's life: wait, spinning and then asleep; work; tell."""
    cdef Worker* me = <Worker*>argument
    cdef long seen = 0
    cdef int spins
    while True:
        spins = 0
        while atomic_read(&me.calls) == seen and spins < SPINS:
            relax()
            spins += 1
        if spins == SPINS:
            atomic_write(&me.asleep, 1)
            # Work given just now is taken at once, unless the giver has already rung.
            if atomic_read(&me.calls) == seen or atomic_exchange_value(&me.asleep, 0) == 0:
                PyThread_acquire_lock(me.bell, 1)
        seen = atomic_read(&me.calls)
        settle(me.thread)
        the_work(the_argument, me.thread)
        atomic_add(&unfinished, -1)


cdef int claim(int threads):
    global made, claimed, callers
    cdef Worker* worker
    callers += 1
    threads = min(threads // callers, MOST_WORKERS + 1)
    if threads <= 1 or claimed:
        return 1
    while made < threads - 1:
        worker = &workers[made]
        memset(worker, 0, sizeof(Worker))
        worker.thread = made + 1
        worker.bell = PyThread_allocate_lock()
        if worker.bell == NULL:
            break
        PyThread_acquire_lock(worker.bell, 1)
        if PyThread_start_new_thread(live, worker) == PYTHREAD_INVALID_THREAD_ID:
            break
        made += 1
    if made == 0:
        return 1
    claimed = True
    return min(threads, made + 1)


cdef void run(Work work, void* argument, int threads) noexcept nogil:
    global the_work, the_argument
    cdef int i
    cdef long left
    cdef bint woken = False
    if threads > 1:
        the_work = work
        the_argument = argument
        settle(0)
        atomic_write(&unfinished, threads - 1)
        for i in range(threads - 1):
            atomic_add(&workers[i].calls, 1)
            if atomic_exchange_value(&workers[i].asleep, 0) == 1:
                PyThread_release_lock(workers[i].bell)
                woken = True
        if woken:
            yield_processor()           # to one that woke up here, to settle elsewhere
    work(argument, 0)
    left = atomic_read(&unfinished) if threads > 1 else 0
    while left != 0:
        wait_while(&unfinished, left)
        left = atomic_read(&unfinished)


cdef void release(int threads) noexcept:
    global claimed, callers
    callers -= 1
    if threads > 1:
        claimed = False


def _after_fork():
    """The child of a fork has none of the workers, and none of the calls of other threads."""
    global made, claimed, callers
    made = 0
    claimed = False
    callers = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
