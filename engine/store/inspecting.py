"""What a collection's database says, read with distrust: all of it is looked at, nothing is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engine.dtypes import numpy_dtype
from engine.errors import EngineError
from engine.items import validate_attributes
from engine.store import schema_sql
from engine.store.codec import ItemCodec, StoredId, decode_schema, decode_times, decode_version, from_stored_id
from engine.store.damage import Fault, FaultKind
from engine.store.folders import DATABASE_NAME
from engine.store.writes import ChangeKind
from engine.types import Schema, StoredItem, Times, VersionInfo

TROUBLE = (
    sqlite3.Error,
    EngineError,
    OSError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading and decoding bytes that nobody wrote may raise."""

READ_COUNTERS = "SELECT sequence, item_count, next_key FROM meta"
READ_SCHEMA = "SELECT schema FROM meta"
ITEM_COLUMNS = ("id", "sequence", "attributes", "text", "visible_from", "expires_at")
_SCAN_LAST = "SELECT coalesce(max(sequence), 0) FROM changes"
_SCAN_CHANGES = "SELECT sequence, kind, id FROM changes"
_FIRST_FORMAT = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_IN_FIRST = ("meta.settled", "items.visible_from", "items.expires_at", "fresh_rows.first_row", "fresh_rows.vectors")
_META_CHECK = "CHECK (one = 1)"
_READ_TABLES = ("meta", "versions", "items", "embeddings", "changes", "requests", "fresh_rows")
_INDEX_WORDS = ("missing from index", "wrong # of entries in index", "non-unique entry in index")

RANGES = np.dtype([("first_row", np.int64), ("n_rows", np.int64), ("key", np.int64)])
Ranges = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a collection cannot be read without. ``number``: its version's, in the tables."""

    schema: Schema
    number: int
    version: VersionInfo
    next_row: int

    @property
    def row_bytes(self) -> int:
        return self.version.dimension * numpy_dtype(self.version.dtype).itemsize


@dataclass(slots=True)
class Contents:
    """Of all items. ``keys`` int64 [n], ascending; ``unreadable``: why, by key; ``ranges`` by first row, of ``RANGES``;
    ``logged``: (first row, bytes) of the rows in the log; ``last``: the highest sequence that anything has.
    ``wrong_changes``: sequences of entries of the change log that cannot be read; ``n_missing_changes``: how many are
    not there between its first entry and its end.
    """

    keys: npt.NDArray[np.int64]
    unreadable: dict[int, str]
    ranges: Ranges
    logged: list[tuple[int, int]]
    counters: tuple[int, int, int]
    last: int
    wrong_changes: list[int] = field(default_factory=list)
    n_missing_changes: int = 0


@contextmanager
def opened(database: Path) -> Iterator[sqlite3.Connection]:
    """The database, read only, with whatever its log holds; text that is no UTF-8 is read all the same.

    Raises:
        sqlite3.Error: it cannot be opened.
    """
    log = database.with_name(f"{database.name}-wal")
    has_log = log.is_file() and log.stat().st_size > 0
    # Without a log SQLite would make an empty one even to read.
    how = "mode=ro" if has_log else "mode=ro&immutable=1"
    with closing(sqlite3.connect(f"{database.absolute().as_uri()}?{how}", uri=True)) as connection:
        connection.text_factory = any_text
        yield connection


def integrity(connection: sqlite3.Connection) -> Fault | None:
    """What SQLite's own check of the whole database finds."""
    try:
        told = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
    except TROUBLE as error:
        return Fault(FaultKind.DATABASE_DAMAGED, DATABASE_NAME, str(error))
    if told == ["ok"]:
        return None
    is_index = all(any(word in one for word in _INDEX_WORDS) for one in told)
    kind = FaultKind.INDEX_DAMAGED if is_index else FaultKind.DATABASE_DAMAGED
    more = f" and {len(told) - 1} more" if len(told) > 1 else ""
    return Fault(kind, DATABASE_NAME, " ".join(told[0].split()) + more)


def read_frame(connection: sqlite3.Connection) -> Frame | Fault:
    try:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    except TROUBLE as error:
        return Fault(FaultKind.DATABASE_UNREADABLE, DATABASE_NAME, str(error))
    if found not in (_FIRST_FORMAT, schema_sql.FORMAT):
        return Fault(FaultKind.FORMAT_UNKNOWN, DATABASE_NAME, f"format {found}, not {schema_sql.FORMAT}")
    if lacks := _lacking_columns(connection, is_first=found == _FIRST_FORMAT):
        return Fault(FaultKind.TABLES_UNREADABLE, DATABASE_NAME, lacks)
    try:
        ((encoded,),) = connection.execute(READ_SCHEMA).fetchall()
        schema = decode_schema(clean(encoded))
        assert_known(schema.id_type, ("string", "uint64"))
        ItemCodec(schema)
    except TROUBLE as error:
        return Fault(FaultKind.SCHEMA_UNREADABLE, "meta", told(error))
    try:
        ((number, encoded, next_row),) = connection.execute(schema_sql.READ_VERSIONS).fetchall()
        frame = Frame(schema, number, decode_version(clean(encoded)), next_row)
        assert_known(frame.version.dtype, ("float16", "bfloat16", "float32"))
        if not (0 < frame.row_bytes < 1 << 31 and next_row >= 0 and frame.version.generation >= 0):
            raise ValueError(f"dimension {frame.version.dimension}, next row {next_row}")
        clean(frame.version.id)
    except TROUBLE as error:
        return Fault(FaultKind.VERSION_UNREADABLE, "versions", told(error))
    return frame


def read_contents(connection: sqlite3.Connection, frame: Frame) -> Contents:
    """
    Raises:
        One of ``TROUBLE``: a page cannot be read.
    """
    _check_meta(connection)
    codec = ItemCodec(frame.schema)
    keys: list[int] = []
    unreadable: dict[int, str] = {}
    last = int(connection.execute(_SCAN_LAST).fetchone()[0])
    for key, *rest in connection.execute(f"SELECT key, {item_columns(connection)} FROM items ORDER BY key"):
        keys.append(key)
        try:
            last = max(last, read_item(codec, *rest).sequence)
        except TROUBLE as error:
            unreadable[key] = told(error)
    ranges = np.fromiter(connection.execute(schema_sql.READ_EMBEDDINGS, [frame.number]), RANGES)
    counters = read_counters(connection)
    return Contents(
        np.array(keys, np.int64),
        unreadable,
        ranges[np.argsort(ranges["first_row"], kind="stable")],
        _logged(connection),
        counters,
        last,
        *_read_changes(connection, codec, counters[0]),
    )


def read_counters(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Sequence, items and next key; -1 for one that is no number."""
    sequence, item_count, next_key = (
        one if isinstance(one, int) else -1 for one in connection.execute(READ_COUNTERS).fetchone()
    )
    return sequence, item_count, next_key


def item_columns(connection: sqlite3.Connection) -> str:
    """``ITEM_COLUMNS`` for a statement; of those that an earlier format lacks, NULL."""
    there = columns_of(connection, "items")
    return ", ".join(name if name in there else "NULL" for name in ITEM_COLUMNS)


def read_item(
    codec: ItemCodec,
    stored_id: StoredId,
    sequence: int,
    attributes: str,
    text: str,
    visible_from: int | None,
    expires_at: int | None,
) -> StoredItem:
    """
    Raises:
        One of ``TROUBLE``: it is not what was written.
    """
    item_id = read_id(codec, stored_id)
    decoded = codec.decode_attributes(clean(attributes))
    validate_attributes(decoded, codec.schema, "item")
    times = read_times(visible_from, expires_at)
    return StoredItem(item_id, int(sequence), read_text(codec, text), decoded, times=times)


def read_id(codec: ItemCodec, stored_id: StoredId) -> int | str:
    kind = int if codec.id_type == "uint64" else str
    if not isinstance(stored_id, kind):
        raise TypeError(f"id is {stored_id!r}, not a {codec.id_type}")
    if isinstance(stored_id, str):
        clean(stored_id)
    return from_stored_id(stored_id)


def read_text(codec: ItemCodec, text: str) -> dict[str, str]:
    decoded = codec.decode_text(clean(text))
    for name, value in decoded.items():
        assert_known(name, [one.name for one in codec.schema.text_fields])
        if not isinstance(value, str):
            raise TypeError(f"text {name} is {value!r}")
    return decoded


def read_times(visible_from: int | None, expires_at: int | None) -> Times:
    for micros in (visible_from, expires_at):
        if micros is not None:
            # One that is no time of the calendar raises.
            _EPOCH + timedelta(microseconds=micros)
    return decode_times(visible_from, expires_at)


def clean(text: str) -> str:
    """The text, if it is UTF-8 and has no NUL."""
    text.encode()
    if "\0" in text:
        raise ValueError("text holds a NUL")
    return text


def assert_known(found: object, known: object) -> None:
    if found not in known:  # type: ignore[operator]
        raise ValueError(f"{found!r} is none of {known}")


def told(error: BaseException) -> str:
    return (
        str(error) if isinstance(error, EngineError | sqlite3.Error | OSError) else f"{type(error).__name__}: {error}"
    )


def any_text(raw: bytes) -> str:
    """For ``text_factory``: what is no UTF-8 too."""
    return raw.decode("utf-8", "surrogateescape")


def _check_meta(connection: sqlite3.Connection) -> None:
    """What SQLite holds against whoever writes, and overlooks when it reads."""
    (noted,) = connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'meta'").fetchone()
    if _META_CHECK not in noted or connection.execute("SELECT one FROM meta").fetchone() != (1,):
        raise ValueError("the constraint of table meta is damaged or does not hold")


def _lacking_columns(connection: sqlite3.Connection, *, is_first: bool) -> str:
    """The columns that tables should have and do not: what is noted of them may be damaged, as anything else."""
    lacks: list[str] = []
    with closing(sqlite3.connect(":memory:")) as fresh:
        schema_sql.create_tables(fresh, "string")
        for table in _READ_TABLES:
            there = columns_of(connection, table)
            lacks += [f"{table}.{one}" for one in columns_of(fresh, table) if one not in there]
    names = [one for one in lacks if not (is_first and one in _NOT_IN_FIRST)]
    return f"no column {', '.join(names)}" if names else ""


def columns_of(connection: sqlite3.Connection, table: str) -> list[str]:
    try:
        return [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    except TROUBLE:
        return []


def _logged(connection: sqlite3.Connection) -> list[tuple[int, int]]:
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found == _FIRST_FORMAT:
        return []
    return connection.execute("SELECT first_row, length(vectors) FROM fresh_rows ORDER BY first_row").fetchall()


def _read_changes(connection: sqlite3.Connection, codec: ItemCodec, last: int) -> tuple[list[int], int]:
    """The entries that cannot be read, and how many are missing; ``last``: the sequence that the log should reach."""
    wrong: list[int] = []
    found: list[int] = []
    for sequence, kind, stored_id in connection.execute(_SCAN_CHANGES):
        found.append(sequence)
        try:
            ChangeKind(kind)
            read_id(codec, stored_id)
        except TROUBLE:
            wrong.append(sequence)
    if not found:
        return wrong, 0
    end = max(found)
    return wrong, max(end, last) - min(found) + 1 - len(set(found))
