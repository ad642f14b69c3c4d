"""Ranked searches over the wire: in the model's order where all is well, in the fused order where it is not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.client import RetrievalClient
from engine.errors import InvalidArgument, NoPipeline, UnknownAttribute
from engine.ranking import KeywordInput, LegInput, NumberInput, Pipeline, QueryInput, RankInput, RankStage
from engine.scoring import Feature, Scoring
from engine.selection import Diversity, GroupBy
from engine.types import AttributeSpec, AttributeType, Item, ItemUpdate, SearchParams, Visibility
from tests import rankers
from tests.e2e.serving import Serving, a_client, serving, vector_schema

N = 40
QUERY = np.array([3, 0, 0, 0], np.float32)
INPUTS: tuple[RankInput, ...] = (
    LegInput("similarity"),
    NumberInput("rank", missing=-5.0),
    NumberInput("clicks"),
    KeywordInput("group", vocabulary=("even", "odd")),
    QueryInput("bias", missing=(0.0,)),
)
WEIGHTS = (1.0, 0.5, 2.0, 0.0, 10.0, 1.0)
SCHEMA = vector_schema(
    attributes=(
        AttributeSpec("group", AttributeType.KEYWORD),
        AttributeSpec("rank", AttributeType.INT),
        AttributeSpec("clicks", AttributeType.INT, filterable=False, volatile=True),
    )
)


def items() -> list[Item]:
    return [
        Item(
            n,
            {},
            {"group": "odd" if n % 2 else "even", "clicks": (7 * n) % 11} | ({"rank": n % 5} if n % 3 else {}),
            np.array([n / 4, 0, 0, 0], np.float32),
        )
        for n in range(N)
    ]


def expected(retrieve: int, k: int, *, clicks: dict[int, int] | None = None, bias: float = 0.0) -> list[int]:
    """By the attributes and the model's weights, among the nearest."""
    near = sorted(range(N), key=lambda n: (n / 4 - 3) ** 2)[:retrieve]

    def score(n: int) -> float:
        own = (clicks or {}).get(n, (7 * n) % 11)
        return -((n / 4 - 3) ** 2) + 0.5 * (n % 5 if n % 3 else -5) + 2 * own + 10 * (n % 2) + bias

    return sorted(near, key=lambda n: -score(n))[:k]


def pipeline(model: Path, inputs: tuple[RankInput, ...] = INPUTS, **stage: object) -> Pipeline:
    return Pipeline(20, RankStage(str(model), inputs, **stage))


@contextmanager
def filled(folder: Path, **settings: object) -> Iterator[tuple[Serving, RetrievalClient]]:
    with serving(folder, **settings) as running, a_client(running) as client:
        client.create_collection(SCHEMA)
        client.upsert("points", items(), visibility=Visibility.SEARCHABLE)
        yield running, client


def ids(client: RetrievalClient, **params: object) -> list[object]:
    return [hit.id for hit in client.search("points", QUERY, params=SearchParams(**params)).hits]


def test_hits_are_the_model_s_best_of_the_candidates_and_say_so(tmp_path: Path) -> None:
    with filled(tmp_path / "data") as (_, client):
        fused = ids(client, k=5)
        set_ = client.set_pipeline("points", pipeline(rankers.linear(tmp_path / "m.onnx", WEIGHTS)))
        result = client.search("points", QUERY, params=SearchParams(k=5, legs=True, query_features={"bias": (100.0,)}))
        told = result.explanation
        assert [hit.id for hit in result.hits] == expected(20, 5)
        assert (told.ranked, told.rank_fallback, told.candidates_ranked) == (True, None, 20)
        assert told.ranker_version == set_.ranker_version != ""
        assert told.times.rank > 0
        assert result.hits[0].score > 90, "the query's feature counts"
        legs = {leg.name: leg for leg in result.hits[0].legs}
        assert legs["fused"].raw == legs["similarity"].raw
        assert legs["fused"].weight == 0
        assert ids(client, k=5, rank=False) == fused
        off = client.search("points", QUERY, params=SearchParams(k=5, rank=False)).explanation
        assert (off.ranked, off.rank_fallback) == (False, "off")


def test_volatile_attributes_count_as_they_are_now(tmp_path: Path) -> None:
    with filled(tmp_path / "data") as (_, client):
        client.set_pipeline("points", pipeline(rankers.linear(tmp_path / "m.onnx", WEIGHTS)))
        client.update("points", [ItemUpdate(12, {"clicks": 1000})], visibility=Visibility.SEARCHABLE)
        assert ids(client, k=3) == expected(20, 3, clicks={12: 1000})


def test_legs_of_the_query_s_scoring_are_read_by_name_and_missing_where_it_lacks_them(tmp_path: Path) -> None:
    inputs = (LegInput("similarity"), LegInput("clicks", form="raw", missing=3.0), LegInput("fused"))
    with filled(tmp_path / "data") as (_, client):
        client.set_pipeline("points", pipeline(rankers.linear(tmp_path / "m.onnx", (0, -1, 0)), inputs))
        scoring = Scoring(terms=(Feature("clicks", weight=0.25),))
        result = client.search_batch(
            "points",
            np.stack([QUERY, QUERY]),
            params=[SearchParams(k=4, scoring=scoring, legs=True), SearchParams(k=4)],
            explain=True,
        )
        assert result.rank_fallbacks == (None, None)
        first, scores = result.rows(0)
        assert scores.tolist() == [-((7 * int(n)) % 11) for n in first] == sorted(scores, reverse=True)
        assert result.rows(1)[1].tolist() == [-3.0] * 4
        assert ids(client, k=4, rank=False) == result.rows(1)[0].tolist(), "equal ones stand as they stood"


def test_each_query_of_a_batch_is_ranked_or_not_as_it_asks(tmp_path: Path) -> None:
    inputs = (*INPUTS[:-1], QueryInput("bias"))
    with filled(tmp_path / "data") as (_, client):
        stage = pipeline(rankers.linear(tmp_path / "m.onnx", WEIGHTS), inputs, max_candidates=25)
        client.set_pipeline("points", stage)
        asked = [
            SearchParams(k=5, query_features={"bias": (1.0,), "of the next model": (1.0, 2.0)}),
            SearchParams(k=5, rank=False),
            SearchParams(k=5),
            SearchParams(k=5, query_features={"bias": (1.0, 2.0)}),
            SearchParams(k=30),
            SearchParams(k=0),
        ]
        result = client.search_batch("points", np.stack([QUERY] * 6), params=asked, explain=True)
        assert result.rows(0)[0].tolist() == expected(20, 5)
        assert result.rank_fallbacks[:2] == (None, "off")
        assert result.rank_fallbacks[4] == "too_many"
        assert result.counts.tolist() == [5, 5, 0, 0, 30, 0]
        for place, match in ((2, "is missing"), (3, "has 2 numbers, the ranker reads 1"), (5, "not at least 1")):
            assert isinstance(result.errors[place], InvalidArgument)
            assert match in result.errors[place].message
        assert "params[2].query_features[bias]" in result.errors[2].message
        assert [one.ranked for one in result.explanations] == [True, False, False, False, False, False]
        with pytest.raises(InvalidArgument, match=r"params.query_features\[bias\]: is missing"):
            client.search("points", QUERY)


def test_a_ranker_that_is_late_leaves_the_fused_order_within_its_share_of_the_deadline(tmp_path: Path) -> None:
    with filled(tmp_path / "data") as (running, client):
        fused = ids(client, k=5)
        stage = pipeline(rankers.linear(tmp_path / "m.onnx", WEIGHTS), deadline_share=0.01)
        client.set_pipeline("points", stage)
        gate = threading.Event()
        running.server.engine.lanes.rank.post(lambda: gate.wait(20))
        result = client.search("points", QUERY, params=SearchParams(k=5), timeout_s=15.0)
        gate.set()
        assert [hit.id for hit in result.hits] == fused
        assert (result.explanation.ranked, result.explanation.rank_fallback) == (False, "late")
        assert ids(client, k=5) == expected(20, 5)
        sample = running.server.metrics.registry.get_sample_value
        assert sample("ebr_rank_fallbacks_total", {"collection": "points", "reason": "late"}) == 1


def test_a_run_of_a_ranker_that_hangs_is_ended_and_counted_and_the_next_call_is_ranked(tmp_path: Path) -> None:
    with filled(tmp_path / "data") as (running, client):
        stage = pipeline(rankers.looping(tmp_path / "m.onnx"), (QueryInput("rounds", missing=(1.0,)),))
        client.set_pipeline("points", replace(stage, rank=replace(stage.rank, deadline_share=0.1)))
        endless = SearchParams(k=5, query_features={"rounds": (1e15,)})
        late = client.search("points", QUERY, params=endless, timeout_s=20.0)
        assert late.explanation.rank_fallback == "late"
        assert [hit.score for hit in client.search("points", QUERY, params=SearchParams(k=5)).hits] == [2.0] * 5
        assert running.server.metrics.registry.get_sample_value("ebr_rank_failed_batches") == 1


def test_a_ranker_that_fails_leaves_the_fused_order_and_the_next_call_is_ranked(tmp_path: Path) -> None:
    inputs = (QueryInput("place", missing=(0.0,)),)
    with filled(tmp_path / "data") as (_, client):
        fused = ids(client, k=5)
        client.set_pipeline("points", pipeline(rankers.lookup(tmp_path / "m.onnx", [1, 2]), inputs))
        failed = client.search("points", QUERY, params=SearchParams(k=5, query_features={"place": (9.0,)}))
        assert [hit.id for hit in failed.hits] == fused
        assert failed.explanation.rank_fallback == "failed"
        again = client.search("points", QUERY, params=SearchParams(k=5, query_features={"place": (1.0,)}))
        assert again.explanation.ranked
        assert [hit.score for hit in again.hits] == [2.0] * 5


def test_a_score_that_is_no_number_leaves_its_query_alone_in_the_fused_order(tmp_path: Path) -> None:
    inputs = (QueryInput("x"),)
    with filled(tmp_path / "data") as (_, client):
        client.set_pipeline("points", pipeline(rankers.logarithm(tmp_path / "m.onnx"), inputs))
        asked = [SearchParams(k=3, query_features={"x": (x,)}) for x in (-1.0, 1.0)]
        result = client.search_batch("points", np.stack([QUERY, QUERY]), params=asked)
        assert result.rank_fallbacks == ("failed", None)
        assert result.rows(0)[0].tolist() == result.rows(1)[0].tolist()
        assert result.rows(1)[1].tolist() == [0.0] * 3
        assert result.rows(0)[1].tolist() == sorted(result.rows(0)[1], reverse=True) != [0.0] * 3


def test_a_pipeline_survives_a_restart_and_is_removed_for_good(tmp_path: Path) -> None:
    model = rankers.linear(tmp_path / "m.onnx", WEIGHTS)
    with filled(tmp_path / "data") as (_, client):
        known = client.set_pipeline("points", pipeline(model))
        fused = ids(client, k=5, rank=False)
    model.unlink()
    with serving(tmp_path / "data") as again, a_client(again) as client:
        told = client.get_collection("points").schema.pipeline
        assert told == known
        assert ids(client, k=5) == expected(20, 5)
        client.remove_pipeline("points")
        assert ids(client, k=5) == fused
        with pytest.raises(NoPipeline):
            client.remove_pipeline("points")
        with pytest.raises(NoPipeline):
            client.search("points", QUERY, params=SearchParams(rank=True))
        one, other = client.search_batch(
            "points", np.stack([QUERY] * 2), params=[SearchParams(rank=True), SearchParams(k=5)]
        ).errors
        assert isinstance(one, NoPipeline)
        assert other is None
    with serving(tmp_path / "data") as again, a_client(again) as client:
        assert client.get_collection("points").schema.pipeline is None
        assert list((tmp_path / "data" / "collections" / "points" / "rankers").glob("*")) == []


def test_a_ranker_that_is_damaged_keeps_nothing_from_being_served(tmp_path: Path) -> None:
    with filled(tmp_path / "data") as (_, client):
        client.set_pipeline("points", pipeline(rankers.linear(tmp_path / "m.onnx", WEIGHTS)))
        fused = ids(client, k=5, rank=False)
    (kept,) = (tmp_path / "data" / "collections" / "points" / "rankers").glob("*/model.onnx")
    rankers.linear(kept, (9.0,) * 6)
    with serving(tmp_path / "data") as again, a_client(again) as client:
        assert "has sha256" in client.get_collection("points").message.schema.pipeline.error
        result = client.search("points", QUERY, params=SearchParams(k=5))
        assert [hit.id for hit in result.hits] == fused
        assert result.explanation.rank_fallback == "failed"
        client.set_pipeline("points", pipeline(rankers.linear(tmp_path / "m.onnx", WEIGHTS)))
        assert ids(client, k=5) == expected(20, 5)


def test_a_snapshot_brings_its_ranker(tmp_path: Path) -> None:
    model = rankers.linear(tmp_path / "m.onnx", WEIGHTS)
    with filled(tmp_path / "data") as (_, client):
        client.set_pipeline("points", pipeline(model))
        done = client.wait_for_operation(client.create_snapshot("points"))
        assert done.snapshot is not None
        client.set_pipeline("points", pipeline(rankers.linear(tmp_path / "other.onnx", (0, 1, 0, 0, 0, 0))))
        model.unlink()
        client.wait_for_operation(client.restore_snapshot("points", done.snapshot.id, into="again"))
        hits = client.search("again", QUERY, params=SearchParams(k=5)).hits
        assert [hit.id for hit in hits] == expected(20, 5)
        assert ids(client, k=5) != expected(20, 5)


def test_a_collection_may_be_created_with_its_pipeline(tmp_path: Path) -> None:
    model = rankers.linear(tmp_path / "m" / "model.onnx", WEIGHTS)
    with serving(tmp_path / "data") as running, a_client(running) as client:
        with pytest.raises(InvalidArgument, match="not \\[n, 6\\]"):
            client.create_collection(
                replace(SCHEMA, pipeline=pipeline(rankers.linear(tmp_path / "other.onnx", [1.0] * 7)))
            )
        info = client.create_collection(replace(SCHEMA, pipeline=pipeline(model.parent)))
        assert info.schema.pipeline is not None
        assert info.schema.pipeline.ranker_version
        client.upsert("points", items(), visibility=Visibility.SEARCHABLE)
        assert ids(client, k=5) == expected(20, 5)


def test_what_does_not_fit_is_refused_and_the_pipeline_before_stays(tmp_path: Path) -> None:
    with filled(tmp_path / "data") as (_, client):
        known = client.set_pipeline("points", pipeline(rankers.linear(tmp_path / "m.onnx", WEIGHTS)))
        two = rankers.linear(tmp_path / "two.onnx", [1.0, 2.0])
        with pytest.raises(InvalidArgument, match=r"pipeline.rank.model: .*not \[n, 6\]"):
            client.set_pipeline("points", pipeline(two))
        with pytest.raises(InvalidArgument, match="cannot be read"):
            client.set_pipeline("points", pipeline(tmp_path / "none.onnx"))
        with pytest.raises(UnknownAttribute):
            client.set_pipeline("points", pipeline(two, (NumberInput("pay"), LegInput("similarity"))))
        assert client.get_collection("points").schema.pipeline == known


def test_groups_are_of_the_candidates_and_diversity_is_not_ranked(tmp_path: Path) -> None:
    with filled(tmp_path / "data") as (_, client):
        client.set_pipeline("points", pipeline(rankers.linear(tmp_path / "m.onnx", WEIGHTS)))
        nearest = expected(N, N)
        hits = client.search("points", QUERY, params=SearchParams(k=2, group_by=GroupBy("group"))).hits
        assert [hit.id for hit in hits] == sorted([12, 11], key=nearest.index)
        told = client.search("points", QUERY, params=SearchParams(k=5, diversity=Diversity(0.5))).explanation
        assert (told.ranked, told.rank_fallback) == (False, "off")
        with pytest.raises(InvalidArgument, match="rank: is on beside diversity"):
            client.search("points", QUERY, params=SearchParams(k=5, rank=True, diversity=Diversity(0.5)))
        paged = client.search("points", QUERY, params=SearchParams(k=5, page=True))
        assert paged.explanation.rank_fallback == "off"
        assert paged.next_page is not None
        assert len(client.search("points", QUERY, params=SearchParams(cursor=paged.next_page.cursor)).hits) > 0
        with pytest.raises(InvalidArgument, match="rank: is on beside page or cursor"):
            client.search("points", QUERY, params=SearchParams(k=5, rank=True, page=True))
