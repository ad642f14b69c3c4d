from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.errors import CollectionExists, CorruptData, ReadOnly, SnapshotNotFound, Unavailable
from engine.store import (
    CollectionStore,
    Manifest,
    WriteRequest,
    list_snapshots,
    read_manifest,
    snapshots,
    verify_snapshot,
)
from engine.store import segments as store_segments
from engine.store.remote import copy_out, fetched
from engine.store.snapshots import remove_old_snapshots, restore_snapshot, write_snapshot
from tests.engine.store.stores import make_store, upsert, vectors_of
from tests.engine.store.test_compaction import Writing, content, live_now, same, steps


def told(stage: str, done: float) -> None:
    assert stage
    assert 0 <= done <= 1


def taken(store: CollectionStore, root: Path) -> Manifest:
    moment = store.hold_moment()
    try:
        return write_snapshot(root, moment, report=told)
    finally:
        moment.release()


@pytest.fixture
def store(tmp_path: Path) -> CollectionStore:
    return make_store(tmp_path / "books")


def test_a_snapshot_is_of_one_moment_whatever_is_written_while_it_is_taken(
    tmp_path: Path, store: CollectionStore
) -> None:
    writing = Writing(store, 1)
    for _ in range(8):
        writing.group()
    before, sequence = content(store), store.sequence
    moment = store.hold_moment()

    def write_beside(stage: str, done: float) -> None:
        writing.group()

    manifest = write_snapshot(tmp_path / "snapshots", moment, report=write_beside)
    moment.release()
    assert manifest.sequence == sequence < store.sequence
    assert manifest.items == len(before)
    assert [one.id for one in list_snapshots(tmp_path / "snapshots", "books")] == [manifest.id]
    verify_snapshot(tmp_path / "snapshots/books" / manifest.id)
    restore_snapshot(tmp_path / "snapshots/books" / manifest.id, tmp_path / "again", report=told)
    restored = CollectionStore.open(tmp_path / "again")
    assert restored.schema.name == "again"
    assert restored.sequence == sequence
    assert same(content(restored), before)
    restored.commit([WriteRequest([upsert("new", vectors=vectors_of(1))])])
    restored.close()
    verify_snapshot(tmp_path / "snapshots/books" / manifest.id)
    store.close()


def test_full_segments_are_linked_and_not_read_again(
    tmp_path: Path, store: CollectionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_segments, "SEGMENT_ROWS", 4)
    monkeypatch.setattr("engine.store.collection_store.SEGMENT_ROWS", 4)
    store.close()
    store = make_store(tmp_path / "small")
    for seed in range(10):
        store.commit([WriteRequest([upsert(f"item {seed}", vectors=vectors_of(seed))])])
    first = taken(store, tmp_path / "snapshots")
    segments = [file for file in first.files if file.path.endswith(".vec")]
    assert [file.n_bytes for file in segments] == [32, 32, 16]
    live = tmp_path / "small/versions/v1"
    assert [(live / Path(file.path).name).stat().st_ino == file.inode for file in segments] == [True, True, False]
    hashed: list[str] = []
    real = snapshots.file_sha256

    def hash_it(path: Path) -> str:
        hashed.append(path.name)
        return real(path)

    monkeypatch.setattr(snapshots, "file_sha256", hash_it)
    store.commit([WriteRequest([upsert("one more", vectors=vectors_of(99))])])
    second = taken(store, tmp_path / "snapshots")
    assert hashed == ["store.sqlite", "segment-000002.vec"]
    restore_snapshot(tmp_path / "snapshots/books" / second.id, tmp_path / "again")
    again = CollectionStore.open(tmp_path / "again")
    for seed in range(10, 20):
        again.commit([WriteRequest([upsert(f"item {seed}", vectors=vectors_of(seed))])])
    again.close()
    for one in (first, second):
        verify_snapshot(tmp_path / "snapshots/books" / one.id)
    store.close()


def test_a_snapshot_holds_whole_index_images_and_the_rows_of_its_generation(
    tmp_path: Path, store: CollectionStore
) -> None:
    Writing(store, 2).group()
    compaction = store.begin_compaction()
    compaction.begin(live_now(store), sequence=store.sequence)
    list(steps(compaction))
    store.finish_compaction()
    folder = tmp_path / "books/versions/v1.1"
    for name in ("ivfpq-1.faiss", "ivfpq-1.json", "ivfpq-2.faiss", "ivfpq-3.json.new", "build-3.job"):
        (folder / name).write_text(name)
    for name in ("rows-1.image", "rows-1.json", "rows-2.image", "rows-3.image.new"):
        (folder / name).write_text(name)
    manifest = taken(store, tmp_path / "snapshots")
    images = [Path(file.path).name for file in manifest.files if not file.path.endswith((".vec", ".sqlite"))]
    assert images == ["ivfpq-1.faiss", "ivfpq-1.json", "rows-1.image", "rows-1.json"]
    before = content(store)
    store.close()
    restore_snapshot(tmp_path / "snapshots/books" / manifest.id, tmp_path / "again")
    for name in images:
        assert (tmp_path / "again/versions/v1.1" / name).read_text() == name
    again = CollectionStore.open(tmp_path / "again")
    assert same(content(again), before)
    again.close()


def test_old_snapshots_are_removed_and_the_newest_are_listed_first(tmp_path: Path, store: CollectionStore) -> None:
    root = tmp_path / "snapshots"
    made = []
    for seed in range(4):
        store.commit([WriteRequest([upsert("a", vectors=vectors_of(seed))])])
        made.append(taken(store, root).id)
    store.close()
    assert [one.id for one in list_snapshots(root, "books")] == made[::-1]
    assert remove_old_snapshots(root, "books", kept=2) == made[1::-1]
    assert [one.id for one in list_snapshots(root, "books")] == [made[3], made[2]]
    assert len(list((root / "books").iterdir())) == 2
    assert list_snapshots(root, "none") == []


@pytest.mark.parametrize("damage", ["bytes", "missing", "manifest", "format"])
def test_a_damaged_snapshot_is_told_and_never_restored(tmp_path: Path, store: CollectionStore, damage: str) -> None:
    Writing(store, 2).group()
    manifest = taken(store, tmp_path / "snapshots")
    store.close()
    folder = tmp_path / "snapshots/books" / manifest.id
    database = folder / "store.sqlite"
    if damage == "bytes":
        stored = bytearray(database.read_bytes())
        stored[len(stored) // 2] ^= 1
        database.write_bytes(stored)
    elif damage == "missing":
        database.unlink()
    elif damage == "manifest":
        (folder / "manifest.json").write_text("{")
    else:
        (folder / "manifest.json").write_text(json.dumps(manifest.to_json() | {"format": 99}))
    with pytest.raises(CorruptData):
        restore_snapshot(folder, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_snapshot_is_not_restored_over_a_collection(tmp_path: Path, store: CollectionStore) -> None:
    manifest = taken(store, tmp_path / "snapshots")
    store.close()
    with pytest.raises(CollectionExists):
        restore_snapshot(tmp_path / "snapshots/books" / manifest.id, tmp_path / "books")
    with pytest.raises(SnapshotNotFound):
        restore_snapshot(tmp_path / "snapshots/books/none", tmp_path / "again")


def test_a_disk_that_refuses_leaves_no_snapshot_and_what_crashes_leave_is_removed(
    tmp_path: Path, store: CollectionStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    root = tmp_path / "snapshots"
    with monkeypatch.context() as patch:
        patch.setattr(snapshots, "_copy_start", full)
        store.commit([WriteRequest([upsert("a", vectors=vectors_of(1))])])
        with pytest.raises(ReadOnly, match="No space left"):
            taken(store, root)
    assert list((root / "books").iterdir()) == []
    whole = taken(store, root)
    shutil.copytree(root / "books" / whole.id, root / "books/.half.making")
    assert list_snapshots(root, "books") == [whole]
    remove_old_snapshots(root, "books", kept=1)
    shutil.rmtree(root / "books" / whole.id)
    taken(store, root)
    assert len(list((root / "books").iterdir())) == 1
    store.close()


def test_copies_elsewhere_are_restored_from_there(tmp_path: Path, store: CollectionStore) -> None:
    Writing(store, 4).group()
    manifest = taken(store, tmp_path / "snapshots")
    before = content(store)
    store.close()
    for url in (f"file://{tmp_path}/far", "memory://far"):
        at = copy_out(tmp_path / "snapshots/books" / manifest.id, url, report=told)
        with fetched(at, tmp_path / "data", report=told) as (folder, found):
            assert found == manifest
            restore_snapshot(folder, tmp_path / "data/again")
        assert [path.name for path in (tmp_path / "data").iterdir()] == ["again"]
        again = CollectionStore.open(tmp_path / "data/again")
        assert same(content(again), before)
        again.close()
        shutil.rmtree(tmp_path / "data/again")
    with pytest.raises(SnapshotNotFound), fetched("memory://nowhere", tmp_path / "data", report=told):
        pass
    with pytest.raises(Unavailable):
        copy_out(tmp_path / "snapshots/books" / manifest.id, "file:///proc/none", report=told)
    assert read_manifest(tmp_path / "snapshots/books" / manifest.id) == manifest
