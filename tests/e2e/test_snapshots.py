"""Snapshots are taken while a server writes and searches, and become collections again, here or elsewhere."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest

from engine.client import RetrievalClient
from engine.errors import CollectionExists, CorruptData, EngineError, InvalidArgument, SnapshotNotFound
from engine.types import Item, SearchParams, Visibility
from tests.e2e.serving import a_client, serving, text_schema, vector_schema
from tests.e2e.test_compaction import VECTORS, everything, exact_answers, settle, write
from tests.e2e.test_upkeep import ROWS, D, load, recall, trained

pytestmark = pytest.mark.timeout(300)


def snapshot(client: RetrievalClient, *, to: str = "") -> str:
    done = client.wait_for_operation(client.create_snapshot("points", to=to))
    assert done.snapshot is not None
    return done.snapshot.id


def test_a_collection_comes_back_from_a_snapshot_with_its_lists_and_without_what_came_later(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS)
        trained(client)
        client.delete("points", list(range(50)), visibility=Visibility.SEARCHABLE)
        settle(client)
        before, answers = everything(client), exact_answers(client)
        taken = snapshot(client)
        write(client, range(100), 9)
        settle(client)
        later = everything(client)
        restored = client.wait_for_operation(client.restore_snapshot("points", taken, into="again"))
        assert restored.snapshot is not None
        assert restored.snapshot.items == len(before)
        assert everything(client) == later
        client.delete_collection("points")
        client.wait_for_operation(client.restore_snapshot("points", taken))
        assert everything(client) == before
        assert exact_answers(client) == answers
        assert client.get_collection("points").message.versions[0].ivfpq.rows >= ROWS
        assert recall(client, SearchParams(k=10)) >= 0.9
        assert [one.id for one in client.list_snapshots("points")] == [taken]
        write(client, range(10), 3)
        settle(client)
        changed = everything(client)
        client.wait_for_operation(client.restore_snapshot("points", taken, into="third"))
    with serving(tmp_path, min_rows_to_train=10**9) as again, a_client(again) as client:
        assert everything(client) == changed
        assert sorted(one.schema.name for one in client.list_collections()) == ["again", "points", "third"]
        assert client.count("third") == client.count("again") == len(before)


def test_a_snapshot_beside_writes_is_of_one_moment(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS)
        stopping = threading.Event()

        def keep_writing() -> None:
            with a_client(running) as other:
                turn = 0
                while not stopping.is_set():
                    turn += 1
                    # Two items that are always written together.
                    items = [Item(10**6 + one, {}, {"rank": turn}, VECTORS[one]) for one in range(2)]
                    other.upsert("points", items)

        writer = threading.Thread(target=keep_writing)
        writer.start()
        try:
            taken = [snapshot(client) for _ in range(4)]
        finally:
            stopping.set()
            writer.join()
        kept = [one.id for one in client.list_snapshots("points")]
        assert kept == taken[:0:-1], "three are kept, the newest first"
        for number, one in enumerate(kept):
            client.wait_for_operation(client.restore_snapshot("points", one, into=f"copy{number}"))
            pair = client.get(f"copy{number}", [10**6, 10**6 + 1])
            assert len({(item.attributes["rank"]) for item in pair}) <= 1
            assert client.count(f"copy{number}") == ROWS + len(pair)


def test_a_snapshot_is_taken_to_another_server_by_its_address(tmp_path: Path) -> None:
    far = tmp_path / "far"
    with serving(tmp_path / "one", min_rows_to_train=10**9) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:100])
        taken = snapshot(client, to=far.as_uri())
        before = everything(client)
    with serving(tmp_path / "two", min_rows_to_train=10**9) as running, a_client(running) as client:
        client.wait_for_operation(client.restore_snapshot("points", url=f"{far.as_uri()}/{taken}"))
        assert everything(client) == before


def test_a_snapshot_for_an_address_of_no_known_kind_is_refused_before_it_is_taken(tmp_path: Path) -> None:
    with serving(tmp_path) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        with pytest.raises(InvalidArgument, match="nosuch://far"):
            snapshot(client, to="nosuch://far/folder")
        assert client.list_snapshots("points") == []


def test_what_cannot_be_restored_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    def refused(snapshot: str = "", *, url: str = "", into: str = "other", name: str = "points") -> EngineError:
        with pytest.raises(EngineError) as told:
            client.wait_for_operation(client.restore_snapshot(name, snapshot, url=url, into=into))
        return told.value

    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:100])
        taken = snapshot(client)
        assert isinstance(refused(taken, into="points"), CollectionExists)
        assert isinstance(refused("20200101T000000000000Z-1"), SnapshotNotFound)
        assert isinstance(refused(url=(tmp_path / "nowhere").as_uri()), SnapshotNotFound)
        assert isinstance(refused(), InvalidArgument)
        assert isinstance(refused(taken, url="file:///x"), InvalidArgument)
        assert isinstance(refused(taken, into="../x"), InvalidArgument)
        assert isinstance(refused(taken, name="../points"), InvalidArgument)
        assert isinstance(refused(url="nosuch://x"), InvalidArgument)
        with pytest.raises(InvalidArgument):
            client.list_snapshots("../points")
        (database,) = tmp_path.glob(f"snapshots/points/{taken}/store.sqlite")
        database.write_bytes(database.read_bytes()[:-1] + b"?")
        assert isinstance(refused(taken), CorruptData)
        assert [one.schema.name for one in client.list_collections()] == ["points"]
        assert not list(tmp_path.glob("collections/[!p]*"))


def test_a_collection_whose_encoder_is_another_is_restored_but_not_served(tmp_path: Path) -> None:
    with serving(tmp_path / "one") as running, a_client(running) as client:
        client.create_collection(text_schema("points"))
        client.upsert("points", [Item("a", {"title": "a title"})], visibility=Visibility.SEARCHABLE)
        taken = snapshot(client)
    shutil.copytree(tmp_path / "one/snapshots", tmp_path / "two/snapshots")
    with serving(tmp_path / "two", encoder_version="words-2") as running, a_client(running) as client:
        with pytest.raises(EngineError, match="encoder"):
            client.wait_for_operation(client.restore_snapshot("points", taken))
        client.delete_collection("points")
        assert not list((tmp_path / "two/collections").iterdir())
