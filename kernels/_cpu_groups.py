"""Searching for some queries at a time, so that what each of them needs in memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kernels._cpu_addresses import kind_of, segment_addresses
from kernels._cpu_topk import Heaps, new_heaps
from kernels.arrays import Float32Array, Int64Array, Metric, Selection, StoredArray

_HEAP_BYTES = 256 << 20
"""Queries are taken in groups whose heaps fit in this: only a large k makes more than one group."""

_HIT_BYTES = 12


def in_groups(
    search: Callable[[slice, Heaps], None], n_queries: int, k: int, *, width: int, n_parts: int, more_bytes: int = 0
) -> Selection:
    """Run ``search`` on slices of the queries whose heaps, and ``more_bytes`` each, fit in memory; no query has more
    than ``width`` rows.
    """
    rows = np.full((n_queries, k), -1, np.int64)
    scores = np.full((n_queries, k), -np.inf, np.float32)
    kept = min(k, width)
    if kept == 0:
        return rows, scores
    size = max(1, _HEAP_BYTES // (n_parts * kept * _HIT_BYTES + more_bytes))
    for start in range(0, n_queries, size):
        group = slice(start, min(start + size, n_queries))
        heaps = new_heaps(n_parts, group.stop - start, kept)
        search(group, heaps)
        rows[group, :kept], scores[group, :kept] = heaps.rows[0], heaps.scores[0]
    return rows, scores


def groups(n: int, bytes_each: int) -> list[slice]:
    size = max(1, _HEAP_BYTES // max(1, bytes_each))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def matrix(
    segments: Sequence[StoredArray], queries: Float32Array, metric: Metric, end_row: int
) -> tuple[StoredArray, bool, Int64Array, int]:
    """What the compiled kernels are told of the stored vectors: kind, is_l2, bases, row_bytes."""
    kind = kind_of(segments)
    assert all(segment.shape[1] == queries.shape[1] and segment.dtype == segments[0].dtype for segment in segments)
    return kind, metric == "l2", segment_addresses(segments, end_row), queries.shape[1] * kind.itemsize
