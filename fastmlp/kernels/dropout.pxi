# Dropout: random numbers that depend on what they are for, never on who asks for them or in which order.
#
# Whether a unit is dropped is a hash of (seed, step, layer, row, unit), as in counter-based generators
# (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a 64-bit key for the row, and from it
# 32 bits for every unit. The mixers are those of SplitMix64 (Steele, Lea, Flood, 2014) and MurmurHash3
# (Appleby, 2011). fastmlp/backends/numpy/dropout.py is the same in NumPy.

cdef inline uint64_t mix64(uint64_t x) noexcept nogil:
    x += <uint64_t>0x9e3779b97f4a7c15
    x = (x ^ (x >> 30)) * <uint64_t>0xbf58476d1ce4e5b9
    x = (x ^ (x >> 27)) * <uint64_t>0x94d049bb133111eb
    return x ^ (x >> 31)


cdef inline uint64_t row_key(uint64_t seed, uint64_t step, uint64_t layer, uint64_t row) noexcept nogil:
    return mix64(mix64(mix64(mix64(seed) + step) + layer) + row)


cdef inline ivec unit_bits(ivec low, ivec high, uint32_t unit) noexcept nogil:
    """32 bits for each of the units that begin there."""
    cdef ivec h = vadd32(low, vmul32(vadd32(vset1_32(unit), vlane32()), vset1_32(<uint32_t>0x9e3779b9)))
    h = vmul32(vxor32(h, vshift_right(h, 16)), vset1_32(<uint32_t>0x85ebca6b))
    h = vmul32(vxor32(vxor32(h, vshift_right(h, 13)), high), vset1_32(<uint32_t>0xc2b2ae35))
    return vxor32(h, vshift_right(h, 16))


cdef void drop_rows(Layer* layer, uint64_t seed, uint64_t step, uint64_t number, Py_ssize_t panel,
                    Py_ssize_t r0, Py_ssize_t r1) noexcept nogil:
    """y = y m / keep, s = s m / keep;  m is 1 with probability keep = 1 - dropout, else 0"""
    cdef ivec dropped_below = vset1_32(<uint32_t>(layer.dropout * 4294967296.0)), low, high
    cdef vec keep = vset1(<real>(1 / (1 - layer.dropout))), kept
    cdef uint64_t key
    cdef real* y
    cdef real* s
    cdef Py_ssize_t i, c, at
    for i in range(r0, r1):
        key = row_key(seed, step, number, i)
        low = vset1_32(<uint32_t>key)
        high = vset1_32(<uint32_t>(key >> 32))
        for c from 0 <= c < layer.n_out by VL:
            kept = vselect(vless32(unit_bits(low, high, <uint32_t>c), dropped_below), vset1(0), keep)
            at = c // NR * panel + i * NR + c % NR
            y = layer.y + at
            s = layer.s + at
            vstore(y, vload(y) * kept)
            vstore(s, vload(s) * kept)
