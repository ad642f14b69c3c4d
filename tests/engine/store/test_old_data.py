"""Data that earlier releases wrote is opened as it was written. The archives are theirs: nothing makes them anew."""

from __future__ import annotations

import sqlite3
import tarfile
from pathlib import Path

import pytest

from engine.errors import CorruptData
from engine.store import CollectionStore, DeleteOp, WriteRequest
from engine.types import GeoPoint, StoredItem, Timestamp
from tests.engine.store.stores import as_stored, upsert, vectors_of
from tests.engine.store.test_compaction import live_now, steps

ARCHIVES = Path(__file__).parent / "old"


def written(n: int) -> dict[str, object]:
    """What every archive holds of item n."""
    attributes = {
        "color": "red" if n % 2 else "grün",
        "year": n,
        "price": n / 4,
        "at": Timestamp(n),
        "place": GeoPoint(n / 2, -n),
        "note": "n",
        "clicks": n,
        "sold": n % 2 == 0,
    }
    return attributes | {"tags": ("x", "y") if n % 3 else ()}


def held(store: CollectionStore) -> list[StoredItem]:
    return [item for item in store.get([f"item {n}" for n in range(30)], vectors=True) if item is not None]


@pytest.mark.parametrize("archive", sorted(ARCHIVES.glob("format-*.tar.gz")), ids=lambda path: path.name)
def test_an_old_store_is_opened_written_to_and_compacted(tmp_path: Path, archive: Path) -> None:
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    store = CollectionStore.open(tmp_path / "books")
    items = held(store)
    assert [item.id for item in items] == [f"item {n}" for n in range(30) if n != 4]
    for item in items:
        n = int(str(item.id).split()[1])
        assert item.text == {"title": f"title {n % 5}"}
        assert item.attributes == ({"clicks": 9} if n == 3 else written(n))
        assert item.vectors is not None
        assert item.vectors.tobytes() == as_stored(vectors_of(n, n_rows=1 + n % 3)).tobytes()
    (replayed,) = store.commit([WriteRequest([DeleteOp("item 1")], request_id="r1")])
    assert (replayed.replayed, replayed.reply) == (True, b"then")
    store.commit([WriteRequest([upsert("item 4", vectors=vectors_of(4)), DeleteOp("item 5")], durable=True)])
    compaction = store.begin_compaction()
    compaction.begin(live_now(store), sequence=store.sequence)
    list(steps(compaction))
    store.finish_compaction()
    now = [(item.id, item.sequence, item.attributes) for item in held(store)]
    assert len(now) == 29
    store.close()
    store = CollectionStore.open(tmp_path / "books")
    assert [(item.id, item.sequence, item.attributes) for item in held(store)] == now
    store.close()


def test_a_store_of_a_later_release_is_refused(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVES / "format-1.tar.gz") as packed:
        packed.extractall(tmp_path, filter="data")
    with sqlite3.connect(tmp_path / "books/store.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(CorruptData, match="format is 99"):
        CollectionStore.open(tmp_path / "books")
