# What an observer (fastmlp/_core/observer.py) is told of a network while it trains: at every step, which units gave
# anything but 0; at the steps that have a report, numbers of every layer.
#
# Nothing that is trained changes. At a step with a report the gradients are stored before they are used, as where their
# norm is limited, which gives the same bits. Every number is summed unit by unit, and over the units in their order:
# no sum depends on who owns what.

cdef enum:                      # numbers of a layer in a report: the order of the observer's FIELDS
    DEAD
    SATURATION
    MEAN
    STD
    GRADIENT_NORM
    WEIGHT_NORM
    UPDATE_NORM
    REPORTED

cdef enum:                      # of every unit, over the rows of the batch or over its weights
    SUM_OUTPUTS
    SUM_DEVIATIONS              # squares of the differences from the mean of the unit
    SUM_SATURATED
    SUM_KEPT                    # outputs that were not dropped
    SUM_GRADIENTS               # squares
    SUM_WEIGHTS
    SUM_UPDATES
    UNIT_SUMS

cdef enum:
    UNIT_PLACES = 64            # the places of a layer's units are a multiple of this, as the observer has them

cdef struct Run                 # training.pxi

cdef struct Watch:
    real* alive                 # a place for each unit of every layer: not 0 where it gave anything but 0 since the last
    real* alive_in_epoch        # report, and since the epoch began before that; NULL where nobody observes
    double* sums                # (UNIT_SUMS, places)
    Py_ssize_t places
    const double* ends          # (layers, 2): outputs below the first or above the second are saturated
    real* weights               # before the update, laid out like the parameters
    double* table               # (reports, layers, REPORTED)
    Py_ssize_t step             # of the epoch, at the first step of the run
    Py_ssize_t steps            # of the epoch
    Py_ssize_t reports          # of the epoch


cdef inline Py_ssize_t reports_before(const Watch* watch, Py_ssize_t step) noexcept nogil:
    """Reports that the first steps of an epoch have: they divide it evenly, and its last step has one."""
    return step * watch.reports // watch.steps


cdef inline Py_ssize_t next_report(const Watch* watch, Py_ssize_t step) noexcept nogil:
    """The first step from `step` on that has one; -1 where nobody observes."""
    if watch.alive == NULL:
        return -1
    return ((reports_before(watch, step) + 1) * watch.steps + watch.reports - 1) // watch.reports - 1


cdef inline Py_ssize_t places_of(const Layer* layer) noexcept nogil:
    return (layer.n_out + UNIT_PLACES - 1) // UNIT_PLACES * UNIT_PLACES


# Every step ----------------------------------------------------------------------------------------

cdef inline bint all_alive(const real* alive) noexcept nogil:
    cdef int c, dead = 0
    for c in range(NR):                 # all of them: a vector or two
        dead = dead | (alive[c] == 0)
    return dead == 0


cdef void mark_alive(real* alive, const real* y, Py_ssize_t rows) noexcept nogil:
    """The units of a panel of outputs that gave anything but 0, NaN too; it ends where all have."""
    cdef ivec seen[NV]
    cdef Py_ssize_t r = 0, end = 2
    cdef int j
    while r < rows and not all_alive(alive):
        end = min(rows, 4 * end)
        for j in range(NV):
            seen[j] = vbits(vload(alive + j * VL))
        while r < end:
            for j in range(NV):
                seen[j] = seen[j] | vbits(vabs(vload(y + r * NR + j * VL)))
            r += 1
        for j in range(NV):
            vstore(alive + j * VL, vfrom_bits(seen[j]))


cdef void watch_units(Run* run, Py_ssize_t rows, int thread) noexcept nogil:
    """mark_alive of this thread's share of the units of every hidden layer."""
    cdef const Layer* layer
    cdef real* alive = run.watch.alive
    cdef Py_ssize_t p, p0 = 0, p1
    cdef int l
    for l in range(run.depth - 1):
        layer = run.layers + l
        p1 = panels(layer.n_out) // NR
        if run.threads > 1:
            p0 = share(p1, thread, run.threads)
            p1 = share(p1, thread + 1, run.threads)
        for p in range(p0, p1):
            mark_alive(alive + p * NR, layer.y + p * run.panel, rows)
        alive += places_of(layer)


# Steps with a report -------------------------------------------------------------------------------

cdef inline void squares_of_columns(double* sums, const real* x, Py_ssize_t row, const real* minus, Py_ssize_t minus_row,
                                    Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    cdef double total[NR]
    cdef double value
    cdef Py_ssize_t k, c
    for c in range(n):
        total[c] = 0
    for k in range(rows):
        for c in range(n):
            value = <double>x[k * row + c]
            if minus != NULL:
                value -= <double>minus[k * minus_row + c]
            total[c] += value * value
    for c in range(n):
        sums[c] = total[c]


cdef inline void sum_squares(double* sums, const real* x, Py_ssize_t row, const real* minus, Py_ssize_t minus_row,
                             Py_ssize_t rows, Py_ssize_t n) noexcept nogil:
    """sums_c = sum_k (x_kc - minus_kc)^2 of at most NR columns; without `minus`, of x."""
    if n == NR:                         # a constant, for the compiler
        squares_of_columns(sums, x, row, minus, minus_row, rows, NR)
    else:
        squares_of_columns(sums, x, row, minus, minus_row, rows, n)


cdef void sum_outputs(double* sums, Py_ssize_t places, const Layer* layer, const real* y, Py_ssize_t rows,
                      const double* ends) noexcept nogil:
    """The sums over the rows of a panel of outputs."""
    cdef double total[NR]
    cdef double mean[NR]
    cdef double squares[NR]
    cdef double saturated[NR]
    cdef double kept[NR]
    cdef double value, low = ends[0], high = ends[1]
    cdef Py_ssize_t r
    cdef int c
    for c in range(NR):
        total[c] = squares[c] = saturated[c] = 0
        kept[c] = rows
    for r in range(rows):
        for c in range(NR):
            total[c] += y[r * NR + c]
    for c in range(NR):
        mean[c] = total[c] / rows
    for r in range(rows):
        for c in range(NR):
            value = y[r * NR + c]
            squares[c] += (value - mean[c]) * (value - mean[c])
    if high < INFINITY:
        for r in range(rows):
            for c in range(NR):
                value = y[r * NR + c]
                if value == 0 and layer.dropout > 0:
                    kept[c] -= 1
                elif value < low or value > high:
                    saturated[c] += 1
    for c in range(NR):
        sums[SUM_OUTPUTS * places + c] = total[c]
        sums[SUM_DEVIATIONS * places + c] = squares[c]
        sums[SUM_SATURATED * places + c] = saturated[c]
        sums[SUM_KEPT * places + c] = kept[c]


cdef void watch_layers(Run* run, Py_ssize_t rows, int thread) noexcept nogil:
    """Sums of this thread's share of the units, between the gradients, which are stored, and the update; and a copy of
    their weights."""
    cdef Watch* watch = &run.watch
    cdef const Layer* layer
    cdef const real* w
    cdef double* sums = watch.sums
    cdef double* mine
    cdef Py_ssize_t p, c, n, n_panels, w_row, at
    cdef int l
    for l in range(run.depth):
        layer = run.layers + l
        n_panels = panels(layer.n_out) // NR
        w_row = layer.row_out if layer.unpacked else NR
        for p in range(share(n_panels, thread, run.threads), share(n_panels, thread + 1, run.threads)):
            c = p * NR
            n = min(layer.n_out - c, <Py_ssize_t>NR)
            mine = sums + c
            at = layer.at_w + c
            w = layer.w_p + (c if layer.unpacked else c * layer.n_in)
            if l < run.depth - 1:           # the outputs of the last layer have given way to their gradient
                sum_outputs(mine, watch.places, layer, layer.y + p * run.panel, rows, watch.ends + 2 * l)
            copy_tile(watch.weights + at, layer.row_out, w, w_row, layer.n_in, n)
            sum_squares(mine + SUM_WEIGHTS * watch.places, w, w_row, NULL, 0, layer.n_in, n)
            sum_squares(mine + SUM_GRADIENTS * watch.places, run.gradients + at, layer.row_out, NULL, 0, layer.n_in, n)
        sums += places_of(layer)


cdef void watch_update(Run* run, int thread) noexcept nogil:
    """And of what the update has changed."""
    cdef Watch* watch = &run.watch
    cdef const Layer* layer
    cdef double* sums = watch.sums + SUM_UPDATES * watch.places
    cdef Py_ssize_t p, c, n_panels
    cdef int l
    for l in range(run.depth):
        layer = run.layers + l
        n_panels = panels(layer.n_out) // NR
        for p in range(share(n_panels, thread, run.threads), share(n_panels, thread + 1, run.threads)):
            c = p * NR
            sum_squares(sums + c, layer.w_p + (c if layer.unpacked else c * layer.n_in),
                        layer.row_out if layer.unpacked else NR, watch.weights + layer.at_w + c, layer.row_out,
                        layer.n_in, min(layer.n_out - c, <Py_ssize_t>NR))
        sums += places_of(layer)


cdef inline double sum_units(const double* sums, Py_ssize_t n) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t c
    for c in range(n):
        total += sums[c]
    return total


cdef void report_outputs(double* row, const double* sums, Py_ssize_t places, real* alive, real* alive_in_epoch,
                         Py_ssize_t n, Py_ssize_t rows) noexcept nogil:
    """What the units of a hidden layer gave; their flags begin anew."""
    cdef double mean = sum_units(sums + SUM_OUTPUTS * places, n) / (rows * n)
    cdef double squares = sum_units(sums + SUM_DEVIATIONS * places, n), away
    cdef Py_ssize_t c, dead = 0
    for c in range(n):
        away = sums[SUM_OUTPUTS * places + c] / rows - mean
        squares += rows * (away * away)
        if alive[c] == 0:
            dead += 1
        else:
            alive_in_epoch[c] = 1
        alive[c] = 0
    row[DEAD] = dead / <double>n
    row[SATURATION] = sum_units(sums + SUM_SATURATED * places, n) / sum_units(sums + SUM_KEPT * places, n)
    row[MEAN] = mean
    row[STD] = sqrt(squares / (rows * n))


cdef void write_report(Run* run, Py_ssize_t step, Py_ssize_t rows) noexcept nogil:
    """A row for every layer, by one thread."""
    cdef Watch* watch = &run.watch
    cdef const Layer* layer
    cdef double* row = watch.table + reports_before(watch, step) * run.depth * REPORTED
    cdef Py_ssize_t at = 0
    cdef int l
    for l in range(run.depth):
        layer = run.layers + l
        if l < run.depth - 1:
            report_outputs(row, watch.sums + at, watch.places, watch.alive + at, watch.alive_in_epoch + at, layer.n_out,
                           rows)
        row[GRADIENT_NORM] = sqrt(sum_units(watch.sums + SUM_GRADIENTS * watch.places + at, layer.n_out))
        row[WEIGHT_NORM] = sqrt(sum_units(watch.sums + SUM_WEIGHTS * watch.places + at, layer.n_out))
        row[UPDATE_NORM] = sqrt(sum_units(watch.sums + SUM_UPDATES * watch.places + at, layer.n_out))
        at += places_of(layer)
        row += REPORTED
