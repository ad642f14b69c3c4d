"""Repairs of a collection that lose nothing which was not lost; each step leaves a store no worse than before."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.backend.protocol import SEGMENT_ROWS
from engine.errors import CorruptData
from engine.store import schema_sql
from engine.store.change_log import forget_before_gap
from engine.store.codec import ItemCodec, StoredId
from engine.store.collection_store import version_folder
from engine.store.damage import FaultKind
from engine.store.faults import write_faults
from engine.store.folders import DATABASE_NAME, make_folder, sync_file, sync_folder
from engine.store.inspecting import TROUBLE, Contents, Frame, any_text, opened, read_id, told
from engine.store.lost_items import Record, lost_records, partial_record
from engine.store.row_checks import logged_spans, missing_rows, wrong_logged
from engine.store.salvaging import Salvage, salvage, take_over
from engine.store.verdict import Verdict
from engine.store.verifying import SALVAGED, ReadImage, verify_collection
from engine.store.writes import ChangeKind

_FATAL = (
    FaultKind.DATABASE_UNREADABLE,
    FaultKind.FORMAT_UNKNOWN,
    FaultKind.TABLES_UNREADABLE,
    FaultKind.SCHEMA_UNREADABLE,
    FaultKind.VERSION_UNREADABLE,
)


@dataclass(slots=True)
class Repair:
    """``done``: what was, in the order it was done; ``lost``: what cannot be had back from here."""

    verdict: Verdict
    done: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def can_repair(verdict: Verdict) -> bool:
    """Whether there is something to repair, and what a repair needs is readable."""
    if verdict.has(FaultKind.DATABASE_MISSING):
        return (verdict.folder / SALVAGED).is_file()
    return not (all(one.is_of_ranker for one in verdict.faults) or verdict.has(*_FATAL))


def repair_collection(verdict: Verdict, *, beside: Path, stamp: str, read_image: ReadImage, record: Record) -> Repair:
    """Repair what was found and verify again. ``beside``: the folder for files of what is lost.

    Raises:
        ReadOnly: the disk refused; what was done so far stands, and can be gone on with.
        CorruptData: damage of a kind that nobody foresaw; the same.
    """
    assert can_repair(verdict)
    repair, files = Repair(verdict), _LostFiles(beside, verdict.collection, stamp)
    what = f"repairing {verdict.collection}"
    try:
        with write_faults(what):
            _repair(repair, files, record, lambda: verify_collection(verdict.folder, read_image=read_image))
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise CorruptData(f"{what} failed: {told(error)}; what it had done stands") from error
    repair.verdict = verify_collection(verdict.folder, read_image=read_image)
    return repair


def _repair(repair: Repair, files: _LostFiles, record: Record, verify: Callable[[], Verdict]) -> None:
    _remove_images(repair)
    _repair_database(repair, files, record, verify)
    _remove_unused(repair)
    frame, contents = repair.verdict.frame, repair.verdict.contents
    if frame is not None and contents is not None:
        _repair_rows(repair, frame, contents, files, record)
        _repair_segments(repair, frame, contents)


class _LostFiles:
    """Lines for people and for `ebr load`, on disk before what they tell of is removed."""

    def __init__(self, folder: Path, collection: str, stamp: str) -> None:
        self.stamp = stamp
        self.items = folder / f"lost-items-{collection}-{stamp}.jsonl"
        self.ids = folder / f"lost-ids-{collection}-{stamp}.txt"

    def write(self, path: Path, lines: Iterator[str]) -> int:
        count = 0
        make_folder(path.parent)
        with path.open("a", encoding="utf-8") as file:
            for line in lines:
                file.write(line + "\n")
                count += 1
        sync_file(path)
        sync_folder(path.parent)
        return count


def _repair_database(repair: Repair, files: _LostFiles, record: Record, verify: Callable[[], Verdict]) -> None:
    if repair.verdict.has(FaultKind.DATABASE_MISSING):
        take_over(repair.verdict.folder, files.stamp)
        repair.done.append("an earlier salvage of the database was brought to its end")
        repair.verdict = verify()
    if repair.verdict.has(FaultKind.INDEX_DAMAGED):
        _reindex(repair)
        repair.verdict = verify()
    if repair.verdict.has(FaultKind.DATABASE_DAMAGED, FaultKind.INDEX_DAMAGED):
        _salvage(repair, files, record)
        repair.verdict = verify()


def _reindex(repair: Repair) -> None:
    try:
        with closing(schema_sql.open_writer(repair.verdict.folder / DATABASE_NAME)) as connection:
            connection.execute("REINDEX")
        repair.done.append("the indexes of the database were rebuilt")
    except sqlite3.Error as error:
        repair.done.append(f"the indexes of the database could not be rebuilt ({error}): it is salvaged")


def _salvage(repair: Repair, files: _LostFiles, record: Record) -> None:
    folder, frame = repair.verdict.folder, repair.verdict.frame
    assert frame is not None
    found = salvage(folder, frame)
    _tell_lost(repair, files, ItemCodec(frame.schema), found, record)
    kept = take_over(folder, files.stamp)
    kinds = ", ".join(f"{count:,} {table.replace('_', ' ')}" for table, count in found.kept.items() if count)
    repair.done.append(f"the database was salvaged: {kinds or 'nothing'}; the damaged one is kept as {kept}")


def _tell_lost(repair: Repair, files: _LostFiles, codec: ItemCodec, found: Salvage, record: Record) -> None:
    if found.partial:
        lines = (json.dumps(partial_record(codec, one, record)) for one in found.partial)
        count = files.write(files.items, lines)
        repair.lost.append(f"{count:,} items could be read in part: {files.items}")
    if found.lost_ids:
        count = files.write(files.ids, (json.dumps(one) for one in found.lost_ids))
        repair.lost.append(f"{count:,} items could not be read; their ids are in {files.ids}")


def _remove_images(repair: Repair) -> None:
    """Those that may know more than the store will: of rows in any case, of lists where rows are counted anew."""
    frame, others = repair.verdict.frame, (FaultKind.IMAGE_DAMAGED, FaultKind.LEFTOVER)
    if frame is None or all(one.is_of_ranker or one.kind in others for one in repair.verdict.faults):
        return
    patterns = ["rows-*.json", "rows-*.image"]
    if any(one.where == "versions" for one in repair.verdict.faults):
        patterns += ["ivfpq-*.json", "ivfpq-*.faiss"]
    folder = version_folder(repair.verdict.folder, frame.version)
    # What tells of an image goes before what it tells of.
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    for path in found:
        path.unlink()
    if found:
        sync_folder(folder)
        repair.done.append(
            f"images of the state before removed, to be made anew: {', '.join(one.name for one in found)}"
        )


def _remove_unused(repair: Repair) -> None:
    for paths, what in ((repair.verdict.images, "damaged index images"), (repair.verdict.leftovers, "leftovers")):
        for path in paths:
            remove(path)
        if paths:
            repair.done.append(f"{what} removed: {', '.join(path.name for path in paths)}")


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _repair_rows(repair: Repair, frame: Frame, contents: Contents, files: _LostFiles, record: Record) -> None:
    verdict, database = repair.verdict, repair.verdict.folder / DATABASE_NAME
    if verdict.lost:
        with opened(database) as source:
            count = files.write(files.items, map(json.dumps, lost_records(source, verdict, frame, record)))
        repair.lost.append(f"{count:,} items were taken out; `ebr load {files.items}` writes and encodes them again")
    with closing(schema_sql.open_writer(database)) as connection:
        schema_sql.upgrade(connection)
        connection.execute("PRAGMA synchronous = FULL")
        with schema_sql.transaction(connection):
            repair.done += _corrections(connection, verdict, frame, contents)


def _corrections(connection: sqlite3.Connection, verdict: Verdict, frame: Frame, contents: Contents) -> Iterator[str]:
    gone = [*verdict.lost, *verdict.orphans]
    ids = list(_readable_ids(connection, frame, gone))
    connection.executemany(schema_sql.DELETE_EMBEDDING, [(frame.number, key) for key in gone])
    connection.executemany(schema_sql.DELETE_ITEM, [(key,) for key in verdict.lost])
    if verdict.orphans:
        yield f"rows without an item deleted: {len(verdict.orphans):,}"
    if verdict.lost:
        yield f"items taken out: {len(verdict.lost):,}"
    wrong = wrong_logged(contents, frame)
    connection.executemany("DELETE FROM fresh_rows WHERE first_row = ?", [(one,) for one in wrong])
    connection.executemany("DELETE FROM changes WHERE sequence = ?", [(one,) for one in contents.wrong_changes])
    last = max(contents.last, contents.counters[0])
    n_forgotten = len(contents.wrong_changes) + forget_before_gap(connection, last)
    if wrong or n_forgotten:
        yield f"entries deleted: {len(wrong):,} of the rows' log, {n_forgotten:,} of the change log"
    last = _log_deletes(connection, ids, last)
    yield from _set_counters(connection, frame, contents, last)


def _readable_ids(connection: sqlite3.Connection, frame: Frame, keys: Sequence[int]) -> Iterator[StoredId]:
    codec = ItemCodec(frame.schema)
    connection.text_factory = any_text
    for (stored_id,) in schema_sql.select_in(connection, "SELECT id FROM items WHERE key IN ({marks})", keys):
        with suppress(*TROUBLE):
            read_id(codec, stored_id)
            yield stored_id


def _log_deletes(connection: sqlite3.Connection, ids: Sequence[StoredId], last: int) -> int:
    """As any other delete, so that whoever follows the log hears of it; the last sequence."""
    changes = [(place, ChangeKind.DELETE, stored_id) for place, stored_id in enumerate(ids, last + 1)]
    schema_sql.insert_many(connection, schema_sql.WRITE_CHANGE, changes)
    return last + len(ids)


def _set_counters(connection: sqlite3.Connection, frame: Frame, contents: Contents, last: int) -> Iterator[str]:
    (count, highest) = connection.execute("SELECT count(*), coalesce(max(key), 0) FROM items").fetchone()
    counters = (last, count, max(contents.counters[2], highest + 1))
    if counters != contents.counters:
        connection.execute(schema_sql.UPDATE_COUNTERS, counters)
        yield f"counters set: sequence {counters[0]:,}, {count:,} items"
    (noted,) = connection.execute(schema_sql.READ_NEXT_ROW, [frame.number]).fetchone()
    if noted != frame.next_row:
        connection.execute(schema_sql.UPDATE_NEXT_ROW, [frame.next_row, frame.number])
        yield f"next row set: {frame.next_row:,}"


def _repair_segments(repair: Repair, frame: Frame, contents: Contents) -> None:
    missing = missing_rows(repair.verdict.folder, frame, logged_spans(contents, frame))
    for path, _ in missing:
        _lengthen(path, SEGMENT_ROWS * frame.row_bytes)
    if missing:
        sync_folder(missing[0].path.parent)
        repair.done.append(f"segments given their full length: {', '.join(one.path.name for one in missing)}")


def _lengthen(path: Path, n_bytes: int) -> None:
    """By a copy, for the file may be a snapshot's too."""
    make_folder(path.parent)
    aside = path.with_name(path.name + ".new")
    if path.is_file():
        shutil.copyfile(path, aside)
    else:
        aside.touch()
    os.truncate(aside, n_bytes)
    sync_file(aside)
    aside.replace(path)
