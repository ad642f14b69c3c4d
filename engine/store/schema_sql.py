"""The tables of a collection's database, its statements, and how a connection is set up. Knows no item values."""

from __future__ import annotations

import functools
import itertools
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.errors import CorruptData
from engine.types import IdType

FORMAT = 2
"""Kept as the database's user_version; a store of another format is refused, but for 1, which is brought to this one:
it had no fresh_rows, no ``settled`` and no times."""

IDS_PER_STATEMENT = 512
_ROWS_PER_STATEMENT = 100

_CACHE_KIB = 32 * 1024
_ID_COLUMN_TYPE: dict[IdType, str] = {"uint64": "INTEGER", "string": "TEXT"}

_FRESH_ROWS = """CREATE TABLE fresh_rows (
    first_row INTEGER PRIMARY KEY,
    vectors BLOB NOT NULL
) STRICT"""
_EXPIRY = "CREATE INDEX items_expiry ON items (expires_at) WHERE expires_at IS NOT NULL"
_TIMED = "CREATE INDEX items_timed ON items (key) WHERE visible_from IS NOT NULL OR expires_at IS NOT NULL"
_FROM_1_TO_2 = (
    "ALTER TABLE meta ADD COLUMN settled INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE items ADD COLUMN visible_from INTEGER",
    "ALTER TABLE items ADD COLUMN expires_at INTEGER",
    _FRESH_ROWS,
    _EXPIRY,
    _TIMED,
)

_TABLES = """
CREATE TABLE meta (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    schema TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    item_count INTEGER NOT NULL,
    next_key INTEGER NOT NULL,
    settled INTEGER NOT NULL
) STRICT;
CREATE TABLE versions (
    number INTEGER PRIMARY KEY,
    version TEXT NOT NULL,
    next_row INTEGER NOT NULL
) STRICT;
CREATE TABLE items (
    key INTEGER PRIMARY KEY,
    id {id_type} NOT NULL UNIQUE,
    sequence INTEGER NOT NULL,
    text_hash BLOB NOT NULL,
    attributes TEXT NOT NULL,
    text TEXT NOT NULL,
    visible_from INTEGER,
    expires_at INTEGER
) STRICT;
{expiry};
{timed};
CREATE TABLE embeddings {embeddings};
CREATE TABLE changes (
    sequence INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    id {id_type} NOT NULL
) STRICT;
{fresh_rows};
CREATE TABLE requests (
    number INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL UNIQUE,
    sequence INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    reply BLOB NOT NULL
) STRICT;
"""

INSERT_META = "INSERT INTO meta VALUES (1, ?, 0, 0, 1, 0)"
INSERT_VERSION = "INSERT INTO versions (number, version, next_row) VALUES (?, ?, 0)"
READ_META = "SELECT schema, sequence, item_count, next_key FROM meta"
READ_VERSIONS = "SELECT number, version, next_row FROM versions ORDER BY number"
READ_NEXT_ROW = "SELECT next_row FROM versions WHERE number = ?"
READ_LAST_CHANGE = "SELECT coalesce(max(sequence), 0) FROM changes"
UPDATE_SCHEMA = "UPDATE meta SET schema = ?"
UPDATE_COUNTERS = "UPDATE meta SET sequence = ?, item_count = ?, next_key = ?"
SETTLE = "UPDATE meta SET settled = settled + 1"
UPDATE_NEXT_ROW = "UPDATE versions SET next_row = ? WHERE number = ?"

WRITE_ITEM = """
INSERT INTO items (key, id, sequence, text_hash, attributes, text, visible_from, expires_at) VALUES {rows}
ON CONFLICT (key) DO UPDATE SET sequence = excluded.sequence, text_hash = excluded.text_hash,
    attributes = excluded.attributes, text = excluded.text, visible_from = excluded.visible_from,
    expires_at = excluded.expires_at
"""
WRITE_EMBEDDING = """
INSERT INTO embeddings (version, item_key, first_row, n_rows) VALUES {rows}
ON CONFLICT (version, item_key) DO UPDATE SET first_row = excluded.first_row, n_rows = excluded.n_rows
"""
UPDATE_ITEM = """
UPDATE items SET sequence = ?, attributes = ?, visible_from = ?, expires_at = ? WHERE key = ?
"""
DELETE_ITEM = "DELETE FROM items WHERE key = ?"
DELETE_EMBEDDING = "DELETE FROM embeddings WHERE version = ? AND item_key = ?"
WRITE_CHANGE = "INSERT INTO changes (sequence, kind, id) VALUES {rows}"
WRITE_FRESH = "INSERT OR REPLACE INTO fresh_rows (first_row, vectors) VALUES (?, ?)"
FORGET_FRESH = "DELETE FROM fresh_rows"
WRITE_REQUEST = "INSERT INTO requests (request_id, sequence, deleted, reply) VALUES (?, ?, ?, ?)"
PRUNE_REQUESTS = "DELETE FROM requests WHERE number <= (SELECT max(number) FROM requests) - ?"

READ_STANDING = """
SELECT id, key, sequence, text_hash, attributes, first_row, n_rows, visible_from, expires_at
FROM items CROSS JOIN embeddings ON version = ? AND item_key = key WHERE id IN ({marks})
"""
ANY_BETWEEN = "SELECT 1 FROM items WHERE id BETWEEN ? AND ? LIMIT 1"
READ_REQUESTS = "SELECT request_id, sequence, deleted, reply FROM requests WHERE request_id IN ({marks})"
READ_TEXT_HASHES = "SELECT id, text_hash FROM items WHERE id IN ({marks})"
READ_ITEMS = """
SELECT id, sequence, text, attributes, first_row, n_rows, visible_from, expires_at
FROM items CROSS JOIN embeddings ON version = ? AND item_key = key WHERE id IN ({marks})
"""
_SCROLL = """
SELECT id, sequence, text, attributes, first_row, n_rows, visible_from, expires_at
FROM items CROSS JOIN embeddings ON version = ? AND item_key = key
"""
SCROLL_FROM_START = _SCROLL + "ORDER BY id LIMIT ?"
SCROLL_AFTER = _SCROLL + "WHERE id > ? ORDER BY id LIMIT ?"
READ_EMBEDDINGS = "SELECT first_row, n_rows, item_key FROM embeddings WHERE version = ?"
READ_EMBEDDINGS_AFTER = """
SELECT item_key, first_row, n_rows FROM embeddings WHERE version = ? AND item_key > ? ORDER BY item_key LIMIT ?
"""
READ_FRESH = "SELECT first_row, vectors FROM fresh_rows ORDER BY first_row"
READ_TEXTS = "SELECT id, text FROM items WHERE id IN ({marks})"
READ_LIVE = "SELECT key, id, sequence, attributes, NULL FROM items WHERE key IN ({marks})"
READ_LIVE_TEXTS = READ_LIVE.replace("NULL", "text")
READ_LIVE_BY_ID = """
SELECT id, first_row, n_rows, sequence, attributes, NULL
FROM items CROSS JOIN embeddings ON version = ? AND item_key = key WHERE id IN ({marks})
"""
READ_LIVE_TEXTS_BY_ID = READ_LIVE_BY_ID.replace("NULL", "text")
READ_TIMED = """
SELECT first_row, n_rows, visible_from, expires_at FROM items CROSS JOIN embeddings ON version = ? AND item_key = key
WHERE visible_from IS NOT NULL OR expires_at IS NOT NULL
"""
READ_EXPIRED = "SELECT id FROM items WHERE expires_at <= ? LIMIT ?"
READ_FIRST_CHANGE = "SELECT coalesce((SELECT min(sequence) FROM changes), (SELECT sequence + 1 FROM meta))"
FORGET_CHANGES = "DELETE FROM changes WHERE sequence <= ?"
READ_CHANGES = "SELECT sequence, kind, id FROM changes WHERE sequence > ? ORDER BY sequence LIMIT ?"

_EMBEDDINGS_COLUMNS = """(
    version INTEGER NOT NULL,
    item_key INTEGER NOT NULL,
    first_row INTEGER NOT NULL,
    n_rows INTEGER NOT NULL,
    PRIMARY KEY (version, item_key)
) STRICT, WITHOUT ROWID"""
MAKE_STAGED = f"CREATE TABLE staged {_EMBEDDINGS_COLUMNS}"
WRITE_STAGED = "INSERT OR REPLACE INTO staged (version, item_key, first_row, n_rows) VALUES (?, ?, ?, ?)"
DELETE_STAGED = "DELETE FROM staged WHERE version = ? AND item_key = ?"
DROP_STAGED = "DROP TABLE IF EXISTS staged"
SWITCH_TO_STAGED = ("DROP TABLE embeddings", "ALTER TABLE staged RENAME TO embeddings")
UPDATE_VERSION = "UPDATE versions SET version = ?, next_row = ? WHERE number = ?"
"""``staged``: where a compaction notes the rows that items will have; a crash leaves it to be dropped."""


def create_tables(connection: sqlite3.Connection, id_type: IdType) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    parts = {"embeddings": _EMBEDDINGS_COLUMNS, "fresh_rows": _FRESH_ROWS, "expiry": _EXPIRY, "timed": _TIMED}
    connection.executescript(_TABLES.format(id_type=_ID_COLUMN_TYPE[id_type], **parts))
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def open_writer(path: Path) -> sqlite3.Connection:
    """The one connection that writes. It never checkpoints by itself: vectors must be synced before."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=0)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def require_writable(connection: sqlite3.Connection) -> None:
    """What cannot be opened for writing SQLite opens for reading alone, without a word and for as long as it is open.

    Raises:
        sqlite3.OperationalError: that has happened.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(SETTLE)
    finally:
        roll_back(connection)


def open_reader(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA query_only = ON")
    return connection


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring a database of an earlier format to this one, all of it or nothing; others are left as they are."""
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != 1:
        return
    with transaction(connection):
        for statement in _FROM_1_TO_2:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {FORMAT}")


def check_format(connection: sqlite3.Connection) -> None:
    """
    Raises:
        CorruptData: another format, or damage in the tables that the store cannot be opened without.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found != FORMAT:
        raise CorruptData(f"store format is {found}, this engine reads {FORMAT}", found=found, expected=FORMAT)
    for table in ("meta", "versions"):
        (verdict,) = connection.execute(f"PRAGMA integrity_check('{table}')").fetchone()
        if verdict != "ok":
            raise CorruptData(f"table {table} is damaged: {verdict}")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of the block's writes or none."""
    roll_back(connection)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        roll_back(connection)
        raise


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction, if there is one: after some faults SQLite has rolled back by itself already."""
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def insert_many(connection: sqlite3.Connection, statement: str, rows: Iterable[Sequence[Any]]) -> None:
    """Run a statement with ``VALUES {rows}`` for all rows, many at a time.

    With ``executemany`` every row would give up the GIL, and wait for it where another thread is busy.
    """
    rest = iter(rows)
    while portion := list(itertools.islice(rest, _ROWS_PER_STATEMENT)):
        marks = _marks(len(portion), len(portion[0]))
        connection.execute(statement.format(rows=marks), [*itertools.chain.from_iterable(portion)])


@functools.cache
def _marks(n_rows: int, n_columns: int) -> str:
    return ",".join([f"({','.join('?' * n_columns)})"] * n_rows)


def select_in(
    connection: sqlite3.Connection, statement: str, keys: Sequence[int | str], *, before: Sequence[Any] = ()
) -> Iterator[Any]:
    """Rows of a statement with ``IN ({marks})``, for any number of keys; ``before`` are the parameters before them."""
    for start in range(0, len(keys), IDS_PER_STATEMENT):
        chunk = keys[start : start + IDS_PER_STATEMENT]
        marks = ",".join("?" * len(chunk))
        yield from connection.execute(statement.format(marks=marks), [*before, *chunk]).fetchall()


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """One moment of the database for all reads of the block."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        roll_back(connection)
