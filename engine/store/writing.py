"""How a planned group reaches the disk: vectors, then the transaction that names them, then perhaps a checkpoint."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from engine.dtypes import StoredArray, to_stored
from engine.errors import EngineError
from engine.store import schema_sql
from engine.store.codec import ItemCodec, StoredId, to_stored_id
from engine.store.compaction import Compaction
from engine.store.faults import write_faults
from engine.store.folders import sync_file, sync_folder
from engine.store.planning import Counters, GroupPlan, RowRange, Standing, VectorSource
from engine.store.segments import VectorSegments
from engine.store.writes import DeleteOp, UpsertOp, WriteOutcome, WriteRequest
from engine.types import Int64Array

_log = logging.getLogger(__name__)
_WAL_SUFFIX = "-wal"


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """When the store tidies up.

    ``wal_bytes``: the log is folded into the database once it is longer. ``requests_kept``: so many of the latest
    request ids are remembered.
    """

    wal_bytes: int = 32 * 2**20
    requests_kept: int = 65_536


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
        self._synchronous = ""
        self._checkpoint_at_bytes = limits.wal_bytes

    def plan(self, codec: ItemCodec, counters: Counters, requests: Sequence[WriteRequest]) -> GroupPlan:
        """An empty plan that knows what is stored of the items and request ids in the group."""
        ids = {_op_id(codec, op) for request in requests for op in request.ops}
        return GroupPlan(
            codec,
            counters,
            dimension=self._segments.dimension,
            standing=self._read_standing(list(ids)),
            seen=self._read_seen([request.request_id for request in requests if request.request_id]),
        )

    def write(self, plan: GroupPlan, *, durable: bool) -> None:
        """Vectors first: rows that no transaction names are written again by the next group.

        Raises:
            sqlite3.Error, OSError: nothing of the plan is stored.
        """
        if plan.sources:
            first_row = plan.counters.next_row - sum(map(_length, plan.sources))
            self._segments.write(first_row, self._stored_vectors(plan.sources))
        if durable:
            self._segments.sync()
        self._set_synchronous("FULL" if durable else "NORMAL")
        with schema_sql.transaction(self._connection):
            self._write_items(plan)
            self._write_log(plan)

    def begin_compaction(self, segments: VectorSegments) -> Compaction:
        """``segments``: where the new rows go."""
        self._connection.execute(schema_sql.DROP_STAGED)
        self._connection.execute(schema_sql.MAKE_STAGED)
        return Compaction(self._connection, self._segments, segments, version=self._version)

    def switch_to(self, compaction: Compaction, encoded_version: str) -> None:
        """From now on items have the rows that the compaction gave them."""
        compaction.segments.sync()
        self._set_synchronous("FULL")
        with schema_sql.transaction(self._connection):
            for statement in schema_sql.SWITCH_TO_STAGED:
                self._connection.execute(statement)
            self._connection.execute(schema_sql.UPDATE_VERSION, [encoded_version, compaction.n_rows, self._version])
        self._segments = compaction.segments

    def drop_staged(self) -> None:
        """What a compaction that came to no end has left."""
        schema_sql.roll_back(self._connection)
        self._connection.execute(schema_sql.DROP_STAGED)

    def write_schema(self, encoded: str) -> None:
        self._set_synchronous("FULL")
        with schema_sql.transaction(self._connection):
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
        """Sync the vectors, then fold the log into the database, so that no row in it names unsynced vectors.

        False where a reader of an older moment kept part of the log.
        """
        self._segments.sync()
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

    def _read_standing(self, ids: Sequence[StoredId]) -> dict[StoredId, Standing]:
        rows = schema_sql.select_in(self._connection, schema_sql.READ_STANDING, ids, before=[self._version])
        return {
            stored_id: Standing(key, text_hash, attributes, RowRange(first_row, n_rows))
            for stored_id, key, text_hash, attributes, first_row, n_rows in rows
        }

    def _read_seen(self, request_ids: Sequence[str]) -> dict[str, WriteOutcome]:
        rows = schema_sql.select_in(self._connection, schema_sql.READ_REQUESTS, request_ids)
        return {
            request_id: WriteOutcome(sequence, (), deleted=deleted, replayed=True, reply=reply)
            for request_id, sequence, deleted, reply in rows
        }

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
        write = self._connection.executemany
        deleted, version = plan.deleted_keys(), self._version
        write(schema_sql.DELETE_EMBEDDING, [(version, key) for key in deleted])
        write(schema_sql.DELETE_ITEM, [(key,) for key in deleted])
        write(schema_sql.WRITE_ITEM, plan.item_rows())
        write(
            schema_sql.WRITE_EMBEDDING,
            [(version, key, rows.first_row, rows.n_rows) for key, rows in plan.moved_items()],
        )

    def _write_log(self, plan: GroupPlan) -> None:
        counters = plan.counters
        self._connection.executemany(schema_sql.WRITE_CHANGE, plan.log)
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
            [(request_id, outcome.sequence, outcome.deleted, outcome.reply) for request_id, outcome in requests],
        )
        self._connection.execute(schema_sql.PRUNE_REQUESTS, [self._limits.requests_kept])

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


def _op_id(codec: ItemCodec, op: UpsertOp | DeleteOp) -> StoredId:
    return to_stored_id(op.id if isinstance(op, DeleteOp) else op.item.id, codec.id_type)
