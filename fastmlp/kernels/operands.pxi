# Operands of bfloat16 products: what the register tile reads in the place of reals.
#
# They are packed where a product needs them, block by block, from matrices of float32; the weights of a predictor once.
# Terms of a sum go into operands as simd.h says, and a last span of fewer than SPAN terms has zeros in
# the place of the others: some of these are multiplied, so that it does not matter for the sign of a zero how many.

cdef inline Py_ssize_t operands_of(Py_ssize_t k) noexcept nogil:
    """Operands that hold k terms: of whole spans, and then rounds of the tile's loop, with a zero in either chain."""
    cdef Py_ssize_t rest = k % SPAN
    if not WITH_BF16:
        return k
    if WITH_TILES:
        return (k + SPAN - 1) // SPAN * RUN
    return k // SPAN * RUN + (min(<Py_ssize_t>RUN, (rest + 1 + UNROLL * TERMS) // (UNROLL * TERMS) * UNROLL) if rest else 0)


cdef inline Py_ssize_t span_share(Py_ssize_t k, Py_ssize_t part, Py_ssize_t parts) noexcept nogil:
    """share of the terms of a sum; in bfloat16, every part begins with a span."""
    return min(k, share((k + SPAN - 1) // SPAN, part, parts) * SPAN)


cdef inline vec term_of_column(const real* x, Py_ssize_t x_row, Py_ssize_t k, Py_ssize_t at, Py_ssize_t width) noexcept nogil:
    """Part of row `at` of x (k, width), zeros beyond it."""
    return vload_part(x + at * x_row, width, 0) if at < k else vset1(0)


cdef void pack_columns(real* y, const real* x, Py_ssize_t x_row, Py_ssize_t k, Py_ssize_t width) noexcept nogil:
    """y (operands, NR): those of at most NR columns of x (k, width), whose terms are below each other."""
    cdef Py_ssize_t operands = operands_of(k), u = 0, at, j, left
    if width == NR:
        while u < k // (2 * TERMS) * 2:
            at = first_term(u)
            for j from 0 <= j < NR by VL:
                vstore(y + u * NR + j, voperand(vload(x + at * x_row + j), vload(x + (at + APART) * x_row + j)))
            u += 1
    for u in range(u, operands):
        at = first_term(u)
        for j from 0 <= j < NR by VL:
            left = width - j
            vstore(y + u * NR + j, voperand(term_of_column(x + j, x_row, k, at, left),
                                            term_of_column(x + j, x_row, k, at + APART, left)))


cdef void pack_factors(real* y, const real* x, Py_ssize_t x_row, Py_ssize_t k, Py_ssize_t width) noexcept nogil:
    """pack_columns for what a gradient takes as A; for tiles y (spans, NR, RUN), where the operands of a column are beside
    each other as those of pack_rows."""
    cdef real span[RUN * NR]
    cdef Py_ssize_t first
    if not WITH_TILES:
        pack_columns(y, x, x_row, k, width)
        return
    for first from 0 <= first < k by SPAN:
        pack_columns(span, x + first * x_row, x_row, min(k - first, <Py_ssize_t>SPAN), width)
        transpose(y, RUN, span, NR, RUN, NR)
        y += RUN * NR


cdef void pack_operands(real* y, Py_ssize_t panel, const real* x, Py_ssize_t x_row, Py_ssize_t k, Py_ssize_t n) noexcept nogil:
    """The operands of all columns of an unpacked x (k, n), in panels."""
    cdef Py_ssize_t j
    for j from 0 <= j < n by NR:
        pack_columns(y + j // NR * panel, x + j, x_row, k, min(n - j, <Py_ssize_t>NR))


cdef inline vec terms_of_row(const real* x, Py_ssize_t x_panel, Py_ssize_t k, Py_ssize_t at, bint whole) noexcept nogil:
    """The terms of a row from `at` on; zeros beyond k, unless its span is `whole`, a constant at every call."""
    x += at // NR * x_panel + at % NR
    return vload(x) if whole else vload_part(x, k - at, 0) if at < k else vset1(0)


cdef inline void pack_span(real* y, const real* x, Py_ssize_t x_row, Py_ssize_t x_panel, Py_ssize_t m, Py_ssize_t k,
                           Py_ssize_t first, bint whole) noexcept nogil:
    """y (m, RUN): the operands of terms `first` to first + SPAN of x (m, k)."""
    cdef Py_ssize_t i, j
    for i in range(m):
        for j from 0 <= j < RUN by VL:
            vstore(y + j, voperand_of_row(
                terms_of_row(x, x_panel, k, first + j * TERMS, whole),
                terms_of_row(x, x_panel, k, first + j * TERMS + VL * (TERMS - 1), whole)))
        x += x_row
        y += RUN


cdef void pack_rows(real* y, Py_ssize_t y_span, const real* x, Py_ssize_t x_row, Py_ssize_t x_panel,
                    Py_ssize_t m, Py_ssize_t k) noexcept nogil:
    """y (m, operands): those of x (m, k), whose terms are beside each other, in panels of RUN. x is in panels x_panel
    apart (NR: unpacked)."""
    cdef Py_ssize_t first
    for first from 0 <= first < k by SPAN:
        if first + SPAN <= k:
            pack_span(y, x, x_row, x_panel, m, k, first, True)
        else:
            pack_span(y, x, x_row, x_panel, m, k, first, False)
        y += y_span


cdef void pack_transposed(real* y, const real* x, Py_ssize_t x_row, Py_ssize_t x_panel, Py_ssize_t k,
                          Py_ssize_t n) noexcept nogil:
    """pack_columns of x^T (k, n) for at most NR columns, of x in panels x_panel apart; others of y stay as they are."""
    cdef real span[NR * RUN]
    cdef Py_ssize_t first, terms
    for first from 0 <= first < k by SPAN:
        terms = min(k - first, <Py_ssize_t>SPAN)
        pack_rows(span, 0, x + first // NR * x_panel, x_row, x_panel, n, terms)
        transpose(y + first // TERMS * NR, NR, span, RUN, n, operands_of(terms))


cdef inline Py_ssize_t product_scratch(Py_ssize_t rows) noexcept nogil:
    """Reals that a product of so many rows packs operands into: a panel of B, and a block of A."""
    return (PANEL + (min(rows, <Py_ssize_t>MC) | 1) * KC + BEYOND) if WITH_BF16 else 0


cdef inline Py_ssize_t gradient_operands(Py_ssize_t rows) noexcept nogil:
    """And those that a gradient over so many rows does: a panel of deltas, and inputs of a block."""
    return ((operands_of(rows) | 1) * (NR + MG) + BEYOND + LINE) if WITH_BF16 else 0
