"""The kernels of ``kernels.reference`` on the CPU: the same names, arguments and answers, compiled by numba.

One search leaves the GIL once, whatever its size. Sums are taken in another order than in the reference, so scores
differ by rounding; on small integers they are equal. The threads are numba's: ``use_threads`` bounds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from engine.dtypes import StoredArray
from engine.types import Float32Array, Int64Array, Metric, Uint8Array
from kernels._cpu_lists import Lists, score_lists_parallel, score_lists_serial
from kernels._cpu_masks import count_bits, list_bits
from kernels._cpu_panel import pack_queries
from kernels._cpu_scan import Scan, scan_parallel, scan_serial
from kernels._cpu_threads import claim_threads, use_threads
from kernels._cpu_topk import Heaps, merge, new_heaps
from kernels.reference import SEGMENT_ROWS, Selection

__all__ = ["gather", "masked_scan", "merge_topk", "popcount", "rescore", "rows_of_mask", "use_threads"]

_KINDS: dict[np.dtype[Any], StoredArray] = {
    np.dtype(np.float16): np.zeros(0, np.uint16),
    np.dtype(np.uint16): np.zeros(0, np.int16),
    np.dtype(np.float32): np.zeros(0, np.float32),
}

_HEAP_BYTES = 256 << 20
"""Queries are taken in groups whose heaps fit in this: only a large k makes more than one group."""

_HIT_BYTES = 12


def masked_scan(
    segments: Sequence[StoredArray],
    queries: Float32Array,
    masks: Sequence[Uint8Array],
    *,
    metric: Metric,
    k: int,
    first_row: int,
    end_row: int,
) -> Selection:
    """Top k of rows [first_row, end_row) whose bit is set in ``masks[b]``, for each query b of float32 [B, d]."""
    assert len(masks) == len(queries)
    n_rows = max(0, end_row - first_row)
    n_parts = claim_threads(queries.size * n_rows)
    padded = [_whole_words(mask, end_row) for mask in masks]
    addresses = np.array([_address(mask) for mask in padded], np.int64)
    bases = _bases(segments, queries, end_row)

    def scan(group: slice, heaps: Heaps) -> None:
        mine = np.ascontiguousarray(queries[group], np.float32)
        kind, row_bytes = _layout(segments)
        work = Scan(
            kind, metric == "l2", bases, row_bytes, mine, pack_queries(mine), addresses[group], first_row, end_row
        )
        (scan_serial if n_parts == 1 else scan_parallel)(work, heaps)

    return _in_groups(scan, len(queries), k, width=n_rows, n_parts=n_parts)


def gather(
    segments: Sequence[StoredArray],
    queries: Float32Array,
    rows: Sequence[Int64Array],
    *,
    metric: Metric,
    k: int,
    end_row: int,
) -> Selection:
    """Top k among ``rows[b]`` for each query b of float32 [B, d]; rows outside [0, end_row) are padding."""
    assert len(rows) == len(queries)
    lengths = np.array([of_query.size for of_query in rows], np.int64)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    flat = np.concatenate(rows) if len(rows) else np.empty(0, np.int64)
    return _score_lists(segments, queries, flat, offsets, metric=metric, k=k, end_row=end_row)


def rescore(
    segments: Sequence[StoredArray],
    queries: Float32Array,
    candidates: Int64Array,
    *,
    metric: Metric,
    k: int,
    end_row: int,
) -> Selection:
    """Top k among candidates int64 [B, c], in any order; rows outside [0, end_row) are padding."""
    n_queries, width = candidates.shape
    assert n_queries == len(queries)
    offsets = np.arange(n_queries + 1, dtype=np.int64) * width
    return _score_lists(segments, queries, candidates.reshape(-1), offsets, metric=metric, k=k, end_row=end_row)


def merge_topk(parts: Sequence[Selection], *, k: int) -> Selection:
    """Top k of several selections of the same B queries, each [B, any width]; rows of -1 are padding."""
    rows = np.concatenate([part[0] for part in parts], axis=1)
    scores = np.concatenate([part[1] for part in parts], axis=1)

    def merge_group(group: slice, heaps: Heaps) -> None:
        merge(heaps, rows[group], scores[group])

    return _in_groups(merge_group, len(rows), k, width=rows.shape[1], n_parts=1)


def popcount(mask: Uint8Array, *, end_row: int) -> int:
    """How many rows below ``end_row`` have their bit set."""
    words = _whole_words(mask, end_row)
    return count_bits(_address(words), end_row)


def rows_of_mask(mask: Uint8Array, *, end_row: int) -> Int64Array:
    """The rows below ``end_row`` whose bit is set, ascending."""
    words = _whole_words(mask, end_row)
    rows = np.empty(count_bits(_address(words), end_row), np.int64)
    list_bits(_address(words), end_row, rows)
    return rows


def _score_lists(
    segments: Sequence[StoredArray],
    queries: Float32Array,
    rows: Int64Array,
    offsets: Int64Array,
    *,
    metric: Metric,
    k: int,
    end_row: int,
) -> Selection:
    n_queries, d = queries.shape
    threads = claim_threads(rows.size * d)
    n_parts = 1 if n_queries >= threads else threads
    flat = np.ascontiguousarray(rows, np.int64)
    bases = _bases(segments, queries, end_row)

    def score(group: slice, heaps: Heaps) -> None:
        mine = np.ascontiguousarray(queries[group], np.float32)
        kind, row_bytes = _layout(segments)
        bounds = offsets[group.start : group.stop + 1]
        work = Lists(kind, metric == "l2", bases, row_bytes, mine, flat, bounds, end_row)
        (score_lists_serial if threads == 1 else score_lists_parallel)(work, heaps)

    width = int(np.diff(offsets).max(initial=0))
    return _in_groups(score, n_queries, k, width=width, n_parts=n_parts)


def _in_groups(
    search: Callable[[slice, Heaps], None], n_queries: int, k: int, *, width: int, n_parts: int
) -> Selection:
    """Run ``search`` on slices of the queries whose heaps fit in memory; no query has more than ``width`` rows."""
    rows = np.full((n_queries, k), -1, np.int64)
    scores = np.full((n_queries, k), -np.inf, np.float32)
    kept = min(k, width)
    if kept == 0:
        return rows, scores
    size = max(1, _HEAP_BYTES // (n_parts * kept * _HIT_BYTES))
    for start in range(0, n_queries, size):
        group = slice(start, min(start + size, n_queries))
        heaps = new_heaps(n_parts, group.stop - start, kept)
        search(group, heaps)
        rows[group, :kept], scores[group, :kept] = heaps.rows[0], heaps.scores[0]
    return rows, scores


def _layout(segments: Sequence[StoredArray]) -> tuple[StoredArray, int]:
    """The kind of the stored elements, as ``kernels._cpu_jit`` knows them, and the bytes of a row."""
    return _KINDS[segments[0].dtype], segments[0].strides[0]


def _bases(segments: Sequence[StoredArray], queries: Float32Array, end_row: int) -> Int64Array:
    """The address of each segment, which cover [0, end_row) with rows as long as the queries."""
    assert sum(len(segment) for segment in segments) >= end_row
    assert all(len(segment) == SEGMENT_ROWS for segment in segments[:-1])
    assert all(segment.flags.c_contiguous and segment.shape[1] == queries.shape[1] for segment in segments)
    return np.array([_address(segment) for segment in segments], np.int64)


def _whole_words(mask: Uint8Array, end_row: int) -> Uint8Array:
    """The mask itself where it covers ``end_row`` in whole words, else a copy that does."""
    n_bytes = -(-end_row // 64) * 8
    if mask.size >= n_bytes and mask.flags.c_contiguous:
        return mask
    whole = np.zeros(n_bytes, np.uint8)
    whole[: mask.size] = mask[:n_bytes]
    return whole


def _address(array: StoredArray) -> int:
    """Where the first element lies; whoever uses it keeps the array alive."""
    address: int = array.__array_interface__["data"][0]
    return address
