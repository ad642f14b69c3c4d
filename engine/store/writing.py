"""How a planned group reaches the disk: vectors, then the transaction that names them, then perhaps a checkpoint."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from engine.dtypes import StoredArray, to_stored
from engine.errors import EngineError
from engine.store import schema_sql
from engine.store.change_log import ChangeLog
from engine.store.codec import ItemCodec, StoredId, decode_times, split_conflicts, to_stored_id, with_conflicts
from engine.store.column_codec import to_stored_ids
from engine.store.compaction import Compaction
from engine.store.faults import write_faults
from engine.store.folders import sync_file, sync_folder
from engine.store.planning import GroupPlan, VectorSource
from engine.store.segments import VectorSegments
from engine.store.standing import Counters, RowRange, Standing
from engine.store.writes import UpdateOp, WriteOp, WriteOutcome, WriteRequest
from engine.types import Int64Array

_log = logging.getLogger(__name__)
_WAL_SUFFIX = "-wal"
_LOGGED_BYTES = 1 << 20
"""Vectors of a larger group are synced before they are named, those of a smaller one are in the log too: writing this
much twice takes less time than a sync."""


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """When the store tidies up.

    ``wal_bytes``: the log is folded into the database once it is longer. ``requests_kept``: so many of the latest
    request ids are remembered. ``changes_kept``: so many of the latest entries of the change log are kept for whoever
    may ask for them; more where a row image needs more.
    """

    wal_bytes: int = 32 * 2**20
    requests_kept: int = 65_536
    changes_kept: int = 1_000_000


class StoreWriter:
    """The connection that writes, and the segments of the active version. One thread."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        segments: VectorSegments,
        *,
        database: Path,
        limits: StoreLimits,
        version: int,
    ) -> None:
        self._connection = connection
        self._segments = segments
        self._wal = database.with_name(database.name + _WAL_SUFFIX)
        self._limits = limits
        self._version = version
        self.change_log = ChangeLog(connection, kept=limits.changes_kept)
        self._synchronous = ""
        self._has_fresh = False
        self._may_have_left_a_commit = False
        self._checkpoint_at_bytes = limits.wal_bytes

    def plan(self, codec: ItemCodec, counters: Counters, requests: Sequence[WriteRequest]) -> GroupPlan:
        """An empty plan that knows what is stored of the items and request ids in the group."""
        ids = {_op_id(codec, op) for request in requests for op in request.ops}
        updated: set[StoredId] = set()
        if codec.has_terms:
            updated = {_op_id(codec, op) for request in requests for op in request.ops if isinstance(op, UpdateOp)}
        for request in requests:
            if request.columns is not None:
                ids.update(self._perhaps_stored(to_stored_ids(request.columns.items.ids)))
        return GroupPlan(
            codec,
            counters,
            dimension=self._segments.dimension,
            standing=self._read_standing(list(ids)),
            seen=self._read_seen([request.request_id for request in requests if request.request_id]),
            texts=dict(schema_sql.select_in(self._connection, schema_sql.READ_TEXTS, list(updated))),
        )

    def restore_fresh(self) -> None:
        """Write rows to the segments that the log has and that the segments may have lost in a power cut.

        Raises:
            sqlite3.Error, OSError: not all were written.
        """
        for first_row, content in self._connection.execute(schema_sql.READ_FRESH):
            self._segments.write_bytes(first_row, content)
            self._has_fresh = True

    def write(self, plan: GroupPlan, *, durable: bool) -> None:
        """Vectors first: rows that no transaction names are written again by the next group.

        Raises:
            sqlite3.Error, OSError: nothing of the plan is stored.
        """
        self._settle()
        vectors = self._stored_vectors(plan.sources) if plan.sources else None
        is_logged = vectors is not None and vectors.nbytes <= _LOGGED_BYTES
        if vectors is not None:
            self._segments.write(plan.first_row, vectors)
        if vectors is not None and not is_logged:
            self._segments.sync()
        with self._transaction(durable=durable):
            self._write_items(plan)
            self._write_log(plan)
            if vectors is not None and is_logged:
                self._connection.execute(schema_sql.WRITE_FRESH, [plan.first_row, vectors.view(np.uint8).data])
        self._has_fresh |= is_logged

    def begin_compaction(self, segments: VectorSegments) -> Compaction:
        """``segments``: where the new rows go."""
        self._connection.execute(schema_sql.DROP_STAGED)
        self._connection.execute(schema_sql.MAKE_STAGED)
        return Compaction(self._connection, self._segments, segments, version=self._version)

    def switch_to(self, compaction: Compaction, encoded_version: str) -> None:
        """From now on items have the rows that the compaction gave them."""
        compaction.segments.sync()
        self._settle()
        with self._transaction(durable=True):
            for statement in schema_sql.SWITCH_TO_STAGED:
                self._connection.execute(statement)
            # Those are rows of before; the new ones are on disk.
            self._connection.execute(schema_sql.FORGET_FRESH)
            self._connection.execute(schema_sql.UPDATE_VERSION, [encoded_version, compaction.n_rows, self._version])
        self._segments, self._has_fresh = compaction.segments, False

    def drop_staged(self) -> None:
        """What a compaction that came to no end has left."""
        schema_sql.roll_back(self._connection)
        self._connection.execute(schema_sql.DROP_STAGED)

    def write_schema(self, encoded: str) -> None:
        self._settle()
        with self._transaction(durable=True):
            self._connection.execute(schema_sql.UPDATE_SCHEMA, [encoded])

    def sync(self) -> None:
        """Make all that is committed survive power loss, however it was committed."""
        self._segments.sync()
        if self._wal.exists():
            sync_file(self._wal)
            sync_folder(self._wal.parent)

    def checkpoint_if_due(self) -> None:
        """Fold the log into the database when it has grown enough; a failure is logged and tried again later."""
        size = self._wal.stat().st_size if self._wal.exists() else 0
        if size < self._checkpoint_at_bytes:
            return
        try:
            with write_faults("checkpoint"):
                done = self.checkpoint()
        except EngineError as error:
            done = False
            _log.warning("%s; the write-ahead log stays at %d bytes", error, size)
        self._checkpoint_at_bytes = self._limits.wal_bytes + (0 if done else size)

    def checkpoint(self) -> bool:
        """Sync the vectors, so that the log need not have them, then fold it into the database.

        False where a reader of an older moment kept part of the log.
        """
        self._segments.sync()
        if self._has_fresh:
            with self._transaction(durable=False):
                self._connection.execute(schema_sql.FORGET_FRESH)
            self._has_fresh = False
        busy, _, _ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy

    def close(self) -> None:
        """Checkpoint and give up the files."""
        self.checkpoint()
        self.abandon()

    def abandon(self) -> None:
        """Give up the files as they are."""
        self._connection.close()
        self._segments.close()

    def _perhaps_stored(self, ids: Sequence[StoredId]) -> Sequence[StoredId]:
        """All of them, or none where nothing is stored between the least and the greatest."""
        if not ids:
            return ids
        is_stored = self._connection.execute(schema_sql.ANY_BETWEEN, [min(ids), max(ids)]).fetchone()
        return ids if is_stored else ()

    def _read_standing(self, ids: Sequence[StoredId]) -> dict[StoredId, Standing]:
        rows = schema_sql.select_in(self._connection, schema_sql.READ_STANDING, ids, before=[self._version])
        return {
            stored_id: Standing(key, sequence, text_hash, attributes, RowRange(first, n_rows), decode_times(*times))
            for stored_id, key, sequence, text_hash, attributes, first, n_rows, *times in rows
        }

    def _read_seen(self, request_ids: Sequence[str]) -> dict[str, WriteOutcome]:
        rows = schema_sql.select_in(self._connection, schema_sql.READ_REQUESTS, request_ids)
        return {request_id: _replayed(sequence, deleted, kept) for request_id, sequence, deleted, kept in rows}

    def _stored_vectors(self, sources: Sequence[VectorSource]) -> StoredArray:
        """[sum of lengths, d] of the stored dtype; copies are bit for bit."""
        dtype = self._segments.dtype
        given = [source for source in sources if not isinstance(source, RowRange)]
        if len(given) == len(sources):
            return to_stored(np.concatenate(given), dtype)
        copied = [source for source in sources if isinstance(source, RowRange)]
        stored = self._segments.take(row_numbers(copied))
        if not given:
            return stored
        is_copy = np.repeat([isinstance(source, RowRange) for source in sources], [*map(_length, sources)])
        mixed = np.empty((len(is_copy), self._segments.dimension), stored.dtype)
        mixed[is_copy] = stored
        mixed[~is_copy] = to_stored(np.concatenate(given), dtype)
        return mixed

    def _write_items(self, plan: GroupPlan) -> None:
        connection, version, deleted = self._connection, self._version, plan.deleted_keys()
        connection.executemany(schema_sql.DELETE_EMBEDDING, [(version, key) for key in deleted])
        connection.executemany(schema_sql.DELETE_ITEM, [(key,) for key in deleted])
        schema_sql.insert_many(connection, schema_sql.WRITE_ITEM, plan.item_rows())
        connection.executemany(schema_sql.UPDATE_ITEM, plan.updated_rows())
        moved = ((version, *item) for item in plan.moved_items())
        schema_sql.insert_many(connection, schema_sql.WRITE_EMBEDDING, moved)

    def _write_log(self, plan: GroupPlan) -> None:
        counters = plan.counters
        self.change_log.write([*plan.log_rows()], sequence=counters.sequence)
        self._write_requests(plan.new_requests)
        self._connection.execute(
            schema_sql.UPDATE_COUNTERS, [counters.sequence, counters.item_count, counters.next_key]
        )
        self._connection.execute(schema_sql.UPDATE_NEXT_ROW, [counters.next_row, self._version])

    def _write_requests(self, requests: Sequence[tuple[str, WriteOutcome]]) -> None:
        if not requests:
            return
        self._connection.executemany(
            schema_sql.WRITE_REQUEST,
            [
                (request_id, outcome.sequence, outcome.deleted, with_conflicts(outcome.reply, outcome.conflicts))
                for request_id, outcome in requests
            ],
        )
        self._connection.execute(schema_sql.PRUNE_REQUESTS, [self._limits.requests_kept])

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[None]:
        self._set_synchronous("FULL" if durable else "NORMAL")
        try:
            with schema_sql.transaction(self._connection):
                yield
        except sqlite3.Error:
            self._may_have_left_a_commit = True
            raise

    def _settle(self) -> None:
        """Make sure that a transaction which was refused does not come back.

        Where the log could not be synced, it may hold the whole of it: invisible now, found again after a crash, naming
        rows that others have been given since. What is written next takes its place in the log; it has to change
        something, for SQLite writes no page that is as it was.
        """
        if self._may_have_left_a_commit:
            with self._transaction(durable=True):
                self._connection.execute(schema_sql.SETTLE)
            self._may_have_left_a_commit = False

    def _set_synchronous(self, level: Literal["FULL", "NORMAL"]) -> None:
        if level != self._synchronous:
            schema_sql.roll_back(self._connection)
            self._connection.execute(f"PRAGMA synchronous = {level}")
            self._synchronous = level


def row_numbers(ranges: Sequence[RowRange]) -> Int64Array:
    """The rows of all ranges, one after the other, int64 [sum of n_rows]."""
    firsts = np.array([rows.first_row for rows in ranges], np.int64)
    lengths = np.array([rows.n_rows for rows in ranges], np.int64)
    offsets = np.cumsum(lengths) - lengths
    return np.repeat(firsts - offsets, lengths) + np.arange(lengths.sum(), dtype=np.int64)


def _length(source: VectorSource) -> int:
    return source.n_rows if isinstance(source, RowRange) else len(source)


def _op_id(codec: ItemCodec, op: WriteOp) -> StoredId:
    return to_stored_id(op.id, codec.id_type)


def _replayed(sequence: int, deleted: int, kept: bytes) -> WriteOutcome:
    reply, conflicts = split_conflicts(kept)
    return WriteOutcome(sequence, (), conflicts=conflicts, deleted=deleted, replayed=True, reply=reply)
