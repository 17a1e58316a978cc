"""What cython_api.pxd calls: the tables of the active instruction set, and the plan behind an inference handle."""

from cpython.pycapsule cimport PyCapsule_GetPointer

from fastmlp import kernels

cdef const Functions* of_float = <const Functions*>PyCapsule_GetPointer(
    kernels.module("float32").FUNCTIONS, "fastmlp.kernels.functions")
cdef const Functions* of_double = <const Functions*>PyCapsule_GetPointer(
    kernels.module("float64").FUNCTIONS, "fastmlp.kernels.functions")


cdef const Functions* functions_of(size_t itemsize) noexcept nogil:
    return of_float if itemsize == sizeof(float) else of_double


cdef class Handle:
    def __init__(self, handle):
        description = getattr(getattr(handle, "predictor", None), "description", None)
        if description is None:
            raise TypeError(f"handle: expected what compile_predict of a model on the compiled backend returns, got "
                            f"{type(handle).__name__}")
        plan, self.inputs, self.columns, self.itemsize, self.of_labels = description
        self.plan = PyCapsule_GetPointer(plan, "fastmlp.kernels.plan")
        self.predictor = handle.predictor
