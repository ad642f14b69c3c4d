"""While upkeep is paused nothing new begins, what is asked for runs, and searches are as right as ever."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.client import OperationStatus, RetrievalClient
from engine.errors import Cancelled, CollectionNotFound
from engine.types import Item, SearchParams, Visibility
from tests.e2e.serving import Serving, a_client, serving, vector_schema, wait_for
from tests.e2e.test_upkeep import ROWS, VECTORS, D, clustered, load, recall, trained

pytestmark = pytest.mark.timeout(300)


def begun(client: RetrievalClient) -> list[tuple[str, str]]:
    return [(one.kind, one.collection) for one in client.list_operations()]


def is_paused(client: RetrievalClient, name: str = "points") -> bool:
    return client.get_collection(name).message.upkeep_paused


def fill(client: RetrievalClient, name: str) -> None:
    client.create_collection(vector_schema(name, dimension=D))
    items = [Item(n, {}, {}, vector) for n, vector in enumerate(VECTORS)]
    client.upsert(name, items, visibility=Visibility.SEARCHABLE)


def only(client: RetrievalClient) -> OperationStatus:
    (operation,) = client.list_operations()
    return operation


def gauge(server: Serving, name: str = "points") -> float | None:
    return server.server.metrics.registry.get_sample_value("ebr_upkeep_paused", {"collection": name})


def test_nothing_is_trained_while_upkeep_is_paused_and_it_is_once_resumed(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        assert (is_paused(client), gauge(running)) == (False, 0.0)
        assert client.pause_upkeep("points") == []
        assert (is_paused(client), gauge(running)) == (True, 1.0)
        load(client)
        assert begun(client) == []
        client.resume_upkeep("points")
        assert begun(client) == [("train", "points")]
        assert (is_paused(client), gauge(running)) == (False, 0.0)
        client.delete_collection("points")
        assert gauge(running) is None


def test_rows_written_during_a_pause_are_found_exactly_and_folded_after_it(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client)
        trained(client)
        client.pause_upkeep("points")
        before = client.get_collection("points").message.versions[0].ivfpq.rows
        late = clustered(ROWS // 2, 9)
        load(client, late, first=ROWS)
        found = client.search_batch("points", late[:50], params=SearchParams(k=1))
        np.testing.assert_array_equal(found.ids, np.arange(ROWS, ROWS + 50))
        assert recall(client, SearchParams(k=10)) >= 0.85
        assert client.get_collection("points").message.versions[0].ivfpq.rows == before
        client.resume_upkeep("points")
        trained(client, rows=ROWS + len(late))


def test_a_pause_leaves_what_is_under_way_to_end(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        fill(client, "points")
        wait_for(lambda: "waiting" not in only(client).stage, seconds=60)
        (left,) = client.pause_upkeep("points")
        assert left.kind == "train"
        assert client.wait_for_operation(left).error is None
        assert client.get_collection("points").message.versions[0].ivfpq.rows > 0


def test_a_pause_cancels_what_is_under_way_where_it_is_told_to_and_nothing_takes_its_place(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        fill(client, "points")
        (ended,) = client.pause_upkeep(cancel=True)
        with pytest.raises(Cancelled):
            client.wait_for_operation(ended)
        load(client, VECTORS[:10], first=ROWS)
        assert begun(client) == [("train", "points")]
    assert not list(tmp_path.glob("collections/points/versions/*/build-*"))


def test_what_waits_for_its_turn_when_upkeep_is_paused_does_not_begin(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        fill(client, "first")
        fill(client, "second")
        training, waiting = client.list_operations()
        assert waiting.stage == "waiting to train"
        client.pause_upkeep("second")
        client.pause_upkeep("first", cancel=True)
        with pytest.raises(Cancelled):
            client.wait_for_operation(waiting)
        assert client.operation(training.name).is_done
        assert len(begun(client)) == 2


def test_what_is_asked_for_runs_during_a_pause_of_all_and_is_not_cancelled_by_it(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:100])
        asked = client.compact_collection("points")
        assert client.pause_upkeep(cancel=True) == []
        assert client.server().upkeep_paused
        assert client.wait_for_operation(asked).error is None
        snapshot = client.wait_for_operation(client.create_snapshot("points")).snapshot
        assert snapshot is not None
        client.wait_for_operation(client.restore_snapshot("points", snapshot.id, into="again"))
        assert client.count("again") == 100


def test_a_pause_of_all_holds_for_collections_made_later_until_one_or_all_are_resumed(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=10**9) as running, a_client(running) as client:
        client.pause_upkeep()
        for name in ("first", "second", "third"):
            client.create_collection(vector_schema(name, dimension=D))
        assert all(is_paused(client, name) for name in ("first", "second", "third"))
        client.resume_upkeep("second")
        assert [gauge(running, name) for name in ("first", "second", "third")] == [1.0, 0.0, 1.0]
        client.pause_upkeep("second")
        client.resume_upkeep()
        assert not client.server().upkeep_paused
        assert not any(is_paused(client, name) for name in ("first", "second", "third"))
        client.pause_upkeep()
    with serving(tmp_path) as again, a_client(again) as client:
        assert not client.server().upkeep_paused
        assert not is_paused(client, "first")


def test_a_collection_that_is_not_there_can_be_neither_paused_nor_resumed(tmp_path: Path) -> None:
    with serving(tmp_path) as running, a_client(running) as client:
        for ask in (client.pause_upkeep, client.resume_upkeep):
            with pytest.raises(CollectionNotFound):
                ask("nowhere")
