"""Ids to rows, outside the GIL: an open-addressing hash table in one array.

The table is uint64 [2**n, 2]: an id, and its first row below 2**48 with the count of its rows above it; 0 where the
place is free. ``shift`` is 64 - n. Ids are spread by their product with the golden ratio; one that finds its place
taken goes to the next free one. Whoever calls keeps at least one place free.
"""

from __future__ import annotations

import numpy as np

from kernels._cpu_jit import compiled, int64
from kernels.arrays import Int64Array
from kernels.filters import Uint64Array

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_COUNT_SHIFT = np.uint64(48)
_FIRST_ROW = (np.uint64(1) << _COUNT_SHIFT) - np.uint64(1)


@compiled
def slot_of(table: Uint64Array, shift: int, item_id: np.uint64) -> int:
    """The place of an id, or the free one where its search ends."""
    last = len(table) - 1
    slot = int64((item_id * _GOLDEN) >> np.uint64(shift))
    while table[slot, 1] != 0 and table[slot, 0] != item_id:
        slot = (slot + 1) & last
    return slot


@compiled
def put_id(table: Uint64Array, shift: int, item_id: np.uint64, first_row: int, n_rows: int) -> int:
    """Enter an id or change its rows; returns how many ids there are more."""
    slot = slot_of(table, shift, item_id)
    added = int64(table[slot, 1] == 0)
    table[slot, 0] = item_id
    table[slot, 1] = np.uint64(first_row) | np.uint64(n_rows) << _COUNT_SHIFT
    return added


@compiled
def find_id(table: Uint64Array, shift: int, item_id: np.uint64) -> tuple[int, int]:
    """First row and count of an id; (0, 0) where it is not there."""
    value = table[slot_of(table, shift, item_id), 1]
    return int64(value & _FIRST_ROW), int64(value >> _COUNT_SHIFT)


@compiled
def drop_id(table: Uint64Array, shift: int, item_id: np.uint64) -> None:
    """Free the place of an id that is there; those behind it move up, so that no search ends too early."""
    last = len(table) - 1
    hole = slot_of(table, shift, item_id)
    slot = hole
    while True:
        slot = (slot + 1) & last
        if table[slot, 1] == 0:
            break
        home = int64((table[slot, 0] * _GOLDEN) >> np.uint64(shift))
        # It may move where its home does not lie after the hole, going round.
        if ((slot - home) & last) >= ((slot - hole) & last):
            table[hole, 0], table[hole, 1] = table[slot, 0], table[slot, 1]
            hole = slot
    table[hole, 1] = np.uint64(0)


@compiled
def move_ids(table: Uint64Array, other: Uint64Array, shift: int) -> None:
    """Enter all of a table's ids into another, larger one, which is empty."""
    for place in range(len(table)):
        if table[place, 1] != 0:
            slot = slot_of(other, shift, table[place, 0])
            other[slot, 0], other[slot, 1] = table[place, 0], table[place, 1]


@compiled
def find_ids(
    table: Uint64Array, shift: int, ids: Uint64Array, firsts: Int64Array, counts: Int64Array
) -> tuple[int, int]:
    """First rows and counts of the ids that are there, in their order; returns how many these are and their rows."""
    n, total = 0, 0
    for place in range(len(ids)):
        slot = slot_of(table, shift, ids[place])
        if table[slot, 1] != 0:
            firsts[n] = int64(table[slot, 1] & _FIRST_ROW)
            counts[n] = int64(table[slot, 1] >> _COUNT_SHIFT)
            total += counts[n]
            n += 1
    return n, total


@compiled
def list_rows(firsts: Int64Array, counts: Int64Array, rows: Int64Array) -> None:
    """All rows of items; ``rows`` has room for exactly so many."""
    n = 0
    for place in range(len(counts)):
        for row in range(firsts[place], firsts[place] + counts[place]):
            rows[n] = row
            n += 1
