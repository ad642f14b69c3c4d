"""The best k of a stream of scored rows: a heap whose top is the worst hit kept.

A limit stands beside each heap: the worst kept score once it is full, NaN before. ``not score <= limit`` then asks
"might it enter?" in one comparison, which vectorises.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from kernels._cpu_jit import compiled, inlined, int64
from kernels.arrays import Float32Array, Int64Array


class Heaps(NamedTuple):
    """One heap for each part of the work and each query: [P, B, k], counts [P, B], limits [P, B]."""

    scores: Float32Array
    rows: Int64Array
    counts: Int64Array
    limits: Float32Array


def new_heaps(n_parts: int, n_queries: int, k: int) -> Heaps:
    """Empty heaps; what their slots hold beyond the counts is undefined."""
    return Heaps(
        np.empty((n_parts, n_queries, k), np.float32),
        np.empty((n_parts, n_queries, k), np.int64),
        np.zeros((n_parts, n_queries), np.int64),
        np.full((n_parts, n_queries), np.nan, np.float32),
    )


@compiled
def offer(heaps: Heaps, part: int, query: int, score: np.float32, row: int) -> None:
    """Keep (score, row) if it is among the best k so far; a score that is not a number counts as -inf."""
    scores, rows = heaps.scores[part, query], heaps.rows[part, query]
    if np.isnan(score):
        score = np.float32(-np.inf)
    count = heaps.counts[part, query]
    if count < scores.size:
        _insert(scores, rows, count, score, row)
        heaps.counts[part, query] = count + 1
    elif score > scores[0] or (score == scores[0] and row < rows[0]):
        _replace_top(scores, rows, count, score, row)
    if heaps.counts[part, query] == scores.size:
        heaps.limits[part, query] = scores[0]


@compiled
def finish(heaps: Heaps, query: int) -> None:
    """Merge the query's heaps into that of part 0, sorted best first and padded with -1 and -inf."""
    for part in range(1, heaps.counts.shape[0]):
        for i in range(heaps.counts[part, query]):
            offer(heaps, int64(0), query, heaps.scores[part, query, i], heaps.rows[part, query, i])
    count = heaps.counts[0, query]
    scores, rows = heaps.scores[0, query], heaps.rows[0, query]
    _sort(scores, rows, count)
    scores[count:] = -np.inf
    rows[count:] = -1


@compiled
def merge(heaps: Heaps, rows: Int64Array, scores: Float32Array) -> None:
    """Finish heaps of one part with all of rows and scores [B, c] whose row is not -1."""
    for query in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            if rows[query, i] >= 0:
                offer(heaps, int64(0), query, scores[query, i], rows[query, i])
        finish(heaps, query)


@compiled
def _is_worse(score: np.float32, row: int, than_score: np.float32, than_row: int) -> bool:
    return bool(score < than_score or (score == than_score and row > than_row))


@inlined
def _insert(scores: Float32Array, rows: Int64Array, count: int, score: np.float32, row: int) -> None:
    slot = count
    while slot > 0:
        parent = (slot - 1) >> 1
        if not _is_worse(score, row, scores[parent], rows[parent]):
            break
        scores[slot], rows[slot] = scores[parent], rows[parent]
        slot = parent
    scores[slot], rows[slot] = score, row


@compiled
def _replace_top(scores: Float32Array, rows: Int64Array, count: int, score: np.float32, row: int) -> None:
    """Put (score, row) in the place of the top of a heap of ``count``, and let it sink."""
    slot = 0
    while 2 * slot + 1 < count:
        child = 2 * slot + 1
        if child + 1 < count and _is_worse(scores[child + 1], rows[child + 1], scores[child], rows[child]):
            child += 1
        if not _is_worse(scores[child], rows[child], score, row):
            break
        scores[slot], rows[slot] = scores[child], rows[child]
        slot = child
    scores[slot], rows[slot] = score, row


@inlined
def _sort(scores: Float32Array, rows: Int64Array, count: int) -> None:
    """Heap to best first, in place."""
    for last in range(count - 1, 0, -1):
        score, row = scores[last], rows[last]
        scores[last], rows[last] = scores[0], rows[0]
        _replace_top(scores, rows, last, score, row)
