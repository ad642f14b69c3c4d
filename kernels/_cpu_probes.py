"""Searching inverted lists: each query with its own mask, taking lists and candidates as far as its scores say.

A query is one task, and threads take the next one when they have done with theirs.
"""

from __future__ import annotations

import numba
import numpy as np

from kernels._cpu_blocks import NO_LIMIT, prefetch_lines, scan_list
from kernels._cpu_fusion import Fused
from kernels._cpu_gather import RowLists, score_part
from kernels._cpu_jit import compiled_as_written, compiled_parallel_as_written, int64, next_task
from kernels._cpu_nearest import FIRST_STAGE, GROWTH, LAST, Order, count_from, next_stage, note_groups
from kernels._cpu_probing import (
    ALL_PASSED,
    ALL_SEEN,
    N_BEST,
    PAIRS,
    PAIRS_PASSED,
    WORK,
    Counts,
    Probing,
    Scratch,
    scale_of,
    square_of,
)
from kernels._cpu_reservoir import Reservoirs, cut, row_of, score_of, sort_keys
from kernels._cpu_tables import fill_tables
from kernels._cpu_topk import Heaps, finish
from kernels.arrays import Float32Array, Int64Array
from kernels.packed_lists import FEWEST_DOUBLINGS, FORESEEN_FROM, PANEL_LISTS, RARITY, ROW_WORK

_FETCHED_MASK_BYTES = 256 << 10
"""A mask of up to so many is fetched as a whole, in order: a core's second cache has room for it and for the rest."""


@compiled_as_written
def search_serial(
    probing: Probing,
    fused: Fused,
    scratch: Scratch,
    reservoirs: Reservoirs,
    exact: RowLists,
    exact_fused: Fused,
    heaps: Heaps,
    counts: Counts,
) -> None:
    """Scan and rescore on the calling thread; ``exact`` has room for the largest depth a query."""
    for query in range(probing.queries.shape[0]):
        _search_one(probing, fused, scratch, reservoirs, exact, exact_fused, heaps, counts, int64(0), int64(query))


@compiled_parallel_as_written
def search_parallel(
    probing: Probing,
    fused: Fused,
    scratch: Scratch,
    reservoirs: Reservoirs,
    exact: RowLists,
    exact_fused: Fused,
    heaps: Heaps,
    counts: Counts,
    counter: Int64Array,
) -> None:
    """Scan and rescore with one thread for each scratch and reservoir."""
    for worker in numba.prange(scratch.tables.shape[0]):
        _search_some(
            probing, fused, scratch, reservoirs, exact, exact_fused, heaps, counts, counter.ctypes.data, int64(worker)
        )


@compiled_as_written
def scan_probes_serial(
    probing: Probing,
    fused: Fused,
    scratch: Scratch,
    reservoirs: Reservoirs,
    counts: Counts,
    rows: Int64Array,
    scores: Float32Array,
) -> None:
    """Each query's candidates, best first; rows and scores [B, c] hold padding already."""
    for query in range(probing.queries.shape[0]):
        _scan(probing, fused, scratch, reservoirs, counts, int64(0), int64(query))
        _hand_out(reservoirs, int64(0), int64(query), rows, scores)


@compiled_parallel_as_written
def scan_probes_parallel(
    probing: Probing,
    fused: Fused,
    scratch: Scratch,
    reservoirs: Reservoirs,
    counts: Counts,
    rows: Int64Array,
    scores: Float32Array,
    counter: Int64Array,
) -> None:
    """As ``scan_probes_serial``, with one thread for each scratch and reservoir."""
    for worker in numba.prange(scratch.tables.shape[0]):
        _scan_some(probing, fused, scratch, reservoirs, counts, rows, scores, counter.ctypes.data, int64(worker))


@compiled_as_written
def _scan_some(
    probing: Probing,
    fused: Fused,
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
        _scan(probing, fused, scratch, reservoirs, counts, worker, query)
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
    fused: Fused,
    scratch: Scratch,
    reservoirs: Reservoirs,
    exact: RowLists,
    exact_fused: Fused,
    heaps: Heaps,
    counts: Counts,
    counter: int,
    worker: int,
) -> None:
    query = next_task(counter)
    while query < probing.queries.shape[0]:
        _search_one(probing, fused, scratch, reservoirs, exact, exact_fused, heaps, counts, worker, query)
        query = next_task(counter)


@compiled_as_written
def _search_one(
    probing: Probing,
    fused: Fused,
    scratch: Scratch,
    reservoirs: Reservoirs,
    exact: RowLists,
    exact_fused: Fused,
    heaps: Heaps,
    counts: Counts,
    worker: int,
    query: int,
) -> None:
    _scan(probing, fused, scratch, reservoirs, counts, worker, query)
    first = exact.offsets[query]
    count = reservoirs.counts[worker]
    for i in range(count):
        exact.rows[first + i] = row_of(reservoirs.keys[worker, i])
    exact.rows[first + count : exact.offsets[query + 1]] = -1
    score_part(exact, exact_fused, heaps, query, int64(0))
    finish(heaps, query)


@compiled_as_written
def _scan(
    probing: Probing,
    fused: Fused,
    scratch: Scratch,
    reservoirs: Reservoirs,
    counts: Counts,
    worker: int,
    query: int,
) -> None:
    """Leave the query's candidates in the reservoir of its worker."""
    reservoirs.counts[worker] = 0
    reservoirs.limits[worker] = NO_LIMIT
    counts.lists[query] = counts.rows[query] = counts.work[query] = counts.candidates[query] = 0
    counts.gave_up[query] = 0
    step, offset = fill_tables(
        probing.codebook, probing.queries[query], probing.levels, scratch.products[worker], scratch.tables[worker]
    )
    depth, square = probing.depths[query], square_of(probing, query)
    if not (np.isfinite(step) and np.isfinite(square)) or depth == 0:
        return
    _take_lists(probing, fused, scratch, reservoirs, counts, worker, query, step, offset, square)
    counts.work[query] = scratch.tallies[worker, WORK] // ROW_WORK
    if counts.gave_up[query]:
        reservoirs.counts[worker] = 0
        return
    cut(reservoirs, worker, depth)
    if scratch.tallies[worker, N_BEST] == probing.ks[query] and probing.slacks[query] < np.inf:
        kth = scratch.best[worker, 0]
        margin = probing.slacks[query] * scale_of(probing, query, square, kth)
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
def _take_lists(
    probing: Probing,
    fused: Fused,
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
        prefetch_lines(probing.masks[query], probing.mask_bytes)
    tally[:] = 0
    above, wanted, next_look = np.float32(np.inf), int64(FIRST_STAGE), int64(FORESEEN_FROM)
    while above > LAST:
        listed, above = next_stage(coarse, order, wanted, above)
        wanted *= GROWTH
        for place in range(listed - 1, -1, -1):
            if counts.lists[query] >= probing.nprobes[query]:
                return
            score, number = score_of(order.keys[place]), row_of(order.keys[place])
            doublings = _doublings(counts.lists[query], tally, probing.shares[query])
            nearer = _nearer_doublings(tally, probing.shares[query])
            reach = probing.reaches[query] + probing.slopes[query] * np.float32(doublings)
            reach += probing.near_slopes[query] * np.float32(nearer)
            kth, is_known = scratch.best[worker, 0], tally[N_BEST] == probing.ks[query]
            least = kth - reach * scale_of(probing, query, square, kth) if reach < np.inf else NO_LIMIT
            if is_known and score < least:
                return
            foreseen = (tally[WORK] + ROW_WORK * probing.sizes[number]) >> 1
            if counts.lists[query] == next_look:
                next_look <<= 1
                if is_known:
                    foreseen = max(foreseen, _foreseen_work(probing, counts, tally, coarse, query, least))
            if foreseen // ROW_WORK > probing.budgets[query]:
                counts.gave_up[query] = 1
                return
            following = row_of(order.keys[place - 1]) if place > 0 else int64(-1)
            counts.lists[query] += 1
            counts.rows[query] += probing.sizes[number]
            tally[WORK] += ROW_WORK * probing.sizes[number]
            bias = np.float32(0) if probing.is_l2 else score
            base = (probing.bases[query, number] if fused.is_on else bias) + offset
            scan_list(probing, fused, scratch, reservoirs, tally, worker, query, number, following, base, step, square)


@compiled_as_written
def _nearer_doublings(tally: Int64Array, share: float) -> int:
    """How often the share that passes beside a row that does is twice that of all rows: see ``near_slopes``."""
    doublings = 0
    if share > 0 and tally[PAIRS] > 0:
        times = tally[PAIRS_PASSED] / tally[PAIRS] / share
        while times >= 2:
            times /= 2
            doublings += 1
    return doublings


@compiled_as_written
def _foreseen_work(
    probing: Probing, counts: Counts, tally: Int64Array, coarse: int, query: int, least: np.float32
) -> int:
    """In parts of a row, of the lists yet to come that score no less, were they as much work as those so far."""
    lists = count_from(coarse, probing.centroid_scores.shape[1] // PANEL_LISTS, least)
    lists = min(lists, probing.nprobes[query], int64(probing.sizes.size))
    return int64(tally[WORK] * lists // counts.lists[query] - tally[WORK])


@compiled_as_written
def _doublings(n_lists: int, tally: Int64Array, share: float) -> int:
    """The largest i for which 2**i is not above the lists scanned, as they count: see ``ProbeLimits.slopes``.

    ``FEWEST_DOUBLINGS`` is the least that is told.
    """
    counted = float(n_lists)
    if tally[PAIRS] > 0:
        counted *= tally[PAIRS_PASSED] / tally[PAIRS]
    if tally[ALL_PASSED] > 0:
        rarity = max(share * (tally[ALL_SEEN] / tally[ALL_PASSED]), 1.0)
        for _ in range(RARITY):
            counted *= rarity
    doublings = 0
    while doublings > FEWEST_DOUBLINGS and counted < 1:
        counted *= 2
        doublings -= 1
    while counted >= 2:
        counted /= 2
        doublings += 1
    return doublings
