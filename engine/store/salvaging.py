"""A database that SQLite cannot read whole, copied row by row into a fresh one; what cannot be read is left out."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from engine.store import schema_sql
from engine.store.codec import ItemCodec
from engine.store.folders import DATABASE_NAME, sync_file, sync_folder
from engine.store.inspecting import READ_SCHEMA, TROUBLE, Frame, columns_of, opened, read_counters, read_id
from engine.store.verifying import SALVAGED, SALVAGING
from engine.store.writes import ChangeKind
from engine.types import ItemId

_FAILURES = 400_000
"""Reads that may fail in one table before the rest of it is given up: some seconds."""
_ASKED_PER_SEEN = 10
_ASKED_AT_LEAST = 100_000
"""So many keys are asked for one by one, beside ten for each row that was found."""
_LARGEST_KEY = 1 << 40
_SUFFIXES = ("", "-wal")

Row = tuple[Any, ...]


class _Table(NamedTuple):
    name: str
    key: str


_TABLES = (
    _Table("items", "key"),
    _Table("embeddings", "item_key"),
    _Table("changes", "sequence"),
    _Table("requests", "number"),
    _Table("fresh_rows", "first_row"),
)


@dataclass(slots=True)
class Salvage:
    """``kept``: rows by table. ``partial``: what could be read of an item, by column, of those that are not kept.
    ``lost_ids``: of items that the change log knows of and that are neither.
    """

    kept: dict[str, int] = field(default_factory=dict)
    partial: list[dict[str, Any]] = field(default_factory=list)
    lost_ids: list[ItemId] = field(default_factory=list)


def salvage(folder: Path, frame: Frame) -> Salvage:
    """Write all that can be read of the database to a fresh one beside it, whole and synced; see ``take_over``.

    Raises:
        sqlite3.Error, OSError: the fresh one cannot be written.
    """
    making = folder / SALVAGING
    _remove(making)
    done = Salvage()
    with opened(folder / DATABASE_NAME) as source, closing(schema_sql.open_writer(making)) as target:
        schema_sql.create_tables(target, frame.schema.id_type)
        with schema_sql.transaction(target):
            _copy_frame(source, target)
            for table in _TABLES:
                _copy_readable(source, target, table, frame, done)
            done.lost_ids = _lost_ids(target, ItemCodec(frame.schema), done)
        target.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sync_file(making)
    making.rename(folder / SALVAGED)
    sync_folder(folder)
    return done


def take_over(folder: Path, stamp: str) -> str:
    """Put the salvaged database in the place of the damaged one; the name under which that is kept.

    Done again after a crash, it ends what it began.
    """
    kept = f"{DATABASE_NAME}.damaged-{stamp}"
    for suffix in _SUFFIXES:
        found = folder / f"{DATABASE_NAME}{suffix}"
        if found.exists():
            found.rename(folder / f"{kept}{suffix}")
    (folder / f"{DATABASE_NAME}-shm").unlink(missing_ok=True)
    sync_folder(folder)
    (folder / SALVAGED).rename(folder / DATABASE_NAME)
    sync_folder(folder)
    return kept


def readable(connection: sqlite3.Connection, statement: str, low: int, high: int, unread: list[int]) -> Iterator[Row]:
    """Rows whose key, their first column, lies in [low, high]; keys at which reading fails go to ``unread``.

    A range that cannot be read to its end is read on in two halves.
    """
    pending, failures = [(low, high)], 0
    while pending and failures < _FAILURES:
        start, end = pending.pop()
        last = start - 1
        try:
            for row in connection.execute(statement, [start, end]):
                if not last < row[0] <= end:
                    raise sqlite3.DatabaseError("keys out of their order")
                last = row[0]
                yield row
        except TROUBLE:
            failures += 1
            start = last + 1
            middle = (start + end) // 2
            if start == end:
                unread.append(start)
            elif start < end:
                pending += [(middle + 1, end), (start, middle)]


def _copy_frame(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """The two tables of one row; counters are set right once the rest is known."""
    (schema,) = source.execute(READ_SCHEMA).fetchone()
    target.execute(schema_sql.INSERT_META, [schema])
    target.execute(schema_sql.UPDATE_COUNTERS, [max(0, one) for one in read_counters(source)])
    ((number, version, next_row),) = source.execute(schema_sql.READ_VERSIONS).fetchall()
    target.execute(schema_sql.INSERT_VERSION, [number, version])
    target.execute(schema_sql.UPDATE_NEXT_ROW, [next_row, number])


def _copy_readable(
    source: sqlite3.Connection, target: sqlite3.Connection, table: _Table, frame: Frame, done: Salvage
) -> None:
    columns = _common_columns(source, target, table.name)
    done.kept[table.name] = 0
    if table.key not in columns:
        return
    columns = [table.key, *(one for one in columns if one != table.key)]
    which = f"version = {frame.number}" if "version" in columns else "true"
    select = f"SELECT {', '.join(columns)} FROM {table.name} WHERE {which}"
    insert, unread = _insert(table.name, columns), list[int]()
    for row in _rows(source, select, table, _highest(source, table, frame), unread):
        try:
            target.execute(insert, row)
            done.kept[table.name] += 1
        except TROUBLE:
            # A value that the column does not take, or an id that there is already.
            if table.name == "items":
                done.partial.append(dict(zip(columns, row, strict=True)))
    if table.name == "items":
        done.partial += _partial_items(source, columns, unread)


def _rows(source: sqlite3.Connection, select: str, table: _Table, high: int, unread: list[int]) -> Iterator[Row]:
    """Each row once: by ranges up to ``high``, then what these passed over, as where keys of a page are in disorder."""
    seen: dict[int, int] = {}
    yielded: set[int] = set()
    bounded = f"{select} AND {table.key} BETWEEN ? AND ? ORDER BY {table.key}"
    whole = f"{select} AND +{table.key} BETWEEN ? AND ?"
    everything = (-(1 << 63), (1 << 63) - 1)

    def asked_again() -> Iterator[Row]:
        yield from _until_failure(source, whole, everything)
        yield from _until_failure(source, bounded, (high + 1, everything[1]))
        yield from _until_failure(source, bounded, (everything[0], -1))
        for key in range(min(high, _ASKED_PER_SEEN * len(seen) + _ASKED_AT_LEAST) + 1):
            if key not in seen:
                yield from _until_failure(source, bounded, (key, key))

    for row in chain(readable(source, bounded, 0, high, unread), asked_again()):
        # A key that was changed may be another's: both rows are told, and the caller keeps what it can.
        if seen.setdefault(row[0], hash(row)) != hash(row) or row[0] not in yielded:
            yielded.add(row[0])
            yield row
    unread[:] = [key for key in unread if key not in seen]


def _until_failure(source: sqlite3.Connection, statement: str, bounds: tuple[int, int]) -> Iterator[Row]:
    with suppress(*TROUBLE):
        yield from source.execute(statement, bounds)


def _highest(source: sqlite3.Connection, table: _Table, frame: Frame) -> int:
    """The highest key that the table may well have."""
    sequence, _, next_key = read_counters(source)
    noted = {"items": next_key, "embeddings": next_key, "changes": sequence, "fresh_rows": frame.next_row}
    return max(0, *(one for one in (noted.get(table.name, 0), _found_highest(source, table)) if one < _LARGEST_KEY))


def _found_highest(source: sqlite3.Connection, table: _Table) -> int:
    try:
        return int(source.execute(f"SELECT max({table.key}) FROM {table.name}").fetchone()[0] or 0)
    except TROUBLE:
        return 0


def _partial_items(source: sqlite3.Connection, columns: Sequence[str], keys: Sequence[int]) -> Iterator[dict[str, Any]]:
    for key in keys:
        found: dict[str, Any] = {}
        for column in columns[1:]:
            try:
                for (value,) in source.execute(f"SELECT {column} FROM items WHERE key = ?", [key]):
                    found[column] = value
            except TROUBLE:
                break
        if "id" in found:
            yield {"key": key, **found}


def _lost_ids(target: sqlite3.Connection, codec: ItemCodec, done: Salvage) -> list[ItemId]:
    """By the entries of the change log that could be read."""
    known = {row[0] for row in target.execute("SELECT id FROM items")} | {one.get("id") for one in done.partial}
    last = dict(target.execute("SELECT id, kind FROM changes ORDER BY sequence"))
    return [read_id(codec, one) for one, kind in last.items() if kind == ChangeKind.UPSERT and one not in known]


def _common_columns(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> list[str]:
    there = columns_of(source, table)
    return [one for one in columns_of(target, table) if one in there]


def _insert(table: str, columns: Sequence[str]) -> str:
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"


def _remove(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        Path(os.fspath(database) + suffix).unlink(missing_ok=True)
