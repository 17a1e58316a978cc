# The vector vocabulary of simd.h, as Cython sees it.

cdef extern from "simd.h" nogil:
    ctypedef double real        # float or double, as simd.h says: Python's floats must not be narrowed on the way
    ctypedef int ireal
    ctypedef float vec
    ctypedef int ivec
    enum:
        VL
        NV
        NR
        MR
        KC
        MC
        PANEL
        BLOCK
        SCRATCH
        KG
        CHUNK
        CACHED
        STREAMED
        MG
        UNROLL
        PACK_ROWS
        PACK_PADDED_ROWS
        PACK_COLUMNS
        PACK_BLOCK_ROWS
        LINE
        TREE
        WITH_BF16
        WITH_TILES
        TERMS
        APART
        PARTS
        SPAN
        RUN
        ONCE
        BEYOND
    real* launder(real* p)
    void vprefetch(const real* p)
    void vprefetch_soon(const real* p)
    void vprefetch_read(const real* p)
    vec vset1(real x)
    vec vload(const real* p)
    void vstore(real* p, vec v)
    vec vload_part(const real* p, Py_ssize_t n, real fill)
    void vstore_part(real* p, vec v, Py_ssize_t n)
    vec vzero()
    vec vbroadcast(const real* p)
    void vaccumulate(vec c, vec a, vec b)
    Py_ssize_t first_term(Py_ssize_t operand)
    vec voperand(vec first, vec second)
    vec voperand_of_row(vec low, vec high)
    vec vfma(vec a, vec b, vec c)
    vec vsqrt(vec a)
    vec vselect(ivec mask, vec a, vec b)
    ivec vless(vec a, vec b)
    ivec vset1_int(ireal x)
    ivec vbits(vec v)
    vec vfrom_bits(ivec v)
    vec vzip_low(vec a, vec b)
    vec vzip_high(vec a, vec b)
    # bits of a real, for vector_math.pxi
    enum:
        MANTISSA
        BIAS
    const real ROUND
    ivec vadd_bits(ivec a, ivec b)
    ivec vsub_bits(ivec a, ivec b)
    ivec vshift_left(ivec a, int n)
    ivec vshift_right(ivec a, int n)
    # 32 bits in every lane, for dropout.pxi
    ivec vset1_32(unsigned int x)
    ivec vadd32(ivec a, ivec b)
    ivec vmul32(ivec a, ivec b)
    ivec vxor32(ivec a, ivec b)
    ivec vlane32()
    ivec vless32(ivec a, ivec b)
    vec vabs(vec a)
    vec vwith_sign(vec a, vec b)
    vec vmin(vec a, vec b)
    vec vmax(vec a, vec b)
