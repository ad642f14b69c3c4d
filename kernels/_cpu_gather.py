"""Exact top k among a list of rows for each query, in any order, wherever the rows lie."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from kernels._cpu_fusion import Fused, feature_address, fuse_rows
from kernels._cpu_jit import compiled, compiled_allocating, compiled_parallel, inlined, int64, prefetch
from kernels._cpu_scores import score_rows
from kernels._cpu_topk import Heaps, finish, offer
from kernels.arrays import Float32Array, Int64Array, StoredArray

_CHUNK = 32
_LINE_BYTES = 64


class RowLists(NamedTuple):
    """What is scored, for whom: query b has ``rows[offsets[b]:offsets[b + 1]]``; ``bases``: address of each segment."""

    kind: StoredArray
    is_l2: bool
    bases: Int64Array
    row_bytes: int
    queries: Float32Array
    rows: Int64Array
    offsets: Int64Array
    end_row: int


@compiled
def score_lists_serial(lists: RowLists, fused: Fused, heaps: Heaps) -> None:
    """Score on the calling thread into heaps of one part, and finish them."""
    for query in range(lists.queries.shape[0]):
        score_part(lists, fused, heaps, query, int64(0))
        finish(heaps, query)


@compiled_parallel
def score_lists_parallel(lists: RowLists, fused: Fused, heaps: Heaps) -> None:
    """Score each part of each query's list on some thread, and finish the heaps."""
    n_parts, n_queries = heaps.counts.shape
    for task in numba.prange(n_parts * n_queries):
        score_part(lists, fused, heaps, int64(task) // n_parts, int64(task) % n_parts)
    for query in numba.prange(n_queries):
        finish(heaps, int64(query))


@compiled_allocating
def score_part(lists: RowLists, fused: Fused, heaps: Heaps, query: int, part: int) -> None:
    """Score one part of a query's list into its heap."""
    kept, addresses = np.empty((2, _CHUNK), np.int64), np.empty((2, _CHUNK), np.int64)
    _score_part(lists, fused, heaps, query, part, kept, addresses, np.empty(_CHUNK, np.float32))


@compiled
def _score_part(
    lists: RowLists,
    fused: Fused,
    heaps: Heaps,
    query: int,
    part: int,
    kept: Int64Array,
    addresses: Int64Array,
    scores: Float32Array,
) -> None:
    n_parts = heaps.counts.shape[0]
    first, end = lists.offsets[query], lists.offsets[query + 1]
    rows = lists.rows[first + (end - first) * part // n_parts : first + (end - first) * (part + 1) // n_parts]
    turn = 0
    count = _locate(lists, fused, rows[:_CHUNK], kept[0], addresses[0])
    for chunk in range(0, rows.size, _CHUNK):
        ahead = _locate(lists, fused, rows[chunk + _CHUNK : chunk + 2 * _CHUNK], kept[1 - turn], addresses[1 - turn])
        _score_chunk(lists, fused, heaps, query, part, kept[turn], addresses[turn], scores, count)
        count, turn = ahead, 1 - turn


@inlined
def _locate(lists: RowLists, fused: Fused, rows: Int64Array, kept: Int64Array, addresses: Int64Array) -> int:
    """Keep the rows within [0, end_row), find where they lie and have them fetched; returns how many."""
    n = 0
    for row in rows:
        if 0 <= row < lists.end_row:
            address = lists.bases[row >> 16] + (row & 65535) * lists.row_bytes
            for line in range(address, address + lists.row_bytes, _LINE_BYTES):
                prefetch(line)
            if fused.n_features > 0:
                prefetch(feature_address(fused, row))
            kept[n] = row
            addresses[n] = address
            n += 1
    return n


@inlined
def _score_chunk(
    lists: RowLists,
    fused: Fused,
    heaps: Heaps,
    query: int,
    part: int,
    rows: Int64Array,
    addresses: Int64Array,
    scores: Float32Array,
    count: int,
) -> None:
    d = lists.queries.shape[1]
    score_rows(lists.kind, lists.is_l2, addresses, int64(count), lists.queries.ctypes.data + 4 * query * d, d, scores)
    if fused.is_on:
        fuse_rows(fused, query, rows, int64(count), scores)
    for j in range(count):
        if not scores[j] < heaps.limits[part, query]:
            offer(heaps, part, query, scores[j], rows[j])
