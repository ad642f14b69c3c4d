"""Scores of stored vectors for one query.

Four rows at a time, so that each load of the query serves four, or row after row, which is how memory reads ahead.
"""

from __future__ import annotations

import numpy as np

from kernels._cpu_jit import compiled, inlined, load, store
from kernels.arrays import Float32Array, Int64Array, StoredArray

_FLOAT32 = np.zeros(0, np.float32)
_LONG_ROW = 512
"""Bytes from which on four rows at a time are four streams, of which the memory reads none ahead (docs/log.md)."""


@compiled
def score_rows(
    kind: StoredArray, is_l2: bool, addresses: Int64Array, count: int, query: int, d: int, scores: Float32Array
) -> None:
    """Write scores[:count] of the vectors at ``addresses[:count]`` for the float32 query at address ``query``."""
    if is_l2:
        _score_l2(kind, addresses, count, query, d, scores)
    else:
        _score_dot(kind, addresses, count, query, d, scores)


@compiled
def score_neighbours(
    kind: StoredArray, is_l2: bool, addresses: Int64Array, count: int, query: int, d: int, scores: Float32Array
) -> None:
    """As ``score_rows``, for rows that lie close together in memory."""
    if d * kind.itemsize < _LONG_ROW:
        score_rows(kind, is_l2, addresses, count, query, d, scores)
    elif is_l2:
        for j in range(count):
            scores[j] = -_squared_distance(kind, addresses[j], query, d)
    else:
        for j in range(count):
            scores[j] = _dot(kind, addresses[j], query, d)


@compiled
def widen_row(kind: StoredArray, source: int, target: int, d: int) -> None:
    """Copy the stored vector at ``source`` to ``target`` as float32."""
    for i in range(d):
        store(target, i, load(kind, source, i))


@inlined
def _score_dot(kind: StoredArray, addresses: Int64Array, count: int, query: int, d: int, scores: Float32Array) -> None:
    j = 0
    while j + 4 <= count:
        a, b, c, e = addresses[j], addresses[j + 1], addresses[j + 2], addresses[j + 3]
        s0 = s1 = s2 = s3 = np.float32(0)
        for i in range(d):
            q = load(_FLOAT32, query, i)
            s0 += load(kind, a, i) * q
            s1 += load(kind, b, i) * q
            s2 += load(kind, c, i) * q
            s3 += load(kind, e, i) * q
        scores[j], scores[j + 1], scores[j + 2], scores[j + 3] = s0, s1, s2, s3
        j += 4
    while j < count:
        scores[j] = _dot(kind, addresses[j], query, d)
        j += 1


@inlined
def _dot(kind: StoredArray, address: int, query: int, d: int) -> np.float32:
    total = np.float32(0)
    for i in range(d):
        total += load(kind, address, i) * load(_FLOAT32, query, i)
    return total


@inlined
def _score_l2(kind: StoredArray, addresses: Int64Array, count: int, query: int, d: int, scores: Float32Array) -> None:
    j = 0
    while j + 4 <= count:
        a, b, c, e = addresses[j], addresses[j + 1], addresses[j + 2], addresses[j + 3]
        s0 = s1 = s2 = s3 = np.float32(0)
        for i in range(d):
            q = load(_FLOAT32, query, i)
            d0, d1 = load(kind, a, i) - q, load(kind, b, i) - q
            d2, d3 = load(kind, c, i) - q, load(kind, e, i) - q
            s0 += d0 * d0
            s1 += d1 * d1
            s2 += d2 * d2
            s3 += d3 * d3
        scores[j], scores[j + 1], scores[j + 2], scores[j + 3] = -s0, -s1, -s2, -s3
        j += 4
    while j < count:
        scores[j] = -_squared_distance(kind, addresses[j], query, d)
        j += 1


@inlined
def _squared_distance(kind: StoredArray, address: int, query: int, d: int) -> np.float32:
    total = np.float32(0)
    for i in range(d):
        difference = load(kind, address, i) - load(_FLOAT32, query, i)
        total += difference * difference
    return total
