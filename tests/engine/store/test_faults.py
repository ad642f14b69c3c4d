from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import ReadOnly, Unavailable
from engine.store import CollectionStore, StoreLimits, WriteRequest, writing
from engine.types import AttributeSpec, AttributeType
from tests.engine.store.stores import commit_one, make_store, upsert, vectors_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CollectionStore]:
    opened = make_store(tmp_path / "books")
    commit_one(opened, upsert("kept", vectors=vectors_of(1)))
    yield opened
    opened.close()


@contextmanager
def full_database(store: CollectionStore) -> Iterator[None]:
    connection = store._writer._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (before,) = connection.execute("PRAGMA max_page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    yield
    connection.execute(f"PRAGMA max_page_count = {before}")


@contextmanager
def files_that_cannot_grow(store: CollectionStore) -> Iterator[None]:
    """The kernel cuts a write to the log short, as on a full disk."""
    wal = store._writer._wal
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max(wal.stat().st_size, 10_000) + 5_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def refusing(name: str) -> Iterator[None]:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, refuse)
        yield


@contextmanager
def refused_vectors(_: CollectionStore) -> Iterator[None]:
    with refusing("pwrite"):
        yield


@contextmanager
def refused_sync(_: CollectionStore) -> Iterator[None]:
    with refusing("fsync"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(writing, "_LOGGED_BYTES", 100)
        yield


@pytest.mark.parametrize("fault", [full_database, files_that_cannot_grow, refused_vectors, refused_sync])
def test_a_refused_commit_changes_nothing_and_a_later_one_works(
    store: CollectionStore, tmp_path: Path, fault: Callable[[CollectionStore], Iterator[None]]
) -> None:
    many = [upsert(f"i{n}", "t" * 2000, vectors=vectors_of(n)) for n in range(300)]
    request = WriteRequest([*many, upsert("kept", attributes={"year": 1})], durable=True, request_id="r1")
    with fault(store), pytest.raises(ReadOnly):  # type: ignore[attr-defined]
        store.commit([request])
    assert (store.sequence, store.item_count, store.row_count("v1")) == (1, 1, 1)
    assert [item.id for item in store.scroll(None, limit=10)] == ["kept"]
    (outcome,) = store.commit([request])
    assert (outcome.replayed, outcome.sequence, store.item_count) == (False, 302, 301)
    store.close()
    reopened = CollectionStore.open(tmp_path / "books")
    assert reopened.item_count == len(list(reopened.live_rows("v1"))) == 301
    reopened.close()


def test_a_refused_checkpoint_does_not_refuse_the_commit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = make_store(tmp_path / "books", limits=StoreLimits(wal_bytes=1))
    with refusing("fsync"):
        commit_one(store, upsert("x", vectors=vectors_of(1)))
    assert "No space left" in caplog.text
    assert store.item_count == 1
    for n in range(20):
        commit_one(store, upsert(f"i{n}", vectors=vectors_of(n)))
    assert store._writer._wal.stat().st_size == 0
    store.close()


def test_a_refused_attribute_is_not_added(store: CollectionStore) -> None:
    with full_database(store), pytest.raises(ReadOnly):
        store.add_attribute(AttributeSpec("x" * 10_000, AttributeType.INT))
    assert store.schema.attribute("x" * 10_000) is None


def test_a_disk_that_fails_at_open_is_not_taken_for_corrupt_data(store: CollectionStore, tmp_path: Path) -> None:
    with refusing("fsync"), pytest.raises(Unavailable, match="No space left"):
        CollectionStore.open(tmp_path / "books")


def test_a_closed_store_is_unavailable(tmp_path: Path) -> None:
    store = make_store(tmp_path / "books")
    store.close()
    with pytest.raises(Unavailable):
        store.get(["x"])
