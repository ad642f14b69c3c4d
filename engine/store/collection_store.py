"""A collection on disk: items and change log in SQLite, vectors in segments, written in one order. Knows no index."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from engine.backend.protocol import SEGMENT_ROWS
from engine.dtypes import to_float32
from engine.errors import CorruptData, InvalidArgument, VersionNotFound
from engine.item_columns import ColumnsChange
from engine.store import schema_sql
from engine.store.codec import ItemCodec, decode_schema, decode_version, encode_schema, encode_version
from engine.store.compaction import CommittedGroup, Compaction
from engine.store.faults import open_faults, write_faults
from engine.store.folders import DATABASE_NAME, made_aside, sync_folder, withdraw
from engine.store.rankers import place_ranker, ranker_folder, remove_other_rankers
from engine.store.rankers import ranker_files as stored_ranker_files
from engine.store.reading import FoundItem, StoreReader
from engine.store.segments import VectorSegments
from engine.store.snapshots import Moment
from engine.store.standing import Counters
from engine.store.writes import Change, LiveRow, LoggedChange, WriteOutcome, WriteRequest
from engine.store.writing import StoreLimits, StoreWriter, row_numbers
from engine.types import AttributeSpec, ItemId, Schema, StoredItem, Times, VersionInfo

_log = logging.getLogger(__name__)

_FIRST_VERSION = 1
_DEFAULT_LIMITS = StoreLimits()


class CollectionStore:
    """One collection's folder. commit, sync, add_attribute, close and abandon belong to one thread; all else to any.

    The vectors of a small group are in the log beside the items that name them, until the segments are synced; those of
    a large one are synced before they are named. A group with a durable request syncs the log; any other leaves it to
    the kernel, which keeps it when the process dies. So a power cut takes whole groups, the last ones, and none that
    was durable.
    """

    def __init__(self, folder: Path, connection: sqlite3.Connection, limits: StoreLimits) -> None:
        """Use ``open`` or ``create``."""
        schema_sql.upgrade(connection)
        schema_sql.check_format(connection)
        schema_sql.require_writable(connection)
        database = folder / DATABASE_NAME
        schema, self._counters = _read_meta(connection)
        self._number, self._version, next_row = _read_version(connection)
        self._counters = replace(self._counters, next_row=next_row)
        self._codec = ItemCodec(schema)
        self._folder = folder
        self._segments = _segments_of(folder, self._version)
        self._writer = StoreWriter(connection, self._segments, database=database, limits=limits, version=self._number)
        self._writer.drop_staged()
        self._writer.restore_fresh()
        self._segments.verify(next_row)
        _remove_other_generations(folder, self._version)
        remove_other_rankers(folder, _ranker_version(schema))
        self._reader = StoreReader(database, self._codec)
        self._compaction: Compaction | None = None
        # Held while rows are looked up and their vectors read, and while all items get other rows.
        self._rows_stay = threading.Lock()
        self._is_closed = False

    @classmethod
    def create(
        cls,
        folder: Path,
        schema: Schema,
        version: VersionInfo,
        *,
        limits: StoreLimits = _DEFAULT_LIMITS,
        ranker_files: Mapping[str, Path] = MappingProxyType({}),
    ) -> CollectionStore:
        """Make ``folder`` and open it. A crash leaves either nothing of that name or all of it.

        ``ranker_files``: those of the schema's pipeline, which are copied.

        Raises:
            CollectionExists: the folder is there already.
            ReadOnly, Unavailable: the disk refused.
        """
        with write_faults(f"creating {folder.name}"), made_aside(folder) as aside:
            version_folder(aside, version).mkdir(parents=True)
            _create_database(aside / DATABASE_NAME, schema, version)
            if schema.pipeline is not None:
                place_ranker(aside, schema.pipeline.ranker_version, ranker_files)
        try:
            return cls.open(folder, limits=limits)
        except BaseException:
            withdraw(folder)
            raise

    @classmethod
    def open(cls, folder: Path, *, limits: StoreLimits = _DEFAULT_LIMITS) -> CollectionStore:
        """
        Raises:
            CorruptData: something is missing or damaged; the message says what.
            Unavailable: the disk refused.
        """
        database = folder / DATABASE_NAME
        if not database.is_file():
            raise CorruptData(f"{folder} has no {DATABASE_NAME}", path=folder)
        with open_faults(f"opening {folder.name}"):
            connection = schema_sql.open_writer(database)
            try:
                return cls(folder, connection, limits)
            except BaseException:
                connection.close()
                raise

    @property
    def schema(self) -> Schema:
        return self._codec.schema

    @property
    def versions(self) -> tuple[VersionInfo, ...]:
        """The active one first."""
        return (self._version,)

    @property
    def sequence(self) -> int:
        """Of the last committed change; 0 before the first."""
        return self._counters.sequence

    @property
    def item_count(self) -> int:
        return self._counters.item_count

    def row_count(self, version_id: str) -> int:
        """The next row to be written: rows [0, row_count) have been, live or not."""
        self._check_version(version_id)
        return self._counters.next_row

    def segments(self, version_id: str) -> VectorSegments:
        self._check_version(version_id)
        return self._segments

    def commit(self, requests: Sequence[WriteRequest]) -> list[WriteOutcome]:
        """Apply a group in order, in one transaction: all of it or, where this raises, nothing.

        Raises:
            InvalidArgument: an operation does not fit the schema.
            ReadOnly: the disk is full, read-only or failing; a later commit works when the disk does.
        """
        durable = any(request.durable for request in requests)
        with write_faults("commit"):
            plan = self._writer.plan(self._codec, self._counters, requests)
            outcomes = [plan.add(request) for request in requests]
            if not plan.is_empty:
                self._writer.write(plan, durable=durable)
            elif durable:
                # What the request repeats may not have been durable when it was written, and a transaction that
                # changes nothing syncs nothing.
                self._writer.sync()
        self._counters = plan.counters
        if self._compaction is not None and not plan.is_empty:
            changes = [change for outcome in outcomes for change in outcome.changes]
            self._compaction.note(CommittedGroup(changes, list(plan.moved_items()), plan.deleted_keys()))
        self._writer.checkpoint_if_due()
        return outcomes

    def sync(self) -> None:
        """Make all that is committed survive power loss, however it was committed.

        Raises:
            ReadOnly: the disk refused.
        """
        with write_faults("syncing"):
            self._writer.sync()

    def hold_moment(self) -> Moment:
        """What is committed now, to be written to a snapshot by any thread; the caller releases it.

        Raises:
            ReadOnly: the disk refused.
        """
        with write_faults("beginning a snapshot"):
            connection = schema_sql.open_reader(self._folder / DATABASE_NAME)
            # A transaction of a reader sees what it first read for as long as it lasts.
            connection.execute("BEGIN")
            connection.execute(schema_sql.READ_META).fetchone()
        rows = self._counters.next_row
        return Moment(
            connection,
            self.schema,
            self._version,
            self.sequence,
            self.item_count,
            rows,
            self._segments.row_bytes,
            SEGMENT_ROWS,
            self._segments.paths(rows),
            _images(self._segments.folder),
            stored_ranker_files(self._folder, _ranker_version(self.schema)),
        )

    def begin_compaction(self) -> Compaction:
        """Take note of every write from now on; see ``Compaction`` for the steps. One at a time.

        Raises:
            ReadOnly: the disk refused.
        """
        assert self._compaction is None
        segments = _segments_of(self._folder, _next_generation(self._version))
        with write_faults("beginning a compaction"):
            if segments.folder.exists():
                shutil.rmtree(segments.folder)
            segments.folder.mkdir()
            sync_folder(segments.folder.parent)
            self._compaction = self._writer.begin_compaction(segments)
        return self._compaction

    def finish_compaction(self) -> list[Change | ColumnsChange]:
        """Do the last groups again and switch, all in one; what they changed, in terms of the new rows.

        Writes plan over the new rows from now on. What lies in the old folder is the caller's to remove, with
        ``remove_old_rows``, once nobody asks for it any more.

        Raises:
            ReadOnly: the disk refused; the compaction is still to be finished or given up.
        """
        compaction = self._compaction
        assert compaction is not None
        version = _next_generation(self._version)
        with write_faults("switching to compacted rows"):
            changes: list[Change | ColumnsChange] = []
            while compaction.is_behind:
                changes += compaction.catch_up()
            with self._rows_stay:
                self._writer.switch_to(compaction, encode_version(version))
                old, self._segments, self._version = self._segments, compaction.segments, version
        self._counters = replace(self._counters, next_row=compaction.n_rows)
        self._compaction = None
        old.close()
        return changes

    def give_up_compaction(self) -> None:
        """Leave everything as it was; harmless where there is nothing to give up."""
        compaction, self._compaction = self._compaction, None
        if compaction is None:
            return
        compaction.segments.close()
        with write_faults("giving up a compaction"):
            self._writer.drop_staged()
        shutil.rmtree(compaction.segments.folder, ignore_errors=True)

    def remove_old_rows(self) -> None:
        """Give back the disk that earlier generations of the rows take."""
        _remove_other_generations(self._folder, self._version)

    def timed_rows(self) -> list[tuple[int, int, Times]]:
        """(first row, rows, times) of the items that are not seen at all times."""
        return self._reader.timed_rows(version=self._number)

    def expired(self, by: int, *, limit: int) -> list[ItemId]:
        """Some of the items that have expired by then, microseconds since 1970."""
        return self._reader.expired(by, limit=limit)

    def live_rows_of(self, ids: Sequence[ItemId]) -> list[LiveRow]:
        """Of the items that are there now, in no order."""
        return self._reader.live_rows_of(ids, version=self._number)

    def add_attribute(self, spec: AttributeSpec) -> Schema:
        """Append an attribute to the schema; items written before have no value of it.

        Raises:
            InvalidArgument: the schema has an attribute of that name.
            ReadOnly: the disk refused.
        """
        if self.schema.attribute(spec.name) is not None:
            raise InvalidArgument("attribute.name", f"the schema has an attribute {spec.name!r}", value=spec.name)
        return self.change_schema(replace(self.schema, attributes=(*self.schema.attributes, spec)))

    def change_schema(self, schema: Schema) -> Schema:
        """Go over to a schema that has all the attributes of the one before; from the commit lane alone.

        Raises:
            ReadOnly: the disk refused.
        """
        with write_faults("changing the schema"):
            self._writer.write_schema(encode_schema(schema))
        self._codec.extend(schema)
        return schema

    def place_ranker(self, version: str, files: Mapping[str, Path]) -> None:
        """Copy a ranker's files to where ``ranker_folder`` has them, for a schema that is to name it; any thread.

        Raises:
            ReadOnly: the disk refused; nothing is left.
        """
        place_ranker(self._folder, version, files)

    def ranker_folder(self, version: str) -> Path:
        return ranker_folder(self._folder, version)

    def text_hashes(self, ids: Sequence[ItemId]) -> dict[ItemId, bytes]:
        """Those of the items that exist."""
        return self._reader.text_hashes(ids)

    def get(self, ids: Sequence[ItemId], *, vectors: bool = False) -> list[StoredItem | None]:
        """In the order asked for, None for ids that do not exist."""
        with self._rows_stay if vectors else nullcontext():
            found = self._reader.items(ids, version=self._number)
            items = {item.id: item for item in self._stored_items(found, vectors=vectors)}
        return [items.get(item_id) for item_id in ids]

    def scroll(self, after: ItemId | None, *, limit: int, vectors: bool = False) -> list[StoredItem]:
        """The next items in ascending id: unsigned for ints, by UTF-8 bytes for strings."""
        with self._rows_stay if vectors else nullcontext():
            found = self._reader.scroll(after, limit=limit, version=self._number)
            return self._stored_items(found, vectors=vectors)

    def live_rows(self, version_id: str) -> Iterator[LiveRow]:
        """Ascending first row, as of one moment.

        Raises:
            CorruptData: items and rows contradict each other.
        """
        self._check_version(version_id)
        return self._reader.live_rows(version=self._number)

    def changes_after(self, sequence: int, *, limit: int) -> list[LoggedChange]:
        """The next entries of the change log.

        Raises:
            ChangesGone: some of them are kept no longer.
        """
        return self._reader.changes_after(sequence, limit=limit)

    def keep_changes_after(self, sequence: int | None) -> None:
        """What is later in the change log is needed until something else is said, from the next commit on.

        None: nothing is, but for the latest entries, which are kept in any case. All is until this is said first.
        """
        self._writer.change_log.needed_after = sequence

    def close(self) -> None:
        """Closing again does nothing.

        Raises:
            ReadOnly: the disk refused; what was committed is in the log still.
        """
        if self._is_closed:
            return
        self._reader.close()
        with write_faults("closing"):
            self._writer.close()
        self._is_closed = True

    def abandon(self) -> None:
        """Close what is about to be removed: nothing is folded or synced, so that a full disk does not prevent it."""
        if not self._is_closed:
            self._reader.close()
            self._writer.abandon()
            self._is_closed = True

    def _check_version(self, version_id: str) -> None:
        if version_id != self._version.id:
            raise VersionNotFound(self.schema.name, version_id)

    def _stored_items(self, found: Sequence[FoundItem], *, vectors: bool) -> list[StoredItem]:
        if not vectors:
            return [entry.item for entry in found]
        ranges = [entry.rows for entry in found]
        rows = to_float32(self._segments.take(row_numbers(ranges)), self._segments.dtype)
        ends = np.cumsum([entry.n_rows for entry in ranges], dtype=np.int64)
        return [
            replace(entry.item, vectors=rows[end - entry.rows.n_rows : end])
            for entry, end in zip(found, ends.tolist(), strict=True)
        ]


def version_folder(folder: Path, version: VersionInfo) -> Path:
    """Where a collection keeps the files of a version, in its generation."""
    name = f"{version.id}.{version.generation}" if version.generation else version.id
    return folder / "versions" / name


def _ranker_version(schema: Schema) -> str:
    return "" if schema.pipeline is None else schema.pipeline.ranker_version


def _images(folder: Path) -> list[Path]:
    """Files of the index images and row images that are whole."""
    lists = [(path, path.with_suffix(".faiss")) for path in sorted(folder.glob("ivfpq-*.json"))]
    rows = [(path, path.with_suffix(".image")) for path in sorted(folder.glob("rows-*.json"))]
    return [path for files in (*lists, *rows) for path in files if path.exists()]


def _segments_of(folder: Path, version: VersionInfo) -> VectorSegments:
    return VectorSegments(version_folder(folder, version), dimension=version.dimension, dtype=version.dtype)


def _next_generation(version: VersionInfo) -> VersionInfo:
    return replace(version, generation=version.generation + 1)


def _remove_other_generations(folder: Path, version: VersionInfo) -> None:
    """What compactions left behind; what the disk keeps all the same is tried again when the store is next opened."""
    kept = version_folder(folder, version)
    for found in kept.parent.glob(f"{version.id}*"):
        if found != kept and found.name.split(".")[0] == version.id:
            try:
                shutil.rmtree(found)
            except OSError as fault:
                _log.warning("%s: rows that nobody needs could not be removed: %s", found, fault)


def _create_database(path: Path, schema: Schema, version: VersionInfo) -> None:
    connection = schema_sql.open_writer(path)
    try:
        schema_sql.create_tables(connection, schema.id_type)
        with schema_sql.transaction(connection):
            connection.execute(schema_sql.INSERT_META, [encode_schema(schema)])
            connection.execute(schema_sql.INSERT_VERSION, [_FIRST_VERSION, encode_version(version)])
    finally:
        connection.close()


def _read_meta(connection: sqlite3.Connection) -> tuple[Schema, Counters]:
    schema, sequence, item_count, next_key = _only_row(connection, schema_sql.READ_META)
    (logged,) = connection.execute(schema_sql.READ_LAST_CHANGE).fetchone()
    if logged > sequence:
        raise CorruptData(f"the change log reaches {logged}, beyond the last sequence {sequence}")
    return decode_schema(schema), Counters(sequence, item_count, next_key, next_row=0)


def _read_version(connection: sqlite3.Connection) -> tuple[int, VersionInfo, int]:
    number, version, next_row = _only_row(connection, schema_sql.READ_VERSIONS)
    return number, decode_version(version), next_row


def _only_row(connection: sqlite3.Connection, statement: str) -> tuple[Any, ...]:
    rows = connection.execute(statement).fetchall()
    if len(rows) != 1:
        raise CorruptData(f"one row expected, {len(rows)} found: {statement}")
    row: tuple[Any, ...] = rows[0]
    return row
