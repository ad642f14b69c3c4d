"""Vectors as bytes, and the names of their dtypes on the wire."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine import types
from engine.dtypes import to_float32
from engine.errors import InvalidArgument
from engine.types import Float32Array
from engine.v1 import common_pb2

DTYPE_NAMES: dict[int, types.VectorDtype] = {
    common_pb2.DTYPE_UNSPECIFIED: "float32",
    common_pb2.DTYPE_FLOAT32: "float32",
    common_pb2.DTYPE_FLOAT16: "float16",
    common_pb2.DTYPE_BFLOAT16: "bfloat16",
}
DTYPE_VALUES: dict[str, common_pb2.Dtype] = {
    "float32": common_pb2.DTYPE_FLOAT32,
    "float16": common_pb2.DTYPE_FLOAT16,
    "bfloat16": common_pb2.DTYPE_BFLOAT16,
}
_WIRE_DTYPES: dict[types.VectorDtype, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype("<u2"),
}


def tensor_to_array(tensor: common_pb2.Tensor, field: str) -> Float32Array:
    """float32 [rows, dimension], NaN and all; not copied where the tensor is float32 already.

    Raises:
        InvalidArgument: the bytes do not make rows x dimension.
    """
    array = _decode(tensor.content, tensor.dtype, f"{field}.content")
    if array.size != tensor.rows * tensor.dimension:
        raise InvalidArgument(
            f"{field}.content",
            f"{len(tensor.content)} bytes hold {array.size} values, "
            f"rows x dimension is {tensor.rows} x {tensor.dimension}",
        )
    return array.reshape(tensor.rows, tensor.dimension)


def array_to_tensor(array: Float32Array) -> common_pb2.Tensor:
    """float32 [rows, d] to a tensor of float32 bytes."""
    rows, dimension = array.shape
    content = np.ascontiguousarray(array, np.dtype("<f4")).tobytes()
    return common_pb2.Tensor(content=content, rows=rows, dimension=dimension, dtype=common_pb2.DTYPE_FLOAT32)


def vector_to_array(vector: common_pb2.Vector, field: str) -> Float32Array:
    """float32 [d]."""
    form = vector.WhichOneof("form")
    if form == "floats":
        return np.array(vector.floats.values, dtype=np.float32)
    if form == "encoded":
        return _decode(vector.encoded.content, vector.encoded.dtype, f"{field}.encoded.content")
    raise InvalidArgument(field, "is empty: set floats or encoded")


def _decode(content: bytes, dtype: int, field: str) -> Float32Array:
    name = DTYPE_NAMES.get(dtype)
    if name is None:
        raise InvalidArgument(field, f"unknown dtype {dtype}")
    wire = _WIRE_DTYPES[name]
    if len(content) % wire.itemsize:
        raise InvalidArgument(field, f"{len(content)} bytes are no whole number of {name} values")
    return to_float32(np.frombuffer(content, wire), name)
