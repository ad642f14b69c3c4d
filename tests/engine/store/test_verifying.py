from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.cli.output import item_record
from engine.cli.verify import _read_image as read_image
from engine.store import (
    CollectionStore,
    DeleteOp,
    FaultKind,
    Repair,
    StoreLimits,
    UpsertOp,
    Verdict,
    WriteRequest,
    can_repair,
    repair_collection,
    salvaging,
    verify_collection,
    verify_snapshots,
)
from engine.store.inspecting import TROUBLE, opened
from engine.types import IdType, StoredItem
from tests.engine.store.stores import DIMENSION, as_stored, commit_one, make_store, upsert, vectors_of
from tests.engine.store.test_snapshots import taken

N_ITEMS = 40
ROW_BYTES = 2 * DIMENSION
DATABASE = "store.sqlite"
SEGMENT = "versions/v1/segment-000000.vec"


def filled(folder: Path, *, id_type: IdType = "string", n_items: int = N_ITEMS) -> dict[Any, bytes]:
    """A closed store of ``n_items`` whose ids, texts and attributes differ; the vectors of each as stored."""
    store = make_store(folder, id_type=id_type)
    held: dict[Any, bytes] = {}
    written: list[UpsertOp] = []
    for number in range(n_items):
        one = f"item {number}" if id_type == "string" else number * 3
        vectors = vectors_of(number, n_rows=1 + number % 3)
        written.append(upsert(one, f"title {number} " * 9, {"color": "red", "year": number}, vectors=vectors))
        held[one] = as_stored(vectors).tobytes()
    store.commit([WriteRequest(written[: n_items // 2]), WriteRequest(written[n_items // 2 :])])
    for number in range(0, n_items, 9):
        one = f"item {number}" if id_type == "string" else number * 3
        store.commit([WriteRequest([DeleteOp(one)], request_id=f"r{number}")])
        del held[one]
    store.close()
    return held


def verified(folder: Path) -> Verdict:
    return verify_collection(folder, read_image=read_image)


def kinds(verdict: Verdict) -> set[FaultKind]:
    return {one.kind for one in verdict.faults}


def repaired(folder: Path) -> Repair:
    verdict = verified(folder)
    assert can_repair(verdict), verdict.faults
    return repair_collection(verdict, beside=folder.parent, stamp="now", read_image=read_image, record=item_record)


def content(folder: Path) -> dict[Any, bytes]:
    """Of an open store, everything that is read at a start too."""
    store = CollectionStore.open(folder)
    try:
        assert len(list(store.live_rows("v1"))) == store.item_count
        found = {one.id: one for one in store.scroll(None, limit=10_000, vectors=True)}
        return {item_id: _bytes(one) for item_id, one in found.items()}
    finally:
        store.close()


def _bytes(item: StoredItem) -> bytes:
    assert item.vectors is not None
    return item.vectors.tobytes()


def lost(folder: Path) -> list[dict[str, Any]]:
    path = folder.parent / f"lost-items-{folder.name}-now.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def sql(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "books"


@pytest.mark.parametrize("id_type", ["string", "uint64"])
def test_a_sound_store_has_no_faults_and_is_left_as_it_is(folder: Path, id_type: IdType) -> None:
    held = filled(folder, id_type=id_type)
    before = files(folder)
    verdict = verified(folder)
    assert verdict.faults == []
    assert verdict.is_sound
    assert verdict.items == len(held)
    assert {"database", "schema and version", "items and rows", "segments"} == set(verdict.sound)
    assert files(folder) == before
    assert not can_repair(verdict)


def test_a_store_of_an_earlier_engine_is_sound_and_repaired_as_any_other(tmp_path: Path) -> None:
    with tarfile.open(Path(__file__).parent / "old/format-1.tar.gz") as archive:
        archive.extractall(tmp_path / "old", filter="data")
    (database,) = (tmp_path / "old").rglob(DATABASE)
    assert verified(database.parent).faults == []
    sql(database.parent, "UPDATE meta SET item_count = 0")
    assert repaired(database.parent).verdict.faults == []


def test_an_empty_store_is_sound(folder: Path) -> None:
    make_store(folder).close()
    assert verified(folder).faults == []


def test_a_store_whose_server_was_killed_is_sound(tmp_path: Path, folder: Path) -> None:
    store = make_store(folder)
    commit_one(store, upsert("a", vectors=vectors_of(1)))
    shutil.copytree(folder, tmp_path / "killed")
    store.close()
    (tmp_path / "killed" / SEGMENT).unlink()
    assert verified(tmp_path / "killed").faults == []
    assert content(tmp_path / "killed") == {"a": as_stored(vectors_of(1)).tobytes()}


Damage = tuple[str, FaultKind]
COUNTERS = (
    "UPDATE meta SET item_count = 7",
    "UPDATE meta SET sequence = 3",
    "UPDATE meta SET next_key = 2",
    "UPDATE meta SET item_count = -1, sequence = 0, next_key = 0",
    "UPDATE versions SET next_row = 10",
    "UPDATE versions SET next_row = 1 << 60",
)


@pytest.mark.parametrize("statement", COUNTERS)
def test_wrong_counters_are_told_and_set(folder: Path, statement: str) -> None:
    held = filled(folder)
    sql(folder, statement)
    assert kinds(verified(folder)) == {FaultKind.COUNTERS_WRONG}
    repair = repaired(folder)
    assert repair.verdict.faults == []
    assert any(" set: " in one for one in repair.done)
    assert repair.lost == []
    assert content(folder) == held


ROWS = (
    ("DELETE FROM embeddings WHERE item_key = 5", FaultKind.ITEMS_WITHOUT_ROWS, 1),
    ("UPDATE embeddings SET first_row = 1000 WHERE item_key = 5", FaultKind.ROWS_BEYOND_END, 1),
    ("UPDATE embeddings SET first_row = 1 << 62 WHERE item_key = 5", FaultKind.ROWS_BEYOND_END, 1),
    ("UPDATE embeddings SET first_row = -9 WHERE item_key = 5", FaultKind.ROWS_BEYOND_END, 1),
    ("UPDATE embeddings SET n_rows = 0 WHERE item_key = 5", FaultKind.ROWS_BEYOND_END, 1),
    ("UPDATE embeddings SET n_rows = 2 WHERE item_key = 13", FaultKind.ROWS_SHARED, 2),
    ("UPDATE items SET attributes = '{\"color\"' WHERE key = 5", FaultKind.ITEMS_UNREADABLE, 1),
    ('UPDATE items SET attributes = \'{"colour":"red","year":4}\' WHERE key = 5', FaultKind.ITEMS_UNREADABLE, 1),
    ('UPDATE items SET attributes = \'{"year":"1999"}\' WHERE key = 5', FaultKind.ITEMS_UNREADABLE, 1),
    ("UPDATE items SET text = '[]' WHERE key = 5", FaultKind.ITEMS_UNREADABLE, 1),
    ("UPDATE items SET text = CAST(x'7b22ff' AS TEXT) WHERE key = 5", FaultKind.ITEMS_UNREADABLE, 1),
)


@pytest.mark.parametrize(("statement", "kind", "count"), ROWS)
def test_items_that_cannot_be_served_are_told_written_and_taken_out(
    folder: Path, statement: str, kind: FaultKind, count: int
) -> None:
    held = filled(folder)
    sql(folder, statement)
    verdict = verified(folder)
    assert kinds(verdict) == {kind}
    (fault,) = verdict.faults
    assert fault.items == count
    repair = repaired(folder)
    assert repair.verdict.faults == []
    found = content(folder)
    assert len(found) == len(held) - count
    assert found.items() <= held.items()
    written = lost(folder)
    assert {one["_id"] for one in written} == held.keys() - found.keys()
    assert all("title" in one or "_unreadable_text" in one for one in written)


def test_rows_without_an_item_are_deleted(folder: Path) -> None:
    held = filled(folder)
    sql(folder, "DELETE FROM items WHERE key = 5")
    assert kinds(verified(folder)) == {FaultKind.ROWS_WITHOUT_ITEM, FaultKind.COUNTERS_WRONG}
    assert repaired(folder).verdict.faults == []
    del held["item 4"]
    assert content(folder) == held


def test_what_follows_the_change_log_hears_of_items_taken_out(folder: Path) -> None:
    filled(folder)
    sql(folder, "DELETE FROM embeddings WHERE item_key = 5")
    repaired(folder)
    store = CollectionStore.open(folder)
    (last,) = store.changes_after(store.sequence - 1, limit=10)
    assert (last.id, last.kind.name) == ("item 4", "DELETE")
    store.close()


def test_a_missing_segment_costs_its_items_alone(folder: Path) -> None:
    filled(folder)
    (folder / SEGMENT).unlink()
    assert kinds(verified(folder)) == {FaultKind.ITEMS_WITHOUT_ROWS, FaultKind.SEGMENT_MISSING}
    repair = repaired(folder)
    assert repair.verdict.faults == []
    assert content(folder) == {}
    assert {one["_id"] for one in lost(folder)} >= {"item 1", "item 2"}


def test_a_segment_that_was_cut_costs_the_items_beyond_its_end(folder: Path) -> None:
    held = filled(folder)
    os.truncate(folder / SEGMENT, 30 * ROW_BYTES + 3)
    assert kinds(verified(folder)) == {FaultKind.ITEMS_WITHOUT_ROWS, FaultKind.SEGMENT_SHORT}
    assert repaired(folder).verdict.faults == []
    found = content(folder)
    assert len(found) > 10
    assert found.items() <= held.items()
    assert {one["_id"] for one in lost(folder)} == held.keys() - found.keys()


def test_rows_that_are_no_numbers_are_told(folder: Path) -> None:
    held = filled(folder)
    with (folder / SEGMENT).open("r+b") as file:
        file.write(np.full(1, np.nan, np.float16).tobytes())
        file.seek(1 * ROW_BYTES)
        file.write(np.full(2, np.inf, np.float16).tobytes())
    verdict = verified(folder)
    assert kinds(verdict) == {FaultKind.ROWS_DAMAGED}
    assert repaired(folder).verdict.faults == []
    assert content(folder).items() <= held.items()
    assert [one["_id"] for one in lost(folder)] == ["item 1"]


def test_damaged_images_and_leftovers_are_removed(folder: Path) -> None:
    held = filled(folder)
    version = folder / "versions/v1"
    (version / "ivfpq-1.json").write_text("{}")
    (version / "ivfpq-1.faiss").write_bytes(b"lists")
    (version / "ivfpq-2.faiss").write_bytes(b"lists without a word")
    (version / "rows-0000000000000007.json").write_text("{}")
    (version / "rows-0000000000000008.image").write_bytes(b"arrays without a word")
    (folder / "versions/v1.1").mkdir()
    (version / "queries.npy").write_bytes(b"kept")
    verdict = verified(folder)
    assert kinds(verdict) == {FaultKind.IMAGE_DAMAGED, FaultKind.LEFTOVER}
    repair = repaired(folder)
    assert repair.verdict.faults == []
    assert sorted(path.name for path in version.iterdir()) == ["queries.npy", "segment-000000.vec"]
    assert content(folder) == held


def test_an_image_of_rows_from_before_a_repair_does_not_outlive_it(folder: Path) -> None:
    filled(folder)
    image = folder / "versions/v1/rows-0000000000000041.image"
    image.write_bytes(b"arrays")
    image.with_suffix(".json").write_text("{}")
    sql(folder, "DELETE FROM embeddings WHERE item_key = 5")
    assert repaired(folder).verdict.faults == []
    assert not list(image.parent.glob("rows-*"))


def test_items_taken_out_keep_the_times_they_are_seen_at(folder: Path) -> None:
    filled(folder)
    sql(
        folder,
        "UPDATE items SET visible_from = 1000000, expires_at = 2000000, text = '[]' WHERE key = 5",
        "UPDATE items SET expires_at = 1 << 62 WHERE key = 6",
    )
    assert repaired(folder).verdict.faults == []
    (five, six) = lost(folder)
    assert (five["_visible_from"], five["_expires_at"]) == ("1970-01-01T00:00:01Z", "1970-01-01T00:00:02Z")
    assert six["_unreadable_expires_at"] == str(1 << 62)


def test_leftovers_alone_are_no_fault(folder: Path) -> None:
    filled(folder)
    (folder / "versions/v1.7").mkdir()
    assert verified(folder).is_sound


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("UPDATE meta SET schema = '{}'", FaultKind.SCHEMA_UNREADABLE),
        ("DELETE FROM meta", FaultKind.SCHEMA_UNREADABLE),
        ("UPDATE versions SET version = 'v'", FaultKind.VERSION_UNREADABLE),
        ("UPDATE versions SET version = replace(version, '\"v1\"', '\"w1\"')", FaultKind.VERSION_UNREADABLE),
        ("UPDATE versions SET version = replace(version, 'float16', 'float61')", FaultKind.VERSION_UNREADABLE),
        ("ALTER TABLE meta RENAME COLUMN next_key TO next_kez", FaultKind.TABLES_UNREADABLE),
        ("PRAGMA user_version = 77", FaultKind.FORMAT_UNKNOWN),
    ],
)
def test_what_nothing_can_be_read_without_is_told_and_not_repaired(
    folder: Path, statement: str, kind: FaultKind
) -> None:
    filled(folder)
    sql(folder, statement)
    verdict = verified(folder)
    assert kinds(verdict) == {kind}
    assert not can_repair(verdict)
    assert "snapshot" in verdict.faults[0].remedy


def test_a_database_that_is_gone_or_none_is_told(folder: Path) -> None:
    filled(folder)
    (folder / DATABASE).write_bytes(b"no database at all" * 1000)
    assert kinds(verified(folder)) >= {FaultKind.DATABASE_UNREADABLE}
    (folder / DATABASE).unlink()
    verdict = verified(folder)
    assert kinds(verdict) == {FaultKind.DATABASE_MISSING}
    assert not can_repair(verdict)


def test_an_index_of_the_database_is_rebuilt(folder: Path) -> None:
    held = filled(folder)
    sql(
        folder,
        "PRAGMA writable_schema = ON",
        "CREATE TABLE spare (id TEXT NOT NULL UNIQUE) STRICT",
        "UPDATE sqlite_schema SET rootpage = (SELECT rootpage FROM sqlite_schema "
        "WHERE name = 'sqlite_autoindex_spare_1') WHERE name = 'sqlite_autoindex_items_1'",
        "DELETE FROM sqlite_schema WHERE name = 'sqlite_autoindex_spare_1' OR name = 'spare'",
    )
    assert FaultKind.INDEX_DAMAGED in kinds(verified(folder)) or FaultKind.DATABASE_DAMAGED in kinds(verified(folder))
    assert repaired(folder).verdict.faults == []
    assert content(folder) == held


def pages_of(folder: Path, table: str) -> list[int]:
    """Leaf pages of a table or index, where this SQLite has the table of them; else by content."""
    content = (folder / DATABASE).read_bytes()
    marks = {"items": b"title ", "changes": b"item "}
    return [
        number
        for number in range(1, len(content) // 4096)
        if content[number * 4096] == 0x0D and marks[table] in content[number * 4096 : (number + 1) * 4096]
    ]


def test_a_lost_page_costs_the_items_on_it_alone(folder: Path) -> None:
    held = filled(folder, n_items=300)
    page = pages_of(folder, "items")[3]
    with (folder / DATABASE).open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xff" * 4096)
    verdict = verified(folder)
    assert FaultKind.DATABASE_DAMAGED in kinds(verdict)
    repair = repaired(folder)
    assert repair.verdict.faults == []
    found = content(folder)
    assert len(held) - 40 < len(found) < len(held)
    assert found.items() <= held.items()
    assert (folder / f"{DATABASE}.damaged-now").is_file()
    ids = (folder.parent / "lost-ids-books-now.txt").read_text().splitlines()
    in_part = {one["_id"] for one in lost(folder)}
    assert {json.loads(one) for one in ids} | in_part == held.keys() - found.keys()


def test_a_salvage_that_was_cut_short_is_gone_on_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = filled(folder, n_items=300)
    page = pages_of(folder, "items")[3]
    with (folder / DATABASE).open("r+b") as file:
        file.seek(page * 4096)
        file.write(b"\xff" * 4096)
    frame = verified(folder).frame
    assert frame is not None
    salvaging.salvage(folder, frame)
    (folder / DATABASE).rename(folder / f"{DATABASE}.damaged-then")
    assert kinds(verified(folder)) == {FaultKind.DATABASE_MISSING}
    assert repaired(folder).verdict.faults == []
    assert content(folder).items() <= held.items()


def test_damaged_and_half_snapshots_are_told(tmp_path: Path) -> None:
    store = make_store(tmp_path / "books", limits=StoreLimits())
    commit_one(store, upsert("a", vectors=vectors_of(1)))
    root = tmp_path / "snapshots"
    whole, damaged, half = (taken(store, root).id for _ in range(3))
    store.close()
    with (root / "books" / damaged / DATABASE).open("r+b") as file:
        file.seek(5000)
        file.write(b"?")
    (root / "books" / half / "manifest.json").unlink()
    found = {path.name: fault.kind if fault else None for path, fault in verify_snapshots(root / "books")}
    assert found == {whole: None, damaged: FaultKind.SNAPSHOT_DAMAGED, half: FaultKind.SNAPSHOT_HALF}


def readable_items(folder: Path) -> dict[str, tuple[Any, ...]]:
    """What SQLite gives of each item, asked for key by key, with its rows; none where it gives nothing."""
    found: dict[str, tuple[Any, ...]] = {}
    statement = """SELECT id, attributes, text, first_row, n_rows FROM items
        CROSS JOIN embeddings ON version = 1 AND item_key = key WHERE key = ?"""
    try:
        with opened(folder / DATABASE) as connection:
            for key in range(1, N_ITEMS + 2):
                try:
                    for row in connection.execute(statement, [key]):
                        found[row[0]] = row[1:]
                except TROUBLE:
                    continue
    except TROUBLE:
        return {}
    return found


def whole_items(found: dict[str, tuple[Any, ...]], truth: dict[str, tuple[Any, ...]]) -> set[str]:
    return {item_id for item_id, row in found.items() if truth.get(item_id) == row}


@pytest.fixture(scope="module")
def sound_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound") / "books"
    filled(folder)
    return folder


def flip(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 3, 40])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    if rng.random() < 0.2:
        page = rng.randrange(len(content) // 4096) * 4096
        content[page : page + 4096] = rng.randbytes(4096)
    path.write_bytes(content)


def sqlite_calls_it_sound(folder: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{folder / DATABASE}?mode=ro&immutable=1", uri=True)) as connection:
            return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    except TROUBLE:
        return False


@pytest.mark.parametrize("seed", [*range(53), 1185, 1202, 1303, 1398, 2178, 3498, 3800, 7238, 7358, 8019])
def test_whatever_bytes_change_it_is_told_and_a_repair_makes_nothing_worse(
    tmp_path: Path, sound_store: Path, seed: int
) -> None:
    folder = tmp_path / "books"
    shutil.copytree(sound_store, folder)
    truth = readable_items(folder)
    flip(folder / DATABASE, random.Random(seed))
    before = whole_items(readable_items(folder), truth)
    damaged = files(folder)
    verdict = verified(folder)
    assert files(folder) == damaged
    if not sqlite_calls_it_sound(folder):
        assert not verdict.is_sound
    if not can_repair(verdict):
        if verdict.is_sound:
            content(folder)
        return
    repair = repaired(folder)
    after = whole_items(readable_items(folder), truth)
    shared = {one["_id"] for one in lost(folder) if "_id" in one}
    assert before <= after | shared
    assert repair.verdict.faults == [], repair.verdict.faults
    content(folder)


def test_reading_a_range_in_halves_gives_all_but_what_fails() -> None:
    class Source:
        def execute(self, _: str, bounds: list[int]) -> Any:
            for key in range(bounds[0], bounds[1] + 1):
                if key in (3, 4, 9):
                    raise sqlite3.DatabaseError("malformed")
                if key % 2:
                    yield (key,)

    unread: list[int] = []
    ask: Callable[..., Any] = salvaging.readable
    assert [row[0] for row in ask(Source(), "", 0, 14, unread)] == [1, 5, 7, 11, 13]
    assert unread == [3, 4, 9]
