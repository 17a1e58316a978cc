# The worker team, for the kernel modules.

ctypedef void (*Work)(void* argument, int thread) noexcept nogil

# Claims up to `threads` threads, the calling one included, for one call of `run`; how many there are.
cdef int claim(int threads)
# work(argument, 0), on this thread, and work(argument, 1 .. threads - 1) on the workers; back when all are done.
cdef void run(Work work, void* argument, int threads) noexcept nogil
# Ends the claim.
cdef void release(int threads) noexcept
