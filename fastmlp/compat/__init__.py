"""Modules with the interfaces of well-known hand-written networks, on the kernels of fastmlp.

A program changes an import and keeps the rest:

    dlfs        the ``common`` folder of the book "Deep learning from scratch"
    cs231n      the layers, update rules, network and solver of the course CS231n
    thinc       an ``Ops`` of thinc, `use_ops("fastmlp")`
"""
