"""The arrays that kernels take and give."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

SEGMENT_ROWS = 65_536

Metric: TypeAlias = Literal["cosine", "dot", "l2"]
"""Larger scores are better: l2 is minus the squared distance; cosine takes vectors as normalised, and so is dot."""

Float32Array: TypeAlias = npt.NDArray[np.float32]
Float64Array: TypeAlias = npt.NDArray[np.float64]
Int64Array: TypeAlias = npt.NDArray[np.int64]
Int8Array: TypeAlias = npt.NDArray[np.int8]
Int32Array: TypeAlias = npt.NDArray[np.int32]
Uint8Array: TypeAlias = npt.NDArray[np.uint8]
StoredArray: TypeAlias = npt.NDArray[Any]
"""Of float16, float32, or bfloat16 held as uint16."""

Selection: TypeAlias = tuple[Int64Array, Float32Array]
"""Rows int64 [B, k] and scores float32 [B, k]."""


class RowCodes(NamedTuple):
    """Rows quantised to int8 with a scale each: row r is about ``scales[r] * values[r]``.

    ``values`` int8 [n, d rounded up to 16], zeros beyond d; n a multiple of 64, zeros beyond the rows there are.
    ``sums`` int32 [n]: of each row's codes; ``norms`` float32 [n]: the squared length of each row as quantised;
    ``errors`` float32 [n]: the length of what each row loses, rounded up.
    """

    values: Int8Array
    scales: Float32Array
    sums: Int32Array
    norms: Float32Array
    errors: Float32Array
