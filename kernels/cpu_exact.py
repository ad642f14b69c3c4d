"""Exact searches on the CPU, compiled by numba: ``kernels.cpu`` is the door."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels._cpu_addresses import mask_address, whole_words
from kernels._cpu_fusion import fused_of
from kernels._cpu_gather import RowLists, score_lists_parallel, score_lists_serial
from kernels._cpu_groups import in_groups, matrix
from kernels._cpu_masks import count_bits, list_bits
from kernels._cpu_panel import pack_queries
from kernels._cpu_queries import scale_rows, square_lengths
from kernels._cpu_scan import Scan, scan_parallel, scan_serial
from kernels._cpu_threads import all_threads, claim_threads
from kernels._cpu_topk import Heaps, merge
from kernels.arrays import Float32Array, Int64Array, Metric, Selection, StoredArray, Uint8Array
from kernels.fusion import Fusion

_SCATTERED = 3
"""A listed row takes about three times as long as a scanned one (measured), for it lies anywhere in memory."""


def unit_queries(
    queries: Float32Array, *, metric: Metric, most_length: float
) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
    """Queries float32 [B, d] of length 1 for cosine, as they are else; and which are sound, bool [B].

    One with a NaN or an infinity is not sound, nor is one of zeros for cosine, nor one longer than ``most_length`` for
    others: it becomes zeros, which every search bears. The array given comes back where nothing had to be changed.
    """
    given = np.ascontiguousarray(queries, np.float32)
    squares = np.empty(len(given), np.float64)
    square_lengths(given, squares)
    is_sound = np.isfinite(squares)
    if metric != "cosine":
        is_sound &= squares <= most_length**2
        if is_sound.all():
            return given, is_sound
        return np.where(is_sound[:, None], given, np.float32(0)), is_sound
    units = np.empty_like(given)
    scale_rows(given, squares, units)
    return units, is_sound & (squares > 0)


def masked_scan(
    segments: Sequence[StoredArray],
    queries: Float32Array,
    masks: Sequence[Uint8Array],
    *,
    metric: Metric,
    k: int,
    first_row: int,
    end_row: int,
    fusion: Fusion | None = None,
) -> Selection:
    """Top k of rows [first_row, end_row) whose bit is set in ``masks[b]``, for each query b of float32 [B, d]."""
    assert len(masks) == len(queries)
    n_rows = max(0, end_row - first_row)
    words = [whole_words(mask, end_row) for mask in masks]
    addresses = np.array([mask_address(mask) for mask in words], np.int64)
    stored = matrix(segments, queries, metric, end_row)
    threads = claim_threads(queries.size * n_rows)

    def scan(group: slice, heaps: Heaps) -> None:
        mine = np.array(queries[group], np.float32, order="C")
        fused = fused_of(fusion, group, end_row)
        work = Scan(*stored, mine, pack_queries(mine), addresses[group], first_row, end_row)
        (scan_serial if threads == 1 else scan_parallel)(work, fused, heaps)

    return in_groups(scan, len(queries), k, width=n_rows, n_parts=threads)


def gather(
    segments: Sequence[StoredArray],
    queries: Float32Array,
    rows: Sequence[Int64Array],
    *,
    metric: Metric,
    k: int,
    end_row: int,
    fusion: Fusion | None = None,
) -> Selection:
    """Top k among ``rows[b]`` for each query b of float32 [B, d]; rows outside [0, end_row) are padding."""
    assert len(rows) == len(queries)
    offsets = np.array([0, *itertools.accumulate(of_query.size for of_query in rows)], np.int64)
    flat = np.concatenate(rows, dtype=np.int64) if len(rows) else np.empty(0, np.int64)
    width = max((of_query.size for of_query in rows), default=0)
    return _score_lists(segments, queries, flat, offsets, width, metric=metric, k=k, end_row=end_row, fusion=fusion)


def rescore(
    segments: Sequence[StoredArray],
    queries: Float32Array,
    candidates: Int64Array,
    *,
    metric: Metric,
    k: int,
    end_row: int,
    fusion: Fusion | None = None,
) -> Selection:
    """Top k among candidates int64 [B, c], in any order; rows outside [0, end_row) are padding."""
    n_queries, width = candidates.shape
    assert n_queries == len(queries)
    offsets = np.arange(n_queries + 1, dtype=np.int64) * width
    flat = np.array(candidates, np.int64).reshape(-1)
    return _score_lists(segments, queries, flat, offsets, width, metric=metric, k=k, end_row=end_row, fusion=fusion)


def merge_topk(parts: Sequence[Selection], *, k: int) -> Selection:
    """Top k of several selections of the same B queries, each [B, any width]; rows of -1 are padding."""
    rows = np.concatenate([part[0] for part in parts], axis=1)
    scores = np.concatenate([part[1] for part in parts], axis=1)

    def merge_group(group: slice, heaps: Heaps) -> None:
        merge(heaps, rows[group], scores[group])

    return in_groups(merge_group, len(rows), k, width=rows.shape[1], n_parts=1)


def popcount(mask: Uint8Array, *, end_row: int) -> int:
    """How many rows below ``end_row`` have their bit set."""
    words = whole_words(mask, end_row)
    return count_bits(mask_address(words), end_row)


def rows_of_mask(mask: Uint8Array, *, end_row: int) -> Int64Array:
    """The rows below ``end_row`` whose bit is set, ascending."""
    words = whole_words(mask, end_row)
    rows = np.empty(count_bits(mask_address(words), end_row), np.int64)
    list_bits(mask_address(words), end_row, rows)
    return rows


def warm_up(dtype: np.dtype[Any]) -> None:
    """Compile, or load from disk, all that exact searches of vectors stored as ``dtype`` need."""
    segments, queries = [np.zeros((1, 1), dtype)], np.zeros((1, 1), np.float32)
    mask = np.ones(8, np.uint8)
    frozen = np.ones(8, np.uint8)
    frozen.flags.writeable = False
    for spread in (nullcontext, all_threads):
        with spread():
            masked_scan(segments, queries, [mask], metric="dot", k=1, first_row=0, end_row=1)
            rescore(segments, queries, np.zeros((1, 1), np.int64), metric="dot", k=1, end_row=1)
    unit_queries(queries, metric="cosine", most_length=1.0)
    merge_topk([(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32))], k=1)
    rows_of_mask(mask, end_row=1)
    popcount(frozen, end_row=1)


def _score_lists(
    segments: Sequence[StoredArray],
    queries: Float32Array,
    rows: Int64Array,
    offsets: Int64Array,
    width: int,
    *,
    metric: Metric,
    k: int,
    end_row: int,
    fusion: Fusion | None,
) -> Selection:
    """Query b has ``rows[offsets[b]:offsets[b + 1]]``, at most ``width`` of them."""
    n_queries, d = queries.shape
    threads = claim_threads(rows.size * d * _SCATTERED)
    n_parts = 1 if n_queries >= threads else threads
    stored = matrix(segments, queries, metric, end_row)

    def score(group: slice, heaps: Heaps) -> None:
        mine = np.array(queries[group], np.float32, order="C")
        bounds = offsets[group.start : group.stop + 1]
        work = RowLists(*stored, mine, rows, bounds, end_row)
        (score_lists_serial if threads == 1 else score_lists_parallel)(work, fused_of(fusion, group, end_row), heaps)

    return in_groups(score, n_queries, k, width=width, n_parts=n_parts)
