"""Items of a columnar request that are not there yet: their keys, rows and sequence numbers, given all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, repeat
from typing import TypeVar

import numpy as np

from engine.item_columns import ColumnsChange
from engine.store.codec import StoredId
from engine.store.standing import RowRange, Standing
from engine.store.writes import ChangeKind, UpsertColumns
from engine.types import Float32Array

T = TypeVar("T")
EMPTY_TEXT = "{}"


@dataclass(slots=True)
class FreshItems:
    """A run of new items, one row each: the i-th has key ``first_key`` + i, and sequence and row likewise.

    ``attributes`` encoded. Of those that a later operation of the group names the ``GroupPlan`` takes care itself:
    they are ``let_go``.
    """

    columns: UpsertColumns
    stored_ids: Sequence[StoredId]
    attributes: Sequence[str]
    first_key: int
    first_sequence: int
    first_row: int
    _places: dict[StoredId, int] | None = None
    _gone: set[int] = field(default_factory=set)

    def __contains__(self, stored_id: StoredId) -> bool:
        return stored_id in self._by_id()

    def let_go(self, stored_id: StoredId) -> tuple[Standing, Float32Array]:
        """The item as it stands after this run, and its vector [1, d]. Once for each id."""
        place = self._by_id().pop(stored_id)
        self._gone.add(place)
        rows = RowRange(self.first_row + place, 1)
        standing = Standing(
            self.first_key + place,
            self.first_sequence + place,
            self.columns.text_hashes[place],
            self.attributes[place],
            rows,
        )
        return standing, self.columns.vectors[place : place + 1]

    def change(self) -> ColumnsChange:
        """What the run did to the rows."""
        items = self.columns.items
        return ColumnsChange(self.first_sequence, self.first_row, items.ids, items.attributes)

    def item_rows(self) -> Iterable[tuple[int, StoredId, int, bytes, str, str, None, None]]:
        """As ``GroupPlan.item_rows``."""
        hashes, none = self.columns.text_hashes, repeat(None)
        columns = (self._keys(), self.stored_ids, self._sequences(), hashes, self.attributes, repeat(EMPTY_TEXT))
        return self._kept(zip(*columns, none, none, strict=False))

    def moved_items(self) -> Iterable[tuple[int, int, int]]:
        """As ``GroupPlan.moved_items``."""
        return self._kept(zip(self._keys(), range(self.first_row, self.first_row + self._n), repeat(1)))

    def log_rows(self) -> Iterable[tuple[int, ChangeKind, StoredId]]:
        """Of all of them, gone or not."""
        return zip(self._sequences(), repeat(ChangeKind.UPSERT), self.stored_ids)

    @property
    def _n(self) -> int:
        return len(self.stored_ids)

    def _keys(self) -> range:
        return range(self.first_key, self.first_key + self._n)

    def _sequences(self) -> range:
        return range(self.first_sequence, self.first_sequence + self._n)

    def _kept(self, of_each: Iterable[T]) -> Iterable[T]:
        """Without those that were let go."""
        if not self._gone:
            return of_each
        return (one for place, one in enumerate(of_each) if place not in self._gone)

    def _by_id(self) -> dict[StoredId, int]:
        if self._places is None:
            self._places = {stored_id: place for place, stored_id in enumerate(self.stored_ids)}
        return self._places


def alike_runs(is_known: Sequence[bool]) -> Iterator[tuple[int, int, bool]]:
    """(first, end, whether they are known) of the runs of items that are alike, in order."""
    known = np.asarray(is_known, np.bool_)
    bounds = [0, *(np.flatnonzero(known[1:] != known[:-1]) + 1).tolist(), len(known)]
    for first, end in pairwise(bounds):
        if first < end:
            yield first, end, bool(known[first])
