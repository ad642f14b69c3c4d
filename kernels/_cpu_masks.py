"""Counting and listing the set bits of a packed mask, whole words at a time."""

from __future__ import annotations

import numpy as np

from kernels._cpu_jit import compiled, count_ones, lowest_one, word
from kernels.arrays import Int64Array


@compiled
def count_bits(mask: int, end_row: int) -> int:
    """Set bits below ``end_row`` of the mask at address ``mask``, which covers ceil(end_row / 64) words."""
    total = 0
    for w in range((end_row + 63) >> 6):
        total += count_ones(clip(word(mask, w), w, 0, end_row))
    return total


@compiled
def list_bits(mask: int, end_row: int, rows: Int64Array) -> None:
    """Write the set bits below ``end_row``, ascending; ``rows`` has room for exactly so many."""
    n = 0
    for w in range((end_row + 63) >> 6):
        bits = clip(word(mask, w), w, 0, end_row)
        while bits != 0:
            rows[n] = (w << 6) + lowest_one(bits)
            bits &= bits - np.uint64(1)
            n += 1


@compiled
def clip(bits: np.uint64, w: int, first_row: int, end_row: int) -> np.uint64:
    """Word ``w``, which overlaps [first_row, end_row), without the bits of rows outside."""
    row = w << 6
    if row < first_row:
        bits &= ~np.uint64(0) << np.uint64(first_row - row)
    if row + 64 > end_row:
        bits &= ~np.uint64(0) >> np.uint64(row + 64 - end_row)
    return bits
