"""The change log: an entry for each sequence number, without a gap from its first one to the collection's own.

It is forgotten from its beginning, in slices within the transactions of ordinary commits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from engine.store import schema_sql
from engine.store.codec import StoredId
from engine.store.writes import ChangeKind

_FORGOTTEN_AT_ONCE = 1024
"""Entries, at least: they fill pages of their own, so that most commits touch none of these."""
_FORGOTTEN_PER_WRITTEN = 2
"""More than one, so that a log that is too long gets shorter."""


class ChangeLog:
    """What one connection writes of it, and forgets. ``kept``: so many of the latest entries stay in any case.

    ``needed_after``: entries of later sequence numbers are needed; None: none is. Any thread may set it.
    """

    def __init__(self, connection: sqlite3.Connection, *, kept: int) -> None:
        self.needed_after: int | None = 0
        self._connection = connection
        self._kept = kept

    def write(self, entries: Sequence[tuple[int, ChangeKind, StoredId]], *, sequence: int) -> None:
        """Within a transaction; ``sequence``: of the last entry."""
        schema_sql.insert_many(self._connection, schema_sql.WRITE_CHANGE, entries)
        needed_after = self.needed_after
        last = sequence - self._kept if needed_after is None else min(sequence - self._kept, needed_after)
        (first,) = self._connection.execute(schema_sql.READ_FIRST_CHANGE).fetchone()
        if last - first + 1 >= _FORGOTTEN_AT_ONCE:
            most = max(_FORGOTTEN_AT_ONCE, _FORGOTTEN_PER_WRITTEN * len(entries))
            self._connection.execute(schema_sql.FORGET_CHANGES, [min(last, first + most - 1)])


def forget_before_gap(connection: sqlite3.Connection, sequence: int) -> int:
    """Leave only the entries that lead to ``sequence``, the collection's, without a gap; how many others there were."""
    expected = sequence
    for (found,) in connection.execute("SELECT sequence FROM changes ORDER BY sequence DESC"):
        if found != expected:
            break
        expected -= 1
    return connection.execute(schema_sql.FORGET_CHANGES, [expected]).rowcount
