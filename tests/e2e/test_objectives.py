"""Several objectives a query over a real channel: the answers are those of asking by each alone, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.client import BatchResult, RetrievalClient
from engine.errors import EngineError, InvalidArgument, LimitExceeded, NoAnalyser, NoPipeline
from engine.ranking import LegInput, NumberInput, Pipeline, RankStage
from engine.scoring import Decay, Feature, Overlap, Scoring
from engine.selection import Diversity, Facet, GroupBy, RankFusion
from engine.types import (
    Examples,
    Filter,
    Float32Array,
    Item,
    Match,
    Range,
    SearchParams,
    Strategy,
    Timestamp,
    Visibility,
)
from tests import rankers
from tests.e2e import test_named_embeddings, test_upkeep
from tests.e2e.serving import Serving, a_client, serving, vector_schema
from tests.e2e.test_scoring import SCHEMA

SEEN = Visibility.SEARCHABLE
WORDS = ("nurse", "night", "care", "cook", "food", "watch", "door", "patient", "data", "engine")
SKILLS = ("care", "shift", "code", "drive")
TEXTS = ["night nurse", "cook of food", "data engine"]
YEAR_S = 3e7
OBJECTIVES = [
    Scoring(),
    Scoring(terms=(Feature("clicks", 0.02, "log1p"), Feature("price", -0.1))),
    Scoring(terms=(Feature("clicks", 0.05, "log1p"), Feature("price", 0.2))),
    Scoring("popular", weights={"fame": 0.125}),
    Scoring(lexical=0.5, terms=(Overlap("skills", ("care", "code"), 0.3),)),
    Scoring(similarity=0.0, terms=(Decay("posted", 100 * YEAR_S),)),
]


def item(n: int, random: np.random.Generator) -> Item:
    text = {"title": " ".join(random.choice(WORDS, 2)), "body": " ".join(random.choice(WORDS, 6))}
    attributes: dict[str, Any] = {
        "clicks": int(random.integers(1000)),
        "price": float(random.integers(10)),
        "posted": Timestamp(1_000_000_000_000_000 + n * 10**12),
        "skills": tuple(random.choice(SKILLS, 2, replace=False)),
    }
    return Item(f"i{n}", text, {name: value for name, value in attributes.items() if random.random() < 0.8})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    random = np.random.default_rng(0)
    with serving(tmp_path_factory.mktemp("objectives")) as running, a_client(running) as own:
        own.create_collection(SCHEMA)
        assert own.upsert("things", [item(n, random) for n in range(80)], visibility=SEEN).errors == ()
        own.create_collection(vector_schema())
        points = [Item(n, {}, {"rank": n % 7}, np.array([n, 0, 0, 0], np.float32)) for n in range(20)]
        own.upsert("points", points, visibility=SEEN)
        yield running


@pytest.fixture
def client(server: Serving) -> Iterator[RetrievalClient]:
    with a_client(server) as connected:
        yield connected


def legs_of(result: BatchResult, place: int) -> dict[str, tuple[bytes, bytes, float]]:
    """Those that one query has, as they came."""
    end = int(result.counts[: place + 1].sum())
    hits = slice(end - int(result.counts[place]), end)
    told = {leg.name: (leg.raw[hits], leg.normalised[hits], float(leg.weights[place])) for leg in result.legs}
    return {
        name: (raw.tobytes(), normalised.tobytes(), weight)
        for name, (raw, normalised, weight) in told.items()
        if weight or raw.any() or normalised.any()
    }


def by_each_alone(
    client: RetrievalClient,
    collection: str,
    queries: Any,
    params: SearchParams | Sequence[SearchParams],
    objectives: Sequence[Scoring],
) -> list[BatchResult]:
    listed = [params] if isinstance(params, SearchParams) else params
    return [
        client.search_batch(collection, queries, params=[replace(p, scoring=one) for p in listed], explain=True)
        for one in objectives
    ]


def assert_same(result: BatchResult, alone: Sequence[BatchResult], n_queries: int) -> None:
    assert result.n_objectives == len(alone)
    assert len(result.counts) == len(result.explanations) == n_queries * len(alone)
    for query in range(n_queries):
        for objective, own in enumerate(alone):
            place = query * len(alone) + objective
            ids, scores = result.rows(query, objective)
            own_ids, own_scores = own.rows(query)
            assert list(ids) == list(own_ids)
            assert scores.tobytes() == own_scores.tobytes()
            assert len(ids) > 0
            assert legs_of(result, place) == legs_of(own, query)
            assert result.explanations[place].strategy is own.explanations[query].strategy
            assert result.explanations[place].profile == own.explanations[query].profile
            if own.facets:
                assert result.facets[place] == own.facets[query]


@pytest.mark.parametrize(
    "params",
    [
        SearchParams(k=7, legs=True),
        SearchParams(k=7, legs=True, exact=True, filter=Filter(must=(Range("price", lt=6),)), exclude_ids=("i3", "i9")),
        SearchParams(k=5, mode="hybrid", legs=True, facets=(Facet("skills", 3),)),
        SearchParams(k=5, mode="lexical", terms="nurse food data", min_score=0.05),
        SearchParams(k=4, diversity=Diversity(0.5)),
        [
            SearchParams(k=3, legs=True),
            SearchParams(k=5, filter=Filter(must=(Match("skills", any_of=("care",)),))),
            SearchParams(k=4, mode="dense", legs=True),
        ],
    ],
)
def test_the_answers_are_those_of_asking_by_each_objective_alone(client: RetrievalClient, params: Any) -> None:
    alone = by_each_alone(client, "things", TEXTS, params, OBJECTIVES)
    result = client.search_batch("things", TEXTS, params=params, objectives=OBJECTIVES, explain=True)
    assert_same(result, alone, len(TEXTS))
    assert {one.batch_size for one in result.explanations} == {len(TEXTS) * len(OBJECTIVES)}
    with pytest.raises(IndexError, match="objective 6 of 6"):
        result.rows(0, len(OBJECTIVES))


def test_groups_are_those_of_each_objective(client: RetrievalClient) -> None:
    objectives = [Scoring(), Scoring(terms=(Feature("rank", 2.0),)), Scoring(terms=(Feature("rank", -30.0),))]
    queries = np.eye(2, 4, dtype=np.float32) * 5
    params = SearchParams(k=4, group_by=GroupBy("rank"), legs=True)
    result = client.search_batch("points", queries, params=params, objectives=objectives, explain=True)
    assert_same(result, by_each_alone(client, "points", queries, params, objectives), 2)


def test_neighbours_and_examples_are_found_by_each_objective(client: RetrievalClient) -> None:
    objectives = OBJECTIVES[:3]
    examples = [Examples(("i1", "i2"), ("i3",)), Examples(("i4",))]
    params = SearchParams(k=6, legs=True)
    result = client.search_batch("things", examples, params=params, objectives=objectives, explain=True)
    assert_same(result, by_each_alone(client, "things", examples, params, objectives), 2)
    near = client.search_similar_batch("things", ["i4", "none"], params=params, objectives=objectives)
    for objective, scoring in enumerate(objectives):
        own = SearchParams(k=6, legs=True, scoring=scoring)
        alone = client.search_similar_batch("things", ["i4"], params=own)
        assert near.rows(0, objective)[0] == alone.rows(0)[0]
        assert near.rows(0, objective)[1].tobytes() == alone.rows(0)[1].tobytes()
        with pytest.raises(EngineError, match="'none'"):
            near.rows(1, objective)


def test_each_text_is_encoded_once(server: Serving, client: RetrievalClient) -> None:
    server.encoder.encoded.clear()
    texts = [*TEXTS, " ".join(["word"] * (server.encoder.max_tokens + 3))]
    result = client.search_batch("things", texts, objectives=OBJECTIVES, explain=True)
    assert sum(server.encoder.encoded) == len(texts)
    assert [one.truncated_tokens for one in result.explanations] == [0] * 18 + [3] * 6


def test_a_stream_of_batches_is_answered_by_each_objective(client: RetrievalClient) -> None:
    (streamed,) = client.search_stream("things", [TEXTS], objectives=OBJECTIVES)
    batch = client.search_batch("things", TEXTS, objectives=OBJECTIVES)
    assert isinstance(streamed, BatchResult)
    assert (streamed.ids, streamed.scores.tobytes()) == (batch.ids, batch.scores.tobytes())


def test_a_query_that_is_wrong_fails_by_all_objectives_and_alone(client: RetrievalClient) -> None:
    params = [SearchParams(), SearchParams(), SearchParams(k=0), SearchParams(scoring=Scoring())]
    result = client.search_batch("things", ["cook", " ", "cook", "cook"], params=params, objectives=OBJECTIVES[:2])
    assert len(result.rows(0, 1)[0]) == 10
    for query, told in ((1, "query[1].text"), (2, "params[2].k"), (3, "params[3].scoring")):
        for objective in range(2):
            with pytest.raises(InvalidArgument) as caught:
                result.rows(query, objective)
            assert caught.value.message.startswith(f"{told}: ")


def test_vectors_that_no_search_can_answer_are_named_as_they_were_given(client: RetrievalClient) -> None:
    vectors = np.array([[1, 0, 0, 0], [np.nan, 0, 0, 0]], np.float32)
    result = client.search_batch("points", vectors, objectives=[Scoring(), Scoring(similarity=2.0)])
    assert [one is None for one in result.errors] == [True, True, False, False]
    assert all(one is None or one.message.startswith("query[1].vector: ") for one in result.errors)


@pytest.mark.parametrize(
    ("asked", "error", "told"),
    [
        ({"params": SearchParams(scoring=Scoring())}, InvalidArgument, r"params\.scoring: is given beside objectives"),
        ({"params": SearchParams(rank_fusion=RankFusion())}, InvalidArgument, r"params\.rank_fusion: is given beside"),
        ({"params": SearchParams(page=True)}, InvalidArgument, r"params\.page: is given beside objectives"),
        ({"params": SearchParams(cursor=b"c")}, InvalidArgument, r"params\.cursor: is given beside objectives"),
        ({"params": SearchParams(k=0)}, InvalidArgument, r"params\.k: 0 is not at least 1"),
        ({"params": SearchParams(rank=True)}, NoPipeline, "no pipeline"),
        (
            {"objectives": [Scoring(), Scoring("void")]},
            InvalidArgument,
            r"objectives\[1\]\.profile: the collection has",
        ),
        (
            {"objectives": [Scoring(terms=(Feature("clicks", low=2.0, high=1.0),))]},
            InvalidArgument,
            r"objectives\[0\]\.terms\[0\]\.low: 2\.0 is above high",
        ),
        (
            {"objectives": [Scoring()] * 1366},
            LimitExceeded,
            r"objectives: 4098 is beyond the limit of 4096 queries a call \(queries x objectives\)",
        ),
        (
            {"params": SearchParams(k=100_000), "objectives": [Scoring()] * 14},
            LimitExceeded,
            r"params\.k: 4200000 is beyond the limit of 4000000 hits a reply",
        ),
    ],
)
def test_what_cannot_be_asked_by_objectives_is_refused(
    client: RetrievalClient, asked: Mapping[str, Any], error: type[EngineError], told: str
) -> None:
    with pytest.raises(error, match=told):
        client.search_batch("things", TEXTS, **{"objectives": [Scoring()], **asked})


def test_terms_of_a_collection_without_an_analyser_are_refused(client: RetrievalClient) -> None:
    with pytest.raises(NoAnalyser):
        client.search_batch("points", np.eye(2, 4, dtype=np.float32), objectives=[Scoring(), Scoring(lexical=1.0)])


def test_inverted_lists_answer_by_each_objective_as_alone(tmp_path: Path) -> None:
    rows, params = test_upkeep.ROWS, SearchParams(k=10, strategy=Strategy.IVFPQ, legs=True)
    objectives = [
        Scoring(),
        Scoring(similarity=0.5),
        Scoring(terms=(Feature("rank", 1e-3),)),
        Scoring(terms=(Feature("rank", -1e-3),)),
    ]
    queries: Float32Array = test_upkeep.VECTORS[:4] + np.float32(0.01)
    with serving(tmp_path, min_rows_to_train=rows) as running, a_client(running) as client:
        client.create_collection(vector_schema(dimension=test_upkeep.D))
        test_upkeep.load(client)
        test_upkeep.trained(client)
        for one in (params, SearchParams(k=10, strategy=Strategy.EXACT_SCAN, legs=True)):
            alone = by_each_alone(client, "points", queries, one, objectives)
            result = client.search_batch("points", queries, params=one, objectives=objectives, explain=True)
            assert {told.strategy for told in result.explanations} == {one.strategy}
            assert_same(result, alone, 4)


def test_each_objective_has_candidates_and_legs_of_its_own_ranked(own_server: Serving, tmp_path: Path) -> None:
    model = rankers.linear(tmp_path / "m.onnx", (1.0, 3.0, -0.5))
    inputs = (LegInput("fused"), LegInput("rank", missing=2.0), NumberInput("rank", name="number"))
    objectives = [Scoring(), Scoring(terms=(Feature("rank", 2.0),)), Scoring(similarity=0.1)]
    queries = np.eye(2, 4, dtype=np.float32) * 5
    with a_client(own_server) as client:
        client.create_collection(vector_schema())
        points = [Item(n, {}, {"rank": n * n % 13}, np.array([n, n % 3, 0, 0], np.float32)) for n in range(40)]
        client.upsert("points", points, visibility=SEEN)
        client.set_pipeline("points", Pipeline(12, RankStage(str(model), inputs)))
        for params in (SearchParams(k=4, legs=True), [SearchParams(k=3), SearchParams(k=5, rank=False)]):
            result = client.search_batch("points", queries, params=params, objectives=objectives, explain=True)
            alone = by_each_alone(client, "points", queries, params, objectives)
            assert_same(result, alone, 2)
            fallbacks = [own.rank_fallbacks[query] for query in range(2) for own in alone]
            assert list(result.rank_fallbacks) == fallbacks


def test_named_embeddings_are_weighed_and_encoded_once_whatever_the_objective(own_server: Serving) -> None:
    queries: dict[str, Float32Array | Sequence[str]] = {
        "title": ["red apple", "blue sky"],
        "all": ["red apple", "garden"],
        "image": np.array([[1, 0, 0, 0], [0, 1, 0, 0]], np.float32),
    }
    objectives = [Scoring(), Scoring(similarity=2.0, terms=(Feature("price", 0.25),))]
    params = [SearchParams(k=3, legs=True, embedding_weights={"image": 0.5}), SearchParams(k=3, legs=True)]
    with a_client(own_server) as client:
        client.create_collection(test_named_embeddings.SCHEMA)
        assert client.upsert("things", test_named_embeddings.ITEMS, visibility=SEEN).errors == ()
        own_server.encoder.encoded.clear()
        result = client.search_batch("things", queries, params=params, objectives=objectives, explain=True)
        assert sum(own_server.encoder.encoded) == 3, "of the first query both texts are the same"
        assert_same(result, by_each_alone(client, "things", queries, params, objectives), 2)
        told = "has 1 queries where another has 2|has 2 queries where another has 1"
        with pytest.raises(InvalidArgument, match=told):
            client.search_batch("things", {**queries, "all": ["garden"]}, objectives=objectives)
