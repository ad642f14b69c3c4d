"""Stored vectors by row, in whatever order."""

from __future__ import annotations

import numpy as np

from engine.backend.protocol import Vectors
from engine.dtypes import to_float32
from engine.types import Float32Array, Int64Array


def take(vectors: Vectors, rows: Int64Array) -> Float32Array:
    """Copies of rows int64 [m], in their order, as float32 [m, d]."""
    taken = np.empty((len(rows), vectors.dimension), np.float32)
    segments, offsets = np.divmod(rows, len(vectors.segments[0]))
    for segment in np.unique(segments).tolist():
        chosen = np.flatnonzero(segments == segment)
        taken[chosen] = to_float32(vectors.segments[segment][offsets[chosen]], vectors.dtype)
    return taken
