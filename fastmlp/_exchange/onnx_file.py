"""ONNX files: read, and checked against the rules of the format. What the nodes mean is in `onnx_nodes`."""
from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from io import FileIO
from typing import Any

from fastmlp._core import whole_files
from fastmlp._core.optional import import_extra
from fastmlp.saving import file_name

__all__ = ["read"]

TOO_LARGE = 2**31               # bytes that protobuf cannot read
OLDEST_OPSET = 7                # before, constants were broadcast by attributes
LONGEST = 300                   # characters of what the package says of a file


def read(path: Any) -> Any:
    """The model of a file, or a copy of an onnx.ModelProto, with its external data and without functions.

    Raises OSError for files that cannot be read, ValueError for what is no valid model.
    """
    onnx = import_extra("onnx", "from_onnx")
    if isinstance(path, onnx.ModelProto):
        model, where, folder = onnx.ModelProto(), "the model", None
        model.CopyFrom(path)
    else:
        where = file_name(path)
        folder = os.path.dirname(where) or "."
        model = whole_files.read(where, lambda file, size: _parse(onnx, where, file, size))
    if not model.HasField("graph") or not model.graph.output or not model.opset_import:
        raise ValueError(f"path: expected an ONNX model, got {where}, which has no graph")
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version < OLDEST_OPSET:
            raise ValueError(f"path: expected an opset from {OLDEST_OPSET} up, got {opset.version} in {where}"
                             "; onnx.version_converter converts it")
    external = [tensor for tensor in _tensors(model.graph)
                if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if external and folder is None:
        raise ValueError(f"path: expected arrays in the model, got {external[0].name!r}, which is in a file; "
                         "give the path of the model")
    for tensor in external:
        name = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        if name and not os.path.exists(data := os.path.join(folder or "", name)):
            text = f"path: the data of {tensor.name!r} in {where} are missing"
            raise FileNotFoundError(errno.ENOENT, text, data)
    try:
        # By its path: with external data, a model may have more bytes than protobuf can write.
        onnx.checker.check_model(where if external else model)
        if external:
            onnx.external_data_helper.load_external_data_for_model(model, folder)
        if model.functions:
            model = import_extra("onnx.inliner", "from_onnx").inline_local_functions(model)
    except Exception as error:          # of the package's own, which have no class in common
        text = " ".join(str(error).split())[:LONGEST]
        raise ValueError(f"path: expected a valid ONNX model, got {where}: {text}") from None
    return model


def _parse(onnx: Any, where: str, file: FileIO, size: int) -> Any:
    from google.protobuf.message import DecodeError  # comes with onnx

    if size >= TOO_LARGE:
        raise ValueError(f"path: expected a file of less than 2 GiB, for more cannot be read, got {where} of "
                         f"{size} bytes; save the arrays as external data")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(file.readall())
    except DecodeError:
        raise ValueError(f"path: expected an ONNX model, got {where}, which is none, or not all of one"
                         ) from None
    return model


def _tensors(graph: Any) -> Iterator[Any]:
    """All arrays of a graph, that is read without what branches and loops contain."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
