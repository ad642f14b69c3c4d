"""Inverted lists come, are used, outlive a restart, and are done without where they are damaged."""

from __future__ import annotations

import asyncio
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from engine.client import CollectionInfo, RetrievalClient
from engine.errors import FailedPrecondition
from engine.index.costs import Costs
from engine.index.query_log import ENOUGH
from engine.index.tuning import Band, Setting, Tuning
from engine.index.version_index import LEAST_FOLDED
from engine.item_columns import ItemColumns
from engine.lanes.turns import ITEMS_A_TURN
from engine.pipeline.needs import tail_share
from engine.types import Filter, Float32Array, Item, ItemUpdate, Range, SearchParams, Strategy, Visibility
from tests.e2e.serving import Serving, a_client, serving, vector_schema, wait_for

ROWS, D = 3000, 16
pytestmark = pytest.mark.timeout(300)


def clustered(rows: int, seed: int) -> Float32Array:
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(1).normal(size=(40, D)) * 4
    return (centers[rng.integers(0, 40, rows)] + rng.normal(size=(rows, D))).astype(np.float32)


VECTORS = clustered(ROWS, 2)


def load(client: RetrievalClient, vectors: Float32Array = VECTORS, first: int = 0) -> None:
    items = [Item(first + n, {}, {"rank": n}, vector) for n, vector in enumerate(vectors)]
    client.upsert("points", items, visibility=Visibility.SEARCHABLE)


def trained(client: RetrievalClient, rows: int = ROWS) -> CollectionInfo:
    found: list[CollectionInfo] = []

    def is_trained() -> bool:
        found[:] = [client.get_collection("points")]
        return found[0].message.versions[0].ivfpq.rows >= rows

    wait_for(is_trained, seconds=120)
    return found[0]


def recall(client: RetrievalClient, params: SearchParams) -> float:
    """Of the items found, the share that exact search finds too."""
    queries = clustered(40, 3)
    exact = client.search_batch("points", queries, params=SearchParams(k=10, filter=params.filter, exact=True))
    found = client.search_batch("points", queries, params=params)
    pairs = [(set(found.rows(i)[0]), set(exact.rows(i)[0])) for i in range(len(queries))]
    return float(np.mean([len(one & other) / len(other) for one, other in pairs]))


def test_lists_are_trained_used_and_kept_over_a_restart(tmp_path: Path) -> None:
    params = SearchParams(k=10, strategy=Strategy.IVFPQ)
    filtered = SearchParams(k=10, strategy=Strategy.IVFPQ, filter=Filter(must=(Range("rank", lt=ROWS // 3),)))
    with serving(tmp_path, min_rows_to_train=ROWS) as first, a_client(first) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:10])
        with pytest.raises(FailedPrecondition, match="not trained"):
            client.search("points", VECTORS[0], params=params)
        load(client)
        index = trained(client).message.versions[0].ivfpq
        assert index.nlist > 1
        assert index.code_bytes > 0
        result = client.search("points", VECTORS[0], params=params)
        assert result.explanation.strategy is Strategy.IVFPQ
        assert 0 < result.explanation.nprobe <= index.nlist
        assert result.explanation.expected_recall_provisional
        assert recall(client, params) >= 0.85
        assert recall(client, filtered) >= 0.85
        assert client.search("points", VECTORS[0], params=filtered).explanation.strategy is Strategy.FILTERED_IVFPQ
    with serving(tmp_path, min_rows_to_train=10**9) as second, a_client(second) as client:
        assert trained(client).message.versions[0].ivfpq.nlist == index.nlist
        assert recall(client, params) >= 0.85


def test_new_items_are_found_at_once_and_deleted_ones_never_with_lists_trained(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client)
        trained(client)
        params = SearchParams(k=1, strategy=Strategy.IVFPQ)
        load(client, VECTORS[:5] + 100, first=ROWS)
        assert client.search("points", VECTORS[3] + 100, params=params).hits[0].id == ROWS + 3
        client.delete("points", [ROWS + 3, 7], visibility=Visibility.SEARCHABLE)
        everything = client.search_batch("points", VECTORS[:8], params=SearchParams(k=50, strategy=Strategy.IVFPQ))
        assert not {ROWS + 3, 7} & set(everything.ids.tolist())  # type: ignore[union-attr]


def test_the_fewest_rows_are_folded_too_once_no_more_come(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client)
        trained(client)
        for more in (1, 2, LEAST_FOLDED + 3):
            held = int(trained(client).message.versions[0].ivfpq.rows)
            load(client, VECTORS[:more], first=10 * held)
            assert trained(client, held + more).message.versions[0].ivfpq.rows == held + more


def test_rows_in_no_list_cost_searches_a_share_of_their_time_until_they_are_folded(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        engine = running.server.engine
        client.create_collection(vector_schema(dimension=D))
        index = engine.collections["points"].index
        assert tail_share(index, engine.settings) == 0.0
        load(client)
        trained(client)
        client.pause_upkeep("points")
        assert index.lists is not None
        # As measured where lists pay, which among so few rows they may not.
        setting = Setting(1.0, 1.0, 4.0, 100.0, 100.0, 50.0, 8, 100, 0.99, seconds_b1=1e-4, seconds_b64=1e-5)
        index.lists = replace(index.lists, tuning=Tuning([Band(10, 1.0, ((0.99, setting),))], index.costs))
        shares = []
        for first in (ROWS, ROWS + 200, ROWS + 400):
            load(client, clustered(200, first), first=first)
            shares.append(tail_share(index, engine.settings))
        assert 0.0 < shares[0] < shares[1] < shares[2] < 1.0
        client.resume_upkeep("points")
        wait_for(lambda: tail_share(index, engine.settings) == 0.0, seconds=60)


def test_requests_of_many_items_are_held_back_while_the_lists_are_behind_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.pipeline.upkeep._HELD_BACK_SECONDS", 0.05)
    with serving(tmp_path) as running, a_client(running) as client:
        upkeep = running.server.engine.upkeep
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:200])
        assert upkeep.held_back() == {"points": 0.0}
        monkeypatch.setattr("engine.pipeline.upkeep._MOST_TAIL_SHARE", -1.0)
        load(client, VECTORS[:ITEMS_A_TURN])
        assert upkeep.held_back() == {"points": 0.0}
        load(client, VECTORS[: ITEMS_A_TURN + 1])
        held = upkeep.held_back()["points"]
        assert held > 0.0
        list(client.upsert_columns("points", [ItemColumns(np.arange(3, dtype=np.uint64), VECTORS[:3])]))
        assert upkeep.held_back()["points"] > held
        held = upkeep.held_back()["points"]
        client.update("points", [ItemUpdate(n, {"rank": 7}) for n in range(ITEMS_A_TURN + 1)])
        assert upkeep.held_back()["points"] > held
        client.pause_upkeep("points")
        held = upkeep.held_back()["points"]
        load(client, VECTORS[:200])
        assert upkeep.held_back()["points"] == held


def test_who_is_held_back_has_half_of_its_time_left_for_the_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.pipeline.upkeep._MOST_TAIL_SHARE", -1.0)
    monkeypatch.setattr("engine.pipeline.upkeep._HELD_BACK_SECONDS", 1000.0)
    with serving(tmp_path) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        items = [Item(n, {}, {}, vector) for n, vector in enumerate(VECTORS[: ITEMS_A_TURN + 1])]
        assert client.upsert("points", items, timeout_s=2.0).accepted == len(items)


def test_what_is_cancelled_of_upkeep_is_not_begun_again_at_once_unless_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def for_ever(collection: object, report: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("engine.pipeline.upkeep.write_image", for_ever)
    monkeypatch.setattr("engine.pipeline.needs._CHANGED_SHARE", 0.0)
    with serving(tmp_path, row_image_changes=10) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:20])
        wait_for(lambda: len(client.list_operations()) == 1, seconds=60)
        client.cancel_operation(client.list_operations()[0].name)
        wait_for(lambda: client.list_operations()[0].is_done, seconds=60)
        load(client, VECTORS[:20])
        assert [one.is_done for one in client.list_operations()] == [True]
        client.resume_upkeep("points")
        wait_for(lambda: sorted(one.is_done for one in client.list_operations()) == [False, True], seconds=60)


def test_a_damaged_image_is_passed_over_and_search_stays_exact(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as first, a_client(first) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client)
        trained(client)
        exact = client.search_batch("points", VECTORS[:20], params=SearchParams(exact=True))
    (lists,) = tmp_path.glob("collections/points/versions/*/ivfpq-*.faiss")
    content = bytearray(lists.read_bytes())
    content[len(content) // 2] ^= 0xFF
    lists.write_bytes(content)
    with serving(tmp_path, min_rows_to_train=10**9) as second, a_client(second) as client:
        assert client.get_collection("points").message.versions[0].ivfpq.rows == 0
        found = client.search_batch("points", VECTORS[:20])
        np.testing.assert_array_equal(found.ids, exact.ids)


def test_a_collection_can_be_deleted_and_a_server_stopped_while_lists_are_trained(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        for again in range(2):
            client.create_collection(vector_schema(dimension=D))
            load(client)
            wait_for(lambda: client.get_collection("points").message.versions[0].upkeep != "", seconds=30)
            if again == 0:
                client.delete_collection("points")
    assert not list(tmp_path.glob("collections/points/versions/*/build-*"))


def test_live_queries_are_checked_and_their_recall_is_a_metric(tmp_path: Path) -> None:
    params = SearchParams(k=10, strategy=Strategy.IVFPQ)
    settings = {"recall_check_share": 1.0, "recall_check_cpu_share": 1.0}
    with serving(tmp_path, min_rows_to_train=ROWS, **settings) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client)
        trained(client)
        queries = clustered(20, 3)
        client.search_batch("points", queries, params=SearchParams(k=10, exact=True))
        found = client.search_batch("points", queries, params=params)
        like = {"collection": "points", "strategy": "ivfpq", "selectivity": "50-100%"}
        value = running.server.metrics.registry.get_sample_value
        wait_for(lambda: value("ebr_recall_wanted_total", like) == 200, seconds=60)
        exact = client.search_batch("points", queries, params=SearchParams(k=10, exact=True))
        right = sum(len(set(found.rows(i)[0]) & set(exact.rows(i)[0])) for i in range(20))
        assert value("ebr_recall_found_total", like) == right
        assert value("ebr_recall", like) == pytest.approx(right / 200)
        assert value("ebr_recall_checked_queries") == 20


def test_live_queries_are_logged_over_a_restart_until_that_is_not_wanted(tmp_path: Path) -> None:
    def logged(server: Serving) -> int:
        return len(server.server.engine.collections["points"].index.query_log)

    with serving(tmp_path) as first, a_client(first) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:10])
        client.search_batch("points", clustered(20, 3))
    with serving(tmp_path) as second:
        assert logged(second) == 20
    with serving(tmp_path, log_queries=False) as third, a_client(third) as client:
        client.search_batch("points", clustered(20, 3))
        assert logged(third) == 0
    with serving(tmp_path) as fourth:
        assert logged(fourth) == 0


@pytest.mark.parametrize(("dear", "strategy"), [("gather_call", Strategy.MASKED_SCAN), ("scan_call", Strategy.GATHER)])
def test_costs_that_are_given_decide_the_plan(tmp_path: Path, dear: str, strategy: Strategy) -> None:
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({field.name: 1e-9 for field in fields(Costs)} | {dear: 1.0}))
    with serving(tmp_path / "data", costs_file=path) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client, VECTORS[:100])
        few = SearchParams(filter=Filter(must=(Range("rank", lt=50),)))
        assert client.search("points", VECTORS[0], params=few).explanation.strategy is strategy


def test_lists_are_tuned_again_among_all_rows_once_there_are_a_quarter_more(tmp_path: Path) -> None:
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client)
        trained(client)
        index = running.server.engine.collections["points"].index

        def tuned_among() -> int:
            assert index.lists is not None
            return index.lists.tuning.live_rows

        assert tuned_among() == ROWS
        load(client, clustered(ROWS // 4, 4), first=ROWS)
        wait_for(lambda: tuned_among() == ROWS + ROWS // 4, seconds=120)
        assert not any(one.kind == "train" and not one.is_done for one in client.list_operations())
        assert recall(client, SearchParams(k=10, strategy=Strategy.IVFPQ)) >= 0.85
    with serving(tmp_path) as second, a_client(second):
        lists = second.server.engine.collections["points"].index.lists
        assert lists is not None
        assert lists.tuning.live_rows == ROWS + ROWS // 4


def test_lists_are_tuned_again_once_enough_live_queries_are_logged(tmp_path: Path) -> None:
    params = SearchParams(k=10, strategy=Strategy.IVFPQ)
    with serving(tmp_path, min_rows_to_train=ROWS) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=D))
        load(client)
        trained(client)
        assert client.search("points", VECTORS[0], params=params).explanation.expected_recall_provisional
        client.search_batch("points", clustered(ENOUGH, 3))
        load(client, VECTORS[:1], first=ROWS)

        def is_tuned() -> bool:
            return not client.search("points", VECTORS[0], params=params).explanation.expected_recall_provisional

        wait_for(is_tuned, seconds=120)
        assert recall(client, params) >= 0.85
        lists = running.server.engine.collections["points"].index.lists
        assert lists is not None
        assert lists.tuning.logged_queries >= ENOUGH
    with serving(tmp_path) as second, a_client(second) as client:
        explanation = client.search("points", VECTORS[0], params=params).explanation
        assert not explanation.expected_recall_provisional
