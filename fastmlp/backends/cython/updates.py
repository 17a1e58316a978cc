"""Steps of the optimizers, in place."""
from ._kernels import SHORT

sgd_update = SHORT.array_sgd_update
adagrad_update = SHORT.array_adagrad_update
rmsprop_update = SHORT.array_rmsprop_update
adam_update = SHORT.array_adam_update
