"""Models of other libraries: readers and writers of PyTorch's modules and of ONNX's graphs.

What is public of them is in `fastmlp.torch`, `fastmlp.onnx` and methods of `MLP`. They stand on public names,
and on tools of `_core` that hold nothing of a model: checks of arguments, whole files, imports of extras.
"""
