"""Top k of a range of rows by their int8 codes for several queries, each with its own mask.

As in ``kernels._cpu_scan`` the unit of work is a word of 64 rows. Where most of the queries want most of its rows, they
are scored sixteen by sixteen; elsewhere each query sums over its own rows, and makes scores of the sums by sixteens.

What runs for every word takes numbers and addresses alone: where an array goes from function to function, its
references are counted, which costs more than scoring rows does and stops the memory's reading ahead.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from kernels._cpu_int8_emit import BLOCK_ROWS, LANES
from kernels._cpu_int8_panel import score_panel
from kernels._cpu_int8_run import dot_rows, scatter_four, score_run, score_sixteen
from kernels._cpu_jit import (
    compiled_allocating,
    compiled_as_written,
    compiled_parallel_as_written,
    count_ones,
    inlined,
    int64,
    lowest_one,
    next_task,
    store_word,
    word,
)
from kernels._cpu_masks import clip
from kernels._cpu_topk import Heaps, finish, offer
from kernels.arrays import Float32Array, Int32Array, Int64Array, Uint8Array

_BLOCK_WORDS = 64
_TERMS_BYTES = 4 * 4 * LANES

_RUN = 16
"""Of sixteen rows in a row so many are wanted that all are scored."""

_PAIR_ALONE, _QUERY_ALONE = 7, 9000
"""What a row costs outside a panel, in pairs of one and a query within, and what a query costs beside its rows, in
bytes of those (measured at d = 128 to 784 with VNNI, docs/log.md)."""


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
    """One part's working memory. ``words``: each query's mask word; ``places``: positions of rows within a word, a
    block more than there may be; ``at`` int64 [4]: where the word's rows lie; ``totals``: of a word's rows and of four
    more; ``entering``: uint16 bits of each row, four to a word; ``terms``: the queries', with the part's limits.
    """

    words: npt.NDArray[np.uint64]
    places: Int64Array
    at: Int64Array
    totals: Int32Array
    scores: Float32Array
    entering: npt.NDArray[np.uint64]
    terms: Float32Array


class Where(NamedTuple):
    """Addresses of arrays of ``CodeScan`` and ``Scratch``, and the numbers that go with them."""

    row_bytes: int
    first_row: int
    end_row: int
    n_queries: int
    bases: int
    masks: int
    queries: int
    panels: int
    words: int
    places: int
    at: int
    totals: int
    scores: int
    entering: int
    terms: int


@compiled_as_written
def scan_codes_serial(scan: CodeScan, heaps: Heaps, counter: Int64Array) -> None:
    """Scan on the calling thread into heaps of one part, and finish them; ``counter`` is int64 [1] of 0."""
    _scan_blocks(scan, heaps, counter.ctypes.data, int64(0))
    for query in range(scan.masks.size):
        finish(heaps, query)


@compiled_parallel_as_written
def scan_codes_parallel(scan: CodeScan, heaps: Heaps, counter: Int64Array) -> None:
    """Scan with one thread for each part of the heaps, and finish them; ``counter`` is int64 [1] of 0."""
    for part in numba.prange(heaps.counts.shape[0]):
        _scan_blocks(scan, heaps, counter.ctypes.data, int64(part))
    for query in numba.prange(scan.masks.size):
        finish(heaps, int64(query))


@compiled_allocating
def _scan_blocks(scan: CodeScan, heaps: Heaps, counter: int, part: int) -> None:
    _take_blocks(scan, _new_scratch(scan), heaps, counter, part)


@compiled_as_written
def _take_blocks(scan: CodeScan, scratch: Scratch, heaps: Heaps, counter: int, part: int) -> None:
    """Take blocks as long as there are any: a thread whose core is busy otherwise takes fewer."""
    where = _where(scan, scratch)
    n_panels = scan.panels.shape[0]
    first_word, end_word = scan.first_row >> 6, (scan.end_row + 63) >> 6
    block = first_word + next_task(counter) * _BLOCK_WORDS
    while block < end_word:
        for w in range(block, min(block + _BLOCK_WORDS, end_word)):
            union = _load_words(where, w)
            if union == 0:
                continue
            _locate(where, w)
            n_rows = count_ones(union)
            for panel in range(n_panels):
                first = panel * LANES
                wanted = _wanted(where, first)
                if wanted >= LANES * n_rows * where.row_bytes:
                    _list_places(where, union)
                    for row in range(0, n_rows, BLOCK_ROWS):
                        if _score_block(where, panel, row):
                            _offer_block(scratch, heaps, part, panel, w << 6, row, n_rows)
                elif wanted > 0:
                    for query in range(first, min(first + LANES, where.n_queries)):
                        bits = word(where.words, query)
                        if bits != 0:
                            is_run = _is_run(where, query, bits)
                            for row in range(0, 64, BLOCK_ROWS):
                                entering = _score_own(where, query, row, bits, is_run)
                                if entering != 0:
                                    _offer_own(scratch, heaps, part, query, (w << 6) + row, entering)
        block = first_word + next_task(counter) * _BLOCK_WORDS


@inlined
def _new_scratch(scan: CodeScan) -> Scratch:
    return Scratch(
        np.zeros(scan.queries.shape[0], np.uint64),
        np.zeros(64 + BLOCK_ROWS, np.int64),
        np.empty(4, np.int64),
        np.zeros(64 + 4, np.int32),
        np.empty((BLOCK_ROWS, LANES), np.float32),
        np.empty(BLOCK_ROWS * LANES // 64, np.uint64),
        scan.terms.copy(),
    )


@compiled_as_written
def _where(scan: CodeScan, scratch: Scratch) -> Where:
    return Where(
        scan.row_bytes,
        scan.first_row,
        scan.end_row,
        scan.masks.size,
        scan.bases.ctypes.data,
        scan.masks.ctypes.data,
        scan.queries.ctypes.data,
        scan.panels.ctypes.data,
        scratch.words.ctypes.data,
        scratch.places.ctypes.data,
        scratch.at.ctypes.data,
        scratch.totals.ctypes.data,
        scratch.scores.ctypes.data,
        scratch.entering.ctypes.data,
        scratch.terms.ctypes.data,
    )


# For every word


@compiled_as_written
def _load_words(where: Where, w: int) -> np.uint64:
    """Fill ``words`` and return their union."""
    union = np.uint64(0)
    for query in range(where.n_queries):
        bits = clip(word(int64(word(where.masks, query)), w), w, where.first_row, where.end_row)
        store_word(where.words, query, bits)
        union |= bits
    return union


@compiled_as_written
def _locate(where: Where, w: int) -> None:
    """Fill ``at``: the word's first row in each array of its segment."""
    offset, bases = (w << 6) & 65535, where.bases + 32 * (w >> 10)
    store_word(where.at, 0, word(bases, 0) + np.uint64(offset * where.row_bytes))
    for i in range(1, 4):
        store_word(where.at, i, word(bases, i) + np.uint64(4 * offset))


@compiled_as_written
def _wanted(where: Where, first: int) -> int:
    """What the queries of the panel from ``first`` on would cost one by one, in bytes of a row for a query in a panel;
    0 where they want nothing of the word.
    """
    wanted = 0
    for lane in range(LANES):
        bits = word(where.words, first + lane)
        if bits != 0:
            wanted += _QUERY_ALONE + _PAIR_ALONE * where.row_bytes * count_ones(bits)
    return wanted


@compiled_as_written
def _list_places(where: Where, bits: np.uint64) -> int:
    """Fill ``places`` with the set bits; what lies beyond them are rows of this word all the same."""
    n = 0
    while bits != 0:
        store_word(where.places, n, np.uint64(lowest_one(bits)))
        bits &= bits - np.uint64(1)
        n += 1
    return n


@compiled_as_written
def _score_block(where: Where, panel: int, row: int) -> bool:
    """Score sixteen of ``places`` from ``row`` on; whether any may enter a heap."""
    score_panel(
        where.places + 8 * row,
        where.at,
        where.row_bytes,
        where.panels + panel * where.row_bytes * LANES,
        where.terms + panel * _TERMS_BYTES,
        where.scores,
        where.entering,
    )
    some = word(where.entering, 0) | word(where.entering, 1) | word(where.entering, 2) | word(where.entering, 3)
    return bool(some != 0)


@compiled_as_written
def _is_run(where: Where, query: int, bits: np.uint64) -> bool:
    """Whether the word is scored row after row; ``totals`` is filled at the set bits where it is not."""
    is_run = count_ones(bits) >= _RUN
    if not is_run:
        _sum_rows(where, query, bits)
    return is_run


@compiled_as_written
def _sum_rows(where: Where, query: int, bits: np.uint64) -> None:
    """Fill ``totals`` at the set bits."""
    base, row_bytes = int64(word(where.at, 0)), where.row_bytes
    vector = where.queries + query * row_bytes
    for j in range(0, _list_places(where, bits), 4):
        places = where.places + 8 * j
        dot_rows(
            base + int64(word(places, 0)) * row_bytes,
            base + int64(word(places, 1)) * row_bytes,
            base + int64(word(places, 2)) * row_bytes,
            base + int64(word(places, 3)) * row_bytes,
            row_bytes,
            vector,
            where.totals + 4 * 64,
        )
        scatter_four(where.totals + 4 * 64, where.totals, places)


@compiled_as_written
def _score_own(where: Where, query: int, row: int, bits: np.uint64, is_run: bool) -> np.uint64:
    """Score sixteen rows from ``row`` on, or what ``totals`` has of them; a bit for each that is wanted and may enter
    the query's heap.
    """
    wanted = (bits >> np.uint64(row)) & np.uint64(0xFFFF)
    terms, lane = where.terms + query // LANES * _TERMS_BYTES, query % LANES
    if wanted == 0:
        return wanted
    if is_run:
        vector = where.queries + query * where.row_bytes
        return np.uint64(score_run(where.at, row, where.row_bytes, vector, terms, lane, where.scores)) & wanted
    return np.uint64(score_sixteen(where.totals + 4 * row, where.at, row, terms, lane, where.scores)) & wanted


# For what may enter a heap


@compiled_as_written
def _offer_block(
    scratch: Scratch, heaps: Heaps, part: int, panel: int, first_row: int, first: int, n_rows: int
) -> None:
    """Offer what may enter and is wanted of the block of ``places`` from ``first`` on."""
    for four in range(BLOCK_ROWS // 4):
        bits = scratch.entering[four]
        while bits != 0:
            bit = lowest_one(bits)
            bits &= bits - np.uint64(1)
            row, lane = 4 * four + (bit >> 4), bit & (LANES - 1)
            query, place = panel * LANES + lane, scratch.places[first + row]
            is_wanted = (scratch.words[query] >> np.uint64(place)) & np.uint64(1)
            if first + row < n_rows and is_wanted != 0:
                offer(heaps, part, query, scratch.scores[row, lane], first_row + place)
                scratch.terms[panel, 2, lane] = heaps.limits[part, query]


@compiled_as_written
def _offer_own(scratch: Scratch, heaps: Heaps, part: int, query: int, first_row: int, entering: np.uint64) -> None:
    """Offer the rows of the bits of ``entering``, counted from ``first_row``, to one query."""
    while entering != 0:
        place = lowest_one(entering)
        entering &= entering - np.uint64(1)
        offer(heaps, part, query, scratch.scores[0, place], first_row + place)
    scratch.terms[query // LANES, 2, query % LANES] = heaps.limits[part, query]
