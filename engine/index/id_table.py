"""Which rows an item has, by its id: uint64 in a hash table outside the GIL, strings in a dictionary."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from engine.types import Int64Array, ItemId
from kernels import cpu_ids as kernels

ItemIds: TypeAlias = Sequence[ItemId] | npt.NDArray[np.uint64]

_FIRST_BITS = 10
_TUPLE_BYTES = 56 + 2 * 32
_SLOT_BYTES = 48


class IdTable:
    """Ids with their first row, below 2**48, and number of rows, 1 to 65,535. At most half of the places are taken."""

    def __init__(self) -> None:
        self._n_items = 0
        self._bits = _FIRST_BITS
        self._table = np.zeros((1 << self._bits, 2), np.uint64)

    def __len__(self) -> int:
        return self._n_items

    @property
    def memory_bytes(self) -> int:
        return self._table.nbytes

    def put(self, item_id: ItemId, first_row: int, n_rows: int) -> None:
        """Enter an item or change its rows."""
        if 2 * (self._n_items + 1) > len(self._table):
            self._grow()
        self._n_items += kernels.put_id(self._table, 64 - self._bits, np.uint64(item_id), first_row, n_rows)

    def put_many(self, ids: ItemIds, first_rows: Int64Array, n_rows: Int64Array) -> None:
        """As ``put`` for each; none is told twice."""
        while 2 * (self._n_items + len(ids)) > len(self._table):
            self._grow()
        entered = np.ascontiguousarray(ids, np.uint64)
        self._n_items += kernels.put_ids(self._table, 64 - self._bits, entered, first_rows, n_rows)

    def pop(self, item_id: ItemId) -> tuple[int, int] | None:
        """(first row, count) of an item, which is there no longer; None where it was not."""
        span = self.get(item_id)
        if span is not None:
            kernels.drop_id(self._table, 64 - self._bits, np.uint64(item_id))
            self._n_items -= 1
        return span

    def get(self, item_id: ItemId) -> tuple[int, int] | None:
        """(first row, count), or None."""
        first, count = kernels.find_id(self._table, 64 - self._bits, np.uint64(item_id))
        return (first, count) if count else None

    def rows_of(self, ids: ItemIds) -> Int64Array:
        """All rows of the items that are there, in the order of the ids."""
        return kernels.rows_of_ids(self._table, 64 - self._bits, np.ascontiguousarray(ids, np.uint64))

    def _grow(self) -> None:
        self._bits += 1
        grown = np.zeros((1 << self._bits, 2), np.uint64)
        kernels.move_ids(self._table, grown, 64 - self._bits)
        self._table = grown


class IdDict:
    """As ``IdTable``, of strings."""

    def __init__(self) -> None:
        self._spans: dict[ItemId, tuple[int, int]] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._spans)

    @property
    def memory_bytes(self) -> int:
        return self._bytes

    def put(self, item_id: ItemId, first_row: int, n_rows: int) -> None:
        """Enter an item or change its rows."""
        self._bytes += _entry_bytes(item_id) if item_id not in self._spans else 0
        self._spans[item_id] = (first_row, n_rows)

    def put_many(self, ids: ItemIds, first_rows: Int64Array, n_rows: Int64Array) -> None:
        """As ``put`` for each; none is told twice."""
        self._bytes += sum(_entry_bytes(one) for one in ids if one not in self._spans)
        self._spans.update(zip(ids, zip(first_rows.tolist(), n_rows.tolist(), strict=True), strict=True))

    def pop(self, item_id: ItemId) -> tuple[int, int] | None:
        """(first row, count) of an item, which is there no longer; None where it was not."""
        span = self._spans.pop(item_id, None)
        self._bytes -= _entry_bytes(item_id) if span is not None else 0
        return span

    def get(self, item_id: ItemId) -> tuple[int, int] | None:
        """(first row, count), or None."""
        return self._spans.get(item_id)

    def rows_of(self, ids: ItemIds) -> Int64Array:
        """All rows of the items that are there, in the order of the ids."""
        spans = [span for one in ids if (span := self._spans.get(one)) is not None]
        if not spans:
            return np.zeros(0, np.int64)
        firsts, counts = np.array(spans, np.int64).T
        if counts.max() == 1:
            return np.ascontiguousarray(firsts)
        return np.concatenate([np.arange(first, first + count) for first, count in spans])


def _entry_bytes(item_id: ItemId) -> int:
    """An entry of the dictionary: the key, a tuple of two ints, a slot at two thirds full."""
    return sys.getsizeof(item_id) + _TUPLE_BYTES + _SLOT_BYTES
