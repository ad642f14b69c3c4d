"""The best rows by quantised score in the lists that each query probes, each query under its own mask.

A query is one task, and threads take the next one when they have done with theirs; a few queries with much work are
tasks of a part of their probes each. The mask is tested where it costs least: for the rows that reach the limit, or,
once few rows have been found to pass it, before a block is scored at all.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from kernels._cpu_jit import (
    compiled,
    compiled_parallel,
    count_ones,
    int64,
    lowest_one,
    next_task,
    word,
)
from kernels._cpu_lists import Lists, score_part
from kernels._cpu_reservoir import Reservoirs, cut, keep, key_of, row_of, score_of
from kernels._cpu_shuffle import TABLE_BYTES, block_scores, float_at, int32_at
from kernels._cpu_tables import fill_tables
from kernels._cpu_topk import Heaps, finish
from kernels.arrays import Float32Array, Int64Array, Uint8Array
from kernels.packed_lists import BLOCK_ROWS, CENTROIDS, CHUNK_BLOCKS

_CHUNK_SHIFT = CHUNK_BLOCKS.bit_length() - 1
_SPARSE = 24
"""The mask is tested first while fewer than one row in so many passes: from there on a fair part of the blocks have no
row that does."""


class Probing(NamedTuple):
    """What is scanned, for whom; see ``kernels.packed_lists`` and ``kernels.reference.scan_lists``.

    ``codebook`` float32 [M, d / M, 16]; ``chunks``: addresses; ``masks`` [B]: addresses, 0 where every row passes.
    """

    codebook: Float32Array
    levels: int
    chunks: Int64Array
    n_columns: int
    next_blocks: npt.NDArray[np.int32]
    first_blocks: npt.NDArray[np.int32]
    sizes: Int64Array
    queries: Float32Array
    probes: Int64Array
    biases: Float32Array
    masks: Int64Array
    depths: Int64Array


class Scratch(NamedTuple):
    """Working memory of each thread, by its number: tables uint8 [W, bytes], products float32 [W, M, 16]."""

    tables: Uint8Array
    products: Float32Array
    scores: Float32Array


def new_scratch(n_workers: int, n_parts: int) -> Scratch:
    n_pairs = -(-n_parts // 4)
    return Scratch(
        np.zeros((n_workers, n_pairs * TABLE_BYTES), np.uint8),
        np.empty((n_workers, n_parts, CENTROIDS), np.float32),
        np.empty((n_workers, BLOCK_ROWS), np.float32),
    )


@compiled
def scan_probes_serial(probing: Probing, scratch: Scratch, reservoirs: Reservoirs, counter: Int64Array) -> None:
    """Fill the reservoir of each query on the calling thread."""
    _scan_shares(probing, scratch, reservoirs, int64(1), counter.ctypes.data, int64(0))


@compiled_parallel
def scan_probes_parallel(
    probing: Probing, scratch: Scratch, reservoirs: Reservoirs, shares: int, counter: Int64Array
) -> None:
    """Fill the reservoir of each task: share s of query b is task ``b * shares + s``. One thread for each scratch."""
    for worker in numba.prange(scratch.tables.shape[0]):
        _scan_shares(probing, scratch, reservoirs, shares, counter.ctypes.data, int64(worker))


@compiled
def _scan_shares(
    probing: Probing, scratch: Scratch, reservoirs: Reservoirs, shares: int, counter: int, worker: int
) -> None:
    task = next_task(counter)
    while task < probing.probes.shape[0] * shares:
        _scan_share(probing, scratch, reservoirs, worker, task, task // shares, task % shares, shares)
        task = next_task(counter)


@compiled
def collect_rows(probing: Probing, reservoirs: Reservoirs, shares: int, rows: Int64Array, scores: Float32Array) -> None:
    """Each query's rows of all its shares, best first; rows and scores [B, c] hold padding already."""
    for query in range(probing.probes.shape[0]):
        _join_shares(reservoirs, query, shares, probing.depths[query])
        slot = query * shares
        keys = reservoirs.keys[slot, : reservoirs.counts[slot]]
        keys.sort()
        for i in range(keys.size):
            key = keys[keys.size - 1 - i]
            rows[query, i], scores[query, i] = row_of(key), score_of(key)


@compiled
def search_serial(
    probing: Probing, scratch: Scratch, reservoirs: Reservoirs, exact: Lists, heaps: Heaps, counter: Int64Array
) -> None:
    """Scan and rescore on the calling thread; ``exact`` has room for the largest depth a query."""
    _search_some(probing, scratch, reservoirs, exact, heaps, counter.ctypes.data, int64(0))


@compiled_parallel
def search_parallel(
    probing: Probing, scratch: Scratch, reservoirs: Reservoirs, exact: Lists, heaps: Heaps, counter: Int64Array
) -> None:
    """Scan and rescore with one thread for each scratch and reservoir."""
    for worker in numba.prange(scratch.tables.shape[0]):
        _search_some(probing, scratch, reservoirs, exact, heaps, counter.ctypes.data, int64(worker))


@compiled_parallel
def search_in_shares(
    probing: Probing,
    scratch: Scratch,
    reservoirs: Reservoirs,
    shares: int,
    exact: Lists,
    heaps: Heaps,
    counter: Int64Array,
) -> None:
    """Scan each query in shares, then rescore; a reservoir for each share of each query."""
    for worker in numba.prange(scratch.tables.shape[0]):
        _scan_shares(probing, scratch, reservoirs, shares, counter.ctypes.data, int64(worker))
    for query in numba.prange(probing.probes.shape[0]):
        _join_shares(reservoirs, int64(query), shares, probing.depths[query])
        _rescore(reservoirs, int64(query) * shares, exact, heaps, int64(query))


@compiled
def _search_some(
    probing: Probing, scratch: Scratch, reservoirs: Reservoirs, exact: Lists, heaps: Heaps, counter: int, worker: int
) -> None:
    query = next_task(counter)
    while query < probing.probes.shape[0]:
        reservoirs.counts[worker] = 0
        reservoirs.limits[worker] = -np.inf
        _scan_share(probing, scratch, reservoirs, worker, worker, query, int64(0), int64(1))
        _rescore(reservoirs, worker, exact, heaps, query)
        query = next_task(counter)


@compiled
def _rescore(reservoirs: Reservoirs, slot: int, exact: Lists, heaps: Heaps, query: int) -> None:
    first = exact.offsets[query]
    count = reservoirs.counts[slot]
    for i in range(count):
        exact.rows[first + i] = row_of(reservoirs.keys[slot, i])
    exact.rows[first + count : exact.offsets[query + 1]] = -1
    score_part(exact, heaps, query, int64(0))
    finish(heaps, query)


@compiled
def _join_shares(reservoirs: Reservoirs, query: int, shares: int, depth: int) -> None:
    """Move what the query's shares have into the first of them, and cut it back."""
    first = query * shares
    for slot in range(first + 1, first + shares):
        for i in range(reservoirs.counts[slot]):
            keep(reservoirs, first, reservoirs.keys[slot, i], depth)
    cut(reservoirs, first, depth)


@compiled
def _scan_share(
    probing: Probing,
    scratch: Scratch,
    reservoirs: Reservoirs,
    worker: int,
    slot: int,
    query: int,
    share: int,
    shares: int,
) -> None:
    """Scan probes share, share + shares, ... of a query into a reservoir, which is left with ``depth`` rows at most."""
    scale, offset = fill_tables(
        probing.codebook, probing.queries[query], probing.levels, scratch.products[worker], scratch.tables[worker]
    )
    depth = probing.depths[query]
    if not np.isfinite(scale) or depth == 0:
        return
    seen = passed = int64(0)
    for place in range(share, probing.probes.shape[1], shares):
        number = probing.probes[query, place]
        if number < 0:
            break
        base = probing.biases[query, place] + offset
        if probing.masks[query] == 0:
            _scan_list(probing, scratch, reservoirs, worker, slot, number, base, scale, depth)
        else:
            seen, passed = _scan_masked_list(
                probing,
                scratch,
                reservoirs,
                worker,
                slot,
                number,
                base,
                scale,
                depth,
                probing.masks[query],
                seen,
                passed,
            )
    cut(reservoirs, slot, depth)


@compiled
def _scan_list(
    probing: Probing,
    scratch: Scratch,
    reservoirs: Reservoirs,
    worker: int,
    slot: int,
    number: int,
    base: np.float32,
    scale: np.float32,
    depth: int,
) -> None:
    record_bytes = BLOCK_ROWS * (probing.n_columns + 8)
    tables, scores = scratch.tables[worker].ctypes.data, scratch.scores[worker].ctypes.data
    block = int64(probing.first_blocks[number])
    while block >= 0:
        record = probing.chunks[block >> _CHUNK_SHIFT] + (block & (CHUNK_BLOCKS - 1)) * record_bytes
        rows = record + BLOCK_ROWS * probing.n_columns
        limit = reservoirs.limits[slot]
        found = block_scores(record, probing.n_columns, tables, rows + 4 * BLOCK_ROWS, base, scale, limit, scores)
        if found != 0:
            _keep_rows(reservoirs, slot, found, rows, scores, depth)
        block = int64(probing.next_blocks[block])


@compiled
def _scan_masked_list(
    probing: Probing,
    scratch: Scratch,
    reservoirs: Reservoirs,
    worker: int,
    slot: int,
    number: int,
    base: np.float32,
    scale: np.float32,
    depth: int,
    mask: int,
    seen: int,
    passed: int,
) -> tuple[int, int]:
    """As ``_scan_list``; returns how many rows the mask was asked about so far, and how many of them pass."""
    record_bytes = BLOCK_ROWS * (probing.n_columns + 8)
    tables, scores = scratch.tables[worker].ctypes.data, scratch.scores[worker].ctypes.data
    block = int64(probing.first_blocks[number])
    while block >= 0:
        record = probing.chunks[block >> _CHUNK_SHIFT] + (block & (CHUNK_BLOCKS - 1)) * record_bytes
        rows = record + BLOCK_ROWS * probing.n_columns
        asked = ~np.uint64(0)
        if passed * _SPARSE < seen:
            asked = _visible(rows, mask, asked & np.uint64(0xFFFFFFFF))
            seen += BLOCK_ROWS
            passed += count_ones(asked)
        if asked != 0:
            limit = reservoirs.limits[slot]
            found = block_scores(record, probing.n_columns, tables, rows + 4 * BLOCK_ROWS, base, scale, limit, scores)
            found &= asked
            if asked == ~np.uint64(0) and found != 0:
                seen += count_ones(found)
                found = _visible(rows, mask, found)
                passed += count_ones(found)
            if found != 0:
                _keep_rows(reservoirs, slot, found, rows, scores, depth)
        block = int64(probing.next_blocks[block])
    return seen, passed


@compiled
def _visible(rows: int, mask: int, asked: np.uint64) -> np.uint64:
    """Those of a block's slots ``asked`` whose row has its bit set in the mask."""
    visible = np.uint64(0)
    while asked != 0:
        slot = lowest_one(asked)
        row = int32_at(rows, slot)
        visible |= ((word(mask, row >> 6) >> np.uint64(row & 63)) & np.uint64(1)) << np.uint64(slot)
        asked &= asked - np.uint64(1)
    return visible


@compiled
def _keep_rows(reservoirs: Reservoirs, slot: int, found: np.uint64, rows: int, scores: int, depth: int) -> None:
    while found != 0:
        place = lowest_one(found)
        score = float_at(scores, place)
        if score >= reservoirs.limits[slot]:
            keep(reservoirs, slot, key_of(score, int32_at(rows, place)), depth)
        found &= found - np.uint64(1)


@compiled
def count_visible_blocks(probing: Probing, sampled_blocks: int, seen: Int64Array, passed: Int64Array) -> None:
    """Of about ``sampled_blocks`` blocks of each query's probes, spread over them: rows, and those the mask passes."""
    record_bytes = BLOCK_ROWS * (probing.n_columns + 8)
    for query in range(probing.probes.shape[0]):
        mask = probing.masks[query]
        if mask == 0:
            continue
        stride = _stride(probing, query, sampled_blocks)
        turn = int64(0)
        for place in range(probing.probes.shape[1]):
            number = probing.probes[query, place]
            if number < 0:
                break
            left = probing.sizes[number]
            block = int64(probing.first_blocks[number])
            while block >= 0:
                if turn % stride == 0:
                    record = probing.chunks[block >> _CHUNK_SHIFT] + (block & (CHUNK_BLOCKS - 1)) * record_bytes
                    rows = record + BLOCK_ROWS * probing.n_columns
                    held = min(left, int64(BLOCK_ROWS))
                    asked = ~np.uint64(0) >> np.uint64(64 - held)
                    seen[query] += held
                    passed[query] += count_ones(_visible(rows, mask, asked))
                turn += 1
                left -= BLOCK_ROWS
                block = int64(probing.next_blocks[block])


@compiled
def _stride(probing: Probing, query: int, sampled_blocks: int) -> int:
    blocks = int64(0)
    for place in range(probing.probes.shape[1]):
        number = probing.probes[query, place]
        if number < 0:
            break
        blocks += (probing.sizes[number] + BLOCK_ROWS - 1) // BLOCK_ROWS
    return max(int64(1), blocks // sampled_blocks)
