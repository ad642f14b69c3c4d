"""Stored vector dtypes: how float32 vectors become what lies in a segment, and back.

bfloat16 has no NumPy dtype and is held as uint16, the upper half of the float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.types import Float32Array, VectorDtype

StoredArray = npt.NDArray[Any]

_NUMPY_DTYPE: dict[VectorDtype, type[np.generic]] = {
    "float16": np.float16,
    "bfloat16": np.uint16,
    "float32": np.float32,
}

LARGEST: dict[VectorDtype, float] = {"float16": 65504.0, "bfloat16": 3.38e38, "float32": 3.4e38}
"""The largest magnitude each dtype can hold; what lies beyond must be refused before it is stored."""

MOST_LENGTH = 1e14
"""Of a vector that is compared as it is, an item's or a query's; one for cosine is scaled to length 1. Refused beyond,
so that every score fits float32: the squared distance of two is 4e28 at most, and with the largest weight, 1e9, 4e37.
"""


def numpy_dtype(dtype: VectorDtype) -> np.dtype[Any]:
    """The little-endian NumPy dtype that holds ``dtype``."""
    return np.dtype(_NUMPY_DTYPE[dtype]).newbyteorder("<")


def to_stored(vectors: Float32Array, dtype: VectorDtype) -> StoredArray:
    """float32 [...] to the stored dtype, rounded to nearest even."""
    if dtype == "bfloat16":
        bits = np.ascontiguousarray(vectors, np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.asarray(vectors, dtype=numpy_dtype(dtype))


def to_float32(stored: StoredArray, dtype: VectorDtype) -> Float32Array:
    """Stored [...] to float32, exact."""
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(stored, dtype=np.float32)
