"""Sets of rows by other means than a column: row lists and compressed bitmaps into masks, masks into one, ids to rows."""

from __future__ import annotations

import numpy as np

from kernels._cpu_jit import compiled, count_ones
from kernels.arrays import Int64Array, Uint8Array
from kernels.filters import Uint64Array

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_COUNT_SHIFT = np.uint64(48)
_FIRST_ROW = (np.uint64(1) << _COUNT_SHIFT) - np.uint64(1)


# Masks


@compiled
def set_bits(mask: Uint8Array, rows: Int64Array) -> None:
    for place in range(len(rows)):
        mask[rows[place] >> 3] |= np.uint8(1 << (rows[place] & 7))


@compiled
def clear_bits(mask: Uint8Array, rows: Int64Array) -> None:
    for place in range(len(rows)):
        mask[rows[place] >> 3] &= np.uint8(~(1 << (rows[place] & 7)))


@compiled
def take_bits(mask: Uint8Array, rows: Int64Array, taken: Uint8Array) -> None:
    """``taken`` is all 0."""
    for place in range(len(rows)):
        bit = (mask[rows[place] >> 3] >> (rows[place] & 7)) & 1
        taken[place >> 3] |= np.uint8(bit << (place & 7))


@compiled
def intersect_words(one: Uint64Array, other: Uint64Array, both: Uint64Array) -> int:
    """Writes what the masks share; returns how many rows that are."""
    total = 0
    for w in range(len(both)):
        both[w] = one[w] & other[w]
        total += count_ones(both[w])
    return total


@compiled
def unpack_containers(stored: Uint8Array, mask: Uint8Array) -> None:
    """OR a bitmap in Roaring's portable format, with values below the end of ``mask``, into it.

    Source: https://github.com/RoaringBitmap/RoaringFormatSpec
    """
    cookie, n, at, flags_at = _uint32(stored, 0), 0, 8, -1
    if cookie == 12346:
        n = _uint32(stored, 4)
    else:
        n, flags_at = (cookie >> 16) + 1, 4
        at = 4 + (n + 7) // 8
    header = at
    at += 4 * n
    if cookie == 12346 or n >= 4:
        at += 4 * n  # where each container begins, which reading them in order tells as well
    for container in range(n):
        first = _uint16(stored, header + 4 * container) << 13
        count = _uint16(stored, header + 4 * container + 2) + 1
        if flags_at >= 0 and (stored[flags_at + (container >> 3)] >> (container & 7)) & 1:
            n_runs = _uint16(stored, at)
            for run in range(n_runs):
                start = _uint16(stored, at + 2 + 4 * run)
                _set_run(mask, first, start, start + _uint16(stored, at + 4 + 4 * run) + 1)
            at += 2 + 4 * n_runs
        elif count <= 4096:
            for place in range(count):
                value = _uint16(stored, at + 2 * place)
                mask[first + (value >> 3)] |= np.uint8(1 << (value & 7))
            at += 2 * count
        else:
            # A container may end beyond the mask, whose last rows are fewer.
            for byte in range(min(8192, len(mask) - first)):
                mask[first + byte] |= stored[at + byte]
            at += 8192


@compiled
def _uint16(stored: Uint8Array, at: int) -> int:
    return np.int64(stored[at]) | np.int64(stored[at + 1]) << 8


@compiled
def _uint32(stored: Uint8Array, at: int) -> int:
    return _uint16(stored, at) | _uint16(stored, at + 2) << 16


@compiled
def _set_run(mask: Uint8Array, first_byte: int, start: int, end: int) -> None:
    while start < end and start & 7:
        mask[first_byte + (start >> 3)] |= np.uint8(1 << (start & 7))
        start += 1
    while start + 8 <= end:
        mask[first_byte + (start >> 3)] = np.uint8(0xFF)
        start += 8
    while start < end:
        mask[first_byte + (start >> 3)] |= np.uint8(1 << (start & 7))
        start += 1


# Ids: a table uint64 [2**n, 2] of (id, first row and count of rows in one word, 0 where the place is free)


@compiled
def put_id(table: Uint64Array, shift: int, item_id: np.uint64, first_row: int, n_rows: int) -> None:
    """Enter or change an id; the table has a free place."""
    last = len(table) - 1
    slot = np.int64((item_id * _GOLDEN) >> np.uint64(shift))
    while table[slot, 1] != 0 and table[slot, 0] != item_id:
        slot = (slot + 1) & last
    table[slot, 0] = item_id
    table[slot, 1] = np.uint64(first_row) | np.uint64(n_rows) << _COUNT_SHIFT


@compiled
def drop_id(table: Uint64Array, shift: int, item_id: np.uint64) -> None:
    """Free the place of an id that is there; those behind it move up, so that no search ends too early."""
    last = len(table) - 1
    hole = np.int64((item_id * _GOLDEN) >> np.uint64(shift))
    while table[hole, 0] != item_id or table[hole, 1] == 0:
        hole = (hole + 1) & last
    slot = hole
    while True:
        slot = (slot + 1) & last
        if table[slot, 1] == 0:
            break
        home = np.int64((table[slot, 0] * _GOLDEN) >> np.uint64(shift))
        # It may move where its home does not lie after the hole, going round.
        if ((slot - home) & last) >= ((slot - hole) & last):
            table[hole, 0], table[hole, 1] = table[slot, 0], table[slot, 1]
            hole = slot
    table[hole, 1] = np.uint64(0)


@compiled
def move_ids(table: Uint64Array, other: Uint64Array, shift: int) -> None:
    """Enter all of a table's ids into another, larger one, which is empty."""
    last = len(other) - 1
    for place in range(len(table)):
        if table[place, 1] != 0:
            slot = np.int64((table[place, 0] * _GOLDEN) >> np.uint64(shift))
            while other[slot, 1] != 0:
                slot = (slot + 1) & last
            other[slot, 0], other[slot, 1] = table[place, 0], table[place, 1]


@compiled
def find_ids(table: Uint64Array, shift: int, ids: Uint64Array, firsts: Int64Array, counts: Int64Array) -> int:
    """First rows and counts of the ids that are there, in their order; returns the number of their rows."""
    last, n, total = len(table) - 1, 0, 0
    for place in range(len(ids)):
        slot = np.int64((ids[place] * _GOLDEN) >> np.uint64(shift))
        while table[slot, 1] != 0 and table[slot, 0] != ids[place]:
            slot = (slot + 1) & last
        if table[slot, 1] != 0:
            firsts[n] = np.int64(table[slot, 1] & _FIRST_ROW)
            counts[n] = np.int64(table[slot, 1] >> _COUNT_SHIFT)
            total += counts[n]
            n += 1
    counts[n:] = 0
    return total


@compiled
def list_rows(firsts: Int64Array, counts: Int64Array, rows: Int64Array) -> None:
    """All rows of items; ``rows`` has room for exactly so many."""
    n = 0
    for place in range(len(counts)):
        for row in range(firsts[place], firsts[place] + counts[place]):
            rows[n] = row
            n += 1
