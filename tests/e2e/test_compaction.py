"""Dead rows are given back beside searches and writes, and everything stays as it is but for the rows."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.client import RetrievalClient
from engine.errors import Cancelled, FailedPrecondition, InvalidArgument, OperationNotFound, ReadOnly
from engine.pipeline import compaction
from engine.store import CollectionStore
from engine.store.compaction import Compaction
from engine.types import (
    AttributeSpec,
    AttributeType,
    Filter,
    Float32Array,
    Int64Array,
    Item,
    Match,
    Range,
    SearchParams,
    Uint8Array,
    Visibility,
)
from tests.e2e import test_upkeep as upkeep
from tests.e2e.serving import Serving, a_client, serving, vector_schema, wait_for
from tests.e2e.test_upkeep import ROWS, D, load, recall, trained

pytestmark = pytest.mark.timeout(300)
VECTORS = upkeep.VECTORS.round()
FILTERS = [
    Filter(),
    Filter(must=(Range("rank", lt=ROWS // 4),)),
    Filter(must=(Match("group", any_of=("a", "c")),)),
    Filter(must_not=(Match("group", any_of=("b",)),)),
]


def clustered(rows: int, seed: int) -> Float32Array:
    """Of small integers: whichever way scores are summed up, they are the same, and ties are ties."""
    return upkeep.clustered(rows, seed).round()


def rows(client: RetrievalClient) -> int:
    return client.get_collection("points").message.versions[0].memory.row_count


def everything(client: RetrievalClient) -> list[tuple[Any, ...]]:
    return [
        (item.id, item.sequence, dict(item.attributes), item.vectors.tobytes() if item.vectors is not None else None)
        for item in client.scroll("points", vectors=True)
    ]


def exact_answers(client: RetrievalClient) -> list[tuple[list[int], list[float]]]:
    queries = clustered(20, 5)
    answers = []
    for tree in FILTERS:
        found = client.search_batch("points", queries, params=SearchParams(k=10, exact=True, filter=tree))
        answers.append((np.asarray(found.ids).tolist(), np.asarray(found.scores).tolist()))
    return answers


def write(client: RetrievalClient, ids: range, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = clustered(len(ids), seed)
    items = [
        Item(n, {}, {"rank": int(rng.integers(ROWS)), "group": "abc"[int(rng.integers(3))]}, vector)
        for n, vector in zip(ids, vectors, strict=True)
    ]
    client.upsert("points", items)


def settle(client: RetrievalClient) -> None:
    """Once the last of all writes is searchable."""
    client.upsert("points", [Item(10**9, {}, {}, VECTORS[0])], visibility=Visibility.SEARCHABLE)


def test_a_compaction_changes_nothing_but_the_rows(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS)
        trained(client)
        write(client, range(ROWS // 3), 7)
        client.delete("points", list(range(ROWS // 3, ROWS // 2)))
        settle(client)
        before, answers = everything(client), exact_answers(client)
        assert rows(client) == ROWS + ROWS // 3 + 1
        told: list[str] = []
        done = client.wait_for_operation(client.compact_collection("points"), told=lambda one: told.append(one.stage))
        assert (done.kind, done.collection, done.progress) == ("compact", "points", 1.0)
        assert rows(client) == len(before)
        assert everything(client) == before
        assert exact_answers(client) == answers
        assert client.get_collection("points").message.versions[0].ivfpq.rows > ROWS // 4
        assert recall(client, SearchParams(k=10)) >= 0.9
        assert recall(client, SearchParams(k=10, filter=FILTERS[2])) >= 0.9
        write(client, range(10), 8)
        client.delete("points", [11, 10**9])
        settle(client)
        before, answers = everything(client), exact_answers(client)
    assert len(list(tmp_path.glob("collections/points/versions/*"))) == 1
    with serving(tmp_path, min_rows_to_train=10**9) as again, a_client(again) as client:
        assert everything(client) == before
        assert exact_answers(client) == answers
        assert client.get_collection("points").message.versions[0].ivfpq.rows > ROWS // 4
        assert recall(client, SearchParams(k=10)) >= 0.9


def test_writes_and_searches_beside_a_compaction_lose_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS)
        trained(client)
        write(client, range(ROWS // 2), 7)
        stopping = threading.Event()
        deleted: set[int] = set()
        wrong: list[object] = []

        def keep_writing() -> None:
            rng = np.random.default_rng(3)
            with a_client(running) as other:
                while not stopping.is_set():
                    first = int(rng.integers(ROWS))
                    write(other, range(first, first + 5), first)
                    gone = int(rng.integers(ROWS, 2 * ROWS))
                    other.upsert("points", [Item(gone, {}, {}, VECTORS[gone % ROWS])])
                    other.delete("points", [gone], visibility=Visibility.SEARCHABLE)
                    deleted.add(gone)
                    known = frozenset(deleted)
                    found = other.search("points", VECTORS[gone % ROWS], params=SearchParams(k=50))
                    wrong.extend(hit.id for hit in found.hits if hit.id in known)

        writer = threading.Thread(target=keep_writing)
        writer.start()
        try:
            client.wait_for_operation(client.compact_collection("points"))
        finally:
            stopping.set()
            writer.join()
        assert not wrong
        settle(client)
        before, answers = everything(client), exact_answers(client)
        assert len({one[0] for one in before}) == len(before) == client.count("points")
        assert len(deleted) > 3
    with serving(tmp_path, min_rows_to_train=10**9) as again, a_client(again) as client:
        assert everything(client) == before
        assert exact_answers(client) == answers


def test_a_collection_with_many_dead_rows_is_compacted_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.pipeline.needs._LEAST_DEAD_ROWS", 100)
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:200])
        load(client, VECTORS[:200])
        settle(client)
        wait_for(lambda: rows(client) == 201, seconds=30)
        (operation,) = client.list_operations()
        assert operation.kind == "compact"
        wait_for(lambda: client.operation(operation.name).is_done)
        assert [one.name for one in client.list_operations()] == [operation.name]


def stalled(running: Serving, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Compactions wait at their first step until the answer is called."""
    gate = threading.Event()
    real = Compaction.copy

    def waiting(compaction: Compaction) -> bool:
        gate.wait(30)
        return real(compaction)

    monkeypatch.setattr(Compaction, "copy", waiting)
    return gate.set


def test_a_cancelled_compaction_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:200])
        load(client, VECTORS[:100])
        settle(client)
        before = everything(client)
        go_on = stalled(running, monkeypatch)
        operation = client.compact_collection("points")
        wait_for(lambda: client.operation(operation.name).stage == "copying")
        client.cancel_operation(operation.name)
        go_on()
        with pytest.raises(Cancelled):
            client.wait_for_operation(operation)
        assert everything(client) == before
        assert rows(client) == 301
        client.wait_for_operation(client.compact_collection("points"))
        assert rows(client) == 201
        assert everything(client) == before
        with pytest.raises(OperationNotFound, match="compact-9"):
            client.operation("compact-9")
        with pytest.raises(InvalidArgument, match="page_token"):
            client._call(client._admin.ListOperations, _page("x"), None)


def _page(token: str) -> object:
    from engine.v1 import admin_pb2

    return admin_pb2.ListOperationsRequest(page_token=token)


def test_a_collection_can_be_deleted_while_it_is_compacted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:200])
        go_on = stalled(running, monkeypatch)
        operation = client.compact_collection("points")
        go_on()
        client.delete_collection("points")
        wait_for(lambda: client.operation(operation.name).is_done)
        assert not list(tmp_path.glob("collections/*"))
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:10])
        assert client.count("points") == 10


def test_an_attribute_added_meanwhile_ends_a_compaction_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:200])
        go_on = stalled(running, monkeypatch)
        operation = client.compact_collection("points")
        client.add_attribute("points", AttributeSpec("later", AttributeType.INT))
        go_on()
        with pytest.raises(FailedPrecondition, match="attribute"):
            client.wait_for_operation(operation)
        client.upsert("points", [Item(7, {}, {"later": 3}, VECTORS[0])], visibility=Visibility.SEARCHABLE)
        client.wait_for_operation(client.compact_collection("points"))
        assert client.count("points", Filter(must=(Range("later", gte=3),))) == 1


def test_a_disk_that_refuses_ends_a_compaction_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:200])
        load(client, VECTORS[:100])
        settle(client)
        before = everything(client)
        with monkeypatch.context() as patch:
            patch.setattr("engine.store.segments._write_all", full)
            with pytest.raises(ReadOnly, match="No space left"):
                client.wait_for_operation(client.compact_collection("points"))
        assert everything(client) == before
        client.wait_for_operation(client.compact_collection("points"))
        assert everything(client) == before
        assert rows(client) == 201


def test_ties_keep_their_order(tmp_path: Path) -> None:
    same: Float32Array = np.repeat(VECTORS[:1], 60, axis=0)
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, same)
        load(client, same[:20])
        settle(client)
        before = [hit.id for hit in client.search("points", VECTORS[0], params=SearchParams(k=60)).hits]
        client.wait_for_operation(client.compact_collection("points"))
        assert [hit.id for hit in client.search("points", VECTORS[0], params=SearchParams(k=60)).hits] == before


def test_a_compaction_cancelled_while_it_begins_can_be_begun_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, gate = threading.Event(), threading.Event()
    real = CollectionStore.begin_compaction

    def waiting(store: CollectionStore) -> Compaction:
        entered.set()
        gate.wait(30)
        return real(store)

    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:100])
        load(client, VECTORS[:50])
        with monkeypatch.context() as patch:
            patch.setattr(CollectionStore, "begin_compaction", waiting)
            operation = client.compact_collection("points")
            assert entered.wait(30)
            client.cancel_operation(operation.name)
            with pytest.raises(Cancelled):
                client.wait_for_operation(operation)
            gate.set()
        client.wait_for_operation(client.compact_collection("points"))
        assert rows(client) == 100


def test_files_are_not_closed_under_a_copying_thread_however_often_a_compaction_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    entered, gate = threading.Event(), threading.Event()
    copy, give_up = Compaction.copy, CollectionStore.give_up_compaction

    def waiting(compaction: Compaction) -> bool:
        entered.set()
        gate.wait(30)
        more = copy(compaction)
        events.append("copied")
        return more

    def noted(store: CollectionStore) -> None:
        events.append("given up")
        give_up(store)

    monkeypatch.setattr(Compaction, "copy", waiting)
    monkeypatch.setattr(CollectionStore, "give_up_compaction", noted)
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:100])
        operation = client.compact_collection("points")
        assert entered.wait(30)
        for _ in range(3):
            client.cancel_operation(operation.name)
            # Through the commit lane, behind whatever the cancelled compaction has posted there.
            settle(client)
        assert events == []
        gate.set()
        with pytest.raises(Cancelled):
            client.wait_for_operation(operation)
        settle(client)
        assert events == ["copied", "given up"]
        client.wait_for_operation(client.compact_collection("points"))
        assert rows(client) == 101


def test_all_rows_are_looked_through_neither_in_the_search_lane_nor_on_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    real = compaction.rows_of_mask

    def noted(mask: Uint8Array, *, end_row: int) -> Int64Array:
        threads.append(threading.current_thread())
        return real(mask, end_row=end_row)

    monkeypatch.setattr(compaction, "rows_of_mask", noted)
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:100])
        lane = running.on_loop(lambda: running.server.engine.lanes.search.call(threading.current_thread))
        loop = running.on_loop(_this_thread)
        client.wait_for_operation(client.compact_collection("points"))
    assert len(threads) == 1
    assert threads[0] not in (lane, loop)


async def _this_thread() -> threading.Thread:
    return threading.current_thread()
