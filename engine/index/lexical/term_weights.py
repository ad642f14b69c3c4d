"""What the terms of a query weigh by the statistics of one moment, by which rows can be scored at any later one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.types import Float32Array, Int64Array


@dataclass(frozen=True, slots=True, eq=False)
class TermWeights:
    """``numbers`` int64 [q], ascending, of distinct terms and their ``weights`` float32 [q]; ``base`` and ``slope`` of
    the moment's ``LengthNorm``. Numbers are those of one dictionary, and good for as long as it is.
    """

    numbers: Int64Array
    weights: Float32Array
    base: np.float32
    slope: np.float32


NO_TERMS = TermWeights(np.zeros(0, np.int64), np.zeros(0, np.float32), np.float32(0), np.float32(0))
