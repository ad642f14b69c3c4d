"""Reads of a collection's database from any thread, beside the one that writes. Knows no vectors, only their rows."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.errors import ChangesGone, CorruptData
from engine.store import schema_sql
from engine.store.codec import ItemCodec, decode_times, from_stored_id, to_stored_id
from engine.store.faults import open_faults, read_faults
from engine.store.standing import RowRange
from engine.store.writes import ChangeKind, LiveRow, LoggedChange
from engine.types import ItemId, StoredItem, Times

_ROW_RANGES = np.dtype([("first_row", np.int64), ("n_rows", np.int64), ("key", np.int64)])
_LIVE_KEYS = 4096


@dataclass(frozen=True, slots=True)
class FoundItem:
    """A stored item without its vectors, and where they lie."""

    item: StoredItem
    rows: RowRange


class StoreReader:
    """Committed state, through a connection of its own. Each call sees one moment of it."""

    def __init__(self, database: Path, codec: ItemCodec) -> None:
        self._database = database
        self._codec = codec
        self._connection = schema_sql.open_reader(database)
        # Opens its files now: later the right to may be lost.
        self._connection.execute(schema_sql.READ_META).fetchone()
        self._lock = threading.Lock()

    def text_hashes(self, ids: Sequence[ItemId]) -> dict[ItemId, bytes]:
        found = self._select_ids(schema_sql.READ_TEXT_HASHES, ids)
        return {from_stored_id(stored_id): text_hash for stored_id, text_hash in found}

    def items(self, ids: Sequence[ItemId], *, version: int) -> list[FoundItem]:
        """Those that exist, in no order."""
        rows = self._select_ids(schema_sql.READ_ITEMS, ids, before=[version])
        return self._found_items(rows)

    def scroll(self, after: ItemId | None, *, limit: int, version: int) -> list[FoundItem]:
        if after is None:
            rows = self._select(schema_sql.SCROLL_FROM_START, [version, limit])
        else:
            rows = self._select(schema_sql.SCROLL_AFTER, [version, to_stored_id(after, self._codec.id_type), limit])
        return self._found_items(rows)

    def changes_after(self, sequence: int, *, limit: int) -> list[LoggedChange]:
        with read_faults("reading changes"), self._lock, schema_sql.snapshot(self._connection):
            (first,) = self._connection.execute(schema_sql.READ_FIRST_CHANGE).fetchone()
            rows = self._connection.execute(schema_sql.READ_CHANGES, [sequence, limit]).fetchall()
        if sequence + 1 < first:
            raise ChangesGone(sequence, first=first)
        return [LoggedChange(number, ChangeKind(kind), from_stored_id(stored_id)) for number, kind, stored_id in rows]

    def live_rows(self, *, version: int) -> Iterator[LiveRow]:
        """All live rows of one moment, ascending; the iterator's own connection lets other reads and writes go on.

        Raises:
            CorruptData: an item names rows that were never written, rows name an item that is not there, or an item's
                attributes are none of the schema's.
        """
        with open_faults("reading live rows"):
            connection = schema_sql.open_reader(self._database)
            try:
                connection.execute("BEGIN")
                ranges = _row_ranges(connection, version)
                for start in range(0, len(ranges), _LIVE_KEYS):
                    yield from _live_rows(connection, self._codec, ranges[start : start + _LIVE_KEYS])
            finally:
                connection.close()

    def timed_rows(self, *, version: int) -> list[tuple[int, int, Times]]:
        """(first row, rows, times) of the items that are not seen at all times."""
        rows = self._select(schema_sql.READ_TIMED, [version])
        return [(first_row, n_rows, decode_times(*times)) for first_row, n_rows, *times in rows]

    def expired(self, by: int, *, limit: int) -> list[ItemId]:
        """Some of the items that have expired by then, microseconds since 1970."""
        return [from_stored_id(stored_id) for (stored_id,) in self._select(schema_sql.READ_EXPIRED, [by, limit])]

    def live_rows_of(self, ids: Sequence[ItemId], *, version: int) -> list[LiveRow]:
        """Those of the items that are there, in no order."""
        statement = schema_sql.READ_LIVE_TEXTS_BY_ID if self._codec.has_terms else schema_sql.READ_LIVE_BY_ID
        rows = self._select_ids(statement, ids, before=[version])
        with open_faults("reading live rows"):
            return [
                LiveRow(from_stored_id(stored_id), first, n, sequence, self._codec.decode_attributes(attributes), text)
                for stored_id, first, n, sequence, attributes, text in rows
            ]

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _found_items(self, rows: Sequence[tuple[Any, ...]]) -> list[FoundItem]:
        with open_faults("reading items"):
            return [_found_item(self._codec, row) for row in rows]

    def _select(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        with read_faults("reading items"), self._lock:
            return self._connection.execute(statement, parameters).fetchall()

    def _select_ids(self, statement: str, ids: Sequence[ItemId], *, before: Sequence[Any] = ()) -> list[Any]:
        keys = [to_stored_id(item_id, self._codec.id_type) for item_id in ids]
        with read_faults("reading items"), self._lock, schema_sql.snapshot(self._connection):
            return list(schema_sql.select_in(self._connection, statement, keys, before=before))


def _found_item(codec: ItemCodec, row: tuple[Any, ...]) -> FoundItem:
    stored_id, sequence, text, attributes, first_row, n_rows, *times = row
    item = StoredItem(
        from_stored_id(stored_id),
        sequence,
        codec.decode_text(text),
        codec.decode_attributes(attributes),
        times=decode_times(*times),
    )
    return FoundItem(item, RowRange(first_row, n_rows))


def _row_ranges(connection: sqlite3.Connection, version: int) -> npt.NDArray[Any]:
    (n_rows,) = connection.execute(schema_sql.READ_NEXT_ROW, [version]).fetchone()
    ranges = np.fromiter(connection.execute(schema_sql.READ_EMBEDDINGS, [version]), _ROW_RANGES)
    if len(ranges) and int((ranges["first_row"] + ranges["n_rows"]).max()) > n_rows:
        raise CorruptData(f"an item names rows beyond the {n_rows} that were written")
    return ranges[np.argsort(ranges["first_row"])]


def _live_rows(connection: sqlite3.Connection, codec: ItemCodec, ranges: npt.NDArray[Any]) -> Iterator[LiveRow]:
    statement = schema_sql.READ_LIVE_TEXTS if codec.has_terms else schema_sql.READ_LIVE
    found = list(schema_sql.select_in(connection, statement, ranges["key"].tolist()))
    attributes = codec.decode_many([entry[3] for entry in found])
    items = {entry[0]: (entry, one) for entry, one in zip(found, attributes, strict=True)}
    for first_row, n_rows, key in ranges.tolist():
        if key not in items:
            raise CorruptData(f"rows from {first_row} on belong to an item that is not there")
        (_, stored_id, sequence, _, text), own = items[key]
        yield LiveRow(from_stored_id(stored_id), first_row, n_rows, sequence, own, text)
