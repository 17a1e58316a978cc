# What the machine can do, measured with the same vectors as the kernels: the yardsticks of every benchmark.

from time import perf_counter


cdef real fma_chains(Py_ssize_t rounds) noexcept nogil:
    """12 independent chains of FMAs, more than any processor's latency times its FMAs a cycle."""
    cdef vec acc[12]
    cdef vec x = vset1(<real>0.999), y = vset1(<real>0.001), total = vset1(0)
    cdef real lane[VL]
    cdef Py_ssize_t r
    cdef int i
    for i in range(12):
        acc[i] = vset1(i)
    for r in range(rounds):
        for i in range(12):
            acc[i] = vfma(acc[i], x, y)
    for i in range(12):
        total = total + acc[i]
    vstore(lane, total)
    return lane[0]


def fma_peak(double seconds=0.1):
    """GFLOP/s of one core doing nothing but FMAs: the best of many short runs, an FMA counted as 2 per lane."""
    cdef Py_ssize_t rounds = 20000
    cdef double best = 0, checksum = 0, started, stopped, end = perf_counter() + seconds
    while True:
        started = perf_counter()
        with nogil:
            checksum += fma_chains(rounds)
        stopped = perf_counter()
        best = max(best, rounds * 12 * 2 * VL / (stopped - started))
        if stopped > end:       # the checksum is what keeps the compiler from dropping the work
            return best / 1e9 if checksum > 0 else 0.0


def stream(const real[::1] buffer):
    """Reads a buffer once, with full vectors; its sum."""
    cdef vec acc[8]
    cdef real lane[VL]
    cdef Py_ssize_t i, n = buffer.shape[0] // (8 * VL)
    cdef const real* p = &buffer[0]
    cdef int j
    with nogil:
        for j in range(8):
            acc[j] = vset1(0)
        for i in range(n):
            for j in range(8):
                acc[j] = acc[j] + vload(p + j * VL)
            p += 8 * VL
        for j in range(1, 8):
            acc[0] = acc[0] + acc[j]
        vstore(lane, acc[0])
    return lane[0]
