"""Snapshots of a collection: its database, vectors and index images as of one moment, in a folder with a manifest.

Written beside writes and searches: the database by SQLite's own backup of one moment, in slices; full segments and
images, which never change, as hard links where the disk allows. The manifest is written last: without one a folder is
no snapshot.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from engine.errors import CorruptData, SnapshotNotFound, Unavailable
from engine.files import file_sha256
from engine.store import schema_sql
from engine.store.codec import decode_schema, encode_schema
from engine.store.faults import write_faults
from engine.store.folders import DATABASE_NAME, made_aside, remove_leftovers
from engine.store.rankers import RANKERS
from engine.types import Schema, VersionInfo

Report = Callable[[str, float], None]
"""Told the stage, and how much of it is done, in [0, 1]; what it raises ends the work."""

MANIFEST = "manifest.json"
FORMAT = 1

_VECTORS = "vectors"
_BACKUP_PAGES = 256
_BACKUP_PAUSE_SECONDS = 0.001
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES})


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A file of a snapshot; ``inode``: of this machine, by which a link to the same content is known again."""

    path: str
    n_bytes: int
    sha256: str
    inode: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot holds. ``n_rows``: rows of the version, dead ones too."""

    id: str
    collection: str
    sequence: int
    created_micros: int
    items: int
    n_rows: int
    version: str
    generation: int
    files: tuple[SnapshotFile, ...]

    @property
    def n_bytes(self) -> int:
        return sum(file.n_bytes for file in self.files)

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, stored: Any) -> Manifest:
        """The inverse of ``to_json``.

        Raises:
            CorruptData: it is not what ``to_json`` gives, or of another format.
        """
        if not isinstance(stored, dict) or stored.get("format") != FORMAT:
            told = stored.get("format") if isinstance(stored, dict) else type(stored).__name__
            raise CorruptData(f"snapshot format: {told!r} where {FORMAT} is known")
        fields = {name: one for name, one in stored.items() if name != "format"}
        try:
            return cls(**fields | {"files": tuple(SnapshotFile(**file) for file in fields["files"])})
        except (KeyError, TypeError) as error:
            raise CorruptData(f"not a snapshot's manifest: {error!r}") from error


@dataclass(slots=True, eq=False)
class Moment:
    """A collection's content as of one committed sequence number, held until ``release``.

    ``connection`` reads that moment whatever is committed meanwhile. ``segments``: the files of rows [0, n_rows), whose
    rows have ``row_bytes`` bytes; ``images``: files of index images; ``rankers``: files of the ranker in use.
    """

    connection: sqlite3.Connection
    schema: Schema
    version: VersionInfo
    sequence: int
    items: int
    n_rows: int
    row_bytes: int
    segment_rows: int
    segments: Sequence[Path]
    images: Sequence[Path]
    rankers: Sequence[Path] = ()

    def release(self) -> None:
        """Let go of the moment: until then no log can be folded into the database beyond it."""
        self.connection.close()


def write_snapshot(root: Path, moment: Moment, *, report: Report = lambda stage, done: None) -> Manifest:
    """Write the moment to a new folder under ``root``, of the collection's name and the snapshot's id.

    Raises:
        ReadOnly: the disk refused; nothing is left.
    """
    created = time.time_ns() // 1000
    stamp = datetime.fromtimestamp(created / 1e6, UTC).strftime("%Y%m%dT%H%M%S%fZ")
    name = f"{stamp}-{moment.sequence}"
    folder = root / moment.schema.name / name
    remove_leftovers(folder.parent)
    known = {file.inode: file for one in list_snapshots(root, moment.schema.name)[:1] for file in one.files}
    with write_faults(f"writing snapshot {name}"), made_aside(folder) as aside:
        (aside / _VECTORS).mkdir()
        _back_up(moment.connection, aside / DATABASE_NAME, report)
        _place_vectors(moment, aside / _VECTORS)
        for image in moment.images:
            _link(image, aside / _VECTORS / image.name)
        for path in moment.rankers:
            kept = aside / RANKERS / path.parent.name
            kept.mkdir(parents=True, exist_ok=True)
            _link(path, kept / path.name)
        files = tuple(_described(aside, known, report))
        manifest = Manifest(
            name,
            moment.schema.name,
            moment.sequence,
            created,
            moment.items,
            moment.n_rows,
            moment.version.id,
            moment.version.generation,
            files,
        )
        (aside / MANIFEST).write_text(json.dumps(manifest.to_json(), indent=1), "utf-8")
    return manifest


def list_snapshots(root: Path, collection: str) -> list[Manifest]:
    """Those that have a readable manifest, the newest first."""
    found = []
    for path in (root / collection).glob(f"[!.]*/{MANIFEST}"):
        try:
            found.append(read_manifest(path.parent))
        except (CorruptData, Unavailable):
            continue
    return sorted(found, key=lambda one: (one.created_micros, one.id), reverse=True)


def read_manifest(folder: Path) -> Manifest:
    """
    Raises:
        SnapshotNotFound: there is none.
        CorruptData: it is damaged.
        Unavailable: the disk is failing.
    """
    path = folder / MANIFEST
    try:
        return Manifest.from_json(json.loads(path.read_text("utf-8")))
    except FileNotFoundError as error:
        raise SnapshotNotFound(str(folder)) from error
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error}", path=path) from error
    except ValueError as error:
        raise CorruptData(f"{path}: {error}", path=path) from error


def verify_snapshot(folder: Path, *, report: Report = lambda stage, done: None) -> Manifest:
    """Read every file and hold it to the manifest.

    Raises:
        SnapshotNotFound: there is none.
        CorruptData: a file is missing or is not the one that was written.
        Unavailable: the disk is failing.
    """
    manifest = read_manifest(folder)
    done = 0
    for file in manifest.files:
        path = folder / file.path
        report("verifying", done / max(manifest.n_bytes, 1))
        try:
            digest = file_sha256(path)
        except FileNotFoundError as error:
            raise CorruptData(f"snapshot {manifest.id}: {error}", path=path) from error
        except OSError as error:
            raise Unavailable(f"snapshot {manifest.id} cannot be read: {error}", path=path) from error
        if digest != file.sha256:
            raise CorruptData(f"snapshot {manifest.id}: {file.path} has sha256 {digest}, not {file.sha256}", path=path)
        done += file.n_bytes
    return manifest


def restore_snapshot(folder: Path, collection: Path, *, report: Report = lambda stage, done: None) -> Manifest:
    """Make the collection's folder from a snapshot, once all of it is verified; its name becomes the collection's.

    Raises:
        CollectionExists: the folder is there already.
        SnapshotNotFound, CorruptData: see ``verify_snapshot``.
        ReadOnly: the disk refused; nothing is left.
    """
    manifest = verify_snapshot(folder, report=report)
    name = f"{manifest.version}.{manifest.generation}" if manifest.generation else manifest.version
    with write_faults(f"restoring {collection.name}"), made_aside(collection) as aside:
        vectors = aside / "versions" / name
        vectors.mkdir(parents=True)
        for number, file in enumerate(manifest.files):
            report("restoring", number / len(manifest.files))
            source = folder / file.path
            if file.path == DATABASE_NAME:
                shutil.copyfile(source, aside / DATABASE_NAME)
            elif source.is_relative_to(folder / RANKERS):
                ranker = aside / RANKERS / source.parent.name
                ranker.mkdir(parents=True, exist_ok=True)
                _link(source, ranker / source.name)
            elif _is_last_segment(file, manifest.files):
                # It will be written to: a link would change the snapshot.
                shutil.copyfile(source, vectors / source.name)
            else:
                _link(source, vectors / source.name)
        _rename_collection(aside / DATABASE_NAME, collection.name)
    return manifest


def remove_old_snapshots(root: Path, collection: str, *, kept: int) -> list[str]:
    """Remove all but the newest so many; ids of those that went.

    Raises:
        ReadOnly: the disk refused.
    """
    old = [one.id for one in list_snapshots(root, collection)[kept:]]
    for one in old:
        with write_faults(f"removing snapshot {one}"):
            # The manifest goes first: what is left of a crash is no snapshot.
            (root / collection / one / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(root / collection / one)
    return old


def _back_up(source: sqlite3.Connection, path: Path, report: Report) -> None:
    def told(_: int, remaining: int, total: int) -> None:
        report("database", 1 - remaining / max(total, 1))

    with closing(sqlite3.connect(path)) as target:
        source.backup(target, pages=_BACKUP_PAGES, progress=told, sleep=_BACKUP_PAUSE_SECONDS)
        # One file: a log beside it would not be of the manifest.
        target.execute("PRAGMA journal_mode = DELETE")


def _place_vectors(moment: Moment, folder: Path) -> None:
    for number, path in enumerate(moment.segments):
        rows = min(moment.segment_rows, moment.n_rows - number * moment.segment_rows)
        if rows == moment.segment_rows:
            _link(path, folder / path.name)
        else:
            _copy_start(path, folder / path.name, rows * moment.row_bytes)


def _copy_start(source: Path, target: Path, n_bytes: int) -> None:
    with source.open("rb") as read, target.open("wb") as written:
        left = n_bytes
        while left:
            done = os.sendfile(written.fileno(), read.fileno(), None, left)
            if done == 0:
                raise OSError(errno.EIO, f"{source} ends before its last row")
            left -= done


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where there can be none."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)


def _described(folder: Path, known: Mapping[int, SnapshotFile], report: Report) -> Iterator[SnapshotFile]:
    """Every file in the folder; one that the snapshot before has too is not read again."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    for number, path in enumerate(paths):
        report("hashing", number / len(paths))
        told, name = path.stat(), path.relative_to(folder).as_posix()
        before = known.get(told.st_ino)
        is_same = before is not None and (before.path, before.n_bytes) == (name, told.st_size)
        digest = before.sha256 if before is not None and is_same else file_sha256(path)
        yield SnapshotFile(name, told.st_size, digest, told.st_ino)


def _is_last_segment(file: SnapshotFile, files: Sequence[SnapshotFile]) -> bool:
    segments = [one.path for one in files if one.path.endswith(".vec")]
    return file.path == max(segments, default=None)


def _rename_collection(database: Path, name: str) -> None:
    connection = schema_sql.open_writer(database)
    try:
        schema_sql.upgrade(connection)
        schema_sql.check_format(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        schema = decode_schema(connection.execute(schema_sql.READ_META).fetchone()[0])
        connection.execute(schema_sql.UPDATE_SCHEMA, [encode_schema(replace(schema, name=name))])
        # The vectors are in files that were verified.
        connection.execute(schema_sql.FORGET_FRESH)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        connection.close()
