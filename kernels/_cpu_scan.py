"""Exact top k of a range of rows for several queries, each with its own mask.

The unit of work is a word: 64 rows, one word of every mask. Where most of the queries want most of its rows, the rows
are widened to float32 once and scored six by sixteen; elsewhere each query scores its own rows as they are stored.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from kernels._cpu_fusion import FLOAT_BYTES, Fused, feature_address, fused_score
from kernels._cpu_jit import (
    compiled,
    compiled_allocating,
    compiled_parallel,
    count_ones,
    inlined,
    int64,
    load,
    lowest_one,
    word,
)
from kernels._cpu_masks import clip
from kernels._cpu_panel import PANEL_QUERIES, PANEL_ROWS, dot_panel, l2_panel
from kernels._cpu_scores import score_neighbours, widen_row
from kernels._cpu_topk import Heaps, finish, offer
from kernels.arrays import Float32Array, Int64Array, StoredArray

_FLOAT32 = np.zeros(0, np.float32)

_BLOCK_WORDS = 64
"""Parts take turns by blocks of so many words, so that a mask whose bits lie close together still feeds them all."""

_TILE_ROWS = 66
"""64 rows, rounded up to whole panels."""

_DENSE = 0.4
"""A panel pays where at least this share of its pairs is wanted: it makes about 2.5 times as many pairs a second as
scoring row by row (measured at d = 128 and 384 with AVX2)."""


class Scan(NamedTuple):
    """What is scanned, for whom. ``bases`` and ``masks`` are addresses: one a segment, one a query."""

    kind: StoredArray
    is_l2: bool
    bases: Int64Array
    row_bytes: int
    queries: Float32Array
    panels: Float32Array
    masks: Int64Array
    first_row: int
    end_row: int


class Scratch(NamedTuple):
    """One part's working memory, small enough for the second level of cache.

    ``words``: each query's mask word; ``bits``: positions of the tile's rows within the word; ``own_bits``: of one
    query's rows, for the tile is kept from panel to panel; ``limits``: as in ``Heaps``, +inf in the
    lanes beyond B; ``tile`` float32 [66, d]; ``scores`` float32 [66, 16]; ``features`` float32 [66, F] and ``added``
    [66, 16]: what is fused with them.
    """

    words: npt.NDArray[np.uint64]
    bits: Int64Array
    own_bits: Int64Array
    addresses: Int64Array
    limits: Float32Array
    tile: Float32Array
    scores: Float32Array
    features: Float32Array
    added: Float32Array


@compiled
def scan_serial(scan: Scan, fused: Fused, heaps: Heaps) -> None:
    """Scan on the calling thread into heaps of one part, and finish them."""
    _scan_part(scan, fused, heaps, int64(0))
    for query in range(scan.queries.shape[0]):
        finish(heaps, query)


@compiled_parallel
def scan_parallel(scan: Scan, fused: Fused, heaps: Heaps) -> None:
    """Scan with one thread for each part of the heaps, and finish them."""
    for part in numba.prange(heaps.counts.shape[0]):
        _scan_part(scan, fused, heaps, int64(part))
    for query in numba.prange(scan.queries.shape[0]):
        finish(heaps, int64(query))


@compiled_allocating
def _scan_part(scan: Scan, fused: Fused, heaps: Heaps, part: int) -> None:
    _scan_words(scan, fused, _new_scratch(scan, fused), heaps, part)


@compiled
def _scan_words(scan: Scan, fused: Fused, scratch: Scratch, heaps: Heaps, part: int) -> None:
    end_word = (scan.end_row + 63) >> 6
    stride = heaps.counts.shape[0] * _BLOCK_WORDS
    for block in range((scan.first_row >> 6) + part * _BLOCK_WORDS, end_word, stride):
        for w in range(block, min(block + _BLOCK_WORDS, end_word)):
            union = _load_words(scan, scratch, w)
            if union != 0:
                _scan_word(scan, fused, scratch, heaps, part, w, union)


@inlined
def _new_scratch(scan: Scan, fused: Fused) -> Scratch:
    n_lanes = scan.panels.shape[0] * PANEL_QUERIES
    limits = np.full(n_lanes, np.inf, np.float32)
    limits[: scan.masks.size] = np.nan
    return Scratch(
        np.zeros(n_lanes, np.uint64),
        np.empty(64, np.int64),
        np.empty(64, np.int64),
        np.empty(64, np.int64),
        limits,
        np.zeros((_TILE_ROWS, scan.queries.shape[1]), np.float32),
        np.empty((_TILE_ROWS, PANEL_QUERIES), np.float32),
        np.zeros((_TILE_ROWS, fused.n_features), np.float32),
        np.zeros((_TILE_ROWS, PANEL_QUERIES), np.float32),
    )


@inlined
def _load_words(scan: Scan, scratch: Scratch, w: int) -> np.uint64:
    """Fill ``words`` and return their union."""
    union = np.uint64(0)
    for query in range(scan.masks.size):
        bits = clip(word(scan.masks[query], w), w, scan.first_row, scan.end_row)
        scratch.words[query] = bits
        union |= bits
    return union


@inlined
def _scan_word(scan: Scan, fused: Fused, scratch: Scratch, heaps: Heaps, part: int, w: int, union: np.uint64) -> None:
    base = scan.bases[w >> 10] + ((w << 6) & 65535) * scan.row_bytes
    n_rows = count_ones(union)
    is_widened = False
    for panel in range(scan.panels.shape[0]):
        first = panel * PANEL_QUERIES
        wanted = 0
        for lane in range(PANEL_QUERIES):
            wanted += count_ones(scratch.words[first + lane])
        if wanted >= _DENSE * PANEL_QUERIES * n_rows:
            if not is_widened:
                _widen_union(scan, fused, scratch, base, union, w << 6)
                is_widened = True
            _score_panel(scan, scratch, panel, n_rows)
            if fused.is_on:
                _fuse_panel(fused, scratch, panel, n_rows, w << 6)
            _offer_panel(scratch, heaps, part, first, w << 6, n_rows)
        elif wanted > 0:
            _scan_each(scan, fused, scratch, heaps, part, first, w << 6, base)


@inlined
def _widen_union(scan: Scan, fused: Fused, scratch: Scratch, base: int, union: np.uint64, first_row: int) -> None:
    """Fill ``tile``, ``features`` and ``bits`` with the rows of ``union``, leaving no gaps."""
    d = scan.queries.shape[1]
    tile = scratch.tile.ctypes.data
    for j in range(_list_positions(union, scratch.bits)):
        widen_row(scan.kind, base + scratch.bits[j] * scan.row_bytes, tile + 4 * j * d, d)
        if fused.n_features > 0:
            address = feature_address(fused, first_row + scratch.bits[j])
            for i in range(fused.n_features):
                scratch.features[j, i] = load(_FLOAT32, address, i)


@compiled
def _list_positions(bits: np.uint64, positions: Int64Array) -> int:
    n = 0
    while bits != 0:
        positions[n] = lowest_one(bits)
        bits &= bits - np.uint64(1)
        n += 1
    return n


@inlined
def _score_panel(scan: Scan, scratch: Scratch, panel: int, n_rows: int) -> None:
    """Fill ``scores`` with the first ``n_rows`` of the tile against one panel of queries."""
    d = scan.queries.shape[1]
    tile, scores = scratch.tile.ctypes.data, scratch.scores.ctypes.data
    queries = scan.panels.ctypes.data + 4 * panel * d * PANEL_QUERIES
    for first in range(0, n_rows, PANEL_ROWS):
        rows, out = tile + 4 * first * d, scores + 4 * first * PANEL_QUERIES
        if scan.is_l2:
            l2_panel(rows, d, queries, out, int64(PANEL_QUERIES))
        else:
            dot_panel(rows, d, queries, out, int64(PANEL_QUERIES))


@inlined
def _fuse_panel(fused: Fused, scratch: Scratch, panel: int, n_rows: int, first_row: int) -> None:
    """Turn the similarities in ``scores`` into scores."""
    first = panel * PANEL_QUERIES
    n_features = fused.n_features
    if n_features > 0:
        tile, added = scratch.features.ctypes.data, scratch.added.ctypes.data
        weights = fused.panels.ctypes.data + FLOAT_BYTES * panel * n_features * PANEL_QUERIES
        for j in range(0, n_rows, PANEL_ROWS):
            rows, out = tile + FLOAT_BYTES * j * n_features, added + FLOAT_BYTES * j * PANEL_QUERIES
            dot_panel(rows, n_features, weights, out, int64(PANEL_QUERIES))
    scales = fused.lane_scales[first : first + PANEL_QUERIES]
    for j in range(n_rows):
        scores, added_to = scratch.scores[j], scratch.added[j]
        for lane in range(PANEL_QUERIES):
            scores[lane] = scales[lane] * scores[lane] + added_to[lane]
    for query in range(first, min(first + PANEL_QUERIES, fused.extras.size)):
        extra = fused.extras[query]
        if extra != 0:
            for j in range(n_rows):
                scratch.scores[j, query - first] += load(_FLOAT32, extra, first_row + scratch.bits[j])


@inlined
def _offer_panel(scratch: Scratch, heaps: Heaps, part: int, first: int, first_row: int, n_rows: int) -> None:
    limits = scratch.limits[first : first + PANEL_QUERIES]
    for j in range(n_rows):
        scores = scratch.scores[j]
        may_enter = False
        for lane in range(PANEL_QUERIES):
            may_enter |= not scores[lane] <= limits[lane]
        if may_enter:
            _offer_row(scratch, heaps, part, first, first_row, j)


@inlined
def _offer_row(scratch: Scratch, heaps: Heaps, part: int, first: int, first_row: int, j: int) -> None:
    position = scratch.bits[j]
    for query in range(first, min(first + PANEL_QUERIES, heaps.counts.shape[1])):
        is_wanted = (scratch.words[query] >> np.uint64(position)) & np.uint64(1)
        score = scratch.scores[j, query - first]
        if is_wanted != 0 and not score <= heaps.limits[part, query]:
            offer(heaps, part, query, score, first_row + position)
            scratch.limits[query] = heaps.limits[part, query]


@inlined
def _scan_each(
    scan: Scan, fused: Fused, scratch: Scratch, heaps: Heaps, part: int, first: int, first_row: int, base: int
) -> None:
    """Score each query's own rows of the word, as stored."""
    d = scan.queries.shape[1]
    scores = scratch.scores.reshape(scratch.scores.size)
    for query in range(first, min(first + PANEL_QUERIES, heaps.counts.shape[1])):
        count = _list_positions(scratch.words[query], scratch.own_bits)
        for j in range(count):
            scratch.addresses[j] = base + scratch.own_bits[j] * scan.row_bytes
        asked = scan.queries.ctypes.data + 4 * query * d
        score_neighbours(scan.kind, scan.is_l2, scratch.addresses, count, asked, d, scores)
        if fused.is_on:
            for j in range(count):
                scores[j] = fused_score(fused, query, first_row + scratch.own_bits[j], scores[j])
        for j in range(count):
            if not scores[j] <= heaps.limits[part, query]:
                offer(heaps, part, query, scores[j], first_row + scratch.own_bits[j])
        scratch.limits[query] = heaps.limits[part, query]
