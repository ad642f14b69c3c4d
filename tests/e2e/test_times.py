"""Items are found from when to when they say, exactly, and are gone from the store some time after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.client import RetrievalClient
from engine.pipeline.collection import Collection
from engine.types import Filter, Item, ItemUpdate, Match, SearchParams, Times, Timestamp, Visibility
from tests.e2e.serving import Serving, a_client, serving, vector_schema, wait_for

pytestmark = pytest.mark.timeout(300)
SEEN = Visibility.SEARCHABLE
D = 4
HERE = np.ones(D, np.float32)


def collection(running: Serving) -> Collection:
    return running.server.engine.collections["points"]


class Clock:
    """What the server takes for the time, in microseconds."""

    now = 1000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    one = Clock()
    monkeypatch.setattr("engine.index.version_index.wall_micros", lambda: one.now)
    return one


def item(number: int, begins: int | None = None, ends: int | None = None) -> Item:
    times = Times(*(None if one is None else Timestamp(one) for one in (begins, ends)))
    return Item(number, {}, {"group": "a"}, HERE + number, times=times)


def found(client: RetrievalClient) -> list[object]:
    everything = [
        SearchParams(k=100),
        SearchParams(k=100, exact=True),
        SearchParams(k=100, filter=Filter(must=(Match("group", any_of=("a",)),))),
    ]
    answers = [sorted(str(hit.id) for hit in client.search("points", HERE, params=one).hits) for one in everything]
    assert answers[0] == answers[1] == answers[2]
    assert client.count("points") == client.count("points", everything[2].filter) == len(answers[0])
    return [int(one) for one in answers[0]]


def test_an_item_is_found_from_when_to_when_it_says(tmp_path: Path, clock: Clock) -> None:
    with serving(tmp_path) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        client.upsert(
            "points", [item(1), item(2, begins=2000), item(3, ends=3000), item(4, 2000, 3000)], visibility=SEEN
        )
        assert found(client) == [1, 3]
        clock.now = 1999
        assert found(client) == [1, 3]
        clock.now = 2000
        assert found(client) == [1, 2, 3, 4]
        clock.now = 2999
        assert found(client) == [1, 2, 3, 4]
        clock.now = 3000
        assert found(client) == [1, 2]


def test_times_are_changed_by_an_update_and_by_writing_the_item_again(tmp_path: Path, clock: Clock) -> None:
    with serving(tmp_path) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        client.upsert("points", [item(1, ends=2000), item(2, ends=2000), item(3, begins=5000)], visibility=SEEN)
        client.update("points", [ItemUpdate(1, times=Times(expires_at=Timestamp(4000)))], visibility=SEEN)
        client.upsert("points", [item(2)], visibility=SEEN)
        client.update("points", [ItemUpdate(3, {"group": "b"})], visibility=SEEN)
        (stored,) = client.get("points", [3])
        assert stored.times == Times(visible_from=Timestamp(5000))
        clock.now = 2500
        assert [one.id for one in client.search("points", HERE, params=SearchParams(k=9)).hits] == [1, 2]
        clock.now = 4000
        assert [one.id for one in client.search("points", HERE, params=SearchParams(k=9)).hits] == [2]
        clock.now = 5000
        assert sorted(int(one.id) for one in client.search("points", HERE, params=SearchParams(k=9)).hits) == [2, 3]


def test_times_outlive_a_restart_a_compaction_and_a_snapshot(tmp_path: Path, clock: Clock) -> None:
    with serving(tmp_path) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        client.upsert("points", [item(n) for n in range(10, 20)])
        client.upsert("points", [item(1), item(2, begins=2000), item(3, ends=3000)], visibility=SEEN)
        client.delete("points", list(range(10, 20)), visibility=SEEN)
        client.wait_for_operation(client.compact_collection("points"))
        assert collection(running).index.rows.n_rows == 3
        assert found(client) == [1, 3]
        clock.now = 2000
        assert found(client) == [1, 2, 3]
        taken = client.wait_for_operation(client.create_snapshot("points")).snapshot
        assert taken is not None
    clock.now = 1000
    with serving(tmp_path) as again, a_client(again) as client:
        assert found(client) == [1, 3]
        clock.now = 3000
        assert found(client) == [1, 2]
        clock.now = 2500
        client.wait_for_operation(client.restore_snapshot("points", taken.id, into="copy"))
        assert client.count("copy") == 3


def test_what_has_expired_is_deleted_unless_it_was_written_again(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.pipeline.upkeep._LOOK_SECONDS", 0.05)
    with serving(tmp_path) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        client.upsert("points", [item(1), item(2, ends=2000), item(3, ends=2000), item(4, ends=9000)], visibility=SEEN)
        client.update("points", [ItemUpdate(3, times=Times(expires_at=Timestamp(9000)))], visibility=SEEN)
        clock.now = 2000
        wait_for(lambda: len(client.get("points", [1, 2, 3, 4])) == 3)
        assert [one.id for one in client.get("points", [1, 2, 3, 4])] == [1, 3, 4]
        assert found(client) == [1, 3, 4]


def test_times_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with serving(tmp_path) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        result = client.upsert("points", [item(1, 2000, 2000), item(2, 2000, 2001)])
        assert [(error.index, "never be seen" in error.error.message) for error in result.errors] == [(0, True)]
