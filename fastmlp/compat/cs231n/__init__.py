"""The hand-written network of the course CS231n (Stanford), on the kernels: change the import, keep the rest.

The modules and names are those of the assignments::

    from fastmlp.compat.cs231n.layers import *
    from fastmlp.compat.cs231n.layer_utils import *
    from fastmlp.compat.cs231n.classifiers.fc_net import FullyConnectedNet
    from fastmlp.compat.cs231n.solver import Solver
    from fastmlp.compat.cs231n import optim

Signatures, caches and config dicts are the assignments', results are equal to rounding. Only ``optim.sgd``
changes its ``w`` in place. Convolutions and pooling are not fully connected: their functions raise
NotImplementedError.
"""
