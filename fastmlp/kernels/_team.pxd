# The worker team, for the kernel modules.

ctypedef void (*Work)(void* argument, int thread) noexcept nogil

# Claims up to `threads` threads, the calling one included, for one call of `run`; how many there are.
cdef int claim(int threads)
# work(argument, 0), on this thread, and work(argument, 1 .. threads - 1) on the workers; returns when all are done.
cdef void run(Work work, void* argument, int threads) noexcept nogil
# Ends the claim, on the thread that made it.
cdef void release(int threads) noexcept
# Forks between the process that loaded the library and this one. Where it has grown while work called Python, this is
# the child: of the threads that run the work it has only the one that forked.
cdef long forks() noexcept nogil
# Claims that the calling thread holds; after a fork those that the forking thread held before.
cdef int claims_of_thread() noexcept nogil
