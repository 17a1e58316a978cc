# Every kernel, in the order in which they build on each other.

include "simd.pxi"              # the vector vocabulary
include "ops.pxi"               # codes and what is true of each, by _generate.py from ops.py
include "vector_math.pxi"       # exp, log, tanh and their kin, of a vector
include "transpose.pxi"
include "activations.pxi"       # formula pairs, on tiles and on arrays
include "rows.pxi"              # softmax and other functions of a row
include "losses.pxi"            # of one row: loss and gradient
include "optimizers.pxi"        # update rules
include "dispatch.pxi"          # where a code becomes a constant, by _generate.py from ops.py
include "tile.pxi"              # the register tile: products with all of the above in their last step
include "operands.pxi"          # what it reads in bfloat16
include "amx_tile.pxi"          # the tile of AMX in its place
include "gemm.pxi"              # the forward pass of dense layers, and the backward pass to their inputs
include "gradient.pxi"          # the backward pass to weights and biases, with the update rule
include "convert.pxi"           # rows of any numeric dtype
include "engine.pxi"            # whole runs of minibatches, inference
include "functions.pxi"         # what Python calls with arrays
include "small_arrays.pxi"      # the same for small arrays, where the call costs more than the work
include "predictor.pxi"         # a network as it was, packed, for inference from many threads
include "exports.pxi"           # all of it for other extensions, as a table of functions
include "measure.pxi"           # yardsticks
