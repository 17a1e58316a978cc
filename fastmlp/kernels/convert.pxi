# Rows of a table of any numeric dtype, with any strides, as reals: converted where they are used,
# batch by batch.

import sys

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy
from cpython.buffer cimport PyObject_GetBuffer, PyBuffer_Release, PyBUF_STRIDES, PyBUF_FORMAT

ctypedef fused Number:
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t
    float
    double

cdef enum Kind:
    KIND_INT = 0        # these three + k: 2^k bytes
    KIND_UINT = 4
    KIND_FLOAT = 8

cdef struct Table:
    const char* data            # row i, column j at data + i row + j column (bytes)
    Py_ssize_t rows
    Py_ssize_t columns
    Py_ssize_t row
    Py_ssize_t column
    int kind


cdef bint describe(Table* t, Py_buffer* view) except -1:
    """The table behind a buffer of one or two dimensions; False for a dtype that is not one of the above, and for
    elements whose addresses are no multiples of their size."""
    cdef char code = view.format[0] if view.format != NULL else c'B'
    cdef int k = 0, i
    if view.format != NULL and code in b"@=<" and view.format[1]:
        code = view.format[1] if code != c'<' or sys.byteorder == "little" else c'?'
    if not 1 <= view.ndim <= 2:
        return False
    t.data = <const char*>view.buf
    t.rows = view.shape[0]
    t.columns = view.shape[1] if view.ndim == 2 else 1
    t.row = view.strides[0]
    t.column = view.strides[1] if view.ndim == 2 else view.itemsize
    while (1 << k) < view.itemsize:
        k += 1
    if <size_t>view.buf % view.itemsize:
        return False
    for i in range(view.ndim):
        if view.shape[i] > 1 and view.strides[i] % view.itemsize:
            return False
    if code in b"efd":
        t.kind = KIND_FLOAT + k
    elif code in b"bhilq":
        t.kind = KIND_INT + k
    elif code in b"?BHILQ":
        t.kind = KIND_UINT + k
    else:
        return False
    return True


cdef inline Py_ssize_t row_nbytes(const Table* t) noexcept nogil:
    return t.columns << (t.kind & 3)


cdef inline bint is_real(const Table* t) noexcept nogil:
    return t.kind == (KIND_FLOAT + 2 if sizeof(real) == 4 else KIND_FLOAT + 3)


cdef inline const real* real_at(const Table* t, Py_ssize_t i) noexcept nogil:
    """The first element of row i, where `is_real`."""
    return <const real*>(t.data + i * t.row)


cdef inline real from_half(uint16_t h) noexcept nogil:
    """IEEE 754 binary16; the exponent of a float is 112 larger, and a subnormal half is no subnormal float."""
    cdef uint32_t bits = <uint32_t>(h & 0x7fff) << 13
    cdef float value
    if h & 0x7c00 == 0:
        value = <float>(h & 0x3ff) * <float>5.9604644775390625e-08         # 2^-24
    else:
        bits = bits | 0x7f800000 if h & 0x7c00 == 0x7c00 else bits + (<uint32_t>112 << 23)
        memcpy(&value, &bits, 4)
    return -value if h & 0x8000 else value


cdef inline void convert_as(Number* tag, real* y, Py_ssize_t width, Py_ssize_t panel, const char* x,
                            Py_ssize_t stride, Py_ssize_t n, Py_ssize_t ahead) noexcept nogil:
    cdef Py_ssize_t j, part
    cdef bint is_same = Number is double and sizeof(real) == 8 or Number is float and sizeof(real) == 4
    if stride == sizeof(Number) and width == NR:
        while n >= NR:                  # a constant number of elements: one or two vectors
            for j from 0 <= j < NR * <Py_ssize_t>sizeof(Number) by LINE * <Py_ssize_t>sizeof(real):
                vprefetch_soon(<const real*>(x + ahead + j))
            if is_same:
                for j from 0 <= j < NR by VL:
                    vstore(y + j, vload(<const real*>x + j))
            else:
                for j in range(NR):
                    y[j] = <real>(<const Number*>x)[j]
            x += NR * sizeof(Number)
            y += panel
            n -= NR
        if is_same:
            for j from 0 <= j < n by VL:        # what is behind are pads, and zeros
                vstore(y + j, vload_part(<const real*>x + j, n - j, 0))
            return
    while n > 0:
        part = min(n, width)
        if stride == sizeof(Number):
            for j in range(part):
                y[j] = <real>(<const Number*>x)[j]
        else:
            for j in range(part):
                y[j] = <real>(<const Number*>(x + j * stride))[0]
        x += part * stride
        y += panel
        n -= part


cdef void convert_row(real* y, Py_ssize_t width, Py_ssize_t panel, const Table* t, Py_ssize_t i,
                      Py_ssize_t next) noexcept nogil:
    """Row i of the table, its first `width` elements to y, the next to y + panel, and so on. Row `next` is fetched
    meanwhile."""
    cdef const char* x = t.data + i * t.row
    cdef Py_ssize_t n = t.columns, s = t.column, ahead = (next - i) * t.row, j
    if t.kind == KIND_FLOAT + 2: convert_as[float](NULL, y, width, panel, x, s, n, ahead)
    elif t.kind == KIND_FLOAT + 3: convert_as[double](NULL, y, width, panel, x, s, n, ahead)
    elif t.kind == KIND_UINT: convert_as[uint8_t](NULL, y, width, panel, x, s, n, ahead)
    elif t.kind == KIND_UINT + 1: convert_as[uint16_t](NULL, y, width, panel, x, s, n, ahead)
    elif t.kind == KIND_UINT + 2: convert_as[uint32_t](NULL, y, width, panel, x, s, n, ahead)
    elif t.kind == KIND_UINT + 3: convert_as[uint64_t](NULL, y, width, panel, x, s, n, ahead)
    elif t.kind == KIND_INT: convert_as[int8_t](NULL, y, width, panel, x, s, n, ahead)
    elif t.kind == KIND_INT + 1: convert_as[int16_t](NULL, y, width, panel, x, s, n, ahead)
    elif t.kind == KIND_INT + 2: convert_as[int32_t](NULL, y, width, panel, x, s, n, ahead)
    elif t.kind == KIND_INT + 3: convert_as[int64_t](NULL, y, width, panel, x, s, n, ahead)
    else:
        for j in range(n):
            y[j // width * panel + j % width] = from_half((<const uint16_t*>(x + j * s))[0])


cdef void to_panels(real* y, Py_ssize_t panel, const real* x, Py_ssize_t n) noexcept nogil:
    """One row, from unpacked to packed; whole panels are read and written."""
    cdef Py_ssize_t j
    cdef int v
    for j from 0 <= j < n by NR:
        for v in range(NV):
            vstore(y + v * VL, vload(x + j + v * VL))
        y += panel
