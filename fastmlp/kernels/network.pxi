# A network in memory, and its layers one by one.

cdef struct Layer:
    Py_ssize_t n_in
    Py_ssize_t n_out
    Py_ssize_t row_out          # padded n_out: rows of w
    int activation
    real alpha
    double dropout              # share of the outputs that training drops
    # where its parameters begin, in any buffer laid out as fastmlp/_core/layout.py says
    Py_ssize_t at_w
    Py_ssize_t at_b
    Py_ssize_t at_scale         # -1 without batch normalisation
    # the caller's
    real* w                     # (n_in, n_out), unpacked
    real* b                     # (n_out,)
    real* scale                 # (n_out,) of batch normalisation, or NULL
    real* running_mean          # (n_out,)
    real* running_variance      # (n_out,)
    double statistics_rate      # how fast these two follow the batches
    double epsilon
    # of an int8 predictor, in the place of w: see int8.pxi
    int8_t* w8                  # (n_in, n_out) in panels
    real* w8_scale              # (n_out,)
    ireal* w8_sum               # (n_out,) of its columns
    # the workspace's, for training
    bint unpacked               # w_p is not in panels, but like w: of the first layer, where samples are sparse
    real* w_p                   # (n_in, n_out) in panels: the weights while a run trains them
    real* b_p                   # (n_out,) the biases then
    real* scale_p               # (n_out,) and the scales
    real* w_o                   # the operands of w_p, where they are packed ONCE
    real* w_t                   # (n_out, n_in) in panels, for every layer but the first; operands then
    real* y                     # (batch, n_out) in panels: outputs, for every layer but the last
    real* s                     # (batch, n_out) in panels: derivatives dy/dz, where y does not give them, or NULL
    real* d                     # (batch, n_out) in panels: deltas, gradients of the pre-activations
    real* x_hat                 # (batch, n_out) in panels: normalised, or NULL
    real* mean                  # (n_out,) of the batch
    real* inv_std               # (n_out,) 1 / its standard deviation
    real* d_scale               # (n_out,) gradients of scale
    real* d_shift               # (n_out,) and of b where it is the shift


cdef inline Py_ssize_t padded(Py_ssize_t n) noexcept nogil:
    """As fastmlp/_core/layout.py has it."""
    cdef Py_ssize_t lines = (n + LINE - 1) // LINE
    if lines >= 4:
        lines |= 1
    return lines * LINE


cdef inline Py_ssize_t operands_panel(Py_ssize_t k) noexcept nogil:
    """From one panel of packed weights, of sums of k terms, to the next: an odd number of rows, for the sake of the cache
    sets."""
    return (operands_of(k) | 1) * NR


cdef inline bint finished_apart(const Layer* layer) noexcept nogil:
    """Its matrix product leaves z, and finish_rows makes y of it."""
    return layer.scale != NULL or layer.s != NULL


cdef void dense(const Layer* layer, bint apart, const real* w, Py_ssize_t w_row, Py_ssize_t w_panel, const real* b,
                real* y, Py_ssize_t y_row, Py_ssize_t y_panel,
                const real* x, Py_ssize_t x_row, Py_ssize_t x_run, Py_ssize_t x_panel, Py_ssize_t rows,
                real* packed, bint operands) noexcept nogil:
    """y = f(x w + b), or the pre-activations alone; each matrix unpacked or in panels. `packed` is scratch for a panel of
    unpacked weights that PACK_PADDED_ROWS rows and more pass; in bfloat16, of product_scratch. `operands`: in bfloat16, w is in them."""
    cdef Product p
    p.m = rows
    p.n = layer.n_out
    p.k = layer.n_in
    p.a = x
    p.a_row = x_row
    p.a_run = x_run
    p.a_panel = x_panel
    p.b = w
    p.b_row = w_row
    p.b_panel = w_panel
    p.b_operands = operands
    p.c = y
    p.c_row = y_row
    p.c_panel = y_panel
    p.bias = b if layer.scale == NULL else NULL     # else it is the shift
    p.activation = ACT_IDENTITY if apart else layer.activation
    p.alpha = layer.alpha
    p.y = NULL
    p.exact = False
    p.a_block = packed + PANEL if WITH_BF16 else NULL
    p.b_block = NULL
    p.packed = packed
    p.edge = NULL
    gemm(&p)


cdef void dense_data_gradient(const Layer* below, const Layer* layer, Py_ssize_t panel,
                              Py_ssize_t r0, Py_ssize_t rows, real* packed) noexcept nogil:
    """below.d = (layer.d w^T) f'(z), of y = f(z) below; `packed` is scratch in bfloat16, of product_scratch."""
    cdef Product p
    p.m = rows
    p.n = layer.n_in
    p.k = layer.n_out
    p.a = layer.d + r0 * NR
    p.a_row = NR
    p.a_run = NR
    p.a_panel = panel
    p.b = layer.w_t
    p.b_row = NR
    p.b_panel = operands_panel(layer.n_out) if ONCE else layer.n_out * NR
    p.b_operands = ONCE
    p.c = below.d + r0 * NR
    p.c_row = NR
    p.c_panel = panel
    p.bias = NULL
    p.activation = ACT_SLOPE if below.s != NULL else below.activation
    p.alpha = below.alpha
    p.y = (below.s if below.s != NULL else below.y) + r0 * NR
    p.exact = False
    p.a_block = packed + PANEL if WITH_BF16 else NULL
    p.b_block = NULL
    p.packed = packed
    p.edge = NULL
    gemm(&p)
