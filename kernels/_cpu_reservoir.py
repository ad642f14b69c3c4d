"""The best rows of a stream of scored ones: a buffer that is cut back to the best each time it is full.

A scored row is one int64 key, larger for a larger score and, among equals, for the smaller row: keys of distinct rows
are distinct. Cutting back costs a few operations a row kept, less than a heap does for more than a handful.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels._cpu_jit import bits_of_float, compiled, compiled_allocating, float_of_bits
from kernels.arrays import Float32Array, Int64Array

_ROOM = 32
"""At least so many rows are taken in between two cuts: those of a block."""

_SMALL = 12


class Reservoirs(NamedTuple):
    """Keys [S, capacity] of S buffers, how many each has [S], and the score below which nothing can enter [S]."""

    keys: Int64Array
    counts: Int64Array
    limits: Float32Array


def new_reservoirs(n_slots: int, depth: int) -> Reservoirs:
    """For the best ``depth`` of each stream, or of any smaller number."""
    return Reservoirs(
        np.empty((n_slots, 2 * depth + _ROOM), np.int64),
        np.zeros(n_slots, np.int64),
        np.full(n_slots, -np.inf, np.float32),
    )


@compiled
def key_of(score: np.float32, row: int) -> int:
    """Of a score that is a number."""
    bits = bits_of_float(score + np.float32(0))
    if bits < 0:
        bits ^= 0x7FFFFFFF
    return (bits << 32) | (0xFFFFFFFF - row)


@compiled
def row_of(key: int) -> int:
    return 0xFFFFFFFF - (key & 0xFFFFFFFF)


@compiled
def score_of(key: int) -> np.float32:
    bits = key >> 32
    if bits < 0:
        bits ^= 0x7FFFFFFF
    return float_of_bits(bits)


@compiled
def keep(reservoirs: Reservoirs, slot: int, key: int, depth: int) -> None:
    """Take a row in."""
    keys = reservoirs.keys[slot]
    count = reservoirs.counts[slot]
    keys[count] = key
    reservoirs.counts[slot] = count + 1
    if count + 1 == min(2 * depth + _ROOM, keys.size):
        cut(reservoirs, slot, depth)


@compiled
def cut(reservoirs: Reservoirs, slot: int, depth: int) -> None:
    """Keep the best ``depth``, in any order."""
    count = reservoirs.counts[slot]
    if count > depth:
        keys = reservoirs.keys[slot]
        partition(keys, count, depth)
        reservoirs.counts[slot] = depth
        reservoirs.limits[slot] = score_of(least_key(keys, depth))


@compiled
def least_key(keys: Int64Array, count: int) -> int:
    """Of the first ``count``, which is not 0."""
    least: int = keys[0]
    for i in range(1, count):
        least = min(least, keys[i])
    return least


@compiled_allocating
def sort_keys(keys: Int64Array, count: int) -> None:
    """Put the first ``count`` in ascending order."""
    keys[:count].sort()


@compiled
def partition(keys: Int64Array, count: int, depth: int) -> None:
    """Move the ``depth`` largest of the first ``count`` keys to the front."""
    low, high = 0, count - 1
    while high - low > _SMALL:
        pivot = _middle(keys[low], keys[(low + high) >> 1], keys[high])
        left, right = low, high
        while left <= right:
            while keys[left] > pivot:
                left += 1
            while keys[right] < pivot:
                right -= 1
            if left <= right:
                keys[left], keys[right] = keys[right], keys[left]
                left += 1
                right -= 1
        if depth - 1 <= right:
            high = right
        elif depth >= left + 1:
            low = left
        else:
            return
    for i in range(low + 1, high + 1):
        key = keys[i]
        j = i - 1
        while j >= low and keys[j] < key:
            keys[j + 1] = keys[j]
            j -= 1
        keys[j + 1] = key


@compiled
def _middle(a: int, b: int, c: int) -> int:
    return max(min(a, b), min(max(a, b), c))
