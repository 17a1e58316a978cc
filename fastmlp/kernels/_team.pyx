"""A small team of worker threads that run one loop together.

Workers are made at first use, wait for work for some fifty microseconds after a call and then sleep, and never touch
Python: they cannot hold up the interpreter's exit. One that wakes up on a processor of the team leaves it for a free
one. One call has the team at a time; others that come meanwhile run on their own thread. Whose it is does not depend on
the GIL. A forked child starts with no workers, and with no claims but those of the thread that forked.
"""

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
    void leave_processor(atomic* taken, int count)
    enum:
        SPINS

cdef extern from "thread.h" nogil:
    int start_thread(void (*function)(void*) noexcept nogil, void* argument)
    int in_forked_child(void (*function)() noexcept nogil)

cdef extern from "pythread.h" nogil:
    ctypedef void* PyThread_type_lock
    PyThread_type_lock PyThread_allocate_lock()
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait)
    void PyThread_release_lock(PyThread_type_lock lock)

cdef extern from *:
    """
    static THREAD_LOCAL int own_claims = 0;
    static THREAD_LOCAL int has_team = 0;

    /* By this symbol fastmlp/_core/threadpoolctl.py recognises the library. */
    extern Py_EXPORTED_SYMBOL const int fastmlp_team;
    const int fastmlp_team = 1;
    """
    int own_claims              # of the calling thread
    bint has_team               # one of them has the team

cdef enum:
    MOST_WORKERS = 255

cdef struct Worker:
    int thread                      # its number in the team, from 1
    atomic calls                    # work given so far
    atomic asleep
    PyThread_type_lock wake_lock    # held, but for a moment to wake the worker
    char apart[64]                  # a cache line of its own

cdef Worker workers[MOST_WORKERS]
cdef int made = 0               # workers that run; whoever has the team makes more
cdef atomic claimed = 0
cdef atomic callers = 0         # claims of all threads, with the team or without
cdef long forks_so_far = 0
cdef Work the_work
cdef void* the_argument
cdef atomic unfinished
cdef atomic processors[MOST_WORKERS + 1]    # where each thread of the team began its last work


cdef void migrate(int thread) noexcept nogil:
    """Not on the processor of a thread that comes before this one."""
    cdef long here = processor()
    cdef int i
    for i in range(thread):
        if here >= 0 and atomic_read(&processors[i]) == here:
            leave_processor(processors, thread)
            here = processor()
            break
    atomic_write(&processors[thread], here)


cdef void worker_main(void* argument) noexcept nogil:
    """Wait, spinning and then asleep; work; report; for ever."""
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
            # Work given just now is taken at once, unless the caller has already released the lock.
            if atomic_read(&me.calls) == seen or atomic_exchange_value(&me.asleep, 0) == 0:
                PyThread_acquire_lock(me.wake_lock, 1)
        seen = atomic_read(&me.calls)
        migrate(me.thread)
        the_work(the_argument, me.thread)
        atomic_add(&unfinished, -1)


cdef bint make_worker(int i) noexcept:
    """Worker i; False where the system has no lock or no thread to give. The lock is kept for the next attempt."""
    cdef Worker* worker = &workers[i]
    if worker.wake_lock == NULL:
        worker.wake_lock = PyThread_allocate_lock()
        if worker.wake_lock == NULL:
            return False
        PyThread_acquire_lock(worker.wake_lock, 1)
    worker.thread = i + 1
    atomic_write(&worker.calls, 0)
    atomic_write(&worker.asleep, 0)
    return start_thread(worker_main, worker) != 0


cdef int claim(int threads):
    global made, own_claims, has_team
    own_claims += 1
    threads = min(threads // <int>atomic_add(&callers, 1), MOST_WORKERS + 1)
    if threads <= 1 or atomic_exchange_value(&claimed, 1) == 1:
        return 1
    while made < threads - 1 and make_worker(made):
        made += 1
    if made == 0:
        atomic_write(&claimed, 0)
        return 1
    has_team = True
    return min(threads, made + 1)


cdef void run(Work work, void* argument, int threads) noexcept nogil:
    global the_work, the_argument
    cdef int i
    cdef long left, before = forks_so_far
    cdef bint woken = False
    if threads > 1:
        the_work = work
        the_argument = argument
        migrate(0)
        atomic_write(&unfinished, threads - 1)
        for i in range(threads - 1):
            atomic_add(&workers[i].calls, 1)
            if atomic_exchange_value(&workers[i].asleep, 0) == 1:
                PyThread_release_lock(workers[i].wake_lock)
                woken = True
        if woken:
            yield_processor()           # to one that woke up here, to migrate
    work(argument, 0)
    if threads > 1 and forks_so_far == before:      # a child made by the work has no workers to wait for
        left = atomic_read(&unfinished)
        while left != 0:
            wait_while(&unfinished, left)
            left = atomic_read(&unfinished)


cdef void release(int threads) noexcept:
    global own_claims, has_team
    atomic_add(&callers, -1)
    own_claims -= 1
    if threads > 1 and has_team:        # not where it was claimed before a fork: then it is another team
        has_team = False
        atomic_write(&claimed, 0)


cdef long forks() noexcept nogil:
    return forks_so_far


cdef int claims_of_thread() noexcept nogil:
    return own_claims


cdef void after_fork() noexcept nogil:
    """In the child, on the one thread that it has. Locks of the workers that are gone may be in any state."""
    global made, has_team, forks_so_far
    cdef int i
    for i in range(made):
        workers[i].wake_lock = NULL
    made = 0
    has_team = False
    atomic_write(&claimed, 0)
    atomic_write(&callers, own_claims)
    forks_so_far += 1


if not in_forked_child(after_fork):
    raise MemoryError("no room for what a forked child is to do")
