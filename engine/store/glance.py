"""What a collection's folder says of its version, read beside whatever server has it open."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from engine.errors import CorruptData
from engine.store import schema_sql
from engine.store.codec import decode_version
from engine.store.faults import open_faults
from engine.store.folders import DATABASE_NAME
from engine.types import VersionInfo


def glance(folder: Path) -> tuple[VersionInfo, int]:
    """The version and its rows written so far, live or not. Checkpoints nothing, as closing a store would.

    Raises:
        CorruptData: it is no collection, or of another format.
        Unavailable: the disk refused.
    """
    database = folder / DATABASE_NAME
    if not database.is_file():
        raise CorruptData(f"{folder} has no {DATABASE_NAME}", path=folder)
    with (
        open_faults(f"reading {folder.name}"),
        closing(sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)) as connection,
    ):
        schema_sql.check_format(connection)
        _, version, n_rows = connection.execute(schema_sql.READ_VERSIONS).fetchone()
        return decode_version(version), int(n_rows)
