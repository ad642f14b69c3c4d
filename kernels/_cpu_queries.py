"""Queries as the searches need them: of length 1 where the metric asks for it, and known to be sound."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels._cpu_jit import compiled
from kernels.arrays import Float32Array


@compiled
def square_lengths(vectors: Float32Array, squares: npt.NDArray[np.float64]) -> None:
    """Write the squared length of each row of float32 [n, d]; not finite where a value is not."""
    for row in range(vectors.shape[0]):
        total = 0.0
        for i in range(vectors.shape[1]):
            value = np.float64(vectors[row, i])
            total += value * value
        squares[row] = total


@compiled
def scale_rows(vectors: Float32Array, squares: npt.NDArray[np.float64], scaled: Float32Array) -> None:
    """Write each row divided by its length; a row whose length is zero or not finite becomes zeros."""
    for row in range(vectors.shape[0]):
        square = squares[row]
        factor = 1.0 / np.sqrt(square) if 0.0 < square < np.inf else 0.0
        for i in range(vectors.shape[1]):
            scaled[row, i] = np.float32(vectors[row, i] * factor) if factor > 0.0 else np.float32(0)
