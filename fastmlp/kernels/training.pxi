# Runs of minibatches, without the GIL.
#
# A training step has two phases. (1) Each thread takes its own rows of the batch through all layers,
# forward and back; where a layer is normalised over the batch, the threads meet. (2) After a barrier each
# thread owns a slice of every weight matrix: it sums the gradient of a tile over the whole batch, updates the
# parameters while the sum is in registers or cache, and renews the transposed copy that the next step's backward pass
# reads. No sum depends on who owns what.
#
# Between gradients and update there is a place for what needs all gradients of a step, or changes them: `adjust`, and a
# limit on their norm. Only then are they stored first (stored_gradients_phase).
#
# Samples of weight 0 take no part: a batch is its other rows.

cdef struct Run:
    Layer* layers
    int depth
    int threads
    Barrier barrier
    # the data
    Table table                 # the samples; where they are sparse, their shape alone
    SparseTable sparse          # then these are the samples; else its indptr is NULL
    Targets targets             # of the samples in their own order
    Table target_rows           # where targets are values
    const double* weights       # of the samples, or NULL
    const Py_ssize_t* order     # sample at each place, or NULL
    Py_ssize_t n                # places
    Py_ssize_t batch_size
    Py_ssize_t first, last      # steps
    Py_ssize_t done             # steps that were completed
    bint load, store            # parameters and state from the caller's arrays before the run, and back after it
    real* parameters            # the caller's, and the rule's state, all laid out alike
    real* state[MOST_SLOTS]
    int slots
    real* gradients             # where they are stored, laid out like the parameters, or NULL
    # the rules
    LossRule loss
    PyObject* loss_function     # the caller's own loss, or NULL
    PyObject* adjust            # what the caller does to stored gradients before the update, or NULL
    bint failed                 # one of the two raised
    Py_ssize_t wrong            # a sample whose label is no class any more, or -1
    Py_ssize_t wrong_x          # one whose nonzeros are not where they were, or -1
    long process                # that began the run
    fp_mode callers_mode        # of the calling thread
    Optimizer weight_rule
    Optimizer bias_rule
    const double* rates         # (steps, RATES) of the optimizer, or NULL: gradients only
    Py_ssize_t rates_row        # from a step to the next: 0 where all are alike
    double clip_norm            # largest norm of all gradients, or 0
    uint64_t seed               # of dropout
    uint64_t global_step        # steps the model took before this run
    # the batch at hand
    Py_ssize_t panel            # from one panel of a (batch, .) matrix to the next
    real* x                     # (batch, inputs) in panels
    SparseBatch nonzeros        # or, where samples are sparse, their nonzeros
    real* z                     # (batch, outputs), unpacked: logits, then their gradient; where one panel holds them
    Py_ssize_t z_row            # all, the last layer's deltas themselves; of one output, a vector
    Py_ssize_t* labels
    real* t                     # (batch, outputs), unpacked, where targets are values
    Py_ssize_t t_row
    double* w                   # (batch,) weights of the rows
    real* losses
    double* squares             # of every row of every layer's gradients
    real* scratch               # training_scratch reals for every thread
    Py_ssize_t scratch_size     # so many
    double* penalties           # of every group of 16 outputs of every layer
    double* record              # of every step: mean loss, weight, penalty; or NULL
    Watch watch                 # of an observer
    double batch_loss           # mean, of the batch at hand
    double loss_sum             # over all samples so far, each times its weight
    double weight_sum


cdef struct Batch:
    Py_ssize_t start            # its first place
    Py_ssize_t end
    Py_ssize_t rows             # samples there whose weight is not 0
    double weight               # and what they weigh


# Phase 1: rows of the batch ------------------------------------------------------------------------

cdef inline Py_ssize_t sample_at(const Run* run, Py_ssize_t place) noexcept nogil:
    """The sample at a place of the epoch; beyond the end, the last one."""
    place = min(place, run.n - 1)
    return run.order[place] if run.order != NULL else place


cdef enum:
    AHEAD = 16384               # bytes of samples that are fetched before they are read
    AHEAD_NEAR = 1024           # where all of them stay in the second-level cache
    TABLE_NEAR = 524288


cdef inline Py_ssize_t next_counted(const Run* run, Py_ssize_t place, Py_ssize_t end) noexcept nogil:
    """The first place from `place` on whose sample does not weigh 0; the last one at the least."""
    while place < end - 1 and run.weights != NULL and not run.weights[sample_at(run, place)] > 0:
        place += 1
    return place


cdef Batch batch_of(const Run* run, Py_ssize_t step) noexcept nogil:
    """The samples of a step; the last batch may be smaller."""
    cdef Batch batch
    cdef Py_ssize_t place
    cdef double weight
    batch.start = step * run.batch_size
    batch.end = min(run.n, batch.start + run.batch_size)
    batch.weight = batch.rows = batch.end - batch.start
    if run.weights != NULL:
        batch.weight = batch.rows = 0
        for place in range(batch.start, batch.end):
            weight = run.weights[sample_at(run, place)]
            batch.rows += weight > 0
            batch.weight += weight
    return batch


cdef inline bint is_broken(const Run* run) noexcept nogil:
    """The loss raised, or samples are no longer what they were: the step is not made."""
    return run.failed or run.wrong >= 0 or run.wrong_x >= 0


cdef Py_ssize_t gather_nonzeros(Run* run, Py_ssize_t i, Py_ssize_t sample, Py_ssize_t at) noexcept nogil:
    """A sparse sample as row i of the batch, whose nonzeros begin at `at`; where they end."""
    cdef SparseBatch* x = &run.nonzeros
    cdef Py_ssize_t begin, end
    if not range_of_row(&run.sparse, sample, &begin, &end) or end - begin > x.capacity - at:
        write_any(&run.wrong_x, sample)
        end = begin
    x.begin[i] = at
    if not copy_nonzeros(x.columns + at, x.values + at, &run.sparse, begin, end - begin):
        write_any(&run.wrong_x, sample)
    for begin in range(begin, end):
        x.samples[at] = i
        at += 1
    x.end[i] = at
    return at


cdef void gather_batch(Run* run, const Batch* batch, Py_ssize_t r0, Py_ssize_t r1) noexcept nogil:
    """Samples and targets of rows r0..r1, from wherever they are."""
    cdef Layer* top = run.layers + run.depth - 1
    cdef Py_ssize_t i, place = batch.start, sample, next, label, row = row_nbytes(&run.table)
    cdef Py_ssize_t ahead = (AHEAD if run.table.rows * row > TABLE_NEAR else AHEAD_NEAR) // row + 1
    cdef Py_ssize_t at = 0, begin, end          # of sparse samples
    cdef bint sparse = run.sparse.indptr != NULL
    if run.weights == NULL and not sparse:
        place += r0
    else:
        for i in range(r0):
            place = next_counted(run, place, batch.end)
            if sparse:
                range_of_row(&run.sparse, sample_at(run, place), &begin, &end)
                at = min(at + end - begin, run.nonzeros.capacity)
            place += 1
    for i in range(r0, r1):
        place = next_counted(run, place, batch.end)
        sample = sample_at(run, place)
        next = sample_at(run, place + ahead)
        place += 1
        if sparse:
            at = gather_nonzeros(run, i, sample, at)
        else:
            convert_row(run.x + i * NR, NR, run.panel, &run.table, sample, next)
        if run.weights != NULL:
            run.w[i] = run.weights[sample]
        if run.targets.labels != NULL:
            label = run.targets.labels[sample]
            if not 0 <= label < top.n_out:      # they were right when the call began
                write_any(&run.wrong, sample)
                label = 0
            run.labels[i] = label
        elif run.loss_function == NULL and top.n_out == 1 and is_real(&run.target_rows):
            vprefetch_soon(real_at(&run.target_rows, next))
            run.t[i * run.t_row] = real_at(&run.target_rows, sample)[0]
        elif run.loss_function == NULL:
            convert_row(run.t + i * run.t_row, top.row_out, 0, &run.target_rows, sample, next)


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
        normalise_rows(layer, layer.scale_p, layer.b_p, layer.y + r0 * NR, layer.x_hat + r0 * NR, run.panel,
                       layer.mean, layer.inv_std, r1 - r0)
    for p in range(n_panels):
        here = p * run.panel + r0 * NR
        if layer.s != NULL:
            activate_with_slope(layer.activation, layer.alpha, layer.y + here, layer.s + here, (r1 - r0) * NR)
        else:
            map_array(layer.activation, layer.y + here, layer.y + here, (r1 - r0) * NR, layer.alpha)
    if layer.dropout > 0:
        drop_rows(layer, run.seed, run.global_step + (step - run.first), number, run.panel, r0, r1)


cdef bint call_function(Run* run, PyObject* function, const Batch* batch) noexcept with gil:
    """A function of the caller's, in the caller's floating-point mode: the loss, which writes its gradient over the
    logits, or without a batch `adjust`. False where it raised, be it a signal's handler on the way in, and in the child of
    a fork, which has no other threads."""
    cdef fp_mode mode = run.callers_mode
    cdef long forks = _team.forks()
    leave_kernel_mode(mode)
    try:
        if batch != NULL:
            loss = (<object>function)(<real[:batch.rows, :run.z_row]>run.z, batch.start, batch.rows)
        else:
            (<object>function)()
        if _team.forks() != forks:
            what = "the loss" if batch != NULL else "adjust"
            raise RuntimeError(f"{what} forked, and this child process cannot go on with its parent's training")
        if batch != NULL:
            run.batch_loss = loss
            run.loss_sum += run.batch_loss * batch.rows
            run.weight_sum += batch.rows
        return True
    except BaseException as error:
        (<object>function).error = error
        return False
    finally:
        if _team.forks() != forks:
            run.threads = 1
        enter_kernel_mode()


cdef bint call_without_tiles(Run* run, const Batch* batch) noexcept nogil:
    """call_function of the loss, or without a batch of `adjust`."""
    cdef bint done
    leave_tiles(WITH_TILES)
    if batch != NULL:
        done = call_function(run, run.loss_function, batch)
    else:
        done = call_function(run, run.adjust, NULL)
    enter_tiles(WITH_TILES)
    return done


cdef void loss_of_batch(Run* run, int thread, const Batch* batch, Py_ssize_t r0, Py_ssize_t r1) noexcept nogil:
    """Losses of rows r0..r1, and their gradients over the logits."""
    cdef Layer* top = run.layers + run.depth - 1
    cdef Targets targets
    if run.loss_function != NULL:
        if run.rates != NULL:               # it may look at the model
            store_share(run, thread)
        barrier_wait(&run.barrier, run.threads)
        if thread == 0 and not call_without_tiles(run, batch):
            run.failed = True
        barrier_wait(&run.barrier, run.threads)
        return
    targets.labels = run.labels if run.targets.labels != NULL else NULL
    targets.rows = run.t
    targets.row = run.t_row
    loss_rows(&run.loss, run.z, run.z, run.z_row, &targets, run.losses, r0, r1, top.n_out,
              run.w if run.weights != NULL else NULL, 1 / batch.weight if batch.weight > 0 else 0)


cdef enum:
    NEAR = 24576                # bytes of activations, of some rows, that stay in the first-level cache on their way
    NEAR_WEIGHTS = 65536        # bytes of weights that can be read again for every few rows


cdef Py_ssize_t rows_at_once(const Run* run, Py_ssize_t rows) noexcept nogil:
    """How many rows go through a small network together, forward and back; all of a large one."""
    cdef const Layer* layer
    cdef Py_ssize_t width = 0, weights = 0, few
    cdef int l
    if run.loss_function != NULL or run.weights != NULL or run.sparse.indptr != NULL:
        return rows
    for l in range(run.depth):
        layer = run.layers + l
        if layer.scale != NULL:         # it meets all rows
            return rows
        weights += layer.n_in * panels(layer.n_out)
        width += panels(layer.n_in) + panels(layer.n_out)       # inputs, and deltas of the outputs
    if weights * <Py_ssize_t>sizeof(real) > NEAR_WEIGHTS:
        return rows
    few = max(<Py_ssize_t>2, NEAR // (width * MR * <Py_ssize_t>sizeof(real))) * MR
    return few if rows >= 2 * few else rows


cdef void rows_phase(Run* run, int thread, Py_ssize_t step, const Batch* batch) noexcept nogil:
    """This thread's rows of the batch."""
    cdef Py_ssize_t r = share(batch.rows, thread, run.threads), r1 = share(batch.rows, thread + 1, run.threads)
    cdef Py_ssize_t n = rows_at_once(run, batch.rows)
    some_rows(run, thread, step, batch, r, min(r1, r + n))
    while r + n < r1 and not run.failed:
        r += n
        some_rows(run, thread, step, batch, r, min(r1, r + n))


cdef void some_rows(Run* run, int thread, Py_ssize_t step, const Batch* batch, Py_ssize_t r0, Py_ssize_t r1) noexcept nogil:
    """Rows r0..r1 of the batch: gather, forward, loss, backward."""
    cdef Layer* layers = run.layers
    cdef Layer* layer
    cdef Layer* top = layers + run.depth - 1
    cdef Py_ssize_t rows = batch.rows, n_panels, i, y_row, y_panel
    cdef real* y
    cdef real* scratch = run.scratch + thread * run.scratch_size
    cdef int l
    gather_batch(run, batch, r0, r1)
    for l in range(run.depth):
        layer = layers + l
        y = layer.y + r0 * NR if layer != top else run.z + r0 * run.z_row
        y_row = NR if layer != top else run.z_row
        y_panel = run.panel if layer != top else NR
        if layer.unpacked:
            sparse_forward(layer, finished_apart(layer), y, y_row, y_panel, &run.nonzeros, r0, r1)
        else:
            dense(layer, finished_apart(layer), layer.w_o if ONCE else layer.w_p, NR,
                  operands_panel(layer.n_in) if ONCE else layer.n_in * NR, layer.b_p, y, y_row, y_panel,
                  (layers[l - 1].y if l else run.x) + r0 * NR, NR, NR, run.panel, r1 - r0, scratch, ONCE)
        if finished_apart(layer):
            finish_rows(run, l, thread, step, rows, r0, r1)
    loss_of_batch(run, thread, batch, r0, r1)
    if run.failed:
        return
    if run.z_row == 1:
        for i in range(r0, r1):
            top.d[i * NR] = run.z[i]
    elif run.z != top.d:
        for i in range(r0, r1):
            to_panels(top.d + i * NR, run.panel, run.z + i * run.z_row, top.n_out)
    for l in range(run.depth - 1, 0, -1):
        layer = layers + l - 1
        dense_data_gradient(layer, layers + l, run.panel, r0, r1 - r0, scratch)
        if layer.scale != NULL:
            n_panels = panels(layer.n_out) // NR
            barrier_wait(&run.barrier, run.threads)
            normalisation_sums(layer, run.panel, rows, share(n_panels, thread, run.threads),
                               share(n_panels, thread + 1, run.threads))
            barrier_wait(&run.barrier, run.threads)
            normalisation_backward(layer, run.panel, rows, r0, r1)


# Phase 2: slices of the parameters -----------------------------------------------------------------

cdef inline void copy_vectors(real* to, const real* source, Py_ssize_t n) noexcept nogil:
    memcpy(to, source, n * sizeof(real))


cdef void load_share(Run* run, int thread) noexcept nogil:
    """This thread's inputs of all weights, and of the rule's state, from the caller's arrays to panels; biases and scales
    are the first thread's."""
    cdef Layer* layer
    cdef real* source
    cdef Py_ssize_t k0, k1, away
    cdef int l, i
    for l in range(run.depth):
        layer = run.layers + l
        k0 = inputs_share(layer.n_in, thread, run.threads)
        k1 = inputs_share(layer.n_in, thread + 1, run.threads)
        for i in range(-1, run.slots):
            source = run.parameters if i < 0 else run.state[i]
            away = 0 if i < 0 else run.weight_rule.slot[i]
            if layer.unpacked:
                copy_vectors(layer.w_p + away + k0 * layer.row_out, source + layer.at_w + k0 * layer.row_out,
                             (k1 - k0) * layer.row_out)
            else:
                pack(layer.w_p + away + k0 * NR, layer.n_in * NR, source + layer.at_w + k0 * layer.row_out, layer.row_out,
                     k1 - k0, layer.n_out)
            if thread == 0:
                copy_vectors(layer.b_p + away, source + layer.at_b, layer.n_out)
                if layer.scale != NULL:
                    copy_vectors(layer.scale_p + away, source + layer.at_scale, layer.n_out)
        renew_slice(layer, k0, k1)


cdef void unpack(real* x, Py_ssize_t x_row, const real* y, Py_ssize_t panel, Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """x = y, which is in panels."""
    cdef Py_ssize_t c
    for c from 0 <= c < n by NR:
        copy_tile(x + c, x_row, y + c // NR * panel, NR, rows, min(n - c, <Py_ssize_t>NR))


cdef void store_share(const Run* run, int thread) noexcept nogil:
    """And to the caller's arrays."""
    cdef Layer* layer
    cdef real* to
    cdef Py_ssize_t k0, k1, away
    cdef int l, i
    for l in range(run.depth):
        layer = run.layers + l
        k0 = share(layer.n_in, thread, run.threads)
        k1 = share(layer.n_in, thread + 1, run.threads)
        for i in range(-1, run.slots):
            to = run.parameters if i < 0 else run.state[i]
            away = 0 if i < 0 else run.weight_rule.slot[i]
            if layer.unpacked:
                copy_tile(to + layer.at_w + k0 * layer.row_out, layer.row_out, layer.w_p + away + k0 * layer.row_out,
                          layer.row_out, k1 - k0, layer.n_out)
            else:
                unpack(to + layer.at_w + k0 * layer.row_out, layer.row_out, layer.w_p + away + k0 * NR, layer.n_in * NR,
                       k1 - k0, layer.n_out)
            if thread == 0:
                copy_vectors(to + layer.at_b, layer.b_p + away, layer.n_out)
                if layer.scale != NULL:
                    copy_vectors(to + layer.at_scale, layer.scale_p + away, layer.n_out)


cdef inline Py_ssize_t inputs_share(Py_ssize_t n_in, Py_ssize_t thread, Py_ssize_t threads) noexcept nogil:
    """The first of the inputs that a thread owns; where their operands are packed ONCE, it begins a span of them."""
    return span_share(n_in, thread, threads) if ONCE else share(n_in, thread, threads)


cdef void renew_slice(const Layer* layer, Py_ssize_t k0, Py_ssize_t k1) noexcept nogil:
    """Renews inputs k0..k1 of what the products read in the place of w_p: w_t, or the operands of both."""
    cdef Py_ssize_t k = k0, n, end
    if ONCE:
        for n from 0 <= n < layer.n_out by NR:
            pack_columns(layer.w_o + n // NR * operands_panel(layer.n_in) + k0 // TERMS * NR,
                         layer.w_p + n * layer.n_in + k0 * NR, NR, k1 - k0, min(layer.n_out - n, <Py_ssize_t>NR))
    while layer.w_t != NULL and k < k1:
        end = min(k1, (k // NR + 1) * NR)
        if ONCE:
            pack_transposed(layer.w_t + k // NR * operands_panel(layer.n_out), layer.w_p + k * NR, NR,
                            layer.n_in * NR, layer.n_out, end - k)
        else:
            for n from 0 <= n < layer.n_out by NR:
                transpose(layer.w_t + (k // NR * layer.n_out + n) * NR + k % NR, NR,
                          layer.w_p + n * layer.n_in + k * NR, NR, end - k, min(layer.n_out - n, <Py_ssize_t>NR))
        k = end


cdef void weights_step(Run* run, Layer* layer, const real* inputs, Py_ssize_t rows, const Optimizer* rule,
                       Py_ssize_t k0, Py_ssize_t k1, real* scratch) noexcept nogil:
    """The gradient of the weights of inputs k0..k1, and the update rule applied to it; w_t is behind."""
    cdef Gradient g
    if layer.unpacked:
        sparse_gradient(&run.nonzeros, layer.d, run.panel, rows, k0, k1, layer.n_out,
                        run.gradients + layer.at_w if rule.rule == RULE_GRADIENT else layer.w_p, layer.row_out, rule, scratch)
        return
    g.rows = rows
    g.k0 = k0
    g.k1 = k1
    g.n = layer.n_out
    g.a = inputs
    g.d = layer.d
    g.panel = run.panel
    g.a_block = NULL
    g.a_row = NR
    if rule.rule == RULE_GRADIENT:
        g.g = run.gradients + layer.at_w
        g.g_row = layer.row_out
        g.g_panel = NR
    else:
        g.g = layer.w_p
        g.g_row = NR
        g.g_panel = layer.n_in * NR
    g.g_padded = g.g_row == NR or layer.row_out >= panels(layer.n_out)
    gradient_scratch(&g, scratch)
    gemm_gradient(&g, rule)


cdef inline bint updates_transposed(const Layer* layer, const Optimizer* rule) noexcept nogil:
    """Outputs so few that lanes of their vectors idle: then w_t, whose rows are inputs, takes the step, and w_p follows.
    Not for one output (see column_gradient), and not where the rule has state: that lies as w_p does."""
    return (layer.w_t != NULL and 1 < layer.n_out < NR and layer.n_out <= layer.n_in and rule.rule == RULE_SGD
            and not ONCE)


cdef void transposed_weights_step(Run* run, Layer* layer, const real* inputs, Py_ssize_t rows, const Optimizer* rule,
                                  Py_ssize_t p0, Py_ssize_t p1, real* scratch) noexcept nogil:
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
    g.a_row = NR
    g.g = layer.w_t + p0 * layer.n_out * NR
    g.g_row = NR
    g.g_panel = layer.n_out * NR
    g.g_padded = False              # of an input that does not exist the weights stay 0
    gradient_scratch(&g, scratch)
    gemm_gradient(&g, rule)
    for p in range(p0, p1):
        transpose(layer.w_p + p * NR * NR, NR, layer.w_t + p * layer.n_out * NR, NR, layer.n_out,
                  min(layer.n_in - p * NR, <Py_ssize_t>NR))


cdef void biases_step(Run* run, Layer* layer, Py_ssize_t rows, const Optimizer* rule,
                      Py_ssize_t p0, Py_ssize_t p1) noexcept nogil:
    """The gradient of the biases in panels p0..p1 of units, and the update rule applied to it; and of the scales."""
    cdef Py_ssize_t c = p0 * NR, n = min(p1 * NR, layer.n_out) - p0 * NR
    cdef real* b = layer.b_p
    cdef real* scale = layer.scale_p
    if rule.rule == RULE_GRADIENT:
        b = run.gradients + layer.at_b
        scale = run.gradients + layer.at_scale
    if layer.scale != NULL:                 # the sums are there already
        update(rule, b + c, n, layer.d_shift + c, n, 1, n)
        update(rule, scale + c, n, layer.d_scale + c, n, 1, n)
        return
    bias_gradient(layer.d + p0 * run.panel, run.panel, rows, n, b + c, rule)


cdef void parameters_phase(Run* run, Py_ssize_t rows, const Optimizer* weight_rule, const Optimizer* bias_rule,
                           int thread) noexcept nogil:
    """Gradient and update of this thread's inputs of every layer, and of its share of the biases."""
    cdef Layer* layer
    cdef const real* inputs
    cdef real* scratch = run.scratch + thread * run.scratch_size
    cdef Py_ssize_t n_panels, k0, k1
    cdef int l
    for l in range(run.depth):
        layer = run.layers + l
        inputs = run.layers[l - 1].y if l else run.x
        n_panels = panels(layer.n_out) // NR
        biases_step(run, layer, rows, bias_rule, share(n_panels, thread, run.threads),
                    share(n_panels, thread + 1, run.threads))
        if updates_transposed(layer, weight_rule):
            n_panels = panels(layer.n_in) // NR
            transposed_weights_step(run, layer, inputs, rows, weight_rule, share(n_panels, thread, run.threads),
                                    share(n_panels, thread + 1, run.threads), scratch)
            continue
        k0 = inputs_share(layer.n_in, thread, run.threads)
        k1 = inputs_share(layer.n_in, thread + 1, run.threads)
        weights_step(run, layer, inputs, rows, weight_rule, k0, k1, scratch)
        if weight_rule.rule != RULE_GRADIENT:
            renew_slice(layer, k0, k1)


# Between gradients and update: they are stored, adjusted, limited in their norm, and then used --------

cdef double SQUARES_MIN = 1e-24 if sizeof(real) == 4 else 1e-280     # a sum below may have lost squares to underflow
cdef enum:
    EXPONENT_MAX = BIAS - 1     # of powers of two that are normal numbers, and their inverses, too


cdef double sum_of_squares(Run* run, int thread, real factor) noexcept nogil:
    """sum of (g factor)^2 over all gradients: row by row, added in one order."""
    cdef Layer* layer
    cdef double total = 0
    cdef Py_ssize_t k, at = 0
    cdef int l
    for l in range(run.depth):
        layer = run.layers + l
        for k in range(share(layer.n_in, thread, run.threads), share(layer.n_in, thread + 1, run.threads)):
            run.squares[at + k] = squares_row(run.gradients + layer.at_w + k * layer.row_out, factor, layer.n_out)
        at += layer.n_in
    barrier_wait(&run.barrier, run.threads)
    for l in range(run.depth):
        layer = run.layers + l
        total += squares_row(run.gradients + layer.at_b, factor, layer.n_out)
        if layer.scale != NULL:
            total += squares_row(run.gradients + layer.at_scale, factor, layer.n_out)
    for k in range(at):
        total += run.squares[k]
    return total


cdef real largest_gradient(const Run* run) noexcept nogil:
    """The largest absolute value of all gradients; each thread looks at them all, for this is rare."""
    cdef const Layer* layer
    cdef real largest = 0
    cdef Py_ssize_t k
    cdef int l
    for l in range(run.depth):
        layer = run.layers + l
        for k in range(layer.n_in):
            largest = max(largest, largest_of_row(run.gradients + layer.at_w + k * layer.row_out, layer.n_out))
        largest = max(largest, largest_of_row(run.gradients + layer.at_b, layer.n_out))
        if layer.scale != NULL:
            largest = max(largest, largest_of_row(run.gradients + layer.at_scale, layer.n_out))
    return largest


cdef void limit_norm(Run* run, Optimizer* rule, int thread) noexcept nogil:
    """The rule's prescale and scale, whose product is min(1, clip_norm / norm of all gradients). Where squares would
    overflow or vanish, the gradients are first divided by a power of two near the largest of them."""
    cdef double total = sum_of_squares(run, thread, 1)
    cdef real largest
    cdef int exponent = 0
    rule.prescale = rule.scale = 1
    if not SQUARES_MIN < total < INFINITY and total == total:
        largest = largest_gradient(run)
        if not 0 < largest < INFINITY:
            rule.scale = 0 if largest > 0 else 1
            return
        frexp(largest, &exponent)
        exponent = max(-EXPONENT_MAX, min(EXPONENT_MAX, exponent))
        barrier_wait(&run.barrier, run.threads)         # all have read the squares
        total = sum_of_squares(run, thread, <real>ldexp(1, -exponent))
    if ldexp(sqrt(total), exponent) > run.clip_norm:
        rule.prescale = <real>ldexp(1, -exponent)
        rule.scale = <real>(run.clip_norm / sqrt(total))


cdef void use_gradients(Run* run, const Optimizer* weight_rule, const Optimizer* bias_rule, int thread) noexcept nogil:
    """Update of this thread's inputs of every layer, and of its share of the biases, from stored gradients."""
    cdef Layer* layer
    cdef Py_ssize_t k0, k1, c, n, n_panels, c0, c1
    cdef int l
    for l in range(run.depth):
        layer = run.layers + l
        k0 = inputs_share(layer.n_in, thread, run.threads)
        k1 = inputs_share(layer.n_in, thread + 1, run.threads)
        if layer.unpacked:
            update(weight_rule, layer.w_p + k0 * layer.row_out, layer.row_out,
                   run.gradients + layer.at_w + k0 * layer.row_out, layer.row_out, k1 - k0, layer.n_out)
        else:
            for c from 0 <= c < layer.n_out by NR:
                update(weight_rule, layer.w_p + c * layer.n_in + k0 * NR, NR,
                       run.gradients + layer.at_w + k0 * layer.row_out + c, layer.row_out,
                       k1 - k0, min(layer.n_out - c, <Py_ssize_t>NR))
        n_panels = panels(layer.n_out) // NR
        c0 = share(n_panels, thread, run.threads) * NR
        c1 = min(share(n_panels, thread + 1, run.threads) * NR, layer.n_out)
        n = c1 - c0
        update(bias_rule, layer.b_p + c0, n, run.gradients + layer.at_b + c0, n, 1, n)
        if layer.scale != NULL:
            update(bias_rule, layer.scale_p + c0, n, run.gradients + layer.at_scale + c0, n, 1, n)
        renew_slice(layer, k0, k1)


cdef void stored_gradients_phase(Run* run, Py_ssize_t rows, Optimizer* weight_rule, Optimizer* bias_rule,
                                 bint reports, int thread) noexcept nogil:
    """parameters_phase in three parts: all gradients, what acts on them or looks at them, the update."""
    cdef Optimizer store = weight_rule[0]
    store.rule = RULE_GRADIENT
    parameters_phase(run, rows, &store, &store, thread)
    barrier_wait(&run.barrier, run.threads)
    if run.adjust != NULL:
        if thread == 0 and not call_without_tiles(run, NULL):
            run.failed = True
        barrier_wait(&run.barrier, run.threads)
        if run.failed:
            return
    if reports:
        watch_layers(run, rows, thread)
        barrier_wait(&run.barrier, run.threads)
    if run.clip_norm > 0:
        limit_norm(run, weight_rule, thread)
        bias_rule.prescale = weight_rule.prescale
        bias_rule.scale = weight_rule.scale
    use_gradients(run, weight_rule, bias_rule, thread)
    if reports:
        barrier_wait(&run.barrier, run.threads)
        watch_update(run, thread)


# What a step is recorded as ------------------------------------------------------------------------

cdef inline Py_ssize_t groups_of(const Layer* layer) noexcept nogil:
    return (layer.n_out + 15) // 16


cdef void penalty_phase(Run* run, const Optimizer* weight_rule, const Optimizer* bias_rule, int thread) noexcept nogil:
    """The penalty on this thread's share of the parameters, before they are updated; no sum depends on the share."""
    cdef Layer* layer
    cdef double* penalties = run.penalties
    cdef Py_ssize_t g, groups
    cdef int l
    for l in range(run.depth):
        layer = run.layers + l
        groups = groups_of(layer)
        for g in range(share(groups, thread, run.threads), share(groups, thread + 1, run.threads)):
            penalties[g] = penalty_of(weight_rule, layer.w_p, NR if layer.unpacked else layer.n_in * NR,
                                      layer.row_out if layer.unpacked else NR, layer.n_in, layer.n_out, 16 * g)
            penalties[g] += penalty_of(bias_rule, layer.b_p, NR, NR, 1, layer.n_out, 16 * g)
            if layer.scale != NULL:
                penalties[g] += penalty_of(bias_rule, layer.scale_p, NR, NR, 1, layer.n_out, 16 * g)
        penalties += groups


cdef void sum_losses(Run* run, const Batch* batch) noexcept nogil:
    """To those of all samples so far; and the mean of the batch."""
    cdef double total = run.loss_sum, loss = 0, one         # here, where no store can change them
    cdef const real* losses = run.losses
    cdef const double* w = run.w if run.weights != NULL else NULL
    cdef Py_ssize_t i
    for i in range(batch.rows):
        one = losses[i] * (w[i] if w != NULL else 1.)
        total += one
        loss += one
    run.loss_sum = total
    run.weight_sum += batch.weight
    run.batch_loss = loss / batch.weight if batch.weight > 0 else 0


cdef void record_step(Run* run, Py_ssize_t step, const Batch* batch) noexcept nogil:
    cdef double* row = run.record + 3 * step
    cdef double penalty = 0
    cdef Py_ssize_t i, groups = 0
    for i in range(run.depth):
        groups += groups_of(run.layers + i)
    for i in range(groups):
        penalty += run.penalties[i]
    row[0] = run.batch_loss
    row[1] = batch.weight
    row[2] = penalty


# A run ---------------------------------------------------------------------------------------------

cdef void train_steps(Run* run, int thread) noexcept nogil:
    """Steps first..last of a run, as one thread of run.threads that do the same."""
    cdef Optimizer weight_rule = run.weight_rule, bias_rule = run.bias_rule
    cdef Batch batch
    cdef Py_ssize_t step, at, report_at = next_report(&run.watch, run.watch.step)
    cdef bint reports
    if run.load:
        load_share(run, thread)
        barrier_wait(&run.barrier, run.threads)
    for step in range(run.first, run.last):
        batch = batch_of(run, step)
        if run.rates != NULL:
            set_penalty(&weight_rule, &run.weight_rule, batch.weight)
            set_penalty(&bias_rule, &run.bias_rule, batch.weight)
            if run.record != NULL:
                penalty_phase(run, &weight_rule, &bias_rule, thread)
        rows_phase(run, thread, step, &batch)
        barrier_wait(&run.barrier, run.threads)
        if is_broken(run):
            break
        if run.rates != NULL:
            set_rates(&weight_rule, run.rates + run.rates_row * (step - run.first))
            set_rates(&bias_rule, run.rates + run.rates_row * (step - run.first))
        if thread == 0 and run.loss_function == NULL:
            sum_losses(run, &batch)
        if thread == 0 and run.record != NULL:
            record_step(run, step, &batch)
        at = run.watch.step + (step - run.first)
        reports = at == report_at
        if run.watch.alive != NULL:
            watch_units(run, batch.rows, thread)
        if run.clip_norm > 0 or run.adjust != NULL or reports:
            stored_gradients_phase(run, batch.rows, &weight_rule, &bias_rule, reports, thread)
            if run.failed:
                break
        else:
            parameters_phase(run, batch.rows, &weight_rule, &bias_rule, thread)
        if reports:
            report_at = next_report(&run.watch, at + 1)
            barrier_wait(&run.barrier, run.threads)
            if thread == 0:
                write_report(run, at, batch.rows)
        if thread == 0:
            run.done += 1
        barrier_wait(&run.barrier, run.threads)
    if run.rates != NULL and (run.store or is_broken(run)):
        store_share(run, thread)


cdef void train(void* argument, int thread) noexcept nogil:
    """One thread of a run, in the kernels' floating-point mode."""
    cdef Run* run = <Run*>argument
    cdef fp_mode callers = enter_kernel_mode()
    if thread == 0:
        run.callers_mode = callers
    enter_tiles(WITH_TILES)
    train_steps(run, thread)
    leave_tiles(WITH_TILES)
    leave_kernel_mode(callers)
