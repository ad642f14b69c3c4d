"""The kernels of ``kernels.reference`` on the CPU: the same names, arguments and answers, compiled by numba.

One search leaves the GIL once, whatever its size. Sums are taken in another order than in the reference, so scores
differ by rounding; on small integers they are equal. The threads are numba's: ``use_threads`` bounds them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import cpu_filters, cpu_ids
from kernels._cpu_addresses import array_address, kind_of, mask_address, segment_addresses, whole_words
from kernels._cpu_int8_rows import pack_query_codes, quantise
from kernels._cpu_int8_scan import CodeScan, scan_codes_parallel, scan_codes_serial
from kernels._cpu_lists import Lists, score_lists_parallel, score_lists_serial
from kernels._cpu_masks import count_bits, list_bits
from kernels._cpu_nearest import score_centroids_parallel, score_centroids_serial, with_ones
from kernels._cpu_panel import pack_queries
from kernels._cpu_probes import (
    Counts,
    Probing,
    Scratch,
    new_scratch,
    scan_probes_parallel,
    scan_probes_serial,
    search_parallel,
    search_serial,
)
from kernels._cpu_queries import scale_rows, square_lengths
from kernels._cpu_reservoir import Reservoirs, new_reservoirs
from kernels._cpu_scan import Scan, scan_parallel, scan_serial
from kernels._cpu_threads import all_threads, claim_threads, use_threads
from kernels._cpu_topk import Heaps, merge, new_heaps
from kernels.arrays import (
    SEGMENT_ROWS,
    Float32Array,
    Int64Array,
    Metric,
    RowCodes,
    Selection,
    StoredArray,
    Uint8Array,
)
from kernels.coarse import BoolArray, RowBounds, empty_codes, is_proven, part_of
from kernels.packed_lists import (
    CENTROIDS,
    PANEL_LISTS,
    PackedLists,
    Probed,
    ProbeLimits,
    fixed_limits,
    table_levels,
)

__all__ = [
    "coarse_scan",
    "gather",
    "masked_scan",
    "merge_topk",
    "popcount",
    "quantise_into",
    "quantise_rows",
    "query_scales",
    "rescore",
    "rows_of_mask",
    "scan_lists",
    "search_lists",
    "two_pass_scan",
    "unit_queries",
    "use_threads",
    "warm_up",
    "warm_up_coarse",
]

_HEAP_BYTES = 256 << 20
"""Queries are taken in groups whose heaps fit in this: only a large k makes more than one group."""

_HIT_BYTES = 12

_CODES_A_VALUE = 4
"""Codes that are scanned in the time of one stored value, about."""

_SCATTERED = 3
"""A listed row takes about three times as long as a scanned one (measured), for it lies anywhere in memory."""


def unit_queries(queries: Float32Array, *, metric: Metric) -> tuple[Float32Array, npt.NDArray[np.bool_]]:
    """Queries float32 [B, d] of length 1 for cosine, as they are else; and which are sound, bool [B].

    One with a NaN or an infinity is not sound, nor is one of zeros for cosine: it becomes zeros, which every search
    bears. The array given comes back where nothing had to be changed.
    """
    given = np.ascontiguousarray(queries, np.float32)
    squares = np.empty(len(given), np.float64)
    square_lengths(given, squares)
    is_sound = np.isfinite(squares)
    if metric != "cosine":
        if is_sound.all():
            return given, is_sound
        return np.where(is_sound[:, None], given, np.float32(0)), is_sound
    units = np.empty_like(given)
    scale_rows(given, squares, units)
    return units, is_sound & (squares > 0)


_USUAL_PROBES = 32
"""Lists that a query is taken to scan where it has no smaller limit, to tell whether several threads pay."""


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
    words = [whole_words(mask, end_row) for mask in masks]
    addresses = np.array([mask_address(mask) for mask in words], np.int64)
    matrix = _matrix(segments, queries, metric, end_row)
    threads = claim_threads(queries.size * n_rows)

    def scan(group: slice, heaps: Heaps) -> None:
        mine = np.array(queries[group], np.float32, order="C")
        work = Scan(*matrix, mine, pack_queries(mine), addresses[group], first_row, end_row)
        (scan_serial if threads == 1 else scan_parallel)(work, heaps)

    return _in_groups(scan, len(queries), k, width=n_rows, n_parts=threads)


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
    offsets = np.array([0, *itertools.accumulate(of_query.size for of_query in rows)], np.int64)
    flat = np.concatenate(rows, dtype=np.int64) if len(rows) else np.empty(0, np.int64)
    width = max((of_query.size for of_query in rows), default=0)
    return _score_lists(segments, queries, flat, offsets, width, metric=metric, k=k, end_row=end_row)


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
    flat = np.array(candidates, np.int64).reshape(-1)
    return _score_lists(segments, queries, flat, offsets, width, metric=metric, k=k, end_row=end_row)


def merge_topk(parts: Sequence[Selection], *, k: int) -> Selection:
    """Top k of several selections of the same B queries, each [B, any width]; rows of -1 are padding."""
    rows = np.concatenate([part[0] for part in parts], axis=1)
    scores = np.concatenate([part[1] for part in parts], axis=1)

    def merge_group(group: slice, heaps: Heaps) -> None:
        merge(heaps, rows[group], scores[group])

    return _in_groups(merge_group, len(rows), k, width=rows.shape[1], n_parts=1)


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


def quantise_rows(vectors: StoredArray) -> RowCodes:
    """Codes of stored vectors [n, d], all of them finite: the largest value of a row becomes 127 or -127."""
    codes = empty_codes(*vectors.shape)
    quantise_into(codes, vectors, first=0)
    return codes


def quantise_into(codes: RowCodes, vectors: StoredArray, *, first: int) -> None:
    """Write what ``quantise_rows`` makes of the vectors [n, d] over the zeros of ``codes`` from row ``first`` on."""
    assert vectors.flags.c_contiguous
    n, d = vectors.shape
    part = part_of(codes, first, first + n)
    assert len(part.values) == n
    quantise(kind_of([vectors]), vectors.ctypes.data, n, d, part)


def coarse_scan(
    segments: Sequence[RowCodes],
    queries: Float32Array,
    masks: Sequence[Uint8Array],
    *,
    metric: Metric,
    k: int,
    first_row: int,
    end_row: int,
) -> Selection:
    """As ``masked_scan``, by codes: the queries are quantised as the rows are, and scores are of what both became."""
    assert len(masks) == len(queries)
    n_rows = max(0, end_row - first_row)
    words = [whole_words(mask, end_row) for mask in masks]
    addresses = np.array([mask_address(mask) for mask in words], np.int64)
    bases, row_bytes = _codes_addresses(segments, end_row), -(-queries.shape[1] // 16) * 16
    assert all(codes.values.shape[1] == row_bytes for codes in segments)
    threads = claim_threads(queries.size * n_rows // _CODES_A_VALUE)

    def scan(group: slice, heaps: Heaps) -> None:
        panels = pack_query_codes(queries[group], metric)
        work = CodeScan(bases, row_bytes, *panels, addresses[group], first_row, end_row)
        (scan_codes_serial if threads == 1 else scan_codes_parallel)(work, heaps, np.zeros(1, np.int64))

    return _in_groups(scan, len(queries), k, width=n_rows, n_parts=threads)


def two_pass_scan(
    segments: Sequence[StoredArray],
    codes: Sequence[RowCodes],
    queries: Float32Array,
    masks: Sequence[Uint8Array],
    *,
    metric: Metric,
    k: int,
    depth: int,
    bounds: RowBounds,
    end_row: int,
) -> tuple[Selection, BoolArray]:
    """Top k of the best ``depth`` rows by codes, and whether each is proven to be what ``masked_scan`` finds: bool [B].

    ``depth`` is at least k; ``bounds`` are of all of ``codes``.
    """
    coarse = coarse_scan(codes, queries, masks, metric=metric, k=depth, first_row=0, end_row=end_row)
    exact = rescore(segments, queries, coarse[0], metric=metric, k=k, end_row=end_row)
    return exact, is_proven(queries, coarse, exact, metric=metric, bounds=bounds)


def warm_up_coarse(dtype: np.dtype[Any]) -> None:
    """As ``warm_up``, for what coarse searches need besides."""
    codes, queries = [quantise_rows(np.zeros((1, 1), dtype))], np.zeros((1, 1), np.float32)
    for spread in (nullcontext, all_threads):
        with spread():
            coarse_scan(codes, queries, [np.ones(8, np.uint8)], metric="dot", k=1, first_row=0, end_row=1)


def warm_up(dtype: np.dtype[Any]) -> None:
    """Compile, or load from disk, all that searches of vectors stored as ``dtype`` need."""
    segments, queries = [np.zeros((1, 1), dtype)], np.zeros((1, 1), np.float32)
    mask = np.ones(8, np.uint8)
    frozen = np.ones(8, np.uint8)
    frozen.flags.writeable = False
    for spread in (nullcontext, all_threads):
        with spread():
            masked_scan(segments, queries, [mask], metric="dot", k=1, first_row=0, end_row=1)
            rescore(segments, queries, np.zeros((1, 1), np.int64), metric="dot", k=1, end_row=1)
            _warm_up_lists(np.dtype(dtype))
    unit_queries(queries, metric="cosine")
    merge_topk([(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.float32))], k=1)
    rows_of_mask(mask, end_row=1)
    popcount(frozen, end_row=1)
    cpu_filters.warm_up()
    cpu_ids.warm_up()


def _warm_up_lists(dtype: np.dtype[Any]) -> None:
    """As one query and as several: one alone has kernels of its own."""
    lists = PackedLists(np.zeros((2, CENTROIDS, 1), np.float32), np.zeros((1, 2), np.float32), "dot")
    lists.append(np.zeros(1, np.int64), np.zeros((1, 1), np.uint8), np.zeros(1, np.int64), np.zeros(1, np.float32))
    for n in (1, 2):
        queries, masks = np.zeros((n, 2), np.float32), [None] * n
        limits = fixed_limits(n, k=1, nprobe=1, depth=1)
        scan_lists(lists, queries, masks, limits=limits)
        segments = [np.zeros((1, 2), dtype)]
        search_lists(lists, segments, queries, queries, masks, limits=limits, metric="dot", k=1, end_row=1)


# Inverted lists


def scan_lists(
    lists: PackedLists, queries: Float32Array, masks: Sequence[Uint8Array | None], *, limits: ProbeLimits
) -> tuple[Selection, Probed]:
    """Each query's candidates by quantised score, among the rows whose bit is set in ``masks[b]``."""
    n, width = len(queries), int(limits.depths.max(initial=0))
    rows = np.full((n, width), -1, np.int64)
    scores = np.full((n, width), -np.inf, np.float32)
    parts = []
    for group in _groups(n, _coarse_bytes(lists)):
        probing, threads, kept = _probing(lists, queries[group], masks[group], limits.of(group))
        scratch, reservoirs, counts = _working_memory(lists, probing, threads, width)
        if threads == 1:
            scan_probes_serial(probing, scratch, reservoirs, counts, rows[group], scores[group])
        else:
            scan_probes_parallel(
                probing, scratch, reservoirs, counts, rows[group], scores[group], np.zeros(1, np.int64)
            )
        parts.append(counts)
        del kept
    return (rows, scores), _probed(parts)


def search_lists(
    lists: PackedLists,
    segments: Sequence[StoredArray],
    vectors: Float32Array,
    queries: Float32Array,
    masks: Sequence[Uint8Array | None],
    *,
    limits: ProbeLimits,
    metric: Metric,
    k: int,
    end_row: int,
) -> tuple[Selection, Probed]:
    """Exact top k for ``vectors`` float32 [B, d] of the rows that ``scan_lists`` finds."""
    width = int(limits.depths.max(initial=0))
    matrix = _matrix(segments, vectors, metric, end_row)
    parts = []

    def search(group: slice, heaps: Heaps) -> None:
        mine = np.array(vectors[group], np.float32, order="C")
        probing, threads, kept = _probing(lists, queries[group], masks[group], limits.of(group))
        scratch, reservoirs, counts = _working_memory(lists, probing, threads, width)
        offsets = np.array([0, *itertools.accumulate(limits.depths[group].tolist())], np.int64)
        exact = Lists(*matrix, mine, np.empty(offsets[-1], np.int64), offsets, end_row)
        if threads == 1:
            search_serial(probing, scratch, reservoirs, exact, heaps, counts)
        else:
            search_parallel(probing, scratch, reservoirs, exact, heaps, counts, np.zeros(1, np.int64))
        parts.append(counts)
        del kept

    selection = _in_groups(search, len(vectors), k, width=width, n_parts=1, more_bytes=_coarse_bytes(lists) + 8 * width)
    return selection, _probed(parts) if parts else _nothing_probed(len(vectors))


def query_scales(lists: PackedLists, queries: Float32Array, kth: Float32Array) -> Float32Array:
    """What a reach and a slack of 1 mean for each query, as a difference of scores: float32 [B]."""
    squares = np.einsum("bd,bd->b", queries, queries)
    lengths = 2 * np.sqrt(np.maximum(squares / 4 - kth, 0)) if lists.is_l2 else np.sqrt(squares)
    scales: Float32Array = lists.unit * lengths
    return scales


def _coarse_bytes(lists: PackedLists) -> int:
    """Of the scores that a query's order of lists is found from."""
    return 4 * PANEL_LISTS * len(lists.centroid_panels)


def _groups(n: int, bytes_each: int) -> list[slice]:
    size = max(1, _HEAP_BYTES // max(1, bytes_each))
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]


def _centroid_scores(lists: PackedLists, queries: Float32Array) -> Float32Array:
    """float32 [B or more, nlist to whole groups]; what fills the last group is -inf."""
    panels = lists.centroid_panels
    tiles = with_ones(queries, panels.shape[1])
    scores = np.empty((len(tiles), PANEL_LISTS * len(panels)), np.float32)
    if claim_threads(tiles.size * scores.shape[1]) == 1:
        score_centroids_serial(panels, tiles, scores)
    else:
        score_centroids_parallel(panels, tiles, scores)
    return scores


def _probing(
    lists: PackedLists, queries: Float32Array, masks: Sequence[Uint8Array | None], limits: ProbeLimits
) -> tuple[Probing, int, list[Uint8Array | None]]:
    """What the compiled scan is told, over how many threads, and the masks that must live as long."""
    assert len(queries) == len(masks) == len(limits.ks)
    assert queries.shape[1] == lists.centroids.shape[1]
    words = [None if mask is None else whole_words(mask, lists.end_row) for mask in masks]
    asked = np.array(queries, np.float32, order="C")
    probing = Probing(
        lists.codebook_by_part,
        table_levels(len(lists.codebook)),
        lists.unit,
        lists.is_l2,
        lists.chunk_addresses,
        lists.n_columns,
        lists.next_blocks,
        lists.first_blocks,
        lists.sizes,
        asked,
        _centroid_scores(lists, asked),
        np.array([0 if mask is None else mask_address(mask) for mask in words], np.int64),
        -(-lists.end_row // 8),
        np.array(np.minimum(limits.ks, limits.depths), np.int64),
        np.array(limits.nprobes, np.int64),
        np.array(limits.reaches, np.float32),
        np.array(limits.slopes, np.float32),
        np.array(limits.depths, np.int64),
        np.array(limits.slacks, np.float32),
        np.array(limits.budgets, np.int64),
    )
    return probing, _threads_to_probe(lists, limits), words


def _threads_to_probe(lists: PackedLists, limits: ProbeLimits) -> int:
    """One for a query alone: how far it goes follows from what it has found."""
    n = len(limits.ks)
    if n == 1:
        return 1
    usual = np.minimum(limits.nprobes, _USUAL_PROBES)
    rows = float(usual.sum()) * lists.n_rows / max(1, lists.nlist)
    return claim_threads(int(rows * lists.code_bytes) + n * lists.centroids.shape[1] * CENTROIDS)


def _working_memory(
    lists: PackedLists, probing: Probing, threads: int, width: int
) -> tuple[Scratch, Reservoirs, Counts]:
    n_parts, n_groups = len(lists.codebook), len(lists.centroid_panels)
    scratch = new_scratch(threads, n_parts, n_groups, int(probing.ks.max(initial=1)))
    counts = Counts(*(np.zeros(len(probing.ks), np.int64) for _ in Counts._fields))
    return scratch, new_reservoirs(threads, width), counts


def _probed(parts: Sequence[Counts]) -> Probed:
    nothing = [np.empty(0, np.int64)]
    lists, rows, candidates, gave_up = (
        np.concatenate(nothing + [getattr(part, name) for part in parts]) for name in Counts._fields
    )
    return Probed(lists, rows, candidates, gave_up > 0)


def _nothing_probed(n: int) -> Probed:
    return _probed([Counts(*[np.zeros(n, np.int64)] * len(Counts._fields))])


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
) -> Selection:
    """Query b has ``rows[offsets[b]:offsets[b + 1]]``, at most ``width`` of them."""
    n_queries, d = queries.shape
    threads = claim_threads(rows.size * d * _SCATTERED)
    n_parts = 1 if n_queries >= threads else threads
    matrix = _matrix(segments, queries, metric, end_row)

    def score(group: slice, heaps: Heaps) -> None:
        mine = np.array(queries[group], np.float32, order="C")
        bounds = offsets[group.start : group.stop + 1]
        work = Lists(*matrix, mine, rows, bounds, end_row)
        (score_lists_serial if threads == 1 else score_lists_parallel)(work, heaps)

    return _in_groups(score, n_queries, k, width=width, n_parts=n_parts)


def _in_groups(
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


def _codes_addresses(segments: Sequence[RowCodes], end_row: int) -> Int64Array:
    """int64 [segments, 4]: where codes, scales, sums and norms lie; together they cover [0, end_row)."""
    assert end_row <= (len(segments) - 1) * SEGMENT_ROWS + (len(segments[-1].scales) if segments else SEGMENT_ROWS)
    parts: list[list[StoredArray]] = [[codes.values, codes.scales, codes.sums, codes.norms] for codes in segments]
    assert all(array.flags.c_contiguous for of_segment in parts for array in of_segment)
    return np.array([[array_address(array) for array in one] for one in parts], np.int64).reshape(len(parts), 4)


def _matrix(
    segments: Sequence[StoredArray], queries: Float32Array, metric: Metric, end_row: int
) -> tuple[StoredArray, bool, Int64Array, int]:
    """What the compiled kernels are told of the stored vectors: kind, is_l2, bases, row_bytes."""
    kind = kind_of(segments)
    assert all(segment.shape[1] == queries.shape[1] and segment.dtype == segments[0].dtype for segment in segments)
    return kind, metric == "l2", segment_addresses(segments, end_row), queries.shape[1] * kind.itemsize
