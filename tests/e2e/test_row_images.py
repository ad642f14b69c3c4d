"""A server starts from an image of its rows and what was changed since; images come by themselves, and go."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.client import RetrievalClient
from engine.errors import ChangesGone, ReadOnly
from engine.index.row_image import write_arrays
from engine.index.version_index import VersionIndex
from engine.pipeline.row_images import write_image
from engine.store import CollectionStore, change_log
from engine.types import AttributeSpec, AttributeType, Item, SearchParams, Visibility
from tests.e2e.serving import Serving, a_client, serving, text_schema, vector_schema, wait_for
from tests.e2e.test_compaction import VECTORS, everything, exact_answers, rows, settle, write
from tests.e2e.test_snapshots import snapshot
from tests.e2e.test_upkeep import D, load

pytestmark = pytest.mark.timeout(300)


def index(running: Serving, name: str = "points") -> VersionIndex:
    return running.server.engine.collections[name].index


def images(folder: Path) -> list[int]:
    return sorted(
        int(path.stem.removeprefix("rows-")) for path in folder.glob("collections/points/versions/*/rows-*.json")
    )


def begun(client: RetrievalClient) -> None:
    """Five hundred items of which some died and some have other rows."""
    client.create_collection(vector_schema(dimension=D))
    load(client, VECTORS[:500])
    write(client, range(40), 7)
    client.delete("points", list(range(100, 130)))
    settle(client)


def kinds(client: RetrievalClient) -> list[str]:
    return [one.kind for one in client.list_operations() if one.is_done]


def test_a_server_that_was_stopped_starts_from_its_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        begun(client)
        before, answers = everything(client), exact_answers(client)
        sequence = index(running).sequence
        assert images(tmp_path) == []
    assert images(tmp_path) == [sequence]
    for _ in range(2):
        with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
            assert index(running).image_sequence == sequence
            assert everything(client) == before
            assert exact_answers(client) == answers
    assert images(tmp_path) == [sequence], "nothing changed"


def test_a_server_that_was_killed_does_again_what_came_after_its_image(tmp_path: Path) -> None:
    with serving(tmp_path / "one", min_rows_to_train=10**9) as running, a_client(running) as client:
        begun(client)
        sequence = index(running).sequence
    with serving(tmp_path / "one", min_rows_to_train=10**9) as running, a_client(running) as client:
        write(client, range(30, 60), 8)
        client.delete("points", [31, 200, 10**9])
        client.add_attribute("points", AttributeSpec("later", AttributeType.INT))
        client.upsert("points", [Item(33, {}, {"later": 7}, VECTORS[0])])
        settle(client)
        before, answers = everything(client), exact_answers(client)
        # What a kill leaves: the files as they are, and no image of the end.
        shutil.copytree(tmp_path / "one/collections", tmp_path / "two/collections")
    with serving(tmp_path / "two", min_rows_to_train=10**9) as running, a_client(running) as client:
        assert index(running).image_sequence == sequence
        assert index(running).sequence == before[-1][1]
        assert everything(client) == before
        assert exact_answers(client) == answers


def test_texts_and_strings_come_back_too(tmp_path: Path) -> None:
    with serving(tmp_path) as running, a_client(running) as client:
        client.create_collection(text_schema("points"))
        items = [Item(f"i{n}", {"title": f"title {n}"}, {"tags": ("x", f"t{n}"), "clicks": n}) for n in range(50)]
        client.upsert("points", items, visibility=Visibility.SEARCHABLE)
        found = client.search("points", "title 7", params=SearchParams(k=50, exact=True)).hits
    with serving(tmp_path) as running, a_client(running) as client:
        assert index(running).image_sequence == 50
        assert client.search("points", "title 7", params=SearchParams(k=50, exact=True)).hits == found


def test_images_are_written_beside_writes_and_the_newest_two_are_kept(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "one", min_rows_to_train=10**9, row_image_changes=60) as running,
        a_client(running) as client,
    ):
        begun(client)
        for turn in range(4):
            write(client, range(61), turn)
            settle(client)
            wait_for(lambda: index(running).sequence - index(running).image_sequence <= 60)
        assert set(kinds(client)) == {"checkpoint"}
        assert len(images(tmp_path / "one")) == 2
        sequence = index(running).image_sequence
        assert images(tmp_path / "one")[-1] == sequence > 571
        before, answers = everything(client), exact_answers(client)
        shutil.copytree(tmp_path / "one/collections", tmp_path / "two/collections")
    with serving(tmp_path / "two", min_rows_to_train=10**9) as running, a_client(running) as client:
        assert index(running).image_sequence == sequence
        assert everything(client) == before
        assert exact_answers(client) == answers


def test_what_is_restored_from_a_snapshot_starts_from_its_image(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        begun(client)
    with serving(tmp_path, min_rows_to_train=10**9, row_image_changes=60) as running, a_client(running) as client:
        image = index(running).image_sequence
        write(client, range(20), 9)
        settle(client)
        few = snapshot(client)
        assert index(running).image_sequence == image, "few changes are done again"
        before, answers = everything(client), exact_answers(client)
        client.wait_for_operation(client.restore_snapshot("points", few, into="few"))
        assert index(running, "few").image_sequence == image
        client.delete_collection("points")
        client.wait_for_operation(client.restore_snapshot("points", few))
        assert everything(client) == before
        assert exact_answers(client) == answers


def test_a_snapshot_after_many_changes_has_an_image_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, min_rows_to_train=10**9, row_image_changes=60) as running, a_client(running) as client:
        # None comes by itself.
        monkeypatch.setattr(running.server.engine.upkeep, "_begin_heavy", lambda watched: None)
        begun(client)
        taken = snapshot(client)
        sequence = index(running).sequence
        client.wait_for_operation(client.restore_snapshot("points", taken, into="again"))
        assert index(running, "again").image_sequence == sequence


def test_a_compacted_collection_has_an_image_of_its_new_rows(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=10**9, row_image_changes=60) as running, a_client(running) as client:
        begun(client)
        client.wait_for_operation(client.compact_collection("points"))
        sequence = index(running).sequence
        wait_for(lambda: index(running).image_sequence == sequence)
        before, answers = everything(client), exact_answers(client)
        assert rows(client) == len(before)
        write(client, range(5), 11)
        settle(client)
        before, answers = everything(client), exact_answers(client)
        (folder,) = tmp_path.glob("collections/points/versions/*")
        assert folder.name == "v1.1"
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        assert index(running).image_sequence == index(running).sequence > sequence
        assert everything(client) == before
        assert exact_answers(client) == answers


def test_a_disk_that_refuses_an_image_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("engine.pipeline.row_images.write_arrays", full)
    with serving(tmp_path, min_rows_to_train=10**9, row_image_changes=60) as running, a_client(running) as client:
        begun(client)
        wait_for(lambda: kinds(client) == ["checkpoint"])
        (failed,) = client.list_operations()
        with pytest.raises(ReadOnly, match="No space left"):
            client.wait_for_operation(failed)
        before = everything(client)
    assert images(tmp_path) == []
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        assert index(running).image_sequence == 0
        assert everything(client) == before


def test_a_collection_can_be_deleted_while_its_image_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, go_on = threading.Event(), threading.Event()

    def waiting(folder: Path, *arguments: Any, **options: Any) -> Any:
        begin.set()
        go_on.wait(30)
        return write_arrays(folder, *arguments, **options)

    monkeypatch.setattr("engine.pipeline.row_images.write_arrays", waiting)
    with serving(tmp_path, min_rows_to_train=10**9, row_image_changes=60) as running, a_client(running) as client:
        begun(client)
        assert begin.wait(30)
        deleting = threading.Thread(target=client.delete_collection, args=["points"])
        deleting.start()
        wait_for(lambda: "points" not in running.server.engine.collections)
        go_on.set()
        deleting.join()
        assert not list(tmp_path.glob("collections/*"))
        begun(client)
        assert client.count("points") == 471


def test_an_image_is_synced_with_what_was_committed_without_a_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = CollectionStore.sync

    def sync(store: CollectionStore) -> None:
        synced.append(store.schema.name)
        real(store)

    monkeypatch.setattr(CollectionStore, "sync", sync)
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        begun(client)
        assert synced == []
    assert synced == ["points"]
    assert images(tmp_path) != []


def test_changes_made_while_an_image_is_written_are_kept_for_it_and_those_before_it_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, go_on = threading.Event(), threading.Event()

    def waiting(folder: Path, *arguments: Any, **options: Any) -> Any:
        begin.set()
        go_on.wait(30)
        return write_arrays(folder, *arguments, **options)

    monkeypatch.setattr("engine.pipeline.row_images.write_arrays", waiting)
    monkeypatch.setattr(change_log, "_FORGOTTEN_AT_ONCE", 1)
    settings: dict[str, Any] = {"min_rows_to_train": 10**9, "change_log_kept": 0}
    with serving(tmp_path / "one", **settings) as running, a_client(running) as client:
        begun(client)
        collection = running.server.engine.collections["points"]
        sequence = collection.store.sequence
        imaging = threading.Thread(target=lambda: running.on_loop(lambda: write_image(collection, lambda *_: None)))
        imaging.start()
        assert begin.wait(30)
        write(client, range(20), 3)
        go_on.set()
        imaging.join()
        settle(client)
        assert index(running).image_sequence == sequence == collection.store.sequence - 21
        with pytest.raises(ChangesGone, match=f"begins with {sequence + 1}"):
            collection.store.changes_after(0, limit=1)
        before, answers = everything(client), exact_answers(client)
        shutil.copytree(tmp_path / "one/collections", tmp_path / "two/collections")
    with serving(tmp_path / "two", **settings) as running, a_client(running) as client:
        assert index(running).image_sequence == sequence
        assert everything(client) == before
        assert exact_answers(client) == answers
