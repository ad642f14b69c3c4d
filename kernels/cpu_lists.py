"""Searches of inverted lists on the CPU, compiled by numba: ``kernels.cpu`` is the door."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np

from kernels._cpu_addresses import mask_address, segment_addresses, whole_words
from kernels._cpu_extremes import widen
from kernels._cpu_fusion import Fused, fused_of
from kernels._cpu_gains import add_gains
from kernels._cpu_gather import RowLists
from kernels._cpu_groups import groups, in_groups, matrix
from kernels._cpu_list_feature import fill_again, fill_new
from kernels._cpu_nearest import score_centroids_parallel, score_centroids_serial, with_ones
from kernels._cpu_probes import scan_probes_parallel, scan_probes_serial, search_parallel, search_serial
from kernels._cpu_probing import Counts, Probing, Scratch, new_scratch
from kernels._cpu_reservoir import Reservoirs, new_reservoirs
from kernels._cpu_threads import all_threads, claim_threads
from kernels._cpu_topk import Heaps
from kernels.arrays import Float32Array, Int32Array, Int64Array, Metric, Selection, StoredArray, Uint8Array
from kernels.fusion import FeatureStamps, Fusion, ListExtremes, list_ranges, no_extremes
from kernels.list_feature import ListFeature
from kernels.packed_lists import CENTROIDS, PANEL_LISTS, PackedLists, Probed, ProbeLimits, fixed_limits, table_levels

_USUAL_PROBES = 32
"""Lists that a query is taken to scan where it has no smaller limit, to tell whether several threads pay."""

_NEAREST_AT_ONCE = 256
"""Vectors whose scores with all centroids are held."""


def scan_lists(
    lists: PackedLists,
    queries: Float32Array,
    masks: Sequence[Uint8Array | None],
    *,
    limits: ProbeLimits,
    fusion: Fusion | None = None,
    extremes: ListExtremes | None = None,
    feature: ListFeature | None = None,
) -> tuple[Selection, Probed]:
    """Each query's candidates by quantised score, among the rows whose bit is set in ``masks[b]``.

    With a fusion scores are in units of similarity, and ``extremes`` bound what it adds; it has no extras. Where it has
    one feature, ``feature`` may have it beside the codes.
    """
    n, width = len(queries), int(limits.depths.max(initial=0))
    rows = np.full((n, width), -1, np.int64)
    scores = np.full((n, width), -np.inf, np.float32)
    parts = []
    for group in groups(n, _coarse_bytes(lists)):
        bounded = _Bounded(None if fusion is None else fusion.of(group), extremes, feature)
        probing, fused, threads, kept = _probing(lists, queries[group], masks[group], limits.of(group), bounded)
        scratch, reservoirs, counts = _working_memory(lists, probing, threads, width)
        if threads == 1:
            scan_probes_serial(probing, fused, scratch, reservoirs, counts, rows[group], scores[group])
        else:
            scan_probes_parallel(
                probing, fused, scratch, reservoirs, counts, rows[group], scores[group], np.zeros(1, np.int64)
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
    fusion: Fusion | None = None,
    extremes: ListExtremes | None = None,
    feature: ListFeature | None = None,
) -> tuple[Selection, Probed]:
    """Exact top k for ``vectors`` float32 [B, d] of the rows that ``scan_lists`` finds."""
    width = int(limits.depths.max(initial=0))
    stored = matrix(segments, vectors, metric, end_row)
    parts = []

    def search(group: slice, heaps: Heaps) -> None:
        mine = np.array(vectors[group], np.float32, order="C")
        bounded = _Bounded(None if fusion is None else fusion.of(group), extremes, feature)
        probing, fused, threads, kept = _probing(lists, queries[group], masks[group], limits.of(group), bounded)
        scratch, reservoirs, counts = _working_memory(lists, probing, threads, width)
        offsets = np.array([0, *itertools.accumulate(limits.depths[group].tolist())], np.int64)
        exact = RowLists(*stored, mine, np.empty(offsets[-1], np.int64), offsets, end_row)
        exact_fused = fused_of(fusion, group, end_row)
        if threads == 1:
            search_serial(probing, fused, scratch, reservoirs, exact, exact_fused, heaps, counts)
        else:
            counter = np.zeros(1, np.int64)
            search_parallel(probing, fused, scratch, reservoirs, exact, exact_fused, heaps, counts, counter)
        parts.append(counts)
        del kept

    selection = in_groups(search, len(vectors), k, width=width, n_parts=1, more_bytes=_coarse_bytes(lists) + 8 * width)
    return selection, _probed(parts) if parts else _nothing_probed(len(vectors))


def widen_extremes(
    extremes: ListExtremes,
    numbers: Int32Array,
    features: Sequence[Float32Array],
    alive: Uint8Array,
    *,
    first_row: int,
    end_row: int,
) -> None:
    """Take rows [first_row, end_row) whose bit is set in ``alive`` into the extremes of their lists, ``numbers``
    int32 [>= end_row]; ``features`` as a ``Fusion`` has them. A row taken twice counts twice in the means.
    """
    assert len(numbers) >= end_row
    if extremes.lows.shape[1] and end_row > first_row:
        words = whole_words(alive, end_row)
        addresses = segment_addresses(features, end_row)
        widen(numbers, addresses, mask_address(words), first_row, end_row, *extremes)


def nearest_lists(lists: PackedLists, queries: Float32Array) -> Int64Array:
    """The list whose centroid scores best, the first of equals: int64 [n]. Queries as for ``scan_lists``."""
    numbers = np.empty(len(queries), np.int64)
    for first in range(0, len(queries), _NEAREST_AT_ONCE):
        part = queries[first : first + _NEAREST_AT_ONCE]
        scores = _centroid_scores(lists, part)[: len(part), : lists.nlist]
        numbers[first : first + len(part)] = scores.argmax(axis=1)
    return numbers


def fill_list_feature(
    feature: ListFeature, lists: PackedLists, features: Sequence[Float32Array], stamps: FeatureStamps
) -> None:
    """Have all that is listed, as ``features`` say by now: float32 [SEGMENT_ROWS, 1] segments, told by their stamps."""
    assert stamps.n_rows >= lists.end_row
    if feature.n_rows == lists.n_rows and feature.n_changes == stamps.n_changes:
        return
    feature.grow(lists)
    addresses = segment_addresses(features, lists.end_row)
    spans = stamps.changes_since(feature.n_changes)
    for first, end in [(0, lists.end_row)] if spans is None else spans:
        fill_again(first, min(end, lists.end_row), addresses, feature.places, feature.addresses)
    feature.n_changes = stamps.n_changes
    if feature.n_rows < lists.n_rows:
        fill_new(
            lists.chunk_addresses,
            lists.n_columns,
            lists.first_blocks,
            lists.next_blocks,
            lists.sizes,
            addresses,
            feature.filled,
            feature.last_blocks,
            feature.places,
            feature.addresses,
        )
        feature.n_rows = lists.n_rows


def query_scales(lists: PackedLists, queries: Float32Array, kth: Float32Array) -> Float32Array:
    """What a reach and a slack of 1 mean for each query, as a difference of scores: float32 [B]."""
    squares = np.einsum("bd,bd->b", queries, queries)
    lengths = 2 * np.sqrt(np.maximum(squares / 4 - kth, 0)) if lists.is_l2 else np.sqrt(squares)
    scales: Float32Array = lists.unit * lengths
    return scales


def warm_up(dtype: np.dtype[Any]) -> None:
    """Compile, or load from disk, all that searches of lists over vectors stored as ``dtype`` need."""
    for spread in (nullcontext, all_threads):
        with spread():
            _search_once(dtype)


def _search_once(dtype: np.dtype[Any]) -> None:
    """For one query and for several: one alone has kernels of its own."""
    lists = PackedLists(np.zeros((2, CENTROIDS, 1), np.float32), np.zeros((1, 2), np.float32), "dot")
    lists.append(np.zeros(1, np.int64), np.zeros((1, 1), np.uint8), np.zeros(1, np.int64), np.zeros(1, np.float32))
    features, extremes = [np.zeros((1, 1), np.float32)], no_extremes(1, 1)
    for n in (1, 2):
        queries, masks = np.zeros((n, 2), np.float32), [None] * n
        limits = fixed_limits(n, k=1, nprobe=1, depth=1)
        fusion = Fusion(np.ones(n, np.float32), np.ones((n, 1), np.float32), features, [None] * n)
        scan_lists(lists, queries, masks, limits=limits, fusion=fusion, extremes=extremes)
        scan_lists(lists, queries, masks, limits=limits)
        segments = [np.zeros((1, 2), dtype)]
        search_lists(lists, segments, queries, queries, masks, limits=limits, metric="dot", k=1, end_row=1)
    widen_extremes(extremes, np.zeros(1, np.int32), features, np.ones(8, np.uint8), first_row=0, end_row=1)
    fill_list_feature(ListFeature(lists), lists, features, FeatureStamps(1, [0]))


def _coarse_bytes(lists: PackedLists) -> int:
    """Of the scores that a query's order of lists is found from."""
    return 4 * PANEL_LISTS * len(lists.centroid_panels)


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
    lists: PackedLists,
    queries: Float32Array,
    masks: Sequence[Uint8Array | None],
    limits: ProbeLimits,
    bounded: _Bounded,
) -> tuple[Probing, Fused, int, list[Uint8Array | None]]:
    """What the compiled scan is told, over how many threads, and the masks that must live as long."""
    assert len(queries) == len(masks) == len(limits.ks)
    assert queries.shape[1] == lists.centroids.shape[1]
    words = [None if mask is None else whole_words(mask, lists.end_row) for mask in masks]
    asked = np.array(queries, np.float32, order="C")
    coarse = _centroid_scores(lists, asked)
    fusion, bases, bounds = _with_gains(lists, asked, coarse, limits, bounded)
    feature = None if fusion is None else bounded.feature
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
        coarse,
        np.array([0 if mask is None else mask_address(mask) for mask in words], np.int64),
        -(-lists.end_row // 8),
        np.array(np.minimum(limits.ks, limits.depths), np.int64),
        np.array(limits.nprobes, np.int64),
        np.array(limits.reaches, np.float32),
        np.array(limits.slopes, np.float32),
        np.array(limits.shares, np.float64),
        np.array(limits.near_slopes, np.float32),
        np.array(limits.depths, np.int64),
        np.array(limits.slacks, np.float32),
        np.array(limits.budgets, np.int64),
        bases,
        bounds,
        np.ascontiguousarray(np.broadcast_to(bounds.max(axis=1, initial=-np.inf), len(queries)))
        if bounds.size
        else np.zeros(len(queries), np.float32),
        np.zeros(0, np.int64) if feature is None else feature.addresses,
        np.zeros(0, np.float32) if fusion is None or feature is None else fusion.weights[:, 0].copy(),
    )
    looked_up = fusion if fusion is None or feature is None else _without_features(fusion)
    fused = fused_of(looked_up, slice(None), lists.end_row)
    return probing, fused, _threads_to_probe(lists, limits), words


def _without_features(fusion: Fusion) -> Fusion:
    return fusion._replace(weights=np.zeros((len(fusion.scales), 0), np.float32), features=())


class _Bounded(NamedTuple):
    """What scores of some queries are fused with; ``extremes`` bound it, list by list."""

    fusion: Fusion | None
    extremes: ListExtremes | None
    feature: ListFeature | None


def _with_gains(
    lists: PackedLists, queries: Float32Array, coarse: Float32Array, limits: ProbeLimits, bounded: _Bounded
) -> tuple[Fusion | None, Float32Array, Float32Array]:
    """The fusion in units of similarity; what rows of each list score at most but for their codes, [B, nlist], and what
    of it features add at most, [B or 1, nlist]. The gains that lists expect are added to ``coarse``.
    """
    fusion, extremes, feature = bounded
    if fusion is None or not fusion.weights.shape[1]:
        return None, np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32)
    assert extremes is not None
    assert all(extra is None for extra in fusion.extras), "lists bound no extras"
    assert feature is None or (fusion.weights.shape[1] == 1 and feature.n_rows == lists.n_rows)
    weights = fusion.in_similarity
    distinct = weights[:1] if (weights == weights[:1]).all() else weights
    bounds, means = extremes.bounds(distinct), extremes.means(distinct)
    n_queries = len(weights)
    nearest = coarse[:n_queries, : lists.nlist].max(axis=1)
    ranges = list_ranges(limits.reaches, query_scales(lists, queries, nearest))
    bases = np.empty((n_queries, lists.nlist), np.float32)
    add_gains(coarse, bounds, means, ranges, feature is None, lists.is_l2, bases)
    return fusion._replace(weights=weights, scales=np.ones_like(fusion.scales)), bases, bounds


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
    lists, rows, work, candidates, gave_up = (
        np.concatenate(nothing + [getattr(part, name) for part in parts]) for name in Counts._fields
    )
    return Probed(lists, rows, work, candidates, gave_up > 0)


def _nothing_probed(n: int) -> Probed:
    return _probed([Counts(*[np.zeros(n, np.int64)] * len(Counts._fields))])
