"""A version's rows written anew without the dead ones, beside those that are served; one transaction switches to them.

Live rows keep their order. Writes go on meanwhile: what a committed group did is noted and done again to the new rows.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engine.item_columns import ColumnsChange
from engine.store import schema_sql
from engine.store.faults import write_faults
from engine.store.segments import VectorSegments
from engine.store.writes import Change
from engine.types import Int64Array

_COPIED_ROWS = 4096
_STAGED_ITEMS = 1024


@dataclass(frozen=True, slots=True)
class CommittedGroup:
    """Its changes in their order; as it left them, the items whose rows are others (key, first row, rows), and the keys
    that are gone.
    """

    changes: Sequence[Change | ColumnsChange]
    moved: Sequence[tuple[int, int, int]]
    deleted: Sequence[int]


class Compaction:
    """One on its way. ``copy`` runs in any one thread, once ``begin`` has; all else in the thread that commits.

    ``segments``: the new rows, in a folder of their own.
    """

    def __init__(
        self, connection: sqlite3.Connection, old: VectorSegments, segments: VectorSegments, *, version: int
    ) -> None:
        self.segments = segments
        self.n_rows = 0
        self._connection = connection
        self._old = old
        self._version = version
        self._live: Int64Array = np.empty(0, np.int64)
        self._sequence = 0
        self._copied = 0
        self._staged_key: int | None = -1
        self._moved: dict[int, int] = {}
        self._groups: deque[CommittedGroup] = deque()

    def begin(self, live: Int64Array, *, sequence: int) -> None:
        """``live``: the rows, ascending, that lived at ``sequence``, which is not before this compaction was made."""
        self._live, self._sequence = live, sequence
        self.n_rows = len(live)

    @property
    def progress(self) -> float:
        """Of the copying, in [0, 1]."""
        return self._copied / len(self._live) if len(self._live) else 1.0

    def copy(self) -> bool:
        """Copy some of the live rows; True while there are more.

        Raises:
            ReadOnly: the disk refused.
        """
        rows = self._live[self._copied : self._copied + _COPIED_ROWS]
        with write_faults("copying live rows"):
            if len(rows):
                self.segments.write(self._copied, self._old.take(rows))
            # Bit by bit, so that no later sync, which a write may wait for, has all of it to do.
            self.segments.sync()
        self._copied += len(rows)
        return self._copied < len(self._live)

    def stage(self) -> bool:
        """Note for some of the items where their rows now lie; True while there are more.

        Raises:
            ReadOnly: the disk refused.
        """
        if self._staged_key is None:
            return False
        parameters = [self._version, self._staged_key, _STAGED_ITEMS]
        with write_faults("staging live rows"):
            found = self._connection.execute(schema_sql.READ_EMBEDDINGS_AFTER, parameters).fetchall()
            self._write(found, ())
        self._staged_key = found[-1][0] if found else None
        return self._staged_key is not None

    def note(self, group: CommittedGroup) -> None:
        """A group that was committed since this compaction was made."""
        self._groups.append(group)

    @property
    def is_behind(self) -> bool:
        """Whether groups wait to be done again."""
        return bool(self._groups)

    def catch_up(self) -> list[Change | ColumnsChange]:
        """Do the next group again; what it changed, in terms of the new rows, but for what the live rows had in them.

        Raises:
            ReadOnly: the disk refused.
        """
        group = self._groups.popleft()
        with write_faults("catching up with writes"):
            changes = [self._again(change) for change in group.changes if change.sequence > self._sequence]
            self._write(group.moved, group.deleted)
        return changes

    def _again(self, change: Change | ColumnsChange) -> Change | ColumnsChange:
        if isinstance(change, ColumnsChange):
            first = self._append(change.first_row, change.n_rows)
            self._moved.update(zip(range(change.first_row, change.first_row + change.n_rows), itertools.count(first)))
            return replace(change, first_row=first)
        if not change.n_rows:
            return change
        if change.in_place:
            place = self._place_of(change.first_row)
            assert place is not None
            return replace(change, first_row=place)
        first = self._moved[change.first_row] = self._append(change.first_row, change.n_rows)
        return replace(change, first_row=first)

    def _append(self, first_row: int, n_rows: int) -> int:
        """Copy rows to the end; the first of the copies."""
        first = self.n_rows
        self.segments.write(first, self._old.take(np.arange(first_row, first_row + n_rows)))
        self.n_rows += n_rows
        return first

    def _place_of(self, first_row: int) -> int | None:
        """Where an item's rows lie now, by its first row; None for rows that died before and were not copied."""
        place = int(np.searchsorted(self._live, first_row))
        if place < len(self._live) and self._live[place] == first_row:
            return place
        return self._moved.get(first_row)

    def _write(self, moved: Sequence[tuple[int, int, int]], deleted: Sequence[int]) -> None:
        placed = [
            (self._version, key, place, n_rows)
            for key, first_row, n_rows in moved
            if (place := self._place_of(first_row)) is not None
        ]
        with schema_sql.transaction(self._connection):
            self._connection.executemany(schema_sql.WRITE_STAGED, placed)
            self._connection.executemany(schema_sql.DELETE_STAGED, [(self._version, key) for key in deleted])
