"""The arrays that kernels take and give."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

SEGMENT_ROWS = 65_536

Metric: TypeAlias = Literal["cosine", "dot", "l2"]
"""Larger scores are better: l2 is minus the squared distance; cosine takes vectors as normalised, and so is dot."""

Float32Array: TypeAlias = npt.NDArray[np.float32]
Int64Array: TypeAlias = npt.NDArray[np.int64]
Uint8Array: TypeAlias = npt.NDArray[np.uint8]
StoredArray: TypeAlias = npt.NDArray[Any]
"""Of float16, float32, or bfloat16 held as uint16."""

Selection: TypeAlias = tuple[Int64Array, Float32Array]
"""Rows int64 [B, k] and scores float32 [B, k]."""
