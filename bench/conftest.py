"""pytest bench: only the test files, one thread on both sides unless the environment says otherwise."""
import os
from pathlib import Path

import pytest
from common import MISLEADING, THREAD_LIMITS

collect_ignore = [path.name for path in Path(__file__).parent.glob("[!t]*.py")]

# Before NumPy is imported, with the test files: OpenBLAS reads these once.
for variable in MISLEADING:
    os.environ.pop(variable, None)
for variable in THREAD_LIMITS:
    os.environ.setdefault(variable, "1")


@pytest.fixture(params=["cython", "numpy"])
def backend(request):
    from fastmlp import use_backend
    with use_backend(request.param):
        yield request.param


@pytest.fixture
def timed(benchmark, backend):
    """timed(group, function, *args, dtype=..., **kwargs): a line of the table, for the backend in force."""
    def run(group, function, *args, dtype, flops=None, **kwargs):
        from fastmlp import active_isa, get_num_threads, kernels
        benchmark.group = group
        benchmark.extra_info.update(
            backend=backend, isa=active_isa() if backend == "cython" else None, dtype=dtype,
            threads=get_num_threads())
        benchmark(function, *args, **kwargs)
        peak = getattr(kernels.module(dtype), "fma_peak", None)
        if flops and peak and benchmark.stats:
            gflops = flops / benchmark.stats.stats.min / 1e9
            benchmark.extra_info.update(gflops=gflops, share=gflops / peak(0.02) / get_num_threads())
    return run
