"""Searching inverted lists: each query with its own mask, taking lists and candidates as far as its scores say.

A query is one task, and threads take the next one when they have done with theirs. The mask is tested where it costs
least: for the rows that reach the limit, or, once few rows have been found to pass it, before a block is scored at all.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from kernels._cpu_jit import (
    compiled_as_written,
    compiled_parallel_as_written,
    count_ones,
    int64,
    lowest_one,
    next_task,
    prefetch,
    word,
)
from kernels._cpu_lists import Lists, score_part
from kernels._cpu_nearest import FIRST_STAGE, GROWTH, LAST, Order, count_from, next_stage, note_groups
from kernels._cpu_reservoir import Reservoirs, cut, keep, key_of, row_of, score_of, sort_keys
from kernels._cpu_shuffle import TABLE_BYTES, block_bits, block_scores, float_at, int32_at
from kernels._cpu_tables import fill_tables
from kernels._cpu_topk import Heaps, finish
from kernels.arrays import Float32Array, Int64Array, Uint8Array
from kernels.packed_lists import (
    BLOCK_ROWS,
    CENTROIDS,
    CHUNK_BLOCKS,
    FEWEST_DOUBLINGS,
    FORESEEN_FROM,
    PANEL_LISTS,
    SPARSE,
    WINDOW_ROWS,
)

_CHUNK_SHIFT = CHUNK_BLOCKS.bit_length() - 1
_LINE_BYTES = 64
_RUN = 16
"""Blocks whose rows the mask is asked about ahead, so that their codes are on their way when they are scored."""

_FETCHED_MASK_BYTES = 256 << 10
"""A mask of up to so many is fetched as a whole, in order: a core's second cache has room for it and for the rest."""

_LEAD, _SPARSE_LEAD = 4, 16
"""Blocks that are fetched ahead, the one at hand among them: whole, and their row numbers alone."""

_ALL = np.uint64(0xFFFF_FFFF)
_NO_LIMIT = np.float32(-np.inf)


class Probing(NamedTuple):
    """What is scanned, for whom; see ``kernels.packed_lists``.

    ``codebook`` float32 [M, d / M, 16]; ``chunks``: addresses; ``masks`` [B]: addresses of ``mask_bytes`` each, 0 where
    every row passes; ``centroid_scores`` float32 [B or more, nlist to whole groups].
    """

    codebook: Float32Array
    levels: int
    unit: np.float32
    is_l2: bool
    chunks: Int64Array
    n_columns: int
    next_blocks: npt.NDArray[np.int32]
    first_blocks: npt.NDArray[np.int32]
    sizes: Int64Array
    queries: Float32Array
    centroid_scores: Float32Array
    masks: Int64Array
    mask_bytes: int
    ks: Int64Array
    nprobes: Int64Array
    reaches: Float32Array
    slopes: Float32Array
    depths: Int64Array
    slacks: Float32Array
    budgets: Int64Array


class Counts(NamedTuple):
    """Of each query: int64 [B] as in ``kernels.packed_lists.Probed``."""

    lists: Int64Array
    rows: Int64Array
    candidates: Int64Array
    gave_up: Int64Array


class Scratch(NamedTuple):
    """Working memory of each thread, by its number.

    ``tables`` uint8 [W, bytes], ``products`` float32 [W, M, 16], ``scores`` float32 [W, 32]; ``keys`` and ``groups`` as
    in ``Order``; ``best`` float32 [W, k]: a heap of the best scores, the worst on top. ``tallies`` int64 [W, 12]: of
    the query, how many best scores there are; of the rows that the mask was asked about of late, how many and how many
    passed; the pairs of a row that passed and another of its list, and those of which both did. Of the list, its next
    block, the rows from there on, those that the mask was asked about and those of them that passed. Of what is
    fetched, the next block, how many were not scored yet, and whether it is one of the next list. ``runs`` and
    ``run_asked`` [W, 16]: blocks that have a row which passes, and which rows those are.
    """

    tables: Uint8Array
    products: Float32Array
    scores: Float32Array
    keys: Int64Array
    groups: Int64Array
    best: Float32Array
    tallies: Int64Array
    runs: Int64Array
    run_asked: npt.NDArray[np.uint64]


_N_BEST, _SEEN, _PASSED, _PAIRS, _PAIRS_PASSED = range(5)
_BLOCK, _LEFT, _OWN_SEEN, _OWN_PASSED, _AHEAD, _FETCHED, _IN_NEXT = range(5, 12)


def new_scratch(n_workers: int, n_parts: int, n_groups: int, k: int) -> Scratch:
    n_pairs = -(-n_parts // 4)
    return Scratch(
        np.zeros((n_workers, n_pairs * TABLE_BYTES), np.uint8),
        np.empty((n_workers, n_parts, CENTROIDS), np.float32),
        np.empty((n_workers, BLOCK_ROWS), np.float32),
        np.empty((n_workers, n_groups * CENTROIDS), np.int64),
        np.empty((n_workers, n_groups), np.int64),
        np.empty((n_workers, max(1, k)), np.float32),
        np.zeros((n_workers, 12), np.int64),
        np.empty((n_workers, _RUN), np.int64),
        np.empty((n_workers, _RUN), np.uint64),
    )


@compiled_as_written
def search_serial(
    probing: Probing, scratch: Scratch, reservoirs: Reservoirs, exact: Lists, heaps: Heaps, counts: Counts
) -> None:
    """Scan and rescore on the calling thread; ``exact`` has room for the largest depth a query."""
    for query in range(probing.queries.shape[0]):
        _search_one(probing, scratch, reservoirs, exact, heaps, counts, int64(0), int64(query))


@compiled_parallel_as_written
def search_parallel(
    probing: Probing,
    scratch: Scratch,
    reservoirs: Reservoirs,
    exact: Lists,
    heaps: Heaps,
    counts: Counts,
    counter: Int64Array,
) -> None:
    """Scan and rescore with one thread for each scratch and reservoir."""
    for worker in numba.prange(scratch.tables.shape[0]):
        _search_some(probing, scratch, reservoirs, exact, heaps, counts, counter.ctypes.data, int64(worker))


@compiled_as_written
def scan_probes_serial(
    probing: Probing, scratch: Scratch, reservoirs: Reservoirs, counts: Counts, rows: Int64Array, scores: Float32Array
) -> None:
    """Each query's candidates, best first; rows and scores [B, c] hold padding already."""
    for query in range(probing.queries.shape[0]):
        _scan(probing, scratch, reservoirs, counts, int64(0), int64(query))
        _hand_out(reservoirs, int64(0), int64(query), rows, scores)


@compiled_parallel_as_written
def scan_probes_parallel(
    probing: Probing,
    scratch: Scratch,
    reservoirs: Reservoirs,
    counts: Counts,
    rows: Int64Array,
    scores: Float32Array,
    counter: Int64Array,
) -> None:
    """As ``scan_probes_serial``, with one thread for each scratch and reservoir."""
    for worker in numba.prange(scratch.tables.shape[0]):
        _scan_some(probing, scratch, reservoirs, counts, rows, scores, counter.ctypes.data, int64(worker))


@compiled_as_written
def _scan_some(
    probing: Probing,
    scratch: Scratch,
    reservoirs: Reservoirs,
    counts: Counts,
    rows: Int64Array,
    scores: Float32Array,
    counter: int,
    worker: int,
) -> None:
    query = next_task(counter)
    while query < probing.queries.shape[0]:
        _scan(probing, scratch, reservoirs, counts, worker, query)
        _hand_out(reservoirs, worker, query, rows, scores)
        query = next_task(counter)


@compiled_as_written
def _hand_out(reservoirs: Reservoirs, slot: int, query: int, rows: Int64Array, scores: Float32Array) -> None:
    keys, count = reservoirs.keys[slot], reservoirs.counts[slot]
    sort_keys(keys, count)
    for i in range(count):
        key = keys[count - 1 - i]
        rows[query, i], scores[query, i] = row_of(key), score_of(key)


@compiled_as_written
def _search_some(
    probing: Probing,
    scratch: Scratch,
    reservoirs: Reservoirs,
    exact: Lists,
    heaps: Heaps,
    counts: Counts,
    counter: int,
    worker: int,
) -> None:
    query = next_task(counter)
    while query < probing.queries.shape[0]:
        _search_one(probing, scratch, reservoirs, exact, heaps, counts, worker, query)
        query = next_task(counter)


@compiled_as_written
def _search_one(
    probing: Probing,
    scratch: Scratch,
    reservoirs: Reservoirs,
    exact: Lists,
    heaps: Heaps,
    counts: Counts,
    worker: int,
    query: int,
) -> None:
    _scan(probing, scratch, reservoirs, counts, worker, query)
    first = exact.offsets[query]
    count = reservoirs.counts[worker]
    for i in range(count):
        exact.rows[first + i] = row_of(reservoirs.keys[worker, i])
    exact.rows[first + count : exact.offsets[query + 1]] = -1
    score_part(exact, heaps, query, int64(0))
    finish(heaps, query)


@compiled_as_written
def _scan(probing: Probing, scratch: Scratch, reservoirs: Reservoirs, counts: Counts, worker: int, query: int) -> None:
    """Leave the query's candidates in the reservoir of its worker."""
    reservoirs.counts[worker] = 0
    reservoirs.limits[worker] = _NO_LIMIT
    counts.lists[query] = counts.rows[query] = counts.candidates[query] = counts.gave_up[query] = 0
    step, offset = fill_tables(
        probing.codebook, probing.queries[query], probing.levels, scratch.products[worker], scratch.tables[worker]
    )
    depth, square = probing.depths[query], _square(probing, query)
    if not (np.isfinite(step) and np.isfinite(square)) or depth == 0:
        return
    _take_lists(probing, scratch, reservoirs, counts, worker, query, step, offset, square)
    if counts.gave_up[query]:
        reservoirs.counts[worker] = 0
        return
    cut(reservoirs, worker, depth)
    if scratch.tallies[worker, _N_BEST] == probing.ks[query] and probing.slacks[query] < np.inf:
        kth = scratch.best[worker, 0]
        margin = probing.slacks[query] * _scale(probing, square, kth)
        _drop_below(reservoirs, worker, kth - margin)
    counts.candidates[query] = reservoirs.counts[worker]


@compiled_as_written
def _drop_below(reservoirs: Reservoirs, slot: int, limit: np.float32) -> None:
    kept = 0
    for i in range(reservoirs.counts[slot]):
        key = reservoirs.keys[slot, i]
        if not score_of(key) < limit:
            reservoirs.keys[slot, kept] = key
            kept += 1
    reservoirs.counts[slot] = kept


@compiled_as_written
def _square(probing: Probing, query: int) -> np.float32:
    square = np.float32(0)
    for i in range(probing.queries.shape[1]):
        square += probing.queries[query, i] * probing.queries[query, i]
    return square


@compiled_as_written
def _scale(probing: Probing, square: np.float32, kth: np.float32) -> np.float32:
    """See ``reference.query_scales``; ``square``: of the query's length."""
    if probing.is_l2:
        distance = np.sqrt(max(square / np.float32(4) - kth, np.float32(0)))
        return np.float32(probing.unit * np.float32(2) * distance)
    return np.float32(probing.unit * np.sqrt(square))


@compiled_as_written
def _take_lists(
    probing: Probing,
    scratch: Scratch,
    reservoirs: Reservoirs,
    counts: Counts,
    worker: int,
    query: int,
    step: np.float32,
    offset: np.float32,
    square: np.float32,
) -> None:
    """Scan lists in their order until one of the limits is met."""
    order, tally = Order(scratch.keys[worker], scratch.groups[worker]), scratch.tallies[worker]
    coarse = probing.centroid_scores.ctypes.data + 4 * query * probing.centroid_scores.shape[1]
    note_groups(coarse, order)
    if probing.masks[query] != 0 and probing.mask_bytes <= _FETCHED_MASK_BYTES:
        _prefetch_lines(probing.masks[query], probing.mask_bytes)
    tally[:] = 0
    above, wanted, next_look = np.float32(np.inf), int64(FIRST_STAGE), int64(FORESEEN_FROM)
    while above > LAST:
        listed, above = next_stage(coarse, order, wanted, above)
        wanted *= GROWTH
        for place in range(listed - 1, -1, -1):
            if counts.lists[query] >= probing.nprobes[query]:
                return
            score, number = score_of(order.keys[place]), row_of(order.keys[place])
            doublings = _doublings(counts.lists[query], tally[_PAIRS], tally[_PAIRS_PASSED])
            reach = probing.reaches[query] + probing.slopes[query] * np.float32(doublings)
            kth, is_known = scratch.best[worker, 0], tally[_N_BEST] == probing.ks[query]
            least = kth - reach * _scale(probing, square, kth)
            if is_known and score < least:
                return
            foreseen = (counts.rows[query] + probing.sizes[number]) >> 1
            if counts.lists[query] == next_look:
                next_look <<= 1
                if is_known:
                    foreseen = max(foreseen, _foreseen_rows(probing, counts, coarse, query, least))
            if foreseen > probing.budgets[query]:
                counts.gave_up[query] = 1
                return
            following = row_of(order.keys[place - 1]) if place > 0 else int64(-1)
            counts.lists[query] += 1
            counts.rows[query] += probing.sizes[number]
            base = (np.float32(0) if probing.is_l2 else score) + offset
            _scan_list(probing, scratch, reservoirs, tally, worker, query, number, following, base, step, square)


@compiled_as_written
def _foreseen_rows(probing: Probing, counts: Counts, coarse: int, query: int, least: np.float32) -> int:
    """Of the lists yet to come that score no less, were they as large as those so far."""
    lists = count_from(coarse, probing.centroid_scores.shape[1] // PANEL_LISTS, least)
    lists = min(lists, probing.nprobes[query], int64(probing.sizes.size))
    return int64(counts.rows[query] * lists // counts.lists[query] - counts.rows[query])


@compiled_as_written
def _doublings(n_lists: int, pairs: int, passed: int) -> int:
    """The largest i for which 2**i is not above the lists scanned times the share of pairs that passed.

    All of them where there is no pair; ``FEWEST_DOUBLINGS`` is the least that is told.
    """
    parts, whole = n_lists, int64(1)
    if pairs > 0:
        parts, whole = n_lists * passed, pairs
    doublings = 0
    while doublings > FEWEST_DOUBLINGS and parts < whole:
        parts <<= 1
        doublings -= 1
    while parts >= whole << 1:
        whole <<= 1
        doublings += 1
    return doublings


@compiled_as_written
def _record(probing: Probing, block: int) -> int:
    """Where a block lies."""
    record_bytes = BLOCK_ROWS * (probing.n_columns + 8)
    return int64(probing.chunks[block >> _CHUNK_SHIFT] + (block & (CHUNK_BLOCKS - 1)) * record_bytes)


@compiled_as_written
def _prefetch_lines(address: int, n_bytes: int) -> None:
    for line in range(address, address + n_bytes, _LINE_BYTES):
        prefetch(line)


@compiled_as_written
def _fetch_ahead(probing: Probing, tally: Int64Array, following: int, is_sparse: bool) -> None:
    """Have the next blocks fetched, those of the list ``following`` among them: of each the rows alone where the mask
    is asked about them first.
    """
    lead, first, n_bytes = _LEAD, int64(0), BLOCK_ROWS * (probing.n_columns + 8)
    if is_sparse:
        lead, first, n_bytes = _SPARSE_LEAD, BLOCK_ROWS * probing.n_columns, int64(4 * BLOCK_ROWS)
    while tally[_FETCHED] < lead:
        if tally[_AHEAD] < 0 and tally[_IN_NEXT] == 0 and following >= 0:
            tally[_AHEAD], tally[_IN_NEXT] = probing.first_blocks[following], 1
        block = tally[_AHEAD]
        if block < 0:
            return
        _prefetch_lines(_record(probing, block) + first, n_bytes)
        tally[_AHEAD] = probing.next_blocks[block]
        tally[_FETCHED] += 1


@compiled_as_written
def _scan_list(
    probing: Probing,
    scratch: Scratch,
    reservoirs: Reservoirs,
    tally: Int64Array,
    worker: int,
    query: int,
    number: int,
    following: int,
    base: np.float32,
    step: np.float32,
    square: np.float32,
) -> None:
    mask, k, depth = probing.masks[query], probing.ks[query], probing.depths[query]
    tables, scores = scratch.tables[worker].ctypes.data, scratch.scores[worker].ctypes.data
    best, runs, run_asked = scratch.best[worker], scratch.runs[worker], scratch.run_asked[worker]
    n_best = tally[_N_BEST]
    tally[_BLOCK], tally[_LEFT] = probing.first_blocks[number], probing.sizes[number]
    tally[_OWN_SEEN] = tally[_OWN_PASSED] = 0
    if tally[_IN_NEXT] == 0:
        tally[_AHEAD], tally[_FETCHED] = tally[_BLOCK], 0
    tally[_IN_NEXT] = 0
    while tally[_BLOCK] >= 0:
        is_asked = mask != 0 and _is_sparse(tally)
        n_run = _ask_run(probing, tally, runs, run_asked, mask, following) if is_asked else int64(1)
        if not is_asked:
            runs[0], run_asked[0] = _take_block(probing, tally, following, False), _ALL
        for turn in range(n_run):
            record = runs[turn]
            rows = record + BLOCK_ROWS * probing.n_columns
            limit = _NO_LIMIT
            if n_best == k:
                limit = _block_limit(probing, query, square, best[0], reservoirs.limits[worker])
            found = run_asked[turn] & block_scores(
                record, probing.n_columns, tables, rows + 4 * BLOCK_ROWS, base, step, limit, scores
            )
            if mask != 0 and not is_asked:
                tally[_OWN_SEEN] += count_ones(found)
                found = _visible(rows, mask, found)
                tally[_OWN_PASSED] += count_ones(found)
            if found != 0:
                n_best = _keep_rows(reservoirs, best, worker, k, depth, n_best, found, rows, scores)
    seen, passed = tally[_OWN_SEEN], tally[_OWN_PASSED]
    tally[_PAIRS] += passed * (seen - 1)
    tally[_PAIRS_PASSED] += passed * (passed - 1)
    fades = int64(tally[_SEEN] + seen > WINDOW_ROWS)
    tally[_N_BEST], tally[_SEEN], tally[_PASSED] = (
        n_best,
        (tally[_SEEN] + seen) >> fades,
        (tally[_PASSED] + passed) >> fades,
    )


@compiled_as_written
def _is_sparse(tally: Int64Array) -> bool:
    """Whether so few rows pass that the mask is asked about all of them before they are scored, and not only about
    those that reach the limit.
    """
    return bool((tally[_PASSED] + tally[_OWN_PASSED]) * SPARSE < tally[_SEEN] + tally[_OWN_SEEN])


@compiled_as_written
def _take_block(probing: Probing, tally: Int64Array, following: int, is_asked: bool) -> int:
    """The record of the list's next block, which is fetched by now."""
    _fetch_ahead(probing, tally, following, is_asked)
    tally[_FETCHED] -= 1
    block = tally[_BLOCK]
    tally[_BLOCK] = probing.next_blocks[block]
    tally[_LEFT] -= BLOCK_ROWS
    return _record(probing, block)


@compiled_as_written
def _ask_run(
    probing: Probing, tally: Int64Array, runs: Int64Array, run_asked: npt.NDArray[np.uint64], mask: int, following: int
) -> int:
    """Ask the mask about the next blocks and note those with rows that pass, whose codes are then on their way; returns
    how many.
    """
    n_run = int64(0)
    while tally[_BLOCK] >= 0 and n_run < _RUN and _is_sparse(tally):
        held = min(tally[_LEFT], int64(BLOCK_ROWS))
        record = _take_block(probing, tally, following, True)
        asked = block_bits(record + BLOCK_ROWS * probing.n_columns, mask) & (_ALL >> np.uint64(BLOCK_ROWS - held))
        tally[_OWN_SEEN] += held
        tally[_OWN_PASSED] += count_ones(asked)
        if asked != 0:
            _prefetch_lines(record, BLOCK_ROWS * probing.n_columns)
            _prefetch_lines(record + BLOCK_ROWS * (probing.n_columns + 4), int64(4 * BLOCK_ROWS))
            runs[n_run], run_asked[n_run] = record, asked
            n_run += 1
    return n_run


@compiled_as_written
def _block_limit(probing: Probing, query: int, square: np.float32, kth: np.float32, kept: np.float32) -> np.float32:
    """What a row must score to be looked at; ``kept``: the least that enters the reservoir.

    That would do where no slack is asked for, but for the rows that the share of those which pass is told from.
    """
    if probing.slacks[query] < np.inf:
        return np.float32(kth - probing.slacks[query] * _scale(probing, square, kth))
    if probing.masks[query] == 0 or not probing.reaches[query] < np.inf:
        return min(kth, kept)
    return _NO_LIMIT


@compiled_as_written
def _keep_rows(
    reservoirs: Reservoirs,
    best: Float32Array,
    slot: int,
    k: int,
    depth: int,
    n_best: int,
    found: np.uint64,
    rows: int,
    scores: int,
) -> int:
    """Take in the rows ``found`` of a block; returns how many scores are among the best."""
    while found != 0:
        place = lowest_one(found)
        found &= found - np.uint64(1)
        score = float_at(scores, place)
        n_best = _enter(best, n_best, k, score)
        if score >= reservoirs.limits[slot]:
            keep(reservoirs, slot, key_of(score, int32_at(rows, place)), depth)
    return n_best


@compiled_as_written
def _visible(rows: int, mask: int, asked: np.uint64) -> np.uint64:
    """Those of a block's slots ``asked`` whose row has its bit set in the mask."""
    visible = np.uint64(0)
    while asked != 0:
        slot = lowest_one(asked)
        row = int32_at(rows, slot)
        visible |= ((word(mask, row >> 6) >> np.uint64(row & 63)) & np.uint64(1)) << np.uint64(slot)
        asked &= asked - np.uint64(1)
    return visible


@compiled_as_written
def _enter(best: Float32Array, count: int, k: int, score: np.float32) -> int:
    """Keep a score if it is among the best k, in a heap with the worst on top; returns how many there are."""
    if count < k:
        slot = count
        while slot > 0 and best[(slot - 1) >> 1] > score:
            best[slot] = best[(slot - 1) >> 1]
            slot = (slot - 1) >> 1
        best[slot] = score
        return count + 1
    if score > best[0]:
        slot = int64(0)
        child = int64(1)
        while child < k:
            if child + 1 < k and best[child + 1] < best[child]:
                child += 1
            if best[child] >= score:
                break
            best[slot] = best[child]
            slot, child = child, 2 * child + 1
        best[slot] = score
    return count
