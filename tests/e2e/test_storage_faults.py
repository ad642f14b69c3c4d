"""A disk that refuses, under a running server: what callers are told, and that what frees space goes on working."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.client import RetrievalClient
from engine.errors import CollectionExists, CorruptData, EngineError, ReadOnly, WriteFailed
from engine.store import CollectionStore, collection_store, folders
from engine.store.writing import StoreWriter
from engine.types import Item, Visibility
from tests.e2e.serving import Serving, a_client, serving, vector_schema

POINT = np.array([1, 2, 3, 4], np.float32)


@contextmanager
def refusing(owner: Any, name: str) -> Iterator[None]:
    """Whatever calls it learns that the disk is full."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, refuse)
        yield


def with_one_point(client: RetrievalClient) -> None:
    client.create_collection(vector_schema())
    client.upsert("points", [Item(1, {}, {}, POINT)], visibility=Visibility.SEARCHABLE)


def test_a_write_that_the_disk_refuses_is_unavailable_and_says_why(own_server: Serving) -> None:
    with a_client(own_server) as client:
        with_one_point(client)
        with refusing(StoreWriter, "write"):
            with pytest.raises(ReadOnly, match="No space left"):
                client.upsert("points", [Item(2, {}, {}, POINT)])
            with pytest.raises(ReadOnly, match="No space left"):
                client.delete("points", [1])
            assert [hit.id for hit in client.search("points", POINT).hits] == [1]
        assert client.upsert("points", [Item(2, {}, {}, POINT)]).accepted == 1


def test_a_write_that_fails_of_itself_is_told_as_a_write(own_server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("unforeseen")

    with a_client(own_server) as client:
        with_one_point(client)
        monkeypatch.setattr(StoreWriter, "write", fail)
        with pytest.raises(WriteFailed, match="unforeseen"):
            client.upsert("points", [Item(2, {}, {}, POINT)])


def test_a_collection_can_be_deleted_although_the_disk_is_full(own_server: Serving) -> None:
    """Its log cannot be folded into its database then, which nobody will read again."""
    with a_client(own_server) as client:
        with_one_point(client)
        with refusing(StoreWriter, "checkpoint"):
            client.delete_collection("points")
        assert client.list_collections() == []
        assert client.create_collection(vector_schema()).items == 0


def test_a_delete_that_the_disk_refused_can_be_tried_again(own_server: Serving) -> None:
    with a_client(own_server) as client:
        with_one_point(client)
        with refusing(Path, "rename"), pytest.raises(ReadOnly, match="No space left"):
            client.delete_collection("points")
        assert not client.is_serving("points")
        with pytest.raises(ReadOnly, match="No space left"):
            client.count("points")
        client.delete_collection("points")
        assert client.create_collection(vector_schema()).items == 0


def test_a_create_that_the_disk_refused_leaves_nothing_and_can_be_tried_again(own_server: Serving) -> None:
    with a_client(own_server) as client:
        with refusing(folders, "sync_file"), pytest.raises(ReadOnly, match="No space left"):
            client.create_collection(vector_schema())
        assert list((own_server.server.settings.data_dir / "collections").iterdir()) == []
        assert client.create_collection(vector_schema()).items == 0


def test_a_create_that_the_disk_would_not_take_back_is_named_and_can_be_deleted(own_server: Serving) -> None:
    with a_client(own_server) as client:
        with refusing(collection_store, "withdraw"), refusing(CollectionStore, "open"), pytest.raises(EngineError):
            client.create_collection(vector_schema())
        with pytest.raises(CollectionExists):
            client.create_collection(vector_schema())
        client.delete_collection("points")
        assert client.create_collection(vector_schema()).items == 0


def test_a_store_that_cannot_be_closed_does_not_keep_the_others_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close, closed = CollectionStore.close, []

    def close_some(store: CollectionStore) -> None:
        closed.append(store.schema.name)
        if store.schema.name == "first":
            raise ReadOnly("closing failed: the disk is full")
        close(store)

    with serving(tmp_path) as running, a_client(running) as client:
        for name in ("first", "second"):
            client.create_collection(vector_schema(name))
            client.upsert(name, [Item(1, {}, {}, POINT)])
        monkeypatch.setattr(CollectionStore, "close", close_some)
    monkeypatch.setattr(CollectionStore, "close", close)
    assert sorted(closed) == ["first", "second"]
    with serving(tmp_path) as running, a_client(running) as client:
        assert [client.count(name) for name in ("first", "second")] == [1, 1]


def test_a_collection_that_fails_to_open_in_a_way_nobody_foresaw_does_not_stop_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path) as running, a_client(running) as client:
        for name in ("broken", "sound"):
            client.create_collection(vector_schema(name))
            client.upsert(name, [Item(1, {}, {}, POINT)])
    open_store = CollectionStore.open

    def fail(folder: Path, **rest: Any) -> CollectionStore:
        if folder.name == "broken":
            raise RuntimeError("unforeseen")
        return open_store(folder, **rest)

    monkeypatch.setattr(CollectionStore, "open", fail)
    with serving(tmp_path) as running, a_client(running) as client:
        assert client.count("sound") == 1
        assert not client.is_serving("broken")
        with pytest.raises(CorruptData, match=r"broken.*`ebr verify --data-dir"):
            client.count("broken")
