# Runs of minibatches, without the GIL.
#
# A training step has two phases. (1) Each thread takes its own rows of the batch through all layers,
# forward and back; where a layer is normalised over the batch, the threads meet. (2) After a barrier each
# thread owns a slice of every weight matrix: it sums the gradient of a tile over the whole batch, updates the
# parameters while the sum is in registers or cache, and renews the transposed copy that the next step goes
# back through. Only a limit on the norm of all gradients makes it write them down first. No sum depends on who
# owns what.

cdef struct Run:
    Layer* layers
    int depth
    int threads
    Barrier barrier
    # the data
    Table table                 # the samples
    Targets targets             # of the samples in their own order
    Table target_rows           # where targets are values
    const double* weights       # of the samples, or NULL
    const Py_ssize_t* order     # sample at each place, or NULL
    Py_ssize_t n                # samples
    Py_ssize_t batch_size
    Py_ssize_t first, last      # steps
    bint load, store            # the weights from the caller's arrays before the run, and back after it
    # the rules
    LossRule loss
    PyObject* loss_function     # the caller's own loss, or NULL
    bint failed                 # it raised
    Optimizer weight_rule
    Optimizer bias_rule
    const double* rates         # (steps, RATES) of the optimizer, or NULL: gradients only
    Py_ssize_t rates_row        # from a step to the next: 0 where all are alike
    double clip_norm            # largest norm of all gradients, or 0
    Py_ssize_t destination      # distance of the gradients from the parameters, where they are written down
    int slots
    Py_ssize_t slot[MOST_SLOTS] # distances of the rule's state from the caller's parameters
    uint64_t seed               # of dropout
    uint64_t count              # steps the model took before this run
    # the batch at hand
    Py_ssize_t panel            # from one panel of a (batch, .) matrix to the next
    real* x                     # (batch, inputs) in panels
    real* z                     # (batch, outputs), plain: logits, then their gradient; where one panel holds them
    Py_ssize_t z_row            # all, the last layer's deltas themselves
    Py_ssize_t* labels
    real* t                     # (batch, outputs), plain, where targets are values
    double* w                   # (batch,) weights of the rows
    real* losses
    double* squares             # of every row of every layer's gradients
    double loss_sum             # over all samples so far, each times its weight
    double weight_sum


# Phase 1: rows of the batch ------------------------------------------------------------------------

cdef inline Py_ssize_t sample_at(const Run* run, Py_ssize_t place) noexcept nogil:
    """The sample at a place of the epoch; beyond the end, the last one."""
    place = min(place, run.n - 1)
    return run.order[place] if run.order != NULL else place


cdef enum:
    AHEAD = 16384               # bytes of samples that are fetched before they are read


cdef void gather_batch(Run* run, Py_ssize_t start, Py_ssize_t r0, Py_ssize_t r1) noexcept nogil:
    """Samples and targets of rows r0..r1, from wherever they are."""
    cdef Layer* top = run.layers + run.depth - 1
    cdef Py_ssize_t i, sample, next, ahead = AHEAD // row_nbytes(&run.table) + 1
    for i in range(r0, r1):
        sample = sample_at(run, start + i)
        next = sample_at(run, start + i + ahead)
        convert_row(run.x + i * NR, NR, run.panel, &run.table, sample, next)
        if run.weights != NULL:
            run.w[i] = run.weights[sample]
        if run.targets.labels != NULL:
            run.labels[i] = run.targets.labels[sample]
        elif run.loss_function == NULL:
            convert_row(run.t + i * top.row_out, top.row_out, 0, &run.target_rows, sample, next)


cdef double total_weight(const Run* run, Py_ssize_t start, Py_ssize_t rows) noexcept nogil:
    """Of all rows of the batch, in their order."""
    cdef double total = 0
    cdef Py_ssize_t i
    if run.weights == NULL:
        return rows
    for i in range(start, start + rows):
        total += run.weights[sample_at(run, i)]
    return total


cdef void finish_rows(Run* run, int number, int thread, Py_ssize_t step, Py_ssize_t rows,
                      Py_ssize_t r0, Py_ssize_t r1) noexcept nogil:
    """From z to y where the matrix product does not: normalisation, an activation whose slope is kept, dropout."""
    cdef Layer* layer = run.layers + number
    cdef Py_ssize_t n_panels = panels(layer.n_out) // NR, p, here
    if layer.scale != NULL:
        barrier_wait(&run.barrier, run.threads)
        batch_statistics(layer, run.panel, rows, share(n_panels, thread, run.threads),
                         share(n_panels, thread + 1, run.threads), run.rates != NULL)
        barrier_wait(&run.barrier, run.threads)
        normalise_rows(layer, layer.y + r0 * NR, layer.x_hat + r0 * NR, run.panel, layer.mean, layer.deviation, r1 - r0)
    for p in range(n_panels):
        here = p * run.panel + r0 * NR
        if layer.s != NULL:
            activate_with_slope(layer.activation, layer.alpha, layer.y + here, layer.s + here, (r1 - r0) * NR)
        else:
            map_array(layer.activation, layer.y + here, layer.y + here, (r1 - r0) * NR, layer.alpha)
    if layer.dropout > 0:
        drop_rows(layer, run.seed, run.count + (step - run.first), number, run.panel, r0, r1)


cdef bint call_loss(Run* run, Py_ssize_t start, Py_ssize_t rows) noexcept with gil:
    """The caller's own loss: writes its gradient over the logits; False where it raised."""
    loss = (<object>run.loss_function)(<real[:rows, :run.z_row]>run.z, start, rows)
    if loss is None:
        return False
    run.loss_sum += <double>loss * rows
    run.weight_sum += rows
    return True


cdef void loss_of_batch(Run* run, int thread, Py_ssize_t start, Py_ssize_t rows, Py_ssize_t r0, Py_ssize_t r1) noexcept nogil:
    """Losses of rows r0..r1, and their gradients over the logits."""
    cdef Layer* top = run.layers + run.depth - 1
    cdef Targets targets
    cdef double weight
    if run.loss_function != NULL:
        barrier_wait(&run.barrier, run.threads)
        if thread == 0 and not call_loss(run, start, rows):
            run.failed = True
        barrier_wait(&run.barrier, run.threads)
        return
    targets.labels = run.labels if run.targets.labels != NULL else NULL
    targets.rows = run.t
    targets.row = top.row_out
    weight = total_weight(run, start, rows)
    loss_rows(&run.loss, run.z, run.z, run.z_row, &targets, run.losses, r0, r1, top.n_out,
              run.w if run.weights != NULL else NULL, 1 / weight if weight > 0 else 0)


cdef inline Py_ssize_t rows_of(const Run* run, Py_ssize_t step) noexcept nogil:
    """The last batch may be smaller."""
    return min(run.batch_size, run.n - step * run.batch_size)


cdef void rows_phase(Run* run, int thread, Py_ssize_t step) noexcept nogil:
    """This thread's rows of the batch: gather, forward, loss, backward."""
    cdef Layer* layers = run.layers
    cdef Layer* layer
    cdef Layer* top = layers + run.depth - 1
    cdef Py_ssize_t start = step * run.batch_size, rows = rows_of(run, step), n_panels, i
    cdef Py_ssize_t r0 = share(rows, thread, run.threads), r1 = share(rows, thread + 1, run.threads)
    cdef int l
    gather_batch(run, start, r0, r1)
    for l in range(run.depth):
        layer = layers + l
        dense(layer, finished_apart(layer), layer.w_p, NR, layer.n_in * NR,
              layer.y + r0 * NR if layer != top else run.z + r0 * run.z_row,
              NR if layer != top else run.z_row, run.panel if layer != top else NR,
              (layers[l - 1].y if l else run.x) + r0 * NR, NR, NR, run.panel, r1 - r0)
        if finished_apart(layer):
            finish_rows(run, l, thread, step, rows, r0, r1)
    loss_of_batch(run, thread, start, rows, r0, r1)
    if run.z != top.d:
        for i in range(r0, r1):
            to_panels(top.d + i * NR, run.panel, run.z + i * run.z_row, top.n_out)
    for l in range(run.depth - 1, 0, -1):
        layer = layers + l - 1
        dense_data_gradient(layer, layers + l, run.panel, r0, r1 - r0)
        if layer.scale != NULL:
            n_panels = panels(layer.n_out) // NR
            barrier_wait(&run.barrier, run.threads)
            normalisation_sums(layer, run.panel, rows, share(n_panels, thread, run.threads),
                               share(n_panels, thread + 1, run.threads))
            barrier_wait(&run.barrier, run.threads)
            normalisation_backward(layer, run.panel, rows, r0, r1)


# Phase 2: slices of the parameters -----------------------------------------------------------------

cdef void load_slice(Run* run, const Layer* layer, Py_ssize_t k0, Py_ssize_t k1) noexcept nogil:
    """Inputs k0..k1 of the weights, and of the rule's state, from the caller's arrays to panels."""
    cdef Py_ssize_t at = k0 * layer.row_out
    cdef int i
    pack(layer.w_p + k0 * NR, layer.n_in * NR, layer.w + at, layer.row_out, k1 - k0, layer.n_out)
    for i in range(run.slots):
        pack(layer.w_p + run.weight_rule.slot[i] + k0 * NR, layer.n_in * NR, layer.w + run.slot[i] + at,
             layer.row_out, k1 - k0, layer.n_out)
    transpose_slice(layer, k0, k1)


cdef void unpack(real* x, Py_ssize_t x_row, const real* y, Py_ssize_t panel, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """A matrix in panels, plain."""
    cdef Py_ssize_t c
    for c from 0 <= c < n by NR:
        copy_tile(x + c, x_row, y + c // NR * panel, NR, rows, min(n - c, <Py_ssize_t>NR))


cdef void store_slice(Run* run, const Layer* layer, Py_ssize_t k0, Py_ssize_t k1) noexcept nogil:
    """And back."""
    cdef Py_ssize_t at = k0 * layer.row_out
    cdef int i
    unpack(layer.w + at, layer.row_out, layer.w_p + k0 * NR, layer.n_in * NR, k1 - k0, layer.n_out)
    for i in range(run.slots):
        unpack(layer.w + run.slot[i] + at, layer.row_out, layer.w_p + run.weight_rule.slot[i] + k0 * NR,
               layer.n_in * NR, k1 - k0, layer.n_out)


cdef void transpose_slice(const Layer* layer, Py_ssize_t k0, Py_ssize_t k1) noexcept nogil:
    """Renews inputs k0..k1 of w_t."""
    cdef Py_ssize_t k = k0, n, end
    while layer.w_t != NULL and k < k1:
        end = min(k1, (k // NR + 1) * NR)
        for n from 0 <= n < layer.n_out by NR:
            transpose(layer.w_t + (k // NR * layer.n_out + n) * NR + k % NR, NR,
                      layer.w_p + n * layer.n_in + k * NR, NR, end - k, min(layer.n_out - n, <Py_ssize_t>NR))
        k = end


cdef void weights_step(Run* run, Layer* layer, const real* inputs, Py_ssize_t rows, const Optimizer* rule,
                       Py_ssize_t k0, Py_ssize_t k1) noexcept nogil:
    """The gradient of the weights of inputs k0..k1, handed to the rule; w_t is behind."""
    cdef Gradient g
    g.rows = rows
    g.k0 = k0
    g.k1 = k1
    g.n = layer.n_out
    g.a = inputs
    g.d = layer.d
    g.panel = run.panel
    g.a_block = NULL
    if rule.rule == RULE_GRADIENT:
        g.g = layer.w + run.destination
        g.g_row = layer.row_out
        g.g_panel = NR
    else:
        g.g = layer.w_p
        g.g_row = NR
        g.g_panel = layer.n_in * NR
    g.g_padded = g.g_row == NR or layer.row_out >= panels(layer.n_out)
    gemm_gradient(&g, rule)


cdef inline bint trains_turned(const Layer* layer, const Optimizer* rule) noexcept nogil:
    """Outputs so few that lanes of their vectors idle: then w_t, whose rows are inputs, takes the step, and w_p follows.
    Not where the rule has state: that lies as w_p does."""
    return layer.w_t != NULL and layer.n_out < NR and layer.n_out <= layer.n_in and rule.rule == RULE_SGD


cdef void turned_weights_step(Run* run, Layer* layer, const real* inputs, Py_ssize_t rows, const Optimizer* rule,
                              Py_ssize_t p0, Py_ssize_t p1) noexcept nogil:
    """weights_step of panels p0..p1 of the inputs, with the gradient d^T x."""
    cdef Gradient g
    cdef Py_ssize_t p
    g.rows = rows
    g.k0 = 0
    g.k1 = layer.n_out
    g.n = min(p1 * NR, layer.n_in) - p0 * NR
    g.a = layer.d
    g.d = inputs + p0 * run.panel
    g.panel = run.panel
    g.a_block = NULL
    g.g = layer.w_t + p0 * layer.n_out * NR
    g.g_row = NR
    g.g_panel = layer.n_out * NR
    g.g_padded = False              # of an input that does not exist the weights stay 0
    gemm_gradient(&g, rule)
    for p in range(p0, p1):
        transpose(layer.w_p + p * NR * NR, NR, layer.w_t + p * layer.n_out * NR, NR, layer.n_out,
                  min(layer.n_in - p * NR, <Py_ssize_t>NR))


cdef void biases_step(Run* run, Layer* layer, Py_ssize_t rows, const Optimizer* rule,
                      Py_ssize_t p0, Py_ssize_t p1) noexcept nogil:
    """The gradient of the biases in panels p0..p1 of units, handed to the rule; and of the scales."""
    cdef Py_ssize_t c = p0 * NR, n = min(p1 * NR, layer.n_out) - p0 * NR
    cdef Py_ssize_t away = run.destination if rule.rule == RULE_GRADIENT else 0
    if layer.scale != NULL:                 # the sums are there already
        update(rule, layer.b + away + c, n, layer.d_shift + c, n, 1, n)
        update(rule, layer.scale + away + c, n, layer.d_scale + c, n, 1, n)
        return
    bias_gradient(layer.d + p0 * run.panel, run.panel, rows, n, layer.b + away + c, rule)


cdef void parameters_phase(Run* run, Py_ssize_t rows, const Optimizer* weight_rule, const Optimizer* bias_rule,
                           int thread) noexcept nogil:
    """Gradient and update of this thread's inputs of every layer, and of its share of the biases."""
    cdef Layer* layer
    cdef const real* inputs
    cdef Py_ssize_t n_panels, k0, k1
    cdef int l
    for l in range(run.depth):
        layer = run.layers + l
        inputs = run.layers[l - 1].y if l else run.x
        n_panels = panels(layer.n_out) // NR
        biases_step(run, layer, rows, bias_rule, share(n_panels, thread, run.threads),
                    share(n_panels, thread + 1, run.threads))
        if trains_turned(layer, weight_rule):
            n_panels = panels(layer.n_in) // NR
            turned_weights_step(run, layer, inputs, rows, weight_rule, share(n_panels, thread, run.threads),
                                share(n_panels, thread + 1, run.threads))
            continue
        k0 = share(layer.n_in, thread, run.threads)
        k1 = share(layer.n_in, thread + 1, run.threads)
        weights_step(run, layer, inputs, rows, weight_rule, k0, k1)
        if weight_rule.rule != RULE_GRADIENT:
            transpose_slice(layer, k0, k1)


# The same with a limit on the norm: gradients are written down, measured, and then used -------------

cdef double norm_scale(Run* run, int thread) noexcept nogil:
    """min(1, clip_norm / norm of all gradients): squares row by row, added up in one order."""
    cdef Layer* layer
    cdef double total = 0
    cdef const real* row
    cdef Py_ssize_t k, at = 0
    cdef int l
    for l in range(run.depth):
        layer = run.layers + l
        for k in range(share(layer.n_in, thread, run.threads), share(layer.n_in, thread + 1, run.threads)):
            row = layer.w + run.destination + k * layer.row_out
            run.squares[at + k] = dot_row(row, row, layer.n_out)
        at += layer.n_in
    barrier_wait(&run.barrier, run.threads)
    for l in range(run.depth):
        layer = run.layers + l
        total += dot_row(layer.b + run.destination, layer.b + run.destination, layer.n_out)
        if layer.scale != NULL:
            total += dot_row(layer.scale + run.destination, layer.scale + run.destination, layer.n_out)
    for k in range(at):
        total += run.squares[k]
    return run.clip_norm / sqrt(total) if total > run.clip_norm * run.clip_norm else 1


cdef void use_gradients(Run* run, const Optimizer* weight_rule, const Optimizer* bias_rule, int thread) noexcept nogil:
    """Update of this thread's inputs of every layer, and of its share of the biases, from written gradients."""
    cdef Layer* layer
    cdef Py_ssize_t k0, k1, c, n, n_panels, c0, c1
    cdef int l
    for l in range(run.depth):
        layer = run.layers + l
        k0 = share(layer.n_in, thread, run.threads)
        k1 = share(layer.n_in, thread + 1, run.threads)
        for c from 0 <= c < layer.n_out by NR:
            update(weight_rule, layer.w_p + c * layer.n_in + k0 * NR, NR,
                   layer.w + run.destination + k0 * layer.row_out + c, layer.row_out,
                   k1 - k0, min(layer.n_out - c, <Py_ssize_t>NR))
        n_panels = panels(layer.n_out) // NR
        c0 = share(n_panels, thread, run.threads) * NR
        c1 = min(share(n_panels, thread + 1, run.threads) * NR, layer.n_out)
        n = c1 - c0
        update(bias_rule, layer.b + c0, n, layer.b + run.destination + c0, n, 1, n)
        if layer.scale != NULL:
            update(bias_rule, layer.scale + c0, n, layer.scale + run.destination + c0, n, 1, n)
        transpose_slice(layer, k0, k1)


cdef void clipped_phase(Run* run, Py_ssize_t rows, Optimizer* weight_rule, Optimizer* bias_rule, int thread) noexcept nogil:
    cdef Optimizer store = weight_rule[0]
    store.rule = RULE_GRADIENT
    parameters_phase(run, rows, &store, &store, thread)
    barrier_wait(&run.barrier, run.threads)
    weight_rule.scale = bias_rule.scale = <real>norm_scale(run, thread)
    use_gradients(run, weight_rule, bias_rule, thread)


# A run ---------------------------------------------------------------------------------------------

cdef void train(void* argument, int thread) noexcept nogil:
    """Steps first..last of a run, as one thread of run.threads that do the same."""
    cdef Run* run = <Run*>argument
    cdef Optimizer weight_rule = run.weight_rule, bias_rule = run.bias_rule
    cdef Py_ssize_t step, rows, i
    cdef int l
    if run.load:
        for l in range(run.depth):
            load_slice(run, run.layers + l, share(run.layers[l].n_in, thread, run.threads),
                       share(run.layers[l].n_in, thread + 1, run.threads))
        barrier_wait(&run.barrier, run.threads)
    for step in range(run.first, run.last):
        rows = rows_of(run, step)
        rows_phase(run, thread, step)
        barrier_wait(&run.barrier, run.threads)
        if run.failed:
            break
        if run.rates != NULL:
            set_rates(&weight_rule, run.rates + run.rates_row * (step - run.first))
            set_rates(&bias_rule, run.rates + run.rates_row * (step - run.first))
        if thread == 0 and run.loss_function == NULL:
            for i in range(rows):
                run.loss_sum += run.losses[i] * (run.w[i] if run.weights != NULL else 1.)
            run.weight_sum += total_weight(run, step * run.batch_size, rows)
        if run.clip_norm > 0:
            clipped_phase(run, rows, &weight_rule, &bias_rule, thread)
        else:
            parameters_phase(run, rows, &weight_rule, &bias_rule, thread)
        barrier_wait(&run.barrier, run.threads)
    if weight_rule.rule != RULE_GRADIENT and (run.store or run.failed):
        for l in range(run.depth):
            store_slice(run, run.layers + l, share(run.layers[l].n_in, thread, run.threads),
                        share(run.layers[l].n_in, thread + 1, run.threads))
