"""Top k of a range of rows by their int8 codes for several queries, each with its own mask.

As in ``kernels._cpu_scan`` the unit of work is a word of 64 rows. Where most of the queries want most of its rows, they
are scored sixteen by sixteen; elsewhere each query sums over its own rows, and makes scores of the sums by sixteens.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from kernels._cpu_int8_panel import BLOCK_ROWS, LANES, dot_rows, score_panel, score_sixteen
from kernels._cpu_jit import (
    compiled_as_written,
    compiled_parallel_as_written,
    count_ones,
    inlined,
    int64,
    lowest_one,
    word,
)
from kernels._cpu_masks import clip
from kernels._cpu_topk import Heaps, finish, offer
from kernels.arrays import Float32Array, Int32Array, Int64Array, Uint8Array

_BLOCK_WORDS = 64
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)

_DENSE = 0.4
"""A panel pays where at least this share of its pairs is wanted (measured at d = 128 and 384 with VNNI)."""


class CodeScan(NamedTuple):
    """What is scanned, for whom. ``bases`` int64 [segments, 4]: addresses of codes, scales, sums and norms;
    ``masks``: an address a query; ``queries``, ``panels`` and ``terms`` as in ``QueryPanels``.
    """

    bases: Int64Array
    row_bytes: int
    queries: Uint8Array
    panels: Uint8Array
    terms: Float32Array
    masks: Int64Array
    first_row: int
    end_row: int


class Scratch(NamedTuple):
    """One part's working memory. ``words``: each query's mask word; ``places``: positions of rows within a word;
    ``at`` int64 [4]: where the word's rows lie; ``entering``: bits, 64 to a word; ``terms``: with the part's limits.
    """

    words: npt.NDArray[np.uint64]
    places: Int64Array
    at: Int64Array
    totals: Int32Array
    scores: Float32Array
    entering: npt.NDArray[np.uint64]
    terms: Float32Array


@compiled_as_written
def scan_codes_serial(scan: CodeScan, heaps: Heaps) -> None:
    """Scan on the calling thread into heaps of one part, and finish them."""
    _scan_part(scan, heaps, int64(0))
    for query in range(scan.masks.size):
        finish(heaps, query)


@compiled_parallel_as_written
def scan_codes_parallel(scan: CodeScan, heaps: Heaps) -> None:
    """Scan with one thread for each part of the heaps, and finish them."""
    for part in numba.prange(heaps.counts.shape[0]):
        _scan_part(scan, heaps, int64(part))
    for query in numba.prange(scan.masks.size):
        finish(heaps, int64(query))


@compiled_as_written
def _scan_part(scan: CodeScan, heaps: Heaps, part: int) -> None:
    n_lanes = scan.queries.shape[0]
    scratch = Scratch(
        np.zeros(n_lanes, np.uint64),
        np.zeros(64 + BLOCK_ROWS, np.int64),
        np.empty(4, np.int64),
        np.zeros(64 + 4, np.int32),
        np.empty((BLOCK_ROWS, LANES), np.float32),
        np.empty(BLOCK_ROWS * LANES // 64, np.uint64),
        scan.terms.copy(),
    )
    end_word = (scan.end_row + 63) >> 6
    stride = heaps.counts.shape[0] * _BLOCK_WORDS
    for block in range((scan.first_row >> 6) + part * _BLOCK_WORDS, end_word, stride):
        for w in range(block, min(block + _BLOCK_WORDS, end_word)):
            union = _load_words(scan, scratch, w)
            if union != 0:
                _scan_word(scan, scratch, heaps, part, w, union)


@inlined
def _load_words(scan: CodeScan, scratch: Scratch, w: int) -> np.uint64:
    """Fill ``words`` and return their union."""
    union = np.uint64(0)
    for query in range(scan.masks.size):
        bits = clip(word(scan.masks[query], w), w, scan.first_row, scan.end_row)
        scratch.words[query] = bits
        union |= bits
    return union


@inlined
def _scan_word(scan: CodeScan, scratch: Scratch, heaps: Heaps, part: int, w: int, union: np.uint64) -> None:
    _locate(scan, scratch, w)
    n_rows = count_ones(union)
    is_listed = False
    for panel in range(scan.panels.shape[0]):
        first = panel * LANES
        wanted = 0
        for lane in range(LANES):
            wanted += count_ones(scratch.words[first + lane])
        if wanted >= _DENSE * LANES * n_rows:
            if not is_listed:
                _list_places(scratch, union)
                is_listed = True
            _scan_panel(scan, scratch, heaps, part, panel, w << 6, n_rows)
        elif wanted > 0:
            for query in range(first, min(first + LANES, scan.masks.size)):
                if scratch.words[query] != 0:
                    _scan_query(scan, scratch, heaps, part, query, w << 6)
            is_listed = False


@inlined
def _locate(scan: CodeScan, scratch: Scratch, w: int) -> None:
    """Fill ``at``: the word's first row in each array of its segment."""
    offset = (w << 6) & 65535
    scratch.at[0] = scan.bases[w >> 10, 0] + offset * scan.row_bytes
    for i in range(1, 4):
        scratch.at[i] = scan.bases[w >> 10, i] + 4 * offset


@compiled_as_written
def _list_places(scratch: Scratch, bits: np.uint64) -> int:
    """Fill ``places`` with the set bits; what lies beyond them are rows of this word all the same."""
    n = 0
    while bits != 0:
        scratch.places[n] = lowest_one(bits)
        bits &= bits - np.uint64(1)
        n += 1
    return n


@inlined
def _scan_panel(
    scan: CodeScan, scratch: Scratch, heaps: Heaps, part: int, panel: int, first_row: int, n_rows: int
) -> None:
    panel_address = scan.panels.ctypes.data + panel * scan.row_bytes * LANES
    terms = scratch.terms.ctypes.data + panel * 4 * 4 * LANES
    for first in range(0, n_rows, BLOCK_ROWS):
        score_panel(
            scratch.places.ctypes.data + 8 * first,
            scratch.at.ctypes.data,
            scan.row_bytes,
            panel_address,
            terms,
            scratch.scores.ctypes.data,
            scratch.entering.ctypes.data,
        )
        for four in range(BLOCK_ROWS // 4):
            if scratch.entering[four] != 0:
                _offer_four(scratch, heaps, part, panel, first_row, int64(first) + 4 * four, n_rows)


@compiled_as_written
def _offer_four(scratch: Scratch, heaps: Heaps, part: int, panel: int, first_row: int, first: int, n_rows: int) -> None:
    """Offer what may enter of four rows of the block: those ``first``, ``first`` + 1, ... of ``places``."""
    bits = scratch.entering[(first & (BLOCK_ROWS - 1)) >> 2]
    while bits != 0:
        bit = lowest_one(bits)
        bits &= bits - np.uint64(1)
        row, lane = first + (bit >> 4), bit & (LANES - 1)
        if row >= n_rows:
            return
        query, place = panel * LANES + lane, scratch.places[row]
        if (scratch.words[query] >> np.uint64(place)) & np.uint64(1):
            offer(heaps, part, query, scratch.scores[row & (BLOCK_ROWS - 1), lane], first_row + place)
            scratch.terms[panel, 2, lane] = heaps.limits[part, query]


@inlined
def _scan_query(scan: CodeScan, scratch: Scratch, heaps: Heaps, part: int, query: int, first_row: int) -> None:
    """Score one query's own rows of the word."""
    bits = scratch.words[query]
    _sum_rows(scan, scratch, query, bits)
    panel, lane = query // LANES, query % LANES
    terms = scratch.terms.ctypes.data + panel * 4 * 4 * LANES
    for first in range(0, 64, BLOCK_ROWS):
        wanted = (bits >> np.uint64(first)) & np.uint64(0xFFFF)
        if wanted == 0:
            continue
        scores = scratch.scores.ctypes.data
        totals = scratch.totals.ctypes.data + 4 * first
        entering = np.uint64(score_sixteen(totals, scratch.at.ctypes.data, first, terms, lane, scores)) & wanted
        while entering != 0:
            place = lowest_one(entering)
            entering &= entering - np.uint64(1)
            offer(heaps, part, query, scratch.scores[0, place], first_row + first + place)
            scratch.terms[panel, 2, lane] = heaps.limits[part, query]


@inlined
def _sum_rows(scan: CodeScan, scratch: Scratch, query: int, bits: np.uint64) -> None:
    """Fill ``totals`` at the set bits."""
    base, row_bytes = scratch.at[0], scan.row_bytes
    vector, totals = scan.queries.ctypes.data + query * row_bytes, scratch.totals.ctypes.data
    if bits == _ALL:
        for j in range(0, 64, 4):
            a = base + j * row_bytes
            dot_rows(a, a + row_bytes, a + 2 * row_bytes, a + 3 * row_bytes, row_bytes, vector, totals + 4 * j)
        return
    count = _list_places(scratch, bits)
    places = scratch.places
    for j in range(0, count, 4):
        dot_rows(
            base + places[j] * row_bytes,
            base + places[j + 1] * row_bytes,
            base + places[j + 2] * row_bytes,
            base + places[j + 3] * row_bytes,
            row_bytes,
            vector,
            totals + 4 * 64,
        )
        for i in range(4):
            scratch.totals[places[j + i]] = scratch.totals[64 + i]
