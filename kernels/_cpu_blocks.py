"""One list for one query: its blocks scored, those rows kept that reach the limit and pass the mask.

The mask is tested where it costs least: for the rows that reach the limit, or, once few rows have been found to pass
it, before a block is scored at all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels._cpu_fusion import Fused, weighted_features
from kernels._cpu_jit import compiled_as_written, count_ones, int64, lowest_one, prefetch, store, word
from kernels._cpu_list_feature import feature_block
from kernels._cpu_probing import (
    ALL_PASSED,
    ALL_SEEN,
    FETCH_BLOCK,
    FETCHES_NEXT,
    N_BEST,
    N_FETCHED,
    NEXT_BLOCK,
    OWN_PASSED,
    OWN_SEEN,
    PAIRS,
    PAIRS_PASSED,
    PASSED,
    ROWS_LEFT,
    RUN,
    SEEN,
    WORK,
    Probing,
    Scratch,
    scale_of,
)
from kernels._cpu_reservoir import Reservoirs, keep, key_of
from kernels._cpu_shuffle import block_bits, block_scores, float_at, fused_block_scores, int32_at
from kernels.arrays import Float32Array, Int64Array
from kernels.packed_lists import BLOCK_ROWS, CHUNK_BLOCKS, LOOK_WORK, ROW_WORK, SPARSE, WINDOW_ROWS

_CHUNK_SHIFT = CHUNK_BLOCKS.bit_length() - 1
_LINE_BYTES = 64

_LEAD, _SPARSE_LEAD = 4, 16
"""Blocks that are fetched ahead, the one at hand among them: whole, and their row numbers alone."""

_ALL = np.uint64(0xFFFF_FFFF)
NO_LIMIT = np.float32(-np.inf)


@compiled_as_written
def _record(probing: Probing, block: int) -> int:
    """Where a block lies."""
    record_bytes = BLOCK_ROWS * (probing.n_columns + 8)
    return int64(probing.chunks[block >> _CHUNK_SHIFT] + (block & (CHUNK_BLOCKS - 1)) * record_bytes)


@compiled_as_written
def prefetch_lines(address: int, n_bytes: int) -> None:
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
    while tally[N_FETCHED] < lead:
        if tally[FETCH_BLOCK] < 0 and tally[FETCHES_NEXT] == 0 and following >= 0:
            tally[FETCH_BLOCK], tally[FETCHES_NEXT] = probing.first_blocks[following], 1
        block = tally[FETCH_BLOCK]
        if block < 0:
            return
        prefetch_lines(_record(probing, block) + first, n_bytes)
        if probing.feature_chunks.size > 0 and not is_sparse:
            prefetch_lines(feature_block(probing.feature_chunks, block), int64(4 * BLOCK_ROWS))
        tally[FETCH_BLOCK] = probing.next_blocks[block]
        tally[N_FETCHED] += 1


@compiled_as_written
def scan_list(
    probing: Probing,
    fused: Fused,
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
    """Score the list ``number`` and keep its rows; ``following``: the list that comes after it, -1 where that is open.

    ``base``: what all scores of the list have in common; ``step``: of the tables; ``square``: of the query's length.
    Where features are fused that do not lie beside the codes, the base has the list's bound in it: a row's score is
    known once it reaches the limit so.
    """
    mask, k, depth = probing.masks[query], probing.ks[query], probing.depths[query]
    tables, scores = scratch.tables[worker].ctypes.data, scratch.scores[worker].ctypes.data
    best, runs, run_asked = scratch.best[worker], scratch.runs[worker], scratch.run_asked[worker]
    n_best, looks_up = tally[N_BEST], fused.is_on and probing.feature_chunks.size == 0
    _begin(probing, tally, number)
    while tally[NEXT_BLOCK] >= 0:
        is_asked = mask != 0 and _is_sparse(tally)
        n_run = _ask_run(probing, tally, runs, run_asked, mask, following) if is_asked else int64(1)
        if not is_asked:
            runs[0], run_asked[0] = _take_block(probing, tally, following, False), _ALL
        for turn in range(n_run):
            record = _record(probing, runs[turn])
            rows = record + BLOCK_ROWS * probing.n_columns
            limit = NO_LIMIT
            if n_best == k:
                limit = _block_limit(probing, query, square, best[0], reservoirs.limits[worker])
            if probing.feature_chunks.size > 0:
                found = fused_block_scores(
                    record,
                    probing.n_columns,
                    tables,
                    rows + 4 * BLOCK_ROWS,
                    feature_block(probing.feature_chunks, runs[turn]),
                    probing.feature_weights[query],
                    base,
                    step,
                    limit,
                    scores,
                )
            else:
                found = block_scores(
                    record, probing.n_columns, tables, rows + 4 * BLOCK_ROWS, base, step, limit, scores
                )
            found &= run_asked[turn]
            if mask != 0 and not is_asked:
                tally[OWN_SEEN] += count_ones(found)
                found = _visible(rows, mask, found)
                tally[OWN_PASSED] += count_ones(found)
            if found != 0 and looks_up:
                tally[WORK] += LOOK_WORK * count_ones(found)
                bound = probing.bounds[min(query, probing.bounds.shape[0] - 1), number]
                found = _fuse(fused, query, bound, found, rows, scores, limit)
            if found != 0:
                n_best = _keep_rows(reservoirs, best, worker, k, depth, n_best, found, rows, scores)
    tally[N_BEST] = n_best
    _end(tally)


@compiled_as_written
def _begin(probing: Probing, tally: Int64Array, number: int) -> None:
    """Of a list, some blocks of which may be fetched already."""
    tally[NEXT_BLOCK], tally[ROWS_LEFT] = probing.first_blocks[number], probing.sizes[number]
    tally[OWN_SEEN] = tally[OWN_PASSED] = 0
    if tally[FETCHES_NEXT] == 0:
        tally[FETCH_BLOCK], tally[N_FETCHED] = tally[NEXT_BLOCK], 0
    tally[FETCHES_NEXT] = 0


@compiled_as_written
def _end(tally: Int64Array) -> None:
    """Add up what the mask was asked about in a list."""
    seen, passed = tally[OWN_SEEN], tally[OWN_PASSED]
    tally[ALL_SEEN] += seen
    tally[ALL_PASSED] += passed
    tally[PAIRS] += passed * (seen - 1)
    tally[PAIRS_PASSED] += passed * (passed - 1)
    fades = int64(tally[SEEN] + seen > WINDOW_ROWS)
    tally[SEEN] = (tally[SEEN] + seen) >> fades
    tally[PASSED] = (tally[PASSED] + passed) >> fades


@compiled_as_written
def _is_sparse(tally: Int64Array) -> bool:
    """Whether so few rows pass that the mask is asked about all of them before they are scored, and not only about
    those that reach the limit.
    """
    return bool((tally[PASSED] + tally[OWN_PASSED]) * SPARSE < tally[SEEN] + tally[OWN_SEEN])


@compiled_as_written
def _take_block(probing: Probing, tally: Int64Array, following: int, is_asked: bool) -> int:
    """The list's next block, which is fetched by now."""
    _fetch_ahead(probing, tally, following, is_asked)
    tally[N_FETCHED] -= 1
    block = tally[NEXT_BLOCK]
    tally[NEXT_BLOCK] = probing.next_blocks[block]
    tally[ROWS_LEFT] -= BLOCK_ROWS
    return int64(block)


@compiled_as_written
def _ask_run(
    probing: Probing, tally: Int64Array, runs: Int64Array, run_asked: npt.NDArray[np.uint64], mask: int, following: int
) -> int:
    """Ask the mask about the next blocks and note those with rows that pass, whose codes are then on their way; returns
    how many.
    """
    n_run = int64(0)
    while tally[NEXT_BLOCK] >= 0 and n_run < RUN and _is_sparse(tally):
        held = min(tally[ROWS_LEFT], int64(BLOCK_ROWS))
        block = _take_block(probing, tally, following, True)
        record = _record(probing, block)
        asked = block_bits(record + BLOCK_ROWS * probing.n_columns, mask) & (_ALL >> np.uint64(BLOCK_ROWS - held))
        tally[OWN_SEEN] += held
        tally[OWN_PASSED] += count_ones(asked)
        if asked == 0:
            tally[WORK] -= (ROW_WORK - 1) * held
        else:
            prefetch_lines(record, BLOCK_ROWS * probing.n_columns)
            prefetch_lines(record + BLOCK_ROWS * (probing.n_columns + 4), int64(4 * BLOCK_ROWS))
            if probing.feature_chunks.size > 0:
                prefetch_lines(feature_block(probing.feature_chunks, block), int64(4 * BLOCK_ROWS))
            runs[n_run], run_asked[n_run] = block, asked
            n_run += 1
    return n_run


@compiled_as_written
def _block_limit(probing: Probing, query: int, square: np.float32, kth: np.float32, kept: np.float32) -> np.float32:
    """What a row must score to be looked at; ``kept``: the least that enters the reservoir.

    That would do where no slack is asked for, but for the rows that the share of those which pass is told from.
    """
    if probing.slacks[query] < np.inf:
        return np.float32(kth - probing.slacks[query] * scale_of(probing, query, square, kth))
    if probing.masks[query] == 0 or not probing.reaches[query] < np.inf:
        return min(kth, kept)
    return NO_LIMIT


@compiled_as_written
def _fuse(
    fused: Fused, query: int, bound: np.float32, asked: np.uint64, rows: int, scores: int, limit: np.float32
) -> np.uint64:
    """Put what a block's slots ``asked`` have of features in the place of the bound; those that reach the limit so."""
    found = asked
    while asked != 0:
        slot = lowest_one(asked)
        asked &= asked - np.uint64(1)
        row = int64(int32_at(rows, slot))
        score = (float_at(scores, slot) - bound) + weighted_features(fused, query, row)
        store(scores, slot, score)
        if not score >= limit:
            found &= ~(np.uint64(1) << np.uint64(slot))
    return found


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
