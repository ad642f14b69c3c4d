"""Ids to rows, many at a time outside the GIL: an open-addressing hash table in one array.

The table is uint64 [2**n, 2]: an id, and its first row below 2**48 with the count of its rows above it; 0 where the
place is free. ``shift`` is 64 - n. Ids are spread by their product with the golden ratio; one that finds its place
taken goes to the next free one. Whoever calls keeps at least one place free.
"""

from __future__ import annotations

import numpy as np

from kernels._cpu_jit import compiled, compiled_briefly, inlined, int64, prefetch, word
from kernels.arrays import Int64Array
from kernels.filters import Uint64Array

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
BLOCK = 512
AHEAD = 256
"""Look-ups on their way: more than a core can have, so that it always has as many as it can."""
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


@compiled_briefly
def put_id(table: Uint64Array, shift: int, item_id: np.uint64, first_row: int, n_rows: int) -> int:
    """Enter an id or change its rows; returns how many ids there are more."""
    slot = slot_of(table, shift, item_id)
    added = int64(table[slot, 1] == 0)
    table[slot, 0] = item_id
    table[slot, 1] = np.uint64(first_row) | np.uint64(n_rows) << _COUNT_SHIFT
    return added


@compiled
def put_ids(table: Uint64Array, shift: int, ids: Uint64Array, first_rows: Int64Array, n_rows: Int64Array) -> int:
    """As ``put_id`` for many, in their order."""
    added = 0
    for place in range(len(ids)):
        added += put_id(table, shift, ids[place], first_rows[place], n_rows[place])
    return added


@compiled_briefly
def find_id(table: Uint64Array, shift: int, item_id: np.uint64) -> tuple[int, int]:
    """First row and count of an id; (0, 0) where it is not there."""
    value = table[slot_of(table, shift, item_id), 1]
    return int64(value & _FIRST_ROW), int64(value >> _COUNT_SHIFT)


@compiled_briefly
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
def find_ids(table: Uint64Array, shift: int, ids: Uint64Array, found: Uint64Array, late: Int64Array) -> tuple[int, int]:
    """What the table holds beside the ids that are there, in their order; returns how many these are and their rows.

    Each look-up is a read of memory at random: AHEAD of them are on their way at a time. ``found``: uint64 [n ids];
    ``late``: [BLOCK], overwritten.
    """
    start = table.ctypes.data
    for place in range(min(AHEAD, len(ids))):
        prefetch(_home(start, shift, ids[place]))
    for first in range(0, len(ids), BLOCK):
        n_late = _find_at_once(start, shift, ids, first, min(first + BLOCK, len(ids)), found, late)
        for place in range(n_late):
            prefetch(_home(start, shift, ids[late[place]]) + 16)
        for place in range(n_late):
            found[late[place]] = _find_late(start, shift, ids[late[place]])
    return _close_up(found, len(ids))


@compiled
def _find_at_once(
    start: int, shift: int, ids: Uint64Array, first: int, end: int, found: Uint64Array, late: Int64Array
) -> int:
    """Find the ids that are at their home or not there; the others are listed, so that there is no branch to foretell.

    Returns how many those are.
    """
    n_late = 0
    for place in range(first, end):
        prefetch(_home(start, shift, ids[min(place + AHEAD, len(ids) - 1)]))
        home = _home(start, shift, ids[place])
        found[place] = word(home, 1)
        late[n_late] = place
        n_late += int64((word(home, 0) != ids[place]) & (word(home, 1) != 0))
    return n_late


@compiled
def _find_late(start: int, shift: int, item_id: np.uint64) -> np.uint64:
    """What the table holds beside an id that is not at its home; 0 where it is not there."""
    last = (1 << (64 - shift)) - 1
    slot = (int64((item_id * _GOLDEN) >> np.uint64(shift)) + 1) & last
    while word(start, 2 * slot) != item_id and word(start, 2 * slot + 1) != 0:
        slot = (slot + 1) & last
    return word(start, 2 * slot + 1)


@inlined
def _home(start: int, shift: int, item_id: np.uint64) -> int:
    """The address of the place that an id is put in while it is free."""
    return start + (int64((item_id * _GOLDEN) >> np.uint64(shift)) << 4)


@compiled
def _close_up(found: Uint64Array, n_ids: int) -> tuple[int, int]:
    """Drop the zeros of ids that are not there."""
    n, total = 0, 0
    for place in range(n_ids):
        value = found[place]
        found[n] = value
        n += int64(value != 0)
        total += int64(value >> _COUNT_SHIFT)
    return n, total


@compiled
def list_rows(found: Uint64Array, rows: Int64Array) -> None:
    """All rows of items; ``rows`` has room for exactly so many, and may be ``found`` where each has one."""
    if len(rows) == len(found):
        for place in range(len(found)):
            rows[place] = int64(found[place] & _FIRST_ROW)
        return
    n = 0
    for place in range(len(found)):
        first, count = int64(found[place] & _FIRST_ROW), int64(found[place] >> _COUNT_SHIFT)
        for row in range(first, first + count):
            rows[n] = row
            n += 1
