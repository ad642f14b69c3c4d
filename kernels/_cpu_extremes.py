"""The least and the largest features of each inverted list, which bound what a list's rows can score."""

from __future__ import annotations

import numpy as np

from kernels._cpu_jit import compiled, load, word
from kernels.arrays import Float32Array, Float64Array, Int32Array, Int64Array

_FLOAT32 = np.zeros(0, np.float32)


@compiled
def widen(
    numbers: Int32Array,
    features: Int64Array,
    alive: int,
    first_row: int,
    end_row: int,
    lows: Float32Array,
    highs: Float32Array,
    sums: Float64Array,
    counts: Int64Array,
) -> None:
    """Take rows [first_row, end_row) into what is known of lists, as ``kernels.fusion.ListExtremes`` has it.

    ``features``: address of each segment of them; ``alive``: of the mask.
    """
    n_features = lows.shape[1]
    for row in range(first_row, end_row):
        if (word(alive, row >> 6) >> np.uint64(row & 63)) & np.uint64(1) != 0:
            number = numbers[row]
            address = features[row >> 16] + (row & 65535) * 4 * n_features
            counts[number] += 1
            for i in range(n_features):
                value = load(_FLOAT32, address, i)
                sums[number, i] += value
                lows[number, i] = min(lows[number, i], value)
                highs[number, i] = max(highs[number, i], value)
