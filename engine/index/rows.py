"""A version's rows: which item each row belongs to, and from which sequence number to which it lives.

Rows are append-only. An item's rows (one per chunk) are consecutive; row r is alive at sequence s when
``born[r] <= s < died[r]``. Knows nothing of vectors or attributes. Written by the search lane alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.index.id_table import IdDict, IdTable, ItemIds
from engine.index.schedule import Schedule
from engine.index.shown_log import ShownLog
from engine.types import IdType, Int64Array, ItemId, Times, Uint8Array
from kernels.cpu_filters import set_rows

NEVER = np.iinfo(np.int64).max
_FIRST_CAPACITY = 1024


class Rows:
    """Ids, liveness and the alive mask, in arrays that grow by doubling.

    A row that lives is alive, and in the mask, unless it is not to be seen at the time of the last ``tick``.
    """

    def __init__(self, id_type: IdType) -> None:
        self.schedule = Schedule()
        self.shown = ShownLog()
        self.n_rows = 0
        self.n_alive = 0
        self.n_items = 0
        self._id_dtype: Any = np.uint64 if id_type == "uint64" else object
        self._ids = np.zeros(_FIRST_CAPACITY, self._id_dtype)
        self._first = np.zeros(_FIRST_CAPACITY, np.int64)
        self._born = np.zeros(_FIRST_CAPACITY, np.int64)
        self._died = np.zeros(_FIRST_CAPACITY, np.int64)
        self._alive = np.zeros(_FIRST_CAPACITY // 8, np.uint8)
        self._spans: IdTable | IdDict = IdTable() if id_type == "uint64" else IdDict()

    @property
    def ids(self) -> npt.NDArray[Any]:
        """[n_rows] uint64, or objects (str); of dead rows too, empty for rows never written."""
        return self._ids[: self.n_rows]

    @property
    def first_rows(self) -> Int64Array:
        """[n_rows]: the first row of the item each row belongs to."""
        return self._first[: self.n_rows]

    @property
    def born(self) -> Int64Array:
        return self._born[: self.n_rows]

    @property
    def died(self) -> Int64Array:
        return self._died[: self.n_rows]

    @property
    def alive(self) -> Uint8Array:
        """The alive mask: packed bits, a multiple of 8 bytes, no bit set beyond ``n_rows``. A view: copy to keep."""
        return self._alive[: (self.n_rows + 63) // 64 * 8]

    @property
    def memory_bytes(self) -> int:
        """Arrays and the id index."""
        arrays = (self._ids, self._first, self._born, self._died, self._alive)
        return sum(array.nbytes for array in arrays) + self._spans.memory_bytes

    def add(self, item_id: ItemId, first_row: int, n_rows: int, *, born: int) -> None:
        """Append an item's rows; rows skipped between the last one and ``first_row`` stay dead for ever."""
        end = first_row + n_rows
        self._reserve(end)
        self._ids[first_row:end] = item_id
        self._first[first_row:end] = first_row
        self._born[first_row:end] = born
        self._died[first_row:end] = NEVER
        self._set_alive(first_row, end)
        self._spans.put(item_id, first_row, n_rows)
        self.n_rows = end
        self.n_alive += n_rows
        self.n_items = len(self._spans)

    def add_many(self, ids: ItemIds, first_rows: Int64Array, n_rows: Int64Array, *, born: Int64Array) -> None:
        """As ``add`` for each, in ascending rows; no item is told twice, or there already."""
        if not len(ids):
            return
        end = int(first_rows[-1] + n_rows[-1])
        self._reserve(end)
        rows = rows_of_spans(first_rows, n_rows)
        self._ids[rows] = np.repeat(np.array(ids, self._id_dtype), n_rows)
        self._first[rows] = np.repeat(first_rows, n_rows)
        self._born[rows] = np.repeat(born, n_rows)
        self._died[rows] = NEVER
        set_rows(self._alive, rows)
        self._spans.put_many(ids, first_rows, n_rows)
        self.n_rows = end
        self.n_alive += len(rows)
        self.n_items = len(self._spans)

    def kill(self, item_id: ItemId, *, died: int) -> None:
        """The item's rows die; an id without rows is no error."""
        rows = self._spans.pop(item_id)
        if rows is None:
            return
        first, count = rows
        self._died[first : first + count] = died
        self._show(first, count, is_seen=False)
        self.schedule.drop(first)
        self.n_items = len(self._spans)

    def put_times(self, first_row: int, n_rows: int, times: Times) -> None:
        """When an item that lives is to be seen, from the next ``tick`` on."""
        self.schedule.put(first_row, n_rows, times)

    def tick(self, now: int) -> None:
        """Show what is to be seen at ``now``, microseconds since 1970, and hide what is not."""
        for first_row, n_rows, is_seen in self.schedule.due(now):
            self._show(first_row, n_rows, is_seen=is_seen)

    def living(self, first_row: int, end_row: int) -> npt.NDArray[np.bool_]:
        """Which of these rows live, whether they are to be seen now or not."""
        lives: npt.NDArray[np.bool_] = self._died[first_row:end_row] == NEVER
        return lives

    def living_bits(self) -> Uint8Array:
        """All that live, as ``alive`` has them; the caller's to keep."""
        if not len(self.schedule):
            return self.alive.copy()
        bits = np.zeros_like(self.alive)
        packed = np.packbits(self.living(0, self.n_rows), bitorder="little")
        bits[: len(packed)] = packed
        return bits

    def needed_bits(self) -> Uint8Array:
        """All that live, or were seen at a moment that is kept for pages; the caller's to keep."""
        bits = self.living_bits()
        set_rows(bits, rows_of_spans(*self.shown.spans()))
        return bits

    def _show(self, first_row: int, n_rows: int, *, is_seen: bool) -> None:
        """All of an item's rows are seen, or none."""
        was_seen = bool(self._alive[first_row >> 3] >> (first_row & 7) & 1)
        if was_seen == is_seen:
            return
        change = self._set_alive if is_seen else self._clear_alive
        change(first_row, first_row + n_rows)
        self.shown.add(first_row, n_rows, is_shown=is_seen)
        self.n_alive += n_rows if is_seen else -n_rows

    def skip_to(self, n_rows: int) -> None:
        """Rows up to ``n_rows`` exist, dead where none was added."""
        self._reserve(n_rows)
        self.n_rows = max(self.n_rows, n_rows)

    def rows_of_item(self, item_id: ItemId) -> tuple[int, int] | None:
        """(first row, count), or None where the item does not live."""
        return self._spans.get(item_id)

    def rows_of(self, ids: ItemIds) -> Int64Array:
        """All rows of the items that live, in the order of the ids."""
        return self._spans.rows_of(ids)

    def _reserve(self, n_rows: int) -> None:
        capacity = len(self._ids)
        if n_rows <= capacity:
            return
        while capacity < n_rows:
            capacity *= 2
        for name in ("_ids", "_first", "_born", "_died"):
            setattr(self, name, _grown(getattr(self, name), capacity))
        self._alive = _grown(self._alive, capacity // 8)

    def _set_alive(self, first: int, end: int) -> None:
        for row in range(first, end):
            self._alive[row >> 3] |= 1 << (row & 7)

    def _clear_alive(self, first: int, end: int) -> None:
        for row in range(first, end):
            self._alive[row >> 3] &= ~(1 << (row & 7)) & 0xFF


def rows_of_spans(first_rows: Int64Array, n_rows: Int64Array) -> Int64Array:
    """All rows of spans, one span after the other."""
    before = np.cumsum(n_rows) - n_rows
    return np.repeat(first_rows - before, n_rows) + np.arange(int(n_rows.sum()), dtype=np.int64)


def _grown(array: npt.NDArray[Any], capacity: int) -> npt.NDArray[Any]:
    grown = np.zeros(capacity, array.dtype)
    grown[: len(array)] = array
    return grown
